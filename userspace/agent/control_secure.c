/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control's side of keys and the proxies: says which identities this node needs and who is in the mesh, and keeps what they say
 * for people and Prometheus. None of them is waited for, but for connections, and that shortly: one that does not answer is asked
 * again only when it has.
 */
#include "agent/control.h"

#include <errno.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "ctl/keys.h"
#include "ctl/proxy.h"

#define AGAIN_MS 200 /* what a full socket did not take is sent again */
#define CONNS_MS 300 /* that a proxy is waited for */

struct identity {
	UT_hash_handle hh; /* by id */
	char *id;
	int64_t not_before, not_after;
	char *serial; /* of the leaf, in hex */
	size_t count; /* certificates */
	char *pem;
};

struct proxy {
	int sock; /* -1: not there */
	sd_event_source *io;
	uint64_t generation; /* of the mesh that it has; 0: none */
	uint32_t asked; /* serial of what it has not answered; 0: nothing */
	bool fresh; /* conns are what it said when it was asked last */
	const void *conns; /* mapped: the last answer */
	size_t conns_size;
	uint32_t conns_count;
};

struct weft_secure {
	sd_event_source *again;
	int keys; /* -1: not there */
	sd_event_source *keys_io;
	bool want_sent;
	struct weft_buf want;
	uint32_t want_count;
	struct identity *identities;
	int keys_error; /* what keys says, in words: */
	char keys_text[512];
	int mesh; /* memfd, -1: none yet */
	size_t mesh_size;
	uint64_t generation;
	struct weft_problems problems;
	uint32_t serial;
	struct proxy proxy[WEFT_PROXY_MAX];
};

static void try_again(struct weft_secure *secure)
{
	sd_event_source_set_time_relative(secure->again, (uint64_t)AGAIN_MS * 1000);
	sd_event_source_set_enabled(secure->again, SD_EVENT_ONESHOT);
}

/* ---- keys ---- */

static void identity_free(struct identity *identity)
{
	free(identity->id);
	OPENSSL_free(identity->serial);
	free(identity->pem);
	free(identity);
}

static void forget_identity(struct weft_secure *secure, const char *id)
{
	struct identity *identity;

	HASH_FIND_STR(secure->identities, id, identity);
	if (!identity)
		return;
	HASH_DELETE(hh, secure->identities, identity);
	identity_free(identity);
}

/* As files have it: RFC 7468 section 2. */
static int print_pem(const struct weft_keys_pair *pair, struct weft_buf *out)
{
	int r = 0;

	for (size_t i = 0; i < pair->count && r == 0; i++) {
		const unsigned char *at = pair->chain[i].data, *end = at + pair->chain[i].size;

		r = weft_buf_printf(out, "-----BEGIN CERTIFICATE-----\n");
		while (at < end && r == 0) {
			unsigned char line[65];
			int size = end - at > 48 ? 48 : (int)(end - at);

			EVP_EncodeBlock(line, at, size);
			r = weft_buf_printf(out, "%s\n", line);
			at += size;
		}
		if (r == 0)
			r = weft_buf_printf(out, "-----END CERTIFICATE-----\n");
	}
	return r;
}

/* NULL: it is no certificate. */
static char *serial_of(const struct weft_keys_pair *pair)
{
	const unsigned char *der = pair->chain[0].data;
	X509 *leaf = d2i_X509(NULL, &der, (long)pair->chain[0].size);
	BIGNUM *number = leaf ? ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL) : NULL;
	char *serial = number ? BN_bn2hex(number) : NULL;

	BN_free(number);
	X509_free(leaf);
	return serial;
}

static int take_identity(struct weft_secure *secure, const void *data, size_t size, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf pem = WEFT_BUF_INIT;
	struct weft_keys_pair pair;
	struct identity *identity;
	int r = weft_keys_identity_open(data, size, &pair, err);

	if (r < 0)
		return r;
	identity = calloc(1, sizeof(*identity));
	if (!identity || !(identity->id = strdup(pair.id)) || print_pem(&pair, &pem) < 0) {
		if (identity)
			identity_free(identity);
		return weft_err_set(err, ENOMEM, "out of memory");
	}
	identity->not_before = pair.not_before;
	identity->not_after = pair.not_after;
	identity->count = pair.count;
	identity->pem = weft_take_ptr(pem.data);
	identity->serial = serial_of(&pair);
	forget_identity(secure, pair.id);
	HASH_ADD_KEYPTR(hh, secure->identities, identity->id, strlen(identity->id), identity);
	return 0;
}

static void note_keys(struct weft_control *control)
{
	struct weft_secure *secure = control->secure;

	weft_problems_done(&secure->problems);
	if (secure->keys_error)
		weft_problems_add(&secure->problems, WEFT_SEVERITY_ERROR, control->options->config, 0, NULL, NULL, "certificates: %s", secure->keys_text);
	weft_control_say_problems(control);
}

static int take_keys_bulk(struct weft_control *control, const struct weft_keys_message *message, const void *data, struct weft_err *err)
{
	struct weft_secure *secure = control->secure;
	const char *text;
	int r;

	if (message->type == WEFT_KEYS_IDENTITY)
		return take_identity(secure, data, message->bytes, err);
	if (message->type == WEFT_KEYS_TRUST)
		return 0; /* for proxies */
	r = weft_keys_text_open(data, message->bytes, &text, err);
	if (r < 0)
		return r;
	if (message->type == WEFT_KEYS_GONE) {
		forget_identity(secure, text);
	} else if (message->type == WEFT_KEYS_STATE) {
		secure->keys_error = message->error;
		snprintf(secure->keys_text, sizeof(secure->keys_text), "%s", text);
		note_keys(control);
	}
	return 0;
}

static void lose_keys(struct weft_secure *secure)
{
	secure->keys_io = sd_event_source_disable_unref(secure->keys_io);
	if (secure->keys >= 0)
		close(weft_take_fd(secure->keys));
	secure->want_sent = false;
}

static int on_keys(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct weft_control *control = context;
	weft_close_on_exit int memfd = -1;
	struct weft_keys_message message;
	struct weft_err err = { "" };
	const void *data;
	int r = weft_keys_receive(fd, WEFT_KEYS_TO_CONTROL, MSG_DONTWAIT, &message, &memfd, &err);

	(void)source;
	(void)revents;
	if (r == -EAGAIN)
		return 0;
	if (r < 0 && r != -EBADMSG) {
		lose_keys(control->secure);
		return 0;
	}
	if (r == 0 && memfd < 0) { /* STATE: all is well */
		control->secure->keys_error = message.error;
		snprintf(control->secure->keys_text, sizeof(control->secure->keys_text), "%s", message.error ? strerror(-message.error) : "");
		note_keys(control);
		return 0;
	}
	if (r == 0) {
		r = weft_memfd_map(memfd, message.bytes, &data);
		if (r < 0) {
			weft_err_set(&err, r, "cannot map what it sent: %m");
		} else {
			r = take_keys_bulk(control, &message, data, &err);
			munmap((void *)data, message.bytes);
		}
	}
	if (r < 0)
		weft_error("a message of keys is of no use: %s", err.text);
	return 0;
}

static int add_wanted(void *context, const struct weft_attached *attached)
{
	struct weft_secure *secure = context;
	const char *at = secure->want.data + sizeof(struct weft_keys_settings);

	if (!attached->identity[0] || secure->want_count >= WEFT_KEYS_MAX_WANTED)
		return 0;
	for (uint32_t i = 0; i < secure->want_count; i++, at += strlen(at) + 1)
		if (strcmp(at, attached->identity) == 0)
			return 0;
	secure->want_count++;
	return weft_keys_want_add(&secure->want, attached->identity);
}

/* What is needed now; told only if it is something else than before. */
static int make_want(struct weft_control *control)
{
	struct weft_secure *secure = control->secure;
	const struct weft_mesh_config *mesh = weft_model_mesh(control->model);
	weft_buf_done_on_exit struct weft_buf before = secure->want;
	struct weft_keys_settings settings = {
		.source = mesh->identity_source == WEFT_IDENTITY_FILES ? WEFT_KEYS_SOURCE_FILES : WEFT_KEYS_SOURCE_EMBEDDED,
		.ttl_s = mesh->certificate_ttl_s,
	};
	int r;

	snprintf(settings.trust_domain, sizeof(settings.trust_domain), "%s", mesh->trust_domain);
	secure->want = WEFT_BUF_INIT;
	secure->want_count = 0;
	r = weft_keys_want_put(&secure->want, &settings);
	if (r == 0)
		r = weft_model_attached(control->model, add_wanted, secure);
	if (r < 0)
		return r;
	if (secure->want.size != before.size || memcmp(secure->want.data, before.data, before.size) != 0)
		secure->want_sent = false;
	return 0;
}

static void send_want(struct weft_secure *secure)
{
	struct weft_keys_message message = weft_keys_message(WEFT_KEYS_WANT, ++secure->serial);
	int r;

	if (secure->keys < 0 || secure->want_sent || !secure->want.size)
		return;
	message.count = secure->want_count;
	r = weft_keys_send(secure->keys, &message, secure->want.data, secure->want.size, MSG_DONTWAIT);
	secure->want_sent = r == 0;
	if (r == -EAGAIN)
		try_again(secure);
}

/* ---- proxies ---- */

static void lose_proxy(struct proxy *proxy)
{
	proxy->io = sd_event_source_disable_unref(proxy->io);
	if (proxy->sock >= 0)
		close(weft_take_fd(proxy->sock));
	if (proxy->conns)
		munmap((void *)proxy->conns, proxy->conns_size);
	proxy->conns = NULL;
	proxy->conns_count = 0;
	proxy->fresh = false;
	proxy->generation = 0;
	proxy->asked = 0;
}

static void send_mesh(struct weft_secure *secure, struct proxy *proxy)
{
	struct weft_proxy_message message = weft_proxy_message(WEFT_PROXY_MESH, ++secure->serial);
	int r;

	if (proxy->sock < 0 || secure->mesh < 0 || proxy->generation == secure->generation)
		return;
	r = weft_proxy_send_memfd(proxy->sock, &message, secure->mesh, secure->mesh_size);
	if (r == 0)
		proxy->generation = secure->generation;
	else if (r == -EAGAIN)
		try_again(secure);
}

static void take_conns(struct proxy *proxy, const struct weft_proxy_message *message, int memfd)
{
	bool awaited = message->serial == proxy->asked;
	struct weft_err err = { "" };
	const void *data;
	int r;

	if (awaited)
		proxy->asked = 0;
	r = weft_memfd_map(memfd, message->bytes, &data);
	if (r < 0) {
		errno = -r;
		weft_error("cannot map what a proxy sent: %m");
		return;
	}
	if (weft_proxy_conns_check(data, message->bytes, message->count, &err) < 0) {
		weft_error("a proxy's connections are of no use: %s", err.text);
		munmap((void *)data, message->bytes);
		return;
	}
	if (proxy->conns)
		munmap((void *)proxy->conns, proxy->conns_size);
	proxy->conns = data;
	proxy->conns_size = message->bytes;
	proxy->conns_count = message->count;
	proxy->fresh = awaited;
}

static int on_proxy(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	weft_cleanup(weft_proxy_fds_done) struct weft_proxy_fds fds = { .count = 0 };
	struct proxy *proxy = context;
	struct weft_proxy_message message;
	struct weft_err err = { "" };
	int r = weft_proxy_receive(fd, WEFT_PROXY_SIDE_TO_CONTROL, &message, &fds, &err);

	(void)source;
	(void)revents;
	if (r == 0)
		take_conns(proxy, &message, fds.fd[0]);
	else if (r == -EBADMSG)
		weft_error("a message of a proxy is of no use: %s", err.text);
	else if (r != -EAGAIN)
		lose_proxy(proxy);
	return 0;
}

static void ask_conns(struct weft_secure *secure, struct proxy *proxy)
{
	struct weft_proxy_message message;

	proxy->fresh = false;
	if (proxy->sock < 0 || proxy->asked)
		return;
	if (++secure->serial == 0)
		secure->serial = 1;
	message = weft_proxy_message(WEFT_PROXY_CONNS_WANTED, secure->serial);
	if (weft_proxy_send(proxy->sock, &message, NULL, 0) == 0)
		proxy->asked = secure->serial;
}

/* Brings proxy->conns up to date, of those that answer in time. */
static void gather(struct weft_secure *secure)
{
	uint64_t end_ns = weft_control_now(CLOCK_MONOTONIC) + CONNS_MS * 1000000ull, now;
	bool wait[WEFT_PROXY_MAX];

	for (size_t i = 0; i < WEFT_PROXY_MAX; i++) {
		wait[i] = !secure->proxy[i].asked;
		ask_conns(secure, &secure->proxy[i]);
	}
	while ((now = weft_control_now(CLOCK_MONOTONIC)) < end_ns) {
		struct pollfd poller[WEFT_PROXY_MAX];
		struct proxy *of[WEFT_PROXY_MAX];
		nfds_t count = 0;

		for (size_t i = 0; i < WEFT_PROXY_MAX; i++)
			if (wait[i] && secure->proxy[i].asked) {
				of[count] = &secure->proxy[i];
				poller[count++] = (struct pollfd){ .fd = secure->proxy[i].sock, .events = POLLIN };
			}
		if (!count || poll(poller, count, (int)((end_ns - now) / 1000000) + 1) <= 0)
			return;
		for (nfds_t i = 0; i < count; i++)
			if (poller[i].revents)
				on_proxy(NULL, poller[i].fd, 0, of[i]);
	}
}

/* ---- all of it ---- */

static int on_again(sd_event_source *source, uint64_t usec, void *context)
{
	struct weft_control *control = context;
	struct weft_secure *secure = control->secure;

	(void)source;
	(void)usec;
	send_want(secure);
	for (size_t i = 0; i < WEFT_PROXY_MAX; i++)
		send_mesh(secure, &secure->proxy[i]);
	return 0;
}

static int count_attached(void *context, const struct weft_attached *attached)
{
	(void)attached;
	++*(size_t *)context;
	return 0;
}

static int make_mesh(struct weft_control *control)
{
	struct weft_secure *secure = control->secure;
	weft_buf_done_on_exit struct weft_buf block = WEFT_BUF_INIT;
	int r = weft_model_mesh_block(control->model, secure->generation + 1, &block), fd;

	if (r < 0)
		return r;
	fd = weft_memfd_from("weft-mesh", block.data, block.size);
	if (fd < 0)
		return fd;
	if (secure->mesh >= 0)
		close(secure->mesh);
	secure->mesh = fd;
	secure->mesh_size = block.size;
	secure->generation++;
	return 0;
}

void weft_control_secure_update(struct weft_control *control, bool mesh_changed)
{
	struct weft_secure *secure = control->secure;
	size_t attached = 0;
	int r;

	weft_model_attached(control->model, count_attached, &attached);
	if (!attached && secure->keys < 0)
		return; /* nothing of it is used, and nothing of it runs */
	r = make_want(control);
	if (r == 0 && (mesh_changed || secure->mesh < 0))
		r = make_mesh(control);
	if (r < 0) {
		errno = -r;
		weft_error("cannot tell keys and proxies of the mesh: %m; trying again with the next change");
	}
	on_again(NULL, 0, control);
}

int weft_control_secure_link(struct weft_control *control, uint32_t link, uint32_t number, int fd)
{
	struct weft_secure *secure = control->secure;
	struct proxy *proxy;
	int r;

	if (link == WEFT_LINK_CONTROL_KEYS) {
		lose_keys(secure);
		secure->keys = fd;
		r = sd_event_add_io(control->loop, &secure->keys_io, fd, EPOLLIN, on_keys, control);
		if (control->model && control->ready)
			weft_control_secure_update(control, false);
		return r;
	}
	if (link != WEFT_LINK_CONTROL_PROXY || number >= WEFT_PROXY_MAX) {
		close(fd);
		return 0;
	}
	proxy = &secure->proxy[number];
	lose_proxy(proxy);
	proxy->sock = fd;
	r = sd_event_add_io(control->loop, &proxy->io, fd, EPOLLIN, on_proxy, proxy);
	if (r >= 0) {
		weft_control_secure_log_level(control);
		send_mesh(secure, proxy);
	}
	return r;
}

void weft_control_secure_log_level(struct weft_control *control)
{
	struct weft_secure *secure = control->secure;
	struct weft_proxy_message message = weft_proxy_message(WEFT_PROXY_LOG_LEVEL, 0);
	struct weft_keys_message keys = weft_keys_message(WEFT_KEYS_LOG_LEVEL, 0);

	message.arg[0] = weft_log_level();
	keys.key = weft_log_level();
	for (size_t i = 0; i < WEFT_PROXY_MAX; i++)
		if (secure->proxy[i].sock >= 0)
			weft_proxy_send(secure->proxy[i].sock, &message, NULL, 0);
	if (secure->keys >= 0)
		weft_keys_send(secure->keys, &keys, NULL, 0, MSG_DONTWAIT);
}

int weft_control_secure_start(struct weft_control *control)
{
	struct weft_secure *secure = calloc(1, sizeof(*secure));
	int r;

	if (!secure)
		return -ENOMEM;
	control->secure = secure;
	secure->keys = secure->mesh = -1;
	for (size_t i = 0; i < WEFT_PROXY_MAX; i++)
		secure->proxy[i].sock = -1;
	r = sd_event_add_time(control->loop, &secure->again, CLOCK_MONOTONIC, 0, 1000, on_again, control);
	return r < 0 ? r : sd_event_source_set_enabled(secure->again, SD_EVENT_OFF);
}

void weft_control_secure_stop(struct weft_control *control)
{
	struct weft_secure *secure = control->secure;
	struct identity *identity, *next;

	if (!secure)
		return;
	lose_keys(secure);
	for (size_t i = 0; i < WEFT_PROXY_MAX; i++)
		lose_proxy(&secure->proxy[i]);
	HASH_ITER(hh, secure->identities, identity, next) {
		HASH_DELETE(hh, secure->identities, identity);
		identity_free(identity);
	}
	if (secure->mesh >= 0)
		close(secure->mesh);
	weft_buf_done(&secure->want);
	weft_problems_done(&secure->problems);
	sd_event_source_disable_unref(secure->again);
	free(secure);
	control->secure = NULL;
}

void weft_control_secure_problems(const struct weft_control *control, void (*each)(void *context, const struct weft_problem *problem),
				  void *context)
{
	for (size_t i = 0; i < control->secure->problems.count; i++)
		each(context, &control->secure->problems.item[i]);
}

/* ---- for people ---- */

struct json_object *weft_control_identities_json(const struct weft_control *control)
{
	const struct weft_secure *secure = control->secure;
	struct json_object *list = json_object_new_array();
	int64_t now = (int64_t)(weft_control_now(CLOCK_REALTIME) / 1000000000);

	for (const struct identity *identity = secure->identities; identity; identity = identity->hh.next) {
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "identity", json_object_new_string(identity->id));
		json_object_object_add(object, "serial", json_object_new_string(identity->serial ? identity->serial : ""));
		json_object_object_add(object, "not_before", json_object_new_int64(identity->not_before));
		json_object_object_add(object, "not_after", json_object_new_int64(identity->not_after));
		json_object_object_add(object, "expires_ns",
				       json_object_new_int64(identity->not_after > now ? (identity->not_after - now) * 1000000000 : 0));
		json_object_object_add(object, "certificates", json_object_new_uint64(identity->count));
		json_object_object_add(object, "pem", json_object_new_string(identity->pem));
		json_object_array_add(list, object);
	}
	return list;
}

static const char *text_at(const struct proxy *proxy, uint32_t offset)
{
	return (const char *)proxy->conns + sizeof(struct weft_proxy_facts) + proxy->conns_count * sizeof(struct weft_proxy_conn) + offset;
}

static struct json_object *conn_object(const struct proxy *proxy, const struct weft_proxy_conn *conn)
{
	struct json_object *object = json_object_new_object();
	char text[WEFT_ADDR_TEXT];

	json_object_object_add(object, "netns", json_object_new_uint64(conn->netns));
	json_object_object_add(object, "role", json_object_new_string(conn->role == WEFT_ROLE_SERVER ? "server" : "client"));
	json_object_object_add(object, "local", json_object_new_string(weft_addr_port_format(&conn->local, ntohs(conn->local_port), text)));
	json_object_object_add(object, "remote", json_object_new_string(weft_addr_port_format(&conn->remote, ntohs(conn->remote_port), text)));
	json_object_object_add(object, "peer", json_object_new_string(weft_addr_port_format(&conn->peer, ntohs(conn->peer_port), text)));
	json_object_object_add(object, "security", json_object_new_string(conn->security == WEFT_PROXY_MUTUAL_TLS ? "mutual_tls" : "none"));
	json_object_object_add(object, "identity", json_object_new_string(text_at(proxy, conn->local_identity)));
	json_object_object_add(object, "peer_identity", json_object_new_string(text_at(proxy, conn->peer_identity)));
	json_object_object_add(object, "sent", json_object_new_uint64(conn->sent));
	json_object_object_add(object, "received", json_object_new_uint64(conn->received));
	json_object_object_add(object, "start_ns", json_object_new_uint64(conn->start_ns));
	return object;
}

static void conn_at(const struct proxy *proxy, uint32_t number, struct weft_proxy_conn *ret_conn)
{
	memcpy(ret_conn, (const char *)proxy->conns + sizeof(struct weft_proxy_facts) + number * sizeof(*ret_conn), sizeof(*ret_conn));
}

static int print_conns(const struct proxy *proxy, struct weft_buf *out)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < proxy->conns_count; i++) {
		struct weft_proxy_conn conn;
		struct json_object *object;
		const char *text;
		size_t size;

		conn_at(proxy, i, &conn);
		object = conn_object(proxy, &conn);
		text = json_object_to_json_string_length(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
		r = out->size > 1 ? weft_buf_add(out, ",", 1) : 0;
		if (r == 0)
			r = text ? weft_buf_add(out, text, size) : -ENOMEM;
		json_object_put(object);
	}
	return r;
}

int weft_control_secure_served(struct weft_control *control, struct weft_buf *ret_ends)
{
	int r = 0;

	gather(control->secure);
	for (size_t i = 0; i < WEFT_PROXY_MAX; i++) {
		const struct proxy *proxy = &control->secure->proxy[i];

		for (uint32_t j = 0; r == 0 && j < proxy->conns_count; j++) {
			struct weft_proxy_conn conn;
			struct weft_ends ends;

			conn_at(proxy, j, &conn);
			if (conn.role != WEFT_ROLE_SERVER)
				continue;
			ends = (struct weft_ends){ conn.local, conn.remote, conn.local_port, conn.remote_port };
			r = weft_buf_add(ret_ends, &ends, sizeof(ends));
		}
	}
	return r;
}

/* As text: a hundred thousand objects would be ten times as much, and the heap would keep it. */
struct json_object *weft_control_secure_conns_json(struct weft_control *control)
{
	weft_buf_done_on_exit struct weft_buf out = WEFT_BUF_INIT;
	struct json_object *list = json_object_new_array();
	int r;

	gather(control->secure);
	r = weft_buf_add(&out, "[", 1);
	for (size_t i = 0; r == 0 && i < WEFT_PROXY_MAX; i++)
		if (control->secure->proxy[i].fresh)
			r = print_conns(&control->secure->proxy[i], &out);
	if (r == 0)
		r = weft_buf_add(&out, "]", 1);
	if (r == 0)
		json_object_set_serializer(list, json_object_userdata_to_json_string, weft_take_ptr(out.data), json_object_free_userdata);
	else
		weft_error("out of memory: connections are not shown");
	return list;
}

int weft_control_secure_metrics(struct weft_control *control, struct weft_buf *ret_expiries, uint64_t *ret_counts)
{
	struct weft_secure *secure = control->secure;
	uint64_t now = weft_control_now(CLOCK_REALTIME) / 1000000000;

	gather(secure);
	for (size_t i = 0; i < WEFT_PROXY_MAX; i++) {
		struct weft_proxy_facts facts;

		if (!secure->proxy[i].conns)
			continue;
		memcpy(&facts, secure->proxy[i].conns, sizeof(facts));
		for (size_t what = 0; what < WEFT_ARRAY_SIZE(facts.count); what++)
			ret_counts[what] += facts.count[what];
	}
	for (const struct identity *identity = secure->identities; identity; identity = identity->hh.next) {
		struct weft_metrics_identity item = { identity->id, identity->not_after - (int64_t)now };

		if (weft_buf_add(ret_expiries, &item, sizeof(item)) < 0)
			return -ENOMEM;
	}
	return 0;
}
