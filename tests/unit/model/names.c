/* SPDX-License-Identifier: Apache-2.0 */
#include "model/names.h"

#include "lib.h"

static uint32_t service(struct weft_names *names, const char *name, const char *port_name, uint16_t port,
			struct weft_buf *journal)
{
	struct weft_service_name template = { .namespace = "shop", .name = name, .port_name = port_name, .port = port,
					      .protocol = IPPROTO_TCP, .host = "web.shop.svc" };
	uint32_t id = 0;

	assert_int_equal(weft_names_get_service(names, &template, journal, &id), 0);
	return id;
}

static int endpoint(struct weft_names *names, const char *addr, uint32_t max, struct weft_buf *journal, uint32_t *ret_id)
{
	struct weft_endpoint_name template = { .service = 1, .port = 80, .protocol = IPPROTO_TCP };

	assert_int_equal(weft_addr_parse(addr, &template.addr), 0);
	return weft_names_get_endpoint(names, &template, max, journal, ret_id);
}

static struct weft_names *read_back(const struct weft_buf *text)
{
	struct weft_names *names = weft_names_new();
	struct weft_err err = { 0 };

	if (weft_names_parse(names, text->data, text->size, &err) < 0)
		fail_msg("%s", err.text);
	return names;
}

static void test_round_trip_with_odd_text(void **state)
{
	struct weft_names *names = weft_names_new(), *again;
	struct weft_buf journal = WEFT_BUF_INIT, first = WEFT_BUF_INIT, second = WEFT_BUF_INIT;
	struct weft_workload_name workload = { .kind = "Pod", .namespace = "shop", .name = "a\tb\\c\nd",
					       .service_account = "default", .node = "", .zone = "z", .app = "",
					       .version = "v\\t1", .owner = "a" };
	uint32_t id = 0;

	(void)state;
	weft_buf_printf(&journal, "weft-names 1\n");
	assert_int_equal(service(names, "web", "http", 80, &journal), 1);
	assert_int_equal(service(names, "web", "http", 81, &journal), 2);
	assert_int_equal(weft_names_get_workload(names, &workload, &journal, &id), 0);
	assert_int_equal(id, 1);
	assert_int_equal(endpoint(names, "10.0.0.255", 100, &journal, &id), 0);
	assert_int_equal(endpoint(names, "fd00::1", 100, &journal, &id), 0);
	assert_int_equal(weft_names_print(names, &first), 0);
	/* The journal alone says the same as the file that is written anew. */
	again = read_back(&journal);
	assert_int_equal(weft_names_print(again, &second), 0);
	assert_string_equal(first.data, second.data);
	assert_string_equal(weft_names_workload(again, 1)->name, "a\tb\\c\nd");
	assert_string_equal(weft_names_workload(again, 1)->version, "v\\t1");
	assert_int_equal(weft_names_service(again, 2)->port, 81);
	weft_names_free(again);
	again = read_back(&first);
	weft_buf_clear(&second);
	assert_int_equal(weft_names_print(again, &second), 0);
	assert_string_equal(first.data, second.data);
	weft_names_free(again);
	weft_names_free(names);
	weft_buf_done(&journal);
	weft_buf_done(&first);
	weft_buf_done(&second);
}

static void test_torn_tail_is_dropped_and_a_bad_line_is_named(void **state)
{
	static const char *const bad[] = {
		"S\t1\tshop\tweb\thttp\t99999\t6\thost",
		"S\t0\tshop\tweb\thttp\t80\t6\thost",
		"S\t1\tshop\tweb\thttp\t80\t6",
		"S\t1\tshop\tw\\xeb\thttp\t80\t6\thost",
		"E\t1048576\t1\t10.0.0.1\t80\t6",
		"E\t1048577\t1\tten\t80\t6",
		"X\t1",
		"-E\t-1",
		"",
	};
	struct weft_err err = { 0 };
	char text[200];

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++) {
		struct weft_names *names = weft_names_new();

		snprintf(text, sizeof(text), "weft-names 1\nS\t7\ta\tb\tc\t1\t6\th\n%s\nS\t8\ta\tb\tc\t2\t6\th\n", bad[i]);
		assert_int_equal(weft_names_parse(names, text, strlen(text), &err), -EINVAL);
		assert_non_null(strstr(err.text, "line 3"));
		assert_non_null(weft_names_service(names, 7));
		weft_names_free(names);
	}
	struct weft_names *names = weft_names_new();

	snprintf(text, sizeof(text), "weft-names 1\nS\t7\ta\tb\tc\t1\t6\th\nS\t8\ta\tb\tc\t2\t6\tho");
	assert_int_equal(weft_names_parse(names, text, strlen(text), &err), 0);
	assert_non_null(weft_names_service(names, 7));
	assert_null(weft_names_service(names, 8));
	weft_names_free(names);
	names = weft_names_new();
	assert_int_equal(weft_names_parse(names, "weft-names 2\n", 13, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 1"));
	weft_names_free(names);
}

static void test_a_file_that_was_cut_is_told(void **state)
{
	struct weft_names *names = weft_names_new();
	struct weft_buf journal = WEFT_BUF_INIT, text = WEFT_BUF_INIT, appended = WEFT_BUF_INIT;
	struct weft_err err = { 0 };
	uint32_t id = 0;

	(void)state;
	for (uint16_t port = 1; port <= 12; port++)
		service(names, "web", "http", port, &journal);
	assert_int_equal(endpoint(names, "10.0.0.1", 100, &journal, &id), 0);
	assert_int_equal(weft_names_print(names, &text), 0);
	service(names, "web", "http", 13, &appended);
	service(names, "web", "http", 14, &appended);
	assert_int_equal(weft_buf_add(&text, appended.data, appended.size), 0);
	/* Anywhere within what was written at once; what was appended may be missing. */
	for (size_t size = 0; size <= text.size; size++) {
		struct weft_names *cut = weft_names_new();
		int r = weft_names_parse(cut, text.data, size, &err);

		assert_int_equal(r, size < text.size - appended.size ? -EINVAL : 0);
		if (r < 0 && size > strlen("weft-names 2 0000000014\n"))
			assert_non_null(strstr(err.text, "of at least 14 records"));
		weft_names_free(cut);
	}
	weft_names_free(names);
	names = weft_names_new();
	assert_int_equal(weft_names_parse(names, "weft-names 2 x\n", 15, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 1"));
	weft_names_free(names);
	weft_buf_done(&journal);
	weft_buf_done(&text);
	weft_buf_done(&appended);
}

static void test_ids_are_stable_and_not_given_twice(void **state)
{
	struct weft_names *names = weft_names_new(), *again;
	struct weft_buf journal = WEFT_BUF_INIT, text = WEFT_BUF_INIT;
	size_t before;

	(void)state;
	assert_int_equal(service(names, "web", "http", 80, &journal), 1);
	before = journal.size;
	assert_int_equal(service(names, "web", "http", 80, &journal), 1);
	assert_int_equal(journal.size, before);
	assert_int_equal(service(names, "web", "renamed", 80, &journal), 1);
	assert_true(journal.size > before);
	assert_string_equal(weft_names_service(names, 1)->port_name, "renamed");
	assert_int_equal(service(names, "api", "http", 80, &journal), 2);
	weft_names_drop_service(names, 2, &journal);
	assert_null(weft_names_service(names, 2));
	assert_int_equal(weft_names_print(names, &text), 0);
	again = read_back(&text);
	assert_int_equal(service(again, "new", "http", 80, &journal), 3);
	assert_int_equal(weft_names_next_service(again, 0)->id, 1);
	assert_int_equal(weft_names_next_service(again, 1)->id, 3);
	assert_null(weft_names_next_service(again, 3));
	weft_names_free(again);
	weft_names_free(names);
	weft_buf_done(&journal);
	weft_buf_done(&text);
}

static void test_an_index_comes_back_with_the_next_generation(void **state)
{
	struct weft_names *names = weft_names_new(), *again;
	struct weft_buf journal = WEFT_BUF_INIT, text = WEFT_BUF_INIT;
	uint32_t a, b, c, id = 0;

	(void)state;
	assert_int_equal(endpoint(names, "10.0.0.1", 3, &journal, &a), 0);
	assert_int_equal(endpoint(names, "10.0.0.2", 3, &journal, &b), 0);
	assert_int_equal(a, 1 | 1u << WEFT_ENDPOINT_INDEX_BITS);
	assert_int_equal(b, 2 | 1u << WEFT_ENDPOINT_INDEX_BITS);
	assert_int_equal(endpoint(names, "10.0.0.3", 3, &journal, &c), -ENOSPC);
	weft_names_drop_endpoint(names, b, &journal);
	weft_names_drop_endpoint(names, a, &journal);
	assert_null(weft_names_endpoint(names, a));
	/* The one that rested longest goes first, also after a restart. */
	assert_int_equal(weft_names_print(names, &text), 0);
	again = read_back(&text);
	assert_int_equal(endpoint(again, "10.0.0.1", 3, &journal, &id), 0);
	assert_int_equal(id, 2 | 2u << WEFT_ENDPOINT_INDEX_BITS);
	for (uint32_t i = 3; i <= 4095; i++) {
		weft_names_drop_endpoint(again, id, &journal);
		assert_int_equal(endpoint(again, "10.0.0.9", 3, &journal, &a), 0);
		weft_names_drop_endpoint(again, a, &journal);
		assert_int_equal(endpoint(again, "10.0.0.1", 3, &journal, &id), 0);
		assert_int_equal(WEFT_ENDPOINT_INDEX(id), 2);
		assert_int_equal(WEFT_ENDPOINT_GENERATION(id), i);
	}
	weft_names_drop_endpoint(again, id, &journal);
	assert_int_equal(endpoint(again, "10.0.0.9", 3, &journal, &a), 0);
	assert_int_equal(endpoint(again, "10.0.0.1", 3, &journal, &id), 0);
	assert_int_equal(id, 2 | 1u << WEFT_ENDPOINT_INDEX_BITS);
	weft_names_free(again);
	weft_names_free(names);
	weft_buf_done(&journal);
	weft_buf_done(&text);
}

static void test_the_id_that_stands_for_others_is_nobody_s(void **state)
{
	const uint32_t last = WEFT_ENDPOINT_INDEX_MASK;
	struct weft_buf journal = WEFT_BUF_INIT;
	struct weft_names *names;
	uint32_t id = 0;
	char addr[WEFT_ADDR_TEXT];

	(void)state;
	weft_buf_printf(&journal, "weft-names 1\n-E\t%u\n", WEFT_ID_OTHER - (1u << WEFT_ENDPOINT_INDEX_BITS));
	names = read_back(&journal);
	/* The one that was freed last is given last. */
	for (uint32_t i = 1; i <= last; i++) {
		journal.size = 0;
		snprintf(addr, sizeof(addr), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
		assert_int_equal(endpoint(names, addr, last + 1, &journal, &id), 0);
	}
	assert_int_equal(id, last | 1u << WEFT_ENDPOINT_INDEX_BITS);
	weft_names_free(names);
	weft_buf_done(&journal);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip_with_odd_text),
		cmocka_unit_test(test_torn_tail_is_dropped_and_a_bad_line_is_named),
		cmocka_unit_test(test_a_file_that_was_cut_is_told),
		cmocka_unit_test(test_ids_are_stable_and_not_given_twice),
		cmocka_unit_test(test_an_index_comes_back_with_the_next_generation),
		cmocka_unit_test(test_the_id_that_stands_for_others_is_nobody_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
