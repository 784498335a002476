/* SPDX-License-Identifier: Apache-2.0 */
#include "export/metrics.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Out of memory is the caller's to hear of, not this library's to exit for. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "weft/abi/counter.h"

enum metric {
#define WEFT_METRIC(NAME, name, type, unit, help, labels) METRIC_##NAME,
#include "weft/lists/metric.h"
#undef WEFT_METRIC
	METRIC_MAX_
};

/* Where groups of labels start in the families' lists of them. */
enum {
	TRAFFIC_SOURCE = 1,
	TRAFFIC_DESTINATION = 12,
	TRAFFIC_TAIL = 20,
	PAIR_SOURCE = 1,
	PAIR_DESTINATION = 6,
	FAILURES_TAIL = 8,
};

enum metric_type { COUNTER, GAUGE, HISTOGRAM };

static const struct family {
	const char *name, *unit, *help, *labels;
	enum metric_type type;
} families[METRIC_MAX_] = {
#define WEFT_METRIC(NAME, name_, type_, unit_, help_, labels_) \
	[METRIC_##NAME] = { .name = name_, .unit = unit_, .help = help_, .labels = labels_, .type = type_ },
#include "weft/lists/metric.h"
#undef WEFT_METRIC
};

static const char *const type_names[] = { [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram" };

static const struct {
	size_t key_size, value_size;
	const char *name;
} maps[WEFT_MAP_MAX_] = {
#define WEFT_MAP(NAME, name_, key, value, owner, sentence) \
	[WEFT_MAP_##NAME] = { .key_size = sizeof(key), .value_size = sizeof(value), .name = name_ },
#include "weft/lists/map.h"
#undef WEFT_MAP
};

static const char *const reporter_names[WEFT_REPORTER_MAX_] = {
	[WEFT_REPORTER_SOURCE] = "source",
	[WEFT_REPORTER_DESTINATION] = "destination",
};

/* NULL: a connection with that outcome is no failure. */
static const char *const failure_names[WEFT_OUTCOME_MAX_] = {
	[WEFT_OUTCOME_RESET] = "reset",
	[WEFT_OUTCOME_REFUSED] = "refused",
	[WEFT_OUTCOME_TIMED_OUT] = "timed_out",
	[WEFT_OUTCOME_ABANDONED] = "abandoned",
};

/*
 * Buckets in the maps are powers of two of microseconds. Every second one is
 * shown, over the range in which such a time can reasonably lie: what is shown
 * is exact, and a service costs some thirty series and not a hundred.
 */
static const struct shape {
	size_t first, last; /* `le` is 2^first .. 2^last us */
	size_t buckets, sum; /* offsets into struct weft_histogram */
} shapes[METRIC_MAX_] = {
	[METRIC_CONNECT_SECONDS] = { 4, 24, offsetof(struct weft_histogram, connect), offsetof(struct weft_histogram, connect_us) },
	[METRIC_CONNECTION_DURATION_SECONDS] = { 10, 30, offsetof(struct weft_histogram, duration),
						 offsetof(struct weft_histogram, duration_us) },
	[METRIC_RTT_SECONDS] = { 4, 22, offsetof(struct weft_histogram, rtt), offsetof(struct weft_histogram, rtt_us) },
};

/* ---- text ---- */

/* Length of the well-formed UTF-8 sequence at `s`; 0 if there is none. */
static size_t utf8_length(const unsigned char *s)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = { { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(forms); i++) {
		uint32_t point;

		if ((s[0] & forms[i].mask) != forms[i].lead)
			continue;
		point = s[0] & (unsigned char)~forms[i].mask;
		for (size_t n = 1; n <= i; n++) {
			if ((s[n] & 0xc0) != 0x80)
				return 0;
			point = point << 6 | (s[n] & 0x3f);
		}
		return point < forms[i].least || point > 0x10ffff || (point >= 0xd800 && point < 0xe000) ? 0 : i + 1;
	}
	return 0;
}

/* One label's value, escaped as the format wants it. What is not UTF-8 comes out as '?': one odd name must not cost a scrape. */
static int add_value(struct weft_buf *text, const char *value)
{
	const char *from = value, *s = value;
	int r = 0;

	while (!r && *s) {
		size_t length = utf8_length((const unsigned char *)s);
		const char *instead = *s == '\\' ? "\\\\" : *s == '"' ? "\\\"" : *s == '\n' ? "\\n" : length ? NULL : "?";

		if (instead) {
			r = weft_buf_add(text, from, (size_t)(s - from));
			if (!r)
				r = weft_buf_add(text, instead, strlen(instead));
			from = s + 1;
		}
		s += length ? length : 1;
	}
	return r < 0 ? r : weft_buf_add(text, from, (size_t)(s - from));
}

/* Appends name="value" pairs, separated by commas: those of the family's labels that start with the `first`. */
static int add_labels(struct weft_buf *text, enum metric metric, size_t first, const char *const *values, size_t count)
{
	const char *name = families[metric].labels;
	int r = 0;

	while (first--)
		name += strcspn(name, ",") + 1;
	for (size_t i = 0; !r && i < count; i++) {
		int length = (int)strcspn(name, ",");

		r = weft_buf_printf(text, "%s%.*s=\"", i ? "," : "", length, name);
		if (!r)
			r = add_value(text, values[i]);
		if (!r)
			r = weft_buf_add(text, "\"", 1);
		name += length + 1;
	}
	return r;
}

static int add_head(struct weft_buf *text, enum metric metric)
{
	const struct family *family = &families[metric];

	return weft_buf_printf(text, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
			       type_names[family->type]);
}

static int add_sample(struct weft_buf *text, enum metric metric, const char *const *values, size_t count, uint64_t number)
{
	const char *name = families[metric].name;

	if (weft_buf_add(text, name, strlen(name)) < 0)
		return -ENOMEM;
	if (count && (weft_buf_add(text, "{", 1) < 0 || add_labels(text, metric, 0, values, count) < 0 ||
		      weft_buf_add(text, "}", 1) < 0))
		return -ENOMEM;
	return weft_buf_printf(text, " %llu\n", (unsigned long long)number);
}

static int add_single(struct weft_buf *text, enum metric metric, uint64_t number)
{
	int r = add_head(text, metric);

	return r < 0 ? r : add_sample(text, metric, NULL, 0, number);
}

/* ---- the batch ---- */

struct run {
	struct weft_batch_run head;
	const unsigned char *keys, *values;
};

static size_t padded(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

/* Takes one run off the front. 0 at the end, 1, or -EBADMSG. */
static int next_run(const unsigned char **data, size_t *size, struct run *ret_run)
{
	struct run run = { 0 };
	size_t keys, values;

	if (!*size)
		return 0;
	if (*size < sizeof(run.head))
		return -EBADMSG;
	memcpy(&run.head, *data, sizeof(run.head));
	if (run.head.map >= WEFT_MAP_MAX_ || run.head.op != WEFT_BATCH_UPDATE)
		return -EBADMSG;
	keys = padded(run.head.count * maps[run.head.map].key_size);
	values = padded(run.head.count * maps[run.head.map].value_size);
	if (keys + values > *size - sizeof(run.head))
		return -EBADMSG;
	run.keys = *data + sizeof(run.head);
	run.values = run.keys + keys;
	*data = run.values + values;
	*size -= sizeof(run.head) + keys + values;
	*ret_run = run;
	return 1;
}

/* ---- pieces: rendered labels, each text once, so that equal labels are equal pointers ---- */

struct piece {
	UT_hash_handle hh;
	char text[];
};

/* Series before they are folded: those with the same reporter, tag and pieces are one. */
struct row {
	const struct piece *source, *service, *destination;
	const struct weft_histogram *histogram;
	uint8_t reporter;
	uint8_t tag; /* what else tells series apart: an outcome; of traffic and failed, enum weft_security */
	uint64_t value[4];
};

struct rows {
	struct row *row;
	size_t count, room;
};

struct builder {
	const struct weft_names *names;
	const char *cluster, *trust_domain;
	struct piece *pieces;
	struct weft_buf scratch;
	struct rows traffic; /* value: opened, closed, sent, received */
	struct rows failed; /* value: connections */
	struct rows failures; /* value: connections; tag: outcome */
	struct rows pairs; /* value: retransmits */
	struct rows udp; /* value: associations */
	struct rows histograms;
	struct rows live; /* value: connections */
	uint32_t live_half; /* of struct weft_live */
	bool recount; /* weft_live is not right: its family has no sample, as no number is better than a wrong one */
	uint32_t *service_of; /* by endpoint index */
	size_t service_of_room;
	uint64_t counter[WEFT_COUNTER_MAX_];
	uint64_t entries[WEFT_MAP_MAX_];
};

static void builder_done(struct builder *builder)
{
	struct piece *piece, *next;

	HASH_ITER(hh, builder->pieces, piece, next)
	{
		HASH_DEL(builder->pieces, piece);
		free(piece);
	}
	weft_buf_done(&builder->scratch);
	free(builder->traffic.row);
	free(builder->failed.row);
	free(builder->failures.row);
	free(builder->pairs.row);
	free(builder->udp.row);
	free(builder->histograms.row);
	free(builder->live.row);
	free(builder->service_of);
}

/* The piece with the text of these labels (see add_labels()); NULL without memory. */
static const struct piece *intern(struct builder *builder, enum metric metric, size_t first, const char *const *values,
				  size_t count)
{
	struct weft_buf *scratch = &builder->scratch;
	struct piece *piece;

	weft_buf_clear(scratch);
	if (add_labels(scratch, metric, first, values, count) < 0)
		return NULL;
	HASH_FIND(hh, builder->pieces, scratch->data, scratch->size, piece);
	if (piece)
		return piece;
	piece = calloc(1, sizeof(*piece) + scratch->size + 1);
	if (!piece)
		return NULL;
	memcpy(piece->text, scratch->data, scratch->size);
	HASH_ADD_KEYPTR(hh, builder->pieces, piece->text, scratch->size, piece);
	if (!piece->hh.tbl)
		free(weft_take_ptr(piece));
	return piece;
}

static const char *known(const char *value)
{
	return value && *value ? value : "unknown";
}

static const struct piece *service_piece(struct builder *builder, uint32_t id)
{
	const struct weft_service_name *name = weft_names_service(builder->names, id);
	const char *nobody = id == WEFT_ID_OTHER ? "other" : "unknown";

	return intern(builder, METRIC_LIVE_CONNECTIONS, 0,
		      (const char *[]){ name ? known(name->host) : nobody, name ? known(name->namespace) : nobody,
					name ? known(name->name) : nobody },
		      3);
}

/* Istio's eight labels of a workload. There is a principal only where an identity was proven. */
static const struct piece *workload_piece(struct builder *builder, uint32_t id, bool source, bool proven)
{
	const struct weft_workload_name *name = weft_names_workload(builder->names, id);
	const char *nobody = id == WEFT_ID_OTHER ? "other" : "unknown";
	const char *app = name ? name->app && *name->app ? name->app : known(name->owner) : nobody;
	const char *version = name ? name->version && *name->version ? name->version : "latest" : nobody;
	char principal[1024] = "unknown";

	if (proven && name)
		snprintf(principal, sizeof(principal), "spiffe://%s/ns/%s/sa/%s", known(builder->trust_domain), name->namespace,
			 name->service_account && *name->service_account ? name->service_account : "default");
	return intern(builder, METRIC_TCP_OPENED, source ? TRAFFIC_SOURCE : TRAFFIC_DESTINATION,
		      (const char *[]){ name ? known(name->owner) : nobody, app, version, name ? known(name->namespace) : nobody,
					principal, app, version, name ? known(builder->cluster) : nobody },
		      8);
}

static const struct piece *short_workload_piece(struct builder *builder, uint32_t id, bool source)
{
	const struct weft_workload_name *name = weft_names_workload(builder->names, id);
	const char *nobody = id == WEFT_ID_OTHER ? "other" : "unknown";

	return intern(builder, METRIC_TCP_RETRANSMITS, source ? PAIR_SOURCE : PAIR_DESTINATION,
		      (const char *[]){ name ? known(name->owner) : nobody, name ? known(name->namespace) : nobody }, 2);
}

static int compare_pieces(const struct piece *a, const struct piece *b)
{
	return a == b || !a || !b ? 0 : strcmp(a->text, b->text);
}

static int compare_rows(const void *left, const void *right)
{
	const struct row *a = left, *b = right;
	int r = compare_pieces(a->service, b->service);

	if (!r)
		r = compare_pieces(a->source, b->source);
	if (!r)
		r = compare_pieces(a->destination, b->destination);
	if (!r)
		r = (int)a->reporter - (int)b->reporter;
	return r ? r : (int)a->tag - (int)b->tag;
}

static int rows_add(struct rows *rows, const struct row *row)
{
	int r = weft_grow(&rows->row, &rows->room, rows->count + 1, sizeof(*row));

	if (!r)
		rows->row[rows->count++] = *row;
	return r;
}

/* Sorts and adds up what is the same series. Histograms stay apart: they are added while they are printed. */
static void rows_fold(struct rows *rows, bool merge)
{
	size_t kept = 0;

	if (!rows->count)
		return;
	qsort(rows->row, rows->count, sizeof(rows->row[0]), compare_rows);
	if (!merge)
		return;
	for (size_t i = 1; i < rows->count; i++) {
		if (compare_rows(&rows->row[kept], &rows->row[i]) != 0) {
			rows->row[++kept] = rows->row[i];
			continue;
		}
		for (size_t v = 0; v < WEFT_ARRAY_SIZE(rows->row[0].value); v++)
			rows->row[kept].value[v] += rows->row[i].value[v];
	}
	rows->count = kept + 1;
}

/* ---- map entries -> rows ---- */

static int take_aggregate(struct builder *builder, const void *key_, const void *value_)
{
	struct weft_aggregate_key key;
	struct weft_aggregate value;
	struct row full = { 0 }, brief = { 0 };
	bool from_source;
	int r = 0;

	memcpy(&key, key_, sizeof(key));
	memcpy(&value, value_, sizeof(value));
	if (key.reporter >= WEFT_REPORTER_MAX_ || key.outcome >= WEFT_OUTCOME_MAX_ || key.security >= WEFT_SECURITY_MAX_)
		return -EBADMSG;
	from_source = key.reporter == WEFT_REPORTER_SOURCE;
	brief.source = short_workload_piece(builder, key.source, true);
	brief.service = full.service = service_piece(builder, key.service);
	brief.destination = short_workload_piece(builder, key.destination, false);
	full.source = workload_piece(builder, key.source, true, key.security != WEFT_SECURITY_NONE);
	full.destination = workload_piece(builder, key.destination, false, key.security != WEFT_SECURITY_NONE);
	full.tag = key.security;
	brief.reporter = full.reporter = key.reporter;
	if (!brief.source || !brief.service || !brief.destination || !full.source || !full.destination)
		return -ENOMEM;

	if (key.protocol == IPPROTO_UDP) {
		brief.value[0] = value.opened;
		return rows_add(&builder->udp, &brief);
	}
	if (key.outcome == WEFT_OUTCOME_OPEN || key.outcome == WEFT_OUTCOME_CLOSED || key.outcome == WEFT_OUTCOME_RESET) {
		full.value[0] = value.opened;
		full.value[1] = key.outcome == WEFT_OUTCOME_OPEN ? 0 : value.ended;
		full.value[2] = from_source ? value.received : value.sent;
		full.value[3] = from_source ? value.sent : value.received;
		r = rows_add(&builder->traffic, &full);
	} else {
		full.value[0] = value.ended;
		r = rows_add(&builder->failed, &full);
	}
	if (!r && failure_names[key.outcome]) {
		brief.tag = key.outcome;
		brief.value[0] = value.ended;
		r = rows_add(&builder->failures, &brief);
		brief.tag = 0;
	}
	brief.value[0] = value.retransmits;
	return r < 0 ? r : rows_add(&builder->pairs, &brief);
}

static int take_histogram(struct builder *builder, const void *key_, const void *value)
{
	struct weft_histogram_key key;
	struct row row = { .histogram = value };

	memcpy(&key, key_, sizeof(key));
	if (key.reporter >= WEFT_REPORTER_MAX_)
		return -EBADMSG;
	row.reporter = (uint8_t)key.reporter;
	row.service = service_piece(builder, key.service);
	return row.service ? rows_add(&builder->histograms, &row) : -ENOMEM;
}

static int take_setting(struct builder *builder, const void *key, const void *value)
{
	struct weft_setting setting;

	(void)key;
	memcpy(&setting, value, sizeof(setting));
	builder->live_half = setting.epoch & 1;
	builder->recount = setting.flags & WEFT_SETTING_F_RECOUNT;
	return 0;
}

static int take_endpoint(struct builder *builder, const void *key, const void *value)
{
	struct weft_endpoint endpoint;
	size_t room = builder->service_of_room;
	uint32_t index;
	int r;

	memcpy(&index, key, sizeof(index));
	memcpy(&endpoint, value, sizeof(endpoint));
	if (index > WEFT_ENDPOINT_INDEX_MASK)
		return -EBADMSG;
	r = weft_grow(&builder->service_of, &builder->service_of_room, index + 1, sizeof(*builder->service_of));
	if (r < 0)
		return r;
	memset(builder->service_of + room, 0, (builder->service_of_room - room) * sizeof(*builder->service_of));
	builder->service_of[index] = endpoint.service;
	return 0;
}

/* A service without a connection shows 0: a series that comes and goes makes gaps in graphs. */
static int add_idle_services(struct builder *builder)
{
	const struct weft_service_name *name = NULL;
	int r = 0;

	while (!r && (name = weft_names_next_service(builder->names, name ? name->id : 0))) {
		struct row row = { .service = service_piece(builder, name->id) };

		r = row.service ? rows_add(&builder->live, &row) : -ENOMEM;
	}
	return r;
}

static int take_live(struct builder *builder, const void *key, const void *value)
{
	struct weft_live live;
	struct row row = { 0 };
	uint32_t index;

	memcpy(&index, key, sizeof(index));
	memcpy(&live, value, sizeof(live));
	row.value[0] = live.count[builder->live_half];
	if (!row.value[0] || builder->recount)
		return 0;
	row.service = service_piece(builder, index < builder->service_of_room ? builder->service_of[index] : 0);
	return row.service ? rows_add(&builder->live, &row) : -ENOMEM;
}

static int take_counter(struct builder *builder, const void *key, const void *value)
{
	uint32_t index;

	memcpy(&index, key, sizeof(index));
	if (index < WEFT_COUNTER_MAX_) /* a newer agent's counter, adopted: no name for it here */
		memcpy(&builder->counter[index], value, sizeof(builder->counter[index]));
	return 0;
}

/* One kind of map at a time: weft_live means something only once weft_setting and weft_endpoint are known, in whatever order they come. */
static int take_map(struct builder *builder, enum weft_map map, const void *batch, size_t size,
		    int (*take)(struct builder *builder, const void *key, const void *value), struct weft_err *err)
{
	const unsigned char *data = batch;
	struct run run;
	int r, taken;

	while ((r = next_run(&data, &size, &run)) > 0) {
		if (run.head.map != map)
			continue;
		builder->entries[map] += run.head.count;
		for (size_t i = 0; take && i < run.head.count; i++) {
			taken = take(builder, run.keys + i * maps[map].key_size, run.values + i * maps[map].value_size);
			if (taken < 0)
				return weft_err_set(err, taken, "%s: entry %zu cannot be used for metrics: %m", maps[map].name, i);
		}
	}
	if (r < 0)
		return weft_err_set(err, r, "the contents of the maps are malformed %zu bytes before their end: "
				    "`weftd` must be of one build in all its roles", size);
	return 0;
}

/* ---- rows -> text ---- */

/* The labels of a row without braces: reporter, source, service, destination as far as the family has them. */
static int add_row_labels(struct weft_buf *text, const struct row *row, bool reporter)
{
	const struct piece *pieces[] = { row->source, row->service, row->destination };
	const char *comma = "";
	int r = 0;

	if (reporter) {
		r = weft_buf_printf(text, "reporter=\"%s\"", reporter_names[row->reporter]);
		comma = ",";
	}
	for (size_t i = 0; !r && i < WEFT_ARRAY_SIZE(pieces); i++) {
		if (!pieces[i])
			continue;
		r = weft_buf_printf(text, "%s%s", comma, pieces[i]->text);
		comma = ",";
	}
	return r;
}

static int add_tail(struct weft_buf *text, enum metric metric, size_t first, const char *const *values, size_t count)
{
	int r = weft_buf_add(text, ",", 1);

	return r < 0 ? r : add_labels(text, metric, first, values, count);
}

/* Istio's words, and one of ours for what no peer of it has. */
static const char *const security_names[WEFT_SECURITY_MAX_] = {
	[WEFT_SECURITY_NONE] = "none", [WEFT_SECURITY_ATTESTED] = "attested", [WEFT_SECURITY_MUTUAL_TLS] = "mutual_tls"
};

/* A family of which every row has one number. */
static int add_rows(struct weft_buf *text, enum metric metric, const struct rows *rows, size_t value)
{
	int r = add_head(text, metric);

	for (size_t i = 0; !r && i < rows->count; i++) {
		const struct row *row = &rows->row[i];

		r = weft_buf_printf(text, "%s{", families[metric].name);
		if (!r)
			r = add_row_labels(text, row, metric != METRIC_LIVE_CONNECTIONS);
		if (!r && metric <= METRIC_TCP_RECEIVED)
			r = add_tail(text, metric, TRAFFIC_TAIL,
				     (const char *[]){ "tcp", metric == METRIC_TCP_FAILED ? "CONNECT" : "-", security_names[row->tag] }, 3);
		if (!r && metric == METRIC_CONNECTION_FAILURES)
			r = add_tail(text, metric, FAILURES_TAIL, &failure_names[row->tag], 1);
		if (!r)
			r = weft_buf_printf(text, "} %llu\n", (unsigned long long)row->value[value]);
	}
	return r;
}

static int add_histogram(struct weft_buf *text, enum metric metric, const struct row *row, const struct weft_histogram *sum)
{
	const struct shape *shape = &shapes[metric];
	const uint64_t *buckets = (const void *)((const char *)sum + shape->buckets);
	uint64_t us, count = 0, total = 0;
	const char *name = families[metric].name;
	size_t next = 0;
	int r = 0;

	memcpy(&us, (const char *)sum + shape->sum, sizeof(us));
	for (size_t i = 0; i < WEFT_HISTOGRAM_BUCKETS; i++)
		total += buckets[i];
	if (!total)
		return 0;
	for (size_t power = shape->first; !r && power <= shape->last; power += 2) {
		for (; next <= power; next++)
			count += buckets[next];
		r = weft_buf_printf(text, "%s_bucket{", name);
		if (!r)
			r = add_row_labels(text, row, true);
		if (!r)
			r = weft_buf_printf(text, ",le=\"%.10g\"} %llu\n", (double)(1ull << power) / 1e6, (unsigned long long)count);
	}
	for (int line = 0; !r && line < 3; line++) {
		r = weft_buf_printf(text, "%s_%s{", name, line == 0 ? "bucket" : line == 1 ? "sum" : "count");
		if (!r)
			r = add_row_labels(text, row, true);
		if (!r && line == 1)
			r = weft_buf_printf(text, "} %llu.%06llu\n", (unsigned long long)us / 1000000, (unsigned long long)us % 1000000);
		else if (!r)
			r = weft_buf_printf(text, "%s} %llu\n", line ? "" : ",le=\"+Inf\"", (unsigned long long)total);
	}
	return r;
}

static void histogram_add(struct weft_histogram *sum, const struct weft_histogram *one)
{
	uint64_t *to = (void *)sum;

	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++) {
		uint64_t value;

		memcpy(&value, (const char *)one + i * sizeof(value), sizeof(value));
		to[i] += value;
	}
}

static int add_histograms(struct weft_buf *text, enum metric metric, const struct rows *rows)
{
	int r = add_head(text, metric);

	for (size_t i = 0; !r && i < rows->count;) {
		const struct row *row = &rows->row[i];
		struct weft_histogram sum = { 0 };

		for (; i < rows->count && !compare_rows(row, &rows->row[i]); i++)
			histogram_add(&sum, rows->row[i].histogram);
		r = add_histogram(text, metric, row, &sum);
	}
	return r;
}

static int add_traffic(struct weft_buf *text, const struct builder *builder)
{
	const struct {
		enum metric metric;
		const struct rows *rows;
		size_t value;
	} simple[] = {
		{ METRIC_TCP_OPENED, &builder->traffic, 0 },	   { METRIC_TCP_CLOSED, &builder->traffic, 1 },
		{ METRIC_TCP_FAILED, &builder->failed, 0 },	   { METRIC_TCP_SENT, &builder->traffic, 2 },
		{ METRIC_TCP_RECEIVED, &builder->traffic, 3 },	   { METRIC_CONNECTION_FAILURES, &builder->failures, 0 },
		{ METRIC_TCP_RETRANSMITS, &builder->pairs, 0 },	   { METRIC_UDP_ASSOCIATIONS, &builder->udp, 0 },
		{ METRIC_LIVE_CONNECTIONS, &builder->live, 0 },
	};
	int r = 0;

	for (size_t i = 0; !r && i < WEFT_ARRAY_SIZE(simple); i++)
		r = add_rows(text, simple[i].metric, simple[i].rows, simple[i].value);
	for (enum metric metric = METRIC_CONNECT_SECONDS; !r && metric <= METRIC_RTT_SECONDS; metric++)
		r = add_histograms(text, metric, &builder->histograms);
	return r;
}

static int add_counters(struct weft_buf *text, const struct builder *builder, const struct weft_metrics_facts *facts)
{
	enum { REFUSED = METRIC_REFUSED, PASSED = METRIC_PASSED, LOST = METRIC_LOST };
	static const struct {
		enum metric metric;
		const char *name;
	} counters[WEFT_COUNTER_MAX_] = {
#define WEFT_COUNTER(NAME, name_, kind, sentence) [WEFT_COUNTER_##NAME] = { (enum metric)kind, name_ },
#include "weft/lists/counter.h"
#undef WEFT_COUNTER
	};
	static const char *const stages[WEFT_METRICS_STAGE_MAX_] = {
		[WEFT_METRICS_STAGE_RELAY] = "event_relay",
		[WEFT_METRICS_STAGE_CLIENT] = "event_client",
	};
	int r = 0;

	for (enum metric metric = METRIC_REFUSED; !r && metric <= METRIC_LOST; metric++) {
		r = add_head(text, metric);
		for (size_t i = 0; !r && i < WEFT_COUNTER_MAX_; i++)
			if (counters[i].metric == metric)
				r = add_sample(text, metric, &counters[i].name, 1, builder->counter[i]);
	}
	/* weft_lost_total is the last of the three, so its family is still open. */
	for (size_t i = 0; !r && i < WEFT_METRICS_STAGE_MAX_; i++)
		r = add_sample(text, METRIC_LOST, &stages[i], 1, facts->stage_lost[i]);
	return r;
}

static int add_maps(struct weft_buf *text, const struct builder *builder, const struct weft_metrics_facts *facts)
{
	int r = add_head(text, METRIC_MAP_ENTRIES);

	for (size_t i = 0; !r && i < WEFT_MAP_MAX_; i++)
		if (facts->capacity.max_entries[i] && (WEFT_METRICS_MAPS >> i & 1))
			r = add_sample(text, METRIC_MAP_ENTRIES, &maps[i].name, 1, builder->entries[i]);
	if (!r)
		r = add_head(text, METRIC_MAP_CAPACITY);
	for (size_t i = 0; !r && i < WEFT_MAP_MAX_; i++)
		if (facts->capacity.max_entries[i])
			r = add_sample(text, METRIC_MAP_CAPACITY, &maps[i].name, 1, facts->capacity.max_entries[i]);
	return r;
}

static int add_secure(struct weft_buf *text, const struct weft_metrics_facts *facts)
{
	static const char *const counts[] = {
#define WEFT_PROXY_COUNT(NAME, name, sentence) name,
#include "weft/lists/proxy.h"
#undef WEFT_PROXY_COUNT
	};
	int r = add_head(text, METRIC_PROXY);

	for (size_t i = 0; !r && facts->proxy_counts && i < WEFT_ARRAY_SIZE(counts); i++)
		r = add_sample(text, METRIC_PROXY, &counts[i], 1, facts->proxy_counts[i]);
	if (!r)
		r = add_head(text, METRIC_IDENTITY_EXPIRY);
	for (size_t i = 0; !r && i < facts->identity_count; i++)
		r = add_sample(text, METRIC_IDENTITY_EXPIRY, &facts->identities[i].id, 1,
			       facts->identities[i].expiry_s > 0 ? (uint64_t)facts->identities[i].expiry_s : 0);
	return r;
}

static int add_agent(struct weft_buf *text, const struct weft_metrics_facts *facts)
{
	static const char *const features[] = {
#define WEFT_FEATURE(NAME, name, need, with, without) name,
#include "weft/lists/feature.h"
#undef WEFT_FEATURE
	};
	const struct {
		enum metric metric;
		uint64_t number;
	} singles[] = {
		{ METRIC_CONFIG_RESOURCES, facts->resources },
		{ METRIC_CONFIG_REFUSED, facts->refused },
		{ METRIC_CONFIG_NOTICES, facts->notices },
		{ METRIC_CONFIG_APPLIES, facts->applied },
		{ METRIC_CONFIG_APPLY_FAILURES, facts->apply_failures },
		{ METRIC_CONFIG_LAST_APPLY_TIMESTAMP, facts->applied_unix_s },
		{ METRIC_COUNTERS_START_TIMESTAMP, facts->counters_unix_s },
		{ METRIC_WATCHERS, facts->watchers },
	};
	int r = 0;

	for (size_t i = 0; !r && i < WEFT_ARRAY_SIZE(singles); i++)
		r = add_single(text, singles[i].metric, singles[i].number);
	if (!r)
		r = add_head(text, METRIC_CONFIG_LAST_APPLY_SECONDS);
	if (!r)
		r = weft_buf_printf(text, "%s %llu.%09llu\n", families[METRIC_CONFIG_LAST_APPLY_SECONDS].name,
				    (unsigned long long)facts->apply_ns / 1000000000,
				    (unsigned long long)facts->apply_ns % 1000000000);
	if (!r)
		r = add_head(text, METRIC_ROLE_RESTARTS);
	for (size_t i = 0; !r && i < facts->role_count; i++)
		r = add_sample(text, METRIC_ROLE_RESTARTS, &facts->roles[i].name, 1, facts->roles[i].restarts);
	if (!r)
		r = add_head(text, METRIC_FEATURE);
	for (size_t i = 0; !r && i < WEFT_ARRAY_SIZE(features); i++)
		r = add_sample(text, METRIC_FEATURE, &features[i], 1, facts->features >> i & 1);
	if (!r)
		r = add_secure(text, facts);
	if (!r)
		r = add_head(text, METRIC_BUILD_INFO);
	if (!r)
		r = add_sample(text, METRIC_BUILD_INFO, (const char *[]){ known(facts->version), known(facts->node) }, 2, 1);
	return r;
}

int weft_metrics_print(const void *batch, size_t size, const struct weft_names *names,
		       const struct weft_metrics_facts *facts, struct weft_buf *text, struct weft_err *err)
{
	__attribute__((cleanup(builder_done))) struct builder builder = { .names = names, .cluster = facts->cluster, .trust_domain = facts->trust_domain };
	int (*const takes[WEFT_MAP_MAX_])(struct builder *, const void *, const void *) = {
		[WEFT_MAP_SETTING] = take_setting, [WEFT_MAP_ENDPOINT] = take_endpoint, [WEFT_MAP_LIVE] = take_live,	    [WEFT_MAP_AGGREGATE] = take_aggregate,
		[WEFT_MAP_HISTOGRAM] = take_histogram, [WEFT_MAP_COUNTER] = take_counter,
	};
	size_t before = text->size;
	int r = 0;

	/* lists/map.h has SETTING and ENDPOINT before LIVE, as it must be here. */
	for (enum weft_map map = 0; !r && map < WEFT_MAP_MAX_; map++)
		r = take_map(&builder, map, batch, size, takes[map], err);
	if (r < 0)
		return r;
	if (!builder.recount)
		r = add_idle_services(&builder);
	rows_fold(&builder.traffic, true);
	rows_fold(&builder.failed, true);
	rows_fold(&builder.failures, true);
	rows_fold(&builder.pairs, true);
	rows_fold(&builder.udp, true);
	rows_fold(&builder.live, true);
	rows_fold(&builder.histograms, false);

	if (!r)
		r = add_traffic(text, &builder);
	if (!r)
		r = add_counters(text, &builder, facts);
	if (!r)
		r = add_maps(text, &builder, facts);
	if (!r)
		r = add_agent(text, facts);
	if (r < 0) {
		text->size = before;
		if (text->data)
			text->data[before] = '\0';
		return weft_err_set(err, r, "no memory for the metrics' text");
	}
	return 0;
}

int weft_metrics_print_table(struct weft_buf *text)
{
	int r = weft_buf_printf(text, "| name | type | unit | labels | what it is |\n| --- | --- | --- | --- | --- |\n");

	for (size_t i = 0; !r && i < METRIC_MAX_; i++)
		r = weft_buf_printf(text, "| `%s` | %s | %s | %s | %s |\n", families[i].name, type_names[families[i].type],
				    families[i].unit, families[i].labels, families[i].help);
	return r;
}
