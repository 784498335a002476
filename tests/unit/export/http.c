/* SPDX-License-Identifier: Apache-2.0 */
/* The server on an abstract Unix socket: no network, and its peers see every byte. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "export/http.h"

struct fixture {
	struct sockaddr_un address;
	socklen_t address_size;
	int listener;
	struct weft_http *http;
	unsigned int wanted;
	bool at_once; /* answer from within wanted() */
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void answer(struct fixture *fixture, const char *sentence)
{
	struct weft_buf text = WEFT_BUF_INIT;

	assert_int_equal(weft_buf_printf(&text, "%s", sentence), 0);
	assert_int_equal(weft_http_answer(fixture->http, &text), 0);
	assert_null(text.data);
}

static void on_wanted(void *context)
{
	struct fixture *fixture = context;

	fixture->wanted++;
	if (fixture->at_once)
		answer(fixture, "weft_at_once 1\n");
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct weft_err err = { 0 };
	int blocking;

	assert_non_null(fixture);
	fixture->address.sun_family = AF_UNIX;
	fixture->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
					    (size_t)sprintf(fixture->address.sun_path + 1, "weft-unit-http-%d", (int)getpid()));
	fixture->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fixture->listener >= 0);
	assert_int_equal(bind(fixture->listener, (struct sockaddr *)&fixture->address, fixture->address_size), 0);
	assert_int_equal(listen(fixture->listener, 128), 0);
	assert_int_equal(weft_http_new(&(struct weft_http_options){ .fd = fixture->listener, .wanted = on_wanted, .context = fixture },
				       &fixture->http, &err), 0);
	blocking = fcntl(fixture->listener, F_GETFL);
	assert_true(blocking & O_NONBLOCK);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	fixture->http = weft_http_free(fixture->http);
	/* The descriptor stays the caller's. */
	assert_true(fcntl(fixture->listener, F_GETFD) >= 0);
	close(fixture->listener);
	free(fixture);
	return 0;
}

/* The caller's loop: run when the descriptor is readable or the timeout has passed. False: `limit_ms` went by without either. */
static bool turn(struct fixture *fixture, int limit_ms)
{
	struct pollfd poll_fd = { .fd = weft_http_fd(fixture->http), .events = POLLIN };
	int timeout = weft_http_timeout_ms(fixture->http);
	uint64_t before;
	bool due = timeout >= 0 && timeout <= limit_ms;

	if (!due)
		timeout = limit_ms;
	if (!poll(&poll_fd, 1, timeout) && !due)
		return false;
	before = now_ms();
	weft_http_run(fixture->http);
	assert_true(now_ms() - before < 1000); /* it must never block */
	return true;
}

static int dial(struct fixture *fixture)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&fixture->address, fixture->address_size), 0);
	return fd;
}

static int ask(struct fixture *fixture, const char *request)
{
	int fd = dial(fixture);

	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
	return fd;
}

/* Turns the loop until the peer has hung up; what it said is in `reply`. */
static void drain(struct fixture *fixture, int fd, struct weft_buf *reply)
{
	uint64_t deadline = now_ms() + 20000;
	char data[4096];

	weft_buf_clear(reply);
	while (now_ms() < deadline) {
		ssize_t size = recv(fd, data, sizeof(data), 0);

		if (size > 0) {
			assert_int_equal(weft_buf_add(reply, data, (size_t)size), 0);
			continue;
		}
		if (size == 0 || errno != EAGAIN) {
			close(fd);
			assert_int_equal(weft_buf_add(reply, "", 0), 0);
			return;
		}
		turn(fixture, 100);
	}
	fail_msg("no end of the answer: %s", reply->data ? reply->data : "");
}

static void turn_until_wanted(struct fixture *fixture, unsigned int wanted)
{
	uint64_t deadline = now_ms() + 10000;

	while (fixture->wanted < wanted && now_ms() < deadline)
		turn(fixture, 100);
	assert_int_equal(fixture->wanted, wanted);
}

static void test_answers_later(void **state)
{
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT;
	int fd = ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	char byte;

	turn_until_wanted(fixture, 1);
	while (turn(fixture, 50))
		;
	assert_int_equal(recv(fd, &byte, 1, 0), -1); /* nothing before there is an answer */
	answer(fixture, "weft_later 7\n");
	drain(fixture, fd, &reply);
	assert_non_null(strstr(reply.data, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(reply.data, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	assert_non_null(strstr(reply.data, "Content-Length: 13\r\n"));
	assert_string_equal(strstr(reply.data, "\r\n\r\n"), "\r\n\r\nweft_later 7\n");
	assert_int_equal(weft_http_timeout_ms(fixture->http), -1); /* idle costs nothing */
}

static void test_answers_at_once_and_again(void **state)
{
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT;
	int fd;

	fixture->at_once = true;
	fd = ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
			  "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	drain(fixture, fd, &reply);
	assert_int_equal(fixture->wanted, 2); /* kept alive, asked anew */
	assert_non_null(strstr(strstr(reply.data, "weft_at_once 1\n") + 1, "weft_at_once 1\n"));
}

static void test_one_answer_serves_all(void **state)
{
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT;
	int fds[10];

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(fds); i++)
		fds[i] = ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	turn_until_wanted(fixture, 1);
	while (turn(fixture, 50))
		;
	assert_int_equal(fixture->wanted, 1);
	answer(fixture, "weft_all 1\n");
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(fds); i++) {
		drain(fixture, fds[i], &reply);
		assert_non_null(strstr(reply.data, "\r\n\r\nweft_all 1\n"));
	}
	answer(fixture, "nobody waits for this\n");
}

static void test_says_no(void **state)
{
	static const struct {
		const char *request, *status, *rest;
	} cases[] = {
		{ "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404", "/metrics and /healthz" },
		{ "GET /metricss HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404", "/metrics and /healthz" },
		{ "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", "405", "Allow: GET, HEAD\r\n" },
		{ "DELETE /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "405", "Allow: GET, HEAD\r\n" },
		{ "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200", "\r\n\r\nok\n" },
	};
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(cases); i++) {
		drain(fixture, ask(fixture, cases[i].request), &reply);
		assert_memory_equal(reply.data, "HTTP/1.1 ", 9);
		assert_memory_equal(reply.data + 9, cases[i].status, 3);
		assert_non_null(strstr(reply.data, cases[i].rest));
	}
	assert_int_equal(fixture->wanted, 0);
}

static void test_head_has_no_body(void **state)
{
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT;

	fixture->at_once = true;
	drain(fixture, ask(fixture, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), &reply);
	assert_non_null(strstr(reply.data, "Content-Length: 15\r\n"));
	assert_string_equal(strstr(reply.data, "\r\n\r\n"), "\r\n\r\n");
}

static void test_failure_is_503(void **state)
{
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT;
	int fd = ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");

	turn_until_wanted(fixture, 1);
	weft_http_fail(fixture->http, "main is away");
	drain(fixture, fd, &reply);
	assert_non_null(strstr(reply.data, "HTTP/1.1 503 "));
	assert_non_null(strstr(reply.data, "\r\n\r\nmain is away\n"));
	weft_http_fail(fixture->http, "nobody waits for this");
}

/* Whoever should answer is gone: the client hears of it, and the next one asks again. */
static void test_no_answer_in_time(void **state)
{
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT;
	uint64_t before = now_ms();
	int fd = ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	int timeout;

	turn_until_wanted(fixture, 1);
	timeout = weft_http_timeout_ms(fixture->http);
	assert_true(timeout >= 0 && timeout <= WEFT_HTTP_ANSWER_MS);
	drain(fixture, fd, &reply);
	assert_true(now_ms() - before >= WEFT_HTTP_ANSWER_MS - 100);
	assert_non_null(strstr(reply.data, "HTTP/1.1 503 "));
	fd = ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	turn_until_wanted(fixture, 2);
	answer(fixture, "weft_back 1\n");
	drain(fixture, fd, &reply);
	assert_non_null(strstr(reply.data, "weft_back 1\n"));
}

/* Scrapers that send half a request, or ask for a large text and never read it, take places; others still get theirs. */
static void test_slow_clients(void **state)
{
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT, text = WEFT_BUF_INIT;
	int half[20], deaf[20];

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(half); i++) {
		half[i] = ask(fixture, "GET /metr");
		deaf[i] = ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
	}
	turn_until_wanted(fixture, 1);
	while (turn(fixture, 50))
		;
	assert_int_equal(weft_buf_reserve(&text, 8 << 20, NULL), 0);
	memset(text.data, 'x', text.size);
	assert_int_equal(weft_http_answer(fixture->http, &text), 0);
	fixture->at_once = true;
	for (size_t i = 0; i < 20; i++) {
		drain(fixture, ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), &reply);
		assert_non_null(strstr(reply.data, "weft_at_once 1\n"));
	}
	/* Nobody of them is served twice or kept for ever: the server hangs up by itself. */
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(half); i++) {
		drain(fixture, half[i], &reply);
		assert_null(strstr(reply.data, "200 OK"));
		close(deaf[i]);
	}
}

/* More clients than places: the rest waits in the backlog and is served once places are free. */
static void test_too_many(void **state)
{
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT;
	int idle[WEFT_HTTP_CONNECTIONS], fd;
	char byte;

	fixture->at_once = true;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(idle); i++)
		idle[i] = ask(fixture, "GET /me");
	while (turn(fixture, 50))
		;
	fd = ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	while (turn(fixture, 50))
		;
	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(idle); i++)
		close(idle[i]);
	drain(fixture, fd, &reply);
	assert_non_null(strstr(reply.data, "weft_at_once 1\n"));
}

/* The teardown frees the server while these two wait. */
static void test_freed_while_waiting(void **state)
{
	struct fixture *fixture = *state;
	int gone = ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");

	ask(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
	turn_until_wanted(fixture, 1);
	while (turn(fixture, 50))
		;
	close(gone);
}

static void test_huge_request(void **state)
{
	struct fixture *fixture = *state;
	weft_buf_done_on_exit struct weft_buf reply = WEFT_BUF_INIT, request = WEFT_BUF_INIT;
	size_t at;
	int fd = dial(fixture);

	assert_int_equal(weft_buf_printf(&request, "GET /metrics?"), 0);
	assert_int_equal(weft_buf_reserve(&request, 2 * WEFT_HTTP_MEMORY, &at), 0);
	memset(request.data + at, 'a', 2 * WEFT_HTTP_MEMORY);
	assert_int_equal(send(fd, request.data, request.size, MSG_NOSIGNAL), (ssize_t)request.size);
	drain(fixture, fd, &reply);
	assert_null(strstr(reply.data, "200 OK"));
	assert_int_equal(fixture->wanted, 0);
}

static void test_refuses_what_is_no_listener(void **state)
{
	struct weft_http *http = NULL;
	struct weft_err err = { 0 };

	(void)state;
	assert_int_equal(weft_http_new(&(struct weft_http_options){ .fd = -1, .wanted = on_wanted }, &http, &err), -EBADF);
	assert_null(http);
	assert_string_not_equal(err.text, "");
	assert_null(weft_http_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_answers_later),
		TEST(test_answers_at_once_and_again),
		TEST(test_one_answer_serves_all),
		TEST(test_says_no),
		TEST(test_head_has_no_body),
		TEST(test_failure_is_503),
		TEST(test_no_answer_in_time),
		TEST(test_slow_clients),
		TEST(test_too_many),
		TEST(test_freed_while_waiting),
		TEST(test_huge_request),
		cmocka_unit_test(test_refuses_what_is_no_listener),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
