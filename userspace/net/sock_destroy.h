/* SPDX-License-Identifier: Apache-2.0 */
/* SOCK_DESTROY over NETLINK_SOCK_DIAG, for kernels without bpf_sock_destroy. */
#ifndef WEFT_NET_SOCK_DESTROY_H
#define WEFT_NET_SOCK_DESTROY_H

#include "base/err.h"
#include "weft/abi/maps.h"

/*
 * Destroys one socket of this thread's network namespace. It is named by
 * address pair and socket cookie, and the kernel compares the cookie: a
 * successor on the same ports is never hit. -ENOENT: it is gone already.
 * -EOPNOTSUPP: the kernel lacks CONFIG_INET_DIAG_DESTROY.
 */
int weft_sock_destroy(const struct weft_conn *conn, struct weft_err *err);

#endif
