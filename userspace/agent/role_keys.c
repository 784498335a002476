/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Role keys. Holds the private keys of this node's workloads and, with the
 * embedded CA, those of the CA: in locked memory of OpenSSL's secure heap, in
 * a process that has no capability, its own uid, no_new_privs, no core dump,
 * and that nobody may trace. Has certificates made and renewed (tls/keyring.h),
 * tells them to control and the proxies, and signs what a proxy asks for. Never
 * gives a private key out: no message has room for one. Never makes a socket,
 * never opens a file outside its own folder, parses nothing that a pod sends.
 *
 * A proxy may have anything signed by any key of this node: it serves all of
 * its pods. What a proxy that was taken over can do ends with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <utlist.h>

#include "agent/place.h"
#include "agent/roles.h"
#include "agent/sandbox.h"
#include "base/io.h"
#include "base/log.h"
#include "ctl/keys.h"
#include "tls/files.h"
#include "tls/key.h"
#include "tls/keyring.h"

#define BURST 32 /* messages of one link in a row */
#define RETRY_US 100000ull /* for what could not be sent though the socket has room */

/* Something that is to be known by all; a later word on the same thing takes its place, and goes to the list's end. */
struct news {
	struct news *prev, *next;
	uint64_t stamp;
	enum weft_keys_message_type type;
	char id[]; /* of IDENTITY and GONE */
};

struct keys;

struct link {
	struct link *prev, *next;
	struct keys *keys;
	sd_event_source *io;
	int fd;
	bool proxy; /* else control */
	uint32_t number;
	uint64_t told; /* stamp of the last news that it has */
	bool holding; /* an answer that had no room: nothing more is read until it is out */
	bool *gone; /* where on_link() is at it: to be set when it is freed */
	struct weft_keys_message held;
};

struct keys {
	sd_event *loop;
	sd_event_source *retry;
	struct weft_keyring *ring;
	struct link *links;
	struct news *news;
	uint64_t stamp;
	int state_error;
	char *state; /* NULL: nothing is known yet */
};

/* ---- news ---- */

static int fail(struct weft_err *err)
{
	return weft_err_set(err, ENOMEM, "out of memory");
}

static struct news *find_news(struct keys *keys, enum weft_keys_message_type type, const char *id)
{
	struct news *news;

	DL_FOREACH(keys->news, news)
		if (*id ? strcmp(news->id, id) == 0 : news->type == type)
			return news;
	return NULL;
}

static void link_flush(struct link *link);

static void flush_all(struct keys *keys)
{
	struct link *link, *next;

	DL_FOREACH_SAFE(keys->links, link, next)
		link_flush(link);
}

static void announce(struct keys *keys, enum weft_keys_message_type type, const char *id)
{
	struct news *news = find_news(keys, type, id);

	if (news) {
		DL_DELETE(keys->news, news);
	} else {
		news = calloc(1, sizeof(*news) + strlen(id) + 1);
		if (!news) {
			weft_error("out of memory: nobody is told of %s", *id ? id : weft_keys_type_name(type));
			return;
		}
		strcpy(news->id, id);
	}
	news->type = type;
	news->stamp = ++keys->stamp;
	DL_APPEND(keys->news, news);
	flush_all(keys);
}

/* That an id is gone concerns those who know that it was there. */
static void drop_gone(struct keys *keys)
{
	uint64_t least = keys->stamp;
	struct link *link;
	struct news *news, *next;

	DL_FOREACH(keys->links, link)
		if (link->told < least)
			least = link->told;
	DL_FOREACH_SAFE(keys->news, news, next)
		if (news->type == WEFT_KEYS_GONE && news->stamp <= least) {
			DL_DELETE(keys->news, news);
			free(news);
		}
}

static void on_changed(void *context, const struct weft_keyring_pair *pair)
{
	weft_debug("%s: key %llu, until %lld", pair->id, (unsigned long long)pair->key, (long long)pair->not_after);
	announce(context, WEFT_KEYS_IDENTITY, pair->id);
}

static void on_gone(void *context, const char *id)
{
	weft_debug("%s is not needed any more", id);
	announce(context, WEFT_KEYS_GONE, id);
}

static void on_trust(void *context)
{
	announce(context, WEFT_KEYS_TRUST, "");
}

static void on_state(void *context, int error, const char *text)
{
	struct keys *keys = context;
	char *copy = strdup(text);

	if (!copy)
		return;
	if (error)
		weft_warning("%s", text);
	else if (keys->state_error)
		weft_info("certificates are well again");
	free(keys->state);
	keys->state = copy;
	keys->state_error = error;
	announce(keys, WEFT_KEYS_STATE, "");
}

/* ---- what is sent ---- */

static int put_identity(struct keys *keys, const char *id, struct weft_buf *buf)
{
	const struct weft_keyring_pair *from = weft_keyring_find(keys->ring, id);
	struct weft_keys_pair pair = { .id = id };

	if (!from)
		return -ENOENT;
	pair.key = from->key;
	pair.not_before = from->not_before;
	pair.not_after = from->not_after;
	for (; pair.count < from->count; pair.count++)
		pair.chain[pair.count] = (struct weft_keys_bytes){ from->chain[pair.count].data, from->chain[pair.count].size };
	return weft_keys_identity_put(buf, &pair);
}

static int put_anchor(void *context, bool crl, const char *domain, const struct weft_der *der)
{
	return weft_keys_trust_add(context, &(struct weft_keys_anchor){ crl ? WEFT_KEYS_TRUST_CRL : WEFT_KEYS_TRUST_ROOT, domain,
									{ der->data, der->size } });
}

/* The body of news; 1: there is nothing to say any more. */
static int put_news(struct keys *keys, const struct news *news, struct weft_buf *buf)
{
	int r;

	switch (news->type) {
	case WEFT_KEYS_IDENTITY:
		r = put_identity(keys, news->id, buf);
		return r == -ENOENT ? 1 : r;
	case WEFT_KEYS_GONE:
		return weft_buf_add(buf, news->id, strlen(news->id) + 1);
	case WEFT_KEYS_TRUST:
		r = weft_keys_trust_put(buf);
		return r < 0 ? r : weft_keyring_trust(keys->ring, put_anchor, buf);
	case WEFT_KEYS_STATE:
		return keys->state_error ? weft_buf_add(buf, keys->state, strlen(keys->state) + 1) : 0;
	default:
		return 1;
	}
}

static int send_news(struct link *link, const struct news *news)
{
	struct weft_keys_message message = weft_keys_message(news->type, 0);
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;
	int r;

	if (news->type == WEFT_KEYS_STATE && link->proxy)
		return 0;
	r = put_news(link->keys, news, &buf);
	if (r)
		return r < 0 ? r : 0;
	if (news->type == WEFT_KEYS_STATE)
		message.error = link->keys->state_error;
	return weft_keys_send(link->fd, &message, buf.data, buf.size, MSG_DONTWAIT);
}

static void link_close(struct link *link)
{
	if (link->gone)
		*link->gone = true;
	DL_DELETE(link->keys->links, link);
	sd_event_source_disable_unref(link->io);
	close(link->fd);
	free(link);
}

static const char *link_name(const struct link *link, char room[static 32])
{
	snprintf(room, 32, link->proxy ? "proxy %u" : "control", link->number);
	return room;
}

static void await(struct link *link, uint32_t events)
{
	sd_event_source_set_io_events(link->io, events);
}

/* All that the other side does not have; it may be gone behind this. */
static void link_flush(struct link *link)
{
	struct keys *keys = link->keys;
	struct news *news, *from = NULL;
	int r = 0;

	if (link->holding) {
		r = weft_keys_send(link->fd, &link->held, NULL, 0, MSG_DONTWAIT);
		link->holding = r < 0;
	}
	/* From the end, where the new ones are. */
	for (news = keys->news ? keys->news->prev : NULL; r == 0 && news && news->stamp > link->told; news = news->prev) {
		from = news;
		if (news == keys->news)
			break;
	}
	for (news = from; r == 0 && news; news = news->next) {
		r = send_news(link, news);
		if (r == 0)
			link->told = news->stamp;
	}
	if (r == -EPIPE || r == -ECONNRESET) {
		link_close(link);
		return;
	}
	await(link, (link->holding ? 0 : EPOLLIN) | (r == -EAGAIN ? EPOLLOUT : 0));
	/* Too many descriptors are under way, or memory is short. */
	if (r < 0 && r != -EAGAIN)
		sd_event_source_set_enabled(keys->retry, SD_EVENT_ONESHOT);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *context)
{
	(void)usec;
	sd_event_source_set_time_relative(source, RETRY_US);
	flush_all(context);
	return 0;
}

/* ---- what is asked ---- */

static int sign(struct link *link, const struct weft_keys_message *asked)
{
	struct weft_keys_message answer = weft_keys_message(WEFT_KEYS_SIGNED, asked->serial);
	size_t size = 0;
	int r;

	answer.key = asked->key;
	answer.error = weft_keyring_sign(link->keys->ring, asked->key, asked->data, answer.data, &size);
	answer.data_size = (uint32_t)size;
	r = weft_keys_send(link->fd, &answer, NULL, 0, MSG_DONTWAIT);
	if (r == 0)
		return 0;
	link->held = answer;
	link->holding = true;
	return r;
}

static int want(struct keys *keys, const struct weft_keys_message *message, int fd, struct weft_err *err)
{
	weft_free_on_exit const char **ids = NULL;
	struct weft_keys_want wanted;
	const void *data;
	int r = weft_memfd_map(fd, message->bytes, &data);

	if (r < 0)
		return weft_err_set(err, r, "cannot read what is wanted: %m");
	r = weft_keys_want_open(data, message->bytes, message->count, &wanted, err);
	if (r == 0) {
		const char *at = wanted.id;

		ids = calloc(wanted.count + 1, sizeof(*ids));
		for (uint32_t i = 0; ids && i < wanted.count; i++, at += strlen(at) + 1)
			ids[i] = at;
		r = ids ? weft_keyring_want(keys->ring,
					    wanted.settings.source == WEFT_KEYS_SOURCE_FILES ? WEFT_KEYRING_FILES : WEFT_KEYRING_EMBEDDED,
					    wanted.settings.trust_domain, wanted.settings.ttl_s, ids, wanted.count, err)
			: fail(err);
	}
	munmap((void *)data, message->bytes);
	if (r == 0 && keys->state)
		announce(keys, WEFT_KEYS_STATE, "");
	return r;
}

static int take_message(struct link *link, const struct weft_keys_message *message, int fd, struct weft_err *err)
{
	switch (message->type) {
	case WEFT_KEYS_WANT:
		return want(link->keys, message, fd, err);
	case WEFT_KEYS_LOG_LEVEL:
		weft_log_set_level((enum weft_log_level)message->key);
		return 0;
	case WEFT_KEYS_SIGN:
		return sign(link, message);
	}
	return 0;
}

static int on_link(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct link *link = context;
	bool gone = false;
	char name[32];
	int r = 0;

	(void)source;
	if (revents & EPOLLOUT || link->holding) {
		link_flush(link);
		return 0;
	}
	link->gone = &gone;
	for (int i = 0; r == 0 && i < BURST; i++) {
		struct weft_keys_message message;
		weft_close_on_exit int came = -1;
		struct weft_err err = { "" };

		r = weft_keys_receive(fd, link->proxy ? WEFT_KEYS_FROM_PROXY : WEFT_KEYS_FROM_CONTROL, MSG_DONTWAIT, &message, &came, &err);
		if (r == -EAGAIN)
			break;
		if (r == 0)
			r = take_message(link, &message, came, &err);
		/* What is wanted anew is news, which are sent at once: he who asked may turn out to be dead. */
		if (gone)
			return 0;
		if (r == 0)
			continue;
		if (link->holding && r != -EPIPE && r != -ECONNRESET) {
			await(link, EPOLLOUT);
			if (r != -EAGAIN)
				sd_event_source_set_enabled(link->keys->retry, SD_EVENT_ONESHOT);
			break;
		}
		if (r == -ENOMEM) {
			weft_error("%s", err.text);
			break;
		}
		if (r != -ECONNRESET && r != -EPIPE)
			weft_error("%s: %s; not listening to it any more", link_name(link, name), err.text);
		link_close(link);
		return 0;
	}
	link->gone = NULL;
	return 0;
}

/* ---- init ---- */

static int link_open(struct keys *keys, bool proxy, uint32_t number, int fd)
{
	struct link *link, *next;
	int r;

	DL_FOREACH_SAFE(keys->links, link, next)
		if (link->proxy == proxy && link->number == number)
			link_close(link);
	link = calloc(1, sizeof(*link));
	if (!link)
		return -ENOMEM;
	*link = (struct link){ .keys = keys, .fd = fd, .proxy = proxy, .number = number };
	r = sd_event_add_io(keys->loop, &link->io, fd, EPOLLIN, on_link, link);
	if (r < 0) {
		free(link);
		return r;
	}
	DL_APPEND(keys->links, link);
	drop_gone(keys);
	link_flush(link);
	return 0;
}

static int on_init(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	weft_close_on_exit int came = -1;
	struct weft_init_message message;
	struct keys *keys = context;
	int r = weft_init_receive(fd, &message, &came);

	(void)revents;
	if (r == -ECONNRESET)
		return sd_event_exit(sd_event_source_get_event(source), WEFT_EXIT_OK);
	if (r < 0 || message.type != WEFT_INIT_LINK || came < 0)
		return 0;
	if (message.link != WEFT_LINK_CONTROL_KEYS && message.link != WEFT_LINK_KEYS_PROXY)
		return 0;
	r = link_open(keys, message.link == WEFT_LINK_KEYS_PROXY, message.link == WEFT_LINK_KEYS_PROXY ? message.proxy : 0, came);
	if (r < 0) {
		errno = -r;
		weft_error("cannot take a new link: %m");
		return 0;
	}
	came = -1;
	return 0;
}

/* ---- the process ---- */

static int hide(struct weft_err *err)
{
	const struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		return weft_err_set(err, errno, "cannot forbid core dumps of this process: %m");
	return 0;
}

/*
 * What OpenSSL opens or loads when it first needs it: this process may open nothing later. Its configuration file is not read:
 * what it may load would be loaded into the process that has the keys.
 */
static int warm_up(struct weft_err *err)
{
	weft_key_on_exit EVP_PKEY *key = NULL;
	unsigned char digest[WEFT_KEY_DIGEST] = { 0 }, signature[WEFT_KEY_SIGNATURE_MAX];
	EVP_PKEY_CTX *signer;
	size_t size;
	int r;

	if (!OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL))
		return weft_err_set(err, EIO, "OpenSSL cannot be set up");
	r = weft_key_heap(err);
	if (r < 0)
		return r;
	if (r == 1)
		weft_warning("%s", err->text);
	r = weft_key_new(&key, err);
	if (r < 0)
		return r;
	signer = weft_key_signer(key);
	r = signer ? weft_key_sign(signer, digest, signature, &size) : -ENOMEM;
	EVP_PKEY_CTX_free(signer);
	return r < 0 ? weft_err_set(err, r, "OpenSSL cannot sign") : 0;
}

static int start(struct keys *keys, struct weft_err *err)
{
	const struct weft_keyring_events events = { on_changed, on_gone, on_trust, on_state, keys };
	int r = sd_event_new(&keys->loop);

	if (r >= 0)
		r = sd_event_add_signal(keys->loop, NULL, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, NULL, NULL);
	if (r >= 0) /* a terminal's interrupt goes to all: init decides */
		r = signal(SIGINT, SIG_IGN) == SIG_ERR || signal(SIGHUP, SIG_IGN) == SIG_ERR ? -errno : 0;
	if (r >= 0)
		r = sd_event_add_io(keys->loop, NULL, WEFT_FD_INIT, EPOLLIN, on_init, keys);
	if (r >= 0)
		r = sd_event_add_time_relative(keys->loop, &keys->retry, CLOCK_MONOTONIC, RETRY_US, 0, on_retry, keys);
	if (r >= 0)
		r = sd_event_source_set_enabled(keys->retry, SD_EVENT_OFF);
	if (r < 0)
		return weft_err_set(err, r, "cannot set up the event loop: %m");
	return weft_keyring_new(keys->loop, WEFT_FD_STATE, &events, &keys->ring, err);
}

static void stop(struct keys *keys)
{
	struct link *link, *next_link;
	struct news *news, *next_news;

	DL_FOREACH_SAFE(keys->links, link, next_link)
		link_close(link);
	DL_FOREACH_SAFE(keys->news, news, next_news)
		free(news);
	weft_keyring_free(keys->ring);
	sd_event_source_disable_unref(keys->retry);
	sd_event_unref(keys->loop);
	free(keys->state);
}

int weft_role_keys_run(const struct weft_options *options)
{
	weft_close_on_exit int files = -1;
	struct keys keys = { .loop = NULL };
	struct weft_err err = { "" };
	int r = hide(&err);

	if (r == 0) /* while we may still lock more than others */
		r = warm_up(&err);
	if (r == 0)
		r = start(&keys, &err);
	if (r < 0) {
		weft_error("%s", err.text);
		stop(&keys);
		return WEFT_EXIT_FAILURE;
	}
	/* A link to another place is followed by whoever made it: root. */
	files = openat(WEFT_FD_STATE, WEFT_FILES_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = weft_place_become(options, WEFT_AGENT_KEYS, &err);
	if (r == 0)
		r = hide(&err); /* another uid is another process to the kernel here */
	if (r == 0)
		r = weft_sandbox_enter(WEFT_AGENT_KEYS, WEFT_FD_STATE, files, &err);
	if (r < 0) {
		weft_error("%s", err.text);
		stop(&keys);
		return WEFT_EXIT_PRIVILEGE;
	}
	r = sd_event_loop(keys.loop);
	if (r < 0) {
		errno = -r;
		weft_error("the event loop failed: %m");
		r = WEFT_EXIT_FAILURE;
	}
	stop(&keys);
	return r;
}
