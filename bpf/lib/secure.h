/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The secure lane: which way a connection to a workload goes, decided once, by connect().
 *
 *   we are attached, the peer takes HBONE and is elsewhere ... SECURE: to the agent's listener in our pod
 *                                  (or sameNode: Encrypted)
 *   we are attached, the peer is on this node ................ judged here by who we are; ATTESTED if it is attached too
 *   else ..................................................... plaintext, judged here as from nobody
 *
 * Nothing here runs, and nothing is looked up, without WEFT_SETTING_F_SECURE.
 */
#ifndef WEFT_LIB_SECURE_H
#define WEFT_LIB_SECURE_H

#include "lib/addr.h"
#include "lib/judge.h"
#include "lib/live.h"
#include "weft/abi/proxy.h"

static __always_inline const struct weft_addr *weft_secure_own(const struct weft_capture *capture, const struct weft_addr *like)
{
	return weft_addr_is_v4(like) ? &capture->addr[0] : &capture->addr[1];
}

static __always_inline bool weft_addr_is_unset(const struct weft_addr *addr)
{
	return !addr->w[0] && !addr->w[1] && !addr->w[2] && !addr->w[3];
}

/* Where SECURE leads: the agent's listener in the namespace `netns`. False: it is attached no more, or has no such address. */
static __always_inline bool weft_secure_agent(__u64 netns, struct weft_frontend_key *to)
{
	struct weft_capture *capture = bpf_map_lookup_elem(&weft_capture, &netns);
	const struct weft_addr *own;

	if (!capture)
		return false;
	own = weft_secure_own(capture, &to->addr);
	if (weft_addr_is_unset(own))
		return false;
	to->addr = *own;
	to->port = capture->port;
	return true;
}

/*
 * The way of a TCP connection out of the namespace `netns` to the workload `peer`, whose address and port are given, as flags
 * of struct weft_sock; or the reason to refuse it. A function by itself with plain numbers as arguments, because then the verifier looks at it once and not
 * for every way in which connect() can get here, which more than doubled what it had to do.
 */
__attribute__((noinline)) int weft_secure_way(__u64 addr_high, __u64 addr_low, __u64 netns, __u32 peer, __u32 port)
{
	struct weft_addr at = { .w = { addr_high, addr_high >> 32, addr_low, addr_low >> 32 } };
	const __u32 both = WEFT_WORKLOAD_F_LOCAL | WEFT_WORKLOAD_F_TUNNEL;
	struct weft_workload *workload = bpf_map_lookup_elem(&weft_workload, &peer);
	struct weft_setting *setting = weft_setting_get();
	struct weft_judge_peer from = { .port = port };
	const struct weft_addr *own = NULL;
	struct weft_capture *capture;
	int reason;

	if (!workload || !setting)
		return 0;
	if (WEFT_PORT_IS_AGENTS(bpf_ntohs((__u16)port)))
		return WEFT_REASON(AGENT_PORT);
	capture = bpf_map_lookup_elem(&weft_capture, &netns);
	if (capture) {
		own = weft_secure_own(capture, &at);
		if (weft_addr_is_unset(own))
			own = NULL; /* of that family it had none when it was attached; it may have got one since */
	}
	if (own && weft_addr_equal(own, &at))
		return 0; /* to itself, and that leaves no pod */
	if (capture && (workload->flags & WEFT_WORKLOAD_F_TUNNEL) &&
	    (!(workload->flags & WEFT_WORKLOAD_F_LOCAL) || (setting->flags & WEFT_SETTING_F_ENCRYPT_SAME_NODE)))
		return own ? WEFT_SOCK_F_TRANSLATED | WEFT_SOCK_F_SECURE : WEFT_REASON(IDENTITY_REQUIRED);
	from.addr = own;
	if (own && (workload->flags & WEFT_WORKLOAD_F_LOCAL))
		from.source = weft_judge_source(capture->workload);
	reason = weft_judge(workload->policy, &from);
	if (reason)
		return !own && reason == WEFT_REASON(POLICY_DENIED) ? WEFT_REASON(IDENTITY_REQUIRED) : reason;
	if (own && (workload->flags & both) == both)
		return WEFT_SOCK_F_ATTESTED;
	return 0;
}

#endif
