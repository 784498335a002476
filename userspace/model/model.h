/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resources in, map contents out. No system call, no clock of its own: the
 * same resources, names and time give the same batch, so that a property test
 * can hold every incremental step against a compile from nothing.
 *
 * The model keeps three things: the resources by kind and identity; what they
 * desire, service by service; and a mirror of what is in the kernel's
 * configuration maps. A commit recompiles the services that a change touched,
 * compares them with the mirror and emits the difference as a batch
 * (abi/role.h) in an order that never shows a half state:
 *
 *   0 policies, then who is judged by them    nobody points at them yet; then the flip, one workload at a time
 *   1 endpoints, workloads (new or changed)   nobody points at them yet
 *   2 slots of new ranges                     nobody points at them yet
 *   3 frontends                               the flip, one entry at a time
 *   4 frontends that are gone                 after 3: an address that changes owner is an update, never a gap
 *   5 endpoints that are gone                 state GONE or DRAINING; freed later
 *   6 workloads, then policies, that are gone
 *
 * An old slot range is reused only GRACE later; an endpoint's index only when
 * nobody holds it (live count 0) and GRACE later.
 */
#ifndef WEFT_MODEL_MODEL_H
#define WEFT_MODEL_MODEL_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "conf/conf.h"
#include "model/names.h"
#include "weft/abi/role.h"

#define WEFT_MODEL_GRACE_NS 1000000000ull

struct weft_model;

struct weft_model_options {
	const char *node; /* this node's name: --node */
	struct weft_role_capacity capacity; /* of the maps that main has open */
};

/* Takes ownership of `names`, also on failure. NULL: out of memory. */
struct weft_model *weft_model_new(const struct weft_model_options *options, struct weft_names *names);
struct weft_model *weft_model_free(struct weft_model *model);
WEFT_CLEANUP_DEFINE(struct weft_model, weft_model_free);

const struct weft_names *weft_model_names(const struct weft_model *model);

/*
 * Fills the mirror with what main read from adopted maps (a batch as READ
 * gives it). -EBADMSG: the batch is malformed, the mirror is empty.
 */
int weft_model_adopt(struct weft_model *model, const void *batch, size_t size, uint64_t now_ns);

/* Takes the resource; one of the same kind, namespace and name is replaced. -ENOMEM: freed, nothing changed. */
int weft_model_put(struct weft_model *model, struct weft_resource *resource);
void weft_model_remove(struct weft_model *model, enum weft_kind kind, const char *namespace, const char *name);
/* Of the stored resource; NULL if there is none. */
const struct weft_resource *weft_model_get(const struct weft_model *model, enum weft_kind kind, const char *namespace, const char *name);

/* What a commit wants done, in this order: journal to disk, batch to main, then the lists. */
struct weft_plan {
	struct weft_buf journal; /* append to the names file first */
	struct weft_buf batch; /* WEFT_ROLE_APPLY; empty: nothing to write */
	struct weft_buf cut; /* __u32 endpoint ids whose TCP and UDP sockets are to be cut */
	struct weft_buf cut_udp; /* __u32 endpoint ids whose connected UDP sockets are to be cut (terminating or gone) */
	size_t services_changed;
	size_t endpoints_changed;
	uint64_t next_ns; /* call commit again then: something waits for its grace; 0 = nothing does */
	struct weft_buf judge; /* __u32 ids of workloads of this node: connections to them may be allowed no longer */
	bool mesh_changed; /* weft_model_mesh_block() may say something else now */
	struct weft_role_capacity need; /* after -ENOSPC: what the maps that are too small must hold at least, the others 0; the next power of two leaves room to move */
};
void weft_plan_done(struct weft_plan *plan);

/*
 * `live` is the content of weft_live by endpoint index (may be NULL: nothing is freed).
 * Problems that only the whole shows (two services on one address, a port that
 * a local process cannot have, an external address that may not be) are added to `problems`.
 * -ENOSPC: a map is too small: `err` names it and the size to set, the plan is
 * empty but for `need`, the mirror and what is in force stay. -ENOMEM likewise. `need` may not be all: what does not
 * fit in one map can hide that another is too small.
 * On success the mirror is what the kernel will hold once main has applied the
 * batch; if main fails, call weft_model_distrust() before the next commit.
 */
int weft_model_commit(struct weft_model *model, uint64_t now_ns, const uint64_t *live, size_t live_count,
		      struct weft_plan *plan, struct weft_problems *problems, struct weft_err *err);
/* The last commit's batch was not (wholly) applied: forget the mirror of what it touched, so that the next commit writes it again. */
void weft_model_distrust(struct weft_model *model);

/* Main's maps are larger now and hold what they held; sizes that did not grow are left alone. -ENOMEM: as it was. */
int weft_model_grow(struct weft_model *model, const struct weft_role_capacity *capacity);

/*
 * What the last commit put in force: service ports, workloads, and endpoints that are not on their way out.
 * The names file holds more, because a name outlives its owner for a while.
 */
size_t weft_model_services(const struct weft_model *model);
size_t weft_model_workloads(const struct weft_model *model);
size_t weft_model_endpoints(const struct weft_model *model);
/* Services that ask for ClientIP affinity, also such as no commit has put in force yet. */
size_t weft_model_affine(const struct weft_model *model);

/* Mesh-wide settings in force (the default if there is no MeshConfig). */
const struct weft_mesh_config *weft_model_mesh(const struct weft_model *model);

/* WEFT_SETTING_F_METRICS, _OPT_OUT, _SECURE, _POLICY and _ENCRYPT_SAME_NODE as the configuration in force wants them; BYPASS is not the model's. */
uint32_t weft_model_setting_flags(const struct weft_model *model);

/* Network namespaces to bind: workload id, name of the netns, WEFT_POD_F_. Calls `each` for all; stops at the first non-zero. */
int weft_model_bindings(const struct weft_model *model,
			int (*each)(void *context, uint32_t workload, const char *netns, uint32_t flags), void *context);

/*
 * The secure lane. A workload takes part if it is enrolled: by label istio.io/dataplane-mode: ambient of its own or of its
 * namespace, or by weft_model_attach(). One that takes part and whose network namespace is known is to be attached.
 */
struct weft_attached {
	uint32_t workload; /* id */
	const char *netns; /* name of /run/netns, or pid:NUMBER */
	const char *identity; /* SPIFFE id; "" if it can have none: then it is refused */
	const char *namespace;
	const char *name;
	const struct weft_addr *addr;
	size_t addr_count;
};

/* All, as the last commit put them in force. Stops at the first non-zero, which it returns. Nothing outlives `each`. */
int weft_model_attached(const struct weft_model *model, int (*each)(void *context, const struct weft_attached *attached),
			void *context);

/*
 * `weft workload attach`: from the next commit on the Pod, else WorkloadEntry, takes part, in this network namespace, whatever its
 * labels say; it need not be there yet. Given again, the namespace is replaced. -ENOMEM: as it was. weft_model_detach(): -ENOENT, it was not.
 */
int weft_model_attach(struct weft_model *model, const char *namespace, const char *name, const char *netns);
int weft_model_detach(struct weft_model *model, const char *namespace, const char *name);

struct weft_policy_info {
	const struct weft_resource *resource;
	const char *name; /* "AuthorizationPolicy shop/web" */
	const char *action; /* ALLOW, DENY, or a PeerAuthentication's mode */
	const char *scope; /* mesh, namespace, workloads: it has a selector */
	bool dry_run;
	bool beyond; /* somewhere it does not fit, and is held closed there */
	size_t workloads; /* that it can decide about, of all nodes */
	size_t clauses; /* combinations that it takes of one workload's, at most */
};

/* PeerAuthentications, then AuthorizationPolicies, by name; counts are of the last commit. Stops at the first non-zero, which it returns. */
int weft_model_policies(const struct weft_model *model, int (*each)(void *context, const struct weft_policy_info *policy),
			void *context);
/* Its rules, or modes, in one line, appended to `out`. -ENOMEM. */
int weft_policy_words(const struct weft_resource *resource, struct weft_buf *out);

/* What proxies are sent (model/mesh.h), as the last commit put it in force. Appended to `out`; -ENOMEM: `out` is as it was. */
int weft_model_mesh_block(const struct weft_model *model, uint64_t generation, struct weft_buf *out);

/*
 * What is desired now, in words: one line per service port, frontend and
 * endpoint, sorted: for `config diff` and for golden tests. Ids are left out, so that
 * two models of the same resources print alike.
 */
int weft_model_print(const struct weft_model *model, struct weft_buf *out);

#endif
