/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup2 directories as the kernel's BPF side sees them: ids, paths, and whose programs hang where. */
#ifndef WEFT_KERNEL_CGROUP_H
#define WEFT_KERNEL_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Where cgroup2 is mounted, the first such mount. -ENOENT: nowhere. */
int weft_cgroup_mount(char *text, size_t size);

/* An O_DIRECTORY descriptor >= 0. -ENOENT, -EINVAL (no cgroup2 directory) with `err`. */
int weft_cgroup_open(const char *path, struct weft_err *err);

/* The id that links and bpf_get_current_cgroup_id() give. */
int weft_cgroup_id(int cgroup, uint64_t *ret_id);

/* -ENOENT: no such cgroup any more; -EPERM: not allowed to ask; -ENAMETOOLONG. */
int weft_cgroup_path(uint64_t id, char *text, size_t size);

/* An O_DIRECTORY descriptor of this process's own cgroup, >= 0, or -errno with `err`. */
int weft_cgroup_own(struct weft_err *err);
/* Whether `cgroup` is the cgroup with the id `id`, or below it. */
bool weft_cgroup_is_below(int cgroup, uint64_t id);

/*
 * 0, or -EBUSY if a program called `name` hangs by `attach_type` on the cgroup, on one above or on one of the first
 * few thousand below it, other than the one with the id `own` (0 = none).
 */
int weft_cgroup_check_overlap(int cgroup, uint32_t attach_type, const char *name, uint32_t own, struct weft_err *err);

#endif
