/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include "base/cleanup.h"
#include "base/table.h"

#define THINGS 5000

struct thing {
	uint32_t key;
	bool in;
};

static uint32_t hash_of(const void *item)
{
	return weft_hash(&((const struct thing *)item)->key, sizeof(uint32_t), 0);
}

/* Long runs, which wrap around the end of the table. */
static uint32_t crowded(const void *item)
{
	return 0xfffffff8u + ((const struct thing *)item)->key % 16;
}

static bool is(const void *item, const void *key)
{
	return ((const struct thing *)item)->key == *(const uint32_t *)key;
}

static void check_all(const struct weft_hash_table *table, const struct thing *thing, size_t count, weft_hash_table_hash *hash)
{
	size_t in = 0, seen = 0, at = 0;

	for (size_t i = 0; i < count; i++) {
		assert_ptr_equal(weft_hash_table_find(table, hash(&thing[i]), is, &thing[i].key), thing[i].in ? &thing[i] : NULL);
		in += thing[i].in;
	}
	for (const struct thing *one; (one = weft_hash_table_next(table, &at)); seen++)
		assert_true(one->in);
	assert_int_equal(seen, in);
	assert_int_equal(table->count, in);
}

static void churn(size_t count, weft_hash_table_hash *hash)
{
	static struct thing thing[THINGS];
	struct weft_hash_table table = { 0 };
	uint64_t random = 1;

	for (size_t i = 0; i < count; i++)
		thing[i] = (struct thing){ .key = (uint32_t)(i * 2654435761u) };
	check_all(&table, thing, count, hash);
	for (size_t step = 0; step < 20 * count; step++) {
		struct thing *one;

		random = random * 6364136223846793005u + 1442695040888963407u;
		one = &thing[(random >> 33) % count];
		if (one->in)
			weft_hash_table_remove(&table, one, hash);
		else
			assert_int_equal(weft_hash_table_add(&table, one, hash), 0);
		one->in = !one->in;
		if (step % count == 0)
			check_all(&table, thing, count, hash);
	}
	check_all(&table, thing, count, hash);
	weft_hash_table_done(&table);
	assert_int_equal(table.count, 0);
}

static void what_comes_and_goes_is_found(void **state)
{
	(void)state;
	churn(THINGS, hash_of);
}

static void so_it_is_where_all_want_one_place(void **state)
{
	(void)state;
	churn(40, crowded);
}

static void hashes_tell_sizes_and_beginnings_apart(void **state)
{
	static const char zeros[32];
	uint32_t hash[64];

	(void)state;
	for (size_t i = 0; i < 32; i++) {
		hash[i] = weft_hash(zeros, i, 0);
		hash[i + 32] = weft_hash(zeros, i, 1);
	}
	for (size_t i = 0; i < 64; i++)
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(hash[i], hash[j]);
}

/*
 * What the highest bit of one word changes, other bits of the next must not change back: texts that all meet in one place
 * could be made at will. Pairs of words, each changed so or not.
 */
static void no_change_is_undone_by_the_next(void **state)
{
	uint32_t hash[1 << 8];

	(void)state;
	for (uint64_t seed = 1; seed <= 16; seed++)
		for (size_t i = 0; i < WEFT_ARRAY_SIZE(hash); i++) {
			uint64_t word[16], random = seed;

			for (size_t bit = 0; bit < 8; bit++) {
				random = random * 6364136223846793005u + 1442695040888963407u;
				word[2 * bit] = random ^ (uint64_t)(i >> bit & 1) << 62;
				word[2 * bit + 1] = ~random ^ (i >> bit & 1 ? 1ull << 62 | 1ull << 30 : 0);
			}
			hash[i] = weft_hash(word, sizeof(word), 0);
			for (size_t j = 0; j < i; j++)
				assert_int_not_equal(hash[i], hash[j]);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_comes_and_goes_is_found),
		cmocka_unit_test(so_it_is_where_all_want_one_place),
		cmocka_unit_test(hashes_tell_sizes_and_beginnings_apart),
		cmocka_unit_test(no_change_is_undone_by_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
