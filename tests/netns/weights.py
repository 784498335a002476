#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Endpoints get connections in proportion to their weights, and a changed weight counts from the next connect on.

    client ──> 10.96.0.1:80 (shares) ──┬── web-a  1
                                       ├── web-b  3
                                       └── web-c  6
           ──> 10.96.0.2:80 (equal)  ───── web-a, web-b, web-c
           ──> 10.96.0.3:80 (entry)  ──┬── web-a  9    a ServiceEntry
                                       └── web-b  1
"""

from lab import *


def topology(lab):
    lab.client = lab.pod("client")
    lab.a, lab.b, lab.c = (lab.pod(f"web-{x}") for x in "abc")
    for web in (lab.a, lab.b, lab.c):
        web.serve()
    lab.write("node.yaml", node())
    lab.write("shares.yaml", [service("shares", "10.96.0.1"), *weighted("shares", {lab.a: 1, lab.b: 3, lab.c: 6})])
    lab.write("equal.yaml", [service("equal", "10.96.0.2"), endpoint_slice("equal", [lab.a, lab.b, lab.c])])
    lab.write("entry.yaml", {
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "entry"},
        "spec": {
            "hosts": ["entry.example"], "addresses": ["10.96.0.3"], "resolution": "STATIC",
            "ports": [{"number": 80, "name": "tcp", "protocol": "TCP"}],
            "endpoints": [{"address": lab.a.ip, "weight": 9}, {"address": lab.b.ip, "weight": 1}],
        },
    })
    lab.start()


def test_spread_follows_weights(lab):
    spread_fits(lab.client.spread("10.96.0.1", 80, sample_size(3000)), {"web-a": 1, "web-b": 3, "web-c": 6})


def test_no_weights_is_equal(lab):
    spread_fits(lab.client.spread("10.96.0.2", 80, sample_size(3000)), {"web-a": 1, "web-b": 1, "web-c": 1})


def test_service_entry_weights(lab):
    spread_fits(lab.client.spread("10.96.0.3", 80, sample_size(3000)), {"web-a": 9, "web-b": 1})


def test_random_and_round_robin_keep_weights(lab):
    for algorithm in ("RANDOM", "ROUND_ROBIN"):
        lab.apply("rule.yaml", destination_rule("shares.default.svc.cluster.local", algorithm))
        spread_fits(lab.client.spread("10.96.0.1", 80, sample_size(3000)), {"web-a": 1, "web-b": 3, "web-c": 6})


def test_changed_weight_counts_at_once(lab):
    lab.apply("shares.yaml", [service("shares", "10.96.0.1"), *weighted("shares", {lab.a: 90, lab.b: 10})])
    spread_fits(lab.client.spread("10.96.0.1", 80, sample_size(2000)), {"web-a": 90, "web-b": 10})


main(topology)
