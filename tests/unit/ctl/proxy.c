/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ctl/proxy.h"

static int set_up(void **state)
{
	static int sockets[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets), 0);
	*state = sockets;
	return 0;
}

static int tear_down(void **state)
{
	int *sockets = *state;

	close(sockets[0]);
	close(sockets[1]);
	return 0;
}

static int open_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void a_mesh_comes_whole(void **state)
{
	int *sockets = *state;
	struct weft_proxy_message sent = weft_proxy_message(WEFT_PROXY_MESH, 7), got;
	weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds fds = { .count = 0 };
	const void *data;
	struct weft_err err;

	assert_int_equal(weft_proxy_send(sockets[0], &sent, "mesh", 5), 0);
	assert_int_equal(weft_proxy_receive(sockets[1], WEFT_PROXY_SIDE_CONTROL, &got, &fds, &err), 0);
	assert_memory_equal(&got, &sent, sizeof(got));
	assert_int_equal(fds.count, 1);
	assert_true(fcntl(fds.fd[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(weft_memfd_map(fds.fd[0], got.bytes, &data), 0);
	assert_string_equal(data, "mesh");
	munmap((void *)data, got.bytes);
}

static void sockets_come_all(void **state)
{
	int *sockets = *state;
	int before = open_fds();

	for (unsigned int count = 0; count <= WEFT_PROXY_MAX_SOCKETS; count += WEFT_PROXY_MAX_SOCKETS / 2) {
		struct weft_proxy_message sent = weft_proxy_message(WEFT_PROXY_SOCKETS, 9), got;
		weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds fds = { .count = 0 };
		int same[WEFT_PROXY_MAX_SOCKETS];
		struct weft_err err = { "" };

		for (unsigned int i = 0; i < WEFT_PROXY_MAX_SOCKETS; i++)
			same[i] = sockets[0];
		sent.count = count;
		sent.error = count ? 0 : -EMFILE;
		assert_int_equal(weft_proxy_send_sockets(sockets[0], &sent, same), 0);
		assert_int_equal(weft_proxy_receive(sockets[1], WEFT_PROXY_SIDE_MAIN, &got, &fds, &err), 0);
		assert_memory_equal(&got, &sent, sizeof(got));
		assert_int_equal(fds.count, count);
		assert_int_equal(open_fds(), before + (int)count);
	}
	assert_int_equal(open_fds(), before);
}

static void nothing_and_nobody(void **state)
{
	int *sockets = *state;
	struct weft_proxy_message got;
	struct weft_proxy_fds fds;
	struct weft_err err = { "" };

	assert_int_equal(weft_proxy_receive(sockets[1], WEFT_PROXY_SIDE_MAIN, &got, &fds, &err), -EAGAIN);
	shutdown(sockets[0], SHUT_RDWR);
	assert_int_equal(weft_proxy_receive(sockets[1], WEFT_PROXY_SIDE_MAIN, &got, &fds, &err), -ECONNRESET);
	got = weft_proxy_message(WEFT_PROXY_CONNS_WANTED, 1);
	assert_int_equal(weft_proxy_send(sockets[1], &got, NULL, 0), -EPIPE);
}

static void a_reader_that_stands_still_is_not_waited_for(void **state)
{
	int *sockets = *state;
	struct weft_proxy_message message = weft_proxy_message(WEFT_PROXY_CONNS_WANTED, 1);
	int r = 0;

	for (int i = 0; i < 100000 && r == 0; i++)
		r = weft_proxy_send(sockets[0], &message, NULL, 0);
	assert_int_equal(r, -EAGAIN);
}

/* Each bends one valid message in one way; `said` must be in the error. */
static void malformed(void **state)
{
	const struct {
		enum weft_proxy_message_type type;
		enum weft_proxy_side from;
		size_t fds;
		size_t size;
		size_t offset;
		size_t width;
		__u64 value;
		const char *said;
	} rows[] = {
#define FIELD(member) offsetof(struct weft_proxy_message, member), sizeof(((struct weft_proxy_message *)0)->member)
#define WHOLE sizeof(struct weft_proxy_message)
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE - 1, FIELD(serial), 1, "55 bytes" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE + 1, FIELD(serial), 1, "57 bytes" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(magic), 1, "magic" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(version), 2, "version 2" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(type), 0, "unknown type 0" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(type), 0xffff, "unknown type 65535" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_MAIN, 0, WHOLE, FIELD(serial), 1, "CONNS_WANTED came from main" },
		{ WEFT_PROXY_WANT_SOCKETS, WEFT_PROXY_SIDE_TO_CONTROL, 0, WHOLE, FIELD(count), 1, "came from a proxy to control" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(pad), 1, "padding" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(error), (__u32)-EIO, "never has one" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(count), 1, "never counts" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(arg[0]), 1, "arguments" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(bytes), 5, "announces 5 bytes" },
		{ WEFT_PROXY_CONNS_WANTED, WEFT_PROXY_SIDE_CONTROL, 1, WHOLE, FIELD(serial), 1, "with 1 descriptors, expected 0" },
		{ WEFT_PROXY_MESH, WEFT_PROXY_SIDE_CONTROL, 1, WHOLE, FIELD(serial), 1, "announces 0 bytes" },
		{ WEFT_PROXY_MESH, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(bytes), 8, "with 0 descriptors, expected 1" },
		{ WEFT_PROXY_MESH, WEFT_PROXY_SIDE_CONTROL, 2, WHOLE, FIELD(bytes), 8, "with 2 descriptors, expected 1" },
		{ WEFT_PROXY_MESH, WEFT_PROXY_SIDE_CONTROL, 1, WHOLE, FIELD(bytes), WEFT_PROXY_MAX_BYTES + 1, "the limit is" },
		{ WEFT_PROXY_LOG_LEVEL, WEFT_PROXY_SIDE_CONTROL, 0, WHOLE, FIELD(arg[0]), 9, "LOG_LEVEL 9" },
		{ WEFT_PROXY_WANT_SOCKETS, WEFT_PROXY_SIDE_TO_MAIN, 0, WHOLE, FIELD(count), 0, "wants 0 sockets" },
		{ WEFT_PROXY_WANT_SOCKETS, WEFT_PROXY_SIDE_TO_MAIN, 0, WHOLE, FIELD(count), 33, "wants 33 sockets" },
		{ WEFT_PROXY_WANT_SOCKETS, WEFT_PROXY_SIDE_TO_MAIN, 0, WHOLE, FIELD(count), 1, "for namespace 0" },
		{ WEFT_PROXY_SOCKETS, WEFT_PROXY_SIDE_MAIN, 0, WHOLE, FIELD(count), 1, "with 0 descriptors, expected 1" },
		{ WEFT_PROXY_SOCKETS, WEFT_PROXY_SIDE_MAIN, 2, WHOLE, FIELD(count), 1, "with 2 descriptors, expected 1" },
		{ WEFT_PROXY_SOCKETS, WEFT_PROXY_SIDE_MAIN, 0, WHOLE, FIELD(error), 1, "positive" },
	};

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(rows); i++) {
		struct weft_proxy_message sent = weft_proxy_message(rows[i].type, 1), got = { .serial = 77 };
		char bytes[sizeof(sent) + 1] = { 0 };
		struct weft_err err = { "" };

		memcpy((char *)&sent + rows[i].offset, &rows[i].value, rows[i].width);
		memcpy(bytes, &sent, sizeof(sent));
		assert_int_equal(weft_proxy_check(bytes, rows[i].size, rows[i].fds, rows[i].from, &got, &err), -EBADMSG);
		assert_contains(err.text, rows[i].said);
		assert_int_equal(got.serial, 77);
	}
}

static void a_want_has_a_kind_and_a_family(void **state)
{
	struct weft_proxy_message message = weft_proxy_message(WEFT_PROXY_WANT_SOCKETS, 1), got;
	struct weft_err err;

	(void)state;
	message.count = WEFT_PROXY_MAX_SOCKETS;
	message.arg[0] = 4711;
	message.arg[1] = WEFT_PROXY_SOCKET_INBOUND;
	message.arg[2] = AF_INET6;
	assert_int_equal(weft_proxy_check(&message, sizeof(message), 0, WEFT_PROXY_SIDE_TO_MAIN, &got, &err), 0);
	message.arg[1] = WEFT_PROXY_SOCKET_MAX_;
	assert_int_equal(weft_proxy_check(&message, sizeof(message), 0, WEFT_PROXY_SIDE_TO_MAIN, &got, &err), -EBADMSG);
	message.arg[1] = WEFT_PROXY_SOCKET_OUTBOUND;
	message.arg[2] = AF_UNIX;
	assert_int_equal(weft_proxy_check(&message, sizeof(message), 0, WEFT_PROXY_SIDE_TO_MAIN, &got, &err), -EBADMSG);
}

/* What came along with a message that is refused is closed, whatever it was. */
static void nothing_is_kept_of_what_is_refused(void **state)
{
	int *sockets = *state;
	struct weft_proxy_message sent = weft_proxy_message(WEFT_PROXY_SOCKETS, 1), got;
	struct weft_proxy_fds fds = { .count = 0 };
	const int three[] = { sockets[0], sockets[0], sockets[0] };
	struct weft_err err = { "" };
	int before = open_fds();

	sent.count = 3;
	assert_int_equal(weft_proxy_send_sockets(sockets[0], &sent, three), 0);
	assert_int_equal(weft_proxy_receive(sockets[1], WEFT_PROXY_SIDE_TO_MAIN, &got, &fds, &err), -EBADMSG);
	assert_int_equal(fds.count, 0);
	assert_int_equal(open_fds(), before);
}

static void connections_have_their_texts(void **state)
{
	struct {
		struct weft_proxy_facts facts;
		struct weft_proxy_conn conn[2];
		char text[8];
	} all = { .text = "\0ab\0cde" };
	struct weft_err err = { "" };
	const size_t size = sizeof(all);

	(void)state;
	all.conn[1].local_identity = 4;
	all.conn[1].peer_identity = 7;
	assert_int_equal(weft_proxy_conns_check(&all, size, 2, &err), 0);
	assert_int_equal(weft_proxy_conns_check(&all, size - sizeof(all.text), 2, &err), -EBADMSG);
	assert_int_equal(weft_proxy_conns_check(&all, size, 3, &err), -EBADMSG);
	assert_int_equal(weft_proxy_conns_check(&all, size, UINT32_MAX, &err), -EBADMSG);
	assert_int_equal(weft_proxy_conns_check(&all, 0, 0, &err), -EBADMSG);
	all.conn[1].peer_identity = 8;
	assert_int_equal(weft_proxy_conns_check(&all, size, 2, &err), -EBADMSG);
	assert_contains(err.text, "connection 1 has an identity beyond its end");
	all.conn[1].peer_identity = 0;
	all.conn[0].security = 2;
	assert_int_equal(weft_proxy_conns_check(&all, size, 2, &err), -EBADMSG);
	all.conn[0].security = 0;
	all.text[7] = 'x';
	assert_int_equal(weft_proxy_conns_check(&all, size, 2, &err), -EBADMSG);
	assert_contains(err.text, "does not end");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_mesh_comes_whole),
		TEST(sockets_come_all),
		TEST(nothing_and_nobody),
		TEST(a_reader_that_stands_still_is_not_waited_for),
		TEST(malformed),
		TEST(a_want_has_a_kind_and_a_family),
		TEST(nothing_is_kept_of_what_is_refused),
		TEST(connections_have_their_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
