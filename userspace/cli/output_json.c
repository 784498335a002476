/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: one line, or with indentation. */
#include <json-c/json.h>

#include "cli/output.h"

static void print(struct weft_output *output, struct json_object *object, bool pretty)
{
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE |
		    (pretty ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN);

	fputs(json_object_to_json_string_ext(object, flags), output->to);
	fputc('\n', output->to);
}

/* A stream stays one object a line: whoever reads it splits it at line ends. */
static void stream(struct weft_output *output, struct json_object *row)
{
	print(output, row, false);
}

static void whole(struct weft_output *output, struct json_object *rows)
{
	if (output->form == WEFT_FORM_CARD)
		print(output, json_object_array_get_idx(rows, 0), output->pretty);
	else
		print(output, rows, output->pretty);
}

const struct weft_output_ops weft_output_json_ops = { .stream = stream, .whole = whole };
