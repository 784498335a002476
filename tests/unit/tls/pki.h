/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and revocation lists by recipe: changes `WHO.WHAT=VALUE` to a good hierarchy, with | between. What
 * OpenSSL would not write is written by hand, so that nothing is wrong but what the recipe says.
 *
 *   root, ica (of root), leaf (of ica); nroot, nica: the next generation of the same trust domain; broot, bica: another
 *   trust domain; x, y, z: further CAs of root
 *     by=WHO        whose name is the issuer's and whose key signs      signkey=WHO   another one's key signs
 *     key=KIND      sign=DIGEST | pss        version=NUMBER             serial=HEX    octets as they are; -HEX: negative
 *     from=, to=    seconds from NOW         utc=, general=TEXT         notAfter, by letters
 *     subject=CN    or nothing               issuer=CN | nothing        outer=HEX     ends the outer algorithm's OID
 *     bc=, ku=, eku=, nc=                    as in openssl.cnf; nothing: without
 *     ski=, aki=    yes | no | other | critical | issuer (by name and number)
 *     san=          [critical,]NAME;NAME with URI: DNS: EMAIL: DIR:, or UTF8: BMP: UNI: (an otherName's
 *                   string); ^XX is a byte; nothing: without
 *     ext=, ext2=   OID:[critical]:HEX       twice=WHAT                 an extension once more
 *     fill=NUMBER   of extensions in all
 *   crl, crl2: by=, signkey=, from=, to=, version=, aki= as above; revoke=WHO,WHO; to= and number= may be nothing;
 *     aki=broken, number=critical, entry=critical, idp=yes, delta=yes, domain=NAME, sign=DIGEST
 *   And by themselves: send=WHO,WHO (default ica), roots=WHO,WHO (root), broots= (broot),
 *   crls=WHO,WHO (none).
 */
#ifndef WEFT_TESTS_UNIT_TLS_PKI_H
#define WEFT_TESTS_UNIT_TLS_PKI_H

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/check.h"

#define NOW 1800000000 /* 2027-01-15 */
#define DAY 86400
#define ID "spiffe://cluster.local/ns/shop/sa/web"
#define MAX_CHANGES 64

struct pki {
	char *text; /* of the recipe, cut into pieces */
	struct {
		const char *key, *value;
	} changes[MAX_CHANGES];
	size_t count;
};

static const char *const people[] = { "root", "ica", "leaf", "nroot", "nica", "broot", "bica", "x", "y", "z", "other" };
#define PEOPLE (sizeof(people) / sizeof(people[0]))

static void pki_read(struct pki *pki, const char *recipe)
{
	char *rest;

	memset(pki, 0, sizeof(*pki));
	pki->text = rest = strdup(recipe);
	while (rest && *rest) {
		char *change = strsep(&rest, "|"), *value = strchr(change, '=');

		if (!value || pki->count == MAX_CHANGES)
			fail_msg("not WHO.WHAT=VALUE: `%s` in `%s`", change, recipe);
		*value++ = '\0';
		pki->changes[pki->count].key = change;
		pki->changes[pki->count++].value = value;
	}
}

static void pki_done(struct pki *pki)
{
	free(pki->text);
}

static const char *pki_get(const struct pki *pki, const char *who, const char *what, const char *otherwise)
{
	char key[32];

	snprintf(key, sizeof(key), "%s%s%s", who, *who ? "." : "", what);
	for (size_t i = pki->count; i-- > 0;)
		if (strcmp(pki->changes[i].key, key) == 0)
			return pki->changes[i].value;
	return otherwise;
}

static bool is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static EVP_PKEY *make_key(const char *kind)
{
	EVP_PKEY *key = NULL;

	if (is(kind, "ed25519")) {
		key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	} else if (strncmp(kind, "rsapss", 6) == 0) {
		EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);

		EVP_PKEY_keygen_init(context);
		EVP_PKEY_keygen(context, &key);
		EVP_PKEY_CTX_free(context);
	} else if (strncmp(kind, "rsa", 3) == 0) {
		key = EVP_RSA_gen((unsigned int)atoi(kind + 3));
	} else if (is(kind, "explicit")) {
		EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
		OSSL_PARAM parameters[] = {
			OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)"P-256", 0),
			OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING,
							 (char *)OSSL_PKEY_EC_ENCODING_EXPLICIT, 0),
			OSSL_PARAM_construct_end(),
		};

		EVP_PKEY_keygen_init(context);
		EVP_PKEY_CTX_set_params(context, parameters);
		EVP_PKEY_keygen(context, &key);
		EVP_PKEY_CTX_free(context);
	} else {
		key = EVP_EC_gen(kind);
	}
	if (!key)
		fail_msg("no key of kind %s", kind);
	return key;
}

/* Each of `people` has one of each kind for the whole run: some are slow to make. */
static EVP_PKEY *key_of(const struct pki *pki, const char *who)
{
	static struct {
		const char *who, *kind;
		EVP_PKEY *key;
	} made[128];
	const char *kind = pki_get(pki, who, "key", "P-256");
	size_t i = 0;

	for (; i < 128 && made[i].key; i++)
		if (is(made[i].who, who) && is(made[i].kind, kind))
			return made[i].key;
	assert_true(i < 128);
	for (size_t j = 0; j < PEOPLE; j++)
		if (is(people[j], who))
			made[i].who = people[j];
	if (!made[i].who)
		fail_msg("nobody is called %s", who);
	made[i].kind = strdup(kind);
	return made[i].key = make_key(kind);
}

static size_t from_hex(const char *hex, unsigned char *data, size_t max)
{
	size_t size = 0;

	for (; hex[0] && hex[1] && size < max; hex += 2) {
		unsigned int octet = 0;

		assert_int_equal(sscanf(hex, "%2x", &octet), 1);
		data[size++] = (unsigned char)octet;
	}
	assert_true(!*hex);
	return size;
}

static void set_name(X509_NAME *name, const char *cn)
{
	if (*cn)
		X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
}

static ASN1_OCTET_STRING *key_id(EVP_PKEY *key)
{
	ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
	unsigned char digest[20], *der = NULL;
	int size = i2d_PUBKEY(key, &der);

	EVP_Digest(der, (size_t)size, digest, NULL, EVP_sha1(), NULL);
	OPENSSL_free(der);
	ASN1_OCTET_STRING_set(id, digest, sizeof(digest));
	return id;
}

static X509_EXTENSION *aki_of(const struct pki *pki, const char *issuer, const char *how)
{
	AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
	X509_EXTENSION *extension;

	if (is(how, "issuer")) {
		GENERAL_NAME *name = GENERAL_NAME_new();

		name->type = GEN_DIRNAME;
		name->d.directoryName = X509_NAME_new();
		set_name(name->d.directoryName, issuer);
		aki->issuer = GENERAL_NAMES_new();
		sk_GENERAL_NAME_push(aki->issuer, name);
		aki->serial = ASN1_INTEGER_new();
		ASN1_INTEGER_set(aki->serial, 5);
	} else {
		aki->keyid = key_id(key_of(pki, is(how, "other") ? "other" : issuer));
	}
	extension = X509V3_EXT_i2d(NID_authority_key_identifier, is(how, "critical"), aki);
	AUTHORITY_KEYID_free(aki);
	return extension;
}

/* The text of a name, with ^XX for a byte that a recipe cannot have. */
static size_t unescape(const char *text, size_t size, unsigned char *data)
{
	size_t used = 0;

	for (size_t i = 0; i < size; i++) {
		char hex[3] = { 0 };

		if (text[i] != '^') {
			data[used++] = (unsigned char)text[i];
			continue;
		}
		memcpy(hex, text + i + 1, 2);
		data[used++] = (unsigned char)strtoul(hex, NULL, 16);
		i += 2;
	}
	return used;
}

static GENERAL_NAME *make_name(const char *text, size_t size)
{
	static const struct {
		const char *prefix;
		int type, string;
	} kinds[] = {
		{ "URI:", GEN_URI, V_ASN1_IA5STRING },
		{ "DNS:", GEN_DNS, V_ASN1_IA5STRING },
		{ "EMAIL:", GEN_EMAIL, V_ASN1_IA5STRING },
		{ "UTF8:", GEN_OTHERNAME, V_ASN1_UTF8STRING },
		{ "BMP:", GEN_OTHERNAME, V_ASN1_BMPSTRING },
		{ "UNI:", GEN_OTHERNAME, V_ASN1_UNIVERSALSTRING },
		{ "DIR:", GEN_DIRNAME, 0 },
	};
	GENERAL_NAME *name = GENERAL_NAME_new();
	unsigned char *data = malloc(size + 1);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t prefix = strlen(kinds[i].prefix), used;
		ASN1_STRING *string;

		if (strncmp(text, kinds[i].prefix, prefix) != 0)
			continue;
		used = unescape(text + prefix, size - prefix, data);
		if (kinds[i].type == GEN_DIRNAME) {
			X509_NAME *directory = X509_NAME_new();

			data[used] = '\0';
			set_name(directory, (char *)data);
			GENERAL_NAME_set0_value(name, GEN_DIRNAME, directory);
			free(data);
			return name;
		}
		string = ASN1_STRING_type_new(kinds[i].string);
		ASN1_STRING_set(string, data, (int)used);
		if (kinds[i].type == GEN_OTHERNAME) {
			ASN1_TYPE *value = ASN1_TYPE_new();

			ASN1_TYPE_set(value, kinds[i].string, string);
			/* Microsoft's UPN, the one that names are most often taken from. */
			GENERAL_NAME_set0_othername(name, OBJ_txt2obj("1.3.6.1.4.1.311.20.2.3", 1), value);
		} else {
			GENERAL_NAME_set0_value(name, kinds[i].type, string);
		}
		free(data);
		return name;
	}
	fail_msg("what kind of name is `%s`?", text);
	return NULL;
}

static X509_EXTENSION *make_san(const char *text)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	bool critical = strncmp(text, "critical,", 9) == 0;
	X509_EXTENSION *extension;

	text += critical ? 9 : 0;
	while (*text) {
		size_t size = strcspn(text, ";");

		sk_GENERAL_NAME_push(names, make_name(text, size));
		text += size + (text[size] == ';');
	}
	extension = X509V3_EXT_i2d(NID_subject_alt_name, critical, names);
	GENERAL_NAMES_free(names);
	return extension;
}

static X509_EXTENSION *make_raw(const char *text)
{
	char oid[64] = "", critical[16] = "", *hex;
	unsigned char data[512];
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension;
	ASN1_OBJECT *object;
	size_t size;

	sscanf(text, "%63[^:]:%15[^:]", oid, critical);
	hex = strrchr(text, ':') + 1;
	size = from_hex(hex, data, sizeof(data));
	ASN1_OCTET_STRING_set(value, data, (int)size);
	object = OBJ_txt2obj(oid, 1);
	extension = X509_EXTENSION_create_by_OBJ(NULL, object, is(critical, "critical"), value);
	ASN1_OBJECT_free(object);
	ASN1_OCTET_STRING_free(value);
	return extension;
}

static const char *signer_of(const struct pki *pki, const char *who)
{
	const char *otherwise = strstr(who, "root")	      ? who
				: is(who, "leaf")	      ? "ica"
				: is(who, "nica")	      ? "nroot"
				: is(who, "bica")	      ? "broot"
				: strncmp(who, "crl", 3) == 0 ? "ica"
							      : "root";

	return pki_get(pki, who, "by", otherwise);
}

static X509_EXTENSION *make_extension(const struct pki *pki, const char *who, const char *what, bool ca)
{
	static const struct {
		const char *what;
		int nid;
		const char *ca, *leaf;
	} by_text[] = {
		{ "bc", NID_basic_constraints, "critical,CA:TRUE", "critical,CA:FALSE" },
		{ "ku", NID_key_usage, "critical,keyCertSign,cRLSign", "critical,digitalSignature" },
		{ "eku", NID_ext_key_usage, "", "serverAuth,clientAuth" },
		{ "nc", NID_name_constraints, "", "" },
	};
	bool root = strstr(who, "root");
	const char *value;

	for (size_t i = 0; i < sizeof(by_text) / sizeof(by_text[0]); i++) {
		X509_EXTENSION *extension;

		if (!is(by_text[i].what, what))
			continue;
		value = pki_get(pki, who, what, ca ? by_text[i].ca : by_text[i].leaf);
		if (!*value)
			return NULL;
		extension = X509V3_EXT_conf_nid(NULL, NULL, by_text[i].nid, value);
		if (!extension)
			fail_msg("OpenSSL does not understand %s=%s", what, value);
		return extension;
	}
	if (is(what, "san")) {
		value = pki_get(pki, who, "san", ca ? NULL : "critical,URI:" ID);
		return value && *value ? make_san(value) : NULL;
	}
	if (is(what, "ext") || is(what, "ext2")) {
		value = pki_get(pki, who, what, NULL);
		return value ? make_raw(value) : NULL;
	}
	if (is(what, "ski")) {
		ASN1_OCTET_STRING *id;
		X509_EXTENSION *extension;

		value = pki_get(pki, who, "ski", "yes");
		if (is(value, "no"))
			return NULL;
		id = key_id(key_of(pki, is(value, "other") ? "other" : who));
		extension = X509V3_EXT_i2d(NID_subject_key_identifier, is(value, "critical"), id);
		ASN1_OCTET_STRING_free(id);
		return extension;
	}
	value = pki_get(pki, who, "aki", root ? "no" : "yes");
	if (is(value, "no"))
		return NULL;
	return aki_of(pki, signer_of(pki, who), value);
}

static ASN1_TIME *get_time(const struct pki *pki, const char *who, const char *what, long otherwise)
{
	const char *value = pki_get(pki, who, what, NULL), *text;
	ASN1_TIME *time;

	if (is(what, "to") &&
	    ((text = pki_get(pki, who, "utc", NULL)) || (text = pki_get(pki, who, "general", NULL)))) {
		time = ASN1_STRING_type_new(pki_get(pki, who, "utc", NULL) ? V_ASN1_UTCTIME : V_ASN1_GENERALIZEDTIME);
		ASN1_STRING_set(time, text, -1);
		return time;
	}
	return ASN1_TIME_set(NULL, (time_t)NOW + (value ? atol(value) : otherwise));
}

static const EVP_MD *digest_of(const struct pki *pki, const char *who, EVP_PKEY *key)
{
	const char *name = pki_get(pki, who, "sign", "sha256");

	if (EVP_PKEY_is_a(key, "ED25519"))
		return NULL;
	return is(name, "pss") ? EVP_sha256() : EVP_get_digestbyname(name);
}

static void sign(const struct pki *pki, const char *who, X509 *cert, EVP_PKEY *key)
{
	const char *how = pki_get(pki, who, "sign", "sha256");
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	EVP_PKEY_CTX *with;

	assert_int_equal(EVP_DigestSignInit(context, &with, digest_of(pki, who, key), NULL, key), 1);
	if (is(how, "pss")) {
		EVP_PKEY_CTX_set_rsa_padding(with, RSA_PKCS1_PSS_PADDING);
		EVP_PKEY_CTX_set_rsa_pss_saltlen(with, 32);
	}
	if (!X509_sign_ctx(cert, context))
		fail_msg("%s cannot be signed with %s", who, how);
	EVP_MD_CTX_free(context);
}

/*
 * The last octet of the DER's first or last `bytes` becomes another. The signature does not hold then; that is looked
 * at last.
 */
static void patch(unsigned char *der, int size, const void *bytes, int length, bool last, unsigned char octet)
{
	for (int i = 0; i + length <= size; i++) {
		unsigned char *at = der + (last ? size - length - i : i);

		if (memcmp(at, bytes, (size_t)length) == 0) {
			at[length - 1] = octet;
			return;
		}
	}
	fail_msg("there is nothing to change");
}

/* What a peer or an administrator would send: `*ret_der` is OpenSSL's to free. */
static int pki_der(const struct pki *pki, const char *who, unsigned char **ret_der)
{
	static const char *const extensions[] = { "bc", "ku", "eku", "san", "ski", "aki", "nc", "ext", "ext2" };
	const char *signer = signer_of(pki, who), *value;
	bool ca = !is(who, "leaf");
	X509 *cert = X509_new();
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	ASN1_TIME *from = get_time(pki, who, "from", -DAY), *to = get_time(pki, who, "to", ca ? 365 * DAY : DAY);
	unsigned char octets[64];
	size_t size;
	int length;

	X509_set_version(cert, X509_VERSION_3);
	value = pki_get(pki, who, "serial", NULL);
	if (value) {
		size = from_hex(value + (*value == '-'), octets, sizeof(octets));
		ASN1_STRING_set(serial, octets, (int)size);
		serial->type = *value == '-' ? V_ASN1_NEG_INTEGER : V_ASN1_INTEGER;
	} else {
		for (size_t i = 0; i < PEOPLE; i++)
			if (is(people[i], who))
				ASN1_INTEGER_set(serial, 0x1000 + (long)i);
	}
	X509_set_serialNumber(cert, serial);
	X509_set1_notBefore(cert, from);
	X509_set1_notAfter(cert, to);
	set_name(X509_get_subject_name(cert), pki_get(pki, who, "subject", ca ? who : ""));
	set_name(X509_get_issuer_name(cert),
		 pki_get(pki, who, "issuer", pki_get(pki, signer, "subject", is(signer, "leaf") ? "" : signer)));
	X509_set_pubkey(cert, key_of(pki, who));
	for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++) {
		X509_EXTENSION *extension = make_extension(pki, who, extensions[i], ca);

		if (!extension)
			continue;
		X509_add_ext(cert, extension, -1);
		if (is(pki_get(pki, who, "twice", ""), extensions[i]))
			X509_add_ext(cert, extension, -1);
		X509_EXTENSION_free(extension);
	}
	for (int i = atoi(pki_get(pki, who, "fill", "0")); X509_get_ext_count(cert) < i;) {
		char text[32];
		X509_EXTENSION *extension;

		snprintf(text, sizeof(text), "1.2.3.5.%d::0500", X509_get_ext_count(cert));
		extension = make_raw(text);
		X509_add_ext(cert, extension, -1);
		X509_EXTENSION_free(extension);
	}
	sign(pki, who, cert, key_of(pki, pki_get(pki, who, "signkey", signer)));
	*ret_der = NULL;
	length = i2d_X509(cert, ret_der);
	assert_true(length > 0);
	if (pki_get(pki, who, "outer", NULL))
		patch(*ret_der, length, "\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02", 10, true,
		      (unsigned char)strtoul(pki_get(pki, who, "outer", NULL), NULL, 16));
	/* OpenSSL from 3.4 on writes 3 whatever was set, where there are extensions. */
	if (pki_get(pki, who, "version", NULL))
		patch(*ret_der, length, "\xa0\x03\x02\x01\x02", 5, false,
		      (unsigned char)(atoi(pki_get(pki, who, "version", NULL)) - 1));
	ASN1_TIME_free(from);
	ASN1_TIME_free(to);
	ASN1_INTEGER_free(serial);
	X509_free(cert);
	return length;
}

/*
 * As it comes out of a handshake. NULL: OpenSSL does not even read it, as later versions do not what 3.0 leaves to us.
 */
static X509 *pki_cert(const struct pki *pki, const char *who)
{
	unsigned char *der;
	int size = pki_der(pki, who, &der);
	const unsigned char *at = der;
	X509 *cert = d2i_X509(NULL, &at, size);

	OPENSSL_free(der);
	if (!cert && OpenSSL_version_num() < 0x30100000)
		fail_msg("OpenSSL does not read what was made of %s", who);
	return cert;
}

static void add_revoked(const struct pki *pki, const char *who, const char *whom, X509_CRL *crl)
{
	X509 *cert = pki_cert(pki, whom);
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_TIME *when = ASN1_TIME_set(NULL, NOW - 2 * DAY);

	X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(cert));
	X509_REVOKED_set_revocationDate(entry, when);
	if (pki_get(pki, who, "entry", NULL)) {
		X509_EXTENSION *extension = make_raw("1.2.3.4:critical:0500");

		X509_REVOKED_add_ext(entry, extension, -1);
		X509_EXTENSION_free(extension);
	}
	X509_CRL_add0_revoked(crl, entry);
	ASN1_TIME_free(when);
	X509_free(cert);
}

static int pki_crl(const struct pki *pki, const char *who, unsigned char **ret_der)
{
	const char *signer = signer_of(pki, who), *number = pki_get(pki, who, "number", "yes");
	EVP_PKEY *key = key_of(pki, pki_get(pki, who, "signkey", signer));
	ASN1_TIME *from = get_time(pki, who, "from", -DAY), *to = get_time(pki, who, "to", DAY);
	X509_NAME *issuer = X509_NAME_new();
	char *revoked = strdup(pki_get(pki, who, "revoke", "")), *rest = revoked;
	X509_CRL *crl = X509_CRL_new();
	X509_EXTENSION *extension;
	int length;

	X509_CRL_set_version(crl, atoi(pki_get(pki, who, "version", "2")) - 1);
	set_name(issuer, pki_get(pki, who, "issuer", pki_get(pki, signer, "subject", signer)));
	X509_CRL_set_issuer_name(crl, issuer);
	X509_CRL_set1_lastUpdate(crl, from);
	if (!is(pki_get(pki, who, "to", "x"), ""))
		X509_CRL_set1_nextUpdate(crl, to);
	while (rest && *rest)
		add_revoked(pki, who, strsep(&rest, ","), crl);
	if (!is(pki_get(pki, who, "aki", "yes"), "no")) {
		extension = is(pki_get(pki, who, "aki", "yes"), "broken")
				    ? make_raw("2.5.29.35::ffff")
				    : aki_of(pki, signer, pki_get(pki, who, "aki", "yes"));
		X509_CRL_add_ext(crl, extension, -1);
		X509_EXTENSION_free(extension);
	}
	if (*number) {
		extension = make_raw(is(number, "critical") ? "2.5.29.20:critical:020101" : "2.5.29.20::020101");
		X509_CRL_add_ext(crl, extension, -1);
		X509_EXTENSION_free(extension);
	}
	if (pki_get(pki, who, "idp", NULL) || pki_get(pki, who, "delta", NULL)) {
		extension = make_raw(pki_get(pki, who, "idp", NULL) ? "2.5.29.28::30038101ff" : "2.5.29.27::020101");
		X509_CRL_add_ext(crl, extension, -1);
		X509_EXTENSION_free(extension);
	}
	X509_CRL_sort(crl);
	assert_true(X509_CRL_sign(crl, key, digest_of(pki, who, key)) > 0);
	*ret_der = NULL;
	length = i2d_X509_CRL(crl, ret_der);
	assert_true(length > 0);
	free(revoked);
	ASN1_TIME_free(from);
	ASN1_TIME_free(to);
	X509_NAME_free(issuer);
	X509_CRL_free(crl);
	return length;
}

#endif
