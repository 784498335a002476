/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>

#include "base/buf.h"

static void text_grows_and_stays_terminated(void **state)
{
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;

	(void)state;
	for (int i = 0; i < 10000; i++)
		assert_int_equal(weft_buf_printf(&buf, "%d,", i % 10), 0);
	assert_int_equal(buf.size, 20000);
	assert_int_equal(strlen(buf.data), 20000);
	assert_memory_equal(buf.data + 19996, "8,9,", 5);
	weft_buf_clear(&buf);
	assert_int_equal(buf.size, 0);
	assert_string_equal(buf.data, "");
}

static void reserved_bytes_are_zero_after_reuse(void **state)
{
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;
	static const char zero[64];
	size_t at;

	(void)state;
	assert_int_equal(weft_buf_add(&buf, "dirtydirtydirtydirtydirtydirtydirtydirty", 40), 0);
	weft_buf_clear(&buf);
	assert_int_equal(weft_buf_add(&buf, "abc", 3), 0);
	assert_int_equal(weft_buf_reserve(&buf, sizeof(zero), &at), 0);
	assert_int_equal(at, 3);
	assert_memory_equal(buf.data + at, zero, sizeof(zero));
}

static void an_impossible_size_is_refused(void **state)
{
	uint64_t *items = NULL;
	size_t room = 0;

	(void)state;
	assert_int_equal(weft_grow(&items, &room, SIZE_MAX / 4, sizeof(*items)), -ENOMEM);
	assert_null(items);
	assert_int_equal(room, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_grows_and_stays_terminated),
		cmocka_unit_test(reserved_bytes_are_zero_after_reuse),
		cmocka_unit_test(an_impossible_size_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
