/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/kernel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cap-ng.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernel/batch.h"
#include "kernel/build.h"
#include "kernel/cgroup.h"
#include "kernel/instance.h"
#include "kernel/iter.h"
#include "kernel/links.h"
#include "kernel/maps.h"
#include "kernel/pins.h"
#include "kernel/print.h"
#include "weft/abi/counter.h"
#include "weft.skel.h"

/* Pinned beside those of lists/map.h; they have no plain keys. */
static const char *const pinned_too[] = { "weft_sock", "weft_udp", "weft_event" };

/* Nothing of a set of pins can be told from another's but by its first hook. */
#define FIRST_HOOK "weft_connect4"

struct weft_kernel *weft_kernel_close(struct weft_kernel *kernel)
{
	if (!kernel)
		return NULL;
	ring_buffer__free(kernel->ring);
	weft_closep(&kernel->conn);
	weft_closep(&kernel->conn_udp);
	weft_closep(&kernel->flush);
	weft_closep(&kernel->clear);
	weft_closep(&kernel->recount);
	weft_closep(&kernel->recount_udp);
	weft_closep(&kernel->cut_tcp);
	weft_closep(&kernel->cut_cookie);
	weft_closep(&kernel->cut_udp);
	weft_bpf__destroy(kernel->skel);
	free(kernel->pins);
	free(kernel);
	return NULL;
}

static int pin_path(char *path, const struct weft_kernel_options *options, const char *kind, const char *name,
		    struct weft_err *err)
{
	int r = weft_pins_path(path, options->pins, kind, name);

	return r < 0 ? weft_err_set(err, r, "the path of the pin folder %s is too long", options->pins) : 0;
}

/* 1 if the folder is whole: weft_setting was written last by the start that made it. */
static int is_whole(const struct weft_kernel_options *options, struct weft_err *err)
{
	weft_close_on_exit int fd = -1;
	struct weft_setting setting;
	struct bpf_map_info info;
	char path[PATH_MAX];
	__u32 zero = 0;
	int r = pin_path(path, options, WEFT_PINS_MAP, weft_map_spec(WEFT_MAP_SETTING)->name, err);

	if (r < 0)
		return r;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == ENOENT ? 0 : weft_err_set(err, errno, "cannot open the pinned map %s: %m", path);
	r = weft_map_fd_info(fd, &info);
	if (r < 0)
		return weft_err_set(err, r, "cannot ask about the pinned map %s: %m", path);
	if (info.value_size != sizeof(setting) || info.key_size != sizeof(zero))
		return weft_err_set(err, EPROTO,
				    "%s has other sizes than this build's: weft uninstall, then start again", path);
	if (bpf_map_lookup_elem(fd, &zero, &setting) < 0)
		return weft_err_set(err, errno, "cannot read the pinned map %s: %m", path);
	if (setting.magic == WEFT_ABI_MAGIC && setting.version != WEFT_ABI_VERSION)
		return weft_err_set(err, EPROTO,
				    "%s is of version %u and this weft is of version %u: uninstall that one first",
				    path, setting.version, WEFT_ABI_VERSION);
	return setting.magic == WEFT_ABI_MAGIC;
}

/*
 * Whatever moment the last start was killed at: a folder that is not whole and
 * has no link is scaffolding and goes; with links it carries traffic, so what
 * is there is taken over and the rest is added.
 */
static int look_at_pins(const struct weft_kernel_options *options, struct weft_pins_made *made, bool *ret_adopted,
			struct weft_err *err)
{
	size_t links;
	int r = weft_pins_prepare(options->pins, made, err), whole;

	if (r < 0)
		return r;
	whole = is_whole(options, err);
	if (whole < 0)
		return whole;
	r = weft_pins_count(options->pins, WEFT_PINS_LINK, &links);
	if (r < 0)
		return weft_err_set(err, r, "cannot list the links below %s: %m", options->pins);
	*ret_adopted = whole || links > 0;
	if (*ret_adopted)
		return 0;
	r = weft_pins_clear(options->pins, false, err);
	return r < 0 ? r : weft_pins_prepare(options->pins, made, err);
}

static int check_same(const struct bpf_map *map, const struct bpf_map_info *info, const char *path,
		      struct weft_err *err)
{
	if (info->type != bpf_map__type(map) || info->key_size != bpf_map__key_size(map) ||
	    info->value_size != bpf_map__value_size(map) || info->map_flags != bpf_map__map_flags(map))
		return weft_err_set(
			err, EPROTO,
			"the pinned map %s is not of this build's kind (type %u, key %u, value %u, flags %#x; here %u, "
			"%u, %u, %#x): weft uninstall, then start again",
			path, info->type, info->key_size, info->value_size, info->map_flags, bpf_map__type(map),
			bpf_map__key_size(map), bpf_map__value_size(map), bpf_map__map_flags(map));
	return 0;
}

static uint32_t wanted_entries(const struct weft_kernel_options *options, size_t map)
{
	/* Their sizes are the contract's. */
	if (map == WEFT_MAP_SETTING || map == WEFT_MAP_COUNTER || map >= WEFT_MAP_MAX_)
		return 0;
	/* A row for every endpoint. */
	if (map == WEFT_MAP_LIVE)
		return options->capacity.max_entries[WEFT_MAP_ENDPOINT];
	return options->capacity.max_entries[map];
}

/*
 * Maps that were adopted and are wanted larger: main alone writes them, so that
 * their contents can be carried over; weft_live is counted anew, and weft_affinity
 * is a cache, whose entries may be lost. weft_captured and weft_attest are of connections whose SYN is on its way at this very
 * moment, and of none before a pod is attached, which is when they grow. weft_counter grows with the list of reasons.
 */
struct outgrown {
	int fd[WEFT_MAP_MAX_]; /* the pinned ones, or -1 */
};

static void close_outgrown(struct outgrown *outgrown)
{
	for (size_t i = 0; i < WEFT_MAP_MAX_; i++)
		weft_closep(&outgrown->fd[i]);
}

static bool may_grow(size_t map)
{
	if (map >= WEFT_MAP_MAX_)
		return false;
	switch (map) {
	case WEFT_MAP_COUNTER: /* an earlier build's, which knew fewer reasons */
	case WEFT_MAP_LIVE:
	case WEFT_MAP_AFFINITY:
	case WEFT_MAP_CAPTURED:
	case WEFT_MAP_ATTEST:
		return true;
	default:
		return weft_map_spec((uint32_t)map)->config;
	}
}

/* The pinned map takes the place of the skeleton's, if there is one that is large enough. */
static int reuse_map(const struct weft_kernel_options *options, size_t number, struct bpf_map *map,
		     struct outgrown *outgrown, struct weft_err *err)
{
	weft_close_on_exit int fd = -1;
	struct bpf_map_info info;
	char path[PATH_MAX];
	int r = pin_path(path, options, WEFT_PINS_MAP, bpf_map__name(map), err);

	if (r < 0)
		return r;
	weft_journal_sweep(path);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == ENOENT ? 0 : weft_err_set(err, errno, "cannot open the pinned map %s: %m", path);
	r = weft_map_fd_info(fd, &info);
	if (r == 0)
		r = check_same(map, &info, path, err);
	else
		weft_err_set(err, r, "cannot ask about the pinned map %s: %m", path);
	if (r < 0)
		return r;
	if (may_grow(number) &&
	    (number == WEFT_MAP_COUNTER ? (uint32_t)WEFT_COUNTER_MAX_ : wanted_entries(options, number)) > info.max_entries) {
		outgrown->fd[number] = weft_take_fd(fd);
		return 0;
	}
	r = bpf_map__reuse_fd(map, fd);
	return r < 0 ? weft_err_set(err, r, "cannot take over the pinned map %s: %m", path) : 0;
}

static struct bpf_map *map_named(const struct weft_kernel *kernel, const char *name)
{
	return bpf_object__find_map_by_name(kernel->skel->obj, name);
}

/* i over lists/map.h and then pinned_too; NULL behind the end. */
static const char *pinned_name(size_t i)
{
	if (i < WEFT_MAP_MAX_)
		return weft_map_spec((uint32_t)i)->name;
	i -= WEFT_MAP_MAX_;
	return i < WEFT_ARRAY_SIZE(pinned_too) ? pinned_too[i] : NULL;
}

static int size_maps(struct weft_kernel *kernel, const struct weft_kernel_options *options, struct weft_err *err)
{
	for (size_t i = 0; i < WEFT_MAP_MAX_; i++) {
		uint32_t entries = wanted_entries(options, i);
		int r = entries ? bpf_map__set_max_entries(map_named(kernel, pinned_name(i)), entries) : 0;

		if (r < 0)
			return weft_err_set(err, r, "cannot give %s %u entries: %m", pinned_name(i), entries);
	}
	return 0;
}

static int open_skeleton(struct weft_kernel *kernel, const struct weft_kernel_options *options,
			 struct outgrown *outgrown, struct weft_err *err)
{
	int r = weft_build_open(options->features, &kernel->skel);

	if (r < 0)
		return weft_err_set(err, r, "cannot open the programs that this binary carries: %m");
	r = size_maps(kernel, options, err);
	for (size_t i = 0; r == 0 && pinned_name(i); i++) {
		struct bpf_map *map = map_named(kernel, pinned_name(i));

		if (!map)
			return weft_err_set(err, ENOENT, "the programs that this binary carries have no map %s",
					    pinned_name(i));
		r = reuse_map(options, i, map, outgrown, err);
	}
	return r;
}

static const char *missing_capability(void)
{
	static const struct {
		unsigned int number;
		const char *name;
	} needed[] = {
		{ CAP_BPF, "CAP_BPF" },
		{ CAP_NET_ADMIN, "CAP_NET_ADMIN" },
		{ CAP_PERFMON, "CAP_PERFMON" },
		{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN" },
	};

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(needed); i++)
		if (!capng_have_capability(CAPNG_EFFECTIVE, needed[i].number))
			return needed[i].name;
	return NULL;
}

static int load(struct weft_kernel *kernel, struct weft_print *print, struct weft_err *err)
{
	const char *missing;
	int r = weft_bpf__load(kernel->skel);

	if (r == 0)
		return 0;
	/* EPERM comes from the system call, EACCES from a verifier that trusts us less. */
	missing = r == -EPERM || r == -EACCES ? missing_capability() : NULL;
	if (missing)
		return weft_err_set(err, EPERM, "the kernel refuses to load programs: this process lacks %s", missing);
	return weft_err_set(err, r, "the kernel refuses to load the programs (%m): %s", weft_print_text(print));
}

static int check_overlap(const struct weft_kernel_options *options, int cgroup, struct weft_err *err)
{
	char path[PATH_MAX];
	int r = pin_path(path, options, WEFT_PINS_LINK, FIRST_HOOK, err);

	if (r < 0)
		return r;
	return weft_cgroup_check_overlap(cgroup, BPF_CGROUP_INET4_CONNECT, FIRST_HOOK, weft_link_prog_id(path), err);
}

static int carry_over(int from, int to)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	struct bpf_map_info info;
	size_t count;
	int r = weft_map_fd_info(from, &info);

	if (r == 0)
		r = weft_map_dump(from, &info, &keys, &values, &count);
	return r < 0 ? r
		     : weft_map_update_many(to, info.key_size, info.value_size, keys.data, values.data,
					    (uint32_t)count);
}

/* What was counted stands with one CPU afterwards. What is counted between copy and change of programs is not carried over. */
static int carry_counters(int from, int to)
{
	int cpus = libbpf_num_possible_cpus();
	weft_free_on_exit __u64 *each = cpus > 0 ? calloc((size_t)cpus, sizeof(*each)) : NULL;
	struct bpf_map_info info;
	int r = weft_map_fd_info(from, &info);

	if (!each)
		return cpus < 0 ? cpus : -ENOMEM;
	for (__u32 i = 0; r == 0 && i < info.max_entries; i++) {
		r = weft_map_get(from, &info, &i, each);
		if (r == 0 && bpf_map_update_elem(to, &i, each, BPF_ANY) < 0)
			r = -errno;
	}
	return r;
}

static int pin_map(const struct weft_kernel_options *options, const struct bpf_map *map, struct weft_journal *journal,
		   struct weft_err *err)
{
	char path[PATH_MAX];
	int r = pin_path(path, options, WEFT_PINS_MAP, bpf_map__name(map), err);

	if (r < 0 || access(path, F_OK) == 0)
		return r;
	return weft_journal_pin_map(journal, bpf_map__fd(map), path, err);
}

/* The old programs look into the old map until each is replaced: both say the same. */
static int grow_map(const struct weft_kernel_options *options, size_t number, const struct bpf_map *map, int before,
		    struct weft_journal *journal, struct weft_err *err)
{
	char path[PATH_MAX];
	int r = pin_path(path, options, WEFT_PINS_MAP, bpf_map__name(map), err);

	if (r < 0)
		return r;
	if (number == WEFT_MAP_COUNTER)
		r = carry_counters(before, bpf_map__fd(map));
	else
		r = number == WEFT_MAP_LIVE ? 0 : carry_over(before, bpf_map__fd(map));
	if (r < 0)
		return weft_err_set(err, r, "cannot copy %s into a larger map: %m", path);
	return weft_journal_replace_map(journal, bpf_map__fd(map), before, path, err);
}

static int pin_maps(struct weft_kernel *kernel, const struct weft_kernel_options *options,
		    const struct outgrown *outgrown, struct weft_journal *journal, struct weft_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && pinned_name(i); i++) {
		const struct bpf_map *map = map_named(kernel, pinned_name(i));

		if (i < WEFT_MAP_MAX_ && outgrown->fd[i] >= 0)
			r = grow_map(options, i, map, outgrown->fd[i], journal, err);
		else
			r = pin_map(options, map, journal, err);
	}
	return r;
}

static int take_maps(struct weft_kernel *kernel, struct weft_err *err)
{
	for (size_t i = 0; i < WEFT_MAP_MAX_; i++) {
		struct bpf_map_info info;
		int r;

		kernel->maps[i] = bpf_map__fd(map_named(kernel, pinned_name(i)));
		r = weft_map_fd_info(kernel->maps[i], &info);
		if (r < 0)
			return weft_err_set(err, r, "cannot ask about %s: %m", pinned_name(i));
		kernel->max_entries[i] = info.max_entries;
	}
	return 0;
}

int weft_kernel_store_setting(struct weft_kernel *kernel, const struct weft_setting *setting)
{
	__u32 zero = 0;

	if (bpf_map_update_elem(kernel->maps[WEFT_MAP_SETTING], &zero, setting, BPF_ANY) < 0)
		return -errno;
	kernel->setting = *setting;
	return 0;
}

/* All but the magic, which says that the rest is there too. An adopted weft_live is not to be believed: hooks may have been gone meanwhile. */
static int begin_setting(struct weft_kernel *kernel, uint32_t watchers, bool adopted)
{
	struct weft_setting setting;
	struct timespec now;
	__u32 zero = 0;

	if (bpf_map_lookup_elem(kernel->maps[WEFT_MAP_SETTING], &zero, &setting) < 0)
		return -errno;
	setting.watchers = watchers;
	if (setting.epoch == 0) {
		clock_gettime(CLOCK_BOOTTIME, &now);
		setting.version = WEFT_ABI_VERSION;
		setting.flags = WEFT_SETTING_F_METRICS;
		setting.epoch = 1;
		setting.boot_ns = (__u64)now.tv_sec * 1000000000u + (__u64)now.tv_nsec;
	}
	if (adopted)
		setting.flags |= WEFT_SETTING_F_RECOUNT;
	return weft_kernel_store_setting(kernel, &setting);
}

/* The rows that collect what does not fit must be there before the map is full. */
static int make_other_rows(struct weft_kernel *kernel)
{
	static const __u8 protocols[] = { IPPROTO_TCP, IPPROTO_UDP };
	static const struct weft_aggregate aggregate;
	static const struct weft_histogram histogram;

	for (__u8 reporter = 0; reporter < WEFT_REPORTER_MAX_; reporter++) {
		struct weft_histogram_key of = { .service = WEFT_ID_OTHER, .reporter = reporter };

		if (bpf_map_update_elem(kernel->maps[WEFT_MAP_HISTOGRAM], &of, &histogram, BPF_NOEXIST) < 0 &&
		    errno != EEXIST)
			return -errno;
		for (__u8 outcome = 0; outcome < WEFT_OUTCOME_MAX_; outcome++)
			for (size_t i = 0; i < WEFT_ARRAY_SIZE(protocols); i++) {
				struct weft_aggregate_key key = {
					.source = WEFT_ID_OTHER,
					.service = WEFT_ID_OTHER,
					.destination = WEFT_ID_OTHER,
					.reporter = reporter,
					.outcome = outcome,
					.protocol = protocols[i],
				};

				if (bpf_map_update_elem(kernel->maps[WEFT_MAP_AGGREGATE], &key, &aggregate,
							BPF_NOEXIST) < 0 &&
				    errno != EEXIST)
					return -errno;
			}
	}
	return 0;
}

static bool is_hook(const struct bpf_program *program)
{
	enum bpf_prog_type type = bpf_program__type(program);

	return type == BPF_PROG_TYPE_CGROUP_SOCK_ADDR || type == BPF_PROG_TYPE_CGROUP_SOCK ||
	       type == BPF_PROG_TYPE_SOCK_OPS;
}

static bool chooses(const struct bpf_program *program)
{
	switch (bpf_program__expected_attach_type(program)) {
	case BPF_CGROUP_INET4_CONNECT:
	case BPF_CGROUP_INET6_CONNECT:
	case BPF_CGROUP_UDP4_SENDMSG:
	case BPF_CGROUP_UDP6_SENDMSG:
		return true;
	default:
		return false;
	}
}

static int link_hooks_that(struct weft_kernel *kernel, const struct weft_kernel_options *options, int cgroup,
			   bool choose, struct weft_journal *journal, struct weft_err *err)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, kernel->skel->obj)
	{
		char path[PATH_MAX];
		struct weft_link_wish wish = {
			.pin = path,
			.prog = bpf_program__fd(program),
			.attach_type = bpf_program__expected_attach_type(program),
			.cgroup = cgroup,
		};
		int r;

		if (!is_hook(program) || wish.prog < 0 || chooses(program) != choose)
			continue;
		r = pin_path(path, options, WEFT_PINS_LINK, bpf_program__name(program), err);
		if (r == 0)
			r = weft_link_ensure(journal, &wish, NULL, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int pin_conns(const struct weft_kernel_options *options, const struct bpf_program *program, const struct bpf_map *map,
		     struct weft_journal *journal, int *ret_link, struct weft_err *err)
{
	char path[PATH_MAX];
	struct weft_link_wish wish = {
		.pin = path,
		.prog = bpf_program__fd(program),
		.attach_type = BPF_TRACE_ITER,
		.cgroup = -1,
		.map = map ? bpf_map__fd(map) : -1,
	};
	int r = pin_path(path, options, WEFT_PINS_LINK, bpf_program__name(program), err);

	return r < 0 ? r : weft_link_ensure(journal, &wish, ret_link, err);
}

/* What the CLI reads. */
static int link_conns(struct weft_kernel *kernel, const struct weft_kernel_options *options, struct weft_journal *journal,
		      struct weft_err *err)
{
	struct weft_bpf *skel = kernel->skel;
	int r;

	if (!kernel->here)
		return pin_conns(options, skel->progs.weft_conn, skel->maps.weft_sock, journal, &kernel->conn, err);
	r = pin_conns(options, skel->progs.weft_conn_tcp_here, NULL, journal, &kernel->conn, err);
	return r < 0 ? r : pin_conns(options, skel->progs.weft_conn_udp_here, NULL, journal, &kernel->conn_udp, err);
}

/* An instance that was opened with another mind about WEFT_FEATURE_SOCK_STORAGE_ITER left them; nobody may read them by mistake. */
static void unpin_other_conns(const struct weft_kernel *kernel, const struct weft_kernel_options *options)
{
	const struct bpf_program *const other[] = {
		kernel->here ? kernel->skel->progs.weft_conn : kernel->skel->progs.weft_conn_tcp_here,
		kernel->here ? kernel->skel->progs.weft_conn : kernel->skel->progs.weft_conn_udp_here,
	};
	char path[PATH_MAX];

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(other); i++)
		if (pin_path(path, options, WEFT_PINS_LINK, bpf_program__name(other[i]), NULL) == 0)
			unlink(path);
}

/* Those that choose come last: what they set going finds its count, its way back and its end attended to. */
static int link_hooks(struct weft_kernel *kernel, const struct weft_kernel_options *options, int cgroup,
		      struct weft_journal *journal, struct weft_err *err)
{
	int r = link_hooks_that(kernel, options, cgroup, false, journal, err);

	if (r == 0)
		r = weft_kernel_adopt_netns(kernel, options->pins, journal, err);
	if (r == 0)
		r = link_hooks_that(kernel, options, cgroup, true, journal, err);
	return r < 0 ? r : link_conns(kernel, options, journal, err);
}

/* An iterator that only this process runs; `map` NULL: it walks over the sockets of a namespace. */
static int link_iterator(const struct bpf_program *program, const struct bpf_map *map, int *ret_link,
			 struct weft_err *err)
{
	union bpf_iter_link_info over = { 0 };
	LIBBPF_OPTS(bpf_link_create_opts, options);
	int link;

	if (map) {
		over.map.map_fd = (__u32)bpf_map__fd(map);
		options.iter_info = &over;
		options.iter_info_len = sizeof(over);
	}
	link = bpf_link_create(bpf_program__fd(program), 0, BPF_TRACE_ITER, &options);
	if (link < 0)
		return weft_err_set(err, errno, "cannot attach the iterator %s: %m", bpf_program__name(program));
	*ret_link = link;
	return 0;
}

static int link_iterators(struct weft_kernel *kernel, uint64_t features, struct weft_err *err)
{
	struct weft_bpf *skel = kernel->skel;
	int r = link_iterator(skel->progs.weft_live_clear, skel->maps.weft_live, &kernel->clear, err);

	if (r == 0 && features >> WEFT_FEATURE_FETCH_ATOMICS & 1)
		r = link_iterator(kernel->here ? skel->progs.weft_flush_here : skel->progs.weft_flush, kernel->here ? NULL : skel->maps.weft_sock,
				  &kernel->flush, err);
	if (r == 0)
		r = link_iterator(kernel->here ? skel->progs.weft_recount_tcp_here : skel->progs.weft_recount,
				  kernel->here ? NULL : skel->maps.weft_sock, &kernel->recount, err);
	if (r == 0)
		r = link_iterator(kernel->here ? skel->progs.weft_recount_udp_here : skel->progs.weft_recount_udp,
				  kernel->here ? NULL : skel->maps.weft_udp, &kernel->recount_udp, err);
	if (r < 0 || !(features >> WEFT_FEATURE_SOCK_DESTROY & 1))
		return r;
	r = link_iterator(skel->progs.weft_cut_tcp, NULL, &kernel->cut_tcp, err);
	if (r == 0)
		r = link_iterator(skel->progs.weft_cut_cookie, NULL, &kernel->cut_cookie, err);
	return r < 0 ? r : link_iterator(skel->progs.weft_cut_udp, NULL, &kernel->cut_udp, err);
}

static int take_record(void *context, void *data, size_t size)
{
	struct weft_kernel *kernel = context;

	if (size < sizeof(struct weft_event))
		return 0; /* not one of ours */
	return weft_buf_add(kernel->events, data, sizeof(struct weft_event));
}

static int fill_kernel(struct weft_kernel *kernel, const struct weft_kernel_options *options, int cgroup, bool adopted,
		       struct weft_journal *journal, struct weft_print *print, struct weft_err *err)
{
	weft_cleanup(close_outgrown) struct outgrown outgrown;
	struct weft_setting setting;
	int r;

	memset(&outgrown, 0xff, sizeof(outgrown));
	r = open_skeleton(kernel, options, &outgrown, err);
	if (r == 0)
		r = load(kernel, print, err);
	if (r == 0)
		r = take_maps(kernel, err);
	if (r < 0)
		return r;
	r = begin_setting(kernel, options->watchers, adopted);
	if (r == 0)
		r = make_other_rows(kernel);
	if (r < 0)
		return weft_err_set(err, r, "cannot write the first rows of the maps below %s: %m", options->pins);
	r = pin_maps(kernel, options, &outgrown, journal, err);
	if (r == 0)
		r = link_hooks(kernel, options, cgroup, journal, err);
	if (r == 0)
		r = link_iterators(kernel, options->features, err);
	if (r < 0)
		return r;
	kernel->ring = ring_buffer__new(bpf_map__fd(kernel->skel->maps.weft_event), take_record, kernel, NULL);
	if (!kernel->ring)
		return weft_err_set(err, errno, "cannot map the ring buffer weft_event: %m");
	setting = kernel->setting;
	setting.magic = WEFT_ABI_MAGIC;
	r = weft_kernel_store_setting(kernel, &setting);
	return r < 0 ? weft_err_set(err, r, "cannot write weft_setting: %m") : 0;
}

static int netns_with_name_or_process(void *context, struct weft_netns_list *list)
{
	(void)context;
	return weft_iter_netns(list);
}

int weft_kernel_open(const struct weft_kernel_options *options, struct weft_kernel **ret_kernel, bool *ret_adopted,
		     struct weft_err *err)
{
	weft_print_on_exit struct weft_print *print = weft_print_begin();
	weft_cleanup(weft_kernel_closep) struct weft_kernel *kernel = calloc(1, sizeof(*kernel));
	weft_cleanup(weft_journal_undo) struct weft_journal journal = { .count = 0 };
	weft_close_on_exit int cgroup = -1;
	struct weft_pins_made made = { 0 };
	bool adopted = false;
	int r;

	if (!kernel)
		return weft_err_set(err, ENOMEM, "out of memory");
	kernel->conn = kernel->conn_udp = kernel->flush = kernel->clear = kernel->recount = kernel->recount_udp = -1;
	kernel->cut_tcp = kernel->cut_cookie = kernel->cut_udp = -1;
	kernel->features = options->features;
	kernel->here = !(options->features >> WEFT_FEATURE_SOCK_STORAGE_ITER & 1);
	kernel->netns_all = options->netns_all ? options->netns_all : netns_with_name_or_process;
	kernel->context = options->context;
	cgroup = weft_cgroup_open(options->cgroup, err);
	if (cgroup < 0)
		return cgroup;
	r = weft_cgroup_id(cgroup, &kernel->cgroup);
	if (r < 0)
		return weft_err_set(err, r, "cannot tell the id of the cgroup %s: %m", options->cgroup);
	r = look_at_pins(options, &made, &adopted, err);
	if (r == 0)
		r = check_overlap(options, cgroup, err);
	if (r == 0)
		r = fill_kernel(kernel, options, cgroup, adopted, &journal, print, err);
	if (r < 0) {
		weft_journal_undo(&journal);
		weft_pins_take_back(options->pins, &made);
		return r;
	}
	weft_journal_commit(&journal);
	unpin_other_conns(kernel, options);
	/* Only to notice later that somebody removed them: an instance that cannot tell works all the same. */
	kernel->pins = strdup(options->pins);
	if (weft_pins_count(options->pins, WEFT_PINS_LINK, &kernel->links) < 0)
		kernel->links = 0;
	if (weft_pins_count(options->pins, WEFT_PINS_NETNS, &kernel->attached) < 0)
		kernel->attached = 0;
	*ret_kernel = weft_take_ptr(kernel);
	*ret_adopted = adopted;
	return 0;
}

bool weft_kernel_links_pinned(const struct weft_kernel *kernel)
{
	size_t links = 0, attached = 0;

	return !kernel->pins || (weft_pins_count(kernel->pins, WEFT_PINS_LINK, &links) == 0 && links >= kernel->links &&
				 weft_pins_count(kernel->pins, WEFT_PINS_NETNS, &attached) == 0 && attached >= kernel->attached);
}

int weft_kernel_uninstall(const char *pins, struct weft_err *err)
{
	return weft_pins_clear(pins, true, err);
}

void weft_kernel_capacity(const struct weft_kernel *kernel, struct weft_role_capacity *ret_capacity)
{
	memcpy(ret_capacity->max_entries, kernel->max_entries, sizeof(ret_capacity->max_entries));
}

int weft_kernel_apply(struct weft_kernel *kernel, const void *batch, size_t size, uint32_t *ret_failed_run,
		      struct weft_err *err)
{
	return weft_kernel_batch_apply(kernel->maps, batch, size, ret_failed_run, err);
}

int weft_kernel_read(struct weft_kernel *kernel, uint64_t mask, struct weft_buf *batch)
{
	size_t before = batch->size;
	int r = 0;

	if (mask >> WEFT_MAP_MAX_)
		return -EINVAL;
	for (size_t i = 0; r == 0 && i < WEFT_MAP_MAX_; i++)
		if (mask >> i & 1)
			r = weft_kernel_batch_read(kernel->maps[i], (enum weft_map)i, batch);
	if (r < 0)
		batch->size = before;
	return r;
}

int weft_kernel_set_watchers(struct weft_kernel *kernel, uint32_t watchers)
{
	struct weft_setting setting = kernel->setting;

	setting.watchers = watchers;
	return weft_kernel_store_setting(kernel, &setting);
}

int weft_kernel_set_flags(struct weft_kernel *kernel, uint32_t flags)
{
	struct weft_setting setting = kernel->setting;

	if (flags & ~(WEFT_SETTING_F_BYPASS | WEFT_SETTING_F_METRICS | WEFT_SETTING_F_OPT_OUT | WEFT_SETTING_F_SECURE |
		      WEFT_SETTING_F_ENCRYPT_SAME_NODE | WEFT_SETTING_F_POLICY))
		return -EINVAL;
	setting.flags = flags | (setting.flags & WEFT_SETTING_F_RECOUNT);
	return weft_kernel_store_setting(kernel, &setting);
}

int weft_kernel_set_pod(struct weft_kernel *kernel, uint64_t netns_cookie, const struct weft_pod *pod)
{
	int fd = kernel->maps[WEFT_MAP_POD];

	if (pod)
		return bpf_map_update_elem(fd, &netns_cookie, pod, BPF_ANY) < 0 ? -errno : 0;
	return bpf_map_delete_elem(fd, &netns_cookie) < 0 && errno != ENOENT ? -errno : 0;
}

uint32_t weft_kernel_pod_workload(const struct weft_kernel *kernel, uint64_t netns_cookie)
{
	struct weft_pod pod;

	return bpf_map_lookup_elem(kernel->maps[WEFT_MAP_POD], &netns_cookie, &pod) < 0 ? 0 : pod.workload;
}

int weft_kernel_event_fd(struct weft_kernel *kernel)
{
	return ring_buffer__epoll_fd(kernel->ring);
}

int weft_kernel_events(struct weft_kernel *kernel, struct weft_buf *events)
{
	int r;

	kernel->events = events;
	r = ring_buffer__consume(kernel->ring);
	kernel->events = NULL;
	return r < 0 ? r : 0;
}
