/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"

static bool about_kept(uint32_t type)
{
	return type == WEFT_INIT_KEPT || type == WEFT_INIT_DROPPED || type == WEFT_INIT_KEEP || type == WEFT_INIT_DROP;
}

static bool same_thing(const struct weft_init_message *a, const struct weft_init_message *b)
{
	if (about_kept(a->type) && about_kept(b->type))
		return a->kept.netns == b->kept.netns && a->kept.port == b->kept.port && a->kept.family == b->kept.family;
	return a->type == b->type && (a->type != WEFT_INIT_LINK || (a->link == b->link && a->proxy == b->proxy));
}

static int put(struct weft_outbox *box, const struct weft_init_message *message, int fd)
{
	weft_close_on_exit int mine = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, WEFT_FD_END_);
	int r;

	if (fd >= 0 && mine < 0)
		return -errno;
	for (size_t i = 0; i < box->count; i++)
		if (same_thing(&box->item[i].message, message)) {
			/* A KEEP without a descriptor is about the one before it, which has not been sent yet. */
			if (message->type == WEFT_INIT_KEEP && box->item[i].message.type == WEFT_INIT_KEEP && mine < 0)
				mine = weft_take_fd(box->item[i].fd);
			weft_closep(&box->item[i].fd);
			box->item[i] = (struct weft_outbox_item){ *message, weft_take_fd(mine) };
			return 1;
		}
	r = weft_grow(&box->item, &box->room, box->count + 1, sizeof(*box->item));
	if (r < 0)
		return r;
	box->item[box->count++] = (struct weft_outbox_item){ *message, weft_take_fd(mine) };
	return 1;
}

int weft_outbox_send(struct weft_outbox *box, int channel, const struct weft_init_message *message, int fd)
{
	int r = box->count ? -EAGAIN : weft_init_send(channel, message, fd);

	return r == -EAGAIN ? put(box, message, fd) : r;
}

int weft_outbox_flush(struct weft_outbox *box, int channel)
{
	size_t sent = 0;
	int r = 0;

	while (r == 0 && sent < box->count) {
		r = weft_init_send(channel, &box->item[sent].message, box->item[sent].fd);
		if (r == 0)
			weft_closep(&box->item[sent++].fd);
	}
	if (sent)
		memmove(box->item, box->item + sent, (box->count - sent) * sizeof(*box->item));
	box->count -= sent;
	return r == -EAGAIN ? 1 : r;
}

void weft_outbox_done(struct weft_outbox *box)
{
	for (size_t i = 0; i < box->count; i++)
		weft_closep(&box->item[i].fd);
	free(box->item);
	*box = (struct weft_outbox){ 0 };
}
