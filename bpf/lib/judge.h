/* SPDX-License-Identifier: GPL-2.0-only */
/* Whether a policy set lets a connection pass: three look-ups, whatever the number of rules, and lib/policy.h. */
#ifndef WEFT_LIB_JUDGE_H
#define WEFT_LIB_JUDGE_H

#include "lib/count.h"
#include "lib/policy.h"
#include "maps/config.h"
#include <bpf/bpf_endian.h>

/* Who wants to connect, and to which port. */
struct weft_judge_peer {
	const struct weft_addr *addr; /* NULL: not known yet */
	__u32 source; /* struct weft_workload's; 0: no identity */
	__be16 port;
};

/* 0, or the reason for a refusal. What is not in the tables yet is denied. */
static __always_inline int weft_judge(__u32 set, const struct weft_judge_peer *peer)
{
	struct weft_policy_source_key source = { .policy = set, .source = peer->source };
	struct weft_policy_port_key port = { .policy = set, .port = peer->port };
	struct weft_policy_seen seen = {};
	struct weft_policy *policy;
	__u32 verdict;

	if (!set)
		return 0;
	policy = bpf_map_lookup_elem(&weft_policy, &set);
	if (!policy)
		return WEFT_REASON(POLICY_UNKNOWN);
	seen.source = peer->source ? bpf_map_lookup_elem(&weft_policy_source, &source) : &policy->no_source;
	if (!seen.source)
		return WEFT_REASON(POLICY_UNKNOWN);
	seen.port = bpf_map_lookup_elem(&weft_policy_port, &port);
	if (!seen.port)
		seen.port = &policy->any_port;
	if (peer->addr) {
		struct weft_policy_cidr_key cidr = {
			.bits = 32 + 128,
			.policy = bpf_htonl(set),
			.addr = *peer->addr,
		};

		seen.addr = bpf_map_lookup_elem(&weft_policy_cidr, &cidr);
		if (!seen.addr)
			seen.addr = &policy->any_address;
	}
	verdict = weft_policy_decide(policy, &seen);
	if (verdict & WEFT_POLICY_DENIED)
		return WEFT_REASON(POLICY_DENIED);
	if (verdict & WEFT_POLICY_DRY_DENIED)
		weft_count(WEFT_COUNTER_DRY_RUN_DENIED);
	return 0;
}

/* By which number weft_policy_source knows a workload of this node; 0: it has no identity. */
static __always_inline __u32 weft_judge_source(__u32 workload)
{
	struct weft_workload *row = bpf_map_lookup_elem(&weft_workload, &workload);

	return row ? row->source : 0;
}

#endif
