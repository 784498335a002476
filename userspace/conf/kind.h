/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What parse.c and print.c know of a kind: its names, its table, the checks
 * that no table can say, and its printer. One file a kind; the list is kind.c.
 */
#ifndef WEFT_CONF_KIND_H
#define WEFT_CONF_KIND_H

#include "conf/print.h"
#include "conf/schema.h"

#define WEFT_ANNOTATION_NETNS "weft.dev/netns"
#define WEFT_ANNOTATION_WEIGHT "weft.dev/weight"
#define WEFT_LABEL_SERVICE "kubernetes.io/service-name"
#define WEFT_LABEL_ZONE "topology.kubernetes.io/zone"
#define WEFT_LABEL_REGION "topology.kubernetes.io/region"
#define WEFT_LABEL_DATAPLANE_MODE "istio.io/dataplane-mode"
#define WEFT_LABEL_TUNNEL "networking.istio.io/tunnel"
#define WEFT_ANNOTATION_REDIRECTION "ambient.istio.io/redirection"
#define WEFT_ANNOTATION_DRY_RUN "istio.io/dry-run"

#define WEFT_RESOURCE_SIZE(member) \
	(offsetof(struct weft_resource, member) + sizeof(((struct weft_resource *)NULL)->member))

struct weft_kind_ops {
	enum weft_kind kind;
	const char *name;
	const char *const *versions; /* accepted apiVersions, the one to recommend first */
	const char *const *annotations; /* of weft.dev/, NULL-terminated; NULL: none */
	bool namespaced;
	size_t size; /* of a resource of this kind: WEFT_RESOURCE_SIZE(member) */
	const char *(*check_name)(const char *text);
	const struct weft_table *table; /* of a struct that begins with a struct weft_meta */
	/*
	 * Checks the decoded struct and moves it into `resource`, whose kind and
	 * meta are set. False: the document is good but weft has no use for it,
	 * which a notice said.
	 */
	bool (*finish)(struct weft_decode *decode, void *document, struct weft_resource *resource);
	/* All but apiVersion, kind and metadata. */
	void (*print)(struct weft_print *print, const struct weft_resource *resource);
};

extern const struct weft_kind_ops weft_kind_service;
extern const struct weft_kind_ops weft_kind_endpoint_slice;
extern const struct weft_kind_ops weft_kind_node;
extern const struct weft_kind_ops weft_kind_namespace;
extern const struct weft_kind_ops weft_kind_pod;
extern const struct weft_kind_ops weft_kind_workload_entry;
extern const struct weft_kind_ops weft_kind_service_entry;
extern const struct weft_kind_ops weft_kind_destination_rule;
extern const struct weft_kind_ops weft_kind_peer_authentication;
extern const struct weft_kind_ops weft_kind_authorization_policy;
extern const struct weft_kind_ops weft_kind_mesh_config;

extern const struct weft_type weft_type_meta; /* struct weft_meta */
extern const struct weft_meta weft_meta_initial;
extern const struct weft_table weft_workload_entry_spec; /* struct weft_workload_entry */
void weft_print_workload_entry(struct weft_print *print, const struct weft_workload_entry *entry);

/* Rows that every kind's table has. */
#define WEFT_KIND_TOP(type) WEFT_FIELD_REQUIRED("metadata", weft_type_meta, type, meta)
#define WEFT_KIND_SILENT WEFT_WORDS("apiVersion", "kind")
/* metadata's default of a kind's struct. */
#define WEFT_META_INITIAL { .name = "", .namespace = "", .created = INT64_MAX }

const struct weft_kind_ops *weft_kind_ops(enum weft_kind kind);

enum weft_kind_class {
	WEFT_KIND_CLASS_KNOWN = 0, /* *ret_ops is set */
	WEFT_KIND_CLASS_VERSION, /* known kind, wrong apiVersion: *ret_ops is set */
	WEFT_KIND_CLASS_NOTICE, /* a mesh's business, not honoured yet */
	WEFT_KIND_CLASS_SILENT, /* none of a mesh's business */
	WEFT_KIND_CLASS_UNKNOWN, /* *ret_near: what may have been meant, or NULL */
};

/* Both outputs are set in every case, NULL where there is nothing to say. */
enum weft_kind_class weft_kind_classify(const char *version, const char *kind, const struct weft_kind_ops **ret_ops,
					const char **ret_near);

/* The namespace that annotation weft.dev/netns names, or pid:NUMBER; "" if absent or refused (which was said). */
const char *weft_kind_netns(struct weft_decode *decode, const struct weft_meta *meta);
/* Label istio.io/dataplane-mode: none. */
bool weft_kind_opted_out(const struct weft_meta *meta);
/* The record says that it takes HBONE; `labels` are spec.labels of a WorkloadEntry, or NULL. */
bool weft_kind_tunnel(const struct weft_meta *meta, const struct weft_pairs *labels);

/* spec.selector of the kinds of security.istio.io: a struct weft_pairs. */
extern const struct weft_type weft_type_workload_selector;
void weft_print_workload_selector(struct weft_print *print, const struct weft_pairs *selector);

#endif
