# SPDX-License-Identifier: Apache-2.0
"""secure: what mutual TLS between two nodes costs. Requests, new connections, bulk and memory, against HAProxy and Envoy."""

import os
import shutil
import statistics

from host import Unusable
from pairs import Arm, compare, run_pairs
from secure_peers import End, Envoy, HAProxy, HAProxyFull, Weft, certificates, memory
from stats import quantile, ratio
import report

PORT, WEFT_PORT = 8080, 8081
IDLE = 1000
FIRST_PAIR = 4  # first connections of each lane for a pair of the other phases

REQUESTS = {"request_us.p50": "latency p50, us", "request_us.p99": "latency p99, us", "cpu_us": "CPU of the machine per request, us"}
PHASES = {
    "one connection, everything on one CPU": (("--connections", 1), True, REQUESTS),
    "sixteen connections": (("--connections", 16), False, {"rate": "requests/s", "cpu_us": "CPU of the machine per request, us"}),
    "new connections, eight at a time": (("--connections", 8, "--fresh", "always"), False,
                                         {"connection_us.p50": "connect, request and close, p50, us", "rate": "connections/s", "cpu_us": "CPU of the machine per connection, us"}),
    "64 KiB there and back, one connection": (("--connections", 1, "--size", 65536), False, {"rate": "blocks/s", "cpu_us": "CPU of the machine per block, us"}),
    "64 KiB there and back, eight connections": (("--connections", 8, "--size", 65536), False, {"rate": "blocks/s", "cpu_us": "CPU of the machine per block, us"}),
}


def pin(pids, cpus):
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cpus)


def idle_memory(host, lane, netns, cgroup, count):
    """Bytes that a connection which does nothing adds to the processes of both ends."""
    # A few before: what the first connections make is no part of one more. Not as many: their memory would be there for the next ones.
    for number in (8, count):
        before = memory(lane.pids())
        drive = host.drive(netns, cgroup, "--connections", number, "--count", number, "--warm-up", 0, lane.target)
        after = memory(lane.pids())
        drive.go()
        drive.figures(60)
        drive.end()
    return (after - before) / count


def first_connection(host, lane, netns, cgroup):
    """
    A connection for which there is no TLS connection yet, with one request, on a machine where nothing else goes on: CPU of all processes
    of both ends until they rest again, and the time that the client takes from connect() to close().
    """
    lane.settled()
    lane.forget()
    before = lane.settled()
    drive = host.drive(netns, cgroup, "--connections", 1, "--fresh", "always", "--count", 1, "--warm-up", 0, lane.target, cpu=host.server_cpu)
    drive.go()
    figures = drive.figures(60)
    drive.end()
    if lane.shared and not lane.connections(lane.ends[0]):
        raise Unusable(f"{lane.name}: its first connection left no TLS connection behind: did it make one?")
    return {"cpu_ms": (lane.settled() - before) * 1e3, "ms": figures["connection_us"]["p50"] / 1e3 if figures["connection_us"]["count"] else None,
            "errors": sum(figures["errors"].values())}


def first_connections(host, lanes, count, progress):
    """{name: [first connection]}, round by round, in turn forwards and backwards; {name: why it has none}."""
    done, absent = {}, {}
    for name, (lane, netns, cgroup, _) in lanes.items():
        pin(lane.pids(), {host.server_cpu})
        try:  # once for nothing: what a process does a first time is no part of the next one
            first_connection(host, lane, netns, cgroup)
            done[name] = []
        except Unusable as error:
            absent[name] = str(error).splitlines()[0]
    for number in range(count):
        for name in list(done) if number % 2 == 0 else reversed(list(done)):
            lane, netns, cgroup, _ = lanes[name]
            done[name].append(first_connection(host, lane, netns, cgroup))
    progress(f"first connections: {count} of each")
    return done, absent


def first_table(first, base):
    def spread(values):
        return f"{statistics.median(values):.2f} ({quantile(values, 0.25):.2f} to {quantile(values, 0.75):.2f})" if values else "-"

    rows = []
    for name, found in first.items():
        cells = []
        for key in ("cpu_ms", "ms"):
            cells += [spread([f[key] for f in found if f[key] is not None]),
                      report.interval(ratio([(a[key], b[key]) for a, b in zip(first[base], found)])) if base in first and name != base else "-"]
        rows.append([name, *cells, f"{len(found)}", f"{sum(f['errors'] for f in found)}"])
    return report.table(["lane", "CPU of both ends' processes, ms (quartiles)", f"ratio to {base} (95 % interval)", "connect, request and close, ms (quartiles)",
                         f"ratio to {base} (95 % interval)", "connections", "errors"], rows)


def bring_up(host, options):
    """{name: (lane or None, namespace of the client, its cgroup, target)}; the lanes whose first connection is a full handshake, likewise; {name: why absent}"""
    addresses = dict(zip(("client", "server", "wclient", "wserver"), host.node("node", ("client", "server", "wclient", "wserver"))))
    near, far = (End(name, name, addresses[name]) for name in ("client", "server"))
    host.serve("server", "plain/server", far.address, PORT)
    target = f"{far.address}:{PORT}"
    lanes, full, absent = {"direct": (None, "client", "plain/client", target)}, {}, {}
    certificates(host, near, far)
    for name, kind in (("haproxy", HAProxy), ("envoy", Envoy)):
        if name in options.skip:
            continue
        try:
            if name == "haproxy" and not shutil.which("haproxy", path="/usr/sbin:/usr/bin"):
                raise Unusable("haproxy is not installed")
            lane = kind(host, name, near, far, PORT)
            lanes[name] = (lane, "client", "plain/client", lane.target)
            if name == "haproxy":
                lane = HAProxyFull(host, "haproxy-full", near, far, PORT)
            full[lane.name] = (lane, "client", "plain/client", lane.target)
        except Unusable as error:
            absent[name] = str(error).splitlines()[0]
    if "weft" not in options.skip:
        # Pods of their own: what weft attaches to a namespace must not be in the others' way.
        near, far = (End(name, f"w{name}", addresses[f"w{name}"]) for name in ("client", "server"))
        host.serve("wserver", "weft-server/pod", far.address, WEFT_PORT)
        lane = Weft(host, near, far, WEFT_PORT)
        lanes["weft"] = full["weft"] = (lane, "wclient", "weft-client/pod", lane.target)
    return lanes, full, absent


def main(new_host, options, progress):
    with new_host() as host:
        lanes, full, absent = bring_up(host, options)
        results, pairs = {}, {}
        for phase, (arguments, one_cpu, metrics) in PHASES.items():
            cpu = host.server_cpu if one_cpu else host.client_cpu
            for lane, *_ in lanes.values():
                if lane:
                    pin(lane.pids(), {cpu} if one_cpu else {host.client_cpu, host.server_cpu})

            def arm(name, phase_arguments=arguments, phase_cpu=cpu):
                _lane, netns, cgroup, target = lanes[name]
                return Arm(name, lambda seconds: host.drive(netns, cgroup, *phase_arguments, "--seconds", seconds, target, cpu=phase_cpu))

            pairs[phase] = run_pairs(host, arm("direct"), [arm(name) for name in lanes], options.pairs, options.seconds, lambda what, p=phase: progress(f"{p}: {what}"))
            results[phase] = {name: compare(p, metrics, options.quick) for name, p in pairs[phase].items()}
        held = {name: idle_memory(host, lane, netns, cgroup, 50 if options.quick else IDLE) for name, (lane, netns, cgroup, _) in lanes.items() if lane}
        # After it: what handshakes have given back would be there for idle connections.
        first, no_first = first_connections(host, full, FIRST_PAIR * options.pairs, progress)
    text = ("A pod reaches a pod of another node; an agent, or a proxy with one thread, at each end, mutual TLS 1.3 between them. HAProxy keeps a TLS connection for each\n"
            "connection and resumes sessions; Envoy and weft carry streams in shared ones. weft is transparent and keeps the client's address; the others are addressed by\n"
            "port. Goals, in what is added to direct: latency p50 on one CPU at most 0.9 of the better of HAProxy and Envoy; CPU per request at sixteen connections at most\n"
            "0.85 of Envoy's, per new connection 0.6 of Envoy's; 2 KiB of memory a connection, both ends together.\n")
    for name, why in absent.items():
        text += f"\n{name} is left out: {why}\n"
    for phase, (_, _, metrics) in PHASES.items():
        text += f"\n## {phase[0].upper()}{phase[1:]}\n\n" + report.comparison(results[phase], metrics)
    text += ("\n## First connection, everything on one CPU\n\nNo TLS connection is there: a full handshake, both certificates verified, with weft the signatures by its role `keys` and its sockets by `main`.\n"
             "One at a time, between which all rests. haproxy-full resumes no sessions; of Envoy and weft the TLS connections are closed from outside before each, which is\n"
             "not counted. weft's certificates come from its own CA, which has an intermediate: at each end one signature more to verify than the others have.\n\n" + "".join(f"{name} is left out: {why}\n\n" for name, why in no_first.items()) + first_table(first, "haproxy-full"))
    text += "\n## Memory of an idle connection\n\n" + report.table(["lane", "KiB, both ends together"], [[name, f"{size / 1024:.1f}"] for name, size in held.items()])
    return text, {"results": results, "pairs_by_phase": pairs, "first_connections": first, "idle_bytes": held, "absent": absent}
