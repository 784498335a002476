/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/ca.h"

#include <ctype.h>
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
#include "tls/pem.h"
#include "tls/spiffe.h"

#define ROOT_FILE "root.pem" /* the root; its key too, on the node where it was made */
#define INTERMEDIATE_FILE "intermediate.pem" /* this node's, with its key */
#define NEXT_FILE "next.pem" /* the root that will sign, with its key */
#define OTHERS_FILE "roots.pem" /* roots that are believed besides, old and next */
#define CRL_FILE "crl.pem"

#define HOUR 3600l
#define DAY (24 * HOUR)
#define ROOT_LIFE (3650 * DAY)
#define INTERMEDIATE_LIFE (365 * DAY)
#define EXPORT_LIFE DAY /* in which it is to be joined */
#define SKEW HOUR /* that clocks of nodes may be apart, of what lives long */
#define LEAF_SKEW 60l
#define LOOK_US 1000000ull /* between looks at the files */

static const char *const files[] = { ROOT_FILE, INTERMEDIATE_FILE, OTHERS_FILE, CRL_FILE };

struct authority {
	char domain[WEFT_TRUST_DOMAIN_MAX + 1];
	X509 *root;
	bool rooted; /* the root's key is here */
	X509 *intermediate;
	EVP_PKEY *key; /* of the intermediate */
	struct weft_pem others;
	struct weft_pem crls;
};

static void authority_done(struct authority *authority)
{
	X509_free(authority->root);
	X509_free(authority->intermediate);
	EVP_PKEY_free(authority->key);
	weft_pem_done(&authority->others);
	weft_pem_done(&authority->crls);
	memset(authority, 0, sizeof(*authority));
}

/* ---- files ---- */

/* Of an open folder or file. */
static int check_mode(int fd, const char *name, mode_t wanted, struct weft_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return weft_err_set(err, errno, "cannot look at %s: %m", name);
	if (st.st_mode & 077)
		return weft_err_set(err, EPERM, "%s has mode %04o, so that others than its owner get at private keys: chmod %04o it, and rotate "
				    "if somebody may have", name, st.st_mode & 07777, wanted);
	return 0;
}

/* -ENOENT without a sentence: it is not there. */
static int read_file(int dir, const char *name, char **ret_text, size_t *ret_size, size_t *ret_room, struct weft_err *err)
{
	weft_close_on_exit int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : weft_err_set(err, errno, "cannot open the CA's %s: %m", name);
	r = check_mode(fd, name, 0600, err);
	return r < 0 ? r : weft_key_read_file(dir, name, ret_text, ret_size, ret_room, err);
}

/* Written aside, for its folder's owner only, synced, renamed, and the folder synced. */
static int write_file(int dir, const char *name, const void *data, size_t size, struct weft_err *err)
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

static int add_certificate(struct weft_buf *buf, X509 *certificate)
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

/* Certificate and key as one file, so that they are never of two. */
static int write_pair(int dir, const char *name, X509 *certificate, const EVP_PKEY *key, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf public = WEFT_BUF_INIT;
	int r = add_certificate(&public, certificate);
	size_t room = public.size + WEFT_KEY_PEM_MAX, size = 0;
	char *text = r == 0 ? weft_key_alloc(room) : NULL;

	if (!text)
		return weft_err_set(err, ENOMEM, "the memory for private keys is full");
	memcpy(text, public.data, public.size);
	r = weft_key_to_pem(key, text + public.size, &size);
	r = r < 0 ? weft_err_set(err, r, "the CA's key for %s cannot be written", name)
		  : write_file(dir, name, text, public.size + size, err);
	weft_key_free(text, room);
	return r;
}

/* *ret_key NULL if there is none in it. -ENOENT without a sentence: there is no such file. */
static int read_pair(int dir, const char *name, X509 **ret_certificate, EVP_PKEY **ret_key, struct weft_err *err)
{
	weft_pem_done_on_exit struct weft_pem pem = { .count = 0 };
	weft_key_on_exit EVP_PKEY *key = NULL;
	size_t size, room;
	char *text;
	int r = read_file(dir, name, &text, &size, &room, err);

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
	int r = read_file(dir, name, &text, &size, &room, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = weft_pem_read(text, size, name, ret_pem, err);
	weft_key_free(text, room);
	return r;
}

/* The trust domain that a CA certificate of ours is for: its one URI, without path (X509-SVID section 3.1). */
static int domain_of(X509 *certificate, char ret_domain[static WEFT_TRUST_DOMAIN_MAX + 1])
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

enum kind { ROOT, INTERMEDIATE, LEAF };

/* What `certificate` is for is its extensions; `id` is a trust domain or, of a leaf, a SPIFFE id: both of a grammar without commas. */
static bool add_extensions(X509 *certificate, X509 *issuer, enum kind kind, const char *id)
{
	char text[WEFT_TRUST_DOMAIN_MAX + 64];

	if (!extend(certificate, issuer, NID_subject_key_identifier, "hash") ||
	    (kind != ROOT && !extend(certificate, issuer, NID_authority_key_identifier, "keyid:always")))
		return false;
	if (kind == LEAF)
		return extend(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
		       extend(certificate, issuer, NID_key_usage, "critical,digitalSignature") &&
		       extend(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
		       add_uri(certificate, id, true); /* critical, for there is no subject: RFC 5280 section 4.1.2.6 */
	if (!extend(certificate, issuer, NID_basic_constraints, kind == ROOT ? "critical,CA:TRUE,pathlen:1" : "critical,CA:TRUE,pathlen:0") ||
	    !extend(certificate, issuer, NID_key_usage, "critical,keyCertSign,cRLSign"))
		return false;
	snprintf(text, sizeof(text), "critical,permitted;URI:%s", id);
	if (kind == INTERMEDIATE && !extend(certificate, issuer, NID_name_constraints, text))
		return false;
	snprintf(text, sizeof(text), "spiffe://%s", id);
	return add_uri(certificate, text, false);
}

/* `issuer` NULL: signed by itself. */
static int issue(enum kind kind, const char *id, EVP_PKEY *subject, X509 *issuer, EVP_PKEY *signer, time_t from, time_t to,
		 X509 **ret_certificate)
{
	weft_x509_on_exit X509 *certificate = X509_new();
	X509_NAME *name = X509_NAME_new();
	unsigned char random[4];
	char common[32];
	bool ok = certificate && name && RAND_bytes(random, sizeof(random)) == 1 && set_serial(certificate) == 0;

	/* Names are unique, for a path is found by them too, and two roots overlap. */
	if (ok && kind != LEAF) {
		snprintf(common, sizeof(common), "weft %s %02x%02x%02x%02x", kind == ROOT ? "root" : "node", random[0], random[1], random[2],
			 random[3]);
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

static int make_root(const char *domain, time_t now, X509 **ret_root, EVP_PKEY **ret_key, struct weft_err *err)
{
	weft_key_on_exit EVP_PKEY *key = NULL;
	weft_x509_on_exit X509 *root = NULL;
	int r = weft_key_new(&key, err);

	if (r < 0)
		return r;
	r = issue(ROOT, domain, key, NULL, key, now - SKEW, now + ROOT_LIFE, &root);
	if (r == 0)
		r = reread(&root);
	if (r < 0)
		return weft_err_set(err, r, "cannot make a root certificate: %m");
	*ret_root = weft_take_ptr(root);
	*ret_key = weft_take_ptr(key);
	return 0;
}

static int make_intermediate(const char *domain, X509 *root, EVP_PKEY *root_key, time_t now, X509 **ret_certificate, EVP_PKEY **ret_key,
			     struct weft_err *err)
{
	weft_key_on_exit EVP_PKEY *key = NULL;
	weft_x509_on_exit X509 *certificate = NULL;
	time_t end = weft_pem_time(X509_get0_notAfter(root));
	int r;

	if (end <= now)
		return weft_err_set(err, EKEYEXPIRED, "the CA's root has ended: rotate it with `weft ca rotate`");
	r = weft_key_new(&key, err);
	if (r < 0)
		return r;
	r = issue(INTERMEDIATE, domain, key, root, root_key, now - SKEW, now + INTERMEDIATE_LIFE < end ? now + INTERMEDIATE_LIFE : end,
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

static int create(int dir, const char *domain, time_t now, struct weft_err *err)
{
	weft_key_on_exit EVP_PKEY *root_key = NULL, *key = NULL;
	weft_x509_on_exit X509 *root = NULL, *intermediate = NULL;
	int r = make_root(domain, now, &root, &root_key, err);

	if (r == 0)
		r = make_intermediate(domain, root, root_key, now, &intermediate, &key, err);
	/* The root last: with it the CA is there. */
	if (r == 0)
		r = write_pair(dir, INTERMEDIATE_FILE, intermediate, key, err);
	return r < 0 ? r : write_pair(dir, ROOT_FILE, root, root_key, err);
}

/* -ENOENT: there is no CA. */
static int load(int dir, struct authority *ret_authority, struct weft_err *err)
{
	weft_cleanup(authority_done) struct authority authority = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL;
	int r = check_mode(dir, "the CA's folder", 0700, err);

	if (r == 0)
		r = read_pair(dir, ROOT_FILE, &authority.root, &root_key, err);
	if (r < 0)
		return r == -ENOENT ? weft_err_set(err, r, "there is no CA in this folder yet: weftd makes it when a workload is attached") : r;
	authority.rooted = root_key;
	if (domain_of(authority.root, authority.domain) < 0)
		return weft_err_set(err, EINVAL, "the CA's %s names no trust domain: it is none of weft's", ROOT_FILE);
	r = read_pair(dir, INTERMEDIATE_FILE, &authority.intermediate, &authority.key, err);
	if (r == -ENOENT || (r == 0 && !authority.key))
		return weft_err_set(err, EINVAL, "the CA's %s or the key in it is gone: put it back, or remove %s too to begin anew",
				    INTERMEDIATE_FILE, ROOT_FILE);
	if (r == 0)
		r = read_public(dir, OTHERS_FILE, &authority.others, err);
	if (r == 0)
		r = read_public(dir, CRL_FILE, &authority.crls, err);
	if (r < 0)
		return r;
	*ret_authority = authority;
	memset(&authority, 0, sizeof(authority));
	return 0;
}

static int load_rooted(int dir, struct authority *ret_authority, EVP_PKEY **ret_root_key, struct weft_err *err)
{
	weft_x509_on_exit X509 *root = NULL;
	int r = load(dir, ret_authority, err);

	if (r == 0 && !ret_authority->rooted)
		r = weft_err_set(err, ENOKEY, "the root's key is not on this node: do it on the node that the others joined");
	if (r == 0)
		r = read_pair(dir, ROOT_FILE, &root, ret_root_key, err);
	return r;
}

/* ---- the signer ---- */

struct ca {
	struct weft_signer signer;
	int dir;
	sd_event_source *look;
	struct stat seen[WEFT_ARRAY_SIZE(files)];
	struct authority authority;
	struct weft_err trouble; /* with the files as they are; the last good ones are in use */
	int error;
};

static bool look_at(struct ca *ca)
{
	bool changed = false;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(files); i++) {
		struct stat st = { 0 }, *seen = &ca->seen[i];

		if (fstatat(ca->dir, files[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			memset(&st, 0, sizeof(st));
		changed |= st.st_ino != seen->st_ino || st.st_size != seen->st_size || st.st_mode != seen->st_mode || st.st_uid != seen->st_uid ||
			   st.st_mtim.tv_sec != seen->st_mtim.tv_sec || st.st_mtim.tv_nsec != seen->st_mtim.tv_nsec;
		*seen = st;
	}
	return changed;
}

static int take_up(struct ca *ca)
{
	struct authority fresh;
	int r = load(ca->dir, &fresh, &ca->trouble);

	if (r == 0 && ca->authority.root && strcmp(fresh.domain, ca->authority.domain) != 0) {
		r = weft_err_set(&ca->trouble, EEXIST, "the CA's files are now for trust domain %s, this node's is %s: restart weftd with that one "
				 "in MeshConfig, or put them back", fresh.domain, ca->authority.domain);
		authority_done(&fresh);
	}
	ca->error = r;
	if (r < 0)
		return r;
	ca->trouble.text[0] = '\0';
	authority_done(&ca->authority);
	ca->authority = fresh;
	return 0;
}

static int on_look(sd_event_source *source, uint64_t usec, void *context)
{
	struct ca *ca = context;

	(void)usec;
	if (look_at(ca)) {
		take_up(ca);
		ca->signer.events.changed(ca->signer.events.context);
	}
	sd_event_source_set_time_relative(source, LOOK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Half of its time is gone, and the root is here to make the next one. */
static int renew(struct ca *ca, time_t now, struct weft_err *err)
{
	weft_cleanup(authority_done) struct authority found = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL, *key = NULL;
	weft_x509_on_exit X509 *certificate = NULL;
	int r = load_rooted(ca->dir, &found, &root_key, err);

	if (r == 0)
		r = make_intermediate(found.domain, found.root, root_key, now, &certificate, &key, err);
	if (r == 0)
		r = write_pair(ca->dir, INTERMEDIATE_FILE, certificate, key, err);
	return r < 0 ? r : take_up(ca);
}

static bool half_gone(const X509 *certificate, time_t now)
{
	time_t from = weft_pem_time(X509_get0_notBefore(certificate)), to = weft_pem_time(X509_get0_notAfter(certificate));

	return now >= from + (to - from) / 2;
}

static void request_freep(X509_REQ **request)
{
	X509_REQ_free(*request);
}

static int ca_request(struct weft_signer *signer, const struct weft_signer_request *request, struct weft_err *err)
{
	struct ca *ca = (struct ca *)signer;
	const unsigned char *at = request->csr ? request->csr->data : NULL;
	weft_cleanup(request_freep) X509_REQ *csr = at ? d2i_X509_REQ(NULL, &at, (long)request->csr->size) : NULL;
	struct weft_der chain[2] = { { NULL, 0 } };
	weft_x509_on_exit X509 *leaf = NULL;
	struct weft_spiffe id;
	time_t now = time(NULL), end;
	EVP_PKEY *key;
	int r;

	ERR_clear_error();
	if (weft_spiffe_parse(request->id, strlen(request->id), &id, err) < 0)
		return -EINVAL;
	if (strlen(ca->authority.domain) != id.trust_domain_size || memcmp(id.trust_domain, ca->authority.domain, id.trust_domain_size) != 0)
		return weft_err_set(err, EINVAL, "%s is not of the CA's trust domain, %s", request->id, ca->authority.domain);
	key = csr ? X509_REQ_get0_pubkey(csr) : NULL;
	if (!key || X509_REQ_verify(csr, key) != 1)
		return weft_err_set(err, EINVAL, "%s: the request is not signed with the key that it names", request->id);
	if (ca->authority.rooted && half_gone(ca->authority.intermediate, now))
		renew(ca, now, &ca->trouble); /* in good time: the old one goes on if it fails */
	end = weft_pem_time(X509_get0_notAfter(ca->authority.intermediate));
	if (end <= now)
		return weft_err_set(err, EKEYEXPIRED, "this node's intermediate certificate has ended: join it anew with `weft ca join`");
	r = issue(LEAF, request->id, key, ca->authority.intermediate, ca->authority.key, now - LEAF_SKEW,
		  now + request->ttl_s < end ? now + request->ttl_s : end, &leaf);
	if (r == 0)
		r = weft_pem_der(leaf, &chain[0]);
	if (r == 0)
		r = weft_pem_der(ca->authority.intermediate, &chain[1]);
	if (r < 0)
		weft_err_set(err, r, "%s: cannot make a certificate: %m", request->id);
	else
		signer->events.answered(signer->events.context, request->id, 0, &(struct weft_signer_answer){ chain, 2, NULL }, NULL);
	OPENSSL_free((void *)chain[0].data);
	OPENSSL_free((void *)chain[1].data);
	return r;
}

struct each {
	int (*call)(void *context, bool crl, const char *domain, const struct weft_der *der);
	void *context;
	const char *domain;
};

static int tell_root(const struct each *each, X509 *root, time_t now)
{
	struct weft_der der;
	int r;

	if (weft_pem_time(X509_get0_notAfter(root)) <= now)
		return 0;
	r = weft_pem_der(root, &der);
	if (r == 0) {
		r = each->call(each->context, false, each->domain, &der);
		OPENSSL_free((void *)der.data);
	}
	return r;
}

static int ca_trust(struct weft_signer *signer, int (*call)(void *context, bool crl, const char *domain, const struct weft_der *der),
		    void *context, struct weft_err *err)
{
	struct ca *ca = (struct ca *)signer;
	const struct each each = { call, context, ca->authority.domain };
	time_t now = time(NULL);
	int r = tell_root(&each, ca->authority.root, now);

	for (size_t i = 0; r == 0 && i < ca->authority.others.count; i++)
		if (X509_cmp(ca->authority.others.certificate[i], ca->authority.root) != 0)
			r = tell_root(&each, ca->authority.others.certificate[i], now);
	for (size_t i = 0; r == 0 && i < ca->authority.crls.crl_count; i++) {
		unsigned char *data = NULL;
		int size = i2d_X509_CRL(ca->authority.crls.crl[i], &data);

		r = size > 0 ? call(context, true, ca->authority.domain, &(struct weft_der){ data, (size_t)size }) : -ENOMEM;
		OPENSSL_free(data);
	}
	return r < 0 ? weft_err_set(err, r, "cannot read whom the CA believes: %m") : r;
}

static int ca_state(struct weft_signer *signer, struct weft_err *err)
{
	struct ca *ca = (struct ca *)signer;
	time_t now = time(NULL), end = weft_pem_time(X509_get0_notAfter(ca->authority.intermediate));

	if (ca->trouble.text[0])
		return weft_err_set(err, ca->error ? ca->error : -EIO, "%s", ca->trouble.text);
	if (!ca->authority.rooted && end - now < INTERMEDIATE_LIFE / 4)
		return weft_err_set(err, EKEYEXPIRED, "this node's intermediate certificate ends in %ld days: join it anew with `weft ca join`",
				    end > now ? (end - now) / DAY : 0l);
	if (weft_pem_time(X509_get0_notAfter(ca->authority.root)) - now < INTERMEDIATE_LIFE)
		return weft_err_set(err, EKEYEXPIRED, "the CA's root ends in less than a year: rotate it with `weft ca rotate`");
	return 0;
}

static void ca_free(struct weft_signer *signer)
{
	struct ca *ca = (struct ca *)signer;

	sd_event_source_disable_unref(ca->look);
	authority_done(&ca->authority);
	free(ca);
}

int weft_ca_signer_new(sd_event *loop, int dir, const char *domain, const struct weft_signer_events *events,
		       struct weft_signer **ret_signer, struct weft_err *err)
{
	static const struct weft_signer_ops ops = { .request = ca_request, .trust = ca_trust, .state = ca_state, .free = ca_free };
	weft_cleanup(weft_signer_freep) struct weft_signer *signer = NULL;
	struct ca *ca;
	int r;

	if (!weft_trust_domain_valid(domain, strlen(domain)))
		return weft_err_set(err, EINVAL, "%s is no trust domain", domain);
	r = check_mode(dir, "the CA's folder", 0700, err);
	if (r < 0)
		return r;
	ca = calloc(1, sizeof(*ca));
	if (!ca)
		return weft_err_set(err, ENOMEM, "out of memory");
	ca->signer = (struct weft_signer){ &ops, *events };
	ca->dir = dir;
	signer = &ca->signer;
	look_at(ca);
	r = load(dir, &ca->authority, err);
	if (r == -ENOENT) {
		r = create(dir, domain, time(NULL), err);
		look_at(ca);
		if (r == 0)
			r = load(dir, &ca->authority, err);
	}
	if (r < 0)
		return r;
	if (strcmp(ca->authority.domain, domain) != 0)
		return weft_err_set(err, EEXIST, "the CA of this node is for trust domain %s, the mesh's is %s: set it back in MeshConfig, or "
				    "remove the files of the CA to begin anew, which ends all identities", ca->authority.domain, domain);
	r = sd_event_add_time_relative(loop, &ca->look, CLOCK_MONOTONIC, LOOK_US, LOOK_US / 10, on_look, ca);
	if (r < 0)
		return weft_err_set(err, r, "cannot watch the CA's files: %m");
	*ret_signer = weft_take_ptr(signer);
	return 0;
}

/* ---- what a person does to it ---- */

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
static int add_trusted(struct weft_buf *buf, const struct authority *authority, int dir)
{
	size_t size, room;
	char *text;
	int r = add_certificate(buf, authority->root);

	for (size_t i = 0; r == 0 && i < authority->others.count; i++)
		r = add_certificate(buf, authority->others.certificate[i]);
	if (r == 0 && authority->crls.crl_count && read_file(dir, CRL_FILE, &text, &size, &room, NULL) == 0) {
		r = weft_buf_add(buf, text, size);
		weft_key_free(text, room);
	}
	return r;
}

int weft_ca_make(int dir, const char *domain, time_t now, struct weft_err *err)
{
	weft_cleanup(authority_done) struct authority found = { .root = NULL };
	int r;

	if (!weft_trust_domain_valid(domain, strlen(domain)))
		return weft_err_set(err, EINVAL, "%s is no trust domain", domain);
	r = load(dir, &found, err);
	if (r == 0)
		return weft_err_set(err, EEXIST, "the CA is there already, for trust domain %s", found.domain);
	return r == -ENOENT ? create(dir, domain, now, err) : r;
}

int weft_ca_export(int dir, time_t now, struct weft_buf *bundle, struct weft_ca_export *ret_export, struct weft_err *err)
{
	weft_cleanup(authority_done) struct authority authority = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL, *key = NULL;
	weft_x509_on_exit X509 *certificate = NULL;
	weft_buf_done_on_exit struct weft_buf public = WEFT_BUF_INIT;
	unsigned char code[CODE], head[HEAD];
	size_t at, room, size = 0;
	char *text;
	int r = load_rooted(dir, &authority, &root_key, err);

	if (r == 0)
		r = make_intermediate(authority.domain, authority.root, root_key, now, &certificate, &key, err);
	if (r < 0)
		return r;
	*ret_export = (struct weft_ca_export){ .until = now + EXPORT_LIFE };
	strcpy(ret_export->domain, authority.domain);
	r = weft_buf_printf(&public, "until %lld\n", (long long)ret_export->until);
	if (r == 0)
		r = add_certificate(&public, certificate);
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

/* That all of it belongs together; it was made by who has the code, so that this finds mistakes, not attacks. */
static int check_bundle(const struct weft_pem *pem, const EVP_PKEY *key, char *ret_domain, struct weft_err *err)
{
	char other[WEFT_TRUST_DOMAIN_MAX + 1];

	if (pem->count < 2 || domain_of(pem->certificate[1], ret_domain) < 0 || domain_of(pem->certificate[0], other) < 0 ||
	    strcmp(ret_domain, other) != 0 || EVP_PKEY_eq(key, X509_get0_pubkey(pem->certificate[0])) != 1 ||
	    X509_verify(pem->certificate[0], X509_get0_pubkey(pem->certificate[1])) != 1) {
		ERR_clear_error();
		return weft_err_set(err, EINVAL, "the export does not fit together: it was made by another version of weft");
	}
	return 0;
}

/* The same root as now, or one that this node believes already, or one that believes ours: a rotation. */
static bool is_known(const struct authority *here, const struct weft_pem *pem)
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

static int write_public(int dir, const char *name, const struct weft_buf *text, struct weft_err *err)
{
	if (text->size)
		return write_file(dir, name, text->data, text->size, err);
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
	int r = add_certificate(&root, pem->certificate[1]);

	for (size_t i = 2; r == 0 && i < pem->count; i++)
		r = add_certificate(&others, pem->certificate[i]);
	for (size_t i = 0; r == 0 && i < pem->crl_count; i++)
		r = add_crl(&crls, pem->crl[i]);
	if (r < 0)
		return weft_err_set(err, r, "%m");
	/* Whom to believe before what is shown; the root last, with it the CA is there. */
	r = write_public(dir, CRL_FILE, &crls, err);
	if (r == 0)
		r = write_public(dir, OTHERS_FILE, &others, err);
	if (r == 0)
		r = write_pair(dir, INTERMEDIATE_FILE, pem->certificate[0], key, err);
	return r < 0 ? r : write_public(dir, ROOT_FILE, &root, err);
}

int weft_ca_join(int dir, time_t now, const void *bundle, size_t size, const char *code, char ret_domain[static 256], struct weft_err *err)
{
	weft_cleanup(authority_done) struct authority here = { .root = NULL };
	weft_pem_done_on_exit struct weft_pem pem = { .count = 0 };
	weft_key_on_exit EVP_PKEY *key = NULL;
	char domain[WEFT_TRUST_DOMAIN_MAX + 1];
	long long until = 0;
	char *text = NULL;
	int r = check_mode(dir, "the CA's folder", 0700, err);

	if (r == 0)
		r = open_bundle(bundle, size, code, &text, err);
	if (r < 0)
		return r;
	size -= HEAD;
	for (size_t i = sizeof("until ") - 1; i < size && isdigit((unsigned char)text[i]) && until < 1ll << 50; i++)
		until = until * 10 + (text[i] - '0');
	r = weft_pem_read(text, size, "the export", &pem, err);
	if (r == 0)
		r = weft_key_from_pem(text, size, &key, err);
	weft_key_free(text, size);
	if (r == 0)
		r = check_bundle(&pem, key, domain, err);
	if (r < 0)
		return r;
	if (until < now)
		return weft_err_set(err, ESTALE, "the export is more than a day old: make a new one");
	r = load(dir, &here, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && (here.rooted || !is_known(&here, &pem)))
		return weft_err_set(err, EEXIST, "this node has %s for trust domain %s: stop weftd, remove the files of the CA, and join again",
				    here.rooted ? "a CA of its own" : "joined another CA", here.domain);
	r = install(dir, &pem, key, err);
	if (r == 0)
		strcpy(ret_domain, domain);
	return r;
}

/* roots.pem as it is, with `more`, without what has ended. */
static int put_others(int dir, const struct authority *authority, X509 *more, time_t now, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	int r = add_certificate(&text, more);

	for (size_t i = 0; r == 0 && i < authority->others.count; i++)
		if (X509_cmp(authority->others.certificate[i], more) != 0 &&
		    weft_pem_time(X509_get0_notAfter(authority->others.certificate[i])) > now)
			r = add_certificate(&text, authority->others.certificate[i]);
	return r < 0 ? weft_err_set(err, r, "%m") : write_public(dir, OTHERS_FILE, &text, err);
}

int weft_ca_rotate(int dir, time_t now, bool *ret_signs, struct weft_err *err)
{
	weft_cleanup(authority_done) struct authority authority = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL, *next_key = NULL, *key = NULL;
	weft_x509_on_exit X509 *next = NULL, *intermediate = NULL;
	int r = load_rooted(dir, &authority, &root_key, err);

	if (r < 0)
		return r;
	r = read_pair(dir, NEXT_FILE, &next, &next_key, err);
	if (r == -ENOENT) {
		r = make_root(authority.domain, now, &next, &next_key, err);
		if (r == 0)
			r = write_pair(dir, NEXT_FILE, next, next_key, err);
		if (r == 0)
			r = put_others(dir, &authority, next, now, err);
		if (r == 0)
			*ret_signs = false;
		return r;
	}
	if (r == 0 && !next_key)
		r = weft_err_set(err, EINVAL, "the CA's %s has no key: remove it to begin the rotation anew", NEXT_FILE);
	if (r == 0)
		r = make_intermediate(authority.domain, next, next_key, now, &intermediate, &key, err);
	/* Each step leaves something that works: both roots are believed throughout. */
	if (r == 0)
		r = put_others(dir, &authority, authority.root, now, err);
	if (r == 0)
		r = write_pair(dir, INTERMEDIATE_FILE, intermediate, key, err);
	if (r == 0)
		r = write_pair(dir, ROOT_FILE, next, next_key, err);
	if (r == 0 && unlinkat(dir, NEXT_FILE, 0) < 0)
		r = weft_err_set(err, errno, "cannot remove the CA's %s: %m", NEXT_FILE);
	if (r == 0)
		*ret_signs = true;
	return r;
}

/* The CRL of the root as it is now, or a new one. Taken out of `crls`. */
static X509_CRL *crl_of(struct weft_pem *crls, X509 *root)
{
	X509_CRL *crl;

	for (size_t i = 0; i < crls->crl_count; i++)
		if (X509_NAME_cmp(X509_CRL_get_issuer(crls->crl[i]), X509_get_subject_name(root)) == 0) {
			crl = crls->crl[i];
			crls->crl[i] = crls->crl[--crls->crl_count];
			crls->crl[crls->crl_count] = NULL;
			return crl;
		}
	crl = X509_CRL_new();
	if (crl && X509_CRL_set_version(crl, X509_CRL_VERSION_2) && X509_CRL_set_issuer_name(crl, X509_get_subject_name(root)))
		return crl;
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

/* In force until the root ends: it is renewed by revoking, not by time. */
static bool sign_crl(X509_CRL *crl, X509 *root, EVP_PKEY *key, time_t now)
{
	ASN1_TIME *when = ASN1_TIME_set(NULL, now);
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	X509_EXTENSION *extension = NULL;
	X509V3_CTX context;
	bool ok = when && number && X509_CRL_set1_lastUpdate(crl, when) && X509_CRL_set1_nextUpdate(crl, X509_get0_notAfter(root)) &&
		  ASN1_INTEGER_set_int64(number, now) && X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, X509V3_ADD_REPLACE) == 1;

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

int weft_ca_revoke(int dir, time_t now, const char *serial_hex, struct weft_err *err)
{
	weft_cleanup(authority_done) struct authority authority = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL;
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	ASN1_INTEGER *serial = parse_serial(serial_hex);
	X509_REVOKED *there;
	X509_CRL *crl = NULL;
	int r = serial ? load_rooted(dir, &authority, &root_key, err)
		       : weft_err_set(err, EINVAL, "%s is no serial number: give the one that `weft ca export` printed", serial_hex);

	if (r == 0 && ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(authority.intermediate)) == 0)
		r = weft_err_set(err, EINVAL, "%s is this node's own: rotate the root instead", serial_hex);
	if (r == 0) {
		crl = crl_of(&authority.crls, authority.root);
		r = crl ? 0 : weft_err_set(err, ENOMEM, "out of memory");
	}
	if (r == 0 && X509_CRL_get0_by_serial(crl, &there, serial) == 1)
		r = weft_err_set(err, EALREADY, "%s is revoked already", serial_hex);
	if (r == 0 && (!add_revoked(crl, serial, now) || !sign_crl(crl, authority.root, root_key, now)))
		r = weft_err_set(err, EIO, "cannot sign the CRL");
	if (r == 0) {
		r = add_crl(&text, crl);
		for (size_t i = 0; r == 0 && i < authority.crls.crl_count; i++)
			r = add_crl(&text, authority.crls.crl[i]);
		r = r < 0 ? weft_err_set(err, r, "%m") : write_public(dir, CRL_FILE, &text, err);
	}
	X509_CRL_free(crl);
	ASN1_INTEGER_free(serial);
	return r;
}
