/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "agent/last_good.h"
#include "base/io.h"
#include "base/table.h"

/* A file changed within this time before it was read may change again without its times showing it. */
#define RACY_NS 100000000ull
#define SAVE_AGAIN_MS 1000
/* Of text: what its reading takes is many times that, and most of it is free again in pieces between what is kept. */
#define TRIM_BYTES (1u << 20)

struct file;

/* One resource of one file; in `owned`, one that is in force; in `kept`, one that was when the process before this one ended. */
struct entry {
	struct weft_resource *resource; /* until the model takes it; of a kept one: until a file takes it */
	const struct file *file; /* of an owned one: whose it is, NULL while that is not settled */
	unsigned int line;
	unsigned int scan; /* of an owned one: when it was last claimed */
	uint8_t kind;
	bool last_good; /* the file does not give it any more, but by mistake */
	char namespace[]; /* and the name behind its NUL */
};

struct entries {
	struct entry **item;
	size_t count, room;
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
	struct entries entries; /* in the file's order */
	struct weft_problems problems;
};

struct weft_source {
	struct file **file; /* sorted by name */
	size_t count;
	struct weft_hash_table owned; /* entries by identity */
	struct weft_hash_table kept; /* likewise; empty once a scan was whole */
	int state; /* folder, of the caller; -1: nothing outlives the process */
	bool damaged; /* what was kept cannot be read, and no scan was whole yet */
	bool blind; /* and this scan found something that asks for it */
	bool whole; /* the last scan was */
	bool unsaved; /* the state folder does not have what is in force */
	unsigned int scan;
	size_t read; /* bytes, in this scan */
	uint64_t settle_ns;
	struct weft_problems shared; /* what only all files together show */
};

static struct entry *entry_free(struct entry *entry)
{
	if (entry)
		weft_resource_free(entry->resource);
	free(entry);
	return NULL;
}

static void entries_free(struct entries *entries)
{
	for (size_t i = 0; i < entries->count; i++)
		entry_free(entries->item[i]);
	free(entries->item);
	*entries = (struct entries){ 0 };
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

	if (source) {
		source->settle_ns = settle_ms * 1000000ull;
		source->state = -1;
	}
	return source;
}

static void entries_table_done(struct weft_hash_table *entries)
{
	struct entry *entry;

	for (size_t at = 0; (entry = weft_hash_table_next(entries, &at));)
		entry_free(entry);
	weft_hash_table_done(entries);
}

struct weft_source *weft_source_free(struct weft_source *source)
{
	if (!source)
		return NULL;
	for (size_t i = 0; i < source->count; i++)
		file_free(source->file[i]);
	free(source->file);
	entries_table_done(&source->owned);
	entries_table_done(&source->kept);
	weft_problems_done(&source->shared);
	free(source);
	return NULL;
}

static const char *name_of(const struct entry *entry)
{
	return entry->namespace + strlen(entry->namespace) + 1;
}

static uint32_t hash_identity(enum weft_kind kind, const char *namespace, const char *name)
{
	return weft_hash(name, strlen(name), weft_hash(namespace, strlen(namespace), kind));
}

static uint32_t hash_of(const void *item)
{
	const struct entry *entry = item;

	return hash_identity(entry->kind, entry->namespace, name_of(entry));
}

static bool has_identity(const void *item, const void *key)
{
	const struct weft_identity *identity = key;
	const struct entry *entry = item;

	return entry->kind == identity->kind && strcmp(entry->namespace, identity->namespace) == 0 &&
	       strcmp(name_of(entry), identity->name) == 0;
}

static struct entry *find(const struct weft_hash_table *entries, enum weft_kind kind, const char *namespace, const char *name)
{
	const struct weft_identity identity = { kind, (char *)namespace, (char *)name };

	return weft_hash_table_find(entries, hash_identity(kind, namespace, name), has_identity, &identity);
}

static struct entry *lookup(const struct weft_hash_table *entries, const struct entry *like)
{
	return find(entries, like->kind, like->namespace, name_of(like));
}

/* Adds an entry of that identity, or finds the one that is there. NULL: out of memory. */
static struct entry *intern(struct weft_hash_table *entries, enum weft_kind kind, const char *namespace, const char *name, bool *ret_new)
{
	size_t size = strlen(namespace) + 1, name_size = strlen(name) + 1;
	struct entry *entry = find(entries, kind, namespace, name);

	*ret_new = !entry;
	if (entry)
		return entry;
	entry = calloc(1, sizeof(*entry) + size + name_size);
	if (!entry)
		return NULL;
	entry->kind = (uint8_t)kind;
	memcpy(entry->namespace, namespace, size);
	memcpy(entry->namespace + size, name, name_size);
	return weft_hash_table_add(entries, entry, hash_of) == 0 ? entry : entry_free(entry);
}

static int keep(void *context, struct weft_resource *resource)
{
	struct weft_source *source = context;
	struct entry *entry;
	bool is_new;

	entry = intern(&source->kept, resource->kind, resource->meta.namespace, resource->meta.name, &is_new);
	if (!entry || !is_new) {
		weft_resource_free(resource);
		return entry ? -EBADMSG : -ENOMEM;
	}
	entry->line = resource->line;
	entry->resource = resource;
	return 0;
}

int weft_source_recall(struct weft_source *source, int state, struct weft_err *err)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	weft_close_on_exit int fd = openat(state, WEFT_LAST_GOOD_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int r;

	source->state = state;
	if (fd < 0 && errno == ENOENT)
		return 0;
	r = fd < 0 ? -errno : weft_read_all(fd, WEFT_LAST_GOOD_LIMIT, &text);
	if (r < 0 && r != -ENOMEM) {
		errno = -r;
		r = weft_err_set(err, EBADMSG, "it cannot be read: %m");
	} else if (r == 0) {
		r = weft_last_good_parse(text.size ? text.data : "", text.size, keep, source, err);
	}
	if (r == -ENOMEM)
		return weft_err_set(err, ENOMEM, "out of memory");
	source->unsaved = true;
	source->damaged = r < 0;
	if (r < 0)
		entries_table_done(&source->kept);
	return r;
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

	snprintf(who, sizeof(who), "%s %s%s%s", weft_kind_name(entry->kind), entry->namespace, *entry->namespace ? "/" : "", name_of(entry));
	return weft_problems_add(problems, WEFT_SEVERITY_ERROR, file->name, line, who, NULL,
				 "is in %s already, line %u: that one is in force and this one is not used, remove one of them", other,
				 other_line);
}

/* What is being collected of a file: in its order, and by identity. */
struct fresh {
	struct entries list;
	struct weft_hash_table by_identity;
};

static void fresh_done(struct fresh *fresh)
{
	entries_free(&fresh->list);
	weft_hash_table_done(&fresh->by_identity);
}

/* As intern(). */
static struct entry *collect_one(struct fresh *fresh, enum weft_kind kind, const char *namespace, const char *name, bool *ret_new)
{
	struct entries *list = &fresh->list;
	struct entry *entry;

	if (weft_grow(&list->item, &list->room, list->count + 1, sizeof(struct entry *)) < 0)
		return NULL;
	entry = intern(&fresh->by_identity, kind, namespace, name, ret_new);
	if (entry && *ret_new)
		list->item[list->count++] = entry;
	return entry;
}

/* A version that is in force and that the file lost only by a mistake. */
static int collect_last_good(struct fresh *fresh, enum weft_kind kind, const char *namespace, const char *name, unsigned int line)
{
	bool is_new;
	struct entry *entry = collect_one(fresh, kind, namespace, name, &is_new);

	if (!entry)
		return -ENOMEM;
	if (is_new) {
		entry->line = line;
		entry->last_good = true;
	}
	return 0;
}

static bool gave(const struct file *file, const struct entry *kept)
{
	return kept->resource && strcmp(kept->resource->file, file->name) == 0;
}

/* As collect_last_good(), of what the process before this one had in force. Another file's is left to claim_last_good(). */
static int collect_kept(struct fresh *fresh, const struct file *file, struct entry *kept)
{
	struct entry *entry;
	bool is_new;

	entry = collect_one(fresh, kept->kind, kept->namespace, name_of(kept), &is_new);
	if (!entry)
		return -ENOMEM;
	if (!is_new)
		return 0;
	entry->line = kept->line;
	entry->last_good = true;
	if (gave(file, kept))
		entry->resource = weft_take_ptr(kept->resource);
	return 0;
}

/* All of the file's that no file has in force yet. */
static int collect_torn(struct weft_source *source, struct file *file, struct fresh *fresh)
{
	struct entry *kept;
	int r = 0;

	for (size_t i = 0; r == 0 && i < file->entries.count; i++) {
		const struct entry *old = file->entries.item[i], *owner = lookup(&source->owned, old);

		if (owner && owner->file == file)
			r = collect_last_good(fresh, old->kind, old->namespace, name_of(old), old->line);
	}
	for (size_t at = 0; r == 0 && (kept = weft_hash_table_next(&source->kept, &at));)
		if (gave(file, kept) && !lookup(&source->owned, kept))
			r = collect_kept(fresh, file, kept);
	return r;
}

static int collect_refused(struct weft_source *source, struct file *file, const struct weft_identity *identity, struct fresh *fresh)
{
	const struct entry *owner = find(&source->owned, identity->kind, identity->namespace, identity->name);
	struct entry *kept;

	if (owner)
		return collect_last_good(fresh, identity->kind, identity->namespace, identity->name, owner->line);
	kept = find(&source->kept, identity->kind, identity->namespace, identity->name);
	return kept ? collect_kept(fresh, file, kept) : 0;
}

/* A mistake asks for its last good version, and whether there was one cannot be known: without it somebody may get in. */
static int look_blind(struct weft_source *source, struct file *file, const struct weft_conf_file *conf)
{
	bool blind = conf->torn;

	if (!source->damaged)
		return 0;
	for (size_t i = 0; !blind && i < conf->refused_count; i++)
		blind = weft_last_good_kind(conf->refused[i].kind);
	if (!blind)
		return 0;
	source->blind = true;
	file->settled = false;
	return weft_problems_add(&file->problems, WEFT_SEVERITY_ERROR, file->name, 0, NULL, NULL,
				 "the last good version of what is refused here cannot be told, since the state folder's `" WEFT_LAST_GOOD_NAME
				 "` is damaged: nothing of the configuration is put in force; repair this file, or remove `" WEFT_LAST_GOOD_NAME
				 "` to go on without");
}

/* What the file says now, and what it said before and lost only by a mistake. */
static int collect(struct weft_source *source, struct file *file, struct weft_conf_file *conf, struct fresh *fresh)
{
	int r = 0;

	for (size_t i = 0; i < conf->resource_count; i++) {
		struct weft_resource *resource = conf->resource[i];
		struct entry *entry;
		bool is_new;

		if (!resource)
			continue;
		entry = collect_one(fresh, resource->kind, resource->meta.namespace, resource->meta.name, &is_new);
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
	for (size_t i = 0; r == 0 && i < conf->refused_count; i++)
		r = collect_refused(source, file, &conf->refused[i], fresh);
	if (r == 0 && conf->torn)
		r = collect_torn(source, file, fresh);
	if (r == 0)
		r = look_blind(source, file, conf);
	return r;
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
	weft_cleanup(fresh_done) struct fresh fresh = { 0 };
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
	source->read += text.size;
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
		return r;
	}
	entries_free(&file->entries);
	file->entries = fresh.list;
	fresh.list = (struct entries){ 0 };
	return 0;
}

/* What it has in force stays until the owners are settled, but is nobody's. */
static void forget(struct weft_source *source, struct file *file)
{
	for (size_t i = 0; i < file->entries.count; i++) {
		struct entry *owner = lookup(&source->owned, file->entries.item[i]);

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

	owner = intern(&settling->source->owned, entry->kind, entry->namespace, name_of(entry), &is_new);
	if (!owner)
		return -ENOMEM;
	r = weft_model_put(settling->model, weft_take_ptr(entry->resource));
	if (r < 0) {
		file->settled = false;
		return r;
	}
	owner->file = file;
	owner->line = entry->line;
	owner->last_good = entry->last_good;
	owner->scan = settling->source->scan;
	settling->changed++;
	settling->source->unsaved |= weft_last_good_kind(entry->kind);
	return 0;
}

static int claim(struct settling *settling, struct file *file, struct entry *entry)
{
	struct weft_source *source = settling->source;
	struct entry *owner = lookup(&source->owned, entry);

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
static int claim_last_good(struct settling *settling, struct file *file)
{
	struct weft_source *source = settling->source;

	for (size_t i = 0; i < file->entries.count; i++) {
		struct entry *entry = file->entries.item[i], *owner, *kept;
		int r;

		if (!entry->last_good)
			continue;
		owner = lookup(&source->owned, entry);
		kept = owner ? NULL : lookup(&source->kept, entry);
		if (kept && kept->resource) {
			entry->resource = weft_take_ptr(kept->resource);
			r = claim_new(settling, file, entry);
			if (r < 0)
				return r;
		}
		if (!owner || owner->scan == source->scan)
			continue;
		owner->scan = source->scan;
		owner->file = file;
		owner->last_good = true;
		source->unsaved |= weft_last_good_kind(owner->kind);
	}
	return 0;
}

static int remove_unclaimed(struct settling *settling)
{
	weft_free_on_exit struct entry **gone = NULL;
	struct weft_source *source = settling->source;
	size_t count = 0, room = 0;
	struct entry *owner;

	for (size_t at = 0; (owner = weft_hash_table_next(&source->owned, &at));) {
		if (owner->scan == source->scan)
			continue;
		if (weft_grow(&gone, &room, count + 1, sizeof(struct entry *)) < 0)
			return -ENOMEM;
		gone[count++] = owner;
	}
	for (size_t i = 0; i < count; i++) {
		source->unsaved |= weft_last_good_kind(gone[i]->kind);
		weft_model_remove(settling->model, gone[i]->kind, gone[i]->namespace, name_of(gone[i]));
		weft_hash_table_remove(&source->owned, gone[i], hash_of);
		entry_free(gone[i]);
	}
	settling->changed += count;
	return 0;
}

static int settle(struct settling *settling)
{
	struct weft_source *source = settling->source;

	source->scan++;
	settling->again = false;
	weft_problems_done(&source->shared);
	for (size_t i = 0; i < source->count; i++)
		for (size_t j = 0; j < source->file[i]->entries.count; j++) {
			int r = claim(settling, source->file[i], source->file[i]->entries.item[j]);

			if (r < 0)
				return r;
		}
	for (size_t i = 0; i < source->count; i++) {
		int r = claim_last_good(settling, source->file[i]);

		if (r < 0)
			return r;
	}
	return remove_unclaimed(settling);
}

int weft_source_scan(struct weft_source *source, int dir, struct weft_model *model, size_t *ret_changed)
{
	weft_cleanup(names_done) struct names names = { 0 };
	struct settling settling = { .source = source, .model = model };
	int r = dir < 0 ? -ENOENT : list(dir, &names);

	if (r < 0)
		return r;
	source->read = 0;
	source->blind = false;
	source->whole = false;
	/* Once more if a shadowed version comes to light; it finds every file read, so that a third time has no cause. */
	for (int i = 0; i < 3; i++) {
		int loaded = load_all(source, dir, &names);

		if (source->blind)
			return -EBADMSG;
		r = settle(&settling);
		if (r == 0)
			r = loaded;
		if (r < 0 || !settling.again)
			break;
	}
	*ret_changed = settling.changed;
	if (r == 0) {
		source->whole = true;
		source->damaged = false;
		entries_table_done(&source->kept);
	}
	if (source->read >= TRIM_BYTES)
		malloc_trim(0);
	return r;
}

int weft_source_save(struct weft_source *source, const struct weft_model *model)
{
	weft_cleanup(weft_buf_done) struct weft_buf records = WEFT_BUF_INIT, text = WEFT_BUF_INIT;
	int r = 0;

	if (source->state < 0 || !source->unsaved || !source->whole)
		return 0;
	for (size_t i = 0; r == 0 && i < source->count; i++)
		for (size_t j = 0; r == 0 && j < source->file[i]->entries.count; j++) {
			const struct entry *owner = lookup(&source->owned, source->file[i]->entries.item[j]);
			const struct weft_resource *resource;

			if (!owner || owner->file != source->file[i] || !weft_last_good_kind(owner->kind))
				continue;
			resource = weft_model_get(model, owner->kind, owner->namespace, name_of(owner));
			if (resource)
				r = weft_last_good_add(&records, owner->file->name, owner->line, resource);
		}
	if (r == 0)
		r = weft_last_good_seal(&records, &text);
	if (r == 0)
		r = weft_write_file_at(source->state, WEFT_LAST_GOOD_NAME, text.data, text.size, 0640);
	source->unsaved = r < 0;
	return r;
}

int weft_source_due_ms(const struct weft_source *source)
{
	int64_t now = now_ns(), least = INT64_MAX;

	for (size_t i = 0; i < source->count; i++)
		if (source->file[i]->due_ns && (int64_t)source->file[i]->due_ns - now < least)
			least = (int64_t)source->file[i]->due_ns - now;
	if (source->state >= 0 && source->unsaved && least > SAVE_AGAIN_MS * 1000000ll)
		least = SAVE_AGAIN_MS * 1000000ll;
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
	for (size_t i = 0; i < source->count; i++)
		for (size_t j = 0; j < source->file[i]->entries.count; j++) {
			const struct entry *owner = lookup(&source->owned, source->file[i]->entries.item[j]);
			struct weft_source_entry one;

			if (!owner || owner->file != source->file[i])
				continue;
			one = (struct weft_source_entry){
				.kind = owner->kind,
				.namespace = owner->namespace,
				.name = name_of(owner),
				.file = owner->file->name,
				.line = owner->line,
				.last_good = owner->last_good,
			};
			each(context, &one);
		}
}

size_t weft_source_count(const struct weft_source *source)
{
	return source->owned.count;
}
