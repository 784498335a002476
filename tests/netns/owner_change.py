#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An address that changes owner within one change never fails a connect.

    client ──> 10.96.0.1:80 ──> web-a, service blue
                            ──> web-b, service green, which takes the address over
"""

from lab import *


def topology(lab):
    lab.clients = [lab.pod("client-0"), lab.pod("client-1")]
    lab.a, lab.b = lab.pod("web-a"), lab.pod("web-b")
    lab.a.serve()
    lab.b.serve()
    # Connections to the owner that was deleted are not what this is about: they stay.
    lab.write("mesh.yaml", mesh_config(goneEndpoint={"policy": "Leave"}))
    lab.write("web.yaml", owner("blue", lab.a))
    lab.start()


def owner(name, pod):
    return [service(name, "10.96.0.1"), endpoint_slice(name, [pod])]


def test_one_deleted_another_created(lab):
    loads = [client.load("10.96.0.1", 80) for client in lab.clients]
    for n in range(20):
        name, pod = (("green", lab.b), ("blue", lab.a))[n % 2]
        lab.apply("web.yaml", owner(name, pod))
        wait_for(lambda p=pod: lab.clients[0].who("10.96.0.1", 80) == p.name, f"{name} to own the address")
    for load in loads:
        result = load.stop().result()
        equal(result["errors"], {}, "errors under load")
        equal(set(result["names"]), {"web-a", "web-b"}, "who answered")
        true(result["ok"] > 500, f"only {result['ok']} connections")


def test_two_services_swap_addresses(lab):
    def swapped(n):
        first, second = (("10.96.0.1", "10.96.0.2"), ("10.96.0.2", "10.96.0.1"))[n % 2]
        return [service("blue", first), endpoint_slice("blue", [lab.a]), service("green", second), endpoint_slice("green", [lab.b])]

    lab.apply("web.yaml", swapped(0))
    loads = [client.load(address, 80) for client, address in zip(lab.clients, ("10.96.0.1", "10.96.0.2"))]
    for n in range(1, 20):
        lab.apply("web.yaml", swapped(n))
    for load in loads:
        result = load.stop().result()
        equal(result["errors"], {}, "errors under load")
        equal(set(result["names"]), {"web-a", "web-b"}, "who answered")


main(topology)
