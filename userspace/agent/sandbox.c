/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sandbox.h"

#include <errno.h>
#include <linux/landlock.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#endif

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif

/* What malloc, the event loop and the end of a process need, of every role. */
static const int common[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(close), SCMP_SYS(fcntl), SCMP_SYS(fcntl64), SCMP_SYS(sendmsg), SCMP_SYS(recvmsg),
	SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait2), SCMP_SYS(timerfd_settime), SCMP_SYS(clock_gettime),
	SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(getrandom),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(exit_group),
#ifdef SANITIZED
	/* leaks are looked for by a thread that stops the others */
	SCMP_SYS(clone), SCMP_SYS(clone3), SCMP_SYS(wait4), SCMP_SYS(ptrace), SCMP_SYS(prctl), SCMP_SYS(sigaltstack), SCMP_SYS(kill),
	SCMP_SYS(sched_yield), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getcwd), SCMP_SYS(prlimit64), SCMP_SYS(getppid),
	SCMP_SYS(getuid), SCMP_SYS(getgid), SCMP_SYS(geteuid), SCMP_SYS(getegid), SCMP_SYS(access), SCMP_SYS(faccessat),
	SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_getaffinity), SCMP_SYS(ioctl), SCMP_SYS(getdents), SCMP_SYS(uname),
	SCMP_SYS(mmap), SCMP_SYS(mprotect), SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(fstat), SCMP_SYS(stat), SCMP_SYS(lstat),
	SCMP_SYS(newfstatat), SCMP_SYS(lseek), SCMP_SYS(getdents64), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(tgkill), SCMP_SYS(exit), SCMP_SYS(pread64), SCMP_SYS(clock_nanosleep),
#endif
};

static const int of_control[] = {
	/* descriptors that are there, and what they carry */
	SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(writev), SCMP_SYS(pwrite64), SCMP_SYS(lseek),
	SCMP_SYS(_llseek), SCMP_SYS(dup), SCMP_SYS(sendto),
	SCMP_SYS(recvfrom), SCMP_SYS(accept4), SCMP_SYS(shutdown), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname), SCMP_SYS(getpeername),
	/* files */
	SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(fstat), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(newfstatat),
	SCMP_SYS(fstatat64), SCMP_SYS(statx), SCMP_SYS(getdents64), SCMP_SYS(fsync), SCMP_SYS(ftruncate), SCMP_SYS(rename),
	SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(inotify_init1),
	SCMP_SYS(inotify_add_watch), SCMP_SYS(inotify_rm_watch), SCMP_SYS(memfd_create),
	/* the event loop */
	SCMP_SYS(epoll_create1), SCMP_SYS(epoll_pwait),
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(timerfd_create), SCMP_SYS(eventfd2), SCMP_SYS(signalfd4),
	SCMP_SYS(gettimeofday), SCMP_SYS(clock_nanosleep), SCMP_SYS(restart_syscall),
	/* the process itself; tgkill is abort()'s */
	SCMP_SYS(getpid),
	SCMP_SYS(gettid), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(tgkill), SCMP_SYS(exit),
};

/* Files of its own folder, and what the others are sent. */
static const int of_keys[] = {
	SCMP_SYS(openat), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(getdents64), SCMP_SYS(fsync), SCMP_SYS(renameat), SCMP_SYS(renameat2),
	SCMP_SYS(unlinkat), SCMP_SYS(geteuid), SCMP_SYS(memfd_create), SCMP_SYS(inotify_add_watch), SCMP_SYS(inotify_rm_watch),
};

/* Sockets that are there. One to the application is bound to the client's address. A handshake's ASYNC job saves its signal mask. */
static const int of_proxy[] = {
	SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(accept4), SCMP_SYS(bind), SCMP_SYS(connect),
	SCMP_SYS(shutdown), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(fstat),
	SCMP_SYS(newfstatat), SCMP_SYS(memfd_create), SCMP_SYS(rt_sigprocmask),
};

static const struct {
	const int *calls;
	size_t count;
} lists[WEFT_AGENT_MAX_] = {
	[WEFT_AGENT_CONTROL] = { of_control, WEFT_ARRAY_SIZE(of_control) },
	[WEFT_AGENT_KEYS] = { of_keys, WEFT_ARRAY_SIZE(of_keys) },
	[WEFT_AGENT_PROXY] = { of_proxy, WEFT_ARRAY_SIZE(of_proxy) },
};

static int allow(scmp_filter_ctx filter, const int *calls, size_t count)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return r;
}

static int restrict_calls(enum weft_agent_role role, struct weft_err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = filter ? 0 : -ENOMEM;

	if (r == 0)
		r = allow(filter, common, WEFT_ARRAY_SIZE(common));
	if (r == 0)
		r = allow(filter, lists[role].calls, lists[role].count);
	/* What an application has not read yet; without it no window would ever grow. */
	if (r == 0 && role == WEFT_AGENT_PROXY)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, SIOCOUTQ));
#ifndef SANITIZED
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
#endif
	if (r == 0) /* said in the audit log; a kernel that cannot is no less strict */
		seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r < 0 ? weft_err_set(err, r, "cannot restrict the system calls of this process: %m") : 0;
}

#define WRITING                                                                                                      \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |               \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                 \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define READING (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

/* `access` below `folder`, if there is one, of what the rules are about. */
static int open_up(int ruleset, const struct landlock_ruleset_attr *rules, int folder, uint64_t access)
{
	struct landlock_path_beneath_attr below = { .allowed_access = access & rules->handled_access_fs, .parent_fd = folder };

	if (folder < 0 || !below.allowed_access)
		return 0;
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &below, 0) < 0 ? -errno : 0;
}

static int restrict_files(enum weft_agent_role role, int folder, int readable, struct weft_err *err)
{
	/* What control may read its uid says: configuration is where people put it. */
	struct landlock_ruleset_attr rules = { .handled_access_fs = WRITING | (role == WEFT_AGENT_CONTROL ? 0 : READING) };
	weft_close_on_exit int ruleset = -1;
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int r;

	if (version < 1)
		return 0; /* not built in, or not switched on: the uid decides alone */
	if (version >= 3)
		rules.handled_access_fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
	r = ruleset < 0 ? -errno : 0;
	if (r == 0)
		r = open_up(ruleset, &rules, folder,
			    READING | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
				    LANDLOCK_ACCESS_FS_TRUNCATE);
	if (r == 0)
		r = open_up(ruleset, &rules, readable, READING);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	return r < 0 ? weft_err_set(err, r, "cannot restrict the files that this process may use: %m") : 0;
}

int weft_sandbox_enter(enum weft_agent_role role, int folder, int readable, struct weft_err *err)
{
	int r = restrict_files(role, folder, readable, err);

	return r < 0 ? r : restrict_calls(role, err);
}
