/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whom we believe: roots and revocations by trust domain, and the judgement of
 * a peer's chain. OpenSSL builds and checks the path, what it lets through and SPIFFE (X509-SVID), RFC 5280 or
 * common sense do not is refused here: OpenSSL alone takes 47 of x509-limbo's bad chains.
 */
#ifndef WEFT_TLS_TRUST_H
#define WEFT_TLS_TRUST_H

#include <openssl/x509.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "tls/spiffe.h"

#define WEFT_TRUST_MAX_CHAIN 8 /* certificates that a peer may send */
#define WEFT_TRUST_MAX_CERT (16 << 10) /* bytes of one */

/* Shared within a thread: a handshake holds what was in force when it began. It remembers chains that it found good. */
struct weft_trust;

struct weft_trust *weft_trust_new(void); /* NULL: out of memory */
struct weft_trust *weft_trust_ref(struct weft_trust *trust);
struct weft_trust *weft_trust_unref(struct weft_trust *trust);
WEFT_CLEANUP_DEFINE(struct weft_trust, weft_trust_unref);

/*
 * Before it is shared. `domain` NUL-terminated, the DER is copied. -EINVAL: not DER, no CA, a CRL that is none;
 * -ENOMEM.
 */
int weft_trust_add_root(struct weft_trust *trust, const char *domain, const void *der, size_t size, struct weft_err *err);
int weft_trust_add_crl(struct weft_trust *trust, const char *domain, const void *der, size_t size, struct weft_err *err);

enum weft_trust_side {
	WEFT_TRUST_CLIENT = 0, /* the peer is a client: clientAuth */
	WEFT_TRUST_SERVER,
};

/*
 * Whether `leaf`, with `others` (may be NULL) to build a path from, is whom its one URI SAN says, at `now`. 0 with
 * *ret_id, NUL-terminated, the caller's to free(); or -EACCES with one sentence that names certificate and cause;
 * -ENOMEM.
 */
int weft_trust_verify(const struct weft_trust *trust, X509 *leaf, STACK_OF(X509) *others, enum weft_trust_side side, time_t now,
		      char **ret_id, struct weft_err *err);

#endif
