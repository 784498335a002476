/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that somebody waits for and answers that nobody waits for, on one socket; the test is main. */
#include "lib/check.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/link.h"
#include "base/cleanup.h"
#include "ctl/role.h"

struct seen {
	char order[100];
	size_t bytes;
	uint64_t records;
};

struct fixture {
	struct weft_link link;
	struct seen seen;
	int main;
};

static void on_records(void *context, const struct weft_event *records, size_t count, uint64_t lost)
{
	struct seen *seen = context;

	(void)records;
	seen->records += count + lost;
}

static void on_flush(void *context, int r, const struct weft_link_bulk *bulk)
{
	struct seen *seen = context;

	assert_int_equal(bulk->size, 0);
	strcat(seen->order, r == 0 ? "flush " : "failed ");
}

static void on_read(void *context, int r, const struct weft_link_bulk *bulk)
{
	struct seen *seen = context;

	assert_int_equal(r, 0);
	strcat(seen->order, "read ");
	seen->bytes = bulk->size;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2];

	if (!f || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	f->link = (struct weft_link){ .sock = pair[0], .records = on_records, .context = &f->seen };
	f->main = pair[1];
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	if (f->link.sock >= 0)
		close(f->link.sock);
	close(f->main);
	free(f);
	return 0;
}

static int ask(struct fixture *f, enum weft_role_message_type type, weft_link_answered *answered)
{
	struct weft_role_message request = weft_role_message(type, 0);
	struct weft_err err;

	if (type == WEFT_ROLE_READ)
		request.arg[0] = 1;
	return weft_link_ask(&f->link, &request, answered, &err);
}

static void answer(struct fixture *f, enum weft_role_message_type type, __u32 serial, int error, const char *bulk)
{
	struct weft_role_message message = weft_role_message(type, serial);

	message.error = error;
	assert_int_equal(weft_role_send(f->main, &message, bulk, strlen(bulk), 0), 0);
}

/* A call in between waits for its own answer and lets the others find theirs. */
static void test_waiting_and_not_waiting(void **state)
{
	struct fixture *f = *state;
	struct weft_role_message request = weft_role_message(WEFT_ROLE_SETTING, 0), got;
	struct weft_err err = { "" };

	assert_int_equal(weft_link_age_ns(&f->link), 0);
	assert_int_equal(ask(f, WEFT_ROLE_FLUSH, on_flush), 0);
	assert_int_equal(ask(f, WEFT_ROLE_READ, on_read), 0);
	assert_true(weft_link_age_ns(&f->link) > 0);
	answer(f, WEFT_ROLE_RESULT, 1, 0, "");
	answer(f, WEFT_ROLE_DATA, 2, 0, "12345678");
	answer(f, WEFT_ROLE_RESULT, 3, -ENOENT, "");
	assert_int_equal(weft_link_call(&f->link, &request, NULL, 0, &got, NULL, &err), -ENOENT);
	assert_contains(err.text, "SETTING");
	assert_string_equal(f->seen.order, "flush read ");
	assert_int_equal(f->seen.bytes, 8);
	assert_int_equal(weft_link_age_ns(&f->link), 0);
	assert_true(f->link.sock >= 0);
}

static void test_answers_by_themselves(void **state)
{
	struct weft_role_message events = weft_role_message(WEFT_ROLE_EVENTS, 0);
	struct fixture *f = *state;
	struct weft_err err;

	assert_int_equal(ask(f, WEFT_ROLE_LOG_LEVEL, NULL), 0);
	assert_int_equal(ask(f, WEFT_ROLE_FLUSH, on_flush), 0);
	assert_int_equal(weft_link_receive(&f->link, &err), 0);
	assert_string_equal(f->seen.order, "");
	events.arg[0] = 7;
	assert_int_equal(weft_role_send(f->main, &events, NULL, 0, 0), 0);
	answer(f, WEFT_ROLE_RESULT, 1, 0, "");
	answer(f, WEFT_ROLE_RESULT, 2, -EIO, "");
	for (int i = 0; i < 3; i++)
		assert_int_equal(weft_link_receive(&f->link, &err), 0);
	assert_string_equal(f->seen.order, "failed ");
	assert_int_equal(f->seen.records, 7);
}

static void test_rubbish(void **state)
{
	struct fixture *f = *state;
	struct weft_err err;

	assert_int_equal(ask(f, WEFT_ROLE_FLUSH, on_flush), 0);
	assert_int_equal(ask(f, WEFT_ROLE_FLUSH, on_flush), 0);
	answer(f, WEFT_ROLE_RESULT, 2, 0, ""); /* the second before the first */
	assert_int_equal(weft_link_receive(&f->link, &err), -EBADMSG);
	assert_int_equal(f->link.sock, -1);
	assert_int_equal(weft_link_age_ns(&f->link), 0);
	assert_string_equal(f->seen.order, "");
	assert_int_equal(ask(f, WEFT_ROLE_FLUSH, on_flush), -ENOTCONN);
}

static void test_full_and_gone(void **state)
{
	struct fixture *f = *state;
	struct weft_err err;

	for (int i = 0; i < WEFT_LINK_MAX_ASKED; i++)
		assert_int_equal(ask(f, WEFT_ROLE_FLUSH, on_flush), 0);
	assert_int_equal(ask(f, WEFT_ROLE_FLUSH, on_flush), -EBUSY);
	answer(f, WEFT_ROLE_RESULT, 1, 0, "");
	assert_int_equal(weft_link_receive(&f->link, &err), 0);
	assert_int_equal(ask(f, WEFT_ROLE_FLUSH, on_flush), 0);
	shutdown(f->main, SHUT_RDWR);
	assert_int_equal(weft_link_receive(&f->link, &err), -ECONNRESET);
	assert_int_equal(f->link.sock, -1);
	assert_int_equal(f->link.asked_count, 0);
	assert_string_equal(f->seen.order, "flush ");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_waiting_and_not_waiting),
		TEST(test_answers_by_themselves),
		TEST(test_rubbish),
		TEST(test_full_and_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
