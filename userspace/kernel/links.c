/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/links.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/cgroup.h"

static int aside_of(char *aside, const char *path)
{
	return snprintf(aside, PATH_MAX, "%s_new", path) >= PATH_MAX ? -ENAMETOOLONG : 0;
}

void weft_journal_sweep(const char *path)
{
	char aside[PATH_MAX];

	if (aside_of(aside, path) == 0)
		unlink(aside);
}

/* Two steps, because a pin cannot be made over another one: aside, then renamed over it. */
static int pin_over(int fd, const char *path)
{
	char aside[PATH_MAX];
	int r = aside_of(aside, path);

	if (r < 0)
		return r;
	if (unlink(aside) < 0 && errno != ENOENT)
		return -errno;
	if (bpf_obj_pin(fd, aside) < 0)
		return -errno;
	if (rename(aside, path) < 0) {
		r = -errno;
		unlink(aside);
		return r;
	}
	return 0;
}

static void forget(struct weft_journal_step *step)
{
	free(step->pin);
	weft_closep(&step->link);
	weft_closep(&step->before);
}

/* NULL: out of memory. */
static struct weft_journal_step *add_step(struct weft_journal *journal)
{
	if (journal->count == journal->size) {
		size_t size = journal->size ? journal->size * 2 : 64;
		struct weft_journal_step *step = reallocarray(journal->step, size, sizeof(*step));

		if (!step)
			return NULL;
		journal->step = step;
		journal->size = size;
	}
	return &journal->step[journal->count];
}

static void done(struct weft_journal *journal)
{
	free(journal->step);
	*journal = (struct weft_journal){ 0 };
}

void weft_journal_undo(struct weft_journal *journal)
{
	while (journal->count) {
		struct weft_journal_step *step = &journal->step[--journal->count];

		if (!step->pin)
			bpf_link_update(step->link, step->before, NULL);
		else if (step->before >= 0)
			pin_over(step->before, step->pin);
		else if (step->link >= 0)
			bpf_link_detach(step->link); /* the unpinning alone detaches some time later */
		if (step->pin && step->before < 0)
			unlink(step->pin);
		forget(step);
	}
	done(journal);
}

void weft_journal_commit(struct weft_journal *journal)
{
	while (journal->count)
		forget(&journal->step[--journal->count]);
	done(journal);
}

static int pin(struct weft_journal *journal, int fd, bool is_link, const char *path, struct weft_err *err)
{
	weft_free_on_exit char *copy = strdup(path);
	weft_close_on_exit int link = is_link ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	struct weft_journal_step *step = add_step(journal);

	if (!copy || (is_link && link < 0) || !step)
		return weft_err_set(err, ENOMEM, "cannot pin %s: %m", path);
	if (bpf_obj_pin(fd, path) < 0)
		return weft_err_set(err, errno, "cannot pin %s: %m", path);
	journal->count++;
	*step = (struct weft_journal_step){ .pin = weft_take_ptr(copy), .link = weft_take_fd(link), .before = -1 };
	return 0;
}

int weft_journal_replace_map(struct weft_journal *journal, int fd, int before, const char *path, struct weft_err *err)
{
	weft_free_on_exit char *copy = strdup(path);
	weft_close_on_exit int keep = fcntl(before, F_DUPFD_CLOEXEC, 3);
	struct weft_journal_step *step = add_step(journal);
	int r;

	if (!copy || keep < 0 || !step)
		return weft_err_set(err, ENOMEM, "cannot pin %s: %m", path);
	r = pin_over(fd, path);
	if (r < 0)
		return weft_err_set(err, r, "cannot pin %s: %m", path);
	journal->count++;
	*step = (struct weft_journal_step){ .pin = weft_take_ptr(copy), .link = -1, .before = weft_take_fd(keep) };
	return 0;
}

int weft_journal_pin_map(struct weft_journal *journal, int fd, const char *path, struct weft_err *err)
{
	return pin(journal, fd, false, path, err);
}

static int link_info(int link, struct bpf_link_info *ret_info)
{
	struct bpf_link_info info = { 0 };
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(link, &info, &size) < 0)
		return -errno;
	*ret_info = info;
	return 0;
}

uint32_t weft_link_prog_id(const char *pin)
{
	weft_close_on_exit int link = bpf_obj_get(pin);
	struct bpf_link_info info;

	return link >= 0 && link_info(link, &info) == 0 ? info.prog_id : 0;
}

static int attach(const struct weft_link_wish *wish)
{
	union bpf_iter_link_info over = { .map = { .map_fd = (__u32)wish->map } };
	LIBBPF_OPTS(bpf_link_create_opts, options);
	int link;

	if (wish->cgroup >= 0) {
		link = bpf_link_create(wish->prog, wish->cgroup, wish->attach_type, NULL);
	} else {
		if (wish->map >= 0) {
			options.iter_info = &over;
			options.iter_info_len = sizeof(over);
		}
		link = bpf_link_create(wish->prog, 0, wish->attach_type, &options);
	}
	return link < 0 ? -errno : link;
}

/* 1: alive and where it should be; 0: of no use any more; -EBUSY: somewhere else. */
static int judge(const struct weft_link_wish *wish, const struct bpf_link_info *info, struct weft_err *err)
{
	char elsewhere[PATH_MAX];
	uint64_t id;
	int r;

	if (wish->cgroup < 0) {
		struct bpf_map_info map = { 0 };
		__u32 size = sizeof(map);

		if (info->type != BPF_LINK_TYPE_ITER)
			return 0;
		if (wish->map < 0)
			return 1; /* what it walks over is its program's kind, which a pin does not change */
		if (bpf_obj_get_info_by_fd(wish->map, &map, &size) < 0)
			return 0;
		return info->iter.map.map_id == map.id;
	}
	if (info->type != BPF_LINK_TYPE_CGROUP || info->cgroup.cgroup_id == 0)
		return 0; /* its cgroup is gone */
	r = weft_cgroup_id(wish->cgroup, &id);
	if (r < 0)
		return weft_err_set(err, r, "cannot tell the id of the cgroup: %m");
	if (info->cgroup.cgroup_id == id)
		return 1;
	if (wish->moves)
		return 0;
	if (weft_cgroup_path(info->cgroup.cgroup_id, elsewhere, sizeof(elsewhere)) < 0)
		strcpy(elsewhere, "of another path");
	return weft_err_set(
		err, EBUSY,
		"%s is attached to the cgroup %s: start with that one, or uninstall first, or choose another pin folder",
		wish->pin, elsewhere);
}

static int update(struct weft_journal *journal, const char *pin, int prog, int link, uint32_t before_id, struct weft_err *err)
{
	weft_close_on_exit int before = bpf_prog_get_fd_by_id(before_id), again = fcntl(link, F_DUPFD_CLOEXEC, 3);
	struct weft_journal_step *step = add_step(journal);

	if (before < 0 || again < 0 || !step)
		return weft_err_set(err, before < 0 || again < 0 ? errno : ENOMEM, "cannot keep the old program of %s: %m", pin);
	if (bpf_link_update(link, prog, NULL) < 0)
		return weft_err_set(err, errno, "cannot replace the program of %s: %m", pin);
	journal->count++;
	*step = (struct weft_journal_step){ .link = weft_take_fd(again), .before = weft_take_fd(before) };
	return 0;
}

int weft_link_ensure(struct weft_journal *journal, const struct weft_link_wish *wish, int *ret_link,
		     struct weft_err *err)
{
	weft_close_on_exit int link = bpf_obj_get(wish->pin);
	struct weft_err why = { "" };
	struct bpf_link_info info = { 0 };
	int r = 0;

	if (link < 0 && errno != ENOENT)
		return weft_err_set(err, errno, "cannot open the pinned link %s: %m", wish->pin);
	if (link >= 0) {
		r = link_info(link, &info);
		if (r < 0)
			return weft_err_set(err, r, "cannot ask about the pinned link %s: %m", wish->pin);
		r = judge(wish, &info, err);
		if (r < 0)
			return r;
	}
	if (r > 0) {
		r = update(journal, wish->pin, wish->prog, link, info.prog_id, &why);
		if (r < 0 && r != -ENOLINK) {
			if (err)
				*err = why;
			return r;
		}
		/* ENOLINK: the cgroup died since it was asked. */
		r = r == 0;
	}
	if (r == 0) {
		if (link >= 0 && unlink(wish->pin) < 0 && errno != ENOENT)
			return weft_err_set(err, errno, "cannot remove the dead link %s: %m", wish->pin);
		weft_closep(&link);
		link = attach(wish);
		if (link < 0)
			return weft_err_set(err, link, "cannot attach %s: %m", wish->pin);
		r = pin(journal, link, true, wish->pin, err);
		if (r < 0)
			return r;
	}
	if (ret_link)
		*ret_link = weft_take_fd(link);
	return 0;
}

/* 1 and what is to be known of it if the link hangs on a network namespace that is alive; 0 if not, or if nothing is pinned. */
static int look_at_netns(const char *pin, int *ret_link, struct bpf_link_info *ret_info)
{
	weft_close_on_exit int link = bpf_obj_get(pin);
	int r;

	if (link < 0)
		return errno == ENOENT ? 0 : -errno;
	r = link_info(link, ret_info);
	if (r < 0)
		return r;
	if (ret_info->type != BPF_LINK_TYPE_NETNS || ret_info->netns.netns_ino == 0)
		return 0;
	*ret_link = weft_take_fd(link);
	return 1;
}

int weft_link_update_netns(struct weft_journal *journal, const char *pin, int prog, struct weft_err *err)
{
	struct weft_err why = { "" };
	weft_close_on_exit int link = -1;
	struct bpf_link_info info;
	int r = look_at_netns(pin, &link, &info);

	if (r < 0)
		return weft_err_set(err, r, "cannot ask about the pinned link %s: %m", pin);
	if (r == 0)
		return 0;
	r = update(journal, pin, prog, link, info.prog_id, &why);
	if (r == -ENOLINK)
		return 0; /* the namespace died since it was asked */
	if (r < 0 && err)
		*err = why;
	return r < 0 ? r : 1;
}

int weft_link_netns(const char *pin, uint32_t *ret_inode)
{
	weft_close_on_exit int link = -1;
	struct bpf_link_info info;
	int r = look_at_netns(pin, &link, &info);

	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_inode = info.netns.netns_ino;
	return 0;
}
