/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a peer says inside TLS, into a session of ours. The first byte: 0 a server, 1 a client with one stream that waits for its answer; then
 * parts, each a byte of size and that many bytes, which arrive in one wake-up; a part of size 0 is a connect() that succeeds.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct weft_hbone_stream *asked;
	unsigned int live;
};

static int new_socket(void *context, uint64_t netns, int family)
{
	(void)context;
	(void)netns;
	(void)family;
	return -EINPROGRESS;
}

static void request(void *context, struct weft_hbone_stream *stream, const struct weft_hbone_peer *peer,
		    const struct weft_hbone_headers *headers, void **ret_user)
{
	struct fuzz *fuzz = context;

	assert(!strcmp(peer->identity, "spiffe://a/b"));
	fuzz->live++;
	*ret_user = fuzz;
	/* Some are refused, by what they said. */
	if ((strlen(headers->authority) + strlen(headers->baggage) + strlen(headers->forwarded) + strlen(headers->traceparent)) % 3 == 0)
		weft_hbone_refuse(stream, 401);
	else
		fuzz->asked = stream;
}

static void opened(void *context, struct weft_hbone_stream *stream, void *user)
{
	(void)context;
	(void)stream;
	(void)user;
}

static void ended(void *context, struct weft_hbone_stream *stream, void *user, enum weft_hbone_end end, int status,
		  const struct weft_hbone_facts *facts, const struct weft_err *err)
{
	struct fuzz *fuzz = context;

	(void)user;
	(void)end;
	(void)status;
	(void)facts;
	(void)err;
	assert(fuzz->live);
	fuzz->live--;
	if (fuzz->asked == stream)
		fuzz->asked = NULL;
}

static void counted(void *context, unsigned int what)
{
	(void)context;
	(void)what;
}

static void client_stream(struct weft_hbone *hbone, struct weft_hbone_conn *conn, int app)
{
	struct weft_hbone_stream *stream;

	assert(weft_stream_new(hbone, &stream) == 0);
	stream->wish = calloc(1, sizeof(*stream->wish));
	stream->wish->authority = strdup("10.0.0.7:80");
	assert(weft_stream_app(stream, app) == 0);
	assert(weft_session_request(conn, stream) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz fuzz = { 0 };
	struct weft_hbone_ops ops = { .socket = new_socket, .request = request, .opened = opened, .ended = ended, .count = counted,
				      .context = &fuzz };
	weft_cleanup(weft_loop_freep) struct weft_loop *loop = NULL;
	struct weft_hbone *hbone;
	struct weft_hbone_conn *conn;
	int app[2];
	size_t at = 1;

	if (!size)
		return 0;
	assert(weft_loop_new(&loop) == 0 && weft_hbone_new(loop, NULL, &ops, NULL, &hbone) == 0);
	assert(weft_conn_new(hbone, NULL, !(data[0] & 1), &conn) == 0);
	conn->peer_identity = strdup("spiffe://a/b");
	assert(weft_session_new(conn) == 0);
	/* Up, but nothing is ever put off to the loop: there is no TLS below. */
	conn->refs++;
	if (!conn->server) {
		assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, app) == 0);
		fuzz.live++;
		client_stream(hbone, conn, app[1]);
	}
	while (at < size) {
		size_t part = data[at++];

		if (part > size - at)
			part = size - at;
		if (!part && fuzz.asked) {
			int pair[2];

			assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
			close(pair[1]);
			weft_hbone_dial(fuzz.asked, pair[0]);
			fuzz.asked->app.ready(&fuzz.asked->app, 4 /* EPOLLOUT */);
			fuzz.asked = NULL;
		}
		if (weft_session_input(conn, data + at, part) < 0)
			break;
		at += part;
		if (weft_session_output(conn) < 0)
			break;
		weft_stream_tell_ended(&hbone->tell);
	}
	weft_session_output(conn);
	weft_conn_fail(conn, WEFT_HBONE_PEER_RESET, "the end");
	weft_conn_unref(conn);
	weft_hbone_free(hbone);
	assert(!fuzz.live);
	if (data[0] & 1)
		close(app[0]);
	return 0;
}
