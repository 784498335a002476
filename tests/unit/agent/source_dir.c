/* SPDX-License-Identifier: Apache-2.0 */
/* Files come, change, break and go; what is in force is asked of the model. */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent/last_good.h"
#include "agent/source_dir.h"
#include "base/io.h"

struct fixture {
	char top[64];
	int dir;
	struct weft_source *source;
	struct weft_model *model;
	char state_top[64];
	int state; /* the folder of what outlives the process */
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

static void begin(struct fixture *f)
{
	struct weft_model_options options = { .node = "n1" };

	for (size_t i = 0; i < WEFT_MAP_MAX_; i++)
		options.capacity.max_entries[i] = 1024;
	f->source = weft_source_new(WEFT_SOURCE_SETTLE_MS);
	f->model = weft_model_new(&options, weft_names_new());
	assert_non_null(f->source);
	assert_non_null(f->model);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->top, "/tmp/weft-source-XXXXXX");
	assert_non_null(mkdtemp(f->top));
	f->dir = open(f->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	strcpy(f->state_top, "/tmp/weft-state-XXXXXX");
	assert_non_null(mkdtemp(f->state_top));
	f->state = open(f->state_top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	begin(f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	weft_source_free(f->source);
	weft_model_free(f->model);
	run(f, "rm -rf ../\"$(basename \"$PWD\")\"");
	unlinkat(f->state, WEFT_LAST_GOOD_NAME, 0);
	assert_int_equal(rmdir(f->state_top), 0);
	close(f->state);
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

/* ---- from one process to the next ---- */

#define MTLS(name, mode)                                                                                                    \
	"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " name ", namespace: shop}\nspec: {mtls: {mode: " \
	mode "}}\n"
#define POLICY(name, more)                                                                                                  \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " name                                     \
	", namespace: shop, annotations: {istio.io/dry-run: 'true'}}\nspec: {action: DENY, rules: [{to: [{operation: {ports: ['80']" more "}}]}]}\n"
#define MESH(more) "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {rootNamespace: roots" more "}\n"

/* 0, or what recalling said; what a control does at its start. */
static int restart(struct fixture *f)
{
	struct weft_err err = { "" };
	int r;

	weft_source_free(f->source);
	weft_model_free(f->model);
	begin(f);
	r = weft_source_recall(f->source, f->state, &err);
	assert_int_equal(r != 0, err.text[0] != '\0');
	return r;
}

static void scan_and_save(struct fixture *f)
{
	scan(f);
	assert_int_equal(weft_source_save(f->source, f->model), 0);
	assert_int_equal(weft_source_due_ms(f->source), -1);
}

static bool is_strict(struct fixture *f, const char *name)
{
	const struct weft_resource *resource = weft_model_get(f->model, WEFT_KIND_PEER_AUTHENTICATION, "shop", name);

	return resource && resource->peer_authentication.mode == WEFT_MTLS_STRICT;
}

static bool has(struct fixture *f, enum weft_kind kind, const char *namespace, const char *name)
{
	return weft_model_get(f->model, kind, namespace, name);
}

static void test_last_good_outlives_the_process(void **state)
{
	static const char refused[] = MTLS("p", "strict") AND POLICY("q", ", port: 1") AND MESH(", sameNode: 1") AND SERVICE("a", "99999");
	struct fixture *f = *state;
	uint64_t fingerprint;

	assert_int_equal(restart(f), 0);
	put(f, "a.yaml", MTLS("p", "STRICT") AND POLICY("q", "") AND MESH("") AND SERVICE("a", "1"));
	scan_and_save(f);
	fingerprint = weft_model_get(f->model, WEFT_KIND_AUTHORIZATION_POLICY, "shop", "q")->fingerprint;
	put(f, "a.yaml", refused);
	/* Twice: what is in force as last good is kept again. */
	for (int i = 0; i < 3; i++) {
		scan_and_save(f);
		assert_true(is_strict(f, "p"));
		assert_int_equal(state_of(f, "p", "a.yaml"), 1);
		assert_int_equal(weft_model_get(f->model, WEFT_KIND_AUTHORIZATION_POLICY, "shop", "q")->fingerprint, fingerprint);
		assert_string_equal(weft_model_get(f->model, WEFT_KIND_MESH_CONFIG, "", "mesh")->mesh_config.root_namespace, "roots");
		assert_int_equal(port_of(f, "a"), i == 0); /* not of the kinds that are kept */
		assert_contains(problems(f).all, "PeerAuthentication shop/p");
		assert_int_equal(restart(f), 0);
	}
	scan_and_save(f);
	put(f, "a.yaml", MTLS("p", "PERMISSIVE"));
	scan_and_save(f);
	assert_false(is_strict(f, "p"));
	assert_int_equal(state_of(f, "p", "a.yaml"), 0);
	assert_false(has(f, WEFT_KIND_AUTHORIZATION_POLICY, "shop", "q"));
	/* What was repaired or deleted is not brought back by a later mistake. */
	restart(f);
	put(f, "a.yaml", refused);
	scan_and_save(f);
	assert_true(has(f, WEFT_KIND_PEER_AUTHENTICATION, "shop", "p"));
	assert_false(is_strict(f, "p"));
	assert_false(has(f, WEFT_KIND_AUTHORIZATION_POLICY, "shop", "q"));
	assert_false(has(f, WEFT_KIND_MESH_CONFIG, "", "mesh"));
}

static void test_deleted_while_nobody_looked(void **state)
{
	struct fixture *f = *state;

	restart(f);
	put(f, "a.yaml", MTLS("p", "STRICT") AND MTLS("q", "STRICT"));
	put(f, "b.yaml", MTLS("r", "STRICT"));
	scan_and_save(f);
	put(f, "a.yaml", MTLS("q", "strict"));
	run(f, "rm b.yaml");
	restart(f);
	scan_and_save(f);
	assert_true(is_strict(f, "q"));
	assert_false(is_strict(f, "p"));
	assert_false(is_strict(f, "r"));
	assert_int_equal(weft_source_count(f->source), 1);
	/* Nor is it kept any longer. */
	put(f, "b.yaml", MTLS("r", "strict"));
	restart(f);
	scan_and_save(f);
	assert_false(is_strict(f, "r"));
}

static void test_torn_while_nobody_looked(void **state)
{
	struct fixture *f = *state;

	restart(f);
	put(f, "a.yaml", MTLS("p", "STRICT") AND MTLS("q", "STRICT"));
	put(f, "b.yaml", MTLS("r", "STRICT"));
	scan_and_save(f);
	put(f, "a.yaml", MTLS("q", "PERMISSIVE") AND "kind: PeerAuthentication\nmetadata: {na\n");
	run(f, "rm b.yaml");
	restart(f);
	scan_and_save(f);
	assert_true(is_strict(f, "p"));
	assert_false(is_strict(f, "q"));
	assert_false(is_strict(f, "r"));
	/* A file that cannot be read is torn as a whole. */
	run(f, "ln -sf ../weft-source-outside.yaml a.yaml");
	restart(f);
	scan_and_save(f);
	assert_true(is_strict(f, "p"));
	assert_true(has(f, WEFT_KIND_PEER_AUTHENTICATION, "shop", "q"));
}

static void test_moved_while_nobody_looked(void **state)
{
	struct fixture *f = *state;

	restart(f);
	put(f, "b.yaml", MTLS("p", "STRICT") AND MTLS("q", "STRICT"));
	scan_and_save(f);
	run(f, "rm b.yaml");
	put(f, "z.yaml", MTLS("p", "strict"));
	restart(f);
	scan_and_save(f);
	assert_true(is_strict(f, "p"));
	assert_int_equal(state_of(f, "p", "z.yaml"), 1);
	/* Whoever gives it whole goes before another file's mistake, and the file that gave it before both. */
	put(f, "a.yaml", MTLS("p", "strict"));
	put(f, "c.yaml", MTLS("p", "PERMISSIVE"));
	run(f, "rm z.yaml");
	restart(f);
	scan_and_save(f);
	assert_true(has(f, WEFT_KIND_PEER_AUTHENTICATION, "shop", "p"));
	assert_int_equal(state_of(f, "p", "c.yaml"), 0);
	put(f, "c.yaml", MTLS("p", "strict"));
	put(f, "d.yaml", MTLS("p", "STRICT"));
	restart(f);
	scan_and_save(f);
	assert_false(is_strict(f, "p"));
	assert_int_equal(state_of(f, "p", "c.yaml"), 1);
}

static void test_damaged(void **state)
{
	struct fixture *f = *state;
	size_t changed = 77;
	struct text text;

	restart(f);
	put(f, "a.yaml", MTLS("p", "STRICT") AND SERVICE("a", "1"));
	scan_and_save(f);
	for (int i = 0; i < 2; i++) {
		weft_close_on_exit int fd = openat(f->state, WEFT_LAST_GOOD_NAME, O_RDWR | O_CLOEXEC);

		if (i == 0)
			assert_int_equal(pwrite(fd, "x", 1, 60), 1);
		else
			assert_int_equal(ftruncate(fd, 60), 0);
		/* Nothing that asks for it is refused: on with it, and it is whole again. */
		assert_int_equal(restart(f), -EBADMSG);
		put(f, "a.yaml", MTLS("p", "STRICT") AND SERVICE("a", "99999"));
		scan_and_save(f);
		assert_true(is_strict(f, "p"));
		assert_int_equal(restart(f), 0);
	}
	assert_int_equal(weft_write_file_at(f->state, WEFT_LAST_GOOD_NAME, "", 0, 0600), 0);
	put(f, "a.yaml", MTLS("p", "strict"));
	put(f, "b.yaml", SERVICE("b", "2"));
	assert_int_equal(restart(f), -EBADMSG);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(weft_source_scan(f->source, f->dir, f->model, &changed), -EBADMSG);
		assert_int_equal(changed, 77);
		assert_int_equal(weft_source_count(f->source), 0);
		assert_int_equal(port_of(f, "b"), 0);
		text = problems(f);
		assert_contains(text.all, "a.yaml: the last good version of what is refused here cannot be told");
		/* It is not written over as long as it is asked for. */
		assert_int_equal(weft_source_save(f->source, f->model), 0);
	}
	put(f, "a.yaml", "kind: Peer\n");
	assert_int_equal(weft_source_scan(f->source, f->dir, f->model, &changed), -EBADMSG);
	put(f, "a.yaml", MTLS("p", "STRICT"));
	scan_and_save(f);
	assert_true(is_strict(f, "p"));
	assert_int_equal(port_of(f, "b"), 2);
	assert_int_equal(restart(f), 0);
	/* Taken away on purpose. */
	assert_int_equal(unlinkat(f->state, WEFT_LAST_GOOD_NAME, 0), 0);
	put(f, "a.yaml", MTLS("p", "strict"));
	assert_int_equal(restart(f), 0);
	scan_and_save(f);
	assert_false(is_strict(f, "p"));
}

static void test_cannot_be_saved(void **state)
{
	struct fixture *f = *state;

	restart(f);
	put(f, "a.yaml", MTLS("p", "STRICT"));
	scan(f);
	/* A folder of that name cannot be replaced by a file. */
	assert_int_equal(mkdirat(f->state, WEFT_LAST_GOOD_NAME, 0700), 0);
	assert_int_equal(weft_source_save(f->source, f->model), -EISDIR);
	assert_in_range(weft_source_due_ms(f->source), 1, 1001);
	assert_int_equal(unlinkat(f->state, WEFT_LAST_GOOD_NAME, AT_REMOVEDIR), 0);
	scan_and_save(f);
	put(f, "a.yaml", MTLS("p", "strict"));
	restart(f);
	scan_and_save(f);
	assert_true(is_strict(f, "p"));
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
		TEST(test_last_good_outlives_the_process), TEST(test_deleted_while_nobody_looked),
		TEST(test_torn_while_nobody_looked), TEST(test_moved_while_nobody_looked),
		TEST(test_damaged),		     TEST(test_cannot_be_saved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
