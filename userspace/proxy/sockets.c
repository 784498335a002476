/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/sockets.h"

#include <errno.h>
#include <unistd.h>

void weft_sockets_init(struct weft_sockets *pool, weft_sockets_want *want, void *context, uint32_t *serials)
{
	*pool = (struct weft_sockets){ .want = want, .context = context, .serials = serials };
	pool->last = &pool->first;
}

static void fail(struct weft_sockets *pool, int error)
{
	/* Only those who wait now: one that comes back at once waits anew. */
	for (unsigned int left = pool->waiting; left && pool->first; left--) {
		struct weft_sockets_wait *wait = pool->first;

		weft_sockets_unwait(wait);
		wait->got(wait, error);
	}
}

void weft_sockets_done(struct weft_sockets *pool)
{
	while (pool->first)
		fail(pool, -ENOENT);
	while (pool->count)
		close(pool->fd[--pool->count]);
}

/* Ahead of need: when half of what there should be is gone, or somebody waits. */
void weft_sockets_fill(struct weft_sockets *pool, uint64_t now_ns)
{
	unsigned int missing = pool->waiting + (pool->target > pool->count ? pool->target - pool->count : 0);

	if (pool->asked || !missing || (!pool->waiting && pool->count * 2 > pool->target) || now_ns < pool->retry_ns)
		return;
	if (missing > WEFT_PROXY_MAX_SOCKETS)
		missing = WEFT_PROXY_MAX_SOCKETS;
	pool->serial = ++*pool->serials;
	if (pool->want(pool->context, pool, missing) == 0)
		pool->asked = missing;
}

void weft_sockets_probe(struct weft_sockets *pool, uint64_t now_ns)
{
	if (pool->asked || now_ns < pool->probe_ns)
		return;
	pool->probe_ns = now_ns + WEFT_SOCKETS_RETRY_NS;
	pool->serial = ++*pool->serials;
	if (pool->want(pool->context, pool, 1) == 0)
		pool->asked = 1;
}

void weft_sockets_begin(struct weft_sockets *pool, uint64_t now_ns)
{
	if (!pool->target)
		pool->target = WEFT_SOCKETS_FIRST;
	weft_sockets_fill(pool, now_ns);
}

int weft_sockets_take(struct weft_sockets *pool, struct weft_sockets_wait *wait, uint64_t now_ns)
{
	int fd = pool->count && !pool->waiting ? pool->fd[--pool->count] : -EINPROGRESS;

	pool->used = true;
	if (!pool->count && pool->target < WEFT_PROXY_MAX_SOCKETS)
		pool->target = pool->target ? pool->target * 2 : WEFT_SOCKETS_FIRST;
	if (fd < 0) {
		wait->pool = pool;
		wait->next = NULL;
		*pool->last = wait;
		pool->last = &wait->next;
		pool->waiting++;
	}
	weft_sockets_fill(pool, now_ns);
	return fd;
}

void weft_sockets_unwait(struct weft_sockets_wait *wait)
{
	struct weft_sockets *pool = wait->pool;
	struct weft_sockets_wait **at;

	if (!pool)
		return;
	for (at = &pool->first; *at != wait; at = &(*at)->next)
		;
	*at = wait->next;
	if (pool->last == &wait->next)
		pool->last = at;
	pool->waiting--;
	wait->pool = NULL;
}

void weft_sockets_give(struct weft_sockets *pool, const int *fds, size_t count, int error, uint64_t now_ns)
{
	size_t at = 0;

	pool->asked = 0;
	for (; at < count && pool->first; at++) {
		struct weft_sockets_wait *wait = pool->first;

		weft_sockets_unwait(wait);
		wait->got(wait, fds[at]);
	}
	for (; at < count; at++) {
		if (pool->count < WEFT_PROXY_MAX_SOCKETS)
			pool->fd[pool->count++] = fds[at];
		else
			close(fds[at]);
	}
	if (error) {
		pool->retry_ns = now_ns + WEFT_SOCKETS_RETRY_NS;
		/* A new main hears of its pods from control in a moment. Of a pod that is gone the listener is dropped, and with it the pool. */
		if (error != -ENOENT)
			fail(pool, error);
	}
	weft_sockets_fill(pool, now_ns);
}

void weft_sockets_forget(struct weft_sockets *pool)
{
	pool->asked = 0;
	pool->retry_ns = 0;
}

void weft_sockets_rest(struct weft_sockets *pool)
{
	if (pool->used || pool->target <= WEFT_SOCKETS_FIRST) {
		pool->used = false;
		return;
	}
	pool->target /= 2;
	while (pool->count > pool->target)
		close(pool->fd[--pool->count]);
}
