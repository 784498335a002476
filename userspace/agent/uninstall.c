/* SPDX-License-Identifier: Apache-2.0 */
/* weftd --uninstall: with the instance's locks held, so that no agent puts back what is taken away. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/check.h"
#include "agent/place.h"
#include "base/cleanup.h"
#include "kernel/kernel.h"

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

int weft_uninstall_run(const struct weft_options *options)
{
	static const char *const state_files[] = { "names", ".names.new", "names.bad", "attached", ".attached.new", ".names.bad.new", "lock", NULL };
	static const char *const run_files[] = { "weft.sock", NULL };
	weft_close_on_exit int state = open(options->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	weft_close_on_exit int pins = open(options->pins, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
	r = weft_kernel_uninstall(options->pins, &err);
	if (r == 0)
		r = remove_folder(options->run, run_files, &err);
	if (r == 0)
		r = remove_folder(options->state, state_files, &err);
	return r < 0 ? fail(&err, r) : WEFT_EXIT_OK;
}
