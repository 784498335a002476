/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/iter.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <unistd.h>

#include "base/cleanup.h"

int weft_iter_run(int link, struct weft_buf *output)
{
	weft_close_on_exit int stream = bpf_iter_create(link);
	char part[65536];
	ssize_t got;
	int r = 0;

	if (stream < 0)
		return -errno;
	while (r == 0 && (got = read(stream, part, sizeof(part))) != 0) {
		if (got > 0)
			r = output ? weft_buf_add(output, part, (size_t)got) : 0;
		else if (errno != EINTR &&
			 errno != EAGAIN) /* EAGAIN: it walked long without printing and wants to be asked again */
			r = -errno;
	}
	return r;
}
