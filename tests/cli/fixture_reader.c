/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for kernel/reader.c: the same functions over tables in memory. The
 * pin folder chooses what is found: "fixture" the mesh below, "empty" fresh
 * maps, "bypass" the mesh in bypass, "secure" it with workloads of the secure lane, "recount" it with live counts that are not right, "hidden" it beside two processes that may not be looked at, "old" pins of another version, all else nothing.
 *
 *   shop/web:80/tcp  service 1  10.96.0.10:80 and fd00:96::10:80 cluster-ip, node port 30080, 192.0.2.5:80 external-ip,
 *                               192.0.2.6:80 load-balancer (round-robin); endpoints 10.0.1.1, 10.0.1.2 (weights 90, 10), v6 fd00:1::1
 *   shop/dns:53/udp  service 2  10.96.0.53:53 cluster-ip, random, endpoints 10.0.2.1 serving
 *   shop/kv:6379/tcp service 3  10.96.0.11:6379 cluster-ip, client affinity 600 s, endpoints 10.0.3.1, 10.0.3.2
 *   shop/none:80/tcp service 4  10.96.0.12:80 cluster-ip without endpoints
 *   ext/api:443/tcp  service 5  203.0.113.7:443 service-entry, never rewritten
 *   port 6380 and 192.0.2.4/31 are opted out; 10.96.0.10, 10.96.0.11 refuse other ports; 172.16.0.1 is this node's address, 172.16.0.2 another node's
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "fixture.h"
#include "kernel/reader.h"
#include "weft/abi/counter.h"

#define ID(index) ((1u << WEFT_ENDPOINT_INDEX_BITS) | (index))
#define SECOND 1000000000ull
#define PER_CENT(n) ((__u32)((n)*42949672.96) - 1)

struct table {
	struct weft_buf keys, values;
	size_t count;
	__u32 key_size, value_size, max_entries;
	const char *name, *sentence;
	bool array;
};

struct weft_reader {
	struct table tables[WEFT_MAP_MAX_];
	struct weft_buf conns;
	struct weft_err missing;
};

static struct weft_addr addr(const char *text)
{
	struct weft_addr a = { 0 };

	if (weft_addr_parse(text, &a) < 0)
		abort();
	return a;
}

static void put(struct weft_reader *reader, enum weft_map map, const void *key, const void *value)
{
	struct table *table = &reader->tables[map];

	if (weft_buf_add(&table->keys, key, table->key_size) < 0 ||
	    weft_buf_add(&table->values, value, table->value_size) < 0)
		abort();
	table->count++;
}

static void frontend(struct weft_reader *reader, const char *address, __u16 port, __u8 protocol,
		     struct weft_frontend value)
{
	struct weft_frontend_key key = { .addr = addr(address), .port = htons(port), .protocol = protocol };

	put(reader, WEFT_MAP_FRONTEND, &key, &value);
}

static void frontends(struct weft_reader *reader)
{
	struct weft_frontend web = {
		.service = 1, .slot = 0, .count = 2, .type = WEFT_FRONTEND_CLUSTER_IP, .flags = WEFT_FRONTEND_F_WEIGHTED
	};
	struct weft_frontend web6 = { .service = 1, .slot = 2, .count = 1, .type = WEFT_FRONTEND_CLUSTER_IP };
	struct weft_frontend kv = {
		.service = 3, .slot = 4, .count = 2, .type = WEFT_FRONTEND_CLUSTER_IP, .affinity_s = 600
	};

	frontend(reader, "10.96.0.10", 80, IPPROTO_TCP, web);
	frontend(reader, "fd00:96::10", 80, IPPROTO_TCP, web6);
	web.type = WEFT_FRONTEND_EXTERNAL_IP;
	frontend(reader, "192.0.2.5", 80, IPPROTO_TCP, web);
	web.type = WEFT_FRONTEND_LOAD_BALANCER;
	web.algorithm = WEFT_ALGORITHM_ROUND_ROBIN;
	frontend(reader, "192.0.2.6", 80, IPPROTO_TCP, web);
	web.algorithm = WEFT_ALGORITHM_LEAST_REQUEST;
	web.type = WEFT_FRONTEND_NODE_PORT;
	web.flags |= WEFT_FRONTEND_F_THIS_NODE;
	frontend(reader, "0.0.0.0", 30080, IPPROTO_TCP, web);
	frontend(reader, "10.96.0.53", 53, IPPROTO_UDP,
		 (struct weft_frontend){ .service = 2,
					 .slot = 3,
					 .count = 1,
					 .type = WEFT_FRONTEND_CLUSTER_IP,
					 .algorithm = WEFT_ALGORITHM_RANDOM });
	frontend(reader, "10.96.0.11", 6379, IPPROTO_TCP, kv);
	frontend(reader, "10.96.0.11", 6380, IPPROTO_TCP, kv);
	frontend(reader, "10.96.0.12", 80, IPPROTO_TCP,
		 (struct weft_frontend){ .service = 4, .type = WEFT_FRONTEND_CLUSTER_IP });
	frontend(reader, "203.0.113.7", 443, IPPROTO_TCP,
		 (struct weft_frontend){
			 .service = 5, .type = WEFT_FRONTEND_SERVICE_ENTRY, .flags = WEFT_FRONTEND_F_PASS });
	frontend(reader, "10.96.0.10", 0, 0,
		 (struct weft_frontend){ .type = WEFT_FRONTEND_ADDRESS, .flags = WEFT_FRONTEND_F_REFUSE });
	frontend(reader, "10.96.0.11", 0, 0,
		 (struct weft_frontend){ .type = WEFT_FRONTEND_ADDRESS, .flags = WEFT_FRONTEND_F_REFUSE });
	frontend(reader, "203.0.113.7", 0, 0, (struct weft_frontend){ .type = WEFT_FRONTEND_ADDRESS });
	frontend(reader, "172.16.0.1", 0, 0,
		 (struct weft_frontend){ .type = WEFT_FRONTEND_ADDRESS,
					 .flags = WEFT_FRONTEND_F_NODE | WEFT_FRONTEND_F_THIS_NODE });
	frontend(reader, "172.16.0.2", 0, 0,
		 (struct weft_frontend){ .type = WEFT_FRONTEND_ADDRESS, .flags = WEFT_FRONTEND_F_NODE });
}

/* An ARRAY: every index is there, in order. */
static void fill(struct weft_reader *reader, enum weft_map map, const void *values, __u32 count)
{
	struct table *table = &reader->tables[map];

	for (__u32 i = 0; i < count; i++)
		put(reader, map, &i, (const char *)values + (size_t)i * table->value_size);
	table->max_entries = count;
	table->array = true;
}

static void endpoints(struct weft_reader *reader)
{
	const struct weft_endpoint endpoint[] = {
		{ .id = 0 },
		{ addr("10.0.1.1"), htons(8080), IPPROTO_TCP, WEFT_ENDPOINT_READY, ID(1), 1, 1, 90,
		  WEFT_ENDPOINT_F_LOCAL },
		{ addr("10.0.1.2"), htons(8080), IPPROTO_TCP, WEFT_ENDPOINT_READY, ID(2), 1, 2, 10, 0 },
		{ addr("fd00:1::1"), htons(8080), IPPROTO_TCP, WEFT_ENDPOINT_READY, ID(3), 1, 1, 1,
		  WEFT_ENDPOINT_F_LOCAL },
		{ addr("10.0.2.1"), htons(5353), IPPROTO_UDP, WEFT_ENDPOINT_SERVING, ID(4), 2, 0, 1, 0 },
		{ addr("10.0.3.1"), htons(6379), IPPROTO_TCP, WEFT_ENDPOINT_READY, ID(5), 3, 3, 1, 0 },
		{ addr("10.0.3.2"), htons(6379), IPPROTO_TCP, WEFT_ENDPOINT_READY, ID(6), 3, 9, 1, 0 },
		{ addr("10.0.1.9"), htons(8080), IPPROTO_TCP, WEFT_ENDPOINT_DRAINING, ID(7), 1, 0, 1, 0 },
	};
	const struct weft_slot slot[] = {
		{ ID(1), ID(1), 0xffffffffu }, { ID(2), ID(1), PER_CENT(20) }, { ID(3), ID(3), 0xffffffffu },
		{ ID(4), ID(4), 0xffffffffu }, { ID(5), ID(5), 0xffffffffu },  { ID(6), ID(6), 0xffffffffu },
	};
	/* the epoch is 2, so the first half counts; the other one means nothing and says so */
	const struct weft_live live[] = {
		{ { 0, 0 } },	{ { 27, 999 } }, { { 3, 999 } }, { { 1, 999 } },
		{ { 0, 999 } }, { { 4, 999 } },	 { { 0, 999 } }, { { 2, 999 } },
	};

	fill(reader, WEFT_MAP_ENDPOINT, endpoint, WEFT_ARRAY_SIZE(endpoint));
	fill(reader, WEFT_MAP_SLOT, slot, WEFT_ARRAY_SIZE(slot));
	fill(reader, WEFT_MAP_LIVE, live, WEFT_ARRAY_SIZE(live));
}

static void workloads(struct weft_reader *reader)
{
	static const struct {
		const char *address;
		__u32 workload;
	} at[] = { { "10.0.1.1", 1 }, { "fd00:1::1", 1 }, { "10.0.1.2", 2 },
		   { "10.0.3.1", 3 }, { "10.0.9.1", 4 },  { "10.0.9.2", 5 } };
	const __u64 netns[] = { 4097, 4098, 4099 };
	const struct weft_pod pod[] = { { 1, 0 }, { 4, 0 }, { 5, WEFT_POD_F_OPT_OUT } };
	const struct weft_capture capture = { .workload = 1 };

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(at); i++) {
		struct weft_addr key = addr(at[i].address);

		put(reader, WEFT_MAP_WORKLOAD_AT, &key, &at[i].workload);
	}
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(pod); i++)
		put(reader, WEFT_MAP_POD, &netns[i], &pod[i]);
	put(reader, WEFT_MAP_CAPTURE, &netns[0], &capture);
}

static void exceptions(struct weft_reader *reader)
{
	const struct weft_port port = { .port = htons(6380), .protocol = IPPROTO_TCP };
	struct weft_cidr cidr;
	__u32 one = 1;

	if (weft_cidr_parse("192.0.2.4/31", &cidr) < 0)
		abort();
	put(reader, WEFT_MAP_OPTOUT_PORT, &port, &one);
	put(reader, WEFT_MAP_OPTOUT_CIDR, &cidr, &one);
}

static void affinities(struct weft_reader *reader)
{
	const struct weft_affinity_key recent = { .client = 4098, .service = 3 },
				       old = { .client = 4097, .service = 3 };

	put(reader, WEFT_MAP_AFFINITY, &recent,
	    &(struct weft_affinity){ .used_ns = FIXTURE_NOW_NS - 60 * SECOND, .endpoint = ID(5) });
	put(reader, WEFT_MAP_AFFINITY, &old,
	    &(struct weft_affinity){ .used_ns = FIXTURE_NOW_NS - 700 * SECOND, .endpoint = ID(6) });
}

static void aggregates(struct weft_reader *reader, unsigned looks)
{
	const struct weft_aggregate_key key[] = {
		{ 4, 1, 1, WEFT_REPORTER_SOURCE, WEFT_OUTCOME_CLOSED, IPPROTO_TCP, 0 },
		{ 4, 1, 2, WEFT_REPORTER_SOURCE, WEFT_OUTCOME_REFUSED, IPPROTO_TCP, 0 },
		{ 4, 1, 1, WEFT_REPORTER_DESTINATION, WEFT_OUTCOME_CLOSED, IPPROTO_TCP, 0 },
		{ 0, 3, 3, WEFT_REPORTER_DESTINATION, WEFT_OUTCOME_OPEN, IPPROTO_TCP, 0 },
		{ WEFT_ID_OTHER, WEFT_ID_OTHER, WEFT_ID_OTHER, WEFT_REPORTER_SOURCE, WEFT_OUTCOME_CLOSED, IPPROTO_UDP,
		  0 },
		{ WEFT_ID_OTHER, WEFT_ID_OTHER, WEFT_ID_OTHER, WEFT_REPORTER_SOURCE, WEFT_OUTCOME_RESET, IPPROTO_UDP,
		  0 },
	};
	const struct weft_aggregate value[] = {
		{ 1000 + 50 * looks, 1000 + 50 * looks, 64000 + 1024 * looks, 5000000 + 1047552 * looks, 7,
		  12 * SECOND },
		{ 0, 5 + 2 * looks, 0, 0, 0, 0 },
		{ 1000 + 50 * looks, 1000 + 50 * looks, 9000000, 64000, 1, 12 * SECOND },
		{ 3 + looks, 0, 100, 200, 0, 0 },
		{ 1, 1, 10, 20, 0, SECOND },
		{ 0 },
	};

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(key); i++)
		put(reader, WEFT_MAP_AGGREGATE, &key[i], &value[i]);
}

static void histograms(struct weft_reader *reader, unsigned looks)
{
	const struct weft_histogram_key key = { .service = 1, .reporter = WEFT_REPORTER_SOURCE };
	struct weft_histogram value = { .connect = { [7] = 900, [10] = 100 },
					.duration = { [14] = 1000 },
					.rtt = { [6] = 1000, [9] = 40 * looks } };

	put(reader, WEFT_MAP_HISTOGRAM, &key, &value);
}

static void conns(struct weft_reader *reader)
{
	const struct weft_conn conn[] = {
		{ .cookie = 71,
		  .netns = 4098,
		  .start_ns = FIXTURE_NOW_NS - 192 * SECOND,
		  .established_ns = FIXTURE_NOW_NS - 191 * SECOND,
		  .sent = 2048,
		  .received = 5 << 20,
		  .local = addr("10.0.9.1"),
		  .remote = addr("10.0.1.1"),
		  .frontend = addr("10.96.0.10"),
		  .local_port = htons(41000),
		  .remote_port = htons(8080),
		  .frontend_port = htons(80),
		  .protocol = IPPROTO_TCP,
		  .role = WEFT_ROLE_CLIENT,
		  .state = TCP_ESTABLISHED,
		  .family = AF_INET,
		  .netns_inode = 4026532001u,
		  .service = 1,
		  .endpoint = ID(1),
		  .workload = 4,
		  .peer = 1,
		  .flags = WEFT_SOCK_F_TRANSLATED | WEFT_SOCK_F_COUNTED,
		  .srtt_us = 180,
		  .min_rtt_us = 95,
		  .retransmits = 2 },
		{ .cookie = 72,
		  .netns = 4097,
		  .start_ns = FIXTURE_NOW_NS - 191 * SECOND,
		  .sent = 5 << 20,
		  .received = 2048,
		  .local = addr("10.0.1.1"),
		  .remote = addr("10.0.9.1"),
		  .local_port = htons(8080),
		  .remote_port = htons(41000),
		  .protocol = IPPROTO_TCP,
		  .role = WEFT_ROLE_SERVER,
		  .state = TCP_CLOSE_WAIT,
		  .family = AF_INET,
		  .netns_inode = 4026532000u,
		  .service = 1,
		  .endpoint = ID(1),
		  .workload = 1,
		  .peer = 4,
		  .srtt_us = 210,
		  .min_rtt_us = UINT32_MAX },
		{ .cookie = 73,
		  .start_ns = FIXTURE_NOW_NS - 2 * SECOND,
		  .local = addr("fd00:9::7"),
		  .remote = addr("10.0.2.1"),
		  .frontend = addr("10.96.0.53"),
		  .local_port = htons(50000),
		  .remote_port = htons(5353),
		  .frontend_port = htons(53),
		  .protocol = IPPROTO_UDP,
		  .role = WEFT_ROLE_CLIENT,
		  .state = TCP_ESTABLISHED,
		  .family = AF_INET6,
		  .netns_inode = 4026531840u,
		  .service = 2,
		  .endpoint = ID(4),
		  .flags = WEFT_SOCK_F_TRANSLATED },
	};

	if (weft_buf_add(&reader->conns, conn, sizeof(conn)) < 0)
		abort();
}

static void counters(struct weft_reader *reader)
{
	__u64 value[WEFT_COUNTER_MAX_] = {
		[WEFT_COUNTER_NO_ENDPOINT] = 12, [WEFT_COUNTER_NO_PORT] = 1, [WEFT_COUNTER_EVENT_LOST] = 3
	};

	fill(reader, WEFT_MAP_COUNTER, value, WEFT_COUNTER_MAX_);
}

int weft_reader_open(const char *pins, struct weft_reader **ret_reader, struct weft_err *err)
{
	/* counters grow from one look of a process to the next, so that there are rates */
	static unsigned looks;
	struct weft_setting setting = { .magic = WEFT_ABI_MAGIC,
					.version = WEFT_ABI_VERSION,
					.epoch = 2,
					.flags = WEFT_SETTING_F_METRICS | WEFT_SETTING_F_OPT_OUT,
					.boot_ns = FIXTURE_NOW_NS - 7265 * SECOND };
	struct weft_reader *reader;
	__u64 turn[8] = { [1] = 41 };
	bool empty = strcmp(pins, "empty") == 0, recount = strcmp(pins, "recount") == 0, hidden = strcmp(pins, "hidden") == 0;

	if (strcmp(pins, "old") == 0)
		return weft_err_set(err, EPROTO, "%s was pinned by version 0, this is version 1", pins);
	if (!empty && !recount && !hidden && strcmp(pins, "fixture") != 0 && strcmp(pins, "secure") != 0 && strcmp(pins, "bypass") != 0)
		return weft_err_set(err, ENOENT, "nothing is pinned at %s", pins);
	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return weft_err_set(err, ENOMEM, "out of memory");
#define WEFT_MAP(NAME, map_name, key, value, owner, map_sentence)                                                      \
	reader->tables[WEFT_MAP_##NAME] = (struct table){ .key_size = sizeof(key),                                     \
							  .value_size = sizeof(value),                                 \
							  .max_entries = 64,                                           \
							  .name = map_name,                                            \
							  .sentence = map_sentence };
#include "weft/lists/map.h"
#undef WEFT_MAP
	if (strcmp(pins, "bypass") == 0)
		setting.flags |= WEFT_SETTING_F_BYPASS;
	if (strcmp(pins, "secure") == 0)
		setting.flags |= WEFT_SETTING_F_SECURE;
	if (hidden)
		weft_err_set(&reader->missing, EPERM, "2 processes may not be looked at");
	if (recount)
		setting.flags |= WEFT_SETTING_F_RECOUNT;
	fill(reader, WEFT_MAP_SETTING, &setting, 1);
	*ret_reader = reader;
	if (empty)
		return 0;
	frontends(reader);
	endpoints(reader);
	workloads(reader);
	exceptions(reader);
	affinities(reader);
	aggregates(reader, looks);
	histograms(reader, looks++);
	counters(reader);
	conns(reader);
	fill(reader, WEFT_MAP_TURN, turn, WEFT_ARRAY_SIZE(turn));
	return 0;
}

struct weft_reader *weft_reader_close(struct weft_reader *reader)
{
	if (!reader)
		return NULL;
	for (int i = 0; i < WEFT_MAP_MAX_; i++) {
		weft_buf_done(&reader->tables[i].keys);
		weft_buf_done(&reader->tables[i].values);
	}
	weft_buf_done(&reader->conns);
	free(reader);
	return NULL;
}

static bool matches(enum weft_map map, const struct table *table, size_t i, const void *key)
{
	const char *own = table->keys.data + i * table->key_size;
	const struct weft_cidr *asked = key;
	struct weft_cidr cidr;

	if (map != WEFT_MAP_OPTOUT_CIDR)
		return memcmp(own, key, table->key_size) == 0;
	memcpy(&cidr, own, sizeof(cidr));
	return weft_cidr_contains(&cidr, &asked->addr);
}

int weft_reader_get(struct weft_reader *reader, enum weft_map map, const void *key, void *value)
{
	const struct table *table = &reader->tables[map];

	for (size_t i = 0; i < table->count; i++) {
		if (!matches(map, table, i, key))
			continue;
		memcpy(value, table->values.data + i * table->value_size, table->value_size);
		return 0;
	}
	return -ENOENT;
}

int weft_reader_all(struct weft_reader *reader, enum weft_map map, struct weft_buf *keys, struct weft_buf *values,
		    size_t *ret_count)
{
	const struct table *table = &reader->tables[map];

	if (weft_buf_add(keys, table->keys.data, table->keys.size) < 0 ||
	    weft_buf_add(values, table->values.data, table->values.size) < 0)
		return -ENOMEM;
	*ret_count = table->count;
	return 0;
}

int weft_reader_conns(struct weft_reader *reader, struct weft_buf *buf, size_t *ret_count, struct weft_err *ret_missing, struct weft_err *err)
{
	if (weft_buf_add(buf, reader->conns.data, reader->conns.size) < 0)
		return weft_err_set(err, ENOMEM, "out of memory");
	*ret_count = buf->size / sizeof(struct weft_conn);
	*ret_missing = reader->missing;
	return 0;
}

int weft_reader_map_info(struct weft_reader *reader, enum weft_map map, struct weft_map_info *ret_info)
{
	const struct table *table = &reader->tables[map];

	*ret_info = (struct weft_map_info){ .name = table->name,
					    .sentence = table->sentence,
					    .id = 100 + map,
					    .max_entries = table->max_entries,
					    .entries = table->count,
					    .array = table->array,
					    .bytes = 4096 * (1 + (__u64)table->count),
					    .key_size = table->key_size,
					    .value_size = table->value_size };
	return 0;
}

int weft_reader_prog_next(struct weft_reader *reader, int previous, struct weft_prog_info *ret_info)
{
	static const struct weft_prog_info progs[] = {
		{ .name = "weft_connect4",
		  .attach = "cgroup/connect4",
		  .id = 11,
		  .link_id = 21,
		  .loaded_ns = FIXTURE_NOW_NS - 3600 * SECOND,
		  .run_count = 1000,
		  .run_ns = 450000,
		  .verified_instructions = 2310,
		  .jited_bytes = 4211,
		  .target = "/sys/fs/cgroup/unified/pods" },
		{ .name = "weft_sockops",
		  .attach = "sockops",
		  .id = 12,
		  .link_id = 22,
		  .loaded_ns = FIXTURE_NOW_NS - 3600 * SECOND,
		  .jited_bytes = 900 },
	};

	(void)reader;
	if ((size_t)(previous + 1) >= WEFT_ARRAY_SIZE(progs))
		return -ENOENT;
	*ret_info = progs[previous + 1];
	return previous + 1;
}
