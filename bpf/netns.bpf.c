/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Before Linux 5.14 no system call tells the cookie by which programs know a network namespace. So a socket
 * in that namespace connects, and this program, attached to the root cgroup for so long, writes down what the helper says.
 * An object of its own: it is loaded by kernels that need it, while they ask.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 weft_netns_asked; /* cookie of the socket that asks */
__u64 weft_netns_answer;

SEC("cgroup/connect4")
int weft_netns_ask(struct bpf_sock_addr *ctx)
{
	if (bpf_get_socket_cookie(ctx) == weft_netns_asked)
		weft_netns_answer = bpf_get_netns_cookie(ctx);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
