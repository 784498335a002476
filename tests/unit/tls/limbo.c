/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limbo CASES EXCEPTIONS: holds our judgement of chains against C2SP/x509-limbo's vectors. The names that their leaves
 * are asked for, DNS ones mostly, are looked up by OpenSSL here: weft asks for SPIFFE ids only, and
 * tests/unit/tls/trust.c is about those.
 */
#include "lib/check.h"

#include <json-c/json.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "base/cleanup.h"
#include "tls/trust_chain.h"

#define DOMAIN "limbo"
/* For cases that do not say a time: any in their certificates' validity. */
#define SOME_TIME 1735689600 /* 2025-01-01 */
#define MAX_EXCEPTIONS 256

/* A line of the exceptions: what we say of a case, though limbo says the opposite, and why. */
struct exception {
	bool accept;
	bool met;
	char id[160];
};

static struct exception exceptions[MAX_EXCEPTIONS];
static size_t exception_count;

static X509 *read_cert(struct json_object *pem)
{
	BIO *bio = BIO_new_mem_buf(json_object_get_string(pem), -1);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

	BIO_free(bio);
	return cert;
}

static struct json_object *get(struct json_object *object, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(object, key, &value);
	return value;
}

static time_t get_time(struct json_object *test)
{
	const char *text = json_object_get_string(get(test, "validation_time"));
	struct tm tm = { 0 };

	if (!text)
		return SOME_TIME;
	/* All of them are written in UTC. A fraction of a second is cut, as a clock's would be. */
	if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &tm))
		return -1;
	return timegm(&tm);
}

static bool has_name(X509 *leaf, struct json_object *expected)
{
	const char *kind = json_object_get_string(get(expected, "kind"));
	const char *value = json_object_get_string(get(expected, "value"));

	if (strcmp(kind, "DNS") == 0)
		return X509_check_host(leaf, value, 0,
				       X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
				       NULL) == 1;
	if (strcmp(kind, "IP") == 0)
		return X509_check_ip_asc(leaf, value, 0) == 1;
	return X509_check_email(leaf, value, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT) == 1;
}

/* Trust that is configured with what the case gives; what weft refuses to configure is not believed. */
static struct weft_trust *get_trust(struct json_object *test, struct weft_err *err)
{
	struct json_object *roots = get(test, "trusted_certs"), *crls = get(test, "crls");
	struct weft_trust *trust = weft_trust_new();

	for (size_t i = 0; i < json_object_array_length(roots); i++) {
		X509 *root = read_cert(json_object_array_get_idx(roots, i));
		unsigned char *der = NULL;
		int size = root ? i2d_X509(root, &der) : 0;

		if (size > 0)
			(void)weft_trust_add_root(trust, DOMAIN, der, (size_t)size, err);
		OPENSSL_free(der);
		X509_free(root);
	}
	for (size_t i = 0; crls && i < json_object_array_length(crls); i++) {
		BIO *bio = BIO_new_mem_buf(json_object_get_string(json_object_array_get_idx(crls, i)), -1);
		X509_CRL *crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
		unsigned char *der = NULL;
		int size = crl ? i2d_X509_CRL(crl, &der) : 0;

		/* Trust with a list that is not good is not put in force at all. */
		if (size <= 0 || weft_trust_add_crl(trust, DOMAIN, der, (size_t)size, err) < 0)
			trust = weft_trust_unref(trust);
		OPENSSL_free(der);
		X509_CRL_free(crl);
		BIO_free(bio);
		if (!trust)
			break;
	}
	return trust;
}

static bool judge(struct json_object *test, struct weft_err *err)
{
	struct json_object *chain = get(test, "untrusted_intermediates"), *names = get(test, "expected_peer_names");
	bool server = strcmp(json_object_get_string(get(test, "validation_kind")), "SERVER") == 0, good = true;
	X509 *leaf = read_cert(get(test, "peer_certificate"));
	struct weft_trust *trust = get_trust(test, err);
	STACK_OF(X509) *others = sk_X509_new_null();

	for (size_t i = 0; i < json_object_array_length(chain); i++) {
		X509 *ca = read_cert(json_object_array_get_idx(chain, i));

		/* A message with one that cannot be read ends the handshake. */
		if (!ca)
			good = false;
		else
			sk_X509_push(others, ca);
	}
	if (!trust || !leaf || !good) {
		if (!*err->text)
			strcpy(err->text, "a certificate cannot be read");
		good = false;
	} else {
		good = weft_trust_verify_chain(trust, DOMAIN, leaf, others,
					       server ? WEFT_TRUST_SERVER : WEFT_TRUST_CLIENT, get_time(test),
					       err) == 0;
	}
	if (good && server)
		good = !get(test, "expected_peer_name") || has_name(leaf, get(test, "expected_peer_name"));
	for (size_t i = 0; good && i < json_object_array_length(names); i++)
		good = has_name(leaf, json_object_array_get_idx(names, i));
	sk_X509_pop_free(others, X509_free);
	X509_free(leaf);
	weft_trust_unref(trust);
	ERR_clear_error();
	return good;
}

static void read_exceptions(const char *path)
{
	weft_fclose_on_exit FILE *file = fopen(path, "re");
	char line[512];

	if (!file)
		fail_msg("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		struct exception *exception = &exceptions[exception_count];
		char verdict[8], reason[8];

		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (exception_count == MAX_EXCEPTIONS ||
		    sscanf(line, "%7s %159s %7s", verdict, exception->id, reason) != 3 ||
		    (strcmp(verdict, "accept") != 0 && strcmp(verdict, "refuse") != 0))
			fail_msg("%s: not `accept|refuse CASE REASON`: %s", path, line);
		exception->accept = strcmp(verdict, "accept") == 0;
		exception_count++;
	}
}

static bool expected(const char *id, bool accept)
{
	for (size_t i = 0; i < exception_count; i++)
		if (strcmp(exceptions[i].id, id) == 0 && exceptions[i].accept == accept) {
			exceptions[i].met = true;
			return true;
		}
	return false;
}

static const char *cases_path, *exceptions_path;

static void test_limbo(void **state)
{
	struct json_object *file = json_object_from_file(cases_path), *tests = get(file, "testcases");
	size_t right = 0, accepts = 0, refusals = 0, unlisted = 0;

	(void)state;
	assert_non_null(tests);
	read_exceptions(exceptions_path);
	for (size_t i = 0; i < json_object_array_length(tests); i++) {
		struct json_object *test = json_object_array_get_idx(tests, i);
		const char *id = json_object_get_string(get(test, "id"));
		bool want = strcmp(json_object_get_string(get(test, "expected_result")), "SUCCESS") == 0;
		struct weft_err err = { 0 };
		bool got = judge(test, &err);

		right += got == want;
		accepts += got && !want;
		refusals += !got && want;
		if (got != want && !expected(id, got)) {
			print_message("%s: %s, and it is not listed: %s\n", id, got ? "accepted" : "refused", err.text);
			unlisted++;
		} else if (getenv("WEFT_VERBOSE")) {
			print_message("%s %s: %s\n", got ? "accept" : "refuse", id, err.text);
		}
	}
	for (size_t i = 0; i < exception_count; i++)
		if (!exceptions[i].met) {
			print_message("%s: is listed and judged as limbo says, or is no case\n", exceptions[i].id);
			unlisted++;
		}
	print_message("%zu cases: %zu right, %zu false accepts, %zu false refusals, %zu of these listed\n",
		      json_object_array_length(tests), right, accepts, refusals, exception_count);
	json_object_put(file);
	assert_int_equal(unlisted, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_limbo) };

	if (argc != 3) {
		fprintf(stderr, "expected two arguments, the cases and the exceptions\n");
		return 1;
	}
	cases_path = argv[1];
	exceptions_path = argv[2];
	if (access(cases_path, R_OK) < 0) {
		printf("skipped: %s: %s\n", cases_path, strerror(errno));
		return CHECK_SKIPPED;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
