/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One Service or ServiceEntry to what it wants in the maps.
 *
 * Which endpoints are used is kube-proxy's choice: the ready ones; if none is,
 * those that terminate but still serve. All programs that weft translates for
 * are on this node, and for those kube-proxy ignores externalTrafficPolicy:
 * so external, LoadBalancer and NodePort frontends choose from the whole
 * cluster; `Local` only limits a NodePort to this node's own addresses.
 *
 * "On this node" is an endpoint whose nodeName is ours or whose workload is
 * bound to a network namespace here. An endpoint that names no node is not:
 * a wrong guess would send its server-side metrics, or all of a Local service's traffic, astray.
 */
#include "model/state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

struct candidate {
	struct weft_addr addr;
	uint16_t port;
	bool ready, serving, terminating;
	const char *node, *zone;
	const struct weft_strings *hint_zones, *hint_nodes; /* NULL: none */
	uint32_t weight;
	int64_t created; /* of the resource that says so */
	const char *source;
	uint32_t workload;
	bool local;
	uint32_t sets;
};

struct candidates {
	struct candidate *item;
	size_t count, room;
};

static void candidates_done(struct candidates *candidates)
{
	free(candidates->item);
}

struct weft_compiled *weft_compiled_free(struct weft_compiled *compiled)
{
	if (compiled)
		weft_problems_done(&compiled->problems);
	free(compiled);
	return NULL;
}

void weft_compiled_done(struct weft_compiled *compiled)
{
	free(compiled->port);
	free(compiled->endpoint);
	free(compiled->claim);
	weft_problems_done(&compiled->problems);
	*compiled = (struct weft_compiled){ 0 };
}

static void *copy(void *to, const void *from, size_t size)
{
	return size ? memcpy(to, from, size) : to;
}

/* An exact copy; the problems move there. */
static struct weft_compiled *compiled_keep(struct weft_compiled *from)
{
	size_t claims = from->claim_count * sizeof(*from->claim), ports = from->port_count * sizeof(*from->port);
	size_t endpoints = from->endpoint_count * sizeof(*from->endpoint);
	struct weft_compiled *kept = malloc(sizeof(*kept) + claims + ports + endpoints);

	if (!kept)
		return NULL;
	*kept = *from;
	kept->claim = copy(kept + 1, from->claim, claims);
	kept->port = copy((char *)kept->claim + claims, from->port, ports);
	kept->endpoint = copy((char *)kept->port + ports, from->endpoint, endpoints);
	from->problems = (struct weft_problems){ 0 };
	return kept;
}

/* What is being made of one unit. */
struct compilation {
	struct weft_model *model;
	struct weft_entry *unit;
	struct weft_compiled *to;
};

static int problem(struct compilation *c, enum weft_severity severity, const char *path, const char *text)
{
	const struct weft_resource *resource = c->unit->resource;
	char who[600];

	snprintf(who, sizeof(who), "%s %s/%s", weft_kind_name(resource->kind), c->unit->namespace, c->unit->name);
	return weft_problems_add(&c->to->problems, severity, resource->file ? resource->file : "", resource->line, who,
				 path, "%s", text);
}

/* ---- endpoints ---- */

static int add_candidate(struct candidates *candidates, const struct candidate *candidate)
{
	if (!candidate->port)
		return 0;
	if (weft_grow(&candidates->item, &candidates->room, candidates->count + 1, sizeof(*candidates->item)) < 0)
		return -ENOMEM;
	candidates->item[candidates->count++] = *candidate;
	return 0;
}

static int from_slices(const struct weft_group *group, const struct weft_service_port *port, bool publish,
		       struct candidates *to)
{
	for (const struct weft_entry *entry = group->first; entry; entry = entry->group_next) {
		const struct weft_endpoint_slice *slice = &entry->resource->endpoint_slice;
		const struct weft_slice_port *found = NULL;

		for (size_t i = 0; i < slice->port_count && !found; i++)
			if (slice->port[i].protocol == port->protocol && strcmp(slice->port[i].name, port->name) == 0)
				found = &slice->port[i];
		if (!found || slice->fqdn)
			continue;
		for (size_t i = 0; i < slice->endpoint_count; i++) {
			const struct weft_slice_endpoint *from = &slice->endpoint[i];
			struct candidate candidate = {
				.addr = from->addr,
				.port = found->port,
				.ready = from->ready || publish,
				.serving = from->serving,
				.terminating = from->terminating,
				.node = from->place->node_name,
				.zone = from->place->zone,
				.hint_zones = &from->place->hint_zones,
				.hint_nodes = &from->place->hint_nodes,
				.weight = slice->weight ? slice->weight : 1,
				.created = entry->resource->meta.created,
				.source = entry->name,
			};

			if (add_candidate(to, &candidate) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

static const char *node_zone(const struct weft_model *model, const char *node)
{
	const struct weft_entry *entry = *node ? weft_model_find(model, WEFT_KIND_NODE, "", node) : NULL;

	return entry && entry->resource ? entry->resource->node.zone : "";
}

/* "region/zone/subzone": the start and size of the zone. */
static size_t locality_zone(const char *locality, const char **ret_zone)
{
	const char *slash = strchr(locality, '/');

	*ret_zone = slash ? slash + 1 : "";
	return strcspn(*ret_zone, "/");
}

static bool same_zone(const char *zone, const char *other)
{
	size_t size = strcspn(zone, "/");

	return size && strlen(other) == size && memcmp(zone, other, size) == 0;
}

/* What one port of a Service or ServiceEntry asks of a workload. */
struct wanted_port {
	const char *name;
	uint8_t protocol;
	uint16_t target;
	const char *target_name;
};

/* 0: the entry does not have the port that the service names. */
static uint16_t entry_port(const struct weft_workload_entry *from, const struct wanted_port *port)
{
	const char *name = *port->target_name ? port->target_name : port->name;

	for (size_t i = 0; i < from->port_count; i++)
		if (strcmp(from->port[i].name, name) == 0)
			return from->port[i].port;
	return port->target;
}

static int from_workload_entry(const struct weft_workload_entry *from, const struct weft_meta *meta,
			       const struct wanted_port *port, struct candidates *to)
{
	struct candidate candidate = {
		.addr = from->addr,
		.port = entry_port(from, port),
		.ready = true,
		.serving = true,
		.node = "",
		.weight = from->weight ? from->weight : 1,
		.created = meta->created,
		.source = meta->name,
	};

	locality_zone(from->locality, &candidate.zone);
	return from->has_addr ? add_candidate(to, &candidate) : 0;
}

static int from_pod(const struct weft_model *model, const struct weft_resource *pod, const struct wanted_port *port,
		    bool publish, struct candidates *to)
{
	const struct weft_pod_spec *spec = &pod->pod;
	struct candidate candidate = {
		.port = port->target,
		.serving = spec->ready,
		.terminating = pod->meta.deleting,
		.ready = publish || (spec->ready && !pod->meta.deleting),
		.node = spec->node_name,
		.zone = node_zone(model, spec->node_name),
		.weight = 1,
		.created = pod->meta.created,
		.source = pod->meta.name,
	};

	for (size_t i = 0; !candidate.port && i < spec->port_count; i++)
		if (spec->port[i].protocol == port->protocol && strcmp(spec->port[i].name, port->target_name) == 0)
			candidate.port = spec->port[i].port;
	for (size_t i = 0; !spec->finished && i < spec->ips.count; i++) {
		candidate.addr = spec->ips.item[i];
		if (add_candidate(to, &candidate) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int from_workloads(const struct weft_model *model, const char *namespace, enum weft_kind kind,
			  const struct weft_pairs *selector, const struct wanted_port *port, bool publish,
			  struct candidates *to)
{
	const struct weft_group *group = weft_group_find(&model->namespaces, namespace, weft_kind_name(kind));
	bool pod = kind == WEFT_KIND_POD;

	for (const struct weft_entry *entry = group ? group->first : NULL; entry; entry = entry->group_next) {
		const struct weft_resource *from = entry->resource;
		int r;

		if (!weft_pairs_match(pod ? &from->meta.labels : &from->workload_entry.labels, selector))
			continue;
		r = pod ? from_pod(model, from, port, publish, to) :
			  from_workload_entry(&from->workload_entry, &from->meta, port, to);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Of two that say something about one endpoint the better one counts, then the younger: a move between slices is no gap. */
static int by_endpoint(const void *left, const void *right)
{
	const struct candidate *a = left, *b = right;
	int by = weft_addr_compare(&a->addr, &b->addr);

	if (by)
		return by;
	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	if (a->ready != b->ready)
		return a->ready ? -1 : 1;
	if (a->serving != b->serving)
		return a->serving ? -1 : 1;
	if (a->terminating != b->terminating)
		return a->terminating ? 1 : -1;
	if (a->created != b->created)
		return a->created > b->created ? -1 : 1;
	by = strcmp(a->source, b->source);
	if (by)
		return by;
	return a->weight < b->weight ? -1 : a->weight > b->weight;
}

static const struct weft_claim *workload_claim(const struct weft_model *model, const struct weft_addr *addr)
{
	struct weft_frontend_key key = { .addr = *addr };
	const struct weft_row *row = weft_row_find(model, WEFT_MAP_WORKLOAD_AT, &key);

	return row ? row->first : NULL;
}

static void merge(const struct weft_model *model, struct candidates *candidates)
{
	size_t kept = 0;

	if (candidates->count > 1)
		qsort(candidates->item, candidates->count, sizeof(*candidates->item), by_endpoint);
	for (size_t i = 0; i < candidates->count; i++) {
		struct candidate *item = &candidates->item[i];
		const struct weft_claim *claim;

		if (kept && candidates->item[kept - 1].port == item->port &&
		    weft_addr_compare(&candidates->item[kept - 1].addr, &item->addr) == 0)
			continue;
		candidates->item[kept++] = *item;
		item = &candidates->item[kept - 1];
		claim = workload_claim(model, &item->addr);
		item->workload = claim ? claim->value.workload : 0;
		item->local = (*item->node && strcmp(item->node, model->node) == 0) ||
			      (claim && *weft_entry_netns(model, claim->owner));
	}
	candidates->count = kept;
}

static bool has(const struct weft_strings *strings, const char *text)
{
	for (size_t i = 0; strings && i < strings->count; i++)
		if (strcmp(strings->item[i], text) == 0)
			return true;
	return false;
}

/* How near an endpoint must be; the order is that of preference. */
enum nearness {
	NEAR_NODE,
	NEAR_ZONE,
	NEAR_ANY,
};

static bool is_near(const struct weft_model *model, const struct candidate *item, enum nearness nearness, bool hints)
{
	const char *zone = model->this_node ? model->this_node->zone : "";

	if (nearness == NEAR_NODE)
		return hints ? has(item->hint_nodes, model->node) : item->local;
	if (nearness == NEAR_ZONE)
		return hints ? has(item->hint_zones, zone) : same_zone(item->zone, zone);
	return true;
}

static bool in_family(const struct candidate *item, bool v4)
{
	return weft_addr_is_v4(&item->addr) == v4;
}

/*
 * Hints count when all usable endpoints carry them, whoever wrote them, as in
 * kube-proxy; without, the endpoints' own node and zone stand in, but only for a service that asks.
 */
static enum nearness nearest(const struct weft_model *model, const struct candidates *candidates, bool v4,
			     enum weft_traffic_distribution distribution, bool *ret_hints)
{
	bool node_hints = true, zone_hints = true, node = false, zone = false;

	for (size_t i = 0; i < candidates->count; i++) {
		const struct candidate *item = &candidates->item[i];

		if (!item->ready || !in_family(item, v4))
			continue;
		node_hints &= item->hint_nodes && item->hint_nodes->count;
		zone_hints &= item->hint_zones && item->hint_zones->count;
	}
	for (size_t i = 0; i < candidates->count; i++) {
		const struct candidate *item = &candidates->item[i];

		if (!item->ready || !in_family(item, v4))
			continue;
		node |= (node_hints || distribution == WEFT_TRAFFIC_DISTRIBUTION_SAME_NODE) &&
			is_near(model, item, NEAR_NODE, node_hints);
		zone |= (zone_hints || distribution != WEFT_TRAFFIC_DISTRIBUTION_NONE) &&
			is_near(model, item, NEAR_ZONE, zone_hints);
	}
	*ret_hints = node ? node_hints : zone_hints;
	return node ? NEAR_NODE : zone ? NEAR_ZONE : NEAR_ANY;
}

static void choose_set(const struct weft_model *model, struct candidates *candidates, enum weft_set set,
		       enum weft_traffic_distribution distribution)
{
	bool v4 = set == WEFT_SET_CLUSTER_V4 || set == WEFT_SET_LOCAL_V4;
	bool local = set == WEFT_SET_LOCAL_V4 || set == WEFT_SET_LOCAL_V6;
	bool any = false, hints = false;
	enum nearness nearness = local ? NEAR_ANY : nearest(model, candidates, v4, distribution, &hints);

	for (size_t i = 0; i < candidates->count; i++) {
		struct candidate *item = &candidates->item[i];

		if (item->ready && in_family(item, v4) && (!local || item->local) &&
		    is_near(model, item, nearness, hints)) {
			item->sets |= 1u << set;
			any = true;
		}
	}
	for (size_t i = 0; !any && i < candidates->count; i++) {
		struct candidate *item = &candidates->item[i];

		if (item->serving && item->terminating && in_family(item, v4) && (!local || item->local))
			item->sets |= 1u << set;
	}
}

static uint8_t state_of(const struct candidate *item)
{
	if (item->ready)
		return WEFT_ENDPOINT_READY;
	return item->serving && item->terminating ? WEFT_ENDPOINT_SERVING : WEFT_ENDPOINT_DRAINING;
}

static int by_id(const void *left, const void *right)
{
	const struct weft_wanted *a = left, *b = right;

	return weft_wanted_id(a) < weft_wanted_id(b) ? -1 : weft_wanted_id(a) > weft_wanted_id(b);
}

static int add_endpoints(struct compilation *c, struct weft_compiled_port *port, const struct candidates *candidates)
{
	struct weft_compiled *to = c->to;

	port->first = to->endpoint_count;
	if (weft_grow(&to->endpoint, &to->endpoint_room, to->endpoint_count + candidates->count, sizeof(*to->endpoint)) <
	    0)
		return -ENOMEM;
	for (size_t i = 0; i < candidates->count; i++) {
		const struct candidate *item = &candidates->item[i];
		struct weft_endpoint_name name = { .service = port->service,
						   .addr = item->addr,
						   .port = item->port,
						   .protocol = port->protocol };
		struct weft_wanted wanted = {
			.sets = item->sets,
			.value = {
				.workload = item->workload,
				.weight = item->weight,
				.state = state_of(item),
				.flags = item->local ? WEFT_ENDPOINT_F_LOCAL : 0,
			},
		};
		uint32_t id;
		int r = weft_names_get_endpoint(c->model->names, &name, c->model->capacity.max_entries[WEFT_MAP_ENDPOINT],
						&c->model->journal, &id);

		if (r == -ENOSPC) {
			c->model->endpoints_short++;
			continue;
		}
		if (r < 0)
			return r;
		wanted.index = WEFT_ENDPOINT_INDEX(id);
		wanted.value.generation = WEFT_ENDPOINT_GENERATION(id);
		to->endpoint[to->endpoint_count++] = wanted;
	}
	port->count = to->endpoint_count - port->first;
	if (port->count > 1)
		qsort(to->endpoint + port->first, port->count, sizeof(*to->endpoint), by_id);
	return 0;
}

/* ---- frontends ---- */

static int add_claim(struct weft_claim **claim, size_t *count, size_t *room, const struct weft_claim *add)
{
	if (weft_grow(claim, room, *count + 1, sizeof(**claim)) < 0)
		return -ENOMEM;
	(*claim)[*count] = *add;
	(*claim)[*count].order = (uint32_t)*count;
	(*count)++;
	return 0;
}

static uint64_t seniority(const struct weft_entry *entry)
{
	return (uint64_t)entry->resource->meta.created ^ (1ull << 63);
}

static int claim_frontend(struct compilation *c, const struct weft_addr *addr, uint16_t port, uint8_t protocol,
			  uint8_t set, const struct weft_frontend *value)
{
	struct weft_claim claim = {
		.key = { .key = { .addr = *addr, .port = htons(port), .protocol = protocol }, .map = WEFT_MAP_FRONTEND },
		.rank = seniority(c->unit),
		.set = set,
		.value.frontend = *value,
		.owner = c->unit,
	};

	return add_claim(&c->to->claim, &c->to->claim_count, &c->to->claim_room, &claim);
}

/* NULL: the address may stand in front of a service. */
static const char *refusal(const struct weft_model *model, const struct weft_addr *addr)
{
	const struct weft_cidrs *allowed = &model->mesh->mesh_config.allowed_external;
	struct weft_frontend_key key = { .addr = *addr };
	const struct weft_row *row = weft_row_find(model, WEFT_MAP_FRONTEND, &key);

	for (size_t i = 0; i < allowed->count; i++)
		if (weft_cidr_contains(&allowed->item[i], addr))
			return NULL;
	if (weft_addr_is_any(addr))
		return "is the unspecified address";
	if (weft_addr_is_loopback(addr))
		return "is a loopback address";
	if (weft_addr_is_link_local(addr))
		return "is a link-local address";
	if (weft_addr_is_multicast(addr))
		return "is a multicast address";
	for (const struct weft_claim *claim = row ? row->first : NULL; claim; claim = claim->next)
		if (claim->value.frontend.flags & WEFT_FRONTEND_F_NODE)
			return "is a node's address";
	return workload_claim(model, addr) ? "is a workload's address" : NULL;
}

/* Returns 1 if the address may be used, 0 if it was refused (and said so), -ENOMEM. Called once an address. */
static int admit(struct compilation *c, const struct weft_addr *addr, uint8_t type, const char *path, size_t index)
{
	struct weft_claim watch = { .key = { .key = { .addr = *addr }, .map = WEFT_ROW_WATCH },
				    .set = WEFT_SET_NONE,
				    .owner = c->unit };
	const char *why = refusal(c->model, addr);
	char where[80], text[300], shown[WEFT_ADDR_TEXT];
	/* The entry of the address itself then says that we are here. */
	bool claimed = !why && type == WEFT_FRONTEND_CLUSTER_IP && !c->unit->resource->service.headless;

	if (!claimed && add_claim(&c->to->claim, &c->to->claim_count, &c->to->claim_room, &watch) < 0)
		return -ENOMEM;
	if (!why)
		return 1;
	snprintf(where, sizeof(where), "%s[%zu]", path, index);
	snprintf(text, sizeof(text),
		 "%s %s: a service there would take over traffic that is not its own; choose another address, or list "
		 "it in MeshConfig spec.externalAddresses.allow",
		 weft_addr_format(addr, shown), why);
	return problem(c, WEFT_SEVERITY_ERROR, where, text) < 0 ? -ENOMEM : 0;
}

static uint8_t set_for(const struct weft_addr *addr, bool local)
{
	if (weft_addr_is_v4(addr))
		return local ? WEFT_SET_LOCAL_V4 : WEFT_SET_CLUSTER_V4;
	return local ? WEFT_SET_LOCAL_V6 : WEFT_SET_CLUSTER_V6;
}

/* An address that all ports of a unit share. */
struct entrance {
	struct weft_addr addr;
	uint8_t type;
	bool local;
};

struct entrances {
	struct entrance *item;
	size_t count, room;
};

static void entrances_done(struct entrances *entrances)
{
	free(entrances->item);
}

static int add_entrance(struct compilation *c, struct entrances *entrances, const struct weft_addr *addr, uint8_t type,
			bool local, const char *path, size_t index)
{
	int admitted;

	for (size_t i = 0; i < entrances->count; i++)
		if (weft_addr_compare(&entrances->item[i].addr, addr) == 0)
			return 0;
	admitted = admit(c, addr, type, path, index);
	if (admitted <= 0)
		return admitted;
	if (weft_grow(&entrances->item, &entrances->room, entrances->count + 1, sizeof(*entrances->item)) < 0)
		return -ENOMEM;
	entrances->item[entrances->count++] = (struct entrance){ .addr = *addr, .type = type, .local = local };
	return 0;
}

static void frontend_rule(const struct compilation *c, uint16_t port, struct weft_frontend *frontend)
{
	switch (weft_rules_choose(c->model, c->unit, port)) {
	case WEFT_SIMPLE_LB_ROUND_ROBIN:
		frontend->algorithm = WEFT_ALGORITHM_ROUND_ROBIN;
		break;
	case WEFT_SIMPLE_LB_RANDOM:
		frontend->algorithm = WEFT_ALGORITHM_RANDOM;
		break;
	case WEFT_SIMPLE_LB_PASSTHROUGH:
		frontend->flags |= WEFT_FRONTEND_F_PASS;
		break;
	default:
		frontend->algorithm = WEFT_ALGORITHM_LEAST_REQUEST;
	}
}

static void choose_sets(struct compilation *c, struct candidates *candidates, bool cluster, bool local,
			enum weft_traffic_distribution distribution)
{
	if (cluster) {
		choose_set(c->model, candidates, WEFT_SET_CLUSTER_V4, distribution);
		choose_set(c->model, candidates, WEFT_SET_CLUSTER_V6, distribution);
	}
	if (local) {
		choose_set(c->model, candidates, WEFT_SET_LOCAL_V4, distribution);
		choose_set(c->model, candidates, WEFT_SET_LOCAL_V6, distribution);
	}
}

/* Where both sets hold the same endpoints one range serves both: then no two ranges of a service are ever equal. */
static uint8_t set_once(struct candidates *candidates, uint8_t set)
{
	uint8_t cluster = set == WEFT_SET_LOCAL_V4 ? WEFT_SET_CLUSTER_V4 : WEFT_SET_CLUSTER_V6;

	if (set != WEFT_SET_LOCAL_V4 && set != WEFT_SET_LOCAL_V6)
		return set;
	for (size_t i = 0; i < candidates->count; i++)
		if ((candidates->item[i].sets >> set & 1) != (candidates->item[i].sets >> cluster & 1))
			return set;
	return cluster;
}

/* Forgets the sets that no frontend chooses from. */
static void trim_sets(struct candidates *candidates, uint32_t needed)
{
	for (size_t i = 0; i < candidates->count; i++)
		candidates->item[i].sets &= needed;
}

static struct weft_compiled_port *add_port(struct compilation *c, const struct weft_service_name *name)
{
	struct weft_compiled *to = c->to;
	struct weft_compiled_port port = { .number = name->port, .protocol = name->protocol };

	if (weft_names_get_service(c->model->names, name, &c->model->journal, &port.service) < 0 ||
	    weft_grow(&to->port, &to->port_room, to->port_count + 1, sizeof(*to->port)) < 0)
		return NULL;
	for (size_t i = 0; i < to->port_count; i++)
		if (to->port[i].service == port.service)
			return NULL;
	port.first = to->endpoint_count;
	to->port[to->port_count] = port;
	return &to->port[to->port_count++];
}

static int claim_endpoint_at(struct compilation *c, const struct weft_compiled_port *port)
{
	for (size_t i = port->first; i < port->first + port->count; i++) {
		const struct weft_wanted *wanted = &c->to->endpoint[i];
		const struct weft_endpoint_name *name = weft_place_name(c->model, wanted->index);
		struct weft_claim claim = {
			.key = { .key = { .addr = name->addr, .port = htons(name->port), .protocol = name->protocol },
				 .map = WEFT_MAP_ENDPOINT_AT },
			.rank = port->service,
			.set = WEFT_SET_NONE,
			.value.endpoint_at = { .service = port->service, .endpoint = name->id },
			.owner = c->unit,
		};

		if (wanted->value.flags & WEFT_ENDPOINT_F_LOCAL &&
		    add_claim(&c->to->claim, &c->to->claim_count, &c->to->claim_room, &claim) < 0)
			return -ENOMEM;
	}
	return 0;
}

static bool listed_before(const struct weft_compiled *compiled, uint16_t number, uint8_t protocol)
{
	for (size_t i = 0; i < compiled->port_count; i++)
		if (compiled->port[i].number == number && compiled->port[i].protocol == protocol)
			return true;
	return false;
}

/* ---- Service ---- */

static bool has_node_port(const struct weft_service *service, const struct weft_service_port *port)
{
	return port->node_port &&
	       (service->type == WEFT_SERVICE_NODE_PORT || service->type == WEFT_SERVICE_LOAD_BALANCER);
}

/* A service has the families of its cluster addresses; one without any, those of its endpoints. */
static bool has_family(const struct weft_service *service, const struct candidates *candidates, bool v4)
{
	for (size_t i = 0; i < service->cluster_ips.count; i++)
		if (weft_addr_is_v4(&service->cluster_ips.item[i]) == v4)
			return true;
	for (size_t i = 0; !service->cluster_ips.count && i < candidates->count; i++)
		if (weft_addr_is_v4(&candidates->item[i].addr) == v4)
			return true;
	return false;
}

static int service_port(struct compilation *c, const struct entrances *entrances, const struct weft_service_port *from)
{
	const struct weft_service *service = &c->unit->resource->service;
	const struct weft_group *slices = weft_group_find(&c->model->slices, c->unit->namespace, c->unit->name);
	struct wanted_port wanted = { from->name, from->protocol, from->target_port, from->target_port_name };
	static const struct weft_addr any[] = { WEFT_ADDR_ANY_V4, WEFT_ADDR_ANY_V6 };
	struct weft_service_name name = { .namespace = c->unit->namespace,
					  .name = c->unit->name,
					  .port_name = from->name,
					  .port = from->port,
					  .protocol = from->protocol };
	struct weft_frontend value = { .affinity_s = service->affinity_s };
	weft_cleanup(candidates_done) struct candidates candidates = { 0 };
	struct weft_compiled_port *port;
	uint32_t needed = 0;
	char host[1024];
	int r = 0;

	snprintf(host, sizeof(host), "%s.%s.svc.%s", name.name, name.namespace, c->model->mesh->mesh_config.cluster_domain);
	name.host = host;
	port = add_port(c, &name);
	if (!port)
		return -ENOMEM;
	/* Slices speak for pods; WorkloadEntries are in none, they join them. */
	if (slices && slices->first)
		r = from_slices(slices, from, service->publish_not_ready_addresses, &candidates);
	else if (service->selector.count)
		r = from_workloads(c->model, c->unit->namespace, WEFT_KIND_POD, &service->selector, &wanted,
				   service->publish_not_ready_addresses, &candidates);
	if (r == 0 && service->selector.count)
		r = from_workloads(c->model, c->unit->namespace, WEFT_KIND_WORKLOAD_ENTRY, &service->selector, &wanted,
				   false, &candidates);
	if (r < 0)
		return r;
	merge(c->model, &candidates);
	choose_sets(c, &candidates, true, service->internal_traffic_policy == WEFT_TRAFFIC_POLICY_LOCAL,
		    service->traffic_distribution);
	value.service = port->service;
	frontend_rule(c, from->port, &value);
	for (size_t i = 0; i < entrances->count && !service->headless; i++) {
		const struct entrance *entrance = &entrances->item[i];
		uint8_t set = set_once(&candidates, set_for(&entrance->addr, entrance->local));

		if (value.flags & WEFT_FRONTEND_F_PASS)
			set = WEFT_SET_NONE;
		else
			needed |= 1u << set;
		value.type = entrance->type;
		value.flags &= ~WEFT_FRONTEND_F_LOCAL;
		value.flags |= entrance->local ? WEFT_FRONTEND_F_LOCAL : 0;
		if (claim_frontend(c, &entrance->addr, from->port, from->protocol, set, &value) < 0)
			return -ENOMEM;
	}
	value.flags &= ~WEFT_FRONTEND_F_LOCAL;
	value.type = WEFT_FRONTEND_NODE_PORT;
	if (service->external_traffic_policy == WEFT_TRAFFIC_POLICY_LOCAL)
		value.flags |= WEFT_FRONTEND_F_THIS_NODE;
	for (int family = 0; has_node_port(service, from) && family < 2; family++) {
		uint8_t set = family ? WEFT_SET_CLUSTER_V6 : WEFT_SET_CLUSTER_V4;

		if (!has_family(service, &candidates, !family))
			continue;
		if (value.flags & WEFT_FRONTEND_F_PASS)
			set = WEFT_SET_NONE;
		else
			needed |= 1u << set;
		if (claim_frontend(c, &any[family], from->node_port, from->protocol, set, &value) < 0)
			return -ENOMEM;
	}
	trim_sets(&candidates, needed);
	r = add_endpoints(c, port, &candidates);
	return r < 0 ? r : claim_endpoint_at(c, port);
}

static int compile_service(struct compilation *c)
{
	const struct weft_service *service = &c->unit->resource->service;
	struct weft_frontend address = { .type = WEFT_FRONTEND_ADDRESS, .flags = WEFT_FRONTEND_F_REFUSE };
	weft_cleanup(entrances_done) struct entrances entrances = { 0 };
	int r = 0;

	if (service->type == WEFT_SERVICE_EXTERNAL_NAME)
		return 0;
	for (size_t i = 0; r == 0 && i < service->cluster_ips.count; i++)
		r = add_entrance(c, &entrances, &service->cluster_ips.item[i], WEFT_FRONTEND_CLUSTER_IP,
				 service->internal_traffic_policy == WEFT_TRAFFIC_POLICY_LOCAL, "spec.clusterIPs", i);
	for (size_t i = 0; r == 0 && i < entrances.count && !service->headless; i++)
		r = claim_frontend(c, &entrances.item[i].addr, 0, 0, WEFT_SET_NONE, &address);
	for (size_t i = 0; r == 0 && i < service->external_ips.count; i++)
		r = add_entrance(c, &entrances, &service->external_ips.item[i], WEFT_FRONTEND_EXTERNAL_IP, false,
				 "spec.externalIPs", i);
	for (size_t i = 0; r == 0 && i < service->ingress_count && service->type == WEFT_SERVICE_LOAD_BALANCER; i++)
		if (!service->ingress[i].proxy)
			r = add_entrance(c, &entrances, &service->ingress[i].ip, WEFT_FRONTEND_LOAD_BALANCER, false,
					 "status.loadBalancer.ingress", i);
	for (size_t i = 0; r == 0 && i < service->port_count; i++) {
		const struct weft_service_port *port = &service->port[i];
		char path[40];

		snprintf(path, sizeof(path), "spec.ports[%zu]", i);
		if (port->protocol != IPPROTO_TCP && port->protocol != IPPROTO_UDP)
			continue;
		if (listed_before(c->to, port->port, port->protocol))
			r = problem(c, WEFT_SEVERITY_ERROR, path,
				    "an earlier entry of this list has the same port and protocol: remove one, this "
				    "one is ignored");
		else
			r = service_port(c, &entrances, port);
	}
	return r;
}

/* ---- ServiceEntry ---- */

static bool claimed_by_older(const struct compilation *c, const char *host, const struct weft_service_entry_port *port,
			     const struct weft_entry **ret_other)
{
	const struct weft_group *group = weft_group_find(&c->model->hosts, "", host);

	for (const struct weft_entry *other = group ? group->first : NULL; other; other = other->group_next) {
		const struct weft_service_entry *entry = &other->resource->service_entry;

		if (other == c->unit || strcmp(other->namespace, c->unit->namespace) != 0)
			continue;
		if (seniority(other) > seniority(c->unit) ||
		    (seniority(other) == seniority(c->unit) && strcmp(other->name, c->unit->name) > 0))
			continue;
		for (size_t i = 0; i < entry->port_count; i++)
			if (entry->port[i].port == port->port && entry->port[i].protocol == port->protocol) {
				*ret_other = other;
				return true;
			}
	}
	return false;
}

static int service_entry_port(struct compilation *c, const struct entrances *entrances,
			      const struct weft_service_entry_port *from)
{
	const struct weft_service_entry *entry = &c->unit->resource->service_entry;
	struct wanted_port wanted = { from->name, from->protocol, from->target_port, "" };
	const char *host = entry->hosts.item[0];
	struct weft_service_name name = { .namespace = c->unit->namespace,
					  .name = host,
					  .port_name = from->name,
					  .port = from->port,
					  .protocol = from->protocol,
					  .host = host };
	struct weft_frontend value = { .type = WEFT_FRONTEND_SERVICE_ENTRY };
	weft_cleanup(candidates_done) struct candidates candidates = { 0 };
	struct weft_compiled_port *port = add_port(c, &name);
	uint32_t needed = 0;
	int r = 0;

	if (!port)
		return -ENOMEM;
	value.service = port->service;
	frontend_rule(c, from->port, &value);
	if (entry->resolution == WEFT_RESOLUTION_NONE) {
		value.flags |= WEFT_FRONTEND_F_PASS;
	} else {
		for (size_t i = 0; r == 0 && i < entry->endpoint_count; i++)
			r = from_workload_entry(&entry->endpoint[i], &c->unit->resource->meta, &wanted, &candidates);
		if (r == 0 && entry->has_workload_selector)
			r = from_workloads(c->model, c->unit->namespace, WEFT_KIND_POD, &entry->workload_selector, &wanted,
					   false, &candidates);
		if (r == 0 && entry->has_workload_selector)
			r = from_workloads(c->model, c->unit->namespace, WEFT_KIND_WORKLOAD_ENTRY,
					   &entry->workload_selector, &wanted, false, &candidates);
		if (r < 0)
			return r;
	}
	merge(c->model, &candidates);
	choose_sets(c, &candidates, true, false, WEFT_TRAFFIC_DISTRIBUTION_NONE);
	for (size_t i = 0; i < entrances->count; i++) {
		uint8_t set = value.flags & WEFT_FRONTEND_F_PASS ? WEFT_SET_NONE :
								    set_for(&entrances->item[i].addr, false);

		needed |= 1u << set;
		if (claim_frontend(c, &entrances->item[i].addr, from->port, from->protocol, set, &value) < 0)
			return -ENOMEM;
	}
	trim_sets(&candidates, needed);
	r = add_endpoints(c, port, &candidates);
	return r < 0 ? r : claim_endpoint_at(c, port);
}

static int compile_service_entry(struct compilation *c)
{
	const struct weft_service_entry *entry = &c->unit->resource->service_entry;
	weft_cleanup(entrances_done) struct entrances entrances = { 0 };
	const struct weft_entry *other;
	int r = 0;

	if (!entry->hosts.count)
		return 0;
	if (entry->hosts.count > 1)
		r = problem(c, WEFT_SEVERITY_NOTICE, "spec.hosts",
			    "all hosts share the addresses: connections are counted under the first one");
	for (size_t i = 0; r == 0 && i < entry->addresses.count; i++) {
		char path[40];

		snprintf(path, sizeof(path), "spec.addresses[%zu]", i);
		if (entry->addresses.item[i].bits == 128)
			r = add_entrance(c, &entrances, &entry->addresses.item[i].addr, WEFT_FRONTEND_SERVICE_ENTRY,
					 false, "spec.addresses", i);
		else
			r = problem(c, WEFT_SEVERITY_NOTICE, path,
				    "prefixes are not honoured: traffic to them is left alone, list single addresses");
	}
	for (size_t i = 0; r == 0 && i < entry->port_count; i++) {
		const struct weft_service_entry_port *port = &entry->port[i];
		char path[40], text[700];

		snprintf(path, sizeof(path), "spec.ports[%zu]", i);
		if (port->protocol != IPPROTO_TCP && port->protocol != IPPROTO_UDP)
			continue;
		if (listed_before(c->to, port->port, port->protocol)) {
			r = problem(c, WEFT_SEVERITY_ERROR, path,
				    "an earlier entry of this list has the same port and protocol: remove one, this "
				    "one is ignored");
		} else if (claimed_by_older(c, entry->hosts.item[0], port, &other)) {
			snprintf(text, sizeof(text),
				 "ServiceEntry %s/%s, which is older, already describes port %u of this host: remove it "
				 "from one of them, this one is ignored",
				 other->namespace, other->name, port->port);
			r = problem(c, WEFT_SEVERITY_ERROR, path, text);
		} else {
			r = service_entry_port(c, &entrances, port);
		}
	}
	return r;
}

int weft_compile(struct weft_model *model, struct weft_entry *unit)
{
	struct weft_compiled *making = &model->making, *kept;
	struct compilation c = { .model = model, .unit = unit, .to = making };
	int r;

	making->port_count = making->endpoint_count = making->claim_count = 0;
	weft_problems_done(&making->problems);
	r = unit->kind == WEFT_KIND_SERVICE ? compile_service(&c) : compile_service_entry(&c);
	if (r < 0)
		return r;
	kept = compiled_keep(making);
	if (!kept)
		return -ENOMEM;
	weft_compiled_free(unit->next);
	unit->next = kept;
	return 0;
}

/* ---- Pod, WorkloadEntry, Node ---- */

const char *weft_entry_netns(const struct weft_model *model, const struct weft_entry *entry)
{
	const struct weft_resource *resource = entry->resource;

	if (resource && entry->kind == WEFT_KIND_WORKLOAD_ENTRY)
		return resource->workload_entry.netns;
	if (!resource || entry->kind != WEFT_KIND_POD)
		return "";
	/* The name is one of that node's, whatever has it here. */
	if (*model->node && *resource->pod.node_name && strcmp(resource->pod.node_name, model->node) != 0)
		return "";
	return resource->pod.netns;
}

bool weft_entry_opted_out(const struct weft_model *model, const struct weft_entry *entry)
{
	static const char label[] = "istio.io/dataplane-mode";
	bool pod = entry->kind == WEFT_KIND_POD;
	const struct weft_entry *namespace;
	const char *mode;

	if (pod ? entry->resource->pod.opted_out : entry->resource->workload_entry.opted_out)
		return true;
	/* Any word of its own wins over the namespace's. */
	if (weft_pairs_get(&entry->resource->meta.labels, label))
		return false;
	namespace = weft_model_find(model, WEFT_KIND_NAMESPACE, "", entry->namespace);
	mode = namespace && namespace->resource ? weft_pairs_get(&namespace->resource->meta.labels, label) : NULL;
	return mode && strcmp(mode, "none") == 0;
}

static const char *label_of(const struct weft_pairs *labels, const char *first, const char *second, const char *third)
{
	const char *value = weft_pairs_get(labels, first);

	if (!value)
		value = weft_pairs_get(labels, second);
	if (!value)
		value = weft_pairs_get(labels, third);
	return value ? value : "";
}

/* "web-7d4b9c-x2x9z" of a ReplicaSet with hash 7d4b9c is "web". */
static void owner_name(const struct weft_entry *entry, char *owner, size_t size)
{
	const char *hash = weft_pairs_get(&entry->resource->meta.labels, "pod-template-hash"), *dash;
	size_t hash_size, length;

	snprintf(owner, size, "%s", entry->name);
	dash = strrchr(owner, '-');
	if (!hash || !dash)
		return;
	length = (size_t)(dash - owner);
	hash_size = strlen(hash);
	if (length <= hash_size + 1 || memcmp(owner + length - hash_size, hash, hash_size) != 0 ||
	    owner[length - hash_size - 1] != '-')
		return;
	owner[length - hash_size - 1] = '\0';
}

static int name_workload(struct weft_model *model, struct weft_entry *entry)
{
	const struct weft_resource *resource = entry->resource;
	bool pod = entry->kind == WEFT_KIND_POD;
	const struct weft_pairs *labels = pod ? &resource->meta.labels : &resource->workload_entry.labels;
	char owner[300], zone[300];
	struct weft_workload_name name = {
		.kind = weft_kind_name(entry->kind),
		.namespace = entry->namespace,
		.name = entry->name,
		.service_account = pod ? resource->pod.service_account : resource->workload_entry.service_account,
		.node = pod ? resource->pod.node_name : "",
		.zone = zone,
		.app = label_of(labels, "app.kubernetes.io/name", "app", "service.istio.io/canonical-name"),
		.version = label_of(labels, "app.kubernetes.io/version", "version",
				    "service.istio.io/canonical-revision"),
		.owner = owner,
	};

	owner_name(entry, owner, sizeof(owner));
	if (pod) {
		snprintf(zone, sizeof(zone), "%s", node_zone(model, resource->pod.node_name));
	} else {
		const char *start;
		size_t size = locality_zone(resource->workload_entry.locality, &start);

		snprintf(zone, sizeof(zone), "%.*s", (int)size, start);
	}
	return weft_names_get_workload(model->names, &name, &model->journal, &entry->workload);
}

/*
 * Who has an address that several claim. It is handed on while its last pod still terminates: the new holder counts. That of a pod
 * comes from its node, that of a WorkloadEntry from whoever wrote it: else he would choose whose policies hold there. Of one kind
 * the oldest, so that nobody takes an address, and with it an identity, by a record that he adds.
 */
static uint64_t workload_rank(const struct weft_resource *resource)
{
	const int64_t most = (int64_t)1 << 60;
	int64_t created = resource->meta.created < -most ? -most : resource->meta.created > most ? most : resource->meta.created;

	return (uint64_t)((resource->kind == WEFT_KIND_POD ? 0 : 2) + resource->meta.deleting) << 62 | (uint64_t)(created + most);
}

int weft_compile_source(struct weft_model *model, struct weft_entry *entry)
{
	const struct weft_resource *resource = entry->resource;
	bool pod = entry->kind == WEFT_KIND_POD, node = entry->kind == WEFT_KIND_NODE;
	const struct weft_addr *addr;
	size_t count;
	int r;

	if (!resource)
		return 0;
	if (node) {
		addr = resource->node.addresses.item;
		count = resource->node.addresses.count;
	} else if (pod) {
		/* A host-network pod's address is its node's. */
		addr = resource->pod.ips.item;
		count = resource->pod.host_network || resource->pod.finished ? 0 : resource->pod.ips.count;
	} else {
		addr = &resource->workload_entry.addr;
		count = resource->workload_entry.has_addr;
	}
	r = node ? 0 : name_workload(model, entry);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct weft_claim claim = { .key = { .key.addr = addr[i] }, .set = WEFT_SET_NONE, .owner = entry };

		if (node) {
			claim.key.map = WEFT_MAP_FRONTEND;
			claim.value.frontend = (struct weft_frontend){
				.type = WEFT_FRONTEND_ADDRESS,
				.flags = WEFT_FRONTEND_F_NODE |
					 (strcmp(entry->name, model->node) == 0 ? WEFT_FRONTEND_F_THIS_NODE : 0)
			};
		} else {
			claim.key.map = WEFT_MAP_WORKLOAD_AT;
			claim.rank = workload_rank(resource);
			claim.value.workload = entry->workload;
		}
		r = add_claim(&entry->claim, &entry->claim_count, &entry->claim_room, &claim);
	}
	return r;
}
