/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conf/conf.h"

static void expect(const struct weft_problem *problem, const char *text)
{
	weft_buf_done_on_exit struct weft_buf out = WEFT_BUF_INIT;

	assert_int_equal(weft_problem_print(problem, &out), 0);
	assert_string_equal(out.data, text);
}

static void test_print(void **state)
{
	struct weft_problems problems = { 0 };

	(void)state;
	weft_problems_add(&problems, WEFT_SEVERITY_ERROR, "f", 3, "Service a/b", "spec.x", "no %s", "good");
	weft_problems_add(&problems, WEFT_SEVERITY_NOTICE, "f", 0, NULL, NULL, "too large");
	weft_problems_add(&problems, WEFT_SEVERITY_ERROR, "f", 1, NULL, NULL, "\x1b[2J \xc3\xa4 \xff \xe2\x82 \x7f \xc2\x85");
	assert_int_equal(problems.errors, 2);
	expect(&problems.item[0], "f:3: Service a/b: spec.x: no good");
	expect(&problems.item[1], "f: too large");
	expect(&problems.item[2], "f:1: ?[2J \xc3\xa4 ? ?? ? ??");
	weft_problems_done(&problems);
}

static void test_move(void **state)
{
	struct weft_problems to = { 0 }, from = { 0 };

	(void)state;
	for (int i = 0; i < 999; i++)
		weft_problems_add(&to, WEFT_SEVERITY_NOTICE, "f", 1, NULL, NULL, "n");
	for (int i = 0; i < 3; i++)
		weft_problems_add(&from, WEFT_SEVERITY_ERROR, "f", 2, NULL, NULL, "e");
	assert_int_equal(weft_problems_move(&to, &from), 0);
	assert_int_equal(to.count, 1000);
	assert_int_equal(to.dropped, 2);
	assert_int_equal(to.errors, 3);
	assert_int_equal(from.count, 0);
	assert_null(from.item);
	/* The bound is one file's. */
	weft_problems_add(&to, WEFT_SEVERITY_ERROR, "g", 2, NULL, NULL, "e");
	assert_int_equal(to.count, 1001);
	weft_problems_done(&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_print), cmocka_unit_test(test_move) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
