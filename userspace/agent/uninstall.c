/* SPDX-License-Identifier: Apache-2.0 */
/* weftd --uninstall: with the instance's locks held, so that no agent puts back what is taken away. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/check.h"
#include "agent/place.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "kernel/kernel.h"
#include "kernel/links.h"
#include "kernel/pins.h"
#include "net/netns.h"
#include "net/pod_route.h"

static int fail(const struct weft_err *err, int r)
{
	fprintf(stderr, "weftd: %s\n", err->text);
	return r == -EBUSY ? WEFT_EXIT_HELD : WEFT_EXIT_FAILURE;
}

/* Files of ours, then the folder, which stays if somebody else put something in it. */
static int remove_folder(const char *path, const char *const *names, struct weft_err *err)
{
	weft_close_on_exit int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return errno == ENOENT ? 0 : weft_err_set(err, errno, "cannot open %s: %m", path);
	for (; *names; names++)
		if (unlinkat(dir, *names, 0) < 0 && errno != ENOENT)
			return weft_err_set(err, errno, "cannot remove %s/%s: %m", path, *names);
	if (rmdir(path) < 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EBUSY)
		return weft_err_set(err, errno, "cannot remove %s: %m", path);
	return 0;
}

/* The identities' keys. Its owner may have put other things in it, but folders it does not make. */
static int remove_keys(int state, const char *path, struct weft_err *err)
{
	weft_closedir_on_exit DIR *dir = NULL;
	struct dirent *entry;
	int fd = openat(state, "ca", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT ? 0 : weft_err_set(err, errno, "cannot open %s/ca: %m", path);
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return weft_err_set(err, ENOMEM, "cannot list %s/ca", path);
	}
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && unlinkat(fd, entry->d_name, 0) < 0 && errno != ENOENT)
			return weft_err_set(err, errno, "cannot remove %s/ca/%s: %m", path, entry->d_name);
	return unlinkat(state, "ca", AT_REMOVEDIR) < 0 ? weft_err_set(err, errno, "cannot remove %s/ca: %m", path) : 0;
}

/* ---- pods that are attached ---- */

/* By inode, what their pinned links hang on: also without a name in /run/netns they may be some process's. */
struct pods {
	uint32_t *inode;
	size_t count;
	size_t room;
};

static void pods_done(struct pods *pods)
{
	free(pods->inode);
}

static int find_pods(const char *pins, struct pods *pods)
{
	weft_closedir_on_exit DIR *dir = NULL;
	char path[PATH_MAX], pin[PATH_MAX];
	struct dirent *entry;
	int r = weft_pins_path(path, pins, WEFT_PINS_NETNS, NULL);

	dir = r == 0 ? opendir(path) : NULL;
	if (!dir)
		return r < 0 ? r : errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		uint32_t inode;

		if (entry->d_name[0] == '.' || weft_pins_path(pin, pins, WEFT_PINS_NETNS, entry->d_name) < 0 || weft_link_netns(pin, &inode) < 0)
			continue; /* its network namespace is gone, and all that was in it */
		r = weft_grow(&pods->inode, &pods->room, pods->count + 1, sizeof(*pods->inode));
		if (r < 0)
			return r;
		pods->inode[pods->count++] = inode;
	}
	return 0;
}

static int clear(void *context)
{
	return weft_pod_route_remove(context);
}

/* Each is cleared once and then no longer among them. */
static int clear_if_pod(struct pods *pods, const struct weft_netns *netns, struct weft_err *err)
{
	for (size_t i = 0; i < pods->count; i++)
		if (pods->inode[i] == (uint32_t)netns->inode) {
			pods->inode[i] = pods->inode[--pods->count];
			return weft_netns_run(netns->fd, clear, err);
		}
	return 0;
}

static int clear_pods(struct pods *pods, struct weft_err *err)
{
	weft_netns_list_done_on_exit struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	int r = 0;

	/* What is found is cleared, whatever else could not be looked at. */
	(void)weft_netns_list_named(&list);
	(void)weft_netns_list_processes(&list);
	for (size_t i = 0; r == 0 && pods->count && i < list.count; i++)
		r = clear_if_pod(pods, &list.netns[i], err);
	return r;
}

int weft_uninstall_run(const struct weft_options *options)
{
	static const char *const state_files[] = { "names", ".names.new", "names.bad", "attached", ".attached.new", "policies", ".policies.new", ".names.bad.new", "lock", NULL };
	static const char *const run_files[] = { "weft.sock", NULL };
	weft_close_on_exit int state = open(options->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	weft_close_on_exit int pins = open(options->pins, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	weft_cleanup(pods_done) struct pods pods = { 0 };
	weft_close_on_exit int lock = -1;
	struct weft_err err = { "" };
	int r;

	if (geteuid() != 0) {
		fprintf(stderr, "weftd: must be run as root to uninstall\n");
		return WEFT_EXIT_PRIVILEGE;
	}
	if (state >= 0) {
		lock = weft_place_lock_state(state, options->state, &err);
		if (lock < 0)
			return fail(&err, lock);
	}
	if (pins >= 0) {
		r = weft_place_lock(pins, options->pins, &err);
		if (r < 0)
			return fail(&err, r);
	}
	r = find_pods(options->pins, &pods);
	if (r < 0)
		weft_err_set(&err, r, "cannot tell which pods are attached, by %s: %m", options->pins);
	if (r == 0)
		r = weft_kernel_uninstall(options->pins, &err);
	if (r == 0)
		r = clear_pods(&pods, &err);
	if (r == 0)
		r = remove_folder(options->run, run_files, &err);
	if (r == 0 && state >= 0)
		r = remove_keys(state, options->state, &err);
	if (r == 0)
		r = remove_folder(options->state, state_files, &err);
	return r < 0 ? fail(&err, r) : WEFT_EXIT_OK;
}
