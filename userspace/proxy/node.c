/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/node.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <uthash.h>

#include "base/addr.h"
#include "base/table.h"
#include "model/mesh.h"
#include "proxy/headers.h"
#include "proxy/shares.h"
#include "proxy/sockets.h"

#ifndef SO_ORIGINAL_DST
#define SO_ORIGINAL_DST 80
#endif

#define TICK_MS 1000
#define PATIENCE_NS 5000000000ull /* for what is on its way: a certificate, the mesh. ztunnel waits as long for a workload */
#define WAITING_MAX 1024 /* connections in that state; each is a descriptor of ours */
#define REST_MS 100 /* before accept() is tried again when descriptors ran out */
#define RECHECK_TICKS 10 /* certificates end by the clock alone, and clocks jump */
#define SHRINK_TICKS 30
#define RANDOM_AHEAD 32 /* traceparents */
#define STREAMS 100000 /* unless the owner says */
#define SAY_BURST 20 /* sentences at once, and five a second after that: a flood of refusals must not become one of lines */
#define SAY_NS 200000000ull

enum { FAMILIES = 2, POOLS = WEFT_PROXY_SOCKET_MAX_ * FAMILIES };

struct pod {
	UT_hash_handle hh; /* by netns */
	struct weft_node *node;
	uint64_t netns;
	uint32_t workload;
	struct listener *listeners;
	struct weft_shares *into; /* of the streams of peers to it, by their identities */
	uint64_t room; /* sockets that main would still make there, as it said last */
	struct weft_sockets pool[POOLS]; /* by pool_of() */
};

struct listener {
	struct weft_loop_io io;
	struct weft_loop_timer rest;
	struct weft_loop_later again;
	struct weft_node *node;
	struct pod *pod;
	struct listener *next;
	uint16_t port, family;
};

struct identity {
	UT_hash_handle hh; /* by id */
	char *id;
	uint64_t key;
	struct weft_der *chain; /* one allocation with what it points to */
	size_t count;
	struct weft_identity *usable; /* NULL until there is trust */
};

/* One application connection, from when the engine has it until it ends. */
struct flow {
	struct flow *next, **back; /* of all */
	struct weft_sockets_wait wait; /* for a socket to its application */
	struct weft_node *node;
	struct weft_hbone_stream *stream;
	struct weft_identity *identity; /* ours */
	struct weft_share *share[2]; /* of the node's streams, and a peer's of those into the pod */
	uint64_t netns, start_ns;
	struct weft_addr local, remote; /* as the application's socket has them */
	struct weft_addr to; /* that was asked for, with: */
	uint16_t port;
	uint16_t local_port, remote_port; /* host order */
	uint32_t workload; /* ours */
	int app; /* the application's socket, which is the engine's: valid while it has not said that it ended */
	bool server, answered, opened, cut;
};

/* A connection that was accepted and cannot go on before something comes. */
struct accepted {
	struct accepted *next;
	int fd;
	bool server;
	struct weft_share *share; /* of the node's streams */
	uint64_t netns, due_ns;
	struct weft_original original;
	struct weft_addr local, remote;
	uint16_t local_port, remote_port; /* host order; local is the agent's end */
};

struct weft_node {
	struct weft_loop *loop;
	struct weft_remote_keys *keys;
	struct weft_node_ops ops;
	struct weft_hbone *hbone;
	struct pod *pods;
	struct identity *identities;
	struct weft_trust *trust;
	void *data; /* of the mesh */
	size_t size;
	struct weft_mesh mesh;
	struct flow *flows;
	struct weft_shares *streams;
	struct accepted *waiting, **waiting_last;
	size_t waiting_count;
	struct weft_loop_timer tick;
	uint64_t ticks;
	uint32_t serial;
	bool drains;
	uint64_t count[WEFT_PROXY_COUNT_MAX_];
	uint8_t random[RANDOM_AHEAD * WEFT_TRACEPARENT_RANDOM]; /* a system call for many connections */
	size_t random_left;
	uint64_t said_ns; /* SAY_NS for each sentence, on the clock of the loop */
	uint64_t unsaid;
};

/* ---- words ---- */

__attribute__((format(printf, 3, 4))) static void say(struct weft_node *node, enum weft_log_level level, const char *format, ...)
{
	uint64_t now = weft_loop_now_ns(node->loop), unsaid = node->unsaid;
	char text[1024];
	va_list args;
	int size;

	if (level > weft_log_level())
		return;
	if (node->said_ns < now)
		node->said_ns = now;
	if (node->said_ns - now > SAY_BURST * SAY_NS) {
		node->unsaid++;
		return;
	}
	node->said_ns += SAY_NS;
	va_start(args, format);
	size = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (unsaid && size > 0 && (size_t)size < sizeof(text))
		snprintf(text + size, sizeof(text) - (size_t)size, " (and %" PRIu64 " more that were not said)", unsaid);
	node->unsaid = 0;
	node->ops.say(node->ops.context, level, text);
}

struct label {
	char text[320];
};

/* "shop/cart-1" */
static struct label workload_label(const struct weft_node *node, uint32_t id)
{
	struct weft_mesh_workload workload;
	struct label label;

	if (node->data && weft_mesh_by_id(&node->mesh, id, &workload) == 0)
		snprintf(label.text, sizeof(label.text), "%s/%s", workload.namespace, workload.name);
	else
		snprintf(label.text, sizeof(label.text), "workload %u, which the mesh does not have", id);
	return label;
}

static struct label addr_label(const struct weft_addr *addr, uint16_t port)
{
	struct label label;

	weft_addr_port_format(addr, port, label.text);
	return label;
}

static void count(struct weft_node *node, enum weft_proxy_count what)
{
	node->count[what]++;
}

/* ---- sockets ---- */

static void reset(int fd)
{
	const struct linger now = { .l_onoff = 1 };

	/* Without it the application would read an orderly end where nothing was ever delivered. */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static void take_sockaddr(const struct sockaddr_storage *from, struct weft_addr *ret_addr, uint16_t *ret_port)
{
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)from;

		*ret_addr = (struct weft_addr)WEFT_ADDR_ANY_V4;
		ret_addr->w[3] = in->sin_addr.s_addr;
		*ret_port = ntohs(in->sin_port);
	} else {
		const struct sockaddr_in6 *in6 = (const void *)from;

		memcpy(ret_addr->w, &in6->sin6_addr, sizeof(ret_addr->w));
		*ret_port = ntohs(in6->sin6_port);
	}
}

static socklen_t make_sockaddr(const struct weft_addr *addr, uint16_t port, struct sockaddr_storage *ret_to)
{
	memset(ret_to, 0, sizeof(*ret_to));
	if (weft_addr_is_v4(addr)) {
		struct sockaddr_in *in = (void *)ret_to;

		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		in->sin_addr.s_addr = addr->w[3];
		return sizeof(*in);
	}
	{
		struct sockaddr_in6 *in6 = (void *)ret_to;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, addr->w, sizeof(addr->w));
		return sizeof(*in6);
	}
}

static int family_of(const struct weft_addr *addr)
{
	return weft_addr_is_v4(addr) ? AF_INET : AF_INET6;
}

static struct pod *pod_of(const struct weft_node *node, uint64_t netns)
{
	struct pod *pod;

	HASH_FIND(hh, node->pods, &netns, sizeof(netns), pod);
	return pod;
}

static struct weft_sockets *pool_of(struct pod *pod, enum weft_proxy_socket kind, int family)
{
	return &pod->pool[kind * FAMILIES + (family == AF_INET6)];
}

static int family_of_pool(const struct pod *pod, const struct weft_sockets *pool)
{
	return (pool - pod->pool) % FAMILIES ? AF_INET6 : AF_INET;
}

static int want(void *context, struct weft_sockets *pool, unsigned int number)
{
	const struct pod *pod = context;
	const struct weft_node_ops *ops = &pod->node->ops;

	return ops->want(ops->context, pool->serial, pod->netns, (enum weft_proxy_socket)((pool - pod->pool) / FAMILIES),
			 family_of_pool(pod, pool), number);
}

/* A socket that was promised to the engine. */
struct owed {
	struct weft_sockets_wait wait;
	struct weft_node *node;
	uint64_t netns;
	int family;
};

static void give_engine(struct weft_sockets_wait *wait, int fd)
{
	struct owed *owed = (struct owed *)(void *)((char *)wait - offsetof(struct owed, wait));

	weft_hbone_socket(owed->node->hbone, owed->netns, owed->family, fd);
	free(owed);
}

static int on_socket(void *context, uint64_t netns, int family)
{
	struct weft_node *node = context;
	struct pod *pod = pod_of(node, netns);
	struct owed *owed;
	int fd;

	if (!pod)
		return -ENOENT;
	owed = malloc(sizeof(*owed));
	if (!owed)
		return -ENOMEM;
	*owed = (struct owed){ { .got = give_engine }, node, netns, family };
	fd = weft_sockets_take(pool_of(pod, WEFT_PROXY_SOCKET_OUTBOUND, family), &owed->wait, weft_loop_now_ns(node->loop));
	if (fd >= 0)
		free(owed);
	return fd;
}

void weft_node_sockets(struct weft_node *node, uint32_t serial, const int *fds, size_t number, int error, uint64_t room)
{
	for (struct pod *pod = node->pods; pod; pod = pod->hh.next)
		for (size_t i = 0; i < POOLS; i++)
			if (pod->pool[i].asked && pod->pool[i].serial == serial) {
				if (error == 0 || error == -EMFILE)
					pod->room = room;
				weft_sockets_give(&pod->pool[i], fds, number, error, weft_loop_now_ns(node->loop));
				return;
			}
	for (size_t i = 0; i < number; i++)
		close(fds[i]);
}

void weft_node_asks_anew(struct weft_node *node)
{
	for (struct pod *pod = node->pods; pod; pod = pod->hh.next)
		for (size_t i = 0; i < POOLS; i++) {
			weft_sockets_forget(&pod->pool[i]);
			weft_sockets_fill(&pod->pool[i], weft_loop_now_ns(node->loop));
		}
}

void weft_node_signed(struct weft_node *node, void *waiter)
{
	weft_hbone_ready(node->hbone, waiter);
}

/* ---- identities ---- */

static struct identity *identity_free(struct identity *identity)
{
	if (!identity)
		return NULL;
	weft_identity_unref(identity->usable);
	free(identity->chain);
	free(identity->id);
	free(identity);
	return NULL;
}
WEFT_CLEANUP_DEFINE(struct identity, identity_free);

static int make_usable(struct weft_node *node, struct identity *identity, struct weft_err *err)
{
	const unsigned char *der = identity->chain[0].data;
	struct weft_identity *usable = NULL;
	EVP_PKEY *key = NULL;
	X509 *leaf;
	int r;

	if (!node->trust)
		return 0;
	leaf = d2i_X509(NULL, &der, (long)identity->chain[0].size);
	if (!leaf)
		return weft_err_set(err, EINVAL, "the certificate of %s is none", identity->id);
	r = weft_remote_key_new(node->keys, identity->key, leaf, &key, err);
	X509_free(leaf);
	if (r == 0)
		r = weft_identity_new(identity->id, identity->chain, identity->count, key, node->trust, &usable, err);
	EVP_PKEY_free(key);
	if (r < 0)
		return r;
	weft_identity_unref(identity->usable);
	identity->usable = usable;
	return 0;
}

static void go_on(struct weft_node *node);

int weft_node_identity(struct weft_node *node, const char *id, uint64_t key, const struct weft_der *chain, size_t number,
		       struct weft_err *err)
{
	weft_cleanup(identity_freep) struct identity *identity = calloc(1, sizeof(*identity));
	struct identity *old;
	size_t size = number * sizeof(*chain);
	char *at;
	int r;

	if (number == 0)
		return weft_err_set(err, EINVAL, "%s comes without a certificate", id);
	for (size_t i = 0; i < number; i++)
		size += chain[i].size;
	if (!identity || !(identity->id = strdup(id)) || !(identity->chain = malloc(size)))
		return weft_err_set(err, ENOMEM, "out of memory");
	identity->key = key;
	identity->count = number;
	at = (char *)(identity->chain + number);
	for (size_t i = 0; i < number; i++) {
		memcpy(at, chain[i].data, chain[i].size);
		identity->chain[i] = (struct weft_der){ at, chain[i].size };
		at += chain[i].size;
	}
	r = make_usable(node, identity, err);
	if (r < 0)
		return r;
	HASH_FIND_STR(node->identities, id, old);
	if (old) {
		HASH_DELETE(hh, node->identities, old);
		identity_free(old);
	}
	HASH_ADD_KEYPTR(hh, node->identities, identity->id, strlen(identity->id), identity);
	if (identity->usable)
		weft_hbone_renewed(node->hbone, identity->usable);
	identity = NULL;
	go_on(node);
	return 0;
}

void weft_node_gone(struct weft_node *node, const char *id)
{
	struct identity *identity;

	HASH_FIND_STR(node->identities, id, identity);
	if (!identity)
		return;
	HASH_DELETE(hh, node->identities, identity);
	identity_free(identity);
}

int weft_node_trust(struct weft_node *node, struct weft_trust *trust, struct weft_err *err)
{
	int r = 0;

	weft_trust_unref(node->trust);
	node->trust = weft_trust_ref(trust);
	for (struct identity *identity = node->identities; identity; identity = identity->hh.next) {
		struct weft_err why = { "" };

		if (make_usable(node, identity, &why) == 0)
			continue;
		/* Not usable is safe; with the trust of before it would believe whom nobody believes any more. */
		identity->usable = weft_identity_unref(identity->usable);
		r = weft_err_set(err, EINVAL, "%s", why.text);
	}
	weft_hbone_recheck(node->hbone, trust, time(NULL));
	go_on(node);
	return r;
}

/* NULL: there is none, or its time is over. */
static struct weft_identity *identity_of(const struct weft_node *node, const char *id)
{
	struct identity *identity;

	HASH_FIND_STR(node->identities, id, identity);
	if (!identity || !identity->usable || weft_identity_not_after(identity->usable) <= time(NULL))
		return NULL;
	return identity->usable;
}

/* ---- flows ---- */

static struct flow *flow_new(struct weft_node *node, struct weft_identity *identity)
{
	struct flow *flow = calloc(1, sizeof(*flow));

	if (!flow)
		return NULL;
	flow->node = node;
	flow->identity = identity ? weft_identity_ref(identity) : NULL;
	flow->start_ns = weft_loop_now_ns(node->loop);
	flow->next = node->flows;
	flow->back = &node->flows;
	if (flow->next)
		flow->next->back = &flow->next;
	node->flows = flow;
	return flow;
}

static struct flow *flow_free(struct flow *flow)
{
	if (!flow)
		return NULL;
	weft_sockets_unwait(&flow->wait);
	*flow->back = flow->next;
	if (flow->next)
		flow->next->back = flow->back;
	weft_identity_unref(flow->identity);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(flow->share); i++)
		weft_share_give(flow->share[i]);
	free(flow);
	return NULL;
}

static void on_opened(void *context, struct weft_hbone_stream *stream, void *user)
{
	struct weft_node *node = context;
	struct flow *flow = user;
	struct sockaddr_storage app;
	socklen_t size = sizeof(app);

	(void)stream;
	flow->opened = true;
	/* The kernel takes this question as the word that the tunnel is open (bpf/getpeername.bpf.c): what it answers is known. */
	if (!flow->server)
		(void)getpeername(flow->app, (struct sockaddr *)&app, &size);
	count(node, flow->server ? WEFT_PROXY_COUNT_INBOUND : WEFT_PROXY_COUNT_OUTBOUND);
}

static const char *status_words(int status)
{
	return status == 400   ? "took the request for malformed, or for another pod (400)"
	       : status == 401 ? "denies it by policy (401)"
	       : status == 503 ? "could not reach the application (503)"
			       : "refused it";
}

static void outbound_ended(struct weft_node *node, const struct flow *flow, enum weft_hbone_end end, int status, const char *why)
{
	struct label from, to;

	/* Most ends are in order, and words cost more than all else about them. */
	if (end == WEFT_HBONE_CLOSED)
		return;
	from = workload_label(node, flow->workload);
	to = addr_label(&flow->to, flow->port);
	switch (end) {
	case WEFT_HBONE_REFUSED:
		count(node, WEFT_PROXY_COUNT_PEER_DENIED);
		say(node, WEFT_LOG_INFO, "connection of %s to %s failed: the agent there %s", from.text, to.text, status_words(status));
		return;
	case WEFT_HBONE_UNREACHABLE:
		count(node, WEFT_PROXY_COUNT_UPSTREAM_FAILED);
		say(node, WEFT_LOG_INFO, "connection of %s to %s failed: no agent was reached there: %s", from.text, to.text, why);
		return;
	case WEFT_HBONE_PEER_NOT_TRUSTED:
		say(node, WEFT_LOG_WARNING, "connection of %s to %s failed: its agent is not believed: %s", from.text, to.text, why);
		return;
	case WEFT_HBONE_ABUSE:
		say(node, WEFT_LOG_WARNING, "connection of %s to %s was closed: %s", from.text, to.text, why);
		return;
	case WEFT_HBONE_PEER_RESET:
		if (!flow->opened) {
			count(node, WEFT_PROXY_COUNT_UPSTREAM_FAILED);
			say(node, WEFT_LOG_INFO, "connection of %s to %s failed: %s", from.text, to.text, why);
		}
		return;
	default:
		return;
	}
}

static void inbound_ended(struct weft_node *node, const struct flow *flow, enum weft_hbone_end end, const struct weft_hbone_facts *facts,
			  const char *why)
{
	if (end == WEFT_HBONE_UNREACHABLE) {
		count(node, WEFT_PROXY_COUNT_UPSTREAM_FAILED);
		say(node, WEFT_LOG_INFO, "connection of %s to port %u of %s failed: %s", facts->peer_identity, flow->port,
		    workload_label(node, flow->workload).text, why);
	} else if (end == WEFT_HBONE_ABUSE) {
		say(node, WEFT_LOG_WARNING, "connection of %s to port %u of %s was closed: %s", facts->peer_identity, flow->port,
		    workload_label(node, flow->workload).text, why);
	}
}

static void on_ended(void *context, struct weft_hbone_stream *stream, void *user, enum weft_hbone_end end, int status,
		     const struct weft_hbone_facts *facts, const struct weft_err *err)
{
	struct flow *flow = user;
	const char *why = err && err->text[0] ? err->text : "it ended for no stated reason";

	(void)stream;
	if (!flow)
		return;
	if (flow->server)
		inbound_ended(context, flow, end, facts, why);
	else
		outbound_ended(context, flow, end, status, why);
	flow_free(flow);
}

static void on_over_share(void *context, const char *identity, const struct weft_addr *addr, uint16_t port)
{
	say(context, WEFT_LOG_WARNING, "refused a tunnel of %s at %s: it has its fair share of this proxy's connections, and the rest is for others",
	    identity, addr_label(addr, port).text);
}

static void on_count(void *context, unsigned int what)
{
	struct weft_node *node = context;

	if (what < WEFT_PROXY_COUNT_MAX_)
		node->count[what]++;
}

/* ---- outbound ---- */

/* An id for traces is no secret, but nobody's twice. NULL: the kernel has none. */
static const uint8_t *random_of(struct weft_node *node)
{
	if (!node->random_left) {
		if (getrandom(node->random, sizeof(node->random), 0) != sizeof(node->random))
			return NULL;
		node->random_left = RANDOM_AHEAD;
	}
	return node->random + --node->random_left * WEFT_TRACEPARENT_RANDOM;
}

/* 0: the engine has it, or it is over; -EAGAIN: `why` is to come yet. Else `why` nothing will, counted as *ret_count. */
static int open_tunnel(struct weft_node *node, struct accepted *accepted, struct weft_err *why, enum weft_proxy_count *ret_count)
{
	const struct weft_original *original = &accepted->original;
	struct weft_mesh_workload source, peer;
	struct weft_identity *identity;
	weft_buf_done_on_exit struct weft_buf baggage = WEFT_BUF_INIT;
	char authority[WEFT_ADDR_TEXT], forwarded[WEFT_FORWARDED_TEXT], traceparent[WEFT_TRACEPARENT_TEXT];
	const uint8_t *random;
	uint16_t port = ntohs(original->endpoint_port);
	const char *expected[2] = { NULL, NULL };
	struct weft_hbone_open open;
	struct flow *flow;
	int fd;

	*ret_count = WEFT_PROXY_COUNT_NO_IDENTITY;
	if (!node->data)
		return weft_err_set(why, EAGAIN, "control has not told this proxy yet who is in the mesh");
	*ret_count = WEFT_PROXY_COUNT_PEER_UNKNOWN;
	if (weft_mesh_by_addr(&node->mesh, &original->endpoint_addr, &peer) < 0)
		return weft_err_set(why, EAGAIN, "nobody in the mesh has that address");
	if (!peer.identity[0] || !(peer.flags & WEFT_WORKLOAD_F_TUNNEL))
		return weft_err_set(why, EAGAIN, "%s/%s %s", peer.namespace, peer.name,
				    peer.identity[0] ? "does not take tunnels any more" : "has no identity that could be verified");
	*ret_count = WEFT_PROXY_COUNT_NO_IDENTITY;
	if (weft_mesh_by_id(&node->mesh, original->workload, &source) < 0)
		return weft_err_set(why, EAGAIN, "the mesh does not know who is in this network namespace");
	if (!source.identity[0])
		return weft_err_set(why, EACCES, "%s/%s has no identity: it is a pod of the host's network", source.namespace, source.name);
	identity = identity_of(node, source.identity);
	if (!identity)
		return weft_err_set(why, EAGAIN, "this node has no valid certificate for %s: see `weft identity list`", source.identity);
	random = random_of(node);
	if (!random || weft_baggage_print(&source, &baggage) < 0)
		return weft_err_set(why, ENOMEM, "out of memory");
	flow = flow_new(node, identity);
	if (!flow)
		return weft_err_set(why, ENOMEM, "out of memory");
	flow->netns = accepted->netns;
	flow->local = accepted->remote;
	flow->local_port = accepted->remote_port;
	flow->remote = accepted->local;
	flow->remote_port = accepted->local_port;
	flow->to = original->endpoint_addr;
	flow->port = port;
	flow->workload = original->workload;
	expected[0] = peer.identity;
	open = (struct weft_hbone_open){
		.identity = identity,
		.expected = expected,
		.netns = accepted->netns,
		.source = accepted->local,
		.peer = original->endpoint_addr,
		.port = WEFT_PORT_HBONE,
		.authority = weft_addr_port_format(&original->endpoint_addr, port, authority),
		.baggage = baggage.data ? baggage.data : "",
		.forwarded = weft_forwarded_print(&accepted->remote, accepted->remote_port,
						  original->service ? weft_mesh_service_host(&node->mesh, original->service) : "", forwarded),
		.traceparent = weft_traceparent_print(random, traceparent),
	};
	flow->share[0] = weft_take_ptr(accepted->share);
	flow->app = fd = weft_take_fd(accepted->fd);
	if (weft_hbone_open(node->hbone, &open, fd, flow, &flow->stream) < 0) {
		flow_free(flow);
		count(node, WEFT_PROXY_COUNT_UPSTREAM_FAILED);
		say(node, WEFT_LOG_WARNING, "connection of %s/%s to %s failed: this proxy has no room for more", source.namespace, source.name, authority);
	}
	return 0;
}

/* ---- inbound ---- */

static int serve(struct weft_node *node, struct accepted *accepted, struct weft_err *why, enum weft_proxy_count *ret_count)
{
	const struct pod *pod = pod_of(node, accepted->netns);
	struct weft_mesh_workload workload;
	struct weft_identity *identity;

	*ret_count = WEFT_PROXY_COUNT_NO_IDENTITY;
	if (!node->data)
		return weft_err_set(why, EAGAIN, "control has not told this proxy yet who is in the mesh");
	if (weft_mesh_by_id(&node->mesh, pod->workload, &workload) < 0)
		return weft_err_set(why, EAGAIN, "the mesh does not know who is in this network namespace");
	if (!workload.identity[0])
		return weft_err_set(why, EACCES, "%s/%s has no identity: it is a pod of the host's network", workload.namespace, workload.name);
	identity = identity_of(node, workload.identity);
	if (!identity)
		return weft_err_set(why, EAGAIN, "this node has no valid certificate for %s: see `weft identity list`", workload.identity);
	weft_hbone_accept(node->hbone, identity, weft_take_fd(accepted->fd), accepted->netns);
	return 0;
}

static bool spoofs(const struct flow *flow)
{
	return weft_addr_compare(&flow->local, &flow->remote) != 0;
}

/*
 * The application sees its client: bound to the client's address, and its port unless that is taken in this namespace. remote_port is 0
 * then: the kernel chooses.
 */
static int bind_client(struct flow *flow, int fd)
{
	uint16_t port = flow->remote_port;
	struct sockaddr_storage from;
	const int yes = 1;
	socklen_t size;

	if (!spoofs(flow)) {
		flow->remote_port = 0;
		return 0;
	}
	/* Several servers of one pod may have the same client end: connect() tells them apart, not bind(). */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (port) {
		size = make_sockaddr(&flow->remote, port, &from);
		if (bind(fd, (struct sockaddr *)&from, size) == 0)
			return 0;
		if (errno != EADDRINUSE)
			return -errno;
		flow->remote_port = 0;
	}
	setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof(yes));
	size = make_sockaddr(&flow->remote, 0, &from);
	return bind(fd, (struct sockaddr *)&from, size) < 0 ? -errno : 0;
}

static void refuse(struct flow *flow, int status)
{
	weft_sockets_unwait(&flow->wait);
	flow->answered = true;
	weft_hbone_refuse(flow->stream, status);
}

static void no_socket(struct flow *flow, int error)
{
	struct weft_node *node = flow->node;

	count(node, WEFT_PROXY_COUNT_NO_SOCKET);
	say(node, WEFT_LOG_WARNING, "refused a connection to port %u of %s: %s", flow->port, workload_label(node, flow->workload).text,
	    error == -ENOENT   ? "it is attached no longer"
	    : error == -EMFILE ? "this node may have no more sockets: raise the limit of open files of weftd"
			       : strerror(-error));
	refuse(flow, 503);
}

static void reach(struct flow *flow);

static void dial(struct flow *flow, int fd)
{
	struct weft_node *node = flow->node;
	struct sockaddr_storage to, own;
	socklen_t size = make_sockaddr(&flow->local, flow->port, &to), own_size = sizeof(own);
	int r = bind_client(flow, fd);

	if (r == 0 && connect(fd, (struct sockaddr *)&to, size) < 0)
		r = -errno;
	if (r == -EADDRNOTAVAIL && flow->remote_port) {
		/* The pod still has such a connection, in TIME_WAIT at the least: then with a port of the kernel's choice. */
		close(fd);
		flow->remote_port = 0;
		reach(flow);
		return;
	}
	if (r < 0 && r != -EINPROGRESS) {
		close(fd);
		count(node, WEFT_PROXY_COUNT_UPSTREAM_FAILED);
		say(node, WEFT_LOG_INFO, "connection to port %u of %s failed: %s", flow->port, workload_label(node, flow->workload).text,
		    strerror(-r));
		refuse(flow, 503);
		return;
	}
	if (!flow->remote_port && getsockname(fd, (struct sockaddr *)&own, &own_size) == 0)
		take_sockaddr(&own, &flow->remote, &flow->remote_port);
	flow->answered = true;
	weft_hbone_dial(flow->stream, fd);
}

static void reached(struct weft_sockets_wait *wait, int fd)
{
	struct flow *flow = (struct flow *)(void *)((char *)wait - offsetof(struct flow, wait));

	if (fd < 0)
		no_socket(flow, fd);
	else
		dial(flow, fd);
}

static void reach(struct flow *flow)
{
	struct weft_node *node = flow->node;
	struct pod *pod = pod_of(node, flow->netns);
	int fd = -ENOENT;

	flow->wait.got = reached;
	if (pod)
		fd = weft_sockets_take(pool_of(pod, WEFT_PROXY_SOCKET_INBOUND, family_of(&flow->local)), &flow->wait, weft_loop_now_ns(node->loop));
	if (fd != -EINPROGRESS)
		reached(&flow->wait, fd);
}

/* Whether the authority is where this connection came in; `why` ends "refused a request of X to Y: ". */
static int check_authority(const struct weft_hbone_peer *peer, const char *text, uint16_t *ret_port, bool *ret_loop, struct weft_err *why)
{
	struct weft_authority authority;
	int r = weft_authority_parse(text, &authority, why);

	*ret_loop = false;
	if (r < 0)
		return r;
	if (authority.named)
		return weft_err_set(why, EINVAL, "it asks for the name %s, and no pod here stands for names", authority.host);
	if (weft_addr_compare(&authority.addr, &peer->local) != 0)
		return weft_err_set(why, EINVAL, "it asks for %s, which is %s", addr_label(&authority.addr, authority.port).text,
				    weft_addr_is_loopback(&authority.addr) ? "the pod's loopback" : "another pod's");
	if (WEFT_PORT_IS_AGENTS(authority.port)) {
		*ret_loop = true;
		return weft_err_set(why, EINVAL, "port %u is the agent's own: the request would call the mesh from within", authority.port);
	}
	*ret_port = authority.port;
	return 0;
}

/* The port is all that a header may say: a wrong one is the client's own loss. */
static uint16_t client_port(const struct weft_hbone_peer *peer, const char *text)
{
	struct weft_forwarded forwarded;

	if (weft_forwarded_parse(text, &forwarded) < 0 || !forwarded.known || weft_addr_compare(&forwarded.addr, &peer->addr) != 0)
		return 0;
	return forwarded.port;
}

/*
 * How many streams the pod can have: those it has, those that sockets wait for here, and what main would still make; half of these, for
 * the application's ends count too.
 */
static void limit_into(struct pod *pod)
{
	uint64_t left = pod->room / 2, held = weft_shares_held(pod->into), waiting = 0;

	for (int family = 0; family < FAMILIES; family++) {
		left += pool_of(pod, WEFT_PROXY_SOCKET_INBOUND, family ? AF_INET6 : AF_INET)->count;
		waiting += pool_of(pod, WEFT_PROXY_SOCKET_INBOUND, family ? AF_INET6 : AF_INET)->waiting;
	}
	left -= left < waiting ? left : waiting;
	weft_shares_limit(pod->into, held + left < UINT32_MAX ? (unsigned int)(held + left) : UINT32_MAX);
}

/* A peer, whoever it is on behalf of, gets no more than its share of what the pod and this process may have. */
static int take_shares(struct weft_node *node, struct pod *pod, const char *identity, struct flow *flow)
{
	size_t size = strlen(identity) + 1;
	int r = weft_shares_take(node->streams, identity, size, &flow->share[0]);

	limit_into(pod);
	if (r == 0)
		r = weft_shares_take(pod->into, identity, size, &flow->share[1]);
	/* There may be more by now, and who is refused takes no socket, so that nothing else would ask. */
	if (r == -EDQUOT)
		weft_sockets_probe(pool_of(pod, WEFT_PROXY_SOCKET_INBOUND, family_of(&flow->local)), weft_loop_now_ns(node->loop));
	return r;
}

static void on_request(void *context, struct weft_hbone_stream *stream, const struct weft_hbone_peer *peer,
		       const struct weft_hbone_headers *headers, void **ret_user)
{
	struct weft_node *node = context;
	struct pod *pod = pod_of(node, peer->netns);
	struct weft_verdict verdict;
	struct weft_err why = { "" };
	struct flow *flow;
	uint16_t port = 0;
	bool loop;
	int r;

	if (!pod || !node->data || node->drains) {
		weft_hbone_refuse(stream, 503);
		return;
	}
	if (check_authority(peer, headers->authority, &port, &loop, &why) < 0) {
		count(node, loop ? WEFT_PROXY_COUNT_LOOP : WEFT_PROXY_COUNT_BAD_REQUEST);
		say(node, WEFT_LOG_WARNING, "refused a request of %s at %s to %s: %s", peer->identity,
		    addr_label(&peer->addr, peer->port).text, workload_label(node, pod->workload).text, why.text);
		weft_hbone_refuse(stream, 400);
		return;
	}
	weft_mesh_judge(&node->mesh, pod->workload, &(struct weft_peer){ peer->identity, peer->addr }, port, &verdict);
	if (verdict.dry_run_denied)
		count(node, WEFT_PROXY_COUNT_DRY_RUN_DENIED);
	if (!verdict.allowed) {
		count(node, WEFT_PROXY_COUNT_POLICY_DENIED);
		say(node, WEFT_LOG_INFO, "denied %s at %s to port %u of %s: %s%s%s", peer->identity, addr_label(&peer->addr, peer->port).text, port,
		    workload_label(node, pod->workload).text, verdict.reason, verdict.policy[0] ? ", by " : "", verdict.policy);
		weft_hbone_refuse(stream, 401);
		return;
	}
	flow = flow_new(node, NULL);
	if (flow)
		flow->local = peer->local;
	r = flow ? take_shares(node, pod, peer->identity, flow) : -ENOMEM;
	if (r == -EDQUOT) {
		count(node, WEFT_PROXY_COUNT_FAIR_SHARE);
		say(node, WEFT_LOG_WARNING, "refused a stream of %s to port %u of %s: it has its fair share, and the rest is for others: raise the "
					    "limit of open files of weftd", peer->identity, port, workload_label(node, pod->workload).text);
	}
	if (r < 0) {
		flow_free(flow);
		weft_hbone_refuse(stream, 503);
		return;
	}
	flow->server = true;
	flow->stream = stream;
	flow->netns = peer->netns;
	flow->workload = pod->workload;
	flow->port = port;
	flow->local_port = port;
	flow->remote = peer->addr;
	flow->remote_port = client_port(peer, headers->forwarded);
	*ret_user = flow;
	reach(flow);
}

/* ---- connections that come ---- */

static struct accepted *accepted_free(struct accepted *accepted)
{
	if (!accepted)
		return NULL;
	if (accepted->fd >= 0)
		reset(accepted->fd);
	weft_share_give(accepted->share);
	free(accepted);
	return NULL;
}
WEFT_CLEANUP_DEFINE(struct accepted, accepted_free);

static void fail_accepted(struct weft_node *node, const struct accepted *accepted, enum weft_proxy_count what, const char *why)
{
	struct label remote = addr_label(&accepted->remote, accepted->remote_port), to;

	count(node, what);
	if (accepted->server) {
		const struct pod *pod = pod_of(node, accepted->netns);

		to = workload_label(node, pod ? pod->workload : 0);
		say(node, WEFT_LOG_WARNING, "refused a tunnel from %s to %s: %s", remote.text, to.text, why);
		return;
	}
	to = addr_label(&accepted->original.endpoint_addr, ntohs(accepted->original.endpoint_port));
	say(node, WEFT_LOG_WARNING, "refused %s of %s to %s: %s", remote.text, workload_label(node, accepted->original.workload).text, to.text, why);
}

/* 0: it has gone its way, or is over. */
static int proceed(struct weft_node *node, struct accepted *accepted)
{
	bool over = weft_loop_now_ns(node->loop) >= accepted->due_ns;
	enum weft_proxy_count what;
	struct weft_err why = { "" };
	int r;

	if (!pod_of(node, accepted->netns)) {
		what = WEFT_PROXY_COUNT_DETACHED;
		r = weft_err_set(&why, EACCES, "the pod is attached no longer");
	} else {
		r = accepted->server ? serve(node, accepted, &why, &what) : open_tunnel(node, accepted, &why, &what);
	}
	if (r == -EAGAIN && !over)
		return r;
	if (r < 0)
		fail_accepted(node, accepted, what, why.text);
	accepted_free(accepted);
	return 0;
}

/* Something came that connections may wait for. */
static void go_on(struct weft_node *node)
{
	struct accepted **at = &node->waiting;

	while (*at) {
		struct accepted *accepted = *at, *next = accepted->next;

		if (proceed(node, accepted) < 0) {
			at = &accepted->next;
			continue;
		}
		*at = next;
		node->waiting_count--;
	}
	node->waiting_last = at;
}

/* Of the pod that made it. A peer's is taken when it is known who that is, and what for. */
static int take_share(struct weft_node *node, struct accepted *accepted)
{
	int r = weft_shares_take(node->streams, &accepted->netns, sizeof(accepted->netns), &accepted->share);

	if (r == -EDQUOT)
		fail_accepted(node, accepted, WEFT_PROXY_COUNT_FAIR_SHARE,
			      "it has its fair share, and the rest is for other pods: raise the limit of open files of weftd");
	return r;
}

static void begin(struct weft_node *node, struct accepted *accepted)
{
	accepted->due_ns = weft_loop_now_ns(node->loop) + PATIENCE_NS;
	if (node->waiting_count >= WAITING_MAX)
		accepted->due_ns = 0;
	if (proceed(node, accepted) == 0)
		return;
	accepted->next = NULL;
	*node->waiting_last = accepted;
	node->waiting_last = &accepted->next;
	node->waiting_count++;
}

/* Where the application wanted to go: the kernel knows by its end of the connection. */
static int ask_original(struct weft_node *node, struct accepted *accepted)
{
	socklen_t size = sizeof(accepted->original);

	if (getsockopt(accepted->fd, SOL_IP, SO_ORIGINAL_DST, &accepted->original, &size) < 0 || size != sizeof(accepted->original)) {
		count(node, WEFT_PROXY_COUNT_LOOP);
		say(node, WEFT_LOG_WARNING, "refused %s at the agent's port %u: nothing was captured there, it called the agent itself",
		    addr_label(&accepted->remote, accepted->remote_port).text, accepted->local_port);
		return -EACCES;
	}
	/* The kernel finds it by address, and a pod may give itself another pod's: what that one asked for is not this one's. */
	if (accepted->original.netns != accepted->netns) {
		fail_accepted(node, accepted, WEFT_PROXY_COUNT_LOOP, "that was asked for from another network namespace");
		return -EACCES;
	}
	if (!WEFT_PORT_IS_AGENTS(ntohs(accepted->original.endpoint_port)))
		return 0;
	fail_accepted(node, accepted, WEFT_PROXY_COUNT_LOOP, "the port is the agent's own there: it would call the mesh from within");
	return -EACCES;
}

static int accept_one(struct listener *listener)
{
	weft_cleanup(accepted_freep) struct accepted *accepted = NULL;
	struct sockaddr_storage from, own;
	socklen_t size = sizeof(from), own_size = sizeof(own);
	int fd = accept4(listener->io.fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	accepted = calloc(1, sizeof(*accepted));
	if (!accepted || getsockname(fd, (struct sockaddr *)&own, &own_size) < 0) {
		reset(fd);
		return 0;
	}
	accepted->fd = fd;
	accepted->server = listener->port == WEFT_PORT_HBONE;
	accepted->netns = listener->pod->netns;
	take_sockaddr(&from, &accepted->remote, &accepted->remote_port);
	take_sockaddr(&own, &accepted->local, &accepted->local_port);
	if (accepted->server || (ask_original(listener->node, accepted) == 0 && take_share(listener->node, accepted) == 0))
		begin(listener->node, weft_take_ptr(accepted));
	return 0;
}

static void rest(struct listener *listener)
{
	weft_loop_remove(listener->node->loop, &listener->io);
	weft_loop_timer(listener->node->loop, &listener->rest, REST_MS);
}

/*
 * One connection a turn. The kernel wakes the first idle one in its queue for a listener, and connections stay where they were
 * accepted: all of a quiet hour, or of a burst, would be with one proxy. Whoever had a turn goes to the end of the queue, and that
 * when it has done its work.
 */
static void listener_ready(struct weft_loop_io *io, uint32_t events)
{
	struct listener *listener = (struct listener *)(void *)((char *)io - offsetof(struct listener, io));
	int r = accept_one(listener);

	(void)events;
	if (r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -ENOBUFS) {
		/* It would be ready for ever: those who wait go on waiting, and others may take them. */
		say(listener->node, WEFT_LOG_WARNING, "cannot accept connections at port %u of %s: %s; trying again", listener->port,
		    workload_label(listener->node, listener->pod->workload).text, strerror(-r));
		rest(listener);
	} else if (r == 0) {
		weft_loop_remove(listener->node->loop, &listener->io);
		weft_loop_later(listener->node->loop, &listener->again);
	}
}

static void listener_again(struct weft_loop_later *later)
{
	struct listener *listener = (struct listener *)(void *)((char *)later - offsetof(struct listener, again));

	if (!listener->node->drains && weft_loop_set(listener->node->loop, &listener->io, EPOLLIN | EPOLLEXCLUSIVE) < 0)
		rest(listener);
}

static void listener_rested(struct weft_loop_timer *timer)
{
	struct listener *listener = (struct listener *)(void *)((char *)timer - offsetof(struct listener, rest));

	if (weft_loop_set(listener->node->loop, &listener->io, EPOLLIN | EPOLLEXCLUSIVE) < 0)
		weft_loop_timer(listener->node->loop, timer, REST_MS);
}

static void listener_free(struct listener *listener)
{
	weft_loop_remove(listener->node->loop, &listener->io);
	weft_loop_timer_stop(&listener->rest);
	weft_loop_cancel(&listener->again);
	close(listener->io.fd);
	free(listener);
}

static struct pod *pod_new(struct weft_node *node, uint64_t netns)
{
	struct pod *pod = calloc(1, sizeof(*pod));

	if (!pod)
		return NULL;
	pod->into = weft_shares_new(UINT32_MAX);
	if (!pod->into) {
		free(pod);
		return NULL;
	}
	pod->node = node;
	pod->netns = netns;
	pod->room = UINT32_MAX;
	for (size_t i = 0; i < POOLS; i++)
		weft_sockets_init(&pod->pool[i], want, pod, &node->serial);
	HASH_ADD(hh, node->pods, netns, sizeof(pod->netns), pod);
	return pod;
}

static void pod_free(struct weft_node *node, struct pod *pod)
{
	HASH_DELETE(hh, node->pods, pod);
	for (size_t i = 0; i < POOLS; i++)
		weft_sockets_done(&pod->pool[i]);
	weft_shares_unref(pod->into);
	free(pod);
}

/*
 * The rule and the route that its connections need are gone: left alone they would hang until something times out. At once, and not
 * after a drain: who takes part no longer is not to be carried on.
 */
static void leave(struct weft_node *node, struct pod *pod)
{
	struct flow *flow, *next;
	uint64_t netns = pod->netns;
	uint32_t workload = pod->workload;
	size_t number = 0;

	for (flow = node->flows; flow; flow = next) {
		next = flow->next;
		if (flow->netns != netns || flow->cut)
			continue;
		count(node, WEFT_PROXY_COUNT_DETACHED);
		number++;
		flow->cut = true;
		if (flow->server && !flow->answered)
			refuse(flow, 503);
		else
			weft_hbone_cut(flow->stream);
	}
	if (number)
		say(node, WEFT_LOG_INFO, "cut %zu connection%s of %s: it is attached no longer", number, number == 1 ? "" : "s",
		    workload_label(node, workload).text);
	weft_hbone_leave(node->hbone, netns);
	pod_free(node, pod);
	go_on(node);
}

static struct listener **find_listener(struct pod *pod, const struct weft_node_listener *wanted)
{
	struct listener **at = &pod->listeners;

	while (*at && ((*at)->port != wanted->port || (*at)->family != wanted->family))
		at = &(*at)->next;
	return at;
}

/* A listener of IPv6 may take IPv4 too. */
static void first_sockets(struct weft_node *node, struct pod *pod, const struct listener *listener)
{
	enum weft_proxy_socket kind = listener->port == WEFT_PORT_HBONE ? WEFT_PROXY_SOCKET_INBOUND : WEFT_PROXY_SOCKET_OUTBOUND;
	int only_v6 = 1;
	socklen_t size = sizeof(only_v6);

	if (listener->family == AF_INET6)
		getsockopt(listener->io.fd, SOL_IPV6, IPV6_V6ONLY, &only_v6, &size);
	if (listener->family == AF_INET || !only_v6)
		weft_sockets_begin(pool_of(pod, kind, AF_INET), weft_loop_now_ns(node->loop));
	if (listener->family == AF_INET6)
		weft_sockets_begin(pool_of(pod, kind, AF_INET6), weft_loop_now_ns(node->loop));
}

int weft_node_keep(struct weft_node *node, const struct weft_node_listener *wanted, int fd)
{
	weft_close_on_exit int own = fd;
	struct pod *pod = pod_of(node, wanted->netns);
	struct listener *listener, **at;
	int r;

	if (wanted->port != WEFT_PORT_OUTBOUND && wanted->port != WEFT_PORT_HBONE)
		return -EINVAL;
	if (own < 0) {
		if (!pod || !*find_listener(pod, wanted))
			return -ENOENT;
		pod->workload = wanted->workload;
		go_on(node);
		return 0;
	}
	if (!pod)
		pod = pod_new(node, wanted->netns);
	listener = calloc(1, sizeof(*listener));
	if (!pod || !listener) {
		free(listener);
		return -ENOMEM;
	}
	pod->workload = wanted->workload;
	*listener = (struct listener){
		.io = { .ready = listener_ready, .fd = own },
		.rest = { .fired = listener_rested },
		.again = { .run = listener_again },
		.node = node,
		.pod = pod,
		.port = wanted->port,
		.family = wanted->family,
	};
	r = node->drains ? 0 : weft_loop_set(node->loop, &listener->io, EPOLLIN | EPOLLEXCLUSIVE);
	if (r < 0) {
		free(listener);
		return r;
	}
	own = -1;
	at = find_listener(pod, wanted);
	if (*at) {
		listener->next = (*at)->next;
		listener_free(*at);
	}
	*at = listener;
	first_sockets(node, pod, listener);
	go_on(node);
	return 0;
}

void weft_node_drop(struct weft_node *node, const struct weft_node_listener *wanted)
{
	struct pod *pod = pod_of(node, wanted->netns);
	struct listener *listener, **at;

	if (!pod)
		return;
	at = find_listener(pod, wanted);
	listener = *at;
	if (listener) {
		*at = listener->next;
		listener_free(listener);
	}
	if (!pod->listeners)
		leave(node, pod);
}

/* ---- the mesh ---- */

static void cut(struct weft_node *node, struct flow *flow, const char *identity, const char *why, const char *policy)
{
	count(node, WEFT_PROXY_COUNT_POLICY_CUT);
	say(node, WEFT_LOG_INFO, "cut the connection of %s to port %u of %s: %s%s%s", identity, flow->port,
	    flow->server ? workload_label(node, flow->workload).text : addr_label(&flow->to, flow->port).text, why, policy[0] ? ", by " : "", policy);
	flow->cut = true;
	if (flow->server && !flow->answered)
		refuse(flow, 401);
	else
		weft_hbone_cut(flow->stream);
}

static void judge_again(struct weft_node *node, struct flow *flow)
{
	struct weft_mesh_workload workload;
	struct weft_hbone_facts facts;
	struct weft_verdict verdict;

	weft_hbone_facts(flow->stream, &facts);
	if (flow->server) {
		weft_mesh_judge(&node->mesh, flow->workload, &(struct weft_peer){ facts.peer_identity, facts.peer }, flow->port, &verdict);
		if (!verdict.allowed)
			cut(node, flow, facts.peer_identity, verdict.reason, verdict.policy);
		return;
	}
	/* A pod that is gone takes its connections along by itself; an address that is somebody else's now is another peer. */
	if (facts.peer_identity[0] && weft_mesh_by_addr(&node->mesh, &flow->to, &workload) == 0 &&
	    strcmp(workload.identity, facts.peer_identity) != 0)
		cut(node, flow, weft_identity_id(flow->identity), "the address is another workload's now", "");
	else if (weft_mesh_by_id(&node->mesh, flow->workload, &workload) == 0 && strcmp(workload.identity, weft_identity_id(flow->identity)) != 0)
		cut(node, flow, weft_identity_id(flow->identity), "the workload has another identity now", "");
}

int weft_node_mesh(struct weft_node *node, void *data, size_t size, struct weft_err *err)
{
	struct flow *flow, *next;
	struct weft_mesh mesh;
	int r = weft_mesh_open(data, size, &mesh, err);

	if (r < 0) {
		munmap(data, size);
		return r;
	}
	if (node->data)
		munmap(node->data, node->size);
	node->data = data;
	node->size = size;
	node->mesh = mesh;
	for (flow = node->flows; flow; flow = next) {
		next = flow->next;
		if (!flow->cut)
			judge_again(node, flow);
	}
	go_on(node);
	return 0;
}

/* ---- all of it ---- */

static void tick(struct weft_loop_timer *timer)
{
	struct weft_node *node = (struct weft_node *)(void *)((char *)timer - offsetof(struct weft_node, tick));
	bool look = ++node->ticks % SHRINK_TICKS == 0;

	weft_loop_timer(node->loop, &node->tick, TICK_MS);
	go_on(node);
	if (node->trust && node->ticks % RECHECK_TICKS == 0)
		weft_hbone_recheck(node->hbone, node->trust, time(NULL));
	for (struct pod *pod = node->pods; pod; pod = pod->hh.next)
		for (size_t i = 0; i < POOLS; i++) {
			if (look)
				weft_sockets_rest(&pod->pool[i]);
			weft_sockets_fill(&pod->pool[i], weft_loop_now_ns(node->loop));
		}
}

void weft_node_drain(struct weft_node *node)
{
	node->drains = true;
	for (struct pod *pod = node->pods; pod; pod = pod->hh.next)
		for (struct listener *listener = pod->listeners; listener; listener = listener->next) {
			weft_loop_remove(node->loop, &listener->io);
			weft_loop_timer_stop(&listener->rest);
		}
	weft_hbone_drain(node->hbone);
}

bool weft_node_idle(const struct weft_node *node)
{
	return !node->flows && !node->waiting;
}

/* Few identities, many connections: an id that was written shortly before is pointed at again. */
struct texts {
	struct weft_buf buf;
	uint32_t recent[256]; /* offset + 1 */
};

static int text_offset(struct texts *texts, const char *text, __u32 *ret_offset)
{
	size_t size = strlen(text) + 1;
	uint32_t *slot = &texts->recent[weft_hash(text, size, 0) % WEFT_ARRAY_SIZE(texts->recent)];

	if (!*slot || strcmp(texts->buf.data + *slot - 1, text) != 0) {
		if (weft_buf_add(&texts->buf, text, size) < 0)
			return -ENOMEM;
		*slot = (uint32_t)(texts->buf.size - size) + 1;
	}
	*ret_offset = *slot - 1;
	return 0;
}

static int add_conn(const struct flow *flow, struct texts *texts, struct weft_buf *out)
{
	struct weft_hbone_facts facts;
	struct weft_proxy_conn conn = {
		.netns = flow->netns,
		.start_ns = flow->start_ns,
		.local = flow->local,
		.remote = flow->remote,
		.local_port = htons(flow->local_port),
		.remote_port = htons(flow->remote_port),
		.role = flow->server ? WEFT_ROLE_SERVER : WEFT_ROLE_CLIENT,
	};
	struct weft_mesh_workload workload;
	const char *own = "";
	int r;

	weft_hbone_facts(flow->stream, &facts);
	conn.sent = facts.sent;
	conn.received = facts.received;
	conn.peer = facts.peer;
	conn.peer_port = htons(facts.peer_port);
	conn.security = facts.peer_identity[0] ? WEFT_PROXY_MUTUAL_TLS : WEFT_PROXY_NONE;
	if (flow->identity)
		own = weft_identity_id(flow->identity);
	else if (flow->node->data && weft_mesh_by_id(&flow->node->mesh, flow->workload, &workload) == 0)
		own = workload.identity;
	r = text_offset(texts, own, &conn.local_identity);
	if (r == 0)
		r = text_offset(texts, facts.peer_identity, &conn.peer_identity);
	return r < 0 ? r : weft_buf_add(out, &conn, sizeof(conn));
}

int weft_node_conns(struct weft_node *node, struct weft_buf *out, uint32_t *ret_count)
{
	struct weft_proxy_facts facts = { .count = { 0 } };
	struct texts texts = { .buf = WEFT_BUF_INIT };
	uint32_t number = 0;
	int r;

	memcpy(facts.count, node->count, sizeof(node->count));
	r = weft_buf_add(&texts.buf, "", 1);
	if (r == 0)
		r = weft_buf_add(out, &facts, sizeof(facts));
	for (const struct flow *flow = node->flows; flow && r == 0; flow = flow->next) {
		if (flow->server && !flow->answered)
			continue; /* there is no application's socket yet */
		r = add_conn(flow, &texts, out);
		number++;
	}
	if (r == 0)
		r = weft_buf_add(out, texts.buf.data, texts.buf.size);
	weft_buf_done(&texts.buf);
	if (r == 0)
		*ret_count = number;
	return r;
}

int weft_node_new(struct weft_loop *loop, struct weft_remote_keys *keys, const struct weft_node_ops *ops,
		  const struct weft_hbone_limits *limits, unsigned int streams, struct weft_node **ret_node)
{
	weft_cleanup(weft_node_freep) struct weft_node *node = calloc(1, sizeof(*node));
	struct weft_hbone_ops hbone = {
		.socket = on_socket, .request = on_request, .opened = on_opened, .ended = on_ended, .over_share = on_over_share,
		.count = on_count, .context = node
	};
	int r;

	if (!node)
		return -ENOMEM;
	node->loop = loop;
	node->keys = keys;
	node->ops = *ops;
	node->waiting_last = &node->waiting;
	node->streams = weft_shares_new(streams ? streams : STREAMS);
	if (!node->streams)
		return -ENOMEM;
	node->tick.fired = tick;
	r = weft_hbone_new(loop, keys, &hbone, limits, &node->hbone);
	if (r < 0)
		return r;
	weft_loop_timer(loop, &node->tick, TICK_MS);
	*ret_node = weft_take_ptr(node);
	return 0;
}

struct weft_node *weft_node_free(struct weft_node *node)
{
	struct identity *identity, *next_identity;
	struct pod *pod, *next_pod;

	if (!node)
		return NULL;
	weft_loop_timer_stop(&node->tick);
	while (node->waiting) {
		struct accepted *accepted = node->waiting;

		node->waiting = accepted->next;
		accepted_free(accepted);
	}
	HASH_ITER(hh, node->pods, pod, next_pod) {
		while (pod->listeners) {
			struct listener *listener = pod->listeners;

			pod->listeners = listener->next;
			listener_free(listener);
		}
		pod_free(node, pod);
	}
	weft_hbone_free(node->hbone); /* ends what flows */
	while (node->flows)
		flow_free(node->flows);
	HASH_ITER(hh, node->identities, identity, next_identity) {
		HASH_DELETE(hh, node->identities, identity);
		identity_free(identity);
	}
	weft_trust_unref(node->trust);
	weft_shares_unref(node->streams);
	if (node->data)
		munmap(node->data, node->size);
	free(node);
	return NULL;
}
