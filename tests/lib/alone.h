/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests whose names are the machine's: a cgroup, a folder of /run. The names derive from the test and are always the
 * same, so that what a killed run left is found and removed; and two runs at once, of two builds, wait for each other.
 */
#ifndef WEFT_TESTS_ALONE_H
#define WEFT_TESTS_ALONE_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static inline void alone_path(const char *test, char path[static 128])
{
	snprintf(path, 128, "/run/%s.lock", test);
}

/* Waits until no other process runs this test. -1, or a descriptor for alone_end(); a killed process lets go by itself. */
static inline int alone_begin(const char *test)
{
	struct stat ours, there;
	char path[128];

	alone_path(test, path);
	for (;;) {
		int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd < 0 || flock(fd, LOCK_EX) < 0)
			return -1;
		/* Whoever had it may have removed it while we waited: then it keeps nobody out. */
		if (fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino)
			return fd;
		close(fd);
	}
}

static inline void alone_end(const char *test, int fd)
{
	char path[128];

	alone_path(test, path);
	unlink(path);
	close(fd);
}

#endif
