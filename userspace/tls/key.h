/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private keys, P-256, whose scalar is in OpenSSL's secure heap and nowhere else: they are made, read, written and used by the
 * functions here. OpenSSL's own reader of PEM files leaves copies in ordinary memory, so there is one of ours; what its
 * arithmetic leaves on the stack is wiped.
 */
#ifndef WEFT_TLS_KEY_H
#define WEFT_TLS_KEY_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/err.h"

#define WEFT_KEY_PEM_MAX 512
#define WEFT_KEY_DIGEST 32 /* SHA-256 */
#define WEFT_KEY_SIGNATURE_MAX 80

static inline void weft_key_freep(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}
#define weft_key_on_exit weft_cleanup(weft_key_freep)

/* Once a process, before any other function of ours. 1: the memory could not be locked, `err` says why; -ENOMEM: there is none. */
int weft_key_heap(struct weft_err *err);
/* Memory of that heap; NULL: it is full. weft_key_free() wipes. */
void *weft_key_alloc(size_t size);
void weft_key_free(void *memory, size_t size);

int weft_key_new(EVP_PKEY **ret_key, struct weft_err *err);
/*
 * The first private key in a PEM text (PKCS#8 or SEC1), which is in memory of weft_key_alloc(). -ENOENT: there is none;
 * -EINVAL: it is encrypted, not on P-256, or malformed.
 */
int weft_key_from_pem(const char *pem, size_t size, EVP_PKEY **ret_key, struct weft_err *err);
/* PKCS#8 into `room` of WEFT_KEY_PEM_MAX bytes, of weft_key_alloc(). -EIO: the key is not one of ours. */
int weft_key_to_pem(const EVP_PKEY *key, char *room, size_t *ret_size);

/* A key ready to sign again and again. NULL: out of memory. Free with EVP_PKEY_CTX_free(). */
EVP_PKEY_CTX *weft_key_signer(EVP_PKEY *key);
/* ECDSA of a SHA-256 digest, as DER. *ret_size of WEFT_KEY_SIGNATURE_MAX. */
int weft_key_sign(EVP_PKEY_CTX *signer, const void *digest, void *ret_signature, size_t *ret_size);

/* The whole file `name` in `dir` in memory of weft_key_alloc(), *ret_room bytes of which *ret_size are the file's. */
int weft_key_read_file(int dir, const char *name, char **ret_data, size_t *ret_size, size_t *ret_room, struct weft_err *err);

#endif
