/* SPDX-License-Identifier: GPL-2.0-only */
/* Addresses in their one form (abi/types.h) and what can be asked of them. */
#ifndef WEFT_LIB_ADDR_H
#define WEFT_LIB_ADDR_H

#include "weft/abi/maps.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

static __always_inline void weft_addr_set_v4(struct weft_addr *addr, __be32 v4)
{
	addr->w[0] = 0;
	addr->w[1] = 0;
	addr->w[2] = WEFT_ADDR_V4_MAPPED;
	addr->w[3] = v4;
}

static __always_inline bool weft_addr_is_v4(const struct weft_addr *addr)
{
	return !addr->w[0] && !addr->w[1] && addr->w[2] == WEFT_ADDR_V4_MAPPED;
}

static __always_inline bool weft_addr_equal(const struct weft_addr *a, const struct weft_addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

static __always_inline bool weft_addr_is_loopback(const struct weft_addr *addr)
{
	if (weft_addr_is_v4(addr))
		return (addr->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !addr->w[0] && !addr->w[1] && !addr->w[2] && addr->w[3] == bpf_htonl(1);
}

#endif
