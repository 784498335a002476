/* SPDX-License-Identifier: Apache-2.0 */
/* Named network namespaces for a unit test. */
#ifndef WEFT_TESTS_LIB_NETNS_H
#define WEFT_TESTS_LIB_NETNS_H

#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

/*
 * All in a mount namespace of its own with a tmpfs on /run/netns, so that
 * neither the machine's namespaces nor this test's are seen by the other.
 */

static inline ino_t inode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* Makes a network namespace bound to /run/netns/NAME; this thread stays where it is. Its inode. */
static inline ino_t make_netns(const char *name)
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

static inline int netns_setup(void **state)
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

static inline int netns_teardown(void **state)
{
	(void)state;
	return geteuid() == 0 ? umount2("/run/netns", MNT_DETACH) : 0;
}

static inline void need_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("skipped: making namespaces needs root\n");
	skip();
}

#endif
