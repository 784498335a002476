/* SPDX-License-Identifier: Apache-2.0 */
/* weft identity: certificates of this node's workloads, as the agent has them. */
#include <errno.h>
#include <string.h>

#include "cli/agent.h"

static void put(struct weft_output *out, struct json_object *identity)
{
	weft_output_row(out);
	weft_agent_put(out, out->columns, identity);
	weft_output_row_end(out);
}

int weft_cmd_identity_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_json_on_exit struct json_object *answer = NULL;
	struct json_object *list;
	int r = weft_agent_ask(context->options, "identity.list", "identities", &answer, err);

	(void)args;
	if (r < 0)
		return r;
	list = weft_agent_member(answer, "identities", json_type_array);
	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		put(context->output, json_object_array_get_idx(list, i));
	return 0;
}

int weft_cmd_identity_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_json_on_exit struct json_object *answer = NULL;
	const char *wanted = args->text[WEFT_ARG_IDENTITY];
	struct json_object *list;
	int r = weft_agent_ask(context->options, "identity.list", "identities", &answer, err);

	if (r < 0)
		return r;
	list = weft_agent_member(answer, "identities", json_type_array);
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *identity = json_object_array_get_idx(list, i);

		if (strcmp(weft_agent_text(identity, "identity"), wanted) != 0)
			continue;
		put(context->output, identity);
		return 0;
	}
	return weft_err_set(err, ENOENT, "this node has no certificate for %s: `weft identity list` shows those that it has", wanted);
}
