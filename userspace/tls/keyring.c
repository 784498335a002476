/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/keyring.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <string.h>
#include <uthash.h>

#include "base/buf.h"
#include "tls/ca.h"
#include "tls/files.h"
#include "tls/key.h"
#include "tls/pem.h"
#include "tls/spiffe.h"

#define TICK_US 500000ull /* a certificate of 30 s is renewed within a second of its time */
#define SLICE 16 /* certificates made in a row: who waits for a signature waits some milliseconds */
#define RETRY_MIN_S 1
#define RETRY_MAX_S 60
#define SIGNER_RETRY_S 5

/* A key that signs. */
struct key {
	UT_hash_handle hh; /* by number */
	uint64_t number;
	EVP_PKEY *pair;
	EVP_PKEY_CTX *signer;
	uint64_t until_ns; /* CLOCK_MONOTONIC; 0: no end */
};

struct entry {
	UT_hash_handle hh; /* by id */
	char *id;
	bool wanted; /* while wants are compared */
	struct weft_keyring_pair pair; /* count 0: none yet */
	struct weft_der chain[WEFT_TRUST_MAX_CHAIN];
	struct key *key;
	EVP_PKEY *asked; /* of a request that is not answered yet */
	time_t renew_at; /* by the wall clock, which may jump; 0: now */
	time_t issued_at;
	uint64_t retry_ns; /* CLOCK_MONOTONIC: not before */
	unsigned int retry_s;
	int error;
	struct weft_err trouble;
};

struct anchor {
	bool crl;
	char *domain;
	struct weft_der der;
};

struct anchors {
	struct anchor *item;
	size_t count, room;
	struct weft_trust *trust; /* what they are together */
};

struct weft_keyring {
	sd_event *loop;
	int dir;
	struct weft_keyring_events events;
	sd_event_source *tick;
	sd_event_source *work;

	enum weft_keyring_source source;
	char *domain; /* NULL: nothing was wanted yet */
	uint32_t ttl_s;
	struct weft_signer *signer; /* NULL: it could not be made, or is not needed yet */
	uint64_t signer_retry_ns;
	int signer_error;
	struct weft_err signer_trouble;
	bool signer_changed;

	struct entry *entries;
	struct key *keys;
	uint64_t last_key;
	struct anchors anchors;
	struct weft_err bad_id;

	int said_error;
	char *said;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- keys ---- */

static void key_free(struct key *key)
{
	if (!key)
		return;
	EVP_PKEY_CTX_free(key->signer);
	EVP_PKEY_free(key->pair);
	free(key);
}

/* Takes a reference of its own. */
static struct key *add_key(struct weft_keyring *ring, EVP_PKEY *pair)
{
	struct key *key = calloc(1, sizeof(*key));

	if (!key || !EVP_PKEY_up_ref(pair)) {
		free(key);
		return NULL;
	}
	key->pair = pair;
	key->signer = weft_key_signer(pair);
	if (!key->signer) {
		key_free(key);
		return NULL;
	}
	key->number = ++ring->last_key;
	HASH_ADD(hh, ring->keys, number, sizeof(key->number), key);
	return key;
}

static void retire(struct key *key)
{
	if (key)
		key->until_ns = now_ns() + WEFT_KEYRING_RETIRE_S * 1000000000ull;
}

int weft_keyring_sign(struct weft_keyring *ring, uint64_t number, const void *digest, void *ret_signature, size_t *ret_size)
{
	struct key *key;

	HASH_FIND(hh, ring->keys, &number, sizeof(number), key);
	return key ? weft_key_sign(key->signer, digest, ret_signature, ret_size) : -ENOENT;
}

/* ---- whom to believe ---- */

static void anchors_done(struct anchors *anchors)
{
	for (size_t i = 0; i < anchors->count; i++) {
		free(anchors->item[i].domain);
		free((void *)anchors->item[i].der.data);
	}
	free(anchors->item);
	weft_trust_unref(anchors->trust);
	memset(anchors, 0, sizeof(*anchors));
}

static bool anchor_equal(const struct anchor *one, const struct anchor *other)
{
	return one->crl == other->crl && strcmp(one->domain, other->domain) == 0 && one->der.size == other->der.size &&
	       memcmp(one->der.data, other->der.data, one->der.size) == 0;
}

struct collecting {
	struct anchors anchors;
	struct weft_err *err;
};

static int collect(void *context, bool crl, const char *domain, const struct weft_der *der)
{
	struct collecting *collecting = context;
	struct anchors *anchors = &collecting->anchors;
	struct anchor anchor = { .crl = crl, .domain = strdup(domain), .der = { malloc(der->size), der->size } };
	int r = anchor.domain && anchor.der.data ? weft_grow(&anchors->item, &anchors->room, anchors->count + 1, sizeof(anchor)) : -ENOMEM;

	if (anchor.der.data)
		memcpy((void *)anchor.der.data, der->data, der->size);
	for (size_t i = 0; r == 0 && i < anchors->count; i++)
		r = anchor_equal(&anchors->item[i], &anchor);
	if (r == 0) {
		r = crl ? weft_trust_add_crl(anchors->trust, domain, der->data, der->size, collecting->err)
			: weft_trust_add_root(anchors->trust, domain, der->data, der->size, collecting->err);
		if (r == 0) {
			anchors->item[anchors->count++] = anchor;
			return 0;
		}
	}
	free(anchor.domain);
	free((void *)anchor.der.data);
	return r == 1 ? 0 : r; /* there already: identities have bundles in common */
}

/* Reads trust anew; what cannot be read leaves the old in force. Returns -errno, 0 or 1: it is another. */
static int read_trust(struct weft_keyring *ring, struct weft_err *err)
{
	struct collecting collecting = { .anchors.trust = weft_trust_new(), .err = err };
	struct anchors *fresh = &collecting.anchors;
	bool same;
	int r = fresh->trust ? ring->signer->ops->trust(ring->signer, collect, &collecting, err) : -ENOMEM;

	if (r < 0) {
		anchors_done(fresh);
		return r;
	}
	same = ring->anchors.trust && fresh->count == ring->anchors.count;
	for (size_t i = 0; same && i < fresh->count; i++)
		same = anchor_equal(&fresh->item[i], &ring->anchors.item[i]);
	if (same) {
		anchors_done(fresh);
		return 0;
	}
	anchors_done(&ring->anchors);
	ring->anchors = *fresh;
	return 1;
}

int weft_keyring_trust(const struct weft_keyring *ring, int (*each)(void *context, bool crl, const char *domain, const struct weft_der *der),
		       void *context)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ring->anchors.count; i++)
		r = each(context, ring->anchors.item[i].crl, ring->anchors.item[i].domain, &ring->anchors.item[i].der);
	return r;
}

/* ---- entries ---- */

static void chain_done(struct entry *entry)
{
	for (size_t i = 0; i < entry->pair.count; i++)
		OPENSSL_free((void *)entry->chain[i].data);
	entry->pair.count = 0;
}

static void entry_free(struct entry *entry)
{
	chain_done(entry);
	EVP_PKEY_free(entry->asked);
	free(entry->id);
	free(entry);
}

const struct weft_keyring_pair *weft_keyring_find(const struct weft_keyring *ring, const char *id)
{
	struct entry *entry;

	HASH_FIND_STR(ring->entries, id, entry);
	return entry && entry->pair.count ? &entry->pair : NULL;
}

static double random_share(void)
{
	uint16_t random = 0;

	RAND_bytes((unsigned char *)&random, sizeof(random)); /* a failure costs the jitter only */
	return random / 65535.0;
}

/* Tried again soon, and well before the certificate ends. */
static void failed(struct entry *entry, int error, const struct weft_err *err)
{
	time_t left = entry->pair.count ? entry->pair.not_after - time(NULL) : RETRY_MAX_S;

	entry->error = error;
	if (&entry->trouble != err)
		entry->trouble = *err;
	EVP_PKEY_free(entry->asked);
	entry->asked = NULL;
	entry->retry_s = entry->retry_s ? entry->retry_s * 2 : RETRY_MIN_S;
	if (left > 0 && entry->retry_s > left / 4)
		entry->retry_s = (unsigned int)(left / 4);
	if (entry->retry_s > RETRY_MAX_S)
		entry->retry_s = RETRY_MAX_S;
	if (entry->retry_s < RETRY_MIN_S)
		entry->retry_s = RETRY_MIN_S;
	entry->retry_ns = now_ns() + entry->retry_s * 1000000000ull;
}

static int parse_chain(const struct weft_signer_answer *answer, X509 **ret_leaf, STACK_OF(X509) **ret_others)
{
	STACK_OF(X509) *others = sk_X509_new_null();
	X509 *leaf = NULL;

	for (size_t i = 0; others && i < answer->count; i++) {
		const unsigned char *at = answer->chain[i].data;
		X509 *certificate = d2i_X509(NULL, &at, (long)answer->chain[i].size);

		if (!certificate || at != (const unsigned char *)answer->chain[i].data + answer->chain[i].size ||
		    (i > 0 && sk_X509_push(others, certificate) <= 0)) {
			X509_free(certificate);
			X509_free(leaf);
			sk_X509_pop_free(others, X509_free);
			ERR_clear_error();
			return -EBADMSG;
		}
		if (i == 0)
			leaf = certificate;
	}
	if (!others || !leaf) {
		sk_X509_free(others);
		return -ENOMEM;
	}
	*ret_leaf = leaf;
	*ret_others = others;
	return 0;
}

/* As our peers will: a certificate that they refuse must not take the place of one that they take. */
static int judge(struct weft_keyring *ring, const char *wanted, X509 *leaf, STACK_OF(X509) *others, const EVP_PKEY *key,
		 struct weft_err *err)
{
	time_t now = time(NULL);

	if (EVP_PKEY_eq(X509_get0_pubkey(leaf), key) != 1)
		return weft_err_set(err, EBADMSG, "%s: the certificate that was given is not for the key that was asked for", wanted);
	for (enum weft_trust_side side = WEFT_TRUST_CLIENT; side <= WEFT_TRUST_SERVER; side++) {
		weft_free_on_exit char *id = NULL;
		int r = weft_trust_verify(ring->anchors.trust, leaf, others, side, now, &id, err);

		if (r < 0)
			return weft_err_prefix(err, r, "%s: the certificate that was given would be refused", wanted);
		if (strcmp(id, wanted) != 0)
			return weft_err_set(err, EBADMSG, "%s: the certificate that was given is for %s", wanted, id);
	}
	return 0;
}

static int take_chain(struct entry *entry, const struct weft_signer_answer *answer)
{
	struct weft_der chain[WEFT_TRUST_MAX_CHAIN];
	size_t count = 0;

	for (; count < answer->count; count++) {
		void *copy = OPENSSL_memdup(answer->chain[count].data, answer->chain[count].size);

		if (!copy) {
			while (count > 0)
				OPENSSL_free((void *)chain[--count].data);
			return -ENOMEM;
		}
		chain[count] = (struct weft_der){ copy, answer->chain[count].size };
	}
	chain_done(entry);
	memcpy(entry->chain, chain, count * sizeof(chain[0]));
	entry->pair.chain = entry->chain;
	entry->pair.count = count;
	return 0;
}

/* A little before or after half of its life: nodes and identities that began together do not renew together. */
static time_t renewal(const struct weft_keyring *ring, time_t from, time_t to)
{
	if (ring->signer->ops->brings_keys)
		return to + ((time_t)1 << 40); /* when files change */
	return from + (time_t)((double)(to - from) * (0.45 + 0.1 * random_share()));
}

static bool is_same(const struct entry *entry, const struct weft_signer_answer *answer)
{
	bool same = entry->pair.count == answer->count;

	for (size_t i = 0; same && i < answer->count; i++)
		same = entry->chain[i].size == answer->chain[i].size &&
		       memcmp(entry->chain[i].data, answer->chain[i].data, answer->chain[i].size) == 0;
	return same;
}

static int take_pair(struct weft_keyring *ring, struct entry *entry, const struct weft_signer_answer *answer, struct weft_err *err)
{
	EVP_PKEY *pair = answer->key ? answer->key : entry->asked;
	STACK_OF(X509) *others = NULL;
	X509 *leaf = NULL;
	struct key *key = NULL;
	int r = answer->count && answer->count <= WEFT_TRUST_MAX_CHAIN ? parse_chain(answer, &leaf, &others) : -EBADMSG;

	if (r < 0)
		return weft_err_set(err, r, "%s: the chain that was given is malformed", entry->id);
	r = judge(ring, entry->id, leaf, others, pair, err);
	if (r == 0) {
		key = add_key(ring, pair);
		r = key ? take_chain(entry, answer) : -ENOMEM;
		if (r < 0)
			weft_err_set(err, r, "%s: %m", entry->id);
	}
	if (r == 0) {
		retire(entry->key);
		entry->key = key;
		entry->pair.key = key->number;
		entry->pair.not_before = weft_pem_time(X509_get0_notBefore(leaf));
		entry->pair.not_after = weft_pem_time(X509_get0_notAfter(leaf));
	} else if (key) {
		HASH_DEL(ring->keys, key);
		key_free(key);
	}
	sk_X509_pop_free(others, X509_free);
	X509_free(leaf);
	return r;
}

static void answered(void *context, const char *id, int error, const struct weft_signer_answer *answer, const struct weft_err *err)
{
	struct weft_keyring *ring = context;
	struct weft_err trouble = { "" };
	struct entry *entry;
	bool same;
	int r = 0;

	HASH_FIND_STR(ring->entries, id, entry);
	if (!entry || (!entry->asked && !ring->signer->ops->brings_keys))
		return; /* nobody waits for it any more */
	if (error) {
		failed(entry, error, err);
		return;
	}
	same = is_same(entry, answer);
	if (!same)
		r = take_pair(ring, entry, answer, &trouble);
	if (r < 0) {
		failed(entry, r, &trouble);
		return;
	}
	EVP_PKEY_free(entry->asked);
	entry->asked = NULL;
	entry->error = 0;
	entry->trouble.text[0] = '\0';
	entry->retry_s = 0;
	entry->retry_ns = 0;
	entry->issued_at = time(NULL);
	entry->renew_at = renewal(ring, entry->issued_at, entry->pair.not_after);
	if (!same)
		ring->events.changed(ring->events.context, &entry->pair);
}

static int make_csr(EVP_PKEY *key, struct weft_der *ret_csr)
{
	X509_REQ *csr = X509_REQ_new();
	unsigned char *der = NULL;
	int size = -1;

	if (csr && X509_REQ_set_version(csr, X509_REQ_VERSION_1) && X509_REQ_set_pubkey(csr, key) && X509_REQ_sign(csr, key, EVP_sha256()) > 0)
		size = i2d_X509_REQ(csr, &der);
	X509_REQ_free(csr);
	ERR_clear_error();
	if (size <= 0)
		return -ENOMEM;
	*ret_csr = (struct weft_der){ der, (size_t)size };
	return 0;
}

static void ask(struct weft_keyring *ring, struct entry *entry)
{
	struct weft_signer_request request = { .id = entry->id, .ttl_s = ring->ttl_s };
	struct weft_der csr = { NULL, 0 };
	struct weft_err err = { "" };
	int r = 0;

	if (!ring->signer->ops->brings_keys) {
		r = weft_key_new(&entry->asked, &err);
		if (r == 0)
			r = make_csr(entry->asked, &csr);
		request.csr = &csr;
	}
	if (r == 0)
		r = ring->signer->ops->request(ring->signer, &request, &err);
	OPENSSL_free((void *)csr.data);
	if (r < 0) {
		if (!err.text[0])
			weft_err_set(&err, r, "%s: cannot make a request: %m", entry->id);
		failed(entry, r, &err);
	}
}

/* ---- what goes on ---- */

static bool is_due(const struct entry *entry, time_t now, uint64_t monotonic)
{
	if (entry->asked || monotonic < entry->retry_ns)
		return false;
	if (entry->error) /* which is told until it succeeds, though a clock that is right again may make it needless */
		return true;
	/* A clock that was set back makes a certificate of the future of it, which nobody takes. */
	return now >= entry->renew_at || (entry->pair.count && (now < entry->pair.not_before || now < entry->issued_at - 60));
}

static void say_state(struct weft_keyring *ring)
{
	struct weft_err now = { "" };
	int r = ring->signer_error;
	struct entry *entry, *next;
	char *text;

	if (r < 0)
		now = ring->signer_trouble;
	else if (ring->signer)
		r = ring->signer->ops->state(ring->signer, &now);
	HASH_ITER(hh, ring->entries, entry, next)
		if (r == 0 && entry->error) {
			r = entry->error;
			now = entry->trouble;
		} else if (r == 0 && entry->pair.count && entry->pair.not_after <= time(NULL)) {
			r = weft_err_set(&now, EKEYEXPIRED, "the certificate of %s has ended", entry->id);
		}
	if (r == 0 && ring->bad_id.text[0]) {
		r = -EINVAL;
		now = ring->bad_id;
	}
	if (ring->said && r == ring->said_error && strcmp(ring->said, now.text) == 0)
		return;
	text = strdup(now.text);
	if (!text)
		return;
	free(ring->said);
	ring->said = text;
	ring->said_error = r;
	ring->events.state(ring->events.context, r, text);
}

static void on_signer_changed(void *context)
{
	struct weft_keyring *ring = context;

	ring->signer_changed = true;
	sd_event_source_set_enabled(ring->work, SD_EVENT_ONESHOT);
}

static void make_signer(struct weft_keyring *ring)
{
	const struct weft_signer_events events = { answered, on_signer_changed, ring };
	int r = ring->source == WEFT_KEYRING_FILES
			? weft_files_signer_new(ring->loop, ring->dir, ring->domain, &events, &ring->signer, &ring->signer_trouble)
			: weft_ca_signer_new(ring->loop, ring->dir, ring->domain, &events, &ring->signer, &ring->signer_trouble);

	ring->signer_error = r;
	ring->signer_changed = r == 0;
	ring->signer_retry_ns = now_ns() + SIGNER_RETRY_S * 1000000000ull;
}

static void take_up_changes(struct weft_keyring *ring)
{
	struct entry *entry, *next;
	int r = read_trust(ring, &ring->signer_trouble);

	ring->signer_changed = r < 0;
	ring->signer_error = r < 0 ? r : 0;
	if (r < 0)
		return; /* with the next tick again */
	if (r == 1)
		ring->events.trust(ring->events.context);
	HASH_ITER(hh, ring->entries, entry, next) {
		entry->renew_at = 0;
		entry->retry_ns = 0;
	}
}

/* A slice of what is due, then the loop again: signatures come first. */
static int on_work(sd_event_source *source, void *context)
{
	struct weft_keyring *ring = context;
	uint64_t monotonic = now_ns();
	struct entry *entry, *next;
	time_t now = time(NULL);
	int done = 0;

	if (!ring->signer && ring->entries && monotonic >= ring->signer_retry_ns)
		make_signer(ring);
	if (ring->signer && ring->signer_changed)
		take_up_changes(ring);
	HASH_ITER(hh, ring->entries, entry, next) {
		if (!ring->anchors.trust || !ring->signer || !is_due(entry, now, monotonic))
			continue;
		if (done++ == SLICE)
			return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
		ask(ring, entry);
	}
	/* Files tell whom to believe only once they were asked for: the pairs were refused until now. */
	if (done && ring->signer->ops->brings_keys && read_trust(ring, &ring->signer_trouble) == 1) {
		ring->events.trust(ring->events.context);
		HASH_ITER(hh, ring->entries, entry, next)
			if (entry->error)
				entry->retry_ns = 0;
		return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	say_state(ring);
	return 0;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *context)
{
	struct weft_keyring *ring = context;
	uint64_t monotonic = now_ns();
	struct key *key, *next;

	(void)usec;
	HASH_ITER(hh, ring->keys, key, next)
		if (key->until_ns && key->until_ns <= monotonic) {
			HASH_DEL(ring->keys, key);
			key_free(key);
		}
	sd_event_source_set_enabled(ring->work, SD_EVENT_ONESHOT);
	/* Nothing is wanted and nothing left: sleep until something is. */
	if (!ring->entries && !ring->keys)
		return sd_event_source_set_enabled(source, SD_EVENT_OFF);
	sd_event_source_set_time_relative(source, TICK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int weft_keyring_new(sd_event *loop, int dir, const struct weft_keyring_events *events, struct weft_keyring **ret_ring,
		     struct weft_err *err)
{
	weft_cleanup(weft_keyring_freep) struct weft_keyring *ring = calloc(1, sizeof(*ring));
	uint32_t random;
	int r;

	if (!ring)
		return weft_err_set(err, ENOMEM, "out of memory");
	ring->loop = sd_event_ref(loop);
	ring->dir = dir;
	ring->events = *events;
	if (RAND_bytes((unsigned char *)&random, sizeof(random)) != 1)
		return weft_err_set(err, EIO, "this system gives no random numbers");
	/* The second in which we began, and by chance within it: no other process counts there. */
	ring->last_key = (uint64_t)(uint32_t)time(NULL) << 32 | random;
	r = sd_event_add_time_relative(loop, &ring->tick, CLOCK_MONOTONIC, TICK_US, TICK_US / 10, on_tick, ring);
	if (r >= 0)
		r = sd_event_add_defer(loop, &ring->work, on_work, ring);
	if (r >= 0) /* behind what others ask for */
		r = sd_event_source_set_priority(ring->work, SD_EVENT_PRIORITY_IDLE);
	if (r < 0)
		return weft_err_set(err, r, "cannot set up the event loop: %m");
	*ret_ring = weft_take_ptr(ring);
	return 0;
}

struct weft_keyring *weft_keyring_free(struct weft_keyring *ring)
{
	struct entry *entry, *next_entry;
	struct key *key, *next_key;

	if (!ring)
		return NULL;
	sd_event_source_disable_unref(ring->tick);
	sd_event_source_disable_unref(ring->work);
	weft_signer_free(ring->signer);
	HASH_ITER(hh, ring->entries, entry, next_entry) {
		HASH_DEL(ring->entries, entry);
		entry_free(entry);
	}
	HASH_ITER(hh, ring->keys, key, next_key) {
		HASH_DEL(ring->keys, key);
		key_free(key);
	}
	anchors_done(&ring->anchors);
	sd_event_unref(ring->loop);
	free(ring->domain);
	free(ring->said);
	free(ring);
	return NULL;
}

static int add_entry(struct weft_keyring *ring, const char *id)
{
	struct entry *entry;

	HASH_FIND_STR(ring->entries, id, entry);
	if (!entry) {
		entry = calloc(1, sizeof(*entry));
		if (!entry)
			return -ENOMEM;
		entry->id = strdup(id);
		if (!entry->id) {
			free(entry);
			return -ENOMEM;
		}
		entry->pair.id = entry->id;
		HASH_ADD_KEYPTR(hh, ring->entries, entry->id, strlen(entry->id), entry);
	}
	entry->wanted = true;
	return 0;
}

/* What is no longer wanted. */
static void sweep(struct weft_keyring *ring)
{
	struct entry *entry, *next;

	HASH_ITER(hh, ring->entries, entry, next) {
		if (entry->wanted)
			continue;
		HASH_DEL(ring->entries, entry);
		retire(entry->key);
		if (ring->signer && ring->signer->ops->forget)
			ring->signer->ops->forget(ring->signer, entry->id);
		if (entry->pair.count)
			ring->events.gone(ring->events.context, entry->id);
		entry_free(entry);
	}
}

int weft_keyring_want(struct weft_keyring *ring, enum weft_keyring_source source, const char *domain, uint32_t ttl_s,
		      const char *const *ids, size_t count, struct weft_err *err)
{
	bool other = !ring->domain || source != ring->source || strcmp(domain, ring->domain) != 0, other_ttl = ttl_s != ring->ttl_s;
	struct entry *entry, *next;
	char *copy = strdup(domain);
	int r = copy ? 0 : -ENOMEM;

	HASH_ITER(hh, ring->entries, entry, next)
		entry->wanted = false;
	ring->bad_id.text[0] = '\0';
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct weft_spiffe spiffe;

		if (weft_spiffe_parse(ids[i], strlen(ids[i]), &spiffe, &ring->bad_id) == 0)
			r = add_entry(ring, ids[i]);
	}
	if (r < 0) {
		free(copy);
		return weft_err_set(err, r, "out of memory for %zu identities", count);
	}
	free(ring->domain);
	ring->domain = copy;
	ring->source = source;
	ring->ttl_s = ttl_s;
	sweep(ring);
	if (other) { /* pairs stay until the new source has given others */
		ring->signer = weft_signer_free(ring->signer);
		ring->signer_retry_ns = 0;
		ring->signer_error = 0;
	}
	HASH_ITER(hh, ring->entries, entry, next)
		if (other || other_ttl) {
			entry->renew_at = 0;
			entry->retry_ns = 0;
			EVP_PKEY_free(entry->asked);
			entry->asked = NULL;
		}
	sd_event_source_set_time_relative(ring->tick, TICK_US);
	sd_event_source_set_enabled(ring->tick, SD_EVENT_ONESHOT);
	sd_event_source_set_enabled(ring->work, SD_EVENT_ONESHOT);
	return 0;
}
