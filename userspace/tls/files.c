/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "tls/key.h"
#include "tls/pem.h"
#include "tls/spiffe.h"

#define LOOK_US 1000000ull /* a link that leads elsewhere, or a remote folder, tells inotify nothing: looked at again and again */

enum part { CHAIN, KEY, BUNDLE, CRL, PARTS };

static const char *const layouts[][PARTS] = {
	{ "svid.pem", "svid_key.pem", "svid_bundle.pem", "crl.pem" },
	{ "tls.crt", "tls.key", "ca.crt", "crl.pem" },
};

/* What tells one content of a file from the next. */
struct mark {
	ino_t inode;
	off_t size;
	struct timespec modified;
};

/* What files said when they last fitted together. */
struct content {
	EVP_PKEY *key;
	struct weft_pem chain;
	struct weft_pem bundle;
	struct weft_pem crls;
};

struct pair {
	UT_hash_handle hh; /* by id */
	char *id;
	struct mark mark[WEFT_ARRAY_SIZE(layouts)][PARTS];
	struct content content; /* key NULL: none yet */
	int error;
	struct weft_err trouble; /* with the files as they are now */
};

struct files {
	struct weft_signer signer;
	int dir;
	sd_event_source *look;
	char domain[WEFT_TRUST_DOMAIN_MAX + 1];
	struct pair *pairs;
};

static void content_done(struct content *content)
{
	EVP_PKEY_free(content->key);
	weft_pem_done(&content->chain);
	weft_pem_done(&content->bundle);
	weft_pem_done(&content->crls);
	memset(content, 0, sizeof(*content));
}

static int open_folder(const struct files *files, const char *id, struct weft_err *err)
{
	struct weft_spiffe spiffe;
	char path[WEFT_SPIFFE_MAX + sizeof(WEFT_FILES_FOLDER) + 2];
	int fd;

	if (weft_spiffe_parse(id, strlen(id), &spiffe, err) < 0)
		return -EINVAL;
	if (!spiffe.service_account_size)
		return weft_err_set(err, EINVAL, "%s is not of the form /ns/<namespace>/sa/<service account>, which files are found by", id);
	/* A SPIFFE id has no segment that is a dot or two. */
	snprintf(path, sizeof(path), WEFT_FILES_FOLDER "/%.*s/%.*s", (int)spiffe.namespace_size, spiffe.namespace,
		 (int)spiffe.service_account_size, spiffe.service_account);
	fd = openat(files->dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? weft_err_set(err, errno, "%s: cannot open the folder %s of keys: %m", id, path) : fd;
}

static int read_part(int folder, const char *const *layout, enum part part, struct content *content, struct weft_err *err)
{
	struct weft_pem *const into[PARTS] = { &content->chain, NULL, &content->bundle, &content->crls };
	size_t size, room;
	char *text;
	int r = weft_key_read_file(folder, layout[part], &text, &size, &room, err);

	if (r < 0)
		return r == -ENOENT && part == CRL ? 0 : r;
	if (part == KEY)
		r = weft_key_from_pem(text, size, &content->key, err);
	else
		r = weft_pem_read(text, size, layout[part], into[part], err);
	weft_key_free(text, room);
	return r < 0 && part == KEY ? weft_err_prefix(err, r, "%s", layout[part]) : r;
}

static int read_layout(int folder, const char *const *layout, struct content *ret_content, struct weft_err *err)
{
	weft_cleanup(content_done) struct content content = { .key = NULL };
	int r = 0;

	for (enum part part = 0; r == 0 && part < PARTS; part++)
		r = read_part(folder, layout, part, &content, err);
	if (r < 0)
		return r;
	if (content.chain.count == 0 || content.chain.count > WEFT_TRUST_MAX_CHAIN || content.bundle.count == 0)
		return weft_err_set(err, EINVAL, "%s has %zu certificates and %s has %zu: expected 1 to %d, and at least one", layout[CHAIN],
				    content.chain.count, layout[BUNDLE], content.bundle.count, WEFT_TRUST_MAX_CHAIN);
	/* An update is several files: between the first and the last of them they are of two. */
	if (EVP_PKEY_eq(content.key, X509_get0_pubkey(content.chain.certificate[0])) != 1)
		return weft_err_set(err, EAGAIN, "%s is not the key of %s", layout[KEY], layout[CHAIN]);
	*ret_content = content;
	memset(&content, 0, sizeof(content));
	return 0;
}

static bool set_mark(int folder, const char *name, struct mark *mark)
{
	struct mark now = { 0 };
	struct stat st;
	bool changed;

	if (folder >= 0 && fstatat(folder, name, &st, 0) == 0)
		now = (struct mark){ st.st_ino, st.st_size, st.st_mtim };
	changed = now.inode != mark->inode || now.size != mark->size || now.modified.tv_sec != mark->modified.tv_sec ||
		  now.modified.tv_nsec != mark->modified.tv_nsec;
	*mark = now;
	return changed;
}

/* Reads the files again if there is reason to. True: there is something new to be told. */
static bool refresh(struct files *files, struct pair *pair)
{
	struct weft_err trouble = { "" };
	weft_close_on_exit int folder = open_folder(files, pair->id, &trouble);
	struct content content;
	size_t layout = 0;
	bool changed = false, was_good = !pair->error;
	int r = folder < 0 ? folder : 0;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(layouts); i++)
		for (enum part part = 0; part < PARTS; part++)
			changed |= set_mark(folder, layouts[i][part], &pair->mark[i][part]);
	if (!changed && !pair->error)
		return false;
	while (layout + 1 < WEFT_ARRAY_SIZE(layouts) && !pair->mark[layout][CHAIN].inode)
		layout++;
	if (r == 0) {
		r = read_layout(folder, layouts[layout], &content, &trouble);
		if (r < 0)
			weft_err_prefix(&trouble, r, "%s", pair->id);
	}
	pair->error = r;
	pair->trouble = trouble;
	if (r < 0)
		return was_good;
	content_done(&pair->content);
	pair->content = content;
	return true;
}

static int on_look(sd_event_source *source, uint64_t usec, void *context)
{
	struct files *files = context;
	struct pair *pair, *next;
	bool changed = false;

	(void)usec;
	HASH_ITER(hh, files->pairs, pair, next)
		changed |= refresh(files, pair);
	if (changed)
		files->signer.events.changed(files->signer.events.context);
	sd_event_source_set_time_relative(source, LOOK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void pair_free(struct pair *pair)
{
	content_done(&pair->content);
	free(pair->id);
	free(pair);
}

static struct pair *pair_of(struct files *files, const char *id)
{
	struct pair *pair;

	HASH_FIND_STR(files->pairs, id, pair);
	if (pair)
		return pair;
	pair = calloc(1, sizeof(*pair));
	if (!pair)
		return NULL;
	pair->id = strdup(id);
	if (!pair->id) {
		free(pair);
		return NULL;
	}
	pair->error = -ENOENT;
	HASH_ADD_KEYPTR(hh, files->pairs, pair->id, strlen(pair->id), pair);
	return pair;
}

static int files_request(struct weft_signer *signer, const struct weft_signer_request *request, struct weft_err *err)
{
	struct files *files = (struct files *)signer;
	struct pair *pair = pair_of(files, request->id);
	struct weft_der chain[WEFT_TRUST_MAX_CHAIN] = { { NULL, 0 } };
	int r = 0;

	if (!pair)
		return weft_err_set(err, ENOMEM, "out of memory");
	refresh(files, pair);
	if (!pair->content.key)
		return weft_err_set(err, pair->error, "%s", pair->trouble.text);
	for (size_t i = 0; r == 0 && i < pair->content.chain.count; i++)
		r = weft_pem_der(pair->content.chain.certificate[i], &chain[i]);
	if (r == 0)
		signer->events.answered(signer->events.context, pair->id, 0,
					&(struct weft_signer_answer){ chain, pair->content.chain.count, pair->content.key }, NULL);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(chain); i++)
		OPENSSL_free((void *)chain[i].data);
	return r < 0 ? weft_err_set(err, r, "out of memory") : 0;
}

static int files_trust(struct weft_signer *signer, int (*each)(void *context, bool crl, const char *domain, const struct weft_der *der),
		       void *context, struct weft_err *err)
{
	struct files *files = (struct files *)signer;
	struct pair *pair, *next;
	int r = 0;

	HASH_ITER(hh, files->pairs, pair, next) {
		for (size_t i = 0; r == 0 && i < pair->content.bundle.count; i++) {
			struct weft_der der;

			r = weft_pem_der(pair->content.bundle.certificate[i], &der);
			if (r == 0) {
				r = each(context, false, files->domain, &der);
				OPENSSL_free((void *)der.data);
			}
		}
		for (size_t i = 0; r == 0 && i < pair->content.crls.crl_count; i++) {
			unsigned char *data = NULL;
			int size = i2d_X509_CRL(pair->content.crls.crl[i], &data);

			r = size > 0 ? each(context, true, files->domain, &(struct weft_der){ data, (size_t)size }) : -ENOMEM;
			OPENSSL_free(data);
		}
	}
	return r < 0 ? weft_err_set(err, r, "cannot read whom the files believe: %m") : r;
}

static int files_state(struct weft_signer *signer, struct weft_err *err)
{
	struct files *files = (struct files *)signer;
	struct pair *pair, *next;

	HASH_ITER(hh, files->pairs, pair, next)
		if (pair->error)
			return weft_err_set(err, pair->error, "%s%s", pair->trouble.text, pair->content.key ? ", keeping what was there" : "");
	return 0;
}

static void files_forget(struct weft_signer *signer, const char *id)
{
	struct files *files = (struct files *)signer;
	struct pair *pair;

	HASH_FIND_STR(files->pairs, id, pair);
	if (!pair)
		return;
	HASH_DEL(files->pairs, pair);
	pair_free(pair);
}

static void files_free(struct weft_signer *signer)
{
	struct files *files = (struct files *)signer;
	struct pair *pair, *next;

	sd_event_source_disable_unref(files->look);
	HASH_ITER(hh, files->pairs, pair, next) {
		HASH_DEL(files->pairs, pair);
		pair_free(pair);
	}
	free(files);
}

int weft_files_signer_new(sd_event *loop, int dir, const char *domain, const struct weft_signer_events *events,
			  struct weft_signer **ret_signer, struct weft_err *err)
{
	static const struct weft_signer_ops ops = { .brings_keys = true, .request = files_request, .forget = files_forget,
						    .trust = files_trust, .state = files_state, .free = files_free };
	weft_cleanup(weft_signer_freep) struct weft_signer *signer = NULL;
	struct files *files;
	int r;

	if (!weft_trust_domain_valid(domain, strlen(domain)))
		return weft_err_set(err, EINVAL, "%s is no trust domain", domain);
	files = calloc(1, sizeof(*files));
	if (!files)
		return weft_err_set(err, ENOMEM, "out of memory");
	signer = &files->signer;
	files->signer = (struct weft_signer){ &ops, *events };
	files->dir = dir;
	strcpy(files->domain, domain);
	r = sd_event_add_time_relative(loop, &files->look, CLOCK_MONOTONIC, LOOK_US, LOOK_US / 10, on_look, files);
	if (r < 0)
		return weft_err_set(err, r, "cannot watch the files of certificates: %m");
	*ret_signer = weft_take_ptr(signer);
	return 0;
}
