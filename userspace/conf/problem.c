/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

/* Enough to mend a file by; more would be one mistake said over and over. */
#define MAX_PER_FILE 1000

/* Bytes of the well-formed UTF-8 character at `text`, 0 if there is none or it is a control character. */
static size_t printable(const unsigned char *text)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = { { 0x80, 0x00, 0x20 }, { 0xe0, 0xc0, 0xa0 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };

	for (size_t size = 1; size <= WEFT_ARRAY_SIZE(forms); size++) {
		uint32_t code = text[0] & (unsigned char)~forms[size - 1].mask;

		if ((text[0] & forms[size - 1].mask) != forms[size - 1].lead)
			continue;
		for (size_t i = 1; i < size; i++) {
			if ((text[i] & 0xc0) != 0x80)
				return 0;
			code = code << 6 | (text[i] & 0x3f);
		}
		return code >= forms[size - 1].least && code != 0x7f && code <= 0x10ffff ? size : 0;
	}
	return 0;
}

/* Messages quote what somebody wrote: it must neither move a terminal's cursor nor break JSON. */
static void make_printable(char *text)
{
	unsigned char *at = (unsigned char *)text;

	while (*at) {
		size_t size = printable(at);

		if (!size)
			*at = '?';
		at += size ? size : 1;
	}
}

static void problem_done(struct weft_problem *problem)
{
	free(problem->file);
	free(problem->resource);
	free(problem->path);
	free(problem->text);
}

static bool is_full(const struct weft_problems *problems, const char *file)
{
	return problems->count >= MAX_PER_FILE &&
	       strcmp(problems->item[problems->count - MAX_PER_FILE].file, file) == 0;
}

int weft_problems_add(struct weft_problems *problems, enum weft_severity severity, const char *file, unsigned int line,
		      const char *resource, const char *path, const char *format, ...)
{
	struct weft_problem problem = { .severity = severity, .line = line };
	va_list args;
	int size;

	if (is_full(problems, file)) {
		problems->dropped++;
		problems->errors += severity == WEFT_SEVERITY_ERROR;
		return 0;
	}
	if (weft_grow(&problems->item, &problems->room, problems->count + 1, sizeof(problem)) < 0)
		return -ENOMEM;
	va_start(args, format);
	size = vasprintf(&problem.text, format, args);
	va_end(args);
	if (size < 0)
		problem.text = NULL;
	problem.file = strdup(file);
	problem.resource = strdup(resource ? resource : "");
	problem.path = strdup(path ? path : "");
	if (!problem.text || !problem.file || !problem.resource || !problem.path) {
		problem_done(&problem);
		return -ENOMEM;
	}
	make_printable(problem.text);
	make_printable(problem.resource);
	make_printable(problem.path);
	problems->item[problems->count++] = problem;
	problems->errors += severity == WEFT_SEVERITY_ERROR;
	return 0;
}

int weft_problems_move(struct weft_problems *problems, struct weft_problems *from)
{
	size_t kept = 0;

	if (weft_grow(&problems->item, &problems->room, problems->count + from->count, sizeof(*from->item)) < 0)
		return -ENOMEM;
	for (; kept < from->count; kept++) {
		struct weft_problem *problem = &from->item[kept];

		if (is_full(problems, problem->file)) {
			problems->dropped++;
			problem_done(problem);
		} else {
			problems->item[problems->count++] = *problem;
		}
	}
	problems->errors += from->errors;
	problems->dropped += from->dropped;
	free(from->item);
	*from = (struct weft_problems){ 0 };
	return 0;
}

void weft_problems_done(struct weft_problems *problems)
{
	for (size_t i = 0; i < problems->count; i++)
		problem_done(&problems->item[i]);
	free(problems->item);
	*problems = (struct weft_problems){ 0 };
}

int weft_problem_print(const struct weft_problem *problem, struct weft_buf *out)
{
	char line[16] = "";

	if (problem->line)
		snprintf(line, sizeof(line), "%u:", problem->line);
	return weft_buf_printf(out, "%s:%s %s%s%s%s%s", problem->file, line, problem->resource,
			       problem->resource[0] ? ": " : "", problem->path, problem->path[0] ? ": " : "",
			       problem->text);
}
