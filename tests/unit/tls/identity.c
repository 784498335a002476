/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes over a socketpair between two identities, whose keys are here and whose signatures are given when a test says so. */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls/identity.h"
#include "tls/remote_key.h"
#include "unit/tls/mint.h"

#define DOMAIN "cluster.local"
#define ALICE "spiffe://cluster.local/ns/shop/sa/alice"
#define BOB "spiffe://cluster.local/ns/shop/sa/bob"

enum { CLIENT, SERVER, SIDES };

struct asked {
	uint64_t key;
	uint32_t serial;
	unsigned char digest[32];
};

struct lab {
	struct mint root, leaf[SIDES];
	struct weft_trust *trust;
	struct weft_remote_keys *keys;
	struct weft_identity *identity[SIDES];
	int sock[SIDES];
	SSL *ssl[SIDES];
	int result[SIDES]; /* SSL_get_error() of the last call */
	struct asked asked[8];
	size_t asked_count;
	int refuse; /* errno of ops.sign */
	unsigned int ready[SIDES];
	void *ready_other;
};

static int ask(void *context, uint64_t key, uint32_t serial, const void *digest, size_t size)
{
	struct lab *lab = context;

	if (lab->refuse)
		return -lab->refuse;
	assert_int_equal(size, 32);
	assert_true(lab->asked_count < WEFT_ARRAY_SIZE(lab->asked));
	lab->asked[lab->asked_count].key = key;
	lab->asked[lab->asked_count].serial = serial;
	memcpy(lab->asked[lab->asked_count++].digest, digest, size);
	return 0;
}

static void ready(void *context, void *waiter)
{
	struct lab *lab = context;

	for (int side = 0; side < SIDES; side++)
		if (waiter == &lab->ssl[side]) {
			lab->ready[side]++;
			return;
		}
	lab->ready_other = waiter;
}

static struct weft_trust *trust_of(const struct mint *root)
{
	struct weft_trust *trust = weft_trust_new();
	struct weft_err err = { "" };
	unsigned char *der;
	size_t size = mint_der(root, &der);

	assert_non_null(trust);
	assert_int_equal(weft_trust_add_root(trust, DOMAIN, der, size, &err), 0);
	OPENSSL_free(der);
	return trust;
}

static struct weft_identity *identity_of(struct lab *lab, const char *id, const struct mint *leaf, uint64_t key)
{
	struct weft_identity *identity = NULL;
	struct weft_err err = { "" };
	unsigned char *der;
	struct weft_der chain = { .size = mint_der(leaf, &der) };
	EVP_PKEY *remote;

	chain.data = der;
	assert_int_equal(weft_remote_key_new(lab->keys, key, leaf->certificate, &remote, &err), 0);
	if (weft_identity_new(id, &chain, 1, remote, lab->trust, &identity, &err) < 0)
		fail_msg("%s", err.text);
	EVP_PKEY_free(remote);
	OPENSSL_free(der);
	return identity;
}

static void use_sockets(struct lab *lab)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, lab->sock), 0);
	for (int side = 0; side < SIDES; side++)
		assert_int_equal(SSL_set_fd(lab->ssl[side], lab->sock[side]), 1);
}

static void open_pair(struct lab *lab, const char *const *expected)
{
	assert_int_equal(weft_identity_client(lab->identity[CLIENT], expected, &lab->ssl[CLIENT]), 0);
	assert_int_equal(weft_identity_server(lab->identity[SERVER], &lab->ssl[SERVER]), 0);
	use_sockets(lab);
}

static int set_up(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct weft_remote_ops ops = { .sign = ask, .ready = ready, .context = lab };
	struct weft_err err = { "" };

	assert_non_null(lab);
	lab->sock[CLIENT] = lab->sock[SERVER] = -1;
	lab->root = mint(NULL, "root of a test", 3600);
	lab->leaf[CLIENT] = mint(&lab->root, ALICE, 3600);
	lab->leaf[SERVER] = mint(&lab->root, BOB, 3600);
	assert_int_equal(weft_remote_keys_new(&ops, &lab->keys, &err), 0);
	lab->trust = trust_of(&lab->root);
	lab->identity[CLIENT] = identity_of(lab, ALICE, &lab->leaf[CLIENT], 100);
	lab->identity[SERVER] = identity_of(lab, BOB, &lab->leaf[SERVER], 200);
	*state = lab;
	return 0;
}

static void close_pair(struct lab *lab)
{
	for (int side = 0; side < SIDES; side++) {
		if (lab->keys)
			weft_remote_forget(lab->keys, &lab->ssl[side]);
		SSL_free(lab->ssl[side]);
		lab->ssl[side] = NULL;
		lab->result[side] = SSL_ERROR_NONE;
		if (lab->sock[side] >= 0)
			close(lab->sock[side]);
		lab->sock[side] = -1;
	}
}

static int tear_down(void **state)
{
	struct lab *lab = *state;

	close_pair(lab);
	for (int side = 0; side < SIDES; side++) {
		weft_identity_unref(lab->identity[side]);
		mint_done(&lab->leaf[side]);
	}
	weft_remote_keys_free(lab->keys);
	weft_trust_unref(lab->trust);
	mint_done(&lab->root);
	free(lab);
	return 0;
}

/* One call of each side that has something to do. */
static void step(struct lab *lab, int side)
{
	int r;

	if (lab->result[side] == SSL_ERROR_SSL)
		return; /* it is over */
	weft_remote_waiter(lab->keys, &lab->ssl[side]);
	ERR_clear_error();
	r = SSL_do_handshake(lab->ssl[side]);
	lab->result[side] = SSL_get_error(lab->ssl[side], r);
	weft_remote_waiter(lab->keys, NULL);
}

static void steps(struct lab *lab, int count)
{
	while (count-- > 0) {
		step(lab, CLIENT);
		step(lab, SERVER);
	}
}

static void answer(struct lab *lab, size_t at)
{
	EVP_PKEY *key = lab->asked[at].key == 100 ? lab->leaf[CLIENT].key : lab->leaf[SERVER].key;
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
	unsigned char signature[128];
	size_t size = sizeof(signature);

	assert_int_equal(EVP_PKEY_sign_init(context), 1);
	assert_int_equal(EVP_PKEY_sign(context, signature, &size, lab->asked[at].digest, 32), 1);
	EVP_PKEY_CTX_free(context);
	weft_remote_signed(lab->keys, lab->asked[at].serial, 0, signature, size);
}

static void shake_hands(struct lab *lab)
{
	for (size_t round = 0, done = 0; round < 8; round++) {
		steps(lab, 1);
		while (done < lab->asked_count)
			answer(lab, done++);
	}
}

static void assert_open(struct lab *lab)
{
	for (int side = 0; side < SIDES; side++)
		if (lab->result[side] != SSL_ERROR_NONE)
			fail_msg("side %d: error %d, %s; %s", side, lab->result[side], weft_identity_refusal(lab->ssl[side]),
				 ERR_reason_error_string(ERR_peek_error()) ?: "");
}

static void test_handshake(void **state)
{
	static const char *const expected[] = { "spiffe://cluster.local/ns/shop/sa/carol", BOB, NULL };
	struct lab *lab = *state;
	char room[8];

	open_pair(lab, expected);
	assert_null(weft_identity_peer(lab->ssl[CLIENT]));
	steps(lab, 4);
	/* The server asked first and is paused, however often it is called. */
	assert_int_equal(lab->asked_count, 1);
	assert_int_equal(lab->asked[0].key, 200);
	assert_int_equal(lab->result[SERVER], SSL_ERROR_WANT_ASYNC);
	assert_int_equal(lab->result[CLIENT], SSL_ERROR_WANT_READ);
	answer(lab, 0);
	assert_int_equal(lab->ready[SERVER], 1);
	answer(lab, 0); /* once more: nobody waits for it now, it is ignored */
	assert_int_equal(lab->ready[SERVER], 1);
	steps(lab, 3);
	assert_int_equal(lab->asked_count, 2);
	assert_int_equal(lab->asked[1].key, 100);
	assert_int_not_equal(lab->asked[0].serial, lab->asked[1].serial);
	assert_int_equal(lab->result[CLIENT], SSL_ERROR_WANT_ASYNC);
	answer(lab, 1);
	assert_int_equal(lab->ready[CLIENT], 1);
	steps(lab, 2);
	assert_open(lab);
	assert_string_equal(weft_identity_peer(lab->ssl[CLIENT]), BOB);
	assert_string_equal(weft_identity_peer(lab->ssl[SERVER]), ALICE);
	assert_string_equal(weft_identity_refusal(lab->ssl[SERVER]), "");
	assert_string_equal(SSL_get_version(lab->ssl[CLIENT]), "TLSv1.3");
	assert_string_equal(SSL_get_cipher_name(lab->ssl[CLIENT]), "TLS_AES_128_GCM_SHA256");
	/* Reads and writes are no jobs. */
	assert_false(SSL_get_mode(lab->ssl[SERVER]) & SSL_MODE_ASYNC);
	assert_int_equal(SSL_write(lab->ssl[CLIENT], "ping", 4), 4);
	assert_int_equal(SSL_read(lab->ssl[SERVER], room, sizeof(room)), 4);
	assert_memory_equal(room, "ping", 4);
	/* No ticket came with the handshake. */
	assert_int_equal(SSL_read(lab->ssl[CLIENT], room, sizeof(room)), -1);
	assert_false(SSL_SESSION_has_ticket(SSL_get_session(lab->ssl[CLIENT])));
	assert_int_equal(SSL_session_reused(lab->ssl[CLIENT]), 0);
}

static void test_no_resumption(void **state)
{
	struct lab *lab = *state;
	SSL_SESSION *session;

	open_pair(lab, NULL);
	shake_hands(lab);
	assert_open(lab);
	session = SSL_get1_session(lab->ssl[CLIENT]);
	close_pair(lab);
	lab->asked_count = 0;
	open_pair(lab, NULL);
	SSL_set_session(lab->ssl[CLIENT], session);
	shake_hands(lab);
	assert_open(lab);
	assert_int_equal(lab->asked_count, 2); /* both signed again */
	assert_int_equal(SSL_session_reused(lab->ssl[SERVER]), 0);
	SSL_SESSION_free(session);
}

static void test_unexpected_server(void **state)
{
	static const char *const expected[] = { ALICE, NULL };
	struct lab *lab = *state;

	open_pair(lab, expected);
	shake_hands(lab);
	assert_int_equal(lab->result[CLIENT], SSL_ERROR_SSL);
	assert_int_equal(lab->result[SERVER], SSL_ERROR_SSL);
	assert_null(weft_identity_peer(lab->ssl[CLIENT]));
	assert_contains(weft_identity_refusal(lab->ssl[CLIENT]), "the peer is " BOB ", expected " ALICE);
	assert_string_equal(weft_identity_refusal(lab->ssl[SERVER]), "");
}

static void test_untrusted_client(void **state)
{
	struct lab *lab = *state;
	struct mint stranger = mint(NULL, "another root", 3600), leaf = mint(&stranger, ALICE, 3600);

	weft_identity_unref(lab->identity[CLIENT]);
	mint_done(&lab->leaf[CLIENT]);
	lab->leaf[CLIENT] = leaf;
	lab->identity[CLIENT] = identity_of(lab, ALICE, &leaf, 100);
	open_pair(lab, NULL);
	shake_hands(lab);
	assert_int_equal(lab->result[SERVER], SSL_ERROR_SSL);
	assert_null(weft_identity_peer(lab->ssl[SERVER]));
	assert_string_not_equal(weft_identity_refusal(lab->ssl[SERVER]), "");
	mint_done(&stranger);
}

/* A client of another make, for what ours never does. */
static void foreign_client(struct lab *lab, bool certificate, const char *alpn, int version)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_max_proto_version(context, version);
	if (certificate) {
		assert_int_equal(SSL_CTX_use_certificate(context, lab->leaf[CLIENT].certificate), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey(context, lab->leaf[CLIENT].key), 1);
	}
	lab->ssl[CLIENT] = SSL_new(context);
	SSL_CTX_free(context);
	SSL_set_connect_state(lab->ssl[CLIENT]);
	if (alpn)
		assert_int_equal(SSL_set_alpn_protos(lab->ssl[CLIENT], (const unsigned char *)alpn, (unsigned int)strlen(alpn)), 0);
	assert_int_equal(weft_identity_server(lab->identity[SERVER], &lab->ssl[SERVER]), 0);
	use_sockets(lab);
}

static void test_foreign_clients(void **state)
{
	static const struct {
		bool certificate;
		const char *alpn;
		int version;
		const char *refusal; /* NULL: taken */
	} clients[] = {
		{ true, "\x02h2", TLS1_3_VERSION, NULL },
		{ true, "\x08http/1.1\x02h2", TLS1_3_VERSION, NULL },
		{ false, "\x02h2", TLS1_3_VERSION, "" },
		{ true, "\x02h2", TLS1_2_VERSION, "" },
		{ true, "\x08http/1.1", TLS1_3_VERSION, "does not speak h2" },
		{ true, NULL, TLS1_3_VERSION, "does not speak h2" },
	};
	struct lab *lab = *state;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(clients); i++) {
		foreign_client(lab, clients[i].certificate, clients[i].alpn, clients[i].version);
		lab->asked_count = 0;
		shake_hands(lab);
		if (!clients[i].refusal) {
			assert_open(lab);
			assert_string_equal(weft_identity_peer(lab->ssl[SERVER]), ALICE);
		} else {
			assert_int_equal(lab->result[SERVER], SSL_ERROR_SSL);
			assert_null(weft_identity_peer(lab->ssl[SERVER]));
			assert_contains(weft_identity_refusal(lab->ssl[SERVER]), clients[i].refusal);
		}
		close_pair(lab);
	}
}

static void test_key_updates(void **state)
{
	struct lab *lab = *state;
	char room[8];
	int r = 1;

	foreign_client(lab, true, "\x02h2", TLS1_3_VERSION);
	shake_hands(lab);
	assert_open(lab);
	for (int i = 0; i < 64 && r > 0; i++) {
		assert_int_equal(SSL_key_update(lab->ssl[CLIENT], SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		assert_int_equal(SSL_write(lab->ssl[CLIENT], "x", 1), 1);
		r = SSL_read(lab->ssl[SERVER], room, sizeof(room));
		if (r > 0)
			assert_true(i < 32);
		else
			assert_int_equal(i, 32);
	}
	assert_int_equal(SSL_get_error(lab->ssl[SERVER], r), SSL_ERROR_ZERO_RETURN);
	assert_contains(weft_identity_refusal(lab->ssl[SERVER]), "changes its keys");
}

static void test_recheck(void **state)
{
	struct lab *lab = *state;
	struct mint stranger = mint(NULL, "another root", 3600);
	struct weft_trust *other = trust_of(&stranger);
	struct weft_err err = { "" };
	time_t now = time(NULL);

	open_pair(lab, NULL);
	assert_int_equal(weft_identity_recheck(lab->ssl[CLIENT], lab->trust, now, &err), -EACCES);
	shake_hands(lab);
	assert_open(lab);
	for (int side = 0; side < SIDES; side++) {
		assert_int_equal(weft_identity_recheck(lab->ssl[side], lab->trust, now, &err), 0);
		assert_int_equal(weft_identity_recheck(lab->ssl[side], lab->trust, now + 4000, &err), 0); /* ended since */
		assert_int_equal(weft_identity_recheck(lab->ssl[side], other, now, &err), -EACCES);
		assert_string_not_equal(err.text, "");
	}
	weft_trust_unref(other);
	mint_done(&stranger);
}

static void test_no_signature(void **state)
{
	struct lab *lab = *state;

	open_pair(lab, NULL);
	steps(lab, 2);
	assert_int_equal(lab->asked_count, 1);
	weft_remote_signed(lab->keys, lab->asked[0].serial, -ENOENT, NULL, 0);
	assert_int_equal(lab->ready[SERVER], 1);
	step(lab, SERVER);
	assert_int_equal(lab->result[SERVER], SSL_ERROR_SSL);
	step(lab, CLIENT);
	assert_int_equal(lab->result[CLIENT], SSL_ERROR_SSL);
}

static void test_wrong_signature(void **state)
{
	struct lab *lab = *state;

	open_pair(lab, NULL);
	steps(lab, 2);
	weft_remote_signed(lab->keys, lab->asked[0].serial, 0, "not DER", 7);
	step(lab, SERVER);
	step(lab, CLIENT);
	assert_int_equal(lab->result[CLIENT], SSL_ERROR_SSL);
	close_pair(lab);

	lab->asked_count = 0;
	open_pair(lab, NULL);
	steps(lab, 2);
	weft_remote_signed(lab->keys, lab->asked[0].serial, 0, "", 0);
	step(lab, SERVER);
	assert_int_equal(lab->result[SERVER], SSL_ERROR_SSL);
}

static void test_cannot_ask(void **state)
{
	struct lab *lab = *state;

	lab->refuse = EPIPE;
	open_pair(lab, NULL);
	steps(lab, 2);
	assert_int_equal(lab->result[SERVER], SSL_ERROR_SSL);
	assert_int_equal(lab->asked_count, 0);
}

static void test_keys_lost(void **state)
{
	struct lab *lab = *state;

	open_pair(lab, NULL);
	steps(lab, 2);
	assert_int_equal(lab->result[SERVER], SSL_ERROR_WANT_ASYNC);
	weft_remote_lost(lab->keys);
	weft_remote_lost(lab->keys);
	assert_int_equal(lab->ready[SERVER], 1);
	answer(lab, 0); /* too late */
	step(lab, SERVER);
	assert_int_equal(lab->result[SERVER], SSL_ERROR_SSL);
	close_pair(lab);
	/* The next one is asked for anew. */
	lab->asked_count = 0;
	open_pair(lab, NULL);
	shake_hands(lab);
	assert_open(lab);
}

/* Leaks show in the sanitized build: a job that is never resumed keeps its stack. */
static void test_waiter_goes_while_paused(void **state)
{
	struct lab *lab = *state;

	for (int i = 0; i < 20; i++) {
		lab->asked_count = 0;
		open_pair(lab, NULL);
		steps(lab, 2);
		assert_int_equal(lab->result[SERVER], SSL_ERROR_WANT_ASYNC);
		weft_remote_forget(lab->keys, &lab->ssl[SERVER]);
		SSL_free(lab->ssl[SERVER]);
		lab->ssl[SERVER] = NULL;
		answer(lab, 0); /* nobody's now */
		assert_int_equal(lab->ready[SERVER], 0);
		close_pair(lab);
	}
}

static void test_keys_freed_while_paused(void **state)
{
	struct lab *lab = *state;

	open_pair(lab, NULL);
	steps(lab, 2);
	assert_int_equal(lab->result[SERVER], SSL_ERROR_WANT_ASYNC);
	lab->keys = weft_remote_keys_free(lab->keys);
	SSL_free(lab->ssl[SERVER]);
	lab->ssl[SERVER] = NULL;
	/* Keys that are still there only refuse. */
	assert_int_equal(weft_identity_server(lab->identity[SERVER], &lab->ssl[SERVER]), 0);
	SSL_free(lab->ssl[CLIENT]);
	close(lab->sock[CLIENT]);
	close(lab->sock[SERVER]);
	assert_int_equal(weft_identity_client(lab->identity[CLIENT], NULL, &lab->ssl[CLIENT]), 0);
	use_sockets(lab);
	SSL_do_handshake(lab->ssl[CLIENT]);
	assert_int_equal(SSL_get_error(lab->ssl[SERVER], SSL_do_handshake(lab->ssl[SERVER])), SSL_ERROR_SSL);
	ERR_clear_error();
}

static void test_many_at_once(void **state)
{
	struct lab *lab = *state;
	SSL *client[4], *server[4];
	int sock[2];

	for (int i = 0; i < 4; i++) {
		assert_int_equal(weft_identity_client(lab->identity[CLIENT], NULL, &client[i]), 0);
		assert_int_equal(weft_identity_server(lab->identity[SERVER], &server[i]), 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sock), 0);
		/* SSL_set_fd() does not close; these do at SSL_free(). */
		SSL_set_bio(client[i], BIO_new_socket(sock[0], BIO_CLOSE), NULL);
		SSL_set0_wbio(client[i], SSL_get_rbio(client[i]));
		BIO_up_ref(SSL_get_rbio(client[i]));
		SSL_set_bio(server[i], BIO_new_socket(sock[1], BIO_CLOSE), NULL);
		SSL_set0_wbio(server[i], SSL_get_rbio(server[i]));
		BIO_up_ref(SSL_get_rbio(server[i]));
		SSL_do_handshake(client[i]);
		weft_remote_waiter(lab->keys, &server[i]);
		assert_int_equal(SSL_get_error(server[i], SSL_do_handshake(server[i])), SSL_ERROR_WANT_ASYNC);
	}
	assert_int_equal(lab->asked_count, 4);
	/* Answered in another order than asked, each wakes its own. */
	for (int i = 3; i >= 0; i--) {
		answer(lab, (size_t)i);
		assert_ptr_equal(lab->ready_other, &server[i]);
		assert_int_equal(SSL_get_error(server[i], SSL_do_handshake(server[i])), SSL_ERROR_WANT_READ);
	}
	for (int i = 0; i < 4; i++) {
		weft_remote_waiter(lab->keys, &client[i]);
		assert_int_equal(SSL_get_error(client[i], SSL_do_handshake(client[i])), SSL_ERROR_WANT_ASYNC);
		answer(lab, 4u + (size_t)i);
		assert_int_equal(SSL_do_handshake(client[i]), 1);
		assert_int_equal(SSL_do_handshake(server[i]), 1);
		SSL_free(client[i]);
		SSL_free(server[i]);
	}
}

static void test_identity_refused(void **state)
{
	struct lab *lab = *state;
	struct weft_identity *identity = NULL;
	struct weft_err err = { "" };
	struct weft_der chain[WEFT_TRUST_MAX_CHAIN + 1];
	unsigned char *der, *other;
	size_t size = mint_der(&lab->leaf[CLIENT], &der), other_size = mint_der(&lab->leaf[SERVER], &other);
	EVP_PKEY *remote, *ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	X509 *strange = X509_new();

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(chain); i++)
		chain[i] = (struct weft_der){ der, size };
	assert_int_equal(weft_remote_key_new(lab->keys, 1, lab->leaf[CLIENT].certificate, &remote, &err), 0);
	assert_int_equal(weft_identity_new(ALICE, chain, 0, remote, lab->trust, &identity, &err), -EINVAL);
	assert_int_equal(weft_identity_new(ALICE, chain, WEFT_ARRAY_SIZE(chain), remote, lab->trust, &identity, &err), -EINVAL);
	chain[0].size--;
	assert_int_equal(weft_identity_new(ALICE, chain, 1, remote, lab->trust, &identity, &err), -EINVAL);
	assert_contains(err.text, ALICE);
	chain[0] = (struct weft_der){ other, other_size };
	assert_int_equal(weft_identity_new(ALICE, chain, 1, remote, lab->trust, &identity, &err), -EINVAL);
	assert_contains(err.text, "the key is not that of the certificate");
	assert_null(identity);
	X509_set_pubkey(strange, ed25519);
	assert_int_equal(weft_remote_key_new(lab->keys, 1, strange, &remote, &err), -EINVAL);
	assert_contains(err.text, "no P-256 key");
	EVP_PKEY_free(remote);
	EVP_PKEY_free(ed25519);
	X509_free(strange);
	OPENSSL_free(der);
	OPENSSL_free(other);
}

static void test_key_has_no_private_half(void **state)
{
	struct lab *lab = *state;
	unsigned char *der = NULL;
	struct weft_err err = { "" };
	EVP_PKEY *remote;
	BIGNUM *scalar = NULL;

	assert_int_equal(weft_remote_key_new(lab->keys, 1, lab->leaf[CLIENT].certificate, &remote, &err), 0);
	assert_int_equal(EVP_PKEY_get_bn_param(remote, "priv", &scalar), 0);
	assert_true(i2d_PrivateKey(remote, &der) <= 0);
	assert_int_equal(EVP_PKEY_eq(remote, lab->leaf[CLIENT].key), 1);
	assert_int_equal(EVP_PKEY_eq(lab->leaf[CLIENT].key, remote), 1);
	assert_int_not_equal(EVP_PKEY_eq(remote, lab->leaf[SERVER].key), 1);
	EVP_PKEY_free(remote);
	ERR_clear_error();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_handshake, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_resumption, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unexpected_server, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_untrusted_client, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_foreign_clients, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_key_updates, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_recheck, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_signature, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wrong_signature, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cannot_ask, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keys_lost, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_waiter_goes_while_paused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keys_freed_while_paused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_identity_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_key_has_no_private_half, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
