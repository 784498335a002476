/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which connection a stream goes to. A pool is {who we are, network namespace and address we come from, the peer, whom it may be}: what two
 * streams must have in common to share a connection. Streams fill a connection up to a hundred; one that has become bulk keeps
 * new ones away from its connection, so that few of them wait behind it.
 */
#include <errno.h>
#include <string.h>

#include "proxy/engine.h"

static uint32_t hash_of(const void *item)
{
	const struct weft_pool *pool = item;

	return weft_hash(pool->key, pool->key_size, 0);
}

static bool is(const void *item, const void *key)
{
	const struct weft_pool *pool = item;
	const struct weft_buf *other = key;

	return pool->key_size == other->size && !memcmp(pool->key, other->data, other->size);
}

static char **copy_list(const char *const *list)
{
	size_t count = 0, size = 0;
	char **copy, *text;

	for (; list[count]; count++)
		size += strlen(list[count]) + 1;
	copy = malloc((count + 1) * sizeof(*copy) + size);
	if (!copy)
		return NULL;
	text = (char *)(copy + count + 1);
	for (size_t i = 0; i < count; i++) {
		copy[i] = text;
		text = stpcpy(text, list[i]) + 1;
	}
	copy[count] = NULL;
	return copy;
}

static struct weft_pool *pool_free(struct weft_pool *pool)
{
	if (!pool)
		return NULL;
	weft_identity_unref(pool->identity);
	free(pool->expected);
	free(pool->key);
	free(pool);
	return NULL;
}
WEFT_CLEANUP_DEFINE(struct weft_pool, pool_free);

static int key_of(const struct weft_hbone_open *open, struct weft_buf *key)
{
	const char *id = weft_identity_id(open->identity);
	int r = weft_buf_add(key, &open->netns, sizeof(open->netns));

	if (r == 0)
		r = weft_buf_add(key, &open->source, sizeof(open->source));
	if (r == 0)
		r = weft_buf_add(key, &open->peer, sizeof(open->peer));
	if (r == 0)
		r = weft_buf_add(key, &open->port, sizeof(open->port));
	if (r == 0)
		r = weft_buf_add(key, id, strlen(id) + 1);
	for (size_t i = 0; r == 0 && open->expected[i]; i++)
		r = weft_buf_add(key, open->expected[i], strlen(open->expected[i]) + 1);
	return r;
}

static int pool_new(struct weft_hbone *hbone, const struct weft_hbone_open *open, struct weft_buf *key, struct weft_pool **ret_pool)
{
	weft_cleanup(pool_freep) struct weft_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pool->hbone = hbone;
	pool->identity = weft_identity_ref(open->identity);
	pool->expected = copy_list(open->expected);
	pool->netns = open->netns;
	pool->source = open->source;
	pool->peer = open->peer;
	pool->port = open->port;
	pool->waiting_end = &pool->waiting;
	pool->key_size = key->size;
	pool->key = weft_take_ptr(key->data);
	if (!pool->expected || weft_hash_table_add(&hbone->pools, pool, hash_of) < 0)
		return -ENOMEM;
	*ret_pool = weft_take_ptr(pool);
	return 0;
}

/* A renewed certificate: streams go over to connections that show it. What is being dialled has streams that wait for it. */
static void renew(struct weft_pool *pool, struct weft_identity *identity)
{
	struct weft_hbone_conn *next;

	for (struct weft_hbone_conn *conn = pool->conns; conn; conn = next) {
		next = conn->pool_next;
		if (conn != pool->dialling)
			weft_pool_retire(conn);
	}
	weft_identity_unref(pool->identity);
	pool->identity = weft_identity_ref(identity);
}

int weft_pool_get(struct weft_hbone *hbone, const struct weft_hbone_open *open, struct weft_pool **ret_pool)
{
	weft_buf_done_on_exit struct weft_buf key = WEFT_BUF_INIT;
	struct weft_pool *pool;
	int r = key_of(open, &key);

	if (r < 0)
		return r;
	pool = weft_hash_table_find(&hbone->pools, weft_hash(key.data, key.size, 0), is, &key);
	if (!pool)
		r = pool_new(hbone, open, &key, &pool);
	if (r < 0)
		return r;
	pool->refs++;
	if (pool->identity != open->identity)
		renew(pool, open->identity);
	*ret_pool = pool;
	return 0;
}

void weft_pool_unref(struct weft_pool *pool)
{
	if (--pool->refs)
		return;
	weft_hash_table_remove(&pool->hbone->pools, pool, hash_of);
	pool_free(pool);
}

static struct weft_hbone_conn *choose(const struct weft_pool *pool)
{
	struct weft_hbone_conn *best = NULL;

	for (struct weft_hbone_conn *conn = pool->conns; conn; conn = conn->pool_next)
		if (weft_session_has_room(conn) && (!best || conn->bulk < best->bulk || (conn->bulk == best->bulk && conn->count > best->count)))
			best = conn;
	return best;
}

/* No connection will come: to what there is, bulk or not, or to nowhere, as ztunnel has it; who comes next tries anew. */
static void give_up(struct weft_pool *pool, enum weft_hbone_end end, const char *why)
{
	while (pool->waiting) {
		struct weft_hbone_conn *conn = choose(pool);

		if (!conn || weft_session_request(conn, pool->waiting) < 0)
			weft_stream_end(pool->waiting, end, 0, "%s", why);
	}
}

static void dial(struct weft_pool *pool)
{
	struct weft_share *share = NULL;
	struct weft_hbone_conn *conn;
	int r;

	/* One at a time: what waits may all fit on the first. */
	if (pool->dialling)
		return;
	r = weft_shares_take(pool->hbone->shares, &pool->netns, sizeof(pool->netns), &share);
	if (r == 0)
		r = weft_conn_new(pool->hbone, pool->identity, false, &conn);
	if (r == -EDQUOT)
		weft_hbone_count(pool->hbone, WEFT_COUNTED_FAIR_SHARE);
	if (r < 0) {
		weft_share_give(share);
		give_up(pool, WEFT_HBONE_UNREACHABLE,
			r == -ENOMEM   ? "out of memory"
			: r == -EDQUOT ? "its pod has its fair share of the proxy's connections (weftd's limit of open files)"
				       : "the proxy holds as many connections as it may");
		return;
	}
	conn->share = share;
	conn->pool = pool;
	conn->pool_next = pool->conns;
	conn->pool_back = &pool->conns;
	if (conn->pool_next)
		conn->pool_next->pool_back = &conn->pool_next;
	pool->conns = conn;
	pool->count++;
	pool->refs++;
	pool->dialling = conn;
	weft_conn_dial(conn);
}

void weft_pool_place(struct weft_pool *pool, struct weft_hbone_stream *stream)
{
	struct weft_hbone_conn *conn;

	pool->refs++;
	conn = choose(pool);
	if (conn && (!conn->bulk || pool->count >= WEFT_BULK_SPREAD) && weft_session_request(conn, stream) == 0) {
		weft_pool_unref(pool);
		return;
	}
	stream->next = NULL;
	stream->back = pool->waiting_end;
	*pool->waiting_end = stream;
	pool->waiting_end = &stream->next;
	dial(pool);
	weft_pool_unref(pool);
}

void weft_pool_up(struct weft_hbone_conn *conn)
{
	struct weft_pool *pool = conn->pool;

	if (pool->dialling == conn)
		pool->dialling = NULL;
	pool->refs++;
	while (pool->waiting && weft_session_has_room(conn)) {
		struct weft_hbone_stream *stream = pool->waiting;

		if (weft_session_request(conn, stream) < 0)
			weft_stream_end(stream, WEFT_HBONE_UNREACHABLE, 0, "out of memory");
	}
	if (pool->waiting)
		dial(pool);
	weft_pool_unref(pool);
}

void weft_pool_failed(struct weft_hbone_conn *conn, enum weft_hbone_end end, const char *why)
{
	struct weft_pool *pool = conn->pool;

	if (!pool)
		return;
	pool->refs++;
	weft_pool_retire(conn);
	give_up(pool, end, why);
	weft_pool_unref(pool);
}

void weft_pool_retire(struct weft_hbone_conn *conn)
{
	struct weft_pool *pool = weft_take_ptr(conn->pool);

	if (!pool)
		return;
	*conn->pool_back = conn->pool_next;
	if (conn->pool_next)
		conn->pool_next->pool_back = conn->pool_back;
	pool->count--;
	if (pool->dialling == conn)
		pool->dialling = NULL;
	weft_pool_unref(pool);
	/* Nobody would come back to it. */
	if (conn->state == WEFT_CONN_UP && !conn->refs)
		weft_loop_timer(conn->hbone->loop, &conn->timer, 0);
}
