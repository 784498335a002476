/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells that something below a directory changed, by whatever way: an edit, a
 * rename into place, a symlink swapped (ConfigMaps), the directory itself
 * removed, replaced or made later. It does not tell what: who listens looks
 * anew at all of it. A burst of changes is one call.
 *
 * A file behind a symlink that leaves the directory is not watched.
 */
#ifndef WEFT_EVENT_WATCH_H
#define WEFT_EVENT_WATCH_H

#include <systemd/sd-event.h>

#include "base/cleanup.h"

#define WEFT_WATCH_QUIET_MS 50 /* after the last change */
#define WEFT_WATCH_MAX_MS 500 /* after the first */
#define WEFT_WATCH_RETRY_MS 1000 /* between looks for a directory that nothing tells about */

struct weft_watch;

/*
 * `path` is looked up by this process; where it may not, `dir` (its own to close from here on, -1: none) stands for
 * it for good. `changed` gets the directory, owned by the watch, or -1 while there is none. Not called for the
 * state at the start: see weft_watch_dir(). -errno: no inotify.
 */
int weft_watch_new(sd_event *loop, const char *path, int dir, void (*changed)(void *context, int dir), void *context,
		   struct weft_watch **ret_watch);
struct weft_watch *weft_watch_free(struct weft_watch *watch);
WEFT_CLEANUP_DEFINE(struct weft_watch, weft_watch_free);

int weft_watch_dir(const struct weft_watch *watch);

#endif
