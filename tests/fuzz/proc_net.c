/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as /proc/net/tcp: a line marks one port at most. */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Its reader is nobody else's business. */
#include "agent/node_ports.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ports ports;
	static int table = -1;
	size_t lines = 1, marked = 0;
	char path[32];

	if (table < 0)
		table = memfd_create("table", MFD_CLOEXEC);
	assert(ftruncate(table, 0) == 0 && pwrite(table, data, size, 0) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", table);
	memset(&ports, 0, sizeof(ports));
	read_table(path, STATE_LISTEN, ports.tcp);
	read_table(path, STATE_BOUND, ports.udp);
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	for (size_t i = 0; i < sizeof(ports.tcp); i++)
		marked += (size_t)__builtin_popcount(ports.tcp[i]) + (size_t)__builtin_popcount(ports.udp[i]);
	/* A line longer than any of the kernel's is read in parts. */
	assert(marked <= lines + size / 511);
	return 0;
}
