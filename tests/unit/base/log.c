/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* What `speak` wrote to stderr. */
static char *spoken(void (*speak)(void), char *text, size_t size)
{
	int pipes[2], saved = dup(STDERR_FILENO);
	ssize_t got;

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(fcntl(pipes[0], F_SETFL, O_NONBLOCK), 0);
	assert_true(dup2(pipes[1], STDERR_FILENO) >= 0);
	speak();
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	got = read(pipes[0], text, size - 1);
	text[got > 0 ? got : 0] = '\0';
	close(pipes[0]);
	close(pipes[1]);
	close(saved);
	return text;
}

static void speak_levels(void)
{
	errno = ENOENT;
	weft_info("seen %d", 1);
	assert_int_equal(errno, ENOENT);
	weft_debug("hidden");
}

static void speak_controls(void)
{
	weft_error("a\nb\x1b[31m");
}

static void speak_long(void)
{
	weft_error("%5000d", 7);
}

static void levels_and_one_line_per_event(void **state)
{
	char text[8192];
	enum weft_log_level level = WEFT_LOG_INFO;

	(void)state;
	weft_log_set_role("test");
	assert_string_equal(spoken(speak_levels, text, sizeof(text)), "weftd[test]: info: seen 1\n");
	assert_int_equal(weft_log_level(), WEFT_LOG_INFO);
	weft_log_set_level(WEFT_LOG_DEBUG);
	assert_string_equal(spoken(speak_levels, text, sizeof(text)), "weftd[test]: info: seen 1\nweftd[test]: debug: hidden\n");
	weft_log_set_level(WEFT_LOG_ERROR);
	assert_string_equal(spoken(speak_levels, text, sizeof(text)), "");
	assert_string_equal(spoken(speak_controls, text, sizeof(text)), "weftd[test]: error: a\\x0ab\\x1b[31m\n");
	spoken(speak_long, text, sizeof(text));
	assert_true(strlen(text) < 4096);
	assert_int_equal(text[strlen(text) - 1], '\n');

	assert_int_equal(weft_log_level_parse("debug", &level), 0);
	assert_int_equal(level, WEFT_LOG_DEBUG);
	assert_int_equal(weft_log_level_parse("loud", &level), -EINVAL);
	assert_int_equal(level, WEFT_LOG_DEBUG);
	assert_null(weft_log_level_name(WEFT_LOG_LEVEL_MAX_));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels_and_one_line_per_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
