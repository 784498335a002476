/* SPDX-License-Identifier: Apache-2.0 */
/* The owner's side of the engine. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/engine.h"

static void defaults(struct weft_hbone_limits *limits)
{
	if (!limits->budget)
		limits->budget = 64 << 20;
	if (!limits->handshake_ms)
		limits->handshake_ms = 5000;
	if (!limits->headers_ms)
		limits->headers_ms = 10000;
	if (!limits->idle_ms)
		limits->idle_ms = 300000;
	if (!limits->ping_ms)
		limits->ping_ms = 10000;
	if (!limits->connections)
		limits->connections = 10000;
}

int weft_hbone_new(struct weft_loop *loop, struct weft_remote_keys *keys, const struct weft_hbone_ops *ops,
		   const struct weft_hbone_limits *limits, struct weft_hbone **ret_hbone)
{
	weft_cleanup(weft_hbone_freep) struct weft_hbone *hbone = calloc(1, sizeof(*hbone));
	int r;

	if (!hbone)
		return -ENOMEM;
	hbone->loop = loop;
	hbone->keys = keys;
	hbone->ops = *ops;
	if (limits)
		hbone->limits = *limits;
	defaults(&hbone->limits);
	hbone->tell.run = weft_stream_tell_ended;
	hbone->shares = weft_shares_new(hbone->limits.connections);
	if (!hbone->shares)
		return -ENOMEM;
	r = weft_conn_engine_setup(hbone);
	if (r == 0)
		r = weft_session_engine_setup(hbone);
	if (r < 0)
		return r;
	*ret_hbone = weft_take_ptr(hbone);
	return 0;
}

struct weft_hbone *weft_hbone_free(struct weft_hbone *hbone)
{
	struct weft_hbone_conn *next;

	if (!hbone)
		return NULL;
	for (struct weft_hbone_conn *conn = hbone->conns; conn; conn = next) {
		next = conn->next;
		conn->refs++;
		/* Queues the GOAWAY; work sends it now, not after the loop. */
		if (conn->state == WEFT_CONN_UP) {
			while (conn->streams)
				weft_stream_end(conn->streams, WEFT_HBONE_CUT, 0, "the agent ends");
			weft_conn_stop(conn, NGHTTP2_NO_ERROR);
			weft_loop_cancel(&conn->work);
			conn->work.run(&conn->work);
		}
		weft_conn_fail(conn, WEFT_HBONE_CUT, "the agent ends");
		weft_conn_unref(conn);
	}
	while (hbone->last)
		weft_stream_end(hbone->last, WEFT_HBONE_CUT, 0, "the agent ends");
	weft_loop_cancel(&hbone->tell);
	weft_stream_tell_ended(&hbone->tell);
	weft_hash_table_done(&hbone->pools);
	weft_shares_unref(hbone->shares);
	nghttp2_session_callbacks_del(hbone->callbacks);
	nghttp2_option_del(hbone->option);
	BIO_meth_free(hbone->bio);
	weft_buf_done(&hbone->records);
	free(hbone);
	return NULL;
}

void weft_hbone_count(struct weft_hbone *hbone, unsigned int what)
{
	hbone->ops.count(hbone->ops.context, what);
}

static char *copy(const char *text, bool *failed)
{
	char *made = text && text[0] ? strdup(text) : NULL;

	if (text && text[0] && !made)
		*failed = true;
	return made;
}

static struct weft_wish *wish_of(const struct weft_hbone_open *open)
{
	struct weft_wish *wish = calloc(1, sizeof(*wish));
	bool failed = false;

	if (!wish)
		return NULL;
	wish->authority = copy(open->authority, &failed);
	wish->baggage = copy(open->baggage, &failed);
	wish->forwarded = copy(open->forwarded, &failed);
	wish->traceparent = copy(open->traceparent, &failed);
	if (open->first_size) {
		wish->first = malloc(open->first_size);
		wish->first_size = open->first_size;
		if (wish->first)
			memcpy(wish->first, open->first, open->first_size);
		else
			failed = true;
	}
	return failed ? weft_wish_free(wish) : wish;
}

static int refuse_app(int app, int error)
{
	struct linger now = { .l_onoff = 1 };

	setsockopt(app, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(app);
	return error;
}

int weft_hbone_open(struct weft_hbone *hbone, const struct weft_hbone_open *open, int app, void *user,
		    struct weft_hbone_stream **ret_stream)
{
	struct weft_hbone_stream *stream;
	struct weft_pool *pool;
	int r;

	if (hbone->draining)
		return refuse_app(app, -ESHUTDOWN);
	r = weft_stream_new(hbone, &stream);
	if (r < 0)
		return refuse_app(app, r);
	stream->user = user;
	stream->wish = wish_of(open);
	r = stream->wish ? weft_pool_get(hbone, open, &pool) : -ENOMEM;
	if (r == 0) {
		stream->pool = pool;
		r = weft_stream_app(stream, app);
		if (r < 0)
			weft_pool_unref(pool);
	}
	if (r < 0) {
		weft_wish_free(stream->wish);
		free(stream);
		return refuse_app(app, r);
	}
	/* A connection first, then the answer. */
	weft_loop_timer(hbone->loop, &stream->timer, hbone->limits.handshake_ms + hbone->limits.headers_ms);
	*ret_stream = stream;
	weft_pool_place(pool, stream);
	return 0;
}

int weft_hbone_accept(struct weft_hbone *hbone, struct weft_identity *identity, int fd, uint64_t netns)
{
	struct weft_hbone_conn *conn;
	int r;

	if (hbone->draining)
		return refuse_app(fd, -ESHUTDOWN);
	r = weft_conn_new(hbone, identity, true, &conn);
	if (r < 0)
		return refuse_app(fd, r);
	conn->netns = netns;
	r = weft_conn_accept(conn, fd);
	if (r < 0) {
		weft_conn_free(conn);
		return refuse_app(fd, r);
	}
	return 0;
}

void weft_hbone_refuse(struct weft_hbone_stream *stream, int status)
{
	if (stream->ended || stream->answered)
		return;
	stream->answered = true;
	weft_session_respond(stream, status);
	weft_stream_end(stream, WEFT_HBONE_REFUSED, status, "refused with status %d", status);
}

void weft_hbone_dial(struct weft_hbone_stream *stream, int fd)
{
	if (stream->ended || stream->answered) {
		close(fd);
		return;
	}
	stream->answered = true;
	if (weft_stream_app(stream, fd) < 0) {
		close(fd);
		weft_session_respond(stream, 503);
		weft_stream_end(stream, WEFT_HBONE_UNREACHABLE, 503, "out of memory");
	}
}

void weft_hbone_cut(struct weft_hbone_stream *stream)
{
	weft_stream_end(stream, WEFT_HBONE_CUT, 0, "no longer allowed");
}

void weft_hbone_leave(struct weft_hbone *hbone, uint64_t netns)
{
	struct weft_hbone_conn *next;

	for (struct weft_hbone_conn *conn = hbone->conns; conn; conn = next) {
		next = conn->next;
		if (conn->netns != netns)
			continue;
		while (conn->streams)
			weft_stream_end(conn->streams, WEFT_HBONE_CUT, 0, "the pod was detached");
		weft_conn_stop(conn, NGHTTP2_NO_ERROR);
	}
}

void weft_hbone_recheck(struct weft_hbone *hbone, const struct weft_trust *trust, time_t now)
{
	struct weft_hbone_conn *next;

	for (struct weft_hbone_conn *conn = hbone->conns; conn; conn = next) {
		struct weft_err err = { 0 };

		next = conn->next;
		if (conn->state != WEFT_CONN_UP)
			continue;
		if (weft_identity_recheck(conn->ssl, trust, now, &err) == 0)
			continue;
		while (conn->streams)
			weft_stream_end(conn->streams, WEFT_HBONE_CUT, 0, "%s", err.text);
		weft_conn_stop(conn, NGHTTP2_NO_ERROR);
	}
}

void weft_hbone_socket(struct weft_hbone *hbone, uint64_t netns, int family, int fd)
{
	for (struct weft_hbone_conn *conn = hbone->sockets; conn; conn = conn->wait_next)
		if (conn->netns == netns && (weft_addr_is_v4(&conn->peer) ? AF_INET : AF_INET6) == family) {
			weft_conn_socket(conn, fd);
			return;
		}
	if (fd >= 0)
		close(fd);
}

void weft_hbone_ready(struct weft_hbone *hbone, void *waiter)
{
	(void)hbone;
	weft_conn_handshake(waiter);
}

void weft_hbone_facts(const struct weft_hbone_stream *stream, struct weft_hbone_facts *ret_facts)
{
	const struct weft_hbone_conn *conn = stream->conn;

	*ret_facts = (struct weft_hbone_facts){ .sent = stream->sent, .received = stream->received, .peer_identity = "" };
	if (conn) {
		if (conn->peer_identity)
			ret_facts->peer_identity = conn->peer_identity;
		ret_facts->peer = conn->peer;
		ret_facts->peer_port = conn->peer_port;
	} else if (stream->pool) {
		ret_facts->peer = stream->pool->peer;
		ret_facts->peer_port = stream->pool->port;
	}
}

static void drain(struct weft_hbone_conn *conn)
{
	/* One that is being dialled is for streams that wait already. */
	if (conn->state != WEFT_CONN_UP || conn->draining)
		return;
	weft_pool_retire(conn);
	conn->draining = true;
	if (conn->server)
		nghttp2_submit_shutdown_notice(conn->session);
	weft_conn_work(conn);
	weft_loop_timer(conn->hbone->loop, &conn->timer, 1000);
}

void weft_hbone_drain(struct weft_hbone *hbone)
{
	struct weft_hbone_conn *next;

	hbone->draining = true;
	for (struct weft_hbone_conn *conn = hbone->conns; conn; conn = next) {
		next = conn->next;
		drain(conn);
	}
}

void weft_hbone_renewed(struct weft_hbone *hbone, const struct weft_identity *identity)
{
	struct weft_hbone_conn *next;

	for (struct weft_hbone_conn *conn = hbone->conns; conn; conn = next) {
		next = conn->next;
		if (weft_identity_not_after(conn->identity) < weft_identity_not_after(identity) &&
		    strcmp(weft_identity_id(conn->identity), weft_identity_id(identity)) == 0)
			drain(conn);
	}
}
