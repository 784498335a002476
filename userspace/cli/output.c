/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"

/* A tool that runs out of memory while it prints has nothing better to do than to say so and end. */
static struct json_object *whole(struct json_object *object)
{
	if (!object) {
		fputs("weft: out of memory\n", stderr);
		abort();
	}
	return object;
}

static const struct weft_column *column(struct weft_output *output, const char *key, unsigned kinds)
{
	const struct weft_column *at = output->stack[output->depth].columns;

	while (at->key && strcmp(at->key, key) != 0)
		at++;
	if (!at->key || !(kinds & 1u << at->kind) || !output->stack[output->depth].object) {
		fprintf(stderr, "weft: `%s` is not a column of this table, or of another kind\n", key);
		abort();
	}
	return at;
}

static void add(struct weft_output *output, const char *key, struct json_object *value)
{
	json_object_object_add(output->stack[output->depth].object, key, whole(value));
}

void weft_output_drop(struct weft_output *output)
{
	/* objects of the stack hang below their list, except the open row of the outermost one */
	for (int i = output->depth; i >= 0; i--)
		if (output->stack[i].list)
			json_object_put(output->stack[i].object);
	json_object_put(output->rows);
	output->rows = NULL;
	output->depth = 0;
	memset(output->stack, 0, sizeof(output->stack));
}

void weft_output_begin(struct weft_output *output, enum weft_form form, const struct weft_column *columns)
{
	weft_output_drop(output);
	output->form = form;
	output->columns = columns;
	output->streaming = false;
	output->rows = whole(json_object_new_array());
	output->stack[0].columns = columns;
	output->stack[0].list = output->rows;
}

int weft_output_end(struct weft_output *output)
{
	if (output->form != WEFT_FORM_STREAM)
		output->ops->whole(output, output->rows);
	weft_output_drop(output);
	return fflush(output->to) == 0 ? 0 : -errno;
}

void weft_output_row(struct weft_output *output)
{
	output->stack[output->depth].object = whole(json_object_new_object());
}

void weft_output_row_end(struct weft_output *output)
{
	struct json_object *row = output->stack[output->depth].object;

	output->stack[output->depth].object = NULL;
	if (output->depth == 0 && output->form == WEFT_FORM_STREAM) {
		output->ops->stream(output, row);
		fflush(output->to);
		json_object_put(row);
	} else {
		json_object_array_add(output->stack[output->depth].list, row);
	}
}

static void enter(struct weft_output *output, const struct weft_column *at, struct json_object *list,
		  struct json_object *object)
{
	if (output->depth + 1 == WEFT_OUTPUT_DEPTH)
		abort();
	add(output, at->key, list ? list : object);
	output->depth++;
	output->stack[output->depth].columns = at->columns;
	output->stack[output->depth].list = list;
	output->stack[output->depth].object = object;
}

static void leave(struct weft_output *output)
{
	memset(&output->stack[output->depth], 0, sizeof(output->stack[0]));
	output->depth--;
}

void weft_output_list(struct weft_output *output, const char *key)
{
	enter(output, column(output, key, 1u << WEFT_COLUMN_LIST | 1u << WEFT_COLUMN_FLAT),
	      whole(json_object_new_array()), NULL);
}

void weft_output_list_end(struct weft_output *output)
{
	leave(output);
}

void weft_output_object(struct weft_output *output, const char *key)
{
	enter(output, column(output, key, 1u << WEFT_COLUMN_OBJECT), NULL, whole(json_object_new_object()));
}

void weft_output_object_end(struct weft_output *output)
{
	leave(output);
}

void weft_output_text(struct weft_output *output, const char *key, const char *text)
{
	column(output, key, 1u << WEFT_COLUMN_TEXT);
	if (text && *text)
		add(output, key, json_object_new_string(text));
}

void weft_output_textf(struct weft_output *output, const char *key, const char *format, ...)
{
	weft_free_on_exit char *text = NULL;
	va_list args;
	int size;

	va_start(args, format);
	size = vasprintf(&text, format, args);
	va_end(args);
	if (size < 0) {
		text = NULL;
		whole(NULL);
	}
	weft_output_text(output, key, text);
}

void weft_output_texts_add(struct weft_output *output, const char *key, const char *text)
{
	struct json_object *list;

	column(output, key, 1u << WEFT_COLUMN_TEXTS);
	if (!json_object_object_get_ex(output->stack[output->depth].object, key, &list)) {
		list = whole(json_object_new_array());
		add(output, key, list);
	}
	json_object_array_add(list, whole(json_object_new_string(text)));
}

void weft_output_addr(struct weft_output *output, const char *key, const struct weft_addr *addr)
{
	char text[WEFT_ADDR_TEXT];

	weft_output_text(output, key, weft_addr_format(addr, text));
}

void weft_output_number(struct weft_output *output, const char *key, uint64_t number)
{
	column(output, key,
	       1u << WEFT_COLUMN_NUMBER | 1u << WEFT_COLUMN_BYTES | 1u << WEFT_COLUMN_NS | 1u << WEFT_COLUMN_US);
	add(output, key, json_object_new_uint64(number));
}

void weft_output_real(struct weft_output *output, const char *key, double number)
{
	char text[32];

	column(output, key, 1u << WEFT_COLUMN_RATE | 1u << WEFT_COLUMN_SHARE);
	/* six digits are more than anything here is worth, and the same on every machine */
	snprintf(text, sizeof(text), "%.6g", number);
	add(output, key, json_object_new_double_s(number, text));
}

void weft_output_yes(struct weft_output *output, const char *key, bool yes)
{
	column(output, key, 1u << WEFT_COLUMN_YES);
	add(output, key, json_object_new_boolean(yes));
}
