/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Live connections report what they have not reported yet, so that a
 * connection of a week is in the metrics before its end.
 *
 * This runs beside the connection's own CLOSE. Each number is advanced by
 * compare-exchange from what was read: if CLOSE has closed the books in between,
 * nothing is added here, and CLOSE adds the whole rest.
 */
#include "lib/report.h"
#include "lib/settle.h"
#include "lib/tcp.h"
#include "maps/state.h"

/* The increase of *reported to `now`, 0 if somebody else has reported it. */
static __always_inline __u64 weft_flush_delta(__u64 *reported, __u64 now)
{
	__u64 before = *(volatile __u64 *)reported;

	/* All-ones is the mark of CLOSE, and greater than any `now`. */
	if (now <= before || weft_settle_compare_exchange(reported, before, now) != before)
		return 0;
	return now - before;
}

static __always_inline void weft_flush_one(struct tcp_sock *tp, struct weft_sock *sock)
{
	struct weft_aggregate_key key;
	struct weft_aggregate *row;
	__u64 sent, received;
	bool opened;

	/* Not STARTED: it began before sockops was attached, and nobody will see its end. */
	if ((sock->flags & (WEFT_SOCK_F_STARTED | WEFT_SOCK_F_ESTABLISHED | WEFT_SOCK_F_CLOSED)) !=
	    (WEFT_SOCK_F_STARTED | WEFT_SOCK_F_ESTABLISHED))
		return;
	/* Captured, and its tunnel is not open yet: it is too early to say in which row it is. */
	if ((sock->flags & WEFT_SOCK_F_SECURE) && !sock->tunnelled)
		return;
	weft_tcp_payload(tp, tp->inet_conn.icsk_inet.sk.__sk_common.skc_state, sock->flags, &sent, &received);
	weft_report_key(&key, sock, WEFT_OUTCOME_OPEN);
	row = weft_report_row(&key);
	if (!row)
		return;
	opened = !weft_settle_exchange(&sock->reported_flags, 1);
	sent = weft_flush_delta(&sock->reported_sent, sent);
	received = weft_flush_delta(&sock->reported_received, received);
	if (opened)
		__sync_fetch_and_add(&row->opened, 1);
	if (sent)
		__sync_fetch_and_add(&row->sent, sent);
	if (received)
		__sync_fetch_and_add(&row->received, received);
}

SEC("iter/bpf_sk_storage_map")
int weft_flush(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct weft_sock *sock = ctx->value;
	struct sock *sk = ctx->sk; /* read once: the verifier forgets that it was asked for NULL */
	struct tcp_sock *tp = sk && sock && sock->protocol == IPPROTO_TCP ? bpf_skc_to_tcp_sock(sk) : NULL;

	if (tp)
		weft_flush_one(tp, sock);
	return 0;
}

/* Of one network namespace, that of the thread that reads: WEFT_FEATURE_SOCK_STORAGE_ITER. */
SEC("iter/tcp")
int weft_flush_here(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	struct weft_sock *sock = tp ? bpf_sk_storage_get(&weft_sock, tp, NULL, 0) : NULL;

	if (sock)
		weft_flush_one(tp, sock);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
