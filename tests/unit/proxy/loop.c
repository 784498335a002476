/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proxy/loop.h"

struct end {
	struct weft_loop_io io;
	struct weft_loop *loop;
	struct end *other;
	unsigned int called;
	uint32_t events;
};

struct once {
	struct weft_loop_later later;
	struct weft_loop *loop;
	struct once *other;
	unsigned int called, again;
};

struct alarm {
	struct weft_loop_timer timer;
	struct weft_loop *loop;
	struct alarm *other;
	uint64_t fired_ns;
	unsigned int called;
};

static int setup(void **state)
{
	struct weft_loop *loop;

	assert_int_equal(weft_loop_new(&loop), 0);
	*state = loop;
	return 0;
}

static int teardown(void **state)
{
	weft_loop_free(*state);
	return 0;
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void on_ready(struct weft_loop_io *io, uint32_t events)
{
	struct end *end = (struct end *)io;
	char byte;

	end->called++;
	end->events = events;
	if (events & EPOLLIN)
		assert_int_equal(read(io->fd, &byte, 1), 1);
	weft_loop_exit(end->loop, 7);
}

/* Whichever comes first takes the other away, whose event is in the same wake-up. */
static void on_ready_remove(struct weft_loop_io *io, uint32_t events)
{
	struct end *end = (struct end *)io;

	end->called++;
	end->events = events;
	weft_loop_remove(end->loop, &end->other->io);
	weft_loop_remove(end->loop, &end->io);
	weft_loop_exit(end->loop, 0);
}

static void pair(struct weft_loop *loop, struct end *end, int *ret_other, void (*ready)(struct weft_loop_io *io, uint32_t events))
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	*end = (struct end){ .io = { .ready = ready, .fd = fd[0] }, .loop = loop };
	*ret_other = fd[1];
	assert_int_equal(weft_loop_set(loop, &end->io, EPOLLIN), 0);
}

static void events_and_code(void **state)
{
	struct end end;
	int other;

	pair(*state, &end, &other, on_ready);
	assert_int_equal(write(other, "x", 1), 1);
	assert_int_equal(weft_loop_run(*state), 7);
	assert_int_equal(end.called, 1);
	assert_int_equal(end.events, EPOLLIN);
	assert_int_equal(weft_loop_set(*state, &end.io, EPOLLOUT), 0);
	assert_int_equal(weft_loop_run(*state), 7);
	assert_int_equal(end.events, EPOLLOUT);
	weft_loop_remove(*state, &end.io);
	weft_loop_remove(*state, &end.io);
	assert_false(end.io.added);
	close(end.io.fd);
	assert_int_equal(weft_loop_set(*state, &end.io, EPOLLIN), -EBADF);
	assert_false(end.io.added);
	close(other);
}

static void removed_in_the_same_wake_up(void **state)
{
	struct end one, two;
	int fd[2];

	pair(*state, &one, &fd[0], on_ready_remove);
	pair(*state, &two, &fd[1], on_ready_remove);
	one.other = &two;
	two.other = &one;
	assert_int_equal(write(fd[0], "x", 1), 1);
	assert_int_equal(write(fd[1], "x", 1), 1);
	assert_int_equal(weft_loop_run(*state), 0);
	assert_int_equal(one.called + two.called, 1);
	close(fd[0]);
	close(fd[1]);
	close(one.io.fd);
	close(two.io.fd);
}

static void on_later(struct weft_loop_later *later)
{
	struct once *once = (struct once *)later;

	once->called++;
	if (once->other)
		weft_loop_cancel(&once->other->later);
	if (once->again && once->called < once->again)
		weft_loop_later(once->loop, later);
	else
		weft_loop_exit(once->loop, 0);
}

static void later_runs_once_and_may_ask_again(void **state)
{
	struct once once = { .later.run = on_later, .loop = *state, .again = 3 };

	weft_loop_later(*state, &once.later);
	weft_loop_later(*state, &once.later);
	assert_int_equal(weft_loop_run(*state), 0);
	assert_int_equal(once.called, 3);
	assert_null(once.later.back);
}

static void later_is_cancelled_by_another(void **state)
{
	struct once one = { .later.run = on_later, .loop = *state }, two = { .later.run = on_later, .loop = *state, .other = &one },
		    three = { .later.run = on_later, .loop = *state };

	weft_loop_later(*state, &one.later);
	weft_loop_later(*state, &three.later);
	weft_loop_later(*state, &two.later);
	weft_loop_cancel(&three.later);
	weft_loop_cancel(&three.later);
	assert_int_equal(weft_loop_run(*state), 0);
	assert_int_equal(two.called, 1);
	assert_int_equal(one.called, 0);
	assert_int_equal(three.called, 0);
}

static void on_alarm(struct weft_loop_timer *timer)
{
	struct alarm *alarm = (struct alarm *)timer;

	alarm->called++;
	alarm->fired_ns = clock_ns();
	assert_null(timer->back);
	if (alarm->other)
		weft_loop_timer_stop(&alarm->other->timer);
	weft_loop_exit(alarm->loop, 0);
}

static void timer_is_never_early(void **state)
{
	static const uint32_t after[] = { 0, 1, 99, 100, 101, 250 };

	for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
		struct alarm alarm = { .timer.fired = on_alarm, .loop = *state };
		uint64_t due = weft_loop_now_ns(*state) + after[i] * 1000000ull;

		weft_loop_timer(*state, &alarm.timer, after[i]);
		assert_int_equal(weft_loop_run(*state), 0);
		assert_int_equal(alarm.called, 1);
		assert_true(alarm.fired_ns >= due);
	}
}

/* A timer of a later turn stands in the slot of one that is due. */
static void timer_of_a_later_turn_waits(void **state)
{
	struct alarm near = { .timer.fired = on_alarm, .loop = *state }, far = near, stopped = near;

	weft_loop_timer(*state, &far.timer, 100 + 51200);
	weft_loop_timer(*state, &near.timer, 100);
	weft_loop_timer(*state, &stopped.timer, 0);
	weft_loop_timer_stop(&stopped.timer);
	weft_loop_timer_stop(&stopped.timer);
	assert_int_equal(weft_loop_run(*state), 0);
	assert_int_equal(near.called, 1);
	assert_int_equal(far.called, 0);
	assert_int_equal(stopped.called, 0);
	/* Set anew it moves. */
	weft_loop_timer(*state, &far.timer, 1);
	assert_int_equal(weft_loop_run(*state), 0);
	assert_int_equal(far.called, 1);
}

static void timer_stops_another_that_is_due_too(void **state)
{
	struct alarm one = { .timer.fired = on_alarm, .loop = *state }, two = one;

	one.other = &two;
	two.other = &one;
	weft_loop_timer(*state, &one.timer, 10);
	weft_loop_timer(*state, &two.timer, 10);
	assert_int_equal(weft_loop_run(*state), 0);
	assert_int_equal(one.called + two.called, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(events_and_code, setup, teardown),
		cmocka_unit_test_setup_teardown(removed_in_the_same_wake_up, setup, teardown),
		cmocka_unit_test_setup_teardown(later_runs_once_and_may_ask_again, setup, teardown),
		cmocka_unit_test_setup_teardown(later_is_cancelled_by_another, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_is_never_early, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_of_a_later_turn_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_stops_another_that_is_due_too, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
