/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table of things that hold their own keys: open addressing, one pointer a thing and some to spare. A mesh of a
 * hundred thousand endpoints is a hundred thousand table entries in the agent, and uthash takes 56 bytes of each thing.
 */
#ifndef WEFT_BASE_TABLE_H
#define WEFT_BASE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct weft_hash_table {
	void **slot;
	size_t room; /* 0 or a power of two */
	size_t count;
};

/* Of a thing's own key. */
typedef uint32_t weft_hash_table_hash(const void *item);
typedef bool weft_hash_table_is(const void *item, const void *key);

/* Of bytes; `before` is the hash of what stands before them, 0 at the start. */
uint32_t weft_hash(const void *data, size_t size, uint32_t before);
uint64_t weft_hash64(const void *data, size_t size, uint64_t before);

/* Frees the table and not what is in it. */
void weft_hash_table_done(struct weft_hash_table *table);

/* NULL: it is not there. `hash` is that of `key`. */
void *weft_hash_table_find(const struct weft_hash_table *table, uint32_t hash, weft_hash_table_is *is, const void *key);
/* Of a thing whose key is not there. -ENOMEM: not added. */
int weft_hash_table_add(struct weft_hash_table *table, void *item, weft_hash_table_hash *hash_of);
/* Of a thing that is there. */
void weft_hash_table_remove(struct weft_hash_table *table, const void *item, weft_hash_table_hash *hash_of);
/* All of them in no order: `*at` begins with 0; NULL at the end. Nothing may be added or removed meanwhile. */
void *weft_hash_table_next(const struct weft_hash_table *table, size_t *at);

#endif
