/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a peer may do how often. Each flood of HTTP/2 (CVE-2023-44487, CVE-2025-8671, CVE-2024-27316, CVE-2019-9512, -9515, -9518) is cheap
 * for its sender and costs the receiver; none is of use in a tunnel, so that what is allowed can be little. What payload earns, a
 * WINDOW_UPDATE, is not counted against a rate, because a fast reader sends many.
 */
#include "proxy/engine.h"

enum {
	FRAMES = 100, /* at once, and then 10 a second: nghttpd closes at 900, Go at 300 to 800 */
	RESETS = 200, /* and 33 a second: nghttpd closes at 2,200 */
	EARNED_MAX = 100000,
	BLOCK_SIZE = 32 << 10, /* encoded; the best peers close at 15 to 45 KB */
	BLOCK_FRAMES = 8,
};

#define FRAME_NS 100000000ull
#define RESET_NS 30000000ull

bool weft_allow(struct weft_allowance *allowance, uint64_t now_ns, uint64_t period_ns, unsigned int burst)
{
	if (allowance->due_ns < now_ns)
		allowance->due_ns = now_ns;
	if (allowance->due_ns - now_ns >= burst * period_ns)
		return false;
	allowance->due_ns += period_ns;
	return true;
}

static bool flood(struct weft_hbone_conn *conn, struct weft_allowance *allowance, const char *what)
{
	if (weft_allow(allowance, weft_loop_now_ns(conn->hbone->loop), FRAME_NS, FRAMES))
		return true;
	conn->abuse = what;
	return false;
}

bool weft_limits_reset(struct weft_hbone_conn *conn)
{
	if (weft_allow(&conn->limits.resets, weft_loop_now_ns(conn->hbone->loop), RESET_NS, RESETS))
		return true;
	conn->abuse = "streams that are reset";
	return false;
}

/* Who is refused, or reset, often says so with a reset of his own. */
void weft_limits_forgive(struct weft_hbone_conn *conn)
{
	if (conn->limits.forgiven < WEFT_STREAMS_TAKEN)
		conn->limits.forgiven++;
}

void weft_limits_earn(struct weft_hbone_conn *conn, size_t sent)
{
	/* Some readers open both windows after every kilobyte. */
	conn->limits.earned += 2 + (uint32_t)(sent / 512);
	if (conn->limits.earned > EARNED_MAX)
		conn->limits.earned = EARNED_MAX;
}

static bool block(struct weft_hbone_conn *conn, const nghttp2_frame_hd *head)
{
	struct weft_limits *limits = &conn->limits;

	if (head->type == NGHTTP2_HEADERS)
		limits->block_size = limits->block_frames = 0;
	else
		limits->block_frames++;
	limits->block_size += (uint32_t)head->length;
	if (limits->block_size <= BLOCK_SIZE && limits->block_frames <= BLOCK_FRAMES)
		return true;
	conn->abuse = limits->block_size > BLOCK_SIZE ? "a header block of more than 32 KiB" : "CONTINUATION frames";
	return false;
}

bool weft_limits_frame(struct weft_hbone_conn *conn, const nghttp2_frame_hd *head)
{
	struct weft_limits *limits = &conn->limits;

	switch (head->type) {
	case NGHTTP2_DATA:
		return head->length || head->flags & NGHTTP2_FLAG_END_STREAM || flood(conn, &limits->empty, "empty DATA frames");
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION:
		return block(conn, head);
	case NGHTTP2_RST_STREAM: {
		const struct weft_hbone_stream *stream = nghttp2_session_get_stream_user_data(conn->session, head->stream_id);

		/* What a server resets, it was asked for by us. */
		if (!conn->server)
			return true;
		if (!stream && limits->forgiven) {
			limits->forgiven--;
			return true;
		}
		/* An open tunnel that ends with a reset has cost its peer a round trip and us nothing more than any other end. */
		return (stream && stream->open) || weft_limits_reset(conn);
	}
	case NGHTTP2_SETTINGS:
		return flood(conn, &limits->settings, "SETTINGS frames");
	case NGHTTP2_PING:
		return flood(conn, &limits->pings, "PING frames");
	case NGHTTP2_WINDOW_UPDATE:
		if (limits->earned) {
			limits->earned--;
			return true;
		}
		return flood(conn, &limits->updates, "WINDOW_UPDATE frames");
	default: /* PRIORITY and GOAWAY; nghttp2 passes over what it does not know, which costs its bytes and nothing else */
		return flood(conn, &limits->others, "PRIORITY frames");
	}
}
