/* SPDX-License-Identifier: Apache-2.0 */
/* The client against an agent that does not keep to the protocol: here the test is the agent. */
#include "lib/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl/client.h"

struct fixture {
	char run[32], path[64];
	int listener, agent; /* the agent's end of the client's connection */
	struct weft_client *client;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct weft_err err = { "" };

	strcpy(f->run, "/tmp/weft-unit-client-XXXXXX");
	assert_non_null(mkdtemp(f->run));
	snprintf(f->path, sizeof(f->path), "%s/weft.sock", f->run);
	strcpy(name.sun_path, f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(f->listener, 1), 0);
	assert_int_equal(weft_client_open(f->run, &f->client, &err), 0);
	f->agent = accept(f->listener, NULL, NULL);
	assert_true(f->agent >= 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	weft_client_close(f->client);
	weft_closep(&f->agent);
	close(f->listener);
	unlink(f->path);
	rmdir(f->run);
	free(f);
	return 0;
}

static void say(struct fixture *f, const char *text)
{
	assert_int_equal(send(f->agent, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void hang_up(struct fixture *f)
{
	close(f->agent);
	f->agent = -1;
}

static void an_answer_without_ok_is_none(void **state)
{
	static const char *const answers[] = { "{}\n", "{\"ok\":1}\n", "{\"ok\":\"true\"}\n", "[]\n", "true\n", "\n",
						 "{\"ok\":true} {}\n", "{\"ok\":true\n" };
	struct fixture *f = *state;
	struct weft_err err;
	struct json_object *answer = NULL;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(answers); i++) {
		err.text[0] = '\0';
		say(f, answers[i]);
		if (weft_client_ask(f->client, "status", &answer, &err) != -EBADMSG)
			fail_msg("taken: %s", answers[i]);
		assert_non_null(strstr(err.text, f->path));
		assert_null(answer);
	}
	/* A line that was refused is gone: the next answer is read from its beginning. */
	say(f, "{\"ok\":true,\"n\":1}\n");
	assert_int_equal(weft_client_ask(f->client, "status", &answer, &err), 0);
	assert_int_equal(json_object_get_int(json_object_object_get(answer, "n")), 1);
	json_object_put(answer);
}

static void a_refusal_gives_its_reason_or_says_there_is_none(void **state)
{
	struct fixture *f = *state;
	struct json_object *answer = NULL;
	struct weft_err err = { "" };

	say(f, "{\"ok\":false,\"error\":\"main is away\"}\n{\"ok\":false}\n{\"ok\":false,\"error\":\"\"}\n{\"ok\":false,\"error\":null}\n"
	       "{\"ok\":false,\"error\":\"\\u0000\"}\n");
	assert_int_equal(weft_client_ask(f->client, "status", &answer, &err), -EREMOTEIO);
	assert_string_equal(err.text, "main is away");
	for (int i = 0; i < 4; i++) {
		assert_int_equal(weft_client_ask(f->client, "status", &answer, &err), -EREMOTEIO);
		assert_non_null(strstr(err.text, "without saying why"));
	}
	assert_null(answer);
}

static void a_refusal_is_read_though_the_agent_has_hung_up(void **state)
{
	struct fixture *f = *state;
	struct json_object *answer = NULL;
	struct weft_err err = { "" };

	say(f, "{\"ok\":false,\"error\":\"too many clients\"}\n");
	hang_up(f);
	assert_int_equal(weft_client_ask(f->client, "status", &answer, &err), -EREMOTEIO);
	assert_string_equal(err.text, "too many clients");
	assert_int_equal(weft_client_ask(f->client, "status", &answer, &err), -ECONNRESET);
	assert_non_null(strstr(err.text, "hung up"));
}

static void half_a_line_waits_and_stays(void **state)
{
	struct fixture *f = *state;
	struct json_object *line = NULL;
	struct weft_err err = { "" };

	say(f, "{\"eve");
	assert_int_equal(weft_client_next(f->client, 0, &line, &err), -ETIMEDOUT);
	assert_int_equal(weft_client_next(f->client, 20, &line, &err), -ETIMEDOUT);
	assert_null(line);
	say(f, "nts\":[]}\n");
	assert_int_equal(weft_client_next(f->client, -1, &line, &err), 0);
	assert_non_null(json_object_object_get(line, "events"));
	json_object_put(line);
	line = NULL;
	say(f, "{\"lost");
	hang_up(f);
	assert_int_equal(weft_client_next(f->client, -1, &line, &err), -ECONNRESET);
	assert_null(line);
}

static void a_folder_too_long_for_a_socket_is_said(void **state)
{
	struct weft_client *client = NULL;
	struct weft_err err = { "" };
	char run[200];

	(void)state;
	memset(run, 'r', sizeof(run) - 1);
	run[sizeof(run) - 1] = '\0';
	assert_int_equal(weft_client_open(run, &client, &err), -ENAMETOOLONG);
	assert_non_null(strstr(err.text, "107 bytes"));
	assert_null(client);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_answer_without_ok_is_none),
		TEST(a_refusal_gives_its_reason_or_says_there_is_none),
		TEST(a_refusal_is_read_though_the_agent_has_hung_up),
		TEST(half_a_line_waits_and_stays),
		cmocka_unit_test(a_folder_too_long_for_a_socket_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
