/* SPDX-License-Identifier: Apache-2.0 */
/* weft help: the table in words. */
#include <errno.h>
#include <string.h>

#include "cli/describe.h"

static int print_all(FILE *to)
{
	fputs("Usage: weft [OPTIONS] OBJECT VERB [ARGUMENTS]\n\nObjects:\n", to);
	for (size_t i = 0; i < weft_objects_count; i++)
		fprintf(to, "  %-10s  %s\n", weft_objects[i].name, weft_objects[i].sentence);
	fputs("\nOptions:\n", to);
	for (size_t i = 0; i < weft_options_count; i++) {
		const struct weft_option *option = &weft_options[i];
		char text[64];

		snprintf(text, sizeof(text), "--%s%s%s", option->name, option->value ? " " : "",
			 option->value ? option->value : "");
		if (option->letter)
			fprintf(to, "  -%c, %-12s  %s\n", option->letter, text, option->sentence);
		else
			fprintf(to, "      %-12s  %s\n", text, option->sentence);
		if (option->value)
			fprintf(to, "%20s%s without it; environment %s\n", "", option->fallback, option->environment);
	}
	fputs("\n`weft help OBJECT` names an object's verbs, `weft help OBJECT VERB` explains one.\n", to);
	return 0;
}

static int print_object(FILE *to, const struct weft_object *object)
{
	fprintf(to, "weft %s: %s\n\n", object->name, object->sentence);
	for (size_t i = 0; i < weft_commands_count; i++) {
		weft_buf_done_on_exit struct weft_buf usage = WEFT_BUF_INIT;

		if (strcmp(weft_commands[i].object, object->name) != 0)
			continue;
		if (weft_command_usage(&weft_commands[i], &usage) < 0)
			return -ENOMEM;
		fprintf(to, "  %s\n      %s\n", usage.data, weft_commands[i].sentence);
	}
	return 0;
}

static void print_columns(FILE *to, const struct weft_column *columns, int indent)
{
	for (; columns->key; columns++) {
		fprintf(to, "%*s%-*s  %s: %s\n", indent, "", 26 - indent, columns->key, weft_column_json_type(columns),
			columns->sentence);
		if (columns->columns)
			print_columns(to, columns->columns, indent + 2);
	}
}

static int print_command(FILE *to, const struct weft_command *command)
{
	weft_buf_done_on_exit struct weft_buf usage = WEFT_BUF_INIT;
	char text[64];

	if (weft_command_usage(command, &usage) < 0)
		return -ENOMEM;
	fprintf(to, "%s\n\n  %s.\n", usage.data, command->sentence);
	if (command->text)
		fprintf(to, "  %s\n", command->text);
	if (weft_command_needs(command))
		fprintf(to, "  %s\n", weft_command_needs(command));
	if (command->arguments)
		fputs("\nArguments:\n", to);
	for (const struct weft_argument *a = command->arguments; a && a->sentence; a++) {
		weft_buf_done_on_exit struct weft_buf choices = WEFT_BUF_INIT;

		if (weft_argument_choices(a, &choices) < 0)
			return -ENOMEM;
		fprintf(to, "  %-18s  %s%s%s\n", weft_argument_usage(a, text), a->sentence, choices.size ? ": " : "",
			choices.size ? choices.data : "");
	}
	if (weft_command_json(command)) {
		fprintf(to, "\nJSON (-j, -p): %s\n", weft_command_json(command));
		print_columns(to, command->columns, 2);
	}
	return 0;
}

int weft_cmd_help(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	const char *object = args->text[WEFT_ARG_OBJECT], *verb = args->text[WEFT_ARG_VERB];
	char *words[] = { (char *)object, (char *)verb };
	const struct weft_command *command;
	int used, r;

	if (!object) {
		r = print_all(context->output->to);
	} else {
		r = weft_command_find(verb ? 2 : 1, words, &command, &used, err);
		if (r < 0)
			return r;
		if (verb || !command->verb) {
			r = print_command(context->output->to, command);
		} else {
			size_t i = 0;

			while (strcmp(weft_objects[i].name, command->object) != 0)
				i++;
			r = print_object(context->output->to, &weft_objects[i]);
		}
	}
	return r < 0 ? weft_err_set(err, r, "out of memory") : 0;
}
