/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/proxy.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "ctl/datagram.h"
#include "weft/abi/maps.h"

static_assert(WEFT_PROXY_MAX_SOCKETS <= WEFT_DATAGRAM_MAX_FDS, "a datagram has to hold them");

/* What each type may look like; a type without a row does not exist. */
static const struct shape {
	const char *name;
	enum weft_proxy_side from;
	enum { ALONE, MEMFD, SOCKETS } with;
} shapes[WEFT_PROXY_MESSAGE_TYPE_MAX_] = {
	[WEFT_PROXY_MESH] = { "MESH", WEFT_PROXY_SIDE_CONTROL, MEMFD },
	[WEFT_PROXY_CONNS_WANTED] = { "CONNS_WANTED", WEFT_PROXY_SIDE_CONTROL, ALONE },
	[WEFT_PROXY_LOG_LEVEL] = { "LOG_LEVEL", WEFT_PROXY_SIDE_CONTROL, ALONE },
	[WEFT_PROXY_CONNS] = { "CONNS", WEFT_PROXY_SIDE_TO_CONTROL, MEMFD },
	[WEFT_PROXY_WANT_SOCKETS] = { "WANT_SOCKETS", WEFT_PROXY_SIDE_TO_MAIN, ALONE },
	[WEFT_PROXY_SOCKETS] = { "SOCKETS", WEFT_PROXY_SIDE_MAIN, SOCKETS },
};

const char *weft_proxy_type_name(unsigned int type)
{
	return type < WEFT_PROXY_MESSAGE_TYPE_MAX_ ? shapes[type].name : NULL;
}

struct weft_proxy_message weft_proxy_message(enum weft_proxy_message_type type, __u32 serial)
{
	return (struct weft_proxy_message){
		.magic = WEFT_ABI_MAGIC, .version = WEFT_PROXY_VERSION, .type = (__u16)type, .serial = serial
	};
}

static int check_arguments(const struct weft_proxy_message *message, struct weft_err *err)
{
	const char *name = shapes[message->type].name;
	bool want = message->type == WEFT_PROXY_WANT_SOCKETS;

	if (message->error && message->type != WEFT_PROXY_SOCKETS)
		return weft_err_set(err, EBADMSG, "%s with error %d, it never has one", name, message->error);
	if (message->error > 0)
		return weft_err_set(err, EBADMSG, "%s with error %d, which is positive", name, message->error);
	if (message->count && !want && message->type != WEFT_PROXY_SOCKETS && message->type != WEFT_PROXY_CONNS)
		return weft_err_set(err, EBADMSG, "%s of %u, it never counts", name, message->count);
	if (!want && (message->arg[1] || message->arg[2] || (message->arg[0] && message->type != WEFT_PROXY_LOG_LEVEL && message->type != WEFT_PROXY_SOCKETS)))
		return weft_err_set(err, EBADMSG, "%s with arguments that it does not have", name);
	if (want && (message->count == 0 || message->count > WEFT_PROXY_MAX_SOCKETS))
		return weft_err_set(err, EBADMSG, "%s wants %u sockets, 1 to %d are possible", name, message->count, WEFT_PROXY_MAX_SOCKETS);
	if (want && (!message->arg[0] || message->arg[1] >= WEFT_PROXY_SOCKET_MAX_ || (message->arg[2] != AF_INET && message->arg[2] != AF_INET6)))
		return weft_err_set(err, EBADMSG, "%s for namespace %llu, kind %llu and family %llu", name, message->arg[0], message->arg[1],
				    message->arg[2]);
	if (message->type == WEFT_PROXY_LOG_LEVEL && message->arg[0] >= WEFT_LOG_LEVEL_MAX_)
		return weft_err_set(err, EBADMSG, "%s %llu, which is none", name, message->arg[0]);
	return 0;
}

int weft_proxy_check(const void *data, size_t size, size_t fds, enum weft_proxy_side from, struct weft_proxy_message *ret_message,
		     struct weft_err *err)
{
	static const char *const sides[] = { [WEFT_PROXY_SIDE_CONTROL] = "control", [WEFT_PROXY_SIDE_MAIN] = "main",
					     [WEFT_PROXY_SIDE_TO_CONTROL] = "a proxy to control", [WEFT_PROXY_SIDE_TO_MAIN] = "a proxy to main" };
	struct weft_proxy_message message;
	const struct shape *shape;
	size_t expected;
	int r;

	if (size != sizeof(message))
		return weft_err_set(err, EBADMSG, "a proxy message of %zu bytes, expected %zu", size, sizeof(message));
	memcpy(&message, data, sizeof(message));
	if (message.magic != WEFT_ABI_MAGIC)
		return weft_err_set(err, EBADMSG, "a proxy message with magic %#x, expected %#x", message.magic, WEFT_ABI_MAGIC);
	if (message.version != WEFT_PROXY_VERSION)
		return weft_err_set(err, EBADMSG, "a proxy message of version %u, this build speaks %d: all roles must be of one build",
				    message.version, WEFT_PROXY_VERSION);
	if (!weft_proxy_type_name(message.type))
		return weft_err_set(err, EBADMSG, "a proxy message of unknown type %u", message.type);
	shape = &shapes[message.type];
	if (shape->from != from)
		return weft_err_set(err, EBADMSG, "%s came from %s, which never sends it", shape->name, sides[from]);
	if (message.pad != 0)
		return weft_err_set(err, EBADMSG, "%s with padding that is not zero", shape->name);
	if ((shape->with == MEMFD) != (message.bytes != 0))
		return weft_err_set(err, EBADMSG, "%s announces %llu bytes", shape->name, message.bytes);
	if (message.bytes > WEFT_PROXY_MAX_BYTES)
		return weft_err_set(err, EBADMSG, "%s with %llu bytes, the limit is %llu", shape->name, message.bytes, WEFT_PROXY_MAX_BYTES);
	expected = shape->with == MEMFD ? 1 : shape->with == SOCKETS ? message.count : 0;
	if (fds != expected)
		return weft_err_set(err, EBADMSG, "%s with %zu descriptors, expected %zu", shape->name, fds, expected);
	r = check_arguments(&message, err);
	if (r < 0)
		return r;
	*ret_message = message;
	return 0;
}

int weft_proxy_send(int sock, struct weft_proxy_message *message, const void *data, size_t size)
{
	weft_close_on_exit int fd = -1;

	message->bytes = size;
	if (size) {
		fd = weft_memfd_from("weft-proxy", data, size);
		if (fd < 0)
			return fd;
	}
	return weft_datagram_send(sock, message, sizeof(*message), &fd, size ? 1 : 0, MSG_DONTWAIT);
}

int weft_proxy_send_memfd(int sock, struct weft_proxy_message *message, int fd, size_t size)
{
	message->bytes = size;
	return weft_datagram_send(sock, message, sizeof(*message), &fd, 1, MSG_DONTWAIT);
}

int weft_proxy_send_sockets(int sock, const struct weft_proxy_message *message, const int *fds)
{
	return weft_datagram_send(sock, message, sizeof(*message), fds, message->count, MSG_DONTWAIT);
}

void weft_proxy_fds_done(struct weft_proxy_fds *fds)
{
	for (size_t i = 0; i < fds->count; i++)
		if (fds->fd[i] >= 0)
			close(fds->fd[i]);
	fds->count = 0;
}

int weft_proxy_receive(int sock, enum weft_proxy_side from, struct weft_proxy_message *ret_message, struct weft_proxy_fds *ret_fds,
		       struct weft_err *err)
{
	weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds fds = { .count = 0 };
	char room[sizeof(struct weft_proxy_message) + 1]; /* one more: a longer datagram shows */
	size_t got;
	int r = weft_datagram_receive(sock, room, sizeof(room), MSG_DONTWAIT, fds.fd, WEFT_PROXY_MAX_SOCKETS, &got, &fds.count, err);

	if (r == 0)
		r = weft_proxy_check(room, got, fds.count, from, ret_message, err);
	if (r < 0)
		return r;
	*ret_fds = fds;
	fds.count = 0;
	return 0;
}

int weft_proxy_conns_check(const void *data, size_t size, __u32 count, struct weft_err *err)
{
	const char *at = data;
	size_t need = sizeof(struct weft_proxy_facts) + (size_t)count * sizeof(struct weft_proxy_conn);

	/* At least the NUL of the empty text, which an offset of 0 means. */
	if (size <= need)
		return weft_err_set(err, EBADMSG, "CONNS of %u connections has %zu bytes, at least %zu are needed", count, size, need + 1);
	if (at[size - 1])
		return weft_err_set(err, EBADMSG, "CONNS whose last text does not end");
	for (__u32 i = 0; i < count; i++) {
		struct weft_proxy_conn conn;

		memcpy(&conn, at + sizeof(struct weft_proxy_facts) + i * sizeof(conn), sizeof(conn));
		if (conn.local_identity >= size - need || conn.peer_identity >= size - need)
			return weft_err_set(err, EBADMSG, "CONNS whose connection %u has an identity beyond its end", i);
		if (conn.role >= WEFT_ROLE_MAX_ || conn.security > WEFT_PROXY_MUTUAL_TLS)
			return weft_err_set(err, EBADMSG, "CONNS whose connection %u has role %u and security %u", i, conn.role, conn.security);
	}
	return 0;
}
