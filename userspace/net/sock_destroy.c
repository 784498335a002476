/* SPDX-License-Identifier: Apache-2.0 */
#include "net/sock_destroy.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "base/cleanup.h"

/* An acknowledgement echoes the request: both fit many times. */
#define ANSWER_SIZE 4096
#define DUMP_SIZE 32768 /* the kernel fills at most as much of a dump at once */

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

static struct weft_addr get_address(const __be32 from[4], __u8 family)
{
	struct weft_addr addr = WEFT_ADDR_ANY_V4;

	if (family == AF_INET)
		addr.w[3] = from[0];
	else
		memcpy(addr.w, from, sizeof(addr.w));
	return addr;
}

static int add_half_open(const struct nlmsghdr *header, void *context)
{
	const struct inet_diag_msg *found = mnl_nlmsg_get_payload(header);
	struct weft_conn conn = { .protocol = IPPROTO_TCP, .role = WEFT_ROLE_SERVER, .state = TCP_SYN_RECV };

	if (mnl_nlmsg_get_payload_len(header) < sizeof(*found) || found->idiag_state != TCP_SYN_RECV)
		return MNL_CB_OK;
	conn.family = found->idiag_family;
	conn.cookie = found->id.idiag_cookie[0] | (__u64)found->id.idiag_cookie[1] << 32;
	conn.local = get_address(found->id.idiag_src, conn.family);
	conn.remote = get_address(found->id.idiag_dst, conn.family);
	conn.local_port = found->id.idiag_sport;
	conn.remote_port = found->id.idiag_dport;
	if (weft_buf_add(context, &conn, sizeof(conn)) == 0)
		return MNL_CB_OK;
	errno = ENOMEM;
	return MNL_CB_ERROR;
}

/* 0 or -errno. */
static int dump(struct mnl_socket *netlink, __u8 family, unsigned int sequence, struct weft_buf *out)
{
	_Alignas(struct nlmsghdr) char room[DUMP_SIZE];
	struct nlmsghdr *header = mnl_nlmsg_put_header(room);
	struct inet_diag_req_v2 *request;
	int r = MNL_CB_OK;

	header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	header->nlmsg_seq = sequence;
	request = mnl_nlmsg_put_extra_header(header, sizeof(*request));
	*request = (struct inet_diag_req_v2){ .sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = 1u << TCP_SYN_RECV };
	if (mnl_socket_sendto(netlink, header, header->nlmsg_len) < 0)
		return -errno;
	while (r == MNL_CB_OK) {
		ssize_t got = mnl_socket_recvfrom(netlink, room, sizeof(room));

		if (got < 0)
			return -errno;
		r = mnl_cb_run(room, (size_t)got, sequence, mnl_socket_get_portid(netlink), add_half_open, out);
	}
	return r < 0 ? -errno : 0;
}

int weft_sock_half_open(struct weft_buf *out, struct weft_err *err)
{
	weft_cleanup(close_netlink) struct mnl_socket *netlink = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	size_t before = out->size;
	int r;

	if (!netlink || mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) < 0)
		return weft_err_set(err, errno, "cannot open a socket to the kernel's socket diagnosis: %m");
	r = dump(netlink, AF_INET, 1, out);
	if (r == 0)
		r = dump(netlink, AF_INET6, 2, out);
	if (r < 0)
		out->size = before;
	return r < 0 ? weft_err_set(err, r, "cannot list half-open connections: %m") : 0;
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
