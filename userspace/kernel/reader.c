/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/reader.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cgroup.h"
#include "kernel/iter.h"
#include "kernel/maps.h"
#include "kernel/pins.h"

struct weft_reader {
	char *pins;
	int maps[WEFT_MAP_MAX_];
	struct bpf_map_info info[WEFT_MAP_MAX_];
	char **links; /* names below link/, sorted */
	size_t link_count;
};

struct weft_reader *weft_reader_close(struct weft_reader *reader)
{
	if (!reader)
		return NULL;
	for (size_t i = 0; i < WEFT_MAP_MAX_; i++)
		weft_closep(&reader->maps[i]);
	for (size_t i = 0; i < reader->link_count; i++)
		free(reader->links[i]);
	free(reader->links);
	free(reader->pins);
	free(reader);
	return NULL;
}

static int open_map(struct weft_reader *reader, enum weft_map map, struct weft_err *err)
{
	LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = BPF_F_RDONLY);
	const struct weft_map_spec *spec = weft_map_spec(map);
	struct bpf_map_info *info = &reader->info[map];
	char path[PATH_MAX];
	int r = weft_pins_path(path, reader->pins, WEFT_PINS_MAP, spec->name);

	if (r < 0)
		return weft_err_set(err, r, "the path of the pin folder %s is too long", reader->pins);
	reader->maps[map] = bpf_obj_get_opts(path, &options);
	if (reader->maps[map] < 0 && errno == ENOENT)
		return weft_err_set(err, ENOENT, "%s is not pinned: start weftd, or name its pin folder", path);
	if (reader->maps[map] < 0)
		return weft_err_set(err, errno, "cannot open %s: %m", path);
	r = weft_map_fd_info(reader->maps[map], info);
	if (r < 0)
		return weft_err_set(err, r, "cannot ask about %s: %m", path);
	if (info->key_size != spec->key_size || info->value_size != spec->value_size)
		return weft_err_set(err, EPROTO,
				    "%s has other sizes than this build's: use the weft that weftd came with", path);
	return 0;
}

static int check_setting(struct weft_reader *reader, struct weft_err *err)
{
	struct weft_setting setting;
	__u32 zero = 0;
	int r = weft_reader_get(reader, WEFT_MAP_SETTING, &zero, &setting);

	if (r < 0)
		return weft_err_set(err, r, "cannot read weft_setting below %s: %m", reader->pins);
	if (setting.magic != WEFT_ABI_MAGIC)
		return weft_err_set(err, ENOENT, "%s is not whole, weftd was stopped while it made it: start weftd",
				    reader->pins);
	if (setting.version != WEFT_ABI_VERSION)
		return weft_err_set(err, EPROTO, "%s is of version %u and this weft reads version %u", reader->pins,
				    setting.version, WEFT_ABI_VERSION);
	return 0;
}

/* "v7" if another version is pinned there and ours is not. */
static int find_other_version(const char *pins, struct weft_err *err)
{
	weft_closedir_on_exit DIR *dir = opendir(pins);
	struct dirent *entry;
	char own[16];

	if (!dir)
		return weft_err_set(err, errno, "nothing of weft at %s (%m): start weftd, or name its pin folder", pins);
	snprintf(own, sizeof(own), "v%d", WEFT_ABI_VERSION);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] == 'v' && entry->d_name[1] >= '0' && entry->d_name[1] <= '9' &&
		    strcmp(entry->d_name, own) != 0)
			return weft_err_set(err, EPROTO,
					    "%s/%s is pinned by another version of weft, and this one reads %s", pins,
					    entry->d_name, own);
	return weft_err_set(err, ENOENT, "nothing of weft is pinned at %s: start weftd, or name its pin folder", pins);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_links(struct weft_reader *reader)
{
	weft_closedir_on_exit DIR *dir = NULL;
	char path[PATH_MAX];
	struct dirent *entry;
	size_t room = 0;
	int r = weft_pins_path(path, reader->pins, WEFT_PINS_LINK, NULL);

	if (r < 0)
		return r;
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		r = weft_grow(&reader->links, &room, reader->link_count + 1, sizeof(*reader->links));
		if (r < 0)
			return r;
		reader->links[reader->link_count] = strdup(entry->d_name);
		if (!reader->links[reader->link_count])
			return -ENOMEM;
		reader->link_count++;
	}
	if (reader->link_count)
		qsort(reader->links, reader->link_count, sizeof(*reader->links), by_name);
	return 0;
}

int weft_reader_open(const char *pins, struct weft_reader **ret_reader, struct weft_err *err)
{
	weft_cleanup(weft_reader_closep) struct weft_reader *reader = calloc(1, sizeof(*reader));
	char path[PATH_MAX];
	int r;

	if (!reader)
		return weft_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < WEFT_MAP_MAX_; i++)
		reader->maps[i] = -1;
	reader->pins = strdup(pins);
	if (!reader->pins)
		return weft_err_set(err, ENOMEM, "out of memory");
	r = weft_pins_path(path, pins, WEFT_PINS_MAP, NULL);
	if (r < 0)
		return weft_err_set(err, r, "the path of the pin folder %s is too long", pins);
	if (access(path, F_OK) < 0) {
		if (errno == ENOENT)
			return find_other_version(pins, err);
		return weft_err_set(err, errno == EACCES ? EPERM : errno, "cannot look into %s: %m", pins);
	}
	for (size_t i = 0; i < WEFT_MAP_MAX_; i++) {
		r = open_map(reader, (enum weft_map)i, err);
		if (r < 0)
			return r == -EACCES ? -EPERM : r;
	}
	r = check_setting(reader, err);
	if (r < 0)
		return r;
	r = list_links(reader);
	if (r < 0)
		return weft_err_set(err, r, "cannot list the links below %s: %m", pins);
	*ret_reader = weft_take_ptr(reader);
	return 0;
}

int weft_reader_get(struct weft_reader *reader, enum weft_map map, const void *key, void *value)
{
	return weft_map_get(reader->maps[map], &reader->info[map], key, value);
}

int weft_reader_all(struct weft_reader *reader, enum weft_map map, struct weft_buf *keys, struct weft_buf *values,
		    size_t *ret_count)
{
	return weft_map_dump(reader->maps[map], &reader->info[map], keys, values, ret_count);
}

static int open_link(const struct weft_reader *reader, const char *name, struct weft_err *err)
{
	char path[PATH_MAX];
	int r = weft_pins_path(path, reader->pins, WEFT_PINS_LINK, name);

	if (r < 0)
		return weft_err_set(err, r, "the path of the pin folder %s is too long", reader->pins);
	r = bpf_obj_get(path);
	return r < 0 ? weft_err_set(err, errno, "cannot open %s: %m", path) : r;
}

static int conns_of_all(const struct weft_reader *reader, struct weft_buf *conns, struct weft_err *err)
{
	weft_close_on_exit int link = open_link(reader, "weft_conn", err);
	int r = link < 0 ? link : weft_iter_conns(link, conns);

	return link >= 0 && r < 0 ? weft_err_set(err, r, "cannot read the connections from weft_conn below %s: %m", reader->pins) : r;
}

static int conns_everywhere(const struct weft_reader *reader, int tcp, struct weft_buf *conns, struct weft_err *ret_missing,
			    struct weft_err *err)
{
	weft_netns_list_done_on_exit struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	weft_close_on_exit int udp = open_link(reader, "weft_conn_udp_here", err);
	const int links[] = { tcp, udp };
	int r;

	if (udp < 0)
		return udp;
	r = weft_iter_netns(&list);
	if (r == 0)
		r = weft_iter_everywhere(&list, links, WEFT_ARRAY_SIZE(links), weft_iter_conns, conns);
	if (r < 0)
		return weft_err_set(err, r, "cannot read the connections of each network namespace: %m; CAP_SYS_ADMIN is needed to enter them");
	(void)weft_netns_list_missing(&list, ret_missing);
	return 0;
}

int weft_reader_conns(struct weft_reader *reader, struct weft_buf *conns, size_t *ret_count, struct weft_err *ret_missing, struct weft_err *err)
{
	weft_close_on_exit int tcp = open_link(reader, "weft_conn_tcp_here", err);
	struct weft_err missing = { "" };
	size_t before = conns->size;
	int r = tcp;

	if (tcp >= 0)
		r = conns_everywhere(reader, tcp, conns, &missing, err);
	else if (tcp == -ENOENT)
		r = conns_of_all(reader, conns, err);
	if (r < 0)
		return r;
	*ret_count = (conns->size - before) / sizeof(struct weft_conn);
	*ret_missing = missing;
	return 0;
}

static int memory_of(int fd, __u64 *ret_bytes)
{
	weft_fclose_on_exit FILE *file = NULL;
	char path[64], line[128];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		uint64_t bytes;

		if (sscanf(line, "memlock: %" SCNu64, &bytes) == 1) {
			*ret_bytes = bytes;
			return 0;
		}
	}
	return -ENODATA;
}

int weft_reader_map_info(struct weft_reader *reader, enum weft_map map, struct weft_map_info *ret_info)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	const struct weft_map_spec *spec = weft_map_spec(map);
	const struct bpf_map_info *info = &reader->info[map];
	struct weft_map_info result = {
		.name = spec->name,
		.sentence = spec->sentence,
		.id = info->id,
		.max_entries = info->max_entries,
		.entries = info->max_entries,
		.array = info->type == BPF_MAP_TYPE_ARRAY || info->type == BPF_MAP_TYPE_PERCPU_ARRAY,
		.key_size = info->key_size,
		.value_size = info->value_size,
	};
	size_t count;
	int r = memory_of(reader->maps[map], &result.bytes);

	if (r < 0)
		return r;
	if (!result.array) {
		r = weft_map_dump(reader->maps[map], info, &keys, &values, &count);
		if (r < 0)
			return r;
		result.entries = count;
	}
	*ret_info = result;
	return 0;
}

static const char *attach_name(__u32 type)
{
	static const char *const names[] = {
		[BPF_CGROUP_INET_SOCK_RELEASE] = "cgroup/sock_release",
		[BPF_CGROUP_SOCK_OPS] = "sockops",
		[BPF_CGROUP_INET4_CONNECT] = "cgroup/connect4",
		[BPF_CGROUP_INET6_CONNECT] = "cgroup/connect6",
		[BPF_CGROUP_UDP4_SENDMSG] = "cgroup/sendmsg4",
		[BPF_CGROUP_UDP6_SENDMSG] = "cgroup/sendmsg6",
		[BPF_CGROUP_UDP4_RECVMSG] = "cgroup/recvmsg4",
		[BPF_CGROUP_UDP6_RECVMSG] = "cgroup/recvmsg6",
		[BPF_CGROUP_INET4_GETPEERNAME] = "cgroup/getpeername4",
		[BPF_CGROUP_INET6_GETPEERNAME] = "cgroup/getpeername6",
		[BPF_CGROUP_INET4_GETSOCKNAME] = "cgroup/getsockname4",
		[BPF_CGROUP_INET6_GETSOCKNAME] = "cgroup/getsockname6",
	};

	return type < WEFT_ARRAY_SIZE(names) && names[type] ? names[type] : "unknown";
}

/* An iterator's link tells what it walks over, a cgroup's where it hangs. */
static void describe_link(const struct bpf_link_info *link, const char *iterates, struct weft_prog_info *info)
{
	info->link_id = link->id;
	if (link->type == BPF_LINK_TYPE_ITER)
		snprintf(info->attach, sizeof(info->attach), "iter/%s", iterates);
	else if (link->type == BPF_LINK_TYPE_CGROUP) {
		snprintf(info->attach, sizeof(info->attach), "%s", attach_name(link->cgroup.attach_type));
		if (weft_cgroup_path(link->cgroup.cgroup_id, info->target, sizeof(info->target)) < 0)
			info->target[0] = '\0';
	}
}

static int prog_at(struct weft_reader *reader, const char *name, struct weft_prog_info *ret_info)
{
	weft_close_on_exit int link = -1, prog = -1;
	char path[PATH_MAX], iterates[32] = "";
	struct bpf_link_info link_info = {
		.iter = { .target_name = (uintptr_t)iterates, .target_name_len = sizeof(iterates) },
	};
	struct bpf_prog_info prog_info = { 0 };
	struct weft_prog_info result = { 0 };
	__u32 link_size = sizeof(link_info), prog_size = sizeof(prog_info);
	int r = weft_pins_path(path, reader->pins, WEFT_PINS_LINK, name);

	if (r < 0)
		return r;
	link = bpf_obj_get(path);
	if (link < 0 || bpf_obj_get_info_by_fd(link, &link_info, &link_size) < 0)
		return -errno;
	prog = bpf_prog_get_fd_by_id(link_info.prog_id);
	if (prog < 0 || bpf_obj_get_info_by_fd(prog, &prog_info, &prog_size) < 0)
		return -errno;
	/* The kernel keeps 15 bytes of a name; the pin has it whole. */
	snprintf(result.name, sizeof(result.name), "%s", name);
	describe_link(&link_info, iterates, &result);
	result.id = prog_info.id;
	result.loaded_ns = prog_info.load_time;
	result.run_count = prog_info.run_cnt;
	result.run_ns = prog_info.run_time_ns;
	result.verified_instructions = prog_info.verified_insns;
	result.jited_bytes = prog_info.jited_prog_len;
	*ret_info = result;
	return 0;
}

int weft_reader_prog_next(struct weft_reader *reader, int previous, struct weft_prog_info *ret_info)
{
	for (size_t i = (size_t)(previous + 1); i < reader->link_count; i++) {
		int r = prog_at(reader, reader->links[i], ret_info);

		/* Unpinned meanwhile: the next one. */
		if (r != -ENOENT)
			return r < 0 ? r : (int)i;
	}
	return -ENOENT;
}
