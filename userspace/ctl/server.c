/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

struct weft_server_client {
	struct weft_server *server;
	struct weft_server_client *next;
	int sock;
	sd_event_source *io;
	sd_event_source *idle;
	struct weft_buf in;
	struct weft_buf out;
	size_t sent; /* of `out` */
	uint64_t lost; /* records that it has not been told of */
	bool watching;
	bool hang_up; /* once `out` is written */
	bool dead; /* freed when the event that is being handled is over */
};

struct weft_server {
	sd_event *loop;
	sd_event_source *accept;
	struct weft_server_handler handler;
	struct weft_server_client *clients;
	unsigned int count;
	unsigned int watchers;
	uint64_t lost;
	bool full; /* the listener is not asked while all places are taken */
};

static void set_full(struct weft_server *server, bool full)
{
	if (server->full == full)
		return;
	server->full = full;
	sd_event_source_set_enabled(server->accept, full ? SD_EVENT_OFF : SD_EVENT_ON);
}

static void stop_watching(struct weft_server_client *client)
{
	struct weft_server *server = client->server;

	if (!client->watching)
		return;
	client->watching = false;
	server->watchers--;
	server->handler.watchers(server->handler.context, server->watchers);
}

static void free_client(struct weft_server_client *client)
{
	sd_event_source_disable_unref(client->io);
	sd_event_source_disable_unref(client->idle);
	if (client->sock >= 0)
		close(client->sock);
	weft_buf_done(&client->in);
	weft_buf_done(&client->out);
	free(client);
}

static void drop(struct weft_server_client *client)
{
	struct weft_server *server = client->server;
	struct weft_server_client **link = &server->clients;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	server->count--;
	stop_watching(client);
	free_client(client);
	set_full(server, false);
}

static void touch(struct weft_server_client *client)
{
	bool at_rest = client->watching && client->sent == client->out.size;

	sd_event_source_set_time_relative(client->idle, (uint64_t)WEFT_SERVER_IDLE_MS * 1000);
	sd_event_source_set_enabled(client->idle, at_rest ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

/* One request at a time: while an answer is unread, what the client sends next stays in its socket. */
static void set_interest(struct weft_server_client *client)
{
	bool owed = client->sent < client->out.size;

	sd_event_source_set_io_events(client->io, client->watching ? EPOLLIN | (owed ? EPOLLOUT : 0) : owed ? EPOLLOUT : EPOLLIN);
}

static void flush(struct weft_server_client *client)
{
	while (client->sent < client->out.size) {
		ssize_t put = send(client->sock, client->out.data + client->sent, client->out.size - client->sent,
				   MSG_DONTWAIT | MSG_NOSIGNAL);

		if (put < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				client->dead = true;
			break;
		}
		client->sent += (size_t)put;
		touch(client);
	}
	if (client->sent > WEFT_SERVER_MAX_QUEUE && client->sent >= client->out.size / 2 && client->sent < client->out.size) {
		/* A watcher that is always a little behind never empties its queue. Half of it: no byte of a large answer is moved often. */
		memmove(client->out.data, client->out.data + client->sent, client->out.size - client->sent);
		client->out.size -= client->sent;
		client->sent = 0;
	}
	if (client->sent == client->out.size) {
		/* A large answer's memory is not kept for a small one's sake. */
		weft_buf_done(&client->out);
		client->sent = 0;
		if (client->hang_up)
			client->dead = true;
	}
	if (!client->dead)
		set_interest(client);
}

static void queue_object(struct weft_server_client *client, struct json_object *object)
{
	size_t size;
	const char *text = json_object_to_json_string_length(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);

	if (!text || weft_buf_add(&client->out, text, size) < 0 || weft_buf_add(&client->out, "\n", 1) < 0)
		client->dead = true; /* out of memory: half an answer is worse than none */
	json_object_put(object);
}

void weft_server_reply(struct weft_server_client *client, struct json_object *answer)
{
	if (!answer)
		answer = json_object_new_object();
	if (!answer || json_object_object_add(answer, "ok", json_object_new_boolean(true)) < 0) {
		json_object_put(answer);
		client->dead = true;
		return;
	}
	queue_object(client, answer);
}

void weft_server_refuse(struct weft_server_client *client, const char *format, ...)
{
	struct json_object *answer = json_object_new_object();
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_object_object_add(answer, "ok", json_object_new_boolean(false));
	json_object_object_add(answer, "error", json_object_new_string(text));
	queue_object(client, answer);
}

void weft_server_watch(struct weft_server_client *client)
{
	struct weft_server *server = client->server;

	weft_server_reply(client, NULL);
	if (client->watching)
		return;
	client->watching = true;
	server->watchers++;
	server->handler.watchers(server->handler.context, server->watchers);
}

int weft_server_parse(const char *line, size_t size, struct json_object **ret_request, struct weft_err *err)
{
	struct json_tokener *tokener = json_tokener_new_ex(WEFT_SERVER_MAX_DEPTH);
	struct json_object *request, *name;
	enum json_tokener_error error;
	int r = 0;

	if (!tokener)
		return weft_err_set(err, ENOMEM, "out of memory");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	request = json_tokener_parse_ex(tokener, line, (int)size);
	error = json_tokener_get_error(tokener);
	if (error == json_tokener_error_depth)
		r = weft_err_set(err, EINVAL, "the request is nested deeper than %d", WEFT_SERVER_MAX_DEPTH);
	else if (error != json_tokener_success)
		r = weft_err_set(err, EINVAL, "the request is not one JSON object: %s", json_tokener_error_desc(error));
	else if (json_tokener_get_parse_end(tokener) != size)
		r = weft_err_set(err, EINVAL, "the request is not one JSON object: something follows it");
	else if (!json_object_is_type(request, json_type_object))
		r = weft_err_set(err, EINVAL, "the request is not a JSON object");
	else if (!json_object_object_get_ex(request, "request", &name) || !json_object_is_type(name, json_type_string))
		r = weft_err_set(err, EINVAL, "the request lacks the string `request`");
	json_tokener_free(tokener);
	if (r < 0)
		json_object_put(request);
	else
		*ret_request = request;
	return r;
}

static void handle_line(struct weft_server_client *client, const char *line, size_t size)
{
	struct weft_server *server = client->server;
	struct json_object *request;
	struct weft_err err;

	if (weft_server_parse(line, size, &request, &err) < 0) {
		weft_server_refuse(client, "%s", err.text);
		return;
	}
	server->handler.request(server->handler.context, client, request);
	json_object_put(request);
}

/* Handles what is whole in `in`, stopping at the first answer that the client does not take at once. */
static void handle_input(struct weft_server_client *client)
{
	size_t at = 0;

	while (!client->dead && !client->hang_up && client->out.size == 0 && at < client->in.size) {
		char *end = memchr(client->in.data + at, '\n', client->in.size - at);

		if (!end)
			break;
		if (client->watching) {
			weft_server_refuse(client, "a connection that watches takes no more requests: hang up to end the watch");
			client->hang_up = true;
		} else {
			handle_line(client, client->in.data + at, (size_t)(end - client->in.data) - at);
		}
		at = (size_t)(end - client->in.data) + 1;
		flush(client);
	}
	if (at) {
		memmove(client->in.data, client->in.data + at, client->in.size - at);
		client->in.size -= at;
	}
	if (!client->dead && !client->hang_up && client->in.size >= WEFT_SERVER_MAX_LINE &&
	    !memchr(client->in.data, '\n', client->in.size)) {
		weft_server_refuse(client, "a request is longer than %u KiB", WEFT_SERVER_MAX_LINE >> 10);
		client->hang_up = true;
		flush(client);
	}
}

static void read_some(struct weft_server_client *client)
{
	char part[4096];
	size_t room = WEFT_SERVER_MAX_LINE - client->in.size;
	ssize_t got = recv(client->sock, part, room < sizeof(part) ? room : sizeof(part), MSG_DONTWAIT);

	if (got < 0) {
		if (errno != EAGAIN && errno != EINTR)
			client->dead = true;
		return;
	}
	if (got == 0 || weft_buf_add(&client->in, part, (size_t)got) < 0) {
		client->dead = true;
		return;
	}
	touch(client);
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct weft_server_client *client = context;

	(void)source;
	(void)fd;
	if (revents & EPOLLERR || (revents & EPOLLHUP && !(revents & EPOLLIN)))
		client->dead = true;
	if (!client->dead && revents & EPOLLOUT)
		flush(client);
	if (!client->dead && revents & EPOLLIN && !client->hang_up && client->in.size < WEFT_SERVER_MAX_LINE)
		read_some(client);
	if (!client->dead)
		handle_input(client);
	if (client->dead)
		drop(client);
	return 0;
}

static int on_idle(sd_event_source *source, uint64_t usec, void *context)
{
	(void)source;
	(void)usec;
	drop(context);
	return 0;
}

static void add_client(struct weft_server *server, int sock)
{
	struct weft_server_client *client = calloc(1, sizeof(*client));

	if (!client) {
		close(sock);
		return;
	}
	client->server = server;
	client->sock = sock;
	if (sd_event_add_io(server->loop, &client->io, sock, EPOLLIN, on_client, client) < 0 ||
	    sd_event_add_time_relative(server->loop, &client->idle, CLOCK_MONOTONIC, (uint64_t)WEFT_SERVER_IDLE_MS * 1000, 0, on_idle,
				       client) < 0) {
		free_client(client);
		return;
	}
	client->next = server->clients;
	server->clients = client;
	server->count++;
	set_full(server, server->count >= WEFT_SERVER_MAX_CLIENTS);
}

static int on_accept(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct weft_server *server = context;
	int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source;
	(void)revents;
	if (sock >= 0)
		add_client(server, sock);
	return 0;
}

int weft_server_new(sd_event *loop, int listener, const struct weft_server_handler *handler, struct weft_server **ret_server)
{
	weft_cleanup(weft_server_freep) struct weft_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return -ENOMEM;
	server->loop = sd_event_ref(loop);
	server->handler = *handler;
	r = sd_event_add_io(loop, &server->accept, listener, EPOLLIN, on_accept, server);
	if (r < 0)
		return r;
	*ret_server = weft_take_ptr(server);
	return 0;
}

struct weft_server *weft_server_free(struct weft_server *server)
{
	if (!server)
		return NULL;
	while (server->clients) {
		struct weft_server_client *client = server->clients;

		server->clients = client->next;
		free_client(client);
	}
	sd_event_source_disable_unref(server->accept);
	sd_event_unref(server->loop);
	free(server);
	return NULL;
}

void weft_server_publish(struct weft_server *server, const char *records, uint64_t count, uint64_t lost)
{
	struct weft_server_client *next;

	for (struct weft_server_client *client = server->clients; client; client = next) {
		next = client->next;
		if (!client->watching)
			continue;
		client->lost += lost;
		if (client->out.size - client->sent > WEFT_SERVER_MAX_QUEUE) {
			client->lost += count;
			server->lost += count;
			continue;
		}
		if (weft_buf_printf(&client->out, "{\"lost\":%llu,\"events\":%s}\n", (unsigned long long)client->lost, records) < 0) {
			client->lost += count;
			server->lost += count;
			continue;
		}
		client->lost = 0;
		flush(client);
		touch(client);
		if (client->dead)
			drop(client);
	}
}

unsigned int weft_server_watchers(const struct weft_server *server)
{
	return server->watchers;
}

uint64_t weft_server_lost(const struct weft_server *server)
{
	return server->lost;
}
