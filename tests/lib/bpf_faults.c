/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into weftd: makes bpf(2) fail. While the file named by WEFT_BPF_FAULTS is there, it says "COMMAND ERRNO SKIP": calls
 * with this enum bpf_cmd fail with this errno, but the first SKIP of a process. libbpf makes all its calls by syscall(3).
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool strikes(long command)
{
	const char *path = getenv("WEFT_BPF_FAULTS");
	FILE *file = path ? fopen(path, "re") : NULL;
	long wanted, skip;
	static long seen;
	int number, got;

	if (!file)
		return false;
	got = fscanf(file, "%ld %d %ld", &wanted, &number, &skip);
	fclose(file);
	if (got != 3 || command != wanted || seen++ < skip)
		return false;
	errno = number;
	return true;
}

long syscall(long number, ...)
{
	static long (*real)(long, ...);
	va_list list;
	long arg[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(list, long);
	va_end(list);
	if (!real)
		real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	if (number == SYS_bpf && strikes(arg[0]))
		return -1;
	return real(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
