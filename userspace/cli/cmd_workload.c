/* SPDX-License-Identifier: Apache-2.0 */
/* weft workload: the names file, with addresses and namespaces from the maps. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

/* Whether weft_capture has that network namespace. */
static int is_attached(struct weft_view *view, uint64_t netns, bool *ret_attached, struct weft_err *err)
{
	struct weft_capture capture;
	int r = weft_view_get(view, WEFT_MAP_CAPTURE, &netns, &capture, err);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret_attached = r == 0;
	return 0;
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
	weft_free_on_exit const struct weft_workload_name **names = NULL;
	const struct weft_workload_name *name;
	struct weft_output *out = context->output;
	size_t addresses_count = 0, pods_count = 0, room = 0, count = 0;
	uint32_t previous = 0, id;
	int r;

	r = weft_view_open(context->options, &view, err);
	if (r == 0 && args->text[WEFT_ARG_POD])
		r = weft_view_require_workload(view, args->text[WEFT_ARG_POD], &id, err);
	if (r == 0)
		r = read_addresses(view, &addresses, &addresses_count, err);
	if (r == 0)
		r = read_pods(view, &pods, &pods_count, err);
	if (r < 0)
		return r;
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
		char text[WEFT_ADDR_TEXT];
		bool attached;

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
			r = is_attached(view, pods[p].netns, &attached, err);
			if (r < 0)
				return r;
			weft_output_yes(out, "attached", attached);
			weft_output_yes(out, "opted_out", pods[p].flags & WEFT_POD_F_OPT_OUT);
		}
		weft_output_row_end(out);
	}
	return 0;
}
