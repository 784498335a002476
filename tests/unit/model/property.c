/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random edits, one model that follows them step by step, and after each step
 * a model made from nothing: both must show a connect the same. Between two
 * writes of a batch every address that has endpoints before and after must
 * resolve to all of the old ones or all of the new ones. Some batches stop
 * half way: the next one must repair that. What a connect() could have seen
 * is not given to others before its grace is over.
 */
#include "lib.h"

static uint64_t seed;

static uint32_t draw(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 32) % below);
}

#define DOCUMENTS 22

/* The YAML of each document that exists now; NULL: it does not. */
static char *document[DOCUMENTS];

static const struct {
	enum weft_kind kind;
	const char *name;
} identity[DOCUMENTS] = {
	{ WEFT_KIND_SERVICE, "s0" },	     { WEFT_KIND_SERVICE, "s1" },	 { WEFT_KIND_SERVICE, "s2" },
	{ WEFT_KIND_SERVICE, "s3" },	     { WEFT_KIND_ENDPOINT_SLICE, "e0" }, { WEFT_KIND_ENDPOINT_SLICE, "e1" },
	{ WEFT_KIND_ENDPOINT_SLICE, "e2" },  { WEFT_KIND_ENDPOINT_SLICE, "e3" }, { WEFT_KIND_ENDPOINT_SLICE, "e4" },
	{ WEFT_KIND_ENDPOINT_SLICE, "e5" },  { WEFT_KIND_POD, "p0" },		 { WEFT_KIND_POD, "p1" },
	{ WEFT_KIND_POD, "p2" },	     { WEFT_KIND_POD, "p3" },		 { WEFT_KIND_NODE, "here" },
	{ WEFT_KIND_NODE, "there" },	     { WEFT_KIND_DESTINATION_RULE, "d0" }, { WEFT_KIND_DESTINATION_RULE, "d1" },
	{ WEFT_KIND_SERVICE_ENTRY, "x0" },   { WEFT_KIND_SERVICE_ENTRY, "x1" },	 { WEFT_KIND_WORKLOAD_ENTRY, "w0" },
	{ WEFT_KIND_MESH_CONFIG, "mesh" },
};

static const char *const word[] = { "false", "true" };
static const char *const node[] = { "here", "there" };

/* Of no two the same: of one age, it would matter who came first, and nothing tells that to a model that gets all at once. */
static unsigned int day(const char *name)
{
	return 1 + draw(3) * 8 + (name[0] == 'x') * 4 + (unsigned int)(name[1] - '0');
}

static void write_service(struct weft_buf *out, const char *name)
{
	weft_buf_printf(out,
			"apiVersion: v1\nkind: Service\nmetadata: {name: %s, creationTimestamp: \"2024-01-%02uT00:00:00Z\"}\n"
			"spec:\n  clusterIP: 10.96.0.%u\n  selector: {app: a%u}\n",
			name, day(name), 1 + draw(3), draw(3));
	if (draw(3) == 0)
		weft_buf_printf(out, "  internalTrafficPolicy: Local\n");
	if (draw(3) == 0)
		weft_buf_printf(out, "  trafficDistribution: PreferClose\n");
	if (draw(4) == 0)
		weft_buf_printf(out, "  sessionAffinity: ClientIP\n");
	if (draw(4) == 0)
		weft_buf_printf(out, "  externalIPs: [10.1.0.%u, 192.0.2.%u]\n", 1 + draw(6), draw(3));
	if (draw(2)) {
		weft_buf_printf(out, "  type: NodePort\n");
		weft_buf_printf(out, "  ports: [{name: http, port: 80, targetPort: 8080, nodePort: %u}, "
				     "{name: dns, port: 53, protocol: UDP}]\n",
				30000 + draw(2));
	} else {
		weft_buf_printf(out, "  ports: [{name: http, port: 80, targetPort: 8080}]\n");
	}
}

static void write_slice(struct weft_buf *out, const char *name)
{
	uint32_t count = draw(4), first = draw(6);

	weft_buf_printf(out,
			"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
			"metadata: {name: %s, labels: {kubernetes.io/service-name: s%u}}\naddressType: IPv4\n"
			"ports: [{name: http, port: 808%u}, {name: dns, port: 53, protocol: UDP}]\nendpoints:%s\n",
			name, draw(4), draw(2), count ? "" : " []");
	for (uint32_t i = 0; i < count; i++)
		weft_buf_printf(out,
				"- {addresses: [10.1.0.%u], nodeName: %s, zone: z%u, conditions: {ready: %s, serving: %s, "
				"terminating: %s}}\n",
				1 + (first + i) % 6, node[draw(2)], draw(2), word[draw(4) > 0], word[draw(2)],
				word[draw(2)]);
}

static void write_document(size_t which, struct weft_buf *out)
{
	const char *name = identity[which].name;
	static const char *const simple[] = { "ROUND_ROBIN", "RANDOM", "PASSTHROUGH", "LEAST_REQUEST" };
	static const char *const host[] = { "s0", "s1.default", "*.svc.cluster.local", "x.example" };
	static const char *const policy[] = { "Cut", "Drain", "Leave" };

	switch (identity[which].kind) {
	case WEFT_KIND_SERVICE:
		write_service(out, name);
		break;
	case WEFT_KIND_ENDPOINT_SLICE:
		write_slice(out, name);
		break;
	case WEFT_KIND_POD:
		weft_buf_printf(out,
				"apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: a%u}, creationTimestamp: "
				"\"2024-01-%02uT00:00:00Z\"}\n"
				"spec: {nodeName: %s}\nstatus: {phase: Running, podIP: 10.1.0.%u, conditions: [{type: "
				"Ready, status: \"%s\"}]}\n",
				name, draw(3), day(name), node[draw(2)], 1 + draw(6), draw(4) ? "True" : "False");
		break;
	case WEFT_KIND_NODE:
		weft_buf_printf(out,
				"apiVersion: v1\nkind: Node\nmetadata: {name: %s, labels: {topology.kubernetes.io/zone: "
				"z%u}}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.%u}]}\n",
				name, draw(2), draw(3));
		break;
	case WEFT_KIND_DESTINATION_RULE:
		weft_buf_printf(out,
				"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: %s}\n"
				"spec: {host: \"%s\", trafficPolicy: {loadBalancer: {simple: %s}}}\n",
				name, host[draw(4)], simple[draw(4)]);
		break;
	case WEFT_KIND_SERVICE_ENTRY:
		weft_buf_printf(out,
				"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
				"metadata: {name: %s, creationTimestamp: \"2024-01-%02uT00:00:00Z\"}\n"
				"spec:\n  hosts: [%s.example]\n  addresses: [198.51.100.%u]\n  resolution: STATIC\n"
				"  location: MESH_EXTERNAL\n  ports: [{number: 443, name: tls, protocol: TLS}]\n"
				"  endpoints: [{address: 10.2.0.1, weight: %u}, {address: 10.2.0.2, weight: %u}]\n",
				name, day(name), draw(2) ? "x" : name, draw(2), 1 + draw(9), 1 + draw(9));
		break;
	case WEFT_KIND_WORKLOAD_ENTRY:
		weft_buf_printf(out,
				"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: %s}\n"
				"spec: {address: 10.1.0.%u, labels: {app: a%u}, weight: %u}\n",
				name, 1 + draw(6), draw(3), 1 + draw(5));
		break;
	default:
		weft_buf_printf(out,
				"apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: %s}\n"
				"spec: {goneEndpoint: {policy: %s, timeout: 3s}, optOut: {cidrs: [10.%u.0.0/16]}}\n",
				name, policy[draw(3)], draw(4));
	}
}

static void edit(struct weft_model *model)
{
	size_t which = draw(DOCUMENTS);
	const char *namespace = identity[which].kind == WEFT_KIND_NODE || identity[which].kind == WEFT_KIND_MESH_CONFIG ?
					"" :
					"default";
	struct weft_buf text = WEFT_BUF_INIT;

	free(document[which]);
	document[which] = NULL;
	if (draw(5) == 0) {
		weft_model_remove(model, identity[which].kind, namespace, identity[which].name);
		return;
	}
	write_document(which, &text);
	load(model, text.data);
	document[which] = text.data;
}

/* The frontends that chose from something before, and what. */
struct watch {
	struct toy_row row;
	struct weft_buf before, after;
};

struct watches {
	struct watch item[64];
	size_t count;
};

static void endpoints_of(const struct toy *toy, const struct weft_frontend *frontend, struct weft_buf *out)
{
	char *line[64], shown[WEFT_ADDR_TEXT];
	size_t count = 0;

	weft_buf_clear(out);
	for (uint32_t i = 0; i < frontend->count; i++) {
		uint32_t id = toy->slot[frontend->slot + i].endpoint;
		const struct weft_endpoint *endpoint = &toy->endpoint[WEFT_ENDPOINT_INDEX(id)];

		assert_int_equal(endpoint->id, id);
		assert_in_range(endpoint->state, WEFT_ENDPOINT_READY, WEFT_ENDPOINT_DRAINING);
		assert_int_equal(endpoint->service, frontend->service);
		assert_true(asprintf(&line[count++], "%s ",
				     weft_addr_port_format(&endpoint->addr, ntohs(endpoint->port), shown)) > 0);
	}
	qsort(line, count, sizeof(line[0]), by_text);
	for (size_t i = 0; i < count; i++) {
		weft_buf_add(out, line[i], strlen(line[i]));
		free(line[i]);
	}
	weft_buf_add(out, "", 0);
}

static void look(struct toy *toy, void *context)
{
	struct watches *watches = context;
	struct weft_buf now = WEFT_BUF_INIT;

	for (size_t i = 0; i < watches->count; i++) {
		struct watch *watch = &watches->item[i];
		struct toy_row *row = toy_find(toy, WEFT_MAP_FRONTEND, &watch->row.key);

		assert_non_null(row);
		endpoints_of(toy, &row->frontend, &now);
		if (strcmp(now.data, watch->before.data) != 0 && strcmp(now.data, watch->after.data) != 0)
			fail_msg("neither old nor new: %s\nold: %s\nnew: %s", now.data, watch->before.data,
				 watch->after.data);
	}
	weft_buf_done(&now);
}

static void apply_watched(struct toy *toy, const struct weft_buf *batch)
{
	struct toy *after = malloc(sizeof(*after));
	struct watches watches = { 0 };

	memcpy(after, toy, sizeof(*after));
	toy_apply(after, batch, NULL, NULL);
	for (size_t i = 0; i < toy->row_count[WEFT_MAP_FRONTEND]; i++) {
		struct toy_row *old = &toy->row[WEFT_MAP_FRONTEND][i];
		struct toy_row *new = toy_find(after, WEFT_MAP_FRONTEND, &old->key);
		struct watch *watch = &watches.item[watches.count];

		if (!new || !old->frontend.count || !new->frontend.count)
			continue;
		assert_in_range(watches.count, 0, 63);
		*watch = (struct watch){ .row = *old };
		endpoints_of(toy, &old->frontend, &watch->before);
		endpoints_of(after, &new->frontend, &watch->after);
		watches.count++;
	}
	toy_apply(toy, batch, look, &watches);
	for (size_t i = 0; i < watches.count; i++) {
		weft_buf_done(&watches.item[i].before);
		weft_buf_done(&watches.item[i].after);
	}
	free(after);
}

/* When a connect() last could have met each slot and each endpoint. */
struct seen {
	uint64_t slot_ns[TOY_MAX], endpoint_ns[TOY_MAX];
};

static void see(const struct toy *toy, uint64_t now_ns, struct seen *seen)
{
	for (size_t i = 0; i < toy->row_count[WEFT_MAP_FRONTEND]; i++) {
		const struct weft_frontend *frontend = &toy->row[WEFT_MAP_FRONTEND][i].frontend;

		for (uint32_t slot = frontend->slot; slot < frontend->slot + frontend->count; slot++) {
			seen->slot_ns[slot] = now_ns;
			seen->endpoint_ns[WEFT_ENDPOINT_INDEX(toy->slot[slot].endpoint)] = now_ns;
		}
	}
}

static void check_grace(const struct toy *before, const struct toy *after, uint64_t now_ns, const struct seen *seen)
{
	for (size_t i = 0; i < TOY_MAX; i++) {
		if (memcmp(&before->slot[i], &after->slot[i], sizeof(before->slot[i])) != 0 && seen->slot_ns[i] &&
		    now_ns < seen->slot_ns[i] + WEFT_MODEL_GRACE_NS)
			fail_msg("slot %zu is written before its grace is over", i);
		if (before->endpoint[i].id == after->endpoint[i].id)
			continue;
		if (seen->endpoint_ns[i] && now_ns < seen->endpoint_ns[i] + WEFT_MODEL_GRACE_NS)
			fail_msg("endpoint %zu is given away before its grace is over", i);
		if (before->endpoint[i].id && before->live[i])
			fail_msg("endpoint %zu is given away although it is held", i);
	}
}

static void compare(struct weft_model *model, struct toy *toy, struct weft_problems *problems)
{
	struct weft_model *fresh = model_make();
	struct toy *fresh_toy = calloc(1, sizeof(*fresh_toy));
	struct weft_problems fresh_problems = { 0 };
	struct weft_buf have = WEFT_BUF_INIT, want = WEFT_BUF_INIT;

	for (size_t i = 0; i < DOCUMENTS; i++)
		if (document[i])
			load(fresh, document[i]);
	commit(fresh, fresh_toy, 1, NULL, &fresh_problems);
	assert_int_equal(weft_model_print(model, &have), 0);
	assert_int_equal(weft_model_print(fresh, &want), 0);
	if (have.size || want.size)
		assert_string_equal(have.data, want.data);
	weft_buf_done(&have);
	weft_buf_done(&want);
	toy_print(toy, &have);
	toy_print(fresh_toy, &want);
	assert_string_equal(have.data, want.data);
	assert_int_equal(problems->count, fresh_problems.count);
	weft_buf_done(&have);
	weft_buf_done(&want);
	weft_problems_done(&fresh_problems);
	free(fresh_toy);
	weft_model_free(fresh);
}

/* As control does when it starts anew: names and maps are all that is left. */
static struct weft_model *restart(struct weft_model *model, const struct toy *toy, uint64_t now_ns)
{
	struct weft_buf file = WEFT_BUF_INIT, maps = WEFT_BUF_INIT;
	struct weft_names *names = weft_names_new();
	struct weft_plan plan = { 0 };
	struct weft_problems problems = { 0 };
	struct weft_model *next;

	assert_int_equal(weft_names_print(weft_model_names(model), &file), 0);
	assert_int_equal(weft_names_parse(names, file.data, file.size, NULL), 0);
	next = model_sized(TOY_MAX, names);
	toy_read(toy, &maps);
	assert_int_equal(weft_model_adopt(next, maps.data, maps.size, now_ns), 0);
	for (size_t i = 0; i < DOCUMENTS; i++)
		if (document[i])
			load(next, document[i]);
	assert_int_equal(weft_model_commit(next, now_ns, NULL, 0, &plan, &problems, NULL), 0);
	if (plan.batch.size) {
		const struct weft_batch_run *first = (const void *)plan.batch.data;

		fail_msg("an unchanged configuration writes %u of map %u", first->count, first->map);
	}
	weft_plan_done(&plan);
	weft_problems_done(&problems);
	weft_buf_done(&file);
	weft_buf_done(&maps);
	weft_model_free(model);
	return next;
}

static void run(uint64_t from, int steps)
{
	struct weft_model *model = model_make();
	struct toy *toy = calloc(1, sizeof(*toy)), *before = malloc(sizeof(*before));
	struct seen *seen = calloc(1, sizeof(*seen));
	uint64_t now_ns = SECOND;
	bool settled = true;

	seed = from;
	for (int step = 0; step < steps; step++) {
		struct weft_plan plan = { 0 };
		struct weft_problems problems = { 0 };
		struct weft_err err = { 0 };

		for (uint32_t i = 0; i < 1 + draw(3); i++)
			edit(model);
		now_ns += draw(3) ? draw(900) * 1000000ull : 5 * SECOND;
		see(toy, now_ns, seen);
		for (int i = 0; i < 64; i++) {
			uint32_t index = draw(64);

			/* Only what a frontend chooses gains connections. */
			toy->live[index] = draw(3) == 0 && (toy->live[index] || seen->endpoint_ns[index] == now_ns);
		}
		if (weft_model_commit(model, now_ns, toy->live, TOY_MAX, &plan, &problems, &err) < 0)
			fail_msg("%s", err.text);
		settled = draw(8) != 0;
		memcpy(before, toy, sizeof(*before));
		if (!settled) {
			toy_apply_some(toy, &plan.batch, draw(40), NULL, NULL);
			weft_model_distrust(model);
		} else {
			apply_watched(toy, &plan.batch);
			compare(model, toy, &problems);
		}
		check_grace(before, toy, now_ns, seen);
		weft_plan_done(&plan);
		weft_problems_done(&problems);
		if (settled && draw(10) == 0) {
			/* A process takes longer to start than a connect() to end: no grace outlives control. */
			now_ns += WEFT_MODEL_GRACE_NS;
			model = restart(model, toy, now_ns);
		}
	}
	for (size_t i = 0; i < DOCUMENTS; i++) {
		free(document[i]);
		document[i] = NULL;
	}
	free(seen);
	free(before);
	free(toy);
	weft_model_free(model);
}

static void test_steps_equal_compile_from_nothing(void **state)
{
	(void)state;
	for (uint64_t from = 1; from <= 8; from++) {
		print_message("seed %llu\n", (unsigned long long)from);
		run(from * 0x9e3779b97f4a7c15ull, 400);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_steps_equal_compile_from_nothing) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
