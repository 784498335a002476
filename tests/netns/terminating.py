#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An endpoint goes away in steps: terminating takes no new connections and keeps its old ones, gone cuts them.

    client ──> 10.96.0.1:80, 53/UDP ──┬── web-a   ready -> terminating -> gone
                                      └── web-b
"""

from lab import *

PORTS = ["tcp=80", "udp=53/UDP"]


def topology(lab):
    lab.client = lab.pod("client")
    lab.a, lab.b = lab.pod("web-a"), lab.pod("web-b")
    for web in (lab.a, lab.b):
        web.serve()
        web.serve_udp()
    lab.write("web.yaml", documents(endpoint(lab.a)))
    lab.start(*EXTRA)


def documents(*endpoints, **mesh):
    made = [service("web", "10.96.0.1", PORTS), endpoint_slice("web", list(endpoints), PORTS)]
    return [*made, mesh_config(**mesh)] if mesh else made


def leaving(pod):
    return endpoint(pod, ready=False, serving=True, terminating=True)


def hold(lab, wanted):
    made = lab.client.connect("10.96.0.1", 80)
    equal(read_name(made), wanted)
    return made


def alive(made, text=b"still there"):
    made.sendall(text)
    equal(made.recv(100), text, "echo over the held connection")


def test_terminating_drains(lab):
    lab.apply("web.yaml", documents(endpoint(lab.a)))
    with hold(lab, "web-a") as held:
        lab.apply("web.yaml", documents(leaving(lab.a), endpoint(lab.b)))
        equal(lab.client.spread("10.96.0.1", 80, 50), {"web-b": 50})
        alive(held)


def test_terminating_is_better_than_nothing(lab):
    lab.apply("web.yaml", documents(leaving(lab.a), endpoint(lab.b, ready=False)))
    equal(lab.client.spread("10.96.0.1", 80, 50), {"web-a": 50})
    lab.apply("web.yaml", documents(endpoint(lab.a, ready=False, serving=False, terminating=True)))
    with fails(lab.refused):
        lab.client.connect("10.96.0.1", 80)


def test_gone_is_cut(lab):
    lab.apply("web.yaml", documents(endpoint(lab.a)))
    held = [hold(lab, "web-a") for _ in range(20)]
    start = time.monotonic()
    lab.apply("web.yaml", documents(endpoint(lab.b)))
    for made in held:
        with fails(errno.ECONNABORTED, errno.ECONNRESET):
            made.recv(100)
        made.close()
    true(time.monotonic() - start < 5, f"the cut took {time.monotonic() - start:.1f} s")
    wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}")


def test_more_are_gone_than_are_cut_at_a_time(lab):
    """One request to main does not take them all."""
    at_a_time = int(re.search(r"WEFT_ROLE_MAX_CUT (\d+)", (ROOT / "include/weft/abi/role.h").read_text())[1])
    many = [leaving(f"10.78.{n // 256}.{n % 256}") for n in range(at_a_time + 500)]
    slices = [endpoint_slice("many", many[n:n + 1000], name=f"many-{n}") for n in range(0, len(many), 1000)]
    real = lambda pod: endpoint_slice("many", [pod], name=f"many-{pod.name}")
    there = [service("many", "10.96.0.9"), real(lab.a)]
    lab.apply("many.yaml", json_documents(there))
    lab.apply("many.yaml", json_documents([*there, *slices]), timeout=60)
    lab.apply("many.yaml", json_documents([*there, *slices, real(lab.b)]), timeout=60)
    true(lab.status()["endpoints"] > at_a_time, f"{lab.status()['endpoints']} endpoints, wanted more than {at_a_time}")
    held = {}
    while len(held) < 2:
        made = lab.client.connect("10.96.0.9", 80)
        held[read_name(made)] = made
    lab.apply("many.yaml", json_documents(there[:1]), timeout=60)
    for made in held.values():
        with fails(errno.ECONNABORTED, errno.ECONNRESET):
            made.recv(100)
        made.close()
    lab.remove("many.yaml")


def json_documents(documents):
    """YAML that is quickly made and read."""
    return "---\n".join(json.dumps(document) + "\n" for document in documents)


def test_connected_udp_is_cut_when_terminating(lab):
    lab.apply("web.yaml", documents(endpoint(lab.a)))
    with lab.client.connect("10.96.0.1", 53, kind=socket.SOCK_DGRAM) as made:
        made.send(b"?")
        contains(made.recv(100), b"web-a")
        lab.apply("web.yaml", documents(leaving(lab.a), endpoint(lab.b)))
        with fails(errno.ECONNABORTED):
            made.recv(100)
    equal(lab.client.ask("10.96.0.1", 53), "web-b")


def test_cut_udp_socket_goes_elsewhere_when_it_connects_again(lab):
    lab.apply("web.yaml", documents(endpoint(lab.a)))
    with lab.client.connect("10.96.0.1", 53, kind=socket.SOCK_DGRAM) as made:
        made.send(b"?")
        contains(made.recv(100), b"web-a")
        lab.apply("web.yaml", documents(leaving(lab.a), endpoint(lab.b)))
        with fails(errno.ECONNABORTED):
            made.recv(100)
        made.connect(("10.96.0.1", 53))
        made.send(b"?")
        contains(made.recv(100), b"web-b")


def test_a_disconnected_udp_socket_is_not_cut(lab):
    """What it was connected to once is gone; the socket serves others by now."""
    lab.apply("web.yaml", documents(endpoint(lab.a)))
    with lab.client.connect("10.96.0.1", 53, kind=socket.SOCK_DGRAM) as made:
        libc.connect(made.fileno(), b"\0" * 16, 16)  # AF_UNSPEC
        made.bind((lab.client.ip, 5353))
        # What is cut is cut with the same pass: the other socket says when.
        with lab.client.connect("10.96.0.1", 53, kind=socket.SOCK_DGRAM) as other:
            lab.apply("web.yaml", documents(endpoint(lab.b)))
            with fails(errno.ECONNABORTED):
                other.recv(100)
        with lab.b.new_socket(kind=socket.SOCK_DGRAM) as peer:
            peer.sendto(b"hello", (lab.client.ip, 5353))
            equal(made.recv(100), b"hello")


def test_policy_leave(lab):
    lab.apply("web.yaml", documents(endpoint(lab.a), goneEndpoint={"policy": "Leave"}))
    with hold(lab, "web-a") as held:
        lab.apply("web.yaml", documents(endpoint(lab.b), goneEndpoint={"policy": "Leave"}))
        # What is cut is cut with the same pass: a second endpoint's cut UDP socket says that the pass is over.
        with lab.client.connect("10.96.0.1", 53, kind=socket.SOCK_DGRAM) as udp:
            lab.apply("web.yaml", documents(endpoint(lab.a), goneEndpoint={"policy": "Leave"}))
            with fails(errno.ECONNABORTED):
                udp.recv(100)
        alive(held)


def test_policy_drain(lab):
    policy = {"policy": "Drain", "timeout": "2s"}
    lab.apply("web.yaml", documents(endpoint(lab.a), goneEndpoint=policy))
    with hold(lab, "web-a") as held:
        lab.apply("web.yaml", documents(endpoint(lab.b), goneEndpoint=policy))
        start = time.monotonic()
        alive(held)
        with fails(errno.ECONNABORTED, errno.ECONNRESET):
            held.recv(100)
        took = time.monotonic() - start
        true(1.0 < took < 5.0, f"drained for {took:.1f} s, wanted 2 s")


def test_v6_and_hostnetwork_sockets_are_cut(lab):
    ports = ["tcp=80"]
    six = [service("six", ["fd96::6"], ports), endpoint_slice("six", [endpoint(lab.a.ip6)], ports)]
    lab.apply("six.yaml", six)
    with lab.client.connect("fd96::6", 80) as made, lab.node.connect("fd96::6", 80) as of_node:
        for one in (made, of_node):
            equal(read_name(one), "web-a")
        lab.apply("six.yaml", six[:1])
        for one in (made, of_node):
            with fails(errno.ECONNABORTED, errno.ECONNRESET):
                one.recv(100)


EXTRA = []
if __name__ == "__main__":
    main(topology)
