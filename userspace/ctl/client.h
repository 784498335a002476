/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CLI's half of docs/CONTROL.md: connect, ask, read the answer, or read
 * line after line of a watch. Blocking, with a time limit for answers. What
 * the agent says is checked for shape here and for content by who asked.
 */
#ifndef WEFT_CTL_CLIENT_H
#define WEFT_CTL_CLIENT_H

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/err.h"

#define WEFT_CLIENT_TIMEOUT_MS 10000 /* for one answer */
#define WEFT_CLIENT_MAX_LINE (256u << 20) /* bytes of one answer */

struct weft_client;

/*
 * `run` is the instance's run folder. -ECONNREFUSED, -ENOENT: no agent answers there, `err` says so and what
 * works without it; -EACCES: not allowed.
 */
int weft_client_open(const char *run, struct weft_client **ret_client, struct weft_err *err);
struct weft_client *weft_client_close(struct weft_client *client);
WEFT_CLEANUP_DEFINE(struct weft_client, weft_client_close);

/*
 * Sends `request` and waits for its answer, which the caller puts (json_object_put). -EREMOTEIO: the agent
 * refused, `err` is its sentence; -ETIMEDOUT; -ECONNRESET: it hung up; -EBADMSG: what came back is no answer.
 */
int weft_client_call(struct weft_client *client, struct json_object *request, struct json_object **ret_answer,
		     struct weft_err *err);
/* The same for a request without members: {"request": name}. */
int weft_client_ask(struct weft_client *client, const char *name, struct json_object **ret_answer, struct weft_err *err);

/*
 * The next line of a watch. timeout_ms -1 waits for ever; -ETIMEDOUT and -EINTR (a signal came) leave the watch as it is.
 */
int weft_client_next(struct weft_client *client, int timeout_ms, struct json_object **ret_line, struct weft_err *err);
/* To poll beside others; may be readable without a whole line, and a line may be buffered: call next with timeout 0 until -ETIMEDOUT. */
int weft_client_fd(const struct weft_client *client);

static inline void weft_json_putp(struct json_object **object)
{
	json_object_put(*object);
}
#define weft_json_on_exit weft_cleanup(weft_json_putp)

#endif
