/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of BPF iterators. */
#ifndef WEFT_KERNEL_ITER_H
#define WEFT_KERNEL_ITER_H

#include "base/buf.h"
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

#endif
