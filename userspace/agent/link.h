/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control's end of the socketpair with main: one request, one answer, in order.
 * What brings configuration to the kernel waits for its answer: waiting for main
 * is short by design, for it never waits itself. What serves people and scrapers
 * does not wait: they must not hang when main does. A main that does not answer
 * within WEFT_LINK_TIMEOUT_S is reported and the link is given up. Records that
 * arrive meanwhile go to `records`.
 */
#ifndef WEFT_AGENT_LINK_H
#define WEFT_AGENT_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "weft/abi/role.h"

#define WEFT_LINK_TIMEOUT_S 20

struct weft_link_bulk;

/* `r` is 0 or main's -errno. Runs in the middle of any other call of this file but weft_link_ask(), which it may not wait in. */
typedef void weft_link_answered(void *context, int r, const struct weft_link_bulk *bulk);

struct weft_link_asked {
	__u32 serial;
	__u16 type;
	uint64_t since_ns; /* CLOCK_MONOTONIC */
	weft_link_answered *answered; /* NULL: nobody cares */
};

#define WEFT_LINK_MAX_ASKED 8

struct weft_link {
	int sock; /* -1: main is not there */
	__u32 serial;
	struct weft_link_asked asked[WEFT_LINK_MAX_ASKED]; /* not answered yet, oldest first */
	size_t asked_count;
	void (*records)(void *context, const struct weft_event *records, size_t count, uint64_t lost);
	void *context;
};

/* What an answer brought along, mapped. */
struct weft_link_bulk {
	const void *data;
	size_t size;
};
void weft_link_bulk_done(struct weft_link_bulk *bulk);

/*
 * Sends `request` (made by weft_role_message(); its serial is set here) with its bulk and waits. 0: main did it;
 * else main's -errno, or: -ENOTCONN no main is there; -ECONNRESET it went; -ETIMEDOUT it hangs; -EBADMSG it sent
 * rubbish. After these four the socket is closed. `bulk` may be NULL.
 */
int weft_link_call(struct weft_link *link, struct weft_role_message *request, const void *data, size_t size,
		   struct weft_role_message *ret_answer, struct weft_link_bulk *bulk, struct weft_err *err);

/*
 * Sends `request`, which has no bulk, and returns; `answered` follows, unless the link is lost before. 0, or as above; or
 * -EBUSY: so many have no answer yet.
 */
int weft_link_ask(struct weft_link *link, struct weft_role_message *request, weft_link_answered *answered, struct weft_err *err);
/* How long the oldest request that nobody waits for has had no answer; 0: there is none. */
uint64_t weft_link_age_ns(const struct weft_link *link);

/* What came by itself, or as an answer to weft_link_ask(). 0, or -errno of the last three above with the socket closed. */
int weft_link_receive(struct weft_link *link, struct weft_err *err);

#endif
