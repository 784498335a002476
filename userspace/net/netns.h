/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces by what they are called, by a socket that is in them, and by the cookie that programs know them by.
 */
#ifndef WEFT_NET_NETNS_H
#define WEFT_NET_NETNS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/netns.h"

/*
 * `name` is that of a file below /run/netns, without a slash, opened without following links; or "pid:NUMBER", the one of that
 * process, for which CAP_SYS_PTRACE may be needed. Checked to be a network namespace. >= 0, or -ENOENT, -EINVAL, -EACCES with `err`.
 */
int weft_netns_open(const char *name, struct weft_err *err);
/* Whether that is a process's. */
bool weft_netns_is_pid(const char *name);
/* That of a socket, as long as CAP_NET_ADMIN is there. */
int weft_netns_of_socket(int sock);
/* SO_NETNS_COOKIE of a socket made inside; -EOPNOTSUPP on kernels before 5.14. */
int weft_netns_cookie(int netns, uint64_t *ret_cookie);
/* True for two descriptors of one network namespace. */
bool weft_netns_same(int a, int b);

#endif
