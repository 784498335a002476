/* SPDX-License-Identifier: Apache-2.0 */
#include "model/state.h"

#include <errno.h>
#include <string.h>

static uint32_t row_hash(const void *item)
{
	return weft_hash(&((const struct weft_row *)item)->key, sizeof(struct weft_row_key), 0);
}

static bool row_is(const void *item, const void *key)
{
	return memcmp(&((const struct weft_row *)item)->key, key, sizeof(struct weft_row_key)) == 0;
}

struct weft_row *weft_row_find(const struct weft_model *model, uint32_t map, const struct weft_frontend_key *key)
{
	struct weft_row_key whole = { .key = *key, .map = map };

	return weft_hash_table_find(&model->row, weft_hash(&whole, sizeof(whole), 0), row_is, &whole);
}

struct weft_row *weft_row_get(struct weft_model *model, const struct weft_row_key *key)
{
	struct weft_row *row = weft_row_find(model, key->map, &key->key);

	if (row)
		return row;
	row = calloc(1, sizeof(*row));
	if (!row)
		return NULL;
	row->key = *key;
	if (weft_hash_table_add(&model->row, row, row_hash) == 0)
		return row;
	free(row);
	return NULL;
}

void weft_row_drop(struct weft_model *model, struct weft_row *row)
{
	weft_hash_table_remove(&model->row, row, row_hash);
	free(row);
}

int weft_row_touch(struct weft_model *model, struct weft_row *row)
{
	if (row->touched)
		return 0;
	if (weft_grow(&model->touched_row, &model->touched_row_room, model->touched_row_count + 1,
		      sizeof(*model->touched_row)) < 0)
		return -ENOMEM;
	model->touched_row[model->touched_row_count++] = row;
	row->touched = true;
	return 0;
}

/* Whose frontend, or address, the kernel has. */
static bool in_force(const struct weft_row *row, const struct weft_claim *claim)
{
	if (row->key.map == WEFT_MAP_WORKLOAD_AT)
		return row->there && row->have.workload == claim->value.workload;
	return row->key.map == WEFT_MAP_FRONTEND && row->there && row->have.frontend.service &&
	       row->have.frontend.service == claim->value.frontend.service;
}

static int senior(const struct weft_row *row, const struct weft_claim *a, const struct weft_claim *b)
{
	int by;

	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	if (in_force(row, a) != in_force(row, b))
		return in_force(row, a) ? -1 : 1;
	if (a->owner != b->owner) {
		by = strcmp(a->owner->namespace, b->owner->namespace);
		if (!by)
			by = strcmp(a->owner->name, b->owner->name);
		return by ? by : (int)a->owner->kind - (int)b->owner->kind;
	}
	return a->order < b->order ? -1 : a->order > b->order;
}

/* There is room in the list for a row that comes to be contested. */
static void contested_update(struct weft_model *model, struct weft_row *row)
{
	bool contested = ((row->key.map == WEFT_MAP_FRONTEND && row->key.key.protocol) || row->key.map == WEFT_MAP_WORKLOAD_AT) && row->first &&
			 row->first->next;
	struct weft_row *last;

	if (contested == !!row->contested)
		return;
	if (contested) {
		model->contested[model->contested_count++] = row;
		row->contested = (uint32_t)model->contested_count;
		return;
	}
	last = model->contested[--model->contested_count];
	model->contested[row->contested - 1] = last;
	last->contested = row->contested;
	row->contested = 0;
}

int weft_row_claim(struct weft_model *model, struct weft_claim *claim)
{
	struct weft_row *row = weft_row_get(model, &claim->key);
	struct weft_claim **link;

	if (!row || weft_row_touch(model, row) < 0 ||
	    weft_grow(&model->contested, &model->contested_room, model->contested_count + 1, sizeof(*model->contested)) < 0)
		return -ENOMEM;
	for (link = &row->first; *link && senior(row, *link, claim) < 0; link = &(*link)->next)
		;
	claim->next = *link;
	claim->row = row;
	*link = claim;
	contested_update(model, row);
	return 0;
}

void weft_row_unclaim(struct weft_model *model, struct weft_claim *claim)
{
	struct weft_row *row = claim->row;
	struct weft_claim **link;

	if (!row)
		return;
	for (link = &row->first; *link != claim; link = &(*link)->next)
		;
	*link = claim->next;
	claim->row = NULL;
	contested_update(model, row);
}

void weft_rows_sweep(struct weft_model *model)
{
	for (size_t i = 0; i < model->last_row_count; i++) {
		struct weft_row *row = model->last_row[i];

		if (row->touched || row->first || row->there || row->unknown)
			continue;
		weft_row_drop(model, row);
	}
	model->last_row_count = 0;
}

/* ---- services, places ---- */

static uint32_t service_hash(const void *item)
{
	return weft_hash(&((const struct weft_service_state *)item)->id, sizeof(uint32_t), 0);
}

static bool service_is(const void *item, const void *key)
{
	return ((const struct weft_service_state *)item)->id == *(const uint32_t *)key;
}

struct weft_service_state *weft_service_find(const struct weft_model *model, uint32_t id)
{
	return weft_hash_table_find(&model->service, weft_hash(&id, sizeof(id), 0), service_is, &id);
}

struct weft_service_state *weft_service_get(struct weft_model *model, uint32_t id)
{
	struct weft_service_state *service = weft_service_find(model, id);

	if (service)
		return service;
	service = calloc(1, sizeof(*service));
	if (!service)
		return NULL;
	service->id = id;
	if (weft_hash_table_add(&model->service, service, service_hash) == 0)
		return service;
	free(service);
	return NULL;
}

void weft_service_drop(struct weft_model *model, struct weft_service_state *service)
{
	weft_hash_table_remove(&model->service, service, service_hash);
	free(service);
}

int weft_service_touch(struct weft_model *model, struct weft_service_state *service)
{
	struct weft_touched_service *touched;

	if (service->touched)
		return 0;
	if (weft_grow(&model->touched_service, &model->touched_service_room, model->touched_service_count + 1,
		      sizeof(*model->touched_service)) < 0)
		return -ENOMEM;
	touched = &model->touched_service[model->touched_service_count++];
	*touched = (struct weft_touched_service){ .service = service };
	memcpy(touched->next, service->set, sizeof(touched->next));
	service->touched = (uint32_t)model->touched_service_count;
	return 0;
}

int weft_list_add(struct weft_list_u32 *list, uint32_t item)
{
	if (weft_grow(&list->item, &list->room, list->count + 1, sizeof(*list->item)) < 0)
		return -ENOMEM;
	list->item[list->count++] = item;
	return 0;
}

int weft_orphan_add(struct weft_model *model, uint32_t index, uint64_t gone_ns)
{
	if (weft_grow(&model->orphan, &model->orphan_room, model->orphan_count + 1, sizeof(*model->orphan)) < 0)
		return -ENOMEM;
	model->orphan[model->orphan_count++] = (struct weft_orphan){ .gone_ns = gone_ns, .index = index };
	model->place[index].orphan = true;
	return 0;
}

uint32_t weft_wanted_id(const struct weft_wanted *wanted)
{
	return (uint32_t)wanted->value.generation << WEFT_ENDPOINT_INDEX_BITS | wanted->index;
}

const struct weft_endpoint_name *weft_place_name(const struct weft_model *model, uint32_t index)
{
	return weft_names_endpoint_at(model->names, index);
}

int weft_place_room(struct weft_model *model, uint32_t index)
{
	if (index < model->place_count)
		return 0;
	if (weft_grow(&model->place, &model->place_room, (size_t)index + 1, sizeof(*model->place)) < 0)
		return -ENOMEM;
	memset(model->place + model->place_count, 0, (index + 1 - model->place_count) * sizeof(*model->place));
	model->place_count = (size_t)index + 1;
	return 0;
}
