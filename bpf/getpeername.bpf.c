/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * getpeername(2): an application sees the address that it asked for.
 *
 * The peer is compared with the endpoint in storage, because storage may be
 * of a connect() that failed while the socket kept the peer of an earlier one.
 *
 * The agent asks for the peer of a captured connection when its tunnel is open, and not before: that is how the application's
 * socket, the other end of that connection, gets to be counted as one in mutual TLS. No other program of ours that may look sockets up
 * runs on the agent's behalf.
 *
 * There is no getsockname hook: the source address of a translated connection
 * is chosen by routing towards the endpoint and is really the socket's own.
 */
#include "lib/hook.h"
#include "maps/state.h"
#include "weft/abi/proxy.h"

static __always_inline void weft_getpeername_tunnelled(struct bpf_sock_addr *ctx, const struct weft_frontend_key *app)
{
	/* Both ends have the pod's address (lib/attest.h); the tuple is that of a segment on its way to the application. */
	struct bpf_sock_tuple tuple = {};
	struct weft_sock *sock;
	struct bpf_sock *sk;

	if (weft_addr_is_v4(&app->addr)) {
		tuple.ipv4.saddr = tuple.ipv4.daddr = app->addr.w[3];
		tuple.ipv4.sport = bpf_htons(WEFT_PORT_OUTBOUND);
		tuple.ipv4.dport = app->port;
		sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		for (int i = 0; i < 4; i++)
			tuple.ipv6.saddr[i] = tuple.ipv6.daddr[i] = app->addr.w[i];
		tuple.ipv6.sport = bpf_htons(WEFT_PORT_OUTBOUND);
		tuple.ipv6.dport = app->port;
		sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return; /* the application has gone */
	sock = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);
	if (sock && (sock->flags & (WEFT_SOCK_F_AGENT | WEFT_SOCK_F_SECURE)) == WEFT_SOCK_F_SECURE)
		sock->tunnelled = 1;
	bpf_sk_release(sk);
}

static __always_inline bool weft_getpeername(struct bpf_sock_addr *ctx, struct weft_frontend_key *peer)
{
	struct weft_sock *sock;

	if (!ctx->sk)
		return false;
	sock = bpf_sk_storage_get(&weft_sock, ctx->sk, NULL, 0);
	if (!sock)
		return false;
	if ((sock->flags & (WEFT_SOCK_F_AGENT | WEFT_SOCK_F_SECURE)) == (WEFT_SOCK_F_AGENT | WEFT_SOCK_F_SECURE)) {
		weft_getpeername_tunnelled(ctx, peer);
		return false;
	}
	if (!(sock->flags & WEFT_SOCK_F_TRANSLATED))
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
