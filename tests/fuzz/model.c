/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration text into a model, one resource and one commit at a time, against a model that gets all of it at once:
 * both desire the same, main takes every batch, and the journals make up the names. Then every other resource goes.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "kernel/batch.h"
#include "model/model.h"

#define ENTRIES 4096
#define RESOURCES 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
	struct weft_model *model;
	struct weft_buf journal; /* of all commits */
	uint64_t now_ns;
	bool tied; /* two of one age want one address: who came first has it, so that it matters what came when */
};

static void run_start(struct run *run)
{
	struct weft_model_options options = { .node = "here" };

	for (size_t map = 0; map < WEFT_MAP_MAX_; map++)
		options.capacity.max_entries[map] = ENTRIES;
	*run = (struct run){ .model = weft_model_new(&options, weft_names_new()), .journal = WEFT_BUF_INIT, .now_ns = 1 };
	assert(run->model && weft_buf_printf(&run->journal, "weft-names 1\n") == 0);
}

static void run_end(struct run *run)
{
	weft_model_free(run->model);
	weft_buf_done(&run->journal);
}

/* 1: batch written, 0: nothing to write, -ENOSPC: it does not fit. */
static int run_commit(struct run *run)
{
	weft_cleanup(weft_plan_done) struct weft_plan plan = { 0 };
	static const uint64_t live[ENTRIES];
	struct weft_problems problems = { 0 };
	struct weft_err err = { "" };
	uint32_t failed;
	int r = weft_model_commit(run->model, run->now_ns, live, ENTRIES, &plan, &problems, &err);

	for (size_t i = 0; i < problems.count; i++)
		run->tied |= strstr(problems.item[i].text, "which came first") != NULL;
	weft_problems_done(&problems);
	run->now_ns += WEFT_MODEL_GRACE_NS / 2;
	assert(r == 0 || (r == -ENOSPC && err.text[0] && !plan.batch.size));
	if (r < 0)
		return r;
	assert(weft_kernel_batch_check(plan.batch.data, plan.batch.size, &failed, &err) == 0);
	assert(plan.cut.size % sizeof(uint32_t) == 0 && plan.cut_udp.size % sizeof(uint32_t) == 0);
	assert(weft_buf_add(&run->journal, plan.journal.data, plan.journal.size) == 0);
	return plan.batch.size > 0;
}

/* After all grace periods there is nothing left to write. */
static void run_settle(struct run *run)
{
	for (int i = 0; i < 16; i++)
		run_commit(run);
	assert(run_commit(run) == 0);
}

/* What a restarted agent, or the CLI, reads from disk is what this one has. */
static void check_names(const struct run *run)
{
	weft_cleanup(weft_names_freep) struct weft_names *names = weft_names_new();
	weft_buf_done_on_exit struct weft_buf read = WEFT_BUF_INIT, kept = WEFT_BUF_INIT;
	struct weft_err err = { "" };

	assert(weft_names_parse(names, run->journal.data, run->journal.size, &err) == 0);
	assert(weft_names_print(names, &read) == 0 && weft_names_print(weft_model_names(run->model), &kept) == 0);
	assert(read.size == kept.size && memcmp(read.data, kept.data, read.size) == 0);
}

static void check_same(const struct run *step, const struct run *whole)
{
	weft_buf_done_on_exit struct weft_buf a = WEFT_BUF_INIT, b = WEFT_BUF_INIT;

	if (step->tied || whole->tied)
		return;
	assert(weft_model_print(step->model, &a) == 0 && weft_model_print(whole->model, &b) == 0);
	assert(a.size == b.size && (!a.size || memcmp(a.data, b.data, a.size) == 0));
}

static void parse(const uint8_t *data, size_t size, struct weft_conf_file *ret_conf)
{
	struct weft_problems problems = { 0 };

	*ret_conf = (struct weft_conf_file){ 0 };
	assert(weft_conf_parse("fuzz", (const char *)data, size, true, ret_conf, &problems) == 0);
	weft_problems_done(&problems);
}

static void put(struct run *run, struct weft_conf_file *conf, size_t i)
{
	assert(weft_model_put(run->model, weft_take_ptr(conf->resource[i])) == 0);
}

static void drop(struct run *run, const struct weft_conf_file *conf, size_t i)
{
	const struct weft_meta *meta = &conf->resource[i]->meta;

	weft_model_remove(run->model, conf->resource[i]->kind, meta->namespace, meta->name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct weft_conf_file conf, conf_whole, conf_kept;
	struct run step, whole, kept;
	bool fits = true;

	parse(data, size, &conf_kept);
	if (conf_kept.resource_count == 0 || conf_kept.resource_count > RESOURCES) {
		weft_conf_file_done(&conf_kept);
		return 0;
	}
	parse(data, size, &conf);
	parse(data, size, &conf_whole);
	run_start(&step);
	run_start(&whole);
	run_start(&kept);
	for (size_t i = 0; i < conf.resource_count; i++) {
		put(&step, &conf, i);
		put(&whole, &conf_whole, i);
		fits &= run_commit(&step) >= 0;
	}
	fits &= run_commit(&whole) >= 0;
	if (fits) {
		check_same(&step, &whole);
		for (size_t i = 0; i < conf.resource_count; i += 2) {
			drop(&step, &conf_kept, i);
			run_commit(&step);
		}
		/* `kept` never had what `step` lost: a resource that came twice is lost whole. */
		for (size_t i = 0; i < conf.resource_count; i++) {
			const struct weft_resource *resource = conf_kept.resource[i];
			const char *namespace = resource ? resource->meta.namespace : NULL;

			if (resource && weft_model_get(step.model, resource->kind, namespace, resource->meta.name))
				put(&kept, &conf_kept, i);
		}
		run_commit(&kept);
		check_same(&step, &kept);
		run_settle(&step);
		check_names(&step);
	}
	run_end(&step);
	run_end(&whole);
	run_end(&kept);
	weft_conf_file_done(&conf);
	weft_conf_file_done(&conf_whole);
	weft_conf_file_done(&conf_kept);
	return 0;
}
