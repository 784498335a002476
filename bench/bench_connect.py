# SPDX-License-Identifier: Apache-2.0
"""connect: what a new connection costs. connect(), one request, close(), from one thread, at several numbers of services."""

from pairs import Arm, compare, run_pairs
from peers import PORT, Weft, counting, documents, haproxy, mesh_config, nftables, runs_between, service_address, write_services
import report

METRICS = {
    "connect_us.p50": "connect() p50, us",
    "connect_us.p99": "connect() p99, us",
    "connection_us.p50": "connect, request and close, p50, us",
    "rate": "connections/s",
    "cpu_us": "CPU of the machine per connection, us",
    "cgroups_cpu_us": "CPU of the pods per connection, us",
}
SERVERS = ("s1", "s2", "s3", "s4")
DIRECT, ON, OFF = 8080, 8081, 8082


def weft_instance(host, name, count, addresses, port, metrics, metrics_port):
    folder = host.folder / f"{name}.config"
    write_services(folder, count, lambda _: addresses, port)
    (folder / "mesh.yaml").write_text(documents([mesh_config(metrics={"enabled": metrics})]))
    return Weft(host, name, "node", folder, metrics_port)


def targets(host, name, ends):
    return ("--targets", host.file(name, "".join(f"{address}:{port}\n" for address, port in ends)))


def count_hooks(host, weft, where, connections):
    """What weft's programs did for this many connections, client and server together; the kernel's counters cost time of their own."""
    with counting():
        drive = host.drive("client", weft.name + "/client", "--fresh", "always", "--count", connections, "--warm-up", 0, *where)
        before = weft.runs()
        drive.go()
        figures = drive.figures(120)
        after = weft.runs()
        drive.end()
    made = figures["connection_us"]["count"]
    return {hook: {"runs_per_connection": h["runs"] / made, "ns_per_connection": h["ns"] / made}
            for hook, h in runs_between(before, after).items()}


def measure(host, options, count, progress):
    """All arms at one number of services."""
    _, *addresses = host.node("node", ("client", *SERVERS))
    _, *nft_addresses = host.node("nft", ("nft-client", *(f"nft-{s}" for s in SERVERS)))
    for pod, address in zip(SERVERS, addresses):
        host.serve(pod, f"plain/{pod}", address, DIRECT)
        host.serve(pod, f"weft/{pod}", address, ON)
        host.serve(pod, f"weft-off/{pod}", address, OFF)
    for pod, address in zip(SERVERS, nft_addresses):
        host.serve(f"nft-{pod}", f"plain/nft-{pod}", address, DIRECT)

    def arm(name, netns, cgroup, where):
        def start(seconds):
            return host.drive(netns, cgroup, "--fresh", "always", "--seconds", seconds, *where)
        return Arm(name, start)

    services = targets(host, "services", [(service_address(i), PORT) for i in range(count)])
    # As long a list as that of services: what the client itself reads of its memory for a connection is the same in every arm.
    servers = targets(host, "servers", [(addresses[i % len(addresses)], DIRECT) for i in range(max(count, len(addresses)))])
    direct = arm("direct", "client", "plain/client", servers)
    others, instances, setup = [direct], [], {}
    if "weft" not in options.skip:
        instances = [weft_instance(host, "weft", count, addresses, ON, True, 9464),
                     weft_instance(host, "weft-off", count, addresses, OFF, False, 9465),
                     weft_instance(host, "weft-far", count, addresses, DIRECT, True, 9466)]
        others += [arm("weft", "client", "weft/client", services), arm("weft, metrics off", "client", "weft-off/client", services),
                   arm("weft, client's side", "client", "weft-far/client", services)]
    if "nft" not in options.skip:
        setup["nft_load_s"] = nftables(host, "nft", count, nft_addresses, DIRECT)
        others.append(arm("nftables DNAT", "nft-client", "plain/nft-client", services))
    if "haproxy" not in options.skip:
        haproxy(host, "node", count, addresses, DIRECT)
        others.append(arm("HAProxy TCP", "client", "plain/client", services))
    pairs = run_pairs(host, direct, others, options.pairs, options.seconds, lambda what: progress(f"{count} services: {what}"))
    for weft in instances:
        setup[weft.name] = {
            "hooks": count_hooks(host, weft, services, 200 if options.quick else 20000),
            "maps": {k: v for k, v in weft.metrics().items() if k.startswith(("weft_map_", "weft_lost_"))},
        }
    return {"pairs": pairs, "results": {name: compare(p, METRICS, options.quick) for name, p in pairs.items()}, **setup}


def describe_hooks(scale):
    rows = [[name, hook, f"{h['runs_per_connection']:.2f}", f"{h['ns_per_connection']:.0f}"]
            for name in ("weft", "weft-off", "weft-far") if name in scale for hook, h in sorted(scale[name]["hooks"].items())]
    if not rows:
        return ""
    maps = scale["weft"]["maps"]

    def of(family, label, value):
        return f'{maps[f"""{family}{{{label}="{value}"}}"""]:.0f}'

    return ("\nPrograms for a connection, client's and server's side together, by the kernel's counters in a run of their own "
            "(`weft-off` has metrics off, `weft-far` sees the client's side only):\n\n" + report.table(["instance", "hook", "runs", "ns"], rows)
            + f"\n`weft_aggregate` held {of('weft_map_entries', 'map', 'weft_aggregate')} of "
            f"{of('weft_map_capacity', 'map', 'weft_aggregate')} rows, `weft_histogram` "
            f"{of('weft_map_entries', 'map', 'weft_histogram')} of {of('weft_map_capacity', 'map', 'weft_histogram')}; "
            f"the row `other` was used {of('weft_lost_total', 'what', 'aggregate_full')} times.\n")


def main(new_host, options, progress):
    scales = {}
    for count in (1, 100) if options.quick else (1, 1000, 10000):
        with new_host() as host:
            scales[count] = measure(host, options, count, progress)
    text = ("A client opens a connection to a random service, sends 64 bytes, reads them back and closes; one thread on one CPU,\n"
            "four servers on another. `direct` connects to the servers' own addresses, outside of weft's subtree, through the same\n"
            "namespaces, chosen from a list as long as that of services. For weft, client and servers are inside of it, so that\n"
            "connect() waits for the server's bookkeeping too: on one machine the server's handshake runs within it. `client's side`\n"
            "has the servers outside, as if on another node. Every ratio is to the direct arm of its own pair; A/A is direct against\n"
            "direct in the same run. Goals: connect() at most 1.10,\n"
            "connections/s at least 0.94.\n")
    for count, scale in scales.items():
        text += f"\n## {count:,} services\n\n" + report.comparison(scale["results"], METRICS) + describe_hooks(scale)
    return text, {"scales": scales}
