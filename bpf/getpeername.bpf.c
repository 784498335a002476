/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * getpeername(2): an application sees the address that it asked for.
 *
 * The peer is compared with the endpoint in storage, because storage may be
 * of a connect() that failed while the socket kept the peer of an earlier one.
 *
 * There is no getsockname hook: the source address of a translated connection
 * is chosen by routing towards the endpoint and is really the socket's own.
 */
#include "lib/hook.h"
#include "maps/state.h"
#include "weft/abi/proxy.h"

static __always_inline bool weft_getpeername(struct bpf_sock_addr *ctx, struct weft_frontend_key *peer)
{
	struct weft_sock *sock;

	if (!ctx->sk)
		return false;
	sock = bpf_sk_storage_get(&weft_sock, ctx->sk, NULL, 0);
	if (!sock || !(sock->flags & WEFT_SOCK_F_TRANSLATED))
		return false;
	if (sock->flags & WEFT_SOCK_F_SECURE ? peer->port != bpf_htons(WEFT_PORT_OUTBOUND)
					     : sock->endpoint_port != peer->port || !weft_addr_equal(&sock->endpoint_addr, &peer->addr))
		return false;
	peer->addr = sock->frontend;
	peer->port = sock->frontend_port;
	return true;
}

SEC("cgroup/getpeername4")
int weft_getpeername4(struct bpf_sock_addr *ctx)
{
	struct weft_frontend_key peer;

	weft_hook_read4(ctx, &peer);
	if (weft_getpeername(ctx, &peer))
		weft_hook_write4(ctx, &peer);
	return 1;
}

SEC("cgroup/getpeername6")
int weft_getpeername6(struct bpf_sock_addr *ctx)
{
	struct weft_frontend_key peer;

	weft_hook_read6(ctx, &peer);
	if (weft_getpeername(ctx, &peer))
		weft_hook_write6(ctx, &peer);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
