/* SPDX-License-Identifier: Apache-2.0 */
/* replay DIRECTORY: runs a fuzz target over every file of its seeds, without libFuzzer. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/io.h"

#define SEED_MAX (32u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	weft_closedir_on_exit DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	size_t count = 0;

	if (!dir) {
		fprintf(stderr, "expected one argument, a directory of seeds\n");
		return 1;
	}
	for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
		weft_close_on_exit int fd = -1;
		weft_buf_done_on_exit struct weft_buf seed = WEFT_BUF_INIT;

		if (entry->d_name[0] == '.')
			continue;
		fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || weft_read_all(fd, SEED_MAX, &seed) < 0) {
			fprintf(stderr, "cannot read the seed %s\n", entry->d_name);
			return 1;
		}
		/* A crash is then told by the last name. */
		fprintf(stderr, "%s\n", entry->d_name);
		(void)LLVMFuzzerTestOneInput((const uint8_t *)(seed.data ? seed.data : ""), seed.size);
		count++;
	}
	if (!count)
		fprintf(stderr, "no seed in %s\n", argv[1]);
	return count ? 0 : 1;
}
