/* SPDX-License-Identifier: Apache-2.0 */
/* networking.istio.io WorkloadEntry; its spec is also what a ServiceEntry's endpoints are made of. */
#include "conf/kind.h"


#include "base/addr.h"

struct document {
	struct weft_meta meta;
	struct weft_workload_entry entry;
};

static void decode_address(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	struct weft_workload_entry *entry = target;
	const char *text = "";

	weft_decode_value(decode, &weft_type_string, node, at, &text);
	entry->has_addr = *text && weft_addr_parse(text, &entry->addr) == 0;
	entry->host = entry->has_addr ? "" : text;
	if (*text && !entry->has_addr)
		weft_decode_problem(decode, WEFT_SEVERITY_NOTICE, node, at,
				    "`%.80s` is not an IP address; DNS names and unix paths are not honoured yet", text);
}

static void decode_ports(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	struct weft_workload_entry *entry = target;
	struct weft_port_map *list;

	if (node->type != WEFT_YAML_MAPPING) {
		weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at, "expected a mapping of port names to numbers");
		return;
	}
	list = weft_decode_alloc(decode, node->count * sizeof(*list));
	if (!list)
		return;
	for (const struct weft_yaml *child = node->first; child; child = child->next) {
		struct weft_at here = { .up = at, .key = child->key };

		list[entry->port_count].name = weft_decode_copy(decode, child->key);
		weft_decode_value(decode, &weft_type_port, child, &here, &list[entry->port_count].port);
		entry->port_count += !weft_yaml_is_null(child);
	}
	entry->port = list;
}

static const struct weft_type address = { .id = WEFT_TYPE_CUSTOM, .decode = decode_address };
static const struct weft_type ports = { .id = WEFT_TYPE_CUSTOM, .decode = decode_ports };

static const struct weft_workload_entry spec_initial = {
	.host = "", .network = "", .locality = "", .service_account = "", .netns = ""
};
static const struct weft_field spec_fields[] = {
	{ "address", &address, 0, false },
	{ "ports", &ports, 0, false },
	WEFT_FIELD("labels", weft_type_labels, struct weft_workload_entry, labels),
	WEFT_FIELD("network", weft_type_string, struct weft_workload_entry, network),
	WEFT_FIELD("locality", weft_type_string, struct weft_workload_entry, locality),
	WEFT_FIELD("weight", weft_type_u32, struct weft_workload_entry, weight),
	WEFT_FIELD("serviceAccount", weft_type_string, struct weft_workload_entry, service_account),
};
const struct weft_table weft_workload_entry_spec = {
	WEFT_FIELDS(spec_fields), .initial = &spec_initial, .size = sizeof(struct weft_workload_entry)
};
static const struct weft_type spec = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_workload_entry), .table = &weft_workload_entry_spec
};

static const struct document initial = {
	.meta = WEFT_META_INITIAL,
	.entry = { .host = "", .network = "", .locality = "", .service_account = "", .netns = "" },
};
static const struct weft_field fields[] = {
	WEFT_KIND_TOP(struct document),
	WEFT_FIELD_REQUIRED("spec", spec, struct document, entry),
};
static const struct weft_table table = {
	WEFT_FIELDS(fields),
	.silent = WEFT_WORDS("apiVersion", "kind", "status"),
	.initial = &initial,
	.size = sizeof(struct document),
};

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	struct document *document = document_;
	const struct weft_workload_entry *entry = &document->entry;

	if (!entry->has_addr && !*entry->host && !*entry->network)
		weft_decode_error(decode, "spec.address", "this field is required unless network is set");
	document->entry.netns = weft_kind_netns(decode, &resource->meta);
	document->entry.opted_out = weft_kind_opted_out(&resource->meta);
	document->entry.tunnel = weft_kind_tunnel(&resource->meta, &entry->labels);
	resource->workload_entry = document->entry;
	return true;
}

void weft_print_workload_entry(struct weft_print *print, const struct weft_workload_entry *entry)
{
	if (entry->has_addr)
		weft_print_addr(print, "address", &entry->addr);
	weft_print_string(print, "address", entry->host);
	if (entry->port_count) {
		weft_print_open(print, "ports");
		for (size_t i = 0; i < entry->port_count; i++)
			weft_print_uint(print, entry->port[i].name, entry->port[i].port);
		weft_print_close(print);
	}
	weft_print_pairs(print, "labels", &entry->labels);
	weft_print_string(print, "network", entry->network);
	weft_print_string(print, "locality", entry->locality);
	if (entry->weight)
		weft_print_uint(print, "weight", entry->weight);
	weft_print_string(print, "serviceAccount", entry->service_account);
}

static void print_entry(struct weft_print *print, const struct weft_resource *resource)
{
	weft_print_open(print, "spec");
	weft_print_workload_entry(print, &resource->workload_entry);
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_workload_entry = {
	.kind = WEFT_KIND_WORKLOAD_ENTRY,
	.size = WEFT_RESOURCE_SIZE(workload_entry),
	.name = "WorkloadEntry",
	.versions = WEFT_WORDS("networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"),
	.annotations = WEFT_WORDS(WEFT_ANNOTATION_NETNS),
	.namespaced = true,
	.check_name = weft_check_subdomain,
	.table = &table,
	.finish = finish,
	.print = print_entry,
};
