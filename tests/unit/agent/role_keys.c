/* SPDX-License-Identifier: Apache-2.0 */
/* The whole role in a process of its own, confined as it always is; this test is init, control and two proxies. */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/roles.h"
#include "base/io.h"
#include "ctl/keys.h"
#include "tls/trust.h"
#include "unit/tls/mint.h"

#define CART "spiffe://cluster.local/ns/shop/sa/cart"
#define WEB "spiffe://cluster.local/ns/shop/sa/web"
#define NOBODY 65534

struct lab {
	char path[64];
	int dir;
	pid_t pid;
	int init;
	int control;
	int proxy[2];
	/* of what came last */
	struct weft_keys_message message;
	const void *data;
	struct weft_keys_pair pair;
};

static void run_role(int init, int dir)
{
	struct weft_options options = { .role = WEFT_AGENT_KEYS, .user = "nobody", .log_level = WEFT_LOG_ERROR };

	/* cmocka's own handler would call a crash of the role a failure of the test that forked it. */
	signal(SIGSEGV, SIG_DFL);
	if (dup2(init, 100) < 0 || dup2(dir, 101) < 0 || dup2(100, WEFT_FD_INIT) < 0 || dup2(101, WEFT_FD_STATE) < 0)
		_exit(99);
	for (int fd = WEFT_FD_INIT + 1; fd < 256; fd++)
		if (fd != WEFT_FD_STATE)
			close(fd);
	weft_log_set_role("keys");
	weft_log_set_level(WEFT_LOG_ERROR);
	_exit(weft_role_keys_run(&options)); /* a leak checker could not look into it */
}

static void link_up(struct lab *lab, enum weft_link_kind kind, uint32_t proxy, int *mine)
{
	struct weft_init_message message = { .magic = WEFT_ABI_MAGIC, .type = WEFT_INIT_LINK, .link = kind, .proxy = proxy };
	int pair[2];

	if (*mine >= 0)
		close(*mine);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(weft_init_send(lab->init, &message, pair[1]), 0);
	close(pair[1]);
	*mine = pair[0];
}

static void start(struct lab *lab)
{
	int pair[2];

	lab->control = lab->proxy[0] = lab->proxy[1] = -1;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	lab->pid = fork();
	assert_true(lab->pid >= 0);
	if (lab->pid == 0)
		run_role(pair[1], lab->dir);
	close(pair[1]);
	lab->init = pair[0];
	link_up(lab, WEFT_LINK_CONTROL_KEYS, 0, &lab->control);
	link_up(lab, WEFT_LINK_KEYS_PROXY, 0, &lab->proxy[0]);
	link_up(lab, WEFT_LINK_KEYS_PROXY, 1, &lab->proxy[1]);
}

static void drop(struct lab *lab)
{
	if (lab->data)
		munmap((void *)lab->data, lab->message.bytes);
	lab->data = NULL;
}

/* Init goes: the role ends by itself. */
static void stop(struct lab *lab)
{
	int status;

	drop(lab);
	close(lab->init);
	assert_int_equal(waitpid(lab->pid, &status, 0), lab->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(lab->control);
	close(lab->proxy[0]);
	close(lab->proxy[1]);
}

static int set_up(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	strcpy(lab->path, "/tmp/weft-unit-keys.XXXXXX");
	assert_non_null(mkdtemp(lab->path));
	lab->dir = open(lab->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fchown(lab->dir, NOBODY, NOBODY), 0);
	start(lab);
	*state = lab;
	return 0;
}

static int tear_down(void **state)
{
	struct lab *lab = *state;
	char command[128];

	stop(lab);
	close(lab->dir);
	snprintf(command, sizeof(command), "rm -rf -- '%s'", lab->path);
	assert_int_equal(system(command), 0);
	free(lab);
	return 0;
}

/* The next message on a link, with what it brings; within ten seconds. */
static int receive(struct lab *lab, int sock, enum weft_keys_way way)
{
	struct pollfd poll_fd = { sock, POLLIN, 0 };
	weft_close_on_exit int fd = -1;
	struct weft_err err = { "" };
	int r;

	drop(lab);
	if (poll(&poll_fd, 1, 10000) != 1)
		fail_msg("nothing came");
	r = weft_keys_receive(sock, way, MSG_DONTWAIT, &lab->message, &fd, &err);
	if (r == -ECONNRESET)
		return r;
	if (r < 0)
		fail_msg("%s", err.text);
	if (lab->message.bytes)
		assert_int_equal(weft_memfd_map(fd, lab->message.bytes, &lab->data), 0);
	if (lab->message.type == WEFT_KEYS_IDENTITY)
		assert_int_equal(weft_keys_identity_open(lab->data, lab->message.bytes, &lab->pair, &err), 0);
	return 0;
}

static void await(struct lab *lab, int sock, enum weft_keys_way way, enum weft_keys_message_type type)
{
	do
		assert_int_equal(receive(lab, sock, way), 0);
	while (lab->message.type != type);
}

static const char *text_of(const struct lab *lab)
{
	struct weft_err err;
	const char *text = "";

	if (lab->data)
		assert_int_equal(weft_keys_text_open(lab->data, lab->message.bytes, &text, &err), 0);
	return text;
}

static void want(struct lab *lab, enum weft_keys_source source, const char *domain, uint32_t ttl, const char *one, const char *other)
{
	struct weft_keys_settings settings = { .source = source, .ttl_s = ttl };
	struct weft_keys_message message = weft_keys_message(WEFT_KEYS_WANT, 1);
	weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;

	strcpy(settings.trust_domain, domain);
	assert_int_equal(weft_keys_want_put(&buf, &settings), 0);
	for (int i = 0; i < 2; i++)
		if (i ? other : one) {
			assert_int_equal(weft_keys_want_add(&buf, i ? other : one), 0);
			message.count++;
		}
	assert_int_equal(weft_keys_send(lab->control, &message, buf.data, buf.size, 0), 0);
}

/* TRUST, then so many pairs; the last one stays in the lab. */
static void await_pairs(struct lab *lab, int sock, enum weft_keys_way way, int count)
{
	await(lab, sock, way, WEFT_KEYS_TRUST);
	while (count-- > 0)
		await(lab, sock, way, WEFT_KEYS_IDENTITY);
}

/* TRUST, so many pairs and a STATE without error, which has no place among them: the first may be of before anything was wanted. */
static void await_settled(struct lab *lab, int count)
{
	bool trust = false, state = false;

	while (!trust || count > 0 || !state) {
		assert_int_equal(receive(lab, lab->control, WEFT_KEYS_TO_CONTROL), 0);
		trust |= lab->message.type == WEFT_KEYS_TRUST;
		count -= lab->message.type == WEFT_KEYS_IDENTITY;
		state |= lab->message.type == WEFT_KEYS_STATE;
		if (lab->message.type == WEFT_KEYS_STATE)
			assert_int_equal(lab->message.error, 0);
	}
}

/* Asks for a signature with a key, and says what came: 0 and it is of the certificate, or the error. */
static int sign(struct lab *lab, int proxy, uint64_t key, const X509 *certificate)
{
	struct weft_keys_message message = weft_keys_message(WEFT_KEYS_SIGN, 77);
	EVP_PKEY_CTX *context;

	message.key = key;
	message.data_size = 32;
	memset(message.data, 0x5a, 32);
	assert_int_equal(weft_keys_send(lab->proxy[proxy], &message, NULL, 0, 0), 0);
	await(lab, lab->proxy[proxy], WEFT_KEYS_TO_PROXY, WEFT_KEYS_SIGNED);
	assert_int_equal(lab->message.serial, 77);
	assert_int_equal(lab->message.key, key);
	if (lab->message.error)
		return lab->message.error;
	context = EVP_PKEY_CTX_new(X509_get0_pubkey(certificate), NULL);
	assert_int_equal(EVP_PKEY_verify_init(context), 1);
	assert_int_equal(EVP_PKEY_verify(context, lab->message.data, lab->message.data_size, message.data, 32), 1);
	EVP_PKEY_CTX_free(context);
	return 0;
}

static X509 *leaf_of(const struct lab *lab)
{
	const unsigned char *at = lab->pair.chain[0].data;
	X509 *leaf = d2i_X509(NULL, &at, (long)lab->pair.chain[0].size);

	assert_non_null(leaf);
	return leaf;
}

static void test_identities_for_all(void **state)
{
	struct lab *lab = *state;
	uint64_t key[2];
	X509 *leaf;

	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, CART, WEB);
	await_settled(lab, 2);
	for (int proxy = 0; proxy < 2; proxy++) {
		await_pairs(lab, lab->proxy[proxy], WEFT_KEYS_TO_PROXY, 2);
		key[proxy] = lab->pair.key;
	}
	assert_int_equal(key[0], key[1]);
	assert_int_equal(lab->pair.count, 2);
	leaf = leaf_of(lab);
	for (int proxy = 0; proxy < 2; proxy++)
		assert_int_equal(sign(lab, proxy, key[0], leaf), 0);
	assert_int_equal(sign(lab, 0, key[0] + 1000, leaf), -ENOENT);
	assert_int_equal(sign(lab, 0, 0, leaf), -ENOENT);
	/* A proxy that is started again is told everything. */
	link_up(lab, WEFT_LINK_KEYS_PROXY, 1, &lab->proxy[1]);
	await_pairs(lab, lab->proxy[1], WEFT_KEYS_TO_PROXY, 2);
	assert_int_equal(sign(lab, 1, key[0], leaf), 0);
	/* So is a control. */
	link_up(lab, WEFT_LINK_CONTROL_KEYS, 0, &lab->control);
	await_pairs(lab, lab->control, WEFT_KEYS_TO_CONTROL, 2);
	X509_free(leaf);
}

/* It has asked, and hears of the answer no more: the link must not be used after that. */
static void test_asker_dies(void **state)
{
	struct lab *lab = *state;

	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, CART, NULL);
	await_settled(lab, 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(kill(lab->pid, SIGSTOP), 0);
		want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, i % 2 ? CART : WEB, NULL);
		close(lab->control);
		lab->control = -1;
		assert_int_equal(kill(lab->pid, SIGCONT), 0);
		await(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, WEFT_KEYS_GONE);
		link_up(lab, WEFT_LINK_CONTROL_KEYS, 0, &lab->control);
		await(lab, lab->control, WEFT_KEYS_TO_CONTROL, WEFT_KEYS_IDENTITY);
	}
}

static void test_gone(void **state)
{
	struct lab *lab = *state;
	X509 *leaf;
	uint64_t key;

	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, CART, NULL);
	await_pairs(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, 1);
	leaf = leaf_of(lab);
	key = lab->pair.key;
	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, WEB, NULL);
	await(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, WEFT_KEYS_GONE);
	assert_string_equal(text_of(lab), CART);
	await(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, WEFT_KEYS_IDENTITY);
	assert_string_equal(lab->pair.id, WEB);
	assert_int_not_equal(lab->pair.key, key);
	/* A handshake that was under way ends well. */
	assert_int_equal(sign(lab, 0, key, leaf), 0);
	/* Who comes later never hears of it. */
	link_up(lab, WEFT_LINK_KEYS_PROXY, 1, &lab->proxy[1]);
	assert_int_equal(receive(lab, lab->proxy[1], WEFT_KEYS_TO_PROXY), 0);
	while (lab->message.type != WEFT_KEYS_IDENTITY) {
		assert_true(lab->message.type == WEFT_KEYS_TRUST || strcmp(text_of(lab), CART) == 0);
		assert_int_equal(receive(lab, lab->proxy[1], WEFT_KEYS_TO_PROXY), 0);
	}
	assert_string_equal(lab->pair.id, WEB);
	X509_free(leaf);
}

static void test_renewal(void **state)
{
	struct lab *lab = *state;
	uint64_t key;
	time_t first;

	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 6, CART, NULL);
	await_pairs(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, 1);
	key = lab->pair.key;
	first = lab->pair.not_after;
	await(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, WEFT_KEYS_IDENTITY);
	assert_int_not_equal(lab->pair.key, key);
	assert_true(lab->pair.not_after > first);
	assert_true(time(NULL) < first); /* in good time */
}

static void test_domain_changed(void **state)
{
	struct lab *lab = *state;
	X509 *leaf;
	uint64_t key;

	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, CART, NULL);
	await_pairs(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, 1);
	leaf = leaf_of(lab);
	key = lab->pair.key;
	await(lab, lab->control, WEFT_KEYS_TO_CONTROL, WEFT_KEYS_STATE);
	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "other.example", 3600, CART, NULL);
	do
		await(lab, lab->control, WEFT_KEYS_TO_CONTROL, WEFT_KEYS_STATE);
	while (!lab->message.error);
	assert_contains(text_of(lab), "for trust domain cluster.local, the mesh's is other.example");
	/* The old pair serves. */
	assert_int_equal(sign(lab, 0, key, leaf), 0);
	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, CART, NULL);
	do
		await(lab, lab->control, WEFT_KEYS_TO_CONTROL, WEFT_KEYS_STATE);
	while (lab->message.error);
	X509_free(leaf);
}

static void put_pem(struct lab *lab, const char *name, X509 *certificate, EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	weft_close_on_exit int folder = openat(lab->dir, "files/shop/cart", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *data;
	long size;

	if (certificate)
		assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
	if (key)
		assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
	size = BIO_get_mem_data(bio, &data);
	assert_int_equal(weft_write_file_at(folder, name, data, (size_t)size, 0644), 0);
	BIO_free(bio);
}

/* A source that answers with another identity, or with what our root does not vouch for, is refused; the right one is taken up. */
static void test_answers_are_judged(void **state)
{
	struct lab *lab = *state;
	struct mint root = mint(NULL, "root", 3600), stranger = mint(NULL, "stranger", 3600), other = mint(&root, WEB, 3600),
		    foreign = mint(&stranger, CART, 3600), ended = mint(&root, CART, -60), good = mint(&root, CART, 3600);
	const struct {
		struct mint *leaf;
		const char *needle;
	} wrong[] = { { &other, "the certificate that was given is for " WEB }, { &foreign, "would be refused" }, { &ended, "would be refused" } };

	for (const char *const *folder = (const char *const[]){ "files", "files/shop", "files/shop/cart", NULL }; *folder; folder++) {
		assert_int_equal(mkdirat(lab->dir, *folder, 0755), 0);
	}
	put_pem(lab, "svid_bundle.pem", root.certificate, NULL);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(wrong); i++) {
		put_pem(lab, "svid.pem", wrong[i].leaf->certificate, NULL);
		put_pem(lab, "svid_key.pem", NULL, wrong[i].leaf->key);
		if (i == 0)
			want(lab, WEFT_KEYS_SOURCE_FILES, "cluster.local", 3600, CART, NULL);
		do
			await(lab, lab->control, WEFT_KEYS_TO_CONTROL, WEFT_KEYS_STATE);
		while (!strstr(text_of(lab), wrong[i].needle));
	}
	put_pem(lab, "svid.pem", good.certificate, NULL);
	put_pem(lab, "svid_key.pem", NULL, good.key);
	await_pairs(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, 1);
	assert_string_equal(lab->pair.id, CART);
	{
		X509 *leaf = leaf_of(lab);

		assert_int_equal(X509_cmp(leaf, good.certificate), 0);
		assert_int_equal(sign(lab, 0, lab->pair.key, leaf), 0);
		X509_free(leaf);
	}
	mint_done(&root);
	mint_done(&stranger);
	mint_done(&other);
	mint_done(&foreign);
	mint_done(&ended);
	mint_done(&good);
}

/* A proxy that asks and does not read loses nothing and stops nobody. */
static void test_a_proxy_that_does_not_read(void **state)
{
	struct lab *lab = *state;
	struct weft_keys_message message = weft_keys_message(WEFT_KEYS_SIGN, 0);
	unsigned int sent = 0, got = 0;
	X509 *leaf;
	uint64_t key;

	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, CART, NULL);
	for (int proxy = 0; proxy < 2; proxy++)
		await_pairs(lab, lab->proxy[proxy], WEFT_KEYS_TO_PROXY, 1);
	leaf = leaf_of(lab);
	key = message.key = lab->pair.key;
	message.data_size = 32;
	for (int quiet = 0; quiet < 20;) {
		message.serial = sent;
		if (weft_keys_send(lab->proxy[0], &message, NULL, 0, MSG_DONTWAIT) == 0) {
			sent++;
			quiet = 0;
		} else {
			struct pollfd room = { lab->proxy[0], POLLOUT, 0 };

			quiet += poll(&room, 1, 50) == 0; /* it takes no more, for good */
		}
	}
	assert_int_equal(sign(lab, 1, key, leaf), 0);
	for (; got < sent; got++) {
		await(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, WEFT_KEYS_SIGNED);
		assert_int_equal(lab->message.serial, got);
		assert_int_equal(lab->message.error, 0);
	}
	X509_free(leaf);
}

static void test_a_proxy_that_was_taken_over(void **state)
{
	struct lab *lab = *state;
	struct weft_keys_message message = weft_keys_message(WEFT_KEYS_WANT, 0);
	X509 *leaf;
	uint64_t key;
	int r;

	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, CART, NULL);
	for (int proxy = 0; proxy < 2; proxy++)
		await_pairs(lab, lab->proxy[proxy], WEFT_KEYS_TO_PROXY, 1);
	leaf = leaf_of(lab);
	key = lab->pair.key;
	assert_int_equal(weft_keys_send(lab->proxy[0], &message, "what control sends", 18, 0), 0);
	do
		r = receive(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY);
	while (r == 0);
	assert_int_equal(r, -ECONNRESET);
	assert_int_equal(sign(lab, 1, key, leaf), 0);
	X509_free(leaf);
}

static void test_ids_that_are_none(void **state)
{
	struct lab *lab = *state;

	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, "spiffe://Cluster.Local/x", CART);
	await_pairs(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, 1);
	assert_string_equal(lab->pair.id, CART);
	do /* the first may be of before it was asked for anything */
		await(lab, lab->control, WEFT_KEYS_TO_CONTROL, WEFT_KEYS_STATE);
	while (lab->message.error == 0);
	assert_int_equal(lab->message.error, -EINVAL);
}

/* The number of a key is never given twice, and the CA is the same. */
static void test_restart(void **state)
{
	struct lab *lab = *state;
	struct weft_err err;
	weft_cleanup(weft_trust_unrefp) struct weft_trust *trust = weft_trust_new();
	struct weft_keys_anchor anchor;
	weft_free_on_exit char *id = NULL;
	size_t at = 0;
	uint64_t key;
	X509 *leaf;

	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, CART, NULL);
	await(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, WEFT_KEYS_TRUST);
	while (weft_keys_trust_next(lab->data, lab->message.bytes, &at, &anchor))
		assert_int_equal(weft_trust_add_root(trust, anchor.domain, anchor.der.data, anchor.der.size, &err), 0);
	await(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, WEFT_KEYS_IDENTITY);
	key = lab->pair.key;
	stop(lab);
	start(lab);
	want(lab, WEFT_KEYS_SOURCE_EMBEDDED, "cluster.local", 3600, CART, NULL);
	await_pairs(lab, lab->proxy[0], WEFT_KEYS_TO_PROXY, 1);
	assert_int_not_equal(lab->pair.key, key);
	leaf = leaf_of(lab);
	{
		const unsigned char *der = lab->pair.chain[1].data;
		X509 *intermediate = d2i_X509(NULL, &der, (long)lab->pair.chain[1].size);
		STACK_OF(X509) *others = sk_X509_new_null();

		sk_X509_push(others, intermediate);
		assert_int_equal(weft_trust_verify(trust, leaf, others, WEFT_TRUST_SERVER, time(NULL), &id, &err), 0);
		assert_string_equal(id, CART);
		sk_X509_pop_free(others, X509_free);
	}
	assert_int_equal(sign(lab, 0, key, leaf), -ENOENT);
	X509_free(leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identities_for_all, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_gone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_asker_dies, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_renewal, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_domain_changed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_answers_are_judged, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_proxy_that_does_not_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_proxy_that_was_taken_over, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ids_that_are_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_restart, set_up, tear_down),
	};

	if (geteuid() != 0) {
		puts("SKIP: the role begins as root");
		return CHECK_SKIPPED;
	}
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
