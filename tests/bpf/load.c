/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This kernel's verifier accepts every program with every combination of the
 * features that this kernel can have and can be without, and none has grown out of bounds:
 * 100 000 instructions verified is a tenth of what a kernel allows, and is
 * left as room for other kernels, whose verifiers prune less.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kernel/build.h"
#include "kernel/kernel.h"

#define LIMIT 100000
#define SKIP 77

/* Those that change programs, or which are loaded. Without sock_destroy some are left out, and the others are as they are. */
static const enum weft_feature switches[] = {
	WEFT_FEATURE_FETCH_ATOMICS,
	WEFT_FEATURE_SET_RETVAL,
	WEFT_FEATURE_SOCKOPS_NETNS,
	WEFT_FEATURE_SOCK_STORAGE_ITER,
};
#define COMBINATIONS (1u << WEFT_ARRAY_SIZE(switches))

static void describe(uint64_t features)
{
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(switches); i++)
		printf("%s=%d%c", weft_feature_name(switches[i]), (int)(features >> switches[i] & 1),
		       i + 1 < WEFT_ARRAY_SIZE(switches) ? ' ' : '\n');
}

static int report(const struct weft_bpf *skel)
{
	struct bpf_program *program;
	int bad = 0;

	bpf_object__for_each_program(program, skel->obj)
	{
		struct bpf_prog_info info = { 0 };
		__u32 size = sizeof(info);

		if (!bpf_program__autoload(program))
			continue;
		if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size)) {
			printf("  %-21s no info: %s\n", bpf_program__name(program), strerror(errno));
			bad++;
			continue;
		}
		/* verified_insns is Linux 5.16; 0 before. */
		printf("  %-21s %6u verified, %5u translated\n", bpf_program__name(program), info.verified_insns,
		       info.xlated_prog_len / 8);
		if (info.verified_insns >= LIMIT) {
			printf("  %-21s over the limit of %d\n", bpf_program__name(program), LIMIT);
			bad++;
		}
	}
	return bad;
}

static int load(uint64_t features)
{
	struct weft_bpf *skel;
	int r = weft_build_open(features, &skel), bad;

	describe(features);
	if (r < 0) {
		printf("  cannot be opened: %s\n", strerror(-r));
		return 1;
	}
	r = weft_bpf__load(skel);
	if (r < 0)
		printf("  is refused: %s\n", strerror(-r));
	bad = r < 0 ? 1 : report(skel);
	weft_bpf__destroy(skel);
	return bad;
}

int main(void)
{
	uint64_t features = weft_feature_probe(0);
	struct weft_err err = { "" };
	int bad = 0;

	if (weft_feature_check_floor(features, &err) < 0) {
		printf("skipped: %s\n", err.text);
		return SKIP;
	}
	for (unsigned int i = 0; i < COMBINATIONS; i++) {
		uint64_t without = 0;

		for (size_t bit = 0; bit < WEFT_ARRAY_SIZE(switches); bit++)
			without |= (uint64_t)(i >> bit & 1) << switches[bit];
		/* No kernel before Linux 5.11 has to do without, nor could it: bpf_sk_storage_get() is not for its iterators. */
		if (without >> WEFT_FEATURE_SOCK_STORAGE_ITER & 1 && !(features >> WEFT_FEATURE_FETCH_ATOMICS & 1))
			continue;
		/* One that this kernel lacks anyway was tried without it already. */
		if ((features & without) == without)
			bad += load(features & ~without);
	}
	return bad ? 1 : 0;
}
