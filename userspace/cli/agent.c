/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/agent.h"

#include <errno.h>

int weft_agent_ask(const struct weft_options *options, const char *request, const char *needed,
		   struct json_object **ret_answer, struct weft_err *err)
{
	weft_cleanup(weft_client_closep) struct weft_client *client = NULL;
	weft_json_on_exit struct json_object *answer = NULL;
	int r;

	r = weft_client_open(options->run, &client, err);
	if (r == 0)
		r = weft_client_ask(client, request, &answer, err);
	if (r < 0)
		return r;
	if (!json_object_object_get_ex(answer, needed, NULL))
		return weft_err_set(
			err, EBADMSG,
			"the agent's answer to %s has no `%s`: it is of another version; `weft status` names it",
			request, needed);
	*ret_answer = weft_take_ptr(answer);
	return 0;
}

struct json_object *weft_agent_member(struct json_object *object, const char *key, enum json_type type)
{
	struct json_object *value;

	if (!object || !json_object_is_type(object, json_type_object) ||
	    !json_object_object_get_ex(object, key, &value))
		return NULL;
	return json_object_is_type(value, type) ? value : NULL;
}

const char *weft_agent_text(struct json_object *object, const char *key)
{
	struct json_object *value = weft_agent_member(object, key, json_type_string);

	return value ? json_object_get_string(value) : "";
}

uint64_t weft_agent_number(struct json_object *object, const char *key)
{
	struct json_object *value = weft_agent_member(object, key, json_type_int);

	return value ? json_object_get_uint64(value) : 0;
}

void weft_agent_put(struct weft_output *output, const struct weft_column *columns, struct json_object *object)
{
	for (; columns->key; columns++) {
		struct json_object *value;

		switch (columns->kind) {
		case WEFT_COLUMN_TEXT:
			weft_output_text(output, columns->key, weft_agent_text(object, columns->key));
			break;
		case WEFT_COLUMN_NUMBER:
		case WEFT_COLUMN_BYTES:
		case WEFT_COLUMN_NS:
		case WEFT_COLUMN_US:
			value = weft_agent_member(object, columns->key, json_type_int);
			if (value)
				weft_output_number(output, columns->key, json_object_get_uint64(value));
			break;
		case WEFT_COLUMN_YES:
			value = weft_agent_member(object, columns->key, json_type_boolean);
			if (value)
				weft_output_yes(output, columns->key, json_object_get_boolean(value));
			break;
		default:
			break;
		}
	}
}

void weft_agent_put_rows(struct weft_output *output, const struct weft_column *columns, struct json_object *array)
{
	for (size_t i = 0; array && i < json_object_array_length(array); i++) {
		weft_output_row(output);
		weft_agent_put(output, columns, json_object_array_get_idx(array, i));
		weft_output_row_end(output);
	}
}

int weft_agent_change(struct weft_context *context, struct json_object *request, struct weft_err *err)
{
	weft_cleanup(weft_client_closep) struct weft_client *client = NULL;
	weft_json_on_exit struct json_object *own = request, *answer = NULL;
	int r;

	if (!own)
		return weft_err_set(err, ENOMEM, "out of memory");
	r = weft_client_open(context->options->run, &client, err);
	if (r == 0)
		r = weft_client_call(client, own, &answer, err);
	if (r < 0)
		return r;
	weft_output_row(context->output);
	weft_agent_put(context->output, context->output->columns, answer);
	weft_output_row_end(context->output);
	return 0;
}
