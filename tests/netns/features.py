#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each optional feature can be forced away, and its fallback then does what the feature list says.

    client ──> 10.96.0.1:80 (web) ──> web      10.96.0.2:80 (none)
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1", ["http=80", "dns=53/UDP"]),
                           endpoint_slice("web", [lab.web], ["http=80", "dns=53/UDP"]), service("none", "10.96.0.2")])
    lab.write("pods.yaml", [pod_resource(lab.client), pod_resource(lab.web)])


def features(lab):
    return {f["name"]: f for f in lab.request({"request": "feature.list"})["features"]}


def test_all_are_listed(lab):
    lab.start()
    names = re.findall(r'^WEFT_FEATURE\(\w+, "(\w+)"', (ROOT / "include/weft/lists/feature.h").read_text(), re.MULTILINE)
    equal(sorted(features(lab)), sorted(names))
    equal(sorted(n for n, f in features(lab).items() if f["forced"]), sorted(os.environ.get("WEFT_WITHOUT", "").split()), "forced")
    equal(sorted(f["name"] for f in lab.weft("feature", "list")), sorted(names), "weft feature list")
    lab.stop()


def test_without_set_retval(lab):
    lab.start("--without-feature", "set_retval")
    with fails(errno.EPERM):
        lab.client.connect("10.96.0.2", 80)
    equal(lab.client.who("10.96.0.1", 80), "web")
    lab.stop()


def test_with_it_again(lab):
    """An adopted instance gets the feature back, where this kernel has it."""
    lab.start()
    with fails(lab.refused):
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


def test_without_netns_cookie(lab):
    """A program of ours asks for the cookie then: a pod's sockets are known before they have an address."""
    lab.start("--without-feature", "netns_cookie")
    with lab.client.new_socket(kind=socket.SOCK_DGRAM) as made:
        made.connect(("10.96.0.1", 53))
        wait_for(lambda: [c["source"] for c in lab.weft("conn", "list", "service", "default/web")] == ["default/client"], "a socket of the client")
    lab.stop()


def test_without_fetch_atomics(lab):
    """Connections are counted at their end; live counts as ever, by a recount now and then. Adopted and given back with the
    connection open."""
    lab.start("--without-feature", "fetch_atomics")
    made = lab.client.connect("10.96.0.1", 80)
    epoch = lambda: lab.maps("weft_setting")[0]["value"]["epoch"]
    before = epoch()
    wait_for(lambda: epoch() > before, "live connections to be recounted", 45)
    equal(lab.live(), 1)
    lab.stop()
    equal(lab.live(), 1)
    lab.start()
    equal(lab.live(), 1, "after adoption by the other build of the programs")
    made.close()
    wait_for(lambda: lab.live() == 0, "no live connection")
    lab.stop()


main(topology)
