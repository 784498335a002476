/* SPDX-License-Identifier: GPL-2.0-only */
/* What a TCP socket tells through BTF: its ends, its state, its payload to the byte. */
#ifndef WEFT_LIB_TCP_H
#define WEFT_LIB_TCP_H

#include "lib/addr.h"
#include <bpf/bpf_core_read.h>

/* The kernel's numbers; they are what ss(8) and the ABI's struct weft_conn show. */
enum weft_tcp_state {
	WEFT_TCP_ESTABLISHED = 1,
	WEFT_TCP_SYN_SENT,
	WEFT_TCP_SYN_RECV,
	WEFT_TCP_FIN_WAIT1,
	WEFT_TCP_FIN_WAIT2,
	WEFT_TCP_TIME_WAIT,
	WEFT_TCP_CLOSE,
	WEFT_TCP_CLOSE_WAIT,
	WEFT_TCP_LAST_ACK,
	WEFT_TCP_LISTEN,
	WEFT_TCP_CLOSING,
};

/* Ends of a connected socket. An AF_INET6 socket that talks IPv4 keeps both as v4-mapped already. */
static __always_inline void weft_tcp_ends(const struct sock_common *sk, struct weft_frontend_key *ret_local,
					  struct weft_frontend_key *ret_remote)
{
	if (sk->skc_family == AF_INET6) {
		for (int i = 0; i < 4; i++) {
			ret_local->addr.w[i] = sk->skc_v6_rcv_saddr.in6_u.u6_addr32[i];
			ret_remote->addr.w[i] = sk->skc_v6_daddr.in6_u.u6_addr32[i];
		}
	} else {
		weft_addr_set_v4(&ret_local->addr, sk->skc_rcv_saddr);
		weft_addr_set_v4(&ret_remote->addr, sk->skc_daddr);
	}
	ret_local->port = bpf_htons(sk->skc_num);
	ret_remote->port = sk->skc_dport;
}

/*
 * When the handshake's last packet came in, by CLOCK_MONOTONIC as the kernel read it for that packet: to read it again costs as
 * much as a look-up. Read anew where no packet ended the handshake (TCP_REPAIR: what the socket has is from before `since`),
 * and for a server's fast open, whose new socket still has its listener's.
 */
static __always_inline __u64 weft_tcp_packet_ns(const struct tcp_sock *tp, __u64 since)
{
	__u64 ns = tp->tcp_clock_cache;

	return ns >= since && !tp->fastopen_rsk ? ns : bpf_ktime_get_ns();
}

/* Our FIN was sent and acknowledged. Where it was sent, it is the last of write_seq. */
static __always_inline bool weft_tcp_fin_acked(const struct tcp_sock *tp, __u8 state)
{
	switch (state) {
	case WEFT_TCP_FIN_WAIT2:
	case WEFT_TCP_TIME_WAIT:
		return true;
	case WEFT_TCP_FIN_WAIT1:
	case WEFT_TCP_CLOSING:
	case WEFT_TCP_LAST_ACK:
		return tp->snd_una == tp->write_seq;
	}
	return false;
}

/*
 * Payload that the peer has acknowledged, and payload received. The kernel's
 * counters run in sequence numbers, where a SYN (counted on the active side only) and a FIN
 * take one each. `state` is the one before CLOSE for a socket that closes.
 */
static __always_inline void weft_tcp_payload(const struct tcp_sock *tp, __u8 state, __u32 flags, __u64 *ret_sent,
					     __u64 *ret_received)
{
	__u64 sent = tp->bytes_acked, received = tp->bytes_received, over = 0;

	if (flags & WEFT_SOCK_F_PAYLOAD_ACTIVE)
		over++;
	if (weft_tcp_fin_acked(tp, state))
		over++;
	*ret_sent = sent > over ? sent - over : 0;
	if (received && (tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags &
			 (1ull << bpf_core_enum_value(enum sock_flags, SOCK_DONE))))
		received--;
	*ret_received = received;
}

#endif
