/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of role control, shared by its files: role_control.c is the role
 * itself, control_config.c brings files to the kernel, control_bind.c network
 * namespaces to workloads, control_attach.c pods into the secure lane,
 * control_secure.c speaks with keys and proxies, control_serve.c answers the CLI and Prometheus.
 */
#ifndef WEFT_AGENT_CONTROL_H
#define WEFT_AGENT_CONTROL_H

#include <systemd/sd-event.h>

#include "agent/link.h"
#include "agent/problems.h"
#include "agent/roles.h"
#include "agent/source_dir.h"
#include "ctl/role.h"
#include "ctl/server.h"
#include "event/watch.h"
#include "export/http.h"
#include "export/metrics.h"
#include "model/model.h"

struct weft_binding; /* control_bind.c */
struct weft_attachment; /* control_attach.c */
struct weft_named; /* likewise */
struct weft_secure; /* control_secure.c */

struct weft_control {
	const struct weft_options *options;
	sd_event *loop;
	sd_event_source *init_io;
	struct weft_init_role roles[WEFT_AGENT_PROCESSES]; /* as init last said */
	int metrics_error; /* likewise: -errno why there is no listener for /metrics yet */
	int state; /* folder */
	int config; /* the configuration directory as init could open it, -1; the watch's once there is one */
	int names_file; /* for appending; -1 until it was rewritten */
	int metrics_listener; /* -1: off, or init still tries */

	struct weft_link link;
	sd_event_source *link_io;
	sd_event_source *link_slow; /* looks whether what was asked is answered */
	sd_event_source *link_late; /* how long to wait for init to bring main back */
	bool greeted; /* this main's maps were read */
	bool adopted; /* main found maps of an earlier run */
	uint64_t made_ns; /* of the set of maps that the model mirrors (struct weft_setting.boot_ns); 0 = none yet */
	uint64_t counters_unix_s; /* the same moment, once and for all: a clock that is set later does not move it */
	uint64_t features, forced;
	struct weft_role_capacity capacity;

	struct weft_source *source;
	struct weft_watch *watch; /* of the configuration directory */
	sd_event_source *settle; /* a file is to be read again though nobody touches it */
	struct weft_names *names; /* until the model takes them */
	struct weft_model *model; /* NULL until main said how large its maps are */
	struct weft_buf journal; /* not on disk yet */
	struct weft_buf cut, cut_udp; /* __u32 ids, not cut yet */
	bool owed; /* the last commit or what it wanted done is not wholly done */
	bool cut_failed; /* and it was said */
	sd_event_source *whole_later; /* a table is to have its whole size: it could not */
	unsigned int whole_retry_ms; /* 0: it did not fail */
	bool frees; /* the model waits to free something: it wants live counts */
	uint64_t looked_ns; /* when it last got them */
	uint64_t look_ns; /* when it is to get them at the latest; 0: no commit went without since */
	sd_event_source *later; /* the next commit: grace periods and retries */
	unsigned int retry_ms;

	struct weft_binding *bindings;
	uint64_t *stale; /* cookies of weft_pod that no binding has claimed yet */
	size_t stale_count;
	struct weft_attachment *attachments;
	struct weft_named *named; /* by `weft workload attach` */
	uint64_t *stale_attached; /* cookies of weft_capture that no attachment has claimed yet */
	size_t stale_attached_count;
	struct weft_buf judge; /* __u32 ids of workloads whose connections are to be judged again */
	bool secure_told; /* init knows that keys and proxies are wanted */
	struct weft_secure *secure;
	struct weft_watch *netns;
	sd_event_source *bind_later;
	unsigned int bind_retry_ms;

	struct weft_problems whole; /* what the model's last commit said */
	struct weft_problems host; /* what this node says to the files: the directory, ports that are taken */
	struct weft_problems unbound; /* network namespaces that cannot be bound */
	struct weft_said *said; /* problems that were logged */

	bool flags_sent;
	uint32_t flags; /* WEFT_SETTING_F_ as main has them */
	bool bypass;

	bool ready;
	uint64_t generation; /* of the configuration: changes that reached the kernel */
	uint64_t apply_failures;
	uint64_t apply_ns;
	uint64_t applied_ns; /* CLOCK_REALTIME; 0 = never */

	struct weft_server *server;
	sd_event_source *watchers_changed; /* deferred: it asks main, and may be found out in the middle of that */
	bool watchers_asked; /* main has not answered the last one yet */
	unsigned int watchers_told;
	uint64_t relay_lost;
	struct weft_http *http;
	sd_event_source *http_io, *http_due;
	struct weft_buf metrics; /* the last text */
	uint64_t metrics_ns; /* CLOCK_MONOTONIC */
	bool metrics_asked; /* main was asked for what the next text says */
	int flush_error; /* of that */
};

uint64_t weft_control_now(clockid_t clock); /* ns */

/* What went wrong with main: if it is gone or hangs, sees to it that it comes back. Returns r. */
int weft_control_lost(struct weft_control *control, int r, const struct weft_err *err);
/* weft_link_call() and, on failure, weft_control_lost(). */
int weft_control_call(struct weft_control *control, struct weft_role_message *request, const void *data, size_t size,
		      struct weft_role_message *ret_answer, struct weft_link_bulk *bulk, struct weft_err *err);

/*
 * weft_link_ask(), for what people and scrapers want: they are told by weft_control_serve_late() when main is late, and main
 * is given up when it does not answer at all.
 */
int weft_control_ask(struct weft_control *control, struct weft_role_message *request, weft_link_answered *answered,
		     struct weft_err *err);
/* Main owes an answer for longer than anybody should wait. */
bool weft_control_late(const struct weft_control *control);

/* control_config.c */
int weft_control_config_start(struct weft_control *control, struct weft_err *err);
void weft_control_config_stop(struct weft_control *control);
/* A new main: reads what it has and brings it to what the files say. */
void weft_control_greet(struct weft_control *control);
/*
 * Asks main for maps that hold `need` (0: as it is). 0: they do, and the model knows. Else what is there stays: -E2BIG
 * a ceiling forbids it, or main's -errno; `err` says why it is no larger.
 */
int weft_control_grow(struct weft_control *control, const struct weft_role_capacity *need, struct weft_err *err);
/* The model was told something: brings that to the kernel. */
void weft_control_commit(struct weft_control *control);
/* Files changed, or SIGHUP. */
void weft_control_reload(struct weft_control *control);
/* Sends what the mesh configuration and bypass make of WEFT_SETTING_F_, if main does not have it. */
int weft_control_send_flags(struct weft_control *control, struct weft_err *err);
/* Logs problems that are new, and those that are over. */
void weft_control_say_problems(struct weft_control *control);
/* All problems there are: files', the whole's, this node's. */
void weft_control_problems(struct weft_control *control, void (*each)(void *context, const struct weft_problem *problem),
			   void *context);

/* control_bind.c */
int weft_control_bind_start(struct weft_control *control);
void weft_control_bind_stop(struct weft_control *control);
/* Brings weft_pod to what the model wants. */
void weft_control_bind(struct weft_control *control);
/* A new main: all bindings are to be made again; takes `cookies`, malloc()ed, those that its map has. */
void weft_control_bind_forget(struct weft_control *control, uint64_t *cookies, size_t count);
/* Node ports that a process of this host listens on: adds notices to `problems`. */
void weft_control_check_node_ports(struct weft_control *control, struct weft_problems *problems);

/* control_attach.c: pods of the secure lane. Start reads what was named in earlier lives. */
void weft_control_attach_start(struct weft_control *control);
void weft_control_attach_stop(struct weft_control *control);
/* The model is new: tells it what was named. */
void weft_control_attach_model(struct weft_control *control);
/* A new main: as with bindings; `cookies` are those of its weft_capture. */
void weft_control_attach_forget(struct weft_control *control, uint64_t *cookies, size_t count);
/* Any name may mean another namespace now. */
void weft_control_attach_look(struct weft_control *control);
/* Brings what is attached to what the model wants; false: to be tried again. */
bool weft_control_attach(struct weft_control *control);
/* `who` is NAMESPACE/NAME. -errno with a sentence, and it is as it was. */
int weft_control_attach_named(struct weft_control *control, const char *who, const char *netns, struct weft_err *err);
int weft_control_detach_named(struct weft_control *control, const char *who, struct weft_err *err);
/* An array: who is attached, and who is not and why. */
struct json_object *weft_control_attach_json(const struct weft_control *control);

/* control_judge.c: workloads, __u32 ids, whose open connections may be allowed no longer; what fails is done with the next. */
void weft_control_judge(struct weft_control *control, const struct weft_buf *workloads);

/* control_policy.c: what becomes of a connection of `from`, NAMESPACE/NAME or host, to ADDRESS:PORT: members of `answer`. */
int weft_control_judge_json(const struct weft_control *control, const char *from, const char *to, struct json_object *answer,
			    struct weft_err *err);

/* control_secure.c */
int weft_control_secure_start(struct weft_control *control);
void weft_control_secure_stop(struct weft_control *control);
/* The model put something in force: tells keys and proxies what they need of it. */
void weft_control_secure_update(struct weft_control *control, bool mesh_changed);
/* Takes `fd`. */
int weft_control_secure_link(struct weft_control *control, uint32_t link, uint32_t proxy, int fd);
void weft_control_secure_log_level(struct weft_control *control);
void weft_control_secure_problems(const struct weft_control *control, void (*each)(void *context, const struct weft_problem *problem),
				  void *context);
/* Arrays: docs/CONTROL.md. */
struct json_object *weft_control_identities_json(const struct weft_control *control);
struct json_object *weft_control_secure_conns_json(struct weft_control *control);
/* Both ends of a connection, as one of its sockets has them. */
struct weft_ends {
	struct weft_addr local, remote;
	__be16 local_port, remote_port;
};
_Static_assert(sizeof(struct weft_ends) == 36, "compared as bytes");
/* Asks the proxies; adds those of applications' sockets whose streams a proxy of this node ends, in no order. -ENOMEM. */
int weft_control_secure_served(struct weft_control *control, struct weft_buf *ret_ends);
/* Adds struct weft_metrics_identity to `ret_expiries`, and to `ret_counts` by lists/proxy.h what all proxies counted. -ENOMEM. */
int weft_control_secure_metrics(struct weft_control *control, struct weft_buf *ret_expiries, uint64_t *ret_counts);

/* control_serve.c */
int weft_control_serve_start(struct weft_control *control, struct weft_err *err);
void weft_control_serve_stop(struct weft_control *control);
/* Serves /metrics on control->metrics_listener. */
int weft_control_serve_metrics(struct weft_control *control, struct weft_err *err);
void weft_control_records(void *control, const struct weft_event *records, size_t count, uint64_t lost);
/* Whoever waits for something of main's is told that it will not come now. */
void weft_control_serve_late(struct weft_control *control, const char *sentence);
/* Tells main how many watch. */
void weft_control_send_watchers(struct weft_control *control);

#endif
