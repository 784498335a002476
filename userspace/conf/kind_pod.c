/* SPDX-License-Identifier: Apache-2.0 */
/* v1 Pod: addresses, ports, whose it is. How its containers run is passed over. */
#include "conf/kind.h"

#include <string.h>

#include "base/addr.h"

enum phase {
	PHASE_ABSENT = 0,
	PHASE_PENDING,
	PHASE_RUNNING,
	PHASE_SUCCEEDED,
	PHASE_FAILED,
	PHASE_UNKNOWN,
};

struct container {
	bool restarts; /* an init container that stays: a sidecar */
	const struct weft_container_port *port;
	size_t port_count;
};

struct containers {
	const struct container *item;
	size_t count;
};

struct condition {
	const char *type;
	const char *status;
};

struct document {
	struct weft_meta meta;
	struct weft_pod_spec pod;
	struct containers containers, init_containers;
	const char *deprecated_account;
	const char *pod_ip;
	struct weft_strings pod_ips;
	enum phase phase;
	const struct condition *condition;
	size_t condition_count;
};

static const struct weft_container_port port_initial = { .name = "", .protocol = IPPROTO_TCP };
static const struct weft_type port_name = {
	.id = WEFT_TYPE_STRING, .size = sizeof(char *), .check = weft_check_port_name
};
static const struct weft_field port_fields[] = {
	WEFT_FIELD("name", port_name, struct weft_container_port, name),
	WEFT_FIELD_REQUIRED("containerPort", weft_type_port, struct weft_container_port, port),
	WEFT_FIELD("protocol", weft_type_protocol, struct weft_container_port, protocol),
};
static const struct weft_table port_table = {
	WEFT_FIELDS(port_fields),
	.notice = WEFT_WORDS("hostPort"),
	.silent = WEFT_WORDS("hostIP"),
	.initial = &port_initial,
	.size = sizeof(struct weft_container_port),
};
static const struct weft_type port = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_container_port), .table = &port_table
};
static const struct weft_type ports = { .id = WEFT_TYPE_LIST, .element = &port };

static const struct weft_word restart_words[] = { { "Always", true }, { "OnFailure", false }, { "Never", false }, { NULL, 0 } };
static const struct weft_type restart = { .id = WEFT_TYPE_WORD, .size = sizeof(bool), .words = restart_words };
static const struct container container_initial = { 0 };
static const struct weft_field container_fields[] = {
	WEFT_FIELD_LIST("ports", ports, struct container, port, port_count),
	WEFT_FIELD("restartPolicy", restart, struct container, restarts),
};
static const struct weft_table container_table = {
	WEFT_FIELDS(container_fields),
	.silent = WEFT_WORDS("name", "image", "command", "args", "workingDir", "envFrom", "env", "resources", "resizePolicy",
			     "restartPolicyRules", "volumeMounts", "volumeDevices", "livenessProbe", "readinessProbe",
			     "startupProbe", "lifecycle", "terminationMessagePath", "terminationMessagePolicy",
			     "imagePullPolicy", "securityContext", "stdin", "stdinOnce", "tty"),
	.initial = &container_initial,
	.size = sizeof(struct container),
};
static const struct weft_type container = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct container), .table = &container_table
};
static const struct weft_type containers = { .id = WEFT_TYPE_LIST, .element = &container };

static const struct weft_field spec_fields[] = {
	WEFT_FIELD("containers", containers, struct document, containers),
	WEFT_FIELD("initContainers", containers, struct document, init_containers),
	WEFT_FIELD("nodeName", weft_type_string, struct document, pod.node_name),
	WEFT_FIELD("serviceAccountName", weft_type_string, struct document, pod.service_account),
	WEFT_FIELD("serviceAccount", weft_type_string, struct document, deprecated_account),
	WEFT_FIELD("hostNetwork", weft_type_bool, struct document, pod.host_network),
};
static const struct weft_table spec_table = {
	WEFT_FIELDS(spec_fields),
	.silent = WEFT_WORDS("volumes", "ephemeralContainers", "restartPolicy", "terminationGracePeriodSeconds",
			     "activeDeadlineSeconds", "dnsPolicy", "nodeSelector", "automountServiceAccountToken", "hostPID",
			     "hostIPC", "shareProcessNamespace", "securityContext", "imagePullSecrets", "hostname",
			     "subdomain", "affinity", "schedulerName", "tolerations", "hostAliases", "priorityClassName",
			     "priority", "dnsConfig", "readinessGates", "runtimeClassName", "enableServiceLinks",
			     "preemptionPolicy", "overhead", "topologySpreadConstraints", "setHostnameAsFQDN", "os",
			     "hostUsers", "schedulingGates", "resourceClaims", "resources", "hostnameOverride",
			     "schedulingGroup", "evictionResponders"),
};
static const struct weft_type spec = { .id = WEFT_TYPE_OBJECT, .table = &spec_table };

static const struct weft_field ip_fields[] = { { "ip", &weft_type_string, 0, true } };
static const struct weft_table ip_table = { WEFT_FIELDS(ip_fields) };
static const struct weft_type ip = { .id = WEFT_TYPE_OBJECT, .size = sizeof(char *), .table = &ip_table };
static const struct weft_type ips = { .id = WEFT_TYPE_LIST, .element = &ip };

static const struct condition condition_initial = { .type = "", .status = "" };
static const struct weft_field condition_fields[] = {
	WEFT_FIELD_REQUIRED("type", weft_type_string, struct condition, type),
	WEFT_FIELD_REQUIRED("status", weft_type_string, struct condition, status),
};
static const struct weft_table condition_table = {
	WEFT_FIELDS(condition_fields),
	.silent = WEFT_WORDS("observedGeneration", "lastProbeTime", "lastTransitionTime", "reason", "message"),
	.initial = &condition_initial,
	.size = sizeof(struct condition),
};
static const struct weft_type condition = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct condition), .table = &condition_table
};
static const struct weft_type conditions = { .id = WEFT_TYPE_LIST, .element = &condition };
static const struct weft_word phase_words[] = {
	{ "Pending", PHASE_PENDING }, { "Running", PHASE_RUNNING }, { "Succeeded", PHASE_SUCCEEDED },
	{ "Failed", PHASE_FAILED },   { "Unknown", PHASE_UNKNOWN }, { NULL, 0 },
};
static const struct weft_type phase = { .id = WEFT_TYPE_WORD, .size = sizeof(enum phase), .words = phase_words };

static const struct weft_field status_fields[] = {
	WEFT_FIELD("phase", phase, struct document, phase),
	WEFT_FIELD("podIP", weft_type_string, struct document, pod_ip),
	WEFT_FIELD("podIPs", ips, struct document, pod_ips),
	WEFT_FIELD_LIST("conditions", conditions, struct document, condition, condition_count),
};
static const struct weft_table status_table = {
	WEFT_FIELDS(status_fields),
	.silent = WEFT_WORDS("observedGeneration", "message", "reason", "nominatedNodeName", "hostIP", "hostIPs", "startTime",
			     "initContainerStatuses", "containerStatuses", "qosClass", "ephemeralContainerStatuses", "resize",
			     "resourceClaimStatuses", "extendedResourceClaimStatus", "allocatedResources", "resources",
			     "nodeAllocatableResourceClaimStatuses", "volumeHealth"),
};
static const struct weft_type status = { .id = WEFT_TYPE_OBJECT, .table = &status_table };

static const struct document initial = {
	.meta = WEFT_META_INITIAL,
	.pod = { .node_name = "", .service_account = "", .netns = "" },
	.deprecated_account = "",
	.pod_ip = "",
};
static const struct weft_field fields[] = {
	WEFT_KIND_TOP(struct document),
	{ "spec", &spec, 0, false },
	{ "status", &status, 0, false },
};
static const struct weft_table table = {
	WEFT_FIELDS(fields), .silent = WEFT_KIND_SILENT, .initial = &initial, .size = sizeof(struct document)
};

static void take_ip(struct weft_decode *decode, const char *text, const char *path, struct weft_addr *list, size_t *count)
{
	struct weft_addr addr;

	if (weft_addr_parse(text, &addr) < 0)
		weft_decode_error(decode, path, "`%.80s` is not an IP address, expected one like 10.0.0.1 or fd00::1", text);
	else
		list[(*count)++] = addr;
}

static void take_ips(struct weft_decode *decode, struct document *document)
{
	struct weft_addr *list = weft_decode_alloc(decode, (document->pod_ips.count + 1) * sizeof(*list));
	size_t count = 0;

	if (!list)
		return;
	if (*document->pod_ip && document->pod_ips.count &&
	    strcmp(document->pod_ip, document->pod_ips.item[0]) != 0)
		weft_decode_error(decode, "status.podIP", "podIP must be the first of podIPs");
	for (size_t i = 0; i < document->pod_ips.count; i++)
		take_ip(decode, document->pod_ips.item[i], weft_path("status.podIPs[%zu].ip", i).text, list, &count);
	if (*document->pod_ip && !document->pod_ips.count)
		take_ip(decode, document->pod_ip, "status.podIP", list, &count);
	document->pod.ips = (struct weft_addrs){ list, count };
}

static void take_ports(struct weft_decode *decode, struct document *document)
{
	const struct containers *lists[] = { &document->containers, &document->init_containers };
	struct weft_container_port *all;
	size_t count = 0;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(lists); i++)
		for (size_t j = 0; j < lists[i]->count; j++)
			count += lists[i]->item[j].port_count;
	all = weft_decode_alloc(decode, count * sizeof(*all));
	if (!all)
		return;
	count = 0;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(lists); i++)
		for (size_t j = 0; j < lists[i]->count; j++) {
			const struct container *one = &lists[i]->item[j];

			if (!one->port_count || (lists[i] == &document->init_containers && !one->restarts))
				continue;
			memcpy(all + count, one->port, one->port_count * sizeof(*all));
			count += one->port_count;
		}
	document->pod.port = all;
	document->pod.port_count = count;
}

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	struct document *document = document_;
	struct weft_pod_spec *pod = &document->pod;
	bool told = false;

	take_ips(decode, document);
	take_ports(decode, document);
	if (!*pod->service_account)
		pod->service_account = *document->deprecated_account ? document->deprecated_account : "default";
	pod->ready = document->phase == PHASE_RUNNING || document->phase == PHASE_ABSENT;
	for (size_t i = 0; i < document->condition_count && !told; i++) {
		told = strcmp(document->condition[i].type, "Ready") == 0;
		if (told)
			pod->ready = strcmp(document->condition[i].status, "True") == 0;
	}
	pod->finished = document->phase == PHASE_SUCCEEDED || document->phase == PHASE_FAILED;
	pod->netns = weft_kind_netns(decode, &resource->meta);
	pod->opted_out = weft_kind_opted_out(&resource->meta);
	pod->tunnel = weft_kind_tunnel(&resource->meta, NULL);
	resource->pod = *pod;
	return true;
}

static void print_ports(struct weft_print *print, const struct weft_pod_spec *pod)
{
	if (!pod->port_count)
		return;
	weft_print_open(print, "containers");
	weft_print_open_item(print);
	weft_print_open(print, "ports");
	for (size_t i = 0; i < pod->port_count; i++) {
		weft_print_open_item(print);
		weft_print_string(print, "name", pod->port[i].name);
		weft_print_uint(print, "containerPort", pod->port[i].port);
		weft_print_protocol(print, "protocol", pod->port[i].protocol);
		weft_print_close(print);
	}
	weft_print_close(print);
	weft_print_close(print);
	weft_print_close(print);
}

static void print_pod(struct weft_print *print, const struct weft_resource *resource)
{
	const struct weft_pod_spec *pod = &resource->pod;

	weft_print_open(print, "spec");
	weft_print_string(print, "nodeName", pod->node_name);
	weft_print_string(print, "serviceAccountName", pod->service_account);
	weft_print_bool(print, "hostNetwork", pod->host_network);
	print_ports(print, pod);
	weft_print_close(print);
	weft_print_open(print, "status");
	weft_print_string(print, "phase", pod->finished ? "Succeeded" : "Running");
	if (pod->ips.count) {
		weft_print_open(print, "podIPs");
		for (size_t i = 0; i < pod->ips.count; i++) {
			weft_print_open_item(print);
			weft_print_addr(print, "ip", &pod->ips.item[i]);
			weft_print_close(print);
		}
		weft_print_close(print);
	}
	weft_print_open(print, "conditions");
	weft_print_open_item(print);
	weft_print_string(print, "type", "Ready");
	/* A string that looks like a boolean: the printer puts it in quotes. */
	weft_print_string(print, "status", pod->ready ? "True" : "False");
	weft_print_close(print);
	weft_print_close(print);
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_pod = {
	.kind = WEFT_KIND_POD,
	.size = WEFT_RESOURCE_SIZE(pod),
	.name = "Pod",
	.versions = WEFT_WORDS("v1"),
	.annotations = WEFT_WORDS(WEFT_ANNOTATION_NETNS),
	.namespaced = true,
	.check_name = weft_check_subdomain,
	.table = &table,
	.finish = finish,
	.print = print_pod,
};
