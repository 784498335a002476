/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two engines on one loop, joined by TLS over loopback: `here` carries applications' connections to `there`, which dials a listener
 * of the test's. Applications are TCP too, since resets and half-closes are what is looked at.
 */
#ifndef WEFT_TESTS_PROXY_LAB_H
#define WEFT_TESTS_PROXY_LAB_H

#include "lib/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proxy/engine.h"
#include "unit/tls/mint.h"

#define ALICE "spiffe://cluster.local/ns/shop/sa/alice"
#define BOB "spiffe://cluster.local/ns/shop/sa/bob"
#define PATIENCE_MS 20000

/* What an engine said about one stream. */
struct seen {
	struct weft_hbone_stream *stream;
	bool asked, opened, ended;
	enum weft_hbone_end end;
	int status;
	uint64_t sent, received;
	char why[768], peer_identity[128];
	char authority[256], baggage[1024], forwarded[256], traceparent[128];
	size_t baggage_size, heap; /* when it was asked */
};

struct side {
	struct weft_hbone *hbone;
	struct weft_identity *identity;
	unsigned int count[32];
	unsigned int opened, ended;
	struct lab *lab;
};

struct listener {
	struct weft_loop_io io;
	struct lab *lab;
	uint16_t port;
	unsigned int accepted;
};

struct lab {
	struct weft_loop *loop;
	struct mint root, leaf[2];
	struct weft_trust *trust;
	struct side here, there;
	struct listener agent; /* of `there`, as if on :15008 */
	int apps; /* a listener that `there` dials */
	uint16_t apps_port;
	const char *who; /* asks `there`; NULL: ALICE */
	int status; /* what `there` says; 200: dials */
	bool mute; /* or nothing */
	bool later; /* sockets come by weft_hbone_socket() */
	int sockets; /* errno of ops.socket, or 0 */
	struct seen *last; /* that `there` was asked for */
	struct weft_hbone_limits limits;
	struct weft_loop_later once;
};

static inline uint64_t lab_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void lab_once(struct weft_loop_later *later)
{
	struct lab *lab = (struct lab *)(void *)((char *)later - offsetof(struct lab, once));

	weft_loop_exit(lab->loop, 0);
}

/* One wake-up, which does not wait. */
static inline void lab_step(struct lab *lab)
{
	weft_loop_later(lab->loop, &lab->once);
	assert_int_equal(weft_loop_run(lab->loop), 0);
}

#define LAB_UNTIL(lab, condition)                                                       \
	do {                                                                            \
		uint64_t end_ = lab_ms() + PATIENCE_MS;                                 \
		while (!(condition)) {                                                  \
			if (lab_ms() > end_)                                            \
				fail_msg("%s:%d: not within time: %s", __func__, __LINE__, #condition); \
			lab_step(lab);                                                  \
		}                                                                       \
	} while (0)

static inline int lab_listen(uint16_t *ret_port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 4096), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
	*ret_port = ntohs(at.sin_port);
	return fd;
}

static inline int lab_connect(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

/* A connected pair. */
static inline void lab_pair(int fd[2])
{
	uint16_t port;
	int listener = lab_listen(&port);
	struct pollfd wait = { .fd = listener, .events = POLLIN };

	fd[0] = lab_connect(port);
	assert_int_equal(poll(&wait, 1, PATIENCE_MS), 1);
	fd[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd[1] >= 0);
	close(listener);
}

static inline int lab_accept(struct lab *lab)
{
	int fd = -1;

	LAB_UNTIL(lab, (fd = accept4(lab->apps, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	return fd;
}

static inline int lab_socket(void *context, uint64_t netns, int family)
{
	struct side *side = context;

	assert_int_equal(netns, 1);
	if (side->lab->sockets)
		return -side->lab->sockets;
	if (side->lab->later)
		return -EINPROGRESS;
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static inline void lab_request(void *context, struct weft_hbone_stream *stream, const struct weft_hbone_peer *peer,
			       const struct weft_hbone_headers *headers, void **ret_user)
{
	struct side *side = context;
	struct lab *lab = side->lab;
	struct seen *seen = calloc(1, sizeof(*seen));

	assert_non_null(seen);
	assert_string_equal(peer->identity, lab->who ? lab->who : ALICE);
	assert_int_equal(peer->netns, 2);
	assert_int_not_equal(peer->port, 0);
	seen->asked = true;
	seen->stream = stream;
	snprintf(seen->authority, sizeof(seen->authority), "%s", headers->authority);
	snprintf(seen->baggage, sizeof(seen->baggage), "%s", headers->baggage);
	snprintf(seen->forwarded, sizeof(seen->forwarded), "%s", headers->forwarded);
	seen->baggage_size = strlen(headers->baggage);
	seen->heap = mallinfo2().uordblks;
	snprintf(seen->traceparent, sizeof(seen->traceparent), "%s", headers->traceparent);
	*ret_user = seen;
	if (lab->last && lab->last->ended)
		free(lab->last);
	lab->last = seen;
	if (lab->mute)
		return;
	if (lab->status != 200)
		weft_hbone_refuse(stream, lab->status);
	else
		weft_hbone_dial(stream, lab_connect(lab->apps_port));
}

static inline void lab_opened(void *context, struct weft_hbone_stream *stream, void *user)
{
	struct side *side = context;
	struct seen *seen = user;

	assert_false(seen->opened || seen->ended);
	if (seen->stream)
		assert_ptr_equal(seen->stream, stream);
	seen->opened = true;
	side->opened++;
}

static inline void lab_ended(void *context, struct weft_hbone_stream *stream, void *user, enum weft_hbone_end end, int status,
			     const struct weft_hbone_facts *facts, const struct weft_err *err)
{
	struct side *side = context;
	struct seen *seen = user;

	(void)stream;
	assert_false(seen->ended);
	seen->ended = true;
	seen->stream = NULL;
	seen->end = end;
	seen->status = status;
	seen->sent = facts->sent;
	seen->received = facts->received;
	snprintf(seen->why, sizeof(seen->why), "%s", err->text);
	snprintf(seen->peer_identity, sizeof(seen->peer_identity), "%s", facts->peer_identity);
	side->ended++;
	/* `there` made its own; the test looks at the last one only. */
	if (side == &side->lab->there && seen != side->lab->last)
		free(seen);
}

static inline void lab_count(void *context, unsigned int what)
{
	struct side *side = context;

	side->count[what]++;
}

static inline void lab_agent(struct weft_loop_io *io, uint32_t events)
{
	struct listener *listener = (struct listener *)(void *)io;
	int fd;

	(void)events;
	while ((fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		listener->accepted++;
		weft_hbone_accept(listener->lab->there.hbone, listener->lab->there.identity, fd, 2);
	}
}

static inline struct weft_identity *lab_identity(struct lab *lab, const char *id, const struct mint *leaf)
{
	struct weft_identity *identity = NULL;
	struct weft_err err = { 0 };
	unsigned char *der;
	struct weft_der chain = { .size = mint_der(leaf, &der) };

	chain.data = der;
	if (weft_identity_new(id, &chain, 1, leaf->key, lab->trust, &identity, &err) < 0)
		fail_msg("%s", err.text);
	OPENSSL_free(der);
	return identity;
}

static inline void lab_side(struct lab *lab, struct side *side, struct weft_remote_keys *keys)
{
	struct weft_hbone_ops ops = { .socket = lab_socket, .request = lab_request, .opened = lab_opened, .ended = lab_ended,
				      .count = lab_count, .context = side };

	side->lab = lab;
	assert_int_equal(weft_hbone_new(lab->loop, keys, &ops, &lab->limits, &side->hbone), 0);
}

static inline struct lab *lab_new(const struct weft_hbone_limits *limits)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct weft_err err = { 0 };
	unsigned char *der;
	size_t size;

	assert_non_null(lab);
	lab->once.run = lab_once;
	lab->status = 200;
	if (limits)
		lab->limits = *limits;
	assert_int_equal(weft_loop_new(&lab->loop), 0);
	lab->root = mint(NULL, "root of a test", 3600);
	lab->leaf[0] = mint(&lab->root, ALICE, 3600);
	lab->leaf[1] = mint(&lab->root, BOB, 3600);
	lab->trust = weft_trust_new();
	size = mint_der(&lab->root, &der);
	assert_int_equal(weft_trust_add_root(lab->trust, "cluster.local", der, size, &err), 0);
	OPENSSL_free(der);
	lab->here.identity = lab_identity(lab, ALICE, &lab->leaf[0]);
	lab->there.identity = lab_identity(lab, BOB, &lab->leaf[1]);
	lab_side(lab, &lab->here, NULL);
	lab_side(lab, &lab->there, NULL);
	lab->agent = (struct listener){ .io = { .ready = lab_agent }, .lab = lab };
	lab->agent.io.fd = lab_listen(&lab->agent.port);
	assert_int_equal(weft_loop_set(lab->loop, &lab->agent.io, EPOLLIN), 0);
	lab->apps = lab_listen(&lab->apps_port);
	return lab;
}

static inline void lab_free(struct lab *lab)
{
	weft_hbone_free(lab->here.hbone);
	weft_hbone_free(lab->there.hbone);
	free(lab->last);
	weft_identity_unref(lab->here.identity);
	weft_identity_unref(lab->there.identity);
	weft_trust_unref(lab->trust);
	for (int i = 0; i < 2; i++)
		mint_done(&lab->leaf[i]);
	mint_done(&lab->root);
	close(lab->agent.io.fd);
	close(lab->apps);
	weft_loop_free(lab->loop);
	free(lab);
}

/* Carries one end of a new pair; the other end, the application, is returned. */
static inline int lab_open_with(struct lab *lab, struct seen *seen, const struct weft_hbone_open *with)
{
	static const char *const expected[] = { BOB, NULL };
	struct weft_hbone_open open = *with;
	int fd[2];

	open.identity = open.identity ? open.identity : lab->here.identity;
	open.expected = open.expected ? open.expected : expected;
	open.netns = 1;
	open.port = open.port ? open.port : lab->agent.port;
	open.authority = open.authority ? open.authority : "127.0.0.1:80";
	assert_int_equal(weft_addr_parse("127.0.0.1", &open.peer), 0);
	assert_int_equal(weft_addr_parse("127.0.0.1", &open.source), 0);
	*seen = (struct seen){ 0 };
	lab_pair(fd);
	assert_int_equal(weft_hbone_open(lab->here.hbone, &open, fd[1], seen, &seen->stream), 0);
	return fd[0];
}

static inline int lab_open(struct lab *lab, struct seen *seen)
{
	return lab_open_with(lab, seen, &(struct weft_hbone_open){ 0 });
}

/* Both applications of a new stream. */
static inline void lab_join(struct lab *lab, struct seen *seen, int *ret_client, int *ret_server)
{
	*ret_client = lab_open(lab, seen);
	LAB_UNTIL(lab, seen->opened);
	*ret_server = lab_accept(lab);
}

static inline void lab_send(struct lab *lab, int fd, const void *data, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t took = send(fd, (const char *)data + done, size - done, MSG_NOSIGNAL);

		if (took > 0)
			done += (size_t)took;
		else
			assert_int_equal(errno, EAGAIN);
		lab_step(lab);
	}
}

/* Exactly these bytes come. */
static inline void lab_expect(struct lab *lab, int fd, const void *data, size_t size)
{
	char *got = malloc(size ? size : 1);
	size_t done = 0;

	assert_non_null(got);
	while (done < size) {
		ssize_t some = -1;

		LAB_UNTIL(lab, (some = recv(fd, got + done, size - done, 0)) >= 0 || errno != EAGAIN);
		if (some <= 0)
			fail_msg("%zu of %zu bytes, then %s", done, size, some ? strerror(errno) : "the end");
		done += (size_t)some;
	}
	assert_memory_equal(got, data, size);
	free(got);
}

static inline void lab_expect_end(struct lab *lab, int fd)
{
	char byte;
	ssize_t some = -1;

	LAB_UNTIL(lab, (some = recv(fd, &byte, 1, 0)) >= 0 || errno != EAGAIN);
	if (some)
		fail_msg("not the end: %s", some > 0 ? "a byte" : strerror(errno));
}

static inline void lab_expect_reset(struct lab *lab, int fd)
{
	char byte;
	ssize_t some = 0;

	LAB_UNTIL(lab, (some = recv(fd, &byte, 1, 0)) >= 0 || errno != EAGAIN);
	if (some >= 0 || errno != ECONNRESET)
		fail_msg("not a reset: %s", some > 0 ? "a byte" : some == 0 ? "the end" : strerror(errno));
}

static inline void lab_reset(int fd)
{
	struct linger now = { .l_onoff = 1 };

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(fd);
}

#endif
