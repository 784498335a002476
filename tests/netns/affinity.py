#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""sessionAffinity ClientIP: a pod stays with its endpoint until the timeout has passed without use, or the endpoint is gone.

    client-0 ... client-7 ──> 10.96.0.1:80, 53/UDP ──┬── web-a ... web-d
"""

from lab import *


def topology(lab):
    lab.clients = [lab.pod(f"client-{n}") for n in range(8)]
    lab.webs = [lab.pod(f"web-{x}") for x in "abcd"]
    for web in lab.webs:
        web.serve()
        web.serve_udp()
    lab.write("web.yaml", documents(lab, lab.webs, 10800))
    lab.start()


def documents(lab, webs, seconds):
    ports = ("tcp=80", "udp=53/UDP")
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}
    return [service("web", "10.96.0.1", ports, **spec), endpoint_slice("web", webs, ports)]


def test_a_client_stays(lab):
    first = {}
    for client in lab.clients:
        counts = client.spread("10.96.0.1", 80, 40)
        equal(len(counts), 1, f"endpoints of {client}: {counts}")
        first[client] = next(iter(counts))
    # One for all would be no choice at all: chance 4^-7.
    true(len(set(first.values())) > 1, f"all clients went to {set(first.values())}")


def test_udp_too(lab):
    for client in lab.clients:
        names = {client.ask("10.96.0.1", 53) for _ in range(20)}
        equal(len(names), 1, f"endpoints of {client}: {names}")


def test_endpoint_gone(lab):
    client = lab.clients[0]
    name = client.who("10.96.0.1", 80)
    left = [w for w in lab.webs if w.name != name]
    lab.apply("web.yaml", documents(lab, left, 10800))
    counts = client.spread("10.96.0.1", 80, 40)
    equal(len(counts), 1, f"endpoints after {name} was gone: {counts}")
    true(name not in counts, f"{name} is gone and still answers")


def test_timeout(lab):
    lab.apply("web.yaml", documents(lab, lab.webs, 1))
    before = [client.who("10.96.0.1", 80) for client in lab.clients]
    equal([client.who("10.96.0.1", 80) for client in lab.clients], before, "within the timeout")
    time.sleep(1.2)  # the passing of time is what is tested
    after = [client.who("10.96.0.1", 80) for client in lab.clients]
    true(before != after, f"nobody chose anew after the timeout: {after}")  # chance 4^-8


main(topology)
