/* SPDX-License-Identifier: Apache-2.0 */
/* weft workload: the names file, with addresses and namespaces from the maps; the agent attaches and detaches. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/agent.h"
#include "cli/view.h"

struct address {
	uint32_t workload;
	struct weft_addr addr;
};

struct pod {
	uint32_t workload;
	uint32_t flags;
	uint64_t netns;
};

static int by_address(const void *left, const void *right)
{
	const struct address *a = left, *b = right;

	if (a->workload != b->workload)
		return a->workload < b->workload ? -1 : 1;
	return weft_addr_compare(&a->addr, &b->addr);
}

static int by_netns(const void *left, const void *right)
{
	const struct pod *a = left, *b = right;

	if (a->workload != b->workload)
		return a->workload < b->workload ? -1 : 1;
	return a->netns < b->netns ? -1 : a->netns > b->netns;
}

static int read_addresses(struct weft_view *view, struct address **ret_addresses, size_t *ret_count,
			  struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	struct address *addresses;
	size_t count;
	int r = weft_view_all(view, WEFT_MAP_WORKLOAD_AT, &keys, &values, &count, err);

	if (r < 0)
		return r;
	addresses = calloc(count + 1, sizeof(*addresses));
	if (!addresses)
		return weft_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		memcpy(&addresses[i].addr, keys.data + i * sizeof(struct weft_addr), sizeof(struct weft_addr));
		memcpy(&addresses[i].workload, values.data + i * sizeof(uint32_t), sizeof(uint32_t));
	}
	qsort(addresses, count, sizeof(*addresses), by_address);
	*ret_addresses = addresses;
	*ret_count = count;
	return 0;
}

static int read_pods(struct weft_view *view, struct pod **ret_pods, size_t *ret_count, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	struct pod *pods;
	size_t count;
	int r = weft_view_all(view, WEFT_MAP_POD, &keys, &values, &count, err);

	if (r < 0)
		return r;
	pods = calloc(count + 1, sizeof(*pods));
	if (!pods)
		return weft_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		struct weft_pod pod;

		memcpy(&pods[i].netns, keys.data + i * sizeof(uint64_t), sizeof(uint64_t));
		memcpy(&pod, values.data + i * sizeof(pod), sizeof(pod));
		pods[i].workload = pod.workload;
		pods[i].flags = pod.flags;
	}
	qsort(pods, count, sizeof(*pods), by_netns);
	*ret_pods = pods;
	*ret_count = count;
	return 0;
}

/* Workloads in weft_capture. */
static int read_attached(struct weft_view *view, uint32_t **ret_attached, size_t *ret_count, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	uint32_t *attached;
	size_t count;
	int r = weft_view_all(view, WEFT_MAP_CAPTURE, &keys, &values, &count, err);

	if (r < 0)
		return r;
	attached = calloc(count + 1, sizeof(*attached));
	if (!attached)
		return weft_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		struct weft_capture capture;

		memcpy(&capture, values.data + i * sizeof(capture), sizeof(capture));
		attached[i] = capture.workload;
	}
	*ret_attached = attached;
	*ret_count = count;
	return 0;
}

/* "" if the agent does not say. */
static const char *why_not(struct json_object *answer, uint32_t workload)
{
	struct json_object *list = weft_agent_member(answer, "workloads", json_type_array);

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *object = json_object_array_get_idx(list, i);

		if (weft_agent_number(object, "workload") == workload)
			return weft_agent_text(object, "why");
	}
	return "";
}

static void put(struct weft_output *out, const struct weft_workload_name *name)
{
	weft_output_number(out, "id", name->id);
	weft_output_text(out, "namespace", name->namespace);
	weft_output_text(out, "name", name->name);
	weft_output_text(out, "kind", name->kind);
	weft_output_text(out, "service_account", name->service_account);
	weft_output_text(out, "node", name->node);
	weft_output_text(out, "zone", name->zone);
	weft_output_text(out, "app", name->app);
	weft_output_text(out, "version", name->version);
}

static bool wanted(const struct weft_workload_name *name, const struct weft_args *args)
{
	if (args->text[WEFT_ARG_NAMESPACE] && strcmp(args->text[WEFT_ARG_NAMESPACE], name->namespace) != 0)
		return false;
	return !args->text[WEFT_ARG_NAME] || strcmp(args->text[WEFT_ARG_NAME], name->name) == 0;
}

static int by_name(const void *left, const void *right)
{
	const struct weft_workload_name *const *a = left, *const *b = right;
	int order = strcmp((*a)->namespace, (*b)->namespace);

	return order ? order : strcmp((*a)->name, (*b)->name);
}

int weft_cmd_workload(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	weft_free_on_exit struct address *addresses = NULL;
	weft_free_on_exit struct pod *pods = NULL;
	weft_free_on_exit uint32_t *attached = NULL;
	weft_json_on_exit struct json_object *answer = NULL;
	weft_free_on_exit const struct weft_workload_name **names = NULL;
	const struct weft_workload_name *name;
	struct weft_output *out = context->output;
	size_t addresses_count = 0, pods_count = 0, attached_count = 0, room = 0, count = 0;
	uint32_t previous = 0, id;
	int r;

	r = weft_view_open(context->options, &view, err);
	if (r == 0 && args->text[WEFT_ARG_POD])
		r = weft_view_require_workload(view, args->text[WEFT_ARG_POD], &id, err);
	if (r == 0)
		r = read_addresses(view, &addresses, &addresses_count, err);
	if (r == 0)
		r = read_pods(view, &pods, &pods_count, err);
	if (r == 0)
		r = read_attached(view, &attached, &attached_count, err);
	if (r < 0)
		return r;
	if (weft_agent_ask(context->options, "workload.attached", "workloads", &answer, NULL) < 0)
		answer = NULL; /* the reasons are the agent's; the rest is the kernel's */
	for (; (name = weft_names_next_workload(weft_view_names(view), previous)); previous = name->id) {
		if (!wanted(name, args) || !weft_view_workload_is(view, name->id, args->text[WEFT_ARG_POD]))
			continue;
		if (weft_grow(&names, &room, count + 1, sizeof(*names)) < 0)
			return weft_err_set(err, ENOMEM, "out of memory");
		names[count++] = name;
	}
	if (count)
		qsort(names, count, sizeof(*names), by_name);
	for (size_t i = 0; i < count; i++) {
		size_t low = 0, high = addresses_count;
		bool is_attached = false;
		char text[WEFT_ADDR_TEXT];

		weft_output_row(out);
		put(out, names[i]);
		while (low < high) {
			size_t middle = low + (high - low) / 2;

			if (addresses[middle].workload < names[i]->id)
				low = middle + 1;
			else
				high = middle;
		}
		for (; low < addresses_count && addresses[low].workload == names[i]->id; low++)
			weft_output_texts_add(out, "addresses", weft_addr_format(&addresses[low].addr, text));
		/* a node has some hundred pods at most */
		for (size_t p = 0; p < pods_count; p++) {
			if (pods[p].workload != names[i]->id)
				continue;
			snprintf(text, sizeof(text), "%" PRIu64, pods[p].netns);
			weft_output_texts_add(out, "netns", text);
			weft_output_yes(out, "opted_out", pods[p].flags & WEFT_POD_F_OPT_OUT);
			for (size_t a = 0; a < attached_count && !is_attached; a++)
				is_attached = attached[a] == names[i]->id;
			weft_output_yes(out, "attached", is_attached);
		}
		if (!is_attached)
			weft_output_text(out, "not_attached", why_not(answer, names[i]->id));
		weft_output_row_end(out);
	}
	return 0;
}

static int change(struct weft_context *context, const char *name, const struct weft_args *args, struct weft_err *err)
{
	struct json_object *request = json_object_new_object();

	json_object_object_add(request, "request", json_object_new_string(name));
	json_object_object_add(request, "workload", json_object_new_string(args->text[WEFT_ARG_POD]));
	if (args->text[WEFT_ARG_NETNS])
		json_object_object_add(request, "netns", json_object_new_string(args->text[WEFT_ARG_NETNS]));
	return weft_agent_change(context, request, err);
}

int weft_cmd_workload_attach(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	return change(context, "workload.attach", args, err);
}

int weft_cmd_workload_detach(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	return change(context, "workload.detach", args, err);
}
