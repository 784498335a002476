/* SPDX-License-Identifier: GPL-2.0-only */
/* Maps that programs write for readers: aggregates, histograms, counters by reason, records for watchers. */
#ifndef WEFT_MAPS_METRICS_H
#define WEFT_MAPS_METRICS_H

#include "weft/abi/counter.h"
#include "weft/abi/maps.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct weft_aggregate_key);
	__type(value, struct weft_aggregate);
} weft_aggregate __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct weft_histogram_key);
	__type(value, struct weft_histogram);
} weft_histogram __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEFT_COUNTER_MAX_);
	__type(key, __u32);
	__type(value, __u64);
} weft_counter __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} weft_event __weak SEC(".maps");

#endif
