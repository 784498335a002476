# SPDX-License-Identifier: Apache-2.0
"""The unit of every comparison: a pair of arms, one right after the other, A B and then B A.

An arm says how its client is started. What is recorded of an arm is the client's own figures, the CPU time of the
whole machine and of the benchmark's cgroups, what others spent meanwhile, and what the hypervisor took. A pair is dropped for the latter two,
never for its result; a run of which more than 40 % was dropped is void.
"""

import time

from host import machine_cpu
from stats import difference, ratio

FOREIGN = 0.05  # of the CPU time that the machine was busy during the arm
STOLEN = 0.02  # of the machine's CPU time
VOID = 0.40


class Arm:
    """`start(seconds)` gives a Drive that is ready."""

    def __init__(self, name, start):
        self.name, self.start = name, start

    def measure(self, host, seconds, idle_rate):
        drive = self.start(seconds)
        before, ours, awake, began = machine_cpu(), host.cgroups_cpu(), host.awake_cpu(), time.monotonic()
        drive.go()
        figures = drive.figures(seconds + 60)
        elapsed = time.monotonic() - began
        after, ours, awake = machine_cpu(), host.cgroups_cpu() - ours, host.awake_cpu() - awake
        drive.end()
        busy = after["busy"] - before["busy"] - awake
        interrupts = after["interrupts"] - before["interrupts"]
        work = figures["request_us"]["count"] + figures["connection_us"]["count"]
        return {
            **figures,
            "wall_s": elapsed,
            "busy_s": busy,
            "cgroups_s": ours,
            "interrupts_s": interrupts,
            "foreign": max(0.0, busy - ours - interrupts) / busy if busy > 0 else 0.0,
            "stolen": (after["stolen"] - before["stolen"]) / elapsed / host.cpus,
            "rate": work / figures["elapsed_s"],
            "cpu_us": max(busy - idle_rate * elapsed, 0.0) / work * 1e6 if work else None,
            "cgroups_cpu_us": ours / work * 1e6 if work else None,
            "error_count": sum(figures["errors"].values()),
        }


def idle_rate(host, seconds):
    """CPU seconds a second that the machine spends while no arm runs."""
    before = machine_cpu()["busy"] - host.awake_cpu()
    time.sleep(seconds)
    return max(0.0, machine_cpu()["busy"] - host.awake_cpu() - before) / seconds


def run_pairs(host, base, others, pairs, seconds, progress):
    """Interleaves: for each pair number, `base` against each of `others` (one of which should be `base` itself)."""
    done = {other.name: [] for other in others}
    for number in range(pairs):
        for other in others:
            idle = idle_rate(host, min(0.5, seconds / 2))
            arms = (base, other) if number % 2 == 0 else (other, base)
            first, second = (arm.measure(host, seconds, idle) for arm in arms)
            a, b = (first, second) if number % 2 == 0 else (second, first)
            causes = [f"{what} {arm[what]:.0%}" for arm in (a, b) for what, limit in (("foreign", FOREIGN), ("stolen", STOLEN))
                      if arm[what] > limit]
            done[other.name].append({"order": "AB" if number % 2 == 0 else "BA", "idle": idle, "a": a, "b": b, "dropped": causes})
        progress(f"pair {number + 1} of {pairs}")
    return done


def pick(arm, path):
    for key in path.split("."):
        arm = arm.get(key) if isinstance(arm, dict) else None
    return arm


def compare(pairs, metrics, keep_all=False):
    """[pair] -> one figure for each metric path, with the number of pairs that were dropped. `keep_all` is for smoke runs."""
    kept = [p for p in pairs if keep_all or not p["dropped"]]
    result = {
        "pairs": len(pairs),
        "dropped": len(pairs) - len(kept),
        "void": not keep_all and len(pairs) - len(kept) > VOID * len(pairs),
        "errors": [sum(p[arm]["error_count"] for p in pairs) for arm in ("a", "b")],
        "metrics": {},
    }
    for path in metrics:
        values = [(pick(p["a"], path), pick(p["b"], path)) for p in kept]
        result["metrics"][path] = {**ratio(values), **{f"added{k[5:]}" if k == "added" else f"added_{k}": v
                                                       for k, v in difference(values).items()}}
    return result
