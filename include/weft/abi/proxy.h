/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each `proxy` is told and tells: sockets from `main`, the mesh from
 * `control`. A proxy reads what pods and the network send, so both treat what
 * comes from it as hostile: fixed-size requests, answered or refused.
 *
 * One SOCK_SEQPACKET datagram, a struct weft_proxy_message; bulk in one sealed
 * memfd, or sockets, attached to it.
 */
#ifndef WEFT_ABI_PROXY_H
#define WEFT_ABI_PROXY_H

#include "weft/abi/maps.h"

#define WEFT_PROXY_VERSION 1
#define WEFT_PROXY_MAX 64 /* processes */
#define WEFT_PROXY_MAX_SOCKETS 32 /* in one message */

#define WEFT_PORT_OUTBOUND 15001
#define WEFT_PORT_HBONE 15008
/*
 * Ports that nobody may ask a workload for, because what connects there goes round in circles or speaks for the mesh: ours,
 * and those of Envoy as a sidecar, as in ztunnel (src/config.rs, illegal_ports).
 */
#define WEFT_PORT_IS_AGENTS(port) \
	((port) == WEFT_PORT_OUTBOUND || (port) == 15006 || (port) == WEFT_PORT_HBONE || (port) == 15080)

enum weft_proxy_message_type {
	/* control -> proxy */
	WEFT_PROXY_MESH = 1, /* memfd: model/mesh.h; replaces the one before; live connections are judged anew */
	WEFT_PROXY_CONNS_WANTED, /* -> CONNS with the same serial */
	WEFT_PROXY_LOG_LEVEL, /* arg[0] = enum weft_log_level */
	/* proxy -> control */
	WEFT_PROXY_CONNS, /* memfd: struct weft_proxy_facts, then `count` struct weft_proxy_conn */
	/* proxy -> main; each is answered by SOCKETS with the same serial */
	WEFT_PROXY_WANT_SOCKETS, /* arg[0] = netns cookie of an attached pod, arg[1] = enum weft_proxy_socket, arg[2] = AF_INET or AF_INET6, count = how many */
	/* main -> proxy */
	WEFT_PROXY_SOCKETS, /* `count` sockets come along, fewer than wanted where `error` says why: -ENOENT no such pod, -EMFILE the node's cap; arg[0] = how many more the pod could have */
	WEFT_PROXY_MESSAGE_TYPE_MAX_
};

enum weft_proxy_socket {
	WEFT_PROXY_SOCKET_OUTBOUND = 0, /* to a peer's agent */
	WEFT_PROXY_SOCKET_INBOUND, /* to the application: IP_TRANSPARENT, marked for the rule in the pod's network namespace */
	WEFT_PROXY_SOCKET_MAX_
};

struct weft_proxy_message {
	__u32 magic; /* WEFT_ABI_MAGIC */
	__u16 version; /* WEFT_PROXY_VERSION */
	__u16 type; /* enum weft_proxy_message_type */
	__u32 serial;
	__s32 error;
	__u64 bytes; /* of the memfd that comes along; 0: none */
	__u32 count;
	__u32 pad;
	__u64 arg[3];
};
WEFT_ABI_SIZE(struct weft_proxy_message, 56);

enum weft_proxy_security {
	WEFT_PROXY_NONE = 0,
	WEFT_PROXY_MUTUAL_TLS, /* the handshake is done */
};

/* One application connection that a proxy carries, at either end. */
struct weft_proxy_conn {
	__u64 netns; /* cookie of the pod's network namespace */
	__u64 start_ns; /* CLOCK_MONOTONIC */
	__u64 sent; /* to the peer, payload */
	__u64 received;
	struct weft_addr local; /* the application's end and the agent's, as the application's socket has them */
	struct weft_addr remote;
	struct weft_addr peer; /* the agent at the other end */
	__be16 local_port;
	__be16 remote_port;
	__be16 peer_port;
	__u8 role; /* enum weft_role: CLIENT on the client's node */
	__u8 security; /* enum weft_proxy_security */
	__u32 local_identity; /* offsets into WEFT_PROXY_CONNS's text behind the last entry; SPIFFE ids, NUL-terminated */
	__u32 peer_identity;
};
WEFT_ABI_SIZE(struct weft_proxy_conn, 96);

/* Counts since the process began. */
struct weft_proxy_facts {
	__u64 count[32]; /* by enum weft_proxy_count, lists/proxy.h */
};
WEFT_ABI_SIZE(struct weft_proxy_facts, 256);

#endif
