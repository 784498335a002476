/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>

#include "base/err.h"

static void says_and_returns(void **state)
{
	struct weft_err err = { "" };

	(void)state;
	assert_int_equal(weft_err_set(&err, ENOENT, "open %s: %m", "x"), -ENOENT);
	assert_string_equal(err.text, "open x: No such file or directory");
	assert_int_equal(weft_err_set(&err, -EPERM, "%m"), -EPERM);
	assert_string_equal(err.text, "Operation not permitted");
	assert_int_equal(weft_err_prefix(&err, -EPERM, "load %d", 3), -EPERM);
	assert_string_equal(err.text, "load 3: Operation not permitted");
	assert_int_equal(weft_err_set(NULL, EIO, "nobody listens"), -EIO);
}

static void a_long_sentence_is_cut(void **state)
{
	struct weft_err err;

	(void)state;
	assert_int_equal(weft_err_set(&err, EIO, "%2000d", 1), -EIO);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	assert_int_equal(weft_err_prefix(&err, -EIO, "%2000d", 1), -EIO);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_and_returns),
		cmocka_unit_test(a_long_sentence_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
