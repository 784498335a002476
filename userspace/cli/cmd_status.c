/* SPDX-License-Identifier: Apache-2.0 */
/* weft status, weft version */
#include <errno.h>
#include <string.h>

#include "cli/agent.h"
#include "cli/clock.h"
#include "cli/view.h"
#include "version.h"

static const struct weft_column *below(const struct weft_column *columns, const char *key)
{
	while (strcmp(columns->key, key) != 0)
		columns++;
	return columns->columns;
}

static void put_object(struct weft_output *out, const char *key, struct json_object *status)
{
	struct json_object *object = weft_agent_member(status, key, json_type_object);

	if (!object)
		return;
	weft_output_object(out, key);
	weft_agent_put(out, below(out->columns, key), object);
	weft_output_object_end(out);
}

static int put_agent(struct weft_context *context, struct weft_err *err)
{
	weft_json_on_exit struct json_object *answer = NULL;
	struct weft_output *out = context->output;
	struct json_object *status;
	int r = weft_agent_ask(context->options, "status", "status", &answer, err);

	if (r < 0) {
		weft_output_text(out, "agent", err->text);
		return r;
	}
	status = weft_agent_member(answer, "status", json_type_object);
	weft_output_text(out, "agent",
			 json_object_get_boolean(weft_agent_member(status, "ready", json_type_boolean)) ? "ready"
													: "starting");
	weft_agent_put(out, out->columns, status);
	/* the row's own word for it; an agent has no member of that name */
	put_object(out, "instance", status);
	put_object(out, "config", status);
	weft_output_list(out, "roles");
	weft_agent_put_rows(out, below(out->columns, "roles"), weft_agent_member(status, "roles", json_type_array));
	weft_output_list_end(out);
	return 0;
}

static int count_programs(struct weft_view *view, uint64_t *ret_count)
{
	struct weft_prog_info info;
	int index = -1;

	*ret_count = 0;
	while ((index = weft_reader_prog_next(weft_view_reader(view), index, &info)) >= 0)
		(*ret_count)++;
	return index == -ENOENT ? 0 : index;
}

static int put_kernel(struct weft_context *context, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	struct weft_output *out = context->output;
	const struct weft_view_frontend *frontends;
	const struct weft_endpoint *endpoints;
	struct weft_setting setting;
	size_t frontends_count = 0, endpoints_count = 0;
	uint64_t programs = 0, used = 0, live = 0, now = weft_clock_boot_ns();
	int r;

	r = weft_view_open(context->options, &view, err);
	if (r == 0)
		r = weft_view_setting(view, &setting, err);
	if (r == 0)
		r = weft_view_frontends(view, &frontends, &frontends_count, err);
	if (r == 0)
		r = weft_view_endpoints(view, &endpoints, &endpoints_count, err);
	for (size_t i = 0; r == 0 && i < endpoints_count; i++) {
		uint64_t here = 0;

		if (endpoints[i].state == WEFT_ENDPOINT_FREE)
			continue;
		r = weft_view_live(view, endpoints[i].id, &here, err);
		live += here;
		used++;
	}
	if (r == 0) {
		r = count_programs(view, &programs);
		if (r < 0)
			weft_err_set(err, r, "cannot ask the kernel about programs: %s", strerror(-r));
	}
	if (r < 0) {
		weft_output_text(out, "pins", err->text);
		return r;
	}
	weft_output_text(out, "pins", "there");
	weft_output_object(out, "kernel");
	weft_output_number(out, "abi", setting.version);
	weft_output_yes(out, "bypass", setting.flags & WEFT_SETTING_F_BYPASS);
	weft_output_yes(out, "metrics", setting.flags & WEFT_SETTING_F_METRICS);
	weft_output_number(out, "watchers", setting.watchers);
	weft_output_number(out, "programs", programs);
	weft_output_number(out, "frontends", frontends_count);
	weft_output_number(out, "endpoints", used);
	if (weft_view_counted(view))
		weft_output_number(out, "live", live);
	if (setting.boot_ns && setting.boot_ns <= now)
		weft_output_number(out, "age_ns", now - setting.boot_ns);
	weft_output_object_end(out);
	return 0;
}

int weft_cmd_status(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	struct weft_err agent_err = { 0 }, kernel_err = { 0 };
	int agent, kernel;

	(void)args;
	weft_output_row(context->output);
	agent = put_agent(context, &agent_err);
	kernel = put_kernel(context, &kernel_err);
	weft_output_row_end(context->output);
	if (agent < 0 && kernel < 0)
		return weft_err_set(err, agent, "%s; %s", agent_err.text, kernel_err.text);
	return 0;
}

int weft_cmd_version(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	(void)args;
	(void)err;
	weft_output_row(context->output);
	weft_output_text(context->output, "version", WEFT_VERSION);
	weft_output_number(context->output, "abi", WEFT_ABI_VERSION);
	weft_output_row_end(context->output);
	return 0;
}
