# SPDX-License-Identifier: Apache-2.0
"""open: what an open connection costs. Request and response on connections that are there already."""

from bench_connect import DIRECT, OFF, ON, weft_instance
from pairs import Arm, compare, run_pairs
from peers import PORT, counting, runs_between, service_address
import report

METRICS = {
    "request_us.p50": "latency p50, us",
    "request_us.p99": "latency p99, us",
    "cpu_us": "CPU of the machine per request, us",
    "cgroups_cpu_us": "CPU of the pods per request, us",
    "rate": "requests/s",
}

# Title, which of --cpus is the client's, whether those CPUs are kept from halting
PLACEMENTS = {
    "two CPUs": ("Client and server on a CPU each", 0, False),
    "two CPUs, awake": ("Client and server on a CPU each, kept from halting", 0, True),
    "one CPU": ("Client and server on one CPU", 1, False),
}


def count_runs(host, weft, target, requests):
    """Runs of weft's programs over this many requests on four open connections, and over the connections themselves."""
    with counting():
        closed = weft.runs()
        drive = host.drive("client", "weft/client", "--connections", 4, "--count", requests, "--warm-up", 0, target)
        before = weft.runs()
        drive.go()
        figures = drive.figures(600)
        after = weft.runs()
        drive.end()
    during, connects = runs_between(before, after), runs_between(closed, before)
    return {
        "requests": figures["request_us"]["count"],
        "errors": figures["errors"],
        "by_hook": during,
        "during_requests": sum(h["runs"] for h in during.values()),
        "during_connects": sum(h["runs"] for h in connects.values()),
    }


def measure(host, options, progress, cpu, awake):
    """Client on `cpu`; `awake`: its CPU and the server's never halt."""
    if awake:
        host.keep_awake({cpu, options.cpus[1]})
    _, address = host.node("node", ("client", "s1"))
    host.serve("s1", "plain/s1", address, DIRECT)
    host.serve("s1", "plain/s1", address, OFF)
    host.serve("s1", "weft/s1", address, ON)

    def arm(name, cgroup, target):
        return Arm(name, lambda seconds: host.drive("client", cgroup, "--seconds", seconds, target, cpu=cpu))

    direct = arm("direct", "plain/client", f"{address}:{DIRECT}")
    # Two processes of one program differ by a few percent, so weft's server is to be judged beside another one of its own.
    others, counted = [direct, arm("another server", "plain/client", f"{address}:{OFF}")], None
    if "weft" not in options.skip:
        weft = weft_instance(host, "weft", 1, [address], ON, True, 9464)
        target = f"{service_address(0)}:{PORT}"
        others.append(arm("weft", "weft/client", target))
        counted = count_runs(host, weft, target, 10**4 if options.quick else 10**6)
    pairs = run_pairs(host, direct, others, options.pairs, options.seconds, progress)
    return {"pairs": pairs, "results": {name: compare(p, METRICS, options.quick) for name, p in pairs.items()}, "counted": counted}


def main(new_host, options, progress):
    placements = {}
    for name, (_, cpu, awake) in PLACEMENTS.items():
        with new_host() as host:
            placements[name] = measure(host, options, lambda what, name=name: progress(f"{name}: {what}"), options.cpus[cpu], awake)
    text = ("One connection, 64 bytes there and back, closed loop; through a service's address of weft, against the server's own\n"
            "address outside of weft's subtree. A/A is direct against direct in the same run; `another server` is direct to a second process of\n"
            "the same program, as weft's arm has one of its own. Goal: latency and CPU ratios whose intervals contain 1.00\n"
            "and are no wider than 3 % to either side; p99 inside the A/A interval.\n")
    counted = placements["two CPUs"]["counted"]
    if counted:
        text += (f"\nIn a run of its own, with `kernel.bpf_stats_enabled`: **{counted['during_requests']} runs of weft's BPF programs over "
                 f"{counted['requests']:,} requests** on four open connections (the four connects before them: {counted['during_connects']} runs).\n")
    for name, placement in placements.items():
        text += f"\n## {PLACEMENTS[name][0]}\n\n" + report.comparison(placement["results"], METRICS)
    return text, {"placements": placements}
