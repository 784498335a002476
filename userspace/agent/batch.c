/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/batch.h"

#include <errno.h>
#include <string.h>

#include "kernel/maps.h"

static size_t padded(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

int weft_batch_next(struct weft_batch_walk *walk)
{
	const struct weft_map_spec *spec;
	size_t left = walk->size - walk->at, keys, values;

	if (left == 0)
		return 0;
	if (left < sizeof(walk->run))
		return -EBADMSG;
	memcpy(&walk->run, walk->data + walk->at, sizeof(walk->run));
	left -= sizeof(walk->run);
	spec = weft_map_spec(walk->run.map);
	if (!spec || (walk->run.op != WEFT_BATCH_UPDATE && walk->run.op != WEFT_BATCH_DELETE))
		return -EBADMSG;
	keys = padded((size_t)walk->run.count * spec->key_size);
	values = walk->run.op == WEFT_BATCH_UPDATE ? padded((size_t)walk->run.count * spec->value_size) : 0;
	if (keys > left || values > left - keys)
		return -EBADMSG;
	walk->keys = walk->data + walk->at + sizeof(walk->run);
	walk->values = values ? (const char *)walk->keys + keys : NULL;
	walk->at += sizeof(walk->run) + keys + values;
	return 1;
}
