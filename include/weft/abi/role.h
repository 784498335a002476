/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `control` may ask of `main`, and what `main` answers.
 *
 * `main` holds capabilities, `control` reads what people and programs wrote:
 * so nothing that crosses here is text to be parsed. A message is one
 * SOCK_SEQPACKET datagram, a struct weft_role_message, followed by nothing.
 * Bulk (map contents in both directions) travels in one memfd attached to the
 * datagram: sealed against shrinking and writing, validated by its reader.
 *
 * Both processes are of one build: the message has a version only so that a
 * mixed pair during an upgrade is refused and not misread.
 */
#ifndef WEFT_ABI_ROLE_H
#define WEFT_ABI_ROLE_H

#include "weft/abi/maps.h"

#define WEFT_ROLE_VERSION 1
#define WEFT_ROLE_MAX_CUT 16384 /* ids in one CUT: each is a walk over all sockets, to be done before control gives main up */

enum weft_role_message_type {
	/* control -> main; each is answered by RESULT with the same `serial` (READ, CONNS: by DATA; HELLO, GROW: by READY) */
	WEFT_ROLE_HELLO = 1, /* -> READY */
	WEFT_ROLE_APPLY, /* memfd: a batch, see below */
	WEFT_ROLE_READ, /* arg[0]: bit mask of enum weft_map -> DATA with memfd */
	WEFT_ROLE_WATCH, /* arg[0]: number of watchers; EVENTS follow while it is > 0 */
	WEFT_ROLE_CUT, /* memfd: array of __u32 endpoint ids in `count`, at most WEFT_ROLE_MAX_CUT; kill their sockets; arg[0] = 1: only UDP. RESULT arg[0] = sockets cut */
	WEFT_ROLE_BIND, /* name = a netns of /run/netns, arg[0] = workload, arg[1] = WEFT_POD_F_; RESULT arg[0] = cookie; errors -EPERM, -EBUSY as ATTACH */
	WEFT_ROLE_UNBIND, /* arg[0] = cookie */
	WEFT_ROLE_SETTING, /* arg[0] = WEFT_SETTING_F_ to have */
	WEFT_ROLE_FLUSH, /* live connections report to weft_aggregate now */
	WEFT_ROLE_LOG_LEVEL, /* arg[0] = enum weft_log_level */
	WEFT_ROLE_GROW, /* memfd: struct weft_role_capacity, 0 = as it is -> READY; its error says that all maps are as before */
	WEFT_ROLE_ATTACH, /* name = as for BIND, arg[0] = workload -> RESULT arg[0] = cookie; once more for an attached one is no error. -EADDRINUSE: arg[1] = the agent's port that an application holds there; -EPERM: the node's own; -EBUSY: another workload is attached there, whose address it has */
	WEFT_ROLE_DETACH, /* arg[0] = cookie: listeners, rules, routes and programs go; established connections of the agent stay until they end */
	WEFT_ROLE_CUT_SOCKETS, /* memfd: array of __u64 socket cookies in `count`, at most WEFT_ROLE_MAX_CUT; RESULT arg[0] = sockets cut */
	WEFT_ROLE_CONNS, /* -> DATA with memfd: array of struct weft_conn, all tracked sockets, and what is half open into attached pods (SYN_RECV) */
	/* main -> control */
	WEFT_ROLE_READY = 64, /* arg[0] = mask of enum weft_feature that are there, arg[1] = of those forced away, arg[2] = 1: state was adopted; memfd: struct weft_role_capacity */
	WEFT_ROLE_RESULT, /* error = 0 or -errno, arg[0] by request, arg[1] = index of the failed run */
	WEFT_ROLE_DATA, /* memfd: a batch with the contents */
	WEFT_ROLE_EVENTS, /* memfd: array of struct weft_event in `count`; arg[0] = lost since the last one */
	WEFT_ROLE_MESSAGE_TYPE_MAX_
};

struct weft_role_message {
	__u32 magic; /* WEFT_ABI_MAGIC */
	__u16 version; /* WEFT_ROLE_VERSION */
	__u16 type; /* enum weft_role_message_type */
	__u32 serial;
	__s32 error;
	__u64 bytes; /* of the memfd that comes along; 0 = none */
	__u32 count;
	__u32 pad;
	__u64 arg[4];
	char name[128]; /* NUL-terminated */
};
WEFT_ABI_SIZE(struct weft_role_message, 192);

/* Every map by number: for batches, READ, capacities. lists/map.h has the names. */
enum weft_map {
#define WEFT_MAP(NAME, name, key, value, owner, sentence) WEFT_MAP_##NAME,
#include "weft/lists/map.h"
#undef WEFT_MAP
	WEFT_MAP_MAX_
};

struct weft_role_capacity {
	__u32 max_entries[WEFT_MAP_MAX_]; /* 0: not a map with a size */
};

/*
 * A batch is a sequence of runs, applied in order; each run is a header and
 * then `count` keys and `count` values, each array padded to 8 bytes. A DELETE
 * has no values. Deleting what is not there is no error.
 */
enum weft_batch_op {
	WEFT_BATCH_UPDATE = 1,
	WEFT_BATCH_DELETE,
};

struct weft_batch_run {
	__u32 map; /* enum weft_map */
	__u32 op; /* enum weft_batch_op */
	__u32 count;
	__u32 pad;
};
WEFT_ABI_SIZE(struct weft_batch_run, 16);

#endif
