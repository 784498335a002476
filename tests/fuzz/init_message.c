/* SPDX-License-Identifier: Apache-2.0 */
/* What a role may send init. First byte: bit 0 whether a descriptor comes along; the rest is the datagram. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/children.h"
#include "agent/keep.h"
#include "base/cleanup.h"
#include "ctl/datagram.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As init does with it: the table of what is kept, and who is at the other end of a link. */
static void act(const struct weft_init_message *message, int *fd)
{
	static const struct weft_options options = { .proxies = 3 };
	static struct weft_children children;
	struct weft_keep keep = { 0 };
	int r;

	children.options = &options;
	for (enum weft_agent_role role = WEFT_AGENT_MAIN; role < WEFT_AGENT_MAX_; role++) {
		struct weft_child child = { .all = &children, .role = role };
		struct weft_child *peer = weft_child_peer(&child, message->link, message->proxy);

		assert(!peer || (peer >= children.child && peer < children.child + WEFT_AGENT_PROXY + options.proxies));
	}
	if (message->type == WEFT_INIT_KEEP) {
		bool came = *fd >= 0;

		r = weft_keep_put(&keep, &message->kept, weft_take_fd(*fd));
		assert(r == (came ? 0 : -ENOENT));
		assert(!weft_keep_find(&keep, &message->kept) == !came);
		assert(weft_keep_drop(&keep, &message->kept) == r);
	}
	assert(keep.count == 0);
	weft_keep_done(&keep);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	weft_close_on_exit int near = -1, far = -1, file = -1, came = -1;
	struct weft_init_message message;
	int pair[2];

	if (size == 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return 0;
	near = pair[0];
	far = pair[1];
	if (data[0] & 1)
		file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	(void)weft_datagram_send(near, data + 1, size - 1, &file, file >= 0, MSG_DONTWAIT);
	if (weft_init_receive(far, &message, &came) < 0) {
		assert(came < 0);
		return 0;
	}
	assert(size - 1 == sizeof(message));
	act(&message, &came);
	return 0;
}
