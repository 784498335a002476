/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who signs: where certificates, and whom to believe, come from. Role keys knows this much of it and no more, so that a
 * source is one file: the embedded CA (tls/ca.h), files (tls/files.h). Asynchronous, for a source may be far away.
 */
#ifndef WEFT_TLS_SIGNER_H
#define WEFT_TLS_SIGNER_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "tls/identity.h"

struct weft_signer;

struct weft_signer_request {
	const char *id; /* SPIFFE id, valid, of the signer's trust domain */
	const struct weft_der *csr; /* PKCS#10, made with the key that is to be certified; NULL if the source brings keys */
	uint32_t ttl_s;
};

/* Lives until `answered` returns. Whoever asked checks it as he would a peer's: that it is for this id and this key, and is believed. */
struct weft_signer_answer {
	const struct weft_der *chain; /* leaf first, without root */
	size_t count;
	EVP_PKEY *key; /* a source that brings keys: a reference is the taker's to make */
};

struct weft_signer_events {
	/* To each request that was taken, also from within it. `error` 0, or -errno with the sentence in `err` and no answer. */
	void (*answered)(void *context, const char *id, int error, const struct weft_signer_answer *answer, const struct weft_err *err);
	/* Trust, or what was answered, is another now: read trust, ask again. */
	void (*changed)(void *context);
	void *context;
};

struct weft_signer_ops {
	bool brings_keys;
	/* -errno: not taken, `err` says why. */
	int (*request)(struct weft_signer *signer, const struct weft_signer_request *request, struct weft_err *err);
	/* Nobody asks for this id any more. NULL: that is nothing to it. */
	void (*forget)(struct weft_signer *signer, const char *id);
	/* Each root, and each CRL with `crl` set; stops at what is not 0, and returns it. */
	int (*trust)(struct weft_signer *signer, int (*each)(void *context, bool crl, const char *domain, const struct weft_der *der),
		     void *context, struct weft_err *err);
	/* 0, or -errno with what goes wrong at the source, or will soon. */
	int (*state)(struct weft_signer *signer, struct weft_err *err);
	void (*free)(struct weft_signer *signer);
};

/* First member of each source's own struct. */
struct weft_signer {
	const struct weft_signer_ops *ops;
	struct weft_signer_events events;
};

static inline struct weft_signer *weft_signer_free(struct weft_signer *signer)
{
	if (signer)
		signer->ops->free(signer);
	return NULL;
}
WEFT_CLEANUP_DEFINE(struct weft_signer, weft_signer_free);

#endif
