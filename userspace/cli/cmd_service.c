/* SPDX-License-Identifier: Apache-2.0 */
/* weft service: one row a port of a service, joined from names, frontends, slots, endpoints and live counts. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/view.h"

struct service {
	uint32_t id;
	const struct weft_service_name *name; /* NULL: unknown */
	size_t first, count; /* of its frontends */
	uint64_t live;
	bool in_use; /* has an endpoint, or one that is on its way out */
};

static int by_id(const void *left, const void *right)
{
	const struct service *a = left, *b = right;

	return a->id < b->id ? -1 : a->id > b->id;
}

static int by_name(const void *left, const void *right)
{
	const struct service *a = left, *b = right;
	int order;

	if (!a->name || !b->name)
		return a->name ? -1 : b->name ? 1 : by_id(a, b);
	order = strcmp(a->name->namespace, b->name->namespace);
	if (!order)
		order = strcmp(a->name->name, b->name->name);
	if (!order)
		order = (int)a->name->port - (int)b->name->port;
	return order ? order : by_id(a, b);
}

static int add(struct service **services, size_t *room, size_t *count, uint32_t id)
{
	if (weft_grow(services, room, *count + 1, sizeof(**services)) < 0)
		return -ENOMEM;
	(*services)[(*count)++] = (struct service){ .id = id };
	return 0;
}

/* All services that have a name or a frontend, with their frontends and live connections, in order of name. */
static int collect(struct weft_view *view, struct service **ret_services, size_t *ret_count, struct weft_err *err)
{
	weft_free_on_exit struct service *services = NULL;
	const struct weft_view_frontend *frontends;
	const struct weft_endpoint *endpoints;
	const struct weft_service_name *name;
	size_t room = 0, count = 0, unique = 0, kept = 0, frontends_count, endpoints_count;
	uint32_t previous = 0;
	int r;

	r = weft_view_frontends(view, &frontends, &frontends_count, err);
	if (r == 0)
		r = weft_view_endpoints(view, &endpoints, &endpoints_count, err);
	if (r < 0)
		return r;
	while (r == 0 && (name = weft_names_next_service(weft_view_names(view), previous))) {
		previous = name->id;
		r = add(&services, &room, &count, name->id);
	}
	for (size_t i = 0; r == 0 && i < frontends_count; i++)
		if (frontends[i].value.type != WEFT_FRONTEND_ADDRESS &&
		    (!i || frontends[i].value.service != frontends[i - 1].value.service))
			r = add(&services, &room, &count, frontends[i].value.service);
	if (r < 0)
		return weft_err_set(err, ENOMEM, "out of memory");
	if (count)
		qsort(services, count, sizeof(*services), by_id);
	for (size_t i = 0; i < count; i++)
		if (!unique || services[unique - 1].id != services[i].id)
			services[unique++] = services[i];
	for (size_t i = 0, f = 0; i < unique; i++) {
		services[i].name = weft_names_service(weft_view_names(view), services[i].id);
		while (f < frontends_count && frontends[f].value.service < services[i].id)
			f++;
		services[i].first = f;
		for (; f < frontends_count && frontends[f].value.service == services[i].id; f++)
			services[i].count++;
	}
	for (size_t i = 0; i < endpoints_count; i++) {
		struct service key = { .id = endpoints[i].service }, *found;
		uint64_t live;

		if (endpoints[i].state == WEFT_ENDPOINT_FREE || !unique)
			continue;
		found = bsearch(&key, services, unique, sizeof(*services), by_id);
		r = weft_view_live(view, endpoints[i].id, &live, err);
		if (r < 0)
			return r;
		if (found) {
			found->live += live;
			found->in_use = true;
		}
	}
	/* A name outlives its service for a while, so that records of it can still be read: it is no service any more. */
	for (size_t i = 0; i < unique; i++)
		if (services[i].count || services[i].in_use)
			services[kept++] = services[i];
	if (kept)
		qsort(services, kept, sizeof(*services), by_name);
	*ret_services = weft_take_ptr(services);
	*ret_count = kept;
	return 0;
}

static int put_frontend(struct weft_context *context, struct weft_view *view, const struct weft_view_frontend *frontend,
			struct weft_err *err)
{
	weft_free_on_exit struct weft_view_candidate *candidates = NULL;
	struct weft_output *out = context->output;
	const struct weft_frontend *value = &frontend->value;
	bool pass = value->flags & WEFT_FRONTEND_F_PASS;
	char text[WEFT_LABEL];
	size_t count;
	int r;

	r = weft_view_candidates(view, value, &candidates, &count, err);
	if (r < 0)
		return r;
	weft_output_row(out);
	weft_output_text(out, "type", weft_frontend_type_name(value->type));
	weft_output_addr(out, "address", &frontend->key.addr);
	weft_output_number(out, "port", ntohs(frontend->key.port));
	weft_output_text(out, "protocol", weft_protocol_name(frontend->key.protocol));
	weft_output_text(out, "action", pass ? "pass" : value->count ? "balance" : "refuse");
	weft_output_text(out, "algorithm", pass ? NULL : weft_algorithm_name(value->algorithm));
	weft_output_text(out, "affinity", value->affinity_s ? "client-ip" : "none");
	if (value->affinity_s)
		weft_output_number(out, "affinity_s", value->affinity_s);
	if (value->type == WEFT_FRONTEND_NODE_PORT)
		weft_output_yes(out, "this_node", value->flags & WEFT_FRONTEND_F_THIS_NODE);
	weft_output_number(out, "endpoint_count", count);
	weft_output_list(out, "endpoints");
	for (size_t i = 0; i < count; i++) {
		const struct weft_endpoint *endpoint = &candidates[i].endpoint;

		weft_output_row(out);
		weft_output_number(out, "id", endpoint->id);
		weft_output_addr(out, "address", &endpoint->addr);
		weft_output_number(out, "port", ntohs(endpoint->port));
		weft_output_text(out, "state", weft_endpoint_state_name(endpoint->state));
		weft_output_number(out, "weight", endpoint->weight);
		weft_output_real(out, "share", candidates[i].share);
		if (weft_view_counted(view))
			weft_output_number(out, "live", candidates[i].live);
		weft_output_text(out, "workload", weft_view_workload(view, endpoint->workload, text));
		weft_output_yes(out, "local", endpoint->flags & WEFT_ENDPOINT_F_LOCAL);
		weft_output_row_end(out);
	}
	weft_output_list_end(out);
	weft_output_row_end(out);
	return 0;
}

static bool wanted(const struct service *service, const struct weft_args *args)
{
	const char *namespace = args->text[WEFT_ARG_NAMESPACE], *name = args->text[WEFT_ARG_NAME];

	if (namespace && (!service->name || strcmp(service->name->namespace, namespace) != 0))
		return false;
	return !name || (service->name && strcmp(service->name->name, name) == 0);
}

int weft_cmd_service(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	weft_free_on_exit struct service *services = NULL;
	struct weft_output *out = context->output;
	const struct weft_view_frontend *frontends;
	size_t count = 0, frontends_count = 0;
	int r;

	r = weft_view_open(context->options, &view, err);
	if (r == 0 && args->text[WEFT_ARG_SERVICE])
		r = weft_view_require_service(view, args->text[WEFT_ARG_SERVICE], err);
	if (r == 0)
		r = collect(view, &services, &count, err);
	if (r == 0)
		r = weft_view_frontends(view, &frontends, &frontends_count, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		const struct service *service = &services[i];
		char label[WEFT_LABEL];

		if (!wanted(service, args) || !weft_view_service_is(view, service->id, args->text[WEFT_ARG_SERVICE]))
			continue;
		weft_output_row(out);
		weft_output_number(out, "id", service->id);
		if (service->name) {
			weft_output_text(out, "namespace", service->name->namespace);
			weft_output_text(out, "name", service->name->name);
			weft_output_text(out, "host", service->name->host);
			weft_output_text(out, "port_name", service->name->port_name);
			weft_output_number(out, "port", service->name->port);
			weft_output_text(out, "protocol", weft_protocol_name(service->name->protocol));
		} else {
			weft_output_text(out, "name", weft_view_service(view, service->id, label));
		}
		if (weft_view_counted(view))
			weft_output_number(out, "live", service->live);
		weft_output_list(out, "frontends");
		for (size_t f = 0; r == 0 && f < service->count; f++)
			if (frontends[service->first + f].value.type != WEFT_FRONTEND_ADDRESS)
				r = put_frontend(context, view, &frontends[service->first + f], err);
		if (r < 0)
			return r;
		weft_output_list_end(out);
		weft_output_row_end(out);
	}
	return 0;
}
