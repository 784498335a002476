/* SPDX-License-Identifier: Apache-2.0 */
#include "model/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Vose's method in whole numbers: each slot is worth `total`, an endpoint
 * brings weight * count. `work` holds the small ones from the front and the
 * large ones from the back; what a large one has left over lies in `left`,
 * which borrows the slot's own memory (threshold and pad) until the end.
 */
static uint64_t left_get(const struct weft_slot *slot)
{
	return (uint64_t)slot->pad << 32 | slot->threshold;
}

static void left_set(struct weft_slot *slot, uint64_t left)
{
	slot->threshold = (uint32_t)left;
	slot->pad = (uint32_t)(left >> 32);
}

static uint32_t threshold_of(uint64_t part, uint64_t whole)
{
	__extension__ unsigned __int128 scaled = ((unsigned __int128)part << 32) + whole / 2;
	uint64_t chances = (uint64_t)(scaled / whole); /* of 2^32; the slot is taken if r <= threshold */

	if (!chances)
		chances = 1;
	return chances > UINT32_MAX ? UINT32_MAX : (uint32_t)(chances - 1);
}

bool weft_slots_fill(const struct weft_choice *choice, uint32_t count, uint32_t *work, struct weft_slot *slot)
{
	uint64_t total = 0;
	uint32_t small = 0, large = count;
	bool weighted = false;

	for (uint32_t i = 0; i < count; i++) {
		total += choice[i].weight;
		weighted |= choice[i].weight != choice[0].weight;
		slot[i] = (struct weft_slot){ .endpoint = choice[i].endpoint,
					      .alias = choice[i].endpoint,
					      .threshold = UINT32_MAX };
	}
	if (!weighted)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t have = (uint64_t)choice[i].weight * count;

		left_set(&slot[i], have);
		if (have < total)
			work[small++] = i;
		else
			work[--large] = i;
	}
	while (small && large < count) {
		uint32_t poor = work[--small], rich = work[large];
		uint64_t have = left_get(&slot[poor]), left = left_get(&slot[rich]) - (total - have);

		slot[poor].alias = choice[rich].endpoint;
		slot[poor].threshold = threshold_of(have, total);
		slot[poor].pad = 0;
		left_set(&slot[rich], left);
		if (left < total) {
			large++;
			work[small++] = rich;
		}
	}
	/* Whole numbers leave no rounding behind: whoever remains fills its slot exactly. */
	while (large < count) {
		slot[work[large]].threshold = UINT32_MAX;
		slot[work[large++]].pad = 0;
	}
	while (small) {
		slot[work[--small]].threshold = UINT32_MAX;
		slot[work[small]].pad = 0;
	}
	return true;
}

/* ---- ranges ---- */

static uint32_t order_of(uint32_t count)
{
	return count <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(count - 1);
}

static bool is_free(const struct weft_ranges *ranges, uint32_t order, uint32_t block)
{
	return ranges->free[order][block / 64] >> (block % 64) & 1;
}

static void mark(struct weft_ranges *ranges, uint32_t order, uint32_t block)
{
	ranges->free[order][block / 64] |= 1ull << (block % 64);
	ranges->count[order]++;
	if (block / 64 < ranges->hint[order])
		ranges->hint[order] = block / 64;
}

static void unmark(struct weft_ranges *ranges, uint32_t order, uint32_t block)
{
	ranges->free[order][block / 64] &= ~(1ull << (block % 64));
	ranges->count[order]--;
}

int weft_ranges_init(struct weft_ranges *ranges, uint32_t capacity)
{
	struct weft_ranges made = { .capacity = capacity, .orders = order_of(capacity) + 1 };
	uint32_t at = 0;

	made.free = calloc(made.orders, sizeof(*made.free));
	made.count = calloc(made.orders, sizeof(*made.count));
	made.hint = calloc(made.orders, sizeof(*made.hint));
	if (!made.free || !made.count || !made.hint)
		goto nomem;
	for (uint32_t order = 0; order < made.orders; order++) {
		made.free[order] = calloc(((uint64_t)capacity >> order) / 64 + 1, sizeof(uint64_t));
		if (!made.free[order])
			goto nomem;
	}
	for (uint32_t order = made.orders; order-- > 0;)
		if ((uint64_t)at + (1ull << order) <= capacity) {
			mark(&made, order, at >> order);
			at += 1u << order;
		}
	*ranges = made;
	return 0;
nomem:
	weft_ranges_done(&made);
	return -ENOMEM;
}

void weft_ranges_done(struct weft_ranges *ranges)
{
	for (uint32_t order = 0; ranges->free && order < ranges->orders; order++)
		free(ranges->free[order]);
	free(ranges->free);
	free(ranges->count);
	free(ranges->hint);
	*ranges = (struct weft_ranges){ 0 };
}

uint32_t weft_ranges_round(uint32_t count)
{
	return 1u << order_of(count);
}

int weft_ranges_get(struct weft_ranges *ranges, uint32_t count, uint32_t *ret_first)
{
	uint32_t want = order_of(count), order = want, block, word;

	while (order < ranges->orders && !ranges->count[order])
		order++;
	if (order >= ranges->orders)
		return -ENOSPC;
	word = ranges->hint[order];
	while (!ranges->free[order][word])
		word++;
	ranges->hint[order] = word;
	block = word * 64 + (uint32_t)__builtin_ctzll(ranges->free[order][word]);
	unmark(ranges, order, block);
	while (order > want) {
		order--;
		block *= 2;
		mark(ranges, order, block + 1);
	}
	ranges->used += 1u << want;
	*ret_first = block << want;
	return 0;
}

int weft_ranges_take(struct weft_ranges *ranges, uint32_t first, uint32_t count)
{
	uint32_t want = order_of(count), order = want, block;

	if (want >= ranges->orders || first & ((1u << want) - 1) || (uint64_t)first + (1u << want) > ranges->capacity)
		return -EBUSY;
	while (order < ranges->orders && ((uint64_t)((first >> order) + 1) << order > ranges->capacity ||
					  !is_free(ranges, order, first >> order)))
		order++;
	if (order >= ranges->orders)
		return -EBUSY;
	block = first >> order;
	unmark(ranges, order, block);
	while (order > want) {
		order--;
		block = first >> order;
		mark(ranges, order, block ^ 1);
	}
	ranges->used += 1u << want;
	return 0;
}

/* Marks a block free, joined with its free neighbours. */
static void give(struct weft_ranges *ranges, uint32_t first, uint32_t order)
{
	uint32_t block = first >> order;

	while (order + 1 < ranges->orders && (uint64_t)((block | 1) + 1) << order <= ranges->capacity &&
	       is_free(ranges, order, block ^ 1)) {
		unmark(ranges, order, block ^ 1);
		block /= 2;
		order++;
	}
	mark(ranges, order, block);
}

void weft_ranges_put(struct weft_ranges *ranges, uint32_t first, uint32_t count)
{
	ranges->used -= 1u << order_of(count);
	give(ranges, first, order_of(count));
}

int weft_ranges_grow(struct weft_ranges *ranges, uint32_t capacity)
{
	struct weft_ranges made;
	uint32_t at = ranges->capacity;
	int r;

	if (capacity <= at)
		return 0;
	r = weft_ranges_init(&made, capacity);
	if (r < 0)
		return r;
	for (uint32_t order = 0; order < made.orders; order++) {
		size_t words = order < ranges->orders ? ((uint64_t)at >> order) / 64 + 1 : 0;

		memset(made.free[order], 0, (((uint64_t)capacity >> order) / 64 + 1) * sizeof(uint64_t));
		if (words)
			memcpy(made.free[order], ranges->free[order], words * sizeof(uint64_t));
		made.count[order] = order < ranges->orders ? ranges->count[order] : 0;
		made.hint[order] = 0;
	}
	made.used = ranges->used;
	while (at < capacity) {
		uint32_t order = at ? (uint32_t)__builtin_ctz(at) : 31;

		while ((uint64_t)at + (1ull << order) > capacity)
			order--;
		give(&made, at, order);
		at += 1u << order;
	}
	weft_ranges_done(ranges);
	*ranges = made;
	return 0;
}
