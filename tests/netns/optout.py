#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Pods, ports and CIDRs that are opted out are left alone, and so are raw sockets.

    in   ──> 10.96.0.1:80, 81, 53/UDP   10.97.0.1:80 ──> web
    out  ──> the same; labelled istio.io/dataplane-mode: none
"""

from lab import *


def topology(lab):
    lab.inside, lab.outside, lab.web = lab.pod("in"), lab.pod("out"), lab.pod("web")
    lab.web.serve()
    lab.web.serve(81)
    lab.web.serve_udp()
    ports = ["a=80", "b=81", "c=53/UDP"]
    lab.write("web.yaml", [service("web", "10.96.0.1", ports), endpoint_slice("web", [lab.web], ports),
                           service("far", "10.97.0.1"), endpoint_slice("far", [lab.web])])
    lab.write("pods.yaml", [pod_resource(lab.inside), pod_resource(lab.outside, labels={"istio.io/dataplane-mode": "none"})])
    lab.start()


def test_opted_out_pod(lab):
    equal(lab.inside.who("10.96.0.1", 80), "web")
    before = lab.counter("opted_out_pod")
    with fails(errno.ENETUNREACH):
        lab.outside.connect("10.96.0.1", 80)
    with lab.outside.new_socket(kind=socket.SOCK_DGRAM) as made, fails(errno.ENETUNREACH):
        made.sendto(b"?", ("10.96.0.1", 53))
    true(lab.counter("opted_out_pod") > before, "the pass was not counted")


def test_pod_comes_back(lab):
    lab.write("pods.yaml", [pod_resource(lab.inside), pod_resource(lab.outside)])
    wait_for(lambda: reaches(lab.outside), "the pod to be in the mesh again")


def reaches(pod):
    with contextlib.suppress(OSError):
        return pod.who("10.96.0.1", 80) == "web"
    return False


def test_opted_out_port(lab):
    lab.apply("mesh.yaml", mesh_config(optOut={"ports": [{"port": 81, "protocol": "TCP"}]}))
    before = lab.counter("opted_out_target")
    with fails(errno.ENETUNREACH):
        lab.inside.connect("10.96.0.1", 81)
    true(lab.counter("opted_out_target") > before, "the pass was not counted")
    equal(lab.inside.who("10.96.0.1", 80), "web")


def test_opted_out_cidr(lab):
    lab.apply("mesh.yaml", mesh_config(optOut={"cidrs": ["10.97.0.0/16"]}))
    with fails(errno.ENETUNREACH):
        lab.inside.connect("10.97.0.1", 80)
    with fails(errno.ENETUNREACH):
        lab.inside.connect("::ffff:10.97.0.1", 80)
    equal(lab.inside.who("10.96.0.1", 81), "web")


def test_without_rules_again(lab):
    lab.remove("mesh.yaml")
    equal(lab.inside.who("10.97.0.1", 80), "web")


def test_raw_sockets(lab):
    for protocol in (socket.IPPROTO_ICMP, 253):
        with lab.inside.new_socket(socket.AF_INET, socket.SOCK_RAW, protocol) as made:
            with fails(errno.ENETUNREACH):
                made.sendto(b"\x08\0\0\0", ("10.96.0.1", 0))
            with fails(errno.ENETUNREACH):
                made.connect(("10.96.0.1", 80))


main(topology)
