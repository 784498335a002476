/* SPDX-License-Identifier: Apache-2.0 */
/* weft.dev MeshConfig: our own, so that every field is honoured and no other exists. */
#include "conf/kind.h"

#include <string.h>

#define TRUST_DOMAIN_MAX 255 /* SPIFFE-ID section 2.1 */

struct document {
	struct weft_meta meta;
	struct weft_mesh_config mesh;
};

static const struct weft_word policy_words[] = {
	{ "Cut", WEFT_GONE_CUT }, { "Drain", WEFT_GONE_DRAIN }, { "Leave", WEFT_GONE_LEAVE }, { NULL, 0 }
};
static const struct weft_type policy = { .id = WEFT_TYPE_WORD, .size = sizeof(enum weft_gone_policy), .words = policy_words };
static const struct weft_type timeout = { .id = WEFT_TYPE_DURATION, .size = sizeof(uint32_t), .min = 1, .max = 86400 };
static const struct weft_field gone_fields[] = {
	WEFT_FIELD("policy", policy, struct document, mesh.gone_policy),
	WEFT_FIELD("timeout", timeout, struct document, mesh.gone_timeout_s),
};
static const struct weft_table gone_table = { WEFT_FIELDS(gone_fields) };
static const struct weft_type gone = { .id = WEFT_TYPE_OBJECT, .table = &gone_table };

static const struct weft_field metrics_fields[] = { WEFT_FIELD("enabled", weft_type_bool, struct document, mesh.metrics) };
static const struct weft_table metrics_table = { WEFT_FIELDS(metrics_fields) };
static const struct weft_type metrics = { .id = WEFT_TYPE_OBJECT, .table = &metrics_table };

/* A mesh's default is a real choice: neither nothing nor "leave all services alone". */
static const struct weft_word balancer_words[] = {
	{ "LEAST_REQUEST", WEFT_SIMPLE_LB_LEAST_REQUEST },
	{ "ROUND_ROBIN", WEFT_SIMPLE_LB_ROUND_ROBIN },
	{ "RANDOM", WEFT_SIMPLE_LB_RANDOM },
	{ NULL, 0 },
};
static const struct weft_type simple = {
	.id = WEFT_TYPE_WORD, .size = sizeof(enum weft_simple_lb), .words = balancer_words
};
static const struct weft_field balancer_fields[] = { WEFT_FIELD("simple", simple, struct document, mesh.load_balancer) };
static const struct weft_table balancer_table = { WEFT_FIELDS(balancer_fields) };
static const struct weft_type balancer = { .id = WEFT_TYPE_OBJECT, .table = &balancer_table };

static const struct weft_word protocol_words[] = { { "TCP", IPPROTO_TCP }, { "UDP", IPPROTO_UDP }, { NULL, 0 } };
static const struct weft_type protocol = { .id = WEFT_TYPE_WORD, .size = sizeof(uint8_t), .words = protocol_words };
static const struct weft_service_port port_initial = {
	.name = "", .protocol = IPPROTO_TCP, .target_port_name = "", .app_protocol = ""
};
static const struct weft_field port_fields[] = {
	WEFT_FIELD_REQUIRED("port", weft_type_port, struct weft_service_port, port),
	WEFT_FIELD("protocol", protocol, struct weft_service_port, protocol),
};
static const struct weft_table port_table = {
	WEFT_FIELDS(port_fields), .initial = &port_initial, .size = sizeof(struct weft_service_port)
};
static const struct weft_type port = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_service_port), .table = &port_table
};
static const struct weft_type ports = { .id = WEFT_TYPE_LIST, .element = &port };
static const struct weft_field optout_fields[] = {
	WEFT_FIELD("cidrs", weft_type_cidrs, struct document, mesh.optout_cidrs),
	WEFT_FIELD_LIST("ports", ports, struct document, mesh.optout_port, mesh.optout_port_count),
};
static const struct weft_table optout_table = { WEFT_FIELDS(optout_fields) };
static const struct weft_type optout = { .id = WEFT_TYPE_OBJECT, .table = &optout_table };

static const struct weft_field external_fields[] = {
	WEFT_FIELD("allow", weft_type_cidrs, struct document, mesh.allowed_external),
};
static const struct weft_table external_table = { WEFT_FIELDS(external_fields) };
static const struct weft_type external = { .id = WEFT_TYPE_OBJECT, .table = &external_table };

static const char *check_trust_domain(const char *text)
{
	size_t size = strlen(text);

	return size <= TRUST_DOMAIN_MAX && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == size ?
		       NULL :
		       "a trust domain: at most 255 lower-case letters, digits, `.`, `-` and `_`";
}

static const struct weft_word same_node_words[] = {
	{ "Attested", WEFT_SAME_NODE_ATTESTED }, { "Encrypted", WEFT_SAME_NODE_ENCRYPTED }, { NULL, 0 }
};
static const struct weft_type same_node = {
	.id = WEFT_TYPE_WORD, .size = sizeof(enum weft_same_node), .words = same_node_words
};
static const struct weft_word source_words[] = {
	{ "Embedded", WEFT_IDENTITY_EMBEDDED }, { "Files", WEFT_IDENTITY_FILES }, { NULL, 0 }
};
static const struct weft_type source = {
	.id = WEFT_TYPE_WORD, .size = sizeof(enum weft_identity_source), .words = source_words
};
/* Below 10 s a renewal at half life would race the handshakes; above 90 days it is no short-lived certificate. */
static const struct weft_type ttl = { .id = WEFT_TYPE_DURATION, .size = sizeof(uint32_t), .min = 10, .max = 90 * 86400 };
static const struct weft_field identity_fields[] = {
	WEFT_FIELD("source", source, struct document, mesh.identity_source),
	WEFT_FIELD("certificateTTL", ttl, struct document, mesh.certificate_ttl_s),
};
static const struct weft_table identity_table = { WEFT_FIELDS(identity_fields) };
static const struct weft_type identity = { .id = WEFT_TYPE_OBJECT, .table = &identity_table };

/* Each is in every set of policies. */
static const struct weft_type probe_cidrs = { .id = WEFT_TYPE_LIST, .element = &weft_type_cidr, .max = 64 };
static const struct weft_field probe_fields[] = {
	WEFT_FIELD("cidrs", probe_cidrs, struct document, mesh.probe_cidrs),
	WEFT_FIELD("ownNode", weft_type_bool, struct document, mesh.probe_own_node),
};
static const struct weft_table probe_table = { WEFT_FIELDS(probe_fields) };
static const struct weft_type probes = { .id = WEFT_TYPE_OBJECT, .table = &probe_table };

static const struct weft_type trust_domain = { .id = WEFT_TYPE_STRING, .size = sizeof(char *), .check = check_trust_domain };
static const struct weft_type domain = { .id = WEFT_TYPE_STRING, .size = sizeof(char *), .check = weft_check_subdomain };
static const struct weft_field spec_fields[] = {
	{ "goneEndpoint", &gone, 0, false },
	{ "metrics", &metrics, 0, false },
	{ "loadBalancer", &balancer, 0, false },
	{ "optOut", &optout, 0, false },
	{ "externalAddresses", &external, 0, false },
	WEFT_FIELD("clusterDomain", domain, struct document, mesh.cluster_domain),
	WEFT_FIELD("trustDomain", trust_domain, struct document, mesh.trust_domain),
	WEFT_FIELD("rootNamespace", weft_type_label_name, struct document, mesh.root_namespace),
	WEFT_FIELD("sameNode", same_node, struct document, mesh.same_node),
	{ "identity", &identity, 0, false },
	{ "probes", &probes, 0, false },
};
static const struct weft_table spec_table = { WEFT_FIELDS(spec_fields) };
static const struct weft_type spec = { .id = WEFT_TYPE_OBJECT, .table = &spec_table };

static const struct document initial = {
	.meta = WEFT_META_INITIAL,
	.mesh = {
		.gone_timeout_s = 30,
		.metrics = true,
		.load_balancer = WEFT_SIMPLE_LB_LEAST_REQUEST,
		.cluster_domain = "cluster.local",
		.trust_domain = "cluster.local",
		.root_namespace = "istio-system",
		.certificate_ttl_s = 86400,
		.probe_own_node = true,
	},
};
static const struct weft_field fields[] = { WEFT_KIND_TOP(struct document), { "spec", &spec, 0, false } };
static const struct weft_table table = {
	WEFT_FIELDS(fields), .silent = WEFT_KIND_SILENT, .initial = &initial, .size = sizeof(struct document)
};

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	struct document *document = document_;

	(void)decode;
	if (!*document->mesh.cluster_domain)
		document->mesh.cluster_domain = initial.mesh.cluster_domain;
	if (!*document->mesh.trust_domain)
		document->mesh.trust_domain = initial.mesh.trust_domain;
	if (!*document->mesh.root_namespace)
		document->mesh.root_namespace = initial.mesh.root_namespace;
	resource->mesh_config = document->mesh;
	return true;
}

static void print_mesh(struct weft_print *print, const struct weft_resource *resource)
{
	const struct weft_mesh_config *mesh = &resource->mesh_config;
	const struct weft_word *word = balancer_words;
	char seconds[16];

	while (word->value != (int)mesh->load_balancer)
		word++;
	snprintf(seconds, sizeof(seconds), "%us", mesh->gone_timeout_s);
	weft_print_open(print, "spec");
	weft_print_open(print, "goneEndpoint");
	weft_print_string(print, "policy", policy_words[mesh->gone_policy].word);
	weft_print_string(print, "timeout", seconds);
	weft_print_close(print);
	weft_print_open(print, "metrics");
	weft_print_bool(print, "enabled", mesh->metrics);
	weft_print_close(print);
	weft_print_open(print, "loadBalancer");
	weft_print_string(print, "simple", word->word);
	weft_print_close(print);
	if (mesh->optout_cidrs.count || mesh->optout_port_count) {
		weft_print_open(print, "optOut");
		weft_print_cidrs(print, "cidrs", &mesh->optout_cidrs);
		if (mesh->optout_port_count) {
			weft_print_open(print, "ports");
			for (size_t i = 0; i < mesh->optout_port_count; i++) {
				weft_print_open_item(print);
				weft_print_uint(print, "port", mesh->optout_port[i].port);
				weft_print_protocol(print, "protocol", mesh->optout_port[i].protocol);
				weft_print_close(print);
			}
			weft_print_close(print);
		}
		weft_print_close(print);
	}
	if (mesh->allowed_external.count) {
		weft_print_open(print, "externalAddresses");
		weft_print_cidrs(print, "allow", &mesh->allowed_external);
		weft_print_close(print);
	}
	weft_print_string(print, "clusterDomain", mesh->cluster_domain);
	weft_print_string(print, "trustDomain", mesh->trust_domain);
	weft_print_string(print, "rootNamespace", mesh->root_namespace);
	weft_print_string(print, "sameNode", same_node_words[mesh->same_node].word);
	snprintf(seconds, sizeof(seconds), "%us", mesh->certificate_ttl_s);
	weft_print_open(print, "identity");
	weft_print_string(print, "source", source_words[mesh->identity_source].word);
	weft_print_string(print, "certificateTTL", seconds);
	weft_print_close(print);
	weft_print_open(print, "probes");
	weft_print_cidrs(print, "cidrs", &mesh->probe_cidrs);
	weft_print_bool(print, "ownNode", mesh->probe_own_node);
	weft_print_close(print);
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_mesh_config = {
	.kind = WEFT_KIND_MESH_CONFIG,
	.size = WEFT_RESOURCE_SIZE(mesh_config),
	.name = "MeshConfig",
	.versions = WEFT_WORDS("weft.dev/v1alpha1"),
	.check_name = weft_check_subdomain,
	.table = &table,
	.finish = finish,
	.print = print_mesh,
};
