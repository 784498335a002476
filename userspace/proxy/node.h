/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a proxy does with the HBONE engine: takes connections of attached pods into tunnels, brings streams of peers to
 * their application, and decides, by the mesh and what a peer has proved, whether either may be. Sockets, certificates and
 * the mesh are handed to it; it opens nothing and holds no key. Whatever it cannot do securely it refuses, with a reason:
 * there is no path from here to plaintext on the wire.
 */
#ifndef WEFT_PROXY_NODE_H
#define WEFT_PROXY_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "proxy/hbone.h"
#include "proxy/loop.h"
#include "tls/identity.h"
#include "tls/remote_key.h"
#include "tls/trust.h"
#include "weft/abi/proxy.h"

enum weft_proxy_count {
#define WEFT_PROXY_COUNT(NAME, name, sentence) WEFT_PROXY_COUNT_##NAME,
#include "weft/lists/proxy.h"
#undef WEFT_PROXY_COUNT
	WEFT_PROXY_COUNT_MAX_
};
_Static_assert(WEFT_PROXY_COUNT_MAX_ <= 32, "struct weft_proxy_facts has room for 32 counts");

struct weft_node;

struct weft_node_ops {
	/*
	 * Asks for `count` sockets; weft_node_sockets() follows with the same serial. -errno: it cannot be asked now, the node
	 * tries again by itself.
	 */
	int (*want)(void *context, uint32_t serial, uint64_t netns, enum weft_proxy_socket kind, int family, unsigned int count);
	/* A sentence for people; few enough a second for any log. */
	void (*say)(void *context, enum weft_log_level level, const char *sentence);
	void *context;
};

/* `streams`: how many it carries at most, by fair shares of its pods and their peers; 0: 100,000. */
int weft_node_new(struct weft_loop *loop, struct weft_remote_keys *keys, const struct weft_node_ops *ops,
		  const struct weft_hbone_limits *limits, unsigned int streams, struct weft_node **ret_node);
struct weft_node *weft_node_free(struct weft_node *node);
WEFT_CLEANUP_DEFINE(struct weft_node, weft_node_free);

/* A listener of a pod, shared with other proxies. */
struct weft_node_listener {
	uint64_t netns; /* cookie */
	uint32_t workload;
	uint16_t port; /* WEFT_PORT_OUTBOUND or WEFT_PORT_HBONE */
	uint16_t family; /* AF_INET or AF_INET6 */
};

/*
 * `fd`, listening and non-blocking, becomes the node's, also on failure; replaces one of the same netns, port and family.
 * `fd` < 0: the one that is there stays, its workload is new; -ENOENT: there is none.
 */
int weft_node_keep(struct weft_node *node, const struct weft_node_listener *listener, int fd);
/* No more connections from there. With its last listener a pod is gone: what is open of it ends, with a reset, and nothing of it stays. */
void weft_node_drop(struct weft_node *node, const struct weft_node_listener *listener);

/*
 * A block of model/mesh.h, mapped, which becomes the node's to munmap(), also on failure. Live streams are judged again.
 * -EBADMSG with what is wrong with it: the one before stays.
 */
int weft_node_mesh(struct weft_node *node, void *data, size_t size, struct weft_err *err);

/* The certificate of a local identity, leaf first, whose private key `keys` has as number `key`; replaces an older one. */
int weft_node_identity(struct weft_node *node, const char *id, uint64_t key, const struct weft_der *chain, size_t count,
		       struct weft_err *err);
void weft_node_gone(struct weft_node *node, const char *id);
/* Whom to believe from now on; a reference is taken. Connections of peers that are no longer believed end. */
int weft_node_trust(struct weft_node *node, struct weft_trust *trust, struct weft_err *err);

/* What weft_remote_ops.ready is to call. */
void weft_node_signed(struct weft_node *node, void *waiter);
/* The answer to `want`: sockets that become the node's; error != 0: why there are no more. `room`: how many more there could be. */
void weft_node_sockets(struct weft_node *node, uint32_t serial, const int *fds, size_t count, int error, uint64_t room);
/* There is another one to be asked for sockets: what was asked before is not answered any more. */
void weft_node_asks_anew(struct weft_node *node);

/* What abi/proxy.h says of CONNS: facts, connections, texts. *ret_count connections. -ENOMEM. */
int weft_node_conns(struct weft_node *node, struct weft_buf *out, uint32_t *ret_count);
/* Takes nothing new, lets go on what is open. */
void weft_node_drain(struct weft_node *node);
/* Carries no connection. */
bool weft_node_idle(const struct weft_node *node);

#endif
