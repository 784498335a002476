/* SPDX-License-Identifier: Apache-2.0 */
/* control between a model and what keys and the proxies are: this test holds the other ends. */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <openssl/pem.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/control.h"
#include "base/io.h"
#include "base/log.h"
#include "ctl/keys.h"
#include "ctl/proxy.h"
#include "model/mesh.h"
#include "unit/model/lib.h"
#include "unit/tls/mint.h"

#define WEB "spiffe://cluster.local/ns/shop/sa/web"

#define NAMESPACE "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}\n---\n"
#define POD(name, account, ip, more)                                                                                      \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: shop, annotations: {weft.dev/netns: " name "}}\n" \
	"spec: {nodeName: here, serviceAccountName: " account more "}\nstatus: {podIPs: [{ip: " ip "}]}\n---\n"
#define TWO_OF_ONE NAMESPACE POD("web", "web", "10.1.0.1", "") POD("web-2", "web", "10.1.0.2", "")
#define MESH(ttl) "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {identity: {certificateTTL: " ttl "}}\n"

struct lab {
	struct weft_options options;
	struct weft_control control;
	int keys, proxy[2]; /* our ends */
};

static int set_up(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	weft_log_set_level(WEFT_LOG_ERROR);
	lab->options.config = "/etc/weft/config.d";
	lab->control.options = &lab->options;
	assert_true(sd_event_new(&lab->control.loop) >= 0);
	lab->control.source = weft_source_new(WEFT_SOURCE_SETTLE_MS);
	lab->control.said = weft_said_new();
	lab->control.model = model_make();
	lab->control.ready = true;
	assert_int_equal(weft_control_secure_start(&lab->control), 0);
	lab->keys = lab->proxy[0] = lab->proxy[1] = -1;
	*state = lab;
	return 0;
}

static int tear_down(void **state)
{
	struct lab *lab = *state;

	weft_control_secure_stop(&lab->control);
	weft_source_free(lab->control.source);
	weft_said_free(lab->control.said);
	weft_model_free(lab->control.model);
	sd_event_unref(lab->control.loop);
	for (int i = 0; i < 2; i++)
		if (lab->proxy[i] >= 0)
			close(lab->proxy[i]);
	if (lab->keys >= 0)
		close(lab->keys);
	free(lab);
	return 0;
}

static void bring(struct lab *lab, const char *yaml)
{
	struct weft_problems problems = { 0 };
	struct weft_plan plan = { 0 };
	struct weft_err err = { "" };

	if (yaml)
		load(lab->control.model, yaml);
	assert_int_equal(weft_model_commit(lab->control.model, SECOND, NULL, 0, &plan, &problems, &err), 0);
	weft_control_secure_update(&lab->control, plan.mesh_changed);
	weft_plan_done(&plan);
	weft_problems_done(&problems);
}

/* Their end of a new pair goes to control, as init gives it. */
static void link_up(struct lab *lab, enum weft_link_kind kind, uint32_t number, int *mine)
{
	int pair[2];

	if (*mine >= 0)
		close(*mine);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	*mine = pair[0];
	assert_true(weft_control_secure_link(&lab->control, kind, number, pair[1]) >= 0);
}

static void run(struct lab *lab)
{
	while (sd_event_run(lab->control.loop, 0) > 0)
		;
}

static int from_keys_end(struct lab *lab, struct weft_keys_message *ret_message, int *ret_fd)
{
	struct weft_err err = { "" };

	return weft_keys_receive(lab->keys, WEFT_KEYS_FROM_CONTROL, MSG_DONTWAIT, ret_message, ret_fd, &err);
}

/* The next thing that keys is told is what is wanted: these settings and one identity. */
static void assert_wanted(struct lab *lab, uint32_t ttl_s, const char *identity)
{
	struct weft_keys_message message;
	struct weft_keys_want want;
	struct weft_err err = { "" };
	weft_close_on_exit int fd = -1;
	const void *data;

	assert_int_equal(from_keys_end(lab, &message, &fd), 0);
	assert_int_equal(message.type, WEFT_KEYS_WANT);
	assert_int_equal(weft_memfd_map(fd, message.bytes, &data), 0);
	assert_int_equal(weft_keys_want_open(data, message.bytes, message.count, &want, &err), 0);
	assert_int_equal(want.settings.ttl_s, ttl_s);
	assert_int_equal(want.settings.source, WEFT_KEYS_SOURCE_EMBEDDED);
	assert_string_equal(want.settings.trust_domain, "cluster.local");
	assert_int_equal(want.count, identity ? 1 : 0);
	if (identity)
		assert_string_equal(want.id, identity);
	munmap((void *)data, message.bytes);
}

static void assert_told_nothing(int sock)
{
	char byte;

	assert_int_equal(recv(sock, &byte, 1, MSG_DONTWAIT | MSG_PEEK), -1);
	assert_int_equal(errno, EAGAIN);
}

/* Reads all that it was told: the generation of the one MESH, which is whole; 0 if there was none. */
static uint64_t mesh_of(int sock)
{
	uint64_t generation = 0;

	for (;;) {
		weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds fds = { .count = 0 };
		struct weft_proxy_message message;
		struct weft_err err = { "" };
		struct weft_mesh mesh;
		const void *data;
		int r = weft_proxy_receive(sock, WEFT_PROXY_SIDE_CONTROL, &message, &fds, &err);

		if (r == -EAGAIN)
			return generation;
		assert_int_equal(r, 0);
		if (message.type == WEFT_PROXY_LOG_LEVEL)
			continue;
		assert_int_equal(message.type, WEFT_PROXY_MESH);
		assert_int_equal(generation, 0);
		assert_int_equal(weft_memfd_map(fds.fd[0], message.bytes, &data), 0);
		assert_int_equal(weft_mesh_open(data, message.bytes, &mesh, &err), 0);
		generation = weft_mesh_generation(&mesh);
		munmap((void *)data, message.bytes);
	}
}

/* ---- who needs which identity ---- */

static void test_nothing_is_attached(void **state)
{
	struct lab *lab = *state;

	bring(lab, "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {nodeName: here}\nstatus: {podIP: 10.1.0.1}\n");
	link_up(lab, WEFT_LINK_CONTROL_PROXY, 0, &lab->proxy[0]);
	assert_int_equal(mesh_of(lab->proxy[0]), 0);
}

static void test_want(void **state)
{
	struct lab *lab = *state;

	bring(lab, TWO_OF_ONE POD("own", "host", "10.9.9.9", ", hostNetwork: true"));
	link_up(lab, WEFT_LINK_CONTROL_KEYS, 0, &lab->keys);
	assert_wanted(lab, 24 * 3600, WEB); /* once for two, and none for a pod of the host's network */
	bring(lab, NULL);
	assert_told_nothing(lab->keys);
	bring(lab, MESH("30s"));
	assert_wanted(lab, 30, WEB);
	/* A new one knows nothing. */
	link_up(lab, WEFT_LINK_CONTROL_KEYS, 0, &lab->keys);
	assert_wanted(lab, 30, WEB);
	weft_model_remove(lab->control.model, WEFT_KIND_POD, "shop", "web");
	bring(lab, NULL);
	assert_told_nothing(lab->keys);
	weft_model_remove(lab->control.model, WEFT_KIND_POD, "shop", "web-2");
	bring(lab, NULL);
	assert_wanted(lab, 30, NULL);
}

/* One that does not read is told when it does, and of what is wanted then. */
static void test_keys_is_slow(void **state)
{
	struct lab *lab = *state;
	weft_close_on_exit int theirs = -1;
	size_t filled = 0;
	int pair[2];
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	lab->keys = pair[0];
	theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, 3);
	while (send(theirs, "x", 1, MSG_DONTWAIT) == 1)
		filled++;
	assert_int_equal(errno, EAGAIN);
	bring(lab, TWO_OF_ONE);
	assert_int_equal(weft_control_secure_link(&lab->control, WEFT_LINK_CONTROL_KEYS, 0, pair[1]), 0);
	bring(lab, MESH("1h"));
	for (size_t i = 0; i < filled; i++)
		assert_int_equal(recv(lab->keys, &byte, 1, 0), 1);
	assert_told_nothing(lab->keys);
	for (int i = 0; i < 50 && poll(&(struct pollfd){ .fd = lab->keys, .events = POLLIN }, 1, 0) == 0; i++)
		assert_true(sd_event_run(lab->control.loop, 100000) >= 0);
	assert_wanted(lab, 3600, WEB);
	assert_told_nothing(lab->keys);
}

/* ---- what keys says ---- */

static void send_bulk(struct lab *lab, enum weft_keys_message_type type, int error, const void *data, size_t size)
{
	struct weft_keys_message message = weft_keys_message(type, 0);

	message.error = error;
	assert_int_equal(weft_keys_send(lab->keys, &message, data, size, MSG_DONTWAIT), 0);
	run(lab);
}

static void send_identity(struct lab *lab, const char *id, const void *der, size_t size, int64_t ends)
{
	struct weft_keys_pair pair = { .key = 7, .not_before = ends - 60, .not_after = ends, .id = id, .chain = { { der, size } }, .count = 1 };
	weft_buf_done_on_exit struct weft_buf block = WEFT_BUF_INIT;

	assert_int_equal(weft_keys_identity_put(&block, &pair), 0);
	send_bulk(lab, WEFT_KEYS_IDENTITY, 0, block.data, block.size);
}

static const char *text_of(struct json_object *object, const char *name)
{
	struct json_object *member;

	assert_true(json_object_object_get_ex(object, name, &member));
	return json_object_get_string(member);
}

static int64_t number_of(struct json_object *object, const char *name)
{
	struct json_object *member;

	assert_true(json_object_object_get_ex(object, name, &member));
	return json_object_get_int64(member);
}

static void test_identities(void **state)
{
	struct lab *lab = *state;
	struct mint root = mint(NULL, "root", 3600), leaf = mint(&root, WEB, 3600);
	weft_buf_done_on_exit struct weft_buf expiries = WEFT_BUF_INIT;
	uint64_t counts[WEFT_ARRAY_SIZE(((struct weft_proxy_facts *)NULL)->count)] = { 0 };
	int64_t now = (int64_t)(weft_control_now(CLOCK_REALTIME) / 1000000000);
	struct json_object *list, *row;
	unsigned char *der = NULL;
	int size = i2d_X509(leaf.certificate, &der);
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf.certificate), NULL);
	char *serial = BN_bn2hex(number);
	X509 *again;
	BIO *bio;

	link_up(lab, WEFT_LINK_CONTROL_KEYS, 0, &lab->keys);
	send_identity(lab, WEB, der, (size_t)size, now - 5);
	send_identity(lab, WEB, der, (size_t)size, now + 1000); /* takes its place */
	list = weft_control_identities_json(&lab->control);
	assert_int_equal(json_object_array_length(list), 1);
	row = json_object_array_get_idx(list, 0);
	assert_string_equal(text_of(row, "identity"), WEB);
	assert_string_equal(text_of(row, "serial"), serial);
	assert_int_equal(number_of(row, "not_after"), now + 1000);
	assert_true(number_of(row, "expires_ns") > 900 * 1000000000ll && number_of(row, "expires_ns") <= 1000 * 1000000000ll);
	bio = BIO_new_mem_buf(text_of(row, "pem"), -1);
	again = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	assert_non_null(again);
	assert_int_equal(X509_cmp(again, leaf.certificate), 0);
	X509_free(again);
	BIO_free(bio);
	json_object_put(list);
	assert_int_equal(weft_control_secure_metrics(&lab->control, &expiries, counts), 0);
	assert_int_equal(expiries.size, sizeof(struct weft_metrics_identity));
	assert_true(((struct weft_metrics_identity *)(void *)expiries.data)->expiry_s > 900);

	/* One that is over, and no certificate at all: shown as what it is. */
	send_identity(lab, "spiffe://cluster.local/ns/shop/sa/odd", "no certificate", 14, now - 5);
	send_bulk(lab, WEFT_KEYS_GONE, 0, WEB, sizeof(WEB));
	send_bulk(lab, WEFT_KEYS_GONE, 0, "spiffe://nobody/x", 18);
	list = weft_control_identities_json(&lab->control);
	assert_int_equal(json_object_array_length(list), 1);
	row = json_object_array_get_idx(list, 0);
	assert_string_equal(text_of(row, "serial"), "");
	assert_int_equal(number_of(row, "expires_ns"), 0);
	json_object_put(list);

	/* A block that is none leaves what was there. */
	send_bulk(lab, WEFT_KEYS_IDENTITY, 0, "short", 5);
	list = weft_control_identities_json(&lab->control);
	assert_int_equal(json_object_array_length(list), 1);
	json_object_put(list);
	OPENSSL_free(serial);
	BN_free(number);
	OPENSSL_free(der);
	mint_done(&root);
	mint_done(&leaf);
}

static void join_texts(void *context, const struct weft_problem *problem)
{
	strncat(context, problem->text, 1000 - strlen(context));
}

static void test_state_is_a_problem(void **state)
{
	static const char trouble[] = "the CA's root.pem is gone";
	struct lab *lab = *state;
	char texts[1024] = "";

	link_up(lab, WEFT_LINK_CONTROL_KEYS, 0, &lab->keys);
	send_bulk(lab, WEFT_KEYS_STATE, -EIO, trouble, sizeof(trouble));
	weft_control_secure_problems(&lab->control, join_texts, texts);
	assert_string_equal(texts, "certificates: the CA's root.pem is gone");
	texts[0] = '\0';
	send_bulk(lab, WEFT_KEYS_STATE, 0, NULL, 0);
	weft_control_secure_problems(&lab->control, join_texts, texts);
	assert_string_equal(texts, "");
	/* It is gone: nothing to say, and the next one is told all. */
	close(lab->keys);
	lab->keys = -1;
	run(lab);
	bring(lab, TWO_OF_ONE);
	link_up(lab, WEFT_LINK_CONTROL_KEYS, 0, &lab->keys);
	assert_wanted(lab, 24 * 3600, WEB);
}

/* ---- the mesh ---- */

static void test_mesh_goes_to_each_once(void **state)
{
	struct lab *lab = *state;

	bring(lab, TWO_OF_ONE);
	for (uint32_t i = 0; i < 2; i++) {
		link_up(lab, WEFT_LINK_CONTROL_PROXY, i, &lab->proxy[i]);
		assert_int_equal(mesh_of(lab->proxy[i]), 1);
	}
	weft_control_secure_update(&lab->control, false);
	for (int i = 0; i < 2; i++)
		assert_int_equal(mesh_of(lab->proxy[i]), 0);
	bring(lab, POD("db", "db", "10.1.0.3", ""));
	for (int i = 0; i < 2; i++)
		assert_int_equal(mesh_of(lab->proxy[i]), 2);
	/* A new one has the one in force, the other hears nothing of it. */
	link_up(lab, WEFT_LINK_CONTROL_PROXY, 1, &lab->proxy[1]);
	assert_int_equal(mesh_of(lab->proxy[1]), 2);
	assert_int_equal(mesh_of(lab->proxy[0]), 0);
}

static void test_links_that_are_none(void **state)
{
	struct lab *lab = *state;
	char byte;

	link_up(lab, WEFT_LINK_CONTROL_PROXY, WEFT_PROXY_MAX, &lab->proxy[0]);
	assert_int_equal(recv(lab->proxy[0], &byte, 1, 0), 0);
	link_up(lab, WEFT_LINK_MAIN_PROXY, 0, &lab->proxy[0]);
	assert_int_equal(recv(lab->proxy[0], &byte, 1, 0), 0);
}

static void test_log_level(void **state)
{
	struct lab *lab = *state;
	weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds fds = { .count = 0 };
	struct weft_proxy_message message;
	struct weft_keys_message keys;
	struct weft_err err = { "" };
	int fd;

	link_up(lab, WEFT_LINK_CONTROL_KEYS, 0, &lab->keys);
	while (from_keys_end(lab, &keys, &fd) == 0) /* WANT of nothing */
		if (fd >= 0)
			close(fd);
	weft_log_set_level(WEFT_LOG_WARNING);
	weft_control_secure_log_level(&lab->control);
	assert_int_equal(from_keys_end(lab, &keys, &fd), 0);
	assert_int_equal(keys.type, WEFT_KEYS_LOG_LEVEL);
	assert_int_equal(keys.key, WEFT_LOG_WARNING);
	link_up(lab, WEFT_LINK_CONTROL_PROXY, 0, &lab->proxy[0]);
	assert_int_equal(weft_proxy_receive(lab->proxy[0], WEFT_PROXY_SIDE_CONTROL, &message, &fds, &err), 0);
	assert_int_equal(message.arg[0], WEFT_LOG_WARNING);
}

/* ---- connections ---- */

/* A proxy that answers control whenever it asks. */
struct answering {
	int sock;
	const void *data;
	size_t size;
	uint32_t count;
	pthread_t thread;
	int stop[2];
	_Atomic unsigned int answers;
};

static int answer_one(struct answering *answering)
{
	weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds fds = { .count = 0 };
	struct weft_proxy_message message;
	struct weft_err err;
	int r = weft_proxy_receive(answering->sock, WEFT_PROXY_SIDE_CONTROL, &message, &fds, &err);

	if (r < 0 || message.type != WEFT_PROXY_CONNS_WANTED)
		return r;
	message = weft_proxy_message(WEFT_PROXY_CONNS, message.serial);
	message.count = answering->count;
	r = weft_proxy_send(answering->sock, &message, answering->data, answering->size);
	answering->answers++;
	return r;
}

static void *answer(void *context)
{
	struct answering *answering = context;

	for (;;) {
		struct pollfd poller[] = { { .fd = answering->sock, .events = POLLIN }, { .fd = answering->stop[0], .events = POLLIN } };
		int r;

		if (poll(poller, 2, -1) < 0 || poller[1].revents)
			return NULL;
		r = answer_one(answering);
		if (r < 0 && r != -EAGAIN)
			return (void *)1;
	}
}

static void begin(struct answering *answering, int sock, const void *data, size_t size, uint32_t count)
{
	*answering = (struct answering){ .sock = sock, .data = data, .size = size, .count = count };
	assert_int_equal(pipe2(answering->stop, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&answering->thread, NULL, answer, answering), 0);
}

static void end(struct answering *answering)
{
	void *result;

	assert_int_equal(write(answering->stop[1], "", 1), 1);
	assert_int_equal(pthread_join(answering->thread, &result), 0);
	assert_null(result);
	close(answering->stop[0]);
	close(answering->stop[1]);
}

struct conns {
	struct weft_proxy_facts facts;
	struct weft_proxy_conn conn;
	char texts[64];
};

/* As the CLI reads it. */
static struct json_object *shown(struct lab *lab)
{
	struct json_object *answer = weft_control_secure_conns_json(&lab->control), *list;

	list = json_tokener_parse(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	assert_true(json_object_is_type(list, json_type_array));
	json_object_put(answer);
	return list;
}

/* What comes late: control waits for a moment only, and not again for the same. */
static void run_late(struct lab *lab)
{
	assert_true(sd_event_run(lab->control.loop, 200000) >= 0);
	run(lab);
}

static struct json_object *await_shown(struct lab *lab, size_t count)
{
	struct json_object *list = shown(lab);

	for (int i = 0; i < 100 && json_object_array_length(list) != count; i++) {
		json_object_put(list);
		run_late(lab);
		list = shown(lab);
	}
	assert_int_equal(json_object_array_length(list), count);
	return list;
}

static struct conns conns_of(uint16_t port, uint64_t counted)
{
	struct conns conns = { .facts.count = { counted, 1 },
			       .conn = { .netns = 5, .role = WEFT_ROLE_SERVER, .security = WEFT_PROXY_MUTUAL_TLS, .local_port = htons(80),
					 .remote_port = htons(port), .peer_port = htons(4000), .sent = 10, .received = 20,
					 .local_identity = 1, .peer_identity = 5 } };

	conns.conn.local = conns.conn.remote = conns.conn.peer = (struct weft_addr)WEFT_ADDR_ANY_V4;
	conns.conn.local.w[3] = htonl(0x0a010001);
	conns.conn.remote.w[3] = conns.conn.peer.w[3] = htonl(0x0a010002);
	memcpy(conns.texts, "\0own\0peer", 10);
	return conns;
}

static void test_conns(void **state)
{
	struct lab *lab = *state;
	struct conns conns[2] = { conns_of(1000, 3), conns_of(2000, 4) };
	uint64_t counts[WEFT_ARRAY_SIZE(conns[0].facts.count)] = { 0 };
	weft_buf_done_on_exit struct weft_buf expiries = WEFT_BUF_INIT, served = WEFT_BUF_INIT;
	struct answering answering[2];
	struct weft_ends ends;
	struct json_object *list, *row;

	for (uint32_t i = 0; i < 2; i++) {
		link_up(lab, WEFT_LINK_CONTROL_PROXY, i, &lab->proxy[i]);
		begin(&answering[i], lab->proxy[i], &conns[i], sizeof(conns[i]), 1);
	}
	list = await_shown(lab, 2);
	row = json_object_array_get_idx(list, 1);
	assert_string_equal(text_of(row, "role"), "server");
	assert_string_equal(text_of(row, "local"), "10.1.0.1:80");
	assert_string_equal(text_of(row, "remote"), "10.1.0.2:2000");
	assert_string_equal(text_of(row, "peer"), "10.1.0.2:4000");
	assert_string_equal(text_of(row, "security"), "mutual_tls");
	assert_string_equal(text_of(row, "identity"), "own");
	assert_string_equal(text_of(row, "peer_identity"), "peer");
	assert_int_equal(number_of(row, "sent"), 10);
	json_object_put(list);
	assert_int_equal(weft_control_secure_metrics(&lab->control, &expiries, counts), 0);
	assert_int_equal(counts[0], 7);
	assert_int_equal(counts[1], 2);
	for (int i = 0; i < 2; i++)
		end(&answering[i]);

	/* Those of servers, as their applications' sockets have them. */
	conns[0].conn.role = WEFT_ROLE_CLIENT;
	for (int i = 0; i < 2; i++)
		begin(&answering[i], lab->proxy[i], &conns[i], sizeof(conns[i]), 1);
	for (int i = 0; i < 100 && served.size != sizeof(ends); i++) {
		run_late(lab);
		weft_buf_clear(&served);
		assert_int_equal(weft_control_secure_served(&lab->control, &served), 0);
	}
	for (int i = 0; i < 2; i++)
		end(&answering[i]);
	assert_int_equal(served.size, sizeof(ends));
	memcpy(&ends, served.data, sizeof(ends));
	assert_memory_equal(&ends.local, &conns[1].conn.local, sizeof(ends.local));
	assert_memory_equal(&ends.remote, &conns[1].conn.remote, sizeof(ends.remote));
	assert_int_equal(ends.local_port, htons(80));
	assert_int_equal(ends.remote_port, htons(2000));
}

/* One that stands still is asked once, is not shown with what was, and counts again when it answers. */
static void test_conns_of_one_that_stands_still(void **state)
{
	struct lab *lab = *state;
	struct conns conns[2] = { conns_of(1000, 3), conns_of(2000, 4) };
	struct answering quick, slow = { .data = &conns[1], .size = sizeof(conns[1]), .count = 1 };
	struct json_object *list;

	for (uint32_t i = 0; i < 2; i++)
		link_up(lab, WEFT_LINK_CONTROL_PROXY, i, &lab->proxy[i]);
	slow.sock = lab->proxy[1];
	while (answer_one(&slow) == 0) /* its log level */
		;
	begin(&quick, lab->proxy[0], &conns[0], sizeof(conns[0]), 1);
	for (int turn = 0; turn < 2; turn++) {
		list = await_shown(lab, 1);
		assert_string_equal(text_of(json_object_array_get_idx(list, 0), "remote"), "10.1.0.2:1000");
		json_object_put(list);
	}
	assert_int_equal(answer_one(&slow), 0);
	assert_int_equal(slow.answers, 1);
	assert_told_nothing(lab->proxy[1]);
	run(lab);
	/* What it said late is of long ago by the next question. */
	list = await_shown(lab, 1);
	json_object_put(list);
	begin(&slow, lab->proxy[1], &conns[1], sizeof(conns[1]), 1);
	json_object_put(await_shown(lab, 2));
	end(&slow);
	/* One that is gone has no connections. */
	close(lab->proxy[1]);
	lab->proxy[1] = -1;
	json_object_put(await_shown(lab, 1));
	end(&quick);
}

/* What is no answer shows nothing, and nothing of before. */
static void test_conns_that_are_none(void **state)
{
	struct lab *lab = *state;
	struct conns good = conns_of(1000, 3), beyond = good, role = good, text = good;
	const struct {
		const void *data;
		size_t size;
		uint32_t count;
	} bad[] = { { &good, sizeof(good) - sizeof(good.texts), 1 }, { &good, sizeof(good), 2 }, { &beyond, sizeof(beyond), 1 },
		    { &role, sizeof(role), 1 }, { &text, sizeof(text), 1 }, { "", 1, 0 } };
	struct answering answering;

	beyond.conn.peer_identity = sizeof(beyond.texts);
	role.conn.role = WEFT_ROLE_MAX_;
	text.texts[sizeof(text.texts) - 1] = 'x';
	link_up(lab, WEFT_LINK_CONTROL_PROXY, 0, &lab->proxy[0]);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(bad); i++) {
		begin(&answering, lab->proxy[0], &good, sizeof(good), 1);
		json_object_put(await_shown(lab, 1));
		end(&answering);
		begin(&answering, lab->proxy[0], bad[i].data, bad[i].size, bad[i].count);
		while (answering.answers < 2) {
			json_object_put(await_shown(lab, 0));
			run_late(lab);
		}
		end(&answering);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_is_attached, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_want, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keys_is_slow, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_identities, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_state_is_a_problem, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mesh_goes_to_each_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_links_that_are_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_log_level, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_conns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_conns_of_one_that_stands_still, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_conns_that_are_none, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
