/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of BPF iterators. */
#ifndef WEFT_KERNEL_ITER_H
#define WEFT_KERNEL_ITER_H

#include "base/buf.h"

/* Runs the iterator of a link to its end and appends what it prints; `output` may be NULL. -errno: `output` is cut short. */
int weft_iter_run(int link, struct weft_buf *output);

#endif
