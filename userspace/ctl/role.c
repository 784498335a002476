/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/role.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ctl/datagram.h"

/* What each type may look like; a type without a row does not exist. */
static const struct shape {
	const char *name;
	enum weft_role_side from;
	enum { BULK_NEVER, BULK_MAYBE, BULK_ALWAYS } bulk;
	size_t item; /* bytes of one of `count` items that the memfd holds; 0: `count` is 0 */
} shapes[WEFT_ROLE_MESSAGE_TYPE_MAX_] = {
	[WEFT_ROLE_HELLO] = { "HELLO", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_APPLY] = { "APPLY", WEFT_ROLE_SIDE_CONTROL, BULK_ALWAYS, 0 },
	[WEFT_ROLE_READ] = { "READ", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_WATCH] = { "WATCH", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_CUT] = { "CUT", WEFT_ROLE_SIDE_CONTROL, BULK_ALWAYS, sizeof(__u32) },
	[WEFT_ROLE_BIND] = { "BIND", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_UNBIND] = { "UNBIND", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_SETTING] = { "SETTING", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_FLUSH] = { "FLUSH", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_LOG_LEVEL] = { "LOG_LEVEL", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_GROW] = { "GROW", WEFT_ROLE_SIDE_CONTROL, BULK_ALWAYS, 0 },
	[WEFT_ROLE_ATTACH] = { "ATTACH", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_DETACH] = { "DETACH", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_CUT_SOCKETS] = { "CUT_SOCKETS", WEFT_ROLE_SIDE_CONTROL, BULK_ALWAYS, sizeof(__u64) },
	[WEFT_ROLE_CONNS] = { "CONNS", WEFT_ROLE_SIDE_CONTROL, BULK_NEVER, 0 },
	[WEFT_ROLE_READY] = { "READY", WEFT_ROLE_SIDE_MAIN, BULK_ALWAYS, 0 },
	[WEFT_ROLE_RESULT] = { "RESULT", WEFT_ROLE_SIDE_MAIN, BULK_NEVER, 0 },
	[WEFT_ROLE_DATA] = { "DATA", WEFT_ROLE_SIDE_MAIN, BULK_MAYBE, 0 }, /* empty maps: no memfd */
	[WEFT_ROLE_EVENTS] = { "EVENTS", WEFT_ROLE_SIDE_MAIN, BULK_MAYBE, sizeof(struct weft_event) },
};

const char *weft_role_type_name(unsigned int type)
{
	return type < WEFT_ARRAY_SIZE(shapes) ? shapes[type].name : NULL;
}

struct weft_role_message weft_role_message(enum weft_role_message_type type, __u32 serial)
{
	return (struct weft_role_message){
		.magic = WEFT_ABI_MAGIC,
		.version = WEFT_ROLE_VERSION,
		.type = (__u16)type,
		.serial = serial,
	};
}

static int check_arguments(const struct weft_role_message *message, struct weft_err *err)
{
	size_t length = strlen(message->name);

	switch (message->type) {
	case WEFT_ROLE_READ:
		if (message->arg[0] == 0 || message->arg[0] >> WEFT_MAP_MAX_)
			return weft_err_set(err, EBADMSG, "READ asks for maps %#llx, there are %d", message->arg[0], WEFT_MAP_MAX_);
		break;
	case WEFT_ROLE_CUT:
		if (message->count > WEFT_ROLE_MAX_CUT)
			return weft_err_set(err, EBADMSG, "CUT of %u endpoints, the limit is %d", message->count, WEFT_ROLE_MAX_CUT);
		break;
	case WEFT_ROLE_BIND:
		if (length == 0 || strchr(message->name, '/') || message->name[0] == '.')
			return weft_err_set(err, EBADMSG, "BIND without the plain name of a network namespace");
		if (message->arg[0] > 0xffffffffu || message->arg[1] & ~(__u64)WEFT_POD_F_OPT_OUT)
			return weft_err_set(err, EBADMSG, "BIND with workload %llu and flags %#llx", message->arg[0], message->arg[1]);
		break;
	case WEFT_ROLE_ATTACH:
		if (length == 0 || strchr(message->name, '/') || message->name[0] == '.')
			return weft_err_set(err, EBADMSG, "ATTACH without the plain name of a network namespace");
		if (message->arg[0] == 0 || message->arg[0] > 0xffffffffu)
			return weft_err_set(err, EBADMSG, "ATTACH with workload %llu", message->arg[0]);
		break;
	case WEFT_ROLE_CUT_SOCKETS:
		if (message->count > WEFT_ROLE_MAX_CUT)
			return weft_err_set(err, EBADMSG, "CUT_SOCKETS of %u sockets, the limit is %d", message->count, WEFT_ROLE_MAX_CUT);
		break;
	case WEFT_ROLE_GROW:
	case WEFT_ROLE_READY:
		if (message->bytes != sizeof(struct weft_role_capacity))
			return weft_err_set(err, EBADMSG, "%s with %llu bytes, expected the capacities, %zu", shapes[message->type].name,
					    message->bytes, sizeof(struct weft_role_capacity));
		break;
	}
	if (message->error > 0)
		return weft_err_set(err, EBADMSG, "%s with error %d, which is positive", shapes[message->type].name, message->error);
	if (length && message->type != WEFT_ROLE_BIND && message->type != WEFT_ROLE_ATTACH)
		return weft_err_set(err, EBADMSG, "%s with a name", shapes[message->type].name);
	return 0;
}

int weft_role_check(const void *data, size_t size, bool with_fd, enum weft_role_side from,
		    struct weft_role_message *ret_message, struct weft_err *err)
{
	static const char *const sides[] = { [WEFT_ROLE_SIDE_CONTROL] = "control", [WEFT_ROLE_SIDE_MAIN] = "main" };
	struct weft_role_message message;
	const struct shape *shape;
	int r;

	if (size != sizeof(message))
		return weft_err_set(err, EBADMSG, "a role message of %zu bytes, expected %zu", size, sizeof(message));
	memcpy(&message, data, sizeof(message));
	if (message.magic != WEFT_ABI_MAGIC)
		return weft_err_set(err, EBADMSG, "a role message with magic %#x, expected %#x", message.magic, WEFT_ABI_MAGIC);
	if (message.version != WEFT_ROLE_VERSION)
		return weft_err_set(err, EBADMSG, "a role message of version %u, this build speaks %d: both roles must be of one build",
				    message.version, WEFT_ROLE_VERSION);
	if (!weft_role_type_name(message.type))
		return weft_err_set(err, EBADMSG, "a role message of unknown type %u", message.type);
	shape = &shapes[message.type];
	if (shape->from != from)
		return weft_err_set(err, EBADMSG, "%s came from %s, which never sends it", shape->name, sides[from]);
	if (message.pad != 0)
		return weft_err_set(err, EBADMSG, "%s with padding that is not zero", shape->name);
	if (!memchr(message.name, '\0', sizeof(message.name)))
		return weft_err_set(err, EBADMSG, "%s with a name that does not end", shape->name);
	if (with_fd != (message.bytes != 0))
		return weft_err_set(err, EBADMSG, "%s announces %llu bytes and comes %s a descriptor", shape->name, message.bytes,
				    with_fd ? "with" : "without");
	if (message.bytes > WEFT_ROLE_MAX_BYTES)
		return weft_err_set(err, EBADMSG, "%s with %llu bytes, the limit is %llu", shape->name, message.bytes, WEFT_ROLE_MAX_BYTES);
	if (shape->bulk == BULK_NEVER && message.bytes)
		return weft_err_set(err, EBADMSG, "%s with %llu bytes, it never has any", shape->name, message.bytes);
	if (shape->bulk == BULK_ALWAYS && !message.bytes)
		return weft_err_set(err, EBADMSG, "%s without bytes", shape->name);
	if (shape->item ? message.bytes != (__u64)message.count * shape->item : message.count != 0)
		return weft_err_set(err, EBADMSG, "%s of %u items with %llu bytes", shape->name, message.count, message.bytes);
	r = check_arguments(&message, err);
	if (r < 0)
		return r;
	*ret_message = message;
	return 0;
}

int weft_role_send(int sock, struct weft_role_message *message, const void *data, size_t size, int flags)
{
	weft_close_on_exit int fd = -1;

	message->bytes = size;
	if (size) {
		fd = weft_memfd_from("weft-role", data, size);
		if (fd < 0)
			return fd;
	}
	return weft_datagram_send(sock, message, sizeof(*message), &fd, size ? 1 : 0, flags);
}

int weft_role_receive(int sock, enum weft_role_side from, int flags, struct weft_role_message *ret_message, int *ret_fd,
		      struct weft_err *err)
{
	weft_close_on_exit int fd = -1;
	char room[sizeof(struct weft_role_message) + 1]; /* one more: a longer datagram shows */
	size_t size, fds;
	int r = weft_datagram_receive(sock, room, sizeof(room), flags, &fd, 1, &size, &fds, err);

	if (r == 0)
		r = weft_role_check(room, size, fds == 1, from, ret_message, err);
	if (r < 0)
		return r;
	*ret_fd = weft_take_fd(fd);
	return 0;
}
