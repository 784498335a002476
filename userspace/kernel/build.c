/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/build.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "kernel/kernel.h"
#include "weft_without_fetch.skel.h"

/* One skeleton opens either build, so what it reaches into must be laid out alike. */
#define SAME_SIZE(WHAT) (sizeof(*((struct weft_bpf *)0)->WHAT) == sizeof(*((struct weft_without_fetch_bpf *)0)->WHAT))
#define SAME_PLACE(MEMBER)                                                                                             \
	(offsetof(struct weft_bpf__rodata, MEMBER) == offsetof(struct weft_without_fetch_bpf__rodata, MEMBER))
_Static_assert(SAME_SIZE(bss) && SAME_SIZE(rodata) && SAME_PLACE(weft_config_set_retval) && SAME_PLACE(weft_config_sockops_netns),
	       "the two builds of the programs have other variables");

static bool has(uint64_t features, enum weft_feature feature)
{
	return features >> feature & 1;
}

int weft_build_open(uint64_t features, struct weft_bpf **ret_skel)
{
	bool everywhere = has(features, WEFT_FEATURE_SOCK_STORAGE_ITER);
	struct weft_bpf *skel = calloc(1, sizeof(*skel));
	int r = skel ? weft_bpf__create_skeleton(skel) : -ENOMEM;

	if (r == 0 && !has(features, WEFT_FEATURE_FETCH_ATOMICS))
		skel->skeleton->data = (void *)weft_without_fetch_bpf__elf_bytes(&skel->skeleton->data_sz);
	if (r == 0)
		r = bpf_object__open_skeleton(skel->skeleton, NULL);
	if (r < 0) {
		weft_bpf__destroy(skel);
		return r;
	}
	skel->rodata->weft_config_set_retval = has(features, WEFT_FEATURE_SET_RETVAL);
	skel->rodata->weft_config_sockops_netns = has(features, WEFT_FEATURE_SOCKOPS_NETNS);
	bpf_program__set_autoload(skel->progs.weft_conn, everywhere);
	bpf_program__set_autoload(skel->progs.weft_flush, everywhere && has(features, WEFT_FEATURE_FETCH_ATOMICS));
	bpf_program__set_autoload(skel->progs.weft_recount, everywhere);
	bpf_program__set_autoload(skel->progs.weft_recount_udp, everywhere);
	bpf_program__set_autoload(skel->progs.weft_conn_tcp_here, !everywhere);
	bpf_program__set_autoload(skel->progs.weft_conn_udp_here, !everywhere);
	bpf_program__set_autoload(skel->progs.weft_flush_here, !everywhere && has(features, WEFT_FEATURE_FETCH_ATOMICS));
	bpf_program__set_autoload(skel->progs.weft_recount_tcp_here, !everywhere);
	bpf_program__set_autoload(skel->progs.weft_recount_udp_here, !everywhere);
	bpf_program__set_autoload(skel->progs.weft_cut_tcp, has(features, WEFT_FEATURE_SOCK_DESTROY));
	bpf_program__set_autoload(skel->progs.weft_inbound, has(features, WEFT_FEATURE_SK_LOOKUP));
	bpf_program__set_autoload(skel->progs.weft_original, has(features, WEFT_FEATURE_SK_LOOKUP));
	bpf_program__set_autoload(skel->progs.weft_cut_cookie, has(features, WEFT_FEATURE_SOCK_DESTROY));
	bpf_program__set_autoload(skel->progs.weft_cut_udp, has(features, WEFT_FEATURE_SOCK_DESTROY));
	*ret_skel = skel;
	return 0;
}
