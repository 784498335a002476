/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine with two sockets around it and no agent: what a peer that is not ours is tried against, and what the engine itself costs.
 *
 *   relay out IDENTITY.pem ROOT.pem ID LISTEN-PORT PEER-PORT EXPECTED-ID AUTHORITY
 *   relay in  IDENTITY.pem ROOT.pem ID LISTEN-PORT APP-PORT
 *
 * All on 127.0.0.1, or the addresses of RELAY_LISTEN and RELAY_PEER. `in` refuses the authorities 10.0.0.9:80 with 400, 10.0.0.9:81 with
 * 401 and never answers 10.0.0.9:82; its requests and both sides' ends are lines on standard output. Limits are of the environment:
 * RELAY_PING_MS, RELAY_HEADERS_MS, RELAY_HANDSHAKE_MS, RELAY_IDLE_MS. Ends on SIGTERM, after the GOAWAY.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "proxy/hbone.h"

struct relay {
	struct weft_loop_io listener, signals;
	struct weft_loop *loop;
	struct weft_hbone *hbone;
	struct weft_identity *identity;
	struct weft_trust *trust;
	bool out, quiet;
	struct weft_addr peer;
	uint16_t port;
	const char *expected[2], *authority;
	unsigned int counts[32];
};

static const char *const count_name[] = {
#define WEFT_PROXY_COUNT(name, text, sentence) text,
#include "weft/lists/proxy.h"
#undef WEFT_PROXY_COUNT
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "relay: %s: %s\n", what, why);
	exit(1);
}

static struct sockaddr_in address(const char *variable, int port)
{
	struct sockaddr_in made = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	const char *text = getenv(variable);

	if (inet_pton(AF_INET, text ? text : "127.0.0.1", &made.sin_addr) != 1)
		die(variable, "no address");
	return made;
}

static int new_socket(void *context, uint64_t netns, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	(void)context;
	(void)netns;
	return fd < 0 ? -errno : fd;
}

static void request(void *context, struct weft_hbone_stream *stream, const struct weft_hbone_peer *peer,
		    const struct weft_hbone_headers *headers, void **ret_user)
{
	struct relay *relay = context;
	struct sockaddr_in to = address("RELAY_PEER", relay->port);
	int fd;

	(void)ret_user;
	if (!relay->quiet)
		printf("request %s from=%s baggage=%s forwarded=%s traceparent=%s\n", headers->authority, peer->identity, headers->baggage,
		       headers->forwarded, headers->traceparent);
	if (!strcmp(headers->authority, "10.0.0.9:82"))
		return;
	if (!strcmp(headers->authority, "10.0.0.9:80") || !strcmp(headers->authority, "10.0.0.9:81")) {
		weft_hbone_refuse(stream, headers->authority[10] == '0' ? 400 : 401);
		return;
	}
	fd = new_socket(NULL, 0, AF_INET);
	if (fd < 0 || (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)) {
		if (fd >= 0)
			close(fd);
		weft_hbone_refuse(stream, 503);
		return;
	}
	weft_hbone_dial(stream, fd);
}

static void opened(void *context, struct weft_hbone_stream *stream, void *user)
{
	(void)context;
	(void)stream;
	(void)user;
}

static void ended(void *context, struct weft_hbone_stream *stream, void *user, enum weft_hbone_end end, int status,
		  const struct weft_hbone_facts *facts, const struct weft_err *err)
{
	static const char *const name[] = { "closed", "app_reset", "peer_reset", "refused", "unreachable", "not_trusted", "cut", "abuse" };
	struct relay *relay = context;

	(void)stream;
	(void)user;
	if (!relay->quiet)
		printf("ended %s status=%d sent=%llu received=%llu peer=%s why=%s\n", name[end], status, (unsigned long long)facts->sent,
		       (unsigned long long)facts->received, facts->peer_identity, err->text);
}

static void count(void *context, unsigned int what)
{
	struct relay *relay = context;

	relay->counts[what]++;
	if (!relay->quiet)
		printf("count %s %u\n", count_name[what], relay->counts[what]);
}

static void accepted(struct weft_loop_io *io, uint32_t events)
{
	struct relay *relay = (struct relay *)(void *)io;
	int fd;

	(void)events;
	while ((fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct weft_hbone_open open = { .identity = relay->identity, .expected = relay->expected, .netns = 1, .peer = relay->peer,
						.port = relay->port, .authority = relay->authority, .baggage = "k8s.namespace.name=shop",
						.forwarded = "for=\"127.0.0.1:1\"",
						.traceparent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00" };
		struct weft_hbone_stream *stream;

		if (relay->out)
			weft_hbone_open(relay->hbone, &open, fd, NULL, &stream);
		else
			weft_hbone_accept(relay->hbone, relay->identity, fd, 1);
	}
}

static void signalled(struct weft_loop_io *io, uint32_t events)
{
	struct relay *relay = (struct relay *)(void *)((char *)io - offsetof(struct relay, signals));
	struct signalfd_siginfo info;

	(void)events;
	if (read(io->fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR1)
		weft_hbone_drain(relay->hbone);
	else
		weft_loop_exit(relay->loop, 0);
}

static X509 *read_certificate(FILE *file, const char *name)
{
	X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);

	if (!certificate)
		die(name, "no certificate");
	return certificate;
}

static void credentials(struct relay *relay, const char *file_name, const char *root_name, const char *id)
{
	weft_fclose_on_exit FILE *file = fopen(file_name, "r");
	weft_fclose_on_exit FILE *roots = fopen(root_name, "r");
	struct weft_err err = { 0 };
	struct weft_der chain[4];
	unsigned char *der;
	size_t certificates = 0;
	EVP_PKEY *key;
	X509 *root;
	int size;

	if (!file || !roots)
		die(file ? root_name : file_name, strerror(errno));
	key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
	if (!key)
		die(file_name, "it does not begin with a key");
	for (X509 *certificate; certificates < 4 && (certificate = PEM_read_X509(file, NULL, NULL, NULL)); certificates++) {
		der = NULL;
		chain[certificates].size = (size_t)i2d_X509(certificate, &der);
		chain[certificates].data = der;
		X509_free(certificate);
	}
	root = read_certificate(roots, root_name);
	der = NULL;
	size = i2d_X509(root, &der);
	relay->trust = weft_trust_new();
	if (!relay->trust || weft_trust_add_root(relay->trust, "cluster.local", der, (size_t)size, &err) < 0)
		die(root_name, err.text);
	OPENSSL_free(der);
	X509_free(root);
	if (weft_identity_new(id, chain, certificates, key, relay->trust, &relay->identity, &err) < 0)
		die(file_name, err.text);
	for (size_t i = 0; i < certificates; i++)
		OPENSSL_free((void *)(uintptr_t)chain[i].data);
	EVP_PKEY_free(key);
}

static unsigned int ms(const char *variable)
{
	const char *text = getenv(variable);

	return text ? (unsigned int)atoi(text) : 0;
}

int main(int argc, char **argv)
{
	struct relay relay = { .listener.ready = accepted, .signals.ready = signalled, .quiet = getenv("RELAY_QUIET") };
	struct weft_hbone_ops ops = { .socket = new_socket, .request = request, .opened = opened, .ended = ended, .count = count,
				      .context = &relay };
	struct weft_hbone_limits limits = { .ping_ms = ms("RELAY_PING_MS"), .headers_ms = ms("RELAY_HEADERS_MS"),
					    .handshake_ms = ms("RELAY_HANDSHAKE_MS"), .idle_ms = ms("RELAY_IDLE_MS") };
	struct sockaddr_in at;
	socklen_t size = sizeof(at);
	sigset_t set;
	int on = 1;

	if (argc < 7)
		die("usage", "see its first lines");
	setvbuf(stdout, NULL, _IOLBF, 0);
	relay.out = !strcmp(argv[1], "out");
	relay.port = (uint16_t)atoi(argv[6]);
	if (relay.out) {
		relay.expected[0] = argv[7];
		relay.authority = argv[8];
		weft_addr_parse(getenv("RELAY_PEER") ? getenv("RELAY_PEER") : "127.0.0.1", &relay.peer);
	}
	credentials(&relay, argv[2], argv[3], argv[4]);
	if (weft_loop_new(&relay.loop) < 0 || weft_hbone_new(relay.loop, NULL, &ops, &limits, &relay.hbone) < 0)
		die("engine", "out of memory");
	at = address("RELAY_LISTEN", atoi(argv[5]));
	relay.listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(relay.listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(relay.listener.fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(relay.listener.fd, 4096) < 0 ||
	    getsockname(relay.listener.fd, (struct sockaddr *)&at, &size) < 0)
		die("listener", strerror(errno));
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	relay.signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	weft_loop_set(relay.loop, &relay.listener, EPOLLIN);
	weft_loop_set(relay.loop, &relay.signals, EPOLLIN);
	printf("ready %u\n", ntohs(at.sin_port));
	weft_loop_run(relay.loop);
	weft_hbone_free(relay.hbone);
	weft_identity_unref(relay.identity);
	weft_trust_unref(relay.trust);
	weft_loop_free(relay.loop);
	close(relay.listener.fd);
	close(relay.signals.fd);
	return 0;
}
