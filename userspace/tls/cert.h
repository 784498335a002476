/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one certificate must be, whoever signed it: the rules of RFC 5280 section 4 and X509-SVID section 4 that
 * OpenSSL leaves to others, and which algorithms are good enough. Knows nothing of paths, time or who is believed.
 */
#ifndef WEFT_TLS_CERT_H
#define WEFT_TLS_CERT_H

#include <openssl/x509.h>
#include <stdbool.h>

#include "base/err.h"
#include "tls/spiffe.h"

enum weft_cert_role {
	WEFT_CERT_LEAF = 0,
	WEFT_CERT_INTERMEDIATE,
	WEFT_CERT_ROOT,
};

/* 0, or -EACCES with what is wrong, which does not name the certificate; -ENOMEM. */
int weft_cert_check(X509 *cert, enum weft_cert_role role, struct weft_err *err);

/* Of a leaf besides: that it is a workload's (X509-SVID section 4). */
int weft_cert_check_workload(X509 *leaf, struct weft_err *err);
/* Whether its extended key usage, if it has one, is good for servers, or for clients, or for what it signs to be. */
int weft_cert_check_usage(X509 *cert, enum weft_cert_role role, bool server, struct weft_err *err);

/*
 * The certificate's one URI SAN as a SPIFFE id. `ret_spiffe` points into *ret_id, NUL-terminated, the caller's to free().
 * -EACCES: none, several, or no SPIFFE id.
 */
int weft_cert_spiffe(X509 *leaf, char **ret_id, struct weft_spiffe *ret_spiffe, struct weft_err *err);
/* Whether a CA says that it is of another trust domain (X509-SVID section 3.2). One that says nothing is not. */
int weft_cert_check_domain(X509 *ca, const char *domain, size_t size, struct weft_err *err);

/* Whether an algorithm of signatures, by OpenSSL's number, is taken whatever its parameters. */
bool weft_cert_signature_good(int nid);

/* "certificate 0a1b.. of CN=.." into `text`, for sentences. */
const char *weft_cert_name(const X509 *cert, char text[static 160]);

#endif
