/* SPDX-License-Identifier: Apache-2.0 */
#include "base/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 16

/* Both halves of the product: from the low one alone the highest bits of a word would hardly show, and names that collide could be made at will. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	__extension__ unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t weft_hash64(const void *data, size_t size, uint64_t before)
{
	const char *at = data;
	uint64_t hash = before ^ size * 0x9e3779b97f4a7c15ull, word;

	for (; size >= sizeof(word); size -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		hash = mix(hash ^ word, 0xff51afd7ed558ccdull);
	}
	word = 0;
	if (size)
		memcpy(&word, at, size);
	return mix(hash ^ word, 0xc4ceb9fe1a85ec53ull);
}

uint32_t weft_hash(const void *data, size_t size, uint32_t before)
{
	return (uint32_t)weft_hash64(data, size, before);
}

void weft_hash_table_done(struct weft_hash_table *table)
{
	free(table->slot);
	*table = (struct weft_hash_table){ 0 };
}

static size_t after(const struct weft_hash_table *table, size_t at)
{
	return (at + 1) & (table->room - 1);
}

void *weft_hash_table_find(const struct weft_hash_table *table, uint32_t hash, weft_hash_table_is *is, const void *key)
{
	if (!table->room)
		return NULL;
	for (size_t at = hash & (table->room - 1); table->slot[at]; at = after(table, at))
		if (is(table->slot[at], key))
			return table->slot[at];
	return NULL;
}

static void put(struct weft_hash_table *table, void *item, uint32_t hash)
{
	size_t at = hash & (table->room - 1);

	while (table->slot[at])
		at = after(table, at);
	table->slot[at] = item;
}

int weft_hash_table_add(struct weft_hash_table *table, void *item, weft_hash_table_hash *hash_of)
{
	if (table->count >= table->room / 4 * 3) {
		size_t room = table->room ? table->room * 2 : FIRST_ROOM;
		struct weft_hash_table larger = { calloc(room, sizeof(*larger.slot)), room, table->count };

		if (!larger.slot)
			return -ENOMEM;
		for (size_t at = 0; at < table->room; at++)
			if (table->slot[at])
				put(&larger, table->slot[at], hash_of(table->slot[at]));
		free(table->slot);
		*table = larger;
	}
	put(table, item, hash_of(item));
	table->count++;
	return 0;
}

void weft_hash_table_remove(struct weft_hash_table *table, const void *item, weft_hash_table_hash *hash_of)
{
	size_t mask = table->room - 1, hole = hash_of(item) & mask;

	while (table->slot[hole] != item) {
		assert(table->slot[hole]);
		hole = after(table, hole);
	}
	/* Whoever would no longer be found behind the hole moves into it. */
	for (size_t at = after(table, hole); table->slot[at]; at = after(table, at)) {
		size_t home = hash_of(table->slot[at]) & mask;

		if (((at - home) & mask) < ((at - hole) & mask))
			continue;
		table->slot[hole] = table->slot[at];
		hole = at;
	}
	table->slot[hole] = NULL;
	table->count--;
}

void *weft_hash_table_next(const struct weft_hash_table *table, size_t *at)
{
	while (*at < table->room) {
		void *item = table->slot[(*at)++];

		if (item)
			return item;
	}
	return NULL;
}
