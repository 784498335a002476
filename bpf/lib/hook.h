/* SPDX-License-Identifier: GPL-2.0-only */
/* What the sock_addr hooks share: reading the address asked for, and the one place that makes verdicts. */
#ifndef WEFT_LIB_HOOK_H
#define WEFT_LIB_HOOK_H

#include "lib/addr.h"
#include "lib/config.h"
#include "lib/event.h"

/*
 * IPPROTO_TCP or IPPROTO_UDP, 0 for sockets that are left alone: raw ones (which
 * may be of protocol TCP), ping sockets, UDP-Lite, SCTP. Multipath TCP connects as TCP would.
 */
static __always_inline __u8 weft_hook_protocol(struct bpf_sock_addr *ctx)
{
	if (ctx->type == SOCK_STREAM && (ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_MPTCP))
		return IPPROTO_TCP;
	if (ctx->type == SOCK_DGRAM && ctx->protocol == IPPROTO_UDP)
		return IPPROTO_UDP;
	return 0;
}

/* The compiler must not fold both families' loads into one from a computed context pointer: hence one reader each. */
static __always_inline void weft_hook_read4(struct bpf_sock_addr *ctx, struct weft_frontend_key *ret_asked)
{
	weft_addr_set_v4(&ret_asked->addr, ctx->user_ip4);
	ret_asked->port = ctx->user_port;
	ret_asked->protocol = weft_hook_protocol(ctx);
	ret_asked->pad = 0;
}

static __always_inline void weft_hook_read6(struct bpf_sock_addr *ctx, struct weft_frontend_key *ret_asked)
{
	ret_asked->addr.w[0] = ctx->user_ip6[0];
	ret_asked->addr.w[1] = ctx->user_ip6[1];
	ret_asked->addr.w[2] = ctx->user_ip6[2];
	ret_asked->addr.w[3] = ctx->user_ip6[3];
	ret_asked->port = ctx->user_port;
	ret_asked->protocol = weft_hook_protocol(ctx);
	ret_asked->pad = 0;
}

static __always_inline void weft_hook_write4(struct bpf_sock_addr *ctx, const struct weft_frontend_key *to)
{
	ctx->user_ip4 = to->addr.w[3];
	ctx->user_port = to->port;
}

/* A v4-mapped address stays one: its first three words are the same before and after. */
static __always_inline void weft_hook_write6(struct bpf_sock_addr *ctx, const struct weft_frontend_key *to)
{
	ctx->user_ip6[0] = to->addr.w[0];
	ctx->user_ip6[1] = to->addr.w[1];
	ctx->user_ip6[2] = to->addr.w[2];
	ctx->user_ip6[3] = to->addr.w[3];
	ctx->user_port = to->port;
}

/*
 * From what an inner function returned (0 or a reason) to what the kernel is
 * told: 1 go on, 0 fail. The only place that counts reasons and tells watchers of refusals.
 */
static __always_inline int weft_hook_verdict(struct bpf_sock_addr *ctx, const struct weft_frontend_key *asked,
					     int reason)
{
	__u32 counter = WEFT_REASON_COUNTER(reason);
	struct weft_setting *setting;
	struct weft_event *event;

	if (reason >= 0)
		return 1;
	weft_count(counter);
	if (!weft_counter_refuses(counter))
		return 1;
	setting = weft_setting_get();
	event = setting ? weft_event_begin(setting, WEFT_EVENT_REFUSED) : NULL;
	if (event) {
		event->cookie = bpf_get_socket_cookie(ctx);
		event->netns = bpf_get_netns_cookie(ctx);
		event->remote = asked->addr;
		event->remote_port = asked->port;
		event->protocol = asked->protocol;
		event->role = WEFT_ROLE_CLIENT;
		event->outcome = counter;
		bpf_ringbuf_submit(event, 0);
	}
	if (weft_config_set_retval)
		bpf_set_retval(-ECONNREFUSED);
	return 0;
}

#endif
