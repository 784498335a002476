/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * connect(2): the one moment at which a connection's endpoint is chosen.
 *
 *   address asked for
 *     not a frontend ............ left alone; what an earlier connect() held is given back. A workload's: its lane is chosen
 *     bypass, opted out ......... left alone, counted
 *     PASS ...................... left alone, but remembered, so that it is counted under its service
 *     same over UDP ............. the association lives on while its endpoint is ready
 *     else ...................... an endpoint is chosen, written into the call, and remembered
 *   then, with pods in the secure lane: TCP to a workload goes to the agent, or is judged (lib/secure.h)
 *
 * After this nothing runs until the state of the connection changes.
 */
#include "lib/balance.h"
#include "lib/hook.h"
#include "lib/secure.h"
#include "lib/sock.h"

/* The peer's workload where only its address is known. */
static __always_inline __u32 weft_workload_of(const struct weft_addr *addr)
{
	__u32 *workload = bpf_map_lookup_elem(&weft_workload_at, addr);

	return workload ? *workload : 0;
}

/* What was chosen for one connect(). */
struct weft_connect_choice {
	const struct weft_frontend *frontend; /* NULL: it asked for a workload itself */
	const struct weft_endpoint *endpoint; /* NULL: it goes where it asked to */
	const struct weft_pod *pod;
	__u64 netns;
	__u32 peer; /* where `endpoint` does not say it */
	__u32 flags; /* WEFT_SOCK_F_: its way */
};

/* Remembers the choice in the socket. A socket without storage works all the same; the reverse hooks then show it the endpoint. */
static __always_inline void weft_connect_remember(struct bpf_sock_addr *ctx, const struct weft_setting *setting,
						  const struct weft_frontend_key *asked, const struct weft_connect_choice *choice)
{
	struct weft_sock *sock = bpf_sk_storage_get(&weft_sock, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	const struct weft_endpoint *endpoint = choice->endpoint;
	struct weft_event *event;

	if (!sock) {
		weft_count(WEFT_COUNTER_SOCK_STORAGE_FULL);
		return;
	}
	sock->frontend = asked->addr;
	sock->frontend_port = asked->port;
	sock->protocol = asked->protocol;
	sock->role = WEFT_ROLE_CLIENT;
	sock->service = choice->frontend ? choice->frontend->service : 0;
	sock->workload = choice->pod ? choice->pod->workload : 0;
	sock->cookie = bpf_get_socket_cookie(ctx);
	sock->netns = choice->netns;
	sock->start_ns = bpf_ktime_get_ns();
	if (endpoint) {
		sock->endpoint_addr = endpoint->addr;
		sock->endpoint_port = endpoint->port;
		sock->endpoint = endpoint->id;
		sock->peer = endpoint->workload;
		sock->flags = WEFT_SOCK_F_TRANSLATED | choice->flags;
		if (sock->protocol == IPPROTO_UDP)
			weft_live_take(setting, endpoint->id, &sock->epoch);
	} else {
		sock->endpoint_addr = asked->addr;
		sock->endpoint_port = asked->port;
		sock->peer = choice->peer;
		sock->flags = choice->flags;
	}
	if (sock->protocol != IPPROTO_UDP)
		return;
	sock->established_ns = sock->start_ns;
	sock->flags |= WEFT_SOCK_F_ESTABLISHED;
	event = weft_event_begin(setting, WEFT_EVENT_OPENED);
	if (event) {
		weft_event_set_sock(event, sock);
		event->remote = sock->endpoint_addr;
		event->remote_port = sock->endpoint_port;
		bpf_ringbuf_submit(event, 0);
	}
}

/*
 * True: a UDP socket connects again to where it is, and `to` is the endpoint that it has. One that
 * is about to go is not kept: its sockets are cut so that they connect again and come elsewhere.
 */
static __always_inline bool weft_connect_again(const struct weft_sock *before, struct weft_frontend_key *to)
{
	struct weft_endpoint *endpoint;

	if (to->protocol != IPPROTO_UDP || !(before->flags & WEFT_SOCK_F_TRANSLATED) ||
	    before->frontend_port != to->port || !weft_addr_equal(&before->frontend, &to->addr))
		return false;
	endpoint = weft_endpoint_get(before->endpoint);
	if (!endpoint || endpoint->state != WEFT_ENDPOINT_READY)
		return false;
	to->addr = before->endpoint_addr;
	to->port = before->endpoint_port;
	return true;
}

/*
 * The agent's own socket. One that it sends into its pod, with a client's address as its own, could not be refused from there: the
 * RST of a port without a listener carries no mark (that would be net.ipv4.fwmark_reflect), so that no rule leads it back, and it goes to
 * the real client. Hence it is asked beforehand who listens, as from the pod itself, which inbound.bpf.c lets pass.
 */
static __always_inline int weft_connect_agent(struct bpf_sock_addr *ctx, const struct weft_sock *own, const struct weft_frontend_key *to)
{
	__u64 netns = own->netns;
	struct weft_capture *capture = bpf_map_lookup_elem(&weft_capture, &netns);
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *listener;

	if (!capture || !weft_addr_equal(weft_secure_own(capture, &to->addr), &to->addr))
		return 0;
	if (weft_addr_is_v4(&to->addr)) {
		tuple.ipv4.saddr = to->addr.w[3];
		tuple.ipv4.daddr = to->addr.w[3];
		tuple.ipv4.dport = to->port;
		listener = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		for (int i = 0; i < 4; i++)
			tuple.ipv6.saddr[i] = tuple.ipv6.daddr[i] = to->addr.w[i];
		tuple.ipv6.dport = to->port;
		listener = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!listener)
		return WEFT_REASON(NO_LISTENER);
	bpf_sk_release(listener);
	return 0;
}

/* Asked anew each time: of a known answer that is carried along, the verifier makes two of every state behind it. */
static __always_inline bool weft_connect_secure(const struct weft_setting *setting, const struct weft_frontend_key *to)
{
	return (*(const volatile __u32 *)&setting->flags & WEFT_SETTING_F_SECURE) && to->protocol == IPPROTO_TCP;
}

/* 0 and in `to` where to go (as it was, if left alone), or a reason and `to` untouched. */
static __always_inline int weft_connect(struct bpf_sock_addr *ctx, struct weft_frontend_key *to)
{
	struct weft_setting *setting = weft_setting_get();
	struct weft_connect_choice choice = {};
	struct weft_endpoint *endpoint = NULL;
	struct weft_frontend *frontend;
	struct weft_frontend_key at;
	struct weft_sock *before;
	struct weft_pod *pod;
	int reason = 0;

	if (!to->protocol || !ctx->sk || !setting)
		return 0;
	before = bpf_sk_storage_get(&weft_sock, ctx->sk, NULL, 0);
	if (before && (before->flags & WEFT_SOCK_F_AGENT))
		return weft_connect_agent(ctx, before, to);
	frontend = weft_service_find(to);
	if (!frontend) {
		if (weft_connect_secure(setting, to))
			choice.peer = weft_workload_of(&to->addr);
		if (!choice.peer)
			goto left_alone;
	}
	choice.netns = bpf_get_netns_cookie(ctx);
	pod = bpf_map_lookup_elem(&weft_pod, &choice.netns);
	reason = weft_service_passed(setting, pod, to);
	if (reason)
		goto left_alone;

	if (before) {
		if (weft_connect_again(before, to))
			return 0;
		/* Made anew and not overwritten: a reader that is at it keeps the old one whole until it is done. */
		weft_sock_let_go(before);
		bpf_sk_storage_delete(&weft_sock, ctx->sk);
	}
	if (frontend && !(frontend->flags & WEFT_FRONTEND_F_PASS)) {
		reason = weft_balance(setting, to, &frontend, choice.netns, &endpoint);
		if (reason)
			return reason;
	}
	at = *to;
	if (endpoint) {
		at.addr = endpoint->addr;
		at.port = endpoint->port;
	} else if (frontend) {
		choice.peer = weft_workload_of(&to->addr);
	}
	if (weft_connect_secure(setting, to)) {
		reason = weft_secure_way((__u64)at.addr.w[1] << 32 | at.addr.w[0], (__u64)at.addr.w[3] << 32 | at.addr.w[2],
					 choice.netns, endpoint ? endpoint->workload : choice.peer, at.port);
		if (reason < 0 || (!reason && !frontend))
			return reason;
		choice.flags = reason;
	}
	choice.frontend = frontend;
	choice.endpoint = endpoint;
	choice.pod = pod;
	weft_connect_remember(ctx, setting, to, &choice);
	if ((choice.flags & WEFT_SOCK_F_SECURE) && !weft_secure_agent(choice.netns, &at))
		return WEFT_REASON(IDENTITY_REQUIRED);
	*to = at;
	return 0;

left_alone:
	if (before) {
		weft_sock_let_go(before);
		bpf_sk_storage_delete(&weft_sock, ctx->sk);
	}
	return reason;
}

SEC("cgroup/connect4")
int weft_connect4(struct bpf_sock_addr *ctx)
{
	struct weft_frontend_key to;
	int reason;

	weft_hook_read4(ctx, &to);
	reason = weft_connect(ctx, &to);
	if (!reason)
		weft_hook_write4(ctx, &to);
	return weft_hook_verdict(ctx, &to, reason);
}

SEC("cgroup/connect6")
int weft_connect6(struct bpf_sock_addr *ctx)
{
	struct weft_frontend_key to;
	int reason;

	weft_hook_read6(ctx, &to);
	reason = weft_connect(ctx, &to);
	if (!reason)
		weft_hook_write6(ctx, &to);
	return weft_hook_verdict(ctx, &to, reason);
}

char LICENSE[] SEC("license") = "GPL";
