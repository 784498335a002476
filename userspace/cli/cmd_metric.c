/* SPDX-License-Identifier: Apache-2.0 */
/* weft metric, map, prog: counters by their list, state maps by their names, and what the kernel says of maps and programs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/clock.h"
#include "cli/quantile.h"
#include "cli/view.h"
#include "weft/abi/counter.h"

int weft_cmd_metric_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	static const struct {
		const char *name, *kind, *sentence;
	} counters[] = {
#define REFUSED "refused"
#define PASSED "passed"
#define LOST "lost"
#define WEFT_COUNTER(NAME, name, kind, sentence) { name, kind, sentence },
#include "weft/lists/counter.h"
#undef WEFT_COUNTER
#undef LOST
#undef PASSED
#undef REFUSED
	};
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	struct weft_output *out = context->output;
	int r;

	(void)args;
	r = weft_view_open(context->options, &view, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < WEFT_ARRAY_SIZE(counters); i++) {
		uint64_t value = 0;

		r = weft_view_get(view, WEFT_MAP_COUNTER, &i, &value, err);
		if (r < 0 && r != -ENOENT)
			return r;
		weft_output_row(out);
		weft_output_text(out, "name", counters[i].name);
		weft_output_text(out, "kind", counters[i].kind);
		weft_output_number(out, "value", value);
		weft_output_text(out, "sentence", counters[i].sentence);
		weft_output_row_end(out);
	}
	return 0;
}

static const char *reporter_name(uint32_t reporter)
{
	return reporter == WEFT_REPORTER_DESTINATION ? "destination" : "source";
}

/* The rows that catch what a full map cannot hold are there from the start: of interest once they caught something. */
static bool is_empty(const void *value, size_t size)
{
	const char *bytes = value;

	return !bytes[0] && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* A map of what services did; a row is a struct of its key and its value, without a hole. */
struct table {
	enum weft_map map;
	size_t key_size, value_size;
	size_t service_at; /* where a row says of which */
	int (*order)(const void *left, const void *right);
	void (*put)(struct weft_output *out, struct weft_view *view, const void *row);
};

/* The rows of the service that was asked for, or of all, in order. */
static int put_table(struct weft_context *context, const struct weft_args *args, const struct table *table,
		     struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	weft_free_on_exit char *rows = NULL;
	const size_t row_size = table->key_size + table->value_size;
	const char *wanted = args->text[WEFT_ARG_SERVICE];
	size_t count;
	int r;

	r = weft_view_open(context->options, &view, err);
	if (r == 0 && wanted)
		r = weft_view_require_service(view, wanted, err);
	if (r == 0)
		r = weft_view_all(view, table->map, &keys, &values, &count, err);
	if (r < 0)
		return r;
	rows = calloc(count + 1, row_size);
	if (!rows)
		return weft_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		char *row = rows + i * row_size;

		memcpy(row, keys.data + i * table->key_size, table->key_size);
		memcpy(row + table->key_size, values.data + i * table->value_size, table->value_size);
	}
	qsort(rows, count, row_size, table->order);
	for (size_t i = 0; i < count; i++) {
		const char *row = rows + i * row_size;
		uint32_t service;

		memcpy(&service, row + table->service_at, sizeof(service));
		if (!is_empty(row + table->key_size, table->value_size) && weft_view_service_is(view, service, wanted))
			table->put(context->output, view, row);
	}
	return 0;
}

struct aggregate {
	struct weft_aggregate_key key;
	struct weft_aggregate value;
};
_Static_assert(offsetof(struct aggregate, value) == sizeof(struct weft_aggregate_key), "a row has a hole");

static int by_key(const void *left, const void *right)
{
	const struct weft_aggregate_key *a = left, *b = right;

	if (a->service != b->service)
		return a->service < b->service ? -1 : 1;
	if (a->reporter != b->reporter)
		return a->reporter < b->reporter ? -1 : 1;
	if (a->source != b->source)
		return a->source < b->source ? -1 : 1;
	if (a->destination != b->destination)
		return a->destination < b->destination ? -1 : 1;
	return a->outcome != b->outcome ? (int)a->outcome - (int)b->outcome : (int)a->security - (int)b->security;
}

static const char *security_name(uint8_t security)
{
	return security == WEFT_SECURITY_MUTUAL_TLS ? "mutual_tls" : security == WEFT_SECURITY_ATTESTED ? "attested" : "none";
}

static void put_aggregate(struct weft_output *out, struct weft_view *view, const void *row_)
{
	const struct aggregate *row = row_;
	char text[WEFT_LABEL];

	weft_output_row(out);
	weft_output_text(out, "reporter", reporter_name(row->key.reporter));
	weft_output_text(out, "source", weft_view_workload(view, row->key.source, text));
	weft_output_text(out, "service", weft_view_service(view, row->key.service, text));
	weft_output_text(out, "destination", weft_view_workload(view, row->key.destination, text));
	weft_output_text(out, "protocol", weft_protocol_name(row->key.protocol));
	weft_output_text(out, "outcome", weft_outcome_name(row->key.outcome));
	weft_output_text(out, "security", security_name(row->key.security));
	weft_output_number(out, "opened", row->value.opened);
	weft_output_number(out, "ended", row->value.ended);
	weft_output_number(out, "sent", row->value.sent);
	weft_output_number(out, "received", row->value.received);
	weft_output_number(out, "retransmits", row->value.retransmits);
	weft_output_number(out, "duration_ns", row->value.duration_ns);
	weft_output_row_end(out);
}

int weft_cmd_metric_show(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	static const struct table table = {
		.map = WEFT_MAP_AGGREGATE,
		.key_size = sizeof(struct weft_aggregate_key),
		.value_size = sizeof(struct weft_aggregate),
		.service_at = offsetof(struct aggregate, key.service),
		.order = by_key,
		.put = put_aggregate,
	};

	return put_table(context, args, &table, err);
}

static void put_quantiles(struct weft_output *out, const char *prefix, const __u64 *buckets)
{
	static const struct {
		const char *suffix;
		double share;
	} quantiles[] = { { "p50_us", 0.5 }, { "p99_us", 0.99 } };
	char key[32];

	snprintf(key, sizeof(key), "%s_count", prefix);
	weft_output_number(out, key, weft_histogram_count(buckets));
	if (!weft_histogram_count(buckets))
		return;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(quantiles); i++) {
		snprintf(key, sizeof(key), "%s_%s", prefix, quantiles[i].suffix);
		weft_output_number(out, key, weft_histogram_quantile(buckets, quantiles[i].share));
	}
}

struct histogram {
	struct weft_histogram_key key;
	struct weft_histogram value;
};
_Static_assert(offsetof(struct histogram, value) == sizeof(struct weft_histogram_key), "a row has a hole");

static int by_service(const void *left, const void *right)
{
	const struct weft_histogram_key *a = left, *b = right;

	if (a->service != b->service)
		return a->service < b->service ? -1 : 1;
	return a->reporter < b->reporter ? -1 : a->reporter > b->reporter;
}

static void put_histogram(struct weft_output *out, struct weft_view *view, const void *row_)
{
	const struct histogram *row = row_;
	char text[WEFT_LABEL];

	weft_output_row(out);
	weft_output_text(out, "service", weft_view_service(view, row->key.service, text));
	weft_output_text(out, "reporter", reporter_name(row->key.reporter));
	put_quantiles(out, "connect", row->value.connect);
	put_quantiles(out, "duration", row->value.duration);
	put_quantiles(out, "rtt", row->value.rtt);
	weft_output_row_end(out);
}

int weft_cmd_metric_latency(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	static const struct table table = {
		.map = WEFT_MAP_HISTOGRAM,
		.key_size = sizeof(struct weft_histogram_key),
		.value_size = sizeof(struct weft_histogram),
		.service_at = offsetof(struct histogram, key.service),
		.order = by_service,
		.put = put_histogram,
	};

	return put_table(context, args, &table, err);
}

int weft_cmd_map_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	struct weft_output *out = context->output;
	int r;

	(void)args;
	r = weft_view_open(context->options, &view, err);
	if (r < 0)
		return r;
	for (enum weft_map map = 0; map < WEFT_MAP_MAX_; map++) {
		struct weft_map_info info;

		r = weft_reader_map_info(weft_view_reader(view), map, &info);
		if (r < 0)
			return weft_err_set(err, r, "cannot ask the kernel about map number %d: %s", (int)map,
					    strerror(-r));
		weft_output_row(out);
		weft_output_text(out, "name", info.name);
		weft_output_number(out, "id", info.id);
		/* an array is full by nature: saying so would alarm */
		if (!info.array)
			weft_output_number(out, "entries", info.entries);
		weft_output_number(out, "max_entries", info.max_entries);
		if (!info.array && info.max_entries)
			weft_output_real(out, "fill", (double)info.entries / info.max_entries);
		weft_output_number(out, "bytes", info.bytes);
		weft_output_number(out, "key_size", info.key_size);
		weft_output_number(out, "value_size", info.value_size);
		weft_output_text(out, "sentence", info.sentence);
		weft_output_row_end(out);
	}
	return 0;
}

int weft_cmd_prog_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	struct weft_output *out = context->output;
	struct weft_prog_info info;
	uint64_t now = weft_clock_boot_ns();
	int r, index = -1;

	(void)args;
	r = weft_view_open(context->options, &view, err);
	if (r < 0)
		return r;
	while ((index = weft_reader_prog_next(weft_view_reader(view), index, &info)) >= 0) {
		weft_output_row(out);
		weft_output_text(out, "name", info.name);
		weft_output_text(out, "attach", info.attach);
		weft_output_number(out, "id", info.id);
		weft_output_number(out, "link_id", info.link_id);
		weft_output_number(out, "run_count", info.run_count);
		weft_output_number(out, "run_ns", info.run_ns);
		if (info.run_count)
			weft_output_number(out, "average_ns", info.run_ns / info.run_count);
		if (info.verified_instructions)
			weft_output_number(out, "verified_instructions", info.verified_instructions);
		weft_output_number(out, "jited_bytes", info.jited_bytes);
		if (info.loaded_ns <= now)
			weft_output_number(out, "age_ns", now - info.loaded_ns);
		weft_output_text(out, "target", info.target);
		weft_output_row_end(out);
	}
	if (index != -ENOENT)
		return weft_err_set(err, index, "cannot ask the kernel about programs: %s", strerror(-index));
	return 0;
}
