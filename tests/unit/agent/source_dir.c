/* SPDX-License-Identifier: Apache-2.0 */
/* Files come, change, break and go; what is in force is asked of the model. */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent/source_dir.h"
#include "base/io.h"

struct fixture {
	char top[64];
	int dir;
	struct weft_source *source;
	struct weft_model *model;
	size_t changed; /* of the last scan */
};

#define SERVICE(name, port)                                                                                              \
	"apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: shop}\nspec: {clusterIP: 10.96.0.1, ports: [{port: " \
	port "}]}\n"
#define AND "---\n"

static void put(struct fixture *f, const char *name, const char *text)
{
	assert_int_equal(weft_write_file_at(f->dir, name, text, strlen(text), 0600), 0);
}

static void run(struct fixture *f, const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "cd %s && %s", f->top, command);
	assert_int_equal(system(line), 0);
}

static void scan(struct fixture *f)
{
	assert_int_equal(weft_source_scan(f->source, f->dir, f->model, &f->changed), 0);
}

/* 0: not in force. */
static unsigned int port_of(struct fixture *f, const char *name)
{
	const struct weft_resource *resource = weft_model_get(f->model, WEFT_KIND_SERVICE, "shop", name);

	return resource ? resource->service.port[0].port : 0;
}

struct text {
	char all[4096];
	size_t count;
};

static void add_problem(void *context, const struct weft_problem *problem)
{
	weft_cleanup(weft_buf_done) struct weft_buf line = WEFT_BUF_INIT;
	struct text *text = context;

	assert_int_equal(weft_problem_print(problem, &line), 0);
	strncat(text->all, line.data, sizeof(text->all) - strlen(text->all) - 2);
	strcat(text->all, "\n");
	text->count++;
}

static struct text problems(struct fixture *f)
{
	struct text text = { "", 0 };

	weft_source_problems(f->source, add_problem, &text);
	return text;
}

struct wanted {
	const char *name;
	const char *file;
	int last_good; /* -1: it is not there */
};

static void find_entry(void *context, const struct weft_source_entry *entry)
{
	struct wanted *wanted = context;

	if (strcmp(entry->name, wanted->name) != 0)
		return;
	assert_string_equal(entry->file, wanted->file);
	wanted->last_good = entry->last_good;
}

static int state_of(struct fixture *f, const char *name, const char *file)
{
	struct wanted wanted = { name, file, -1 };

	weft_source_entries(f->source, find_entry, &wanted);
	return wanted.last_good;
}

static int set_up(void **state)
{
	struct weft_model_options options = { .node = "n1" };
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	for (size_t i = 0; i < WEFT_MAP_MAX_; i++)
		options.capacity.max_entries[i] = 1024;
	strcpy(f->top, "/tmp/weft-source-XXXXXX");
	assert_non_null(mkdtemp(f->top));
	f->dir = open(f->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->source = weft_source_new(WEFT_SOURCE_SETTLE_MS);
	f->model = weft_model_new(&options, weft_names_new());
	assert_non_null(f->source);
	assert_non_null(f->model);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	weft_source_free(f->source);
	weft_model_free(f->model);
	run(f, "rm -rf ../\"$(basename \"$PWD\")\"");
	close(f->dir);
	free(f);
	return 0;
}

static void test_comes_changes_goes(void **state)
{
	struct fixture *f = *state;

	scan(f);
	assert_int_equal(f->changed, 0);
	put(f, "a.yaml", SERVICE("a", "1") AND SERVICE("b", "2"));
	put(f, "c.json", "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"c\",\"namespace\":\"shop\"},"
			 "\"spec\":{\"clusterIP\":\"10.96.0.3\",\"ports\":[{\"port\":3}]}}");
	put(f, "d.yml", SERVICE("d", "4"));
	scan(f);
	assert_int_equal(problems(f).count, 0);
	assert_int_equal(f->changed, 4);
	assert_int_equal(weft_source_count(f->source), 4);
	assert_int_equal(port_of(f, "b"), 2);
	assert_int_equal(port_of(f, "c"), 3);
	assert_int_equal(port_of(f, "d"), 4);
	put(f, "a.yaml", SERVICE("a", "11"));
	run(f, "rm c.json");
	scan(f);
	assert_int_equal(port_of(f, "a"), 11);
	assert_int_equal(port_of(f, "b"), 0);
	assert_int_equal(port_of(f, "c"), 0);
	assert_int_equal(port_of(f, "d"), 4);
}

static void test_what_is_no_file_of_ours(void **state)
{
	struct fixture *f = *state;

	put(f, ".hidden.yaml", SERVICE("hidden", "1"));
	put(f, "readme.txt", "text");
	put(f, "a.yaml~", SERVICE("backup", "1"));
	run(f, "mkdir sub.yaml && mkfifo fifo.yaml && ln -s gone dangling.yaml");
	scan(f);
	assert_int_equal(weft_source_count(f->source), 0);
	assert_int_equal(problems(f).count, 0);
}

static void test_refused_alone(void **state)
{
	struct fixture *f = *state;
	struct text text;

	put(f, "a.yaml", SERVICE("a", "1") AND SERVICE("b", "2"));
	scan(f);
	put(f, "a.yaml", SERVICE("a", "99999") AND SERVICE("b", "22"));
	scan(f);
	assert_int_equal(port_of(f, "a"), 1);
	assert_int_equal(port_of(f, "b"), 22);
	assert_int_equal(state_of(f, "a", "a.yaml"), 1);
	assert_int_equal(state_of(f, "b", "a.yaml"), 0);
	text = problems(f);
	assert_contains(text.all, "Service shop/a");
	put(f, "a.yaml", SERVICE("a", "11") AND SERVICE("b", "22"));
	scan(f);
	assert_int_equal(port_of(f, "a"), 11);
	assert_int_equal(state_of(f, "a", "a.yaml"), 0);
	assert_int_equal(problems(f).count, 0);
	/* Removed on purpose, and not only by a mistake. */
	put(f, "a.yaml", SERVICE("b", "22"));
	scan(f);
	assert_int_equal(port_of(f, "a"), 0);
}

static void test_refused_without_a_good_version(void **state)
{
	struct fixture *f = *state;

	put(f, "a.yaml", SERVICE("a", "99999"));
	scan(f);
	assert_int_equal(weft_source_count(f->source), 0);
	assert_int_equal(problems(f).count, 1);
}

static void test_torn(void **state)
{
	struct fixture *f = *state;

	put(f, "a.yaml", SERVICE("a", "1") AND SERVICE("b", "2"));
	scan(f);
	put(f, "a.yaml", SERVICE("a", "11") AND "apiVersion: v1\nkind: Service\nmetadata: {name: b, namesp");
	scan(f);
	assert_int_equal(port_of(f, "a"), 11);
	assert_int_equal(port_of(f, "b"), 2);
	assert_int_equal(state_of(f, "b", "a.yaml"), 1);
	put(f, "a.yaml", "\n");
	scan(f);
	assert_int_equal(weft_source_count(f->source), 0);
}

/* As if it had been written two seconds ago; its size and content stay. */
static void age(struct fixture *f, const char *name)
{
	char command[100];

	snprintf(command, sizeof(command), "touch -m -d '3 seconds ago' %s", name);
	run(f, command);
}

static void test_no_final_newline(void **state)
{
	static const char block[] = "apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: shop}\n"
				    "spec:\n  clusterIP: 10.96.0.2\n  ports:\n  - port: 22";
	struct fixture *f = *state;
	char text[1000];

	assert_int_equal(weft_source_due_ms(f->source), -1);
	put(f, "a.yaml", SERVICE("a", "1") AND SERVICE("b", "2"));
	scan(f);
	assert_int_equal(weft_source_due_ms(f->source), -1);
	snprintf(text, sizeof(text), "%s%s%s", SERVICE("a", "11"), AND, block);
	put(f, "a.yaml", text);
	scan(f);
	assert_int_equal(port_of(f, "a"), 11);
	assert_int_equal(port_of(f, "b"), 2);
	assert_int_equal(state_of(f, "b", "a.yaml"), 1);
	assert_contains(problems(f).all, "ends in the middle of a line");
	assert_in_range(weft_source_due_ms(f->source), 1, WEFT_SOURCE_SETTLE_MS + 1);
	age(f, "a.yaml");
	scan(f);
	assert_int_equal(port_of(f, "b"), 22);
	assert_int_equal(state_of(f, "b", "a.yaml"), 0);
	assert_int_equal(problems(f).count, 0);
	assert_int_equal(weft_source_due_ms(f->source), -1);
}

/* Nobody touches the file: the second look is what takes it. */
static void test_settles_by_itself(void **state)
{
	struct fixture *f = *state;
	int due;

	weft_source_free(f->source);
	f->source = weft_source_new(200);
	put(f, "a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec:\n  clusterIP: 10.96.0.1\n  ports:\n  - port: 1");
	scan(f);
	assert_int_equal(port_of(f, "a"), 0);
	due = weft_source_due_ms(f->source);
	assert_in_range(due, 1, 201);
	assert_int_equal(poll(NULL, 0, due), 0);
	assert_int_equal(weft_source_due_ms(f->source), 0);
	scan(f);
	assert_int_equal(weft_source_due_ms(f->source), -1);
	assert_int_equal(port_of(f, "a"), 1);
	assert_int_equal(problems(f).count, 0);
}

static void test_emptied(void **state)
{
	struct fixture *f = *state;

	put(f, "a.yaml", SERVICE("a", "1"));
	scan(f);
	put(f, "a.yaml", "");
	scan(f);
	assert_int_equal(port_of(f, "a"), 1);
	assert_int_equal(problems(f).count, 0);
	assert_in_range(weft_source_due_ms(f->source), 1, WEFT_SOURCE_SETTLE_MS + 1);
	age(f, "a.yaml");
	scan(f);
	assert_int_equal(port_of(f, "a"), 0);
	assert_int_equal(weft_source_due_ms(f->source), -1);
}

/* A clock that was set back does not keep a file waiting for good. */
static void test_written_in_the_future(void **state)
{
	struct fixture *f = *state;

	weft_source_free(f->source);
	f->source = weft_source_new(200);
	put(f, "a.yaml", "");
	run(f, "touch -m -d '1 hour' a.yaml");
	scan(f);
	assert_in_range(weft_source_due_ms(f->source), 1, 201);
	assert_int_equal(poll(NULL, 0, 201), 0);
	scan(f);
	assert_int_equal(weft_source_due_ms(f->source), -1);
}

static void test_two_files(void **state)
{
	struct fixture *f = *state;
	struct text text;

	put(f, "b.yaml", SERVICE("a", "2"));
	scan(f);
	assert_int_equal(port_of(f, "a"), 2);
	put(f, "a.yaml", SERVICE("a", "1"));
	scan(f);
	assert_int_equal(port_of(f, "a"), 1);
	text = problems(f);
	assert_int_equal(text.count, 1);
	assert_contains(text.all, "b.yaml:1: Service shop/a");
	assert_contains(text.all, "a.yaml already");
	run(f, "rm a.yaml");
	scan(f);
	assert_int_equal(port_of(f, "a"), 2);
	assert_int_equal(state_of(f, "a", "b.yaml"), 0);
	assert_int_equal(problems(f).count, 0);
	run(f, "rm b.yaml");
	scan(f);
	assert_int_equal(port_of(f, "a"), 0);
}

static void test_owner_refused_while_another_file_is_good(void **state)
{
	struct fixture *f = *state;

	put(f, "a.yaml", SERVICE("a", "1"));
	put(f, "b.yaml", SERVICE("a", "2"));
	scan(f);
	put(f, "a.yaml", SERVICE("a", "99999"));
	scan(f);
	/* The owner's last good version stays: a slip of the pen does not change hands. */
	assert_int_equal(port_of(f, "a"), 1);
	assert_int_equal(state_of(f, "a", "a.yaml"), 1);
}

static void test_moved_to_another_file(void **state)
{
	struct fixture *f = *state;

	put(f, "a.yaml", SERVICE("a", "1"));
	scan(f);
	run(f, "mv a.yaml z.yaml");
	scan(f);
	assert_int_equal(port_of(f, "a"), 1);
	assert_int_equal(state_of(f, "a", "z.yaml"), 0);
	assert_int_equal(weft_source_count(f->source), 1);
}

static void test_twice_in_one_file(void **state)
{
	struct fixture *f = *state;

	put(f, "a.yaml", SERVICE("a", "1") AND SERVICE("a", "2"));
	scan(f);
	assert_int_equal(port_of(f, "a"), 1);
	assert_contains(problems(f).all, "is in this file already, line 1");
}

static void test_configmap(void **state)
{
	struct fixture *f = *state;

	put(f, "one", SERVICE("a", "1"));
	put(f, "two", SERVICE("a", "2"));
	run(f, "mkdir ..1 ..2 && mv one ..1/a.yaml && mv two ..2/a.yaml && ln -s ..1 ..data && ln -s ..data/a.yaml a.yaml");
	scan(f);
	assert_int_equal(port_of(f, "a"), 1);
	run(f, "ln -s ..2 ..tmp && mv -T ..tmp ..data");
	scan(f);
	assert_int_equal(port_of(f, "a"), 2);
}

static void test_link_out_of_the_directory(void **state)
{
	struct fixture *f = *state;

	put(f, "a.yaml", SERVICE("a", "1"));
	scan(f);
	run(f, "mv a.yaml ../weft-source-outside.yaml && ln -s ../weft-source-outside.yaml a.yaml");
	scan(f);
	run(f, "rm ../weft-source-outside.yaml");
	assert_int_equal(port_of(f, "a"), 1);
	assert_contains(problems(f).all, "a.yaml: is a symbolic link out of this directory");
}

static void test_too_large(void **state)
{
	struct fixture *f = *state;

	put(f, "a.yaml", SERVICE("a", "1"));
	scan(f);
	run(f, "truncate -s 16777217 a.yaml");
	scan(f);
	assert_int_equal(port_of(f, "a"), 1);
	assert_contains(problems(f).all, "larger than 16 MiB");
}

static void test_directory_gone(void **state)
{
	struct fixture *f = *state;
	size_t changed = 77;

	put(f, "a.yaml", SERVICE("a", "1"));
	scan(f);
	assert_int_equal(weft_source_scan(f->source, -1, f->model, &changed), -ENOENT);
	assert_int_equal(changed, 77);
	assert_int_equal(port_of(f, "a"), 1);
}

/* Same size, same second, straight after: times alone would not show it. */
static void test_changed_again_at_once(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 50; i++) {
		weft_close_on_exit int fd = openat(f->dir, "a.yaml", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		const char *text = i % 2 ? SERVICE("a", "1") : SERVICE("a", "2");

		assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
		scan(f);
		assert_int_equal(port_of(f, "a"), i % 2 ? 1 : 2);
	}
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_comes_changes_goes),	     TEST(test_what_is_no_file_of_ours),
		TEST(test_refused_alone),	     TEST(test_refused_without_a_good_version),
		TEST(test_torn),		     TEST(test_two_files),
		TEST(test_no_final_newline),	     TEST(test_settles_by_itself),
		TEST(test_emptied),		     TEST(test_written_in_the_future),
		TEST(test_owner_refused_while_another_file_is_good), TEST(test_moved_to_another_file),
		TEST(test_twice_in_one_file),	     TEST(test_configmap),
		TEST(test_link_out_of_the_directory), TEST(test_too_large),
		TEST(test_directory_gone),	     TEST(test_changed_again_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
