/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/pem.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

static int add(struct weft_pem *pem, const char *block, size_t size, bool crl, const char *name, struct weft_err *err)
{
	size_t *count = crl ? &pem->crl_count : &pem->count;
	BIO *bio;

	if (*count == WEFT_PEM_MAX)
		return weft_err_set(err, EINVAL, "%s has more than %d %s", name, WEFT_PEM_MAX, crl ? "CRLs" : "certificates");
	bio = BIO_new_mem_buf(block, (int)size);
	if (!bio)
		return weft_err_set(err, ENOMEM, "out of memory");
	if (crl)
		pem->crl[*count] = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
	else
		pem->certificate[*count] = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	BIO_free(bio);
	ERR_clear_error();
	if (crl ? !pem->crl[*count] : !pem->certificate[*count])
		return weft_err_set(err, EINVAL, "%s: %s %zu is malformed", name, crl ? "CRL" : "certificate", *count + 1);
	++*count;
	return 0;
}

int weft_pem_read(const char *text, size_t size, const char *name, struct weft_pem *ret_pem, struct weft_err *err)
{
	static const struct {
		const char *begin, *end;
	} kinds[] = {
		{ "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----" },
		{ "-----BEGIN X509 CRL-----", "-----END X509 CRL-----" },
	};
	weft_pem_done_on_exit struct weft_pem pem = { .count = 0 };

	for (int kind = 0; kind < 2; kind++) {
		const char *at = text;

		while (size) {
			const char *begin = memmem(at, size - (size_t)(at - text), kinds[kind].begin, strlen(kinds[kind].begin)), *end;
			int r;

			if (!begin)
				break;
			end = memmem(begin, size - (size_t)(begin - text), kinds[kind].end, strlen(kinds[kind].end));
			if (!end)
				return weft_err_set(err, EINVAL, "%s: a %s does not end", name, kind ? "CRL" : "certificate");
			end += strlen(kinds[kind].end);
			r = add(&pem, begin, (size_t)(end - begin), kind, name, err);
			if (r < 0)
				return r;
			at = end;
		}
	}
	*ret_pem = pem;
	memset(&pem, 0, sizeof(pem));
	return 0;
}

void weft_pem_done(struct weft_pem *pem)
{
	for (size_t i = 0; i < pem->count; i++)
		X509_free(pem->certificate[i]);
	for (size_t i = 0; i < pem->crl_count; i++)
		X509_CRL_free(pem->crl[i]);
	memset(pem, 0, sizeof(*pem));
}

time_t weft_pem_time(const ASN1_TIME *time)
{
	struct tm tm;

	return ASN1_TIME_to_tm(time, &tm) == 1 ? timegm(&tm) : 0;
}

int weft_pem_der(X509 *certificate, struct weft_der *ret_der)
{
	unsigned char *der = NULL;
	int size = i2d_X509(certificate, &der);

	if (size <= 0)
		return -ENOMEM;
	*ret_der = (struct weft_der){ der, (size_t)size };
	return 0;
}
