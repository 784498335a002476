/* SPDX-License-Identifier: Apache-2.0 */
/* weft policy: who may connect to whom, as the agent has it. */
#include <errno.h>
#include <string.h>

#include "cli/agent.h"

int weft_cmd_policy_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_json_on_exit struct json_object *answer = NULL;
	int r = weft_agent_ask(context->options, "policy.list", "policies", &answer, err);

	(void)args;
	if (r < 0)
		return r;
	weft_agent_put_rows(context->output, context->output->columns, weft_agent_member(answer, "policies", json_type_array));
	return 0;
}

static bool is_meant(const struct weft_args *args, const char *policy)
{
	const char *space = strchr(policy, ' '), *kind = args->text[WEFT_ARG_KIND];
	size_t size = space ? (size_t)(space - policy) : 0;

	return space && strcmp(space + 1, args->text[WEFT_ARG_NAME]) == 0 &&
	       (!kind || (strlen(kind) == size && strncmp(kind, policy, size) == 0));
}

int weft_cmd_policy_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_json_on_exit struct json_object *answer = NULL;
	const char *wanted = args->text[WEFT_ARG_NAME];
	struct weft_output *out = context->output;
	struct json_object *list, *found = NULL;
	int r = weft_agent_ask(context->options, "policy.list", "policies", &answer, err);

	if (r < 0)
		return r;
	list = weft_agent_member(answer, "policies", json_type_array);
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *policy = json_object_array_get_idx(list, i);

		if (!is_meant(args, weft_agent_text(policy, "policy")))
			continue;
		if (found)
			return weft_err_set(err, EINVAL, "two policies have the name %s: add `kind AuthorizationPolicy` or `kind PeerAuthentication`",
					    wanted);
		found = policy;
	}
	if (!found)
		return weft_err_set(err, ENOENT, "there is no policy %s: `weft policy list` shows those that there are", wanted);
	weft_output_row(out);
	weft_agent_put(out, out->columns, found);
	weft_output_row_end(out);
	return 0;
}
