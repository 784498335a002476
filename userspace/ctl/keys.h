/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of `keys` with `control` and with each `proxy` on the wire, and what their memfds hold: made here, and taken
 * apart here after all of it was checked. Text is text and sizes are sizes after that; whether a certificate is one, and
 * an id a SPIFFE id, is for those who know (tls/).
 */
#ifndef WEFT_CTL_KEYS_H
#define WEFT_CTL_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "weft/abi/keys.h"

enum weft_keys_way {
	WEFT_KEYS_FROM_CONTROL = 0,
	WEFT_KEYS_FROM_PROXY,
	WEFT_KEYS_TO_CONTROL,
	WEFT_KEYS_TO_PROXY,
};

/* "WANT"; NULL for a number that is no type. */
const char *weft_keys_type_name(unsigned int type);

/* All zero but magic, version, type and serial. */
struct weft_keys_message weft_keys_message(enum weft_keys_message_type type, __u32 serial);

/*
 * Whether these bytes are a message that goes this way, `with_fd` telling if a descriptor came along.
 * 0 with *ret_message, or -EBADMSG with what was wrong in `err`.
 */
int weft_keys_check(const void *data, size_t size, bool with_fd, enum weft_keys_way way, struct weft_keys_message *ret_message,
		    struct weft_err *err);

/*
 * Sends `message` with `size` bytes at `data` in a sealed memfd (size 0: without one; sets message->bytes).
 * -EAGAIN: a non-blocking socket is full; -EPIPE, -ECONNRESET: nobody is there. `flags` are sendmsg()'s.
 */
int weft_keys_send(int sock, struct weft_keys_message *message, const void *data, size_t size, int flags);
/*
 * One message. *ret_fd is its memfd, the caller's to close, or -1. -EAGAIN: none is there (non-blocking socket or
 * MSG_DONTWAIT in `flags`); -ECONNRESET: the other side is gone; -EBADMSG: malformed, `err` says how.
 */
int weft_keys_receive(int sock, enum weft_keys_way way, int flags, struct weft_keys_message *ret_message, int *ret_fd,
		      struct weft_err *err);

/*
 * What memfds hold. The _put functions add it to an empty buffer, -ENOMEM; the _open ones check all of it, -EBADMSG, and what
 * they return points into `data`.
 */

int weft_keys_want_put(struct weft_buf *buf, const struct weft_keys_settings *settings);
int weft_keys_want_add(struct weft_buf *buf, const char *id);
struct weft_keys_want {
	struct weft_keys_settings settings;
	const char *id; /* the first of `count`, one behind the other, each with its NUL */
	uint32_t count;
};
/* `count` is the message's. */
int weft_keys_want_open(const void *data, size_t size, uint32_t count, struct weft_keys_want *ret_want, struct weft_err *err);

struct weft_keys_bytes {
	const void *data;
	size_t size;
};

struct weft_keys_pair {
	uint64_t key;
	int64_t not_before;
	int64_t not_after;
	const char *id;
	struct weft_keys_bytes chain[WEFT_KEYS_MAX_CHAIN]; /* DER, leaf first */
	size_t count;
};
int weft_keys_identity_put(struct weft_buf *buf, const struct weft_keys_pair *pair);
int weft_keys_identity_open(const void *data, size_t size, struct weft_keys_pair *ret_pair, struct weft_err *err);

struct weft_keys_anchor {
	enum weft_keys_trust_type type;
	const char *domain;
	struct weft_keys_bytes der;
};
int weft_keys_trust_put(struct weft_buf *buf);
int weft_keys_trust_add(struct weft_buf *buf, const struct weft_keys_anchor *anchor);
int weft_keys_trust_open(const void *data, size_t size, uint32_t *ret_count, struct weft_err *err);
/* Steps over the anchors of a block that weft_keys_trust_open() found good; *at starts at 0. False: there is no more. */
bool weft_keys_trust_next(const void *data, size_t size, size_t *at, struct weft_keys_anchor *ret_anchor);

/* Of GONE and STATE: one text with its NUL at the very end. */
int weft_keys_text_open(const void *data, size_t size, const char **ret_text, struct weft_err *err);

#endif
