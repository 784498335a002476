/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML text to one tree a document, with the limits of conf/conf.h kept while
 * reading, so that no text can make the tree larger than they say.
 *
 * What a tree cannot hold (anchors, tags, a key twice, too deep, too many) is
 * written down and reading goes on: the rest of the document is still good
 * for telling whose it was, and the documents behind it are not its fault.
 */
#ifndef WEFT_CONF_NODE_H
#define WEFT_CONF_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/arena.h"
#include "conf/conf.h"

enum weft_yaml_type {
	WEFT_YAML_SCALAR = 0,
	WEFT_YAML_SEQUENCE,
	WEFT_YAML_MAPPING,
};

struct weft_yaml {
	struct weft_yaml *next; /* in the same sequence or mapping */
	union {
		struct weft_yaml *first; /* SEQUENCE, MAPPING */
		const char *text; /* SCALAR: without a NUL inside */
	};
	const char *key; /* in a mapping, else NULL */
	uint32_t line; /* of the value, from 1 */
	uint32_t key_line;
	uint32_t count; /* children, or bytes of text */
	uint8_t type; /* enum weft_yaml_type */
	bool quoted; /* a string whatever it looks like */
};

/* What a scalar is by YAML 1.1, as Kubernetes' reader sees it. */
enum weft_scalar {
	WEFT_SCALAR_STRING = 0,
	WEFT_SCALAR_NULL,
	WEFT_SCALAR_BOOL, /* yes, no, on and off are too */
	WEFT_SCALAR_INT,
	WEFT_SCALAR_FLOAT,
};

enum weft_scalar weft_yaml_scalar(const struct weft_yaml *node);
/* Null is absent. */
bool weft_yaml_is_null(const struct weft_yaml *node);
/* NULL: no mapping, or no such key. */
const struct weft_yaml *weft_yaml_get(const struct weft_yaml *node, const char *key);
/* NULL: no sequence, or shorter. */
const struct weft_yaml *weft_yaml_at(const struct weft_yaml *node, size_t index);

struct weft_yaml_reader;

/* `text` must outlive the reader. NULL: out of memory. */
struct weft_yaml_reader *weft_yaml_reader_new(const char *file, const char *text, size_t size);
struct weft_yaml_reader *weft_yaml_reader_free(struct weft_yaml_reader *reader);
WEFT_CLEANUP_DEFINE(struct weft_yaml_reader, weft_yaml_reader_free);

struct weft_yaml_document {
	const struct weft_yaml *root; /* until the next call; NULL: nothing could be kept */
	unsigned int line;
	bool closed; /* its text says where it ends: `}`, `]`, `...`, or another document behind it */
	struct weft_problems problems; /* with the file, line and path; not empty: the document is refused */
};

void weft_yaml_document_done(struct weft_yaml_document *document);

/*
 * 1 with a document, 0 at the end, -EBADMSG when the text is no YAML from here
 * on (`document` then holds the problem), -ENOMEM.
 */
int weft_yaml_read(struct weft_yaml_reader *reader, struct weft_yaml_document *ret_document);

#endif
