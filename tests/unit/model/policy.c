/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/POLICY.md promises, one promise a test; what is left to chance is policy_oracle.c's. */
#include "lib.h"

#include "base/addr.h"
#include "base/table.h"
#include "model/mesh.h"
#include "model/state.h"

#define MESH                                                                                                                \
	"apiVersion: v1\nkind: Node\nmetadata: {name: here, labels: {topology.kubernetes.io/region: eu}}\n"                 \
	"status: {addresses: [{type: InternalIP, address: 10.9.9.9}]}\n---\n"                                               \
	"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}\n---\n"        \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}, annotations: {weft.dev/netns: web}}\n" \
	"spec: {nodeName: here, serviceAccountName: web}\nstatus: {podIPs: [{ip: 10.1.0.1}, {ip: \"fd00::1\"}]}\n---\n"     \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: far, namespace: shop, labels: {app: web}}\n"                           \
	"spec: {nodeName: there, serviceAccountName: web}\nstatus: {podIP: 10.1.0.2}\n"

#define POLICY(name, namespace, spec)                                                                   \
	"---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " name ", namespace: " namespace \
	"}\nspec: " spec "\n"
#define MTLS(name, namespace, spec)                                                                    \
	"---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " name ", namespace: " namespace \
	"}\nspec: " spec "\n"

struct fixture {
	struct weft_model *model;
	struct toy *toy;
	struct weft_buf block;
	struct weft_mesh mesh;
	struct weft_problems problems;
};

static void fixture_done(struct fixture *f)
{
	weft_model_free(f->model);
	free(f->toy);
	weft_buf_done(&f->block);
	weft_problems_done(&f->problems);
}

static void settle(struct fixture *f)
{
	struct weft_err err = { 0 };

	weft_problems_done(&f->problems);
	commit(f->model, f->toy, SECOND, NULL, &f->problems);
	weft_buf_clear(&f->block);
	assert_int_equal(weft_model_mesh_block(f->model, 3, &f->block), 0);
	if (weft_mesh_open(f->block.data, f->block.size, &f->mesh, &err) < 0)
		fail_msg("%s", err.text);
}

static void start(struct fixture *f, const char *yaml)
{
	*f = (struct fixture){ .model = model_make(), .toy = calloc(1, sizeof(*f->toy)) };
	assert_non_null(f->toy);
	load(f->model, MESH);
	load(f->model, yaml);
	settle(f);
}

static uint32_t id_of(const struct fixture *f, const char *name)
{
	const struct weft_workload_name *at = NULL;

	while ((at = weft_names_next_workload(weft_model_names(f->model), at ? at->id : 0)))
		if (strcmp(at->name, name) == 0)
			return at->id;
	fail_msg("no workload %s", name);
	return 0;
}

static struct weft_verdict judge(const struct fixture *f, const char *to, const char *identity, const char *addr, uint16_t port)
{
	struct weft_peer peer = { .identity = identity };
	struct weft_verdict verdict;

	assert_int_equal(weft_addr_parse(addr, &peer.addr), 0);
	weft_mesh_judge(&f->mesh, id_of(f, to), &peer, port, &verdict);
	return verdict;
}

#define ALLOWED(f, identity, addr, port) assert_true(judge(f, "web", identity, addr, port).allowed)
#define DENIED(f, identity, addr, port) assert_false(judge(f, "web", identity, addr, port).allowed)

#define FRONT "spiffe://cluster.local/ns/shop/sa/front"
#define OTHER "spiffe://cluster.local/ns/bank/sa/ledger"
#define SHAPELESS "spiffe://cluster.local/ingress"
#define FAR "203.0.113.7"

static void without_policies_all_is_allowed(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	struct weft_workload *row;
	uint32_t id;

	(void)state;
	start(&f, "");
	ALLOWED(&f, NULL, FAR, 80);
	id = id_of(&f, "web");
	row = toy_big_find(f.toy, WEFT_MAP_WORKLOAD, &id);
	assert_non_null(row);
	assert_int_equal(row->policy, 0);
	assert_int_equal(row->flags, WEFT_WORKLOAD_F_TUNNEL | WEFT_WORKLOAD_F_LOCAL);
	id = id_of(&f, "far");
	row = toy_big_find(f.toy, WEFT_MAP_WORKLOAD, &id);
	assert_int_equal(row->flags, WEFT_WORKLOAD_F_TUNNEL);
	assert_int_equal(row->source, 0);
}

static void strict_refuses_who_has_no_identity(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, MTLS("mesh", "istio-system", "{mtls: {mode: STRICT}}"));
	DENIED(&f, NULL, FAR, 80);
	ALLOWED(&f, FRONT, FAR, 80);
	ALLOWED(&f, SHAPELESS, FAR, 80);
	DENIED(&f, "", FAR, 80);
	DENIED(&f, "cluster.local/ns/shop/sa/front", FAR, 80);
	assert_string_equal(judge(&f, "web", NULL, FAR, 80).policy, "PeerAuthentication istio-system/mesh");
	assert_string_equal(judge(&f, "web", NULL, FAR, 80).reason, "it takes mutual TLS only, and the peer has no identity");
}

static void the_narrower_scope_wins(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, MTLS("mesh", "istio-system", "{mtls: {mode: STRICT}}") MTLS("space", "shop", "{mtls: {mode: PERMISSIVE}}"));
	ALLOWED(&f, NULL, FAR, 80);
	load(f.model, MTLS("own", "shop", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {81: {mode: DISABLE}, "
					  "82: {mode: UNSET}}}"));
	settle(&f);
	DENIED(&f, NULL, FAR, 80);
	ALLOWED(&f, NULL, FAR, 81);
	DENIED(&f, NULL, FAR, 82);
	/* UNSET leaves it to the wider scope, also where only a port says something. */
	load(f.model, MTLS("own", "shop", "{selector: {matchLabels: {app: web}}, portLevelMtls: {83: {mode: STRICT}}}"));
	settle(&f);
	ALLOWED(&f, NULL, FAR, 80);
	DENIED(&f, NULL, FAR, 83);
	assert_string_equal(judge(&f, "web", NULL, FAR, 83).policy, "PeerAuthentication shop/own");
}

static void of_one_scope_the_oldest_counts(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
		  "metadata: {name: z, namespace: shop, creationTimestamp: 2020-01-01T00:00:00Z}\nspec: {mtls: {mode: STRICT}}\n"
		  "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
		  "metadata: {name: a, namespace: shop, creationTimestamp: 2021-01-01T00:00:00Z}\nspec: {mtls: {mode: DISABLE}}\n");
	DENIED(&f, NULL, FAR, 80);
}

static void a_selector_in_the_root_namespace(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	/* PeerAuthentication: of that namespace's own workloads. AuthorizationPolicy: of the whole mesh's. */
	start(&f, MTLS("x", "istio-system", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}"));
	ALLOWED(&f, NULL, FAR, 80);
	load(f.model, POLICY("wide", "istio-system", "{selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}"));
	settle(&f);
	DENIED(&f, FRONT, FAR, 80);
	load(f.model, "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: {rootNamespace: other}\n");
	settle(&f);
	ALLOWED(&f, FRONT, FAR, 80);
}

static void allow_without_rules_denies_all(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	struct weft_verdict verdict;

	(void)state;
	start(&f, POLICY("none", "shop", "{}"));
	DENIED(&f, FRONT, FAR, 80);
	verdict = judge(&f, "web", FRONT, FAR, 80);
	assert_string_equal(verdict.policy, "AuthorizationPolicy shop/none");
	assert_string_equal(verdict.reason, "no ALLOW policy has a rule that matches");
	load(f.model, POLICY("all", "shop", "{rules: [{}]}"));
	settle(&f);
	ALLOWED(&f, NULL, FAR, 80);
	load(f.model, POLICY("deny", "shop", "{action: DENY}"));
	settle(&f);
	ALLOWED(&f, NULL, FAR, 80); /* DENY without rules denies nothing */
}

static void deny_comes_first(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, POLICY("all", "shop", "{rules: [{}]}")
		      POLICY("not", "istio-system", "{action: DENY, rules: [{from: [{source: {namespaces: [bank]}}]}]}"));
	ALLOWED(&f, FRONT, FAR, 80);
	DENIED(&f, OTHER, FAR, 80);
	assert_string_equal(judge(&f, "web", OTHER, FAR, 80).policy, "AuthorizationPolicy istio-system/not");
	assert_string_equal(judge(&f, "web", OTHER, FAR, 80).reason, "a DENY rule matches");
}

static void principals_with_and_without_scheme(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, POLICY("a", "shop", "{rules: [{from: [{source: {principals: [\"spiffe://cluster.local/ns/shop/sa/front\", "
				     "\"cluster.local/ns/bank/sa/*\"]}}]}]}"));
	ALLOWED(&f, FRONT, FAR, 80);
	ALLOWED(&f, OTHER, FAR, 80);
	DENIED(&f, NULL, FAR, 80);
	DENIED(&f, "spiffe://cluster.local/ns/shop/sa/fronts", FAR, 80);
	DENIED(&f, "spiffe://else.org/ns/shop/sa/front", FAR, 80);
	/* cluster.local is the mesh's own trust domain by any name, and no other's. */
	load(f.model, "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: {trustDomain: mesh.org}\n");
	settle(&f);
	DENIED(&f, OTHER, FAR, 80);
	ALLOWED(&f, "spiffe://mesh.org/ns/bank/sa/ledger", FAR, 80);
}

static void not_forms_need_a_known_peer_to_allow(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, POLICY("a", "shop", "{rules: [{from: [{source: {notNamespaces: [bank]}}]}]}"));
	ALLOWED(&f, FRONT, FAR, 80);
	DENIED(&f, OTHER, FAR, 80);
	DENIED(&f, NULL, FAR, 80);
	DENIED(&f, SHAPELESS, FAR, 80);
	load(f.model, POLICY("a", "shop", "{action: DENY, rules: [{from: [{source: {notNamespaces: [shop]}}]}]}"));
	settle(&f);
	ALLOWED(&f, FRONT, FAR, 80);
	DENIED(&f, OTHER, FAR, 80);
	DENIED(&f, NULL, FAR, 80);
	DENIED(&f, SHAPELESS, FAR, 80);
}

static void what_needs_l7_stays_closed(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, POLICY("a", "shop", "{rules: [{to: [{operation: {ports: ['80'], methods: [GET]}}]}, {to: [{operation: {ports: ['81']}}]}]}"));
	DENIED(&f, FRONT, FAR, 80);
	ALLOWED(&f, FRONT, FAR, 81);
	load(f.model, POLICY("a", "shop", "{action: DENY, rules: [{to: [{operation: {ports: ['80'], paths: [/x]}}]}]}"));
	settle(&f);
	DENIED(&f, FRONT, FAR, 80);
	ALLOWED(&f, FRONT, FAR, 81);
	load(f.model, POLICY("a", "shop", "{action: DENY, rules: [{when: [{key: 'request.headers[x]', values: [z]}]}]}"));
	settle(&f);
	DENIED(&f, FRONT, FAR, 81);
	load(f.model, POLICY("a", "shop", "{rules: [{when: [{key: no.such.key, notValues: [z]}]}]}"));
	settle(&f);
	DENIED(&f, FRONT, FAR, 81);
}

static void families_are_apart(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, POLICY("a", "shop", "{rules: [{from: [{source: {ipBlocks: ['::/0']}}]}]}"));
	ALLOWED(&f, NULL, "2001:db8::1", 80);
	DENIED(&f, NULL, FAR, 80);
	load(f.model, POLICY("a", "shop", "{rules: [{from: [{source: {ipBlocks: [0.0.0.0/0], notIpBlocks: [203.0.113.0/24]}}]}]}"));
	settle(&f);
	DENIED(&f, NULL, "2001:db8::1", 80);
	DENIED(&f, NULL, FAR, 80);
	ALLOWED(&f, NULL, "203.0.112.7", 80);
}

static void probes_of_this_node(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, MTLS("mesh", "istio-system", "{mtls: {mode: STRICT}}") POLICY("none", "shop", "{}"));
	ALLOWED(&f, NULL, "10.9.9.9", 80);
	assert_string_equal(judge(&f, "web", NULL, "10.9.9.9", 80).policy, "probes of this node");
	DENIED(&f, NULL, "10.9.9.8", 80);
	DENIED(&f, FRONT, "10.9.9.9", 80); /* one who has an identity is judged by it */
	assert_false(judge(&f, "far", NULL, "10.9.9.9", 80).allowed); /* another node's workload has other probes */
	load(f.model, "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: {probes: {cidrs: [10.244.0.0/30]}}\n");
	settle(&f);
	ALLOWED(&f, NULL, "10.244.0.1", 80);
	load(f.model, "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\n"
		      "spec: {probes: {ownNode: false, cidrs: [10.244.0.0/30]}}\n");
	settle(&f);
	DENIED(&f, NULL, "10.9.9.9", 80);
	ALLOWED(&f, NULL, "10.244.0.1", 80);
	load(f.model, "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: {probes: {ownNode: true}}\n");
	settle(&f);
	ALLOWED(&f, NULL, "10.9.9.9", 80);
	DENIED(&f, NULL, "10.244.0.1", 80);
	load(f.model, POLICY("not", "shop", "{action: DENY, rules: [{to: [{operation: {notPorts: ['80']}}]}]}"));
	settle(&f);
	ALLOWED(&f, NULL, "10.9.9.9", 80);
	DENIED(&f, NULL, "10.9.9.9", 81);
}

static void dry_run_only_tells(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
		  "metadata: {name: d, namespace: shop, annotations: {istio.io/dry-run: 'true'}}\nspec: {}\n");
	ALLOWED(&f, FRONT, FAR, 80);
	assert_true(judge(&f, "web", FRONT, FAR, 80).dry_run_denied);
	/* What is allowed by what is in force would be so then. */
	load(f.model, POLICY("a", "shop", "{rules: [{from: [{source: {namespaces: [shop]}}]}]}"));
	settle(&f);
	assert_false(judge(&f, "web", FRONT, FAR, 80).dry_run_denied);
	DENIED(&f, OTHER, FAR, 80);
	assert_false(judge(&f, "web", OTHER, FAR, 80).dry_run_denied);
}

static void add_wide(struct weft_buf *yaml, const char *name, const char *action, size_t combinations)
{
	weft_buf_printf(yaml,
			"---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: %s, namespace: shop}\n"
			"spec: {action: %s, rules: [{from: [",
			name, action);
	for (size_t i = 0; i < combinations; i++)
		weft_buf_printf(yaml, "%s{source: {ipBlocks: [192.0.2.%zu]}}", i ? ", " : "", i);
	weft_buf_printf(yaml, "]}]}\n");
}

static void what_does_not_fit_is_named_and_closed(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	weft_buf_done_on_exit struct weft_buf yaml = WEFT_BUF_INIT;

	(void)state;
	add_wide(&yaml, "a", "ALLOW", 128);
	add_wide(&yaml, "b", "ALLOW", 125); /* and one clause for probes: 254 */
	start(&f, yaml.data);
	assert_int_equal(f.problems.count, 0);
	ALLOWED(&f, NULL, "192.0.2.124", 80);
	weft_buf_clear(&yaml);
	add_wide(&yaml, "c", "ALLOW", 1);
	load(f.model, yaml.data);
	settle(&f);
	assert_int_equal(f.problems.count, 1);
	assert_string_equal(f.problems.item[0].resource, "AuthorizationPolicy shop/c");
	assert_non_null(strstr(f.problems.item[0].text, "allows nothing"));
	ALLOWED(&f, NULL, "192.0.2.124", 80);
	/* It is told as long as it is so. */
	settle(&f);
	assert_int_equal(f.problems.count, 1);
	weft_buf_clear(&yaml);
	add_wide(&yaml, "d", "DENY", 3);
	load(f.model, yaml.data);
	settle(&f);
	assert_int_equal(f.problems.count, 2);
	DENIED(&f, NULL, "192.0.2.124", 80);
	assert_string_equal(judge(&f, "web", NULL, "192.0.2.124", 80).policy, "AuthorizationPolicy shop/d");
	weft_model_remove(f.model, WEFT_KIND_AUTHORIZATION_POLICY, "shop", "d");
	weft_model_remove(f.model, WEFT_KIND_AUTHORIZATION_POLICY, "shop", "c");
	settle(&f);
	assert_int_equal(f.problems.count, 0);
}

static void too_many_prefixes_are_named_and_closed(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	weft_buf_done_on_exit struct weft_buf yaml = WEFT_BUF_INIT;

	(void)state;
	weft_buf_printf(&yaml, "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
			       "spec: {action: DENY, rules: [{from: [{source: {ipBlocks: [");
	for (unsigned int i = 0; i < 1024; i++)
		weft_buf_printf(&yaml, "%s10.0.%u.%u", i ? ", " : "", i / 256, i % 256);
	weft_buf_printf(&yaml, "]}}, {source: {ipBlocks: [10.2.0.0/16]}}]}]}\n");
	start(&f, yaml.data);
	assert_int_equal(f.problems.count, 1);
	assert_non_null(strstr(f.problems.item[0].text, "denies all"));
	DENIED(&f, FRONT, FAR, 80);
}

/* ---- who takes part ---- */

struct attached {
	char text[1024];
};

static int note_attached(void *context, const struct weft_attached *attached)
{
	struct attached *list = context;
	size_t size = strlen(list->text);
	char shown[WEFT_ADDR_TEXT];

	snprintf(list->text + size, sizeof(list->text) - size, "%s/%s in %s as %s at %s (%zu)\n", attached->namespace, attached->name,
		 attached->netns, attached->identity,
		 attached->addr_count ? weft_addr_format(attached->addr, shown) : "", attached->addr_count);
	return 0;
}

static void check_attached(const struct fixture *f, const char *want)
{
	struct attached list = { "" };

	assert_int_equal(weft_model_attached(f->model, note_attached, &list), 0);
	assert_string_equal(list.text, want);
}

static bool takes_tunnel(const struct fixture *f, const char *name)
{
	uint32_t id = id_of(f, name);
	const struct weft_workload *row = toy_big_find(f->toy, WEFT_MAP_WORKLOAD, &id);

	return row && row->flags & WEFT_WORKLOAD_F_TUNNEL;
}

static void enrolment(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, "apiVersion: v1\nkind: Pod\nmetadata: {name: out, namespace: shop, labels: {istio.io/dataplane-mode: none, "
		  "networking.istio.io/tunnel: http}}\nstatus: {podIP: 10.1.0.3}\n---\n"
		  "apiVersion: v1\nkind: Pod\nmetadata: {name: host, namespace: shop}\nspec: {hostNetwork: true}\nstatus: {podIP: 10.9.9.9}\n---\n"
		  "apiVersion: v1\nkind: Pod\nmetadata: {name: over, namespace: shop}\nstatus: {podIP: 10.1.0.4, phase: Failed}\n---\n"
		  "apiVersion: v1\nkind: Pod\nmetadata: {name: alone, namespace: bare}\nstatus: {podIP: 10.1.0.5}\n---\n"
		  "apiVersion: v1\nkind: Pod\nmetadata: {name: own, namespace: bare, labels: {istio.io/dataplane-mode: ambient}}\n"
		  "status: {podIP: 10.1.0.6}\n---\n"
		  "apiVersion: v1\nkind: Pod\nmetadata: {name: said, namespace: bare, annotations: {ambient.istio.io/redirection: enabled}}\n"
		  "status: {podIP: 10.1.0.7}\n---\n"
		  "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: bare, annotations: {weft.dev/netns: "
		  "'pid:77'}}\nspec: {address: 10.3.0.1, labels: {istio.io/dataplane-mode: ambient}}\n");
	assert_true(takes_tunnel(&f, "web") && takes_tunnel(&f, "own") && takes_tunnel(&f, "said") && takes_tunnel(&f, "vm"));
	assert_false(takes_tunnel(&f, "out") || takes_tunnel(&f, "host") || takes_tunnel(&f, "over") || takes_tunnel(&f, "alone"));
	assert_true(weft_model_setting_flags(f.model) & WEFT_SETTING_F_SECURE);
	load(f.model, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
	settle(&f);
	assert_false(takes_tunnel(&f, "web"));
	check_attached(&f, "bare/vm in pid:77 as spiffe://cluster.local/ns/bare/sa/default at 10.3.0.1 (1)\n");
}

static void nothing_is_there_where_nobody_takes_part(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, POLICY("a", "shop", "{}"));
	assert_true(f.toy->big_count > 0);
	assert_true(weft_model_setting_flags(f.model) & WEFT_SETTING_F_POLICY);
	load(f.model, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
	settle(&f);
	assert_int_equal(f.toy->big_count, 0);
	assert_false(weft_model_setting_flags(f.model) & (WEFT_SETTING_F_SECURE | WEFT_SETTING_F_POLICY));
	check_attached(&f, "");
	load(f.model, "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: {sameNode: Encrypted}\n");
	assert_true(weft_model_setting_flags(f.model) & WEFT_SETTING_F_ENCRYPT_SAME_NODE);
}

static void attaching_at_run_time(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;

	(void)state;
	start(&f, "apiVersion: v1\nkind: Pod\nmetadata: {name: late, namespace: bare}\nspec: {serviceAccountName: l}\nstatus: {podIP: 10.1.0.5}\n");
	assert_int_equal(weft_model_attach(f.model, "bare", "late", "n1"), 0);
	assert_int_equal(weft_model_attach(f.model, "bare", "late", "n2"), 0);
	assert_int_equal(weft_model_attach(f.model, "bare", "nobody-yet", "n3"), 0);
	load(f.model, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
	settle(&f);
	check_attached(&f, "bare/late in n2 as spiffe://cluster.local/ns/bare/sa/l at 10.1.0.5 (1)\n");
	assert_true(takes_tunnel(&f, "late"));
	assert_int_equal(weft_model_detach(f.model, "bare", "late"), 0);
	assert_int_equal(weft_model_detach(f.model, "bare", "late"), -ENOENT);
	settle(&f);
	check_attached(&f, "");
}

static void one_number_for_one_identity(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	const struct weft_workload *web, *twin, *odd;
	uint32_t id;

	(void)state;
	start(&f, "apiVersion: v1\nkind: Pod\nmetadata: {name: twin, namespace: shop}\nspec: {nodeName: here, serviceAccountName: web}\n---\n"
		  "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: odd, namespace: shop, annotations: {weft.dev/netns: o}}\n"
		  "spec: {address: 10.3.0.1, serviceAccount: 'a/../b'}\n");
	id = id_of(&f, "web");
	web = toy_big_find(f.toy, WEFT_MAP_WORKLOAD, &id);
	id = id_of(&f, "twin");
	twin = toy_big_find(f.toy, WEFT_MAP_WORKLOAD, &id);
	id = id_of(&f, "odd");
	odd = toy_big_find(f.toy, WEFT_MAP_WORKLOAD, &id);
	assert_true(web->source && web->source == twin->source);
	assert_int_equal(odd->source, 0); /* no SPIFFE id can be made of that */
}

/* ---- what a commit tells ---- */

/* Its policies, and whom clients expect there, would be those of whoever writes such an entry. */
static void a_pods_address_is_the_pods(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	struct weft_mesh_workload workload;
	struct weft_addr addr;

	(void)state;
	start(&f, "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: squatter, namespace: bank, creationTimestamp: "
		  "\"2001-01-01T00:00:00Z\", labels: {istio.io/dataplane-mode: ambient}}\nspec: {address: 10.1.0.1}\n"
		  MTLS("mesh", "shop", "{mtls: {mode: STRICT}}"));
	assert_int_equal(weft_addr_parse("10.1.0.1", &addr), 0);
	assert_int_equal(weft_mesh_by_addr(&f.mesh, &addr, &workload), 0);
	assert_string_equal(workload.name, "web");
	load(f.model, "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, deletionTimestamp: \"2025-01-01T00:00:00Z\", labels: {app: web}, "
		      "annotations: {weft.dev/netns: web}}\nspec: {nodeName: here, serviceAccountName: web}\nstatus: {podIPs: [{ip: 10.1.0.1}]}\n");
	settle(&f);
	assert_int_equal(weft_mesh_by_addr(&f.mesh, &addr, &workload), 0);
	assert_string_equal(workload.name, "web");
}

/* As weft_hash64() goes on from word to word. */
static uint64_t hash_on(uint64_t hash, uint64_t word)
{
	__extension__ unsigned __int128 product = (unsigned __int128)(hash ^ word) * 0xff51afd7ed558ccdull;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_until(const struct weft_buf *block, size_t end)
{
	uint64_t hash = 1 ^ block->size * 0x9e3779b97f4a7c15ull, word;

	for (size_t at = 0; at < end; at += sizeof(word)) {
		memcpy(&word, block->data + at, sizeof(word));
		hash = hash_on(hash, word);
	}
	return hash;
}

static bool is_alnum(uint64_t word)
{
	for (; word; word >>= 8)
		if (!((word & 0xff) >= 'a' && (word & 0xff) <= 'z') && !((word & 0xff) >= 'A' && (word & 0xff) <= 'Z') &&
		    !((word & 0xff) >= '0' && (word & 0xff) <= '9'))
			return false;
	return true;
}

static const struct weft_buf *block_of(const struct fixture *f, const char *name)
{
	const struct weft_secure_set *set = weft_secure_set_of(f->model, id_of(f, name));

	assert_non_null(set);
	return &set->block;
}

static void load_allow(struct fixture *f, const char *namespace, const char *principal)
{
	char yaml[512];

	snprintf(yaml, sizeof(yaml), POLICY("p", "%s", "{rules: [{from: [{source: {principals: [\"%s\"]}}]}]}"), namespace, principal);
	load(f->model, yaml);
}

/* Whose policy is whose must not hang on a hash: a tenant would write a policy that takes the place of another tenant's. */
static void sets_of_one_hash_are_two(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	const struct weft_buf *mine, *other;
	struct weft_workload *row[2];
	uint64_t before, target, words[2] = { 0 };
	char principal[] = "firstwrdsecondwrd.bank";
	uint32_t id[2];
	size_t at;

	(void)state;
	start(&f, "apiVersion: v1\nkind: Pod\nmetadata: {name: vault, namespace: bank, labels: {istio.io/dataplane-mode: ambient}, "
		  "annotations: {weft.dev/netns: vault}}\nspec: {nodeName: here}\nstatus: {podIP: 10.1.0.3}\n");
	load_allow(&f, "shop", principal);
	load_allow(&f, "bank", "cluster.local.ns.bank.");
	settle(&f);
	mine = block_of(&f, "web");
	other = block_of(&f, "vault");
	assert_int_equal(mine->size, other->size);
	at = (size_t)((char *)memmem(mine->data, mine->size, "firstwrd", 8) - mine->data);
	assert_int_equal(at % 8, 0);
	before = hash_until(mine, at);
	/* The word behind the first is what makes both the same; it has to be text. */
	memcpy(&target, other->data + at + 8, sizeof(target));
	target ^= hash_until(other, at + 8);
	for (uint64_t n = 0; n < 1u << 24 && !words[1]; n++) {
		for (int i = 0; i < 8; i++)
			((char *)words)[i] = (char)('a' + (n >> 3 * i & 7));
		if (is_alnum(target ^ hash_on(before, words[0])))
			words[1] = target ^ hash_on(before, words[0]);
	}
	assert_true(words[1]);
	memcpy(principal, words, sizeof(words));
	memcpy(principal + 16, other->data + at + 16, 6);
	load_allow(&f, "shop", principal);
	settle(&f);
	mine = block_of(&f, "web");
	other = block_of(&f, "vault");
	assert_int_equal(weft_hash64(mine->data, mine->size, 1), weft_hash64(other->data, other->size, 1));
	for (int i = 0; i < 2; i++) {
		id[i] = id_of(&f, i ? "vault" : "web");
		row[i] = toy_big_find(f.toy, WEFT_MAP_WORKLOAD, &id[i]);
		assert_non_null(row[i]);
	}
	assert_int_not_equal(row[0]->policy, row[1]->policy);
	assert_true(judge(&f, "vault", "spiffe://cluster.local.ns.bank.", FAR, 80).allowed);
	assert_false(judge(&f, "web", "spiffe://cluster.local.ns.bank.", FAR, 80).allowed);
}

static void who_is_judged_again(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	struct weft_plan plan = { 0 };
	uint32_t id;

	(void)state;
	start(&f, "");
	commit(f.model, f.toy, SECOND, &plan, NULL);
	assert_int_equal(plan.judge.size, 0);
	assert_false(plan.mesh_changed);
	load(f.model, POLICY("a", "shop", "{}"));
	commit(f.model, f.toy, SECOND, &plan, NULL);
	id = id_of(&f, "web");
	assert_int_equal(plan.judge.size, sizeof(id));
	assert_memory_equal(plan.judge.data, &id, sizeof(id));
	assert_true(plan.mesh_changed);
	/* A batch that failed: asked again. */
	weft_model_distrust(f.model);
	commit(f.model, f.toy, SECOND, &plan, NULL);
	assert_int_equal(plan.judge.size, sizeof(id));
	assert_true(plan.mesh_changed && plan.batch.size);
	commit(f.model, f.toy, SECOND, &plan, NULL);
	assert_int_equal(plan.judge.size, 0);
	assert_false(plan.mesh_changed);
	weft_plan_done(&plan);
}

static void a_map_that_is_too_small_is_named(void **state)
{
	static const uint32_t maps[] = { WEFT_MAP_WORKLOAD, WEFT_MAP_POLICY, WEFT_MAP_POLICY_SOURCE, WEFT_MAP_POLICY_CIDR, WEFT_MAP_POLICY_PORT };

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(maps); i++) {
		struct weft_model_options options = { .node = "here" };
		struct weft_plan plan = { 0 };
		struct weft_problems problems = { 0 };
		struct weft_err err = { 0 };
		struct weft_model *model;

		for (int map = 0; map < WEFT_MAP_MAX_; map++)
			options.capacity.max_entries[map] = (uint32_t)map == maps[i] ? 0 : TOY_MAX;
		model = weft_model_new(&options, weft_names_new());
		assert_non_null(model);
		load(model, MESH POLICY("a", "shop", "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}], to: [{operation: {ports: ['80']}}]}]}"));
		assert_int_equal(weft_model_commit(model, SECOND, NULL, 0, &plan, &problems, &err), -ENOSPC);
		assert_true(plan.need.max_entries[maps[i]] > 0);
		assert_non_null(strstr(err.text, "weft_"));
		options.capacity.max_entries[maps[i]] = 64;
		assert_int_equal(weft_model_grow(model, &options.capacity), 0);
		assert_int_equal(weft_model_commit(model, SECOND, NULL, 0, &plan, &problems, &err), 0);
		weft_plan_done(&plan);
		weft_problems_done(&problems);
		weft_model_free(model);
	}
}

/* ---- in words ---- */

static int note_policy(void *context, const struct weft_policy_info *policy)
{
	struct weft_buf *out = context;
	int r = weft_buf_printf(out, "%s %s %s%s%s %zu %zu: ", policy->name, policy->action, policy->scope, policy->dry_run ? " dry" : "",
				policy->beyond ? " beyond" : "", policy->workloads, policy->clauses);

	if (r == 0)
		r = weft_policy_words(policy->resource, out);
	return r < 0 ? r : weft_buf_add(out, "\n", 1);
}

static void in_words(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;

	(void)state;
	start(&f, MTLS("m", "shop", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {81: {mode: DISABLE}}}")
		  MTLS("none", "bank", "{}") POLICY("empty", "shop", "{}") POLICY("all", "istio-system", "{action: DENY, rules: [{}]}")
		  POLICY("long", "shop",
			 "{selector: {matchLabels: {app: web}}, rules: [{from: [{source: {principals: [\"*\", a/b], notIpBlocks: [10.0.0.0/8, \"::/0\"]}}, "
			 "{source: {requestPrincipals: [x]}}], to: [{operation: {ports: ['80', '81']}}, {operation: {methods: [GET]}}], "
			 "when: [{key: source.namespace, values: [a]}, {key: mood, notValues: [b]}]}, {to: [{operation: {notPorts: ['1']}}]}]}"));
	assert_int_equal(weft_model_policies(f.model, note_policy, &text), 0);
	assert_string_equal(
		text.data,
		"PeerAuthentication bank/none UNSET namespace 0 0: UNSET\n"
		"PeerAuthentication shop/m STRICT workloads 2 1: STRICT; port 81 DISABLE\n"
		"AuthorizationPolicy istio-system/all DENY mesh 2 1: everybody\n"
		"AuthorizationPolicy shop/empty ALLOW namespace 2 0: no rules\n"
		"AuthorizationPolicy shop/long ALLOW workloads 2 1: from {principals: [*, a/b], notIpBlocks: [10.0.0.0/8, ::/0]} or "
		"{requestPrincipals: needs L7} to {ports: [80, 81]} or {methods: needs L7} when source.namespace {values: [a]} and mood "
		"{notValues: [b], key: needs L7} | to {notPorts: [1]}\n");
}

/* ---- the block ---- */

static void who_is_who(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	struct weft_mesh_workload workload;
	struct weft_addr addr;

	(void)state;
	start(&f, "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n");
	assert_int_equal(weft_mesh_generation(&f.mesh), 3);
	assert_string_equal(weft_mesh_trust_domain(&f.mesh), "cluster.local");
	assert_int_equal(weft_addr_parse("fd00::1", &addr), 0);
	assert_int_equal(weft_mesh_by_addr(&f.mesh, &addr, &workload), 0);
	assert_int_equal(workload.id, id_of(&f, "web"));
	assert_string_equal(workload.identity, "spiffe://cluster.local/ns/shop/sa/web");
	assert_string_equal(workload.name, "web");
	assert_string_equal(workload.namespace, "shop");
	assert_string_equal(workload.app, "web");
	assert_string_equal(workload.region, "eu");
	assert_string_equal(workload.owner_kind, "pod");
	assert_int_equal(weft_mesh_by_id(&f.mesh, id_of(&f, "far"), &workload), 0);
	assert_int_equal(weft_mesh_by_id(&f.mesh, 999, &workload), -ENOENT);
	assert_int_equal(weft_addr_parse("10.1.0.99", &addr), 0);
	assert_int_equal(weft_mesh_by_addr(&f.mesh, &addr, &workload), -ENOENT);
	assert_string_equal(weft_mesh_service_host(&f.mesh, 1), "web.shop.svc.cluster.local");
	assert_string_equal(weft_mesh_service_host(&f.mesh, 2), "");
}

static void an_unknown_destination_is_denied(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	struct weft_peer peer = { .identity = FRONT };
	struct weft_verdict verdict;

	(void)state;
	start(&f, "");
	weft_mesh_judge(&f.mesh, 999, &peer, 80, &verdict);
	assert_false(verdict.allowed);
}

/* Each byte changed, each end cut off: refused, or a block that can be used. */
static void a_broken_block(void **state)
{
	weft_cleanup(fixture_done) struct fixture f;
	struct weft_mesh mesh;
	struct weft_err err;
	size_t refused = 0;

	(void)state;
	start(&f, POLICY("a", "shop", "{rules: [{from: [{source: {principals: [\"a*\"], ipBlocks: [10.0.0.0/8]}}], to: [{operation: {ports: ['80']}}]}]}")
		  "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n");
	for (size_t size = 0; size < f.block.size; size++)
		assert_int_equal(weft_mesh_open(f.block.data, size, &mesh, &err), -EBADMSG);
	for (size_t at = 0; at < f.block.size; at++)
		for (unsigned int bit = 0; bit < 8; bit++) {
			struct weft_peer peer = { .identity = FRONT };
			struct weft_mesh_workload workload;
			struct weft_verdict verdict;

			f.block.data[at] ^= (char)(1u << bit);
			if (weft_mesh_open(f.block.data, f.block.size, &mesh, &err) == 0) {
				weft_mesh_judge(&mesh, id_of(&f, "web"), &peer, 80, &verdict);
				weft_mesh_by_id(&mesh, id_of(&f, "web"), &workload);
				weft_mesh_by_addr(&mesh, &peer.addr, &workload);
			} else {
				refused++;
			}
			f.block.data[at] ^= (char)(1u << bit);
		}
	assert_true(refused > f.block.size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_policies_all_is_allowed),
		cmocka_unit_test(strict_refuses_who_has_no_identity),
		cmocka_unit_test(the_narrower_scope_wins),
		cmocka_unit_test(of_one_scope_the_oldest_counts),
		cmocka_unit_test(a_selector_in_the_root_namespace),
		cmocka_unit_test(allow_without_rules_denies_all),
		cmocka_unit_test(deny_comes_first),
		cmocka_unit_test(principals_with_and_without_scheme),
		cmocka_unit_test(not_forms_need_a_known_peer_to_allow),
		cmocka_unit_test(what_needs_l7_stays_closed),
		cmocka_unit_test(families_are_apart),
		cmocka_unit_test(probes_of_this_node),
		cmocka_unit_test(dry_run_only_tells),
		cmocka_unit_test(what_does_not_fit_is_named_and_closed),
		cmocka_unit_test(too_many_prefixes_are_named_and_closed),
		cmocka_unit_test(enrolment),
		cmocka_unit_test(nothing_is_there_where_nobody_takes_part),
		cmocka_unit_test(attaching_at_run_time),
		cmocka_unit_test(one_number_for_one_identity),
		cmocka_unit_test(a_pods_address_is_the_pods),
		cmocka_unit_test(sets_of_one_hash_are_two),
		cmocka_unit_test(who_is_judged_again),
		cmocka_unit_test(a_map_that_is_too_small_is_named),
		cmocka_unit_test(in_words),
		cmocka_unit_test(who_is_who),
		cmocka_unit_test(an_unknown_destination_is_denied),
		cmocka_unit_test(a_broken_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
