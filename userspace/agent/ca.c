/* SPDX-License-Identifier: Apache-2.0 */
/* weftd --ca-export and its like: what a person does to the embedded CA, with or without an agent. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "agent/check.h"
#include "agent/place.h"
#include "base/io.h"
#include "tls/ca.h"
#include "tls/key.h"

#define FALLBACK_DOMAIN "cluster.local" /* MeshConfig's */

/* What is said: a row of names and values, as lines or as an object. */
struct answer {
	const char *key;
	const char *value;
};

static void say(const struct weft_options *options, const struct answer *answer, size_t count)
{
	struct json_object *object = options->json ? json_object_new_object() : NULL;

	for (size_t i = 0; i < count; i++)
		if (object)
			json_object_object_add(object, answer[i].key, json_object_new_string(answer[i].value));
		else
			printf("%s: %s\n", answer[i].key, answer[i].value);
	if (object)
		puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

/* <state>/ca as init makes it, of the user that keys runs as. */
static int open_folder(const struct weft_options *options, bool make, struct weft_err *err)
{
	weft_close_on_exit int state = -1;
	struct weft_user user, keys;
	int r, folder;

	if (!make) {
		state = open(options->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		folder = state < 0 ? -1 : openat(state, "ca", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		return folder < 0 ? weft_err_set(err, errno, "cannot open %s/ca: %m; is there a CA on this node?", options->state) : folder;
	}
	r = weft_place_user(options, WEFT_AGENT_CONTROL, &user, err);
	if (r == 0)
		r = weft_place_user(options, WEFT_AGENT_KEYS, &keys, err);
	if (r < 0)
		return r;
	state = weft_place_folder(options->state, &user, 0750, err);
	return state < 0 ? state : weft_place_folder_in(state, options->state, "ca", &keys, 0700, err);
}

/* A file of our own, which nobody has prepared for us: the bundle opens with the code alone. */
static int write_bundle(const char *path, const struct weft_buf *bundle, struct weft_err *err)
{
	weft_close_on_exit int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return weft_err_set(err, errno, "cannot make the file %s: %m", path);
	r = weft_write_all(fd, bundle->data, bundle->size);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		unlink(path);
	return r < 0 ? weft_err_set(err, r, "cannot write %s: %m", path) : 0;
}

static int export(const struct weft_options *options, int dir, time_t now, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf bundle = WEFT_BUF_INIT;
	struct weft_ca_export made;
	char until[32];
	struct tm tm;
	int r = weft_ca_make(dir, options->trust_domain ? options->trust_domain : FALLBACK_DOMAIN, now, err);

	if (r < 0 && r != -EEXIST)
		return r;
	r = weft_ca_export(dir, now, &bundle, &made, err);
	if (r == 0 && options->trust_domain && strcmp(options->trust_domain, made.domain) != 0)
		r = weft_err_set(err, EEXIST, "the CA of this node is for trust domain %s, not %s", made.domain, options->trust_domain);
	if (r == 0)
		r = write_bundle(options->directory, &bundle, err);
	if (r < 0)
		return r;
	strftime(until, sizeof(until), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&made.until, &tm));
	say(options, (struct answer[]){ { "trust_domain", made.domain }, { "file", options->directory }, { "until", until },
					{ "serial", made.serial }, { "code", made.code } }, 5);
	OPENSSL_cleanse(&made, sizeof(made));
	return 0;
}

static int join_bundle(const struct weft_options *options, int dir, time_t now, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf bundle = WEFT_BUF_INIT;
	weft_close_on_exit int fd = open(options->directory, O_RDONLY | O_CLOEXEC);
	char code[256], domain[256];
	int r = fd < 0 ? -errno : weft_read_all(fd, 1 << 20, &bundle);

	if (r < 0)
		return weft_err_set(err, r, "cannot read %s: %m", options->directory);
	if (isatty(STDIN_FILENO))
		fputs("code that `weft ca export` printed: ", stderr);
	if (!fgets(code, sizeof(code), stdin))
		return weft_err_set(err, EINVAL, "no code came on standard input: give the one that `weft ca export` printed");
	r = weft_ca_join(dir, now, bundle.data, bundle.size, code, domain, err);
	OPENSSL_cleanse(code, sizeof(code));
	if (r == 0)
		say(options, (struct answer[]){ { "trust_domain", domain } }, 1);
	return r;
}

static int rotate(const struct weft_options *options, int dir, time_t now, struct weft_err *err)
{
	bool signs;
	int r = weft_ca_rotate(dir, now, &signs, err);

	if (r == 0)
		say(options, (struct answer[]){ { "root", signs ? "signs" : "believed" },
						{ "next", signs ? "have the other nodes join anew, before their intermediates end"
								: "have the other nodes join anew, then rotate once more" } }, 2);
	return r;
}

static int revoke_serial(const struct weft_options *options, int dir, time_t now, struct weft_err *err)
{
	int r = weft_ca_revoke(dir, now, options->directory, err);

	if (r == 0)
		say(options, (struct answer[]){ { "serial", options->directory },
						{ "next", "have the other nodes join anew: they learn of it by that" } }, 2);
	return r;
}

int weft_ca_run(const struct weft_options *options)
{
	bool make = options->action == WEFT_ACTION_CA_EXPORT || options->action == WEFT_ACTION_CA_JOIN;
	weft_close_on_exit int dir = -1;
	struct weft_err err = { "" };
	time_t now = time(NULL);
	int r = 0;

	if (geteuid() != 0)
		r = weft_err_set(&err, EPERM, "must be run as root: the CA is for nobody else's eyes");
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (r == 0)
		r = weft_key_heap(&err);
	if (r >= 0)
		r = dir = open_folder(options, make, &err);
	if (r >= 0)
		switch (options->action) {
		case WEFT_ACTION_CA_EXPORT:
			r = export(options, dir, now, &err);
			break;
		case WEFT_ACTION_CA_JOIN:
			r = join_bundle(options, dir, now, &err);
			break;
		case WEFT_ACTION_CA_ROTATE:
			r = rotate(options, dir, now, &err);
			break;
		default:
			r = revoke_serial(options, dir, now, &err);
		}
	if (r >= 0)
		return WEFT_EXIT_OK;
	if (options->json)
		say(options, (struct answer[]){ { "error", err.text } }, 1);
	else
		fprintf(stderr, "weftd: %s\n", err.text);
	return r == -EPERM && geteuid() != 0 ? WEFT_EXIT_PRIVILEGE : WEFT_EXIT_FAILURE;
}
