/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that walks over sockets: show, flush, recount, cut. */
#include "kernel/instance.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "kernel/iter.h"
#include "kernel/maps.h"
#include "weft.skel.h"

int weft_kernel_conns(struct weft_kernel *kernel, struct weft_buf *conns)
{
	return weft_iter_conns(kernel->conn, conns);
}

int weft_kernel_flush(struct weft_kernel *kernel)
{
	return kernel->flush < 0 ? 0 : weft_iter_run(kernel->flush, NULL);
}

/* Returns when every program run that had begun before is over: bpf/maps/control.h. */
static int fence(struct weft_kernel *kernel)
{
	__u32 zero = 0, post = (__u32)bpf_map__fd(kernel->skel->maps.weft_fence_post);

	return bpf_map_update_elem(bpf_map__fd(kernel->skel->maps.weft_fence), &zero, &post, BPF_ANY) < 0 ? -errno : 0;
}

/* The five steps, and why each, stand at the top of bpf/recount.bpf.c. */
int weft_kernel_recount(struct weft_kernel *kernel)
{
	struct weft_setting setting;
	__u32 zero = 0;
	int r;

	/* An instance that was opened beside this one, for larger maps, and then failed, may have raised the flag. */
	if (bpf_map_lookup_elem(kernel->maps[WEFT_MAP_SETTING], &zero, &setting) < 0)
		return -errno;
	kernel->setting = setting;
	r = fence(kernel);
	if (r == 0)
		r = weft_iter_run(kernel->clear, NULL);
	if (r < 0)
		return r;
	setting.epoch = setting.epoch == UINT32_MAX ? 2 : setting.epoch + 1;
	setting.flags |= WEFT_SETTING_F_RECOUNT;
	r = weft_kernel_store_setting(kernel, &setting);
	if (r == 0)
		r = fence(kernel);
	if (r == 0)
		r = weft_iter_run(kernel->recount, NULL);
	if (r == 0)
		r = weft_iter_run(kernel->recount_udp, NULL);
	if (r < 0)
		return r;
	setting.flags &= ~WEFT_SETTING_F_RECOUNT;
	return weft_kernel_store_setting(kernel, &setting);
}

/* As many as weft_doomed holds. */
static int cut_some(struct weft_kernel *kernel, const uint32_t *ids, size_t count, bool udp_only)
{
	weft_free_on_exit uint32_t *marks = calloc(count, sizeof(*marks));
	int doomed = bpf_map__fd(kernel->skel->maps.weft_doomed), r, cleared;

	if (!marks)
		return -ENOMEM;
	r = weft_map_update_many(doomed, sizeof(*ids), sizeof(*marks), ids, marks, (uint32_t)count);
	if (r == 0 && !udp_only)
		r = weft_iter_run(kernel->cut_tcp, NULL);
	if (r == 0)
		r = weft_iter_run(kernel->cut_udp, NULL);
	/* An id left behind would doom whoever gets it next. */
	cleared = weft_map_delete_many(doomed, sizeof(*ids), ids, (uint32_t)count);
	return r < 0 ? r : cleared;
}

int weft_kernel_cut_here(struct weft_kernel *kernel, const uint32_t *ids, size_t count, bool udp_only,
			 uint32_t *ret_cut)
{
	__u64 before = kernel->skel->bss->weft_cut_count;
	size_t most = bpf_map__max_entries(kernel->skel->maps.weft_doomed);

	if (kernel->cut_tcp < 0)
		return -EOPNOTSUPP;
	for (size_t done = 0, part; done < count; done += part) {
		int r;

		part = count - done < most ? count - done : most;
		r = cut_some(kernel, ids + done, part, udp_only);
		if (r < 0)
			return r;
	}
	*ret_cut = (uint32_t)(kernel->skel->bss->weft_cut_count - before);
	return 0;
}
