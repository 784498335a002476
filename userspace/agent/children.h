/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The roles as processes, for init: started, joined by socketpairs, started
 * again with back-off when they end, told what they are to know, stopped in
 * order. Knows nothing of what a role does.
 */
#ifndef WEFT_AGENT_CHILDREN_H
#define WEFT_AGENT_CHILDREN_H

#include <systemd/sd-event.h>

#include "agent/keep.h"
#include "agent/outbox.h"
#include "agent/roles.h"

struct weft_children;

struct weft_child {
	struct weft_children *all;
	enum weft_agent_role role;
	unsigned int proxy; /* number, of a proxy */
	sd_event_source *start;
	sd_event_source *exit;
	sd_event_source *io;
	int channel;
	struct weft_outbox outbox;
	unsigned int delay_ms; /* before it is started once more */
	uint64_t started_ns; /* CLOCK_MONOTONIC */
};

struct weft_children {
	const struct weft_options *options;
	sd_event *loop;
	const int *fds; /* by enum weft_role_fd, what control is born with; not open: -1 */
	int keys; /* WEFT_FD_STATE of keys */
	const struct weft_keep *keep;
	struct weft_init_message now; /* how the roles stand */
	struct weft_child child[WEFT_AGENT_PROCESSES]; /* by weft_child_index(); that of init is unused */
	sd_event_source *late;
	bool ready; /* once: control has said so */
	bool secure; /* keys and the proxies are wanted */
	bool stopping;
	bool drained; /* and the proxies had their time */
	int code; /* of our own exit */
	/* One message of a role; `fd` came along, or -1, and is closed behind it unless it is taken. */
	void (*message)(void *context, struct weft_child *child, const struct weft_init_message *message, int *fd);
	void *context;
};

/* Of processes: role init has 0, proxy i WEFT_AGENT_PROXY + i. */
static inline size_t weft_child_index(enum weft_agent_role role, unsigned int proxy)
{
	return (size_t)role + (role == WEFT_AGENT_PROXY ? proxy : 0);
}

/* Main and control are started as soon as the loop runs. `options`, `loop`, `fds`, `keys`, `keep` and `message` are set. -errno. */
int weft_children_start(struct weft_children *all);
void weft_children_done(struct weft_children *all);

/* Starts keys and the proxies, unless they were started before. */
void weft_children_secure(struct weft_children *all);
/*
 * Proxies first, so that what they carry may end; the others when they are gone. Who takes longer than five seconds is killed.
 * Ends the loop with `code`, behind the last one.
 */
void weft_children_stop(struct weft_children *all, int code);

bool weft_child_runs(const struct weft_child *child);
/* Nothing, if it does not run. Whoever cannot be told is killed: his successor is told everything. */
void weft_child_tell(struct weft_child *child, const struct weft_init_message *message, int fd);
void weft_children_tell_proxies(struct weft_children *all, const struct weft_init_message *message, int fd);
/* "proxy 3 <why>, killing it", if it runs. */
void weft_child_kill(struct weft_child *child, const char *why);
/* The one at the other end of such a link of `child`, or NULL. */
struct weft_child *weft_child_peer(struct weft_child *child, uint32_t link, uint32_t proxy);

#endif
