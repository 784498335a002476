/* SPDX-License-Identifier: Apache-2.0 */
/* The mirror out of what the kernel's maps hold, so that a compile of unchanged configuration writes nothing. */
#include "model/state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

struct cursor {
	const char *at, *end;
};

struct section {
	uint32_t map, count;
	const char *key, *value;
	size_t key_size, value_size;
};

static bool sizes_of(uint32_t map, size_t *ret_key, size_t *ret_value)
{
	switch (map) {
#define WEFT_MAP(NAME, name, key, value, owner, sentence) \
	case WEFT_MAP_##NAME:                             \
		*ret_key = sizeof(key);                   \
		*ret_value = sizeof(value);               \
		return true;
#include "weft/lists/map.h"
#undef WEFT_MAP
	default:
		return false;
	}
}

static size_t padded(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

/* 1: *section is the next run; 0: the end; -EBADMSG. */
static int next_section(struct cursor *cursor, struct section *section)
{
	struct weft_batch_run run;
	size_t keys, values, left;

	if (cursor->at == cursor->end)
		return 0;
	if ((size_t)(cursor->end - cursor->at) < sizeof(run))
		return -EBADMSG;
	memcpy(&run, cursor->at, sizeof(run));
	cursor->at += sizeof(run);
	left = (size_t)(cursor->end - cursor->at);
	if (run.op != WEFT_BATCH_UPDATE || !sizes_of(run.map, &section->key_size, &section->value_size))
		return -EBADMSG;
	keys = padded(run.count * section->key_size);
	values = padded(run.count * section->value_size);
	if (keys > left || values > left - keys)
		return -EBADMSG;
	section->map = run.map;
	section->count = run.count;
	section->key = cursor->at;
	section->value = cursor->at + keys;
	cursor->at += keys + values;
	return 1;
}

static uint32_t index_at(const struct section *section, uint32_t i)
{
	uint32_t index;

	memcpy(&index, section->key + i * sizeof(index), sizeof(index));
	return index;
}

static int adopt_slots(struct weft_model *model, const struct section *section)
{
	for (uint32_t i = 0; i < section->count; i++) {
		uint32_t index = index_at(section, i);

		if (index >= model->capacity.max_entries[WEFT_MAP_SLOT])
			return -EBADMSG;
		if (weft_grow(&model->slot, &model->slot_room, (size_t)index + 1, sizeof(*model->slot)) < 0)
			return -ENOMEM;
		if (index >= model->slot_count) {
			memset(model->slot + model->slot_count, 0,
			       (index + 1 - model->slot_count) * sizeof(*model->slot));
			model->slot_count = (size_t)index + 1;
		}
		memcpy(&model->slot[index], section->value + i * sizeof(*model->slot), sizeof(*model->slot));
	}
	return 0;
}

/* A record that the names file lacks, so that its id is not given to another. */
static int learn(struct weft_model *model, const struct weft_buf *record)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;

	if (weft_buf_printf(&text, "weft-names 1\n%s", record->data) < 0 ||
	    weft_names_parse(model->names, text.data, text.size, NULL) < 0)
		return -ENOMEM;
	return weft_buf_add(&model->journal, record->data, record->size);
}

static int learn_id(struct weft_model *model, const char *what, uint32_t id)
{
	weft_buf_done_on_exit struct weft_buf record = WEFT_BUF_INIT;
	bool known = *what == 'S' ? !!weft_names_service(model->names, id) : !!weft_names_workload(model->names, id);
	int r;

	if (!id || id == WEFT_ID_OTHER || known)
		return 0;
	r = weft_buf_printf(&record, "-%s\t%u\n", what, id);
	return r < 0 ? r : learn(model, &record);
}

/* *ret_known: the name of this index says what the map says. */
static int learn_endpoint(struct weft_model *model, const struct weft_endpoint *endpoint, bool *ret_known)
{
	weft_buf_done_on_exit struct weft_buf record = WEFT_BUF_INIT;
	const struct weft_endpoint_name key = { .id = endpoint->id,
						.service = endpoint->service,
						.addr = endpoint->addr,
						.port = ntohs(endpoint->port),
						.protocol = endpoint->protocol };
	const struct weft_endpoint_name *at = weft_place_name(model, WEFT_ENDPOINT_INDEX(endpoint->id));
	const struct weft_endpoint_name *like = weft_names_find_endpoint(model->names, &key);
	char shown[WEFT_ADDR_TEXT];
	int r;

	/* Two who claim one index or one address: the names file is right. */
	*ret_known = at == like && (!at || at->id == endpoint->id);
	if (at || like)
		return 0;
	r = weft_buf_printf(&record, "E\t%u\t%u\t%s\t%u\t%u\n", endpoint->id, endpoint->service,
			    weft_addr_format(&endpoint->addr, shown), key.port, endpoint->protocol);
	return r < 0 ? r : learn(model, &record);
}

static int adopt_endpoints(struct weft_model *model, const struct section *section, uint64_t now_ns)
{
	for (uint32_t i = 0; i < section->count; i++) {
		struct weft_endpoint endpoint;
		uint32_t index = index_at(section, i);
		bool known = false;
		int r;

		memcpy(&endpoint, section->value + i * sizeof(endpoint), sizeof(endpoint));
		if (endpoint.state == WEFT_ENDPOINT_FREE)
			continue;
		if (endpoint.state >= WEFT_ENDPOINT_STATE_MAX_ || WEFT_ENDPOINT_INDEX(endpoint.id) != index || !index ||
		    index >= model->capacity.max_entries[WEFT_MAP_ENDPOINT] || endpoint.id == WEFT_ID_OTHER ||
		    endpoint.service == WEFT_ID_OTHER)
			return -EBADMSG;
		r = learn_id(model, "S", endpoint.service);
		if (r == 0)
			r = learn_id(model, "W", endpoint.workload);
		if (r == 0)
			r = learn_endpoint(model, &endpoint, &known);
		if (r == 0)
			r = weft_place_room(model, index);
		if (r == 0 && !model->place[index].orphan)
			r = weft_orphan_add(model, index, now_ns);
		if (r < 0)
			return r;
		model->place[index].have = (struct weft_held){
			.workload = endpoint.workload,
			.weight = endpoint.weight,
			.generation = WEFT_ENDPOINT_GENERATION(endpoint.id),
			.state = endpoint.state,
			.flags = (uint8_t)endpoint.flags,
		};
		model->place[index].unknown = !known || endpoint.flags > UINT8_MAX;
	}
	return 0;
}

static int adopt_range(struct weft_model *model, struct weft_row *row)
{
	const struct weft_frontend *frontend = &row->have.frontend;
	struct weft_service_state *service;
	struct weft_range *adopted;
	int set;

	if (!frontend->service)
		return 0;
	service = weft_service_get(model, frontend->service);
	if (!service || weft_service_touch(model, service) < 0 || learn_id(model, "S", frontend->service) < 0)
		return -ENOMEM;
	if (!frontend->count)
		return 0;
	adopted = model->touched_service[service->touched - 1].adopted;
	for (set = 0; set < WEFT_SET_MAX_ && adopted[set].count; set++)
		if (adopted[set].first == frontend->slot && adopted[set].count == frontend->count)
			return 0;
	/* A range that is not as weft gives them is written anew elsewhere, and so is whoever points there. */
	if (set == WEFT_SET_MAX_ || frontend->slot + (uint64_t)frontend->count > model->slot_count ||
	    weft_ranges_take(&model->ranges, frontend->slot, frontend->count) < 0) {
		row->unknown = true;
		return 0;
	}
	adopted[set] = (struct weft_range){
		.first = frontend->slot,
		.count = frontend->count,
		.weighted = !!(frontend->flags & WEFT_FRONTEND_F_WEIGHTED),
		.hash = weft_hash64(model->slot + frontend->slot, frontend->count * sizeof(*model->slot), 0),
	};
	for (uint32_t i = 0; i < frontend->count; i++) {
		uint32_t index = WEFT_ENDPOINT_INDEX(model->slot[frontend->slot + i].endpoint);

		if (index < model->place_count)
			model->place[index].in_use = true;
	}
	return 0;
}

static int adopt_rows(struct weft_model *model, const struct section *section)
{
	for (uint32_t i = 0; i < section->count; i++) {
		struct weft_row_key key = { .map = section->map };
		struct weft_row *row;

		memcpy(&key.key, section->key + i * section->key_size, section->key_size);
		row = weft_row_get(model, &key);
		if (!row || weft_row_touch(model, row) < 0)
			return -ENOMEM;
		memcpy(&row->have, section->value + i * section->value_size, section->value_size);
		model->row_count[section->map] += !row->there;
		row->there = true;
		if (section->map == WEFT_MAP_WORKLOAD_AT && learn_id(model, "W", row->have.workload) < 0)
			return -ENOMEM;
		if (section->map == WEFT_MAP_FRONTEND && adopt_range(model, row) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int adopt_section(struct weft_model *model, const struct section *section)
{
	switch (section->map) {
	case WEFT_MAP_FRONTEND:
	case WEFT_MAP_ENDPOINT_AT:
	case WEFT_MAP_WORKLOAD_AT:
		return adopt_rows(model, section);
	case WEFT_MAP_OPTOUT_CIDR:
		return weft_buf_add(&model->optout[0].have, section->key, section->count * section->key_size);
	case WEFT_MAP_OPTOUT_PORT:
		return weft_buf_add(&model->optout[1].have, section->key, section->count * section->key_size);
	case WEFT_MAP_WORKLOAD:
	case WEFT_MAP_POLICY:
	case WEFT_MAP_POLICY_SOURCE:
	case WEFT_MAP_POLICY_CIDR:
	case WEFT_MAP_POLICY_PORT:
		return weft_secure_adopt(model, section->map, section->key, section->value, section->count);
	default:
		return 0;
	}
}

static void forget(struct weft_model *model)
{
	for (size_t i = 0; i < model->touched_row_count; i++)
		weft_row_drop(model, model->touched_row[i]);
	for (size_t i = 0; i < model->touched_service_count; i++) {
		const struct weft_touched_service *touched = &model->touched_service[i];

		for (int set = 0; set < WEFT_SET_MAX_; set++)
			if (touched->adopted[set].count)
				weft_ranges_put(&model->ranges, touched->adopted[set].first,
						touched->adopted[set].count);
		weft_service_drop(model, touched->service);
	}
	model->touched_row_count = model->touched_service_count = 0;
	memset(model->row_count, 0, sizeof(model->row_count));
	model->place_count = model->orphan_count = model->slot_count = 0;
	weft_buf_done(&model->optout[0].have);
	weft_buf_done(&model->optout[1].have);
	weft_secure_forget(model);
}

int weft_model_adopt(struct weft_model *model, const void *batch, size_t size, uint64_t now_ns)
{
	/* Ranges say which endpoints are in use, so slots and endpoints come first whatever the batch's order. */
	static const uint32_t first[] = { WEFT_MAP_SLOT, WEFT_MAP_ENDPOINT };
	struct section section;
	int r = 0;

	/* What the maps hold is said anew, also where an earlier main's were mirrored. */
	weft_secure_forget(model);
	for (size_t pass = 0; r >= 0 && pass <= WEFT_ARRAY_SIZE(first); pass++) {
		struct cursor cursor = { batch, (const char *)batch + size };

		while ((r = next_section(&cursor, &section)) > 0) {
			int failed = 0;

			if (pass < WEFT_ARRAY_SIZE(first)) {
				if (section.map == first[pass])
					failed = pass ? adopt_endpoints(model, &section, now_ns) :
							adopt_slots(model, &section);
			} else {
				failed = adopt_section(model, &section);
			}
			if (failed < 0) {
				r = failed;
				break;
			}
		}
	}
	if (r < 0)
		forget(model);
	free(model->slot);
	model->slot = NULL;
	model->slot_count = model->slot_room = 0;
	return r;
}
