/* SPDX-License-Identifier: Apache-2.0 */
/* A problem is said once when it comes up and once when it is over, however often the files are looked at. */
#ifndef WEFT_AGENT_PROBLEMS_H
#define WEFT_AGENT_PROBLEMS_H

#include "base/cleanup.h"
#include "conf/conf.h"

struct weft_said;

/* NULL: out of memory. */
struct weft_said *weft_said_new(void);
struct weft_said *weft_said_free(struct weft_said *said);
WEFT_CLEANUP_DEFINE(struct weft_said, weft_said_free);

/* A round: begin, one call for each problem there is, end. What the last round had and this one does not is over. */
void weft_said_begin(struct weft_said *said);
/* True: it is new. Out of memory: true, too often said is better than never. */
bool weft_said_again(struct weft_said *said, const struct weft_problem *problem);
/* Calls over() with each line that is no more. */
void weft_said_end(struct weft_said *said, void (*over)(const char *line));

/* Appends a problem to a struct json_object array, as docs/CONTROL.md and --check --json have it. */
void weft_problem_to_json(void *list, const struct weft_problem *problem);

#endif
