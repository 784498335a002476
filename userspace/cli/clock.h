/* SPDX-License-Identifier: Apache-2.0 */
/* The clocks that maps count by, alone in a file so that tests can stop them. */
#ifndef WEFT_CLI_CLOCK_H
#define WEFT_CLI_CLOCK_H

#include <stdint.h>

uint64_t weft_clock_monotonic_ns(void);
uint64_t weft_clock_boot_ns(void);

#endif
