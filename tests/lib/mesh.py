# SPDX-License-Identifier: Apache-2.0
"""Nodes of one mesh: two agents that share an authority, on the lab's two nodes, and what tests of the secure lane ask them.

    lab (node-1) ── agent ══ mutual TLS :15008 ══ agent ── lab.two (node-2)
"""

import hbone_peer
from lab import *

VIP, VIP6 = "10.96.0.1", "fd96::1"
HBONE = 15008


def prepare(lab, first, second=()):
    """A second node, and the pods of these names on the two: lab.NAME."""
    lab.two = lab.another()
    for node_lab, names in ((lab, first), (lab.two, second)):
        for name in names:
            setattr(lab, name, node_lab.pod(name))


def web_service(*pods, ports=(80,)):
    return [service("web", [VIP, VIP6], ports), endpoint_slice("web", list(pods), ports),
            endpoint_slice("web", [endpoint(pod.ip6) for pod in pods], ports)]


def agents(lab):
    """The nodes that are weft's."""
    return [node_lab for node_lab in (lab, *lab.others) if node_lab is not getattr(lab, "away", None)]


def write_all(lab, name, documents):
    for node_lab in agents(lab):
        node_lab.write(name, documents)


def apply_all(lab, name, documents):
    """On every node, and until it is in force there."""
    for node_lab in agents(lab):
        node_lab.apply(name, documents)


def remove_all(lab, name):
    for node_lab in agents(lab):
        if (node_lab.config / name).exists():
            node_lab.remove(name)


def forget_all(lab, name):
    """Takes a file away that changes nothing which the kernel's tables would show."""
    for node_lab in agents(lab):
        (node_lab.config / name).unlink(missing_ok=True)


def start_all(lab, pods, *documents, config=None, extra=(), env=None):
    """Pods are enrolled, `config` is MeshConfig's spec; the first node makes the authority, the second joins it; env(node) is
    for its agent. Ends when every pod has its listeners and its certificate."""
    write_all(lab, "mesh.yaml", [mesh_config(**(config or {}))])
    write_all(lab, "pods.yaml", [p if isinstance(p, dict) else enrolled(p) for p in pods])
    if documents:
        write_all(lab, "more.yaml", list(documents))
    lab.secure()
    share_ca(lab)
    for node_lab in agents(lab):
        node_lab.start(*extra, env=env and env(node_lab))
    for pod in pods:
        if not isinstance(pod, dict):
            wait_attached(pod)


def share_ca(lab):
    """Every node's embedded authority below the first one's root, before their agents start."""
    bundle = lab.folder / "ca-bundle"
    for other in agents(lab)[1:]:
        made = lab.weft("ca", "export", str(bundle))
        code, out, err = other.cli("ca", "join", bundle, stdin=made["code"])
        true(code == 0, f"weft ca join: {err or out}")
        bundle.unlink()


def weft_ca(lab):
    """What signs on this node, for peers that are not weft's."""
    folder = lab.state / "ca"
    both = (folder / "intermediate.pem").read_bytes()
    return hbone_peer.CA.load(both[both.index(b"-----BEGIN PRIVATE KEY"):], both, (folder / "root.pem").read_bytes())


# ---- what can be seen ----


def listening(pod, port):
    """Local addresses of a pod's TCP listeners on a port."""
    lines = sh("nsenter", f"--net=/run/netns/{pod.netns}", "ss", "-Hltn", f"sport = :{port}").splitlines()
    return [line.split()[3].rsplit(":", 1)[0] for line in lines]


def identities(lab):
    """{SPIFFE id: row} of `weft identity list`."""
    return {row["identity"]: row for row in lab.weft("identity", "list")}


def wait_attached(pod, identity=None):
    """Until the agent listens in the pod and has its certificate."""
    node_lab = pod.lab
    wait_for(lambda: listening(pod, HBONE) and listening(pod, 15001), lambda: f"listeners in {pod}\n{node_lab.tail()}", 20)
    wanted = identity or spiffe(pod)
    wait_for(lambda: wanted in identities(node_lab), lambda: f"the certificate of {wanted}\n{node_lab.tail()}", 20)


def conns(lab, **wanted):
    """Rows of `weft conn list` that have these members."""
    return [row for row in lab.weft("conn", "list") if all(row.get(k) == v for k, v in wanted.items())]


def refused_count(lab, reason):
    """How often a node refused for a reason, in the kernel or in a proxy."""
    names = re.findall(r'^WEFT_COUNTER\(\w+, "(\w+)"', (ROOT / "include/weft/lists/counter.h").read_text(), re.MULTILINE)
    return (lab.counter(reason) if reason in names else 0) + proxy_count(lab, reason)


def proxy_count(lab, what):
    """One of lists/proxy.h, over all proxies of a node."""
    return lab.metric("weft_proxy_total", event=what)


# ---- what connections do ----

CUT = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
REFUSED_OR_CUT = (*CUT, errno.ECONNREFUSED, errno.EPERM)


def gets_through(pod, address, port=80, marker=b"through"):
    """One connection to an `ends` or `echo` server and back again: its first line's words."""
    with pod.connect(address, port) as made:
        words = read_name(made).split()
        made.sendall(marker)
        equal(recv_exactly(made, len(marker)), marker, "what came back")
    return words


def is_refused(pod, address, port=80, what=""):
    """No connection, or one that ends by a reset before a byte came."""
    try:
        with pod.connect(address, port) as made:
            got = made.recv(1)
    except OSError as error:
        true(error.errno in REFUSED_OR_CUT, f"{what or pod}: {error!r}, wanted a refusal or a reset")
        return error.errno
    raise Failure(f"{what or pod} to {address}:{port}: got {got!r}, wanted a refusal or a reset")


def is_cut(made, timeout=10.0, what="an open connection"):
    """An open connection ends by a reset."""
    made.settimeout(timeout)
    try:
        while True:
            part = made.recv(1 << 16)
            if not part:
                raise Failure(f"{what} ended in order, wanted a reset")
    except TimeoutError as late:
        raise Failure(f"{what} is still open, wanted a reset") from late
    except OSError as error:
        true(error.errno in CUT, f"{what}: {error!r}, wanted a reset")


def still_open(made, marker=b"still here"):
    made.sendall(marker)
    equal(recv_exactly(made, len(marker)), marker, "what came back")


def recv_exactly(made, size):
    data = bytearray()
    while len(data) < size:
        part = made.recv(min(1 << 20, size - len(data)))
        if not part:
            raise ConnectionError(errno.ECONNABORTED, f"the connection ended after {len(data)} of {size} bytes")
        data += part
    return bytes(data)


# ---- peers that are not weft's ----


def strangers(lab, *names):
    """A node without an agent, outside of every cgroup that one governs, and its pods: lab.NAME."""
    lab.away = lab.another("node-9")
    for name in names:
        setattr(lab, name, lab.away.pod(name))


def tunnelling(pod, service_account=None, labels=None):
    """The Pod of one whose node speaks HBONE and is not weft's."""
    made = pod_resource(pod, labels={"app": pod.name, **(labels or {})}, service_account=service_account or pod.name)
    made["metadata"]["annotations"] = {"ambient.istio.io/redirection": "enabled"}
    return made


@contextlib.contextmanager
def hbone_server(pod, identity, ca, handler, port=HBONE, **options):
    """An HBONE server in a pod, in the block; what is yielded says behind it what came."""
    told, task = {}, _spawn_hbone(pod, identity, ca, handler, port, options)
    try:
        yield told
    finally:
        told.update(task.stop().result())


def _spawn_hbone(pod, identity, ca, handler, port, options):
    listener = pod.new_socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", port))
    listener.listen(1024)
    task = pod.spawn(_serve_hbone, listener, identity.key_pem(), identity.chain_pem(), ca.root_pem(), handler, options)
    listener.close()
    return task


def _serve_hbone(listener, key, chain, roots, handler, options):
    identity = hbone_peer.Identity.load(key, chain)
    return hbone_peer.Server(listener, identity, hbone_peer.Roots(roots), handler, **options).run(stopping)


def hbone(pod, to, identity, ca, port=HBONE, family=None, **options):
    """A client's HBONE connection out of a pod."""
    address = getattr(to, "ip", to)
    return hbone_peer.connect((address, port), identity, ca, raw=pod.new_socket(family or family_of(address)), **options)
