/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What init and the roles agree on: the numbers of the descriptors that a role
 * is born with, and the few messages on its channel to init. Each of the three
 * has its file, whose first screen says what it holds, does and never does.
 */
#ifndef WEFT_AGENT_ROLES_H
#define WEFT_AGENT_ROLES_H

#include <stdbool.h>

#include "agent/options.h"

enum weft_role_fd {
	WEFT_FD_INIT = 3, /* channel to init, SOCK_SEQPACKET; its end means that init is gone */
	WEFT_FD_PEER, /* main <-> control, abi/role.h */
	/* control only; one that there is not is closed */
	WEFT_FD_SOCKET, /* weft.sock, listening */
	WEFT_FD_METRICS, /* /metrics, listening */
	WEFT_FD_CONFIG, /* the configuration directory */
	WEFT_FD_STATE, /* the state folder */
	WEFT_FD_END_,
};

enum weft_init_type {
	/* init -> role */
	WEFT_INIT_ROLES = 1, /* `role` is how they stand; a new WEFT_FD_PEER may come along */
	WEFT_INIT_RELOAD, /* SIGHUP */
	WEFT_INIT_METRICS, /* WEFT_FD_METRICS comes along: it could not listen before; `role` as with ROLES */
	/* role -> init */
	WEFT_INIT_READY,
	WEFT_INIT_PEER_HANGS, /* kill the other role, it does not answer */
};

struct weft_init_role {
	int32_t pid; /* 0: not running */
	uint32_t restarts;
	uint64_t since_ns; /* CLOCK_REALTIME of its last start */
};

struct weft_init_message {
	uint32_t magic; /* WEFT_ABI_MAGIC */
	uint32_t type; /* enum weft_init_type */
	int32_t metrics_error; /* -errno: nobody listens for /metrics though it is wanted */
	struct weft_init_role role[WEFT_AGENT_MAX_];
};

/* 0 or -errno; never waits. `fd` < 0: none. */
int weft_init_send(int channel, const struct weft_init_message *message, int fd);
/* -ECONNRESET: the other side is gone; -EAGAIN; -EBADMSG. *ret_fd is the caller's, or -1. */
int weft_init_receive(int channel, struct weft_init_message *ret_message, int *ret_fd);

/* Each runs a role to its end and returns the process's exit code. */
int weft_init_run(struct weft_options *options);
int weft_role_main_run(const struct weft_options *options);
int weft_role_control_run(const struct weft_options *options);

#endif
