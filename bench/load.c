/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weft-load: the two ends of every benchmark.
 *
 * `serve` echoes. `drive` sends requests on open connections, on connections that it opens for one request, or on both by turns.
 * With a rate, each request has the moment at which it should start, and its latency counts from there, so that a
 * slow answer delays the figures of those behind it too. Samples are kept whole, so percentiles are exact.
 *
 * `drive` says "ready" once its connections are open and warm, starts at a line on stdin, says its figures as one JSON object, and keeps its
 * connections open until stdin ends: what runs between these points can be counted from outside.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/cleanup.h"

#define SIZE_MAX_ 65536
#define TIMEOUT_S 5
#define ERRNO_MAX 140

enum fresh { NEVER, HALF, ALWAYS };

struct options {
	const char *netns, *cgroup, *targets;
	int cpu; /* -1: wherever */
	unsigned int connections; /* threads; each has one open connection unless all are fresh */
	double seconds, warm_up_s;
	uint64_t count; /* requests of all threads; 0: as many as the seconds allow */
	double rate; /* per second over all threads; 0: closed loop */
	size_t size;
	enum fresh fresh;
};

struct endpoint {
	struct sockaddr_storage addr;
	socklen_t size;
};

struct endpoints {
	struct endpoint *at;
	size_t count, room;
};

struct samples {
	uint32_t *ns; /* more than 4.29 s count as that */
	size_t count, room;
};

struct worker {
	pthread_t thread;
	const struct options *options;
	const struct endpoints *targets;
	unsigned int index;
	int fd;
	uint64_t random;
	uint64_t failed[ERRNO_MAX];
	struct samples request; /* on an open connection */
	struct samples connect; /* connect() alone */
	struct samples connection; /* connect(), one request, close() */
};

static pthread_barrier_t warm, start;
static volatile uint64_t start_ns;

static void die(const char *what)
{
	fprintf(stderr, "weft-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
	struct timespec at = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static void add_sample(struct samples *samples, uint64_t ns)
{
	if (weft_grow(&samples->ns, &samples->room, samples->count + 1, sizeof(*samples->ns)) < 0)
		die("samples");
	samples->ns[samples->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static void add_endpoint(struct endpoints *endpoints, const char *text)
{
	struct weft_addr addr;
	uint16_t port;
	struct endpoint *endpoint;

	if (weft_addr_port_parse(text, &addr, &port) < 0) {
		errno = EINVAL;
		die(text);
	}
	if (weft_grow(&endpoints->at, &endpoints->room, endpoints->count + 1, sizeof(*endpoints->at)) < 0)
		die("targets");
	endpoint = &endpoints->at[endpoints->count++];
	memset(endpoint, 0, sizeof(*endpoint));
	if (weft_addr_is_v4(&addr)) {
		struct sockaddr_in *in = (void *)&endpoint->addr;

		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		in->sin_addr.s_addr = addr.w[3];
		endpoint->size = sizeof(*in);
	} else {
		struct sockaddr_in6 *in6 = (void *)&endpoint->addr;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, &addr, sizeof(addr));
		endpoint->size = sizeof(*in6);
	}
}

static void read_endpoints(struct endpoints *endpoints, const char *path)
{
	weft_fclose_on_exit FILE *file = fopen(path, "re");
	char line[128];

	if (!file)
		die(path);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (*line)
			add_endpoint(endpoints, line);
	}
}

/* ---- serve ---- */

_Noreturn static void serve(const struct endpoints *endpoints)
{
	static char data[SIZE_MAX_];
	int epoll = epoll_create1(EPOLL_CLOEXEC), one = 1;
	struct epoll_event event = { .events = EPOLLIN }, events[128];
	int listeners[64], fd;

	if (endpoints->count > WEFT_ARRAY_SIZE(listeners)) {
		errno = E2BIG;
		die("listeners");
	}
	for (size_t i = 0; i < endpoints->count; i++) {
		listeners[i] = socket(endpoints->at[i].addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		setsockopt(listeners[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		setsockopt(listeners[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted sockets inherit it */
		if (bind(listeners[i], (const void *)&endpoints->at[i].addr, endpoints->at[i].size) < 0 || listen(listeners[i], 4096) < 0)
			die("listener");
		event.data.fd = listeners[i];
		epoll_ctl(epoll, EPOLL_CTL_ADD, listeners[i], &event);
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(epoll, events, (int)WEFT_ARRAY_SIZE(events), -1);

		for (int i = 0; i < count; i++) {
			bool listener = false;

			fd = events[i].data.fd;
			for (size_t l = 0; l < endpoints->count; l++)
				listener |= listeners[l] == fd;
			if (listener) {
				while ((fd = accept4(events[i].data.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
					event.data.fd = fd;
					epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
				}
				continue;
			}
			ssize_t size = recv(fd, data, sizeof(data), 0);
			if (size > 0)
				send(fd, data, (size_t)size, MSG_NOSIGNAL);
			else if (size == 0 || errno != EAGAIN)
				close(fd);
		}
	}
}

/* ---- drive ---- */

static void count_error(struct worker *worker)
{
	/* A receive that hit SO_RCVTIMEO says EAGAIN, a peer that closed without an answer says 0. */
	int code = errno == EAGAIN ? ETIMEDOUT : errno ? errno : ENODATA;

	worker->failed[code < ERRNO_MAX ? code : ENODATA]++;
}

static const struct endpoint *choose(struct worker *worker)
{
	worker->random ^= worker->random << 13;
	worker->random ^= worker->random >> 7;
	worker->random ^= worker->random << 17;
	return &worker->targets->at[worker->random % worker->targets->count];
}

/* A connected socket, or -1 with errno. */
static int open_connection(const struct endpoint *target, uint64_t *ret_connect_ns)
{
	const struct timeval timeout = { .tv_sec = TIMEOUT_S };
	int fd = socket(target->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, code;
	uint64_t before;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)); /* limits connect() too */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	before = now_ns();
	if (connect(fd, (const void *)&target->addr, target->size) < 0) {
		code = errno == EINPROGRESS ? ETIMEDOUT : errno;
		close(fd);
		errno = code;
		return -1;
	}
	*ret_connect_ns = now_ns() - before;
	return fd;
}

static int request(int fd, size_t size)
{
	char data[SIZE_MAX_];

	memset(data, 'w', size);
	if (send(fd, data, size, MSG_NOSIGNAL) != (ssize_t)size)
		return -1;
	for (size_t have = 0; have < size;) {
		ssize_t got = recv(fd, data, size - have, 0);

		if (got <= 0) {
			errno = got ? errno : 0;
			return -1;
		}
		have += (size_t)got;
	}
	return 0;
}

static void one_fresh(struct worker *worker, uint64_t intended, bool record)
{
	uint64_t connect_ns;
	weft_close_on_exit int fd = open_connection(choose(worker), &connect_ns);

	if (fd < 0 || request(fd, worker->options->size) < 0) {
		count_error(worker);
		return;
	}
	close(weft_take_fd(fd));
	if (!record)
		return;
	add_sample(&worker->connect, connect_ns);
	add_sample(&worker->connection, now_ns() - intended);
}

static void one_kept(struct worker *worker, uint64_t intended, bool record)
{
	uint64_t connect_ns;

	if (worker->fd < 0)
		worker->fd = open_connection(choose(worker), &connect_ns);
	if (worker->fd < 0 || request(worker->fd, worker->options->size) < 0) {
		count_error(worker);
		if (worker->fd >= 0)
			close(weft_take_fd(worker->fd));
		return;
	}
	if (record)
		add_sample(&worker->request, now_ns() - intended);
}

static void *work(void *context)
{
	struct worker *worker = context;
	const struct options *options = worker->options;
	uint64_t share = options->count ? (options->count + options->connections - 1) / options->connections : UINT64_MAX;
	double period = options->rate > 0 ? 1e9 * options->connections / options->rate : 0;
	uint64_t end = now_ns() + (uint64_t)(options->warm_up_s * 1e9), intended, offset;
	bool fresh = options->fresh == ALWAYS;

	if (options->fresh != ALWAYS)
		one_kept(worker, now_ns(), false);
	while (now_ns() < end)
		(fresh ? one_fresh : one_kept)(worker, now_ns(), false);
	memset(worker->failed, 0, sizeof(worker->failed));
	pthread_barrier_wait(&warm);
	pthread_barrier_wait(&start);
	end = start_ns + (uint64_t)(options->seconds * 1e9);
	/* Threads take turns within a period. */
	offset = (uint64_t)(period * worker->index / options->connections);
	for (uint64_t i = 0; i < share; i++) {
		intended = period > 0 ? start_ns + offset + (uint64_t)(period * (double)i) : now_ns();
		if (!options->count && intended >= end)
			break;
		if (period > 0 && intended > now_ns())
			sleep_until(intended);
		if (options->fresh == HALF)
			fresh = i & 1;
		(fresh ? one_fresh : one_kept)(worker, intended, true);
	}
	return NULL;
}

static int compare_samples(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return left < right ? -1 : left > right;
}

static void print_samples(const char *name, struct worker *workers, unsigned int count, size_t at)
{
	static const struct {
		const char *name;
		double share;
	} quantiles[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p999", 0.999 }, { "max", 1 } };
	struct samples all = { 0 };
	double sum = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct samples *one = (void *)((char *)&workers[i] + at);

		if (weft_grow(&all.ns, &all.room, all.count + one->count, sizeof(*all.ns)) < 0)
			die("samples");
		if (one->count)
			memcpy(all.ns + all.count, one->ns, one->count * sizeof(*all.ns));
		all.count += one->count;
	}
	printf(",\"%s\":{\"count\":%zu", name, all.count);
	if (all.count) {
		qsort(all.ns, all.count, sizeof(*all.ns), compare_samples);
		for (size_t i = 0; i < all.count; i++)
			sum += all.ns[i];
		printf(",\"mean\":%.3f", sum / (double)all.count / 1e3);
		for (size_t q = 0; q < WEFT_ARRAY_SIZE(quantiles); q++) {
			size_t index = (size_t)(quantiles[q].share * (double)all.count);

			printf(",\"%s\":%.3f", quantiles[q].name, all.ns[index < all.count ? index : all.count - 1] / 1e3);
		}
	}
	printf("}");
	free(all.ns);
}

static int drive(const struct options *options, const struct endpoints *targets)
{
	weft_free_on_exit struct worker *workers = calloc(options->connections, sizeof(*workers));
	uint64_t failed[ERRNO_MAX] = { 0 };
	double elapsed;
	char line[16];
	const char *comma = "";

	if (!workers)
		die("workers");
	pthread_barrier_init(&warm, NULL, options->connections + 1);
	pthread_barrier_init(&start, NULL, options->connections + 1);
	for (unsigned int i = 0; i < options->connections; i++) {
		workers[i] = (struct worker){ .options = options, .targets = targets, .index = i, .fd = -1 };
		workers[i].random = now_ns() * 2654435761u + i + 1;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			die("thread");
	}
	pthread_barrier_wait(&warm);
	puts("ready");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	start_ns = now_ns();
	pthread_barrier_wait(&start);
	for (unsigned int i = 0; i < options->connections; i++)
		pthread_join(workers[i].thread, NULL);
	elapsed = (double)(now_ns() - start_ns) / 1e9;
	printf("{\"elapsed_s\":%.6f", elapsed);
	print_samples("request_us", workers, options->connections, offsetof(struct worker, request));
	print_samples("connect_us", workers, options->connections, offsetof(struct worker, connect));
	print_samples("connection_us", workers, options->connections, offsetof(struct worker, connection));
	printf(",\"errors\":{");
	for (unsigned int i = 0; i < options->connections; i++)
		for (int code = 0; code < ERRNO_MAX; code++)
			failed[code] += workers[i].failed[code];
	for (int code = 0; code < ERRNO_MAX; code++) {
		if (!failed[code])
			continue;
		printf("%s\"%s\":%llu", comma, strerrorname_np(code), (unsigned long long)failed[code]);
		comma = ",";
	}
	puts("}}");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		;
	return 0;
}

/* ---- where it runs ---- */

static void enter(const struct options *options)
{
	char path[256];
	int fd;

	if (options->cgroup) {
		snprintf(path, sizeof(path), "%s/cgroup.procs", options->cgroup);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			die(path);
		close(fd);
	}
	if (options->netns) {
		snprintf(path, sizeof(path), "/run/netns/%s", options->netns);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
			die(path);
		close(fd);
	}
	if (options->cpu >= 0) {
		cpu_set_t cpus;

		CPU_ZERO(&cpus);
		CPU_SET((size_t)options->cpu, &cpus);
		if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
			die("--cpu");
	}
}

static const char usage[] =
	"weft-load [--netns NAME] [--cgroup DIR] [--cpu N] serve ADDR:PORT...\n"
	"weft-load [--netns NAME] [--cgroup DIR] [--cpu N] drive [--connections N] [--fresh never|half|always]\n"
	"          [--seconds S | --count N] [--rate PER_SECOND] [--size BYTES] [--warm-up S] [--targets FILE] [ADDR:PORT...]\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "netns", required_argument, NULL, 'n' },	 { "cgroup", required_argument, NULL, 'g' },
		{ "cpu", required_argument, NULL, 'c' },	 { "connections", required_argument, NULL, 'k' },
		{ "fresh", required_argument, NULL, 'f' },	 { "seconds", required_argument, NULL, 's' },
		{ "count", required_argument, NULL, 'N' },	 { "rate", required_argument, NULL, 'r' },
		{ "size", required_argument, NULL, 'b' },	 { "warm-up", required_argument, NULL, 'w' },
		{ "targets", required_argument, NULL, 't' },	 { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static const char *const fresh[] = { [NEVER] = "never", [HALF] = "half", [ALWAYS] = "always" };
	struct options options = { .cpu = -1, .connections = 1, .seconds = 1, .warm_up_s = 0.3, .size = 64 };
	struct endpoints endpoints = { 0 };
	const char *verb;
	int option;

	while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (option) {
		case 'n': options.netns = optarg; break;
		case 'g': options.cgroup = optarg; break;
		case 'c': options.cpu = atoi(optarg); break;
		case 'k': options.connections = (unsigned int)atoi(optarg); break;
		case 's': options.seconds = atof(optarg); break;
		case 'N': options.count = strtoull(optarg, NULL, 10); break;
		case 'r': options.rate = atof(optarg); break;
		case 'b': options.size = strtoull(optarg, NULL, 10); break;
		case 'w': options.warm_up_s = atof(optarg); break;
		case 't': options.targets = optarg; break;
		case 'f':
			for (options.fresh = NEVER; options.fresh < ALWAYS && strcmp(optarg, fresh[options.fresh]) != 0;)
				options.fresh++;
			if (strcmp(optarg, fresh[options.fresh]) == 0)
				break;
			__attribute__((fallthrough));
		default:
			fputs(usage, stderr);
			return option == 'h' ? 0 : 2;
		}
	}
	verb = optind < argc ? argv[optind++] : "";
	for (; optind < argc; optind++)
		add_endpoint(&endpoints, argv[optind]);
	if (options.targets)
		read_endpoints(&endpoints, options.targets);
	if (!endpoints.count || !options.connections || !options.size || options.size > SIZE_MAX_ ||
	    (strcmp(verb, "serve") != 0 && strcmp(verb, "drive") != 0)) {
		fputs(usage, stderr);
		return 2;
	}
	/* Whoever started this may be killed: nothing of a benchmark outlives it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	enter(&options);
	if (strcmp(verb, "serve") == 0)
		serve(&endpoints);
	return drive(&options, &endpoints);
}
