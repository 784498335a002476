/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * weft_live counted anew from the sockets there are, exactly, while they come and go.
 *
 * Counts are of an epoch, and an epoch has one of the two halves of weft_live.
 * `main` does, in this order (the fence is in maps/control.h):
 *
 *   1. fence                    whoever still worked under an epoch before the one in force is done
 *   2. read weft_live_clear     the half that means nothing becomes zeros; nobody else writes there
 *   3. weft_setting.epoch += 1  (never 0, and always of the other parity: after 0xffffffff comes 2)
 *   4. fence                    whoever read the old epoch is done, and what it counted stands in its socket
 *   5. read weft_recount and weft_recount_udp to their ends
 *
 * From 3 on new connections count under the new epoch by themselves. After 4 a
 * holder of an old epoch can only be moved here or give back; both take the epoch out of the
 * holder atomically, so exactly one of them gets it: moved means counted in the new
 * half, and given back from there later; given back first means never counted there. A holder made
 * behind the iterator's back carries the new epoch already. So at the end of 5 the half in force equals the holders.
 *
 * Dying between any two steps is no loss: the next recount starts at 1 with the epoch it finds,
 * and holders that were not moved are of an older epoch still, whichever. Until it is done they are not counted: from
 * 3 to the end of 5 weft_setting says so (WEFT_SETTING_F_RECOUNT).
 */
#include "lib/live.h"

static __always_inline void weft_recount_move(__u32 endpoint, __u32 *epoch)
{
	struct weft_setting *setting = weft_setting_get();
	__u32 held = *(volatile __u32 *)epoch, now;
	struct weft_live *live = weft_live_get(endpoint);

	if (!held || !setting || !live)
		return;
	now = setting->epoch; /* its only writer waits for us */
	if (held == now)
		return;
	/*
	 * Counted before it is moved: a give-back that comes right after the
	 * exchange must find the count there. Taken back if somebody was faster.
	 */
	__sync_fetch_and_add(&live->count[now & 1], 1);
	if (weft_settle_compare_exchange(epoch, held, now) != held)
		__sync_fetch_and_add(&live->count[now & 1], -1);
}

SEC("iter/bpf_map_elem")
int weft_live_clear(struct bpf_iter__bpf_map_elem *ctx)
{
	struct weft_setting *setting = weft_setting_get();
	struct weft_live *live = ctx->value;
	__u64 *even, *odd;

	if (!live || !setting)
		return 0;
	even = &live->count[0];
	odd = &live->count[1];
	/* Otherwise clang 19 works out one address from the epoch, and kernels want a fixed one in an element that an iterator shows. */
	barrier_var(odd);
	if (setting->epoch & 1)
		*even = 0;
	else
		*odd = 0;
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int weft_recount(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct weft_sock *sock = ctx->value;

	if (sock)
		weft_recount_move(sock->endpoint, &sock->epoch);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int weft_recount_udp(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct weft_udp *udp = ctx->value;

	if (!udp)
		return 0;
	for (int i = 0; i < WEFT_UDP_ENTRIES; i++)
		weft_recount_move(udp->entry[i].endpoint, &udp->entry[i].epoch);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
