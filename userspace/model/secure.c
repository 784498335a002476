/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who takes part in the secure lane, by which policies, and the rows that say
 * so. It is made anew as a whole when something of it changed, and nothing of
 * it is made while no resource enrols a workload.
 *
 * A row of a policy set never changes: another content is another id. Then all
 * that is new can be written before weft_workload leads there, and what is old
 * goes afterwards. So it is with an identity's number, except that rows for
 * {old set, new identity} and {new set, old identity} are there in between.
 */
#include "model/state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "model/policy.h"

#define LABEL_MODE "istio.io/dataplane-mode"

static const struct {
	uint32_t map, key_size, value_size;
} maps[WEFT_SECURE_MAP_MAX_] = {
	[WEFT_SECURE_WORKLOAD] = { WEFT_MAP_WORKLOAD, sizeof(uint32_t), sizeof(struct weft_workload) },
	[WEFT_SECURE_POLICY] = { WEFT_MAP_POLICY, sizeof(uint32_t), sizeof(struct weft_policy) },
	[WEFT_SECURE_SOURCE] = { WEFT_MAP_POLICY_SOURCE, sizeof(struct weft_policy_source_key), sizeof(struct weft_clauses) },
	[WEFT_SECURE_CIDR] = { WEFT_MAP_POLICY_CIDR, sizeof(struct weft_policy_cidr_key), sizeof(struct weft_clauses) },
	[WEFT_SECURE_PORT] = { WEFT_MAP_POLICY_PORT, sizeof(struct weft_policy_port_key), sizeof(struct weft_clauses) },
};

/* ---- owning ---- */

static void set_done(struct weft_secure_set *set)
{
	weft_buf_done(&set->block);
}

static void sets_done(struct weft_secure_sets *sets)
{
	for (size_t i = 0; i < sets->count; i++)
		set_done(&sets->item[i]);
	free(sets->item);
	*sets = (struct weft_secure_sets){ 0 };
}

static void sources_done(struct weft_secure_sources *sources)
{
	for (size_t i = 0; i < sources->count; i++)
		free(sources->item[i].identity);
	free(sources->item);
	*sources = (struct weft_secure_sources){ 0 };
}

static void attach_done(struct weft_attach *attach)
{
	free(attach->namespace);
	free(attach->name);
	free(attach->netns);
}

void weft_secure_draft_done(struct weft_secure_draft *draft)
{
	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++) {
		weft_buf_done(&draft->want[i]);
		weft_buf_done(&draft->removed[i]);
	}
	weft_buf_done(&draft->extra);
	weft_buf_done(&draft->judge);
	sets_done(&draft->sets);
	sources_done(&draft->sources);
	weft_problems_done(&draft->problems);
	*draft = (struct weft_secure_draft){ 0 };
}

void weft_secure_init(struct weft_model *model)
{
	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++)
		model->secure.map[i] = (struct weft_secure_map){
			.map = maps[i].map, .key_size = maps[i].key_size, .value_size = maps[i].value_size
		};
}

void weft_secure_done(struct weft_model *model)
{
	struct weft_secure *secure = &model->secure;

	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++) {
		weft_buf_done(&secure->map[i].have);
		weft_buf_done(&secure->map[i].removed);
	}
	for (size_t i = 0; i < secure->attach_count; i++)
		attach_done(&secure->attach[i]);
	free(secure->attach);
	sets_done(&secure->sets);
	sources_done(&secure->sources);
	weft_problems_done(&secure->problems);
	weft_buf_done(&secure->judge);
	weft_buf_done(&secure->judged);
}

/* ---- records ---- */

static size_t record_size(const struct weft_secure_map *map)
{
	return map->key_size + map->value_size;
}

int weft_secure_compare(const struct weft_secure_map *map, const void *a, const void *b)
{
	int by = memcmp(a, b, map->key_size);

	return by < 0 ? -1 : by > 0;
}

static int compare_record(const void *a, const void *b, void *map)
{
	return weft_secure_compare(map, a, b);
}

static void sort_records(const struct weft_secure_map *map, struct weft_buf *records)
{
	if (records->size)
		qsort_r(records->data, records->size / record_size(map), record_size(map), compare_record, (void *)map);
}

/* NULL: the key is not there. */
static const char *find_record(const struct weft_secure_map *map, const struct weft_buf *records, const void *key)
{
	size_t low = 0, high = records->size / record_size(map);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const char *at = records->data + middle * record_size(map);
		int by = weft_secure_compare(map, at, key);

		if (by == 0)
			return at;
		if (by < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static int add_record(struct weft_buf *to, const void *key, size_t key_size, const void *value, size_t value_size)
{
	int r = weft_buf_add(to, key, key_size);

	return r < 0 ? r : weft_buf_add(to, value, value_size);
}

int weft_secure_adopt(struct weft_model *model, uint32_t map, const void *key, const void *value, uint32_t count)
{
	struct weft_secure *secure = &model->secure;

	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++) {
		struct weft_secure_map *to = &secure->map[i];

		if (to->map != map)
			continue;
		for (uint32_t j = 0; j < count; j++) {
			const char *one_key = (const char *)key + j * to->key_size;
			const char *one_value = (const char *)value + j * to->value_size;

			if (add_record(&to->have, one_key, to->key_size, one_value, to->value_size) < 0)
				return -ENOMEM;
			if (i == WEFT_SECURE_POLICY) {
				uint32_t id;

				memcpy(&id, one_key, sizeof(id));
				secure->last_set = id > secure->last_set ? id : secure->last_set;
			} else if (i == WEFT_SECURE_WORKLOAD) {
				struct weft_workload workload;

				memcpy(&workload, one_value, sizeof(workload));
				if (workload.source > secure->last_source)
					secure->last_source = workload.source;
			}
		}
		sort_records(to, &to->have);
		secure->adopted |= count > 0;
		secure->dirty |= count > 0;
	}
	return 0;
}

void weft_secure_forget(struct weft_model *model)
{
	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++)
		weft_buf_done(&model->secure.map[i].have);
	model->secure.adopted = false;
	model->secure.dirty = true;
}

/* ---- who takes part ---- */

static bool is_workload(const struct weft_resource *resource)
{
	return resource->kind == WEFT_KIND_POD || resource->kind == WEFT_KIND_WORKLOAD_ENTRY;
}

/* The word of its own, which wins over the namespace's; NULL: none. */
static const char *own_mode(const struct weft_resource *resource)
{
	const char *mode = weft_pairs_get(&resource->meta.labels, LABEL_MODE);

	if (!mode && resource->kind == WEFT_KIND_WORKLOAD_ENTRY)
		mode = weft_pairs_get(&resource->workload_entry.labels, LABEL_MODE);
	return mode;
}

static bool says_tunnel(const struct weft_resource *resource)
{
	return resource->kind == WEFT_KIND_POD ? resource->pod.tunnel : resource->workload_entry.tunnel;
}

static bool is_signal(const struct weft_resource *resource)
{
	const char *mode;

	if (!resource || (!is_workload(resource) && resource->kind != WEFT_KIND_NAMESPACE))
		return false;
	mode = own_mode(resource);
	return (mode && strcmp(mode, "ambient") == 0) || (is_workload(resource) && says_tunnel(resource));
}

void weft_secure_note(struct weft_model *model, const struct weft_resource *old, const struct weft_resource *new)
{
	struct weft_secure *secure = &model->secure;
	enum weft_kind kind = new ? new->kind : old ? old->kind : WEFT_KIND_MAX_;

	secure->signals += (size_t)is_signal(new) - (size_t)is_signal(old);
	switch (kind) {
	case WEFT_KIND_POD:
	case WEFT_KIND_WORKLOAD_ENTRY:
	case WEFT_KIND_NAMESPACE:
	case WEFT_KIND_NODE:
	case WEFT_KIND_PEER_AUTHENTICATION:
	case WEFT_KIND_AUTHORIZATION_POLICY:
	case WEFT_KIND_MESH_CONFIG:
		secure->dirty = true;
		break;
	case WEFT_KIND_SERVICE:
	case WEFT_KIND_SERVICE_ENTRY:
		secure->mesh_dirty = true;
		break;
	default:
		break;
	}
}

static const struct weft_attach *find_attach(const struct weft_model *model, const char *namespace, const char *name)
{
	for (size_t i = 0; i < model->secure.attach_count; i++)
		if (strcmp(model->secure.attach[i].name, name) == 0 &&
		    strcmp(model->secure.attach[i].namespace, namespace) == 0)
			return &model->secure.attach[i];
	return NULL;
}

static bool is_enrolled(const struct weft_model *model, const struct weft_entry *entry)
{
	const char *mode = own_mode(entry->resource);
	const struct weft_entry *namespace;

	if (!mode) {
		namespace = weft_model_find(model, WEFT_KIND_NAMESPACE, "", entry->namespace);
		mode = namespace && namespace->resource ? weft_pairs_get(&namespace->resource->meta.labels, LABEL_MODE) : NULL;
	} else if (strcmp(mode, "none") == 0) {
		return false;
	}
	return (mode && strcmp(mode, "ambient") == 0) || says_tunnel(entry->resource);
}

bool weft_secure_takes_part(const struct weft_model *model, const struct weft_entry *entry, struct weft_taking_part *ret_part)
{
	const struct weft_resource *resource = entry->resource;
	struct weft_taking_part part = { .netns = weft_entry_netns(model, entry) };

	if (!resource || !is_workload(resource) || !entry->workload)
		return false;
	if (resource->kind == WEFT_KIND_POD) {
		if (resource->pod.host_network || resource->pod.finished)
			return false;
		part.labels = &resource->meta.labels;
		part.addr = resource->pod.ips.item;
		part.addr_count = resource->pod.ips.count;
		part.local = *model->node && strcmp(resource->pod.node_name, model->node) == 0;
	} else {
		part.labels = &resource->workload_entry.labels;
		part.addr = &resource->workload_entry.addr;
		part.addr_count = resource->workload_entry.has_addr;
	}
	part.attach = find_attach(model, entry->namespace, entry->name);
	/* Of one name the Pod is meant. */
	if (part.attach && resource->kind == WEFT_KIND_WORKLOAD_ENTRY) {
		const struct weft_entry *pod = weft_model_find(model, WEFT_KIND_POD, entry->namespace, entry->name);

		if (pod && pod->resource)
			part.attach = NULL;
	}
	if (!part.attach && !is_enrolled(model, entry))
		return false;
	if (part.attach)
		part.netns = part.attach->netns;
	part.local |= *part.netns != '\0';
	*ret_part = part;
	return true;
}

/* SPIFFE-ID section 2.2: what a segment of a path may hold. */
static bool is_segment(const char *text)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

	return *text && !text[strspn(text, allowed)] && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

static const char *account_of(const struct weft_resource *resource)
{
	const char *account = resource->kind == WEFT_KIND_POD ? resource->pod.service_account :
								 resource->workload_entry.service_account;

	return *account ? account : "default";
}

int weft_secure_identity(const struct weft_model *model, const struct weft_entry *entry, struct weft_buf *ret_identity)
{
	const char *account = account_of(entry->resource);

	if (!is_segment(account) || !is_segment(entry->namespace))
		return 0;
	return weft_buf_printf(ret_identity, WEFT_SPIFFE_SCHEME "%s/ns/%s/sa/%s", weft_model_mesh(model)->trust_domain,
			       entry->namespace, account);
}

/* ---- policies of a workload ---- */

struct policies {
	const struct weft_resource **item; /* by namespace, then the oldest first */
	size_t count, room;
};

struct cached {
	uint64_t key; /* hash of all that the set is made of: 64 bits do not meet their like */
	uint32_t set; /* index from 1 in draft->sets; 0: all is allowed */
};

struct building {
	struct weft_model *model;
	struct weft_secure_draft *draft;
	struct policies authentication, authorization;
	const struct weft_resource **chosen; /* scratch */
	size_t chosen_room;
	struct weft_buf probe; /* struct weft_cidr each */
	struct weft_hash_table cache;
	struct weft_buf told; /* policies that a problem was said of: pointers */
};

static void building_done(struct building *b)
{
	struct cached *cached;

	free(b->authentication.item);
	free(b->authorization.item);
	free(b->chosen);
	weft_buf_done(&b->probe);
	for (size_t at = 0; (cached = weft_hash_table_next(&b->cache, &at));)
		free(cached);
	weft_hash_table_done(&b->cache);
	weft_buf_done(&b->told);
}

static int by_namespace_and_age(const void *a, const void *b)
{
	const struct weft_meta *left = &(*(const struct weft_resource *const *)a)->meta;
	const struct weft_meta *right = &(*(const struct weft_resource *const *)b)->meta;
	int by = strcmp(left->namespace, right->namespace);

	if (by)
		return by;
	if (left->created != right->created)
		return left->created < right->created ? -1 : 1;
	return strcmp(left->name, right->name);
}

static int add_policy(struct policies *policies, const struct weft_resource *resource)
{
	if (weft_grow(&policies->item, &policies->room, policies->count + 1, sizeof(*policies->item)) < 0)
		return -ENOMEM;
	policies->item[policies->count++] = resource;
	return 0;
}

static int collect_policies(struct building *b)
{
	const struct weft_entry *entry;
	int r = 0;

	if (!b->model->kind_count[WEFT_KIND_PEER_AUTHENTICATION] && !b->model->kind_count[WEFT_KIND_AUTHORIZATION_POLICY])
		return 0;
	for (size_t at = 0; r == 0 && (entry = weft_hash_table_next(&b->model->entry, &at));) {
		if (entry->resource && entry->kind == WEFT_KIND_PEER_AUTHENTICATION)
			r = add_policy(&b->authentication, entry->resource);
		else if (entry->resource && entry->kind == WEFT_KIND_AUTHORIZATION_POLICY)
			r = add_policy(&b->authorization, entry->resource);
	}
	if (r == 0 && b->authentication.count)
		qsort(b->authentication.item, b->authentication.count, sizeof(*b->authentication.item), by_namespace_and_age);
	if (r == 0 && b->authorization.count)
		qsort(b->authorization.item, b->authorization.count, sizeof(*b->authorization.item), by_namespace_and_age);
	return r;
}

/* Where the namespace's begin. */
static size_t first_of(const struct policies *policies, const char *namespace)
{
	size_t low = 0, high = policies->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(policies->item[middle]->meta.namespace, namespace) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_in(const struct policies *policies, size_t i, const char *namespace)
{
	return i < policies->count && strcmp(policies->item[i]->meta.namespace, namespace) == 0;
}

static void choose_authentication(const struct building *b, const struct weft_entry *entry, const struct weft_pairs *labels,
				  struct weft_set_from *from)
{
	const char *root = weft_model_mesh(b->model)->root_namespace;

	for (size_t i = first_of(&b->authentication, entry->namespace); is_in(&b->authentication, i, entry->namespace); i++) {
		const struct weft_resource *resource = b->authentication.item[i];
		const struct weft_pairs *selector = &resource->peer_authentication.selector;
		size_t scope = selector->count ? 0 : 1;

		if (!from->authentication[scope] && weft_pairs_match(labels, selector))
			from->authentication[scope] = resource;
	}
	for (size_t i = first_of(&b->authentication, root); is_in(&b->authentication, i, root); i++)
		if (!from->authentication[2] && !b->authentication.item[i]->peer_authentication.selector.count)
			from->authentication[2] = b->authentication.item[i];
}

static int choose_authorization(struct building *b, const char *namespace, const struct weft_pairs *labels,
				struct weft_set_from *from)
{
	for (size_t i = first_of(&b->authorization, namespace); is_in(&b->authorization, i, namespace); i++) {
		const struct weft_resource *resource = b->authorization.item[i];

		if (!weft_pairs_match(labels, &resource->authorization_policy.selector))
			continue;
		if (weft_grow(&b->chosen, &b->chosen_room, from->policy_count + 1, sizeof(*b->chosen)) < 0)
			return -ENOMEM;
		b->chosen[from->policy_count++] = resource;
	}
	return 0;
}

static uint32_t cached_hash(const void *item)
{
	return (uint32_t)((const struct cached *)item)->key;
}

static bool cached_is(const void *item, const void *key)
{
	return ((const struct cached *)item)->key == *(const uint64_t *)key;
}

static int tell_beyond(struct building *b, const struct weft_entry *entry, const struct weft_resource *policy)
{
	bool deny = policy->authorization_policy.action == WEFT_POLICY_DENY;
	char who[600];

	for (size_t at = 0; at < b->told.size; at += sizeof(policy))
		if (memcmp(b->told.data + at, &policy, sizeof(policy)) == 0)
			return 0;
	snprintf(who, sizeof(who), "AuthorizationPolicy %s/%s", policy->meta.namespace, policy->meta.name);
	if (weft_buf_add(&b->told, &policy, sizeof(policy)) < 0)
		return -ENOMEM;
	return weft_problems_add(&b->draft->problems, WEFT_SEVERITY_ERROR, policy->file ? policy->file : "", policy->line, who,
				 "spec.rules",
				 "with the policies before it %s %s/%s has more than %d combinations of `from` and `to`, %d "
				 "prefixes or %d ports, which is all that the kernel takes of one workload: there it %s; let fewer "
				 "policies apply, or put what is alike into one list",
				 weft_kind_name((enum weft_kind)entry->kind), entry->namespace, entry->name,
				 WEFT_POLICY_CLAUSES_TO_USE, WEFT_POLICY_MAX_PREFIXES, WEFT_POLICY_MAX_PORTS,
				 deny ? "denies all" : "allows nothing");
}

/* The hash is quick and no more: whoever may write policies can make one of his meet another's. */
static bool is_set(const struct weft_secure_set *set, uint64_t hash, bool local, const struct weft_buf *block)
{
	return set->hash == hash && set->local == local && set->block.size == block->size &&
	       memcmp(set->block.data, block->data, block->size) == 0;
}

/* *ret_set: index from 1, or 0. */
static int make_set(struct building *b, const struct weft_entry *entry, const struct weft_set_from *from, bool local,
		    uint32_t *ret_set)
{
	weft_buf_done_on_exit struct weft_buf block = WEFT_BUF_INIT, beyond = WEFT_BUF_INIT;
	struct weft_secure_sets *sets = &b->draft->sets;
	struct weft_secure_set set = { .local = local };
	int r = weft_set_make(from, &block, &beyond);

	for (size_t at = 0; r == 0 && at < beyond.size; at += sizeof(uint32_t)) {
		uint32_t i;

		memcpy(&i, beyond.data + at, sizeof(i));
		r = tell_beyond(b, entry, from->policy[i]);
	}
	if (r < 0)
		return r;
	*ret_set = 0;
	if (!block.size)
		return 0;
	set.hash = weft_hash64(block.data, block.size, local);
	for (size_t i = 0; i < sets->count; i++)
		if (is_set(&sets->item[i], set.hash, local, &block)) {
			*ret_set = (uint32_t)i + 1;
			return 0;
		}
	if (weft_grow(&sets->item, &sets->room, sets->count + 1, sizeof(*sets->item)) < 0)
		return -ENOMEM;
	set.block = block;
	block = WEFT_BUF_INIT;
	sets->item[sets->count++] = set;
	*ret_set = (uint32_t)sets->count;
	return 0;
}

static int set_of(struct building *b, const struct weft_entry *entry, const struct weft_taking_part *part, uint32_t *ret_set)
{
	const struct weft_mesh_config *mesh = weft_model_mesh(b->model);
	struct weft_set_from from = { .trust_domain = mesh->trust_domain };
	struct cached *cached;
	uint64_t key;
	int r = 0;

	choose_authentication(b, entry, part->labels, &from);
	if (strcmp(entry->namespace, mesh->root_namespace) != 0)
		r = choose_authorization(b, mesh->root_namespace, part->labels, &from);
	if (r == 0)
		r = choose_authorization(b, entry->namespace, part->labels, &from);
	if (r < 0)
		return r;
	from.policy = b->chosen;
	if (part->local) {
		from.probe = (const struct weft_cidr *)(const void *)b->probe.data;
		from.probe_count = b->probe.size / sizeof(*from.probe);
	}
	key = weft_hash64(from.authentication, sizeof(from.authentication), part->local);
	if (from.policy_count)
		key = weft_hash64(from.policy, from.policy_count * sizeof(*from.policy), key);
	cached = weft_hash_table_find(&b->cache, (uint32_t)key, cached_is, &key);
	if (cached) {
		*ret_set = cached->set;
		return 0;
	}
	cached = calloc(1, sizeof(*cached));
	if (!cached)
		return -ENOMEM;
	cached->key = key;
	if (weft_hash_table_add(&b->cache, cached, cached_hash) < 0) {
		free(cached);
		return -ENOMEM;
	}
	r = make_set(b, entry, &from, part->local, &cached->set);
	*ret_set = cached->set;
	return r;
}

static int collect_probes(struct building *b)
{
	const struct weft_mesh_config *mesh = weft_model_mesh(b->model);
	const struct weft_node *node = b->model->this_node;
	int r = 0;

	for (size_t i = 0; mesh->probe_own_node && node && r == 0 && i < node->addresses.count; i++) {
		struct weft_cidr cidr = { .bits = 128, .addr = node->addresses.item[i] };

		r = weft_buf_add(&b->probe, &cidr, sizeof(cidr));
	}
	if (r == 0 && mesh->probe_cidrs.count)
		r = weft_buf_add(&b->probe, mesh->probe_cidrs.item, mesh->probe_cidrs.count * sizeof(*mesh->probe_cidrs.item));
	return r;
}

/* ---- numbers of identities and sets ---- */

const struct weft_workload *weft_secure_row_of(const struct weft_model *model, uint32_t workload)
{
	const struct weft_secure_map *map = &model->secure.map[WEFT_SECURE_WORKLOAD];
	const char *record = find_record(map, &map->have, &workload);

	return record ? (const struct weft_workload *)(const void *)(record + map->key_size) : NULL;
}

static int id_is(const void *key, const void *item)
{
	uint32_t id = *(const uint32_t *)key, other = ((const struct weft_secure_set *)item)->id;

	return id < other ? -1 : id > other;
}

static int by_id(const void *a, const void *b)
{
	return id_is(&((const struct weft_secure_set *)a)->id, b);
}

const struct weft_secure_set *weft_secure_set_of(const struct weft_model *model, uint32_t workload)
{
	const struct weft_workload *row = weft_secure_row_of(model, workload);

	return row && row->policy && model->secure.sets.count ?
		       bsearch(&row->policy, model->secure.sets.item, model->secure.sets.count, sizeof(*model->secure.sets.item), id_is) :
		       NULL;
}

static bool is_number_taken(const struct weft_secure_sources *sources, uint32_t number)
{
	for (size_t i = 0; i < sources->count; i++)
		if (sources->item[i].number == number)
			return true;
	return false;
}

static const struct weft_secure_source *find_source(const struct weft_secure_sources *sources, const char *identity)
{
	for (size_t i = 0; i < sources->count; i++)
		if (strcmp(sources->item[i].identity, identity) == 0)
			return &sources->item[i];
	return NULL;
}

static int number_of(struct building *b, const struct weft_entry *entry, const char *identity, uint32_t *ret_number)
{
	const struct weft_secure *secure = &b->model->secure;
	struct weft_secure_sources *sources = &b->draft->sources;
	const struct weft_secure_source *known = find_source(sources, identity);
	const struct weft_workload *row;
	struct weft_secure_source source = { 0 };

	if (known) {
		*ret_number = known->number;
		return 0;
	}
	known = find_source(&secure->sources, identity);
	row = secure->adopted ? weft_secure_row_of(b->model, entry->workload) : NULL;
	if (known)
		source.number = known->number;
	else if (row && row->source && !is_number_taken(sources, row->source))
		source.number = row->source;
	else
		source.number = ++b->draft->last_source;
	if (weft_grow(&sources->item, &sources->room, sources->count + 1, sizeof(*sources->item)) < 0)
		return -ENOMEM;
	source.identity = strdup(identity);
	if (!source.identity)
		return -ENOMEM;
	sources->item[sources->count++] = source;
	*ret_number = source.number;
	return 0;
}

/* The rows of a set, as records of each map. */
static int add_set_rows(const struct weft_secure_set *set, uint32_t id, struct weft_buf want[WEFT_SECURE_MAP_MAX_])
{
	struct weft_set_view view = weft_set_view(set->block.data);
	weft_cleanup(weft_set_rows_done) struct weft_set_rows rows = { 0 };
	int r = weft_set_rows_make(&view, &rows);

	if (r == 0)
		r = add_record(&want[WEFT_SECURE_POLICY], &id, sizeof(id), &rows.policy, sizeof(rows.policy));
	for (size_t i = 0; r == 0 && i < rows.prefix.size / sizeof(struct weft_cidr); i++) {
		struct weft_policy_cidr_key key = { .policy = htonl(id) };
		struct weft_cidr cidr;

		memcpy(&cidr, rows.prefix.data + i * sizeof(cidr), sizeof(cidr));
		key.bits = 32 + cidr.bits;
		key.addr = cidr.addr;
		r = add_record(&want[WEFT_SECURE_CIDR], &key, sizeof(key),
			       rows.prefix_clauses.data + i * sizeof(struct weft_clauses), sizeof(struct weft_clauses));
	}
	for (size_t i = 0; r == 0 && i < rows.port.size / sizeof(uint16_t); i++) {
		struct weft_policy_port_key key = { .policy = id };
		uint16_t port;

		memcpy(&port, rows.port.data + i * sizeof(port), sizeof(port));
		key.port = htons(port);
		r = add_record(&want[WEFT_SECURE_PORT], &key, sizeof(key),
			       rows.port_clauses.data + i * sizeof(struct weft_clauses), sizeof(struct weft_clauses));
	}
	return r;
}

static int add_source_row(const struct weft_secure_set *set, uint32_t id, const struct weft_secure_source *source,
			  struct weft_buf *to)
{
	struct weft_set_view view = weft_set_view(set->block.data);
	struct weft_policy_source_key key = { .policy = id, .source = source->number };
	struct weft_clauses clauses;

	weft_set_source_clauses(&view, source->identity, &clauses);
	return add_record(to, &key, sizeof(key), &clauses, sizeof(clauses));
}

static int add_source_rows(const struct weft_secure_draft *draft, const struct weft_secure_set *set, uint32_t id, struct weft_buf *to)
{
	int r = 0;

	for (size_t i = 0; set->local && r == 0 && i < draft->sources.count; i++)
		r = add_source_row(set, id, &draft->sources.item[i], to);
	return r;
}

static size_t rows_with(const struct weft_secure_map *map, size_t offset, uint32_t id)
{
	size_t count = 0;

	for (size_t at = 0; at < map->have.size; at += record_size(map))
		count += memcmp(map->have.data + at + offset, &id, sizeof(id)) == 0;
	return count;
}

/* Whether the kernel's rows under `id` are this very set's. One of an identity may be missing, but not say something else. */
static int is_adopted_as(const struct building *b, const struct weft_secure_set *set, uint32_t id, bool *ret_same)
{
	const struct weft_secure_map *map = b->model->secure.map;
	struct weft_buf want[WEFT_SECURE_MAP_MAX_] = { WEFT_BUF_INIT };
	uint32_t net_id = htonl(id);
	int r = add_set_rows(set, id, want);
	bool same;

	if (r == 0)
		r = add_source_rows(b->draft, set, id, &want[WEFT_SECURE_SOURCE]);
	same = r == 0 &&
	       rows_with(&map[WEFT_SECURE_CIDR], offsetof(struct weft_policy_cidr_key, policy), net_id) ==
		       want[WEFT_SECURE_CIDR].size / record_size(&map[WEFT_SECURE_CIDR]) &&
	       rows_with(&map[WEFT_SECURE_PORT], offsetof(struct weft_policy_port_key, policy), id) ==
		       want[WEFT_SECURE_PORT].size / record_size(&map[WEFT_SECURE_PORT]);
	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++) {
		for (size_t at = 0; same && at < want[i].size; at += record_size(&map[i])) {
			const char *have = find_record(&map[i], &map[i].have, want[i].data + at);

			same = have ? memcmp(have, want[i].data + at, record_size(&map[i])) == 0 : i == WEFT_SECURE_SOURCE;
		}
		weft_buf_done(&want[i]);
	}
	*ret_same = same;
	return r;
}

static bool is_id_taken(const struct weft_secure_sets *sets, uint32_t id)
{
	for (size_t i = 0; i < sets->count; i++)
		if (sets->item[i].id == id)
			return true;
	return false;
}

static const struct weft_secure_set *find_set(const struct weft_secure_sets *sets, const struct weft_secure_set *like)
{
	for (size_t i = 0; i < sets->count; i++)
		if (is_set(&sets->item[i], like->hash, like->local, &like->block))
			return &sets->item[i];
	return NULL;
}

/* `user`: a workload that wants the set. */
static int give_id(struct building *b, struct weft_secure_set *set, uint32_t user)
{
	const struct weft_secure *secure = &b->model->secure;
	const struct weft_secure_set *known = find_set(&secure->sets, set);
	const struct weft_workload *row = secure->adopted ? weft_secure_row_of(b->model, user) : NULL;
	bool same = false;
	int r = 0;

	if (known) {
		set->id = known->id;
		return 0;
	}
	if (row && row->policy && !is_id_taken(&b->draft->sets, row->policy))
		r = is_adopted_as(b, set, row->policy, &same);
	set->id = same ? row->policy : ++b->draft->last_set;
	return r;
}

/* ---- building ---- */

struct member {
	const struct weft_entry *entry;
	uint32_t set; /* index from 1 */
	struct weft_workload row;
};

static int add_member(struct building *b, const struct weft_entry *entry, const struct weft_taking_part *part,
		      struct weft_buf *members)
{
	weft_buf_done_on_exit struct weft_buf identity = WEFT_BUF_INIT;
	struct member member = {
		.entry = entry, .row.flags = WEFT_WORKLOAD_F_TUNNEL | (part->local ? WEFT_WORKLOAD_F_LOCAL : 0)
	};
	int r = set_of(b, entry, part, &member.set);

	if (r == 0 && part->local)
		r = weft_secure_identity(b->model, entry, &identity);
	if (r == 0 && identity.size)
		r = number_of(b, entry, identity.data, &member.row.source);
	return r < 0 ? r : weft_buf_add(members, &member, sizeof(member));
}

/* Old sets with new identities, new sets with old ones: both may meet while the batch is written. */
static int add_extra(struct building *b)
{
	const struct weft_secure *secure = &b->model->secure;
	struct weft_secure_draft *draft = b->draft;
	int r = 0;

	for (size_t i = 0; i < secure->sets.count; i++) {
		const struct weft_secure_set *set = &secure->sets.item[i];

		if (!set->local || find_set(&draft->sets, set))
			continue;
		for (size_t j = 0; r == 0 && j < draft->sources.count; j++)
			if (!find_source(&secure->sources, draft->sources.item[j].identity))
				r = add_source_row(set, set->id, &draft->sources.item[j], &draft->extra);
	}
	for (size_t i = 0; i < draft->sets.count; i++) {
		const struct weft_secure_set *set = &draft->sets.item[i];

		if (!set->local || find_set(&secure->sets, set))
			continue;
		for (size_t j = 0; r == 0 && j < secure->sources.count; j++)
			if (!find_source(&draft->sources, secure->sources.item[j].identity))
				r = add_source_row(set, set->id, &secure->sources.item[j], &draft->extra);
	}
	return r;
}

static int add_rows(struct building *b, struct weft_buf *members)
{
	struct weft_secure_draft *draft = b->draft;
	struct member *member = (struct member *)(void *)members->data;
	size_t count = members->size / sizeof(*member);
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		if (member[i].set && !draft->sets.item[member[i].set - 1].id)
			r = give_id(b, &draft->sets.item[member[i].set - 1], member[i].entry->workload);
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (member[i].set)
			member[i].row.policy = draft->sets.item[member[i].set - 1].id;
		r = add_record(&draft->want[WEFT_SECURE_WORKLOAD], &member[i].entry->workload, sizeof(uint32_t), &member[i].row,
			       sizeof(member[i].row));
	}
	for (size_t i = 0; r == 0 && i < draft->sets.count; i++) {
		const struct weft_secure_set *set = &draft->sets.item[i];

		r = add_set_rows(set, set->id, draft->want);
		if (r == 0)
			r = add_source_rows(draft, set, set->id, &draft->want[WEFT_SECURE_SOURCE]);
	}
	return r < 0 ? r : add_extra(b);
}

/* Connections to it were judged by what it had; those who have an identity now may have been others before. */
static int list_judged(const struct building *b)
{
	const struct weft_secure_map *map = &b->model->secure.map[WEFT_SECURE_WORKLOAD];
	const struct weft_buf *want = &b->draft->want[WEFT_SECURE_WORKLOAD];
	int r = weft_buf_add(&b->draft->judge, b->model->secure.judge.data, b->model->secure.judge.size);

	for (size_t at = 0; r == 0 && at < want->size; at += record_size(map)) {
		const char *record = want->data + at, *have = find_record(map, &map->have, record);
		struct weft_workload old = { 0 }, new;

		memcpy(&new, record + map->key_size, sizeof(new));
		if (have)
			memcpy(&old, have + map->key_size, sizeof(old));
		if (new.flags & WEFT_WORKLOAD_F_LOCAL &&
		    (new.policy != old.policy || (old.source && new.source != old.source)))
			r = weft_buf_add(&b->draft->judge, record, sizeof(uint32_t));
	}
	return r;
}

static bool is_idle(const struct weft_secure *secure)
{
	if (secure->signals || secure->attach_count)
		return false;
	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++)
		if (secure->map[i].have.size || secure->map[i].unknown)
			return false;
	return true;
}

int weft_secure_build(struct weft_model *model, struct weft_secure_draft *ret_draft)
{
	struct weft_secure *secure = &model->secure;
	weft_cleanup(weft_secure_draft_done) struct weft_secure_draft draft = {
		.built = true, .last_set = secure->last_set, .last_source = secure->last_source
	};
	weft_cleanup(building_done) struct building b = { .model = model, .draft = &draft };
	weft_buf_done_on_exit struct weft_buf members = WEFT_BUF_INIT;
	bool unknown = false;
	struct weft_entry *entry;
	int r = 0;

	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++)
		unknown |= secure->map[i].unknown;
	if ((!secure->dirty && !unknown) || is_idle(secure)) {
		secure->dirty = false;
		return 0;
	}
	r = collect_policies(&b);
	if (r == 0)
		r = collect_probes(&b);
	for (size_t at = 0; r == 0 && (entry = weft_hash_table_next(&model->entry, &at));) {
		struct weft_taking_part part;

		if (weft_secure_takes_part(model, entry, &part))
			r = add_member(&b, entry, &part, &members);
	}
	if (r == 0)
		r = add_rows(&b, &members);
	for (size_t i = 0; r == 0 && i < WEFT_SECURE_MAP_MAX_; i++)
		sort_records(&secure->map[i], &draft.want[i]);
	if (r == 0)
		r = list_judged(&b);
	if (r < 0)
		return r;
	*ret_draft = draft;
	draft = (struct weft_secure_draft){ 0 };
	return 0;
}

void weft_secure_confirm(struct weft_model *model, struct weft_secure_draft *draft)
{
	struct weft_secure *secure = &model->secure;

	secure->mesh_dirty = false;
	weft_buf_done(&secure->judged);
	if (!draft->built)
		return;
	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++) {
		weft_buf_done(&secure->map[i].have);
		weft_buf_done(&secure->map[i].removed);
		secure->map[i].have = draft->want[i];
		secure->map[i].removed = draft->removed[i];
		secure->map[i].unknown = false;
		draft->want[i] = draft->removed[i] = WEFT_BUF_INIT;
	}
	sets_done(&secure->sets);
	sources_done(&secure->sources);
	weft_problems_done(&secure->problems);
	secure->sets = draft->sets;
	if (secure->sets.count)
		qsort(secure->sets.item, secure->sets.count, sizeof(*secure->sets.item), by_id);
	secure->sources = draft->sources;
	secure->problems = draft->problems;
	secure->last_set = draft->last_set;
	secure->last_source = draft->last_source;
	weft_buf_done(&secure->judge);
	secure->judged = draft->judge;
	secure->dirty = secure->adopted = false;
	draft->sets = (struct weft_secure_sets){ 0 };
	draft->sources = (struct weft_secure_sources){ 0 };
	draft->problems = (struct weft_problems){ 0 };
	draft->judge = WEFT_BUF_INIT;
}

void weft_secure_distrust(struct weft_model *model)
{
	struct weft_secure *secure = &model->secure;

	for (size_t i = 0; i < WEFT_SECURE_MAP_MAX_; i++)
		secure->map[i].unknown = secure->map[i].have.size || secure->map[i].removed.size;
	/* Asked once more is harmless. */
	weft_buf_done(&secure->judge);
	secure->judge = secure->judged;
	secure->judged = WEFT_BUF_INIT;
	secure->mesh_dirty = true;
}

/* ---- for the roles ---- */

int weft_model_attached(const struct weft_model *model, int (*each)(void *context, const struct weft_attached *attached),
			void *context)
{
	const struct weft_entry *entry;

	if (!model->secure.signals && !model->secure.attach_count)
		return 0;
	for (size_t at = 0; (entry = weft_hash_table_next(&model->entry, &at));) {
		weft_buf_done_on_exit struct weft_buf identity = WEFT_BUF_INIT;
		struct weft_taking_part part;
		struct weft_attached attached;
		int r;

		if (!weft_secure_takes_part(model, entry, &part) || !*part.netns || !weft_secure_row_of(model, entry->workload))
			continue;
		r = weft_secure_identity(model, entry, &identity);
		if (r < 0)
			return r;
		attached = (struct weft_attached){
			.workload = entry->workload,
			.netns = part.netns,
			.identity = identity.data ? identity.data : "",
			.namespace = entry->namespace,
			.name = entry->name,
			.addr = part.addr,
			.addr_count = part.addr_count,
		};
		r = each(context, &attached);
		if (r)
			return r;
	}
	return 0;
}

int weft_model_attach(struct weft_model *model, const char *namespace, const char *name, const char *netns)
{
	struct weft_secure *secure = &model->secure;
	struct weft_attach *known = (struct weft_attach *)find_attach(model, namespace, name);
	struct weft_attach attach = { 0 };
	char *copy;

	if (known) {
		copy = strdup(netns);
		if (!copy)
			return -ENOMEM;
		free(known->netns);
		known->netns = copy;
		secure->dirty = true;
		return 0;
	}
	attach = (struct weft_attach){ strdup(namespace), strdup(name), strdup(netns) };
	if (!attach.namespace || !attach.name || !attach.netns ||
	    weft_grow(&secure->attach, &secure->attach_room, secure->attach_count + 1, sizeof(*secure->attach)) < 0) {
		attach_done(&attach);
		return -ENOMEM;
	}
	secure->attach[secure->attach_count++] = attach;
	secure->dirty = true;
	return 0;
}

int weft_model_detach(struct weft_model *model, const char *namespace, const char *name)
{
	struct weft_secure *secure = &model->secure;
	struct weft_attach *known = (struct weft_attach *)find_attach(model, namespace, name);

	if (!known)
		return -ENOENT;
	attach_done(known);
	*known = secure->attach[--secure->attach_count];
	secure->dirty = true;
	return 0;
}
