/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/generate.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "cli/describe.h"
#include "cli/words.h"
#include "version.h"

/* Every page is dated by the release, so that one source gives the same bytes on any day. */
#define MAN_DATE "January 1, 2026"

/* Text inside a line: what roff would read as its own is escaped, `quoted` words are set bold. */
static void roff(struct weft_buf *out, const char *text)
{
	bool bold = false;

	for (const char *at = text; *at; at++) {
		if (*at == '`') {
			weft_buf_printf(out, bold ? "\\fR" : "\\fB");
			bold = !bold;
		} else if (*at == '\\') {
			weft_buf_printf(out, "\\e");
		} else if (at == text && (*at == '.' || *at == '\'')) {
			weft_buf_printf(out, "\\&%c", *at);
		} else if (*at == '-' && at > text && at[-1] == '-') {
			weft_buf_printf(out, "\\-");
		} else {
			weft_buf_add(out, at, 1);
		}
		/* a new sentence begins a new line, as roff wants it */
		if (!bold && (*at == '.' || *at == '?') && at[1] == ' ' && isupper((unsigned char)at[2])) {
			weft_buf_printf(out, "\n");
			at++;
		}
	}
}

static void line(struct weft_buf *out, const char *text)
{
	roff(out, text);
	weft_buf_printf(out, "\n");
}

static void sentence(struct weft_buf *out, const char *text)
{
	char first = (char)toupper((unsigned char)text[0]), rest[1024];
	size_t size = strlen(text);

	snprintf(rest, sizeof(rest), "%c%s%s", first, text + 1, size && text[size - 1] == '.' ? "" : ".");
	line(out, rest);
}

static void head(struct weft_buf *out, const char *name, const char *description)
{
	char title[64];
	size_t i;

	for (i = 0; name[i] && i + 1 < sizeof(title); i++)
		title[i] = (char)toupper((unsigned char)name[i]);
	title[i] = '\0';
	weft_buf_printf(out, ".\\\" Made from the command table of weft " WEFT_VERSION ".\n");
	weft_buf_printf(out, ".Dd " MAN_DATE "\n.Dt %s 1\n.Os weft " WEFT_VERSION "\n.Sh NAME\n.Nm %s\n.Nd ", title,
			name);
	line(out, description);
}

static void exit_status(struct weft_buf *out)
{
	weft_buf_printf(
		out,
		".Sh EXIT STATUS\n.Bl -tag -width Ds\n"
		".It 0\nIt was done.\n"
		".It 1\nIt failed, or\n.Cm config check\nfound something that would be refused; standard error says why.\n"
		".It 2\nThe command line is wrong; standard error says where.\n.El\n");
}

static void columns_list(struct weft_buf *out, const struct weft_column *columns)
{
	weft_buf_printf(out, ".Bl -tag -width Ds -compact\n");
	for (; columns->key; columns++) {
		weft_buf_printf(out, ".It Va %s Pq %s\n", columns->key, weft_column_json_type(columns));
		sentence(out, columns->sentence);
		if (columns->columns)
			columns_list(out, columns->columns);
	}
	weft_buf_printf(out, ".El\n");
}

static void synopsis(struct weft_buf *out, const struct weft_command *command)
{
	weft_buf_printf(out, ".Nm weft\n.Op Ar OPTIONS\n.Cm %s\n", command->object);
	if (command->verb)
		weft_buf_printf(out, ".Cm %s\n", command->verb);
	for (const struct weft_argument *a = command->arguments; a && a->sentence; a++) {
		weft_buf_printf(out, a->required ? "." : ".Op ");
		if (a->word)
			weft_buf_printf(out, "Cm %s", a->word);
		if (a->value)
			weft_buf_printf(out, "%sAr %s", a->word ? " " : "", a->value);
		weft_buf_printf(out, "\n");
	}
}

static void command_page(struct weft_buf *out, const struct weft_command *command)
{
	char text[64];

	weft_buf_printf(out, ".Ss %s\n", weft_command_name(command, text));
	sentence(out, command->sentence);
	if (command->text)
		line(out, command->text);
	if (weft_command_needs(command))
		line(out, weft_command_needs(command));
	if (command->arguments)
		weft_buf_printf(out, ".Bl -tag -width Ds\n");
	for (const struct weft_argument *a = command->arguments; a && a->sentence; a++) {
		struct weft_buf choices = WEFT_BUF_INIT;

		weft_buf_printf(out, ".It ");
		if (a->word)
			weft_buf_printf(out, "Cm %s", a->word);
		if (a->value)
			weft_buf_printf(out, "%sAr %s", a->word ? " " : "", a->value);
		weft_buf_printf(out, "\n");
		sentence(out, a->sentence);
		weft_argument_choices(a, &choices);
		if (choices.size) {
			weft_buf_printf(out, "One of ");
			roff(out, choices.data);
			weft_buf_printf(out, ".\n");
		}
		weft_buf_done(&choices);
	}
	if (command->arguments)
		weft_buf_printf(out, ".El\n");
	if (weft_command_json(command)) {
		weft_buf_printf(out, ".Pp\nJSON: ");
		line(out, weft_command_json(command));
		columns_list(out, command->columns);
	}
}

static void object_page(struct weft_buf *out, const struct weft_object *object)
{
	char name[64];

	snprintf(name, sizeof(name), "weft-%s", object->name);
	head(out, name, object->sentence);
	weft_buf_printf(out, ".Sh SYNOPSIS\n");
	for (size_t i = 0, n = 0; i < weft_commands_count; i++) {
		if (strcmp(weft_commands[i].object, object->name) != 0)
			continue;
		synopsis(out, &weft_commands[i]);
		n++;
	}
	weft_buf_printf(out,
			".Sh DESCRIPTION\nOptions, files and the words that all objects share are in\n.Xr weft 1 .\n");
	for (size_t i = 0; i < weft_commands_count; i++)
		if (strcmp(weft_commands[i].object, object->name) == 0)
			command_page(out, &weft_commands[i]);
	exit_status(out);
	weft_buf_printf(out, ".Sh SEE ALSO\n.Xr weft 1 ,\n.Xr weftd 8\n");
}

static int by_name(const void *left, const void *right)
{
	const struct weft_object *const *a = left, *const *b = right;

	return strcmp((*a)->name, (*b)->name);
}

static void main_page(struct weft_buf *out)
{
	const struct weft_object *sorted[64];

	head(out, "weft", "shows and steers the service mesh of this node");
	weft_buf_printf(out, ".Sh SYNOPSIS\n.Nm\n.Op Ar OPTIONS\n.Ar OBJECT\n.Op Ar VERB\n.Op Ar ARGUMENTS\n");
	weft_buf_printf(
		out,
		".Sh DESCRIPTION\n.Nm\nshows what the BPF programs of\n.Xr weftd 8\ndo on this node: services, endpoints, "
		"connections, counters.\nIt reads the pinned maps itself, so that most of it works while no agent runs.\n"
		".Pp\nEvery word may be abbreviated as long as it stays unambiguous; without a verb an object's first one is meant.\n"
		"Options may stand anywhere before\n.Ql -- .\n");
	weft_buf_printf(out, ".Ss Objects\n.Bl -tag -width Ds\n");
	for (size_t i = 0; i < weft_objects_count; i++) {
		weft_buf_printf(out, ".It Cm %s\n", weft_objects[i].name);
		sentence(out, weft_objects[i].sentence);
		weft_buf_printf(out, "See\n.Xr weft-%s 1 .\n", weft_objects[i].name);
	}
	weft_buf_printf(out, ".El\n.Ss Options\n.Bl -tag -width Ds\n");
	for (size_t i = 0; i < weft_options_count; i++) {
		const struct weft_option *option = &weft_options[i];

		weft_buf_printf(out, ".It ");
		if (option->letter)
			weft_buf_printf(out, "Fl %c , ", option->letter);
		weft_buf_printf(out, "Fl \\-%s", option->name);
		if (option->value)
			weft_buf_printf(out, " Ar %s", option->value);
		weft_buf_printf(out, "\n");
		sentence(out, option->sentence);
		if (option->value)
			weft_buf_printf(out, "Without it\n.Pa %s .\n", option->fallback);
	}
	weft_buf_printf(
		out,
		".El\n.Ss JSON\nThe keys of each command's JSON are on its object's page, and are not taken away or given another "
		"meaning within a major version; new ones may come.\nA key is left out where nothing is known.\n"
		"Numbers have the unit that their key ends in, and none otherwise.\nErrors are text, on standard error.\n");
	weft_buf_printf(out, ".Sh ENVIRONMENT\n.Bl -tag -width Ds\n");
	for (size_t i = 0; i < weft_options_count; i++)
		if (weft_options[i].environment)
			weft_buf_printf(out, ".It Ev %s\nStands in for\n.Fl \\-%s .\n", weft_options[i].environment,
					weft_options[i].name);
	weft_buf_printf(out, ".El\n.Sh FILES\n.Bl -tag -width Ds\n"
			     ".It Pa /sys/fs/bpf/weft/v1\nPinned maps and links.\n"
			     ".It Pa /var/lib/weft/names\nNames of the ids in the maps.\n"
			     ".It Pa /run/weft/weft.sock\nThe agent's socket.\n.El\n");
	exit_status(out);
	weft_buf_printf(
		out,
		".Sh EXAMPLES\n"
		"What stands behind a service, for a program:\n.Dl weft service show shop/web -p\n"
		".Pp\nWhere a connect of a pod would go, and why:\n.Dl weft explain from shop/client to 10.96.0.10:80\n"
		".Pp\nWhat a change of configuration would do:\n.Dl weft config diff /etc/weft/config.d\n");
	weft_buf_printf(out, ".Sh SEE ALSO\n");
	for (size_t i = 0; i < weft_objects_count; i++)
		sorted[i] = &weft_objects[i];
	qsort(sorted, weft_objects_count, sizeof(*sorted), by_name);
	for (size_t i = 0; i < weft_objects_count; i++)
		weft_buf_printf(out, ".Xr weft-%s 1 ,\n", sorted[i]->name);
	weft_buf_printf(out, ".Xr weftd 8\n");
}

static int write_file(int directory, const char *name, const struct weft_buf *content, struct weft_err *err)
{
	int r = weft_write_file_at(directory, name, content->data, content->size, 0644);

	return r < 0 ? weft_err_set(err, r, "cannot write %s: %s", name, strerror(-r)) : 0;
}

static int generate_man(int directory, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf page = WEFT_BUF_INIT;
	char name[64];
	int r;

	main_page(&page);
	r = write_file(directory, "weft.1", &page, err);
	for (size_t i = 0; r == 0 && i < weft_objects_count; i++) {
		weft_buf_clear(&page);
		object_page(&page, &weft_objects[i]);
		snprintf(name, sizeof(name), "weft-%s.1", weft_objects[i].name);
		r = write_file(directory, name, &page, err);
	}
	return r;
}

/* Words that may follow a command's words, and what may follow each of them. */
static void complete_command(struct weft_buf *out, const struct weft_command *command)
{
	char name[64];

	weft_buf_printf(out, "\t'%s')\n\t\tcase $previous in\n", weft_command_name(command, name));
	for (const struct weft_argument *a = command->arguments; a && a->sentence; a++) {
		if (!a->word || !a->value)
			continue;
		weft_buf_printf(out, "\t\t%s) words='", a->word);
		for (size_t i = 0; a->choices && a->choices[i]; i++)
			weft_buf_printf(out, "%s%s", i ? " " : "", a->choices[i]);
		weft_buf_printf(out, "' ;;\n");
	}
	weft_buf_printf(out, "\t\t*) words='");
	for (const struct weft_argument *a = command->arguments; a && a->sentence; a++) {
		if (a->word)
			weft_buf_printf(out, "%s ", a->word);
		for (size_t i = 0; !a->word && a->choices && a->choices[i]; i++)
			weft_buf_printf(out, "%s ", a->choices[i]);
	}
	weft_buf_printf(out, "' ;;\n\t\tesac\n");
	for (const struct weft_argument *a = command->arguments; a && a->sentence; a++)
		if (a->kind == WEFT_ARGUMENT_DIR)
			weft_buf_printf(
				out,
				"\t\tcompopt -o filenames\n\t\tmapfile -t COMPREPLY < <(compgen -d -- \"$current\")\n\t\treturn\n");
	weft_buf_printf(out, "\t\t;;\n");
}

static void verbs_of(struct weft_buf *out, const struct weft_object *object)
{
	weft_buf_printf(out, "\t%s) verbs='", object->name);
	for (size_t i = 0; i < weft_commands_count; i++)
		if (strcmp(weft_commands[i].object, object->name) == 0 && weft_commands[i].verb)
			weft_buf_printf(out, "%s ", weft_commands[i].verb);
	weft_buf_printf(out, "' ;;\n");
}

static int generate_completion(int directory, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf out = WEFT_BUF_INIT;

	weft_buf_printf(&out, "# bash completion for weft, made from its command table\n_weft() {\n"
			      "\tlocal current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
			      "\tlocal object='' verb='' verbs='' words='' skip='' i\n"
			      "\tCOMPREPLY=()\n\tcase $previous in\n\t");
	for (size_t i = 0, n = 0; i < weft_options_count; i++)
		if (weft_options[i].value)
			weft_buf_printf(&out, "%s--%s", n++ ? "|" : "", weft_options[i].name);
	weft_buf_printf(
		&out,
		")\n\t\tcompopt -o filenames\n\t\tmapfile -t COMPREPLY < <(compgen -d -- \"$current\")\n\t\treturn\n\t\t;;\n\tesac\n"
		"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n\t\tif [[ $skip ]]; then\n\t\t\tskip=''\n\t\t\tcontinue\n\t\tfi\n"
		"\t\tcase ${COMP_WORDS[i]} in\n\t\t");
	for (size_t i = 0, n = 0; i < weft_options_count; i++)
		if (weft_options[i].value)
			weft_buf_printf(&out, "%s--%s", n++ ? "|" : "", weft_options[i].name);
	weft_buf_printf(
		&out,
		") skip=1 ;;\n\t\t-*) ;;\n\t\t*)\n\t\t\tif [[ ! $object ]]; then\n\t\t\t\tobject=${COMP_WORDS[i]}\n"
		"\t\t\telif [[ ! $verb ]]; then\n\t\t\t\tverb=${COMP_WORDS[i]}\n\t\t\tfi\n\t\t\t;;\n\t\tesac\n\tdone\n"
		"\tcase $object in\n\t'') words='");
	for (size_t i = 0; i < weft_objects_count; i++)
		weft_buf_printf(&out, "%s ", weft_objects[i].name);
	weft_buf_printf(&out, "' ;;\n");
	for (size_t i = 0; i < weft_objects_count; i++)
		verbs_of(&out, &weft_objects[i]);
	weft_buf_printf(&out, "\tesac\n\tif [[ $verbs && ! $verb ]]; then\n\t\twords=$verbs\n\tfi\n"
			      "\tcase \"$object${verbs:+ $verb}\" in\n");
	for (size_t i = 0; i < weft_commands_count; i++)
		complete_command(&out, &weft_commands[i]);
	weft_buf_printf(&out, "\tesac\n\tif [[ $current == -* ]]; then\n\t\twords='");
	for (size_t i = 0; i < weft_options_count; i++)
		weft_buf_printf(&out, "--%s ", weft_options[i].name);
	weft_buf_printf(
		&out,
		"'\n\tfi\n\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n}\ncomplete -F _weft weft\n");
	return write_file(directory, "weft", &out, err);
}

int weft_generate(const char *what, const char *directory, struct weft_err *err)
{
	static const char *const kinds[] = { "man", "completion" };
	weft_close_on_exit int fd = -1;
	size_t index;
	int r;

	r = weft_word_find("kind of file", what, kinds, WEFT_ARRAY_SIZE(kinds), &index, err);
	if (r < 0)
		return r;
	if (mkdir(directory, 0755) < 0 && errno != EEXIST)
		return weft_err_set(err, errno, "cannot make %s: %m", directory);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return weft_err_set(err, errno, "cannot open %s: %m", directory);
	return index == 0 ? generate_man(fd, err) : generate_completion(fd, err);
}
