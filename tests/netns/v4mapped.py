#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""IPv4, IPv6 and v4-mapped sockets reach services, and see the address that they asked for.

    client ──> 10.96.0.1, fd96::1, ::ffff:10.96.0.1 ports 80, 53/UDP ──> web
"""

from lab import *

ADDRESSES = [("10.96.0.1", socket.AF_INET), ("fd96::1", socket.AF_INET6), ("::ffff:10.96.0.1", socket.AF_INET6)]


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.web.serve_udp()
    ports = ["tcp=80", "udp=53/UDP"]
    lab.write("web.yaml", [service("web", ["10.96.0.1", "fd96::1"], ports), endpoint_slice("web", [lab.web], ports),
                           endpoint_slice("web", [endpoint(lab.web.ip6)], ports)])
    lab.start()


def test_tcp(lab):
    for address, family in ADDRESSES:
        with lab.client.connect(address, 80, family=family) as made:
            equal(read_name(made), "web")
            equal(made.getpeername()[:2], (address, 80), "getpeername")
            own = {"10.96.0.1": lab.client.ip, "fd96::1": lab.client.ip6}.get(address, f"::ffff:{lab.client.ip}")
            equal(made.getsockname()[0], own, "getsockname")


def test_udp(lab):
    for address, family in ADDRESSES:
        with lab.client.new_socket(family, socket.SOCK_DGRAM) as made:
            made.sendto(b"?", (address, 53))
            data, peer = made.recvfrom(100)
            contains(data, b"web")
            equal(peer[:2], (address, 53), "source of the reply")
        with lab.client.connect(address, 53, family=family, kind=socket.SOCK_DGRAM) as made:
            made.send(b"?")
            contains(made.recv(100), b"web")
            equal(made.getpeername()[:2], (address, 53), "getpeername")


def test_pods_are_reached_directly(lab):
    for address in (lab.web.ip, lab.web.ip6, f"::ffff:{lab.web.ip}"):
        with lab.client.connect(address, 80) as made:
            equal(read_name(made), "web")
            equal(made.getpeername()[:2], (address, 80), "getpeername")


def test_v6only_socket_does_not_leak_into_v4(lab):
    with lab.client.new_socket(socket.AF_INET6) as made:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        with fails(errno.ENETUNREACH, errno.EINVAL):
            made.connect(("::ffff:10.96.0.1", 80))


def test_nonblocking_connect(lab):
    with lab.client.new_socket() as made:
        made.setblocking(False)
        equal(made.connect_ex(("10.96.0.1", 80)), errno.EINPROGRESS)
        true(select.select([], [made], [], 5)[1], "the socket did not become writable")
        equal(made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, "SO_ERROR")
        made.settimeout(5)
        equal(read_name(made), "web")


main(topology)
