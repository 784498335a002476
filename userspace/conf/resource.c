/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/resource.h"

#include <string.h>

#include "conf/arena.h"
#include "conf/kind.h"

const char *weft_kind_name(enum weft_kind kind)
{
	const struct weft_kind_ops *ops = weft_kind_ops(kind);

	return ops ? ops->name : NULL;
}

const char *weft_pairs_get(const struct weft_pairs *pairs, const char *key)
{
	for (size_t i = 0; i < pairs->count; i++)
		if (strcmp(pairs->item[i].key, key) == 0)
			return pairs->item[i].value;
	return NULL;
}

bool weft_pairs_match(const struct weft_pairs *pairs, const struct weft_pairs *wanted)
{
	for (size_t i = 0; i < wanted->count; i++) {
		const char *value = weft_pairs_get(pairs, wanted->item[i].key);

		if (!value || strcmp(value, wanted->item[i].value) != 0)
			return false;
	}
	return true;
}

void weft_resource_free(struct weft_resource *resource)
{
	/* The resource itself is in its arena. */
	if (resource)
		weft_arena_free(resource->arena);
}
