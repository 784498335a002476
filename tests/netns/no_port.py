#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Ports that no service has: refused on a ClusterIP, left alone on a headless service's endpoints.

    client ──> 10.96.0.1:81           a ClusterIP with port 80 only
           ──> web:80, web:8080       endpoints of a headless service with port 80
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.web.serve(8080)
    lab.web.serve_udp()
    lab.write("web.yaml", [service("web", ["10.96.0.1", "fd96::1"]), endpoint_slice("web", [lab.web]),
                           service("bare", clusterIP="None"), endpoint_slice("bare", [lab.web])])
    lab.start()


def test_cluster_ip_refuses(lab):
    for address in ("10.96.0.1", "fd96::1"):
        before = lab.counter("no_port")
        with fails(lab.refused):
            lab.client.connect(address, 81)
        equal(lab.counter("no_port") - before, 1, "refusals counted")


def test_other_protocol_is_another_port(lab):
    with lab.client.new_socket(kind=socket.SOCK_DGRAM) as made:
        with fails(lab.refused):
            made.sendto(b"?", ("10.96.0.1", 80))


def test_headless_is_left_alone(lab):
    for port in (80, 8080):
        with lab.client.connect(lab.web.ip, port) as made:
            equal(read_name(made), "web")
            equal(made.getpeername(), (lab.web.ip, port), "getpeername")
    with fails(errno.ECONNREFUSED):
        lab.client.connect(lab.web.ip, 8081)
    equal(lab.client.ask(lab.web.ip, 53), "web")


def test_addresses_of_nobody_are_left_alone(lab):
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.96.0.99", 80)


def test_service_removed_leaves_its_address_alone(lab):
    lab.remove("web.yaml")
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.96.0.1", 81)
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.96.0.1", 80)


main(topology)
