/* SPDX-License-Identifier: Apache-2.0 */
#include "net/sock_destroy.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "base/cleanup.h"

/* An acknowledgement echoes the request: both fit many times. */
#define ANSWER_SIZE 4096

static void close_netlink(struct mnl_socket **netlink)
{
	if (*netlink)
		mnl_socket_close(*netlink);
}

/* An AF_INET request carries IPv4 in the first word; AF_INET6 has v4-mapped addresses whole, as weft has them. */
static void put_address(__be32 to[4], const struct weft_addr *addr, __u8 family)
{
	if (family == AF_INET)
		to[0] = addr->w[3];
	else
		memcpy(to, addr->w, sizeof(addr->w));
}

static void fill(struct inet_diag_req_v2 *request, const struct weft_conn *conn)
{
	request->sdiag_family = conn->family;
	request->sdiag_protocol = conn->protocol;
	request->idiag_states = ~0u;
	request->id.idiag_sport = conn->local_port;
	request->id.idiag_dport = conn->remote_port;
	put_address(request->id.idiag_src, &conn->local, conn->family);
	put_address(request->id.idiag_dst, &conn->remote, conn->family);
	request->id.idiag_cookie[0] = (__u32)conn->cookie;
	request->id.idiag_cookie[1] = (__u32)(conn->cookie >> 32);
}

/* 0 or -errno: the kernel's own, or why it could not be asked. */
static int destroy(struct mnl_socket *netlink, const struct weft_conn *conn)
{
	_Alignas(struct nlmsghdr) char room[ANSWER_SIZE];
	struct nlmsghdr *header = mnl_nlmsg_put_header(room);
	ssize_t got;

	header->nlmsg_type = SOCK_DESTROY;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	header->nlmsg_seq = 1;
	fill(mnl_nlmsg_put_extra_header(header, sizeof(struct inet_diag_req_v2)), conn);
	if (mnl_socket_sendto(netlink, header, header->nlmsg_len) < 0)
		return -errno;
	got = mnl_socket_recvfrom(netlink, room, sizeof(room));
	if (got < 0)
		return -errno;
	return mnl_cb_run(room, (size_t)got, 1, mnl_socket_get_portid(netlink), NULL, NULL) < 0 ? -errno : 0;
}

int weft_sock_destroy(const struct weft_conn *conn, struct weft_err *err)
{
	weft_cleanup(close_netlink) struct mnl_socket *netlink = NULL;
	char local[WEFT_ADDR_TEXT], remote[WEFT_ADDR_TEXT];
	int r;

	/* All ones is netlink's "any socket will do", zero is what a socket that was never asked has. */
	if (conn->cookie == 0 || conn->cookie == UINT64_MAX)
		return weft_err_set(err, EINVAL, "a socket without its cookie cannot be destroyed safely");
	if ((conn->family != AF_INET && conn->family != AF_INET6) ||
	    (conn->protocol != IPPROTO_TCP && conn->protocol != IPPROTO_UDP))
		return weft_err_set(err, EINVAL, "only TCP and UDP sockets can be destroyed, not family %u protocol %u",
				    conn->family, conn->protocol);
	netlink = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	if (!netlink || mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) < 0)
		return weft_err_set(err, errno, "cannot open a socket to the kernel's socket diagnosis: %m");
	r = destroy(netlink, conn);
	if (r == -ESTALE) /* another socket has its place */
		r = -ENOENT;
	if (r == -EOPNOTSUPP)
		return weft_err_set(err, r,
				    "the kernel cannot destroy sockets: build it with CONFIG_INET_DIAG_DESTROY=y");
	if (r < 0)
		return weft_err_set(err, r, "cannot destroy the socket %s -> %s: %m",
				    weft_addr_port_format(&conn->local, ntohs(conn->local_port), local),
				    weft_addr_port_format(&conn->remote, ntohs(conn->remote_port), remote));
	return 0;
}
