/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>

#include "agent/options.h"
#include "base/addr.h"
#include "kernel/kernel.h"

#define MAX_WORDS 16

static int parse(const char *const *words, struct weft_options *options, struct weft_err *err)
{
	static char *argv[MAX_WORDS + 2];
	int argc = 1;

	argv[0] = (char *)"weftd";
	while (*words)
		argv[argc++] = (char *)*words++;
	argv[argc] = NULL;
	return weft_options_parse(argc, argv, options, err);
}

#define PARSE(...) parse((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL }, &options, &err)

static void test_defaults(void **state)
{
	struct weft_options options;
	struct weft_err err;
	char text[WEFT_ADDR_TEXT];

	(void)state;
	assert_int_equal(PARSE(), 0);
	assert_int_equal(options.action, WEFT_ACTION_RUN);
	assert_int_equal(options.role, WEFT_AGENT_INIT);
	assert_string_equal(options.config, "/etc/weft/config.d");
	assert_false(options.config_given);
	assert_string_equal(options.pins, "/sys/fs/bpf/weft");
	assert_string_equal(options.state, "/var/lib/weft");
	assert_string_equal(options.run, "/run/weft");
	assert_null(options.cgroup);
	assert_null(options.user);
	assert_true(options.metrics);
	assert_string_equal(weft_addr_port_format(&options.metrics_addr, options.metrics_port, text), "127.0.0.1:9464");
	assert_int_equal(options.log_level, WEFT_LOG_INFO);
	assert_true(options.node[0]);
	assert_int_equal(options.without_features, 0);
}

static void test_all(void **state)
{
	struct weft_options options;
	struct weft_err err;
	char text[WEFT_ADDR_TEXT];

	(void)state;
	assert_int_equal(PARSE("--config", "c", "--node=n", "--cgroup", "g", "--metrics", "[::1]:99", "--user", "u", "--log-level", "debug"), 0);
	assert_string_equal(options.config, "c");
	assert_true(options.config_given);
	assert_string_equal(options.node, "n");
	assert_string_equal(options.cgroup, "g");
	assert_string_equal(options.user, "u");
	assert_int_equal(options.log_level, WEFT_LOG_DEBUG);
	assert_string_equal(weft_addr_port_format(&options.metrics_addr, options.metrics_port, text), "[::1]:99");
	assert_int_equal(PARSE("--metrics", "off"), 0);
	assert_false(options.metrics);
	assert_int_equal(PARSE("--check", "dir", "--json"), 0);
	assert_int_equal(options.action, WEFT_ACTION_CHECK);
	assert_string_equal(options.directory, "dir");
	assert_true(options.json);
	assert_int_equal(PARSE("--ca-export", "file", "--trust-domain", "a.b", "--json"), 0);
	assert_int_equal(options.action, WEFT_ACTION_CA_EXPORT);
	assert_string_equal(options.directory, "file");
	assert_string_equal(options.trust_domain, "a.b");
	assert_int_equal(PARSE("--ca-revoke", "0a"), 0);
	assert_int_equal(options.action, WEFT_ACTION_CA_REVOKE);
	assert_string_equal(options.directory, "0a");
	assert_int_equal(PARSE("--role", "control"), 0);
	assert_int_equal(options.role, WEFT_AGENT_CONTROL);
	assert_int_equal(PARSE("--role", "proxy", "--proxy", "63", "--proxies", "64"), 0);
	assert_int_equal(options.role, WEFT_AGENT_PROXY);
	assert_int_equal(options.proxy, 63);
	assert_int_equal(options.proxies, 64);
}

static void test_repeated(void **state)
{
	struct weft_options options;
	struct weft_err err;

	(void)state;
	assert_int_equal(PARSE("--without-feature", "sock_destroy", "--without-feature", "set_retval", "--map-size", "frontend=10", "--map-size",
			       "weft_slot=20"),
			 0);
	assert_int_equal(options.without_features, 1ull << WEFT_FEATURE_SOCK_DESTROY | 1ull << WEFT_FEATURE_SET_RETVAL);
	assert_int_equal(options.capacity.max_entries[WEFT_MAP_FRONTEND], 10);
	assert_int_equal(options.capacity.max_entries[WEFT_MAP_SLOT], 20);
	assert_int_equal(options.capacity.max_entries[WEFT_MAP_POD], 0);
	assert_int_equal(PARSE("--map-size", "endpoint=1048576"), 0);
}

static void test_wrong(void **state)
{
	const struct {
		const char *words[5];
		const char *said;
	} rows[] = {
		{ { "--nonsense" }, "--nonsense: no such option" },
		{ { "word" }, "word: weftd takes options only" },
		{ { "--config" }, "--config needs an argument" },
		{ { "--config", "" }, "--config may not be empty" },
		{ { "--node", "" }, "--node may not be empty" },
		{ { "--metrics", "9464" }, "expected an address and a port" },
		{ { "--metrics", "localhost:9464" }, "expected an address and a port" },
		{ { "--log-level", "loud" }, "--log-level loud" },
		{ { "--proxies", "0" }, "--proxies 0: expected a number from 1 to 64" },
		{ { "--proxies", "65" }, "--proxies 65: expected a number from 1 to 64" },
		{ { "--proxies", "-1" }, "expected a number" },
		{ { "--proxies", "2x" }, "expected a number" },
		{ { "--proxies", "" }, "expected a number" },
		{ { "--proxy", "64" }, "--proxy 64: expected a number from 0 to 63" },
		{ { "--without-feature", "magic" }, "there is no such feature" },
		{ { "--map-size", "frontend" }, "expected NAME=N" },
		{ { "--map-size", "frontend=" }, "expected NAME=N" },
		{ { "--map-size", "frontend=-1" }, "expected NAME=N" },
		{ { "--map-size", "frontend=0" }, "a number from 1 to" },
		{ { "--map-size", "frontend=67108865" }, "a number from 1 to" },
		{ { "--map-size", "frontend=99999999999999999999" }, "a number from 1 to" },
		{ { "--map-size", "frontend=1x" }, "a number from 1 to" },
		{ { "--map-size", "front=1" }, "there is no such map" },
		{ { "--map-size", "=1" }, "there is no such map" },
		{ { "--map-size", "setting=2" }, "is fixed" },
		{ { "--map-size", "live=2" }, "give endpoint=2" },
		{ { "--map-size", "endpoint=1048577" }, "at most 1048576 endpoints" },
		{ { "--map-max", "aggregate=10" }, "weft_aggregate never grows" },
		{ { "--map-max", "endpoint=1048577" }, "--map-max endpoint=1048577: at most 1048576 endpoints" },
		{ { "--map-size", "frontend=11", "--map-max", "frontend=10" }, "less than its --map-size, 11" },
		{ { "--json" }, "--json goes with" },
		{ { "--ca-export", "f", "--ca-join", "f" }, "only one of" },
		{ { "--ca-export" }, "--ca-export needs an argument" },
		{ { "--trust-domain", "a.b" }, "--trust-domain goes with --ca-export" },
		{ { "--ca-join", "f", "--trust-domain", "a.b" }, "--trust-domain goes with --ca-export" },
		{ { "--check", "a", "--uninstall" }, "only one of" },
		{ { "--role", "init" }, "init starts the roles" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct weft_options options = { .config = "untouched" };
		struct weft_err err = { "" };

		assert_int_equal(parse(rows[i].words, &options, &err), -EINVAL);
		assert_contains(err.text, rows[i].said);
		assert_string_equal(options.config, "untouched");
	}
}

static void test_ceilings(void **state)
{
	struct weft_options options;
	struct weft_err err;

	(void)state;
	assert_int_equal(PARSE("--map-max", "frontend=100", "--map-size", "frontend=100", "--map-size", "slot=8000000", "--map-size", "pod=5"), 0);
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_FRONTEND], 100);
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_SLOT], 8000000);
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_POD], 1 << 20);
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_ENDPOINT], 1 << WEFT_ENDPOINT_INDEX_BITS);
	/* A cache is not asked to hold anything: it grows to what was said, if anything was. */
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_AFFINITY], 65536);
	assert_int_equal(PARSE("--map-size", "affinity=10"), 0);
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_AFFINITY], 10);
	assert_int_equal(PARSE("--map-size", "affinity=10", "--map-max", "affinity=100"), 0);
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_AFFINITY], 100);
	/* Main is asked to make these larger by nobody. */
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_SETTING], 0);
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_LIVE], 0);
	assert_int_equal(options.ceiling.max_entries[WEFT_MAP_AGGREGATE], 0);
}

/* What people are told is what is understood. */
static void test_help(void **state)
{
	char *text = NULL, *line, *at;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	int options_seen = 0;

	(void)state;
	weft_options_help(out);
	fclose(out);
	at = text;
	while ((line = strsep(&at, "\n"))) {
		char name[64];
		struct weft_options options;
		struct weft_err err = { "" };

		if (sscanf(line, "  --%63[a-z-]", name) != 1)
			continue;
		memmove(name + 2, name, 62);
		memcpy(name, "--", 2);
		options_seen++;
		assert_null(strstr(name, "role"));
		assert_string_not_equal(name, "--proxy");
		parse((const char *const[]){ name, NULL }, &options, &err);
		assert_null(strstr(err.text, "no such option"));
	}
	assert_int_equal(options_seen, 24);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_all),  cmocka_unit_test(test_repeated),
		cmocka_unit_test(test_wrong),	 cmocka_unit_test(test_help), cmocka_unit_test(test_ceilings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
