/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/authority.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "tls/cert.h"
#include "tls/key.h"

#define ROOT_LIFE (3650 * WEFT_CA_DAY)

void weft_authority_done(struct weft_authority *authority)
{
	X509_free(authority->root);
	X509_free(authority->intermediate);
	EVP_PKEY_free(authority->key);
	weft_pem_done(&authority->others);
	weft_pem_done(&authority->crls);
	memset(authority, 0, sizeof(*authority));
}

/* ---- files ---- */

int weft_authority_check_mode(int fd, const char *name, mode_t wanted, struct weft_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return weft_err_set(err, errno, "cannot look at %s: %m", name);
	if (st.st_mode & 077)
		return weft_err_set(err, EPERM, "%s has mode %04o, so that others than its owner get at private keys: chmod %04o it, and rotate "
				    "if somebody may have", name, st.st_mode & 07777, wanted);
	return 0;
}

int weft_authority_read(int dir, const char *name, char **ret_text, size_t *ret_size, size_t *ret_room, struct weft_err *err)
{
	weft_close_on_exit int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : weft_err_set(err, errno, "cannot open the CA's %s: %m", name);
	r = weft_authority_check_mode(fd, name, 0600, err);
	return r < 0 ? r : weft_key_read_file(dir, name, ret_text, ret_size, ret_room, err);
}

int weft_authority_write(int dir, const char *name, const void *data, size_t size, struct weft_err *err)
{
	weft_close_on_exit int fd = -1;
	struct stat owner, mine;
	char aside[64];
	int r;

	snprintf(aside, sizeof(aside), ".%s.new", name);
	if (fstat(dir, &owner) < 0)
		return weft_err_set(err, errno, "cannot look at the CA's folder: %m");
	unlinkat(dir, aside, 0);
	fd = openat(dir, aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return weft_err_set(err, errno, "cannot write the CA's %s: %m", name);
	r = weft_write_all(fd, data, size);
	if (r == 0 && fstat(fd, &mine) < 0)
		r = -errno;
	if (r == 0 && mine.st_uid != owner.st_uid && fchown(fd, owner.st_uid, owner.st_gid) < 0)
		r = -errno;
	if (r == 0 && (fsync(fd) < 0 || renameat(dir, aside, dir, name) < 0 || fsync(dir) < 0))
		r = -errno;
	if (r < 0)
		unlinkat(dir, aside, 0);
	return r < 0 ? weft_err_set(err, r, "cannot write the CA's %s: %m", name) : 0;
}

int weft_authority_add_certificate(struct weft_buf *buf, X509 *certificate)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long size;
	int r = -ENOMEM;

	if (bio && PEM_write_bio_X509(bio, certificate)) {
		size = BIO_get_mem_data(bio, &data);
		r = weft_buf_add(buf, data, (size_t)size);
	}
	BIO_free(bio);
	return r;
}

int weft_authority_write_pair(int dir, const char *name, X509 *certificate, const EVP_PKEY *key, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf public = WEFT_BUF_INIT;
	int r = weft_authority_add_certificate(&public, certificate);
	size_t room = public.size + WEFT_KEY_PEM_MAX, size = 0;
	char *text = r == 0 ? weft_key_alloc(room) : NULL;

	if (!text)
		return weft_err_set(err, ENOMEM, "the memory for private keys is full");
	memcpy(text, public.data, public.size);
	r = weft_key_to_pem(key, text + public.size, &size);
	r = r < 0 ? weft_err_set(err, r, "the CA's key for %s cannot be written", name)
		  : weft_authority_write(dir, name, text, public.size + size, err);
	weft_key_free(text, room);
	return r;
}

int weft_authority_read_pair(int dir, const char *name, X509 **ret_certificate, EVP_PKEY **ret_key, struct weft_err *err)
{
	weft_pem_done_on_exit struct weft_pem pem = { .count = 0 };
	weft_key_on_exit EVP_PKEY *key = NULL;
	size_t size, room;
	char *text;
	int r = weft_authority_read(dir, name, &text, &size, &room, err);

	if (r < 0)
		return r;
	r = weft_pem_read(text, size, name, &pem, err);
	if (r == 0) {
		r = weft_key_from_pem(text, size, &key, err);
		r = r == -ENOENT ? 0 : r < 0 ? weft_err_prefix(err, r, "%s", name) : 0;
	}
	weft_key_free(text, room);
	if (r < 0)
		return r;
	if (pem.count != 1)
		return weft_err_set(err, EINVAL, "the CA's %s has %zu certificates, expected 1", name, pem.count);
	if (key && EVP_PKEY_eq(key, X509_get0_pubkey(pem.certificate[0])) != 1)
		return weft_err_set(err, EINVAL, "the CA's %s has a key that is not its certificate's", name);
	*ret_certificate = weft_take_ptr(pem.certificate[0]);
	pem.count = 0;
	*ret_key = weft_take_ptr(key);
	return 0;
}

static int read_public(int dir, const char *name, struct weft_pem *ret_pem, struct weft_err *err)
{
	size_t size, room;
	char *text;
	int r = weft_authority_read(dir, name, &text, &size, &room, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = weft_pem_read(text, size, name, ret_pem, err);
	weft_key_free(text, room);
	return r;
}

int weft_authority_domain(X509 *certificate, char ret_domain[static WEFT_TRUST_DOMAIN_MAX + 1])
{
	static const char scheme[] = "spiffe://";
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	int r = -EINVAL;

	if (names && sk_GENERAL_NAME_num(names) == 1 && sk_GENERAL_NAME_value(names, 0)->type == GEN_URI) {
		const ASN1_IA5STRING *uri = sk_GENERAL_NAME_value(names, 0)->d.uniformResourceIdentifier;
		const char *text = (const char *)ASN1_STRING_get0_data(uri);
		size_t size = (size_t)ASN1_STRING_length(uri), head = sizeof(scheme) - 1;

		if (size > head && memcmp(text, scheme, head) == 0 && weft_trust_domain_valid(text + head, size - head)) {
			memcpy(ret_domain, text + head, size - head);
			ret_domain[size - head] = '\0';
			r = 0;
		}
	}
	GENERAL_NAMES_free(names);
	return r;
}

/* ---- certificates ---- */

static int set_serial(X509 *certificate)
{
	unsigned char random[16];
	BIGNUM *number;
	int ok;

	if (RAND_bytes(random, sizeof(random)) != 1)
		return -EIO;
	random[0] = (random[0] & 0x7f) | 0x40; /* positive, and never shorter */
	number = BN_bin2bn(random, sizeof(random), NULL);
	ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
	BN_free(number);
	return ok ? 0 : -ENOMEM;
}

static bool extend(X509 *certificate, X509 *issuer, int what, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX context;
	int ok;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, what, value);
	ok = extension && X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
	return ok;
}

static bool add_uri(X509 *certificate, const char *uri, bool critical)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *text = ASN1_IA5STRING_new();
	bool ok = names && name && text && ASN1_STRING_set(text, uri, -1);

	if (ok) {
		GENERAL_NAME_set0_value(name, GEN_URI, text);
		text = NULL;
		ok = sk_GENERAL_NAME_push(names, name) > 0;
		if (ok)
			name = NULL;
	}
	ok = ok && X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, critical, X509V3_ADD_DEFAULT) == 1;
	ASN1_IA5STRING_free(text);
	GENERAL_NAME_free(name);
	GENERAL_NAMES_free(names);
	return ok;
}

/* What `certificate` is for is its extensions; `id` is a trust domain or, of a leaf, a SPIFFE id: both of a grammar without commas. */
static bool add_extensions(X509 *certificate, X509 *issuer, enum weft_authority_kind kind, const char *id)
{
	char text[WEFT_TRUST_DOMAIN_MAX + 64];

	if (!extend(certificate, issuer, NID_subject_key_identifier, "hash") ||
	    (kind != WEFT_AUTHORITY_ROOT && !extend(certificate, issuer, NID_authority_key_identifier, "keyid:always")))
		return false;
	if (kind == WEFT_AUTHORITY_LEAF)
		return extend(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
		       extend(certificate, issuer, NID_key_usage, "critical,digitalSignature") &&
		       extend(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
		       add_uri(certificate, id, true); /* critical, for there is no subject: RFC 5280 section 4.1.2.6 */
	if (!extend(certificate, issuer, NID_basic_constraints,
		    kind == WEFT_AUTHORITY_ROOT ? "critical,CA:TRUE,pathlen:1" : "critical,CA:TRUE,pathlen:0") ||
	    !extend(certificate, issuer, NID_key_usage, "critical,keyCertSign,cRLSign"))
		return false;
	snprintf(text, sizeof(text), "critical,permitted;URI:%s", id);
	if (kind == WEFT_AUTHORITY_INTERMEDIATE && !extend(certificate, issuer, NID_name_constraints, text))
		return false;
	snprintf(text, sizeof(text), "spiffe://%s", id);
	return add_uri(certificate, text, false);
}

int weft_authority_issue(enum weft_authority_kind kind, const char *id, EVP_PKEY *subject, X509 *issuer, EVP_PKEY *signer,
			 time_t from, time_t to, X509 **ret_certificate)
{
	weft_x509_on_exit X509 *certificate = X509_new();
	X509_NAME *name = X509_NAME_new();
	unsigned char random[4];
	char common[32];
	bool ok = certificate && name && RAND_bytes(random, sizeof(random)) == 1 && set_serial(certificate) == 0;

	/* Names are unique, for a path is found by them too, and two roots overlap. */
	if (ok && kind != WEFT_AUTHORITY_LEAF) {
		snprintf(common, sizeof(common), "weft %s %02x%02x%02x%02x", kind == WEFT_AUTHORITY_ROOT ? "root" : "node",
			 random[0], random[1], random[2], random[3]);
		ok = X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_ASC, (unsigned char *)common, -1, -1, 0) == 1;
	}
	ok = ok && X509_set_version(certificate, X509_VERSION_3) && X509_set_subject_name(certificate, name) &&
	     X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : name) &&
	     ASN1_TIME_set(X509_getm_notBefore(certificate), from) && ASN1_TIME_set(X509_getm_notAfter(certificate), to) &&
	     X509_set_pubkey(certificate, subject) && add_extensions(certificate, issuer ? issuer : certificate, kind, id) &&
	     X509_sign(certificate, signer, EVP_sha256()) > 0;
	X509_NAME_free(name);
	ERR_clear_error();
	if (!ok)
		return -ENOMEM;
	*ret_certificate = weft_take_ptr(certificate);
	return 0;
}

/* Anew from its bytes: a certificate as it was made holds on to the key pair that it was made for. */
static int reread(X509 **certificate)
{
	struct weft_der der;
	const unsigned char *at;
	X509 *fresh;
	int r = weft_pem_der(*certificate, &der);

	if (r < 0)
		return r;
	at = der.data;
	fresh = d2i_X509(NULL, &at, (long)der.size);
	OPENSSL_free((void *)der.data);
	if (!fresh)
		return -ENOMEM;
	X509_free(*certificate);
	*certificate = fresh;
	return 0;
}

int weft_authority_make_root(const char *domain, time_t now, X509 **ret_root, EVP_PKEY **ret_key, struct weft_err *err)
{
	weft_key_on_exit EVP_PKEY *key = NULL;
	weft_x509_on_exit X509 *root = NULL;
	int r = weft_key_new(&key, err);

	if (r < 0)
		return r;
	r = weft_authority_issue(WEFT_AUTHORITY_ROOT, domain, key, NULL, key, now - WEFT_CA_SKEW, now + ROOT_LIFE, &root);
	if (r == 0)
		r = reread(&root);
	if (r < 0)
		return weft_err_set(err, r, "cannot make a root certificate: %m");
	*ret_root = weft_take_ptr(root);
	*ret_key = weft_take_ptr(key);
	return 0;
}

int weft_authority_make_intermediate(const char *domain, X509 *root, EVP_PKEY *root_key, time_t now, X509 **ret_certificate,
				     EVP_PKEY **ret_key, struct weft_err *err)
{
	weft_key_on_exit EVP_PKEY *key = NULL;
	weft_x509_on_exit X509 *certificate = NULL;
	time_t end = weft_pem_time(X509_get0_notAfter(root)), until = now + WEFT_CA_INTERMEDIATE_LIFE;
	int r;

	if (end <= now)
		return weft_err_set(err, EKEYEXPIRED, "the CA's root has ended: rotate it with `weft ca rotate`");
	r = weft_key_new(&key, err);
	if (r < 0)
		return r;
	r = weft_authority_issue(WEFT_AUTHORITY_INTERMEDIATE, domain, key, root, root_key, now - WEFT_CA_SKEW, until < end ? until : end,
				 &certificate);
	if (r == 0)
		r = reread(&certificate);
	if (r < 0)
		return weft_err_set(err, r, "cannot make an intermediate certificate: %m");
	*ret_certificate = weft_take_ptr(certificate);
	*ret_key = weft_take_ptr(key);
	return 0;
}

/* ---- an authority ---- */

int weft_authority_create(int dir, const char *domain, time_t now, struct weft_err *err)
{
	weft_key_on_exit EVP_PKEY *root_key = NULL, *key = NULL;
	weft_x509_on_exit X509 *root = NULL, *intermediate = NULL;
	int r = weft_authority_make_root(domain, now, &root, &root_key, err);

	if (r == 0)
		r = weft_authority_make_intermediate(domain, root, root_key, now, &intermediate, &key, err);
	/* The root last: with it the CA is there. */
	if (r == 0)
		r = weft_authority_write_pair(dir, WEFT_CA_INTERMEDIATE_FILE, intermediate, key, err);
	return r < 0 ? r : weft_authority_write_pair(dir, WEFT_CA_ROOT_FILE, root, root_key, err);
}

int weft_authority_load(int dir, struct weft_authority *ret_authority, struct weft_err *err)
{
	weft_cleanup(weft_authority_done) struct weft_authority authority = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL;
	int r = weft_authority_check_mode(dir, "the CA's folder", 0700, err);

	if (r == 0)
		r = weft_authority_read_pair(dir, WEFT_CA_ROOT_FILE, &authority.root, &root_key, err);
	if (r < 0)
		return r == -ENOENT ? weft_err_set(err, r, "there is no CA in this folder yet: weftd makes it when a workload is attached") : r;
	authority.rooted = root_key;
	if (weft_authority_domain(authority.root, authority.domain) < 0)
		return weft_err_set(err, EINVAL, "the CA's %s names no trust domain: it is none of weft's", WEFT_CA_ROOT_FILE);
	r = weft_authority_read_pair(dir, WEFT_CA_INTERMEDIATE_FILE, &authority.intermediate, &authority.key, err);
	if (r == -ENOENT || (r == 0 && !authority.key))
		return weft_err_set(err, EINVAL, "the CA's %s or the key in it is gone: put it back, or remove %s too to begin anew",
				    WEFT_CA_INTERMEDIATE_FILE, WEFT_CA_ROOT_FILE);
	if (r == 0)
		r = read_public(dir, WEFT_CA_OTHERS_FILE, &authority.others, err);
	if (r == 0)
		r = read_public(dir, WEFT_CA_CRL_FILE, &authority.crls, err);
	if (r < 0)
		return r;
	*ret_authority = authority;
	memset(&authority, 0, sizeof(authority));
	return 0;
}

int weft_authority_load_rooted(int dir, struct weft_authority *ret_authority, EVP_PKEY **ret_root_key, struct weft_err *err)
{
	weft_x509_on_exit X509 *root = NULL;
	int r = weft_authority_load(dir, ret_authority, err);

	if (r == 0 && !ret_authority->rooted)
		r = weft_err_set(err, ENOKEY, "the root's key is not on this node: do it on the node that the others joined");
	if (r == 0)
		r = weft_authority_read_pair(dir, WEFT_CA_ROOT_FILE, &root, ret_root_key, err);
	return r;
}
