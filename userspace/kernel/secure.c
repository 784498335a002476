/* SPDX-License-Identifier: Apache-2.0 */
/* Pods of the secure lane: a link in each one's network namespace, a row in weft_capture, the agent's own sockets. */
#include "kernel/instance.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/cgroup.h"
#include "kernel/links.h"
#include "kernel/maps.h"
#include "kernel/pins.h"
#include "weft.skel.h"

#define ORIGINAL "weft_original"

int weft_kernel_sees_agent(const struct weft_kernel *kernel, struct weft_err *err)
{
	weft_close_on_exit int own = weft_cgroup_own(err);

	if (own < 0)
		return own;
	if (!weft_cgroup_is_below(own, kernel->cgroup))
		return weft_err_set(err, EXDEV,
				    "weftd runs outside the cgroup subtree of its --cgroup, so that programs cannot tell its connections from "
				    "others: start it below, or give a --cgroup that holds it");
	return 0;
}

static int netns_path(char *path, const char *pins, uint64_t cookie)
{
	char name[17];

	snprintf(name, sizeof(name), "%" PRIx64, cookie);
	return weft_pins_path(path, pins, WEFT_PINS_NETNS, name);
}

static int parse_cookie(const char *name, uint64_t *ret_cookie)
{
	char *end;

	if (!name[0] || name[strspn(name, "0123456789abcdef")] || strlen(name) > 16)
		return -EINVAL;
	*ret_cookie = strtoull(name, &end, 16);
	return 0;
}

static void detach(const char *path)
{
	weft_close_on_exit int link = bpf_obj_get(path);

	/* The unpinning alone detaches some time later. */
	if (link >= 0)
		bpf_link_detach(link);
}

/* The program that answers the agent, on the cgroup in which it is now: it runs at each getsockopt() of that cgroup, so only once it is needed. */
static int link_original(struct weft_kernel *kernel, const char *pins, struct weft_journal *journal, struct weft_err *err)
{
	weft_close_on_exit int own = weft_cgroup_own(err);
	char path[PATH_MAX];
	struct weft_link_wish wish = {
		.pin = path,
		.prog = bpf_program__fd(kernel->skel->progs.weft_original),
		.attach_type = BPF_CGROUP_GETSOCKOPT,
		.cgroup = own,
		.moves = true,
	};
	int r;

	if (own < 0)
		return own;
	r = weft_pins_path(path, pins, WEFT_PINS_LINK, ORIGINAL);
	if (r < 0)
		return weft_err_set(err, r, "the path of the pin folder %s is too long", pins);
	return weft_link_ensure(journal, &wish, NULL, err);
}

/* Calls work(cookie, path) for each pin; stops at what is not 0 and returns it. */
static int each_netns(const char *pins, int (*work)(uint64_t cookie, const char *path, void *context), void *context)
{
	weft_closedir_on_exit DIR *dir = NULL;
	char path[PATH_MAX];
	struct dirent *entry;
	uint64_t cookie;
	int r = weft_pins_path(path, pins, WEFT_PINS_NETNS, NULL);

	if (r < 0)
		return r;
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (entry = readdir(dir)))
		if (parse_cookie(entry->d_name, &cookie) == 0) {
			r = netns_path(path, pins, cookie);
			if (r == 0)
				r = work(cookie, path, context);
		}
	return r;
}

struct adoption {
	struct weft_journal *journal;
	struct weft_err *err;
	int prog; /* -1: this kernel, or an option, takes the feature away */
};

static int adopt_one(uint64_t cookie, const char *path, void *context)
{
	struct adoption *adoption = context;
	int r = 0;

	(void)cookie;
	if (adoption->prog >= 0)
		r = weft_link_update_netns(adoption->journal, path, adoption->prog, adoption->err);
	else
		detach(path);
	if (r == 0 && unlink(path) < 0 && errno != ENOENT)
		return weft_err_set(adoption->err, errno, "cannot remove the dead link %s: %m", path);
	return r < 0 ? r : 0;
}

/* Rows whose link is gone: what they would capture is nobody's. */
static int sweep_rows(struct weft_kernel *kernel, const char *pins)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	int fd = kernel->maps[WEFT_MAP_CAPTURE], r;
	struct bpf_map_info info;
	size_t count;

	r = weft_map_fd_info(fd, &info);
	if (r == 0)
		r = weft_map_dump(fd, &info, &keys, &values, &count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		const uint64_t *cookie = (const uint64_t *)keys.data + i;
		char path[PATH_MAX];

		r = netns_path(path, pins, *cookie);
		if (r == 0 && access(path, F_OK) < 0 && bpf_map_delete_elem(fd, cookie) < 0 && errno != ENOENT)
			r = -errno;
	}
	return r;
}

int weft_kernel_adopt_netns(struct weft_kernel *kernel, const char *pins, struct weft_journal *journal, struct weft_err *err)
{
	bool can = kernel->features >> WEFT_FEATURE_SK_LOOKUP & 1;
	struct weft_err why = { "" };
	struct adoption adoption = { journal, &why, can ? bpf_program__fd(kernel->skel->progs.weft_inbound) : -1 };
	char path[PATH_MAX];
	int r = weft_pins_path(path, pins, WEFT_PINS_LINK, ORIGINAL);

	if (r == 0 && access(path, F_OK) == 0) {
		if (can) {
			r = link_original(kernel, pins, journal, &why);
		} else {
			detach(path);
			r = unlink(path) < 0 ? -errno : 0;
		}
	}
	if (r == 0)
		r = each_netns(pins, adopt_one, &adoption);
	if (r == 0)
		r = sweep_rows(kernel, pins);
	if (r < 0)
		return weft_err_set(err, r, "%s", why.text[0] ? why.text : "cannot take over the pods that were attached");
	return 0;
}

/* *ret_made: the link is new. */
static int link_netns(struct weft_kernel *kernel, int netns, const char *path, bool *ret_made, struct weft_err *err)
{
	weft_close_on_exit int link = -1;
	struct stat st;
	uint32_t inode;

	if (fstat(netns, &st) < 0)
		return weft_err_set(err, errno, "cannot look at the network namespace: %m");
	if (weft_link_netns(path, &inode) == 0 && inode == (uint32_t)st.st_ino) {
		*ret_made = false;
		return 0;
	}
	detach(path);
	if (unlink(path) < 0 && errno != ENOENT)
		return weft_err_set(err, errno, "cannot remove the dead link %s: %m", path);
	link = bpf_link_create(bpf_program__fd(kernel->skel->progs.weft_inbound), netns, BPF_SK_LOOKUP, NULL);
	if (link < 0)
		return weft_err_set(err, errno, "cannot attach to the network namespace: %m");
	if (bpf_obj_pin(link, path) < 0) {
		int r = weft_err_set(err, errno, "cannot pin %s: %m", path);

		bpf_link_detach(link);
		return r;
	}
	*ret_made = true;
	return 0;
}

static void unlink_netns(struct weft_kernel *kernel, const char *path)
{
	detach(path);
	if (unlink(path) == 0 && kernel->attached)
		kernel->attached--;
}

int weft_kernel_attach_netns(struct weft_kernel *kernel, int netns, uint64_t cookie, const struct weft_capture *row, struct weft_err *err)
{
	weft_cleanup(weft_journal_undo) struct weft_journal journal = { 0 };
	char path[PATH_MAX];
	bool made;
	int r;

	if (!(kernel->features >> WEFT_FEATURE_SK_LOOKUP & 1))
		return weft_err_set(err, EOPNOTSUPP, "sk_lookup is missing, see `weft feature list`: no pod can be in the secure lane");
	if (!kernel->pins)
		return weft_err_set(err, ENOMEM, "out of memory");
	r = weft_kernel_sees_agent(kernel, err);
	if (r == 0)
		r = link_original(kernel, kernel->pins, &journal, err);
	if (r < 0)
		return r;
	r = netns_path(path, kernel->pins, cookie);
	if (r < 0)
		return weft_err_set(err, r, "the path of the pin folder %s is too long", kernel->pins);
	r = link_netns(kernel, netns, path, &made, err);
	if (r < 0)
		return r;
	kernel->attached += made;
	if (bpf_map_update_elem(kernel->maps[WEFT_MAP_CAPTURE], &cookie, row, BPF_ANY) < 0) {
		r = weft_err_set(err, errno, errno == E2BIG ? "weft_capture is full: give it more entries with --map-size" :
								"cannot write weft_capture: %m");
		if (made)
			unlink_netns(kernel, path);
		return r;
	}
	weft_journal_commit(&journal);
	if (weft_pins_count(kernel->pins, WEFT_PINS_LINK, &kernel->links) < 0)
		kernel->links = 0;
	return 0;
}

int weft_kernel_detach_netns(struct weft_kernel *kernel, uint64_t cookie)
{
	char path[PATH_MAX];
	int r;

	/* First, so that nothing more is captured while the listeners go. */
	if (bpf_map_delete_elem(kernel->maps[WEFT_MAP_CAPTURE], &cookie) < 0 && errno != ENOENT)
		return -errno;
	r = kernel->pins ? netns_path(path, kernel->pins, cookie) : -ENOMEM;
	if (r == 0)
		unlink_netns(kernel, path);
	return r;
}

uint32_t weft_kernel_workload_at(const struct weft_kernel *kernel, const struct weft_addr *addr)
{
	uint32_t workload;

	return bpf_map_lookup_elem(kernel->maps[WEFT_MAP_WORKLOAD_AT], addr, &workload) < 0 ? 0 : workload;
}

static int list_one(uint64_t cookie, const char *path, void *context)
{
	uint32_t inode;
	int r = weft_link_netns(path, &inode);

	if (r == 0)
		r = weft_buf_add(context, &cookie, sizeof(cookie));
	return r == -ENOENT ? 0 : r;
}

int weft_kernel_attached(const struct weft_kernel *kernel, struct weft_buf *cookies)
{
	size_t before = cookies->size;
	int r = kernel->pins ? each_netns(kernel->pins, list_one, cookies) : -ENOMEM;

	if (r < 0)
		cookies->size = before;
	return r;
}

int weft_kernel_mark_agent_socket(struct weft_kernel *kernel, int fd, uint64_t cookie)
{
	const struct weft_sock mark = {
		.netns = cookie,
		.protocol = IPPROTO_TCP,
		.role = WEFT_ROLE_CLIENT,
		.flags = WEFT_SOCK_F_AGENT,
	};

	return bpf_map_update_elem(bpf_map__fd(kernel->skel->maps.weft_sock), &fd, &mark, BPF_ANY) < 0 ? -errno : 0;
}
