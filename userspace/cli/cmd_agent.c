/* SPDX-License-Identifier: Apache-2.0 */
/* weft config list, problems; feature; log; bypass: what is the agent's to answer. */
#include <string.h>

#include "cli/agent.h"
#include "cli/view.h"

static int put_list(struct weft_context *context, const char *request, const char *key, struct weft_err *err)
{
	weft_json_on_exit struct json_object *answer = NULL;
	int r = weft_agent_ask(context->options, request, key, &answer, err);

	if (r < 0)
		return r;
	weft_agent_put_rows(context->output, context->output->columns, weft_agent_member(answer, key, json_type_array));
	return 0;
}

int weft_cmd_config_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	(void)args;
	return put_list(context, "config.list", "resources", err);
}

int weft_cmd_config_problems(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	(void)args;
	return put_list(context, "config.problems", "problems", err);
}

int weft_cmd_feature_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	static const struct {
		const char *name, *need, *with, *without;
	} features[] = {
#define FLOOR "floor"
#define OPTIONAL "optional"
#define WEFT_FEATURE(NAME, name, need, with, without) { name, need, with, without },
#include "weft/lists/feature.h"
#undef WEFT_FEATURE
#undef OPTIONAL
#undef FLOOR
	};
	weft_json_on_exit struct json_object *answer = NULL;
	struct weft_output *out = context->output;
	struct json_object *array;
	int r;

	(void)args;
	r = weft_agent_ask(context->options, "feature.list", "features", &answer, err);
	if (r < 0)
		return r;
	array = weft_agent_member(answer, "features", json_type_array);
	for (size_t i = 0; array && i < json_object_array_length(array); i++) {
		struct json_object *feature = json_object_array_get_idx(array, i);
		struct json_object *there = weft_agent_member(feature, "there", json_type_boolean);
		const char *name = weft_agent_text(feature, "name");

		weft_output_row(out);
		weft_agent_put(out, out->columns, feature);
		for (size_t f = 0; f < WEFT_ARRAY_SIZE(features); f++) {
			if (strcmp(features[f].name, name) != 0)
				continue;
			weft_output_text(out, "need", features[f].need);
			weft_output_text(out, "effect",
					 json_object_get_boolean(there) ? features[f].with : features[f].without);
		}
		weft_output_row_end(out);
	}
	return 0;
}

int weft_cmd_log_level(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	struct json_object *request = json_object_new_object();
	const char *level = args->text[WEFT_ARG_LEVEL];

	json_object_object_add(request, "request", json_object_new_string(level ? "log.set" : "log.get"));
	if (level)
		json_object_object_add(request, "level", json_object_new_string(level));
	return weft_agent_change(context, request, err);
}

int weft_cmd_bypass_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	struct weft_setting setting;
	int r;

	(void)args;
	r = weft_view_open(context->options, &view, err);
	if (r == 0)
		r = weft_view_setting(view, &setting, err);
	if (r < 0)
		return r;
	weft_output_row(context->output);
	weft_output_yes(context->output, "bypass", setting.flags & WEFT_SETTING_F_BYPASS);
	weft_output_row_end(context->output);
	return 0;
}

static int set_bypass(struct weft_context *context, bool on, struct weft_err *err)
{
	struct json_object *request = json_object_new_object();

	json_object_object_add(request, "request", json_object_new_string("bypass.set"));
	json_object_object_add(request, "on", json_object_new_boolean(on));
	return weft_agent_change(context, request, err);
}

int weft_cmd_bypass_on(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	(void)args;
	return set_bypass(context, true, err);
}

int weft_cmd_bypass_off(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	(void)args;
	return set_bypass(context, false, err);
}
