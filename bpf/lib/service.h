/* SPDX-License-Identifier: GPL-2.0-only */
/* From the address that an application asked for to its frontend, and whether that is to be left alone. */
#ifndef WEFT_LIB_SERVICE_H
#define WEFT_LIB_SERVICE_H

#include "lib/addr.h"
#include "lib/count.h"
#include "lib/live.h"

/*
 * NULL: not ours. An entry of type ADDRESS: the address is a service's, the
 * port is not, and it is to be refused. A plain miss costs two look-ups.
 */
static __always_inline struct weft_frontend *weft_service_find(const struct weft_frontend_key *asked)
{
	struct weft_frontend *frontend = bpf_map_lookup_elem(&weft_frontend, asked);
	struct weft_frontend_key key = { .addr = asked->addr };
	struct weft_frontend *address;

	/* The wildcard is how node ports are stored, and also what a program may ask for: not the same thing. */
	if (frontend && frontend->type != WEFT_FRONTEND_NODE_PORT)
		return frontend;
	address = bpf_map_lookup_elem(&weft_frontend, &key);
	if (!address)
		return NULL;
	if (address->flags & WEFT_FRONTEND_F_NODE) {
		/* {0.0.0.0 or ::, port}: the wildcard keeps the family, so that an IPv4 node address never gets an IPv6 endpoint. */
		if (!weft_addr_is_v4(&key.addr))
			key.addr.w[0] = key.addr.w[1] = key.addr.w[2] = 0;
		key.addr.w[3] = 0;
		key.port = asked->port;
		key.protocol = asked->protocol;
		frontend = bpf_map_lookup_elem(&weft_frontend, &key);
		if (frontend && frontend->type == WEFT_FRONTEND_NODE_PORT &&
		    (!(frontend->flags & WEFT_FRONTEND_F_THIS_NODE) || (address->flags & WEFT_FRONTEND_F_THIS_NODE)))
			return frontend;
	}
	return address->flags & WEFT_FRONTEND_F_REFUSE ? address : NULL;
}

/* 0, or the reason for which an address of ours is left alone. `pod`: the caller's, NULL if none is known. */
static __always_inline int weft_service_passed(const struct weft_setting *setting, const struct weft_pod *pod,
					       const struct weft_frontend_key *asked)
{
	if (setting->flags & WEFT_SETTING_F_BYPASS)
		return WEFT_REASON(BYPASSED);
	if (pod && (pod->flags & WEFT_POD_F_OPT_OUT))
		return WEFT_REASON(OPTED_OUT_POD);
	if (setting->flags & WEFT_SETTING_F_OPT_OUT) {
		struct weft_port port = { .port = asked->port, .protocol = asked->protocol };
		struct weft_cidr cidr = { .bits = 128, .addr = asked->addr };

		if (bpf_map_lookup_elem(&weft_optout_port, &port) || bpf_map_lookup_elem(&weft_optout_cidr, &cidr))
			return WEFT_REASON(OPTED_OUT_TARGET);
	}
	return 0;
}

/* The entry of an endpoint id if it is still the one that was meant and its connections may go on. */
static __always_inline struct weft_endpoint *weft_endpoint_get(__u32 id)
{
	__u32 index = WEFT_ENDPOINT_INDEX(id);
	struct weft_endpoint *endpoint = bpf_map_lookup_elem(&weft_endpoint, &index);

	if (!endpoint || !id || endpoint->id != id || endpoint->state == WEFT_ENDPOINT_FREE ||
	    endpoint->state >= WEFT_ENDPOINT_GONE)
		return NULL;
	return endpoint;
}

#endif
