/* SPDX-License-Identifier: Apache-2.0 */
#include "model/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/cleanup.h"

#define DEFAULT_TRUST_DOMAIN "cluster.local"

/* ---- reading ---- */

static size_t padded(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

static const void *take(const char **at, uint32_t count, size_t item_size)
{
	const void *array = *at;

	*at += padded(count * item_size);
	return array;
}

static bool is_text(const struct weft_set_view *view, uint32_t offset)
{
	return offset < view->header->text_size;
}

static bool is_cidr(const struct weft_cidr *cidr)
{
	return cidr->bits <= 128;
}

struct weft_set_view weft_set_view(const void *block)
{
	const struct weft_set_header *header = block;
	struct weft_set_view view = { .header = header };
	const char *at = (const char *)block + sizeof(*header);

	view.clause = take(&at, header->clause_count, sizeof(*view.clause));
	view.term = take(&at, header->term_count, sizeof(*view.term));
	view.value = take(&at, header->value_count, sizeof(*view.value));
	view.policy = take(&at, header->policy_count, sizeof(*view.policy));
	view.text = at;
	return view;
}

int weft_set_open(const void *block, size_t size, struct weft_set_view *ret_view)
{
	const struct weft_set_header *header = block;
	struct weft_set_view view;
	uint64_t need;

	if (size < sizeof(*header) || (uintptr_t)block % 8 || header->size != size ||
	    header->clause_count > WEFT_POLICY_MAX_CLAUSES ||
	    (header->flags & ~(WEFT_POLICY_F_ALLOW | WEFT_POLICY_F_DRY_ALLOW)))
		return -EBADMSG;
	need = sizeof(*header) + padded(header->clause_count * sizeof(*view.clause)) +
	       padded(header->term_count * sizeof(*view.term)) + padded(header->value_count * sizeof(*view.value)) +
	       padded(header->policy_count * sizeof(*view.policy)) + padded(header->text_size);
	if (need != size)
		return -EBADMSG;
	view = weft_set_view(block);
	if (!header->text_size || view.text[header->text_size - 1])
		return -EBADMSG;
	for (uint32_t i = 0; i < header->clause_count; i++)
		if (view.clause[i].policy >= header->policy_count || view.clause[i].effect >= WEFT_EFFECT_MAX_ ||
		    view.clause[i].first > header->term_count ||
		    view.clause[i].count > header->term_count - view.clause[i].first)
			return -EBADMSG;
	for (uint32_t i = 0; i < header->term_count; i++)
		if (view.term[i].attribute >= WEFT_ATTRIBUTE_MAX_ || view.term[i].negated > 1 || view.term[i].unknown > 1 ||
		    view.term[i].first > header->value_count ||
		    view.term[i].count > header->value_count - view.term[i].first)
			return -EBADMSG;
	for (uint32_t i = 0; i < header->value_count; i++)
		if (!is_text(&view, view.value[i].text) || view.value[i].match >= WEFT_MATCH_MAX_ ||
		    !is_cidr(&view.value[i].cidr))
			return -EBADMSG;
	for (uint32_t i = 0; i < header->policy_count; i++)
		if (!is_text(&view, view.policy[i].text) || view.policy[i].effect >= WEFT_EFFECT_MAX_)
			return -EBADMSG;
	*ret_view = view;
	return 0;
}

/* ---- matching ---- */

void weft_peer_split(const char *identity, struct weft_peer_parts *ret_parts)
{
	struct weft_peer_parts parts = { 0 };
	const char *path, *account;

	if (identity && strncmp(identity, WEFT_SPIFFE_SCHEME, strlen(WEFT_SPIFFE_SCHEME)) == 0 &&
	    identity[strlen(WEFT_SPIFFE_SCHEME)]) {
		parts.principal = identity + strlen(WEFT_SPIFFE_SCHEME);
		parts.domain_size = strcspn(parts.principal, "/");
		path = parts.principal + parts.domain_size;
		if (strncmp(path, "/ns/", 4) == 0) {
			account = strchr(path + 4, '/');
			if (account && account > path + 4 && strncmp(account, "/sa/", 4) == 0 && account[4] &&
			    !strchr(account + 4, '/')) {
				parts.namespace = path + 4;
				parts.namespace_size = (size_t)(account - parts.namespace);
				parts.account = account + 4;
			}
		}
	}
	*ret_parts = parts;
}

static bool text_matches(const struct weft_set_value *value, const char *pattern, const char *text, size_t size)
{
	size_t length = strlen(pattern);

	switch (value->match) {
	case WEFT_MATCH_EXACT:
		return length == size && memcmp(pattern, text, size) == 0;
	case WEFT_MATCH_PREFIX:
		return length <= size && memcmp(pattern, text, length) == 0;
	case WEFT_MATCH_SUFFIX:
		return length <= size && memcmp(pattern, text + size - length, length) == 0;
	default:
		return true;
	}
}

/* pattern is "namespace/name", and the peer has them apart. */
static bool account_matches(const char *pattern, const struct weft_peer_parts *peer)
{
	return strncmp(pattern, peer->namespace, peer->namespace_size) == 0 && pattern[peer->namespace_size] == '/' &&
	       strcmp(pattern + peer->namespace_size + 1, peer->account) == 0;
}

static bool value_matches(const struct weft_set_view *set, const struct weft_set_term *term,
			  const struct weft_set_value *value, const struct weft_peer_parts *peer)
{
	const char *pattern = set->text + value->text;

	switch (term->attribute) {
	case WEFT_ATTRIBUTE_PRINCIPAL:
		return text_matches(value, pattern, peer->principal, strlen(peer->principal));
	case WEFT_ATTRIBUTE_TRUST_DOMAIN:
		return text_matches(value, pattern, peer->principal, peer->domain_size);
	case WEFT_ATTRIBUTE_NAMESPACE:
		return text_matches(value, pattern, peer->namespace, peer->namespace_size);
	default:
		return account_matches(pattern, peer);
	}
}

static bool source_term(const struct weft_set_view *set, const struct weft_set_term *term, const struct weft_peer_parts *peer)
{
	bool split = term->attribute == WEFT_ATTRIBUTE_NAMESPACE || term->attribute == WEFT_ATTRIBUTE_SERVICE_ACCOUNT;

	if (term->attribute == WEFT_ATTRIBUTE_IDENTITY)
		return !!peer->principal != !!term->negated;
	if (!peer->principal || (split && !peer->namespace))
		return term->unknown;
	for (uint32_t i = term->first; i < term->first + term->count; i++)
		if (value_matches(set, term, &set->value[i], peer))
			return !term->negated;
	return term->negated;
}

static bool is_source(const struct weft_set_term *term)
{
	return term->attribute != WEFT_ATTRIBUTE_ADDRESS && term->attribute != WEFT_ATTRIBUTE_PORT;
}

bool weft_set_source_matches(const struct weft_set_view *set, const struct weft_set_clause *clause,
			     const struct weft_peer_parts *peer)
{
	for (uint32_t i = clause->first; i < clause->first + clause->count; i++)
		if (is_source(&set->term[i]) && !source_term(set, &set->term[i], peer))
			return false;
	return true;
}

/* IPv4 is held as v4-mapped, so that ::/0 would hold it all: a prefix of one family has nothing of the other. */
static bool holds(const struct weft_cidr *wide, const struct weft_cidr *narrow)
{
	bool wide_v4 = wide->bits >= 96 && weft_addr_is_v4(&wide->addr);
	bool narrow_v4 = narrow->bits >= 96 && weft_addr_is_v4(&narrow->addr);

	return wide_v4 == narrow_v4 && wide->bits <= narrow->bits && weft_cidr_contains(wide, &narrow->addr);
}

static bool address_term(const struct weft_set_view *set, const struct weft_set_term *term, const struct weft_cidr *where)
{
	for (uint32_t i = term->first; where && i < term->first + term->count; i++)
		if (holds(&set->value[i].cidr, where))
			return !term->negated;
	return term->negated;
}

bool weft_set_address_matches(const struct weft_set_view *set, const struct weft_set_clause *clause,
			      const struct weft_cidr *where)
{
	for (uint32_t i = clause->first; i < clause->first + clause->count; i++)
		if (set->term[i].attribute == WEFT_ATTRIBUTE_ADDRESS && !address_term(set, &set->term[i], where))
			return false;
	return true;
}

bool weft_set_asks_address(const struct weft_set_view *set, const struct weft_set_clause *clause)
{
	for (uint32_t i = clause->first; i < clause->first + clause->count; i++)
		if (set->term[i].attribute == WEFT_ATTRIBUTE_ADDRESS)
			return true;
	return false;
}

static bool port_term(const struct weft_set_view *set, const struct weft_set_term *term, uint16_t port)
{
	for (uint32_t i = term->first; port && i < term->first + term->count; i++)
		if (set->value[i].port == port)
			return !term->negated;
	return term->negated;
}

bool weft_set_port_matches(const struct weft_set_view *set, const struct weft_set_clause *clause, uint16_t port)
{
	for (uint32_t i = clause->first; i < clause->first + clause->count; i++)
		if (set->term[i].attribute == WEFT_ATTRIBUTE_PORT && !port_term(set, &set->term[i], port))
			return false;
	return true;
}

/* ---- making ---- */

struct maker {
	const struct weft_set_from *from;
	struct weft_buf clause, term, value, policy, text;
	uint32_t flags;
	uint32_t prefixes, ports; /* values of each kind, also such as are there twice */
	bool overflowed[WEFT_EFFECT_MAX_];
	int status; /* 0 or -ENOMEM, which sticks */
};

/* Where the maker was, to go back to. */
struct mark {
	size_t clause, term, value, text;
	uint32_t prefixes, ports;
};

static void maker_done(struct maker *maker)
{
	weft_buf_done(&maker->clause);
	weft_buf_done(&maker->term);
	weft_buf_done(&maker->value);
	weft_buf_done(&maker->policy);
	weft_buf_done(&maker->text);
}

static void append(struct maker *maker, struct weft_buf *to, const void *item, size_t size)
{
	if (maker->status == 0)
		maker->status = weft_buf_add(to, item, size);
}

static uint32_t add_text(struct maker *maker, const char *text, size_t size)
{
	uint32_t at = (uint32_t)maker->text.size;

	if (!size)
		return 0;
	append(maker, &maker->text, text, size);
	append(maker, &maker->text, "", 1);
	return at;
}

static uint32_t value_count(const struct maker *maker)
{
	return (uint32_t)(maker->value.size / sizeof(struct weft_set_value));
}

static uint32_t term_count(const struct maker *maker)
{
	return (uint32_t)(maker->term.size / sizeof(struct weft_set_term));
}

static uint32_t clause_count(const struct maker *maker)
{
	return (uint32_t)(maker->clause.size / sizeof(struct weft_set_clause));
}

static void add_pattern(struct maker *maker, enum weft_attribute attribute, const char *pattern, const char *namespace)
{
	struct weft_set_value value = { 0 };
	weft_buf_done_on_exit struct weft_buf whole = WEFT_BUF_INIT;
	size_t size;

	if (attribute == WEFT_ATTRIBUTE_SERVICE_ACCOUNT) {
		if (strchr(pattern, '/'))
			maker->status = maker->status ? maker->status : weft_buf_printf(&whole, "%s", pattern);
		else
			maker->status = maker->status ? maker->status : weft_buf_printf(&whole, "%s/%s", namespace, pattern);
	} else if (attribute == WEFT_ATTRIBUTE_PRINCIPAL) {
		if (strncmp(pattern, WEFT_SPIFFE_SCHEME, strlen(WEFT_SPIFFE_SCHEME)) == 0)
			pattern += strlen(WEFT_SPIFFE_SCHEME);
		/* As Istio reads it: cluster.local is the mesh's own trust domain, whatever that is called. */
		if (strncmp(pattern, DEFAULT_TRUST_DOMAIN "/", strlen(DEFAULT_TRUST_DOMAIN) + 1) == 0)
			maker->status = maker->status ? maker->status :
							weft_buf_printf(&whole, "%s%s", maker->from->trust_domain,
									pattern + strlen(DEFAULT_TRUST_DOMAIN));
	}
	if (maker->status < 0)
		return;
	pattern = whole.data ? whole.data : pattern;
	size = strlen(pattern);
	if (attribute == WEFT_ATTRIBUTE_SERVICE_ACCOUNT) {
		value.match = WEFT_MATCH_EXACT;
	} else if (strcmp(pattern, "*") == 0) {
		value.match = WEFT_MATCH_ANY;
		size = 0;
	} else if (size && pattern[0] == '*') {
		value.match = WEFT_MATCH_SUFFIX;
		pattern++;
		size--;
	} else if (size && pattern[size - 1] == '*') {
		value.match = WEFT_MATCH_PREFIX;
		size--;
	}
	value.text = add_text(maker, pattern, size);
	append(maker, &maker->value, &value, sizeof(value));
}

static void end_term(struct maker *maker, enum weft_attribute attribute, bool negated, bool deny, uint32_t first)
{
	struct weft_set_term term = { .attribute = (uint8_t)attribute,
				      .negated = negated,
				      /* Nobody knows whether it is the one that a not-form names: to deny holds, to allow does not. */
				      .unknown = negated && deny,
				      .first = first,
				      .count = value_count(maker) - first };

	append(maker, &maker->term, &term, sizeof(term));
}

static void add_patterns(struct maker *maker, enum weft_attribute attribute, const struct weft_strings *list, bool negated,
			 bool deny, const char *namespace)
{
	uint32_t first = value_count(maker);

	if (!list->count)
		return;
	for (size_t i = 0; i < list->count; i++)
		add_pattern(maker, attribute, list->item[i], namespace);
	end_term(maker, attribute, negated, deny, first);
}

static void add_cidrs(struct maker *maker, const struct weft_cidr *list, size_t count, bool negated)
{
	uint32_t first = value_count(maker);

	if (!count)
		return;
	for (size_t i = 0; i < count; i++) {
		struct weft_set_value value = { .cidr = list[i] };

		append(maker, &maker->value, &value, sizeof(value));
	}
	maker->prefixes += (uint32_t)count;
	end_term(maker, WEFT_ATTRIBUTE_ADDRESS, negated, false, first);
}

static void add_ports(struct maker *maker, const struct weft_ports *list, bool negated)
{
	uint32_t first = value_count(maker);

	if (!list->count)
		return;
	for (size_t i = 0; i < list->count; i++) {
		struct weft_set_value value = { .port = list->item[i] };

		append(maker, &maker->value, &value, sizeof(value));
	}
	maker->ports += (uint32_t)list->count;
	end_term(maker, WEFT_ATTRIBUTE_PORT, negated, false, first);
}

static void end_clause(struct maker *maker, uint32_t policy, enum weft_policy_effect effect, uint32_t first)
{
	struct weft_set_clause clause = {
		.policy = policy, .effect = effect, .first = first, .count = term_count(maker) - first
	};

	append(maker, &maker->clause, &clause, sizeof(clause));
}

static uint32_t add_policy(struct maker *maker, enum weft_policy_effect effect, const char *kind, const struct weft_meta *meta)
{
	struct weft_set_policy policy = { .effect = effect };
	uint32_t index = (uint32_t)(maker->policy.size / sizeof(policy));
	weft_buf_done_on_exit struct weft_buf name = WEFT_BUF_INIT;

	if (maker->status == 0)
		maker->status = weft_buf_printf(&name, "%s%s%s%s%s", kind, meta ? " " : "", meta ? meta->namespace : "",
						meta ? "/" : "", meta ? meta->name : "");
	if (maker->status < 0)
		return 0;
	policy.text = add_text(maker, name.data, name.size);
	append(maker, &maker->policy, &policy, sizeof(policy));
	return index;
}

/* ---- PeerAuthentication ---- */

/* The wider scope speaks where the narrower one leaves it open. */
static enum weft_mtls_mode mode_of(const struct weft_set_from *from, const struct weft_resource **ret_by)
{
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(from->authentication); i++) {
		const struct weft_resource *by = from->authentication[i];

		if (by && by->peer_authentication.mode != WEFT_MTLS_UNSET) {
			*ret_by = by;
			return by->peer_authentication.mode;
		}
	}
	return WEFT_MTLS_PERMISSIVE;
}

/* STRICT as a clause: who has no identity is denied, on the ports where it is, unless it is a probe of this node. */
static void add_authentication(struct maker *maker)
{
	const struct weft_set_from *from = maker->from;
	const struct weft_resource *by = NULL, *own = from->authentication[0];
	bool strict = mode_of(from, &by) == WEFT_MTLS_STRICT;
	size_t level_count = own ? own->peer_authentication.port_level_count : 0;
	uint32_t first = term_count(maker), policy, value;
	size_t others = 0;

	for (size_t i = 0; i < level_count; i++) {
		enum weft_mtls_mode mode = own->peer_authentication.port_level[i].mode;

		others += mode != WEFT_MTLS_UNSET && (mode == WEFT_MTLS_STRICT) != strict;
	}
	if (!strict && !others)
		return;
	policy = add_policy(maker, WEFT_EFFECT_DENY, "PeerAuthentication", strict ? &by->meta : &own->meta);
	value = value_count(maker);
	end_term(maker, WEFT_ATTRIBUTE_IDENTITY, true, true, value);
	for (size_t i = 0; i < level_count; i++) {
		const struct weft_port_mtls *level = &own->peer_authentication.port_level[i];
		struct weft_set_value port = { .port = level->port };

		if (level->mode != WEFT_MTLS_UNSET && (level->mode == WEFT_MTLS_STRICT) != strict)
			append(maker, &maker->value, &port, sizeof(port));
	}
	maker->ports += (uint32_t)others;
	if (others)
		end_term(maker, WEFT_ATTRIBUTE_PORT, strict, true, value);
	add_cidrs(maker, from->probe, from->probe_count, true);
	end_clause(maker, policy, WEFT_EFFECT_DENY, first);
}

/* ---- AuthorizationPolicy ---- */

static void add_source(struct maker *maker, const struct weft_policy_source_match *source, bool deny, const char *namespace)
{
	add_patterns(maker, WEFT_ATTRIBUTE_PRINCIPAL, &source->principals, false, deny, namespace);
	add_patterns(maker, WEFT_ATTRIBUTE_PRINCIPAL, &source->not_principals, true, deny, namespace);
	add_patterns(maker, WEFT_ATTRIBUTE_NAMESPACE, &source->namespaces, false, deny, namespace);
	add_patterns(maker, WEFT_ATTRIBUTE_NAMESPACE, &source->not_namespaces, true, deny, namespace);
	add_patterns(maker, WEFT_ATTRIBUTE_SERVICE_ACCOUNT, &source->service_accounts, false, deny, namespace);
	add_patterns(maker, WEFT_ATTRIBUTE_SERVICE_ACCOUNT, &source->not_service_accounts, true, deny, namespace);
	add_patterns(maker, WEFT_ATTRIBUTE_TRUST_DOMAIN, &source->trust_domains, false, deny, namespace);
	add_patterns(maker, WEFT_ATTRIBUTE_TRUST_DOMAIN, &source->not_trust_domains, true, deny, namespace);
	add_cidrs(maker, source->ip_blocks.item, source->ip_blocks.count, false);
	add_cidrs(maker, source->not_ip_blocks.item, source->not_ip_blocks.count, true);
}

static void add_condition(struct maker *maker, const struct weft_policy_condition *condition, bool deny, const char *namespace)
{
	static const enum weft_attribute attribute[] = {
		[WEFT_POLICY_KEY_SOURCE_NAMESPACE] = WEFT_ATTRIBUTE_NAMESPACE,
		[WEFT_POLICY_KEY_SOURCE_PRINCIPAL] = WEFT_ATTRIBUTE_PRINCIPAL,
		[WEFT_POLICY_KEY_SOURCE_SERVICE_ACCOUNT] = WEFT_ATTRIBUTE_SERVICE_ACCOUNT,
	};

	switch (condition->key) {
	case WEFT_POLICY_KEY_SOURCE_IP:
		add_cidrs(maker, condition->cidrs.item, condition->cidrs.count, false);
		add_cidrs(maker, condition->not_cidrs.item, condition->not_cidrs.count, true);
		break;
	case WEFT_POLICY_KEY_DESTINATION_PORT:
		add_ports(maker, &condition->ports, false);
		add_ports(maker, &condition->not_ports, true);
		break;
	case WEFT_POLICY_KEY_BEYOND:
		break;
	default:
		add_patterns(maker, attribute[condition->key], &condition->values, false, deny, namespace);
		add_patterns(maker, attribute[condition->key], &condition->not_values, true, deny, namespace);
	}
}

static bool is_beyond(const struct weft_policy_rule *rule)
{
	for (size_t i = 0; i < rule->from_count; i++)
		if (*rule->from[i].beyond)
			return true;
	for (size_t i = 0; i < rule->to_count; i++)
		if (*rule->to[i].beyond)
			return true;
	for (size_t i = 0; i < rule->when_count; i++)
		if (rule->when[i].key == WEFT_POLICY_KEY_BEYOND)
			return true;
	return false;
}

static void add_rule(struct maker *maker, const struct weft_policy_rule *rule, const char *namespace, uint32_t policy,
		     enum weft_policy_effect effect)
{
	bool deny = effect == WEFT_EFFECT_DENY || effect == WEFT_EFFECT_DRY_DENY;
	size_t from_count = rule->from_count ? rule->from_count : 1, to_count = rule->to_count ? rule->to_count : 1;

	/* What cannot be judged is not taken as judged: nobody is allowed by it, and nobody escapes it. */
	if (!deny && is_beyond(rule))
		return;
	for (size_t i = 0; i < from_count; i++)
		for (size_t j = 0; j < to_count; j++) {
			uint32_t first = term_count(maker);

			if (rule->from_count)
				add_source(maker, &rule->from[i], deny, namespace);
			if (rule->to_count) {
				add_ports(maker, &rule->to[j].ports, false);
				add_ports(maker, &rule->to[j].not_ports, true);
			}
			for (size_t k = 0; k < rule->when_count; k++)
				add_condition(maker, &rule->when[k], deny, namespace);
			end_clause(maker, policy, effect, first);
		}
}

static struct mark mark_of(const struct maker *maker)
{
	return (struct mark){ maker->clause.size, maker->term.size,	 maker->value.size,
			      maker->text.size,	  maker->prefixes, maker->ports };
}

static void go_back(struct maker *maker, const struct mark *mark)
{
	maker->clause.size = mark->clause;
	maker->term.size = mark->term;
	maker->value.size = mark->value;
	maker->text.size = mark->text;
	maker->prefixes = mark->prefixes;
	maker->ports = mark->ports;
}

static enum weft_policy_effect effect_of(const struct weft_authorization_policy *policy)
{
	if (policy->action == WEFT_POLICY_DENY)
		return policy->dry_run ? WEFT_EFFECT_DRY_DENY : WEFT_EFFECT_DENY;
	return policy->dry_run ? WEFT_EFFECT_DRY_ALLOW : WEFT_EFFECT_ALLOW;
}

/* False: it does not fit, and is held closed. */
static bool add_authorization(struct maker *maker, const struct weft_resource *resource)
{
	const struct weft_authorization_policy *policy = &resource->authorization_policy;
	enum weft_policy_effect effect = effect_of(policy);
	uint32_t index = add_policy(maker, effect, "AuthorizationPolicy", &resource->meta);
	struct mark mark = mark_of(maker);
	uint32_t first;

	if (effect == WEFT_EFFECT_ALLOW)
		maker->flags |= WEFT_POLICY_F_ALLOW;
	else if (effect == WEFT_EFFECT_DRY_ALLOW)
		maker->flags |= WEFT_POLICY_F_DRY_ALLOW;
	for (size_t i = 0; i < policy->rule_count; i++)
		add_rule(maker, &policy->rule[i], resource->meta.namespace, index, effect);
	if (clause_count(maker) - maker->overflowed[WEFT_EFFECT_DENY] - maker->overflowed[WEFT_EFFECT_DRY_DENY] <=
		    WEFT_POLICY_CLAUSES_TO_USE &&
	    maker->prefixes <= WEFT_POLICY_MAX_PREFIXES && maker->ports <= WEFT_POLICY_MAX_PORTS)
		return true;
	go_back(maker, &mark);
	if (policy->action == WEFT_POLICY_DENY && !maker->overflowed[effect]) {
		maker->overflowed[effect] = true;
		first = term_count(maker);
		end_clause(maker, index, effect, first);
	}
	return false;
}

/* Health checks need no ALLOW: whoever writes the first one does not think of them, and the pods would be restarted. */
static void add_probes(struct maker *maker)
{
	uint32_t first = term_count(maker), policy;

	if (!(maker->flags & (WEFT_POLICY_F_ALLOW | WEFT_POLICY_F_DRY_ALLOW)) || !maker->from->probe_count)
		return;
	policy = add_policy(maker, WEFT_EFFECT_ALLOW, "probes of this node", NULL);
	end_term(maker, WEFT_ATTRIBUTE_IDENTITY, true, false, value_count(maker));
	add_cidrs(maker, maker->from->probe, maker->from->probe_count, false);
	end_clause(maker, policy, WEFT_EFFECT_ALLOW, first);
}

static void put_array(struct maker *maker, struct weft_buf *to, const struct weft_buf *from)
{
	append(maker, to, from->data, from->size);
	if (maker->status == 0)
		maker->status = weft_buf_reserve(to, -from->size & 7, NULL);
}

int weft_set_make(const struct weft_set_from *from, struct weft_buf *ret_block, struct weft_buf *ret_beyond)
{
	weft_cleanup(maker_done) struct maker maker = { .from = from };
	weft_buf_done_on_exit struct weft_buf block = WEFT_BUF_INIT;
	struct weft_set_header header = { 0 };

	append(&maker, &maker.text, "", 1); /* offset 0 is "" */
	add_authentication(&maker);
	for (size_t i = 0; i < from->policy_count; i++)
		if (effect_of(&from->policy[i]->authorization_policy) == WEFT_EFFECT_ALLOW)
			maker.flags |= WEFT_POLICY_F_ALLOW;
		else if (effect_of(&from->policy[i]->authorization_policy) == WEFT_EFFECT_DRY_ALLOW)
			maker.flags |= WEFT_POLICY_F_DRY_ALLOW;
	add_probes(&maker);
	for (uint32_t i = 0; i < from->policy_count && maker.status == 0; i++)
		if (!add_authorization(&maker, from->policy[i]) && maker.status == 0)
			maker.status = weft_buf_add(ret_beyond, &i, sizeof(i));
	if (maker.status < 0 || (!maker.clause.size && !maker.flags))
		return maker.status;
	header.flags = maker.flags;
	header.clause_count = clause_count(&maker);
	header.term_count = term_count(&maker);
	header.value_count = value_count(&maker);
	header.policy_count = (uint32_t)(maker.policy.size / sizeof(struct weft_set_policy));
	header.text_size = (uint32_t)maker.text.size;
	append(&maker, &block, &header, sizeof(header));
	put_array(&maker, &block, &maker.clause);
	put_array(&maker, &block, &maker.term);
	put_array(&maker, &block, &maker.value);
	put_array(&maker, &block, &maker.policy);
	put_array(&maker, &block, &maker.text);
	if (maker.status < 0)
		return maker.status;
	((struct weft_set_header *)(void *)block.data)->size = (uint32_t)block.size;
	*ret_block = block;
	block = WEFT_BUF_INIT;
	return 0;
}

/* ---- the kernel's rows ---- */

static void set_bit(struct weft_clauses *clauses, uint32_t i)
{
	clauses->word[i / 64] |= 1ull << i % 64;
}

void weft_set_rows_done(struct weft_set_rows *rows)
{
	weft_buf_done(&rows->prefix);
	weft_buf_done(&rows->prefix_clauses);
	weft_buf_done(&rows->port);
	weft_buf_done(&rows->port_clauses);
}

void weft_set_source_clauses(const struct weft_set_view *set, const char *identity, struct weft_clauses *ret_clauses)
{
	struct weft_peer_parts parts;
	struct weft_clauses clauses = { 0 };

	weft_peer_split(identity, &parts);
	for (uint32_t i = 0; i < set->header->clause_count; i++)
		if (weft_set_source_matches(set, &set->clause[i], &parts))
			set_bit(&clauses, i);
	*ret_clauses = clauses;
}

static int compare_cidr(const void *a, const void *b)
{
	const struct weft_cidr *left = a, *right = b;

	if (left->bits != right->bits)
		return left->bits < right->bits ? -1 : 1;
	return weft_addr_compare(&left->addr, &right->addr);
}

static int compare_port(const void *a, const void *b)
{
	return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

static void sort_once(struct weft_buf *list, size_t item_size, int (*compare)(const void *a, const void *b))
{
	size_t kept = 0, count = list->size / item_size;

	if (!count)
		return;
	qsort(list->data, count, item_size, compare);
	for (size_t i = 1; i < count; i++)
		if (compare(list->data + kept * item_size, list->data + i * item_size) != 0)
			memmove(list->data + ++kept * item_size, list->data + i * item_size, item_size);
	list->size = (kept + 1) * item_size;
}

static const struct weft_cidr all_v4 = { .bits = 96, .addr = WEFT_ADDR_ANY_V4 };

static int collect(const struct weft_set_view *set, struct weft_set_rows *rows)
{
	bool around_v4 = false;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < set->header->term_count; i++) {
		const struct weft_set_term *term = &set->term[i];

		for (uint32_t j = term->first; r == 0 && j < term->first + term->count; j++) {
			const struct weft_set_value *value = &set->value[j];

			if (term->attribute == WEFT_ATTRIBUTE_PORT)
				r = weft_buf_add(&rows->port, &value->port, sizeof(value->port));
			if (term->attribute != WEFT_ATTRIBUTE_ADDRESS)
				continue;
			around_v4 |= value->cidr.bits < 96 && weft_cidr_contains(&value->cidr, &all_v4.addr);
			r = weft_buf_add(&rows->prefix, &value->cidr, sizeof(value->cidr));
		}
	}
	/* In the tree a short IPv6 prefix lies around all of IPv4, and must not speak for it. */
	if (r == 0 && around_v4)
		r = weft_buf_add(&rows->prefix, &all_v4, sizeof(all_v4));
	if (r < 0)
		return r;
	sort_once(&rows->prefix, sizeof(struct weft_cidr), compare_cidr);
	sort_once(&rows->port, sizeof(uint16_t), compare_port);
	return 0;
}

static void fill_policy(const struct weft_set_view *set, struct weft_policy *policy)
{
	struct weft_clauses *by_effect[] = {
		[WEFT_EFFECT_DENY] = &policy->deny,
		[WEFT_EFFECT_ALLOW] = &policy->allow,
		[WEFT_EFFECT_DRY_DENY] = &policy->dry_deny,
		[WEFT_EFFECT_DRY_ALLOW] = &policy->dry_allow,
	};

	policy->flags = set->header->flags;
	weft_set_source_clauses(set, NULL, &policy->no_source);
	for (uint32_t i = 0; i < set->header->clause_count; i++) {
		const struct weft_set_clause *clause = &set->clause[i];

		set_bit(by_effect[clause->effect], i);
		/* With the policies of dry-run in force, those that are in force now would be too. */
		if (clause->effect == WEFT_EFFECT_ALLOW && policy->flags & WEFT_POLICY_F_DRY_ALLOW)
			set_bit(&policy->dry_allow, i);
		if (weft_set_address_matches(set, clause, NULL))
			set_bit(&policy->any_address, i);
		if (!weft_set_asks_address(set, clause))
			set_bit(&policy->every_address, i);
		if (weft_set_port_matches(set, clause, 0))
			set_bit(&policy->any_port, i);
	}
}

int weft_set_rows_make(const struct weft_set_view *set, struct weft_set_rows *ret_rows)
{
	struct weft_set_rows rows = { 0 };
	int r = collect(set, &rows);

	fill_policy(set, &rows.policy);
	for (size_t at = 0; r == 0 && at < rows.prefix.size; at += sizeof(struct weft_cidr)) {
		struct weft_clauses clauses = { 0 };
		struct weft_cidr where;

		memcpy(&where, rows.prefix.data + at, sizeof(where));
		for (uint32_t i = 0; i < set->header->clause_count; i++)
			if (weft_set_address_matches(set, &set->clause[i], &where))
				set_bit(&clauses, i);
		r = weft_buf_add(&rows.prefix_clauses, &clauses, sizeof(clauses));
	}
	for (size_t at = 0; r == 0 && at < rows.port.size; at += sizeof(uint16_t)) {
		struct weft_clauses clauses = { 0 };
		uint16_t port;

		memcpy(&port, rows.port.data + at, sizeof(port));
		for (uint32_t i = 0; i < set->header->clause_count; i++)
			if (weft_set_port_matches(set, &set->clause[i], port))
				set_bit(&clauses, i);
		r = weft_buf_add(&rows.port_clauses, &clauses, sizeof(clauses));
	}
	if (r < 0) {
		weft_set_rows_done(&rows);
		return r;
	}
	*ret_rows = rows;
	return 0;
}
