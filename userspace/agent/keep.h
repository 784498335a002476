/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that outlive main and the proxies: what init holds by {network namespace, port, family}. */
#ifndef WEFT_AGENT_KEEP_H
#define WEFT_AGENT_KEEP_H

#include <stddef.h>

#include "agent/roles.h"

struct weft_keep_entry {
	struct weft_kept kept;
	int fd;
};

struct weft_keep {
	struct weft_keep_entry *entry;
	size_t count;
	size_t room;
};

void weft_keep_done(struct weft_keep *keep);
/* The entry of the same netns, port and family, or NULL. */
const struct weft_keep_entry *weft_keep_find(const struct weft_keep *keep, const struct weft_kept *kept);
/*
 * Takes `fd` over, also on failure. `fd` < 0: the descriptor that is there stays, its workload is new. -ENOENT: there is
 * none; -ENOSPC: WEFT_KEPT_MAX are there.
 */
int weft_keep_put(struct weft_keep *keep, const struct weft_kept *kept, int fd);
/* Closes it. -ENOENT. */
int weft_keep_drop(struct weft_keep *keep, const struct weft_kept *kept);

#endif
