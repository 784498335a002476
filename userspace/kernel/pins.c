/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/pins.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/cleanup.h"
#include "weft/abi/types.h"

#define USUAL_MOUNT "/sys/fs/bpf"
#define QUOTE_(number) #number
#define QUOTE(number) QUOTE_(number)
#define VERSION_FOLDER "v" QUOTE(WEFT_ABI_VERSION)

static int join(char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int join(char *path, const char *format, ...)
{
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(path, PATH_MAX, format, args);
	va_end(args);
	return size < 0 || size >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int weft_pins_path(char *path, const char *pins, const char *kind, const char *name)
{
	return join(path, "%s/" VERSION_FOLDER "/%s%s%s", pins, kind, name ? "/" : "", name ? name : "");
}

/* In the order in which they are made. */
static int folder(char *path, const char *pins, unsigned int i)
{
	switch (i) {
	case 0:
		return join(path, "%s", pins);
	case 1:
		return join(path, "%s/" VERSION_FOLDER, pins);
	case 2:
		return weft_pins_path(path, pins, WEFT_PINS_MAP, NULL);
	case 3:
		return weft_pins_path(path, pins, WEFT_PINS_LINK, NULL);
	default:
		return weft_pins_path(path, pins, WEFT_PINS_NETNS, NULL);
	}
}
#define FOLDERS 5u

static bool is_version(const char *name)
{
	return name[0] == 'v' && name[1] && !name[1 + strspn(name + 1, "0123456789")];
}

static int check_version(const char *pins, struct weft_err *err)
{
	weft_closedir_on_exit DIR *dir = opendir(pins);
	struct dirent *entry;

	if (!dir)
		return weft_err_set(err, errno, "cannot list the pin folder %s: %m", pins);
	while ((entry = readdir(dir)))
		if (is_version(entry->d_name) && strcmp(entry->d_name, VERSION_FOLDER) != 0)
			return weft_err_set(err, EPROTO,
					    "%s/%s is pinned by another version of weft and this one is " VERSION_FOLDER
					    ": uninstall that one first",
					    pins, entry->d_name);
	return 0;
}

static bool below(const char *path, const char *dir)
{
	size_t size = strlen(dir);

	return strncmp(path, dir, size) == 0 && (path[size] == '/' || path[size] == '\0');
}

/* The nearest folder that exists is on a BPF filesystem; mounts one where everybody expects it. */
static int check_filesystem(const char *pins, struct weft_err *err)
{
	char path[PATH_MAX], *slash;
	struct statfs fs;
	int r = join(path, "%s", pins);

	if (r < 0 || path[0] != '/')
		return weft_err_set(err, EINVAL, "the pin folder %s is not an absolute path of a sensible length",
				    pins);
	while (statfs(path, &fs) < 0) {
		if (errno != ENOENT)
			return weft_err_set(err, errno, "cannot look at %s: %m", path);
		slash = strrchr(path, '/');
		slash[slash == path] = '\0';
	}
	if (fs.f_type == BPF_FS_MAGIC)
		return 0;
	if (!below(pins, USUAL_MOUNT))
		return weft_err_set(err, ENOTSUP, "%s is not on a BPF filesystem: mount -t bpf bpf %s", pins, path);
	if (mount("bpf", USUAL_MOUNT, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return weft_err_set(err, errno,
				    "no BPF filesystem on " USUAL_MOUNT
				    " and it cannot be mounted from here (%m): mount -t bpf bpf " USUAL_MOUNT);
	return 0;
}

static int make_parents(const char *pins)
{
	char path[PATH_MAX];
	int r = join(path, "%s", pins);

	for (char *at = path + 1; r == 0 && (at = strchr(at, '/')); at++) {
		*at = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			r = -errno;
		*at = '/';
	}
	return r;
}

int weft_pins_prepare(const char *pins, struct weft_pins_made *made, struct weft_err *err)
{
	char path[PATH_MAX];
	int r = check_filesystem(pins, err);

	if (r < 0)
		return r;
	r = make_parents(pins);
	if (r < 0)
		return weft_err_set(err, r, "cannot make the folders above %s: %m", pins);
	for (unsigned int i = 0; i < FOLDERS; i++) {
		r = folder(path, pins, i);
		if (r < 0)
			return weft_err_set(err, r, "the path of the pin folder %s is too long", pins);
		if (mkdir(path, 0700) == 0)
			made->mask |= 1u << i;
		else if (errno != EEXIST)
			return weft_err_set(err, errno, "cannot make the folder %s: %m", path);
		if (i == 0) {
			r = check_version(pins, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

void weft_pins_take_back(const char *pins, const struct weft_pins_made *made)
{
	char path[PATH_MAX];

	for (unsigned int i = FOLDERS; i-- > 0;)
		if (made->mask >> i & 1 && folder(path, pins, i) == 0)
			rmdir(path);
}

int weft_pins_count(const char *pins, const char *kind, size_t *ret_count)
{
	weft_closedir_on_exit DIR *dir = NULL;
	char path[PATH_MAX];
	struct dirent *entry;
	size_t count = 0;
	int r = weft_pins_path(path, pins, kind, NULL);

	if (r < 0)
		return r;
	dir = opendir(path);
	if (!dir && errno != ENOENT)
		return -errno;
	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	*ret_count = count;
	return 0;
}

static int clear_folder(const char *path, bool links, struct weft_err *err)
{
	weft_closedir_on_exit DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return errno == ENOENT ? 0 : weft_err_set(err, errno, "cannot list %s: %m", path);
	while ((entry = readdir(dir))) {
		char pin[PATH_MAX];

		if (entry->d_name[0] == '.')
			continue;
		if (join(pin, "%s/%s", path, entry->d_name) < 0)
			return weft_err_set(err, ENAMETOOLONG, "a name in %s is too long", path);
		if (links) {
			weft_close_on_exit int link = bpf_obj_get(pin);

			/*
			 * Unpinning alone detaches some time later. Iterators cannot be detached and a dead cgroup's
			 * link is already: the unpinning below is all that they need.
			 */
			if (link >= 0)
				bpf_link_detach(link);
		}
		if (unlink(pin) < 0 && errno != ENOENT)
			return weft_err_set(err, errno, "cannot remove %s: %m", pin);
	}
	if (rmdir(path) < 0)
		return weft_err_set(err, errno, "cannot remove the folder %s: %m", path);
	return 0;
}

static int clear_version(const char *pins, const char *version, struct weft_err *err)
{
	static const char *const kinds[] = { WEFT_PINS_LINK, WEFT_PINS_NETNS, WEFT_PINS_MAP };
	char path[PATH_MAX];
	int r;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(kinds); i++) {
		r = join(path, "%s/%s/%s", pins, version, kinds[i]);
		if (r < 0)
			return weft_err_set(err, r, "the path of the pin folder %s is too long", pins);
		r = clear_folder(path, strcmp(kinds[i], WEFT_PINS_MAP) != 0, err);
		if (r < 0)
			return r;
	}
	r = join(path, "%s/%s", pins, version);
	if (r == 0 && rmdir(path) < 0 && errno != ENOENT)
		return weft_err_set(err, errno, "cannot remove the folder %s: %m", path);
	return r;
}

int weft_pins_clear(const char *pins, bool every_version, struct weft_err *err)
{
	weft_closedir_on_exit DIR *dir = NULL;
	struct dirent *entry;
	struct statfs fs;
	int r;

	if (!every_version)
		return clear_version(pins, VERSION_FOLDER, err);
	if (statfs(pins, &fs) < 0)
		return errno == ENOENT ? 0 : weft_err_set(err, errno, "cannot look at the pin folder %s: %m", pins);
	if (fs.f_type != BPF_FS_MAGIC)
		return weft_err_set(err, EINVAL, "%s is not on a BPF filesystem: nothing of weft can be pinned there",
				    pins);
	dir = opendir(pins);
	if (!dir)
		return weft_err_set(err, errno, "cannot list the pin folder %s: %m", pins);
	while ((entry = readdir(dir))) {
		if (!is_version(entry->d_name))
			continue;
		r = clear_version(pins, entry->d_name, err);
		if (r < 0)
			return r;
	}
	/* Somebody else's files in it, or a mount of its own: not ours to remove. */
	if (rmdir(pins) < 0 && errno != ENOTEMPTY && errno != EBUSY)
		return weft_err_set(err, errno, "cannot remove the folder %s: %m", pins);
	return 0;
}
