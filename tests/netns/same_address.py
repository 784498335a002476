#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Several services on one address, TCP and UDP on one port, and ports that are mapped to other target ports.

    client ──> 198.51.100.1:80       one    ──> web-a:80
           ──> 198.51.100.1:81       two    ──> web-b:8080, named targetPort
           ──> 10.96.0.1:53          TCP    ──> web-a:53
                        53/UDP       UDP    ──> web-a:5353
"""

from lab import *


def topology(lab):
    lab.client = lab.pod("client")
    lab.a, lab.b = lab.pod("web-a"), lab.pod("web-b")
    lab.a.serve()
    lab.a.serve(53)
    lab.a.serve_udp(5353)
    lab.b.serve(8080)
    lab.write("web.yaml", [
        service("one", "10.96.0.1", ["http=80", "dns=53", "dns-udp=53:5353/UDP"], externalIPs=["198.51.100.1"]),
        endpoint_slice("one", [lab.a], ["http=80", "dns=53", "dns-udp=53:5353/UDP"]),
        service("two", "10.96.0.2", ["http=81:web"], externalIPs=["198.51.100.1"]),
        endpoint_slice("two", [lab.b], ["http=8080"]),
    ])
    lab.start()


def test_services_share_an_address(lab):
    equal(lab.client.who("198.51.100.1", 80), "web-a")
    equal(lab.client.who("198.51.100.1", 81), "web-b")


def test_protocols_share_a_port(lab):
    equal(lab.client.who("10.96.0.1", 53), "web-a")
    equal(lab.client.ask("10.96.0.1", 53), "web-a")
    with lab.client.connect("10.96.0.1", 53, kind=socket.SOCK_DGRAM) as made:
        equal(made.getpeername(), ("10.96.0.1", 53))


def test_one_goes_the_other_stays(lab):
    lab.apply("web.yaml", [service("two", "10.96.0.2", ["http=81:web"], externalIPs=["198.51.100.1"]),
                           endpoint_slice("two", [lab.b], ["http=8080"])])
    equal(lab.client.who("198.51.100.1", 81), "web-b")
    with fails(errno.ENETUNREACH, errno.ECONNREFUSED):
        lab.client.connect("198.51.100.1", 80)


main(topology)
