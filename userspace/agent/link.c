/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/link.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ctl/role.h"

void weft_link_bulk_done(struct weft_link_bulk *bulk)
{
	if (bulk->size)
		munmap((void *)bulk->data, bulk->size);
	*bulk = (struct weft_link_bulk){ 0 };
}

static int give_up(struct weft_link *link, int r)
{
	link->asked_count = 0;
	close(weft_take_fd(link->sock));
	return r;
}

static void hand_over(struct weft_link *link, const struct weft_role_message *message, const struct weft_link_bulk *bulk)
{
	link->records(link->context, bulk->data, message->count, message->arg[0]);
}

/* One message, mapped. */
static int receive(struct weft_link *link, int flags, struct weft_role_message *ret_message, struct weft_link_bulk *bulk,
		   struct weft_err *err)
{
	weft_close_on_exit int fd = -1;
	struct weft_role_message message;
	int r = weft_role_receive(link->sock, WEFT_ROLE_SIDE_MAIN, flags, &message, &fd, err);

	if (r < 0)
		return r;
	if (message.bytes) {
		r = weft_memfd_map(fd, message.bytes, &bulk->data);
		if (r < 0)
			return weft_err_set(err, EBADMSG, "main sent %s with a memory file that is not sealed or of another size",
					    weft_role_type_name(message.type));
		bulk->size = message.bytes;
	}
	*ret_message = message;
	return 0;
}

static bool answers(const struct weft_role_message *request, const struct weft_role_message *message)
{
	switch (request->type) {
	case WEFT_ROLE_HELLO:
	case WEFT_ROLE_GROW:
		return message->type == WEFT_ROLE_READY;
	case WEFT_ROLE_READ:
	case WEFT_ROLE_CONNS:
		return message->type == WEFT_ROLE_DATA;
	default:
		return message->type == WEFT_ROLE_RESULT;
	}
}

/* Whether it is the answer to the oldest request that nobody waits for. */
static bool dispatch(struct weft_link *link, const struct weft_role_message *message, const struct weft_link_bulk *bulk)
{
	struct weft_link_asked asked = link->asked[0];
	const struct weft_role_message request = { .type = asked.type };

	if (!link->asked_count || message->serial != asked.serial || !answers(&request, message))
		return false;
	memmove(link->asked, link->asked + 1, --link->asked_count * sizeof(asked));
	if (asked.answered)
		asked.answered(link->context, message->error, bulk);
	return true;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t weft_link_age_ns(const struct weft_link *link)
{
	return link->asked_count ? now_ns() - link->asked[0].since_ns : 0;
}

int weft_link_ask(struct weft_link *link, struct weft_role_message *request, weft_link_answered *answered, struct weft_err *err)
{
	int r;

	if (link->sock < 0)
		return weft_err_set(err, ENOTCONN, "main is restarting: ask again in a moment");
	if (link->asked_count == WEFT_LINK_MAX_ASKED)
		return weft_err_set(err, EBUSY, "main does not answer: ask again in a moment");
	request->serial = ++link->serial;
	r = weft_role_send(link->sock, request, NULL, 0, MSG_DONTWAIT);
	if (r == -EAGAIN)
		return weft_err_set(err, EBUSY, "main does not answer: ask again in a moment");
	if (r < 0)
		return give_up(link, weft_err_set(err, ECONNRESET, "main went away"));
	link->asked[link->asked_count++] = (struct weft_link_asked){ request->serial, request->type, now_ns(), answered };
	return 0;
}

int weft_link_call(struct weft_link *link, struct weft_role_message *request, const void *data, size_t size,
		   struct weft_role_message *ret_answer, struct weft_link_bulk *bulk, struct weft_err *err)
{
	const struct timeval limit = { .tv_sec = WEFT_LINK_TIMEOUT_S };
	int r;

	if (link->sock < 0)
		return weft_err_set(err, ENOTCONN, "main is restarting: ask again in a moment");
	request->serial = ++link->serial;
	setsockopt(link->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(link->sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	r = weft_role_send(link->sock, request, data, size, 0);
	if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)
		return weft_err_set(err, r, "cannot ask main to %s: %m", weft_role_type_name(request->type));
	if (r < 0)
		return give_up(link, r == -EAGAIN ? weft_err_set(err, ETIMEDOUT, "main does not take requests for %d s", WEFT_LINK_TIMEOUT_S)
						  : weft_err_set(err, ECONNRESET, "main went away"));
	for (;;) {
		weft_cleanup(weft_link_bulk_done) struct weft_link_bulk here = { 0 };
		struct weft_role_message message;

		r = receive(link, 0, &message, &here, err);
		if (r == -EAGAIN)
			return give_up(link, weft_err_set(err, ETIMEDOUT, "main does not answer %s for %d s",
							  weft_role_type_name(request->type), WEFT_LINK_TIMEOUT_S));
		if (r < 0)
			return give_up(link, r == -EBADMSG ? r : -ECONNRESET);
		if (message.type == WEFT_ROLE_EVENTS) {
			hand_over(link, &message, &here);
			continue;
		}
		if (dispatch(link, &message, &here))
			continue;
		if (message.serial != request->serial || !answers(request, &message))
			return give_up(link, weft_err_set(err, EBADMSG, "main answered %s number %u by %s number %u",
							  weft_role_type_name(request->type), request->serial,
							  weft_role_type_name(message.type), message.serial));
		if (ret_answer)
			*ret_answer = message;
		if (message.error < 0)
			return weft_err_set(err, message.error, "main could not do %s: %m", weft_role_type_name(request->type));
		if (bulk) {
			*bulk = here;
			here = (struct weft_link_bulk){ 0 };
		}
		return 0;
	}
}

int weft_link_receive(struct weft_link *link, struct weft_err *err)
{
	weft_cleanup(weft_link_bulk_done) struct weft_link_bulk here = { 0 };
	struct weft_role_message message;
	int r = link->sock < 0 ? -ENOTCONN : receive(link, MSG_DONTWAIT, &message, &here, err);

	if (r == -EAGAIN || r == -ENOTCONN)
		return 0;
	if (r < 0)
		return give_up(link, r == -EBADMSG ? r : -ECONNRESET);
	if (dispatch(link, &message, &here))
		return 0;
	if (message.type != WEFT_ROLE_EVENTS)
		return give_up(link, weft_err_set(err, EBADMSG, "main sent %s unasked", weft_role_type_name(message.type)));
	hand_over(link, &message, &here);
	return 0;
}
