/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "conf/resource.h"

static void test_kinds(void **state)
{
	(void)state;
	for (int kind = 0; kind < WEFT_KIND_MAX_; kind++)
		assert_non_null(weft_kind_name((enum weft_kind)kind));
	assert_string_equal(weft_kind_name(WEFT_KIND_ENDPOINT_SLICE), "EndpointSlice");
	assert_string_equal(weft_kind_name(WEFT_KIND_MESH_CONFIG), "MeshConfig");
	assert_null(weft_kind_name(WEFT_KIND_MAX_));
	assert_null(weft_kind_name((enum weft_kind)-1));
}

static void test_pairs(void **state)
{
	const struct weft_pair all[] = { { "app", "web" }, { "tier", "" } }, other[] = { { "app", "db" } };
	const struct weft_pairs have = { all, 2 }, first = { all, 1 }, wrong = { other, 1 }, none = { 0 };

	(void)state;
	assert_string_equal(weft_pairs_get(&have, "tier"), "");
	assert_null(weft_pairs_get(&have, "ap"));
	assert_true(weft_pairs_match(&have, &first));
	assert_true(weft_pairs_match(&have, &none));
	assert_true(weft_pairs_match(&none, &none));
	assert_false(weft_pairs_match(&first, &have));
	assert_false(weft_pairs_match(&have, &wrong));
	weft_resource_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_kinds), cmocka_unit_test(test_pairs) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
