/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/output.h"

static const struct weft_column below[] = {
	{ "a", "Sub", WEFT_COLUMN_TEXT, "a" },
	{ "n", "Num", WEFT_COLUMN_NUMBER, "n" },
	{ 0 },
};
static const struct weft_column columns[] = {
	{ "name", "Name", WEFT_COLUMN_TEXT, "name" },
	{ "hidden", NULL, WEFT_COLUMN_NUMBER, "only in JSON" },
	{ "bytes", "Bytes", WEFT_COLUMN_BYTES, "bytes" },
	{ "ns", "Time", WEFT_COLUMN_NS, "ns" },
	{ "share", "Share", WEFT_COLUMN_SHARE, "share" },
	{ "yes", "Yes", WEFT_COLUMN_YES, "yes" },
	{ "rows", "Rows", WEFT_COLUMN_FLAT, "rows", below },
	{ "list", "List", WEFT_COLUMN_LIST, "list", below },
	{ "object", "Object", WEFT_COLUMN_OBJECT, "object", below },
	{ "tags", "Tags", WEFT_COLUMN_TEXTS, "tags" },
	{ 0 },
};

struct page {
	struct weft_output output;
	char *text;
	size_t size;
};

static void page_open(struct page *page, const struct weft_output_ops *ops, enum weft_form form)
{
	*page = (struct page){ .output = { .ops = ops } };
	page->output.to = open_memstream(&page->text, &page->size);
	assert_non_null(page->output.to);
	weft_output_begin(&page->output, form, columns);
}

static void page_check(struct page *page, const char *expected)
{
	assert_int_equal(weft_output_end(&page->output), 0);
	fclose(page->output.to);
	assert_string_equal(page->text, expected);
	free(page->text);
}

static void sub(struct weft_output *out, const char *a, uint64_t n)
{
	weft_output_row(out);
	weft_output_text(out, "a", a);
	weft_output_number(out, "n", n);
	weft_output_row_end(out);
}

static void fill(struct weft_output *out)
{
	weft_output_row(out);
	weft_output_text(out, "name", "first");
	weft_output_number(out, "hidden", UINT64_MAX);
	weft_output_number(out, "bytes", 1536);
	weft_output_number(out, "ns", 192000000000ull);
	weft_output_real(out, "share", 1.0 / 3);
	weft_output_yes(out, "yes", true);
	weft_output_list(out, "rows");
	sub(out, "x", 1);
	sub(out, "y", 22);
	weft_output_list_end(out);
	weft_output_list(out, "list");
	sub(out, "z", 3);
	weft_output_list_end(out);
	weft_output_object(out, "object");
	weft_output_text(out, "a", "q");
	weft_output_object_end(out);
	weft_output_texts_add(out, "tags", "t1");
	weft_output_texts_add(out, "tags", "t2");
	weft_output_row_end(out);
	weft_output_row(out);
	weft_output_text(out, "name", "b\x1b[31m\n");
	weft_output_text(out, "name", "");
	weft_output_row_end(out);
}

static void test_json(void **state)
{
	static const char *const first =
		"{\"name\":\"first\",\"hidden\":18446744073709551615,\"bytes\":1536,\"ns\":192000000000,"
		"\"share\":0.333333,\"yes\":true,\"rows\":[{\"a\":\"x\",\"n\":1},{\"a\":\"y\",\"n\":22}],"
		"\"list\":[{\"a\":\"z\",\"n\":3}],\"object\":{\"a\":\"q\"},\"tags\":[\"t1\",\"t2\"]}";
	static const char *const second = "{\"name\":\"b\\u001b[31m\\n\"}";
	struct page page;
	char expected[1024];

	(void)state;
	page_open(&page, &weft_output_json_ops, WEFT_FORM_TABLE);
	fill(&page.output);
	snprintf(expected, sizeof(expected), "[%s,%s]\n", first, second);
	page_check(&page, expected);

	page_open(&page, &weft_output_json_ops, WEFT_FORM_CARD);
	fill(&page.output);
	snprintf(expected, sizeof(expected), "%s\n", first);
	page_check(&page, expected);

	/* a line at once, also if asked for indentation */
	page_open(&page, &weft_output_json_ops, WEFT_FORM_STREAM);
	page.output.pretty = true;
	fill(&page.output);
	snprintf(expected, sizeof(expected), "%s\n%s\n", first, second);
	assert_string_equal(page.text, expected);
	page_check(&page, expected);

	page_open(&page, &weft_output_json_ops, WEFT_FORM_TABLE);
	page_check(&page, "[]\n");
}

static void test_table(void **state)
{
	struct page page;

	(void)state;
	page_open(&page, &weft_output_text_ops, WEFT_FORM_TABLE);
	fill(&page.output);
	page_check(&page, "NAME             BYTES   TIME  SHARE  YES  SUB  NUM  TAGS\n"
			  "first          1.5 KiB  3m12s  33.3%  yes  x      1  t1,t2\n"
			  "                                           y     22\n"
			  "b\\x1b[31m\\x0a        -      -      -  -              -\n");
	page_open(&page, &weft_output_text_ops, WEFT_FORM_TABLE);
	page_check(&page, "NAME  BYTES  TIME  SHARE  YES  SUB  NUM  TAGS\n");
}

static void test_cards(void **state)
{
	struct page page;

	(void)state;
	page_open(&page, &weft_output_text_ops, WEFT_FORM_CARDS);
	fill(&page.output);
	page_check(&page, "Name:  first\nBytes: 1.5 KiB\nTime:  3m12s\nShare: 33.3%\nYes:   yes\n"
			  "Rows:\n  SUB  NUM\n  x      1\n  y     22\n"
			  "List:\n  SUB  NUM\n  z      3\n"
			  "Object:\n  Sub: q\n"
			  "Tags:  t1,t2\n"
			  "\n"
			  "Name:  b\\x1b[31m\\x0a\n");
}

static void test_scales(void **state)
{
	static const struct {
		uint64_t bytes, ns;
		const char *line;
	} cases[] = {
		{ 0, 0, "0 B 0ns" },
		{ 1023, 999, "1023 B 999ns" },
		{ 1024, 1000, "1.0 KiB 1us" },
		{ 1u << 20, 1500000, "1.0 MiB 1.5ms" },
		{ 5ull << 30, 59900000000, "5.0 GiB 59.9s" },
		{ 1ull << 50, 3600000000000, "1.0 PiB 1h00m" },
		{ UINT64_MAX, 90061000000000, "16.0 EiB 1d01h" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char expected[64], *space;
		struct page page;

		snprintf(expected, sizeof(expected), "%s", cases[i].line);
		space = strrchr(expected, ' ');
		*space = '\0';
		page_open(&page, &weft_output_text_ops, WEFT_FORM_CARD);
		weft_output_row(&page.output);
		weft_output_number(&page.output, "bytes", cases[i].bytes);
		weft_output_number(&page.output, "ns", cases[i].ns);
		weft_output_row_end(&page.output);
		snprintf(expected, sizeof(expected), "Bytes: %.*s\nTime:  %s\n", (int)(space - expected), cases[i].line,
			 strrchr(cases[i].line, ' ') + 1);
		page_check(&page, expected);
	}
}

/* What is half filled when a command fails leaves nothing behind: the sanitizer build sees leaks. */
static void test_drop(void **state)
{
	struct page page;

	(void)state;
	page_open(&page, &weft_output_json_ops, WEFT_FORM_TABLE);
	fill(&page.output);
	weft_output_row(&page.output);
	weft_output_list(&page.output, "rows");
	weft_output_row(&page.output);
	weft_output_text(&page.output, "a", "open");
	weft_output_drop(&page.output);
	weft_output_begin(&page.output, WEFT_FORM_TABLE, columns);
	page_check(&page, "[]\n");
}

static void undocumented(struct weft_output *out)
{
	weft_output_text(out, "nonsense", "x");
}

static void wrong_kind(struct weft_output *out)
{
	weft_output_text(out, "bytes", "x");
}

static void too_shallow(struct weft_output *out)
{
	weft_output_number(out, "n", 1);
}

static void no_row(struct weft_output *out)
{
	weft_output_row_end(out);
	weft_output_text(out, "name", "x");
}

/* Keys that are not documented cannot come out. */
static void test_columns_are_law(void **state)
{
	static void (*const wrong[])(struct weft_output *) = { undocumented, wrong_kind, too_shallow, no_row };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0) {
			struct weft_output output = { .ops = &weft_output_json_ops, .to = stdout };

			signal(SIGABRT, SIG_DFL);
			fclose(stderr);
			weft_output_begin(&output, WEFT_FORM_TABLE, columns);
			weft_output_row(&output);
			wrong[i](&output);
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),   cmocka_unit_test(test_table), cmocka_unit_test(test_cards),
		cmocka_unit_test(test_scales), cmocka_unit_test(test_drop),  cmocka_unit_test(test_columns_are_law),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
