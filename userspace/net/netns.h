/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces by name, and work done inside them. A thread that enters
 * one comes back, or the process ends: half-way is no state to go on in.
 */
#ifndef WEFT_NET_NETNS_H
#define WEFT_NET_NETNS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * `name` is that of a file below /run/netns, without a slash, opened without following links; or "pid:NUMBER", the one of that
 * process, for which CAP_SYS_PTRACE may be needed. Checked to be a network namespace. >= 0, or -ENOENT, -EINVAL, -EACCES with `err`.
 */
int weft_netns_open(const char *name, struct weft_err *err);
/* Whether that is a process's. */
bool weft_netns_is_pid(const char *name);
/* That of a socket, as long as CAP_NET_ADMIN is there. */
int weft_netns_of_socket(int sock);
int weft_netns_open_self(void);
/* Inode as /proc/PID/ns/net shows it. */
int weft_netns_inode(int netns, ino_t *ret_inode);
/* SO_NETNS_COOKIE of a socket made inside; -EOPNOTSUPP on kernels before 5.14. */
int weft_netns_cookie(int netns, uint64_t *ret_cookie);
/* Calls work(context) with this thread inside `netns`; returns what it returned, or -errno if it could not enter. Aborts if it cannot return. */
int weft_netns_run(int netns, int (*work)(void *context), void *context);
/* True for two descriptors of one network namespace. */
bool weft_netns_same(int a, int b);
/* Opens all of /run/netns, and this one first. *ret_fds is an array that the caller closes and frees. */
int weft_netns_open_all(int **ret_fds, size_t *ret_count);

#endif
