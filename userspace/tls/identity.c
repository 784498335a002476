/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/identity.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdbool.h>
#include <string.h>

#include "tls/pem.h"

#define ALPN "\x02h2"
/*
 * The faster first: `openssl speed -bytes 16384` gave AES-128-GCM 4.6 and AES-256-GCM 3.9 GB/s on one core with AVX-512.
 * A peer that wants the longer key gets it: a ztunnel offers both (istio/ztunnel:src/tls/lib.rs).
 */
#define SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
#define GROUPS "X25519:P-256"
/* A peer's CertificateVerify, and with rsa_pkcs1_* (RFC 8446 section 4.2.3) the signatures of its chain: istiod's default root is RSA. */
#define SIGNATURES                                                                                                              \
	"ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ed25519:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:" \
	"rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512"
/* Each costs its receiver a key derivation and nothing its sender; TLS needs one in 2^24.5 records (RFC 8446 section 5.5): 400 GB. */
#define KEY_UPDATES_A_MINUTE 32

struct weft_identity {
	unsigned int refs;
	char *id;
	time_t not_after;
	struct weft_trust *trust;
	SSL_CTX *client;
	SSL_CTX *server;
};

/* What we keep with an SSL, and free with it. */
struct connection {
	struct weft_identity *identity;
	bool server;
	char **expected; /* NULL: anybody who is trusted */
	char *peer;
	struct weft_err refusal;
	time_t minute;
	unsigned int key_updates;
};

static void connection_free(struct connection *connection)
{
	if (!connection)
		return;
	for (size_t i = 0; connection->expected && connection->expected[i]; i++)
		free(connection->expected[i]);
	free(connection->expected);
	free(connection->peer);
	weft_identity_unref(connection->identity);
	free(connection);
}

static void ex_free(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long argument, void *pointer)
{
	(void)parent;
	(void)all;
	(void)index;
	(void)argument;
	(void)pointer;
	connection_free(data);
}

static int slot(void)
{
	static int index = -1;

	if (index < 0)
		index = SSL_get_ex_new_index(0, NULL, NULL, NULL, ex_free);
	return index;
}

static struct connection *connection_of(const SSL *ssl)
{
	return SSL_get_ex_data(ssl, slot());
}

/* ---- during the handshake ---- */

static bool is_h2(const SSL *ssl)
{
	const unsigned char *name;
	unsigned int size;

	SSL_get0_alpn_selected(ssl, &name, &size);
	return size == sizeof(ALPN) - 2 && memcmp(name, &ALPN[1], size) == 0;
}

static int refuse_unexpected(struct connection *connection, const char *id)
{
	if (!connection->expected)
		return 0;
	for (size_t i = 0; connection->expected[i]; i++)
		if (strcmp(connection->expected[i], id) == 0)
			return 0;
	return weft_err_set(&connection->refusal, EACCES, "the peer is %s, expected %s%s", id,
			    connection->expected[0] ? connection->expected[0] : "nobody",
			    connection->expected[0] && connection->expected[1] ? " or another of its service" : "");
}

/* In place of X509_verify_cert(): 1 or 0 with the store's error set, which becomes the alert. */
static int verify(X509_STORE_CTX *store, void *context)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct connection *connection = connection_of(ssl);
	weft_free_on_exit char *id = NULL;
	int r;

	(void)context;
	/* Both sides know by now what was chosen, and a peer that names no protocol at all is asked nowhere else. */
	if (!is_h2(ssl))
		r = weft_err_set(&connection->refusal, EACCES, "the peer does not speak h2, it is no HBONE agent");
	else
		r = weft_trust_verify(connection->identity->trust, X509_STORE_CTX_get0_cert(store), X509_STORE_CTX_get0_untrusted(store),
				      connection->server ? WEFT_TRUST_CLIENT : WEFT_TRUST_SERVER, time(NULL), &id, &connection->refusal);
	if (r == 0)
		r = refuse_unexpected(connection, id);
	if (r < 0) {
		X509_STORE_CTX_set_error(store, r == -ENOMEM ? X509_V_ERR_OUT_OF_MEM : X509_V_ERR_CERT_REJECTED);
		return 0;
	}
	free(connection->peer);
	connection->peer = weft_take_ptr(id);
	X509_STORE_CTX_set_error(store, X509_V_OK);
	return 1;
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in, unsigned int in_size,
			   void *context)
{
	(void)context;
	if (SSL_select_next_proto((unsigned char **)out, out_size, (const unsigned char *)ALPN, sizeof(ALPN) - 1, in, in_size) ==
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_OK;
	weft_err_set(&connection_of(ssl)->refusal, EACCES, "the peer does not speak h2, it is no HBONE agent");
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Nothing is signed after the handshake: from here on reads and writes need no job and no stack of their own. */
static void watch_state(const SSL *ssl, int where, int value)
{
	(void)value;
	if (where & SSL_CB_HANDSHAKE_DONE)
		SSL_clear_mode((SSL *)ssl, SSL_MODE_ASYNC);
}

static void watch_messages(int sent, int version, int type, const void *data, size_t size, SSL *ssl, void *context)
{
	struct connection *connection;
	time_t now;

	(void)version;
	(void)context;
	if (sent || type != SSL3_RT_HANDSHAKE || size == 0 || *(const unsigned char *)data != SSL3_MT_KEY_UPDATE)
		return;
	connection = connection_of(ssl);
	now = time(NULL);
	if (now < connection->minute || now - connection->minute >= 60) {
		connection->minute = now;
		connection->key_updates = 0;
	}
	if (++connection->key_updates <= KEY_UPDATES_A_MINUTE)
		return;
	weft_err_set(&connection->refusal, EACCES, "the peer changes its keys more than %d times a minute", KEY_UPDATES_A_MINUTE);
	/* What a callback can do to end a connection: to its reader it looks closed. */
	SSL_set_shutdown(ssl, SSL_get_shutdown(ssl) | SSL_RECEIVED_SHUTDOWN);
}

/* ---- an identity ---- */

static SSL_CTX *context_new(const SSL_METHOD *method)
{
	SSL_CTX *context = SSL_CTX_new(method);

	if (!context)
		return NULL;
	SSL_CTX_set_mode(context, SSL_MODE_ASYNC | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					  SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_cert_list(context, WEFT_TRUST_MAX_CHAIN * WEFT_TRUST_MAX_CERT);
	SSL_CTX_set_info_callback(context, watch_state);
	SSL_CTX_set_msg_callback(context, watch_messages);
	SSL_CTX_set_cert_verify_callback(context, verify, NULL);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
	/* SSL_CTX_set_alpn_protos() alone says 0 for success. */
	if (!SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) || !SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(context, SUITES) || !SSL_CTX_set1_groups_list(context, GROUPS) ||
	    !SSL_CTX_set1_sigalgs_list(context, SIGNATURES) || !SSL_CTX_set_num_tickets(context, 0) ||
	    SSL_CTX_set_alpn_protos(context, (const unsigned char *)ALPN, sizeof(ALPN) - 1) != 0) {
		SSL_CTX_free(context);
		return NULL;
	}
	return context;
}

static void x509_freep(X509 **certificate)
{
	X509_free(*certificate);
}

static int read_certificate(const struct weft_der *der, X509 **ret_certificate)
{
	const unsigned char *at = der->data;
	X509 *certificate;

	if (der->size > WEFT_TRUST_MAX_CERT)
		return -EINVAL;
	certificate = d2i_X509(NULL, &at, (long)der->size);
	if (!certificate || at != (const unsigned char *)der->data + der->size) {
		X509_free(certificate);
		return -EINVAL;
	}
	*ret_certificate = certificate;
	return 0;
}

static int use_certificate(struct weft_identity *identity, size_t at, X509 *certificate, EVP_PKEY *key, struct weft_err *err)
{
	SSL_CTX *const contexts[] = { identity->client, identity->server };
	struct tm end;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(contexts); i++) {
		if (at > 0) {
			if (!SSL_CTX_add1_chain_cert(contexts[i], certificate))
				return weft_err_set(err, EINVAL, "%s: OpenSSL does not take certificate %zu of the chain", identity->id, at);
			continue;
		}
		if (SSL_CTX_use_certificate(contexts[i], certificate) != 1)
			return weft_err_set(err, EINVAL, "%s: OpenSSL does not take the certificate", identity->id);
		if (SSL_CTX_use_PrivateKey(contexts[i], key) != 1)
			return weft_err_set(err, EINVAL, "%s: the key is not that of the certificate", identity->id);
	}
	if (at > 0)
		return 0;
	if (!ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end))
		return weft_err_set(err, EINVAL, "%s: the certificate does not say when it ends", identity->id);
	identity->not_after = timegm(&end);
	return 0;
}

int weft_identity_new(const char *id, const struct weft_der *chain, size_t count, EVP_PKEY *key, struct weft_trust *trust,
		      struct weft_identity **ret_identity, struct weft_err *err)
{
	weft_cleanup(weft_identity_unrefp) struct weft_identity *identity = NULL;

	if (count == 0 || count > WEFT_TRUST_MAX_CHAIN)
		return weft_err_set(err, EINVAL, "%s: a chain has 1 to %d certificates, this one %zu", id, WEFT_TRUST_MAX_CHAIN, count);
	identity = calloc(1, sizeof(*identity));
	if (!identity)
		return weft_err_set(err, ENOMEM, "out of memory");
	identity->refs = 1;
	identity->id = strdup(id);
	identity->trust = weft_trust_ref(trust);
	identity->client = context_new(TLS_client_method());
	identity->server = context_new(TLS_server_method());
	if (!identity->id || !identity->client || !identity->server || slot() < 0)
		return weft_err_set(err, ENOMEM, "out of memory, or this OpenSSL lacks TLS 1.3, AES-GCM or X25519");
	for (size_t i = 0; i < count; i++) {
		weft_cleanup(x509_freep) X509 *certificate = NULL;
		int r = read_certificate(&chain[i], &certificate);

		if (r < 0)
			return weft_err_set(err, r, "%s: certificate %zu of the chain is not DER of at most %d bytes", id, i,
					    WEFT_TRUST_MAX_CERT);
		r = use_certificate(identity, i, certificate, key, err);
		ERR_clear_error();
		if (r < 0)
			return r;
	}
	*ret_identity = weft_take_ptr(identity);
	return 0;
}

struct weft_identity *weft_identity_ref(struct weft_identity *identity)
{
	if (identity)
		identity->refs++;
	return identity;
}

struct weft_identity *weft_identity_unref(struct weft_identity *identity)
{
	if (!identity || --identity->refs > 0)
		return NULL;
	SSL_CTX_free(identity->client);
	SSL_CTX_free(identity->server);
	weft_trust_unref(identity->trust);
	free(identity->id);
	free(identity);
	return NULL;
}

const char *weft_identity_id(const struct weft_identity *identity)
{
	return identity->id;
}

time_t weft_identity_not_after(const struct weft_identity *identity)
{
	return identity->not_after;
}

/* ---- a connection ---- */

static int copy_expected(struct connection *connection, const char *const *expected)
{
	size_t count = 0;

	if (!expected)
		return 0;
	while (expected[count])
		count++;
	connection->expected = calloc(count + 1, sizeof(*connection->expected));
	for (size_t i = 0; connection->expected && i < count; i++) {
		connection->expected[i] = strdup(expected[i]);
		if (!connection->expected[i])
			return -ENOMEM;
	}
	return connection->expected ? 0 : -ENOMEM;
}

static int open_connection(struct weft_identity *identity, bool server, const char *const *expected, SSL **ret_ssl)
{
	SSL *ssl = SSL_new(server ? identity->server : identity->client);
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!ssl || !connection || copy_expected(connection, expected) < 0 || !SSL_set_ex_data(ssl, slot(), connection)) {
		connection_free(connection);
		SSL_free(ssl);
		return -ENOMEM;
	}
	connection->identity = weft_identity_ref(identity);
	connection->server = server;
	if (server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	*ret_ssl = ssl;
	return 0;
}

int weft_identity_client(struct weft_identity *identity, const char *const *expected, SSL **ret_ssl)
{
	return open_connection(identity, false, expected, ret_ssl);
}

int weft_identity_server(struct weft_identity *identity, SSL **ret_ssl)
{
	return open_connection(identity, true, NULL, ret_ssl);
}

const char *weft_identity_peer(const SSL *ssl)
{
	return SSL_is_init_finished(ssl) ? connection_of(ssl)->peer : NULL;
}

const char *weft_identity_refusal(const SSL *ssl)
{
	return connection_of(ssl)->refusal.text;
}

static time_t earlier(time_t one, const X509 *certificate)
{
	time_t end = weft_pem_time(X509_get0_notAfter(certificate));

	return end < one ? end : one;
}

int weft_identity_recheck(const SSL *ssl, const struct weft_trust *trust, time_t now, struct weft_err *err)
{
	const struct connection *connection = connection_of(ssl);
	X509 *leaf = SSL_get0_peer_certificate(ssl);
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
	weft_free_on_exit char *id = NULL;
	int r;

	if (!leaf || !connection->peer)
		return weft_err_set(err, EACCES, "the peer has shown no certificate yet");
	/* That it ended since is what certificates do: whoever showed it has another by now, and a stolen one is revoked. */
	now = earlier(now, leaf);
	for (int i = 0; i < sk_X509_num(chain); i++)
		now = earlier(now, sk_X509_value(chain, i));
	r = weft_trust_verify(trust, leaf, chain, connection->server ? WEFT_TRUST_CLIENT : WEFT_TRUST_SERVER, now,
			      &id, err);
	if (r < 0)
		return r;
	return strcmp(id, connection->peer) == 0 ? 0 : weft_err_set(err, EACCES, "the peer's certificate names another id than it did");
}
