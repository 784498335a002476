# SPDX-License-Identifier: Apache-2.0
"""What a guest's run amounts to: lines for the report, from what was heard of it. Does nothing itself, so its tests need no guest."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))

import tap

GOOD, BAD, SKIPPED, NOTE = "ok", "not ok", "skip", "note"
# A program that takes this much more than at the last release is worth a look on the way, not a refusal.
JUMP = 1.2
# As automake and meson have it.
SKIP_CODE = 77
SHOWN = 60


def tail(text, lines=25):
    return text.splitlines()[-lines:]


def test_lines(title, code, seconds, log):
    """[(kind, title, reason or details)] of one test."""
    timed = f"{title} # {seconds:.1f} s"
    if code is None:
        return [(BAD, title, [f"it did not end within {seconds:.0f} s", *tail(log, SHOWN)])]
    text = log.splitlines()
    passed, failed, skipped = tap.cases(title, text, code in (0, SKIP_CODE), code == SKIP_CODE)
    lines = [(SKIPPED, name, reason) for name, reason in skipped]
    if failed:
        lines.append((BAD, title, [f"{failed} failed, exit {code}", *tail(log, SHOWN)]))
    elif passed:
        lines.append((GOOD, timed, []))
    return lines


def mentions(log, release):
    """Whether a test says that it went on with what it had left on that kernel."""
    return f"# state of Linux {release} on Linux " in log


def outcome_lines(title, plan, outcome, logs):
    """[(kind, title, reason or details)] of one boot: its tests, those that it did not come to, and itself."""
    lines = []
    for test in plan:
        name = test["name"]
        if outcome.unfit:
            lines.append((SKIPPED, f"{title}: {name}", outcome.unfit))
        elif name in outcome.tests:
            code, seconds = outcome.tests[name]
            lines += test_lines(f"{title}: {name}", code, seconds, logs.get(name, ""))
        else:
            lines.append((BAD, f"{title}: {name}", ["it was running", *tail(logs.get(name, ""), SHOWN)] if name == outcome.running else ["it did not run"]))
    lines += [(NOTE, f"{title}: known: {line} ({reason})", []) for line, reason in outcome.known]
    if outcome.why or not outcome.done:
        lines.append((BAD, f"{title}: the kernel", [outcome.why or "the guest did not say that it was done", *outcome.faults[:SHOWN],
                                                    "last lines of its console:", *tail(outcome.console)]))
    else:
        parts = [f"boot {outcome.boot:.1f}"] + [f"{name} {seconds:.1f}" for name, (_code, seconds) in outcome.tests.items()]
        rest = outcome.seconds - outcome.boot - sum(seconds for _code, seconds in outcome.tests.values())
        lines.append((GOOD, f"{title}: Linux {outcome.release}, no fault on its console # {outcome.seconds:.1f} s: {', '.join(parts)}, the rest {rest:.1f}", []))
    return lines


def features_of(log):
    """{feature: native, fallback or absent} of what a test says that was asked for `weft feature list`."""
    state = {("there", "floor"): "native", ("there", "optional"): "native", ("missing", "optional"): "fallback", ("missing", "floor"): "absent"}
    return {m[1]: state[m[2], m[3]] for m in re.finditer(r"^# feature (\w+) (there|missing) (floor|optional)$", log, re.MULTILINE)}


def feature_lines(kernel, found, table):
    """Compares what a kernel has with vmtests/features."""
    wrong = []
    for name in sorted({*found, *(n for n, row in table.items() if kernel in row)}):
        wanted, got = table.get(name, {}).get(kernel, "not in the list"), found.get(name, "not in the list")
        if wanted != got:
            wrong.append(f"{name}: vmtests/features says {wanted}, the kernel {got}")
    if wrong:
        return [(BAD, f"{kernel}: features", [*wrong, "if that is right: vmtests/run --all --update"])]
    return [(GOOD, f"{kernel}: features", [])]


def insns_of(log):
    """{program: instructions verified, the most of all configurations} of what bpf.load says; none before Linux 5.16."""
    counts = {}
    for match in re.finditer(r"^\s+(\w+)\s+(\d+) verified\b", log, re.MULTILINE):
        counts[match[1]] = max(counts.get(match[1], 0), int(match[2]))
    return {name: count for name, count in counts.items() if count}


def insns_lines(kernel, found, table):
    """Compares verified instructions with the last release's."""
    lines = []
    for name, count in found.items():
        before = table.get(name, {}).get(kernel)
        if before and count > int(before) * JUMP:
            lines.append((NOTE, f"{kernel}: {name} takes {count} verified instructions, {before} at the last release: {count / int(before) - 1:+.0%}", []))
    return lines
