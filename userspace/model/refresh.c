/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From marked resources to what is desired: addresses of nodes and workloads
 * first, for services ask who has an address; then all marked units are
 * compiled, and only when every one of them is, they replace what was desired before.
 */
#include "model/state.h"

#include <errno.h>
#include <string.h>

/* ---- endpoints by address: whose units must know when a workload takes or leaves it ---- */

static size_t at_hash(const struct weft_model *model, const struct weft_addr *addr)
{
	return weft_hash(addr, sizeof(*addr), 0) & (model->at_count - 1);
}

static int at_grow(struct weft_model *model)
{
	size_t want = model->at_count ? model->at_count * 2 : 64;
	uint32_t *bucket;

	if (model->at_used < model->at_count)
		return 0;
	bucket = calloc(want, sizeof(*bucket));
	if (!bucket)
		return -ENOMEM;
	free(model->at);
	model->at = bucket;
	model->at_count = want;
	for (uint32_t index = 0; index < model->place_count; index++) {
		struct weft_place *place = &model->place[index];
		uint32_t *head;

		if (!place->want)
			continue;
		head = &model->at[at_hash(model, &weft_place_name(model, index)->addr)];
		place->next_at = *head;
		*head = index;
	}
	return 0;
}

static void want_nothing(struct weft_model *model, uint32_t index)
{
	struct weft_place *place = &model->place[index];
	uint32_t *head = &model->at[at_hash(model, &weft_place_name(model, index)->addr)], at = *head;

	if (at == index) {
		*head = place->next_at;
	} else {
		while (model->place[at].next_at != index)
			at = model->place[at].next_at;
		model->place[at].next_at = place->next_at;
	}
	place->want = NULL;
	model->at_used--;
}

static void want(struct weft_model *model, const struct weft_wanted *wanted)
{
	struct weft_place *place = &model->place[wanted->index];
	uint32_t *head;

	if (place->want)
		want_nothing(model, wanted->index);
	head = &model->at[at_hash(model, &weft_place_name(model, wanted->index)->addr)];
	place->want = wanted;
	place->next_at = *head;
	*head = wanted->index;
	model->at_used++;
}

static int touch_place(struct weft_model *model, uint32_t index)
{
	if (weft_place_room(model, index) < 0)
		return -ENOMEM;
	if (model->place[index].touched)
		return 0;
	if (weft_list_add(&model->touched_place, index) < 0)
		return -ENOMEM;
	model->place[index].touched = true;
	return 0;
}

static void mark_users(struct weft_model *model, const struct weft_addr *addr)
{
	struct weft_frontend_key key = { .addr = *addr };
	/* A unit that asked who has the address claims that it watches it, or its own entry. */
	static const uint32_t says[] = { WEFT_ROW_WATCH, WEFT_MAP_FRONTEND };

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(says); i++) {
		const struct weft_row *row = weft_row_find(model, says[i], &key);

		for (const struct weft_claim *claim = row ? row->first : NULL; claim; claim = claim->next)
			if (weft_is_unit(claim->owner))
				weft_model_mark(model, claim->owner);
	}
	for (uint32_t index = model->at_count ? model->at[at_hash(model, addr)] : 0; index;
	     index = model->place[index].next_at) {
		const struct weft_endpoint_name *name = weft_place_name(model, index);
		const struct weft_service_state *service;

		if (weft_addr_compare(&name->addr, addr) != 0)
			continue;
		service = weft_service_find(model, name->service);
		if (service && service->unit)
			weft_model_mark(model, service->unit);
	}
}

/* ---- claims in force ---- */

static int claim_all(struct weft_model *model, struct weft_claim *claim, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (weft_row_claim(model, &claim[i]) < 0) {
			while (i-- > 0)
				weft_row_unclaim(model, &claim[i]);
			return -ENOMEM;
		}
	return 0;
}

static int touch_all(struct weft_model *model, const struct weft_claim *claim, size_t count)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		if (claim[i].row)
			r = weft_row_touch(model, claim[i].row);
	return r;
}

static bool same_claims(const struct weft_entry *entry, const struct weft_claim *claim, size_t count)
{
	if (entry->claim_count != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (memcmp(&entry->claim[i].key, &claim[i].key, sizeof(claim[i].key)) != 0 ||
		    entry->claim[i].rank != claim[i].rank ||
		    memcmp(&entry->claim[i].value, &claim[i].value, sizeof(claim[i].value)) != 0)
			return false;
	return true;
}

/* Node, Pod or WorkloadEntry. On error the entry's old claims stay in force. */
static int refresh_source(struct weft_model *model, struct weft_entry *entry)
{
	struct weft_claim *old = entry->claim;
	size_t old_count = entry->claim_count, old_room = entry->claim_room;
	bool same;
	int r;

	entry->claim = NULL;
	entry->claim_count = entry->claim_room = 0;
	r = weft_compile_source(model, entry);
	same = r == 0 && same_claims(entry, old, old_count);
	if (r == 0 && !same)
		r = touch_all(model, old, old_count);
	if (r == 0 && !same)
		r = claim_all(model, entry->claim, entry->claim_count);
	if (r < 0 || same) {
		free(entry->claim);
		entry->claim = old;
		entry->claim_count = old_count;
		entry->claim_room = old_room;
		if (r < 0)
			return r;
		if (entry->moved)
			for (size_t i = 0; i < old_count; i++)
				mark_users(model, &old[i].key.key.addr);
		entry->moved = false;
		return 0;
	}
	for (size_t i = 0; i < old_count; i++)
		weft_row_unclaim(model, &old[i]);
	for (size_t i = 0; i < old_count; i++)
		mark_users(model, &old[i].key.key.addr);
	for (size_t i = 0; i < entry->claim_count; i++)
		mark_users(model, &entry->claim[i].key.key.addr);
	entry->moved = false;
	free(old);
	return 0;
}

static void set_faulty(struct weft_model *model, struct weft_entry *unit, bool faulty)
{
	if (unit->faulty == faulty)
		return;
	unit->faulty = faulty;
	if (faulty) {
		unit->faulty_previous = NULL;
		unit->faulty_next = model->faulty;
		if (model->faulty)
			model->faulty->faulty_previous = unit;
		model->faulty = unit;
		return;
	}
	if (unit->faulty_previous)
		unit->faulty_previous->faulty_next = unit->faulty_next;
	else
		model->faulty = unit->faulty_next;
	if (unit->faulty_next)
		unit->faulty_next->faulty_previous = unit->faulty_previous;
}

static int touch_compiled(struct weft_model *model, const struct weft_compiled *compiled)
{
	for (size_t i = 0; compiled && i < compiled->endpoint_count; i++)
		if (touch_place(model, compiled->endpoint[i].index) < 0)
			return -ENOMEM;
	for (size_t i = 0; compiled && i < compiled->port_count; i++) {
		struct weft_service_state *service = weft_service_get(model, compiled->port[i].service);

		if (!service || weft_service_touch(model, service) < 0)
			return -ENOMEM;
	}
	return 0;
}

static bool within(const struct weft_compiled *compiled, const struct weft_wanted *wanted)
{
	return wanted >= compiled->endpoint && wanted < compiled->endpoint + compiled->endpoint_count;
}

/* unit->next replaces unit->compiled. -ENOMEM: nothing did. */
static int put_in_force(struct weft_model *model, struct weft_entry *unit)
{
	struct weft_compiled *old = unit->compiled, *next = unit->next;

	if (touch_compiled(model, old) < 0 || touch_compiled(model, next) < 0 ||
	    (old && touch_all(model, old->claim, old->claim_count) < 0))
		return -ENOMEM;
	for (size_t need = model->at_used + next->endpoint_count; model->at_count <= need;) {
		size_t used = model->at_used;
		int r;

		model->at_used = model->at_count;
		r = at_grow(model);
		model->at_used = used;
		if (r < 0)
			return r;
	}
	if (claim_all(model, next->claim, next->claim_count) < 0)
		return -ENOMEM;
	for (size_t i = 0; old && i < old->claim_count; i++)
		weft_row_unclaim(model, &old->claim[i]);
	for (size_t i = 0; old && i < old->endpoint_count; i++) {
		uint32_t index = old->endpoint[i].index;

		if (model->place[index].want && within(old, model->place[index].want))
			want_nothing(model, index);
	}
	for (size_t i = 0; i < next->endpoint_count; i++)
		want(model, &next->endpoint[i]);
	for (size_t i = 0; old && i < old->port_count; i++) {
		struct weft_service_state *service = weft_service_find(model, old->port[i].service);

		if (service->unit == unit)
			service->unit = NULL;
	}
	for (size_t i = 0; i < next->port_count; i++) {
		struct weft_service_state *service = weft_service_find(model, next->port[i].service);

		service->unit = unit;
		service->port = (uint32_t)i;
	}
	set_faulty(model, unit, next->problems.count > 0);
	unit->compiled = next;
	unit->next = NULL;
	weft_compiled_free(old);
	return 0;
}

static int compile_marked(struct weft_model *model)
{
	model->endpoints_short = 0;
	for (struct weft_entry *unit = model->dirty_units; unit; unit = unit->next_dirty) {
		int r;

		if (unit->resource) {
			r = weft_compile(model, unit);
			if (r < 0)
				return r;
			continue;
		}
		weft_compiled_free(unit->next);
		unit->next = calloc(1, sizeof(*unit->next));
		if (!unit->next)
			return -ENOMEM;
	}
	return 0;
}

static uint32_t power_of_two(uint64_t need)
{
	uint64_t size = 1;

	while (size < need)
		size *= 2;
	return (uint32_t)size;
}

/* Ids that a failed compile took and nobody wants: they go the way of endpoints that are gone. */
static void give_back(struct weft_model *model)
{
	for (struct weft_entry *unit = model->dirty_units; unit; unit = unit->next_dirty) {
		for (size_t i = 0; unit->next && i < unit->next->endpoint_count; i++)
			touch_place(model, unit->next->endpoint[i].index);
		unit->next = weft_compiled_free(unit->next);
	}
}

static int refresh_sources(struct weft_model *model, enum weft_kind kind, uint64_t now_ns)
{
	struct weft_entry **link = &model->dirty_others;

	while (*link) {
		struct weft_entry *entry = *link;
		int r;

		if ((entry->kind == WEFT_KIND_NODE) != (kind == WEFT_KIND_NODE)) {
			link = &entry->next_dirty;
			continue;
		}
		r = refresh_source(model, entry);
		if (r < 0)
			return r;
		*link = entry->next_dirty;
		entry->dirty = false;
		if (entry->resource)
			continue;
		if (entry->workload) {
			if (weft_grow(&model->departed, &model->departed_room, model->departed_count + 1,
				      sizeof(*model->departed)) < 0)
				return -ENOMEM;
			model->departed[model->departed_count++] =
				(struct weft_departed){ .id = entry->workload, .workload = true, .since_ns = now_ns };
		}
		weft_entry_drop(model, entry);
	}
	return 0;
}

static const struct weft_node *node_resource(const struct weft_model *model)
{
	const struct weft_entry *entry = weft_model_find(model, WEFT_KIND_NODE, "", model->node);

	return entry && entry->resource ? &entry->resource->node : NULL;
}

int weft_model_refresh(struct weft_model *model, uint64_t now_ns, struct weft_role_capacity *need, struct weft_err *err)
{
	uint32_t capacity = model->capacity.max_entries[WEFT_MAP_ENDPOINT];
	struct weft_entry *entry;
	int r;

	model->this_node = node_resource(model);
	if (model->all_units_dirty || model->all_workloads_dirty)
		for (size_t at = 0; (entry = weft_hash_table_next(&model->entry, &at));) {
			bool workload = entry->kind == WEFT_KIND_POD || entry->kind == WEFT_KIND_WORKLOAD_ENTRY;

			if ((weft_is_unit(entry) && model->all_units_dirty) || (workload && model->all_workloads_dirty))
				weft_model_mark(model, entry);
		}
	model->all_units_dirty = model->all_workloads_dirty = false;
	r = refresh_sources(model, WEFT_KIND_NODE, now_ns);
	if (r == 0)
		r = refresh_sources(model, WEFT_KIND_POD, now_ns);
	if (r == 0 && model->rules_dirty)
		r = weft_rules_build(model);
	if (r == 0) {
		model->rules_dirty = false;
		r = compile_marked(model);
	}
	if (r == 0 && model->endpoints_short) {
		uint64_t entries = (uint64_t)(capacity ? capacity : 1) + model->endpoints_short;

		give_back(model);
		need->max_entries[WEFT_MAP_ENDPOINT] = (uint32_t)entries;
		return weft_err_set(err, ENOSPC,
				    "the map weft_endpoint holds %u endpoints and the configuration needs %llu: set its "
				    "size to %u; what was in force before stays",
				    capacity ? capacity - 1 : 0, (unsigned long long)entries - 1, power_of_two(entries));
	}
	while (r == 0 && model->dirty_units) {
		entry = model->dirty_units;
		r = put_in_force(model, entry);
		if (r < 0)
			break;
		model->dirty_units = entry->next_dirty;
		entry->dirty = false;
		if (!entry->resource)
			weft_entry_drop(model, entry);
	}
	if (r < 0) {
		give_back(model);
		return weft_err_set(err, -r, "the configuration cannot be compiled: %m");
	}
	return 0;
}
