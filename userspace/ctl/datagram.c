/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/datagram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int weft_datagram_send(int sock, const void *data, size_t size, const int *fds, size_t count, int flags)
{
	union {
		char room[CMSG_SPACE(WEFT_DATAGRAM_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec part = { (void *)data, size };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t sent;

	if (count > WEFT_DATAGRAM_MAX_FDS)
		return -EINVAL;
	if (count) {
		struct cmsghdr *cmsg;

		header.msg_control = control.room;
		header.msg_controllen = CMSG_SPACE(count * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
	}
	do
		sent = sendmsg(sock, &header, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == size ? 0 : -EMSGSIZE;
}

/* Descriptors without room are closed; returns how many there were. */
static size_t take_fds(struct msghdr *header, int *fds, size_t most)
{
	size_t count = 0;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
		size_t here;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		here = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < here; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
			if (count++ < most)
				fds[count - 1] = fd;
			else
				close(fd);
		}
	}
	return count;
}

int weft_datagram_receive(int sock, void *data, size_t room, int flags, int *fds, size_t most, size_t *ret_size, size_t *ret_count,
			  struct weft_err *err)
{
	union {
		char room[CMSG_SPACE((WEFT_DATAGRAM_MAX_FDS + 1) * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = { data, room };
	struct msghdr header = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)
	};
	int taken[WEFT_DATAGRAM_MAX_FDS];
	size_t count;
	ssize_t got;

	if (most > WEFT_DATAGRAM_MAX_FDS)
		return weft_err_set(err, EINVAL, "a datagram has at most %d descriptors", WEFT_DATAGRAM_MAX_FDS);
	do
		got = recvmsg(sock, &header, flags | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? -EAGAIN : weft_err_set(err, errno, "cannot receive from the other role: %m");
	count = take_fds(&header, taken, most);
	if (got == 0 && count == 0)
		return weft_err_set(err, ECONNRESET, "the other role is gone");
	if (count > most || header.msg_flags & MSG_CTRUNC) {
		while (count-- > 0)
			if (count < most)
				close(taken[count]);
		return weft_err_set(err, EBADMSG, "a role message with more descriptors than it, or this process, may have: %zu are allowed", most);
	}
	if (count)
		memcpy(fds, taken, count * sizeof(int));
	*ret_size = (size_t)got;
	*ret_count = count;
	return 0;
}
