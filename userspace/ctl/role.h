/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between `control` and `main` on the wire: one struct
 * weft_role_message a datagram, with at most one memfd. A message that is not
 * wholly as abi/role.h says is an error and none of it is used: the other side
 * may have been taken over, or be of another build.
 */
#ifndef WEFT_CTL_ROLE_H
#define WEFT_CTL_ROLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "weft/abi/role.h"

#define WEFT_ROLE_MAX_BYTES (1ull << 30) /* of one memfd: ten times what the largest maps hold */

enum weft_role_side {
	WEFT_ROLE_SIDE_CONTROL = 0,
	WEFT_ROLE_SIDE_MAIN,
};

/* "APPLY"; NULL for a number that is no type. */
const char *weft_role_type_name(unsigned int type);

/* All zero but magic, version, type and serial. */
struct weft_role_message weft_role_message(enum weft_role_message_type type, __u32 serial);

/*
 * Whether these bytes are a message that `from` may send, `with_fd` telling if a descriptor came along.
 * 0 with *ret_message, or -EBADMSG with what was wrong in `err`.
 */
int weft_role_check(const void *data, size_t size, bool with_fd, enum weft_role_side from,
		    struct weft_role_message *ret_message, struct weft_err *err);

/*
 * Sends `message` with `size` bytes at `data` in a sealed memfd (size 0: without one; sets message->bytes).
 * -EAGAIN: a non-blocking socket is full; -EPIPE, -ECONNRESET: nobody is there. `flags` are send()'s.
 */
int weft_role_send(int sock, struct weft_role_message *message, const void *data, size_t size, int flags);

/*
 * One message of `from`. *ret_fd is its memfd, the caller's to close, or -1. -EAGAIN: none is there (non-blocking
 * socket or MSG_DONTWAIT in `flags`); -ECONNRESET: the other side is gone; -EBADMSG: malformed, `err` says how.
 */
int weft_role_receive(int sock, enum weft_role_side from, int flags, struct weft_role_message *ret_message, int *ret_fd,
		      struct weft_err *err);

#endif
