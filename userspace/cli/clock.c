/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/clock.h"

#include <time.h>

static uint64_t now(clockid_t id)
{
	struct timespec time;

	clock_gettime(id, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t weft_clock_monotonic_ns(void)
{
	return now(CLOCK_MONOTONIC);
}

uint64_t weft_clock_boot_ns(void)
{
	return now(CLOCK_BOOTTIME);
}
