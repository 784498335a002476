/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/describe.h"

const char *weft_argument_usage(const struct weft_argument *argument, char *text)
{
	snprintf(text, 64, "%s%s%s", argument->word ? argument->word : "", argument->word && argument->value ? " " : "",
		 argument->value ? argument->value : "");
	return text;
}

int weft_command_usage(const struct weft_command *command, struct weft_buf *out)
{
	char text[64];
	int r = weft_buf_printf(out, "weft %s", weft_command_name(command, text));

	for (const struct weft_argument *a = command->arguments; r == 0 && a && a->sentence; a++)
		r = weft_buf_printf(out, a->required ? " %s" : " [%s]", weft_argument_usage(a, text));
	return r;
}

int weft_argument_choices(const struct weft_argument *argument, struct weft_buf *out)
{
	int r = 0;

	for (size_t i = 0; r == 0 && argument->choices && argument->choices[i]; i++)
		r = weft_buf_printf(out, "%s`%s`", i ? ", " : "", argument->choices[i]);
	return r;
}

const char *weft_column_json_type(const struct weft_column *column)
{
	switch (column->kind) {
	case WEFT_COLUMN_TEXT:
		return "string";
	case WEFT_COLUMN_TEXTS:
		return "array of strings";
	case WEFT_COLUMN_YES:
		return "boolean";
	case WEFT_COLUMN_LIST:
	case WEFT_COLUMN_FLAT:
		return "array of objects";
	case WEFT_COLUMN_OBJECT:
		return "object";
	default:
		return "number";
	}
}

const char *weft_command_needs(const struct weft_command *command)
{
	if (command->needs & WEFT_NEEDS_MAPS && command->needs & WEFT_USES_AGENT)
		return "Reads the pinned maps, for which it needs root; asks the agent too, if it runs.";
	if (command->needs & WEFT_NEEDS_MAPS)
		return "Reads the pinned maps, for which it needs root; needs no agent.";
	if (command->needs & WEFT_NEEDS_AGENT)
		return "Asks the agent, which has to run.";
	if (command->needs & WEFT_NEEDS_WEFTD)
		return "Runs weftd for it; needs no agent.";
	if (command->needs & WEFT_USES_AGENT)
		return "Asks the agent if it runs, and reads the pinned maps if it may.";
	return NULL;
}

const char *weft_command_json(const struct weft_command *command)
{
	switch (command->form) {
	case WEFT_FORM_NONE:
		return NULL;
	case WEFT_FORM_TABLE:
	case WEFT_FORM_CARDS:
		return "An array of objects with these keys:";
	case WEFT_FORM_CARD:
		return "An object with these keys:";
	case WEFT_FORM_STREAM:
		return "An object a line, with these keys:";
	}
	return NULL;
}
