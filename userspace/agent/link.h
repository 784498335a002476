/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control's end of the socketpair with main: one request, one answer. Waiting
 * for main is short by design (it never waits itself), so a call simply
 * blocks; a main that does not answer within WEFT_LINK_TIMEOUT_S is reported
 * and the link is given up. Records that arrive meanwhile go to `records`.
 */
#ifndef WEFT_AGENT_LINK_H
#define WEFT_AGENT_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "weft/abi/role.h"

#define WEFT_LINK_TIMEOUT_S 20

struct weft_link {
	int sock; /* -1: main is not there */
	__u32 serial;
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

/* What came unasked. 0, or -errno of the last three above with the socket closed. */
int weft_link_receive(struct weft_link *link, struct weft_err *err);

#endif
