/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/cert.h"

#include <openssl/x509v3.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tls/quiet.h"

/* Nobody's certificate has as many; comparing each with each stays cheap. */
#define MAX_EXTENSIONS 64
#define RSA_MIN_BITS 2048
#define RSA_MAX_BITS 8192 /* what a peer can make us compute */
#define MAX_SERIAL 20 /* octets, RFC 5280 section 4.1.2.2 */

WEFT_CLEANUP_DEFINE(GENERAL_NAMES, GENERAL_NAMES_free);
WEFT_CLEANUP_DEFINE(NAME_CONSTRAINTS, NAME_CONSTRAINTS_free);
WEFT_CLEANUP_DEFINE(AUTHORITY_KEYID, AUTHORITY_KEYID_free);
WEFT_CLEANUP_DEFINE(EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free);
WEFT_CLEANUP_DEFINE(AUTHORITY_INFO_ACCESS, AUTHORITY_INFO_ACCESS_free);

static int refuse(struct weft_err *err, const char *why)
{
	return weft_err_set(err, EACCES, "%s", why);
}

const char *weft_cert_name(const X509 *cert, char text[static 160])
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	char subject[96], digits[2 * MAX_SERIAL + 1] = "";
	int used = 0;

	for (int i = 0; i < serial->length && i < MAX_SERIAL; i++)
		used += snprintf(digits + used, sizeof(digits) - (size_t)used, "%02x", serial->data[i]);
	/* Escapes what does not print. */
	if (!X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof(subject)))
		subject[0] = '\0';
	snprintf(text, 160, "certificate %s%s%s%s", digits, *subject ? " (" : "", subject, *subject ? ")" : "");
	return text;
}

static int check_serial(const X509 *cert, struct weft_err *err)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	int octets = serial->length;
	bool zero = true;

	for (int i = 0; i < serial->length; i++)
		zero = zero && serial->data[i] == 0;
	if (zero)
		return refuse(err, "its serial number is zero");
	if (serial->type == V_ASN1_NEG_INTEGER)
		return refuse(err, "its serial number is negative");
	/* DER puts an octet of zeros before a first bit that is set. */
	if (serial->data[0] & 0x80)
		octets++;
	if (octets > MAX_SERIAL)
		return refuse(err, "its serial number is longer than 20 octets");
	return 0;
}

/* RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on, both to the second and in Z. */
static int check_time(const ASN1_TIME *time, struct weft_err *err)
{
	size_t size = (size_t)time->length;
	const char *text = (const char *)time->data;

	if ((time->type == V_ASN1_UTCTIME && size == 13 && text[12] == 'Z') ||
	    (time->type == V_ASN1_GENERALIZEDTIME && size == 15 && text[14] == 'Z' && memcmp(text, "2050", 4) >= 0))
		if (ASN1_TIME_check(time))
			return 0;
	return refuse(err, "its validity is not written as RFC 5280 section 4.1.2.5 says");
}

bool weft_cert_signature_good(int nid)
{
	switch (nid) {
	case NID_ecdsa_with_SHA256:
	case NID_ecdsa_with_SHA384:
	case NID_ecdsa_with_SHA512:
	case NID_sha256WithRSAEncryption:
	case NID_sha384WithRSAEncryption:
	case NID_sha512WithRSAEncryption:
	case NID_ED25519:
		return true;
	default:
		return false;
	}
}

static int check_signature(X509 *cert, struct weft_err *err)
{
	int nid = X509_get_signature_nid(cert);
	uint32_t flags;

	if (weft_cert_signature_good(nid))
		return 0;
	/* The flag is there only if the digest, that of the mask and the salt are those of TLS 1.3. */
	if (nid == NID_rsassaPss && X509_get_signature_info(cert, NULL, NULL, NULL, &flags) &&
	    flags & X509_SIG_INFO_TLS)
		return 0;
	return refuse(err, "its signature is none of ECDSA, RSA or RSA-PSS with SHA-2, or Ed25519");
}

static int check_key(X509 *cert, struct weft_err *err)
{
	X509_ALGOR *algorithm;
	const ASN1_OBJECT *object;
	const void *parameter;
	EVP_PKEY *key;
	int type;

	if (!X509_PUBKEY_get0_param(NULL, NULL, NULL, &algorithm, X509_get_X509_PUBKEY(cert)))
		return refuse(err, "its key cannot be read");
	X509_ALGOR_get0(&object, &type, &parameter, algorithm);
	switch (OBJ_obj2nid(object)) {
	case NID_X9_62_id_ecPublicKey:
		/* Anything but a name would be a curve that the peer chose (CVE-2020-0601). */
		if (type != V_ASN1_OBJECT)
			return refuse(err, "its curve is given by parameters instead of by name");
		type = OBJ_obj2nid(parameter);
		if (type != NID_X9_62_prime256v1 && type != NID_secp384r1)
			return refuse(err, "its curve is neither P-256 nor P-384");
		break;
	case NID_rsaEncryption:
	case NID_ED25519:
		break;
	default:
		return refuse(err, "its key is none of ECDSA, RSA and Ed25519");
	}
	key = X509_get0_pubkey(cert);
	if (!key)
		return refuse(err, "its key cannot be read");
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
		int bits = EVP_PKEY_get_bits(key);

		if (bits < RSA_MIN_BITS || bits > RSA_MAX_BITS || bits % 8)
			return refuse(err, "its RSA key is not of 2048 to 8192 bits in whole octets");
	}
	return 0;
}

/* What may be critical is what is judged here or by OpenSSL's path validation. */
static bool understood(int nid)
{
	switch (nid) {
	case NID_basic_constraints:
	case NID_key_usage:
	case NID_ext_key_usage:
	case NID_subject_alt_name:
	case NID_name_constraints:
	/* Any policy will do for us, so a policy that is named asks for nothing. */
	case NID_certificate_policies:
		return true;
	default:
		return false;
	}
}

/* Whether the octets are one value and nothing behind it, which OpenSSL would not look at and another verifier might. */
static bool one_value(const ASN1_OCTET_STRING *octets)
{
	const unsigned char *at = octets->data;
	long size;
	int tag, class;

	return !(ASN1_get_object(&at, &size, &tag, &class, octets->length) & 0x81) &&
	       at + size == octets->data + octets->length;
}

/* What OpenSSL has no opinion on, though RFC 5280 says it of both CAs and leaves. */
static int check_extensions(const X509 *cert, struct weft_err *err)
{
	int count = X509_get_ext_count(cert);

	if (count > MAX_EXTENSIONS)
		return refuse(err, "it has more than 64 extensions");
	for (int i = 0; i < count; i++) {
		X509_EXTENSION *extension = X509_get_ext(cert, i);
		const ASN1_OBJECT *object = X509_EXTENSION_get_object(extension);
		int nid = OBJ_obj2nid(object);
		bool critical = X509_EXTENSION_get_critical(extension);

		for (int j = 0; j < i; j++)
			if (OBJ_cmp(object, X509_EXTENSION_get_object(X509_get_ext(cert, j))) == 0)
				return refuse(err, "it has an extension twice");
		if (!one_value(X509_EXTENSION_get_data(extension)))
			return refuse(err, "an extension of it is not one value in DER");
		if (critical && !understood(nid))
			return refuse(err, "it has a critical extension that is not known");
		/* Section 4.2.1.11; whoever wants them heeded must say so, and then they are refused above. */
		if (nid == NID_policy_constraints || nid == NID_inhibit_any_policy)
			return refuse(err,
				      "it has policy constraints, which are to be critical and are not heeded here");
		if (!critical && nid == NID_name_constraints)
			return refuse(err, "its name constraints are not critical");
	}
	return 0;
}

/* The extension, parsed; NULL with *ret = 0 if there is none, with *ret = -EACCES if it cannot be parsed. */
static void *extension(const X509 *cert, int nid, int *ret, struct weft_err *err)
{
	WEFT_TLS_QUIET;
	int critical;
	void *value = X509_get_ext_d2i(cert, nid, &critical, NULL);

	if (value || critical == -1)
		*ret = 0;
	else if (critical == -2)
		*ret = weft_err_set(err, EACCES, "it has the extension %s twice", OBJ_nid2ln(nid));
	else
		*ret = weft_err_set(err, EACCES, "its extension %s cannot be parsed", OBJ_nid2ln(nid));
	return value;
}

static bool critical(const X509 *cert, int nid)
{
	int at = X509_get_ext_by_NID(cert, nid, -1);

	return at >= 0 && X509_EXTENSION_get_critical(X509_get_ext(cert, at));
}

/*
 * Section 4.2.1.1 and 4.2.1.2: which key is meant, so that no path is found by trying. It may be left out, against the letter: the authority
 * that is compiled into ztunnel does in leaves (src/tls/mock.rs), Istio's tools/certs with OpenSSL before 3.2 in intermediates, and a path
 * that is found by trying is judged as any other.
 */
static int check_key_ids(X509 *cert, enum weft_cert_role role, struct weft_err *err)
{
	weft_cleanup(AUTHORITY_KEYID_freep) AUTHORITY_KEYID *authority = NULL;
	int r;

	if (role != WEFT_CERT_LEAF && !X509_get0_subject_key_id(cert))
		return refuse(err, "it is a CA's and has no subjectKeyIdentifier");
	authority = extension(cert, NID_authority_key_identifier, &r, err);
	if (r < 0)
		return r;
	if (!authority)
		return 0;
	if (!authority->keyid)
		return refuse(err, "its authorityKeyIdentifier has no key identifier");
	if (role == WEFT_CERT_ROOT && ASN1_OCTET_STRING_cmp(authority->keyid, X509_get0_subject_key_id(cert)) != 0)
		return refuse(err, "it is a root and its authorityKeyIdentifier is not its own key's");
	return 0;
}

static int check_ca(X509 *cert, enum weft_cert_role role, struct weft_err *err)
{
	uint32_t flags = X509_get_extension_flags(cert), usage = X509_get_key_usage(cert);

	if (!(flags & EXFLAG_CA))
		return refuse(err, "it is no CA's, by its basicConstraints");
	if (!critical(cert, NID_basic_constraints))
		return refuse(err, "its basicConstraints are not critical");
	/* A root that says nothing may do anything: it was configured. */
	if (!(flags & EXFLAG_KUSAGE))
		return role == WEFT_CERT_ROOT ? 0 : refuse(err, "it is a CA's and has no keyUsage");
	if (!(usage & KU_KEY_CERT_SIGN))
		return refuse(err, "it is a CA's and its keyUsage has no keyCertSign");
	return 0;
}

static int check_leaf(X509 *cert, struct weft_err *err)
{
	uint32_t flags = X509_get_extension_flags(cert);

	if (flags & EXFLAG_CA)
		return refuse(err, "it is a CA's, and those authenticate nobody");
	if (X509_get_pathlen(cert) != -1)
		return refuse(err, "it has a path length and is no CA's");
	if (flags & EXFLAG_KUSAGE && X509_get_key_usage(cert) & (KU_KEY_CERT_SIGN | KU_CRL_SIGN))
		return refuse(err, "its keyUsage has keyCertSign or cRLSign, and it is no CA's");
	if (X509_get_ext_by_NID(cert, NID_name_constraints, -1) >= 0)
		return refuse(err, "it has name constraints and is no CA's");
	if (X509_NAME_entry_count(X509_get_subject_name(cert)) == 0 && !critical(cert, NID_subject_alt_name))
		return refuse(err, "its subject is empty and its subjectAltName not critical");
	return 0;
}

/* Section 4.2.1.10: constraints that constrain nothing are a mistake of whoever meant to. */
static int check_constraints(const X509 *cert, struct weft_err *err)
{
	weft_cleanup(NAME_CONSTRAINTS_freep) NAME_CONSTRAINTS *constraints = NULL;
	int r;

	constraints = extension(cert, NID_name_constraints, &r, err);
	if (!constraints)
		return r;
	if ((!constraints->permittedSubtrees && !constraints->excludedSubtrees) ||
	    (constraints->permittedSubtrees && sk_GENERAL_SUBTREE_num(constraints->permittedSubtrees) == 0) ||
	    (constraints->excludedSubtrees && sk_GENERAL_SUBTREE_num(constraints->excludedSubtrees) == 0))
		return refuse(err, "its name constraints are empty");
	return 0;
}

/* Well-formed too where nothing is taken from it: what cannot be read cannot be said to hold. */
static int check_names(const X509 *cert, struct weft_err *err)
{
	weft_cleanup(GENERAL_NAMES_freep) GENERAL_NAMES *names = NULL;
	weft_cleanup(AUTHORITY_INFO_ACCESS_freep) AUTHORITY_INFO_ACCESS *access = NULL;
	int r;

	names = extension(cert, NID_subject_alt_name, &r, err);
	if (r < 0)
		return r;
	access = extension(cert, NID_info_access, &r, err);
	return r;
}

int weft_cert_check(X509 *cert, enum weft_cert_role role, struct weft_err *err)
{
	WEFT_TLS_QUIET;
	int r;

	if (X509_get_version(cert) != X509_VERSION_3)
		return refuse(err, "it is not of version 3");
	/* This also makes OpenSSL parse and keep the extensions that it knows. */
	if (X509_check_purpose(cert, -1, 0) != 1 || X509_get_extension_flags(cert) & EXFLAG_INVALID) {
		r = check_extensions(cert, err);
		return r < 0 ? r : refuse(err, "its extensions contradict each other or cannot be parsed");
	}
	r = check_serial(cert, err);
	if (r == 0)
		r = check_time(X509_get0_notBefore(cert), err);
	if (r == 0)
		r = check_time(X509_get0_notAfter(cert), err);
	if (r == 0)
		r = check_signature(cert, err);
	if (r == 0)
		r = check_key(cert, err);
	if (r == 0)
		r = check_extensions(cert, err);
	if (r == 0 && X509_NAME_entry_count(X509_get_issuer_name(cert)) == 0)
		r = refuse(err, "its issuer is empty");
	if (r == 0)
		r = role == WEFT_CERT_LEAF ? check_leaf(cert, err) : check_ca(cert, role, err);
	if (r == 0)
		r = check_key_ids(cert, role, err);
	if (r == 0)
		r = check_constraints(cert, err);
	if (r == 0)
		r = check_names(cert, err);
	return r;
}

int weft_cert_check_workload(X509 *leaf, struct weft_err *err)
{
	if (!(X509_get_extension_flags(leaf) & EXFLAG_KUSAGE))
		return refuse(err, "it has no keyUsage");
	if (!critical(leaf, NID_key_usage))
		return refuse(err, "its keyUsage is not critical");
	if (!(X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE))
		return refuse(err, "its keyUsage has no digitalSignature");
	return 0;
}

int weft_cert_check_usage(X509 *cert, enum weft_cert_role role, bool server, struct weft_err *err)
{
	int wanted = server ? NID_server_auth : NID_client_auth, r;
	weft_cleanup(EXTENDED_KEY_USAGE_freep) EXTENDED_KEY_USAGE *usages = extension(cert, NID_ext_key_usage, &r, err);
	bool found = false;

	/* X509-SVID section 4.4: it may be left out. */
	if (!usages)
		return r;
	for (int i = 0; i < sk_ASN1_OBJECT_num(usages); i++) {
		int usage = OBJ_obj2nid(sk_ASN1_OBJECT_value(usages, i));

		/* Of a CA it says that nothing is ruled out; of a workload it would say nothing at all. */
		if (usage == NID_anyExtendedKeyUsage && role == WEFT_CERT_LEAF)
			return refuse(err, "its extendedKeyUsage has anyExtendedKeyUsage");
		found = found || usage == wanted || usage == NID_anyExtendedKeyUsage;
	}
	if (found)
		return 0;
	return weft_err_set(err, EACCES, "its extendedKeyUsage has no %s", server ? "serverAuth" : "clientAuth");
}

/* The one URI of `names`: 1, 0 if there is none, -EACCES if there are more. */
static int one_uri(const GENERAL_NAMES *names, const ASN1_IA5STRING **ret_uri, struct weft_err *err)
{
	const ASN1_IA5STRING *uri = NULL;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_URI)
			continue;
		if (uri)
			return refuse(err, "it has more than one URI in its subjectAltName");
		uri = name->d.uniformResourceIdentifier;
	}
	if (!uri)
		return 0;
	*ret_uri = uri;
	return 1;
}

int weft_cert_spiffe(X509 *leaf, char **ret_id, struct weft_spiffe *ret_spiffe, struct weft_err *err)
{
	weft_cleanup(GENERAL_NAMES_freep) GENERAL_NAMES *names = NULL;
	weft_free_on_exit char *id = NULL;
	const ASN1_IA5STRING *uri = NULL;
	size_t size;
	int r;

	names = extension(leaf, NID_subject_alt_name, &r, err);
	if (r < 0)
		return r;
	r = names ? one_uri(names, &uri, err) : 0;
	if (r < 0)
		return r;
	if (r == 0)
		return refuse(err, "it has no URI in its subjectAltName, so no SPIFFE id");
	size = (size_t)ASN1_STRING_length(uri);
	id = malloc(size + 1);
	if (!id)
		return weft_err_set(err, ENOMEM, "%m");
	memcpy(id, ASN1_STRING_get0_data(uri), size);
	id[size] = '\0';
	if (weft_spiffe_parse(id, size, ret_spiffe, err) < 0)
		return -EACCES;
	*ret_id = weft_take_ptr(id);
	return 0;
}

int weft_cert_check_domain(X509 *ca, const char *domain, size_t size, struct weft_err *err)
{
	static const char scheme[] = "spiffe://";
	const size_t prefix = sizeof(scheme) - 1;
	weft_cleanup(GENERAL_NAMES_freep) GENERAL_NAMES *names = NULL;
	int r;

	names = extension(ca, NID_subject_alt_name, &r, err);
	if (!names)
		return r;
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		const char *uri;
		size_t length;

		if (name->type != GEN_URI)
			continue;
		uri = (const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
		length = (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier);
		/* However it is spelled, so that no other spelling is overlooked. */
		if (length < prefix || strncasecmp(uri, scheme, prefix) != 0)
			continue;
		if (length != prefix + size || memcmp(uri, scheme, prefix) != 0 ||
		    memcmp(uri + prefix, domain, size) != 0)
			return weft_err_set(err, EACCES,
					    "it is a CA's, and not that of trust domain %.*s by its own id", (int)size,
					    domain);
	}
	return 0;
}
