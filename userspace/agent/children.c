/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define FIRST_DELAY_MS 100
#define MAX_DELAY_MS 5000
#define STABLE_NS 10000000000ull /* a role that lived so long is started again at once */
#define STOP_MS 5000 /* then SIGKILL */
#define NAME_SIZE 24

/* By enum weft_link_kind. */
static const struct {
	enum weft_agent_role end[2];
} links[WEFT_LINK_KIND_MAX_] = {
	[WEFT_LINK_CONTROL_MAIN] = { { WEFT_AGENT_CONTROL, WEFT_AGENT_MAIN } },
	[WEFT_LINK_CONTROL_KEYS] = { { WEFT_AGENT_CONTROL, WEFT_AGENT_KEYS } },
	[WEFT_LINK_CONTROL_PROXY] = { { WEFT_AGENT_CONTROL, WEFT_AGENT_PROXY } },
	[WEFT_LINK_KEYS_PROXY] = { { WEFT_AGENT_KEYS, WEFT_AGENT_PROXY } },
	[WEFT_LINK_MAIN_PROXY] = { { WEFT_AGENT_MAIN, WEFT_AGENT_PROXY } },
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct weft_init_role *standing(const struct weft_child *child)
{
	return &child->all->now.role[weft_child_index(child->role, child->proxy)];
}

static const char *name_of(const struct weft_child *child, char *room)
{
	if (child->role == WEFT_AGENT_PROXY)
		snprintf(room, NAME_SIZE, "%s %u", weft_agent_role_name(child->role), child->proxy);
	else
		snprintf(room, NAME_SIZE, "%s", weft_agent_role_name(child->role));
	return room;
}

bool weft_child_runs(const struct weft_child *child)
{
	return standing(child)->pid > 0;
}

/* How many processes there are; proxies that were not asked for are none. */
static size_t count_of(const struct weft_children *all)
{
	return WEFT_AGENT_PROXY + all->options->proxies;
}

void weft_child_kill(struct weft_child *child, const char *why)
{
	char name[NAME_SIZE];

	if (!weft_child_runs(child))
		return;
	weft_warning("%s %s, killing it", name_of(child, name), why);
	kill(standing(child)->pid, SIGKILL);
}

/* ---- what they are told ---- */

static void settle(struct weft_child *child, int r)
{
	if (r >= 0)
		sd_event_source_set_io_events(child->io, r > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
	else if (r != -EPIPE && r != -ECONNRESET) /* else its exit is on its way to us */
		weft_child_kill(child, "cannot be told what it has to know");
}

void weft_child_tell(struct weft_child *child, const struct weft_init_message *message, int fd)
{
	if (child->io)
		settle(child, weft_outbox_send(&child->outbox, child->channel, message, fd));
}

void weft_children_tell_proxies(struct weft_children *all, const struct weft_init_message *message, int fd)
{
	for (size_t i = WEFT_AGENT_PROXY; i < count_of(all); i++)
		weft_child_tell(&all->child[i], message, fd);
}

static void tell_roles(struct weft_children *all)
{
	all->now.type = WEFT_INIT_ROLES;
	weft_child_tell(&all->child[WEFT_AGENT_CONTROL], &all->now, -1);
}

struct weft_child *weft_child_peer(struct weft_child *child, uint32_t link, uint32_t proxy)
{
	enum weft_agent_role other;

	if (link == 0 || link >= WEFT_LINK_KIND_MAX_ || proxy >= child->all->options->proxies ||
	    (links[link].end[0] != child->role && links[link].end[1] != child->role))
		return NULL;
	other = links[link].end[links[link].end[0] == child->role];
	return &child->all->child[weft_child_index(other, proxy)];
}

/* A pair for each of its links whose other end runs; who starts later makes his own. */
static int join(struct weft_child *child)
{
	struct weft_init_message message = child->all->now;

	message.type = WEFT_INIT_LINK;
	for (message.link = 1; message.link < WEFT_LINK_KIND_MAX_; message.link++) {
		bool many = links[message.link].end[1] == WEFT_AGENT_PROXY;
		unsigned int first = child->role == WEFT_AGENT_PROXY ? child->proxy : 0;
		unsigned int end = child->role == WEFT_AGENT_PROXY || !many ? first + 1 : child->all->options->proxies;

		for (message.proxy = first; message.proxy < end; message.proxy++) {
			struct weft_child *peer = weft_child_peer(child, message.link, message.proxy);
			weft_close_on_exit int ours = -1, theirs = -1;
			int pair[2];

			if (!peer || !weft_child_runs(peer))
				continue;
			if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
				return -errno;
			ours = pair[0];
			theirs = pair[1];
			weft_child_tell(child, &message, ours);
			weft_child_tell(peer, &message, theirs);
		}
	}
	return 0;
}

/* What its predecessor had, before anybody can ask for something of it. ROLES comes last: it says that this is all. */
static int introduce(struct weft_child *child)
{
	struct weft_init_message message = child->all->now;
	const struct weft_keep *keep = child->all->keep;
	int r;

	message.type = WEFT_INIT_KEPT;
	for (size_t i = 0; (child->role == WEFT_AGENT_PROXY || child->role == WEFT_AGENT_MAIN) && i < keep->count; i++) {
		message.kept = keep->entry[i].kept;
		weft_child_tell(child, &message, keep->entry[i].fd);
	}
	r = join(child);
	message.type = WEFT_INIT_ROLES;
	weft_child_tell(child, &message, -1);
	return r;
}

/* ---- birth ---- */

/* In the forked process: nothing but what is async-signal-safe. */
static void become(struct weft_child *child, const int *fds, char **argv)
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

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *context);
static int on_exit_of(sd_event_source *source, const siginfo_t *info, void *context);

/* Our own words and then who it is to be; `room` holds the number. Freed by the caller, words and all that they point to not. */
static char **words_for(const struct weft_child *child, char *room)
{
	char *const *given = child->all->options->argv;
	size_t count = 0;
	char **words;

	while (given[count])
		count++;
	words = calloc(count + 5, sizeof(*words));
	if (!words)
		return NULL;
	memcpy(words, given, count * sizeof(*words));
	words[count++] = (char *)"--role";
	words[count++] = (char *)weft_agent_role_name(child->role);
	if (child->role == WEFT_AGENT_PROXY) {
		snprintf(room, NAME_SIZE, "%u", child->proxy);
		words[count++] = (char *)"--proxy";
		words[count++] = room;
	}
	return words;
}

/* The configuration directory is opened anew each time: it may be another one by now. */
static void fds_for(const struct weft_child *child, int channel, int *ret_config, int *ret_fds)
{
	const struct weft_children *all = child->all;

	memset(ret_fds, 0xff, WEFT_FD_END_ * sizeof(*ret_fds));
	if (child->role == WEFT_AGENT_CONTROL) {
		memcpy(ret_fds, all->fds, WEFT_FD_END_ * sizeof(*ret_fds));
		*ret_config = open(all->options->config, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ret_fds[WEFT_FD_CONFIG] = *ret_config;
	} else if (child->role == WEFT_AGENT_KEYS) {
		ret_fds[WEFT_FD_STATE] = all->keys;
	}
	ret_fds[WEFT_FD_INIT] = channel;
}

static int spawn(struct weft_child *child)
{
	weft_close_on_exit int ours = -1, theirs = -1, config = -1;
	struct weft_children *all = child->all;
	int fds[WEFT_FD_END_], channel[2];
	char room[NAME_SIZE];
	weft_free_on_exit char **words = words_for(child, room);
	pid_t pid;
	int r;

	if (!words)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
		return -errno;
	ours = channel[0];
	theirs = channel[1];
	fds_for(child, theirs, &config, fds);
	r = sd_event_add_io(all->loop, &child->io, ours, EPOLLIN, on_io, child);
	if (r < 0)
		return r;
	pid = fork();
	if (pid == 0)
		become(child, fds, words);
	r = pid < 0 ? -errno : sd_event_add_child(all->loop, &child->exit, pid, WEXITED, on_exit_of, child);
	if (r < 0) {
		child->io = sd_event_source_disable_unref(child->io);
		if (pid > 0) /* nobody would hear of its end */
			kill(pid, SIGKILL);
		return r;
	}
	child->channel = weft_take_fd(ours);
	child->started_ns = clock_ns(CLOCK_MONOTONIC);
	standing(child)->pid = pid;
	standing(child)->since_ns = clock_ns(CLOCK_REALTIME);
	return 0;
}

static void start_later(struct weft_child *child, unsigned int delay_ms)
{
	sd_event_source_set_time_relative(child->start, (uint64_t)delay_ms * 1000);
	sd_event_source_set_enabled(child->start, SD_EVENT_ONESHOT);
}

static int on_start(sd_event_source *source, uint64_t usec, void *context)
{
	struct weft_child *child = context;
	char name[NAME_SIZE];
	int r = spawn(child);

	(void)source;
	(void)usec;
	if (r < 0) {
		errno = -r;
		weft_error("cannot start %s: %m; trying again", name_of(child, name));
		start_later(child, MAX_DELAY_MS);
		return 0;
	}
	r = introduce(child);
	errno = -r;
	if (r < 0) {
		weft_error("cannot join %s to the others: %m", name_of(child, name));
		weft_child_kill(child, "would wait in vain");
	}
	tell_roles(child->all);
	return 0;
}

/* ---- life ---- */

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	weft_close_on_exit int came = -1;
	struct weft_child *child = context;
	struct weft_init_message message;
	int r;

	if (revents & EPOLLOUT)
		settle(child, weft_outbox_flush(&child->outbox, fd));
	if (!(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	r = weft_init_receive(fd, &message, &came);
	if (r == -ECONNRESET)
		sd_event_source_set_enabled(source, SD_EVENT_OFF); /* its exit will be told by itself */
	else if (r == -EBADMSG)
		weft_child_kill(child, "sends what init does not know");
	else if (r == -EMFILE)
		weft_error("a descriptor is lost, there are too many: raise the limit of open files (LimitNOFILE=)");
	else if (r == 0)
		child->all->message(child->all->context, child, &message, &came);
	return 0;
}

static bool any_runs(const struct weft_children *all, size_t first)
{
	for (size_t i = first; i < count_of(all); i++)
		if (weft_child_runs(&all->child[i]))
			return true;
	return false;
}

static void go_on_stopping(struct weft_children *all);

static int on_exit_of(sd_event_source *source, const siginfo_t *info, void *context)
{
	struct weft_child *child = context;
	struct weft_children *all = child->all;
	char name[NAME_SIZE];

	(void)source;
	child->exit = sd_event_source_disable_unref(child->exit);
	child->io = sd_event_source_disable_unref(child->io);
	weft_outbox_done(&child->outbox);
	close(weft_take_fd(child->channel));
	standing(child)->pid = 0;
	if (all->stopping) {
		go_on_stopping(all);
		return 0;
	}
	if (!all->ready && child->role <= WEFT_AGENT_CONTROL && info->si_code == CLD_EXITED && info->si_status >= WEFT_EXIT_USAGE &&
	    info->si_status <= WEFT_EXIT_PRIVILEGE) {
		weft_children_stop(all, info->si_status); /* it has said why, and would again */
		return 0;
	}
	if (clock_ns(CLOCK_MONOTONIC) - child->started_ns >= STABLE_NS)
		child->delay_ms = 0;
	if (info->si_code == CLD_EXITED)
		weft_warning("%s ended with code %d, starting it again in %u ms; what is in the kernel goes on", name_of(child, name),
			     info->si_status, child->delay_ms);
	else
		weft_warning("%s was killed by SIG%s, starting it again in %u ms; what is in the kernel goes on", name_of(child, name),
			     sigabbrev_np(info->si_status), child->delay_ms);
	standing(child)->restarts++;
	tell_roles(all);
	start_later(child, child->delay_ms);
	child->delay_ms = child->delay_ms == 0 ? FIRST_DELAY_MS : child->delay_ms * 2;
	if (child->delay_ms > MAX_DELAY_MS)
		child->delay_ms = MAX_DELAY_MS;
	return 0;
}

void weft_children_secure(struct weft_children *all)
{
	if (all->secure || all->stopping)
		return;
	all->secure = true;
	weft_info("a workload is attached: starting keys and %u prox%s", all->options->proxies, all->options->proxies == 1 ? "y" : "ies");
	for (size_t i = WEFT_AGENT_KEYS; i < count_of(all); i++)
		start_later(&all->child[i], 0);
}

/* ---- death ---- */

static int on_stop_late(sd_event_source *source, uint64_t usec, void *context)
{
	struct weft_children *all = context;

	(void)source;
	(void)usec;
	for (size_t i = all->drained ? WEFT_AGENT_MAIN : WEFT_AGENT_PROXY; i < count_of(all); i++)
		weft_child_kill(&all->child[i], "does not end");
	return 0;
}

static void end_from(struct weft_children *all, size_t first)
{
	for (size_t i = first; i < count_of(all); i++)
		if (weft_child_runs(&all->child[i]))
			kill(standing(&all->child[i])->pid, SIGTERM);
	all->late = sd_event_source_disable_unref(all->late);
	sd_event_add_time_relative(all->loop, &all->late, CLOCK_MONOTONIC, (uint64_t)STOP_MS * 1000, 0, on_stop_late, all);
}

static void go_on_stopping(struct weft_children *all)
{
	if (!all->drained && !any_runs(all, WEFT_AGENT_PROXY)) {
		all->drained = true;
		end_from(all, WEFT_AGENT_MAIN);
	}
	if (!any_runs(all, WEFT_AGENT_MAIN))
		sd_event_exit(all->loop, all->code);
}

void weft_children_stop(struct weft_children *all, int code)
{
	if (all->stopping)
		return;
	all->stopping = true;
	all->code = code;
	sd_notify(0, "STOPPING=1");
	for (size_t i = WEFT_AGENT_MAIN; i < count_of(all); i++)
		sd_event_source_set_enabled(all->child[i].start, SD_EVENT_OFF);
	end_from(all, WEFT_AGENT_PROXY);
	go_on_stopping(all);
}

int weft_children_start(struct weft_children *all)
{
	int r = 0;

	for (size_t i = WEFT_AGENT_MAIN; r >= 0 && i < count_of(all); i++) {
		struct weft_child *child = &all->child[i];
		bool proxy = i >= WEFT_AGENT_PROXY;

		*child = (struct weft_child){ .all = all, .role = proxy ? WEFT_AGENT_PROXY : (enum weft_agent_role)i,
					      .proxy = proxy ? (unsigned int)(i - WEFT_AGENT_PROXY) : 0, .channel = -1 };
		r = sd_event_add_time(all->loop, &child->start, CLOCK_MONOTONIC, 0, 1000, on_start, child);
		if (r >= 0 && i > WEFT_AGENT_CONTROL)
			r = sd_event_source_set_enabled(child->start, SD_EVENT_OFF);
	}
	return r;
}

void weft_children_done(struct weft_children *all)
{
	for (size_t i = WEFT_AGENT_MAIN; i < count_of(all); i++) {
		sd_event_source_disable_unref(all->child[i].start);
		sd_event_source_disable_unref(all->child[i].exit);
		sd_event_source_disable_unref(all->child[i].io);
		weft_outbox_done(&all->child[i].outbox);
	}
	sd_event_source_disable_unref(all->late);
}
