/* SPDX-License-Identifier: Apache-2.0 */
/* A directory in /tmp, changed in every way that configuration arrives in. */
#include "lib/check.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "event/watch.h"

struct fixture {
	char top[64];
	char conf[96];
	sd_event *loop;
	struct weft_watch *watch;
	int calls;
	int dir; /* of the last call */
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void changed(void *context, int dir)
{
	struct fixture *f = context;

	f->calls++;
	f->dir = dir;
}

static void in_top(struct fixture *f, const char *format)
{
	char command[512];

	snprintf(command, sizeof(command), "cd %s && %s", f->top, format);
	assert_int_equal(system(command), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->top, "/tmp/weft-watch-XXXXXX");
	assert_non_null(mkdtemp(f->top));
	snprintf(f->conf, sizeof(f->conf), "%s/conf", f->top);
	in_top(f, "mkdir conf && echo one > conf/a.yaml");
	assert_true(sd_event_new(&f->loop) >= 0);
	assert_int_equal(weft_watch_new(f->loop, f->conf, -1, changed, f, &f->watch), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	weft_watch_free(f->watch);
	sd_event_unref(f->loop);
	in_top(f, "rm -rf ../\"$(basename \"$PWD\")\"");
	free(f);
	return 0;
}

/* Runs the loop until one more call came; fails after ten seconds. */
static void expect_call(struct fixture *f)
{
	uint64_t end = now_ms() + 10000;
	int before = f->calls;

	while (f->calls == before) {
		assert_true(now_ms() < end);
		assert_true(sd_event_run(f->loop, 100000) >= 0);
	}
	assert_int_equal(f->calls, before + 1);
}

/* Nothing comes for four times as long as a change needs to be told. */
static void expect_silence(struct fixture *f)
{
	uint64_t end = now_ms() + 4 * WEFT_WATCH_QUIET_MS;
	int before = f->calls;

	while (now_ms() < end)
		assert_true(sd_event_run(f->loop, 10000) >= 0);
	assert_int_equal(f->calls, before);
}

/* What a.yaml, reached through the watch's descriptor, begins with. */
static char first_byte(const struct fixture *f)
{
	weft_close_on_exit int fd = openat(weft_watch_dir(f->watch), "a.yaml", O_RDONLY | O_CLOEXEC);
	char byte = 0;

	assert_true(fd >= 0);
	assert_int_equal(read(fd, &byte, 1), 1);
	return byte;
}

static void test_silent_at_rest(void **state)
{
	expect_silence(*state);
}

static void test_edit(void **state)
{
	struct fixture *f = *state;

	in_top(f, "echo two > conf/a.yaml");
	expect_call(f);
	assert_int_equal(f->dir, weft_watch_dir(f->watch));
	assert_int_equal(first_byte(f), 't');
	expect_silence(f);
}

static void test_rename_into_place(void **state)
{
	struct fixture *f = *state;

	in_top(f, "echo two > aside && mv aside conf/a.yaml");
	expect_call(f);
	assert_int_equal(first_byte(f), 't');
}

static void test_removed_file(void **state)
{
	struct fixture *f = *state;

	in_top(f, "rm conf/a.yaml");
	expect_call(f);
}

static void test_configmap_swap(void **state)
{
	struct fixture *f = *state;

	in_top(f, "mkdir conf/..1 conf/..2 && echo x > conf/..1/a.yaml && echo y > conf/..2/a.yaml && ln -s ..1 conf/..data && "
		  "ln -sf ..data/a.yaml conf/a.yaml");
	expect_call(f);
	assert_int_equal(first_byte(f), 'x');
	in_top(f, "ln -s ..2 conf/..tmp && mv -T conf/..tmp conf/..data");
	expect_call(f);
	assert_int_equal(first_byte(f), 'y');
}

static void test_directory_replaced(void **state)
{
	struct fixture *f = *state;

	in_top(f, "mkdir new && echo new > new/a.yaml && mv conf old && mv new conf");
	expect_call(f);
	assert_int_equal(first_byte(f), 'n');
	/* It is the new one that is watched now. */
	in_top(f, "echo old > old/a.yaml");
	expect_silence(f);
	in_top(f, "echo later > conf/a.yaml");
	expect_call(f);
	assert_int_equal(first_byte(f), 'l');
}

static void test_directory_is_a_link_that_moves(void **state)
{
	struct fixture *f = *state;

	in_top(f, "mv conf one && mkdir two && echo two > two/a.yaml && ln -s one conf");
	expect_call(f);
	assert_int_equal(first_byte(f), 'o');
	in_top(f, "ln -s two next && mv -T next conf");
	expect_call(f);
	assert_int_equal(first_byte(f), 't');
}

static void test_directory_gone_and_back(void **state)
{
	struct fixture *f = *state;

	in_top(f, "rm -r conf");
	expect_call(f);
	assert_int_equal(f->dir, -1);
	in_top(f, "mkdir conf && echo back > conf/a.yaml");
	expect_call(f);
	assert_int_equal(first_byte(f), 'b');
}

static void test_parent_comes_later(void **state)
{
	struct fixture *f = *state;
	char path[128];

	f->watch = weft_watch_free(f->watch);
	snprintf(path, sizeof(path), "%s/not/yet", f->top);
	assert_int_equal(weft_watch_new(f->loop, path, -1, changed, f, &f->watch), 0);
	assert_int_equal(weft_watch_dir(f->watch), -1);
	in_top(f, "mkdir -p not/yet && echo here > not/yet/a.yaml");
	expect_call(f);
	assert_int_equal(first_byte(f), 'h');
}

static void test_burst_is_one_call(void **state)
{
	struct fixture *f = *state;

	in_top(f, "for i in $(seq 200); do echo $i > conf/$i.yaml; done");
	expect_call(f);
	expect_silence(f);
}

/* Without the maximum, somebody who writes all the time would never be heard. */
static void test_endless_burst_is_told(void **state)
{
	struct fixture *f = *state;
	uint64_t end = now_ms() + 4 * WEFT_WATCH_MAX_MS;
	weft_close_on_exit int fd = openat(weft_watch_dir(f->watch), "b.yaml", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	while (f->calls < 2 && now_ms() < end) {
		assert_int_equal(write(fd, "x", 1), 1);
		assert_true(sd_event_run(f->loop, 5000) >= 0);
	}
	assert_int_equal(f->calls, 2);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_silent_at_rest),	 TEST(test_edit),
		TEST(test_rename_into_place),	 TEST(test_removed_file),
		TEST(test_configmap_swap),	 TEST(test_directory_replaced),
		TEST(test_directory_is_a_link_that_moves), TEST(test_directory_gone_and_back),
		TEST(test_parent_comes_later),	 TEST(test_burst_is_one_call),
		TEST(test_endless_burst_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
