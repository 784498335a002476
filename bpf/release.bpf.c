/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The last descriptor of a socket is closed: UDP gives back. TCP holds nothing before its SYN, and from then on lives in the
 * kernel until its CLOSE gives back (sockops.bpf.c); so it is not even looked up here, twice a connection.
 */
#include "lib/sock.h"
#include "lib/udp.h"

SEC("cgroup/sock_release")
int weft_sock_release(struct bpf_sock *ctx)
{
	struct weft_setting *setting;
	struct weft_sock *sock;
	struct weft_pod *pod;
	struct weft_udp *udp;
	__u64 cookie, netns;
	__u32 workload;

	if (ctx->protocol != IPPROTO_UDP)
		return 1;
	sock = bpf_sk_storage_get(&weft_sock, ctx, NULL, 0);
	if (sock)
		weft_sock_let_go(sock);
	udp = bpf_sk_storage_get(&weft_udp, ctx, NULL, 0);
	setting = weft_setting_get();
	if (!udp || !setting)
		return 1;
	cookie = bpf_get_socket_cookie(ctx);
	netns = bpf_get_netns_cookie(ctx);
	pod = bpf_map_lookup_elem(&weft_pod, &netns);
	workload = pod ? pod->workload : 0;
	for (int i = 0; i < WEFT_UDP_ENTRIES; i++) {
		if (udp->entry[i].endpoint)
			weft_udp_let_go(setting, &udp->entry[i], cookie, netns, workload);
	}
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
