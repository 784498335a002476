/* SPDX-License-Identifier: Apache-2.0 */
/* The resources by identity, and what a change of each has to do with. */
#include "model/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct weft_resource default_mesh = {
	.kind = WEFT_KIND_MESH_CONFIG,
	.meta = { .name = "", .namespace = "" },
	.mesh_config = {
		.gone_policy = WEFT_GONE_CUT,
		.gone_timeout_s = 30,
		.metrics = true,
		.load_balancer = WEFT_SIMPLE_LB_LEAST_REQUEST,
		.cluster_domain = "cluster.local",
	},
};

struct weft_model *weft_model_new(const struct weft_model_options *options, struct weft_names *names)
{
	weft_cleanup(weft_model_freep) struct weft_model *model = calloc(1, sizeof(*model));

	if (!model) {
		weft_names_free(names);
		return NULL;
	}
	model->names = names;
	model->capacity = options->capacity;
	model->mesh = &default_mesh;
	model->optout[0] = (struct weft_optout){ .map = WEFT_MAP_OPTOUT_CIDR, .key_size = sizeof(struct weft_cidr) };
	model->optout[1] = (struct weft_optout){ .map = WEFT_MAP_OPTOUT_PORT, .key_size = sizeof(struct weft_port) };
	model->node = strdup(options->node ? options->node : "");
	if (!model->node || weft_ranges_init(&model->ranges, options->capacity.max_entries[WEFT_MAP_SLOT]) < 0)
		return NULL;
	return weft_take_ptr(model);
}

static void groups_free(struct weft_group *groups)
{
	struct weft_group *group, *other;

	HASH_ITER(hh, groups, group, other)
	{
		HASH_DELETE(hh, groups, group);
		free(group->key);
		free(group);
	}
}

struct weft_model *weft_model_free(struct weft_model *model)
{
	struct weft_entry *entry, *other;
	struct weft_row *row, *other_row;
	struct weft_service_state *service, *other_service;

	if (!model)
		return NULL;
	weft_rules_done(model);
	HASH_ITER(hh, model->row, row, other_row)
	{
		HASH_DELETE(hh, model->row, row);
		free(row);
	}
	HASH_ITER(hh, model->service, service, other_service)
	{
		HASH_DELETE(hh, model->service, service);
		free(service);
	}
	HASH_ITER(hh, model->entry, entry, other)
	{
		HASH_DELETE(hh, model->entry, entry);
		weft_resource_free(entry->resource);
		weft_compiled_free(entry->compiled);
		weft_compiled_free(entry->next);
		free(entry->claim);
		free(entry->key);
		free(entry);
	}
	groups_free(model->slices);
	groups_free(model->namespaces);
	groups_free(model->hosts);
	weft_compiled_done(&model->making);
	free(model->touched_row);
	free(model->last_row);
	free(model->touched_service);
	free(model->last_service);
	free(model->place);
	free(model->at);
	free(model->touched_place.item);
	free(model->last_place.item);
	free(model->orphan.item);
	weft_ranges_done(&model->ranges);
	free(model->slot);
	free(model->pending);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(model->optout); i++) {
		weft_buf_done(&model->optout[i].have);
		weft_buf_done(&model->optout[i].removed);
	}
	free(model->departed);
	weft_buf_done(&model->journal);
	weft_names_free(model->names);
	free(model->node);
	free(model);
	return NULL;
}

int weft_model_grow(struct weft_model *model, const struct weft_role_capacity *capacity)
{
	int r = weft_ranges_grow(&model->ranges, capacity->max_entries[WEFT_MAP_SLOT]);

	if (r < 0)
		return r;
	for (size_t i = 0; i < WEFT_MAP_MAX_; i++)
		if (capacity->max_entries[i] > model->capacity.max_entries[i])
			model->capacity.max_entries[i] = capacity->max_entries[i];
	return 0;
}

size_t weft_model_services(const struct weft_model *model)
{
	size_t count = 0;

	for (const struct weft_service_state *service = model->service; service; service = service->hh.next)
		count += service->unit != NULL;
	return count;
}

size_t weft_model_workloads(const struct weft_model *model)
{
	const struct weft_workload_name *name = NULL;
	size_t count = 0;

	while ((name = weft_names_next_workload(model->names, name ? name->id : 0)))
		count += weft_workload_in_use(model, name->id);
	return count;
}

size_t weft_model_endpoints(const struct weft_model *model)
{
	size_t count = 0;

	for (size_t i = 0; i < model->place_count; i++)
		count += model->place[i].have.state == WEFT_ENDPOINT_READY || model->place[i].have.state == WEFT_ENDPOINT_SERVING;
	return count;
}

const struct weft_names *weft_model_names(const struct weft_model *model)
{
	return model->names;
}

/* ---- entries and groups ---- */

/* "kind namespace/name" with a NUL behind the namespace; the caller frees a key that did not fit in `room`. */
static char *make_key(enum weft_kind kind, const char *namespace, const char *name, char *room, size_t size,
		      size_t *ret_size)
{
	size_t namespace_size = strlen(namespace) + 1, name_size = strlen(name) + 1;
	char *key = room;

	*ret_size = 1 + namespace_size + name_size;
	if (*ret_size > size)
		key = malloc(*ret_size);
	if (!key)
		return NULL;
	key[0] = (char)kind;
	memcpy(key + 1, namespace, namespace_size);
	memcpy(key + 1 + namespace_size, name, name_size);
	return key;
}

struct weft_entry *weft_model_find(const struct weft_model *model, enum weft_kind kind, const char *namespace,
				   const char *name)
{
	char room[400];
	size_t size;
	char *key = make_key(kind, namespace, name, room, sizeof(room), &size);
	struct weft_entry *entry = NULL;

	if (key)
		HASH_FIND(hh, model->entry, key, size, entry);
	if (key != room)
		free(key);
	return entry;
}

static struct weft_entry *entry_get(struct weft_model *model, const struct weft_resource *resource)
{
	struct weft_entry *entry = weft_model_find(model, resource->kind, resource->meta.namespace, resource->meta.name);

	if (entry)
		return entry;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return NULL;
	entry->kind = resource->kind;
	entry->key = make_key(resource->kind, resource->meta.namespace, resource->meta.name, NULL, 0, &entry->key_size);
	if (entry->key) {
		entry->namespace = entry->key + 1;
		entry->name = entry->namespace + strlen(entry->namespace) + 1;
		entry->hashed = true;
		HASH_ADD_KEYPTR(hh, model->entry, entry->key, entry->key_size, entry);
	}
	if (!entry->key || !entry->hashed) {
		free(entry->key);
		free(entry);
		return NULL;
	}
	return entry;
}

struct weft_group *weft_group_find(struct weft_group *groups, const char *namespace, const char *name)
{
	char room[400];
	size_t size;
	char *key = make_key(0, namespace, name, room, sizeof(room), &size);
	struct weft_group *group = NULL;

	if (key)
		HASH_FIND(hh, groups, key, size, group);
	if (key != room)
		free(key);
	return group;
}

/* Groups stay when they are empty: there are as many as names that the configuration ever had. */
static struct weft_group *group_get(struct weft_group **groups, const char *namespace, const char *name)
{
	struct weft_group *group = weft_group_find(*groups, namespace, name);
	size_t size;

	if (group)
		return group;
	group = calloc(1, sizeof(*group));
	if (!group)
		return NULL;
	group->key = make_key(0, namespace, name, NULL, 0, &size);
	if (group->key) {
		group->hashed = true;
		HASH_ADD_KEYPTR(hh, *groups, group->key, size, group);
	}
	if (!group->key || !group->hashed) {
		free(group->key);
		free(group);
		return NULL;
	}
	return group;
}

static void group_leave(struct weft_entry *entry)
{
	if (!entry->group)
		return;
	if (entry->group_previous)
		entry->group_previous->group_next = entry->group_next;
	else
		entry->group->first = entry->group_next;
	if (entry->group_next)
		entry->group_next->group_previous = entry->group_previous;
	entry->group = NULL;
	entry->group_previous = entry->group_next = NULL;
}

static void group_join(struct weft_entry *entry, struct weft_group *group)
{
	entry->group = group;
	entry->group_previous = NULL;
	entry->group_next = group->first;
	if (group->first)
		group->first->group_previous = entry;
	group->first = entry;
}

static bool is_unit(enum weft_kind kind)
{
	return kind == WEFT_KIND_SERVICE || kind == WEFT_KIND_SERVICE_ENTRY;
}

static bool is_workload(enum weft_kind kind)
{
	return kind == WEFT_KIND_POD || kind == WEFT_KIND_WORKLOAD_ENTRY;
}

void weft_model_mark(struct weft_model *model, struct weft_entry *entry)
{
	struct weft_entry **list = is_unit(entry->kind) ? &model->dirty_units : &model->dirty_others;

	if (entry->dirty)
		return;
	entry->dirty = true;
	entry->next_dirty = *list;
	*list = entry;
}

static size_t selection(enum weft_kind workload)
{
	return workload == WEFT_KIND_WORKLOAD_ENTRY;
}

/* Whether endpoints of the unit come from workloads of that kind. */
static bool wants_workloads(const struct weft_model *model, const struct weft_entry *unit, enum weft_kind workload)
{
	const struct weft_group *slices;

	if (!unit->resource)
		return false;
	if (unit->kind == WEFT_KIND_SERVICE_ENTRY)
		return unit->resource->service_entry.has_workload_selector;
	slices = weft_group_find(model->slices, unit->namespace, unit->name);
	return unit->resource->service.selector.count &&
	       (workload == WEFT_KIND_WORKLOAD_ENTRY || !(slices && slices->first));
}

static void set_selects_of(struct weft_model *model, struct weft_entry *unit, enum weft_kind workload)
{
	size_t which = selection(workload);
	struct weft_selects *own = &unit->selects[which];
	struct weft_entry **first = &model->selecting[which];
	bool in = wants_workloads(model, unit, workload);

	if (own->in == in)
		return;
	if (in) {
		*own = (struct weft_selects){ .in = true, .next = *first };
		if (*first)
			(*first)->selects[which].previous = unit;
		*first = unit;
		return;
	}
	if (own->previous)
		own->previous->selects[which].next = own->next;
	else
		*first = own->next;
	if (own->next)
		own->next->selects[which].previous = own->previous;
	*own = (struct weft_selects){ 0 };
}

static void set_selects(struct weft_model *model, struct weft_entry *unit)
{
	set_selects_of(model, unit, WEFT_KIND_POD);
	set_selects_of(model, unit, WEFT_KIND_WORKLOAD_ENTRY);
}

/* ---- what a change touches ---- */

static void mark_selecting(struct weft_model *model, const struct weft_entry *workload)
{
	const struct weft_resource *resource = workload->resource;
	const struct weft_pairs *labels = workload->kind == WEFT_KIND_POD ? &resource->meta.labels :
									      &resource->workload_entry.labels;

	size_t which = selection(workload->kind);

	for (struct weft_entry *unit = model->selecting[which]; unit; unit = unit->selects[which].next) {
		const struct weft_pairs *selector = unit->kind == WEFT_KIND_SERVICE ?
							    &unit->resource->service.selector :
							    &unit->resource->service_entry.workload_selector;

		if (!unit->dirty && strcmp(unit->namespace, workload->namespace) == 0 &&
		    weft_pairs_match(labels, selector))
			weft_model_mark(model, unit);
	}
}

static void mark_service_of(struct weft_model *model, const struct weft_resource *slice)
{
	struct weft_entry *unit =
		weft_model_find(model, WEFT_KIND_SERVICE, slice->meta.namespace, slice->endpoint_slice.service);

	if (!unit)
		return;
	set_selects(model, unit);
	weft_model_mark(model, unit);
}

static void mark_hosts(struct weft_model *model, const struct weft_entry *unit)
{
	for (struct weft_entry *other = unit->group ? unit->group->first : NULL; other; other = other->group_next)
		weft_model_mark(model, other);
}

static void choose_mesh(struct weft_model *model)
{
	struct weft_entry *entry, *other;

	model->mesh = &default_mesh;
	HASH_ITER(hh, model->entry, entry, other)
		if (entry->kind == WEFT_KIND_MESH_CONFIG && entry->resource &&
		    (model->mesh == &default_mesh ||
		     entry->resource->meta.created < model->mesh->meta.created ||
		     (entry->resource->meta.created == model->mesh->meta.created &&
		      strcmp(entry->name, model->mesh->meta.name) < 0)))
			model->mesh = entry->resource;
	/* Where rules' hosts point depends on the cluster domain. */
	model->all_units_dirty = model->rules_dirty = true;
}

static void node_changed(struct weft_model *model, const struct weft_entry *entry, const struct weft_resource *old)
{
	const char *old_zone = old ? old->node.zone : "", *zone = entry->resource ? entry->resource->node.zone : "";

	if (strcmp(old_zone, zone) == 0)
		return;
	model->all_workloads_dirty = true;
	/* Zones of endpoints that come from pods are their nodes'. */
	model->all_units_dirty = true;
}

/*
 * The entry's resource is to be `resource` (NULL: none), and everything that
 * looks at it is marked. The old one is freed. `group` is what the new one joins.
 */
static void replace(struct weft_model *model, struct weft_entry *entry, struct weft_resource *resource,
		    struct weft_group *group)
{
	struct weft_resource *old = entry->resource;
	bool bound = *weft_entry_netns(entry);

	if (old && is_workload(entry->kind))
		mark_selecting(model, entry);
	if (old && entry->kind == WEFT_KIND_SERVICE_ENTRY)
		mark_hosts(model, entry);
	if (old && entry->kind == WEFT_KIND_DESTINATION_RULE)
		weft_rules_mark(model, old);
	group_leave(entry);
	model->kind_count[entry->kind] += (size_t)!!resource - (size_t)!!old;
	entry->resource = resource;
	if (group)
		group_join(entry, group);
	switch (entry->kind) {
	case WEFT_KIND_ENDPOINT_SLICE:
		if (old)
			mark_service_of(model, old);
		if (resource)
			mark_service_of(model, resource);
		break;
	case WEFT_KIND_SERVICE:
	case WEFT_KIND_SERVICE_ENTRY:
		set_selects(model, entry);
		mark_hosts(model, entry);
		weft_model_mark(model, entry);
		break;
	case WEFT_KIND_POD:
	case WEFT_KIND_WORKLOAD_ENTRY:
		entry->moved |= bound != !!*weft_entry_netns(entry);
		weft_model_mark(model, entry);
		if (resource)
			mark_selecting(model, entry);
		break;
	case WEFT_KIND_NODE:
		weft_model_mark(model, entry);
		node_changed(model, entry, old);
		break;
	case WEFT_KIND_DESTINATION_RULE:
		model->rules_dirty = true;
		if (resource)
			weft_rules_mark(model, resource);
		break;
	case WEFT_KIND_MESH_CONFIG:
		choose_mesh(model);
		break;
	default:
		break;
	}
	weft_resource_free(old);
	/* The others go with the commit that takes what they wanted out of force. */
	if (!resource && !entry->dirty) {
		HASH_DELETE(hh, model->entry, entry);
		free(entry->key);
		free(entry);
	}
}

static bool same(const struct weft_resource *a, const struct weft_resource *b)
{
	return a->fingerprint && a->fingerprint == b->fingerprint && a->meta.created == b->meta.created &&
	       a->meta.deleting == b->meta.deleting;
}

int weft_model_put(struct weft_model *model, struct weft_resource *resource)
{
	struct weft_entry *entry = entry_get(model, resource);
	struct weft_group *group = NULL;
	bool grouped = true;

	if (!entry)
		goto nomem;
	if (entry->resource && same(entry->resource, resource) && entry->resource->line == resource->line &&
	    strcmp(entry->resource->file ? entry->resource->file : "", resource->file ? resource->file : "") == 0) {
		weft_resource_free(resource);
		return 0;
	}
	if (resource->kind == WEFT_KIND_ENDPOINT_SLICE)
		group = group_get(&model->slices, resource->meta.namespace, resource->endpoint_slice.service);
	else if (is_workload(resource->kind))
		group = group_get(&model->namespaces, resource->meta.namespace, weft_kind_name(resource->kind));
	else if (resource->kind == WEFT_KIND_SERVICE_ENTRY && resource->service_entry.hosts.count)
		group = group_get(&model->hosts, "", resource->service_entry.hosts.item[0]);
	else
		grouped = false;
	if (grouped && !group)
		goto nomem;
	replace(model, entry, resource, group);
	return 0;
nomem:
	if (entry && !entry->resource && !entry->dirty)
		replace(model, entry, NULL, NULL);
	weft_resource_free(resource);
	return -ENOMEM;
}

void weft_model_remove(struct weft_model *model, enum weft_kind kind, const char *namespace, const char *name)
{
	struct weft_entry *entry = weft_model_find(model, kind, namespace, name);

	if (entry && entry->resource)
		replace(model, entry, NULL, NULL);
}

const struct weft_resource *weft_model_get(const struct weft_model *model, enum weft_kind kind, const char *namespace,
					   const char *name)
{
	const struct weft_entry *entry = weft_model_find(model, kind, namespace, name);

	return entry ? entry->resource : NULL;
}

/* ---- what is in force for the whole node ---- */

const struct weft_mesh_config *weft_model_mesh(const struct weft_model *model)
{
	return &model->mesh->mesh_config;
}

uint32_t weft_model_setting_flags(const struct weft_model *model)
{
	const struct weft_mesh_config *mesh = weft_model_mesh(model);

	return (mesh->metrics ? WEFT_SETTING_F_METRICS : 0) |
	       (mesh->optout_cidrs.count || mesh->optout_port_count ? WEFT_SETTING_F_OPT_OUT : 0);
}

int weft_model_bindings(const struct weft_model *model,
			int (*each)(void *context, uint32_t workload, const char *netns, uint32_t flags), void *context)
{
	struct weft_entry *entry, *other;

	HASH_ITER(hh, model->entry, entry, other)
	{
		const char *netns = weft_entry_netns(entry);
		int r;

		if (!*netns || !entry->workload)
			continue;
		r = each(context, entry->workload, netns, weft_entry_opted_out(model, entry) ? WEFT_POD_F_OPT_OUT : 0);
		if (r)
			return r;
	}
	return 0;
}
