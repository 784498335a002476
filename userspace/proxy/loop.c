/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/loop.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#define TICK_NS 100000000ull /* the promise of weft_loop_timer() */
#define SLOTS 512 /* most timers are of 5 to 20 s: a turn of 51 s passes few of them by */
#define BATCH 256

struct weft_loop {
	int epoll;
	int code;
	bool exit;
	uint64_t now_ns;
	uint64_t tick; /* the slots up to it were looked at */
	/* A time-out of epoll_wait() is a kernel timer that is set and taken back for every sleep; this one rings some times a second. */
	struct weft_loop_io alarm;
	uint64_t alarm_ns; /* 0: not set */
	struct weft_loop_timer *slot[SLOTS];
	struct weft_loop_later *later;
	struct epoll_event event[BATCH];
	int at, count; /* of the wake-up that is under way */
};

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void set_alarm(struct weft_loop *loop, uint64_t at_ns)
{
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(at_ns / 1000000000), .tv_nsec = (long)(at_ns % 1000000000) } };

	if (timerfd_settime(loop->alarm.fd, TFD_TIMER_ABSTIME, &at, NULL) == 0)
		loop->alarm_ns = at_ns;
}

/* An edge, and set anew before the next one: there is nothing to read. */
static void rang(struct weft_loop_io *io, uint32_t events)
{
	struct weft_loop *loop = (struct weft_loop *)(void *)((char *)io - offsetof(struct weft_loop, alarm));

	(void)events;
	loop->alarm_ns = 0;
}

int weft_loop_new(struct weft_loop **ret_loop)
{
	weft_cleanup(weft_loop_freep) struct weft_loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	loop->alarm = (struct weft_loop_io){ .ready = rang, .fd = -1 };
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0)
		return -errno;
	loop->alarm.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (loop->alarm.fd < 0)
		return -errno;
	r = weft_loop_set(loop, &loop->alarm, EPOLLIN | EPOLLET);
	if (r < 0)
		return r;
	loop->now_ns = clock_ns();
	loop->tick = loop->now_ns / TICK_NS;
	*ret_loop = weft_take_ptr(loop);
	return 0;
}

struct weft_loop *weft_loop_free(struct weft_loop *loop)
{
	if (!loop)
		return NULL;
	if (loop->alarm.fd >= 0)
		close(loop->alarm.fd);
	if (loop->epoll >= 0)
		close(loop->epoll);
	free(loop);
	return NULL;
}

int weft_loop_set(struct weft_loop *loop, struct weft_loop_io *io, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = io };

	if (io->added && io->events == events)
		return 0;
	if (epoll_ctl(loop->epoll, io->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, io->fd, &event) < 0)
		return -errno;
	io->added = true;
	io->events = events;
	return 0;
}

void weft_loop_remove(struct weft_loop *loop, struct weft_loop_io *io)
{
	if (!io->added)
		return;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, io->fd, NULL);
	io->added = false;
	for (int i = loop->at; i < loop->count; i++)
		if (loop->event[i].data.ptr == io)
			loop->event[i].data.ptr = NULL;
}

/* To the head, so that a cancel needs no loop: what is asked for in one wake-up has no order. */
void weft_loop_later(struct weft_loop *loop, struct weft_loop_later *later)
{
	if (later->back)
		return;
	later->next = loop->later;
	later->back = &loop->later;
	if (later->next)
		later->next->back = &later->next;
	loop->later = later;
}

void weft_loop_cancel(struct weft_loop_later *later)
{
	if (!later->back)
		return;
	*later->back = later->next;
	if (later->next)
		later->next->back = later->back;
	later->back = NULL;
}

void weft_loop_timer_stop(struct weft_loop_timer *timer)
{
	if (!timer->back)
		return;
	*timer->back = timer->next;
	if (timer->next)
		timer->next->back = timer->back;
	timer->back = NULL;
}

void weft_loop_timer(struct weft_loop *loop, struct weft_loop_timer *timer, uint32_t after_ms)
{
	struct weft_loop_timer **slot;
	uint64_t tick;

	weft_loop_timer_stop(timer);
	timer->due_ns = loop->now_ns + after_ms * 1000000ull;
	/* The tick at whose end it is due: what is left of that tick is what makes it late. */
	tick = timer->due_ns / TICK_NS + 1;
	if (loop->alarm_ns && tick * TICK_NS < loop->alarm_ns)
		set_alarm(loop, tick * TICK_NS);
	slot = &loop->slot[tick % SLOTS];
	timer->next = *slot;
	timer->back = slot;
	if (timer->next)
		timer->next->back = &timer->next;
	*slot = timer;
}

uint64_t weft_loop_now_ns(const struct weft_loop *loop)
{
	return loop->now_ns;
}

static void fire(struct weft_loop *loop)
{
	uint64_t now = loop->now_ns / TICK_NS;
	struct weft_loop_timer *due = NULL;

	/* After a turn's sleep every slot is looked at, each once. */
	if (now > loop->tick + SLOTS)
		loop->tick = now - SLOTS;
	while (loop->tick < now) {
		struct weft_loop_timer *next;

		for (struct weft_loop_timer *timer = loop->slot[++loop->tick % SLOTS]; timer; timer = next) {
			next = timer->next;
			if (timer->due_ns > loop->now_ns)
				continue;
			weft_loop_timer_stop(timer);
			timer->next = due;
			timer->back = &due;
			if (due)
				due->back = &timer->next;
			due = timer;
		}
	}
	while (due) {
		struct weft_loop_timer *timer = due;

		weft_loop_timer_stop(timer);
		timer->fired(timer);
	}
}

/* For the next slot that has a timer, whichever turn it is of. */
static void wake_for_next(struct weft_loop *loop)
{
	for (unsigned int i = 1; i <= SLOTS; i++)
		if (loop->slot[(loop->tick + i) % SLOTS]) {
			set_alarm(loop, (loop->tick + i) * TICK_NS);
			return;
		}
}

static void run_later(struct weft_loop *loop)
{
	struct weft_loop_later *run = weft_take_ptr(loop->later);

	if (run)
		run->back = &run;
	/* What they ask for in turn is for the next wake-up: nobody keeps the others from their sockets. */
	while (run) {
		struct weft_loop_later *later = run;

		weft_loop_cancel(later);
		later->run(later);
	}
}

int weft_loop_run(struct weft_loop *loop)
{
	loop->exit = false;
	while (!loop->exit) {
		int count;

		if (!loop->alarm_ns)
			wake_for_next(loop);
		count = epoll_wait(loop->epoll, loop->event, BATCH, loop->later ? 0 : -1);
		if (count < 0 && errno != EINTR)
			return -errno;
		loop->now_ns = clock_ns();
		loop->count = count < 0 ? 0 : count;
		for (loop->at = 0; loop->at < loop->count;) {
			struct epoll_event *event = &loop->event[loop->at++];
			struct weft_loop_io *io = event->data.ptr;

			if (io)
				io->ready(io, event->events);
		}
		loop->count = 0;
		if (loop->now_ns / TICK_NS > loop->tick)
			fire(loop);
		run_later(loop);
	}
	return loop->code;
}

void weft_loop_exit(struct weft_loop *loop, int code)
{
	loop->exit = true;
	loop->code = code;
}
