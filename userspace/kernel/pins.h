/* SPDX-License-Identifier: Apache-2.0 */
/* The pin folder: <pins>/v1/map, <pins>/v1/link and <pins>/v1/netns on a BPF filesystem, for root alone. */
#ifndef WEFT_KERNEL_PINS_H
#define WEFT_KERNEL_PINS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define WEFT_PINS_MAP "map"
#define WEFT_PINS_LINK "link"
#define WEFT_PINS_NETNS "netns"

/* "<pins>/v1/<kind>/<name>" into `path` of PATH_MAX bytes; without a name the folder. -ENAMETOOLONG. */
int weft_pins_path(char *path, const char *pins, const char *kind, const char *name);

/* Folders that weft_pins_prepare() made, so that a failing caller can take them back; zeroed at first. */
struct weft_pins_made {
	unsigned int mask;
};

/*
 * Makes the folders that are missing, and mounts a BPF filesystem on /sys/fs/bpf if they are to be there and it is
 * not mounted. -EPROTO: another version is pinned there, named in `err`.
 */
int weft_pins_prepare(const char *pins, struct weft_pins_made *made, struct weft_err *err);
void weft_pins_take_back(const char *pins, const struct weft_pins_made *made);

/* How many things of a kind are pinned; 0 if the folder is not there. */
int weft_pins_count(const char *pins, const char *kind, size_t *ret_count);

/* Detaches and unpins all links and then all maps of this version, or of every version, and removes those folders. */
int weft_pins_clear(const char *pins, bool every_version, struct weft_err *err);

#endif
