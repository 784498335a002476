/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <uthash.h>

#include "base/io.h"

/* A file changed within this time before it was read may change again without its times showing it. */
#define RACY_NS 100000000ull

struct file;

/* One resource of one file; in `owned`, one that is in force. */
struct entry {
	UT_hash_handle hh;
	char *key; /* "kind namespace name" */
	enum weft_kind kind;
	char *namespace;
	char *name;
	unsigned int line;
	bool last_good; /* the file does not give it any more, but by mistake */
	struct weft_resource *resource; /* until the model takes it */
	const struct file *file; /* of an owned one: whose it is, NULL while that is not settled */
	unsigned int scan; /* of an owned one: when it was last claimed */
};

struct signature {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime;
	struct timespec ctime;
};

struct file {
	char *name;
	struct signature signature;
	bool settled; /* the signature may be trusted */
	uint64_t due_ns; /* CLOCK_REALTIME: when its text is to be taken as it is; 0: it was */
	struct entry *entries; /* uthash by key, in the file's order */
	struct weft_problems problems;
};

struct weft_source {
	struct file **file; /* sorted by name */
	size_t count;
	struct entry *owned; /* uthash by key */
	unsigned int scan;
	uint64_t settle_ns;
	struct weft_problems shared; /* what only all files together show */
};

static void entry_free(struct entry *entry)
{
	if (!entry)
		return;
	weft_resource_free(entry->resource);
	free(entry->key);
	free(entry->namespace);
	free(entry->name);
	free(entry);
}

static void entries_free(struct entry **entries)
{
	struct entry *entry, *next;

	HASH_ITER(hh, *entries, entry, next) {
		HASH_DELETE(hh, *entries, entry);
		entry_free(entry);
	}
}

static struct file *file_free(struct file *file)
{
	if (!file)
		return NULL;
	entries_free(&file->entries);
	weft_problems_done(&file->problems);
	free(file->name);
	free(file);
	return NULL;
}

struct weft_source *weft_source_new(unsigned int settle_ms)
{
	struct weft_source *source = calloc(1, sizeof(*source));

	if (source)
		source->settle_ns = settle_ms * 1000000ull;
	return source;
}

struct weft_source *weft_source_free(struct weft_source *source)
{
	if (!source)
		return NULL;
	for (size_t i = 0; i < source->count; i++)
		file_free(source->file[i]);
	free(source->file);
	entries_free(&source->owned);
	weft_problems_done(&source->shared);
	free(source);
	return NULL;
}

static struct entry *lookup(struct entry *entries, const char *key)
{
	struct entry *found;

	HASH_FIND_STR(entries, key, found);
	return found;
}

/* Adds an entry of that identity, or finds the one that is there. NULL: out of memory. */
static struct entry *intern(struct entry **entries, enum weft_kind kind, const char *namespace, const char *name, bool *ret_new)
{
	struct entry *entry, *twin;
	char *key;

	if (asprintf(&key, "%d %s %s", (int)kind, namespace, name) < 0)
		return NULL;
	twin = lookup(*entries, key);
	if (twin) {
		free(key);
		*ret_new = false;
		return twin;
	}
	entry = calloc(1, sizeof(*entry));
	if (!entry) {
		free(key);
		return NULL;
	}
	entry->key = key;
	entry->kind = kind;
	entry->namespace = strdup(namespace);
	entry->name = strdup(name);
	if (!entry->namespace || !entry->name) {
		entry_free(entry);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, *entries, entry->key, strlen(entry->key), entry);
	*ret_new = true;
	return entry;
}

static bool wanted(const char *name)
{
	const char *dot = strrchr(name, '.');

	return name[0] != '.' && dot && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 || strcmp(dot, ".json") == 0);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char **name;
	size_t count;
	size_t room;
};

static void names_done(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->name[i]);
	free(names->name);
}

static int list(int dir, struct names *names)
{
	weft_close_on_exit int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* an offset of its own */
	weft_closedir_on_exit DIR *stream = again < 0 ? NULL : fdopendir(again);
	struct dirent *entry;

	if (!stream)
		return -errno;
	again = -1; /* the stream's now */
	for (;;) {
		errno = 0;
		entry = readdir(stream);
		if (!entry)
			break;
		if (!wanted(entry->d_name))
			continue;
		if (names->count == WEFT_SOURCE_MAX_FILES)
			return -E2BIG;
		if (weft_grow(&names->name, &names->room, names->count + 1, sizeof(*names->name)) < 0)
			return -ENOMEM;
		names->name[names->count] = strdup(entry->d_name);
		if (!names->name[names->count])
			return -ENOMEM;
		names->count++;
	}
	if (errno)
		return -errno;
	if (names->count)
		qsort(names->name, names->count, sizeof(*names->name), compare_names);
	return 0;
}

static int open_beneath(int dir, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	long fd = -1;

	/* -EAGAIN: something was renamed meanwhile and the kernel cannot be sure; that is over soon. */
	for (int i = 0; i < 16; i++) {
		fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

static bool same_signature(const struct signature *a, const struct signature *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec &&
	       a->mtime.tv_nsec == b->mtime.tv_nsec && a->ctime.tv_sec == b->ctime.tv_sec && a->ctime.tv_nsec == b->ctime.tv_nsec;
}

static int64_t ns_of(const struct timespec *time)
{
	return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ns_of(&now);
}

static bool is_settled(const struct signature *signature)
{
	return now_ns() - ns_of(&signature->ctime) > (int64_t)RACY_NS;
}

/* When its text is to be taken as it is; 0: now. A time of writing that is still to come was not made by writing. */
static uint64_t due_ns(const struct weft_source *source, const struct signature *signature)
{
	int64_t now = now_ns(), written = ns_of(&signature->mtime);

	if (written > now)
		written = ns_of(&signature->ctime);
	if (written > now)
		written = now;
	return now - written >= (int64_t)source->settle_ns ? 0 : (uint64_t)written + source->settle_ns;
}

/* The same file again, and not by a doubtful clock. */
static bool unchanged(const struct file *file, const struct stat *st, struct signature *ret_signature)
{
	*ret_signature = (struct signature){ st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim };
	return file->settled && same_signature(&file->signature, ret_signature);
}

static int add_shared_problem(struct weft_problems *problems, const struct file *file, const struct entry *entry,
			      unsigned int line, const char *other, unsigned int other_line)
{
	char who[700];

	snprintf(who, sizeof(who), "%s %s%s%s", weft_kind_name(entry->kind), entry->namespace, *entry->namespace ? "/" : "", entry->name);
	return weft_problems_add(problems, WEFT_SEVERITY_ERROR, file->name, line, who, NULL,
				 "is in %s already, line %u: that one is in force and this one is not used, remove one of them", other,
				 other_line);
}

/* What the file says now, and what it said before and lost only by a mistake. */
static int collect(struct weft_source *source, struct file *file, struct weft_conf_file *conf, struct entry **fresh)
{
	struct entry *old, *next, *entry;
	bool is_new;

	for (size_t i = 0; i < conf->resource_count; i++) {
		struct weft_resource *resource = conf->resource[i];

		if (!resource)
			continue;
		entry = intern(fresh, resource->kind, resource->meta.namespace, resource->meta.name, &is_new);
		if (!entry)
			return -ENOMEM;
		if (!is_new) {
			if (add_shared_problem(&file->problems, file, entry, resource->line, "this file", entry->line) < 0)
				return -ENOMEM;
			continue;
		}
		entry->line = resource->line;
		entry->resource = weft_take_ptr(conf->resource[i]);
	}
	for (size_t i = 0; i < conf->refused_count; i++) {
		const struct weft_identity *identity = &conf->refused[i];
		struct entry *owner;

		entry = intern(fresh, identity->kind, identity->namespace, identity->name, &is_new);
		if (!entry)
			return -ENOMEM;
		if (!is_new)
			continue;
		owner = lookup(source->owned, entry->key);
		if (!owner) {
			HASH_DELETE(hh, *fresh, entry);
			entry_free(entry);
			continue;
		}
		entry->line = owner->line;
		entry->last_good = true;
	}
	if (!conf->torn)
		return 0;
	HASH_ITER(hh, file->entries, old, next) {
		const struct entry *owner = lookup(source->owned, old->key);

		if (!owner || owner->file != file)
			continue;
		entry = intern(fresh, old->kind, old->namespace, old->name, &is_new);
		if (!entry)
			return -ENOMEM;
		if (!is_new)
			continue;
		entry->line = old->line;
		entry->last_good = true;
	}
	return 0;
}

/* A file that cannot be read is one that lost everything by a mistake. */
static int read_file(struct file *file, int fd, struct weft_buf *text)
{
	int r = fd < 0 ? fd : weft_read_all(fd, WEFT_CONF_MAX_FILE, text);

	if (r == -EFBIG)
		return weft_problems_add(&file->problems, WEFT_SEVERITY_ERROR, file->name, 0, NULL, NULL,
					 "is larger than %u MiB: split it; what was in force of it stays", WEFT_CONF_MAX_FILE >> 20) < 0
			       ? -ENOMEM
			       : -EFBIG;
	if (r == -EXDEV || r == -ELOOP)
		return weft_problems_add(&file->problems, WEFT_SEVERITY_ERROR, file->name, 0, NULL, NULL,
					 "is a symbolic link out of this directory: copy the file here; what was in force of it stays") < 0
			       ? -ENOMEM
			       : r;
	if (r < 0 && r != -ENOMEM) {
		errno = -r;
		return weft_problems_add(&file->problems, WEFT_SEVERITY_ERROR, file->name, 0, NULL, NULL,
					 "cannot be read: %m; what was in force of it stays") < 0
			       ? -ENOMEM
			       : r;
	}
	return r;
}

/* 0 also for a file with mistakes; -ENOENT: it is no file of ours, or gone since it was listed; -ENOMEM. */
static int load(struct weft_source *source, int dir, struct file *file)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	weft_cleanup(weft_conf_file_done) struct weft_conf_file conf = { 0 };
	weft_close_on_exit int fd = open_beneath(dir, file->name);
	struct signature signature = { 0 };
	struct entry *fresh = NULL;
	struct stat st;
	int r;

	if (fd == -ENOENT || (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))))
		return -ENOENT;
	if (fd >= 0 && unchanged(file, &st, &signature) && !(file->due_ns && !due_ns(source, &signature)))
		return 0;
	file->settled = fd >= 0 && is_settled(&signature);
	file->signature = signature;
	file->due_ns = due_ns(source, &signature);
	weft_problems_done(&file->problems);
	r = read_file(file, fd, &text);
	if (r == 0)
		r = weft_conf_parse(file->name, text.data ? text.data : "", text.size, !file->due_ns, &conf, &file->problems);
	else if (r != -ENOMEM) {
		conf.torn = true;
		r = 0;
	}
	if (text.size && text.data[text.size - 1] == '\n')
		file->due_ns = 0; /* time makes no difference to it */
	if (r == 0)
		r = collect(source, file, &conf, &fresh);
	if (r < 0) {
		file->settled = false;
		entries_free(&fresh);
		return r;
	}
	entries_free(&file->entries);
	file->entries = fresh;
	return 0;
}

/* What it has in force stays until the owners are settled, but is nobody's. */
static void forget(struct weft_source *source, struct file *file)
{
	struct entry *entry, *next;

	HASH_ITER(hh, file->entries, entry, next) {
		struct entry *owner = lookup(source->owned, entry->key);

		if (owner && owner->file == file)
			owner->file = NULL;
	}
	file_free(file);
}

/* Brings source->file to the names that are there, loading what changed. */
static int load_all(struct weft_source *source, int dir, const struct names *names)
{
	struct file **files = calloc(names->count + 1, sizeof(*files));
	size_t count = 0, at = 0;
	int result = 0;

	if (!files)
		return -ENOMEM;
	for (size_t i = 0; i < names->count; i++) {
		struct file *file;
		int r;

		while (at < source->count && strcmp(source->file[at]->name, names->name[i]) < 0)
			forget(source, source->file[at++]);
		if (at < source->count && strcmp(source->file[at]->name, names->name[i]) == 0) {
			file = source->file[at++];
		} else {
			file = calloc(1, sizeof(*file));
			if (file)
				file->name = strdup(names->name[i]);
			if (!file || !file->name) {
				file_free(file);
				result = -ENOMEM;
				continue;
			}
		}
		r = load(source, dir, file);
		if (r == -ENOENT) {
			forget(source, file);
			continue;
		}
		if (r < 0)
			result = r;
		files[count++] = file;
	}
	while (at < source->count)
		forget(source, source->file[at++]);
	free(source->file);
	source->file = files;
	source->count = count;
	return result;
}

struct settling {
	struct weft_source *source;
	struct weft_model *model;
	size_t changed;
	bool again; /* a file must be read anew: its version was not kept while another file's was in force */
};

static int claim_new(struct settling *settling, struct file *file, struct entry *entry)
{
	struct entry *owner;
	bool is_new;
	int r;

	owner = intern(&settling->source->owned, entry->kind, entry->namespace, entry->name, &is_new);
	if (!owner)
		return -ENOMEM;
	r = weft_model_put(settling->model, weft_take_ptr(entry->resource));
	if (r < 0) {
		file->settled = false;
		return r;
	}
	owner->file = file;
	owner->line = entry->line;
	owner->last_good = false;
	owner->scan = settling->source->scan;
	settling->changed++;
	return 0;
}

static int claim(struct settling *settling, struct file *file, struct entry *entry)
{
	struct weft_source *source = settling->source;
	struct entry *owner = lookup(source->owned, entry->key);

	if (owner && owner->scan == source->scan && owner->file) {
		weft_resource_free(weft_take_ptr(entry->resource));
		return entry->last_good ? 0
					: add_shared_problem(&source->shared, file, entry, entry->line, owner->file->name, owner->line);
	}
	if (entry->resource)
		return claim_new(settling, file, entry);
	if (owner && owner->file == file) {
		owner->scan = source->scan;
		owner->last_good = entry->last_good;
		return 0;
	}
	if (entry->last_good)
		return 0; /* second round */
	file->settled = false;
	settling->again = true;
	if (owner) {
		/* Stays in force until then: no gap. */
		owner->scan = source->scan;
		owner->file = NULL;
	}
	return 0;
}

/* A refused document of a file that never had a good version holds on to what another file had, if nobody else gives it. */
static void claim_last_good(struct weft_source *source, struct file *file)
{
	struct entry *entry, *next;

	HASH_ITER(hh, file->entries, entry, next) {
		struct entry *owner = entry->last_good ? lookup(source->owned, entry->key) : NULL;

		if (!owner || owner->scan == source->scan)
			continue;
		owner->scan = source->scan;
		owner->file = file;
		owner->last_good = true;
	}
}

static int settle(struct settling *settling)
{
	struct weft_source *source = settling->source;
	struct entry *entry, *next;
	int r = 0;

	source->scan++;
	settling->again = false;
	weft_problems_done(&source->shared);
	for (size_t i = 0; i < source->count; i++)
		HASH_ITER(hh, source->file[i]->entries, entry, next) {
			r = claim(settling, source->file[i], entry);
			if (r < 0)
				return r;
		}
	for (size_t i = 0; i < source->count; i++)
		claim_last_good(source, source->file[i]);
	HASH_ITER(hh, source->owned, entry, next) {
		if (entry->scan == source->scan)
			continue;
		weft_model_remove(settling->model, entry->kind, entry->namespace, entry->name);
		settling->changed++;
		HASH_DELETE(hh, source->owned, entry);
		entry_free(entry);
	}
	return 0;
}

int weft_source_scan(struct weft_source *source, int dir, struct weft_model *model, size_t *ret_changed)
{
	weft_cleanup(names_done) struct names names = { 0 };
	struct settling settling = { .source = source, .model = model };
	int r = dir < 0 ? -ENOENT : list(dir, &names);

	if (r < 0)
		return r;
	/* Once more if a shadowed version comes to light; it finds every file read, so that a third time has no cause. */
	for (int i = 0; i < 3; i++) {
		int loaded = load_all(source, dir, &names);

		r = settle(&settling);
		if (r == 0)
			r = loaded;
		if (r < 0 || !settling.again)
			break;
	}
	*ret_changed = settling.changed;
	return r;
}

int weft_source_due_ms(const struct weft_source *source)
{
	int64_t now = now_ns(), least = INT64_MAX;

	for (size_t i = 0; i < source->count; i++)
		if (source->file[i]->due_ns && (int64_t)source->file[i]->due_ns - now < least)
			least = (int64_t)source->file[i]->due_ns - now;
	return least == INT64_MAX ? -1 : least <= 0 ? 0 : (int)(least / 1000000) + 1;
}

void weft_source_problems(const struct weft_source *source, void (*each)(void *context, const struct weft_problem *problem),
			  void *context)
{
	for (size_t i = 0; i < source->count; i++)
		for (size_t j = 0; j < source->file[i]->problems.count; j++)
			each(context, &source->file[i]->problems.item[j]);
	for (size_t j = 0; j < source->shared.count; j++)
		each(context, &source->shared.item[j]);
}

void weft_source_entries(const struct weft_source *source, void (*each)(void *context, const struct weft_source_entry *entry),
			 void *context)
{
	struct entry *entry, *next;

	HASH_ITER(hh, source->owned, entry, next) {
		struct weft_source_entry one = {
			.kind = entry->kind,
			.namespace = entry->namespace,
			.name = entry->name,
			.file = entry->file ? entry->file->name : "",
			.line = entry->line,
			.last_good = entry->last_good,
		};

		each(context, &one);
	}
}

size_t weft_source_count(const struct weft_source *source)
{
	return HASH_COUNT(source->owned);
}
