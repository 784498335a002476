/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Role main. Holds CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, and CAP_SYS_ADMIN for
 * setns, cgroup links and iterators; no_new_privs. Loads or adopts, attaches,
 * pins; then does what control asks by abi/role.h: applies batches, reads
 * maps, binds network namespaces, cuts sockets, hands records over. Never
 * parses text (its own arguments apart), never waits for control, never
 * detaches anything: when it ends, traffic goes on by the pins.
 */
#include "agent/roles.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include "agent/place.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "ctl/role.h"
#include "kernel/kernel.h"
#include "kernel/maps.h"
#include "net/netns.h"
#include "net/sock_destroy.h"

/* A hook that somebody removed is back about this much later; looking costs one readdir. */
#define PINS_CHECK_US 2000000

/* Without atomics that return values a count may go wrong; no longer than this. */
#define RECOUNT_US 30000000
#define RECOUNT_RETRY_US 1000000 /* after one that failed; twice that after the next, and so on up to RECOUNT_US */

struct main_role {
	const struct weft_options *options;
	sd_event *loop;
	sd_event_source *peer_io;
	int peer;
	struct weft_kernel *kernel;
	struct weft_kernel_options how; /* the kernel was opened */
	sd_event_source *records;
	sd_event_source *recount_due;
	uint64_t recount_retry_us; /* 0: the last one did not fail */
	uint64_t features;
	bool adopted;
	uint64_t lost; /* records that control has not been told of */
};

/* What one capability is for, as the error says it. */
static const struct {
	unsigned int capability;
	const char *name;
	const char *use;
} capabilities[] = {
	{ CAP_BPF, "CAP_BPF", "loading programs" },
	{ CAP_NET_ADMIN, "CAP_NET_ADMIN", "attaching programs and cutting sockets" },
	{ CAP_PERFMON, "CAP_PERFMON", "reading kernel structures in programs" },
	{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "entering network namespaces" },
};

static int drop_privileges(struct weft_err *err)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	/* Before Linux 5.11 maps and programs are locked memory. Who may not raise the limit may have had it raised. */
	(void)setrlimit(RLIMIT_MEMLOCK, &unlimited);
	capng_get_caps_process();
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(capabilities); i++)
		if (!capng_have_capability(CAPNG_EFFECTIVE, capabilities[i].capability))
			return weft_err_set(err, EPERM, "the capability %s is missing, it is needed for %s: grant it to weftd", capabilities[i].name,
					    capabilities[i].use);
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(capabilities); i++)
		capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, capabilities[i].capability);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return weft_err_set(err, EPERM, "cannot give up capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return weft_err_set(err, errno, "cannot set no_new_privs: %m");
	return 0;
}

/* The sockets of these endpoints by netlink: for kernels where no program may destroy one. */
struct diag_cut {
	const struct weft_conn *conn;
	size_t count;
	const __u32 *ids; /* sorted */
	size_t id_count;
	bool udp_only;
	ino_t inode;
	uint32_t cut;
};

static int compare_ids(const void *a, const void *b)
{
	__u32 left = *(const __u32 *)a, right = *(const __u32 *)b;

	return left < right ? -1 : left > right;
}

static int diag_cut_here(void *context)
{
	struct diag_cut *cut = context;

	for (size_t i = 0; i < cut->count; i++) {
		const struct weft_conn *conn = &cut->conn[i];
		struct weft_err err;
		int r;

		if (conn->role != WEFT_ROLE_CLIENT || conn->netns_inode != cut->inode || !conn->endpoint ||
		    (cut->udp_only && conn->protocol != IPPROTO_UDP) ||
		    /* disconnected since, and serving others by now */
		    (conn->protocol == IPPROTO_UDP && conn->state != TCP_ESTABLISHED) || !bsearch(&conn->endpoint, cut->ids, cut->id_count, sizeof(*cut->ids), compare_ids))
			continue;
		r = weft_sock_destroy(conn, &err);
		if (r == 0)
			cut->cut++;
		else if (r != -ENOENT)
			return r;
	}
	return 0;
}

struct kernel_cut {
	struct weft_kernel *kernel;
	const __u32 *ids;
	size_t count;
	bool udp_only;
	uint32_t cut;
};

static int kernel_cut_here(void *context)
{
	struct kernel_cut *cut = context;
	uint32_t here = 0;
	int r = weft_kernel_cut_here(cut->kernel, cut->ids, cut->count, cut->udp_only, &here);

	cut->cut += here;
	return r;
}

/* In every network namespace that can be reached; the first failure is returned after all were tried. */
static int cut_everywhere(struct main_role *role, const __u32 *ids, size_t count, bool udp_only, uint32_t *ret_cut)
{
	bool by_program = role->features >> WEFT_FEATURE_SOCK_DESTROY & 1;
	weft_cleanup(weft_buf_done) struct weft_buf conns = WEFT_BUF_INIT;
	struct kernel_cut kernel = { role->kernel, ids, count, udp_only, 0 };
	weft_free_on_exit __u32 *sorted = by_program ? NULL : malloc(count * sizeof(*sorted));
	struct diag_cut diag = { .ids = sorted, .id_count = count, .udp_only = udp_only };
	size_t netns_count = 0;
	int *netns = NULL;
	int r, result = 0;

	if (!by_program && !(role->features >> WEFT_FEATURE_SOCK_DIAG_DESTROY & 1))
		return -EOPNOTSUPP;
	if (!by_program) {
		if (!sorted)
			return -ENOMEM;
		memcpy(sorted, ids, count * sizeof(*sorted));
		qsort(sorted, count, sizeof(*sorted), compare_ids);
		r = weft_kernel_conns(role->kernel, &conns);
		if (r < 0)
			return r;
		diag.conn = (const struct weft_conn *)conns.data;
		diag.count = conns.size / sizeof(struct weft_conn);
	}
	r = weft_netns_open_all(&netns, &netns_count);
	if (r < 0)
		return r;
	for (size_t i = 0; i < netns_count; i++) {
		r = by_program ? 0 : weft_netns_inode(netns[i], &diag.inode);
		if (r >= 0)
			r = weft_netns_run(netns[i], by_program ? kernel_cut_here : diag_cut_here,
					   by_program ? (void *)&kernel : (void *)&diag);
		if (r < 0 && result == 0)
			result = r;
		close(netns[i]);
	}
	free(netns);
	*ret_cut = by_program ? kernel.cut : diag.cut;
	return result;
}

static int ask_cookie_by_program(void *context)
{
	return weft_kernel_netns_cookie(context);
}

static int netns_cookie(const struct main_role *role, int netns, uint64_t *ret_cookie)
{
	if (role->features >> WEFT_FEATURE_NETNS_COOKIE & 1)
		return weft_netns_cookie(netns, ret_cookie);
	return weft_netns_run(netns, ask_cookie_by_program, ret_cookie);
}

static int bind_netns(struct main_role *role, const struct weft_role_message *message, uint64_t *ret_cookie)
{
	struct weft_pod pod = { .workload = (__u32)message->arg[0], .flags = (__u32)message->arg[1] };
	struct weft_err err;
	weft_close_on_exit int netns = weft_netns_open(message->name, &err);
	int r = netns < 0 ? netns : netns_cookie(role, netns, ret_cookie);

	return r < 0 ? r : weft_kernel_set_pod(role->kernel, *ret_cookie, &pod);
}

static int apply(struct main_role *role, const void *batch, size_t size, uint64_t *ret_failed)
{
	struct weft_err err = { "" };
	uint32_t failed = 0;
	int r = weft_kernel_apply(role->kernel, batch, size, &failed, &err);

	if (r < 0) {
		*ret_failed = failed;
		weft_debug("batch refused: %s", err.text); /* control says it, once */
	}
	return r;
}

static int on_records(sd_event_source *source, int fd, uint32_t revents, void *context);

static void set_recount_due(struct main_role *role)
{
	bool due = role->recount_retry_us || !(role->features >> WEFT_FEATURE_FETCH_ATOMICS & 1);

	if (!role->recount_due)
		return; /* the loop is not up yet */
	sd_event_source_set_time_relative(role->recount_due, role->recount_retry_us ? role->recount_retry_us : RECOUNT_US);
	sd_event_source_set_enabled(role->recount_due, due ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void recount(struct main_role *role)
{
	uint64_t waited_us = role->recount_retry_us;
	int r = weft_kernel_recount(role->kernel);

	if (r == 0 && waited_us)
		weft_info("live connections are counted again");
	errno = -r;
	if (r < 0 && !waited_us)
		weft_warning("cannot recount live connections: %m; LEAST_REQUEST goes by those that open from now on, no live counts are shown, "
			     "trying again");
	role->recount_retry_us = r == 0 ? 0 : !waited_us ? RECOUNT_RETRY_US : waited_us * 2 < RECOUNT_US ? waited_us * 2 : RECOUNT_US;
	if (r < 0)
		weft_debug("recounting again in %d s", (int)(role->recount_retry_us / 1000000));
	set_recount_due(role);
}

/*
 * Opens the instance once more, with larger maps, beside the one that is in use: an adoption like after a restart, so
 * that programs run all the time. On failure that one goes on. -E2BIG: more than this process was told to allow.
 */
static int grow(struct main_role *role, const struct weft_role_capacity *wish)
{
	struct weft_kernel_options how = role->how;
	weft_cleanup(weft_kernel_closep) struct weft_kernel *larger = NULL;
	struct weft_role_capacity have;
	struct weft_err err = { "" };
	bool adopted, any = false;
	int r;

	weft_kernel_capacity(role->kernel, &have);
	how.capacity = have;
	for (size_t i = 0; i < WEFT_MAP_MAX_; i++) {
		if (wish->max_entries[i] <= have.max_entries[i])
			continue;
		if (wish->max_entries[i] > role->options->ceiling.max_entries[i])
			return -E2BIG;
		how.capacity.max_entries[i] = wish->max_entries[i];
		any = true;
	}
	if (!any)
		return 0;
	r = weft_kernel_open(&how, &larger, &adopted, &err);
	if (r < 0) {
		weft_debug("cannot make larger maps: %s", err.text); /* control says it, once */
		if (weft_kernel_wants_recount(role->kernel)) /* of what was counted in the larger one before it was given up */
			recount(role);
		return r;
	}
	role->how = how;
	/* Before the descriptor that it polls goes. */
	role->records = sd_event_source_disable_unref(role->records);
	weft_kernel_close(role->kernel);
	role->kernel = weft_take_ptr(larger);
	recount(role);
	for (__u32 i = 0; i < WEFT_MAP_MAX_; i++)
		if (wish->max_entries[i] > have.max_entries[i])
			weft_info("%s has room for %u entries now, it had for %u", weft_map_spec(i)->name, wish->max_entries[i],
				  have.max_entries[i]);
	return sd_event_add_io(role->loop, &role->records, weft_kernel_event_fd(role->kernel), EPOLLIN, on_records, role);
}

static int answer_ready(struct main_role *role, const struct weft_role_message *message, struct weft_role_message *answer,
			struct weft_buf *bulk)
{
	struct weft_role_capacity capacity;

	*answer = weft_role_message(WEFT_ROLE_READY, message->serial);
	weft_kernel_capacity(role->kernel, &capacity);
	answer->arg[0] = role->features;
	answer->arg[1] = role->options->without_features;
	answer->arg[2] = role->adopted;
	return weft_buf_add(bulk, &capacity, sizeof(capacity));
}

/* Fills the answer; what is to go along as a memfd is left in `bulk`. */
static void serve(struct main_role *role, const struct weft_role_message *message, const void *data,
		  struct weft_role_message *answer, struct weft_buf *bulk)
{
	struct weft_role_capacity capacity;
	uint32_t cut = 0;
	int r = 0, grown;

	switch (message->type) {
	case WEFT_ROLE_HELLO:
		r = answer_ready(role, message, answer, bulk);
		break;
	case WEFT_ROLE_GROW:
		memcpy(&capacity, data, sizeof(capacity)); /* the codec checked its size */
		grown = grow(role, &capacity);
		r = answer_ready(role, message, answer, bulk);
		r = r < 0 ? r : grown;
		break;
	case WEFT_ROLE_READ:
		*answer = weft_role_message(WEFT_ROLE_DATA, message->serial);
		r = weft_kernel_read(role->kernel, message->arg[0], bulk);
		if (r < 0)
			weft_buf_clear(bulk);
		break;
	case WEFT_ROLE_APPLY:
		r = apply(role, data, message->bytes, (uint64_t *)&answer->arg[1]);
		break;
	case WEFT_ROLE_CUT:
		r = cut_everywhere(role, data, message->count, message->arg[0] == 1, &cut);
		answer->arg[0] = cut;
		break;
	case WEFT_ROLE_BIND:
		r = bind_netns(role, message, (uint64_t *)&answer->arg[0]);
		break;
	case WEFT_ROLE_UNBIND:
		r = weft_kernel_set_pod(role->kernel, message->arg[0], NULL);
		break;
	case WEFT_ROLE_SETTING:
		r = weft_kernel_set_flags(role->kernel, (uint32_t)message->arg[0]);
		break;
	case WEFT_ROLE_FLUSH:
		r = weft_kernel_flush(role->kernel);
		break;
	case WEFT_ROLE_WATCH:
		r = weft_kernel_set_watchers(role->kernel, (uint32_t)message->arg[0]);
		if (r == 0)
			role->how.watchers = (uint32_t)message->arg[0];
		break;
	case WEFT_ROLE_LOG_LEVEL:
		if (message->arg[0] < WEFT_LOG_LEVEL_MAX_)
			weft_log_set_level((enum weft_log_level)message->arg[0]);
		else
			r = -EINVAL;
		break;
	}
	answer->error = r;
}

static void lose_peer(struct main_role *role)
{
	role->peer_io = sd_event_source_disable_unref(role->peer_io);
	if (role->peer >= 0)
		close(weft_take_fd(role->peer));
	weft_kernel_set_watchers(role->kernel, 0); /* nobody is there to hand records to */
	role->how.watchers = 0;
}

static int on_peer(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	weft_cleanup(weft_buf_done) struct weft_buf bulk = WEFT_BUF_INIT;
	weft_close_on_exit int memfd = -1;
	struct main_role *role = context;
	struct weft_role_message message, answer;
	const void *data = NULL;
	struct weft_err err;
	int r = weft_role_receive(fd, WEFT_ROLE_SIDE_CONTROL, MSG_DONTWAIT, &message, &memfd, &err);

	(void)source;
	(void)revents;
	if (r == -EAGAIN)
		return 0;
	if (r == -EBADMSG)
		weft_error("control sent something else than a request, hanging up on it: %s", err.text);
	if (r < 0) {
		lose_peer(role);
		return 0;
	}
	answer = weft_role_message(WEFT_ROLE_RESULT, message.serial);
	r = message.bytes ? weft_memfd_map(memfd, message.bytes, &data) : 0;
	if (r < 0)
		answer.error = r;
	else
		serve(role, &message, data, &answer, &bulk);
	if (data)
		munmap((void *)data, message.bytes);
	r = weft_role_send(fd, &answer, bulk.data, bulk.size, 0);
	if (r < 0)
		lose_peer(role);
	return 0;
}

static int take_peer(struct main_role *role, int peer)
{
	lose_peer(role);
	role->peer = peer;
	return sd_event_add_io(role->loop, &role->peer_io, peer, EPOLLIN, on_peer, role);
}

static int on_init(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct main_role *role = context;
	struct weft_init_message message;
	weft_close_on_exit int came = -1;
	int r = weft_init_receive(fd, &message, &came);

	(void)source;
	(void)revents;
	if (r == -ECONNRESET)
		return sd_event_exit(role->loop, WEFT_EXIT_OK);
	if (r < 0 || came < 0)
		return 0;
	return message.type == WEFT_INIT_LINK && message.link == WEFT_LINK_CONTROL_MAIN ? take_peer(role, weft_take_fd(came)) : 0;
}

static int on_records(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	weft_cleanup(weft_buf_done) struct weft_buf records = WEFT_BUF_INIT;
	struct main_role *role = context;
	struct weft_role_message message = weft_role_message(WEFT_ROLE_EVENTS, 0);
	size_t count;

	(void)source;
	(void)fd;
	(void)revents;
	if (weft_kernel_events(role->kernel, &records) < 0 || records.size == 0)
		return 0;
	count = records.size / sizeof(struct weft_event);
	message.count = (__u32)count;
	message.arg[0] = role->lost;
	/* A control that is busy or gone costs records, never time. */
	if (role->peer < 0 || weft_role_send(role->peer, &message, records.data, records.size, MSG_DONTWAIT) < 0)
		role->lost += count;
	else
		role->lost = 0;
	return 0;
}

/*
 * Removing a pin detaches its hook, and nothing tells us. Beginning anew makes
 * the pins again, and control then writes what they lack.
 */
static int on_pins_due(sd_event_source *source, uint64_t usec, void *context)
{
	struct main_role *role = context;

	(void)usec;
	if (!weft_kernel_links_pinned(role->kernel)) {
		weft_error("links pinned below %s were removed: the mesh is not in force; making them again", role->how.pins);
		return sd_event_exit(role->loop, WEFT_EXIT_FAILURE);
	}
	sd_event_source_set_time_relative(source, PINS_CHECK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_recount_due(sd_event_source *source, uint64_t usec, void *context)
{
	(void)source;
	(void)usec;
	recount(context);
	return 0;
}

/* Returns an exit code. */
static int open_kernel(struct main_role *role, struct weft_options *options, struct weft_err *err)
{
	static char cgroup[PATH_MAX];
	int r = weft_place_cgroup(options, cgroup, sizeof(cgroup), err);

	if (r < 0)
		return WEFT_EXIT_KERNEL;
	if (drop_privileges(err) < 0)
		return WEFT_EXIT_PRIVILEGE;
	role->features = weft_feature_probe(options->without_features);
	if (weft_feature_check_floor(role->features, err) < 0)
		return WEFT_EXIT_KERNEL;
	role->how = (struct weft_kernel_options){
		.cgroup = options->cgroup, .pins = options->pins, .features = role->features, .capacity = options->capacity
	};
	r = weft_kernel_open(&role->how, &role->kernel, &role->adopted, err);
	if (r < 0)
		return r == -EBUSY || r == -EPROTO ? WEFT_EXIT_HELD : r == -EPERM ? WEFT_EXIT_PRIVILEGE : WEFT_EXIT_FAILURE;
	return WEFT_EXIT_OK;
}

static int set_up_loop(struct main_role *role)
{
	int r = sd_event_new(&role->loop);

	if (r >= 0)
		r = sd_event_add_signal(role->loop, NULL, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, NULL, NULL);
	if (r >= 0) /* a terminal's interrupt goes to all: init decides */
		r = signal(SIGINT, SIG_IGN) == SIG_ERR ? -errno : 0;
	if (r >= 0)
		r = sd_event_add_io(role->loop, NULL, WEFT_FD_INIT, EPOLLIN, on_init, role);
	if (r >= 0)
		r = sd_event_add_io(role->loop, &role->records, weft_kernel_event_fd(role->kernel), EPOLLIN, on_records, role);
	if (r >= 0)
		r = sd_event_add_time_relative(role->loop, NULL, CLOCK_MONOTONIC, PINS_CHECK_US, 0, on_pins_due, role);
	if (r >= 0)
		r = sd_event_add_time(role->loop, &role->recount_due, CLOCK_MONOTONIC, 0, 0, on_recount_due, role);
	if (r >= 0)
		set_recount_due(role);
	return r;
}

int weft_role_main_run(const struct weft_options *options)
{
	struct weft_options mine = *options;
	struct main_role role = { .options = options, .peer = -1 };
	struct weft_err err = { "" };
	int r;

	r = open_kernel(&role, &mine, &err);
	if (r != WEFT_EXIT_OK) {
		weft_error("%s", err.text);
		return r;
	}
	if (role.adopted)
		recount(&role);
	weft_info("%s %s, serving %s", role.adopted ? "adopted" : "made", options->pins, mine.cgroup);
	r = set_up_loop(&role);
	if (r >= 0)
		r = sd_event_loop(role.loop);
	if (r < 0) {
		errno = -r;
		weft_error("the event loop failed: %m");
		r = WEFT_EXIT_FAILURE;
	}
	lose_peer(&role);
	sd_event_source_disable_unref(role.records);
	sd_event_source_disable_unref(role.recount_due);
	weft_kernel_close(role.kernel);
	sd_event_unref(role.loop);
	return r;
}
