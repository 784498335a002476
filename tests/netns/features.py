#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each optional feature can be forced away, and its fallback then does what the feature list says.

    client ──> 10.96.0.1:80 (web) ──> web      10.96.0.2:80 (none)
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web]), service("none", "10.96.0.2")])
    lab.write("pods.yaml", [pod_resource(lab.client), pod_resource(lab.web)])


def features(lab):
    return {f["name"]: f for f in lab.request({"request": "feature.list"})["features"]}


def test_all_are_listed(lab):
    lab.start()
    names = re.findall(r'^WEFT_FEATURE\(\w+, "(\w+)"', (ROOT / "include/weft/lists/feature.h").read_text(), re.MULTILINE)
    equal(sorted(features(lab)), sorted(names))
    true(not any(f["forced"] for f in features(lab).values()), "nothing was forced")
    equal(sorted(f["name"] for f in lab.weft("feature", "list")), sorted(names), "weft feature list")
    lab.stop()


def test_without_set_retval(lab):
    lab.start("--without-feature", "set_retval")
    with fails(errno.EPERM):
        lab.client.connect("10.96.0.2", 80)
    equal(lab.client.who("10.96.0.1", 80), "web")
    lab.stop()


def test_with_it_again(lab):
    """An adopted instance gets the feature back."""
    lab.start()
    with fails(errno.ECONNREFUSED):
        lab.client.connect("10.96.0.2", 80)
    lab.stop()


def test_without_sockops_netns(lab):
    """The server's side then knows its pod by address."""
    lab.start("--without-feature", "sockops_netns")
    before = lab.metric("istio_tcp_connections_opened_total", reporter="destination", destination_workload="web")
    lab.client.who("10.96.0.1", 80)

    def after():
        return lab.metric("istio_tcp_connections_opened_total", reporter="destination", destination_workload="web")

    wait_for(lambda: after() == before + 1, lambda: f"one more opened: before {before}, now {after()}")
    lab.stop()


main(topology)
