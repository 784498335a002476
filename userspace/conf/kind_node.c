/* SPDX-License-Identifier: Apache-2.0 */
/* v1 Node: addresses, the pods' prefixes, and where it stands. */
#include "conf/kind.h"

#include <string.h>

#include "base/addr.h"

enum address_type {
	ADDRESS_OTHER = 0,
	ADDRESS_INTERNAL_IP,
	ADDRESS_EXTERNAL_IP,
};

struct address {
	enum address_type type;
	const char *address;
};

struct document {
	struct weft_meta meta;
	const struct address *address;
	size_t address_count;
	struct weft_cidrs cidrs;
	const char *cidr;
};

static const struct weft_word address_words[] = {
	{ "InternalIP", ADDRESS_INTERNAL_IP }, { "ExternalIP", ADDRESS_EXTERNAL_IP }, { "Hostname", ADDRESS_OTHER },
	{ "InternalDNS", ADDRESS_OTHER },      { "ExternalDNS", ADDRESS_OTHER },	     { NULL, 0 },
};
static const struct weft_type address_type = {
	.id = WEFT_TYPE_WORD, .size = sizeof(enum address_type), .words = address_words
};
static const struct address address_initial = { .address = "" };
static const struct weft_field address_fields[] = {
	WEFT_FIELD_REQUIRED("type", address_type, struct address, type),
	WEFT_FIELD_REQUIRED("address", weft_type_string, struct address, address),
};
static const struct weft_table address_table = {
	WEFT_FIELDS(address_fields), .initial = &address_initial, .size = sizeof(struct address)
};
static const struct weft_type address = { .id = WEFT_TYPE_OBJECT, .size = sizeof(struct address), .table = &address_table };
static const struct weft_type addresses = { .id = WEFT_TYPE_LIST, .element = &address };

static const struct weft_field spec_fields[] = {
	WEFT_FIELD("podCIDR", weft_type_string, struct document, cidr),
	WEFT_FIELD("podCIDRs", weft_type_cidrs, struct document, cidrs),
};
static const struct weft_table spec_table = {
	WEFT_FIELDS(spec_fields),
	.silent = WEFT_WORDS("providerID", "unschedulable", "taints", "configSource", "externalID", "podPreemptionPolicy"),
};
static const struct weft_type spec = { .id = WEFT_TYPE_OBJECT, .table = &spec_table };

static const struct weft_field status_fields[] = {
	WEFT_FIELD_LIST("addresses", addresses, struct document, address, address_count),
};
static const struct weft_table status_table = {
	WEFT_FIELDS(status_fields),
	.silent = WEFT_WORDS("capacity", "allocatable", "phase", "conditions", "daemonEndpoints", "nodeInfo", "images",
			     "volumesInUse", "volumesAttached", "config", "runtimeHandlers", "features",
			     "declaredFeatures"),
};
static const struct weft_type status = { .id = WEFT_TYPE_OBJECT, .table = &status_table };

static const struct document initial = { .meta = WEFT_META_INITIAL, .cidr = "" };
static const struct weft_field fields[] = {
	WEFT_KIND_TOP(struct document),
	{ "spec", &spec, 0, false },
	{ "status", &status, 0, false },
};
static const struct weft_table table = {
	WEFT_FIELDS(fields), .silent = WEFT_KIND_SILENT, .initial = &initial, .size = sizeof(struct document)
};

static void take_cidrs(struct weft_decode *decode, const struct document *document, struct weft_cidrs *target)
{
	struct weft_cidr *one;

	*target = document->cidrs;
	if (!*document->cidr)
		return;
	one = weft_decode_alloc(decode, sizeof(*one));
	if (!one)
		return;
	if (weft_cidr_parse(document->cidr, one) < 0)
		weft_decode_error(decode, "spec.podCIDR",
				  "`%.80s` is not an IP prefix, expected one like 10.0.0.0/8 or fd00::/8 without bits behind the prefix",
				  document->cidr);
	else if (!target->count)
		*target = (struct weft_cidrs){ one, 1 };
	else if (memcmp(one, &target->item[0], sizeof(*one)) != 0)
		weft_decode_error(decode, "spec.podCIDR", "podCIDR must be the first of podCIDRs");
}

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	const struct document *document = document_;
	struct weft_node *node = &resource->node;
	struct weft_addr *list = weft_decode_alloc(decode, document->address_count * sizeof(*list));
	const char *zone = weft_pairs_get(&resource->meta.labels, WEFT_LABEL_ZONE);
	const char *region = weft_pairs_get(&resource->meta.labels, WEFT_LABEL_REGION);
	size_t count = 0;

	if (!list)
		return false;
	for (size_t i = 0; i < document->address_count; i++) {
		if (document->address[i].type == ADDRESS_OTHER)
			continue;
		if (weft_addr_parse(document->address[i].address, &list[count]) < 0)
			weft_decode_error(decode, weft_path("status.addresses[%zu].address", i).text,
					  "`%.80s` is not an IP address, which this type asks for", document->address[i].address);
		else
			count++;
	}
	node->addresses = (struct weft_addrs){ list, count };
	take_cidrs(decode, document, &node->pod_cidrs);
	node->zone = zone ? zone : "";
	node->region = region ? region : "";
	return true;
}

static void print_node(struct weft_print *print, const struct weft_resource *resource)
{
	const struct weft_node *node = &resource->node;

	if (node->pod_cidrs.count) {
		weft_print_open(print, "spec");
		weft_print_cidrs(print, "podCIDRs", &node->pod_cidrs);
		weft_print_close(print);
	}
	if (!node->addresses.count)
		return;
	weft_print_open(print, "status");
	weft_print_open(print, "addresses");
	for (size_t i = 0; i < node->addresses.count; i++) {
		weft_print_open_item(print);
		/* Which of the two it was makes no difference to anybody here. */
		weft_print_string(print, "type", "InternalIP");
		weft_print_addr(print, "address", &node->addresses.item[i]);
		weft_print_close(print);
	}
	weft_print_close(print);
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_node = {
	.kind = WEFT_KIND_NODE,
	.size = WEFT_RESOURCE_SIZE(node),
	.name = "Node",
	.versions = WEFT_WORDS("v1"),
	.check_name = weft_check_subdomain,
	.table = &table,
	.finish = finish,
	.print = print_node,
};
