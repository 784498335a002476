/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/keep.h"

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/cleanup.h"

void weft_keep_done(struct weft_keep *keep)
{
	for (size_t i = 0; i < keep->count; i++)
		close(keep->entry[i].fd);
	free(keep->entry);
	*keep = (struct weft_keep){ 0 };
}

static struct weft_keep_entry *find(const struct weft_keep *keep, const struct weft_kept *kept)
{
	for (size_t i = 0; i < keep->count; i++) {
		struct weft_keep_entry *entry = &keep->entry[i];

		if (entry->kept.netns == kept->netns && entry->kept.port == kept->port && entry->kept.family == kept->family)
			return entry;
	}
	return NULL;
}

const struct weft_keep_entry *weft_keep_find(const struct weft_keep *keep, const struct weft_kept *kept)
{
	return find(keep, kept);
}

int weft_keep_put(struct weft_keep *keep, const struct weft_kept *kept, int fd)
{
	weft_close_on_exit int mine = fd;
	struct weft_keep_entry *entry = find(keep, kept);
	int r;

	if (entry) {
		entry->kept = *kept;
		if (mine >= 0) {
			close(entry->fd);
			entry->fd = weft_take_fd(mine);
		}
		return 0;
	}
	if (mine < 0)
		return -ENOENT;
	if (keep->count == WEFT_KEPT_MAX)
		return -ENOSPC;
	r = weft_grow(&keep->entry, &keep->room, keep->count + 1, sizeof(*keep->entry));
	if (r < 0)
		return r;
	keep->entry[keep->count++] = (struct weft_keep_entry){ *kept, weft_take_fd(mine) };
	return 0;
}

int weft_keep_drop(struct weft_keep *keep, const struct weft_kept *kept)
{
	struct weft_keep_entry *entry = find(keep, kept);

	if (!entry)
		return -ENOENT;
	close(entry->fd);
	*entry = keep->entry[--keep->count];
	return 0;
}
