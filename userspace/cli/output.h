/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a command shows, as rows of documented columns. A command says what it
 * knows, once; output_text.c and output_json.c know the forms. A key that the
 * command's table of columns does not have, or has as another kind, is a bug and aborts: so the
 * help text, the man page and the output cannot differ.
 */
#ifndef WEFT_CLI_OUTPUT_H
#define WEFT_CLI_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "weft/abi/types.h"

struct json_object;

/* How a value looks in text; in JSON it is a plain string, number or boolean. The kind also aligns the column. */
enum weft_column_kind {
	WEFT_COLUMN_TEXT,
	WEFT_COLUMN_TEXTS, /* array of strings */
	WEFT_COLUMN_NUMBER,
	WEFT_COLUMN_BYTES,
	WEFT_COLUMN_NS, /* a duration in nanoseconds */
	WEFT_COLUMN_US, /* a duration in microseconds */
	WEFT_COLUMN_RATE, /* a real number, per second */
	WEFT_COLUMN_SHARE, /* 0 to 1 */
	WEFT_COLUMN_YES, /* true or false */
	WEFT_COLUMN_LIST, /* array of objects with `columns` */
	WEFT_COLUMN_FLAT, /* the same, and text tables give each of its rows a line */
	WEFT_COLUMN_OBJECT,
};

struct weft_column {
	const char *key; /* in JSON; NULL ends a table of columns */
	const char *header; /* in text; NULL: JSON only */
	enum weft_column_kind kind;
	const char *sentence;
	const struct weft_column *columns; /* of LIST, FLAT, OBJECT */
};

enum weft_form {
	WEFT_FORM_NONE, /* speaks for itself: help, generated files */
	WEFT_FORM_TABLE, /* text: a table; JSON: an array */
	WEFT_FORM_CARDS, /* text: one block a row; JSON: an array */
	WEFT_FORM_CARD, /* text: one block; JSON: an object */
	WEFT_FORM_STREAM, /* text: lines; JSON: an object a line, at once */
};

struct weft_output;

struct weft_output_ops {
	bool for_people; /* may be painted on a terminal */
	/* One row of a STREAM. */
	void (*stream)(struct weft_output *output, struct json_object *row);
	/* All rows of any other form: a JSON array of objects. */
	void (*whole)(struct weft_output *output, struct json_object *rows);
};

#define WEFT_OUTPUT_DEPTH 8

struct weft_output {
	const struct weft_output_ops *ops;
	FILE *to;
	bool pretty;
	enum weft_form form;
	const struct weft_column *columns;
	bool streaming; /* the header of a STREAM is out */
	struct json_object *rows;
	struct {
		const struct weft_column *columns;
		struct json_object *list; /* takes rows; NULL: an object */
		struct json_object *object; /* takes values; NULL: between rows */
	} stack[WEFT_OUTPUT_DEPTH];
	int depth;
};

extern const struct weft_output_ops weft_output_text_ops;
extern const struct weft_output_ops weft_output_json_ops;

/* Nothing of what was begun before is kept. */
void weft_output_begin(struct weft_output *output, enum weft_form form, const struct weft_column *columns);
/* Prints what was collected. 0, or -errno of the stream. */
int weft_output_end(struct weft_output *output);
/* Forgets what was collected; takes an output that was never begun. */
void weft_output_drop(struct weft_output *output);

/* A row of the innermost open list. */
void weft_output_row(struct weft_output *output);
void weft_output_row_end(struct weft_output *output);

/* A list or object below the open row. */
void weft_output_list(struct weft_output *output, const char *key);
void weft_output_list_end(struct weft_output *output);
void weft_output_object(struct weft_output *output, const char *key);
void weft_output_object_end(struct weft_output *output);

/* Values of the open row. A key that is not set is left out of JSON and "-" in text. */
void weft_output_text(struct weft_output *output, const char *key, const char *text); /* NULL and "": not set */
void weft_output_textf(struct weft_output *output, const char *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void weft_output_texts_add(struct weft_output *output, const char *key, const char *text);
void weft_output_addr(struct weft_output *output, const char *key, const struct weft_addr *addr);
void weft_output_number(struct weft_output *output, const char *key, uint64_t number); /* NUMBER, BYTES, NS, US */
void weft_output_real(struct weft_output *output, const char *key, double number); /* RATE, SHARE */
void weft_output_yes(struct weft_output *output, const char *key, bool yes);

#endif
