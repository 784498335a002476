/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/kind.h"

#include <string.h>

static const struct weft_kind_ops *const kinds[WEFT_KIND_MAX_] = {
	[WEFT_KIND_SERVICE] = &weft_kind_service,
	[WEFT_KIND_ENDPOINT_SLICE] = &weft_kind_endpoint_slice,
	[WEFT_KIND_NODE] = &weft_kind_node,
	[WEFT_KIND_NAMESPACE] = &weft_kind_namespace,
	[WEFT_KIND_POD] = &weft_kind_pod,
	[WEFT_KIND_WORKLOAD_ENTRY] = &weft_kind_workload_entry,
	[WEFT_KIND_SERVICE_ENTRY] = &weft_kind_service_entry,
	[WEFT_KIND_DESTINATION_RULE] = &weft_kind_destination_rule,
	[WEFT_KIND_PEER_AUTHENTICATION] = &weft_kind_peer_authentication,
	[WEFT_KIND_AUTHORIZATION_POLICY] = &weft_kind_authorization_policy,
	[WEFT_KIND_MESH_CONFIG] = &weft_kind_mesh_config,
};

/* Kinds that exist upstream, by API group; "" is the core group. */
struct group {
	const char *name;
	const char *const *notice;
	const char *const *silent;
};

static const struct group groups[] = {
	{ "", WEFT_WORDS("Endpoints"),
	  WEFT_WORDS("ConfigMap", "Secret", "ServiceAccount", "PersistentVolume", "PersistentVolumeClaim", "LimitRange",
		     "ResourceQuota", "ReplicationController", "PodTemplate", "Event", "Binding", "ComponentStatus") },
	{ "apps", NULL, WEFT_WORDS("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ControllerRevision") },
	{ "batch", NULL, WEFT_WORDS("Job", "CronJob") },
	{ "autoscaling", NULL, WEFT_WORDS("HorizontalPodAutoscaler", "Scale") },
	{ "policy", NULL, WEFT_WORDS("PodDisruptionBudget", "Eviction") },
	{ "rbac.authorization.k8s.io", NULL, WEFT_WORDS("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding") },
	{ "storage.k8s.io", NULL,
	  WEFT_WORDS("StorageClass", "VolumeAttachment", "CSIDriver", "CSINode", "CSIStorageCapacity",
		     "VolumeAttributesClass") },
	{ "scheduling.k8s.io", NULL, WEFT_WORDS("PriorityClass") },
	{ "node.k8s.io", NULL, WEFT_WORDS("RuntimeClass") },
	{ "coordination.k8s.io", NULL, WEFT_WORDS("Lease", "LeaseCandidate") },
	{ "events.k8s.io", NULL, WEFT_WORDS("Event") },
	{ "certificates.k8s.io", NULL, WEFT_WORDS("CertificateSigningRequest", "ClusterTrustBundle") },
	{ "apiextensions.k8s.io", NULL, WEFT_WORDS("CustomResourceDefinition") },
	{ "apiregistration.k8s.io", NULL, WEFT_WORDS("APIService") },
	{ "admissionregistration.k8s.io", NULL,
	  WEFT_WORDS("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "ValidatingAdmissionPolicy",
		     "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding") },
	{ "flowcontrol.apiserver.k8s.io", NULL, WEFT_WORDS("FlowSchema", "PriorityLevelConfiguration") },
	{ "resource.k8s.io", NULL, WEFT_WORDS("ResourceClaim", "ResourceClaimTemplate", "ResourceSlice", "DeviceClass") },
	{ "networking.k8s.io", WEFT_WORDS("NetworkPolicy", "Ingress", "IngressClass", "IPAddress", "ServiceCIDR"), NULL },
	{ "policy.networking.k8s.io", WEFT_WORDS("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"),
	  NULL },
	{ "multicluster.x-k8s.io", WEFT_WORDS("ServiceExport", "ServiceImport"), NULL },
	{ "gateway.networking.k8s.io",
	  WEFT_WORDS("Gateway", "GatewayClass", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute",
		     "ReferenceGrant", "BackendTLSPolicy", "ListenerSet"),
	  NULL },
	{ "gateway.networking.x-k8s.io", WEFT_WORDS("XListenerSet", "XBackendTrafficPolicy", "XMesh"), NULL },
	{ "networking.istio.io",
	  WEFT_WORDS("VirtualService", "Gateway", "Sidecar", "EnvoyFilter", "WorkloadGroup", "ProxyConfig"), NULL },
	{ "security.istio.io", WEFT_WORDS("RequestAuthentication"), NULL },
	{ "telemetry.istio.io", WEFT_WORDS("Telemetry"), NULL },
	{ "extensions.istio.io", WEFT_WORDS("WasmPlugin", "TrafficExtension"), NULL },
};

const struct weft_kind_ops *weft_kind_ops(enum weft_kind kind)
{
	return (unsigned int)kind < WEFT_KIND_MAX_ ? kinds[kind] : NULL;
}

static size_t group_size(const char *version)
{
	const char *slash = strchr(version, '/');

	return slash ? (size_t)(slash - version) : 0;
}

static bool same_group(const char *version, const char *group)
{
	return strlen(group) == group_size(version) && strncmp(version, group, group_size(version)) == 0;
}

static bool holds(const char *const *words, const char *text, const char **near)
{
	for (; words && *words; words++) {
		if (strcmp(*words, text) == 0)
			return true;
		*near = weft_nearest(text, *words, *near);
	}
	return false;
}

enum weft_kind_class weft_kind_classify(const char *version, const char *kind, const struct weft_kind_ops **ret_ops,
					const char **ret_near)
{
	const struct weft_kind_ops *other = NULL;
	const char *near = NULL;

	*ret_ops = NULL;
	*ret_near = NULL;
	for (size_t i = 0; i < WEFT_KIND_MAX_; i++) {
		near = weft_nearest(kind, kinds[i]->name, near);
		if (strcmp(kinds[i]->name, kind) != 0)
			continue;
		other = kinds[i];
		for (const char *const *word = other->versions; *word; word++)
			if (strcmp(*word, version) == 0) {
				*ret_ops = other;
				return WEFT_KIND_CLASS_KNOWN;
			}
	}
	for (size_t i = 0; !other && i < WEFT_ARRAY_SIZE(groups); i++) {
		if (!same_group(version, groups[i].name))
			continue;
		if (holds(groups[i].notice, kind, &near))
			return WEFT_KIND_CLASS_NOTICE;
		if (holds(groups[i].silent, kind, &near))
			return WEFT_KIND_CLASS_SILENT;
	}
	*ret_ops = other;
	*ret_near = near;
	return other ? WEFT_KIND_CLASS_VERSION : WEFT_KIND_CLASS_UNKNOWN;
}
