/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Desired against mirror: the difference becomes a batch. Nothing of the
 * mirror changes before the whole batch stands, so a commit that fails leaves
 * everything as it was and the touched marks for the next one.
 */
#include "model/state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* How often an endpoint that is gone but still held is looked at. */
#define LIVE_POLL_NS (10 * WEFT_MODEL_GRACE_NS)
/* Counters and logs still speak of a service or workload for a while after it is gone. */
#define NAME_KEEP_NS (3600ull * 1000000000)

/* One run of the batch in the making. */
struct run {
	uint32_t map;
	uint32_t op;
	uint32_t count;
	struct weft_buf keys, values;
};

enum run_order {
	/* Policies before who is judged by them, and both before anything leads there. */
	RUN_POLICY_CIDR,
	RUN_POLICY_PORT,
	RUN_POLICY_SOURCE,
	RUN_POLICY,
	RUN_WORKLOAD,
	RUN_ENDPOINT,
	RUN_WORKLOAD_AT,
	RUN_ENDPOINT_AT,
	RUN_SLOT,
	RUN_OPTOUT_CIDR,
	RUN_OPTOUT_PORT,
	RUN_FRONTEND,
	RUN_FRONTEND_GONE,
	RUN_OPTOUT_CIDR_GONE,
	RUN_OPTOUT_PORT_GONE,
	RUN_ENDPOINT_AT_GONE,
	RUN_WORKLOAD_AT_GONE,
	RUN_ENDPOINT_GONE,
	RUN_WORKLOAD_GONE,
	RUN_POLICY_GONE,
	RUN_POLICY_SOURCE_GONE,
	RUN_POLICY_PORT_GONE,
	RUN_POLICY_CIDR_GONE,
	RUN_MAX,
};

struct draft {
	struct run run[RUN_MAX];
	const uint64_t *live;
	size_t live_count;
	uint64_t now_ns;
	size_t old_ranges; /* that this commit leaves behind */
	size_t new_orphans;
	size_t services_changed;
	struct weft_role_capacity need; /* of maps that are too small */
	bool full; /* one is */
};

static const struct run empty_run[RUN_MAX] = {
	[RUN_POLICY_CIDR] = { WEFT_MAP_POLICY_CIDR, WEFT_BATCH_UPDATE },
	[RUN_POLICY_PORT] = { WEFT_MAP_POLICY_PORT, WEFT_BATCH_UPDATE },
	[RUN_POLICY_SOURCE] = { WEFT_MAP_POLICY_SOURCE, WEFT_BATCH_UPDATE },
	[RUN_POLICY] = { WEFT_MAP_POLICY, WEFT_BATCH_UPDATE },
	[RUN_WORKLOAD] = { WEFT_MAP_WORKLOAD, WEFT_BATCH_UPDATE },
	[RUN_ENDPOINT] = { WEFT_MAP_ENDPOINT, WEFT_BATCH_UPDATE },
	[RUN_WORKLOAD_AT] = { WEFT_MAP_WORKLOAD_AT, WEFT_BATCH_UPDATE },
	[RUN_ENDPOINT_AT] = { WEFT_MAP_ENDPOINT_AT, WEFT_BATCH_UPDATE },
	[RUN_SLOT] = { WEFT_MAP_SLOT, WEFT_BATCH_UPDATE },
	[RUN_OPTOUT_CIDR] = { WEFT_MAP_OPTOUT_CIDR, WEFT_BATCH_UPDATE },
	[RUN_OPTOUT_PORT] = { WEFT_MAP_OPTOUT_PORT, WEFT_BATCH_UPDATE },
	[RUN_FRONTEND] = { WEFT_MAP_FRONTEND, WEFT_BATCH_UPDATE },
	[RUN_FRONTEND_GONE] = { WEFT_MAP_FRONTEND, WEFT_BATCH_DELETE },
	[RUN_OPTOUT_CIDR_GONE] = { WEFT_MAP_OPTOUT_CIDR, WEFT_BATCH_DELETE },
	[RUN_OPTOUT_PORT_GONE] = { WEFT_MAP_OPTOUT_PORT, WEFT_BATCH_DELETE },
	[RUN_ENDPOINT_AT_GONE] = { WEFT_MAP_ENDPOINT_AT, WEFT_BATCH_DELETE },
	[RUN_WORKLOAD_AT_GONE] = { WEFT_MAP_WORKLOAD_AT, WEFT_BATCH_DELETE },
	[RUN_ENDPOINT_GONE] = { WEFT_MAP_ENDPOINT, WEFT_BATCH_UPDATE },
	[RUN_WORKLOAD_GONE] = { WEFT_MAP_WORKLOAD, WEFT_BATCH_DELETE },
	[RUN_POLICY_GONE] = { WEFT_MAP_POLICY, WEFT_BATCH_DELETE },
	[RUN_POLICY_SOURCE_GONE] = { WEFT_MAP_POLICY_SOURCE, WEFT_BATCH_DELETE },
	[RUN_POLICY_PORT_GONE] = { WEFT_MAP_POLICY_PORT, WEFT_BATCH_DELETE },
	[RUN_POLICY_CIDR_GONE] = { WEFT_MAP_POLICY_CIDR, WEFT_BATCH_DELETE },
};

static void draft_done(struct draft *draft)
{
	for (size_t i = 0; i < RUN_MAX; i++) {
		weft_buf_done(&draft->run[i].keys);
		weft_buf_done(&draft->run[i].values);
	}
}

static int emit(struct run *run, const void *key, size_t key_size, const void *value, size_t value_size)
{
	if (weft_buf_add(&run->keys, key, key_size) < 0)
		return -ENOMEM;
	if (run->op == WEFT_BATCH_UPDATE && weft_buf_add(&run->values, value, value_size) < 0)
		return -ENOMEM;
	run->count++;
	return 0;
}

static int add_padded(struct weft_buf *to, const struct weft_buf *from)
{
	int r = weft_buf_add(to, from->data, from->size);

	return r < 0 ? r : weft_buf_reserve(to, -from->size & 7, NULL);
}

static int draft_print(const struct draft *draft, struct weft_buf *batch)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < RUN_MAX; i++) {
		const struct run *run = &draft->run[i];
		struct weft_batch_run header = { .map = run->map, .op = run->op, .count = run->count };

		if (!run->count)
			continue;
		r = weft_buf_add(batch, &header, sizeof(header));
		if (r == 0)
			r = add_padded(batch, &run->keys);
		if (r == 0 && run->op == WEFT_BATCH_UPDATE)
			r = add_padded(batch, &run->values);
	}
	return r;
}

static uint32_t power_of_two(uint64_t need)
{
	uint64_t size = 1;

	while (size < need)
		size *= 2;
	return (uint32_t)size;
}

/* The rest is drafted all the same, to learn what else is too small; `err` tells of the first. */
static void too_small(struct draft *draft, enum weft_map map, const char *name, const char *what, uint32_t have,
		      uint64_t need, struct weft_err *err)
{
	if (!draft->full)
		weft_err_set(err, ENOSPC,
			     "the map %s holds %u %s and the configuration needs %llu: set its size to %u; what was in "
			     "force before stays",
			     name, have, what, (unsigned long long)need, power_of_two(need));
	draft->full = true;
	draft->need.max_entries[map] = need > UINT32_MAX ? UINT32_MAX : (uint32_t)need;
}

/* ---- slot ranges ---- */

/* Scratch for one set. */
struct table {
	struct weft_choice *choice;
	size_t choice_room;
	struct weft_slot *slot;
	size_t slot_room;
	uint32_t *work;
	size_t work_room;
	uint32_t count;
	bool weighted;
	uint64_t hash;
};

static void table_done(struct table *table)
{
	free(table->choice);
	free(table->slot);
	free(table->work);
}

/* Whether a frontend in force chooses from the set: one that another service holds needs no slots. */
static bool set_needed(const struct weft_service_state *service, enum weft_set set)
{
	const struct weft_compiled *compiled = service->unit->compiled;

	for (size_t i = 0; i < compiled->claim_count; i++) {
		const struct weft_claim *claim = &compiled->claim[i];

		if (claim->key.map == WEFT_MAP_FRONTEND && claim->set == set &&
		    claim->value.frontend.service == service->id && claim->row->first == claim)
			return true;
	}
	return false;
}

static int fill_table(const struct weft_service_state *service, enum weft_set set, struct table *table)
{
	const struct weft_compiled *compiled = service->unit ? service->unit->compiled : NULL;
	const struct weft_compiled_port *port = compiled ? &compiled->port[service->port] : NULL;

	table->count = 0;
	table->weighted = false;
	if (!port || !set_needed(service, set))
		return 0;
	if (weft_grow(&table->choice, &table->choice_room, port->count, sizeof(*table->choice)) < 0 ||
	    weft_grow(&table->slot, &table->slot_room, port->count, sizeof(*table->slot)) < 0 ||
	    weft_grow(&table->work, &table->work_room, port->count, sizeof(*table->work)) < 0)
		return -ENOMEM;
	for (size_t i = port->first; i < port->first + port->count; i++) {
		const struct weft_wanted *wanted = &compiled->endpoint[i];

		if (wanted->sets >> set & 1)
			table->choice[table->count++] =
				(struct weft_choice){ weft_wanted_id(wanted), wanted->value.weight };
	}
	if (table->count)
		table->weighted = weft_slots_fill(table->choice, table->count, table->work, table->slot);
	table->hash = weft_hash64(table->slot, table->count * sizeof(*table->slot), 0);
	return 0;
}

static bool range_holds(const struct weft_range *range, const struct table *table)
{
	return range->count == table->count && range->hash == table->hash;
}

static bool same_range(const struct weft_range *a, const struct weft_range *b)
{
	return a->first == b->first && a->count == b->count && a->weighted == b->weighted;
}

static int emit_slots(struct run *run, const struct weft_range *range, const struct table *table)
{
	for (uint32_t i = 0; i < range->count; i++) {
		uint32_t index = range->first + i;

		if (emit(run, &index, sizeof(index), &table->slot[i], sizeof(table->slot[i])) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* -ENOSPC: *missing grows by what the set would have taken. */
static int draft_set(struct weft_model *model, struct draft *draft, struct weft_touched_service *touched,
		     enum weft_set set, struct table *table, uint64_t *missing)
{
	struct weft_service_state *service = touched->service;
	struct weft_range *next = &touched->next[set], made = { 0 };
	int r = fill_table(service, set, table);

	if (r < 0)
		return r;
	made.count = table->count;
	made.weighted = table->weighted;
	made.hash = table->hash;
	/* A range of the kernel that already says this is as good as a new one. */
	for (size_t i = 0; made.count && !service->set[set].count && i < WEFT_SET_MAX_; i++)
		if (range_holds(&touched->adopted[i], table)) {
			service->set[set] = touched->adopted[i];
			service->set[set].weighted = table->weighted;
			touched->adopted[i] = (struct weft_range){ 0 };
			*next = service->set[set];
			return 0;
		}
	if (made.count && !service->unknown && range_holds(&service->set[set], table))
		return 0;
	if (!made.count) {
		*next = (struct weft_range){ 0 };
		return 0;
	}
	r = weft_ranges_get(&model->ranges, made.count, &made.first);
	if (r < 0) {
		*missing += weft_ranges_round(made.count);
		return r;
	}
	*next = made;
	return emit_slots(&draft->run[RUN_SLOT], &made, table);
}

static void undo_services(struct weft_model *model)
{
	for (size_t i = 0; i < model->touched_service_count; i++) {
		struct weft_touched_service *touched = &model->touched_service[i];

		for (int set = 0; set < WEFT_SET_MAX_; set++) {
			struct weft_range *next = &touched->next[set];

			if (next->count && !(same_range(next, &touched->service->set[set])))
				weft_ranges_put(&model->ranges, next->first, next->count);
			*next = touched->service->set[set];
		}
	}
}

static int touch_frontends(struct weft_model *model, const struct weft_service_state *service)
{
	const struct weft_compiled *compiled = service->unit ? service->unit->compiled : NULL;

	for (size_t i = 0; compiled && i < compiled->claim_count; i++)
		if (compiled->claim[i].key.map == WEFT_MAP_FRONTEND &&
		    compiled->claim[i].value.frontend.service == service->id &&
		    weft_row_touch(model, compiled->claim[i].row) < 0)
			return -ENOMEM;
	return 0;
}

/* Who gains or loses a frontend gains or loses slots with it. */
static int touch_holders(struct weft_model *model)
{
	for (size_t i = 0; i < model->touched_row_count; i++) {
		const struct weft_row *row = model->touched_row[i];
		struct weft_service_state *old, *new = NULL;

		if (row->key.map != WEFT_MAP_FRONTEND || !row->key.key.protocol)
			continue;
		old = row->there ? weft_service_find(model, row->have.frontend.service) : NULL;
		if (row->first)
			new = weft_service_find(model, row->first->value.frontend.service);
		if ((old && weft_service_touch(model, old) < 0) || (new && weft_service_touch(model, new) < 0))
			return -ENOMEM;
	}
	return 0;
}

static int draft_services(struct weft_model *model, struct draft *draft, struct weft_err *err)
{
	weft_cleanup(table_done) struct table table = { 0 };
	uint64_t missing = 0;
	int r = touch_holders(model);

	if (r < 0)
		return r;
	for (size_t i = 0; i < model->touched_service_count; i++) {
		struct weft_touched_service *touched = &model->touched_service[i];
		const struct weft_service_state *service = touched->service;
		bool changed = false;

		for (int set = 0; set < WEFT_SET_MAX_; set++) {
			r = draft_set(model, draft, touched, (enum weft_set)set, &table, &missing);
			if (r < 0 && r != -ENOSPC)
				return r;
			if (!same_range(&service->set[set], &touched->next[set])) {
				changed = true;
				draft->old_ranges += !!service->set[set].count;
			}
		}
		for (int set = 0; set < WEFT_SET_MAX_; set++)
			draft->old_ranges += !!touched->adopted[set].count;
		draft->services_changed += changed;
		if (changed && touch_frontends(model, service) < 0)
			return -ENOMEM;
	}
	if (missing)
		too_small(draft, WEFT_MAP_SLOT, "weft_slot", "slots", model->capacity.max_entries[WEFT_MAP_SLOT],
			  (missing + model->ranges.used > model->ranges.capacity ? 0 : model->ranges.capacity) +
				  missing + model->ranges.used,
			  err);
	return 0;
}

/* ---- rows ---- */

static size_t key_size(uint32_t map)
{
	return map == WEFT_MAP_WORKLOAD_AT ? sizeof(struct weft_addr) : sizeof(struct weft_frontend_key);
}

static size_t value_size(uint32_t map)
{
	return map == WEFT_MAP_FRONTEND	   ? sizeof(struct weft_frontend) :
	       map == WEFT_MAP_ENDPOINT_AT ? sizeof(struct weft_endpoint_at) :
					     sizeof(uint32_t);
}

/* False: the row should not be there. */
static bool row_desired(const struct weft_model *model, const struct weft_row *row, union weft_row_value *ret_value)
{
	const struct weft_claim *claim = row->first;
	const struct weft_service_state *service;
	const struct weft_range *range;

	if (!claim || row->key.map == WEFT_ROW_WATCH)
		return false;
	memset(ret_value, 0, sizeof(*ret_value));
	memcpy(ret_value, &claim->value, value_size(row->key.map));
	if (row->key.map != WEFT_MAP_FRONTEND || claim->set == WEFT_SET_NONE)
		return true;
	service = weft_service_find(model, claim->value.frontend.service);
	range = service->touched ? model->touched_service[service->touched - 1].next : service->set;
	range += claim->set;
	ret_value->frontend.slot = range->first;
	ret_value->frontend.count = range->count;
	ret_value->frontend.flags |= range->weighted ? WEFT_FRONTEND_F_WEIGHTED : 0;
	return true;
}

static int draft_rows(struct weft_model *model, struct draft *draft, struct weft_err *err)
{
	uint32_t more[WEFT_MAP_MAX_ + 1] = { 0 };
	static const struct {
		uint32_t map;
		const char *name, *what;
		enum run_order update, gone;
	} kind[] = {
		{ WEFT_MAP_FRONTEND, "weft_frontend", "service addresses", RUN_FRONTEND, RUN_FRONTEND_GONE },
		{ WEFT_MAP_ENDPOINT_AT, "weft_endpoint_at", "endpoints of this node", RUN_ENDPOINT_AT,
		  RUN_ENDPOINT_AT_GONE },
		{ WEFT_MAP_WORKLOAD_AT, "weft_workload_at", "addresses of workloads", RUN_WORKLOAD_AT,
		  RUN_WORKLOAD_AT_GONE },
	};

	for (size_t i = 0; i < model->touched_row_count; i++) {
		const struct weft_row *row = model->touched_row[i];
		union weft_row_value value;
		size_t of = 0;
		int r = 0;

		if (row->key.map == WEFT_ROW_WATCH)
			continue;
		while (kind[of].map != row->key.map)
			of++;
		if (row_desired(model, row, &value)) {
			more[row->key.map] += !row->there;
			if (!row->there || row->unknown || memcmp(&value, &row->have, value_size(row->key.map)) != 0)
				r = emit(&draft->run[kind[of].update], &row->key.key, key_size(row->key.map), &value,
					 value_size(row->key.map));
		} else if (row->there || row->unknown) {
			r = emit(&draft->run[kind[of].gone], &row->key.key, key_size(row->key.map), NULL, 0);
		}
		if (r < 0)
			return r;
	}
	/* New ones come before old ones go, so both must fit at once. */
	for (size_t of = 0; of < WEFT_ARRAY_SIZE(kind); of++) {
		uint64_t need = (uint64_t)model->row_count[kind[of].map] + more[kind[of].map];

		if (more[kind[of].map] && need > model->capacity.max_entries[kind[of].map])
			too_small(draft, (enum weft_map)kind[of].map, kind[of].name, kind[of].what,
				  model->capacity.max_entries[kind[of].map], need, err);
	}
	return 0;
}

/* ---- endpoints ---- */

enum cut {
	CUT_NOT,
	CUT_ALL,
	CUT_UDP,
};

struct fate {
	struct weft_held value;
	enum cut cut;
	bool released; /* its id may be given to another */
};

static uint32_t have_id(const struct weft_model *model, uint32_t index)
{
	return (uint32_t)model->place[index].have.generation << WEFT_ENDPOINT_INDEX_BITS | index;
}

/* Of what the kernel has. Adopted maps may say what the names file does not know, or says of another. */
static bool is_named(const struct weft_model *model, uint32_t index)
{
	return weft_names_endpoint(model->names, have_id(model, index)) != NULL;
}

static bool is_udp(const struct weft_model *model, uint32_t index)
{
	const struct weft_endpoint_name *name = weft_place_name(model, index);

	return name && name->protocol == IPPROTO_UDP;
}

/* `gone_ns`: since when nobody wants it, 0: since now. */
static bool is_over(const struct draft *draft, uint32_t index, uint64_t gone_ns)
{
	return gone_ns && draft->now_ns >= gone_ns + WEFT_MODEL_GRACE_NS && draft->live && index < draft->live_count &&
	       !draft->live[index];
}

/* `gone_ns`: of an orphan, else 0. */
static struct fate endpoint_fate(const struct weft_model *model, const struct draft *draft, uint32_t index,
				 uint64_t gone_ns)
{
	const struct weft_place *place = &model->place[index];
	const struct weft_mesh_config *mesh = weft_model_mesh(model);
	uint64_t since_ns = gone_ns ? gone_ns : draft->now_ns;
	struct fate fate = { .value = place->have };
	bool gone;

	if (place->want) {
		fate.value = place->want->value;
		if (place->in_use && !place->want->sets && is_udp(model, index))
			fate.cut = CUT_UDP;
		return fate;
	}
	if (is_over(draft, index, gone_ns)) {
		fate.value = (struct weft_held){ 0 };
		fate.released = true;
		return fate;
	}
	if (place->have.state == WEFT_ENDPOINT_FREE)
		return fate;
	if (!is_named(model, index)) {
		fate.value = (struct weft_held){ 0 };
		fate.cut = mesh->gone_policy == WEFT_GONE_CUT && !place->cut ? CUT_ALL : CUT_NOT;
		return fate;
	}
	gone = place->have.state == WEFT_ENDPOINT_GONE || mesh->gone_policy == WEFT_GONE_CUT ||
	       (mesh->gone_policy == WEFT_GONE_DRAIN &&
		draft->now_ns >= since_ns + mesh->gone_timeout_s * 1000000000ull) ||
	       is_udp(model, index);
	fate.value.state = gone ? WEFT_ENDPOINT_GONE : WEFT_ENDPOINT_DRAINING;
	if (gone && !place->cut)
		fate.cut = is_udp(model, index) ? CUT_UDP : CUT_ALL;
	return fate;
}

static bool same_held(const struct weft_held *a, const struct weft_held *b)
{
	return a->workload == b->workload && a->weight == b->weight && a->generation == b->generation &&
	       a->state == b->state && a->flags == b->flags;
}

static struct weft_endpoint endpoint_value(const struct weft_model *model, uint32_t index, const struct weft_held *held)
{
	const struct weft_endpoint_name *name = weft_place_name(model, index);

	if (held->state == WEFT_ENDPOINT_FREE)
		return (struct weft_endpoint){ 0 };
	return (struct weft_endpoint){
		.addr = name->addr,
		.port = htons(name->port),
		.protocol = name->protocol,
		.state = held->state,
		.id = name->id,
		.service = name->service,
		.workload = held->workload,
		.weight = held->weight,
		.flags = held->flags,
	};
}

static int draft_endpoint(struct weft_model *model, struct draft *draft, struct weft_plan *plan, uint32_t index,
			  uint64_t gone_ns)
{
	const struct weft_place *place = &model->place[index];
	struct fate fate = endpoint_fate(model, draft, index, gone_ns);
	bool late = fate.value.state == WEFT_ENDPOINT_FREE || fate.value.state >= WEFT_ENDPOINT_DRAINING;
	struct weft_endpoint value;
	uint32_t id = have_id(model, index);
	int r = 0;

	if (fate.cut)
		r = weft_buf_add(fate.cut == CUT_UDP ? &plan->cut_udp : &plan->cut, &id, sizeof(id));
	if (r < 0 || (!place->unknown && same_held(&fate.value, &place->have)))
		return r;
	value = endpoint_value(model, index, &fate.value);
	/* What turns away from traffic does so after the flip, for old slots may still say it. */
	return emit(&draft->run[late ? RUN_ENDPOINT_GONE : RUN_ENDPOINT], &index, sizeof(index), &value, sizeof(value));
}

/* Nothing is to be done for it before it is over, and there may be thousands. */
static bool rests(const struct weft_model *model, const struct draft *draft, const struct weft_orphan *orphan)
{
	const struct weft_place *place = &model->place[orphan->index];

	return !is_over(draft, orphan->index, orphan->gone_ns) && !place->touched && !place->unknown && !place->want &&
	       place->cut && place->have.state == WEFT_ENDPOINT_GONE;
}

/* An orphan that is touched and still nobody's is looked at among the orphans, which know since when. */
static bool among_orphans(const struct weft_place *place)
{
	return place->orphan && !(place->touched && place->want);
}

static int draft_endpoints(struct weft_model *model, struct draft *draft, struct weft_plan *plan)
{
	for (size_t i = 0; i < model->touched_place.count; i++) {
		uint32_t index = model->touched_place.item[i];
		const struct weft_place *place = &model->place[index];

		draft->new_orphans += !place->want && !place->orphan;
		if (!among_orphans(place) && draft_endpoint(model, draft, plan, index, 0) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < model->orphan_count; i++) {
		const struct weft_orphan *orphan = &model->orphan[i];

		if (!rests(model, draft, orphan) && among_orphans(&model->place[orphan->index]) &&
		    draft_endpoint(model, draft, plan, orphan->index, orphan->gone_ns) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- opt-outs ---- */

static bool has_key(const struct weft_buf *keys, const void *key, size_t size)
{
	for (size_t at = 0; at < keys->size; at += size)
		if (memcmp(keys->data + at, key, size) == 0)
			return true;
	return false;
}

static int optout_wanted(const struct weft_mesh_config *mesh, uint32_t map, struct weft_buf *ret_keys)
{
	int r = 0;

	for (size_t i = 0; map == WEFT_MAP_OPTOUT_CIDR && r == 0 && i < mesh->optout_cidrs.count; i++)
		if (!has_key(ret_keys, &mesh->optout_cidrs.item[i], sizeof(struct weft_cidr)))
			r = weft_buf_add(ret_keys, &mesh->optout_cidrs.item[i], sizeof(struct weft_cidr));
	for (size_t i = 0; map == WEFT_MAP_OPTOUT_PORT && r == 0 && i < mesh->optout_port_count; i++) {
		struct weft_port port = { .port = htons(mesh->optout_port[i].port),
					  .protocol = mesh->optout_port[i].protocol };

		if (!has_key(ret_keys, &port, sizeof(port)))
			r = weft_buf_add(ret_keys, &port, sizeof(port));
	}
	return r;
}

struct optout_draft {
	struct weft_buf wanted, removed;
};

struct optout_drafts {
	struct optout_draft of[2];
};

static void optout_drafts_done(struct optout_drafts *drafts)
{
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(drafts->of); i++) {
		weft_buf_done(&drafts->of[i].wanted);
		weft_buf_done(&drafts->of[i].removed);
	}
}

static int draft_optout(struct weft_model *model, const struct weft_optout *optout, struct draft *draft,
			struct optout_draft *to, struct weft_err *err)
{
	bool cidr = optout->map == WEFT_MAP_OPTOUT_CIDR;
	struct run *update = &draft->run[cidr ? RUN_OPTOUT_CIDR : RUN_OPTOUT_PORT];
	struct run *gone = &draft->run[cidr ? RUN_OPTOUT_CIDR_GONE : RUN_OPTOUT_PORT_GONE];
	const struct weft_buf *old[2] = { &optout->have, &optout->removed };
	size_t size = optout->key_size, peak;
	uint32_t one = 1;

	if (optout_wanted(weft_model_mesh(model), optout->map, &to->wanted) < 0)
		return -ENOMEM;
	for (size_t at = 0; at < to->wanted.size; at += size)
		if ((optout->unknown || !has_key(&optout->have, to->wanted.data + at, size)) &&
		    emit(update, to->wanted.data + at, size, &one, sizeof(one)) < 0)
			return -ENOMEM;
	/* What the last batch was to remove is only looked at if that batch failed. */
	for (size_t which = 0; which < (optout->unknown ? 2u : 1u); which++)
		for (size_t at = 0; at < old[which]->size; at += size)
			if (!has_key(&to->wanted, old[which]->data + at, size) &&
			    (emit(gone, old[which]->data + at, size, NULL, 0) < 0 ||
			     weft_buf_add(&to->removed, old[which]->data + at, size) < 0))
				return -ENOMEM;
	peak = (to->wanted.size + to->removed.size) / size;
	if (update->count && peak > model->capacity.max_entries[optout->map])
		too_small(draft, (enum weft_map)optout->map, cidr ? "weft_optout_cidr" : "weft_optout_port", "entries",
			  model->capacity.max_entries[optout->map], peak, err);
	return 0;
}

/* ---- the secure lane ---- */

static const struct {
	const char *name, *what;
	enum run_order update, gone;
} secure_run[WEFT_SECURE_MAP_MAX_] = {
	[WEFT_SECURE_WORKLOAD] = { "weft_workload", "workloads of the secure lane", RUN_WORKLOAD, RUN_WORKLOAD_GONE },
	[WEFT_SECURE_POLICY] = { "weft_policy", "policy sets", RUN_POLICY, RUN_POLICY_GONE },
	[WEFT_SECURE_SOURCE] = { "weft_policy_source", "policies by identity", RUN_POLICY_SOURCE, RUN_POLICY_SOURCE_GONE },
	[WEFT_SECURE_CIDR] = { "weft_policy_cidr", "policies by client address", RUN_POLICY_CIDR, RUN_POLICY_CIDR_GONE },
	[WEFT_SECURE_PORT] = { "weft_policy_port", "policies by port", RUN_POLICY_PORT, RUN_POLICY_PORT_GONE },
};

static int emit_gone(struct draft *draft, enum run_order gone, const struct weft_secure_map *map, const char *key,
		     struct weft_buf *removed)
{
	if (emit(&draft->run[gone], key, map->key_size, NULL, 0) < 0)
		return -ENOMEM;
	return weft_buf_add(removed, key, map->key_size);
}

static bool wants(const struct weft_secure_map *map, const struct weft_buf *want, const char *key)
{
	size_t size = map->key_size + map->value_size, low = 0, high = want->size / size;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int by = weft_secure_compare(map, want->data + middle * size, key);

		if (by == 0)
			return true;
		if (by < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* Both are in order of their keys. */
static int draft_secure_map(struct weft_model *model, struct draft *draft, struct weft_secure_draft *secure, size_t which,
			    struct weft_err *err)
{
	const struct weft_secure_map *map = &model->secure.map[which];
	const struct weft_buf *want = &secure->want[which], *have = &map->have;
	struct run *update = &draft->run[secure_run[which].update];
	size_t size = map->key_size + map->value_size, i = 0, j = 0, peak = 0;
	int r = 0;

	for (; r == 0 && (i < want->size || j < have->size); peak++) {
		const char *new = i < want->size ? want->data + i : NULL, *old = j < have->size ? have->data + j : NULL;
		int by = !new ? 1 : !old ? -1 : weft_secure_compare(map, new, old);

		if (by > 0)
			r = emit_gone(draft, secure_run[which].gone, map, old, &secure->removed[which]);
		else if (by < 0 || map->unknown || memcmp(new, old, size) != 0)
			r = emit(update, new, map->key_size, new + map->key_size, map->value_size);
		i += by <= 0 ? size : 0;
		j += by >= 0 ? size : 0;
	}
	/* What the last batch was to remove is only looked at if that batch failed. */
	for (size_t at = 0; map->unknown && r == 0 && at < map->removed.size; at += map->key_size, peak++)
		if (!wants(map, want, map->removed.data + at) && !wants(map, have, map->removed.data + at))
			r = emit_gone(draft, secure_run[which].gone, map, map->removed.data + at, &secure->removed[which]);
	for (size_t at = 0; which == WEFT_SECURE_SOURCE && r == 0 && at < secure->extra.size; at += size, peak++) {
		const char *extra = secure->extra.data + at;

		r = emit(update, extra, map->key_size, extra + map->key_size, map->value_size);
		if (r == 0)
			r = emit_gone(draft, secure_run[which].gone, map, extra, &secure->removed[which]);
	}
	if (r == 0 && update->count && peak > model->capacity.max_entries[map->map])
		too_small(draft, (enum weft_map)map->map, secure_run[which].name, secure_run[which].what,
			  model->capacity.max_entries[map->map], peak, err);
	return r;
}

static int draft_secure(struct weft_model *model, struct draft *draft, struct weft_secure_draft *secure, struct weft_err *err)
{
	int r = 0;

	for (size_t i = 0; secure->built && r == 0 && i < WEFT_SECURE_MAP_MAX_; i++)
		r = draft_secure_map(model, draft, secure, i, err);
	return r;
}

/* ---- the mirror follows ---- */

static void confirm_rows(struct weft_model *model)
{
	for (size_t i = 0; i < model->touched_row_count; i++) {
		struct weft_row *row = model->touched_row[i];
		union weft_row_value value = { 0 };
		bool there = row_desired(model, row, &value);

		model->row_count[row->key.map] += (uint32_t)there - (uint32_t)row->there;
		row->there = there;
		row->have = value;
		row->unknown = row->touched = false;
	}
}

/* There is room in all lists. */
static void confirm_services(struct weft_model *model, uint64_t now_ns)
{
	model->last_service_count = 0;
	for (size_t i = 0; i < model->touched_service_count; i++) {
		const struct weft_touched_service *touched = &model->touched_service[i];
		struct weft_service_state *service = touched->service;

		for (int set = 0; set < WEFT_SET_MAX_; set++) {
			struct weft_range *old = &service->set[set];

			if (!same_range(old, &touched->next[set])) {
				if (old->count)
					model->pending[model->pending_count++] =
						(struct weft_pending_range){ *old, now_ns };
				*old = touched->next[set];
			}
			if (touched->adopted[set].count)
				model->pending[model->pending_count++] =
					(struct weft_pending_range){ touched->adopted[set], now_ns };
		}
		service->touched = 0;
		service->unknown = false;
		if (!service->unit)
			model->departed[model->departed_count++] =
				(struct weft_departed){ .id = service->id, .since_ns = now_ns };
		model->last_service[model->last_service_count++] = service;
	}
	free(model->touched_service);
	model->touched_service = NULL;
	model->touched_service_count = model->touched_service_room = 0;
}

static void confirm_endpoint(struct weft_model *model, const struct fate *fate, uint32_t index)
{
	struct weft_place *place = &model->place[index];

	place->cut = place->want ? false : place->cut || fate->cut;
	place->have = fate->value;
	place->in_use = place->want && place->want->sets;
	place->unknown = place->touched = false;
}

/* Its id may be given to another, also if it was given and never reached the kernel. */
static void release(struct weft_model *model, uint32_t index)
{
	const struct weft_endpoint_name *name = weft_place_name(model, index);

	if (name)
		weft_names_drop_endpoint(model->names, name->id, &model->journal);
}

static void confirm_endpoints(struct weft_model *model, const struct draft *draft)
{
	size_t kept = 0;

	for (size_t i = 0; i < model->touched_place.count; i++) {
		uint32_t index = model->touched_place.item[i];

		if (!model->place[index].want && !model->place[index].orphan)
			weft_orphan_add(model, index, 0); /* there is room */
	}
	for (size_t i = 0; i < model->orphan_count; i++) {
		struct weft_orphan orphan = model->orphan[i];
		struct weft_place *place = &model->place[orphan.index];
		struct fate fate;

		if (rests(model, draft, &orphan)) {
			model->orphan[kept++] = orphan;
			continue;
		}
		fate = endpoint_fate(model, draft, orphan.index, orphan.gone_ns);
		if (!place->touched)
			model->touched_place.item[model->touched_place.count++] = orphan.index;
		if (fate.released)
			release(model, orphan.index);
		confirm_endpoint(model, &fate, orphan.index);
		place->orphan = !place->want && !fate.released;
		if (!orphan.gone_ns)
			orphan.gone_ns = draft->now_ns;
		if (place->orphan)
			model->orphan[kept++] = orphan;
	}
	model->orphan_count = kept;
	for (size_t i = 0; i < model->touched_place.count; i++) {
		uint32_t index = model->touched_place.item[i];
		struct fate fate;

		if (!model->place[index].touched)
			continue;
		fate = endpoint_fate(model, draft, index, 0);
		confirm_endpoint(model, &fate, index);
	}
	/* Those that were touched become the last commit's. What a first load took is not kept. */
	free(model->last_place.item);
	model->last_place = model->touched_place;
	model->touched_place = (struct weft_list_u32){ 0 };
	if (!kept) {
		free(model->orphan);
		model->orphan = NULL;
		model->orphan_room = 0;
	}
}

/* All room that the mirror will take, before any of it changes. */
static int reserve(struct weft_model *model, const struct draft *draft)
{
	if (weft_grow(&model->pending, &model->pending_room, model->pending_count + draft->old_ranges,
		      sizeof(*model->pending)) < 0 ||
	    weft_grow(&model->last_service, &model->last_service_room, model->touched_service_count,
		      sizeof(*model->last_service)) < 0 ||
	    weft_grow(&model->orphan, &model->orphan_room, model->orphan_count + draft->new_orphans,
		      sizeof(*model->orphan)) < 0 ||
	    weft_grow(&model->touched_place.item, &model->touched_place.room,
		      model->orphan_count + draft->new_orphans + model->touched_place.count,
		      sizeof(*model->touched_place.item)) < 0 ||
	    weft_grow(&model->departed, &model->departed_room, model->departed_count + model->touched_service_count,
		      sizeof(*model->departed)) < 0)
		return -ENOMEM;
	return 0;
}

/* ---- time ---- */

static void free_ranges(struct weft_model *model, uint64_t now_ns)
{
	size_t kept = 0;

	for (size_t i = 0; i < model->pending_count; i++) {
		struct weft_pending_range *pending = &model->pending[i];

		if (pending->since_ns && now_ns >= pending->since_ns + WEFT_MODEL_GRACE_NS)
			weft_ranges_put(&model->ranges, pending->range.first, pending->range.count);
		else
			model->pending[kept++] = *pending;
	}
	model->pending_count = kept;
}

bool weft_workload_in_use(const struct weft_model *model, uint32_t id)
{
	const struct weft_workload_name *name = weft_names_workload(model->names, id);
	const struct weft_entry *entry;
	enum weft_kind kind;

	if (!name)
		return false;
	kind = strcmp(name->kind, "Pod") == 0 ? WEFT_KIND_POD : WEFT_KIND_WORKLOAD_ENTRY;
	entry = weft_model_find(model, kind, name->namespace, name->name);
	return entry && entry->resource;
}

static void forget_departed(struct weft_model *model, uint64_t now_ns)
{
	size_t kept = 0;

	for (size_t i = 0; i < model->departed_count; i++) {
		const struct weft_departed *departed = &model->departed[i];
		struct weft_service_state *service = NULL;

		if (now_ns < departed->since_ns + NAME_KEEP_NS) {
			model->departed[kept++] = *departed;
			continue;
		}
		if (departed->workload) {
			if (!weft_workload_in_use(model, departed->id))
				weft_names_drop_workload(model->names, departed->id, &model->journal);
			continue;
		}
		service = weft_service_find(model, departed->id);
		if (service && (service->unit || service->touched))
			continue;
		weft_names_drop_service(model->names, departed->id, &model->journal);
		if (service)
			weft_service_drop(model, service);
	}
	model->departed_count = kept;
}

static void sooner(uint64_t *next_ns, uint64_t at_ns)
{
	if (!*next_ns || at_ns < *next_ns)
		*next_ns = at_ns;
}

static uint64_t next_time(const struct weft_model *model, uint64_t now_ns)
{
	const struct weft_mesh_config *mesh = weft_model_mesh(model);
	uint64_t next_ns = 0;

	for (size_t i = 0; i < model->pending_count; i++)
		sooner(&next_ns, model->pending[i].since_ns + WEFT_MODEL_GRACE_NS);
	for (size_t i = 0; i < model->orphan_count; i++) {
		uint64_t gone_ns = model->orphan[i].gone_ns, free_ns = gone_ns + WEFT_MODEL_GRACE_NS;
		uint64_t cut_ns = gone_ns + mesh->gone_timeout_s * 1000000000ull;

		sooner(&next_ns, free_ns > now_ns ? free_ns : now_ns + LIVE_POLL_NS);
		if (mesh->gone_policy == WEFT_GONE_DRAIN && cut_ns > now_ns)
			sooner(&next_ns, cut_ns);
	}
	if (model->departed_count)
		sooner(&next_ns, model->departed[0].since_ns + NAME_KEEP_NS);
	return next_ns;
}

/* ---- problems that only the whole shows ---- */

static int contested_problem(const struct weft_row *row, const struct weft_claim *loser, struct weft_problems *problems)
{
	const struct weft_entry *winner = row->first->owner;
	const struct weft_resource *resource = loser->owner->resource;
	bool node_port = loser->value.frontend.type == WEFT_FRONTEND_NODE_PORT;
	uint16_t port = ntohs(row->key.key.port);
	const char *protocol = row->key.key.protocol == IPPROTO_UDP ? "UDP" : "TCP";
	char who[600], shown[WEFT_ADDR_TEXT];

	snprintf(who, sizeof(who), "%s %s/%s", weft_kind_name(resource->kind), loser->owner->namespace,
		 loser->owner->name);
	if (node_port)
		snprintf(shown, sizeof(shown), "node port %u", port);
	else
		weft_addr_port_format(&row->key.key.addr, port, shown);
	return weft_problems_add(problems, WEFT_SEVERITY_ERROR, resource->file ? resource->file : "", resource->line, who,
				 node_port ? "spec.ports" : "",
				 "%s/%s already belongs to %s %s/%s, which %s: it keeps it until it lets go; give "
				 "one of them another %s",
				 shown, protocol, weft_kind_name(winner->kind), winner->namespace, winner->name,
				 row->first->rank < loser->rank ? "is older" : "came first", node_port ? "node port" : "address or port");
}

/* No error: a record may describe what a pod's own says better, and one of them goes with its pod. */
static int address_problem(const struct weft_row *row, const struct weft_claim *loser, struct weft_problems *problems)
{
	const struct weft_entry *winner = row->first->owner;
	const struct weft_resource *resource = loser->owner->resource;
	char who[600], shown[WEFT_ADDR_TEXT];

	snprintf(who, sizeof(who), "%s %s/%s", weft_kind_name(resource->kind), loser->owner->namespace, loser->owner->name);
	return weft_problems_add(problems, WEFT_SEVERITY_NOTICE, resource->file ? resource->file : "", resource->line, who,
				 resource->kind == WEFT_KIND_POD ? "status.podIPs" : "spec.address",
				 "%s already belongs to %s %s/%s, which %s: identity and policies there are that one's; give one of them another "
				 "address",
				 weft_addr_format(&row->key.key.addr, shown), weft_kind_name(winner->kind), winner->namespace, winner->name,
				 winner->kind != loser->owner->kind	 ? "has it from its node"
				 : row->first->rank < loser->rank ? "is older"
								  : "came first");
}

static int contested_by(const struct weft_row *row, const struct weft_claim *loser, struct weft_problems *problems)
{
	if (loser->owner == row->first->owner)
		return 0;
	if (row->key.map == WEFT_MAP_FRONTEND)
		return contested_problem(row, loser, problems);
	/* Handed on. */
	return loser->owner->resource->meta.deleting ? 0 : address_problem(row, loser, problems);
}

static int copy_problems(const struct weft_problems *all, struct weft_problems *problems)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct weft_problem *from = &all->item[i];

		if (weft_problems_add(problems, from->severity, from->file, from->line, from->resource, from->path, "%s",
				      from->text) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int report(const struct weft_model *model, const struct weft_secure_draft *secure, struct weft_problems *problems)
{
	for (const struct weft_entry *unit = model->faulty; unit; unit = unit->faulty_next)
		if (copy_problems(&unit->compiled->problems, problems) < 0)
			return -ENOMEM;
	if (copy_problems(secure->built ? &secure->problems : &model->secure.problems, problems) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < model->contested_count; i++) {
		const struct weft_row *row = model->contested[i];

		for (const struct weft_claim *loser = row->first->next; loser; loser = loser->next)
			if (contested_by(row, loser, problems) < 0)
				return -ENOMEM;
	}
	return 0;
}

/* ---- the commit ---- */

void weft_plan_done(struct weft_plan *plan)
{
	weft_buf_done(&plan->journal);
	weft_buf_done(&plan->batch);
	weft_buf_done(&plan->cut);
	weft_buf_done(&plan->cut_udp);
	weft_buf_done(&plan->judge);
	*plan = (struct weft_plan){ 0 };
}

/* Ids of the names file that neither the kernel nor the configuration has any more. */
static int check_names(struct weft_model *model, uint64_t now_ns)
{
	const struct weft_endpoint_name *endpoint = NULL;
	const struct weft_service_name *service = NULL;
	const struct weft_workload_name *workload = NULL;

	while ((endpoint = weft_names_next_endpoint(model->names, endpoint ? endpoint->id : 0))) {
		uint32_t index = WEFT_ENDPOINT_INDEX(endpoint->id);

		if (weft_place_room(model, index) < 0)
			return -ENOMEM;
		if (model->place[index].want || model->place[index].orphan || model->place[index].touched)
			continue;
		if (weft_list_add(&model->touched_place, index) < 0)
			return -ENOMEM;
		model->place[index].touched = true;
	}
	while ((service = weft_names_next_service(model->names, service ? service->id : 0))) {
		const struct weft_service_state *state = weft_service_find(model, service->id);

		if (state && state->unit)
			continue;
		if (weft_grow(&model->departed, &model->departed_room, model->departed_count + 1,
			      sizeof(*model->departed)) < 0)
			return -ENOMEM;
		model->departed[model->departed_count++] =
			(struct weft_departed){ .id = service->id, .since_ns = now_ns };
	}
	while ((workload = weft_names_next_workload(model->names, workload ? workload->id : 0))) {
		if (weft_workload_in_use(model, workload->id))
			continue;
		if (weft_grow(&model->departed, &model->departed_room, model->departed_count + 1,
			      sizeof(*model->departed)) < 0)
			return -ENOMEM;
		model->departed[model->departed_count++] =
			(struct weft_departed){ .id = workload->id, .workload = true, .since_ns = now_ns };
	}
	model->names_checked = true;
	return 0;
}

static void confirm(struct weft_model *model, struct draft *draft, struct optout_drafts *optout)
{
	for (size_t i = 0; i < model->pending_count; i++)
		if (!model->pending[i].since_ns)
			model->pending[i].since_ns = draft->now_ns;
	confirm_rows(model);
	confirm_services(model, draft->now_ns);
	confirm_endpoints(model, draft);
	free(model->last_row);
	model->last_row = model->touched_row;
	model->last_row_room = model->touched_row_room;
	model->last_row_count = model->touched_row_count;
	model->touched_row = NULL;
	model->touched_row_room = model->touched_row_count = 0;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(model->optout); i++) {
		weft_buf_done(&model->optout[i].have);
		weft_buf_done(&model->optout[i].removed);
		model->optout[i].have = optout->of[i].wanted;
		model->optout[i].removed = optout->of[i].removed;
		model->optout[i].unknown = false;
		optout->of[i] = (struct optout_draft){ 0 };
	}
	model->last_commit_ns = draft->now_ns;
}

int weft_model_commit(struct weft_model *model, uint64_t now_ns, const uint64_t *live, size_t live_count,
		      struct weft_plan *plan, struct weft_problems *problems, struct weft_err *err)
{
	weft_cleanup(draft_done) struct draft draft = { .live = live, .live_count = live_count, .now_ns = now_ns };
	weft_cleanup(optout_drafts_done) struct optout_drafts optout = { 0 };
	weft_cleanup(weft_secure_draft_done) struct weft_secure_draft secure = { 0 };
	int r;

	memcpy(draft.run, empty_run, sizeof(draft.run));
	weft_rows_sweep(model);
	model->last_service_count = 0;
	r = weft_model_refresh(model, now_ns, &plan->need, err);
	if (r < 0)
		return r;
	r = weft_secure_build(model, &secure);
	if (r == 0)
		r = report(model, &secure, problems);
	if (r == 0 && !model->names_checked)
		r = check_names(model, now_ns);
	free_ranges(model, now_ns);
	forget_departed(model, now_ns);
	if (r == 0)
		r = draft_services(model, &draft, err);
	if (r == 0)
		r = draft_rows(model, &draft, err);
	for (size_t i = 0; r == 0 && i < WEFT_ARRAY_SIZE(model->optout); i++)
		r = draft_optout(model, &model->optout[i], &draft, &optout.of[i], err);
	if (r == 0)
		r = draft_secure(model, &draft, &secure, err);
	if (r == 0 && secure.built)
		r = weft_buf_add(&plan->judge, secure.judge.data, secure.judge.size);
	if (r == 0 && draft.full)
		r = -ENOSPC;
	if (r == 0)
		r = draft_endpoints(model, &draft, plan);
	if (r == 0)
		r = draft_print(&draft, &plan->batch);
	if (r == 0)
		r = reserve(model, &draft);
	if (r < 0) {
		undo_services(model);
		weft_plan_done(plan);
		plan->need = draft.need;
		return r == -ENOSPC ? r : weft_err_set(err, -r, "the configuration cannot be compared with the maps: %m");
	}
	confirm(model, &draft, &optout);
	plan->mesh_changed = secure.built || (model->secure.mesh_dirty && model->secure.map[WEFT_SECURE_WORKLOAD].have.size);
	weft_secure_confirm(model, &secure);
	plan->services_changed = draft.services_changed;
	plan->endpoints_changed = draft.run[RUN_ENDPOINT].count + draft.run[RUN_ENDPOINT_GONE].count;
	plan->journal = model->journal;
	model->journal = WEFT_BUF_INIT;
	plan->next_ns = next_time(model, now_ns);
	return 0;
}

void weft_model_distrust(struct weft_model *model)
{
	for (size_t i = 0; i < model->last_row_count; i++) {
		model->last_row[i]->unknown = model->last_row[i]->key.map != WEFT_ROW_WATCH;
		weft_row_touch(model, model->last_row[i]);
	}
	for (size_t i = 0; i < model->last_service_count; i++) {
		model->last_service[i]->unknown = true;
		weft_service_touch(model, model->last_service[i]);
	}
	for (size_t i = 0; i < model->last_place.count; i++) {
		uint32_t index = model->last_place.item[i];
		struct weft_place *place = &model->place[index];

		place->unknown = true;
		place->cut = false;
		/* To cut sockets again that are already cut is harmless. */
		place->in_use |= is_udp(model, index);
		if (!place->touched && weft_list_add(&model->touched_place, index) == 0)
			place->touched = true;
	}
	/* Old slots may still say it: the grace begins with the commit that succeeds. */
	for (size_t i = 0; i < model->orphan_count; i++)
		if (model->orphan[i].gone_ns == model->last_commit_ns)
			model->orphan[i].gone_ns = 0;
	for (size_t i = 0; i < model->pending_count; i++)
		if (model->pending[i].since_ns == model->last_commit_ns)
			model->pending[i].since_ns = 0;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(model->optout); i++)
		model->optout[i].unknown = true;
	weft_secure_distrust(model);
}
