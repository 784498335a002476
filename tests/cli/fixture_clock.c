/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for cli/clock.c: time does not pass, except a second from one look at CLOCK_MONOTONIC to the next. */
#include "cli/clock.h"

#include "fixture.h"

uint64_t weft_clock_monotonic_ns(void)
{
	static uint64_t looks;

	return FIXTURE_NOW_NS + looks++ * 1000000000ull;
}

uint64_t weft_clock_boot_ns(void)
{
	return FIXTURE_NOW_NS;
}
