/* SPDX-License-Identifier: Apache-2.0 */
/* First byte: who sent it; second: how many descriptors came along, 255: it is the memfd of a CONNS; the rest is the datagram. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "ctl/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void conns(const uint8_t *data, size_t size, __u32 count)
{
	const size_t texts = sizeof(struct weft_proxy_facts) + count * sizeof(struct weft_proxy_conn);
	struct weft_err err = { "" };

	if (weft_proxy_conns_check(data, size, count, &err) < 0) {
		assert(err.text[0]);
		return;
	}
	/* Every text that is pointed at ends within. */
	for (__u32 i = 0; i < count; i++) {
		struct weft_proxy_conn conn;

		memcpy(&conn, data + sizeof(struct weft_proxy_facts) + i * sizeof(conn), sizeof(conn));
		assert(memchr(data + texts + conn.peer_identity, '\0', size - texts - conn.peer_identity));
		assert(memchr(data + texts + conn.local_identity, '\0', size - texts - conn.local_identity));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct weft_proxy_message message;
	struct weft_err err = { "" };

	if (size < 2)
		return 0;
	if (data[1] == 255) {
		conns(data + 2, size - 2, data[0]);
		return 0;
	}
	if (weft_proxy_check(data + 2, size - 2, data[1], data[0] % 4, &message, &err) < 0) {
		assert(err.text[0]);
		return 0;
	}
	assert(weft_proxy_type_name(message.type));
	assert(message.bytes <= WEFT_PROXY_MAX_BYTES && (!message.bytes || data[1] == 1));
	assert(message.type != WEFT_PROXY_SOCKETS || message.count == data[1]);
	assert(message.type != WEFT_PROXY_WANT_SOCKETS || (message.count && message.count <= WEFT_PROXY_MAX_SOCKETS));
	return 0;
}
