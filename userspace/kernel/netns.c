/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/kernel.h"

#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "kernel/cgroup.h"
#include "kernel/print.h"
#include "netns.skel.h"

static void destroy_ask(struct weft_netns_bpf **ask)
{
	weft_netns_bpf__destroy(*ask);
}

static void destroy_link(struct bpf_link **link)
{
	bpf_link__destroy(*link);
}

static int ask_with(struct weft_netns_bpf *ask, uint64_t *ret_cookie)
{
	/* Nothing is sent: a UDP socket's connect() only writes an address down, and whether it could is of no interest. */
	const struct sockaddr_in nowhere = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	weft_close_on_exit int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t socket_cookie;
	socklen_t size = sizeof(socket_cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_COOKIE, &socket_cookie, &size) < 0)
		return -errno;
	ask->bss->weft_netns_asked = socket_cookie;
	(void)connect(fd, (const struct sockaddr *)&nowhere, sizeof(nowhere));
	if (!ask->bss->weft_netns_answer)
		return -ENODATA;
	*ret_cookie = ask->bss->weft_netns_answer;
	return 0;
}

int weft_kernel_netns_cookie(uint64_t *ret_cookie)
{
	weft_print_on_exit struct weft_print *print = weft_print_begin();
	weft_cleanup(destroy_ask) struct weft_netns_bpf *ask = weft_netns_bpf__open_and_load();
	weft_cleanup(destroy_link) struct bpf_link *link = NULL;
	weft_close_on_exit int cgroup = -1;
	char path[PATH_MAX];
	int r;

	if (!ask)
		return -errno;
	/* The root holds every process, so also this one. */
	r = weft_cgroup_mount(path, sizeof(path));
	if (r < 0)
		return r;
	cgroup = weft_cgroup_open(path, NULL);
	if (cgroup < 0)
		return cgroup;
	link = bpf_program__attach_cgroup(ask->progs.weft_netns_ask, cgroup);
	return link ? ask_with(ask, ret_cookie) : -errno;
}
