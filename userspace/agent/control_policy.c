/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a connection between two workloads: for `weft explain`, which has the maps but not the policies' texts. */
#include <errno.h>
#include <string.h>

#include "agent/control.h"
#include "base/addr.h"
#include "model/mesh.h"

struct client {
	const char *name; /* NAMESPACE/NAME, or "host" */
	bool attached;
	char identity[2048]; /* SPIFFE-ID section 2.3 */
	struct weft_addr addr[2]; /* IPv4, IPv6; any: it has none of that family */
};

static void take_addr(struct client *client, const struct weft_addr *addr)
{
	size_t family = weft_addr_is_v4(addr) ? 0 : 1;

	if (weft_addr_is_any(&client->addr[family]))
		client->addr[family] = *addr;
}

static int is_client(void *context, const struct weft_attached *attached)
{
	struct client *client = context;
	size_t size = strlen(attached->namespace);

	if (strncmp(client->name, attached->namespace, size) != 0 || client->name[size] != '/' ||
	    strcmp(client->name + size + 1, attached->name) != 0)
		return 0;
	client->attached = *attached->identity != '\0';
	snprintf(client->identity, sizeof(client->identity), "%s", attached->identity);
	for (size_t i = 0; i < attached->addr_count; i++)
		take_addr(client, &attached->addr[i]);
	return 1;
}

/* Of who is not attached only the address counts. */
static void find_client(const struct weft_control *control, struct client *client)
{
	const char *slash = strchr(client->name, '/');
	const struct weft_resource *resource = NULL;
	const struct weft_addrs *addresses = NULL;
	char namespace[256];

	if (weft_model_attached(control->model, is_client, client) != 0)
		return;
	if (slash) {
		snprintf(namespace, sizeof(namespace), "%.*s", (int)(slash - client->name), client->name);
		resource = weft_model_get(control->model, WEFT_KIND_POD, namespace, slash + 1);
		if (resource)
			addresses = &resource->pod.ips;
		else
			resource = weft_model_get(control->model, WEFT_KIND_WORKLOAD_ENTRY, namespace, slash + 1);
		if (resource && !addresses && resource->workload_entry.has_addr)
			take_addr(client, &resource->workload_entry.addr);
	} else {
		resource = weft_model_get(control->model, WEFT_KIND_NODE, "", control->options->node);
		if (resource)
			addresses = &resource->node.addresses;
	}
	for (size_t i = 0; addresses && i < addresses->count; i++)
		take_addr(client, &addresses->item[i]);
}

static void add_text(struct json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, json_object_new_string(text));
}

int weft_control_judge_json(const struct weft_control *control, const char *from, const char *to, struct json_object *answer,
			    struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf block = WEFT_BUF_INIT;
	struct client client = { .name = from, .addr = { WEFT_ADDR_ANY_V4 } };
	struct weft_mesh_workload server;
	struct weft_verdict verdict;
	struct weft_mesh mesh;
	struct weft_addr addr;
	const char *lane;
	uint16_t port;
	int r = weft_addr_port_parse(to, &addr, &port);

	if (r < 0)
		return weft_err_set(err, EINVAL, "`%.80s` is no ADDRESS:PORT", to);
	if (!control->model)
		return weft_err_set(err, EAGAIN, "the agent is starting: ask again in a moment");
	r = weft_model_mesh_block(control->model, 0, &block);
	if (r < 0)
		return weft_err_set(err, -r, "%m");
	r = weft_mesh_open(block.data, block.size, &mesh, err);
	if (r < 0)
		return r;
	r = weft_mesh_by_addr(&mesh, &addr, &server);
	json_object_object_add(answer, "takes_part", json_object_new_boolean(r == 0));
	if (r < 0)
		return 0;
	find_client(control, &client);
	if (server.flags & WEFT_WORKLOAD_F_LOCAL && weft_model_mesh(control->model)->same_node == WEFT_SAME_NODE_ATTESTED)
		lane = client.attached ? "attested" : "none";
	else
		lane = client.attached ? "mutual_tls" : "none";
	weft_mesh_judge(&mesh, server.id,
			&(struct weft_peer){ .identity = client.attached ? client.identity : NULL,
					     .addr = client.addr[weft_addr_is_v4(&addr) ? 0 : 1] },
			port, &verdict);
	add_text(answer, "security", lane);
	add_text(answer, "source_identity", client.attached ? client.identity : "");
	add_text(answer, "destination_identity", server.identity);
	json_object_object_add(answer, "allowed", json_object_new_boolean(verdict.allowed));
	json_object_object_add(answer, "dry_run_denied", json_object_new_boolean(verdict.dry_run_denied));
	add_text(answer, "policy", verdict.policy);
	add_text(answer, "reason", verdict.reason);
	return 0;
}
