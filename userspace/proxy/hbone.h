/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HBONE: application connections as HTTP/2 CONNECT streams in mutual TLS, in ztunnel's syntax (docs/PROTOCOL.md).
 * The engine: TLS connections, their pool, streams, windows, limits. It knows bytes and headers; who may talk
 * to whom and where sockets come from, its owner tells it (struct weft_hbone_ops). One thread, one engine.
 */
#ifndef WEFT_PROXY_HBONE_H
#define WEFT_PROXY_HBONE_H

#include <stdint.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "proxy/loop.h"
#include "tls/identity.h"
#include "tls/remote_key.h"

struct weft_hbone;
struct weft_hbone_stream; /* one application connection; the engine's, until `ended` returns */

enum weft_hbone_end {
	WEFT_HBONE_CLOSED = 0, /* both directions ended in order */
	WEFT_HBONE_APP_RESET,
	WEFT_HBONE_PEER_RESET, /* RST_STREAM, or its connection broke */
	WEFT_HBONE_REFUSED, /* the peer answered with another status than 200: `status` */
	WEFT_HBONE_UNREACHABLE, /* no connection to the peer's agent */
	WEFT_HBONE_PEER_NOT_TRUSTED, /* the handshake failed on its certificate */
	WEFT_HBONE_CUT, /* weft_hbone_cut() */
	WEFT_HBONE_ABUSE,
};

/* What came with a CONNECT; strings live until `request` returns. */
struct weft_hbone_headers {
	const char *authority;
	const char *baggage; /* "" if absent; several lines joined by a comma */
	const char *forwarded;
	const char *traceparent;
};

/* Where a stream came in. */
struct weft_hbone_peer {
	const char *identity; /* verified */
	struct weft_addr addr; /* the TLS connection's own ends */
	struct weft_addr local;
	uint16_t port; /* host order */
	uint64_t netns; /* as given to weft_hbone_accept() */
};

struct weft_hbone_facts {
	uint64_t sent, received; /* payload, to and from the peer */
	const char *peer_identity; /* "" until it is verified */
	struct weft_addr peer;
	uint16_t peer_port;
};

struct weft_hbone_ops {
	/*
	 * A socket for a connection to a peer's agent in network namespace `netns`: >= 0 and it is the engine's; -EINPROGRESS: later, by
	 * weft_hbone_socket(); else -errno.
	 */
	int (*socket)(void *context, uint64_t netns, int family);
	/* A peer wants a stream: call weft_hbone_refuse(), or weft_hbone_dial() with a socket, now or later. *ret_user is handed back in `ended`. */
	void (*request)(void *context, struct weft_hbone_stream *stream, const struct weft_hbone_peer *peer,
			const struct weft_hbone_headers *headers, void **ret_user);
	/* A stream is open in both directions: the peer said 200, or the application took the connection. */
	void (*opened)(void *context, struct weft_hbone_stream *stream, void *user);
	/* Last call for a stream. `err` says it in words. */
	void (*ended)(void *context, struct weft_hbone_stream *stream, void *user, enum weft_hbone_end end, int status,
		      const struct weft_hbone_facts *facts, const struct weft_err *err);
	/* A peer, by its identity, that has its share of the connections already and gets no further one; counted by `count`. May be NULL. */
	void (*over_share)(void *context, const char *identity, const struct weft_addr *addr, uint16_t port);
	/* By lists/proxy.h; only what has no stream that could tell it: HANDSHAKES, HANDSHAKE_FAILED, PEER_REFUSED, BAD_REQUEST, ABUSE, FAIR_SHARE. */
	void (*count)(void *context, unsigned int what);
	void *context;
};

struct weft_hbone_limits {
	uint64_t budget; /* bytes that windows may grow by over the node's share of this process; 0: 64 MiB */
	unsigned int handshake_ms; /* 0: 5,000 */
	unsigned int headers_ms; /* for a CONNECT to be answered; 0: 10,000 */
	unsigned int idle_ms; /* a pooled connection without stream; 0: 300,000 */
	unsigned int ping_ms; /* between a peer's last byte and our PING; 0: 10,000 */
	unsigned int connections; /* at most, of both kinds, by fair shares (shares.h) of pods and peers; 0: 10,000 */
};

int weft_hbone_new(struct weft_loop *loop, struct weft_remote_keys *keys, const struct weft_hbone_ops *ops,
		   const struct weft_hbone_limits *limits, struct weft_hbone **ret_hbone);
/* GOAWAY, then resets what is left. */
struct weft_hbone *weft_hbone_free(struct weft_hbone *hbone);
WEFT_CLEANUP_DEFINE(struct weft_hbone, weft_hbone_free);

struct weft_hbone_open {
	struct weft_identity *identity; /* the source's */
	const char *const *expected; /* SPIFFE ids that the peer may have, NULL-terminated */
	uint64_t netns; /* where the connection is made */
	struct weft_addr source; /* the pod's own address: the connection is bound to it, port any */
	struct weft_addr peer; /* and port: the peer's agent */
	uint16_t port;
	const char *authority;
	const char *baggage;
	const char *forwarded;
	const char *traceparent;
	const void *first; /* bytes that the application has sent already; may be NULL */
	size_t first_size;
};

/*
 * Carries `app`, a connected socket that becomes the engine's, to the peer. -ENOMEM, -EMFILE: it is closed with a reset.
 * What goes wrong later comes by `ended`, and to the application as a reset.
 */
int weft_hbone_open(struct weft_hbone *hbone, const struct weft_hbone_open *open, int app, void *user,
		    struct weft_hbone_stream **ret_stream);

/* A connection that was accepted on :15008 of a pod; `fd` becomes the engine's. */
int weft_hbone_accept(struct weft_hbone *hbone, struct weft_identity *identity, int fd, uint64_t netns);

/* Answers of `request`. `status` 400, 401 or 503. */
void weft_hbone_refuse(struct weft_hbone_stream *stream, int status);
/* `fd` is bound as its owner wants it and connect() is under way or done; becomes the engine's. 200 once it is, else 503. */
void weft_hbone_dial(struct weft_hbone_stream *stream, int fd);

/* Ends a stream that may no longer be: both sides see a reset. */
void weft_hbone_cut(struct weft_hbone_stream *stream);
/* A network namespace is left: its connections end, after GOAWAY, and what streams there are with a reset. */
void weft_hbone_leave(struct weft_hbone *hbone, uint64_t netns);
/* Cuts all connections whose peer `trust` no longer believes. */
void weft_hbone_recheck(struct weft_hbone *hbone, const struct weft_trust *trust, time_t now);
/* Sockets that -EINPROGRESS promised; `fd` < 0: there is none, for this error. */
void weft_hbone_socket(struct weft_hbone *hbone, uint64_t netns, int family, int fd);
/* For weft_remote_ops.ready: a signature came, or will not, for this waiter, which was the engine's. */
void weft_hbone_ready(struct weft_hbone *hbone, void *waiter);
void weft_hbone_facts(const struct weft_hbone_stream *stream, struct weft_hbone_facts *ret_facts);
/* There is a newer certificate than some connections show: new streams go to new ones, those that are open go on. */
void weft_hbone_renewed(struct weft_hbone *hbone, const struct weft_identity *identity);
/* Stops taking streams: GOAWAY on all connections, those that are open go on. */
void weft_hbone_drain(struct weft_hbone *hbone);

#endif
