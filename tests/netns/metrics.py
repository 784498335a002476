#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""/metrics: Istio's names and labels, right values, text that promtool has nothing to say about.

    client (shop/client, v2) ──> 10.96.0.1:80 ──> web (shop/web, v1)
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1", namespace="shop"), endpoint_slice("web", [lab.web], namespace="shop"),
                           service("none", "10.96.0.2", namespace="shop"),
                           service("shut", "10.96.0.3", [81], namespace="shop"), endpoint_slice("shut", [lab.web], [81], namespace="shop")])
    lab.write("pods.yaml", [
        pod_resource(lab.client, "shop", {"app": "client", "version": "v2"}, service_account="buyer"),
        pod_resource(lab.web, "shop", {"app": "web", "version": "v1"}, service_account="seller"),
    ])
    lab.start()


LABELS = {
    "source_workload": "client", "source_workload_namespace": "shop", "source_app": "client", "source_version": "v2",
    "destination_workload": "web", "destination_workload_namespace": "shop", "destination_app": "web", "destination_version": "v1",
    "destination_service": "web.shop.svc.cluster.local", "destination_service_name": "web", "destination_service_namespace": "shop",
    "request_protocol": "tcp",
}


def promtool(lab):
    done = subprocess.run(["promtool", "check", "metrics"], input=lab.metrics_text(), capture_output=True, text=True, check=False)
    equal((done.returncode, done.stdout + done.stderr), (0, ""), "promtool check metrics")


def test_promtool_before_traffic(lab):
    promtool(lab)


def test_tcp_counters(lab):
    equal(lab.client.spread("10.96.0.1", 80, 25), {"web": 25})
    for reporter in ("source", "destination"):
        for name, value in (("istio_tcp_connections_opened_total", 25), ("istio_tcp_connections_closed_total", 25),
                            ("istio_tcp_sent_bytes_total", 100), ("istio_tcp_received_bytes_total", 0)):
            def got(name=name, reporter=reporter):
                return lab.metric(name, reporter=reporter, **LABELS)

            wait_for(lambda: got() == value, lambda: f"{name} of {reporter} to be {value}, it is {got()}")


def test_nothing_claims_to_be_secured(lab):
    policies = {l["connection_security_policy"] for _n, l, _v in lab.metrics() if "connection_security_policy" in l}
    true(policies and policies <= {"none", "unknown"}, f"connection_security_policy: {policies}")


def test_failures(lab):
    for address, port, number in (("10.96.0.2", 80, lab.refused), ("10.96.0.3", 81, errno.ECONNREFUSED), ("10.96.0.1", 99, lab.refused)):
        with fails(number):
            lab.client.connect(address, port)
    for word in ("no_endpoint", "no_port", "refused"):
        wait_for(lambda w=word: re.search(rf'"{w}"[^\n]*}} [1-9]', lab.metrics_text()), f"something to be counted for {word}")


def test_promtool_after_traffic(lab):
    promtool(lab)


def test_map_fill_and_losses(lab):
    names = {n for n, _l, _v in lab.metrics()}
    for part in ("weft_map_entries", "weft_map_"):
        true(any(n.startswith(part) for n in names), f"no metric {part}* in {sorted(names)}")
    true(any("lost" in n for n in names), f"no metric of lost events in {sorted(names)}")


def test_histograms_add_up(lab):
    samples = lab.metrics()
    counts = {n[:-6] for n, _l, _v in samples if n.endswith("_count")}
    true(counts, "no histogram at all")
    for name in counts:
        for labels, total in [(l, v) for n, l, v in samples if n == name + "_count"]:
            buckets = [(float(l["le"]), v) for n, l, v in samples
                       if n == name + "_bucket" and {k: x for k, x in l.items() if k != "le"} == labels]
            buckets.sort()
            values = [v for _le, v in buckets]
            equal(values, sorted(values), f"{name}{labels} is cumulative")
            equal(buckets[-1], (math.inf, total), f"{name}{labels}: the last bucket")


def test_other_paths(lab):
    equal(lab.http("/")[0] in (200, 404), True)
    equal(lab.http("/nothing")[0], 404)


def test_only_where_it_listens(lab):
    with fails(errno.ECONNREFUSED):
        lab.client.connect(lab.node_ip, 9464)


main(topology)
