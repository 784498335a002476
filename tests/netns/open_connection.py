#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An open connection costs nothing: no program runs while requests go back and forth on it.

    client ──> 10.96.0.1:80, fd96::1:80 ──> web:80   by the kernel's own run counters
"""

from lab import *

CONNECTIONS = 20
REQUESTS = 100_000
STATS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web]),
                           service("six", "fd96::1"), endpoint_slice("six", [endpoint(lab.web.ip6)])])
    lab.start()


def run_counts(lab):
    """{program: runs} of the cgroup's programs. Iterators run when the agent reads, not by traffic."""
    counts = {}
    for pin in sorted((lab.pins / "v1/link").iterdir()):
        if pin.name == "weft_conn":
            continue
        link = pinned_link(pin)
        program = json.loads(sh("bpftool", "-j", "prog", "show", "id", link["prog_id"]))
        counts[pin.name] = program.get("run_cnt", 0)
    return counts


def difference(before, after):
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def drive(connections, requests):
    """Requests and answers on connections that are open, by turns."""
    for n in range(requests):
        made = connections[n % len(connections)]
        made.sendall(b"request")
        answer = made.recv(100)
        if answer != b"request":
            raise AssertionError(f"request {n} was answered by {answer!r}")
    return requests


def test_no_program_runs(lab):
    kept = STATS.read_text()
    STATS.write_text("1")
    try:
        held = [lab.client.connect(address, 80) for address in ["10.96.0.1", "fd96::1"] * (CONNECTIONS // 2)]
        for made in held:
            equal(read_name(made), "web")
            made.settimeout(10)
        # What is counted is counted: one more connection moves the same numbers.
        before = run_counts(lab)
        lab.client.connect("10.96.0.1", 80).close()
        moved = wait_for(lambda: difference(before, run_counts(lab)), "the counters to move by a new connection")
        true({"weft_connect4", "weft_sockops", "weft_sock_release"} <= set(moved), f"a new connection moved only {moved}")

        def quiet():
            first = run_counts(lab)
            return first == run_counts(lab)

        wait_for(quiet, "that connection's end")
        before = run_counts(lab)
        equal(drive(held, REQUESTS), REQUESTS)
        equal(difference(before, run_counts(lab)), {}, f"program runs of {REQUESTS} requests on {CONNECTIONS} open connections")
        for made in held:
            made.close()
        wait_for(lambda: difference(before, run_counts(lab)).get("weft_sockops", 0) >= CONNECTIONS, "the ends to be counted")
    finally:
        STATS.write_text(kept)


main(topology)
