/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in force of the kinds that say who may talk to whom, as a file that
 * outlives the process: a document that is refused when control starts must not
 * give way to nothing, which would let in whom its last good version kept out.
 *
 * A line of magic and a hash of all that follows; then each resource, by lengths,
 * as canonical YAML behind the name of the configuration file that it is from.
 */
#ifndef WEFT_AGENT_LAST_GOOD_H
#define WEFT_AGENT_LAST_GOOD_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "conf/resource.h"

#define WEFT_LAST_GOOD_NAME "policies" /* in the state folder */
#define WEFT_LAST_GOOD_LIMIT (1u << 30)

bool weft_last_good_kind(enum weft_kind kind);

/* Adds a resource, of line `line` of `file`; weft_last_good_seal() makes the text of them all. 0 or -ENOMEM. */
int weft_last_good_add(struct weft_buf *records, const char *file, unsigned int line,
		       const struct weft_resource *resource);
int weft_last_good_seal(const struct weft_buf *records, struct weft_buf *ret_text);

/* Called for each, whose file and line are those that were added; takes the resource. A return below 0 ends it. */
typedef int weft_last_good_each(void *context, struct weft_resource *resource);

/* -EBADMSG with a reason: it is not, to the byte, what was written; each() may have been called. -ENOMEM, or what each() returned. */
int weft_last_good_parse(const char *text, size_t size, weft_last_good_each *each, void *context, struct weft_err *err);
/* Likewise, of what weft_last_good_seal() puts below its line. */
int weft_last_good_parse_records(const char *text, size_t size, weft_last_good_each *each, void *context,
				 struct weft_err *err);

#endif
