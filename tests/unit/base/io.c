/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

static void a_memfd_is_trusted_only_when_sealed_and_of_its_size(void **state)
{
	weft_close_on_exit int sealed = weft_memfd_from("test", "12345678", 8);
	weft_close_on_exit int open_one = memfd_create("open", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	weft_close_on_exit int no_memfd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const void *data = NULL;

	(void)state;
	assert_true(sealed >= 0 && open_one >= 0 && no_memfd >= 0);
	assert_int_equal(weft_memfd_map(sealed, 8, &data), 0);
	assert_memory_equal(data, "12345678", 8);
	munmap((void *)data, 8);
	assert_int_equal(write(sealed, "x", 1), -1);
	assert_int_equal(ftruncate(sealed, 4), -1);

	assert_int_equal(weft_memfd_map(sealed, 7, &data), -EMSGSIZE);
	assert_int_equal(weft_memfd_map(sealed, 9, &data), -EMSGSIZE);
	assert_int_equal(weft_write_all(open_one, "12345678", 8), 0);
	assert_int_equal(weft_memfd_map(open_one, 8, &data), -EPERM);
	assert_true(weft_memfd_map(no_memfd, 8, &data) < 0);
}

static void a_file_is_replaced_whole_or_not_at_all(void **state)
{
	char folder[] = "/tmp/weft-unit-io-XXXXXX";
	weft_close_on_exit int dir = -1;
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;
	struct stat st;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(folder));
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(weft_write_file_at(dir, "f", "one", 3, 0600), 0);
	assert_int_equal(weft_write_file_at(dir, "f", "three", 5, 0600), 0);
	assert_int_equal(fstatat(dir, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	fd = openat(dir, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(weft_read_all(fd, 5, &buf), 0);
	assert_string_equal(buf.data, "three");
	weft_buf_done(&buf);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(weft_read_all(fd, 4, &buf), -EFBIG);
	assert_int_equal(buf.size, 0);
	close(fd);
	assert_true(weft_write_file_at(dir, "nowhere/f", "x", 1, 0600) < 0);
	assert_int_equal(unlinkat(dir, "f", 0), 0);
	assert_int_equal(rmdir(folder), 0);
}

static void what_cannot_be_written_leaves_no_trace(void **state)
{
	char folder[] = "/tmp/weft-unit-io-XXXXXX", name[300];
	weft_close_on_exit int dir = -1, full = open("/dev/full", O_WRONLY | O_CLOEXEC), writer = open("/dev/null", O_WRONLY | O_CLOEXEC);
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;

	(void)state;
	assert_true(full >= 0 && writer >= 0);
	assert_int_equal(weft_write_all(full, "x", 1), -ENOSPC);
	assert_int_equal(weft_write_all(full, "", 0), 0);
	assert_int_equal(weft_read_all(writer, 10, &buf), -EBADF);
	assert_null(buf.data);
	assert_non_null(mkdtemp(folder));
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(weft_write_file_at(dir, name, "x", 1, 0600), -ENAMETOOLONG);
	assert_int_equal(mkdirat(dir, "f", 0700), 0);
	assert_int_equal(weft_write_file_at(dir, "f", "x", 1, 0600), -EISDIR);
	assert_int_equal(unlinkat(dir, "f", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("/dev/full", dir, ".f.new"), 0);
	assert_int_equal(weft_write_file_at(dir, "f", "x", 1, 0600), -ELOOP);
	assert_int_equal(unlinkat(dir, ".f.new", 0), 0);
	/* Empty, or one of the above left something. */
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_memfd_is_trusted_only_when_sealed_and_of_its_size),
		cmocka_unit_test(a_file_is_replaced_whole_or_not_at_all),
		cmocka_unit_test(what_cannot_be_written_leaves_no_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
