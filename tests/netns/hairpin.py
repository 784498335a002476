#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A pod that reaches itself through its own service sees itself as any other client would see it.

    web ──> 10.96.0.1:80, fd96::1:80 ──> web
"""

from lab import *


def topology(lab):
    lab.web = lab.pod("web")
    lab.web.serve()
    lab.web.serve_udp()
    ports = ["tcp=80", "udp=53/UDP"]
    lab.write("web.yaml", [service("web", ["10.96.0.1", "fd96::1"], ports), endpoint_slice("web", [lab.web], ports),
                           endpoint_slice("web", [endpoint(lab.web.ip6)], ports)])
    lab.start()


def test_tcp(lab):
    for address, own in (("10.96.0.1", lab.web.ip), ("fd96::1", lab.web.ip6)):
        with lab.web.connect(address, 80) as made:
            equal(read_name(made), "web")
            equal(made.getpeername()[:2], (address, 80), "getpeername")
            equal(made.getsockname()[0], own, "getsockname")


def test_udp(lab):
    for address in ("10.96.0.1", "fd96::1"):
        with lab.web.new_socket(family_of(address), socket.SOCK_DGRAM) as made:
            made.sendto(b"?", (address, 53))
            data, peer = made.recvfrom(100)
            equal((data.split()[0], peer[0]), (b"web", address))


main(topology)
