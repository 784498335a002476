/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <bpf/libbpf.h>
#include <stdio.h>

#include "kernel/print.h"

static unsigned int outside; /* what reached the printer that was there before */

static int count_lines(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)format;
	(void)args;
	outside += level == LIBBPF_WARN;
	return 0;
}

/* Makes libbpf warn about a file of this name. */
static void provoke(const char *path)
{
	assert_null(bpf_object__open_file(path, NULL));
}

static void words_are_kept_while_a_guard_is_held_and_only_then(void **state)
{
	struct weft_print *print, *inner;

	(void)state;
	outside = 0;
	libbpf_set_print(count_lines);
	print = weft_print_begin();
	assert_string_equal(weft_print_text(print), "");
	provoke("/nowhere/first");
	inner = weft_print_begin();
	provoke("/nowhere/second");
	weft_print_end(inner);
	provoke("/nowhere/third");
	assert_contains(weft_print_text(print), "/nowhere/first");
	assert_contains(weft_print_text(print), "/nowhere/second");
	assert_contains(weft_print_text(print), "/nowhere/third");
	assert_contains(weft_print_text(print), "; ");
	assert_null(strchr(weft_print_text(print), '\n'));
	assert_int_equal(outside, 0);
	weft_print_end(print);
	provoke("/nowhere/fourth");
	assert_true(outside > 0);

	print = weft_print_begin();
	assert_string_equal(weft_print_text(print), "");
	weft_print_end(print);
}

static void of_too_many_words_the_last_are_kept(void **state)
{
	struct weft_print *print = weft_print_begin();
	char path[400];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(path, sizeof(path), "/nowhere/%0300d/number-%d", i, i);
		provoke(path);
		snprintf(path, sizeof(path), "/nowhere/number-%d", i);
		provoke(path);
	}
	assert_contains(weft_print_text(print), "/nowhere/number-999");
	assert_null(strstr(weft_print_text(print), "/nowhere/number-9:"));
	assert_true(strlen(weft_print_text(print)) < 700);
	weft_print_end(print);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_kept_while_a_guard_is_held_and_only_then),
		cmocka_unit_test(of_too_many_words_the_last_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
