/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* enum weft_counter: index into the map weft_counter, made from lists/counter.h. */
#ifndef WEFT_ABI_COUNTER_H
#define WEFT_ABI_COUNTER_H

enum weft_counter {
#define WEFT_COUNTER(NAME, name, kind, sentence) WEFT_COUNTER_##NAME,
#include "weft/lists/counter.h"
#undef WEFT_COUNTER
	WEFT_COUNTER_MAX_
};

#endif
