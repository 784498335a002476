/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The histograms' buckets: pure, for the host's test as for the programs. */
#ifndef WEFT_LIB_BUCKET_H
#define WEFT_LIB_BUCKET_H

#include "weft/abi/maps.h"

/* Bucket of a value in microseconds (abi/maps.h, struct weft_histogram): the number of its significant bits. */
static inline __attribute__((always_inline)) __u32 weft_bucket(__u64 us)
{
	__u32 bits = 0, value = us > 0xffffffff ? 0xffffffff : us;

	for (__u32 step = 16; step; step >>= 1) {
		if (value >> step) {
			value >>= step;
			bits += step;
		}
	}
	bits += value;
	return bits < WEFT_HISTOGRAM_BUCKETS ? bits : WEFT_HISTOGRAM_BUCKETS - 1;
}

#endif
