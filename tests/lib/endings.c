/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weft-endings: connections that end in every way there is, as fast as they can be made.
 *
 *   serve                          TCP 80 does what the first byte says, TCP 82 is shut with connections in its queue
 *                                  again and again, UDP 53 answers
 *   load COUNT SEED VIP VIP...     connections one after the other, each ending drawn at random; says how many it made
 *
 * Port 81 of a VIP is shut at its endpoints, 83 has an endpoint that never answers, 84 one without a route, 9 is no port of it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))
#define MPTCP 262
#define VIPS_MAX 8

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_in6 at(const char *text, uint16_t port)
{
	struct sockaddr_in6 addr = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	char mapped[64];

	snprintf(mapped, sizeof(mapped), "%s%s", strchr(text, ':') ? "" : "::ffff:", text);
	if (inet_pton(AF_INET6, mapped, &addr.sin6_addr) != 1)
		die(text);
	return addr;
}

static void reset_at_close(int fd)
{
	struct linger now = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/* ---- the server ---- */

static int listener(uint16_t port, int type, int backlog)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, type | SOCK_NONBLOCK, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || (backlog && listen(fd, backlog) < 0))
		die("listen");
	return fd;
}

/* False: the connection is over. */
static bool answer(int fd)
{
	char data[4096];
	ssize_t got = recv(fd, data, sizeof(data), 0);

	if (got < 0)
		return errno == EAGAIN;
	if (got == 0)
		return false;
	switch (data[0]) {
	case 'f': /* closes first */
		return false;
	case 'r':
		reset_at_close(fd);
		return false;
	case 'u': /* leaves the client something that it will not read */
	case 'h':
		return send(fd, data, (size_t)got, MSG_NOSIGNAL) == got;
	default: /* waits for the client's close */
		return true;
	}
}

static void serve(void)
{
	int poll_fd = epoll_create1(0), tcp = listener(80, SOCK_STREAM, 4096), queue = listener(82, SOCK_STREAM, 64);
	int udp = listener(53, SOCK_DGRAM, 0);
	int fixed[] = { tcp, udp, queue };

	for (size_t i = 0; i < LENGTH(fixed); i++)
		epoll_ctl(poll_fd, EPOLL_CTL_ADD, fixed[i],
			  &(struct epoll_event){ .events = EPOLLIN, .data.fd = fixed[i] });
	for (;;) {
		struct epoll_event events[64];
		int count = epoll_wait(poll_fd, events, LENGTH(events), -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd, one;

			if (fd == queue) {
				/* Whoever is in its queue is never accepted. */
				close(queue);
				queue = listener(82, SOCK_STREAM, 64);
				epoll_ctl(poll_fd, EPOLL_CTL_ADD, queue,
					  &(struct epoll_event){ .events = EPOLLIN, .data.fd = queue });
			} else if (fd == udp) {
				struct sockaddr_in6 peer;
				socklen_t size = sizeof(peer);
				char data[64];
				ssize_t got = recvfrom(udp, data, sizeof(data), 0, (struct sockaddr *)&peer, &size);

				if (got >= 0)
					sendto(udp, data, (size_t)got, 0, (struct sockaddr *)&peer, size);
			} else if (fd == tcp) {
				while ((one = accept4(tcp, NULL, NULL, SOCK_NONBLOCK)) >= 0)
					epoll_ctl(poll_fd, EPOLL_CTL_ADD, one,
						  &(struct epoll_event){ .events = EPOLLIN, .data.fd = one });
			} else if (!answer(fd)) {
				close(fd);
			}
		}
	}
}

/* ---- the clients ---- */

static const char *vips[VIPS_MAX];
static unsigned int vip_count;
static uint64_t seed;
static uint64_t attempts;
static int
	family; /* 4 or 6 once the socket in hand has connected: the kernel cannot change over from v4-mapped and back */

static uint32_t draw(uint32_t limit)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((seed >> 33) % limit);
}

static int made(int type, int protocol)
{
	struct timeval limit = { .tv_sec = 10 };
	int fd = socket(AF_INET6, type, protocol), off = 0;

	if (fd < 0)
		die("socket");
	family = 0;
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return fd;
}

static const char *draw_vip(void)
{
	const char *vip;
	int of;

	do {
		vip = vips[draw(vip_count)];
		of = strchr(vip, ':') ? 6 : 4;
	} while (family && family != of);
	family = of;
	return vip;
}

static int go(int fd, uint16_t port)
{
	struct sockaddr_in6 to = at(draw_vip(), port);

	attempts++;
	return connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ? errno : 0;
}

static void leave(int fd)
{
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

	connect(fd, &nowhere, sizeof(nowhere));
}

static int open_one(void)
{
	int fd = made(SOCK_STREAM, 0), error = go(fd, 80);

	if (error) {
		errno = error;
		die("connect to port 80");
	}
	return fd;
}

static void say(int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		die("send");
}

static void read_to_end(int fd)
{
	char data[4096];
	ssize_t got;

	while ((got = recv(fd, data, sizeof(data), 0)) > 0)
		;
	if (got < 0 && errno == EAGAIN)
		die("no end from the server within 10 s");
}

static void client_closes(void)
{
	int fd = open_one();

	say(fd, "c");
	close(fd);
}

static void server_closes(void)
{
	int fd = open_one();

	say(fd, "f");
	read_to_end(fd);
	close(fd);
}

static void both_close(void)
{
	int fd = open_one();

	say(fd, "f");
	close(fd);
}

static void client_resets(void)
{
	int fd = open_one();

	reset_at_close(fd);
	close(fd);
}

static void server_resets(void)
{
	int fd = open_one();

	say(fd, "r");
	read_to_end(fd);
	close(fd);
}

static void unread(void)
{
	struct pollfd readable = { .fd = open_one(), .events = POLLIN };

	say(readable.fd, "u");
	poll(&readable, 1, 10000);
	close(readable.fd);
}

static void half_close(void)
{
	int fd = open_one();

	say(fd, "hello");
	shutdown(fd, SHUT_WR);
	read_to_end(fd);
	close(fd);
}

static void refused(void)
{
	int fd = made(SOCK_STREAM, 0);

	if (go(fd, 81) != ECONNREFUSED)
		die("a shut port did not refuse");
	close(fd);
}

static void refused_then_elsewhere(void)
{
	int fd = made(SOCK_STREAM, 0);

	go(fd, 81);
	if (go(fd, 80))
		die("connect after a refusal");
	reset_at_close(fd);
	close(fd);
}

static void abandoned(void)
{
	int fd = made(SOCK_STREAM | SOCK_NONBLOCK, 0);

	go(fd, 83);
	close(fd);
}

static void disconnected(void)
{
	int fd = open_one();

	leave(fd);
	go(fd, 80);
	leave(fd);
	close(fd);
}

static void abandoned_then_elsewhere(void)
{
	int fd = made(SOCK_STREAM | SOCK_NONBLOCK, 0);

	go(fd, 83);
	leave(fd);
	go(fd, 80);
	close(fd);
}

static void in_a_queue(void)
{
	int fd = made(SOCK_STREAM, 0);

	if (!go(fd, 82))
		read_to_end(fd);
	close(fd);
}

static void fast_open_unused(void)
{
	int fd = made(SOCK_STREAM, 0), on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on));
	go(fd, 80);
	reset_at_close(fd);
	close(fd);
}

static void no_route(void)
{
	int fd = made(SOCK_STREAM, 0);

	if (!go(fd, 84))
		die("a connect without a route succeeded");
	close(fd);
}

static void multipath(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM, MPTCP);

	if (fd < 0)
		return;
	family = 0;
	go(fd, draw(2) ? 80 : 84);
	close(fd);
}

static void no_port(void)
{
	int fd = made(SOCK_STREAM, 0);

	if (go(fd, 9) != ECONNREFUSED)
		die("a port that no service has did not refuse");
	close(fd);
}

static void never_connected(void)
{
	close(made(SOCK_STREAM, 0));
	close(made(SOCK_DGRAM, 0));
}

static void udp_connected(void)
{
	int fd = made(SOCK_DGRAM, 0);

	go(fd, 53);
	send(fd, "?", 1, 0);
	close(fd);
}

static void udp_reconnected(void)
{
	int fd = made(SOCK_DGRAM, 0);
	struct sockaddr_in6 to = at(draw_vip(), 53);

	go(fd, 53);
	go(fd, 53);
	go(fd, 9);
	go(fd, 53);
	leave(fd);
	if (draw(2))
		sendto(fd, "?", 1, 0, (struct sockaddr *)&to, sizeof(to));
	close(fd);
}

static void udp_unconnected(void)
{
	int fd = made(SOCK_DGRAM, 0);

	for (unsigned int i = 0; i < vip_count; i++) {
		struct sockaddr_in6 to = at(vips[i], 53);

		attempts++;
		sendto(fd, "?", 1, 0, (struct sockaddr *)&to, sizeof(to));
	}
	close(fd);
}

/* A process dies with connections of all kinds in its hands. */
static void killed(void)
{
	pid_t pid = fork();

	attempts += 60;
	if (pid == 0) {
		for (unsigned int i = 0; i < 20; i++) {
			go(made(SOCK_STREAM | SOCK_NONBLOCK, 0), 83);
			say(open_one(), i % 2 ? "c" : "u");
			go(made(SOCK_DGRAM, 0), 53);
		}
		kill(getpid(), SIGKILL);
	}
	if (pid < 0)
		die("fork");
	waitpid(pid, NULL, 0);
}

static void (*const ways[])(void) = {
	client_closes,
	server_closes,
	both_close,
	client_resets,
	server_resets,
	unread,
	half_close,
	refused,
	abandoned,
	disconnected,
	in_a_queue,
	no_route,
	multipath,
	no_port,
	never_connected,
	udp_connected,
	udp_reconnected,
	udp_unconnected,
	fast_open_unused,
	refused_then_elsewhere,
	abandoned_then_elsewhere,
};

int main(int argc, char **argv)
{
	uint64_t count;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		serve();
	if (argc < 5 || strcmp(argv[1], "load") != 0 || argc - 4 > VIPS_MAX) {
		fprintf(stderr, "weft-endings serve | load COUNT SEED VIP...\n");
		return 2;
	}
	count = strtoull(argv[2], NULL, 10);
	seed = strtoull(argv[3], NULL, 10);
	for (int i = 4; i < argc; i++)
		vips[vip_count++] = argv[i];
	for (uint64_t n = 0; attempts < count; n++) {
		if (n % 1000 == 0)
			killed();
		ways[draw(LENGTH(ways))]();
	}
	printf("%llu\n", (unsigned long long)attempts);
	return 0;
}
