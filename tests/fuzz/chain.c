/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and revocation lists as a peer and an administrator may send them. Each piece of the input is {kind,
 * size in two octets, DER}: r a root, o a root of another trust domain, c a list, l the leaf, anything else what comes
 * after it in the chain. Whoever is believed has an id, of a trust domain that has a root here, and is not believed
 * where there is none.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tls/cert.h"
#include "tls/trust.h"

#define NOW 1800000000 /* when the seeds are valid */
#define MAX_PIECES 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add(X509 *cert, X509 **leaf, STACK_OF(X509) *others, uint8_t kind)
{
	struct weft_err err = { 0 };

	for (int role = WEFT_CERT_LEAF; role <= WEFT_CERT_ROOT; role++)
		if (weft_cert_check(cert, (enum weft_cert_role)role, &err) < 0 && !*err.text)
			abort();
	if (kind == 'l' && !*leaf)
		*leaf = cert;
	else if (!sk_X509_push(others, cert))
		X509_free(cert);
}

static void verify(const struct weft_trust *trust, const struct weft_trust *nobody, X509 *leaf, STACK_OF(X509) *others)
{
	for (int side = WEFT_TRUST_CLIENT; side <= WEFT_TRUST_SERVER; side++) {
		weft_free_on_exit char *id = NULL;
		struct weft_err err = { 0 };
		struct weft_spiffe spiffe;

		if (weft_trust_verify(nobody, leaf, others, (enum weft_trust_side)side, NOW, &id, &err) == 0)
			abort();
		if (weft_trust_verify(trust, leaf, others, (enum weft_trust_side)side, NOW, &id, &err) < 0) {
			if (id || !*err.text)
				abort();
			continue;
		}
		if (!id || weft_spiffe_parse(id, strlen(id), &spiffe, NULL) < 0 ||
		    (strncmp(id, "spiffe://cluster.local/", 23) != 0 &&
		     strncmp(id, "spiffe://other.example/", 23) != 0))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct weft_trust *trust = weft_trust_new(), *nobody = weft_trust_new();
	STACK_OF(X509) *others = sk_X509_new_null();
	X509 *leaf = NULL;

	if (!trust || !nobody || !others)
		abort();
	for (int i = 0; i < MAX_PIECES && size >= 3; i++) {
		uint8_t kind = data[0];
		size_t length = (size_t)data[1] << 8 | data[2];
		const uint8_t *der = data + 3;
		X509 *cert;

		if (length > size - 3)
			length = size - 3;
		data += 3 + length;
		size -= 3 + length;
		if (kind == 'r' || kind == 'o') {
			(void)weft_trust_add_root(trust, kind == 'r' ? "cluster.local" : "other.example", der, length,
						  NULL);
		} else if (kind == 'c') {
			(void)weft_trust_add_crl(trust, "cluster.local", der, length, NULL);
		} else {
			cert = d2i_X509(NULL, &der, (long)length);
			if (cert)
				add(cert, &leaf, others, kind);
		}
	}
	if (leaf)
		verify(trust, nobody, leaf, others);
	sk_X509_pop_free(others, X509_free);
	X509_free(leaf);
	weft_trust_unref(trust);
	weft_trust_unref(nobody);
	return 0;
}
