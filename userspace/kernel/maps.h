/* SPDX-License-Identifier: Apache-2.0 */
/* lists/map.h as a table, and one map's contents as arrays: what batches and the reader have in common. */
#ifndef WEFT_KERNEL_MAPS_H
#define WEFT_KERNEL_MAPS_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "weft/abi/role.h"

struct weft_map_spec {
	const char *name;
	const char *sentence;
	uint32_t key_size;
	uint32_t value_size;
	bool config; /* written by control through main */
};

/* NULL for a number that is no map. */
const struct weft_map_spec *weft_map_spec(uint32_t map);

/* 0 or -errno of BPF_OBJ_GET_INFO_BY_FD. */
int weft_map_fd_info(int fd, struct bpf_map_info *ret_info);

/* One value; per-CPU values (which are __u64 in every map that we have) come summed. -ENOENT: no such key. */
int weft_map_get(int fd, const struct bpf_map_info *info, const void *key, void *ret_value);

/*
 * Appends all keys and all values, `*ret_count` of each; per-CPU values come summed. An entry that is added or
 * removed meanwhile may be missed. On failure both buffers hold rubbish.
 */
int weft_map_dump(int fd, const struct bpf_map_info *info, struct weft_buf *keys, struct weft_buf *values,
		  size_t *ret_count);

/* `count` entries; 0 or -errno, then the entries before the refused one are written. Deleting what is not there is no error. */
int weft_map_update_many(int fd, size_t key_size, size_t value_size, const void *keys, const void *values,
			 uint32_t count);
int weft_map_delete_many(int fd, size_t key_size, const void *keys, uint32_t count);

#endif
