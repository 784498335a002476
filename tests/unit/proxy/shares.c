/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <stdlib.h>

#include "proxy/shares.h"

static int take(struct weft_shares *shares, const char *name, struct weft_share **ret_share)
{
	return weft_shares_take(shares, name, strlen(name) + 1, ret_share);
}

/* As many as it gets, up to `most`. */
static unsigned int take_all(struct weft_shares *shares, const char *name, struct weft_share **held, unsigned int most)
{
	unsigned int got = 0;

	while (got < most && take(shares, name, &held[got]) == 0)
		got++;
	return got;
}

static void give_all(struct weft_share **held, unsigned int count)
{
	while (count)
		weft_share_give(held[--count]);
}

static void one_alone_leaves_a_quarter(void **state)
{
	weft_cleanup(weft_shares_unrefp) struct weft_shares *shares = weft_shares_new(100);
	struct weft_share *a[100], *b[100], *c[100];
	unsigned int n;

	(void)state;
	assert_int_equal(take_all(shares, "a", a, 100), 75);
	assert_int_equal(take(shares, "a", &a[75]), -EDQUOT);
	/* Of that everybody who comes gets half of what is left, and there is always something left. */
	n = take_all(shares, "b", b, 100);
	assert_int_equal(n, 13);
	assert_int_equal(take_all(shares, "c", c, 100), 6);
	assert_int_equal(weft_shares_held(shares), 75 + 13 + 6);
	/* Nobody is limited any more once there is room. */
	give_all(a, 75);
	assert_int_equal(take_all(shares, "b", b + n, 50), 50);
	give_all(b, n + 50);
	give_all(c, 6);
	assert_int_equal(weft_shares_held(shares), 0);
	assert_null(weft_share_give(NULL));
}

/* Sixteen that hold something: an equal share is six. */
static void many_have_equal_shares(void **state)
{
	weft_cleanup(weft_shares_unrefp) struct weft_shares *shares = weft_shares_new(100);
	struct weft_share *held[100], *more;
	char name[2] = "b";

	(void)state;
	assert_int_equal(take_all(shares, "a", held, 30), 30);
	for (unsigned int i = 0; i < 15; i++, name[0]++)
		assert_int_equal(take_all(shares, name, held + 30 + 3 * i, 3), 3);
	assert_int_equal(take(shares, "a", &more), -EDQUOT);
	assert_int_equal(take_all(shares, "b", held + 75, 9), 3);
	assert_int_equal(take_all(shares, "z", held + 78, 9), 5); /* the seventeenth */
	give_all(held, 83);
}

static void a_limit_may_change(void **state)
{
	weft_cleanup(weft_shares_unrefp) struct weft_shares *shares = weft_shares_new(10);
	struct weft_share *held[20];

	(void)state;
	assert_int_equal(take_all(shares, "a", held, 20), 8);
	weft_shares_limit(shares, 4); /* less than there is: nothing is taken back, nobody gets more */
	assert_int_equal(take(shares, "a", &held[8]), -EDQUOT);
	assert_int_equal(take(shares, "b", &held[8]), -EDQUOT);
	weft_shares_limit(shares, 1000);
	assert_int_equal(take_all(shares, "a", held + 8, 12), 12);
	give_all(held, 20);
	weft_shares_limit(shares, 1);
	assert_int_equal(take(shares, "a", &held[0]), 0);
	assert_int_equal(take(shares, "b", &held[1]), -EDQUOT);
	weft_share_give(held[0]);
	weft_shares_limit(shares, 0);
	assert_int_equal(take(shares, "a", &held[0]), -EDQUOT);
}

/* A pod is detached while its streams go on. */
static void what_is_held_outlives_its_owner(void **state)
{
	struct weft_shares *shares = weft_shares_new(10);
	struct weft_share *a, *b;

	(void)state;
	assert_int_equal(take(shares, "a", &a), 0);
	assert_int_equal(take(shares, "b", &b), 0);
	assert_null(weft_shares_unref(shares));
	assert_null(weft_share_give(a));
	assert_null(weft_share_give(b));
}

/* The bytes are the name, whatever is in them. */
static void names_are_bytes(void **state)
{
	weft_cleanup(weft_shares_unrefp) struct weft_shares *shares = weft_shares_new(2);
	struct weft_share *held[3];

	(void)state;
	assert_int_equal(weft_shares_take(shares, "a\0b", 3, &held[0]), 0);
	assert_int_equal(weft_shares_take(shares, "a\0c", 3, &held[1]), 0);
	assert_int_equal(weft_shares_take(shares, "a\0b", 3, &held[2]), -EDQUOT);
	weft_share_give(held[1]);
	assert_int_equal(weft_shares_take(shares, "a\0", 2, &held[1]), 0);
	give_all(held, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_alone_leaves_a_quarter),
		cmocka_unit_test(many_have_equal_shares),
		cmocka_unit_test(a_limit_may_change),
		cmocka_unit_test(what_is_held_outlives_its_owner),
		cmocka_unit_test(names_are_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
