/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Role init. Holds root, the instance's locks, the listening sockets, the
 * state folder. Makes the folders, starts main and control, joins them by a
 * socketpair, starts what died again with back-off, stops both in order.
 * Never reads a byte that a role, a user or a network wrote, but the type of a
 * role's message; never calls bpf(2).
 */
#include "agent/roles.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#include "agent/place.h"
#include "base/addr.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "kernel/pins.h"

#define FIRST_DELAY_MS 100
#define MAX_DELAY_MS 5000
#define STABLE_NS 10000000000ull /* a role that lived so long is started again at once */
#define STOP_MS 5000 /* then SIGKILL */
#define METRICS_RETRY_US 1000000

struct child {
	struct init *init;
	enum weft_agent_role role;
	sd_event_source *exit;
	sd_event_source *messages;
	sd_event_source *start;
	int channel;
	int peer; /* its end of the pair while it is not running */
	unsigned int delay_ms;
	bool ready;
	uint64_t started_ns; /* CLOCK_MONOTONIC */
};

struct init {
	const struct weft_options *options;
	sd_event *loop;
	struct child child[WEFT_AGENT_MAX_]; /* of WEFT_AGENT_INIT only `init` is set */
	sd_event_source *metrics_due; /* while nobody listens there */
	struct weft_init_message now;
	int fds[WEFT_FD_END_]; /* what control is born with; not open: -1 */
	struct weft_pins_made made; /* of the pin folder, by us */
	bool ready;
	bool stopping;
	int code; /* of our own exit */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct child *sibling(struct child *child)
{
	return &child->init->child[child->role == WEFT_AGENT_MAIN ? WEFT_AGENT_CONTROL : WEFT_AGENT_MAIN];
}

static bool running(const struct child *child)
{
	return child->init->now.role[child->role].pid > 0;
}

static void end_if_stopped(struct init *init)
{
	if (init->stopping && !running(&init->child[WEFT_AGENT_MAIN]) && !running(&init->child[WEFT_AGENT_CONTROL]))
		sd_event_exit(init->loop, init->code);
}

static int on_stop_late(sd_event_source *source, uint64_t usec, void *context)
{
	struct init *init = context;

	(void)source;
	(void)usec;
	for (enum weft_agent_role role = WEFT_AGENT_MAIN; role < WEFT_AGENT_MAX_; role++)
		if (running(&init->child[role])) {
			weft_warning("%s does not end, killing it", weft_agent_role_name(role));
			kill(init->now.role[role].pid, SIGKILL);
		}
	return 0;
}

static void stop(struct init *init, int code)
{
	if (init->stopping)
		return;
	init->stopping = true;
	init->code = code;
	sd_notify(0, "STOPPING=1");
	for (enum weft_agent_role role = WEFT_AGENT_MAIN; role < WEFT_AGENT_MAX_; role++) {
		sd_event_source_set_enabled(init->child[role].start, SD_EVENT_OFF);
		if (running(&init->child[role]))
			kill(init->now.role[role].pid, SIGTERM);
	}
	sd_event_add_time_relative(init->loop, NULL, CLOCK_MONOTONIC, (uint64_t)STOP_MS * 1000, 0, on_stop_late, init);
	end_if_stopped(init);
}

/* In the forked process: nothing but what is async-signal-safe. */
static void become(struct child *child, const int *fds, char **argv)
{
	sigset_t none;
	int high[WEFT_FD_END_];

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Out of the way first: a source may have a number that is another one's target. */
	for (int fd = WEFT_FD_INIT; fd < WEFT_FD_END_; fd++)
		high[fd] = fds[fd] < 0 ? -1 : fcntl(fds[fd], F_DUPFD_CLOEXEC, WEFT_FD_END_);
	for (int fd = WEFT_FD_INIT; fd < WEFT_FD_END_; fd++) {
		close(fd);
		if (high[fd] >= 0)
			dup2(high[fd], fd);
	}
	execv("/proc/self/exe", argv);
	weft_error("cannot start %s: exec /proc/self/exe failed", weft_agent_role_name(child->role));
	_exit(WEFT_EXIT_FAILURE);
}

static int on_exit_of(sd_event_source *source, const siginfo_t *info, void *context);
static int on_message(sd_event_source *source, int fd, uint32_t revents, void *context);

static int start_child(struct child *child)
{
	struct init *init = child->init;
	const char *role = weft_agent_role_name(child->role);
	int fds[WEFT_FD_END_];
	int channel[2], peers[2];
	char **argv;
	size_t argc = 0;
	pid_t pid;
	int r;

	while (init->options->argv[argc])
		argc++;
	weft_free_on_exit char **copy = argv = calloc(argc + 3, sizeof(*argv));
	if (!copy)
		return -ENOMEM;
	memcpy(argv, init->options->argv, argc * sizeof(*argv));
	argv[argc] = (char *)"--role";
	argv[argc + 1] = (char *)role;

	if (child->peer < 0) {
		struct child *other = sibling(child);

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, peers) < 0)
			return -errno;
		child->peer = peers[0];
		if (!running(other)) {
			if (other->peer >= 0)
				close(other->peer);
			other->peer = peers[1];
		} else {
			init->now.type = WEFT_INIT_ROLES;
			weft_init_send(other->channel, &init->now, peers[1]);
			close(peers[1]);
		}
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
		return -errno;
	memcpy(fds, init->fds, sizeof(fds));
	if (child->role == WEFT_AGENT_MAIN)
		for (int fd = WEFT_FD_SOCKET; fd < WEFT_FD_END_; fd++)
			fds[fd] = -1;
	else
		fds[WEFT_FD_CONFIG] = open(init->options->config, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds[WEFT_FD_INIT] = channel[1];
	fds[WEFT_FD_PEER] = child->peer;

	pid = fork();
	if (pid == 0)
		become(child, fds, argv);
	r = pid < 0 ? -errno : 0;
	if (fds[WEFT_FD_CONFIG] >= 0)
		close(fds[WEFT_FD_CONFIG]);
	close(channel[1]);
	if (r < 0) {
		close(channel[0]);
		return r;
	}
	close(weft_take_fd(child->peer));
	child->channel = channel[0];
	child->ready = false;
	child->started_ns = clock_ns(CLOCK_MONOTONIC);
	init->now.role[child->role].pid = pid;
	init->now.role[child->role].since_ns = clock_ns(CLOCK_REALTIME);
	r = sd_event_add_child(init->loop, &child->exit, pid, WEXITED, on_exit_of, child);
	if (r >= 0)
		r = sd_event_add_io(init->loop, &child->messages, child->channel, EPOLLIN, on_message, child);
	return r;
}

static void tell_roles(struct init *init)
{
	init->now.type = WEFT_INIT_ROLES;
	if (running(&init->child[WEFT_AGENT_CONTROL]))
		weft_init_send(init->child[WEFT_AGENT_CONTROL].channel, &init->now, -1);
}

static int on_start(sd_event_source *source, uint64_t usec, void *context)
{
	struct child *child = context;
	int r;

	(void)usec;
	r = start_child(child);
	if (r < 0) {
		errno = -r;
		weft_error("cannot start %s: %m; trying again", weft_agent_role_name(child->role));
		sd_event_source_set_time_relative(source, (uint64_t)MAX_DELAY_MS * 1000);
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
		return 0;
	}
	tell_roles(child->init);
	return 0;
}

static int on_exit_of(sd_event_source *source, const siginfo_t *info, void *context)
{
	struct child *child = context;
	struct init *init = child->init;
	const char *role = weft_agent_role_name(child->role);

	(void)source;
	child->exit = sd_event_source_disable_unref(child->exit);
	child->messages = sd_event_source_disable_unref(child->messages);
	close(weft_take_fd(child->channel));
	init->now.role[child->role].pid = 0;
	if (init->stopping) {
		end_if_stopped(init);
		return 0;
	}
	if (!init->ready && info->si_code == CLD_EXITED && info->si_status >= WEFT_EXIT_USAGE && info->si_status <= WEFT_EXIT_PRIVILEGE) {
		stop(init, info->si_status); /* it has said why, and would again */
		return 0;
	}
	if (clock_ns(CLOCK_MONOTONIC) - child->started_ns >= STABLE_NS)
		child->delay_ms = 0;
	if (info->si_code == CLD_EXITED)
		weft_warning("%s ended with code %d, starting it again in %u ms; what is in the kernel goes on", role, info->si_status,
			     child->delay_ms);
	else
		weft_warning("%s was killed by SIG%s, starting it again in %u ms; what is in the kernel goes on", role,
			     sigabbrev_np(info->si_status), child->delay_ms);
	init->now.role[child->role].restarts++;
	tell_roles(init);
	sd_event_source_set_time_relative(child->start, (uint64_t)child->delay_ms * 1000);
	sd_event_source_set_enabled(child->start, SD_EVENT_ONESHOT);
	child->delay_ms = child->delay_ms == 0 ? FIRST_DELAY_MS : child->delay_ms * 2;
	if (child->delay_ms > MAX_DELAY_MS)
		child->delay_ms = MAX_DELAY_MS;
	return 0;
}

static int on_message(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	weft_close_on_exit int unwanted = -1;
	struct child *child = context;
	struct init *init = child->init;
	struct weft_init_message message;
	int r = weft_init_receive(fd, &message, &unwanted);

	(void)revents;
	if (r == -ECONNRESET || r == -EBADMSG)
		sd_event_source_set_enabled(source, SD_EVENT_OFF); /* its exit will be told by itself */
	if (r < 0)
		return 0;
	if (message.type == WEFT_INIT_PEER_HANGS && running(sibling(child))) {
		weft_warning("%s does not answer, killing it", weft_agent_role_name(sibling(child)->role));
		kill(init->now.role[sibling(child)->role].pid, SIGKILL);
	} else if (message.type == WEFT_INIT_READY && child->role == WEFT_AGENT_CONTROL && !init->ready) {
		init->ready = true;
		sd_notify(0, "READY=1");
		weft_info("ready");
	}
	return 0;
}

/* A control that does not run is born with the listener. */
static int offer_metrics(struct init *init, int listener)
{
	struct child *control = &init->child[WEFT_AGENT_CONTROL];
	struct weft_init_message message = init->now;

	message.type = WEFT_INIT_METRICS;
	message.metrics_error = 0;
	return running(control) ? weft_init_send(control->channel, &message, listener) : 0;
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
	int r = listener < 0 ? listener : offer_metrics(init, listener);

	(void)usec;
	if (r < 0) {
		errno = -r;
		weft_debug("still no metrics: %m");
		sd_event_source_set_time_relative(source, METRICS_RETRY_US);
		return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	init->fds[WEFT_FD_METRICS] = weft_take_fd(listener);
	init->now.metrics_error = 0;
	weft_info("metrics are served on %s now",
		  weft_addr_port_format(&init->options->metrics_addr, init->options->metrics_port, where));
	return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *context)
{
	struct init *init = context;
	struct weft_init_message reload = { .magic = WEFT_ABI_MAGIC, .type = WEFT_INIT_RELOAD };

	(void)source;
	if (info->ssi_signo != SIGHUP)
		stop(init, WEFT_EXIT_OK);
	else if (running(&init->child[WEFT_AGENT_CONTROL]))
		weft_init_send(init->child[WEFT_AGENT_CONTROL].channel, &reload, -1);
	return 0;
}

/* Everything that must be there before a role runs. Returns an exit code. */
static int prepare(struct init *init, struct weft_options *options, int *ret_locks, struct weft_err *err)
{
	static char cgroup[PATH_MAX];
	struct weft_user root = { "root", 0, 0 }, user;
	int *fds = init->fds;
	int r;

	if (geteuid() != 0) {
		weft_err_set(err, EPERM, "weftd must be started as root: it gives up what it does not need by itself");
		return WEFT_EXIT_PRIVILEGE;
	}
	r = weft_place_cgroup(options, cgroup, sizeof(cgroup), err);
	if (r < 0)
		return WEFT_EXIT_KERNEL;
	r = weft_place_user(options, &user, err);
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
		init->now.metrics_error = r < 0 ? r : 0;
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
	for (enum weft_agent_role role = WEFT_AGENT_MAIN; r >= 0 && role < WEFT_AGENT_MAX_; role++) {
		init->child[role] = (struct child){ .init = init, .role = role, .channel = -1, .peer = -1 };
		r = sd_event_add_time(init->loop, &init->child[role].start, CLOCK_MONOTONIC, 0, 1000, on_start, &init->child[role]);
	}
	if (r >= 0 && init->now.metrics_error)
		r = sd_event_add_time_relative(init->loop, &init->metrics_due, CLOCK_MONOTONIC, METRICS_RETRY_US, 0, on_metrics_due, init);
	return r;
}

int weft_init_run(struct weft_options *options)
{
	struct init init = { .options = options, .now = { .magic = WEFT_ABI_MAGIC } };
	int locks[2] = { -1, -1 }; /* both lists of descriptors live as long as the process */
	struct weft_err err = { "" };
	int r;

	memset(init.fds, 0xff, sizeof(init.fds));
	init.now.role[WEFT_AGENT_INIT] = (struct weft_init_role){ .pid = getpid(), .since_ns = clock_ns(CLOCK_REALTIME) };
	r = prepare(&init, options, locks, &err);
	if (r != WEFT_EXIT_OK) {
		weft_error("%s", err.text);
		weft_pins_take_back(options->pins, &init.made);
		return r;
	}
	r = set_up_loop(&init);
	if (r >= 0)
		r = sd_event_loop(init.loop);
	for (enum weft_agent_role role = WEFT_AGENT_MAIN; role < WEFT_AGENT_MAX_; role++)
		sd_event_source_disable_unref(init.child[role].start);
	sd_event_source_disable_unref(init.metrics_due);
	sd_event_unref(init.loop);
	if (r < 0) {
		errno = -r;
		weft_error("the event loop failed: %m");
		return WEFT_EXIT_FAILURE;
	}
	if (!init.ready)
		weft_pins_take_back(options->pins, &init.made); /* empty folders; what main pinned it took back itself */
	return r;
}
