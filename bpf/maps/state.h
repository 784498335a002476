/* SPDX-License-Identifier: GPL-2.0-only */
/* Maps that programs write for themselves: what a socket holds, live counts, turns, affinities. */
#ifndef WEFT_MAPS_STATE_H
#define WEFT_MAPS_STATE_H

#include "weft/abi/maps.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct weft_sock);
} weft_sock __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct weft_udp);
} weft_udp __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct weft_live);
} weft_live __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEFT_TURN_ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} weft_turn __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct weft_affinity_key);
	__type(value, struct weft_affinity);
} weft_affinity __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct weft_captured_key);
	__type(value, struct weft_original);
} weft_captured __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct weft_attest_key);
	__type(value, struct weft_attested);
} weft_attest __weak SEC(".maps");

#endif
