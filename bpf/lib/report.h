/* SPDX-License-Identifier: GPL-2.0-only */
/* Adding to weft_aggregate and weft_histogram, which a full map must not make forget anything. */
#ifndef WEFT_LIB_REPORT_H
#define WEFT_LIB_REPORT_H

#include "lib/bucket.h"
#include "lib/count.h"
#include "maps/config.h"

/* Too big for the stack; both maps make their rows from zeros. */
static const struct weft_histogram weft_report_zero = {};

/*
 * The row of `key`, made if need be; else the row `other` of the same reporter,
 * outcome and protocol, which the loader makes beforehand so that it is always there.
 */
static __always_inline struct weft_aggregate *weft_report_row(struct weft_aggregate_key *key)
{
	struct weft_aggregate *row = bpf_map_lookup_elem(&weft_aggregate, key);

	if (row)
		return row;
	/* -EEXIST: another CPU was first, and the look-up finds its row. */
	bpf_map_update_elem(&weft_aggregate, key, &weft_report_zero, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&weft_aggregate, key);
	if (row)
		return row;
	weft_count(WEFT_COUNTER_AGGREGATE_FULL);
	key->source = WEFT_ID_OTHER;
	key->service = WEFT_ID_OTHER;
	key->destination = WEFT_ID_OTHER;
	key->security = WEFT_SECURITY_NONE;
	return bpf_map_lookup_elem(&weft_aggregate, key);
}

static __always_inline struct weft_histogram *weft_report_histogram(__u32 service, __u32 reporter)
{
	struct weft_histogram_key key = { .service = service, .reporter = reporter };
	struct weft_histogram *histogram = bpf_map_lookup_elem(&weft_histogram, &key);

	if (histogram)
		return histogram;
	bpf_map_update_elem(&weft_histogram, &key, &weft_report_zero, BPF_NOEXIST);
	histogram = bpf_map_lookup_elem(&weft_histogram, &key);
	if (histogram)
		return histogram;
	weft_count(WEFT_COUNTER_HISTOGRAM_FULL);
	key.service = WEFT_ID_OTHER;
	return bpf_map_lookup_elem(&weft_histogram, &key);
}

static __always_inline void weft_report_observe(__u64 *buckets, __u64 *sum, __u64 ns)
{
	__u64 bucket = weft_bucket(ns / 1000);

	/* The mask is for the verifier: the compiler knows that it changes nothing, and must not. */
	__asm__ volatile("" : "+r"(bucket));
	bucket &= WEFT_HISTOGRAM_BUCKETS - 1;

	__sync_fetch_and_add(&buckets[bucket], 1);
	__sync_fetch_and_add(sum, ns / 1000);
}

static __always_inline void weft_report_key(struct weft_aggregate_key *key, const struct weft_sock *sock, __u8 outcome)
{
	bool client = sock->role == WEFT_ROLE_CLIENT;

	key->source = client ? sock->workload : sock->peer;
	key->service = sock->service;
	key->destination = client ? sock->peer : sock->workload;
	key->reporter = client ? WEFT_REPORTER_SOURCE : WEFT_REPORTER_DESTINATION;
	key->outcome = outcome;
	key->protocol = sock->protocol;
	key->security = sock->tunnelled			       ? WEFT_SECURITY_MUTUAL_TLS
			: sock->flags & WEFT_SOCK_F_ATTESTED ? WEFT_SECURITY_ATTESTED
							     : WEFT_SECURITY_NONE;
}

/* One UDP association that is over: it was opened and ended here, and has no bytes (docs/DATAPATH.md). */
static __always_inline void weft_report_association(struct weft_aggregate_key *key, __u64 duration_ns)
{
	struct weft_aggregate *row = weft_report_row(key);

	if (!row)
		return;
	__sync_fetch_and_add(&row->opened, 1);
	__sync_fetch_and_add(&row->ended, 1);
	/* Of an addition of zero the compiler makes an atomic OR, which is Linux 5.12. */
	if (duration_ns)
		__sync_fetch_and_add(&row->duration_ns, duration_ns);
}

#endif
