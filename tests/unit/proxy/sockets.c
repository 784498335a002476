/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "proxy/sockets.h"

static struct {
	unsigned int calls, count;
	int r;
} asked;

static int ask(void *context, struct weft_sockets *sockets, unsigned int count)
{
	(void)context;
	(void)sockets;
	asked.calls++;
	asked.count = count;
	return asked.r;
}

static uint32_t serials;
static struct weft_sockets pool;

static int set_up(void **state)
{
	(void)state;
	memset(&asked, 0, sizeof(asked));
	weft_sockets_init(&pool, ask, NULL, &serials);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	weft_sockets_done(&pool);
	return 0;
}

static void give(unsigned int count, int error, uint64_t now)
{
	int fds[WEFT_PROXY_MAX_SOCKETS];

	for (unsigned int i = 0; i < count; i++) {
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_true(fds[i] >= 0);
	}
	weft_sockets_give(&pool, fds, count, error, now);
}

struct waiter {
	struct weft_sockets_wait wait;
	int fd;
	unsigned int calls;
};

static void got(struct weft_sockets_wait *wait, int fd)
{
	struct waiter *waiter = (struct waiter *)(void *)wait;

	waiter->fd = fd;
	waiter->calls++;
	if (fd >= 0)
		close(fd);
}

#define WAITER ((struct waiter){ .wait = { .got = got }, .fd = -1 })

static void asks_ahead_of_need(void **state)
{
	struct waiter waiter = WAITER;

	(void)state;
	weft_sockets_begin(&pool, 0);
	assert_int_equal(asked.calls, 1);
	assert_int_equal(asked.count, WEFT_SOCKETS_FIRST);
	weft_sockets_begin(&pool, 0);
	assert_int_equal(asked.calls, 1); /* it is on its way */
	give(WEFT_SOCKETS_FIRST, 0, 0);
	assert_int_equal(asked.calls, 1); /* all there */
	for (int i = 0; i < WEFT_SOCKETS_FIRST; i++) {
		int fd = weft_sockets_take(&pool, &waiter.wait, 0);

		assert_true(fd >= 0);
		close(fd);
	}
	assert_int_equal(asked.calls, 2); /* at the half already */
	assert_int_equal(asked.count, 1);
	assert_int_equal(waiter.calls, 0);
}

static void an_empty_one_waits_and_grows(void **state)
{
	struct waiter first = WAITER, second = WAITER, third = WAITER;

	(void)state;
	assert_int_equal(weft_sockets_take(&pool, &first.wait, 0), -EINPROGRESS);
	assert_int_equal(weft_sockets_take(&pool, &second.wait, 0), -EINPROGRESS);
	assert_int_equal(weft_sockets_take(&pool, &third.wait, 0), -EINPROGRESS);
	assert_int_equal(asked.calls, 1);
	weft_sockets_unwait(&second.wait); /* it ended meanwhile */
	weft_sockets_unwait(&second.wait);
	give(1, 0, 0);
	assert_int_equal(first.calls, 1);
	assert_true(first.fd >= 0);
	assert_int_equal(second.calls, 0);
	assert_int_equal(third.calls, 0);
	assert_int_equal(asked.calls, 2); /* who waits is asked for at once */
	give(8, 0, 0);
	assert_int_equal(third.calls, 1);
	assert_int_equal(pool.count, 7);
	assert_true(pool.target > WEFT_SOCKETS_FIRST);
}

/* A newcomer does not overtake who waits. */
static void first_come_first_served(void **state)
{
	struct waiter first = WAITER, second = WAITER;

	(void)state;
	assert_int_equal(weft_sockets_take(&pool, &first.wait, 0), -EINPROGRESS);
	pool.fd[pool.count++] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(weft_sockets_take(&pool, &second.wait, 0), -EINPROGRESS);
	give(2, 0, 0);
	assert_int_equal(first.calls, 1);
	assert_int_equal(second.calls, 1);
	assert_int_equal(pool.count, 1);
}

static void main_that_is_gone_delays(void **state)
{
	struct waiter waiter = WAITER;

	(void)state;
	asked.r = -ENOTCONN;
	assert_int_equal(weft_sockets_take(&pool, &waiter.wait, 0), -EINPROGRESS);
	weft_sockets_fill(&pool, 1);
	assert_int_equal(asked.calls, 2);
	assert_int_equal(waiter.calls, 0);
	asked.r = 0;
	weft_sockets_fill(&pool, 2);
	weft_sockets_fill(&pool, 3);
	assert_int_equal(asked.calls, 3);
	weft_sockets_forget(&pool); /* main died with it */
	weft_sockets_fill(&pool, 4);
	assert_int_equal(asked.calls, 4);
	give(1, 0, 5);
	assert_int_equal(waiter.calls, 1);
}

static void what_main_refuses_fails_and_is_asked_for_later(void **state)
{
	struct waiter first = WAITER, second = WAITER;

	(void)state;
	assert_int_equal(weft_sockets_take(&pool, &first.wait, 0), -EINPROGRESS);
	assert_int_equal(weft_sockets_take(&pool, &second.wait, 0), -EINPROGRESS);
	give(1, -EMFILE, 0);
	assert_true(first.fd >= 0);
	assert_int_equal(second.fd, -EMFILE);
	assert_int_equal(asked.calls, 1);
	weft_sockets_fill(&pool, WEFT_SOCKETS_RETRY_NS - 1);
	assert_int_equal(asked.calls, 1);
	weft_sockets_fill(&pool, WEFT_SOCKETS_RETRY_NS);
	assert_int_equal(asked.calls, 2);
}

static void a_pod_that_goes_fails_who_waits(void **state)
{
	struct waiter waiter = WAITER;

	(void)state;
	assert_int_equal(weft_sockets_take(&pool, &waiter.wait, 0), -EINPROGRESS);
	weft_sockets_done(&pool);
	assert_int_equal(waiter.fd, -ENOENT);
}

static void what_rests_gives_back(void **state)
{
	struct waiter waiter = WAITER;

	(void)state;
	while (pool.target < WEFT_PROXY_MAX_SOCKETS) {
		assert_int_equal(weft_sockets_take(&pool, &waiter.wait, 0), -EINPROGRESS);
		give(1, 0, 0);
	}
	give(WEFT_PROXY_MAX_SOCKETS, 0, 0);
	assert_int_equal(pool.count, WEFT_PROXY_MAX_SOCKETS);
	give(1, 0, 0); /* more than there is room for is closed */
	assert_int_equal(pool.count, WEFT_PROXY_MAX_SOCKETS);
	weft_sockets_rest(&pool); /* it was used just now */
	assert_int_equal(pool.target, WEFT_PROXY_MAX_SOCKETS);
	for (int i = 0; i < 10; i++)
		weft_sockets_rest(&pool);
	assert_int_equal(pool.target, WEFT_SOCKETS_FIRST);
	assert_int_equal(pool.count, WEFT_SOCKETS_FIRST);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(asks_ahead_of_need),
		TEST(an_empty_one_waits_and_grows),
		TEST(first_come_first_served),
		TEST(main_that_is_gone_delays),
		TEST(what_main_refuses_fails_and_is_asked_for_later),
		TEST(a_pod_that_goes_fails_who_waits),
		TEST(what_rests_gives_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
