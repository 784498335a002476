/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the engine know of each other: conn.c (a TLS connection and its bytes), session.c (HTTP/2 on it), stream.c (one
 * application connection), pool.c (which connection a stream goes to), limits.c (what a peer may do how often), hbone.c (the owner's
 * side). Nobody else includes this; hbone.h is the interface.
 *
 * Bytes go like this. To the peer: nghttp2 asks for the payload of a DATA frame and gets it by recv() from the application, straight
 * behind the frame's header in hbone->plain; what one wake-up brought is encrypted at once and leaves in one send(). From the peer:
 * one recv() of many records, decrypted into hbone->in, where nghttp2 finds the payloads; they are written to the application from
 * there, several frames at once. Memory of a stream's own is there only for what its application does not take.
 */
#ifndef WEFT_PROXY_ENGINE_H
#define WEFT_PROXY_ENGINE_H

#include <nghttp2/nghttp2.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/table.h"
#include "proxy/hbone.h"
#include "proxy/shares.h"

enum {
#define WEFT_PROXY_COUNT(name, text, sentence) WEFT_COUNTED_##name,
#include "weft/lists/proxy.h"
#undef WEFT_PROXY_COUNT
};

enum {
	/* Beyond 64 KiB a send() gains little, and the caches lose. */
	WEFT_FRAME = 64 << 10,
	WEFT_PLAIN_FULL = 64 << 10,
	WEFT_PLAIN_ROOM = WEFT_PLAIN_FULL + WEFT_FRAME + 1024, /* and what nghttp2 says between two looks at it */
	WEFT_IN_ROOM = 128 << 10,
	WEFT_GATHER = 32, /* pieces of one stream's payload that are written at once */
	WEFT_WINDOW = 64 << 10, /* of a stream, at start */
	WEFT_WINDOW_MAX = 4 << 20, /* as ztunnel's: src/config.rs */
	WEFT_CONN_WINDOW = 1 << 20,
	WEFT_CONN_WINDOW_MAX = 16 << 20,
	WEFT_STREAMS_TAKEN = 200, /* ztunnel opens up to 200 on a connection */
	WEFT_STREAMS_USED = 100, /* ztunnel's POOL_MAX_STREAMS_PER_CONNECTION */
	WEFT_BULK = 1 << 20, /* a stream that has moved this much delays others */
	WEFT_BULK_SPREAD = 4, /* connections of a pool that bulk may lead to */
};

struct weft_hbone_conn;
struct weft_pool;

/* Frames that a peer may send without having earned them: GCRA, the time at which its next would be on time. */
struct weft_allowance {
	uint64_t due_ns;
};

struct weft_limits {
	struct weft_allowance resets, pings, settings, updates, empty, others;
	uint32_t earned; /* WINDOW_UPDATEs that answer what we sent */
	uint32_t own_resets; /* RST_STREAMs of ours that are on their way and are our own decision */
	uint32_t forgiven; /* resets that answer an end of ours */
	uint32_t block_size, block_frames; /* of the header block that is coming in */
};

/* A header block that is coming in. */
struct weft_block {
	struct weft_buf text, baggage, forwarded;
	size_t method, authority, traceparent; /* offsets + 1 into text */
	uint64_t began_ns;
	size_t size;
	unsigned int fields;
	int status;
	bool too_large;
};

/* What a stream asks for until its answer is there. */
struct weft_wish {
	char *authority, *baggage, *forwarded, *traceparent;
	size_t first_size, first_at;
	char *first;
};

struct weft_hbone_stream {
	struct weft_loop_io app;
	struct weft_loop_timer timer; /* for the CONNECT to be answered */
	struct weft_hbone *hbone;
	struct weft_hbone_conn *conn; /* NULL: it waits for one */
	struct weft_pool *pool; /* a client's, until it is open */
	struct weft_hbone_stream *next, **back; /* of its connection, or pool, or of those that have ended */
	void *user;
	struct weft_wish *wish;
	char *held; /* what the application has not taken */
	uint32_t held_at, held_size;
	uint32_t window, drained; /* and what of it the application took since it was opened anew */
	uint64_t drained_ns;
	uint32_t owed; /* bytes that the connection's window was not opened for */
	int32_t id; /* 0: nghttp2 does not know it */
	uint64_t sent, received;
	char *why;
	int status;
	enum weft_hbone_end end;
	bool server : 1;
	bool answered : 1; /* refused, or dialled */
	bool refused : 1;
	bool asked : 1; /* its CONNECT is on its way: the peer may have begun */
	bool open : 1;
	bool readable : 1; /* the application */
	bool writable : 1;
	bool hup : 1; /* its FIN is behind what can be read */
	bool deferred : 1; /* nghttp2 waits for weft_stream's word before it asks again */
	bool fin_out : 1;
	bool fin_in : 1;
	bool fin_done : 1; /* the application has it */
	bool over : 1; /* nghttp2 has forgotten it */
	bool bulk : 1;
	bool ended : 1;
	uint8_t refusals; /* of connections that took it and did not begin */
};

enum weft_conn_state {
	WEFT_CONN_SOCKET = 0, /* waits for one */
	WEFT_CONN_CONNECT,
	WEFT_CONN_QUIET, /* a server's: nothing has come yet, so nothing is spent on it */
	WEFT_CONN_HANDSHAKE,
	WEFT_CONN_UP,
	WEFT_CONN_LINGER, /* all is said; the socket stays until the peer has read it */
	WEFT_CONN_DEAD,
};

struct weft_hbone_conn {
	struct weft_loop_io io;
	struct weft_loop_timer timer;
	struct weft_loop_later work; /* read what is left, then send */
	struct weft_hbone *hbone;
	struct weft_hbone_conn *next, **back; /* all */
	struct weft_hbone_conn *wait_next, **wait_back; /* those that wait for a socket; in a handshake: oldest last */
	struct weft_hbone_conn *pool_next, **pool_back;
	struct weft_pool *pool;
	struct weft_identity *identity;
	struct weft_share *share; /* a client's pod's, of a server its peer's once that is known */
	SSL *ssl;
	nghttp2_session *session;
	struct weft_hbone_stream *streams;
	struct weft_block *block;
	struct weft_buf out; /* records that the socket did not take */
	size_t out_at;
	char *peer_identity;
	struct weft_addr peer, local;
	uint16_t peer_port;
	uint64_t netns;
	uint64_t rx_ns, idle_ns;
	struct weft_limits limits;
	uint32_t window;
	unsigned int count; /* streams that nghttp2 knows */
	unsigned int bulk; /* of them */
	unsigned int refs; /* streams, also ended ones: the facts of their `ended` are here */
	enum weft_conn_state state;
	const char *abuse; /* what of */
	bool server : 1;
	bool readable : 1;
	bool hup : 1;
	bool settled : 1; /* its SETTINGS came */
	bool draining : 1;
	bool last_goaway : 1;
	bool stopping : 1; /* no input any more; closes once what is queued is out */
	bool in_handshakes : 1;
};

struct weft_pool {
	struct weft_hbone *hbone;
	char *key; /* all that follows, as bytes */
	size_t key_size;
	struct weft_identity *identity;
	char **expected; /* NULL-terminated, one allocation */
	uint64_t netns;
	struct weft_addr source, peer;
	uint16_t port;
	struct weft_hbone_conn *conns, *dialling;
	unsigned int count;
	struct weft_hbone_stream *waiting, **waiting_end;
	unsigned int refs; /* connections, and streams that are not open */
};

struct weft_hbone {
	struct weft_loop *loop;
	struct weft_remote_keys *keys;
	struct weft_hbone_ops ops;
	struct weft_hbone_limits limits;
	struct weft_hbone_conn *conns;
	unsigned int count;
	struct weft_shares *shares; /* of its connections */
	struct weft_hbone_conn *sockets, *handshakes; /* that wait */
	unsigned int handshaking;
	struct weft_hash_table pools;
	struct weft_hbone_stream *ended;
	struct weft_hbone_stream *last; /* that nghttp2 has forgotten, and whose applications have not taken all */
	struct weft_loop_later tell; /* their owner of them */
	uint64_t held, grown;
	bool draining;
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	BIO_METHOD *bio;
	struct weft_buf records; /* that are not in a socket yet; of the connection that is being worked on */
	struct weft_hbone_stream *gather;
	struct iovec piece[WEFT_GATHER];
	unsigned int pieces;
	size_t plain_size;
	uint8_t plain[WEFT_PLAIN_ROOM];
	uint8_t in[WEFT_IN_ROOM];
};

void weft_hbone_count(struct weft_hbone *hbone, unsigned int what);

/* conn.c */
int weft_conn_engine_setup(struct weft_hbone *hbone);
/* A client's without a socket, or a server's on `fd`, which is taken on success only. */
int weft_conn_new(struct weft_hbone *hbone, struct weft_identity *identity, bool server, struct weft_hbone_conn **ret_conn);
int weft_conn_accept(struct weft_hbone_conn *conn, int fd);
/* Asks for a socket and connects it; what fails, fails later, by weft_conn_fail(). */
void weft_conn_dial(struct weft_hbone_conn *conn);
void weft_conn_socket(struct weft_hbone_conn *conn, int fd);
void weft_conn_handshake(struct weft_hbone_conn *conn);
/* At the end of this wake-up: read what is left, send what is queued. */
void weft_conn_work(struct weft_hbone_conn *conn);
/* At once, with all its streams. Not from within nghttp2's callbacks. */
void weft_conn_fail(struct weft_hbone_conn *conn, enum weft_hbone_end end, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* In order: what is queued goes out, GOAWAY too. Its streams have ended, or end now. */
void weft_conn_stop(struct weft_hbone_conn *conn, uint32_t error);
void weft_conn_unref(struct weft_hbone_conn *conn);
struct weft_hbone_conn *weft_conn_free(struct weft_hbone_conn *conn);
/* Round trip to the peer as the kernel measures it. */
uint64_t weft_conn_rtt_ns(const struct weft_hbone_conn *conn);

/* session.c */
int weft_session_engine_setup(struct weft_hbone *hbone);
int weft_session_new(struct weft_hbone_conn *conn);
/* Of bytes that were decrypted; -EPROTO: what is to be said about it is queued. */
int weft_session_input(struct weft_hbone_conn *conn, const uint8_t *data, size_t size);
/* Fills hbone->plain. -EPROTO. */
int weft_session_output(struct weft_hbone_conn *conn);
int weft_session_request(struct weft_hbone_conn *conn, struct weft_hbone_stream *stream);
/* The 200, or a refusal that ends the stream. */
void weft_session_respond(struct weft_hbone_stream *stream, int status);
void weft_session_reset(struct weft_hbone_stream *stream, uint32_t error);
void weft_session_opened_window(struct weft_hbone_stream *stream, size_t size);
bool weft_session_has_room(const struct weft_hbone_conn *conn);
struct weft_block *weft_block_free(struct weft_block *block);

/* stream.c */
int weft_stream_new(struct weft_hbone *hbone, struct weft_hbone_stream **ret_stream);
/* Watches its application, whose socket is connected or connecting. */
int weft_stream_app(struct weft_hbone_stream *stream, int fd);
void weft_stream_attach(struct weft_hbone_stream *stream, struct weft_hbone_conn *conn, int32_t id);
/* Open in both directions. */
void weft_stream_opened(struct weft_hbone_stream *stream);
/* The payload of its next DATA frame: bytes, 0 with *ret_end, or NGHTTP2_ERR_DEFERRED. */
ssize_t weft_stream_read(struct weft_hbone_stream *stream, uint8_t *data, size_t size, bool *ret_end);
/* Payload that came, in pieces; kept if the application does not take it. */
void weft_stream_deliver(struct weft_hbone_stream *stream, const struct iovec *piece, unsigned int pieces);
void weft_stream_fin(struct weft_hbone_stream *stream);
/* nghttp2 has closed it. */
void weft_stream_closed(struct weft_hbone_stream *stream, uint32_t error);
/* For good: what is left of it at either side is reset unless `end` is WEFT_HBONE_CLOSED. Its owner is told after this wake-up. */
void weft_stream_end(struct weft_hbone_stream *stream, enum weft_hbone_end end, int status, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void weft_stream_unlink(struct weft_hbone_stream *stream);
void weft_stream_link(struct weft_hbone_stream *stream, struct weft_hbone_stream **list);
struct weft_wish *weft_wish_free(struct weft_wish *wish);
void weft_stream_tell_ended(struct weft_loop_later *later);

/* pool.c */
/* With a reference for the caller. */
int weft_pool_get(struct weft_hbone *hbone, const struct weft_hbone_open *open, struct weft_pool **ret_pool);
void weft_pool_unref(struct weft_pool *pool);
/* To a connection that has room for it, or to those that wait for one. */
void weft_pool_place(struct weft_pool *pool, struct weft_hbone_stream *stream);
/* Its connection is up, or will not be: those that wait go to others that have room, or fail. */
void weft_pool_up(struct weft_hbone_conn *conn);
void weft_pool_failed(struct weft_hbone_conn *conn, enum weft_hbone_end end, const char *why);
/* It takes no more streams. */
void weft_pool_retire(struct weft_hbone_conn *conn);

/* limits.c: each says false where it was too much. */
bool weft_allow(struct weft_allowance *allowance, uint64_t now_ns, uint64_t period_ns, unsigned int burst);
bool weft_limits_frame(struct weft_hbone_conn *conn, const nghttp2_frame_hd *head);
bool weft_limits_reset(struct weft_hbone_conn *conn);
void weft_limits_forgive(struct weft_hbone_conn *conn);
void weft_limits_earn(struct weft_hbone_conn *conn, size_t sent);

#endif
