#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Installs, builds, tests, and says how it went in one line."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUITES = ["lint", "unit", "conf", "cli", "bpf", "netns", "fuzz", "vm"]
# Suites that exercise C code in their own process tree, and so gain from sanitizers.
SANITIZED = ["unit", "conf", "cli", "fuzz"]


def sh(log, *argv):
    """Runs a command quietly; shows what it said when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as out:
        code = subprocess.run([str(a) for a in argv], stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        print("\n".join(log.read_text(errors="replace").splitlines()[-60:]))
        print(f"{' '.join(str(a) for a in argv)}: exit {code}; whole log in {log}")
    return code == 0


def build(directory, options):
    log = directory / "build.log"
    return sh(log, ROOT / "scripts/build", directory, *options)


def registered(directory):
    """[(suite, name)] of all tests."""
    out = subprocess.run(["meson", "introspect", "--tests", directory], capture_output=True, text=True, check=True).stdout
    return [(t["suite"][0].split(":")[-1], t["name"]) for t in json.loads(out)]


def cases(test):
    """(passed, failed, [skipped]) of one record of meson's log."""
    return tap.cases(test["name"], test.get("stdout", "").splitlines(), test["result"] in ("OK", "SKIP", "EXPECTEDFAIL"), test["result"] == "SKIP")


def run(directory, title, tests, verbose, jobs):
    """Runs tests of one suite: (passed, failed, skipped)."""
    if not tests:
        return 0, 0, []
    start = time.monotonic()
    log = directory / f"meson-logs/{title.replace(' ', '-')}.json"
    log.unlink(missing_ok=True)
    argv = ["meson", "test", "-C", directory, "--no-rebuild", "--logbase", log.stem, "--num-processes", jobs, *tests]
    with open(log.with_suffix(".out"), "w", encoding="utf-8") as out:
        subprocess.run([str(a) for a in argv], stdout=out, stderr=subprocess.STDOUT, check=False)
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    passed, failed, skipped = 0, 0, []
    for test in records:
        one = cases(test)
        passed, failed, skipped = passed + one[0], failed + one[1], skipped + one[2]
        if one[1] or verbose:
            print(f"--- {title}: {test['name']}: {test['result']} ({test['duration']:.1f} s)")
            print("\n".join((test.get("stdout", "") + test.get("stderr", "")).splitlines()[-200:]))
    if len(records) < len(tests):
        print(f"{title}: {len(tests)} tests were to run, {len(records)} did; see {log.with_suffix('.out')}")
        failed += len(tests) - len(records)
    print(f"{title:16} {passed} passed, {failed} failed, {len(skipped)} skipped, {time.monotonic() - start:.0f} s", flush=True)
    return passed, failed, skipped


def main():
    parser = argparse.ArgumentParser(prog="scripts/test", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="SUITE|NAME",
                        help="suites (" + " ".join(SUITES) + ") or names of tests, which are their paths:\n"
                        "netns.weights is tests/netns/weights.py, unit.conf.parse is tests/unit/conf/parse.c.\nDefault: all")
    parser.add_argument("-b", "--build", type=pathlib.Path, default=ROOT / "build", help="build directory (default: build)")
    parser.add_argument("-n", "--no-sanitizers", action="store_true",
                        help="leave out the second round under ASan and UBSan (" + ", ".join(SANITIZED) + ")")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the output of tests that pass, too")
    parser.add_argument("-l", "--list", action="store_true", help="list the tests and end")
    options = parser.parse_args()

    passed, failed, skipped = 0, 0, []
    plain = options.build.resolve()
    sanitized = plain.parent / f"{plain.name}-sanitized"
    rounds = [(plain, SUITES, "", [])]
    if not options.no_sanitizers and (not options.what or any(w.split(".")[0] in SANITIZED for w in options.what)):
        rounds.append((sanitized, SANITIZED, " asan", ["-Db_sanitize=address,undefined", "-Db_lundef=false"]))

    known = set()
    for directory, suites, suffix, settings in rounds:
        if not build(directory, settings):
            failed += 1
            continue
        tests = registered(directory)
        known |= {name for _suite, name in tests} | set(SUITES)
        if options.list:
            print("\n".join(name for _suite, name in tests))
            return 0
        for suite in suites:
            chosen = [n for s, n in tests if s == suite and (not options.what or suite in options.what or n in options.what)]
            # Tests of the kernel side share one machine's namespaces and sockets: two at a time keep their timings honest.
            jobs = min(2, os.cpu_count()) if suite in ("bpf", "netns") else os.cpu_count()
            one = run(directory, suite + suffix, chosen, options.verbose, jobs)
            passed, failed, skipped = passed + one[0], failed + one[1], skipped + one[2]

    for word in options.what:
        if known and word not in known:
            print(f"scripts/test: no suite and no test is named '{word}'; --list shows them")
            failed += 1
    if not passed and not failed:
        print("scripts/test: nothing ran")
        failed += 1
    for name, reason in skipped:
        print(f"skipped: {name}: {reason}")
    print(f"{passed} passed, {failed} failed" + (f", {len(skipped)} skipped" if skipped else ""))
    return 1 if failed else 0


sys.exit(main())
