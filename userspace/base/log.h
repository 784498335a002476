/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event on stderr, which systemd and container runtimes collect.
 * Only agent/ and cli/ speak above debug level: a library hands its error up,
 * and the one who knows what the user was doing says it, once.
 */
#ifndef WEFT_BASE_LOG_H
#define WEFT_BASE_LOG_H

enum weft_log_level {
	WEFT_LOG_ERROR = 0,
	WEFT_LOG_WARNING,
	WEFT_LOG_INFO,
	WEFT_LOG_DEBUG,
	WEFT_LOG_LEVEL_MAX_,
};

/* `role` stands in every line; it must outlive all logging. */
void weft_log_set_role(const char *role);
void weft_log_set_level(enum weft_log_level level);
enum weft_log_level weft_log_level(void);

/* NULL for a value that is no level. */
const char *weft_log_level_name(enum weft_log_level level);
/* -EINVAL: no such level; *ret_level is untouched. */
int weft_log_level_parse(const char *name, enum weft_log_level *ret_level);

/* Keeps errno. Control characters of the text come out escaped. */
void weft_log(enum weft_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define weft_error(...) weft_log(WEFT_LOG_ERROR, __VA_ARGS__)
#define weft_warning(...) weft_log(WEFT_LOG_WARNING, __VA_ARGS__)
#define weft_info(...) weft_log(WEFT_LOG_INFO, __VA_ARGS__)
#define weft_debug(...) weft_log(WEFT_LOG_DEBUG, __VA_ARGS__)

#endif
