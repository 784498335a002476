/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libbpf talks to stderr by itself, up to tens of thousands of lines of a
 * verifier's log. While a guard is held its words are kept here instead, the
 * last ones, for the one error that is handed up.
 */
#ifndef WEFT_KERNEL_PRINT_H
#define WEFT_KERNEL_PRINT_H

#include "base/cleanup.h"

struct weft_print;

/* Never NULL; one a thread at a time, an inner one shares the outer one's lines. */
struct weft_print *weft_print_begin(void);
/* Gives libbpf its voice back once the outermost guard ends. */
void weft_print_end(struct weft_print *print);
/* The last lines, oldest first, "; " between them; "" if it was silent. Lives until the guard ends. */
const char *weft_print_text(struct weft_print *print);

static inline void weft_print_endp(struct weft_print **print)
{
	weft_print_end(*print);
}
#define weft_print_on_exit weft_cleanup(weft_print_endp)

#endif
