/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unconnected sockets of one pod, kind and family, which main makes and a proxy may not. Asked for ahead of need, so that a
 * connection finds one; who finds none waits, for a main that is slow or gone must delay connections and not fail them.
 */
#ifndef WEFT_PROXY_SOCKETS_H
#define WEFT_PROXY_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weft/abi/proxy.h"

#define WEFT_SOCKETS_FIRST 2 /* sockets of a pool that nobody has used yet: enough to begin, and a hundred pods cost little */
#define WEFT_SOCKETS_RETRY_NS 1000000000ull /* after main said that there are no more */

/* Part of whatever waits for a socket. */
struct weft_sockets_wait {
	/* `fd` >= 0 is the waiter's, else it is main's -errno; the waiter waits no longer. */
	void (*got)(struct weft_sockets_wait *wait, int fd);
	struct weft_sockets_wait *next;
	struct weft_sockets *pool; /* NULL: it does not wait */
};

/* A request for `count` sockets under pool->serial. -errno: not now, weft_sockets_fill() is to be called again. */
typedef int weft_sockets_want(void *context, struct weft_sockets *pool, unsigned int count);

struct weft_sockets {
	weft_sockets_want *want;
	void *context;
	uint32_t *serials; /* the last one that was given, of all pools that share `context` */
	uint32_t serial; /* of what is on its way */
	unsigned int asked; /* that is on its way */
	unsigned int target; /* to have: doubled when it ran empty, halved when it rests; 0: nobody needed any yet */
	unsigned int count;
	unsigned int waiting;
	struct weft_sockets_wait *first, **last;
	uint64_t retry_ns; /* main is not asked before */
	uint64_t probe_ns; /* nor for one that nobody needs */
	bool used; /* since weft_sockets_rest() */
	int fd[WEFT_PROXY_MAX_SOCKETS];
};

/* `serials` lives as long. */
void weft_sockets_init(struct weft_sockets *pool, weft_sockets_want *want, void *context, uint32_t *serials);
/* Closes what is there; who waits gets -ENOENT. */
void weft_sockets_done(struct weft_sockets *pool);

/* Asks for what is missing, if it is time to. */
void weft_sockets_fill(struct weft_sockets *pool, uint64_t now_ns);
/* Asks for one though nobody waits, once a second at most: the answer says how many more there could be. */
void weft_sockets_probe(struct weft_sockets *pool, uint64_t now_ns);
/* It is going to be used: begins to fill. */
void weft_sockets_begin(struct weft_sockets *pool, uint64_t now_ns);

/* >= 0, the caller's; or -EINPROGRESS: `wait`, whose `got` is set, is called. First come, first served. */
int weft_sockets_take(struct weft_sockets *pool, struct weft_sockets_wait *wait, uint64_t now_ns);
/* Takes one that does not wait, too. */
void weft_sockets_unwait(struct weft_sockets_wait *wait);

/* The answer to what was asked under pool->serial: sockets that become the pool's, and why there are no more, or 0. */
void weft_sockets_give(struct weft_sockets *pool, const int *fds, size_t count, int error, uint64_t now_ns);
/* What was asked for will not be answered. */
void weft_sockets_forget(struct weft_sockets *pool);
/* Once in a while: what was not used since the last time gives back half, down to what it began with. */
void weft_sockets_rest(struct weft_sockets *pool);

#endif
