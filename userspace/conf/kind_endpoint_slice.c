/* SPDX-License-Identifier: Apache-2.0 */
/* discovery.k8s.io/v1 EndpointSlice. Its limits are those of Kubernetes' API server. */
#include "conf/kind.h"

#include <string.h>

#include "base/addr.h"

enum address_type {
	ADDRESS_NONE = 0,
	ADDRESS_V4,
	ADDRESS_V6,
	ADDRESS_FQDN,
};

/* A condition that is not there has a default of its own. */
enum condition {
	CONDITION_ABSENT = 0,
	CONDITION_FALSE,
	CONDITION_TRUE,
};

struct endpoint {
	struct weft_strings addresses;
	enum condition ready, serving, terminating;
	const char *zone, *node_name;
	struct weft_strings hint_zones, hint_nodes;
	const char *target_kind, *target_namespace, *target_name;
};

struct document {
	struct weft_meta meta;
	enum address_type address_type;
	const struct endpoint *endpoint;
	size_t endpoint_count;
	const struct weft_slice_port *port;
	size_t port_count;
};

static void decode_condition(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
			     void *target)
{
	bool value = false;

	weft_decode_value(decode, &weft_type_bool, node, at, &value);
	*(enum condition *)target = value ? CONDITION_TRUE : CONDITION_FALSE;
}

static const struct weft_word address_words[] = {
	{ "IPv4", ADDRESS_V4 }, { "IPv6", ADDRESS_V6 }, { "FQDN", ADDRESS_FQDN }, { NULL, 0 }
};
static const struct weft_type address_type = {
	.id = WEFT_TYPE_WORD, .size = sizeof(enum address_type), .words = address_words
};
static const struct weft_type condition = { .id = WEFT_TYPE_CUSTOM, .decode = decode_condition };
static const struct weft_type addresses = { .id = WEFT_TYPE_LIST, .element = &weft_type_string, .max = 100 };

static const struct weft_field condition_fields[] = {
	WEFT_FIELD("ready", condition, struct endpoint, ready),
	WEFT_FIELD("serving", condition, struct endpoint, serving),
	WEFT_FIELD("terminating", condition, struct endpoint, terminating),
};
static const struct weft_table condition_table = { WEFT_FIELDS(condition_fields) };
static const struct weft_type conditions = { .id = WEFT_TYPE_OBJECT, .table = &condition_table };

static const struct weft_field hint_fields[] = { { "name", &weft_type_string, 0, true } };
static const struct weft_table hint_table = { WEFT_FIELDS(hint_fields) };
static const struct weft_type hint = { .id = WEFT_TYPE_OBJECT, .size = sizeof(char *), .table = &hint_table };
static const struct weft_type hint_list = { .id = WEFT_TYPE_LIST, .element = &hint, .max = 8 };
static const struct weft_field hints_fields[] = {
	WEFT_FIELD("forZones", hint_list, struct endpoint, hint_zones),
	WEFT_FIELD("forNodes", hint_list, struct endpoint, hint_nodes),
};
static const struct weft_table hints_table = { WEFT_FIELDS(hints_fields) };
static const struct weft_type hints = { .id = WEFT_TYPE_OBJECT, .table = &hints_table };

static const struct weft_field target_fields[] = {
	WEFT_FIELD("kind", weft_type_string, struct endpoint, target_kind),
	WEFT_FIELD("namespace", weft_type_string, struct endpoint, target_namespace),
	WEFT_FIELD("name", weft_type_string, struct endpoint, target_name),
};
static const struct weft_table target_table = {
	WEFT_FIELDS(target_fields), .silent = WEFT_WORDS("uid", "apiVersion", "resourceVersion", "fieldPath")
};
static const struct weft_type target = { .id = WEFT_TYPE_OBJECT, .table = &target_table };

static const struct endpoint endpoint_initial = {
	.zone = "", .node_name = "", .target_kind = "", .target_namespace = "", .target_name = ""
};
static const struct weft_field endpoint_fields[] = {
	WEFT_FIELD("addresses", addresses, struct endpoint, addresses),
	{ "conditions", &conditions, 0, false },
	WEFT_FIELD("nodeName", weft_type_string, struct endpoint, node_name),
	{ "targetRef", &target, 0, false },
	WEFT_FIELD("zone", weft_type_string, struct endpoint, zone),
	{ "hints", &hints, 0, false },
};
static const struct weft_table endpoint_table = {
	WEFT_FIELDS(endpoint_fields),
	.notice = WEFT_WORDS("deprecatedTopology"),
	.silent = WEFT_WORDS("hostname"),
	.initial = &endpoint_initial,
	.size = sizeof(struct endpoint),
};
static const struct weft_type endpoint = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct endpoint), .table = &endpoint_table
};
static const struct weft_type endpoints = { .id = WEFT_TYPE_LIST, .element = &endpoint, .max = 1000, .passing = true };

static const struct weft_slice_port port_initial = { .name = "", .protocol = IPPROTO_TCP };
static const struct weft_field port_fields[] = {
	WEFT_FIELD("name", weft_type_label_name, struct weft_slice_port, name),
	WEFT_FIELD("protocol", weft_type_protocol, struct weft_slice_port, protocol),
	WEFT_FIELD("port", weft_type_port, struct weft_slice_port, port),
};
static const struct weft_table port_table = {
	WEFT_FIELDS(port_fields),
	.silent = WEFT_WORDS("appProtocol"),
	.initial = &port_initial,
	.size = sizeof(struct weft_slice_port),
};
static const struct weft_type port = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_slice_port), .table = &port_table
};
/* Kubernetes takes 20000; a slice's ports are those of a service, and each is compared with each. */
static const struct weft_type ports = { .id = WEFT_TYPE_LIST, .element = &port, .max = 1000 };

static const struct document initial = { .meta = WEFT_META_INITIAL };
static const struct weft_field fields[] = {
	WEFT_KIND_TOP(struct document),
	WEFT_FIELD_REQUIRED("addressType", address_type, struct document, address_type),
	WEFT_FIELD_LIST("endpoints", endpoints, struct document, endpoint, endpoint_count),
	WEFT_FIELD_LIST("ports", ports, struct document, port, port_count),
};
static const struct weft_table table = {
	WEFT_FIELDS(fields), .silent = WEFT_KIND_SILENT, .initial = &initial, .size = sizeof(struct document)
};

static uint32_t weight_of(struct weft_decode *decode, const struct weft_meta *meta)
{
	const char *text = weft_pairs_get(&meta->annotations, WEFT_ANNOTATION_WEIGHT);
	unsigned long weight;

	if (!text)
		return 1;
	weight = strlen(text) <= 5 && strspn(text, "0123456789") == strlen(text) ? strtoul(text, NULL, 10) : 0;
	if (!weight || weight > UINT16_MAX || text[0] == '0') {
		weft_decode_error(decode, "metadata.annotations[" WEFT_ANNOTATION_WEIGHT "]",
				  "`%.80s` is not a weight, expected a number from 1 to 65535 in quotes", text);
		return 1;
	}
	return (uint32_t)weight;
}

/* False: nothing to be had from it, which was said. */
static bool take_address(struct weft_decode *decode, enum address_type type, const struct endpoint *from, size_t i,
			 struct weft_addr *ret_addr)
{
	struct weft_addr addr;

	if (!from->addresses.count) {
		weft_decode_error(decode, weft_path("endpoints[%zu].addresses", i).text, "an endpoint needs an address");
		return false;
	}
	for (size_t j = 0; type != ADDRESS_FQDN && j < from->addresses.count; j++) {
		const char *text = from->addresses.item[j], *family = type == ADDRESS_V4 ? "IPv4" : "IPv6";
		struct weft_path path = weft_path("endpoints[%zu].addresses[%zu]", i, j);

		/* A v4-mapped text is not IPv6 to anybody who compares endpoints. */
		if (weft_addr_parse(text, &addr) < 0 || weft_addr_is_v4(&addr) != (type == ADDRESS_V4) ||
		    (type == ADDRESS_V4 && strchr(text, ':'))) {
			weft_decode_error(decode, path.text, "`%.80s` is not an %s address, which addressType asks for", text,
					  family);
			return false;
		}
		if (weft_addr_is_any(&addr) || weft_addr_is_loopback(&addr) || weft_addr_is_link_local(&addr) ||
		    weft_addr_is_multicast(&addr)) {
			weft_decode_error(decode, path.text,
					  "%.80s cannot be an endpoint's: it is unspecified, loopback, link-local or multicast", text);
			return false;
		}
		if (!j)
			*ret_addr = addr;
	}
	return true;
}

/* What the endpoint before says too is kept once. */
static const char *keep(struct weft_decode *decode, const char *text, const char *before)
{
	return before && strcmp(text, before) == 0 ? before : weft_decode_copy(decode, text);
}

static bool same_strings(const struct weft_strings *a, const struct weft_strings *b)
{
	for (size_t i = 0; a->count == b->count && i < a->count; i++)
		if (strcmp(a->item[i], b->item[i]) != 0)
			return false;
	return a->count == b->count;
}

static struct weft_strings keep_all(struct weft_decode *decode, const struct weft_strings *from)
{
	const char **item = from->count ? weft_decode_alloc(decode, from->count * sizeof(*item)) : NULL;

	for (size_t i = 0; item && i < from->count; i++)
		item[i] = weft_decode_copy(decode, from->item[i]);
	return (struct weft_strings){ item, item ? from->count : 0 };
}

/* `before`: of the endpoint before, or NULL. NULL: out of memory. */
static const struct weft_slice_place *place_of(struct weft_decode *decode, const struct endpoint *from,
					       const struct weft_slice_place *before)
{
	const char *namespace = strcmp(from->target_kind, "Pod") == 0 ? from->target_namespace : "";
	struct weft_slice_place *place;

	if (before && strcmp(before->zone, from->zone) == 0 && strcmp(before->node_name, from->node_name) == 0 &&
	    strcmp(before->target_namespace, namespace) == 0 && same_strings(&before->hint_zones, &from->hint_zones) &&
	    same_strings(&before->hint_nodes, &from->hint_nodes))
		return before;
	place = weft_decode_alloc(decode, sizeof(*place));
	if (!place)
		return NULL;
	place->zone = keep(decode, from->zone, before ? before->zone : "");
	place->node_name = keep(decode, from->node_name, before ? before->node_name : "");
	place->target_namespace = keep(decode, namespace, before ? before->target_namespace : "");
	place->hint_zones = keep_all(decode, &from->hint_zones);
	place->hint_nodes = keep_all(decode, &from->hint_nodes);
	return place;
}

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	const struct document *document = document_;
	struct weft_slice_endpoint *list =
		weft_decode_alloc(decode, document->endpoint_count * sizeof(*list));
	const char *service = weft_pairs_get(&resource->meta.labels, WEFT_LABEL_SERVICE);
	uint32_t weight = weight_of(decode, &resource->meta);

	if (!list)
		return false;
	if (!service || !*service)
		weft_decode_notice(decode, "metadata.labels",
				   "the label " WEFT_LABEL_SERVICE " is missing: these endpoints belong to no service");
	if (document->address_type == ADDRESS_FQDN)
		weft_decode_notice(decode, "addressType", "FQDN is not honoured yet: these endpoints are not used");
	for (size_t i = 0; document->address_type && i < document->endpoint_count; i++) {
		const struct endpoint *from = &document->endpoint[i];
		struct weft_slice_endpoint *to = &list[i];
		bool pod = strcmp(from->target_kind, "Pod") == 0;

		if (!take_address(decode, document->address_type, from, i, &to->addr))
			continue;
		to->ready = from->ready != CONDITION_FALSE;
		to->serving = from->serving != CONDITION_FALSE;
		to->terminating = from->terminating == CONDITION_TRUE;
		to->target_name = weft_decode_copy(decode, pod ? from->target_name : "");
		to->place = place_of(decode, from, i ? to[-1].place : NULL);
		if (!to->place)
			return false;
	}
	for (size_t i = 0; i < document->port_count; i++) {
		const struct weft_slice_port *one = &document->port[i];
		const struct weft_yaml *number =
			weft_yaml_get(weft_yaml_at(weft_yaml_get(decode->root, "ports"), i), "port");

		if (!number || weft_yaml_is_null(number))
			weft_decode_notice(decode, weft_path("ports[%zu]", i).text,
					   "a port without a number (all ports) is not honoured yet");
		if (one->protocol == IPPROTO_SCTP)
			weft_decode_notice(decode, weft_path("ports[%zu].protocol", i).text, "SCTP is not honoured yet");
		for (size_t j = 0; j < i; j++)
			if (strcmp(one->name, document->port[j].name) == 0) {
				weft_decode_error(decode, weft_path("ports[%zu].name", i).text,
						  "the name `%s` is also that of ports[%zu]; names must differ", one->name, j);
				break;
			}
	}
	resource->endpoint_slice = (struct weft_endpoint_slice){
		.service = service ? service : "",
		.fqdn = document->address_type == ADDRESS_FQDN,
		.endpoint = list,
		.endpoint_count = document->address_type == ADDRESS_FQDN ? 0 : document->endpoint_count,
		.port = document->port,
		.port_count = document->port_count,
		.weight = weight,
	};
	return true;
}

static void print_hints(struct weft_print *print, const char *key, const struct weft_strings *names)
{
	if (!names->count)
		return;
	weft_print_open(print, key);
	for (size_t i = 0; i < names->count; i++) {
		weft_print_open_item(print);
		weft_print_string(print, "name", names->item[i]);
		weft_print_close(print);
	}
	weft_print_close(print);
}

static void print_endpoint(struct weft_print *print, const struct weft_slice_endpoint *one)
{
	const struct weft_slice_place *place = one->place;

	weft_print_open_item(print);
	weft_print_addrs(print, "addresses", &(struct weft_addrs){ &one->addr, 1 });
	weft_print_open(print, "conditions");
	weft_print_bool(print, "ready", one->ready);
	weft_print_bool(print, "serving", one->serving);
	weft_print_bool(print, "terminating", one->terminating);
	weft_print_close(print);
	weft_print_string(print, "nodeName", place->node_name);
	weft_print_string(print, "zone", place->zone);
	if (place->hint_zones.count || place->hint_nodes.count) {
		weft_print_open(print, "hints");
		print_hints(print, "forZones", &place->hint_zones);
		print_hints(print, "forNodes", &place->hint_nodes);
		weft_print_close(print);
	}
	if (*one->target_name || *place->target_namespace) {
		weft_print_open(print, "targetRef");
		weft_print_string(print, "kind", "Pod");
		weft_print_string(print, "namespace", place->target_namespace);
		weft_print_string(print, "name", one->target_name);
		weft_print_close(print);
	}
	weft_print_close(print);
}

static void print_slice(struct weft_print *print, const struct weft_resource *resource)
{
	const struct weft_endpoint_slice *slice = &resource->endpoint_slice;
	bool v4 = !slice->endpoint_count || weft_addr_is_v4(&slice->endpoint[0].addr);

	weft_print_string(print, "addressType", slice->fqdn ? "FQDN" : v4 ? "IPv4" : "IPv6");
	if (slice->endpoint_count) {
		weft_print_open(print, "endpoints");
		for (size_t i = 0; i < slice->endpoint_count; i++)
			print_endpoint(print, &slice->endpoint[i]);
		weft_print_close(print);
	}
	if (!slice->port_count)
		return;
	weft_print_open(print, "ports");
	for (size_t i = 0; i < slice->port_count; i++) {
		weft_print_open_item(print);
		weft_print_string(print, "name", slice->port[i].name);
		weft_print_protocol(print, "protocol", slice->port[i].protocol);
		if (slice->port[i].port)
			weft_print_uint(print, "port", slice->port[i].port);
		weft_print_close(print);
	}
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_endpoint_slice = {
	.kind = WEFT_KIND_ENDPOINT_SLICE,
	.size = WEFT_RESOURCE_SIZE(endpoint_slice),
	.name = "EndpointSlice",
	.versions = WEFT_WORDS("discovery.k8s.io/v1"),
	.annotations = WEFT_WORDS(WEFT_ANNOTATION_WEIGHT),
	.namespaced = true,
	.check_name = weft_check_subdomain,
	.table = &table,
	.finish = finish,
	.print = print_slice,
};
