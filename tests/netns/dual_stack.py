#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A dual-stack service answers each family with endpoints of that family; a single-stack one only its own.

    client ──> 10.96.0.1 ──> web-4    IPv4 slice
           ──> fd96::1   ──> web-6    IPv6 slice
           ──> 10.96.0.2 (four)       IPv4 alone, though it has an IPv6 slice
"""

from lab import *


def topology(lab):
    lab.client = lab.pod("client")
    lab.four, lab.six = lab.pod("web-4"), lab.pod("web-6")
    lab.four.serve()
    lab.six.serve()
    lab.write("web.yaml", [service("web", ["10.96.0.1", "fd96::1"]), endpoint_slice("web", [lab.four]),
                           endpoint_slice("web", [endpoint(lab.six.ip6)]),
                           service("four", ["10.96.0.2"]), endpoint_slice("four", [lab.four]),
                           endpoint_slice("four", [endpoint(lab.six.ip6)])])
    lab.start()


def test_each_family_has_its_endpoints(lab):
    equal(lab.client.spread("10.96.0.1", 80, 50), {"web-4": 50})
    equal(lab.client.spread("fd96::1", 80, 50), {"web-6": 50})
    equal(lab.client.spread("::ffff:10.96.0.1", 80, 50), {"web-4": 50})


def test_single_stack(lab):
    equal(lab.client.spread("10.96.0.2", 80, 50), {"web-4": 50})


def test_one_family_without_endpoints(lab):
    lab.apply("web.yaml", [service("web", ["10.96.0.1", "fd96::1"]), endpoint_slice("web", [lab.four])])
    equal(lab.client.who("10.96.0.1", 80), "web-4")
    with fails(lab.refused):
        lab.client.connect("fd96::1", 80)


main(topology)
