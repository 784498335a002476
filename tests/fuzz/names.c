/* SPDX-License-Identifier: Apache-2.0 */
/* What a names file says is printed and read back as the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	weft_cleanup(weft_names_freep) struct weft_names *names = weft_names_new(), *again = weft_names_new();
	weft_buf_done_on_exit struct weft_buf first = WEFT_BUF_INIT, second = WEFT_BUF_INIT;
	struct weft_err err = { 0 };

	if (!names || !again || weft_names_parse(names, (const char *)data, size, &err) < 0)
		return 0;
	if (weft_names_print(names, &first) < 0)
		return 0;
	if (weft_names_parse(again, first.data, first.size, &err) < 0 || weft_names_print(again, &second) < 0 ||
	    first.size != second.size || memcmp(first.data, second.data, first.size) != 0)
		abort();
	return 0;
}
