#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs weft's tests on kernels that users have: Debian's, each in a virtual machine on this machine's own files.

What runs where is said by vmtests/kernels, tests, variants, skips, splats, features and insns. Kernels are kept in
$WEFT_VMTESTS_CACHE, or weft-vmtests in $XDG_CACHE_HOME or /var/cache. The build is that of $WEFT_BUILD (default: build).
Output is TAP; the last line before the plan says how it went. A file per test is kept only with --logs."""

import argparse
import concurrent.futures
import os
import pathlib
import signal
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

import cache
import data
import guest
import judge
import page
from judge import BAD, GOOD, NOTE, SKIPPED

BUILD = pathlib.Path(os.environ.get("WEFT_BUILD", page.ROOT / "build"))


class Report:
    """TAP lines as they come, from several guests at once."""

    def __init__(self):
        self.lock, self.count = threading.Lock(), {GOOD: 0, BAD: 0, SKIPPED: 0}

    def say(self, text):
        with self.lock:
            print("\n".join(f"# {line}" for line in text.splitlines()), flush=True)

    def add(self, lines):
        with self.lock:
            for kind, title, more in lines:
                if kind == NOTE:
                    print(f"# {title}")
                    continue
                self.count[kind] += 1
                number = sum(self.count.values())
                if kind == SKIPPED:
                    print(f"ok {number} - {title} # SKIP {more}")
                else:
                    print(f"{kind} {number} - {title}")
                    print("".join(f"#   {line}\n" for line in more), end="")
            sys.stdout.flush()

    def end(self):
        print(f"# {self.count[GOOD]} passed, {self.count[BAD]} failed, {self.count[SKIPPED]} skipped")
        print(f"1..{sum(self.count.values())}")
        return 1 if self.count[BAD] or not sum(self.count.values()) else 0


class Matrix:
    def __init__(self, options, report):
        self.options, self.report = options, report
        self.rows = data.read("kernels")
        self.tests, self.skips, self.splats = data.read("tests"), data.read("skips"), data.read("splats")
        self.features, self.insns = data.table("features"), data.table("insns")
        self.variants = {row["name"]: row for row in data.read("variants")}
        self.found_features, self.found_insns = {}, {}

    def chosen(self, kernel, variant):
        """Names of the tests to run in one boot, and lines for those that are left out."""
        if self.options.tests:
            return self.options.tests, []
        names, lines = [], []
        for row in self.tests:
            if not (data.matches(row["kernels"], kernel) and data.matches(row["variants"], variant)):
                continue
            reason = data.skip_of(self.skips, kernel, variant, row["test"])
            if reason:
                lines.append((SKIPPED, f"{self.title(kernel, variant)}: {row['test']}", reason))
            else:
                names.append(row["test"])
        return names, lines

    @staticmethod
    def title(kernel, variant):
        return kernel if variant == "plain" else f"{kernel} {variant}"

    def boots(self, names):
        """[(kernel, variant, plan)], and a report of what is left out. The long ones come first, so that no processor is idle at the end."""
        made = []
        for kernel in names:
            for variant in self.options.variant or self.variants:
                tests, lines = self.chosen(kernel, variant)
                self.report.add(lines)
                if tests:
                    rows = [] if self.options.tests else self.tests
                    made.append((kernel, variant, guest.plan_of(BUILD, tests, rows)))
        return sorted(made, key=lambda boot: -sum(t["seconds"] for t in boot[2]))

    def boot(self, kernel, variant, plan, root, qemu, title=None, kept=None):
        """One boot, a second time only if the first came to nothing before its first test: that is the machine's fault, not weft's."""
        title, row = title or self.title(kernel, variant), self.variants[variant]
        for attempt in (1, 2):
            with guest.Guest(kernel, root, qemu, self.splats) as made:
                outcome = made.run(plan, row["append"], self.sysctl(row), row["proof"], kept)
                logs = {test["name"]: made.log(test["name"]) for test in plan}
            if outcome.started or attempt == 2:
                break
            self.report.say("\n".join([f"{title}: {outcome.why}; once more. Its console:", *judge.tail(outcome.console)]))
        self.keep(title, outcome, logs)
        return outcome, logs, judge.outcome_lines(title, plan, outcome, logs)

    def column(self, kernel, variant, plan, root, qemu):
        asked = next((test for test in plan if test["name"].startswith("netns.")), None)
        if asked:
            asked["env"]["WEFT_SHOW_FEATURES"] = "1"
        outcome, logs, lines = self.boot(kernel, variant, plan, root, qemu)
        if variant == "plain":
            lines += self.compare(kernel, outcome, logs)
        self.report.add(lines)

    def upgrade(self, row, roots, qemu):
        """One test on two kernels, the second with what the first left."""
        test, title, releases = row["test"], f"{row['older']} to {row['newer']}", []
        reason = next(filter(None, (data.skip_of(self.skips, row[end], "plain", test) or (None if row[end] in roots else f"there is no kernel {row[end]}")
                                    for end in ("older", "newer"))), None)
        if reason:
            self.report.add([(SKIPPED, f"{title}: {test}", reason)])
            return
        with tempfile.TemporaryDirectory(prefix="weft-vm-kept-") as folder:
            kept = pathlib.Path(folder) / "kept"
            kept.mkdir()
            for end in ("older", "newer"):
                plan = guest.plan_of(BUILD, [test], [])
                plan[0]["env"][row["variable"]] = guest.KEPT
                outcome, logs, lines = self.boot(row[end], "plain", plan, roots[row[end]], qemu, f"{title}, on {row[end]}", kept)
                if releases and not judge.mentions(logs[test], releases[0]):
                    lines.append((BAD, f"{title}: {test}", [f"it does not say that it went on with what {releases[0]} left", *judge.tail(logs[test])]))
                self.report.add(lines)
                releases.append(outcome.release)

    def sysctl(self, row):
        return dict(word.split("=", 1) for word in [row["sysctl"], *self.options.sysctl] if word)

    def keep(self, title, outcome, logs):
        if self.options.logs:
            folder = self.options.logs / title.replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in {"console": outcome.console, **logs}.items():
                (folder / name).write_text(text)

    def compare(self, kernel, outcome, logs):
        """What the kernel says of itself, against the data files."""
        lines = []
        found = next(filter(None, (judge.features_of(logs[name]) for name in outcome.tests)), None)
        if found:
            self.found_features[kernel] = found
            if not self.options.update:
                lines += judge.feature_lines(kernel, self.found_features[kernel], self.features)
        if "bpf.load" in outcome.tests:
            self.found_insns[kernel] = judge.insns_of(logs["bpf.load"])
            lines += judge.insns_lines(kernel, self.found_insns[kernel], self.insns)
        return lines

    def update(self):
        """Data files and page say what the kernels said; a kernel that did not run keeps its column."""
        for name, table, found in (("features", self.features, self.found_features), ("insns", self.insns, self.found_insns)):
            for row in table.values():
                for kernel in found:
                    row.pop(kernel, None)
            for kernel, values in found.items():
                for row, value in values.items():
                    table.setdefault(row, {})[kernel] = str(value)
            data.write_table(name, table, data.kernels())
        page.PAGE.write_text(page.current())
        self.report.say(f"written: vmtests/features, vmtests/insns, {page.PAGE.relative_to(page.ROOT)}; read them in the diff")

    def run(self, names):
        lock = cache.Lock(cache.folder(), self.report.say)
        start = time.monotonic()
        store = cache.Cache(cache.folder(), self.rows, self.report.say)
        qemu = self.qemu(store)
        roots = {}
        for name in names:
            root, what, why_not = store.get(name)
            if root:
                roots[name] = root
                self.report.say(f"{name}: {what}")
            else:
                optional = data.kernels()[name]["need"] == "optional"
                self.report.add([(SKIPPED, f"{name}: the kernel", why_not) if optional else (BAD, f"{name}: the kernel", [f"it cannot be had: {why_not}"])])
        self.report.say(f"kernels are there after {time.monotonic() - start:.0f} s")
        boots = self.boots(list(roots))
        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            waiting = [pool.submit(self.column, k, v, plan, roots[k], qemu) for k, v, plan in boots]
            waiting += [pool.submit(self.upgrade, row, roots, qemu) for row in (data.read("upgrades") if self.options.all else ())]
            try:
                for done in waiting:
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                guest.Guest.end_all()
                raise
        if self.options.update:
            self.update()
        elif self.options.all:
            same = page.PAGE.exists() and page.PAGE.read_text() == page.current()
            self.report.add([(GOOD if same else BAD, "docs/KERNELS.md is what vmtests/features says", [] if same else ["vmtests/run --page writes it anew"])])
        lock.release()
        self.report.say(f"done in {time.monotonic() - start:.0f} s")

    def qemu(self, store):
        root, what, why_not = store.get("qemu")
        self.report.say(f"qemu: {what}" if root else f"qemu: {why_not}; the machine's own does, at half the speed")
        return root

    def shell(self, name):
        lock = cache.Lock(cache.folder(), self.report.say)
        store = cache.Cache(cache.folder(), self.rows, self.report.say)
        root, what, why_not = store.get(name)
        if not root:
            raise data.Error(f"kernel {name} cannot be had: {why_not}")
        variant = self.variants[self.options.variant[0] if self.options.variant else "plain"]
        self.report.say(f"{name}: {what}; root shell in a guest, this machine's files under it can be changed for the guest alone; `exit` ends it")
        with guest.Guest(name, root, self.qemu(store), self.splats) as made:
            outcome = made.run([], variant["append"], self.sysctl(variant), shell=True)
        lock.release()
        if outcome.why:
            self.report.say("\n".join([outcome.why, *judge.tail(outcome.console)]))
        return 1 if outcome.why else 0


def listing():
    for row in data.read("kernels"):
        print(f"{row['name']:8} {row['need']:8} {row['suite']:18} {row['packages'].replace('@', row['version'])}")
    print()
    for row in data.read("tests"):
        print(f"{row['test']:26} kernels {row['kernels']:10} variants {row['variants']}")
    for row in data.read("skips"):
        print(f"\nskipped on {row['kernel']} {row['variant']}: {row['test']}: {row['reason']}; until: {row['until']}")


def arguments(argv):
    parser = argparse.ArgumentParser(prog="vmtests/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kernel", metavar="K", help="one kernel, by its name in vmtests/kernels")
    what.add_argument("--all", action="store_true", help="the whole matrix")
    what.add_argument("--page", action="store_true", help="only write docs/KERNELS.md anew from vmtests/features; boots nothing")
    what.add_argument("--list", action="store_true", help="show kernels, tests and skips")
    parser.add_argument("--shell", action="store_true", help="with --kernel: a root shell in the guest instead of tests")
    parser.add_argument("--variant", action="append", metavar="V", help="only this variant; may be repeated (default: all, or plain for named tests)")
    parser.add_argument("--sysctl", action="append", default=[], metavar="KEY=VALUE", help="set in the guest before the tests; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="guests at a time (default: %(default)s)")
    parser.add_argument("--update", action="store_true", help="with --all: renew vmtests/features, vmtests/insns and docs/KERNELS.md")
    parser.add_argument("--logs", type=pathlib.Path, metavar="DIR", help="keep consoles and the output of tests there")
    parser.add_argument("tests", nargs="*", metavar="-- TEST", help="tests by name (scripts/test --list), also ones that vmtests/skips leaves out")
    options = parser.parse_args(argv)
    if options.shell and (not options.kernel or options.tests):
        parser.error("--shell goes with --kernel, and with no test")
    if options.update and not options.all:
        parser.error("--update goes with --all: the page is about all kernels")
    if options.jobs < 1:
        parser.error("--jobs: at least 1")
    for word in options.sysctl:
        if "=" not in word:
            parser.error(f"--sysctl {word}: KEY=VALUE is wanted")
    if options.tests and not options.variant:
        options.variant = ["plain"]
    return options


def main(argv):
    options = arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("vmtests: interrupted"))
    try:
        data.check()
        if options.list:
            listing()
            return 0
        if options.page:
            page.PAGE.write_text(page.current())
            return 0
        names = list(data.kernels())
        if options.kernel:
            names = [data.kernel_named(options.kernel, names)]
        report = Report()
        matrix = Matrix(options, report)
        for word in options.variant or ():
            if word not in matrix.variants:
                raise data.Error(f"there is no variant '{word}': vmtests/variants has {', '.join(matrix.variants)}")
        reason = cache.can_run()
        if reason:
            print(f"1..0 # SKIP {reason}")
            return 0
        if options.shell:
            return matrix.shell(names[0])
        matrix.run(names)
        return report.end()
    except data.Error as error:
        print(f"vmtests: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vmtests: interrupted", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
