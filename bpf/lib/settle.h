/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Deciding between two who come at the same moment: one gets the old value, the other does not.
 *
 * Before Linux 5.12 no atomic instruction returns a value, and the verifier refuses a program that
 * merely contains one. So each program is built twice (meson.build), and for those kernels the second
 * build reads and then writes. Who comes between is not noticed: that build runs no flush beside CLOSE,
 * and its live counts are made right by a recount now and then (WEFT_FEATURE_FETCH_ATOMICS).
 */
#ifndef WEFT_LIB_SETTLE_H
#define WEFT_LIB_SETTLE_H

#ifdef WEFT_WITHOUT_FETCH

#define weft_settle_exchange(at, value)                                                                                \
	({                                                                                                             \
		typeof(*(at)) before_ = *(volatile typeof(*(at)) *)(at);                                               \
		*(volatile typeof(*(at)) *)(at) = (value);                                                             \
		before_;                                                                                               \
	})

#define weft_settle_compare_exchange(at, expected, value)                                                              \
	({                                                                                                             \
		typeof(*(at)) before_ = *(volatile typeof(*(at)) *)(at);                                               \
		if (before_ == (expected))                                                                             \
			*(volatile typeof(*(at)) *)(at) = (value);                                                     \
		before_;                                                                                               \
	})

/* Two at once may get the same number; none is lost. */
#define weft_settle_fetch_add(at, number)                                                                              \
	({                                                                                                             \
		typeof(*(at)) before_ = *(volatile typeof(*(at)) *)(at);                                               \
		__sync_fetch_and_add(at, number);                                                                      \
		before_;                                                                                               \
	})

#else

#define weft_settle_exchange(at, value) __sync_lock_test_and_set(at, value)
#define weft_settle_compare_exchange(at, expected, value) __sync_val_compare_and_swap(at, expected, value)
#define weft_settle_fetch_add(at, number) __sync_fetch_and_add(at, number)

#endif

#endif
