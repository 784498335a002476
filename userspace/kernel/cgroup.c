/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/cgroup.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/cleanup.h"

/* A node has some hundred pods of some containers each; beyond this the walk costs more than the answer is worth. */
#define WALK_MAX 8192
/* BPF_CGROUP_MAX_PROGS of the kernel, per cgroup and attach type */
#define PROGS_MAX 64

/* kernfs file handle: the 64-bit id alone; not in userspace's headers */
#define HANDLE_KERNFS 0xfe

static void end_mounts(FILE **file)
{
	if (*file)
		endmntent(*file);
}

int weft_cgroup_mount(char *text, size_t size)
{
	weft_cleanup(end_mounts) FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *entry;

	if (!mounts)
		return -errno;
	while ((entry = getmntent(mounts))) {
		if (strcmp(entry->mnt_type, "cgroup2") != 0)
			continue;
		if (strlen(entry->mnt_dir) >= size)
			return -ENAMETOOLONG;
		strcpy(text, entry->mnt_dir);
		return 0;
	}
	return -ENOENT;
}

static bool is_cgroup2(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

int weft_cgroup_open(const char *path, struct weft_err *err)
{
	weft_close_on_exit int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return weft_err_set(err, errno, "cannot open the cgroup %s: %m", path);
	if (!is_cgroup2(fd))
		return weft_err_set(err, EINVAL,
				    "%s is not a cgroup2 directory: name one below a mount of type cgroup2", path);
	return weft_take_fd(fd);
}

int weft_cgroup_id(int cgroup, uint64_t *ret_id)
{
	struct stat st;

	if (fstat(cgroup, &st) < 0)
		return -errno;
	*ret_id = st.st_ino; /* kernfs: the inode number is the id where ino_t has 64 bits */
	return 0;
}

_Static_assert(sizeof(ino_t) == sizeof(uint64_t), "cgroup ids have 64 bits");

static int path_of(int fd, char *text, size_t size)
{
	char link[64];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, text, size);
	if (length < 0)
		return -errno;
	if ((size_t)length >= size)
		return -ENAMETOOLONG;
	text[length] = '\0';
	return 0;
}

int weft_cgroup_path(uint64_t id, char *text, size_t size)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + sizeof(uint64_t)];
	} name = { .handle = { .handle_bytes = sizeof(uint64_t), .handle_type = HANDLE_KERNFS } };
	weft_close_on_exit int mount = -1, fd = -1;
	char at[PATH_MAX];
	int r = weft_cgroup_mount(at, sizeof(at));

	if (r < 0)
		return r;
	mount = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mount < 0)
		return -errno;
	memcpy(name.handle.f_handle, &id, sizeof(id));
	fd = open_by_handle_at(mount, &name.handle, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return errno == ESTALE ? -ENOENT : -errno;
	return path_of(fd, text, size);
}

int weft_cgroup_own(struct weft_err *err)
{
	weft_cleanup(end_mounts) FILE *file = fopen("/proc/self/cgroup", "re"); /* closed by fclose(), which endmntent() is */
	char mounted[PATH_MAX], line[PATH_MAX], path[2 * PATH_MAX];
	int r = weft_cgroup_mount(mounted, sizeof(mounted));

	if (r < 0 || !file)
		return weft_err_set(err, r < 0 ? r : -errno, "cannot tell the own cgroup: %m");
	while (fgets(line, sizeof(line), file)) {
		/* cgroups(7): hierarchy 0 is cgroup2's. */
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(path, sizeof(path), "%s%s", mounted, line + 3);
		return weft_cgroup_open(path, err);
	}
	return weft_err_set(err, ENOENT, "this process is in no cgroup2: /proc/self/cgroup has no line 0::");
}

bool weft_cgroup_is_below(int cgroup, uint64_t id)
{
	weft_close_on_exit int at = openat(cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t here, before = 0;

	/* Above the mount there is another file system; at the root of all, the same cgroup again. */
	while (at >= 0 && is_cgroup2(at) && weft_cgroup_id(at, &here) == 0 && here != before) {
		int up = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (here == id) {
			weft_closep(&up);
			return true;
		}
		close(at);
		at = up;
		before = here;
	}
	return false;
}

static int check_one(int cgroup, const char *path, uint32_t attach_type, const char *name, uint32_t own,
		     struct weft_err *err)
{
	__u32 ids[PROGS_MAX], count = PROGS_MAX, flags;

	if (bpf_prog_query(cgroup, attach_type, 0, &flags, ids, &count) < 0)
		return weft_err_set(err, errno, "cannot ask which programs hang on the cgroup %s: %m", path);
	for (__u32 i = 0; i < count; i++) {
		weft_close_on_exit int fd = -1;
		struct bpf_prog_info info = { 0 };
		__u32 size = sizeof(info);

		if (own && ids[i] == own)
			continue;
		fd = bpf_prog_get_fd_by_id(ids[i]);
		/* Gone between the two questions: no conflict. */
		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
			continue;
		if (strncmp(info.name, name, sizeof(info.name) - 1) == 0)
			return weft_err_set(
				err, EBUSY,
				"another weft instance is attached to the cgroup %s: stop and uninstall it, or give "
				"this one a subtree of its own",
				path);
	}
	return 0;
}

/* nftw() passes no context. One walk at a time: the caller is a single thread's start. */
static _Thread_local struct {
	uint32_t attach_type;
	const char *name;
	uint32_t own;
	unsigned int visited;
	struct weft_err *err;
	int result;
} walk;

static int visit(const char *path, const struct stat *st, int type, struct FTW *at)
{
	weft_close_on_exit int fd = -1;

	(void)st;
	if (type != FTW_D || at->level == 0)
		return FTW_CONTINUE;
	if (++walk.visited > WALK_MAX)
		return FTW_STOP;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return FTW_CONTINUE; /* removed meanwhile */
	walk.result = check_one(fd, path, walk.attach_type, walk.name, walk.own, walk.err);
	return walk.result < 0 ? FTW_STOP : FTW_CONTINUE;
}

int weft_cgroup_check_overlap(int cgroup, uint32_t attach_type, const char *name, uint32_t own, struct weft_err *err)
{
	weft_close_on_exit int at = openat(cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char path[PATH_MAX];
	int r;

	if (at < 0)
		return weft_err_set(err, errno, "cannot open the cgroup again: %m");
	while (is_cgroup2(at)) {
		struct stat here, above;
		int up;

		r = path_of(at, path, sizeof(path));
		if (r < 0)
			return weft_err_set(err, r, "cannot tell the path of a cgroup: %m");
		r = check_one(at, path, attach_type, name, own, err);
		if (r < 0)
			return r;
		up = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (up < 0)
			return weft_err_set(err, errno, "cannot open the cgroup above %s: %m", path);
		/* A container's root: there is nothing above itself. */
		if (fstat(at, &here) == 0 && fstat(up, &above) == 0 && here.st_ino == above.st_ino &&
		    here.st_dev == above.st_dev) {
			close(up);
			break;
		}
		close(at);
		at = up;
	}
	r = path_of(cgroup, path, sizeof(path));
	if (r < 0)
		return weft_err_set(err, r, "cannot tell the path of the cgroup: %m");
	walk = (__typeof__(walk)){ attach_type, name, own, 0, err, 0 };
	/* Returns -1 if the subtree vanishes meanwhile: then there is nothing below that could overlap. */
	nftw(path, visit, 16, FTW_PHYS | FTW_MOUNT | FTW_ACTIONRETVAL);
	return walk.result;
}
