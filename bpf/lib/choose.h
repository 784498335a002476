/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The arithmetic of choosing, free of maps and helpers: randomness comes in as
 * arguments, so that a host test can feed every value (tests/bpf/choose.c).
 */
#ifndef WEFT_LIB_CHOOSE_H
#define WEFT_LIB_CHOOSE_H

#include <stdbool.h>

#include "weft/abi/maps.h"

/*
 * A uniform slot out of `count` from a uniform 32-bit number, without the
 * division of a modulo. No slot's probability is off by more than 2^-32.
 */
static inline __attribute__((always_inline)) __u32 weft_choose_slot(__u32 random, __u32 count)
{
	return (__u64)random * count >> 32;
}

/* The slot's own endpoint or its alias (abi/maps.h, struct weft_slot). */
static inline __attribute__((always_inline)) __u32 weft_choose_alias(const struct weft_slot *slot, __u32 random)
{
	return random <= slot->threshold ? slot->endpoint : slot->alias;
}

/*
 * Two choices: whether `b` carries strictly less per weight than `a`, the one
 * drawn first. On a tie `a` stays, which leaves an idle service with exactly
 * the spread of a single draw by weight.
 */
static inline __attribute__((always_inline)) bool weft_choose_second(__u64 live_a, __u32 weight_a, __u64 live_b,
								     __u32 weight_b)
{
	return live_b * weight_a < live_a * weight_b;
}

/*
 * ROUND_ROBIN over weighted slots: the n-th turn's point of a golden-ratio
 * (Weyl) sequence over [0, 2^32), to be used as the `random` that picks the slot; what it
 * leaves over within the slot picks between endpoint and alias.
 *
 * An endpoint owns a fixed set of at most `count` intervals of that line, with
 * its weight as their total length. The golden ratio has the smallest discrepancy a
 * rotation can have: after N turns the hits in any one interval differ from N times
 * its length by O(log N), whatever N. So each endpoint gets its share within a bounded
 * error instead of the O(sqrt N) of random draws, and turns of one endpoint are
 * spread out instead of coming in a burst, with one counter as the only state.
 */
static inline __attribute__((always_inline)) __u32 weft_choose_turn(__u64 turn)
{
	return turn * 0x9e3779b97f4a7c15ull >> 32;
}

/* The position within its slot of a point that weft_choose_slot() was given. */
static inline __attribute__((always_inline)) __u32 weft_choose_rest(__u32 point, __u32 count)
{
	return (__u32)((__u64)point * count);
}

#endif
