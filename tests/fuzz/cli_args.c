/* SPDX-License-Identifier: Apache-2.0 */
/* Any words behind `weft`: options, object, verb and arguments. What is taken is whole, what is refused is explained. */
#include <assert.h>

#include "cli/cmds.h"
#include "lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool points_into(const struct lines *lines, const char *text, size_t size)
{
	return text >= lines->text && text <= lines->text + size;
}

static void check_arguments(const struct weft_command *command, const struct weft_args *args, const struct lines *lines,
			    size_t size)
{
	for (const struct weft_argument *a = command->arguments; a && a->sentence; a++) {
		const char *text = args->text[a->slot];
		bool known = false;

		assert(text || !a->required);
		if (!text)
			continue;
		for (size_t i = 0; a->kind == WEFT_ARGUMENT_CHOICE && a->choices[i]; i++)
			known |= a->choices[i] == text;
		assert(known || points_into(lines, text, size));
		assert((a->kind == WEFT_ARGUMENT_CHOICE) == known);
		assert(a->kind != WEFT_ARGUMENT_NUMBER || args->number[a->slot]);
		assert(a->kind != WEFT_ARGUMENT_TARGET || args->port);
		assert(a->kind == WEFT_ARGUMENT_FLAG || *text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lines lines;
	struct weft_options options;
	const struct weft_command *command = NULL;
	struct weft_args args;
	struct weft_err err = { "" };
	int argc, before, used = 0, r;

	lines_split(&lines, NULL, data, size);
	argc = before = lines.count;
	r = weft_options_parse(&argc, lines.word, &options, &err);
	if (r == 0) {
		assert(argc >= 0 && argc <= before);
		assert(options.pins && options.state && options.run);
		r = weft_command_find(argc, lines.word, &command, &used, &err);
	}
	if (r == 0) {
		assert(used >= 1 && used <= 2 && used <= argc);
		r = weft_args_parse(command, argc - used, lines.word + used, &args, &err);
	}
	if (r == 0)
		check_arguments(command, &args, &lines, size);
	assert(r == 0 ? !err.text[0] : r < 0 && err.text[0]);
	free(lines.text);
	return 0;
}
