/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the state maps counted, in Prometheus' text format. Pure: bytes in,
 * text out, so that a test needs neither a kernel nor a socket. Which families
 * there are, and what they mean, is lists/metric.h; docs/METRICS.md explains.
 */
#ifndef WEFT_EXPORT_METRICS_H
#define WEFT_EXPORT_METRICS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/names.h"
#include "weft/abi/role.h"

/*
 * What /metrics needs of main: the mask for WEFT_ROLE_READ. Most maps only to say how full they are; weft_turn is left
 * out, whose entries are there whether used or not. weft_live alone says neither whose connections it counts
 * (weft_endpoint does) nor which of its halves is in force (weft_setting does).
 */
#define WEFT_METRICS_MAPS (((1ull << WEFT_MAP_MAX_) - 1) & ~(1ull << WEFT_MAP_TURN))

struct weft_metrics_role {
	const char *name; /* "main", "control" */
	uint64_t restarts;
};

struct weft_metrics_identity {
	const char *id; /* SPIFFE */
	int64_t expiry_s; /* from now; negative: it has ended */
};

/* Where a watcher's record can be lost after it left the kernel's ring buffer (that loss is a counter of its own). */
enum weft_metrics_stage {
	WEFT_METRICS_STAGE_RELAY = 0, /* main could not hand it to control */
	WEFT_METRICS_STAGE_CLIENT, /* control could not hand it to a slow watcher */
	WEFT_METRICS_STAGE_MAX_
};

/* What the agent knows beside the maps. All strings may be NULL or "". */
struct weft_metrics_facts {
	const char *version;
	const char *node;
	const char *trust_domain; /* of the principals of workloads that have proven who they are */
	const char *cluster; /* Istio's cluster id: source_cluster, destination_cluster */
	uint64_t resources; /* in force */
	uint64_t refused; /* documents or resources refused now */
	uint64_t notices; /* fields that are not honoured, now */
	uint64_t applied; /* changes applied since control started */
	uint64_t apply_failures;
	uint64_t apply_ns; /* how long the last one took, from parsed resource to main's answer */
	uint64_t applied_unix_s; /* when; 0 = never */
	uint64_t counters_unix_s; /* when the set of maps was made */
	uint64_t watchers;
	uint64_t stage_lost[WEFT_METRICS_STAGE_MAX_]; /* since start */
	uint64_t features; /* mask of lists/feature.h */
	struct weft_role_capacity capacity; /* 0: the map is not shown */
	const struct weft_metrics_role *roles;
	size_t role_count;
	const struct weft_metrics_identity *identities;
	size_t identity_count;
	const uint64_t *proxy_counts; /* by lists/proxy.h, of all proxies together; NULL: not known */
};

/*
 * Appends the whole exposition to `text`. `batch` is what READ of
 * WEFT_METRICS_MAPS gave; other maps in it are only counted. -EBADMSG: the
 * batch is malformed, `err` says where; -ENOMEM. On failure `text` is as it was.
 */
int weft_metrics_print(const void *batch, size_t size, const struct weft_names *names,
		       const struct weft_metrics_facts *facts, struct weft_buf *text, struct weft_err *err);

/* The table of docs/METRICS.md, made from the list. */
int weft_metrics_print_table(struct weft_buf *text);

#endif
