/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The texts of an HBONE CONNECT: where to (:authority), for whom (forwarded), who sends (baggage), and the trace
 * (traceparent), in the syntax that ztunnel writes and reads (ztunnel src/proxy.rs, src/proxy/outbound.rs). Pure. What is
 * malformed is refused, never repaired: what two readers understand differently is how a request reaches another pod.
 */
#ifndef WEFT_PROXY_HEADERS_H
#define WEFT_PROXY_HEADERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/err.h"
#include "model/mesh.h"

#define WEFT_HOST_MAX 253 /* RFC 1035 section 2.3.4, as text without the last dot */
#define WEFT_FORWARDED_TEXT (WEFT_ADDR_TEXT + WEFT_HOST_MAX + 16)
#define WEFT_TRACEPARENT_TEXT 56
#define WEFT_TRACEPARENT_RANDOM 24 /* bytes that weft_traceparent_print() needs */

struct weft_authority {
	bool named; /* `host` is a name and `addr` is not set */
	struct weft_addr addr;
	uint16_t port; /* host order, not 0 */
	char host[WEFT_HOST_MAX + 1]; /* in lower case */
};

/*
 * "10.0.0.1:80", "[fd00::1]:80", "web.shop.svc.cluster.local:80": host and port of RFC 9113 section 8.5, both required.
 * -EINVAL with what is wrong: no port, one out of range, userinfo, anything that belongs to no host.
 */
int weft_authority_parse(const char *text, struct weft_authority *ret_authority, struct weft_err *err);

/* The first hop of RFC 7239: what its sender claims, which nobody has proved. */
struct weft_forwarded {
	bool known; /* `for` is an address */
	struct weft_addr addr;
	uint16_t port; /* host order, 0: not told */
	char host[WEFT_HOST_MAX + 1]; /* "" if not told */
};

/* -EINVAL: not of RFC 7239 section 4; the caller goes on as if nothing had come. An obfuscated or unknown hop is no error. */
int weft_forwarded_parse(const char *text, struct weft_forwarded *ret_forwarded);
/* Into `text` of WEFT_FORWARDED_TEXT bytes, which it returns; `host` "" if there is none. */
const char *weft_forwarded_print(const struct weft_addr *addr, uint16_t port, const char *host, char *text);

/* Adds what others may know of `workload`; keys without a value are left out. */
int weft_baggage_print(const struct weft_mesh_workload *workload, struct weft_buf *out);

/* W3C trace context, version 00. */
bool weft_traceparent_valid(const char *text);
/* A new one into `text` of WEFT_TRACEPARENT_TEXT bytes, which it returns; not sampled, as ztunnel's. */
const char *weft_traceparent_print(const uint8_t *random, char *text);

#endif
