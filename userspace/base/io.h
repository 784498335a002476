/* SPDX-License-Identifier: Apache-2.0 */
/* Files and memfds, whole. */
#ifndef WEFT_BASE_IO_H
#define WEFT_BASE_IO_H

#include <stddef.h>

#include "base/buf.h"

/* Reads all of `fd` into the empty `buf`. -EFBIG beyond `limit`; on any error `buf` is empty. */
int weft_read_all(int fd, size_t limit, struct weft_buf *buf);
/* 0 or -errno; retries short writes. */
int weft_write_all(int fd, const void *data, size_t size);
/* Replaces `name` in `dir` by a file with this content: written aside, synced, renamed. On failure the old one stays. */
int weft_write_file_at(int dir, const char *name, const void *data, size_t size, int mode);

/* A memfd with this content, sealed so that its reader may map it and trust its size and bytes. >= 0 or -errno. */
int weft_memfd_from(const char *name, const void *data, size_t size);
/* Maps a memfd of `size` bytes read-only. -EPERM: not sealed; -EMSGSIZE: of another size. Unmap with munmap(). */
int weft_memfd_map(int fd, size_t size, const void **ret_data);

#endif
