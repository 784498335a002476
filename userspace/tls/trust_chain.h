/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of weft_trust_verify() that comes after the id has chosen the trust domain: everything but SPIFFE. By
 * itself only for tests, which hold it against vectors whose leaves have DNS names.
 */
#ifndef WEFT_TLS_TRUST_CHAIN_H
#define WEFT_TLS_TRUST_CHAIN_H

#include "tls/trust.h"

/* `domain` NUL-terminated. 0, -EACCES or -ENOMEM, as weft_trust_verify(). */
int weft_trust_verify_chain(const struct weft_trust *trust, const char *domain, X509 *leaf, STACK_OF(X509) *others,
			    enum weft_trust_side side, time_t now, struct weft_err *err);
/* How many chains weft_trust_verify() judged, rather than knew. */
unsigned long weft_trust_judged(const struct weft_trust *trust);

#endif
