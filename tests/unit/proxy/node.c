/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the node decides, with an engine, a mesh and certificates that only write down what they are asked: all functions of
 * theirs that the node calls are here, so that the linker takes none from the libraries.
 */
#include "lib/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proxy/headers.h"
#include "proxy/node.h"
#include "model/mesh.h"

#define NETNS 4711
#define OWN "spiffe://cluster.local/ns/shop/sa/cart"
#define PEER "spiffe://cluster.local/ns/shop/sa/db"

static struct weft_loop *loop;
static struct weft_node *node;
static unsigned int streams; /* the node may carry; 0: its default */
static struct weft_loop_timer deadline;
static bool late;

/* ---- what the engine was told ---- */

static struct weft_hbone_ops engine;
static struct {
	unsigned int opens, accepts, refusals, dials, cuts, rechecks, sockets, drains, leaves;
	char authority[128], forwarded[256], baggage[512], traceparent[64], expected[128], source[64], peer[64];
	int app, status, socket, dialled;
	void *user;
	struct weft_hbone_stream *cut;
	int open_fails;
} told;
static struct weft_hbone_facts facts;

#define STREAM(number) ((struct weft_hbone_stream *)(uintptr_t)(0x1000 + (number)))

int weft_hbone_new(struct weft_loop *of, struct weft_remote_keys *keys, const struct weft_hbone_ops *ops, const struct weft_hbone_limits *limits,
		   struct weft_hbone **ret_hbone)
{
	(void)of;
	(void)keys;
	(void)limits;
	engine = *ops;
	*ret_hbone = (struct weft_hbone *)(uintptr_t)8;
	return 0;
}

struct weft_hbone *weft_hbone_free(struct weft_hbone *hbone)
{
	(void)hbone;
	return NULL;
}

int weft_hbone_open(struct weft_hbone *hbone, const struct weft_hbone_open *open, int app, void *user, struct weft_hbone_stream **ret_stream)
{
	char text[WEFT_ADDR_TEXT];

	(void)hbone;
	told.opens++;
	snprintf(told.authority, sizeof(told.authority), "%s", open->authority);
	snprintf(told.forwarded, sizeof(told.forwarded), "%s", open->forwarded);
	snprintf(told.baggage, sizeof(told.baggage), "%s", open->baggage);
	snprintf(told.traceparent, sizeof(told.traceparent), "%s", open->traceparent);
	snprintf(told.expected, sizeof(told.expected), "%s", open->expected[0]);
	assert_null(open->expected[1]);
	snprintf(told.source, sizeof(told.source), "%s", weft_addr_format(&open->source, text));
	snprintf(told.peer, sizeof(told.peer), "%s", weft_addr_port_format(&open->peer, open->port, text));
	told.app = app;
	told.user = user;
	weft_loop_exit(loop, 0);
	if (told.open_fails) {
		close(app);
		return told.open_fails;
	}
	*ret_stream = STREAM(told.opens);
	return 0;
}

int weft_hbone_accept(struct weft_hbone *hbone, struct weft_identity *identity, int fd, uint64_t netns)
{
	(void)hbone;
	assert_non_null(identity);
	assert_int_equal(netns, NETNS);
	told.accepts++;
	close(fd);
	weft_loop_exit(loop, 0);
	return 0;
}

void weft_hbone_refuse(struct weft_hbone_stream *stream, int status)
{
	(void)stream;
	told.refusals++;
	told.status = status;
}

void weft_hbone_dial(struct weft_hbone_stream *stream, int fd)
{
	(void)stream;
	told.dials++;
	told.dialled = fd;
}

void weft_hbone_cut(struct weft_hbone_stream *stream)
{
	told.cuts++;
	told.cut = stream;
}

void weft_hbone_leave(struct weft_hbone *hbone, uint64_t netns)
{
	(void)hbone;
	assert_int_equal(netns, NETNS);
	told.leaves++;
}

void weft_hbone_recheck(struct weft_hbone *hbone, const struct weft_trust *trust, time_t now)
{
	(void)hbone;
	(void)trust;
	(void)now;
	told.rechecks++;
}

void weft_hbone_socket(struct weft_hbone *hbone, uint64_t netns, int family, int fd)
{
	(void)hbone;
	assert_int_equal(netns, NETNS);
	assert_int_equal(family, AF_INET);
	told.sockets++;
	told.socket = fd;
	if (fd >= 0)
		close(fd);
}

void weft_hbone_facts(const struct weft_hbone_stream *stream, struct weft_hbone_facts *ret_facts)
{
	(void)stream;
	*ret_facts = facts;
}

void weft_hbone_renewed(struct weft_hbone *hbone, const struct weft_identity *identity)
{
	(void)hbone;
	(void)identity;
}

void weft_hbone_drain(struct weft_hbone *hbone)
{
	(void)hbone;
	told.drains++;
}

void weft_hbone_ready(struct weft_hbone *hbone, void *waiter)
{
	(void)hbone;
	(void)waiter;
}

/* ---- certificates ---- */

struct weft_identity {
	char id[128];
	unsigned int refs;
	time_t not_after;
};

static time_t not_after;

int weft_identity_new(const char *id, const struct weft_der *chain, size_t count, EVP_PKEY *key, struct weft_trust *trust,
		      struct weft_identity **ret_identity, struct weft_err *err)
{
	struct weft_identity *identity = calloc(1, sizeof(*identity));

	(void)key;
	(void)err;
	assert_non_null(trust);
	assert_int_equal(count, 1);
	assert_true(chain[0].size > 0);
	snprintf(identity->id, sizeof(identity->id), "%s", id);
	identity->refs = 1;
	identity->not_after = not_after;
	*ret_identity = identity;
	return 0;
}

struct weft_identity *weft_identity_ref(struct weft_identity *identity)
{
	identity->refs++;
	return identity;
}

struct weft_identity *weft_identity_unref(struct weft_identity *identity)
{
	if (identity && --identity->refs == 0)
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

int weft_remote_key_new(struct weft_remote_keys *keys, uint64_t key, X509 *certificate, EVP_PKEY **ret_key, struct weft_err *err)
{
	(void)keys;
	(void)err;
	assert_int_equal(key, 99);
	assert_non_null(certificate);
	*ret_key = NULL;
	return 0;
}

struct weft_trust *weft_trust_ref(struct weft_trust *trust)
{
	return trust;
}

struct weft_trust *weft_trust_unref(struct weft_trust *trust)
{
	(void)trust;
	return NULL;
}

#define TRUST ((struct weft_trust *)(uintptr_t)16)

/* ---- the mesh: one workload here, 1 at 127.0.0.1, and one there, 2 at 10.0.2.2 ---- */

static struct {
	const char *peer_identity;
	uint32_t peer_flags;
	bool broken, without_peer, denies;
	struct weft_peer judged;
	uint16_t port;
} mesh;

int weft_mesh_open(const void *data, size_t size, struct weft_mesh *ret_mesh, struct weft_err *err)
{
	if (mesh.broken)
		return weft_err_set(err, EBADMSG, "it is broken");
	*ret_mesh = (struct weft_mesh){ data, size };
	return 0;
}

static struct weft_mesh_workload here(void)
{
	return (struct weft_mesh_workload){ 1,	    WEFT_WORKLOAD_F_LOCAL, OWN,		 "cluster.local", "shop", "cart", "cart-1",
					    "cart", "deployment",	   "cart",	 "",		  "",	  "",	  "" };
}

int weft_mesh_by_id(const struct weft_mesh *of, uint32_t id, struct weft_mesh_workload *ret_workload)
{
	(void)of;
	if (id != 1)
		return -ENOENT;
	*ret_workload = here();
	return 0;
}

int weft_mesh_by_addr(const struct weft_mesh *of, const struct weft_addr *addr, struct weft_mesh_workload *ret_workload)
{
	char text[WEFT_ADDR_TEXT];

	(void)of;
	*ret_workload = here();
	if (strcmp(weft_addr_format(addr, text), "127.0.0.1") == 0)
		return 0;
	if (strcmp(text, "10.0.2.2") != 0 || mesh.without_peer)
		return -ENOENT;
	ret_workload->id = 2;
	ret_workload->identity = mesh.peer_identity;
	ret_workload->flags = mesh.peer_flags;
	ret_workload->name = "db-0";
	return 0;
}

const char *weft_mesh_service_host(const struct weft_mesh *of, uint32_t service)
{
	(void)of;
	return service == 7 ? "db.shop.svc.cluster.local" : "";
}

void weft_mesh_judge(const struct weft_mesh *of, uint32_t to, const struct weft_peer *peer, uint16_t port, struct weft_verdict *ret_verdict)
{
	(void)of;
	assert_int_equal(to, 1);
	mesh.judged = *peer;
	mesh.port = port;
	*ret_verdict = (struct weft_verdict){ !mesh.denies, false, mesh.denies ? "AuthorizationPolicy shop/none" : "", mesh.denies ? "no ALLOW policy matches" : "" };
}

/* ---- the kernel's answer to SO_ORIGINAL_DST ---- */

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size);

static struct weft_original original;
static bool captured;

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
	if (level != SOL_IP || name != 80)
		return __real_getsockopt(fd, level, name, value, size);
	if (!captured) {
		errno = ENOENT;
		return -1;
	}
	assert_int_equal(*size, sizeof(original));
	memcpy(value, &original, sizeof(original));
	return 0;
}

/* ---- the others ---- */

static struct {
	unsigned int count;
	uint32_t serial;
	enum weft_proxy_socket kind;
	int r;
	uint32_t last[WEFT_PROXY_SOCKET_MAX_];
} wanted;
static char said[4096];
static unsigned int sentences;

static int want(void *context, uint32_t serial, uint64_t netns, enum weft_proxy_socket kind, int family, unsigned int count)
{
	(void)context;
	assert_int_equal(netns, NETNS);
	assert_int_equal(family, AF_INET);
	assert_true(count >= 1 && count <= WEFT_PROXY_MAX_SOCKETS);
	wanted.count++;
	wanted.last[kind] = serial;
	return wanted.r;
}

static void say(void *context, enum weft_log_level level, const char *sentence)
{
	(void)context;
	(void)level;
	snprintf(said, sizeof(said), "%s", sentence);
	sentences++;
	weft_loop_exit(loop, 0);
}

static void too_late(struct weft_loop_timer *timer)
{
	(void)timer;
	late = true;
	weft_loop_exit(loop, 0);
}

/* Until something of the above says that it happened. */
static void run(void)
{
	late = false;
	weft_loop_timer(loop, &deadline, 10000);
	assert_int_equal(weft_loop_run(loop), 0);
	weft_loop_timer_stop(&deadline);
	assert_false(late);
}

static uint64_t counted(enum weft_proxy_count what)
{
	weft_buf_done_on_exit struct weft_buf out = WEFT_BUF_INIT;
	struct weft_proxy_facts all;
	uint32_t count;

	assert_int_equal(weft_node_conns(node, &out, &count), 0);
	memcpy(&all, out.data, sizeof(all));
	return all.count[what];
}

static int listening(struct sockaddr_in *ret_at)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
	*ret_at = at;
	return fd;
}

static struct sockaddr_in keep(uint16_t port)
{
	const struct weft_node_listener listener = { NETNS, 1, port, AF_INET };
	struct sockaddr_in at;

	assert_int_equal(weft_node_keep(node, &listener, listening(&at)), 0);
	return at;
}

static int client(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)to, sizeof(*to)), 0);
	return fd;
}

static void assert_reset(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

static void give_mesh(void)
{
	struct weft_err err = { "" };
	void *data = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_int_equal(weft_node_mesh(node, data, 4096, &err), mesh.broken ? -EBADMSG : 0);
}

static X509 *certificate(void)
{
	X509 *x509 = X509_new();
	EVP_PKEY *key = EVP_EC_gen("P-256");

	X509_set_pubkey(x509, key);
	X509_gmtime_adj(X509_getm_notBefore(x509), 0);
	X509_gmtime_adj(X509_getm_notAfter(x509), 60);
	X509_sign(x509, key, EVP_sha256());
	EVP_PKEY_free(key);
	return x509;
}

static void give_identity(void)
{
	X509 *x509 = certificate();
	unsigned char *der = NULL;
	struct weft_der chain = { .size = (size_t)i2d_X509(x509, &der) };
	struct weft_err err = { "" };

	chain.data = der;
	assert_int_equal(weft_node_identity(node, OWN, 99, &chain, 1, &err), 0);
	OPENSSL_free(der);
	X509_free(x509);
}

static void give_trust(void)
{
	struct weft_err err = { "" };

	assert_int_equal(weft_node_trust(node, TRUST, &err), 0);
}

static int set_up(void **state)
{
	const struct weft_node_ops ops = { .want = want, .say = say };

	(void)state;
	memset(&told, 0, sizeof(told));
	memset(&wanted, 0, sizeof(wanted));
	memset(&mesh, 0, sizeof(mesh));
	memset(&original, 0, sizeof(original));
	memset(&facts, 0, sizeof(facts));
	facts.peer_identity = "";
	mesh.peer_identity = PEER;
	mesh.peer_flags = WEFT_WORKLOAD_F_TUNNEL;
	captured = true;
	sentences = 0;
	said[0] = '\0';
	not_after = time(NULL) + 3600;
	original.netns = NETNS;
	original.workload = 1;
	original.peer = 2;
	original.service = 7;
	original.endpoint_port = htons(5432);
	weft_addr_parse("10.0.2.2", &original.endpoint_addr);
	deadline.fired = too_late;
	assert_int_equal(weft_loop_new(&loop), 0);
	return weft_node_new(loop, NULL, &ops, NULL, streams, &node);
}

static int tear_down(void **state)
{
	(void)state;
	weft_node_free(node);
	weft_loop_free(loop);
	return 0;
}

/* ---- outbound ---- */

static void a_captured_connection_is_taken_into_a_tunnel(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND), own;
	weft_close_on_exit int fd = -1;
	socklen_t size = sizeof(own);
	char expected[128];

	(void)state;
	give_trust();
	give_identity();
	give_mesh();
	fd = client(&at);
	run();
	assert_int_equal(told.opens, 1);
	assert_string_equal(told.authority, "10.0.2.2:5432");
	assert_string_equal(told.peer, "10.0.2.2:15008");
	assert_string_equal(told.expected, PEER);
	assert_string_equal(told.source, "127.0.0.1");
	assert_string_equal(told.baggage, "k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart");
	assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &size), 0);
	snprintf(expected, sizeof(expected), "for=\"127.0.0.1:%u\";host=db.shop.svc.cluster.local", ntohs(own.sin_port));
	assert_string_equal(told.forwarded, expected);
	assert_true(weft_traceparent_valid(told.traceparent));
	engine.opened(engine.context, STREAM(1), told.user);
	assert_int_equal(counted(WEFT_PROXY_COUNT_OUTBOUND), 1);
	engine.ended(engine.context, STREAM(1), told.user, WEFT_HBONE_CLOSED, 0, &facts, NULL);
	assert_true(weft_node_idle(node));
	assert_int_equal(sentences, 0);
	close(told.app);
}

/* In whatever order the rest comes, and nothing of it is there at first. */
static void it_waits_for_what_is_to_come(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int fd = client(&at);

	(void)state;
	weft_loop_timer(loop, &deadline, 200); /* accepts it, and cannot go on */
	assert_int_equal(weft_loop_run(loop), 0);
	assert_int_equal(told.opens, 0);
	assert_false(weft_node_idle(node));
	give_mesh();
	give_identity();
	assert_int_equal(told.opens, 0);
	give_trust();
	assert_int_equal(told.opens, 1);
	engine.ended(engine.context, STREAM(1), told.user, WEFT_HBONE_CLOSED, 0, &facts, NULL);
	close(told.app);
}

static void without_a_certificate_it_ends_with_a_reset(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int fd = client(&at);

	(void)state;
	give_trust();
	give_mesh();
	not_after = time(NULL) - 1; /* one that has ended is none */
	give_identity();
	run();
	assert_contains(said, "shop/cart-1 to 10.0.2.2:5432: this node has no valid certificate for " OWN);
	assert_int_equal(counted(WEFT_PROXY_COUNT_NO_IDENTITY), 1);
	assert_reset(fd);
	assert_int_equal(told.opens, 0);
}

static void an_unknown_peer_is_never_called_in_plaintext(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int first = client(&at), second = -1, third = -1;

	(void)state;
	give_trust();
	give_identity();
	mesh.without_peer = true;
	give_mesh();
	run();
	assert_contains(said, "nobody in the mesh has that address");
	assert_reset(first);
	mesh.without_peer = false;
	mesh.peer_identity = "";
	second = client(&at);
	run();
	assert_contains(said, "shop/db-0 has no identity that could be verified");
	assert_reset(second);
	mesh.peer_identity = PEER;
	mesh.peer_flags = 0;
	third = client(&at);
	run();
	assert_contains(said, "does not take tunnels any more");
	assert_reset(third);
	assert_int_equal(counted(WEFT_PROXY_COUNT_PEER_UNKNOWN), 3);
	assert_int_equal(told.opens, 0);
}

static void whoever_calls_the_agent_itself_is_reset(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int first = client(&at), second = -1;

	(void)state;
	give_trust();
	give_identity();
	give_mesh();
	captured = false;
	run();
	assert_contains(said, "nothing was captured there, it called the agent itself");
	assert_reset(first);
	captured = true;
	original.endpoint_port = htons(15008);
	second = client(&at);
	run();
	assert_contains(said, "it would call the mesh from within");
	assert_reset(second);
	assert_int_equal(counted(WEFT_PROXY_COUNT_LOOP), 2);
	assert_int_equal(told.opens, 0);
}

/* A pod with another's address, in the moment in which that one connects, would speak in its name. */
static void what_another_pod_asked_for_is_nobodys(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int first = client(&at);

	(void)state;
	give_trust();
	give_identity();
	give_mesh();
	original.netns = NETNS + 1;
	run();
	assert_contains(said, "that was asked for from another network namespace");
	assert_reset(first);
	assert_int_equal(counted(WEFT_PROXY_COUNT_LOOP), 1);
	assert_int_equal(told.opens, 0);
}

static void what_failed_is_said_in_words(void **state)
{
	static const struct {
		enum weft_hbone_end end;
		int status;
		const char *said;
		enum weft_proxy_count what;
	} rows[] = {
		{ WEFT_HBONE_REFUSED, 401, "connection of shop/cart-1 to 10.0.2.2:5432 failed: the agent there denies it by policy (401)", WEFT_PROXY_COUNT_PEER_DENIED },
		{ WEFT_HBONE_REFUSED, 503, "could not reach the application (503)", WEFT_PROXY_COUNT_PEER_DENIED },
		{ WEFT_HBONE_UNREACHABLE, 0, "no agent was reached there: why", WEFT_PROXY_COUNT_UPSTREAM_FAILED },
		{ WEFT_HBONE_PEER_NOT_TRUSTED, 0, "its agent is not believed: why", WEFT_PROXY_COUNT_PEER_REFUSED },
	};
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);

	(void)state;
	give_trust();
	give_identity();
	give_mesh();
	weft_addr_parse("10.0.2.2", &facts.peer);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(rows); i++) {
		weft_close_on_exit int fd = client(&at);
		struct weft_err err = { "why" };
		uint64_t before = counted(rows[i].what);

		run();
		if (rows[i].end == WEFT_HBONE_PEER_NOT_TRUSTED)
			engine.count(engine.context, rows[i].what); /* the engine's own */
		engine.ended(engine.context, STREAM(i), told.user, rows[i].end, rows[i].status, &facts, &err);
		assert_contains(said, rows[i].said);
		assert_int_equal(counted(rows[i].what), before + 1);
		close(told.app);
	}
}

static void an_engine_without_room_is_no_leak(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int fd = -1;

	(void)state;
	give_trust();
	give_identity();
	give_mesh();
	told.open_fails = -EMFILE;
	fd = client(&at);
	run();
	assert_contains(said, "this proxy has no room for more");
	assert_true(weft_node_idle(node));
}

/* ---- sockets for the engine ---- */

static void the_engine_is_given_what_it_was_promised(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), got;

	(void)state;
	assert_int_equal(engine.socket(engine.context, NETNS, AF_INET), -ENOENT); /* no such pod */
	keep(WEFT_PORT_OUTBOUND);
	assert_int_equal(wanted.count, 1);
	assert_int_equal(engine.socket(engine.context, NETNS, AF_INET), -EINPROGRESS);
	weft_node_sockets(node, wanted.last[WEFT_PROXY_SOCKET_OUTBOUND] + 7, NULL, 0, -EMFILE, UINT32_MAX); /* nobody asked under that number */
	assert_int_equal(told.sockets, 0);
	weft_node_sockets(node, wanted.last[WEFT_PROXY_SOCKET_OUTBOUND], &fd, 1, 0, UINT32_MAX);
	assert_int_equal(told.sockets, 1);
	assert_int_equal(told.socket, fd);
	assert_int_equal(engine.socket(engine.context, NETNS, AF_INET), -EINPROGRESS);
	weft_node_asks_anew(node); /* another main */
	weft_node_sockets(node, wanted.last[WEFT_PROXY_SOCKET_OUTBOUND], NULL, 0, -EMFILE, UINT32_MAX);
	assert_int_equal(told.socket, -EMFILE);
	assert_int_equal(engine.socket(engine.context, NETNS, AF_INET), -EINPROGRESS);
	got = told.sockets;
	weft_node_drop(node, &(struct weft_node_listener){ NETNS, 1, WEFT_PORT_OUTBOUND, AF_INET });
	assert_int_equal(told.sockets, got + 1);
	assert_int_equal(told.socket, -ENOENT);
}

/* ---- inbound ---- */

static void a_tunnel_is_served_with_the_pods_certificate(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_HBONE);
	weft_close_on_exit int fd = client(&at);

	(void)state;
	give_trust();
	give_mesh();
	give_identity();
	run();
	assert_int_equal(told.accepts, 1);
}

/* The request's answer: the flow, or NULL if it was refused. */
static void *request(const char *authority, const char *forwarded, const char *from)
{
	struct weft_hbone_peer peer = { .identity = PEER, .port = 33333, .netns = NETNS };
	const struct weft_hbone_headers headers = { authority, "k8s.namespace.name=kube-system", forwarded, "" };
	void *user = NULL;

	weft_addr_parse(from, &peer.addr);
	weft_addr_parse("127.0.0.1", &peer.local);
	engine.request(engine.context, STREAM(1), &peer, &headers, &user);
	return user;
}

static void ready_to_serve(void)
{
	keep(WEFT_PORT_HBONE);
	give_trust();
	give_mesh();
	give_identity();
}

static void a_bad_authority_is_400(void **state)
{
	static const struct {
		const char *authority, *said;
		enum weft_proxy_count what;
	} rows[] = {
		{ "10.0.2.2:80", "it asks for 10.0.2.2:80, which is another pod's", WEFT_PROXY_COUNT_BAD_REQUEST },
		{ "127.0.0.2:80", "the pod's loopback", WEFT_PROXY_COUNT_BAD_REQUEST },
		{ "[::1]:80", "the pod's loopback", WEFT_PROXY_COUNT_BAD_REQUEST },
		{ "db.shop.svc.cluster.local:80", "it asks for the name db.shop.svc.cluster.local", WEFT_PROXY_COUNT_BAD_REQUEST },
		{ "root@10.0.2.2:80", "userinfo", WEFT_PROXY_COUNT_BAD_REQUEST },
		{ "10.0.2.2:0", "a port that is none", WEFT_PROXY_COUNT_BAD_REQUEST },
		{ "", "no authority", WEFT_PROXY_COUNT_BAD_REQUEST },
	};

	(void)state;
	ready_to_serve();
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(rows); i++) {
		told.status = 0;
		assert_null(request(rows[i].authority, "", "10.0.2.2"));
		assert_int_equal(told.status, 400);
		assert_contains(said, rows[i].said);
		assert_contains(said, "refused a request of " PEER " at 10.0.2.2:33333 to shop/cart-1");
		assert_int_equal(counted(rows[i].what), i + 1);
	}
	assert_true(weft_node_idle(node));
}

/* The pod's own address, as `local` of these tests is loopback, is the one loopback address that may be asked for. */
static void request_to_pod(struct weft_addr *local, uint16_t port, const char *forwarded, const char *from, void **ret_user)
{
	struct weft_hbone_peer peer = { .identity = PEER, .port = 33333, .netns = NETNS, .local = *local };
	char authority[WEFT_ADDR_TEXT];
	const struct weft_hbone_headers headers = { weft_addr_port_format(local, port, authority), "", forwarded, "" };

	weft_addr_parse(from, &peer.addr);
	engine.request(engine.context, STREAM(1), &peer, &headers, ret_user);
}

static void an_agents_port_is_400_and_a_loop(void **state)
{
	static const uint16_t ports[] = { 15001, 15006, 15008, 15080 };
	struct weft_addr local;
	void *user = NULL;

	(void)state;
	ready_to_serve();
	weft_addr_parse("10.0.1.1", &local);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(ports); i++) {
		told.status = 0;
		request_to_pod(&local, ports[i], "", "10.0.2.2", &user);
		assert_int_equal(told.status, 400);
		assert_int_equal(counted(WEFT_PROXY_COUNT_LOOP), i + 1);
	}
	assert_null(user);
}

static void policy_says_401_by_what_is_proved(void **state)
{
	struct weft_addr local;
	char text[WEFT_ADDR_TEXT];
	void *user = NULL;

	(void)state;
	ready_to_serve();
	weft_addr_parse("10.0.1.1", &local);
	mesh.denies = true;
	request_to_pod(&local, 8080, "for=\"10.9.9.9:1\"", "10.0.2.2", &user);
	assert_null(user);
	assert_int_equal(told.status, 401);
	assert_string_equal(mesh.judged.identity, PEER);
	assert_string_equal(weft_addr_format(&mesh.judged.addr, text), "10.0.2.2"); /* and not what the header claims */
	assert_int_equal(mesh.port, 8080);
	assert_string_equal(said, "denied " PEER " at 10.0.2.2:33333 to port 8080 of shop/cart-1: no ALLOW policy matches, by AuthorizationPolicy shop/none");
	assert_int_equal(counted(WEFT_PROXY_COUNT_POLICY_DENIED), 1);
}

/* An application at 127.0.0.2, as another pod's own address would be; loopback is bound to without a privilege. */
static int serve_application(struct weft_addr *ret_local, uint16_t *ret_port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1) };
	socklen_t size = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
	weft_addr_parse("127.0.0.2", ret_local);
	*ret_port = ntohs(at.sin_port);
	return fd;
}

static void give_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	weft_node_sockets(node, wanted.last[WEFT_PROXY_SOCKET_INBOUND], &fd, 1, 0, UINT32_MAX);
}

static uint16_t free_port(void)
{
	struct sockaddr_in at;
	weft_close_on_exit int fd = listening(&at);

	return ntohs(at.sin_port);
}

#define SPOOFED "127.0.0.3"

static struct sockaddr_in reach_application(uint16_t claimed, const char *claims, void **ret_user)
{
	struct weft_addr local;
	uint16_t port;
	weft_close_on_exit int application = serve_application(&local, &port), accepted = -1;
	struct sockaddr_in from = { 0 };
	socklen_t size = sizeof(from);
	char forwarded[64];
	struct pollfd poller = { .fd = application, .events = POLLIN };

	snprintf(forwarded, sizeof(forwarded), "for=\"%s:%u\"", claims, claimed);
	request_to_pod(&local, port, forwarded, SPOOFED, ret_user);
	assert_non_null(*ret_user);
	if (!told.dials)
		give_socket();
	assert_int_equal(told.dials, 1);
	assert_int_equal(poll(&poller, 1, 5000), 1);
	accepted = accept(application, (struct sockaddr *)&from, &size);
	assert_true(accepted >= 0);
	return from;
}

static void the_application_sees_its_client(void **state)
{
	uint16_t port = free_port();
	struct sockaddr_in from;
	void *user = NULL;

	(void)state;
	ready_to_serve();
	from = reach_application(port, SPOOFED, &user);
	assert_int_equal(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK + 2);
	assert_int_equal(ntohs(from.sin_port), port);
	engine.opened(engine.context, STREAM(1), user);
	assert_int_equal(counted(WEFT_PROXY_COUNT_INBOUND), 1);
	engine.ended(engine.context, STREAM(1), user, WEFT_HBONE_CLOSED, 0, &facts, NULL);
	close(told.dialled);
}

/* The address is that of the TLS connection whatever the header claims, and then the port is not the header's either. */
static void a_spoofed_forwarded_changes_nothing(void **state)
{
	uint16_t port = free_port();
	struct sockaddr_in from;
	void *user = NULL;

	(void)state;
	ready_to_serve();
	from = reach_application(port, "127.0.0.9", &user);
	assert_int_equal(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK + 2);
	assert_int_not_equal(ntohs(from.sin_port), port);
	engine.ended(engine.context, STREAM(1), user, WEFT_HBONE_CLOSED, 0, &facts, NULL);
	close(told.dialled);
}

static void a_client_port_that_is_taken_is_another_one(void **state)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 2) }, from;
	weft_close_on_exit int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(at);
	void *user = NULL;

	(void)state;
	assert_int_equal(bind(taken, (struct sockaddr *)&at, size), 0);
	assert_int_equal(listen(taken, 1), 0);
	assert_int_equal(getsockname(taken, (struct sockaddr *)&at, &size), 0);
	ready_to_serve();
	from = reach_application(ntohs(at.sin_port), SPOOFED, &user);
	assert_int_equal(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK + 2);
	assert_int_not_equal(ntohs(from.sin_port), ntohs(at.sin_port));
	engine.ended(engine.context, STREAM(1), user, WEFT_HBONE_CLOSED, 0, &facts, NULL);
	close(told.dialled);
}

static void a_stream_without_socket_waits_and_may_go(void **state)
{
	struct weft_addr local;
	void *user = NULL;

	(void)state;
	ready_to_serve();
	weft_addr_parse("10.0.1.1", &local);
	request_to_pod(&local, 8080, "", "10.0.2.2", &user);
	assert_non_null(user);
	assert_int_equal(told.refusals + told.dials, 0);
	engine.ended(engine.context, STREAM(1), user, WEFT_HBONE_PEER_RESET, 0, &facts, NULL);
	give_socket();
	assert_int_equal(told.refusals + told.dials, 0);
	assert_true(weft_node_idle(node));
	/* And is told what main says. */
	for (int i = 0; i < 3; i++)
		request_to_pod(&local, 8080, "", "10.0.2.2", &user);
	weft_node_sockets(node, wanted.last[WEFT_PROXY_SOCKET_INBOUND], NULL, 0, -EMFILE, UINT32_MAX);
	assert_int_equal(told.status, 503);
	assert_contains(said, "this node may have no more sockets");
	assert_true(counted(WEFT_PROXY_COUNT_NO_SOCKET) >= 1);
}

/* ---- shares ---- */

static void *stream_of(const char *identity)
{
	struct weft_hbone_peer peer = { .identity = identity, .port = 33333, .netns = NETNS };
	const struct weft_hbone_headers headers = { "10.0.1.1:8080", "", "", "" };
	void *user = NULL;

	weft_addr_parse("10.0.2.2", &peer.addr);
	weft_addr_parse("10.0.1.1", &peer.local);
	told.status = 0;
	engine.request(engine.context, STREAM(1), &peer, &headers, &user);
	assert_int_equal(told.status, user ? 0 : 503);
	return user;
}

static unsigned int streams_of(const char *identity, void **users, unsigned int most)
{
	unsigned int got = 0;

	while (got < most && (users[got] = stream_of(identity)))
		got++;
	return got;
}

static void end(void **users, unsigned int number)
{
	while (number)
		engine.ended(engine.context, STREAM(1), users[--number], WEFT_HBONE_CLOSED, 0, &facts, NULL);
}

#define OTHER "spiffe://cluster.local/ns/shop/sa/other"

static int set_up_few(void **state)
{
	int r;

	streams = 8;
	r = set_up(state);
	streams = 0;
	return r;
}

static void a_peer_has_its_share_of_a_node(void **state)
{
	void *first[8], *second[8];

	(void)state;
	ready_to_serve();
	assert_int_equal(streams_of(PEER, first, 8), 6);
	assert_contains(said, "refused a stream of " PEER " to port 8080 of shop/cart-1: it has its fair share");
	assert_int_equal(counted(WEFT_PROXY_COUNT_FAIR_SHARE), 1);
	assert_int_equal(streams_of(OTHER, second, 8), 1);
	assert_int_equal(counted(WEFT_PROXY_COUNT_FAIR_SHARE), 2);
	end(first, 2);
	end(second, 1);
	assert_int_equal(streams_of(OTHER, second, 2), 2); /* there is room again */
	end(second, 2);
	end(first + 2, 4);
	assert_true(weft_node_idle(node));
}

static void a_pod_has_its_share_of_a_node(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int fd = -1;
	void *users[8], *stream[1];
	int clients[8], apps[8];

	(void)state;
	ready_to_serve();
	for (unsigned int i = 0; i < 6; i++) {
		clients[i] = client(&at);
		run();
		users[i] = told.user;
		apps[i] = told.app;
	}
	fd = client(&at);
	run();
	assert_int_equal(told.opens, 6);
	assert_contains(said, "it has its fair share, and the rest is for other pods");
	assert_int_equal(counted(WEFT_PROXY_COUNT_FAIR_SHARE), 1);
	assert_reset(fd);
	assert_int_equal(streams_of(PEER, stream, 1), 1);
	end(stream, 1);
	end(users, 6);
	for (unsigned int i = 0; i < 6; i++) {
		close(clients[i]);
		close(apps[i]);
	}
}

/* What main would still make in a pod, of which an application takes as much again. */
static void a_peer_has_its_share_of_a_pod(void **state)
{
	void *first[16], *second[16];
	unsigned int asked;

	(void)state;
	ready_to_serve();
	weft_node_sockets(node, wanted.last[WEFT_PROXY_SOCKET_INBOUND], NULL, 0, 0, 16);
	assert_int_equal(streams_of(PEER, first, 16), 6); /* of 8 */
	assert_contains(said, "it has its fair share");
	assert_int_equal(streams_of(OTHER, second, 16), 1);
	/* A main that does not know the pod yet says nothing of its room. Who is refused asks, for nobody else would. */
	weft_node_sockets(node, wanted.last[WEFT_PROXY_SOCKET_INBOUND], NULL, 0, -ENOENT, 0);
	asked = wanted.count;
	assert_null(stream_of(PEER));
	assert_null(stream_of(PEER));
	assert_int_equal(wanted.count, asked + 1);
	end(first, 6);
	end(second, 1);
	weft_node_sockets(node, wanted.last[WEFT_PROXY_SOCKET_INBOUND], NULL, 0, -EMFILE, 0);
	assert_null(stream_of(PEER));
	weft_node_asks_anew(node);
	weft_node_sockets(node, wanted.last[WEFT_PROXY_SOCKET_INBOUND], NULL, 0, 0, 1000);
	assert_int_equal(streams_of(PEER, first, 16), 16);
	weft_node_drop(node, &(struct weft_node_listener){ NETNS, 1, WEFT_PORT_HBONE, AF_INET }); /* with it the pod, before its streams */
	end(first, 16);
}

/* ---- changes ---- */

static void a_new_mesh_judges_what_is_open(void **state)
{
	struct weft_addr local;
	void *user = NULL;

	(void)state;
	ready_to_serve();
	weft_addr_parse("10.0.1.1", &local);
	request_to_pod(&local, 8080, "", "10.0.2.2", &user);
	facts.peer_identity = PEER;
	weft_addr_parse("10.0.2.2", &facts.peer);
	give_mesh();
	assert_int_equal(told.cuts + told.refusals, 0);
	mesh.denies = true;
	mesh.broken = true;
	give_mesh(); /* a block that is refused changes nothing */
	assert_int_equal(told.cuts + told.refusals, 0);
	mesh.broken = false;
	give_mesh();
	assert_int_equal(told.refusals, 1); /* it waited for a socket: 401 */
	assert_int_equal(told.status, 401);
	assert_contains(said, "cut the connection of " PEER " to port 8080 of shop/cart-1: no ALLOW policy matches");
	assert_int_equal(counted(WEFT_PROXY_COUNT_POLICY_CUT), 1);
	give_mesh(); /* once */
	assert_int_equal(told.refusals, 1);
	engine.ended(engine.context, STREAM(1), user, WEFT_HBONE_CUT, 0, &facts, NULL);
}

static void an_address_that_is_anothers_now_is_cut(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int fd = -1;

	(void)state;
	give_trust();
	give_identity();
	give_mesh();
	fd = client(&at);
	run();
	facts.peer_identity = PEER;
	weft_addr_parse("10.0.2.2", &facts.peer);
	mesh.without_peer = true; /* a pod that is gone ends its connections itself */
	give_mesh();
	assert_int_equal(told.cuts, 0);
	mesh.without_peer = false;
	mesh.peer_identity = "spiffe://cluster.local/ns/shop/sa/other";
	give_mesh();
	assert_int_equal(told.cuts, 1);
	assert_ptr_equal(told.cut, STREAM(1));
	engine.ended(engine.context, STREAM(1), told.user, WEFT_HBONE_CUT, 0, &facts, NULL);
	close(told.app);
}

/* With the last listener: what is open is cut, what waits is reset or refused, the engine ends its connections. */
static void a_detached_pod_leaves_nothing(void **state)
{
	struct weft_node_listener outbound = { NETNS, 1, WEFT_PORT_OUTBOUND, AF_INET }, inbound = { NETNS, 1, WEFT_PORT_HBONE, AF_INET };
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int open = -1, waits = -1;
	void *taken, *served = NULL;
	struct weft_addr local;

	(void)state;
	ready_to_serve();
	open = client(&at);
	run();
	taken = told.user;
	weft_addr_parse("10.0.1.1", &local);
	request_to_pod(&local, 8080, "", "10.0.2.2", &served);
	assert_non_null(served);
	mesh.without_peer = true;
	give_mesh();
	waits = client(&at);
	weft_loop_timer(loop, &deadline, 200); /* accepts it, and cannot go on */
	assert_int_equal(weft_loop_run(loop), 0);
	weft_node_drop(node, &outbound);
	assert_int_equal(told.leaves + told.cuts + told.refusals, 0);
	weft_node_drop(node, &inbound);
	assert_int_equal(told.leaves, 1);
	assert_int_equal(told.cuts, 1);
	assert_int_equal(told.refusals, 1);
	assert_int_equal(told.status, 503);
	assert_reset(waits);
	assert_int_equal(counted(WEFT_PROXY_COUNT_DETACHED), 3);
	assert_contains(said, "is attached no longer");
	weft_node_drop(node, &inbound);
	assert_int_equal(told.leaves, 1);
	engine.ended(engine.context, STREAM(1), taken, WEFT_HBONE_CUT, 0, &facts, NULL);
	engine.ended(engine.context, STREAM(1), served, WEFT_HBONE_CUT, 0, &facts, NULL);
	close(told.app);
	assert_true(weft_node_idle(node));
}

static void new_trust_is_held_against_what_is_open(void **state)
{
	(void)state;
	give_trust();
	give_trust();
	assert_int_equal(told.rechecks, 2);
}

static void connections_are_listed(void **state)
{
	struct sockaddr_in at = keep(WEFT_PORT_OUTBOUND);
	weft_close_on_exit int first = -1, second = -1;
	weft_buf_done_on_exit struct weft_buf out = WEFT_BUF_INIT;
	struct weft_proxy_conn conn[2];
	void *user[2];
	int app[2];
	const char *texts;
	uint32_t count = 7;

	(void)state;
	give_trust();
	give_identity();
	give_mesh();
	first = client(&at);
	run();
	user[0] = told.user;
	app[0] = told.app;
	second = client(&at);
	run();
	user[1] = told.user;
	app[1] = told.app;
	facts.peer_identity = PEER;
	facts.sent = 11;
	assert_int_equal(weft_node_conns(node, &out, &count), 0);
	assert_int_equal(count, 2);
	memcpy(conn, out.data + sizeof(struct weft_proxy_facts), sizeof(conn));
	texts = out.data + sizeof(struct weft_proxy_facts) + sizeof(conn);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(conn[i].netns, NETNS);
		assert_int_equal(conn[i].role, WEFT_ROLE_CLIENT);
		assert_int_equal(conn[i].security, WEFT_PROXY_MUTUAL_TLS);
		assert_int_equal(conn[i].remote_port, at.sin_port);
		assert_int_equal(conn[i].sent, 11);
		assert_string_equal(texts + conn[i].local_identity, OWN);
		assert_string_equal(texts + conn[i].peer_identity, PEER);
	}
	assert_int_equal(conn[0].peer_identity, conn[1].peer_identity); /* a text is there once */
	for (int i = 0; i < 2; i++) {
		engine.ended(engine.context, STREAM(i), user[i], WEFT_HBONE_CLOSED, 0, &facts, NULL);
		close(app[i]);
	}
}

static void a_flood_of_refusals_is_few_lines(void **state)
{
	(void)state;
	ready_to_serve();
	for (int i = 0; i < 1000; i++)
		request("nonsense", "", "10.0.2.2");
	assert_int_equal(counted(WEFT_PROXY_COUNT_BAD_REQUEST), 1000);
	assert_true(sentences > 0 && sentences <= 30);
}

static void draining_takes_nothing_new(void **state)
{
	struct weft_addr local;
	void *user = NULL;

	(void)state;
	ready_to_serve();
	weft_node_drain(node);
	assert_int_equal(told.drains, 1);
	weft_addr_parse("10.0.1.1", &local);
	request_to_pod(&local, 8080, "", "10.0.2.2", &user);
	assert_null(user);
	assert_int_equal(told.status, 503);
}

static void a_listener_may_have_another_workload(void **state)
{
	struct weft_node_listener listener = { NETNS, 1, WEFT_PORT_HBONE, AF_INET };

	(void)state;
	assert_int_equal(weft_node_keep(node, &listener, -1), -ENOENT);
	keep(WEFT_PORT_HBONE);
	assert_int_equal(weft_node_keep(node, &listener, -1), 0);
	keep(WEFT_PORT_HBONE); /* replaced */
	listener.port = 80;
	assert_int_equal(weft_node_keep(node, &listener, -1), -EINVAL);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_captured_connection_is_taken_into_a_tunnel),
		TEST(it_waits_for_what_is_to_come),
		TEST(without_a_certificate_it_ends_with_a_reset),
		TEST(an_unknown_peer_is_never_called_in_plaintext),
		TEST(whoever_calls_the_agent_itself_is_reset),
		TEST(what_another_pod_asked_for_is_nobodys),
		TEST(what_failed_is_said_in_words),
		TEST(an_engine_without_room_is_no_leak),
		TEST(the_engine_is_given_what_it_was_promised),
		TEST(a_tunnel_is_served_with_the_pods_certificate),
		TEST(a_bad_authority_is_400),
		TEST(an_agents_port_is_400_and_a_loop),
		TEST(policy_says_401_by_what_is_proved),
		TEST(the_application_sees_its_client),
		TEST(a_spoofed_forwarded_changes_nothing),
		TEST(a_client_port_that_is_taken_is_another_one),
		TEST(a_stream_without_socket_waits_and_may_go),
		cmocka_unit_test_setup_teardown(a_peer_has_its_share_of_a_node, set_up_few, tear_down),
		cmocka_unit_test_setup_teardown(a_pod_has_its_share_of_a_node, set_up_few, tear_down),
		TEST(a_peer_has_its_share_of_a_pod),
		TEST(a_new_mesh_judges_what_is_open),
		TEST(an_address_that_is_anothers_now_is_cut),
		TEST(a_detached_pod_leaves_nothing),
		TEST(new_trust_is_held_against_what_is_open),
		TEST(connections_are_listed),
		TEST(a_flood_of_refusals_is_few_lines),
		TEST(draining_takes_nothing_new),
		TEST(a_listener_may_have_another_workload),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
