/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel side of the secure lane by hand, for tests that want it without the roles around it: opens an instance and does what
 * lines on standard input say, each answered by `ok ...` or `error NUMBER sentence`.
 *
 *   open CGROUP PINS [FEATURE...]        open, adopting what is pinned; features are taken away -> ok adopted|new
 *   flags NUMBER                         WEFT_SETTING_F_
 *   put MAP KEY VALUE, del MAP KEY       hexadecimal, as a batch of control's would
 *   attach NETNS COOKIE V4 V6 WORKLOAD   a file of the namespace; decimal
 *   detach COOKIE
 *   attached                             -> ok COOKIE...
 *   mark PID FD COOKIE                   a socket of another process
 *   cut NETNS COOKIE...                  -> ok number of sockets
 *   doom NETNS ENDPOINT...               the same by endpoint id
 *   watch NUMBER                         watchers
 *   events                               -> ok TYPE/ROLE/OUTCOME/WORKLOAD/PEER/LOCAL/REMOTE/PORT..., since the last time
 *   cookie NETNS                         -> ok COOKIE
 *   close
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "base/netns_cookie.h"
#include "kernel/kernel.h"
#include "kernel/maps.h"
#include "net/netns.h"
#include "weft/abi/proxy.h"

#define WORDS 64

static struct weft_kernel *instance;

static int say_error(int error, const char *text)
{
	return printf("error %d %s\n", -error, text && text[0] ? text : strerror(-error));
}

static int say(int r, const struct weft_err *err)
{
	return r < 0 ? say_error(r, err ? err->text : NULL) : printf("ok\n");
}

static int open_instance(char **word, size_t count)
{
	struct weft_kernel_options options = { .cgroup = word[1], .pins = word[2] };
	struct weft_err err = { "" };
	uint64_t forced = 0;
	bool adopted;
	int r;

	for (size_t i = 3; i < count; i++) {
		enum weft_feature feature;

		if (weft_feature_parse(word[i], &feature) < 0)
			return say_error(-EINVAL, word[i]);
		forced |= UINT64_C(1) << feature;
	}
	options.features = weft_feature_probe(forced);
	r = weft_kernel_open(&options, &instance, &adopted, &err);
	return r < 0 ? say(r, &err) : printf("ok %s\n", adopted ? "adopted" : "new");
}

static size_t bytes(const char *text, unsigned char *ret_data, size_t size)
{
	size_t count = 0;
	unsigned int byte;

	while (count < size && sscanf(text + 2 * count, "%2x", &byte) == 1)
		ret_data[count++] = (unsigned char)byte;
	return count;
}

static size_t padded(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

static int write_map(const char *name, const char *key, const char *value)
{
	unsigned char batch[2048] = { 0 };
	struct weft_batch_run *run = (struct weft_batch_run *)batch;
	const struct weft_map_spec *spec = NULL;
	struct weft_err err = { "" };
	uint32_t map, failed;
	size_t size = sizeof(*run);

	for (map = 0; map < WEFT_MAP_MAX_; map++) {
		spec = weft_map_spec(map);
		if (strcmp(spec->name, name) == 0)
			break;
	}
	if (map == WEFT_MAP_MAX_ || bytes(key, batch + size, spec->key_size) != spec->key_size)
		return say_error(-EINVAL, name);
	size += padded(spec->key_size);
	if (value && bytes(value, batch + size, spec->value_size) != spec->value_size)
		return say_error(-EINVAL, name);
	if (value)
		size += padded(spec->value_size);
	*run = (struct weft_batch_run){ .map = map, .op = value ? WEFT_BATCH_UPDATE : WEFT_BATCH_DELETE, .count = 1 };
	return say(weft_kernel_apply(instance, batch, size, &failed, &err), &err);
}

static int attach(char **word)
{
	weft_close_on_exit int netns = open(word[1], O_RDONLY | O_CLOEXEC);
	struct weft_capture row = { .workload = (uint32_t)atol(word[5]), .port = htons(WEFT_PORT_OUTBOUND) };
	struct weft_err err = { "" };

	if (netns < 0 || weft_addr_parse(word[3], &row.addr[0]) < 0 || weft_addr_parse(word[4], &row.addr[1]) < 0)
		return say_error(-EINVAL, word[1]);
	return say(weft_kernel_attach_netns(instance, netns, strtoull(word[2], NULL, 10), &row, &err), &err);
}

static int list_attached(void)
{
	weft_buf_done_on_exit struct weft_buf cookies = WEFT_BUF_INIT;
	int r = weft_kernel_attached(instance, &cookies);

	if (r < 0)
		return say_error(r, NULL);
	printf("ok");
	for (size_t i = 0; i < cookies.size / sizeof(uint64_t); i++)
		printf(" %" PRIu64, ((const uint64_t *)cookies.data)[i]);
	return printf("\n");
}

static int mark(char **word)
{
	weft_close_on_exit int process = (int)syscall(SYS_pidfd_open, atoi(word[1]), 0);
	weft_close_on_exit int fd = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, atoi(word[2]), 0);

	if (fd < 0)
		return say_error(-errno, "that socket cannot be had");
	return say(weft_kernel_mark_agent_socket(instance, fd, strtoull(word[3], NULL, 10)), NULL);
}

struct cut {
	uint64_t cookie[WORDS];
	size_t count;
	uint32_t number;
};

static int doom_here(void *context)
{
	struct cut *cut = context;
	uint32_t ids[WORDS];

	for (size_t i = 0; i < cut->count; i++)
		ids[i] = (uint32_t)cut->cookie[i];
	return weft_kernel_cut_here(instance, ids, cut->count, false, &cut->number);
}

static int cut_here(void *context)
{
	struct cut *cut = context;

	return weft_kernel_cut_sockets_here(instance, cut->cookie, cut->count, &cut->number);
}

static int cut(char **word, size_t count, int (*here)(void *context))
{
	weft_close_on_exit int netns = open(word[1], O_RDONLY | O_CLOEXEC);
	struct cut cut = { .count = count - 2 };
	int r;

	for (size_t i = 0; i < cut.count; i++)
		cut.cookie[i] = strtoull(word[i + 2], NULL, 10);
	r = netns < 0 ? -errno : weft_netns_run(netns, here, &cut);
	return r < 0 ? say_error(r, NULL) : printf("ok %u\n", cut.number);
}

static int cookie_here(void *context)
{
	return weft_netns_cookie_here(context) == 0 ? 0 : weft_kernel_netns_cookie(context);
}

static int cookie(const char *path)
{
	weft_close_on_exit int netns = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t cookie = 0;
	int r = netns < 0 ? -errno : weft_netns_run(netns, cookie_here, &cookie);

	return r < 0 ? say_error(r, NULL) : printf("ok %" PRIu64 "\n", cookie);
}

static int events(void)
{
	weft_buf_done_on_exit struct weft_buf all = WEFT_BUF_INIT;
	int r = weft_kernel_events(instance, &all);

	if (r < 0)
		return say_error(r, NULL);
	printf("ok");
	for (size_t i = 0; i < all.size / sizeof(struct weft_event); i++) {
		const struct weft_event *event = (const struct weft_event *)all.data + i;
		char local[WEFT_ADDR_TEXT], remote[WEFT_ADDR_TEXT];

		weft_addr_format(&event->local, local);
		weft_addr_format(&event->remote, remote);
		printf(" %u/%u/%u/%u/%u/%s/%s/%u", event->type, event->role, event->outcome, event->workload, event->peer, local, remote,
		       ntohs(event->type == WEFT_EVENT_REFUSED && event->role == WEFT_ROLE_SERVER ? event->local_port : event->remote_port));
	}
	return printf("\n");
}

static int run(char **word, size_t count)
{
	if (strcmp(word[0], "open") == 0 && count >= 3)
		return open_instance(word, count);
	if (strcmp(word[0], "flags") == 0 && count == 2)
		return say(weft_kernel_set_flags(instance, (uint32_t)strtoul(word[1], NULL, 10)), NULL);
	if (strcmp(word[0], "put") == 0 && count == 4)
		return write_map(word[1], word[2], word[3]);
	if (strcmp(word[0], "del") == 0 && count == 3)
		return write_map(word[1], word[2], NULL);
	if (strcmp(word[0], "attach") == 0 && count == 6)
		return attach(word);
	if (strcmp(word[0], "detach") == 0 && count == 2)
		return say(weft_kernel_detach_netns(instance, strtoull(word[1], NULL, 10)), NULL);
	if (strcmp(word[0], "attached") == 0)
		return list_attached();
	if (strcmp(word[0], "mark") == 0 && count == 4)
		return mark(word);
	if (strcmp(word[0], "cookie") == 0 && count == 2)
		return cookie(word[1]);
	if (strcmp(word[0], "cut") == 0 && count >= 3)
		return cut(word, count, cut_here);
	if (strcmp(word[0], "doom") == 0 && count >= 3)
		return cut(word, count, doom_here);
	if (strcmp(word[0], "watch") == 0 && count == 2)
		return say(weft_kernel_set_watchers(instance, (uint32_t)atol(word[1])), NULL);
	if (strcmp(word[0], "events") == 0)
		return events();
	if (strcmp(word[0], "close") == 0) {
		instance = weft_kernel_close(instance);
		return printf("ok\n");
	}
	return say_error(-EINVAL, word[0]);
}

int main(void)
{
	char line[8192];

	while (fgets(line, sizeof(line), stdin)) {
		char *word[WORDS], *rest = line;
		size_t count = 0;

		while (count < WORDS && (word[count] = strtok_r(rest, " \n", &rest)))
			count++;
		if (count && run(word, count) < 0)
			break;
		fflush(stdout);
	}
	weft_kernel_close(instance);
	return 0;
}
