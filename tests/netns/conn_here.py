#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kernels on which the state of all sockets may not be walked over: each network namespace is, that has a name or a process.

    client, nameless ──> 10.96.0.1:80, 53/UDP ──> web
"""

from lab import *

WITHOUT = () if "sock_storage_iter" in os.environ.get("WEFT_WITHOUT", "") else ("--without-feature", "sock_storage_iter")


def topology(lab):
    lab.client, lab.nameless, lab.web = lab.pod("client"), lab.pod("nameless"), lab.pod("web")
    lab.web.serve()
    lab.web.serve_udp(53)
    ports = ["http=80", "dns=53/UDP"]
    lab.write("web.yaml", [service("web", "10.96.0.1", ports), endpoint_slice("web", [lab.web], ports)])
    lab.start(*WITHOUT)


def pins(lab):
    return {pin.name for pin in (lab.pins / "v1/link").iterdir() if pin.name.startswith("weft_conn_") or pin.name == "weft_conn"}


def shown(lab):
    """Own addresses of the clients' sockets, in order."""
    return sorted(row["local"] for row in lab.weft("conn", "list") if row["role"] == "client")


def local(made):
    return "{}:{}".format(*made.getsockname()[:2])


def udp(pod, connected):
    """An association, by a connected socket or by sendto()."""
    made = pod.new_socket(kind=socket.SOCK_DGRAM)
    if connected:
        made.connect(("10.96.0.1", 53))
        made.send(b"?")
    else:
        made.sendto(b"?", ("10.96.0.1", 53))
    made.recv(100)
    return made


def test_it_is_said(lab):
    features = {f["name"]: f for f in lab.request({"request": "feature.list"})["features"]}
    true(not features["sock_storage_iter"]["there"] and features["sock_storage_iter"]["forced"], f"{features['sock_storage_iter']}")
    contains(lab.cli("feature", "list")[1], "the sockets of each network namespace with a name or a process are walked over")
    equal(pins(lab), {"weft_conn_tcp_here", "weft_conn_udp_here"}, "pinned iterators")
    attached = {row["name"]: row["attach"] for row in lab.weft("prog", "list")}
    equal((attached["weft_conn_tcp_here"], attached["weft_conn_udp_here"]), ("iter/tcp", "iter/udp"), "what they walk over")


def test_recounted(lab):
    """TCP, and UDP both ways, on two namespaces: counted anew by another main, and given back by each."""
    held = [pod.connect("10.96.0.1", 80) for pod in (lab.client, lab.nameless) for _ in range(10)]
    for made in held:
        read_name(made)
    held += [udp(pod, connected) for pod in (lab.client, lab.nameless) for connected in (True, False) for _ in range(5)]
    equal(lab.live(), 40, "live connections")
    for _ in range(3):
        lab.kill("main")
        equal(lab.live(), 40, "live connections, counted anew")
    listed = shown(lab)
    equal(listed, sorted(map(local, held[:20] + held[20:25] + held[30:35])), "connected sockets")
    for made in held[::2]:
        end(made)
    wait_for(lambda: lab.live() == 20, lambda: f"20 live connections, there are {lab.live()}")
    lab.kill("main")
    equal(lab.live(), 20, "live connections, counted anew")
    for made in held[1::2]:
        end(made)
    wait_for(lambda: lab.live() == 0, lambda: f"no live connections, there are {lab.live()}")


def end(made):
    made.close() if made.type == socket.SOCK_DGRAM else reset(made)


def test_bytes_before_the_end(lab):
    made = lab.client.connect("10.96.0.1", 80)
    name = read_name(made)
    equal(name, "web")
    sent = lambda: lab.metric("istio_tcp_sent_bytes_total", reporter="source", destination_service_name="web")
    before = sent()
    made.sendall(b"x" * 1000)
    wait_for(lambda: sent() == before + 1000, lambda: f"1000 more bytes than {before}, there are {sent()}")
    reset(made)


def test_while_namespaces_come_and_go(lab):
    """A walk keeps the namespaces that it has found until it is over."""
    held = [lab.client.connect("10.96.0.1", 80) for _ in range(50)]
    mine = set(map(local, held))
    churn = lab.nameless.spawn(come_and_go)
    try:
        for _ in range(10):
            equal(mine - set(shown(lab)), set(), "connections that are missing")
        lab.kill("main")
        equal(lab.live(), 50, "live connections, counted anew")
    finally:
        true(churn.stop().result() > 10, "no namespace came")
    for made in held:
        reset(made)
    wait_for(lambda: lab.live() == 0, lambda: f"no live connections, there are {lab.live()}")


def come_and_go():
    made = 0
    while not stopping():
        pid = os.fork()
        if pid == 0:
            libc.unshare(CLONE_NEWNET)
            os._exit(0)
        os.waitpid(pid, 0)
        made += 1
    return made


def test_without_a_name(lab):
    """A process is enough. Where there is nothing but sockets they are neither shown nor counted anew, nor given back."""
    made = lab.nameless.connect("10.96.0.1", 80)
    read_name(made)
    sh("ip", "netns", "del", lab.nameless.netns)
    lab.kill("main")
    equal(lab.live(), 1, "live connections, counted anew")
    equal(shown(lab), [local(made)], "connections")

    lab.nameless.channel.close()
    lab.nameless.channel = None
    wait_for(lambda: shown(lab) == [], "the last process of the namespace to end")
    lab.kill("main")
    equal(lab.live(), 0, "live connections, counted anew")
    held = lab.client.connect("10.96.0.1", 80)
    reset(made)
    wait_for(lambda: len(lab.weft("conn", "list")) == 2, "the web server's end of the other connection to go")
    equal(lab.live(), 1, "live connections after one ended that was not counted")
    reset(held)
    wait_for(lambda: lab.live() == 0, lambda: f"no live connections, there are {lab.live()}")


def test_the_other_way_again(lab):
    """An adoption changes it, in both directions, with connections open; on a kernel with the bug it stays."""
    made = lab.client.connect("10.96.0.1", 80)
    lab.stop()
    lab.start()
    there = {f["name"]: f["there"] for f in lab.request({"request": "feature.list"})["features"]}["sock_storage_iter"]
    equal(pins(lab), {"weft_conn"} if there else {"weft_conn_tcp_here", "weft_conn_udp_here"}, "pinned iterators")
    equal((lab.live(), shown(lab)), (1, [local(made)]), "the connection")
    lab.stop()
    lab.start(*WITHOUT)
    equal(pins(lab), {"weft_conn_tcp_here", "weft_conn_udp_here"}, "pinned iterators")
    equal((lab.live(), shown(lab)), (1, [local(made)]), "the connection")
    reset(made)
    wait_for(lambda: lab.live() == 0, lambda: f"no live connections, there are {lab.live()}")


main(topology)
