/* SPDX-License-Identifier: Apache-2.0 */
/* Streams between two engines. */
#include "unit/proxy/lab.h"

#include <malloc.h>
#include <linux/tcp.h>

static int setup(void **state)
{
	*state = lab_new(NULL);
	return 0;
}

static int teardown(void **state)
{
	lab_free(*state);
	return 0;
}

static void carries_bytes_and_headers(void **state)
{
	struct lab *lab = *state;
	struct seen seen;
	int client, server;

	client = lab_open_with(lab, &seen,
			       &(struct weft_hbone_open){ .authority = "10.0.0.7:8080", .baggage = "k8s.namespace.name=shop",
							  .forwarded = "for=\"10.0.0.1:4711\"", .traceparent = "00-1-2-00",
							  .first = "first ", .first_size = 6 });
	lab_send(lab, client, "hello", 5);
	server = lab_accept(lab);
	lab_expect(lab, server, "first hello", 11);
	lab_send(lab, server, "world", 5);
	lab_expect(lab, client, "world", 5);
	assert_true(seen.opened);
	assert_string_equal(lab->last->authority, "10.0.0.7:8080");
	assert_string_equal(lab->last->baggage, "k8s.namespace.name=shop");
	assert_string_equal(lab->last->forwarded, "for=\"10.0.0.1:4711\"");
	assert_string_equal(lab->last->traceparent, "00-1-2-00");
	close(client);
	lab_expect_end(lab, server);
	close(server);
	LAB_UNTIL(lab, seen.ended && lab->last->ended);
	assert_int_equal(seen.end, WEFT_HBONE_CLOSED);
	assert_int_equal(lab->last->end, WEFT_HBONE_CLOSED);
	assert_int_equal(seen.sent, 11);
	assert_int_equal(seen.received, 5);
	assert_int_equal(lab->last->received, 11);
	assert_string_equal(seen.peer_identity, BOB);
	assert_string_equal(lab->last->peer_identity, ALICE);
	assert_int_equal(lab->here.count[WEFT_COUNTED_HANDSHAKES], 1);
	assert_int_equal(lab->there.count[WEFT_COUNTED_HANDSHAKES], 1);
}

static void half_close(void **state)
{
	struct lab *lab = *state;
	struct seen seen;

	for (int first = 0; first < 2; first++) {
		int end[2];

		lab_join(lab, &seen, &end[0], &end[1]);
		lab_send(lab, end[first], "question", 8);
		shutdown(end[first], SHUT_WR);
		lab_expect(lab, end[!first], "question", 8);
		lab_expect_end(lab, end[!first]);
		lab_send(lab, end[!first], "answer", 6);
		lab_expect(lab, end[first], "answer", 6);
		assert_false(seen.ended);
		shutdown(end[!first], SHUT_WR);
		lab_expect_end(lab, end[first]);
		LAB_UNTIL(lab, seen.ended && lab->last->ended);
		assert_int_equal(seen.end, WEFT_HBONE_CLOSED);
		assert_int_equal(lab->last->end, WEFT_HBONE_CLOSED);
		close(end[0]);
		close(end[1]);
	}
	assert_int_equal(lab->agent.accepted, 1);
}

/* A client that is done with sending before the tunnel is open. */
static void half_close_before_open(void **state)
{
	struct lab *lab = *state;
	struct seen seen;
	int client = lab_open(lab, &seen), server;

	assert_int_equal(send(client, "bye", 3, 0), 3);
	shutdown(client, SHUT_WR);
	server = lab_accept(lab);
	lab_expect(lab, server, "bye", 3);
	lab_expect_end(lab, server);
	lab_send(lab, server, "bye", 3);
	close(server);
	lab_expect(lab, client, "bye", 3);
	lab_expect_end(lab, client);
	LAB_UNTIL(lab, seen.ended);
	assert_int_equal(seen.end, WEFT_HBONE_CLOSED);
	close(client);
}

static void resets(void **state)
{
	struct lab *lab = *state;
	struct seen seen;

	for (int first = 0; first < 2; first++) {
		int end[2];

		lab_join(lab, &seen, &end[0], &end[1]);
		lab_reset(end[first]);
		lab_expect_reset(lab, end[!first]);
		LAB_UNTIL(lab, seen.ended && lab->last->ended);
		assert_int_equal(seen.end, first ? WEFT_HBONE_PEER_RESET : WEFT_HBONE_APP_RESET);
		assert_int_equal(lab->last->end, first ? WEFT_HBONE_APP_RESET : WEFT_HBONE_PEER_RESET);
		close(end[!first]);
	}
	/* The connection goes on. */
	assert_int_equal(lab->agent.accepted, 1);
	assert_int_equal(lab->here.hbone->count, 1);
}

static void reset_after_half_close(void **state)
{
	struct lab *lab = *state;
	struct seen seen;
	int client, server;

	lab_join(lab, &seen, &client, &server);
	shutdown(client, SHUT_WR);
	lab_expect_end(lab, server);
	lab_reset(server);
	lab_expect_reset(lab, client);
	LAB_UNTIL(lab, seen.ended && lab->last->ended);
	assert_int_equal(seen.end, WEFT_HBONE_PEER_RESET);
	close(client);
}

/* An application that goes away before its tunnel is open. */
static void reset_before_open(void **state)
{
	struct lab *lab = *state;
	struct seen seen;

	lab->mute = true;
	lab_reset(lab_open(lab, &seen));
	LAB_UNTIL(lab, seen.ended);
	assert_int_equal(seen.end, WEFT_HBONE_APP_RESET);
	assert_int_equal(lab->here.hbone->count, 1);
	/* And after the CONNECT went out. */
	int client = lab_open(lab, &seen);

	LAB_UNTIL(lab, lab->last && lab->last->asked);
	lab_reset(client);
	LAB_UNTIL(lab, seen.ended && lab->last->ended);
	assert_int_equal(lab->last->end, WEFT_HBONE_PEER_RESET);
}

static void refused(void **state)
{
	static const int status[] = { 400, 401, 503 };
	struct lab *lab = *state;
	struct seen seen;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(status); i++) {
		int client;

		lab->status = status[i];
		client = lab_open(lab, &seen);
		assert_int_equal(send(client, "too early", 9, 0), 9);
		lab_expect_reset(lab, client);
		LAB_UNTIL(lab, seen.ended && lab->last->ended);
		assert_int_equal(seen.end, WEFT_HBONE_REFUSED);
		assert_int_equal(seen.status, status[i]);
		assert_int_equal(lab->last->end, WEFT_HBONE_REFUSED);
		assert_int_equal(lab->last->received, 0);
		assert_false(seen.opened);
		close(client);
	}
}

/* An application that tries a thousand times what it may not: no flood, and nobody else's connection ends for it. */
static void refused_often(void **state)
{
	struct lab *lab = *state;
	struct seen seen;

	lab->status = 401;
	for (int i = 0; i < 1000; i++) {
		int client = lab_open(lab, &seen);

		LAB_UNTIL(lab, seen.ended);
		assert_int_equal(seen.end, WEFT_HBONE_REFUSED);
		assert_int_equal(seen.status, 401);
		close(client);
	}
	assert_int_equal(lab->agent.accepted, 1);
	assert_int_equal(lab->here.count[WEFT_COUNTED_ABUSE] + lab->there.count[WEFT_COUNTED_ABUSE], 0);
}

/* A second connection was wanted for bulk's sake only: without it the first does. */
static void bulk_without_another_connection(void **state)
{
	struct lab *lab = *state;
	struct seen seen[2];
	int client[2], server[2];
	static char data[WEFT_BULK];

	lab_join(lab, &seen[0], &client[0], &server[0]);
	for (size_t sent = 0, got = 0; got < sizeof(data);) {
		ssize_t some = sent < sizeof(data) ? send(client[0], data, sizeof(data) - sent, 0) : 0;

		sent += some > 0 ? (size_t)some : 0;
		some = recv(server[0], data, sizeof(data), 0);
		got += some > 0 ? (size_t)some : 0;
		lab_step(lab);
	}
	lab->sockets = EMFILE;
	lab_join(lab, &seen[1], &client[1], &server[1]);
	assert_int_equal(lab->agent.accepted, 1);
	for (int i = 0; i < 2; i++) {
		close(client[i]);
		close(server[i]);
	}
	LAB_UNTIL(lab, lab->here.ended == 2);
}

static void application_that_refuses(void **state)
{
	struct lab *lab = *state;
	uint16_t port = lab->apps_port;
	struct seen seen;
	int client;

	close(lab->apps);
	client = lab_open(lab, &seen);
	lab_expect_reset(lab, client);
	LAB_UNTIL(lab, seen.ended && lab->last->ended);
	assert_int_equal(seen.end, WEFT_HBONE_REFUSED);
	assert_int_equal(seen.status, 503);
	assert_int_equal(lab->last->end, WEFT_HBONE_UNREACHABLE);
	close(client);
	(void)port;
	lab->apps = lab_listen(&lab->apps_port);
}

static void unreachable(void **state)
{
	struct lab *lab = *state;
	struct seen seen;
	uint16_t port;
	int client, unused = lab_listen(&port);

	close(unused);
	client = lab_open_with(lab, &seen, &(struct weft_hbone_open){ .port = port });
	lab_expect_reset(lab, client);
	LAB_UNTIL(lab, seen.ended);
	assert_int_equal(seen.end, WEFT_HBONE_UNREACHABLE);
	assert_contains(seen.why, "Connection refused");
	close(client);
	assert_int_equal(lab->here.hbone->count, 0);
	assert_int_equal(lab->here.hbone->pools.count, 0);

	lab->sockets = EMFILE;
	client = lab_open(lab, &seen);
	lab_expect_reset(lab, client);
	LAB_UNTIL(lab, seen.ended);
	assert_int_equal(seen.end, WEFT_HBONE_UNREACHABLE);
	close(client);
}

static void another_identity(void **state)
{
	static const char *const expected[] = { ALICE, NULL };
	struct lab *lab = *state;
	struct seen seen[3];
	int client[3];

	/* All that wait for the same connection. */
	for (int i = 0; i < 3; i++)
		client[i] = lab_open_with(lab, &seen[i], &(struct weft_hbone_open){ .expected = expected });
	for (int i = 0; i < 3; i++) {
		lab_expect_reset(lab, client[i]);
		LAB_UNTIL(lab, seen[i].ended);
		assert_int_equal(seen[i].end, WEFT_HBONE_PEER_NOT_TRUSTED);
		assert_contains(seen[i].why, "expected " ALICE);
		close(client[i]);
	}
	assert_int_equal(lab->agent.accepted, 1);
	assert_int_equal(lab->here.count[WEFT_COUNTED_PEER_REFUSED], 1);
	LAB_UNTIL(lab, lab->there.hbone->count == 0);
	assert_null(lab->last);
}

static void sockets_that_come_later(void **state)
{
	struct lab *lab = *state;
	struct seen seen;
	int client, server;

	lab->later = true;
	client = lab_open(lab, &seen);
	for (int i = 0; i < 10; i++)
		lab_step(lab);
	assert_false(seen.opened || seen.ended);
	weft_hbone_socket(lab->here.hbone, 2, AF_INET, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	weft_hbone_socket(lab->here.hbone, 1, AF_INET6, socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
	assert_non_null(lab->here.hbone->sockets);
	weft_hbone_socket(lab->here.hbone, 1, AF_INET, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	server = lab_accept(lab);
	lab_send(lab, client, "x", 1);
	lab_expect(lab, server, "x", 1);
	close(client);
	close(server);
	LAB_UNTIL(lab, seen.ended);
	weft_hbone_socket(lab->here.hbone, 1, AF_INET, -EMFILE);
}

/* A reader that stops: what we hold for it is its window, the rest is in its peer's hands. */
static void back_pressure(void **state)
{
	struct lab *lab = *state;
	size_t size = 32 << 20, sent = 0, got = 0;
	unsigned char *data = malloc(size), *back = malloc(size);
	struct seen seen;

	for (size_t i = 0; i < size; i++)
		data[i] = (unsigned char)(i * 31 + i / 65536);
	for (int from = 0; from < 2; from++) {
		uint64_t moved = lab_ms();
		struct weft_hbone_facts facts;
		int end[2];
		struct weft_hbone *holder = from ? lab->here.hbone : lab->there.hbone, *giver = from ? lab->there.hbone : lab->here.hbone;

		lab_join(lab, &seen, &end[0], &end[1]);
		for (sent = got = 0; lab_ms() < moved + 300; lab_step(lab)) {
			ssize_t some = send(end[from], data + sent, size - sent, MSG_NOSIGNAL);

			if (some > 0) {
				moved = lab_ms();
				sent += (size_t)some;
			}
			assert_true(holder->held <= WEFT_WINDOW);
			assert_int_equal(giver->held, 0);
		}
		assert_true(sent > WEFT_WINDOW && sent < size);
		/* Of a million bytes some wait with their writer. */
		weft_hbone_facts(from ? seen.stream : lab->last->stream, &facts);
		assert_true(facts.received < 1000000);
		/* A window is opened anew by halves. */
		assert_true(holder->held >= WEFT_WINDOW / 2);
		/* Others on the same connection are not in its way. */
		int other[2];
		struct seen more;

		lab_join(lab, &more, &other[0], &other[1]);
		assert_int_equal(lab->agent.accepted, 1 + 0 * from);
		lab_send(lab, other[from], "quick", 5);
		lab_expect(lab, other[!from], "quick", 5);
		close(other[0]);
		close(other[1]);
		LAB_UNTIL(lab, more.ended);
		/* And it all arrives when it is wanted. */
		while (got < size) {
			ssize_t some = recv(end[!from], back + got, size - got, 0);

			if (some > 0)
				got += (size_t)some;
			if (sent < size && (some = send(end[from], data + sent, size - sent, MSG_NOSIGNAL)) > 0)
				sent += (size_t)some;
			lab_step(lab);
		}
		assert_memory_equal(data, back, size);
		close(end[0]);
		close(end[1]);
		LAB_UNTIL(lab, seen.ended);
		assert_int_equal(holder->held, 0);
		assert_int_equal(holder->grown, 0);
	}
	free(data);
	free(back);
}

/* The budget bounds all that readers leave lying. */
static void budget(void **state)
{
	enum { STREAMS = 64 };
	struct lab *lab = lab_new(&(struct weft_hbone_limits){ .budget = 256 << 10 });
	int client[STREAMS], server[STREAMS];
	struct seen seen[STREAMS];
	static char data[1 << 20];

	(void)state;
	for (int i = 0; i < STREAMS; i++)
		lab_join(lab, &seen[i], &client[i], &server[i]);
	for (int round = 0; round < 3000; round++) {
		for (int i = 0; i < STREAMS; i++)
			if (send(client[i], data, sizeof(data), MSG_NOSIGNAL) < 0)
				assert_int_equal(errno, EAGAIN);
		lab_step(lab);
		/* The connection's own window comes on top, once. */
		assert_true(lab->there.hbone->held <= (256u << 10) + WEFT_CONN_WINDOW);
	}
	assert_true(lab->there.hbone->held > 256 << 10);
	for (int i = 0; i < STREAMS; i++) {
		lab_reset(client[i]);
		close(server[i]);
	}
	for (int i = 0; i < STREAMS; i++)
		LAB_UNTIL(lab, seen[i].ended);
	LAB_UNTIL(lab, lab->there.ended == STREAMS);
	assert_int_equal(lab->there.hbone->held, 0);
	/* The connection's window is whole again. */
	lab_join(lab, &seen[0], &client[0], &server[0]);
	lab_send(lab, client[0], "still here", 10);
	lab_expect(lab, server[0], "still here", 10);
	close(client[0]);
	close(server[0]);
	LAB_UNTIL(lab, seen[0].ended);
	lab_free(lab);
}

/* Whatever was written before the end of a stream arrives, however slowly, also when its connection is gone by then. */
static void held_bytes_outlive_their_connection(void **state)
{
	struct lab *lab = *state;
	static char data[100000], back[100000];
	struct seen seen;
	int client, server, room = 4096;
	size_t got = 0;

	lab_join(lab, &seen, &client, &server);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7);
	setsockopt(client, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	shutdown(client, SHUT_WR);
	lab_expect_end(lab, server);
	for (size_t done = 0; done < 60000;) {
		ssize_t some = send(server, data + done, 60000 - done, 0);

		if (some > 0)
			done += (size_t)some;
		lab_step(lab);
	}
	close(server);
	LAB_UNTIL(lab, lab->last->ended);
	assert_string_equal(lab->last->why, "");
	assert_int_equal(lab->last->end, WEFT_HBONE_CLOSED);
	lab->there.hbone = weft_hbone_free(lab->there.hbone);
	LAB_UNTIL(lab, lab->here.hbone->count == 0 || !lab->here.hbone->conns->session);
	while (got < 60000) {
		ssize_t some = recv(client, back + got, sizeof(back) - got, 0);

		if (some > 0)
			got += (size_t)some;
		else if (some == 0 || errno != EAGAIN)
			break;
		lab_step(lab);
	}
	assert_int_equal(got, 60000);
	assert_memory_equal(data, back, got);
	lab_expect_end(lab, client);
	LAB_UNTIL(lab, seen.ended);
	assert_int_equal(seen.end, WEFT_HBONE_CLOSED);
	close(client);
}

static void many_open_at_once(void **state)
{
	enum { STREAMS = 250 };
	struct lab *lab = *state;
	struct seen *seen = calloc(STREAMS, sizeof(*seen));
	int client[STREAMS], server[STREAMS];

	for (int i = 0; i < STREAMS; i++)
		client[i] = lab_open(lab, &seen[i]);
	LAB_UNTIL(lab, lab->here.opened == STREAMS);
	for (int i = 0; i < STREAMS; i++)
		server[i] = lab_accept(lab);
	/* A hundred each, and never two dialled where one would do. */
	assert_int_equal(lab->agent.accepted, 3);
	for (struct weft_hbone_conn *conn = lab->here.hbone->conns; conn; conn = conn->next)
		assert_true(conn->count <= 100);
	for (int i = 0; i < STREAMS; i++)
		close(client[i]);
	for (int i = 0; i < STREAMS; i++)
		close(server[i]);
	LAB_UNTIL(lab, lab->here.ended == STREAMS && lab->there.ended == STREAMS);
	for (int i = 0; i < STREAMS; i++)
		assert_int_equal(seen[i].end, WEFT_HBONE_CLOSED);
	free(seen);
}

static uint32_t segments(const struct weft_hbone_conn *conn)
{
	struct tcp_info info = { 0 };
	socklen_t size = sizeof(info);

	assert_int_equal(getsockopt(conn->io.fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
	return info.tcpi_data_segs_out;
}

/* What the applications had to say when the loop woke up is one record in one segment, however many they are. */
static void one_write_a_wakeup(void **state)
{
	enum { STREAMS = 20 };
	struct lab *lab = *state;
	struct seen seen[STREAMS];
	const struct weft_hbone_conn *conn;
	int client[STREAMS], server[STREAMS];
	uint32_t before;

	for (int i = 0; i < STREAMS; i++)
		lab_join(lab, &seen[i], &client[i], &server[i]);
	conn = lab->here.hbone->conns;
	for (int quiet = 0; quiet < 100; quiet++) {
		before = segments(conn);
		lab_step(lab);
		if (segments(conn) != before)
			quiet = 0;
	}
	for (int i = 0; i < STREAMS; i++)
		assert_int_equal(send(client[i], "question", 8, 0), 8);
	for (int i = 0; i < STREAMS; i++)
		lab_expect(lab, server[i], "question", 8);
	assert_int_equal(segments(conn) - before, 1);
	for (int i = 0; i < STREAMS; i++) {
		close(client[i]);
		close(server[i]);
	}
	LAB_UNTIL(lab, lab->here.ended == STREAMS);
}

static void bulk_sits_apart(void **state)
{
	struct lab *lab = *state;
	struct seen bulk, quick[3];
	int client[4], server[4];
	static char data[WEFT_BULK], back[WEFT_BULK];

	lab_join(lab, &bulk, &client[3], &server[3]);
	lab_send(lab, client[3], data, 1000);
	lab_expect(lab, server[3], data, 1000);
	/* Not yet. */
	lab_join(lab, &quick[0], &client[0], &server[0]);
	assert_int_equal(lab->agent.accepted, 1);
	for (size_t sent = 0, got = 0; got < sizeof(data);) {
		ssize_t some = sent < sizeof(data) ? send(client[3], data, sizeof(data) - sent, 0) : 0;

		sent += some > 0 ? (size_t)some : 0;
		some = recv(server[3], back, sizeof(back), 0);
		got += some > 0 ? (size_t)some : 0;
		lab_step(lab);
	}
	for (int i = 1; i < 3; i++)
		lab_join(lab, &quick[i], &client[i], &server[i]);
	assert_int_equal(lab->agent.accepted, 2);
	assert_ptr_not_equal(quick[1].stream->conn, bulk.stream->conn);
	assert_ptr_equal(quick[1].stream->conn, quick[2].stream->conn);
	for (int i = 0; i < 4; i++) {
		close(client[i]);
		close(server[i]);
	}
	LAB_UNTIL(lab, lab->here.ended == 4);
	for (struct weft_hbone_conn *conn = lab->here.hbone->conns; conn; conn = conn->next)
		assert_int_equal(conn->bulk, 0);
}

static void renewed_certificate(void **state)
{
	struct lab *lab = *state;
	struct seen seen[2];
	int client[2], server[2];
	struct weft_identity *old = lab->here.identity;

	lab_join(lab, &seen[0], &client[0], &server[0]);
	lab->here.identity = lab_identity(lab, ALICE, &lab->leaf[0]);
	weft_identity_unref(old);
	lab_join(lab, &seen[1], &client[1], &server[1]);
	assert_int_equal(lab->agent.accepted, 2);
	assert_int_equal(lab->here.hbone->count, 2);
	lab_send(lab, client[0], "old", 3);
	lab_expect(lab, server[0], "old", 3);
	close(client[0]);
	close(server[0]);
	LAB_UNTIL(lab, seen[0].ended && lab->here.hbone->count == 1);
	assert_int_equal(seen[0].end, WEFT_HBONE_CLOSED);
	assert_false(seen[1].ended);
	close(client[1]);
	close(server[1]);
	LAB_UNTIL(lab, seen[1].ended);
}

/* A CONNECT that was queued when the peer's GOAWAY was read: nghttp2 never sends it, and it goes to another connection, once. */
static void goaway_that_overtakes(void **state)
{
	struct lab *lab = *state;
	struct weft_hbone_conn *conn;
	struct seen seen[3];
	int end[3][2];

	lab_join(lab, &seen[0], &end[0][0], &end[0][1]);
	for (int i = 1; i < 3; i++) {
		conn = lab->there.hbone->conns;
		assert_int_equal(nghttp2_submit_shutdown_notice(conn->session), 0);
		weft_loop_cancel(&conn->work);
		conn->work.run(&conn->work);
		end[i][0] = lab_open(lab, &seen[i]);
		LAB_UNTIL(lab, seen[i].opened || seen[i].ended);
		if (!seen[i].opened)
			fail_msg("%s", seen[i].why);
		end[i][1] = lab_accept(lab);
		assert_int_equal(lab->agent.accepted, i + 1);
		assert_int_equal(lab->there.opened, i + 1);
	}
	for (int i = 0; i < 3; i++) {
		lab_send(lab, end[i][0], "question", 8);
		lab_expect(lab, end[i][1], "question", 8);
		lab_send(lab, end[i][1], "answer", 6);
		lab_expect(lab, end[i][0], "answer", 6);
		close(end[i][0]);
		close(end[i][1]);
		LAB_UNTIL(lab, seen[i].ended);
		assert_int_equal(seen[i].end, WEFT_HBONE_CLOSED);
	}
}

/* A CONNECT that was queued when the connection ended: the peer has never heard of it. */
static void end_that_overtakes(void **state)
{
	struct lab *lab = *state;
	struct seen first, seen;
	int client, server, other;

	lab_join(lab, &first, &client, &server);
	shutdown(lab->there.hbone->conns->io.fd, SHUT_RDWR);
	other = lab_open(lab, &seen);
	LAB_UNTIL(lab, seen.opened || seen.ended);
	if (!seen.opened)
		fail_msg("%s", seen.why);
	lab_expect_reset(lab, client);
	LAB_UNTIL(lab, first.ended);
	assert_int_equal(first.end, WEFT_HBONE_PEER_RESET);
	assert_int_equal(lab->agent.accepted, 2);
	close(client);
	close(server);
	close(other);
}

static void cut(void **state)
{
	struct lab *lab = *state;
	struct seen seen;

	for (int by = 0; by < 2; by++) {
		int client, server;

		lab_join(lab, &seen, &client, &server);
		weft_hbone_cut(by ? seen.stream : lab->last->stream);
		lab_expect_reset(lab, client);
		lab_expect_reset(lab, server);
		LAB_UNTIL(lab, seen.ended && lab->last->ended);
		assert_int_equal(seen.end, by ? WEFT_HBONE_CUT : WEFT_HBONE_PEER_RESET);
		assert_int_equal(lab->last->end, by ? WEFT_HBONE_PEER_RESET : WEFT_HBONE_CUT);
		close(client);
		close(server);
	}
}

static void drain(void **state)
{
	struct lab *lab = *state;
	struct seen seen[3];
	int client[3], server[2];

	lab_join(lab, &seen[0], &client[0], &server[0]);
	weft_hbone_drain(lab->there.hbone);
	/* What is open goes on. */
	lab_send(lab, client[0], "x", 1);
	lab_expect(lab, server[0], "x", 1);
	LAB_UNTIL(lab, !lab->here.hbone->conns->pool);
	lab_expect_reset(lab, client[1] = lab_open(lab, &seen[1]));
	LAB_UNTIL(lab, seen[1].ended);
	assert_int_equal(seen[1].end, WEFT_HBONE_UNREACHABLE);
	lab_send(lab, server[0], "y", 1);
	lab_expect(lab, client[0], "y", 1);
	close(client[0]);
	close(server[0]);
	LAB_UNTIL(lab, seen[0].ended && lab->there.hbone->count == 0 && lab->here.hbone->count == 0);
	assert_int_equal(seen[0].end, WEFT_HBONE_CLOSED);
	close(client[1]);
	weft_hbone_drain(lab->here.hbone);
	int pair[2];

	lab_pair(pair);
	assert_int_equal(weft_hbone_open(lab->here.hbone, &(struct weft_hbone_open){ 0 }, pair[1], &seen[2], &seen[2].stream), -ESHUTDOWN);
	lab_expect_reset(lab, pair[0]);
	close(pair[0]);
}

static void agent_that_dies(void **state)
{
	struct lab *lab = *state;
	struct seen seen;
	int client, server;

	lab_join(lab, &seen, &client, &server);
	lab->there.hbone = weft_hbone_free(lab->there.hbone);
	lab_expect_reset(lab, client);
	lab_expect_reset(lab, server);
	LAB_UNTIL(lab, seen.ended);
	assert_int_equal(seen.end, WEFT_HBONE_PEER_RESET);
	LAB_UNTIL(lab, lab->here.hbone->count == 0);
	close(client);
	close(server);
}

static void idle_connections_go(void **state)
{
	struct lab *lab = lab_new(&(struct weft_hbone_limits){ .idle_ms = 200 });
	struct seen seen;
	int client, server;

	(void)state;
	lab_join(lab, &seen, &client, &server);
	uint64_t until = lab_ms() + 500;

	LAB_UNTIL(lab, lab_ms() > until);
	assert_int_equal(lab->here.hbone->count, 1);
	close(client);
	close(server);
	LAB_UNTIL(lab, seen.ended);
	LAB_UNTIL(lab, lab->here.hbone->count == 0 && lab->there.hbone->count == 0);
	assert_int_equal(lab->here.hbone->pools.count, 0);
	lab_free(lab);
}

static void silence_is_noticed_and_pings_are_answered(void **state)
{
	struct lab *lab = lab_new(&(struct weft_hbone_limits){ .ping_ms = 100 });
	struct seen seen;
	int client, server;
	uint64_t began, until;

	(void)state;
	lab_join(lab, &seen, &client, &server);
	began = lab->here.hbone->conns->rx_ns;
	until = lab_ms() + 700;
	LAB_UNTIL(lab, lab_ms() > until);
	/* Nobody sent anything but PINGs and their answers. */
	assert_true(lab->here.hbone->conns->rx_ns > began + 400000000);
	lab_send(lab, client, "x", 1);
	lab_expect(lab, server, "x", 1);
	close(client);
	close(server);
	LAB_UNTIL(lab, seen.ended);
	lab_free(lab);
}

static void unanswered_connect(void **state)
{
	struct lab *lab = lab_new(&(struct weft_hbone_limits){ .headers_ms = 200, .handshake_ms = 1000 });
	struct seen seen;
	int client;

	(void)state;
	lab->mute = true;
	client = lab_open(lab, &seen);
	lab_expect_reset(lab, client);
	LAB_UNTIL(lab, seen.ended && lab->last->ended);
	assert_int_equal(seen.end, WEFT_HBONE_REFUSED);
	assert_int_equal(seen.status, 503);
	close(client);
	lab_free(lab);
}

/* Handshakes that are begun and left, while good ones go on; half of them say nothing at all. */
static void stalled_handshakes(void **state)
{
	enum { STALLED = 2500 };
	struct lab *lab = lab_new(&(struct weft_hbone_limits){ .handshake_ms = 4000, .connections = 500 });
	static const unsigned char hello[] = { 0x16, 3, 1, 2, 0, 1, 0 };
	int *stalled = malloc(STALLED * sizeof(*stalled)), client, server;
	struct seen seen;

	(void)state;
	for (int i = 0; i < STALLED; i++) {
		stalled[i] = lab_connect(lab->agent.port);
		if (i % 8)
			LAB_UNTIL(lab, send(stalled[i], hello, sizeof(hello), MSG_NOSIGNAL) > 0);
		lab_step(lab);
	}
	LAB_UNTIL(lab, lab->agent.accepted == STALLED);
	assert_true(lab->there.hbone->handshaking <= 501 && lab->there.hbone->count <= 501);
	lab_join(lab, &seen, &client, &server);
	lab_send(lab, client, "good", 4);
	lab_expect(lab, server, "good", 4);
	LAB_UNTIL(lab, lab->there.hbone->count == 1);
	close(client);
	close(server);
	LAB_UNTIL(lab, seen.ended);
	for (int i = 0; i < STALLED; i++)
		close(stalled[i]);
	free(stalled);
	lab_free(lab);
}

/* What comes from outside must not end what our own pods have begun. */
static void stalled_handshakes_push_out_their_like(void **state)
{
	enum { STALLED = 1100 };
	struct lab *lab = lab_new(&(struct weft_hbone_limits){ .handshake_ms = 60000 });
	int *stalled = malloc(STALLED * sizeof(*stalled)), client, silent, door;
	struct seen seen;
	uint16_t port;

	(void)state;
	silent = lab_listen(&port);
	client = lab_open_with(lab, &seen, &(struct weft_hbone_open){ .port = port });
	LAB_UNTIL(lab, lab->here.hbone->handshaking == 1);
	door = lab_listen(&port);
	for (int i = 0; i < STALLED; i++) {
		int fd = -1;

		stalled[i] = lab_connect(port);
		LAB_UNTIL(lab, (fd = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
		assert_int_equal(weft_hbone_accept(lab->here.hbone, lab->here.identity, fd, 1), 0);
	}
	assert_int_equal(lab->here.hbone->handshaking, 1024);
	lab_step(lab);
	assert_false(seen.ended);
	close(client);
	for (int i = 0; i < STALLED; i++)
		close(stalled[i]);
	close(door);
	close(silent);
	LAB_UNTIL(lab, lab->here.hbone->handshaking <= 1);
	free(stalled);
	lab_free(lab);
}

/* Connections that are up are never given up for new ones. */
static void cap_on_connections(void **state)
{
	struct lab *lab = lab_new(&(struct weft_hbone_limits){ .connections = 1 });
	struct seen seen;
	int client, server, fd;

	(void)state;
	lab_join(lab, &seen, &client, &server);
	fd = lab_connect(lab->agent.port);
	LAB_UNTIL(lab, lab->agent.accepted == 2);
	lab_expect_reset(lab, fd);
	close(fd);
	lab_send(lab, client, "still here", 10);
	lab_expect(lab, server, "still here", 10);
	close(client);
	close(server);
	LAB_UNTIL(lab, seen.ended);
	lab_free(lab);
}

static void recheck(void **state)
{
	struct lab *lab = *state;
	struct weft_trust *nobody = weft_trust_new();
	struct seen seen;
	int client, server;

	lab_join(lab, &seen, &client, &server);
	weft_hbone_recheck(lab->there.hbone, lab->trust, time(NULL));
	lab_send(lab, client, "x", 1);
	lab_expect(lab, server, "x", 1);
	weft_hbone_recheck(lab->there.hbone, nobody, time(NULL));
	lab_expect_reset(lab, server);
	lab_expect_reset(lab, client);
	LAB_UNTIL(lab, seen.ended && lab->last->ended);
	assert_int_equal(lab->last->end, WEFT_HBONE_CUT);
	LAB_UNTIL(lab, lab->there.hbone->count == 0);
	close(client);
	close(server);
	/* A certificate that ends on an open connection ends nothing. */
	lab_join(lab, &seen, &client, &server);
	weft_hbone_recheck(lab->here.hbone, lab->trust, time(NULL) + 7200);
	lab_send(lab, client, "y", 1);
	lab_expect(lab, server, "y", 1);
	close(client);
	close(server);
	weft_trust_unref(nobody);
}

/* Random traffic both ways on many streams, each ending in its own way; every byte is checked. */
struct way {
	int from, to;
	uint64_t seed, sent, got, size;
	bool shut, ended;
};

static unsigned char byte_at(const struct way *way, uint64_t at)
{
	uint64_t x = (at / 8 + 1) * 0x9e3779b97f4a7c15ull ^ way->seed;

	return (unsigned char)((x ^ x >> 29) >> (at % 8 * 8));
}

static void move(struct way *way, unsigned int *random)
{
	static unsigned char data[70000];
	size_t most = (size_t)rand_r(random) % sizeof(data) >> (rand_r(random) % 12);
	ssize_t some;

	if (most < 1)
		most = 1;
	if (most > way->size - way->sent)
		most = way->size - way->sent;
	for (size_t i = 0; i < most; i++)
		data[i] = byte_at(way, way->sent + i);
	if (most && (some = send(way->from, data, most, MSG_NOSIGNAL)) > 0)
		way->sent += (uint64_t)some;
	if (way->sent == way->size && !way->shut) {
		way->shut = true;
		shutdown(way->from, SHUT_WR);
	}
	if (rand_r(random) % 4 == 0)
		return; /* a reader that is slow */
	some = recv(way->to, data, sizeof(data) >> (rand_r(random) % 10), 0);
	for (ssize_t i = 0; i < some; i++)
		if (data[i] != byte_at(way, way->got + (uint64_t)i))
			fail_msg("byte %llu differs", (unsigned long long)(way->got + (uint64_t)i));
	if (some > 0)
		way->got += (uint64_t)some;
	else if (some == 0)
		way->ended = true;
	else
		assert_int_equal(errno, EAGAIN);
}

static void random_duplex(void **state)
{
	enum { STREAMS = 120 };
	struct lab *lab = *state;
	struct seen *seen = calloc(STREAMS, sizeof(*seen));
	struct way way[STREAMS][2];
	unsigned int random = 4711, done = 0;
	uint64_t until = lab_ms() + 60000;

	for (unsigned int i = 0; i < STREAMS; i++) {
		int client, server;

		lab_join(lab, &seen[i], &client, &server);
		for (int to = 0; to < 2; to++)
			way[i][to] = (struct way){ .from = to ? server : client, .to = to ? client : server, .seed = i * 2 + (unsigned)to,
						   .size = (uint64_t)rand_r(&random) % 800000 >> (rand_r(&random) % 16) };
	}
	while (done < STREAMS * 2) {
		done = 0;
		for (unsigned int i = 0; i < STREAMS; i++)
			for (int to = 0; to < 2; to++) {
				if (!way[i][to].ended)
					move(&way[i][to], &random);
				done += way[i][to].ended;
			}
		lab_step(lab);
		assert_true(lab_ms() < until);
	}
	for (unsigned int i = 0; i < STREAMS; i++) {
		for (int to = 0; to < 2; to++)
			assert_int_equal(way[i][to].got, way[i][to].size);
		LAB_UNTIL(lab, seen[i].ended);
		assert_int_equal(seen[i].end, WEFT_HBONE_CLOSED);
		assert_int_equal(seen[i].sent, way[i][0].size);
		assert_int_equal(seen[i].received, way[i][1].size);
		close(way[i][0].from);
		close(way[i][0].to);
	}
	free(seen);
}

/* Handshakes whose signatures come when somebody gives them. */
struct signer {
	struct lab *lab;
	struct weft_remote_keys *keys;
	struct {
		uint64_t key;
		uint32_t serial;
		unsigned char digest[32];
	} asked[16];
	unsigned int asked_count, answered;
};

static int sign(void *context, uint64_t key, uint32_t serial, const void *digest, size_t size)
{
	struct signer *signer = context;

	assert_int_equal(size, 32);
	assert_true(signer->asked_count < WEFT_ARRAY_SIZE(signer->asked));
	signer->asked[signer->asked_count].key = key;
	signer->asked[signer->asked_count].serial = serial;
	memcpy(signer->asked[signer->asked_count++].digest, digest, 32);
	return 0;
}

static void signature_came(void *context, void *waiter)
{
	struct signer *signer = context;

	weft_hbone_ready(signer->lab->here.hbone, waiter);
}

static void answer(struct signer *signer)
{
	unsigned int at = signer->answered++;
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(signer->lab->leaf[signer->asked[at].key].key, NULL);
	unsigned char signature[128];
	size_t size = sizeof(signature);

	assert_int_equal(EVP_PKEY_sign_init(context), 1);
	assert_int_equal(EVP_PKEY_sign(context, signature, &size, signer->asked[at].digest, 32), 1);
	EVP_PKEY_CTX_free(context);
	weft_remote_signed(signer->keys, signer->asked[at].serial, 0, signature, size);
}

static void use_remote_key(struct lab *lab, struct signer *signer, struct side *side, uint64_t key)
{
	EVP_PKEY *own = lab->leaf[key].key, *remote;
	struct weft_err err = { 0 };

	assert_int_equal(weft_remote_key_new(signer->keys, key, lab->leaf[key].certificate, &remote, &err), 0);
	weft_hbone_free(side->hbone);
	weft_identity_unref(side->identity);
	lab->leaf[key].key = remote;
	side->identity = lab_identity(lab, key ? BOB : ALICE, &lab->leaf[key]);
	lab->leaf[key].key = own;
	EVP_PKEY_free(remote);
	lab_side(lab, side, signer->keys);
}

static void keys_elsewhere(void **state)
{
	struct signer signer = { .lab = *state };
	struct weft_remote_ops ops = { .sign = sign, .ready = signature_came, .context = &signer };
	struct weft_err err = { 0 };
	struct lab *lab = *state;
	struct seen seen, gone;
	int client, server, early;
	uint64_t until;

	lab->limits.handshake_ms = 60000;
	if (weft_remote_keys_new(&ops, &signer.keys, &err) == -ENOTSUP)
		skip();
	use_remote_key(lab, &signer, &lab->here, 0);
	use_remote_key(lab, &signer, &lab->there, 1);
	/* One whose application gives up while its handshake waits is in nobody's way. */
	early = lab_open(lab, &gone);
	LAB_UNTIL(lab, signer.asked_count == 1);
	lab_reset(early);
	LAB_UNTIL(lab, gone.ended);
	client = lab_open(lab, &seen);
	until = lab_ms() + 300;
	LAB_UNTIL(lab, lab_ms() > until);
	assert_int_equal(signer.asked_count, 1);
	assert_false(seen.opened || seen.ended);
	answer(&signer);
	LAB_UNTIL(lab, signer.asked_count == 2);
	answer(&signer);
	server = lab_accept(lab);
	lab_send(lab, client, "signed", 6);
	lab_expect(lab, server, "signed", 6);
	close(client);
	close(server);
	LAB_UNTIL(lab, seen.ended);
	assert_int_equal(seen.end, WEFT_HBONE_CLOSED);
	/* `keys` dies: what waits fails. */
	weft_hbone_drain(lab->here.hbone);
	lab->here.hbone = weft_hbone_free(lab->here.hbone);
	lab_side(lab, &lab->here, signer.keys);
	client = lab_open(lab, &seen);
	LAB_UNTIL(lab, signer.asked_count == 3);
	weft_remote_lost(signer.keys);
	lab_expect_reset(lab, client);
	LAB_UNTIL(lab, seen.ended);
	assert_int_equal(seen.end, WEFT_HBONE_UNREACHABLE);
	close(client);
	/* And an engine that ends while one waits. */
	client = lab_open(lab, &seen);
	LAB_UNTIL(lab, signer.asked_count == 4);
	lab->here.hbone = weft_hbone_free(lab->here.hbone);
	assert_true(seen.ended);
	lab->there.hbone = weft_hbone_free(lab->there.hbone);
	close(client);
	weft_identity_unref(lab->here.identity);
	weft_identity_unref(lab->there.identity);
	lab->here.identity = lab->there.identity = NULL;
	weft_remote_keys_free(signer.keys);
}

#ifdef __SANITIZE_ADDRESS__
#define HEAP_IS_OURS false
#else
#define HEAP_IS_OURS true
#endif

/* Both engines together, connections apart: the goal is 2 KiB. */
static void memory_of_a_stream_at_rest(void **state)
{
	enum { STREAMS = 90 };
	struct lab *lab = *state;
	struct seen *seen;
	int client[STREAMS + 1], server[STREAMS + 1];
	size_t before = 0, after;

	if (!HEAP_IS_OURS)
		skip();
	seen = calloc(STREAMS + 1, sizeof(*seen));
	for (int i = 0; i <= STREAMS; i++) {
		lab_join(lab, &seen[i], &client[i], &server[i]);
		lab_send(lab, client[i], "question", 8);
		lab_expect(lab, server[i], "question", 8);
		lab_send(lab, server[i], "answer", 6);
		lab_expect(lab, client[i], "answer", 6);
		/* The first has the connection's memory in it. */
		if (i == 0)
			before = mallinfo2().uordblks;
	}
	after = mallinfo2().uordblks;
	assert_int_equal(lab->agent.accepted, 1);
	/* `seen` of the other side is the test's own. */
	after -= STREAMS * sizeof(struct seen);
	printf("%zu bytes a stream\n", (after - before) / STREAMS);
	assert_true((after - before) / STREAMS <= 2048);
	for (int i = 0; i <= STREAMS; i++) {
		close(client[i]);
		close(server[i]);
	}
	LAB_UNTIL(lab, lab->here.ended == STREAMS + 1 && lab->there.ended == STREAMS + 1);
	free(seen);
}

/* With an argument, the tests that it matches. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(carries_bytes_and_headers, setup, teardown),
		cmocka_unit_test_setup_teardown(half_close, setup, teardown),
		cmocka_unit_test_setup_teardown(half_close_before_open, setup, teardown),
		cmocka_unit_test_setup_teardown(resets, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_after_half_close, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_before_open, setup, teardown),
		cmocka_unit_test_setup_teardown(refused, setup, teardown),
		cmocka_unit_test_setup_teardown(refused_often, setup, teardown),
		cmocka_unit_test_setup_teardown(bulk_without_another_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(application_that_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(unreachable, setup, teardown),
		cmocka_unit_test_setup_teardown(another_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(sockets_that_come_later, setup, teardown),
		cmocka_unit_test_setup_teardown(back_pressure, setup, teardown),
		cmocka_unit_test(budget),
		cmocka_unit_test_setup_teardown(held_bytes_outlive_their_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(many_open_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(one_write_a_wakeup, setup, teardown),
		cmocka_unit_test_setup_teardown(bulk_sits_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(renewed_certificate, setup, teardown),
		cmocka_unit_test_setup_teardown(cut, setup, teardown),
		cmocka_unit_test_setup_teardown(drain, setup, teardown),
		cmocka_unit_test_setup_teardown(goaway_that_overtakes, setup, teardown),
		cmocka_unit_test_setup_teardown(end_that_overtakes, setup, teardown),
		cmocka_unit_test_setup_teardown(agent_that_dies, setup, teardown),
		cmocka_unit_test(idle_connections_go),
		cmocka_unit_test(silence_is_noticed_and_pings_are_answered),
		cmocka_unit_test(unanswered_connect),
		cmocka_unit_test(stalled_handshakes),
		cmocka_unit_test(stalled_handshakes_push_out_their_like),
		cmocka_unit_test(cap_on_connections),
		cmocka_unit_test_setup_teardown(recheck, setup, teardown),
		cmocka_unit_test_setup_teardown(keys_elsewhere, setup, teardown),
		cmocka_unit_test_setup_teardown(memory_of_a_stream_at_rest, setup, teardown),
		cmocka_unit_test_setup_teardown(random_duplex, setup, teardown),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
