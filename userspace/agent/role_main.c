/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Role main. Holds CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, and CAP_SYS_ADMIN for
 * setns, cgroup links and iterators; CAP_SYS_PTRACE only permitted, in effect
 * while the namespaces of processes are opened by their numbers; no_new_privs. Loads
 * or adopts, attaches, pins; then does what control asks by abi/role.h: applies
 * batches, reads maps, binds network namespaces, sets pods up, cuts sockets,
 * hands records over; and makes sockets in pods for proxies (abi/proxy.h). Never
 * parses text (its own arguments apart), never waits for control, never
 * detaches anything: when it ends, traffic goes on by the pins.
 */
#include "agent/role_main.h"

#include <cap-ng.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "agent/place.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "ctl/role.h"
#include "kernel/kernel.h"
#include "kernel/maps.h"
#include "net/netns.h"

/* A hook that somebody removed is back about this much later; looking costs one readdir. */
#define PINS_CHECK_US 2000000

/* Without atomics that return values a count may go wrong; no longer than this. */
#define RECOUNT_US 30000000
#define RECOUNT_RETRY_US 1000000 /* after one that failed; twice that after the next, and so on up to RECOUNT_US */

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
	bool ptrace;

	/* Before Linux 5.11 maps and programs are locked memory. Who may not raise the limit may have had it raised. */
	(void)setrlimit(RLIMIT_MEMLOCK, &unlimited);
	capng_get_caps_process();
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(capabilities); i++)
		if (!capng_have_capability(CAPNG_EFFECTIVE, capabilities[i].capability))
			return weft_err_set(err, EPERM, "the capability %s is missing, it is needed for %s: grant it to weftd", capabilities[i].name,
					    capabilities[i].use);
	ptrace = capng_have_capability(CAPNG_PERMITTED, CAP_SYS_PTRACE);
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(capabilities); i++)
		capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, capabilities[i].capability);
	/* Only permitted: it is in effect for the moment in which the namespace of `pid:N` is opened. Without it names still work. */
	if (ptrace)
		capng_update(CAPNG_ADD, CAPNG_PERMITTED, CAP_SYS_PTRACE);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return weft_err_set(err, EPERM, "cannot give up capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return weft_err_set(err, errno, "cannot set no_new_privs: %m");
	return 0;
}

static int apply(struct weft_main *role, const void *batch, size_t size, uint64_t *ret_failed)
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

static void set_recount_due(struct weft_main *role)
{
	bool due = role->recount_retry_us || !(role->features >> WEFT_FEATURE_FETCH_ATOMICS & 1);

	if (!role->recount_due)
		return; /* the loop is not up yet */
	sd_event_source_set_time_relative(role->recount_due, role->recount_retry_us ? role->recount_retry_us : RECOUNT_US);
	sd_event_source_set_enabled(role->recount_due, due ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void recount(struct weft_main *role)
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
static int grow(struct weft_main *role, const struct weft_role_capacity *wish)
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

static int answer_ready(struct weft_main *role, const struct weft_role_message *message, struct weft_role_message *answer,
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
static void serve(struct weft_main *role, const struct weft_role_message *message, const void *data,
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
	case WEFT_ROLE_CONNS:
		*answer = weft_role_message(WEFT_ROLE_DATA, message->serial);
		r = weft_main_conns(role, bulk);
		if (r < 0)
			weft_buf_clear(bulk);
		break;
	case WEFT_ROLE_APPLY:
		r = apply(role, data, message->bytes, (uint64_t *)&answer->arg[1]);
		break;
	case WEFT_ROLE_CUT:
		r = weft_main_cut(role, data, message->count, message->arg[0] == 1, &cut);
		answer->arg[0] = cut;
		break;
	case WEFT_ROLE_BIND:
		r = weft_main_bind(role, message->name, &(struct weft_pod){ (__u32)message->arg[0], (__u32)message->arg[1] },
				   (uint64_t *)&answer->arg[0]);
		break;
	case WEFT_ROLE_ATTACH:
		r = weft_main_attach(role, message->name, (uint32_t)message->arg[0], (uint64_t *)&answer->arg[0], (uint64_t *)&answer->arg[1]);
		break;
	case WEFT_ROLE_DETACH:
		r = weft_main_detach(role, message->arg[0]);
		break;
	case WEFT_ROLE_CUT_SOCKETS:
		r = weft_main_cut_sockets(role, data, message->count, &cut);
		answer->arg[0] = cut;
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

static void lose_peer(struct weft_main *role)
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
	struct weft_main *role = context;
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

static int take_peer(struct weft_main *role, int peer)
{
	lose_peer(role);
	role->peer = peer;
	return sd_event_add_io(role->loop, &role->peer_io, peer, EPOLLIN, on_peer, role);
}

/* Not before all is known that an earlier main left with init: an attach would find its own listeners in the way. */
static int control_came(struct weft_main *role, int sock)
{
	if (role->told)
		return take_peer(role, sock);
	weft_closep(&role->early_peer);
	role->early_peer = sock;
	return 0;
}

static int told(struct weft_main *role)
{
	bool before = role->told;

	role->told = true;
	return !before && role->early_peer >= 0 ? take_peer(role, weft_take_fd(role->early_peer)) : 0;
}

static void settle_with_init(struct weft_main *role, int r)
{
	if (r >= 0)
		sd_event_source_set_io_events(role->init_io, r > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
	errno = -r;
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		weft_error("cannot tell init what to keep: %m");
}

void weft_main_tell_init(struct weft_main *role, const struct weft_init_message *message, int fd)
{
	settle_with_init(role, weft_outbox_send(&role->to_init, WEFT_FD_INIT, message, fd));
}

static int on_init(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct weft_main *role = context;
	struct weft_init_message message;
	weft_close_on_exit int came = -1;
	int r;

	(void)source;
	if (revents & EPOLLOUT)
		settle_with_init(role, weft_outbox_flush(&role->to_init, fd));
	r = weft_init_receive(fd, &message, &came);
	if (r == -ECONNRESET)
		return sd_event_exit(role->loop, WEFT_EXIT_OK);
	if (r < 0)
		return 0;
	if (message.type == WEFT_INIT_ROLES)
		return told(role);
	if (came < 0)
		return 0;
	if (message.type == WEFT_INIT_KEPT)
		weft_main_kept(role, &message.kept, weft_take_fd(came));
	else if (message.type == WEFT_INIT_LINK && message.link == WEFT_LINK_CONTROL_MAIN)
		return control_came(role, weft_take_fd(came));
	else if (message.type == WEFT_INIT_LINK && message.link == WEFT_LINK_MAIN_PROXY)
		return weft_main_take_proxy(role, message.proxy, weft_take_fd(came));
	return 0;
}

static int on_records(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	weft_cleanup(weft_buf_done) struct weft_buf records = WEFT_BUF_INIT;
	struct weft_main *role = context;
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
	struct weft_main *role = context;

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
static int open_kernel(struct weft_main *role, struct weft_options *options, struct weft_err *err)
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
		.cgroup = options->cgroup, .pins = options->pins, .features = role->features, .capacity = options->capacity,
		.netns_all = weft_main_netns_all, .context = role,
	};
	r = weft_kernel_open(&role->how, &role->kernel, &role->adopted, err);
	if (r < 0)
		return r == -EBUSY || r == -EPROTO ? WEFT_EXIT_HELD : r == -EPERM ? WEFT_EXIT_PRIVILEGE : WEFT_EXIT_FAILURE;
	return WEFT_EXIT_OK;
}

static int set_up_loop(struct weft_main *role)
{
	int r = sd_event_new(&role->loop);

	if (r >= 0)
		r = sd_event_add_signal(role->loop, NULL, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, NULL, NULL);
	if (r >= 0) /* a terminal's interrupt goes to all: init decides */
		r = signal(SIGINT, SIG_IGN) == SIG_ERR ? -errno : 0;
	if (r >= 0)
		r = sd_event_add_io(role->loop, &role->init_io, WEFT_FD_INIT, EPOLLIN, on_init, role);
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
	struct weft_main role = { .options = options, .peer = -1, .early_peer = -1 };
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
	weft_closep(&role.early_peer);
	weft_main_proxies_done(&role);
	weft_main_pods_done(&role);
	weft_outbox_done(&role.to_init);
	sd_event_source_disable_unref(role.init_io);
	sd_event_source_disable_unref(role.records);
	sd_event_source_disable_unref(role.recount_due);
	weft_kernel_close(role.kernel);
	sd_event_unref(role.loop);
	return r;
}
