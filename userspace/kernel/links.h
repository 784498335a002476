/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pinned things put in place, each with the way back: what a start that fails
 * half-way has pinned is unpinned, what it has replaced is put back.
 */
#ifndef WEFT_KERNEL_LINKS_H
#define WEFT_KERNEL_LINKS_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct weft_journal {
	struct weft_journal_step {
		char *pin; /* made by us; NULL: a link was updated */
		int link; /* -1: what was pinned is a map */
		int before; /* the program to give back to a `link` that was updated; the map that was pinned there before, or -1 */
	} *step;
	size_t count;
	size_t size;
};

/* Takes back all that the journal knows, last first, and empties it. An empty one is fine. */
void weft_journal_undo(struct weft_journal *journal);
/* Everything stays. */
void weft_journal_commit(struct weft_journal *journal);

/* Pins a map at `path`. */
int weft_journal_pin_map(struct weft_journal *journal, int fd, const char *path, struct weft_err *err);
/* Pins a map at `path` in the place of `before`; at no moment is nothing pinned there. */
int weft_journal_replace_map(struct weft_journal *journal, int fd, int before, const char *path, struct weft_err *err);
/* Removes what a kill in the middle of that left beside `path`. */
void weft_journal_sweep(const char *path);

struct weft_link_wish {
	const char *pin; /* path */
	int prog;
	uint32_t attach_type;
	int cgroup; /* -1: an iterator */
	int map; /* that it walks over; -1: over sockets of a network namespace */
	bool moves; /* one that hangs on another cgroup is given up and attached here */
};

/*
 * The pinned link at wish->pin runs wish->prog from here on: updated in place if it is there and alive, else attached
 * and pinned. -EBUSY: the link there hangs on another cgroup. *ret_link, if asked for, is the caller's.
 */
int weft_link_ensure(struct weft_journal *journal, const struct weft_link_wish *wish, int *ret_link,
		     struct weft_err *err);

/*
 * The pinned link of a network namespace runs `prog` from here on. 0: that namespace is gone, or nothing is pinned; else 1.
 */
int weft_link_update_netns(struct weft_journal *journal, const char *pin, int prog, struct weft_err *err);
/* 0, and the inode of the network namespace that a pinned link is attached to; -ENOENT: nothing is pinned, or the namespace is gone. */
int weft_link_netns(const char *pin, uint32_t *ret_inode);

/* The program of a pinned link, 0 if there is none. */
uint32_t weft_link_prog_id(const char *pin);

#endif
