/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of choosing and of buckets, as compiled into the programs, fed with every value that matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/bucket.h"
#include "lib/choose.h"

#define LINE (1ull << 32) /* how many values a random number has */

/* Slot i must be the values from ceil(i * 2^32 / n) to below ceil((i + 1) * 2^32 / n): all borders, both sides. */
static void slots_are_uniform(void **state)
{
	static const uint32_t counts[] = { 1, 2, 3, 5, 7, 64, 100, 1000, 65535, 65536, 262144 };

	(void)state;
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		uint64_t n = counts[c];

		for (uint64_t i = 0; i < n; i++) {
			uint64_t first = (i * LINE + n - 1) / n, end = ((i + 1) * LINE + n - 1) / n;

			assert_int_equal(weft_choose_slot(first, n), i);
			assert_int_equal(weft_choose_slot(end - 1, n), i);
		}
		assert_int_equal(weft_choose_slot(0xffffffff, n), n - 1);
	}
}

static void alias_splits_at_threshold(void **state)
{
	struct weft_slot slot = { .endpoint = 1, .alias = 2, .threshold = 1000 };

	(void)state;
	assert_int_equal(weft_choose_alias(&slot, 0), 1);
	assert_int_equal(weft_choose_alias(&slot, 1000), 1);
	assert_int_equal(weft_choose_alias(&slot, 1001), 2);
	assert_int_equal(weft_choose_alias(&slot, 0xffffffff), 2);
	slot.threshold = 0xffffffff;
	assert_int_equal(weft_choose_alias(&slot, 0xffffffff), 1);
	slot.threshold = 0;
	assert_int_equal(weft_choose_alias(&slot, 0), 1);
	assert_int_equal(weft_choose_alias(&slot, 1), 2);
}

static void two_choices(void **state)
{
	(void)state;
	/* A tie leaves the first, whoever that is: else an idle service would not spread by weight. */
	assert_false(weft_choose_second(0, 1, 0, 100));
	assert_false(weft_choose_second(0, 100, 0, 1));
	assert_false(weft_choose_second(4, 2, 2, 1));
	assert_false(weft_choose_second(2, 1, 4, 2));
	assert_true(weft_choose_second(1, 1, 0, 1));
	assert_false(weft_choose_second(0, 1, 1, 1));
	/* Per weight, not per head. */
	assert_true(weft_choose_second(5, 2, 2, 1));
	assert_true(weft_choose_second(2, 1, 3, 2));
	assert_false(weft_choose_second(3, 2, 2, 1));
	/* As large as either can be. */
	assert_true(weft_choose_second(1ull << 31, 0xfffffffeu, 1ull << 31, 0xffffffffu));
	assert_false(weft_choose_second(1ull << 31, 0xffffffffu, 1ull << 31, 0xfffffffeu));
}

#define ENDPOINTS 5

/* An alias table in whole numbers: each column has its own share first and is filled up by whoever has too much. */
static void make_slots(const uint32_t *weight, uint32_t n, struct weft_slot *slots)
{
	uint64_t left[ENDPOINTS], total = 0;
	bool done[ENDPOINTS] = { false };

	for (uint32_t i = 0; i < n; i++)
		total += weight[i];
	for (uint32_t i = 0; i < n; i++)
		left[i] = weight[i] * (uint64_t)n; /* a column holds `total` */
	for (uint32_t round = 0; round < n; round++) {
		uint32_t small = n, large = n;

		for (uint32_t i = 0; i < n; i++) {
			if (!done[i] && (small == n || left[i] < left[small]))
				small = i;
		}
		for (uint32_t i = 0; i < n; i++) {
			if (!done[i] && i != small && (large == n || left[i] > left[large]))
				large = i;
		}
		slots[small] = (struct weft_slot){ .endpoint = small + 1, .alias = small + 1, .threshold = 0xffffffff };
		done[small] = true;
		if (large == n || left[small] >= total)
			continue;
		slots[small].alias = large + 1;
		slots[small].threshold = left[small] * LINE / total - 1;
		left[large] -= total - left[small];
	}
}

/*
 * Every prefix of every run stays within a few turns of the exact share: two for each of the n intervals that an
 * endpoint may own, and two more. Random draws of this length would be off by a hundred.
 */
static void turns_keep_shares(void **state)
{
	static const uint32_t weights[][ENDPOINTS] = {
		{ 90, 10 }, { 1, 1 }, { 1, 2, 3 }, { 1, 1, 1, 1, 1 }, { 100, 1, 7, 33, 2 }
	};
	static const uint64_t starts[] = { 0, 12345, UINT32_MAX - 500ull, UINT64_MAX - 500 };

	(void)state;
	for (size_t w = 0; w < sizeof(weights) / sizeof(weights[0]); w++) {
		struct weft_slot slots[ENDPOINTS];
		uint32_t n = 0, total = 0;

		while (n < ENDPOINTS && weights[w][n])
			total += weights[w][n++];
		make_slots(weights[w], n, slots);
		for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
			uint64_t hits[ENDPOINTS + 1] = { 0 };

			for (uint64_t turn = 0; turn < 50000; turn++) {
				uint32_t point = weft_choose_turn(starts[s] + turn);
				uint32_t slot = weft_choose_slot(point, n);

				assert_true(slot < n);
				hits[weft_choose_alias(&slots[slot], weft_choose_rest(point, n))]++;
				for (uint32_t i = 0; i < n; i++) {
					double off = hits[i + 1] - (turn + 1) * (double)weights[w][i] / total;

					assert_true(off < 2 * n + 2.0 && off > -2.0 * n - 2);
				}
			}
		}
	}
}

static void buckets(void **state)
{
	(void)state;
	assert_int_equal(weft_bucket(0), 0);
	assert_int_equal(weft_bucket(1), 1);
	for (uint32_t i = 1; i < WEFT_HISTOGRAM_BUCKETS - 1; i++) {
		assert_int_equal(weft_bucket(1ull << (i - 1)), i);
		assert_int_equal(weft_bucket((1ull << i) - 1), i);
	}
	assert_int_equal(weft_bucket(1ull << 30), 31);
	assert_int_equal(weft_bucket(1ull << 31), 31);
	assert_int_equal(weft_bucket(1ull << 32), 31);
	assert_int_equal(weft_bucket(UINT64_MAX), 31);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slots_are_uniform), cmocka_unit_test(alias_splits_at_threshold),
		cmocka_unit_test(two_choices),	     cmocka_unit_test(turns_keep_shares),
		cmocka_unit_test(buckets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
