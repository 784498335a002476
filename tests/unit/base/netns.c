/* SPDX-License-Identifier: Apache-2.0 */
#include "base/netns.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "lib/netns.h"

static int where_am_i(void *context)
{
	*(ino_t *)context = inode_of("/proc/thread-self/ns/net");
	return 42;
}

static void work_is_done_inside_and_the_thread_comes_back(void **state)
{
	weft_close_on_exit int fd = -1;
	ino_t home, there = 0, inode;

	(void)state;
	need_root();
	home = inode_of("/proc/thread-self/ns/net");
	inode = make_netns("inside");
	fd = open("/run/netns/inside", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(weft_netns_run(fd, where_am_i, &there), 42);
	assert_int_equal(there, inode);
	assert_int_equal(inode_of("/proc/thread-self/ns/net"), home);

	there = 0;
	assert_true(weft_netns_run(STDIN_FILENO, where_am_i, &there) < 0);
	assert_int_equal(there, 0);
}

static bool has(const struct weft_netns_list *list, ino_t inode)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->netns[i].inode == inode)
			return true;
	return false;
}

static void assert_each_once_and_open(const struct weft_netns_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		ino_t inode;

		assert_int_equal(weft_netns_inode(list->netns[i].fd, &inode), 0);
		assert_int_equal(inode, list->netns[i].inode);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(inode, list->netns[j].inode);
	}
}

static void this_one_is_first_then_those_with_names(void **state)
{
	weft_netns_list_done_on_exit struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	ino_t first, second;

	(void)state;
	need_root();
	first = make_netns("one");
	second = make_netns("two");
	close(open("/run/netns/no-netns", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	close(open("/run/netns/again", O_CREAT | O_RDONLY | O_CLOEXEC, 0444));
	assert_int_equal(mount("/run/netns/two", "/run/netns/again", NULL, MS_BIND, NULL), 0);
	assert_int_equal(weft_netns_list_named(&list), 0);
	assert_int_equal(list.count, 3);
	assert_int_equal(list.netns[0].inode, inode_of("/proc/thread-self/ns/net"));
	assert_true(has(&list, first) && has(&list, second));
	assert_each_once_and_open(&list);
	weft_netns_list_done(&list);
	assert_int_equal(list.count, 0);
}

/* A process in a network namespace of its own, which has no name. */
static pid_t process_without_a_name(ino_t *ret_inode)
{
	char path[64];
	int ready[2];
	pid_t child;
	char byte;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)child);
	*ret_inode = inode_of(path);
	return child;
}

static void those_of_processes_are_found_and_outlive_them(void **state)
{
	weft_netns_list_done_on_exit struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	ino_t unnamed, there = 0;
	pid_t child;

	(void)state;
	need_root();
	child = process_without_a_name(&unnamed);
	assert_int_equal(weft_netns_list_named(&list), 0);
	assert_false(has(&list, unnamed));
	assert_int_equal(weft_netns_list_processes(&list), 0);
	assert_true(has(&list, unnamed));
	assert_each_once_and_open(&list);

	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	for (size_t i = 0; i < list.count; i++)
		if (list.netns[i].inode == unnamed)
			assert_int_equal(weft_netns_run(list.netns[i].fd, where_am_i, &there), 42);
	assert_int_equal(there, unnamed);
}

static void what_a_list_cannot_have_is_said(void **state)
{
	struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	struct weft_err err = { "" };

	(void)state;
	assert_int_equal(weft_netns_list_missing(&list, &err), 0);
	assert_string_equal(err.text, "");
	list.enclosed = true;
	assert_int_equal(weft_netns_list_missing(&list, &err), -EPERM);
	assert_contains(err.text, "this is not the machine's PID namespace");
	list.hidden = 7;
	assert_int_equal(weft_netns_list_missing(&list, &err), -EPERM);
	assert_contains(err.text, "7 processes may not be looked at");
}

/* 0: a process in a PID namespace of its own knows that it does not see all. */
static int look_from_inside(void)
{
	struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	int status = -1;
	pid_t child;

	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
		return 2;
	child = fork();
	if (child == 0) {
		if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0)
			_exit(3);
		_exit(weft_netns_list_processes(&list) == 0 && list.count == 1 && list.enclosed ? 0 : 1);
	}
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 4;
}

static void a_pid_namespace_of_its_own_is_noticed(void **state)
{
	int status;
	pid_t child;

	(void)state;
	need_root();
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(look_from_inside());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_process_that_may_not_be_looked_at_is_said(void **state)
{
	int status;
	ino_t unnamed;
	pid_t child, poor;

	(void)state;
	need_root();
	child = process_without_a_name(&unnamed);
	poor = fork();
	assert_true(poor >= 0);
	if (poor == 0) {
		struct weft_netns_list list = WEFT_NETNS_LIST_INIT;

		if (setresuid(65534, 65534, 65534) < 0 || weft_netns_list_processes(&list) < 0)
			_exit(2);
		_exit(list.hidden > 0 && !has(&list, unnamed) ? 0 : 1);
	}
	assert_int_equal(waitpid(poor, &status, 0), poor);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(work_is_done_inside_and_the_thread_comes_back, netns_setup, netns_teardown),
		cmocka_unit_test_setup_teardown(this_one_is_first_then_those_with_names, netns_setup, netns_teardown),
		cmocka_unit_test_setup_teardown(those_of_processes_are_found_and_outlive_them, netns_setup, netns_teardown),
		cmocka_unit_test(what_a_list_cannot_have_is_said),
		cmocka_unit_test(a_pid_namespace_of_its_own_is_noticed),
		cmocka_unit_test_setup_teardown(a_process_that_may_not_be_looked_at_is_said, netns_setup, netns_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
