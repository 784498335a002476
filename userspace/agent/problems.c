/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/problems.h"

#include <json-c/json.h>
#include <string.h>
#include <uthash.h>

struct line {
	UT_hash_handle hh;
	unsigned int round;
	char text[]; /* the key */
};

struct weft_said {
	struct line *lines;
	unsigned int round;
};

struct weft_said *weft_said_new(void)
{
	return calloc(1, sizeof(struct weft_said));
}

struct weft_said *weft_said_free(struct weft_said *said)
{
	struct line *line, *next;

	if (!said)
		return NULL;
	HASH_ITER(hh, said->lines, line, next) {
		HASH_DELETE(hh, said->lines, line);
		free(line);
	}
	free(said);
	return NULL;
}

void weft_said_begin(struct weft_said *said)
{
	said->round++;
}

bool weft_said_again(struct weft_said *said, const struct weft_problem *problem)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	struct line *line;

	if (weft_problem_print(problem, &text) < 0)
		return true;
	HASH_FIND(hh, said->lines, text.data, text.size, line);
	if (line) {
		line->round = said->round;
		return false;
	}
	line = malloc(sizeof(*line) + text.size + 1);
	if (!line)
		return true;
	line->round = said->round;
	memcpy(line->text, text.data, text.size + 1);
	HASH_ADD_KEYPTR(hh, said->lines, line->text, text.size, line);
	return true;
}

void weft_said_end(struct weft_said *said, void (*over)(const char *line))
{
	struct line *line, *next;

	HASH_ITER(hh, said->lines, line, next) {
		if (line->round == said->round)
			continue;
		over(line->text);
		HASH_DELETE(hh, said->lines, line);
		free(line);
	}
}
void weft_problem_to_json(void *list, const struct weft_problem *problem)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "severity",
			       json_object_new_string(problem->severity == WEFT_SEVERITY_ERROR ? "error" : "notice"));
	json_object_object_add(object, "file", json_object_new_string(problem->file));
	if (problem->line)
		json_object_object_add(object, "line", json_object_new_int64(problem->line));
	json_object_object_add(object, "resource", json_object_new_string(problem->resource));
	json_object_object_add(object, "path", json_object_new_string(problem->path));
	json_object_object_add(object, "text", json_object_new_string(problem->text));
	json_object_array_add(list, object);
}
