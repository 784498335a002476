/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A policy set: all that applies to a workload, as clauses in one block of
 * memory without pointers. Both engines come from it: its texts are compared
 * with a peer's identity by the proxies, and the kernel's rows are what its
 * clauses say of each identity of this node, each prefix and each port. So
 * the two differ in nothing but who looks up.
 *
 * A clause is a conjunction of terms, a term a list of values of which one has
 * to match (or, negated, none). docs/POLICY.md says what Istio leaves open
 * and is closed here.
 */
#ifndef WEFT_MODEL_POLICY_H
#define WEFT_MODEL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "conf/resource.h"
#include "weft/abi/maps.h"

#define WEFT_SPIFFE_SCHEME "spiffe://"
/* Of one set: each prefix is compared with each when rows are made, and each is a row. */
#define WEFT_POLICY_MAX_PREFIXES 1024
#define WEFT_POLICY_MAX_PORTS 1024
/* Two are kept back: for policies that do not fit, one clause that denies all, one that would in dry-run. */
#define WEFT_POLICY_CLAUSES_TO_USE (WEFT_POLICY_MAX_CLAUSES - 2)

enum weft_policy_effect {
	WEFT_EFFECT_DENY = 0,
	WEFT_EFFECT_ALLOW,
	WEFT_EFFECT_DRY_DENY,
	WEFT_EFFECT_DRY_ALLOW,
	WEFT_EFFECT_MAX_
};

enum weft_attribute {
	WEFT_ATTRIBUTE_IDENTITY = 0, /* has one; no values */
	WEFT_ATTRIBUTE_PRINCIPAL, /* without spiffe:// */
	WEFT_ATTRIBUTE_NAMESPACE,
	WEFT_ATTRIBUTE_SERVICE_ACCOUNT, /* namespace/name */
	WEFT_ATTRIBUTE_TRUST_DOMAIN,
	WEFT_ATTRIBUTE_ADDRESS,
	WEFT_ATTRIBUTE_PORT,
	WEFT_ATTRIBUTE_MAX_
};

enum weft_match {
	WEFT_MATCH_EXACT = 0,
	WEFT_MATCH_PREFIX,
	WEFT_MATCH_SUFFIX,
	WEFT_MATCH_ANY, /* `*`: whatever there is */
	WEFT_MATCH_MAX_
};

/* The block: this, then its arrays in this order, then its text, which ends with a NUL; all padded to 8 bytes. */
struct weft_set_header {
	uint32_t size; /* of all */
	uint32_t flags; /* WEFT_POLICY_F_ */
	uint32_t clause_count;
	uint32_t term_count;
	uint32_t value_count;
	uint32_t policy_count;
	uint32_t text_size;
	uint32_t pad;
};

struct weft_set_clause {
	uint32_t policy; /* index */
	uint32_t effect; /* enum weft_policy_effect */
	uint32_t first; /* of its terms */
	uint32_t count;
};

struct weft_set_term {
	uint8_t attribute;
	uint8_t negated;
	uint8_t unknown; /* what it says of a peer that lacks the attribute */
	uint8_t pad;
	uint32_t first; /* of its values */
	uint32_t count;
};

struct weft_set_value {
	uint32_t text; /* offset */
	uint16_t port; /* host order */
	uint8_t match; /* enum weft_match */
	uint8_t pad;
	struct weft_cidr cidr;
};

struct weft_set_policy {
	uint32_t text; /* "AuthorizationPolicy shop/web" */
	uint32_t effect; /* enum weft_policy_effect */
};

/* A view; what it points to is the block's owner's. */
struct weft_set_view {
	const struct weft_set_header *header;
	const struct weft_set_clause *clause;
	const struct weft_set_term *term;
	const struct weft_set_value *value;
	const struct weft_set_policy *policy;
	const char *text;
};

/* `block` is aligned to 8 bytes. -EBADMSG: it is no whole and sound set. */
int weft_set_open(const void *block, size_t size, struct weft_set_view *ret_view);
/* Of one that was made here, or opened before. */
struct weft_set_view weft_set_view(const void *block);

/* A SPIFFE id in parts, which point into it. */
struct weft_peer_parts {
	const char *principal; /* NULL: no identity */
	size_t domain_size; /* of principal's first part */
	const char *namespace; /* NULL unless the path is /ns/NAMESPACE/sa/NAME */
	size_t namespace_size;
	const char *account;
};
/* NULL, "" and what is no SPIFFE id: no identity. */
void weft_peer_split(const char *identity, struct weft_peer_parts *ret_parts);

/* The three conditions of a clause, each by itself. `where` may be a whole prefix; NULL: an address in none that the set names. */
bool weft_set_source_matches(const struct weft_set_view *set, const struct weft_set_clause *clause,
			     const struct weft_peer_parts *peer);
bool weft_set_address_matches(const struct weft_set_view *set, const struct weft_set_clause *clause,
			      const struct weft_cidr *where);
/* 0: a port that the set does not name. */
bool weft_set_port_matches(const struct weft_set_view *set, const struct weft_set_clause *clause, uint16_t port);
bool weft_set_asks_address(const struct weft_set_view *set, const struct weft_set_clause *clause);

/* ---- out of resources ---- */

/* What applies to one workload. Lists are in the order in which they count, the one that has priority first. */
struct weft_set_from {
	const struct weft_resource *authentication[3]; /* PeerAuthentication of the workload, namespace, mesh; NULL: none */
	const struct weft_resource *const *policy; /* AuthorizationPolicies */
	size_t policy_count;
	const char *trust_domain; /* of the mesh: what cluster.local means in a principal */
	const struct weft_cidr *probe; /* from where probes of this node come; none for a workload of another node */
	size_t probe_count;
};

/*
 * Makes the block in the empty `ret_block`; empty again if all is allowed and nothing would be denied. A policy that does not
 * fit, whose number in `from` is added to `ret_beyond` (uint32_t each), allows nothing and denies all. -ENOMEM.
 */
int weft_set_make(const struct weft_set_from *from, struct weft_buf *ret_block, struct weft_buf *ret_beyond);

/* ---- the kernel's rows ---- */

struct weft_set_rows {
	struct weft_policy policy;
	struct weft_buf prefix; /* struct weft_cidr each */
	struct weft_buf prefix_clauses; /* struct weft_clauses each */
	struct weft_buf port; /* uint16_t each, host order */
	struct weft_buf port_clauses;
};

void weft_set_rows_done(struct weft_set_rows *rows);
int weft_set_rows_make(const struct weft_set_view *set, struct weft_set_rows *ret_rows);
/* Of a peer with that identity; NULL: without. */
void weft_set_source_clauses(const struct weft_set_view *set, const char *identity, struct weft_clauses *ret_clauses);

#endif
