/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * recvfrom(2), recvmsg(2) on UDP sockets: a reply seems to come from the
 * address that the application sent to, because many clients check that.
 * Late replies are translated too, whatever has become of the endpoint.
 */
#include "lib/hook.h"
#include "maps/state.h"

/* Two frontends may share an endpoint: the one used last is the likelier to be answered. */
static __always_inline bool weft_recvmsg_unconnected(struct weft_udp *udp, struct weft_frontend_key *from)
{
	struct weft_udp_entry *found = NULL;

#pragma unroll
	for (int i = 0; i < WEFT_UDP_ENTRIES; i++) {
		struct weft_udp_entry *entry = &udp->entry[i];

		if (entry->frontend_port && entry->endpoint_port == from->port &&
		    weft_addr_equal(&entry->endpoint_addr, &from->addr) &&
		    (!found || entry->expiry_ns > found->expiry_ns))
			found = entry;
	}
	if (!found)
		return false;
	from->addr = found->frontend;
	from->port = found->frontend_port;
	return true;
}

static __always_inline bool weft_recvmsg(struct bpf_sock_addr *ctx, struct weft_frontend_key *from)
{
	struct weft_sock *sock;
	struct weft_udp *udp;

	if (!ctx->sk)
		return false;
	sock = bpf_sk_storage_get(&weft_sock, ctx->sk, NULL, 0);
	if (sock && (sock->flags & WEFT_SOCK_F_TRANSLATED) && sock->endpoint_port == from->port &&
	    weft_addr_equal(&sock->endpoint_addr, &from->addr)) {
		from->addr = sock->frontend;
		from->port = sock->frontend_port;
		return true;
	}
	udp = bpf_sk_storage_get(&weft_udp, ctx->sk, NULL, 0);
	return udp && weft_recvmsg_unconnected(udp, from);
}

SEC("cgroup/recvmsg4")
int weft_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct weft_frontend_key from;

	weft_hook_read4(ctx, &from);
	if (weft_recvmsg(ctx, &from))
		weft_hook_write4(ctx, &from);
	return 1;
}

SEC("cgroup/recvmsg6")
int weft_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct weft_frontend_key from;

	weft_hook_read6(ctx, &from);
	if (weft_recvmsg(ctx, &from))
		weft_hook_write6(ctx, &from);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
