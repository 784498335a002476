/* SPDX-License-Identifier: Apache-2.0 */
/* Any words behind `weftd`. Its roles get the same words from init and have to read the same in them. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/options.h"
#include "lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const struct weft_options *a, const struct weft_options *b)
{
	return a->action == b->action && a->role == b->role && a->proxy == b->proxy && a->proxies == b->proxies &&
	       a->json == b->json && strcmp(a->config, b->config) == 0 && strcmp(a->node, b->node) == 0 && strcmp(a->pins, b->pins) == 0 && strcmp(a->state, b->state) == 0 &&
	       strcmp(a->run, b->run) == 0 && a->metrics == b->metrics && a->metrics_port == b->metrics_port &&
	       a->without_features == b->without_features && a->log_level == b->log_level &&
	       memcmp(&a->capacity, &b->capacity, sizeof(a->capacity)) == 0 &&
	       memcmp(&a->ceiling, &b->ceiling, sizeof(a->ceiling)) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct weft_options options, again;
	struct weft_err err = { "" };
	struct lines lines;
	int r;

	lines_split(&lines, "weftd", data, size);
	r = weft_options_parse(lines.count, lines.word, &options, &err);
	assert(r == 0 ? !err.text[0] : r == -EINVAL && err.text[0]);
	if (r == 0) {
		for (size_t map = 0; map < WEFT_MAP_MAX_; map++)
			assert(!options.ceiling.max_entries[map] ||
			       options.capacity.max_entries[map] <= options.ceiling.max_entries[map]);
		assert(*options.node && *options.config && *options.pins && *options.state && *options.run);
		assert(weft_options_parse(lines.count, lines.word, &again, &err) == 0 && same(&options, &again));
	}
	free(lines.text);
	return 0;
}
