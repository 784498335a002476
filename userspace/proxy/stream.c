/* SPDX-License-Identifier: Apache-2.0 */
/* One application connection: its socket, what it has not taken, its ends. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/engine.h"

/* A reader that stops: without this the kernel takes megabytes for it before we notice. */
enum { UNSENT = 128 << 10 };

#define STREAM_OF(pointer, member) \
	((struct weft_hbone_stream *)(void *)((char *)(pointer) - offsetof(struct weft_hbone_stream, member)))

static void ready(struct weft_loop_io *io, uint32_t events);
static void late(struct weft_loop_timer *timer);

struct weft_wish *weft_wish_free(struct weft_wish *wish)
{
	if (!wish)
		return NULL;
	free(wish->authority);
	free(wish->baggage);
	free(wish->forwarded);
	free(wish->traceparent);
	free(wish->first);
	free(wish);
	return NULL;
}

int weft_stream_new(struct weft_hbone *hbone, struct weft_hbone_stream **ret_stream)
{
	struct weft_hbone_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return -ENOMEM;
	stream->hbone = hbone;
	stream->app = (struct weft_loop_io){ .ready = ready, .fd = -1 };
	stream->timer.fired = late;
	stream->window = WEFT_WINDOW;
	*ret_stream = stream;
	return 0;
}

int weft_stream_app(struct weft_hbone_stream *stream, int fd)
{
	int on = 1, unsent = UNSENT, r;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	stream->app.fd = fd;
	r = weft_loop_set(stream->hbone->loop, &stream->app, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	if (r < 0)
		stream->app.fd = -1;
	return r;
}

void weft_stream_link(struct weft_hbone_stream *stream, struct weft_hbone_stream **list)
{
	stream->next = *list;
	stream->back = list;
	if (stream->next)
		stream->next->back = &stream->next;
	*list = stream;
}

void weft_stream_unlink(struct weft_hbone_stream *stream)
{
	if (!stream->back)
		return;
	*stream->back = stream->next;
	if (stream->next)
		stream->next->back = stream->back;
	else if (stream->pool && stream->pool->waiting_end == &stream->next)
		stream->pool->waiting_end = stream->back;
	stream->back = NULL;
}

void weft_stream_attach(struct weft_hbone_stream *stream, struct weft_hbone_conn *conn, int32_t id)
{
	weft_stream_unlink(stream);
	stream->conn = conn;
	stream->id = id;
	conn->refs++;
	conn->count++;
	weft_stream_link(stream, &conn->streams);
}

/* The connection's idea of a stream that moves much, so that short ones go elsewhere. */
static void moved(struct weft_hbone_stream *stream)
{
	if (stream->bulk || stream->sent + stream->received < WEFT_BULK || !stream->conn || stream->over)
		return;
	stream->bulk = true;
	stream->conn->bulk++;
}

/* nghttp2's half of it is gone. */
static void detach(struct weft_hbone_stream *stream)
{
	if (!stream->conn || stream->over)
		return;
	stream->over = true;
	stream->conn->count--;
	if (stream->bulk)
		stream->conn->bulk--;
	stream->hbone->grown -= stream->window - WEFT_WINDOW;
	stream->window = WEFT_WINDOW;
}

static void pool_done(struct weft_hbone_stream *stream)
{
	struct weft_pool *pool = weft_take_ptr(stream->pool);

	if (pool)
		weft_pool_unref(pool);
}

static void ask(struct weft_hbone_stream *stream)
{
	if (!stream->deferred || !stream->open || stream->over)
		return;
	stream->deferred = false;
	nghttp2_session_resume_data(stream->conn->session, stream->id);
	weft_conn_work(stream->conn);
}

void weft_stream_opened(struct weft_hbone_stream *stream)
{
	struct weft_hbone *hbone = stream->hbone;

	stream->open = true;
	stream->drained_ns = weft_loop_now_ns(hbone->loop);
	weft_loop_timer_stop(&stream->timer);
	if (stream->wish && !stream->wish->first)
		stream->wish = weft_wish_free(stream->wish);
	pool_done(stream);
	ask(stream);
	hbone->ops.opened(hbone->ops.context, stream, stream->user);
}

static void app_failed(struct weft_hbone_stream *stream, int error)
{
	weft_stream_end(stream, WEFT_HBONE_APP_RESET, 0, "the application's connection ended: %s", strerror(error));
}

static void end_if_done(struct weft_hbone_stream *stream)
{
	if (stream->over && stream->fin_done)
		weft_stream_end(stream, WEFT_HBONE_CLOSED, 0, "%s", "");
}

ssize_t weft_stream_read(struct weft_hbone_stream *stream, uint8_t *data, size_t size, bool *ret_end)
{
	struct weft_wish *wish = stream->wish;
	ssize_t got;

	if (stream->open && wish && wish->first) {
		size_t left = wish->first_size - wish->first_at;

		if (size > left)
			size = left;
		memcpy(data, wish->first + wish->first_at, size);
		wish->first_at += size;
		if (size == left)
			stream->wish = weft_wish_free(wish);
		stream->sent += size;
		return (ssize_t)size;
	}
	if (!stream->open || !stream->readable) {
		stream->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	do {
		got = recv(stream->app.fd, data, size, MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	if (got < 0) {
		stream->readable = false;
		stream->deferred = true;
		if (errno != EAGAIN)
			app_failed(stream, errno);
		return NGHTTP2_ERR_DEFERRED;
	}
	if (got == 0) {
		stream->fin_out = *ret_end = true;
		return 0;
	}
	/* As in conn.c: the next byte is an edge, a FIN that was announced is none. */
	if ((size_t)got < size && !stream->hup)
		stream->readable = false;
	stream->sent += (uint64_t)got;
	moved(stream);
	return got;
}

static void fin(struct weft_hbone_stream *stream)
{
	if (!stream->fin_in || stream->fin_done || stream->held_size || !stream->open)
		return;
	stream->fin_done = true;
	/* The other direction has ended: the close() that follows says it too. */
	if (stream->fin_out && !stream->over && nghttp2_session_get_stream_local_close(stream->conn->session, stream->id) == 1)
		return;
	if (shutdown(stream->app.fd, SHUT_WR) < 0 && errno != ENOTCONN)
		app_failed(stream, errno);
	else
		end_if_done(stream);
}

/* Writes pieces; what is not taken counts as 0 bytes, an error ends the stream and is -errno. */
static ssize_t give(struct weft_hbone_stream *stream, const struct iovec *piece, unsigned int pieces)
{
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)piece, .msg_iovlen = pieces };
	ssize_t took;

	do {
		took = pieces == 1 ? send(stream->app.fd, piece->iov_base, piece->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL) :
				     sendmsg(stream->app.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (took < 0 && errno == EINTR);
	if (took < 0) {
		int error = errno;

		stream->writable = false;
		if (error == EAGAIN)
			return 0;
		app_failed(stream, error);
		return -error;
	}
	return took;
}

static int hold(struct weft_hbone_stream *stream, const struct iovec *piece, unsigned int pieces, size_t skip, size_t size)
{
	char *held = malloc(stream->held_size + size);
	size_t at = stream->held_size;

	if (!held)
		return -ENOMEM;
	/* Just what is needed: rooms that double would be twice the window. */
	if (at)
		memcpy(held, stream->held + stream->held_at, at);
	for (unsigned int i = 0; i < pieces; i++) {
		size_t past = skip < piece[i].iov_len ? skip : piece[i].iov_len;

		skip -= past;
		memcpy(held + at, (const char *)piece[i].iov_base + past, piece[i].iov_len - past);
		at += piece[i].iov_len - past;
	}
	free(stream->held);
	stream->held = held;
	stream->held_at = 0;
	stream->held_size = (uint32_t)at;
	stream->hbone->held += size;
	return 0;
}

void weft_stream_deliver(struct weft_hbone_stream *stream, const struct iovec *piece, unsigned int pieces)
{
	struct weft_hbone *hbone = stream->hbone;
	struct weft_hbone_conn *conn = stream->conn;
	size_t size = 0;
	ssize_t took = 0;

	for (unsigned int i = 0; i < pieces; i++)
		size += piece[i].iov_len;
	stream->received += size;
	moved(stream);
	/*
	 * The connection's window is opened at once, so that a reader that stops is in nobody's way; unless all that readers have
	 * left lying takes more than the budget.
	 */
	if (hbone->held + size <= hbone->limits.budget)
		nghttp2_session_consume_connection(conn->session, size);
	else
		stream->owed += (uint32_t)size;
	if (stream->open && stream->writable && !stream->held_size)
		took = give(stream, piece, pieces);
	if (took < 0)
		return;
	if ((size_t)took < size) {
		stream->writable = stream->writable && !stream->open;
		if (hold(stream, piece, pieces, (size_t)took, size - (size_t)took) < 0) {
			weft_stream_end(stream, WEFT_HBONE_PEER_RESET, 0, "out of memory");
			return;
		}
	}
	if (took)
		weft_session_opened_window(stream, (size_t)took);
}

static void drain(struct weft_hbone_stream *stream)
{
	while (stream->held_size) {
		struct iovec piece = { .iov_base = stream->held + stream->held_at, .iov_len = stream->held_size };
		ssize_t took = give(stream, &piece, 1);

		if (took <= 0)
			return;
		stream->held_at += (uint32_t)took;
		stream->held_size -= (uint32_t)took;
		stream->hbone->held -= (size_t)took;
		if (!stream->held_size) {
			free(stream->held);
			stream->held = NULL;
			stream->held_at = 0;
		}
		weft_session_opened_window(stream, (size_t)took);
	}
	fin(stream);
}

void weft_stream_fin(struct weft_hbone_stream *stream)
{
	stream->fin_in = true;
	fin(stream);
}

/* A peer that renews its certificate says goodbye on one connection after the other, and the next choice may be one that it has not come to. */
#define MAX_REFUSALS 4

void weft_stream_closed(struct weft_hbone_stream *stream, uint32_t error)
{
	struct weft_pool *pool = stream->pool;

	/* The peer has not begun with it (RFC 9113 section 8.7), so that asking again does no harm. */
	if (error == NGHTTP2_REFUSED_STREAM && pool && stream->refusals < MAX_REFUSALS) {
		struct weft_hbone_conn *conn = stream->conn;

		stream->refusals++;
		stream->deferred = stream->asked = false;
		weft_stream_unlink(stream);
		detach(stream);
		stream->over = false;
		stream->conn = NULL;
		stream->id = 0;
		weft_pool_retire(conn);
		weft_pool_place(pool, stream);
		weft_conn_unref(conn);
		return;
	}
	detach(stream);
	/*
	 * After its END_STREAM a peer may take back its interest in ours with NO_ERROR or CANCEL, which ztunnel's h2 does when it drops
	 * a stream whose application has gone: that is an end, not a loss.
	 */
	if (error != NGHTTP2_NO_ERROR && !(stream->fin_in && error == NGHTTP2_CANCEL)) {
		weft_stream_end(stream, WEFT_HBONE_PEER_RESET, 0, "the peer reset the stream: %s", nghttp2_http2_strerror(error));
		return;
	}
	if (!stream->fin_in) {
		weft_stream_end(stream, WEFT_HBONE_PEER_RESET, 0, "the peer ended the stream without an end of its data");
		return;
	}
	/* What is held is its application's, whatever becomes of the connection. */
	weft_stream_unlink(stream);
	weft_stream_link(stream, &stream->hbone->last);
	end_if_done(stream);
}

static void dialled(struct weft_hbone_stream *stream)
{
	int error = 0;
	socklen_t size = sizeof(error);

	getsockopt(stream->app.fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error) {
		weft_session_respond(stream, 503);
		weft_stream_end(stream, WEFT_HBONE_UNREACHABLE, 503, "the application cannot be reached: %s", strerror(error));
		return;
	}
	weft_session_respond(stream, 200);
	weft_stream_opened(stream);
	drain(stream);
}

static void ready(struct weft_loop_io *io, uint32_t events)
{
	struct weft_hbone_stream *stream = STREAM_OF(io, app);

	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		stream->hup = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		stream->readable = true;
	if (events & EPOLLOUT)
		stream->writable = true;
	if (stream->server && !stream->open) {
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			dialled(stream);
		return;
	}
	if (events & EPOLLERR) {
		int error = 0;
		socklen_t size = sizeof(error);

		getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error) {
			app_failed(stream, error);
			return;
		}
	}
	if (!stream->open)
		return;
	if (events & EPOLLOUT && (stream->held_size || stream->fin_in))
		drain(stream);
	if (stream->readable && !stream->ended)
		ask(stream);
}

static void late(struct weft_loop_timer *timer)
{
	struct weft_hbone_stream *stream = STREAM_OF(timer, timer);

	if (stream->server) {
		weft_session_respond(stream, 503);
		weft_stream_end(stream, WEFT_HBONE_UNREACHABLE, 503, "the application did not take the connection in time");
		return;
	}
	weft_stream_end(stream, WEFT_HBONE_UNREACHABLE, 0, "the peer did not answer in time");
}

static uint32_t reset_code(const struct weft_hbone_stream *stream)
{
	switch (stream->end) {
	case WEFT_HBONE_REFUSED:
	case WEFT_HBONE_UNREACHABLE:
		return NGHTTP2_CANCEL; /* a client's, that does not want what may still come */
	case WEFT_HBONE_ABUSE:
		return NGHTTP2_ENHANCE_YOUR_CALM;
	default:
		return NGHTTP2_CONNECT_ERROR; /* RFC 9113 section 8.5: what an error of the TCP connection is */
	}
}

void weft_stream_end(struct weft_hbone_stream *stream, enum weft_hbone_end end, int status, const char *format, ...)
{
	struct weft_hbone *hbone = stream->hbone;
	struct weft_err err = { 0 };
	va_list arguments;

	if (stream->ended)
		return;
	va_start(arguments, format);
	vsnprintf(err.text, sizeof(err.text), format, arguments);
	va_end(arguments);
	stream->ended = true;
	stream->end = end;
	stream->status = status;
	if (err.text[0])
		stream->why = strdup(err.text);
	if (hbone->gather == stream) {
		hbone->gather = NULL;
		hbone->pieces = 0;
	}
	weft_loop_timer_stop(&stream->timer);
	weft_loop_remove(hbone->loop, &stream->app);
	if (stream->app.fd >= 0) {
		struct linger now = { .l_onoff = 1 };

		if (end != WEFT_HBONE_CLOSED)
			setsockopt(stream->app.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(stream->app.fd);
		stream->app.fd = -1;
	}
	if (stream->conn && stream->conn->session) {
		if (stream->owed)
			nghttp2_session_consume_connection(stream->conn->session, stream->owed);
		if (!stream->over)
			weft_session_reset(stream, reset_code(stream));
	}
	stream->owed = 0;
	detach(stream);
	weft_stream_unlink(stream);
	pool_done(stream);
	stream->wish = weft_wish_free(stream->wish);
	hbone->held -= stream->held_size;
	free(stream->held);
	stream->held = NULL;
	stream->held_size = 0;
	weft_stream_link(stream, &hbone->ended);
	weft_loop_later(hbone->loop, &hbone->tell);
}

void weft_stream_tell_ended(struct weft_loop_later *later)
{
	struct weft_hbone *hbone = (struct weft_hbone *)(void *)((char *)later - offsetof(struct weft_hbone, tell));

	while (hbone->ended) {
		struct weft_hbone_stream *stream = hbone->ended;
		struct weft_hbone_facts facts;
		struct weft_err err = { 0 };

		weft_stream_unlink(stream);
		weft_hbone_facts(stream, &facts);
		if (stream->why)
			snprintf(err.text, sizeof(err.text), "%s", stream->why);
		hbone->ops.ended(hbone->ops.context, stream, stream->user, stream->end, stream->status, &facts, &err);
		if (stream->conn)
			weft_conn_unref(stream->conn);
		free(stream->why);
		free(stream);
	}
}
