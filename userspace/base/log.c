/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

static const char *log_role = "weft";
static enum weft_log_level log_level = WEFT_LOG_INFO;

static const char *const level_names[] = {
	[WEFT_LOG_ERROR] = "error",
	[WEFT_LOG_WARNING] = "warning",
	[WEFT_LOG_INFO] = "info",
	[WEFT_LOG_DEBUG] = "debug",
};
_Static_assert(WEFT_ARRAY_SIZE(level_names) == WEFT_LOG_LEVEL_MAX_, "a level has no name");

void weft_log_set_role(const char *role)
{
	log_role = role;
}

void weft_log_set_level(enum weft_log_level level)
{
	log_level = level;
}

enum weft_log_level weft_log_level(void)
{
	return log_level;
}

const char *weft_log_level_name(enum weft_log_level level)
{
	return (size_t)level < WEFT_ARRAY_SIZE(level_names) ? level_names[level] : NULL;
}

int weft_log_level_parse(const char *name, enum weft_log_level *ret_level)
{
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(level_names); i++)
		if (strcmp(name, level_names[i]) == 0) {
			*ret_level = (enum weft_log_level)i;
			return 0;
		}
	return -EINVAL;
}

void weft_log(enum weft_log_level level, const char *format, ...)
{
	/* One write of a bounded line: lines of several roles on one pipe do not mix below PIPE_BUF. */
	char text[2048], line[3584];
	int saved = errno, at;
	va_list args;

	if (level > log_level)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	at = snprintf(line, sizeof(line), "weftd[%s]: %s: ", log_role, weft_log_level_name(level));
	for (const char *c = text; *c && (size_t)at < sizeof(line) - 6; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			at += snprintf(line + at, sizeof(line) - (size_t)at, "\\x%02x", (unsigned char)*c);
		else
			line[at++] = *c;
	}
	line[at++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)at) < 0)
		errno = saved; /* nowhere left to say it */
	errno = saved;
}
