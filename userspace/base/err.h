/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An error that a person will read: a -errno for the program and one sentence
 * that names the thing, the cause and the next step. Libraries fill it, the
 * caller who knows the context speaks it.
 */
#ifndef WEFT_BASE_ERR_H
#define WEFT_BASE_ERR_H

struct weft_err {
	char text[768]; /* "" while there is none; a longer sentence is cut */
};

/*
 * Writes the sentence and returns -|code|, so that `return weft_err_set(...)`
 * works. `err` may be NULL. "%m" is the text of `code`.
 */
int weft_err_set(struct weft_err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of what is there. Returns code unchanged. */
int weft_err_prefix(struct weft_err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
