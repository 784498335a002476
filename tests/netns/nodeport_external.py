#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""NodePort, externalIPs and LoadBalancer addresses work for local programs.

    client ──> 10.77.0.1:30080, fd77::1:30080     this node's addresses
           ──> 10.78.0.1:30080                    another node's address
           ──> 198.51.100.1:80                    external IP        ──┬── web-a  on this node
           ──> 198.51.100.2:80                    load balancer, VIP   └── web-b  on the other
           ──> 198.51.100.3:80                    load balancer, Proxy: left alone
"""

from lab import *


def topology(lab):
    lab.client = lab.pod("client")
    lab.a, lab.b = lab.pod("web-a"), lab.pod("web-b")
    lab.a.serve()
    lab.b.serve()
    lab.write("nodes.yaml", [node(), node("node-2", ["10.78.0.1", "fd78::1"])])
    lab.write("web.yaml", documents(lab))
    lab.start()


def documents(lab, **spec):
    port = {"port": 80, "nodePort": 30080, "protocol": "TCP"}
    status = {"loadBalancer": {"ingress": [{"ip": "198.51.100.2", "ipMode": "VIP"}, {"ip": "198.51.100.3", "ipMode": "Proxy"}]}}
    four = [endpoint(lab.a, nodeName="node-1"), endpoint(lab.b, nodeName="node-2")]
    six = [endpoint(lab.a.ip6, nodeName="node-1"), endpoint(lab.b.ip6, nodeName="node-2")]
    return [service("web", ["10.96.0.1", "fd96::1"], [port], type="LoadBalancer", externalIPs=["198.51.100.1"], status=status, **spec),
            endpoint_slice("web", four), endpoint_slice("web", six)]


def test_node_port_on_every_node(lab):
    for address in ("10.77.0.1", "fd77::1", "10.78.0.1", "fd78::1", "::ffff:10.77.0.1"):
        spread_fits(lab.client.spread(address, 30080, 200), {"web-a": 1, "web-b": 1})


def test_peer_name_is_what_was_asked(lab):
    with lab.client.connect("10.78.0.1", 30080) as made:
        equal(made.getpeername(), ("10.78.0.1", 30080))


def test_other_ports_of_a_node_are_its_own(lab):
    with fails(errno.ECONNREFUSED):
        lab.client.connect("10.77.0.1", 30081)
    lab.node.serve(30082)
    equal(lab.client.who("10.77.0.1", 30082), "node")
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.78.0.1", 30081)


def test_node_port_is_for_node_addresses_only(lab):
    with fails(lab.refused):
        lab.client.connect("10.96.0.1", 30080)
    with fails(errno.ECONNREFUSED):
        lab.client.connect(lab.a.ip, 30080)


def test_external_and_load_balancer_addresses(lab):
    for address in ("198.51.100.1", "198.51.100.2"):
        spread_fits(lab.client.spread(address, 80, 200), {"web-a": 1, "web-b": 1})


def test_ip_mode_proxy_is_left_alone(lab):
    with fails(errno.ENETUNREACH):
        lab.client.connect("198.51.100.3", 80)


def test_external_policy_local(lab):
    """Clients on this node get all endpoints through its addresses, as with kube-proxy. Another node's address is left
    alone, since only that node knows its endpoints."""
    lab.apply("web.yaml", documents(lab, externalTrafficPolicy="Local"))
    spread_fits(lab.client.spread("10.77.0.1", 30080, 200), {"web-a": 1, "web-b": 1})
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.78.0.1", 30080)
    spread_fits(lab.client.spread("10.96.0.1", 80, 200), {"web-a": 1, "web-b": 1})


def test_internal_policy_local(lab):
    lab.apply("web.yaml", documents(lab, internalTrafficPolicy="Local"))
    equal(lab.client.spread("10.96.0.1", 80, 50), {"web-a": 50})


main(topology)
