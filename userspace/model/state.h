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
const char *weft_entry_netns(const struct weft_entry *entry);
bool weft_entry_opted_out(const struct weft_model *model, const struct weft_entry *entry);

/* Whether a workload id still stands for a resource. */
bool weft_workload_in_use(const struct weft_model *model, uint32_t id);

#endif
