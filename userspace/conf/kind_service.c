/* SPDX-License-Identifier: Apache-2.0 */
/* v1 Service, with the checks of Kubernetes' API server: nobody else makes them when the source is a directory. */
#include "conf/kind.h"

#include <string.h>

#include "base/addr.h"

#define AFFINITY_DEFAULT 10800 /* seconds */

enum family {
	FAMILY_V4 = 0,
	FAMILY_V6,
};

struct families {
	const enum family *item;
	size_t count;
};

struct cluster_ip {
	struct weft_addr addr;
	bool given;
	bool none;
};

struct ingress {
	struct weft_load_balancer_ingress value;
	const char *ip;
	const char *hostname;
	bool has_mode;
	enum { MODE_VIP = 0, MODE_PROXY } mode;
};

struct document {
	struct weft_meta meta;
	struct weft_service service;
	struct cluster_ip cluster_ip;
	const struct cluster_ip *cluster_ips;
	size_t cluster_ip_count;
	struct families families;
	enum { POLICY_NONE = 0, POLICY_SINGLE, POLICY_PREFER, POLICY_REQUIRE } family_policy;
	bool affinity;
	uint32_t affinity_timeout; /* 0 = not given */
	bool has_affinity_config;
	enum { EXTERNAL_ABSENT = 0, EXTERNAL_CLUSTER, EXTERNAL_LOCAL } external_policy;
	const struct ingress *ingress;
	size_t ingress_count;
};

static void decode_cluster_ip(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
			      void *target)
{
	struct cluster_ip *ip = target;

	if (node->type == WEFT_YAML_SCALAR && !*node->text)
		return;
	ip->given = true;
	if (node->type == WEFT_YAML_SCALAR && strcmp(node->text, "None") == 0)
		ip->none = true;
	else
		weft_decode_value(decode, &weft_type_addr, node, at, &ip->addr);
}

static void decode_target_port(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
			       void *target)
{
	static const struct weft_type name = {
		.id = WEFT_TYPE_STRING, .size = sizeof(char *), .check = weft_check_port_name
	};
	struct weft_service_port *port = target;

	if (node->type == WEFT_YAML_SCALAR && weft_yaml_scalar(node) == WEFT_SCALAR_INT)
		weft_decode_value(decode, &weft_type_port, node, at, &port->target_port);
	else if (node->type == WEFT_YAML_SCALAR && node->quoted && *node->text &&
		 strspn(node->text, "0123456789") == node->count)
		weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at,
				    "\"%.80s\" is a port name that has no letter; for port number %.80s take the quotes away",
				    node->text, node->text);
	else
		weft_decode_value(decode, &name, node, at, &port->target_port_name);
}

static void decode_ip_mode(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	static const struct weft_word words[] = { { "VIP", MODE_VIP }, { "Proxy", MODE_PROXY }, { NULL, 0 } };
	static const struct weft_type type = { .id = WEFT_TYPE_WORD, .size = sizeof(int), .words = words };
	struct ingress *ingress = target;

	ingress->has_mode = true;
	weft_decode_value(decode, &type, node, at, &ingress->mode);
}

static void decode_affinity_config(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
				   void *target)
{
	static const struct weft_type seconds = { .id = WEFT_TYPE_INT, .size = sizeof(uint32_t), .min = 1, .max = 86400 };
	static const struct weft_field client_fields[] = { { "timeoutSeconds", &seconds, 0, false } };
	static const struct weft_table client = { WEFT_FIELDS(client_fields) };
	static const struct weft_type client_type = { .id = WEFT_TYPE_OBJECT, .table = &client };
	static const struct weft_field fields[] = { { "clientIP", &client_type, 0, false } };
	static const struct weft_table table = { WEFT_FIELDS(fields) };
	struct document *document = target;

	document->has_affinity_config = true;
	weft_decode_table(decode, &table, node, at, &document->affinity_timeout);
}

#define WORD_TYPE(name, c_type, ...)                                                         \
	static const struct weft_word name##_words[] = { __VA_ARGS__, { NULL, 0 } };         \
	static const struct weft_type name = {                                               \
		.id = WEFT_TYPE_WORD, .size = sizeof(c_type), .words = name##_words          \
	}

WORD_TYPE(service_type, enum weft_service_type, { "ClusterIP", WEFT_SERVICE_CLUSTER_IP },
	  { "NodePort", WEFT_SERVICE_NODE_PORT }, { "LoadBalancer", WEFT_SERVICE_LOAD_BALANCER },
	  { "ExternalName", WEFT_SERVICE_EXTERNAL_NAME });
WORD_TYPE(affinity, bool, { "None", false }, { "ClientIP", true });
WORD_TYPE(internal_policy, enum weft_traffic_policy, { "Cluster", WEFT_TRAFFIC_POLICY_CLUSTER },
	  { "Local", WEFT_TRAFFIC_POLICY_LOCAL });
WORD_TYPE(external_policy, int, { "Cluster", EXTERNAL_CLUSTER }, { "Local", EXTERNAL_LOCAL });
WORD_TYPE(distribution, enum weft_traffic_distribution, { "PreferClose", WEFT_TRAFFIC_DISTRIBUTION_SAME_ZONE },
	  { "PreferSameZone", WEFT_TRAFFIC_DISTRIBUTION_SAME_ZONE },
	  { "PreferSameNode", WEFT_TRAFFIC_DISTRIBUTION_SAME_NODE });
WORD_TYPE(family, enum family, { "IPv4", FAMILY_V4 }, { "IPv6", FAMILY_V6 });
WORD_TYPE(family_policy, int, { "SingleStack", POLICY_SINGLE }, { "PreferDualStack", POLICY_PREFER },
	  { "RequireDualStack", POLICY_REQUIRE });

static const struct weft_type cluster_ip = {
	.id = WEFT_TYPE_CUSTOM, .size = sizeof(struct cluster_ip), .decode = decode_cluster_ip
};
static const struct weft_type cluster_ips = { .id = WEFT_TYPE_LIST, .element = &cluster_ip, .max = 2 };
static const struct weft_type families = { .id = WEFT_TYPE_LIST, .element = &family, .max = 2 };
static const struct weft_type target_port = { .id = WEFT_TYPE_CUSTOM, .decode = decode_target_port };
static const struct weft_type affinity_config = { .id = WEFT_TYPE_CUSTOM, .decode = decode_affinity_config };
static const struct weft_type ip_mode = { .id = WEFT_TYPE_CUSTOM, .decode = decode_ip_mode };

static const struct weft_service_port port_initial = {
	.name = "", .protocol = IPPROTO_TCP, .target_port_name = "", .app_protocol = ""
};
static const struct weft_field port_fields[] = {
	WEFT_FIELD("name", weft_type_label_name, struct weft_service_port, name),
	WEFT_FIELD("protocol", weft_type_protocol, struct weft_service_port, protocol),
	WEFT_FIELD_REQUIRED("port", weft_type_port, struct weft_service_port, port),
	{ "targetPort", &target_port, 0, false },
	WEFT_FIELD("nodePort", weft_type_port, struct weft_service_port, node_port),
	WEFT_FIELD("appProtocol", weft_type_string, struct weft_service_port, app_protocol),
};
static const struct weft_table port_table = {
	WEFT_FIELDS(port_fields), .initial = &port_initial, .size = sizeof(struct weft_service_port)
};
static const struct weft_type port = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_service_port), .table = &port_table
};
/* Kubernetes has no bound but the size of its store; each port is compared with each. */
static const struct weft_type ports = { .id = WEFT_TYPE_LIST, .element = &port, .max = 4096 };

static const struct weft_field spec_fields[] = {
	WEFT_FIELD("type", service_type, struct document, service.type),
	WEFT_FIELD("clusterIP", cluster_ip, struct document, cluster_ip),
	WEFT_FIELD_LIST("clusterIPs", cluster_ips, struct document, cluster_ips, cluster_ip_count),
	WEFT_FIELD("ipFamilies", families, struct document, families),
	WEFT_FIELD("ipFamilyPolicy", family_policy, struct document, family_policy),
	WEFT_FIELD("externalIPs", weft_type_addrs, struct document, service.external_ips),
	WEFT_FIELD("externalName", weft_type_string, struct document, service.external_name),
	WEFT_FIELD_LIST("ports", ports, struct document, service.port, service.port_count),
	WEFT_FIELD("selector", weft_type_labels, struct document, service.selector),
	WEFT_FIELD("sessionAffinity", affinity, struct document, affinity),
	{ "sessionAffinityConfig", &affinity_config, 0, false },
	WEFT_FIELD("internalTrafficPolicy", internal_policy, struct document, service.internal_traffic_policy),
	WEFT_FIELD("externalTrafficPolicy", external_policy, struct document, external_policy),
	WEFT_FIELD("trafficDistribution", distribution, struct document, service.traffic_distribution),
	WEFT_FIELD("publishNotReadyAddresses", weft_type_bool, struct document, service.publish_not_ready_addresses),
};
static const struct weft_table spec_table = {
	WEFT_FIELDS(spec_fields),
	.notice = WEFT_WORDS("loadBalancerSourceRanges", "healthCheckNodePort"),
	.silent = WEFT_WORDS("loadBalancerIP", "loadBalancerClass", "allocateLoadBalancerNodePorts"),
};
static const struct weft_type spec = { .id = WEFT_TYPE_OBJECT, .table = &spec_table };

static const struct ingress ingress_initial = { .ip = "", .hostname = "" };
static const struct weft_field ingress_fields[] = {
	WEFT_FIELD("ip", weft_type_string, struct ingress, ip),
	WEFT_FIELD("hostname", weft_type_string, struct ingress, hostname),
	{ "ipMode", &ip_mode, 0, false },
};
static const struct weft_table ingress_table = {
	WEFT_FIELDS(ingress_fields),
	.silent = WEFT_WORDS("ports"),
	.initial = &ingress_initial,
	.size = sizeof(struct ingress),
};
static const struct weft_type ingress_type = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct ingress), .table = &ingress_table
};
static const struct weft_type ingresses = { .id = WEFT_TYPE_LIST, .element = &ingress_type };
static const struct weft_field load_balancer_fields[] = {
	WEFT_FIELD_LIST("ingress", ingresses, struct document, ingress, ingress_count),
};
static const struct weft_table load_balancer_table = { WEFT_FIELDS(load_balancer_fields) };
static const struct weft_type load_balancer = { .id = WEFT_TYPE_OBJECT, .table = &load_balancer_table };
static const struct weft_field status_fields[] = { { "loadBalancer", &load_balancer, 0, false } };
static const struct weft_table status_table = { WEFT_FIELDS(status_fields), .silent = WEFT_WORDS("conditions") };
static const struct weft_type status = { .id = WEFT_TYPE_OBJECT, .table = &status_table };

static const struct document initial = { .meta = WEFT_META_INITIAL, .service.external_name = "" };
static const struct weft_field fields[] = {
	WEFT_KIND_TOP(struct document),
	{ "spec", &spec, 0, true },
	{ "status", &status, 0, false },
};
static const struct weft_table table = {
	WEFT_FIELDS(fields), .silent = WEFT_KIND_SILENT, .initial = &initial, .size = sizeof(struct document)
};

static void check_cluster_ips(struct weft_decode *decode, const struct document *document)
{
	const struct cluster_ip *first = &document->cluster_ip, *all = document->cluster_ips;
	size_t count = document->cluster_ip_count;

	if (count && !first->given)
		weft_decode_error(decode, "spec.clusterIPs", "must be empty when clusterIP is not given; set clusterIP too");
	else if (count && (first->none != all[0].none || weft_addr_compare(&first->addr, &all[0].addr) != 0))
		weft_decode_error(decode, "spec.clusterIPs[0]", "the first of clusterIPs must be clusterIP");
	if (count == 2 && (all[0].none || all[1].none))
		weft_decode_error(decode, "spec.clusterIPs", "None must stand alone");
	else if (count == 2 && weft_addr_is_v4(&all[0].addr) == weft_addr_is_v4(&all[1].addr))
		weft_decode_error(decode, "spec.clusterIPs[1]", "two cluster IPs must be of different families");
	if (document->families.count == 2 && document->families.item[0] == document->families.item[1])
		weft_decode_error(decode, "spec.ipFamilies[1]", "the families must differ");
	for (size_t i = 0; i < document->families.count; i++) {
		const struct cluster_ip *ip = i < count ? &all[i] : i == 0 && first->given ? first : NULL;

		if (ip && !ip->none && weft_addr_is_v4(&ip->addr) != (document->families.item[i] == FAMILY_V4))
			weft_decode_error(decode, weft_path("spec.ipFamilies[%zu]", i).text,
					  "the cluster IP at this place is of the other family");
	}
	if (document->family_policy == POLICY_SINGLE && (count == 2 || document->families.count == 2))
		weft_decode_error(decode, "spec.ipFamilyPolicy",
				  "SingleStack contradicts two cluster IPs or families, expected PreferDualStack or RequireDualStack");
	if (document->service.type == WEFT_SERVICE_EXTERNAL_NAME && first->given)
		weft_decode_error(decode, "spec.clusterIP", "must not be set in a service of type ExternalName");
	if (document->service.type != WEFT_SERVICE_CLUSTER_IP && document->service.type != WEFT_SERVICE_EXTERNAL_NAME &&
	    first->none)
		weft_decode_error(decode, "spec.clusterIP", "None is for type ClusterIP only");
	if (first->given && !first->none && (weft_addr_is_any(&first->addr) || weft_addr_is_multicast(&first->addr)))
		weft_decode_error(decode, "spec.clusterIP", "this address cannot be a service's; take a unicast address");
}

/* Port `i` with those before it: one complaint, since who repeats one port repeats all of it. */
static void compare_ports(struct weft_decode *decode, const struct weft_service_port *all, size_t i)
{
	const struct weft_service_port *one = &all[i];

	for (size_t j = 0; j < i; j++) {
		bool same_protocol = one->protocol == all[j].protocol;

		if (same_protocol && one->port && one->port == all[j].port)
			weft_decode_error(decode, weft_path("spec.ports[%zu].port", i).text,
					  "port %u with this protocol is also that of spec.ports[%zu]; keep one of them", one->port,
					  j);
		else if (*one->name && strcmp(one->name, all[j].name) == 0)
			weft_decode_error(decode, weft_path("spec.ports[%zu].name", i).text,
					  "the name `%s` is also that of spec.ports[%zu]; names must differ", one->name, j);
		else if (same_protocol && one->node_port && one->node_port == all[j].node_port)
			weft_decode_error(decode, weft_path("spec.ports[%zu].nodePort", i).text,
					  "nodePort %u with this protocol is also that of spec.ports[%zu]; numbers must differ",
					  one->node_port, j);
		else
			continue;
		break;
	}
}

static void check_ports(struct weft_decode *decode, struct document *document)
{
	struct weft_service *service = &document->service;
	struct weft_service_port *port_of = (struct weft_service_port *)service->port;

	if (!service->port_count && !document->cluster_ip.none && service->type != WEFT_SERVICE_EXTERNAL_NAME)
		weft_decode_error(decode, "spec.ports", "a service needs at least one port unless it is headless");
	for (size_t i = 0; i < service->port_count; i++) {
		struct weft_service_port *one = &port_of[i];

		if (!one->target_port && !*one->target_port_name)
			one->target_port = one->port;
		if (service->port_count > 1 && !*one->name)
			weft_decode_error(decode, weft_path("spec.ports[%zu].name", i).text,
					  "every port of a service with several ports needs a name");
		if (one->node_port &&
		    (service->type == WEFT_SERVICE_CLUSTER_IP || service->type == WEFT_SERVICE_EXTERNAL_NAME))
			weft_decode_error(decode, weft_path("spec.ports[%zu].nodePort", i).text,
					  "is for type NodePort and LoadBalancer only");
		if (one->protocol == IPPROTO_SCTP)
			weft_decode_notice(decode, weft_path("spec.ports[%zu].protocol", i).text, "SCTP is not honoured yet");
		compare_ports(decode, port_of, i);
	}
}

static void take_ingress(struct weft_decode *decode, struct document *document)
{
	struct weft_load_balancer_ingress *kept =
		weft_decode_alloc(decode, document->ingress_count * sizeof(*kept));
	size_t count = 0;

	if (!kept)
		return;
	for (size_t i = 0; i < document->ingress_count; i++) {
		const struct ingress *one = &document->ingress[i];
		struct weft_addr ip;

		if (*one->hostname)
			weft_decode_notice(decode, weft_path("status.loadBalancer.ingress[%zu].hostname", i).text,
					   "not honoured yet");
		if (one->has_mode && !*one->ip)
			weft_decode_error(decode, weft_path("status.loadBalancer.ingress[%zu].ipMode", i).text,
					  "must not be set without ip");
		if (!*one->ip)
			continue;
		if (weft_addr_parse(one->ip, &ip) < 0)
			weft_decode_error(decode, weft_path("status.loadBalancer.ingress[%zu].ip", i).text,
					  "`%.80s` is not an IP address, expected one like 10.0.0.1 or fd00::1", one->ip);
		else
			kept[count++] = (struct weft_load_balancer_ingress){ ip, one->mode == MODE_PROXY };
	}
	document->service.ingress = kept;
	document->service.ingress_count = count;
}

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	struct document *document = document_;
	struct weft_service *service = &document->service;
	struct weft_addr *ips = weft_decode_alloc(decode, 2 * sizeof(*ips));
	bool outside = service->type == WEFT_SERVICE_NODE_PORT || service->type == WEFT_SERVICE_LOAD_BALANCER ||
		       service->external_ips.count;

	check_cluster_ips(decode, document);
	check_ports(decode, document);
	take_ingress(decode, document);
	if (document->external_policy && !outside)
		weft_decode_error(decode, "spec.externalTrafficPolicy",
				  "is for services that are reached from outside: type NodePort, LoadBalancer, or externalIPs");
	if (document->has_affinity_config && !document->affinity)
		weft_decode_error(decode, "spec.sessionAffinityConfig", "must not be set unless sessionAffinity is ClientIP");
	for (size_t i = 0; i < service->external_ips.count; i++) {
		const struct weft_addr *addr = &service->external_ips.item[i];

		if (weft_addr_is_any(addr) || weft_addr_is_multicast(addr))
			weft_decode_error(decode, weft_path("spec.externalIPs[%zu]", i).text,
					  "this address cannot be a service's; take a unicast address");
	}
	if (service->type == WEFT_SERVICE_EXTERNAL_NAME) {
		if (!*service->external_name)
			weft_decode_error(decode, "spec.externalName", "this field is required in type ExternalName");
		weft_decode_notice(decode, "spec.type",
				   "ExternalName is answered by DNS alone; connections to it are not translated");
	}
	if (!ips)
		return false;
	service->headless = document->cluster_ip.none;
	service->external_traffic_policy =
		document->external_policy == EXTERNAL_LOCAL ? WEFT_TRAFFIC_POLICY_LOCAL : WEFT_TRAFFIC_POLICY_CLUSTER;
	if (document->affinity)
		service->affinity_s = document->affinity_timeout ? document->affinity_timeout : AFFINITY_DEFAULT;
	service->cluster_ips = (struct weft_addrs){ .item = ips };
	if (document->cluster_ip.given && !document->cluster_ip.none) {
		ips[service->cluster_ips.count++] = document->cluster_ip.addr;
		if (document->cluster_ip_count == 2)
			ips[service->cluster_ips.count++] = document->cluster_ips[1].addr;
	}
	if (service->type != WEFT_SERVICE_EXTERNAL_NAME)
		service->external_name = "";
	resource->service = *service;
	return true;
}

static void print_port(struct weft_print *print, const struct weft_service_port *one)
{
	weft_print_open_item(print);
	weft_print_string(print, "name", one->name);
	weft_print_protocol(print, "protocol", one->protocol);
	weft_print_uint(print, "port", one->port);
	if (*one->target_port_name)
		weft_print_string(print, "targetPort", one->target_port_name);
	else
		weft_print_uint(print, "targetPort", one->target_port);
	if (one->node_port)
		weft_print_uint(print, "nodePort", one->node_port);
	weft_print_string(print, "appProtocol", one->app_protocol);
	weft_print_close(print);
}

static void print_service(struct weft_print *print, const struct weft_resource *resource)
{
	static const char *const distributions[] = { "", "PreferSameZone", "PreferSameNode" };
	const struct weft_service *service = &resource->service;

	weft_print_open(print, "spec");
	weft_print_string(print, "type", service_type_words[service->type].word);
	if (service->headless)
		weft_print_string(print, "clusterIP", "None");
	else if (service->cluster_ips.count)
		weft_print_addr(print, "clusterIP", &service->cluster_ips.item[0]);
	weft_print_addrs(print, "clusterIPs", &service->cluster_ips);
	weft_print_addrs(print, "externalIPs", &service->external_ips);
	weft_print_string(print, "externalName", service->external_name);
	if (service->port_count)
		weft_print_open(print, "ports");
	for (size_t i = 0; i < service->port_count; i++)
		print_port(print, &service->port[i]);
	if (service->port_count)
		weft_print_close(print);
	weft_print_pairs(print, "selector", &service->selector);
	weft_print_string(print, "sessionAffinity", service->affinity_s ? "ClientIP" : "None");
	if (service->affinity_s) {
		weft_print_open(print, "sessionAffinityConfig");
		weft_print_open(print, "clientIP");
		weft_print_uint(print, "timeoutSeconds", service->affinity_s);
		weft_print_close(print);
		weft_print_close(print);
	}
	weft_print_string(print, "internalTrafficPolicy", internal_policy_words[service->internal_traffic_policy].word);
	if (service->type == WEFT_SERVICE_NODE_PORT || service->type == WEFT_SERVICE_LOAD_BALANCER ||
	    service->external_ips.count)
		weft_print_string(print, "externalTrafficPolicy",
				  internal_policy_words[service->external_traffic_policy].word);
	weft_print_string(print, "trafficDistribution", distributions[service->traffic_distribution]);
	weft_print_bool(print, "publishNotReadyAddresses", service->publish_not_ready_addresses);
	weft_print_close(print);
	if (!service->ingress_count)
		return;
	weft_print_open(print, "status");
	weft_print_open(print, "loadBalancer");
	weft_print_open(print, "ingress");
	for (size_t i = 0; i < service->ingress_count; i++) {
		weft_print_open_item(print);
		weft_print_addr(print, "ip", &service->ingress[i].ip);
		weft_print_string(print, "ipMode", service->ingress[i].proxy ? "Proxy" : "VIP");
		weft_print_close(print);
	}
	weft_print_close(print);
	weft_print_close(print);
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_service = {
	.kind = WEFT_KIND_SERVICE,
	.size = WEFT_RESOURCE_SIZE(service),
	.name = "Service",
	.versions = WEFT_WORDS("v1"),
	.namespaced = true,
	.check_name = weft_check_label_name,
	.table = &table,
	.finish = finish,
	.print = print_service,
};
