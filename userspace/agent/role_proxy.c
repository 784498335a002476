/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Role proxy, one process per core. Holds no capability, no key, no file: listeners and sockets that main made in pods, handed
 * on by init and main, and the connections of applications. Takes them into tunnels and out of tunnels (proxy/node.h),
 * by what control says of the mesh and with signatures that keys makes. Never opens a file or makes a socket, never
 * sends what an application said in plaintext, never believes a header. Ends with init, and outlives all others.
 */
#include "agent/roles.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "agent/place.h"
#include "agent/sandbox.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "ctl/keys.h"
#include "ctl/proxy.h"
#include "proxy/node.h"

#define DRAIN_MS 4500 /* init kills after 5,000 */
#define DRAIN_LOOK_MS 100
#define CONNECTIONS 10000 /* TLS connections, proxy/hbone.h, where files are plenty */
#define MESSAGES 64 /* of one wake-up: what more there is waits for its turn among the connections */
#define SIGNS_MAX 16384 /* requests for a keys that does not read; beyond, handshakes fail */

struct proxy;

struct end {
	struct weft_loop_io io; /* fd -1: nobody is there */
	struct proxy *proxy;
};

struct proxy {
	struct weft_loop *loop;
	struct weft_remote_keys *remote;
	struct weft_node *node;
	struct end init, control, keys, main, signals;
	struct weft_keys_message *signs; /* not sent yet: a ring */
	size_t signs_room, signs_at, signs_count;
	struct weft_loop_timer drain;
	unsigned int drained_ms;
};

static void hang_up(struct end *end)
{
	if (end->io.fd < 0)
		return;
	weft_loop_remove(end->proxy->loop, &end->io);
	close(weft_take_fd(end->io.fd));
}

/* A new one takes the place of an older. */
static void connect_end(struct end *end, int fd)
{
	int r;

	hang_up(end);
	end->io.fd = fd;
	r = weft_loop_set(end->proxy->loop, &end->io, EPOLLIN);
	if (r < 0) {
		errno = -r;
		weft_error("cannot listen to another role: %m");
		hang_up(end);
	}
}

static struct end *end_of(struct weft_loop_io *io)
{
	return (struct end *)(void *)((char *)io - offsetof(struct end, io));
}

static void say(void *context, enum weft_log_level level, const char *sentence)
{
	(void)context;
	weft_log(level, "%s", sentence);
}

/* ---- keys ---- */

static int send_sign(struct proxy *proxy, struct weft_keys_message *message)
{
	return weft_keys_send(proxy->keys.io.fd, message, NULL, 0, MSG_DONTWAIT);
}

static int keep_sign(struct proxy *proxy, const struct weft_keys_message *message)
{
	if (proxy->signs_count == proxy->signs_room) {
		size_t room = proxy->signs_room ? proxy->signs_room * 2 : 64;
		struct weft_keys_message *signs = room > SIGNS_MAX ? NULL : malloc(room * sizeof(*signs));

		if (!signs)
			return -ENOBUFS;
		for (size_t i = 0; i < proxy->signs_count; i++)
			signs[i] = proxy->signs[(proxy->signs_at + i) % proxy->signs_room];
		free(proxy->signs);
		proxy->signs = signs;
		proxy->signs_room = room;
		proxy->signs_at = 0;
	}
	proxy->signs[(proxy->signs_at + proxy->signs_count++) % proxy->signs_room] = *message;
	return weft_loop_set(proxy->loop, &proxy->keys.io, EPOLLIN | EPOLLOUT);
}

static void send_kept_signs(struct proxy *proxy)
{
	while (proxy->signs_count && send_sign(proxy, &proxy->signs[proxy->signs_at]) != -EAGAIN) {
		proxy->signs_at = (proxy->signs_at + 1) % proxy->signs_room;
		proxy->signs_count--;
	}
	if (!proxy->signs_count)
		weft_loop_set(proxy->loop, &proxy->keys.io, EPOLLIN);
}

static int ask_sign(void *context, uint64_t key, uint32_t serial, const void *digest, size_t size)
{
	struct weft_keys_message message = weft_keys_message(WEFT_KEYS_SIGN, serial);
	struct proxy *proxy = context;
	int r = -EAGAIN;

	if (proxy->keys.io.fd < 0)
		return -ENOTCONN;
	if (size > sizeof(message.data))
		return -EMSGSIZE;
	message.key = key;
	message.data_size = (__u32)size;
	memcpy(message.data, digest, size);
	if (!proxy->signs_count)
		r = send_sign(proxy, &message);
	return r == -EAGAIN ? keep_sign(proxy, &message) : r;
}

static void sign_came(void *context, void *waiter)
{
	struct proxy *proxy = context;

	weft_node_signed(proxy->node, waiter);
}

static void take_identity(struct proxy *proxy, const void *data, size_t size)
{
	struct weft_der chain[WEFT_KEYS_MAX_CHAIN];
	struct weft_keys_pair pair;
	struct weft_err err = { "" };
	int r = weft_keys_identity_open(data, size, &pair, &err);

	if (r == 0) {
		for (size_t i = 0; i < pair.count; i++)
			chain[i] = (struct weft_der){ pair.chain[i].data, pair.chain[i].size };
		r = weft_node_identity(proxy->node, pair.id, pair.key, chain, pair.count, &err);
	}
	if (r < 0)
		weft_error("a certificate from keys cannot be used: %s", err.text);
}

/* All of it or nothing: trust without one of its revocations is too much. */
static void take_trust(struct proxy *proxy, const void *data, size_t size)
{
	weft_cleanup(weft_trust_unrefp) struct weft_trust *trust = weft_trust_new();
	struct weft_keys_anchor anchor;
	struct weft_err err = { "" };
	uint32_t count;
	size_t at = 0;
	int r = trust ? weft_keys_trust_open(data, size, &count, &err) : weft_err_set(&err, ENOMEM, "out of memory");

	while (r == 0 && weft_keys_trust_next(data, size, &at, &anchor))
		r = (anchor.type == WEFT_KEYS_TRUST_CRL ? weft_trust_add_crl : weft_trust_add_root)(trust, anchor.domain, anchor.der.data,
												   anchor.der.size, &err);
	if (r == 0)
		r = weft_node_trust(proxy->node, trust, &err);
	if (r < 0)
		weft_error("what keys says of whom to believe cannot be used: %s", err.text);
}

static void take_gone(struct proxy *proxy, const void *data, size_t size)
{
	struct weft_err err = { "" };
	const char *id;

	if (weft_keys_text_open(data, size, &id, &err) < 0)
		weft_error("%s", err.text);
	else
		weft_node_gone(proxy->node, id);
}

static void take_keys_message(struct proxy *proxy, const struct weft_keys_message *message, int fd)
{
	const void *data = NULL;
	int r;

	if (message->type == WEFT_KEYS_SIGNED) {
		weft_remote_signed(proxy->remote, message->serial, message->error, message->data, message->data_size);
		return;
	}
	r = weft_memfd_map(fd, message->bytes, &data);
	if (r < 0) {
		errno = -r;
		weft_error("cannot read what keys sent: %m");
		return;
	}
	if (message->type == WEFT_KEYS_IDENTITY)
		take_identity(proxy, data, message->bytes);
	else if (message->type == WEFT_KEYS_TRUST)
		take_trust(proxy, data, message->bytes);
	else if (message->type == WEFT_KEYS_GONE)
		take_gone(proxy, data, message->bytes);
	munmap((void *)data, message->bytes);
}

static void lose_keys(struct proxy *proxy)
{
	hang_up(&proxy->keys);
	proxy->signs_count = 0;
	weft_remote_lost(proxy->remote);
}

static void keys_ready(struct weft_loop_io *io, uint32_t events)
{
	struct proxy *proxy = end_of(io)->proxy;

	if (events & EPOLLOUT)
		send_kept_signs(proxy);
	for (int i = 0; i < MESSAGES && io->fd >= 0; i++) {
		struct weft_keys_message message;
		weft_close_on_exit int fd = -1;
		struct weft_err err = { "" };
		int r = weft_keys_receive(io->fd, WEFT_KEYS_TO_PROXY, MSG_DONTWAIT, &message, &fd, &err);

		if (r == -EAGAIN)
			return;
		if (r == 0)
			take_keys_message(proxy, &message, fd);
		else if (r == -EBADMSG)
			weft_error("%s", err.text);
		else
			lose_keys(proxy);
	}
}

/* ---- control ---- */

static void take_mesh(struct proxy *proxy, int fd, size_t size)
{
	struct weft_err err = { "" };
	const void *data;
	int r = weft_memfd_map(fd, size, &data);

	if (r < 0)
		weft_err_set(&err, r, "it cannot be mapped: %m");
	else
		r = weft_node_mesh(proxy->node, (void *)data, size, &err);
	if (r < 0)
		weft_error("what control says of the mesh cannot be used, what was in force stays: %s", err.text);
}

static void answer_conns(struct proxy *proxy, uint32_t serial)
{
	struct weft_proxy_message message = weft_proxy_message(WEFT_PROXY_CONNS, serial);
	weft_buf_done_on_exit struct weft_buf conns = WEFT_BUF_INIT;
	int r = weft_node_conns(proxy->node, &conns, &message.count);

	if (r == 0)
		r = weft_proxy_send(proxy->control.io.fd, &message, conns.data, conns.size);
	if (r < 0) {
		errno = -r;
		weft_debug("cannot tell control of the connections: %m");
	}
}

static void control_ready(struct weft_loop_io *io, uint32_t events)
{
	struct proxy *proxy = end_of(io)->proxy;

	(void)events;
	for (int i = 0; i < MESSAGES && io->fd >= 0; i++) {
		weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds fds = { .count = 0 };
		struct weft_proxy_message message;
		struct weft_err err = { "" };
		int r = weft_proxy_receive(io->fd, WEFT_PROXY_SIDE_CONTROL, &message, &fds, &err);

		if (r == -EAGAIN)
			return;
		if (r == -EBADMSG)
			weft_error("%s", err.text);
		else if (r < 0)
			hang_up(end_of(io));
		else if (message.type == WEFT_PROXY_MESH)
			take_mesh(proxy, fds.fd[0], message.bytes);
		else if (message.type == WEFT_PROXY_CONNS_WANTED)
			answer_conns(proxy, message.serial);
		else if (message.type == WEFT_PROXY_LOG_LEVEL)
			weft_log_set_level((enum weft_log_level)message.arg[0]);
	}
}

/* ---- main ---- */

static int want(void *context, uint32_t serial, uint64_t netns, enum weft_proxy_socket kind, int family, unsigned int count)
{
	struct weft_proxy_message message = weft_proxy_message(WEFT_PROXY_WANT_SOCKETS, serial);
	struct proxy *proxy = context;

	if (proxy->main.io.fd < 0)
		return -ENOTCONN;
	message.count = count;
	message.arg[0] = netns;
	message.arg[1] = kind;
	message.arg[2] = (__u64)family;
	return weft_proxy_send(proxy->main.io.fd, &message, NULL, 0);
}

static void main_ready(struct weft_loop_io *io, uint32_t events)
{
	struct proxy *proxy = end_of(io)->proxy;

	(void)events;
	for (int i = 0; i < MESSAGES && io->fd >= 0; i++) {
		weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds fds = { .count = 0 };
		struct weft_proxy_message message;
		struct weft_err err = { "" };
		int r = weft_proxy_receive(io->fd, WEFT_PROXY_SIDE_MAIN, &message, &fds, &err);

		if (r == -EAGAIN)
			return;
		if (r == -EBADMSG) {
			/* Sockets that this process had no room for: what was asked is not answered, and is asked again. */
			weft_error("%s", err.text);
			weft_node_asks_anew(proxy->node);
		} else if (r < 0) {
			hang_up(end_of(io));
		} else {
			size_t count = fds.count;

			fds.count = 0; /* the node's from here on */
			weft_node_sockets(proxy->node, message.serial, fds.fd, count, message.error, message.arg[0]);
		}
	}
}

/* ---- init ---- */

static void take_link(struct proxy *proxy, uint32_t link, int fd)
{
	switch (link) {
	case WEFT_LINK_CONTROL_PROXY:
		connect_end(&proxy->control, fd);
		return;
	case WEFT_LINK_KEYS_PROXY:
		lose_keys(proxy);
		connect_end(&proxy->keys, fd);
		return;
	case WEFT_LINK_MAIN_PROXY:
		connect_end(&proxy->main, fd);
		weft_node_asks_anew(proxy->node);
		return;
	default:
		close(fd);
	}
}

static void init_ready(struct weft_loop_io *io, uint32_t events)
{
	struct proxy *proxy = end_of(io)->proxy;

	(void)events;
	for (int i = 0; i < MESSAGES; i++) {
		struct weft_init_message message;
		weft_close_on_exit int fd = -1;
		struct weft_node_listener listener;
		int r = weft_init_receive(io->fd, &message, &fd);

		if (r == -EAGAIN)
			return;
		if (r == -ECONNRESET) {
			weft_loop_exit(proxy->loop, WEFT_EXIT_OK);
			return;
		}
		if (r < 0) {
			errno = -r;
			weft_error("cannot take a message of init: %m");
			continue;
		}
		listener = (struct weft_node_listener){ message.kept.netns, message.kept.workload, message.kept.port, message.kept.family };
		if (message.type == WEFT_INIT_LINK && fd >= 0) {
			take_link(proxy, message.link, weft_take_fd(fd));
		} else if (message.type == WEFT_INIT_KEPT) {
			r = weft_node_keep(proxy->node, &listener, weft_take_fd(fd));
			if (r < 0) {
				errno = -r;
				weft_error("cannot take connections at port %u of workload %u: %m", listener.port, listener.workload);
			}
		} else if (message.type == WEFT_INIT_DROPPED) {
			weft_node_drop(proxy->node, &listener);
		}
	}
}

/* ---- the process ---- */

static void drain_looked(struct weft_loop_timer *timer)
{
	struct proxy *proxy = (struct proxy *)(void *)((char *)timer - offsetof(struct proxy, drain));

	proxy->drained_ms += DRAIN_LOOK_MS;
	if (proxy->drained_ms >= DRAIN_MS || weft_node_idle(proxy->node))
		weft_loop_exit(proxy->loop, WEFT_EXIT_OK);
	else
		weft_loop_timer(proxy->loop, timer, DRAIN_LOOK_MS);
}

static void signals_ready(struct weft_loop_io *io, uint32_t events)
{
	struct proxy *proxy = end_of(io)->proxy;
	struct signalfd_siginfo signal;

	(void)events;
	if (read(io->fd, &signal, sizeof(signal)) != sizeof(signal) || proxy->drained_ms)
		return;
	weft_node_drain(proxy->node);
	drain_looked(&proxy->drain);
}

/* What is opened late elsewhere is opened here: afterwards there is no file to open. */
static int start(struct proxy *proxy, struct weft_err *err)
{
	const struct weft_remote_ops remote = { .sign = ask_sign, .ready = sign_came, .context = proxy };
	const struct weft_node_ops ops = { .want = want, .say = say, .context = proxy };
	struct weft_hbone_limits limits = { .connections = 0 };
	unsigned int streams = 0;
	struct rlimit files;
	sigset_t term;
	int r;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
		/* A descriptor each; the last quarter is for sockets that are there ahead of need, and for what waits. */
		if (files.rlim_cur < 4 * CONNECTIONS)
			limits.connections = (unsigned int)files.rlim_cur / 4;
		streams = files.rlim_cur < 2ull * UINT32_MAX ? (unsigned int)(files.rlim_cur / 2) : UINT32_MAX;
	}
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	if (signal(SIGINT, SIG_IGN) == SIG_ERR || signal(SIGHUP, SIG_IGN) == SIG_ERR || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
	    sigprocmask(SIG_BLOCK, &term, NULL) < 0)
		return weft_err_set(err, errno, "cannot set up signals: %m");
	r = weft_loop_new(&proxy->loop);
	if (r < 0)
		return weft_err_set(err, r, "cannot set up the event loop: %m");
	proxy->signals.io.fd = signalfd(-1, &term, SFD_NONBLOCK | SFD_CLOEXEC);
	if (proxy->signals.io.fd < 0)
		return weft_err_set(err, errno, "cannot set up signals: %m");
	r = weft_remote_keys_new(&remote, &proxy->remote, err);
	if (r < 0)
		return r;
	r = weft_node_new(proxy->loop, proxy->remote, &ops, &limits, streams, &proxy->node);
	if (r == 0)
		r = weft_loop_set(proxy->loop, &proxy->signals.io, EPOLLIN);
	if (r == 0)
		r = weft_loop_set(proxy->loop, &proxy->init.io, EPOLLIN);
	return r < 0 ? weft_err_set(err, r, "cannot set up the proxy: %m") : 0;
}

static void stop(struct proxy *proxy)
{
	if (proxy->loop) {
		weft_loop_timer_stop(&proxy->drain);
		hang_up(&proxy->control);
		hang_up(&proxy->main);
		hang_up(&proxy->keys);
		hang_up(&proxy->signals);
	}
	weft_node_free(proxy->node);
	weft_remote_keys_free(proxy->remote);
	weft_loop_free(proxy->loop);
	free(proxy->signs);
}

int weft_role_proxy_run(const struct weft_options *options)
{
	struct proxy proxy = {
		.init = { { .ready = init_ready, .fd = WEFT_FD_INIT }, &proxy },
		.control = { { .ready = control_ready, .fd = -1 }, &proxy },
		.keys = { { .ready = keys_ready, .fd = -1 }, &proxy },
		.main = { { .ready = main_ready, .fd = -1 }, &proxy },
		.signals = { { .ready = signals_ready, .fd = -1 }, &proxy },
		.drain = { .fired = drain_looked },
	};
	struct weft_err err = { "" };
	int r = start(&proxy, &err);

	if (r < 0) {
		weft_error("%s", err.text);
		stop(&proxy);
		return WEFT_EXIT_FAILURE;
	}
	r = weft_place_become(options, WEFT_AGENT_PROXY, &err);
	if (r == 0)
		r = weft_sandbox_enter(WEFT_AGENT_PROXY, -1, -1, &err);
	if (r < 0) {
		weft_error("%s", err.text);
		stop(&proxy);
		return WEFT_EXIT_PRIVILEGE;
	}
	r = weft_loop_run(proxy.loop);
	if (r < 0) {
		errno = -r;
		weft_error("the event loop failed: %m");
		r = WEFT_EXIT_FAILURE;
	}
	stop(&proxy);
	return r;
}
