/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/place.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "kernel/cgroup.h"

int weft_place_cgroup(struct weft_options *options, char *room, size_t size, struct weft_err *err)
{
	weft_close_on_exit int fd = -1;

	if (!options->cgroup) {
		if (weft_cgroup_mount(room, size) < 0)
			return weft_err_set(err, ENOENT,
					    "no cgroup2 is mounted and programs hang on one: mount -t cgroup2 none /sys/fs/cgroup/unified (any "
					    "empty directory will do) and put the pods there");
		options->cgroup = room;
	}
	fd = weft_cgroup_open(options->cgroup, err);
	return fd < 0 ? fd : 0;
}

static int take_user(const char *name, const struct passwd *entry, struct weft_user *ret_user, struct weft_err *err)
{
	if (entry->pw_uid == 0)
		return weft_err_set(err, ENOENT, "the user %s is root, who may not read what others write: name another with --user", name);
	*ret_user = (struct weft_user){ name, entry->pw_uid, entry->pw_gid };
	return 0;
}

int weft_place_user(const struct weft_options *options, enum weft_agent_role role, struct weft_user *ret_user, struct weft_err *err)
{
	const char *own = role == WEFT_AGENT_KEYS ? "weft-keys" : role == WEFT_AGENT_PROXY ? "weft-proxy" : NULL;
	const char *const names[] = { own, options->user ? options->user : "weft", options->user ? NULL : "nobody" };

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(names); i++) {
		const struct passwd *entry = names[i] ? getpwnam(names[i]) : NULL;

		if (entry)
			return take_user(names[i], entry, ret_user, err);
	}
	if (options->user)
		return weft_err_set(err, ENOENT, "there is no user %s: make it with useradd --system, or name another with --user",
				    options->user);
	return weft_err_set(err, ENOENT, "there is neither a user weft nor nobody: make one with useradd --system weft");
}

int weft_place_become(const struct weft_options *options, enum weft_agent_role role, struct weft_err *err)
{
	struct weft_user user;
	int r = weft_place_user(options, role, &user, err);

	if (r < 0)
		return r;
	capng_clear(CAPNG_SELECT_ALL);
	r = capng_change_id((int)user.uid, (int)user.gid, CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT);
	if (r < 0)
		return weft_err_set(err, EPERM, "cannot become the user %s (step %d of libcap-ng)", user.name, -r);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return weft_err_set(err, errno, "cannot set no_new_privs: %m");
	return 0;
}

static int make_folders(const char *path)
{
	char part[PATH_MAX];

	if (strlen(path) >= sizeof(part))
		return -ENAMETOOLONG;
	strcpy(part, path);
	for (char *slash = strchr(part + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
		if (!slash)
			return 0;
		*slash = '/';
	}
}

/* Takes `fd` over, also on failure. */
static int own_folder(int fd, const char *path, const struct weft_user *owner, mode_t mode, struct weft_err *err)
{
	weft_close_on_exit int mine = fd;
	struct stat st;

	if (fstat(mine, &st) < 0)
		return weft_err_set(err, errno, "cannot look at the folder %s: %m", path);
	/* /tmp itself, or a folder of another user, must not become ours by a slip of the option. */
	if (st.st_uid != 0 && st.st_uid != owner->uid)
		return weft_err_set(err, EPERM, "the folder %s belongs to uid %u and not to root or %s: name another or remove it", path,
				    st.st_uid, owner->name);
	if (st.st_mode & S_IWOTH)
		return weft_err_set(err, EPERM, "the folder %s may be written by everybody: name one that is only weft's", path);
	if (fchown(mine, owner->uid, owner->gid) < 0 || fchmod(mine, mode) < 0)
		return weft_err_set(err, errno, "cannot give the folder %s to %s: %m", path, owner->name);
	return weft_take_fd(mine);
}

int weft_place_folder(const char *path, const struct weft_user *owner, mode_t mode, struct weft_err *err)
{
	int r = make_folders(path), fd;

	if (r < 0)
		return weft_err_set(err, r, "cannot make the folder %s: %m", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return weft_err_set(err, errno, "cannot open the folder %s: %m", path);
	return own_folder(fd, path, owner, mode, err);
}

int weft_place_folder_in(int dir, const char *path, const char *name, const struct weft_user *owner, mode_t mode, struct weft_err *err)
{
	char whole[PATH_MAX];
	int fd;

	snprintf(whole, sizeof(whole), "%s/%s", path, name);
	if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return weft_err_set(err, errno, "cannot make the folder %s: %m", whole);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return weft_err_set(err, errno, "%s is not a folder that can be used: %m; remove it", whole);
	return own_folder(fd, whole, owner, mode, err);
}

/* Which process has the flock on this inode, by /proc/locks; 0 if it cannot be told. */
static pid_t lock_holder(int fd)
{
	weft_fclose_on_exit FILE *locks = fopen("/proc/locks", "re");
	char line[256];
	struct stat st;

	if (!locks || fstat(fd, &st) < 0)
		return 0;
	while (fgets(line, sizeof(line), locks)) {
		unsigned long long inode;
		unsigned int device_major, device_minor;
		int pid;

		/* A waiter has "->" behind its number and does not fit. */
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%llu", &pid, &device_major, &device_minor, &inode) == 4 &&
		    inode == st.st_ino && makedev(device_major, device_minor) == st.st_dev)
			return pid;
	}
	return 0;
}

int weft_place_lock(int fd, const char *path, struct weft_err *err)
{
	pid_t holder;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return weft_err_set(err, errno, "cannot lock %s: %m", path);
	holder = lock_holder(fd);
	if (holder > 0)
		return weft_err_set(err, EBUSY,
				    "another weftd, process %d, holds this instance by its lock on %s: stop it, or give this one other folders",
				    (int)holder, path);
	return weft_err_set(err, EBUSY, "another weftd holds this instance by its lock on %s: stop it, or give this one other folders",
			    path);
}

int weft_place_lock_state(int state, const char *path, struct weft_err *err)
{
	weft_close_on_exit int fd = openat(state, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	char name[PATH_MAX];
	struct stat st;
	int r;

	snprintf(name, sizeof(name), "%s/lock", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return weft_err_set(err, errno, "cannot open %s: %m", name);
	/* The folder is the unprivileged role's: a hard link or a fifo put there is not to be written to. */
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return weft_err_set(err, EINVAL, "%s is not a plain file: remove it", name);
	r = weft_place_lock(fd, name, err);
	if (r < 0)
		return r;
	if (ftruncate(fd, 0) < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
		return weft_err_set(err, errno, "cannot write %s: %m", name);
	return weft_take_fd(fd);
}

int weft_place_listen_unix(const char *run, const struct weft_user *owner, struct weft_err *err)
{
	weft_close_on_exit int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	mode_t mask;
	int r;

	if (snprintf(name.sun_path, sizeof(name.sun_path), "%s/weft.sock", run) >= (int)sizeof(name.sun_path))
		return weft_err_set(err, ENAMETOOLONG, "%s/weft.sock is longer than a socket's name may be: use a shorter --run", run);
	if (sock < 0)
		return weft_err_set(err, errno, "cannot make a Unix socket: %m");
	if (unlink(name.sun_path) < 0 && errno != ENOENT)
		return weft_err_set(err, errno, "cannot remove the old %s: %m", name.sun_path);
	mask = umask(0177);
	r = bind(sock, (struct sockaddr *)&name, sizeof(name)) < 0 ? -errno : 0;
	umask(mask);
	if (r == 0 && (chown(name.sun_path, owner->uid, owner->gid) < 0 || listen(sock, SOMAXCONN) < 0))
		r = -errno;
	if (r < 0)
		return weft_err_set(err, r, "cannot listen on %s: %m", name.sun_path);
	return weft_take_fd(sock);
}

int weft_place_listen_tcp(const struct weft_addr *addr, uint16_t port, struct weft_err *err)
{
	bool v4 = weft_addr_is_v4(addr);
	weft_close_on_exit int sock = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { addr->w[3] } };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	char text[WEFT_ADDR_TEXT];
	int on = 1;

	memcpy(&in6.sin6_addr, addr, sizeof(*addr));
	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (!v4 && setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(sock, v4 ? (struct sockaddr *)&in : (struct sockaddr *)&in6, v4 ? sizeof(in) : sizeof(in6)) < 0 ||
	    listen(sock, SOMAXCONN) < 0)
		return weft_err_set(err, errno, "cannot listen on %s for metrics: %m; choose another address with --metrics, or off",
				    weft_addr_port_format(addr, port, text));
	return weft_take_fd(sock);
}
