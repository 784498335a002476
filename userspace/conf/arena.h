/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that lives and dies together: a document's tree, a resource and all
 * that hangs on it. Nothing in it is freed alone.
 */
#ifndef WEFT_CONF_ARENA_H
#define WEFT_CONF_ARENA_H

#include <stddef.h>

#include "base/cleanup.h"

struct weft_arena;

/* With room for `expected` bytes in one piece with itself; more is added as it is needed. NULL: out of memory. */
struct weft_arena *weft_arena_new(size_t expected);
struct weft_arena *weft_arena_free(struct weft_arena *arena);
WEFT_CLEANUP_DEFINE(struct weft_arena, weft_arena_free);

/* Forgets everything that was handed out and keeps one chunk for the next user. */
void weft_arena_clear(struct weft_arena *arena);

/* What another arena of the same contents is best made for. */
size_t weft_arena_size(const struct weft_arena *arena);

/* Zeroed and aligned for any type; NULL: out of memory. A size of 0 is a valid pointer to nothing. */
void *weft_arena_alloc(struct weft_arena *arena, size_t size);
/* `size` bytes and a NUL behind them. */
char *weft_arena_copy(struct weft_arena *arena, const void *text, size_t size);

#endif
