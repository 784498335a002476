/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "net/sock_destroy.h"

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

/* In a network namespace of its own that has a loopback and nothing else. */
static int setup(void **state)
{
	struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	weft_close_on_exit int fd = -1;

	(void)state;
	if (geteuid() != 0)
		return 0;
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &loopback);
}

static void need_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("skipped: destroying sockets needs root\n");
	skip();
}

struct pair {
	int server; /* listening, or bound UDP */
	int accepted; /* TCP's */
	int client;
};

static void close_pair(struct pair *pair)
{
	weft_closep(&pair->client);
	weft_closep(&pair->accepted);
	weft_closep(&pair->server);
}

/* `address` is where the server listens and the client connects, in the form that a socket of `family` takes. */
static socklen_t fill_address(struct sockaddr_storage *to, int family, const char *address, in_port_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;

	memset(to, 0, sizeof(*to));
	to->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		v4->sin_port = port;
		assert_int_equal(inet_pton(family, address, &v4->sin_addr), 1);
		return sizeof(*v4);
	}
	v6->sin6_port = port;
	assert_int_equal(inet_pton(family, address, &v6->sin6_addr), 1);
	return sizeof(*v6);
}

static void open_pair(struct pair *pair, int family, int type, const char *address)
{
	struct sockaddr_storage at;
	socklen_t size = fill_address(&at, family, address, 0);

	pair->server = socket(family, type | SOCK_CLOEXEC, 0);
	pair->client = socket(family, type | SOCK_CLOEXEC, 0);
	assert_true(pair->server >= 0 && pair->client >= 0);
	assert_int_equal(bind(pair->server, (struct sockaddr *)&at, size), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(pair->server, 8), 0);
	assert_int_equal(getsockname(pair->server, (struct sockaddr *)&at, &size), 0);
	assert_int_equal(connect(pair->client, (struct sockaddr *)&at, size), 0);
	if (type == SOCK_STREAM) {
		pair->accepted = accept4(pair->server, NULL, NULL, SOCK_CLOEXEC);
		assert_true(pair->accepted >= 0);
	}
}

static void take_address(const struct sockaddr_storage *from, struct weft_addr *addr, __be16 *port)
{
	char text[INET6_ADDRSTRLEN];

	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;

		*port = v4->sin_port;
		inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
	} else {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;

		*port = v6->sin6_port;
		inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
	}
	assert_int_equal(weft_addr_parse(text, addr), 0);
}

static struct weft_conn describe(int fd)
{
	struct sockaddr_storage at;
	socklen_t size = sizeof(at), cookie_size = sizeof(__u64), int_size = sizeof(int);
	struct weft_conn conn = { 0 };
	int protocol;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
	conn.family = (__u8)at.ss_family;
	take_address(&at, &conn.local, &conn.local_port);
	size = sizeof(at);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&at, &size), 0);
	take_address(&at, &conn.remote, &conn.remote_port);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &conn.cookie, &cookie_size), 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &int_size), 0);
	conn.protocol = (__u8)protocol;
	return conn;
}

/* Destroying wakes whoever waits: the wait is bounded only so that a failure does not hang. */
static int error_of(int fd)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	char byte;

	assert_int_equal(poll(&wait, 1, 10000), 1);
	return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 ? errno : 0;
}

static void can_talk(int from, int to)
{
	char byte = 0;

	assert_int_equal(send(from, "x", 1, 0), 1);
	assert_int_equal(recv(to, &byte, 1, 0), 1);
	assert_int_equal(byte, 'x');
}

static const struct {
	int family;
	int type;
	const char *address;
} kinds[] = {
	{ AF_INET, SOCK_STREAM, "127.0.0.1" },
	{ AF_INET6, SOCK_STREAM, "::1" },
	{ AF_INET6, SOCK_STREAM, "::ffff:127.0.0.1" },
	{ AF_INET, SOCK_DGRAM, "127.0.0.1" },
	{ AF_INET6, SOCK_DGRAM, "::1" },
	{ AF_INET6, SOCK_DGRAM, "::ffff:127.0.0.1" },
};

static void the_named_socket_dies_and_its_neighbour_lives(void **state)
{
	(void)state;
	need_root();
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(kinds); i++) {
		weft_cleanup(close_pair) struct pair one = { -1, -1, -1 }, two = { -1, -1, -1 };
		struct weft_err err = { "" };
		struct weft_conn conn;
		int r;

		open_pair(&one, kinds[i].family, kinds[i].type, kinds[i].address);
		open_pair(&two, kinds[i].family, kinds[i].type, kinds[i].address);
		conn = describe(one.client);
		r = weft_sock_destroy(&conn, &err);
		if (r == -EOPNOTSUPP) {
			print_message("skipped: %s\n", err.text);
			skip();
		}
		if (r < 0)
			fail_msg("kind %zu: %s", i, err.text);
		assert_int_equal(error_of(one.client), ECONNABORTED);
		if (kinds[i].type == SOCK_STREAM)
			assert_int_equal(error_of(one.accepted), ECONNRESET);
		can_talk(two.client, kinds[i].type == SOCK_STREAM ? two.accepted : two.server);
		assert_int_equal(weft_sock_destroy(&conn, &err), -ENOENT);
		assert_contains(err.text,
				kinds[i].family == AF_INET || strchr(kinds[i].address, '.') ? "127.0.0.1:" : "[::1]:");
	}
}

static void another_cookie_on_the_same_ports_is_spared(void **state)
{
	(void)state;
	need_root();
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(kinds); i++) {
		weft_cleanup(close_pair) struct pair pair = { -1, -1, -1 };
		struct weft_conn conn;

		open_pair(&pair, kinds[i].family, kinds[i].type, kinds[i].address);
		conn = describe(pair.client);
		conn.cookie += 1;
		assert_int_equal(weft_sock_destroy(&conn, NULL), -ENOENT);
		conn.cookie += UINT64_C(1) << 32;
		assert_int_equal(weft_sock_destroy(&conn, NULL), -ENOENT);
		can_talk(pair.client, kinds[i].type == SOCK_STREAM ? pair.accepted : pair.server);
	}
}

static void an_accepted_socket_is_named_like_any(void **state)
{
	weft_cleanup(close_pair) struct pair pair = { -1, -1, -1 };
	struct weft_conn conn;

	(void)state;
	need_root();
	open_pair(&pair, AF_INET, SOCK_STREAM, "127.0.0.1");
	conn = describe(pair.accepted);
	assert_int_equal(weft_sock_destroy(&conn, NULL), 0);
	assert_int_equal(error_of(pair.accepted), ECONNABORTED);
	assert_int_equal(error_of(pair.client), ECONNRESET);
}

/* A client that hears nothing: its SYN has come, its ACK will not. */
static int half_open(int family, const char *address, int *ret_server)
{
	struct sock_filter drop = { .code = BPF_RET | BPF_K };
	const struct sock_fprog deaf = { .len = 1, .filter = &drop };
	int server = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_storage at;
	socklen_t size = fill_address(&at, family, address, 0);

	assert_true(server >= 0 && client >= 0);
	assert_int_equal(bind(server, (struct sockaddr *)&at, size), 0);
	assert_int_equal(listen(server, 8), 0);
	assert_int_equal(getsockname(server, (struct sockaddr *)&at, &size), 0);
	assert_int_equal(setsockopt(client, SOL_SOCKET, SO_ATTACH_FILTER, &deaf, sizeof(deaf)), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&at, size), -1);
	assert_int_equal(errno, EINPROGRESS);
	*ret_server = server;
	return client;
}

static size_t list_half_open(struct weft_buf *found)
{
	struct weft_err err = { "" };

	weft_buf_clear(found);
	if (weft_sock_half_open(found, &err) < 0)
		fail_msg("%s", err.text);
	return found->size / sizeof(struct weft_conn);
}

static void half_open_connections_are_listed_and_destroyed(void **state)
{
	(void)state;
	need_root();
	for (size_t i = 0; i < 3; i++) {
		weft_buf_done_on_exit struct weft_buf found = WEFT_BUF_INIT;
		weft_cleanup(close_pair) struct pair other = { -1, -1, -1 };
		weft_close_on_exit int server = -1, client = -1;
		struct sockaddr_storage at;
		socklen_t size = sizeof(at);
		struct weft_err err = { "" };
		struct weft_conn conn;
		struct weft_addr addr;
		__be16 port;
		int r;

		open_pair(&other, kinds[i].family, kinds[i].type, kinds[i].address); /* is none */
		assert_int_equal(list_half_open(&found), 0);
		client = half_open(kinds[i].family, kinds[i].address, &server);
		assert_int_equal(list_half_open(&found), 1);
		memcpy(&conn, found.data, sizeof(conn));
		assert_int_equal(conn.protocol, IPPROTO_TCP);
		assert_int_equal(conn.role, WEFT_ROLE_SERVER);
		assert_int_equal(getsockname(server, (struct sockaddr *)&at, &size), 0);
		take_address(&at, &addr, &port);
		assert_int_equal(conn.local_port, port);
		assert_memory_equal(&conn.local, &addr, sizeof(addr));
		size = sizeof(at);
		assert_int_equal(getsockname(client, (struct sockaddr *)&at, &size), 0);
		take_address(&at, &addr, &port);
		assert_int_equal(conn.remote_port, port);
		assert_memory_equal(&conn.remote, &addr, sizeof(addr));
		conn.cookie ^= 1;
		r = weft_sock_destroy(&conn, &err);
		if (r == -EOPNOTSUPP) {
			print_message("skipped: %s\n", err.text);
			skip();
		}
		assert_int_equal(r, -ENOENT);
		conn.cookie ^= 1;
		if (weft_sock_destroy(&conn, &err) < 0)
			fail_msg("kind %zu: %s", i, err.text);
		assert_int_equal(list_half_open(&found), 0);
		can_talk(other.client, other.accepted);
	}
}

static void what_is_not_named_well_is_not_asked_for(void **state)
{
	struct weft_conn conn = { .family = AF_INET, .protocol = IPPROTO_TCP, .cookie = 1 };
	struct weft_err err = { "" };

	(void)state;
	conn.cookie = 0;
	assert_int_equal(weft_sock_destroy(&conn, &err), -EINVAL);
	assert_contains(err.text, "cookie");
	conn.cookie = UINT64_MAX;
	assert_int_equal(weft_sock_destroy(&conn, &err), -EINVAL);
	conn.cookie = 1;
	conn.family = AF_UNIX;
	assert_int_equal(weft_sock_destroy(&conn, &err), -EINVAL);
	conn.family = AF_INET;
	conn.protocol = IPPROTO_SCTP;
	assert_int_equal(weft_sock_destroy(&conn, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_named_socket_dies_and_its_neighbour_lives),
		cmocka_unit_test(another_cookie_on_the_same_ports_is_spared),
		cmocka_unit_test(an_accepted_socket_is_named_like_any),
		cmocka_unit_test(half_open_connections_are_listed_and_destroyed),
		cmocka_unit_test(what_is_not_named_well_is_not_asked_for),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
