/* SPDX-License-Identifier: Apache-2.0 */
/* What a person does to the embedded CA: make, export, join, rotate, revoke. */
#include "tls/ca.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "tls/authority.h"
#include "tls/cert.h"
#include "tls/key.h"
#include "tls/trust.h"

#define EXPORT_LIFE WEFT_CA_DAY /* in which it is to be joined */

static const char magic[] = "weft-join-1\n";
#define MAGIC (sizeof(magic) - 1)
#define NONCE 12
#define TAG 16
#define CODE 32 /* AES-256, drawn for each export: nothing to guess, no derivation to slow guessing down */
#define HEAD (MAGIC + NONCE + TAG)
#define BUNDLE_MAX (1u << 20)

/* In groups of eight, so that a person can compare. */
static void print_code(const unsigned char *code, char *text)
{
	for (size_t i = 0; i < CODE; i++)
		text += sprintf(text, "%s%02x", i && i % 4 == 0 ? "-" : "", code[i]);
}

static int parse_code(const char *text, unsigned char *ret_code)
{
	size_t digits = 0;

	memset(ret_code, 0, CODE);
	for (; *text; text++) {
		const char *all = "0123456789abcdef", *at;

		if (*text == '-' || isspace((unsigned char)*text))
			continue;
		at = strchr(all, tolower((unsigned char)*text));
		if (!at || digits == 2 * CODE)
			return -EINVAL;
		ret_code[digits / 2] = (unsigned char)(ret_code[digits / 2] << 4 | (at - all));
		digits++;
	}
	return digits == 2 * CODE ? 0 : -EINVAL;
}

/* AES-256-GCM of `size` bytes, from and to; `head` is the bundle's first HEAD bytes. */
static bool crypt_bundle(bool seal, const unsigned char *code, unsigned char *head, const void *from, void *to, size_t size)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	unsigned char rest[16];
	int done = 0, more = 0;
	bool ok = context && EVP_CipherInit_ex2(context, EVP_aes_256_gcm(), code, head + MAGIC, seal, NULL) == 1 &&
		  EVP_CipherUpdate(context, NULL, &done, head, MAGIC) == 1 &&
		  EVP_CipherUpdate(context, to, &done, from, (int)size) == 1 && (size_t)done == size &&
		  (seal || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG, head + MAGIC + NONCE) == 1) &&
		  EVP_CipherFinal_ex(context, rest, &more) == 1 && more == 0 &&
		  (!seal || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG, head + MAGIC + NONCE) == 1);

	EVP_CIPHER_CTX_free(context);
	ERR_clear_error();
	return ok;
}

static int serial_text(const X509 *certificate, char ret_text[static 41])
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);

	if (serial->length > 20)
		return -EINVAL;
	for (int i = 0; i < serial->length; i++)
		sprintf(ret_text + 2 * i, "%02x", serial->data[i]);
	return 0;
}

/* All that another node is to believe. */
static int add_trusted(struct weft_buf *buf, const struct weft_authority *authority, int dir)
{
	size_t size, room;
	char *text;
	int r = weft_authority_add_certificate(buf, authority->root);

	for (size_t i = 0; r == 0 && i < authority->others.count; i++)
		r = weft_authority_add_certificate(buf, authority->others.certificate[i]);
	if (r == 0 && authority->crls.crl_count && weft_authority_read(dir, WEFT_CA_CRL_FILE, &text, &size, &room, NULL) == 0) {
		r = weft_buf_add(buf, text, size);
		weft_key_free(text, room);
	}
	return r;
}

int weft_ca_make(int dir, const char *domain, time_t now, struct weft_err *err)
{
	weft_cleanup(weft_authority_done) struct weft_authority found = { .root = NULL };
	int r;

	if (!weft_trust_domain_valid(domain, strlen(domain)))
		return weft_err_set(err, EINVAL, "%s is no trust domain", domain);
	r = weft_authority_load(dir, &found, err);
	if (r == 0)
		return weft_err_set(err, EEXIST, "the CA is there already, for trust domain %s", found.domain);
	return r == -ENOENT ? weft_authority_create(dir, domain, now, err) : r;
}

int weft_ca_export(int dir, time_t now, struct weft_buf *bundle, struct weft_ca_export *ret_export, struct weft_err *err)
{
	weft_cleanup(weft_authority_done) struct weft_authority authority = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL, *key = NULL;
	weft_x509_on_exit X509 *certificate = NULL;
	weft_buf_done_on_exit struct weft_buf public = WEFT_BUF_INIT;
	unsigned char code[CODE], head[HEAD];
	size_t at, room, size = 0;
	char *text;
	int r = weft_authority_load_rooted(dir, &authority, &root_key, err);

	if (r == 0)
		r = weft_authority_make_intermediate(authority.domain, authority.root, root_key, now, &certificate, &key, err);
	if (r < 0)
		return r;
	*ret_export = (struct weft_ca_export){ .until = now + EXPORT_LIFE };
	strcpy(ret_export->domain, authority.domain);
	r = weft_buf_printf(&public, "until %lld\n", (long long)ret_export->until);
	if (r == 0)
		r = weft_authority_add_certificate(&public, certificate);
	if (r == 0)
		r = add_trusted(&public, &authority, dir);
	room = public.size + WEFT_KEY_PEM_MAX;
	text = r == 0 ? weft_key_alloc(room) : NULL;
	if (text) {
		memcpy(text, public.data, public.size);
		r = weft_key_to_pem(key, text + public.size, &size);
		size += public.size;
	} else {
		r = -ENOMEM;
	}
	memcpy(head, magic, MAGIC);
	if (r == 0 && (RAND_priv_bytes(code, sizeof(code)) != 1 || RAND_bytes(head + MAGIC, NONCE) != 1))
		r = -EIO;
	if (r == 0)
		r = weft_buf_reserve(bundle, HEAD + size, &at);
	if (r == 0 && !crypt_bundle(true, code, head, text, bundle->data + at + HEAD, size))
		r = -EIO;
	weft_key_free(text, room);
	if (r < 0)
		return weft_err_set(err, r, "cannot make the export: %m");
	memcpy(bundle->data + at, head, HEAD);
	print_code(code, ret_export->code);
	OPENSSL_cleanse(code, sizeof(code));
	return serial_text(certificate, ret_export->serial);
}

/* The bundle's contents, in memory of weft_key_alloc(). */
static int open_bundle(const void *bundle, size_t size, const char *code_text, char **ret_text, struct weft_err *err)
{
	unsigned char code[CODE], head[HEAD];
	char *text;
	bool ok;

	if (size <= HEAD || size > BUNDLE_MAX || memcmp(bundle, magic, MAGIC) != 0)
		return weft_err_set(err, EINVAL, "the file is no export of `weft ca export`");
	if (parse_code(code_text, code) < 0)
		return weft_err_set(err, EINVAL, "the code is not what `weft ca export` printed: 64 hexadecimal digits");
	memcpy(head, bundle, HEAD);
	text = weft_key_alloc(size - HEAD);
	if (!text)
		return weft_err_set(err, ENOMEM, "the memory for private keys is full");
	ok = crypt_bundle(false, code, head, (const char *)bundle + HEAD, text, size - HEAD);
	OPENSSL_cleanse(code, sizeof(code));
	if (!ok) {
		weft_key_free(text, size - HEAD);
		return weft_err_set(err, EACCES, "the code is that of another export, or the file was changed");
	}
	*ret_text = text;
	return 0;
}

/* What would be refused when it is read back must not take the place of what is there. */
static int check_trusted(const struct weft_pem *pem, const char *domain, struct weft_err *err)
{
	weft_cleanup(weft_trust_unrefp) struct weft_trust *trust = weft_trust_new();
	int r = trust ? 0 : weft_err_set(err, ENOMEM, "out of memory");

	for (size_t i = 1; r == 0 && i < pem->count; i++) {
		struct weft_der der;

		r = weft_pem_der(pem->certificate[i], &der);
		if (r == 0) {
			r = weft_trust_add_root(trust, domain, der.data, der.size, err);
			OPENSSL_free((void *)der.data);
		}
	}
	for (size_t i = 0; r == 0 && i < pem->crl_count; i++) {
		unsigned char *der = NULL;
		int size = i2d_X509_CRL(pem->crl[i], &der);

		r = size > 0 ? weft_trust_add_crl(trust, domain, der, (size_t)size, err) : -ENOMEM;
		OPENSSL_free(der);
	}
	return r < 0 ? weft_err_prefix(err, r, "the export cannot be used") : 0;
}

/* That all of it belongs together; it was made by who has the code, so that this finds mistakes, not attacks. */
static int check_bundle(const struct weft_pem *pem, const EVP_PKEY *key, char *ret_domain, struct weft_err *err)
{
	char other[WEFT_TRUST_DOMAIN_MAX + 1];

	if (pem->count < 2 || weft_authority_domain(pem->certificate[1], ret_domain) < 0 || weft_authority_domain(pem->certificate[0], other) < 0 ||
	    strcmp(ret_domain, other) != 0 || EVP_PKEY_eq(key, X509_get0_pubkey(pem->certificate[0])) != 1 ||
	    X509_verify(pem->certificate[0], X509_get0_pubkey(pem->certificate[1])) != 1) {
		ERR_clear_error();
		return weft_err_set(err, EINVAL, "the export does not fit together: it was made by another version of weft");
	}
	return check_trusted(pem, ret_domain, err);
}

/* The same root as now, or one that this node believes already, or one that believes ours: a rotation. */
static bool is_known(const struct weft_authority *here, const struct weft_pem *pem)
{
	for (size_t i = 1; i < pem->count; i++) {
		if (X509_cmp(pem->certificate[i], here->root) == 0)
			return true;
		for (size_t j = 0; i == 1 && j < here->others.count; j++)
			if (X509_cmp(pem->certificate[i], here->others.certificate[j]) == 0)
				return true;
	}
	return false;
}

/* 0: it has none. */
static int64_t crl_number(const X509_CRL *crl)
{
	ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
	int64_t value = 0;

	if (number && ASN1_INTEGER_get_int64(&value, number) != 1)
		value = 0;
	ASN1_INTEGER_free(number);
	ERR_clear_error();
	return value;
}

static bool has_root(const struct weft_pem *pem, const X509_NAME *name)
{
	for (size_t i = 1; i < pem->count; i++)
		if (X509_NAME_cmp(X509_get_subject_name(pem->certificate[i]), name) == 0)
			return true;
	return false;
}

/*
 * An export says all that there is to believe when it is made, so that what is older than what is here would take a revocation
 * or a root back. Lists are looked at besides: crl.pem may have come by hand.
 */
static int check_newer(const struct weft_authority *here, const struct weft_pem *pem, struct weft_err *err)
{
	if (ASN1_TIME_compare(X509_get0_notBefore(pem->certificate[0]), X509_get0_notBefore(here->intermediate)) < 0)
		return weft_err_set(err, ESTALE, "the export is older than the one that this node joined last, it may lack a new root or a "
				    "revocation: make a new one");
	for (size_t i = 0; i < here->crls.crl_count; i++) {
		const X509_NAME *issuer = X509_CRL_get_issuer(here->crls.crl[i]);
		int64_t number = -1;

		for (size_t j = 0; j < pem->crl_count; j++)
			if (X509_NAME_cmp(X509_CRL_get_issuer(pem->crl[j]), issuer) == 0 && crl_number(pem->crl[j]) > number)
				number = crl_number(pem->crl[j]);
		/* Of a root that is believed no longer it does not matter. */
		if (number < crl_number(here->crls.crl[i]) && has_root(pem, issuer))
			return weft_err_set(err, ESTALE, "the export has an older revocation list than this node's %s: make a new one",
					    WEFT_CA_CRL_FILE);
	}
	return 0;
}

static int write_public(int dir, const char *name, const struct weft_buf *text, struct weft_err *err)
{
	if (text->size)
		return weft_authority_write(dir, name, text->data, text->size, err);
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return weft_err_set(err, errno, "cannot remove the CA's %s: %m", name);
	return 0;
}

static int add_crl(struct weft_buf *buf, X509_CRL *crl)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long size;
	int r = -ENOMEM;

	if (bio && PEM_write_bio_X509_CRL(bio, crl)) {
		size = BIO_get_mem_data(bio, &data);
		r = weft_buf_add(buf, data, (size_t)size);
	}
	BIO_free(bio);
	return r;
}

static int install(int dir, const struct weft_pem *pem, const EVP_PKEY *key, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf root = WEFT_BUF_INIT, others = WEFT_BUF_INIT, crls = WEFT_BUF_INIT;
	int r = weft_authority_add_certificate(&root, pem->certificate[1]);

	/* All of them, for until the last file is there the root is still the one before. */
	for (size_t i = 1; r == 0 && i < pem->count; i++)
		r = weft_authority_add_certificate(&others, pem->certificate[i]);
	for (size_t i = 0; r == 0 && i < pem->crl_count; i++)
		r = add_crl(&crls, pem->crl[i]);
	if (r < 0)
		return weft_err_set(err, r, "%m");
	/* Whom to believe before what is shown; the root last, with it the CA is there. */
	r = write_public(dir, WEFT_CA_CRL_FILE, &crls, err);
	if (r == 0)
		r = write_public(dir, WEFT_CA_OTHERS_FILE, &others, err);
	if (r == 0)
		r = weft_authority_write_pair(dir, WEFT_CA_INTERMEDIATE_FILE, pem->certificate[0], key, err);
	return r < 0 ? r : write_public(dir, WEFT_CA_ROOT_FILE, &root, err);
}

int weft_ca_join(int dir, time_t now, const void *bundle, size_t size, const char *code, char ret_domain[static 256], struct weft_err *err)
{
	weft_cleanup(weft_authority_done) struct weft_authority here = { .root = NULL };
	weft_pem_done_on_exit struct weft_pem pem = { .count = 0 };
	weft_key_on_exit EVP_PKEY *key = NULL;
	char domain[WEFT_TRUST_DOMAIN_MAX + 1];
	long long until = 0;
	char *text = NULL;
	int r = weft_authority_check_mode(dir, "the CA's folder", 0700, err);

	if (r == 0)
		r = open_bundle(bundle, size, code, &text, err);
	if (r < 0)
		return r;
	size -= HEAD;
	for (size_t i = sizeof("until ") - 1; i < size && isdigit((unsigned char)text[i]) && until < 1ll << 50; i++)
		until = until * 10 + (text[i] - '0');
	r = weft_pem_read(text, size, "the export", &pem, err);
	if (r == 0) {
		r = weft_key_from_pem(text, size, &key, err);
		if (r < 0)
			weft_err_prefix(err, r, "the export");
	}
	weft_key_free(text, size);
	if (r == 0)
		r = check_bundle(&pem, key, domain, err);
	if (r < 0)
		return r;
	if (until < now)
		return weft_err_set(err, ESTALE, "the export is more than a day old: make a new one");
	r = weft_authority_load(dir, &here, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && (here.rooted || !is_known(&here, &pem)))
		return weft_err_set(err, EEXIST, "this node has %s for trust domain %s: stop weftd, remove the files of the CA, and join again",
				    here.rooted ? "a CA of its own" : "joined another CA", here.domain);
	if (r == 0)
		r = check_newer(&here, &pem, err);
	if (r < 0 && r != -ENOENT)
		return r;
	r = install(dir, &pem, key, err);
	if (r == 0)
		strcpy(ret_domain, domain);
	return r;
}

/* roots.pem as it is, with `more`, without what has ended. */
static int put_others(int dir, const struct weft_authority *authority, X509 *more, time_t now, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	int r = weft_authority_add_certificate(&text, more);

	for (size_t i = 0; r == 0 && i < authority->others.count; i++)
		if (X509_cmp(authority->others.certificate[i], more) != 0 &&
		    weft_pem_time(X509_get0_notAfter(authority->others.certificate[i])) > now)
			r = weft_authority_add_certificate(&text, authority->others.certificate[i]);
	return r < 0 ? weft_err_set(err, r, "%m") : write_public(dir, WEFT_CA_OTHERS_FILE, &text, err);
}

int weft_ca_rotate(int dir, time_t now, bool *ret_signs, struct weft_err *err)
{
	weft_cleanup(weft_authority_done) struct weft_authority authority = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL, *next_key = NULL, *key = NULL;
	weft_x509_on_exit X509 *next = NULL, *intermediate = NULL;
	int r = weft_authority_load_rooted(dir, &authority, &root_key, err);

	if (r < 0)
		return r;
	r = weft_authority_read_pair(dir, WEFT_CA_NEXT_FILE, &next, &next_key, err);
	if (r == -ENOENT) {
		r = weft_authority_make_root(authority.domain, now, &next, &next_key, err);
		if (r == 0)
			r = weft_authority_write_pair(dir, WEFT_CA_NEXT_FILE, next, next_key, err);
		if (r == 0)
			r = put_others(dir, &authority, next, now, err);
		if (r == 0)
			*ret_signs = false;
		return r;
	}
	if (r == 0 && !next_key)
		r = weft_err_set(err, EINVAL, "the CA's %s has no key: remove it to begin the rotation anew", WEFT_CA_NEXT_FILE);
	if (r == 0)
		r = weft_authority_make_intermediate(authority.domain, next, next_key, now, &intermediate, &key, err);
	/* Each step leaves something that works: both roots are believed throughout, and what the old one signed can be revoked. */
	if (r == 0 && X509_cmp(next, authority.root) != 0)
		r = weft_authority_write_pair(dir, WEFT_CA_OLD_FILE, authority.root, root_key, err);
	if (r == 0)
		r = put_others(dir, &authority, authority.root, now, err);
	if (r == 0)
		r = weft_authority_write_pair(dir, WEFT_CA_INTERMEDIATE_FILE, intermediate, key, err);
	if (r == 0)
		r = weft_authority_write_pair(dir, WEFT_CA_ROOT_FILE, next, next_key, err);
	if (r == 0 && unlinkat(dir, WEFT_CA_NEXT_FILE, 0) < 0)
		r = weft_err_set(err, errno, "cannot remove the CA's %s: %m", WEFT_CA_NEXT_FILE);
	if (r == 0)
		*ret_signs = true;
	return r;
}

/* The list of a root, or a new one, which `crls` has from then on. */
static X509_CRL *crl_of(struct weft_pem *crls, X509 *root)
{
	X509_CRL *crl;

	for (size_t i = 0; i < crls->crl_count; i++)
		if (X509_NAME_cmp(X509_CRL_get_issuer(crls->crl[i]), X509_get_subject_name(root)) == 0)
			return crls->crl[i];
	crl = crls->crl_count < WEFT_PEM_MAX ? X509_CRL_new() : NULL;
	if (crl && X509_CRL_set_version(crl, X509_CRL_VERSION_2) && X509_CRL_set_issuer_name(crl, X509_get_subject_name(root)))
		return crls->crl[crls->crl_count++] = crl;
	X509_CRL_free(crl);
	return NULL;
}

static bool add_revoked(X509_CRL *crl, ASN1_INTEGER *serial, time_t now)
{
	X509_REVOKED *revoked = X509_REVOKED_new();
	ASN1_TIME *when = ASN1_TIME_set(NULL, now);
	bool ok = revoked && when && X509_REVOKED_set_serialNumber(revoked, serial) && X509_REVOKED_set_revocationDate(revoked, when) &&
		  X509_CRL_add0_revoked(crl, revoked);

	if (!ok)
		X509_REVOKED_free(revoked);
	ASN1_TIME_free(when);
	return ok;
}

/*
 * In force until the root ends: it is renewed by revoking, not by time. Dated back as certificates are: where a clock is behind
 * ours a list of the future would have all of its issuer's certificates refused.
 */
static bool sign_crl(X509_CRL *crl, X509 *root, EVP_PKEY *key, time_t now)
{
	ASN1_TIME *when = ASN1_TIME_set(NULL, now - WEFT_CA_SKEW);
	int64_t before = crl_number(crl);
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	X509_EXTENSION *extension = NULL;
	X509V3_CTX context;
	bool ok = when && number && X509_CRL_set1_lastUpdate(crl, when) && X509_CRL_set1_nextUpdate(crl, X509_get0_notAfter(root)) &&
		  ASN1_INTEGER_set_int64(number, now > before ? now : before + 1) && X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, X509V3_ADD_REPLACE) == 1;

	if (ok && X509_CRL_get_ext_by_NID(crl, NID_authority_key_identifier, -1) < 0) {
		X509V3_set_ctx(&context, root, NULL, NULL, crl, 0);
		extension = X509V3_EXT_conf_nid(NULL, &context, NID_authority_key_identifier, "keyid:always");
		ok = extension && X509_CRL_add_ext(crl, extension, -1);
	}
	ok = ok && X509_CRL_sort(crl) && X509_CRL_sign(crl, key, EVP_sha256()) > 0;
	X509_EXTENSION_free(extension);
	ASN1_INTEGER_free(number);
	ASN1_TIME_free(when);
	ERR_clear_error();
	return ok;
}

static ASN1_INTEGER *parse_serial(const char *text)
{
	BIGNUM *number = NULL;
	ASN1_INTEGER *serial = NULL;

	if (*text && strlen(text) <= 40 && strspn(text, "0123456789abcdefABCDEF") == strlen(text) && BN_hex2bn(&number, text))
		serial = BN_to_ASN1_INTEGER(number, NULL);
	BN_free(number);
	return serial;
}

/* On the list of `root`, which is in `crls` or made. 1: it is there already. */
static int put_on_list(struct weft_pem *crls, X509 *root, EVP_PKEY *key, ASN1_INTEGER *serial, time_t now, struct weft_err *err)
{
	X509_CRL *crl = crl_of(crls, root);
	X509_REVOKED *there;

	if (!crl)
		return weft_err_set(err, ENOMEM, "out of memory");
	if (X509_CRL_get0_by_serial(crl, &there, serial) == 1)
		return 1;
	if (!add_revoked(crl, serial, now) || !sign_crl(crl, root, key, now))
		return weft_err_set(err, EIO, "cannot sign the CRL");
	return 0;
}

int weft_ca_revoke(int dir, time_t now, const char *serial_hex, struct weft_err *err)
{
	weft_cleanup(weft_authority_done) struct weft_authority authority = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL, *old_key = NULL;
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	weft_x509_on_exit X509 *old = NULL;
	ASN1_INTEGER *serial = parse_serial(serial_hex);
	int r = serial ? weft_authority_load_rooted(dir, &authority, &root_key, err)
		       : weft_err_set(err, EINVAL, "%s is no serial number: give the one that `weft ca export` printed", serial_hex), before = 1;

	if (r == 0 && ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(authority.intermediate)) == 0)
		r = weft_err_set(err, EINVAL, "%s is this node's own: rotate the root instead", serial_hex);
	if (r == 0) {
		r = weft_authority_read_pair(dir, WEFT_CA_OLD_FILE, &old, &old_key, err);
		if (r == -ENOENT)
			r = 0;
	}
	/* Which of the two signed it nobody knows, and a number is never given twice. */
	if (r == 0 && old_key && weft_pem_time(X509_get0_notAfter(old)) > now)
		r = before = put_on_list(&authority.crls, old, old_key, serial, now, err);
	if (r >= 0)
		r = put_on_list(&authority.crls, authority.root, root_key, serial, now, err);
	if (r == 1 && before == 1)
		r = weft_err_set(err, EALREADY, "%s is revoked already", serial_hex);
	if (r >= 0) {
		r = 0;
		for (size_t i = 0; r == 0 && i < authority.crls.crl_count; i++)
			r = add_crl(&text, authority.crls.crl[i]);
		r = r < 0 ? weft_err_set(err, r, "%m") : write_public(dir, WEFT_CA_CRL_FILE, &text, err);
	}
	ASN1_INTEGER_free(serial);
	return r;
}
