/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One local identity, ready for handshakes: its chain, a key that is elsewhere,
 * and whom it believes. TLS 1.3 only, ALPN h2, both sides show a certificate, no tickets, no resumption, no
 * renegotiation. Neither reads nor holds a private key: `keys` signs (tls/remote_key.h).
 */
#ifndef WEFT_TLS_IDENTITY_H
#define WEFT_TLS_IDENTITY_H

#include <openssl/ssl.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "tls/trust.h"

/* Shared: a connection holds the one that it was made with. */
struct weft_identity;

/* `chain` leaf first, DER; `key` of the leaf, a reference is taken; so it is of `trust`. -EINVAL with what is wrong; -ENOMEM. */
struct weft_der {
	const void *data;
	size_t size;
};
int weft_identity_new(const char *id, const struct weft_der *chain, size_t count, EVP_PKEY *key, struct weft_trust *trust,
		      struct weft_identity **ret_identity, struct weft_err *err);
struct weft_identity *weft_identity_ref(struct weft_identity *identity);
struct weft_identity *weft_identity_unref(struct weft_identity *identity);
WEFT_CLEANUP_DEFINE(struct weft_identity, weft_identity_unref);

const char *weft_identity_id(const struct weft_identity *identity);
time_t weft_identity_not_after(const struct weft_identity *identity);

/*
 * An SSL for one connection, in connect or accept state, without a BIO, in SSL_MODE_ASYNC: SSL_do_handshake() may end in
 * SSL_ERROR_WANT_ASYNC while `keys` signs (weft_remote_waiter() around it); afterwards the mode is off, reads and writes are no jobs.
 * A peer that floods with KeyUpdates looks closed to SSL_read(). A client refuses a server whose id is none of `expected` (NULL-terminated, copied; NULL: any).
 */
int weft_identity_client(struct weft_identity *identity, const char *const *expected, SSL **ret_ssl);
int weft_identity_server(struct weft_identity *identity, SSL **ret_ssl);

/* Of a connection whose handshake is done; lives as long as it. NULL before. */
const char *weft_identity_peer(const SSL *ssl);
/* Why the peer was refused, or "" if that was not it. */
const char *weft_identity_refusal(const SSL *ssl);
/*
 * Whether a live connection's peer is still whom `trust` believes: not revoked, its root still there. That its certificate has
 * ended since the handshake is no reason: connections live longer than certificates do. 0, or -EACCES.
 */
int weft_identity_recheck(const SSL *ssl, const struct weft_trust *trust, time_t now, struct weft_err *err);

#endif
