/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include "cli/quantile.h"

static void test_quantiles(void **state)
{
	__u64 buckets[WEFT_HISTOGRAM_BUCKETS] = { 0 };

	(void)state;
	assert_int_equal(weft_histogram_count(buckets), 0);
	assert_int_equal(weft_histogram_quantile(buckets, 0.5), 0);
	/* bucket 4 is [8, 16): half of its four values lie below 12 */
	buckets[4] = 4;
	assert_int_equal(weft_histogram_quantile(buckets, 0.5), 12);
	assert_int_equal(weft_histogram_quantile(buckets, 1), 16);
	/* six more in [128, 256): the median is the end of a sixth of them */
	buckets[8] = 6;
	assert_int_equal(weft_histogram_count(buckets), 10);
	assert_int_equal(weft_histogram_quantile(buckets, 0.4), 16);
	assert_int_equal(weft_histogram_quantile(buckets, 0.5), 149);
	assert_int_equal(weft_histogram_quantile(buckets, 1), 256);
	/* bucket 0 holds zeros only */
	buckets[0] = 90;
	assert_int_equal(weft_histogram_quantile(buckets, 0.5), 0);
	/* the last one does not overflow */
	buckets[WEFT_HISTOGRAM_BUCKETS - 1] = 1000000;
	assert_true(weft_histogram_quantile(buckets, 0.99) > 1u << 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_quantiles) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
