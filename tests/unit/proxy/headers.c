/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>

#include "base/cleanup.h"
#include "proxy/headers.h"
#include "weft/abi/proxy.h"

static void authorities(void **state)
{
	static const struct {
		const char *text, *addr, *host;
		uint16_t port;
	} good[] = {
		{ "10.0.0.1:80", "10.0.0.1", "", 80 },
		{ "[fd00::1]:65535", "fd00::1", "", 65535 },
		{ "[::ffff:10.0.0.1]:1", "10.0.0.1", "", 1 },
		{ "web.shop.svc.cluster.local:8080", NULL, "web.shop.svc.cluster.local", 8080 },
		{ "Web.Shop:80", NULL, "web.shop", 80 },
		{ "web-1:80", NULL, "web-1", 80 },
		{ "a_b-c.d:80", NULL, "a_b-c.d", 80 },
	};
	static const struct {
		const char *text, *said;
	} bad[] = {
		{ "", "no authority" },
		{ ":80", "neither" },
		{ "10.0.0.1", "no port" },
		{ "10.0.0.1:", "a port that is none" },
		{ "10.0.0.1:0", "a port that is none" },
		{ "10.0.0.1:65536", "a port that is none" },
		{ "10.0.0.1:080", "a port that is none" },
		{ "10.0.0.1:+80", "a port that is none" },
		{ "10.0.0.1:80 ", "a port that is none" },
		{ "10.0.0.1:80:80", "a port that is none" },
		{ "10.0.0.1:99999999999999999999", "a port that is none" },
		{ "user@10.0.0.1:80", "userinfo" },
		{ "user:pass@10.0.0.1:80", "userinfo" },
		{ "10.0.0.1:80@10.0.0.2:80", "userinfo" },
		{ "fd00::1:80", "a port that is none" },
		{ "[fd00::1]", "no port" },
		{ "[fd00::1]80", "no port" },
		{ "[fd00::1:80", "no IPv6 address" },
		{ "[10.0.0.1]:80", "no IPv6 address" },
		{ "[fe80::1%eth0]:80", "no IPv6 address" },
		{ "[]:80", "no IPv6 address" },
		{ "010.0.0.1:80", "neither" },
		{ "10.0.0:80", "neither" },
		{ "0x7f000001:80", "neither" },
		{ "a.0x7f:80", "neither" },
		{ "2130706433:80", "neither" },
		{ "10.0.0.1,10.0.0.2:80", "neither" },
		{ " 10.0.0.1:80", "neither" },
		{ "http://10.0.0.1:80", "a port that is none" },
		{ "10.0.0.1:80/path", "a port that is none" },
		{ "-a.b:80", "neither" },
		{ "a-:80", "neither" },
		{ "a..b:80", "neither" },
		{ "a.b.:80", "neither" },
		{ "a%2eb:80", "neither" },
	};
	char text[WEFT_ADDR_TEXT], lengthy[WEFT_HOST_MAX + 8];

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(good); i++) {
		struct weft_authority got;

		assert_int_equal(weft_authority_parse(good[i].text, &got, NULL), 0);
		assert_int_equal(got.named, !good[i].addr);
		if (good[i].addr)
			assert_string_equal(weft_addr_format(&got.addr, text), good[i].addr);
		assert_string_equal(got.host, good[i].host);
		assert_int_equal(got.port, good[i].port);
	}
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++) {
		struct weft_authority got = { .port = 7 };
		struct weft_err err = { "" };

		assert_int_equal(weft_authority_parse(bad[i].text, &got, &err), -EINVAL);
		assert_contains(err.text, bad[i].said);
		assert_int_equal(got.port, 7);
	}
	for (size_t size = WEFT_HOST_MAX; size <= WEFT_HOST_MAX + 1; size++) {
		struct weft_authority got;

		memset(lengthy, 'a', size);
		strcpy(lengthy + size, ":80");
		assert_int_equal(weft_authority_parse(lengthy, &got, NULL), size > WEFT_HOST_MAX ? -EINVAL : 0);
	}
}

static void ports_of_the_agent(void **state)
{
	(void)state;
	assert_true(WEFT_PORT_IS_AGENTS(15001));
	assert_true(WEFT_PORT_IS_AGENTS(15006));
	assert_true(WEFT_PORT_IS_AGENTS(15008));
	assert_true(WEFT_PORT_IS_AGENTS(15080));
	assert_false(WEFT_PORT_IS_AGENTS(15053));
	assert_false(WEFT_PORT_IS_AGENTS(80));
}

static void forwarded(void **state)
{
	static const struct {
		const char *text, *addr, *host;
		uint16_t port;
	} good[] = {
		{ "for=\"10.0.0.1:40000\"", "10.0.0.1", "", 40000 },
		{ "for=\"10.0.0.1:40000\";host=web.shop.svc.cluster.local", "10.0.0.1", "web.shop.svc.cluster.local", 40000 },
		{ "for=\"[fd00::1]:40000\";host=web", "fd00::1", "web", 40000 },
		{ "For=10.0.0.1;Proto=http;By=203.0.113.43", "10.0.0.1", "", 0 },
		{ "for=\"10.0.0.1:1\", for=\"10.0.0.2:2\"", "10.0.0.1", "", 1 },
		{ "host=\"web:80\" ; for=\"[fd00::1]\"", "fd00::1", "web", 0 },
		{ "for=\"10.0.0.1:_hidden\"", "10.0.0.1", "", 0 },
		{ "for=unknown", NULL, "", 0 },
		{ "for=_SEVKISEK", NULL, "", 0 },
		{ "proto=http", NULL, "", 0 },
		{ "for=\"\\10.0.0.1\"", "10.0.0.1", "", 0 },
	};
	static const char *const bad[] = {
		"",	    "for",	     "for=",		      "for=\"10.0.0.1",		   "for=10.0.0.1:80",	     "for=\"10.0.0.1:0\"",
		"for=\"fd00::1\"", "for=\"10.0.0.1:70000\"", "for=\"10.0.0.1\";for=\"10.0.0.2\"", "for=\"10.0.0.1\";", ";for=\"10.0.0.1\"", "for=\"10.0.0.1\" x",
		"for=web",  "\"for\"=\"10.0.0.1\"", "host=\"a b\"", "host=a;host=b", "for=\"10.0.0.1\\", "for = \"10.0.0.1\"", "for=\"[fd00::1]x\"",
	};
	char text[WEFT_FORWARDED_TEXT], host[WEFT_HOST_MAX + 1];
	struct weft_addr addr;

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(good); i++) {
		struct weft_forwarded got;

		assert_int_equal(weft_forwarded_parse(good[i].text, &got), 0);
		assert_int_equal(got.known, good[i].addr != NULL);
		if (good[i].addr)
			assert_string_equal(weft_addr_format(&got.addr, text), good[i].addr);
		assert_int_equal(got.port, good[i].port);
		assert_string_equal(got.host, good[i].host);
	}
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++) {
		struct weft_forwarded got = { .port = 7 };

		assert_int_equal(weft_forwarded_parse(bad[i], &got), -EINVAL);
		assert_int_equal(got.port, 7);
	}
	/* What we write is ztunnel's syntax, and the longest fits. */
	assert_int_equal(weft_addr_parse("10.0.0.1", &addr), 0);
	assert_string_equal(weft_forwarded_print(&addr, 40000, "", text), "for=\"10.0.0.1:40000\"");
	assert_int_equal(weft_addr_parse("fd00:1111:2222:3333:4444:5555:6666:7777", &addr), 0);
	memset(host, 'a', WEFT_HOST_MAX);
	host[WEFT_HOST_MAX] = '\0';
	weft_forwarded_print(&addr, 65535, host, text);
	assert_memory_equal(text, "for=\"[fd00:1111:2222:3333:4444:5555:6666:7777]:65535\";host=aaa", 62);
	assert_string_equal(strrchr(text, '=') + 1, host);
}

static void baggage(void **state)
{
	weft_buf_done_on_exit struct weft_buf out = WEFT_BUF_INIT;
	struct weft_mesh_workload workload = {
		.namespace = "shop", .name = "cart-1", .owner = "cart", .owner_kind = "deployment", .app = "cart", .version = "", .region = "eu", .zone = "eu-1,a%",
		.cluster = "Kubernetes", .identity = "", .trust_domain = "", .service_account = "",
	};

	(void)state;
	assert_int_equal(weft_baggage_print(&workload, &out), 0);
	assert_string_equal(out.data, "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,"
				      "cloud.region=eu,cloud.availability_zone=eu-1%2Ca%25");
}

static void traceparents(void **state)
{
	static const char *const bad[] = {
		"",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
		"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
	};
	uint8_t random[WEFT_TRACEPARENT_RANDOM] = { 0 };
	char text[WEFT_TRACEPARENT_TEXT];

	(void)state;
	assert_true(weft_traceparent_valid("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++)
		assert_false(weft_traceparent_valid(bad[i]));
	assert_string_equal(weft_traceparent_print(random, text), "00-00000000000000000000000000000001-0000000000000001-00");
	assert_true(weft_traceparent_valid(text));
	memset(random, 0xab, sizeof(random));
	assert_true(weft_traceparent_valid(weft_traceparent_print(random, text)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(authorities), cmocka_unit_test(ports_of_the_agent), cmocka_unit_test(forwarded),
		cmocka_unit_test(baggage),     cmocka_unit_test(traceparents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
