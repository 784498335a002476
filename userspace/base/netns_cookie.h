/* SPDX-License-Identifier: Apache-2.0 */
/* SO_NETNS_COOKIE, which libc's headers may be too old for. */
#ifndef WEFT_BASE_NETNS_COOKIE_H
#define WEFT_BASE_NETNS_COOKIE_H

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/cleanup.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

/* The cookie of this thread's network namespace. -ENOPROTOOPT: this kernel does not tell it. */
static inline int weft_netns_cookie_here(uint64_t *ret_cookie)
{
	weft_close_on_exit int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie;
	socklen_t size = sizeof(cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) < 0)
		return -errno;
	*ret_cookie = cookie;
	return 0;
}

#endif
