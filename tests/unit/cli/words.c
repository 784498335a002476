/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/words.h"

static const char *const words[] = { "service", "status", "endpoint", "name", "namespace", "conn", "config" };

static void check(const char *text, int expected, size_t index, const char *sentence)
{
	struct weft_err err = { 0 };
	size_t found = 99;

	assert_int_equal(weft_word_find("object", text, words, WEFT_ARRAY_SIZE(words), &found, &err), expected);
	assert_int_equal(found, expected ? 99 : index);
	assert_string_equal(err.text, sentence);
}

static void test_exact_and_abbreviated(void **state)
{
	(void)state;
	check("service", 0, 0, "");
	check("se", 0, 0, "");
	check("e", 0, 2, "");
	check("conf", 0, 6, "");
	/* a word that begins another one is itself, not ambiguous */
	check("name", 0, 3, "");
	check("names", 0, 4, "");
}

static void test_ambiguous(void **state)
{
	(void)state;
	check("s", -EINVAL, 0, "object `s` is ambiguous: `service`, `status`");
	check("con", -EINVAL, 0, "object `con` is ambiguous: `conn`, `config`");
	check("nam", -EINVAL, 0, "object `nam` is ambiguous: `name`, `namespace`");
}

static void test_nearest(void **state)
{
	(void)state;
	check("sevice", -EINVAL, 0, "unknown object `sevice`, did you mean `service`?");
	check("servcie", -EINVAL, 0, "unknown object `servcie`, did you mean `service`?");
	check("endpiont", -EINVAL, 0, "unknown object `endpiont`, did you mean `endpoint`?");
	check("serviceses", -EINVAL, 0, "unknown object `serviceses`, did you mean `service`?");
	check("configs", -EINVAL, 0, "unknown object `configs`, did you mean `config`?");
}

static void test_nothing_near(void **state)
{
	static const char *const two[] = { "on", "off" };
	struct weft_err err = { 0 };
	char monster[5000];
	size_t found = 99;

	(void)state;
	assert_int_equal(weft_word_nearest("xyzzy", words, WEFT_ARRAY_SIZE(words)), -1);
	assert_int_equal(weft_word_nearest("", words, WEFT_ARRAY_SIZE(words)), -1);
	assert_int_equal(weft_word_nearest("service", NULL, 0), -1);
	memset(monster, 's', sizeof(monster) - 1);
	monster[sizeof(monster) - 1] = '\0';
	assert_int_equal(weft_word_nearest(monster, words, WEFT_ARRAY_SIZE(words)), -1);
	/* few words are named, and the empty one abbreviates none of them */
	assert_int_equal(weft_word_find("verb", "", two, 2, &found, &err), -EINVAL);
	assert_string_equal(err.text, "unknown verb ``, there is `on`, `off`");
	assert_int_equal(found, 99);
}

static void test_slips(void **state)
{
	static const char *const one[] = { "abcdef" };

	(void)state;
	/* (6 + 2) / 3 = 2 slips of six letters are near, 3 are not */
	assert_int_equal(weft_word_nearest("abcdef", one, 1), 0);
	assert_int_equal(weft_word_nearest("abdcef", one, 1), 0);
	assert_int_equal(weft_word_nearest("badcef", one, 1), 0);
	assert_int_equal(weft_word_nearest("xxcdef", one, 1), 0);
	assert_int_equal(weft_word_nearest("xxxdef", one, 1), -1);
	assert_int_equal(weft_word_nearest("badcfe", one, 1), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_and_abbreviated),
		cmocka_unit_test(test_ambiguous),
		cmocka_unit_test(test_nearest),
		cmocka_unit_test(test_nothing_near),
		cmocka_unit_test(test_slips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
