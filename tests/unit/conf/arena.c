/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdalign.h>
#include <string.h>

#include "conf/arena.h"

/* Uneven sizes, each filled to its end; what was there before must not change. */
static void fill(struct weft_arena *arena, size_t count)
{
	char *kept[400];

	assert_true(count <= WEFT_ARRAY_SIZE(kept));
	for (size_t i = 0; i < count; i++) {
		char *zeros = weft_arena_alloc(arena, i * 7 + 1);

		assert_non_null(zeros);
		assert_int_equal((uintptr_t)zeros % alignof(max_align_t), 0);
		for (size_t j = 0; j <= i * 7; j++)
			assert_int_equal(zeros[j], 0);
		memset(zeros, 'x', i * 7 + 1);
		kept[i] = weft_arena_copy(arena, "some text", i % 10);
		assert_non_null(kept[i]);
	}
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(strlen(kept[i]), i % 10);
		assert_memory_equal(kept[i], "some text", i % 10);
	}
}

static void memory_is_zeroed_aligned_and_apart(void **state)
{
	static const size_t expected[] = { 0, 1, 100, 5000, 1u << 20 };

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(expected); i++) {
		weft_cleanup(weft_arena_freep) struct weft_arena *arena = weft_arena_new(expected[i]);

		assert_non_null(arena);
		for (int round = 0; round < 3; round++) {
			fill(arena, 400);
			weft_arena_clear(arena);
			fill(arena, 10);
			weft_arena_clear(arena);
		}
	}
}

static void the_same_again_needs_one_piece(void **state)
{
	weft_cleanup(weft_arena_freep) struct weft_arena *first = weft_arena_new(0), *second = NULL, *third = NULL;
	size_t size;

	(void)state;
	fill(first, 50);
	second = weft_arena_new(weft_arena_size(first));
	assert_non_null(second);
	fill(second, 50);
	size = weft_arena_size(second);
	assert_true(size <= weft_arena_size(first));
	third = weft_arena_new(size);
	assert_non_null(third);
	fill(third, 50);
	assert_int_equal(weft_arena_size(third), size);
}

static void nothing_is_something(void **state)
{
	weft_cleanup(weft_arena_freep) struct weft_arena *arena = weft_arena_new(0);

	(void)state;
	assert_int_equal(weft_arena_size(arena), 0);
	assert_non_null(weft_arena_alloc(arena, 0));
	assert_string_equal(weft_arena_copy(arena, "", 0), "");
	assert_null(weft_arena_alloc(arena, SIZE_MAX - 8));
	assert_null(weft_arena_copy(arena, "", SIZE_MAX));
	fill(arena, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
		cmocka_unit_test(the_same_again_needs_one_piece),
		cmocka_unit_test(nothing_is_something),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
