#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Live counts are exact: connections end in every way there is, afterwards nothing is live and all that was opened has ended.

    client-0, client-1 ──> 10.96.0.1:80, 53/UDP ──┬── web-a
                                                  ├── web-b
                                                  └── nobody   an address where connects time out
           ──> 10.96.0.2:81 (shut)  ──> web-a:81, where nobody listens

WEFT_TEST_CONNECTIONS sets how many (20000 unless told).
"""

import random

from lab import *

COUNT = int(os.environ.get("WEFT_TEST_CONNECTIONS", "20000"))
NOBODY = "10.77.0.200"
PORTS = ["tcp=80", "udp=53/UDP"]


def topology(lab):
    lab.clients = [lab.pod("client-0"), lab.pod("client-1")]
    lab.webs = [lab.pod("web-a"), lab.pod("web-b")]
    for web in lab.webs:
        web.serve()
        web.serve_udp()
    for client in lab.clients:
        # An address that somebody seems to have, so that a SYN gets no answer at all.
        ip(client.netns, f"neigh add {NOBODY} lladdr 02:00:00:00:00:01 dev eth0")
    lab.write("web.yaml", [service("web", "10.96.0.1", PORTS), endpoint_slice("web", lab.webs, PORTS),
                           service("shut", "10.96.0.2", [81]), endpoint_slice("shut", lab.webs, [81]),
                           service("hole", "10.96.0.3"), endpoint_slice("hole", [NOBODY])])
    lab.start()


def tcp(address="10.96.0.1", port=80):
    made = socket.socket()
    made.settimeout(10)
    made.connect((address, port))
    return made


def linger(made):
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close_normally():
    with tcp() as made:
        read_name(made)


def close_unread():
    with tcp():
        pass


def close_by_reset():
    with tcp() as made:
        linger(made)


def half_close():
    with tcp() as made:
        read_name(made)
        made.sendall(b"x" * 1000)
        made.shutdown(socket.SHUT_WR)
        while made.recv(4096):
            pass


def refused():
    try:
        tcp("10.96.0.2", 81)
    except ConnectionRefusedError:
        return
    raise AssertionError("a connect to a shut port succeeded")


def refused_then_elsewhere():
    with socket.socket() as made:
        try:
            made.connect(("10.96.0.2", 81))
        except ConnectionRefusedError:
            pass
        made.connect(("10.96.0.1", 80))
        read_name(made)
        linger(made)


def abandoned():
    with socket.socket() as made:
        made.setblocking(False)
        made.connect_ex(("10.96.0.3", 80))


def never_connected():
    socket.socket().close()
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def udp_connected():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        made.connect(("10.96.0.1", 53))
        made.send(b"?")
        made.recv(100)


def udp_reconnected():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        for _ in range(4):
            made.connect(("10.96.0.1", 53))
        made.connect(("127.0.0.1", 9))


def udp_unconnected():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        made.sendto(b"?", ("10.96.0.1", 53))
        made.recvfrom(100)


def shared_with_a_child():
    with tcp() as made:
        pid = os.fork()
        if pid == 0:
            made.close()
            os._exit(0)
        read_name(made)
        os.waitpid(pid, 0)


def killed():
    pid = os.fork()
    if pid == 0:
        made = tcp()
        os.kill(os.getpid(), signal.SIGKILL)
        made.close()
    os.waitpid(pid, 0)


WAYS = [close_normally, close_unread, close_by_reset, half_close, refused, refused_then_elsewhere, abandoned, never_connected,
        udp_connected, udp_reconnected, udp_unconnected]
SLOW_WAYS = [shared_with_a_child, killed]


def many(count, seed):
    chance = random.Random(seed)
    for n in range(count):
        chance.choice(SLOW_WAYS if n % 50 == 0 else WAYS)()
    return count


def settled(lab):
    return lab.live() == 0


def test_every_way(lab):
    tasks = [client.spawn(many, COUNT // 4, n) for n, client in enumerate(lab.clients * 2)]
    equal(sum(t.result(600) for t in tasks), COUNT // 4 * 4)
    wait_for(lambda: settled(lab), lambda: f"live connections to be 0, they are {lab.live()}", 20)


def test_opened_equals_ended(lab):
    """Of TCP, at either end: what was established has closed or was reset."""
    for reporter in (SOURCE, DESTINATION):
        def rows(field, outcome, reporter=reporter):
            return lab.aggregate(field, reporter=reporter, outcome=outcome, protocol=socket.IPPROTO_TCP)

        def opened():
            return sum(rows("opened", o) for o in range(6))

        def ended():
            return rows("ended", CLOSED) + rows("ended", RESET)

        wait_for(lambda: opened() == ended(), lambda: f"reporter {reporter}: {opened()} opened, {ended()} ended", 20)
        true(opened() > COUNT // 3, f"reporter {reporter}: only {opened()} opened of {COUNT}")


def test_both_ends_counted_the_same(lab):
    def opened(reporter):
        return sum(lab.aggregate("opened", reporter=reporter, outcome=o, protocol=socket.IPPROTO_TCP) for o in range(6))

    wait_for(lambda: opened(SOURCE) == opened(DESTINATION), lambda: f"source {opened(SOURCE)}, destination {opened(DESTINATION)}")


def test_metrics_switched_off_and_on(lab):
    """What was counted as opened is counted as ended, also if nobody wanted metrics at one of both moments."""
    def opened_and_ended():
        lab.metrics_text()  # who reads metrics has live connections report
        return (sum(lab.aggregate("opened", reporter=SOURCE, outcome=o, protocol=socket.IPPROTO_TCP) for o in range(6)),
                sum(lab.aggregate("ended", reporter=SOURCE, outcome=o, protocol=socket.IPPROTO_TCP) for o in (CLOSED, RESET)))

    def switch(on):
        lab.write("mesh.yaml", mesh_config(metrics={"enabled": on}))
        wait_for(lambda: bool(lab.maps("weft_setting")[0]["value"]["flags"] & 2) == on, f"metrics to be {on}")

    def close_all(held):
        for made in held:
            reset(made)
        wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}")

    if not lab.has("fetch_atomics"):
        raise Skip("without fetch_atomics both are counted at the end, so never apart")
    before = opened_and_ended()
    held = [lab.clients[0].connect("10.96.0.1", 80) for _ in range(10)]
    wait_for(lambda: opened_and_ended() == (before[0] + 10, before[1]), lambda: f"{opened_and_ended()} after {before}")
    switch(False)
    close_all(held)
    held = [lab.clients[0].connect("10.96.0.1", 80) for _ in range(10)]
    switch(True)
    close_all(held)
    wanted = (before[0] + 20, before[1] + 20)
    wait_for(lambda: opened_and_ended() == wanted, lambda: f"{opened_and_ended()}, wanted {wanted}", 5)


def test_recount_at_start(lab):
    """Held connections are counted once after main came back, whatever happened to others meanwhile."""
    held = [lab.clients[0].connect("10.96.0.1", 80) for _ in range(100)]
    udp = [lab.clients[1].connect("10.96.0.1", 53, kind=socket.SOCK_DGRAM) for _ in range(50)]
    equal(lab.live(), 150, "live connections held")
    load = lab.clients[1].load("10.96.0.1", 80)
    for _ in range(5):
        lab.kill("main")
    result = load.stop().result()
    equal(result["errors"], {}, "errors of the load meanwhile")
    wait_for(lambda: lab.live() == 150, lambda: f"live connections to be 150, they are {lab.live()}")
    for made in held:
        reset(made)
    wait_for(lambda: lab.live() == 50, lambda: f"live connections to be 50, they are {lab.live()}")
    for made in udp:
        made.close()
    wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}")


main(topology)
