#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""DestinationRule's loadBalancer.simple chooses how endpoints are picked; LEAST_REQUEST without one.

    client ──> 10.96.0.1:80 (web) ──┬── web-a
                                    └── web-b
           ──> 10.96.0.2:80 (turn) ─── web-a, web-b, web-c
"""

from lab import *


def topology(lab):
    lab.client = lab.pod("client")
    lab.a, lab.b, lab.c = (lab.pod(f"web-{x}") for x in "abc")
    for web in (lab.a, lab.b, lab.c):
        web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.a, lab.b]),
                           service("turn", "10.96.0.2"), endpoint_slice("turn", [lab.a, lab.b, lab.c])])
    lab.start()


def hold(lab, address, count):
    """`count` open connections, by the name that answered."""
    held = {}
    for _ in range(count):
        made = lab.client.connect(address, 80)
        held.setdefault(read_name(made), []).append(made)
    return held


def release(held):
    for connections in held.values():
        for made in connections:
            reset(made)


def test_least_request_levels_live_connections(lab):
    held = hold(lab, "10.96.0.1", 600)
    counts = {name: len(c) for name, c in held.items()}
    # Two choices keep the gap near 1; independent picks would leave one of about sqrt(600) = 24.
    true(abs(counts["web-a"] - counts["web-b"]) <= 12, f"held connections are not level: {counts}")
    # All of one end: until they are level again it wins each draw that it is in, 3 of 4. Without live counts: 1 of 2.
    release({"web-a": held.pop("web-a")})
    wait_for(lambda: lab.live() == len(held["web-b"]), "the closed connections to be given back")
    again = hold(lab, "10.96.0.1", 280)
    got = len(again.get("web-a", []))
    true(got >= 175, f"the idle endpoint got {got} of 280, wanted about 210")
    release(held)
    release(again)
    wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}")


def test_round_robin_takes_turns(lab):
    lab.apply("rule.yaml", destination_rule("turn", "ROUND_ROBIN"))
    names = [lab.client.who("10.96.0.2", 80) for _ in range(30)]
    equal({n: names.count(n) for n in set(names)}, {"web-a": 10, "web-b": 10, "web-c": 10}, "30 turns")
    equal(names[:27], names[3:], "each turn comes again after three")


def test_random_has_no_memory(lab):
    lab.apply("rule.yaml", destination_rule("turn", "RANDOM"))
    names = [lab.client.who("10.96.0.2", 80) for _ in range(1500)]
    pairs = {}
    for pair in zip(names[::2], names[1::2]):
        pairs[pair] = pairs.get(pair, 0) + 1
    webs = ("web-a", "web-b", "web-c")
    spread_fits(pairs, {(x, y): 1 for x in webs for y in webs})


def test_random_ignores_live_connections(lab):
    held = hold(lab, "10.96.0.2", 60)
    release({n: c for n, c in held.items() if n == "web-a"})
    spread_fits(lab.client.spread("10.96.0.2", 80, 1500), {"web-a": 1, "web-b": 1, "web-c": 1})
    release({n: c for n, c in held.items() if n != "web-a"})


def test_mesh_wide_default(lab):
    (lab.config / "rule.yaml").unlink()
    lab.apply("mesh.yaml", mesh_config(loadBalancer={"simple": "ROUND_ROBIN"}))
    names = [lab.client.who("10.96.0.2", 80) for _ in range(9)]
    equal(names[:6], names[3:], "each turn comes again after three")


main(topology)
