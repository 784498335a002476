/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs that this binary carries, fitted to a kernel. There are two builds of the same
 * programs and maps (bpf/meson.build), one for kernels that refuse atomics which return a
 * value, and switches that are constants to the verifier.
 */
#ifndef WEFT_KERNEL_BUILD_H
#define WEFT_KERNEL_BUILD_H

#include <stdint.h>

#include "weft.skel.h"

/* `features`: mask of enum weft_feature. Opened, not loaded; the caller destroys it by weft_bpf__destroy(). -errno. */
int weft_build_open(uint64_t features, struct weft_bpf **ret_skel);

#endif
