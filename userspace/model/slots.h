/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What weft_slot needs: the alias table of a set of weighted endpoints, and
 * the ranges of the array that such tables lie in.
 *
 * Ranges are buddies, powers of two of slots: sets of endpoints change their
 * size all day for years, and buddies come together again by themselves.
 */
#ifndef WEFT_MODEL_SLOTS_H
#define WEFT_MODEL_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weft/abi/maps.h"

struct weft_choice {
	uint32_t endpoint; /* id */
	uint32_t weight; /* >= 1 */
};

/*
 * Fills `count` slots so that each endpoint is chosen as its weight says,
 * exact to 2^-32 of a slot. `work` has `count` items. Returns true if weights differ.
 */
bool weft_slots_fill(const struct weft_choice *choice, uint32_t count, uint32_t *work, struct weft_slot *slot);

struct weft_ranges {
	uint32_t capacity;
	uint32_t orders;
	uint64_t **free; /* [order] a bit for each block that is free as a whole */
	uint32_t *count; /* [order] of those */
	uint32_t *hint; /* [order] no free block before this word */
	uint32_t used; /* slots in taken ranges */
};

/* 0 or -ENOMEM. */
int weft_ranges_init(struct weft_ranges *ranges, uint32_t capacity);
void weft_ranges_done(struct weft_ranges *ranges);
/* What was taken stays taken; a smaller capacity changes nothing. -ENOMEM: all is as it was. */
int weft_ranges_grow(struct weft_ranges *ranges, uint32_t capacity);

/* Slots that a range for `count` takes. */
uint32_t weft_ranges_round(uint32_t count);
/* The lowest smallest range of at least `count` slots, count >= 1. -ENOSPC: none is free. */
int weft_ranges_get(struct weft_ranges *ranges, uint32_t count, uint32_t *ret_first);
/* This very range. -EBUSY: not (wholly) free, or no range that weft_ranges_get() could have given. */
int weft_ranges_take(struct weft_ranges *ranges, uint32_t first, uint32_t count);
void weft_ranges_put(struct weft_ranges *ranges, uint32_t first, uint32_t count);

#endif
