#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A service without a usable endpoint refuses at once with ECONNREFUSED, and the refusal is counted by its reason.

    client ──> 10.96.0.1, fd96::1 ports 80, 53/UDP (none)       no slice at all
           ──> 10.96.0.2:80 (unready) ──> web, not ready
           ──> 10.96.0.3:80 (early)   ──> web, not ready, publishNotReadyAddresses
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("none", ["10.96.0.1", "fd96::1"], ["tcp=80", "udp=53/UDP"]),
                           service("unready", "10.96.0.2"), endpoint_slice("unready", [endpoint(lab.web, ready=False)]),
                           service("early", "10.96.0.3", publishNotReadyAddresses=True),
                           endpoint_slice("early", [endpoint(lab.web, ready=False)])])
    lab.start()


def test_refused_at_once(lab):
    for address in ("10.96.0.1", "fd96::1", "::ffff:10.96.0.1", "10.96.0.2"):
        before, start = lab.counter("no_endpoint"), time.monotonic()
        with fails(lab.refused):
            lab.client.connect(address, 80)
        true(time.monotonic() - start < 0.2, f"refusal of {address} took {time.monotonic() - start:.2f} s")
        equal(lab.counter("no_endpoint") - before, 1, f"refusals counted for {address}")


def test_udp(lab):
    for address in ("10.96.0.1", "fd96::1"):
        with lab.client.new_socket(family_of(address), socket.SOCK_DGRAM) as made:
            with fails(lab.refused):
                made.sendto(b"?", (address, 53))
            with fails(lab.refused):
                made.connect((address, 53))


def test_publish_not_ready(lab):
    equal(lab.client.who("10.96.0.3", 80), "web")


def test_endpoint_comes_and_goes(lab):
    lab.apply("slice.yaml", endpoint_slice("none", [lab.web], ["tcp=80"]))
    equal(lab.client.who("10.96.0.1", 80), "web")
    lab.remove("slice.yaml")
    with fails(lab.refused):
        lab.client.connect("10.96.0.1", 80)


def test_the_same_socket_may_try_again(lab):
    with lab.client.new_socket() as made:
        with fails(lab.refused):
            made.connect(("10.96.0.1", 80))
        lab.apply("slice.yaml", endpoint_slice("none", [lab.web], ["tcp=80"]))
        made.connect(("10.96.0.1", 80))
        equal(read_name(made), "web")


main(topology)
