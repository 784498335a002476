/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Role control. Holds no capability, its own uid, no_new_privs; the listening
 * sockets, the configuration directory and the state folder as descriptors.
 * Reads and compiles configuration, keeps names, asks main to apply the
 * difference, serves weft.sock and /metrics. Never calls bpf(2), never waits
 * for a client, never leaves half of a change: what main did not do is owed.
 */
#include "agent/control.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "agent/place.h"
#include "agent/sandbox.h"
#include "base/log.h"

#define SLOW_MS 2000 /* that people and scrapers wait for main */
#define LATE_MS 3000 /* without main, before init is asked to start it anew */

uint64_t weft_control_now(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void ask_for_main(struct weft_control *control)
{
	struct weft_init_message message = { .magic = WEFT_ABI_MAGIC, .type = WEFT_INIT_PEER_HANGS, .link = WEFT_LINK_CONTROL_MAIN };

	(void)control;
	weft_init_send(WEFT_FD_INIT, &message, -1);
}

/* Then init is asked for another one. */
static int wait_for_main(struct weft_control *control)
{
	sd_event_source_set_time_relative(control->link_late, (uint64_t)LATE_MS * 1000);
	return sd_event_source_set_enabled(control->link_late, SD_EVENT_ONESHOT);
}

int weft_control_lost(struct weft_control *control, int r, const struct weft_err *err)
{
	bool was_there = control->link_io;

	control->greeted = false;
	control->link_io = sd_event_source_disable_unref(control->link_io);
	if (control->link.sock >= 0)
		close(weft_take_fd(control->link.sock));
	control->link.asked_count = 0;
	weft_control_serve_late(control, "main is restarting: ask again in a moment");
	if (!was_there)
		return r;
	if (r == -ETIMEDOUT || r == -EBADMSG) {
		weft_error("%s; asking for a new main", err->text);
		ask_for_main(control);
	}
	wait_for_main(control);
	return r;
}

int weft_control_call(struct weft_control *control, struct weft_role_message *request, const void *data, size_t size,
		      struct weft_role_message *ret_answer, struct weft_link_bulk *bulk, struct weft_err *err)
{
	int r = weft_link_call(&control->link, request, data, size, ret_answer, bulk, err);

	return control->link.sock < 0 ? weft_control_lost(control, r, err) : r;
}

bool weft_control_late(const struct weft_control *control)
{
	return weft_link_age_ns(&control->link) >= (uint64_t)SLOW_MS * 1000000;
}

static int look_again(struct weft_control *control)
{
	sd_event_source_set_time_relative(control->link_slow, (uint64_t)SLOW_MS * 1000);
	return sd_event_source_set_enabled(control->link_slow, SD_EVENT_ONESHOT);
}

static int on_link_slow(sd_event_source *source, uint64_t usec, void *context)
{
	struct weft_control *control = context;
	struct weft_err err;

	(void)source;
	(void)usec;
	if (!control->link.asked_count)
		return 0;
	if (weft_link_age_ns(&control->link) >= WEFT_LINK_TIMEOUT_S * 1000000000ull) {
		weft_control_lost(control, weft_err_set(&err, ETIMEDOUT, "main does not answer for %d s", WEFT_LINK_TIMEOUT_S), &err);
		return 0;
	}
	if (weft_control_late(control))
		weft_control_serve_late(control, "main does not answer: ask again in a moment");
	return look_again(control);
}

int weft_control_ask(struct weft_control *control, struct weft_role_message *request, weft_link_answered *answered,
		     struct weft_err *err)
{
	bool first = !control->link.asked_count;
	int r = weft_link_ask(&control->link, request, answered, err);

	if (control->link.sock < 0)
		return weft_control_lost(control, r, err);
	if (r == 0 && first)
		look_again(control);
	return r;
}

static int on_link(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct weft_control *control = context;
	struct weft_err err = { "" };
	int r = weft_link_receive(&control->link, &err);

	(void)source;
	(void)fd;
	(void)revents;
	if (control->link.sock < 0)
		weft_control_lost(control, r, &err);
	return 0;
}

/* main lives but the pair is broken, or is never started: only init can tell. */
static int on_link_late(sd_event_source *source, uint64_t usec, void *context)
{
	struct weft_control *control = context;

	(void)source;
	(void)usec;
	if (control->link.sock >= 0)
		return 0;
	if (control->roles[WEFT_AGENT_MAIN].pid > 0)
		ask_for_main(control);
	return wait_for_main(control);
}

static int take_main(struct weft_control *control, int sock)
{
	int r;

	control->link_io = sd_event_source_disable_unref(control->link_io);
	if (control->link.sock >= 0)
		close(control->link.sock);
	control->link.sock = sock;
	control->link.asked_count = 0;
	weft_control_serve_late(control, "main is restarting: ask again in a moment");
	sd_event_source_set_enabled(control->link_late, SD_EVENT_OFF);
	r = sd_event_add_io(control->loop, &control->link_io, sock, EPOLLIN, on_link, control);
	if (r < 0)
		return r;
	weft_control_greet(control);
	return 0;
}

static int take_metrics(struct weft_control *control, int listener)
{
	struct weft_err err = { "" };

	if (control->metrics_listener < 0)
		control->metrics_listener = listener;
	else if (listener >= 0)
		close(listener);
	if (weft_control_serve_metrics(control, &err) < 0)
		weft_error("%s", err.text);
	return 0;
}

static int take_link(struct weft_control *control, const struct weft_init_message *message, int *sock)
{
	if (*sock < 0)
		return 0;
	if (message->link == WEFT_LINK_CONTROL_MAIN)
		return take_main(control, weft_take_fd(*sock));
	return weft_control_secure_link(control, message->link, message->proxy, weft_take_fd(*sock));
}

static int on_init(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct weft_control *control = context;
	struct weft_init_message message;
	weft_close_on_exit int came = -1;
	int r = weft_init_receive(fd, &message, &came);

	(void)source;
	(void)revents;
	if (r == -ECONNRESET)
		return sd_event_exit(control->loop, WEFT_EXIT_OK);
	if (r < 0)
		return 0;
	if (message.type == WEFT_INIT_RELOAD) {
		weft_info("reloading, as asked by SIGHUP");
		weft_control_reload(control);
		return 0;
	}
	memcpy(control->roles, message.role, sizeof(control->roles));
	control->metrics_error = message.metrics_error;
	if (message.type == WEFT_INIT_METRICS)
		return take_metrics(control, weft_take_fd(came));
	return message.type == WEFT_INIT_LINK ? take_link(control, &message, &came) : 0;
}

static int start(struct weft_control *control, struct weft_err *err)
{
	int r = sd_event_new(&control->loop);

	if (r >= 0)
		r = sd_event_add_signal(control->loop, NULL, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, NULL, NULL);
	if (r >= 0) /* a terminal's interrupt goes to all: init decides */
		r = signal(SIGINT, SIG_IGN) == SIG_ERR || signal(SIGHUP, SIG_IGN) == SIG_ERR ? -errno : 0;
	if (r >= 0)
		r = sd_event_add_io(control->loop, &control->init_io, WEFT_FD_INIT, EPOLLIN, on_init, control);
	if (r >= 0) /* main is greeted first when the loop is up: requests of clients wait that long in their sockets */
		r = sd_event_source_set_priority(control->init_io, SD_EVENT_PRIORITY_IMPORTANT);
	if (r >= 0)
		r = sd_event_add_time(control->loop, &control->link_late, CLOCK_MONOTONIC, 0, 1000, on_link_late, control);
	if (r >= 0)
		r = wait_for_main(control);
	if (r >= 0)
		r = sd_event_add_time(control->loop, &control->link_slow, CLOCK_MONOTONIC, 0, 1000, on_link_slow, control);
	if (r >= 0)
		r = sd_event_source_set_enabled(control->link_slow, SD_EVENT_OFF);
	if (r >= 0)
		r = weft_control_bind_start(control);
	if (r >= 0)
		r = weft_control_secure_start(control);
	if (r >= 0)
		weft_control_attach_start(control);
	if (r < 0)
		return weft_err_set(err, r, "cannot set up the event loop: %m");
	r = weft_control_config_start(control, err);
	return r < 0 ? r : weft_control_serve_start(control, err);
}

int weft_role_control_run(const struct weft_options *options)
{
	struct weft_control control = {
		.options = options, .link = { .sock = -1 }, .state = WEFT_FD_STATE, .names_file = -1
	};
	struct weft_err err = { "" };
	int r;

	/* Before anything is opened that would get its number. */
	control.config = fcntl(WEFT_FD_CONFIG, F_GETFD) < 0 ? -1 : WEFT_FD_CONFIG;
	control.metrics_listener = fcntl(WEFT_FD_METRICS, F_GETFD) < 0 ? -1 : WEFT_FD_METRICS;
	r = weft_place_become(options, WEFT_AGENT_CONTROL, &err);
	if (r == 0)
		r = weft_sandbox_enter(WEFT_AGENT_CONTROL, control.state, -1, &err);
	if (r < 0) {
		weft_error("%s", err.text);
		return WEFT_EXIT_PRIVILEGE;
	}
	control.link.records = weft_control_records;
	control.link.context = &control;
	r = start(&control, &err);
	if (r < 0) {
		weft_error("%s", err.text);
		return WEFT_EXIT_FAILURE;
	}
	r = sd_event_loop(control.loop);
	if (r < 0) {
		errno = -r;
		weft_error("the event loop failed: %m");
		r = WEFT_EXIT_FAILURE;
	}
	weft_control_serve_stop(&control);
	weft_control_attach_stop(&control);
	weft_control_secure_stop(&control);
	weft_control_bind_stop(&control);
	weft_control_config_stop(&control);
	sd_event_source_disable_unref(control.init_io);
	sd_event_source_disable_unref(control.link_io);
	sd_event_source_disable_unref(control.link_late);
	sd_event_source_disable_unref(control.link_slow);
	if (control.link.sock >= 0)
		close(control.link.sock);
	sd_event_unref(control.loop);
	return r;
}
