/* SPDX-License-Identifier: Apache-2.0 */
#include "base/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/buf.h"

/* PROC_PID_INIT_INO of the kernel's include/linux/proc_ns.h: what /proc/self/ns/pid is in the machine's own PID namespace. */
#define PID_NAMESPACE_OF_MACHINE 0xeffffffcu

bool weft_netns_is(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

int weft_netns_open_at(int dir, const char *name)
{
	weft_close_on_exit int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return errno == ELOOP ? -EINVAL : -errno;
	return weft_netns_is(fd) ? weft_take_fd(fd) : -EINVAL;
}

int weft_netns_open_self(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
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

static bool has(const struct weft_netns_list *list, ino_t inode)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->netns[i].inode == inode)
			return true;
	return false;
}

int weft_netns_list_add(struct weft_netns_list *list, int fd)
{
	weft_close_on_exit int mine = fd;
	ino_t inode;
	int r = weft_netns_inode(fd, &inode);

	if (r < 0 || has(list, inode))
		return r;
	r = weft_grow(&list->netns, &list->room, list->count + 1, sizeof(*list->netns));
	if (r < 0)
		return r;
	list->netns[list->count++] = (struct weft_netns){ .fd = weft_take_fd(mine), .inode = inode };
	return 0;
}

int weft_netns_list_named(struct weft_netns_list *list)
{
	weft_closedir_on_exit DIR *dir = NULL;
	struct dirent *entry;
	int fd = weft_netns_open_self(), r = fd < 0 ? fd : weft_netns_list_add(list, fd);

	if (r < 0)
		return r;
	dir = opendir(WEFT_NETNS_DIR);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		fd = weft_netns_open_at(dirfd(dir), entry->d_name);
		/* Removed meanwhile, or a file that is none: others may be there all the same. */
		if (fd == -ENOENT || fd == -EINVAL || fd == -EACCES)
			continue;
		r = fd < 0 ? fd : weft_netns_list_add(list, fd);
	}
	return r;
}

int weft_netns_list_processes(struct weft_netns_list *list)
{
	weft_closedir_on_exit DIR *dir = opendir("/proc");
	struct dirent *entry;
	struct stat own;
	int r = 0;

	if (!dir)
		return -errno;
	list->enclosed = fstatat(dirfd(dir), "self/ns/pid", &own, 0) < 0 || own.st_ino != PID_NAMESPACE_OF_MACHINE;
	while (r == 0 && (entry = readdir(dir))) {
		char path[sizeof(entry->d_name) + sizeof("/ns/net")];
		struct stat st;
		int fd;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		stpcpy(stpcpy(path, entry->d_name), "/ns/net");
		/* Looked at before it is opened: most processes are in a namespace that is in the list. */
		if (fstatat(dirfd(dir), path, &st, 0) < 0) {
			list->hidden += errno == EACCES || errno == EPERM; /* else it has ended */
			continue;
		}
		if (has(list, st.st_ino))
			continue;
		fd = openat(dirfd(dir), path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			r = weft_netns_list_add(list, fd);
		else if (errno != ENOENT && errno != ESRCH)
			r = -errno;
	}
	return r;
}

int weft_netns_list_missing(const struct weft_netns_list *list, struct weft_err *err)
{
	if (list->hidden)
		return weft_err_set(err, EPERM,
				    "%zu processes may not be looked at, connections of network namespaces that only they are in are neither "
				    "shown nor counted: CAP_SYS_PTRACE is needed",
				    list->hidden);
	if (list->enclosed)
		return weft_err_set(err, EPERM,
				    "this is not the machine's PID namespace, connections of network namespaces that only processes outside "
				    "it are in are neither shown nor counted: run in the host's, or give them names in " WEFT_NETNS_DIR);
	return 0;
}

void weft_netns_list_done(struct weft_netns_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		close(list->netns[i].fd);
	free(list->netns);
	*list = WEFT_NETNS_LIST_INIT;
}
