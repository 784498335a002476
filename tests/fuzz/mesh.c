/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block that control gives each proxy. What opens answers every question from within the block; what control itself makes
 * of a configuration opens. Input that begins with "apiVersion" is such a configuration, all other is a block.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/mesh.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct weft_mesh *mesh)
{
	static const char *const identity[] = { NULL, "", "spiffe://cluster.local/ns/shop/sa/front", "spiffe://x", "spiffe://" };
	static const uint16_t port[] = { 0, 80, 65535 };
	struct weft_mesh_workload workload;
	struct weft_verdict verdict;
	size_t length = 0;

	length += strlen(weft_mesh_trust_domain(mesh));
	for (uint32_t id = 0; id < 16; id++) {
		length += strlen(weft_mesh_service_host(mesh, id));
		if (weft_mesh_by_id(mesh, id, &workload) == 0)
			length += strlen(workload.identity) + strlen(workload.name) + strlen(workload.cluster) + strlen(workload.zone);
		for (size_t i = 0; i < sizeof(identity) / sizeof(identity[0]); i++)
			for (size_t j = 0; j < sizeof(port) / sizeof(port[0]); j++) {
				struct weft_peer peer = { .identity = identity[i], .addr.w = { 0, 0, 0xffff0000u, id } };

				weft_mesh_judge(mesh, id, &peer, port[j], &verdict);
				length += strlen(verdict.policy) + strlen(verdict.reason);
				weft_mesh_by_addr(mesh, &peer.addr, &workload);
			}
	}
	assert(length > 0);
}

static void open_block(const void *data, size_t size, bool sound)
{
	struct weft_err err = { "" };
	struct weft_mesh mesh;
	void *block = malloc(size ? size : 1); /* aligned, and its end is watched */
	int r;

	assert(block);
	memcpy(block, data, size);
	r = weft_mesh_open(block, size, &mesh, &err);
	assert(r == 0 || (!sound && err.text[0]));
	if (r == 0)
		ask(&mesh);
	free(block);
}

static void of_configuration(const uint8_t *data, size_t size)
{
	struct weft_model_options options = { .node = "here" };
	struct weft_conf_file conf = { 0 };
	struct weft_problems problems = { 0 };
	weft_cleanup(weft_plan_done) struct weft_plan plan = { 0 };
	weft_buf_done_on_exit struct weft_buf block = WEFT_BUF_INIT;
	struct weft_err err = { "" };
	struct weft_model *model;

	for (size_t map = 0; map < WEFT_MAP_MAX_; map++)
		options.capacity.max_entries[map] = 4096;
	model = weft_model_new(&options, weft_names_new());
	assert(model && weft_conf_parse("fuzz", (const char *)data, size, true, &conf, &problems) == 0);
	for (size_t i = 0; i < conf.resource_count; i++)
		assert(weft_model_put(model, weft_take_ptr(conf.resource[i])) == 0);
	if (weft_model_commit(model, 1, NULL, 0, &plan, &problems, &err) == 0) {
		assert(weft_model_mesh_block(model, 1, &block) == 0);
		open_block(block.data, block.size, true);
	}
	weft_conf_file_done(&conf);
	weft_problems_done(&problems);
	weft_model_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 10 && memcmp(data, "apiVersion", 10) == 0)
		of_configuration(data, size);
	else
		open_block(data, size, false);
	return 0;
}
