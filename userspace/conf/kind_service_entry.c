/* SPDX-License-Identifier: Apache-2.0 */
/* networking.istio.io ServiceEntry of resolution NONE and STATIC, with the checks of Istio's webhook. */
#include "conf/kind.h"

#include <string.h>


enum resolution {
	RESOLUTION_NONE = WEFT_RESOLUTION_NONE,
	RESOLUTION_STATIC = WEFT_RESOLUTION_STATIC,
	RESOLUTION_DNS,
	RESOLUTION_DNS_ROUND_ROBIN,
	RESOLUTION_DYNAMIC_DNS,
};

struct document {
	struct weft_meta meta;
	struct weft_service_entry entry;
	enum resolution resolution;
};

static void decode_protocol(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	static const char *const words[] = { "HTTP", "HTTPS", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB", "GRPC-Web", "HBONE",
					     "TCP",  "TLS",   "MONGO", "MYSQL",	     "REDIS", "UDP" };
	const char *text = "", *near = NULL;

	weft_decode_value(decode, &weft_type_string, node, at, &text);
	if (!*text)
		return;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(words); i++) {
		near = weft_nearest(text, words[i], near);
		if (strcasecmp(text, words[i]) != 0)
			continue;
		*(uint8_t *)target = strcmp(words[i], "UDP") == 0 ? IPPROTO_UDP : IPPROTO_TCP;
		return;
	}
	weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at,
			    near ? "unknown protocol `%.80s`, did you mean `%s`?" :
				   "unknown protocol `%.80s`, expected HTTP, HTTPS, HTTP2, GRPC, TCP, TLS, MONGO, MYSQL, REDIS or UDP%s",
			    text, near ? near : "");
}

static void decode_selector(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	static const struct weft_field fields[] = { { "labels", &weft_type_labels, 0, true } };
	static const struct weft_table table = { WEFT_FIELDS(fields) };
	struct weft_service_entry *entry = target;

	entry->has_workload_selector = true;
	weft_decode_table(decode, &table, node, at, &entry->workload_selector);
}

static const struct weft_word resolution_words[] = {
	{ "NONE", RESOLUTION_NONE },
	{ "STATIC", RESOLUTION_STATIC },
	{ "DNS", RESOLUTION_DNS },
	{ "DNS_ROUND_ROBIN", RESOLUTION_DNS_ROUND_ROBIN },
	{ "DYNAMIC_DNS", RESOLUTION_DYNAMIC_DNS },
	{ NULL, 0 },
};
static const struct weft_type resolution = {
	.id = WEFT_TYPE_WORD, .size = sizeof(enum resolution), .words = resolution_words
};
static const struct weft_type protocol = { .id = WEFT_TYPE_CUSTOM, .decode = decode_protocol };
static const struct weft_type selector = { .id = WEFT_TYPE_CUSTOM, .decode = decode_selector };

static const struct weft_service_entry_port port_initial = { .name = "", .protocol = IPPROTO_TCP };
static const struct weft_field port_fields[] = {
	WEFT_FIELD_REQUIRED("number", weft_type_port, struct weft_service_entry_port, port),
	WEFT_FIELD_REQUIRED("name", weft_type_label_name, struct weft_service_entry_port, name),
	WEFT_FIELD("protocol", protocol, struct weft_service_entry_port, protocol),
	WEFT_FIELD("targetPort", weft_type_port, struct weft_service_entry_port, target_port),
};
static const struct weft_table port_table = {
	WEFT_FIELDS(port_fields), .initial = &port_initial, .size = sizeof(struct weft_service_entry_port)
};
static const struct weft_type port = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_service_entry_port), .table = &port_table
};
/* Each port is compared with each. */
static const struct weft_type ports = { .id = WEFT_TYPE_LIST, .element = &port, .max = 4096 };
static const struct weft_type endpoint = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_workload_entry), .table = &weft_workload_entry_spec
};
static const struct weft_type endpoints = { .id = WEFT_TYPE_LIST, .element = &endpoint };

static const struct weft_field spec_fields[] = {
	WEFT_FIELD("hosts", weft_type_strings, struct document, entry.hosts),
	WEFT_FIELD("addresses", weft_type_cidrs, struct document, entry.addresses),
	WEFT_FIELD_LIST("ports", ports, struct document, entry.port, entry.port_count),
	WEFT_FIELD("resolution", resolution, struct document, resolution),
	WEFT_FIELD_LIST("endpoints", endpoints, struct document, entry.endpoint, entry.endpoint_count),
	WEFT_FIELD("workloadSelector", selector, struct document, entry),
};
static const struct weft_table spec_table = {
	WEFT_FIELDS(spec_fields), .notice = WEFT_WORDS("location", "exportTo", "subjectAltNames")
};
static const struct weft_type spec = { .id = WEFT_TYPE_OBJECT, .table = &spec_table };

static const struct document initial = { .meta = WEFT_META_INITIAL };
static const struct weft_field fields[] = { WEFT_KIND_TOP(struct document), { "spec", &spec, 0, true } };
static const struct weft_table table = {
	WEFT_FIELDS(fields),
	.silent = WEFT_WORDS("apiVersion", "kind", "status"),
	.initial = &initial,
	.size = sizeof(struct document),
};

static void check_hosts(struct weft_decode *decode, const struct weft_strings *hosts)
{
	if (!hosts->count)
		weft_decode_error(decode, "spec.hosts", "a ServiceEntry needs at least one host");
	for (size_t i = 0; i < hosts->count; i++) {
		const char *host = hosts->item[i];
		const char *name = strncmp(host, "*.", 2) == 0 ? host + 2 : host;
		const char *expected = weft_check_subdomain(name);

		if (strcmp(host, "*") == 0)
			weft_decode_error(decode, weft_path("spec.hosts[%zu]", i).text,
					  "the host `*` is everything; name a domain, `*.example.com`");
		else if (expected)
			weft_decode_error(decode, weft_path("spec.hosts[%zu]", i).text, "`%.80s` is not accepted, expected %s", host,
					  expected);
	}
}

static void check_ports(struct weft_decode *decode, struct weft_service_entry *entry)
{
	struct weft_service_entry_port *all = (struct weft_service_entry_port *)entry->port;

	for (size_t i = 0; i < entry->port_count; i++) {
		if (!all[i].target_port)
			all[i].target_port = all[i].port;
		for (size_t j = 0; j < i; j++) {
			if (all[i].port && all[i].port == all[j].port)
				weft_decode_error(decode, weft_path("spec.ports[%zu].number", i).text,
						  "port %u is also that of spec.ports[%zu]; keep one of them", all[i].port, j);
			else if (*all[i].name && strcmp(all[i].name, all[j].name) == 0)
				weft_decode_error(decode, weft_path("spec.ports[%zu].name", i).text,
						  "the name `%s` is also that of spec.ports[%zu]; names must differ", all[i].name, j);
			else
				continue;
			break;
		}
	}
}

static bool has_port(const struct weft_service_entry *entry, const char *name)
{
	for (size_t i = 0; i < entry->port_count; i++)
		if (strcmp(entry->port[i].name, name) == 0)
			return true;
	return false;
}

static void check_endpoints(struct weft_decode *decode, const struct document *document)
{
	const struct weft_service_entry *entry = &document->entry;

	if (entry->endpoint_count && entry->has_workload_selector)
		weft_decode_error(decode, "spec.workloadSelector", "must not be set beside endpoints; keep one of them");
	if (entry->endpoint_count && document->resolution == RESOLUTION_NONE)
		weft_decode_error(decode, "spec.endpoints", "resolution NONE takes no endpoints, expected STATIC");
	for (size_t i = 0; document->resolution == RESOLUTION_STATIC && i < entry->endpoint_count; i++) {
		const struct weft_workload_entry *one = &entry->endpoint[i];

		if (!one->has_addr && !*one->network && strncmp(one->host, "unix://", 7) != 0)
			weft_decode_error(decode, weft_path("spec.endpoints[%zu].address", i).text,
					  "resolution STATIC needs an IP address");
		for (size_t j = 0; j < one->port_count; j++)
			if (!has_port(entry, one->port[j].name)) {
				weft_decode_error(decode, weft_path("spec.endpoints[%zu].ports[%.60s]", i, one->port[j].name).text,
						  "spec.ports has no port of this name");
				break;
			}
	}
}

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	struct document *document = document_;
	struct weft_service_entry *entry = &document->entry;

	check_hosts(decode, &entry->hosts);
	check_ports(decode, entry);
	check_endpoints(decode, document);
	for (size_t i = 0; i < entry->addresses.count; i++)
		if (entry->addresses.item[i].bits != 128)
			weft_decode_notice(decode, weft_path("spec.addresses[%zu]", i).text,
					   "a range of addresses is not honoured yet; single addresses are");
	if (document->resolution > RESOLUTION_STATIC) {
		weft_decode_notice(decode, "spec.resolution",
				   "%s is not honoured yet: this ServiceEntry is left out, as if it were not there",
				   resolution_words[document->resolution].word);
		return false;
	}
	entry->resolution = (enum weft_resolution)document->resolution;
	resource->service_entry = *entry;
	return true;
}

static void print_entry(struct weft_print *print, const struct weft_resource *resource)
{
	const struct weft_service_entry *entry = &resource->service_entry;

	weft_print_open(print, "spec");
	weft_print_strings(print, "hosts", &entry->hosts);
	weft_print_cidrs(print, "addresses", &entry->addresses);
	if (entry->port_count) {
		weft_print_open(print, "ports");
		for (size_t i = 0; i < entry->port_count; i++) {
			weft_print_open_item(print);
			weft_print_uint(print, "number", entry->port[i].port);
			weft_print_string(print, "name", entry->port[i].name);
			weft_print_protocol(print, "protocol", entry->port[i].protocol);
			weft_print_uint(print, "targetPort", entry->port[i].target_port);
			weft_print_close(print);
		}
		weft_print_close(print);
	}
	weft_print_string(print, "resolution", resolution_words[entry->resolution].word);
	if (entry->endpoint_count) {
		weft_print_open(print, "endpoints");
		for (size_t i = 0; i < entry->endpoint_count; i++) {
			weft_print_open_item(print);
			weft_print_workload_entry(print, &entry->endpoint[i]);
			weft_print_close(print);
		}
		weft_print_close(print);
	}
	if (entry->has_workload_selector) {
		weft_print_open(print, "workloadSelector");
		weft_print_pairs(print, "labels", &entry->workload_selector);
		weft_print_close(print);
	}
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_service_entry = {
	.kind = WEFT_KIND_SERVICE_ENTRY,
	.size = WEFT_RESOURCE_SIZE(service_entry),
	.name = "ServiceEntry",
	.versions = WEFT_WORDS("networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"),
	.namespaced = true,
	.check_name = weft_check_subdomain,
	.table = &table,
	.finish = finish,
	.print = print_entry,
};
