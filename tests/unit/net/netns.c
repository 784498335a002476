/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "lib/netns.h"
#include "net/netns.h"

static void a_name_that_is_a_path_is_refused(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "/run/netns/a", "../self" };

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++) {
		struct weft_err err = { "" };

		assert_int_equal(weft_netns_open(bad[i], &err), -EINVAL);
		assert_contains(err.text, bad[i]);
	}
}

static void only_a_network_namespace_opens(void **state)
{
	weft_close_on_exit int fd = -1;
	struct weft_err err = { "" };
	ino_t inode, got = 0;

	(void)state;
	need_root();
	inode = make_netns("good");
	fd = weft_netns_open("good", &err);
	assert_true(fd >= 0);
	assert_int_equal(weft_netns_inode(fd, &got), 0);
	assert_int_equal(got, inode);
	assert_int_not_equal(got, inode_of("/proc/thread-self/ns/net"));

	assert_int_equal(weft_netns_open("missing", &err), -ENOENT);
	assert_contains(err.text, "/run/netns/missing");
	close(open("/run/netns/plain", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(weft_netns_open("plain", &err), -EINVAL);
	assert_int_equal(symlink("good", "/run/netns/link"), 0);
	assert_int_equal(weft_netns_open("link", &err), -EINVAL);
	assert_int_equal(mkfifo("/run/netns/fifo", 0600), 0);
	assert_int_equal(weft_netns_open("fifo", &err), -EINVAL);
	/* A namespace of another kind. */
	close(open("/run/netns/mnt", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(mount("/proc/self/ns/uts", "/run/netns/mnt", NULL, MS_BIND, NULL), 0);
	assert_int_equal(weft_netns_open("mnt", &err), -EINVAL);
}

static void cookies_tell_namespaces_apart(void **state)
{
	weft_close_on_exit int self = weft_netns_open_self(), fd = -1;
	uint64_t mine = 0, again = 0, theirs = 0;
	int r;

	(void)state;
	need_root();
	make_netns("cookie");
	fd = weft_netns_open("cookie", NULL);
	assert_true(self >= 0 && fd >= 0);
	r = weft_netns_cookie(self, &mine);
	if (r == -EOPNOTSUPP) {
		print_message("skipped: SO_NETNS_COOKIE needs Linux 5.14\n");
		skip();
	}
	assert_int_equal(r, 0);
	assert_int_equal(weft_netns_cookie(self, &again), 0);
	assert_int_equal(weft_netns_cookie(fd, &theirs), 0);
	assert_true(mine != 0 && theirs != 0);
	assert_int_equal(mine, again);
	assert_int_not_equal(mine, theirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_that_is_a_path_is_refused),
		cmocka_unit_test_setup_teardown(only_a_network_namespace_opens, netns_setup, netns_teardown),
		cmocka_unit_test_setup_teardown(cookies_tell_namespaces_apart, netns_setup, netns_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
