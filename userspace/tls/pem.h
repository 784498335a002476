/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and CRLs out of PEM text that may hold a private key besides. OpenSSL's reader is shown one certificate at a
 * time: it would decode into ordinary memory whatever stands before the one it looks for.
 */
#ifndef WEFT_TLS_PEM_H
#define WEFT_TLS_PEM_H

#include <openssl/x509.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "tls/identity.h"

#define WEFT_PEM_MAX 64 /* of a kind in one file */

struct weft_pem {
	X509 *certificate[WEFT_PEM_MAX];
	size_t count;
	X509_CRL *crl[WEFT_PEM_MAX];
	size_t crl_count;
};

/* In the text's order. -EINVAL: a block is malformed, or there are too many; `name` is the file's, for the sentence. */
int weft_pem_read(const char *text, size_t size, const char *name, struct weft_pem *ret_pem, struct weft_err *err);
void weft_pem_done(struct weft_pem *pem);
#define weft_pem_done_on_exit weft_cleanup(weft_pem_done)

static inline void weft_x509_freep(X509 **certificate)
{
	X509_free(*certificate);
}
#define weft_x509_on_exit weft_cleanup(weft_x509_freep)

/* 0 for a time that cannot be read. */
time_t weft_pem_time(const ASN1_TIME *time);
/* DER, to be freed with OPENSSL_free(). -ENOMEM. */
int weft_pem_der(X509 *certificate, struct weft_der *ret_der);

#endif
