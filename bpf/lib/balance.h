/* SPDX-License-Identifier: GPL-2.0-only */
/* Which endpoint of a frontend a new connection gets. Every path is O(1) in services and endpoints. */
#ifndef WEFT_LIB_BALANCE_H
#define WEFT_LIB_BALANCE_H

#include "lib/choose.h"
#include "lib/service.h"

static __always_inline struct weft_endpoint *weft_balance_at(const struct weft_frontend *frontend, __u32 point,
							     __u32 rest)
{
	__u32 index = frontend->slot + weft_choose_slot(point, frontend->count);
	struct weft_slot *slot = bpf_map_lookup_elem(&weft_slot, &index);

	return slot ? weft_endpoint_get(weft_choose_alias(slot, rest)) : NULL;
}

static __always_inline struct weft_endpoint *weft_balance_random(const struct weft_frontend *frontend)
{
	__u32 point = bpf_get_prandom_u32();

	/* Equal weights: no slot ever points to its alias, so the second number is saved. */
	return weft_balance_at(frontend, point, frontend->flags & WEFT_FRONTEND_F_WEIGHTED ? bpf_get_prandom_u32() : 0);
}

static __always_inline struct weft_endpoint *weft_balance_turn(const struct weft_frontend *frontend)
{
	__u32 service = frontend->service % WEFT_TURN_ENTRIES, point, index;
	__u64 *counter = bpf_map_lookup_elem(&weft_turn, &service);
	struct weft_slot *slot;
	__u64 turn;

	if (!counter)
		return weft_balance_random(frontend);
	turn = __sync_fetch_and_add(counter, 1);
	if (frontend->flags & WEFT_FRONTEND_F_WEIGHTED) {
		point = weft_choose_turn(turn);
		return weft_balance_at(frontend, point, weft_choose_rest(point, frontend->count));
	}
	index = frontend->slot + (__u32)(turn % frontend->count);
	slot = bpf_map_lookup_elem(&weft_slot, &index);
	return slot ? weft_endpoint_get(slot->endpoint) : NULL;
}

static __always_inline struct weft_endpoint *weft_balance_least(const struct weft_frontend *frontend, __u32 epoch)
{
	struct weft_endpoint *a = weft_balance_random(frontend), *b;
	struct weft_live *live_a, *live_b;
	__u32 half = epoch & 1;

	if (frontend->count == 1)
		return a;
	b = weft_balance_random(frontend);
	if (!a || !b)
		return a ?: b;
	if (a == b)
		return a;
	live_a = weft_live_get(a->id);
	live_b = weft_live_get(b->id);
	if (!live_a || !live_b)
		return a;
	return weft_choose_second(live_a->count[half], a->weight, live_b->count[half], b->weight) ? b : a;
}

static __always_inline struct weft_endpoint *weft_balance_draw(const struct weft_setting *setting,
							       const struct weft_frontend *frontend)
{
	switch (frontend->algorithm) {
	case WEFT_ALGORITHM_ROUND_ROBIN:
		return weft_balance_turn(frontend);
	case WEFT_ALGORITHM_RANDOM:
		return weft_balance_random(frontend);
	default:
		return weft_balance_least(frontend, setting->epoch);
	}
}

/*
 * 0 and the endpoint, or the reason for a refusal. STALE_ENDPOINT is worth one
 * more try with a frontend that was looked up anew.
 */
static __always_inline int weft_balance_once(const struct weft_setting *setting, const struct weft_frontend *frontend,
					     __u64 netns, struct weft_endpoint **ret_endpoint)
{
	struct weft_affinity_key key = { .client = netns, .service = frontend->service };
	struct weft_affinity value = {};
	struct weft_endpoint *endpoint;
	struct weft_affinity *kept;

	if (frontend->type == WEFT_FRONTEND_ADDRESS)
		return WEFT_REASON(NO_PORT);
	if (!frontend->count)
		return WEFT_REASON(NO_ENDPOINT);
	if (frontend->affinity_s) {
		value.used_ns = bpf_ktime_get_ns();
		kept = bpf_map_lookup_elem(&weft_affinity, &key);
		if (kept && value.used_ns - kept->used_ns < frontend->affinity_s * 1000000000ull) {
			endpoint = weft_endpoint_get(kept->endpoint);
			if (endpoint && endpoint->state != WEFT_ENDPOINT_DRAINING) {
				kept->used_ns = value.used_ns;
				*ret_endpoint = endpoint;
				return 0;
			}
		}
	}
	endpoint = weft_balance_draw(setting, frontend);
	if (!endpoint)
		return WEFT_REASON(STALE_ENDPOINT);
	if (frontend->affinity_s) {
		value.endpoint = endpoint->id;
		if (bpf_map_update_elem(&weft_affinity, &key, &value, BPF_ANY))
			weft_count(WEFT_COUNTER_AFFINITY_LOST);
	}
	*ret_endpoint = endpoint;
	return 0;
}

/*
 * A changed service gets a new slot range and one flip of its frontend, and only
 * then are endpoints freed: a dead draw means that this very call straddles a
 * change. The value in hand is the old one for ever, so it is looked up again.
 */
static __always_inline int weft_balance(const struct weft_setting *setting, const struct weft_frontend_key *asked,
					struct weft_frontend **frontend, __u64 netns,
					struct weft_endpoint **ret_endpoint)
{
	int reason = weft_balance_once(setting, *frontend, netns, ret_endpoint);
	struct weft_frontend *again;

	if (reason != WEFT_REASON(STALE_ENDPOINT))
		return reason;
	again = weft_service_find(asked);
	if (!again || (again->flags & WEFT_FRONTEND_F_PASS))
		return reason;
	*frontend = again;
	return weft_balance_once(setting, again, netns, ret_endpoint);
}

#endif
