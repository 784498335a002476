/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/cgroup.h"
#include "lib/alone.h"

#define NAME "weft-unit-cgroup"

static void what_is_no_cgroup_is_refused(void **state)
{
	struct weft_err err = { "" };

	(void)state;
	assert_int_equal(weft_cgroup_open("/nonexistent/cgroup", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/cgroup"));
	assert_int_equal(weft_cgroup_open("/tmp", &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a cgroup2 directory"));
	assert_int_equal(weft_cgroup_open("/proc/self/maps", &err), -ENOTDIR);
}

static void a_mount_longer_than_the_room_is_not_cut(void **state)
{
	char mount[PATH_MAX] = "", room[1] = { 'x' };

	(void)state;
	if (weft_cgroup_mount(mount, sizeof(mount)) == -ENOENT)
		skip();
	assert_int_equal(mount[0], '/');
	assert_int_equal(weft_cgroup_mount(room, sizeof(room)), -ENAMETOOLONG);
	assert_int_equal(room[0], 'x');
}

static void an_id_leads_back_to_its_path(void **state)
{
	char mount[PATH_MAX], path[PATH_MAX + 64], found[PATH_MAX + 64], small[4];
	weft_close_on_exit int cgroup = -1;
	struct weft_err err = { "" };
	uint64_t id = 0;
	int lock;

	(void)state;
	if (weft_cgroup_mount(mount, sizeof(mount)) < 0 || geteuid() != 0)
		skip();
	lock = alone_begin(NAME);
	assert_true(lock >= 0);
	snprintf(path, sizeof(path), "%s/" NAME, mount);
	rmdir(path); /* of a run that was killed */
	if (mkdir(path, 0755) < 0) {
		alone_end(NAME, lock);
		skip();
	}
	cgroup = weft_cgroup_open(path, &err);
	assert_true(cgroup >= 0);
	assert_int_equal(weft_cgroup_id(cgroup, &id), 0);
	assert_int_equal(weft_cgroup_path(id, found, sizeof(found)), 0);
	assert_string_equal(found, path);
	assert_int_equal(weft_cgroup_path(id, small, sizeof(small)), -ENAMETOOLONG);
	assert_int_equal(rmdir(path), 0);
	assert_true(weft_cgroup_path(id, found, sizeof(found)) < 0);
	assert_int_equal(weft_cgroup_id(-1, &id), -EBADF);
	alone_end(NAME, lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_cgroup_is_refused),
		cmocka_unit_test(a_mount_longer_than_the_room_is_not_cut),
		cmocka_unit_test(an_id_leads_back_to_its_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
