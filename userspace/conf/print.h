/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical YAML, written straight down. The form is fixed to the byte since a
 * resource's fingerprint is taken from it: what is absent or "" is left out.
 */
#ifndef WEFT_CONF_PRINT_H
#define WEFT_CONF_PRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "conf/resource.h"

struct weft_print {
	struct weft_buf *out;
	unsigned int depth;
	bool dash; /* the next line is the first of a list's item */
	int status; /* 0 or -ENOMEM, which sticks */
};

/* "key:", and what follows is inside of it until weft_print_close(). */
void weft_print_open(struct weft_print *print, const char *key);
void weft_print_open_item(struct weft_print *print);
void weft_print_close(struct weft_print *print);

void weft_print_string(struct weft_print *print, const char *key, const char *value); /* "" prints nothing */
void weft_print_uint(struct weft_print *print, const char *key, uint64_t value);
void weft_print_bool(struct weft_print *print, const char *key, bool value);
void weft_print_addr(struct weft_print *print, const char *key, const struct weft_addr *addr);
void weft_print_protocol(struct weft_print *print, const char *key, uint8_t protocol);
void weft_print_pairs(struct weft_print *print, const char *key, const struct weft_pairs *pairs);
void weft_print_strings(struct weft_print *print, const char *key, const struct weft_strings *strings);
void weft_print_addrs(struct weft_print *print, const char *key, const struct weft_addrs *addrs);
void weft_print_cidrs(struct weft_print *print, const char *key, const struct weft_cidrs *cidrs);
void weft_print_item(struct weft_print *print, const char *value); /* a string as an item of a list */

#endif
