/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "conf/schema.h"

static void test_names(void **state)
{
	char label[65];

	(void)state;
	memset(label, 'a', 64);
	label[64] = '\0';
	assert_non_null(weft_check_label_name(label));
	label[63] = '\0';
	assert_null(weft_check_label_name(label));
	assert_null(weft_check_label_name("0a-b"));
	for (const char *const *bad = WEFT_WORDS("", "-a", "a-", "a.b", "A", "a_b", "a b"); *bad; bad++)
		assert_non_null(weft_check_label_name(*bad));
	for (const char *const *good = WEFT_WORDS("a", "a.b", "1.2-3.c"); *good; good++)
		assert_null(weft_check_subdomain(*good));
	for (const char *const *bad = WEFT_WORDS("", ".", ".a", "a.", "a..b", "a-.b", "a.-b", "A.b"); *bad; bad++)
		assert_non_null(weft_check_subdomain(*bad));
	for (const char *const *good = WEFT_WORDS("http", "8x", "a-b-c", "fifteen-letters"); *good; good++)
		assert_null(weft_check_port_name(*good));
	for (const char *const *bad = WEFT_WORDS("", "80", "a--b", "-a", "a-", "sixteen-letters-", "HTTP"); *bad; bad++)
		assert_non_null(weft_check_port_name(*bad));
}

static void test_nearest(void **state)
{
	(void)state;
	assert_string_equal(weft_nearest("prots", "ports", NULL), "ports");
	assert_string_equal(weft_nearest("clusterip", "clusterIP", NULL), "clusterIP");
	assert_null(weft_nearest("ICMP", "TCP", NULL));
	assert_null(weft_nearest("xyz", "ports", NULL));
	/* The nearer of two stays, whichever comes first. */
	assert_string_equal(weft_nearest("clusterIPx", "clusterIPs", "clusterIP"), "clusterIP");
	assert_string_equal(weft_nearest("clusterIPss", "clusterIPs", "clusterIP"), "clusterIPs");
}

static enum weft_scalar scalar(const char *text)
{
	const struct weft_yaml node = { .text = text, .count = (uint32_t)strlen(text) };

	return weft_yaml_scalar(&node);
}

static void test_scalars(void **state)
{
	const struct weft_yaml quoted = { .text = "80", .count = 2, .quoted = true };

	(void)state;
	for (const char *const *text = WEFT_WORDS("", "~", "null", "Null", "NULL"); *text; text++)
		assert_int_equal(scalar(*text), WEFT_SCALAR_NULL);
	for (const char *const *text = WEFT_WORDS("true", "False", "y", "NO", "on", "Off"); *text; text++)
		assert_int_equal(scalar(*text), WEFT_SCALAR_BOOL);
	for (const char *const *text = WEFT_WORDS("0", "-1", "+5", "1_000", "0x1F", "0o17", "0b1", "010"); *text; text++)
		assert_int_equal(scalar(*text), WEFT_SCALAR_INT);
	for (const char *const *text = WEFT_WORDS("1.5", "1e3", ".5", "-.inf", ".NaN", "1."); *text; text++)
		assert_int_equal(scalar(*text), WEFT_SCALAR_FLOAT);
	for (const char *const *text = WEFT_WORDS("10.0.0.1", "1a", "-", ".", "+", "0x", "nUll", "tRue", "1e", "2024-01-01", "::1");
	     *text; text++)
		assert_int_equal(scalar(*text), WEFT_SCALAR_STRING);
	assert_int_equal(weft_yaml_scalar(&quoted), WEFT_SCALAR_STRING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_nearest),
		cmocka_unit_test(test_scalars),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
