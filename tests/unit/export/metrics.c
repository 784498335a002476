/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/io.h"
#include "export/metrics.h"
#include "weft/abi/counter.h"

/* ---- a batch as main's READ gives it ---- */

static void add_run(struct weft_buf *batch, enum weft_map map, uint32_t count, const void *keys, size_t key_size,
		    const void *values, size_t value_size)
{
	static const char zero[8];
	struct weft_batch_run head = { .map = map, .op = WEFT_BATCH_UPDATE, .count = count };

	assert_int_equal(weft_buf_add(batch, &head, sizeof(head)), 0);
	assert_int_equal(weft_buf_add(batch, keys, count * key_size), 0);
	assert_int_equal(weft_buf_add(batch, zero, -(count * key_size) & 7), 0);
	assert_int_equal(weft_buf_add(batch, values, count * value_size), 0);
	assert_int_equal(weft_buf_add(batch, zero, -(count * value_size) & 7), 0);
}

#define ADD_RUN(batch, map, keys, values) \
	add_run(batch, map, (uint32_t)WEFT_ARRAY_SIZE(keys), keys, sizeof(keys[0]), values, sizeof(values[0]))

struct ids {
	uint32_t http, admin, dns; /* web:80 and web:9090 are one service, dns another */
	uint32_t client_a, client_b, server; /* a and b are replicas of one Deployment */
	uint32_t bare; /* a workload that knows nothing of itself but its name */
};

static struct weft_names *make_names(struct ids *ret_ids)
{
	struct weft_names *names = weft_names_new();
	const struct weft_service_name services[] = {
		{ .namespace = "shop", .name = "web", .port_name = "http", .port = 80, .protocol = IPPROTO_TCP,
		  .host = "web.shop.svc.cluster.local" },
		{ .namespace = "shop", .name = "web", .port_name = "admin", .port = 9090, .protocol = IPPROTO_TCP,
		  .host = "web.shop.svc.cluster.local" },
		{ .namespace = "sys", .name = "dns", .port_name = "dns", .port = 53, .protocol = IPPROTO_UDP,
		  .host = "dns.sys.svc.cluster.local" },
	};
	const struct weft_workload_name workloads[] = {
		{ .kind = "Pod", .namespace = "shop", .name = "cart-7d9-aaaaa", .service_account = "cart", .node = "n1", .zone = "z1",
		  .app = "cart", .version = "v2", .owner = "cart" },
		{ .kind = "Pod", .namespace = "shop", .name = "cart-7d9-bbbbb", .service_account = "cart", .node = "n1", .zone = "z1",
		  .app = "cart", .version = "v2", .owner = "cart" },
		{ .kind = "Pod", .namespace = "shop", .name = "web-0", .service_account = "web", .node = "n1", .zone = "z1",
		  .app = "we\"b\\\n", .version = "\xff\xc3\xa9\xed\xa0\x80", .owner = "web-0" },
		{ .kind = "WorkloadEntry", .namespace = "vms", .name = "old", .service_account = "", .node = "", .zone = "",
		  .app = "", .version = "", .owner = "old" },
	};
	uint32_t *service_ids[] = { &ret_ids->http, &ret_ids->admin, &ret_ids->dns };
	uint32_t *workload_ids[] = { &ret_ids->client_a, &ret_ids->client_b, &ret_ids->server, &ret_ids->bare };
	weft_buf_done_on_exit struct weft_buf journal = WEFT_BUF_INIT;

	assert_non_null(names);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(services); i++)
		assert_int_equal(weft_names_get_service(names, &services[i], &journal, service_ids[i]), 0);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(workloads); i++)
		assert_int_equal(weft_names_get_workload(names, &workloads[i], &journal, workload_ids[i]), 0);
	return names;
}

static const struct weft_metrics_facts facts = {
	.version = "1.2.3",
	.node = "n1",
	.trust_domain = "mesh.test",
	.resources = 17,
	.refused = 1,
	.notices = 2,
	.applied = 5,
	.apply_ns = 1234567,
	.applied_unix_s = 1700000000,
	.counters_unix_s = 1690000000,
	.watchers = 1,
	.stage_lost = { [WEFT_METRICS_STAGE_RELAY] = 3, [WEFT_METRICS_STAGE_CLIENT] = 4 },
	.features = 0x5,
	.capacity.max_entries = { [WEFT_MAP_FRONTEND] = 65536, [WEFT_MAP_AGGREGATE] = 16384, [WEFT_MAP_ENDPOINT] = 131072,
				  [WEFT_MAP_TURN] = 4, [WEFT_MAP_WORKLOAD_AT] = 8 },
	.roles = (const struct weft_metrics_role[]){ { "main", 2 }, { "control", 0 } },
	.role_count = 2,
};

static void make_batch(const struct ids *ids, uint32_t setting_flags, struct weft_buf *batch)
{
	const struct weft_aggregate_key keys[] = {
		{ .source = ids->client_a, .service = ids->http, .destination = ids->server, .protocol = IPPROTO_TCP,
		  .outcome = WEFT_OUTCOME_OPEN },
		{ .source = ids->client_a, .service = ids->http, .destination = ids->server, .protocol = IPPROTO_TCP,
		  .outcome = WEFT_OUTCOME_CLOSED },
		{ .source = ids->client_b, .service = ids->admin, .destination = ids->server, .protocol = IPPROTO_TCP,
		  .outcome = WEFT_OUTCOME_RESET },
		{ .source = ids->client_a, .service = ids->http, .destination = ids->server, .protocol = IPPROTO_TCP,
		  .outcome = WEFT_OUTCOME_CLOSED, .reporter = WEFT_REPORTER_DESTINATION },
		{ .source = ids->client_b, .service = ids->http, .destination = ids->server, .protocol = IPPROTO_TCP,
		  .outcome = WEFT_OUTCOME_REFUSED },
		{ .source = ids->client_b, .service = ids->http, .destination = ids->server, .protocol = IPPROTO_TCP,
		  .outcome = WEFT_OUTCOME_TIMED_OUT },
		{ .source = ids->client_a, .service = ids->dns, .destination = ids->bare, .protocol = IPPROTO_UDP,
		  .outcome = WEFT_OUTCOME_OPEN },
		{ .source = WEFT_ID_OTHER, .service = WEFT_ID_OTHER, .destination = WEFT_ID_OTHER, .protocol = IPPROTO_TCP,
		  .outcome = WEFT_OUTCOME_CLOSED },
		{ .source = ids->bare, .protocol = IPPROTO_TCP, .outcome = WEFT_OUTCOME_CLOSED },
		{ .source = ids->bare, .destination = ids->client_a, .protocol = IPPROTO_TCP, .outcome = WEFT_OUTCOME_CLOSED,
		  .security = WEFT_SECURITY_MUTUAL_TLS },
		{ .source = ids->bare, .destination = ids->client_a, .protocol = IPPROTO_TCP, .outcome = WEFT_OUTCOME_CLOSED,
		  .security = WEFT_SECURITY_ATTESTED },
		{ .source = ids->bare, .destination = ids->client_a, .protocol = IPPROTO_TCP, .outcome = WEFT_OUTCOME_REFUSED },
	};
	const struct weft_aggregate values[] = {
		{ .opened = 3, .sent = 100, .received = 1000 },
		{ .opened = 7, .ended = 10, .sent = 200, .received = 2000, .retransmits = 5 },
		{ .opened = 4, .ended = 4, .sent = 30, .received = 400, .retransmits = 1 },
		{ .opened = 9, .ended = 9, .sent = 5000, .received = 600, .retransmits = 2 },
		{ .ended = 11 },
		{ .ended = 2, .retransmits = 12 },
		{ .opened = 21 },
		{ .opened = 1, .ended = 1, .sent = 8, .received = 9 },
		{ .opened = 2, .ended = 2, .sent = 6, .received = 7 },
		{ .opened = 5, .ended = 5, .sent = 1 },
		{ .opened = 6, .ended = 6, .sent = 1 },
		{ .ended = 8 },
	};
	const struct weft_histogram_key histogram_keys[] = {
		{ .service = ids->http }, { .service = ids->admin }, { .service = ids->http, .reporter = WEFT_REPORTER_DESTINATION } };
	struct weft_histogram histograms[] = {
		{ .connect = { [0] = 1, [4] = 2, [5] = 4, [24] = 8, [25] = 16, [31] = 32 }, .connect_us = 12345678,
		  .rtt = { [31] = 1 }, .rtt_us = 5 },
		{ .connect = { [6] = 64 }, .connect_us = 1 },
		{ .duration = { [10] = 3, [11] = 5, [30] = 7 }, .duration_us = 4000000 },
	};
	const uint32_t indexes[] = { 1, 2, 7 };
	const struct weft_endpoint endpoints[] = {
		{ .state = WEFT_ENDPOINT_READY, .id = 1, .service = ids->http },
		{ .state = WEFT_ENDPOINT_DRAINING, .id = 2, .service = ids->admin },
		{ .state = WEFT_ENDPOINT_READY, .id = 7, .service = ids->dns },
	};
	const uint32_t live_indexes[] = { 1, 2, 9, 10 };
	/* The half that is not in force means nothing. */
	const struct weft_live live[] = { { { 5, 77 } }, { { 6, 77 } }, { { 1, 0 } }, { { 0, 77 } } };
	const uint32_t setting_index[] = { 0 };
	const struct weft_setting setting[] = {
		{ .magic = WEFT_ABI_MAGIC, .version = WEFT_ABI_VERSION, .epoch = 6, .flags = setting_flags }
	};
	const uint32_t counter_indexes[] = { WEFT_COUNTER_NO_ENDPOINT, WEFT_COUNTER_BYPASSED, WEFT_COUNTER_EVENT_LOST, WEFT_COUNTER_MAX_ };
	const uint64_t counters[] = { 13, 14, 15, 16 };
	const struct weft_addr addresses[] = { { { 1 } }, { { 2 } }, { { 3 } } };
	const uint32_t workloads[] = { 1, 2, 3 };

	/* LIVE ahead of ENDPOINT, one map in two runs, and a map that is only counted. */
	ADD_RUN(batch, WEFT_MAP_LIVE, live_indexes, live);
	ADD_RUN(batch, WEFT_MAP_AGGREGATE, keys, values);
	ADD_RUN(batch, WEFT_MAP_COUNTER, counter_indexes, counters);
	add_run(batch, WEFT_MAP_ENDPOINT, 1, indexes, sizeof(indexes[0]), endpoints, sizeof(endpoints[0]));
	add_run(batch, WEFT_MAP_ENDPOINT, 2, indexes + 1, sizeof(indexes[0]), endpoints + 1, sizeof(endpoints[0]));
	ADD_RUN(batch, WEFT_MAP_WORKLOAD_AT, addresses, workloads);
	ADD_RUN(batch, WEFT_MAP_SETTING, setting_index, setting);
	ADD_RUN(batch, WEFT_MAP_HISTOGRAM, histogram_keys, histograms);
}

static void print_fixture(uint32_t setting_flags, struct weft_buf *text)
{
	struct ids ids = { 0 };
	weft_cleanup(weft_names_freep) struct weft_names *names = make_names(&ids);
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
	struct weft_err err = { 0 };
	int r;

	make_batch(&ids, setting_flags, &batch);
	r = weft_metrics_print(batch.data, batch.size, names, &facts, text, &err);
	assert_string_equal(err.text, "");
	assert_int_equal(r, 0);
}

/* The number of the one sample of `name` that has all of these label pairs; fails if there is none or there are more. */
static double sample(const struct weft_buf *text, const char *name, const char *const *pairs)
{
	size_t name_size = strlen(name), found = 0;
	double number = -1;

	for (const char *line = text->data; *line; line = strchr(line, '\n') + 1) {
		size_t size = strcspn(line, "\n");
		const char *space = memrchr(line, ' ', size);
		char *copy;
		bool all = true;

		if (strncmp(line, name, name_size) != 0 || !strchr("{ ", line[name_size]))
			continue;
		copy = strndup(line, size);
		assert_non_null(copy);
		for (const char *const *pair = pairs; all && *pair; pair++)
			all = strstr(copy, *pair) != NULL;
		free(copy);
		if (!all)
			continue;
		number = strtod(space + 1, NULL);
		found++;
	}
	if (found != 1)
		fail_msg("%zu samples of %s{%s...}", found, name, pairs[0] ? pairs[0] : "");
	return number;
}

#define SAMPLE(name, ...) ((long long)(sample(text, name, (const char *[]){ __VA_ARGS__, NULL }) * 1e6 + 0.5))
#define WHOLE(number) ((number) * 1000000LL)

#define WEB "destination_service=\"web.shop.svc.cluster.local\""
#define SOURCE "reporter=\"source\""

static void with_fixture(void (*check)(const struct weft_buf *text))
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;

	print_fixture(0, &text);
	check(&text);
}

static void check_folding(const struct weft_buf *text)
{
	/* Two replicas, two ports, three outcomes, one series. */
	assert_int_equal(SAMPLE("istio_tcp_connections_opened_total", SOURCE, WEB), WHOLE(3 + 7 + 4));
	assert_int_equal(SAMPLE("istio_tcp_connections_closed_total", SOURCE, WEB), WHOLE(10 + 4));
	assert_int_equal(SAMPLE("istio_tcp_connections_failed_total", SOURCE, WEB, "response_flags=\"CONNECT\""), WHOLE(11 + 2));
	assert_int_equal(SAMPLE("weft_connection_failures_total", WEB, "outcome=\"refused\""), WHOLE(11));
	assert_int_equal(SAMPLE("weft_connection_failures_total", WEB, "outcome=\"timed_out\""), WHOLE(2));
	assert_int_equal(SAMPLE("weft_connection_failures_total", WEB, "outcome=\"reset\""), WHOLE(4));
	assert_null(strstr(text->data, "outcome=\"abandoned\""));
	assert_int_equal(SAMPLE("weft_tcp_retransmits_total", SOURCE, WEB), WHOLE(5 + 1 + 12));
	assert_int_equal(SAMPLE("weft_tcp_retransmits_total", "reporter=\"destination\"", WEB), WHOLE(2));
	assert_int_equal(SAMPLE("weft_udp_associations_total", "destination_service_name=\"dns\""), WHOLE(21));
	/* UDP is in no family of Istio's, which are of TCP. */
	for (const char *at = text->data; (at = strstr(at, "\nistio_")); at++)
		assert_null(memmem(at, strcspn(at + 1, "\n"), "dns.sys", 7));
}

/* Received is what destinations received, whoever reports. */
static void check_directions(const struct weft_buf *text)
{
	assert_int_equal(SAMPLE("istio_tcp_received_bytes_total", SOURCE, WEB), WHOLE(100 + 200 + 30));
	assert_int_equal(SAMPLE("istio_tcp_sent_bytes_total", SOURCE, WEB), WHOLE(1000 + 2000 + 400));
	assert_int_equal(SAMPLE("istio_tcp_received_bytes_total", "reporter=\"destination\"", WEB), WHOLE(600));
	assert_int_equal(SAMPLE("istio_tcp_sent_bytes_total", "reporter=\"destination\"", WEB), WHOLE(5000));
}

static void check_unknown(const struct weft_buf *text)
{
	assert_int_equal(SAMPLE("istio_tcp_received_bytes_total", "source_workload=\"other\"", "destination_workload=\"other\"",
				"destination_service=\"other\"", "source_cluster=\"other\""), WHOLE(8));
	/* Workload by name only: canonical names as istiod makes them. */
	assert_int_equal(SAMPLE("istio_tcp_received_bytes_total", "source_workload=\"old\"", "source_app=\"old\"",
				"source_canonical_service=\"old\"", "source_canonical_revision=\"latest\"", "source_version=\"latest\"",
				"source_cluster=\"unknown\"", "source_principal=\"unknown\"", "destination_workload=\"unknown\"",
				"destination_service=\"unknown\"", "destination_service_name=\"unknown\"",
				"destination_service_namespace=\"unknown\"", "destination_app=\"unknown\"",
				"destination_version=\"unknown\"", "connection_security_policy=\"none\""), WHOLE(6));
	assert_null(strstr(text->data, "=\"\""));
}

static void check_security(const struct weft_buf *text)
{
#define PROVEN "source_principal=\"spiffe://mesh.test/ns/vms/sa/default\"", "destination_principal=\"spiffe://mesh.test/ns/shop/sa/"
	assert_int_equal(SAMPLE("istio_tcp_connections_opened_total", PROVEN, "connection_security_policy=\"mutual_tls\""), WHOLE(5));
	assert_int_equal(SAMPLE("istio_tcp_connections_opened_total", PROVEN, "connection_security_policy=\"attested\""), WHOLE(6));
	assert_int_equal(SAMPLE("istio_tcp_connections_failed_total", "source_workload=\"old\"", "source_principal=\"unknown\"",
				"connection_security_policy=\"none\""), WHOLE(8));
#undef PROVEN
}

static void check_escaping(const struct weft_buf *text)
{
	assert_int_equal(SAMPLE("istio_tcp_connections_opened_total", SOURCE, "destination_app=\"we\\\"b\\\\\\n\"",
				"destination_version=\"?\xc3\xa9???\""), WHOLE(14));
}

static void check_histograms(const struct weft_buf *text)
{
	static const struct {
		const char *le;
		long long count;
	} connect[] = {
		{ "le=\"1.6e-05\"", 3 }, { "le=\"6.4e-05\"", 71 }, { "le=\"0.000256\"", 71 }, { "le=\"4.194304\"", 71 },
		{ "le=\"16.777216\"", 79 }, { "le=\"+Inf\"", 127 },
	}, duration[] = {
		{ "le=\"0.001024\"", 3 }, { "le=\"0.004096\"", 8 }, { "le=\"268.435456\"", 8 }, { "le=\"1073.741824\"", 15 },
		{ "le=\"+Inf\"", 15 },
	};

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(connect); i++)
		assert_int_equal(SAMPLE("weft_connect_seconds_bucket", SOURCE, WEB, connect[i].le), WHOLE(connect[i].count));
	assert_int_equal(SAMPLE("weft_connect_seconds_count", SOURCE, WEB), WHOLE(127));
	assert_int_equal(SAMPLE("weft_connect_seconds_sum", SOURCE, WEB), 12345679);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(duration); i++)
		assert_int_equal(SAMPLE("weft_connection_duration_seconds_bucket", WEB, duration[i].le), WHOLE(duration[i].count));
	assert_int_equal(SAMPLE("weft_connection_duration_seconds_sum", WEB), WHOLE(4));
	assert_int_equal(SAMPLE("weft_rtt_seconds_bucket", WEB, "le=\"+Inf\""), WHOLE(1));
	assert_int_equal(SAMPLE("weft_rtt_seconds_bucket", WEB, "le=\"4.194304\""), 0);
}

static void check_rest(const struct weft_buf *text)
{
	assert_int_equal(SAMPLE("weft_live_connections", WEB), WHOLE(11));
	assert_int_equal(SAMPLE("weft_live_connections", "destination_service=\"unknown\""), WHOLE(1));
	assert_int_equal(SAMPLE("weft_live_connections", "destination_service_name=\"dns\""), 0);
	assert_int_equal(SAMPLE("weft_refused_total", "reason=\"no_endpoint\""), WHOLE(13));
	assert_int_equal(SAMPLE("weft_refused_total", "reason=\"no_port\""), 0);
	assert_int_equal(SAMPLE("weft_passed_total", "reason=\"bypassed\""), WHOLE(14));
	assert_int_equal(SAMPLE("weft_lost_total", "what=\"event_lost\""), WHOLE(15));
	assert_int_equal(SAMPLE("weft_lost_total", "what=\"event_relay\""), WHOLE(3));
	assert_int_equal(SAMPLE("weft_lost_total", "what=\"event_client\""), WHOLE(4));
	assert_int_equal(SAMPLE("weft_map_entries", "map=\"weft_frontend\""), 0);
	assert_int_equal(SAMPLE("weft_map_entries", "map=\"weft_aggregate\""), WHOLE(12));
	assert_int_equal(SAMPLE("weft_map_entries", "map=\"weft_workload_at\""), WHOLE(3)); /* is only counted */
	assert_int_equal(SAMPLE("weft_map_entries", "map=\"weft_endpoint\""), WHOLE(3)); /* two runs of one map */
	assert_int_equal(SAMPLE("weft_map_capacity", "map=\"weft_aggregate\""), WHOLE(16384));
	assert_null(strstr(text->data, "weft_map_entries{map=\"weft_turn\""));
	assert_null(strstr(text->data, "map=\"weft_pod\"")); /* without a capacity */
	assert_int_equal(SAMPLE("weft_config_last_apply_seconds", " "), 1235);
	assert_int_equal(SAMPLE("weft_counters_start_timestamp_seconds", " "), WHOLE(1690000000));
	assert_int_equal(SAMPLE("weft_config_refused", " "), WHOLE(1));
	assert_int_equal(SAMPLE("weft_agent_role_restarts_total", "role=\"main\""), WHOLE(2));
	assert_int_equal(SAMPLE("weft_feature_present", "feature=\"btf\""), WHOLE(1));
	assert_int_equal(SAMPLE("weft_feature_present", "feature=\"cgroup2\""), 0);
	assert_int_equal(SAMPLE("weft_build_info", "version=\"1.2.3\"", "node=\"n1\""), WHOLE(1));
}

/* Every sample carries the labels that the list promises for its family, in that order, and no two samples are one series. */
static void check_labels(const struct weft_buf *text)
{
	static const struct {
		const char *name, *labels;
	} promised[] = {
#define WEFT_METRIC(NAME, name_, type, unit, help, labels_) { name_, labels_ },
#include "weft/lists/metric.h"
#undef WEFT_METRIC
	};
	size_t checked = 0;

	for (const char *line = text->data; *line; line = strchr(line, '\n') + 1) {
		const struct { const char *name, *labels; } *family = NULL;
		char name[128] = "", labels[2048] = "", series[4096];
		const char *s = line;
		size_t length;

		if (*line == '#')
			continue;
		sprintf(name, "%.*s", (int)strcspn(line, "{ "), line);
		for (size_t i = 0; i < WEFT_ARRAY_SIZE(promised); i++) {
			length = strlen(promised[i].name);
			if (!strncmp(name, promised[i].name, length) && (!name[length] || !strcmp(name + length, "_bucket") ||
			    !strcmp(name + length, "_sum") || !strcmp(name + length, "_count")))
				family = (const void *)&promised[i];
		}
		assert_non_null(family);
		s += strlen(name);
		while (*s == '{' || *s == ',') {
			s++;
			length = strcspn(s, "=");
			if (memcmp(s, "le=", 3) != 0)
				sprintf(labels + strlen(labels), "%s%.*s", *labels ? "," : "", (int)length, s);
			for (s += length + 2; *s != '"'; s++)
				s += *s == '\\';
			s++;
		}
		s += *s == '}';
		assert_int_equal(*s, ' ');
		assert_string_equal(labels, family->labels);
		sprintf(series, "\n%.*s", (int)(s + 1 - line), line);
		assert_null(strstr(s, series));
		checked++;
	}
	assert_true(checked > 100);
}

/* What traffic counts, to the byte; what follows has a row for each item of lists that grow. */
static void check_golden(const struct weft_buf *text)
{
	weft_close_on_exit int fd = open(getenv("WEFT_GOLDEN"), O_RDONLY | O_CLOEXEC);
	weft_buf_done_on_exit struct weft_buf golden = WEFT_BUF_INIT;
	static const char next[] = "# HELP weft_refused_total ";

	assert_true(fd >= 0);
	assert_int_equal(weft_read_all(fd, 1 << 20, &golden), 0);
	if (strncmp(text->data, golden.data, golden.size) != 0)
		fail_msg("differs from the golden text:\n%s", text->data);
	assert_int_equal(strncmp(text->data + golden.size, next, strlen(next)), 0);
}

static int promtool(const char *text, char *said, size_t size)
{
	char path[] = "/tmp/weft-unit-metrics-XXXXXX", command[128];
	int fd = mkstemp(path), status;
	size_t got;
	FILE *pipe;

	assert_true(fd >= 0);
	assert_int_equal(weft_write_all(fd, text, strlen(text)), 0);
	close(fd);
	sprintf(command, "promtool check metrics <%s 2>&1", path);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	got = fread(said, 1, size - 1, pipe);
	said[got] = '\0';
	status = pclose(pipe);
	unlink(path);
	return WEXITSTATUS(status);
}

static void check_promtool(const struct weft_buf *text)
{
	char said[4096];

	if (system("command -v promtool >/dev/null") != 0) {
		print_message("skipped: promtool (Debian's prometheus package) is not installed\n");
		skip();
	}
	if (promtool(text->data, said, sizeof(said)) != 0 || *said)
		fail_msg("promtool: %s", said);
	/* It would have said something. */
	assert_int_not_equal(promtool("# TYPE weft_bad counter\nweft_bad 1\n", said, sizeof(said)), 0);
	assert_non_null(strstr(said, "weft_bad"));
}

#define FIXTURE_TEST(what)                     \
	static void test_##what(void **state)  \
	{                                      \
		(void)state;                   \
		with_fixture(check_##what);    \
	}
FIXTURE_TEST(folding)
FIXTURE_TEST(directions)
FIXTURE_TEST(unknown)
FIXTURE_TEST(security)
FIXTURE_TEST(escaping)
FIXTURE_TEST(histograms)
FIXTURE_TEST(rest)
FIXTURE_TEST(labels)
FIXTURE_TEST(golden)
FIXTURE_TEST(promtool)

/* Counts that are still to be made are not shown, nor are zeros in their place. */
static void test_recount(void **state)
{
	weft_buf_done_on_exit struct weft_buf counted = WEFT_BUF_INIT, text = WEFT_BUF_INIT;

	(void)state;
	print_fixture(0, &counted);
	print_fixture(WEFT_SETTING_F_RECOUNT, &text);
	assert_non_null(strstr(counted.data, "\nweft_live_connections{"));
	assert_null(strstr(text.data, "\nweft_live_connections{"));
	assert_non_null(strstr(text.data, "\nistio_tcp_connections_opened_total{"));
}

static void test_empty(void **state)
{
	weft_cleanup(weft_names_freep) struct weft_names *names = weft_names_new();
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	const struct weft_metrics_facts none = { 0 };
	struct weft_err err = { 0 };
	char said[4096];

	(void)state;
	assert_int_equal(weft_metrics_print(NULL, 0, names, &none, &text, &err), 0);
	assert_non_null(strstr(text.data, "weft_build_info{version=\"unknown\",node=\"unknown\"} 1\n"));
	assert_null(strstr(text.data, "\nistio_"));
	if (system("command -v promtool >/dev/null") == 0 && (promtool(text.data, said, sizeof(said)) != 0 || *said))
		fail_msg("promtool: %s", said);
}

/* Every cut of the batch, and every bad number in it, is refused or harmless; the text stays as it was. */
static void test_malformed(void **state)
{
	struct ids ids = { 0 };
	weft_cleanup(weft_names_freep) struct weft_names *names = make_names(&ids);
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT, text = WEFT_BUF_INIT;
	struct weft_batch_run head;
	struct weft_err err = { 0 };
	size_t refused = 0;

	(void)state;
	make_batch(&ids, 0, &batch);
	assert_int_equal(weft_buf_add(&text, "before", 6), 0);
	for (size_t size = 1; size < batch.size; size++) {
		/* A copy of exactly this size, so that a sanitizer sees a read behind it. */
		char *cut = malloc(size);
		int r;

		assert_non_null(cut);
		memcpy(cut, batch.data, size);
		r = weft_metrics_print(cut, size, names, &facts, &text, &err);
		free(cut);
		if (!r) { /* cut between two runs */
			text.size = 6;
			text.data[6] = '\0';
			continue;
		}
		assert_int_equal(r, -EBADMSG);
		assert_string_equal(text.data, "before");
		refused++;
	}
	assert_int_equal(batch.size - 1 - refused, 7); /* the ends of all runs but the last */

	memcpy(&head, batch.data, sizeof(head));
	for (int i = 0; i < 4; i++) {
		struct weft_batch_run bad = head;
		*(i == 0 ? &bad.map : i == 1 ? &bad.op : &bad.count) = i == 1 ? WEFT_BATCH_DELETE : i == 2 ? UINT32_MAX : 0x7fffffff;
		memcpy(batch.data, &bad, sizeof(bad));
		assert_int_equal(weft_metrics_print(batch.data, batch.size, names, &facts, &text, &err), -EBADMSG);
		assert_string_not_equal(err.text, "");
	}
	assert_string_equal(text.data, "before");
}

static void expect_entry_refused(enum weft_map map, const void *key, size_t key_size, const void *value, size_t value_size)
{
	weft_cleanup(weft_names_freep) struct weft_names *names = weft_names_new();
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT, text = WEFT_BUF_INIT;
	struct weft_err err = { 0 };

	add_run(&batch, map, 1, key, key_size, value, value_size);
	assert_int_equal(weft_metrics_print(batch.data, batch.size, names, &facts, &text, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "weft_"));
}

static void test_bad_entries(void **state)
{
	const struct weft_aggregate_key reporter = { .reporter = WEFT_REPORTER_MAX_ }, outcome = { .outcome = WEFT_OUTCOME_MAX_ };
	const struct weft_histogram_key histogram = { .reporter = WEFT_REPORTER_MAX_ };
	const uint32_t index = WEFT_ENDPOINT_INDEX_MASK + 1;
	static const struct weft_histogram values;
	static const struct weft_aggregate aggregate;
	static const struct weft_endpoint endpoint;

	(void)state;
	expect_entry_refused(WEFT_MAP_AGGREGATE, &reporter, sizeof(reporter), &aggregate, sizeof(aggregate));
	expect_entry_refused(WEFT_MAP_AGGREGATE, &outcome, sizeof(outcome), &aggregate, sizeof(aggregate));
	expect_entry_refused(WEFT_MAP_HISTOGRAM, &histogram, sizeof(histogram), &values, sizeof(values));
	expect_entry_refused(WEFT_MAP_ENDPOINT, &index, sizeof(index), &endpoint, sizeof(endpoint));
}

/* docs/METRICS.md holds the table that the list makes. */
static void test_document(void **state)
{
	weft_close_on_exit int fd = open(getenv("WEFT_METRICS_MD"), O_RDONLY | O_CLOEXEC);
	weft_buf_done_on_exit struct weft_buf document = WEFT_BUF_INIT, table = WEFT_BUF_INIT;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(weft_read_all(fd, 1 << 20, &document), 0);
	assert_int_equal(weft_metrics_print_table(&table), 0);
	if (!strstr(document.data, table.data))
		fail_msg("docs/METRICS.md must hold this table:\n%s", table.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_folding),	   cmocka_unit_test(test_directions), cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_escaping),   cmocka_unit_test(test_histograms), cmocka_unit_test(test_rest),
		cmocka_unit_test(test_labels),	   cmocka_unit_test(test_golden),     cmocka_unit_test(test_promtool),  cmocka_unit_test(test_recount),
		cmocka_unit_test(test_empty),	   cmocka_unit_test(test_malformed),  cmocka_unit_test(test_bad_entries),
		cmocka_unit_test(test_document),   cmocka_unit_test(test_security),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
