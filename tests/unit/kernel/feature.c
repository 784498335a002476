/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/kernel.h"

#define BIT(NAME) (UINT64_C(1) << WEFT_FEATURE_##NAME)
#define ALL ((UINT64_C(1) << WEFT_FEATURE_MAX_) - 1)

static void names_go_there_and_back(void **state)
{
	enum weft_feature feature = WEFT_FEATURE_MAX_;

	(void)state;
	for (int i = 0; i < WEFT_FEATURE_MAX_; i++) {
		assert_int_equal(weft_feature_parse(weft_feature_name((enum weft_feature)i), &feature), 0);
		assert_int_equal(feature, i);
	}
	feature = WEFT_FEATURE_BTF;
	assert_int_equal(weft_feature_parse("bogus", &feature), -EINVAL);
	assert_int_equal(weft_feature_parse("", &feature), -EINVAL);
	assert_int_equal(weft_feature_parse("SOCKOPS", &feature), -EINVAL);
	assert_int_equal(feature, WEFT_FEATURE_BTF);
	assert_null(weft_feature_name(WEFT_FEATURE_MAX_));
}

static void the_floor_names_all_that_is_missing(void **state)
{
	struct weft_err err = { "" };
	uint64_t optional = BIT(SET_RETVAL) | BIT(SOCK_DESTROY) | BIT(SOCK_DIAG_DESTROY) | BIT(SOCKOPS_NETNS);

	(void)state;
	assert_int_equal(weft_feature_check_floor(ALL, &err), 0);
	assert_int_equal(weft_feature_check_floor(ALL & ~optional, &err), 0);
	assert_string_equal(err.text, "");
	assert_int_equal(weft_feature_check_floor(ALL & ~(BIT(RINGBUF) | BIT(BTF)), &err), -EOPNOTSUPP);
	assert_contains(err.text, "ringbuf (");
	assert_contains(err.text, "btf (");
	assert_contains(err.text, "CONFIG_DEBUG_INFO_BTF");
	assert_null(strstr(err.text, "sockops"));
	assert_int_equal(weft_feature_check_floor(0, NULL), -EOPNOTSUPP);
}

/* The kernel's own list of kfuncs and helpers, asked without a BPF call. */
static bool kernel_has_symbol(const char *name)
{
	weft_fclose_on_exit FILE *symbols = fopen("/proc/kallsyms", "re");
	char line[512], symbol[256];

	assert_non_null(symbols);
	while (fgets(line, sizeof(line), symbols))
		if (sscanf(line, "%*s %*s %255s", symbol) == 1 && strcmp(symbol, name) == 0)
			return true;
	return false;
}

static void the_probe_agrees_with_the_kernels_symbols(void **state)
{
	uint64_t there;

	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: loading programs needs root\n");
		skip();
	}
	there = weft_feature_probe(0);
	assert_int_equal(there & ~ALL, 0);
	assert_int_equal(!!(there & BIT(SOCK_DESTROY)), kernel_has_symbol("bpf_sock_destroy"));
	assert_int_equal(!!(there & BIT(SET_RETVAL)), kernel_has_symbol("bpf_set_retval"));
	assert_int_equal(!!(there & BIT(SOCKOPS_NETNS)), kernel_has_symbol("bpf_get_netns_cookie_sock_ops"));
	assert_int_equal(!!(there & BIT(SOCK_DIAG_DESTROY)), kernel_has_symbol("tcp_diag_destroy"));
	assert_int_equal(!(there & BIT(SOCK_STORAGE_ITER)), kernel_has_symbol("bpf_selem_unlink_nofail"));
	assert_int_equal(!!(there & BIT(RINGBUF)), kernel_has_symbol("bpf_ringbuf_reserve"));
	assert_int_equal(!!(there & BIT(BTF)), access("/sys/kernel/btf/vmlinux", R_OK) == 0);
}

static void what_is_forced_is_gone_and_nothing_else(void **state)
{
	uint64_t there = weft_feature_probe(0);

	(void)state;
	for (int i = 0; i < WEFT_FEATURE_MAX_; i++)
		assert_int_equal(weft_feature_probe(UINT64_C(1) << i), there & ~(UINT64_C(1) << i));
	assert_int_equal(weft_feature_probe(~UINT64_C(0)), 0);
}

static void without_capabilities_nothing_that_loads_is_there(void **state)
{
	int status;
	pid_t child;

	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: giving up root needs root\n");
		skip();
	}
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		uint64_t need = BIT(SOCK_ADDR) | BIT(SOCKOPS) | BIT(SOCK_STORAGE) | BIT(CGROUP_LINK) | BIT(SET_RETVAL);

		_exit(setresuid(65534, 65534, 65534) < 0 ? 2 : weft_feature_probe(0) & need ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_go_there_and_back),
		cmocka_unit_test(the_floor_names_all_that_is_missing),
		cmocka_unit_test(the_probe_agrees_with_the_kernels_symbols),
		cmocka_unit_test(what_is_forced_is_gone_and_nothing_else),
		cmocka_unit_test(without_capabilities_nothing_that_loads_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
