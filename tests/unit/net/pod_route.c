/* SPDX-License-Identifier: Apache-2.0 */
/* In network namespaces of its own: what is put into a pod's, what is found there, and that nothing of it stays. */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "net/netns.h"
#include "net/pod_route.h"

#define SYSCTL "/proc/sys/net/ipv4/tcp_fwmark_accept"

static int home = -1;

static int set_up(void **unused)
{
	(void)unused;
	if (geteuid() != 0)
		return 0;
	home = weft_netns_open_self();
	if (home < 0 || unshare(CLONE_NEWNET) < 0)
		return -1;
	return system("ip link set lo up && ip link add eth0 type bridge && ip link set eth0 up") == 0 ? 0 : -1;
}

static int tear_down(void **unused)
{
	(void)unused;
	if (home < 0)
		return 0;
	if (setns(home, CLONE_NEWNET) < 0)
		return -1;
	weft_closep(&home);
	home = -1;
	return 0;
}

static void need_root(void)
{
	if (home < 0)
		skip();
}

/* All that this library may change, as text; the caller's. */
static char *seen(void)
{
	char *text = calloc(1, 65536);
	FILE *out = popen("cat " SYSCTL "; ip rule; ip -6 rule; ip route show table 15008 2>/dev/null; ip -6 route show table 15008 2>/dev/null; "
			  "ip route; ip -6 route", "r");

	assert_non_null(text);
	assert_non_null(out);
	assert_true(fread(text, 1, 65535, out) > 0);
	pclose(out);
	return text;
}

static void set_sysctl(const char *value)
{
	weft_close_on_exit int fd = open(SYSCTL, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0 && write(fd, value, 1) == 1);
}

static void there_and_back(const char *sysctl, bool v6)
{
	weft_free_on_exit char *before = NULL, *during = NULL, *again = NULL, *after = NULL;
	struct weft_err err = { "" };

	set_sysctl(sysctl);
	before = seen();
	assert_int_equal(before[0], *sysctl);
	if (weft_pod_route_add(v6, &err) < 0)
		fail_msg("%s", err.text);
	during = seen();
	assert_int_equal(during[0], '1');
	assert_non_null(strstr(during, "fwmark 0x77656674 lookup 15008"));
	assert_non_null(strstr(during, "local default dev lo"));
	assert_int_equal(weft_pod_route_add(v6, &err), 0);
	again = seen();
	assert_string_equal(again, during);
	assert_int_equal(weft_pod_route_remove(&err), 0);
	after = seen();
	assert_string_equal(after, before);
	assert_int_equal(weft_pod_route_remove(&err), 0);
}

static void test_nothing_stays(void **unused)
{
	(void)unused;
	need_root();
	there_and_back("0", true);
	there_and_back("0", false);
	there_and_back("1", true);
}

static void test_half_of_it(void **unused)
{
	weft_free_on_exit char *before = NULL, *after = NULL;
	struct weft_err err = { "" };

	(void)unused;
	need_root();
	set_sysctl("0");
	before = seen();
	assert_int_equal(weft_pod_route_add(true, &err), 0);
	assert_int_equal(system("ip rule del pref 15008"), 0);
	assert_int_equal(weft_pod_route_add(true, &err), 0);
	assert_int_equal(system("ip rule | grep -q 15008"), 0);
	assert_int_equal(system("ip -6 rule del pref 15008 && ip -6 route flush table 15008"), 0);
	assert_int_equal(weft_pod_route_remove(&err), 0);
	after = seen();
	assert_string_equal(after, before);
}

static void test_lo_is_down(void **unused)
{
	weft_free_on_exit char *before = NULL, *after = NULL;
	struct weft_err err = { "" };

	(void)unused;
	need_root();
	set_sysctl("0");
	assert_int_equal(system("ip link set lo down"), 0);
	before = seen();
	assert_true(weft_pod_route_add(true, &err) < 0);
	assert_non_null(strstr(err.text, "is its lo up?"));
	after = seen();
	assert_string_equal(after, before);
}

static void test_a_route_of_another(void **unused)
{
	weft_free_on_exit char *before = NULL, *after = NULL;
	struct weft_err err = { "" };

	(void)unused;
	need_root();
	set_sysctl("0");
	assert_int_equal(system("ip route add local 192.0.2.0/24 dev lo table 15008"), 0);
	before = seen();
	assert_int_equal(weft_pod_route_add(false, &err), 0);
	assert_int_equal(weft_pod_route_remove(&err), 0);
	after = seen();
	assert_string_equal(after, before);
}

/* All but one. */
static bool is_its(void *context, const struct weft_addr *addr)
{
	char text[WEFT_ADDR_TEXT];

	return strcmp(weft_addr_format(addr, text), context) != 0;
}

static void test_addresses(void **unused)
{
	struct weft_addr addr[2];
	struct weft_err err = { "" };
	char text[WEFT_ADDR_TEXT];

	(void)unused;
	need_root();
	assert_int_equal(weft_pod_addresses(is_its, (void *)"10.1.2.99", addr, &err), -EADDRNOTAVAIL);
	assert_int_equal(system("ip addr add 192.0.2.9/32 dev lo && ip addr add 169.254.7.7/16 scope link dev eth0"), 0);
	assert_int_equal(weft_pod_addresses(is_its, (void *)"10.1.2.99", addr, &err), -EADDRNOTAVAIL);
	assert_int_equal(system("ip addr add 10.1.2.99/24 dev eth0"), 0);
	assert_int_equal(weft_pod_addresses(is_its, (void *)"10.1.2.99", addr, &err), -EADDRNOTAVAIL);
	assert_int_equal(system("ip addr add 10.1.2.3/32 dev eth0 && ip addr add 10.1.2.4/32 dev eth0"), 0);
	assert_int_equal(weft_pod_addresses(is_its, (void *)"10.1.2.99", addr, &err), 0);
	assert_string_equal(weft_addr_format(&addr[0], text), "10.1.2.3");
	assert_string_equal(weft_addr_format(&addr[1], text), "::");
	assert_int_equal(system("ip addr add fd12::5/64 dev eth0 nodad"), 0);
	assert_int_equal(weft_pod_addresses(is_its, (void *)"10.1.2.99", addr, &err), 0);
	assert_string_equal(weft_addr_format(&addr[1], text), "fd12::5");
}

static void test_names_of_processes(void **unused)
{
	static const char *const wrong[] = { "pid:", "pid:x", "pid:0", "pid:-1", "pid:1/../1", "pid:99999999999", "pid: 1" };
	struct weft_err err = { "" };
	char name[32];
	int fd, self;

	(void)unused;
	need_root();
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(wrong); i++)
		assert_int_equal(weft_netns_open(wrong[i], &err), -EINVAL);
	snprintf(name, sizeof(name), "pid:%d", (int)getpid());
	fd = weft_netns_open(name, &err);
	self = weft_netns_open_self();
	assert_true(fd >= 0 && self >= 0);
	assert_true(weft_netns_same(fd, self));
	assert_false(weft_netns_same(fd, home));
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0 && setns(home, CLONE_NEWNET) == 0);
	close(self);
	self = weft_netns_of_socket(fd);
	assert_true(self >= 0);
	assert_false(weft_netns_same(self, home));
	close(fd);
	close(self);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_half_of_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lo_is_down, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_route_of_another, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_addresses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_names_of_processes, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
