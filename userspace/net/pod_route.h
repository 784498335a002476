/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent needs in a pod's network namespace so that its dial to the
 * application may carry the client's address: an answer to such a connection
 * is brought back by its mark. A socket with WEFT_POD_MARK makes the
 * application's socket have it too (net.ipv4.tcp_fwmark_accept), a rule sends
 * what has the mark to a table, and that table calls every address local. All
 * of it is ours by number, nothing else is touched, and it can be told from
 * the route alone what the sysctl was before.
 */
#ifndef WEFT_NET_POD_ROUTE_H
#define WEFT_NET_POD_ROUTE_H

#include <stdbool.h>

#include "base/err.h"
#include "weft/abi/types.h"

#define WEFT_POD_MARK 0x77656674u
#define WEFT_POD_TABLE 15008
#define WEFT_POD_PRIORITY 15008 /* of the rule: behind the one for local addresses, before that of the main table */

/*
 * In THIS THREAD's network namespace; what is there already stays. `v6`: for IPv6 too, which must then be switched on. On
 * failure what this call made is taken back.
 */
int weft_pod_route_add(bool v6, struct weft_err *err);
/* Likewise; what is not there is no error, and nothing at all is done where there is no route of ours. */
int weft_pod_route_remove(struct weft_err *err);

/*
 * The first global address of each family of this thread's network namespace, of interfaces that are up but for lo, that
 * is_its(context, address) takes: IPv4 v4-mapped in ret_addr[0], IPv6 in [1]; :: where there is none. -EADDRNOTAVAIL: there is neither.
 */
int weft_pod_addresses(bool (*is_its)(void *context, const struct weft_addr *addr), void *context, struct weft_addr ret_addr[2],
		       struct weft_err *err);

#endif
