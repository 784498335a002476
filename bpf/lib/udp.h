/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Associations of an unconnected UDP socket: a handful of frontends that it
 * talks to and the endpoint of each. One lasts while it is used; idle ones are
 * let go of when their place is needed or the socket ends, so that no timer is needed.
 */
#ifndef WEFT_LIB_UDP_H
#define WEFT_LIB_UDP_H

#include "lib/event.h"
#include "lib/report.h"
#include "lib/service.h"

/* Twice what conntrack keeps an unanswered UDP flow by default: a client's pause does not move it to another server. */
#define WEFT_UDP_IDLE_NS (60 * 1000000000ull)

static __always_inline void weft_udp_event(const struct weft_setting *setting, __u8 type,
					   const struct weft_udp_entry *entry, __u64 cookie, __u64 netns,
					   __u32 workload, __u32 peer)
{
	struct weft_event *event = weft_event_begin(setting, type);

	if (!event)
		return;
	event->cookie = cookie;
	event->netns = netns;
	event->remote = entry->endpoint_addr;
	event->remote_port = entry->endpoint_port;
	event->frontend = entry->frontend;
	event->frontend_port = entry->frontend_port;
	event->protocol = IPPROTO_UDP;
	event->role = WEFT_ROLE_CLIENT;
	event->outcome = type == WEFT_EVENT_ENDED ? WEFT_OUTCOME_CLOSED : WEFT_OUTCOME_OPEN;
	event->service = entry->service;
	event->endpoint = entry->endpoint;
	event->workload = workload;
	event->peer = peer;
	bpf_ringbuf_submit(event, 0);
}

/* Ends an association: live count, aggregate, record. The entry is free afterwards. */
static __always_inline void weft_udp_let_go(const struct weft_setting *setting, struct weft_udp_entry *entry,
					    __u64 cookie, __u64 netns, __u32 workload)
{
	__u32 index = WEFT_ENDPOINT_INDEX(entry->endpoint);
	struct weft_endpoint *endpoint = bpf_map_lookup_elem(&weft_endpoint, &index);
	__u32 peer =
		endpoint && endpoint->id == entry->endpoint ? endpoint->workload : 0; /* even if it is gone by now */
	struct weft_aggregate_key key = {
		.source = workload,
		.service = entry->service,
		.destination = peer,
		.reporter = WEFT_REPORTER_SOURCE,
		.outcome = WEFT_OUTCOME_CLOSED,
		.protocol = IPPROTO_UDP,
	};

	weft_live_give_back(entry->endpoint, &entry->epoch);
	if (setting->flags & WEFT_SETTING_F_METRICS)
		weft_report_association(&key, 0);
	weft_udp_event(setting, WEFT_EVENT_ENDED, entry, cookie, netns, workload, peer);
	entry->endpoint = 0;
}

#endif
