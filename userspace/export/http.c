/* SPDX-License-Identifier: Apache-2.0 */
#include "export/http.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

/* One answer for everybody who waited for it: libmicrohttpd keeps the body once, however many connections send it. */
struct answer {
	unsigned int waiters; /* that have not taken it yet */
	unsigned int status;
	struct MHD_Response *response;
};

struct waiter {
	LIST_ENTRY(waiter) entry; /* in `waiting` from `waits` to `done` */
	struct MHD_Connection *connection;
	bool waits, done;
	struct answer *answer; /* NULL: none yet, or there was no memory for one */
};

struct weft_http {
	struct weft_http_options options;
	struct MHD_Daemon *daemon;
	LIST_HEAD(, waiter) waiting;
	uint64_t deadline_ms; /* of the answer that was asked for; 0: none was */
	bool running, again;
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void answer_release(struct answer *answer)
{
	if (--answer->waiters)
		return;
	MHD_destroy_response(answer->response);
	free(answer);
}

/* A short text that belongs to the program. */
static enum MHD_Result reply(struct MHD_Connection *connection, unsigned int status, const char *text, const char *allow)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
	enum MHD_Result result = MHD_NO;

	if (!response)
		return MHD_NO;
	if ((!allow || MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow) == MHD_YES) &&
	    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8") == MHD_YES)
		result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static void wait_for_answer(struct weft_http *http, struct waiter *waiter)
{
	bool first = !http->deadline_ms;

	waiter->waits = true;
	LIST_INSERT_HEAD(&http->waiting, waiter, entry);
	MHD_suspend_connection(waiter->connection);
	if (!first)
		return;
	http->deadline_ms = now_ms() + WEFT_HTTP_ANSWER_MS;
	http->options.wanted(http->options.context);
}

/*
 * For /metrics this is called when the headers are there, for each part of a body (which is skipped), at the end of
 * the request, and once more when the suspended connection was resumed. Only an answer after the request's end keeps the connection alive.
 */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
				  const char *version, const char *upload, size_t *upload_size, void **state)
{
	struct weft_http *http = context;
	struct waiter *waiter = *state;

	(void)version, (void)upload;
	if (waiter && *upload_size) {
		*upload_size = 0;
		return MHD_YES;
	}
	if (waiter && waiter->done)
		return waiter->answer ? MHD_queue_response(connection, waiter->answer->status, waiter->answer->response) : MHD_NO;
	if (waiter) {
		wait_for_answer(http, waiter);
		return MHD_YES;
	}
	if (strcmp(url, "/metrics") != 0 && strcmp(url, "/healthz") != 0)
		return reply(connection, MHD_HTTP_NOT_FOUND, "there are /metrics and /healthz here\n", NULL);
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n", "GET, HEAD");
	if (strcmp(url, "/healthz") == 0)
		return reply(connection, MHD_HTTP_OK, "ok\n", NULL);
	*state = waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		return MHD_NO;
	waiter->connection = connection;
	return MHD_YES;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
	struct waiter *waiter = *state;

	(void)context, (void)connection, (void)code;
	if (!waiter)
		return;
	if (waiter->answer)
		answer_release(waiter->answer);
	if (waiter->waits && !waiter->done)
		LIST_REMOVE(waiter, entry);
	free(waiter);
	*state = NULL;
}

int weft_http_new(const struct weft_http_options *options, struct weft_http **ret_http, struct weft_err *err)
{
	weft_free_on_exit struct weft_http *http = calloc(1, sizeof(*http));
	weft_close_on_exit int fd = fcntl(options->fd, F_DUPFD_CLOEXEC, 3);
	int flags;

	if (!http)
		return weft_err_set(err, ENOMEM, "no memory for the /metrics listener");
	if (fd < 0)
		return weft_err_set(err, errno, "the /metrics listener cannot be duplicated: %m");
	/* Without this, a client that hangs up between epoll and accept() would stop the whole loop. */
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return weft_err_set(err, errno, "the /metrics listener cannot be made non-blocking: %m");
	http->options = *options;
	LIST_INIT(&http->waiting);
	errno = 0;
	http->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, http,
					MHD_OPTION_LISTEN_SOCKET, fd,
					MHD_OPTION_CONNECTION_LIMIT, (unsigned int)WEFT_HTTP_CONNECTIONS,
					MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)WEFT_HTTP_TIMEOUT_S,
					MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)WEFT_HTTP_MEMORY,
					MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
	if (!http->daemon)
		return weft_err_set(err, errno ? errno : EINVAL, "the /metrics server cannot use its listening socket: %m");
	(void)weft_take_fd(fd); /* libmicrohttpd closes it */
	*ret_http = weft_take_ptr(http);
	return 0;
}

struct weft_http *weft_http_free(struct weft_http *http)
{
	struct waiter *waiter;

	if (!http)
		return NULL;
	/* libmicrohttpd aborts the program if a connection is suspended while it stops. */
	LIST_FOREACH(waiter, &http->waiting, entry)
		MHD_resume_connection(waiter->connection);
	MHD_stop_daemon(http->daemon);
	free(http);
	return NULL;
}

int weft_http_fd(const struct weft_http *http)
{
	return MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

int weft_http_timeout_ms(const struct weft_http *http)
{
	MHD_UNSIGNED_LONG_LONG ms;
	uint64_t now = now_ms(), left = UINT64_MAX;

	if (MHD_get_timeout(http->daemon, &ms) == MHD_YES)
		left = ms;
	if (http->deadline_ms && (http->deadline_ms <= now || http->deadline_ms - now < left))
		left = http->deadline_ms <= now ? 0 : http->deadline_ms - now;
	return left == UINT64_MAX ? -1 : left > 60000 ? 60000 : (int)left;
}

static unsigned int connections(const struct weft_http *http)
{
	return MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
}

/*
 * Two things that libmicrohttpd does only when it is run once more, and that its descriptor does not tell: it goes on
 * with a resumed connection, and it listens again once a place is free.
 */
static void turn(struct weft_http *http)
{
	unsigned int before;

	http->again = true;
	if (http->running)
		return;
	http->running = true;
	while (http->again) {
		http->again = false;
		before = connections(http);
		MHD_run(http->daemon);
		if (connections(http) < before)
			http->again = true;
	}
	http->running = false;
}

/* Takes over `response`, which may be NULL: then those who wait are hung up on. */
static void answer_all(struct weft_http *http, unsigned int status, struct MHD_Response *response)
{
	struct answer *answer = response ? calloc(1, sizeof(*answer)) : NULL;
	struct waiter *waiter;

	http->deadline_ms = 0;
	if (answer)
		*answer = (struct answer){ .waiters = 1, .status = status, .response = response };
	else if (response)
		MHD_destroy_response(response);
	LIST_FOREACH(waiter, &http->waiting, entry)
	{
		waiter->done = true;
		waiter->answer = answer;
		if (answer)
			answer->waiters++;
		MHD_resume_connection(waiter->connection);
	}
	LIST_INIT(&http->waiting);
	if (answer)
		answer_release(answer);
	turn(http);
}

void weft_http_run(struct weft_http *http)
{
	if (http->deadline_ms && http->deadline_ms <= now_ms())
		weft_http_fail(http, "the counters could not be read in time: is the role `main` up?");
	turn(http);
}

int weft_http_answer(struct weft_http *http, struct weft_buf *text)
{
	struct MHD_Response *response;

	if (LIST_EMPTY(&http->waiting)) {
		weft_buf_done(text);
		return 0;
	}
	response = MHD_create_response_from_buffer(text->size, text->data, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		weft_buf_done(text);
		weft_http_fail(http, "no memory for the metrics' text");
		return -ENOMEM;
	}
	*text = WEFT_BUF_INIT; /* the response frees it */
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
	answer_all(http, MHD_HTTP_OK, response);
	return 0;
}

void weft_http_fail(struct weft_http *http, const char *sentence)
{
	struct weft_buf text = WEFT_BUF_INIT;
	struct MHD_Response *response = NULL;

	if (LIST_EMPTY(&http->waiting)) {
		http->deadline_ms = 0;
		return;
	}
	if (!weft_buf_printf(&text, "%s\n", sentence))
		response = MHD_create_response_from_buffer(text.size, text.data, MHD_RESPMEM_MUST_FREE);
	if (!response)
		weft_buf_done(&text);
	answer_all(http, MHD_HTTP_SERVICE_UNAVAILABLE, response);
}
