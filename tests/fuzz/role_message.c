/* SPDX-License-Identifier: Apache-2.0 */
/* First byte: bit 0 who sent it, bit 1 whether a descriptor came along; the rest is the datagram. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "ctl/role.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct weft_role_message message;
	struct weft_err err = { "" };
	int r;

	if (size == 0)
		return 0;
	r = weft_role_check(data + 1, size - 1, data[0] & 2, data[0] & 1 ? WEFT_ROLE_SIDE_MAIN : WEFT_ROLE_SIDE_CONTROL, &message, &err);
	if (r < 0) {
		assert(err.text[0]);
		return 0;
	}
	/* What passes is safe to act on: a name that ends, a type that is known, bytes exactly when a descriptor came. */
	assert(memchr(message.name, '\0', sizeof(message.name)));
	assert(weft_role_type_name(message.type));
	assert((message.bytes != 0) == !!(data[0] & 2));
	assert(message.bytes <= WEFT_ROLE_MAX_BYTES);
	return 0;
}
