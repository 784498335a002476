/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ctl/keys.h"

#define ID "spiffe://cluster.local/ns/shop/sa/cart"

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

static void test_round_trips(void **state)
{
	int *sockets = *state;
	struct weft_keys_message sent = weft_keys_message(WEFT_KEYS_SIGN, 7), got;
	weft_close_on_exit int fd = -1;
	const void *data;
	const char *text;
	struct weft_err err = { "" };

	sent.key = 1ull << 60;
	sent.data_size = 32;
	memset(sent.data, 0xab, 32);
	assert_int_equal(weft_keys_send(sockets[0], &sent, NULL, 0, 0), 0);
	assert_int_equal(weft_keys_receive(sockets[1], WEFT_KEYS_FROM_PROXY, 0, &got, &fd, &err), 0);
	assert_memory_equal(&got, &sent, sizeof(got));
	assert_int_equal(fd, -1);

	sent = weft_keys_message(WEFT_KEYS_GONE, 0);
	assert_int_equal(weft_keys_send(sockets[1], &sent, ID, sizeof(ID), 0), 0);
	assert_int_equal(weft_keys_receive(sockets[0], WEFT_KEYS_TO_PROXY, 0, &got, &fd, &err), 0);
	assert_int_equal(weft_memfd_map(fd, got.bytes, &data), 0);
	assert_int_equal(weft_keys_text_open(data, got.bytes, &text, &err), 0);
	assert_string_equal(text, ID);
	munmap((void *)data, got.bytes);

	assert_int_equal(weft_keys_receive(sockets[0], WEFT_KEYS_TO_PROXY, 0, &got, &fd, &err), -EAGAIN);
	shutdown(sockets[1], SHUT_RDWR);
	assert_int_equal(weft_keys_receive(sockets[0], WEFT_KEYS_TO_PROXY, 0, &got, &fd, &err), -ECONNRESET);
}

static void refused(const struct weft_keys_message *message, enum weft_keys_way way, bool with_fd, const char *needle)
{
	struct weft_keys_message got;
	struct weft_err err = { "" };

	if (weft_keys_check(message, sizeof(*message), with_fd, way, &got, &err) != -EBADMSG)
		fail_msg("taken, though `%s`", needle);
	assert_contains(err.text, needle);
}

static void test_refused(void **state)
{
	static const struct {
		enum weft_keys_message_type type;
		enum weft_keys_way way;
		struct weft_keys_message with; /* members that are not zero are put in */
		bool fd;
		const char *needle;
	} rows[] = {
		{ WEFT_KEYS_WANT, WEFT_KEYS_FROM_PROXY, { .bytes = 300 }, true, "WANT came from a proxy, which never sends it" },
		{ WEFT_KEYS_SIGN, WEFT_KEYS_FROM_CONTROL, { .data_size = 32, .key = 1 }, false, "SIGN came from control" },
		{ WEFT_KEYS_STATE, WEFT_KEYS_TO_PROXY, { .key = 0 }, false, "STATE came from keys to a proxy" },
		{ WEFT_KEYS_SIGNED, WEFT_KEYS_TO_CONTROL, { .data_size = 70 }, false, "SIGNED came from keys to control" },
		{ WEFT_KEYS_WANT, WEFT_KEYS_FROM_CONTROL, { .bytes = 300 }, false, "comes without a descriptor" },
		{ WEFT_KEYS_SIGN, WEFT_KEYS_FROM_PROXY, { .data_size = 32, .key = 1 }, true, "comes with a descriptor" },
		{ WEFT_KEYS_SIGN, WEFT_KEYS_FROM_PROXY, { .data_size = 32, .key = 1, .bytes = 9 }, true, "SIGN with 9 bytes" },
		{ WEFT_KEYS_WANT, WEFT_KEYS_FROM_CONTROL, { .key = 0 }, false, "WANT with 0 bytes" },
		{ WEFT_KEYS_WANT, WEFT_KEYS_FROM_CONTROL, { .bytes = WEFT_KEYS_MAX_BYTES + 1 }, true, "the limit is" },
		{ WEFT_KEYS_WANT, WEFT_KEYS_FROM_CONTROL, { .bytes = 300, .count = WEFT_KEYS_MAX_WANTED + 1 }, true, "of 4097 items" },
		{ WEFT_KEYS_GONE, WEFT_KEYS_TO_PROXY, { .bytes = 300, .count = 1 }, true, "GONE of 1 items" },
		{ WEFT_KEYS_GONE, WEFT_KEYS_TO_PROXY, { .bytes = 300, .key = 1 }, true, "GONE with key 1" },
		{ WEFT_KEYS_GONE, WEFT_KEYS_TO_PROXY, { .bytes = 300, .error = -1 }, true, "GONE with error -1, it never has one" },
		{ WEFT_KEYS_GONE, WEFT_KEYS_TO_PROXY, { .bytes = 300, .data_size = 1 }, true, "GONE with 1 bytes of data" },
		{ WEFT_KEYS_LOG_LEVEL, WEFT_KEYS_FROM_CONTROL, { .key = 4 }, false, "LOG_LEVEL 4, which is none" },
		{ WEFT_KEYS_SIGN, WEFT_KEYS_FROM_PROXY, { .data_size = 31, .key = 1 }, false, "SIGN with 31 bytes of data" },
		{ WEFT_KEYS_SIGN, WEFT_KEYS_FROM_PROXY, { .data_size = 33, .key = 1 }, false, "SIGN with 33 bytes of data" },
		{ WEFT_KEYS_SIGNED, WEFT_KEYS_TO_PROXY, { .data_size = 257 }, false, "SIGNED with 257 bytes of data" },
		{ WEFT_KEYS_SIGNED, WEFT_KEYS_TO_PROXY, { .data_size = 0 }, false, "SIGNED with 0 bytes of data" },
		{ WEFT_KEYS_SIGNED, WEFT_KEYS_TO_PROXY, { .data_size = 70, .error = -2 }, false, "SIGNED with 70 bytes of data" },
		{ WEFT_KEYS_SIGNED, WEFT_KEYS_TO_PROXY, { .error = 2 }, false, "which is positive" },
		{ WEFT_KEYS_STATE, WEFT_KEYS_TO_CONTROL, { .error = -2 }, false, "STATE with 0 bytes" },
		{ WEFT_KEYS_STATE, WEFT_KEYS_TO_CONTROL, { .bytes = 5 }, true, "STATE with 5 bytes" },
	};
	struct weft_keys_message message;
	struct weft_err err = { "" };

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(rows); i++) {
		message = weft_keys_message(rows[i].type, 1);
		message.bytes = rows[i].with.bytes;
		message.key = rows[i].with.key;
		message.count = rows[i].with.count;
		message.error = rows[i].with.error;
		message.data_size = rows[i].with.data_size;
		refused(&message, rows[i].way, rows[i].fd, rows[i].needle);
	}
	message = weft_keys_message(WEFT_KEYS_STATE, 1);
	assert_int_equal(weft_keys_check(&message, sizeof(message), false, WEFT_KEYS_TO_CONTROL, &message, &err), 0);
	assert_int_equal(weft_keys_check(&message, sizeof(message) - 1, false, WEFT_KEYS_TO_CONTROL, &message, &err), -EBADMSG);
	message.version++;
	refused(&message, WEFT_KEYS_TO_CONTROL, false, "of one build");
	message = weft_keys_message(WEFT_KEYS_STATE, 1);
	message.magic++;
	refused(&message, WEFT_KEYS_TO_CONTROL, false, "magic");
	for (unsigned int type = WEFT_KEYS_MESSAGE_TYPE_MAX_; type < 300; type += 100) {
		message = weft_keys_message(type, 1);
		refused(&message, WEFT_KEYS_TO_CONTROL, false, "unknown type");
	}
	message = weft_keys_message(0, 1);
	refused(&message, WEFT_KEYS_TO_CONTROL, false, "unknown type");
}

static void test_want(void **state)
{
	struct weft_keys_settings settings = { .ttl_s = 30, .trust_domain = "cluster.local" };
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;
	struct weft_keys_want want;
	struct weft_err err = { "" };

	(void)state;
	assert_int_equal(weft_keys_want_put(&buf, &settings), 0);
	assert_int_equal(weft_keys_want_open(buf.data, buf.size, 0, &want, &err), 0);
	assert_int_equal(weft_keys_want_add(&buf, ID), 0);
	assert_int_equal(weft_keys_want_add(&buf, ID "2"), 0);
	assert_int_equal(weft_keys_want_open(buf.data, buf.size, 2, &want, &err), 0);
	assert_string_equal(want.settings.trust_domain, "cluster.local");
	assert_int_equal(want.settings.ttl_s, 30);
	assert_string_equal(want.id, ID);
	assert_string_equal(want.id + sizeof(ID), ID "2");
	for (size_t size = 0; size < buf.size; size++)
		assert_int_equal(weft_keys_want_open(buf.data, size, 2, &want, &err), -EBADMSG);
	assert_int_equal(weft_keys_want_open(buf.data, buf.size, 1, &want, &err), -EBADMSG);
	assert_contains(err.text, "after its last id");
	assert_int_equal(weft_keys_want_open(buf.data, buf.size, 3, &want, &err), -EBADMSG);
	((struct weft_keys_settings *)(void *)buf.data)->ttl_s = 0;
	assert_int_equal(weft_keys_want_open(buf.data, buf.size, 2, &want, &err), -EBADMSG);
	((struct weft_keys_settings *)(void *)buf.data)->ttl_s = 1;
	((struct weft_keys_settings *)(void *)buf.data)->source = 2;
	assert_int_equal(weft_keys_want_open(buf.data, buf.size, 2, &want, &err), -EBADMSG);
	((struct weft_keys_settings *)(void *)buf.data)->source = 1;
	memset(buf.data + offsetof(struct weft_keys_settings, trust_domain), 'a', sizeof(settings.trust_domain));
	assert_int_equal(weft_keys_want_open(buf.data, buf.size, 2, &want, &err), -EBADMSG);
	assert_contains(err.text, "trust domain");
}

static void test_want_long_id(void **state)
{
	struct weft_keys_settings settings = { .ttl_s = 30, .trust_domain = "cluster.local" };
	char id[WEFT_KEYS_MAX_ID + 2];
	struct weft_keys_want want;
	struct weft_err err = { "" };

	(void)state;
	for (size_t size = WEFT_KEYS_MAX_ID; size <= WEFT_KEYS_MAX_ID + 1; size++) {
		weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;

		memset(id, 'x', size);
		id[size] = '\0';
		assert_int_equal(weft_keys_want_put(&buf, &settings), 0);
		assert_int_equal(weft_keys_want_add(&buf, id), 0);
		assert_int_equal(weft_keys_want_open(buf.data, buf.size, 1, &want, &err), size > WEFT_KEYS_MAX_ID ? -EBADMSG : 0);
	}
}

static void test_identity(void **state)
{
	struct weft_keys_pair pair = { .key = 5, .not_before = 100, .not_after = 200, .id = ID, .count = 2 }, got;
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;
	struct weft_keys_identity *head;
	struct weft_err err = { "" };

	(void)state;
	pair.chain[0] = (struct weft_keys_bytes){ "leaf", 4 };
	pair.chain[1] = (struct weft_keys_bytes){ "intermediate", 12 };
	assert_int_equal(weft_keys_identity_put(&buf, &pair), 0);
	assert_int_equal(weft_keys_identity_open(buf.data, buf.size, &got, &err), 0);
	assert_int_equal(got.key, 5);
	assert_int_equal(got.not_before, 100);
	assert_int_equal(got.not_after, 200);
	assert_string_equal(got.id, ID);
	assert_int_equal(got.count, 2);
	assert_int_equal(got.chain[1].size, 12);
	assert_memory_equal(got.chain[1].data, "intermediate", 12);
	for (size_t size = 0; size < buf.size; size++)
		assert_int_equal(weft_keys_identity_open(buf.data, size, &got, &err), -EBADMSG);
	assert_int_equal(weft_buf_add(&buf, "x", 1), 0);
	assert_int_equal(weft_keys_identity_open(buf.data, buf.size, &got, &err), -EBADMSG);
	assert_contains(err.text, "after its last certificate");
	buf.size--;
	head = (struct weft_keys_identity *)(void *)buf.data;
	head->key = 0;
	assert_int_equal(weft_keys_identity_open(buf.data, buf.size, &got, &err), -EBADMSG);
	head->key = 5;
	head->count = WEFT_KEYS_MAX_CHAIN + 1;
	assert_int_equal(weft_keys_identity_open(buf.data, buf.size, &got, &err), -EBADMSG);
	head->count = 0;
	assert_int_equal(weft_keys_identity_open(buf.data, buf.size, &got, &err), -EBADMSG);
	head->count = 2;
	head->not_after = 99;
	assert_int_equal(weft_keys_identity_open(buf.data, buf.size, &got, &err), -EBADMSG);
	head->not_after = 100;
	head->id_size = 0xffffffff;
	assert_int_equal(weft_keys_identity_open(buf.data, buf.size, &got, &err), -EBADMSG);
	head->id_size = sizeof(ID);
	buf.data[sizeof(*head) + 3] = '\0'; /* a NUL inside: two readers would read two ids */
	assert_int_equal(weft_keys_identity_open(buf.data, buf.size, &got, &err), -EBADMSG);
}

static void test_trust(void **state)
{
	const struct weft_keys_anchor anchors[] = {
		{ WEFT_KEYS_TRUST_ROOT, "cluster.local", { "root", 4 } },
		{ WEFT_KEYS_TRUST_CRL, "other.example", { "crl", 3 } },
	};
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;
	struct weft_keys_anchor got;
	struct weft_keys_trust_item *item;
	struct weft_err err = { "" };
	uint32_t count = 0;
	size_t at = 0;

	(void)state;
	assert_int_equal(weft_keys_trust_put(&buf), 0);
	assert_int_equal(weft_keys_trust_open(buf.data, buf.size, &count, &err), 0);
	assert_int_equal(count, 0);
	assert_false(weft_keys_trust_next(buf.data, buf.size, &at, &got));
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(weft_keys_trust_add(&buf, &anchors[i]), 0);
	assert_int_equal(weft_keys_trust_open(buf.data, buf.size, &count, &err), 0);
	assert_int_equal(count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_true(weft_keys_trust_next(buf.data, buf.size, &at, &got));
		assert_int_equal(got.type, anchors[i].type);
		assert_string_equal(got.domain, anchors[i].domain);
		assert_int_equal(got.der.size, anchors[i].der.size);
		assert_memory_equal(got.der.data, anchors[i].der.data, got.der.size);
	}
	assert_false(weft_keys_trust_next(buf.data, buf.size, &at, &got));
	for (size_t size = 0; size < buf.size; size++)
		assert_int_equal(weft_keys_trust_open(buf.data, size, &count, &err), -EBADMSG);
	item = (struct weft_keys_trust_item *)(void *)(buf.data + sizeof(struct weft_keys_trust));
	item->type = 3;
	assert_int_equal(weft_keys_trust_open(buf.data, buf.size, &count, &err), -EBADMSG);
	item->type = WEFT_KEYS_TRUST_ROOT;
	item->size = 0xffffffff;
	assert_int_equal(weft_keys_trust_open(buf.data, buf.size, &count, &err), -EBADMSG);
	item->size = 0;
	assert_int_equal(weft_keys_trust_open(buf.data, buf.size, &count, &err), -EBADMSG);
}

static void test_text(void **state)
{
	struct weft_err err = { "" };
	const char *text;

	(void)state;
	assert_int_equal(weft_keys_text_open("ab", 3, &text, &err), 0);
	assert_int_equal(weft_keys_text_open("ab", 2, &text, &err), -EBADMSG);
	assert_int_equal(weft_keys_text_open("a\0b", 4, &text, &err), -EBADMSG);
	assert_int_equal(weft_keys_text_open("", 1, &text, &err), -EBADMSG);
	assert_int_equal(weft_keys_text_open("", 0, &text, &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trips, set_up, tear_down),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_want),
		cmocka_unit_test(test_want_long_id),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_trust),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
