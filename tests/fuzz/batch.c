/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a batch: what main checks before it writes, what control adopts, what /metrics counts. Whoever says that a
 * batch is malformed, nobody reads outside of it, and who was refused is as if nothing had come.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>

#include "agent/batch.h"
#include "export/metrics.h"
#include "kernel/batch.h"
#include "model/model.h"

#define ENTRIES 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether main would take it. */
static bool check(const void *batch, size_t size)
{
	struct weft_batch_walk walk = { .data = batch, .size = size };
	struct weft_err err = { "" };
	uint32_t runs = 0, failed = UINT32_MAX;
	int r = weft_kernel_batch_check(batch, size, &failed, &err), walked;

	assert(r == 0 || r == -EBADMSG);
	assert((r < 0) == (err.text[0] != '\0') && (r < 0) == (failed != UINT32_MAX));
	while ((walked = weft_batch_next(&walk)) > 0)
		runs++;
	/* The other reader of the format is laxer in what a run may say, not in where it ends. */
	assert(r < 0 ? failed <= runs : walked == 0);
	return r == 0;
}

static void adopt(const void *batch, size_t size)
{
	struct weft_model_options options = { .node = "here" };
	weft_cleanup(weft_model_freep) struct weft_model *model = NULL;
	uint64_t now = 1;

	for (size_t map = 0; map < WEFT_MAP_MAX_; map++)
		options.capacity.max_entries[map] = ENTRIES;
	model = weft_model_new(&options, weft_names_new());
	assert(model);
	for (int commits = 0, adopted = weft_model_adopt(model, batch, size, now);; commits++) {
		weft_cleanup(weft_plan_done) struct weft_plan plan = { 0 };
		struct weft_problems problems = { 0 };
		struct weft_err err = { "" };
		uint64_t live[ENTRIES] = { 0 };
		int r = weft_model_commit(model, now, live, ENTRIES, &plan, &problems, &err);

		weft_problems_done(&problems);
		assert(adopted == 0 || adopted == -EBADMSG);
		assert(r == 0 && commits < 16);
		/* Nothing is configured: what was adopted is taken back, and then there is rest. */
		assert(check(plan.batch.data, plan.batch.size));
		assert(adopted == 0 || !plan.batch.size);
		if (!plan.next_ns)
			return;
		assert(plan.next_ns > now);
		now = plan.next_ns;
	}
}

static void count(const void *batch, size_t size)
{
	weft_cleanup(weft_names_freep) struct weft_names *names = weft_names_new();
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	struct weft_metrics_facts facts = { .node = "here" };
	struct weft_err err = { "" };
	int r = weft_metrics_print(batch, size, names, &facts, &text, &err);

	assert(r == 0 ? text.size && text.data[text.size - 1] == '\n' : r == -EBADMSG && err.text[0] && !text.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check(data, size);
	adopt(data, size);
	count(data, size);
	return 0;
}
