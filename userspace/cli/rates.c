/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/rates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/clock.h"
#include "cli/quantile.h"

void weft_look_done(struct weft_look *look)
{
	free(look->totals);
	weft_view_close(look->view);
	*look = (struct weft_look){ 0 };
}

/* One service, seen by its clients and by its servers. */
struct sides {
	struct weft_total side[WEFT_REPORTER_MAX_];
	bool seen[WEFT_REPORTER_MAX_];
	uint64_t live;
};

struct table {
	struct sides *sides;
	uint32_t *services;
	size_t count, room, services_room;
	uint32_t *place; /* by service id: index + 1 */
	size_t place_room;
};

static void table_done(struct table *table)
{
	free(table->sides);
	free(table->services);
	free(table->place);
}

/* Ids count up from 1, so a plain array finds them; the one beyond all arrays is left out. */
static struct sides *find(struct table *table, uint32_t service)
{
	size_t before = table->place_room;

	if (!service || service > 1u << 26)
		return NULL;
	if (weft_grow(&table->place, &table->place_room, (size_t)service + 1, sizeof(*table->place)) < 0)
		return NULL;
	if (table->place_room > before)
		memset(table->place + before, 0, (table->place_room - before) * sizeof(*table->place));
	if (!table->place[service]) {
		if (weft_grow(&table->sides, &table->room, table->count + 1, sizeof(*table->sides)) < 0 ||
		    weft_grow(&table->services, &table->services_room, table->count + 1, sizeof(*table->services)) < 0)
			return NULL;
		table->sides[table->count] = (struct sides){ 0 };
		table->services[table->count] = service;
		table->place[service] = (uint32_t)++table->count;
	}
	return &table->sides[table->place[service] - 1];
}

static int add_live(struct weft_view *view, struct table *table, struct weft_err *err)
{
	const struct weft_endpoint *endpoints;
	const struct weft_view_frontend *frontends;
	size_t count;
	int r = weft_view_frontends(view, &frontends, &count, err);

	for (size_t i = 0; r == 0 && i < count; i++)
		if (frontends[i].value.type != WEFT_FRONTEND_ADDRESS)
			find(table, frontends[i].value.service);
	if (r == 0)
		r = weft_view_endpoints(view, &endpoints, &count, err);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct sides *sides =
			endpoints[i].state == WEFT_ENDPOINT_FREE ? NULL : find(table, endpoints[i].service);
		uint64_t live = 0;

		r = weft_view_live(view, endpoints[i].id, &live, err);
		if (sides)
			sides->live += live;
	}
	return r;
}

static bool failed(uint8_t outcome)
{
	return outcome == WEFT_OUTCOME_RESET || outcome == WEFT_OUTCOME_REFUSED || outcome == WEFT_OUTCOME_TIMED_OUT ||
	       outcome == WEFT_OUTCOME_ABANDONED;
}

static int add_aggregates(struct weft_view *view, struct table *table, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	size_t count;
	int r = weft_view_all(view, WEFT_MAP_AGGREGATE, &keys, &values, &count, err);

	for (size_t i = 0; r == 0 && i < count; i++) {
		struct weft_aggregate_key key;
		struct weft_aggregate value;
		struct sides *sides;

		memcpy(&key, keys.data + i * sizeof(key), sizeof(key));
		memcpy(&value, values.data + i * sizeof(value), sizeof(value));
		sides = find(table, key.service);
		if (!sides || key.reporter >= WEFT_REPORTER_MAX_)
			continue;
		sides->seen[key.reporter] = true;
		sides->side[key.reporter].opened += value.opened;
		sides->side[key.reporter].bytes += value.sent + value.received;
		if (failed(key.outcome))
			sides->side[key.reporter].failed += value.ended;
	}
	return r;
}

static int add_histograms(struct weft_view *view, struct table *table, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	size_t count;
	int r = weft_view_all(view, WEFT_MAP_HISTOGRAM, &keys, &values, &count, err);

	for (size_t i = 0; r == 0 && i < count; i++) {
		const struct weft_histogram *value = (const struct weft_histogram *)(const void *)values.data + i;
		struct weft_histogram_key key;
		struct sides *sides;

		memcpy(&key, keys.data + i * sizeof(key), sizeof(key));
		sides = find(table, key.service);
		if (sides && key.reporter < WEFT_REPORTER_MAX_)
			memcpy(sides->side[key.reporter].rtt, value->rtt, sizeof(value->rtt));
	}
	return r;
}

static int by_service(const void *left, const void *right)
{
	const struct weft_total *a = left, *b = right;

	return a->service < b->service ? -1 : a->service > b->service;
}

int weft_look_take(const struct weft_options *options, struct weft_look *ret_look, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	__attribute__((cleanup(table_done))) struct table table = { 0 };
	struct weft_look look = { 0 };
	int r;

	r = weft_view_open(options, &view, err);
	if (r == 0)
		r = add_live(view, &table, err);
	if (r == 0)
		r = add_aggregates(view, &table, err);
	if (r == 0)
		r = add_histograms(view, &table, err);
	if (r < 0)
		return r;
	look.time_ns = weft_clock_monotonic_ns();
	look.totals = calloc(table.count + 1, sizeof(*look.totals));
	if (!look.totals)
		return weft_err_set(err, ENOMEM, "out of memory");
	look.count = table.count;
	for (size_t i = 0; i < table.count; i++) {
		const struct sides *sides = &table.sides[i];
		bool server = !sides->seen[WEFT_REPORTER_SOURCE] && sides->seen[WEFT_REPORTER_DESTINATION];

		look.totals[i] = sides->side[server ? WEFT_REPORTER_DESTINATION : WEFT_REPORTER_SOURCE];
		look.totals[i].service = table.services[i];
		look.totals[i].live = sides->live;
	}
	qsort(look.totals, look.count, sizeof(*look.totals), by_service);
	look.view = weft_take_ptr(view);
	*ret_look = look;
	return 0;
}

/* Counters only grow; one that did not was made anew between the looks. */
static double per_second(uint64_t before, uint64_t now, double seconds)
{
	return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

static int compare(double a, double b)
{
	return a > b ? -1 : a < b;
}

static int in_order(const void *left, const void *right, void *context)
{
	const struct weft_rate *a = left, *b = right;
	const char *sort = context ? context : "live";
	int order = 0;

	if (strcmp(sort, "live") == 0)
		order = compare((double)a->live, (double)b->live);
	else if (strcmp(sort, "rate") == 0)
		order = compare(a->opened, b->opened);
	else if (strcmp(sort, "failures") == 0)
		order = compare(a->failed, b->failed);
	else if (strcmp(sort, "bytes") == 0)
		order = compare(a->bytes, b->bytes);
	else if (strcmp(sort, "rtt") == 0)
		order = compare((double)a->rtt_p50_us, (double)b->rtt_p50_us);
	return order ? order : strcmp(a->name, b->name);
}

int weft_rates(const struct weft_look *before, const struct weft_look *now, const char *sort,
	       struct weft_rate **ret_rates, size_t *ret_count, struct weft_err *err)
{
	static const struct weft_total nothing;
	double seconds = (double)(now->time_ns - before->time_ns) / 1e9;
	struct weft_rate *rates = calloc(now->count + 1, sizeof(*rates));

	if (!rates)
		return weft_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < now->count; i++) {
		const struct weft_total *total = &now->totals[i], *old = NULL;
		__u64 rtt[WEFT_HISTOGRAM_BUCKETS];

		if (before->count)
			old = bsearch(total, before->totals, before->count, sizeof(*total), by_service);
		if (!old)
			old = &nothing;
		for (size_t b = 0; b < WEFT_HISTOGRAM_BUCKETS; b++)
			rtt[b] = total->rtt[b] > old->rtt[b] ? total->rtt[b] - old->rtt[b] : 0;
		weft_view_service(now->view, total->service, rates[i].name);
		rates[i].service = total->service;
		rates[i].counted = weft_view_counted(now->view);
		rates[i].live = total->live;
		rates[i].opened = per_second(old->opened, total->opened, seconds);
		rates[i].failed = per_second(old->failed, total->failed, seconds);
		rates[i].bytes = per_second(old->bytes, total->bytes, seconds);
		rates[i].rtt_p50_us = weft_histogram_quantile(rtt, 0.5);
	}
	qsort_r(rates, now->count, sizeof(*rates), in_order, (void *)sort);
	*ret_rates = rates;
	*ret_count = now->count;
	return 0;
}
