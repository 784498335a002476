/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reasons. An inner function returns 0 or WEFT_REASON(NAME), a negative number
 * that names a counter; whoever turns it into a verdict counts it, once.
 */
#ifndef WEFT_LIB_COUNT_H
#define WEFT_LIB_COUNT_H

#include "maps/metrics.h"

#define WEFT_REASON(NAME) (-(int)WEFT_COUNTER_##NAME - 1)
#define WEFT_REASON_COUNTER(reason) ((__u32)(-(reason)-1))

static __always_inline void weft_count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&weft_counter, &counter);

	if (value)
		(*value)++; /* per CPU, and programs are not preempted by each other on one */
}

/* Only what is of kind REFUSED fails the call; the list says which that is. */
static __always_inline bool weft_counter_refuses(__u32 counter)
{
	enum { REFUSED, PASSED, LOST };

	switch (counter) {
#define WEFT_COUNTER(NAME, name, kind, sentence)                                                                       \
	case WEFT_COUNTER_##NAME:                                                                                      \
		return kind == REFUSED;
#include "weft/lists/counter.h"
#undef WEFT_COUNTER
	}
	return false;
}

#endif
