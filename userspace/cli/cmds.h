/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table of what `weft` can be asked. Parsing, help, man pages,
 * completion and JSON keys all come from it; a command is a row here, its
 * columns, and one function.
 */
#ifndef WEFT_CLI_CMDS_H
#define WEFT_CLI_CMDS_H

#include "base/err.h"
#include "cli/output.h"

/* Exit statuses; documented in weft(1). */
enum weft_exit {
	WEFT_EXIT_OK = 0,
	WEFT_EXIT_FAILURE = 1,
	WEFT_EXIT_USAGE = 2,
};

enum weft_argument_slot {
	WEFT_ARG_NAMESPACE,
	WEFT_ARG_NAME,
	WEFT_ARG_KIND,
	WEFT_ARG_SERVICE,
	WEFT_ARG_POD,
	WEFT_ARG_STATE,
	WEFT_ARG_PROTOCOL,
	WEFT_ARG_COUNT,
	WEFT_ARG_INTERVAL,
	WEFT_ARG_SORT,
	WEFT_ARG_BATCH,
	WEFT_ARG_ID,
	WEFT_ARG_DIR,
	WEFT_ARG_LEVEL,
	WEFT_ARG_FROM,
	WEFT_ARG_TO,
	WEFT_ARG_OBJECT,
	WEFT_ARG_VERB,
	WEFT_ARG_IDENTITY,
	WEFT_ARG_NETNS,
	WEFT_ARG_FILE,
	WEFT_ARG_DOMAIN,
	WEFT_ARG_SERIAL,
	WEFT_ARG_MAX_
};

enum weft_argument_kind {
	WEFT_ARGUMENT_TEXT,
	WEFT_ARGUMENT_PAIR, /* NAMESPACE/NAME */
	WEFT_ARGUMENT_CLIENT, /* the same, or `host` */
	WEFT_ARGUMENT_NUMBER, /* 1 to 2^32-1 */
	WEFT_ARGUMENT_CHOICE,
	WEFT_ARGUMENT_TARGET, /* ADDR:PORT */
	WEFT_ARGUMENT_DIR,
	WEFT_ARGUMENT_FLAG, /* the word alone */
};

struct weft_argument {
	enum weft_argument_slot slot;
	enum weft_argument_kind kind;
	const char *word; /* keyword in front of the value; NULL: by place. NULL with value NULL ends a table */
	const char *value; /* what help calls the value */
	const char *const *choices; /* of CHOICE, NULL at the end */
	bool required;
	const char *sentence;
};

struct weft_args {
	const char *text[WEFT_ARG_MAX_]; /* NULL: not given. A CHOICE is spelled out. */
	uint32_t number[WEFT_ARG_MAX_];
	struct weft_addr addr; /* of the TARGET */
	uint16_t port;
};

struct weft_options {
	bool json, pretty, help, version;
	const char *pins, *state, *run;
};

/* An option of `weft` itself; also the environment variable that stands in for it. */
struct weft_option {
	char letter; /* 0: none */
	const char *name;
	const char *value; /* NULL: takes none */
	const char *environment;
	const char *fallback;
	const char *sentence;
	size_t offset; /* in struct weft_options: bool, or const char * if it takes a value */
};

struct weft_context {
	const struct weft_options *options;
	struct weft_output *output;
	const char *program; /* as it was called, for messages */
};

/* What has to be there. */
#define WEFT_NEEDS_NOTHING 0u
#define WEFT_NEEDS_MAPS 1u
#define WEFT_NEEDS_AGENT 2u
#define WEFT_NEEDS_WEFTD 4u /* the program, not the process */
#define WEFT_USES_AGENT 8u /* says more if it is there */

struct weft_command {
	const char *object;
	const char *verb; /* NULL: the object is all there is to say */
	const struct weft_argument *arguments;
	unsigned needs;
	enum weft_form form;
	const char *sentence;
	const char *text; /* more, for help and man pages; NULL */
	const struct weft_column *columns;
	/* 0 or -errno with `err`; a positive value is the exit status, and all was said. */
	int (*run)(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
};

struct weft_object {
	const char *name;
	const char *sentence;
};

extern const struct weft_object weft_objects[];
extern const size_t weft_objects_count;
extern const struct weft_command weft_commands[]; /* those of one object in a row; its first one is the default */
extern const size_t weft_commands_count;
extern const struct weft_option weft_options[];
extern const size_t weft_options_count;

/* Finds object and verb, abbreviated or not. *ret_used = words that name it. -EINVAL with `err`. */
int weft_command_find(int argc, char *const *argv, const struct weft_command **ret_command, int *ret_used,
		      struct weft_err *err);
/* The command's words, "service list". `text` has 64 bytes. */
const char *weft_command_name(const struct weft_command *command, char *text);

/* argv holds what follows the command's words. The texts point into it. -EINVAL with `err`; *ret_args untouched. */
int weft_args_parse(const struct weft_command *command, int argc, char *const *argv, struct weft_args *ret_args,
		    struct weft_err *err);
/* Takes the options out of argv, wherever they stand before "--"; the other words stay, in order. */
int weft_options_parse(int *argc, char **argv, struct weft_options *ret_options, struct weft_err *err);

int weft_cmd_service(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_endpoint_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_endpoint_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_workload(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_workload_attach(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_workload_detach(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_identity_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_identity_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_policy_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_policy_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_conn_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_conn_watch(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_config_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_config_problems(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_config_check(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_config_diff(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_feature_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_prog_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_map_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_metric_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_metric_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_metric_latency(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_status(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_log_level(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_bypass_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_bypass_on(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_bypass_off(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_top(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_explain(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_ca_export(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_ca_join(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_ca_rotate(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_ca_revoke(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_uninstall(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_version(struct weft_context *context, const struct weft_args *args, struct weft_err *err);
int weft_cmd_help(struct weft_context *context, const struct weft_args *args, struct weft_err *err);

#endif
