/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of a `proxy` with `control` and with `main` on the wire: one struct weft_proxy_message a datagram, with at most
 * one memfd, or up to 32 sockets. A message that is not wholly as abi/proxy.h says is an error and none of it is used: a
 * proxy reads what pods and the network send, and may have been taken over.
 */
#ifndef WEFT_CTL_PROXY_H
#define WEFT_CTL_PROXY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "weft/abi/proxy.h"

#define WEFT_PROXY_MAX_BYTES (256ull << 20) /* of a memfd: ten times the mesh of a hundred thousand endpoints */

enum weft_proxy_side {
	WEFT_PROXY_SIDE_CONTROL = 0,
	WEFT_PROXY_SIDE_MAIN,
	WEFT_PROXY_SIDE_TO_CONTROL, /* a proxy, on its link with control */
	WEFT_PROXY_SIDE_TO_MAIN, /* a proxy, on its link with main */
};

/* "MESH"; NULL for a number that is no type. */
const char *weft_proxy_type_name(unsigned int type);

/* All zero but magic, version, type and serial. */
struct weft_proxy_message weft_proxy_message(enum weft_proxy_message_type type, __u32 serial);

/*
 * Whether these bytes are a message that `from` may send, with `fds` descriptors along.
 * 0 with *ret_message, or -EBADMSG with what was wrong in `err`.
 */
int weft_proxy_check(const void *data, size_t size, size_t fds, enum weft_proxy_side from, struct weft_proxy_message *ret_message,
		     struct weft_err *err);

/*
 * Sends `message` with `size` bytes at `data` in a sealed memfd (size 0: without one; sets message->bytes); never waits.
 * -EAGAIN: the other side does not read; -EPIPE, -ECONNRESET: nobody is there.
 */
int weft_proxy_send(int sock, struct weft_proxy_message *message, const void *data, size_t size);
/* The same with a memfd that is there already, of weft_memfd_from(): one for all proxies. */
int weft_proxy_send_memfd(int sock, struct weft_proxy_message *message, int fd, size_t size);
/* The same with message->count descriptors, which stay the caller's. */
int weft_proxy_send_sockets(int sock, const struct weft_proxy_message *message, const int *fds);

/* What came along; all are the receiver's to close. */
struct weft_proxy_fds {
	int fd[WEFT_PROXY_MAX_SOCKETS];
	size_t count;
};
void weft_proxy_fds_done(struct weft_proxy_fds *fds);

/*
 * One message of `from`, without waiting. *ret_fds is empty, the memfd, or the sockets. -EAGAIN: none is there; -ECONNRESET:
 * the other side is gone; -EBADMSG: malformed, `err` says how, and what came along is closed.
 */
int weft_proxy_receive(int sock, enum weft_proxy_side from, struct weft_proxy_message *ret_message, struct weft_proxy_fds *ret_fds,
		       struct weft_err *err);

/* Whether `size` bytes are what a CONNS of `count` has: every identity an offset to a text that ends. -EBADMSG with what is wrong. */
int weft_proxy_conns_check(const void *data, size_t size, __u32 count, struct weft_err *err);

#endif
