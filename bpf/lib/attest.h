/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What sockops writes down before a SYN leaves, for whoever meets it in the pod's network namespace: where a captured
 * connection wanted to go, and who a client on this node is.
 *
 * An entry says who its client is by the network namespace of a socket that the kernel itself tells us of, and only for the
 * address that this namespace has by weft_capture: an address that was put on a pod from within, a SYN out of a raw socket, or another
 * namespace with a pod's address make none. inbound.bpf.c believes one only while that row stands: an entry cannot outlive its pod.
 */
#ifndef WEFT_LIB_ATTEST_H
#define WEFT_LIB_ATTEST_H

#include "lib/addr.h"
#include "lib/count.h"
#include "maps/config.h"
#include "maps/state.h"

static __always_inline void weft_attest_key(struct weft_attest_key *ret_key, const struct weft_frontend_key *client,
					    const struct weft_frontend_key *server)
{
	ret_key->client = client->addr;
	ret_key->server = server->addr;
	ret_key->client_port = client->port;
	ret_key->server_port = server->port;
}

/* The pod's row if `addr` is its address. */
static __always_inline struct weft_capture *weft_attest_pod(__u64 netns, const struct weft_addr *addr)
{
	struct weft_capture *capture = bpf_map_lookup_elem(&weft_capture, &netns);

	if (!capture || !(weft_addr_equal(&capture->addr[0], addr) || weft_addr_equal(&capture->addr[1], addr)))
		return NULL;
	return capture;
}

/* Whether a connection from `local` to `remote` is now known as one from the namespace `netns`. */
static __always_inline bool weft_attest_put(const struct weft_frontend_key *local,
					    const struct weft_frontend_key *remote, __u64 netns,
					    __u32 workload, __u32 flags)
{
	struct weft_attested value = { .netns = netns, .workload = workload, .flags = flags }, *old;
	struct weft_attest_key key;

	weft_attest_key(&key, local, remote);
	if (!bpf_map_update_elem(&weft_attest, &key, &value, BPF_NOEXIST))
		return true;
	/* What an earlier connection of the same socket pair left, where its end was not seen. Never another's. */
	old = bpf_map_lookup_elem(&weft_attest, &key);
	if (old && old->netns == netns && old->workload == workload && old->flags == flags)
		return true;
	weft_count(WEFT_COUNTER_ATTEST_FULL);
	return false;
}

static __always_inline void weft_attest_remove(const struct weft_frontend_key *client, const struct weft_frontend_key *server)
{
	struct weft_attest_key key;

	weft_attest_key(&key, client, server);
	bpf_map_delete_elem(&weft_attest, &key);
}

static __always_inline void weft_captured_key(struct weft_captured_key *ret_key, const struct weft_frontend_key *local)
{
	ret_key->addr = local->addr;
	ret_key->port = local->port;
	ret_key->pad = 0;
}

/* What does not fit, or comes from another address than the listener's, is refused at its SYN, which finds no entry. */
static __always_inline void weft_captured_put(const struct weft_sock *sock, const struct weft_frontend_key *local,
					      const struct weft_frontend_key *remote)
{
	struct weft_original original = {
		.frontend = sock->frontend,
		.endpoint_addr = sock->endpoint_addr,
		.frontend_port = sock->frontend_port,
		.endpoint_port = sock->endpoint_port,
		.service = sock->service,
		.endpoint = sock->endpoint,
		.workload = sock->workload,
		.peer = sock->peer,
		.netns = sock->netns,
		.cookie = sock->cookie,
	};
	struct weft_captured_key key;

	/* The key has no namespace: only the address that is this pod's and nobody else's may stand in it. */
	if (!weft_addr_equal(&local->addr, &remote->addr) || !weft_attest_pod(sock->netns, &local->addr))
		return;
	weft_captured_key(&key, local);
	if (bpf_map_update_elem(&weft_captured, &key, &original, BPF_ANY))
		weft_count(WEFT_COUNTER_CAPTURED_FULL);
}

static __always_inline void weft_captured_remove(const struct weft_frontend_key *local)
{
	struct weft_captured_key key;

	weft_captured_key(&key, local);
	bpf_map_delete_elem(&weft_captured, &key);
}

#endif
