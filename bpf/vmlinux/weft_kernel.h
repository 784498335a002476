/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel types that the programs touch, and nothing else.
 *
 * What is a stable interface (contexts, helpers, map types) comes from the
 * UAPI header. What is not is declared here by name only: offsets, and whether
 * a member exists, are settled at load against the running kernel's BTF. So the
 * order and the gaps below mean nothing, and the build never looks at the
 * kernel of the machine it runs on.
 */
#ifndef WEFT_KERNEL_H
#define WEFT_KERNEL_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <stdbool.h>

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262

#define EPIPE 32
#define ECONNABORTED 103
#define ECONNRESET 104
#define ECONNREFUSED 111

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
	__u64 net_cookie;
};

struct net___before_5_12 {
	struct {
		__s64 counter;
	} net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	union {
		struct {
			__be32 skc_daddr;
			__be32 skc_rcv_saddr;
		};
	};
	union {
		struct {
			__be16 skc_dport;
			__u16 skc_num;
		};
	};
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	union {
		unsigned long skc_flags;
	};
};

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	__u16 sk_protocol;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct minmax_sample {
	__u32 t;
	__u32 v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct request_sock;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 tcp_clock_cache;
	struct request_sock *fastopen_rsk;
	struct minmax rtt_min;
	__u32 write_seq;
	__u32 snd_una;
	__u32 srtt_us;
	__u32 total_retrans;
	__u64 bytes_received;
	__u64 bytes_acked;
};

struct udp_sock {
	struct inet_sock inet;
};

enum sock_flags {
	SOCK_DEAD,
	SOCK_DONE, /* of TCP: the peer's FIN has come */
};

struct seq_file;
struct bpf_map;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
};

#pragma clang attribute pop

#endif
