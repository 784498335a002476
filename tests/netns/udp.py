#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""UDP: connected and unconnected clients, one socket to many services, replies that come from the address asked.

    client ──> 10.96.0.1:53 (dns), fd96::1 ──┬── dns-a
                                             └── dns-b
           ──> 10.96.1.1 ... 10.96.1.12:53    one service each, all on dns-a
"""

from lab import *


def topology(lab):
    lab.client = lab.pod("client")
    lab.a, lab.b = lab.pod("dns-a"), lab.pod("dns-b")
    for dns in (lab.a, lab.b):
        dns.serve_udp()
        dns.serve_udp(5353)
    lab.write("dns.yaml", documents([lab.a, lab.b]))
    many = []
    for n in range(1, 13):
        many += [service(f"dns-{n}", f"10.96.1.{n}", ["53/UDP"]), endpoint_slice(f"dns-{n}", [lab.a], ["53/UDP"])]
    lab.write("many.yaml", many)
    lab.start()


def documents(pods):
    ports = ["53/UDP"]
    return [service("dns", ["10.96.0.1", "fd96::1"], ports), endpoint_slice("dns", pods, ports),
            endpoint_slice("dns", [endpoint(p.ip6) for p in pods], ports)]


def exchange(made, address, text=b"?"):
    made.sendto(text, (address, 53))
    data, peer = made.recvfrom(2048)
    return data.split()[0].decode(), peer[0], peer[1]


def test_connected(lab):
    for address in ("10.96.0.1", "fd96::1"):
        with lab.client.connect(address, 53, kind=socket.SOCK_DGRAM) as made:
            names = set()
            for n in range(20):
                made.send(b"%d" % n)
                name, text = made.recv(100).split()
                equal(text, b"%d" % n)
                names.add(name)
            equal(len(names), 1, f"endpoints of one connected socket: {names}")
            equal(made.getpeername()[:2], (address, 53), "getpeername")


def test_new_sockets_spread(lab):
    counts = {}
    for _ in range(400):
        name = lab.client.ask("10.96.0.1", 53)
        counts[name] = counts.get(name, 0) + 1
    spread_fits(counts, {"dns-a": 1, "dns-b": 1})


def test_unconnected_sees_the_address_it_asked(lab):
    for address in ("10.96.0.1", "fd96::1"):
        with lab.client.new_socket(family_of(address), socket.SOCK_DGRAM) as made:
            answers = {exchange(made, address) for _ in range(20)}
            equal(len(answers), 1, f"answers to one socket: {answers}")
            equal(answers.pop()[1:], (address, 53), "source of the reply")


def test_one_socket_many_services(lab):
    with lab.client.new_socket(kind=socket.SOCK_DGRAM) as made:
        for n in range(1, 9):
            made.sendto(b"%d" % n, (f"10.96.1.{n}", 53))
        got = {}
        for _ in range(8):
            data, peer = made.recvfrom(2048)
            got[peer[0]] = data.split()[1]
        # All eight are on one endpoint address: it answers from the service that was asked last over this socket, or from each.
        true(set(got) <= {f"10.96.1.{n}" for n in range(1, 9)}, f"sources of replies: {got}")
        for n in range(1, 9):
            equal(exchange(made, f"10.96.1.{n}")[1:], (f"10.96.1.{n}", 53), "source of the reply")


def test_more_services_than_entries(lab):
    before = lab.counter("udp_entry_replaced")
    with lab.client.new_socket(kind=socket.SOCK_DGRAM) as made:
        for n in range(1, 13):
            equal(exchange(made, f"10.96.1.{n}")[1:], (f"10.96.1.{n}", 53), "source of the reply")
    equal(lab.counter("udp_entry_replaced") - before, 4, "replaced entries of 12 services in 8 entries")


def test_connected_and_sendto(lab):
    for _ in range(20):
        with lab.client.connect("10.96.0.1", 53, kind=socket.SOCK_DGRAM) as made:
            made.send(b"1")
            first = made.recv(100).split()[0]
            made.sendto(b"2", ("10.96.0.1", 53))
            equal(made.recv(100).split(), [first, b"2"], "the endpoint that connect chose")


def test_replies_of_others_keep_their_source(lab):
    with lab.client.new_socket(kind=socket.SOCK_DGRAM) as made:
        exchange(made, "10.96.0.1")
        made.sendto(b"?", (lab.a.ip, 5353))
        equal(made.recvfrom(100)[1], (lab.a.ip, 5353), "a pod asked by its own address and port")


def test_reconnect_elsewhere(lab):
    with lab.client.connect("10.96.0.1", 53, kind=socket.SOCK_DGRAM) as made:
        made.connect(("10.96.1.3", 53))
        made.send(b"?")
        contains(made.recv(100), b"dns-a")
        equal(made.getpeername(), ("10.96.1.3", 53), "getpeername")
        made.connect((lab.b.ip, 5353))
        made.send(b"?")
        contains(made.recv(100), b"dns-b")
        equal(made.getpeername(), (lab.b.ip, 5353), "getpeername of a pod's own address")


def test_gone_endpoint_is_chosen_anew(lab):
    with lab.client.new_socket(kind=socket.SOCK_DGRAM) as made:
        name = exchange(made, "10.96.0.1")[0]
        left = lab.b if name == "dns-a" else lab.a
        lab.apply("dns.yaml", documents([left]))
        equal(exchange(made, "10.96.0.1"), (left.name, "10.96.0.1", 53), "the same socket, afterwards")


main(topology)
