/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the agent, and telling apart what its answer holds. */
#ifndef WEFT_CLI_AGENT_H
#define WEFT_CLI_AGENT_H

#include "cli/cmds.h"
#include "ctl/client.h"

/* One question, one answer, which the caller puts. An answer without the member `needed` is -EBADMSG. */
int weft_agent_ask(const struct weft_options *options, const char *request, const char *needed,
		   struct json_object **ret_answer, struct weft_err *err);

/* Asks for a change and puts the row of what is in force then. Takes `request`. */
int weft_agent_change(struct weft_context *context, struct json_object *request, struct weft_err *err);

/* A member of an answer; NULL if it is not there or of another type. */
struct json_object *weft_agent_member(struct json_object *object, const char *key, enum json_type type);
const char *weft_agent_text(struct json_object *object, const char *key); /* "" */
uint64_t weft_agent_number(struct json_object *object, const char *key); /* 0 */

/*
 * Puts every member of `object` that is a column of the open row and plain text, number or boolean there.
 * So an agent that is newer than we are adds nothing that is not documented.
 */
void weft_agent_put(struct weft_output *output, const struct weft_column *columns, struct json_object *object);
/* Each element of the array as a row of `columns`. */
void weft_agent_put_rows(struct weft_output *output, const struct weft_column *columns, struct json_object *array);

#endif
