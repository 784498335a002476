/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ctl/role.h"

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

static void send_raw(int sock, const void *data, size_t size, const int *fds, size_t fd_count)
{
	union {
		char room[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec part = { (void *)data, size };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd_count) {
		struct cmsghdr *cmsg;

		header.msg_control = control.room;
		header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, fd_count * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &header, 0), size);
}

static int open_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_round_trip_with_memfd(void **state)
{
	int *sockets = *state;
	struct weft_role_message sent = weft_role_message(WEFT_ROLE_CUT, 7), got;
	const __u32 ids[] = { 11, 22, 33 };
	weft_close_on_exit int fd = -1;
	const void *data;
	struct weft_err err;

	sent.count = 3;
	sent.arg[0] = 1;
	assert_int_equal(weft_role_send(sockets[0], &sent, ids, sizeof(ids), 0), 0);
	assert_int_equal(weft_role_receive(sockets[1], WEFT_ROLE_SIDE_CONTROL, 0, &got, &fd, &err), 0);
	assert_memory_equal(&got, &sent, sizeof(got));
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(weft_memfd_map(fd, got.bytes, &data), 0);
	assert_memory_equal(data, ids, sizeof(ids));
	munmap((void *)data, got.bytes);
	/* Sealed: whoever keeps a copy cannot change it under its reader. */
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
}

static void test_round_trip_without(void **state)
{
	int *sockets = *state;
	struct weft_role_message sent = weft_role_message(WEFT_ROLE_RESULT, 9), got;
	int fd = -1;
	struct weft_err err;

	sent.error = -ENOSPC;
	sent.arg[1] = 3;
	assert_int_equal(weft_role_send(sockets[0], &sent, NULL, 0, 0), 0);
	assert_int_equal(weft_role_receive(sockets[1], WEFT_ROLE_SIDE_MAIN, 0, &got, &fd, &err), 0);
	assert_int_equal(fd, -1);
	assert_memory_equal(&got, &sent, sizeof(got));
}

static void test_nothing_and_nobody(void **state)
{
	int *sockets = *state;
	struct weft_role_message got;
	struct weft_err err = { "" };
	int fd = -1;

	assert_int_equal(weft_role_receive(sockets[1], WEFT_ROLE_SIDE_MAIN, 0, &got, &fd, &err), -EAGAIN);
	shutdown(sockets[0], SHUT_RDWR);
	assert_int_equal(weft_role_receive(sockets[1], WEFT_ROLE_SIDE_MAIN, 0, &got, &fd, &err), -ECONNRESET);
	got = weft_role_message(WEFT_ROLE_HELLO, 1);
	assert_int_equal(weft_role_send(sockets[1], &got, NULL, 0, 0), -EPIPE);
}

/* Each bends one valid message in one way; `said` must be in the error. */
static void test_malformed(void **state)
{
	enum { NO_FD, WITH_FD };
	const struct {
		enum weft_role_message_type type;
		enum weft_role_side from;
		int fd;
		size_t size;
		size_t offset;
		size_t width;
		__u64 value;
		const char *said;
	} rows[] = {
#define FIELD(member) offsetof(struct weft_role_message, member), sizeof(((struct weft_role_message *)0)->member)
#define WHOLE sizeof(struct weft_role_message)
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE - 1, FIELD(serial), 1, "191 bytes" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(magic), 1, "magic" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(version), 2, "version 2" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(type), 0, "unknown type 0" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(type), 40, "unknown type 40" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(type), 0xffff, "unknown type 65535" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(type), WEFT_ROLE_DATA, "DATA came from control" },
		{ WEFT_ROLE_RESULT, WEFT_ROLE_SIDE_MAIN, NO_FD, WHOLE, FIELD(type), WEFT_ROLE_FLUSH, "FLUSH came from main" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(pad), 1, "padding" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(bytes), 5, "announces 5 bytes and comes without" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, WITH_FD, WHOLE, FIELD(serial), 1, "announces 0 bytes and comes with" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, WITH_FD, WHOLE, FIELD(bytes), 5, "never has any" },
		{ WEFT_ROLE_APPLY, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(serial), 1, "APPLY without bytes" },
		{ WEFT_ROLE_APPLY, WEFT_ROLE_SIDE_CONTROL, WITH_FD, WHOLE, FIELD(bytes), WEFT_ROLE_MAX_BYTES + 1, "the limit is" },
		{ WEFT_ROLE_HELLO, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(count), 1, "1 items" },
		{ WEFT_ROLE_CUT, WEFT_ROLE_SIDE_CONTROL, WITH_FD, WHOLE, FIELD(bytes), 8, "0 items with 8 bytes" },
		{ WEFT_ROLE_READ, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(arg[0]), 0, "READ asks for maps 0" },
		{ WEFT_ROLE_READ, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(arg[0]), 1ull << WEFT_MAP_MAX_, "READ asks for maps" },
		{ WEFT_ROLE_BIND, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(serial), 1, "without the plain name" },
		{ WEFT_ROLE_BIND, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(name[0]), '.', "without the plain name" },
		{ WEFT_ROLE_BIND, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(name[0]), '/', "without the plain name" },
		{ WEFT_ROLE_FLUSH, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(name[0]), 'a', "FLUSH with a name" },
		{ WEFT_ROLE_DETACH, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(name[0]), 'a', "DETACH with a name" },
		{ WEFT_ROLE_ATTACH, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(arg[0]), 1, "without the plain name" },
		{ WEFT_ROLE_ATTACH, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(name[0]), '.', "without the plain name" },
		{ WEFT_ROLE_ATTACH, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(name[0]), 'a', "ATTACH with workload 0" },
		{ WEFT_ROLE_ATTACH, WEFT_ROLE_SIDE_MAIN, NO_FD, WHOLE, FIELD(name[0]), 'a', "ATTACH came from main" },
		{ WEFT_ROLE_CUT_SOCKETS, WEFT_ROLE_SIDE_CONTROL, NO_FD, WHOLE, FIELD(serial), 1, "CUT_SOCKETS without bytes" },
		{ WEFT_ROLE_CUT_SOCKETS, WEFT_ROLE_SIDE_CONTROL, WITH_FD, WHOLE, FIELD(bytes), 8, "0 items with 8 bytes" },
		{ WEFT_ROLE_READY, WEFT_ROLE_SIDE_MAIN, WITH_FD, WHOLE, FIELD(bytes), 4, "expected the capacities" },
		{ WEFT_ROLE_GROW, WEFT_ROLE_SIDE_CONTROL, WITH_FD, WHOLE, FIELD(bytes), 4, "expected the capacities" },
		{ WEFT_ROLE_RESULT, WEFT_ROLE_SIDE_MAIN, NO_FD, WHOLE, FIELD(error), 1, "positive" },
	};
	int *sockets = *state;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(rows); i++) {
		struct weft_role_message sent = weft_role_message(rows[i].type, 1), got;
		weft_close_on_exit int file = weft_memfd_from("test", "12345678", 8);
		struct weft_err err = { "" };
		int fd = -1, before = open_fds();

		memcpy((char *)&sent + rows[i].offset, &rows[i].value, rows[i].width);
		send_raw(sockets[0], &sent, rows[i].size, &file, rows[i].fd == WITH_FD);
		assert_int_equal(weft_role_receive(sockets[1], rows[i].from, 0, &got, &fd, &err), -EBADMSG);
		assert_contains(err.text, rows[i].said);
		assert_int_equal(fd, -1);
		assert_int_equal(open_fds(), before); /* what came along was closed */
	}
}

static void test_too_long_and_two_fds(void **state)
{
	int *sockets = *state;
	weft_close_on_exit int file = weft_memfd_from("test", "12345678", 8);
	const int twice[] = { file, file };
	struct {
		struct weft_role_message message;
		char more;
	} sent = { weft_role_message(WEFT_ROLE_HELLO, 1), 0 };
	struct weft_role_message got;
	struct weft_err err;
	int fd = -1, before = open_fds();

	send_raw(sockets[0], &sent, sizeof(sent.message) + 1, NULL, 0);
	assert_int_equal(weft_role_receive(sockets[1], WEFT_ROLE_SIDE_CONTROL, 0, &got, &fd, &err), -EBADMSG);
	assert_contains(err.text, "193 bytes");
	sent.message = weft_role_message(WEFT_ROLE_APPLY, 1);
	sent.message.bytes = 8;
	send_raw(sockets[0], &sent, sizeof(sent.message), twice, 2);
	assert_int_equal(weft_role_receive(sockets[1], WEFT_ROLE_SIDE_CONTROL, 0, &got, &fd, &err), -EBADMSG);
	assert_contains(err.text, "more descriptors than it, or this process, may have");
	assert_int_equal(open_fds(), before);
}

static void test_a_cut_has_a_limit(void **state)
{
	struct weft_role_message message = weft_role_message(WEFT_ROLE_CUT, 1), got;
	struct weft_err err;

	(void)state;
	message.count = WEFT_ROLE_MAX_CUT;
	message.bytes = message.count * sizeof(__u32);
	assert_int_equal(weft_role_check(&message, sizeof(message), true, WEFT_ROLE_SIDE_CONTROL, &got, &err), 0);
	message.count++;
	message.bytes = message.count * sizeof(__u32);
	assert_int_equal(weft_role_check(&message, sizeof(message), true, WEFT_ROLE_SIDE_CONTROL, &got, &err), -EBADMSG);
	assert_contains(err.text, "CUT of 16385 endpoints, the limit is 16384");
	message = weft_role_message(WEFT_ROLE_CUT_SOCKETS, 1);
	message.count = WEFT_ROLE_MAX_CUT + 1;
	message.bytes = message.count * sizeof(__u64);
	assert_int_equal(weft_role_check(&message, sizeof(message), true, WEFT_ROLE_SIDE_CONTROL, &got, &err), -EBADMSG);
	assert_contains(err.text, "CUT_SOCKETS of 16385 sockets, the limit is 16384");
}

static void test_names(void **state)
{
	struct weft_role_message message = weft_role_message(WEFT_ROLE_BIND, 1), got;
	struct weft_err err;

	(void)state;
	memset(message.name, 'a', sizeof(message.name));
	assert_int_equal(weft_role_check(&message, sizeof(message), false, WEFT_ROLE_SIDE_CONTROL, &got, &err), -EBADMSG);
	assert_contains(err.text, "does not end");
	message.name[sizeof(message.name) - 1] = '\0';
	assert_int_equal(weft_role_check(&message, sizeof(message), false, WEFT_ROLE_SIDE_CONTROL, &got, &err), 0);
	message.name[3] = '/';
	assert_int_equal(weft_role_check(&message, sizeof(message), false, WEFT_ROLE_SIDE_CONTROL, &got, &err), -EBADMSG);
	assert_string_equal(weft_role_type_name(WEFT_ROLE_GROW), "GROW");
	assert_null(weft_role_type_name(WEFT_ROLE_CONNS + 1));
	assert_null(weft_role_type_name(1u << 30));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip_with_memfd), TEST(test_round_trip_without), TEST(test_nothing_and_nobody), TEST(test_malformed),
		TEST(test_too_long_and_two_fds),  TEST(test_a_cut_has_a_limit), TEST(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
