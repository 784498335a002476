#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Pods on two nodes talk over mutual TLS, and neither of them knows.

    client ──> 10.96.0.1, fd96::1, web's own addresses ──> agent ══ :15008 ══> agent ──> web (node-2)
"""

from mesh import *

MARKER = b"a secret that nobody on the way may read"


def topology(lab):
    prepare(lab, ["client"], ["web"])
    lab.web.serve(mode="ends")
    start_all(lab, [lab.client, lab.web], *web_service(lab.web))


def through_and_seen(lab, address, family):
    with lab.client.connect(address, 80, family=family) as made:
        name, peer, own = read_ends(made)
        equal(name, "web")
        v6 = ":" in plain(address)
        equal(made.getpeername()[:2], (address, 80), "what the client is connected to")
        mine = made.getsockname()
        equal(plain(mine[0]), lab.client.ip6 if v6 else lab.client.ip, "the client's own address")
        equal(peer, (plain(mine[0]), mine[1]), "the client, as the server sees it")
        equal(own, (lab.web.ip6 if v6 else lab.web.ip, 80), "the server's own address")
        still_open(made, MARKER)
        rows = sh("nsenter", f"--net=/run/netns/{lab.web.netns}", "ss", "-Htn", "state", "established", f"sport = :80 and dport = :{mine[1]}").split()
        contains(rows[3].replace("[::ffff:", "").replace("]", "").replace("[", ""), f"{plain(mine[0])}:{mine[1]}", "ss in the server's pod")


def over_mtls(lab, address, family):
    with Wire(lab) as wire:
        through_and_seen(lab, address, family)
        equal(wire.showing(MARKER), [], "flows that show what was said")
        true(wire.tls() > len(MARKER), "there is no TLS on the wire")
        equal([flow for flow in wire.syns if flow[3] != HBONE], [], "connections beside the tunnel")


def test_service_v4(lab):
    over_mtls(lab, VIP, socket.AF_INET)


def test_service_v6(lab):
    over_mtls(lab, VIP6, socket.AF_INET6)


def test_service_v4_mapped(lab):
    over_mtls(lab, f"::ffff:{VIP}", socket.AF_INET6)


def test_pod_v4(lab):
    over_mtls(lab, lab.web.ip, socket.AF_INET)


def test_pod_v6(lab):
    over_mtls(lab, lab.web.ip6, socket.AF_INET6)


def test_pod_v4_mapped(lab):
    over_mtls(lab, f"::ffff:{lab.web.ip}", socket.AF_INET6)


def test_nonblocking_connect(lab):
    with lab.client.new_socket() as made:
        made.setblocking(False)
        equal(made.connect_ex((VIP, 80)), errno.EINPROGRESS)
        true(select.select([], [made], [], 5)[1], "the socket did not become writable")
        equal(made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, "SO_ERROR")
        made.settimeout(5)
        equal(read_name(made).split()[0], "web")


def test_many_share_tunnels(lab):
    """Streams, not handshakes: a thousand connections need few TLS connections."""
    gets_through(lab.client, VIP)
    before = proxy_count(lab, "handshakes")
    equal(lab.client.run(_names, VIP, 80, sample_size(1000)), {"web": sample_size(1000)})
    true(proxy_count(lab, "handshakes") - before <= 64, "a handshake for nearly every connection")


def _names(address, port, count):
    names = {}
    for _ in range(count):
        with socket.create_connection((address, port), 10) as made:
            name = read_name(made).split()[0]
            names[name] = names.get(name, 0) + 1
    return names


def test_conn_list_says_what_happened(lab):
    with lab.client.connect(VIP, 80) as made:
        read_ends(made)
        for node_lab in (lab, lab.two):
            row = wait_for(lambda n=node_lab: conns(n, security="mutual_tls"), "weft conn list to say mutual_tls")[0]
            equal({row["source_identity"], row["destination_identity"]}, {spiffe(lab.client), spiffe(lab.web)}, "identities")


def test_metrics_say_what_happened(lab):
    gets_through(lab.client, VIP)
    for node_lab, reporter in ((lab, "source"), (lab.two, "destination")):
        wait_for(lambda n=node_lab, r=reporter: n.metric("istio_tcp_connections_opened_total", reporter=r, connection_security_policy="mutual_tls",
                                                         source_principal=spiffe(lab.client), destination_principal=spiffe(lab.web)) > 0,
                 f"{reporter} to report mutual_tls")
        equal(node_lab.metric("istio_tcp_connections_opened_total", reporter=reporter, connection_security_policy="none", destination_workload="web"), 0,
              "connections to web without security")


def test_no_packet_filter(lab):
    for pod in (lab.client, lab.web, lab.node, lab.two.node):
        equal(sh("nsenter", f"--net=/run/netns/{pod.netns}", "nft", "list", "ruleset").strip(), "", f"nft rules in {pod.netns}")
        for name in ("ip_tables_names", "ip6_tables_names"):
            path = pathlib.Path("/proc/self/net") / name
            equal(pod.run(_read_if_there, str(path)), "", f"{name} in {pod.netns}")


def _read_if_there(path):
    path = pathlib.Path(path)
    return path.read_text() if path.exists() else ""


main(topology)
