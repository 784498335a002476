/* SPDX-License-Identifier: Apache-2.0 */
/* What init holds for main, and what it says to a role that does not read. */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/keep.h"
#include "agent/outbox.h"
#include "base/cleanup.h"

static int some_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static struct weft_kept listener(uint64_t netns, uint32_t workload, uint16_t port)
{
	return (struct weft_kept){ .netns = netns, .workload = workload, .port = port, .family = AF_INET6 };
}

static void test_put_and_drop(void **unused)
{
	struct weft_keep keep = { 0 };
	struct weft_kept first = listener(1, 7, 15001), other = listener(1, 7, 15008), again = listener(1, 8, 15001), v4 = first;
	int a = some_fd(), b = some_fd();

	(void)unused;
	v4.family = AF_INET;
	assert_int_equal(weft_keep_put(&keep, &first, a), 0);
	assert_int_equal(weft_keep_put(&keep, &other, -1), -ENOENT);
	assert_null(weft_keep_find(&keep, &other));
	assert_null(weft_keep_find(&keep, &v4));
	assert_int_equal(weft_keep_put(&keep, &again, -1), 0);
	assert_int_equal(weft_keep_find(&keep, &first)->fd, a);
	assert_int_equal(weft_keep_find(&keep, &first)->kept.workload, 8);
	assert_int_equal(weft_keep_put(&keep, &first, b), 0);
	assert_false(is_open(a));
	assert_int_equal(keep.count, 1);
	assert_int_equal(weft_keep_drop(&keep, &other), -ENOENT);
	assert_int_equal(weft_keep_drop(&keep, &again), 0);
	assert_false(is_open(b));
	assert_int_equal(weft_keep_drop(&keep, &again), -ENOENT);
	weft_keep_done(&keep);
}

static void test_bound(void **unused)
{
	struct weft_keep keep = { 0 };
	struct weft_kept one;
	int fd;

	(void)unused;
	/* One number many times: what is counted here is entries. */
	for (uint64_t i = 0; i < WEFT_KEPT_MAX; i++) {
		one = listener(i, 1, 15001);
		assert_int_equal(weft_keep_put(&keep, &one, i == 0 ? some_fd() : 1 << 20), 0);
	}
	fd = some_fd();
	one = listener(WEFT_KEPT_MAX, 1, 15001);
	assert_int_equal(weft_keep_put(&keep, &one, fd), -ENOSPC);
	assert_false(is_open(fd));
	one = listener(5, 2, 15001);
	assert_int_equal(weft_keep_put(&keep, &one, -1), 0);
	one = listener(6, 1, 15001);
	assert_int_equal(weft_keep_drop(&keep, &one), 0);
	one = listener(WEFT_KEPT_MAX, 1, 15001);
	assert_int_equal(weft_keep_put(&keep, &one, some_fd()), 0);
	weft_keep_done(&keep);
}

struct box {
	struct weft_outbox box;
	int near, far;
};

static int set_up(void **state)
{
	static struct box box;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	box = (struct box){ .near = pair[0], .far = pair[1] };
	*state = &box;
	return 0;
}

static int tear_down(void **state)
{
	struct box *box = *state;

	weft_outbox_done(&box->box);
	weft_closep(&box->near);
	weft_closep(&box->far);
	return 0;
}

static struct weft_init_message message(enum weft_init_type type, uint64_t netns)
{
	return (struct weft_init_message){ .magic = WEFT_ABI_MAGIC, .type = type, .kept = listener(netns, 1, 15001) };
}

/* Until nothing more fits: how many did. */
static unsigned int fill(struct box *box)
{
	struct weft_init_message filler = message(WEFT_INIT_ROLES, 0);
	unsigned int count = 0;

	while (weft_init_send(box->near, &filler, -1) == 0)
		count++;
	assert_true(count > 0);
	return count;
}

static void drain(struct box *box, unsigned int count)
{
	struct weft_init_message got;

	while (count--) {
		int fd = -1;

		assert_int_equal(weft_init_receive(box->far, &got, &fd), 0);
		assert_int_equal(got.type, WEFT_INIT_ROLES);
	}
}

static void receive(struct box *box, enum weft_init_type type, uint64_t netns, bool with_fd)
{
	struct weft_init_message got;
	int fd = -1;

	assert_int_equal(weft_init_receive(box->far, &got, &fd), 0);
	assert_int_equal(got.type, type);
	assert_int_equal(got.kept.netns, netns);
	assert_int_equal(fd >= 0, with_fd);
	weft_closep(&fd);
}

static void test_at_once(void **state)
{
	struct weft_init_message kept = message(WEFT_INIT_KEPT, 1);
	struct box *box = *state;
	int fd = some_fd();

	assert_int_equal(weft_outbox_send(&box->box, box->near, &kept, fd), 0);
	assert_true(is_open(fd));
	close(fd);
	receive(box, WEFT_INIT_KEPT, 1, true);
}

static void test_nothing_is_lost_and_order_stays(void **state)
{
	struct weft_init_message one = message(WEFT_INIT_KEPT, 1), two = message(WEFT_INIT_KEPT, 2), gone = message(WEFT_INIT_DROPPED, 3);
	struct box *box = *state;
	unsigned int filled = fill(box);
	int fd = some_fd();

	assert_int_equal(weft_outbox_send(&box->box, box->near, &one, fd), 1);
	assert_int_equal(weft_outbox_send(&box->box, box->near, &two, fd), 1);
	close(fd); /* the box has its own */
	assert_int_equal(weft_outbox_flush(&box->box, box->near), 1);
	drain(box, filled);
	/* Room or not: what waits goes first. */
	assert_int_equal(weft_outbox_send(&box->box, box->near, &gone, -1), 1);
	assert_int_equal(weft_outbox_flush(&box->box, box->near), 0);
	receive(box, WEFT_INIT_KEPT, 1, true);
	receive(box, WEFT_INIT_KEPT, 2, true);
	receive(box, WEFT_INIT_DROPPED, 3, false);
	assert_int_equal(box->box.count, 0);
}

static void test_a_later_word_replaces(void **state)
{
	struct weft_init_message kept = message(WEFT_INIT_KEPT, 1), dropped = message(WEFT_INIT_DROPPED, 1);
	struct weft_init_message link = message(WEFT_INIT_LINK, 0), roles = message(WEFT_INIT_ROLES, 0);
	struct box *box = *state;
	unsigned int filled = fill(box);
	int fd = some_fd();

	for (int i = 0; i < 1000; i++) {
		assert_int_equal(weft_outbox_send(&box->box, box->near, &kept, fd), 1);
		assert_int_equal(weft_outbox_send(&box->box, box->near, &dropped, -1), 1);
		assert_int_equal(weft_outbox_send(&box->box, box->near, &roles, -1), 1);
		link.link = WEFT_LINK_KEYS_PROXY;
		link.proxy = (uint32_t)i % 2;
		assert_int_equal(weft_outbox_send(&box->box, box->near, &link, fd), 1);
	}
	close(fd);
	assert_int_equal(box->box.count, 4);
	drain(box, filled);
	assert_int_equal(weft_outbox_flush(&box->box, box->near), 0);
	receive(box, WEFT_INIT_DROPPED, 1, false);
	receive(box, WEFT_INIT_ROLES, 0, false);
	receive(box, WEFT_INIT_LINK, 0, true);
	receive(box, WEFT_INIT_LINK, 0, true);
}

static void test_a_keep_without_a_descriptor(void **state)
{
	struct weft_init_message first = message(WEFT_INIT_KEEP, 1), again = first, drop = message(WEFT_INIT_DROP, 2);
	struct box *box = *state;
	unsigned int filled = fill(box);
	int fd = some_fd();

	again.kept.workload = 2;
	assert_int_equal(weft_outbox_send(&box->box, box->near, &first, fd), 1);
	assert_int_equal(weft_outbox_send(&box->box, box->near, &again, -1), 1);
	first.kept.netns = 2;
	assert_int_equal(weft_outbox_send(&box->box, box->near, &first, fd), 1);
	assert_int_equal(weft_outbox_send(&box->box, box->near, &drop, -1), 1);
	close(fd);
	assert_int_equal(box->box.count, 2);
	drain(box, filled);
	assert_int_equal(weft_outbox_flush(&box->box, box->near), 0);
	receive(box, WEFT_INIT_KEEP, 1, true);
	receive(box, WEFT_INIT_DROP, 2, false);
}

static void test_nobody_there(void **state)
{
	struct weft_init_message roles = message(WEFT_INIT_ROLES, 0);
	struct box *box = *state;

	fill(box);
	assert_int_equal(weft_outbox_send(&box->box, box->near, &roles, -1), 1);
	weft_closep(&box->far);
	box->far = -1;
	assert_true(weft_outbox_flush(&box->box, box->near) < 0);
	assert_int_equal(box->box.count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_and_drop),
		cmocka_unit_test(test_bound),
		cmocka_unit_test_setup_teardown(test_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nothing_is_lost_and_order_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_later_word_replaces, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_keep_without_a_descriptor, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nobody_there, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
