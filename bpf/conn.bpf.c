/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every connected socket that weft remembers, as an array of struct weft_conn: of all network namespaces, or (..._here) of
 * the one of the thread that reads, for kernels on which the storage of sockets may not be walked over (WEFT_FEATURE_SOCK_STORAGE_ITER).
 */
#include "lib/tcp.h"
#include "maps/state.h"

static __always_inline __u64 weft_conn_netns(const struct net *net)
{
	if (bpf_core_field_exists(net->net_cookie))
		return net->net_cookie;
	return ((const struct net___before_5_12 *)net)->net_cookie.counter;
}

static __always_inline void weft_conn_show(struct seq_file *seq, struct sock *sk, struct tcp_sock *tp, const struct weft_sock *sock)
{
	struct weft_frontend_key local, remote;
	struct weft_conn conn = {};

	if (sock->flags & (WEFT_SOCK_F_CLOSED | WEFT_SOCK_F_AGENT))
		return;
	weft_tcp_ends(&sk->__sk_common, &local, &remote);
	conn.cookie = sock->cookie;
	conn.netns = weft_conn_netns(sk->__sk_common.skc_net.net);
	conn.netns_inode = sk->__sk_common.skc_net.net->ns.inum;
	conn.start_ns = sock->start_ns;
	conn.established_ns = sock->established_ns;
	conn.local = local.addr;
	conn.local_port = local.port;
	conn.remote = remote.addr;
	conn.remote_port = remote.port;
	if (sock->flags & WEFT_SOCK_F_TRANSLATED) {
		conn.frontend = sock->frontend;
		conn.frontend_port = sock->frontend_port;
	}
	conn.protocol = sock->protocol;
	conn.role = sock->role;
	conn.state = sk->__sk_common.skc_state;
	conn.family = sk->__sk_common.skc_family;
	conn.service = sock->service;
	conn.endpoint = sock->endpoint;
	conn.workload = sock->workload;
	conn.peer = sock->peer;
	conn.flags = sock->flags | (sock->epoch ? WEFT_SOCK_F_COUNTED : 0) | (sock->tunnelled ? WEFT_SOCK_F_TUNNELLED : 0);
	if (tp) {
		weft_tcp_payload(tp, conn.state, sock->flags, &conn.sent, &conn.received);
		conn.srtt_us = tp->srtt_us >> 3;
		conn.min_rtt_us = tp->rtt_min.s[0].v;
		conn.retransmits = tp->total_retrans;
	}
	bpf_seq_write(seq, &conn, sizeof(conn));
}

SEC("iter/bpf_sk_storage_map")
int weft_conn(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct weft_sock *sock = ctx->value;
	struct sock *sk = ctx->sk;

	if (sk && sock)
		weft_conn_show(ctx->meta->seq, sk, sock->protocol == IPPROTO_TCP ? bpf_skc_to_tcp_sock(sk) : NULL, sock);
	return 0;
}

SEC("iter/tcp")
int weft_conn_tcp_here(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	/* Nothing for what is half a socket only: a SYN without its ACK, TIME_WAIT. */
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	struct weft_sock *sock = tp ? bpf_sk_storage_get(&weft_sock, tp, NULL, 0) : NULL;

	if (sock)
		weft_conn_show(ctx->meta->seq, (struct sock *)tp, tp, sock);
	return 0;
}

SEC("iter/udp")
int weft_conn_udp_here(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;
	struct weft_sock *sock = sk ? bpf_sk_storage_get(&weft_sock, sk, NULL, 0) : NULL;

	if (sock)
		weft_conn_show(ctx->meta->seq, (struct sock *)sk, NULL, sock);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
