/* SPDX-License-Identifier: GPL-2.0-only */
/* Which endpoint of a frontend a new connection gets. Every path is O(1) in services and endpoints. */
#ifndef WEFT_LIB_BALANCE_H
#define WEFT_LIB_BALANCE_H

#include "lib/choose.h"
#include "lib/service.h"
#include "lib/settle.h"

/* An endpoint's id, 0 if there is none. */
static __always_inline __u32 weft_balance_at(const struct weft_frontend *frontend, __u32 point, __u32 rest)
{
	__u32 index = frontend->slot + weft_choose_slot(point, frontend->count);
	struct weft_slot *slot = bpf_map_lookup_elem(&weft_slot, &index);

	return slot ? weft_choose_alias(slot, rest) : 0;
}

static __always_inline __u32 weft_balance_random(const struct weft_frontend *frontend)
{
	__u32 point = bpf_get_prandom_u32();

	/* Equal weights: no slot ever points to its alias, so the second number is saved. */
	return weft_balance_at(frontend, point, frontend->flags & WEFT_FRONTEND_F_WEIGHTED ? bpf_get_prandom_u32() : 0);
}

static __always_inline __u32 weft_balance_turn(const struct weft_frontend *frontend)
{
	__u32 service = frontend->service % WEFT_TURN_ENTRIES, point, index;
	__u64 *counter = bpf_map_lookup_elem(&weft_turn, &service);
	struct weft_slot *slot;
	__u64 turn;

	if (!counter)
		return weft_balance_random(frontend);
	turn = weft_settle_fetch_add(counter, 1);
	if (frontend->flags & WEFT_FRONTEND_F_WEIGHTED) {
		point = weft_choose_turn(turn);
		return weft_balance_at(frontend, point, weft_choose_rest(point, frontend->count));
	}
	index = frontend->slot + (__u32)(turn % frontend->count);
	slot = bpf_map_lookup_elem(&weft_slot, &index);
	return slot ? slot->endpoint : 0;
}

/*
 * With equal weights the counts alone decide, so only the winner's entry is read: among thousands of
 * services each entry that is read is one more cache miss, and those are most of what choosing costs.
 */
static __always_inline __u32 weft_balance_least(const struct weft_frontend *frontend, __u32 epoch)
{
	__u32 a = weft_balance_random(frontend), b, half = epoch & 1, weight_a = 1, weight_b = 1;
	struct weft_endpoint *first, *second;
	struct weft_live *live_a, *live_b;

	if (frontend->count == 1)
		return a;
	b = weft_balance_random(frontend);
	live_a = weft_live_get(a);
	live_b = weft_live_get(b);
	if (a == b || !live_a || !live_b)
		return a;
	if (frontend->flags & WEFT_FRONTEND_F_WEIGHTED) {
		first = weft_endpoint_get(a);
		second = weft_endpoint_get(b);
		if (!first || !second)
			return first ? a : b;
		weight_a = first->weight;
		weight_b = second->weight;
	}
	return weft_choose_second(live_a->count[half], weight_a, live_b->count[half], weight_b) ? b : a;
}

/*
 * An id and not an entry: to the verifier a number is one state, a pointer that
 * may be NULL is many, and the paths behind each draw multiply.
 */
static __always_inline struct weft_endpoint *weft_balance_draw(const struct weft_setting *setting,
							       const struct weft_frontend *frontend)
{
	__u32 id;

	switch (frontend->algorithm) {
	case WEFT_ALGORITHM_ROUND_ROBIN:
		id = weft_balance_turn(frontend);
		break;
	case WEFT_ALGORITHM_RANDOM:
		id = weft_balance_random(frontend);
		break;
	default:
		id = weft_balance_least(frontend, setting->epoch);
	}
	return weft_endpoint_get(id);
}

/*
 * The endpoint that an affinity holds, if it still holds and this frontend may use it: a service may have
 * frontends for the whole cluster and others for this node alone.
 */
static __always_inline struct weft_endpoint *weft_balance_kept(const struct weft_frontend *frontend,
							       const struct weft_affinity *kept, __u64 now)
{
	struct weft_endpoint *endpoint;

	/* Signed: another CPU may have used it after `now` was read. */
	if (!kept || (__s64)(now - kept->used_ns) >= (__s64)(frontend->affinity_s * 1000000000ull))
		return NULL;
	/* Its service is asked because an LRU may hand the entry to another key under our eyes. */
	endpoint = weft_endpoint_get(kept->endpoint);
	if (!endpoint || endpoint->service != frontend->service || endpoint->state == WEFT_ENDPOINT_DRAINING ||
	    ((frontend->flags & WEFT_FRONTEND_F_LOCAL) && !(endpoint->flags & WEFT_ENDPOINT_F_LOCAL)))
		return NULL;
	return endpoint;
}

/* Makes `drawn` the client's endpoint, unless another connect of this pod was first: then its choice holds. */
static __always_inline struct weft_endpoint *weft_balance_keep(const struct weft_frontend *frontend,
							       const struct weft_affinity_key *key, bool replace,
							       __u64 now, struct weft_endpoint *drawn)
{
	struct weft_affinity value = { .used_ns = now, .endpoint = drawn->id };
	struct weft_endpoint *theirs;

	if (!bpf_map_update_elem(&weft_affinity, key, &value, replace ? BPF_ANY : BPF_NOEXIST))
		return drawn;
	theirs = weft_balance_kept(frontend, bpf_map_lookup_elem(&weft_affinity, key), now);
	if (theirs)
		return theirs;
	weft_count(WEFT_COUNTER_AFFINITY_LOST);
	return drawn;
}

/*
 * 0 and the endpoint, or the reason for a refusal. STALE_ENDPOINT is worth one
 * more try with a frontend that was looked up anew.
 */
static __always_inline int weft_balance_once(const struct weft_setting *setting, const struct weft_frontend *frontend,
					     __u64 netns, struct weft_endpoint **ret_endpoint)
{
	struct weft_affinity_key key = { .client = netns, .service = frontend->service };
	struct weft_endpoint *before = NULL, *drawn;
	struct weft_affinity *kept = NULL;
	__u64 now = 0;

	if (frontend->type == WEFT_FRONTEND_ADDRESS)
		return WEFT_REASON(NO_PORT);
	if (!frontend->count)
		return WEFT_REASON(NO_ENDPOINT);
	if (frontend->affinity_s) {
		now = bpf_ktime_get_ns();
		kept = bpf_map_lookup_elem(&weft_affinity, &key);
		before = weft_balance_kept(frontend, kept, now);
		if (before && before->state == WEFT_ENDPOINT_READY)
			goto stay;
	}
	drawn = weft_balance_draw(setting, frontend);
	/* One that terminates is kept only while the slots hold nothing better. */
	if (before && (!drawn || drawn->state != WEFT_ENDPOINT_READY))
		goto stay;
	if (!drawn)
		return WEFT_REASON(STALE_ENDPOINT);
	*ret_endpoint = frontend->affinity_s ? weft_balance_keep(frontend, &key, kept, now, drawn) : drawn;
	return 0;

stay:
	if (kept)
		kept->used_ns = now;
	*ret_endpoint = before;
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
