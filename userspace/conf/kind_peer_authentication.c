/* SPDX-License-Identifier: Apache-2.0 */
/* security.istio.io PeerAuthentication: whether plaintext is taken, of the mesh, a namespace, a workload, a port. */
#include "conf/kind.h"

#include <string.h>

#define LEVELS_MAX 256 /* each is a row of the kernel's, of each set that it is in */

struct document {
	struct weft_meta meta;
	struct weft_peer_authentication authentication;
};

static const struct weft_field selector_fields[] = { { "matchLabels", &weft_type_labels, 0, false } };
static const struct weft_table selector_table = { WEFT_FIELDS(selector_fields) };
const struct weft_type weft_type_workload_selector = { .id = WEFT_TYPE_OBJECT, .table = &selector_table };

static const struct weft_word mode_words[] = {
	{ "UNSET", WEFT_MTLS_UNSET },
	{ "DISABLE", WEFT_MTLS_DISABLE },
	{ "PERMISSIVE", WEFT_MTLS_PERMISSIVE },
	{ "STRICT", WEFT_MTLS_STRICT },
	{ NULL, 0 },
};
static const struct weft_type mode = { .id = WEFT_TYPE_WORD, .size = sizeof(enum weft_mtls_mode), .words = mode_words };
static const struct weft_field mtls_fields[] = { { "mode", &mode, 0, false } };
static const struct weft_table mtls_table = { WEFT_FIELDS(mtls_fields) };
static const struct weft_type mtls = { .id = WEFT_TYPE_OBJECT, .table = &mtls_table };

/* The mapping's keys are port numbers, which YAML may have as numbers or in quotes. */
static void decode_levels(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	struct weft_peer_authentication *authentication = target;
	struct weft_port_mtls *list;

	if (node->type != WEFT_YAML_MAPPING) {
		weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at, "expected a mapping of port numbers to modes");
		return;
	}
	if (node->count > LEVELS_MAX) {
		weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at, "%u ports are too many, expected at most %d",
				    node->count, LEVELS_MAX);
		return;
	}
	list = weft_decode_alloc(decode, node->count * sizeof(*list));
	if (!list)
		return;
	for (const struct weft_yaml *child = node->first; child; child = child->next) {
		struct weft_at here = { .up = at, .key = child->key };
		size_t digits = strspn(child->key, "0123456789");
		long port = digits && digits < 6 && !child->key[digits] && child->key[0] != '0' ?
				    strtol(child->key, NULL, 10) :
				    0;

		if (port < 1 || port > UINT16_MAX) {
			weft_decode_problem(decode, WEFT_SEVERITY_ERROR, child, &here,
					    "`%.80s` is not a port, expected a number from 1 to 65535", child->key);
			continue;
		}
		list[authentication->port_level_count].port = (uint16_t)port;
		if (!weft_yaml_is_null(child))
			weft_decode_value(decode, &mtls, child, &here, &list[authentication->port_level_count].mode);
		authentication->port_level_count++;
	}
	authentication->port_level = list;
}

static const struct weft_type levels = { .id = WEFT_TYPE_CUSTOM, .decode = decode_levels };

static const struct weft_field spec_fields[] = {
	WEFT_FIELD("selector", weft_type_workload_selector, struct weft_peer_authentication, selector),
	WEFT_FIELD("mtls", mtls, struct weft_peer_authentication, mode),
	{ "portLevelMtls", &levels, 0, false },
};
static const struct weft_table spec_table = { WEFT_FIELDS(spec_fields) };
static const struct weft_type spec = { .id = WEFT_TYPE_OBJECT, .table = &spec_table };

static const struct document initial = { .meta = WEFT_META_INITIAL };
static const struct weft_field fields[] = {
	WEFT_KIND_TOP(struct document),
	WEFT_FIELD("spec", spec, struct document, authentication),
};
static const struct weft_table table = {
	WEFT_FIELDS(fields),
	.silent = WEFT_WORDS("apiVersion", "kind", "status"),
	.initial = &initial,
	.size = sizeof(struct document),
};

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	const struct document *document = document_;

	/* Istio refuses it at admission, and passes over it where it got by. */
	if (document->authentication.port_level_count && !document->authentication.selector.count)
		weft_decode_error(decode, "spec.portLevelMtls",
				  "ports are those of workloads: give spec.selector.matchLabels with at least one label");
	resource->peer_authentication = document->authentication;
	return true;
}

void weft_print_workload_selector(struct weft_print *print, const struct weft_pairs *selector)
{
	if (!selector->count)
		return;
	weft_print_open(print, "selector");
	weft_print_pairs(print, "matchLabels", selector);
	weft_print_close(print);
}

static void print_mtls(struct weft_print *print, const char *key, enum weft_mtls_mode value)
{
	weft_print_open(print, key);
	weft_print_string(print, "mode", mode_words[value].word);
	weft_print_close(print);
}

static void print_authentication(struct weft_print *print, const struct weft_resource *resource)
{
	const struct weft_peer_authentication *authentication = &resource->peer_authentication;

	weft_print_open(print, "spec");
	weft_print_workload_selector(print, &authentication->selector);
	print_mtls(print, "mtls", authentication->mode);
	if (authentication->port_level_count) {
		weft_print_open(print, "portLevelMtls");
		for (size_t i = 0; i < authentication->port_level_count; i++) {
			char port[16];

			snprintf(port, sizeof(port), "%u", authentication->port_level[i].port);
			print_mtls(print, port, authentication->port_level[i].mode);
		}
		weft_print_close(print);
	}
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_peer_authentication = {
	.kind = WEFT_KIND_PEER_AUTHENTICATION,
	.size = WEFT_RESOURCE_SIZE(peer_authentication),
	.name = "PeerAuthentication",
	.versions = WEFT_WORDS("security.istio.io/v1", "security.istio.io/v1beta1"),
	.namespaced = true,
	.check_name = weft_check_subdomain,
	.table = &table,
	.finish = finish,
	.print = print_authentication,
};
