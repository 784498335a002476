# SPDX-License-Identifier: Apache-2.0
"""Hosts to measure on: network namespaces without a way out, cgroups, processes in them, and what the machine spent.

    client ─┐  10.88.0.2/30
    s1     ─┼─ node (forwards)     every pod has a veth of its own to its node; routes are to the mesh's ranges only
    s2 ... ─┘  10.88.1.2/30 ...

All names begin with `wt-bench-`; what an earlier, killed run left is removed first.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("WEFT_BUILD", ROOT / "build")).resolve()
WEFTD = BUILD / "userspace/agent/weftd"
LOAD = BUILD / "bench/weft-load"
APPLY = BUILD / "bench/weft-apply"
PREFIX = "wt-bench-"
PODS = "10.88.0.0/16"
SERVICES = "10.96.0.0/12"

# In every namespace: enough ports and TIME_WAIT for what one client opens in one arm, and no limit that an arm could run into.
SYSCTLS = {
    "net.ipv4.ip_local_port_range": "1024 65535",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.tcp_max_tw_buckets": "262144",
    "net.core.somaxconn": "4096",
    "net.ipv4.conf.all.rp_filter": "0",
}
CONNTRACK_SYSCTLS = {  # so that the table never fills: favours the peer that needs it
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": "1",
    "net.netfilter.nf_conntrack_tcp_timeout_close": "1",
}


class Unusable(Exception):
    """The benchmark cannot run here; the text says why."""


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise Unusable(f"{' '.join(str(c) for c in command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def inside(netns, *command, **options):
    return run("nsenter", f"--net=/run/netns/{netns}", *command, **options)


def cgroup2_mount():
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(where)
    raise Unusable("cgroup2 is not mounted")


def machine_cpu():
    """Seconds since boot: busy (with interrupts), of these in interrupts, and stolen."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(v) / os.sysconf("SC_CLK_TCK") for v in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return {"busy": user + nice + system + irq + softirq, "interrupts": irq + softirq, "stolen": steal}


def cpu_of(cgroup):
    """CPU seconds that the processes of a cgroup and of those below it have used."""
    for line in (cgroup / "cpu.stat").read_text().splitlines():
        key, value = line.split()
        if key == "usage_usec":
            return int(value) / 1e6
    raise Unusable(f"{cgroup}/cpu.stat has no usage_usec")


class Drive:
    """A weft-load client between `ready` and the end of its figures."""

    def __init__(self, process):
        self.process = process
        self.line(30)

    def line(self, timeout):
        end = time.monotonic() + timeout
        while True:
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                self.process.kill()
                raise Unusable("weft-load did not answer in time")
            text = self.process.stdout.readline()
            if not text:
                raise Unusable(f"weft-load ended: {self.process.stderr.read().strip()}")
            return text

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def figures(self, timeout):
        return json.loads(self.line(timeout))

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


class Host:
    """Owns every namespace, cgroup, process and file of one run; close() takes all of it away."""

    def __init__(self, cpus):
        if os.geteuid() != 0:
            raise Unusable("must run as root: it makes network namespaces and cgroups")
        for binary in (LOAD, APPLY):
            if not binary.exists():
                raise Unusable(f"{binary} is missing: build first (scripts/build), or set WEFT_BUILD")
        self.lock = open("/run/weft-bench.lock", "w", encoding="ascii")  # pylint: disable=consider-using-with
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unusable("another benchmark runs on this machine") from error
        self.client_cpu, self.server_cpu = cpus
        # Agents, proxies and this program keep off the CPUs of clients and servers where there are more than these two.
        self.everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.everywhere - set(cpus) or self.everywhere)
        self.cpus = os.cpu_count()
        self.root = cgroup2_mount() / "weft-bench"
        self.processes, self.awake = [], None
        self.sweep()
        self.root.mkdir()
        # This program's own CPU time is no stranger's.
        self.home = cgroup2_mount() / pathlib.Path("/proc/self/cgroup").read_text().split("0::/", 1)[1].splitlines()[0]
        (self.cgroup("harness") / "cgroup.procs").write_text(str(os.getpid()))
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weft-bench-"))
        self.folder.chmod(0o755)  # weftd's control reads its configuration without root
        self.bpffs = self.folder / "bpf"
        self.bpffs.mkdir()
        run("mount", "-t", "bpf", "bpf", self.bpffs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- namespaces --

    def netns(self, name):
        run("ip", "netns", "add", PREFIX + name)
        inside(PREFIX + name, "ip", "link", "set", "lo", "up")
        self.sysctl(name, SYSCTLS)
        return PREFIX + name

    def sysctl(self, name, values):
        for key, value in values.items():
            inside(PREFIX + name, "tee", f"/proc/sys/{key.replace('.', '/')}", input=value)

    def node(self, name, pods):
        """A node and its pods; pod i is 10.88.i.2. Returns their addresses."""
        node = self.netns(name)
        self.sysctl(name, {"net.ipv4.ip_forward": "1"})
        for index, pod in enumerate(pods):
            netns = self.netns(pod)
            inside(node, "ip", "link", "add", f"p{index}", "type", "veth", "peer", "name", "eth0", "netns", netns)
            inside(node, "ip", "address", "add", f"10.88.{index}.1/30", "dev", f"p{index}")
            inside(node, "ip", "link", "set", f"p{index}", "up")
            inside(netns, "ip", "address", "add", f"10.88.{index}.2/30", "dev", "eth0")
            inside(netns, "ip", "link", "set", "eth0", "up")
            for target in (PODS, SERVICES):
                inside(netns, "ip", "route", "add", target, "via", f"10.88.{index}.1")
        return [f"10.88.{index}.2" for index in range(len(pods))]

    # -- cgroups --

    def cgroup(self, path):
        where = self.root / path
        where.mkdir(parents=True, exist_ok=True)
        return where

    def cgroups_cpu(self):
        return cpu_of(self.root) - self.awake_cpu()

    def keep_awake(self, cpus):
        """
        These CPUs never halt: what nobody else wants is burnt by a process each of SCHED_IDLE, which everybody else preempts at once. A halted CPU
        of a virtual machine is woken by its hypervisor, which takes several times what is measured, now longer and now shorter.
        """
        self.awake = self.cgroup("awake")
        for cpu in sorted(cpus):
            self.start([sys.executable, "-c", "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
                        f"os.sched_setaffinity(0, [{cpu}])\nwhile True: pass"], cgroup="awake")

    def awake_cpu(self):
        """CPU time that keep_awake() has burnt."""
        return cpu_of(self.awake) if self.awake else 0.0

    # -- processes --

    def start(self, command, netns=None, cgroup=None, **options):
        """Runs a command in a pod; it dies with this host."""
        prefix = []
        if cgroup:
            prefix = ["sh", "-c", 'echo 0 >"$0"/cgroup.procs && exec "$@"', str(self.cgroup(cgroup))]
        if netns:
            prefix += ["nsenter", f"--net=/run/netns/{PREFIX}{netns}"]
        process = subprocess.Popen([*prefix, *(str(c) for c in command)], text=True, **options)
        self.processes.append(process)
        return process

    def load(self, netns, cgroup, cpu, *arguments):
        command = [LOAD, "--netns", PREFIX + netns, "--cgroup", self.cgroup(cgroup), "--cpu", cpu, *arguments]
        process = subprocess.Popen([str(c) for c in command], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def serve(self, netns, cgroup, address, port):
        process = self.load(netns, cgroup, self.server_cpu, "serve", f"{address}:{port}")
        if process.stdout.readline() != "ready\n":
            raise Unusable(f"server in {netns}: {process.stderr.read().strip()}")
        return process

    def drive(self, netns, cgroup, *arguments, cpu=None):
        return Drive(self.load(netns, cgroup, self.client_cpu if cpu is None else cpu, "drive", *arguments))

    def file(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    # -- the end --

    def sweep(self):
        """What a killed run left. Its processes have died with it: weft-load by itself, the others with their cgroup."""
        if self.root.exists():
            for procs in sorted(self.root.rglob("cgroup.procs")):
                for pid in procs.read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
            deadline = time.monotonic() + 10
            while "populated 1" in (self.root / "cgroup.events").read_text() and time.monotonic() < deadline:
                time.sleep(0.01)
            for folder in sorted((p for p in self.root.rglob("*") if p.is_dir()), reverse=True):
                folder.rmdir()
            self.root.rmdir()
        for path in pathlib.Path("/run/netns").glob(PREFIX + "*"):
            run("ip", "netns", "delete", path.name)
        for left in pathlib.Path(tempfile.gettempdir()).glob("weft-bench-*"):
            subprocess.run(["umount", "-q", str(left / "bpf")], check=False, stderr=subprocess.DEVNULL)
            shutil.rmtree(left, ignore_errors=True)

    def close(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []
        (self.home / "cgroup.procs").write_text(str(os.getpid()))
        os.sched_setaffinity(0, self.everywhere)
        run("umount", "-l", self.bpffs)
        self.sweep()
        self.lock.close()


def environment():
    """What a reader needs to judge a figure."""
    cpu = next((l.split(":", 1)[1].strip() for l in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if l.startswith("model name")), "unknown")
    commit = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": os.uname().release,
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "commit": commit.stdout.strip() or "unknown",
        "haproxy": first_line("haproxy", "-v"),
        "nft": first_line("nft", "--version"),
        "sysctls": {**SYSCTLS, "nftables arm": CONNTRACK_SYSCTLS},
    }


def first_line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[0]
    except (OSError, IndexError):
        return "absent"
