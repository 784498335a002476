/* SPDX-License-Identifier: Apache-2.0 */
#include "net/pod_route.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/addr.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <netlink/route/rule.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

#define SYSCTL "/proc/sys/net/ipv4/tcp_fwmark_accept"
#define LO 1 /* in every network namespace */

/*
 * Whose route that is (rtm_protocol, of the numbers that rtnetlink.h leaves to others), and with it what the sysctl was
 * when it was made: whoever takes it away may be another process than the one that made it.
 */
#define PROTOCOL_WAS_OFF 177
#define PROTOCOL_WAS_ON 178

static void free_sock(struct nl_sock **sock)
{
	nl_socket_free(*sock);
}

static void free_rule(struct rtnl_rule **rule)
{
	rtnl_rule_put(*rule);
}

static void free_route(struct rtnl_route **route)
{
	rtnl_route_put(*route);
}

static void free_addr(struct nl_addr **addr)
{
	nl_addr_put(*addr);
}

static void free_cache(struct nl_cache **cache)
{
	nl_cache_free(*cache);
}

/* libnl folds errnos together; what is told apart here is told apart there. */
static int from_nl(int r)
{
	switch (r < 0 ? -r : 0) {
	case 0:
		return 0;
	case NLE_EXIST:
		return -EEXIST;
	case NLE_OBJ_NOTFOUND:
	case NLE_NODEV:
		return -ENOENT;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_AF_NOSUPPORT:
	case NLE_OPNOTSUPP:
		return -EAFNOSUPPORT;
	default:
		return -EIO;
	}
}

static int open_netlink(struct nl_sock **ret_sock, struct weft_err *err)
{
	weft_cleanup(free_sock) struct nl_sock *sock = nl_socket_alloc();
	int r = sock ? from_nl(nl_connect(sock, NETLINK_ROUTE)) : -ENOMEM;

	if (r < 0)
		return weft_err_set(err, r, "cannot ask the kernel about routes: %m");
	*ret_sock = weft_take_ptr(sock);
	return 0;
}

static int make_rule(int family, struct rtnl_rule **ret_rule)
{
	struct rtnl_rule *rule = rtnl_rule_alloc();

	if (!rule)
		return -ENOMEM;
	rtnl_rule_set_family(rule, family);
	rtnl_rule_set_action(rule, FR_ACT_TO_TBL);
	rtnl_rule_set_table(rule, WEFT_POD_TABLE);
	rtnl_rule_set_prio(rule, WEFT_POD_PRIORITY);
	rtnl_rule_set_mark(rule, WEFT_POD_MARK);
	rtnl_rule_set_mask(rule, 0xffffffff);
	*ret_rule = rule;
	return 0;
}

static int make_route(int family, uint8_t protocol, struct rtnl_route **ret_route)
{
	static const unsigned char zeros[16];
	weft_cleanup(free_route) struct rtnl_route *route = rtnl_route_alloc();
	weft_cleanup(free_addr) struct nl_addr *all = nl_addr_build(family, zeros, family == AF_INET ? 4 : 16);
	struct rtnl_nexthop *hop = rtnl_route_nh_alloc();

	if (hop && route)
		rtnl_route_add_nexthop(route, hop);
	else if (hop)
		rtnl_route_nh_free(hop);
	if (!route || !all || !hop)
		return -ENOMEM;
	nl_addr_set_prefixlen(all, 0);
	rtnl_route_nh_set_ifindex(hop, LO);
	rtnl_route_set_family(route, (uint8_t)family);
	rtnl_route_set_table(route, WEFT_POD_TABLE);
	rtnl_route_set_type(route, RTN_LOCAL);
	rtnl_route_set_scope(route, family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE);
	rtnl_route_set_protocol(route, protocol);
	rtnl_route_set_dst(route, all);
	*ret_route = weft_take_ptr(route);
	return 0;
}

struct found {
	int protocol; /* 0: there is none */
};

static void look_at(struct nl_object *object, void *context)
{
	struct rtnl_route *route = (struct rtnl_route *)object;
	struct found *found = context;
	int protocol = rtnl_route_get_protocol(route);

	if (rtnl_route_get_table(route) == WEFT_POD_TABLE && rtnl_route_get_type(route) == RTN_LOCAL &&
	    (protocol == PROTOCOL_WAS_OFF || protocol == PROTOCOL_WAS_ON))
		found->protocol = protocol;
}

/* The protocol of our route, or 0: there is none. */
static int find_route(struct nl_sock *sock, int family)
{
	weft_cleanup(free_cache) struct nl_cache *cache = NULL;
	struct found found = { 0 };
	int r = rtnl_route_alloc_cache(sock, family, 0, &cache);

	if (r < 0)
		return from_nl(r);
	nl_cache_foreach(cache, look_at, &found);
	return found.protocol;
}

static int add_family(struct nl_sock *sock, int family, uint8_t protocol)
{
	weft_cleanup(free_rule) struct rtnl_rule *rule = NULL;
	weft_cleanup(free_route) struct rtnl_route *route = NULL;
	int r = make_rule(family, &rule);

	if (r == 0)
		r = make_route(family, protocol, &route);
	/* The route first: a rule alone leads nowhere, and the route says that there is something to be taken away. */
	if (r == 0)
		r = from_nl(rtnl_route_add(sock, route, NLM_F_EXCL));
	if (r == 0 || r == -EEXIST)
		r = from_nl(rtnl_rule_add(sock, rule, NLM_F_EXCL));
	return r == -EEXIST ? 0 : r;
}

static int remove_family(struct nl_sock *sock, int family, uint8_t protocol)
{
	weft_cleanup(free_rule) struct rtnl_rule *rule = NULL;
	weft_cleanup(free_route) struct rtnl_route *route = NULL;
	int r = make_rule(family, &rule);

	if (r == 0)
		r = make_route(family, protocol, &route);
	if (r == 0)
		r = from_nl(rtnl_rule_delete(sock, rule, 0));
	if (r == 0 || r == -ENOENT)
		r = from_nl(rtnl_route_delete(sock, route, 0));
	return r == -ENOENT ? 0 : r;
}

/* '0' or '1', or -errno. */
static int read_sysctl(void)
{
	weft_close_on_exit int fd = open(SYSCTL, O_RDONLY | O_CLOEXEC);
	char value;

	return fd < 0 || read(fd, &value, 1) != 1 ? -errno : value;
}

static int write_sysctl(char value)
{
	weft_close_on_exit int fd = open(SYSCTL, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, &value, 1) != 1 ? -errno : 0;
}

/* The last is what says that something is to be done. */
static int take_away(struct nl_sock *sock, int protocol)
{
	int r = protocol == PROTOCOL_WAS_OFF ? write_sysctl('0') : 0;
	int r6 = find_route(sock, AF_INET6);

	if (r == 0 && r6 > 0)
		r = remove_family(sock, AF_INET6, (uint8_t)r6);
	return r < 0 ? r : remove_family(sock, AF_INET, (uint8_t)protocol);
}

int weft_pod_route_add(bool v6, struct weft_err *err)
{
	weft_cleanup(free_sock) struct nl_sock *sock = NULL;
	int r = open_netlink(&sock, err), was, protocol;

	if (r < 0)
		return r;
	r = find_route(sock, AF_INET);
	if (r < 0)
		return weft_err_set(err, r, "cannot list the pod's routes: %m");
	was = r > 0 ? 0 : read_sysctl();
	if (was < 0)
		return weft_err_set(err, was, "cannot read " SYSCTL " in the pod: %m");
	protocol = r > 0 ? r : was == '0' ? PROTOCOL_WAS_OFF : PROTOCOL_WAS_ON;
	r = add_family(sock, AF_INET, (uint8_t)protocol);
	if (r == 0 && v6)
		r = add_family(sock, AF_INET6, (uint8_t)protocol);
	if (r < 0)
		weft_err_set(err, r, "cannot make a rule and a route in the pod: %m; is its lo up?");
	if (r == 0) {
		r = write_sysctl('1');
		if (r < 0)
			weft_err_set(err, r, "cannot write " SYSCTL " in the pod: %m");
	}
	if (r < 0 && was)
		take_away(sock, protocol);
	return r;
}

int weft_pod_route_remove(struct weft_err *err)
{
	weft_cleanup(free_sock) struct nl_sock *sock = NULL;
	int r = open_netlink(&sock, err), protocol;

	if (r < 0)
		return r;
	protocol = find_route(sock, AF_INET);
	r = protocol > 0 ? take_away(sock, protocol) : protocol;
	return r < 0 ? weft_err_set(err, r, "cannot take the rule and the route of the pod away: %m") : 0;
}

static bool nothing(const struct weft_addr *addr)
{
	return !(addr->w[0] | addr->w[1] | addr->w[2] | addr->w[3]);
}

static bool usable(struct rtnl_addr *addr)
{
	return rtnl_addr_get_ifindex(addr) != LO && rtnl_addr_get_scope(addr) == RT_SCOPE_UNIVERSE &&
	       !(rtnl_addr_get_flags(addr) & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_SECONDARY));
}

struct search {
	bool (*is_its)(void *context, const struct weft_addr *addr);
	void *context;
	struct weft_addr found[2];
};

static void take_address(struct nl_object *object, void *context)
{
	struct rtnl_addr *addr = (struct rtnl_addr *)object;
	struct nl_addr *local = rtnl_addr_get_local(addr);
	unsigned int at = rtnl_addr_get_family(addr) == AF_INET6;
	struct search *search = context;
	struct weft_addr own;

	if (!local || !usable(addr) || !nothing(&search->found[at]))
		return;
	if (at == 0 && nl_addr_get_len(local) == 4)
		own = (struct weft_addr){ { 0, 0, WEFT_ADDR_V4_MAPPED, *(const __be32 *)nl_addr_get_binary_addr(local) } };
	else if (at == 1 && nl_addr_get_len(local) == sizeof(own))
		memcpy(&own, nl_addr_get_binary_addr(local), sizeof(own));
	else
		return;
	if (search->is_its(search->context, &own))
		search->found[at] = own;
}

int weft_pod_addresses(bool (*is_its)(void *context, const struct weft_addr *addr), void *context, struct weft_addr ret_addr[2],
		       struct weft_err *err)
{
	weft_cleanup(free_sock) struct nl_sock *sock = NULL;
	weft_cleanup(free_cache) struct nl_cache *cache = NULL;
	struct search search = { .is_its = is_its, .context = context };
	int r = open_netlink(&sock, err);

	if (r < 0)
		return r;
	r = from_nl(rtnl_addr_alloc_cache(sock, &cache));
	if (r < 0)
		return weft_err_set(err, r, "cannot list the pod's addresses: %m");
	nl_cache_foreach(cache, take_address, &search);
	if (nothing(&search.found[0]) && nothing(&search.found[1]))
		return weft_err_set(err, EADDRNOTAVAIL, "the pod has no address yet that its record has too");
	memcpy(ret_addr, search.found, sizeof(search.found));
	return 0;
}
