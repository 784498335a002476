/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "kernel/batch.h"
#include "kernel/maps.h"

#define UNTOUCHED 0xdeadu

static void add_run(struct weft_buf *batch, __u32 map, __u32 op, __u32 count, const void *keys, const void *values)
{
	const struct weft_map_spec *spec = weft_map_spec(map);
	struct weft_batch_run header = { .map = map, .op = op, .count = count };

	assert_int_equal(weft_buf_add(batch, &header, sizeof(header)), 0);
	assert_int_equal(weft_buf_add(batch, keys, count * spec->key_size), 0);
	assert_int_equal(weft_buf_reserve(batch, -batch->size & 7, NULL), 0);
	if (!values)
		return;
	assert_int_equal(weft_buf_add(batch, values, count * spec->value_size), 0);
	assert_int_equal(weft_buf_reserve(batch, -batch->size & 7, NULL), 0);
}

/* Checks a copy that ends where the batch ends, so that the sanitizer sees a read past it. */
static int check(const void *batch, size_t size, uint32_t *run, struct weft_err *err)
{
	weft_free_on_exit char *copy = malloc(size ? size : 1);

	assert_non_null(copy);
	if (size)
		memcpy(copy, batch, size);
	return weft_kernel_batch_check(copy, size, run, err);
}

static void good_batch(struct weft_buf *batch)
{
	static const struct weft_frontend_key frontends[3] = { { .port = 1 }, { .port = 2 }, { .port = 3 } };
	static const struct weft_frontend values[3] = { { .service = 1 }, { .service = 2 }, { .service = 3 } };
	static const struct weft_port ports[3] = { { .port = 7 } };
	static const __u32 slots[1] = { 9 };
	static const struct weft_slot slot[1] = { { .endpoint = 5 } };

	add_run(batch, WEFT_MAP_FRONTEND, WEFT_BATCH_UPDATE, 3, frontends, values);
	add_run(batch, WEFT_MAP_OPTOUT_PORT, WEFT_BATCH_DELETE, 3, ports, NULL);
	add_run(batch, WEFT_MAP_SLOT, WEFT_BATCH_UPDATE, 1, slots, slot);
}

static void a_whole_batch_passes_and_so_does_an_empty_one(void **state)
{
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
	uint32_t run = UNTOUCHED;
	struct weft_err err = { "" };

	(void)state;
	assert_int_equal(check("", 0, &run, &err), 0);
	good_batch(&batch);
	assert_int_equal(check(batch.data, batch.size, &run, &err), 0);
	assert_int_equal(run, UNTOUCHED);
	assert_string_equal(err.text, "");
}

static void a_batch_cut_anywhere_but_between_runs_is_refused(void **state)
{
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
	const size_t first = 16 + 64 + 72, second = first + 16 + 16;

	(void)state;
	good_batch(&batch);
	assert_int_equal(batch.size, second + 16 + 8 + 16);
	for (size_t size = 1; size < batch.size; size++) {
		uint32_t run = UNTOUCHED;
		struct weft_err err = { "" };
		int r = check(batch.data, size, &run, &err);

		if (size == first || size == second) {
			assert_int_equal(r, 0);
			continue;
		}
		assert_int_equal(r, -EBADMSG);
		assert_int_equal(run, size < first ? 0 : size < second ? 1 : 2);
		assert_contains(err.text, "run ");
	}
}

static void trailing_bytes_are_refused(void **state)
{
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
	uint32_t run = UNTOUCHED;

	(void)state;
	good_batch(&batch);
	assert_int_equal(weft_buf_add(&batch, "\0", 1), 0);
	assert_int_equal(check(batch.data, batch.size, &run, NULL), -EBADMSG);
	assert_int_equal(run, 3);
}

static void a_bad_header_is_refused(void **state)
{
	static const struct {
		struct weft_batch_run header;
		const char *says;
	} bad[] = {
		{ { .map = WEFT_MAP_MAX_, .op = WEFT_BATCH_UPDATE }, "names no map" },
		{ { .map = ~0u, .op = WEFT_BATCH_UPDATE }, "names no map" },
		{ { .map = WEFT_MAP_POD, .op = 0 }, "unknown operation" },
		{ { .map = WEFT_MAP_POD, .op = 3 }, "unknown operation" },
		{ { .map = WEFT_MAP_POD, .op = WEFT_BATCH_UPDATE, .pad = 1 }, "padding" },
		{ { .map = WEFT_MAP_SETTING, .op = WEFT_BATCH_UPDATE }, "not control's" },
		{ { .map = WEFT_MAP_LIVE, .op = WEFT_BATCH_UPDATE }, "not control's" },
		{ { .map = WEFT_MAP_TURN, .op = WEFT_BATCH_UPDATE }, "not control's" },
		{ { .map = WEFT_MAP_AFFINITY, .op = WEFT_BATCH_DELETE }, "not control's" },
		{ { .map = WEFT_MAP_AGGREGATE, .op = WEFT_BATCH_DELETE }, "not control's" },
		{ { .map = WEFT_MAP_HISTOGRAM, .op = WEFT_BATCH_UPDATE }, "not control's" },
		{ { .map = WEFT_MAP_COUNTER, .op = WEFT_BATCH_UPDATE }, "not control's" },
		{ { .map = WEFT_MAP_SLOT, .op = WEFT_BATCH_DELETE }, "array" },
		{ { .map = WEFT_MAP_ENDPOINT, .op = WEFT_BATCH_DELETE }, "array" },
		/* Products that come out small in 32 bits, and the largest ones there are. */
		{ { .map = WEFT_MAP_SLOT, .op = WEFT_BATCH_UPDATE, .count = 1u << 30 }, "longer" },
		{ { .map = WEFT_MAP_SLOT, .op = WEFT_BATCH_UPDATE, .count = ~0u }, "longer" },
		{ { .map = WEFT_MAP_ENDPOINT, .op = WEFT_BATCH_UPDATE, .count = ~0u }, "longer" },
		{ { .map = WEFT_MAP_POD, .op = WEFT_BATCH_DELETE, .count = 1u << 29 }, "longer" },
	};

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++) {
		weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
		uint32_t run = UNTOUCHED;
		struct weft_err err = { "" };

		good_batch(&batch);
		assert_int_equal(weft_buf_add(&batch, &bad[i].header, sizeof(bad[i].header)), 0);
		assert_int_equal(weft_buf_reserve(&batch, 24, NULL), 0);
		assert_int_equal(check(batch.data, batch.size, &run, &err), -EBADMSG);
		assert_int_equal(run, 3);
		assert_contains(err.text, bad[i].says);
	}
}

/* Real maps, small ones. */

struct fixture {
	int fds[WEFT_MAP_MAX_];
};

static int make(enum weft_map map, enum bpf_map_type type, __u32 entries)
{
	LIBBPF_OPTS(bpf_map_create_opts, options);
	const struct weft_map_spec *spec = weft_map_spec(map);

	if (type == BPF_MAP_TYPE_LPM_TRIE)
		options.map_flags = BPF_F_NO_PREALLOC;
	return bpf_map_create(type, "weft_test", spec->key_size, spec->value_size, entries, &options);
}

static int setup(void **state)
{
	static struct fixture fixture;

	for (size_t i = 0; i < WEFT_MAP_MAX_; i++)
		fixture.fds[i] = -1;
	*state = &fixture;
	fixture.fds[WEFT_MAP_FRONTEND] = make(WEFT_MAP_FRONTEND, BPF_MAP_TYPE_HASH, 64);
	fixture.fds[WEFT_MAP_SLOT] = make(WEFT_MAP_SLOT, BPF_MAP_TYPE_ARRAY, 64);
	fixture.fds[WEFT_MAP_OPTOUT_CIDR] = make(WEFT_MAP_OPTOUT_CIDR, BPF_MAP_TYPE_LPM_TRIE, 64);
	fixture.fds[WEFT_MAP_COUNTER] = make(WEFT_MAP_COUNTER, BPF_MAP_TYPE_PERCPU_ARRAY, 3);
	fixture.fds[WEFT_MAP_WORKLOAD_AT] = make(WEFT_MAP_WORKLOAD_AT, BPF_MAP_TYPE_HASH, 20000);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	for (size_t i = 0; i < WEFT_MAP_MAX_; i++)
		weft_closep(&fixture->fds[i]);
	return 0;
}

static struct fixture *need_maps(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->fds[WEFT_MAP_COUNTER] < 0) {
		print_message("skipped: making maps needs CAP_BPF\n");
		skip();
	}
	return fixture;
}

static int apply(struct fixture *fixture, const struct weft_buf *batch, uint32_t *run, struct weft_err *err)
{
	return weft_kernel_batch_apply(fixture->fds, batch->data, batch->size, run, err);
}

static void a_malformed_batch_writes_nothing_at_all(void **state)
{
	struct fixture *fixture = need_maps(state);
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
	struct weft_frontend_key key = { .port = 80 };
	struct weft_frontend value = { .service = 4 };
	uint32_t run = UNTOUCHED;

	add_run(&batch, WEFT_MAP_FRONTEND, WEFT_BATCH_UPDATE, 1, &key, &value);
	assert_int_equal(weft_buf_add(&batch, "x", 1), 0);
	assert_int_equal(apply(fixture, &batch, &run, NULL), -EBADMSG);
	assert_int_equal(bpf_map_lookup_elem(fixture->fds[WEFT_MAP_FRONTEND], &key, &value), -ENOENT);
	batch.size--;
	assert_int_equal(apply(fixture, &batch, &run, NULL), 0);
	assert_int_equal(bpf_map_lookup_elem(fixture->fds[WEFT_MAP_FRONTEND], &key, &value), 0);
}

static void deleting_what_is_not_there_deletes_the_rest(void **state)
{
	struct fixture *fixture = need_maps(state);
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
	struct weft_frontend_key keys[5] = {
		{ .port = 1 }, { .port = 2 }, { .port = 3 }, { .port = 4 }, { .port = 5 }
	};
	struct weft_frontend_key there[3] = { keys[1], keys[3] };
	struct weft_frontend values[2] = { { .service = 1 }, { .service = 2 } }, value;
	uint32_t run = UNTOUCHED;

	add_run(&batch, WEFT_MAP_FRONTEND, WEFT_BATCH_UPDATE, 2, there, values);
	add_run(&batch, WEFT_MAP_FRONTEND, WEFT_BATCH_DELETE, 5, keys, NULL);
	assert_int_equal(apply(fixture, &batch, &run, NULL), 0);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(bpf_map_lookup_elem(fixture->fds[WEFT_MAP_FRONTEND], &keys[i], &value), -ENOENT);
}

static void a_full_map_names_itself_and_its_size(void **state)
{
	struct fixture *fixture = need_maps(state);
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
	weft_free_on_exit struct weft_frontend_key *keys = calloc(65, sizeof(*keys));
	weft_free_on_exit struct weft_frontend *values = calloc(65, sizeof(*values));
	__u32 slots[2] = { 63, 64 };
	struct weft_slot slot[2] = { { .endpoint = 1 }, { .endpoint = 2 } }, got;
	uint32_t run = UNTOUCHED;
	struct weft_err err = { "" };

	for (__u16 i = 0; i < 65; i++)
		keys[i].port = i;
	add_run(&batch, WEFT_MAP_SLOT, WEFT_BATCH_UPDATE, 1, slots, slot);
	add_run(&batch, WEFT_MAP_FRONTEND, WEFT_BATCH_UPDATE, 65, keys, values);
	assert_int_equal(apply(fixture, &batch, &run, &err), -E2BIG);
	assert_int_equal(run, 1);
	assert_contains(err.text, "weft_frontend");
	assert_contains(err.text, "64");

	weft_buf_clear(&batch);
	add_run(&batch, WEFT_MAP_SLOT, WEFT_BATCH_UPDATE, 2, slots, slot);
	assert_int_equal(apply(fixture, &batch, &run, &err), -E2BIG);
	assert_int_equal(run, 0);
	assert_contains(err.text, "weft_slot");
	assert_int_equal(bpf_map_lookup_elem(fixture->fds[WEFT_MAP_SLOT], &slots[0], &got), 0);
	assert_int_equal(got.endpoint, 1);
}

static void an_lpm_trie_goes_there_and_back(void **state)
{
	struct fixture *fixture = need_maps(state);
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT, read = WEFT_BUF_INIT;
	struct weft_cidr cidrs[3] = { { .bits = 96 + 8 }, { .bits = 96 + 16 }, { .bits = 64 } };
	__u32 ones[3] = { 1, 1, 1 };
	struct weft_batch_run header;
	uint32_t run = UNTOUCHED;

	for (int i = 0; i < 2; i++) {
		cidrs[i].addr.w[2] = htonl(0xffff);
		cidrs[i].addr.w[3] = htonl(0x0a000000u + ((unsigned int)i << 16));
	}
	cidrs[2].addr.w[0] = htonl(0xfd000000);
	add_run(&batch, WEFT_MAP_OPTOUT_CIDR, WEFT_BATCH_UPDATE, 3, cidrs, ones);
	add_run(&batch, WEFT_MAP_OPTOUT_CIDR, WEFT_BATCH_DELETE, 1, &cidrs[1], NULL);
	assert_int_equal(apply(fixture, &batch, &run, NULL), 0);
	assert_int_equal(weft_kernel_batch_read(fixture->fds[WEFT_MAP_OPTOUT_CIDR], WEFT_MAP_OPTOUT_CIDR, &read), 0);
	memcpy(&header, read.data, sizeof(header));
	assert_int_equal(header.map, WEFT_MAP_OPTOUT_CIDR);
	assert_int_equal(header.op, WEFT_BATCH_UPDATE);
	assert_int_equal(header.count, 2);
	assert_int_equal(read.size, 16 + 40 + 8);
	/* In no order that anybody promises. */
	for (int i = 0; i < 3; i += 2)
		assert_true(memcmp(read.data + 16, &cidrs[i], 20) == 0 || memcmp(read.data + 36, &cidrs[i], 20) == 0);
}

static void an_array_is_read_without_its_zeros(void **state)
{
	struct fixture *fixture = need_maps(state);
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT, read = WEFT_BUF_INIT;
	__u32 slots[3] = { 3, 40, 63 };
	struct weft_slot values[3] = { { .pad = 1 }, { .endpoint = 7, .threshold = 9 }, { .alias = 8 } };
	struct weft_slot zero = { 0 };
	uint32_t run = UNTOUCHED;

	add_run(&batch, WEFT_MAP_SLOT, WEFT_BATCH_UPDATE, 3, slots, values);
	assert_int_equal(apply(fixture, &batch, &run, NULL), 0);
	assert_int_equal(weft_kernel_batch_read(fixture->fds[WEFT_MAP_SLOT], WEFT_MAP_SLOT, &read), 0);
	assert_int_equal(read.size, batch.size);
	assert_memory_equal(read.data, batch.data, batch.size);

	assert_int_equal(bpf_map_update_elem(fixture->fds[WEFT_MAP_SLOT], &slots[1], &zero, BPF_ANY), 0);
	weft_buf_clear(&read);
	assert_int_equal(weft_kernel_batch_read(fixture->fds[WEFT_MAP_SLOT], WEFT_MAP_SLOT, &read), 0);
	assert_int_equal(read.size, 16 + 8 + 32);
}

static void a_per_cpu_value_is_read_as_its_sum(void **state)
{
	struct fixture *fixture = need_maps(state);
	weft_buf_done_on_exit struct weft_buf read = WEFT_BUF_INIT;
	int cpus = libbpf_num_possible_cpus();
	weft_free_on_exit __u64 *each = calloc((size_t)cpus, sizeof(*each));
	__u32 key = 2, got_key;
	__u64 sum = 0, got;
	struct bpf_map_info info;

	for (int i = 0; i < cpus; i++)
		sum += each[i] = (__u64)i * 1000 + 5;
	assert_int_equal(bpf_map_update_elem(fixture->fds[WEFT_MAP_COUNTER], &key, each, BPF_ANY), 0);
	assert_int_equal(weft_kernel_batch_read(fixture->fds[WEFT_MAP_COUNTER], WEFT_MAP_COUNTER, &read), 0);
	assert_int_equal(read.size, 16 + 8 + 8);
	memcpy(&got_key, read.data + 16, sizeof(got_key));
	memcpy(&got, read.data + 24, sizeof(got));
	assert_int_equal(got_key, 2);
	assert_int_equal(got, sum);

	assert_int_equal(weft_map_fd_info(fixture->fds[WEFT_MAP_COUNTER], &info), 0);
	got = 0;
	assert_int_equal(weft_map_get(fixture->fds[WEFT_MAP_COUNTER], &info, &key, &got), 0);
	assert_int_equal(got, sum);
	key = 3;
	assert_int_equal(weft_map_get(fixture->fds[WEFT_MAP_COUNTER], &info, &key, &got), -ENOENT);
}

static void a_map_larger_than_one_step_is_read_whole(void **state)
{
	enum { MANY = 20000 };
	struct fixture *fixture = need_maps(state);
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT, keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	weft_free_on_exit struct weft_addr *addrs = calloc(MANY, sizeof(*addrs));
	weft_free_on_exit __u32 *ids = calloc(MANY, sizeof(*ids));
	weft_free_on_exit bool *seen = calloc(MANY, sizeof(*seen));
	struct bpf_map_info info;
	uint32_t run = UNTOUCHED;
	size_t count = 0;

	for (__u32 i = 0; i < MANY; i++) {
		addrs[i].w[3] = i;
		ids[i] = i ^ 0x5555;
	}
	add_run(&batch, WEFT_MAP_WORKLOAD_AT, WEFT_BATCH_UPDATE, MANY, addrs, ids);
	assert_int_equal(apply(fixture, &batch, &run, NULL), 0);
	assert_int_equal(weft_map_fd_info(fixture->fds[WEFT_MAP_WORKLOAD_AT], &info), 0);
	assert_int_equal(weft_map_dump(fixture->fds[WEFT_MAP_WORKLOAD_AT], &info, &keys, &values, &count), 0);
	assert_int_equal(count, MANY);
	assert_int_equal(keys.size, MANY * sizeof(*addrs));
	for (size_t i = 0; i < count; i++) {
		const struct weft_addr *addr = (const struct weft_addr *)keys.data + i;
		__u32 id = ((const __u32 *)values.data)[i];

		assert_true(addr->w[3] < MANY);
		assert_int_equal(id, addr->w[3] ^ 0x5555);
		assert_false(seen[addr->w[3]]);
		seen[addr->w[3]] = true;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_batch_passes_and_so_does_an_empty_one),
		cmocka_unit_test(a_batch_cut_anywhere_but_between_runs_is_refused),
		cmocka_unit_test(trailing_bytes_are_refused),
		cmocka_unit_test(a_bad_header_is_refused),
		cmocka_unit_test_setup_teardown(a_malformed_batch_writes_nothing_at_all, setup, teardown),
		cmocka_unit_test_setup_teardown(deleting_what_is_not_there_deletes_the_rest, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_map_names_itself_and_its_size, setup, teardown),
		cmocka_unit_test_setup_teardown(an_lpm_trie_goes_there_and_back, setup, teardown),
		cmocka_unit_test_setup_teardown(an_array_is_read_without_its_zeros, setup, teardown),
		cmocka_unit_test_setup_teardown(a_per_cpu_value_is_read_as_its_sum, setup, teardown),
		cmocka_unit_test_setup_teardown(a_map_larger_than_one_step_is_read_whole, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
