#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Endpoints of the same zone or node are preferred, and all others are the fallback.

    client on node-1, zone here ──> 10.96.0.1:80 ──┬── near   node-1, zone here
                                                   ├── zone   node-2, zone here
                                                   └── far    node-3, zone there
"""

from lab import *


def topology(lab):
    lab.client = lab.pod("client")
    lab.near, lab.zone, lab.far = lab.pod("near"), lab.pod("zone"), lab.pod("far")
    for web in (lab.near, lab.zone, lab.far):
        web.serve()
    lab.write("nodes.yaml", [node(zone="here"), node("node-2", ["10.78.0.1"], zone="here"), node("node-3", ["10.79.0.1"], zone="there")])
    lab.write("web.yaml", documents(lab))
    lab.start()


def documents(lab, *without, hints=False, **spec):
    made = []
    for pod, zone, node_name in ((lab.near, "here", "node-1"), (lab.zone, "here", "node-2"), (lab.far, "there", "node-3")):
        if pod in without:
            continue
        more = {"hints": {"forZones": [{"name": zone}]}} if hints else {}
        made.append(endpoint(pod, zone=zone, nodeName=node_name, **more))
    return [service("web", "10.96.0.1", **spec), endpoint_slice("web", made)]


def spread(lab, *names):
    spread_fits(lab.client.spread("10.96.0.1", 80, 60 * len(names)), {n: 1 for n in names})


def only(lab, name):
    equal(lab.client.spread("10.96.0.1", 80, 40), {name: 40})


def test_no_preference(lab):
    spread(lab, "near", "zone", "far")


def test_same_zone(lab):
    for word in ("PreferClose", "PreferSameZone"):
        lab.apply("web.yaml", documents(lab, trafficDistribution=word, hints=True))
        spread(lab, "near", "zone")
        lab.apply("web.yaml", documents(lab, lab.near, lab.zone, trafficDistribution=word, hints=True))
        only(lab, "far")


def test_same_node(lab):
    lab.apply("web.yaml", documents(lab, trafficDistribution="PreferSameNode"))
    only(lab, "near")
    lab.apply("web.yaml", documents(lab, lab.near, trafficDistribution="PreferSameNode"))
    wait_for(lambda: "near" not in lab.client.spread("10.96.0.1", 80, 20), "the fallback")
    only(lab, "zone")
    lab.apply("web.yaml", documents(lab, lab.near, lab.zone, trafficDistribution="PreferSameNode"))
    only(lab, "far")


def test_internal_policy_local_has_no_fallback(lab):
    lab.apply("web.yaml", documents(lab, internalTrafficPolicy="Local"))
    only(lab, "near")
    lab.apply("web.yaml", documents(lab, lab.near, internalTrafficPolicy="Local"))
    with fails(lab.refused):
        lab.client.connect("10.96.0.1", 80)


main(topology)
