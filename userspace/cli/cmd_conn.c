/* SPDX-License-Identifier: Apache-2.0 */
/* weft conn: sockets by the pinned iterator, records by the agent. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/agent.h"
#include "cli/clock.h"
#include "cli/secure.h"
#include "cli/view.h"

static const char *state_name(uint8_t state)
{
	static const char *const name[] = {
		[TCP_ESTABLISHED] = "established",
		[TCP_SYN_SENT] = "syn-sent",
		[TCP_SYN_RECV] = "syn-recv",
		[TCP_FIN_WAIT1] = "fin-wait-1",
		[TCP_FIN_WAIT2] = "fin-wait-2",
		[TCP_TIME_WAIT] = "time-wait",
		[TCP_CLOSE] = "close",
		[TCP_CLOSE_WAIT] = "close-wait",
		[TCP_LAST_ACK] = "last-ack",
		[TCP_LISTEN] = "listen",
		[TCP_CLOSING] = "closing",
		[TCP_CLOSING + 1] = "new-syn-recv", /* the kernel's TCP_NEW_SYN_RECV, which has no public name */
	};

	return state < WEFT_ARRAY_SIZE(name) && name[state] ? name[state] : "?";
}

static bool has_peers(struct weft_view *view, const struct weft_args *args, uint32_t service, uint32_t source,
		      uint32_t destination)
{
	const char *pod = args->text[WEFT_ARG_POD];

	return weft_view_service_is(view, service, args->text[WEFT_ARG_SERVICE]) &&
	       (!pod || weft_view_workload_is(view, source, pod) || weft_view_workload_is(view, destination, pod));
}

static bool wanted(struct weft_view *view, const struct weft_args *args, const struct weft_conn *conn)
{
	const char *protocol = args->text[WEFT_ARG_PROTOCOL], *state = args->text[WEFT_ARG_STATE];

	return has_peers(view, args, conn->service, conn->workload, conn->peer) &&
	       (!protocol || strcmp(protocol, weft_protocol_name(conn->protocol)) == 0) &&
	       (!state || strcmp(state, state_name(conn->state)) == 0);
}

static void put_end(struct weft_output *out, struct weft_view *view, const char *key, uint32_t workload,
		    const struct weft_addr *addr)
{
	char text[WEFT_LABEL];

	if (workload)
		weft_output_text(out, key, weft_view_workload(view, workload, text));
	else
		weft_output_addr(out, key, addr);
}

/* mutual_tls only if a proxy says so; a captured connection of which none says anything is nothing yet, unless none can be asked. */
static void put_security(struct weft_output *out, const struct weft_conn *conn, const struct weft_secure_conns *secure)
{
	bool server = conn->role == WEFT_ROLE_SERVER;
	struct weft_secure_conn found;

	if (weft_secure_conns_find(secure, conn, &found)) {
		weft_output_text(out, "security", found.security);
		weft_output_text(out, "peer_identity", found.peer_identity);
		weft_output_text(out, "source_identity", server ? found.peer_identity : found.identity);
		weft_output_text(out, "destination_identity", server ? found.identity : found.peer_identity);
	} else if (conn->flags & WEFT_SOCK_F_ATTESTED) {
		weft_output_text(out, "security", "attested");
	} else if (secure) {
		weft_output_text(out, "security", "none");
	}
}

static void put(struct weft_output *out, struct weft_view *view, const struct weft_conn *conn, const struct weft_secure_conns *secure,
		uint64_t now)
{
	bool server = conn->role == WEFT_ROLE_SERVER;
	char text[WEFT_LABEL];

	weft_output_row(out);
	weft_output_text(out, "protocol", weft_protocol_name(conn->protocol));
	weft_output_text(out, "role", server ? "server" : "client");
	put_end(out, view, "source", server ? conn->peer : conn->workload, server ? &conn->remote : &conn->local);
	put_end(out, view, "destination", server ? conn->workload : conn->peer, server ? &conn->local : &conn->remote);
	weft_output_text(out, "service", weft_view_service(view, conn->service, text));
	if (conn->flags & WEFT_SOCK_F_TRANSLATED)
		weft_output_text(out, "frontend",
				 weft_addr_port_format(&conn->frontend, ntohs(conn->frontend_port), text));
	weft_output_text(out, "local", weft_addr_port_format(&conn->local, ntohs(conn->local_port), text));
	weft_output_text(out, "remote", weft_addr_port_format(&conn->remote, ntohs(conn->remote_port), text));
	weft_output_text(out, "state", state_name(conn->state));
	put_security(out, conn, secure);
	if (conn->start_ns && conn->start_ns <= now)
		weft_output_number(out, "age_ns", now - conn->start_ns);
	weft_output_number(out, "sent", conn->sent);
	weft_output_number(out, "received", conn->received);
	if (conn->protocol == IPPROTO_TCP) {
		weft_output_number(out, "rtt_us", conn->srtt_us);
		/* the kernel starts the minimum at its highest value: no sample yet */
		if (conn->min_rtt_us != UINT32_MAX)
			weft_output_number(out, "min_rtt_us", conn->min_rtt_us);
		weft_output_number(out, "retransmits", conn->retransmits);
	}
	if (conn->endpoint)
		weft_output_number(out, "endpoint", conn->endpoint);
	weft_output_number(out, "cookie", conn->cookie);
	if (conn->netns)
		weft_output_number(out, "netns", conn->netns);
	weft_output_number(out, "netns_inode", conn->netns_inode);
	weft_output_row_end(out);
}

static int require(struct weft_view *view, const struct weft_args *args, struct weft_err *err)
{
	uint32_t id;
	int r = 0;

	if (args->text[WEFT_ARG_SERVICE])
		r = weft_view_require_service(view, args->text[WEFT_ARG_SERVICE], err);
	if (r == 0 && args->text[WEFT_ARG_POD])
		r = weft_view_require_workload(view, args->text[WEFT_ARG_POD], &id, err);
	return r;
}

/* Oldest first; what starts at once is told apart by cookie, so that two looks list alike. */
static int by_start(const void *left, const void *right)
{
	const struct weft_conn *a = left, *b = right;

	if (a->start_ns != b->start_ns)
		return a->start_ns < b->start_ns ? -1 : 1;
	return a->cookie < b->cookie ? -1 : a->cookie > b->cookie;
}

int weft_cmd_conn_list(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_secure_conns_freep) struct weft_secure_conns *secure = NULL;
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;
	struct weft_conn *conns;
	struct weft_err missing;
	size_t count;
	uint64_t now;
	int r;

	r = weft_view_open(context->options, &view, err);
	if (r == 0)
		r = require(view, args, err);
	if (r == 0)
		r = weft_reader_conns(weft_view_reader(view), &buf, &count, &missing, err);
	if (r < 0)
		return r;
	if (missing.text[0])
		fprintf(stderr, "weft: %s\n", missing.text);
	secure = weft_secure_conns_ask(context->options);
	conns = (struct weft_conn *)(void *)buf.data;
	now = weft_clock_monotonic_ns();
	if (count)
		qsort(conns, count, sizeof(*conns), by_start);
	for (size_t i = 0; i < count; i++)
		if (wanted(view, args, &conns[i]))
			put(context->output, view, &conns[i], secure, now);
	return 0;
}

/* Names are read again for every line: a record may speak of what was born after the watch began. */
struct watch {
	struct weft_context *context;
	const struct weft_args *args;
	uint32_t left; /* 0: no end */
};

static void put_side(struct weft_output *out, struct weft_view *view, const char *key, uint32_t workload,
		     const char *address)
{
	char text[WEFT_LABEL], host[WEFT_ADDR_TEXT];
	struct weft_addr addr;
	uint16_t port;

	if (workload)
		weft_output_text(out, key, weft_view_workload(view, workload, text));
	else if (weft_addr_port_parse(address, &addr, &port) == 0)
		weft_output_text(out, key, weft_addr_format(&addr, host));
}

static bool put_event(struct watch *watch, struct weft_view *view, struct json_object *event)
{
	/* the first ones are 0 where there is nothing to tell yet */
	static const char *const numbers[] = { "min_rtt_us",  "connect_ns", "duration_ns", "netns",   "endpoint",
					       "retransmits", "sent",	    "received",	   "time_ns", "cookie" };
	const size_t known_if_set = 5;
	struct weft_output *out = watch->context->output;
	const char *protocol = watch->args->text[WEFT_ARG_PROTOCOL], *outcome = weft_agent_text(event, "outcome");
	bool server = strcmp(weft_agent_text(event, "reporter"), "destination") == 0;
	uint32_t service = (uint32_t)weft_agent_number(event, "service");
	uint32_t source = (uint32_t)weft_agent_number(event, "source");
	uint32_t destination = (uint32_t)weft_agent_number(event, "destination");
	const char *local = weft_agent_text(event, "local"), *remote = weft_agent_text(event, "remote");
	char text[WEFT_LABEL];

	if (!has_peers(view, watch->args, service, source, destination) ||
	    (protocol && strcmp(protocol, weft_agent_text(event, "protocol")) != 0))
		return false;
	weft_output_row(out);
	weft_output_text(out, "type", weft_agent_text(event, "type"));
	weft_output_text(out, "outcome", *outcome ? outcome : weft_agent_text(event, "reason"));
	weft_output_text(out, "protocol", weft_agent_text(event, "protocol"));
	weft_output_text(out, "reporter", weft_agent_text(event, "reporter"));
	put_side(out, view, "source", source, server ? remote : local);
	put_side(out, view, "destination", destination, server ? local : remote);
	weft_output_text(out, "service", weft_view_service(view, service, text));
	weft_output_text(out, "frontend", weft_agent_text(event, "frontend"));
	weft_output_text(out, "local", local);
	weft_output_text(out, "remote", remote);
	if (weft_agent_number(event, "srtt_us"))
		weft_output_number(out, "rtt_us", weft_agent_number(event, "srtt_us"));
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(numbers); i++)
		if (weft_agent_number(event, numbers[i]) ||
		    (i >= known_if_set && weft_agent_member(event, numbers[i], json_type_int)))
			weft_output_number(out, numbers[i], weft_agent_number(event, numbers[i]));
	weft_output_row_end(out);
	return true;
}

/* 1: enough. */
static int put_line(struct watch *watch, struct json_object *line, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	struct weft_output *out = watch->context->output;
	struct json_object *events = weft_agent_member(line, "events", json_type_array);
	uint64_t lost = weft_agent_number(line, "lost");
	int r;

	if (lost) {
		weft_output_row(out);
		weft_output_text(out, "type", "lost");
		weft_output_textf(out, "outcome", "%" PRIu64 " records", lost);
		weft_output_number(out, "lost", lost);
		weft_output_row_end(out);
	}
	if (!events || !json_object_array_length(events))
		return 0;
	r = weft_view_open(watch->context->options, &view, err);
	for (size_t i = 0; r == 0 && i < json_object_array_length(events); i++)
		if (put_event(watch, view, json_object_array_get_idx(events, i)) && watch->left && --watch->left == 0)
			r = 1;
	return r;
}

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

int weft_cmd_conn_watch(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_client_closep) struct weft_client *client = NULL;
	weft_json_on_exit struct json_object *answer = NULL;
	struct watch watch = { context, args, args->number[WEFT_ARG_COUNT] };
	const struct sigaction action = { .sa_handler = interrupt };
	int r;

	if (args->text[WEFT_ARG_SERVICE] || args->text[WEFT_ARG_POD]) {
		weft_cleanup(weft_view_closep) struct weft_view *view = NULL;

		r = weft_view_open(context->options, &view, err);
		if (r == 0)
			r = require(view, args, err);
		if (r < 0)
			return r;
	}
	r = weft_client_open(context->options->run, &client, err);
	if (r == 0)
		r = weft_client_ask(client, "conn.watch", &answer, err);
	if (r < 0)
		return r;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	while (!interrupted) {
		weft_json_on_exit struct json_object *line = NULL;

		r = weft_client_next(client, -1, &line, err);
		if (r == -EINTR)
			continue;
		if (r == 0)
			r = put_line(&watch, line, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return 0;
}
