/* SPDX-License-Identifier: Apache-2.0 */
/* weft endpoint */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/view.h"

static int put(struct weft_context *context, struct weft_view *view, const struct weft_endpoint *endpoint,
	       struct weft_err *err)
{
	struct weft_output *out = context->output;
	char text[WEFT_LABEL];
	uint64_t live;
	int r;

	r = weft_view_live(view, endpoint->id, &live, err);
	if (r < 0)
		return r;
	weft_output_number(out, "id", endpoint->id);
	weft_output_text(out, "service", weft_view_service(view, endpoint->service, text));
	weft_output_addr(out, "address", &endpoint->addr);
	weft_output_number(out, "port", ntohs(endpoint->port));
	weft_output_text(out, "protocol", weft_protocol_name(endpoint->protocol));
	weft_output_text(out, "state", weft_endpoint_state_name(endpoint->state));
	weft_output_number(out, "weight", endpoint->weight);
	if (weft_view_counted(view))
		weft_output_number(out, "live", live);
	weft_output_text(out, "workload", weft_view_workload(view, endpoint->workload, text));
	weft_output_yes(out, "local", endpoint->flags & WEFT_ENDPOINT_F_LOCAL);
	return 0;
}

static int by_service(const void *left, const void *right, void *context)
{
	const struct weft_endpoint *a = left, *b = right;
	char text[2][WEFT_LABEL];
	int order = 0;

	if (a->service != b->service)
		order = strcmp(weft_view_service(context, a->service, text[0]),
			       weft_view_service(context, b->service, text[1]));
	if (!order)
		order = weft_addr_compare(&a->addr, &b->addr);
	return order ? order : (int)ntohs(a->port) - (int)ntohs(b->port);
}

int weft_cmd_endpoint_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	weft_free_on_exit struct weft_endpoint *sorted = NULL;
	const struct weft_endpoint *endpoints;
	const char *service = args->text[WEFT_ARG_SERVICE];
	size_t count, used = 0;
	int r;

	r = weft_view_open(context->options, &view, err);
	if (r == 0 && service)
		r = weft_view_require_service(view, service, err);
	if (r == 0)
		r = weft_view_endpoints(view, &endpoints, &count, err);
	if (r < 0)
		return r;
	sorted = calloc(count + 1, sizeof(*sorted));
	if (!sorted)
		return weft_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		if (endpoints[i].state != WEFT_ENDPOINT_FREE &&
		    weft_view_service_is(view, endpoints[i].service, service))
			sorted[used++] = endpoints[i];
	qsort_r(sorted, used, sizeof(*sorted), by_service, view);
	for (size_t i = 0; i < used; i++) {
		weft_output_row(context->output);
		r = put(context, view, &sorted[i], err);
		if (r < 0)
			return r;
		weft_output_row_end(context->output);
	}
	return 0;
}

/* Frontends whose slots name this endpoint. */
static int put_users(struct weft_context *context, struct weft_view *view, const struct weft_endpoint *endpoint,
		     struct weft_err *err)
{
	struct weft_output *out = context->output;
	const struct weft_view_frontend *frontends;
	size_t count;
	int r;

	r = weft_view_frontends(view, &frontends, &count, err);
	if (r < 0)
		return r;
	weft_output_list(out, "frontends");
	for (size_t i = 0; i < count; i++) {
		weft_free_on_exit struct weft_view_candidate *candidates = NULL;
		size_t candidates_count;

		if (frontends[i].value.service != endpoint->service || frontends[i].value.type == WEFT_FRONTEND_ADDRESS)
			continue;
		r = weft_view_candidates(view, &frontends[i].value, &candidates, &candidates_count, err);
		if (r < 0)
			return r;
		for (size_t c = 0; c < candidates_count; c++) {
			if (candidates[c].endpoint.id != endpoint->id)
				continue;
			weft_output_row(out);
			weft_output_text(out, "type", weft_frontend_type_name(frontends[i].value.type));
			weft_output_addr(out, "address", &frontends[i].key.addr);
			weft_output_number(out, "port", ntohs(frontends[i].key.port));
			weft_output_real(out, "share", candidates[c].share);
			weft_output_row_end(out);
		}
	}
	weft_output_list_end(out);
	return 0;
}

int weft_cmd_endpoint_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	struct weft_endpoint endpoint = { 0 };
	uint32_t id = args->number[WEFT_ARG_ID], index = WEFT_ENDPOINT_INDEX(id);
	int r;

	r = weft_view_open(context->options, &view, err);
	if (r < 0)
		return r;
	r = weft_view_get(view, WEFT_MAP_ENDPOINT, &index, &endpoint, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r < 0 || endpoint.state == WEFT_ENDPOINT_FREE)
		return weft_err_set(err, ENOENT, "no endpoint has id %u; `weft endpoint list` shows those there are",
				    id);
	if (endpoint.id != id)
		return weft_err_set(err, ENOENT, "endpoint %u is gone; its place is now that of endpoint %u", id,
				    endpoint.id);
	weft_output_row(context->output);
	r = put(context, view, &endpoint, err);
	if (r < 0)
		return r;
	weft_output_number(context->output, "index", index);
	weft_output_number(context->output, "generation", WEFT_ENDPOINT_GENERATION(id));
	r = put_users(context, view, &endpoint, err);
	if (r < 0)
		return r;
	weft_output_row_end(context->output);
	return 0;
}
