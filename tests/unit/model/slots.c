/* SPDX-License-Identifier: Apache-2.0 */
#include "model/slots.h"

#include "lib.h"

#define WHOLE 4294967296.0

static double share(const struct weft_slot *slot, uint32_t count, uint32_t id)
{
	double sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		double own = ((double)slot[i].threshold + 1) / WHOLE;

		assert_int_equal(slot[i].pad, 0);
		sum += (slot[i].endpoint == id ? own : 0) + (slot[i].alias == id ? 1 - own : 0);
	}
	return sum / count;
}

static void check_weights(const uint32_t *weight, uint32_t count, bool weighted)
{
	struct weft_choice choice[64];
	struct weft_slot slot[64];
	uint32_t work[64];
	double total = 0;

	for (uint32_t i = 0; i < count; i++) {
		choice[i] = (struct weft_choice){ .endpoint = 1000 + i, .weight = weight[i] };
		total += weight[i];
	}
	assert_int_equal(weft_slots_fill(choice, count, work, slot), weighted);
	for (uint32_t i = 0; i < count; i++) {
		double off = share(slot, count, 1000 + i) - weight[i] / total;

		/* each of the `count` slots is off by 2^-32 at most */
		assert_true(off < 1.01 / WHOLE && off > -1.01 / WHOLE);
	}
}

static void test_alias_gives_every_weight_its_share(void **state)
{
	const uint32_t one[] = { 7 }, equal[] = { 5, 5, 5 }, ninety[] = { 90, 10 }, wide[] = { 1, 4294967295u, 1 };
	uint32_t many[64], seed = 1;

	(void)state;
	check_weights(one, 1, false);
	check_weights(equal, 3, false);
	check_weights(ninety, 2, true);
	check_weights(wide, 3, true);
	for (int round = 0; round < 2000; round++) {
		uint32_t count = 2 + (uint32_t)round % 63;

		for (uint32_t i = 0; i < count; i++) {
			seed = seed * 1664525 + 1013904223;
			many[i] = 1 + (seed >> 8) % (round % 2 ? 10 : 1000000);
		}
		many[0] = many[1] + 1;
		check_weights(many, count, true);
	}
}

static void test_ranges_are_disjoint_and_come_back(void **state)
{
	enum { CAPACITY = 1000, HELD = 200 };
	struct weft_ranges ranges;
	struct {
		uint32_t first, count;
	} held[HELD] = { 0 };
	unsigned char owner[CAPACITY] = { 0 };
	uint32_t seed = 7, first;

	(void)state;
	assert_int_equal(weft_ranges_init(&ranges, CAPACITY), 0);
	for (int round = 0; round < 50000; round++) {
		size_t at;
		uint32_t count;

		seed = seed * 1664525 + 1013904223;
		at = (seed >> 8) % HELD;
		count = 1 + (seed >> 20) % 40;
		if (held[at].count) {
			for (uint32_t i = 0; i < held[at].count; i++)
				owner[held[at].first + i] = 0;
			weft_ranges_put(&ranges, held[at].first, held[at].count);
			held[at].count = 0;
		} else if (weft_ranges_get(&ranges, count, &first) == 0) {
			assert_in_range(first + weft_ranges_round(count), 1, CAPACITY);
			for (uint32_t i = 0; i < count; i++) {
				assert_int_equal(owner[first + i], 0);
				owner[first + i] = 1;
			}
			held[at].first = first;
			held[at].count = count;
		}
	}
	for (size_t i = 0; i < HELD; i++)
		if (held[i].count)
			weft_ranges_put(&ranges, held[i].first, held[i].count);
	/* 1000 = 512 + 256 + 128 + 64 + 32 + 8: only whole buddies could give these again */
	assert_int_equal(ranges.used, 0);
	assert_int_equal(weft_ranges_get(&ranges, 512, &first), 0);
	assert_int_equal(first, 0);
	assert_int_equal(weft_ranges_get(&ranges, 257, &first), -ENOSPC);
	assert_int_equal(weft_ranges_get(&ranges, 256, &first), 0);
	assert_int_equal(weft_ranges_get(&ranges, 128, &first), 0);
	assert_int_equal(weft_ranges_get(&ranges, 64, &first), 0);
	assert_int_equal(weft_ranges_get(&ranges, 32, &first), 0);
	assert_int_equal(weft_ranges_get(&ranges, 8, &first), 0);
	assert_int_equal(weft_ranges_get(&ranges, 1, &first), -ENOSPC);
	weft_ranges_done(&ranges);
}

static void test_a_range_is_taken_by_place(void **state)
{
	struct weft_ranges ranges;
	uint32_t first;

	(void)state;
	assert_int_equal(weft_ranges_init(&ranges, 16), 0);
	assert_int_equal(weft_ranges_take(&ranges, 4, 3), 0);
	assert_int_equal(weft_ranges_take(&ranges, 6, 1), -EBUSY);
	assert_int_equal(weft_ranges_take(&ranges, 9, 2), -EBUSY);
	assert_int_equal(weft_ranges_take(&ranges, 16, 1), -EBUSY);
	assert_int_equal(weft_ranges_take(&ranges, 0, 32), -EBUSY);
	assert_int_equal(weft_ranges_get(&ranges, 8, &first), 0);
	assert_int_equal(first, 8);
	assert_int_equal(weft_ranges_get(&ranges, 4, &first), 0);
	assert_int_equal(first, 0);
	assert_int_equal(weft_ranges_get(&ranges, 1, &first), -ENOSPC);
	weft_ranges_put(&ranges, 4, 3);
	assert_int_equal(weft_ranges_get(&ranges, 4, &first), 0);
	assert_int_equal(first, 4);
	weft_ranges_done(&ranges);
}

/* From any size to any other with some of it taken: disjoint as ever, and whole again when all is given back. */
static void test_growing_keeps_what_is_taken(void **state)
{
	static const uint32_t sizes[] = { 1, 5, 16, 100, 1000 };

	(void)state;
	for (size_t small = 0; small < WEFT_ARRAY_SIZE(sizes); small++)
		for (size_t large = small; large < WEFT_ARRAY_SIZE(sizes); large++) {
			uint32_t taken[1000] = { 0 }, first, count = 0, whole = 1;
			struct weft_ranges ranges;

			assert_int_equal(weft_ranges_init(&ranges, sizes[small]), 0);
			for (uint32_t i = 0; i < sizes[small]; i += 2)
				if (weft_ranges_take(&ranges, i, 1) == 0)
					taken[i] = ++count;
			assert_int_equal(count, (sizes[small] + 1) / 2);
			assert_int_equal(weft_ranges_grow(&ranges, sizes[large]), 0);
			assert_int_equal(weft_ranges_grow(&ranges, 1), 0);
			assert_int_equal(ranges.capacity, sizes[large]);
			assert_int_equal(ranges.used, count);
			while (weft_ranges_get(&ranges, 1, &first) == 0) {
				assert_true(first < sizes[large]);
				assert_int_equal(taken[first], 0);
				taken[first] = ++count;
			}
			assert_int_equal(count, sizes[large]);
			for (uint32_t i = 0; i < sizes[large]; i++)
				weft_ranges_put(&ranges, i, 1);
			while (whole * 2 <= sizes[large])
				whole *= 2;
			assert_int_equal(weft_ranges_get(&ranges, whole, &first), 0);
			assert_int_equal(first, 0);
			weft_ranges_done(&ranges);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alias_gives_every_weight_its_share),
		cmocka_unit_test(test_ranges_are_disjoint_and_come_back),
		cmocka_unit_test(test_a_range_is_taken_by_place),
		cmocka_unit_test(test_growing_keeps_what_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
