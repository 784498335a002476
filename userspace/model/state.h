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

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(object) ((object)->hashed = false)
#include <uthash.h>

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
	uint64_t rank; /* lower is more senior; equal: by owner's name, then by order */
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
	bool there; /* `have` is in the kernel */
	bool unknown; /* what the kernel has is not certain: write in any case */
	bool touched;
	bool contested; /* in the list below */
	bool hashed;
	struct weft_row *contested_previous, *contested_next;
	UT_hash_handle hh;
};

struct weft_wanted {
	struct weft_endpoint value;
	uint32_t sets; /* bit by enum weft_set */
};

struct weft_compiled_port {
	uint32_t service;
	const char *name; /* in the model's names: not to be kept */
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
	char *key;
	struct weft_entry *first;
	bool hashed;
	UT_hash_handle hh;
};

struct weft_selects {
	bool in;
	struct weft_entry *previous, *next;
};

struct weft_entry {
	enum weft_kind kind;
	char *key; /* kind, namespace, name */
	size_t key_size;
	const char *namespace, *name; /* in `key` */
	struct weft_resource *resource; /* NULL: removed, freed by the next commit */
	bool hashed;
	bool dirty;
	bool moved; /* a workload that is or was bound here */
	struct weft_entry *next_dirty;

	struct weft_group *group; /* a slice's service, a workload's namespace, a ServiceEntry's host */
	struct weft_entry *group_previous, *group_next;

	struct weft_selects selects[2]; /* in the lists of units that may take endpoints from pods, from WorkloadEntries */

	uint32_t workload; /* Pod, WorkloadEntry: id, 0 before the first commit */
	struct weft_claim *claim; /* Pod, WorkloadEntry, Node */
	size_t claim_count, claim_room;

	struct weft_compiled *compiled, *next; /* Service, ServiceEntry: in force; being made */
	bool faulty; /* in the list of those whose `compiled` has problems */
	struct weft_entry *faulty_previous, *faulty_next;
	UT_hash_handle hh;
};

struct weft_range {
	uint32_t first;
	uint32_t count; /* 0 = none */
	bool weighted;
};

/* One service id: its ranges, and which unit wants it. */
struct weft_service_state {
	uint32_t id;
	struct weft_entry *unit; /* NULL: nobody */
	size_t port; /* of unit->compiled */
	struct weft_range set[WEFT_SET_MAX_];
	struct weft_range next[WEFT_SET_MAX_];
	struct weft_range adopted[WEFT_SET_MAX_]; /* found in the kernel, not yet matched */
	bool unknown; /* contents of the ranges are not certain */
	bool touched;
	bool hashed;
	UT_hash_handle hh;
};

/* One index of weft_endpoint. */
struct weft_place {
	struct weft_endpoint have;
	const struct weft_wanted *want;
	uint64_t gone_ns; /* since when nobody wants it */
	uint32_t next_at; /* index of the next one with this address */
	bool linked; /* in the chain by address */
	bool unknown;
	bool touched;
	bool orphan; /* in the list of those that nobody wants */
	bool in_use; /* in a slot range in force */
	bool cut; /* was in a cut list */
};

struct weft_rule {
	const struct weft_resource *resource;
	char *host;
	bool hashed;
	UT_hash_handle hh;
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

	struct weft_entry *entry;
	size_t kind_count[WEFT_KIND_MAX_];
	struct weft_group *slices; /* by namespace/service */
	struct weft_group *namespaces; /* workloads by namespace and kind */
	struct weft_group *hosts; /* ServiceEntries by host */
	struct weft_entry *selecting[2]; /* units: pods, WorkloadEntries */
	struct weft_entry *dirty_units, *dirty_others;
	bool all_units_dirty, all_workloads_dirty, rules_dirty, names_checked;

	struct weft_rule *rule; /* exact, by resolved host */
	struct weft_rule **wildcard; /* longest first */
	size_t wildcard_count, wildcard_room;

	const struct weft_resource *mesh;
	const struct weft_node *this_node;
	struct weft_compiled making; /* the unit that is compiled: arrays kept for their memory */

	struct weft_row *row;
	uint32_t row_count[WEFT_MAP_MAX_ + 1]; /* in the kernel */
	struct weft_row **touched_row, **last_row;
	size_t touched_row_count, touched_row_room, last_row_count, last_row_room;
	struct weft_row *contested;
	struct weft_entry *faulty;

	struct weft_service_state *service;
	struct weft_service_state **touched_service, **last_service;
	size_t touched_service_count, touched_service_room, last_service_count, last_service_room;

	struct weft_place *place;
	size_t place_count, place_room;
	uint32_t *at; /* buckets of the chain by address */
	size_t at_count, at_used;
	struct weft_list_u32 touched_place, last_place, orphan;
	uint32_t endpoints_short; /* that found no index in this compile */

	struct weft_ranges ranges;
	struct weft_slot *slot;
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
struct weft_group *weft_group_find(struct weft_group *groups, const char *namespace, const char *name);
void weft_model_mark(struct weft_model *model, struct weft_entry *entry);

struct weft_row *weft_row_find(const struct weft_model *model, uint32_t map, const struct weft_frontend_key *key);
/* -ENOMEM: not claimed. */
int weft_row_claim(struct weft_model *model, struct weft_claim *claim);
void weft_row_unclaim(struct weft_model *model, struct weft_claim *claim);
int weft_row_touch(struct weft_model *model, struct weft_row *row);
struct weft_row *weft_row_get(struct weft_model *model, const struct weft_row_key *key);

struct weft_service_state *weft_service_get(struct weft_model *model, uint32_t id);
struct weft_service_state *weft_service_find(const struct weft_model *model, uint32_t id);
int weft_service_touch(struct weft_model *model, struct weft_service_state *service);
/* Makes the array reach `index`. */
int weft_place_room(struct weft_model *model, uint32_t index);
int weft_list_add(struct weft_list_u32 *list, uint32_t item);
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
