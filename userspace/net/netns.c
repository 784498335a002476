/* SPDX-License-Identifier: Apache-2.0 */
#include "net/netns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/netns_cookie.h"

#define NAMES_DIR "/run/netns"
#define PID_PREFIX "pid:"

static bool is_netns(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

static int open_below(int dir, const char *name)
{
	weft_close_on_exit int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return errno == ELOOP ? -EINVAL : -errno;
	return is_netns(fd) ? weft_take_fd(fd) : -EINVAL;
}

bool weft_netns_is_pid(const char *name)
{
	return strncmp(name, PID_PREFIX, strlen(PID_PREFIX)) == 0;
}

static int open_of_process(const char *name, struct weft_err *err)
{
	const char *number = name + strlen(PID_PREFIX);
	weft_close_on_exit int fd = -1;
	char path[64];

	if (!*number || number[strspn(number, "0123456789")] || strlen(number) > 10 || *number == '0')
		return weft_err_set(err, EINVAL, "\"%s\" names no process: give " PID_PREFIX "NUMBER", name);
	snprintf(path, sizeof(path), "/proc/%s/ns/net", number);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == EACCES)
		return weft_err_set(err, EACCES,
				    "cannot open %s: %m; weftd needs CAP_SYS_PTRACE for that, or give the namespace a name in " NAMES_DIR, path);
	if (fd < 0)
		return weft_err_set(err, errno, "cannot open %s: %m", path);
	return is_netns(fd) ? weft_take_fd(fd) : weft_err_set(err, EINVAL, "%s is not a network namespace", path);
}

int weft_netns_open(const char *name, struct weft_err *err)
{
	weft_close_on_exit int dir = -1;
	int fd;

	if (weft_netns_is_pid(name))
		return open_of_process(name, err);
	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return weft_err_set(err, EINVAL,
				    "\"%s\" is not the name of a network namespace: give a file name of " NAMES_DIR,
				    name);
	dir = open(NAMES_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dir < 0 ? -errno : open_below(dir, name);
	if (fd == -EINVAL)
		return weft_err_set(err, EINVAL, NAMES_DIR "/%s is not a network namespace", name);
	if (fd < 0)
		return weft_err_set(err, fd, "cannot open the network namespace " NAMES_DIR "/%s: %m", name);
	return fd;
}

int weft_netns_open_self(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int weft_netns_of_socket(int sock)
{
	int fd = ioctl(sock, SIOCGSKNS);

	return fd < 0 ? -errno : fd;
}

bool weft_netns_same(int a, int b)
{
	struct stat left, right;

	return fstat(a, &left) == 0 && fstat(b, &right) == 0 && left.st_dev == right.st_dev && left.st_ino == right.st_ino;
}

int weft_netns_inode(int netns, ino_t *ret_inode)
{
	struct stat st;

	if (fstat(netns, &st) < 0)
		return -errno;
	*ret_inode = st.st_ino;
	return 0;
}

int weft_netns_run(int netns, int (*work)(void *context), void *context)
{
	weft_close_on_exit int self = weft_netns_open_self();
	int r;

	if (self < 0)
		return self;
	if (setns(netns, CLONE_NEWNET) < 0)
		return -errno;
	r = work(context);
	if (setns(self, CLONE_NEWNET) < 0)
		abort();
	return r;
}

static int ask_cookie(void *context)
{
	int r = weft_netns_cookie_here(context);

	return r == -ENOPROTOOPT ? -EOPNOTSUPP : r;
}

int weft_netns_cookie(int netns, uint64_t *ret_cookie)
{
	return weft_netns_run(netns, ask_cookie, ret_cookie);
}

struct fd_list {
	int *fds;
	size_t count;
	size_t room;
};

static void close_list(struct fd_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		close(list->fds[i]);
	free(list->fds);
}

/* Takes the descriptor over, also on failure. */
static int add(struct fd_list *list, int fd)
{
	int r = weft_grow(&list->fds, &list->room, list->count + 1, sizeof(*list->fds));

	if (r < 0) {
		close(fd);
		return r;
	}
	list->fds[list->count++] = fd;
	return 0;
}

int weft_netns_open_all(int **ret_fds, size_t *ret_count)
{
	weft_cleanup(close_list) struct fd_list list = { 0 };
	weft_closedir_on_exit DIR *dir = NULL;
	struct dirent *entry;
	int fd = weft_netns_open_self(), r;

	if (fd < 0)
		return fd;
	r = add(&list, fd);
	if (r < 0)
		return r;
	dir = opendir(NAMES_DIR);
	if (!dir && errno != ENOENT)
		return -errno;
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		fd = open_below(dirfd(dir), entry->d_name);
		/* Removed meanwhile, or a file that is none: others may be there all the same. */
		if (fd == -ENOENT || fd == -EINVAL || fd == -EACCES)
			continue;
		if (fd < 0)
			return fd;
		r = add(&list, fd);
		if (r < 0)
			return r;
	}
	*ret_fds = list.fds;
	*ret_count = list.count;
	list = (struct fd_list){ 0 };
	return 0;
}
