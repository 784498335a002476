/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of BPF iterators. */
#ifndef WEFT_KERNEL_ITER_H
#define WEFT_KERNEL_ITER_H

#include "base/buf.h"
#include "base/netns.h"
#include "weft/abi/maps.h"

/* Runs the iterator of a link to its end and appends what it prints; `output` may be NULL. -errno: `output` is cut short. */
int weft_iter_run(int link, struct weft_buf *output);

/*
 * Appends the struct weft_conn of an iterator's link to `conns`: each connection once, none left out that lived all the
 * while. -errno: `conns` is as it was.
 */
int weft_iter_conns(int link, struct weft_buf *conns);

/*
 * Adds those of `pass` that `all` does not have, by cookie, and overwrites the rest; both are in order of cookies afterwards.
 * Returns how many were added that are older than `before_ns` (CLOCK_MONOTONIC), or -ENOMEM with `all` as it was.
 */
int weft_iter_merge(struct weft_buf *all, struct weft_buf *pass, __u64 before_ns);

/* Adds the network namespaces with a name or a process. */
int weft_iter_netns(struct weft_netns_list *list);
/* weft_iter_run() or weft_iter_conns() of each link inside this network namespace, to which iterators over sockets confine themselves. */
int weft_iter_inside(int netns, const int *links, size_t count, int (*run)(int link, struct weft_buf *output), struct weft_buf *output);
/* The same inside each of these. -errno: `output`, which may be NULL, is as it was. */
int weft_iter_everywhere(const struct weft_netns_list *list, const int *links, size_t count, int (*run)(int link, struct weft_buf *output),
			 struct weft_buf *output);

#endif
