#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Multipath TCP sockets connect like TCP ones, and are counted as exactly.

    client ──> 10.96.0.1:80 ──> web:80
           ──> 10.96.0.2:80 ──> an endpoint that the client has no route to
"""

from lab import *

MPTCP = 262
HELD = 20


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web]),
                           service("far", "10.96.0.2"), endpoint_slice("far", ["10.99.0.1"])])
    lab.start()


def new(lab):
    try:
        return lab.client.new_socket(protocol=MPTCP)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ENOPROTOOPT):
            raise Skip("this kernel has no MPTCP") from error
        raise


def test_connections_are_counted(lab):
    held = [new(lab) for _ in range(HELD)]
    for made in held:
        made.connect(("10.96.0.1", 80))
        equal(read_name(made), "web")
    equal(lab.live(), HELD, "live connections held")
    for made in held:
        made.close()
    wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}")


def test_a_connect_without_a_route_leaves_nothing(lab):
    """It ends before the SYN, and the socket that held its state is one that no hook sees closed."""
    for _ in range(HELD):
        with new(lab) as made, fails(errno.ENETUNREACH):
            made.connect(("10.96.0.2", 80))
    wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}", 3)


main(topology)
