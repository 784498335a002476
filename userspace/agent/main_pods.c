/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods in the secure lane: the agent's listeners in a pod's network namespace,
 * the rule and the route there, and the programs that send connections to the
 * listeners. All of it outlives main: listeners with init, the rest in the
 * kernel. So nothing here is written down, and a new main finds what there is.
 */
#include "agent/role_main.h"

#include <arpa/inet.h>
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "net/netns.h"
#include "net/pod_route.h"

static const uint16_t ports[] = { WEFT_PORT_OUTBOUND, WEFT_PORT_HBONE };
#define PORTS WEFT_ARRAY_SIZE(ports)

struct weft_main_pod {
	UT_hash_handle hh; /* by cookie */
	uint64_t cookie;
	int netns;
	uint32_t workload;
	uint16_t family[PORTS]; /* of the listener that init holds; 0: none */
};

/* For the moment in which a namespace is opened by its process; nothing where it is not permitted. */
static void raise_ptrace(bool up)
{
	if (!capng_have_capability(CAPNG_PERMITTED, CAP_SYS_PTRACE))
		return;
	capng_update(up ? CAPNG_ADD : CAPNG_DROP, CAPNG_EFFECTIVE, CAP_SYS_PTRACE);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0 && !up)
		abort();
}

int weft_main_netns_open(const char *name, struct weft_err *err)
{
	int fd;

	if (!weft_netns_is_pid(name))
		return weft_netns_open(name, err);
	raise_ptrace(true);
	fd = weft_netns_open(name, err);
	raise_ptrace(false);
	return fd;
}

static int add_pod(void *context, uint64_t cookie, int netns)
{
	int mine = fcntl(netns, F_DUPFD_CLOEXEC, WEFT_FD_END_);

	(void)cookie;
	return mine < 0 ? -errno : weft_netns_list_add(context, mine);
}

int weft_main_netns_known(const struct weft_main *role, struct weft_netns_list *list)
{
	int r = weft_netns_list_named(list);

	return r < 0 ? r : weft_main_each_pod(role, add_pod, list);
}

int weft_main_netns_all(void *context, struct weft_netns_list *list)
{
	struct weft_main *role = context;
	struct weft_err err;
	int r = weft_main_netns_known(role, list);

	if (r < 0)
		return r;
	raise_ptrace(true);
	r = weft_netns_list_processes(list);
	raise_ptrace(false);
	if (r == 0 && !role->missing_said && weft_netns_list_missing(list, &err) < 0) {
		weft_warning("%s", err.text);
		role->missing_said = true;
	}
	return r;
}

static int ask_cookie_by_program(void *context)
{
	return weft_kernel_netns_cookie(context);
}

int weft_main_netns_cookie(const struct weft_main *role, int netns, uint64_t *ret_cookie)
{
	if (role->features >> WEFT_FEATURE_NETNS_COOKIE & 1)
		return weft_netns_cookie(netns, ret_cookie);
	return weft_netns_run(netns, ask_cookie_by_program, ret_cookie);
}

static struct weft_main_pod *find(const struct weft_main *role, uint64_t cookie)
{
	struct weft_main_pod *pod;

	HASH_FIND(hh, role->pods, &cookie, sizeof(cookie), pod);
	return pod;
}

/* Takes `netns` over, also on failure. */
static struct weft_main_pod *pod_new(struct weft_main *role, uint64_t cookie, int netns)
{
	struct weft_main_pod *pod = calloc(1, sizeof(*pod));

	if (!pod) {
		close(netns);
		return NULL;
	}
	pod->cookie = cookie;
	pod->netns = netns;
	HASH_ADD(hh, role->pods, cookie, sizeof(pod->cookie), pod);
	return pod;
}

static void pod_free(struct weft_main *role, struct weft_main_pod *pod)
{
	HASH_DEL(role->pods, pod);
	close(pod->netns);
	free(pod);
}

void weft_main_pods_done(struct weft_main *role)
{
	struct weft_main_pod *pod, *next;

	HASH_ITER(hh, role->pods, pod, next)
		pod_free(role, pod);
}

int weft_main_pod_netns(const struct weft_main *role, uint64_t cookie)
{
	const struct weft_main_pod *pod = find(role, cookie);

	return pod ? pod->netns : -1;
}

uint32_t weft_main_pod_workload(const struct weft_main *role, uint64_t cookie)
{
	const struct weft_main_pod *pod = find(role, cookie);

	return pod ? pod->workload : 0;
}

size_t weft_main_pod_count(const struct weft_main *role)
{
	return HASH_COUNT(role->pods);
}

int weft_main_each_pod(const struct weft_main *role, int (*each)(void *context, uint64_t cookie, int netns), void *context)
{
	int r = 0;

	for (const struct weft_main_pod *pod = role->pods; r == 0 && pod; pod = pod->hh.next)
		r = each(context, pod->cookie, pod->netns);
	return r;
}

/* ---- inside a pod ---- */

struct inside {
	const struct weft_kernel *kernel;
	uint32_t workload;
	const uint16_t *had; /* families of listeners that are there */
	int listener[PORTS]; /* made here, or -1 */
	uint16_t family[PORTS];
	struct weft_addr addr[2];
	uint16_t taken; /* port that somebody else has; 0: none */
	struct weft_err err;
};

/*
 * What an application has sent and its proxy does not take yet: 128 KiB, which the kernel counts twice. Left to itself it lets this
 * grow while a tunnel takes all, and keep what it has when a reader stops. There is no distance to fill on the way within a pod.
 */
#define CAPTURED_RECEIVE (128 << 10)

/*
 * On all addresses: a pod may get another one. SO_REUSEADDR is for the time after a detach, when connections that were
 * accepted on the port are still there; it does not let two listen.
 */
static int listen_on(uint16_t port, uint16_t family)
{
	weft_close_on_exit int sock = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	const struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int on = 1, off = 0, receive = CAPTURED_RECEIVE;

	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (port == WEFT_PORT_OUTBOUND && setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &receive, sizeof(receive)) < 0) ||
	    (family == AF_INET6 && setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
	    (family == AF_INET6 ? bind(sock, (const struct sockaddr *)&in6, sizeof(in6)) : bind(sock, (const struct sockaddr *)&in, sizeof(in))) < 0 ||
	    listen(sock, SOMAXCONN) < 0)
		return -errno;
	return weft_take_fd(sock);
}

/* One for both families, where the kernel has IPv6. */
static int add_listener(struct inside *inside, size_t i)
{
	static const uint16_t families[] = { AF_INET6, AF_INET };
	int r = 0;

	for (size_t f = 0; f < WEFT_ARRAY_SIZE(families); f++) {
		r = listen_on(ports[i], families[f]);
		if (r >= 0) {
			inside->listener[i] = r;
			inside->family[i] = families[f];
			return 0;
		}
		if (r == -EADDRINUSE)
			inside->taken = ports[i];
		if (r != -EAFNOSUPPORT && r != -EADDRNOTAVAIL)
			break;
	}
	return weft_err_set(&inside->err, r, "cannot listen on port %u in the pod: %m", ports[i]);
}

/* A pod may give itself any address, also another pod's: its own are those that control knows of. */
static bool is_its(void *context, const struct weft_addr *addr)
{
	const struct inside *inside = context;

	return weft_kernel_workload_at(inside->kernel, addr) == inside->workload;
}

static int set_up(void *context)
{
	struct inside *inside = context;
	bool v6;
	int r = weft_pod_addresses(is_its, inside, inside->addr, &inside->err);

	for (size_t i = 0; r == 0 && i < PORTS; i++)
		if (!inside->had[i])
			r = add_listener(inside, i);
	v6 = inside->addr[1].w[0] | inside->addr[1].w[1] | inside->addr[1].w[2] | inside->addr[1].w[3];
	return r < 0 ? r : weft_pod_route_add(v6, &inside->err);
}

static int clear(void *context)
{
	return weft_pod_route_remove(context);
}

static int has_its(void *context)
{
	struct inside *inside = context;

	return weft_pod_addresses(is_its, inside, inside->addr, &inside->err);
}

/* Whoever is attached stays while an address of the namespace is still its own by weft_workload_at: another's record cannot take it. */
static bool is_others(const struct weft_main *role, const struct weft_main_pod *pod, uint32_t workload)
{
	struct inside inside = { .kernel = role->kernel, .workload = pod->workload };

	return pod->workload && pod->workload != workload && weft_netns_run(pod->netns, has_its, &inside) == 0;
}

static bool is_own(int netns)
{
	weft_close_on_exit int self = weft_netns_open_self();

	return self < 0 || weft_netns_same(netns, self);
}

static void close_listeners(struct inside *inside)
{
	for (size_t i = 0; i < PORTS; i++)
		weft_closep(&inside->listener[i]);
}

/* ---- attach and detach ---- */

static void keep(struct weft_main *role, const struct weft_main_pod *pod, size_t i, enum weft_init_type type, int fd)
{
	struct weft_init_message message = {
		.magic = WEFT_ABI_MAGIC, .type = type, .kept = { pod->cookie, pod->workload, ports[i], pod->family[i] }
	};

	weft_main_tell_init(role, &message, fd);
}

/* What is there of a pod that is attached stays on failure; of one that is not, nothing does. */
static int attach(struct weft_main *role, struct weft_main_pod *pod, uint32_t workload, uint64_t *ret_port, struct weft_err *err)
{
	bool was_there = pod->family[0] && pod->family[1], changed;
	weft_cleanup(close_listeners) struct inside inside = {
		.kernel = role->kernel, .workload = workload, .had = pod->family, .listener = { -1, -1 }
	};
	struct weft_capture row = { .workload = workload, .port = htons(WEFT_PORT_OUTBOUND) };
	int r = weft_netns_run(pod->netns, set_up, &inside);

	if (r < 0) {
		*err = inside.err;
		if (r == -EADDRINUSE)
			*ret_port = inside.taken;
	} else {
		memcpy(row.addr, inside.addr, sizeof(row.addr));
		r = weft_kernel_attach_netns(role->kernel, pod->netns, pod->cookie, &row, err);
	}
	if (r < 0) {
		if (!was_there)
			weft_netns_run(pod->netns, clear, &inside.err);
		return r;
	}
	changed = pod->workload != workload;
	pod->workload = workload;
	for (size_t i = 0; i < PORTS; i++) {
		if (inside.listener[i] >= 0)
			pod->family[i] = inside.family[i];
		if (changed || inside.listener[i] >= 0)
			keep(role, pod, i, WEFT_INIT_KEEP, inside.listener[i]);
	}
	return 0;
}

int weft_main_attach(struct weft_main *role, const char *name, uint32_t workload, uint64_t *ret_cookie, uint64_t *ret_port)
{
	struct weft_err err = { "" };
	weft_close_on_exit int netns = -1;
	struct weft_main_pod *pod;
	uint32_t bound;
	uint64_t cookie;
	int r = weft_kernel_sees_agent(role->kernel, &err);

	if (r == 0) {
		netns = weft_main_netns_open(name, &err);
		r = netns < 0 ? netns : weft_main_netns_cookie(role, netns, &cookie);
	}
	if (r < 0) {
		weft_debug("cannot attach %s: %s", name, err.text); /* control says it, once */
		return r;
	}
	if (is_own(netns))
		return -EPERM;
	pod = find(role, cookie);
	if (pod && is_others(role, pod, workload)) {
		*ret_cookie = cookie;
		return -EBUSY;
	}
	if (!pod)
		pod = pod_new(role, cookie, weft_take_fd(netns));
	if (!pod)
		return -ENOMEM;
	r = attach(role, pod, workload, ret_port, &err);
	if (r < 0) {
		weft_debug("cannot attach %s: %s", name, err.text);
		if (!pod->family[0] && !pod->family[1])
			pod_free(role, pod);
		return r;
	}
	*ret_cookie = cookie;
	/* Whoever named the namespace before may have said of it that it is opted out. */
	bound = weft_kernel_pod_workload(role->kernel, cookie);
	return bound && bound != workload ? weft_kernel_set_pod(role->kernel, cookie, &(struct weft_pod){ .workload = workload }) : 0;
}

int weft_main_bind(struct weft_main *role, const char *name, const struct weft_pod *bound, uint64_t *ret_cookie)
{
	struct weft_err err;
	weft_close_on_exit int netns = weft_main_netns_open(name, &err);
	int r = netns < 0 ? netns : weft_main_netns_cookie(role, netns, ret_cookie);
	const struct weft_main_pod *pod;

	if (r < 0)
		return r;
	if (is_own(netns))
		return -EPERM;
	pod = find(role, *ret_cookie);
	if (pod && is_others(role, pod, bound->workload))
		return -EBUSY;
	return weft_kernel_set_pod(role->kernel, *ret_cookie, bound);
}

/* For one that this main never saw: by the names that there are. -ENOENT: it is gone, and all that was in it. */
static int search(const struct weft_main *role, uint64_t cookie)
{
	weft_netns_list_done_on_exit struct weft_netns_list list = WEFT_NETNS_LIST_INIT;
	int r = weft_netns_list_named(&list);

	for (size_t i = 0; r == 0 && i < list.count; i++) {
		uint64_t here = 0;

		if (weft_main_netns_cookie(role, list.netns[i].fd, &here) == 0 && here == cookie)
			return weft_take_fd(list.netns[i].fd);
	}
	return r < 0 ? r : -ENOENT;
}

int weft_main_detach(struct weft_main *role, uint64_t cookie)
{
	struct weft_main_pod *pod = find(role, cookie);
	weft_close_on_exit int netns = pod ? fcntl(pod->netns, F_DUPFD_CLOEXEC, WEFT_FD_END_) : search(role, cookie);
	/* First, so that nothing is sent to listeners that are about to go. */
	int r = weft_kernel_detach_netns(role->kernel, cookie), cleared;
	struct weft_err err = { "" };

	for (size_t i = 0; pod && i < PORTS; i++)
		if (pod->family[i])
			keep(role, pod, i, WEFT_INIT_DROP, -1);
	if (pod)
		pod_free(role, pod);
	cleared = netns < 0 ? 0 : weft_netns_run(netns, clear, &err);
	if (cleared < 0)
		weft_debug("cannot clear a pod that is detached: %s", err.text);
	return r < 0 ? r : cleared;
}

void weft_main_kept(struct weft_main *role, const struct weft_kept *kept, int fd)
{
	weft_close_on_exit int mine = fd;
	struct weft_main_pod *pod = find(role, kept->netns);
	int netns = pod ? pod->netns : weft_netns_of_socket(mine);

	if (!pod && netns >= 0)
		pod = pod_new(role, kept->netns, netns);
	for (size_t i = 0; pod && i < PORTS; i++)
		if (ports[i] == kept->port) {
			pod->family[i] = kept->family;
			pod->workload = kept->workload;
		}
}
