/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mesh resources as C structs: what the schema tables decode into and what the
 * model reads. One struct per kind, members named as upstream names them,
 * holding only what weft honours. A string is never NULL unless its comment
 * says so: an absent one is "". An absent number is its Kubernetes default.
 *
 * A resource and all that hangs on it lives in one arena: it is made by
 * conf/parse.c, read-only afterwards, and freed whole.
 */
#ifndef WEFT_CONF_RESOURCE_H
#define WEFT_CONF_RESOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

enum weft_kind {
	WEFT_KIND_SERVICE = 0, /* v1 Service */
	WEFT_KIND_ENDPOINT_SLICE, /* discovery.k8s.io/v1 EndpointSlice */
	WEFT_KIND_NODE, /* v1 Node */
	WEFT_KIND_NAMESPACE, /* v1 Namespace */
	WEFT_KIND_POD, /* v1 Pod */
	WEFT_KIND_WORKLOAD_ENTRY, /* networking.istio.io/v1 WorkloadEntry */
	WEFT_KIND_SERVICE_ENTRY, /* networking.istio.io/v1 ServiceEntry */
	WEFT_KIND_DESTINATION_RULE, /* networking.istio.io/v1 DestinationRule */
	WEFT_KIND_PEER_AUTHENTICATION, /* security.istio.io/v1 PeerAuthentication */
	WEFT_KIND_AUTHORIZATION_POLICY, /* security.istio.io/v1 AuthorizationPolicy */
	WEFT_KIND_MESH_CONFIG, /* weft.dev/v1alpha1 MeshConfig */
	WEFT_KIND_MAX_
};

/* Upstream's word ("EndpointSlice"); NULL for a value that is no kind. */
const char *weft_kind_name(enum weft_kind kind);

struct weft_pair {
	const char *key;
	const char *value;
};

struct weft_pairs {
	const struct weft_pair *item;
	size_t count;
};

/* NULL if the key is not there. */
const char *weft_pairs_get(const struct weft_pairs *pairs, const char *key);
/* True if every pair of `wanted` is in `pairs`; an empty `wanted` matches all. */
bool weft_pairs_match(const struct weft_pairs *pairs, const struct weft_pairs *wanted);

struct weft_strings {
	const char *const *item;
	size_t count;
};

struct weft_addrs {
	const struct weft_addr *item;
	size_t count;
};

struct weft_cidrs {
	const struct weft_cidr *item;
	size_t count;
};

struct weft_meta {
	const char *name;
	const char *namespace; /* "default" if absent in a namespaced kind, "" in Node, Namespace, MeshConfig */
	struct weft_pairs labels;
	struct weft_pairs annotations;
	int64_t created; /* creationTimestamp in seconds since the epoch; INT64_MAX if absent: youngest */
	bool deleting; /* deletionTimestamp is set */
};

/* ---- Service ---- */

enum weft_service_type {
	WEFT_SERVICE_CLUSTER_IP = 0,
	WEFT_SERVICE_NODE_PORT,
	WEFT_SERVICE_LOAD_BALANCER,
	WEFT_SERVICE_EXTERNAL_NAME,
};

enum weft_traffic_policy {
	WEFT_TRAFFIC_POLICY_CLUSTER = 0,
	WEFT_TRAFFIC_POLICY_LOCAL,
};

enum weft_traffic_distribution {
	WEFT_TRAFFIC_DISTRIBUTION_NONE = 0,
	WEFT_TRAFFIC_DISTRIBUTION_SAME_ZONE, /* PreferClose, PreferSameZone */
	WEFT_TRAFFIC_DISTRIBUTION_SAME_NODE, /* PreferSameNode */
};

struct weft_service_port {
	const char *name; /* "" in a service of one port */
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP; SCTP is decoded as 132 and has no frontend */
	uint16_t port;
	uint16_t target_port; /* 0 if named; the port itself if absent */
	const char *target_port_name; /* "" unless named */
	uint16_t node_port; /* 0 = none */
	const char *app_protocol;
};

struct weft_load_balancer_ingress {
	struct weft_addr ip;
	bool proxy; /* ipMode: Proxy: local programs go to the load balancer, not to endpoints */
};

struct weft_service {
	enum weft_service_type type;
	bool headless; /* clusterIP: None */
	struct weft_addrs cluster_ips; /* valid, without None; empty if not given */
	struct weft_addrs external_ips;
	const struct weft_load_balancer_ingress *ingress;
	size_t ingress_count; /* those that have an ip */
	const struct weft_service_port *port;
	size_t port_count;
	struct weft_pairs selector; /* empty: EndpointSlices are made by somebody else */
	uint32_t affinity_s; /* sessionAffinity ClientIP's timeout; 0 = None */
	enum weft_traffic_policy internal_traffic_policy;
	enum weft_traffic_policy external_traffic_policy;
	enum weft_traffic_distribution traffic_distribution;
	bool publish_not_ready_addresses;
	const char *external_name; /* of type ExternalName, else "" */
};

/* ---- EndpointSlice ---- */

struct weft_slice_port {
	const char *name; /* matches weft_service_port.name */
	uint8_t protocol;
	uint16_t port; /* 0: the slice does not say (all ports), not honoured */
};

/* What endpoints of a slice have in common, and so share. */
struct weft_slice_place {
	const char *zone;
	const char *node_name;
	struct weft_strings hint_zones;
	struct weft_strings hint_nodes;
	const char *target_namespace; /* targetRef of kind Pod, else "" */
};

struct weft_slice_endpoint {
	struct weft_addr addr; /* addresses[0], the only one that Kubernetes uses */
	bool ready; /* defaults: true */
	bool serving; /* default: true, also of one that is not ready */
	bool terminating; /* default: false */
	const struct weft_slice_place *place;
	const char *target_name; /* targetRef of kind Pod, else "" */
};

struct weft_endpoint_slice {
	const char *service; /* label kubernetes.io/service-name */
	bool fqdn; /* addressType FQDN: no address, not honoured */
	const struct weft_slice_endpoint *endpoint;
	size_t endpoint_count;
	const struct weft_slice_port *port;
	size_t port_count;
	uint32_t weight; /* of each endpoint; annotation weft.dev/weight, default 1 */
};

/* ---- Node ---- */

struct weft_node {
	struct weft_addrs addresses; /* InternalIP and ExternalIP */
	struct weft_cidrs pod_cidrs;
	const char *zone; /* label topology.kubernetes.io/zone */
	const char *region; /* label topology.kubernetes.io/region */
};

/* ---- Pod ---- */

struct weft_container_port {
	const char *name;
	uint8_t protocol;
	uint16_t port;
};

struct weft_pod_spec {
	struct weft_addrs ips; /* status.podIPs, or status.podIP */
	const char *node_name;
	const char *service_account; /* "default" if absent */
	bool host_network;
	bool ready; /* condition Ready is True; absent conditions: phase Running or no phase at all */
	bool finished; /* phase Succeeded or Failed */
	const struct weft_container_port *port; /* of all containers */
	size_t port_count;
	const char *netns; /* annotation weft.dev/netns, a name or pid:NUMBER; "" if absent */
	bool tunnel; /* annotation ambient.istio.io/redirection: enabled, or label networking.istio.io/tunnel: http */
	bool opted_out; /* label istio.io/dataplane-mode: none on the pod itself */
};

/* ---- WorkloadEntry; also ServiceEntry's endpoints ---- */

struct weft_port_map {
	const char *name;
	uint16_t port;
};

struct weft_workload_entry {
	struct weft_addr addr;
	bool has_addr; /* false: a DNS name or a unix path, not honoured */
	const char *host; /* that name or path, else "" */
	const struct weft_port_map *port;
	size_t port_count;
	struct weft_pairs labels; /* spec.labels */
	const char *network;
	const char *locality; /* region/zone/subzone */
	uint32_t weight; /* 0 if absent */
	const char *service_account;
	const char *netns; /* annotation weft.dev/netns of a WorkloadEntry, as a Pod's; "" if absent */
	bool tunnel; /* as a Pod's; labels may be spec.labels too */
	bool opted_out;
};

/* ---- ServiceEntry ---- */

enum weft_resolution {
	WEFT_RESOLUTION_NONE = 0,
	WEFT_RESOLUTION_STATIC,
};

struct weft_service_entry_port {
	const char *name;
	uint8_t protocol; /* Istio's word (HTTP, GRPC, TCP, TLS, MONGO, UDP, ...) reduced to IPPROTO_ */
	uint16_t port;
	uint16_t target_port; /* = port if absent */
};

struct weft_service_entry {
	struct weft_strings hosts;
	struct weft_cidrs addresses; /* a prefix of fewer bits than the family's is honoured with resolution NONE only as a notice */
	enum weft_resolution resolution;
	const struct weft_service_entry_port *port;
	size_t port_count;
	const struct weft_workload_entry *endpoint;
	size_t endpoint_count;
	struct weft_pairs workload_selector;
	bool has_workload_selector;
};

/* ---- DestinationRule ---- */

enum weft_simple_lb {
	WEFT_SIMPLE_LB_UNSPECIFIED = 0,
	WEFT_SIMPLE_LB_LEAST_REQUEST, /* also LEAST_CONN */
	WEFT_SIMPLE_LB_ROUND_ROBIN,
	WEFT_SIMPLE_LB_RANDOM,
	WEFT_SIMPLE_LB_PASSTHROUGH,
};

struct weft_port_lb {
	uint16_t port;
	enum weft_simple_lb simple;
};

struct weft_destination_rule {
	const char *host; /* as written: short, namespaced or FQDN; a leading "*." is a wildcard */
	enum weft_simple_lb simple;
	const struct weft_port_lb *port_level; /* portLevelSettings; one without a loadBalancer is UNSPECIFIED, it inherits nothing */
	size_t port_level_count;
};

/* ---- PeerAuthentication ---- */

enum weft_mtls_mode {
	WEFT_MTLS_UNSET = 0, /* as the wider scope says */
	WEFT_MTLS_DISABLE, /* takes plaintext, as PERMISSIVE */
	WEFT_MTLS_PERMISSIVE,
	WEFT_MTLS_STRICT,
};

struct weft_port_mtls {
	uint16_t port;
	enum weft_mtls_mode mode;
};

struct weft_peer_authentication {
	struct weft_pairs selector; /* matchLabels; empty: all of the namespace, or of the mesh */
	enum weft_mtls_mode mode;
	const struct weft_port_mtls *port_level; /* only with a selector */
	size_t port_level_count;
};

/* ---- AuthorizationPolicy ---- */

struct weft_ports {
	const uint16_t *item;
	size_t count;
};

/* Texts have a `*` at their beginning, at their end, or are `*`; without it they are meant exactly. */
struct weft_policy_source_match {
	struct weft_strings principals, not_principals;
	struct weft_strings namespaces, not_namespaces;
	struct weft_strings service_accounts, not_service_accounts; /* "ns/sa", or "sa" of the policy's namespace */
	struct weft_strings trust_domains, not_trust_domains;
	struct weft_cidrs ip_blocks, not_ip_blocks;
	const char *beyond; /* a field that needs L7, or the client's address behind a proxy; "" if it has none */
};

struct weft_policy_operation {
	struct weft_ports ports, not_ports;
	const char *beyond;
};

enum weft_policy_key {
	WEFT_POLICY_KEY_BEYOND = 0, /* needs L7, or is not known */
	WEFT_POLICY_KEY_SOURCE_IP,
	WEFT_POLICY_KEY_SOURCE_NAMESPACE,
	WEFT_POLICY_KEY_SOURCE_PRINCIPAL,
	WEFT_POLICY_KEY_SOURCE_SERVICE_ACCOUNT,
	WEFT_POLICY_KEY_DESTINATION_PORT,
};

struct weft_policy_condition {
	enum weft_policy_key key;
	const char *name; /* of the key, as written */
	struct weft_strings values, not_values; /* as written */
	struct weft_cidrs cidrs, not_cidrs; /* of source.ip */
	struct weft_ports ports, not_ports; /* of destination.port */
};

struct weft_policy_rule {
	const struct weft_policy_source_match *from; /* any of them; none: everybody */
	size_t from_count;
	const struct weft_policy_operation *to;
	size_t to_count;
	const struct weft_policy_condition *when; /* all of them */
	size_t when_count;
};

/* Combinations of `from` and `to`, over all rules: half of what a set of policies can hold. */
#define WEFT_POLICY_CLAUSES_OF_ONE 128

enum weft_policy_action {
	WEFT_POLICY_ALLOW = 0,
	WEFT_POLICY_DENY,
};

struct weft_authorization_policy {
	struct weft_pairs selector;
	enum weft_policy_action action;
	bool dry_run; /* annotation istio.io/dry-run: "true" */
	const struct weft_policy_rule *rule;
	size_t rule_count;
};

/* ---- MeshConfig ---- */

enum weft_same_node {
	WEFT_SAME_NODE_ATTESTED = 0,
	WEFT_SAME_NODE_ENCRYPTED,
};

enum weft_identity_source {
	WEFT_IDENTITY_EMBEDDED = 0, /* the CA in the state folder */
	WEFT_IDENTITY_FILES,
};

enum weft_gone_policy {
	WEFT_GONE_CUT = 0, /* the default */
	WEFT_GONE_DRAIN, /* cut after gone_timeout_s */
	WEFT_GONE_LEAVE,
};

struct weft_mesh_config {
	enum weft_gone_policy gone_policy; /* spec.goneEndpoint.policy: Cut, Drain, Leave; UDP is always cut */
	uint32_t gone_timeout_s; /* spec.goneEndpoint.timeout, default 30 s */
	bool metrics; /* spec.metrics.enabled, default true */
	enum weft_simple_lb load_balancer; /* spec.loadBalancer.simple, default LEAST_REQUEST */
	struct weft_cidrs optout_cidrs; /* spec.optOut.cidrs */
	const struct weft_service_port *optout_port; /* spec.optOut.ports: [{port, protocol}]; only these two members are set */
	size_t optout_port_count;
	struct weft_cidrs allowed_external; /* spec.externalAddresses.allow: external addresses that may fall on loopback, link-local, node or pod addresses */
	const char *cluster_domain; /* spec.clusterDomain, default cluster.local */
	const char *trust_domain; /* spec.trustDomain, default cluster.local */
	const char *root_namespace; /* spec.rootNamespace, whose policies are the mesh's; default istio-system */
	enum weft_same_node same_node; /* spec.sameNode: Attested, Encrypted */
	enum weft_identity_source identity_source; /* spec.identity.source: Embedded, Files */
	uint32_t certificate_ttl_s; /* spec.identity.certificateTTL, default 24 h */
	struct weft_cidrs probe_cidrs; /* spec.probes.cidrs: besides this node's addresses */
	bool probe_own_node; /* spec.probes.ownNode: this node's addresses are, default true */
};

/* ---- any of them ---- */

struct weft_arena;

struct weft_resource {
	enum weft_kind kind;
	unsigned int line;
	const char *file; /* where it came from, for messages */
	uint64_t fingerprint; /* of its canonical form: equal resources have equal ones */
	struct weft_arena *arena;
	struct weft_meta meta;
	union { /* last: there is memory for the kind's member only */
		struct weft_service service;
		struct weft_endpoint_slice endpoint_slice;
		struct weft_node node;
		struct weft_pod_spec pod;
		struct weft_workload_entry workload_entry;
		struct weft_service_entry service_entry;
		struct weft_destination_rule destination_rule;
		struct weft_peer_authentication peer_authentication;
		struct weft_authorization_policy authorization_policy;
		struct weft_mesh_config mesh_config;
	};
};

/* Takes NULL. */
void weft_resource_free(struct weft_resource *resource);

#endif
