/* SPDX-License-Identifier: Apache-2.0 */
#include "event/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>

/* IN_MODIFY too: a file that somebody keeps open and appends to never gets its IN_CLOSE_WRITE. */
#define DIR_MASK                                                                                              \
	(IN_CREATE | IN_DELETE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | \
	 IN_MOVE_SELF | IN_ONLYDIR)
#define PARENT_MASK (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct weft_watch {
	sd_event *loop;
	sd_event_source *readable;
	sd_event_source *settle; /* the debounce */
	sd_event_source *retry;
	void (*changed)(void *context, int dir);
	void *context;
	char *parent;
	char *name; /* last part of the path */
	char *path;
	int inotify;
	int dir;
	int dir_wd;
	int parent_wd;
	bool given; /* dir came from the caller and the path cannot be opened */
	uint64_t first_us; /* of the burst; 0 = none is on */
	uint64_t due_us; /* of the call at its end */
};

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static bool same_directory(int a, int b)
{
	struct stat sa, sb;

	return a >= 0 && b >= 0 && fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static void watch_directory(struct weft_watch *watch)
{
	char self[64];

	if (watch->dir_wd >= 0)
		inotify_rm_watch(watch->inotify, watch->dir_wd);
	watch->dir_wd = -1;
	if (watch->dir < 0)
		return;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", watch->dir);
	watch->dir_wd = inotify_add_watch(watch->inotify, self, DIR_MASK);
}

/* Finds out which directory the path means now. True if that is another one than before. */
static bool look(struct weft_watch *watch)
{
	weft_close_on_exit int found = open(watch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool denied = found < 0 && (errno == EACCES || errno == EPERM);
	bool incomplete;
	bool other;

	if (watch->parent_wd < 0)
		watch->parent_wd = inotify_add_watch(watch->inotify, watch->parent, PARENT_MASK);

	if (denied && watch->given)
		other = false;
	else if (found >= 0 && same_directory(found, watch->dir))
		other = false;
	else
		other = found >= 0 || watch->dir >= 0;
	if (other) {
		if (watch->dir >= 0)
			close(watch->dir);
		watch->dir = weft_take_fd(found);
		watch->given = false;
	}
	if (other || watch->dir_wd < 0)
		watch_directory(watch);

	/* Without a watch on the parent nothing tells that the directory came or was exchanged. */
	incomplete = watch->dir < 0 || watch->dir_wd < 0 || watch->parent_wd < 0;
	sd_event_source_set_time_relative(watch->retry, WEFT_WATCH_RETRY_MS * 1000);
	sd_event_source_set_enabled(watch->retry, incomplete ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
	return other;
}

static void postpone(struct weft_watch *watch)
{
	uint64_t now = now_us();
	uint64_t due = now + WEFT_WATCH_QUIET_MS * 1000;

	if (watch->first_us == 0)
		watch->first_us = now;
	if (due > watch->first_us + WEFT_WATCH_MAX_MS * 1000)
		due = watch->first_us + WEFT_WATCH_MAX_MS * 1000;
	/* Setting a timer that is due takes it back, and an endless burst would do that for ever. */
	if (due == watch->due_us)
		return;
	watch->due_us = due;
	sd_event_source_set_time(watch->settle, due);
	sd_event_source_set_enabled(watch->settle, SD_EVENT_ONESHOT);
}

static int on_settle(sd_event_source *source, uint64_t usec, void *context)
{
	struct weft_watch *watch = context;

	(void)source;
	(void)usec;
	watch->first_us = watch->due_us = 0;
	look(watch);
	watch->changed(watch->context, watch->dir);
	return 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *context)
{
	struct weft_watch *watch = context;

	(void)source;
	(void)usec;
	if (look(watch) || (watch->dir >= 0 && watch->dir_wd < 0))
		postpone(watch);
	return 0;
}

static void one(struct weft_watch *watch, const struct inotify_event *event)
{
	if (event->mask & IN_Q_OVERFLOW) {
		postpone(watch);
		return;
	}
	if (event->mask & IN_IGNORED) {
		if (event->wd == watch->dir_wd)
			watch->dir_wd = -1;
		else if (event->wd == watch->parent_wd)
			watch->parent_wd = -1;
		else
			return;
		postpone(watch);
		return;
	}
	if (event->wd == watch->dir_wd) {
		postpone(watch);
		return;
	}
	if (event->wd != watch->parent_wd)
		return;
	if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) {
		/* The parent's path now means something else, or nothing. */
		inotify_rm_watch(watch->inotify, watch->parent_wd);
		watch->parent_wd = -1;
		postpone(watch);
	} else if (event->len && strcmp(event->name, watch->name) == 0) {
		postpone(watch);
	}
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	_Alignas(struct inotify_event) char room[8192];
	struct weft_watch *watch = context;
	ssize_t got;

	(void)source;
	(void)revents;
	while ((got = read(fd, room, sizeof(room))) > 0)
		for (char *at = room; at < room + got;) {
			const struct inotify_event *event = (const struct inotify_event *)at;

			one(watch, event);
			at += sizeof(*event) + event->len;
		}
	return 0;
}

static int split(struct weft_watch *watch, const char *path)
{
	char whole[PATH_MAX];
	char *slash;
	size_t size;

	if (path[0] == '/')
		size = (size_t)snprintf(whole, sizeof(whole), "%s", path);
	else
		size = (size_t)snprintf(whole, sizeof(whole), "./%s", path);
	if (size >= sizeof(whole))
		return -ENAMETOOLONG;
	while (size > 1 && whole[size - 1] == '/')
		whole[--size] = '\0';
	slash = strrchr(whole, '/');
	watch->path = strdup(whole);
	watch->name = strdup(slash + 1);
	watch->parent = slash == whole ? strdup("/") : strndup(whole, (size_t)(slash - whole));
	return watch->path && watch->name && watch->parent ? 0 : -ENOMEM;
}

int weft_watch_new(sd_event *loop, const char *path, int dir, void (*changed)(void *context, int dir), void *context,
		   struct weft_watch **ret_watch)
{
	weft_cleanup(weft_watch_freep) struct weft_watch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch) {
		if (dir >= 0)
			close(dir);
		return -ENOMEM;
	}
	watch->loop = sd_event_ref(loop);
	watch->changed = changed;
	watch->context = context;
	watch->dir = dir;
	watch->given = dir >= 0;
	watch->dir_wd = watch->parent_wd = watch->inotify = -1;
	r = split(watch, path);
	if (r < 0)
		return r;
	watch->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (watch->inotify < 0)
		return -errno;
	r = sd_event_add_io(loop, &watch->readable, watch->inotify, EPOLLIN, on_readable, watch);
	if (r >= 0)
		r = sd_event_add_time(loop, &watch->settle, CLOCK_MONOTONIC, 0, 1000, on_settle, watch);
	if (r >= 0)
		r = sd_event_source_set_enabled(watch->settle, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(loop, &watch->retry, CLOCK_MONOTONIC, 0, 10000, on_retry, watch);
	if (r >= 0)
		r = sd_event_source_set_enabled(watch->retry, SD_EVENT_OFF);
	if (r < 0)
		return r;
	look(watch);
	*ret_watch = weft_take_ptr(watch);
	return 0;
}

struct weft_watch *weft_watch_free(struct weft_watch *watch)
{
	if (!watch)
		return NULL;
	sd_event_source_disable_unref(watch->readable);
	sd_event_source_disable_unref(watch->settle);
	sd_event_source_disable_unref(watch->retry);
	if (watch->inotify >= 0)
		close(watch->inotify);
	if (watch->dir >= 0)
		close(watch->dir);
	sd_event_unref(watch->loop);
	free(watch->parent);
	free(watch->name);
	free(watch->path);
	free(watch);
	return NULL;
}

int weft_watch_dir(const struct weft_watch *watch)
{
	return watch->dir;
}
