/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include "agent/problems.h"

static int over_count;
static char over_line[256];

static void over(const char *line)
{
	over_count++;
	snprintf(over_line, sizeof(over_line), "%s", line);
}

static void test_once_each(void **state)
{
	struct weft_problem one = { WEFT_SEVERITY_ERROR, (char *)"a.yaml", 3, (char *)"Service a/b", (char *)"spec", (char *)"is wrong" };
	struct weft_problem two = { WEFT_SEVERITY_NOTICE, (char *)"a.yaml", 3, (char *)"Service a/b", (char *)"spec", (char *)"is odd" };
	weft_cleanup(weft_said_freep) struct weft_said *said = weft_said_new();

	(void)state;
	weft_said_begin(said);
	assert_true(weft_said_again(said, &one));
	assert_false(weft_said_again(said, &one));
	assert_true(weft_said_again(said, &two));
	weft_said_end(said, over);
	assert_int_equal(over_count, 0);

	weft_said_begin(said);
	assert_false(weft_said_again(said, &one));
	weft_said_end(said, over);
	assert_int_equal(over_count, 1);
	assert_contains(over_line, "is odd");

	weft_said_begin(said);
	weft_said_end(said, over);
	assert_int_equal(over_count, 2);
	assert_contains(over_line, "a.yaml:3: Service a/b: spec: is wrong");

	weft_said_begin(said);
	assert_true(weft_said_again(said, &one)); /* it came back: said anew */
	weft_said_end(said, over);
	assert_int_equal(over_count, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_once_each) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
