/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A TCP connection's life as the kernel tells it, on both sides.
 *
 *   TCP_CONNECT ............. the SYN is about to leave: counted from here on, until CLOSE gives it back. In the secure lane, what
 *                             the other end of the SYN needs to know is written down (lib/attest.h)
 *   ACTIVE_ESTABLISHED ...... the client's handshake is done
 *   PASSIVE_ESTABLISHED ..... a server has a new connection
 *   STATE, to CLOSE ......... the end, once a connection, however it ends
 *
 * Every other call returns at once. Nothing is asked for that comes with packets (RTT, RETRANS, headers).
 */
#include "lib/attest.h"
#include "lib/config.h"
#include "lib/event.h"
#include "lib/report.h"
#include "lib/settle.h"
#include "lib/tcp.h"
#include "weft/abi/proxy.h"

/* Outcome of an attempt that never was established. */
static __always_inline __u8 weft_outcome_attempt(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return WEFT_OUTCOME_REFUSED;
	case 0: /* closed by the application */
	case ECONNABORTED: /* destroyed from outside: cut */
		return WEFT_OUTCOME_ABANDONED;
	default:
		/* ETIMEDOUT, and what routers report when nobody answers (EHOSTUNREACH, ENETUNREACH). */
		return WEFT_OUTCOME_TIMED_OUT;
	}
}

/*
 * Outcome of an established connection that leaves `state` for CLOSE: without our FIN
 * acknowledged, or with an error (giving up after retransmissions included), it was not closed but cut off.
 */
static __always_inline __u8 weft_outcome_established(const struct tcp_sock *tp, __u8 state, int error)
{
	if (error || !weft_tcp_fin_acked(tp, state))
		return WEFT_OUTCOME_RESET;
	return WEFT_OUTCOME_CLOSED;
}

static __always_inline __u32 weft_sockops_workload_at(const struct weft_addr *addr)
{
	__u32 *workload = bpf_map_lookup_elem(&weft_workload_at, addr);

	return workload ? *workload : 0;
}

/* Our own workload: by network namespace where that can be asked, else by address. */
static __always_inline __u32 weft_sockops_workload(const struct weft_sock *sock, const struct weft_addr *local)
{
	__u64 netns = sock->netns;
	struct weft_pod *pod = netns ? bpf_map_lookup_elem(&weft_pod, &netns) : NULL;

	return pod && pod->workload ? pod->workload : weft_sockops_workload_at(local);
}

/* Storage for a connection that connect() had no reason to remember, or that a server accepted. */
static __always_inline struct weft_sock *weft_sockops_new(struct bpf_sock_ops *ctx, struct bpf_sock *sk, __u8 role,
							  __u64 start_ns, const struct weft_frontend_key *local,
							  const struct weft_frontend_key *remote)
{
	struct weft_endpoint_at *served;
	struct weft_sock *sock;

	if (weft_addr_is_loopback(&remote->addr))
		return NULL;
	sock = bpf_sk_storage_get(&weft_sock, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!sock) {
		weft_count(WEFT_COUNTER_SOCK_STORAGE_FULL);
		return NULL;
	}
	sock->protocol = IPPROTO_TCP;
	sock->role = role;
	sock->cookie = bpf_get_socket_cookie(ctx);
	if (weft_config_sockops_netns)
		sock->netns = bpf_get_netns_cookie(ctx);
	sock->start_ns = start_ns;
	sock->workload = weft_sockops_workload(sock, &local->addr);
	sock->peer = weft_sockops_workload_at(&remote->addr);
	if (role == WEFT_ROLE_SERVER) {
		served = bpf_map_lookup_elem(&weft_endpoint_at, local);
		if (served)
			sock->service = served->service;
	}
	return sock;
}

/* Ends, quality and bytes of a connection, in its record. */
static __always_inline void weft_sockops_event(const struct weft_setting *setting, const struct weft_sock *sock,
					       const struct tcp_sock *tp, __u8 type, __u8 outcome, __u64 sent,
					       __u64 received, __u64 now)
{
	struct weft_event *event = weft_event_begin(setting, type);
	struct weft_frontend_key local, remote;

	if (!event)
		return;
	weft_event_set_sock(event, sock);
	weft_tcp_ends(&tp->inet_conn.icsk_inet.sk.__sk_common, &local, &remote);
	event->local = local.addr;
	event->local_port = local.port;
	event->remote = sock->flags & WEFT_SOCK_F_SECURE ? sock->endpoint_addr : remote.addr;
	event->remote_port = sock->flags & WEFT_SOCK_F_SECURE ? sock->endpoint_port : remote.port;
	event->outcome = outcome;
	event->srtt_us = tp->srtt_us >> 3;
	event->min_rtt_us = tp->rtt_min.s[0].v;
	event->retransmits = tp->total_retrans;
	event->sent = sent;
	event->received = received;
	if (sock->established_ns) {
		event->connect_ns = sock->role == WEFT_ROLE_CLIENT ? sock->established_ns - sock->start_ns : 0;
		event->duration_ns = type == WEFT_EVENT_ENDED ? now - sock->established_ns : 0;
	} else {
		event->duration_ns = now - sock->start_ns;
	}
	bpf_ringbuf_submit(event, 0);
}

/* The agent's own socket: not counted. One that it sends into its pod, as the client that it carries, is known there. */
static __always_inline void weft_sockops_agent(struct bpf_sock_ops *ctx, const struct tcp_sock *tp, const struct weft_sock *sock)
{
	struct weft_frontend_key local = {}, remote = {};
	struct weft_capture *capture;

	weft_tcp_ends(&tp->inet_conn.icsk_inet.sk.__sk_common, &local, &remote);
	capture = weft_attest_pod(sock->netns, &remote.addr);
	if (!capture || bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG))
		return;
	weft_attest_put(&local, &remote, sock->netns, capture->workload, WEFT_ATTESTED_F_AGENT);
}

/* What the SYN of a connection in the secure lane leaves behind; without an entry it is met as any plaintext. */
static __always_inline void weft_sockops_secure(struct weft_sock *sock, const struct weft_frontend_key *local,
						const struct weft_frontend_key *remote)
{
	struct weft_capture *capture;

	if (sock->flags & WEFT_SOCK_F_SECURE) {
		weft_captured_put(sock, local, remote);
		return;
	}
	capture = weft_attest_pod(sock->netns, &local->addr);
	if (!capture || !weft_attest_put(local, remote, sock->netns, capture->workload, 0))
		sock->flags &= ~WEFT_SOCK_F_ATTESTED;
}

static __always_inline void weft_sockops_connect(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
						 const struct tcp_sock *tp, const struct weft_setting *setting)
{
	struct weft_sock *sock = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);
	struct weft_frontend_key local = { .protocol = IPPROTO_TCP }, remote = {};
	bool secure;

	if (!sock && !(setting->flags & WEFT_SETTING_F_METRICS))
		return;
	if (sock && (sock->flags & WEFT_SOCK_F_AGENT)) {
		weft_sockops_agent(ctx, tp, sock);
		return;
	}
	secure = sock && (sock->flags & (WEFT_SOCK_F_SECURE | WEFT_SOCK_F_ATTESTED));
	if (!sock || !sock->workload || secure)
		weft_tcp_ends(&tp->inet_conn.icsk_inet.sk.__sk_common, &local, &remote);
	if (!sock)
		sock = weft_sockops_new(ctx, sk, WEFT_ROLE_CLIENT, bpf_ktime_get_ns(), &local, &remote);
	else if (!sock->workload)
		sock->workload = weft_sockops_workload_at(&local.addr);
	if (!sock)
		return;
	/* In this order: what is counted is given back by the CLOSE that only STATE_CB brings. */
	if (bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG))
		return;
	sock->flags |= WEFT_SOCK_F_STARTED;
	if (sock->endpoint && !sock->epoch)
		weft_live_take(setting, sock->endpoint, &sock->epoch);
	if (secure)
		weft_sockops_secure(sock, &local, &remote);
}

/* The agent's end of a captured connection: where it wanted to go is from here on in this socket, and dies with it. */
static __always_inline void weft_sockops_captured(struct bpf_sock *sk, const struct weft_frontend_key *remote)
{
	struct weft_original *original;
	struct weft_captured_key key;
	struct weft_sock *sock;

	weft_captured_key(&key, remote);
	original = bpf_map_lookup_elem(&weft_captured, &key);
	if (!original)
		return;
	sock = bpf_sk_storage_get(&weft_sock, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!sock) {
		weft_count(WEFT_COUNTER_SOCK_STORAGE_FULL);
		return;
	}
	sock->frontend = original->frontend;
	sock->frontend_port = original->frontend_port;
	sock->endpoint_addr = original->endpoint_addr;
	sock->endpoint_port = original->endpoint_port;
	sock->service = original->service;
	sock->endpoint = original->endpoint;
	sock->workload = original->workload;
	sock->peer = original->peer;
	sock->netns = original->netns;
	sock->cookie = original->cookie;
	sock->protocol = IPPROTO_TCP;
	sock->role = WEFT_ROLE_SERVER;
	sock->flags = WEFT_SOCK_F_AGENT | WEFT_SOCK_F_SECURE;
	bpf_map_delete_elem(&weft_captured, &key);
}

/*
 * A server has a new connection: what its SYN left has served. Not before: with SYN cookies the client's ACK is met like a
 * SYN. True: the server is the agent, whose connections are nobody's.
 */
static __always_inline bool weft_sockops_accepted(struct bpf_sock *sk, const struct tcp_sock *tp, bool *ret_tunnelled, bool *ret_attested)
{
	struct weft_attested *attested;
	struct weft_attest_key key;
	struct weft_frontend_key local = {}, remote = {};
	struct weft_workload *row;
	__u32 workload;

	weft_tcp_ends(&tp->inet_conn.icsk_inet.sk.__sk_common, &local, &remote);
	if (local.port != bpf_htons(WEFT_PORT_OUTBOUND) && local.port != bpf_htons(WEFT_PORT_HBONE)) {
		weft_attest_key(&key, &remote, &local);
		attested = bpf_map_lookup_elem(&weft_attest, &key);
		if (!attested)
			return false;
		*ret_tunnelled = attested->flags & WEFT_ATTESTED_F_AGENT;
		*ret_attested = !*ret_tunnelled;
		bpf_map_delete_elem(&weft_attest, &key);
		return false;
	}
	if (local.port == bpf_htons(WEFT_PORT_OUTBOUND) && weft_addr_equal(&local.addr, &remote.addr))
		weft_sockops_captured(sk, &remote);
	workload = weft_sockops_workload_at(&local.addr);
	row = bpf_map_lookup_elem(&weft_workload, &workload);
	return row && (row->flags & WEFT_WORKLOAD_F_LOCAL) && (row->flags & WEFT_WORKLOAD_F_TUNNEL);
}

static __always_inline void weft_sockops_established(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
						     const struct tcp_sock *tp, const struct weft_setting *setting,
						     bool active)
{
	struct weft_sock *sock = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);
	struct weft_frontend_key local = { .protocol = IPPROTO_TCP }, remote = {};
	bool tunnelled = false, attested = false;

	if (sock && (sock->flags & WEFT_SOCK_F_AGENT))
		return;
	if (!active && !sock && (setting->flags & WEFT_SETTING_F_SECURE) && weft_sockops_accepted(sk, tp, &tunnelled, &attested))
		return;
	/* In the secure lane also where nothing is counted: who judges again what is open has no other list of it. */
	if (!active && !sock && (setting->flags & (WEFT_SETTING_F_METRICS | WEFT_SETTING_F_SECURE))) {
		weft_tcp_ends(&tp->inet_conn.icsk_inet.sk.__sk_common, &local, &remote);
		sock = weft_sockops_new(ctx, sk, WEFT_ROLE_SERVER, weft_tcp_packet_ns(tp, 1), &local, &remote);
		if (sock && bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG))
			sock = NULL;
		if (sock && tunnelled)
			sock->tunnelled = 1;
		if (sock && attested)
			sock->flags |= WEFT_SOCK_F_ATTESTED;
	}
	if (!sock)
		return;
	if (active) {
		sock->established_ns = weft_tcp_packet_ns(tp, sock->start_ns);
		sock->flags |= WEFT_SOCK_F_ESTABLISHED | WEFT_SOCK_F_PAYLOAD_ACTIVE;
	} else {
		sock->established_ns = sock->start_ns;
		sock->flags |= WEFT_SOCK_F_ESTABLISHED | WEFT_SOCK_F_STARTED;
		/* Both ends called connect() and their SYNs met: the kernel calls that passive, but the SYN was ours. */
		if (sock->role == WEFT_ROLE_CLIENT)
			sock->flags |= WEFT_SOCK_F_PAYLOAD_ACTIVE;
	}
	weft_sockops_event(setting, sock, tp, WEFT_EVENT_OPENED, WEFT_OUTCOME_OPEN, 0, 0, sock->established_ns);
}

/*
 * What is left of `final` after what flush has reported. All-ones closes the books:
 * a flush that is at it finds its expectation gone. Flush reads without the socket's lock and may
 * have taken a FIN for a byte of payload: then the surplus is taken back from the row that it went to.
 */
static __always_inline __u64 weft_sockops_rest(__u64 *reported, __u64 final, __u64 *ret_surplus)
{
	__u64 before = weft_settle_exchange(reported, ~0ull);

	*ret_surplus = before > final ? before - final : 0;
	return before > final ? 0 : final - before;
}

static __always_inline void weft_sockops_take_back(const struct weft_sock *sock, __u64 sent, __u64 received)
{
	struct weft_aggregate_key key;
	struct weft_aggregate *row;

	weft_report_key(&key, sock, WEFT_OUTCOME_OPEN);
	row = weft_report_row(&key);
	if (!row)
		return;
	__sync_fetch_and_add(&row->sent, -sent);
	__sync_fetch_and_add(&row->received, -received);
}

static __always_inline void weft_sockops_report(struct weft_sock *sock, const struct tcp_sock *tp, __u8 outcome,
						__u64 sent, __u64 received, __u64 now)
{
	bool established = sock->flags & WEFT_SOCK_F_ESTABLISHED;
	__u64 sent_surplus, received_surplus;
	struct weft_histogram *histogram;
	struct weft_aggregate_key key;
	struct weft_aggregate *row;

	sent = weft_sockops_rest(&sock->reported_sent, sent, &sent_surplus);
	received = weft_sockops_rest(&sock->reported_received, received, &received_surplus);
	if (sent_surplus || received_surplus)
		weft_sockops_take_back(sock, sent_surplus, received_surplus);

	weft_report_key(&key, sock, outcome);
	row = weft_report_row(&key);
	if (row) {
		if (established && !weft_settle_exchange(&sock->reported_flags, 1))
			__sync_fetch_and_add(&row->opened, 1);
		__sync_fetch_and_add(&row->ended, 1);
		__sync_fetch_and_add(&row->duration_ns, now - (established ? sock->established_ns : sock->start_ns));
		if (sent)
			__sync_fetch_and_add(&row->sent, sent);
		if (received)
			__sync_fetch_and_add(&row->received, received);
		if (tp->total_retrans)
			__sync_fetch_and_add(&row->retransmits, tp->total_retrans);
	}
	if (!established)
		return;
	histogram = weft_report_histogram(key.service, key.reporter);
	if (!histogram)
		return;
	if (sock->role == WEFT_ROLE_CLIENT)
		weft_report_observe(histogram->connect, &histogram->connect_us, sock->established_ns - sock->start_ns);
	weft_report_observe(histogram->duration, &histogram->duration_us, now - sock->established_ns);
	weft_report_observe(histogram->rtt, &histogram->rtt_us, (tp->srtt_us >> 3) * 1000ull);
}

/* Nobody asks any more where a connection wanted to go, or who its client is. */
static __always_inline void weft_sockops_forget(const struct tcp_sock *tp, const struct weft_sock *sock)
{
	struct weft_frontend_key local = {}, remote = {};

	weft_tcp_ends(&tp->inet_conn.icsk_inet.sk.__sk_common, &local, &remote);
	if (sock->flags & WEFT_SOCK_F_SECURE)
		weft_captured_remove(&local);
	else
		weft_attest_remove(&local, &remote);
}

static __always_inline void weft_sockops_close(struct bpf_sock *sk, const struct tcp_sock *tp,
					       const struct weft_setting *setting, __u8 state)
{
	struct weft_sock *sock = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);
	int error = tp->inet_conn.icsk_inet.sk.sk_err;
	__u64 sent, received, now;
	bool counts;
	__u8 outcome;

	if (sock && (sock->flags & (WEFT_SOCK_F_SECURE | WEFT_SOCK_F_ATTESTED | WEFT_SOCK_F_AGENT)))
		weft_sockops_forget(tp, sock);
	if (!sock || !(sock->flags & WEFT_SOCK_F_STARTED) || (sock->flags & (WEFT_SOCK_F_CLOSED | WEFT_SOCK_F_AGENT)))
		return;
	weft_live_give_back(sock->endpoint, &sock->epoch);
	/* What a flush has counted as opened is ended too, even if metrics were switched off meanwhile. */
	counts = (setting->flags & WEFT_SETTING_F_METRICS) || *(volatile __u64 *)&sock->reported_flags;
	if (setting->watchers || counts) {
		now = bpf_ktime_get_ns();
		outcome = sock->flags & WEFT_SOCK_F_ESTABLISHED ? weft_outcome_established(tp, state, error)
								: weft_outcome_attempt(error);
		weft_tcp_payload(tp, state, sock->flags, &sent, &received);
		weft_sockops_event(setting, sock, tp, WEFT_EVENT_ENDED, outcome, sent, received, now);
		if (counts)
			weft_sockops_report(sock, tp, outcome, sent, received, now);
	}
	sock->flags |= WEFT_SOCK_F_CLOSED;
}

SEC("sockops")
int weft_sockops(struct bpf_sock_ops *ctx)
{
	struct weft_setting *setting;
	struct tcp_sock *tp;
	struct bpf_sock *sk;
	__u32 op = ctx->op;

	switch (op) {
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] != WEFT_TCP_CLOSE)
			return 1;
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		break;
	default:
		return 1;
	}
	sk = ctx->sk;
	setting = weft_setting_get();
	if (!sk || !setting)
		return 1;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 1;
	if (op == BPF_SOCK_OPS_STATE_CB)
		weft_sockops_close(sk, tp, setting, ctx->args[0]);
	else if (op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		weft_sockops_connect(ctx, sk, tp, setting);
	else
		weft_sockops_established(ctx, sk, tp, setting, op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
