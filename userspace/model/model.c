/* SPDX-License-Identifier: Apache-2.0 */
/* The resources by identity, and what a change of each has to do with. */
#include "model/state.h"

#include <errno.h>
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
		.trust_domain = "cluster.local",
		.root_namespace = "istio-system",
		.certificate_ttl_s = 86400,
		.probe_own_node = true,
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
	weft_secure_init(model);
	model->node = strdup(options->node ? options->node : "");
	if (!model->node || weft_ranges_init(&model->ranges, options->capacity.max_entries[WEFT_MAP_SLOT]) < 0)
		return NULL;
	return weft_take_ptr(model);
}

static bool has_claims(enum weft_kind kind)
{
	return kind == WEFT_KIND_POD || kind == WEFT_KIND_WORKLOAD_ENTRY || kind == WEFT_KIND_NODE;
}

static void groups_done(struct weft_hash_table *groups)
{
	struct weft_group *group;

	for (size_t at = 0; (group = weft_hash_table_next(groups, &at));)
		free(group);
	weft_hash_table_done(groups);
}

static void entry_free(struct weft_entry *entry)
{
	weft_resource_free(entry->resource);
	if (weft_is_unit(entry)) {
		weft_compiled_free(entry->compiled);
		weft_compiled_free(entry->next);
	} else if (has_claims(entry->kind)) {
		free(entry->claim);
	}
	free(entry);
}

struct weft_model *weft_model_free(struct weft_model *model)
{
	struct weft_entry *entry;
	void *item;

	if (!model)
		return NULL;
	weft_rules_done(model);
	for (size_t at = 0; (item = weft_hash_table_next(&model->row, &at));)
		free(item);
	weft_hash_table_done(&model->row);
	for (size_t at = 0; (item = weft_hash_table_next(&model->service, &at));)
		free(item);
	weft_hash_table_done(&model->service);
	for (size_t at = 0; (entry = weft_hash_table_next(&model->entry, &at));)
		entry_free(entry);
	weft_hash_table_done(&model->entry);
	groups_done(&model->slices);
	groups_done(&model->namespaces);
	groups_done(&model->hosts);
	weft_compiled_done(&model->making);
	free(model->touched_row);
	free(model->last_row);
	free(model->contested);
	free(model->touched_service);
	free(model->last_service);
	free(model->place);
	free(model->at);
	free(model->touched_place.item);
	free(model->last_place.item);
	free(model->orphan);
	weft_ranges_done(&model->ranges);
	free(model->slot);
	free(model->pending);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(model->optout); i++) {
		weft_buf_done(&model->optout[i].have);
		weft_buf_done(&model->optout[i].removed);
	}
	free(model->departed);
	weft_secure_done(model);
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
	const struct weft_service_state *service;
	size_t count = 0;

	for (size_t at = 0; (service = weft_hash_table_next(&model->service, &at));)
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

size_t weft_model_affine(const struct weft_model *model)
{
	return model->affine;
}

const struct weft_names *weft_model_names(const struct weft_model *model)
{
	return model->names;
}

/* ---- entries and groups ---- */

struct identity {
	enum weft_kind kind;
	const char *namespace, *name;
};

static uint32_t hash_identity(const struct identity *identity)
{
	return weft_hash(identity->name, strlen(identity->name),
			 weft_hash(identity->namespace, strlen(identity->namespace), identity->kind));
}

static uint32_t entry_hash(const void *item)
{
	const struct weft_entry *entry = item;
	const struct identity identity = { entry->kind, entry->namespace, entry->name };

	return hash_identity(&identity);
}

static bool entry_is(const void *item, const void *key)
{
	const struct identity *identity = key;
	const struct weft_entry *entry = item;

	return entry->kind == identity->kind && strcmp(entry->name, identity->name) == 0 &&
	       strcmp(entry->namespace, identity->namespace) == 0;
}

struct weft_entry *weft_model_find(const struct weft_model *model, enum weft_kind kind, const char *namespace,
				   const char *name)
{
	const struct identity identity = { kind, namespace, name };

	return weft_hash_table_find(&model->entry, hash_identity(&identity), entry_is, &identity);
}

static size_t entry_size(enum weft_kind kind)
{
	const struct weft_entry like = { .kind = (uint8_t)kind };

	return weft_is_unit(&like)   ? sizeof(struct weft_entry) :
	       has_claims(kind) ? offsetof(struct weft_entry, claim_room) + sizeof(like.claim_room) :
				       offsetof(struct weft_entry, claim);
}

static struct weft_entry *entry_get(struct weft_model *model, const struct weft_resource *resource)
{
	struct weft_entry *entry = weft_model_find(model, resource->kind, resource->meta.namespace, resource->meta.name);
	size_t size = entry_size(resource->kind), namespace_size = strlen(resource->meta.namespace) + 1;
	size_t name_size = strlen(resource->meta.name) + 1;
	char *text;

	if (entry)
		return entry;
	entry = calloc(1, size + namespace_size + name_size);
	if (!entry)
		return NULL;
	text = (char *)entry + size;
	entry->kind = (uint8_t)resource->kind;
	entry->namespace = memcpy(text, resource->meta.namespace, namespace_size);
	entry->name = memcpy(text + namespace_size, resource->meta.name, name_size);
	if (weft_hash_table_add(&model->entry, entry, entry_hash) == 0)
		return entry;
	free(entry);
	return NULL;
}

void weft_entry_drop(struct weft_model *model, struct weft_entry *entry)
{
	weft_hash_table_remove(&model->entry, entry, entry_hash);
	entry_free(entry);
}

static const char *group_name(const struct weft_group *group)
{
	return group->namespace + strlen(group->namespace) + 1;
}

static uint32_t group_hash(const void *item)
{
	const struct weft_group *group = item;
	const struct identity identity = { 0, group->namespace, group_name(group) };

	return hash_identity(&identity);
}

static bool group_is(const void *item, const void *key)
{
	const struct identity *identity = key;
	const struct weft_group *group = item;

	return strcmp(group_name(group), identity->name) == 0 && strcmp(group->namespace, identity->namespace) == 0;
}

struct weft_group *weft_group_find(const struct weft_hash_table *groups, const char *namespace, const char *name)
{
	const struct identity identity = { 0, namespace, name };

	return weft_hash_table_find(groups, hash_identity(&identity), group_is, &identity);
}

/* Groups stay when they are empty: there are as many as names that the configuration ever had. */
static struct weft_group *group_get(struct weft_hash_table *groups, const char *namespace, const char *name)
{
	struct weft_group *group = weft_group_find(groups, namespace, name);
	size_t namespace_size = strlen(namespace) + 1, name_size = strlen(name) + 1;

	if (group)
		return group;
	group = calloc(1, sizeof(*group) + namespace_size + name_size);
	if (!group)
		return NULL;
	memcpy(group->namespace, namespace, namespace_size);
	memcpy(group->namespace + namespace_size, name, name_size);
	if (weft_hash_table_add(groups, group, group_hash) == 0)
		return group;
	free(group);
	return NULL;
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

static bool is_workload(enum weft_kind kind)
{
	return kind == WEFT_KIND_POD || kind == WEFT_KIND_WORKLOAD_ENTRY;
}

void weft_model_mark(struct weft_model *model, struct weft_entry *entry)
{
	struct weft_entry **list = weft_is_unit(entry) ? &model->dirty_units : &model->dirty_others;

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
	slices = weft_group_find(&model->slices, unit->namespace, unit->name);
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
	const struct weft_entry *entry;

	model->mesh = &default_mesh;
	for (size_t at = 0; (entry = weft_hash_table_next(&model->entry, &at));)
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

static bool is_affine(const struct weft_resource *resource)
{
	return resource && resource->kind == WEFT_KIND_SERVICE && resource->service.affinity_s;
}

/*
 * The entry's resource is to be `resource` (NULL: none), and everything that
 * looks at it is marked. The old one is freed. `group` is what the new one joins.
 */
static void replace(struct weft_model *model, struct weft_entry *entry, struct weft_resource *resource,
		    struct weft_group *group)
{
	struct weft_resource *old = entry->resource;
	bool bound = *weft_entry_netns(model, entry);

	if (old && is_workload(entry->kind))
		mark_selecting(model, entry);
	if (old && entry->kind == WEFT_KIND_SERVICE_ENTRY)
		mark_hosts(model, entry);
	if (old && entry->kind == WEFT_KIND_DESTINATION_RULE)
		weft_rules_mark(model, old);
	group_leave(entry);
	weft_secure_note(model, old, resource);
	model->kind_count[entry->kind] += (size_t)!!resource - (size_t)!!old;
	model->affine += (size_t)is_affine(resource) - (size_t)is_affine(old);
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
		entry->moved |= bound != !!*weft_entry_netns(model, entry);
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
	if (!resource && !entry->dirty)
		weft_entry_drop(model, entry);
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
	       (model->secure.map[WEFT_SECURE_WORKLOAD].have.size ? WEFT_SETTING_F_SECURE : 0) |
	       (model->secure.map[WEFT_SECURE_POLICY].have.size ? WEFT_SETTING_F_POLICY : 0) |
	       (mesh->same_node == WEFT_SAME_NODE_ENCRYPTED ? WEFT_SETTING_F_ENCRYPT_SAME_NODE : 0) |
	       (mesh->optout_cidrs.count || mesh->optout_port_count ? WEFT_SETTING_F_OPT_OUT : 0);
}

int weft_model_bindings(const struct weft_model *model,
			int (*each)(void *context, uint32_t workload, const char *netns, uint32_t flags), void *context)
{
	const struct weft_entry *entry;

	for (size_t at = 0; (entry = weft_hash_table_next(&model->entry, &at));) {
		const char *netns = weft_entry_netns(model, entry);
		int r;

		if (!*netns || !entry->workload)
			continue;
		r = each(context, entry->workload, netns, weft_entry_opted_out(model, entry) ? WEFT_POD_F_OPT_OUT : 0);
		if (r)
			return r;
	}
	return 0;
}
