/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Role init. Holds root, the instance's locks, the listening sockets, the
 * folders, and for main the listeners inside pods, which outlive main and the
 * proxies. Makes the folders, has the roles started, joined and stopped
 * (children.c), hands descriptors on. Never reads a byte that a user or a
 * network wrote, and of a role's message only what has a fixed place; never
 * calls bpf(2).
 */
#include "agent/roles.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#include "agent/children.h"
#include "agent/keep.h"
#include "agent/place.h"
#include "base/addr.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "kernel/pins.h"

#define METRICS_RETRY_US 1000000

struct init {
	const struct weft_options *options;
	sd_event *loop;
	sd_event_source *metrics_due; /* while nobody listens there */
	int fds[WEFT_FD_END_]; /* what control is born with; not open: -1 */
	struct weft_pins_made made; /* of the pin folder, by us */
	struct weft_keep keep;
	struct weft_children children;
};

static struct weft_child *control_of(struct init *init)
{
	return &init->children.child[WEFT_AGENT_CONTROL];
}

/* Main hands listeners in: every proxy gets what it has not, and one that comes later gets all. */
static void keep(struct init *init, const struct weft_init_message *message, int *fd)
{
	struct weft_init_message told = init->children.now;
	int r = weft_keep_put(&init->keep, &message->kept, weft_take_fd(*fd));

	if (r < 0) {
		errno = -r;
		weft_error("cannot keep the listener on port %u of a pod: %m", message->kept.port);
		return;
	}
	told.type = WEFT_INIT_KEPT;
	told.kept = message->kept;
	weft_children_tell_proxies(&init->children, &told, weft_keep_find(&init->keep, &told.kept)->fd);
}

static void drop(struct init *init, const struct weft_init_message *message)
{
	struct weft_init_message told = init->children.now;

	if (weft_keep_drop(&init->keep, &message->kept) < 0)
		return;
	told.type = WEFT_INIT_DROPPED;
	told.kept = message->kept;
	weft_children_tell_proxies(&init->children, &told, -1);
}

static void ready(struct init *init)
{
	if (init->children.ready)
		return;
	init->children.ready = true;
	sd_notify(0, "READY=1");
	weft_info("ready");
}

static void kill_peer(struct weft_child *child, const struct weft_init_message *message)
{
	struct weft_child *peer = weft_child_peer(child, message->link, message->proxy);

	if (peer)
		weft_child_kill(peer, "does not answer");
}

static void on_message(void *context, struct weft_child *child, const struct weft_init_message *message, int *fd)
{
	struct init *init = context;

	if (message->type == WEFT_INIT_READY && child->role == WEFT_AGENT_CONTROL)
		ready(init);
	else if (message->type == WEFT_INIT_SECURE && child->role == WEFT_AGENT_CONTROL)
		weft_children_secure(&init->children);
	else if (message->type == WEFT_INIT_PEER_HANGS && child->role == WEFT_AGENT_CONTROL)
		kill_peer(child, message);
	else if (message->type == WEFT_INIT_KEEP && child->role == WEFT_AGENT_MAIN)
		keep(init, message, fd);
	else if (message->type == WEFT_INIT_DROP && child->role == WEFT_AGENT_MAIN)
		drop(init, message);
	else
		weft_child_kill(child, "sends what is not its business");
}

/* A control that does not run is born with the listener. */
static void offer_metrics(struct init *init, int listener)
{
	struct weft_init_message message = init->children.now;

	message.type = WEFT_INIT_METRICS;
	weft_child_tell(control_of(init), &message, listener);
}

/* Whoever has the port may give it back, and an address may come, at any time: nothing else waits for it. */
static bool may_listen_later(int r)
{
	return r == -EADDRINUSE || r == -EADDRNOTAVAIL;
}

static int on_metrics_due(sd_event_source *source, uint64_t usec, void *context)
{
	struct init *init = context;
	char where[WEFT_ADDR_TEXT];
	weft_close_on_exit int listener = weft_place_listen_tcp(&init->options->metrics_addr, init->options->metrics_port, NULL);

	(void)usec;
	if (listener < 0) {
		errno = -listener;
		weft_debug("still no metrics: %m");
		sd_event_source_set_time_relative(source, METRICS_RETRY_US);
		return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	init->children.now.metrics_error = 0;
	offer_metrics(init, listener);
	init->fds[WEFT_FD_METRICS] = weft_take_fd(listener);
	weft_info("metrics are served on %s now",
		  weft_addr_port_format(&init->options->metrics_addr, init->options->metrics_port, where));
	return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
	struct init *init = context;
	struct weft_init_message reload = init->children.now;

	(void)source;
	reload.type = WEFT_INIT_RELOAD;
	if (info->ssi_signo == SIGHUP)
		weft_child_tell(control_of(init), &reload, -1);
	else
		weft_children_stop(&init->children, WEFT_EXIT_OK);
	return 0;
}

/* Listeners of all pods pass through here, and what roles may open they have from us. */
static void raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Everything that must be there before a role runs. Returns an exit code. */
static int prepare(struct init *init, struct weft_options *options, int *ret_locks, struct weft_err *err)
{
	static char cgroup[PATH_MAX];
	struct weft_user root = { "root", 0, 0 }, user, keys;
	int *fds = init->fds;
	int r;

	if (geteuid() != 0) {
		weft_err_set(err, EPERM, "weftd must be started as root: it gives up what it does not need by itself");
		return WEFT_EXIT_PRIVILEGE;
	}
	r = weft_place_cgroup(options, cgroup, sizeof(cgroup), err);
	if (r < 0)
		return WEFT_EXIT_KERNEL;
	r = weft_place_user(options, WEFT_AGENT_CONTROL, &user, err);
	if (r == 0)
		r = weft_place_user(options, WEFT_AGENT_KEYS, &keys, err);
	if (r < 0)
		return WEFT_EXIT_USAGE;
	if (!options->user && strcmp(user.name, "nobody") == 0)
		weft_info("there is no user weft: the role control runs as nobody");
	fds[WEFT_FD_STATE] = weft_place_folder(options->state, &user, 0750, err);
	if (fds[WEFT_FD_STATE] < 0)
		return WEFT_EXIT_FAILURE;
	ret_locks[0] = weft_place_lock_state(fds[WEFT_FD_STATE], options->state, err);
	if (ret_locks[0] < 0)
		return ret_locks[0] == -EBUSY ? WEFT_EXIT_HELD : WEFT_EXIT_FAILURE;
	init->children.keys = weft_place_folder_in(fds[WEFT_FD_STATE], options->state, "ca", &keys, 0700, err);
	if (init->children.keys < 0)
		return WEFT_EXIT_FAILURE;
	r = weft_pins_prepare(options->pins, &init->made, err);
	if (r < 0)
		return r == -EPROTO ? WEFT_EXIT_HELD : WEFT_EXIT_KERNEL;
	ret_locks[1] = open(options->pins, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = ret_locks[1] < 0 ? weft_err_set(err, errno, "cannot open the pin folder %s: %m", options->pins)
			     : weft_place_lock(ret_locks[1], options->pins, err);
	if (r < 0)
		return r == -EBUSY ? WEFT_EXIT_HELD : WEFT_EXIT_FAILURE;
	r = weft_place_folder(options->run, &root, 0755, err);
	if (r < 0)
		return WEFT_EXIT_FAILURE;
	close(r);
	fds[WEFT_FD_SOCKET] = weft_place_listen_unix(options->run, &user, err);
	if (fds[WEFT_FD_SOCKET] < 0)
		return WEFT_EXIT_FAILURE;
	if (options->metrics) {
		r = weft_place_listen_tcp(&options->metrics_addr, options->metrics_port, err);
		if (r >= 0)
			fds[WEFT_FD_METRICS] = r;
		else if (may_listen_later(r))
			weft_warning("%s; all else goes on, trying again", err->text);
		else
			return WEFT_EXIT_FAILURE;
		init->children.now.metrics_error = r < 0 ? r : 0;
	}
	return WEFT_EXIT_OK;
}

static int set_up_loop(struct init *init)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	sigset_t blocked;
	int r = sd_event_new(&init->loop);

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	for (size_t i = 0; r >= 0 && i < WEFT_ARRAY_SIZE(signals); i++)
		r = sd_event_add_signal(init->loop, NULL, signals[i] | SD_EVENT_SIGNAL_PROCMASK, on_signal, init);
	init->children.options = init->options;
	init->children.loop = init->loop;
	init->children.fds = init->fds;
	init->children.keep = &init->keep;
	init->children.message = on_message;
	init->children.context = init;
	if (r >= 0)
		r = weft_children_start(&init->children);
	if (r >= 0 && init->children.now.metrics_error)
		r = sd_event_add_time_relative(init->loop, &init->metrics_due, CLOCK_MONOTONIC, METRICS_RETRY_US, 0, on_metrics_due, init);
	return r;
}

int weft_init_run(struct weft_options *options)
{
	struct init init = { .options = options, .children = { .now = { .magic = WEFT_ABI_MAGIC }, .keys = -1 } };
	int locks[2] = { -1, -1 }; /* both lists of descriptors live as long as the process */
	struct weft_err err = { "" };
	struct timespec now;
	int r;

	memset(init.fds, 0xff, sizeof(init.fds));
	clock_gettime(CLOCK_REALTIME, &now);
	init.children.now.role[WEFT_AGENT_INIT] =
		(struct weft_init_role){ .pid = getpid(), .since_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec };
	raise_files();
	r = prepare(&init, options, locks, &err);
	if (r != WEFT_EXIT_OK) {
		weft_error("%s", err.text);
		weft_pins_take_back(options->pins, &init.made);
		return r;
	}
	r = set_up_loop(&init);
	if (r >= 0)
		r = sd_event_loop(init.loop);
	weft_children_done(&init.children);
	weft_keep_done(&init.keep);
	sd_event_source_disable_unref(init.metrics_due);
	sd_event_unref(init.loop);
	if (r < 0) {
		errno = -r;
		weft_error("the event loop failed: %m");
		return WEFT_EXIT_FAILURE;
	}
	if (!init.children.ready)
		weft_pins_take_back(options->pins, &init.made); /* empty folders; what main pinned it took back itself */
	return r;
}
