/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces that there are, and work done inside them. A thread that enters one comes back, or the process
 * ends: half-way is no state to go on in. What one is called is net/netns.h's.
 */
#ifndef WEFT_BASE_NETNS_H
#define WEFT_BASE_NETNS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"

#define WEFT_NETNS_DIR "/run/netns"

struct weft_netns_list {
	struct weft_netns {
		int fd;
		ino_t inode; /* as /proc/PID/ns/net shows it */
	} *netns; /* each once */
	size_t count;
	size_t room;
	size_t hidden; /* processes whose namespace this process may not look at: CAP_SYS_PTRACE is missing */
	bool enclosed; /* this process does not see all: its PID namespace is not the machine's */
};
#define WEFT_NETNS_LIST_INIT ((struct weft_netns_list){ 0 })

/* Adds this thread's and all of /run/netns. -errno: the list has what was found until then, as below. */
int weft_netns_list_named(struct weft_netns_list *list);
/*
 * Adds those of processes (of /proc, so of this PID namespace and those below it). Left out are one in which only single threads of a
 * process are, and one in which nothing but sockets is left.
 */
int weft_netns_list_processes(struct weft_netns_list *list);
/* 0, or -EPERM with what that list cannot have, and why. */
int weft_netns_list_missing(const struct weft_netns_list *list, struct weft_err *err);
/* Takes `fd` over, also on failure. */
int weft_netns_list_add(struct weft_netns_list *list, int fd);
/* Closes what is in it. */
void weft_netns_list_done(struct weft_netns_list *list);
#define weft_netns_list_done_on_exit weft_cleanup(weft_netns_list_done)

/* Below the folder `dir`, without following links, checked to be a network namespace. >= 0, or -EINVAL: it is none. */
int weft_netns_open_at(int dir, const char *name);
bool weft_netns_is(int fd);
int weft_netns_open_self(void);
int weft_netns_inode(int netns, ino_t *ret_inode);
/* Calls work(context) with this thread inside `netns`; returns what it returned, or -errno if it could not enter. Aborts if it cannot return. */
int weft_netns_run(int netns, int (*work)(void *context), void *context);

#endif
