/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pinned maps and the names file, joined: what the commands that need no
 * agent show. Every map is read once, when it is first asked for.
 */
#ifndef WEFT_CLI_VIEW_H
#define WEFT_CLI_VIEW_H

#include <stdbool.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "cli/cmds.h"
#include "kernel/reader.h"
#include "model/names.h"

#define WEFT_LABEL 640 /* room for "namespace/name:port" */

struct weft_view_frontend {
	struct weft_frontend_key key;
	struct weft_frontend value;
};

/* An endpoint that a frontend may choose. */
struct weft_view_candidate {
	struct weft_endpoint endpoint;
	double share; /* of choices by weight alone */
	uint64_t live;
};

struct weft_view;

/* -errno with `err`. A names file that is missing or damaged is no failure: ids stand for the names that are not known. */
int weft_view_open(const struct weft_options *options, struct weft_view **ret_view, struct weft_err *err);
struct weft_view *weft_view_close(struct weft_view *view);
WEFT_CLEANUP_DEFINE(struct weft_view, weft_view_close);

struct weft_reader *weft_view_reader(struct weft_view *view);
const struct weft_names *weft_view_names(struct weft_view *view);

/* All entries of a map. The view keeps nothing of it. */
int weft_view_all(struct weft_view *view, enum weft_map map, struct weft_buf *keys, struct weft_buf *values,
		  size_t *ret_count, struct weft_err *err);

/* One value. -ENOENT: no such key, and `err` is left alone. */
int weft_view_get(struct weft_view *view, enum weft_map map, const void *key, void *ret_value, struct weft_err *err);
int weft_view_setting(struct weft_view *view, struct weft_setting *ret_setting, struct weft_err *err);

/* Sorted by service, type, address, port. The view's. */
int weft_view_frontends(struct weft_view *view, const struct weft_view_frontend **ret_frontends, size_t *ret_count,
			struct weft_err *err);
/* By index; the free ones have state FREE. The view's. */
int weft_view_endpoints(struct weft_view *view, const struct weft_endpoint **ret_endpoints, size_t *ret_count,
			struct weft_err *err);
/* 0 for an index that there is not. */
int weft_view_live(struct weft_view *view, uint32_t endpoint, uint64_t *ret_live, struct weft_err *err);
/* False: live connections are still to be recounted, so that what weft_view_live() said is not to be shown. */
bool weft_view_counted(const struct weft_view *view);

/* Sorted by address; the caller frees. */
int weft_view_candidates(struct weft_view *view, const struct weft_frontend *frontend,
			 struct weft_view_candidate **ret_candidates, size_t *ret_count, struct weft_err *err);

/*
 * "shop/web:80", "service 7" if nobody knows its name, "other", or "" for 0. `text` has WEFT_LABEL bytes.
 */
const char *weft_view_service(struct weft_view *view, uint32_t id, char *text);
/* "shop/web-0", "workload 7", "other", or "" for 0. */
const char *weft_view_workload(struct weft_view *view, uint32_t id, char *text);

/* Whether the service, workload has this "namespace/name"; true if `pair` is NULL. */
bool weft_view_service_is(struct weft_view *view, uint32_t id, const char *pair);
bool weft_view_workload_is(struct weft_view *view, uint32_t id, const char *pair);
/* -ENOENT with `err`, and the nearest name: no service, workload has this "namespace/name". */
int weft_view_require_service(struct weft_view *view, const char *pair, struct weft_err *err);
int weft_view_require_workload(struct weft_view *view, const char *pair, uint32_t *ret_id, struct weft_err *err);

const char *weft_protocol_name(uint8_t protocol); /* "tcp", "udp", "?" */
const char *weft_frontend_type_name(uint8_t type);
const char *weft_algorithm_name(uint8_t algorithm);
const char *weft_endpoint_state_name(uint8_t state);
const char *weft_outcome_name(uint8_t outcome);

#endif
