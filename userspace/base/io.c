/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

int weft_read_all(int fd, size_t limit, struct weft_buf *buf)
{
	char part[16384];
	ssize_t got;
	int r;

	for (;;) {
		got = read(fd, part, sizeof(part));
		if (got == 0) {
			r = weft_buf_add(buf, "", 0);
			break;
		}
		if (got < 0) {
			if (errno == EINTR)
				continue;
			r = -errno;
			break;
		}
		r = (size_t)got > limit - buf->size ? -EFBIG : weft_buf_add(buf, part, (size_t)got);
		if (r < 0)
			break;
	}
	if (r < 0)
		weft_buf_done(buf);
	return r;
}

int weft_write_all(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size) {
		ssize_t put = write(fd, at, size);

		if (put < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		at += put;
		size -= (size_t)put;
	}
	return 0;
}

int weft_write_file_at(int dir, const char *name, const void *data, size_t size, int mode)
{
	char aside[300];
	weft_close_on_exit int fd = -1;
	int r;

	if (snprintf(aside, sizeof(aside), ".%s.new", name) >= (int)sizeof(aside))
		return -ENAMETOOLONG;
	fd = openat(dir, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	r = weft_write_all(fd, data, size);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dir, aside, dir, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dir, aside, 0);
	return r;
}

#define MEMFD_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

int weft_memfd_from(const char *name, const void *data, size_t size)
{
	weft_close_on_exit int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	r = weft_write_all(fd, data, size);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, MEMFD_SEALS) < 0)
		return -errno;
	return weft_take_fd(fd);
}

int weft_memfd_map(int fd, size_t size, const void **ret_data)
{
	struct stat st;
	void *data;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return -errno;
	if ((seals & MEMFD_SEALS) != MEMFD_SEALS)
		return -EPERM;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || (size_t)st.st_size != size || size == 0)
		return -EMSGSIZE;
	data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	*ret_data = data;
	return 0;
}
