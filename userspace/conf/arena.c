/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#define CHUNK_FIRST 512u /* where nothing was expected: a Service fits */
#define CHUNK_LEAST 64u
#define CHUNK_LARGEST (256u << 10)

struct chunk {
	struct chunk *next;
	size_t size;
	alignas(max_align_t) char data[];
};

struct weft_arena {
	struct chunk *chunk; /* the one in use first; NULL: `first` is */
	size_t used; /* of it */
	size_t total; /* of all, with `first` */
	uint32_t size; /* of `first` */
	uint32_t least; /* of a chunk: what was needed before it was cleared */
	alignas(max_align_t) char first[];
};

struct weft_arena *weft_arena_new(size_t expected)
{
	uint32_t size = expected < CHUNK_LARGEST ? (uint32_t)expected : CHUNK_LARGEST;
	struct weft_arena *arena = malloc(sizeof(*arena) + size);

	if (arena)
		*arena = (struct weft_arena){ .total = size, .size = size };
	return arena;
}

static void free_chunks(struct chunk *chunk)
{
	while (chunk) {
		struct chunk *next = chunk->next;

		free(chunk);
		chunk = next;
	}
}

struct weft_arena *weft_arena_free(struct weft_arena *arena)
{
	if (arena)
		free_chunks(arena->chunk);
	free(arena);
	return NULL;
}

void weft_arena_clear(struct weft_arena *arena)
{
	arena->used = 0;
	if (!arena->chunk || (!arena->chunk->next && !arena->size && arena->chunk->size <= CHUNK_LARGEST))
		return;
	/* The next user is like the last one: one chunk for all of it. */
	arena->least = arena->total < CHUNK_LARGEST ? (uint32_t)arena->total : CHUNK_LARGEST;
	free_chunks(arena->chunk);
	arena->chunk = NULL;
	arena->total = arena->size;
}

size_t weft_arena_size(const struct weft_arena *arena)
{
	return arena->total - (arena->chunk ? arena->chunk->size : arena->size) + arena->used;
}

/* Chunks grow with the whole, so that what is never used stays a small part of it. */
static size_t next_size(const struct weft_arena *arena)
{
	size_t size = arena->total ? arena->total / 4 : CHUNK_FIRST;
	size_t least = arena->least > CHUNK_LEAST ? arena->least : CHUNK_LEAST;

	return size < least ? least : size > CHUNK_LARGEST ? CHUNK_LARGEST : size;
}

static void *take(struct weft_arena *arena, size_t size, size_t alignment)
{
	size_t at = (arena->used + alignment - 1) & ~(alignment - 1);
	size_t room = arena->chunk ? arena->chunk->size : arena->size;

	if (at > room || size > room - at) {
		size_t want = next_size(arena) < size ? size : next_size(arena);
		struct chunk *chunk;

		if (want > SIZE_MAX - sizeof(*chunk))
			return NULL;
		chunk = malloc(sizeof(*chunk) + want);
		if (!chunk)
			return NULL;
		*chunk = (struct chunk){ .next = arena->chunk, .size = want };
		arena->chunk = chunk;
		arena->total += want;
		at = 0;
	}
	arena->used = at + size;
	return (arena->chunk ? arena->chunk->data : arena->first) + at;
}

void *weft_arena_alloc(struct weft_arena *arena, size_t size)
{
	void *memory = take(arena, size, alignof(max_align_t));

	return memory ? memset(memory, 0, size) : NULL;
}

char *weft_arena_copy(struct weft_arena *arena, const void *text, size_t size)
{
	char *copy = size < SIZE_MAX ? take(arena, size + 1, 1) : NULL;

	if (!copy)
		return NULL;
	memcpy(copy, text, size);
	copy[size] = '\0';
	return copy;
}
