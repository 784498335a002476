/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random policies and random requests: the proxies' judge and the kernel's three look-ups over the rows that a batch wrote,
 * against an evaluator that reads the resources rule by rule as docs/POLICY.md says and knows nothing of clauses. Between two
 * configurations every single write is looked at: a request gets the old answer or the new one, never a third.
 *
 * WEFT_DECISIONS=10000000 for the long run, WEFT_SEED to repeat one.
 */
#include "lib.h"

#include "base/addr.h"
#include "lib/policy.h"
#include "model/mesh.h"

#define DECISIONS 100000
#define PER_CONFIGURATION 2000
#define WATCHED 24

/* ---- randomness ---- */

static uint64_t seed;

static uint32_t draw(uint32_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((seed >> 33) % below);
}

#define PICK(list) list[draw(WEFT_ARRAY_SIZE(list))]

static const char *const principals[] = {
	"cluster.local/ns/a/sa/x", "mesh.org/ns/b/sa/x", "spiffe://cluster.local/ns/a/sa/w", "*", "*/sa/x", "cluster.local/*",
	"mesh.org/ns/a*", "*/ns/b/sa/x", "other/ns/a/sa/x", "odd/shape", "spiffe://mesh.org/ns/b/sa/*", "*d", "cluster*",
};
static const char *const namespaces[] = { "a", "b", "*", "a*", "*b", "istio-system", "istio*" };
static const char *const accounts[] = { "x", "w", "a/x", "b/w", "b/x", "none/z" };
static const char *const domains[] = { "cluster.local", "mesh.org", "*", "mesh*", "*.local", "odd" };
static const char *const prefixes[] = {
	"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "::/0", "fd00::/8", "fd00::1",
	"10.9.9.9", "192.0.2.0/24", "::ffff:10.1.0.0/112", "::/80", "2000::/3", "10.1.2.0/24",
};
static const char *const ports[] = { "80", "81", "8080", "443" };
static const char *const methods[] = { "GET" };
static const char *const addresses[] = {
	"10.1.2.3", "10.1.0.1", "10.2.0.1", "192.0.2.1", "203.0.113.1", "fd00::1", "fd00::2", "2001:db8::1",
	"10.9.9.9", "10.8.8.8", "10.8.8.9", "::5",	 "10.1.2.77",
};
static const char *const identities[] = {
	"spiffe://other/ns/a/sa/x", "spiffe://odd/shape", "spiffe://cluster.local/ns/a/sa/x", "spiffe://mesh.org/ns/b/sa/x",
	"spiffe://mesh.org",	    "spiffe://cluster.local/ns/a/sa/x/more", "spiffe://cluster.local/ns/a/sa/w",
	"spiffe://cluster.local/ns//sa/x",
};

/* ---- configurations ---- */

static const char fixed[] =
	"apiVersion: v1\nkind: Node\nmetadata: {name: here}\nstatus: {addresses: [{type: InternalIP, address: 10.9.9.9}]}\n---\n"
	"apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {istio.io/dataplane-mode: ambient}}\n---\n"
	"apiVersion: v1\nkind: Namespace\nmetadata: {name: b, labels: {istio.io/dataplane-mode: ambient}}\n---\n"
	"apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system, labels: {istio.io/dataplane-mode: ambient}}\n";

static const struct {
	const char *namespace, *name, *account, *node, *labels, *address;
} pods[] = {
	{ "a", "d0", "x", "here", "app: d", "10.244.0.1" },
	{ "a", "d1", "w", "there", "app: d, v: '1'", "10.244.0.2" },
	{ "b", "d2", "x", "here", "app: d, v: '1'", "10.244.0.3" },
	{ "istio-system", "d3", "x", "here", "app: e", "10.244.0.4" },
	{ "a", "s4", "x", "here", "app: s", "10.244.0.5" },
	{ "a", "s5", "w", "here", "app: s", "10.244.0.6" },
	{ "b", "s6", "x", "here", "app: s", "10.244.0.7" },
	{ "b", "s7", "x", "here", "app: s", "10.244.0.8" },
};
#define PODS WEFT_ARRAY_SIZE(pods)

static void add_list(struct weft_buf *out, const char *key, const char *const *from, size_t count)
{
	size_t length = 1 + draw(3);

	weft_buf_printf(out, "%s: [", key);
	for (size_t i = 0; i < length; i++)
		weft_buf_printf(out, "%s\"%s\"", i ? ", " : "", from[draw((uint32_t)count)]);
	weft_buf_printf(out, "]");
}
#define LIST(out, key, from) add_list(out, key, from, WEFT_ARRAY_SIZE(from))

static void add_source(struct weft_buf *out)
{
	static const struct {
		const char *key;
		const char *const *from;
		size_t count;
	} field[] = {
#define FIELD(key, from) { key, from, WEFT_ARRAY_SIZE(from) }
		FIELD("principals", principals),       FIELD("notPrincipals", principals), FIELD("namespaces", namespaces),
		FIELD("notNamespaces", namespaces),    FIELD("serviceAccounts", accounts), FIELD("notServiceAccounts", accounts),
		FIELD("trustDomains", domains),	       FIELD("notTrustDomains", domains),  FIELD("ipBlocks", prefixes),
		FIELD("notIpBlocks", prefixes),	       FIELD("requestPrincipals", principals),
#undef FIELD
	};
	size_t first = draw(WEFT_ARRAY_SIZE(field) - 1), more = draw(8) == 0;

	weft_buf_printf(out, "{source: {");
	add_list(out, field[first].key, field[first].from, field[first].count);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(field); i++)
		if (i != first && draw(i == WEFT_ARRAY_SIZE(field) - 1 ? 40 : more ? 3 : 12) == 0) {
			weft_buf_printf(out, ", ");
			add_list(out, field[i].key, field[i].from, field[i].count);
		}
	weft_buf_printf(out, "}}");
}

static void add_operation(struct weft_buf *out)
{
	weft_buf_printf(out, "{operation: {");
	switch (draw(12)) {
	case 0:
		LIST(out, "methods", methods);
		break;
	case 1:
		LIST(out, "ports", ports);
		weft_buf_printf(out, ", ");
		LIST(out, "methods", methods);
		break;
	case 2:
		LIST(out, "ports", ports);
		weft_buf_printf(out, ", ");
		LIST(out, "notPorts", ports);
		break;
	default:
		LIST(out, draw(2) ? "ports" : "notPorts", ports);
	}
	weft_buf_printf(out, "}}");
}

static void add_condition(struct weft_buf *out)
{
	static const struct {
		const char *key;
		const char *const *from;
		size_t count;
	} field[] = {
		{ "source.ip", prefixes, WEFT_ARRAY_SIZE(prefixes) },
		{ "source.namespace", namespaces, WEFT_ARRAY_SIZE(namespaces) },
		{ "source.principal", principals, WEFT_ARRAY_SIZE(principals) },
		{ "source.serviceAccount", accounts, WEFT_ARRAY_SIZE(accounts) },
		{ "destination.port", ports, WEFT_ARRAY_SIZE(ports) },
		{ "request.headers[x]", methods, 1 },
	};
	size_t i = draw(draw(4) ? 5 : 6), which = draw(3);

	weft_buf_printf(out, "{key: \"%s\"", field[i].key);
	if (which != 1) {
		weft_buf_printf(out, ", ");
		add_list(out, "values", field[i].from, field[i].count);
	}
	if (which != 0) {
		weft_buf_printf(out, ", ");
		add_list(out, "notValues", field[i].from, field[i].count);
	}
	weft_buf_printf(out, "}");
}

static void add_parts(struct weft_buf *out, const char *key, bool *any, void (*add)(struct weft_buf *out))
{
	size_t count = draw(3);

	if (!count)
		return;
	weft_buf_printf(out, "%s%s: [", *any ? ", " : "", key);
	for (size_t i = 0; i < count; i++) {
		weft_buf_printf(out, i ? ", " : "");
		add(out);
	}
	weft_buf_printf(out, "]");
	*any = true;
}

static const char *scope(void)
{
	static const char *const list[] = { "a", "a", "b", "istio-system" };

	return PICK(list);
}

static const char *selector(void)
{
	static const char *const list[] = { "", "", "selector: {matchLabels: {app: d}}, ", "selector: {matchLabels: {app: e}}, ",
					    "selector: {matchLabels: {app: d, v: '1'}}, ", "selector: {}, " };

	return PICK(list);
}

static void add_authorization(struct weft_buf *out, size_t number)
{
	size_t rules = draw(4);

	weft_buf_printf(out,
			"---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p%zu, namespace: %s%s%s}\n"
			"spec: {%saction: %s",
			number, scope(), draw(2) ? "" : ", creationTimestamp: 2026-01-02T00:00:00Z",
			draw(5) ? "" : ", annotations: {istio.io/dry-run: 'true'}", selector(), draw(2) ? "ALLOW" : "DENY");
	for (size_t i = 0; i < rules; i++) {
		bool any = false;

		weft_buf_printf(out, "%s{", i ? ", " : ", rules: [");
		if (draw(16)) {
			add_parts(out, "from", &any, add_source);
			add_parts(out, "to", &any, add_operation);
			if (draw(3) == 0)
				add_parts(out, "when", &any, add_condition);
		}
		weft_buf_printf(out, "}%s", i + 1 == rules ? "]" : "");
	}
	weft_buf_printf(out, "}\n");
}

static void add_authentication(struct weft_buf *out, size_t number)
{
	static const char *const modes[] = { "UNSET", "DISABLE", "PERMISSIVE", "STRICT" };
	const char *which = selector();

	weft_buf_printf(out,
			"---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: m%zu, namespace: %s%s}\n"
			"spec: {%smtls: {mode: %s}",
			number, scope(), draw(2) ? "" : ", creationTimestamp: 2026-01-02T00:00:00Z", which, PICK(modes));
	if (strstr(which, "app") && draw(2))
		weft_buf_printf(out, ", portLevelMtls: {80: {mode: %s}, 81: {mode: %s}}", PICK(modes), PICK(modes));
	weft_buf_printf(out, "}\n");
}

static void add_pod(struct weft_buf *out, size_t i)
{
	weft_buf_printf(out,
			"---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s, labels: {%s}}\n"
			"spec: {nodeName: %s, serviceAccountName: %s}\nstatus: {podIP: %s}\n",
			pods[i].name, pods[i].namespace, pods[i].labels, pods[i].node, pods[i].account, pods[i].address);
}

static void make_yaml(struct weft_buf *out)
{
	size_t authorization = draw(6), authentication = draw(4);
	size_t missing = draw(3) ? PODS : 4 + draw(4);

	weft_buf_printf(out, "%s---\napiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {trustDomain: %s, probes: {%sownNode: %s}}\n",
			fixed, draw(8) ? "cluster.local" : "mesh.org", draw(2) ? "cidrs: [10.8.8.8], " : "", draw(4) ? "true" : "false");
	for (size_t i = 0; i < PODS; i++)
		if (i != missing)
			add_pod(out, i);
	for (size_t i = 0; i < authorization; i++)
		add_authorization(out, i);
	for (size_t i = 0; i < authentication; i++)
		add_authentication(out, i);
}

/* ---- the oracle ---- */

struct world {
	struct weft_conf_file file;
	const struct weft_mesh_config *mesh;
	struct weft_addr node;
};

struct request {
	size_t to; /* pod */
	size_t from; /* pod whose namespace it comes from, PODS: none */
	char identity[128]; /* "" = none */
	struct weft_addr addr;
	uint16_t port;
};

struct answer {
	bool denied, dry_denied;
	bool missing; /* the kernel lacks a row: it denies since it does not know */
};

struct caller {
	char whole[160]; /* without spiffe:// */
	char domain[160], namespace[64], account[64];
	bool known, split;
};

static void parse_caller(const char *identity, struct caller *caller)
{
	char tail;

	memset(caller, 0, sizeof(*caller));
	if (!*identity)
		return;
	caller->known = true;
	snprintf(caller->whole, sizeof(caller->whole), "%s", identity + strlen("spiffe://"));
	snprintf(caller->domain, sizeof(caller->domain), "%.*s", (int)strcspn(caller->whole, "/"), caller->whole);
	caller->split = sscanf(caller->whole, "%*[^/]/ns/%63[^/]/sa/%63[^/]%c", caller->namespace, caller->account, &tail) == 2;
}

static bool text_is(const char *pattern, const char *text)
{
	size_t size = strlen(pattern);

	if (strcmp(pattern, "*") == 0)
		return *text;
	if (pattern[0] == '*')
		return strlen(text) >= size - 1 && strcmp(text + strlen(text) - (size - 1), pattern + 1) == 0;
	if (size && pattern[size - 1] == '*')
		return strncmp(text, pattern, size - 1) == 0;
	return strcmp(pattern, text) == 0;
}

enum part { PRINCIPAL, NAMESPACE, ACCOUNT, DOMAIN_ };

static bool names(const struct world *world, enum part part, const char *pattern, const char *own_namespace,
		  const struct caller *caller)
{
	char text[300], other[300];

	switch (part) {
	case PRINCIPAL:
		snprintf(text, sizeof(text), "%s", strncmp(pattern, "spiffe://", 9) == 0 ? pattern + 9 : pattern);
		if (strncmp(text, "cluster.local/", 14) == 0) {
			snprintf(other, sizeof(other), "%s/%s", world->mesh->trust_domain, text + 14);
			return text_is(other, caller->whole);
		}
		return text_is(text, caller->whole);
	case NAMESPACE:
		return text_is(pattern, caller->namespace);
	case ACCOUNT:
		snprintf(text, sizeof(text), "%s/%s", caller->namespace, caller->account);
		snprintf(other, sizeof(other), "%s%s%s", strchr(pattern, '/') ? "" : own_namespace,
			 strchr(pattern, '/') ? "" : "/", pattern);
		return strcmp(text, other) == 0;
	default:
		return text_is(pattern, caller->domain);
	}
}

/* Both lists of one attribute. */
static bool texts_hold(const struct world *world, enum part part, const struct weft_strings *yes, const struct weft_strings *no,
		       const char *own_namespace, const struct caller *caller, bool deny)
{
	bool known = part == PRINCIPAL || part == DOMAIN_ ? caller->known : caller->split, any = false;

	if (yes->count && !known)
		return false;
	for (size_t i = 0; i < yes->count; i++)
		any |= names(world, part, yes->item[i], own_namespace, caller);
	if (yes->count && !any)
		return false;
	if (no->count && !known)
		return deny;
	for (size_t i = 0; i < no->count; i++)
		if (names(world, part, no->item[i], own_namespace, caller))
			return false;
	return true;
}

static bool addr_in(const struct weft_cidr *cidr, const struct weft_addr *addr)
{
	const uint8_t *a = (const uint8_t *)&cidr->addr, *b = (const uint8_t *)addr;
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	bool four = memcmp(b, mapped, 12) == 0, cidr_four = cidr->bits >= 96 && memcmp(a, mapped, 12) == 0;

	if (four != cidr_four)
		return false;
	for (uint32_t bit = 0; bit < cidr->bits; bit++)
		if ((a[bit / 8] ^ b[bit / 8]) & (0x80 >> bit % 8))
			return false;
	return true;
}

static bool cidrs_hold(const struct weft_cidrs *yes, const struct weft_cidrs *no, const struct weft_addr *addr)
{
	bool any = !yes->count;

	for (size_t i = 0; i < yes->count; i++)
		any |= addr_in(&yes->item[i], addr);
	for (size_t i = 0; i < no->count; i++)
		any &= !addr_in(&no->item[i], addr);
	return any;
}

static bool ports_hold(const struct weft_ports *yes, const struct weft_ports *no, uint16_t port)
{
	bool any = !yes->count;

	for (size_t i = 0; i < yes->count; i++)
		any |= yes->item[i] == port;
	for (size_t i = 0; i < no->count; i++)
		any &= no->item[i] != port;
	return any;
}

static bool source_holds(const struct world *world, const struct weft_policy_source_match *source, const char *namespace,
			 const struct request *request, const struct caller *caller, bool deny)
{
	return texts_hold(world, PRINCIPAL, &source->principals, &source->not_principals, namespace, caller, deny) &&
	       texts_hold(world, NAMESPACE, &source->namespaces, &source->not_namespaces, namespace, caller, deny) &&
	       texts_hold(world, ACCOUNT, &source->service_accounts, &source->not_service_accounts, namespace, caller, deny) &&
	       texts_hold(world, DOMAIN_, &source->trust_domains, &source->not_trust_domains, namespace, caller, deny) &&
	       cidrs_hold(&source->ip_blocks, &source->not_ip_blocks, &request->addr);
}

static bool condition_holds(const struct world *world, const struct weft_policy_condition *condition, const char *namespace,
			    const struct request *request, const struct caller *caller, bool deny)
{
	if (strcmp(condition->name, "source.ip") == 0)
		return cidrs_hold(&condition->cidrs, &condition->not_cidrs, &request->addr);
	if (strcmp(condition->name, "destination.port") == 0)
		return ports_hold(&condition->ports, &condition->not_ports, request->port);
	if (strcmp(condition->name, "source.namespace") == 0)
		return texts_hold(world, NAMESPACE, &condition->values, &condition->not_values, namespace, caller, deny);
	if (strcmp(condition->name, "source.principal") == 0)
		return texts_hold(world, PRINCIPAL, &condition->values, &condition->not_values, namespace, caller, deny);
	if (strcmp(condition->name, "source.serviceAccount") == 0)
		return texts_hold(world, ACCOUNT, &condition->values, &condition->not_values, namespace, caller, deny);
	return deny;
}

static bool rule_holds(const struct world *world, const struct weft_policy_rule *rule, const char *namespace,
		       const struct request *request, const struct caller *caller, bool deny)
{
	bool from = !rule->from_count, to = !rule->to_count;

	for (size_t i = 0; i < rule->from_count; i++) {
		if (*rule->from[i].beyond && !deny)
			return false;
		from |= source_holds(world, &rule->from[i], namespace, request, caller, deny);
	}
	for (size_t i = 0; i < rule->to_count; i++) {
		if (*rule->to[i].beyond && !deny)
			return false;
		to |= ports_hold(&rule->to[i].ports, &rule->to[i].not_ports, request->port);
	}
	for (size_t i = 0; i < rule->when_count; i++)
		if (!condition_holds(world, &rule->when[i], namespace, request, caller, deny))
			return false;
	return from && to;
}

static const struct weft_resource *pod_of(const struct world *world, size_t pod)
{
	for (size_t i = 0; i < world->file.resource_count; i++) {
		const struct weft_resource *resource = world->file.resource[i];

		if (resource->kind == WEFT_KIND_POD && strcmp(resource->meta.name, pods[pod].name) == 0)
			return resource;
	}
	return NULL;
}

static bool is_here(size_t pod)
{
	return strcmp(pods[pod].node, "here") == 0;
}

static bool is_probe(const struct world *world, const struct request *request)
{
	if (!is_here(request->to))
		return false;
	if (world->mesh->probe_own_node && weft_addr_compare(&request->addr, &world->node) == 0)
		return true;
	for (size_t i = 0; i < world->mesh->probe_cidrs.count; i++)
		if (addr_in(&world->mesh->probe_cidrs.item[i], &request->addr))
			return true;
	return false;
}

static bool older(const struct weft_resource *a, const struct weft_resource *b)
{
	return !b || a->meta.created < b->meta.created ||
	       (a->meta.created == b->meta.created && strcmp(a->meta.name, b->meta.name) < 0);
}

static bool is_strict(const struct world *world, const struct weft_resource *pod, uint16_t port)
{
	const struct weft_resource *level[3] = { NULL };

	for (size_t i = 0; i < world->file.resource_count; i++) {
		const struct weft_resource *at = world->file.resource[i];
		const struct weft_pairs *labels = &at->peer_authentication.selector;
		size_t where;

		if (at->kind != WEFT_KIND_PEER_AUTHENTICATION)
			continue;
		if (labels->count)
			where = 0;
		else
			where = strcmp(at->meta.namespace, "istio-system") == 0 ? 2 : 1;
		if (where < 2 && strcmp(at->meta.namespace, pod->meta.namespace) != 0)
			continue;
		if (weft_pairs_match(&pod->meta.labels, labels) && older(at, level[where]))
			level[where] = at;
	}
	for (size_t i = 0; level[0] && i < level[0]->peer_authentication.port_level_count; i++) {
		const struct weft_port_mtls *own = &level[0]->peer_authentication.port_level[i];

		if (own->port == port && own->mode != WEFT_MTLS_UNSET)
			return own->mode == WEFT_MTLS_STRICT;
	}
	for (size_t i = 0; i < 3; i++)
		if (level[i] && level[i]->peer_authentication.mode != WEFT_MTLS_UNSET)
			return level[i]->peer_authentication.mode == WEFT_MTLS_STRICT;
	return false;
}

static struct answer ask_oracle(const struct world *world, const struct request *request)
{
	const struct weft_resource *pod = pod_of(world, request->to);
	bool probe = is_probe(world, request) && !*request->identity;
	bool deny = false, allow = false, needs = false, dry_deny = false, dry_allow = false, dry_needs = false;
	struct caller caller;

	parse_caller(request->identity, &caller);
	if (!caller.known && !probe && is_strict(world, pod, request->port))
		deny = true;
	for (size_t i = 0; i < world->file.resource_count; i++) {
		const struct weft_resource *at = world->file.resource[i];
		const struct weft_authorization_policy *policy = &at->authorization_policy;
		bool hit = false, denies;

		if (at->kind != WEFT_KIND_AUTHORIZATION_POLICY ||
		    (strcmp(at->meta.namespace, "istio-system") != 0 && strcmp(at->meta.namespace, pod->meta.namespace) != 0) ||
		    !weft_pairs_match(&pod->meta.labels, &policy->selector))
			continue;
		denies = policy->action == WEFT_POLICY_DENY;
		for (size_t j = 0; j < policy->rule_count; j++)
			hit |= rule_holds(world, &policy->rule[j], at->meta.namespace, request, &caller, denies);
		if (policy->dry_run) {
			dry_needs |= !denies;
			*(denies ? &dry_deny : &dry_allow) |= hit;
		} else {
			needs |= !denies;
			*(denies ? &deny : &allow) |= hit;
		}
	}
	allow |= probe;
	return (struct answer){
		.denied = deny || (needs && !allow),
		.dry_denied = dry_deny || (dry_needs && !allow && !dry_allow),
	};
}

/* ---- the kernel's twin ---- */

static const struct weft_clauses *longest(const struct toy *toy, uint32_t set, const struct weft_addr *addr)
{
	const struct weft_clauses *best = NULL;
	uint32_t best_bits = 0;

	for (size_t i = 0; i < toy->big_count; i++) {
		struct weft_policy_cidr_key key;
		struct weft_cidr cidr;

		if (toy->big[i].map != WEFT_MAP_POLICY_CIDR)
			continue;
		memcpy(&key, toy->big[i].key, sizeof(key));
		cidr = (struct weft_cidr){ .bits = key.bits - 32, .addr = key.addr };
		if (ntohl(key.policy) != set || !weft_cidr_contains(&cidr, addr) || (best && key.bits <= best_bits))
			continue;
		best = (const void *)toy->big[i].value;
		best_bits = key.bits;
	}
	return best;
}

/* bpf/lib/judge.h; `from`: a workload of this node or 0; `addr` NULL: not known yet. */
static struct answer ask_kernel(const struct toy *toy, uint32_t to, uint32_t from, const struct weft_addr *addr, uint16_t port)
{
	const struct answer closed = { .denied = true, .missing = true };
	const struct weft_workload *workload = toy_big_find(toy, WEFT_MAP_WORKLOAD, &to);
	const struct weft_workload *own = from ? toy_big_find(toy, WEFT_MAP_WORKLOAD, &from) : NULL;
	struct weft_policy_source_key source = { .policy = workload ? workload->policy : 0, .source = own ? own->source : 0 };
	struct weft_policy_port_key port_key = { .policy = source.policy, .port = htons(port) };
	const struct weft_policy *policy;
	struct weft_policy_seen seen = { 0 };
	uint32_t verdict;

	if (!workload || !workload->policy)
		return (struct answer){ 0 };
	policy = toy_big_find(toy, WEFT_MAP_POLICY, &workload->policy);
	if (!policy)
		return closed;
	seen.source = source.source ? toy_big_find(toy, WEFT_MAP_POLICY_SOURCE, &source) : &policy->no_source;
	if (!seen.source)
		return closed;
	seen.port = toy_big_find(toy, WEFT_MAP_POLICY_PORT, &port_key);
	if (!seen.port)
		seen.port = &policy->any_port;
	if (addr) {
		seen.addr = longest(toy, workload->policy, addr);
		if (!seen.addr)
			seen.addr = &policy->any_address;
	}
	verdict = weft_policy_decide(policy, &seen);
	return (struct answer){ .denied = verdict & WEFT_POLICY_DENIED, .dry_denied = verdict & WEFT_POLICY_DRY_DENIED };
}

/* ---- holding them against each other ---- */

struct run {
	struct weft_model *model;
	struct toy *toy;
	uint64_t decisions, allowed, denied, by_kernel, dry, steps;
	uint64_t now_ns;
};

static uint32_t workload_of(const struct weft_model *model, size_t pod)
{
	const struct weft_workload_name *name = NULL;

	while ((name = weft_names_next_workload(weft_model_names(model), name ? name->id : 0)))
		if (strcmp(name->name, pods[pod].name) == 0)
			return name->id;
	return 0;
}

static void draw_request(const struct world *world, struct request *request)
{
	static const uint16_t numbers[] = { 80, 81, 8080, 443, 9999 };

	*request = (struct request){ .from = PODS, .port = PICK(numbers) };
	do
		request->to = draw(PODS);
	while (!pod_of(world, request->to));
	weft_addr_parse(PICK(addresses), &request->addr);
	switch (draw(4)) {
	case 0:
		break;
	case 1:
		snprintf(request->identity, sizeof(request->identity), "%s", PICK(identities));
		break;
	default:
		do
			request->from = draw(PODS);
		while (!pod_of(world, request->from));
		if (draw(3))
			weft_addr_parse(pods[request->from].address, &request->addr);
		snprintf(request->identity, sizeof(request->identity), "spiffe://%s/ns/%s/sa/%s", world->mesh->trust_domain,
			 pods[request->from].namespace, pods[request->from].account);
	}
}

static void complain(const struct request *request, const char *who, const struct answer *got, const struct answer *want,
		     const char *yaml)
{
	char shown[WEFT_ADDR_TEXT];

	fail_msg("%s/%s port %u from %s as `%s`: %s says denied %d, dry-run %d; the rules say %d, %d\n%s", pods[request->to].namespace,
		 pods[request->to].name, request->port, weft_addr_format(&request->addr, shown), request->identity, who, got->denied,
		 got->dry_denied, want->denied, want->dry_denied, yaml);
}

static void decide(struct run *run, const struct world *world, const struct weft_mesh *mesh, const char *yaml)
{
	struct request request;
	struct weft_peer peer;
	struct weft_verdict verdict;
	struct answer want, got, before;
	uint32_t to;

	draw_request(world, &request);
	to = workload_of(run->model, request.to);
	want = ask_oracle(world, &request);
	peer = (struct weft_peer){ .identity = *request.identity ? request.identity : NULL, .addr = request.addr };
	weft_mesh_judge(mesh, to, &peer, request.port, &verdict);
	got = (struct answer){ .denied = !verdict.allowed, .dry_denied = verdict.dry_run_denied };
	if (got.denied != want.denied || (!want.denied && got.dry_denied != want.dry_denied))
		complain(&request, "the mesh", &got, &want, yaml);
	assert_true(verdict.reason && *verdict.reason && verdict.policy);
	run->decisions++;
	run->denied += want.denied;
	run->allowed += !want.denied;
	run->dry += !want.denied && want.dry_denied;
	if (*request.identity && request.from == PODS)
		return;
	/* To another node the kernel judges those who have no identity; it is told of no identity of another node. */
	if (request.from < PODS && (!is_here(request.to) || !is_here(request.from)))
		return;
	got = ask_kernel(run->toy, to, request.from < PODS ? workload_of(run->model, request.from) : 0, &request.addr, request.port);
	if (got.denied != want.denied || (!want.denied && got.dry_denied != want.dry_denied))
		complain(&request, "the kernel", &got, &want, yaml);
	before = ask_kernel(run->toy, to, request.from < PODS ? workload_of(run->model, request.from) : 0, NULL, request.port);
	if (before.denied && !want.denied)
		complain(&request, "the kernel, not knowing the address,", &before, &want, yaml);
	run->by_kernel++;
}

static void parse(const char *yaml, struct weft_conf_file *file)
{
	struct weft_problems problems = { 0 };

	memset(file, 0, sizeof(*file));
	assert_int_equal(weft_conf_parse("oracle.yaml", yaml, strlen(yaml), true, file, &problems), 0);
	for (size_t i = 0; i < problems.count; i++)
		if (problems.item[i].severity == WEFT_SEVERITY_ERROR)
			fail_msg("%u: %s: %s\n%s", problems.item[i].line, problems.item[i].path, problems.item[i].text, yaml);
	weft_problems_done(&problems);
}

static void open_world(const char *yaml, struct world *world)
{
	memset(world, 0, sizeof(*world));
	parse(yaml, &world->file);
	weft_addr_parse("10.9.9.9", &world->node);
	for (size_t i = 0; i < world->file.resource_count; i++)
		if (world->file.resource[i]->kind == WEFT_KIND_MESH_CONFIG)
			world->mesh = &world->file.resource[i]->mesh_config;
}

struct watched {
	uint32_t to, from;
	struct weft_addr addr;
	uint16_t port;
	struct answer old, new;
	bool changes; /* who it is: that and the policies change one after the other, so that it may be either with either */
};

struct watch {
	struct run *run;
	struct watched item[WATCHED];
};

static bool is_here_by_id(const struct toy *toy, uint32_t workload)
{
	const struct weft_workload *row = toy_big_find(toy, WEFT_MAP_WORKLOAD, &workload);

	return row && row->flags & WEFT_WORKLOAD_F_LOCAL;
}

static void look(struct toy *toy, void *context)
{
	struct watch *watch = context;

	for (size_t i = 0; i < WATCHED; i++) {
		const struct watched *at = &watch->item[i];
		struct answer now = ask_kernel(toy, at->to, at->from, &at->addr, at->port);

		if (now.missing && is_here_by_id(toy, at->to))
			fail_msg("between two configurations a row of workload %u for %u is missing", at->to, at->from);
		if (!at->changes && now.denied != at->old.denied && now.denied != at->new.denied)
			fail_msg("between two configurations workload %u from %u is %s, before and after it is not", at->to, at->from,
				 now.denied ? "denied" : "allowed");
		watch->run->steps++;
	}
}

static uint32_t identity_of(const struct toy *toy, uint32_t workload)
{
	const struct weft_workload *row = toy_big_find(toy, WEFT_MAP_WORKLOAD, &workload);

	return row ? row->source : 0;
}

static void apply(struct run *run, const struct weft_buf *batch)
{
	struct toy *after = malloc(sizeof(*after));
	struct watch watch = { .run = run };

	assert_non_null(after);
	memcpy(after, run->toy, sizeof(*after));
	toy_apply(after, batch, NULL, NULL);
	for (size_t i = 0; i < WATCHED; i++) {
		static const uint16_t numbers[] = { 80, 81, 8080, 443, 9999 };
		struct watched *at = &watch.item[i];

		at->to = workload_of(run->model, draw(PODS));
		at->from = draw(3) ? workload_of(run->model, draw(PODS)) : 0;
		at->changes = identity_of(run->toy, at->from) != identity_of(after, at->from);
		at->port = PICK(numbers);
		weft_addr_parse(PICK(addresses), &at->addr);
		at->old = ask_kernel(run->toy, at->to, at->from, &at->addr, at->port);
		at->new = ask_kernel(after, at->to, at->from, &at->addr, at->port);
	}
	toy_apply(run->toy, batch, look, &watch);
	free(after);
}

/* The model is to hold what `file` has and nothing else. */
static void replace_all(struct weft_model *model, struct weft_conf_file *old, struct weft_conf_file *new)
{
	for (size_t i = 0; i < old->resource_count; i++) {
		const struct weft_identity *was = &old->refused[i];
		bool kept = false;

		for (size_t j = 0; j < new->resource_count; j++)
			kept |= new->resource[j] && new->resource[j]->kind == was->kind &&
				strcmp(new->resource[j]->meta.name, was->name) == 0 &&
				strcmp(new->resource[j]->meta.namespace, was->namespace) == 0;
		if (!kept)
			weft_model_remove(model, was->kind, was->namespace, was->name);
	}
	for (size_t i = 0; i < new->resource_count; i++)
		assert_int_equal(weft_model_put(model, weft_take_ptr(new->resource[i])), 0);
}

/* Who is in it, for when its resources are the model's: `refused` has a place for each. */
static void remember(struct weft_conf_file *file)
{
	weft_conf_file_done(&(struct weft_conf_file){ .refused = file->refused, .refused_count = file->refused_count });
	file->refused = calloc(file->resource_count, sizeof(*file->refused));
	file->refused_count = file->resource_count;
	for (size_t i = 0; i < file->resource_count; i++)
		file->refused[i] = (struct weft_identity){ file->resource[i]->kind, strdup(file->resource[i]->meta.namespace),
							   strdup(file->resource[i]->meta.name) };
}

static void commit_watched(struct run *run)
{
	struct weft_plan plan = { 0 };
	struct weft_problems problems = { 0 };
	struct weft_err err = { 0 };

	if (weft_model_commit(run->model, run->now_ns += SECOND, run->toy->live, TOY_MAX, &plan, &problems, &err) < 0)
		fail_msg("%s", err.text);
	if (draw(6) == 0) { /* main dies in the middle of the batch */
		toy_apply_some(run->toy, &plan.batch, draw(60), NULL, NULL);
		weft_model_distrust(run->model);
		weft_plan_done(&plan);
		assert_int_equal(weft_model_commit(run->model, run->now_ns += SECOND, run->toy->live, TOY_MAX, &plan, &problems, &err), 0);
		toy_apply(run->toy, &plan.batch, NULL, NULL);
	} else {
		apply(run, &plan.batch);
	}
	weft_plan_done(&plan);
	weft_problems_done(&problems);
}

/* Adopts what is there; a compile of unchanged configuration writes nothing. */
static void restart(struct run *run, const char *yaml)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT, maps = WEFT_BUF_INIT;
	struct weft_names *names = weft_names_new();
	struct weft_err err = { 0 };

	assert_int_equal(weft_names_print(weft_model_names(run->model), &text), 0);
	assert_int_equal(weft_names_parse(names, text.data, text.size, &err), 0);
	toy_read(run->toy, &maps);
	weft_model_free(run->model);
	run->model = model_sized(TOY_MAX, names);
	assert_int_equal(weft_model_adopt(run->model, maps.data, maps.size, run->now_ns), 0);
	load(run->model, yaml);
	if (commit(run->model, run->toy, run->now_ns += SECOND, NULL, NULL) != 0)
		fail_msg("a restart writes what is there already\n%s", yaml);
}

static void one_configuration(struct run *run, struct weft_conf_file *last, uint64_t count)
{
	weft_buf_done_on_exit struct weft_buf yaml = WEFT_BUF_INIT, block = WEFT_BUF_INIT;
	struct weft_conf_file next;
	struct weft_mesh mesh;
	struct weft_err err = { 0 };
	struct world world;

	make_yaml(&yaml);
	parse(yaml.data, &next);
	remember(&next);
	replace_all(run->model, last, &next);
	weft_conf_file_done(last);
	*last = next;
	commit_watched(run);
	if (draw(4) == 0)
		restart(run, yaml.data);
	assert_int_equal(weft_model_mesh_block(run->model, 7, &block), 0);
	if (weft_mesh_open(block.data, block.size, &mesh, &err) < 0)
		fail_msg("%s", err.text);
	open_world(yaml.data, &world);
	for (uint64_t i = 0; i < count; i++)
		decide(run, &world, &mesh, yaml.data);
	weft_conf_file_done(&world.file);
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void engines_agree_with_the_rules(void **state)
{
	uint64_t wanted = number("WEFT_DECISIONS", DECISIONS);
	struct weft_conf_file last = { 0 };
	struct run run = { .model = model_make(), .toy = calloc(1, sizeof(struct toy)), .now_ns = SECOND };

	(void)state;
	seed = number("WEFT_SEED", 1);
	assert_non_null(run.toy);
	while (run.decisions < wanted)
		one_configuration(&run, &last, PER_CONFIGURATION);
	print_message("%llu decisions: %llu allowed, of which %llu denied by dry-run, %llu denied; %llu by the kernel's rows too; %llu "
		      "between two writes\n",
		      (unsigned long long)run.decisions, (unsigned long long)run.allowed, (unsigned long long)run.dry,
		      (unsigned long long)run.denied, (unsigned long long)run.by_kernel, (unsigned long long)run.steps);
	assert_true(run.allowed > wanted / 10 && run.denied > wanted / 10 && run.dry > wanted / 200 && run.by_kernel > wanted / 2);
	weft_conf_file_done(&last);
	weft_model_free(run.model);
	free(run.toy);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(engines_agree_with_the_rules) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
