# SPDX-License-Identifier: Apache-2.0
"""load: what ten thousand services with a hundred thousand endpoints cost. Parsing, first load, one change, memory."""

import ipaddress
import json
import random
import time

import host as hosts
from peers import Weft, documents, endpoint_slice, replace, service, write_services
import report
from stats import median_interval, quantile, ratio

ENDPOINTS = 10
FIRST_ENDPOINT = ipaddress.ip_address("10.128.0.1")
FIGURES = {
    "parse_ms": "parsing, ms",
    "first.total_ms": "first load, from parsed resources to the last map write, ms",
    "first.commit_ms": "of it: compiling to map contents, ms",
    "first.apply_ms": "of it: writing maps, ms",
    "change_us.p50": "one endpoint changed, from parsed resource to the last map write, p50, us",
    "change_us.p99": "the same, p99, us",
    "change_apply_us.p50": "of it: writing maps, p50, us",
}


def endpoints(index):
    return [str(FIRST_ENDPOINT + index * ENDPOINTS + i) for i in range(ENDPOINTS)]


def make_changes(count, services):
    """Each takes one endpoint of a service away and puts a new one in its place."""
    generator, state, made = random.Random(1), {}, []
    for number in range(count):
        index = generator.randrange(services)
        now = state.setdefault(index, endpoints(index))
        now[generator.randrange(ENDPOINTS)] = str(FIRST_ENDPOINT + services * ENDPOINTS + number)
        made.append(endpoint_slice(index, list(now), 8080))
    return documents(made)


def pick(figures, path):
    for key in path.split("."):
        figures = figures[key]
    return figures


def apply_runs(host, options, folder, services, progress):
    changes = host.file("changes", make_changes(50 if options.quick else 2000, services))
    runs = []
    for number in range(max(2, options.pairs // 2 * 2)):
        done = hosts.run("taskset", "-c", str(host.client_cpu), hosts.APPLY, host.cgroup("apply"), host.bpffs / "apply", folder, changes)
        runs.append(json.loads(done))
        progress(f"run {number + 1}")
    return runs


def agent(host, options, folder, services):
    """The same through weftd, whose memory is what counts; a service of its own is changed."""
    hot = folder / "hot.yaml"
    spare = services  # the service behind the last one
    choices = [str(FIRST_ENDPOINT + (services + 1) * ENDPOINTS + i) for i in range(ENDPOINTS + 1)]
    hot.write_text(documents([service(spare, 8080), endpoint_slice(spare, choices[:-1], 8080)]))
    host.node("node", ("client",))
    began = time.monotonic()
    weft = Weft(host, "weft", "node", folder, 9464)
    ready = time.monotonic() - began
    first = weft.metric("weft_config_last_apply_seconds")
    pss, maps = weft.pss(), weft.maps()
    changes = []
    for number in range(3 if options.quick else 40):
        applied = weft.metric("weft_config_applies_total")
        part = [c for i, c in enumerate(choices) if i != number % len(choices)]
        replace(hot, documents([service(spare, 8080), endpoint_slice(spare, part, 8080)]))
        deadline = time.monotonic() + 30
        while weft.metric("weft_config_applies_total") == applied:
            if time.monotonic() > deadline:
                raise hosts.Unusable("weftd did not apply a change")
            time.sleep(0.2)
        changes.append(weft.metric("weft_config_last_apply_seconds") * 1e6)
    return {"ready_s": ready, "first_apply_s": first, "pss_bytes": pss, "pss_after_changes_bytes": weft.pss(), "map_bytes": maps,
            "change_us": changes}


def main(new_host, options, progress):
    services = 200 if options.quick else 10000
    with new_host() as host:
        folder = host.folder / "config"
        write_services(folder, services, endpoints, 8080)
        runs = apply_runs(host, options, folder, services, progress)
        measured = agent(host, options, folder, services)
    rows = []
    for path, title in FIGURES.items():
        values = [pick(r, path) for r in runs]
        middle, low, high = median_interval(values)
        same = ratio(list(zip(values[0::2], values[1::2])))
        rows.append([title, f"{middle:.2f} ({low:.2f} to {high:.2f})", report.interval(same)])
    megabyte = 1 << 20
    maps = sum(measured["map_bytes"].values())
    text = (f"{services:,} services with {ENDPOINTS} endpoints each. Without the agent around it (`weft-apply`, one thread on one CPU, "
            f"{len(runs)} runs;\nA/A is the ratio of each run to the one before it). Goals: first load at most 200 ms, a change at most "
            "0.1 ms at p50 and 1 ms at p99,\nmemory at most 64 MB.\n\n"
            + report.table(["figure", "median (95 % interval)", "A/A"], rows)
            + f"\nA change takes one endpoint away and adds another: {runs[0]['change_us']['count']} changes of random services a run.\n"
            "\nThrough the agent (`weft_config_last_apply_seconds`: with the names file, the message to role `main` and its answer):\n\n"
            + report.table(["figure", "value"], [
                ["from start to ready, s", f"{measured['ready_s']:.2f}"],
                ["first load, ms", f"{measured['first_apply_s'] * 1e3:.1f}"],
                ["one endpoint changed, p50, us", f"{quantile(measured['change_us'], 0.5):.0f} of {len(measured['change_us'])}"],
                ["the same, p99, us", f"{quantile(measured['change_us'], 0.99):.0f}"],
                ["PSS of all roles, MB", f"{measured['pss_bytes'] / megabyte:.1f} (after the changes {measured['pss_after_changes_bytes'] / megabyte:.1f})"],
                ["map memory, MB", f"{maps / megabyte:.1f}"],
                ["together, MB", f"{(measured['pss_after_changes_bytes'] + maps) / megabyte:.1f}"],
            ])
            + "\nMaps of more than half a megabyte: "
            + ", ".join(f"`{name}` {size / megabyte:.1f}" for name, size in sorted(measured["map_bytes"].items(), key=lambda m: -m[1])
                        if size > megabyte / 2) + " MB.\n")
    return text, {"runs": runs, "agent": measured, "services": services}
