/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who stands behind an id. Maps hold numbers; their names are in one text file
 * of the state folder, `names`, which control appends to before it uses a new
 * id and rewrites at start. So ids are stable across restarts and reboots, and
 * the CLI can name everything in the maps while no agent runs.
 *
 * One record a line, fields separated by tabs, text escaped (\t, \n, \\):
 *   weft-names 2 <records that were written at once; those that were appended come on top>
 *   S <id> <namespace> <name> <port name> <port> <protocol> <host>       service port
 *   W <id> <kind> <namespace> <name> <service account> <node> <zone> <app> <version> <owner>   workload
 *   E <id> <service id> <address> <port> <protocol>                      endpoint
 *   -S <id> | -W <id> | -E <id>                                          no longer used
 * A "-" record of an id that nobody has still counts: a service or workload id
 * up to it is not given again, an endpoint's index goes on with the next
 * generation. Generations run from 1 to 4095 and then start over.
 * A service port's key is namespace, name, port and protocol: renaming the port
 * keeps its id. A ServiceEntry's port has its host as name.
 * A torn last line (power loss) is dropped; any other bad line is an error
 * that names it, and so is a file that has fewer records than it began with. Version 1 had no count. A later record for the same id replaces the earlier one.
 */
#ifndef WEFT_MODEL_NAMES_H
#define WEFT_MODEL_NAMES_H

#include <stdint.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"

struct weft_names;

struct weft_service_name {
	uint32_t id;
	const char *namespace;
	const char *name;
	const char *port_name;
	uint16_t port;
	uint8_t protocol;
	const char *host; /* FQDN: web.shop.svc.cluster.local, or the ServiceEntry's host */
};

struct weft_workload_name {
	uint32_t id;
	const char *kind; /* "Pod", "WorkloadEntry" */
	const char *namespace;
	const char *name;
	const char *service_account;
	const char *node;
	const char *zone;
	const char *app; /* label app.kubernetes.io/name, else app, else service.istio.io/canonical-name, else "" */
	const char *version; /* label app.kubernetes.io/version, else version, else service.istio.io/canonical-revision */
	const char *owner; /* Istio's "workload": the pod's name without its ReplicaSet and pod suffixes if it has pod-template-hash, else its name */
};

struct weft_endpoint_name {
	uint32_t id; /* with generation */
	uint32_t service;
	struct weft_addr addr;
	uint16_t port; /* host order */
	uint8_t protocol;
};

struct weft_names *weft_names_new(void);
struct weft_names *weft_names_free(struct weft_names *names);
WEFT_CLEANUP_DEFINE(struct weft_names, weft_names_free);

/* Reads the file's text. -EINVAL with the line, or what is missing, named in `err`; what was read before it stays. */
int weft_names_parse(struct weft_names *names, const char *text, size_t size, struct weft_err *err);
/* The whole file, as it is rewritten at start. */
int weft_names_print(const struct weft_names *names, struct weft_buf *out);

/* NULL: nobody has that id. Valid until the id is set or removed. */
const struct weft_service_name *weft_names_service(const struct weft_names *names, uint32_t id);
const struct weft_workload_name *weft_names_workload(const struct weft_names *names, uint32_t id);
const struct weft_endpoint_name *weft_names_endpoint(const struct weft_names *names, uint32_t id);

/*
 * Finds the id of a key or gives it a new one, and appends the record to
 * `journal` when that changed anything. `template` holds the key and all else;
 * its id is ignored. Ids are never given twice while the names file lives:
 * services and workloads count up, endpoints go through their generations.
 * -ENOSPC: no id is left.
 */
int weft_names_get_service(struct weft_names *names, const struct weft_service_name *template, struct weft_buf *journal, uint32_t *ret_id);
int weft_names_get_workload(struct weft_names *names, const struct weft_workload_name *template, struct weft_buf *journal, uint32_t *ret_id);
int weft_names_get_endpoint(struct weft_names *names, const struct weft_endpoint_name *template, uint32_t max_index, struct weft_buf *journal, uint32_t *ret_id);
void weft_names_drop_service(struct weft_names *names, uint32_t id, struct weft_buf *journal);
void weft_names_drop_workload(struct weft_names *names, uint32_t id, struct weft_buf *journal);
void weft_names_drop_endpoint(struct weft_names *names, uint32_t id, struct weft_buf *journal);

/* Who has the index of weft_endpoint now, with whatever generation; NULL: nobody. */
const struct weft_endpoint_name *weft_names_endpoint_at(const struct weft_names *names, uint32_t index);
/* Who has this service, address, port and protocol; NULL: nobody. */
const struct weft_endpoint_name *weft_names_find_endpoint(const struct weft_names *names, const struct weft_endpoint_name *key);

/* In order of id. `previous` = 0 starts; NULL at the end. */
const struct weft_service_name *weft_names_next_service(const struct weft_names *names, uint32_t previous);
const struct weft_workload_name *weft_names_next_workload(const struct weft_names *names, uint32_t previous);
/* In order of index. */
const struct weft_endpoint_name *weft_names_next_endpoint(const struct weft_names *names, uint32_t previous);

#endif
