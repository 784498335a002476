/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Keys and values of every pinned map.
 *
 * Two kinds of map, never mixed. Configuration maps are written by userspace
 * alone (control computes, main writes) and only read by programs. State maps
 * are born in the kernel and survive any agent; userspace reads them.
 *
 *   configuration              state
 *   weft_frontend              weft_sock, weft_udp     (socket storage)
 *   weft_slot                  weft_live, weft_turn    (arrays)
 *   weft_endpoint              weft_affinity           (LRU: a cache)
 *   weft_endpoint_at           weft_aggregate, weft_histogram, weft_counter
 *   weft_workload_at           weft_event              (ring buffer)
 *   weft_pod                   weft_captured, weft_attest
 *   weft_optout_cidr, weft_optout_port
 *   weft_setting
 *   weft_workload, weft_policy, weft_policy_source, weft_policy_cidr, weft_policy_port
 *   weft_capture
 */
#ifndef WEFT_ABI_MAPS_H
#define WEFT_ABI_MAPS_H

#include "weft/abi/types.h"

/*
 * Ids. `service` identifies one port of one service and starts at 1.
 * `workload` starts at 1. 0 means unknown in both; WEFT_ID_OTHER stands in
 * the row that collects what a full map could not hold. Names are kept in the
 * state folder (model/names.h), never in maps.
 *
 * An endpoint id is an index into weft_endpoint, weft_live plus a generation,
 * so that an id which a long-lived socket still holds is never mistaken for
 * the next user of the same index. Index 0 is never used.
 */
#define WEFT_ID_OTHER 0xffffffffu
#define WEFT_ENDPOINT_INDEX_BITS 20
#define WEFT_ENDPOINT_INDEX_MASK ((1u << WEFT_ENDPOINT_INDEX_BITS) - 1)
#define WEFT_ENDPOINT_INDEX(id) ((id) & WEFT_ENDPOINT_INDEX_MASK)
#define WEFT_ENDPOINT_GENERATION(id) ((id) >> WEFT_ENDPOINT_INDEX_BITS)

/* ---- weft_frontend: HASH {address, port, protocol} -> what to do ---- */

struct weft_frontend_key {
	struct weft_addr addr;
	__be16 port; /* 0 with protocol 0: the entry of the address as a whole */
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};
WEFT_ABI_SIZE(struct weft_frontend_key, 20);

enum weft_frontend_type {
	WEFT_FRONTEND_NONE = 0,
	WEFT_FRONTEND_CLUSTER_IP,
	WEFT_FRONTEND_NODE_PORT, /* key address is 0.0.0.0 or ::, looked up once WEFT_FRONTEND_F_NODE said that it is a node's */
	WEFT_FRONTEND_EXTERNAL_IP,
	WEFT_FRONTEND_LOAD_BALANCER,
	WEFT_FRONTEND_SERVICE_ENTRY,
	WEFT_FRONTEND_ADDRESS, /* port 0: says what happens to ports that no service has, by the flags below */
	WEFT_FRONTEND_TYPE_MAX_
};

enum weft_algorithm {
	WEFT_ALGORITHM_LEAST_REQUEST = 0, /* power of two choices on weft_live */
	WEFT_ALGORITHM_ROUND_ROBIN,
	WEFT_ALGORITHM_RANDOM,
	WEFT_ALGORITHM_MAX_
};

enum weft_lane {
	WEFT_LANE_KERNEL = 0,
	WEFT_LANE_MAX_
};

#define WEFT_FRONTEND_F_PASS 0x01u /* counted and named, never rewritten: headless, resolution NONE, PASSTHROUGH */
#define WEFT_FRONTEND_F_REFUSE 0x02u /* on ADDRESS: a port that no service has is refused */
#define WEFT_FRONTEND_F_NODE 0x04u /* on ADDRESS: a node's address; ports are tried as NODE_PORT */
#define WEFT_FRONTEND_F_THIS_NODE 0x08u /* on ADDRESS: this node's; on NODE_PORT: only through this node's addresses */
#define WEFT_FRONTEND_F_LOCAL 0x20u /* slots are chosen among this node's endpoints only: an affinity may not lead elsewhere */
#define WEFT_FRONTEND_F_WEIGHTED 0x10u /* slots carry unequal weights: the alias column counts */

struct weft_frontend {
	__u32 service;
	__u32 slot; /* first of its slots in weft_slot */
	__u32 count; /* slots; 0 = refuse, no endpoint */
	__u32 affinity_s; /* ClientIP affinity timeout in seconds; 0 = none */
	__u8 type; /* enum weft_frontend_type */
	__u8 algorithm; /* enum weft_algorithm */
	__u8 lane; /* enum weft_lane */
	__u8 pad;
	__u32 flags; /* WEFT_FRONTEND_F_ */
};
WEFT_ABI_SIZE(struct weft_frontend, 24);

/*
 * ---- weft_slot: ARRAY, ranges owned by frontends ----
 * Walker's alias method: a uniform slot, then `endpoint` if a uniform 32-bit
 * number is below or equal to `threshold`, else `alias`. n endpoints need n slots whatever
 * their weights, and the choice is O(1). Equal weights: threshold 0xffffffff.
 */
struct weft_slot {
	__u32 endpoint; /* endpoint ids */
	__u32 alias;
	__u32 threshold;
	__u32 pad;
};
WEFT_ABI_SIZE(struct weft_slot, 16);

/* ---- weft_endpoint: ARRAY by index ---- */

enum weft_endpoint_state {
	WEFT_ENDPOINT_FREE = 0,
	WEFT_ENDPOINT_READY,
	WEFT_ENDPOINT_SERVING, /* terminating but serving: chosen only when nothing is ready; its connections drain */
	WEFT_ENDPOINT_DRAINING, /* in no slot; connections may stay until told otherwise */
	WEFT_ENDPOINT_GONE, /* its sockets are to be cut; id not reused yet */
	WEFT_ENDPOINT_STATE_MAX_
};

#define WEFT_ENDPOINT_F_LOCAL 0x01u /* on this node */

struct weft_endpoint {
	struct weft_addr addr;
	__be16 port;
	__u8 protocol;
	__u8 state; /* enum weft_endpoint_state */
	__u32 id; /* index and generation; an entry whose id differs from the slot's is not the one that was meant */
	__u32 service;
	__u32 workload; /* 0 = unknown */
	__u32 weight; /* >= 1 */
	__u32 flags; /* WEFT_ENDPOINT_F_ */
};
WEFT_ABI_SIZE(struct weft_endpoint, 40);

/* ---- weft_endpoint_at: HASH weft_frontend_key of a local endpoint -> its service, for the server's side of metrics ---- */
struct weft_endpoint_at {
	__u32 service;
	__u32 endpoint;
};
WEFT_ABI_SIZE(struct weft_endpoint_at, 8);

/* ---- weft_workload_at: HASH weft_addr -> workload id (__u32) ---- */

/* ---- weft_pod: HASH netns cookie (__u64) -> whose namespace that is ---- */

#define WEFT_POD_F_OPT_OUT 0x01u /* its sockets are left alone */

struct weft_pod {
	__u32 workload;
	__u32 flags; /* WEFT_POD_F_ */
};
WEFT_ABI_SIZE(struct weft_pod, 8);

/* ---- weft_optout_cidr: LPM_TRIE -> __u32 1;  weft_optout_port: HASH __be16 port, protocol -> __u32 1 ---- */

struct weft_cidr {
	__u32 bits; /* of the 128; an IPv4 prefix counts from 96 */
	struct weft_addr addr;
};
WEFT_ABI_SIZE(struct weft_cidr, 20);

struct weft_port {
	__be16 port;
	__u8 protocol;
	__u8 pad;
};
WEFT_ABI_SIZE(struct weft_port, 4);

/* ---- weft_setting: ARRAY of one ---- */

#define WEFT_SETTING_F_BYPASS 0x01u /* translate nothing (existing connections keep their reverse state) */
#define WEFT_SETTING_F_METRICS 0x02u /* sockops counts */
#define WEFT_SETTING_F_SECURE 0x08u /* weft_workload has entries: look the peer up */
#define WEFT_SETTING_F_ENCRYPT_SAME_NODE 0x10u /* MeshConfig sameNode: encrypted */
#define WEFT_SETTING_F_POLICY 0x20u /* weft_policy has entries: what comes to an address of no workload is refused */
#define WEFT_SETTING_F_OPT_OUT 0x04u /* at least one opted-out CIDR or port: look it up */
/*
 * main's own, never asked for by control: weft_live was adopted, is being counted anew, or could not be. Until it is, some
 * sockets are missing from the half in force or still in it, so nobody may show it or go by it as the number of connections.
 */
#define WEFT_SETTING_F_RECOUNT 0x80000000u

struct weft_setting {
	__u32 magic; /* WEFT_ABI_MAGIC: the pin folder is whole and ours */
	__u32 version; /* WEFT_ABI_VERSION */
	__u32 flags; /* WEFT_SETTING_F_ */
	__u32 watchers; /* > 0: records go to weft_event */
	__u32 epoch; /* of weft_live, >= 1: sockets counted under an older one are not in it yet (recount at adoption) */
	__u32 pad;
	__u64 boot_ns; /* CLOCK_BOOTTIME when this set of maps was made */
};
WEFT_ABI_SIZE(struct weft_setting, 32);

/*
 * ---- weft_live: ARRAY by endpoint index: connections held by this node's sockets ----
 * Two halves, so that a recount starts from zeros while connections come and go (bpf/recount.bpf.c):
 * the one of parity weft_setting.epoch & 1 is in force, the other means nothing.
 */
struct weft_live {
	__u64 count[2];
};
WEFT_ABI_SIZE(struct weft_live, 16);

/*
 * ---- weft_turn: ARRAY by service id modulo its size: ROUND_ROBIN's counter (__u64) ----
 * Ids only count up, so two services may share a counter: each then skips turns, and none loses its share in the long run.
 */
#define WEFT_TURN_ENTRIES 65536

/* ---- weft_affinity: LRU_HASH ---- */

struct weft_affinity_key {
	__u64 client; /* netns cookie: one pod, one address */
	__u32 service;
	__u32 pad;
};
WEFT_ABI_SIZE(struct weft_affinity_key, 16);

struct weft_affinity {
	__u64 used_ns; /* CLOCK_MONOTONIC */
	__u32 endpoint;
	__u32 pad;
};
WEFT_ABI_SIZE(struct weft_affinity, 16);

/* ---- weft_sock: SK_STORAGE of TCP sockets and connected UDP sockets ---- */

enum weft_role {
	WEFT_ROLE_NONE = 0,
	WEFT_ROLE_CLIENT, /* connect() */
	WEFT_ROLE_SERVER, /* accept() */
	WEFT_ROLE_MAX_
};

#define WEFT_SOCK_F_TRANSLATED 0x01u /* frontend was rewritten to endpoint */
#define WEFT_SOCK_F_COUNTED 0x02u /* in weft_live[endpoint]; in struct weft_conn only: in storage, `epoch` other than 0 says it */
#define WEFT_SOCK_F_STARTED 0x04u /* sockops saw it: its CLOSE gives back what it holds */
#define WEFT_SOCK_F_ESTABLISHED 0x08u
#define WEFT_SOCK_F_REPORTED 0x10u /* already in an `opened` */
#define WEFT_SOCK_F_CLOSED 0x20u
#define WEFT_SOCK_F_PAYLOAD_ACTIVE 0x40u /* bytes_acked counts our SYN */
#define WEFT_SOCK_F_SECURE 0x80u /* taken to the agent's listener in its pod; endpoint_addr is where the agent is to go */
#define WEFT_SOCK_F_AGENT 0x100u /* one of the agent's own, marked by main before it handed it out: left alone, not counted; with SECURE: its end of a captured connection */
#define WEFT_SOCK_F_ATTESTED 0x200u /* peers on one node, each known by its network namespace */
#define WEFT_SOCK_F_TUNNELLED 0x400u /* in struct weft_conn only: in storage, `tunnelled` says it */

struct weft_sock {
	struct weft_addr frontend; /* what the application asked for */
	struct weft_addr endpoint_addr; /* what it got */
	__be16 frontend_port;
	__be16 endpoint_port;
	__u8 protocol;
	__u8 role; /* enum weft_role */
	__u8 tunnelled; /* 1: in mutual TLS between agents; on the client's side written beside its owner, once the peer's agent said 200 */
	__u8 pad;
	__u32 service;
	__u32 endpoint; /* id, 0 = none */
	__u32 workload; /* ours */
	__u32 peer; /* theirs */
	__u32 flags; /* WEFT_SOCK_F_ ; written by one context at a time: the socket's owner */
	__u32 epoch; /* of weft_live under which it is counted, 0 = not counted; atomically exchanged by give-back and recount */
	__u64 cookie; /* socket cookie */
	__u64 netns; /* netns cookie, 0 where the kernel does not tell */
	__u64 start_ns; /* CLOCK_MONOTONIC at connect() or accept */
	__u64 established_ns;
	__u64 reported_sent; /* bytes already in weft_aggregate; all-ones once closed */
	__u64 reported_received;
	__u64 reported_flags; /* bit 0: in an `opened`; exchanged by close and by the reporter, whoever is first */
};
WEFT_ABI_SIZE(struct weft_sock, 120);

/* ---- weft_udp: SK_STORAGE of unconnected UDP sockets ---- */

#define WEFT_UDP_ENTRIES 8

struct weft_udp_entry {
	struct weft_addr frontend;
	struct weft_addr endpoint_addr;
	__be16 frontend_port;
	__be16 endpoint_port;
	__u32 service;
	__u32 endpoint; /* 0 = unused */
	__u32 epoch; /* as in struct weft_sock */
	__u64 expiry_ns; /* CLOCK_MONOTONIC; every datagram moves it */
};
WEFT_ABI_SIZE(struct weft_udp_entry, 56);

struct weft_udp {
	struct weft_udp_entry entry[WEFT_UDP_ENTRIES];
};
WEFT_ABI_SIZE(struct weft_udp, 448);

/* ---- weft_aggregate: HASH, shared, atomic adds ---- */

enum weft_reporter {
	WEFT_REPORTER_SOURCE = 0,
	WEFT_REPORTER_DESTINATION,
	WEFT_REPORTER_MAX_
};

enum weft_outcome {
	WEFT_OUTCOME_OPEN = 0, /* row of what live connections have reported so far */
	WEFT_OUTCOME_CLOSED,
	WEFT_OUTCOME_RESET,
	WEFT_OUTCOME_REFUSED,
	WEFT_OUTCOME_TIMED_OUT,
	WEFT_OUTCOME_ABANDONED, /* the application gave up before the handshake ended */
	WEFT_OUTCOME_MAX_
};

enum weft_security {
	WEFT_SECURITY_NONE = 0,
	WEFT_SECURITY_ATTESTED,
	WEFT_SECURITY_MUTUAL_TLS, /* only where the handshake is done */
	WEFT_SECURITY_MAX_
};

struct weft_aggregate_key {
	__u32 source; /* workload */
	__u32 service;
	__u32 destination; /* workload */
	__u8 reporter; /* enum weft_reporter */
	__u8 outcome; /* enum weft_outcome */
	__u8 protocol;
	__u8 security; /* enum weft_security; NONE in the row `other` */
};
WEFT_ABI_SIZE(struct weft_aggregate_key, 16);

struct weft_aggregate {
	__u64 opened; /* handshakes done (UDP: associations made) */
	__u64 ended; /* with the row's outcome */
	__u64 sent; /* payload bytes, as seen by the reporter's own socket */
	__u64 received;
	__u64 retransmits; /* segments */
	__u64 duration_ns; /* of ended ones */
};
WEFT_ABI_SIZE(struct weft_aggregate, 48);

/*
 * ---- weft_histogram: HASH {service, reporter} ----
 * Bucket i counts values v in microseconds with 2^(i-1) <= v < 2^i; bucket 0 holds 0, the last one all the rest.
 */
#define WEFT_HISTOGRAM_BUCKETS 32

struct weft_histogram_key {
	__u32 service;
	__u32 reporter; /* enum weft_reporter */
};
WEFT_ABI_SIZE(struct weft_histogram_key, 8);

struct weft_histogram {
	__u64 connect[WEFT_HISTOGRAM_BUCKETS]; /* connect() to ESTABLISHED; source only */
	__u64 duration[WEFT_HISTOGRAM_BUCKETS]; /* ESTABLISHED to CLOSE */
	__u64 rtt[WEFT_HISTOGRAM_BUCKETS]; /* smoothed RTT at close */
	__u64 connect_us;
	__u64 duration_us;
	__u64 rtt_us;
	__u64 pad;
};
WEFT_ABI_SIZE(struct weft_histogram, 800);

/* ---- weft_counter: PERCPU_ARRAY by enum weft_counter (lists/counter.h): __u64 ---- */

/*
 * ---- the secure lane ----
 *
 * weft_workload: HASH workload id (__u32) -> what connecting to it, and from it, is like. No entry: nothing special.
 */

#define WEFT_WORKLOAD_F_TUNNEL 0x01u /* takes HBONE on its port 15008 */
#define WEFT_WORKLOAD_F_LOCAL 0x02u /* on this node */

struct weft_workload {
	__u32 policy; /* the set in weft_policy that judges connections to it; 0: all are allowed */
	__u32 source; /* by which weft_policy_source knows its identity: a number that all workloads of this node with that identity share; 0: none */
	__u32 flags; /* WEFT_WORKLOAD_F_ */
	__u32 pad;
};
WEFT_ABI_SIZE(struct weft_workload, 16);

/*
 * A policy set is the sum of what applies to a workload: PeerAuthentication and AuthorizationPolicies, as clauses. A
 * clause is a conjunction {source identity, client address, destination port}; each of the three is looked up once and answers with
 * the clauses that it does not contradict, as bits; their AND is what matches. Deny if that meets `deny`; else allow if there
 * is no ALLOW policy, or if it meets `allow`. A changed set gets a new id and one flip of weft_workload.
 */
#define WEFT_POLICY_MAX_CLAUSES 256

struct weft_clauses {
	__u64 word[WEFT_POLICY_MAX_CLAUSES / 64];
};

#define WEFT_POLICY_F_ALLOW 0x01u /* an ALLOW policy applies, if only one without a rule: what none allows is denied */
#define WEFT_POLICY_F_DRY_ALLOW 0x02u /* the same of those in dry-run, which only count */

struct weft_policy { /* weft_policy: HASH set id (__u32) */
	struct weft_clauses deny;
	struct weft_clauses allow;
	struct weft_clauses dry_deny;
	struct weft_clauses dry_allow; /* with what is allowed anyway, if an ALLOW policy is in dry-run */
	struct weft_clauses no_source; /* clauses that a peer without identity does not contradict */
	struct weft_clauses any_address; /* clauses that an address in none of the set's prefixes does not contradict */
	struct weft_clauses every_address; /* clauses that no address contradicts: all that is certain while the address is not known */
	struct weft_clauses any_port; /* clauses that a port which the set does not name does not contradict */
	__u32 flags; /* WEFT_POLICY_F_ */
	__u32 pad;
};
WEFT_ABI_SIZE(struct weft_policy, 264);

/* weft_policy_source: HASH -> struct weft_clauses. A known source without an entry is denied: the tables are not there yet. */
struct weft_policy_source_key {
	__u32 policy;
	__u32 source; /* weft_workload.source */
};
WEFT_ABI_SIZE(struct weft_policy_source_key, 8);

/* weft_policy_cidr: LPM_TRIE -> struct weft_clauses; a prefix's value is already that of all prefixes around it. */
struct weft_policy_cidr_key {
	__u32 bits; /* 32 of `policy` + those of the 128; an IPv4 prefix counts from 96 */
	__be32 policy; /* network order only so that it is a prefix at all */
	struct weft_addr addr;
};
WEFT_ABI_SIZE(struct weft_policy_cidr_key, 24);

/* weft_policy_port: HASH -> struct weft_clauses */
struct weft_policy_port_key {
	__u32 policy;
	__be16 port;
	__u16 pad;
};
WEFT_ABI_SIZE(struct weft_policy_port_key, 8);

/* ---- weft_capture: HASH netns cookie (__u64) of an attached pod -> the agent's listeners in it; main's own ---- */
struct weft_capture {
	struct weft_addr addr[2]; /* the pod's own IPv4 and IPv6 address; ::, where it has none */
	__u32 workload;
	__be16 port; /* of the outbound listener, 15001 */
	__u16 pad;
};
WEFT_ABI_SIZE(struct weft_capture, 40);

/*
 * ---- weft_captured: HASH -> struct weft_original, from SYN to the agent's end being there; then it is in that socket's weft_sock ----
 * What SO_ORIGINAL_DST answers the agent (level SOL_IP, size of struct weft_original) on a connection that it accepted.
 */
struct weft_captured_key {
	struct weft_addr addr; /* the application's end, which the agent sees as its peer */
	__be16 port;
	__u16 pad;
};
WEFT_ABI_SIZE(struct weft_captured_key, 20);

struct weft_original {
	struct weft_addr frontend; /* what the application asked for */
	struct weft_addr endpoint_addr; /* what was chosen for it */
	__be16 frontend_port;
	__be16 endpoint_port;
	__u32 service; /* 0: it asked for the endpoint itself */
	__u32 endpoint; /* id, 0: as above */
	__u32 workload; /* the application's own, by its network namespace */
	__u32 peer; /* the endpoint's */
	__u32 pad;
	__u64 netns; /* cookie */
	__u64 cookie; /* of the application's socket */
};
WEFT_ABI_SIZE(struct weft_original, 72);

/* ---- weft_attest: HASH -> struct weft_attested, from a SYN to the server's end being there, or CLOSE ---- */
struct weft_attest_key {
	struct weft_addr client;
	struct weft_addr server;
	__be16 client_port;
	__be16 server_port;
};
WEFT_ABI_SIZE(struct weft_attest_key, 36);

#define WEFT_ATTESTED_F_AGENT 0x01u /* the agent's own dial to its application: it has judged already */

struct weft_attested {
	__u64 netns; /* cookie of the client's network namespace */
	__u32 workload; /* the client's, by that namespace */
	__u32 flags; /* WEFT_ATTESTED_F_ */
};
WEFT_ABI_SIZE(struct weft_attested, 16);

/* ---- weft_event: RINGBUF of struct weft_event, while somebody watches ---- */

enum weft_event_type {
	WEFT_EVENT_OPENED = 1,
	WEFT_EVENT_ENDED, /* with `outcome` */
	WEFT_EVENT_REFUSED, /* by weft: `outcome` holds the enum weft_counter reason */
	WEFT_EVENT_TYPE_MAX_
};

struct weft_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 cookie;
	__u64 netns;
	struct weft_addr local;
	struct weft_addr remote;
	struct weft_addr frontend; /* :: if not translated */
	__be16 local_port;
	__be16 remote_port;
	__be16 frontend_port;
	__u8 protocol;
	__u8 role; /* enum weft_role */
	__u8 type; /* enum weft_event_type */
	__u8 outcome;
	__u8 pad[2];
	__u32 service;
	__u32 endpoint;
	__u32 workload;
	__u32 peer;
	__u32 srtt_us;
	__u32 min_rtt_us;
	__u32 retransmits;
	__u64 sent;
	__u64 received;
	__u64 connect_ns;
	__u64 duration_ns;
};
WEFT_ABI_SIZE(struct weft_event, 144);

/* ---- what the pinned iterator weft_conn prints: an array of these, one a tracked socket of any namespace ---- */
struct weft_conn {
	__u64 cookie;
	__u64 netns; /* cookie */
	__u64 start_ns;
	__u64 established_ns;
	__u64 sent;
	__u64 received;
	struct weft_addr local;
	struct weft_addr remote;
	struct weft_addr frontend;
	__be16 local_port;
	__be16 remote_port;
	__be16 frontend_port;
	__u8 protocol;
	__u8 role; /* enum weft_role */
	__u8 state; /* kernel's TCP_ESTABLISHED ... numbers, for UDP too */
	__u8 family; /* of the socket: AF_INET or AF_INET6 */
	__u8 pad[2];
	__u32 netns_inode; /* of /proc/PID/ns/net */
	__u32 service;
	__u32 endpoint;
	__u32 workload;
	__u32 peer;
	__u32 flags; /* WEFT_SOCK_F_ */
	__u32 srtt_us;
	__u32 min_rtt_us;
	__u32 retransmits;
};
WEFT_ABI_SIZE(struct weft_conn, 144);

#endif
