/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The /metrics listener. Never blocks and makes no thread: its descriptor goes
 * into the caller's loop. The text may come later than the request, since its
 * counters live in another process: the first request that finds nobody asking
 * calls wanted(), and one weft_http_answer() serves everybody who waits by then.
 * A client that sends or reads slowly costs one of a bounded number of places
 * for a bounded time.
 *
 * GET and HEAD of /metrics and /healthz; anything else is 404 or 405.
 */
#ifndef WEFT_EXPORT_HTTP_H
#define WEFT_EXPORT_HTTP_H

#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"

#define WEFT_HTTP_CONNECTIONS 64 /* more wait in the listener's backlog */
#define WEFT_HTTP_TIMEOUT_S 10 /* without a byte in either direction */
#define WEFT_HTTP_ANSWER_MS 5000 /* waiting for weft_http_answer(); then 503 */
#define WEFT_HTTP_MEMORY 16384 /* for a request's line and headers */

struct weft_http;

struct weft_http_options {
	int fd; /* listening stream socket, TCP or Unix; stays the caller's (it is duplicated) */
	/* Somebody waits for the text: make weft_http_answer() happen, from in here or later. Not called again until then. */
	void (*wanted)(void *context);
	void *context;
};

/* -errno with a sentence in `err`. */
int weft_http_new(const struct weft_http_options *options, struct weft_http **ret_http, struct weft_err *err);
/* Whoever still waits is hung up on. */
struct weft_http *weft_http_free(struct weft_http *http);
WEFT_CLEANUP_DEFINE(struct weft_http, weft_http_free);

/* An epoll descriptor: call weft_http_run() when it is readable (level-triggered), and when weft_http_timeout_ms() has passed. */
int weft_http_fd(const struct weft_http *http);
/* Milliseconds until weft_http_run() is due even if nothing happens; -1: not at all. Ask anew after each run and answer. */
int weft_http_timeout_ms(const struct weft_http *http);
/* Does what can be done without waiting. */
void weft_http_run(struct weft_http *http);

/*
 * Answers all who wait with the content of `text`, whose memory is taken over
 * (it is empty afterwards, also on failure). Nobody waits: no error. -ENOMEM: they get 503.
 */
int weft_http_answer(struct weft_http *http, struct weft_buf *text);
/* Answers all who wait with 503 and this sentence. */
void weft_http_fail(struct weft_http *http, const char *sentence);

#endif
