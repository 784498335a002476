/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text of a configuration file in, resources and problems out. Pure: the
 * caller reads the file. YAML 1.1 as libyaml reads it, which takes JSON too;
 * many documents a file; `kind: List` (and ServiceList ...) is unfolded.
 *
 * A document is good or refused, whole and alone. What upstream has and weft
 * does not honour yet is a notice; what nobody has is an error; what is none
 * of a mesh's business (a container's image) is passed over in silence.
 */
#ifndef WEFT_CONF_CONF_H
#define WEFT_CONF_CONF_H

#include <stdio.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "conf/resource.h"

/* reliability-security.md appendix A; each is tested at the limit and one past it. */
#define WEFT_CONF_MAX_FILE (16u << 20) /* bytes */
#define WEFT_CONF_MAX_DEPTH 64
#define WEFT_CONF_MAX_STRING (64u << 10) /* bytes of one scalar */
#define WEFT_CONF_MAX_ITEMS 1000000u /* nodes of one document */
#define WEFT_CONF_MAX_DOCUMENTS 100000u /* a file */
/* Anchors and aliases: none. */

enum weft_severity {
	WEFT_SEVERITY_NOTICE = 0,
	WEFT_SEVERITY_ERROR,
};

struct weft_problem {
	enum weft_severity severity;
	char *file;
	unsigned int line; /* from 1; 0 = the file as a whole */
	char *resource; /* "Service shop/web", "" if not known */
	char *path; /* "spec.ports[1].port", "" for the whole document */
	char *text; /* what is wrong, what was expected, what to do */
};

struct weft_problems {
	struct weft_problem *item;
	size_t count;
	size_t room;
	size_t errors;
	size_t dropped; /* past 1000 of one file the rest is only counted */
};

/* 0 or -ENOMEM. `resource` and `path` may be NULL. */
int weft_problems_add(struct weft_problems *problems, enum weft_severity severity, const char *file, unsigned int line,
		      const char *resource, const char *path, const char *format, ...) __attribute__((format(printf, 7, 8)));
/* Moves all of `from` behind `problems`; `from` is empty afterwards. */
int weft_problems_move(struct weft_problems *problems, struct weft_problems *from);
void weft_problems_done(struct weft_problems *problems);
/* "file:line: Service shop/web: spec.ports[1].port: ..." without a newline. */
int weft_problem_print(const struct weft_problem *problem, struct weft_buf *out);

/* Who a resource is. Strings are owned. */
struct weft_identity {
	enum weft_kind kind;
	char *namespace;
	char *name;
};

struct weft_conf_file {
	struct weft_resource **resource; /* owned until taken (set the entry to NULL) */
	size_t resource_count;
	size_t resource_room;
	struct weft_identity *refused; /* bad documents whose identity could be read: their last good version stays */
	size_t refused_count;
	size_t refused_room;
	bool torn; /* text ended or broke early, or a document had no readable identity: whatever else this file held stays */
};

void weft_conf_file_done(struct weft_conf_file *conf);

/*
 * `file` names it in messages. Nobody has written to a `settled` text for a while: it may end anywhere its YAML is whole,
 * and be empty. Another may be half written: it is torn if it is empty, and its last document is refused if it does not
 * say itself where it ends (by a newline, `...` or a closing bracket). Fills the empty `conf` and adds to `problems`.
 * 0 even when all documents were refused; -ENOMEM.
 */
int weft_conf_parse(const char *file, const char *text, size_t size, bool settled, struct weft_conf_file *conf,
		    struct weft_problems *problems);

/* Canonical YAML of what weft understood, defaults included; parses back to an equal resource. 0 or -ENOMEM. */
int weft_conf_print(const struct weft_resource *resource, struct weft_buf *out);

#endif
