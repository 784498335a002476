/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NETLINK_SOCK_DIAG: SOCK_DESTROY for kernels without bpf_sock_destroy, and for connections that are half open, which no program can
 * keep anything of: there is no socket yet.
 */
#ifndef WEFT_NET_SOCK_DESTROY_H
#define WEFT_NET_SOCK_DESTROY_H

#include "base/buf.h"
#include "base/err.h"
#include "weft/abi/maps.h"

/*
 * Destroys one socket of this thread's network namespace. It is named by
 * address pair and socket cookie, and the kernel compares the cookie: a
 * successor on the same ports is never hit. -ENOENT: it is gone already.
 * -EOPNOTSUPP: the kernel lacks CONFIG_INET_DIAG_DESTROY.
 */
int weft_sock_destroy(const struct weft_conn *conn, struct weft_err *err);

/*
 * Adds the connections of this thread's network namespace whose SYN came and whose ACK did not: ends, family, cookie (the socket
 * will have the same one), as a server's. Nothing is added on failure.
 */
int weft_sock_half_open(struct weft_buf *out, struct weft_err *err);

#endif
