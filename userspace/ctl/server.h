/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's half of docs/CONTROL.md: JSON lines on a listening Unix socket.
 * Whoever connects is served within bounds: so many clients, so long a line,
 * so deep an object, so much unread output, so long without progress. It
 * knows no request; that is the handler's business.
 */
#ifndef WEFT_CTL_SERVER_H
#define WEFT_CTL_SERVER_H

#include <json-c/json.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/err.h"

#define WEFT_SERVER_MAX_CLIENTS 64
#define WEFT_SERVER_MAX_LINE (64u << 10) /* bytes of a request, its newline included */
#define WEFT_SERVER_MAX_DEPTH 8 /* of a request; the deepest one has 1 */
#define WEFT_SERVER_MAX_QUEUE (1u << 20) /* unread bytes beyond which a watcher loses records */
#define WEFT_SERVER_IDLE_MS 30000 /* without a byte in either direction, watchers that owe nothing apart */

struct weft_server;
struct weft_server_client;

struct weft_server_handler {
	/* One call a request, an object with a string member `request`. Answers by exactly one of reply, refuse, watch. */
	void (*request)(void *context, struct weft_server_client *client, struct json_object *request);
	/* The number of watchers changed. */
	void (*watchers)(void *context, unsigned int count);
	void *context;
};

/*
 * One line without its newline -> a request, which the caller puts. -EINVAL with a sentence for the client.
 */
int weft_server_parse(const char *line, size_t size, struct json_object **ret_request, struct weft_err *err);

/* `listener` stays the caller's. */
int weft_server_new(sd_event *loop, int listener, const struct weft_server_handler *handler, struct weft_server **ret_server);
struct weft_server *weft_server_free(struct weft_server *server);
WEFT_CLEANUP_DEFINE(struct weft_server, weft_server_free);

/* Takes `answer` (NULL: an empty one) and adds "ok": true. */
void weft_server_reply(struct weft_server_client *client, struct json_object *answer);
void weft_server_refuse(struct weft_server_client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Answers ok and makes the client a watcher until it hangs up. */
void weft_server_watch(struct weft_server_client *client);

/*
 * `records` is the text of a JSON array of `count` records, `lost` how many were lost on the way here. Each
 * watcher gets a line, or has them added to what it is told to have lost when it reads again.
 */
void weft_server_publish(struct weft_server *server, const char *records, uint64_t count, uint64_t lost);

unsigned int weft_server_watchers(const struct weft_server *server);
/* Records that slow watchers did not get, since the start. */
uint64_t weft_server_lost(const struct weft_server *server);

#endif
