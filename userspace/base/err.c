/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int weft_err_set(struct weft_err *err, int code, const char *format, ...)
{
	int saved = errno;
	va_list args;

	code = abs(code);
	if (err) {
		errno = code;
		va_start(args, format);
		vsnprintf(err->text, sizeof(err->text), format, args);
		va_end(args);
		errno = saved;
	}
	return -code;
}

int weft_err_prefix(struct weft_err *err, int code, const char *format, ...)
{
	char rest[sizeof(err->text)];
	size_t used;
	va_list args;

	if (!err)
		return code;
	memcpy(rest, err->text, sizeof(rest));
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	used = strlen(err->text);
	snprintf(err->text + used, sizeof(err->text) - used, ": %s", rest);
	return code;
}
