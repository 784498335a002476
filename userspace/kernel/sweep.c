/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that walks over sockets: show, flush, recount, cut. */
#include "kernel/instance.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "kernel/iter.h"
#include "kernel/maps.h"
#include "weft.skel.h"

/* Far more than are needed unless sockets connect faster than they can be walked over. */
#define UDP_WALKS_MAX 12
/* A quarter of what /metrics waits for. */
#define FLUSH_NS 500000000

int weft_kernel_conns(struct weft_kernel *kernel, struct weft_buf *conns)
{
	weft_netns_list_done_on_exit struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	const int here[] = { kernel->conn, kernel->conn_udp };
	int r;

	if (!kernel->here)
		return weft_iter_conns(kernel->conn, conns);
	r = kernel->netns_all(kernel->context, &list);
	return r < 0 ? r : weft_iter_everywhere(&list, here, WEFT_ARRAY_SIZE(here), weft_iter_conns, conns);
}

static int by_inode(const void *a, const void *b)
{
	ino_t left = ((const struct weft_netns *)a)->inode, right = ((const struct weft_netns *)b)->inode;

	return (left > right) - (left < right);
}

static __u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000u + (__u64)now.tv_nsec;
}

/* In each namespace the kernel walks over its whole table, and who waits for /metrics waits for us. */
static int flush_here(struct weft_kernel *kernel)
{
	weft_netns_list_done_on_exit struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	__u64 end = now_ns() + FLUSH_NS;
	size_t first = 0;
	int r = kernel->netns_all(kernel->context, &list);

	if (list.count)
		qsort(list.netns, list.count, sizeof(*list.netns), by_inode);
	while (first < list.count && list.netns[first].inode <= kernel->flushed)
		first++;
	for (size_t i = 0; r == 0 && i < list.count; i++) {
		const struct weft_netns *netns = &list.netns[(first + i) % list.count];

		r = weft_iter_inside(netns->fd, &kernel->flush, 1, weft_iter_run, NULL);
		kernel->flushed = netns->inode;
		if (now_ns() >= end)
			break;
	}
	return r;
}

int weft_kernel_flush(struct weft_kernel *kernel)
{
	if (kernel->flush < 0)
		return 0;
	return kernel->here ? flush_here(kernel) : weft_iter_run(kernel->flush, NULL);
}

/* Returns when every program run that had begun before is over: bpf/maps/control.h. */
static int fence(struct weft_kernel *kernel)
{
	__u32 zero = 0, post = (__u32)bpf_map__fd(kernel->skel->maps.weft_fence_post);

	return bpf_map_update_elem(bpf_map__fd(kernel->skel->maps.weft_fence), &zero, &post, BPF_ANY) < 0 ? -errno : 0;
}

static int read_setting(const struct weft_kernel *kernel, struct weft_setting *ret_setting)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(kernel->maps[WEFT_MAP_SETTING], &zero, ret_setting) < 0 ? -errno : 0;
}

bool weft_kernel_wants_recount(const struct weft_kernel *kernel)
{
	struct weft_setting setting;

	return read_setting(kernel, &setting) < 0 || setting.flags & WEFT_SETTING_F_RECOUNT;
}

static int recount_here(struct weft_kernel *kernel)
{
	weft_netns_list_done_on_exit struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	int r = kernel->netns_all(kernel->context, &list);

	if (r == 0)
		r = weft_iter_everywhere(&list, &kernel->recount, 1, weft_iter_run, NULL);
	for (int i = 0; r == 0 && i < UDP_WALKS_MAX; i++) {
		__u64 before = kernel->skel->bss->weft_recount_moved;

		r = weft_iter_everywhere(&list, &kernel->recount_udp, 1, weft_iter_run, NULL);
		if (r == 0 && i && kernel->skel->bss->weft_recount_moved == before)
			return 0;
	}
	return r < 0 ? r : -EAGAIN;
}

static int recount_all(struct weft_kernel *kernel)
{
	int r = weft_iter_run(kernel->recount, NULL);

	return r < 0 ? r : weft_iter_run(kernel->recount_udp, NULL);
}

/* The five steps, and why each, stand at the top of bpf/recount.bpf.c. */
int weft_kernel_recount(struct weft_kernel *kernel)
{
	struct weft_setting setting;
	/* An instance that was opened beside this one, for larger maps, and then failed, may have raised the flag. */
	int r = read_setting(kernel, &setting);

	if (r < 0)
		return r;
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
		r = kernel->here ? recount_here(kernel) : recount_all(kernel);
	if (r < 0)
		return r;
	setting.flags &= ~WEFT_SETTING_F_RECOUNT;
	return weft_kernel_store_setting(kernel, &setting);
}

/* Runs one iterator or two, while `doomed` is in weft_doomed. */
static int cut(struct weft_kernel *kernel, const uint64_t *doomed, size_t count, const int *links, size_t link_count, uint32_t *ret_cut)
{
	weft_free_on_exit uint32_t *marks = calloc(count ? count : 1, sizeof(*marks));
	int map = bpf_map__fd(kernel->skel->maps.weft_doomed), r, cleared;
	__u64 before = kernel->skel->bss->weft_cut_count;

	if (!marks)
		return -ENOMEM;
	r = weft_map_update_many(map, sizeof(*doomed), sizeof(*marks), doomed, marks, (uint32_t)count);
	for (size_t i = 0; r == 0 && i < link_count; i++)
		r = weft_iter_run(links[i], NULL);
	/* One left behind would doom whoever gets it next. */
	cleared = weft_map_delete_many(map, sizeof(*doomed), doomed, (uint32_t)count);
	if (r < 0 || cleared < 0)
		return r < 0 ? r : cleared;
	*ret_cut = (uint32_t)(kernel->skel->bss->weft_cut_count - before);
	return 0;
}

int weft_kernel_cut_here(struct weft_kernel *kernel, const uint32_t *ids, size_t count, bool udp_only,
			 uint32_t *ret_cut)
{
	const int links[] = { kernel->cut_udp, kernel->cut_tcp };
	weft_free_on_exit uint64_t *doomed = NULL;

	if (kernel->cut_tcp < 0)
		return -EOPNOTSUPP;
	if (count > WEFT_ROLE_MAX_CUT)
		return -E2BIG;
	doomed = calloc(count ? count : 1, sizeof(*doomed));
	if (!doomed)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		doomed[i] = ids[i];
	return cut(kernel, doomed, count, links, udp_only ? 1 : 2, ret_cut);
}

int weft_kernel_cut_sockets_here(struct weft_kernel *kernel, const uint64_t *cookies, size_t count, uint32_t *ret_cut)
{
	if (kernel->cut_cookie < 0)
		return -EOPNOTSUPP;
	if (count > WEFT_ROLE_MAX_CUT)
		return -E2BIG;
	return cut(kernel, cookies, count, &kernel->cut_cookie, 1, ret_cut);
}
