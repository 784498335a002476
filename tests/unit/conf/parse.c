/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "conf/conf.h"

#define HEAD "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: x\n"

struct parsed {
	struct weft_conf_file conf;
	struct weft_problems problems;
};

static void parse_as(struct parsed *parsed, const char *text, size_t size, bool settled)
{
	*parsed = (struct parsed){ 0 };
	assert_int_equal(weft_conf_parse("f.yaml", text, size, settled, &parsed->conf, &parsed->problems), 0);
}

static void parse(struct parsed *parsed, const char *text, size_t size)
{
	parse_as(parsed, text, size, false);
}

static void done(struct parsed *parsed)
{
	weft_conf_file_done(&parsed->conf);
	weft_problems_done(&parsed->problems);
}

static void add(struct weft_buf *buf, const char *text)
{
	assert_int_equal(weft_buf_add(buf, text, strlen(text)), 0);
}

/* Parses `text` and expects it to be taken whole, or refused with `complaint` as the first problem. */
static void expect(const struct weft_buf *text, const char *complaint, size_t resources)
{
	struct parsed parsed;

	parse(&parsed, text->data, text->size);
	assert_int_equal(parsed.conf.resource_count, resources);
	if (!complaint) {
		assert_int_equal(parsed.problems.count, 0);
		assert_false(parsed.conf.torn);
	} else {
		assert_true(parsed.problems.errors > 0);
		assert_non_null(strstr(parsed.problems.item[0].text, complaint));
		assert_true(parsed.conf.torn || parsed.conf.refused_count == 1);
	}
	done(&parsed);
}

static void test_file_size(void **state)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	size_t at;

	(void)state;
	add(&text, HEAD "#");
	assert_int_equal(weft_buf_reserve(&text, WEFT_CONF_MAX_FILE - text.size - 1, &at), 0);
	memset(text.data + at, 'x', text.size - at);
	add(&text, "\n");
	assert_int_equal(text.size, WEFT_CONF_MAX_FILE);
	expect(&text, NULL, 1);
	add(&text, "\n");
	expect(&text, "larger than 16 MiB", 0);
}

static void nest(struct weft_buf *text, unsigned int depth)
{
	/* The root and spec: two of them are there already. */
	add(text, HEAD "spec: ");
	for (unsigned int i = 1; i < depth; i++)
		add(text, "[");
	for (unsigned int i = 1; i < depth; i++)
		add(text, "]");
	add(text, "\n");
}

static void test_depth(void **state)
{
	weft_buf_done_on_exit struct weft_buf good = WEFT_BUF_INIT, bad = WEFT_BUF_INIT;

	(void)state;
	nest(&good, WEFT_CONF_MAX_DEPTH);
	expect(&good, NULL, 1);
	nest(&bad, WEFT_CONF_MAX_DEPTH + 1);
	expect(&bad, "more than 64 deep", 0);
}

/* 16 MiB of brackets would keep libyaml busy for hours. */
static void test_bottomless(void **state)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	struct parsed parsed;
	size_t at;

	(void)state;
	assert_int_equal(weft_buf_reserve(&text, WEFT_CONF_MAX_FILE, &at), 0);
	memset(text.data, '[', text.size);
	parse(&parsed, text.data, text.size);
	assert_int_equal(parsed.problems.errors, 1);
	assert_non_null(strstr(parsed.problems.item[0].text, "more than 64 deep"));
	assert_true(parsed.conf.torn);
	done(&parsed);
}

static void test_string(void **state)
{
	(void)state;
	for (size_t over = 0; over < 2; over++) {
		weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
		size_t at;

		add(&text, HEAD "spec: ");
		assert_int_equal(weft_buf_reserve(&text, WEFT_CONF_MAX_STRING + over, &at), 0);
		memset(text.data + at, 'x', text.size - at);
		add(&text, "\n");
		expect(&text, over ? "longer than 64 KiB" : NULL, over ? 0 : 1);
	}
}

static void test_items(void **state)
{
	(void)state;
	for (size_t over = 0; over < 2; over++) {
		weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;

		/* HEAD: a mapping, 3 keys, 2 texts, a mapping, a key, a text; then a key and the list. */
		add(&text, HEAD "spec: [");
		for (size_t i = 0; i < WEFT_CONF_MAX_ITEMS - 11 + over; i++)
			add(&text, "0,");
		add(&text, "]\n");
		expect(&text, over ? "more than 1000000 values" : NULL, over ? 0 : 1);
	}
}

static void test_documents(void **state)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	struct parsed parsed;

	(void)state;
	for (size_t i = 0; i < WEFT_CONF_MAX_DOCUMENTS - 1; i++)
		add(&text, "---\n");
	add(&text, "---\n" HEAD);
	expect(&text, NULL, 1);
	add(&text, "---\n" HEAD);
	parse(&parsed, text.data, text.size);
	assert_int_equal(parsed.problems.errors, 1);
	assert_non_null(strstr(parsed.problems.item[0].text, "more than 100000 documents"));
	assert_int_equal(parsed.conf.resource_count, 1);
	assert_true(parsed.conf.torn);
	done(&parsed);
}

static void test_million_aliases(void **state)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	struct rusage before, after;
	struct timespec cpu;
	double started;

	(void)state;
	add(&text, HEAD "labels: &a {x: y}\nspec: [");
	for (size_t i = 0; i < 1000000; i++)
		add(&text, "*a,");
	add(&text, "]\n");
	getrusage(RUSAGE_SELF, &before);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	started = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
	expect(&text, "anchors", 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	getrusage(RUSAGE_SELF, &after);
	/* Far above what it takes (a second and 80 MB with sanitizers), far below what expanding would. */
	assert_true((double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9 - started < 20);
	assert_true(after.ru_maxrss - before.ru_maxrss < 512 * 1024);
}

/* Nested aliases, the classic: each level ten times the one before. */
static void test_alias_bomb(void **state)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;

	(void)state;
	add(&text, HEAD "a0: &a0 [x]\n");
	for (unsigned int i = 1; i < 50; i++)
		assert_int_equal(weft_buf_printf(&text, "a%u: &a%u [*a%u,*a%u,*a%u,*a%u,*a%u]\n", i, i, i - 1, i - 1, i - 1, i - 1,
						 i - 1),
				 0);
	expect(&text, "anchors", 0);
}

static const char block[] = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - name: a\n"
			    "    port: 8080\n  - name: b\n    port: 8443\n    targetPort: https\n"
			    "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n";
static const char flow[] = "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"Service\", "
			   "\"metadata\": {\"name\": \"web\"}, \"spec\": {\"ports\": [{\"port\": 8080}]}}]}\n";

/* Every prefix that does not end at the end of a line must hold nothing that the whole does not hold, and say that it is torn. */
static void try_prefixes(const char *whole)
{
	struct parsed all;

	parse(&all, whole, strlen(whole));
	assert_int_equal(all.problems.count, 0);
	for (size_t size = 0; size < strlen(whole); size++) {
		/* A copy of its own: reading past it is then seen by the sanitizer. */
		weft_free_on_exit char *text = malloc(size + !size);
		bool at_line_end = !size || whole[size - 1] == '\n';
		struct parsed parsed;

		assert_non_null(text);
		memcpy(text, whole, size);
		parse(&parsed, text, size);
		for (size_t i = 0; !at_line_end && i < parsed.conf.resource_count; i++) {
			bool known = false;

			for (size_t j = 0; j < all.conf.resource_count; j++)
				known |= parsed.conf.resource[i]->fingerprint == all.conf.resource[j]->fingerprint;
			assert_true(known);
		}
		if (!at_line_end && parsed.conf.resource_count < all.conf.resource_count) {
			assert_true(parsed.conf.torn);
			assert_true(parsed.problems.errors > 0);
		}
		done(&parsed);
	}
	done(&all);
}

static void test_prefixes(void **state)
{
	(void)state;
	try_prefixes(block);
	try_prefixes(flow);
}

static void test_last_line(void **state)
{
	struct parsed parsed;

	(void)state;
	/* The port may have been 8080: its Service is refused by name, the one in front is not touched. */
	parse(&parsed, "apiVersion: v1\nkind: Namespace\nmetadata: {name: n1}\n---\napiVersion: v1\nkind: Service\n"
		       "metadata: {name: web}\nspec:\n  ports:\n  - port: 80",
	      strlen("apiVersion: v1\nkind: Namespace\nmetadata: {name: n1}\n---\napiVersion: v1\nkind: Service\n"
		     "metadata: {name: web}\nspec:\n  ports:\n  - port: 80"));
	assert_int_equal(parsed.conf.resource_count, 1);
	assert_int_equal(parsed.conf.resource[0]->kind, WEFT_KIND_NAMESPACE);
	assert_int_equal(parsed.conf.refused_count, 1);
	assert_int_equal(parsed.conf.refused[0].kind, WEFT_KIND_SERVICE);
	assert_string_equal(parsed.conf.refused[0].namespace, "default");
	assert_string_equal(parsed.conf.refused[0].name, "web");
	assert_true(parsed.conf.torn);
	done(&parsed);
	/* A document that says where it ends needs no newline. */
	parse(&parsed, flow, strlen(flow) - 1);
	assert_int_equal(parsed.conf.resource_count, 1);
	assert_int_equal(parsed.problems.count, 0);
	assert_false(parsed.conf.torn);
	done(&parsed);
}

static void test_settled(void **state)
{
	static const char web[] = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n  - port: 80";
	static const char torn[] = "apiVersion: v1\nkind: Service\nmetadata: {name: web";
	struct parsed parsed;

	(void)state;
	parse_as(&parsed, web, strlen(web), true);
	assert_int_equal(parsed.conf.resource_count, 1);
	assert_int_equal(parsed.conf.resource[0]->service.port[0].port, 80);
	assert_int_equal(parsed.problems.count, 0);
	assert_false(parsed.conf.torn);
	done(&parsed);
	/* Time does not make half a document whole. */
	parse_as(&parsed, torn, strlen(torn), true);
	assert_int_equal(parsed.conf.resource_count, 0);
	assert_int_equal(parsed.problems.errors, 1);
	assert_true(parsed.conf.torn);
	done(&parsed);
	/* Whoever has just emptied a file is about to fill it. */
	parse_as(&parsed, "", 0, false);
	assert_true(parsed.conf.torn);
	assert_int_equal(parsed.problems.count, 0);
	done(&parsed);
	parse_as(&parsed, "", 0, true);
	assert_false(parsed.conf.torn);
	done(&parsed);
}

static void test_empty(void **state)
{
	static const char *const texts[] = { "\n", "---\n", "# nothing\n", "---\n---\n...\n" };

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(texts); i++) {
		struct parsed parsed;

		parse(&parsed, texts[i], strlen(texts[i]));
		assert_int_equal(parsed.conf.resource_count + parsed.conf.refused_count + parsed.problems.count, 0);
		assert_false(parsed.conf.torn);
		done(&parsed);
	}
}

static void test_fingerprint(void **state)
{
	static const char *const same[] = {
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n",
		"# moved\nkind: Service\nspec:\n  ports: [{targetPort: 80, port: 80, protocol: TCP}]\n  type: ClusterIP\n"
		"metadata: {name: a, namespace: default, resourceVersion: \"7\"}\napiVersion: v1\n",
	};
	static const char other[] = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 81}]}\n";
	struct parsed a, b, c;

	(void)state;
	parse(&a, same[0], strlen(same[0]));
	parse(&b, same[1], strlen(same[1]));
	parse(&c, other, strlen(other));
	assert_true(a.conf.resource[0]->fingerprint == b.conf.resource[0]->fingerprint);
	assert_true(a.conf.resource[0]->fingerprint != c.conf.resource[0]->fingerprint);
	assert_int_equal(b.conf.resource[0]->line, 2);
	assert_string_equal(b.conf.resource[0]->file, "f.yaml");
	done(&a);
	done(&b);
	done(&c);
}

static void test_bytes(void **state)
{
	static const char *const bad[] = { "a: \xff\n", "a: \xc0\xaf\n", "a: \x01\n", "a: \"\\xZZ\"\n", "a: [\n", "\ta: b\n" };

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++) {
		struct parsed parsed;

		parse(&parsed, bad[i], strlen(bad[i]));
		assert_int_equal(parsed.problems.errors, 1);
		assert_true(parsed.problems.item[0].line >= 1);
		assert_true(parsed.conf.torn);
		done(&parsed);
	}
}

static void test_problem_cap(void **state)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	struct parsed parsed;

	(void)state;
	for (size_t i = 0; i < 1500; i++)
		assert_int_equal(weft_buf_printf(&text, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: X%zu}\n", i), 0);
	parse(&parsed, text.data, text.size);
	assert_int_equal(parsed.problems.count, 1000);
	assert_int_equal(parsed.problems.dropped, 500);
	assert_int_equal(parsed.problems.errors, 1500);
	assert_int_equal(parsed.conf.refused_count, 1500);
	done(&parsed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_size),  cmocka_unit_test(test_depth),	     cmocka_unit_test(test_string),
		cmocka_unit_test(test_items),	   cmocka_unit_test(test_documents),   cmocka_unit_test(test_million_aliases),
		cmocka_unit_test(test_alias_bomb), cmocka_unit_test(test_prefixes),    cmocka_unit_test(test_last_line), cmocka_unit_test(test_settled),
		cmocka_unit_test(test_empty),	   cmocka_unit_test(test_fingerprint), cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_problem_cap), cmocka_unit_test(test_bottomless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
