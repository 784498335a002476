/* SPDX-License-Identifier: Apache-2.0 */
/* One datagram with descriptors between two roles. What it means, its caller checks. */
#ifndef WEFT_CTL_DATAGRAM_H
#define WEFT_CTL_DATAGRAM_H

#include <stddef.h>

#include "base/err.h"

#define WEFT_DATAGRAM_MAX_FDS 32

/* -EAGAIN: a non-blocking socket is full; -EPIPE, -ECONNRESET: nobody is there. `flags` are sendmsg()'s. */
int weft_datagram_send(int sock, const void *data, size_t size, const int *fds, size_t count, int flags);

/*
 * Up to `room` bytes, to *ret_size (give one more than a message has: a longer one shows), and up to `most` descriptors, which
 * are the caller's. More of them: all are closed, -EBADMSG. -EAGAIN: nothing is there; -ECONNRESET: the other side is gone.
 */
int weft_datagram_receive(int sock, void *data, size_t room, int flags, int *fds, size_t most, size_t *ret_size, size_t *ret_count,
			  struct weft_err *err);

#endif
