/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a proxy knows of the mesh: who has which address and identity, and
 * what policies say. `control` makes it out of the model, as one flat block
 * that each proxy maps read-only and uses in place; a proxy checks it once, in
 * full, before it uses any of it. Pure: no system call.
 */
#ifndef WEFT_MODEL_MESH_H
#define WEFT_MODEL_MESH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "weft/abi/maps.h"

/* A view into a block, which the caller keeps mapped. */
struct weft_mesh {
	const void *data;
	size_t size;
};

/* Strings are NUL-terminated and live in the block; "" where there is none. */
struct weft_mesh_workload {
	uint32_t id;
	uint32_t flags; /* WEFT_WORKLOAD_F_ */
	const char *identity; /* SPIFFE id; "" for one without: a host-network pod */
	const char *trust_domain;
	const char *namespace;
	const char *service_account;
	const char *name;
	const char *owner; /* Istio's workload */
	const char *owner_kind; /* deployment, cronjob, job, pod: as the baggage key k8s.<kind>.name has it */
	const char *app; /* canonical name */
	const char *version;
	const char *region;
	const char *zone;
	const char *cluster;
};

/* Checks the whole block. -EBADMSG with what is wrong: nothing of it may be used. */
int weft_mesh_open(const void *data, size_t size, struct weft_mesh *ret_mesh, struct weft_err *err);
uint64_t weft_mesh_generation(const struct weft_mesh *mesh);
const char *weft_mesh_trust_domain(const struct weft_mesh *mesh);
/* -ENOENT: nobody has that address, or that id. */
int weft_mesh_by_addr(const struct weft_mesh *mesh, const struct weft_addr *addr, struct weft_mesh_workload *ret_workload);
int weft_mesh_by_id(const struct weft_mesh *mesh, uint32_t id, struct weft_mesh_workload *ret_workload);
/* The host name of a service port by id: "" if unknown. For `forwarded`'s host=. */
const char *weft_mesh_service_host(const struct weft_mesh *mesh, uint32_t service);

struct weft_peer {
	const char *identity; /* verified SPIFFE id; NULL: none */
	struct weft_addr addr; /* authenticated: the connection's own peer address */
};

struct weft_verdict {
	bool allowed;
	bool dry_run_denied; /* a policy in dry-run would have denied it */
	const char *policy; /* "AuthorizationPolicy shop/deny-x", "PeerAuthentication ..": which one decided; "" if none applies */
	const char *reason; /* a sentence's end: "no ALLOW policy matches", "denied by a rule of ..." */
};

/* Whether `peer` may connect to port `port` (host order) of workload `to`. An unknown workload is denied. */
void weft_mesh_judge(const struct weft_mesh *mesh, uint32_t to, const struct weft_peer *peer, uint16_t port,
		     struct weft_verdict *ret_verdict);

/* ---- the block ---- */

#define WEFT_MESH_MAGIC 0x4853454d54464557ull /* "WEFTMESH" */
#define WEFT_MESH_VERSION 1

/* Then, each padded to 8 bytes: records, addresses, services, sets, blocks of sets (model/policy.h), text. */
struct weft_mesh_header {
	uint64_t magic;
	uint64_t generation;
	uint64_t size; /* of all */
	uint64_t sets_size; /* of all their blocks */
	uint32_t version;
	uint32_t workload_count;
	uint32_t address_count;
	uint32_t service_count;
	uint32_t set_count;
	uint32_t text_size; /* begins and ends with a NUL */
	uint32_t trust_domain; /* offset of a text, as all of uint32_t below that are called after one */
	uint32_t pad;
};

struct weft_mesh_record {
	uint32_t id; /* ascending */
	uint32_t flags;
	uint32_t set; /* index from 1; 0: all are allowed */
	uint32_t identity, namespace, service_account, name, owner, owner_kind, app, version, region, zone, cluster;
};

struct weft_mesh_address {
	struct weft_addr addr; /* ascending */
	uint32_t record; /* index */
};

struct weft_mesh_service {
	uint32_t id; /* ascending */
	uint32_t host;
};

struct weft_mesh_set {
	uint64_t offset; /* from the first block of a set */
	uint64_t size;
};

#endif
