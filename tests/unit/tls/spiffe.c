/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <stdlib.h>

#include "tls/spiffe.h"

struct row {
	const char *id;
	const char *why; /* a word of the sentence; NULL: it is an id */
};

/* The grammar of SPIFFE-ID sections 2 to 2.3, a row a rule and beside each refusal what is just right. */
static const struct row rows[] = {
	{ "spiffe://cluster.local/ns/shop/sa/web", NULL },
	{ "spiffe://a/b", NULL },
	{ "spiffe://a/B", NULL },
	{ "spiffe://0-9_a.z/0-9_A.Z", NULL },
	{ "spiffe://a.b/c..d", NULL },
	{ "spiffe://a/...", NULL },
	{ "spiffe://a/.b", NULL },
	{ "spiffe://a/b.", NULL },
	{ "spiffe://a/..b/c", NULL },
	{ "spiffe://under_score/x", NULL },
	{ "spiffe://1.2.3.4/x", NULL },
	{ "", "empty" },
	{ "s", "begin with" },
	{ "spiffe", "begin with" },
	{ "spiffe:", "begin with" },
	{ "spiffe:/", "begin with" },
	{ "spiffe:/a/b", "begin with" },
	{ "spiffe:a/b", "begin with" },
	{ "//a/b", "begin with" },
	{ "a/b", "begin with" },
	{ "SPIFFE://a/b", "begin with" },
	{ "Spiffe://a/b", "begin with" },
	{ "spiffE://a/b", "begin with" },
	{ "http://a/b", "begin with" },
	{ "https://a/b", "begin with" },
	{ "spiffes://a/b", "begin with" },
	{ " spiffe://a/b", "begin with" },
	{ "spiffe ://a/b", "begin with" },
	{ "spiffe://", "trust domain" },
	{ "spiffe:///", "trust domain" },
	{ "spiffe:///a", "trust domain" },
	{ "spiffe:////a", "trust domain" },
	{ "spiffe://A/b", "trust domain" },
	{ "spiffe://Cluster.local/b", "trust domain" },
	{ "spiffe://cluster.locaL/b", "trust domain" },
	{ "spiffe://a:443/b", "trust domain" },
	{ "spiffe://a:/b", "trust domain" },
	{ "spiffe://user@a/b", "trust domain" },
	{ "spiffe://user:pass@a/b", "trust domain" },
	{ "spiffe://@a/b", "trust domain" },
	{ "spiffe://[::1]/b", "trust domain" },
	{ "spiffe://a%61/b", "trust domain" },
	{ "spiffe://a b/c", "trust domain" },
	{ "spiffe:// a/c", "trust domain" },
	{ "spiffe://a?b/c", "trust domain" },
	{ "spiffe://a#b/c", "trust domain" },
	{ "spiffe://a\\b/c", "trust domain" },
	{ "spiffe://a,b/c", "trust domain" },
	{ "spiffe://a!/c", "trust domain" },
	{ "spiffe://*/c", "trust domain" },
	{ "spiffe://a~/c", "trust domain" },
	{ "spiffe://\xc3\xa9/c", "trust domain" },
	{ "spiffe://a", "no path" },
	{ "spiffe://cluster.local", "no path" },
	{ "spiffe://a/", "ends in a slash" },
	{ "spiffe://a/b/", "ends in a slash" },
	{ "spiffe://a//", "empty segment" },
	{ "spiffe://a//b", "empty segment" },
	{ "spiffe://a/b//c", "empty segment" },
	{ "spiffe://a/b//", "empty segment" },
	{ "spiffe://a/.", ". or .." },
	{ "spiffe://a/..", ". or .." },
	{ "spiffe://a/./b", ". or .." },
	{ "spiffe://a/../b", ". or .." },
	{ "spiffe://a/b/.", ". or .." },
	{ "spiffe://a/b/..", ". or .." },
	{ "spiffe://a/b/../c", ". or .." },
	{ "spiffe://a/b/./c", ". or .." },
	{ "spiffe://a/b?", "character" },
	{ "spiffe://a/b?c=d", "character" },
	{ "spiffe://a/b#", "character" },
	{ "spiffe://a/b#c", "character" },
	{ "spiffe://a/%62", "character" },
	{ "spiffe://a/b%2fc", "character" },
	{ "spiffe://a/b%00", "character" },
	{ "spiffe://a/b%", "character" },
	{ "spiffe://a/b c", "character" },
	{ "spiffe://a/b ", "character" },
	{ "spiffe://a/b\n", "character" },
	{ "spiffe://a/b\t", "character" },
	{ "spiffe://a/b\r", "character" },
	{ "spiffe://a/b\x7f", "character" },
	{ "spiffe://a/b:c", "character" },
	{ "spiffe://a/b@c", "character" },
	{ "spiffe://a/b;c", "character" },
	{ "spiffe://a/b=c", "character" },
	{ "spiffe://a/b+c", "character" },
	{ "spiffe://a/b*", "character" },
	{ "spiffe://a/b~", "character" },
	{ "spiffe://a/b\\c", "character" },
	{ "spiffe://a/(b)", "character" },
	{ "spiffe://a/\xc3\xa9", "character" },
	{ "spiffe://a/\xff", "character" },
	{ "spiffe://a/b,spiffe://a/c", "character" },
};

static void check(const char *id, size_t size, const char *why)
{
	/* Its own block, to the byte, so that a sanitizer sees a read past the end. */
	char *copy = malloc(size ? size : 1);
	struct weft_spiffe spiffe = { .path = "untouched" };
	struct weft_err err = { 0 };
	int r;

	assert_non_null(copy);
	memcpy(copy, id, size);
	r = weft_spiffe_parse(copy, size, &spiffe, &err);
	if (!why && r != 0)
		fail_msg("`%s` is refused: %s", id, err.text);
	if (!why) {
		assert_ptr_equal(spiffe.trust_domain, copy + 9);
		assert_int_equal(9 + spiffe.trust_domain_size + spiffe.path_size, size);
		assert_ptr_equal(spiffe.path, spiffe.trust_domain + spiffe.trust_domain_size);
	} else {
		if (r == 0)
			fail_msg("`%s` is taken for an id", id);
		assert_int_equal(r, -EINVAL);
		assert_contains(err.text, why);
		assert_string_equal(spiffe.path, "untouched");
		assert_int_equal(weft_spiffe_parse(copy, size, &spiffe, NULL), -EINVAL);
	}
	free(copy);
}

static void test_grammar(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check(rows[i].id, strlen(rows[i].id), rows[i].why);
}

/* Every byte where one may stand. */
static void test_every_byte(void **state)
{
	(void)state;
	for (int c = 0; c < 256; c++) {
		bool in_domain = c && strchr("abcdefghijklmnopqrstuvwxyz0123456789.-_", c);
		bool in_path = in_domain || (c >= 'A' && c <= 'Z');
		char domain[] = "spiffe://aXb/c", path[] = "spiffe://a/bXc", last[] = "spiffe://a/b/cX";

		domain[10] = path[12] = last[14] = (char)c;
		check(domain, sizeof(domain) - 1, in_domain || c == '/' ? NULL : "trust domain");
		check(path, sizeof(path) - 1, in_path || c == '/' ? NULL : "character");
		if (c != '/')
			check(last, sizeof(last) - 1, in_path ? NULL : "character");
	}
}

/* A NUL ends nothing: an id that C code would read as another one is none. */
static void test_nul(void **state)
{
	static const char inside[] = "spiffe://a/b\0c", after[] = "spiffe://a/b", domain[] = "spiffe://a\0b/c";

	(void)state;
	check(inside, sizeof(inside) - 1, "character");
	check(after, sizeof(after), "character");
	check(domain, sizeof(domain) - 1, "trust domain");
}

static void fill(char *id, size_t domain, size_t size)
{
	memset(id, 'a', size);
	memcpy(id, "spiffe://", 9);
	id[9 + domain] = '/';
}

static void test_limits(void **state)
{
	char id[WEFT_SPIFFE_MAX + 1];

	(void)state;
	fill(id, 1, sizeof(id));
	check(id, WEFT_SPIFFE_MAX, NULL);
	check(id, WEFT_SPIFFE_MAX + 1, "at most 2048");
	fill(id, WEFT_TRUST_DOMAIN_MAX, sizeof(id));
	check(id, WEFT_SPIFFE_MAX, NULL);
	fill(id, WEFT_TRUST_DOMAIN_MAX + 1, sizeof(id));
	check(id, WEFT_SPIFFE_MAX, "trust domain");
}

static void test_service_account(void **state)
{
	static const struct {
		const char *id, *namespace, *service_account;
	} table[] = {
		{ "spiffe://cluster.local/ns/shop/sa/web", "shop", "web" },
		{ "spiffe://cluster.local/ns/ns/sa/sa", "ns", "sa" },
		{ "spiffe://cluster.local/ns/a.b-c/sa/D_e", "a.b-c", "D_e" },
		{ "spiffe://cluster.local/ns/shop", "", "" },
		{ "spiffe://cluster.local/ns/shop/sa", "", "" },
		{ "spiffe://cluster.local/ns/shop/sa/web/x", "", "" },
		{ "spiffe://cluster.local/ns/shop/x/sa/web", "", "" },
		{ "spiffe://cluster.local/x/ns/shop/sa/web", "", "" },
		{ "spiffe://cluster.local/NS/shop/sa/web", "", "" },
		{ "spiffe://cluster.local/ns/shop/SA/web", "", "" },
		{ "spiffe://cluster.local/nsx/shop/sa/web", "", "" },
		{ "spiffe://cluster.local/ns/shop/sab/web", "", "" },
		{ "spiffe://cluster.local/n", "", "" },
		{ "spiffe://cluster.local/web", "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct weft_spiffe spiffe;

		assert_int_equal(weft_spiffe_parse(table[i].id, strlen(table[i].id), &spiffe, NULL), 0);
		assert_int_equal(spiffe.namespace_size, strlen(table[i].namespace));
		assert_int_equal(spiffe.service_account_size, strlen(table[i].service_account));
		if (spiffe.namespace_size) {
			assert_memory_equal(spiffe.namespace, table[i].namespace, spiffe.namespace_size);
			assert_memory_equal(spiffe.service_account, table[i].service_account,
					    spiffe.service_account_size);
		}
	}
}

static void test_trust_domain(void **state)
{
	(void)state;
	assert_true(weft_trust_domain_valid("cluster.local", 13));
	assert_true(weft_trust_domain_valid("a_b-c.1", 7));
	assert_false(weft_trust_domain_valid("", 0));
	assert_false(weft_trust_domain_valid("Cluster.local", 13));
	assert_false(weft_trust_domain_valid("a/b", 3));
	assert_false(weft_trust_domain_valid("spiffe://a", 10));
	assert_false(weft_trust_domain_valid("a\0", 2));
}

/* What a peer wrote reaches a log line: nothing of it that does not print. */
static void test_sentence_is_printable(void **state)
{
	struct weft_spiffe spiffe;
	struct weft_err err;

	(void)state;
	assert_int_equal(weft_spiffe_parse("spiffe://a/\x1b[2Jb\n", 17, &spiffe, &err), -EINVAL);
	for (const char *at = err.text; *at; at++)
		assert_in_range(*at, ' ', '~');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grammar),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_service_account),
		cmocka_unit_test(test_trust_domain),
		cmocka_unit_test(test_sentence_is_printable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
