/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/shares.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/table.h"

struct weft_shares {
	unsigned int limit, held, refs;
	struct weft_hash_table sources;
};

struct weft_share {
	struct weft_shares *of;
	unsigned int held;
	size_t size;
	char key[];
};

struct key {
	const void *data;
	size_t size;
};

static uint32_t hash_of(const void *item)
{
	const struct weft_share *share = item;

	return weft_hash(share->key, share->size, 0);
}

static bool is(const void *item, const void *key)
{
	const struct weft_share *share = item;
	const struct key *other = key;

	return share->size == other->size && memcmp(share->key, other->data, other->size) == 0;
}

struct weft_shares *weft_shares_new(unsigned int limit)
{
	struct weft_shares *shares = calloc(1, sizeof(*shares));

	if (shares)
		*shares = (struct weft_shares){ .limit = limit, .refs = 1 };
	return shares;
}

struct weft_shares *weft_shares_unref(struct weft_shares *shares)
{
	if (!shares || --shares->refs)
		return NULL;
	weft_hash_table_done(&shares->sources);
	free(shares);
	return NULL;
}

void weft_shares_limit(struct weft_shares *shares, unsigned int limit)
{
	shares->limit = limit;
}

unsigned int weft_shares_held(const struct weft_shares *shares)
{
	return shares->held;
}

static bool is_too_much(const struct weft_shares *shares, const struct weft_share *share)
{
	unsigned int left = shares->limit > shares->held ? shares->limit - shares->held : 0;
	unsigned int held = share ? share->held : 0;
	size_t sources = shares->sources.count + !share;

	if (left > shares->limit / 4)
		return false;
	return held >= left || held >= shares->limit / sources;
}

int weft_shares_take(struct weft_shares *shares, const void *key, size_t size, struct weft_share **ret_share)
{
	const struct key wanted = { key, size };
	struct weft_share *share = weft_hash_table_find(&shares->sources, weft_hash(key, size, 0), is, &wanted);

	if (is_too_much(shares, share))
		return -EDQUOT;
	if (!share) {
		share = malloc(sizeof(*share) + size);
		if (!share)
			return -ENOMEM;
		*share = (struct weft_share){ .of = shares, .size = size };
		memcpy(share->key, key, size);
		if (weft_hash_table_add(&shares->sources, share, hash_of) < 0) {
			free(share);
			return -ENOMEM;
		}
		shares->refs++;
	}
	share->held++;
	shares->held++;
	*ret_share = share;
	return 0;
}

struct weft_share *weft_share_give(struct weft_share *share)
{
	struct weft_shares *shares;

	if (!share)
		return NULL;
	shares = share->of;
	shares->held--;
	if (--share->held)
		return NULL;
	weft_hash_table_remove(&shares->sources, share, hash_of);
	free(share);
	weft_shares_unref(shares);
	return NULL;
}
