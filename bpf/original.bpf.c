/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * getsockopt(SOL_IP, SO_ORIGINAL_DST) of the agent on a connection that it accepted: where the application wanted to go.
 * The kernel's own answer to that question is a sockaddr out of connection tracking, so that the size tells who asks: ours is
 * struct weft_original. Attached to the agent's cgroup; everything that is not exactly this is left as the kernel answered it.
 */
#include "maps/state.h"

#define WEFT_SOL_IP 0
#define WEFT_SO_ORIGINAL_DST 80

SEC("cgroup/getsockopt")
int weft_original(struct bpf_sockopt *ctx)
{
	const __u32 captured = WEFT_SOCK_F_AGENT | WEFT_SOCK_F_SECURE;
	struct weft_original *answer = ctx->optval;
	struct weft_sock *sock;

	if (ctx->level != WEFT_SOL_IP || ctx->optname != WEFT_SO_ORIGINAL_DST || ctx->optlen != sizeof(*answer) || !ctx->sk ||
	    (void *)(answer + 1) > ctx->optval_end)
		return 1;
	sock = bpf_sk_storage_get(&weft_sock, ctx->sk, NULL, 0);
	if (!sock || (sock->flags & captured) != captured)
		return 1;
	answer->frontend = sock->frontend;
	answer->endpoint_addr = sock->endpoint_addr;
	answer->frontend_port = sock->frontend_port;
	answer->endpoint_port = sock->endpoint_port;
	answer->service = sock->service;
	answer->endpoint = sock->endpoint;
	answer->workload = sock->workload;
	answer->peer = sock->peer;
	answer->pad = 0;
	answer->netns = sock->netns;
	answer->cookie = sock->cookie;
	ctx->retval = 0;
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
