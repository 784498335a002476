/* SPDX-License-Identifier: GPL-2.0-only */
/* Maps of one load, never pinned: levers that `main` pulls around the iterators. */
#ifndef WEFT_MAPS_CONTROL_H
#define WEFT_MAPS_CONTROL_H

#include "weft/abi/role.h"
#include <bpf/bpf_helpers.h>

/* Endpoint ids whose sockets weft_cut_tcp and weft_cut_udp destroy, or cookies of those that weft_cut_cookie does; the value says nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_ROLE_MAX_CUT);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} weft_doomed __weak SEC(".maps");

/*
 * A fence: bpf_map_update_elem(weft_fence, 0, fd of weft_fence_post) returns
 * only when every program run that had begun before it is over. That is the
 * kernel's promise about replacing an inner map, and unlike membarrier(2) it
 * also holds on one CPU with a preemptible kernel. No program reads it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} weft_fence_post __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, typeof(weft_fence_post));
} weft_fence __weak SEC(".maps");

#endif
