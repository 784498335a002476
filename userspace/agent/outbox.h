/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What init has for one role, or main for init, in order, while the channel is
 * full: a role that is slow or stopped must lose nothing and nobody may wait for it.
 * A later word on the same thing takes the place of the earlier one, so that a
 * role which never reads costs no more than there are things to be said.
 */
#ifndef WEFT_AGENT_OUTBOX_H
#define WEFT_AGENT_OUTBOX_H

#include <stddef.h>

#include "agent/roles.h"

struct weft_outbox_item {
	struct weft_init_message message;
	int fd; /* our own, or -1 */
};

struct weft_outbox {
	struct weft_outbox_item *item;
	size_t count;
	size_t room;
};

/*
 * Sends, or keeps it to be sent; `fd` stays the caller's. 1: something is waiting now, call weft_outbox_flush() when
 * `channel` can be written to. Else 0, or -errno: it could be neither sent nor kept (-EPIPE, -ECONNRESET: the role is gone).
 */
int weft_outbox_send(struct weft_outbox *box, int channel, const struct weft_init_message *message, int fd);
/* 1: still something waiting; 0; or -errno as above. */
int weft_outbox_flush(struct weft_outbox *box, int channel);
void weft_outbox_done(struct weft_outbox *box);

#endif
