/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A proxy's loop. sd-event, which the other roles use, costs a heap operation and a clock reading for every event; a relay has
 * two events a round trip and nothing else to do. So: epoll, one coarse timer, and work put off to the end of a wake-up, which
 * is what makes frames of many streams leave in one write.
 */
#ifndef WEFT_PROXY_LOOP_H
#define WEFT_PROXY_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct weft_loop;

/* Part of whatever polls a descriptor. After weft_loop_remove() it is not called again, also not in the wake-up that is under way. */
struct weft_loop_io {
	void (*ready)(struct weft_loop_io *io, uint32_t events);
	int fd;
	uint32_t events;
	bool added;
};

/* Runs once at the end of the wake-up in which it was asked for. */
struct weft_loop_later {
	void (*run)(struct weft_loop_later *later);
	struct weft_loop_later *next, **back; /* NULL: not asked for */
};

/* Fires no earlier than asked, and up to 100 ms later: good for time-outs. */
struct weft_loop_timer {
	void (*fired)(struct weft_loop_timer *timer);
	uint64_t due_ns;
	struct weft_loop_timer *next, **back;
};

int weft_loop_new(struct weft_loop **ret_loop);
struct weft_loop *weft_loop_free(struct weft_loop *loop);
WEFT_CLEANUP_DEFINE(struct weft_loop, weft_loop_free);

/* Adds, or changes what is waited for (EPOLLIN, EPOLLOUT, EPOLLEXCLUSIVE ...). */
int weft_loop_set(struct weft_loop *loop, struct weft_loop_io *io, uint32_t events);
void weft_loop_remove(struct weft_loop *loop, struct weft_loop_io *io);
void weft_loop_later(struct weft_loop *loop, struct weft_loop_later *later);
void weft_loop_cancel(struct weft_loop_later *later);
void weft_loop_timer(struct weft_loop *loop, struct weft_loop_timer *timer, uint32_t after_ms);
void weft_loop_timer_stop(struct weft_loop_timer *timer);
/* CLOCK_MONOTONIC, as of this wake-up. */
uint64_t weft_loop_now_ns(const struct weft_loop *loop);

/* Until weft_loop_exit(), whose code it returns; or -errno. */
int weft_loop_run(struct weft_loop *loop);
void weft_loop_exit(struct weft_loop *loop, int code);

#endif
