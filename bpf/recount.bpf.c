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
 * Where the storage of sockets may not be walked over (WEFT_FEATURE_SOCK_STORAGE_ITER) step 5 reads weft_recount_tcp_here and
 * weft_recount_udp_here in one network namespace after the other, which are looked for after step 4: in one that is made later all
 * is of the new epoch. TCP that is counted is in the kernel's table, at one place, until it gives back. UDP changes its place there in
 * connect(), where it is counted before it has one; so UDP is walked over until a walk finds nobody to move.
 *
 * Dying between any two steps is no loss: the next recount starts at 1 with the epoch it finds,
 * and holders that were not moved are of an older epoch still, whichever. Until it is done they are not counted: from
 * 3 to the end of 5 weft_setting says so (WEFT_SETTING_F_RECOUNT).
 */
#include "lib/live.h"

__u64 weft_recount_moved; /* holders since load */

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
	else
		__sync_fetch_and_add(&weft_recount_moved, 1);
}

static __always_inline void weft_recount_associations(struct weft_udp *udp)
{
	for (int i = 0; i < WEFT_UDP_ENTRIES; i++)
		weft_recount_move(udp->entry[i].endpoint, &udp->entry[i].epoch);
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

	if (udp)
		weft_recount_associations(udp);
	return 0;
}

SEC("iter/tcp")
int weft_recount_tcp_here(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	struct weft_sock *sock = tp ? bpf_sk_storage_get(&weft_sock, tp, NULL, 0) : NULL;

	if (sock)
		weft_recount_move(sock->endpoint, &sock->epoch);
	return 0;
}

SEC("iter/udp")
int weft_recount_udp_here(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;
	struct weft_sock *sock = sk ? bpf_sk_storage_get(&weft_sock, sk, NULL, 0) : NULL;
	struct weft_udp *udp = sk ? bpf_sk_storage_get(&weft_udp, sk, NULL, 0) : NULL;

	if (sock)
		weft_recount_move(sock->endpoint, &sock->epoch);
	if (udp)
		weft_recount_associations(udp);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
