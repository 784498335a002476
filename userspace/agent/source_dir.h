/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of configuration files as a source of resources: which file says
 * what, what changed since the last look, which version of a resource is in
 * force. Regular files called *.yaml, *.yml or *.json and not .*, in the order
 * of their names; no subdirectories. Symbolic links are followed within the
 * directory, as ConfigMaps use them, and not out of it.
 *
 * A resource that two files have belongs to the first; a document that is
 * refused, or lost in a file that is torn, leaves the last good version of its
 * resource in force. A file that is gone takes its resources with it. Of the
 * kinds of agent/last_good.h that holds from one process to the next, too.
 */
#ifndef WEFT_AGENT_SOURCE_DIR_H
#define WEFT_AGENT_SOURCE_DIR_H

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "conf/conf.h"
#include "model/model.h"

#define WEFT_SOURCE_MAX_FILES 10000

struct weft_source;

#define WEFT_SOURCE_SETTLE_MS 2000

/*
 * A file that was changed less than `settle_ms` ago may be half written (conf.h: settled); 0: no file is.
 * NULL: out of memory.
 */
struct weft_source *weft_source_new(unsigned int settle_ms);
struct weft_source *weft_source_free(struct weft_source *source);
WEFT_CLEANUP_DEFINE(struct weft_source, weft_source_free);

/*
 * Before the first scan: what the process before this one kept in the folder `state`, which is the caller's and stays open.
 * -EBADMSG with a reason: it cannot be told; then a scan that would need it fails. -ENOMEM.
 */
int weft_source_recall(struct weft_source *source, int state, struct weft_err *err);

/*
 * Looks at the directory and brings the model to what it says; `model` is the same at every call. Files whose
 * stat() did not change are not read again. *ret_changed: resources that were put or removed. A directory that is
 * not there (-1) or cannot be listed: -errno, everything stays as it is. -ENOMEM: as far as it came; the next scan completes it.
 * -EBADMSG: a mistake asks for a last good version that cannot be told, see the problems; the model is as it was.
 */
int weft_source_scan(struct weft_source *source, int dir, struct weft_model *model, size_t *ret_changed);

/* After a scan: writes what is in force into the folder of weft_source_recall(), if that does not have it. 0 or -errno: the next call tries again. */
int weft_source_save(struct weft_source *source, const struct weft_model *model);

/* Milliseconds after which a scan may find a file settled that the last one did not accept as it was, or a save is to be tried again; -1: there is none. */
int weft_source_due_ms(const struct weft_source *source);

/* Calls each() for every problem of the last scan, file by file. */
void weft_source_problems(const struct weft_source *source, void (*each)(void *context, const struct weft_problem *problem),
			  void *context);

struct weft_source_entry {
	enum weft_kind kind;
	const char *namespace;
	const char *name;
	const char *file;
	unsigned int line; /* of the version in force */
	bool last_good; /* the file's newer version was refused */
};
/* Calls each() for every resource in force, file by file. */
void weft_source_entries(const struct weft_source *source, void (*each)(void *context, const struct weft_source_entry *entry),
			 void *context);
size_t weft_source_count(const struct weft_source *source);

#endif
