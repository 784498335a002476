/* SPDX-License-Identifier: Apache-2.0 */
#include "model/names.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/table.h"
#include "weft/abi/maps.h"

#define HEADER "weft-names 2 "
#define HEADER_1 "weft-names 1" /* had no count */
#define COUNT_WIDTH 10
#define MAX_FIELDS 10
#define GENERATION_MAX ((1u << (32 - WEFT_ENDPOINT_INDEX_BITS)) - 1)
/* Freed indices wait until this many are free, so that an id's index rests long between two users. */
#define FREE_DEPTH 256

/* There are tens of thousands of them: one block each, with the texts behind. */
struct service_record {
	struct weft_service_name name;
	char text[];
};

struct workload_record {
	struct weft_workload_name name;
	char text[];
};

/* By index; an index that is free keeps its last id, for the generation. */
struct endpoint_record {
	struct weft_endpoint_name name; /* of a free one: `id` as it was last given, and `service` is the index of the previous free one */
	uint32_t next : 31; /* index of the next of its bucket, or of the next free one; 0 = the last */
	uint32_t used : 1;
};

struct weft_names {
	struct weft_hash_table service_by_key;
	struct service_record **service; /* by id */
	size_t service_count, service_room;
	uint32_t service_last;

	struct weft_hash_table workload_by_key;
	struct workload_record **workload; /* by id */
	size_t workload_count, workload_room;
	uint32_t workload_last;

	struct endpoint_record *endpoint;
	size_t endpoint_count, endpoint_room; /* count: highest index ever used, and one */
	uint32_t *bucket;
	size_t bucket_count;
	size_t used_count;
	uint32_t free_first, free_last, free_count; /* oldest first */
};

struct weft_names *weft_names_new(void)
{
	return calloc(1, sizeof(struct weft_names));
}

struct weft_names *weft_names_free(struct weft_names *names)
{
	if (!names)
		return NULL;
	weft_hash_table_done(&names->service_by_key);
	weft_hash_table_done(&names->workload_by_key);
	for (size_t i = 0; i < names->service_count; i++)
		free(names->service[i]);
	for (size_t i = 0; i < names->workload_count; i++)
		free(names->workload[i]);
	free(names->service);
	free(names->workload);
	free(names->endpoint);
	free(names->bucket);
	free(names);
	return NULL;
}

/* ---- text ---- */

static int add_field(struct weft_buf *out, const char *text)
{
	int r = weft_buf_add(out, "\t", 1);

	while (r == 0 && *text) {
		size_t plain = strcspn(text, "\t\n\\");

		r = weft_buf_add(out, text, plain);
		text += plain;
		if (r == 0 && *text) {
			r = weft_buf_add(out, *text == '\t' ? "\\t" : *text == '\n' ? "\\n" : "\\\\", 2);
			text++;
		}
	}
	return r;
}

static char *put_number(char *at, uint32_t number)
{
	char digits[10];
	int count = 0;

	do
		digits[count++] = (char)('0' + number % 10);
	while (number /= 10);
	while (count)
		*at++ = digits[--count];
	return at;
}

/* Without printf, here and below: a first load journals 10 000 of these and 100 000 endpoints within its time budget. */
static int add_number(struct weft_buf *out, const char *before, uint32_t number)
{
	char text[12], *at = stpcpy(text, before);

	at = put_number(at, number);
	return weft_buf_add(out, text, (size_t)(at - text));
}

static int print_service(const struct weft_service_name *name, struct weft_buf *out)
{
	size_t before = out->size;
	int r = add_number(out, "S\t", name->id);

	if (r == 0)
		r = add_field(out, name->namespace);
	if (r == 0)
		r = add_field(out, name->name);
	if (r == 0)
		r = add_field(out, name->port_name);
	if (r == 0)
		r = add_number(out, "\t", name->port);
	if (r == 0)
		r = add_number(out, "\t", name->protocol);
	if (r == 0)
		r = add_field(out, name->host);
	if (r == 0)
		r = weft_buf_add(out, "\n", 1);
	if (r < 0)
		out->size = before;
	return r;
}

static int print_workload(const struct weft_workload_name *name, struct weft_buf *out)
{
	const char *field[] = { name->kind, name->namespace, name->name, name->service_account, name->node,
				name->zone, name->app,	     name->version, name->owner };
	size_t before = out->size;
	int r = weft_buf_printf(out, "W\t%u", name->id);

	for (size_t i = 0; r == 0 && i < WEFT_ARRAY_SIZE(field); i++)
		r = add_field(out, field[i]);
	if (r == 0)
		r = weft_buf_add(out, "\n", 1);
	if (r < 0)
		out->size = before;
	return r;
}

static int print_endpoint(const struct weft_endpoint_name *name, struct weft_buf *out)
{
	char line[64 + WEFT_ADDR_TEXT], *at = line;

	*at++ = 'E';
	*at++ = '\t';
	at = put_number(at, name->id);
	*at++ = '\t';
	at = put_number(at, name->service);
	*at++ = '\t';
	if (weft_addr_is_v4(&name->addr)) {
		const uint8_t *byte = (const uint8_t *)&name->addr.w[3];

		for (int i = 0; i < 4; i++) {
			at = put_number(at, byte[i]);
			*at++ = i < 3 ? '.' : '\t';
		}
	} else {
		weft_addr_format(&name->addr, at);
		at += strlen(at);
		*at++ = '\t';
	}
	at = put_number(at, name->port);
	*at++ = '\t';
	at = put_number(at, name->protocol);
	*at++ = '\n';
	return weft_buf_add(out, line, (size_t)(at - line));
}

/* ---- services ---- */

static bool is_host_named(const struct weft_service_name *name)
{
	return strcmp(name->name, name->host) == 0;
}

static uint32_t hash_text(const char *text, uint32_t before)
{
	return weft_hash(text, strlen(text), before);
}

static uint32_t service_hash(const void *item)
{
	const struct weft_service_name *name = &((const struct service_record *)item)->name;
	uint32_t tail = (uint32_t)name->port << 16 | (uint32_t)name->protocol << 8 | is_host_named(name);

	return weft_hash(&tail, sizeof(tail), hash_text(name->name, hash_text(name->namespace, 0)));
}

static bool service_is(const void *item, const void *key)
{
	const struct weft_service_name *a = &((const struct service_record *)item)->name, *b = key;

	return a->port == b->port && a->protocol == b->protocol && is_host_named(a) == is_host_named(b) &&
	       strcmp(a->name, b->name) == 0 && strcmp(a->namespace, b->namespace) == 0;
}

static struct service_record *service_find(const struct weft_names *names, const struct weft_service_name *key)
{
	const struct service_record like = { .name = *key };

	return weft_hash_table_find(&names->service_by_key, service_hash(&like), service_is, key);
}

static size_t service_position(const struct weft_names *names, uint32_t id)
{
	size_t low = 0, high = names->service_count;

	if (high && names->service[high - 1]->name.id < id)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (names->service[middle]->name.id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct service_record *service_at(const struct weft_names *names, uint32_t id)
{
	size_t at = service_position(names, id);

	return at < names->service_count && names->service[at]->name.id == id ? names->service[at] : NULL;
}

static void service_remove(struct weft_names *names, uint32_t id)
{
	size_t at = service_position(names, id);

	if (at >= names->service_count || names->service[at]->name.id != id)
		return;
	weft_hash_table_remove(&names->service_by_key, names->service[at], service_hash);
	free(names->service[at]);
	memmove(names->service + at, names->service + at + 1, (--names->service_count - at) * sizeof(*names->service));
}

/* Copies a text to *at and moves that behind it. */
static const char *keep(char **at, const char *text)
{
	char *kept = *at;

	*at = stpcpy(kept, text) + 1;
	return kept;
}

static struct service_record *service_record_new(const struct weft_service_name *name)
{
	size_t size = strlen(name->namespace) + strlen(name->name) + strlen(name->port_name) + strlen(name->host) + 4;
	struct service_record *record = malloc(sizeof(*record) + size);
	char *at;

	if (!record)
		return NULL;
	at = record->text;
	record->name = *name;
	record->name.namespace = keep(&at, name->namespace);
	record->name.name = keep(&at, name->name);
	record->name.port_name = keep(&at, name->port_name);
	record->name.host = keep(&at, name->host);
	return record;
}

/* Puts the record under its id in place of what was there; of two ids with one key the later record wins. */
static int service_set(struct weft_names *names, const struct weft_service_name *name)
{
	weft_free_on_exit struct service_record *record = service_record_new(name);
	const struct service_record *same;
	size_t at;

	if (!record || weft_grow(&names->service, &names->service_room, names->service_count + 1,
				 sizeof(*names->service)) < 0)
		return -ENOMEM;
	service_remove(names, name->id);
	same = service_find(names, name);
	if (same)
		service_remove(names, same->name.id);
	if (weft_hash_table_add(&names->service_by_key, record, service_hash) < 0)
		return -ENOMEM;
	at = service_position(names, name->id);
	memmove(names->service + at + 1, names->service + at, (names->service_count++ - at) * sizeof(*names->service));
	names->service[at] = weft_take_ptr(record);
	if (name->id > names->service_last)
		names->service_last = name->id;
	return 0;
}

int weft_names_get_service(struct weft_names *names, const struct weft_service_name *template, struct weft_buf *journal,
			   uint32_t *ret_id)
{
	struct weft_service_name name = *template;
	const struct service_record *record = service_find(names, template);
	size_t before = journal->size;
	int r;

	if (record && strcmp(record->name.port_name, template->port_name) == 0 &&
	    strcmp(record->name.host, template->host) == 0) {
		*ret_id = record->name.id;
		return 0;
	}
	if (!record && names->service_last >= WEFT_ID_OTHER - 1)
		return -ENOSPC;
	name.id = record ? record->name.id : names->service_last + 1;
	r = print_service(&name, journal);
	if (r == 0)
		r = service_set(names, &name);
	if (r < 0) {
		journal->size = before;
		return r;
	}
	*ret_id = name.id;
	return 0;
}

void weft_names_drop_service(struct weft_names *names, uint32_t id, struct weft_buf *journal)
{
	if (service_at(names, id) && weft_buf_printf(journal, "-S\t%u\n", id) == 0)
		service_remove(names, id);
}

const struct weft_service_name *weft_names_service(const struct weft_names *names, uint32_t id)
{
	const struct service_record *record = service_at(names, id);

	return record ? &record->name : NULL;
}

const struct weft_service_name *weft_names_next_service(const struct weft_names *names, uint32_t previous)
{
	size_t at = previous == UINT32_MAX ? names->service_count : service_position(names, previous + 1);

	return at < names->service_count ? &names->service[at]->name : NULL;
}

/* ---- workloads ---- */

static uint32_t workload_hash(const void *item)
{
	const struct weft_workload_name *name = &((const struct workload_record *)item)->name;

	return hash_text(name->name, hash_text(name->namespace, hash_text(name->kind, 0)));
}

static bool workload_is(const void *item, const void *key)
{
	const struct weft_workload_name *a = &((const struct workload_record *)item)->name, *b = key;

	return strcmp(a->name, b->name) == 0 && strcmp(a->namespace, b->namespace) == 0 && strcmp(a->kind, b->kind) == 0;
}

static struct workload_record *workload_find(const struct weft_names *names, const struct weft_workload_name *key)
{
	const struct workload_record like = { .name = *key };

	return weft_hash_table_find(&names->workload_by_key, workload_hash(&like), workload_is, key);
}

static size_t workload_position(const struct weft_names *names, uint32_t id)
{
	size_t low = 0, high = names->workload_count;

	if (high && names->workload[high - 1]->name.id < id)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (names->workload[middle]->name.id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct workload_record *workload_at(const struct weft_names *names, uint32_t id)
{
	size_t at = workload_position(names, id);

	return at < names->workload_count && names->workload[at]->name.id == id ? names->workload[at] : NULL;
}

static void workload_remove(struct weft_names *names, uint32_t id)
{
	size_t at = workload_position(names, id);

	if (at >= names->workload_count || names->workload[at]->name.id != id)
		return;
	weft_hash_table_remove(&names->workload_by_key, names->workload[at], workload_hash);
	free(names->workload[at]);
	memmove(names->workload + at, names->workload + at + 1,
		(--names->workload_count - at) * sizeof(*names->workload));
}

static struct workload_record *workload_record_new(const struct weft_workload_name *name)
{
	const char *const from[] = { name->kind, name->namespace, name->name,	 name->service_account, name->node,
				     name->zone, name->app,	  name->version, name->owner };
	struct workload_record *record;
	size_t size = 0;
	char *at;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(from); i++)
		size += strlen(from[i]) + 1;
	record = malloc(sizeof(*record) + size);
	if (!record)
		return NULL;
	at = record->text;
	record->name = (struct weft_workload_name){
		.id = name->id,
		.kind = keep(&at, name->kind),
		.namespace = keep(&at, name->namespace),
		.name = keep(&at, name->name),
		.service_account = keep(&at, name->service_account),
		.node = keep(&at, name->node),
		.zone = keep(&at, name->zone),
		.app = keep(&at, name->app),
		.version = keep(&at, name->version),
		.owner = keep(&at, name->owner),
	};
	return record;
}

static int workload_set(struct weft_names *names, const struct weft_workload_name *name)
{
	weft_free_on_exit struct workload_record *record = workload_record_new(name);
	const struct workload_record *same;
	size_t at;

	if (!record || weft_grow(&names->workload, &names->workload_room, names->workload_count + 1,
				 sizeof(*names->workload)) < 0)
		return -ENOMEM;
	workload_remove(names, name->id);
	same = workload_find(names, name);
	if (same)
		workload_remove(names, same->name.id);
	if (weft_hash_table_add(&names->workload_by_key, record, workload_hash) < 0)
		return -ENOMEM;
	at = workload_position(names, name->id);
	memmove(names->workload + at + 1, names->workload + at,
		(names->workload_count++ - at) * sizeof(*names->workload));
	names->workload[at] = weft_take_ptr(record);
	if (name->id > names->workload_last)
		names->workload_last = name->id;
	return 0;
}

static bool workload_equal(const struct weft_workload_name *a, const struct weft_workload_name *b)
{
	return strcmp(a->service_account, b->service_account) == 0 && strcmp(a->node, b->node) == 0 &&
	       strcmp(a->zone, b->zone) == 0 && strcmp(a->app, b->app) == 0 && strcmp(a->version, b->version) == 0 &&
	       strcmp(a->owner, b->owner) == 0;
}

int weft_names_get_workload(struct weft_names *names, const struct weft_workload_name *template,
			    struct weft_buf *journal, uint32_t *ret_id)
{
	struct weft_workload_name name = *template;
	const struct workload_record *record = workload_find(names, template);
	size_t before = journal->size;
	int r;

	if (record && workload_equal(&record->name, template)) {
		*ret_id = record->name.id;
		return 0;
	}
	if (!record && names->workload_last >= WEFT_ID_OTHER - 1)
		return -ENOSPC;
	name.id = record ? record->name.id : names->workload_last + 1;
	r = print_workload(&name, journal);
	if (r == 0)
		r = workload_set(names, &name);
	if (r < 0) {
		journal->size = before;
		return r;
	}
	*ret_id = name.id;
	return 0;
}

void weft_names_drop_workload(struct weft_names *names, uint32_t id, struct weft_buf *journal)
{
	if (workload_at(names, id) && weft_buf_printf(journal, "-W\t%u\n", id) == 0)
		workload_remove(names, id);
}

const struct weft_workload_name *weft_names_workload(const struct weft_names *names, uint32_t id)
{
	const struct workload_record *record = workload_at(names, id);

	return record ? &record->name : NULL;
}

const struct weft_workload_name *weft_names_next_workload(const struct weft_names *names, uint32_t previous)
{
	size_t at = previous == UINT32_MAX ? names->workload_count : workload_position(names, previous + 1);

	return at < names->workload_count ? &names->workload[at]->name : NULL;
}

/* ---- endpoints ---- */

static uint32_t endpoint_hash(const struct weft_endpoint_name *name)
{
	const struct {
		struct weft_addr addr;
		uint32_t service;
		uint16_t port;
		uint16_t protocol;
	} key = { name->addr, name->service, name->port, name->protocol };

	return weft_hash(&key, sizeof(key), 0);
}

static bool endpoint_equal(const struct weft_endpoint_name *a, const struct weft_endpoint_name *b)
{
	return a->service == b->service && a->port == b->port && a->protocol == b->protocol &&
	       weft_addr_compare(&a->addr, &b->addr) == 0;
}

static uint32_t endpoint_find(const struct weft_names *names, const struct weft_endpoint_name *name)
{
	uint32_t index = names->bucket_count ? names->bucket[endpoint_hash(name) & (names->bucket_count - 1)] : 0;

	while (index && !endpoint_equal(&names->endpoint[index].name, name))
		index = names->endpoint[index].next;
	return index;
}

static int buckets_grow(struct weft_names *names)
{
	size_t want = names->bucket_count ? names->bucket_count * 2 : 64;
	uint32_t *bucket;

	if (names->used_count < names->bucket_count)
		return 0;
	bucket = calloc(want, sizeof(*bucket));
	if (!bucket)
		return -ENOMEM;
	for (uint32_t index = 1; index < names->endpoint_count; index++) {
		struct endpoint_record *record = &names->endpoint[index];
		uint32_t *head;

		if (!record->used)
			continue;
		head = &bucket[endpoint_hash(&record->name) & (want - 1)];
		record->next = *head;
		*head = index;
	}
	free(names->bucket);
	names->bucket = bucket;
	names->bucket_count = want;
	return 0;
}

static void free_append(struct weft_names *names, uint32_t index)
{
	names->endpoint[index].next = 0;
	names->endpoint[index].name.service = names->free_last;
	if (names->free_last)
		names->endpoint[names->free_last].next = index;
	else
		names->free_first = index;
	names->free_last = index;
	names->free_count++;
}

static void free_remove(struct weft_names *names, uint32_t index)
{
	const struct endpoint_record *record = &names->endpoint[index];
	uint32_t previous = record->name.service;

	if (previous)
		names->endpoint[previous].next = record->next;
	else
		names->free_first = record->next;
	if (record->next)
		names->endpoint[record->next].name.service = previous;
	else
		names->free_last = previous;
	names->free_count--;
}

static void endpoint_remove(struct weft_names *names, uint32_t index)
{
	struct endpoint_record *record = &names->endpoint[index];
	uint32_t *head = &names->bucket[endpoint_hash(&record->name) & (names->bucket_count - 1)], at = *head;

	if (at == index) {
		*head = record->next;
	} else {
		while (names->endpoint[at].next != index)
			at = names->endpoint[at].next;
		names->endpoint[at].next = record->next;
	}
	record->used = false;
	names->used_count--;
	free_append(names, index);
}

/* Indices between the highest so far and this one become free ones that were never used (id 0). */
static int endpoint_room(struct weft_names *names, uint32_t index)
{
	if (weft_grow(&names->endpoint, &names->endpoint_room, (size_t)index + 1, sizeof(*names->endpoint)) < 0)
		return -ENOMEM;
	if (!names->endpoint_count) {
		names->endpoint[0] = (struct endpoint_record){ 0 };
		names->endpoint_count = 1;
	}
	while (names->endpoint_count <= index) {
		names->endpoint[names->endpoint_count] = (struct endpoint_record){ 0 };
		free_append(names, (uint32_t)names->endpoint_count++);
	}
	return 0;
}

static int endpoint_set(struct weft_names *names, const struct weft_endpoint_name *name)
{
	uint32_t index = WEFT_ENDPOINT_INDEX(name->id), same;
	uint32_t *head;
	struct endpoint_record *record;

	if (buckets_grow(names) < 0 || endpoint_room(names, index) < 0)
		return -ENOMEM;
	if (names->endpoint[index].used)
		endpoint_remove(names, index);
	same = endpoint_find(names, name);
	if (same)
		endpoint_remove(names, same);
	free_remove(names, index);
	record = &names->endpoint[index];
	head = &names->bucket[endpoint_hash(name) & (names->bucket_count - 1)];
	*record = (struct endpoint_record){ .name = *name, .next = *head, .used = true };
	*head = index;
	names->used_count++;
	return 0;
}

static uint32_t next_generation(uint32_t id)
{
	uint32_t generation = WEFT_ENDPOINT_GENERATION(id);

	/* The last generation of the last index would be WEFT_ID_OTHER. */
	return generation >= GENERATION_MAX || id + (1u << WEFT_ENDPOINT_INDEX_BITS) == WEFT_ID_OTHER ? 1 : generation + 1;
}

int weft_names_get_endpoint(struct weft_names *names, const struct weft_endpoint_name *template, uint32_t max_index,
			    struct weft_buf *journal, uint32_t *ret_id)
{
	struct weft_endpoint_name name = *template;
	uint32_t index = endpoint_find(names, template), fresh = names->endpoint_count ? (uint32_t)names->endpoint_count : 1;
	size_t before = journal->size;
	int r;

	if (index) {
		*ret_id = names->endpoint[index].name.id;
		return 0;
	}
	if (max_index > WEFT_ENDPOINT_INDEX_MASK + 1)
		max_index = WEFT_ENDPOINT_INDEX_MASK + 1;
	index = names->free_first;
	/* A map that was made smaller leaves indices behind that nobody can use. */
	while (index >= max_index)
		index = names->endpoint[index].next;
	if (fresh < max_index && (!index || names->free_count < FREE_DEPTH))
		index = fresh;
	if (!index)
		return -ENOSPC;
	name.id = index | (index == fresh ? 1 : next_generation(names->endpoint[index].name.id)) << WEFT_ENDPOINT_INDEX_BITS;
	r = print_endpoint(&name, journal);
	if (r == 0)
		r = endpoint_set(names, &name);
	if (r < 0) {
		journal->size = before;
		return r;
	}
	*ret_id = name.id;
	return 0;
}

void weft_names_drop_endpoint(struct weft_names *names, uint32_t id, struct weft_buf *journal)
{
	if (weft_names_endpoint(names, id) && weft_buf_printf(journal, "-E\t%u\n", id) == 0)
		endpoint_remove(names, WEFT_ENDPOINT_INDEX(id));
}

const struct weft_endpoint_name *weft_names_endpoint(const struct weft_names *names, uint32_t id)
{
	uint32_t index = WEFT_ENDPOINT_INDEX(id);

	if (index >= names->endpoint_count || !names->endpoint[index].used || names->endpoint[index].name.id != id)
		return NULL;
	return &names->endpoint[index].name;
}

const struct weft_endpoint_name *weft_names_endpoint_at(const struct weft_names *names, uint32_t index)
{
	return index < names->endpoint_count && names->endpoint[index].used ? &names->endpoint[index].name : NULL;
}

const struct weft_endpoint_name *weft_names_find_endpoint(const struct weft_names *names, const struct weft_endpoint_name *key)
{
	return weft_names_endpoint_at(names, endpoint_find(names, key));
}

const struct weft_endpoint_name *weft_names_next_endpoint(const struct weft_names *names, uint32_t previous)
{
	for (size_t index = (size_t)WEFT_ENDPOINT_INDEX(previous) + 1; index < names->endpoint_count; index++)
		if (names->endpoint[index].used)
			return &names->endpoint[index].name;
	return NULL;
}

/* ---- the file ---- */

int weft_names_print(const struct weft_names *names, struct weft_buf *out)
{
	size_t before = out->size, count = 0;
	char digits[COUNT_WIDTH + 1];
	int r = weft_buf_printf(out, HEADER "%0*u\n", COUNT_WIDTH, 0);

	/* What was given last is said first, so that it is not given again even if its owner is gone. */
	if (r == 0 && names->service_last)
		r = weft_buf_printf(out, "-S\t%u\n", names->service_last);
	if (r == 0 && names->workload_last)
		r = weft_buf_printf(out, "-W\t%u\n", names->workload_last);
	for (uint32_t index = names->free_first; r == 0 && index; index = names->endpoint[index].next)
		if (names->endpoint[index].name.id)
			r = weft_buf_printf(out, "-E\t%u\n", names->endpoint[index].name.id);
	for (size_t i = 0; r == 0 && i < names->service_count; i++)
		r = print_service(&names->service[i]->name, out);
	for (size_t i = 0; r == 0 && i < names->workload_count; i++)
		r = print_workload(&names->workload[i]->name, out);
	for (size_t i = 1; r == 0 && i < names->endpoint_count; i++)
		if (names->endpoint[i].used)
			r = print_endpoint(&names->endpoint[i].name, out);
	if (r < 0) {
		out->size = before;
		return r;
	}
	for (size_t at = before; at < out->size; at++)
		count += out->data[at] == '\n';
	snprintf(digits, sizeof(digits), "%0*u", COUNT_WIDTH, (uint32_t)count - 1);
	memcpy(out->data + before + strlen(HEADER), digits, COUNT_WIDTH);
	return 0;
}

static bool parse_number(const char *text, uint32_t max, uint32_t *ret_number)
{
	uint64_t number = 0;

	if (!*text || strlen(text) > 10)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		number = number * 10 + (uint64_t)(*text - '0');
	}
	if (number > max)
		return false;
	*ret_number = (uint32_t)number;
	return true;
}

/* Splits at tabs and unescapes, in place. The number of fields, or -EINVAL for an escape that does not exist. */
static int split(char *line, char *field[MAX_FIELDS + 2])
{
	char *to = line;
	int count = 0;

	field[count++] = to;
	for (const char *from = line; *from; from++) {
		if (*from == '\t') {
			*to++ = '\0';
			if (count == MAX_FIELDS + 2)
				return -EINVAL;
			field[count++] = to;
		} else if (*from == '\\') {
			from++;
			if (*from != 't' && *from != 'n' && *from != '\\')
				return -EINVAL;
			*to++ = (char)(*from == 't' ? '\t' : *from == 'n' ? '\n' : '\\');
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return count;
}

/* An endpoint id that nobody has any more. */
static int endpoint_forget(struct weft_names *names, uint32_t id)
{
	uint32_t index = WEFT_ENDPOINT_INDEX(id);

	if (!index)
		return -EINVAL;
	if (endpoint_room(names, index) < 0)
		return -ENOMEM;
	if (names->endpoint[index].used) {
		if (names->endpoint[index].name.id != id)
			return 0;
		endpoint_remove(names, index);
		return 0;
	}
	if (!names->endpoint[index].name.id || names->endpoint[index].name.id != id) {
		names->endpoint[index].name.id = id;
		free_remove(names, index);
		free_append(names, index);
	}
	return 0;
}

/* -EINVAL: no such record. */
static int parse_record(struct weft_names *names, char *line)
{
	char *field[MAX_FIELDS + 2];
	int count = split(line, field);
	uint32_t id, port, protocol, service;

	if (count < 2 || !parse_number(field[1], WEFT_ID_OTHER - 1, &id) || !id)
		return -EINVAL;
	if (strcmp(field[0], "S") == 0 && count == 8) {
		struct weft_service_name name = { .id = id, .namespace = field[2], .name = field[3],
						  .port_name = field[4], .host = field[7] };

		if (!parse_number(field[5], UINT16_MAX, &port) || !parse_number(field[6], UINT8_MAX, &protocol))
			return -EINVAL;
		name.port = (uint16_t)port;
		name.protocol = (uint8_t)protocol;
		return service_set(names, &name);
	}
	if (strcmp(field[0], "W") == 0 && count == 11) {
		struct weft_workload_name name = {
			.id = id, .kind = field[2], .namespace = field[3], .name = field[4],
			.service_account = field[5], .node = field[6], .zone = field[7], .app = field[8],
			.version = field[9], .owner = field[10],
		};

		return workload_set(names, &name);
	}
	if (strcmp(field[0], "E") == 0 && count == 6) {
		struct weft_endpoint_name name = { .id = id };

		if (!WEFT_ENDPOINT_INDEX(id) || !parse_number(field[2], WEFT_ID_OTHER - 1, &service) ||
		    weft_addr_parse(field[3], &name.addr) < 0 || !parse_number(field[4], UINT16_MAX, &port) ||
		    !parse_number(field[5], UINT8_MAX, &protocol))
			return -EINVAL;
		name.service = service;
		name.port = (uint16_t)port;
		name.protocol = (uint8_t)protocol;
		return endpoint_set(names, &name);
	}
	if (count != 2)
		return -EINVAL;
	if (strcmp(field[0], "-S") == 0) {
		service_remove(names, id);
		if (id > names->service_last)
			names->service_last = id;
		return 0;
	}
	if (strcmp(field[0], "-W") == 0) {
		workload_remove(names, id);
		if (id > names->workload_last)
			names->workload_last = id;
		return 0;
	}
	return strcmp(field[0], "-E") == 0 ? endpoint_forget(names, id) : -EINVAL;
}

/* How many records follow at least. */
static int parse_header(const char *line, uint32_t *ret_count)
{
	size_t size = strlen(HEADER);

	if (strcmp(line, HEADER_1) == 0)
		return 0;
	return strncmp(line, HEADER, size) == 0 && parse_number(line + size, UINT32_MAX, ret_count) ? 0 : -EINVAL;
}

int weft_names_parse(struct weft_names *names, const char *text, size_t size, struct weft_err *err)
{
	weft_free_on_exit char *line = NULL;
	size_t room = 0, number = 0;
	uint32_t count = 0;
	const char *end = text + size;

	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		size_t length;
		int r;

		if (!stop)
			break;
		number++;
		length = (size_t)(stop - text);
		if (weft_grow(&line, &room, length + 1, 1) < 0)
			return weft_err_set(err, ENOMEM, "the names file cannot be read: %m");
		memcpy(line, text, length);
		line[length] = '\0';
		text = stop + 1;
		if (memchr(line, '\0', length))
			r = -EINVAL;
		else
			r = number == 1 ? parse_header(line, &count) : parse_record(names, line);
		if (r == -EINVAL)
			return weft_err_set(err, EINVAL,
					    number == 1 ? "line %zu of the names file is not \"weft-names 2\" and a count: it is not "
							  "weft's or a newer weft's, move it away" :
							  "line %zu of the names file is no record: repair or remove "
							  "that line",
					    number);
		if (r < 0)
			return weft_err_set(err, -r, "line %zu of the names file: %m", number);
	}
	if (number == 0 || number - 1 < count)
		return weft_err_set(err, EINVAL,
				    "the names file ends after %zu of at least %u records, something has cut it: put it back from a "
				    "backup, or leave it and whoever is missing gets a new id",
				    number ? number - 1 : 0, count);
	return 0;
}
