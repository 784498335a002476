/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that were allowed when they came and are not any more: those
 * without TLS, of which main knows. What goes through proxies they judge
 * themselves. The server's end is what is cut, or, between pods of one node
 * that are attested, the client's, which knows who both are.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/control.h"
#include "base/log.h"
#include "model/mesh.h"
#include "weft/abi/proxy.h"

struct judging {
	const struct weft_conn *conn;
	size_t count;
	const uint32_t *listed; /* sorted workload ids */
	size_t listed_count;
	struct weft_mesh mesh;
	struct weft_buf attested; /* struct weft_ends, sorted: as the server's socket has them, of clients that are attested */
	struct weft_buf served; /* likewise, of what proxies dialled */
};

static void judging_done(struct judging *judging)
{
	weft_buf_done(&judging->attested);
	weft_buf_done(&judging->served);
}

static int compare_ends(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct weft_ends));
}

/* There may be a hundred thousand: each is looked for among as many. */
static void sort_ends(struct weft_buf *ends)
{
	if (ends->size)
		qsort(ends->data, ends->size / sizeof(struct weft_ends), sizeof(struct weft_ends), compare_ends);
}

static bool has_ends(const struct weft_buf *ends, const struct weft_conn *server)
{
	const struct weft_ends wanted = { server->local, server->remote, server->local_port, server->remote_port };

	return ends->size && bsearch(&wanted, ends->data, ends->size / sizeof(wanted), sizeof(wanted), compare_ends);
}

/* Clients that are pods of this node and were attested. */
static int find_attested(struct judging *judging)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < judging->count; i++) {
		const struct weft_conn *client = &judging->conn[i];
		const struct weft_ends ends = { client->remote, client->local, client->remote_port, client->local_port };

		if (client->flags & WEFT_SOCK_F_ATTESTED)
			r = weft_buf_add(&judging->attested, &ends, sizeof(ends));
	}
	sort_ends(&judging->attested);
	return r;
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return left < right ? -1 : left > right;
}

static bool is_listed(const struct judging *judging, uint32_t workload)
{
	return bsearch(&workload, judging->listed, judging->listed_count, sizeof(workload), compare_ids);
}

static bool is_allowed(const struct judging *judging, uint32_t to, const char *identity, const struct weft_addr *addr, __be16 port)
{
	struct weft_peer peer = { .identity = identity, .addr = *addr };
	struct weft_mesh_workload workload;
	struct weft_verdict verdict;

	/* Who takes no part is not judged, as in the kernel. */
	if (weft_mesh_by_id(&judging->mesh, to, &workload) < 0)
		return true;
	weft_mesh_judge(&judging->mesh, to, &peer, ntohs(port), &verdict);
	return verdict.allowed;
}

static bool is_over(const struct judging *judging, const struct weft_conn *conn)
{
	struct weft_mesh_workload from;
	const char *identity = NULL;

	if (conn->protocol != IPPROTO_TCP || conn->flags & (WEFT_SOCK_F_SECURE | WEFT_SOCK_F_AGENT))
		return false;
	if (conn->flags & WEFT_SOCK_F_ATTESTED) {
		if (!is_listed(judging, conn->peer) && !is_listed(judging, conn->workload))
			return false;
		if (weft_mesh_by_id(&judging->mesh, conn->workload, &from) == 0)
			identity = from.identity;
		return !is_allowed(judging, conn->peer, identity, &conn->local, conn->remote_port);
	}
	return conn->role == WEFT_ROLE_SERVER && is_listed(judging, conn->workload) && conn->local_port != htons(WEFT_PORT_HBONE) &&
	       conn->local_port != htons(WEFT_PORT_OUTBOUND) &&
	       !is_allowed(judging, conn->workload, NULL, &conn->remote, conn->local_port) &&
	       !has_ends(&judging->attested, conn); /* which is judged at the client's end */
}

static int cut_sockets(struct weft_control *control, const uint64_t *cookies, size_t count, struct weft_err *err)
{
	uint64_t cut = 0;

	while (count) {
		struct weft_role_message request = weft_role_message(WEFT_ROLE_CUT_SOCKETS, 0), answer;
		size_t part = count < WEFT_ROLE_MAX_CUT ? count : WEFT_ROLE_MAX_CUT;
		int r;

		request.count = (uint32_t)part;
		r = weft_control_call(control, &request, cookies, part * sizeof(*cookies), &answer, NULL, err);
		if (r < 0)
			return r;
		cut += answer.arg[0];
		cookies += part;
		count -= part;
	}
	weft_info("cut %llu connections that policy does not allow any more", (unsigned long long)cut);
	return 0;
}

static int judge(struct weft_control *control, struct weft_err *err)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_CONNS, 0);
	weft_cleanup(weft_link_bulk_done) struct weft_link_bulk bulk = { 0 };
	weft_buf_done_on_exit struct weft_buf block = WEFT_BUF_INIT, cookies = WEFT_BUF_INIT;
	weft_cleanup(judging_done) struct judging judging = { .listed = (const uint32_t *)(const void *)control->judge.data,
				   .listed_count = control->judge.size / sizeof(uint32_t) };
	bool looked = false;
	int r = weft_control_call(control, &request, NULL, 0, NULL, &bulk, err);

	if (r < 0)
		return r;
	judging.conn = bulk.data;
	judging.count = bulk.size / sizeof(*judging.conn);
	r = weft_model_mesh_block(control->model, 0, &block);
	if (r == 0)
		r = find_attested(&judging);
	if (r < 0)
		return weft_err_set(err, -r, "%m");
	r = weft_mesh_open(block.data, block.size, &judging.mesh, err);
	qsort(control->judge.data, judging.listed_count, sizeof(uint32_t), compare_ids);
	for (size_t i = 0; r == 0 && i < judging.count; i++) {
		const struct weft_conn *conn = &judging.conn[i];

		if (!is_over(&judging, conn))
			continue;
		/* A proxy dials as the client whose stream it carries, so that here it looks like plaintext from there. */
		if (!looked)
			r = weft_control_secure_served(control, &judging.served);
		if (!looked && r == 0)
			sort_ends(&judging.served);
		looked = true;
		if (r == 0 && conn->role == WEFT_ROLE_SERVER && has_ends(&judging.served, conn))
			continue;
		if (r < 0 || weft_buf_add(&cookies, &conn->cookie, sizeof(conn->cookie)) < 0)
			r = weft_err_set(err, ENOMEM, "%m");
	}
	if (r < 0 || !cookies.size)
		return r;
	return cut_sockets(control, (const uint64_t *)(const void *)cookies.data, cookies.size / sizeof(uint64_t), err);
}

void weft_control_judge(struct weft_control *control, const struct weft_buf *workloads)
{
	struct weft_err err = { "" };

	if (workloads->size && weft_buf_add(&control->judge, workloads->data, workloads->size) < 0)
		weft_error("out of memory: some connections are not judged by the new policies");
	if (!control->judge.size || !control->greeted)
		return;
	if (judge(control, &err) < 0)
		weft_error("open connections cannot be judged by the new policies: %s; trying again with the next change", err.text);
	else
		weft_buf_done(&control->judge);
}
