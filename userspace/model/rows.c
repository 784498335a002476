/* SPDX-License-Identifier: Apache-2.0 */
#include "model/state.h"

#include <errno.h>
#include <string.h>

struct weft_row *weft_row_find(const struct weft_model *model, uint32_t map, const struct weft_frontend_key *key)
{
	struct weft_row_key whole = { .key = *key, .map = map };
	struct weft_row *row;

	HASH_FIND(hh, model->row, &whole, sizeof(whole), row);
	return row;
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
	row->hashed = true;
	HASH_ADD(hh, model->row, key, sizeof(row->key), row);
	if (!row->hashed) {
		free(row);
		return NULL;
	}
	return row;
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

static int senior(const struct weft_claim *a, const struct weft_claim *b)
{
	int by;

	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	if (a->owner != b->owner) {
		by = strcmp(a->owner->namespace, b->owner->namespace);
		if (!by)
			by = strcmp(a->owner->name, b->owner->name);
		return by ? by : (int)a->owner->kind - (int)b->owner->kind;
	}
	return a->order < b->order ? -1 : a->order > b->order;
}

static void contested_update(struct weft_model *model, struct weft_row *row)
{
	bool contested = row->key.map == WEFT_MAP_FRONTEND && row->key.key.protocol && row->first && row->first->next;

	if (contested == row->contested)
		return;
	row->contested = contested;
	if (contested) {
		row->contested_previous = NULL;
		row->contested_next = model->contested;
		if (model->contested)
			model->contested->contested_previous = row;
		model->contested = row;
		return;
	}
	if (row->contested_previous)
		row->contested_previous->contested_next = row->contested_next;
	else
		model->contested = row->contested_next;
	if (row->contested_next)
		row->contested_next->contested_previous = row->contested_previous;
}

int weft_row_claim(struct weft_model *model, struct weft_claim *claim)
{
	struct weft_row *row = weft_row_get(model, &claim->key);
	struct weft_claim **link;

	if (!row || weft_row_touch(model, row) < 0)
		return -ENOMEM;
	for (link = &row->first; *link && senior(*link, claim) < 0; link = &(*link)->next)
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
		HASH_DELETE(hh, model->row, row);
		free(row);
	}
	model->last_row_count = 0;
}

/* ---- services, places ---- */

struct weft_service_state *weft_service_find(const struct weft_model *model, uint32_t id)
{
	struct weft_service_state *service;

	HASH_FIND(hh, model->service, &id, sizeof(id), service);
	return service;
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
	service->hashed = true;
	HASH_ADD(hh, model->service, id, sizeof(service->id), service);
	if (!service->hashed) {
		free(service);
		return NULL;
	}
	return service;
}

int weft_service_touch(struct weft_model *model, struct weft_service_state *service)
{
	if (service->touched)
		return 0;
	if (weft_grow(&model->touched_service, &model->touched_service_room, model->touched_service_count + 1,
		      sizeof(*model->touched_service)) < 0)
		return -ENOMEM;
	model->touched_service[model->touched_service_count++] = service;
	service->touched = true;
	return 0;
}

int weft_list_add(struct weft_list_u32 *list, uint32_t item)
{
	if (weft_grow(&list->item, &list->room, list->count + 1, sizeof(*list->item)) < 0)
		return -ENOMEM;
	list->item[list->count++] = item;
	return 0;
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
