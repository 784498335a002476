/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel features that weft uses or can do without: `weft feature list`, the
 * floor check, `--without-feature NAME` and docs come from this list.
 *
 * WEFT_FEATURE(NAME, "name", FLOOR | OPTIONAL, "what weft does with it", "what it does without it")
 */
WEFT_FEATURE(BTF, "btf", FLOOR, "programs find their way in this kernel's types", "nothing: build the kernel with CONFIG_DEBUG_INFO_BTF=y")
WEFT_FEATURE(CGROUP2, "cgroup2", FLOOR, "programs hang on a cgroup2 subtree", "nothing: mount cgroup2, a hybrid hierarchy will do")
WEFT_FEATURE(SOCK_ADDR, "sock_addr", FLOOR, "connect, sendmsg, recvmsg, getpeername hooks translate addresses", "nothing: Linux 5.8 with CONFIG_CGROUP_BPF=y is needed")
WEFT_FEATURE(SOCK_STORAGE, "sock_storage", FLOOR, "a socket carries its own state", "nothing: Linux 5.10 is needed")
WEFT_FEATURE(SOCKOPS, "sockops", FLOOR, "connections are counted", "nothing: Linux 5.10 with CONFIG_CGROUP_BPF=y is needed")
WEFT_FEATURE(CGROUP_LINK, "cgroup_link", FLOOR, "programs are replaced atomically and outlive the agent", "nothing: Linux 5.7 is needed")
WEFT_FEATURE(RINGBUF, "ringbuf", FLOOR, "records for watchers", "nothing: Linux 5.8 is needed")
WEFT_FEATURE(SET_RETVAL, "set_retval", OPTIONAL, "a refused connect fails with ECONNREFUSED", "a refused connect fails with EPERM")
WEFT_FEATURE(SOCK_DESTROY, "sock_destroy", OPTIONAL, "sockets of an endpoint that is gone are cut by bpf_sock_destroy", "they are cut by SOCK_DESTROY over netlink")
WEFT_FEATURE(SOCK_DIAG_DESTROY, "sock_diag_destroy", OPTIONAL, "sockets are cut by SOCK_DESTROY where bpf_sock_destroy is missing", "if bpf_sock_destroy is missing too, connections to a gone endpoint end by their own time-outs")
WEFT_FEATURE(FETCH_ATOMICS, "fetch_atomics", OPTIONAL, "open connections report their bytes as they go, live counts are exact at every moment", "connections report at their end, live counts are recounted every half minute")
WEFT_FEATURE(SOCKOPS_NETNS, "sockops_netns", OPTIONAL, "the server's side knows its pod by network namespace", "it knows its pod by address")
WEFT_FEATURE(NETNS_COOKIE, "netns_cookie", OPTIONAL, "the kernel tells by which cookie programs know a pod's network namespace", "a program of ours is loaded for a moment to ask")
WEFT_FEATURE(SK_LOOKUP, "sk_lookup", OPTIONAL, "pods of this node can be in the secure lane", "none can: attaching one is refused")
WEFT_FEATURE(SOCK_STORAGE_ITER, "sock_storage_iter", OPTIONAL, "the state of all sockets is walked over, in whichever network namespace they are", "the sockets of each network namespace with a name or a process are walked over")
