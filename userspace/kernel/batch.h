/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches (abi/role.h) against maps. What `control` sends is checked here by
 * arithmetic alone, all of it before the first write: it read what people
 * wrote, and this side holds capabilities.
 */
#ifndef WEFT_KERNEL_BATCH_H
#define WEFT_KERNEL_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "weft/abi/role.h"

/*
 * 0, or -EBADMSG: cut short, an unknown map or operation, sizes that do not add up, a map that control does not
 * own, a DELETE in an array. *ret_failed_run is set on failure only.
 */
int weft_kernel_batch_check(const void *batch, size_t size, uint32_t *ret_failed_run, struct weft_err *err);

/*
 * Writes a batch; `fds` are the maps' descriptors by enum weft_map. -EBADMSG as above, nothing written. A write that
 * the kernel refuses ends it there, earlier runs and the earlier entries of that run stay written.
 */
int weft_kernel_batch_apply(const int fds[static WEFT_MAP_MAX_], const void *batch, size_t size,
			    uint32_t *ret_failed_run, struct weft_err *err);

/* Appends one UPDATE run with the map's contents; all-zero values of arrays are left out. On failure `batch` is as it was. */
int weft_kernel_batch_read(int fd, enum weft_map map, struct weft_buf *batch);

#endif
