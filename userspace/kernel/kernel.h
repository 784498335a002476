/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One instance in the kernel: programs loaded, maps made or adopted, links
 * pinned. The only writer of maps. Runs in `main`, with capabilities; reads
 * no text but the paths that it is started with.
 *
 * <pins>/v1/map/<name>    every map of lists/map.h, and weft_sock, weft_udp, weft_event
 * <pins>/v1/link/<hook>   one bpf_link a hook, and the iterator weft_conn, or weft_conn_tcp_here and weft_conn_udp_here
 * <pins>/v1/netns/<cookie> one bpf_link of weft_inbound an attached pod
 *
 * Adoption: if the folder is there and whole, its maps are reused by the newly
 * loaded programs and each link is updated in place; nothing is ever detached.
 */
#ifndef WEFT_KERNEL_KERNEL_H
#define WEFT_KERNEL_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/netns.h"
#include "weft/abi/role.h"

enum weft_feature {
#define WEFT_FEATURE(NAME, name, need, with, without) WEFT_FEATURE_##NAME,
#include "weft/lists/feature.h"
#undef WEFT_FEATURE
	WEFT_FEATURE_MAX_
};

/*
 * Asks this kernel, feature by feature, by loading tiny programs and looking
 * things up in its BTF; never by its version. `forced` (a mask) is taken away
 * from the result. Returns the mask of what is there.
 */
uint64_t weft_feature_probe(uint64_t forced);
/* 0, or -EOPNOTSUPP with every missing floor feature named in `err`. */
int weft_feature_check_floor(uint64_t features, struct weft_err *err);
const char *weft_feature_name(enum weft_feature feature);
/* -EINVAL: no such feature. */
int weft_feature_parse(const char *name, enum weft_feature *ret_feature);

struct weft_kernel_options {
	const char *cgroup; /* directory of the cgroup2 subtree */
	const char *pins; /* directory on bpffs; made if missing */
	uint64_t features; /* what weft_feature_probe() gave */
	struct weft_role_capacity capacity; /* 0 = default. Adopted: CONFIG maps and weft_live grow to it, others keep theirs */
	/*
	 * Without WEFT_FEATURE_SOCK_STORAGE_ITER: adds the network namespaces that sockets are in. NULL: those that have a name
	 * or a process, as far as this process may look at it.
	 */
	int (*netns_all)(void *context, struct weft_netns_list *list);
	void *context;
	uint32_t watchers; /* as weft_kernel_set_watchers() has it; 0 at a start, for whoever watched the last agent is gone */
};

struct weft_kernel;

/*
 * Loads, adopts or creates, attaches, pins; traffic flows by what is in the
 * maps from here on. On failure everything that this call made is taken back and
 * what was pinned before stays in force. After an adoption weft_live is right from the first weft_kernel_recount() on;
 * an instance beside which this one, with larger maps, could not be opened needs one if weft_kernel_wants_recount().
 * -EBUSY: another instance is on an overlapping subtree (named). -EPROTO: the pin folder is of a version that cannot be adopted.
 */
int weft_kernel_open(const struct weft_kernel_options *options, struct weft_kernel **ret_kernel, bool *ret_adopted,
		     struct weft_err *err);
/* Lets go of descriptors. Pins stay: traffic goes on. */
struct weft_kernel *weft_kernel_close(struct weft_kernel *kernel);
WEFT_CLEANUP_DEFINE(struct weft_kernel, weft_kernel_close);

/* False: a link that was pinned when the instance was opened is gone, and with it a hook. */
bool weft_kernel_links_pinned(const struct weft_kernel *kernel);

/* Unpins every link and map below `pins` and removes its folders. Needs no open instance; ENOENT is success. */
int weft_kernel_uninstall(const char *pins, struct weft_err *err);

void weft_kernel_capacity(const struct weft_kernel *kernel, struct weft_role_capacity *ret_capacity);

/*
 * Validates and applies a batch (abi/role.h). Only maps marked CONFIG in
 * lists/map.h are written, and not weft_setting and weft_capture, which have calls of their own.
 * Anything else, a DELETE in an array, or a batch whose arithmetic does not
 * add up, is -EBADMSG before the first write. A write that the kernel refuses
 * stops there: -errno and the run's index.
 */
int weft_kernel_apply(struct weft_kernel *kernel, const void *batch, size_t size, uint32_t *ret_failed_run, struct weft_err *err);
/* Appends a batch with the contents of the maps in `mask` (1 << enum weft_map). ARRAYs: entries that are all zero are left out. */
int weft_kernel_read(struct weft_kernel *kernel, uint64_t mask, struct weft_buf *batch);

int weft_kernel_set_watchers(struct weft_kernel *kernel, uint32_t watchers);
int weft_kernel_set_flags(struct weft_kernel *kernel, uint32_t flags);
int weft_kernel_set_pod(struct weft_kernel *kernel, uint64_t netns_cookie, const struct weft_pod *pod); /* NULL: remove */
uint32_t weft_kernel_pod_workload(const struct weft_kernel *kernel, uint64_t netns_cookie); /* 0: none */

/*
 * ---- pods of the secure lane ----
 *
 * 0 if sockets of this process are seen by the programs: its cgroup is the subtree or below. Else -EXDEV, and nothing can be
 * attached: nobody would know the agent's own connections from a pod's.
 */
int weft_kernel_sees_agent(const struct weft_kernel *kernel, struct weft_err *err);
/*
 * From here on connections out of that network namespace are captured and those into it are judged. The listeners must be there
 * already: what is captured before fails. Programs are pinned as <pins>/v1/netns/<cookie, hexadecimal>. Once more for an attached one
 * replaces the row. -EOPNOTSUPP without WEFT_FEATURE_SK_LOOKUP; -EXDEV as above; what fails leaves nothing behind.
 */
int weft_kernel_attach_netns(struct weft_kernel *kernel, int netns, uint64_t cookie, const struct weft_capture *row, struct weft_err *err);
/* One that is not attached is no error. Connections that are captured already go on. */
int weft_kernel_detach_netns(struct weft_kernel *kernel, uint64_t cookie);
/* Whose address that is by weft_workload_at; 0: nobody's. */
uint32_t weft_kernel_workload_at(const struct weft_kernel *kernel, const struct weft_addr *addr);
/* Appends the cookies (__u64) of the network namespaces that are attached; those that are gone were swept when the instance was opened. */
int weft_kernel_attached(const struct weft_kernel *kernel, struct weft_buf *cookies);
/*
 * `fd` is a TCP socket of the agent's own in the network namespace `cookie`, not connected yet: programs leave it alone, count
 * it nowhere, and let its connections into the pod pass. For every pool socket before it is handed out; listeners need it not.
 */
int weft_kernel_mark_agent_socket(struct weft_kernel *kernel, int fd, uint64_t cookie);
/*
 * Destroys the TCP sockets of THIS THREAD's network namespace that have one of these cookies (struct weft_conn's).
 * At most WEFT_ROLE_MAX_CUT. *ret_cut = how many. -EOPNOTSUPP without WEFT_FEATURE_SOCK_DESTROY.
 */
int weft_kernel_cut_sockets_here(struct weft_kernel *kernel, const uint64_t *cookies, size_t count, uint32_t *ret_cut);

/*
 * The cookie of THIS THREAD's network namespace where the kernel does not tell it by SO_NETNS_COOKIE: a program of ours asks.
 * Needs no open instance, but the capabilities of one. -errno; -ENODATA if the program did not run.
 */
int weft_kernel_netns_cookie(uint64_t *ret_cookie);

/* Descriptor to poll for records; drained by weft_kernel_events(), which appends struct weft_event. */
int weft_kernel_event_fd(struct weft_kernel *kernel);
int weft_kernel_events(struct weft_kernel *kernel, struct weft_buf *events);

/*
 * Live connections add what they have not reported yet to weft_aggregate. Nothing without WEFT_FEATURE_FETCH_ATOMICS: they report at
 * their end. Without WEFT_FEATURE_SOCK_STORAGE_ITER it ends after half a second, and the next call begins where it ended.
 */
int weft_kernel_flush(struct weft_kernel *kernel);
/*
 * Counts weft_live anew from the sockets there are, exactly, while they come and go; nearly so without
 * WEFT_FEATURE_FETCH_ATOMICS. Without WEFT_FEATURE_SOCK_STORAGE_ITER of the sockets that are in one of the namespaces of
 * netns_all(): what is elsewhere is not counted until a later recount, and so also never counted twice. After a failure WEFT_SETTING_F_RECOUNT may stand, until a later one succeeds.
 */
int weft_kernel_recount(struct weft_kernel *kernel);
/* WEFT_SETTING_F_RECOUNT stands, or it cannot be told. */
bool weft_kernel_wants_recount(const struct weft_kernel *kernel);

/* All tracked sockets, array of struct weft_conn; without WEFT_FEATURE_SOCK_STORAGE_ITER as for weft_kernel_recount(). */
int weft_kernel_conns(struct weft_kernel *kernel, struct weft_buf *conns);
/*
 * Destroys the sockets of THIS THREAD's network namespace whose stored endpoint is one of `ids` (bpf_sock_destroy);
 * `udp_only` spares TCP. The program compares the stored id before it kills. *ret_cut = how many. -EOPNOTSUPP without SOCK_DESTROY.
 */
int weft_kernel_cut_here(struct weft_kernel *kernel, const uint32_t *ids, size_t count, bool udp_only, uint32_t *ret_cut);

#endif
