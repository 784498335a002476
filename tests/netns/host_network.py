#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Programs on the node itself: as clients of services, and as endpoints.

    agent (hostNetwork) ──> 10.96.0.1:80 ──> web
    web                 ──> 10.96.0.2:80 ──> agent, on the node's address
"""

from lab import *


def topology(lab):
    lab.web, lab.agent_pod = lab.pod("web"), lab.host("agent")
    lab.web.serve()
    lab.agent_pod.serve(8080)
    lab.write("web.yaml", [node(), service("web", ["10.96.0.1", "fd96::1"]), endpoint_slice("web", [lab.web]),
                           endpoint_slice("web", [endpoint(lab.web.ip6)]),
                           service("agent", "10.96.0.2", ["80:8080"]),
                           endpoint_slice("agent", [endpoint(lab.node_ip, nodeName="node-1")], ["80:8080"])])
    lab.start()


def test_host_client(lab):
    for address in ("10.96.0.1", "fd96::1"):
        with lab.agent_pod.connect(address, 80) as made:
            equal(read_name(made), "web")
            equal(made.getpeername()[0], address)


def test_host_endpoint(lab):
    equal(lab.web.who("10.96.0.2", 80), "agent")
    equal(lab.agent_pod.who("10.96.0.2", 80), "agent")


def test_outside_the_subtree_is_untouched(lab):
    """A program that is not in the instance's cgroup subtree, in the same network namespace."""
    outside = Pod(lab, "outside", lab.web.netns, lab.web.ip, lab.web.ip6, lab.root / "agent")
    with fails(errno.ENETUNREACH):
        outside.connect("10.96.0.1", 80)
    outside.channel.close()
    os.close(outside.netns_fd)


main(topology)
