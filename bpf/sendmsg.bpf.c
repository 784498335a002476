/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sendto(2), sendmsg(2) with a destination, on UDP sockets.
 *
 *   destination
 *     frontend of this socket's own connect() ... the endpoint of that connection, else the reply would be dropped
 *     frontend of a live association ............ its endpoint, and the association lives on
 *     not a frontend, bypass, opted out ......... left alone
 *     else ...................................... an endpoint is chosen and an association made, the oldest giving way
 *
 * An AF_INET6 socket that sends to a v4-mapped address comes through sendmsg4.
 * PASS frontends leave no association: there is nothing to translate back.
 */
#include "lib/balance.h"
#include "lib/hook.h"
#include "lib/sock.h"
#include "lib/tcp.h"
#include "lib/udp.h"

static __always_inline void weft_sendmsg_redirect(struct weft_frontend_key *to, const struct weft_addr *addr,
						  __be16 port)
{
	to->addr = *addr;
	to->port = port;
}

/* True: `to` is where this socket's connection goes. */
static __always_inline bool weft_sendmsg_connected(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
						   const struct weft_setting *setting, struct weft_frontend_key *to)
{
	struct weft_sock *sock = bpf_sk_storage_get(&weft_sock, sk, NULL, 0);

	if (!sock)
		return false;
	if (sk->state != WEFT_TCP_ESTABLISHED) { /* the state of a connected UDP socket too */
		/* connect(AF_UNSPEC) runs no hook; here is where it shows. */
		weft_sock_let_go(sock);
		bpf_sk_storage_delete(&weft_sock, ctx->sk);
		return false;
	}
	if ((setting->flags & WEFT_SETTING_F_BYPASS) || !(sock->flags & WEFT_SOCK_F_TRANSLATED) ||
	    sock->frontend_port != to->port || !weft_addr_equal(&sock->frontend, &to->addr) ||
	    !weft_endpoint_get(sock->endpoint))
		return false;
	weft_sendmsg_redirect(to, &sock->endpoint_addr, sock->endpoint_port);
	return true;
}

/* The association with `to`, alive or not; NULL if there is none. */
static __always_inline struct weft_udp_entry *weft_sendmsg_entry(struct weft_udp *udp,
								 const struct weft_frontend_key *to)
{
#pragma unroll
	for (int i = 0; i < WEFT_UDP_ENTRIES; i++) {
		struct weft_udp_entry *entry = &udp->entry[i];

		if (entry->endpoint && entry->frontend_port == to->port && weft_addr_equal(&entry->frontend, &to->addr))
			return entry;
	}
	return NULL;
}

/* A place for a new association: a free one, else the one that was idle for longest, which the caller lets go of. */
static __always_inline struct weft_udp_entry *weft_sendmsg_place(struct weft_udp *udp)
{
	struct weft_udp_entry *oldest = &udp->entry[0];

#pragma unroll
	for (int i = 0; i < WEFT_UDP_ENTRIES; i++) {
		struct weft_udp_entry *entry = &udp->entry[i];

		if (!entry->endpoint)
			return entry;
		if (entry->expiry_ns < oldest->expiry_ns)
			oldest = entry;
	}
	return oldest;
}

static __always_inline int weft_sendmsg(struct bpf_sock_addr *ctx, struct weft_frontend_key *to)
{
	struct weft_setting *setting = weft_setting_get();
	struct weft_udp_entry *entry = NULL;
	struct weft_endpoint *endpoint;
	struct weft_frontend *frontend;
	struct bpf_sock *sk = ctx->sk;
	struct weft_udp *udp;
	struct weft_pod *pod;
	__u64 netns, now;
	__u32 workload;
	int reason;

	if (to->protocol != IPPROTO_UDP || !sk || !setting)
		return 0;
	if (weft_sendmsg_connected(ctx, sk, setting, to))
		return 0;
	now = bpf_ktime_get_ns();
	udp = bpf_sk_storage_get(&weft_udp, sk, NULL, 0);
	if (udp && !(setting->flags & WEFT_SETTING_F_BYPASS))
		entry = weft_sendmsg_entry(udp, to);
	if (entry && now < entry->expiry_ns && weft_endpoint_get(entry->endpoint)) {
		entry->expiry_ns = now + WEFT_UDP_IDLE_NS;
		weft_sendmsg_redirect(to, &entry->endpoint_addr, entry->endpoint_port);
		return 0;
	}

	frontend = weft_service_find(to);
	if (!frontend)
		return 0;
	netns = bpf_get_netns_cookie(ctx);
	pod = bpf_map_lookup_elem(&weft_pod, &netns);
	reason = weft_service_passed(setting, pod, to);
	if (reason)
		return reason;
	if (frontend->flags & WEFT_FRONTEND_F_PASS)
		return 0;
	reason = weft_balance(setting, to, &frontend, netns, &endpoint);
	if (reason)
		return reason;

	workload = pod ? pod->workload : 0;
	udp = bpf_sk_storage_get(&weft_udp, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!udp) {
		weft_count(WEFT_COUNTER_SOCK_STORAGE_FULL);
		weft_sendmsg_redirect(to, &endpoint->addr, endpoint->port);
		return 0;
	}
	entry = weft_sendmsg_entry(udp, to);
	if (!entry)
		entry = weft_sendmsg_place(udp);
	if (entry->endpoint) {
		if (now < entry->expiry_ns &&
		    (entry->frontend_port != to->port || !weft_addr_equal(&entry->frontend, &to->addr)))
			weft_count(WEFT_COUNTER_UDP_ENTRY_REPLACED);
		weft_udp_let_go(setting, entry, bpf_get_socket_cookie(ctx), netns, workload);
	}
	entry->frontend = to->addr;
	entry->frontend_port = to->port;
	entry->endpoint_addr = endpoint->addr;
	entry->endpoint_port = endpoint->port;
	entry->service = frontend->service;
	entry->endpoint = endpoint->id;
	entry->expiry_ns = now + WEFT_UDP_IDLE_NS;
	weft_live_take(setting, endpoint->id, &entry->epoch);
	if (setting->watchers)
		weft_udp_event(setting, WEFT_EVENT_OPENED, entry, bpf_get_socket_cookie(ctx), netns, workload,
			       endpoint->workload);
	weft_sendmsg_redirect(to, &endpoint->addr, endpoint->port);
	return 0;
}

SEC("cgroup/sendmsg4")
int weft_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct weft_frontend_key to;
	int reason;

	weft_hook_read4(ctx, &to);
	reason = weft_sendmsg(ctx, &to);
	if (!reason)
		weft_hook_write4(ctx, &to);
	return weft_hook_verdict(ctx, &to, reason);
}

SEC("cgroup/sendmsg6")
int weft_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct weft_frontend_key to;
	int reason;

	weft_hook_read6(ctx, &to);
	reason = weft_sendmsg(ctx, &to);
	if (!reason)
		weft_hook_write6(ctx, &to);
	return weft_hook_verdict(ctx, &to, reason);
}

char LICENSE[] SEC("license") = "GPL";
