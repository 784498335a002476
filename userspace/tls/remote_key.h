/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private key that is in another process, as an EVP_PKEY: an OpenSSL provider of ours whose ECDSA signature is a
 * request, during which the handshake's ASYNC job is paused. So a `keys` that stands still delays handshakes and nothing else.
 */
#ifndef WEFT_TLS_REMOTE_KEY_H
#define WEFT_TLS_REMOTE_KEY_H

#include <openssl/evp.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

struct weft_remote_keys; /* one a process: the provider and what waits */

/*
 * `sign` sends a request for a signature of `digest` by `key` under `serial`, without waiting; 0 or -errno. `ready` is told the
 * waiter that was set by weft_remote_waiter() when its signature came: its SSL_do_handshake() is to be called again.
 */
struct weft_remote_ops {
	int (*sign)(void *context, uint64_t key, uint32_t serial, const void *digest, size_t size);
	void (*ready)(void *context, void *waiter);
	void *context;
};
/* -ENOTSUP: an OpenSSL without ASYNC. What still waits at weft_remote_keys_free() fails, keys that are left refuse to sign. */
int weft_remote_keys_new(const struct weft_remote_ops *ops, struct weft_remote_keys **ret_keys, struct weft_err *err);
struct weft_remote_keys *weft_remote_keys_free(struct weft_remote_keys *keys);
WEFT_CLEANUP_DEFINE(struct weft_remote_keys, weft_remote_keys_free);

/* The key pair whose public half is that of `certificate` and whose private half `keys` has as number `key`. */
int weft_remote_key_new(struct weft_remote_keys *keys, uint64_t key, X509 *certificate, EVP_PKEY **ret_key, struct weft_err *err);

/* Who is to be told about signatures that are asked for from here on, until called anew: set it around SSL_do_handshake(). */
void weft_remote_waiter(struct weft_remote_keys *keys, void *waiter);
/*
 * `waiter` goes away: what comes for it is dropped. Its SSL, if it waits, is run to the end of its handshake, which fails: after
 * this it is good for SSL_free() only, and before this its BIO must be there. Not from within a handshake.
 */
void weft_remote_forget(struct weft_remote_keys *keys, void *waiter);
/* A signature came; error != 0: it did not. An unknown serial is ignored. */
void weft_remote_signed(struct weft_remote_keys *keys, uint32_t serial, int error, const void *signature, size_t size);
/* `keys` is gone: all that wait fail, and are told. New ones are asked for by ops.sign as before. */
void weft_remote_lost(struct weft_remote_keys *keys);

#endif
