/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who holds how much of something that a process may have only so much of: connections, streams. While there is room nobody is
 * limited. The last quarter is for those who hold less than an equal share, and of them nobody gets more than half of what is left,
 * so that there is always something for who comes next. It takes back nothing: who is over his share gives way by getting no more.
 */
#ifndef WEFT_PROXY_SHARES_H
#define WEFT_PROXY_SHARES_H

#include <stddef.h>

#include "base/cleanup.h"

struct weft_shares;
struct weft_share; /* what one source holds; gone with the last of it */

/* NULL: out of memory. */
struct weft_shares *weft_shares_new(unsigned int limit);
/* Shares that were taken keep it until they are given back. */
struct weft_shares *weft_shares_unref(struct weft_shares *shares);
WEFT_CLEANUP_DEFINE(struct weft_shares, weft_shares_unref);

/* More or less than before; whoever is over it loses nothing. */
void weft_shares_limit(struct weft_shares *shares, unsigned int limit);
unsigned int weft_shares_held(const struct weft_shares *shares);

/* One more for the source that is called `key`, `size` bytes that are copied. -EDQUOT: it would be more than its share. -ENOMEM. */
int weft_shares_take(struct weft_shares *shares, const void *key, size_t size, struct weft_share **ret_share);
struct weft_share *weft_share_give(struct weft_share *share);

#endif
