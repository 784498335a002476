/* SPDX-License-Identifier: Apache-2.0 */
/* What `weft top` shows: two looks at the state maps, and what happened between them, by service. */
#ifndef WEFT_CLI_RATES_H
#define WEFT_CLI_RATES_H

#include "cli/view.h"

/* Totals of one service at one look. */
struct weft_total {
	uint32_t service;
	uint64_t live, opened, failed, bytes;
	__u64 rtt[WEFT_HISTOGRAM_BUCKETS];
};

struct weft_look {
	struct weft_total *totals; /* sorted by service */
	size_t count;
	uint64_t time_ns;
	struct weft_view *view; /* that it was taken through: has the names */
};
/* Takes an empty one. */
void weft_look_done(struct weft_look *look);
#define weft_look_done_on_exit __attribute__((cleanup(weft_look_done)))

struct weft_rate {
	uint32_t service;
	char name[WEFT_LABEL];
	bool counted; /* else `live` is not to be shown, see weft_view_counted() */
	uint64_t live, rtt_p50_us;
	double opened, failed, bytes; /* per second */
};

/*
 * A client's sockets say more about a service than its server's do (who was refused never reached it): the server's
 * side counts only for services of which no client is on this node. -errno with `err`, *ret_look untouched.
 */
int weft_look_take(const struct weft_options *options, struct weft_look *ret_look, struct weft_err *err);

/*
 * The services of `now`, sorted by `sort` (a choice of `weft top`), NULL for live. `before` may hold none. The caller frees.
 */
int weft_rates(const struct weft_look *before, const struct weft_look *now, const char *sort,
	       struct weft_rate **ret_rates, size_t *ret_count, struct weft_err *err);

#endif
