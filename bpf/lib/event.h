/* SPDX-License-Identifier: GPL-2.0-only */
/* Records for watchers. Nobody watching costs one load; a full ring costs the record and counts it. */
#ifndef WEFT_LIB_EVENT_H
#define WEFT_LIB_EVENT_H

#include "lib/count.h"
#include "lib/live.h"

/* NULL: nobody watches, or no room. What is returned is zeroed but for type and time, and must be submitted. */
static __always_inline struct weft_event *weft_event_begin(const struct weft_setting *setting, __u8 type)
{
	struct weft_event *event;

	if (!setting->watchers)
		return NULL;
	event = bpf_ringbuf_reserve(&weft_event, sizeof(*event), 0);
	if (!event) {
		weft_count(WEFT_COUNTER_EVENT_LOST);
		return NULL;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->type = type;
	event->time_ns = bpf_ktime_get_ns();
	return event;
}

/* What a socket's storage knows of its connection. The ends' addresses are the caller's. */
static __always_inline void weft_event_set_sock(struct weft_event *event, const struct weft_sock *sock)
{
	event->cookie = sock->cookie;
	event->netns = sock->netns;
	if (sock->flags & WEFT_SOCK_F_TRANSLATED) {
		event->frontend = sock->frontend;
		event->frontend_port = sock->frontend_port;
	}
	event->protocol = sock->protocol;
	event->role = sock->role;
	event->service = sock->service;
	event->endpoint = sock->endpoint;
	event->workload = sock->workload;
	event->peer = sock->peer;
}

#endif
