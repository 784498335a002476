/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/roles.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "ctl/datagram.h"

int weft_init_send(int channel, const struct weft_init_message *message, int fd)
{
	return weft_datagram_send(channel, message, sizeof(*message), &fd, fd >= 0, MSG_DONTWAIT);
}

int weft_init_receive(int channel, struct weft_init_message *ret_message, int *ret_fd)
{
	weft_close_on_exit int fd = -1;
	struct weft_init_message message;
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = { &message, sizeof(message) };
	struct msghdr header = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)
	};
	struct cmsghdr *cmsg;
	ssize_t got = recvmsg(channel, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (got < 0)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&header);
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS && cmsg->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
	if (got == 0)
		return -ECONNRESET;
	if ((size_t)got != sizeof(message) || header.msg_flags & MSG_TRUNC || message.magic != WEFT_ABI_MAGIC)
		return -EBADMSG;
	if (header.msg_flags & MSG_CTRUNC)
		return -EMFILE;
	*ret_message = message;
	*ret_fd = weft_take_fd(fd);
	return 0;
}
