/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 on a TLS connection: what nghttp2 asks and tells, settings, headers of CONNECT and its answer. */
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

#include "proxy/engine.h"

enum {
	HEADERS_SIZE = 64 << 10, /* decoded, as RFC 9113 section 6.5.2 counts: 32 bytes a field on top */
	HEADERS_SIZE_CLIENT = 16 << 10, /* ztunnel's */
	FIELDS = 100,
	FIELD_OVERHEAD = 32,
	REQUEST_FIELDS = 5,
	GROW_AFTER = 8, /* windows that were drained */
};

struct weft_block *weft_block_free(struct weft_block *block)
{
	if (!block)
		return NULL;
	weft_buf_done(&block->text);
	weft_buf_done(&block->baggage);
	weft_buf_done(&block->forwarded);
	free(block);
	return NULL;
}

/* What came for one stream, written at once. */
static void gathered(struct weft_hbone *hbone)
{
	struct weft_hbone_stream *stream = hbone->gather;

	if (!stream)
		return;
	hbone->gather = NULL;
	weft_stream_deliver(stream, hbone->piece, hbone->pieces);
	hbone->pieces = 0;
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *context)
{
	struct weft_hbone_conn *conn = context;

	if (weft_limits_frame(conn, head))
		return 0;
	/* The frame itself is not looked at any more; the GOAWAY is all that goes out. */
	nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	struct weft_hbone_conn *conn = context;

	(void)session;
	conn->block = weft_block_free(conn->block);
	/* Nothing but DATA belongs in a tunnel (RFC 9113 section 8.5). */
	if (frame->headers.cat == NGHTTP2_HCAT_HEADERS && conn->server)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	conn->block = calloc(1, sizeof(*conn->block));
	if (!conn->block)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	conn->block->began_ns = weft_loop_now_ns(conn->hbone->loop);
	if (!(frame->hd.flags & NGHTTP2_FLAG_END_HEADERS))
		weft_loop_timer(conn->hbone->loop, &conn->timer, conn->hbone->limits.headers_ms);
	return 0;
}

/* Remembers the first value of a field. */
static int keep(struct weft_block *block, size_t *at, const uint8_t *value, size_t size)
{
	size_t before = block->text.size;
	int r = *at ? 0 : weft_buf_add(&block->text, value, size);

	if (*at || r < 0)
		return r;
	r = weft_buf_add(&block->text, "", 1);
	if (r == 0)
		*at = before + 1;
	return r;
}

/* Those of a list that come more than once are joined, RFC 9110 section 5.3: each list grows by itself, so that none is ever moved. */
static int keep_list(struct weft_buf *list, const uint8_t *value, size_t size)
{
	int r = list->size ? weft_buf_add(list, ",", 1) : 0;

	return r < 0 ? r : weft_buf_add(list, value, size);
}

static bool is(const uint8_t *name, size_t size, const char *other)
{
	return size == strlen(other) && !memcmp(name, other, size);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size, const uint8_t *value,
		     size_t size, uint8_t flags, void *context)
{
	struct weft_hbone_conn *conn = context;
	struct weft_block *block = conn->block;
	size_t most = conn->server ? HEADERS_SIZE : HEADERS_SIZE_CLIENT;
	int r = 0;

	(void)session;
	(void)frame;
	(void)flags;
	if (!block)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	block->size += name_size + size + FIELD_OVERHEAD;
	if (++block->fields > FIELDS || block->size > most)
		block->too_large = true;
	if (block->too_large)
		return 0;
	if (is(name, name_size, ":method"))
		r = keep(block, &block->method, value, size);
	else if (is(name, name_size, ":authority"))
		r = keep(block, &block->authority, value, size);
	else if (is(name, name_size, ":status") && size == 3)
		block->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0';
	else if (is(name, name_size, "baggage"))
		r = keep_list(&block->baggage, value, size);
	else if (is(name, name_size, "forwarded"))
		r = keep_list(&block->forwarded, value, size);
	else if (is(name, name_size, "traceparent"))
		r = keep(block, &block->traceparent, value, size);
	return r < 0 ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

/* Without this nghttp2 leaves a field out that it does not like, and goes on. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
			     const uint8_t *value, size_t size, uint8_t flags, void *context)
{
	(void)session;
	(void)frame;
	(void)name;
	(void)name_size;
	(void)value;
	(void)size;
	(void)flags;
	(void)context;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void answer(nghttp2_session *session, int32_t id, int status)
{
	char text[4];
	nghttp2_nv field = { .name = (uint8_t *)":status", .value = (uint8_t *)text, .namelen = 7, .valuelen = 3,
			     .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME };

	snprintf(text, sizeof(text), "%03u", (unsigned int)status % 1000);
	nghttp2_submit_response(session, id, &field, 1, NULL);
}

/* Says no without a stream of ours. */
static void turn_away(struct weft_hbone_conn *conn, int32_t id, int status)
{
	weft_hbone_count(conn->hbone, WEFT_COUNTED_BAD_REQUEST);
	answer(conn->session, id, status);
}

static const char *text_at(const struct weft_block *block, size_t at)
{
	return at ? block->text.data + at - 1 : "";
}

static void on_request(struct weft_hbone_conn *conn, int32_t id, bool end)
{
	struct weft_hbone *hbone = conn->hbone;
	struct weft_block *block = weft_take_ptr(conn->block);
	struct weft_hbone_stream *stream;
	struct weft_hbone_headers headers;
	struct weft_hbone_peer peer;

	if (!block)
		return;
	if (block->too_large || strcmp(text_at(block, block->method), "CONNECT") != 0) {
		turn_away(conn, id, block->too_large ? 431 : 400);
		weft_block_free(block);
		return;
	}
	if (weft_stream_new(hbone, &stream) < 0) {
		turn_away(conn, id, 503);
		weft_block_free(block);
		return;
	}
	stream->server = true;
	stream->fin_in = end;
	weft_stream_attach(stream, conn, id);
	nghttp2_session_set_stream_user_data(conn->session, id, stream);
	weft_loop_timer(hbone->loop, &stream->timer, hbone->limits.headers_ms);
	headers = (struct weft_hbone_headers){ .authority = text_at(block, block->authority),
					       .baggage = block->baggage.data ? block->baggage.data : "",
					       .forwarded = block->forwarded.data ? block->forwarded.data : "",
					       .traceparent = text_at(block, block->traceparent) };
	peer = (struct weft_hbone_peer){ .identity = conn->peer_identity, .addr = conn->peer, .local = conn->local,
					 .port = conn->peer_port, .netns = conn->netns };
	hbone->ops.request(hbone->ops.context, stream, &peer, &headers, &stream->user);
	weft_block_free(block);
}

static void on_response(struct weft_hbone_conn *conn, struct weft_hbone_stream *stream)
{
	struct weft_block *block = weft_take_ptr(conn->block);
	int status = !block || block->too_large ? 0 : block->status;
	char text[WEFT_ADDR_TEXT];

	weft_block_free(block);
	if (status >= 100 && status < 200)
		return;
	if (status == 200 && !stream->open)
		weft_stream_opened(stream);
	else if (!stream->open)
		weft_stream_end(stream, WEFT_HBONE_REFUSED, status, "%s refused the tunnel: status %d",
				weft_addr_port_format(&conn->peer, conn->peer_port, text), status);
	else
		weft_stream_end(stream, WEFT_HBONE_PEER_RESET, 0, "the peer sent headers in the middle of a tunnel");
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	struct weft_hbone_conn *conn = context;
	struct weft_hbone_stream *stream;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		gathered(conn->hbone);
		if (conn->server) {
			on_request(conn, frame->hd.stream_id, frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
			break;
		}
		stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
		if (stream)
			on_response(conn, stream);
		break;
	case NGHTTP2_SETTINGS:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && !conn->settled) {
			conn->settled = true;
			weft_loop_timer(conn->hbone->loop, &conn->timer, conn->hbone->limits.ping_ms);
		}
		break;
	case NGHTTP2_GOAWAY:
		weft_pool_retire(conn);
		break;
	default:
		break;
	}
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM && (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)) {
		gathered(conn->hbone);
		stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
		if (stream)
			weft_stream_fin(stream);
	}
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *context)
{
	struct weft_hbone_conn *conn = context;
	struct weft_hbone *hbone = conn->hbone;
	struct weft_hbone_stream *stream = nghttp2_session_get_stream_user_data(session, id);
	struct iovec *last;

	(void)flags;
	if (!stream) {
		nghttp2_session_consume(session, id, size);
		return 0;
	}
	if (hbone->gather != stream || hbone->pieces == WEFT_GATHER)
		gathered(hbone);
	/* Delivering may have ended any stream, this one too. */
	if (nghttp2_session_get_stream_user_data(session, id) != stream) {
		nghttp2_session_consume(session, id, size);
		return 0;
	}
	hbone->gather = stream;
	last = hbone->pieces ? &hbone->piece[hbone->pieces - 1] : NULL;
	if (last && (const uint8_t *)last->iov_base + last->iov_len == data)
		last->iov_len += size;
	else
		hbone->piece[hbone->pieces++] = (struct iovec){ .iov_base = (void *)(uintptr_t)data, .iov_len = size };
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *context)
{
	struct weft_hbone_conn *conn = context;
	struct weft_hbone_stream *stream = nghttp2_session_get_stream_user_data(session, id);

	if (stream) {
		gathered(conn->hbone);
		stream = nghttp2_session_get_stream_user_data(session, id);
	}
	if (stream)
		weft_stream_closed(stream, error);
	return 0;
}

/* Resets that nghttp2 answers a peer's faults with are work that the peer makes (CVE-2025-8671, MadeYouReset). */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	struct weft_hbone_conn *conn = context;

	if (frame->hd.type == NGHTTP2_DATA)
		weft_limits_earn(conn, frame->hd.length);
	if (frame->hd.type == NGHTTP2_HEADERS && !conn->server) {
		struct weft_hbone_stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

		if (stream)
			stream->asked = true;
	}
	/* A refusal is complete: nothing more is wanted (RFC 9113 section 8.1). Asked for earlier, nghttp2 would not send the refusal. */
	if (conn->server && frame->hd.type == NGHTTP2_HEADERS && frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
	    nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0) {
		conn->limits.own_resets++;
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	}
	if (frame->hd.type != NGHTTP2_RST_STREAM)
		return 0;
	if (conn->limits.own_resets) {
		conn->limits.own_resets--;
		weft_limits_forgive(conn);
	} else if (!conn->abuse && !weft_limits_reset(conn)) {
		nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
	}
	return 0;
}

static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error, void *context)
{
	struct weft_hbone_conn *conn = context;

	(void)session;
	(void)error;
	if (frame->hd.type == NGHTTP2_RST_STREAM && conn->limits.own_resets)
		conn->limits.own_resets--;
	return 0;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t size, uint32_t *flags, nghttp2_data_source *source,
		       void *context)
{
	struct weft_hbone_conn *conn = context;
	struct weft_hbone_stream *stream = nghttp2_session_get_stream_user_data(session, id);
	bool end = false;
	ssize_t got;

	(void)buffer;
	(void)source;
	if (!stream)
		return NGHTTP2_ERR_DEFERRED;
	got = weft_stream_read(stream, conn->hbone->plain + conn->hbone->plain_size + 9, size, &end);
	if (got < 0)
		return got;
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY | (end ? NGHTTP2_DATA_FLAG_EOF : 0);
	return got;
}

/* As long as a wake-up is: fewer system calls at both ends for bulk, and a short frame waits no longer than for 64 KiB anyway. */
static ssize_t on_read_length(nghttp2_session *session, uint8_t type, int32_t id, int32_t window, int32_t stream_window, uint32_t most,
			      void *context)
{
	(void)session;
	(void)type;
	(void)id;
	(void)window;
	(void)stream_window;
	(void)context;
	return most < WEFT_FRAME ? (ssize_t)most : WEFT_FRAME;
}

/* on_read() has put the payload behind the place of this header. */
static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t size, nghttp2_data_source *source,
			void *context)
{
	struct weft_hbone_conn *conn = context;
	struct weft_hbone *hbone = conn->hbone;

	(void)session;
	(void)frame;
	(void)source;
	memcpy(hbone->plain + hbone->plain_size, head, 9);
	hbone->plain_size += 9 + size;
	return hbone->plain_size >= WEFT_PLAIN_FULL ? NGHTTP2_ERR_PAUSE : 0;
}

int weft_session_engine_setup(struct weft_hbone *hbone)
{
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&hbone->callbacks) || nghttp2_option_new(&hbone->option))
		return -ENOMEM;
	callbacks = hbone->callbacks;
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
	nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
	nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, on_read_length);
	nghttp2_option_set_no_auto_window_update(hbone->option, 1);
	/* Closed streams are kept for the priorities of RFC 7540, which RFC 9113 gave up. */
	nghttp2_option_set_no_closed_streams(hbone->option, 1);
	nghttp2_option_set_peer_max_concurrent_streams(hbone->option, WEFT_STREAMS_USED);
	return 0;
}

int weft_session_new(struct weft_hbone_conn *conn)
{
	struct weft_hbone *hbone = conn->hbone;
	nghttp2_settings_entry settings[5] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WEFT_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, WEFT_FRAME },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, conn->server ? HEADERS_SIZE : HEADERS_SIZE_CLIENT },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, conn->server ? WEFT_STREAMS_TAKEN : 0 },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
	};
	int r = conn->server ? nghttp2_session_server_new2(&conn->session, hbone->callbacks, conn, hbone->option) :
			       nghttp2_session_client_new2(&conn->session, hbone->callbacks, conn, hbone->option);

	if (r)
		return -ENOMEM;
	if (nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings, conn->server ? 4 : 5) ||
	    nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0, (int32_t)conn->window))
		return -ENOMEM;
	return 0;
}

int weft_session_input(struct weft_hbone_conn *conn, const uint8_t *data, size_t size)
{
	ssize_t took = nghttp2_session_mem_recv(conn->session, data, size);

	gathered(conn->hbone);
	if (took >= 0)
		return 0;
	/* Limits of nghttp2's own, on CONTINUATION, SETTINGS and what it would have to answer, come before some of ours. */
	if (took == NGHTTP2_ERR_BAD_CLIENT_MAGIC || took == NGHTTP2_ERR_NOMEM) {
		nghttp2_session_terminate_session(conn->session, took == NGHTTP2_ERR_NOMEM ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_PROTOCOL_ERROR);
	} else if (!conn->abuse) {
		conn->abuse = "frames that have to be answered, or belong to one header block";
		nghttp2_session_terminate_session(conn->session, NGHTTP2_ENHANCE_YOUR_CALM);
	}
	return -EPROTO;
}

int weft_session_output(struct weft_hbone_conn *conn)
{
	struct weft_hbone *hbone = conn->hbone;

	hbone->plain_size = 0;
	while (hbone->plain_size < WEFT_PLAIN_FULL) {
		const uint8_t *data;
		ssize_t size = nghttp2_session_mem_send(conn->session, &data);

		if (size < 0 || (size_t)size > sizeof(hbone->plain) - hbone->plain_size)
			return -EPROTO;
		if (!size)
			break;
		memcpy(hbone->plain + hbone->plain_size, data, (size_t)size);
		hbone->plain_size += (size_t)size;
	}
	return 0;
}

static void field(nghttp2_nv *fields, size_t *count, const char *name, const char *value, uint8_t flags)
{
	if (value)
		fields[(*count)++] = (nghttp2_nv){ .name = (uint8_t *)(uintptr_t)name, .value = (uint8_t *)(uintptr_t)value,
						   .namelen = strlen(name), .valuelen = strlen(value),
						   .flags = (uint8_t)(NGHTTP2_NV_FLAG_NO_COPY_NAME | flags) };
}

int weft_session_request(struct weft_hbone_conn *conn, struct weft_hbone_stream *stream)
{
	const struct weft_wish *wish = stream->wish;
	nghttp2_data_provider provider = { .read_callback = on_read };
	nghttp2_nv fields[REQUEST_FIELDS];
	size_t count = 0;
	int32_t id;

	field(fields, &count, ":method", "CONNECT", 0);
	field(fields, &count, ":authority", wish->authority, 0);
	field(fields, &count, "baggage", wish->baggage, 0);
	/* Other for every stream: in the peer's table they would only push out what is not. */
	field(fields, &count, "forwarded", wish->forwarded, NGHTTP2_NV_FLAG_NO_INDEX);
	field(fields, &count, "traceparent", wish->traceparent, NGHTTP2_NV_FLAG_NO_INDEX);
	id = nghttp2_submit_request(conn->session, NULL, fields, count, &provider, stream);
	if (id < 0)
		return id == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EAGAIN;
	weft_stream_attach(stream, conn, id);
	weft_conn_work(conn);
	return 0;
}

void weft_session_respond(struct weft_hbone_stream *stream, int status)
{
	struct weft_hbone_conn *conn = stream->conn;
	nghttp2_data_provider provider = { .read_callback = on_read };
	nghttp2_nv ok = { .name = (uint8_t *)":status", .value = (uint8_t *)"200", .namelen = 7, .valuelen = 3,
			  .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };

	if (status == 200) {
		nghttp2_submit_response(conn->session, stream->id, &ok, 1, &provider);
	} else {
		answer(conn->session, stream->id, status);
		stream->refused = true;
	}
	weft_conn_work(conn);
}

void weft_session_reset(struct weft_hbone_stream *stream, uint32_t error)
{
	struct weft_hbone_conn *conn = stream->conn;

	nghttp2_session_set_stream_user_data(conn->session, stream->id, NULL);
	if (stream->refused)
		return;
	conn->limits.own_resets++;
	nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, stream->id, error);
	weft_conn_work(conn);
}

bool weft_session_has_room(const struct weft_hbone_conn *conn)
{
	uint32_t most;

	if (conn->state != WEFT_CONN_UP || conn->stopping || !nghttp2_session_check_request_allowed(conn->session))
		return false;
	most = nghttp2_session_get_remote_settings(conn->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	return conn->count < (most < WEFT_STREAMS_USED ? most : WEFT_STREAMS_USED);
}

/* Whether its application has read what it was given: a socket's own room is no reader. */
static bool reads(const struct weft_hbone_stream *stream)
{
	int queued = 0;

	return !stream->held_size && ioctl(stream->app.fd, SIOCOUTQ, &queued) == 0 && (uint32_t)queued < stream->window;
}

/*
 * The application took `size` bytes. While it reads what comes, and the window is what a round trip waits for, the window doubles:
 * an application that stops later has been given that much, out of a budget that is the process's. One that never reads fills its
 * own socket, up to some 600 KiB, which is not yet enough to look like a reader.
 */
void weft_session_opened_window(struct weft_hbone_stream *stream, size_t size)
{
	struct weft_hbone_conn *conn = stream->conn;
	struct weft_hbone *hbone = stream->hbone;
	uint64_t now = weft_loop_now_ns(hbone->loop), took;
	uint32_t back = size < stream->owed ? (uint32_t)size : stream->owed;

	if (!conn || !conn->session)
		return;
	if (back) {
		stream->owed -= back;
		nghttp2_session_consume_connection(conn->session, back);
		weft_conn_work(conn);
	}
	if (stream->over || stream->fin_in)
		return;
	nghttp2_session_consume_stream(conn->session, stream->id, size);
	weft_conn_work(conn);
	stream->drained += (uint32_t)size;
	if (stream->drained < GROW_AFTER * stream->window)
		return;
	took = now - stream->drained_ns;
	stream->drained = 0;
	stream->drained_ns = now;
	if (stream->received < WEFT_BULK || stream->window >= WEFT_WINDOW_MAX || took > 4 * GROW_AFTER * weft_conn_rtt_ns(conn) ||
	    hbone->grown + stream->window > hbone->limits.budget || !reads(stream))
		return;
	hbone->grown += stream->window;
	stream->window *= 2;
	nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, stream->id, (int32_t)stream->window);
	if (stream->window * 4 > conn->window && conn->window < WEFT_CONN_WINDOW_MAX) {
		conn->window = stream->window * 4 > WEFT_CONN_WINDOW_MAX ? WEFT_CONN_WINDOW_MAX : stream->window * 4;
		nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0, (int32_t)conn->window);
	}
}
