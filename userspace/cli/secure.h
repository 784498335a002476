/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent's proxies say of connections, found by a connection's own ends: the kernel's records know nothing of certificates.
 * Without an agent there is nothing to be found, and nobody claims anything.
 */
#ifndef WEFT_CLI_SECURE_H
#define WEFT_CLI_SECURE_H

#include "cli/cmds.h"
#include "kernel/reader.h"

struct weft_secure_conns;

struct weft_secure_conn {
	const char *security; /* "mutual_tls", "none" */
	const char *identity; /* of the connection's own workload, "" */
	const char *peer_identity; /* verified, "" */
};

/* NULL: no agent answers, or it cannot say. */
struct weft_secure_conns *weft_secure_conns_ask(const struct weft_options *options);
struct weft_secure_conns *weft_secure_conns_free(struct weft_secure_conns *conns);
WEFT_CLEANUP_DEFINE(struct weft_secure_conns, weft_secure_conns_free);

/* False: no proxy carries it. What is found lives as long as `conns`, which may be NULL. */
bool weft_secure_conns_find(const struct weft_secure_conns *conns, const struct weft_conn *conn, struct weft_secure_conn *ret_conn);

#endif
