/* SPDX-License-Identifier: Apache-2.0 */
/* Text to struct weft_addr and back. IPv4 is ::ffff:a.b.c.d inside and a.b.c.d outside. */
#ifndef WEFT_BASE_ADDR_H
#define WEFT_BASE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weft/abi/maps.h"

#define WEFT_ADDR_TEXT 64 /* room for any address, or address and port in brackets, or a CIDR */

/* Strict (inet_pton): no zone ids, no leading zeros. -EINVAL: no address; *ret_addr untouched. A v4-mapped text is IPv4. */
int weft_addr_parse(const char *text, struct weft_addr *ret_addr);
/* "10.0.0.0/8", "fd00::/8"; without a slash a single address. -EINVAL, also when host bits are set. */
int weft_cidr_parse(const char *text, struct weft_cidr *ret_cidr);

/* Both return `text`, which has WEFT_ADDR_TEXT bytes. `port` is in host order. */
const char *weft_addr_format(const struct weft_addr *addr, char *text);
const char *weft_addr_port_format(const struct weft_addr *addr, uint16_t port, char *text);
/* "80.1.2.3:80", "[fd00::1]:80", "name:80" is -EINVAL. */
int weft_addr_port_parse(const char *text, struct weft_addr *ret_addr, uint16_t *ret_port);

bool weft_addr_is_v4(const struct weft_addr *addr);
bool weft_addr_is_any(const struct weft_addr *addr); /* 0.0.0.0 or :: */
bool weft_addr_is_loopback(const struct weft_addr *addr);
bool weft_addr_is_link_local(const struct weft_addr *addr);
bool weft_addr_is_multicast(const struct weft_addr *addr);
int weft_addr_compare(const struct weft_addr *a, const struct weft_addr *b);
bool weft_cidr_contains(const struct weft_cidr *cidr, const struct weft_addr *addr);

#endif
