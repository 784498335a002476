/* SPDX-License-Identifier: Apache-2.0 */
/* Walks what READ gave, run by run. It comes from main, which is trusted more than control; its arithmetic is checked all the same. */
#ifndef WEFT_AGENT_BATCH_H
#define WEFT_AGENT_BATCH_H

#include <stddef.h>

#include "weft/abi/role.h"

struct weft_batch_walk {
	const char *data;
	size_t size;
	size_t at; /* 0 at first */
	struct weft_batch_run run;
	const void *keys;
	const void *values; /* NULL in a DELETE */
};

/* 1: a run is there; 0: the end; -EBADMSG. */
int weft_batch_next(struct weft_batch_walk *walk);

#endif
