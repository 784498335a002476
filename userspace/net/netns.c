/* SPDX-License-Identifier: Apache-2.0 */
#include "net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/netns_cookie.h"

#define PID_PREFIX "pid:"

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
				    "cannot open %s: %m; weftd needs CAP_SYS_PTRACE for that, or give the namespace a name in " WEFT_NETNS_DIR, path);
	if (fd < 0)
		return weft_err_set(err, errno, "cannot open %s: %m", path);
	return weft_netns_is(fd) ? weft_take_fd(fd) : weft_err_set(err, EINVAL, "%s is not a network namespace", path);
}

int weft_netns_open(const char *name, struct weft_err *err)
{
	weft_close_on_exit int dir = -1;
	int fd;

	if (weft_netns_is_pid(name))
		return open_of_process(name, err);
	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return weft_err_set(err, EINVAL,
				    "\"%s\" is not the name of a network namespace: give a file name of " WEFT_NETNS_DIR,
				    name);
	dir = open(WEFT_NETNS_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dir < 0 ? -errno : weft_netns_open_at(dir, name);
	if (fd == -EINVAL)
		return weft_err_set(err, EINVAL, WEFT_NETNS_DIR "/%s is not a network namespace", name);
	if (fd < 0)
		return weft_err_set(err, fd, "cannot open the network namespace " WEFT_NETNS_DIR "/%s: %m", name);
	return fd;
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

static int ask_cookie(void *context)
{
	int r = weft_netns_cookie_here(context);

	return r == -ENOPROTOOPT ? -EOPNOTSUPP : r;
}

int weft_netns_cookie(int netns, uint64_t *ret_cookie)
{
	return weft_netns_run(netns, ask_cookie, ret_cookie);
}
