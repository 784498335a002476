/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of role main, shared by its files: role_main.c is the role itself,
 * main_cut.c ends sockets, main_pods.c sets attached pods up, main_sockets.c
 * makes sockets in them for proxies.
 */
#ifndef WEFT_AGENT_ROLE_MAIN_H
#define WEFT_AGENT_ROLE_MAIN_H

#include <systemd/sd-event.h>

#include "agent/outbox.h"
#include "agent/roles.h"
#include "base/netns.h"
#include "kernel/kernel.h"

struct weft_main_pod; /* main_pods.c */
struct weft_main_proxy; /* main_sockets.c */

struct weft_main {
	const struct weft_options *options;
	sd_event *loop;
	sd_event_source *init_io;
	struct weft_outbox to_init;
	sd_event_source *peer_io;
	int peer; /* -1: control is not there */
	int early_peer; /* -1; or control came before init said all that it has */
	bool told; /* it has */
	struct weft_kernel *kernel;
	struct weft_kernel_options how; /* the kernel was opened */
	sd_event_source *records;
	sd_event_source *recount_due;
	uint64_t recount_retry_us; /* 0: the last one did not fail */
	uint64_t features;
	bool adopted;
	uint64_t lost; /* records that control has not been told of */
	struct weft_main_pod *pods; /* attached, or kept from before */
	struct weft_main_proxy *proxies; /* WEFT_PROXY_MAX; NULL: none ever came */
	bool missing_said; /* that there are network namespaces that cannot be found */
	uint64_t counted_ns; /* when sockets in pods were counted */
	uint64_t counted; /* and how many there were, with those that were made since */
};

/* To init; waits for nothing, loses nothing. */
void weft_main_tell_init(struct weft_main *role, const struct weft_init_message *message, int fd);

/* main_cut.c. In every network namespace that can be reached; the first failure is returned after all were tried. */
int weft_main_cut(struct weft_main *role, const __u32 *ids, size_t count, bool udp_only, uint32_t *ret_cut);
int weft_main_cut_sockets(struct weft_main *role, const __u64 *cookies, size_t count, uint32_t *ret_cut);
/* Adds struct weft_conn: what is half open into attached pods, then what is tracked, so that nothing that becomes the one from the other is missed. */
int weft_main_conns(struct weft_main *role, struct weft_buf *bulk);

/* main_pods.c. */
int weft_main_netns_open(const char *name, struct weft_err *err);
/* Adds those that have a name in /run/netns, this one, and those of attached pods. -errno: what was found until then is in it. */
int weft_main_netns_known(const struct weft_main *role, struct weft_netns_list *list);
/* Adds these and those of processes; `context` is the role. For struct weft_kernel_options. */
int weft_main_netns_all(void *context, struct weft_netns_list *list);
int weft_main_netns_cookie(const struct weft_main *role, int netns, uint64_t *ret_cookie);
/* *ret_port is set on -EADDRINUSE alone. -EPERM: the node's own; -EBUSY: another workload is attached there, whose address it has. */
int weft_main_attach(struct weft_main *role, const char *name, uint32_t workload, uint64_t *ret_cookie, uint64_t *ret_port);
int weft_main_detach(struct weft_main *role, uint64_t cookie);
/* -EPERM: the node's own; -EBUSY: another workload is attached there. */
int weft_main_bind(struct weft_main *role, const char *name, const struct weft_pod *bound, uint64_t *ret_cookie);
/* A listener that init has from an earlier main; takes `fd` over. */
void weft_main_kept(struct weft_main *role, const struct weft_kept *kept, int fd);
void weft_main_pods_done(struct weft_main *role);
/* The network namespace of an attached pod, or -1. */
int weft_main_pod_netns(const struct weft_main *role, uint64_t cookie);
uint32_t weft_main_pod_workload(const struct weft_main *role, uint64_t cookie);
size_t weft_main_pod_count(const struct weft_main *role);
/* For each pod; stops at the first that is not 0 and returns it. */
int weft_main_each_pod(const struct weft_main *role, int (*each)(void *context, uint64_t cookie, int netns), void *context);

/* main_sockets.c. Proxy `number` asks on `sock` from here on; takes it over. */
int weft_main_take_proxy(struct weft_main *role, unsigned int number, int sock);
void weft_main_proxies_done(struct weft_main *role);

#endif
