/* SPDX-License-Identifier: Apache-2.0 */
/* YAML into a model, and a kernel made of arrays that takes its batches. */
#ifndef WEFT_TESTS_UNIT_MODEL_LIB_H
#define WEFT_TESTS_UNIT_MODEL_LIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above before it */
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

#include "model/model.h"

#define TOY_MAX 4096
#define SECOND 1000000000ull

static inline struct weft_model *model_sized(uint32_t entries, struct weft_names *names)
{
	struct weft_model_options options = { .node = "here" };
	struct weft_model *model;

	for (int map = 0; map < WEFT_MAP_MAX_; map++)
		options.capacity.max_entries[map] = entries;
	model = weft_model_new(&options, names ? names : weft_names_new());
	assert_non_null(model);
	return model;
}

static inline struct weft_model *model_make(void)
{
	return model_sized(TOY_MAX, NULL);
}

/* Puts every document; all must be good. */
static inline void load(struct weft_model *model, const char *yaml)
{
	struct weft_conf_file file = { 0 };
	struct weft_problems problems = { 0 };

	assert_int_equal(weft_conf_parse("test.yaml", yaml, strlen(yaml), true, &file, &problems), 0);
	if (problems.errors)
		fail_msg("%s: %s\n%s", problems.item[0].path, problems.item[0].text, yaml);
	for (size_t i = 0; i < file.resource_count; i++) {
		assert_int_equal(weft_model_put(model, file.resource[i]), 0);
		file.resource[i] = NULL;
	}
	weft_conf_file_done(&file);
	weft_problems_done(&problems);
}

struct toy_row {
	struct weft_frontend_key key;
	union {
		struct weft_frontend frontend;
		struct weft_endpoint_at at;
		uint32_t workload;
	};
	bool used;
};

/* Of the secure lane's maps. */
struct toy_big {
	uint32_t map;
	char key[24];
	char value[264];
};

#define TOY_BIG_MAX 1024

struct toy {
	struct toy_big big[TOY_BIG_MAX];
	size_t big_count;
	struct weft_slot slot[TOY_MAX];
	struct weft_endpoint endpoint[TOY_MAX];
	struct toy_row row[WEFT_MAP_MAX_][TOY_MAX];
	size_t row_count[WEFT_MAP_MAX_];
	uint64_t live[TOY_MAX];
};

static inline size_t toy_key_size(uint32_t map)
{
	switch (map) {
	case WEFT_MAP_WORKLOAD:
	case WEFT_MAP_POLICY:
		return sizeof(uint32_t);
	case WEFT_MAP_POLICY_SOURCE:
		return sizeof(struct weft_policy_source_key);
	case WEFT_MAP_POLICY_CIDR:
		return sizeof(struct weft_policy_cidr_key);
	case WEFT_MAP_POLICY_PORT:
		return sizeof(struct weft_policy_port_key);
	case WEFT_MAP_WORKLOAD_AT:
		return sizeof(struct weft_addr);
	case WEFT_MAP_OPTOUT_CIDR:
		return sizeof(struct weft_cidr);
	case WEFT_MAP_OPTOUT_PORT:
		return sizeof(struct weft_port);
	case WEFT_MAP_SLOT:
	case WEFT_MAP_ENDPOINT:
		return 4;
	default:
		return sizeof(struct weft_frontend_key);
	}
}

static inline size_t toy_value_size(uint32_t map)
{
	switch (map) {
	case WEFT_MAP_WORKLOAD:
		return sizeof(struct weft_workload);
	case WEFT_MAP_POLICY:
		return sizeof(struct weft_policy);
	case WEFT_MAP_POLICY_SOURCE:
	case WEFT_MAP_POLICY_CIDR:
	case WEFT_MAP_POLICY_PORT:
		return sizeof(struct weft_clauses);
	case WEFT_MAP_FRONTEND:
		return sizeof(struct weft_frontend);
	case WEFT_MAP_ENDPOINT_AT:
		return sizeof(struct weft_endpoint_at);
	case WEFT_MAP_SLOT:
		return sizeof(struct weft_slot);
	case WEFT_MAP_ENDPOINT:
		return sizeof(struct weft_endpoint);
	default:
		return 4;
	}
}

static inline struct toy_row *toy_find(struct toy *toy, uint32_t map, const void *key)
{
	struct weft_frontend_key whole = { 0 };

	memcpy(&whole, key, toy_key_size(map));
	for (size_t i = 0; i < toy->row_count[map]; i++)
		if (memcmp(&toy->row[map][i].key, &whole, sizeof(whole)) == 0)
			return &toy->row[map][i];
	return NULL;
}

static inline bool toy_is_big(uint32_t map)
{
	return map == WEFT_MAP_WORKLOAD || (map >= WEFT_MAP_POLICY && map <= WEFT_MAP_POLICY_PORT);
}

/* NULL: it is not there. */
static inline void *toy_big_find(const struct toy *toy, uint32_t map, const void *key)
{
	for (size_t i = 0; i < toy->big_count; i++)
		if (toy->big[i].map == map && memcmp(toy->big[i].key, key, toy_key_size(map)) == 0)
			return (void *)toy->big[i].value;
	return NULL;
}

static inline void toy_big_write(struct toy *toy, uint32_t map, uint32_t op, const void *key, const void *value)
{
	char *have = toy_big_find(toy, map, key);
	struct toy_big *row = have ? (struct toy_big *)(void *)(have - offsetof(struct toy_big, value)) : NULL;

	if (op == WEFT_BATCH_DELETE) {
		if (row)
			*row = toy->big[--toy->big_count];
		return;
	}
	if (!row) {
		assert_in_range(toy->big_count, 0, TOY_BIG_MAX - 1);
		row = &toy->big[toy->big_count++];
		*row = (struct toy_big){ .map = map };
		memcpy(row->key, key, toy_key_size(map));
	}
	memcpy(row->value, value, toy_value_size(map));
}

static inline void toy_write(struct toy *toy, uint32_t map, uint32_t op, const void *key, const void *value)
{
	struct toy_row *row;
	uint32_t index;

	if (toy_is_big(map)) {
		toy_big_write(toy, map, op, key, value);
		return;
	}
	if (map == WEFT_MAP_SLOT || map == WEFT_MAP_ENDPOINT) {
		memcpy(&index, key, 4);
		assert_in_range(index, 0, TOY_MAX - 1);
		assert_int_equal(op, WEFT_BATCH_UPDATE);
		if (map == WEFT_MAP_SLOT)
			memcpy(&toy->slot[index], value, sizeof(toy->slot[index]));
		else
			memcpy(&toy->endpoint[index], value, sizeof(toy->endpoint[index]));
		return;
	}
	row = toy_find(toy, map, key);
	if (op == WEFT_BATCH_DELETE) {
		if (row)
			*row = toy->row[map][--toy->row_count[map]];
		return;
	}
	if (!row) {
		assert_in_range(toy->row_count[map], 0, TOY_MAX - 1);
		row = &toy->row[map][toy->row_count[map]++];
		*row = (struct toy_row){ .used = true };
		memcpy(&row->key, key, toy_key_size(map));
	}
	memcpy(&row->frontend, value, toy_value_size(map));
}

/* Applies the first `limit` writes; `each`, if any, looks at the kernel after every single one. Returns their number. */
static inline size_t toy_apply_some(struct toy *toy, const struct weft_buf *batch, size_t limit,
				    void (*each)(struct toy *, void *), void *context)
{
	const char *at = batch->data, *end = batch->data + batch->size;
	size_t writes = 0;

	while (at < end) {
		struct weft_batch_run run;
		const char *keys, *values;

		memcpy(&run, at, sizeof(run));
		if (!toy_is_big(run.map))
			assert_in_range(run.map, WEFT_MAP_FRONTEND, WEFT_MAP_OPTOUT_PORT);
		keys = at + sizeof(run);
		values = keys + ((run.count * toy_key_size(run.map) + 7) & ~7ull);
		for (uint32_t i = 0; i < run.count && writes < limit; i++) {
			toy_write(toy, run.map, run.op, keys + i * toy_key_size(run.map),
				  values + i * toy_value_size(run.map));
			writes++;
			if (each)
				each(toy, context);
		}
		at = values;
		if (run.op == WEFT_BATCH_UPDATE)
			at += (run.count * toy_value_size(run.map) + 7) & ~7ull;
	}
	assert_ptr_equal(at, end);
	return writes;
}

static inline size_t toy_apply(struct toy *toy, const struct weft_buf *batch, void (*each)(struct toy *, void *),
			       void *context)
{
	return toy_apply_some(toy, batch, SIZE_MAX, each, context);
}

/* What READ gives. */
static inline void toy_read(const struct toy *toy, struct weft_buf *batch)
{
	static const uint32_t maps[] = { WEFT_MAP_FRONTEND, WEFT_MAP_SLOT, WEFT_MAP_ENDPOINT, WEFT_MAP_ENDPOINT_AT,
					 WEFT_MAP_WORKLOAD_AT, WEFT_MAP_OPTOUT_CIDR, WEFT_MAP_OPTOUT_PORT };

	for (size_t m = 0; m < sizeof(maps) / sizeof(maps[0]); m++) {
		uint32_t map = maps[m];
		bool array = map == WEFT_MAP_SLOT || map == WEFT_MAP_ENDPOINT;
		struct weft_batch_run run = { .map = map, .op = WEFT_BATCH_UPDATE,
					      .count = array ? TOY_MAX : (uint32_t)toy->row_count[map] };

		weft_buf_add(batch, &run, sizeof(run));
		for (uint32_t i = 0; i < run.count; i++)
			weft_buf_add(batch, array ? (const void *)&i : &toy->row[map][i].key, toy_key_size(map));
		weft_buf_reserve(batch, -batch->size & 7, NULL);
		for (uint32_t i = 0; i < run.count; i++)
			weft_buf_add(batch,
				     map == WEFT_MAP_SLOT     ? (const void *)&toy->slot[i] :
				     map == WEFT_MAP_ENDPOINT ? (const void *)&toy->endpoint[i] :
								(const void *)&toy->row[map][i].frontend,
				     toy_value_size(map));
		weft_buf_reserve(batch, -batch->size & 7, NULL);
	}
	for (size_t i = 0; i < toy->big_count; i++) {
		struct weft_batch_run run = { .map = toy->big[i].map, .op = WEFT_BATCH_UPDATE, .count = 1 };

		weft_buf_add(batch, &run, sizeof(run));
		weft_buf_add(batch, toy->big[i].key, toy_key_size(run.map));
		weft_buf_reserve(batch, -batch->size & 7, NULL);
		weft_buf_add(batch, toy->big[i].value, toy_value_size(run.map));
		weft_buf_reserve(batch, -batch->size & 7, NULL);
	}
}

/* Commits into the toy kernel; must succeed. Returns the number of writes. */
static inline size_t commit(struct weft_model *model, struct toy *toy, uint64_t now_ns, struct weft_plan *plan,
			    struct weft_problems *problems)
{
	struct weft_plan own = { 0 };
	struct weft_problems own_problems = { 0 };
	struct weft_err err = { 0 };
	size_t writes;

	if (plan)
		weft_plan_done(plan);
	if (weft_model_commit(model, now_ns, toy->live, TOY_MAX, plan ? plan : &own,
			      problems ? problems : &own_problems, &err) < 0)
		fail_msg("%s", err.text);
	writes = toy_apply(toy, plan ? &plan->batch : &own.batch, NULL, NULL);
	weft_plan_done(&own);
	weft_problems_done(&own_problems);
	return writes;
}

static inline struct weft_frontend *toy_frontend(struct toy *toy, const char *text, uint8_t protocol)
{
	struct weft_frontend_key key = { .protocol = protocol };
	struct toy_row *row;
	uint16_t port;

	assert_int_equal(weft_addr_port_parse(text, &key.addr, &port), 0);
	key.port = htons(port);
	row = toy_find(toy, WEFT_MAP_FRONTEND, &key);
	return row ? &row->frontend : NULL;
}

static inline int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Endpoints that a frontend chooses from, each with its share, sorted: "10.1.0.1:80 0.500000 ready 1\n...". */
static inline void toy_resolve(const struct toy *toy, const struct weft_frontend *frontend, struct weft_buf *out)
{
	char *line[256], shown[WEFT_ADDR_TEXT];
	size_t count = 0;

	assert_in_range(frontend->count, 0, 255);
	for (uint32_t i = 0; i < frontend->count; i++) {
		uint32_t id = toy->slot[frontend->slot + i].endpoint;
		const struct weft_endpoint *endpoint = &toy->endpoint[WEFT_ENDPOINT_INDEX(id)];
		double share = 0;

		for (uint32_t j = 0; j < frontend->count; j++) {
			const struct weft_slot *slot = &toy->slot[frontend->slot + j];
			double own = ((double)slot->threshold + 1) / 4294967296.0;

			share += (slot->endpoint == id ? own : 0) + (slot->alias == id ? 1 - own : 0);
		}
		assert_int_equal(endpoint->id, id);
		assert_true(asprintf(&line[count++], "    %s %.6f state %u weight %u flags %#x\n",
				     weft_addr_port_format(&endpoint->addr, ntohs(endpoint->port), shown),
				     share / frontend->count, endpoint->state, endpoint->weight, endpoint->flags) > 0);
	}
	qsort(line, count, sizeof(line[0]), by_text);
	for (size_t i = 0; i < count; i++) {
		weft_buf_add(out, line[i], strlen(line[i]));
		free(line[i]);
	}
}

/* All that a connect() could see, without ids, sorted. */
static inline void toy_print(const struct toy *toy, struct weft_buf *out)
{
	char **line = calloc(TOY_MAX * 2, sizeof(*line)), shown[WEFT_ADDR_TEXT];
	size_t count = 0;

	for (size_t i = 0; i < toy->row_count[WEFT_MAP_FRONTEND]; i++) {
		const struct toy_row *row = &toy->row[WEFT_MAP_FRONTEND][i];
		struct weft_buf text = WEFT_BUF_INIT;

		weft_buf_printf(&text, "%s/%u type %u algorithm %u flags %#x affinity %u\n",
				weft_addr_port_format(&row->key.addr, ntohs(row->key.port), shown), row->key.protocol,
				row->frontend.type, row->frontend.algorithm, row->frontend.flags,
				row->frontend.affinity_s);
		toy_resolve(toy, &row->frontend, &text);
		line[count++] = text.data;
	}
	for (size_t i = 0; i < toy->row_count[WEFT_MAP_ENDPOINT_AT]; i++) {
		const struct toy_row *row = &toy->row[WEFT_MAP_ENDPOINT_AT][i];

		assert_int_equal(toy->endpoint[WEFT_ENDPOINT_INDEX(row->at.endpoint)].id, row->at.endpoint);
		assert_true(asprintf(&line[count++], "at %s/%u\n",
				     weft_addr_port_format(&row->key.addr, ntohs(row->key.port), shown),
				     row->key.protocol) > 0);
	}
	for (size_t i = 0; i < toy->row_count[WEFT_MAP_WORKLOAD_AT]; i++)
		assert_true(asprintf(&line[count++], "workload at %s\n",
				     weft_addr_format(&toy->row[WEFT_MAP_WORKLOAD_AT][i].key.addr, shown)) > 0);
	qsort(line, count, sizeof(*line), by_text);
	for (size_t i = 0; i < count; i++) {
		weft_buf_add(out, line[i], strlen(line[i]));
		free(line[i]);
	}
	weft_buf_add(out, "", 0);
	free(line);
}

#endif
