/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds as tables: what a field is called, what it may hold and where it goes.
 * A key of a mapping is one of four: a row (honoured), in `notice` (exists
 * upstream, not honoured yet: said), in `silent` (exists upstream, no business
 * of a mesh), or unknown, which is an error with the nearest known word.
 *
 * Nothing here stops at the first mistake: a document is read to its end, so
 * that one check shows all that is wrong with it.
 */
#ifndef WEFT_CONF_SCHEMA_H
#define WEFT_CONF_SCHEMA_H

#include <netinet/in.h>

#include "conf/arena.h"
#include "conf/conf.h"
#include "conf/node.h"

/* The way to a node, innermost first; lives on the reading functions' stack. */
struct weft_at {
	const struct weft_at *up;
	const char *key; /* NULL: `index` */
	size_t index;
};

struct weft_decode {
	struct weft_arena *arena; /* the resource's: what is kept is copied into it */
	struct weft_arena *scratch; /* for what only finish() reads */
	struct weft_problems *problems;
	const char *file;
	const char *resource; /* "Service shop/web", for messages */
	const char *const *annotations; /* weft.dev/ ones that the kind has, NULL-terminated */
	const struct weft_yaml *root; /* of the resource, and how to get there */
	const struct weft_at *root_at;
	size_t first_problem; /* of this resource, in `problems` */
	size_t errors;
	int status; /* 0 or -ENOMEM, which sticks */
};

enum weft_type_id {
	WEFT_TYPE_STRING = 0, /* const char * */
	WEFT_TYPE_BOOL, /* bool */
	WEFT_TYPE_INT, /* unsigned, of `size` bytes, min..max */
	WEFT_TYPE_WORD, /* one of `words`, stored in `size` bytes */
	WEFT_TYPE_ADDR, /* struct weft_addr */
	WEFT_TYPE_CIDR, /* struct weft_cidr; a single address is one of full length */
	WEFT_TYPE_TIME, /* int64_t seconds since the epoch, from RFC 3339 */
	WEFT_TYPE_DURATION, /* uint32_t seconds, min..max, from "90s" or "1m30s" */
	WEFT_TYPE_PAIRS, /* struct weft_pairs */
	WEFT_TYPE_OBJECT, /* a struct of `table` */
	WEFT_TYPE_LIST, /* {const T *item; size_t count} of `element`, at most `max` (0: any number) */
	WEFT_TYPE_CUSTOM, /* decode() */
};

struct weft_word {
	const char *word; /* NULL ends the list */
	int value;
};

struct weft_type {
	enum weft_type_id id;
	size_t size;
	int64_t min;
	int64_t max;
	const struct weft_word *words;
	const struct weft_table *table;
	const struct weft_type *element;
	bool passing; /* a LIST, with all that hangs on it, is gone after finish() */
	const char *(*check)(const char *text); /* STRING, PAIRS' values: NULL, or what was expected */
	void (*decode)(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target);
};

struct weft_field {
	const char *key;
	const struct weft_type *type;
	size_t offset;
	bool required;
};

struct weft_table {
	const struct weft_field *field;
	size_t field_count;
	const char *const *notice; /* NULL, or NULL-terminated */
	const char *const *silent;
	const void *initial; /* the struct with its defaults */
	size_t size; /* of the struct */
};

#define WEFT_FIELD(name, weft_type_, type, member) { name, &(weft_type_), offsetof(type, member), false }
#define WEFT_FIELD_REQUIRED(name, weft_type_, type, member) { name, &(weft_type_), offsetof(type, member), true }
/* A LIST goes into two members that stand one behind the other. */
#define WEFT_FIELD_LIST(name, weft_type_, type, member, counter)                                                     \
	{ name, &(weft_type_),                                                                                       \
	  offsetof(type, member) +                                                                                   \
		  0 * sizeof(char[offsetof(type, counter) == offsetof(type, member) + sizeof(void *) ? 1 : -1]),     \
	  false }
#define WEFT_WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define WEFT_FIELDS(rows) .field = (rows), .field_count = WEFT_ARRAY_SIZE(rows)

extern const struct weft_type weft_type_string;
extern const struct weft_type weft_type_bool;
extern const struct weft_type weft_type_port; /* uint16_t, 1..65535 */
extern const struct weft_type weft_type_u32;
extern const struct weft_type weft_type_addr;
extern const struct weft_type weft_type_addrs; /* struct weft_addrs */
extern const struct weft_type weft_type_cidr;
extern const struct weft_type weft_type_cidrs; /* struct weft_cidrs */
extern const struct weft_type weft_type_strings; /* struct weft_strings */
extern const struct weft_type weft_type_labels; /* struct weft_pairs, keys and values as Kubernetes wants labels */
extern const struct weft_type weft_type_label_name; /* DNS-1123 label */
extern const struct weft_type weft_type_protocol; /* uint8_t: TCP, UDP, SCTP */
extern const struct weft_type weft_type_simple_lb; /* enum weft_simple_lb */

/* NULL if the text is one, else what was expected. */
const char *weft_check_label_name(const char *text); /* DNS-1123 label */
const char *weft_check_subdomain(const char *text); /* DNS-1123 subdomain */
const char *weft_check_port_name(const char *text); /* IANA service name, as a targetPort has it */

/* Reads `node` into `target`, which is set to its defaults first where it is a table's struct. */
void weft_decode_table(struct weft_decode *decode, const struct weft_table *table, const struct weft_yaml *node,
		       const struct weft_at *at, void *target);
void weft_decode_value(struct weft_decode *decode, const struct weft_type *type, const struct weft_yaml *node,
		       const struct weft_at *at, void *target);

/* A copy in the resource's arena; "" and a sticky -ENOMEM if there is no memory. */
const char *weft_decode_copy(struct weft_decode *decode, const char *text);

/* Zeroed memory of the resource's arena; NULL and a sticky -ENOMEM. */
void *weft_decode_alloc(struct weft_decode *decode, size_t size);

/* A problem of this node. */
void weft_decode_problem(struct weft_decode *decode, enum weft_severity severity, const struct weft_yaml *node,
			 const struct weft_at *at, const char *format, ...) __attribute__((format(printf, 5, 6)));

/*
 * The same for checks that look at decoded values: `path` counts from the
 * resource ("spec.ports[1].port"); the line is that of the deepest part that
 * is there. A place that a problem was already said of is left at that.
 */
void weft_decode_error(struct weft_decode *decode, const char *path, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void weft_decode_notice(struct weft_decode *decode, const char *path, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

struct weft_path {
	char text[128];
};
/* weft_path("spec.ports[%zu]", i).text lives until the end of the expression that it stands in. */
struct weft_path weft_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* `word` if it is near enough to `text` to have been meant, and nearer than `so_far` (NULL at first); else `so_far`. */
const char *weft_nearest(const char *text, const char *word, const char *so_far);

#endif
