/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/kernel.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "base/netns_cookie.h"
#include "kernel/cgroup.h"
#include "kernel/print.h"

/*
 * The probes load whole programs of their own. libbpf's helper probe reads the
 * verifier's words instead, and kernels since 6.10 use other words: it would
 * say yes to everything.
 */

#define NEED_FLOOR true
#define NEED_OPTIONAL false

static const struct {
	const char *name;
	const char *without;
	bool floor;
} features_known[] = {
#define WEFT_FEATURE(NAME, name, need, with, without) [WEFT_FEATURE_##NAME] = { name, without, NEED_##need },
#include "weft/lists/feature.h"
#undef WEFT_FEATURE
};

#define INSN(CODE, DST, SRC, OFF, IMM)                                                                                 \
	((struct bpf_insn){ .code = (CODE), .dst_reg = (DST), .src_reg = (SRC), .off = (OFF), .imm = (IMM) })
#define MOV(DST, IMM) INSN(BPF_ALU64 | BPF_MOV | BPF_K, DST, 0, 0, IMM)
#define CALL(HELPER) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, HELPER)
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

static bool loads(enum bpf_prog_type type, enum bpf_attach_type attach, const struct bpf_insn *insns, size_t count)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach);
	weft_close_on_exit int fd = bpf_prog_load(type, NULL, "GPL", insns, count, &options);

	return fd >= 0;
}

static const struct bpf_insn do_nothing[] = { MOV(BPF_REG_0, 1), EXIT };

static bool has_btf(const struct btf *vmlinux)
{
	return vmlinux;
}

static bool has_sock_destroy(const struct btf *vmlinux)
{
	return vmlinux && btf__find_by_name_kind(vmlinux, "bpf_sock_destroy", BTF_KIND_FUNC) > 0;
}

static bool has_cgroup2(const struct btf *vmlinux)
{
	char path[PATH_MAX];

	(void)vmlinux;
	return weft_cgroup_mount(path, sizeof(path)) == 0;
}

static bool has_sock_addr(const struct btf *vmlinux)
{
	static const enum bpf_attach_type hooks[] = {
		BPF_CGROUP_INET4_CONNECT,     BPF_CGROUP_INET6_CONNECT,	    BPF_CGROUP_UDP4_SENDMSG,
		BPF_CGROUP_UDP6_SENDMSG,      BPF_CGROUP_UDP4_RECVMSG,	    BPF_CGROUP_UDP6_RECVMSG,
		BPF_CGROUP_INET4_GETPEERNAME, BPF_CGROUP_INET6_GETPEERNAME,
	};

	(void)vmlinux;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(hooks); i++)
		if (!loads(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, hooks[i], do_nothing, WEFT_ARRAY_SIZE(do_nothing)))
			return false;
	return true;
}

/* SK_STORAGE wants BTF of its key and value. >= 0 or -errno. */
static int make_sock_storage(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);
	struct btf *btf = btf__new_empty();
	int type, map = -EOPNOTSUPP;

	if (!btf)
		return -errno;
	type = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	if (type > 0 && btf__load_into_kernel(btf) == 0) {
		options.btf_fd = (__u32)btf__fd(btf);
		options.btf_key_type_id = (__u32)type;
		options.btf_value_type_id = (__u32)type;
		map = bpf_map_create(BPF_MAP_TYPE_SK_STORAGE, "weft_probe", 4, 4, 0, &options);
	}
	btf__free(btf);
	return map;
}

static bool has_sock_storage(const struct btf *vmlinux)
{
	weft_close_on_exit int map = make_sock_storage();

	(void)vmlinux;
	if (map < 0)
		return false;

	const struct bpf_insn storage_get[] = {
		INSN(BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_2, BPF_REG_1, offsetof(struct bpf_sock_addr, sk), 0),
		INSN(BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map),
		INSN(0, 0, 0, 0, 0),
		MOV(BPF_REG_3, 0),
		MOV(BPF_REG_4, BPF_SK_STORAGE_GET_F_CREATE),
		CALL(BPF_FUNC_sk_storage_get),
		MOV(BPF_REG_0, 1),
		EXIT,
	};

	return loads(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, storage_get,
		     WEFT_ARRAY_SIZE(storage_get));
}

static bool has_sockops(const struct btf *vmlinux)
{
	(void)vmlinux;
	return loads(BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, do_nothing, WEFT_ARRAY_SIZE(do_nothing));
}

static bool has_cgroup_link(const struct btf *vmlinux)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
	weft_close_on_exit int prog = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, NULL, "GPL", do_nothing,
						    WEFT_ARRAY_SIZE(do_nothing), &options);
	weft_close_on_exit int link = -1;

	(void)vmlinux;
	if (prog < 0)
		return false;
	/* A kernel that knows the command looks for the cgroup and does not find it. */
	link = bpf_link_create(prog, -1, BPF_CGROUP_INET4_CONNECT, NULL);
	return link < 0 && errno == EBADF;
}

static bool has_ringbuf(const struct btf *vmlinux)
{
	(void)vmlinux;
	return libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL) == 1;
}

static bool has_set_retval(const struct btf *vmlinux)
{
	static const struct bpf_insn refuse[] = {
		MOV(BPF_REG_1, -ECONNREFUSED),
		CALL(BPF_FUNC_set_retval),
		MOV(BPF_REG_0, 0),
		EXIT,
	};

	(void)vmlinux;
	return loads(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, refuse, WEFT_ARRAY_SIZE(refuse));
}

static bool has_fetch_atomics(const struct btf *vmlinux)
{
	static const struct bpf_insn fetch_add[] = {
		INSN(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, -8, 0),
		MOV(BPF_REG_1, 1),
		INSN(BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_10, BPF_REG_1, -8, BPF_ADD | BPF_FETCH),
		MOV(BPF_REG_0, 1),
		EXIT,
	};

	(void)vmlinux;
	return loads(BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, fetch_add, WEFT_ARRAY_SIZE(fetch_add));
}

static bool has_sockops_netns(const struct btf *vmlinux)
{
	static const struct bpf_insn cookie[] = {
		CALL(BPF_FUNC_get_netns_cookie), /* of the context, which is in r1 already */
		MOV(BPF_REG_0, 1),
		EXIT,
	};

	(void)vmlinux;
	return loads(BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, cookie, WEFT_ARRAY_SIZE(cookie));
}

static bool has_netns_cookie(const struct btf *vmlinux)
{
	uint64_t cookie;

	(void)vmlinux;
	return weft_netns_cookie_here(&cookie) == 0;
}

static bool has_sock_diag_destroy(const struct btf *vmlinux)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 request;
	} ask = {
		.header = { .nlmsg_len = sizeof(ask),
			    .nlmsg_type = SOCK_DESTROY,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		/* From and to port 0 of 0.0.0.0 with a cookie that no socket has: nothing can be hit. */
		.request = { .sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .id.idiag_cookie = { ~1u, ~1u } },
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char echo[256];
	} answer = { 0 };
	weft_close_on_exit int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	ssize_t got;

	(void)vmlinux;
	if (fd < 0 || send(fd, &ask, sizeof(ask), 0) < 0)
		return false;
	got = recv(fd, &answer, sizeof(answer), 0);
	if (got < (ssize_t)(sizeof(answer.header) + sizeof(answer.error)) || answer.header.nlmsg_type != NLMSG_ERROR)
		return false;
	/* Without the option in the kernel it says EOPNOTSUPP. */
	return answer.error.error == -ENOENT;
}

/* What capture needs beside the floor: a verdict on SYNs by network namespace, and an answer to getsockopt(). */
static bool has_sk_lookup(const struct btf *vmlinux)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_SK_LOOKUP);
	weft_close_on_exit int prog =
		bpf_prog_load(BPF_PROG_TYPE_SK_LOOKUP, NULL, "GPL", do_nothing, WEFT_ARRAY_SIZE(do_nothing), &options);
	weft_close_on_exit int link = -1;

	(void)vmlinux;
	if (prog < 0 || !loads(BPF_PROG_TYPE_CGROUP_SOCKOPT, BPF_CGROUP_GETSOCKOPT, do_nothing, WEFT_ARRAY_SIZE(do_nothing)))
		return false;
	/* A kernel that links programs to network namespaces looks for this one and does not find it. */
	link = bpf_link_create(prog, -1, BPF_SK_LOOKUP, NULL);
	return link < 0 && errno == EBADF;
}

static bool has_member(const struct btf *vmlinux, const char *structure, const char *name)
{
	int id = btf__find_by_name_kind(vmlinux, structure, BTF_KIND_STRUCT);
	const struct btf_type *type = id > 0 ? btf__type_by_id(vmlinux, (__u32)id) : NULL;

	for (__u16 i = 0; type && i < btf_vlen(type); i++)
		if (strcmp(btf__name_by_offset(vmlinux, btf_members(type)[i].name_off), name) == 0)
			return true;
	return false;
}

/*
 * Linux 7.0 lets go of a socket's storage in another way (5d800f87d0a5 "bpf: Support lockless unlink when freeing map or local
 * storage"): bpf_selem_unlink_nofail() sets selem->local_storage to NULL, and an iterator over the storage that looked before,
 * in bpf_sk_storage_map_seq_find_next(), looks again in __bpf_sk_storage_map_seq_show() and follows the NULL. The kernel dies of
 * that. Nothing in a kernel's types would say that it is repaired there, so none is believed that has the other way. The function
 * may be inlined; `state` is what it goes by.
 */
static bool has_sock_storage_iter(const struct btf *vmlinux)
{
	return vmlinux && btf__find_by_name_kind(vmlinux, "bpf_selem_unlink_nofail", BTF_KIND_FUNC) < 0 &&
	       !has_member(vmlinux, "bpf_local_storage_elem", "state");
}

static bool (*const probes[])(const struct btf *vmlinux) = {
	[WEFT_FEATURE_BTF] = has_btf,
	[WEFT_FEATURE_CGROUP2] = has_cgroup2,
	[WEFT_FEATURE_SOCK_ADDR] = has_sock_addr,
	[WEFT_FEATURE_SOCK_STORAGE] = has_sock_storage,
	[WEFT_FEATURE_SOCKOPS] = has_sockops,
	[WEFT_FEATURE_CGROUP_LINK] = has_cgroup_link,
	[WEFT_FEATURE_RINGBUF] = has_ringbuf,
	[WEFT_FEATURE_SET_RETVAL] = has_set_retval,
	[WEFT_FEATURE_SOCK_DESTROY] = has_sock_destroy,
	[WEFT_FEATURE_SOCK_DIAG_DESTROY] = has_sock_diag_destroy,
	[WEFT_FEATURE_FETCH_ATOMICS] = has_fetch_atomics,
	[WEFT_FEATURE_SOCKOPS_NETNS] = has_sockops_netns,
	[WEFT_FEATURE_NETNS_COOKIE] = has_netns_cookie,
	[WEFT_FEATURE_SK_LOOKUP] = has_sk_lookup,
	[WEFT_FEATURE_SOCK_STORAGE_ITER] = has_sock_storage_iter,
};
_Static_assert(WEFT_ARRAY_SIZE(probes) == WEFT_FEATURE_MAX_, "a feature has no probe");

uint64_t weft_feature_probe(uint64_t forced)
{
	/* What is missing is told by name, not by libbpf. */
	weft_print_on_exit struct weft_print *print = weft_print_begin();
	struct btf *vmlinux = btf__load_vmlinux_btf();
	uint64_t there = 0;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(probes); i++)
		if (!(forced >> i & 1) && probes[i](vmlinux))
			there |= UINT64_C(1) << i;
	btf__free(vmlinux);
	return there;
}

int weft_feature_check_floor(uint64_t features, struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf missing = WEFT_BUF_INIT;
	int r = 0;

	for (size_t i = 0; r == 0 && i < WEFT_ARRAY_SIZE(features_known); i++)
		if (features_known[i].floor && !(features >> i & 1))
			r = weft_buf_printf(&missing, "%s%s (%s)", missing.size ? "; " : "", features_known[i].name,
					    features_known[i].without);
	if (r < 0)
		return r;
	if (missing.size)
		return weft_err_set(err, EOPNOTSUPP, "this kernel, or this process's capabilities, lack %s",
				    missing.data);
	return 0;
}

const char *weft_feature_name(enum weft_feature feature)
{
	return (size_t)feature < WEFT_ARRAY_SIZE(features_known) ? features_known[feature].name : NULL;
}

int weft_feature_parse(const char *name, enum weft_feature *ret_feature)
{
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(features_known); i++)
		if (strcmp(features_known[i].name, name) == 0) {
			*ret_feature = (enum weft_feature)i;
			return 0;
		}
	return -EINVAL;
}
