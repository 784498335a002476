/* SPDX-License-Identifier: Apache-2.0 */
/* The places of an instance: its folders, its locks, its sockets, and who the roles run as. For init and roles that begin, which are root. */
#ifndef WEFT_AGENT_PLACE_H
#define WEFT_AGENT_PLACE_H

#include <sys/types.h>

#include "agent/options.h"
#include "base/err.h"

/* Where `options` says nothing: the cgroup2 mount, into options->cgroup, which has its room in `room` of `size` bytes. */
int weft_place_cgroup(struct weft_options *options, char *room, size_t size, struct weft_err *err);

struct weft_user {
	const char *name;
	uid_t uid;
	gid_t gid;
};

/*
 * Of control: options->user, or `weft`, or `nobody`. Of keys and proxies: `weft-keys` and `weft-proxy`, or where there is no
 * such user the one of control. -ENOENT: the one that was asked for does not exist, or it is root.
 */
int weft_place_user(const struct weft_options *options, enum weft_agent_role role, struct weft_user *ret_user, struct weft_err *err);
/* This process, of `role`, is that user from here on: no capability, no other group, no_new_privs. */
int weft_place_become(const struct weft_options *options, enum weft_agent_role role, struct weft_err *err);

/*
 * Makes what is missing of `path` and gives it this owner and mode. A folder that others may write to is refused: what
 * is in it would be theirs. Returns a descriptor >= 0.
 */
int weft_place_folder(const char *path, const struct weft_user *owner, mode_t mode, struct weft_err *err);

/* The same for `name` in the open folder `dir`, called `path`, that another user may write to: never through a link. */
int weft_place_folder_in(int dir, const char *path, const char *name, const struct weft_user *owner, mode_t mode, struct weft_err *err);

/*
 * flock on an open file or folder, without waiting; lasts as long as the descriptor. -EBUSY: somebody has it, `err`
 * says who.
 */
int weft_place_lock(int fd, const char *path, struct weft_err *err);
/* Opens <state>/lock, locks it and writes our pid into it. Returns the descriptor. */
int weft_place_lock_state(int state, const char *path, struct weft_err *err);

/* Listening stream sockets. The Unix one replaces a file of that name: only with the instance's lock held. */
int weft_place_listen_unix(const char *run, const struct weft_user *owner, struct weft_err *err);
int weft_place_listen_tcp(const struct weft_addr *addr, uint16_t port, struct weft_err *err);

#endif
