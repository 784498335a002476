/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Scalars of the kernel/user contract.
 *
 * Everything below include/weft/abi is read by BPF programs and by userspace
 * alike, and lives in pinned maps that an older or a newer weftd may meet. So:
 * fixed-width members only, explicit padding that is always zero, host byte
 * order unless a member is declared __be16 or its comment says otherwise, and
 * an assertion on size and on every offset that matters. A change of any of it
 * is a new WEFT_ABI_VERSION, and with it a new pin folder.
 */
#ifndef WEFT_ABI_TYPES_H
#define WEFT_ABI_TYPES_H

#ifndef __bpf__
#include <linux/types.h>
#include <stddef.h>
#else
#include "weft_kernel.h" /* bpf/vmlinux: the kernel types that we touch */
#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif
#endif

#define WEFT_ABI_VERSION 1
#define WEFT_ABI_MAGIC 0x77656674u /* "weft" */

#define WEFT_ABI_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type ": the ABI fixes its size at " #size)
#define WEFT_ABI_OFFSET(type, member, at) \
	_Static_assert(offsetof(type, member) == (at), #type "." #member ": the ABI fixes its offset at " #at)

/*
 * One address form for both families: IPv6 in network byte order, IPv4 as the
 * v4-mapped address ::ffff:a.b.c.d. One table then serves AF_INET sockets,
 * AF_INET6 sockets and the v4-mapped connects that JVMs, Go and Node make.
 */
struct weft_addr {
	__u32 w[4];
};
WEFT_ABI_SIZE(struct weft_addr, 16);

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WEFT_ADDR_V4_MAPPED 0xffff0000u /* w[2] of ::ffff:a.b.c.d */
#else
#define WEFT_ADDR_V4_MAPPED 0x0000ffffu
#endif
#define WEFT_ADDR_ANY_V4 { { 0, 0, WEFT_ADDR_V4_MAPPED, 0 } } /* 0.0.0.0 */
#define WEFT_ADDR_ANY_V6 { { 0, 0, 0, 0 } } /* :: */

#endif
