#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""sessionAffinity ClientIP: a pod stays with its endpoint until the timeout has passed without use, or the endpoint is gone.

    client-0 ... client-7 ──> 10.96.0.1:80, 53/UDP ──┬── web-a ... web-d
"""

from lab import *


def topology(lab):
    lab.clients = [lab.pod(f"client-{n}") for n in range(8)]
    lab.webs = [lab.pod(f"web-{x}") for x in "abcd"]
    for web in lab.webs:
        web.serve()
        web.serve_udp()
    lab.write("web.yaml", documents(lab, lab.webs, None))
    lab.start()


def documents(lab, webs, seconds):
    ports = ("tcp=80", "udp=53/UDP")
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}} if seconds else {}
    return [service("web", "10.96.0.1", ports, **spec), endpoint_slice("web", webs, ports)]


def room(lab):
    return lab.entries("weft_affinity")


def test_room_is_made_for_the_first_service_that_asks(lab):
    equal(room(lab), 1024, "entries before")
    equal(lab.clients[0].spread("10.96.0.1", 80, 60).keys(), {w.name for w in lab.webs}, "endpoints without affinity")
    roles = lab.status()["roles"]
    lab.apply("web.yaml", documents(lab, lab.webs, 10800))
    equal(room(lab), 65536, "entries")
    equal([r["pid"] for r in lab.status()["roles"]], [r["pid"] for r in roles], "roles")


def test_a_client_stays(lab):
    first = {}
    for client in lab.clients:
        counts = client.spread("10.96.0.1", 80, 40)
        equal(len(counts), 1, f"endpoints of {client}: {counts}")
        first[client] = next(iter(counts))
    # One for all would be no choice at all: chance 4^-7.
    true(len(set(first.values())) > 1, f"all clients went to {set(first.values())}")


def test_udp_too(lab):
    for client in lab.clients:
        names = {client.ask("10.96.0.1", 53) for _ in range(20)}
        equal(len(names), 1, f"endpoints of {client}: {names}")


def test_endpoint_gone(lab):
    client = lab.clients[0]
    name = client.who("10.96.0.1", 80)
    left = [w for w in lab.webs if w.name != name]
    lab.apply("web.yaml", documents(lab, left, 10800))
    counts = client.spread("10.96.0.1", 80, 40)
    equal(len(counts), 1, f"endpoints after {name} was gone: {counts}")
    true(name not in counts, f"{name} is gone and still answers")


def test_timeout(lab):
    lab.apply("web.yaml", documents(lab, lab.webs, 1))
    before = [client.who("10.96.0.1", 80) for client in lab.clients]
    equal([client.who("10.96.0.1", 80) for client in lab.clients], before, "within the timeout")
    time.sleep(1.2)  # the passing of time is what is tested
    after = [client.who("10.96.0.1", 80) for client in lab.clients]
    true(before != after, f"nobody chose anew after the timeout: {after}")  # chance 4^-8


def test_many_at_once(lab):
    """Connects of one pod on several CPUs at the same time, the first ones included."""
    lab.apply("web.yaml", documents(lab, lab.webs, 10800))
    for client in lab.clients[:4]:
        tasks = [client.spawn(burst, "10.96.0.1", 53, 20) for _ in range(4)]
        peers = set().union(*(task.result() for task in tasks))
        equal(len(peers), 1, f"endpoints of {client}: {peers}")


def burst(address, port, rounds):
    """Where UDP connects led to. getpeername() would not say; the kernel's own table does, and no packet is sent."""
    peers = set()
    for _ in range(rounds):
        held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(500)]
        for made in held:
            made.connect((address, port))
        lines = pathlib.Path("/proc/thread-self/net/udp").read_text().splitlines()[1:]
        # One that another process connects or closes right now has no port yet, or no more.
        peers |= {line.split()[2] for line in lines if not line.split()[2].endswith(":0000")}
        for made in held:
            made.close()
    return peers


def test_terminating_only_when_nothing_else(lab):
    client = lab.clients[5]
    lab.apply("web.yaml", documents(lab, lab.webs[:1], 10800))
    equal(client.who("10.96.0.1", 80), "web-a")
    leaving = endpoint(lab.webs[0], ready=False, serving=True, terminating=True)
    lab.apply("web.yaml", documents(lab, [leaving], 10800))
    equal(client.who("10.96.0.1", 80), "web-a", "kept while nothing else is there")
    lab.apply("web.yaml", documents(lab, [leaving, lab.webs[1]], 10800))
    equal(client.spread("10.96.0.1", 80, 20), {"web-b": 20}, "once another is ready")


def test_local_only_frontend(lab):
    """A node port led elsewhere; the cluster IP of the same service may use this node's endpoints alone."""
    client, near, far = lab.clients[6], lab.webs[2], lab.webs[3]
    spec = {"sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local", "type": "NodePort"}
    ports = [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]
    made = service("near", "10.96.0.9", ports, **spec)
    lab.apply("near.yaml", [node(), made, endpoint_slice("near", [endpoint(far, nodeName="node-2")], ports=[80])])
    equal(client.who("10.77.0.1", 30080), far.name)
    both = [endpoint(far, nodeName="node-2"), endpoint(near, nodeName="node-1")]
    lab.apply("near.yaml", [node(), made, endpoint_slice("near", both, ports=[80])])
    equal(client.who("10.77.0.1", 30080), far.name, "the node port's affinity")
    equal(client.who("10.96.0.9", 80), near.name, "the cluster IP")


main(topology)
