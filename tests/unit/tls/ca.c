/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "tls/ca.h"
#include "tls/cert.h"
#include "tls/files.h"
#include "tls/key.h"
#include "tls/pem.h"
#include "unit/tls/mint.h"

#define ID "spiffe://cluster.local/ns/shop/sa/cart"

struct lab {
	char path[2][64];
	int dir[2]; /* of two nodes */
	sd_event *loop;
	struct weft_signer *signer[2];
	/* of the last answer */
	unsigned int answers;
	int error;
	X509 *chain[WEFT_TRUST_MAX_CHAIN];
	size_t count;
	EVP_PKEY *key;
	unsigned int changes;
};

static void forget(struct lab *lab)
{
	for (size_t i = 0; i < lab->count; i++)
		X509_free(lab->chain[i]);
	EVP_PKEY_free(lab->key);
	lab->key = NULL;
	lab->count = 0;
}

static void answered(void *context, const char *id, int error, const struct weft_signer_answer *answer, const struct weft_err *err)
{
	struct lab *lab = context;

	(void)err;
	assert_string_equal(id, ID);
	forget(lab);
	lab->answers++;
	lab->error = error;
	for (; !error && lab->count < answer->count; lab->count++) {
		const unsigned char *at = answer->chain[lab->count].data;

		lab->chain[lab->count] = d2i_X509(NULL, &at, (long)answer->chain[lab->count].size);
		assert_non_null(lab->chain[lab->count]);
	}
	if (!error && answer->key && EVP_PKEY_up_ref(answer->key))
		lab->key = answer->key;
}

static void changed(void *context)
{
	((struct lab *)context)->changes++;
}

static const struct weft_signer_events *events_of(struct lab *lab)
{
	static struct weft_signer_events events;

	events = (struct weft_signer_events){ answered, changed, lab };
	return &events;
}

static int set_up(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct weft_err err;

	assert_non_null(lab);
	assert_int_equal(weft_key_heap(&err) < 0, 0);
	for (int node = 0; node < 2; node++) {
		snprintf(lab->path[node], sizeof(lab->path[node]), "/tmp/weft-unit-ca.XXXXXX");
		assert_non_null(mkdtemp(lab->path[node]));
		lab->dir[node] = open(lab->path[node], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	assert_true(sd_event_new(&lab->loop) >= 0);
	*state = lab;
	return 0;
}

static void remove_all(const char *path)
{
	char command[160];

	snprintf(command, sizeof(command), "rm -rf -- '%s'", path);
	assert_int_equal(system(command), 0);
}

static int tear_down(void **state)
{
	struct lab *lab = *state;

	forget(lab);
	for (int node = 0; node < 2; node++) {
		weft_signer_free(lab->signer[node]);
		close(lab->dir[node]);
		remove_all(lab->path[node]);
	}
	sd_event_unref(lab->loop);
	free(lab);
	return 0;
}

static void start(struct lab *lab, int node)
{
	struct weft_err err = { "" };

	if (weft_ca_signer_new(lab->loop, lab->dir[node], "cluster.local", events_of(lab), &lab->signer[node], &err) < 0)
		fail_msg("%s", err.text);
}

static void not_started(struct lab *lab, int node, const char *domain, int error, const char *needle)
{
	struct weft_err err = { "" };

	assert_int_equal(weft_ca_signer_new(lab->loop, lab->dir[node], domain, events_of(lab), &lab->signer[node], &err), error);
	assert_contains(err.text, needle);
}

static void stop(struct lab *lab, int node)
{
	lab->signer[node] = weft_signer_free(lab->signer[node]);
}

/* Runs the loop until the signer has seen what was done to its files. */
static void await_change(struct lab *lab)
{
	unsigned int before = lab->changes;

	for (int i = 0; i < 40 && lab->changes == before; i++)
		sd_event_run(lab->loop, 500000);
	assert_int_equal(lab->changes, before + 1);
}

static void csr_of(EVP_PKEY *key, struct weft_der *ret_csr)
{
	X509_REQ *csr = X509_REQ_new();
	unsigned char *der = NULL;
	int size;

	assert_int_equal(X509_REQ_set_pubkey(csr, key), 1);
	assert_true(X509_REQ_sign(csr, key, EVP_sha256()) > 0);
	size = i2d_X509_REQ(csr, &der);
	assert_true(size > 0);
	X509_REQ_free(csr);
	*ret_csr = (struct weft_der){ der, (size_t)size };
}

static int ask(struct lab *lab, int node, const char *id, uint32_t ttl, struct weft_err *err)
{
	weft_key_on_exit EVP_PKEY *key = NULL;
	struct weft_signer_request request = { .id = id, .ttl_s = ttl };
	struct weft_der csr;
	int r;

	assert_int_equal(weft_key_new(&key, err), 0);
	csr_of(key, &csr);
	request.csr = &csr;
	r = lab->signer[node]->ops->request(lab->signer[node], &request, err);
	OPENSSL_free((void *)csr.data);
	if (r == 0) {
		assert_int_equal(lab->count, 2);
		assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(lab->chain[0]), key), 1);
	}
	return r;
}

static int add_trust(void *context, bool crl, const char *domain, const struct weft_der *der)
{
	struct weft_err err = { "" };
	int r = crl ? weft_trust_add_crl(context, domain, der->data, der->size, &err)
		    : weft_trust_add_root(context, domain, der->data, der->size, &err);

	if (r < 0)
		fail_msg("%s", err.text);
	return r;
}

/* Whether what was answered last is believed by a node, as both sides. */
static int believed_at(struct lab *lab, int node, time_t now, struct weft_err *err)
{
	weft_cleanup(weft_trust_unrefp) struct weft_trust *trust = weft_trust_new();
	STACK_OF(X509) *others = sk_X509_new_null();
	int r = lab->signer[node]->ops->trust(lab->signer[node], add_trust, trust, err);

	for (size_t i = 1; i < lab->count; i++)
		sk_X509_push(others, lab->chain[i]);
	for (enum weft_trust_side side = WEFT_TRUST_CLIENT; r == 0 && side <= WEFT_TRUST_SERVER; side++) {
		weft_free_on_exit char *id = NULL;

		r = weft_trust_verify(trust, lab->chain[0], others, side, now, &id, err);
		if (r == 0)
			assert_string_equal(id, ID);
	}
	sk_X509_free(others);
	return r;
}

static void assert_believed(struct lab *lab, int node)
{
	struct weft_err err = { "" };

	if (believed_at(lab, node, time(NULL), &err) < 0)
		fail_msg("%s", err.text);
}

static void assert_mode(const struct lab *lab, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(lab->dir[0], name, &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_issue(void **state)
{
	struct lab *lab = *state;
	struct weft_err err = { "" };
	time_t now = time(NULL), end;
	char name[160];

	start(lab, 0);
	assert_mode(lab, "root.pem");
	assert_mode(lab, "intermediate.pem");
	assert_int_equal(ask(lab, 0, ID, 30, &err), 0);
	assert_believed(lab, 0);
	end = weft_pem_time(X509_get0_notAfter(lab->chain[0]));
	assert_true(end >= now + 30 && end <= time(NULL) + 30);
	assert_int_equal(believed_at(lab, 0, end + 1, &err), -EACCES);
	assert_true(strlen(weft_cert_name(lab->chain[0], name)) > 0);
	assert_int_equal(lab->signer[0]->ops->state(lab->signer[0], &err), 0);
	/* The CA outlives its signer. */
	stop(lab, 0);
	start(lab, 0);
	assert_believed(lab, 0);
}

static void test_requests_refused(void **state)
{
	static const char *const ids[] = { "spiffe://other.example/ns/shop/sa/cart", "spiffe://cluster.localevil/ns/a/sa/b",
					   "spiffe://cluster/ns/a/sa/b", "spiffe://cluster.local", "https://cluster.local/ns/a/sa/b",
					   "spiffe://cluster.local/ns/a/sa/b,URI:spiffe://cluster.local/x" };
	struct lab *lab = *state;
	struct weft_signer_request request = { .id = ID, .ttl_s = 30 };
	weft_key_on_exit EVP_PKEY *key = NULL;
	struct weft_err err = { "" };
	struct weft_der csr;

	start(lab, 0);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(ids); i++)
		assert_int_equal(ask(lab, 0, ids[i], 30, &err), -EINVAL);
	assert_int_equal(lab->signer[0]->ops->request(lab->signer[0], &request, &err), -EINVAL);
	assert_int_equal(weft_key_new(&key, &err), 0);
	csr_of(key, &csr);
	request.csr = &csr;
	((unsigned char *)csr.data)[csr.size - 1] ^= 1; /* in its signature */
	assert_int_equal(lab->signer[0]->ops->request(lab->signer[0], &request, &err), -EINVAL);
	assert_contains(err.text, "not signed with the key");
	OPENSSL_free((void *)csr.data);
	assert_int_equal(lab->answers, 0);
}

static void test_domain_changed(void **state)
{
	struct lab *lab = *state;

	start(lab, 0);
	stop(lab, 0);
	not_started(lab, 0, "other.example", -EEXIST, "for trust domain cluster.local, the mesh's is other.example");
	not_started(lab, 0, "Not A Domain", -EINVAL, "Not A Domain");
}

static void test_modes(void **state)
{
	struct lab *lab = *state;

	start(lab, 0);
	stop(lab, 0);
	fchmod(lab->dir[0], 0750);
	not_started(lab, 0, "cluster.local", -EPERM, "the CA's folder has mode 0750");
	fchmod(lab->dir[0], 0700);
	fchmodat(lab->dir[0], "intermediate.pem", 0604, 0);
	not_started(lab, 0, "cluster.local", -EPERM, "intermediate.pem has mode 0604");
	fchmodat(lab->dir[0], "intermediate.pem", 0600, 0);
	fchmodat(lab->dir[0], "root.pem", 0640, 0);
	not_started(lab, 0, "cluster.local", -EPERM, "root.pem has mode 0640");
}

static void test_files_damaged(void **state)
{
	struct lab *lab = *state;
	weft_key_on_exit EVP_PKEY *key = NULL;
	struct weft_err err;

	start(lab, 0);
	stop(lab, 0);
	renameat(lab->dir[0], "intermediate.pem", lab->dir[0], "aside");
	not_started(lab, 0, "cluster.local", -EINVAL, "intermediate.pem or the key in it is gone");
	assert_int_equal(symlinkat("aside", lab->dir[0], "intermediate.pem"), 0);
	not_started(lab, 0, "cluster.local", -ELOOP, "intermediate.pem");
	unlinkat(lab->dir[0], "intermediate.pem", 0);
	assert_int_equal(weft_write_file_at(lab->dir[0], "intermediate.pem", "-----BEGIN CERTIFICATE-----\nx", 29, 0600), 0);
	not_started(lab, 0, "cluster.local", -EINVAL, "a certificate does not end");
	/* A certificate with the key of another. */
	renameat(lab->dir[0], "aside", lab->dir[0], "intermediate.pem");
	{
		char *text, *at;
		size_t size, room;

		assert_int_equal(weft_key_read_file(lab->dir[0], "intermediate.pem", &text, &size, &room, &err), 0);
		at = memmem(text, size, "-----BEGIN PRIVATE", 18);
		assert_non_null(at);
		assert_int_equal(weft_key_new(&key, &err), 0);
		size = 0;
		{
			char *pem = weft_key_alloc(WEFT_KEY_PEM_MAX);
			char *both = weft_key_alloc(8192);
			size_t head = (size_t)(at - text);

			assert_int_equal(weft_key_to_pem(key, pem, &size), 0);
			memcpy(both, text, head);
			memcpy(both + head, pem, size);
			assert_int_equal(weft_write_file_at(lab->dir[0], "intermediate.pem", both, head + size, 0600), 0);
			weft_key_free(pem, WEFT_KEY_PEM_MAX);
			weft_key_free(both, 8192);
		}
		weft_key_free(text, room);
	}
	not_started(lab, 0, "cluster.local", -EINVAL, "a key that is not its certificate's");
}

/* What an intermediate signs beyond its constraints nobody believes. */
static void test_intermediate_is_bounded(void **state)
{
	struct lab *lab = *state;
	struct weft_err err = { "" };
	struct mint issuer = { NULL, NULL }, leaf;
	const char *const ids[] = { ID, "spiffe://other.example/ns/shop/sa/cart" };
	X509_STORE *store = X509_STORE_new();
	size_t size, room;
	char *text;

	start(lab, 0);
	assert_int_equal(ask(lab, 0, ID, 30, &err), 0);
	assert_int_equal(weft_key_read_file(lab->dir[0], "intermediate.pem", &text, &size, &room, &err), 0);
	assert_int_equal(weft_key_from_pem(text, size, &issuer.key, &err), 0);
	weft_key_free(text, room);
	issuer.certificate = lab->chain[1];
	assert_int_equal(weft_key_read_file(lab->dir[0], "root.pem", &text, &size, &room, &err), 0);
	{
		weft_pem_done_on_exit struct weft_pem root = { .count = 0 };

		assert_int_equal(weft_pem_read(text, size, "root.pem", &root, &err), 0);
		X509_STORE_add_cert(store, root.certificate[0]);
	}
	weft_key_free(text, room);
	for (int i = 0; i < 2; i++) {
		X509_STORE_CTX *context = X509_STORE_CTX_new();
		STACK_OF(X509) *others = sk_X509_new_null();

		leaf = mint(&issuer, ids[i], 3600);
		sk_X509_push(others, lab->chain[1]);
		X509_STORE_CTX_init(context, store, leaf.certificate, others);
		assert_int_equal(X509_verify_cert(context), i == 0);
		if (i)
			assert_int_equal(X509_STORE_CTX_get_error(context), X509_V_ERR_PERMITTED_VIOLATION);
		X509_STORE_CTX_free(context);
		sk_X509_free(others);
		mint_done(&leaf);
	}
	assert_int_equal(X509_get_pathlen(lab->chain[1]), 0);
	EVP_PKEY_free(issuer.key);
	X509_STORE_free(store);
	ERR_clear_error();
}

static int export(struct lab *lab, time_t now, struct weft_buf *bundle, char *code, char *serial)
{
	struct weft_err err = { "" };
	struct weft_ca_export made;
	int r = weft_ca_export(lab->dir[0], now, bundle, &made, &err);

	if (r < 0)
		fail_msg("%s", err.text);
	assert_string_equal(made.domain, "cluster.local");
	strcpy(code, made.code);
	strcpy(serial, made.serial);
	return r;
}

static void test_join(void **state)
{
	struct lab *lab = *state;
	weft_buf_done_on_exit struct weft_buf bundle = WEFT_BUF_INIT, again = WEFT_BUF_INIT;
	char code[WEFT_CA_CODE_SIZE], serial[41], other_code[WEFT_CA_CODE_SIZE], other_serial[41], domain[256];
	struct weft_ca_export made;
	struct weft_err err = { "" };
	time_t now = time(NULL);

	assert_int_equal(weft_ca_export(lab->dir[0], now, &bundle, &made, &err), -ENOENT);
	assert_int_equal(weft_ca_make(lab->dir[0], "No", now, &err), -EINVAL);
	assert_int_equal(weft_ca_make(lab->dir[0], "cluster.local", now, &err), 0);
	assert_int_equal(weft_ca_make(lab->dir[0], "cluster.local", now, &err), -EEXIST);
	start(lab, 0);
	export(lab, now, &bundle, code, serial);
	export(lab, now, &again, other_code, other_serial);
	assert_string_not_equal(serial, other_serial);
	assert_null(memmem(bundle.data, bundle.size, "PRIVATE", 7));
	assert_int_equal(weft_ca_join(lab->dir[1], now, bundle.data, bundle.size, other_code, domain, &err), -EACCES);
	assert_contains(err.text, "the code is that of another export");
	assert_int_equal(weft_ca_join(lab->dir[1], now, bundle.data, bundle.size, "12", domain, &err), -EINVAL);
	assert_int_equal(weft_ca_join(lab->dir[1], now, bundle.data, bundle.size, "xx", domain, &err), -EINVAL);
	assert_int_equal(weft_ca_join(lab->dir[1], now, "hello", 5, code, domain, &err), -EINVAL);
	for (size_t at = 0; at < bundle.size; at += at < 64 ? 1 : 97) {
		bundle.data[at] ^= 1;
		assert_true(weft_ca_join(lab->dir[1], now, bundle.data, bundle.size, code, domain, &err) < 0);
		bundle.data[at] ^= 1;
	}
	for (size_t size = 0; size < bundle.size; size += 61)
		assert_true(weft_ca_join(lab->dir[1], now, bundle.data, size, code, domain, &err) < 0);
	assert_int_equal(weft_ca_join(lab->dir[1], now + 90000, bundle.data, bundle.size, code, domain, &err), -ESTALE);
	assert_int_equal(faccessat(lab->dir[1], "root.pem", F_OK, 0), -1);
	/* As people type it. */
	for (char *at = code; *at; at++)
		*at = *at == '-' ? ' ' : *at >= 'a' ? (char)(*at - 32) : *at;
	if (weft_ca_join(lab->dir[1], now, bundle.data, bundle.size, code, domain, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(domain, "cluster.local");
	start(lab, 1);
	assert_int_equal(ask(lab, 1, ID, 30, &err), 0);
	assert_believed(lab, 0);
	assert_believed(lab, 1);
	/* The root's key stayed. */
	assert_int_equal(weft_ca_export(lab->dir[1], now, &bundle, &made, &err), -ENOKEY);
	/* Again, for a new intermediate. */
	assert_int_equal(weft_ca_join(lab->dir[1], now, again.data, again.size, other_code, domain, &err), 0);
	await_change(lab);
	/* Over a CA that is not the same: refused, nothing is touched. */
	assert_int_equal(weft_ca_join(lab->dir[0], now, again.data, again.size, other_code, domain, &err), -EEXIST);
	assert_contains(err.text, "a CA of its own for trust domain cluster.local");
}

static void join(struct lab *lab, char *serial)
{
	weft_buf_done_on_exit struct weft_buf bundle = WEFT_BUF_INIT;
	char code[WEFT_CA_CODE_SIZE], domain[256];
	struct weft_err err = { "" };

	export(lab, time(NULL), &bundle, code, serial);
	if (weft_ca_join(lab->dir[1], time(NULL), bundle.data, bundle.size, code, domain, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_revoke(void **state)
{
	struct lab *lab = *state;
	struct weft_err err = { "" };
	char serial[41], own[41] = "";
	time_t now = time(NULL);

	start(lab, 0);
	join(lab, serial);
	start(lab, 1);
	assert_int_equal(ask(lab, 1, ID, 30, &err), 0);
	assert_believed(lab, 0);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, "", &err), -EINVAL);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, "xyz", &err), -EINVAL);
	assert_int_equal(weft_ca_revoke(lab->dir[1], now, serial, &err), -ENOKEY);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, "abcdef", &err), 0);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, serial, &err), 0);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, serial, &err), -EALREADY);
	await_change(lab);
	assert_int_equal(believed_at(lab, 0, now + 1, &err), -EACCES);
	/* Others go on. */
	assert_int_equal(ask(lab, 0, ID, 30, &err), 0);
	assert_believed(lab, 0);
	for (int i = 0; i < X509_get0_serialNumber(lab->chain[1])->length; i++)
		sprintf(own + 2 * i, "%02x", X509_get0_serialNumber(lab->chain[1])->data[i]);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, own, &err), -EINVAL);
}

static void test_rotate(void **state)
{
	struct lab *lab = *state;
	struct weft_err err = { "" };
	time_t now = time(NULL);
	char serial[41];
	bool signs;

	assert_int_equal(weft_ca_rotate(lab->dir[0], now, &signs, &err), -ENOENT);
	start(lab, 0);
	join(lab, serial);
	start(lab, 1);
	assert_int_equal(weft_ca_rotate(lab->dir[1], now, &signs, &err), -ENOKEY);
	/* The next root is believed first, and signs nothing yet. */
	assert_int_equal(weft_ca_rotate(lab->dir[0], now, &signs, &err), 0);
	assert_false(signs);
	await_change(lab);
	assert_int_equal(ask(lab, 0, ID, 30, &err), 0);
	assert_believed(lab, 1);
	join(lab, serial);
	await_change(lab);
	/* Then it signs; the node that joined in between believes it, and is believed with what the old one signed. */
	assert_int_equal(weft_ca_rotate(lab->dir[0], now, &signs, &err), 0);
	assert_true(signs);
	await_change(lab);
	assert_int_equal(ask(lab, 0, ID, 30, &err), 0);
	assert_believed(lab, 0);
	assert_believed(lab, 1);
	assert_int_equal(ask(lab, 1, ID, 30, &err), 0);
	assert_believed(lab, 0);
	join(lab, serial);
	await_change(lab);
	assert_int_equal(ask(lab, 1, ID, 30, &err), 0);
	assert_believed(lab, 0);
	assert_believed(lab, 1);
	assert_int_equal(lab->signer[0]->ops->state(lab->signer[0], &err), 0);
	assert_int_equal(lab->signer[1]->ops->state(lab->signer[1], &err), 0);
}

static int join_as_of(struct lab *lab, const struct weft_buf *bundle, const char *code, struct weft_err *err)
{
	char domain[256];

	return weft_ca_join(lab->dir[1], time(NULL), bundle->data, bundle->size, code, domain, err);
}

static char *file_of(struct lab *lab, int node, const char *name)
{
	struct weft_err err = { "" };
	size_t size, room;
	char *text, *copy;

	if (faccessat(lab->dir[node], name, F_OK, 0) < 0)
		return strdup("");
	assert_int_equal(weft_key_read_file(lab->dir[node], name, &text, &size, &room, &err), 0);
	copy = strndup(text, size);
	assert_non_null(copy);
	weft_key_free(text, room);
	return copy;
}

static const char *const joined[] = { "root.pem", "intermediate.pem", "roots.pem", "crl.pem" };

/* What was exported before this node joined last takes nothing back: no root, no revocation, no certificate. */
static void test_join_older(void **state)
{
	struct lab *lab = *state;
	weft_buf_done_on_exit struct weft_buf older = WEFT_BUF_INIT, newer = WEFT_BUF_INIT;
	char code[WEFT_CA_CODE_SIZE], newer_code[WEFT_CA_CODE_SIZE], serial[41];
	char *before[WEFT_ARRAY_SIZE(joined)];
	struct weft_err err = { "" };
	time_t now = time(NULL);
	bool signs;

	start(lab, 0);
	export(lab, now - 10, &older, code, serial);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now - 5, "abcdef", &err), 0);
	assert_int_equal(weft_ca_rotate(lab->dir[0], now - 5, &signs, &err), 0);
	export(lab, now, &newer, newer_code, serial);
	assert_int_equal(join_as_of(lab, &older, code, &err), 0);
	assert_int_equal(join_as_of(lab, &newer, newer_code, &err), 0);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(joined); i++)
		before[i] = file_of(lab, 1, joined[i]);
	assert_int_equal(join_as_of(lab, &older, code, &err), -ESTALE);
	assert_contains(err.text, "older than the one that this node joined last");
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(joined); i++) {
		weft_free_on_exit char *after = file_of(lab, 1, joined[i]);

		assert_string_not_equal(after, "");
		assert_string_equal(after, before[i]);
		free(before[i]);
	}
	/* The one that it has, once more. */
	assert_int_equal(join_as_of(lab, &newer, newer_code, &err), 0);
}

/* A list that came by hand is newer than the export; once more than a list in the same second. */
static void test_join_older_list(void **state)
{
	struct lab *lab = *state;
	weft_buf_done_on_exit struct weft_buf without = WEFT_BUF_INIT, with_one = WEFT_BUF_INIT, with_two = WEFT_BUF_INIT;
	char code[3][WEFT_CA_CODE_SIZE], serial[41];
	struct weft_err err = { "" };
	time_t now = time(NULL);
	char *list;

	start(lab, 0);
	export(lab, now, &without, code[0], serial);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, "abcdef", &err), 0);
	export(lab, now, &with_one, code[1], serial);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, "abcdee", &err), 0);
	export(lab, now, &with_two, code[2], serial);
	assert_int_equal(join_as_of(lab, &without, code[0], &err), 0);
	list = file_of(lab, 0, "crl.pem");
	assert_int_equal(weft_write_file_at(lab->dir[1], "crl.pem", list, strlen(list), 0600), 0);
	free(list);
	assert_int_equal(join_as_of(lab, &without, code[0], &err), -ESTALE);
	assert_contains(err.text, "an older revocation list than this node's crl.pem");
	assert_int_equal(join_as_of(lab, &with_one, code[1], &err), -ESTALE);
	assert_int_equal(join_as_of(lab, &with_two, code[2], &err), 0);
}

/* At no time between two files a root is missing that signed what is in the other. */
static void test_join_is_believed_in_between(void **state)
{
	struct lab *lab = *state;
	weft_free_on_exit char *root = NULL, *others = NULL;
	struct weft_err err = { "" };
	char serial[41];
	bool signs;

	start(lab, 0);
	join(lab, serial);
	root = file_of(lab, 1, "root.pem");
	for (int i = 0; i < 2; i++)
		assert_int_equal(weft_ca_rotate(lab->dir[0], time(NULL), &signs, &err), 0);
	join(lab, serial);
	/* As if it had ended before the last one. */
	assert_int_equal(weft_write_file_at(lab->dir[1], "root.pem", root, strlen(root), 0600), 0);
	start(lab, 1);
	await_change(lab);
	assert_int_equal(ask(lab, 1, ID, 30, &err), 0);
	assert_believed(lab, 1);
	assert_believed(lab, 0);
}

/* What the root before this one signed is revoked as well; the list holds where clocks are behind. */
static void test_revoke_after_rotation(void **state)
{
	struct lab *lab = *state;
	struct weft_err err = { "" };
	time_t now = time(NULL);
	char serial[41];
	bool signs;

	start(lab, 0);
	join(lab, serial);
	start(lab, 1);
	assert_int_equal(ask(lab, 1, ID, 30, &err), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(weft_ca_rotate(lab->dir[0], now, &signs, &err), 0);
	assert_mode(lab, "old.pem");
	await_change(lab);
	assert_believed(lab, 0);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, serial, &err), 0);
	assert_int_equal(weft_ca_revoke(lab->dir[0], now, serial, &err), -EALREADY);
	await_change(lab);
	assert_int_equal(believed_at(lab, 0, now, &err), -EACCES);
	assert_contains(err.text, "revoked");
	assert_int_equal(ask(lab, 0, ID, 30, &err), 0);
	if (believed_at(lab, 0, time(NULL) - 50, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_damage_while_it_runs(void **state)
{
	struct lab *lab = *state;
	struct weft_err err = { "" };

	start(lab, 0);
	assert_int_equal(weft_write_file_at(lab->dir[0], "intermediate.pem", "nonsense", 8, 0600), 0);
	await_change(lab);
	assert_true(lab->signer[0]->ops->state(lab->signer[0], &err) < 0);
	assert_contains(err.text, "intermediate.pem");
	/* What it had serves on. */
	assert_int_equal(ask(lab, 0, ID, 30, &err), 0);
	assert_believed(lab, 0);
}

/* ---- keys ---- */

static void test_key_pem(void **state)
{
	static const char foreign[] = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
	static const char encrypted[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
	weft_key_on_exit EVP_PKEY *key = NULL, *again = NULL, *theirs = NULL, *from_sec1 = NULL;
	char *pem = weft_key_alloc(WEFT_KEY_PEM_MAX);
	struct weft_err err = { "" };
	size_t size = 0;
	BIO *bio;
	char *data;
	long length;

	(void)state;
	assert_int_equal(weft_key_new(&key, &err), 0);
	assert_int_equal(weft_key_to_pem(key, pem, &size), 0);
	assert_true(size < WEFT_KEY_PEM_MAX);
	assert_int_equal(weft_key_from_pem(pem, size, &again, &err), 0);
	assert_int_equal(EVP_PKEY_eq(key, again), 1);
	/* OpenSSL reads what we write, and we what it writes. */
	bio = BIO_new_mem_buf(pem, (int)size);
	theirs = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	BIO_free(bio);
	assert_non_null(theirs);
	assert_int_equal(EVP_PKEY_eq(key, theirs), 1);
	bio = BIO_new(BIO_s_mem());
	assert_int_equal(PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL), 1);
	length = BIO_get_mem_data(bio, &data);
	assert_int_equal(weft_key_from_pem(data, (size_t)length, &from_sec1, &err), 0);
	assert_int_equal(EVP_PKEY_eq(key, from_sec1), 1);
	BIO_free(bio);
	assert_int_equal(weft_key_from_pem("", 0, &again, &err), -ENOENT);
	assert_int_equal(weft_key_from_pem(foreign, sizeof(foreign) - 1, &again, &err), -EINVAL);
	assert_int_equal(weft_key_from_pem(encrypted, sizeof(encrypted) - 1, &again, &err), -EINVAL);
	/* Every cut and every changed letter: refused, or another key that is one; never read beyond. */
	for (size_t at = 0; at < size; at++) {
		EVP_PKEY *other = NULL;
		char kept = pem[at];

		assert_true(weft_key_from_pem(pem, at, &other, &err) < 0 || at >= size - 1);
		EVP_PKEY_free(other);
		other = NULL;
		pem[at] = kept == 'A' ? 'B' : 'A';
		if (weft_key_from_pem(pem, size, &other, &err) == 0)
			EVP_PKEY_free(other);
		pem[at] = kept;
	}
	weft_key_free(pem, WEFT_KEY_PEM_MAX);
}

static void test_key_signs(void **state)
{
	weft_key_on_exit EVP_PKEY *key = NULL;
	unsigned char digest[WEFT_KEY_DIGEST] = { 1, 2, 3 }, signature[WEFT_KEY_SIGNATURE_MAX];
	EVP_PKEY_CTX *signer, *verifier;
	struct weft_err err;
	size_t size;

	(void)state;
	assert_int_equal(weft_key_new(&key, &err), 0);
	signer = weft_key_signer(key);
	verifier = EVP_PKEY_CTX_new(key, NULL);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(weft_key_sign(signer, digest, signature, &size), 0);
		assert_int_equal(EVP_PKEY_verify_init(verifier), 1);
		assert_int_equal(EVP_PKEY_verify(verifier, signature, size, digest, sizeof(digest)), 1);
		digest[0]++;
	}
	EVP_PKEY_CTX_free(signer);
	EVP_PKEY_CTX_free(verifier);
}

/* ---- files ---- */

static void put(struct lab *lab, const char *name, const struct mint *const *certificates, size_t count, EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	weft_close_on_exit int folder = openat(lab->dir[0], "files/shop/cart", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *data;
	long size;

	for (size_t i = 0; i < count; i++)
		assert_int_equal(PEM_write_bio_X509(bio, certificates[i]->certificate), 1);
	if (key)
		assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
	size = BIO_get_mem_data(bio, &data);
	assert_int_equal(weft_write_file_at(folder, name, data, (size_t)size, 0600), 0);
	BIO_free(bio);
}

static int request(struct lab *lab, struct weft_err *err)
{
	return lab->signer[0]->ops->request(lab->signer[0], &(struct weft_signer_request){ .id = ID }, err);
}

static void check_layout(struct lab *lab, const char *chain, const char *key, const char *bundle)
{
	struct mint root = mint(NULL, "root", 3600), leaf = mint(&root, ID, 3600), next = mint(&root, ID, 3600);
	const struct mint *const of_root[] = { &root }, *const of_leaf[] = { &leaf }, *const of_next[] = { &next };
	struct weft_err err = { "" };

	assert_int_equal(weft_files_signer_new(lab->loop, lab->dir[0], "cluster.local", events_of(lab), &lab->signer[0], &err), 0);
	assert_true(lab->signer[0]->ops->brings_keys);
	assert_int_equal(request(lab, &err), -ENOENT);
	assert_contains(err.text, "files/shop/cart");
	assert_int_equal(mkdirat(lab->dir[0], "files", 0700), 0);
	assert_int_equal(mkdirat(lab->dir[0], "files/shop", 0700), 0);
	assert_int_equal(mkdirat(lab->dir[0], "files/shop/cart", 0700), 0);
	assert_int_equal(request(lab, &err), -ENOENT);
	put(lab, chain, of_leaf, 1, NULL);
	assert_int_equal(request(lab, &err), -ENOENT);
	put(lab, key, NULL, 0, leaf.key);
	put(lab, bundle, of_root, 1, NULL);
	await_change(lab);
	if (request(lab, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(X509_cmp(lab->chain[0], leaf.certificate), 0);
	assert_int_equal(EVP_PKEY_eq(lab->key, leaf.key), 1);
	assert_believed(lab, 0);
	assert_int_equal(lab->signer[0]->ops->state(lab->signer[0], &err), 0);
	/* Half of an update: the last good pair stays, and it is said. */
	put(lab, chain, of_next, 1, NULL);
	await_change(lab);
	assert_int_equal(request(lab, &err), 0);
	assert_int_equal(X509_cmp(lab->chain[0], leaf.certificate), 0);
	assert_int_equal(lab->signer[0]->ops->state(lab->signer[0], &err), -EAGAIN);
	assert_contains(err.text, ", keeping what was there");
	/* The other half. */
	put(lab, key, NULL, 0, next.key);
	await_change(lab);
	assert_int_equal(request(lab, &err), 0);
	assert_int_equal(X509_cmp(lab->chain[0], next.certificate), 0);
	assert_int_equal(EVP_PKEY_eq(lab->key, next.key), 1);
	assert_int_equal(lab->signer[0]->ops->state(lab->signer[0], &err), 0);
	lab->signer[0]->ops->forget(lab->signer[0], ID);
	mint_done(&root);
	mint_done(&leaf);
	mint_done(&next);
}

static void test_spiffe_helper(void **state)
{
	check_layout(*state, "svid.pem", "svid_key.pem", "svid_bundle.pem");
}

static void test_cert_manager(void **state)
{
	check_layout(*state, "tls.crt", "tls.key", "ca.crt");
}

static void test_files_refused(void **state)
{
	struct lab *lab = *state;
	struct mint root = mint(NULL, "root", 3600), leaf = mint(&root, ID, 3600);
	const struct mint *const of_root[] = { &root }, *const of_leaf[] = { &leaf };
	EVP_PKEY *rsa = EVP_RSA_gen(2048);
	struct weft_err err = { "" };

	assert_int_equal(weft_files_signer_new(lab->loop, lab->dir[0], "cluster.local", events_of(lab), &lab->signer[0], &err), 0);
	assert_int_equal(mkdirat(lab->dir[0], "files", 0700), 0);
	assert_int_equal(mkdirat(lab->dir[0], "files/shop", 0700), 0);
	assert_int_equal(mkdirat(lab->dir[0], "files/shop/cart", 0700), 0);
	put(lab, "tls.crt", of_leaf, 1, NULL);
	put(lab, "ca.crt", of_root, 1, NULL);
	put(lab, "tls.key", NULL, 0, rsa);
	assert_int_equal(request(lab, &err), -EINVAL);
	assert_contains(err.text, "not on P-256");
	put(lab, "tls.key", NULL, 0, leaf.key);
	put(lab, "ca.crt", NULL, 0, NULL);
	assert_int_equal(request(lab, &err), -EINVAL);
	assert_contains(err.text, "ca.crt");
	assert_int_equal(lab->signer[0]->ops->request(lab->signer[0], &(struct weft_signer_request){ .id = "spiffe://cluster.local/x" }, &err),
			 -EINVAL);
	assert_contains(err.text, "not of the form");
	EVP_PKEY_free(rsa);
	mint_done(&root);
	mint_done(&leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_issue, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_requests_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_domain_changed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_modes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_files_damaged, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_intermediate_is_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_join, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_revoke, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_rotate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_join_older, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_join_older_list, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_join_is_believed_in_between, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_revoke_after_rotation, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damage_while_it_runs, set_up, tear_down),
		cmocka_unit_test(test_key_pem),
		cmocka_unit_test(test_key_signs),
		cmocka_unit_test_setup_teardown(test_spiffe_helper, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cert_manager, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_files_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
