/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node port that a process of this host listens on: both work, for
 * different clients, which is rarely what was meant. So it is a notice.
 */
#include "agent/control.h"

#include <netinet/in.h>
#include <stdio.h>

#define STATE_LISTEN 0x0a /* of TCP in /proc/net */
#define STATE_BOUND 0x07 /* an unconnected UDP socket */

struct ports {
	unsigned char tcp[8192]; /* a bit a port */
	unsigned char udp[8192];
};

static void read_table(const char *path, unsigned int wanted, unsigned char *bits)
{
	weft_fclose_on_exit FILE *table = fopen(path, "re");
	char line[512];

	while (table && fgets(line, sizeof(line), table)) {
		unsigned int port, state;

		if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &port, &state) == 2 && state == wanted && port < 65536)
			bits[port / 8] |= (unsigned char)(1u << port % 8);
	}
}

struct checking {
	struct weft_control *control;
	struct weft_problems *problems;
	struct ports *ports;
	bool read;
};

static void check_service(void *context, const struct weft_source_entry *entry)
{
	struct checking *checking = context;
	const struct weft_resource *resource;

	if (entry->kind != WEFT_KIND_SERVICE)
		return;
	resource = weft_model_get(checking->control->model, WEFT_KIND_SERVICE, entry->namespace, entry->name);
	for (size_t i = 0; resource && i < resource->service.port_count; i++) {
		const struct weft_service_port *port = &resource->service.port[i];
		const unsigned char *bits;
		char who[600], path[64];

		if (!port->node_port || resource->service.type == WEFT_SERVICE_CLUSTER_IP)
			continue;
		if (!checking->read) {
			read_table("/proc/self/net/tcp", STATE_LISTEN, checking->ports->tcp);
			read_table("/proc/self/net/tcp6", STATE_LISTEN, checking->ports->tcp);
			read_table("/proc/self/net/udp", STATE_BOUND, checking->ports->udp);
			read_table("/proc/self/net/udp6", STATE_BOUND, checking->ports->udp);
			checking->read = true;
		}
		bits = port->protocol == IPPROTO_UDP ? checking->ports->udp : checking->ports->tcp;
		if (!(bits[port->node_port / 8] >> port->node_port % 8 & 1))
			continue;
		snprintf(who, sizeof(who), "Service %s/%s", entry->namespace, entry->name);
		snprintf(path, sizeof(path), "spec.ports[%zu].nodePort", i);
		weft_problems_add(checking->problems, WEFT_SEVERITY_NOTICE, entry->file, entry->line, who, path,
				  "%u/%s is held by a process of this node: pods reach the service by it, and that process only from outside or by "
				  "loopback; move one of them",
				  port->node_port, port->protocol == IPPROTO_UDP ? "UDP" : "TCP");
	}
}

void weft_control_check_node_ports(struct weft_control *control, struct weft_problems *problems)
{
	weft_free_on_exit struct ports *ports = calloc(1, sizeof(*ports));
	struct checking checking = { control, problems, ports, false };

	if (ports && control->model)
		weft_source_entries(control->source, check_service, &checking);
}
