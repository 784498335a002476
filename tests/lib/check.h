/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka in the order that it wants, and the few checks that it lacks. */
#ifndef WEFT_TESTS_CHECK_H
#define WEFT_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define CHECK_SKIPPED 77 /* meson's exit code for a test that could not run */

/* Says both when a needle is not in a text. */
#define assert_contains(text, needle)                                                     \
	do {                                                                              \
		if (!strstr((text), (needle)))                                            \
			fail_msg("`%s` is not in `%s`", (needle), (text));                \
	} while (0)

#endif
