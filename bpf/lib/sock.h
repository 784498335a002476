/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a connected socket holds: made at connect(), let go of at release, CLOSE
 * or the next connect(), whichever is first.
 */
#ifndef WEFT_LIB_SOCK_H
#define WEFT_LIB_SOCK_H

#include "lib/event.h"
#include "lib/report.h"

/* A UDP association that ends: counted, and told to watchers. The socket's storage is the only witness. */
static __always_inline void weft_sock_report_udp(const struct weft_setting *setting, const struct weft_sock *sock)
{
	struct weft_aggregate_key key;
	struct weft_event *event;
	__u64 duration_ns = bpf_ktime_get_ns() - sock->start_ns;

	if (setting->flags & WEFT_SETTING_F_METRICS) {
		weft_report_key(&key, sock, WEFT_OUTCOME_CLOSED);
		weft_report_association(&key, duration_ns);
	}
	event = weft_event_begin(setting, WEFT_EVENT_ENDED);
	if (event) {
		weft_event_set_sock(event, sock);
		event->remote = sock->endpoint_addr;
		event->remote_port = sock->endpoint_port;
		event->outcome = WEFT_OUTCOME_CLOSED;
		event->duration_ns = duration_ns;
		bpf_ringbuf_submit(event, 0);
	}
}

/*
 * Everything that the storage still holds, given back; the storage itself is the
 * caller's to delete or to leave to the socket's end. TCP that sockops has
 * seen is left alone: the connection may outlive the descriptor, and its CLOSE gives back.
 */
static __always_inline void weft_sock_let_go(struct weft_sock *sock)
{
	struct weft_setting *setting = weft_setting_get();

	if ((sock->flags & (WEFT_SOCK_F_STARTED | WEFT_SOCK_F_CLOSED)) || !setting)
		return;
	weft_live_give_back(sock->endpoint, &sock->epoch);
	if (sock->protocol == IPPROTO_UDP)
		weft_sock_report_udp(setting, sock);
	sock->flags |= WEFT_SOCK_F_CLOSED;
}

#endif
