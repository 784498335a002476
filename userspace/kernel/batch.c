/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/batch.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "kernel/maps.h"

struct run {
	const struct weft_map_spec *spec;
	enum weft_map map;
	enum weft_batch_op op;
	uint32_t count;
	const char *keys;
	const char *values; /* NULL in a DELETE */
};

struct cursor {
	const char *at;
	size_t left;
	uint32_t index; /* of the next run */
};

/* Entries of these are overwritten with zeros, never deleted. */
static bool is_array(enum weft_map map)
{
	return map == WEFT_MAP_SLOT || map == WEFT_MAP_ENDPOINT;
}

static uint64_t padded(uint32_t count, uint32_t size)
{
	return ((uint64_t)count * size + 7) & ~(uint64_t)7;
}

static int malformed(struct weft_err *err, const struct cursor *cursor, const char *what)
{
	return weft_err_set(err, EBADMSG,
			    "run %u of the batch %s; nothing was written: the two roles are not of one build",
			    cursor->index, what);
}

/* 1 with a run that lies wholly inside the batch, 0 at the end, -EBADMSG. */
static int next_run(struct cursor *cursor, struct run *ret_run, struct weft_err *err)
{
	struct weft_batch_run header;
	const struct weft_map_spec *spec;
	uint64_t keys, values = 0;

	if (!cursor->left)
		return 0;
	if (cursor->left < sizeof(header))
		return malformed(err, cursor, "is cut short in its header");
	memcpy(&header, cursor->at, sizeof(header));
	spec = weft_map_spec(header.map);
	if (!spec)
		return malformed(err, cursor, "names no map");
	if (header.op != WEFT_BATCH_UPDATE && header.op != WEFT_BATCH_DELETE)
		return malformed(err, cursor, "has an unknown operation");
	if (header.pad)
		return malformed(err, cursor, "has padding that is not zero");
	/* These two hold main's own state and have calls of their own. */
	if (!spec->config || header.map == WEFT_MAP_SETTING || header.map == WEFT_MAP_CAPTURE)
		return malformed(err, cursor, "writes a map that is not control's");
	if (header.op == WEFT_BATCH_DELETE && is_array(header.map))
		return malformed(err, cursor, "deletes from an array");
	keys = padded(header.count, spec->key_size);
	if (header.op == WEFT_BATCH_UPDATE)
		values = padded(header.count, spec->value_size);
	if (keys + values > cursor->left - sizeof(header))
		return malformed(err, cursor, "is longer than the batch");
	*ret_run = (struct run){
		.spec = spec,
		.map = header.map,
		.op = header.op,
		.count = header.count,
		.keys = cursor->at + sizeof(header),
		.values = header.op == WEFT_BATCH_UPDATE ? cursor->at + sizeof(header) + keys : NULL,
	};
	cursor->at += sizeof(header) + keys + values;
	cursor->left -= sizeof(header) + keys + values;
	cursor->index++;
	return 1;
}

int weft_kernel_batch_check(const void *batch, size_t size, uint32_t *ret_failed_run, struct weft_err *err)
{
	struct cursor cursor = { batch, size, 0 };
	struct run run;
	int r;

	while ((r = next_run(&cursor, &run, err)) > 0)
		;
	if (r < 0)
		*ret_failed_run = cursor.index;
	return r;
}

static int apply_run(int fd, const struct run *run)
{
	if (run->op == WEFT_BATCH_DELETE)
		return weft_map_delete_many(fd, run->spec->key_size, run->keys, run->count);
	return weft_map_update_many(fd, run->spec->key_size, run->spec->value_size, run->keys, run->values, run->count);
}

static int explain(struct weft_err *err, int code, int fd, const struct run *run)
{
	struct bpf_map_info info;

	/* An array answers E2BIG, a hash too; an LPM trie says ENOSPC. */
	if ((code == -E2BIG || code == -ENOSPC) && weft_map_fd_info(fd, &info) == 0)
		return weft_err_set(err, code,
				    "%s is too small with its %u entries for this configuration: make it larger",
				    run->spec->name, info.max_entries);
	return weft_err_set(err, code, "the kernel refused to write %s: %m", run->spec->name);
}

int weft_kernel_batch_apply(const int fds[static WEFT_MAP_MAX_], const void *batch, size_t size,
			    uint32_t *ret_failed_run, struct weft_err *err)
{
	struct cursor cursor = { batch, size, 0 };
	struct run run = { 0 };
	int r = weft_kernel_batch_check(batch, size, ret_failed_run, err);

	if (r < 0)
		return r;
	while ((r = next_run(&cursor, &run, err)) > 0) {
		r = apply_run(fds[run.map], &run);
		if (r < 0) {
			*ret_failed_run = cursor.index - 1;
			return explain(err, r, fds[run.map], &run);
		}
	}
	return r;
}

static bool all_zero(const char *data, size_t size)
{
	return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

static size_t drop_zeros(const struct weft_map_spec *spec, struct weft_buf *keys, struct weft_buf *values, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		const char *value = values->data + i * spec->value_size;

		if (all_zero(value, spec->value_size))
			continue;
		memmove(keys->data + kept * spec->key_size, keys->data + i * spec->key_size, spec->key_size);
		memmove(values->data + kept * spec->value_size, value, spec->value_size);
		kept++;
	}
	keys->size = kept * spec->key_size;
	values->size = kept * spec->value_size;
	return kept;
}

static int add_padded(struct weft_buf *batch, const struct weft_buf *part)
{
	int r = weft_buf_add(batch, part->data, part->size);

	return r < 0 ? r : weft_buf_reserve(batch, -part->size & 7, NULL);
}

int weft_kernel_batch_read(int fd, enum weft_map map, struct weft_buf *batch)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	const struct weft_map_spec *spec = weft_map_spec(map);
	struct weft_batch_run header = { .map = map, .op = WEFT_BATCH_UPDATE };
	struct bpf_map_info info;
	size_t before = batch->size, count;
	int r = weft_map_fd_info(fd, &info);

	if (r < 0)
		return r;
	if (info.key_size != spec->key_size || info.value_size != spec->value_size)
		return -EPROTO;
	r = weft_map_dump(fd, &info, &keys, &values, &count);
	if (r < 0)
		return r;
	if (info.type == BPF_MAP_TYPE_ARRAY || info.type == BPF_MAP_TYPE_PERCPU_ARRAY)
		count = drop_zeros(spec, &keys, &values, count);
	header.count = (__u32)count;
	r = weft_buf_add(batch, &header, sizeof(header));
	if (r == 0)
		r = add_padded(batch, &keys);
	if (r == 0)
		r = add_padded(batch, &values);
	if (r < 0)
		batch->size = before;
	return r;
}
