/* SPDX-License-Identifier: Apache-2.0 */
#include "model/mesh.h"

#include <errno.h>
#include <string.h>

#include "base/addr.h"
#include "model/policy.h"

/* Nobody has more text: identities, names and hosts of a mesh; offsets have 32 bits. */
#define SIZE_LIMIT (1ull << 31)

struct parts {
	const struct weft_mesh_header *header;
	const struct weft_mesh_record *record;
	const struct weft_mesh_address *address;
	const struct weft_mesh_service *service;
	const struct weft_mesh_set *set;
	const char *sets;
	const char *text;
};

static uint64_t padded(uint64_t size)
{
	return (size + 7) & ~7ull;
}

/* The sizes were checked. */
static struct parts parts_of(const void *data)
{
	struct parts parts = { .header = data };
	const char *at = (const char *)data + sizeof(*parts.header);

	parts.record = (const void *)at;
	at += padded(parts.header->workload_count * sizeof(*parts.record));
	parts.address = (const void *)at;
	at += padded(parts.header->address_count * sizeof(*parts.address));
	parts.service = (const void *)at;
	at += padded(parts.header->service_count * sizeof(*parts.service));
	parts.set = (const void *)at;
	at += padded(parts.header->set_count * sizeof(*parts.set));
	parts.sets = at;
	at += padded(parts.header->sets_size);
	parts.text = at;
	return parts;
}

static int bad(struct weft_err *err, const char *what)
{
	return weft_err_set(err, EBADMSG, "the mesh of control is not sound: %s; nothing of it is used", what);
}

static bool texts_hold(const struct weft_mesh_header *header, const struct weft_mesh_record *record)
{
	const uint32_t texts[] = { record->identity, record->namespace, record->service_account, record->name, record->owner,
				   record->owner_kind, record->app, record->version, record->region, record->zone, record->cluster };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i] >= header->text_size)
			return false;
	return true;
}

static int check_records(const struct parts *parts, struct weft_err *err)
{
	const struct weft_mesh_header *header = parts->header;

	for (uint32_t i = 0; i < header->workload_count; i++) {
		const struct weft_mesh_record *record = &parts->record[i];

		if (!record->id || (i && record->id <= record[-1].id))
			return bad(err, "workloads are not in order");
		if (record->set > header->set_count)
			return bad(err, "a workload's policies are not there");
		if (!texts_hold(header, record))
			return bad(err, "a workload's text is not there");
	}
	for (uint32_t i = 0; i < header->address_count; i++) {
		if (i && weft_addr_compare(&parts->address[i - 1].addr, &parts->address[i].addr) >= 0)
			return bad(err, "addresses are not in order");
		if (parts->address[i].record >= header->workload_count)
			return bad(err, "an address's workload is not there");
	}
	for (uint32_t i = 0; i < header->service_count; i++) {
		if (!parts->service[i].id || (i && parts->service[i].id <= parts->service[i - 1].id))
			return bad(err, "services are not in order");
		if (parts->service[i].host >= header->text_size)
			return bad(err, "a service's text is not there");
	}
	for (uint32_t i = 0; i < header->set_count; i++) {
		const struct weft_mesh_set *set = &parts->set[i];
		struct weft_set_view view;

		if (set->offset % 8 || set->offset > header->sets_size || set->size > header->sets_size - set->offset ||
		    weft_set_open(parts->sets + set->offset, set->size, &view) < 0)
			return bad(err, "a set of policies is broken");
	}
	return 0;
}

int weft_mesh_open(const void *data, size_t size, struct weft_mesh *ret_mesh, struct weft_err *err)
{
	const struct weft_mesh_header *header = data;
	struct parts parts;
	uint64_t need;
	int r;

	if (size < sizeof(*header) || (uintptr_t)data % 8)
		return bad(err, "it ends too early");
	if (header->magic != WEFT_MESH_MAGIC || header->version != WEFT_MESH_VERSION)
		return bad(err, "it is of another build");
	if (header->size != size || size > SIZE_LIMIT || header->sets_size > SIZE_LIMIT)
		return bad(err, "its size is not what it says");
	need = sizeof(*header) + padded(header->workload_count * (uint64_t)sizeof(*parts.record)) +
	       padded(header->address_count * (uint64_t)sizeof(*parts.address)) +
	       padded(header->service_count * (uint64_t)sizeof(*parts.service)) +
	       padded(header->set_count * (uint64_t)sizeof(*parts.set)) + padded(header->sets_size) + padded(header->text_size);
	if (need != size)
		return bad(err, "its parts do not make up its size");
	parts = parts_of(data);
	if (!header->text_size || parts.text[0] || parts.text[header->text_size - 1] ||
	    header->trust_domain >= header->text_size)
		return bad(err, "its text does not end");
	r = check_records(&parts, err);
	if (r < 0)
		return r;
	*ret_mesh = (struct weft_mesh){ data, size };
	return 0;
}

uint64_t weft_mesh_generation(const struct weft_mesh *mesh)
{
	return ((const struct weft_mesh_header *)mesh->data)->generation;
}

const char *weft_mesh_trust_domain(const struct weft_mesh *mesh)
{
	struct parts parts = parts_of(mesh->data);

	return parts.text + parts.header->trust_domain;
}

static void show(const struct parts *parts, const struct weft_mesh_record *record, struct weft_mesh_workload *ret_workload)
{
	const char *text = parts->text;

	*ret_workload = (struct weft_mesh_workload){
		.id = record->id,
		.flags = record->flags,
		.identity = text + record->identity,
		.trust_domain = text + parts->header->trust_domain,
		.namespace = text + record->namespace,
		.service_account = text + record->service_account,
		.name = text + record->name,
		.owner = text + record->owner,
		.owner_kind = text + record->owner_kind,
		.app = text + record->app,
		.version = text + record->version,
		.region = text + record->region,
		.zone = text + record->zone,
		.cluster = text + record->cluster,
	};
}

static const struct weft_mesh_record *find(const struct parts *parts, uint32_t id)
{
	uint32_t low = 0, high = parts->header->workload_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (parts->record[middle].id == id)
			return &parts->record[middle];
		if (parts->record[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

int weft_mesh_by_id(const struct weft_mesh *mesh, uint32_t id, struct weft_mesh_workload *ret_workload)
{
	struct parts parts = parts_of(mesh->data);
	const struct weft_mesh_record *record = find(&parts, id);

	if (!record)
		return -ENOENT;
	show(&parts, record, ret_workload);
	return 0;
}

int weft_mesh_by_addr(const struct weft_mesh *mesh, const struct weft_addr *addr, struct weft_mesh_workload *ret_workload)
{
	struct parts parts = parts_of(mesh->data);
	uint32_t low = 0, high = parts.header->address_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int by = weft_addr_compare(&parts.address[middle].addr, addr);

		if (by == 0) {
			show(&parts, &parts.record[parts.address[middle].record], ret_workload);
			return 0;
		}
		if (by < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -ENOENT;
}

const char *weft_mesh_service_host(const struct weft_mesh *mesh, uint32_t service)
{
	struct parts parts = parts_of(mesh->data);
	uint32_t low = 0, high = parts.header->service_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (parts.service[middle].id == service)
			return parts.text + parts.service[middle].host;
		if (parts.service[middle].id < service)
			low = middle + 1;
		else
			high = middle;
	}
	return "";
}

/* ---- judging ---- */

struct hits {
	const struct weft_set_clause *first[WEFT_EFFECT_MAX_];
};

static void look(const struct weft_set_view *set, const struct weft_peer *peer, uint16_t port, struct hits *hits)
{
	struct weft_cidr where = { .bits = 128, .addr = peer->addr };
	struct weft_peer_parts parts;

	weft_peer_split(peer->identity, &parts);
	for (uint32_t i = 0; i < set->header->clause_count; i++) {
		const struct weft_set_clause *clause = &set->clause[i];

		if (hits->first[clause->effect] || !weft_set_port_matches(set, clause, port) ||
		    !weft_set_address_matches(set, clause, &where) || !weft_set_source_matches(set, clause, &parts))
			continue;
		hits->first[clause->effect] = clause;
	}
}

static const char *policy_name(const struct weft_set_view *set, const struct weft_set_clause *clause)
{
	return set->text + set->policy[clause->policy].text;
}

/* Of ALLOW policies one may not have a clause. */
static const char *first_allow(const struct weft_set_view *set)
{
	for (uint32_t i = 0; i < set->header->policy_count; i++)
		if (set->policy[i].effect == WEFT_EFFECT_ALLOW &&
		    strncmp(set->text + set->policy[i].text, "AuthorizationPolicy ", strlen("AuthorizationPolicy ")) == 0)
			return set->text + set->policy[i].text;
	return "";
}

static bool is_authentication(const char *policy)
{
	return strncmp(policy, "PeerAuthentication ", strlen("PeerAuthentication ")) == 0;
}

void weft_mesh_judge(const struct weft_mesh *mesh, uint32_t to, const struct weft_peer *peer, uint16_t port,
		     struct weft_verdict *ret_verdict)
{
	struct weft_verdict verdict = { .policy = "" };
	struct parts parts = parts_of(mesh->data);
	const struct weft_mesh_record *record = find(&parts, to);
	struct weft_set_view set;
	struct hits hits = { { NULL } };

	if (!record) {
		verdict.reason = "the destination is no workload of the mesh";
		*ret_verdict = verdict;
		return;
	}
	if (!record->set) {
		verdict.allowed = true;
		verdict.reason = "no policy applies";
		*ret_verdict = verdict;
		return;
	}
	set = weft_set_view(parts.sets + parts.set[record->set - 1].offset);
	look(&set, peer, port, &hits);
	if (hits.first[WEFT_EFFECT_DENY]) {
		verdict.policy = policy_name(&set, hits.first[WEFT_EFFECT_DENY]);
		verdict.reason = is_authentication(verdict.policy) ? "it takes mutual TLS only, and the peer has no identity" :
								     "a DENY rule matches";
	} else if (hits.first[WEFT_EFFECT_ALLOW]) {
		verdict.allowed = true;
		verdict.policy = policy_name(&set, hits.first[WEFT_EFFECT_ALLOW]);
		verdict.reason = "a rule allows it";
	} else if (set.header->flags & WEFT_POLICY_F_ALLOW) {
		verdict.policy = first_allow(&set);
		verdict.reason = "no ALLOW policy has a rule that matches";
	} else {
		verdict.allowed = true;
		verdict.reason = "no policy denies it";
	}
	verdict.dry_run_denied = verdict.allowed &&
				 (hits.first[WEFT_EFFECT_DRY_DENY] ||
				  (set.header->flags & WEFT_POLICY_F_DRY_ALLOW && !hits.first[WEFT_EFFECT_DRY_ALLOW] &&
				   !hits.first[WEFT_EFFECT_ALLOW]));
	*ret_verdict = verdict;
}
