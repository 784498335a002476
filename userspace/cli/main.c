/* SPDX-License-Identifier: Apache-2.0 */
/* weft: options, the command in the table, its words; then the command, and its error, once. */
#include <errno.h>
#include <locale.h>
#include <string.h>

#include "cli/cmds.h"
#include "cli/generate.h"

static void say(const char *program, const struct weft_err *err, int r)
{
	fprintf(stderr, "%s: %s\n", program, err->text[0] ? err->text : strerror(-r));
}

/* What `-h` and `-V` stand for. */
static int replace(int argc, char **argv, const struct weft_options *options, struct weft_args *args,
		   const struct weft_command **ret_command, struct weft_err *err)
{
	char *word[] = { (char *)(options->version ? "version" : "help") };
	int used;

	if (!options->version) {
		args->text[WEFT_ARG_OBJECT] = argc > 0 ? argv[0] : NULL;
		args->text[WEFT_ARG_VERB] = argc > 1 ? argv[1] : NULL;
	}
	return weft_command_find(1, word, ret_command, &used, err);
}

int main(int argc, char **argv)
{
	static const char *const program = "weft";
	struct weft_options options;
	struct weft_output output = { .to = stdout };
	struct weft_context context = { .options = &options, .output = &output, .program = program };
	const struct weft_command *command = NULL;
	struct weft_args args = { 0 };
	struct weft_err err = { 0 };
	int r, used = 0;

	setlocale(LC_CTYPE, "");
	if (argc == 4 && strcmp(argv[1], "--generate") == 0) {
		r = weft_generate(argv[2], argv[3], &err);
		if (r < 0)
			say(program, &err, r);
		return r < 0 ? WEFT_EXIT_FAILURE : WEFT_EXIT_OK;
	}
	argc--;
	argv++;
	r = weft_options_parse(&argc, argv, &options, &err);
	if (r == 0 && (options.help || options.version)) {
		r = replace(argc, argv, &options, &args, &command, &err);
	} else if (r == 0) {
		r = weft_command_find(argc, argv, &command, &used, &err);
		if (r == 0)
			r = weft_args_parse(command, argc - used, argv + used, &args, &err);
	}
	if (r < 0) {
		say(program, &err, r);
		return WEFT_EXIT_USAGE;
	}
	output.ops = options.json || options.pretty ? &weft_output_json_ops : &weft_output_text_ops;
	output.pretty = options.pretty;
	if (command->columns)
		weft_output_begin(&output, command->form, command->columns);
	r = command->run(&context, &args, &err);
	if (r >= 0 && command->columns) {
		int ended = weft_output_end(&output);

		if (ended < 0)
			r = weft_err_set(&err, ended, "cannot print: %s", strerror(-ended));
	}
	weft_output_drop(&output);
	if (r < 0) {
		say(program, &err, r);
		return r == -EINVAL && command->needs == WEFT_NEEDS_NOTHING ? WEFT_EXIT_USAGE : WEFT_EXIT_FAILURE;
	}
	return r;
}
