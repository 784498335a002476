/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration file: what is taken survives its canonical form. */
#include <stdint.h>
#include <stdlib.h>

#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct weft_conf_file conf = { 0 };
	struct weft_problems problems = { 0 };

	if (weft_conf_parse("fuzz", (const char *)data, size, false, &conf, &problems) < 0)
		abort();
	for (size_t i = 0; i < conf.resource_count; i++) {
		weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
		struct weft_conf_file again = { 0 };
		struct weft_problems ignored = { 0 };

		if (weft_conf_print(conf.resource[i], &text) < 0 ||
		    weft_conf_parse("canonical", text.data, text.size, false, &again, &ignored) < 0)
			abort();
		if (again.resource_count != 1 || again.torn ||
		    again.resource[0]->fingerprint != conf.resource[i]->fingerprint)
			abort();
		weft_problems_done(&ignored);
		weft_conf_file_done(&again);
	}
	weft_problems_done(&problems);
	weft_conf_file_done(&conf);
	return 0;
}
