/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Live connections by endpoint, exact.
 *
 * A holder (a struct weft_sock or a struct weft_udp_entry) stores the epoch
 * under which it was counted, 0 if it is not. Counting goes 0 -> epoch, giving
 * back goes epoch -> 0 by an exchange, so that of all who may give back (CLOSE,
 * release, the next connect) one alone gets a number other than 0 and subtracts.
 * A recount (recount.bpf.c) moves holders from an older epoch to the one in
 * force by compare-exchange, against which the same exchange decides.
 */
#ifndef WEFT_LIB_LIVE_H
#define WEFT_LIB_LIVE_H

#include "lib/settle.h"
#include "maps/config.h"
#include "maps/state.h"

static __always_inline struct weft_setting *weft_setting_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weft_setting, &zero);
}

static __always_inline struct weft_live *weft_live_get(__u32 endpoint)
{
	__u32 index = WEFT_ENDPOINT_INDEX(endpoint);

	return bpf_map_lookup_elem(&weft_live, &index);
}

/* Counts a holder of `endpoint` that is not counted yet; the holder's endpoint must be stored before. */
static __always_inline void weft_live_take(const struct weft_setting *setting, __u32 endpoint, __u32 *epoch)
{
	struct weft_live *live = weft_live_get(endpoint);
	__u32 now = *(volatile const __u32 *)&setting->epoch;

	if (!live || !now)
		return;
	__sync_fetch_and_add(&live->count[now & 1], 1);
	*(volatile __u32 *)epoch = now;
}

/* Gives back what a holder holds, if it still does. A count under another epoch is in the half that means nothing. */
static __always_inline void weft_live_give_back(__u32 endpoint, __u32 *epoch)
{
	struct weft_setting *setting;
	struct weft_live *live;
	__u32 held;

	if (!*(volatile __u32 *)epoch)
		return;
	held = weft_settle_exchange(epoch, 0);
	setting = weft_setting_get();
	if (!held || !setting || held != *(volatile __u32 *)&setting->epoch)
		return;
	live = weft_live_get(endpoint);
	if (live)
		__sync_fetch_and_add(&live->count[held & 1], -1);
}

#endif
