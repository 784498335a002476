/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A SYN that arrives in the network namespace of an attached pod: passed on to whoever listens, or refused at once.
 * Attached to each such namespace; runs for what belongs to no established connection.
 *
 *   no TCP, loopback ............... passed
 *   15001, the agent's listener .... passed if a captured connection of this pod's own address left an entry, else refused
 *   the pod's own address .......... passed
 *   15008, the agent's listener .... passed: it judges by certificates
 *   the agent's own dial ........... passed: it has judged
 *   a pod of this node, attested ... judged by who it is
 *   else ........................... plaintext from nobody that we know: judged by address and port
 *
 * Whose policies these are is known by the address asked for. One that no record of this pod has (link-local, another network's, one that
 * it gave itself) leads to none, and is refused: else it would be the way around all of them.
 */
#include "lib/attest.h"
#include "lib/config.h"
#include "lib/event.h"
#include "lib/judge.h"
#include "weft/abi/proxy.h"

static __always_inline void weft_inbound_read(struct bpf_sk_lookup *ctx, struct weft_frontend_key *ret_local,
					      struct weft_frontend_key *ret_remote)
{
	if (ctx->family == AF_INET) {
		weft_addr_set_v4(&ret_local->addr, ctx->local_ip4);
		weft_addr_set_v4(&ret_remote->addr, ctx->remote_ip4);
		/* Else the compiler folds both families' loads into one from a computed context pointer. */
		__asm__ volatile("" ::: "memory");
	} else {
		for (int i = 0; i < 4; i++) {
			ret_local->addr.w[i] = ctx->local_ip6[i];
			ret_remote->addr.w[i] = ctx->remote_ip6[i];
		}
	}
	ret_local->port = bpf_htons((__u16)ctx->local_port);
	ret_remote->port = ctx->remote_port;
}

/* NULL: nobody vouches for this SYN, or the pod whose it was is attached no more. */
static __always_inline struct weft_attested *weft_inbound_attested(const struct weft_frontend_key *remote,
								   const struct weft_frontend_key *local)
{
	struct weft_attested *attested;
	struct weft_capture *capture;
	struct weft_attest_key key;
	__u64 netns;

	weft_attest_key(&key, remote, local);
	attested = bpf_map_lookup_elem(&weft_attest, &key);
	if (!attested)
		return NULL;
	netns = attested->netns;
	capture = bpf_map_lookup_elem(&weft_capture, &netns);
	return capture && capture->workload == attested->workload ? attested : NULL;
}

static __always_inline __u32 weft_inbound_workload_at(const struct weft_addr *addr)
{
	__u32 *workload = bpf_map_lookup_elem(&weft_workload_at, addr);

	return workload ? *workload : 0;
}

/* 0, or the reason for a refusal. */
static __always_inline int weft_inbound_judge(const struct weft_frontend_key *local, const struct weft_frontend_key *remote)
{
	struct weft_judge_peer peer = { .addr = &remote->addr, .port = local->port };
	__u32 workload = weft_inbound_workload_at(&local->addr);
	struct weft_attested *attested;
	struct weft_captured_key key;
	struct weft_workload *row;

	if (weft_addr_is_loopback(&local->addr))
		return 0;
	if (local->port == bpf_htons(WEFT_PORT_OUTBOUND)) {
		weft_captured_key(&key, remote);
		if (!weft_addr_equal(&local->addr, &remote->addr) || !bpf_map_lookup_elem(&weft_captured, &key))
			return WEFT_REASON(AGENT_PORT);
		return 0;
	}
	if (local->port == bpf_htons(WEFT_PORT_HBONE) || weft_addr_equal(&local->addr, &remote->addr))
		return 0;
	row = bpf_map_lookup_elem(&weft_workload, &workload);
	if (!row)
		return WEFT_REASON(POLICY_UNKNOWN);
	if (!row->policy)
		return 0;
	attested = weft_inbound_attested(remote, local);
	if (attested && (attested->flags & WEFT_ATTESTED_F_AGENT))
		return 0;
	if (attested)
		peer.source = weft_judge_source(attested->workload);
	return weft_judge(row->policy, &peer);
}

static __always_inline void weft_inbound_refused(const struct weft_frontend_key *local, const struct weft_frontend_key *remote,
						 __u32 counter)
{
	struct weft_setting *setting = weft_setting_get();
	struct weft_event *event = setting ? weft_event_begin(setting, WEFT_EVENT_REFUSED) : NULL;

	if (!event)
		return;
	event->local = local->addr;
	event->local_port = local->port;
	event->remote = remote->addr;
	event->remote_port = remote->port;
	event->protocol = IPPROTO_TCP;
	event->role = WEFT_ROLE_SERVER;
	event->outcome = counter;
	event->workload = weft_inbound_workload_at(&local->addr);
	event->peer = weft_inbound_workload_at(&remote->addr);
	bpf_ringbuf_submit(event, 0);
}

SEC("sk_lookup")
int weft_inbound(struct bpf_sk_lookup *ctx)
{
	struct weft_frontend_key local = {}, remote = {};
	int reason;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	weft_inbound_read(ctx, &local, &remote);
	reason = weft_inbound_judge(&local, &remote);
	if (reason >= 0)
		return SK_PASS;
	weft_count(WEFT_REASON_COUNTER(reason));
	weft_inbound_refused(&local, &remote, WEFT_REASON_COUNTER(reason));
	return SK_DROP;
}

char LICENSE[] SEC("license") = "GPL";
