/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weft config check, config diff, ca, uninstall: what weftd does itself, without an
 * agent. So there is one parser and one model, and both programs say the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/agent.h"

#define ANSWER_MAX (256u << 20)

/* Beside ourselves first: what was built or installed together is of one version. */
static int find_weftd(char *ret_path, size_t size, struct weft_err *err)
{
	static const char *const places[] = { ".", "../agent", "../sbin", "../libexec/weft" };
	char self[PATH_MAX], copy[PATH_MAX + 32], *path, *rest, *folder;
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length > 0) {
		self[length] = '\0';
		folder = dirname(self);
		for (size_t i = 0; i < WEFT_ARRAY_SIZE(places); i++) {
			snprintf(copy, sizeof(copy), "%s/%s/weftd", folder, places[i]);
			if (access(copy, X_OK) == 0 && snprintf(ret_path, size, "%s", copy) < (int)size)
				return 0;
		}
	}
	snprintf(copy, sizeof(copy), "%s", getenv("PATH") ? getenv("PATH") : "/usr/local/sbin:/usr/sbin:/sbin");
	rest = copy;
	while ((path = strsep(&rest, ":"))) {
		snprintf(ret_path, size, "%s/weftd", path);
		if (*path && access(ret_path, X_OK) == 0)
			return 0;
	}
	return weft_err_set(err, ENOENT,
			    "weftd is neither beside weft nor in PATH: it reads the configuration, install it");
}

/*
 * Runs weftd with the words; `answer`, if asked for, collects its standard output. Its standard error is ours.
 * Returns its exit status, or -errno.
 */
static int run_weftd(const char *const *words, struct weft_buf *answer, struct weft_err *err)
{
	weft_close_on_exit int from = -1, to = -1;
	char path[PATH_MAX];
	int r, status, pipe_fds[2];
	pid_t child;

	r = find_weftd(path, sizeof(path), err);
	if (r < 0)
		return r;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return weft_err_set(err, errno, "cannot make a pipe: %m");
	from = pipe_fds[0];
	to = pipe_fds[1];
	child = fork();
	if (child < 0)
		return weft_err_set(err, errno, "cannot start %s: %m", path);
	if (child == 0) {
		if (!answer || dup2(to, STDOUT_FILENO) >= 0)
			execv(path, (char *const *)words);
		_exit(127);
	}
	close(weft_take_fd(to));
	r = answer ? weft_read_all(from, ANSWER_MAX, answer) : 0;
	/* nobody reads what it still says: it ends by SIGPIPE, and is waited for */
	close(weft_take_fd(from));
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return weft_err_set(err, errno, "cannot wait for %s: %m", path);
	if (r < 0)
		return weft_err_set(err, r, "cannot read what %s says: %s", path, strerror(-r));
	if (!WIFEXITED(status))
		return weft_err_set(err, EREMOTEIO, "%s was ended by signal %d", path, WTERMSIG(status));
	if (WEXITSTATUS(status) == 127)
		return weft_err_set(err, ENOEXEC, "cannot run %s", path);
	return WEXITSTATUS(status);
}

/* An option and its value, if there is one. Returns the new count. */
static size_t add_word(const char **words, size_t count, const char *option, const char *value)
{
	if (!*value)
		return count;
	words[count] = option;
	words[count + 1] = value;
	return count + 2;
}

/*
 * The JSON that weftd prints; its exit status through *ret_status. What the running agent has been
 * started with is what a directory is compared with; without an agent weftd's defaults are.
 */
static int ask_weftd(const struct weft_options *options, const char *what, const char *directory, const char *needed,
		     struct json_object **ret_answer, int *ret_status, struct weft_err *err)
{
	weft_json_on_exit struct json_object *running = NULL;
	const char *words[16] = { "weftd",	 what,	    directory,	    "--json", "--pins",
				  options->pins, "--state", options->state, "--run",  options->run };
	struct json_object *status;
	size_t count = 10;
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	weft_json_on_exit struct json_object *answer = NULL;
	int code;

	if (weft_agent_ask(options, "status", "status", &running, NULL) == 0) {
		status = weft_agent_member(running, "status", json_type_object);
		count = add_word(words, count, "--config",
				 weft_agent_text(weft_agent_member(status, "instance", json_type_object), "config"));
		add_word(words, count, "--node", weft_agent_text(status, "node"));
	}
	code = run_weftd(words, &text, err);
	if (code < 0)
		return code;
	if (text.size)
		answer = json_tokener_parse(text.data);
	if (weft_agent_text(answer, "error")[0])
		return weft_err_set(err, EREMOTEIO, "%s", weft_agent_text(answer, "error"));
	if (!weft_agent_member(answer, needed, json_type_array))
		return weft_err_set(err, EREMOTEIO, "weftd %s %s gave no answer (exit status %d)", what, directory,
				    code);
	*ret_answer = weft_take_ptr(answer);
	*ret_status = code;
	return 0;
}

int weft_cmd_config_check(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_json_on_exit struct json_object *answer = NULL;
	struct weft_output *out = context->output;
	const struct weft_column *problems = out->columns;
	int status, r;

	r = ask_weftd(context->options, "--check", args->text[WEFT_ARG_DIR], "problems", &answer, &status, err);
	if (r < 0)
		return r;
	while (strcmp(problems->key, "problems") != 0)
		problems++;
	weft_output_row(out);
	weft_agent_put(out, out->columns, answer);
	weft_output_list(out, "problems");
	weft_agent_put_rows(out, problems->columns, weft_agent_member(answer, "problems", json_type_array));
	weft_output_list_end(out);
	weft_output_row_end(out);
	return json_object_get_boolean(weft_agent_member(answer, "ok", json_type_boolean)) ? WEFT_EXIT_OK
											   : WEFT_EXIT_FAILURE;
}

int weft_cmd_config_diff(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_json_on_exit struct json_object *answer = NULL;
	int status, r;

	r = ask_weftd(context->options, "--diff", args->text[WEFT_ARG_DIR], "changes", &answer, &status, err);
	if (r < 0)
		return r;
	weft_agent_put_rows(context->output, context->output->columns,
			    weft_agent_member(answer, "changes", json_type_array));
	return status ? WEFT_EXIT_FAILURE : WEFT_EXIT_OK;
}

static int ca(struct weft_context *context, const char *what, const char *value, const char *option, const char *option_value,
	      struct weft_err *err)
{
	const struct weft_options *options = context->options;
	weft_json_on_exit struct json_object *answer = NULL;
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	const char *words[16] = { "weftd", "--json", "--state", options->state, what };
	size_t count = 5;
	int code;

	if (value)
		words[count++] = value;
	add_word(words, count, option, option_value ? option_value : "");
	code = run_weftd(words, &text, err);
	if (code < 0)
		return code;
	if (text.size)
		answer = json_tokener_parse(text.data);
	if (weft_agent_text(answer, "error")[0])
		return weft_err_set(err, EREMOTEIO, "%s", weft_agent_text(answer, "error"));
	if (!answer || code)
		return weft_err_set(err, EREMOTEIO, "weftd %s gave no answer (exit status %d)", what, code);
	weft_output_row(context->output);
	weft_agent_put(context->output, context->output->columns, answer);
	weft_output_row_end(context->output);
	return 0;
}

int weft_cmd_ca_export(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	return ca(context, "--ca-export", args->text[WEFT_ARG_FILE], "--trust-domain", args->text[WEFT_ARG_DOMAIN], err);
}

int weft_cmd_ca_join(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	return ca(context, "--ca-join", args->text[WEFT_ARG_FILE], "", NULL, err);
}

int weft_cmd_ca_rotate(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	(void)args;
	return ca(context, "--ca-rotate", NULL, "", NULL, err);
}

int weft_cmd_ca_revoke(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	return ca(context, "--ca-revoke", args->text[WEFT_ARG_SERIAL], "", NULL, err);
}

int weft_cmd_uninstall(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	const struct weft_options *options = context->options;
	const char *words[] = { "weftd",	"--uninstall", "--pins",     options->pins, "--state",
				options->state, "--run",       options->run, NULL };
	int status = run_weftd(words, NULL, err);

	(void)args;
	/* weftd said why */
	return status > 0 ? WEFT_EXIT_FAILURE : status;
}
