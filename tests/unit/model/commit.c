/* SPDX-License-Identifier: Apache-2.0 */
/* What a commit writes, in which order, when it frees, and what it leaves alone when it cannot. */
#include "lib.h"

#define SERVICE                                                                                  \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"               \
	"spec: {clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: 8080}]}\n"
#define SLICE(ENDPOINTS)                                                                                    \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                                            \
	"metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}\n"            \
	"addressType: IPv4\nports: [{port: 8080}]\nendpoints: [" ENDPOINTS "]\n"
#define ONE "{addresses: [10.1.0.1]}"
#define TWO "{addresses: [10.1.0.2]}"
#define THREE "{addresses: [10.1.0.3]}"

static struct weft_model *model;
static struct toy *toy;
static struct weft_plan plan;

static int setup(void **state)
{
	(void)state;
	model = model_make();
	toy = calloc(1, sizeof(*toy));
	return toy ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	weft_plan_done(&plan);
	free(toy);
	weft_model_free(model);
	return 0;
}

/* "endpoint+2 slot+2 frontend+2": the runs of the batch. */
static const char *shape(const struct weft_buf *batch)
{
	static char text[400];
	static const char *const name[] = {
#define WEFT_MAP(NAME, name, key, value, owner, sentence) name + 5,
#include "weft/lists/map.h"
#undef WEFT_MAP
	};
	size_t at = 0, used = 0;

	text[0] = '\0';
	while (at < batch->size) {
		struct weft_batch_run run;

		memcpy(&run, batch->data + at, sizeof(run));
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s%c%u", used ? " " : "", name[run.map],
					 run.op == WEFT_BATCH_UPDATE ? '+' : '-', run.count);
		at += sizeof(run) + ((run.count * toy_key_size(run.map) + 7) & ~7ull);
		if (run.op == WEFT_BATCH_UPDATE)
			at += (run.count * toy_value_size(run.map) + 7) & ~7ull;
	}
	return text;
}

static uint32_t id_of(const char *addr)
{
	struct weft_addr want;

	assert_int_equal(weft_addr_parse(addr, &want), 0);
	for (size_t i = 1; i < TOY_MAX; i++)
		if (toy->endpoint[i].state && weft_addr_compare(&toy->endpoint[i].addr, &want) == 0)
			return toy->endpoint[i].id;
	return 0;
}

static void test_only_the_difference_is_written(void **state)
{
	(void)state;
	load(model, SERVICE "---\n" SLICE(ONE ", " TWO));
	commit(model, toy, 1 * SECOND, &plan, NULL);
	assert_string_equal(shape(&plan.batch), "endpoint+2 slot+2 frontend+2");
	commit(model, toy, 2 * SECOND, &plan, NULL);
	assert_int_equal(plan.batch.size, 0);
	assert_int_equal(plan.journal.size, 0);
	load(model, SLICE(TWO ", " ONE));
	commit(model, toy, 3 * SECOND, &plan, NULL);
	assert_int_equal(plan.batch.size, 0);
	load(model, SLICE(ONE ", " TWO ", " THREE));
	commit(model, toy, 4 * SECOND, &plan, NULL);
	assert_string_equal(shape(&plan.batch), "endpoint+1 slot+3 frontend+1");
	weft_model_remove(model, WEFT_KIND_SERVICE, "shop", "web");
	commit(model, toy, 5 * SECOND, &plan, NULL);
	assert_string_equal(shape(&plan.batch), "frontend-2 endpoint+3");
}

static void test_an_address_changes_owner_by_an_update(void **state)
{
	static const char other[] = "apiVersion: v1\nkind: Service\nmetadata: {name: other, namespace: shop}\n"
				    "spec: {clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: 8080}]}\n---\n"
				    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: other-1, "
				    "namespace: shop, labels: {kubernetes.io/service-name: other}}\naddressType: IPv4\n"
				    "ports: [{port: 8080}]\nendpoints: [{addresses: [10.1.0.9]}]\n";
	uint32_t service;

	(void)state;
	load(model, SERVICE "---\n" SLICE(ONE));
	commit(model, toy, 1 * SECOND, &plan, NULL);
	service = toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->service;
	weft_model_remove(model, WEFT_KIND_SERVICE, "shop", "web");
	load(model, other);
	commit(model, toy, 2 * SECOND, &plan, NULL);
	assert_string_equal(shape(&plan.batch), "endpoint+1 slot+1 frontend+1 endpoint+1");
	assert_int_not_equal(toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->service, service);
}

static void test_the_older_service_keeps_a_contested_address(void **state)
{
	static const char younger[] =
		"apiVersion: v1\nkind: Service\nmetadata: {name: aaa, namespace: shop, creationTimestamp: "
		"\"2024-02-01T00:00:00Z\"}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n";
	static const char older[] =
		"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, creationTimestamp: "
		"\"2024-01-01T00:00:00Z\"}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n";
	struct weft_problems problems = { 0 };
	uint32_t first;

	(void)state;
	load(model, younger);
	load(model, older);
	commit(model, toy, 1 * SECOND, &plan, &problems);
	assert_int_equal(problems.errors, 1);
	assert_string_equal(problems.item[0].resource, "Service shop/aaa");
	assert_non_null(strstr(problems.item[0].text, "Service shop/web"));
	assert_non_null(strstr(problems.item[0].text, "10.96.0.1:80"));
	weft_problems_done(&problems);
	first = toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->service;
	assert_string_equal(weft_names_service(weft_model_names(model), first)->name, "web");
	weft_model_remove(model, WEFT_KIND_SERVICE, "shop", "web");
	commit(model, toy, 2 * SECOND, &plan, &problems);
	assert_int_equal(problems.count, 0);
	assert_string_equal(shape(&plan.batch), "frontend+1");
	first = toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->service;
	assert_string_equal(weft_names_service(weft_model_names(model), first)->name, "aaa");
	weft_problems_done(&problems);
}

#define RECORD(namespace, more) \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: " namespace more "}\n" \
	"spec: {address: 10.9.0.1}\n"
#define OF_POD(name, more) \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: shop" more "}\n" \
	"status: {podIPs: [{ip: 10.9.0.1}], phase: Running}\n"

static const char *owner_of_address(void)
{
	static char text[200];
	const struct weft_workload_name *name;
	struct weft_addr addr;
	struct toy_row *row;

	assert_int_equal(weft_addr_parse("10.9.0.1", &addr), 0);
	row = toy_find(toy, WEFT_MAP_WORKLOAD_AT, &addr);
	if (!row)
		return "";
	name = weft_names_workload(weft_model_names(model), row->workload);
	snprintf(text, sizeof(text), "%s/%s", name->namespace, name->name);
	return text;
}

/* A later record of a namespace whose name comes first in the alphabet. */
static void test_nobody_takes_an_address_by_a_record_that_he_adds(void **state)
{
	struct weft_problems problems = { 0 };

	(void)state;
	load(model, RECORD("shop", ", creationTimestamp: \"2024-01-01T00:00:00Z\""));
	load(model, RECORD("aaa", ", creationTimestamp: \"2024-02-01T00:00:00Z\""));
	commit(model, toy, 1 * SECOND, &plan, &problems);
	assert_string_equal(owner_of_address(), "shop/vm");
	assert_int_equal(problems.count, 1);
	assert_int_equal(problems.item[0].severity, WEFT_SEVERITY_NOTICE);
	assert_string_equal(problems.item[0].resource, "WorkloadEntry aaa/vm");
	assert_non_null(strstr(problems.item[0].text, "10.9.0.1 already belongs to WorkloadEntry shop/vm, which is older"));
	weft_problems_done(&problems);
	/* The other way round too, whoever the kernel has. */
	load(model, RECORD("aaa", ", creationTimestamp: \"2023-01-01T00:00:00Z\""));
	commit(model, toy, 2 * SECOND, &plan, &problems);
	assert_string_equal(owner_of_address(), "aaa/vm");
	weft_problems_done(&problems);
	weft_model_remove(model, WEFT_KIND_WORKLOAD_ENTRY, "aaa", "vm");
	commit(model, toy, 3 * SECOND, &plan, &problems);
	assert_string_equal(owner_of_address(), "shop/vm");
	assert_int_equal(problems.count, 0);
	/* A record without age is younger than any that has one. */
	load(model, RECORD("aaa", ""));
	commit(model, toy, 4 * SECOND, &plan, &problems);
	assert_string_equal(owner_of_address(), "shop/vm");
	weft_problems_done(&problems);
	/* A pod's address comes from its node. */
	load(model, OF_POD("web", ", creationTimestamp: \"2025-01-01T00:00:00Z\""));
	commit(model, toy, 5 * SECOND, &plan, &problems);
	assert_string_equal(owner_of_address(), "shop/web");
	assert_int_equal(problems.count, 2);
	assert_non_null(strstr(problems.item[0].text, "Pod shop/web, which has it from its node"));
	weft_problems_done(&problems);
}

static void test_of_two_records_of_one_age_who_came_first_keeps_the_address(void **state)
{
	struct weft_problems problems = { 0 };

	(void)state;
	load(model, RECORD("shop", ""));
	commit(model, toy, 1 * SECOND, &plan, &problems);
	load(model, RECORD("aaa", ""));
	commit(model, toy, 2 * SECOND, &plan, &problems);
	assert_string_equal(owner_of_address(), "shop/vm");
	assert_int_equal(problems.count, 1);
	assert_non_null(strstr(problems.item[0].text, "WorkloadEntry shop/vm, which came first"));
	weft_problems_done(&problems);
	load(model, RECORD("shop", ", labels: {app: vm}")); /* nor does it lose it by a change of its own */
	commit(model, toy, 3 * SECOND, &plan, &problems);
	assert_string_equal(owner_of_address(), "shop/vm");
	weft_problems_done(&problems);
}

/* The last pod terminates while the next one has the address already: that is no conflict. */
static void test_an_address_that_is_handed_on_is_no_problem(void **state)
{
	struct weft_problems problems = { 0 };

	(void)state;
	load(model, OF_POD("old", ", creationTimestamp: \"2024-01-01T00:00:00Z\", deletionTimestamp: \"2024-01-02T00:00:00Z\""));
	load(model, OF_POD("new", ", creationTimestamp: \"2024-01-02T00:00:00Z\""));
	commit(model, toy, 1 * SECOND, &plan, &problems);
	assert_string_equal(owner_of_address(), "shop/new");
	assert_int_equal(problems.count, 0);
}

#define TIED(name, more) \
	"apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: shop}\n" \
	"spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]" more "}\n"

static const char *holder(void)
{
	return weft_names_service(weft_model_names(model), toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->service)->name;
}

/* Without a creationTimestamp, whichever name comes first in the alphabet. */
static void test_of_two_of_one_age_who_came_first_keeps_the_address(void **state)
{
	struct weft_problems problems = { 0 };

	(void)state;
	load(model, TIED("web", ""));
	commit(model, toy, 1 * SECOND, &plan, &problems);
	load(model, TIED("aaa", ""));
	commit(model, toy, 2 * SECOND, &plan, &problems);
	assert_int_equal(problems.errors, 1);
	assert_string_equal(problems.item[0].resource, "Service shop/aaa");
	assert_non_null(strstr(problems.item[0].text, "already belongs to Service shop/web, which came first"));
	assert_string_equal(shape(&plan.batch), "");
	assert_string_equal(holder(), "web");
	weft_problems_done(&problems);
	/* Nor does it lose it by a change of its own, or of the other. */
	load(model, TIED("web", ", sessionAffinity: ClientIP"));
	commit(model, toy, 3 * SECOND, &plan, &problems);
	assert_string_equal(holder(), "web");
	weft_problems_done(&problems);
	load(model, TIED("aaa", ", sessionAffinity: ClientIP"));
	commit(model, toy, 4 * SECOND, &plan, &problems);
	assert_string_equal(holder(), "web");
	assert_string_equal(problems.item[0].resource, "Service shop/aaa");
	weft_problems_done(&problems);
	/* Until it lets go. */
	weft_model_remove(model, WEFT_KIND_SERVICE, "shop", "web");
	commit(model, toy, 5 * SECOND, &plan, &problems);
	assert_int_equal(problems.count, 0);
	assert_string_equal(holder(), "aaa");
	weft_problems_done(&problems);
	load(model, TIED("aa", ""));
	commit(model, toy, 6 * SECOND, &plan, &problems);
	assert_string_equal(holder(), "aaa");
	assert_string_equal(problems.item[0].resource, "Service shop/aa");
	weft_problems_done(&problems);
}

static void test_a_gone_endpoint_is_cut_once_and_freed_after_grace(void **state)
{
	uint32_t gone, index;

	(void)state;
	load(model, SERVICE "---\n" SLICE(ONE ", " TWO));
	commit(model, toy, 1 * SECOND, &plan, NULL);
	gone = id_of("10.1.0.2");
	index = WEFT_ENDPOINT_INDEX(gone);
	toy->live[index] = 1;
	load(model, SLICE(ONE));
	commit(model, toy, 2 * SECOND, &plan, NULL);
	assert_string_equal(shape(&plan.batch), "slot+1 frontend+1 endpoint+1");
	assert_int_equal(plan.cut.size, 4);
	assert_memory_equal(plan.cut.data, &gone, 4);
	assert_int_equal(plan.cut_udp.size, 0);
	assert_int_equal(toy->endpoint[index].state, WEFT_ENDPOINT_GONE);
	assert_int_equal(plan.next_ns, 3 * SECOND);
	commit(model, toy, 4 * SECOND, &plan, NULL);
	assert_int_equal(plan.cut.size, 0);
	assert_int_equal(plan.batch.size, 0);
	toy->live[index] = 0;
	commit(model, toy, 5 * SECOND, &plan, NULL);
	assert_int_equal(toy->endpoint[index].state, WEFT_ENDPOINT_FREE);
	assert_null(weft_names_endpoint(weft_model_names(model), gone));
}

static void test_drain_waits_and_leave_never_cuts(void **state)
{
	static const char drain[] = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\n"
				    "spec: {goneEndpoint: {policy: Drain, timeout: 10s}}\n";
	static const char leave[] = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\n"
				    "spec: {goneEndpoint: {policy: Leave}}\n";
	uint32_t one, two;

	(void)state;
	load(model, SERVICE "---\n" SLICE(ONE ", " TWO ", " THREE));
	load(model, drain);
	commit(model, toy, 1 * SECOND, &plan, NULL);
	one = WEFT_ENDPOINT_INDEX(id_of("10.1.0.1"));
	two = WEFT_ENDPOINT_INDEX(id_of("10.1.0.2"));
	toy->live[one] = toy->live[two] = 1;
	load(model, SLICE(TWO ", " THREE));
	commit(model, toy, 2 * SECOND, &plan, NULL);
	assert_int_equal(toy->endpoint[one].state, WEFT_ENDPOINT_DRAINING);
	assert_int_equal(plan.cut.size, 0);
	commit(model, toy, 11 * SECOND, &plan, NULL);
	assert_int_equal(plan.cut.size, 0);
	assert_int_equal(plan.next_ns, 12 * SECOND);
	commit(model, toy, 12 * SECOND, &plan, NULL);
	assert_int_equal(plan.cut.size, 4);
	assert_int_equal(toy->endpoint[one].state, WEFT_ENDPOINT_GONE);
	load(model, leave);
	load(model, SLICE(THREE));
	commit(model, toy, 13 * SECOND, &plan, NULL);
	commit(model, toy, 1000 * SECOND, &plan, NULL);
	assert_int_equal(plan.cut.size, 0);
	assert_int_equal(toy->endpoint[two].state, WEFT_ENDPOINT_DRAINING);
}

static void test_a_udp_endpoint_is_cut_when_it_terminates(void **state)
{
	static const char udp[] = "apiVersion: v1\nkind: Service\nmetadata: {name: dns, namespace: shop}\n"
				  "spec: {clusterIP: 10.96.0.2, ports: [{port: 53, protocol: UDP}]}\n";
	static const char slice[] = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: dns-1, "
				    "namespace: shop, labels: {kubernetes.io/service-name: dns}}\naddressType: IPv4\n"
				    "ports: [{port: 53, protocol: UDP}]\nendpoints:\n- {addresses: [10.1.0.1]}\n"
				    "- {addresses: [10.1.0.2], conditions: {ready: %s, serving: true, terminating: %s}}\n";
	char text[600];
	uint32_t two;

	(void)state;
	load(model, udp);
	snprintf(text, sizeof(text), slice, "true", "false");
	load(model, text);
	commit(model, toy, 1 * SECOND, &plan, NULL);
	two = id_of("10.1.0.2");
	snprintf(text, sizeof(text), slice, "false", "true");
	load(model, text);
	commit(model, toy, 2 * SECOND, &plan, NULL);
	assert_int_equal(plan.cut_udp.size, 4);
	assert_memory_equal(plan.cut_udp.data, &two, 4);
	assert_int_equal(plan.cut.size, 0);
	assert_int_equal(toy->endpoint[WEFT_ENDPOINT_INDEX(two)].state, WEFT_ENDPOINT_SERVING);
	commit(model, toy, 3 * SECOND, &plan, NULL);
	assert_int_equal(plan.cut_udp.size, 0);
}

static void test_an_old_range_rests_for_the_grace(void **state)
{
	uint32_t first, second, third;

	(void)state;
	load(model, SERVICE "---\n" SLICE(ONE));
	commit(model, toy, 10 * SECOND, &plan, NULL);
	first = toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->slot;
	load(model, SLICE(TWO));
	commit(model, toy, 11 * SECOND, &plan, NULL);
	second = toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->slot;
	load(model, SLICE(THREE));
	commit(model, toy, 11 * SECOND + WEFT_MODEL_GRACE_NS - 1, &plan, NULL);
	third = toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->slot;
	assert_int_not_equal(first, second);
	assert_int_not_equal(third, first);
	assert_int_not_equal(third, second);
	load(model, SLICE(ONE));
	commit(model, toy, 12 * SECOND, &plan, NULL);
	assert_int_equal(toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->slot, first);
}

static void check_too_small(uint32_t map, uint32_t capacity, const char *name, const char *size)
{
	struct weft_model_options options = { .node = "here" };
	struct weft_problems problems = { 0 };
	struct weft_err err = { 0 };
	struct weft_model *small;
	size_t before;

	for (int i = 0; i < WEFT_MAP_MAX_; i++)
		options.capacity.max_entries[i] = TOY_MAX;
	options.capacity.max_entries[map] = capacity;
	small = weft_model_new(&options, weft_names_new());
	memset(toy, 0, sizeof(*toy));
	load(small, SERVICE "---\n" SLICE(ONE));
	commit(small, toy, 1 * SECOND, &plan, NULL);
	weft_plan_done(&plan);
	load(small, SLICE(ONE ", " TWO ", " THREE));
	load(small, "apiVersion: v1\nkind: Service\nmetadata: {name: more, namespace: shop}\n"
		    "spec: {clusterIP: 10.96.0.7, ports: [{port: 80}]}\n");
	before = toy->row_count[WEFT_MAP_FRONTEND];
	for (int again = 0; again < 2; again++) {
		assert_int_equal(weft_model_commit(small, 2 * SECOND, toy->live, TOY_MAX, &plan, &problems, &err), -ENOSPC);
		assert_int_equal(plan.batch.size, 0);
		assert_int_equal(plan.cut.size, 0);
		assert_non_null(strstr(err.text, name));
		if (!strstr(err.text, size))
			fail_msg("%s", err.text);
	}
	/* What fits again is written, against what is still in force. */
	load(small, SLICE(TWO));
	weft_model_remove(small, WEFT_KIND_SERVICE, "shop", "more");
	commit(small, toy, 30 * SECOND, &plan, NULL);
	commit(small, toy, 40 * SECOND, &plan, NULL);
	assert_int_equal(toy->row_count[WEFT_MAP_FRONTEND], before);
	assert_int_not_equal(id_of("10.1.0.2"), 0);
	weft_problems_done(&problems);
	weft_model_free(small);
}

static void test_a_map_too_small_is_refused_as_a_whole(void **state)
{
	(void)state;
	check_too_small(WEFT_MAP_FRONTEND, 3, "weft_frontend", "size to 4");
	check_too_small(WEFT_MAP_SLOT, 4, "weft_slot", "size to 8");
	check_too_small(WEFT_MAP_ENDPOINT, 3, "weft_endpoint", "size to 4");
}

static const struct {
	uint32_t map;
	const char *name, *small, *large;
} rows[] = {
	{ WEFT_MAP_ENDPOINT_AT, "weft_endpoint_at",
	  SERVICE "---\n" SLICE("{addresses: [10.1.0.1], nodeName: here}, {addresses: [10.1.0.2], nodeName: there}"),
	  SLICE("{addresses: [10.1.0.1], nodeName: here}, {addresses: [10.1.0.2], nodeName: here}") },
	{ WEFT_MAP_WORKLOAD_AT, "weft_workload_at",
	  "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {podIP: 10.1.0.1}\n",
	  "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
	  "status: {podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: \"fd01::1\"}]}\n" },
	{ WEFT_MAP_OPTOUT_CIDR, "weft_optout_cidr",
	  "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {optOut: {cidrs: [10.0.0.0/8]}}\n",
	  "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\n"
	  "spec: {optOut: {cidrs: [10.0.0.0/8, \"fd00::/8\"]}}\n" },
	{ WEFT_MAP_OPTOUT_PORT, "weft_optout_port",
	  "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {optOut: {ports: [{port: 1}]}}\n",
	  "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\n"
	  "spec: {optOut: {ports: [{port: 1}, {port: 1, protocol: UDP}]}}\n" },
};

static void test_rows_that_do_not_fit(void **state)
{
	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(rows); i++) {
		struct weft_model_options options = { .node = "here" };
		struct weft_problems problems = { 0 };
		struct weft_err err = { 0 };
		struct weft_model *small;

		for (int map = 0; map < WEFT_MAP_MAX_; map++)
			options.capacity.max_entries[map] = map == (int)rows[i].map ? 1 : TOY_MAX;
		small = weft_model_new(&options, weft_names_new());
		memset(toy, 0, sizeof(*toy));
		load(small, rows[i].small);
		commit(small, toy, 1 * SECOND, &plan, NULL);
		assert_int_equal(toy->row_count[rows[i].map], 1);
		load(small, rows[i].large);
		weft_plan_done(&plan);
		assert_int_equal(weft_model_commit(small, 2 * SECOND, toy->live, TOY_MAX, &plan, &problems, &err), -ENOSPC);
		if (!strstr(err.text, rows[i].name) || !strstr(err.text, "set its size to 2"))
			fail_msg("%s: %s", rows[i].name, err.text);
		assert_int_equal(plan.batch.size, 0);
		assert_int_equal(plan.need.max_entries[rows[i].map], 2);
		weft_plan_done(&plan);
		/* What was in force is what is still there, so that it is no change. */
		load(small, rows[i].small);
		commit(small, toy, 3 * SECOND, &plan, NULL);
		assert_int_equal(plan.batch.size, 0);
		assert_int_equal(toy->row_count[rows[i].map], 1);
		weft_problems_done(&problems);
		weft_model_free(small);
	}
}

static uint32_t give_away(uint64_t fails_ns, uint64_t works_ns, uint64_t after_ns)
{
	uint32_t index;

	load(model, SERVICE "---\n" SLICE(ONE ", " TWO));
	commit(model, toy, 1 * SECOND, &plan, NULL);
	index = WEFT_ENDPOINT_INDEX(id_of("10.1.0.2"));
	load(model, SLICE(ONE));
	weft_plan_done(&plan);
	assert_int_equal(weft_model_commit(model, fails_ns, toy->live, TOY_MAX, &plan, &(struct weft_problems){ 0 }, NULL), 0);
	weft_model_distrust(model);
	commit(model, toy, works_ns, &plan, NULL);
	assert_int_equal(toy->endpoint[index].state, WEFT_ENDPOINT_GONE);
	commit(model, toy, after_ns, &plan, NULL);
	return toy->endpoint[index].state;
}

/* Connections came in all the time until a batch really took it out of the slots: that is when its grace begins. */
static void test_a_batch_that_failed_begins_no_grace(void **state)
{
	(void)state;
	assert_int_equal(give_away(2 * SECOND, 9 * SECOND, 9 * SECOND + WEFT_MODEL_GRACE_NS - 1), WEFT_ENDPOINT_GONE);
	commit(model, toy, 9 * SECOND + WEFT_MODEL_GRACE_NS, &plan, NULL);
	assert_int_equal(id_of("10.1.0.2"), 0);
}

/* All that is too small is told at once, and larger maps are used without a word of what is in force being written again. */
static void test_larger_maps_take_what_did_not_fit(void **state)
{
	struct weft_model_options options = { .node = "here" };
	struct weft_problems problems = { 0 };
	struct weft_err err = { 0 };
	struct weft_model *small;
	uint32_t before;

	(void)state;
	for (int i = 0; i < WEFT_MAP_MAX_; i++)
		options.capacity.max_entries[i] = TOY_MAX;
	options.capacity.max_entries[WEFT_MAP_FRONTEND] = 3;
	options.capacity.max_entries[WEFT_MAP_SLOT] = 2;
	small = weft_model_new(&options, weft_names_new());
	load(small, SERVICE "---\n" SLICE(ONE));
	commit(small, toy, 1 * SECOND, &plan, NULL);
	before = toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->slot;
	load(small, SLICE(ONE ", " TWO ", " THREE));
	load(small, "apiVersion: v1\nkind: Service\nmetadata: {name: more, namespace: shop}\n"
		    "spec: {clusterIP: 10.96.0.7, ports: [{port: 80}]}\n");
	assert_int_equal(weft_model_commit(small, 2 * SECOND, toy->live, TOY_MAX, &plan, &problems, &err), -ENOSPC);
	assert_int_equal(plan.need.max_entries[WEFT_MAP_FRONTEND], 4);
	assert_in_range(plan.need.max_entries[WEFT_MAP_SLOT], 5, 16);
	assert_int_equal(plan.need.max_entries[WEFT_MAP_ENDPOINT], 0);
	plan.need.max_entries[WEFT_MAP_SLOT] = 16;
	plan.need.max_entries[WEFT_MAP_ENDPOINT] = 1; /* nothing ever shrinks */
	assert_int_equal(weft_model_grow(small, &plan.need), 0);
	commit(small, toy, 2 * SECOND, &plan, NULL);
	assert_int_equal(plan.need.max_entries[WEFT_MAP_SLOT], 0);
	assert_int_not_equal(id_of("10.1.0.3"), 0);
	assert_int_equal(toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->count, 3);
	assert_int_not_equal(toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->slot, before);
	assert_non_null(toy_frontend(toy, "10.96.0.7:80", IPPROTO_TCP));
	weft_problems_done(&problems);
	weft_model_free(small);
}

static void test_adopted_maps_are_left_alone(void **state)
{
	struct weft_names *names = weft_names_new();
	struct weft_buf file = WEFT_BUF_INIT, maps = WEFT_BUF_INIT;

	(void)state;
	load(model, SERVICE "---\n" SLICE(ONE ", " TWO));
	commit(model, toy, 1 * SECOND, &plan, NULL);
	assert_int_equal(weft_names_print(weft_model_names(model), &file), 0);
	assert_int_equal(weft_names_parse(names, file.data, file.size, NULL), 0);
	weft_model_free(model);
	model = model_sized(TOY_MAX, names);
	toy_read(toy, &maps);
	assert_int_equal(weft_model_adopt(model, maps.data, maps.size - 8, 2 * SECOND), -EBADMSG);
	assert_int_equal(weft_model_adopt(model, maps.data, maps.size, 2 * SECOND), 0);
	load(model, SERVICE "---\n" SLICE(ONE ", " TWO));
	commit(model, toy, 2 * SECOND, &plan, NULL);
	assert_int_equal(plan.batch.size, 0);
	assert_int_equal(plan.cut.size, 0);
	/* Even without a names file the ids in the maps are not given to others. */
	weft_model_free(model);
	model = model_make();
	assert_int_equal(weft_model_adopt(model, maps.data, maps.size, 3 * SECOND), 0);
	load(model, SERVICE "---\n" SLICE(THREE));
	commit(model, toy, 3 * SECOND, &plan, NULL);
	assert_int_not_equal(WEFT_ENDPOINT_INDEX(id_of("10.1.0.3")), 1);
	assert_int_not_equal(WEFT_ENDPOINT_INDEX(id_of("10.1.0.3")), 2);
	assert_int_equal(toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->service, 2);
	weft_buf_done(&file);
	weft_buf_done(&maps);
}

/* A model of the maps as they are in `toy` now. */
static void adopt_again(const char *names_file, size_t size)
{
	struct weft_names *names = weft_names_new();
	struct weft_buf maps = WEFT_BUF_INIT;

	assert_int_equal(weft_names_parse(names, names_file, size, NULL), 0);
	weft_model_free(model);
	model = model_sized(TOY_MAX, names);
	toy_read(toy, &maps);
	assert_int_equal(weft_model_adopt(model, maps.data, maps.size, 2 * SECOND), 0);
	weft_buf_done(&maps);
}

static void test_adopted_maps_that_contradict_the_names(void **state)
{
	static const struct weft_endpoint nobody;
	struct weft_buf file = WEFT_BUF_INIT;
	struct weft_endpoint one, two;

	(void)state;
	load(model, SERVICE "---\n" SLICE(ONE ", " TWO));
	commit(model, toy, 1 * SECOND, &plan, NULL);
	assert_int_equal(weft_names_print(weft_model_names(model), &file), 0);
	one = toy->endpoint[WEFT_ENDPOINT_INDEX(id_of("10.1.0.1"))];
	two = toy->endpoint[WEFT_ENDPOINT_INDEX(id_of("10.1.0.2"))];
	/* Another address, another generation, and one of which no name is known. */
	toy->endpoint[WEFT_ENDPOINT_INDEX(one.id)].addr.w[3] ^= htonl(0x80);
	toy->endpoint[WEFT_ENDPOINT_INDEX(two.id)].id += 1u << WEFT_ENDPOINT_INDEX_BITS;
	toy->endpoint[7] = one;
	toy->endpoint[7].id = 1u << WEFT_ENDPOINT_INDEX_BITS | 7;
	adopt_again(file.data, file.size);
	load(model, SERVICE "---\n" SLICE(ONE ", " TWO));
	commit(model, toy, 2 * SECOND, &plan, NULL);
	assert_memory_equal(&toy->endpoint[WEFT_ENDPOINT_INDEX(one.id)], &one, sizeof(one));
	assert_memory_equal(&toy->endpoint[WEFT_ENDPOINT_INDEX(two.id)], &two, sizeof(two));
	assert_memory_equal(&toy->endpoint[7], &nobody, sizeof(nobody));
	assert_int_equal(commit(model, toy, 3 * SECOND, &plan, NULL), 0);
	/* The same of those that nobody wants: what was another's is free at once, the others in their time. */
	toy->endpoint[WEFT_ENDPOINT_INDEX(two.id)].id += 1u << WEFT_ENDPOINT_INDEX_BITS;
	adopt_again(file.data, file.size);
	load(model, SERVICE);
	commit(model, toy, 2 * SECOND, &plan, NULL);
	assert_int_equal(toy->endpoint[WEFT_ENDPOINT_INDEX(one.id)].state, WEFT_ENDPOINT_GONE);
	assert_memory_equal(&toy->endpoint[WEFT_ENDPOINT_INDEX(two.id)], &nobody, sizeof(nobody));
	commit(model, toy, 4 * SECOND, &plan, NULL);
	assert_memory_equal(&toy->endpoint[WEFT_ENDPOINT_INDEX(one.id)], &nobody, sizeof(nobody));
	assert_null(weft_names_next_endpoint(weft_model_names(model), 0));
	weft_buf_done(&file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_only_the_difference_is_written),
		TEST(test_an_address_changes_owner_by_an_update),
		TEST(test_the_older_service_keeps_a_contested_address),
		TEST(test_nobody_takes_an_address_by_a_record_that_he_adds),
		TEST(test_of_two_records_of_one_age_who_came_first_keeps_the_address),
		TEST(test_an_address_that_is_handed_on_is_no_problem),
		TEST(test_of_two_of_one_age_who_came_first_keeps_the_address),
		TEST(test_a_gone_endpoint_is_cut_once_and_freed_after_grace),
		TEST(test_drain_waits_and_leave_never_cuts),
		TEST(test_a_udp_endpoint_is_cut_when_it_terminates),
		TEST(test_an_old_range_rests_for_the_grace),
		TEST(test_a_map_too_small_is_refused_as_a_whole),
		TEST(test_rows_that_do_not_fit),
		TEST(test_a_batch_that_failed_begins_no_grace),
		TEST(test_larger_maps_take_what_did_not_fit),
		TEST(test_adopted_maps_are_left_alone),
		TEST(test_adopted_maps_that_contradict_the_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
