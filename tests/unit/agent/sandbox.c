/* SPDX-License-Identifier: Apache-2.0 */
/* In a process of its own: what a taken-over role would try fails, and what control does works. */
#include "lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "agent/sandbox.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "ctl/role.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1 /* some calls are then needed by the sanitizer itself */
#else
#define SANITIZED 0
#endif

static char state_path[64];
static int state = -1, pair[2];

static int set_up(void **unused)
{
	(void)unused;
	strcpy(state_path, "/tmp/weft-sandbox-XXXXXX");
	if (!mkdtemp(state_path) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	state = open(state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return state < 0 ? -1 : 0;
}

static int tear_down(void **unused)
{
	(void)unused;
	unlinkat(state, "names", 0);
	unlinkat(state, ".names.new", 0);
	close(state);
	close(pair[0]);
	close(pair[1]);
	return rmdir(state_path);
}

/* Runs `body` confined as that role; it returns NULL, or what was not as it should be. */
static void confined_as(enum weft_agent_role role, int folder, int readable, const char *(*body)(void))
{
	char said[200] = "";
	int out[2], status;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct weft_err err = { "" };
		const char *wrong;

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			_exit(3);
		wrong = weft_sandbox_enter(role, folder, readable, &err) < 0 ? err.text : body();
		if (wrong && write(out[1], wrong, strlen(wrong)) < 0)
			_exit(2);
		_exit(wrong ? 1 : 0);
	}
	close(out[1]);
	assert_true(read(out[0], said, sizeof(said) - 1) >= 0);
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0)
		fail_msg("status %#x: %s", (unsigned int)status, said);
}

static void confined(const char *(*body)(void))
{
	confined_as(WEFT_AGENT_CONTROL, state, -1, body);
}

#define FORBIDDEN(call)                                                  \
	do {                                                             \
		errno = 0;                                               \
		if ((long)(call) != -1 || errno != EPERM)                \
			return "not refused with EPERM: " #call;         \
	} while (0)

static const char *attack(void)
{
	static char *const nothing[] = { NULL };
	int other[2];

	FORBIDDEN(socket(AF_INET, SOCK_STREAM, 0));
	FORBIDDEN(socket(AF_INET6, SOCK_DGRAM, 0));
	FORBIDDEN(socket(AF_UNIX, SOCK_STREAM, 0));
	FORBIDDEN(socket(AF_NETLINK, SOCK_RAW, 0));
	FORBIDDEN(socket(AF_PACKET, SOCK_RAW, 0));
	FORBIDDEN(socketpair(AF_UNIX, SOCK_STREAM, 0, other));
	FORBIDDEN(syscall(SYS_bpf, 0, NULL, 0));
	FORBIDDEN(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
	FORBIDDEN(execve("/bin/true", nothing, nothing));
	FORBIDDEN(syscall(SYS_execveat, state, "names", nothing, nothing, 0));
	FORBIDDEN(setns(state, 0));
	FORBIDDEN(unshare(CLONE_NEWUSER));
	FORBIDDEN(mount("none", state_path, "tmpfs", 0, NULL));
	FORBIDDEN(umount2(state_path, 0));
	FORBIDDEN(syscall(SYS_pidfd_open, 1, 0));
	FORBIDDEN(syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0));
	FORBIDDEN(syscall(SYS_io_uring_setup, 1, NULL));
	FORBIDDEN(syscall(SYS_userfaultfd, 0));
	FORBIDDEN(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	FORBIDDEN(syscall(SYS_init_module, NULL, 0, ""));
	FORBIDDEN(syscall(SYS_setuid, 0));
	FORBIDDEN(syscall(SYS_chroot, "/"));
	FORBIDDEN(syscall(SYS_fchmod, state, 0777));
	if (SANITIZED)
		return NULL;
	FORBIDDEN(syscall(SYS_ptrace, 16, 1, 0, 0));
	FORBIDDEN(kill(1, 0));
	FORBIDDEN(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	FORBIDDEN(syscall(SYS_clone3, NULL, 0));
	FORBIDDEN(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	FORBIDDEN(mprotect((void *)((uintptr_t)state_path & ~(uintptr_t)4095), 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
	return NULL;
}

/* A proxy may: its sockets come unconnected. */
static const char *attack_by_sockets(void)
{
	FORBIDDEN(connect(pair[0], NULL, 0));
	FORBIDDEN(bind(pair[0], NULL, 0));
	return NULL;
}

static void test_what_is_forbidden(void **unused)
{
	(void)unused;
	confined(attack);
	confined(attack_by_sockets);
	confined_as(WEFT_AGENT_KEYS, state, -1, attack_by_sockets);
}

#define NEEDED(condition)                                \
	do {                                             \
		if (!(condition))                        \
			return "does not work: " #condition; \
	} while (0)

static const char *work(void)
{
	struct weft_role_message message = weft_role_message(WEFT_ROLE_APPLY, 1), got;
	char *large = malloc(64 << 20);
	sd_event *loop = NULL;
	struct weft_err err;
	const void *data;
	FILE *mounts;
	int fd = -1;

	NEEDED(large);
	memset(large, 1, 64 << 20);
	free(large);
	NEEDED(weft_write_file_at(state, "names", "a", 1, 0640) == 0);
	NEEDED(weft_write_file_at(state, "names", "b", 1, 0640) == 0);
	fd = openat(state, "names", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
	NEEDED(fd >= 0 && weft_write_all(fd, "c", 1) == 0 && ftruncate(fd, 1) == 0);
	close(fd);
	mounts = fopen("/proc/self/mounts", "re");
	NEEDED(mounts && fgetc(mounts) != EOF);
	fclose(mounts);
	NEEDED(weft_role_send(pair[0], &message, "12345678", 8, 0) == 0);
	NEEDED(weft_role_receive(pair[1], WEFT_ROLE_SIDE_CONTROL, 0, &got, &fd, &err) == 0);
	NEEDED(weft_memfd_map(fd, 8, &data) == 0 && munmap((void *)data, 8) == 0 && close(fd) == 0);
	NEEDED(sd_event_new(&loop) >= 0);
	NEEDED(sd_event_add_signal(loop, NULL, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, NULL, NULL) >= 0);
	NEEDED(sd_event_add_io(loop, NULL, pair[0], EPOLLIN, NULL, NULL) >= 0);
	NEEDED(sd_event_add_time_relative(loop, NULL, CLOCK_MONOTONIC, 1000, 0, NULL, NULL) >= 0);
	NEEDED(sd_event_loop(loop) == 0);
	sd_event_unref(loop);
	fd = inotify_init1(IN_CLOEXEC);
	NEEDED(fd >= 0 && inotify_add_watch(fd, state_path, IN_ATTRIB) >= 0);
	close(fd);
	return NULL;
}

static void test_what_is_needed(void **unused)
{
	(void)unused;
	confined(work);
}

static const char *write_elsewhere(void)
{
	static const char *const paths[] = { "/tmp/weft-sandbox-outside", "/etc/weft-sandbox-outside", "/dev/null" };

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(paths); i++)
		if (open(paths[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0 || errno != EACCES)
			return paths[i];
	if (open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC) < 0)
		return "cannot read /tmp any more";
	return NULL;
}

static void test_files_elsewhere(void **unused)
{
	(void)unused;
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
		skip();
	confined(write_elsewhere);
}

/* Of both that never read text: not even control's rights. */
static const char *attack_as_keys_or_proxy(void)
{
	const char *wrong = attack();

	if (wrong || SANITIZED)
		return wrong;
	FORBIDDEN(open("/dev/null", O_RDONLY | O_CLOEXEC));
	FORBIDDEN(syscall(SYS_open, "/dev/null", O_RDONLY));
	FORBIDDEN(syscall(SYS_openat2, AT_FDCWD, "/dev/null", NULL, 0));
	FORBIDDEN(epoll_create1(0));
	FORBIDDEN(syscall(SYS_inotify_init1, 0));
	FORBIDDEN(prctl(PR_SET_DUMPABLE, 1));
	FORBIDDEN(syscall(SYS_prlimit64, 0, 4, NULL, NULL));
	return NULL;
}

static const char *attack_as_keys(void)
{
	FORBIDDEN(accept4(pair[0], NULL, NULL, 0));
	FORBIDDEN(setsockopt(pair[0], SOL_SOCKET, SO_RCVBUF, NULL, 0));
	/* A folder of its own is all that there is of files. */
	if (openat(state, "key", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0)
		return "cannot write below its own folder";
	if (unlinkat(state, "key", 0) < 0)
		return "cannot remove what it wrote";
	return NULL;
}

static const char *attack_as_proxy(void)
{
	int number = -1;

	NEEDED(ioctl(pair[0], SIOCOUTQ, &number) == 0 && number == 0);
	if (!SANITIZED) {
		FORBIDDEN(ioctl(pair[0], SIOCINQ, &number));
		FORBIDDEN(openat(state, "names", O_RDONLY | O_CLOEXEC));
		FORBIDDEN(unlinkat(state, "names", 0));
	}
	return attack_as_keys_or_proxy();
}

static void test_what_keys_and_proxy_may_not(void **unused)
{
	(void)unused;
	confined_as(WEFT_AGENT_KEYS, state, -1, attack_as_keys);
	confined_as(WEFT_AGENT_PROXY, -1, -1, attack_as_proxy);
}

static const char *files_of_keys(void)
{
	static const char *const paths[] = { "/etc/passwd", "/dev/null", "/proc/self/mem" };

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(paths); i++)
		if (openat(AT_FDCWD, paths[i], O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
			return paths[i];
	if (openat(state, "key", O_RDWR | O_CREAT | O_CLOEXEC, 0600) < 0 || unlinkat(state, "key", 0) < 0)
		return "its own folder cannot be used";
	return NULL;
}

static const char *what_may_be_read(void)
{
	if (openat(state, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) < 0)
		return "what it may read it cannot";
	if (openat(state, "key", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0 || errno != EACCES)
		return "what it may only read it can write";
	return NULL;
}

static void test_files_of_keys(void **unused)
{
	(void)unused;
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
		skip();
	confined_as(WEFT_AGENT_KEYS, state, -1, files_of_keys);
	confined_as(WEFT_AGENT_KEYS, -1, state, what_may_be_read);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_forbidden),
		cmocka_unit_test(test_what_is_needed),
		cmocka_unit_test(test_files_elsewhere),
		cmocka_unit_test(test_what_keys_and_proxy_may_not),
		cmocka_unit_test(test_files_of_keys),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
