/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/client.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/buf.h"

#define MAX_DEPTH 32

struct weft_client {
	int sock;
	char *path;
	struct weft_buf in;
	size_t taken; /* of `in`, by lines that were handed out */
	size_t searched; /* of `in`, without a newline */
};

int weft_client_open(const char *run, struct weft_client **ret_client, struct weft_err *err)
{
	weft_cleanup(weft_client_closep) struct weft_client *client = calloc(1, sizeof(*client));
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	if (!client)
		return weft_err_set(err, ENOMEM, "out of memory");
	client->sock = -1;
	if (asprintf(&client->path, "%s/weft.sock", run) < 0) {
		client->path = NULL;
		return weft_err_set(err, ENOMEM, "out of memory");
	}
	if (strlen(client->path) >= sizeof(name.sun_path))
		return weft_err_set(err, ENAMETOOLONG, "%s is longer than a socket's name may be (%zu bytes): use a shorter run folder",
				    client->path, sizeof(name.sun_path) - 1);
	strcpy(name.sun_path, client->path);
	client->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->sock < 0)
		return weft_err_set(err, errno, "cannot make a Unix socket: %m");
	if (connect(client->sock, (struct sockaddr *)&name, sizeof(name)) < 0) {
		if (errno == EACCES || errno == EPERM)
			return weft_err_set(err, errno, "not allowed to speak to the agent on %s: run this as root", client->path);
		return weft_err_set(err, errno, "no agent answers on %s (%m): start weftd, or name its run folder; what the kernel holds is shown without it",
				    client->path);
	}
	*ret_client = weft_take_ptr(client);
	return 0;
}

struct weft_client *weft_client_close(struct weft_client *client)
{
	if (!client)
		return NULL;
	if (client->sock >= 0)
		close(client->sock);
	weft_buf_done(&client->in);
	free(client->path);
	free(client);
	return NULL;
}

int weft_client_fd(const struct weft_client *client)
{
	return client->sock;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits for `events`; -ETIMEDOUT, -EINTR. */
static int wait_for(struct weft_client *client, short events, int64_t due, struct weft_err *err)
{
	struct pollfd one = { .fd = client->sock, .events = events };
	int64_t left = due < 0 ? -1 : due - now_ms();
	int r = poll(&one, 1, due < 0 ? -1 : left < 0 ? 0 : (int)left);

	if (r < 0)
		return weft_err_set(err, errno, "waiting for the agent on %s: %m", client->path);
	if (r == 0)
		return weft_err_set(err, ETIMEDOUT, "the agent on %s does not answer: see its log", client->path);
	return 0;
}

/* Up to and without the next newline. The line stays valid until the next call. */
static int read_line(struct weft_client *client, int64_t due, const char **ret_line, size_t *ret_size, struct weft_err *err)
{
	char part[65536];

	if (client->taken) {
		size_t rest = client->in.size - client->taken;

		memmove(client->in.data, client->in.data + client->taken, rest);
		client->in.size = rest;
		client->taken = 0;
		client->searched = 0;
	}
	for (;;) {
		char *end = client->in.size > client->searched
				    ? memchr(client->in.data + client->searched, '\n', client->in.size - client->searched)
				    : NULL;
		ssize_t got;
		int r;

		if (end) {
			*ret_line = client->in.data;
			*ret_size = (size_t)(end - client->in.data);
			client->taken = *ret_size + 1;
			return 0;
		}
		client->searched = client->in.size;
		if (client->in.size > WEFT_CLIENT_MAX_LINE)
			return weft_err_set(err, EBADMSG, "the agent on %s answers with more than %u MiB in one line", client->path,
					    WEFT_CLIENT_MAX_LINE >> 20);
		got = recv(client->sock, part, sizeof(part), MSG_DONTWAIT);
		if (got == 0)
			return weft_err_set(err, ECONNRESET, "the agent on %s hung up: see its log", client->path);
		if (got < 0) {
			if (errno != EAGAIN)
				return weft_err_set(err, errno, "cannot read from the agent on %s: %m", client->path);
			r = wait_for(client, POLLIN, due, err);
			if (r < 0)
				return r;
			continue;
		}
		if (weft_buf_add(&client->in, part, (size_t)got) < 0)
			return weft_err_set(err, ENOMEM, "out of memory");
	}
}

static int read_object(struct weft_client *client, int64_t due, struct json_object **ret_object, struct weft_err *err)
{
	struct json_object *object;
	struct json_tokener *tokener;
	const char *line;
	size_t size;
	int r = read_line(client, due, &line, &size, err);

	if (r < 0)
		return r;
	tokener = json_tokener_new_ex(MAX_DEPTH);
	if (!tokener)
		return weft_err_set(err, ENOMEM, "out of memory");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	object = json_tokener_parse_ex(tokener, line, (int)size);
	/* A number at the very end is complete only once something follows; an object needs no more. */
	if (json_tokener_get_error(tokener) != json_tokener_success || json_tokener_get_parse_end(tokener) != size ||
	    !json_object_is_type(object, json_type_object)) {
		json_tokener_free(tokener);
		json_object_put(object);
		return weft_err_set(err, EBADMSG, "what answers on %s does not speak this protocol: is it weftd, of this version?",
				    client->path);
	}
	json_tokener_free(tokener);
	*ret_object = object;
	return 0;
}

int weft_client_next(struct weft_client *client, int timeout_ms, struct json_object **ret_line, struct weft_err *err)
{
	return read_object(client, timeout_ms < 0 ? -1 : now_ms() + timeout_ms, ret_line, err);
}

static int send_line(struct weft_client *client, struct json_object *request, int64_t due, struct weft_err *err)
{
	weft_cleanup(weft_buf_done) struct weft_buf line = WEFT_BUF_INIT;
	size_t at = 0;

	if (weft_buf_printf(&line, "%s\n", json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)) < 0)
		return weft_err_set(err, ENOMEM, "out of memory");
	while (at < line.size) {
		ssize_t put = send(client->sock, line.data + at, line.size - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		int r;

		if (put >= 0) {
			at += (size_t)put;
			continue;
		}
		/* A refusal may be waiting to be read: the agent has said it and hung up. */
		if (errno == EPIPE || errno == ECONNRESET)
			return 0;
		if (errno != EAGAIN)
			return weft_err_set(err, errno, "cannot write to the agent on %s: %m", client->path);
		r = wait_for(client, POLLOUT, due, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int weft_client_call(struct weft_client *client, struct json_object *request, struct json_object **ret_answer,
		     struct weft_err *err)
{
	int64_t due = now_ms() + WEFT_CLIENT_TIMEOUT_MS;
	weft_json_on_exit struct json_object *answer = NULL;
	struct json_object *ok;
	const char *why;
	int r;

	r = send_line(client, request, due, err);
	if (r < 0)
		return r;
	r = read_object(client, due, &answer, err);
	if (r < 0)
		return r;
	if (!json_object_object_get_ex(answer, "ok", &ok) || !json_object_is_type(ok, json_type_boolean))
		return weft_err_set(err, EBADMSG, "an answer on %s lacks `ok`: is it weftd, of this version?", client->path);
	if (!json_object_get_boolean(ok)) {
		why = json_object_get_string(json_object_object_get(answer, "error"));
		if (!why || !*why)
			return weft_err_set(err, EREMOTEIO, "the agent on %s refused without saying why: see its log", client->path);
		return weft_err_set(err, EREMOTEIO, "%s", why);
	}
	*ret_answer = weft_take_ptr(answer);
	return 0;
}

int weft_client_ask(struct weft_client *client, const char *name, struct json_object **ret_answer, struct weft_err *err)
{
	weft_json_on_exit struct json_object *request = json_object_new_object();

	if (!request || json_object_object_add(request, "request", json_object_new_string(name)) < 0)
		return weft_err_set(err, ENOMEM, "out of memory");
	return weft_client_call(client, request, ret_answer, err);
}
