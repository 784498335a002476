#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bytes are counted to the byte, at both ends, whichever way the connection ended.

    client ──> 10.96.0.1:80 (echo) ──> web:80    says "web\\n", then echoes
           ──> 10.96.0.2:81 (sink) ──> web:81    reads to the end, then says how much came
"""

from lab import *

NAMES = {"source_workload": "client", "destination_workload": "web"}


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.web.serve(81, mode="sink")
    lab.write("web.yaml", [service("echo", "10.96.0.1"), endpoint_slice("echo", [lab.web]),
                           service("sink", ["10.96.0.2", "fd96::2"], [81]), endpoint_slice("sink", [lab.web], [81]),
                           endpoint_slice("sink", [endpoint(lab.web.ip6)], [81])])
    lab.write("pods.yaml", [pod_resource(lab.client), pod_resource(lab.web)])
    lab.start()


def totals(lab, name):
    """(opened, sent, received) by reporter as /metrics tells."""
    out = {}
    for reporter in ("source", "destination"):
        labels = {"reporter": reporter, "destination_service_name": name, **NAMES}
        out[reporter] = tuple(int(lab.metric(f"istio_tcp_{what}_total", **labels))
                              for what in ("connections_opened", "connections_closed", "sent_bytes", "received_bytes"))
    return out


def check(lab, name, action, connections, to_server, to_client):
    """Istio's sent_bytes are the response's, received_bytes the request's, at either reporter."""
    before = totals(lab, name)
    action()
    wanted = {r: tuple(b + d for b, d in zip(v, (connections, connections, to_client, to_server))) for r, v in before.items()}
    try:
        wait_for(lambda: totals(lab, name) == wanted, "", 5)
    except Failure:
        equal(totals(lab, name), wanted, f"(opened, closed, sent, received) of {name}")


def test_nothing(lab):
    """But the answer that nothing came."""
    def action():
        with lab.client.connect("10.96.0.2", 81) as made:
            made.shutdown(socket.SHUT_WR)
            equal(made.recv(100), b"0")

    check(lab, "sink", action, 1, 0, 1)


def test_half_close(lab):
    def action():
        for size in (1, 1000, 100_000, 3_000_000):
            for address in ("10.96.0.2", "fd96::2"):
                with lab.client.connect(address, 81) as made:
                    made.sendall(b"x" * size)
                    made.shutdown(socket.SHUT_WR)
                    equal(made.recv(100), str(size).encode())

    sizes = (1, 1000, 100_000, 3_000_000)
    check(lab, "sink", action, 8, 2 * sum(sizes), 2 * sum(len(str(s)) for s in sizes))


def test_echo_then_close(lab):
    def action():
        for _ in range(50):
            with lab.client.connect("10.96.0.1", 80) as made:
                read_name(made)
                made.sendall(b"y" * 700)
                got = 0
                while got < 700:
                    got += len(made.recv(1000))

    check(lab, "echo", action, 50, 50 * 700, 50 * 704)


def test_server_closes_first(lab):
    def action():
        with lab.client.connect("10.96.0.1", 80) as made:
            read_name(made)
            made.sendall(b"z" * 10)
            made.shutdown(socket.SHUT_WR)
            equal(made.recv(100), b"z" * 10)
            equal(made.recv(100), b"")

    check(lab, "echo", action, 1, 10, 14)


def test_reset(lab):
    """All was acknowledged before the reset, so that both ends agree."""
    def action():
        made = lab.client.connect("10.96.0.1", 80)
        read_name(made)
        made.sendall(b"w" * 5000)
        got = 0
        while got < 5000:
            got += len(made.recv(10000))
        wait_for(lambda: unacknowledged(made) == 0, "acknowledgements")
        reset(made)

    check(lab, "echo", action, 1, 5000, 5004)


def test_both_ends_open_at_once(lab):
    """A socket that reaches itself: each SYN meets the other, and one socket is both ends."""
    lab.apply("self.yaml", [service("self", "10.96.0.4"), endpoint_slice("self", [lab.client], ["80:8084"])])

    def sums():
        return tuple(int(lab.metric(f"istio_tcp_{what}_total", destination_service_name="self"))
                     for what in ("connections_opened", "connections_closed", "sent_bytes", "received_bytes"))

    with lab.client.new_socket() as made:
        made.bind((lab.client.ip, 8084))
        made.connect(("10.96.0.4", 80))
        made.sendall(b"u" * 1234)
        got = 0
        while got < 1234:
            got += len(made.recv(2000))
        wait_for(lambda: unacknowledged(made) == 0, "acknowledgements")
    try:
        wait_for(lambda: sums() == (1, 1, 1234, 1234), "", 5)
    except Failure:
        equal(sums(), (1, 1, 1234, 1234), "(opened, closed, sent, received)")


def unacknowledged(made):
    """tcpi_unacked"""
    return struct.unpack_from("I", made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]


def test_a_long_connection_shows_while_it_lives(lab):
    before = totals(lab, "echo")["source"]
    with lab.client.connect("10.96.0.1", 80) as made:
        read_name(made)
        made.sendall(b"v" * 3000)
        got = 0
        while got < 3000:
            got += len(made.recv(10000))

        def seen():
            now = totals(lab, "echo")["source"]
            return (now[0] - before[0], now[1] - before[1], now[2] - before[2], now[3] - before[3])

        live = (1, 0, 3004, 3000) if lab.has("fetch_atomics") else (0, 0, 0, 0)
        wait_for(lambda: seen() == live, lambda: f"(opened, closed, sent, received) are {seen()}", 15)
    wait_for(lambda: seen() == (1, 1, 3004, 3000), lambda: f"after the close: {seen()}", 15)


main(topology)
