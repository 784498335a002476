/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model's inside, for the files of this folder only.
 *
 * Kernel maps of keys (frontends, endpoint_at, workload_at) are rows. Who wants a row
 * holds a claim on it; the most senior claim is what the row should hold, the
 * others wait and inherit in the very commit in which the owner goes. A row
 * remembers what the kernel has, so desired and mirror meet in one place.
 *
 * A unit is a Service or ServiceEntry. compile.c turns one into `compiled`
 * without touching anything but names; commit.c puts that in force.
 */
#ifndef WEFT_MODEL_STATE_H
#define WEFT_MODEL_STATE_H

#include "base/table.h"
#include "model/model.h"
#include "model/slots.h"

/* Not a map: a claim on it says that the unit's frontends depend on who has this address. */
#define WEFT_ROW_WATCH WEFT_MAP_MAX_

struct weft_row_key {
	struct weft_frontend_key key;
	uint32_t map; /* WEFT_MAP_FRONTEND, _ENDPOINT_AT, _WORKLOAD_AT (only key.addr is set), or WEFT_ROW_WATCH */
};

union weft_row_value {
	struct weft_frontend frontend;
	struct weft_endpoint_at endpoint_at;
	uint32_t workload;
};

/* Which endpoints a frontend chooses from. */
enum weft_set {
	WEFT_SET_CLUSTER_V4 = 0,
	WEFT_SET_CLUSTER_V6,
	WEFT_SET_LOCAL_V4, /* on this node */
	WEFT_SET_LOCAL_V6,
	WEFT_SET_MAX_,
	WEFT_SET_NONE = WEFT_SET_MAX_,
};

struct weft_row;
struct weft_entry;

struct weft_claim {
	struct weft_row_key key;
	uint64_t rank; /* lower is more senior; equal: who is in force, then by owner's name, then by order */
	uint32_t order;
	uint8_t set; /* enum weft_set: where slot, count and WEIGHTED come from */
	union weft_row_value value;
	struct weft_entry *owner;
	struct weft_row *row; /* NULL until in force */
	struct weft_claim *next;
};

struct weft_row {
	struct weft_row_key key;
	struct weft_claim *first;
	union weft_row_value have;
	uint32_t contested; /* its place in the list of those, counted from 1; 0: not in it */
	bool there; /* `have` is in the kernel */
	bool unknown; /* what the kernel has is not certain: write in any case */
	bool touched;
};

/* What of an endpoint changes while its id lasts; the rest is its name's (model/names.h), which is held once. */
struct weft_held {
	uint32_t workload;
	uint32_t weight;
	uint32_t generation : 32 - WEFT_ENDPOINT_INDEX_BITS;
	uint32_t state : 4;
	uint32_t flags : 8;
	uint32_t pad : WEFT_ENDPOINT_INDEX_BITS - 12;
};

struct weft_wanted {
	uint32_t index : WEFT_ENDPOINT_INDEX_BITS;
	uint32_t sets : 32 - WEFT_ENDPOINT_INDEX_BITS; /* bit by enum weft_set */
	struct weft_held value;
};

struct weft_compiled_port {
	uint32_t service;
	uint16_t number;
	uint8_t protocol;
	size_t first; /* of its endpoints, in order of id */
	size_t count;
};

/* In force it is one block of memory: there are as many as services. */
struct weft_compiled {
	struct weft_compiled_port *port;
	size_t port_count, port_room;
	struct weft_wanted *endpoint;
	size_t endpoint_count, endpoint_room;
	struct weft_claim *claim;
	size_t claim_count, claim_room;
	struct weft_problems problems;
};
struct weft_compiled *weft_compiled_free(struct weft_compiled *compiled);
/* Of one whose arrays are its own. */
void weft_compiled_done(struct weft_compiled *compiled);

/* EndpointSlices of one service; entries of one namespace; ServiceEntries of one host. */
struct weft_group {
	struct weft_entry *first;
	char namespace[]; /* and the name behind its NUL */
};

struct weft_selects {
	bool in;
	struct weft_entry *previous, *next;
};

struct weft_entry {
	uint8_t kind; /* enum weft_kind */
	bool dirty;
	bool moved; /* a workload that is or was bound here */
	bool faulty; /* in the list of units whose `compiled` has problems */
	uint32_t workload; /* Pod, WorkloadEntry: id, 0 before the first commit */
	const char *namespace, *name; /* in the same block of memory */
	struct weft_resource *resource; /* NULL: removed, freed by the next commit */
	struct weft_entry *next_dirty;

	struct weft_group *group; /* a slice's service, a workload's namespace, a ServiceEntry's host */
	struct weft_entry *group_previous, *group_next;

	union { /* last: other kinds have no memory for it */
		struct { /* Pod, WorkloadEntry, Node */
			struct weft_claim *claim;
			size_t claim_count, claim_room;
		};
		struct { /* Service, ServiceEntry: units */
			struct weft_compiled *compiled, *next; /* in force; being made */
			struct weft_selects selects[2]; /* in the lists of units that may take endpoints from pods, from WorkloadEntries */
			struct weft_entry *faulty_previous, *faulty_next;
		};
	};
};

static inline bool weft_is_unit(const struct weft_entry *entry)
{
	return entry->kind == WEFT_KIND_SERVICE || entry->kind == WEFT_KIND_SERVICE_ENTRY;
}

struct weft_range {
	uint32_t first;
	uint32_t count : 31; /* 0 = none */
	uint32_t weighted : 1;
	uint64_t hash; /* of its slots: which are too many to be held twice, and 64 bits do not meet their like */
};

/* One service id: its ranges, and which unit wants it. */
struct weft_service_state {
	uint32_t id;
	uint32_t port; /* of unit->compiled */
	struct weft_entry *unit; /* NULL: nobody */
	struct weft_range set[WEFT_SET_MAX_];
	uint32_t touched; /* its place in the list of those, counted from 1; 0: not in it */
	bool unknown; /* contents of the ranges are not certain */
};

struct weft_touched_service {
	struct weft_service_state *service;
	struct weft_range next[WEFT_SET_MAX_];
	struct weft_range adopted[WEFT_SET_MAX_]; /* found in the kernel, not yet matched */
};

/* One index of weft_endpoint. */
struct weft_place {
	const struct weft_wanted *want;
	struct weft_held have; /* state FREE: nothing is in the kernel */
	uint32_t next_at : WEFT_ENDPOINT_INDEX_BITS; /* index of the next one with this address */
	uint32_t unknown : 1;
	uint32_t touched : 1;
	uint32_t orphan : 1; /* in the list of those that nobody wants */
	uint32_t in_use : 1; /* in a slot range in force */
	uint32_t cut : 1; /* was in a cut list */
};

struct weft_orphan {
	uint64_t gone_ns; /* since when nobody wants it; 0: since the next commit that succeeds */
	uint32_t index;
};

struct weft_rule {
	const struct weft_resource *resource;
	char host[];
};

struct weft_pending_range {
	struct weft_range range;
	uint64_t since_ns; /* 0: since the next commit that succeeds */
};

struct weft_departed {
	uint32_t id;
	bool workload;
	uint64_t since_ns;
};

/* Keys of weft_optout_cidr or weft_optout_port, whose values are all 1. */
struct weft_optout {
	uint32_t map;
	size_t key_size;
	struct weft_buf have; /* in the kernel, if no batch failed since */
	struct weft_buf removed; /* by the last batch */
	bool unknown; /* that batch failed */
};

/* ---- the secure lane: secure.c ---- */

/* A map of the secure lane: records of key and value, in order of their keys' bytes. */
struct weft_secure_map {
	uint32_t map;
	uint32_t key_size, value_size;
	struct weft_buf have; /* in the kernel, if no batch failed since */
	struct weft_buf removed; /* keys, by the last batch */
	bool unknown; /* that batch failed */
};

enum weft_secure_map_number {
	WEFT_SECURE_WORKLOAD = 0,
	WEFT_SECURE_POLICY,
	WEFT_SECURE_SOURCE,
	WEFT_SECURE_CIDR,
	WEFT_SECURE_PORT,
	WEFT_SECURE_MAP_MAX_
};

struct weft_secure_set {
	uint32_t id;
	bool local; /* of workloads of this node: what identities of this node may is in the kernel too */
	uint64_t hash;
	struct weft_buf block; /* model/policy.h */
};

struct weft_secure_source {
	uint32_t number;
	char *identity;
};

struct weft_secure_sets {
	struct weft_secure_set *item;
	size_t count, room;
};

struct weft_secure_sources {
	struct weft_secure_source *item;
	size_t count, room;
};

struct weft_attach {
	char *namespace, *name, *netns;
};

struct weft_secure {
	bool dirty; /* something that it is made of changed */
	bool mesh_dirty; /* something else did that proxies are told */
	bool adopted; /* maps hold sets whose texts nobody here knows */
	size_t signals; /* resources that enrol workloads; none: there is no secure lane */
	struct weft_attach *attach; /* weft_model_attach() */
	size_t attach_count, attach_room;
	struct weft_secure_map map[WEFT_SECURE_MAP_MAX_];
	struct weft_secure_sets sets; /* in force, by id */
	struct weft_secure_sources sources;
	uint32_t last_set, last_source; /* ids only count up */
	struct weft_problems problems;
	struct weft_buf judge, judged; /* workload ids: of a commit that failed, of the last one */
};

/* What a commit wants of the secure lane. */
struct weft_secure_draft {
	bool built; /* else nothing changed */
	struct weft_buf want[WEFT_SECURE_MAP_MAX_]; /* as weft_secure_map.have */
	struct weft_buf extra; /* records of weft_policy_source for while old and new sets and identities meet */
	struct weft_buf removed[WEFT_SECURE_MAP_MAX_];
	struct weft_secure_sets sets;
	struct weft_secure_sources sources;
	uint32_t last_set, last_source;
	struct weft_problems problems;
	struct weft_buf judge;
};

struct weft_list_u32 {
	uint32_t *item;
	size_t count, room;
};

struct weft_model {
	char *node;
	struct weft_role_capacity capacity;
	struct weft_names *names;
	struct weft_buf journal; /* not yet handed out */

	struct weft_hash_table entry;
	size_t kind_count[WEFT_KIND_MAX_];
	size_t affine; /* Services with sessionAffinity */
	struct weft_hash_table slices; /* groups by namespace and service */
	struct weft_hash_table namespaces; /* of workloads by namespace and kind */
	struct weft_hash_table hosts; /* of ServiceEntries by host */
	struct weft_entry *selecting[2]; /* units: pods, WorkloadEntries */
	struct weft_entry *dirty_units, *dirty_others;
	bool all_units_dirty, all_workloads_dirty, rules_dirty, names_checked;

	struct weft_hash_table rule; /* exact, by resolved host */
	struct weft_rule **wildcard; /* longest first */
	size_t wildcard_count, wildcard_room;

	const struct weft_resource *mesh;
	const struct weft_node *this_node;
	struct weft_compiled making; /* the unit that is compiled: arrays kept for their memory */

	struct weft_hash_table row;
	uint32_t row_count[WEFT_MAP_MAX_ + 1]; /* in the kernel */
	struct weft_row **touched_row, **last_row;
	size_t touched_row_count, touched_row_room, last_row_count, last_row_room;
	struct weft_row **contested;
	size_t contested_count, contested_room;
	struct weft_entry *faulty;

	struct weft_hash_table service;
	struct weft_touched_service *touched_service;
	struct weft_service_state **last_service;
	size_t touched_service_count, touched_service_room, last_service_count, last_service_room;

	struct weft_place *place;
	size_t place_count, place_room;
	uint32_t *at; /* buckets of the chain by address */
	size_t at_count, at_used;
	struct weft_list_u32 touched_place, last_place;
	struct weft_orphan *orphan;
	size_t orphan_count, orphan_room;
	uint32_t endpoints_short; /* that found no index in this compile */

	struct weft_ranges ranges;
	struct weft_slot *slot; /* only while maps are adopted */
	size_t slot_count, slot_room;
	struct weft_pending_range *pending;
	size_t pending_count, pending_room;
	uint64_t last_commit_ns;

	struct weft_optout optout[2];

	struct weft_departed *departed;
	size_t departed_count, departed_room;

	struct weft_secure secure;
};

struct weft_entry *weft_model_find(const struct weft_model *model, enum weft_kind kind, const char *namespace,
				   const char *name);
struct weft_group *weft_group_find(const struct weft_hash_table *groups, const char *namespace, const char *name);
/* Takes it out of the model and frees it; its claims are in force no more. */
void weft_entry_drop(struct weft_model *model, struct weft_entry *entry);
void weft_model_mark(struct weft_model *model, struct weft_entry *entry);

struct weft_row *weft_row_find(const struct weft_model *model, uint32_t map, const struct weft_frontend_key *key);
/* -ENOMEM: not claimed. */
int weft_row_claim(struct weft_model *model, struct weft_claim *claim);
void weft_row_unclaim(struct weft_model *model, struct weft_claim *claim);
int weft_row_touch(struct weft_model *model, struct weft_row *row);
struct weft_row *weft_row_get(struct weft_model *model, const struct weft_row_key *key);
void weft_row_drop(struct weft_model *model, struct weft_row *row);

struct weft_service_state *weft_service_get(struct weft_model *model, uint32_t id);
struct weft_service_state *weft_service_find(const struct weft_model *model, uint32_t id);
int weft_service_touch(struct weft_model *model, struct weft_service_state *service);
void weft_service_drop(struct weft_model *model, struct weft_service_state *service);
/* Makes the array reach `index`. */
int weft_place_room(struct weft_model *model, uint32_t index);
int weft_list_add(struct weft_list_u32 *list, uint32_t item);
int weft_orphan_add(struct weft_model *model, uint32_t index, uint64_t gone_ns);
uint32_t weft_wanted_id(const struct weft_wanted *wanted);
/* Who has the index, or NULL. Valid until the model gives or drops an endpoint's id. */
const struct weft_endpoint_name *weft_place_name(const struct weft_model *model, uint32_t index);
/* Frees rows that nobody wants and the kernel does not have. */
void weft_rows_sweep(struct weft_model *model);

/* Compiles what is marked and puts it in force. On error what is not in force stays marked. -ENOSPC: *need says what of. */
int weft_model_refresh(struct weft_model *model, uint64_t now_ns, struct weft_role_capacity *need, struct weft_err *err);

/* Resolves all hosts anew. */
int weft_rules_build(struct weft_model *model);
void weft_rules_done(struct weft_model *model);
/* What the DestinationRules, else MeshConfig, say for one port of a unit. */
enum weft_simple_lb weft_rules_choose(const struct weft_model *model, const struct weft_entry *unit, uint16_t port);
/* Marks the units that a DestinationRule's host may mean. */
void weft_rules_mark(struct weft_model *model, const struct weft_resource *rule);

/* Fills entry->next. -ENOMEM; too few endpoint indices are counted in model->endpoints_short. */
int weft_compile(struct weft_model *model, struct weft_entry *unit);
/* Fills entry->claim (not yet in force) of a Pod, WorkloadEntry or Node, and gives the workload its id. */
int weft_compile_source(struct weft_model *model, struct weft_entry *entry);
/* May the workload's sockets be left alone, and where are they? "" = not bound. */
const char *weft_entry_netns(const struct weft_model *model, const struct weft_entry *entry);
bool weft_entry_opted_out(const struct weft_model *model, const struct weft_entry *entry);

/* Whether a workload id still stands for a resource. */
bool weft_workload_in_use(const struct weft_model *model, uint32_t id);

/* A workload as the secure lane sees it. */
struct weft_taking_part {
	const struct weft_attach *attach; /* at run time; NULL: by its labels */
	const struct weft_pairs *labels;
	const char *netns; /* "" = not known */
	const struct weft_addr *addr;
	size_t addr_count;
	bool local;
};
/* False: it has nothing to do with it. */
bool weft_secure_takes_part(const struct weft_model *model, const struct weft_entry *entry, struct weft_taking_part *ret_part);
/* Its SPIFFE id; empty if it can have none. -ENOMEM. */
int weft_secure_identity(const struct weft_model *model, const struct weft_entry *entry, struct weft_buf *ret_identity);
/* The set in force of a workload; NULL: none. */
const struct weft_secure_set *weft_secure_set_of(const struct weft_model *model, uint32_t workload);
/* What is in force of the workload; NULL: nothing. */
const struct weft_workload *weft_secure_row_of(const struct weft_model *model, uint32_t workload);

void weft_secure_init(struct weft_model *model);
void weft_secure_done(struct weft_model *model);
void weft_secure_draft_done(struct weft_secure_draft *draft);
/* `old` becomes `new`, either may be NULL. */
void weft_secure_note(struct weft_model *model, const struct weft_resource *old, const struct weft_resource *new);
int weft_secure_build(struct weft_model *model, struct weft_secure_draft *ret_draft);
void weft_secure_confirm(struct weft_model *model, struct weft_secure_draft *draft);
void weft_secure_distrust(struct weft_model *model);
int weft_secure_adopt(struct weft_model *model, uint32_t map, const void *key, const void *value, uint32_t count);
void weft_secure_forget(struct weft_model *model);
/* -1, 0 or 1 by their keys; records of one map. */
int weft_secure_compare(const struct weft_secure_map *map, const void *a, const void *b);

#endif
