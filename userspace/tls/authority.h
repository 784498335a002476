/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedded CA as it lies in its folder: files, certificates, and both read back as one authority. The signer (ca.c) and
 * what a person does to it (ca_manage.c) stand on this; nobody else includes it.
 */
#ifndef WEFT_TLS_AUTHORITY_H
#define WEFT_TLS_AUTHORITY_H

#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "tls/pem.h"
#include "tls/spiffe.h"

#define WEFT_CA_ROOT_FILE "root.pem" /* the root; its key too, on the node where it was made */
#define WEFT_CA_INTERMEDIATE_FILE "intermediate.pem" /* this node's, with its key */
#define WEFT_CA_NEXT_FILE "next.pem" /* the root that will sign, with its key */
#define WEFT_CA_OLD_FILE "old.pem" /* the root that signed before, with its key: to revoke what it signed */
#define WEFT_CA_OTHERS_FILE "roots.pem" /* roots that are believed besides, old and next */
#define WEFT_CA_CRL_FILE "crl.pem"

#define WEFT_CA_DAY (24 * 3600l)
#define WEFT_CA_INTERMEDIATE_LIFE (365 * WEFT_CA_DAY)
#define WEFT_CA_SKEW 3600l /* that clocks of nodes may be apart, of what lives long */

struct weft_authority {
	char domain[WEFT_TRUST_DOMAIN_MAX + 1];
	X509 *root;
	bool rooted; /* the root's key is here */
	X509 *intermediate;
	EVP_PKEY *key; /* of the intermediate */
	struct weft_pem others;
	struct weft_pem crls;
};
void weft_authority_done(struct weft_authority *authority);

/* ---- files; `dir` is the CA's folder ---- */

/* Of an open folder or file. -EPERM: others than its owner may read it. */
int weft_authority_check_mode(int fd, const char *name, mode_t wanted, struct weft_err *err);
/* -ENOENT without a sentence: it is not there. */
int weft_authority_read(int dir, const char *name, char **ret_text, size_t *ret_size, size_t *ret_room, struct weft_err *err);
/* Written aside, for its folder's owner only, synced, renamed, and the folder synced. */
int weft_authority_write(int dir, const char *name, const void *data, size_t size, struct weft_err *err);
/* *ret_key NULL if there is none in it. -ENOENT without a sentence: there is no such file. */
int weft_authority_read_pair(int dir, const char *name, X509 **ret_certificate, EVP_PKEY **ret_key, struct weft_err *err);
/* Certificate and key as one file, so that they are never of two. */
int weft_authority_write_pair(int dir, const char *name, X509 *certificate, const EVP_PKEY *key, struct weft_err *err);

/* ---- certificates ---- */

enum weft_authority_kind { WEFT_AUTHORITY_ROOT, WEFT_AUTHORITY_INTERMEDIATE, WEFT_AUTHORITY_LEAF };

/* `issuer` NULL: signed by itself. */
int weft_authority_issue(enum weft_authority_kind kind, const char *id, EVP_PKEY *subject, X509 *issuer, EVP_PKEY *signer,
			 time_t from, time_t to, X509 **ret_certificate);
int weft_authority_make_root(const char *domain, time_t now, X509 **ret_root, EVP_PKEY **ret_key, struct weft_err *err);
int weft_authority_make_intermediate(const char *domain, X509 *root, EVP_PKEY *root_key, time_t now, X509 **ret_certificate,
				     EVP_PKEY **ret_key, struct weft_err *err);
int weft_authority_add_certificate(struct weft_buf *buf, X509 *certificate);
/* The trust domain that a CA certificate of ours is for: its one URI, without path (X509-SVID section 3.1). */
int weft_authority_domain(X509 *certificate, char ret_domain[static WEFT_TRUST_DOMAIN_MAX + 1]);

/* ---- an authority ---- */

/* Root and intermediate of a trust domain, and their files. */
int weft_authority_create(int dir, const char *domain, time_t now, struct weft_err *err);
/* -ENOENT: there is no CA. */
int weft_authority_load(int dir, struct weft_authority *ret_authority, struct weft_err *err);
/* The same, with the root's key. -ENOKEY: that is on another node. */
int weft_authority_load_rooted(int dir, struct weft_authority *ret_authority, EVP_PKEY **ret_root_key, struct weft_err *err);

#endif
