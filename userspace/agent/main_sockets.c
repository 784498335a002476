/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets in pods for proxies, which may not make any. A proxy asks ahead of
 * need and is answered once; while it does not read its answer it is not
 * listened to. How many sockets a pod holds the kernel is asked, so that
 * nobody has to be believed.
 */
#include "agent/role_main.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "ctl/proxy.h"
#include "net/netns.h"
#include "net/pod_route.h"

#define COUNT_NS 1000000000ull /* how long a count of all pods' sockets is good for */
#define KEEPALIVE_S 180 /* idle, and between probes; of which KEEPALIVE_PROBES: as ztunnel's defaults */
#define KEEPALIVE_PROBES 9

struct weft_main_proxy {
	struct weft_main *role;
	unsigned int number;
	int sock; /* -1: not there */
	sd_event_source *io;
	struct weft_proxy_message answer;
	struct weft_proxy_fds fds; /* of it */
	bool owed; /* the answer: the proxy did not take it yet */
};

static void lose(struct weft_main_proxy *proxy)
{
	proxy->io = sd_event_source_disable_unref(proxy->io);
	weft_proxy_fds_done(&proxy->fds);
	proxy->owed = false;
	weft_closep(&proxy->sock);
	proxy->sock = -1;
}

/* ---- how many there may be ---- */

/* In this thread's network namespace, of whomever. */
static int count_here(void *context)
{
	weft_fclose_on_exit FILE *file = fopen("/proc/thread-self/net/sockstat", "re");
	unsigned long used;

	if (!file || fscanf(file, "sockets: used %lu", &used) != 1)
		return file ? -EIO : -errno;
	*(uint64_t *)context += used;
	return 0;
}

static int add_count(void *context, uint64_t cookie, int netns)
{
	(void)cookie;
	return weft_netns_run(netns, count_here, context);
}

/* What all proxies together may have open for pool sockets: half of it, for what they accept is as many again. */
static uint64_t node_cap(const struct weft_main *role)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	return (uint64_t)limit.rlim_cur * role->options->proxies / 2;
}

/*
 * Below the cap everybody gets what he asks for; beyond it those who have less than an equal share. A pod that opens sockets of its
 * own by the thousand uses up its own share alone. *ret_room is what is left for this pod: whoever shares that out knows before it is gone.
 */
static int allowed(struct weft_main *role, int netns, bool inbound, uint64_t wanted, uint64_t *ret_room)
{
	uint64_t cap = node_cap(role), share = cap / weft_main_pod_count(role), used = 0;
	struct timespec now;
	uint64_t now_ns;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	if (!role->counted_ns || now_ns - role->counted_ns >= COUNT_NS) {
		role->counted = 0;
		r = weft_main_each_pod(role, add_count, &role->counted);
		role->counted_ns = now_ns;
	}
	*ret_room = 0;
	if (r == 0 && role->counted + wanted > cap / 2)
		r = weft_netns_run(netns, count_here, &used);
	if (r < 0)
		return r;
	if (role->counted + wanted > cap && used + wanted > share)
		return -EMFILE;
	/* The application's end of a connection comes when the socket is used, and is counted only a second later. */
	role->counted += inbound ? 2 * wanted : wanted;
	*ret_room = role->counted < cap ? cap - role->counted : 0;
	if (role->counted > cap / 2 && used + wanted < share && share - used - wanted > *ret_room)
		*ret_room = share - used - wanted;
	return 0;
}

/* ---- making them ---- */

struct make {
	int family;
	bool inbound;
	size_t count;
	struct weft_proxy_fds *fds;
};

static int set(int sock, int level, int option, int value)
{
	return setsockopt(sock, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* For a dial with the client's address, whose port may be one that has just been used. */
static int make_inbound(int sock, int family)
{
	int r = family == AF_INET ? set(sock, IPPROTO_IP, IP_TRANSPARENT, 1) : set(sock, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);

	if (r == 0)
		r = set(sock, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (r == 0)
		r = set(sock, SOL_SOCKET, SO_REUSEADDR, 1);
	return r < 0 ? r : set(sock, SOL_SOCKET, SO_MARK, (int)WEFT_POD_MARK);
}

static int make_outbound(int sock)
{
	int r = set(sock, SOL_SOCKET, SO_KEEPALIVE, 1);

	if (r == 0)
		r = set(sock, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S);
	if (r == 0)
		r = set(sock, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_S);
	return r < 0 ? r : set(sock, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

static int make_here(void *context)
{
	const struct make *make = context;

	while (make->fds->count < make->count) {
		weft_close_on_exit int sock = socket(make->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		int r = sock < 0 ? -errno : set(sock, IPPROTO_TCP, TCP_NODELAY, 1);

		if (r == 0)
			r = make->inbound ? make_inbound(sock, make->family) : make_outbound(sock);
		if (r < 0)
			return r;
		make->fds->fd[make->fds->count++] = weft_take_fd(sock);
	}
	return 0;
}

/* One that could not be marked would be taken for the pod's own. */
static int mark(struct weft_main *role, uint64_t cookie, struct weft_proxy_fds *fds)
{
	for (size_t i = 0; i < fds->count; i++) {
		int r = weft_kernel_mark_agent_socket(role->kernel, fds->fd[i], cookie);

		if (r < 0) {
			weft_proxy_fds_done(fds);
			return r;
		}
	}
	return 0;
}

static int make_sockets(struct weft_main *role, const struct weft_proxy_message *message, struct weft_proxy_fds *fds, uint64_t *ret_room)
{
	struct make make = { .family = (int)message->arg[2], .inbound = message->arg[1] == WEFT_PROXY_SOCKET_INBOUND,
			     .count = message->count, .fds = fds };
	int netns = weft_main_pod_netns(role, message->arg[0]);
	int r = netns < 0 ? -ENOENT : allowed(role, netns, make.inbound, message->count, ret_room), marked;

	if (r == 0)
		r = weft_netns_run(netns, make_here, &make);
	marked = mark(role, message->arg[0], fds);
	return r < 0 ? r : marked;
}

/* ---- asking and answering ---- */

static void send_answer(struct weft_main_proxy *proxy)
{
	int r = weft_proxy_send_sockets(proxy->sock, &proxy->answer, proxy->fds.fd);

	proxy->owed = r == -EAGAIN;
	if (!proxy->owed)
		weft_proxy_fds_done(&proxy->fds);
	if (r == 0 || r == -EAGAIN)
		sd_event_source_set_io_events(proxy->io, proxy->owed ? EPOLLOUT : EPOLLIN);
	else
		lose(proxy);
}

static void serve(struct weft_main_proxy *proxy, const struct weft_proxy_message *message)
{
	uint64_t room = 0;
	int r = make_sockets(proxy->role, message, &proxy->fds, &room);

	proxy->answer = weft_proxy_message(WEFT_PROXY_SOCKETS, message->serial);
	proxy->answer.count = (__u32)proxy->fds.count;
	proxy->answer.error = r;
	proxy->answer.arg[0] = room;
	if (r < 0 && r != -ENOENT) {
		errno = -r;
		weft_debug("proxy %u gets %zu of %u sockets: %m", proxy->number, proxy->fds.count, message->count);
	}
	send_answer(proxy);
}

static int on_proxy(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds none = { .count = 0 };
	struct weft_main_proxy *proxy = context;
	struct weft_proxy_message message;
	struct weft_err err;
	int r;

	(void)source;
	if (proxy->owed && revents & EPOLLOUT) {
		send_answer(proxy);
		return 0;
	}
	if (proxy->owed) {
		lose(proxy);
		return 0;
	}
	r = weft_proxy_receive(fd, WEFT_PROXY_SIDE_TO_MAIN, &message, &none, &err);
	if (r == -EAGAIN)
		return 0;
	if (r == -EBADMSG)
		weft_error("proxy %u sent something else than a request, hanging up on it: %s", proxy->number, err.text);
	if (r < 0)
		lose(proxy);
	else
		serve(proxy, &message);
	return 0;
}

int weft_main_take_proxy(struct weft_main *role, unsigned int number, int sock)
{
	weft_close_on_exit int mine = sock;
	struct weft_main_proxy *proxy;
	int r;

	if (number >= WEFT_PROXY_MAX)
		return 0;
	if (!role->proxies) {
		role->proxies = calloc(WEFT_PROXY_MAX, sizeof(*role->proxies));
		if (!role->proxies)
			return -ENOMEM;
		for (unsigned int i = 0; i < WEFT_PROXY_MAX; i++)
			role->proxies[i] = (struct weft_main_proxy){ .role = role, .number = i, .sock = -1 };
	}
	proxy = &role->proxies[number];
	lose(proxy);
	r = sd_event_add_io(role->loop, &proxy->io, mine, EPOLLIN, on_proxy, proxy);
	if (r < 0)
		return r;
	proxy->sock = weft_take_fd(mine);
	return 0;
}

void weft_main_proxies_done(struct weft_main *role)
{
	for (unsigned int i = 0; role->proxies && i < WEFT_PROXY_MAX; i++)
		lose(&role->proxies[i]);
	free(role->proxies);
	role->proxies = NULL;
}
