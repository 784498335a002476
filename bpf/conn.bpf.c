/* SPDX-License-Identifier: GPL-2.0-only */
/* Every connected socket that weft remembers, of all network namespaces, as an array of struct weft_conn. */
#include "lib/tcp.h"
#include "maps/state.h"

static __always_inline __u64 weft_conn_netns(const struct net *net)
{
	if (bpf_core_field_exists(net->net_cookie))
		return net->net_cookie;
	return ((const struct net___before_5_12 *)net)->net_cookie.counter;
}

SEC("iter/bpf_sk_storage_map")
int weft_conn(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct weft_frontend_key local, remote;
	struct weft_sock *sock = ctx->value;
	struct sock *sk = ctx->sk;
	struct weft_conn conn = {};
	struct tcp_sock *tp;

	if (!sk || !sock || (sock->flags & (WEFT_SOCK_F_CLOSED | WEFT_SOCK_F_AGENT)))
		return 0;
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
	tp = sock->protocol == IPPROTO_TCP ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (tp) {
		weft_tcp_payload(tp, conn.state, sock->flags, &conn.sent, &conn.received);
		conn.srtt_us = tp->srtt_us >> 3;
		conn.min_rtt_us = tp->rtt_min.s[0].v;
		conn.retransmits = tp->total_retrans;
	}
	bpf_seq_write(ctx->meta->seq, &conn, sizeof(conn));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
