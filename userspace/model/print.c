/* SPDX-License-Identifier: Apache-2.0 */
#include "model/state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const char *protocol_name(uint8_t protocol)
{
	return protocol == IPPROTO_UDP ? "UDP" : "TCP";
}

static const char *type_name(uint8_t type)
{
	static const char *const name[WEFT_FRONTEND_TYPE_MAX_] = {
		[WEFT_FRONTEND_NONE] = "none",
		[WEFT_FRONTEND_CLUSTER_IP] = "cluster-ip",
		[WEFT_FRONTEND_NODE_PORT] = "node-port",
		[WEFT_FRONTEND_EXTERNAL_IP] = "external-ip",
		[WEFT_FRONTEND_LOAD_BALANCER] = "load-balancer",
		[WEFT_FRONTEND_SERVICE_ENTRY] = "service-entry",
		[WEFT_FRONTEND_ADDRESS] = "address",
	};

	return name[type];
}

static const char *algorithm_name(uint8_t algorithm)
{
	static const char *const name[WEFT_ALGORITHM_MAX_] = {
		[WEFT_ALGORITHM_LEAST_REQUEST] = "least-request",
		[WEFT_ALGORITHM_ROUND_ROBIN] = "round-robin",
		[WEFT_ALGORITHM_RANDOM] = "random",
	};

	return name[algorithm];
}

static const char *state_name(uint8_t state)
{
	static const char *const name[WEFT_ENDPOINT_STATE_MAX_] = {
		[WEFT_ENDPOINT_FREE] = "free",	       [WEFT_ENDPOINT_READY] = "ready",
		[WEFT_ENDPOINT_SERVING] = "serving", [WEFT_ENDPOINT_DRAINING] = "draining",
		[WEFT_ENDPOINT_GONE] = "gone",
	};

	return name[state];
}

static size_t in_set(const struct weft_compiled *compiled, const struct weft_compiled_port *port, uint8_t set)
{
	size_t count = 0;

	for (size_t i = 0; i < port->count; i++)
		count += compiled->endpoint[port->first + i].sets >> set & 1;
	return count;
}

static int print_frontend(const struct weft_compiled *compiled, const struct weft_compiled_port *port,
			  const struct weft_claim *claim, struct weft_buf *out)
{
	const struct weft_frontend *frontend = &claim->value.frontend;
	char shown[WEFT_ADDR_TEXT];
	int r;

	weft_addr_port_format(&claim->key.key.addr, ntohs(claim->key.key.port), shown);
	r = weft_buf_printf(out, "  frontend %s %s %s", shown, type_name(frontend->type),
			    frontend->flags & WEFT_FRONTEND_F_PASS ? "pass" : algorithm_name(frontend->algorithm));
	if (r == 0 && frontend->affinity_s)
		r = weft_buf_printf(out, " affinity %us", frontend->affinity_s);
	if (r == 0 && frontend->flags & WEFT_FRONTEND_F_THIS_NODE)
		r = weft_buf_printf(out, " this-node");
	if (r == 0 && (claim->set == WEFT_SET_LOCAL_V4 || claim->set == WEFT_SET_LOCAL_V6))
		r = weft_buf_printf(out, " local");
	if (r == 0 && claim->set != WEFT_SET_NONE)
		r = weft_buf_printf(out, " endpoints %zu", in_set(compiled, port, claim->set));
	return r < 0 ? r : weft_buf_add(out, "\n", 1);
}

struct shown_endpoint {
	const struct weft_endpoint_name *name;
	const struct weft_wanted *wanted;
};

static int print_endpoint(const struct weft_model *model, const struct shown_endpoint *one, struct weft_buf *out)
{
	const struct weft_wanted *wanted = one->wanted;
	const struct weft_held *endpoint = &wanted->value;
	const struct weft_workload_name *workload = weft_names_workload(model->names, endpoint->workload);
	bool cluster = wanted->sets & (1u << WEFT_SET_CLUSTER_V4 | 1u << WEFT_SET_CLUSTER_V6);
	bool local = wanted->sets & (1u << WEFT_SET_LOCAL_V4 | 1u << WEFT_SET_LOCAL_V6);
	char shown[WEFT_ADDR_TEXT];
	int r = weft_buf_printf(out, "  endpoint %s %s weight %u%s%s%s%s",
				weft_addr_port_format(&one->name->addr, one->name->port, shown),
				state_name(endpoint->state), endpoint->weight, cluster || local ? "" : " unused",
				local ? " local" : "", local && cluster ? "+cluster" : "",
				endpoint->flags & WEFT_ENDPOINT_F_LOCAL ? " here" : "");

	if (r == 0 && workload)
		r = weft_buf_printf(out, " %s %s/%s", workload->kind, workload->namespace, workload->name);
	return r < 0 ? r : weft_buf_add(out, "\n", 1);
}

static int by_key(const void *left, const void *right)
{
	const struct weft_claim *a = *(const struct weft_claim *const *)left, *b = *(const struct weft_claim *const *)right;
	int by = weft_addr_compare(&a->key.key.addr, &b->key.key.addr);

	if (by)
		return by;
	return ntohs(a->key.key.port) < ntohs(b->key.key.port) ? -1 : ntohs(a->key.key.port) > ntohs(b->key.key.port);
}

static int by_address(const void *left, const void *right)
{
	const struct weft_endpoint_name *a = ((const struct shown_endpoint *)left)->name;
	const struct weft_endpoint_name *b = ((const struct shown_endpoint *)right)->name;
	int by = weft_addr_compare(&a->addr, &b->addr);

	if (by)
		return by;
	return a->port < b->port ? -1 : a->port > b->port;
}

static int print_port(const struct weft_model *model, const struct weft_compiled *compiled,
		      const struct weft_compiled_port *port, struct weft_buf *out)
{
	const struct weft_service_name *name = weft_names_service(model->names, port->service);
	weft_free_on_exit const struct weft_claim **claim = calloc(compiled->claim_count + 1, sizeof(*claim));
	weft_free_on_exit struct shown_endpoint *endpoint = calloc(port->count + 1, sizeof(*endpoint));
	size_t count = 0;
	int r;

	if (!name || !claim || !endpoint)
		return -ENOMEM;
	r = weft_buf_printf(out, "service %s/%s port %u/%s%s%s\n", name->namespace, name->name, name->port,
			    protocol_name(name->protocol), *name->port_name ? " " : "", name->port_name);
	for (size_t i = 0; i < compiled->claim_count; i++)
		if (compiled->claim[i].key.map == WEFT_MAP_FRONTEND && compiled->claim[i].key.key.protocol &&
		    compiled->claim[i].value.frontend.service == port->service &&
		    compiled->claim[i].row->first == &compiled->claim[i])
			claim[count++] = &compiled->claim[i];
	qsort(claim, count, sizeof(*claim), by_key);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = print_frontend(compiled, port, claim[i], out);
	for (size_t i = 0; i < port->count; i++) {
		const struct weft_wanted *wanted = &compiled->endpoint[port->first + i];

		endpoint[i] = (struct shown_endpoint){ weft_place_name(model, wanted->index), wanted };
	}
	qsort(endpoint, port->count, sizeof(*endpoint), by_address);
	for (size_t i = 0; r == 0 && i < port->count; i++)
		r = print_endpoint(model, &endpoint[i], out);
	return r;
}

struct line {
	const struct weft_model *model;
	const struct weft_entry *unit;
	const struct weft_compiled_port *port;
};

static int by_service(const void *left, const void *right)
{
	const struct line *a = left, *b = right;
	const struct weft_service_name *x = weft_names_service(a->model->names, a->port->service);
	const struct weft_service_name *y = weft_names_service(b->model->names, b->port->service);
	int by = strcmp(x->namespace, y->namespace);

	if (!by)
		by = strcmp(x->name, y->name);
	if (!by)
		by = (int)x->port - (int)y->port;
	if (!by)
		by = (int)x->protocol - (int)y->protocol;
	return by ? by : (int)a->unit->kind - (int)b->unit->kind;
}

static int by_row(const void *left, const void *right)
{
	const struct weft_row *a = *(const struct weft_row *const *)left, *b = *(const struct weft_row *const *)right;

	if (a->key.map != b->key.map)
		return a->key.map < b->key.map ? -1 : 1;
	return weft_addr_compare(&a->key.key.addr, &b->key.key.addr);
}

static int print_address(const struct weft_model *model, const struct weft_row *row, struct weft_buf *out)
{
	const struct weft_workload_name *name;
	char shown[WEFT_ADDR_TEXT];
	uint32_t flags;

	weft_addr_format(&row->key.key.addr, shown);
	if (row->key.map == WEFT_MAP_WORKLOAD_AT) {
		name = weft_names_workload(model->names, row->first->value.workload);
		return name ? weft_buf_printf(out, "workload %s %s %s/%s\n", shown, name->kind, name->namespace,
					      name->name) :
			      0;
	}
	flags = row->first->value.frontend.flags;
	return weft_buf_printf(out, "address %s%s%s%s\n", shown, flags & WEFT_FRONTEND_F_REFUSE ? " refuse" : "",
			       flags & WEFT_FRONTEND_F_NODE ? " node" : "",
			       flags & WEFT_FRONTEND_F_THIS_NODE ? " this-node" : "");
}

static int print_addresses(const struct weft_model *model, struct weft_buf *out)
{
	weft_free_on_exit struct weft_row **sorted = calloc(model->row.count + 1, sizeof(*sorted));
	struct weft_row *row;
	size_t count = 0;
	int r = 0;

	if (!sorted)
		return -ENOMEM;
	for (size_t at = 0; (row = weft_hash_table_next(&model->row, &at));)
		if (row->first && (row->key.map == WEFT_MAP_WORKLOAD_AT ||
				   (row->key.map == WEFT_MAP_FRONTEND && !row->key.key.protocol)))
			sorted[count++] = row;
	qsort(sorted, count, sizeof(*sorted), by_row);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = print_address(model, sorted[i], out);
	return r;
}

static int print_optout(const struct weft_mesh_config *mesh, struct weft_buf *out)
{
	char shown[WEFT_ADDR_TEXT];
	int r = 0;

	for (size_t i = 0; r == 0 && i < mesh->optout_cidrs.count; i++) {
		const struct weft_cidr *cidr = &mesh->optout_cidrs.item[i];

		r = weft_buf_printf(out, "opt-out %s/%u\n", weft_addr_format(&cidr->addr, shown),
				    cidr->bits - (weft_addr_is_v4(&cidr->addr) ? 96 : 0));
	}
	for (size_t i = 0; r == 0 && i < mesh->optout_port_count; i++)
		r = weft_buf_printf(out, "opt-out port %u/%s\n", mesh->optout_port[i].port,
				    protocol_name(mesh->optout_port[i].protocol));
	return r;
}

static int print_policy(void *context, const struct weft_policy_info *policy)
{
	const struct weft_resource *resource = policy->resource;
	const struct weft_pairs *selector = resource->kind == WEFT_KIND_PEER_AUTHENTICATION ?
						    &resource->peer_authentication.selector :
						    &resource->authorization_policy.selector;
	struct weft_buf *out = context;
	int r = weft_buf_printf(out, "policy %s/%s/%s %s%s", weft_kind_name(resource->kind), resource->meta.namespace,
				resource->meta.name, policy->action, policy->dry_run ? " dry-run" : "");

	for (size_t i = 0; r == 0 && i < selector->count; i++)
		r = weft_buf_printf(out, "%s%s=%s", i ? "," : " of ", selector->item[i].key, selector->item[i].value);
	if (r == 0)
		r = weft_buf_printf(out, ": ");
	if (r == 0)
		r = weft_policy_words(resource, out);
	return r < 0 ? r : weft_buf_add(out, "\n", 1);
}

int weft_model_print(const struct weft_model *model, struct weft_buf *out)
{
	weft_free_on_exit struct line *line = NULL;
	size_t count = 0, room = 0, before = out->size;
	const struct weft_entry *entry;
	int r = 0;

	for (size_t at = 0; (entry = weft_hash_table_next(&model->entry, &at));)
		for (size_t i = 0; weft_is_unit(entry) && entry->compiled && i < entry->compiled->port_count; i++) {
			if (weft_grow(&line, &room, count + 1, sizeof(*line)) < 0)
				return -ENOMEM;
			line[count++] = (struct line){ model, entry, &entry->compiled->port[i] };
		}
	if (count)
		qsort(line, count, sizeof(*line), by_service);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = print_port(model, line[i].unit->compiled, line[i].port, out);
	if (r == 0)
		r = print_addresses(model, out);
	if (r == 0)
		r = print_optout(weft_model_mesh(model), out);
	if (r == 0)
		r = weft_model_policies(model, print_policy, out);
	if (r < 0)
		out->size = before;
	return r;
}
