/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-only view of an instance's pinned maps: what the CLI shows, with or
 * without an agent. Needs the right to open pins (root); changes nothing.
 */
#ifndef WEFT_KERNEL_READER_H
#define WEFT_KERNEL_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "weft/abi/role.h"

struct weft_reader;

/*
 * `pins` is the instance's pin folder (/sys/fs/bpf/weft). -ENOENT: nothing is
 * pinned there; -EPERM: not allowed; -EPROTO: pinned by another version, which `err` names.
 */
int weft_reader_open(const char *pins, struct weft_reader **ret_reader, struct weft_err *err);
struct weft_reader *weft_reader_close(struct weft_reader *reader);
WEFT_CLEANUP_DEFINE(struct weft_reader, weft_reader_close);

/* One value. -ENOENT: no such key. Per-CPU values are summed. */
int weft_reader_get(struct weft_reader *reader, enum weft_map map, const void *key, void *value);
/* All entries of a map: keys and values one after the other. An entry added or removed meanwhile may be missed. ARRAYs give every index. */
int weft_reader_all(struct weft_reader *reader, enum weft_map map, struct weft_buf *keys, struct weft_buf *values, size_t *ret_count);
/*
 * Tracked sockets of all network namespaces: an array of struct weft_conn. Where the agent does without
 * WEFT_FEATURE_SOCK_STORAGE_ITER, of those that have a name or a process, and ret_missing says which may be missing; else it is "".
 */
int weft_reader_conns(struct weft_reader *reader, struct weft_buf *conns, size_t *ret_count, struct weft_err *ret_missing, struct weft_err *err);

struct weft_map_info {
	const char *name;
	const char *sentence;
	__u32 id; /* kernel's */
	__u32 max_entries;
	__u64 entries; /* in use; arrays: max_entries */
	bool array; /* all entries always exist */
	__u64 bytes; /* memlock from fdinfo */
	__u32 key_size;
	__u32 value_size;
};
int weft_reader_map_info(struct weft_reader *reader, enum weft_map map, struct weft_map_info *ret_info);

struct weft_prog_info {
	char name[64];
	char attach[64]; /* "cgroup/connect4" */
	__u32 id;
	__u32 link_id;
	__u64 loaded_ns; /* since boot */
	__u64 run_count; /* 0 unless kernel.bpf_stats_enabled */
	__u64 run_ns;
	__u32 verified_instructions; /* 0 where the kernel does not tell (< 5.16) */
	__u32 jited_bytes;
	char target[256]; /* cgroup path if it can be told, else "" */
};
/* Pinned links' programs. `previous` = -1 starts; returns the next index or -ENOENT at the end. */
int weft_reader_prog_next(struct weft_reader *reader, int previous, struct weft_prog_info *ret_info);

#endif
