/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What init and the roles agree on: the numbers of the descriptors that a role
 * is born with, and the few messages on its channel to init. Each role
 * has its file, whose first screen says what it holds, does and never does.
 */
#ifndef WEFT_AGENT_ROLES_H
#define WEFT_AGENT_ROLES_H

#include <stdbool.h>

#include "agent/options.h"

enum weft_role_fd {
	WEFT_FD_INIT = 3, /* channel to init, SOCK_SEQPACKET; its end means that init is gone */
	/* one that there is not is closed */
	WEFT_FD_SOCKET, /* control: weft.sock, listening */
	WEFT_FD_METRICS, /* control: /metrics, listening */
	WEFT_FD_CONFIG, /* control: the configuration directory */
	WEFT_FD_STATE, /* control: the state folder; keys: <state>/ca, its own, mode 0700 */
	WEFT_FD_END_,
};

enum weft_init_type {
	/* init -> role */
	WEFT_INIT_ROLES = 1, /* `role` is how they stand; the first one comes behind all LINK and KEPT that are there at a start. To keys and proxies only this one */
	WEFT_INIT_RELOAD, /* SIGHUP */
	WEFT_INIT_METRICS, /* WEFT_FD_METRICS comes along: it could not listen before; `role` as with ROLES */
	WEFT_INIT_LINK, /* one end of a new socketpair comes along: `link`, and `proxy` where a proxy is at either end; replaces an older one */
	WEFT_INIT_KEPT, /* to proxies, and to a new main: what main had kept, `kept` and its descriptor; replaces the one of the same {netns, port, family} */
	WEFT_INIT_DROPPED, /* to proxies: `kept` is no more */
	/* role -> init */
	WEFT_INIT_READY,
	WEFT_INIT_PEER_HANGS, /* control: kill the role at the other end of `link`, it does not answer */
	WEFT_INIT_KEEP, /* main: hold this descriptor as `kept`, hand it to all proxies, also to later ones; without one `workload` is new */
	WEFT_INIT_DROP, /* main: let go of `kept` */
	WEFT_INIT_SECURE, /* control: the secure lane is wanted: start keys and the proxies, if they do not run */
};

/* Which two roles a socketpair joins; each role has at most one of a kind, control, keys and main have one a proxy. */
enum weft_link_kind {
	WEFT_LINK_CONTROL_MAIN = 1, /* abi/role.h */
	WEFT_LINK_CONTROL_KEYS,
	WEFT_LINK_CONTROL_PROXY,
	WEFT_LINK_KEYS_PROXY,
	WEFT_LINK_MAIN_PROXY,
	WEFT_LINK_KIND_MAX_
};

#define WEFT_KEPT_MAX 4096 /* listeners: of a thousand pods */

/* A listener that outlives main and proxies. */
struct weft_kept {
	uint64_t netns; /* cookie */
	uint32_t workload;
	uint16_t port; /* WEFT_PORT_OUTBOUND or WEFT_PORT_HBONE */
	uint16_t family; /* AF_INET or AF_INET6 */
};

struct weft_init_role {
	int32_t pid; /* 0: not running; all zero: never was, for it is not wanted */
	uint32_t restarts;
	uint64_t since_ns; /* CLOCK_REALTIME of its last start */
};

struct weft_init_message {
	uint32_t magic; /* WEFT_ABI_MAGIC */
	uint32_t type; /* enum weft_init_type */
	int32_t metrics_error; /* -errno: nobody listens for /metrics though it is wanted */
	uint32_t link; /* enum weft_link_kind */
	uint32_t proxy; /* number */
	struct weft_kept kept;
	struct weft_init_role role[WEFT_AGENT_PROCESSES];
};

/* 0 or -errno; never waits. `fd` < 0: none. */
int weft_init_send(int channel, const struct weft_init_message *message, int fd);
/* -ECONNRESET: the other side is gone; -EAGAIN; -EBADMSG; -EMFILE: a descriptor came that there is no room for. *ret_fd is the caller's, or -1. */
int weft_init_receive(int channel, struct weft_init_message *ret_message, int *ret_fd);

/* Each runs a role to its end and returns the process's exit code. */
int weft_init_run(struct weft_options *options);
int weft_role_main_run(const struct weft_options *options);
int weft_role_control_run(const struct weft_options *options);
int weft_role_keys_run(const struct weft_options *options);
int weft_role_proxy_run(const struct weft_options *options);

#endif
