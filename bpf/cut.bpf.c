/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Destroys the sockets of one network namespace (that of the thread that reads
 * the iterator) whose stored endpoint, or cookie, is in weft_doomed. The stored id is
 * compared and not the address, so no other socket can be hit; and the socket must still be what the storage
 * says: a UDP socket may have been disconnected, or its last connect() have failed, and serve others by now.
 *
 * Off by default: bpf_sock_destroy is Linux 6.5. Without it userspace does the same by SOCK_DESTROY.
 */
#include "lib/tcp.h"
#include "maps/control.h"
#include "maps/state.h"

extern int bpf_sock_destroy(struct sock_common *sk) __weak __ksym;

__u64 weft_cut_count; /* sockets destroyed since load */

static __always_inline bool weft_cut_doomed(const struct weft_sock *sock, const struct sock_common *sk)
{
	struct weft_frontend_key local, remote;
	__u64 endpoint;

	if (!sock || !sock->endpoint || sock->role != WEFT_ROLE_CLIENT || (sock->flags & WEFT_SOCK_F_CLOSED))
		return false;
	weft_tcp_ends(sk, &local, &remote);
	/* In the secure lane the peer is the agent, and the socket TCP, whose storage is of the peer that it has. */
	if ((!(sock->flags & WEFT_SOCK_F_SECURE) &&
	     (remote.port != sock->endpoint_port || !weft_addr_equal(&remote.addr, &sock->endpoint_addr))) ||
	    (sock->protocol == IPPROTO_UDP && sk->skc_state != WEFT_TCP_ESTABLISHED))
		return false;
	endpoint = sock->endpoint;
	return bpf_map_lookup_elem(&weft_doomed, &endpoint);
}

SEC("?iter/tcp")
int weft_cut_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct tcp_sock *tp;

	/*
	 * The family is asked for also because clang describes a type in full only where a
	 * member is used, and libbpf takes the kernel function only with its parameter's type in full.
	 */
	if (!sk || (sk->skc_family != AF_INET && sk->skc_family != AF_INET6))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && weft_cut_doomed(bpf_sk_storage_get(&weft_sock, tp, NULL, 0), sk) && !bpf_sock_destroy(sk))
		__sync_fetch_and_add(&weft_cut_count, 1);
	return 0;
}

/* Named by their cookies: connections that a policy has come to deny. */
SEC("?iter/tcp")
int weft_cut_cookie(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct weft_sock *sock;
	struct tcp_sock *tp;
	__u64 cookie;

	if (!sk || (sk->skc_family != AF_INET && sk->skc_family != AF_INET6))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	sock = tp ? bpf_sk_storage_get(&weft_sock, tp, NULL, 0) : NULL;
	if (!sock || (sock->flags & (WEFT_SOCK_F_CLOSED | WEFT_SOCK_F_AGENT)))
		return 0;
	cookie = sock->cookie;
	if (bpf_map_lookup_elem(&weft_doomed, &cookie) && !bpf_sock_destroy(sk))
		__sync_fetch_and_add(&weft_cut_count, 1);
	return 0;
}

SEC("?iter/udp")
int weft_cut_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;

	if (sk && weft_cut_doomed(bpf_sk_storage_get(&weft_sock, sk, NULL, 0), &sk->inet.sk.__sk_common) &&
	    !bpf_sock_destroy((struct sock_common *)sk))
		__sync_fetch_and_add(&weft_cut_count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
