#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Endpoints come and go under load, each by way of terminating: no connect fails and no connection is lost.

    client-0, client-1 ──> 10.96.0.1:80 ──> two ready of web-0 ... web-5, one terminating
"""

from lab import *


def topology(lab):
    lab.clients = [lab.pod("client-0"), lab.pod("client-1")]
    lab.webs = [lab.pod(f"web-{n}") for n in range(6)]
    for web in lab.webs:
        web.serve()
    lab.write("web.yaml", state(lab, 0))
    lab.start("--map-size", "endpoint=1024")  # all of it is dumped


def state(lab, step):
    ready = [lab.webs[(step + n) % 6] for n in range(2)]
    last = lab.webs[(step - 1) % 6]
    return [service("web", "10.96.0.1"),
            endpoint_slice("web", [*ready, endpoint(last, ready=False, serving=True, terminating=True)])]


def test_no_failure(lab):
    loads = [client.load("10.96.0.1", 80) for client in lab.clients]
    for step in range(1, 61):
        lab.apply("web.yaml", state(lab, step))
    results = [load.stop().result() for load in loads]
    for result in results:
        equal(result["errors"], {}, "errors under load")
        equal(set(result["names"]), {w.name for w in lab.webs}, "who answered")
    wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}")


def test_ids_do_not_run_away(lab):
    """Endpoints that are gone and idle give their index back."""
    def used():
        return sum(1 for e in lab.maps("weft_endpoint") if e["value"]["state"] != 0)

    lab.apply("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", lab.webs[:2])])
    wait_for(lambda: used() == 2, lambda: f"2 endpoints in use, there are {used()}", 15)


def test_a_port_is_renamed(lab):
    """In the Service and its slices at once: the same port of the same service, so nothing changes but its name."""
    number = lab.weft("service", "list")[0]["id"]

    def rename(name):
        lab.write("web.yaml", [service("web", "10.96.0.1", [f"{name}=80"]), endpoint_slice("web", lab.webs[:2], [f"{name}=80"])])
        wait_for(lambda: [(s["id"], s.get("port_name")) for s in lab.weft("service", "list")] == [(number, name)],
                 lambda: f"service {number} with port {name}, there is {lab.weft('service', 'list')}")

    held = lab.clients[0].connect("10.96.0.1", 80)
    read_name(held)
    loads = [client.load("10.96.0.1", 80) for client in lab.clients]
    for step in range(10):
        rename(f"web-{step}")
    results = [load.stop().result() for load in loads]
    for result in results:
        equal(result["errors"], {}, "errors under load")
        equal(set(result["names"]), {"web-0", "web-1"}, "who answered")
    held.sendall(b"still")
    equal(held.recv(100), b"still", "the connection held across")
    wait_for(lambda: lab.live() == 1, lambda: f"one live connection, there are {lab.live()}")
    reset(held)


main(topology)
