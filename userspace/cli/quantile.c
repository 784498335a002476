/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/quantile.h"

__u64 weft_histogram_count(const __u64 *buckets)
{
	__u64 count = 0;

	for (int i = 0; i < WEFT_HISTOGRAM_BUCKETS; i++)
		count += buckets[i];
	return count;
}

__u64 weft_histogram_quantile(const __u64 *buckets, double share)
{
	double want = share * (double)weft_histogram_count(buckets), below = 0;

	if (want <= 0)
		return 0;
	for (int i = 0; i < WEFT_HISTOGRAM_BUCKETS; i++) {
		double low = i ? (double)(1ull << (i - 1)) : 0, high = i ? 2 * low : 0, here = (double)buckets[i];

		if (here > 0 && below + here >= want)
			return (__u64)(low + (high - low) * (want - below) / here);
		below += here;
	}
	return 0;
}
