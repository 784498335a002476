/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This kernel's verifier accepts every program with every combination of the
 * load-time switches that this kernel can have, and none has grown out of bounds:
 * 100 000 instructions verified is a tenth of what a kernel allows, and is
 * left as room for other kernels, whose verifiers prune less.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "weft.skel.h"

#define LIMIT 100000
#define SKIP 77

struct combination {
	bool set_retval;
	bool sockops_netns;
	bool cut;
};

static int report(struct weft_bpf *skel, const struct combination *combination)
{
	struct bpf_program *program;
	int bad = 0;

	printf("set_retval=%d sockops_netns=%d cut=%d\n", combination->set_retval, combination->sockops_netns,
	       combination->cut);
	bpf_object__for_each_program(program, skel->obj)
	{
		struct bpf_prog_info info = { 0 };
		__u32 size = sizeof(info);

		if (!bpf_program__autoload(program))
			continue;
		if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size)) {
			printf("  %-18s no info: %s\n", bpf_program__name(program), strerror(errno));
			bad++;
			continue;
		}
		/* verified_insns is Linux 5.16; 0 before. */
		printf("  %-18s %6u verified, %5u translated\n", bpf_program__name(program), info.verified_insns,
		       info.xlated_prog_len / 8);
		if (info.verified_insns >= LIMIT) {
			printf("  %-18s over the limit of %d\n", bpf_program__name(program), LIMIT);
			bad++;
		}
	}
	return bad;
}

static int load(const struct combination *combination)
{
	struct weft_bpf *skel = weft_bpf__open();
	int r;

	if (!skel) {
		printf("cannot open the object: %s\n", strerror(errno));
		return 1;
	}
	skel->rodata->weft_config_set_retval = combination->set_retval;
	skel->rodata->weft_config_sockops_netns = combination->sockops_netns;
	bpf_program__set_autoload(skel->progs.weft_cut_tcp, combination->cut);
	bpf_program__set_autoload(skel->progs.weft_cut_udp, combination->cut);
	r = weft_bpf__load(skel);
	if (r)
		printf("set_retval=%d sockops_netns=%d cut=%d is refused: %s\n", combination->set_retval,
		       combination->sockops_netns, combination->cut, strerror(-r));
	else
		r = report(skel, combination);
	weft_bpf__destroy(skel);
	return r ? 1 : 0;
}

int main(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int bad = 0, retval, netns, cut;

	retval = libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_set_retval, NULL);
	netns = libbpf_probe_bpf_helper(BPF_PROG_TYPE_SOCK_OPS, BPF_FUNC_get_netns_cookie, NULL);
	if (!btf || retval == -EPERM) {
		printf("skipped: %s\n", btf ? "no CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN" : "no BTF of this kernel");
		btf__free(btf);
		return SKIP;
	}
	cut = btf__find_by_name_kind(btf, "bpf_sock_destroy", BTF_KIND_FUNC) > 0;
	btf__free(btf);
	printf("this kernel: set_retval=%d sockops_netns=%d bpf_sock_destroy=%d\n", retval, netns, cut);
	for (int i = 0; i < 8; i++) {
		struct combination combination = { i & 1, i & 2, i & 4 };

		if ((combination.set_retval && retval != 1) || (combination.sockops_netns && netns != 1) ||
		    (combination.cut && !cut))
			continue;
		bad += load(&combination);
	}
	return bad ? 1 : 0;
}
