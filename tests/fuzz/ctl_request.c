/* SPDX-License-Identifier: Apache-2.0 */
/* One line of a client of weft.sock. */
#include <assert.h>
#include <stdint.h>

#include "ctl/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_object *request = NULL;
	struct weft_err err = { "" };

	if (size > WEFT_SERVER_MAX_LINE)
		return 0;
	if (weft_server_parse((const char *)data, size, &request, &err) < 0) {
		assert(err.text[0]);
		assert(!request);
		return 0;
	}
	assert(json_object_is_type(json_object_object_get(request, "request"), json_type_string));
	json_object_put(request);
	return 0;
}
