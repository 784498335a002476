/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

#define KIND_CONFIG true
#define KIND_STATE false

static const struct weft_map_spec specs[] = {
#define WEFT_MAP(NAME, name, key, value, owner, sentence)                                                              \
	[WEFT_MAP_##NAME] = { name, sentence, sizeof(key), sizeof(value), KIND_##owner },
#include "weft/lists/map.h"
#undef WEFT_MAP
};

/* The kernel's errno for a map type without batches; it is not in userspace's errno.h. */
#define KERNEL_ENOTSUPP 524

/* Enough that system calls do not count, few enough that a small map does not cost megabytes. */
#define DUMP_STEP 4096

const struct weft_map_spec *weft_map_spec(uint32_t map)
{
	return map < WEFT_ARRAY_SIZE(specs) ? &specs[map] : NULL;
}

int weft_map_fd_info(int fd, struct bpf_map_info *ret_info)
{
	struct bpf_map_info info = { 0 };
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -errno;
	*ret_info = info;
	return 0;
}

static bool is_per_cpu(const struct bpf_map_info *info)
{
	return info->type == BPF_MAP_TYPE_PERCPU_ARRAY || info->type == BPF_MAP_TYPE_PERCPU_HASH ||
	       info->type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

int weft_map_get(int fd, const struct bpf_map_info *info, const void *key, void *ret_value)
{
	weft_free_on_exit __u64 *each = NULL;
	__u64 sum = 0;
	int cpus;

	if (!is_per_cpu(info))
		return bpf_map_lookup_elem(fd, key, ret_value) < 0 ? -errno : 0;
	if (info->value_size != sizeof(sum))
		return -EPROTO;
	cpus = libbpf_num_possible_cpus();
	if (cpus < 0)
		return cpus;
	each = calloc((size_t)cpus, sizeof(*each));
	if (!each)
		return -ENOMEM;
	if (bpf_map_lookup_elem(fd, key, each) < 0)
		return -errno;
	for (int i = 0; i < cpus; i++)
		sum += each[i];
	memcpy(ret_value, &sum, sizeof(sum));
	return 0;
}

static int dump_singly(int fd, const struct bpf_map_info *info, struct weft_buf *keys, struct weft_buf *values,
		       size_t *ret_count)
{
	weft_free_on_exit char *key = malloc(info->key_size), *value = malloc(info->value_size);
	bool first = true;
	size_t count = 0;
	int r;

	if (!key || !value)
		return -ENOMEM;
	/* Bounded: the successor of a key that was removed meanwhile is the first one again. */
	while (count < info->max_entries) {
		if (bpf_map_get_next_key(fd, first ? NULL : key, key) < 0) {
			if (errno == ENOENT)
				break;
			return -errno;
		}
		first = false;
		r = weft_map_get(fd, info, key, value);
		if (r == -ENOENT)
			continue;
		if (r == 0)
			r = weft_buf_add(keys, key, info->key_size);
		if (r == 0)
			r = weft_buf_add(values, value, info->value_size);
		if (r < 0)
			return r;
		count++;
	}
	*ret_count = count;
	return 0;
}

int weft_map_dump(int fd, const struct bpf_map_info *info, struct weft_buf *keys, struct weft_buf *values,
		  size_t *ret_count)
{
	/* The place to go on from is a key in some map types and a bucket number in others. */
	size_t token_size = info->key_size > sizeof(__u32) ? info->key_size : sizeof(__u32);
	weft_free_on_exit char *token = calloc(1, token_size);
	size_t total = 0, keys_at, values_at;
	__u32 step = info->max_entries < DUMP_STEP ? info->max_entries : DUMP_STEP, got;
	bool first = true;
	int r, error;

	if (is_per_cpu(info))
		return dump_singly(fd, info, keys, values, ret_count);
	if (!token)
		return -ENOMEM;
	for (;;) {
		r = weft_buf_reserve(keys, (size_t)step * info->key_size, &keys_at);
		if (r == 0)
			r = weft_buf_reserve(values, (size_t)step * info->value_size, &values_at);
		if (r < 0)
			return r;
		got = step;
		error = bpf_map_lookup_batch(fd, first ? NULL : token, token, keys->data + keys_at,
					     values->data + values_at, &got, NULL) < 0
				? errno
				: 0;
		if (error && error != ENOENT)
			got = 0;
		keys->size = keys_at + (size_t)got * info->key_size;
		values->size = values_at + (size_t)got * info->value_size;
		total += got;
		if (error == ENOSPC && step < info->max_entries) {
			/* One hash bucket holds more than a step. */
			step = step > info->max_entries / 2 ? info->max_entries : step * 2;
			continue;
		}
		if (error == KERNEL_ENOTSUPP && first)
			return dump_singly(fd, info, keys, values, ret_count);
		if (error == ENOENT)
			break;
		if (error)
			return -error;
		first = false;
	}
	*ret_count = total;
	return 0;
}

int weft_map_update_many(int fd, size_t key_size, size_t value_size, const void *keys, const void *values,
			 uint32_t count)
{
	const char *key = keys, *value = values;
	__u32 done = count;

	if (!count || bpf_map_update_batch(fd, keys, values, &done, NULL) == 0)
		return 0;
	if (errno != KERNEL_ENOTSUPP)
		return -errno;
	for (uint32_t i = 0; i < count; i++)
		if (bpf_map_update_elem(fd, key + i * key_size, value + i * value_size, BPF_ANY) < 0)
			return -errno;
	return 0;
}

int weft_map_delete_many(int fd, size_t key_size, const void *keys, uint32_t count)
{
	const char *key = keys;
	uint32_t done = 0;

	while (done < count) {
		__u32 step = count - done;

		if (bpf_map_delete_batch(fd, key + done * key_size, &step, NULL) == 0)
			return 0;
		if (errno == KERNEL_ENOTSUPP)
			break;
		if (errno != ENOENT)
			return -errno;
		done += step + 1; /* the one behind those it deleted is not there */
	}
	for (; done < count; done++)
		if (bpf_map_delete_elem(fd, key + done * key_size) < 0 && errno != ENOENT)
			return -errno;
	return 0;
}
