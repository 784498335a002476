/* SPDX-License-Identifier: Apache-2.0 */
/* What kernel.c, sweep.c and secure.c share of an open instance. */
#ifndef WEFT_KERNEL_INSTANCE_H
#define WEFT_KERNEL_INSTANCE_H

#include "base/buf.h"
#include "kernel/kernel.h"

struct ring_buffer;
struct weft_bpf;

struct weft_kernel {
	struct weft_bpf *skel;
	int maps[WEFT_MAP_MAX_]; /* the skeleton's */
	uint32_t max_entries[WEFT_MAP_MAX_];
	struct weft_setting setting; /* as it is in weft_setting: main alone writes it */
	struct ring_buffer *ring;
	struct weft_buf *events; /* where the ring's callback puts records, while it is drained */
	int conn; /* links of iterators; the pinned ones, and those that die with us */
	int conn_udp; /* -1: the one above shows UDP too */
	int flush; /* -1: the kernel lacks atomics that return values */
	int clear;
	int recount;
	int recount_udp;
	int cut_tcp; /* -1: the kernel lacks bpf_sock_destroy */
	int cut_cookie;
	int cut_udp;
	uint64_t features;
	bool here; /* the iterators are of the network namespace of who reads them: no WEFT_FEATURE_SOCK_STORAGE_ITER */
	ino_t flushed; /* the last network namespace that a flush came to */
	int (*netns_all)(void *context, struct weft_netns_list *list);
	void *context;
	uint64_t cgroup; /* id of the subtree */
	char *pins; /* where, and how many links are there */
	size_t links;
	size_t attached; /* network namespaces */
};

struct weft_journal;

/* Links of attached pods that an earlier instance pinned run our programs from here on; what is left of pods that are gone goes. */
int weft_kernel_adopt_netns(struct weft_kernel *kernel, const char *pins, struct weft_journal *journal, struct weft_err *err);

/* Writes kernel->setting with these values and, if the kernel took it, keeps it. */
int weft_kernel_store_setting(struct weft_kernel *kernel, const struct weft_setting *setting);

#endif
