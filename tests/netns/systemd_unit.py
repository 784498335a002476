#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""weftd under what its systemd unit restricts, as far as that can be had without systemd: every directive is read from the
unit, and one that this test cannot emulate or does not know fails it.

    client ──> 10.96.0.1:80 ──> web        weftd: bounding set, no_new_privs, read-only and private mounts, system call filters
"""

from lab import *

UNIT = BUILD / "deploy/weftd.service"
CLONE_NEW = {"cgroup": 0x02000000, "ipc": 0x08000000, "mnt": 0x00020000, "net": 0x40000000, "pid": 0x20000000, "user": 0x10000000,
             "uts": 0x04000000}
PROT_WRITE, PROT_EXEC = 2, 4
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
READ_ONLY_PATHS = ("/usr", "/boot", "/etc")
ALLOW, DENY, NO_SUCH_FAMILY, NO_SUCH_CALL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.EAFNOSUPPORT, 0x00050000 | errno.ENOSYS
EQ, GT, MASKED = 4, 6, 7  # enum scmp_compare

DEVICES = ["full", "null", "random", "tty", "urandom", "zero"]

# Read or handled elsewhere than in what a running process may do.
ELSEWHERE = {"Type", "ExecStart", "ExecReload", "KillMode", "TimeoutStopSec", "Restart", "RestartSec", "RestartPreventExitStatus", "OOMScoreAdjust",
             "LimitMEMLOCK", "LimitNOFILE", "ConfigurationDirectory", "StateDirectory", "RuntimeDirectory", "RuntimeDirectoryPreserve"}


def directives():
    section, found = "", {}
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and line[0] not in "#;":
            key, _, value = line.partition("=")
            found[key] = value
    return {key: value for key, value in found.items() if key not in ELSEWHERE}


class Argument(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Filter:
    """libseccomp, by which systemd does it."""

    def __init__(self):
        self.lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.lib.seccomp_init(ctypes.c_uint32(ALLOW)))

    def deny(self, call, *arguments, action=DENY):
        number = self.lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # this machine has no such call
        array = (Argument * len(arguments))(*(Argument(*a) for a in arguments))
        result = self.lib.seccomp_rule_add_array(self.context, ctypes.c_uint32(action), number, len(arguments), array)
        if result < 0:
            raise OSError(-result, f"seccomp rule for {call}")

    def load(self):
        result = self.lib.seccomp_load(self.context)
        if result < 0:
            raise OSError(-result, "seccomp_load")


def families(made, value):
    """AF_... names that may be used."""
    allowed = sorted(getattr(socket, name) for name in value.split())
    for family in range(allowed[-1]):
        if family not in allowed:
            made.deny("socket", (0, EQ, family, 0), action=NO_SUCH_FAMILY)
    made.deny("socket", (0, GT, allowed[-1], 0), action=NO_SUCH_FAMILY)


def namespaces(made, value):
    made.deny("clone3", action=NO_SUCH_CALL)
    made.deny("setns", (1, EQ, 0, 0))
    for name, flag in CLONE_NEW.items():
        if name not in value.split():
            for call, argument in (("unshare", 0), ("clone", 0), ("setns", 1)):
                made.deny(call, (argument, MASKED, flag, flag))


def no_new_code(made, _value):
    made.deny("mmap", (2, MASKED, PROT_WRITE | PROT_EXEC, PROT_WRITE | PROT_EXEC))
    made.deny("mprotect", (2, MASKED, PROT_EXEC, PROT_EXEC))
    made.deny("pkey_mprotect", (2, MASKED, PROT_EXEC, PROT_EXEC))


def no_suid(made, _value):
    for call, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2), ("creat", 1), ("mknod", 1), ("mknodat", 2)):
        for bit in (0o4000, 0o2000):
            made.deny(call, (argument, MASKED, bit, bit))
    for bit in (0o4000, 0o2000):
        made.deny("open", (1, MASKED, os.O_CREAT, os.O_CREAT), (2, MASKED, bit, bit))
        made.deny("openat", (2, MASKED, os.O_CREAT, os.O_CREAT), (3, MASKED, bit, bit))
    made.deny("openat2", action=NO_SUCH_CALL)


def denies(*calls):
    def add(made, _value):
        for call in calls:
            made.deny(call)
    return add


FILTERS = {
    "RestrictAddressFamilies": families,
    "RestrictNamespaces": namespaces,
    "MemoryDenyWriteExecute": no_new_code,
    "RestrictSUIDSGID": no_suid,
    "RestrictRealtime": lambda made, _value: [made.deny("sched_setscheduler", (1, EQ, policy, 0)) for policy in (1, 2, 6)],
    "LockPersonality": denies("personality"),
    "ProtectClock": denies("clock_settime", "settimeofday", "adjtimex", "clock_adjtime"),
    "ProtectHostname": denies("sethostname", "setdomainname"),
    "ProtectKernelLogs": denies("syslog"),
    "ProtectKernelModules": denies("init_module", "finit_module", "delete_module"),
    "PrivateDevices": denies("ioperm", "iopl", "pciconfig_read", "pciconfig_write"),
    "SystemCallArchitectures": lambda made, value: equal(value, "native", "SystemCallArchitectures"),  # libseccomp kills others
}

# Shell, within a mount namespace.
HIDE = "test ! -d {0} || mount -t tmpfs -o mode=0000 tmpfs {0}; "
READ_ONLY = "mount --bind {0} {0}; mount -o remount,bind,ro {0}; "
MOUNTS = {
    "ProtectSystem=full": "".join(READ_ONLY.format(path) for path in READ_ONLY_PATHS),
    "ProtectHome=yes": "".join(HIDE.format(path) for path in ("/home", "/root", "/run/user")),
    "PrivateTmp=yes": "mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /var/tmp; ",
    "ProtectKernelModules=yes": HIDE.format("/usr/lib/modules"),
    "ProtectKernelLogs=yes": "mount --bind /dev/null /proc/kmsg; ",
    "PrivateDevices=yes": "mkdir {folder}/dev; mount -t tmpfs tmpfs {folder}/dev; "
                          "for d in " + " ".join(DEVICES) + "; do touch {folder}/dev/$d; mount --bind /dev/$d {folder}/dev/$d; done; "
                          "mount --rbind {folder}/dev /dev; ",
}


def topology(lab):
    lab.client, lab.webs = lab.pod("client"), [lab.pod("web-a"), lab.pod("web-b")]
    for web in lab.webs:
        web.serve()
    lab.write("web.yaml", documents(lab, lab.webs[:1]))
    lab.unit = directives()
    lab.start(enter=confinement(lab))


def documents(lab, webs):
    return [service("web", "10.96.0.1"), endpoint_slice("web", webs), pod_resource(lab.client)]


def capabilities(value):
    names = ctypes.CDLL("libcap-ng.so.0")
    return {names.capng_name_to_capability(word.removeprefix("CAP_").lower().encode()) for word in value.split()}


def confinement(lab):
    """For the process that becomes weftd: puts it under all that the unit says."""
    made, shell = Filter(), "set -e; "
    for key, value in lab.unit.items():
        known = key in ("CapabilityBoundingSet", "NoNewPrivileges")
        if key in FILTERS:
            FILTERS[key](made, value)
            known = True
        if f"{key}={value}" in MOUNTS:
            shell += MOUNTS[f"{key}={value}"].format(folder=lab.folder)
            known = True
        true(known, f"{UNIT} says {key}={value}, which this test does not know")
    # A build that one of these hides is found all the same.
    shell = f"mkdir {lab.folder}/build; mount --bind {BUILD} {lab.folder}/build; {shell} mkdir -p {BUILD}; mount --bind {lab.folder}/build {BUILD}"
    keep = capabilities(lab.unit["CapabilityBoundingSet"])

    def enter():
        if libc.unshare(CLONE_NEW["mnt"] | CLONE_NEW["uts"]) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        sh("mount", "--make-rslave", "/")
        sh("sh", "-c", shell)
        for number in range(int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
            if number not in keep and libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "PR_CAPBSET_DROP")
        equal(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0, "no_new_privs")
        made.load()

    return enter


def test_the_restrictions_are_in_force(lab):
    lines = pathlib.Path(f"/proc/{lab.agent.pid}/status").read_text().splitlines()
    seen = {key: value.split() for key, value in (line.split(":", 1) for line in lines)}
    bounding = {n for n in range(64) if int(seen["CapBnd"][0], 16) >> n & 1}
    equal(bounding, capabilities(lab.unit["CapabilityBoundingSet"]), "bounding set")
    equal((seen["NoNewPrivs"], seen["Seccomp"]), (["1"], ["2"]), "no_new_privs and seccomp")
    root = pathlib.Path(f"/proc/{lab.agent.pid}/root")
    for path in READ_ONLY_PATHS:
        with fails(errno.EROFS):
            (root / path[1:] / "weft-test").touch()
    build = [BUILD.parts[2]] if BUILD.parts[1] == "tmp" else []  # it is let in
    equal(os.listdir(root / "tmp"), build, "what is in /tmp")
    equal(sorted(os.listdir(root / "dev")), DEVICES, "what is in /dev")
    true(set(os.listdir("/dev")) - set(DEVICES), "there is no device to be hidden")


def test_everything_works(lab):
    equal(lab.client.spread("10.96.0.1", 80, 20), {"web-a": 20})
    wait_for(lambda: len(lab.maps("weft_pod")) == 1, "the client to be bound to its network namespace")
    equal(lab.metric("weft_config_refused"), 0, "weft_config_refused")

    held = lab.client.connect("10.96.0.1", 80)
    read_name(held)
    lab.apply("web.yaml", documents(lab, lab.webs[1:]))
    equal(lab.client.spread("10.96.0.1", 80, 20), {"web-b": 20})
    with fails(errno.ECONNABORTED, errno.ECONNRESET):  # cut by main, in the client's namespace
        true(held.recv(1) == b"x", "the connection to an endpoint that is gone was closed, not cut")


def test_killed_roles_come_back(lab):
    lab.apply("web.yaml", documents(lab, lab.webs[1:]))
    for role in ("control", "main"):
        lab.kill(role)
        equal(lab.client.spread("10.96.0.1", 80, 20), {"web-b": 20})


def test_reload_stop_and_start(lab):
    lab.apply("web.yaml", documents(lab, lab.webs[1:]))
    lab.agent.send_signal(signal.SIGHUP)
    wait_for(lambda: "reloading" in lab.log.read_text(), "SIGHUP to be heard")
    equal(lab.stop(), 0)
    equal(lab.client.who("10.96.0.1", 80), "web-b", "who answers without an agent")
    shutil.rmtree(lab.folder / "dev", ignore_errors=True)
    shutil.rmtree(lab.folder / "build", ignore_errors=True)
    lab.start(enter=confinement(lab))
    true(lab.status()["adopted"], "what was pinned is not adopted")


main(topology)
