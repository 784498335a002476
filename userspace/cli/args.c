/* SPDX-License-Identifier: Apache-2.0 */
/* Words of the command line, held against the table. */
#include <errno.h>
#include <string.h>

#include "base/addr.h"
#include "cli/cmds.h"
#include "cli/words.h"

#define WORDS_MAX 64

const char *weft_command_name(const struct weft_command *command, char *text)
{
	snprintf(text, 64, "%s%s%s", command->object, command->verb ? " " : "", command->verb ? command->verb : "");
	return text;
}

int weft_command_find(int argc, char *const *argv, const struct weft_command **ret_command, int *ret_used,
		      struct weft_err *err)
{
	const char *words[WORDS_MAX];
	const struct weft_command *first = NULL;
	size_t index, count = 0;
	char what[64];
	int r;

	if (argc < 1)
		return weft_err_set(
			err, EINVAL,
			"nothing to do: say an object and a verb, as in `weft service list`; `weft help` names all");
	for (size_t i = 0; i < weft_objects_count; i++)
		words[i] = weft_objects[i].name;
	r = weft_word_find("object", argv[0], words, weft_objects_count, &index, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < weft_commands_count && count < WORDS_MAX; i++) {
		if (strcmp(weft_commands[i].object, weft_objects[index].name) != 0)
			continue;
		if (!first)
			first = &weft_commands[i];
		words[count++] = weft_commands[i].verb;
	}
	if (!first->verb || argc < 2) {
		*ret_command = first;
		*ret_used = 1;
		return 0;
	}
	snprintf(what, sizeof(what), "verb of %s", first->object);
	r = weft_word_find(what, argv[1], words, count, &index, err);
	if (r < 0)
		return r;
	*ret_command = first + index;
	*ret_used = 2;
	return 0;
}

static int number_parse(const char *text, uint32_t *ret_number)
{
	uint64_t number = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		number = number * 10 + (uint64_t)(*text - '0');
		if (number > UINT32_MAX)
			return -EINVAL;
	}
	if (!number)
		return -EINVAL;
	*ret_number = (uint32_t)number;
	return 0;
}

static bool is_pair(const char *text)
{
	const char *slash = strchr(text, '/');

	return slash && slash != text && slash[1] && !strchr(slash + 1, '/');
}

static int take(const struct weft_argument *argument, const char *text, struct weft_args *args, struct weft_err *err)
{
	size_t count = 0, index;
	int r;

	switch (argument->kind) {
	case WEFT_ARGUMENT_PAIR:
		if (!is_pair(text))
			return weft_err_set(err, EINVAL, "`%s` is no %s: write NAMESPACE/NAME", text, argument->value);
		break;
	case WEFT_ARGUMENT_CLIENT:
		if (!is_pair(text) && strcmp(text, "host") != 0)
			return weft_err_set(err, EINVAL,
					    "`%s` is no %s: write NAMESPACE/NAME, or `host` for the node itself", text,
					    argument->value);
		break;
	case WEFT_ARGUMENT_NUMBER:
		if (number_parse(text, &args->number[argument->slot]) < 0)
			return weft_err_set(err, EINVAL, "`%s` is no %s: write a number from 1 to 4294967295", text,
					    argument->value);
		break;
	case WEFT_ARGUMENT_CHOICE:
		while (argument->choices[count])
			count++;
		r = weft_word_find(argument->word ? argument->word : "value", text, argument->choices, count, &index,
				   err);
		if (r < 0)
			return r;
		text = argument->choices[index];
		break;
	case WEFT_ARGUMENT_TARGET:
		if (weft_addr_port_parse(text, &args->addr, &args->port) < 0 || !args->port)
			return weft_err_set(err, EINVAL, "`%s` is no %s: write 10.96.0.10:80 or [fd00::1]:80", text,
					    argument->value);
		break;
	case WEFT_ARGUMENT_TEXT:
	case WEFT_ARGUMENT_DIR:
		if (!*text)
			return weft_err_set(err, EINVAL, "%s is empty", argument->value);
		break;
	case WEFT_ARGUMENT_FLAG:
		break;
	}
	args->text[argument->slot] = text;
	return 0;
}

static const struct weft_argument *next_by_place(const struct weft_command *command, const struct weft_args *args)
{
	for (const struct weft_argument *a = command->arguments; a && a->sentence; a++)
		if (!a->word && !args->text[a->slot])
			return a;
	return NULL;
}

int weft_args_parse(const struct weft_command *command, int argc, char *const *argv, struct weft_args *ret_args,
		    struct weft_err *err)
{
	struct weft_args args = { 0 };
	const struct weft_argument *keyword[WORDS_MAX], *argument;
	const char *words[WORDS_MAX];
	size_t count = 0, index;
	char name[64];
	int r;

	weft_command_name(command, name);
	for (argument = command->arguments; argument && argument->sentence; argument++) {
		if (!argument->word)
			continue;
		keyword[count] = argument;
		words[count++] = argument->word;
	}
	for (int i = 0; i < argc; i++) {
		argument = next_by_place(command, &args);
		if (!argument) {
			if (!count)
				return weft_err_set(err, EINVAL, "%s takes no `%s`", name, argv[i]);
			r = weft_word_find("word", argv[i], words, count, &index, err);
			if (r < 0)
				return weft_err_prefix(err, r, "%s", name);
			argument = keyword[index];
			if (args.text[argument->slot])
				return weft_err_set(err, EINVAL, "%s: `%s` is given twice", name, argument->word);
			if (argument->kind != WEFT_ARGUMENT_FLAG && ++i == argc)
				return weft_err_set(err, EINVAL, "%s: `%s` needs %s behind it", name, argument->word,
						    argument->value);
		}
		r = take(argument, argv[i], &args, err);
		if (r < 0)
			return weft_err_prefix(err, r, "%s", name);
	}
	for (argument = command->arguments; argument && argument->sentence; argument++)
		if (argument->required && !args.text[argument->slot])
			return weft_err_set(err, EINVAL, "%s: %s%s%s is missing: %s", name,
					    argument->word ? argument->word : "", argument->word ? " " : "",
					    argument->value, argument->sentence);
	*ret_args = args;
	return 0;
}

static int option_find(const char *arg, size_t size, const struct weft_option **ret_option, struct weft_err *err)
{
	const char *words[WORDS_MAX];
	char name[64];
	size_t index;
	int r;

	for (size_t i = 0; i < weft_options_count; i++)
		words[i] = weft_options[i].name;
	snprintf(name, sizeof(name), "%.*s", (int)size, arg);
	r = weft_word_find("option", name, words, weft_options_count, &index, err);
	if (r < 0)
		return r;
	*ret_option = &weft_options[index];
	return 0;
}

static void option_set(const struct weft_option *option, const char *value, struct weft_options *options)
{
	char *at = (char *)options + option->offset;

	if (option->value)
		*(const char **)at = value;
	else
		*(bool *)at = true;
}

static const struct weft_option *option_letter(char letter)
{
	for (size_t i = 0; i < weft_options_count; i++)
		if (weft_options[i].letter == letter)
			return &weft_options[i];
	return NULL;
}

/* `--netns NAME` is another way to write `netns NAME`. */
static bool is_keyword(const char *word)
{
	for (size_t i = 0; i < weft_commands_count; i++)
		for (const struct weft_argument *a = weft_commands[i].arguments; a && a->sentence; a++)
			if (a->word && strcmp(a->word, word) == 0)
				return true;
	return false;
}

int weft_options_parse(int *argc, char **argv, struct weft_options *ret_options, struct weft_err *err)
{
	struct weft_options options = { 0 };
	const struct weft_option *option;
	int kept = 0, i, r;

	for (size_t o = 0; o < weft_options_count; o++) {
		const char *value = weft_options[o].environment ? getenv(weft_options[o].environment) : NULL;

		if (weft_options[o].value)
			option_set(&weft_options[o], value && *value ? value : weft_options[o].fallback, &options);
	}
	for (i = 0; i < *argc && strcmp(argv[i], "--") != 0; i++) {
		const char *arg = argv[i], *equals;

		if (arg[0] != '-' || !arg[1]) {
			argv[kept++] = argv[i];
			continue;
		}
		if (arg[1] != '-') {
			for (const char *letter = arg + 1; *letter; letter++) {
				option = option_letter(*letter);
				if (!option)
					return weft_err_set(err, EINVAL, "unknown option `-%c`; `weft help` names all",
							    *letter);
				option_set(option, NULL, &options);
			}
			continue;
		}
		equals = strchr(arg, '=');
		if (is_keyword(arg + 2) && option_find(arg + 2, strlen(arg + 2), &option, err) < 0) {
			argv[kept++] = argv[i] + 2;
			continue;
		}
		r = option_find(arg + 2, equals ? (size_t)(equals - arg - 2) : strlen(arg + 2), &option, err);
		if (r < 0)
			return r;
		if (!option->value && equals)
			return weft_err_set(err, EINVAL, "option --%s takes no value", option->name);
		if (option->value && !equals && i + 1 == *argc)
			return weft_err_set(err, EINVAL, "option --%s needs %s behind it", option->name, option->value);
		option_set(option, !option->value ? NULL : equals ? equals + 1 : argv[++i], &options);
	}
	if (i < *argc)
		i++;
	while (i < *argc)
		argv[kept++] = argv[i++];
	*argc = kept;
	*ret_options = options;
	return 0;
}
