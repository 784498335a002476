/* SPDX-License-Identifier: Apache-2.0 */
/* What a histogram of powers of two says about its values. */
#ifndef WEFT_CLI_QUANTILE_H
#define WEFT_CLI_QUANTILE_H

#include "weft/abi/maps.h"

__u64 weft_histogram_count(const __u64 *buckets);
/* The value, in microseconds, below which `share` (0 to 1) of the values are, straight between a bucket's ends. 0 if there are none. */
__u64 weft_histogram_quantile(const __u64 *buckets, double share);

#endif
