/* SPDX-License-Identifier: Apache-2.0 */
/* Offline: the same source, model and words as role control, with nobody to apply to. */
#include "agent/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "agent/problems.h"
#include "agent/source_dir.h"
#include "ctl/client.h"
#include "model/model.h"

/* One directory, compiled. */
struct compiled {
	struct weft_source *source;
	struct weft_model *model;
	struct weft_problems whole;
};

static void compiled_done(struct compiled *compiled)
{
	weft_source_free(compiled->source);
	weft_model_free(compiled->model);
	weft_problems_done(&compiled->whole);
}

static int compile(const struct weft_options *options, const char *node, const char *directory, struct compiled *compiled,
		   struct weft_err *err)
{
	struct weft_model_options model = { .node = node, .capacity = options->ceiling }; /* maps grow so far */
	weft_close_on_exit int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	weft_cleanup(weft_plan_done) struct weft_plan plan = { 0 };
	struct weft_names *names;
	size_t changed;
	int r;

	if (dir < 0)
		return weft_err_set(err, errno, "cannot read the directory %s: %m", directory);
	names = weft_names_new();
	compiled->source = weft_source_new(0);
	compiled->model = names ? weft_model_new(&model, names) : NULL;
	if (!compiled->source || !compiled->model)
		return weft_err_set(err, ENOMEM, "out of memory");
	r = weft_source_scan(compiled->source, dir, compiled->model, &changed);
	if (r < 0)
		return weft_err_set(err, r, "cannot read the directory %s: %m", directory);
	r = weft_model_commit(compiled->model, 1, NULL, 0, &plan, &compiled->whole, err);
	if (r == -ENOSPC)
		r = weft_problems_add(&compiled->whole, WEFT_SEVERITY_ERROR, directory, 0, NULL, NULL, "%s", err->text);
	return r;
}

static void each_problem(const struct compiled *compiled, void (*each)(void *context, const struct weft_problem *problem),
			 void *context)
{
	weft_source_problems(compiled->source, each, context);
	for (size_t i = 0; i < compiled->whole.count; i++)
		each(context, &compiled->whole.item[i]);
}

static void count_errors(void *context, const struct weft_problem *problem)
{
	*(size_t *)context += problem->severity == WEFT_SEVERITY_ERROR;
}

static void count_notices(void *context, const struct weft_problem *problem)
{
	*(size_t *)context += problem->severity == WEFT_SEVERITY_NOTICE;
}

static void print_problem(void *context, const struct weft_problem *problem)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;

	if (weft_problem_print(problem, &text) == 0)
		fprintf(context, "%s: %s\n", problem->severity == WEFT_SEVERITY_ERROR ? "error" : "notice", text.data);
}

static void put_json(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

static int fail(const struct weft_options *options, const struct weft_err *err)
{
	if (options->json) {
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "ok", json_object_new_boolean(false));
		json_object_object_add(object, "error", json_object_new_string(err->text));
		put_json(object);
	} else {
		fprintf(stderr, "weftd: %s\n", err->text);
	}
	return WEFT_EXIT_FAILURE;
}

int weft_check_run(const struct weft_options *options)
{
	weft_cleanup(compiled_done) struct compiled compiled = { 0 };
	struct weft_err err = { "" };
	size_t errors = 0, notices = 0, resources;

	if (compile(options, options->node, options->directory, &compiled, &err) < 0)
		return fail(options, &err);
	each_problem(&compiled, count_errors, &errors);
	each_problem(&compiled, count_notices, &notices);
	resources = weft_source_count(compiled.source);
	if (options->json) {
		struct json_object *object = json_object_new_object(), *list = json_object_new_array();

		json_object_object_add(object, "ok", json_object_new_boolean(errors == 0));
		json_object_object_add(object, "resources", json_object_new_uint64(resources));
		json_object_object_add(object, "errors", json_object_new_uint64(errors));
		json_object_object_add(object, "notices", json_object_new_uint64(notices));
		each_problem(&compiled, weft_problem_to_json, list);
		json_object_object_add(object, "problems", list);
		put_json(object);
	} else {
		each_problem(&compiled, print_problem, stdout);
		printf("%zu resources, %zu errors, %zu notices\n", resources, errors, notices);
	}
	return errors ? WEFT_EXIT_FAILURE : WEFT_EXIT_OK;
}

/* ---- --diff ---- */

/* A line of weft_model_print() under its service. */
struct line {
	UT_hash_handle hh; /* by key, in order */
	char *key; /* service header and the first two words: what stays when only details change */
	const char *what;
	char *service;
	char *text; /* the rest */
	bool seen;
};

static void lines_free(struct line **lines)
{
	struct line *line, *next;

	HASH_ITER(hh, *lines, line, next) {
		HASH_DELETE(hh, *lines, line);
		free(line->key);
		free(line->service);
		free(line->text);
		free(line);
	}
}

static int add_line(struct line **lines, const char *what, const char *header, const char *text)
{
	const char *service = header;
	size_t service_size = strcspn(header, " "), name_size = strcspn(text, " ");
	struct line *line = calloc(1, sizeof(*line)), *twin;

	if (!line)
		return -ENOMEM;
	line->what = what;
	line->service = strndup(service, service_size);
	line->text = strdup(text);
	if (asprintf(&line->key, "%s\n%s\n%.*s", header, what, strcmp(what, "service") == 0 ? 0 : (int)name_size, text) < 0)
		line->key = NULL;
	HASH_FIND_STR(*lines, line->key ? line->key : "", twin);
	if (!line->key || !line->service || !line->text || twin) {
		bool lost = !twin;

		free(line->key);
		free(line->service);
		free(line->text);
		free(line);
		return lost ? -ENOMEM : 0;
	}
	HASH_ADD_KEYPTR(hh, *lines, line->key, strlen(line->key), line);
	return 0;
}

/* Cuts the text up; it is spent afterwards. Rows of single addresses follow from services and pods and are left out. */
static int cut_up(char *text, struct line **lines)
{
	static const struct {
		const char *prefix;
		const char *what;
	} kinds[] = {
		{ "service ", "service" }, { "  frontend ", "frontend" }, { "  endpoint ", "endpoint" }, { "opt-out ", "opt-out" },
		{ "policy ", "policy" }
	};
	const char *header = "";
	char *at = text, *row;

	while ((row = strsep(&at, "\n")))
		for (size_t i = 0; i < WEFT_ARRAY_SIZE(kinds); i++) {
			size_t size = strlen(kinds[i].prefix);
			char *rest = row + size;
			int r;

			if (strncmp(row, kinds[i].prefix, size) != 0)
				continue;
			if (i == 0)
				header = rest;
			else if (row[0] != ' ')
				header = "";
			if (i == 0)
				rest += strcspn(rest, " ") + (rest[strcspn(rest, " ")] == ' ');
			r = add_line(lines, kinds[i].what, header, rest);
			if (r < 0)
				return r;
		}
	return 0;
}

static int lines_of(const struct compiled *compiled, struct line **lines)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	int r = weft_model_print(compiled->model, &text);

	return r < 0 || text.size == 0 ? r : cut_up(text.data, lines);
}

struct changes {
	struct json_object *list; /* NULL: print */
	size_t count;
};

static void tell(struct changes *changes, const char *change, const struct line *line, const char *text)
{
	changes->count++;
	if (changes->list) {
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "change", json_object_new_string(change));
		json_object_object_add(object, "what", json_object_new_string(line->what));
		json_object_object_add(object, "service", json_object_new_string(line->service));
		json_object_object_add(object, "text", json_object_new_string(text));
		json_object_array_add(changes->list, object);
		return;
	}
	printf("%-8s %-9s %s%s%s\n", change, line->what, line->service, *line->service ? " " : "", text);
}

static int compare(struct line *before, struct line *after, struct changes *changes)
{
	struct line *line, *old;

	for (line = after; line; line = line->hh.next) {
		weft_free_on_exit char *both = NULL;

		HASH_FIND_STR(before, line->key, old);
		if (!old) {
			tell(changes, "added", line, line->text);
			continue;
		}
		old->seen = true;
		if (strcmp(old->text, line->text) == 0)
			continue;
		if (asprintf(&both, "%s -> %s", old->text, line->text) < 0) {
			both = NULL;
			return -ENOMEM;
		}
		tell(changes, "changed", line, both);
	}
	for (line = before; line; line = line->hh.next)
		if (!line->seen)
			tell(changes, "removed", line, line->text);
	return 0;
}

/* What the agent of this instance uses, if one answers; the caller puts *ret_status. */
static void ask_agent(const struct weft_options *options, struct json_object **ret_status, const char **config,
		      const char **node)
{
	struct weft_client *client = NULL;
	struct json_object *status, *instance, *value;
	struct weft_err err;

	if (weft_client_open(options->run, &client, &err) < 0)
		return;
	if (weft_client_ask(client, "status", ret_status, &err) == 0 && json_object_object_get_ex(*ret_status, "status", &status)) {
		if (json_object_object_get_ex(status, "node", &value))
			*node = json_object_get_string(value);
		if (!options->config_given && json_object_object_get_ex(status, "instance", &instance) &&
		    json_object_object_get_ex(instance, "config", &value))
			*config = json_object_get_string(value);
	}
	weft_client_close(client);
}

int weft_diff_run(const struct weft_options *options)
{
	weft_cleanup(compiled_done) struct compiled before = { 0 }, after = { 0 };
	weft_cleanup(lines_free) struct line *old = NULL, *new = NULL;
	weft_json_on_exit struct json_object *status = NULL;
	const char *config = options->config, *node = options->node;
	struct changes changes = { 0 };
	struct weft_err err = { "" };
	size_t errors = 0;
	int r;

	ask_agent(options, &status, &config, &node);
	r = compile(options, node, config, &before, &err);
	if (r == 0)
		r = compile(options, node, options->directory, &after, &err);
	if (r < 0)
		return fail(options, &err);
	if (options->json)
		changes.list = json_object_new_array();
	r = lines_of(&before, &old);
	if (r == 0)
		r = lines_of(&after, &new);
	if (r == 0)
		r = compare(old, new, &changes);
	if (r < 0) {
		json_object_put(changes.list);
		weft_err_set(&err, ENOMEM, "out of memory");
		return fail(options, &err);
	}
	each_problem(&after, print_problem, stderr);
	each_problem(&after, count_errors, &errors);
	if (options->json) {
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "ok", json_object_new_boolean(errors == 0));
		json_object_object_add(object, "changes", changes.list);
		put_json(object);
	} else if (changes.count == 0) {
		puts("nothing would change");
	}
	return errors ? WEFT_EXIT_FAILURE : WEFT_EXIT_OK;
}
