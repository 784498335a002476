/* SPDX-License-Identifier: Apache-2.0 */
/* Server and client in one process: the server's loop runs in a thread, the test is the client. */
#include "lib/check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "ctl/client.h"
#include "ctl/server.h"

struct fixture {
	char run[64];
	int listener;
	int command; /* eventfd: 1 publishes, 1000 ends */
	pthread_t thread;
	sd_event *loop;
	struct weft_server *server;
	atomic_uint requests;
	atomic_uint watchers;
	atomic_ullong lost;
	char records[65536];
};

static void on_request(void *context, struct weft_server_client *client, struct json_object *request)
{
	const char *name = json_object_get_string(json_object_object_get(request, "request"));
	struct fixture *f = context;

	f->requests++;
	if (strcmp(name, "echo") == 0) {
		struct json_object *answer = json_object_new_object();

		json_object_object_add(answer, "text", json_object_get(json_object_object_get(request, "text")));
		weft_server_reply(client, answer);
	} else if (strcmp(name, "large") == 0) {
		struct json_object *answer = json_object_new_object();
		char *text = malloc(8u << 20);

		assert_non_null(text);
		memset(text, 'x', 8u << 20);
		json_object_object_add(answer, "text", json_object_new_string_len(text, 8 << 20));
		free(text);
		weft_server_reply(client, answer);
	} else if (strcmp(name, "watch") == 0) {
		weft_server_watch(client);
	} else {
		weft_server_refuse(client, "no request %s", name);
	}
}

static void on_watchers(void *context, unsigned int count)
{
	((struct fixture *)context)->watchers = count;
}

static int on_command(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct fixture *f = context;
	eventfd_t value;

	(void)source;
	(void)revents;
	assert_int_equal(eventfd_read(fd, &value), 0);
	if (value >= 1000)
		return sd_event_exit(f->loop, 0);
	for (eventfd_t i = 0; i < value; i++)
		weft_server_publish(f->server, f->records, 2, 1);
	f->lost = weft_server_lost(f->server);
	return 0;
}

static void *serve(void *context)
{
	sd_event_loop(((struct fixture *)context)->loop);
	return NULL;
}

static int set_up(void **state)
{
	struct weft_server_handler handler = { .request = on_request, .watchers = on_watchers };
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->run, "/tmp/weft-server-XXXXXX");
	assert_non_null(mkdtemp(f->run));
	snprintf(name.sun_path, sizeof(name.sun_path), "%s/weft.sock", f->run);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(f->listener, 128), 0);
	f->command = eventfd(0, EFD_CLOEXEC);
	strcpy(f->records, "[1,2]");
	handler.context = f;
	assert_true(sd_event_new(&f->loop) >= 0);
	assert_int_equal(weft_server_new(f->loop, f->listener, &handler, &f->server), 0);
	assert_true(sd_event_add_io(f->loop, NULL, f->command, EPOLLIN, on_command, f) >= 0);
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char path[96];

	eventfd_write(f->command, 1000);
	pthread_join(f->thread, NULL);
	weft_server_free(f->server);
	sd_event_unref(f->loop);
	close(f->listener);
	close(f->command);
	snprintf(path, sizeof(path), "%s/weft.sock", f->run);
	unlink(path);
	rmdir(f->run);
	free(f);
	return 0;
}

static struct weft_client *connect_to(struct fixture *f)
{
	struct weft_client *client = NULL;
	struct weft_err err;

	assert_int_equal(weft_client_open(f->run, &client, &err), 0);
	return client;
}

static void send_text(struct weft_client *client, const char *text, size_t size)
{
	while (size) {
		ssize_t put = send(weft_client_fd(client), text, size, MSG_NOSIGNAL);

		if (put < 0)
			return; /* the server has said its piece and hung up */
		text += put;
		size -= (size_t)put;
	}
}

static void expect_refusal(struct weft_client *client, const char *line, const char *said)
{
	weft_json_on_exit struct json_object *answer = NULL;
	struct weft_err err;

	send_text(client, line, strlen(line));
	send_text(client, "\n", 1);
	assert_int_equal(weft_client_next(client, 5000, &answer, &err), 0);
	assert_false(json_object_get_boolean(json_object_object_get(answer, "ok")));
	assert_contains(json_object_get_string(json_object_object_get(answer, "error")), said);
}

static void expect_echo(struct weft_client *client, const char *text)
{
	weft_json_on_exit struct json_object *request = json_object_new_object(), *answer = NULL;
	struct weft_err err = { "" };

	json_object_object_add(request, "request", json_object_new_string("echo"));
	json_object_object_add(request, "text", json_object_new_string(text));
	assert_int_equal(weft_client_call(client, request, &answer, &err), 0);
	assert_string_equal(json_object_get_string(json_object_object_get(answer, "text")), text);
}

static void wait_for(atomic_uint *value, unsigned int wanted)
{
	for (int i = 0; *value != wanted; i++) {
		assert_true(i < 5000);
		poll(NULL, 0, 1);
	}
}

static void test_garbage(void **state)
{
	struct fixture *f = *state;
	weft_cleanup(weft_client_closep) struct weft_client *client = connect_to(f);

	expect_refusal(client, "", "not one JSON object");
	expect_refusal(client, "garbage", "not one JSON object");
	expect_refusal(client, "{\"request\": \"echo\"", "not one JSON object");
	expect_refusal(client, "{\"request\": \"echo\"} {}", "not one JSON object");
	expect_refusal(client, "[]", "not a JSON object");
	expect_refusal(client, "{\"request\": \"\xff\"}", "not one JSON object");
	expect_refusal(client, "{\"a\": 1}", "lacks the string `request`");
	expect_refusal(client, "{\"request\": 1}", "lacks the string `request`");
	expect_refusal(client, "{\"request\": \"echo\", \"text\": [[[[[[[[[1]]]]]]]]]}", "nested deeper than 8");
	assert_int_equal(f->requests, 0);
	expect_refusal(client, "{\"request\": \"nonsense\"}", "no request nonsense");
	expect_echo(client, "still here");
}

static void test_longest_line(void **state)
{
	static const char begin[] = "{\"request\":\"echo\",\"text\":\"", end[] = "\"}\n";
	weft_cleanup(weft_buf_done) struct weft_buf line = WEFT_BUF_INIT;
	weft_json_on_exit struct json_object *answer = NULL;
	weft_cleanup(weft_client_closep) struct weft_client *client = connect_to(*state);
	size_t middle = WEFT_SERVER_MAX_LINE - strlen(begin) - strlen(end);
	struct weft_err err;

	weft_buf_add(&line, begin, strlen(begin));
	for (size_t i = 0; i < middle; i++)
		weft_buf_add(&line, "y", 1);
	weft_buf_add(&line, end, strlen(end));
	assert_int_equal(line.size, WEFT_SERVER_MAX_LINE);
	send_text(client, line.data, line.size);
	assert_int_equal(weft_client_next(client, 5000, &answer, &err), 0);
	assert_int_equal(json_object_get_string_len(json_object_object_get(answer, "text")), middle);
}

static void test_line_one_too_long(void **state)
{
	struct fixture *f = *state;
	weft_json_on_exit struct json_object *answer = NULL, *more = NULL;
	weft_cleanup(weft_client_closep) struct weft_client *client = connect_to(f);
	weft_free_on_exit char *line = malloc(WEFT_SERVER_MAX_LINE + 1);
	struct weft_err err;

	memset(line, ' ', WEFT_SERVER_MAX_LINE + 1);
	line[WEFT_SERVER_MAX_LINE] = '\n';
	send_text(client, line, WEFT_SERVER_MAX_LINE + 1);
	assert_int_equal(weft_client_next(client, 5000, &answer, &err), 0);
	assert_contains(json_object_get_string(json_object_object_get(answer, "error")), "longer than 64 KiB");
	assert_int_equal(weft_client_next(client, 5000, &more, &err), -ECONNRESET);
	assert_int_equal(f->requests, 0);
}

static void test_byte_by_byte_and_pipelined(void **state)
{
	static const char two[] = "{\"request\":\"echo\",\"text\":\"a\"}\n{\"request\":\"echo\",\"text\":\"b\"}\n";
	weft_cleanup(weft_client_closep) struct weft_client *client = connect_to(*state);
	const char *const expected[] = { "a", "b", "a", "b" };
	struct weft_err err;

	for (size_t i = 0; i < strlen(two); i++)
		send_text(client, two + i, 1);
	send_text(client, two, strlen(two));
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(expected); i++) {
		weft_json_on_exit struct json_object *answer = NULL;

		assert_int_equal(weft_client_next(client, 5000, &answer, &err), 0);
		assert_string_equal(json_object_get_string(json_object_object_get(answer, "text")), expected[i]);
	}
}

static void test_many_clients(void **state)
{
	struct weft_client *clients[WEFT_SERVER_MAX_CLIENTS + 1];
	weft_json_on_exit struct json_object *answer = NULL;
	static const char line[] = "{\"request\":\"echo\",\"text\":\"last\"}\n";
	struct weft_err err;

	for (int i = 0; i < WEFT_SERVER_MAX_CLIENTS; i++) {
		clients[i] = connect_to(*state);
		expect_echo(clients[i], "one of many");
	}
	/* One more waits in the backlog until a place is free, and is then served. */
	clients[WEFT_SERVER_MAX_CLIENTS] = connect_to(*state);
	send_text(clients[WEFT_SERVER_MAX_CLIENTS], line, strlen(line));
	assert_int_equal(weft_client_next(clients[WEFT_SERVER_MAX_CLIENTS], 200, &answer, &err), -ETIMEDOUT);
	weft_client_close(clients[0]);
	assert_int_equal(weft_client_next(clients[WEFT_SERVER_MAX_CLIENTS], 5000, &answer, &err), 0);
	assert_string_equal(json_object_get_string(json_object_object_get(answer, "text")), "last");
	for (int i = 1; i <= WEFT_SERVER_MAX_CLIENTS; i++)
		weft_client_close(clients[i]);
}

/* Who does not read its large answer is not read from either, and hinders nobody. */
static void test_unread_answer(void **state)
{
	struct fixture *f = *state;
	weft_cleanup(weft_client_closep) struct weft_client *slow = connect_to(f), *other = connect_to(f);
	static const char large[] = "{\"request\":\"large\"}\n{\"request\":\"large\"}\n";
	struct weft_err err = { "" };

	send_text(slow, large, strlen(large));
	wait_for(&f->requests, 1);
	expect_echo(other, "unhindered");
	assert_int_equal(f->requests, 2); /* the second large one waits for the first to be read */
	for (int i = 0; i < 2; i++) {
		weft_json_on_exit struct json_object *answer = NULL;

		assert_int_equal(weft_client_next(slow, 10000, &answer, &err), 0);
		assert_int_equal(json_object_get_string_len(json_object_object_get(answer, "text")), 8 << 20);
	}
	assert_int_equal(f->requests, 3);
}

static void test_watch(void **state)
{
	struct fixture *f = *state;
	struct weft_client *client = connect_to(f);
	weft_json_on_exit struct json_object *answer = NULL, *line = NULL;
	struct weft_err err = { "" };

	assert_int_equal(weft_client_ask(client, "watch", &answer, &err), 0);
	assert_int_equal(f->watchers, 1);
	assert_int_equal(weft_client_next(client, 0, &line, &err), -ETIMEDOUT);
	eventfd_write(f->command, 1);
	assert_int_equal(weft_client_next(client, 5000, &line, &err), 0);
	assert_int_equal(json_object_get_int(json_object_object_get(line, "lost")), 1);
	assert_int_equal(json_object_array_length(json_object_object_get(line, "events")), 2);
	weft_client_close(client);
	wait_for(&f->watchers, 0);
}

/* Every record is either read or counted as lost by the watcher itself. */
static void test_slow_watcher(void **state)
{
	struct fixture *f = *state;
	weft_cleanup(weft_client_closep) struct weft_client *client = connect_to(f);
	weft_json_on_exit struct json_object *answer = NULL;
	uint64_t seen = 0, told_lost = 0, published = 0;
	struct weft_err err = { "" };

	assert_int_equal(weft_client_ask(client, "watch", &answer, &err), 0);
	memset(f->records, ' ', sizeof(f->records));
	memcpy(f->records, "[1,", 3);
	strcpy(f->records + sizeof(f->records) - 3, "2]");
	for (int i = 0; f->lost == 0; i++) { /* until what may be queued is full */
		assert_true(i < 1000);
		eventfd_write(f->command, 1);
		published++;
		poll(NULL, 0, 1);
	}
	while (seen + told_lost < 3 * published) {
		weft_json_on_exit struct json_object *line = NULL;
		int r = weft_client_next(client, 200, &line, &err);

		if (r == -ETIMEDOUT) { /* all that was queued is read: the next line tells what was lost */
			eventfd_write(f->command, 1);
			published++;
			continue;
		}
		assert_int_equal(r, 0);
		seen += json_object_array_length(json_object_object_get(line, "events"));
		told_lost += json_object_get_uint64(json_object_object_get(line, "lost"));
	}
	assert_int_equal(seen + told_lost, 3 * published); /* two records and one lost on the way, each time */
	assert_true(f->lost > 0);
	assert_int_equal(told_lost, f->lost + published);
}

static void test_nobody_answers(void **state)
{
	struct weft_client *client = NULL;
	struct weft_err err;

	(void)state;
	assert_int_equal(weft_client_open("/tmp/weft-there-is-no-such-folder", &client, &err), -ENOENT);
	assert_contains(err.text, "no agent answers on /tmp/weft-there-is-no-such-folder/weft.sock");
	assert_contains(err.text, "shown without it");
	assert_null(client);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_garbage),	   TEST(test_longest_line), TEST(test_line_one_too_long),
		TEST(test_byte_by_byte_and_pipelined), TEST(test_many_clients), TEST(test_unread_answer),
		TEST(test_watch),	   TEST(test_slow_watcher),  TEST(test_nobody_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
