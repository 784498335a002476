# SPDX-License-Identifier: Apache-2.0
"""A node in a box: network namespaces, cgroups, servers and clients for tests on real sockets.

    node ── br0 10.77.0.1, fd77::1 ─┬─ eth0 10.77.0.10, fd77::10   first pod
                                    ├─ eth0 10.77.0.11, fd77::11   second pod
                                    └─ ...

No namespace has a default route and service addresses come from ranges that nothing routes, so a connect
that was not rewritten fails with ENETUNREACH: a test cannot pass by accident. All names derive from the
test's path, what an earlier, killed run left is removed first.

lab.another(name) is a second node: an agent of its own, with its own cgroups, folders and pods on the same bridge. Wire sees what
crosses that bridge.

    node ── br0 ─┬─ eth0 of the first node's pods
                 ├─ eth0 10.77.0.101 of the second node
                 └─ eth0 10.77.0.110 of its first pod

A test file defines topology(lab) and test_*(lab) functions and ends with main(topology). Each test_* is one
TAP line; words on the command line choose some of them. A socket made by pod.new_socket() lives in that pod for good (namespace and cgroup are those of its
creation), whoever uses its descriptor, so that a test reads as one program.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import pathlib
import pickle
import re
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

import yaml

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
SO_NETNS_COOKIE = 71
libc = ctypes.CDLL(None, use_errno=True)

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("WEFT_BUILD", ROOT / "build"))
WEFTD = BUILD / "userspace/agent/weftd"
WEFT = BUILD / "userspace/cli/weft"
METRICS = "127.0.0.1:9464"

# enum weft_exit of userspace/agent/options.h
USAGE, HELD, KERNEL, PRIVILEGE = 2, 3, 4, 5

# enum bpf_cmd of linux/bpf.h
BPF_MAP_CREATE, BPF_LINK_UPDATE, BPF_ITER_CREATE = 0, 29, 33

# enum weft_outcome and enum weft_reporter of include/weft/abi/maps.h
OPEN, CLOSED, RESET, REFUSED, TIMED_OUT, ABANDONED = range(6)
SOURCE, DESTINATION = range(2)


class Skip(Exception):
    """The test cannot run here; the text says what is missing."""


class Failure(AssertionError):
    pass


# ---- what tests say ----


def equal(got, wanted, what=""):
    if got != wanted:
        raise Failure(f"{what or 'value'}: got {got!r}, wanted {wanted!r}")


def true(condition, what):
    if not condition:
        raise Failure(what)


def contains(text, part, what=""):
    if part not in text:
        raise Failure(f"{what or 'text'}: wanted {part!r} in {text!r}")


@contextlib.contextmanager
def fails(*numbers):
    """The block raises OSError with one of these errnos."""
    names = "|".join(errno.errorcode[n] for n in numbers)
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            got = errno.errorcode.get(error.errno or 0, repr(error))
            raise Failure(f"error: got {got}, wanted {names}") from error
        return
    raise Failure(f"error: got success, wanted {names}")


def wait_for(condition, what, timeout=10.0):
    """Calls condition() until it is true and returns what it returned."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"waited {timeout:g} s in vain for: {what() if callable(what) else what}")
        time.sleep(0.005)


def chi_square_bound(degrees, sigmas=5.0):
    """Value that a chi-square variable exceeds about as rarely as a normal one exceeds `sigmas` (Wilson-Hilferty)."""
    k = 2 / (9 * degrees)
    return degrees * (1 - k + sigmas * math.sqrt(k)) ** 3


def spread_fits(counts, weights):
    """Observed counts by name against weights by name, within what this sample's size allows."""
    total, weight = sum(counts.values()), sum(weights.values())
    unknown = set(counts) - set(weights)
    true(not unknown, f"answers from {unknown}, wanted only {set(weights)}")
    used = {name: w for name, w in weights.items() if w > 0}
    wrong = {name for name in counts if name not in used}
    true(not wrong and total > 0, f"spread {counts}, wanted nothing from {wrong}")
    if len(used) == 1:
        return
    expected = {name: total * w / weight for name, w in used.items()}
    true(min(expected.values()) >= 5, f"sample of {total} is too small for weights {weights}")
    statistic = sum((counts.get(name, 0) - e) ** 2 / e for name, e in expected.items())
    bound = chi_square_bound(len(used) - 1)
    rounded = {name: round(e) for name, e in expected.items()}
    true(statistic <= bound, f"spread {counts} of {total}, wanted about {rounded}: chi-square {statistic:.1f} > {bound:.1f}")


def sample_size(count):
    """Size of a sample: a share of it, WEFT_SAMPLE, where translated code makes a connection cost as much as ten."""
    return int(count * float(os.environ.get("WEFT_SAMPLE", "1")))


# ---- mesh resources ----


def port_of(value):
    """80, "80/UDP", "web=80:8080/TCP" (name=port:targetPort/protocol) -> dict."""
    text = str(value)
    name, text = text.split("=") if "=" in text else ("", text)
    text, protocol = text.split("/") if "/" in text else (text, "TCP")
    number, target = text.split(":") if ":" in text else (text, None)
    port = {"port": int(number), "protocol": protocol}
    if name:
        port["name"] = name
    if target:
        port["targetPort"] = int(target) if target.isdigit() else target
    return port


def service(name, addresses=(), ports=(80,), namespace="default", **spec):
    if isinstance(addresses, str):
        addresses = [addresses]
    spec = {"ports": [p if isinstance(p, dict) else port_of(p) for p in ports], **spec}
    if addresses:
        spec.setdefault("clusterIP", addresses[0])
        spec.setdefault("clusterIPs", list(addresses))
        if len(addresses) > 1:
            spec.setdefault("ipFamilyPolicy", "RequireDualStack")
    status = spec.pop("status", None)
    created = spec.pop("created", None)
    document = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    if created:
        document["metadata"]["creationTimestamp"] = created
    if status:
        document["status"] = status
    return document


def endpoint(address, ready=True, serving=None, terminating=None, **more):
    """`address` is text or a Pod."""
    conditions = {"ready": ready}
    if serving is not None:
        conditions["serving"] = serving
    if terminating is not None:
        conditions["terminating"] = terminating
    return {"addresses": [getattr(address, "ip", address)], "conditions": conditions, **more}


def endpoint_slice(service_name, endpoints, ports=(80,), name=None, namespace="default", weight=None):
    """Endpoints: pods, addresses or what endpoint() made. One family a slice, as upstream."""
    made = [e if isinstance(e, dict) else endpoint(e) for e in endpoints]
    v6 = bool(made) and ":" in made[0]["addresses"][0]
    name = name or f"{service_name}-{'6' if v6 else '4'}"
    metadata = {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service_name}}
    if weight is not None:
        metadata["annotations"] = {"weft.dev/weight": str(weight)}
    slice_ports = []
    for value in ports:
        port = dict(value) if isinstance(value, dict) else port_of(value)
        target = port.pop("targetPort", port["port"])
        slice_ports.append({"name": port.get("name", ""), "protocol": port["protocol"], "port": target})
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv6" if v6 else "IPv4",
        "endpoints": made,
        "ports": slice_ports,
    }


def weighted(service_name, weights, ports=(80,)):
    """One slice for each {pod: weight}."""
    return [
        endpoint_slice(service_name, [pod], ports, name=f"{service_name}-{getattr(pod, 'name', pod)}", weight=w)
        for pod, w in weights.items()
    ]


def node(name="node-1", addresses=("10.77.0.1", "fd77::1"), zone=None, **spec):
    metadata = {"name": name}
    if zone:
        metadata["labels"] = {"topology.kubernetes.io/zone": zone}
    status = {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]}
    document = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}
    if spec:
        document["spec"] = spec
    return document


def pod_resource(pod, namespace="default", labels=None, node_name=None, service_account="default", **spec):
    """The v1 Pod of a lab pod, bound to its network namespace, on the node that it is on unless told."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": namespace,
            "labels": labels or {},
            "annotations": {"weft.dev/netns": pod.netns},
        },
        "spec": {"nodeName": node_name or pod.lab.node_name, "serviceAccountName": service_account, **spec},
        "status": {"podIP": pod.ip, "podIPs": [{"ip": pod.ip}, {"ip": pod.ip6}], "phase": "Running"},
    }


AMBIENT = {"istio.io/dataplane-mode": "ambient"}


def enrolled(pod, service_account=None, namespace="default", labels=None, **more):
    """The v1 Pod of a lab pod that takes part in the secure lane; its service account is called as the pod unless told."""
    return pod_resource(pod, namespace, {"app": pod.name, **AMBIENT, **(labels or {})}, service_account=service_account or pod.name, **more)


def spiffe(pod, service_account=None, namespace="default", trust_domain="cluster.local"):
    """Identity of what enrolled() made."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account or getattr(pod, 'name', pod)}"


def peer_authentication(mode, namespace="istio-system", labels=None, ports=None, name="default"):
    spec = {"mtls": {"mode": mode}} if mode else {}
    if labels:
        spec["selector"] = {"matchLabels": labels}
    if ports:
        spec["portLevelMtls"] = {port: {"mode": m} for port, m in ports.items()}
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def authorization_policy(name, action="ALLOW", rules=None, labels=None, namespace="default", annotations=None):
    spec = {"action": action}
    if rules is not None:
        spec["rules"] = rules
    if labels:
        spec["selector"] = {"matchLabels": labels}
    metadata = {"name": name, "namespace": namespace, **({"annotations": annotations} if annotations else {})}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def from_principals(*ids):
    """A rule: these SPIFFE ids, as principals are written."""
    return {"from": [{"source": {"principals": [i.removeprefix("spiffe://") for i in ids]}}]}


def destination_rule(host, simple, namespace="default"):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": host.split(".")[0], "namespace": namespace},
        "spec": {"host": host, "trafficPolicy": {"loadBalancer": {"simple": simple}}},
    }


def mesh_config(**spec):
    return {"apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"}, "spec": spec}


# ---- processes inside pods ----

_stopping = False


def stopping():
    """Inside a spawned function: Task.stop() was called."""
    return _stopping


def _stop(_signal, _frame):
    global _stopping
    _stopping = True


class Task:
    """A function running in a process of its own inside a pod."""

    def __init__(self, pod, function, arguments):
        read, write = os.pipe()
        self.name = f"{function.__name__} in {pod.name}"
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # a stop() that comes early waits for its handler
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            sockets = [a.fileno() for a in arguments if isinstance(a, socket.socket)]
            pod.child(lambda: self._body(write, pod, function, arguments), write, *sockets)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(write)
        self.pipe = read
        pod.lab.tasks.append(self)

    @staticmethod
    def _body(write, pod, function, arguments):
        signal.signal(signal.SIGUSR1, _stop)
        signal.siginterrupt(signal.SIGUSR1, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        try:
            pod.enter()
            outcome = (True, function(*arguments))
        except BaseException as error:  # pylint: disable=broad-except
            outcome = (False, (error, traceback.format_exc()))
        try:
            data = pickle.dumps(outcome)
        except Exception:  # pylint: disable=broad-except
            data = pickle.dumps((False, (RuntimeError(repr(outcome)), "")))
        with os.fdopen(write, "wb") as out:
            out.write(data)

    def stop(self):
        os.kill(self.pid, signal.SIGUSR1)
        return self

    def kill(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.pipe)
            self.pid = 0

    def result(self, timeout=60.0):
        data, end = b"", time.monotonic() + timeout
        while True:
            if not select.select([self.pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                self.kill()
                raise Failure(f"{self.name} did not end within {timeout:g} s")
            part = os.read(self.pipe, 1 << 20)
            if not part:
                break
            data += part
        os.close(self.pipe)
        os.waitpid(self.pid, 0)
        self.pid = 0
        if not data:
            raise Failure(f"{self.name} was killed")
        good, value = pickle.loads(data)
        if not good:
            error, text = value
            if isinstance(error, (OSError, AssertionError)):
                raise error
            raise Failure(f"{self.name}: {text}")
        return value


def _factory(channel):
    while True:
        request = channel.recv(256)
        if not request:
            return
        family, kind, protocol = struct.unpack("3i", request)
        try:
            with socket.socket(family, kind, protocol) as made:
                socket.send_fds(channel, [b"\0\0\0\0"], [made.fileno()])
        except OSError as error:
            channel.send(struct.pack("i", error.errno))


def tcp_server(listener, name, mode):
    """echo: says its name and a newline, then echoes; half-close is answered with what is left and a close.
    ends: the same, and the line is its name, its peer's and its own address and port, with blanks between.
    sink: reads to the end, then says how many bytes came. quiet: accepts and says nothing."""
    poll = selectors.DefaultSelector()
    listener.setblocking(False)
    poll.register(listener, selectors.EVENT_READ)
    seen = {}
    greeting = f"{name}\n".encode()
    while True:
        for key, _ in poll.select():
            if key.fileobj is listener:
                with contextlib.suppress(OSError):
                    connection, _peer = listener.accept()
                    connection.settimeout(10)
                    seen[connection] = 0
                    poll.register(connection, selectors.EVENT_READ)
                    if mode == "echo":
                        connection.sendall(greeting)
                    if mode == "ends":
                        connection.sendall(ends_line(name, connection))
                continue
            connection = key.fileobj
            try:
                data = connection.recv(1 << 16)
                seen[connection] += len(data)
                if data and mode in ("echo", "ends"):
                    connection.sendall(data)
                if not data and mode == "sink":
                    connection.sendall(str(seen[connection]).encode())
            except OSError:
                data = b""
            if not data:
                poll.unregister(connection)
                del seen[connection]
                connection.close()


def ends_line(name, made):
    peer, own = made.getpeername()[:2], made.getsockname()[:2]
    return f"{name} {plain(peer[0])} {peer[1]} {plain(own[0])} {own[1]}\n".encode()


def plain(address):
    """An IPv4 address as such, however a socket of both families shows it."""
    return address.removeprefix("::ffff:")


def udp_server(server, name):
    """Answers every datagram with its name, a blank and the datagram."""
    while True:
        with contextlib.suppress(OSError):
            data, peer = server.recvfrom(1 << 16)
            server.sendto(f"{name} ".encode() + data, peer)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Pod:
    """A network namespace and a cgroup. `host` pods share the node's namespace."""

    def __init__(self, lab, name, netns, ip, ip6, cgroup):
        self.lab, self.name, self.netns, self.ip, self.ip6, self.cgroup = lab, name, netns, ip, ip6, cgroup
        self.netns_fd = os.open(f"/run/netns/{netns}", os.O_RDONLY | os.O_CLOEXEC)
        self.channel = None

    def __repr__(self):
        return self.name

    def enter(self):
        """Moves this process into the pod: the cgroup first, because sockets take theirs from their maker."""
        (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))
        if libc.setns(self.netns_fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def child(self, body, *keep):
        """Runs body() in this just forked process and ends it; it does not outlive the test. Of the test's descriptors
        it has those in `keep` alone: a connection that the test closes is closed."""
        code = 1
        try:
            self.lab.bind_life()
            if self.lab.outlive:  # whoever reads our output through a pipe would wait for as long as this one lives
                nothing = os.open(os.devnull, os.O_RDWR)
                for number in range(3):
                    os.dup2(nothing, number)
            for number in map(int, os.listdir("/proc/self/fd")):
                if number > 2 and number not in (self.netns_fd, *keep):
                    with contextlib.suppress(OSError):
                        os.close(number)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            body()
            code = 0
        except BaseException:  # pylint: disable=broad-except
            traceback.print_exc()
        finally:
            os._exit(code)

    def new_socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0, timeout=5.0):
        if self.channel is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pid = os.fork()
            if pid == 0:
                ours.close()
                self.child(lambda: (self.enter(), self.lab.tune(), _factory(theirs)), theirs.fileno())
            theirs.close()
            self.channel = ours
        self.channel.send(struct.pack("3i", family, kind, protocol))
        data, fds, _flags, _address = socket.recv_fds(self.channel, 4, 1)
        if not fds:
            raise OSError(struct.unpack("i", data)[0] if data else errno.EPIPE, f"socket in {self.name}")
        made = socket.socket(fileno=fds[0])
        made.settimeout(timeout)
        return made

    def connect(self, address, port, timeout=5.0, family=None, kind=socket.SOCK_STREAM):
        made = self.new_socket(family or family_of(address), kind, timeout=timeout)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    def who(self, address, port, family=None):
        """One connection: the name of the pod that answered. Ends it by a reset, so that nothing lingers."""
        with self.connect(address, port, family=family) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return read_name(made)

    def ask(self, address, port, text=b"?", family=None):
        """One datagram over a connected UDP socket: the name of the pod that answered."""
        with self.connect(address, port, family=family, kind=socket.SOCK_DGRAM) as made:
            made.send(text)
            return made.recv(1 << 16).split()[0].decode()

    def spread(self, address, port, count, family=None):
        """{pod name: connections} of `count` connections one after the other, by one process."""
        return self.run(_spread, family or family_of(address), address, port, count)

    def load(self, address, port):
        """Connections until Task.stop(); result: {"ok": n, "errors": {text: n}, "names": {pod: n}}."""
        return self.spawn(_load, family_of(address), address, port)

    def spawn(self, function, *arguments):
        return Task(self, function, arguments)

    def run(self, function, *arguments, timeout=60.0):
        return self.spawn(function, *arguments).result(timeout)

    def popen(self, argv, **options):
        """A real program inside the pod."""
        process = subprocess.Popen([str(a) for a in argv], preexec_fn=self._exec_enter, **options)
        self.lab.processes.append(process)
        return process

    def output(self, argv, timeout=30.0):
        """(exit code, stdout and stderr) of a real program inside the pod."""
        process = self.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return process.communicate(timeout=timeout)[0], process.returncode

    def _exec_enter(self):
        self.lab.bind_life()
        self.enter()

    def _serve(self, server, function, *arguments):
        return_task = self.spawn(function, server, self.name, *arguments)
        server.close()
        return return_task

    def serve(self, port=80, mode="echo", address="::", backlog=4096):
        """TCP on all addresses of the pod, both families."""
        server = self.new_socket(family_of(address))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(backlog)
        return self._serve(server, tcp_server, mode)

    def serve_udp(self, port=53, address=None):
        """UDP on the pod's own addresses: one socket a family, so that answers leave from the address asked."""
        tasks = []
        for own in [address] if address else [self.ip, self.ip6]:
            server = self.new_socket(family_of(own), socket.SOCK_DGRAM, timeout=None)
            server.bind((own, port))
            tasks.append(self._serve(server, udp_server))
        return tasks

    def cookie(self):
        """None before Linux 5.14, which does not tell."""
        with self.new_socket() as made, contextlib.suppress(OSError):
            return struct.unpack("Q", made.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0]
        return None


def read_name(made):
    data = b""
    while not data.endswith(b"\n"):
        part = made.recv(256)
        if not part:
            raise ConnectionError(errno.ECONNABORTED, "the server closed before it said its name")
        data += part
    return data.decode().strip()


def read_ends(made):
    """What an `ends` server said: (name, (address, port) of its peer, (address, port) of itself)."""
    name, peer, peer_port, own, own_port = read_name(made).split()
    return name, (peer, int(peer_port)), (own, int(own_port))


def reset(made):
    """Ends a TCP connection by RST."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()


def _one(family, address, port):
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.settimeout(10)
        made.connect((address, port))
        name = read_name(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return name


def _spread(family, address, port, count):
    counts = {}
    for _ in range(count):
        name = _one(family, address, port)
        counts[name] = counts.get(name, 0) + 1
    return counts


def _load(family, address, port):
    result = {"ok": 0, "errors": {}, "names": {}}
    while not stopping():
        try:
            name = _one(family, address, port)
            result["ok"] += 1
            result["names"][name] = result["names"].get(name, 0) + 1
        except OSError as error:
            text = errno.errorcode.get(error.errno or 0, str(error))
            result["errors"][text] = result["errors"].get(text, 0) + 1
    return result


# ---- the lab ----


def masked():
    """WEFT_WITHOUT="fetch_atomics set_retval": every test as if this kernel lacked these features."""
    return [word for name in os.environ.get("WEFT_WITHOUT", "").split() for word in ("--without-feature", name)]


class Lab:
    net, net6 = "10.77.0.", "fd77::"
    outlive = False  # processes stay when this one ends
    node_name, first_host = "node-1", 1

    def __init__(self, name, prefix=None, base=None):
        """`prefix` of network namespaces, `base` of folder and cgroup; both from a hash of the name unless told."""
        short = hashlib.sha256(name.encode()).hexdigest()[:6]
        base = base or f"weft-t-{short}"
        self.prefix = prefix or f"wt-{short}-"
        self.base, self.others, self.first = base, [], self
        self.node_ip, self.node_ip6 = self.addresses(self.first_host)
        self.folder = pathlib.Path("/run") / base  # not /tmp: nobody else can have put anything there
        self.config, self.pins = self.folder / "config", self.folder / "bpf/weft"
        self.state, self.run_folder = self.folder / "state", self.folder / "run"
        self.log = self.folder / "weftd.log"
        self.root = cgroup2_root() / base
        self.subtree = self.root / "pods"
        self.governed = self.subtree  # --cgroup; secure() widens it to the agent's own cgroup
        self.pods, self.tasks, self.processes = {}, [], []
        self.agent, self.notify, self.node = None, None, None

    # -- birth and death

    def up(self):
        self.down()
        for folder in (self.config, self.folder / "bpf", self.state, self.run_folder):
            folder.mkdir(parents=True)
        sh("mount", "-t", "bpf", "bpf", self.folder / "bpf")
        for cgroup in (self.root, self.subtree, self.root / "agent"):
            cgroup.mkdir()
        self._netns("node")
        self._uplink()
        self.node = self._add("node", self.prefix + "node", self.node_ip, self.node_ip6)

    def _uplink(self):
        ip(self.prefix + "node", f"""
            link add br0 type bridge
            addr add {self.node_ip}/24 dev br0
            addr add {self.node_ip6}/64 dev br0 nodad
            link set br0 up""")

    def addresses(self, host):
        return f"{self.net}{host}", f"{self.net6}{host:x}"

    def another(self, name="node-2"):
        """A second node, or a third: as this lab, with an agent, cgroups, folders and pods of its own on this lab's bridge."""
        made = Another(self, name, len(self.others) + 1)
        self.others.append(made)
        made.up()
        return made

    def secure(self):
        """Before start(): the agent's own cgroup is one of those that it governs, as the secure lane needs."""
        self.governed = self.root
        for other in self.others:
            other.governed = other.root

    def _netns(self, name):
        sh("ip", "netns", "add", self.prefix + name)
        ip(self.prefix + name, "link set lo up")

    def _add(self, name, netns, address, address6):
        cgroup = self.subtree / name
        cgroup.mkdir()
        made = Pod(self, name, netns, address, address6, cgroup)
        self.pods[name] = made
        return made

    def pod(self, name, extra=()):
        """A pod on the bridge; `extra` addresses with prefix length are given to its eth0 too."""
        host = self.first_host + 8 + len(self.pods)
        self._netns(name)
        address, address6 = self.addresses(host)
        self._plug(host, self.prefix + name)
        ip(self.prefix + name, f"""
            addr add {address}/24 dev eth0
            addr add {address6}/64 dev eth0 nodad
            {"".join(f"addr add {a} dev eth0{' nodad' if ':' in a else ''}{chr(10)}" for a in extra)}
            link set eth0 up""")
        return self._add(name, self.prefix + name, address, address6)

    def _plug(self, host, netns):
        ip(self.first.prefix + "node", f"""
            link add v{host} type veth peer name eth0 netns {netns}
            link set v{host} master br0 up""")

    def host(self, name):
        """A pod with hostNetwork."""
        return self._add(name, self.prefix + "node", self.node_ip, self.node_ip6)

    @staticmethod
    def tune():
        """This process's namespace: enough ports for tests that open many connections."""
        for key, value in (("ip_local_port_range", "1024 65535"), ("tcp_tw_reuse", "1")):
            pathlib.Path(f"/proc/sys/net/ipv4/{key}").write_text(value)

    def down(self):
        """Removes all that this test's name could have left, whoever made it. Takes every state."""
        for other in self.others:
            other.down()
        self.others = []
        for folder in sorted(self.root.glob("**/"), reverse=True) if self.root.exists() else ():
            with contextlib.suppress(OSError):
                (folder / "cgroup.kill").write_text("1")
        for process in self.processes:
            process.kill()
            process.wait()
        for task in self.tasks:
            with contextlib.suppress(OSError):
                task.kill()
        self.processes, self.tasks, self.agent = [], [], None
        for pod in self.pods.values():
            os.close(pod.netns_fd)
            if pod.channel:
                pod.channel.close()
        self.pods = {}
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        mounted = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
        for where in reversed([m for m in mounted if self.folder in pathlib.Path(m).parents]):
            sh("umount", "-l", where)
        for netns in pathlib.Path("/run/netns").glob(self.prefix + "*"):
            sh("ip", "netns", "del", netns.name)
        for folder in sorted(self.root.glob("**/"), reverse=True) if self.root.exists() else ():
            wait_for(lambda f=folder: not (f / "cgroup.procs").read_text(), f"processes of {folder} to end")
            folder.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- the agent

    def flags(self):
        return ["--config", self.config, "--node", self.node_name, "--cgroup", self.governed, "--pins", self.pins,
                "--state", self.state, "--run", self.run_folder, "--metrics", METRICS]

    def bind_life(self):
        """This just forked process ends with the test, or, if it is to outlive it, no longer belongs to its terminal."""
        if self.outlive:
            os.setsid()
        else:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def faults_env(self):
        """For start(env=...): bpf_fault() then works."""
        return {"LD_PRELOAD": str(BUILD / "tests/netns/libweft-bpf-faults.so"), "WEFT_BPF_FAULTS": str(self.folder / "fault"),
                "ASAN_OPTIONS": "verify_asan_link_order=0"}

    @contextlib.contextmanager
    def bpf_fault(self, command, number, skip=0):
        """In the block bpf(2) fails for this command with this errno, but the first `skip` times of a process."""
        aside = self.folder / "aside"
        aside.write_text(f"{command} {number} {skip}")
        aside.rename(self.folder / "fault")
        try:
            yield
        finally:
            (self.folder / "fault").unlink()

    def agent_enter(self):
        self.bind_life()
        (self.root / "agent/cgroup.procs").write_text(str(os.getpid()))
        if libc.setns(self.node.netns_fd, CLONE_NEWNET) != 0:
            os._exit(111)

    def launch(self, *more, flags=None, env=None, wrap=(), enter=None):
        """Starts weftd without waiting; `wrap` is a command that starts it, enter() runs in its process before that."""
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        if self.notify:
            self.notify.close()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(path))
        with open(self.log, "ab") as log:
            self.agent = subprocess.Popen(
                [str(a) for a in [*wrap, WEFTD, *(self.flags() if flags is None else flags), *masked(), *more]], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, preexec_fn=lambda: (self.agent_enter(), enter and enter()), env={**os.environ, "NOTIFY_SOCKET": str(path), **(env or {})})
        self.processes.append(self.agent)
        return self.agent

    def start(self, *more, timeout=20.0, **options):
        """Starts weftd and waits until it says that it is ready."""
        self.launch(*more, **options)
        end = time.monotonic() + timeout
        while True:
            self.notify.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in self.notify.recv(4096):
                    self.refused = errno.ECONNREFUSED if self.has("set_retval") else errno.EPERM
                    return
            if self.agent.poll() is not None:
                raise Failure(f"weftd ended with {self.agent.returncode} before it was ready:\n{self.tail()}")
            if time.monotonic() > end:
                raise Failure(f"weftd was not ready within {timeout:g} s:\n{self.tail()}")

    def stop(self, number=signal.SIGTERM, timeout=15.0):
        self.agent.send_signal(number)
        code = self.agent.wait(timeout)
        self.processes.remove(self.agent)
        self.agent = None
        return code

    def refusal(self, *more, code=None, flags=None, timeout=20.0, wrap=()):
        """Starts weftd, which must end by itself with an error (and this exit code): what it said."""
        before = self.log.stat().st_size if self.log.exists() else 0
        keep, notify, self.notify = self.agent, self.notify, None
        process = self.launch(*more, flags=flags, wrap=wrap)
        try:
            got = process.wait(timeout)
        except subprocess.TimeoutExpired as late:
            process.kill()
            process.wait()
            raise Failure(f"weftd went on running, wanted a refusal:\n{self.tail()}") from late
        finally:
            self.notify.close()
            self.agent, self.notify = keep, notify
            self.processes.remove(process)
        text = self.log.read_bytes()[before:].decode(errors="replace")
        true(got > 0 if code is None else got == code, f"weftd ended with {got}, wanted {code or 'an error'}: {text}")
        return text

    def tail(self, lines=40):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # -- configuration

    def write(self, name, documents):
        """Writes a file aside and renames it into place. Text, a document or a list of them. False: it says that already."""
        if not isinstance(documents, str):
            documents = yaml.safe_dump_all(documents if isinstance(documents, list) else [documents], sort_keys=False)
        aside, there = self.folder / "aside", self.config / name
        if there.exists() and there.read_text() == documents:
            return False
        aside.write_text(documents)
        aside.rename(there)
        return True

    def apply(self, name, documents, timeout=10.0):
        """Writes what changes something in the kernel, and waits until it is there."""
        before = self.status()["config"]["generation"]
        if not self.write(name, documents):
            return
        wait_for(lambda: self.status()["config"]["generation"] > before, f"configuration {name} to be in force", timeout)

    def remove(self, name, timeout=10.0):
        before = self.status()["config"]["generation"]
        (self.config / name).unlink()
        wait_for(lambda: self.status()["config"]["generation"] > before, f"{name} to be gone", timeout)

    # -- what can be seen

    def attached(self):
        """Ids of the links on the pods' cgroup; they go a moment after their last pin."""
        cgroup = os.stat(self.subtree).st_ino
        return [link["id"] for link in json.loads(sh("bpftool", "-j", "link", "list") or "[]") if link.get("cgroup_id") == cgroup]

    def has(self, feature):
        """Whether this kernel has it, and no option took it away."""
        return next(f["there"] for f in self.request({"request": "feature.list"})["features"] if f["name"] == feature)

    def request(self, message):
        """One request over the control socket: the answer."""
        with socket.socket(socket.AF_UNIX) as made:
            made.settimeout(10)
            made.connect(str(self.run_folder / "weft.sock"))
            made.sendall(json.dumps(message).encode() + b"\n")
            line = made.makefile().readline()
        answer = json.loads(line)
        true(answer["ok"], f"{message}: {answer}")
        return answer

    def status(self):
        return self.request({"request": "status"})["status"]

    def problems(self):
        return self.request({"request": "config.problems"})["problems"]

    def role(self, name):
        """Pid of a role."""
        return next(r["pid"] for r in self.status()["roles"] if r["role"] == name)

    def wait_for_another(self, name, pid):
        """Until a role that was this process is another one that is ready."""
        def back():
            with contextlib.suppress(OSError, ValueError):
                return self.role(name) not in (pid, 0) and self.status()["ready"]
            return False

        wait_for(back, f"{name} to come back", 30)

    def kill(self, name):
        """Kills a role and waits until it is back."""
        pid = self.role(name)
        os.kill(pid, signal.SIGKILL)
        self.wait_for_another(name, pid)

    def cli(self, *words, timeout=20.0, stdin=None):
        """(exit code, stdout, stderr) of the CLI on this instance."""
        argv = [WEFT, "--pins", self.pins, "--state", self.state, "--run", self.run_folder, *words]
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, check=False, input=stdin)
        return done.returncode, done.stdout, done.stderr

    def weft(self, *words):
        """The CLI's JSON, parsed."""
        code, out, err = self.cli("-j", *words)
        if code != 0:
            raise Failure(f"weft -j {' '.join(map(str, words))}: exit {code}: {err or out}")
        return json.loads(out)

    def http(self, path="/metrics", address=METRICS):
        """(status, body) over the node's namespace, as Prometheus on the node would."""
        host, port = address.rsplit(":", 1)
        with self.node.connect(host, int(port)) as made:
            made.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while part := made.recv(1 << 16):
                data += part
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def metrics_text(self, address=METRICS):
        """/metrics, asked for again while it says 503 or nothing, as on a busy machine."""
        def served():
            with contextlib.suppress(TimeoutError):
                status, body = self.http(address=address)
                true(status in (200, 503), f"/metrics: status {status}: {body}")
                return body if status == 200 else None

        return wait_for(served, "/metrics to be served", 30)

    def metrics(self):
        """[(name, labels, value)] of /metrics."""
        return [sample(line) for line in self.metrics_text().splitlines() if line and not line.startswith("#")]

    def metric(self, name, **labels):
        """Sum over the samples that have these labels."""
        return sum(v for n, l, v in self.metrics() if n == name and labels.items() <= l.items())

    def maps(self, name):
        """bpftool's dump of a pinned map: the formatted entries."""
        out = sh("bpftool", "-j", "map", "dump", "pinned", self.pins / "v1/map" / name)
        return [entry.get("formatted", entry) for entry in json.loads(out)]

    def entries(self, name):
        """How many a pinned map has room for."""
        shown = json.loads(sh("bpftool", "-j", "map", "show", "pinned", self.pins / "v1/map" / name))
        return (shown[0] if isinstance(shown, list) else shown)["max_entries"]

    def live(self):
        """Connections that weft_live holds, summed over all endpoints."""
        return self.weft("status")["kernel"]["live"]

    def aggregate(self, field, **key):
        """Sum of a field of weft_aggregate over the rows whose key has these members."""
        rows = self.maps("weft_aggregate")
        return sum(r["value"][field] for r in rows if all(r["key"][k] == v for k, v in key.items()))

    def counter(self, name):
        """One of lists/counter.h, as /metrics and the CLI show it: the sum over all CPUs."""
        names = re.findall(r'^WEFT_COUNTER\(\w+, "(\w+)"', (ROOT / "include/weft/lists/counter.h").read_text(), re.MULTILINE)
        index = names.index(name)
        for entry in self.maps("weft_counter"):
            if entry["key"] == index:
                return sum(int(v["value"]) for v in entry["values"])
        raise Failure(f"weft_counter has no entry {index} ({name})")


class Another(Lab):
    """A further node of a lab."""

    def __init__(self, first, name, number):
        self.node_name, self.first_host, self.net, self.net6 = name, 1 + 80 * number, first.net, first.net6
        super().__init__("", f"{first.prefix}{number + 1}-", f"{first.base}-{number + 1}")
        self.first, self.outlive = first, first.outlive

    def _uplink(self):
        self._plug(self.first_host, self.prefix + "node")
        ip(self.prefix + "node", f"""
            addr add {self.node_ip}/24 dev eth0
            addr add {self.node_ip6}/64 dev eth0 nodad
            link set eth0 up""")


class Wire:
    """TCP payload that crosses a lab's bridge from now on, by direction: {(source, port, destination, port): bytes}. With `to` only what
    goes to that port over IPv4, so that a capture under load need not hold all."""

    def __init__(self, lab, to=None):
        self.socket = lab.first.node.new_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        if to:
            self._filter(to)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.parts, self.begin, self.syns = {}, {}, set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _filter(self, port):
        """linux/filter.h: loads of a halfword (0x28) or byte (0x30) at an offset, jumps when equal (0x15), returns (6)."""
        code = [(0x28, 0, 0, 12), (0x15, 0, 5, 0x0800), (0x30, 0, 0, 23), (0x15, 0, 3, 6), (0x28, 0, 0, 36), (0x15, 0, 1, port), (6, 0, 0, 0x40000), (6, 0, 0, 0)]
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
        self.socket.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))  # SO_ATTACH_FILTER

    def _frame(self, data):
        kind = struct.unpack("!H", data[12:14])[0]
        if kind == 0x0800 and data[23] == 6:
            family, source, destination = socket.AF_INET, data[26:30], data[30:34]
            segment = data[14 + (data[14] & 15) * 4:14 + struct.unpack("!H", data[16:18])[0]]
        elif kind == 0x86DD and data[20] == 6:
            family, source, destination = socket.AF_INET6, data[22:38], data[38:54]
            segment = data[54:54 + struct.unpack("!H", data[18:20])[0]]
        else:
            return
        here, there, sequence = struct.unpack("!HHI", segment[:8])
        flow = (socket.inet_ntop(family, source), here, socket.inet_ntop(family, destination), there)
        if segment[13] & 2:
            self.begin[flow] = (sequence + 1) & 0xFFFFFFFF
            self.parts[flow] = {}
            if not segment[13] & 16:
                self.syns.add(flow)
        payload = segment[(segment[12] >> 4) * 4:]
        if payload:
            at = (sequence - self.begin.setdefault(flow, sequence)) & 0xFFFFFFFF
            self.parts.setdefault(flow, {})[at] = payload

    def collect(self):
        """What came so far; a frame is seen once for each port of the bridge that it crosses."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._frame(self.socket.recv(1 << 17))
        lost = struct.unpack("II", self.socket.getsockopt(263, 6, 8))[1]  # SOL_PACKET, PACKET_STATISTICS
        true(lost == 0, f"the capture lost {lost} frames")
        flows = {}
        for flow, parts in self.parts.items():
            data = bytearray()
            for at in sorted(parts):
                if at <= len(data):
                    data[at:at + len(parts[at])] = parts[at]
            flows[flow] = bytes(data)
        return flows

    def showing(self, marker):
        """Flows in which these bytes can be read."""
        return [flow for flow, data in self.collect().items() if marker in data]

    def tls(self, port=15008):
        """Flows of a port: each must be TLS records and nothing else, with application data in them. How many bytes they have."""
        total = 0
        for flow, data in self.collect().items():
            if port not in (flow[1], flow[3]) or not data:
                continue
            at, kinds = 0, set()
            while at + 5 <= len(data):
                kind, version, size = struct.unpack("!BHH", data[at:at + 5])
                true(kind in (20, 21, 22, 23) and version in (0x0301, 0x0303) and size <= 16384 + 256, f"{flow}: no TLS record at {at}: {data[at:at + 16]!r}")
                kinds.add(kind)
                at += 5 + size
            true(23 in kinds, f"{flow}: TLS without application data")
            total += len(data)
        return total


def sample(line):
    """One line of Prometheus' text format."""
    head, value = line.rsplit(" ", 1)
    name, _, rest = head.partition("{")
    labels, at = {}, 0
    while rest and rest[at] != "}":
        equals = rest.index("=", at)
        key, at, text = rest[at:equals].lstrip(","), equals + 2, ""
        while rest[at] != '"':
            if rest[at] == "\\":
                at += 1
                text += {"n": "\n"}.get(rest[at], rest[at])
            else:
                text += rest[at]
            at += 1
        labels[key] = text
        at += 1
    return name, labels, float(value)


def cgroup2_root():
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _device, where, kind = line.split()[:3]
        if kind == "cgroup2":
            return pathlib.Path(where)
    raise Skip("no cgroup2 is mounted")


def pinned_link(path):
    """bpftool's description of a pinned link. Its exit status is no answer: version 7.5 says 255 after having shown a link."""
    done = subprocess.run(["bpftool", "-j", "link", "show", "pinned", path], capture_output=True, text=True, check=False)
    if not done.stdout:
        raise Failure(f"bpftool link show pinned {path}: {done.stderr.strip()}")
    link = json.loads(done.stdout)
    if "error" in link:
        raise Failure(f"bpftool link show pinned {path}: {link['error']}")
    return link[0] if isinstance(link, list) else link


def sh(*argv, stdin=None):
    """Output of a command that has to succeed."""
    done = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(str(a) for a in argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def ip(netns, lines):
    sh("ip", "-n", netns, "-batch", "-", stdin="".join(f"{line.strip()}\n" for line in lines.splitlines() if line.strip()))


def _test_name(path):
    """tests/netns/weights.py -> netns.weights."""
    return f"{path.parent.name}.{path.stem}"


def main(topology):
    """Builds the lab, runs every test_* of the calling file against it, takes all away."""
    module = sys.modules["__main__"]
    path = pathlib.Path(module.__file__).resolve()
    tests = [(n[5:], f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    unknown = set(wanted) - {name for name, _function in tests}
    if unknown:
        sys.exit(f"{path.name}: there is no case {', '.join(sorted(unknown))}; there is {', '.join(name for name, _function in tests)}")
    tests = [(name, function) for name, function in tests if not wanted or name in wanted]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        if os.geteuid() != 0:
            raise Skip("needs root: network namespaces and BPF")
        lab = Lab(_test_name(path))
    except Skip as reason:
        print(f"1..0 # SKIP {reason}")
        return
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    try:
        lab.up()
        topology(lab)
        if "WEFT_SHOW_FEATURES" in os.environ and lab.agent:  # for vmtests, which knows what each kernel should have
            for feature in lab.weft("feature", "list"):
                print(f"# feature {feature['name']} {'there' if feature['there'] else 'missing'} {feature['need']}")
        if "--shell" in sys.argv:
            _shell(lab)
            return
        for number, (name, function) in enumerate(tests, 1):
            failed += not _tap(number, name, lambda f=function: f(lab))
        text = lab.log.read_text(errors="replace") if lab.log.exists() else ""
        if failed:
            print("\n".join("# weftd: " + line for line in text.splitlines()[-40:]))
    except BaseException as error:  # pylint: disable=broad-except
        if not isinstance(error, SystemExit):
            print("Bail out! " + "".join(traceback.format_exception(error)).strip().replace("\n", "\n# "), flush=True)
        failed += 1
    finally:
        lab.down()
    sys.exit(1 if failed else 0)


def _tap(number, name, run):
    start = time.monotonic()
    try:
        run()
    except Skip as reason:
        print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        return True
    except Exception as error:  # pylint: disable=broad-except
        print(f"not ok {number} - {name}")
        text = str(error) if isinstance(error, Failure) else "".join(traceback.format_exception(error))
        where = traceback.extract_tb(error.__traceback__)[-1] if not isinstance(error, Failure) else None
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == sys.modules["__main__"].__file__:
                where = frame
        print("\n".join("# " + line for line in text.splitlines()))
        if where:
            print(f"#   at {where.filename}:{where.lineno}: {where.line}")
        sys.stdout.flush()
        return False
    print(f"ok {number} - {name} # {time.monotonic() - start:.2f} s", flush=True)
    return True


def _shell(lab):
    print(f"\nconfiguration {lab.config}, log {lab.log}\nPods (nsenter --net=/run/netns/NAME):")
    for pod in lab.pods.values():
        print(f"  {pod.name:12} {pod.netns:24} {pod.ip} {pod.ip6}  cgroup {pod.cgroup}")
    first = next((p for p in lab.pods.values() if p.name != "node"), lab.node)
    print(f"This shell is inside {first.name}; `exit` takes everything away.")
    env = {**os.environ, "PATH": f"{WEFT.parent}:{WEFTD.parent}:{os.environ['PATH']}", "PS1": f"{first.name}# ",
           "WEFT_PINS": str(lab.pins), "WEFT_STATE": str(lab.state), "WEFT_RUN": str(lab.run_folder)}
    process = subprocess.Popen(["bash", "--norc"], preexec_fn=first._exec_enter, env=env)
    process.wait()
