/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "net/netns.h"

/*
 * All in a mount namespace of its own with a tmpfs on /run/netns, so that
 * neither the machine's namespaces nor this test's are seen by the other.
 */

static ino_t inode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* Makes a network namespace bound to /run/netns/NAME; this thread stays where it is. Its inode. */
static ino_t make_netns(const char *name)
{
	weft_close_on_exit int self = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	weft_close_on_exit int file = -1;
	char path[256];
	ino_t inode;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	file = open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0444);
	assert_true(self >= 0 && file >= 0);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	inode = inode_of("/proc/thread-self/ns/net");
	assert_int_equal(mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL), 0);
	assert_int_equal(setns(self, CLONE_NEWNET), 0);
	return inode;
}

static int setup(void **state)
{
	(void)state;
	if (geteuid() != 0)
		return 0;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	if (mkdir("/run/netns", 0755) < 0 && errno != EEXIST)
		return -1;
	return mount("tmpfs", "/run/netns", "tmpfs", 0, NULL);
}

static int teardown(void **state)
{
	(void)state;
	return geteuid() == 0 ? umount2("/run/netns", MNT_DETACH) : 0;
}

static void need_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("skipped: making namespaces needs root\n");
	skip();
}

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

static int where_am_i(void *context)
{
	*(ino_t *)context = inode_of("/proc/thread-self/ns/net");
	return 42;
}

static void work_is_done_inside_and_the_thread_comes_back(void **state)
{
	weft_close_on_exit int fd = -1;
	ino_t home, there = 0, inode;

	(void)state;
	need_root();
	home = inode_of("/proc/thread-self/ns/net");
	inode = make_netns("inside");
	fd = weft_netns_open("inside", NULL);
	assert_true(fd >= 0);
	assert_int_equal(weft_netns_run(fd, where_am_i, &there), 42);
	assert_int_equal(there, inode);
	assert_int_equal(inode_of("/proc/thread-self/ns/net"), home);

	there = 0;
	assert_true(weft_netns_run(STDIN_FILENO, where_am_i, &there) < 0);
	assert_int_equal(there, 0);
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

static void all_are_opened_this_one_first(void **state)
{
	weft_free_on_exit int *fds = NULL;
	size_t count = 0, found = 0;
	ino_t first, second, got;

	(void)state;
	need_root();
	first = make_netns("one");
	second = make_netns("two");
	close(open("/run/netns/no-netns", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(weft_netns_open_all(&fds, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(weft_netns_inode(fds[0], &got), 0);
	assert_int_equal(got, inode_of("/proc/thread-self/ns/net"));
	for (size_t i = 1; i < count; i++) {
		assert_int_equal(weft_netns_inode(fds[i], &got), 0);
		found += got == first || got == second;
	}
	assert_int_equal(found, 2);
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_that_is_a_path_is_refused),
		cmocka_unit_test_setup_teardown(only_a_network_namespace_opens, setup, teardown),
		cmocka_unit_test_setup_teardown(work_is_done_inside_and_the_thread_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(cookies_tell_namespaces_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(all_are_opened_this_one_first, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
