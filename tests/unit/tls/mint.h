/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for tests: a root, and leaves of it with one URI. */
#ifndef WEFT_TESTS_MINT_H
#define WEFT_TESTS_MINT_H

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>

struct mint {
	EVP_PKEY *key;
	X509 *certificate;
};

static inline void mint_extension(X509 *certificate, X509 *issuer, int what, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, what, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

/* `issuer` NULL: a root that is called `name`; else a leaf with the URI `name`. Valid from an hour ago to `ends`, seconds from now. */
static inline struct mint mint(const struct mint *issuer, const char *name, long ends)
{
	struct mint made = { .key = EVP_EC_gen("P-256"), .certificate = X509_new() };
	X509 *from = issuer ? issuer->certificate : made.certificate;
	X509_NAME *subject = X509_NAME_new();
	uint64_t serial;
	char san[2100];
	unsigned char *der = NULL;
	const unsigned char *at;
	int size;

	assert_int_equal(RAND_bytes((unsigned char *)&serial, sizeof(serial)), 1);
	assert_int_equal(X509_set_version(made.certificate, X509_VERSION_3), 1);
	assert_int_equal(ASN1_INTEGER_set_uint64(X509_get_serialNumber(made.certificate), serial >> 2 | 1), 1);
	assert_non_null(X509_time_adj_ex(X509_getm_notBefore(made.certificate), 0, -3600, NULL));
	assert_non_null(X509_time_adj_ex(X509_getm_notAfter(made.certificate), 0, ends, NULL));
	assert_int_equal(X509_set_pubkey(made.certificate, made.key), 1);
	if (!issuer) {
		assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0), 1);
		assert_int_equal(X509_set_subject_name(made.certificate, subject), 1);
	}
	X509_NAME_free(subject);
	assert_int_equal(X509_set_issuer_name(made.certificate, X509_get_subject_name(from)), 1);
	mint_extension(made.certificate, from, NID_subject_key_identifier, "hash");
	mint_extension(made.certificate, from, NID_basic_constraints, issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
	mint_extension(made.certificate, from, NID_key_usage, issuer ? "critical,digitalSignature" : "critical,keyCertSign,cRLSign");
	if (issuer) {
		mint_extension(made.certificate, from, NID_authority_key_identifier, "keyid:always");
		mint_extension(made.certificate, from, NID_ext_key_usage, "serverAuth,clientAuth");
		snprintf(san, sizeof(san), "critical,URI:%s", name);
		mint_extension(made.certificate, from, NID_subject_alt_name, san);
	}
	assert_true(X509_sign(made.certificate, issuer ? issuer->key : made.key, EVP_sha256()) > 0);
	/* Anew from its bytes: as made it holds on to the whole key, with its private half. */
	size = i2d_X509(made.certificate, &der);
	assert_true(size > 0);
	X509_free(made.certificate);
	at = der;
	made.certificate = d2i_X509(NULL, &at, size);
	assert_non_null(made.certificate);
	OPENSSL_free(der);
	return made;
}

static inline void mint_done(struct mint *mint)
{
	EVP_PKEY_free(mint->key);
	X509_free(mint->certificate);
	*mint = (struct mint){ 0 };
}

/* The caller's to OPENSSL_free(). */
static inline size_t mint_der(const struct mint *mint, unsigned char **ret_der)
{
	int size;

	*ret_der = NULL;
	size = i2d_X509(mint->certificate, ret_der);
	assert_true(size > 0);
	return (size_t)size;
}

#endif
