/* SPDX-License-Identifier: Apache-2.0 */
/* What was kept is read back as the same; whatever else is there is refused. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/last_good.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int add_again(void *context, struct weft_resource *resource)
{
	int r = weft_last_good_add(context, resource->file, resource->line, resource);

	weft_resource_free(resource);
	return r;
}

/* Below the hash, which no change of a byte would get past. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	weft_buf_done_on_exit struct weft_buf first = WEFT_BUF_INIT, second = WEFT_BUF_INIT, sealed = WEFT_BUF_INIT;
	const char *text = size ? (const char *)data : "";
	struct weft_err err = { "" };

	if (weft_last_good_parse(text, size, add_again, &second, &err) < 0 && !err.text[0])
		abort();
	weft_buf_clear(&second);
	if (weft_last_good_parse_records(text, size, add_again, &first, &err) < 0)
		return 0;
	if (weft_last_good_seal(&first, &sealed) < 0 ||
	    weft_last_good_parse(sealed.data, sealed.size, add_again, &second, &err) < 0 || first.size != second.size ||
	    (first.size && memcmp(first.data, second.data, first.size) != 0))
		abort();
	return 0;
}
