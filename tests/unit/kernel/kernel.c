/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cap-ng.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "kernel/cgroup.h"
#include "kernel/kernel.h"
#include "kernel/maps.h"
#include "kernel/reader.h"
#include "lib/alone.h"
#include "weft/abi/counter.h"

#define NAME "weft-unit-kernel"

/*
 * One instance after another on a BPF filesystem in a mount namespace of this
 * process, on a cgroup of its own, in a network namespace with only a loopback.
 */

static struct {
	char dir[64];
	char bpffs[96];
	char pins[128];
	char cgroup[PATH_MAX];
	uint64_t features;
	int (*netns_all)(void *context, struct weft_netns_list *list);
	int lock;
} lab;

/*
 * Faults: these take libbpf's place for what is linked into this program, and
 * fail, or kill the process, in the n-th call.
 */
static struct {
	enum { OFF, FAIL, KILL } mode;
	int at;
	int count;
} fault;

static bool strikes(void)
{
	if (fault.mode == OFF || ++fault.count != fault.at)
		return false;
	if (fault.mode == KILL)
		raise(SIGKILL);
	errno = EIO;
	return true;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int bpf_obj_pin(int fd, const char *path)
{
	return strikes() ? -EIO : REAL(bpf_obj_pin)(fd, path);
}

int bpf_link_create(int prog, int target, enum bpf_attach_type type, const struct bpf_link_create_opts *opts)
{
	return strikes() ? -EIO : REAL(bpf_link_create)(prog, target, type, opts);
}

int bpf_link_update(int link, int prog, const struct bpf_link_update_opts *opts)
{
	return strikes() ? -EIO : REAL(bpf_link_update)(link, prog, opts);
}

int bpf_link_detach(int link)
{
	return strikes() ? -EIO : REAL(bpf_link_detach)(link);
}

static void (*before_iter)(void); /* called when an iterator is about to run */

int bpf_iter_create(int link)
{
	if (before_iter)
		before_iter();
	return strikes() ? -EIO : REAL(bpf_iter_create)(link);
}

int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
{
	static unsigned int rows;

	/* Of the many rows that are made only if missing, some will do. */
	if (flags == BPF_NOEXIST && rows++ % 8)
		return REAL(bpf_map_update_elem)(fd, key, value, flags);
	return strikes() ? -EIO : REAL(bpf_map_update_elem)(fd, key, value, flags);
}

/*
 * The verifier takes most of the time of a start, and where the same start is made to fail call by call it has nothing new
 * to say: there the programs keep their names and types, and do nothing. Maps, links and pins are what they always are.
 */
static bool bare;

long syscall(long number, ...)
{
	static const struct bpf_insn nothing[] = {
		[0] = { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		[1] = { .code = BPF_JMP | BPF_EXIT },
	};
	struct bpf_insn instructions[2];
	union bpf_attr copy;
	va_list list;
	long arg[6];

	va_start(list, number);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(arg); i++)
		arg[i] = va_arg(list, long);
	va_end(list);
	/* By name, because libbpf loads programs of its own to find out what this kernel can do. */
	if (bare && number == __NR_bpf && arg[0] == BPF_PROG_LOAD) {
		if ((size_t)arg[2] > sizeof(copy))
			arg[2] = sizeof(copy);
		memcpy(&copy, (void *)arg[1], (size_t)arg[2]);
		if (strncmp(copy.prog_name, "weft_", 5) == 0) {
			memcpy(instructions, nothing, sizeof(nothing));
			instructions[0].imm = copy.prog_type != BPF_PROG_TYPE_TRACING; /* allowed, or go on */
			copy.insns = (__u64)(uintptr_t)instructions;
			copy.insn_cnt = WEFT_ARRAY_SIZE(instructions);
			copy.func_info_cnt = copy.line_info_cnt = 0;
			arg[1] = (long)&copy;
		}
	}
	return REAL(syscall)(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

/* Ours, or those of a run that was killed; its mounts and sockets went with its namespaces. */
static void remove_names(void)
{
	static const char *const cgroups[] = { "/pod", "-other", "" };

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(cgroups); i++) {
		char path[PATH_MAX + 16];

		snprintf(path, sizeof(path), "%s%s", lab.cgroup, cgroups[i]);
		rmdir(path);
	}
	rmdir(lab.bpffs);
	rmdir(lab.dir);
}

static int group_setup(void **state)
{
	struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	weft_close_on_exit int fd = -1;
	char mounted[PATH_MAX - 64];

	(void)state;
	lab.lock = alone_begin(NAME);
	if (lab.lock < 0 || weft_cgroup_mount(mounted, sizeof(mounted)) < 0)
		return -1;
	strcpy(lab.dir, "/run/" NAME);
	snprintf(lab.bpffs, sizeof(lab.bpffs), "%s/bpf", lab.dir);
	snprintf(lab.pins, sizeof(lab.pins), "%s/bpf/weft", lab.dir);
	snprintf(lab.cgroup, sizeof(lab.cgroup), "%s/" NAME, mounted);
	remove_names();
	if (mkdir(lab.dir, 0700) < 0 || mkdir(lab.bpffs, 0700) < 0 || mkdir(lab.cgroup, 0755) < 0)
		return -1;
	if (unshare(CLONE_NEWNS | CLONE_NEWNET) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &loopback) < 0)
		return -1;
	if (mount("bpf", lab.bpffs, "bpf", 0, NULL) < 0)
		return -1;
	lab.features = weft_feature_probe(0);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	fault.mode = OFF;
	weft_kernel_uninstall(lab.pins, NULL);
	umount2(lab.bpffs, MNT_DETACH);
	remove_names();
	alone_end(NAME, lab.lock);
	return 0;
}

/* Every test begins and ends with nothing pinned. */
static int setup(void **state)
{
	(void)state;
	fault.mode = OFF;
	bare = false;
	before_iter = NULL;
	return weft_kernel_uninstall(lab.pins, NULL);
}

/* As on a kernel where the state of all sockets may not be walked over. */
static uint64_t had;

static int setup_here(void **state)
{
	had = lab.features;
	lab.features &= ~(UINT64_C(1) << WEFT_FEATURE_SOCK_STORAGE_ITER);
	return setup(state);
}

static int only_this_one(void *context, struct weft_netns_list *list)
{
	(void)context;
	return weft_netns_list_add(list, weft_netns_open_self());
}

/* So that a test which counts calls does not depend on what this machine runs. */
static int setup_here_alone(void **state)
{
	lab.netns_all = only_this_one;
	return setup_here(state);
}

static int teardown_here(void **state)
{
	lab.features = had;
	lab.netns_all = NULL;
	return setup(state);
}

static struct weft_kernel_options options(void)
{
	return (struct weft_kernel_options){
		.cgroup = lab.cgroup,
		.pins = lab.pins,
		.features = lab.features,
		.netns_all = lab.netns_all,
		.capacity.max_entries = {
			[WEFT_MAP_FRONTEND] = 128, [WEFT_MAP_SLOT] = 256, [WEFT_MAP_ENDPOINT] = 64, [WEFT_MAP_ENDPOINT_AT] = 64,
			[WEFT_MAP_WORKLOAD_AT] = 64, [WEFT_MAP_AGGREGATE] = 256, [WEFT_MAP_HISTOGRAM] = 64,
			[WEFT_MAP_TURN] = 64, [WEFT_MAP_AFFINITY] = 64,
		},
	};
}

static struct weft_kernel *open_with(const struct weft_kernel_options *with, bool want_adopted)
{
	struct weft_kernel *kernel = NULL;
	struct weft_err err = { "" };
	bool adopted = !want_adopted;
	int r = weft_kernel_open(with, &kernel, &adopted, &err);

	if (r < 0)
		fail_msg("weft_kernel_open: %d: %s", r, err.text);
	assert_int_equal(adopted, want_adopted);
	return kernel;
}

static struct weft_kernel *open_instance(bool want_adopted)
{
	struct weft_kernel_options with = options();

	return open_with(&with, want_adopted);
}

/* The error of a start that must fail; nothing may be handed out. */
static int refusal(const struct weft_kernel_options *with, struct weft_err *err)
{
	struct weft_kernel *kernel = NULL;
	bool adopted = true;
	int r = weft_kernel_open(with, &kernel, &adopted, err);

	assert_true(r < 0);
	assert_null(kernel);
	assert_true(adopted);
	assert_string_not_equal(err->text, "");
	return r;
}

static size_t attached(const char *cgroup, enum bpf_attach_type type)
{
	weft_close_on_exit int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	__u32 ids[64], count = 64;

	assert_true(fd >= 0);
	assert_int_equal(bpf_prog_query(fd, type, 0, NULL, ids, &count), 0);
	return count;
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Every pin with the ids of what is behind it, sorted: two that are equal mean that nothing changed. */
static void inventory(struct weft_buf *text)
{
	static const char *const kinds[] = { "map", "link", "netns" };
	char lines[64][160];
	size_t count = 0;

	memset(lines, 0, sizeof(lines));
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(kinds); i++) {
		weft_closedir_on_exit DIR *dir = NULL;
		char path[PATH_MAX];
		struct dirent *entry;

		snprintf(path, sizeof(path), "%s/v1/%s", lab.pins, kinds[i]);
		dir = opendir(path);
		while (dir && (entry = readdir(dir))) {
			weft_close_on_exit int fd = -1;
			struct bpf_link_info link = { 0 };
			struct bpf_map_info map = { 0 };
			__u32 link_size = sizeof(link), map_size = sizeof(map);

			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/v1/%s/%.100s", lab.pins, kinds[i], entry->d_name);
			fd = bpf_obj_get(path);
			assert_true(fd >= 0);
			if (i == 0)
				assert_int_equal(bpf_obj_get_info_by_fd(fd, &map, &map_size), 0);
			else
				assert_int_equal(bpf_obj_get_info_by_fd(fd, &link, &link_size), 0);
			assert_true(count < WEFT_ARRAY_SIZE(lines));
			snprintf(lines[count++], sizeof(lines[0]), "%s/%.100s %u %u\n", kinds[i], entry->d_name,
				 i == 0 ? map.id : link.id, i == 0 ? 0 : link.prog_id);
		}
	}
	qsort(lines, count, sizeof(lines[0]), by_text);
	assert_int_equal(weft_buf_add(text, "", 0), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(weft_buf_printf(text, "%s", lines[i]), 0);
}

static const char *const hooks[] = {
	"weft_connect4",     "weft_connect6",	  "weft_sendmsg4", "weft_sendmsg6",
	"weft_recvmsg4",     "weft_recvmsg6",	  "weft_sockops",  "weft_getpeername4",
	"weft_getpeername6", "weft_sock_release",
};

static const char *const conns_of_all[] = { "weft_conn" }, *const conns_here[] = { "weft_conn_tcp_here", "weft_conn_udp_here" };
static const char *const attached_to_all[] = { "iter/bpf_sk_storage_map" }, *const attached_here[] = { "iter/tcp", "iter/udp" };

static bool here(void)
{
	return !(lab.features >> WEFT_FEATURE_SOCK_STORAGE_ITER & 1);
}

static size_t conn_count(void)
{
	return here() ? WEFT_ARRAY_SIZE(conns_here) : WEFT_ARRAY_SIZE(conns_of_all);
}

/* One of the iterators that the CLI reads. */
static bool is_conn(const struct weft_prog_info *info)
{
	for (size_t i = 0; i < conn_count(); i++)
		if (strcmp(info->name, (here() ? conns_here : conns_of_all)[i]) == 0) {
			assert_string_equal(info->attach, (here() ? attached_here : attached_to_all)[i]);
			assert_string_equal(info->target, "");
			return true;
		}
	return false;
}

static void assert_whole(void)
{
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	struct weft_prog_info info;
	struct weft_err err = { "" };
	size_t links = 0;
	int r = weft_reader_open(lab.pins, &reader, &err);

	if (r < 0)
		fail_msg("weft_reader_open: %d: %s", r, err.text);
	for (int i = -1; (i = weft_reader_prog_next(reader, i, &info)) >= 0;) {
		size_t known = 0;

		while (known < WEFT_ARRAY_SIZE(hooks) && strcmp(hooks[known], info.name) != 0)
			known++;
		if (known < WEFT_ARRAY_SIZE(hooks))
			assert_string_equal(info.target, lab.cgroup);
		else if (!is_conn(&info))
			fail_msg("unknown hook %s", info.name);
		if (strcmp(info.name, "weft_getpeername6") == 0)
			assert_string_equal(info.attach, "cgroup/getpeername6");
		assert_true(info.id != 0 && info.link_id != 0 && info.loaded_ns != 0);
		links++;
	}
	assert_int_equal(links, WEFT_ARRAY_SIZE(hooks) + conn_count());
	assert_int_equal(attached(lab.cgroup, BPF_CGROUP_INET4_CONNECT), 1);
	assert_int_equal(attached(lab.cgroup, BPF_CGROUP_SOCK_OPS), 1);
}

static void a_first_start_pins_a_whole_set_for_root_alone(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = open_instance(false);
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	struct weft_aggregate_key other = {
		.source = WEFT_ID_OTHER,
		.service = WEFT_ID_OTHER,
		.destination = WEFT_ID_OTHER,
		.reporter = WEFT_REPORTER_DESTINATION,
		.outcome = WEFT_OUTCOME_ABANDONED,
		.protocol = IPPROTO_UDP,
	};
	struct weft_histogram_key histogram_key = { .service = WEFT_ID_OTHER, .reporter = WEFT_REPORTER_SOURCE };
	struct weft_role_capacity capacity;
	struct weft_aggregate aggregate;
	struct weft_histogram histogram;
	struct weft_setting setting;
	struct weft_map_info info;
	__u32 zero = 0;
	struct stat st;

	(void)state;
	assert_whole();
	assert_int_equal(stat(lab.pins, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	weft_kernel_capacity(kernel, &capacity);
	assert_int_equal(capacity.max_entries[WEFT_MAP_FRONTEND], 128);
	assert_int_equal(capacity.max_entries[WEFT_MAP_ENDPOINT], 64);
	assert_int_equal(capacity.max_entries[WEFT_MAP_LIVE], 64);
	assert_int_equal(capacity.max_entries[WEFT_MAP_SETTING], 1);
	assert_true(capacity.max_entries[WEFT_MAP_POD] > 64);

	assert_int_equal(weft_reader_open(lab.pins, &reader, NULL), 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_SETTING, &zero, &setting), 0);
	assert_int_equal(setting.magic, WEFT_ABI_MAGIC);
	assert_int_equal(setting.epoch, 1);
	assert_int_equal(setting.watchers, 0);
	assert_true(setting.boot_ns > 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_AGGREGATE, &other, &aggregate), 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_HISTOGRAM, &histogram_key, &histogram), 0);
	other.protocol = IPPROTO_ICMP;
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_AGGREGATE, &other, &aggregate), -ENOENT);
	assert_int_equal(weft_reader_map_info(reader, WEFT_MAP_HISTOGRAM, &info), 0);
	assert_string_equal(info.name, "weft_histogram");
	assert_int_equal(info.entries, WEFT_REPORTER_MAX_);
	assert_int_equal(info.max_entries, 64);
	assert_true(info.bytes > 0 && info.id > 0);
}

/* A batch of one run. */
static void run_of(struct weft_buf *batch, enum weft_map map, enum weft_batch_op op, __u32 count, const void *keys,
		   const void *values)
{
	struct weft_batch_run header = { .map = map, .op = op, .count = count };

	assert_int_equal(weft_buf_add(batch, &header, sizeof(header)), 0);
	assert_int_equal(weft_buf_add(batch, keys, count * weft_map_spec(map)->key_size), 0);
	assert_int_equal(weft_buf_reserve(batch, -batch->size & 7, NULL), 0);
	if (!values)
		return;
	assert_int_equal(weft_buf_add(batch, values, count * weft_map_spec(map)->value_size), 0);
	assert_int_equal(weft_buf_reserve(batch, -batch->size & 7, NULL), 0);
}

static void apply(struct weft_kernel *kernel, const struct weft_buf *batch)
{
	struct weft_err err = { "" };
	uint32_t run;
	int r = weft_kernel_apply(kernel, batch->data, batch->size, &run, &err);

	if (r < 0)
		fail_msg("weft_kernel_apply: %d in run %u: %s", r, run, err.text);
}

static const __u64 pod_cookie = 4711;

static void put_something(struct weft_kernel *kernel)
{
	struct weft_pod pod = { .workload = 9, .flags = WEFT_POD_F_OPT_OUT };

	assert_int_equal(weft_kernel_set_pod(kernel, pod_cookie, &pod), 0);
	assert_int_equal(weft_kernel_set_flags(kernel, WEFT_SETTING_F_BYPASS), 0);
	assert_int_equal(weft_kernel_set_watchers(kernel, 3), 0);
}

static void assert_something_is_there(void)
{
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	struct weft_setting setting;
	struct weft_pod pod = { 0 };
	__u32 zero = 0;

	assert_int_equal(weft_reader_open(lab.pins, &reader, NULL), 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_POD, &pod_cookie, &pod), 0);
	assert_int_equal(pod.workload, 9);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_SETTING, &zero, &setting), 0);
	assert_int_equal(setting.flags & ~WEFT_SETTING_F_RECOUNT, WEFT_SETTING_F_BYPASS);
}

static void a_second_start_takes_over_in_place(void **state)
{
	weft_buf_done_on_exit struct weft_buf before = WEFT_BUF_INIT, after = WEFT_BUF_INIT;
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	struct weft_kernel *kernel = open_instance(false);
	struct weft_kernel_options larger = options();
	struct weft_role_capacity capacity;
	struct weft_setting setting;
	char map_before[64], link_before[64], prog_before[64], now[64];
	__u32 zero = 0, link, prog;

	(void)state;
	put_something(kernel);
	weft_kernel_close(kernel);
	inventory(&before);
	assert_whole();
	assert_something_is_there();

	/* Neither smaller, nor a larger map that programs write. */
	larger.capacity.max_entries[WEFT_MAP_FRONTEND] = 64;
	larger.capacity.max_entries[WEFT_MAP_AGGREGATE] = 4096;
	kernel = open_with(&larger, true);
	weft_kernel_capacity(kernel, &capacity);
	assert_int_equal(capacity.max_entries[WEFT_MAP_FRONTEND], 128);
	assert_int_equal(capacity.max_entries[WEFT_MAP_AGGREGATE], 256);
	weft_kernel_close(kernel);
	inventory(&after);
	assert_whole();
	assert_something_is_there();
	assert_int_equal(weft_reader_open(lab.pins, &reader, NULL), 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_SETTING, &zero, &setting), 0);
	assert_int_equal(setting.watchers, 0);

	/* The same maps and links, with other programs. */
	assert_int_equal(sscanf(strstr(before.data, "map/weft_frontend "), "%*s %63s", map_before), 1);
	assert_int_equal(sscanf(strstr(after.data, "map/weft_frontend "), "%*s %63s", now), 1);
	assert_string_equal(map_before, now);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(hooks); i++) {
		char what[64];

		snprintf(what, sizeof(what), "link/%s ", hooks[i]);
		assert_int_equal(sscanf(strstr(before.data, what), "%*s %63s %63s", link_before, prog_before), 2);
		assert_int_equal(sscanf(strstr(after.data, what), "%*s %u %u", &link, &prog), 2);
		assert_int_equal(link, atoi(link_before));
		assert_int_not_equal(prog, atoi(prog_before));
	}
}

static bool recount_is_owed(void)
{
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	struct weft_setting setting;
	__u32 zero = 0;

	assert_int_equal(weft_reader_open(lab.pins, &reader, NULL), 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_SETTING, &zero, &setting), 0);
	return setting.flags & WEFT_SETTING_F_RECOUNT;
}

static void fill_frontends(struct weft_kernel *kernel, __u16 count)
{
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
	weft_free_on_exit struct weft_frontend_key *keys = calloc(count, sizeof(*keys));
	weft_free_on_exit struct weft_frontend *values = calloc(count, sizeof(*values));

	for (__u16 i = 0; i < count; i++) {
		keys[i].port = htons((__u16)(i + 1));
		values[i].service = i + 1u;
	}
	run_of(&batch, WEFT_MAP_FRONTEND, WEFT_BATCH_UPDATE, count, keys, values);
	apply(kernel, &batch);
}

static void a_map_that_became_too_small_grows_with_its_contents(void **state)
{
	weft_buf_done_on_exit struct weft_buf before = WEFT_BUF_INIT, after = WEFT_BUF_INIT;
	struct weft_kernel *kernel = open_instance(false);
	struct weft_kernel_options larger = options();
	struct weft_role_capacity capacity;
	int at, r = 1;

	(void)state;
	bare = true;
	fill_frontends(kernel, 128);
	put_something(kernel);
	assert_int_equal(weft_kernel_read(kernel, 1u << WEFT_MAP_FRONTEND, &before), 0);
	weft_kernel_close(kernel);

	larger.capacity.max_entries[WEFT_MAP_FRONTEND] = 1000;
	larger.capacity.max_entries[WEFT_MAP_ENDPOINT] = 2000;
	/* Failing anywhere on the way, it is the small one that is pinned. */
	for (at = 1; at < 100; at++) {
		weft_buf_done_on_exit struct weft_buf pins_before = WEFT_BUF_INIT, pins_after = WEFT_BUF_INIT;
		struct weft_err err = { "" };
		bool adopted;

		inventory(&pins_before);
		fault.mode = FAIL;
		fault.at = at;
		fault.count = 0;
		r = weft_kernel_open(&larger, &kernel, &adopted, &err);
		fault.mode = OFF;
		if (r == 0)
			break;
		inventory(&pins_after);
		assert_string_equal(pins_before.data, pins_after.data);
	}
	assert_int_equal(r, 0);
	assert_true(at > (int)WEFT_ARRAY_SIZE(hooks));
	weft_kernel_capacity(kernel, &capacity);
	assert_int_equal(capacity.max_entries[WEFT_MAP_FRONTEND], 1000);
	assert_int_equal(capacity.max_entries[WEFT_MAP_ENDPOINT], 2000);
	assert_int_equal(capacity.max_entries[WEFT_MAP_LIVE], 2000);
	assert_int_equal(weft_kernel_read(kernel, 1u << WEFT_MAP_FRONTEND, &after), 0);
	assert_int_equal(before.size, after.size);
	assert_true(recount_is_owed());
	assert_int_equal(weft_kernel_recount(kernel), 0);
	assert_false(recount_is_owed());
	fill_frontends(kernel, 1000);
	weft_kernel_close(kernel);
	assert_whole();
	assert_something_is_there();
	weft_kernel_close(open_instance(true));
	assert_whole();
}

static void what_is_written_is_read_and_the_reader_agrees(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = open_instance(false);
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT, read = WEFT_BUF_INIT;
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	struct weft_frontend_key key = { .addr.w = { 1, 2, 3, 4 }, .port = htons(80), .protocol = IPPROTO_TCP };
	struct weft_frontend value = { .service = 7, .count = 2 }, got;
	__u32 slots[2] = { 1, 2 }, index = 1;
	struct weft_slot slot[2] = { { .endpoint = 1, .threshold = ~0u }, { .endpoint = 2, .threshold = ~0u } },
			 got_slot;
	struct weft_err err = { "" };
	uint32_t failed = 99;
	size_t count = 0;

	(void)state;
	run_of(&batch, WEFT_MAP_FRONTEND, WEFT_BATCH_UPDATE, 1, &key, &value);
	run_of(&batch, WEFT_MAP_SLOT, WEFT_BATCH_UPDATE, 2, slots, slot);
	apply(kernel, &batch);
	assert_int_equal(weft_kernel_read(kernel, 1u << WEFT_MAP_FRONTEND | 1u << WEFT_MAP_SLOT, &read), 0);
	assert_int_equal(read.size, batch.size);
	assert_memory_equal(read.data, batch.data, batch.size);
	assert_int_equal(weft_kernel_read(kernel, UINT64_C(1) << WEFT_MAP_MAX_, &read), -EINVAL);
	assert_int_equal(read.size, batch.size);

	assert_int_equal(weft_reader_open(lab.pins, &reader, NULL), 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_FRONTEND, &key, &got), 0);
	assert_memory_equal(&got, &value, sizeof(value));
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_SLOT, &index, &got_slot), 0);
	assert_memory_equal(&got_slot, &slot[0], sizeof(slot[0]));
	assert_int_equal(weft_reader_all(reader, WEFT_MAP_SLOT, &keys, &values, &count), 0);
	assert_int_equal(count, 256);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_COUNTER, &index, &got), 0);

	assert_int_equal(weft_kernel_apply(kernel, batch.data, batch.size - 8, &failed, &err), -EBADMSG);
	assert_int_equal(failed, 1);
	weft_buf_clear(&batch);
	run_of(&batch, WEFT_MAP_FRONTEND, WEFT_BATCH_DELETE, 1, &key, NULL);
	apply(kernel, &batch);
	apply(kernel, &batch);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_FRONTEND, &key, &got), -ENOENT);

	assert_int_equal(weft_kernel_set_pod(kernel, 5, NULL), 0);
	assert_int_equal(weft_kernel_set_flags(kernel, 0x80), -EINVAL);
}

/* In a child that may be killed by its own fault. Its exit code, or -signal. */
static int start_in_child(const struct weft_kernel_options *with, int mode, int at)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct weft_kernel *kernel = NULL;
		bool adopted;
		int r;

		fault.mode = mode;
		fault.at = at;
		fault.count = 0;
		r = weft_kernel_open(with, &kernel, &adopted, NULL);
		_exit(r == 0 ? 0 : r == -EIO ? 1 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void a_first_start_that_fails_anywhere_leaves_nothing(void **state)
{
	struct weft_kernel_options with = options();
	int at, r = 1;

	(void)state;
	bare = true;
	for (at = 1; at < 200; at++) {
		r = start_in_child(&with, FAIL, at);
		if (r == 0)
			break;
		assert_int_equal(r, 1);
		if (exists(lab.pins))
			fail_msg("failed in call %d and left %s", at, lab.pins);
		assert_int_equal(attached(lab.cgroup, BPF_CGROUP_INET4_CONNECT), 0);
		assert_int_equal(attached(lab.cgroup, BPF_CGROUP_SOCK_OPS), 0);
	}
	assert_int_equal(r, 0);
	assert_true(at > 30);
}

static void an_adoption_that_fails_anywhere_changes_nothing(void **state)
{
	weft_buf_done_on_exit struct weft_buf before = WEFT_BUF_INIT;
	struct weft_kernel *kernel = open_instance(false);
	struct weft_kernel_options with = options();
	int at, r = 1;

	(void)state;
	bare = true;
	put_something(kernel);
	weft_kernel_close(kernel);
	inventory(&before);
	for (at = 1; at < 200; at++) {
		weft_buf_done_on_exit struct weft_buf after = WEFT_BUF_INIT;

		r = start_in_child(&with, FAIL, at);
		if (r == 0)
			break;
		assert_int_equal(r, 1);
		inventory(&after);
		assert_string_equal(before.data, after.data);
		assert_something_is_there();
	}
	assert_int_equal(r, 0);
	assert_true(at > (int)WEFT_ARRAY_SIZE(hooks));
}

static void a_start_that_is_killed_anywhere_is_made_good_by_the_next(void **state)
{
	int at, r = 1;

	(void)state;
	bare = true;
	for (at = 1; at < 200; at++) {
		struct weft_kernel_options with = options();
		struct weft_kernel *kernel = NULL;
		struct weft_err err = { "" };
		bool adopted;

		r = start_in_child(&with, KILL, at);
		if (r == 0)
			break;
		assert_int_equal(r, -SIGKILL);
		r = weft_kernel_open(&with, &kernel, &adopted, &err);
		if (r < 0)
			fail_msg("after a kill in call %d: %d: %s", at, r, err.text);
		weft_kernel_close(kernel);
		assert_whole();
		assert_int_equal(weft_kernel_uninstall(lab.pins, NULL), 0);
		assert_false(exists(lab.pins));
	}
	assert_int_equal(r, 0);
	assert_true(at > 30);
}

static void an_adoption_that_is_killed_anywhere_is_made_good_by_the_next(void **state)
{
	struct weft_kernel *kernel = open_instance(false);
	struct weft_kernel_options with = options();
	int at, r = 1;

	(void)state;
	bare = true;
	put_something(kernel);
	weft_kernel_close(kernel);
	for (at = 1; at < 200; at++) {
		r = start_in_child(&with, KILL, at);
		if (r == 0)
			break;
		assert_int_equal(r, -SIGKILL);
		assert_whole();
		assert_something_is_there();
		weft_kernel_close(open_instance(true));
		assert_whole();
		assert_something_is_there();
	}
	assert_int_equal(r, 0);
	assert_true(at > (int)WEFT_ARRAY_SIZE(hooks));
}

static size_t pins_below(const char *kind)
{
	weft_closedir_on_exit DIR *dir = NULL;
	char path[PATH_MAX];
	struct dirent *entry;
	size_t count = 0;

	snprintf(path, sizeof(path), "%s/v1/%s", lab.pins, kind);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	return count;
}

static void growing_that_is_killed_anywhere_loses_nothing(void **state)
{
	struct weft_kernel *kernel = open_instance(false);
	struct weft_kernel_options larger = options();
	struct weft_kernel_options with = options();
	size_t maps = pins_below("map");
	int at, r = 1;

	(void)state;
	bare = true;
	fill_frontends(kernel, 128);
	put_something(kernel);
	weft_kernel_close(kernel);
	for (at = 1; at < 100; at++) {
		weft_buf_done_on_exit struct weft_buf frontends = WEFT_BUF_INIT;
		struct weft_batch_run header;

		larger.capacity.max_entries[WEFT_MAP_FRONTEND] = 200u + (__u32)at;
		larger.capacity.max_entries[WEFT_MAP_ENDPOINT] = 100u + (__u32)at;
		r = start_in_child(&larger, KILL, at);
		if (r == 0)
			break;
		assert_int_equal(r, -SIGKILL);
		kernel = open_with(&with, true);
		assert_int_equal(weft_kernel_read(kernel, 1u << WEFT_MAP_FRONTEND, &frontends), 0);
		memcpy(&header, frontends.data, sizeof(header));
		assert_int_equal(header.count, 128);
		weft_kernel_close(kernel);
		assert_whole();
		assert_something_is_there();
		assert_int_equal(pins_below("map"), maps);
	}
	assert_int_equal(r, 0);
	assert_true(at > (int)WEFT_ARRAY_SIZE(hooks));
}

static void missing_pins_are_made_again(void **state)
{
	const char *const lost[] = { "link/weft_connect6", here() ? "link/weft_conn_udp_here" : "link/weft_conn", "map/weft_affinity",
				     "map/weft_setting" };

	(void)state;
	weft_kernel_close(open_instance(false));
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(lost); i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/v1/%s", lab.pins, lost[i]);
		assert_int_equal(unlink(path), 0);
		weft_kernel_close(open_instance(true));
		assert_whole();
	}
}

static void overlapping_subtrees_are_refused_by_name(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = open_instance(false);
	struct weft_kernel_options second = options();
	struct weft_err err = { "" };
	char child[PATH_MAX + 16], other[PATH_MAX + 16], pins[160];

	(void)state;
	snprintf(pins, sizeof(pins), "%s/second", lab.bpffs);
	snprintf(child, sizeof(child), "%s/pod", lab.cgroup);
	snprintf(other, sizeof(other), "%s-other", lab.cgroup);
	second.pins = pins;
	assert_int_equal(mkdir(child, 0755), 0);
	assert_int_equal(mkdir(other, 0755), 0);

	assert_int_equal(refusal(&second, &err), -EBUSY);
	assert_contains(err.text, lab.cgroup);
	second.cgroup = child;
	assert_int_equal(refusal(&second, &err), -EBUSY);
	assert_contains(err.text, lab.cgroup);
	assert_false(exists(pins));

	/* The same pins for another subtree. */
	second.pins = lab.pins;
	second.cgroup = other;
	assert_int_equal(refusal(&second, &err), -EBUSY);
	assert_contains(err.text, lab.cgroup);
	assert_whole();

	/* From above: the instance below is in the way. */
	assert_int_equal(weft_kernel_uninstall(lab.pins, NULL), 0);
	second.cgroup = child;
	second.pins = pins;
	weft_kernel_close(open_with(&second, false));
	second.cgroup = lab.cgroup;
	second.pins = lab.pins;
	assert_int_equal(refusal(&second, &err), -EBUSY);
	assert_contains(err.text, child);

	/* Side by side is fine. */
	second.cgroup = other;
	weft_kernel_close(open_with(&second, false));
	assert_int_equal(weft_kernel_uninstall(pins, NULL), 0);
	assert_int_equal(weft_kernel_uninstall(lab.pins, NULL), 0);
	assert_int_equal(rmdir(child), 0);
	assert_int_equal(rmdir(other), 0);
}

static void a_cgroup_that_died_is_attached_anew(void **state)
{
	struct weft_kernel *kernel = open_instance(false);

	(void)state;
	put_something(kernel);
	weft_kernel_close(kernel);
	assert_int_equal(rmdir(lab.cgroup), 0);
	assert_int_equal(mkdir(lab.cgroup, 0755), 0);
	assert_int_equal(attached(lab.cgroup, BPF_CGROUP_INET4_CONNECT), 0);
	weft_kernel_close(open_instance(true));
	assert_whole();
	assert_something_is_there();
}

static void a_map_of_another_kind_is_named(void **state)
{
	weft_buf_done_on_exit struct weft_buf before = WEFT_BUF_INIT, after = WEFT_BUF_INIT;
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	struct weft_kernel_options with = options();
	weft_close_on_exit int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "other", 8, 16, 10, NULL);
	struct weft_err err = { "" };
	char path[PATH_MAX];

	(void)state;
	weft_kernel_close(open_instance(false));
	snprintf(path, sizeof(path), "%s/v1/map/weft_pod", lab.pins);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(bpf_obj_pin(fd, path), 0);
	inventory(&before);
	assert_int_equal(refusal(&with, &err), -EPROTO);
	assert_contains(err.text, "map/weft_pod");
	inventory(&after);
	assert_string_equal(before.data, after.data);
	assert_int_equal(weft_reader_open(lab.pins, &reader, &err), -EPROTO);
	assert_contains(err.text, "map/weft_pod");
}

static void another_version_is_named_and_uninstalled(void **state)
{
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	struct weft_kernel_options with = options();
	struct weft_err err = { "" };
	char path[PATH_MAX];

	(void)state;
	assert_int_equal(mkdir(lab.pins, 0700), 0);
	snprintf(path, sizeof(path), "%s/v9", lab.pins);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(refusal(&with, &err), -EPROTO);
	assert_contains(err.text, path);
	assert_int_equal(weft_reader_open(lab.pins, &reader, &err), -EPROTO);
	assert_contains(err.text, path);
	assert_int_equal(weft_kernel_uninstall(lab.pins, &err), 0);
	assert_false(exists(lab.pins));
	assert_int_equal(weft_reader_open(lab.pins, &reader, &err), -ENOENT);
	assert_contains(err.text, lab.pins);
}

static void uninstalling_leaves_nothing_even_under_an_open_agent(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = open_instance(false);
	struct weft_err err = { "" };

	(void)state;
	assert_int_equal(weft_kernel_uninstall(lab.pins, &err), 0);
	assert_false(exists(lab.pins));
	for (size_t i = 0; i < 46; i++)
		if (i == BPF_CGROUP_INET4_CONNECT || i == BPF_CGROUP_UDP6_SENDMSG || i == BPF_CGROUP_SOCK_OPS ||
		    i == BPF_CGROUP_INET_SOCK_RELEASE || i == BPF_CGROUP_INET6_GETPEERNAME)
			assert_int_equal(attached(lab.cgroup, (enum bpf_attach_type)i), 0);
	assert_int_equal(weft_kernel_uninstall(lab.pins, &err), 0);
	assert_int_equal(weft_kernel_uninstall("/nowhere/at/all", &err), 0);
	assert_int_equal(weft_kernel_uninstall(lab.dir, &err), -EINVAL);
	assert_true(exists(lab.dir));
}

static void a_place_that_cannot_hold_pins_is_named(void **state)
{
	struct weft_kernel_options with = options();
	struct weft_err err = { "" };
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/plain/weft", lab.dir);
	with.pins = path;
	assert_int_equal(refusal(&with, &err), -ENOTSUP);
	assert_contains(err.text, "mount -t bpf bpf ");
	assert_contains(err.text, lab.dir);
	with.pins = "relative";
	assert_int_equal(refusal(&with, &err), -EINVAL);
	with = options();
	with.cgroup = "/tmp";
	assert_int_equal(refusal(&with, &err), -EINVAL);
	assert_contains(err.text, "/tmp is not a cgroup2");
	with.cgroup = "/nowhere";
	assert_int_equal(refusal(&with, &err), -ENOENT);
	assert_false(exists(lab.pins));
}

static void bpffs_is_mounted_where_everybody_expects_it(void **state)
{
	struct weft_kernel_options with = options();

	(void)state;
	/* An empty file system hides whatever is there; this mount namespace ends with the test. */
	if (!exists("/sys/fs/bpf") || mount("tmpfs", "/sys/fs", "tmpfs", 0, NULL) < 0) {
		print_message("skipped: no /sys/fs/bpf\n");
		skip();
	}
	assert_int_equal(mkdir("/sys/fs/bpf", 0700), 0);
	assert_int_equal(mkdir("/sys/fs/cgroup", 0700), 0);
	assert_int_equal(mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL), 0);
	with.pins = "/sys/fs/bpf/weft-unit-kernel";
	with.cgroup = strrchr(lab.cgroup, '/');
	{
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "/sys/fs/cgroup%s", with.cgroup);
		with.cgroup = path;
		weft_kernel_close(open_with(&with, false));
	}
	assert_int_equal(weft_kernel_uninstall(with.pins, NULL), 0);
	assert_int_equal(umount2("/sys/fs/bpf", 0), 0);
	assert_int_equal(umount2("/sys/fs/cgroup", 0), 0);
	assert_int_equal(umount2("/sys/fs", 0), 0);
}

static void a_missing_capability_is_named(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		struct weft_kernel_options with = options();
		struct weft_kernel *kernel = NULL;
		struct weft_err err = { "" };
		bool adopted;
		int r;

		capng_get_caps_process();
		capng_updatev(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_PERFMON, CAP_SYS_ADMIN, -1);
		capng_apply(CAPNG_SELECT_CAPS);
		r = weft_kernel_open(&with, &kernel, &adopted, &err);
		if (r == -EPERM && strstr(err.text, "CAP_PERFMON"))
			_exit(0);
		fprintf(stderr, "%d: %s\n", r, err.text);
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_false(exists(lab.pins));
}

static void every_fallback_can_be_forced(void **state)
{
	static const enum weft_feature optional[] = { WEFT_FEATURE_SET_RETVAL, WEFT_FEATURE_SOCK_DESTROY,
						      WEFT_FEATURE_SOCK_DIAG_DESTROY, WEFT_FEATURE_SOCKOPS_NETNS };
	struct weft_kernel_options with = options();
	struct weft_kernel *kernel;
	uint32_t id = 1, cut = 99;

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(optional); i++)
		with.features &= ~(UINT64_C(1) << optional[i]);
	kernel = open_with(&with, false);
	assert_int_equal(weft_kernel_cut_here(kernel, &id, 1, false, &cut), -EOPNOTSUPP);
	assert_int_equal(cut, 99);
	weft_kernel_close(kernel);
	assert_whole();
	weft_kernel_close(open_instance(true));
	assert_whole();
}

/* An adoption changes how live connections are read; what the other way had pinned is gone afterwards. */
static void adopted_one_way_and_the_other(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		weft_kernel_close(open_instance(i > 0));
		assert_whole();
		lab.features = i % 2 ? had & ~(UINT64_C(1) << WEFT_FEATURE_SOCK_STORAGE_ITER) : had;
	}
}

static int nowhere(void *context, struct weft_netns_list *list)
{
	(void)list;
	++*(int *)context;
	return -EIO;
}

static void what_cannot_be_listed_is_not_counted_and_said(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = NULL;
	weft_buf_done_on_exit struct weft_buf conns = WEFT_BUF_INIT;
	struct weft_kernel_options with = options();
	int asked = 0;

	(void)state;
	with.netns_all = nowhere;
	with.context = &asked;
	kernel = open_with(&with, false);
	assert_int_equal(weft_kernel_conns(kernel, &conns), -EIO);
	assert_int_equal(conns.size, 0);
	assert_int_equal(weft_kernel_recount(kernel), -EIO);
	assert_int_equal(asked, 2);
	assert_true(recount_is_owed());
	weft_kernel_close(kernel);
	with.netns_all = only_this_one;
	kernel = open_with(&with, true);
	assert_int_equal(weft_kernel_recount(kernel), 0);
	assert_false(recount_is_owed());
	assert_int_equal(asked, 2);
}

static struct {
	int netns[3];
	ino_t seen[8];
	size_t count;
} slow;

static int three(void *context, struct weft_netns_list *list)
{
	int r = 0;

	(void)context;
	for (size_t i = 0; r == 0 && i < WEFT_ARRAY_SIZE(slow.netns); i++)
		r = weft_netns_list_add(list, fcntl(slow.netns[i], F_DUPFD_CLOEXEC, 3));
	return r;
}

static void take_long(void)
{
	weft_close_on_exit int self = weft_netns_open_self();

	assert_int_equal(weft_netns_inode(self, &slow.seen[slow.count++]), 0);
	usleep(600000);
}

/* One that takes longer than whoever waits for it can wait goes on where it ended. */
static void a_flush_comes_to_every_namespace_in_the_end(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = NULL;

	(void)state;
	if (!(lab.features >> WEFT_FEATURE_FETCH_ATOMICS & 1))
		skip();
	slow.count = 0;
	slow.netns[0] = weft_netns_open_self();
	for (size_t i = 1; i < WEFT_ARRAY_SIZE(slow.netns); i++) {
		assert_int_equal(unshare(CLONE_NEWNET), 0);
		slow.netns[i] = weft_netns_open_self();
	}
	assert_int_equal(setns(slow.netns[0], CLONE_NEWNET), 0);
	lab.netns_all = three;
	kernel = open_instance(false);
	before_iter = take_long;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(weft_kernel_flush(kernel), 0);
	before_iter = NULL;
	assert_int_equal(slow.count, 4);
	for (size_t i = 0; i < 3; i++)
		assert_int_not_equal(slow.seen[i], slow.seen[i + 1]);
	assert_int_not_equal(slow.seen[0], slow.seen[2]);
	assert_int_equal(slow.seen[0], slow.seen[3]);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(slow.netns); i++)
		close(slow.netns[i]);
}

static void join_cgroup(const char *path)
{
	char procs[PATH_MAX + 16], pid[16];
	weft_close_on_exit int fd = -1;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	fd = open(procs, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(weft_write_all(fd, pid, strlen(pid)), 0);
}

static struct sockaddr_in at_v4(const char *address, __u16 port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };

	assert_int_equal(inet_pton(AF_INET, address, &at.sin_addr), 1);
	return at;
}

/* A service 10.96.0.1:80 with one endpoint, id 1, at 127.0.0.1:`port`. */
static void configure_service(struct weft_kernel *kernel, __be16 port)
{
	weft_buf_done_on_exit struct weft_buf batch = WEFT_BUF_INIT;
	struct weft_frontend_key key = { .port = htons(80), .protocol = IPPROTO_TCP };
	struct weft_frontend frontend = { .service = 1, .slot = 1, .count = 1, .type = WEFT_FRONTEND_CLUSTER_IP };
	struct weft_endpoint endpoint = { .port = port,
					  .protocol = IPPROTO_TCP,
					  .state = WEFT_ENDPOINT_READY,
					  .id = 1,
					  .service = 1,
					  .workload = 3,
					  .weight = 1 };
	struct weft_slot slot = { .endpoint = 1, .alias = 1, .threshold = ~0u };
	__u32 one = 1;

	assert_int_equal(weft_addr_parse("10.96.0.1", &key.addr), 0);
	assert_int_equal(weft_addr_parse("127.0.0.1", &endpoint.addr), 0);
	run_of(&batch, WEFT_MAP_ENDPOINT, WEFT_BATCH_UPDATE, 1, &one, &endpoint);
	run_of(&batch, WEFT_MAP_SLOT, WEFT_BATCH_UPDATE, 1, &one, &slot);
	run_of(&batch, WEFT_MAP_FRONTEND, WEFT_BATCH_UPDATE, 1, &key, &frontend);
	apply(kernel, &batch);
}

static __u64 live_of_endpoint_1(void)
{
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	struct weft_setting setting;
	struct weft_live live;
	__u32 zero = 0, one = 1;

	assert_int_equal(weft_reader_open(lab.pins, &reader, NULL), 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_SETTING, &zero, &setting), 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_LIVE, &one, &live), 0);
	return live.count[setting.epoch & 1];
}

static size_t client_conns(struct weft_kernel *kernel, struct weft_reader *reader)
{
	weft_buf_done_on_exit struct weft_buf ours = WEFT_BUF_INIT, theirs = WEFT_BUF_INIT;
	size_t clients = 0, count = 0;
	struct weft_err missing;
	struct weft_addr frontend;

	assert_int_equal(weft_kernel_conns(kernel, &ours), 0);
	assert_int_equal(weft_reader_conns(reader, &theirs, &count, &missing, NULL), 0);
	assert_int_equal(ours.size, theirs.size);
	assert_int_equal(count, ours.size / sizeof(struct weft_conn));
	assert_int_equal(weft_addr_parse("10.96.0.1", &frontend), 0);
	for (size_t i = 0; i < count; i++) {
		const struct weft_conn *conn = (const struct weft_conn *)ours.data + i;

		if (conn->role != WEFT_ROLE_CLIENT)
			continue;
		assert_int_equal(conn->endpoint, 1);
		assert_int_equal(conn->service, 1);
		assert_int_equal(weft_addr_compare(&conn->frontend, &frontend), 0);
		clients++;
	}
	return clients;
}

enum { CLIENTS = 5 };

static void sockets_are_shown_counted_and_cut(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = open_instance(false);
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	weft_close_on_exit int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = at_v4("127.0.0.1", 0), vip = at_v4("10.96.0.1", 80);
	int clients[CLIENTS], accepted[CLIENTS];
	char above[PATH_MAX];
	socklen_t size = sizeof(at);
	static uint32_t many[WEFT_ROLE_MAX_CUT + 1];
	uint32_t id = 1, other = 2, cut = 99;
	struct pollfd wait;
	char byte;

	(void)state;
	strcpy(above, lab.cgroup);
	*strrchr(above, '/') = '\0';
	assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(server, 64), 0);
	assert_int_equal(getsockname(server, (struct sockaddr *)&at, &size), 0);
	configure_service(kernel, at.sin_port);
	assert_int_equal(weft_reader_open(lab.pins, &reader, NULL), 0);

	join_cgroup(lab.cgroup);
	for (size_t i = 0; i < CLIENTS; i++) {
		clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(clients[i], (struct sockaddr *)&vip, sizeof(vip)), 0);
		accepted[i] = accept4(server, NULL, NULL, SOCK_CLOEXEC);
		assert_true(accepted[i] >= 0);
	}
	join_cgroup(above);

	assert_int_equal(client_conns(kernel, reader), CLIENTS);
	assert_int_equal(live_of_endpoint_1(), CLIENTS);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(weft_kernel_recount(kernel), 0);
		assert_int_equal(live_of_endpoint_1(), CLIENTS);
	}
	close(clients[0]);
	close(accepted[0]);
	assert_int_equal(live_of_endpoint_1(), CLIENTS - 1);
	assert_int_equal(weft_kernel_flush(kernel), 0);

	/* Over an adoption. */
	weft_kernel_close(kernel);
	kernel = open_instance(true);
	assert_int_equal(weft_kernel_recount(kernel), 0);
	assert_int_equal(live_of_endpoint_1(), CLIENTS - 1);
	assert_int_equal(client_conns(kernel, reader), CLIENTS - 1);

	if (!(lab.features >> WEFT_FEATURE_SOCK_DESTROY & 1)) {
		assert_int_equal(weft_kernel_cut_here(kernel, &id, 1, false, &cut), -EOPNOTSUPP);
	} else {
		assert_int_equal(weft_kernel_cut_here(kernel, &other, 1, false, &cut), 0);
		assert_int_equal(cut, 0);
		assert_int_equal(weft_kernel_cut_here(kernel, &id, 1, true, &cut), 0);
		assert_int_equal(cut, 0);
		/* Among as many as there may be, and not among more. */
		for (uint32_t i = 0; i < WEFT_ARRAY_SIZE(many); i++)
			many[i] = other + i;
		many[WEFT_ROLE_MAX_CUT - 1] = id;
		assert_int_equal(weft_kernel_cut_here(kernel, many, WEFT_ROLE_MAX_CUT + 1, false, &cut), -E2BIG);
		assert_int_equal(cut, 0);
		assert_int_equal(weft_kernel_cut_here(kernel, many, WEFT_ROLE_MAX_CUT, false, &cut), 0);
		assert_int_equal(cut, CLIENTS - 1);
		wait = (struct pollfd){ .fd = clients[1], .events = POLLIN };
		assert_int_equal(poll(&wait, 1, 10000), 1);
		assert_int_equal(recv(clients[1], &byte, 1, MSG_DONTWAIT), -1);
		assert_int_equal(errno, ECONNABORTED);
		assert_int_equal(live_of_endpoint_1(), 0);
		/* Not doomed for ever. */
		assert_int_equal(weft_kernel_cut_here(kernel, NULL, 0, false, &cut), 0);
		assert_int_equal(cut, 0);
	}
	for (size_t i = 1; i < CLIENTS; i++) {
		close(clients[i]);
		close(accepted[i]);
	}
}

static struct {
	int client[CLIENTS];
	size_t left;
} closing;

static void close_one(void)
{
	if (closing.left)
		close(closing.client[--closing.left]);
}

/*
 * Wherever a recount fails, readers are told until one succeeds; and that one is exact, though connections
 * close in every gap: those that the failed one did not reach, too.
 */
static void a_recount_that_fails_anywhere_is_made_good_by_the_next(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = open_instance(false);
	weft_close_on_exit int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = at_v4("127.0.0.1", 0), vip = at_v4("10.96.0.1", 80);
	unsigned int owed = 0;
	char above[PATH_MAX];
	socklen_t size = sizeof(at);
	int r = 1;

	(void)state;
	strcpy(above, lab.cgroup);
	*strrchr(above, '/') = '\0';
	assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(server, 64), 0);
	assert_int_equal(getsockname(server, (struct sockaddr *)&at, &size), 0);
	configure_service(kernel, at.sin_port);
	for (int at_call = 1; r < 0 || at_call == 1; at_call++) {
		int accepted[CLIENTS];

		join_cgroup(lab.cgroup);
		for (size_t i = 0; i < CLIENTS; i++) {
			struct linger reset = { 1, 0 };

			closing.client[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			setsockopt(closing.client[i], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
			assert_int_equal(connect(closing.client[i], (struct sockaddr *)&vip, sizeof(vip)), 0);
			accepted[i] = accept4(server, NULL, NULL, SOCK_CLOEXEC);
		}
		join_cgroup(above);
		closing.left = CLIENTS;
		assert_int_equal(live_of_endpoint_1(), CLIENTS);

		fault.mode = FAIL;
		fault.at = at_call;
		fault.count = 0;
		r = weft_kernel_recount(kernel);
		fault.mode = OFF;
		assert_true(r == 0 || r == -EIO);
		owed += recount_is_owed();
		assert_false(r == 0 && recount_is_owed());
		assert_int_equal(weft_kernel_set_flags(kernel, 0), 0);
		if (r < 0 && recount_is_owed() && at_call % 2) {
			/* It is known after a restart too. */
			weft_kernel_close(kernel);
			kernel = open_instance(true);
			assert_true(recount_is_owed());
		}

		before_iter = close_one;
		assert_int_equal(weft_kernel_recount(kernel), 0);
		before_iter = NULL;
		assert_false(recount_is_owed());
		assert_true(closing.left < CLIENTS);
		assert_int_equal(live_of_endpoint_1(), closing.left);
		while (closing.left)
			close_one();
		assert_int_equal(live_of_endpoint_1(), 0);
		for (size_t i = 0; i < CLIENTS; i++)
			close(accepted[i]);
	}
	assert_true(owed >= 3);
}

static void records_come_while_somebody_watches(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = open_instance(false);
	weft_buf_done_on_exit struct weft_buf events = WEFT_BUF_INIT;
	weft_close_on_exit int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = at_v4("127.0.0.1", 0), vip = at_v4("10.96.0.1", 80);
	struct pollfd wait = { .fd = weft_kernel_event_fd(kernel), .events = POLLIN };
	char above[PATH_MAX];
	socklen_t size = sizeof(at);
	size_t opened = 0;

	(void)state;
	strcpy(above, lab.cgroup);
	*strrchr(above, '/') = '\0';
	assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(server, 64), 0);
	assert_int_equal(getsockname(server, (struct sockaddr *)&at, &size), 0);
	configure_service(kernel, at.sin_port);
	for (int watched = 0; watched < 2; watched++) {
		weft_close_on_exit int client = -1, accepted = -1;

		assert_int_equal(weft_kernel_set_watchers(kernel, (uint32_t)watched), 0);
		join_cgroup(lab.cgroup);
		client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(client, (struct sockaddr *)&vip, sizeof(vip)), 0);
		accepted = accept4(server, NULL, NULL, SOCK_CLOEXEC);
		join_cgroup(above);
		if (watched)
			assert_int_equal(poll(&wait, 1, 10000), 1);
		assert_int_equal(weft_kernel_events(kernel, &events), 0);
		if (!watched)
			assert_int_equal(events.size, 0);
	}
	assert_int_equal(events.size % sizeof(struct weft_event), 0);
	for (size_t i = 0; i < events.size / sizeof(struct weft_event); i++) {
		const struct weft_event *event = (const struct weft_event *)events.data + i;

		opened += event->type == WEFT_EVENT_OPENED && event->role == WEFT_ROLE_CLIENT && event->service == 1;
	}
	assert_int_equal(opened, 1);
}

static void counters_of_a_build_with_fewer_reasons_go_on(void **state)
{
	struct weft_kernel *kernel = open_instance(false);
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = NULL;
	int cpus = libbpf_num_possible_cpus();
	weft_free_on_exit __u64 *each = calloc((size_t)cpus, sizeof(*each));
	weft_close_on_exit int older = bpf_map_create(BPF_MAP_TYPE_PERCPU_ARRAY, "weft_counter", 4, 8, 3, NULL);
	char path[PATH_MAX];
	__u32 key = 2;
	__u64 sum = 0;

	(void)state;
	weft_kernel_close(kernel);
	assert_true(older >= 0);
	for (int i = 0; i < cpus; i++)
		each[i] = (__u64)i + 1;
	assert_int_equal(bpf_map_update_elem(older, &key, each, BPF_ANY), 0);
	snprintf(path, sizeof(path), "%s/v1/map/weft_counter", lab.pins);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(bpf_obj_pin(older, path), 0);
	weft_kernel_close(open_instance(true));
	assert_int_equal(weft_reader_open(lab.pins, &reader, NULL), 0);
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_COUNTER, &key, &sum), 0);
	assert_int_equal(sum, cpus * (cpus + 1) / 2);
	key = WEFT_COUNTER_MAX_ - 1;
	assert_int_equal(weft_reader_get(reader, WEFT_MAP_COUNTER, &key, &sum), 0);
	assert_int_equal(sum, 0);
}

/* The agent's cgroup is below the subtree: all that follows runs there. False: this kernel cannot. */
static bool begin_attaching(char *above)
{
	strcpy(above, lab.cgroup);
	*strrchr(above, '/') = '\0';
	if (!(lab.features >> WEFT_FEATURE_SK_LOOKUP & 1))
		return false;
	join_cgroup(lab.cgroup);
	return true;
}

static int attach_here(struct weft_kernel *kernel, uint64_t cookie, struct weft_err *err)
{
	weft_close_on_exit int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	const struct weft_capture row = { .addr[0].w = { 0, 0, htonl(0xffff), htonl(0x0a000001) }, .workload = 5, .port = htons(15001) };

	assert_true(netns >= 0);
	return weft_kernel_attach_netns(kernel, netns, cookie, &row, err);
}

/* The one that is attached, 0 if none is; and its row is there, or not. */
static uint64_t attached_one(struct weft_kernel *kernel)
{
	weft_buf_done_on_exit struct weft_buf cookies = WEFT_BUF_INIT, rows = WEFT_BUF_INIT;
	uint64_t cookie = 0;

	assert_int_equal(weft_kernel_attached(kernel, &cookies), 0);
	assert_int_equal(weft_kernel_read(kernel, UINT64_C(1) << WEFT_MAP_CAPTURE, &rows), 0);
	assert_true(cookies.size <= sizeof(cookie));
	if (cookies.size)
		memcpy(&cookie, cookies.data, sizeof(cookie));
	assert_int_equal(rows.size > sizeof(struct weft_batch_run), cookie != 0);
	return cookie;
}

static void a_pod_is_attached_as_a_whole_or_not_at_all(void **state)
{
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = NULL;
	weft_buf_done_on_exit struct weft_buf before = WEFT_BUF_INIT, batch = WEFT_BUF_INIT;
	struct weft_kernel_options with = options();
	struct weft_err err = { "" };
	const uint64_t key = 9;
	const struct weft_capture row = { .workload = 1 };
	uint32_t failed;
	char above[PATH_MAX];
	int at, r = 1;

	(void)state;
	if (!begin_attaching(above))
		skip();
	bare = true;
	with.capacity.max_entries[WEFT_MAP_CAPTURE] = 1;
	kernel = open_with(&with, false);
	join_cgroup(above);
	assert_int_equal(attach_here(kernel, 77, &err), -EXDEV);
	assert_contains(err.text, "--cgroup");
	join_cgroup(lab.cgroup);

	inventory(&before);
	for (at = 1; at < 20; at++) {
		weft_buf_done_on_exit struct weft_buf after = WEFT_BUF_INIT;

		fault.mode = FAIL;
		fault.at = at;
		fault.count = 0;
		r = attach_here(kernel, 77, &err);
		fault.mode = OFF;
		if (r == 0)
			break;
		assert_int_equal(r, -EIO);
		assert_int_equal(attached_one(kernel), 0);
		inventory(&after);
		assert_string_equal(before.data, after.data);
	}
	assert_int_equal(r, 0);
	assert_in_range(at, 5, 10);
	assert_int_equal(attached_one(kernel), 77);
	assert_int_equal(attach_here(kernel, 77, &err), 0);
	assert_int_equal(attached_one(kernel), 77);
	/* The row of another does not fit; the first stays. */
	assert_int_equal(attach_here(kernel, 78, &err), -E2BIG);
	assert_contains(err.text, "weft_capture");
	assert_int_equal(attached_one(kernel), 77);
	assert_true(weft_kernel_links_pinned(kernel));

	/* main alone says who is attached. */
	run_of(&batch, WEFT_MAP_CAPTURE, WEFT_BATCH_UPDATE, 1, &key, &row);
	assert_int_equal(weft_kernel_apply(kernel, batch.data, batch.size, &failed, &err), -EBADMSG);

	assert_int_equal(weft_kernel_detach_netns(kernel, 78), 0);
	assert_int_equal(attached_one(kernel), 77);
	assert_int_equal(weft_kernel_detach_netns(kernel, 77), 0);
	assert_int_equal(attached_one(kernel), 0);
	assert_true(weft_kernel_links_pinned(kernel));
	assert_int_equal(attach_here(kernel, 79, &err), 0);
	assert_int_equal(weft_kernel_uninstall(lab.pins, &err), 0);
	assert_false(exists(lab.pins));
	assert_false(weft_kernel_links_pinned(kernel));
	join_cgroup(above);
}

static void attached_pods_stay_attached_whatever_becomes_of_an_adoption(void **state)
{
	weft_buf_done_on_exit struct weft_buf before = WEFT_BUF_INIT;
	struct weft_kernel_options with = options();
	struct weft_kernel *kernel;
	struct weft_err err = { "" };
	char above[PATH_MAX];
	int r = 1;

	(void)state;
	if (!begin_attaching(above))
		skip();
	bare = true;
	kernel = open_instance(false);
	put_something(kernel);
	assert_int_equal(attach_here(kernel, 77, &err), 0);
	weft_kernel_close(kernel);
	inventory(&before);
	for (int at = 1; at < 200 && r != 0; at++) {
		weft_buf_done_on_exit struct weft_buf after = WEFT_BUF_INIT;

		r = start_in_child(&with, FAIL, at);
		if (r == 0)
			break;
		assert_int_equal(r, 1);
		inventory(&after);
		assert_string_equal(before.data, after.data);
	}
	assert_int_equal(r, 0);
	r = 1;
	for (int at = 1; at < 200 && r != 0; at++) {
		r = start_in_child(&with, KILL, at);
		kernel = open_instance(true);
		assert_int_equal(attached_one(kernel), 77);
		weft_kernel_close(kernel);
	}
	assert_int_equal(r, 0);

	/* Forced away, the feature takes all of it along. */
	with.features &= ~(UINT64_C(1) << WEFT_FEATURE_SK_LOOKUP);
	kernel = open_with(&with, true);
	assert_int_equal(attached_one(kernel), 0);
	assert_int_equal(attach_here(kernel, 77, &err), -EOPNOTSUPP);
	weft_kernel_close(kernel);
	join_cgroup(above);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_first_start_pins_a_whole_set_for_root_alone, setup, setup),
		cmocka_unit_test_setup_teardown(a_second_start_takes_over_in_place, setup, setup),
		cmocka_unit_test_setup_teardown(a_map_that_became_too_small_grows_with_its_contents, setup, setup),
		cmocka_unit_test_setup_teardown(what_is_written_is_read_and_the_reader_agrees, setup, setup),
		cmocka_unit_test_setup_teardown(a_first_start_that_fails_anywhere_leaves_nothing, setup, setup),
		cmocka_unit_test_setup_teardown(an_adoption_that_fails_anywhere_changes_nothing, setup, setup),
		cmocka_unit_test_setup_teardown(a_start_that_is_killed_anywhere_is_made_good_by_the_next, setup, setup),
		cmocka_unit_test_setup_teardown(an_adoption_that_is_killed_anywhere_is_made_good_by_the_next, setup,
						setup),
		cmocka_unit_test_setup_teardown(growing_that_is_killed_anywhere_loses_nothing, setup, setup),
		cmocka_unit_test_setup_teardown(missing_pins_are_made_again, setup, setup),
		cmocka_unit_test_setup_teardown(overlapping_subtrees_are_refused_by_name, setup, setup),
		cmocka_unit_test_setup_teardown(a_cgroup_that_died_is_attached_anew, setup, setup),
		cmocka_unit_test_setup_teardown(a_map_of_another_kind_is_named, setup, setup),
		cmocka_unit_test_setup_teardown(another_version_is_named_and_uninstalled, setup, setup),
		cmocka_unit_test_setup_teardown(uninstalling_leaves_nothing_even_under_an_open_agent, setup, setup),
		cmocka_unit_test_setup_teardown(a_place_that_cannot_hold_pins_is_named, setup, setup),
		cmocka_unit_test_setup_teardown(bpffs_is_mounted_where_everybody_expects_it, setup, setup),
		cmocka_unit_test_setup_teardown(a_missing_capability_is_named, setup, setup),
		cmocka_unit_test_setup_teardown(every_fallback_can_be_forced, setup, setup),
		cmocka_unit_test_setup_teardown(sockets_are_shown_counted_and_cut, setup, setup),
		cmocka_unit_test_setup_teardown(a_recount_that_fails_anywhere_is_made_good_by_the_next, setup, setup),
		{ "missing_pins_are_made_again_here", missing_pins_are_made_again, setup_here, teardown_here, NULL },
		{ "sockets_are_shown_counted_and_cut_here", sockets_are_shown_counted_and_cut, setup_here, teardown_here, NULL },
		{ "a_recount_that_fails_anywhere_is_made_good_by_the_next_here", a_recount_that_fails_anywhere_is_made_good_by_the_next,
		  setup_here_alone, teardown_here, NULL },
		cmocka_unit_test_setup_teardown(adopted_one_way_and_the_other, setup_here, teardown_here),
		cmocka_unit_test_setup_teardown(what_cannot_be_listed_is_not_counted_and_said, setup_here, teardown_here),
		cmocka_unit_test_setup_teardown(a_flush_comes_to_every_namespace_in_the_end, setup_here, teardown_here),
		cmocka_unit_test_setup_teardown(records_come_while_somebody_watches, setup, setup),
		cmocka_unit_test_setup_teardown(counters_of_a_build_with_fewer_reasons_go_on, setup, setup),
		cmocka_unit_test_setup_teardown(a_pod_is_attached_as_a_whole_or_not_at_all, setup, setup),
		cmocka_unit_test_setup_teardown(attached_pods_stay_attached_whatever_becomes_of_an_adoption, setup, setup),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "skipped: loading programs and making cgroups needs root\n");
		return CHECK_SKIPPED;
	}
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
