/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>

#include "base/addr.h"
#include "base/cleanup.h"

static void one_form_for_both_families(void **state)
{
	static const char *const same[] = { "10.1.2.3", "0.0.0.0", "255.255.255.255", "fd00::1", "::", "::1", "2001:db8::8:800:200c:417a" };
	char text[WEFT_ADDR_TEXT];
	struct weft_addr addr, mapped;

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(same); i++) {
		assert_int_equal(weft_addr_parse(same[i], &addr), 0);
		assert_string_equal(weft_addr_format(&addr, text), same[i]);
	}
	assert_int_equal(weft_addr_parse("10.1.2.3", &addr), 0);
	assert_int_equal(weft_addr_parse("::ffff:10.1.2.3", &mapped), 0);
	assert_int_equal(weft_addr_compare(&addr, &mapped), 0);
	assert_true(weft_addr_is_v4(&mapped));
}

static void no_address_is_refused_and_output_untouched(void **state)
{
	static const char *const bad[] = { "", "10.1.2", "10.1.2.3.4", "010.1.2.3", "10.1.2.256", " 10.1.2.3", "10.1.2.3 ", "fe80::1%eth0", "web", "1:2", "[::1]" };
	struct weft_addr addr = { { 1, 2, 3, 4 } }, before = addr;

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++) {
		assert_int_equal(weft_addr_parse(bad[i], &addr), -EINVAL);
		assert_memory_equal(&addr, &before, sizeof(addr));
	}
}

static void cidrs(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint32_t bits;
	} cases[] = {
		{ "10.0.0.0/8", 0, 104 },  { "10.0.0.1", 0, 128 },      { "0.0.0.0/0", 0, 96 },	  { "fd00::/8", 0, 8 },
		{ "::/0", 0, 0 },	   { "fd00::1/128", 0, 128 },	{ "10.0.0.1/8", -EINVAL, 0 }, { "10.0.0.0/33", -EINVAL, 0 },
		{ "fd00::/129", -EINVAL, 0 }, { "10.0.0.0/", -EINVAL, 0 }, { "10.0.0.0/+8", -EINVAL, 0 }, { "10.0.0.0/8x", -EINVAL, 0 },
		{ "10.0.0.0/4294967304", -EINVAL, 0 },
	};
	struct weft_cidr cidr;
	struct weft_addr addr;

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(cases); i++) {
		assert_int_equal(weft_cidr_parse(cases[i].text, &cidr), cases[i].result);
		if (cases[i].result == 0)
			assert_int_equal(cidr.bits, cases[i].bits);
	}
	assert_int_equal(weft_cidr_parse("10.4.0.0/14", &cidr), 0);
	assert_int_equal(weft_addr_parse("10.7.255.255", &addr), 0);
	assert_true(weft_cidr_contains(&cidr, &addr));
	assert_int_equal(weft_addr_parse("10.8.0.0", &addr), 0);
	assert_false(weft_cidr_contains(&cidr, &addr));
	assert_int_equal(weft_cidr_parse("::/0", &cidr), 0);
	assert_true(weft_cidr_contains(&cidr, &addr));
	assert_int_equal(weft_cidr_parse("10.8.0.0", &cidr), 0);
	assert_true(weft_cidr_contains(&cidr, &addr));
}

static void addresses_with_ports(void **state)
{
	static const char *const bad[] = { "10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1", "fd00::1:80", "[fd00::1:80", "[10.0.0.1]:80", "[]:80", ":80", "web:80" };
	char text[WEFT_ADDR_TEXT];
	struct weft_addr addr;
	uint16_t port;

	(void)state;
	assert_int_equal(weft_addr_port_parse("10.0.0.1:80", &addr, &port), 0);
	assert_string_equal(weft_addr_port_format(&addr, port, text), "10.0.0.1:80");
	assert_int_equal(weft_addr_port_parse("[fd00::1]:65535", &addr, &port), 0);
	assert_string_equal(weft_addr_port_format(&addr, port, text), "[fd00::1]:65535");
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++)
		assert_int_equal(weft_addr_port_parse(bad[i], &addr, &port), -EINVAL);
}

static void kinds_of_address(void **state)
{
	static const struct {
		const char *text;
		bool any, loopback, link_local, multicast;
	} cases[] = {
		{ "0.0.0.0", true, false, false, false },    { "::", true, false, false, false },
		{ "127.0.0.1", false, true, false, false },  { "127.255.0.9", false, true, false, false },
		{ "::1", false, true, false, false },	     { "169.254.169.254", false, false, true, false },
		{ "fe80::1", false, false, true, false },    { "febf::1", false, false, true, false },
		{ "fec0::1", false, false, false, false },   { "224.0.0.1", false, false, false, true },
		{ "239.1.1.1", false, false, false, true },  { "ff02::1", false, false, false, true },
		{ "128.0.0.1", false, false, false, false }, { "10.0.0.1", false, false, false, false },
	};
	struct weft_addr addr;

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(cases); i++) {
		assert_int_equal(weft_addr_parse(cases[i].text, &addr), 0);
		assert_int_equal(weft_addr_is_any(&addr), cases[i].any);
		assert_int_equal(weft_addr_is_loopback(&addr), cases[i].loopback);
		assert_int_equal(weft_addr_is_link_local(&addr), cases[i].link_local);
		assert_int_equal(weft_addr_is_multicast(&addr), cases[i].multicast);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_form_for_both_families),
		cmocka_unit_test(no_address_is_refused_and_output_untouched),
		cmocka_unit_test(cidrs),
		cmocka_unit_test(addresses_with_ports),
		cmocka_unit_test(kinds_of_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
