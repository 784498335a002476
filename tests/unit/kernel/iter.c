/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include "kernel/iter.h"

static void add(struct weft_buf *buf, __u64 cookie, __u64 start_ns, __u64 sent)
{
	struct weft_conn conn = { .cookie = cookie, .start_ns = start_ns, .sent = sent };

	assert_int_equal(weft_buf_add(buf, &conn, sizeof(conn)), 0);
}

static void check(const struct weft_buf *buf, size_t i, __u64 cookie, __u64 sent)
{
	const struct weft_conn *conn = (const struct weft_conn *)buf->data + i;

	assert_true((i + 1) * sizeof(*conn) <= buf->size);
	assert_int_equal(conn->cookie, cookie);
	assert_int_equal(conn->sent, sent);
}

static void merges_by_cookie(void **state)
{
	weft_buf_done_on_exit struct weft_buf all = WEFT_BUF_INIT, pass = WEFT_BUF_INIT;

	(void)state;
	assert_int_equal(weft_iter_merge(&all, &pass, 100), 0);
	assert_int_equal(all.size, 0);

	/* Out of order, one of them twice. */
	add(&pass, 9, 50, 1);
	add(&pass, 3, 50, 1);
	add(&pass, 9, 50, 1);
	assert_int_equal(weft_iter_merge(&all, &pass, 100), 2);
	assert_int_equal(all.size, 2 * sizeof(struct weft_conn));
	check(&all, 0, 3, 1);
	check(&all, 1, 9, 1);

	/* One known, one missed before, one that began at the first pass' begin and so is no miss; 3 is kept. */
	weft_buf_clear(&pass);
	add(&pass, 9, 50, 2);
	add(&pass, 5, 99, 3);
	add(&pass, 7, 100, 4);
	assert_int_equal(weft_iter_merge(&all, &pass, 100), 1);
	assert_int_equal(all.size, 4 * sizeof(struct weft_conn));
	check(&all, 0, 3, 1);
	check(&all, 1, 5, 3);
	check(&all, 2, 7, 4);
	check(&all, 3, 9, 2);

	assert_int_equal(weft_iter_merge(&all, &pass, 100), 0);
	assert_int_equal(all.size, 4 * sizeof(struct weft_conn));
}

static void refuses_what_is_no_link(void **state)
{
	weft_buf_done_on_exit struct weft_buf conns = WEFT_BUF_INIT;

	(void)state;
	add(&conns, 1, 1, 1);
	assert_true(weft_iter_conns(-1, &conns) < 0);
	assert_int_equal(conns.size, sizeof(struct weft_conn));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merges_by_cookie),
		cmocka_unit_test(refuses_what_is_no_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
