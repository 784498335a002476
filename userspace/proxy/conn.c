/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS connection and its bytes: dialling, handshake, reading, gathering and sending, its time-outs and its end. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "proxy/engine.h"

enum {
	CONNECT_MS = 10000, /* ztunnel's connect time-out */
	PONG_MS = 20000, /* ztunnel: src/proxy/h2/client.rs */
	LINGER_MS = 1000,
	GOAWAY_MS = 1000, /* between the notice of a drain and its last word: streams that were under way arrive, RFC 9113 section 6.8 */
	TURNS = 8, /* of the plain buffer, before others get theirs */
	HANDSHAKES = 1024, /* at a time; a handshake holds some 60 KiB of OpenSSL's */
	UNSENT = 256 << 10, /* bytes of bulk in a socket that a short answer waits behind */
};

static void ready(struct weft_loop_io *io, uint32_t events);
static void fired(struct weft_loop_timer *timer);
static void work(struct weft_loop_later *later);

#define CONN_OF(pointer, member) ((struct weft_hbone_conn *)(void *)((char *)(pointer) - offsetof(struct weft_hbone_conn, member)))

/*
 * The bottom of an SSL: reads from the socket, as much as OpenSSL has room for, and no second time after a short answer; writes into
 * hbone->records, from where all records of a wake-up leave together.
 */
static int bio_write(BIO *bio, const char *data, size_t size, size_t *ret_written)
{
	struct weft_hbone_conn *conn = BIO_get_data(bio);

	if (weft_buf_add(&conn->hbone->records, data, size) < 0)
		return 0;
	*ret_written = size;
	return 1;
}

static int bio_read(BIO *bio, char *data, size_t size, size_t *ret_read)
{
	struct weft_hbone_conn *conn = BIO_get_data(bio);
	ssize_t got;

	BIO_clear_retry_flags(bio);
	if (!conn->readable) {
		BIO_set_retry_read(bio);
		return 0;
	}
	got = recv(conn->io.fd, data, size, MSG_DONTWAIT);
	if (got > 0) {
		/* The next byte is a new edge of epoll's; a FIN that was announced already is none. */
		if ((size_t)got < size && !conn->hup)
			conn->readable = false;
		*ret_read = (size_t)got;
		return 1;
	}
	if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
		conn->readable = errno == EINTR;
		BIO_set_retry_read(bio);
	}
	return 0;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

int weft_conn_engine_setup(struct weft_hbone *hbone)
{
	hbone->bio = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weft socket");
	if (!hbone->bio || !BIO_meth_set_write_ex(hbone->bio, bio_write) || !BIO_meth_set_read_ex(hbone->bio, bio_read) ||
	    !BIO_meth_set_ctrl(hbone->bio, bio_ctrl) || !BIO_meth_set_create(hbone->bio, bio_create))
		return -ENOMEM;
	return 0;
}

int weft_conn_new(struct weft_hbone *hbone, struct weft_identity *identity, bool server, struct weft_hbone_conn **ret_conn)
{
	struct weft_hbone_conn *conn;

	/* At the limit a new connection takes the place of the oldest that has no peer yet. */
	if (hbone->count > hbone->limits.connections || (hbone->count == hbone->limits.connections && !hbone->handshaking))
		return -EMFILE;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return -ENOMEM;
	conn->hbone = hbone;
	conn->io = (struct weft_loop_io){ .ready = ready, .fd = -1 };
	conn->timer.fired = fired;
	conn->work.run = work;
	conn->identity = weft_identity_ref(identity);
	conn->server = server;
	conn->window = WEFT_CONN_WINDOW;
	conn->rx_ns = conn->idle_ns = weft_loop_now_ns(hbone->loop);
	conn->next = hbone->conns;
	conn->back = &hbone->conns;
	if (conn->next)
		conn->next->back = &conn->next;
	hbone->conns = conn;
	hbone->count++;
	*ret_conn = conn;
	return 0;
}

static void wait_remove(struct weft_hbone_conn *conn)
{
	if (!conn->wait_back)
		return;
	*conn->wait_back = conn->wait_next;
	if (conn->wait_next)
		conn->wait_next->wait_back = conn->wait_back;
	conn->wait_back = NULL;
	if (conn->in_handshakes)
		conn->hbone->handshaking--;
	conn->in_handshakes = false;
}

static void wait_add(struct weft_hbone_conn *conn, struct weft_hbone_conn **list)
{
	wait_remove(conn);
	while (*list)
		list = &(*list)->wait_next;
	conn->wait_next = NULL;
	conn->wait_back = list;
	*list = conn;
}

static void handshakes_add(struct weft_hbone_conn *conn)
{
	struct weft_hbone *hbone = conn->hbone;

	wait_remove(conn);
	conn->wait_next = hbone->handshakes;
	conn->wait_back = &hbone->handshakes;
	if (conn->wait_next)
		conn->wait_next->wait_back = &conn->wait_next;
	hbone->handshakes = conn;
	conn->in_handshakes = true;
	hbone->handshaking++;
}

/* A good peer's handshake takes milliseconds, so that the oldest of a thousand is one that was begun to be in the way. */
static void make_room(struct weft_hbone *hbone)
{
	struct weft_hbone_conn *oldest = NULL;

	if (hbone->handshaking < HANDSHAKES && (!hbone->handshaking || hbone->count <= hbone->limits.connections))
		return;
	/* Ours are for our own pods, and as many as these want: what comes from outside is what can be too much. */
	for (struct weft_hbone_conn *conn = hbone->handshakes; conn; conn = conn->wait_next)
		if (conn->server)
			oldest = conn;
	if (!oldest)
		return;
	weft_hbone_count(hbone, WEFT_COUNTED_ABUSE);
	weft_conn_fail(oldest, WEFT_HBONE_UNREACHABLE, "the handshake was given up: %u others are under way", hbone->handshaking);
}

static void addr_of(const struct sockaddr_storage *from, struct weft_addr *ret_addr, uint16_t *ret_port)
{
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
		unsigned char bytes[16] = { [10] = 0xff, 0xff };

		memcpy(bytes + 12, &v4->sin_addr, 4);
		memcpy(ret_addr, bytes, sizeof(*ret_addr));
		*ret_port = ntohs(v4->sin_port);
	} else if (from->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;

		memcpy(ret_addr, &v6->sin6_addr, sizeof(*ret_addr));
		*ret_port = ntohs(v6->sin6_port);
	}
}

static socklen_t sockaddr_of(const struct weft_addr *addr, uint16_t port, struct sockaddr_storage *ret_to)
{
	*ret_to = (struct sockaddr_storage){ 0 };
	if (weft_addr_is_v4(addr)) {
		struct sockaddr_in *v4 = (struct sockaddr_in *)ret_to;

		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		memcpy(&v4->sin_addr, (const char *)addr + 12, 4);
		return sizeof(*v4);
	}
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_to;

	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	memcpy(&v6->sin6_addr, addr, sizeof(v6->sin6_addr));
	return sizeof(*v6);
}

static void socket_options(int fd)
{
	int on = 1, unsent = UNSENT;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

static int watch(struct weft_hbone_conn *conn)
{
	/* Edges: nothing is ever changed about what is waited for, which saves a system call or two a request. */
	return weft_loop_set(conn->hbone->loop, &conn->io, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

int weft_conn_accept(struct weft_hbone_conn *conn, int fd)
{
	struct sockaddr_storage end = { 0 };
	socklen_t size = sizeof(end);
	uint16_t port;
	int r;

	if (getpeername(fd, (struct sockaddr *)&end, &size) == 0)
		addr_of(&end, &conn->peer, &conn->peer_port);
	size = sizeof(end);
	if (getsockname(fd, (struct sockaddr *)&end, &size) == 0)
		addr_of(&end, &conn->local, &port);
	socket_options(fd);
	conn->io.fd = fd;
	r = watch(conn);
	if (r < 0) {
		conn->io.fd = -1;
		return r;
	}
	conn->state = WEFT_CONN_QUIET;
	make_room(conn->hbone);
	handshakes_add(conn);
	weft_loop_timer(conn->hbone->loop, &conn->timer, conn->hbone->limits.handshake_ms);
	return 0;
}

static int tls_begin(struct weft_hbone_conn *conn)
{
	const char *const *expected = conn->pool ? (const char *const *)conn->pool->expected : NULL;
	BIO *bio;
	int r;

	if (!conn->server) {
		make_room(conn->hbone);
		handshakes_add(conn);
	}
	r = conn->server ? weft_identity_server(conn->identity, &conn->ssl) : weft_identity_client(conn->identity, expected, &conn->ssl);
	if (r < 0)
		return r;
	bio = BIO_new(conn->hbone->bio);
	if (!bio)
		return -ENOMEM;
	BIO_set_data(bio, conn);
	SSL_set_bio(conn->ssl, bio, bio);
	/* Many records a recv(); and no buffer of OpenSSL's while a connection rests. */
	SSL_set_read_ahead(conn->ssl, 1);
	SSL_set_default_read_buffer_len(conn->ssl, 64 << 10);
	SSL_set_mode(conn->ssl, SSL_MODE_RELEASE_BUFFERS);
	/* hbone->records takes everything. */
	SSL_clear_mode(conn->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
	conn->state = WEFT_CONN_HANDSHAKE;
	weft_loop_timer(conn->hbone->loop, &conn->timer, conn->hbone->limits.handshake_ms);
	return 0;
}

/* Takes what OpenSSL wrote to the socket, and keeps the rest. -errno: the socket is broken. */
static int push(struct weft_hbone_conn *conn)
{
	struct weft_buf *records = &conn->hbone->records;
	size_t at = 0;

	while (conn->out_at < conn->out.size) {
		ssize_t took = send(conn->io.fd, conn->out.data + conn->out_at, conn->out.size - conn->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (took < 0 && errno == EINTR)
			continue;
		if (took < 0) {
			if (errno != EAGAIN) {
				weft_buf_clear(records);
				return -errno;
			}
			break;
		}
		conn->out_at += (size_t)took;
	}
	if (conn->out.size && conn->out_at == conn->out.size) {
		weft_buf_done(&conn->out);
		conn->out_at = 0;
	}
	while (!conn->out.size && at < records->size) {
		ssize_t took = send(conn->io.fd, records->data + at, records->size - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (took < 0 && errno == EINTR)
			continue;
		if (took < 0) {
			if (errno != EAGAIN) {
				weft_buf_clear(records);
				return -errno;
			}
			break;
		}
		at += (size_t)took;
	}
	if (at < records->size) {
		int r = weft_buf_add(&conn->out, records->data + at, records->size - at);

		weft_buf_clear(records);
		return r;
	}
	weft_buf_clear(records);
	return 0;
}

static void refused(struct weft_hbone_conn *conn)
{
	const char *why = weft_identity_refusal(conn->ssl);
	unsigned long code = ERR_peek_error();
	char text[160] = "the peer closed the connection";

	if (why[0]) {
		weft_hbone_count(conn->hbone, WEFT_COUNTED_PEER_REFUSED);
		weft_conn_fail(conn, WEFT_HBONE_PEER_NOT_TRUSTED, "%s", why);
		return;
	}
	if (code)
		ERR_error_string_n(code, text, sizeof(text));
	weft_hbone_count(conn->hbone, WEFT_COUNTED_HANDSHAKE_FAILED);
	/* A TLS 1.3 alert about a certificate: the other side does not believe ours. */
	weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "the TLS handshake failed: %s", text);
}

/* Only now it is known who wants it. */
static bool is_within_share(struct weft_hbone_conn *conn)
{
	struct weft_hbone *hbone = conn->hbone;
	int r = weft_shares_take(hbone->shares, conn->peer_identity, strlen(conn->peer_identity) + 1, &conn->share);

	if (r == 0)
		return true;
	if (r == -EDQUOT) {
		weft_hbone_count(hbone, WEFT_COUNTED_FAIR_SHARE);
		if (hbone->ops.over_share)
			hbone->ops.over_share(hbone->ops.context, conn->peer_identity, &conn->peer, conn->peer_port);
	}
	weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "%s", r == -EDQUOT ? "the peer has its fair share of connections" : "out of memory");
	return false;
}

static void up(struct weft_hbone_conn *conn)
{
	struct weft_hbone *hbone = conn->hbone;
	const char *peer = weft_identity_peer(conn->ssl);

	wait_remove(conn);
	conn->peer_identity = strdup(peer ? peer : "");
	/* Jobs are for signatures, and there is none from here on. */
	SSL_clear_mode(conn->ssl, SSL_MODE_ASYNC);
	if (!conn->peer_identity || weft_session_new(conn) < 0) {
		weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "out of memory");
		return;
	}
	if (conn->server && !is_within_share(conn))
		return;
	conn->state = WEFT_CONN_UP;
	conn->idle_ns = weft_loop_now_ns(hbone->loop);
	weft_hbone_count(hbone, WEFT_COUNTED_HANDSHAKES);
	/* First for its SETTINGS. */
	weft_loop_timer(hbone->loop, &conn->timer, hbone->limits.headers_ms);
	if (conn->pool)
		weft_pool_up(conn);
	if (hbone->draining) {
		weft_pool_retire(conn);
		conn->draining = true;
	}
	weft_conn_work(conn);
}

void weft_conn_handshake(struct weft_hbone_conn *conn)
{
	int done, error, r;

	if (conn->state != WEFT_CONN_HANDSHAKE)
		return;
	ERR_clear_error();
	if (conn->hbone->keys)
		weft_remote_waiter(conn->hbone->keys, conn);
	done = SSL_do_handshake(conn->ssl);
	error = done == 1 ? SSL_ERROR_NONE : SSL_get_error(conn->ssl, done);
	if (conn->hbone->keys)
		weft_remote_waiter(conn->hbone->keys, NULL);
	r = push(conn);
	if (done == 1 && r == 0)
		up(conn);
	else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_ASYNC)
		refused(conn);
	else if (r < 0)
		weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "the peer closed the connection during the handshake: %s", strerror(-r));
}

void weft_conn_dial(struct weft_hbone_conn *conn)
{
	struct weft_hbone *hbone = conn->hbone;
	int fd = hbone->ops.socket(hbone->ops.context, conn->pool->netns, weft_addr_is_v4(&conn->pool->peer) ? AF_INET : AF_INET6);

	conn->peer = conn->pool->peer;
	conn->peer_port = conn->pool->port;
	conn->local = conn->pool->source;
	conn->netns = conn->pool->netns;
	weft_loop_timer(hbone->loop, &conn->timer, CONNECT_MS);
	if (fd == -EINPROGRESS)
		wait_add(conn, &hbone->sockets);
	else
		weft_conn_socket(conn, fd);
}

void weft_conn_socket(struct weft_hbone_conn *conn, int fd)
{
	struct sockaddr_storage to;
	socklen_t size;
	int on = 1, r = 0;

	wait_remove(conn);
	/* Whatever goes wrong is told by the timer, because who opens a stream is not told before he has it. */
	if (fd < 0) {
		conn->abuse = "no socket for a connection to the peer's agent";
		weft_loop_timer(conn->hbone->loop, &conn->timer, 0);
		return;
	}
	conn->io.fd = fd;
	conn->state = WEFT_CONN_CONNECT;
	socket_options(fd);
	size = sockaddr_of(&conn->local, 0, &to);
	/* Else a source address would have 28,000 ports for all peers together. */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (!weft_addr_is_any(&conn->local) && bind(fd, (struct sockaddr *)&to, size) < 0)
		r = -errno;
	size = sockaddr_of(&conn->peer, conn->peer_port, &to);
	if (r == 0 && connect(fd, (struct sockaddr *)&to, size) < 0 && errno != EINPROGRESS)
		r = -errno;
	if (r == 0)
		r = watch(conn);
	if (r < 0) {
		conn->abuse = strerrordesc_np(-r);
		weft_loop_timer(conn->hbone->loop, &conn->timer, 0);
	}
}

/* All of what is there, at most one buffer full a wake-up: the others wait. *ret_more: there may be more, also in OpenSSL. */
static int read_in(struct weft_hbone_conn *conn, bool *ret_more)
{
	struct weft_hbone *hbone = conn->hbone;
	size_t size = 0, got;
	bool failed = false;
	int r = 0;

	while (size < sizeof(hbone->in) && (conn->readable || SSL_has_pending(conn->ssl))) {
		if (SSL_read_ex(conn->ssl, hbone->in + size, sizeof(hbone->in) - size, &got) == 1) {
			size += got;
			continue;
		}
		/* What SSL_get_error() says too, at the price of OpenSSL's queue of errors for every read. */
		failed = !SSL_want_read(conn->ssl) || !BIO_should_read(SSL_get_rbio(conn->ssl));
		break;
	}
	*ret_more = size == sizeof(hbone->in);
	if (size)
		r = weft_session_input(conn, hbone->in, size);
	if (!failed)
		return r;
	ERR_clear_error();
	return r < 0 ? r : SSL_get_shutdown(conn->ssl) & SSL_RECEIVED_SHUTDOWN ? -ESHUTDOWN : -ECONNRESET;
}

static void abused(struct weft_hbone_conn *conn)
{
	char text[WEFT_ADDR_TEXT];
	const char *abuse = conn->abuse;
	struct weft_hbone_stream *next;

	weft_hbone_count(conn->hbone, WEFT_COUNTED_ABUSE);
	weft_pool_retire(conn);
	for (struct weft_hbone_stream *stream = conn->streams; stream; stream = next) {
		next = stream->next;
		weft_stream_end(stream, WEFT_HBONE_ABUSE, 0, "%s sent too many: %s", weft_addr_port_format(&conn->peer, conn->peer_port, text),
				abuse);
	}
	conn->stopping = true;
	weft_loop_timer(conn->hbone->loop, &conn->timer, LINGER_MS);
}

static void bye(struct weft_hbone_conn *conn)
{
	if (conn->out.size || conn->state == WEFT_CONN_LINGER) {
		conn->stopping = true;
		return;
	}
	SSL_shutdown(conn->ssl);
	ERR_clear_error();
	if (push(conn) < 0) {
		weft_conn_fail(conn, WEFT_HBONE_PEER_RESET, "the connection to the peer broke");
		return;
	}
	conn->state = WEFT_CONN_LINGER;
	weft_loop_timer(conn->hbone->loop, &conn->timer, LINGER_MS);
	if (!conn->out.size)
		shutdown(conn->io.fd, SHUT_WR);
	conn->readable = true;
	weft_conn_work(conn);
}

static void linger(struct weft_hbone_conn *conn)
{
	ssize_t got = 1;

	if (conn->out.size) {
		if (push(conn) < 0)
			goto dead;
		if (conn->out.size)
			return;
		shutdown(conn->io.fd, SHUT_WR);
	}
	/* A close with unread bytes is a reset, which may overtake the GOAWAY. */
	for (int i = 0; conn->readable && i < TURNS; i++) {
		got = recv(conn->io.fd, conn->hbone->in, sizeof(conn->hbone->in), MSG_DONTWAIT | MSG_TRUNC);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			goto dead;
		if (got < 0)
			conn->readable = false;
	}
	if (conn->readable)
		weft_conn_work(conn);
	return;
dead:
	weft_conn_fail(conn, WEFT_HBONE_PEER_RESET, "the connection to the peer ended");
}

static int write_out(struct weft_hbone_conn *conn)
{
	struct weft_hbone *hbone = conn->hbone;

	for (int turn = 0; turn < TURNS; turn++) {
		size_t wrote;
		int r = push(conn);

		if (r < 0)
			return r;
		if (conn->out.size)
			return 0; /* an edge says when there is room */
		r = weft_session_output(conn);
		if (r < 0)
			return r;
		if (!hbone->plain_size)
			return 0;
		if (SSL_write_ex(conn->ssl, hbone->plain, hbone->plain_size, &wrote) != 1 || wrote != hbone->plain_size) {
			ERR_clear_error();
			weft_buf_clear(&hbone->records);
			return -ECONNRESET;
		}
		if (hbone->plain_size < WEFT_PLAIN_FULL)
			return push(conn);
	}
	weft_conn_work(conn);
	return push(conn);
}

static void work(struct weft_loop_later *later)
{
	struct weft_hbone_conn *conn = CONN_OF(later, work);
	bool more = false;
	int r = 0;

	if (conn->state == WEFT_CONN_LINGER) {
		linger(conn);
		return;
	}
	if (conn->state != WEFT_CONN_UP)
		return;
	if (!conn->stopping)
		r = read_in(conn, &more);
	/* Whatever it gave rise to leaves now. */
	weft_loop_cancel(&conn->work);
	if (more)
		weft_conn_work(conn);
	if (conn->abuse && !conn->stopping)
		abused(conn);
	else if (r == -EPROTO)
		conn->stopping = true; /* its GOAWAY is queued */
	else if (r < 0) {
		weft_conn_fail(conn, WEFT_HBONE_PEER_RESET, "the connection to the peer %s",
			       r == -ESHUTDOWN ? "was closed by it" : "broke");
		return;
	}
	r = write_out(conn);
	if (r < 0) {
		weft_conn_fail(conn, WEFT_HBONE_PEER_RESET, "the connection to the peer broke: %s", strerror(-r));
		return;
	}
	if (conn->abuse && !conn->stopping) {
		abused(conn);
		weft_conn_work(conn);
	}
	if (!nghttp2_session_want_read(conn->session) && !nghttp2_session_want_write(conn->session))
		conn->stopping = true;
	if (conn->stopping && !conn->out.size && !nghttp2_session_want_write(conn->session)) {
		while (conn->streams)
			weft_stream_end(conn->streams, WEFT_HBONE_PEER_RESET, 0, "the connection to the peer ended");
		bye(conn);
	}
}

void weft_conn_work(struct weft_hbone_conn *conn)
{
	if (conn->state == WEFT_CONN_UP || conn->state == WEFT_CONN_LINGER)
		weft_loop_later(conn->hbone->loop, &conn->work);
}

static void connected(struct weft_hbone_conn *conn)
{
	int error = 0;
	socklen_t size = sizeof(error);

	getsockopt(conn->io.fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error) {
		char text[WEFT_ADDR_TEXT];

		weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "%s cannot be reached: %s",
			       weft_addr_port_format(&conn->peer, conn->peer_port, text), strerror(error));
		return;
	}
	if (tls_begin(conn) < 0)
		weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "out of memory");
	else
		weft_conn_handshake(conn);
}

static void ready(struct weft_loop_io *io, uint32_t events)
{
	struct weft_hbone_conn *conn = CONN_OF(io, io);

	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		conn->hup = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		conn->readable = true;
		conn->rx_ns = weft_loop_now_ns(conn->hbone->loop);
	}
	switch (conn->state) {
	case WEFT_CONN_CONNECT:
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			connected(conn);
		break;
	case WEFT_CONN_QUIET:
		if (!conn->readable)
			break;
		if (tls_begin(conn) < 0) {
			weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "out of memory");
			break;
		}
		/* fall through */
	case WEFT_CONN_HANDSHAKE:
		if (push(conn) < 0)
			weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "the connection broke during the handshake");
		else
			weft_conn_handshake(conn);
		break;
	default:
		weft_conn_work(conn);
	}
}

/* Pings, and what may not last: a header block, a rest without streams. */
static void tick(struct weft_hbone_conn *conn)
{
	struct weft_hbone *hbone = conn->hbone;
	const struct weft_hbone_limits *limits = &hbone->limits;
	uint64_t now = weft_loop_now_ns(hbone->loop), quiet_ms = (now - conn->rx_ns) / 1000000, idle_ms = (now - conn->idle_ns) / 1000000;
	unsigned int next = limits->ping_ms;

	if (!conn->settled || (conn->block && (now - conn->block->began_ns) / 1000000 >= limits->headers_ms)) {
		weft_hbone_count(hbone, WEFT_COUNTED_ABUSE);
		weft_conn_fail(conn, WEFT_HBONE_ABUSE, "the peer stalled in the middle of %s", conn->settled ? "a CONNECT" : "its first frames");
		return;
	}
	if (quiet_ms >= limits->ping_ms + PONG_MS) {
		weft_conn_fail(conn, WEFT_HBONE_PEER_RESET, "the peer has not answered for %llu s", (unsigned long long)quiet_ms / 1000);
		return;
	}
	if (conn->draining && !conn->last_goaway) {
		conn->last_goaway = true;
		nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(conn->session),
				      NGHTTP2_NO_ERROR, NULL, 0);
		weft_conn_work(conn);
	}
	/* A client releases what it does not use; who leaves that to us is given twice the time. */
	if (!conn->refs) {
		uint64_t most = conn->server ? 2ull * limits->idle_ms : limits->idle_ms;

		if (idle_ms >= most || (conn->last_goaway && conn->server) || (!conn->server && !conn->pool)) {
			weft_conn_stop(conn, NGHTTP2_NO_ERROR);
			return;
		}
		if (most - idle_ms < next)
			next = (unsigned int)(most - idle_ms);
	}
	if (quiet_ms >= limits->ping_ms && nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL) == 0)
		weft_conn_work(conn);
	weft_loop_timer(hbone->loop, &conn->timer, next);
}

static void fired(struct weft_loop_timer *timer)
{
	struct weft_hbone_conn *conn = CONN_OF(timer, timer);
	char text[WEFT_ADDR_TEXT];

	weft_addr_port_format(&conn->peer, conn->peer_port, text);
	switch (conn->state) {
	case WEFT_CONN_SOCKET:
	case WEFT_CONN_CONNECT:
		weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "%s cannot be reached: %s", text, conn->abuse ? conn->abuse : "it does not answer");
		break;
	case WEFT_CONN_QUIET:
	case WEFT_CONN_HANDSHAKE:
		weft_hbone_count(conn->hbone, WEFT_COUNTED_HANDSHAKE_FAILED);
		weft_conn_fail(conn, WEFT_HBONE_UNREACHABLE, "the TLS handshake with %s took more than %u ms", text,
			       conn->hbone->limits.handshake_ms);
		break;
	case WEFT_CONN_UP:
		if (conn->stopping)
			weft_conn_fail(conn, WEFT_HBONE_PEER_RESET, "the peer does not read");
		else
			tick(conn);
		break;
	default:
		weft_conn_fail(conn, WEFT_HBONE_PEER_RESET, "the connection to the peer ended");
	}
}

void weft_conn_stop(struct weft_hbone_conn *conn, uint32_t error)
{
	if (conn->state != WEFT_CONN_UP) {
		if (conn->state < WEFT_CONN_UP)
			weft_conn_fail(conn, WEFT_HBONE_CUT, "the agent ends");
		return;
	}
	weft_pool_retire(conn);
	nghttp2_session_terminate_session(conn->session, error);
	conn->stopping = true;
	weft_loop_timer(conn->hbone->loop, &conn->timer, LINGER_MS);
	weft_conn_work(conn);
}

void weft_conn_fail(struct weft_hbone_conn *conn, enum weft_hbone_end end, const char *format, ...)
{
	struct weft_err err = { 0 };
	bool was_up = conn->state >= WEFT_CONN_UP;
	va_list arguments;

	if (conn->state == WEFT_CONN_DEAD)
		return;
	va_start(arguments, format);
	vsnprintf(err.text, sizeof(err.text), format, arguments);
	va_end(arguments);
	wait_remove(conn);
	conn->state = WEFT_CONN_DEAD;
	weft_loop_timer_stop(&conn->timer);
	weft_loop_cancel(&conn->work);
	conn->refs++;
	if (was_up)
		weft_pool_retire(conn);
	for (struct weft_hbone_stream *stream = conn->streams, *next; stream; stream = next) {
		next = stream->next;
		/* The peer knows nothing of it. */
		if (!conn->server && !stream->asked)
			weft_stream_closed(stream, NGHTTP2_REFUSED_STREAM);
	}
	while (conn->streams)
		weft_stream_end(conn->streams, end, 0, "%s", err.text);
	if (!was_up)
		weft_pool_failed(conn, end, err.text);
	if (conn->ssl && conn->hbone->keys)
		weft_remote_forget(conn->hbone->keys, conn);
	weft_buf_clear(&conn->hbone->records);
	nghttp2_session_del(conn->session);
	conn->session = NULL;
	conn->block = weft_block_free(conn->block);
	SSL_free(conn->ssl);
	conn->ssl = NULL;
	weft_buf_done(&conn->out);
	conn->out_at = 0;
	weft_loop_remove(conn->hbone->loop, &conn->io);
	if (conn->io.fd >= 0)
		close(conn->io.fd);
	conn->io.fd = -1;
	conn->share = weft_share_give(conn->share);
	weft_conn_unref(conn);
}

void weft_conn_unref(struct weft_hbone_conn *conn)
{
	if (--conn->refs)
		return;
	conn->idle_ns = weft_loop_now_ns(conn->hbone->loop);
	if (conn->state == WEFT_CONN_DEAD)
		weft_conn_free(conn);
	else if (conn->state == WEFT_CONN_UP && !conn->stopping && (conn->last_goaway || (!conn->server && !conn->pool)))
		weft_loop_timer(conn->hbone->loop, &conn->timer, 0);
}

struct weft_hbone_conn *weft_conn_free(struct weft_hbone_conn *conn)
{
	*conn->back = conn->next;
	if (conn->next)
		conn->next->back = conn->back;
	conn->hbone->count--;
	weft_identity_unref(conn->identity);
	free(conn->peer_identity);
	free(conn);
	return NULL;
}

uint64_t weft_conn_rtt_ns(const struct weft_hbone_conn *conn)
{
	struct tcp_info info = { 0 };
	socklen_t size = sizeof(info);

	if (getsockopt(conn->io.fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 || !info.tcpi_rtt)
		return 100000;
	return info.tcpi_rtt * 1000ull;
}
