/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First byte: bits 0 and 1 the way, bit 2 whether a descriptor came along, bits 4 and 5 what the rest is: 0 a datagram,
 * 1 WANT's memfd with its count in the second byte, 2 IDENTITY's, 3 TRUST's.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t sink;

static void touch(const void *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		sink += ((const uint8_t *)data)[i];
}

static void open_want(const uint8_t *data, size_t size)
{
	struct weft_err err = { "" };
	struct weft_keys_want want;
	const char *id;

	if (size == 0)
		return;
	if (weft_keys_want_open(data + 1, size - 1, data[0], &want, &err) < 0) {
		assert(err.text[0]);
		return;
	}
	touch(want.settings.trust_domain, strlen(want.settings.trust_domain));
	id = want.id;
	for (uint32_t i = 0; i < want.count; i++) {
		assert(*id && strlen(id) <= WEFT_KEYS_MAX_ID);
		id += strlen(id) + 1;
	}
	assert((const uint8_t *)id == data + size);
}

static void open_identity(const uint8_t *data, size_t size)
{
	struct weft_err err = { "" };
	struct weft_keys_pair pair;
	struct weft_buf again = WEFT_BUF_INIT;

	if (weft_keys_identity_open(data, size, &pair, &err) < 0) {
		assert(err.text[0]);
		return;
	}
	for (size_t i = 0; i < pair.count; i++)
		touch(pair.chain[i].data, pair.chain[i].size);
	/* There is one way to say it. */
	if (weft_keys_identity_put(&again, &pair) == 0)
		assert(again.size == size && memcmp(again.data, data, size) == 0);
	weft_buf_done(&again);
}

static void open_trust(const uint8_t *data, size_t size)
{
	struct weft_err err = { "" };
	struct weft_keys_anchor anchor;
	struct weft_buf again = WEFT_BUF_INIT;
	uint32_t count, met = 0;
	size_t at = 0;

	if (weft_keys_trust_open(data, size, &count, &err) < 0) {
		assert(err.text[0]);
		return;
	}
	if (weft_keys_trust_put(&again) < 0)
		return;
	for (; weft_keys_trust_next(data, size, &at, &anchor); met++) {
		touch(anchor.der.data, anchor.der.size);
		if (weft_keys_trust_add(&again, &anchor) < 0)
			abort();
	}
	assert(met == count);
	assert(again.size == size && memcmp(again.data, data, size) == 0);
	weft_buf_done(&again);
}

static void check(const uint8_t *data, size_t size, uint8_t how)
{
	struct weft_keys_message message;
	struct weft_err err = { "" };

	if (weft_keys_check(data, size, how & 4, how & 3, &message, &err) < 0) {
		assert(err.text[0]);
		return;
	}
	assert(weft_keys_type_name(message.type));
	assert(message.data_size <= WEFT_KEYS_MAX_SIGNED && message.count <= WEFT_KEYS_MAX_WANTED);
	assert((message.bytes != 0) == !!(how & 4));
	assert(message.bytes <= WEFT_KEYS_MAX_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	switch (data[0] >> 4 & 3) {
	case 0:
		check(data + 1, size - 1, data[0]);
		break;
	case 1:
		open_want(data + 1, size - 1);
		break;
	case 2:
		open_identity(data + 1, size - 1);
		break;
	case 3:
		open_trust(data + 1, size - 1);
		break;
	}
	return 0;
}
