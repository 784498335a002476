/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identities of this node as they are kept alive: a key and a certificate for each SPIFFE id that is wanted, made,
 * certified by whoever signs (tls/signer.h), renewed at half of their life, and replaced only by what we would believe
 * ourselves. A source that fails costs nothing until the certificate that is there ends.
 */
#ifndef WEFT_TLS_KEYRING_H
#define WEFT_TLS_KEYRING_H

#include <systemd/sd-event.h>
#include <time.h>

#include "tls/identity.h"

#define WEFT_KEYRING_RETIRE_S 60 /* that a key which was replaced still signs: for handshakes under way */

struct weft_keyring;

enum weft_keyring_source {
	WEFT_KEYRING_EMBEDDED = 0, /* tls/ca.h */
	WEFT_KEYRING_FILES, /* tls/files.h */
};

struct weft_keyring_pair {
	const char *id;
	uint64_t key; /* never given twice, also not by the next process */
	time_t not_before;
	time_t not_after;
	const struct weft_der *chain; /* leaf first */
	size_t count;
};

/* From the loop; `gone` also from within weft_keyring_want(). */
struct weft_keyring_events {
	void (*changed)(void *context, const struct weft_keyring_pair *pair);
	void (*gone)(void *context, const char *id);
	void (*trust)(void *context); /* before a pair that needs it */
	void (*state)(void *context, int error, const char *text); /* 0 and ""; or what goes wrong: one sentence */
	void *context;
};

/* `dir` is the folder of `keys`, which stays the caller's. Opens all that the loop needs: later there may be no right to. */
int weft_keyring_new(sd_event *loop, int dir, const struct weft_keyring_events *events, struct weft_keyring **ret_ring,
		     struct weft_err *err);
struct weft_keyring *weft_keyring_free(struct weft_keyring *ring);
WEFT_CLEANUP_DEFINE(struct weft_keyring, weft_keyring_free);

/* All that is wanted from here on. An id that is none is left out, and said by `state`. -ENOMEM. */
int weft_keyring_want(struct weft_keyring *ring, enum weft_keyring_source source, const char *domain, uint32_t ttl_s,
		      const char *const *ids, size_t count, struct weft_err *err);

/* NULL: there is none, or not yet. */
const struct weft_keyring_pair *weft_keyring_find(const struct weft_keyring *ring, const char *id);
/* -ENOENT: there is no such key. */
int weft_keyring_sign(struct weft_keyring *ring, uint64_t key, const void *digest, void *ret_signature, size_t *ret_size);
/* Each root and CRL; stops at what is not 0, and returns it. */
int weft_keyring_trust(const struct weft_keyring *ring, int (*each)(void *context, bool crl, const char *domain, const struct weft_der *der),
		       void *context);

#endif
