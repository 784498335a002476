#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The kernel's part of the secure lane: what is captured, attested, judged, and what is not; a stand-in plays the agent.

    client, other ── attached ──┐                       10.96.0.1, fd96::1 ──> web
    web           ── attached ──┴── bridge ── remote, a workload that is elsewhere and takes HBONE
    stranger      ── not attached                       10.96.0.2, fd96::2 ──> remote
"""

from lab import *

OUTBOUND, HBONE = 15001, 15008
SO_ORIGINAL_DST = 80
ORIGINAL = struct.Struct("=16s16sHHIIIIIQQ")
assert ORIGINAL.size == 72
# WEFT_SETTING_F_ and WEFT_WORKLOAD_F_ of include/weft/abi/maps.h
METRICS_ON, SECURE, ENCRYPT, POLICIES = 0x02, 0x08, 0x10, 0x20
TUNNEL, LOCAL = 1, 2
READY, CLUSTER_IP = 1, 1  # enum weft_endpoint_state, enum weft_frontend_type
WORKLOAD = {"client": 1, "other": 2, "web": 3, "remote": 4, "stranger": 5}
OPENED_EVENT, REFUSED_EVENT = "1", "3"  # enum weft_event_type
FAMILIES = ((socket.AF_INET, "ip"), (socket.AF_INET6, "ip6"))


def packed(address):
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return b"\0" * 10 + b"\xff\xff" + socket.inet_aton(address)


def be16(number):
    return struct.pack("!H", number)


def shown(address):
    """As inet_ntop would, IPv4 without its mapping."""
    return socket.inet_ntop(socket.AF_INET, address[12:]) if address.startswith(packed("0.0.0.0")[:12]) \
        else socket.inet_ntop(socket.AF_INET6, address)


class Kit:
    """tests/lib/secure_kit.c in the agent's cgroup."""

    def __init__(self, lab, cgroup):
        self.process = subprocess.Popen([BUILD / "tests/netns/weft-secure-kit"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1, preexec_fn=lambda: self._enter(lab, cgroup))
        lab.processes.append(self.process)

    @staticmethod
    def _enter(lab, cgroup):
        lab.bind_life()
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    def __call__(self, *words):
        self.process.stdin.write(" ".join(w.hex() if isinstance(w, bytes) else str(w) for w in words) + "\n")
        answer = self.process.stdout.readline().split(maxsplit=2)
        true(answer, f"{words[0]}: the kit died")
        if answer[0] == "error":
            raise OSError(int(answer[1]), answer[2])
        return answer[1:]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def opened(lab):
    """A kit with the instance open: what it found."""
    lab.kit = Kit(lab, lab.root / "agent")
    return lab.kit("open", lab.root, lab.pins, *os.environ.get("WEFT_WITHOUT", "").split())


def cookie(lab, pod):
    """Also before Linux 5.14, which tells it to programs only."""
    if not hasattr(pod, "known_cookie"):
        pod.known_cookie = int(lab.kit("cookie", f"/run/netns/{pod.netns}")[0])
    return pod.known_cookie


# ---- rows ----


def clauses(*bits):
    return sum(1 << b for b in bits).to_bytes(32, "little")


ALL, NONE = clauses(*range(256)), clauses()


def policy_row(deny=NONE, allow=NONE, no_source=ALL, any_address=ALL, any_port=ALL, only_allowed=False):
    return deny + allow + NONE + NONE + no_source + any_address + any_address + any_port + struct.pack("=II", int(only_allowed), 0)


def set_policy(lab, name, policy):
    """The workload's row; `policy` 0: none. Rows of sets: write_policies()."""
    flags = TUNNEL | (0 if name == "remote" else LOCAL)
    lab.kit("put", "weft_workload", struct.pack("=I", WORKLOAD[name]), struct.pack("=IIII", policy, WORKLOAD[name], flags, 0))


# Sets: 1 denies whoever has no identity (STRICT); 2 allows the client's identity alone; 3 denies the client's alone;
# 4 allows one address alone; 5 denies port 81
STRICT, ONLY_CLIENT, NOT_CLIENT, ONLY_ADDRESS, NOT_81 = range(1, 6)


def write_policies(lab):
    def source(policy, name, value):
        lab.kit("put", "weft_policy_source", struct.pack("=II", policy, WORKLOAD[name]), value)

    def put(policy, row):
        lab.kit("put", "weft_policy", struct.pack("=I", policy), row)

    put(STRICT, policy_row(deny=clauses(0)))
    put(ONLY_CLIENT, policy_row(allow=clauses(0), no_source=NONE, only_allowed=True))
    put(NOT_CLIENT, policy_row(deny=clauses(0), no_source=NONE))
    put(ONLY_ADDRESS, policy_row(allow=clauses(0), any_address=NONE, only_allowed=True))
    put(NOT_81, policy_row(deny=clauses(0), any_port=NONE))
    for name in ("client", "other", "web"):
        source(STRICT, name, NONE)
        source(ONLY_CLIENT, name, clauses(0) if name == "client" else NONE)
        source(NOT_CLIENT, name, clauses(0) if name == "client" else NONE)
        source(ONLY_ADDRESS, name, clauses(0))
        source(NOT_81, name, clauses(0))
    for address in (lab.stranger.ip, lab.stranger.ip6):
        lab.kit("put", "weft_policy_cidr", struct.pack("=I", 160) + struct.pack("!I", ONLY_ADDRESS) + packed(address), clauses(0))
    lab.kit("put", "weft_policy_port", struct.pack("=I", NOT_81) + be16(81) + b"\0\0", clauses(0))


def service_rows(lab, service_id, addresses, name, index):
    """A service by hand: one frontend an address, port 80, each with one slot and one endpoint."""
    pod = lab.pods[name]
    for address, own in zip(addresses, (pod.ip, pod.ip6)):
        endpoint_id = 1 << 20 | index
        lab.kit("put", "weft_endpoint", struct.pack("=I", index),
                packed(own) + be16(80) + struct.pack("=BBIIIII", socket.IPPROTO_TCP, READY, endpoint_id, service_id, WORKLOAD[name], 1, 0))
        lab.kit("put", "weft_slot", struct.pack("=I", index), struct.pack("=IIII", endpoint_id, endpoint_id, 0xffffffff, 0))
        lab.kit("put", "weft_frontend", packed(address) + be16(80) + bytes([socket.IPPROTO_TCP, 0]),
                struct.pack("=IIIIBBBBI", service_id, index, 1, 0, CLUSTER_IP, 0, 0, 0, 0))
        index += 1


# ---- the agent's stand-in ----


class Agent:
    """The agent's sockets of one pod: made in its namespace, of the agent's cgroup."""

    def __init__(self, lab, pod):
        self.lab, self.pod = lab, pod
        self.maker = Pod(lab, f"agent-{pod.name}", pod.netns, pod.ip, pod.ip6, lab.root / "agent")
        lab.pods[self.maker.name] = self.maker
        self.outbound = {family: self.listener(family, getattr(pod, name), OUTBOUND) for family, name in FAMILIES}
        self.hbone = {family: self.listener(family, getattr(pod, name), HBONE) for family, name in FAMILIES}

    def listener(self, family, address, port):
        made = self.maker.new_socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
        made.listen(128)
        return made

    def accept(self, family=socket.AF_INET):
        """(connection, original) of the next captured connection."""
        made, _peer = self.outbound[family].accept()
        made.settimeout(5)
        return made, original(made)

    def nothing(self, family=socket.AF_INET):
        true(not select.select([self.outbound[family]], [], [], 0.1)[0], "a connection reached the agent")

    def dial(self, family, source, port=80):
        """Into the pod, as the client that it carries."""
        made = self.maker.new_socket(family)
        level, option = (socket.IPPROTO_IPV6, 75) if family == socket.AF_INET6 else (socket.SOL_IP, 19)  # *_TRANSPARENT
        made.setsockopt(level, option, 1)
        made.setsockopt(socket.SOL_SOCKET, 36, 15)  # SO_MARK
        self.lab.kit("mark", os.getpid(), made.fileno(), cookie(self.lab, self.pod))
        try:
            made.bind(source)
            made.connect((self.pod.ip6 if family == socket.AF_INET6 else self.pod.ip, port))
        except OSError:
            made.close()  # its port is wanted again, before everybody has let go of the exception
            raise
        return made


def original(made):
    names = ("frontend", "endpoint", "frontend_port", "endpoint_port", "service", "endpoint_id", "workload", "peer", "pad", "netns", "cookie")
    found = dict(zip(names, ORIGINAL.unpack(made.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, ORIGINAL.size))))
    for name in ("frontend", "endpoint"):
        found[name] = shown(found[name])
        found[f"{name}_port"] = socket.ntohs(found[f"{name}_port"])
    return found


def topology(lab):
    names = ("client", "other", "web", "remote", "stranger")
    for name in names:
        setattr(lab, name, lab.pod(name))
    equal(opened(lab), ["new"])
    for pod in (getattr(lab, n) for n in names):
        for address in (pod.ip, pod.ip6):
            lab.kit("put", "weft_workload_at", packed(address), struct.pack("=I", WORKLOAD[pod.name]))
        lab.kit("put", "weft_pod", struct.pack("=Q", cookie(lab, pod)), struct.pack("=II", WORKLOAD[pod.name], 0))
        set_policy(lab, pod.name, 0)
    write_policies(lab)
    service_rows(lab, 1, ("10.96.0.1", "fd96::1"), "web", 1)
    service_rows(lab, 2, ("10.96.0.2", "fd96::2"), "remote", 3)
    lab.agents = {name: Agent(lab, getattr(lab, name)) for name in ("client", "other", "web")}
    for port in (80, 81):
        lab.web.serve(port)
    lab.remote.serve()
    lab.stranger.serve()
    # What main does in a pod's namespace so that the agent can dial as a client.
    for name in lab.agents:
        pod = getattr(lab, name)
        for family in ("-4", "-6"):
            sh("ip", "-n", pod.netns, family, "rule", "add", "fwmark", "15", "lookup", "15008")
            sh("ip", "-n", pod.netns, family, "route", "add", "local", "default", "dev", "lo", "table", "15008")
        pod.run(write_sysctl)
    lab.kit("flags", METRICS_ON | SECURE | POLICIES)
    for name in lab.agents:
        attach(lab, name)


def write_sysctl():
    pathlib.Path("/proc/sys/net/ipv4/tcp_fwmark_accept").write_text("1")


def attach(lab, name):
    pod = getattr(lab, name)
    lab.kit("attach", f"/run/netns/{pod.netns}", cookie(lab, pod), pod.ip, pod.ip6, WORKLOAD[name])


def attached(lab):
    return sorted(map(int, " ".join(lab.kit("attached")).split()))


def gone(lab, name):
    """A table of connections on their way is empty again."""
    wait_for(lambda: not lab.maps(name), lambda: f"{name} to be empty: {lab.maps(name)}")


def ends(made):
    return made.getsockname()[:2], made.getpeername()[:2]


TARGETS = [  # family of the socket, what is asked for, attribute of the pod, service
    (socket.AF_INET, "10.96.0.2", "ip", 2),
    (socket.AF_INET6, "fd96::2", "ip6", 2),
    (socket.AF_INET6, "::ffff:10.96.0.2", "ip", 2),
    (socket.AF_INET, None, "ip", 0),
    (socket.AF_INET6, None, "ip6", 0),
    (socket.AF_INET6, "mapped", "ip", 0),
]


def test_captured(lab):
    for family, address, name, service_id in TARGETS:
        own, peer = getattr(lab.client, name), getattr(lab.remote, name)
        if address in (None, "mapped"):
            address = peer if address is None else f"::ffff:{peer}"
        mapped = "::ffff:" if address.startswith("::ffff:") else ""
        with lab.client.connect(address, 80, family=family) as made:
            here, there = ends(made)
            equal(here[0], mapped + own, "getsockname")
            equal(there, (address, 80), "getpeername")
            accepted, found = lab.agents["client"].accept(socket.AF_INET6 if name == "ip6" else socket.AF_INET)
            with accepted:
                equal(accepted.getpeername()[:2], (own, here[1]), "what the agent sees as its peer")
                equal((found["frontend"], found["frontend_port"]), (address.removeprefix("::ffff:"), 80), "frontend")
                equal((found["endpoint"], found["endpoint_port"]), (peer, 80), "endpoint")
                equal((found["workload"], found["peer"], found["service"]), (1, 4, service_id), "who")
                equal(bool(found["endpoint_id"]), bool(service_id), "an endpoint's id")
                equal(found["netns"], cookie(lab, lab.client), "netns")
                accepted.sendall(b"x\n")
                equal(made.recv(10), b"x\n")
        equal(lab.maps("weft_captured"), [], "weft_captured")


def test_another_size_is_the_kernels_own_question(lab):
    with lab.client.connect("10.96.0.2", 80):
        accepted, _found = lab.agents["client"].accept()
        with accepted:
            for level, size in ((socket.SOL_IP, 16), (socket.SOL_IP, ORIGINAL.size + 4), (socket.SOL_TCP, ORIGINAL.size)):
                with fails(errno.ENOENT, errno.ENOPROTOOPT):
                    accepted.getsockopt(level, SO_ORIGINAL_DST, size)


def test_where_connections_are_tracked(lab):
    """There the kernel has an answer of its own, which is not what the agent asks for."""
    rules = "table inet wt {\n chain in { type filter hook input priority 0; ct state new accept; }\n}\n"
    sh("nsenter", f"--net=/run/netns/{lab.client.netns}", "nft", "-f", "-", stdin=rules)
    try:
        with lab.client.connect("10.96.0.2", 80):
            accepted, found = lab.agents["client"].accept()
            with accepted:
                equal((found["frontend"], found["endpoint"]), ("10.96.0.2", lab.remote.ip))
                tracked = accepted.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
                equal(tracked[:8], struct.pack("=H", socket.AF_INET) + be16(OUTBOUND) + socket.inet_aton(lab.client.ip), "the kernel's own")
    finally:
        sh("nsenter", f"--net=/run/netns/{lab.client.netns}", "nft", "delete", "table", "inet", "wt")


def test_a_client_that_has_closed_already(lab):
    """It sent and closed before the agent came to accept: the agent learns where to go all the same."""
    made = lab.client.connect("10.96.0.2", 80)
    made.sendall(b"all of it")
    made.close()
    gone(lab, "weft_captured")
    accepted, found = lab.agents["client"].accept()
    with accepted:
        equal(found["endpoint"], lab.remote.ip)
        equal((accepted.recv(100), accepted.recv(100)), (b"all of it", b""))


def test_fast_open(lab):
    with lab.client.new_socket() as made:
        made.setblocking(True)
        equal(made.sendto(b"early", 0x20000000, ("10.96.0.2", 80)), 5, "sendto(MSG_FASTOPEN)")
        equal(made.getpeername()[:2], ("10.96.0.2", 80), "getpeername")
        accepted, found = lab.agents["client"].accept()
        with accepted:
            equal((found["frontend"], found["endpoint"]), ("10.96.0.2", lab.remote.ip))
            equal(accepted.recv(100), b"early")
    made = lab.client.new_socket()
    made.setsockopt(socket.SOL_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
    with made:
        made.connect(("10.96.0.2", 80))
        made.sendall(b"early")
        accepted, found = lab.agents["client"].accept()
        with accepted:
            equal(found["endpoint"], lab.remote.ip)
            equal(accepted.recv(100), b"early")


def test_other_clients(lab):
    """Bound to the pod's address, to a device, not blocking, connected twice; and one that no listener could answer."""
    agent = lab.agents["client"]
    with lab.client.new_socket() as made:
        made.bind((lab.client.ip, 0))
        made.connect(("10.96.0.2", 80))
        agent.accept()[0].close()
    with lab.client.new_socket() as made:
        made.setsockopt(socket.SOL_SOCKET, 25, b"eth0\0")  # SO_BINDTODEVICE
        made.connect(("10.96.0.2", 80))
        agent.accept()[0].close()
    with lab.client.new_socket() as made:
        made.setblocking(False)
        equal(made.connect_ex(("10.96.0.2", 80)), errno.EINPROGRESS)
        true(select.select([], [made], [], 5)[1], "the socket did not become writable")
        equal(made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, "SO_ERROR")
        agent.accept()[0].close()
    with lab.client.new_socket() as made:
        made.connect(("10.96.0.2", 80))
        agent.accept()[0].close()
        unspec = struct.pack("=HH12x", socket.AF_UNSPEC, 0)
        equal(libc.connect(made.fileno(), unspec, len(unspec)), 0, "connect(AF_UNSPEC)")
        made.connect((lab.remote.ip, 80))
        accepted, found = agent.accept()
        accepted.close()
        equal((found["frontend"], found["service"]), (lab.remote.ip, 0))
    with contextlib.suppress(OSError), lab.client.new_socket(protocol=262) as made:  # IPPROTO_MPTCP, if there is one
        made.connect(("10.96.0.2", 80))
        accepted, found = agent.accept()
        accepted.close()
        equal(found["endpoint"], lab.remote.ip, "a Multipath TCP client")
    refused = lab.counter("agent_port")
    with lab.client.new_socket() as made, fails(errno.ECONNREFUSED):
        made.bind(("127.0.0.1", 0))
        made.connect(("10.96.0.2", 80))
    equal(lab.counter("agent_port"), refused + 1, "agent_port")
    gone(lab, "weft_captured")


def test_a_family_that_came_later(lab):
    """An address that the pod got after it was attached: the agent cannot take what leaves from there, and plaintext it must not be."""
    lab.kit("attach", f"/run/netns/{lab.client.netns}", cookie(lab, lab.client), lab.client.ip, "::", WORKLOAD["client"])
    try:
        for address in (lab.remote.ip6, "fd96::2"):
            before = lab.counter("identity_required")
            with fails(errno.ECONNREFUSED, errno.EPERM):
                lab.client.connect(address, 80)
            equal(lab.counter("identity_required"), before + 1, f"identity_required, at {address}")
        equal(lab.client.who(lab.web.ip6, 80), "web", "within the node it goes")
    finally:
        attach(lab, "client")


def test_agent_is_not_there(lab):
    """Nobody listens: connect() fails at once, and nothing stays behind."""
    agent = lab.agents["other"]
    agent.outbound[socket.AF_INET].close()
    with fails(errno.ECONNREFUSED):
        lab.other.connect("10.96.0.2", 80)
    gone(lab, "weft_captured")
    agent.outbound[socket.AF_INET] = agent.listener(socket.AF_INET, lab.other.ip, OUTBOUND)


def test_agent_ports(lab):
    """Nobody may ask a workload for them, and nobody reaches the outbound listener but through capture."""
    before = lab.counter("agent_port")
    for port in (15001, 15006, 15008, 15080):
        for pod, address in ((lab.client, lab.remote.ip), (lab.client, f"::ffff:{lab.remote.ip}"), (lab.client, lab.remote.ip6),
                             (lab.stranger, lab.web.ip), (lab.client, lab.client.ip)):
            with fails(errno.ECONNREFUSED, errno.EPERM):
                pod.connect(address, port, family=family_of(address))
    equal(lab.counter("agent_port"), before + 20, "agent_port")
    # From where no program is asked at connect().
    outside = Pod(lab, "outside", lab.stranger.netns, lab.stranger.ip, lab.stranger.ip6, cgroup2_root())
    lab.pods["outside"] = outside
    with fails(errno.ECONNREFUSED):
        outside.connect(lab.web.ip, OUTBOUND)
    equal(lab.counter("agent_port"), before + 21, "agent_port")
    outside.connect(lab.web.ip, HBONE).close()
    lab.agents["web"].hbone[socket.AF_INET].accept()[0].close()


def test_attested(lab):
    """Pods of one node: judged by who they are, at connect() and again where the SYN arrives."""
    try:
        for address, name in (("10.96.0.1", "ip"), ("fd96::1", "ip6"), ("::ffff:10.96.0.1", "ip"), (None, "ip"), (None, "ip6")):
            family = socket.AF_INET6 if address and ":" in address else None
            address = address or getattr(lab.web, name)
            set_policy(lab, "web", STRICT)
            for pod in (lab.client, lab.other):
                equal(pod.who(address, 80, family=family), "web", f"{pod} to {address}")
            set_policy(lab, "web", ONLY_CLIENT)
            equal(lab.client.who(address, 80, family=family), "web")
            denied = lab.counter("policy_denied")
            with fails(errno.ECONNREFUSED, errno.EPERM):
                lab.other.connect(address, 80, family=family)
            equal(lab.counter("policy_denied"), denied + 1, "policy_denied")
            set_policy(lab, "web", NOT_CLIENT)
            equal(lab.other.who(address, 80, family=family), "web")
            with fails(errno.ECONNREFUSED, errno.EPERM):
                lab.client.connect(address, 80, family=family)
        gone(lab, "weft_attest")
        lab.agents["client"].nothing()
        set_policy(lab, "web", NOT_81)
        equal(lab.client.who(lab.web.ip, 80), "web")
        with fails(errno.ECONNREFUSED, errno.EPERM):
            lab.client.connect(lab.web.ip, 81)
    finally:
        set_policy(lab, "web", 0)


def test_strangers(lab):
    """A source that is not attached: refused by name where identity is needed, else judged by address and port."""
    try:
        for policy, passes in ((0, True), (STRICT, False), (ONLY_CLIENT, False), (NOT_CLIENT, True), (NOT_81, True)):
            set_policy(lab, "web", policy)
            for address in ("10.96.0.1", lab.web.ip, lab.web.ip6):
                if passes:
                    equal(lab.stranger.who(address, 80), "web", f"set {policy}")
                    continue
                before = lab.counter("identity_required")
                with fails(errno.ECONNREFUSED, errno.EPERM):
                    lab.stranger.connect(address, 80)
                equal(lab.counter("identity_required"), before + 1, "identity_required")
        with fails(errno.ECONNREFUSED, errno.EPERM):
            lab.stranger.connect(lab.web.ip, 81)
        # Its address is known where the SYN arrives.
        set_policy(lab, "web", ONLY_ADDRESS)
        equal(lab.stranger.who(lab.web.ip, 80), "web")
        with fails(errno.ECONNREFUSED):
            lab.remote.connect(lab.web.ip, 80)
        # Towards a peer elsewhere that it cannot authenticate itself to.
        set_policy(lab, "remote", STRICT)
        with fails(errno.ECONNREFUSED, errno.EPERM):
            lab.stranger.connect("10.96.0.2", 80)
        set_policy(lab, "remote", ONLY_ADDRESS)
        equal(lab.stranger.who("10.96.0.2", 80), "remote", "an address that is not known at connect()")
    finally:
        set_policy(lab, "web", 0)
        set_policy(lab, "remote", 0)


def test_plaintext_from_outside(lab):
    """No program saw its connect(), as from another node: refused at its SYN."""
    outside = Pod(lab, "beyond", lab.stranger.netns, lab.stranger.ip, lab.stranger.ip6, cgroup2_root())
    lab.pods["beyond"] = outside
    try:
        for policy, passes in ((STRICT, False), (ONLY_ADDRESS, True), (ONLY_CLIENT, False), (0, True)):
            set_policy(lab, "web", policy)
            for address in (lab.web.ip, lab.web.ip6):
                before = lab.counter("policy_denied")
                if passes:
                    equal(outside.who(address, 80), "web")
                else:
                    with fails(errno.ECONNREFUSED):
                        outside.connect(address, 80)
                equal(lab.counter("policy_denied"), before + (not passes), "policy_denied")
        set_policy(lab, "web", STRICT)
        lab.web.connect("127.0.0.1", 80).close()
        lab.web.connect(lab.web.ip, 80).close()
    finally:
        set_policy(lab, "web", 0)


def test_addresses_that_no_record_has(lab):
    """They would be a way around the pod's policies."""
    outside = Pod(lab, "beyond", lab.stranger.netns, lab.stranger.ip, lab.stranger.ip6, cgroup2_root())
    lab.pods["beyond"] = outside
    second = [(socket.AF_INET, "10.231.0.9", "10.231.0.1", 24), (socket.AF_INET6, "fdca::9", "fdca::1", 64)]
    for family, own, near, bits in second:
        more = ["nodad"] if family == socket.AF_INET6 else []
        sh("ip", "-n", lab.web.netns, "addr", "add", f"{own}/{bits}", "dev", "eth0", *more)
        sh("ip", "-n", lab.stranger.netns, "addr", "add", f"{near}/{bits}", "dev", "eth0", *more)
    try:
        set_policy(lab, "web", STRICT)
        for family, own, _, _ in second:
            before = lab.counter("policy_unknown")
            with fails(errno.ECONNREFUSED):
                outside.connect(own, 80)
            equal(lab.counter("policy_unknown"), before + 1, f"policy_unknown, at {own}")
            lab.web.connect(own, 80).close()
        lab.web.connect("127.0.0.1", 80).close()
    finally:
        set_policy(lab, "web", 0)
        for _, own, near, bits in second:
            sh("ip", "-n", lab.web.netns, "addr", "del", f"{own}/{bits}", "dev", "eth0")
            sh("ip", "-n", lab.stranger.netns, "addr", "del", f"{near}/{bits}", "dev", "eth0")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def raw_syn(source, target, source_port, port):
    """A SYN that no TCP socket has sent: what comes back, RST or SYN-ACK, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.bind((source, 0))
        raw.settimeout(2)
        head = struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 5 << 4, 2, 1000, 0, 0)
        pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, len(head))
        raw.sendto(head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:], (target, 0))
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                packet = raw.recv(200)[20:]
                if packet[:4] == struct.pack("!HH", port, source_port):
                    return "RST" if packet[13] & 4 else "SYN-ACK"
    return None


def test_spoofed(lab):
    """Only the kernel's own word about a socket of an attached namespace counts."""
    try:
        set_policy(lab, "web", STRICT)
        equal(lab.client.who(lab.web.ip, 80), "web", "the client itself")
        equal(lab.client.run(raw_syn, lab.client.ip, lab.web.ip, 4321, 80), "RST", "a raw SYN from the client's own namespace")
        set_policy(lab, "web", 0)
        equal(lab.client.run(raw_syn, lab.client.ip, lab.web.ip, 4322, 80), "SYN-ACK", "the same without a policy")
        set_policy(lab, "web", STRICT)
        # Another namespace that gives itself the client's address.
        for victim in (lab.client.ip, lab.client.ip6):
            sh("ip", "-n", lab.stranger.netns, "addr", "add", victim, "dev", "lo")
        equal(lab.stranger.run(raw_syn, lab.client.ip, lab.web.ip, 4323, 80), None, "from another namespace: its answer goes to the victim")
        outside = Pod(lab, "thief", lab.stranger.netns, lab.stranger.ip, lab.stranger.ip6, cgroup2_root())
        lab.pods["thief"] = outside
        for pod in (lab.stranger, outside):
            with pod.new_socket() as made, fails(errno.ECONNREFUSED, errno.EPERM, errno.ETIMEDOUT, errno.EAGAIN):
                made.settimeout(1)
                made.bind((lab.client.ip, 0))
                try:
                    made.connect((lab.web.ip, 80))
                except TimeoutError as error:
                    raise OSError(errno.ETIMEDOUT, "no answer") from error
        # An attached pod that gives itself another's address is not taken for that one, nor for itself.
        sh("ip", "-n", lab.other.netns, "addr", "add", lab.client.ip, "dev", "lo")
        denied = lab.counter("policy_denied")
        with lab.other.new_socket(timeout=0.5) as made:
            made.bind((lab.client.ip, 0))
            with contextlib.suppress(OSError):
                made.connect((lab.web.ip, 80))
                raise Failure("a pod is taken for itself under another's address")
            true(lab.counter("policy_denied") > denied, "the SYN was not denied")
        equal(lab.maps("weft_attest"), [], "weft_attest")
    finally:
        set_policy(lab, "web", 0)
        for pod in (lab.stranger, lab.other):
            sh("ip", "-n", pod.netns, "addr", "flush", "dev", "lo", "scope", "global")


def test_address_used_again(lab):
    """The pod is detached: whoever has its address now is nobody, also for what its connections left."""
    key = packed(lab.client.ip) + packed(lab.web.ip) + be16(5432) + be16(80)
    try:
        set_policy(lab, "web", STRICT)
        lab.kit("detach", cookie(lab, lab.client))
        sh("bpftool", "map", "update", "pinned", lab.pins / "v1/map/weft_attest", "key", "hex", *key.hex(" ").split(), "value", "hex",
           *struct.pack("=QII", cookie(lab, lab.client), 1, 0).hex(" ").split())
        equal(lab.client.run(raw_syn, lab.client.ip, lab.web.ip, 5432, 80), "RST", "an entry of a pod that is gone")
        with fails(errno.ECONNREFUSED, errno.EPERM):
            lab.client.connect(lab.web.ip, 80)
        attach(lab, "client")
        equal(lab.client.run(raw_syn, lab.client.ip, lab.web.ip, 5432, 80), "SYN-ACK", "the same entry, once the pod is attached")
    finally:
        sh("bpftool", "map", "delete", "pinned", lab.pins / "v1/map/weft_attest", "key", "hex", *key.hex(" ").split())
        set_policy(lab, "web", 0)
        attach(lab, "client")


def test_entry_of_an_attempt(lab):
    """While a SYN is under way there is an entry; none when the attempt ends without an answer, or is answered."""
    blackhole = ["route", "add", "blackhole", f"{lab.client.ip}/32"]
    sh("ip", "-n", lab.web.netns, *blackhole)
    try:
        with lab.client.new_socket() as made:
            made.setblocking(False)
            made.connect_ex((lab.web.ip, 80))
            rows = lab.maps("weft_attest")
            equal(len(rows), 1, "entries")
            equal((rows[0]["value"]["workload"], rows[0]["value"]["netns"]), (1, cookie(lab, lab.client)), "who")
        gone(lab, "weft_attest")
    finally:
        sh("ip", "-n", lab.web.netns, "route", "del", *blackhole[2:])
    with lab.client.connect(lab.web.ip, 80):
        gone(lab, "weft_attest")


def test_syn_cookies(lab):
    """A full queue makes of the client's ACK what a SYN is to sk_lookup: it has to pass then too."""
    lab.web.run(set_cookies, "2")
    try:
        set_policy(lab, "web", STRICT)
        equal(lab.client.who(lab.web.ip, 80), "web")
        equal(lab.client.who(lab.web.ip6, 80), "web")
        with lab.agents["web"].dial(socket.AF_INET, (lab.remote.ip, 40001)) as made:
            equal(read_name(made), "web")
        lab.client.run(set_cookies, "2")
        with lab.client.connect("10.96.0.2", 80):
            accepted, found = lab.agents["client"].accept()
            accepted.close()
            equal(found["endpoint"], lab.remote.ip)
        gone(lab, "weft_attest")
    finally:
        set_policy(lab, "web", 0)
        for pod in (lab.web, lab.client):
            pod.run(set_cookies, "1")


def set_cookies(value):
    pathlib.Path("/proc/sys/net/ipv4/tcp_syncookies").write_text(value)


def test_agents_dial(lab):
    """The agent has judged: its own connection into the pod passes, and the application sees the client."""
    try:
        set_policy(lab, "web", STRICT)
        listener = lab.web.new_socket(socket.AF_INET6)
        listener.bind(("::", 90))
        listener.listen(8)
        for family, source, own in ((socket.AF_INET, lab.remote.ip, lab.web.ip), (socket.AF_INET6, lab.remote.ip6, lab.web.ip6)):
            with lab.agents["web"].dial(family, (source, 41000), 90) as made:
                accepted, peer = listener.accept()
                with accepted:
                    equal((peer[0].removeprefix("::ffff:"), peer[1]), (source, 41000), "the client")
                    equal(accepted.getsockname()[0].removeprefix("::ffff:"), own, "getsockname")
                    made.sendall(b"hello")
                    equal(accepted.recv(10), b"hello")
        listener.close()
        gone(lab, "weft_attest")
        for family, source in ((socket.AF_INET, lab.remote.ip), (socket.AF_INET6, lab.remote.ip6)):
            before = lab.counter("no_listener")
            with fails(errno.ECONNREFUSED, errno.EPERM):
                lab.agents["web"].dial(family, (source, 41001), 91)
            equal(lab.counter("no_listener"), before + 1, "no_listener")
        # The same socket without the mark of main: its SYN is as any, and the RST goes to the client's own node.
        before = lab.counter("policy_denied")
        with lab.agents["web"].maker.new_socket(timeout=0.2) as made:
            made.setsockopt(socket.SOL_IP, 19, 1)
            made.setsockopt(socket.SOL_SOCKET, 36, 15)
            made.bind((lab.remote.ip, 41001))
            with contextlib.suppress(OSError):
                made.connect((lab.web.ip, 80))
                raise Failure("a dial that main did not mark reached the application")
        true(lab.counter("policy_denied") > before, "the dial was not denied")
    finally:
        set_policy(lab, "web", 0)


def test_agent_is_not_counted(lab):
    """The application's own connection is in the metrics, those by which the agent carries it are not."""
    def ended():
        return {r: lab.aggregate("ended", reporter=r) for r in (SOURCE, DESTINATION)}

    before = ended()
    made = lab.client.connect("10.96.0.2", 80)
    accepted, _found = lab.agents["client"].accept()
    out = lab.agents["client"].maker.new_socket()
    lab.kit("mark", os.getpid(), out.fileno(), cookie(lab, lab.client))
    out.connect((lab.web.ip, HBONE))  # a marked socket may
    inbound = lab.agents["web"].hbone[socket.AF_INET].accept()[0]
    dialled = lab.agents["web"].dial(socket.AF_INET, (lab.client.ip, 42000))
    read_name(dialled)
    shown_ones = sorted((c["role"], c["local"], c.get("frontend", "")) for c in lab.weft("conn", "list"))
    equal(shown_ones, [("client", "%s:%d" % made.getsockname(), "10.96.0.2:80"), ("server", f"{lab.web.ip}:80", "")], "connections")
    for each in (made, accepted, out, inbound, dialled):
        each.close()
    wait_for(lambda: ended() == {SOURCE: before[SOURCE] + 1, DESTINATION: before[DESTINATION] + 1},
             lambda: f"one ended at each side: {before} -> {ended()}")
    equal(lab.maps("weft_captured") + lab.maps("weft_attest"), [], "what is left")


def test_encrypted_same_node(lab):
    lab.kit("flags", METRICS_ON | SECURE | POLICIES | ENCRYPT)
    try:
        with lab.client.connect("10.96.0.1", 80):
            accepted, found = lab.agents["client"].accept()
            accepted.close()
            equal((found["endpoint"], found["peer"]), (lab.web.ip, 3))
        equal(lab.web.who(lab.web.ip, 80), "web", "a pod to itself")
    finally:
        lab.kit("flags", METRICS_ON | SECURE | POLICIES)


def test_udp_goes_as_it_is(lab):
    lab.remote.serve_udp()
    equal(lab.client.ask(lab.remote.ip, 53), "remote")


def test_opted_out(lab):
    key = struct.pack("=Q", cookie(lab, lab.client))
    lab.kit("put", "weft_pod", key, struct.pack("=II", 1, 1))
    try:
        with lab.client.connect(lab.remote.ip, 80) as made:
            equal(read_name(made), "remote")
    finally:
        lab.kit("put", "weft_pod", key, struct.pack("=II", 1, 0))


def test_cut_by_cookie(lab):
    if "sock_destroy" in os.environ.get("WEFT_WITHOUT", ""):
        return
    with lab.client.connect(lab.web.ip, 80) as one, lab.client.connect(lab.web.ip, 80) as two:
        read_name(one), read_name(two)
        number = struct.unpack("=Q", one.getsockopt(socket.SOL_SOCKET, 57, 8))[0]  # SO_COOKIE
        try:
            equal(lab.kit("cut", f"/run/netns/{lab.client.netns}", number), ["1"], "sockets cut")
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return
            raise
        with fails(errno.ECONNABORTED, errno.ECONNRESET):
            one.recv(10)
        two.sendall(b"still")
        equal(two.recv(10), b"still")


def test_cut_by_endpoint(lab):
    """Of a captured connection too, whose socket goes to the agent and not to the endpoint."""
    with lab.client.connect("10.96.0.2", 80) as made, lab.client.connect(lab.remote.ip, 80) as direct:
        accepted, found = lab.agents["client"].accept()
        other, _found = lab.agents["client"].accept()
        with accepted, other:
            try:
                equal(lab.kit("doom", f"/run/netns/{lab.client.netns}", found["endpoint_id"]), ["1"], "sockets cut")
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    return
                raise
            with fails(errno.ECONNABORTED, errno.ECONNRESET):
                made.recv(10)
            direct.sendall(b"still")
            equal(other.recv(10), b"still")


def events(lab):
    """[[type, role, outcome, workload, peer, local, remote, port]] since the last time."""
    return [e.split("/") for e in " ".join(lab.kit("events")).split()]


def test_records(lab):
    """A watcher sees where a captured connection goes, not the agent in between; and who was refused at a SYN."""
    names = re.findall(r"^WEFT_COUNTER\(\w+, \"(\w+)\"", (ROOT / "include/weft/lists/counter.h").read_text(), re.MULTILINE)
    outside = Pod(lab, "unseen", lab.stranger.netns, lab.stranger.ip, lab.stranger.ip6, cgroup2_root())
    lab.pods["unseen"] = outside
    lab.kit("watch", 1)
    try:
        with lab.client.connect("10.96.0.2", 80):
            lab.agents["client"].accept()[0].close()
        equal([e[:5] + e[6:] for e in events(lab)][0], [OPENED_EVENT, "1", str(OPEN), "1", "4", lab.remote.ip, "80"], "opened")
        set_policy(lab, "web", STRICT)
        with fails(errno.ECONNREFUSED):
            outside.connect(lab.web.ip, 80)
        denied = str(names.index("policy_denied"))
        seen = [e for e in events(lab) if e[0] == REFUSED_EVENT]
        equal(seen, [[REFUSED_EVENT, "2", denied, "3", "5", lab.web.ip, lab.stranger.ip, "80"]], "refused")
    finally:
        set_policy(lab, "web", 0)
        lab.kit("watch", 0)


def batch(lab, lines):
    (lab.folder / "batch").write_text("\n".join(lines) + "\n")
    # Its exit code is that of whatever error was left over on the way; what follows shows whether it worked.
    subprocess.run(["bpftool", "batch", "file", lab.folder / "batch"], capture_output=True, check=False)


def test_full(lab):
    """Beyond weft_captured a connection is refused, beyond weft_attest it is not attested; both are counted."""
    set_policy(lab, "web", STRICT)
    for name, key_size, value_size, to in (("captured", 20, 72, "10.96.0.2"), ("attest", 36, 16, lab.web.ip)):
        path = lab.pins / f"v1/map/weft_{name}"
        keys = [struct.pack("=I", i).ljust(key_size, b"\x7f").hex(" ") for i in range(lab.entries(f"weft_{name}"))]
        value = bytes(value_size).hex(" ")
        before = lab.counter(f"{name}_full")
        try:
            batch(lab, (f"map update pinned {path} key hex {key} value hex {value}" for key in keys))
            with fails(errno.ECONNREFUSED):
                lab.client.connect(to, 80)
            equal(lab.counter(f"{name}_full"), before + 1, f"{name}_full")
        finally:
            batch(lab, (f"map delete pinned {path} key hex {key}" for key in keys))
    set_policy(lab, "web", 0)


def test_without_the_lane(lab):
    """Without the flag nothing of it happens, attached or not, but for what sk_lookup refuses."""
    lab.kit("flags", METRICS_ON)
    try:
        equal(lab.client.who("10.96.0.2", 80), "remote")
        equal(lab.client.who(lab.remote.ip, 80), "remote")
    finally:
        lab.kit("flags", METRICS_ON | SECURE | POLICIES)


def test_adoption(lab):
    """The agent dies and is back: what it had attached works meanwhile and after."""
    cookies = sorted(cookie(lab, pod) for pod in (lab.client, lab.other, lab.web))
    set_policy(lab, "web", STRICT)
    lab.kit.end()
    try:
        with lab.client.connect("10.96.0.2", 80):
            lab.agents["client"].accept()[0].close()
        with fails(errno.ECONNREFUSED, errno.EPERM):
            lab.stranger.connect(lab.web.ip, 80)
        equal(opened(lab), ["adopted"])
        equal(attached(lab), cookies, "attached")
        with lab.client.connect("10.96.0.2", 80):
            accepted, found = lab.agents["client"].accept()
            accepted.close()
            equal(found["endpoint"], lab.remote.ip)
        equal(lab.client.who(lab.web.ip, 80), "web")
    finally:
        set_policy(lab, "web", 0)
    # A pod that goes while no agent is there leaves nothing.
    doomed = lab.pod("doomed")
    lab.kit("attach", f"/run/netns/{doomed.netns}", cookie(lab, doomed), doomed.ip, doomed.ip6, 9)
    equal(len(attached(lab)), 4, "attached")
    lab.kit.end()
    del lab.pods["doomed"]
    os.close(doomed.netns_fd)
    sh("ip", "netns", "del", doomed.netns)
    wait_for(lambda: any(link.get("type") == "netns" and link.get("netns_ino") == 0
                         for link in json.loads(sh("bpftool", "-j", "link", "list"))), "the namespace to be gone")
    opened(lab)
    equal(attached(lab), cookies, "attached")
    equal(len(list((lab.pins / "v1/netns").iterdir())), 3, "pins")
    equal(len(lab.maps("weft_capture")), 3, "rows")


def test_agent_outside_of_the_subtree(lab):
    """Nobody would know its connections from others: refused in a sentence."""
    outside = Kit(lab, cgroup2_root())
    lab.kit.end()
    outside("open", lab.root, lab.pins, *os.environ.get("WEFT_WITHOUT", "").split())
    try:
        try:
            outside("attach", f"/run/netns/{lab.client.netns}", cookie(lab, lab.client), lab.client.ip, lab.client.ip6, 1)
        except OSError as error:
            equal(error.errno, errno.EXDEV)
            contains(str(error), "--cgroup")
        else:
            raise Failure("attached")
    finally:
        outside.end()
        opened(lab)


def test_detached(lab):
    """Nothing is left; what was captured goes on."""
    made = lab.client.connect("10.96.0.2", 80)
    accepted, _found = lab.agents["client"].accept()
    lab.kit("detach", cookie(lab, lab.client))
    lab.kit("detach", cookie(lab, lab.client))
    with made, accepted:
        made.sendall(b"on")
        equal(accepted.recv(10), b"on")
        equal(made.getpeername()[:2], ("10.96.0.2", 80), "getpeername")
        equal(lab.client.who("10.96.0.2", 80), "remote", "a new one")
        lab.agents["client"].nothing()
    for name in ("other", "web"):
        lab.kit("detach", cookie(lab, getattr(lab, name)))
    equal(list((lab.pins / "v1/netns").iterdir()), [], "pins")
    equal(lab.maps("weft_capture"), [], "rows")


main(topology)
