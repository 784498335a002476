/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/role_main.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "net/netns.h"
#include "net/sock_destroy.h"

/* The first failure is returned after all were tried. */
static int everywhere(struct weft_main *role, int (*work)(void *context, int netns), void *context)
{
	weft_netns_list_done_on_exit struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	int result = weft_main_netns_known(role, &list), r;

	for (size_t i = 0; i < list.count; i++) {
		r = work(context, list.netns[i].fd);
		if (r < 0 && result == 0)
			result = r;
	}
	return result;
}

/* The sockets of these endpoints, or these sockets, by netlink: for kernels where no program may destroy one. */
struct diag_cut {
	const struct weft_conn *conn;
	size_t count;
	const __u32 *ids; /* sorted; NULL: by cookie */
	size_t id_count;
	const __u64 *cookies; /* sorted */
	size_t cookie_count;
	bool udp_only;
	ino_t inode;
	uint32_t cut;
};

static int compare_ids(const void *a, const void *b)
{
	__u32 left = *(const __u32 *)a, right = *(const __u32 *)b;

	return left < right ? -1 : left > right;
}

static int compare_cookies(const void *a, const void *b)
{
	__u64 left = *(const __u64 *)a, right = *(const __u64 *)b;

	return left < right ? -1 : left > right;
}

static bool is_meant(const struct diag_cut *cut, const struct weft_conn *conn)
{
	if (!cut->ids)
		return conn->protocol == IPPROTO_TCP && bsearch(&conn->cookie, cut->cookies, cut->cookie_count, sizeof(*cut->cookies), compare_cookies);
	return conn->role == WEFT_ROLE_CLIENT && conn->endpoint && (!cut->udp_only || conn->protocol == IPPROTO_UDP) &&
	       /* else disconnected since, and serving others by now */
	       (conn->protocol != IPPROTO_UDP || conn->state == TCP_ESTABLISHED) &&
	       bsearch(&conn->endpoint, cut->ids, cut->id_count, sizeof(*cut->ids), compare_ids);
}

static int diag_cut_here(void *context)
{
	struct diag_cut *cut = context;

	for (size_t i = 0; i < cut->count; i++) {
		const struct weft_conn *conn = &cut->conn[i];
		struct weft_err err;
		int r;

		if (conn->netns_inode != cut->inode || !is_meant(cut, conn))
			continue;
		r = weft_sock_destroy(conn, &err);
		if (r == 0)
			cut->cut++;
		else if (r != -ENOENT)
			return r;
	}
	return 0;
}

static int diag_cut_in(void *context, int netns)
{
	struct diag_cut *cut = context;
	int r = weft_netns_inode(netns, &cut->inode);

	return r < 0 ? r : weft_netns_run(netns, diag_cut_here, cut);
}

static int cut_by_diag(struct weft_main *role, struct diag_cut *cut, uint32_t *ret_cut)
{
	weft_cleanup(weft_buf_done) struct weft_buf conns = WEFT_BUF_INIT;
	int r = role->features >> WEFT_FEATURE_SOCK_DIAG_DESTROY & 1 ? weft_kernel_conns(role->kernel, &conns) : -EOPNOTSUPP;

	if (r < 0)
		return r;
	cut->conn = (const struct weft_conn *)conns.data;
	cut->count = conns.size / sizeof(struct weft_conn);
	r = everywhere(role, diag_cut_in, cut);
	*ret_cut = cut->cut;
	return r;
}

struct kernel_cut {
	struct weft_kernel *kernel;
	const __u32 *ids; /* NULL: by cookie */
	const __u64 *cookies;
	size_t count;
	bool udp_only;
	uint32_t cut;
};

static int kernel_cut_here(void *context)
{
	struct kernel_cut *cut = context;
	uint32_t here = 0;
	int r = cut->ids ? weft_kernel_cut_here(cut->kernel, cut->ids, cut->count, cut->udp_only, &here)
			 : weft_kernel_cut_sockets_here(cut->kernel, (const uint64_t *)cut->cookies, cut->count, &here);

	cut->cut += here;
	return r;
}

static int kernel_cut_in(void *context, int netns)
{
	return weft_netns_run(netns, kernel_cut_here, context);
}

static int cut_by_program(struct weft_main *role, struct kernel_cut *cut, uint32_t *ret_cut)
{
	int r = everywhere(role, kernel_cut_in, cut);

	*ret_cut = cut->cut;
	return r;
}

/* A copy in order; the caller's. */
static void *sorted(const void *items, size_t count, size_t size, int (*compare)(const void *a, const void *b))
{
	void *copy = malloc(count * size + 1);

	if (!copy)
		return NULL;
	memcpy(copy, items, count * size);
	qsort(copy, count, size, compare);
	return copy;
}

int weft_main_cut(struct weft_main *role, const __u32 *ids, size_t count, bool udp_only, uint32_t *ret_cut)
{
	struct kernel_cut cut = { .kernel = role->kernel, .ids = ids, .count = count, .udp_only = udp_only };
	weft_free_on_exit __u32 *in_order = NULL;
	struct diag_cut diag = { .id_count = count, .udp_only = udp_only };

	if (role->features >> WEFT_FEATURE_SOCK_DESTROY & 1)
		return cut_by_program(role, &cut, ret_cut);
	diag.ids = in_order = sorted(ids, count, sizeof(*ids), compare_ids);
	return in_order ? cut_by_diag(role, &diag, ret_cut) : -ENOMEM;
}

/* ---- half open: into attached pods, where each SYN was judged ---- */

struct half_open {
	struct weft_main *role;
	struct weft_buf conns;
	uint64_t cookie; /* of the network namespace that is looked at */
	const __u64 *doomed; /* sorted */
	size_t doomed_count;
	uint32_t cut;
};

static void half_open_done(struct half_open *half)
{
	weft_buf_done(&half->conns);
}

static int half_open_here(void *context)
{
	struct half_open *half = context;
	size_t before = half->conns.size;
	struct weft_err err;
	int r = weft_sock_half_open(&half->conns, &err);

	for (size_t at = before; at < half->conns.size; at += sizeof(struct weft_conn)) {
		struct weft_conn conn;

		memcpy(&conn, half->conns.data + at, sizeof(conn));
		conn.netns = half->cookie;
		conn.workload = weft_main_pod_workload(half->role, half->cookie);
		memcpy(half->conns.data + at, &conn, sizeof(conn));
	}
	return r;
}

static int half_open_in(void *context, uint64_t cookie, int netns)
{
	struct half_open *half = context;

	half->cookie = cookie;
	return weft_netns_run(netns, half_open_here, half);
}

static int cut_half_open_here(void *context)
{
	struct half_open *half = context;
	struct weft_err err;
	int r;

	weft_buf_clear(&half->conns);
	r = weft_sock_half_open(&half->conns, &err);
	for (size_t at = 0; r == 0 && at < half->conns.size; at += sizeof(struct weft_conn)) {
		struct weft_conn conn;

		memcpy(&conn, half->conns.data + at, sizeof(conn));
		if (!bsearch(&conn.cookie, half->doomed, half->doomed_count, sizeof(*half->doomed), compare_cookies))
			continue;
		r = weft_sock_destroy(&conn, &err);
		half->cut += r == 0;
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

static int cut_half_open_in(void *context, uint64_t cookie, int netns)
{
	(void)cookie;
	return weft_netns_run(netns, cut_half_open_here, context);
}

int weft_main_conns(struct weft_main *role, struct weft_buf *bulk)
{
	weft_cleanup(half_open_done) struct half_open half = { .role = role, .conns = WEFT_BUF_INIT };
	int r = 0;

	if (role->features >> WEFT_FEATURE_SOCK_DIAG_DESTROY & 1)
		r = weft_main_each_pod(role, half_open_in, &half);
	if (r == 0)
		r = weft_kernel_conns(role->kernel, bulk);
	return r < 0 || !half.conns.size ? r : weft_buf_add(bulk, half.conns.data, half.conns.size);
}

int weft_main_cut_sockets(struct weft_main *role, const __u64 *cookies, size_t count, uint32_t *ret_cut)
{
	weft_cleanup(half_open_done) struct half_open half = { .role = role, .conns = WEFT_BUF_INIT, .doomed_count = count };
	struct kernel_cut cut = { .kernel = role->kernel, .cookies = cookies, .count = count };
	struct diag_cut diag = { .cookie_count = count };
	weft_free_on_exit __u64 *in_order = sorted(cookies, count, sizeof(*cookies), compare_cookies);
	int r = 0, result;

	if (!in_order)
		return -ENOMEM;
	/* First these: one that gets its ACK meanwhile has its cookie as a socket. */
	half.doomed = diag.cookies = in_order;
	if (role->features >> WEFT_FEATURE_SOCK_DIAG_DESTROY & 1)
		r = weft_main_each_pod(role, cut_half_open_in, &half);
	if (role->features >> WEFT_FEATURE_SOCK_DESTROY & 1)
		result = cut_by_program(role, &cut, ret_cut);
	else
		result = cut_by_diag(role, &diag, ret_cut);
	if (result == 0)
		*ret_cut += half.cut;
	return result < 0 ? result : r;
}
