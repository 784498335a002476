/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/trust.h"

#include <openssl/sha.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tls/cert.h"
#include "tls/quiet.h"
#include "tls/trust_chain.h"

struct crl {
	X509_CRL *crl;
	ASN1_OCTET_STRING *key_id; /* of whom signed it; NULL: it does not say */
	/* The key that its signature was found to be of, so that this is paid once and not in each handshake. */
	bool verified;
	unsigned char key[SHA256_DIGEST_LENGTH];
};

struct domain {
	char *name;
	X509_STORE *store;
	STACK_OF(X509) *roots; /* those of `store` */
	struct crl *crls;
	size_t crl_count;
};

/* When what was found holds, both ends included. */
struct span {
	time_t from, until;
};

/*
 * Chains that were found good, so that a peer that comes back, or whose many connections are looked at again, costs a
 * digest. Only ever what this trust believes, in the seconds in which all of the path and its revocation lists hold. A
 * place is taken by whoever comes later.
 */
#define GOOD_CHAINS 256
struct memo {
	unsigned long judged;
	struct {
		unsigned char chain[SHA256_DIGEST_LENGTH];
		struct span span;
	} good[GOOD_CHAINS];
};

struct weft_trust {
	unsigned int refs;
	struct memo *memo;
	struct domain *domains;
	size_t domain_count;
};

static inline void x509_stack_free(STACK_OF(X509) *stack)
{
	sk_X509_pop_free(stack, X509_free);
}

/* One that borrows what is in it. */
static inline void borrowed_freep(STACK_OF(X509) **stack)
{
	sk_X509_free(*stack);
}

WEFT_CLEANUP_DEFINE(X509, X509_free);
WEFT_CLEANUP_DEFINE(X509_CRL, X509_CRL_free);
WEFT_CLEANUP_DEFINE(X509_STORE_CTX, X509_STORE_CTX_free);
WEFT_CLEANUP_DEFINE(AUTHORITY_KEYID, AUTHORITY_KEYID_free);

struct weft_trust *weft_trust_new(void)
{
	struct weft_trust *trust = calloc(1, sizeof(*trust));

	if (!trust)
		return NULL;
	trust->refs = 1;
	trust->memo = calloc(1, sizeof(*trust->memo));
	return trust->memo ? trust : weft_trust_unref(trust);
}

struct weft_trust *weft_trust_ref(struct weft_trust *trust)
{
	trust->refs++;
	return trust;
}

struct weft_trust *weft_trust_unref(struct weft_trust *trust)
{
	if (!trust || --trust->refs > 0)
		return NULL;
	for (size_t i = 0; i < trust->domain_count; i++) {
		struct domain *domain = &trust->domains[i];

		for (size_t j = 0; j < domain->crl_count; j++) {
			X509_CRL_free(domain->crls[j].crl);
			ASN1_OCTET_STRING_free(domain->crls[j].key_id);
		}
		free(domain->crls);
		x509_stack_free(domain->roots);
		X509_STORE_free(domain->store);
		free(domain->name);
	}
	free(trust->domains);
	free(trust->memo);
	free(trust);
	return NULL;
}

static struct domain *find_domain(const struct weft_trust *trust, const char *name, size_t size)
{
	for (size_t i = 0; i < trust->domain_count; i++)
		if (strlen(trust->domains[i].name) == size && memcmp(trust->domains[i].name, name, size) == 0)
			return &trust->domains[i];
	return NULL;
}

static int no_memory(struct weft_err *err)
{
	return weft_err_set(err, ENOMEM, "%m");
}

static int get_domain(struct weft_trust *trust, const char *name, struct domain **ret_domain, struct weft_err *err)
{
	struct domain *domain = find_domain(trust, name, strlen(name)), *grown;

	if (domain) {
		*ret_domain = domain;
		return 0;
	}
	if (!weft_trust_domain_valid(name, strlen(name)))
		return weft_err_set(
			err, EINVAL,
			"\"%.*s\" is no trust domain: 1 to 255 lower-case letters, digits, dots, dashes and "
			"underscores are",
			WEFT_TRUST_DOMAIN_MAX, name);
	grown = reallocarray(trust->domains, trust->domain_count + 1, sizeof(*grown));
	if (!grown)
		return no_memory(err);
	trust->domains = grown;
	domain = &grown[trust->domain_count];
	*domain = (struct domain){ .name = strdup(name), .store = X509_STORE_new(), .roots = sk_X509_new_null() };
	if (!domain->name || !domain->store || !domain->roots) {
		free(domain->name);
		X509_STORE_free(domain->store);
		sk_X509_free(domain->roots);
		return no_memory(err);
	}
	trust->domain_count++;
	*ret_domain = domain;
	return 0;
}

static int check_root(X509 *root, struct weft_err *err)
{
	int r = weft_cert_check(root, WEFT_CERT_ROOT, err);

	if (r < 0)
		return r == -ENOMEM ? r : -EINVAL;
	/* A path ends only there: what another CA vouches for is an intermediate, and is not to be believed by itself. */
	if (!(X509_get_extension_flags(root) & EXFLAG_SS) || X509_verify(root, X509_get0_pubkey(root)) != 1)
		return weft_err_set(err, EINVAL, "it is not signed by itself, so it is no root");
	return 0;
}

int weft_trust_add_root(struct weft_trust *trust, const char *domain, const void *der, size_t size,
			struct weft_err *err)
{
	WEFT_TLS_QUIET;
	const unsigned char *at = der;
	weft_cleanup(X509_freep) X509 *root = NULL;
	struct domain *in;
	char name[160];
	int r;

	if (size > WEFT_TRUST_MAX_CERT)
		return weft_err_set(err, EINVAL, "a root of trust domain %s has %zu bytes; %d are allowed", domain,
				    size, WEFT_TRUST_MAX_CERT);
	root = d2i_X509(NULL, &at, (long)size);
	if (!root || at != (const unsigned char *)der + size)
		return weft_err_set(err, EINVAL, "a root of trust domain %s is no certificate in DER", domain);
	r = check_root(root, err);
	if (r < 0)
		return weft_err_prefix(err, r, "root of trust domain %s, %s", domain, weft_cert_name(root, name));
	r = get_domain(trust, domain, &in, err);
	if (r < 0)
		return r;
	memset(trust->memo, 0, sizeof(*trust->memo));
	if (X509_STORE_add_cert(in->store, root) != 1 || sk_X509_push(in->roots, root) <= 0)
		return no_memory(err);
	(void)weft_take_ptr(root);
	return 0;
}

/*
 * What makes it say less than "whoever of this issuer is not here is not revoked", or be understood in part: refused.
 */
static int check_crl(X509_CRL *crl, struct weft_err *err)
{
	if (X509_CRL_get_version(crl) != X509_CRL_VERSION_2)
		return weft_err_set(err, EINVAL, "it is not of version 2");
	if (!weft_cert_signature_good(X509_CRL_get_signature_nid(crl)))
		return weft_err_set(err, EINVAL, "its signature is none of ECDSA or RSA with SHA-2, or Ed25519");
	if (!X509_CRL_get0_nextUpdate(crl))
		return weft_err_set(err, EINVAL, "it does not say until when it holds");
	if (X509_CRL_get_ext_by_NID(crl, NID_issuing_distribution_point, -1) >= 0 ||
	    X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
		return weft_err_set(err, EINVAL,
				    "it is a part of a list or a change to one, and only whole lists are taken");
	/* RFC 5280 section 5.2.3: it has a number, which is not critical. */
	if (X509_CRL_get_ext_by_NID(crl, NID_crl_number, -1) < 0)
		return weft_err_set(err, EINVAL, "it has no CRL number");
	if (X509_CRL_get_ext_by_critical(crl, 1, -1) >= 0)
		return weft_err_set(err, EINVAL,
				    "it has a critical extension that is not known, or one that may not be critical");
	for (int i = 0; i < sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)); i++)
		if (X509_REVOKED_get_ext_by_critical(sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), i), 1, -1) >= 0)
			return weft_err_set(err, EINVAL, "an entry of it has a critical extension that is not known");
	return 0;
}

int weft_trust_add_crl(struct weft_trust *trust, const char *domain, const void *der, size_t size, struct weft_err *err)
{
	WEFT_TLS_QUIET;
	const unsigned char *at = der;
	weft_cleanup(X509_CRL_freep) X509_CRL *crl = size <= LONG_MAX ? d2i_X509_CRL(NULL, &at, (long)size) : NULL;
	weft_cleanup(AUTHORITY_KEYID_freep) AUTHORITY_KEYID *authority = NULL;
	struct domain *in;
	struct crl *grown;
	int r, found;

	if (!crl || at != (const unsigned char *)der + size)
		return weft_err_set(err, EINVAL, "a revocation list of trust domain %s is no CRL in DER", domain);
	r = check_crl(crl, err);
	if (r < 0)
		return weft_err_prefix(err, r, "a revocation list of trust domain %s", domain);
	authority = X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, &found, NULL);
	if (!authority && found != -1)
		return weft_err_set(err, EINVAL,
				    "a revocation list of trust domain %s: its authorityKeyIdentifier cannot be parsed",
				    domain);
	r = get_domain(trust, domain, &in, err);
	if (r < 0)
		return r;
	grown = reallocarray(in->crls, in->crl_count + 1, sizeof(*grown));
	if (!grown)
		return no_memory(err);
	in->crls = grown;
	memset(trust->memo, 0, sizeof(*trust->memo));
	in->crls[in->crl_count++] =
		(struct crl){ .crl = weft_take_ptr(crl), .key_id = authority ? weft_take_ptr(authority->keyid) : NULL };
	return 0;
}

/* Whether its key is a root of another trust domain: whatever vouches for it, it signs for that one. */
static bool foreign(const struct weft_trust *trust, const struct domain *own, const X509 *ca)
{
	const ASN1_BIT_STRING *key = X509_get0_pubkey_bitstr(ca);

	for (size_t i = 0; i < trust->domain_count; i++)
		for (int j = 0; &trust->domains[i] != own && j < sk_X509_num(trust->domains[i].roots); j++) {
			const ASN1_BIT_STRING *root =
				X509_get0_pubkey_bitstr(sk_X509_value(trust->domains[i].roots, j));

			if (root->length == key->length && memcmp(root->data, key->data, (size_t)key->length) == 0)
				return true;
		}
	return false;
}

/* Whether a path may go through it, by what is in itself; what may not is as if it had not been sent. */
static int check_intermediate(const struct weft_trust *trust, const struct domain *domain, X509 *ca,
			      enum weft_trust_side side, struct weft_err *err)
{
	int r = weft_cert_check(ca, WEFT_CERT_INTERMEDIATE, err);

	if (r == 0)
		r = weft_cert_check_domain(ca, domain->name, strlen(domain->name), err);
	if (r == 0)
		r = weft_cert_check_usage(ca, WEFT_CERT_INTERMEDIATE, side == WEFT_TRUST_SERVER, err);
	if (r == 0 && foreign(trust, domain, ca))
		r = weft_err_set(err, EACCES, "its key is a root of another trust domain, and none of %s",
				 domain->name);
	return r;
}

static int check_sizes(X509 *leaf, STACK_OF(X509) *others, struct weft_err *err)
{
	int count = 1;

	if (i2d_X509(leaf, NULL) > WEFT_TRUST_MAX_CERT)
		return weft_err_set(err, EACCES, "the peer's certificate has more than %d bytes", WEFT_TRUST_MAX_CERT);
	for (int i = 0; i < sk_X509_num(others); i++) {
		/* OpenSSL's own list of what the peer sent begins with the leaf. */
		if (sk_X509_value(others, i) == leaf)
			continue;
		if (++count > WEFT_TRUST_MAX_CHAIN)
			return weft_err_set(err, EACCES, "the peer sent more than %d certificates",
					    WEFT_TRUST_MAX_CHAIN);
		if (i2d_X509(sk_X509_value(others, i), NULL) > WEFT_TRUST_MAX_CERT)
			return weft_err_set(err, EACCES, "a certificate of the peer's chain has more than %d bytes",
					    WEFT_TRUST_MAX_CERT);
	}
	return 0;
}

/* RFC 5280 section 4.1.2.5: the second of notAfter belongs to the validity. OpenSSL ends it one earlier. */
static int until_the_last_second(int ok, X509_STORE_CTX *context)
{
	time_t now = X509_VERIFY_PARAM_get_time(X509_STORE_CTX_get0_param(context));

	if (!ok && X509_STORE_CTX_get_error(context) == X509_V_ERR_CERT_HAS_EXPIRED &&
	    ASN1_TIME_cmp_time_t(X509_get0_notAfter(X509_STORE_CTX_get_current_cert(context)), now) == 0) {
		X509_STORE_CTX_set_error(context, X509_V_OK);
		return 1;
	}
	return ok;
}

/* Whether it is of `issuer`, by name and by the key that it says. */
static bool crl_of(const struct crl *crl, X509 *issuer)
{
	const ASN1_OCTET_STRING *key_id = X509_get0_subject_key_id(issuer);

	return X509_NAME_cmp(X509_CRL_get_issuer(crl->crl), X509_get_subject_name(issuer)) == 0 &&
	       (!crl->key_id || !key_id || ASN1_OCTET_STRING_cmp(crl->key_id, key_id) == 0);
}

static bool crl_signed_by(struct crl *crl, X509 *issuer)
{
	unsigned char key[SHA256_DIGEST_LENGTH];

	/* A CA whose keyUsage does not say cRLSign signs none (RFC 5280 section 6.3.3 f). */
	if (X509_get_extension_flags(issuer) & EXFLAG_KUSAGE && !(X509_get_key_usage(issuer) & KU_CRL_SIGN))
		return false;
	if (!X509_pubkey_digest(issuer, EVP_sha256(), key, NULL))
		return false;
	if (crl->verified && memcmp(crl->key, key, sizeof(key)) == 0)
		return true;
	if (X509_CRL_verify(crl->crl, X509_get0_pubkey(issuer)) != 1)
		return false;
	memcpy(crl->key, key, sizeof(key));
	crl->verified = true;
	return true;
}

static void narrow(struct span *span, const ASN1_TIME *from, const ASN1_TIME *until)
{
	struct tm tm;
	time_t time;

	time = ASN1_TIME_to_tm(from, &tm) ? timegm(&tm) : INT64_MAX;
	if (time > span->from)
		span->from = time;
	time = ASN1_TIME_to_tm(until, &tm) ? timegm(&tm) : INT64_MIN;
	if (time < span->until)
		span->until = time;
}

/*
 * Closed as soon as anything is known to be said of an issuer's certificates: if there is a list by its name, one that
 * it signed and that still holds must be there. An issuer of whom there is none revokes nothing. What was ever on a
 * list stays revoked.
 */
static int check_revocation(const struct domain *domain, X509 *cert, X509 *issuer, time_t now, struct span *span,
			    struct weft_err *err)
{
	bool any = false, good = false, stale = false;
	char name[160];

	for (size_t i = 0; i < domain->crl_count; i++) {
		struct crl *crl = &domain->crls[i];
		X509_REVOKED *entry;

		if (!crl_of(crl, issuer))
			continue;
		any = true;
		if (!crl_signed_by(crl, issuer))
			continue;
		if (X509_CRL_get0_by_serial(crl->crl, &entry, X509_get_serialNumber(cert)) != 0)
			return weft_err_set(err, EACCES, "it is revoked");
		if (ASN1_TIME_cmp_time_t(X509_CRL_get0_lastUpdate(crl->crl), now) > 0 ||
		    ASN1_TIME_cmp_time_t(X509_CRL_get0_nextUpdate(crl->crl), now) < 0) {
			stale = true;
			continue;
		}
		good = true;
		narrow(span, X509_CRL_get0_lastUpdate(crl->crl), X509_CRL_get0_nextUpdate(crl->crl));
	}
	if (!any || good)
		return 0;
	return weft_err_set(
		err, EACCES, "whether it is revoked cannot be said: the revocation list of its issuer, %s, %s",
		weft_cert_name(issuer, name),
		stale ? "does not hold at this time; give a newer one" : "is not signed by that key; give its own");
}

static int path_failed(X509_STORE_CTX *context, const struct domain *domain, const struct weft_err *passed_over,
		       struct weft_err *err)
{
	int error = X509_STORE_CTX_get_error(context);
	X509 *cert = X509_STORE_CTX_get_current_cert(context);
	char name[160] = "the chain";

	if (error == X509_V_ERR_OUT_OF_MEM)
		return no_memory(err);
	if (cert)
		weft_cert_name(cert, name);
	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		return weft_err_set(err, EACCES, "%s: no path leads from it to a root of trust domain %s%s%s", name,
				    domain->name, *passed_over->text ? "; not through " : "", passed_over->text);
	default:
		return weft_err_set(err, EACCES, "%s: %s", name, X509_verify_cert_error_string(error));
	}
}

static bool contains(STACK_OF(X509) *stack, const X509 *cert)
{
	for (int i = 0; i < sk_X509_num(stack); i++)
		if (sk_X509_value(stack, i) == cert)
			return true;
	return false;
}

/* One path of OpenSSL's choice, to its end. On failure *ret_dead_end is the intermediate that it was at, or NULL. */
static int try_path(const struct domain *domain, X509 *leaf, STACK_OF(X509) *usable, time_t now,
		    const struct weft_err *passed_over, struct span *ret_span, X509 **ret_dead_end,
		    struct weft_err *err)
{
	weft_cleanup(X509_STORE_CTX_freep) X509_STORE_CTX *context = X509_STORE_CTX_new();
	struct span span = { INT64_MIN, INT64_MAX };
	X509_VERIFY_PARAM *parameters;
	STACK_OF(X509) *path;
	char name[160];
	int r;

	*ret_dead_end = NULL;
	if (!context || X509_STORE_CTX_init(context, domain->store, leaf, usable) != 1)
		return no_memory(err);
	parameters = X509_STORE_CTX_get0_param(context);
	X509_VERIFY_PARAM_set_time(parameters, now);
	X509_VERIFY_PARAM_set_depth(parameters, WEFT_TRUST_MAX_CHAIN);
	X509_STORE_CTX_set_verify_cb(context, until_the_last_second);
	r = X509_verify_cert(context);
	path = X509_STORE_CTX_get0_chain(context);
	r = r == 1 ? 0 : path_failed(context, domain, passed_over, err);
	for (int i = 0; r == 0 && i + 1 < sk_X509_num(path); i++) {
		r = check_revocation(domain, sk_X509_value(path, i), sk_X509_value(path, i + 1), now, &span, err);
		if (r < 0)
			weft_err_prefix(err, r, "%s", weft_cert_name(sk_X509_value(path, i), name));
	}
	/* Valid for as long as the peer's certificates are. */
	for (int i = sk_X509_num(path) - 1; r == -EACCES && i > 0 && !*ret_dead_end; i--)
		if (contains(usable, sk_X509_value(path, i)))
			*ret_dead_end = sk_X509_value(path, i);
	if (r < 0)
		return r;
	for (int i = 0; i < sk_X509_num(path); i++)
		narrow(&span, X509_get0_notBefore(sk_X509_value(path, i)), X509_get0_notAfter(sk_X509_value(path, i)));
	*ret_span = span;
	return 0;
}

/* What of `others` a path may go through. Borrows from it. */
static int get_usable(const struct weft_trust *trust, const struct domain *domain, X509 *leaf, STACK_OF(X509) *others,
		      enum weft_trust_side side, STACK_OF(X509) *usable, struct weft_err *passed_over)
{
	struct weft_err fault;
	char name[160];
	int r;

	for (int i = 0; i < sk_X509_num(others); i++) {
		X509 *ca = sk_X509_value(others, i);

		/* A root that the peer sends is either one of ours anyway, or nobody's. */
		if (ca == leaf || X509_get_extension_flags(ca) & EXFLAG_SS)
			continue;
		r = check_intermediate(trust, domain, ca, side, &fault);
		if (r == -ENOMEM || (r == 0 && sk_X509_push(usable, ca) <= 0))
			return -ENOMEM;
		if (r < 0) {
			weft_err_prefix(&fault, r, "%s", weft_cert_name(ca, name));
			*passed_over = fault;
		}
	}
	return 0;
}

/*
 * OpenSSL follows one path and does not turn back, and a CA that two others vouch for, as while a root is replaced, is
 * at the fork of two: each time the intermediate that led nowhere is taken out, so at most WEFT_TRUST_MAX_CHAIN are
 * tried. The first error is told.
 */
static int verify(const struct weft_trust *trust, const struct domain *domain, X509 *leaf, STACK_OF(X509) *others,
		  enum weft_trust_side side, time_t now, struct span *ret_span, struct weft_err *err)
{
	weft_cleanup(borrowed_freep) STACK_OF(X509) *usable = sk_X509_new_null();
	struct weft_err passed_over = { 0 }, later;
	X509 *dead_end;
	int r, again;

	if (!usable || get_usable(trust, domain, leaf, others, side, usable, &passed_over) < 0)
		return no_memory(err);
	again = r = try_path(domain, leaf, usable, now, &passed_over, ret_span, &dead_end, err);
	while (again == -EACCES && dead_end) {
		(void)sk_X509_delete_ptr(usable, dead_end);
		again = try_path(domain, leaf, usable, now, &passed_over, ret_span, &dead_end, &later);
	}
	return again == -EACCES ? r : again;
}

/* Before any signature is looked at; `workload`: it is to be one's, and not just a leaf. */
static int check_leaf(X509 *leaf, bool workload, enum weft_trust_side side, struct weft_err *err)
{
	char name[160];
	int r = weft_cert_check(leaf, WEFT_CERT_LEAF, err);

	if (r == 0 && workload)
		r = weft_cert_check_workload(leaf, err);
	if (r == 0)
		r = weft_cert_check_usage(leaf, WEFT_CERT_LEAF, side == WEFT_TRUST_SERVER, err);
	return r < 0 ? weft_err_prefix(err, r, "%s", weft_cert_name(leaf, name)) : 0;
}

static int unknown_domain(const char *domain, size_t size, struct weft_err *err)
{
	return weft_err_set(err, EACCES, "trust domain %.*s is not known here", (int)size, domain);
}

/* Of all that a verdict is about but the time. There are at most WEFT_TRUST_MAX_CHAIN certificates. */
static int digest_chain(X509 *leaf, STACK_OF(X509) *others, enum weft_trust_side side, unsigned char *ret_digest)
{
	unsigned char all[1 + WEFT_TRUST_MAX_CHAIN * SHA256_DIGEST_LENGTH] = { (unsigned char)side };
	size_t used = 1;

	if (!X509_digest(leaf, EVP_sha256(), all + used, NULL))
		return -ENOMEM;
	used += SHA256_DIGEST_LENGTH;
	for (int i = 0; i < sk_X509_num(others); i++) {
		if (sk_X509_value(others, i) == leaf)
			continue;
		if (!X509_digest(sk_X509_value(others, i), EVP_sha256(), all + used, NULL))
			return -ENOMEM;
		used += SHA256_DIGEST_LENGTH;
	}
	return EVP_Digest(all, used, ret_digest, NULL, EVP_sha256(), NULL) ? 0 : -ENOMEM;
}

static size_t place_of(const unsigned char *chain)
{
	return (chain[0] | (size_t)chain[1] << 8) % GOOD_CHAINS;
}

static bool known_good(const struct memo *memo, const unsigned char *chain, time_t now)
{
	size_t place = place_of(chain);

	return memcmp(memo->good[place].chain, chain, SHA256_DIGEST_LENGTH) == 0 &&
	       now >= memo->good[place].span.from && now <= memo->good[place].span.until;
}

static void remember(struct memo *memo, const unsigned char *chain, const struct span *span)
{
	size_t place = place_of(chain);

	memcpy(memo->good[place].chain, chain, SHA256_DIGEST_LENGTH);
	memo->good[place].span = *span;
}

unsigned long weft_trust_judged(const struct weft_trust *trust)
{
	return trust->memo->judged;
}

int weft_trust_verify_chain(const struct weft_trust *trust, const char *domain, X509 *leaf, STACK_OF(X509) *others,
			    enum weft_trust_side side, time_t now, struct weft_err *err)
{
	WEFT_TLS_QUIET;
	const struct domain *in = find_domain(trust, domain, strlen(domain));
	struct span span;
	int r;

	if (!in)
		return unknown_domain(domain, strlen(domain), err);
	r = check_sizes(leaf, others, err);
	if (r == 0)
		r = check_leaf(leaf, false, side, err);
	return r < 0 ? r : verify(trust, in, leaf, others, side, now, &span, err);
}

int weft_trust_verify(const struct weft_trust *trust, X509 *leaf, STACK_OF(X509) *others, enum weft_trust_side side,
		      time_t now, char **ret_id, struct weft_err *err)
{
	WEFT_TLS_QUIET;
	weft_free_on_exit char *id = NULL;
	unsigned char chain[SHA256_DIGEST_LENGTH];
	struct weft_spiffe spiffe;
	const struct domain *in;
	struct span span;
	char name[160];
	int r;

	r = check_sizes(leaf, others, err);
	if (r < 0)
		return r;
	r = weft_cert_spiffe(leaf, &id, &spiffe, err);
	if (r < 0)
		return weft_err_prefix(err, r, "%s", weft_cert_name(leaf, name));
	in = find_domain(trust, spiffe.trust_domain, spiffe.trust_domain_size);
	if (!in)
		return unknown_domain(spiffe.trust_domain, spiffe.trust_domain_size, err);
	r = digest_chain(leaf, others, side, chain);
	if (r < 0)
		return no_memory(err);
	if (!known_good(trust->memo, chain, now)) {
		trust->memo->judged++;
		r = check_leaf(leaf, true, side, err);
		if (r == 0)
			r = verify(trust, in, leaf, others, side, now, &span, err);
		if (r < 0)
			return r;
		remember(trust->memo, chain, &span);
	}
	*ret_id = weft_take_ptr(id);
	return 0;
}
