#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The kernel matrix's own logic, without a guest: what is red has to be red, what is not has to pass.

Guests are stood in for by shells that write to the same channel, apt by scripts of its name.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "vmtests/lib"))

import cache
import data
import guest
import judge
import main as matrix
import page
from judge import BAD, GOOD, NOTE, SKIPPED

KERNELS = "6.1  required  bookworm-security  6\\.1\\.0-\\d+  linux-image-@\n7  optional  trixie-backports  7\\.\\d+  linux-a-@ linux-b-@\n"


def equal(got, wanted):
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


def contains(text, part):
    assert part in text, f"wanted {part!r} in {text!r}"


@contextlib.contextmanager
def refused(part):
    """The block raises data.Error, a sentence with this part."""
    try:
        yield
    except data.Error as error:
        contains(str(error), part)
        assert "\n" not in str(error), f"one sentence is wanted, not {error}"
        return
    raise AssertionError(f"nothing was refused, wanted: {part}")


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="weft-vm-test-") as path:
        yield pathlib.Path(path)


# ---- data files ----


@contextlib.contextmanager
def files(**texts):
    """A folder of data files: empty ones but for these."""
    with folder() as path:
        for name in data.SHAPES:
            (path / name).write_text("")
        (path / "kernels").write_text(KERNELS)
        (path / "variants").write_text("plain - - -\n")
        for name, text in texts.items():
            (path / name).write_text(text)
        yield path


def test_rows_are_read():
    with files(skips="# why\n\n6.1  *  netns.a  it is slow; until: it is fast\n", splats="* /BUG: .* harmless/ upstream says so\n") as path:
        equal(data.read("skips", path), [{"kernel": "6.1", "variant": "*", "test": "netns.a", "reason": "it is slow", "until": "it is fast"}])
        equal(data.read("splats", path), [{"kernel": "*", "pattern": "BUG: .* harmless", "reason": "upstream says so"}])
        equal(list(data.kernels(path)), ["6.1", "7"])


def test_rows_of_another_shape_are_named():
    for name, row in (("skips", "6.1 * netns.a without an end"), ("kernels", "6.1 perhaps bookworm 6 linux"), ("tests", "netns.a soon * * *"),
                      ("features", "btf 6.1=maybe"), ("splats", "6.1 BUG why"), ("variants", "plain -"), ("insns", "weft_a 6.1=many")):
        with files(**{name: f"# comment\n{row}\n"}) as path, refused(f"{path.name}/{name}:2: '{row}'"):
            data.read(name, path)
    with files(splats="6.1 /BUG (/ why\n") as path, refused("no regular expression"):
        data.read("splats", path)


def test_files_agree():
    good = {"tests": "netns.a 10 * plain *\n", "skips": "7 * netns.a slow; until: fast\n", "features": "btf 6.1=native 7=fallback\n"}
    with files(**good) as path:
        data.check(path)
    for name, row, part in (("skips", "7 * netns.b slow; until: fast\n", "no test 'netns.b'"), ("tests", "netns.a 10 8 plain *\n", "no kernel '8'"),
                            ("tests", "netns.a 10 7 odd *\n", "no variant 'odd'"), ("features", "btf 5=native\n", "no kernel '5'"),
                            ("splats", "5 /BUG/ why\n", "no kernel '5'")):
        with files(**{**good, name: row}) as path, refused(part):
            data.check(path)


def test_the_projects_files_agree():
    data.check()
    equal(page.PAGE.read_text(), page.current())
    known = {test["name"] for test in json.loads((matrix.BUILD / "meson-info/intro-tests.json").read_text())}
    equal([row["test"] for row in data.read("tests") if row["test"] not in known], [])
    for row in data.read("tests"):
        suite, _, name = row["test"].partition(".")
        text = (ROOT / f"tests/{suite}/{name}.py").read_text() if suite == "netns" else ""
        for case in row["cases"].split(",") if row["cases"] != "*" else ():
            contains(text + (ROOT / "tests/netns/terminating.py").read_text() * name.startswith("terminating"), f"def test_{case}(")


def test_unknown_kernel_gets_the_nearest():
    equal(data.kernel_named("6.12", ["6.1", "6.12"]), "6.12")
    with refused("'612': did you mean 6.12?"):
        data.kernel_named("612", ["5.10", "6.1", "6.12", "7"])


def test_skips_match():
    rows = [{"kernel": "5.10", "variant": "*", "test": "*", "reason": "old", "until": "new"},
            {"kernel": "*", "variant": "lockdown", "test": "netns.a", "reason": "shut", "until": "open"}]
    equal(data.skip_of(rows, "5.10", "plain", "netns.b"), "old; until: new")
    equal(data.skip_of(rows, "6.1", "lockdown", "netns.a"), "shut; until: open")
    equal(data.skip_of(rows, "6.1", "plain", "netns.a"), None)
    equal(data.skip_of(rows, "6.1", "lockdown", "netns.b"), None)


def test_tables_are_written_as_read():
    with files(insns="# what it is\nweft_a  6.1=1\n") as path:
        data.write_table("insns", {"weft_a": {"7": "3", "6.1": "2"}, "weft_long": {"7": "5"}}, ["6.1", "7"], path)
        equal((path / "insns").read_text(), "# what it is\nweft_a     6.1=2  7=3\nweft_long  7=5\n")
        equal(data.table("insns", path), {"weft_a": {"6.1": "2", "7": "3"}, "weft_long": {"7": "5"}})


def test_page():
    source = 'WEFT_FEATURE(A, "one", FLOOR, "does it", "nothing: buy one")\nWEFT_FEATURE(B, "two", OPTIONAL, "does more", "does less")\n'
    text = page.render({"one": {"6.1": "native", "7": "absent"}, "two": {"6.1": "fallback"}}, {"6.1": {}, "7": {}}, [], source)
    contains(text, "| `one`: does it | native | absent (1) |")
    contains(text, "| `two`: does more | fallback (2) | not known |")
    contains(text, "1. `one`: nothing: buy one\n2. `two`: does less\n")
    assert "Not run" not in text
    rows = [{"kernel": "7", "variant": "*", "test": "*", "reason": "new", "until": "old"}]
    contains(page.render({}, {"7": {}}, rows, source), "- 7: all tests: new; until: old.")


# ---- what is a fault ----

QUIET = "[    0.86] mtrr: your CPUs had inconsistent fixed MTRR settings\n[   64.5] reboot: Power down\n"
SPLATS = """WARNING: CPU: 0 PID: 1 at net/core/sock_map.c:1 sock_map_close+0x1/0x2
BUG: kernel NULL pointer dereference, address: 0000000000000000
Oops: 0000 [#1] SMP
Kernel panic - not syncing: Fatal exception
general protection fault, probably for non-canonical address
watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [python3:77]
watchdog: Watchdog detected hard LOCKUP on cpu 0
rcu: INFO: rcu_preempt self-detected stall on CPU
rcu: INFO: rcu_sched detected stalls on CPUs/tasks
INFO: task weftd:123 blocked for more than 120 seconds.
UBSAN: array-index-out-of-bounds in kernel/bpf/verifier.c
verifier bug: REG INVARIANTS VIOLATION (true_reg1): range bounds violation
Out of memory: Killed process 77 (weftd)
weft-vm: cannot mount the overlay"""


def test_splats_are_seen():
    equal(guest.faults(QUIET, "6.1", []), [])
    for line in SPLATS.splitlines():
        equal(guest.faults(f"{QUIET}[    5.1] {line}\n", "6.1", []), [(f"[    5.1] {line}", None)])


def test_known_splats_are_of_their_kernel():
    rows = [{"kernel": "6.1", "pattern": "WARNING: .*sock_map_close", "reason": "known upstream"}]
    line = SPLATS.splitlines()[0]
    equal(guest.faults(line, "6.1", rows), [(line, "known upstream")])
    equal(guest.faults(line, "7", rows), [(line, None)])
    equal(guest.faults(line.replace("sock_map_close", "tcp_close"), "6.1", rows)[0][1], None)


# ---- guests ----

START = '{"event":"start","release":"6.1.0-9"}'
PLAN = [{"name": "netns.a", "seconds": 5}, {"name": "netns.b", "seconds": 5}]


def event(**words):
    return json.dumps(words)


def run(script, *events, **limits):
    """Watches a shell as if it were a guest: it has `events` said, then runs `script`."""
    kept = guest.BOOT_SECONDS, guest.SLACK_SECONDS
    guest.BOOT_SECONDS, guest.SLACK_SECONDS = limits.get("boot", 20), limits.get("slack", 20)
    try:
        with folder() as share:
            lines = "".join(f"echo '{e}' >>{share}/events\n" for e in events)
            with subprocess.Popen(["sh", "-c", lines + script]) as process:
                return guest.watch(process, share, {t["name"]: limits.get("seconds", 0) for t in PLAN})
    finally:
        guest.BOOT_SECONDS, guest.SLACK_SECONDS = kept


def ends(name, code=0):
    return [event(event="begin", test=name), event(event="end", test=name, code=code, seconds=1.5)]


def judged(outcome, logs=None):
    return judge.outcome_lines("6.1", PLAN, outcome, logs or {})


def reds(lines):
    return {title.removeprefix("6.1: "): more for kind, title, more in lines if kind == BAD}


def test_a_good_guest_is_green():
    outcome = run("exit 0", START, *ends("netns.a"), *ends("netns.b"), event(event="done"))
    lines = judged(outcome, {"netns.a": "1..1\nok 1 - x\n", "netns.b": "1..2\nok 1 - y\nok 2 - z # SKIP no MPTCP\n"})
    equal(reds(lines), {})
    equal([(k, t) for k, t, _m in lines if k == SKIPPED], [(SKIPPED, "6.1: netns.b: z")])
    contains(lines[-1][1], "boot 0.")
    contains(lines[-1][1], "netns.a 1.5, netns.b 1.5")


def test_exit_codes_travel():
    outcome = run("exit 0", START, *ends("netns.a", 1), *ends("netns.b", None), event(event="done"))
    red = reds(judged(outcome, {"netns.a": "1..2\nok 1 - x\nnot ok 2 - y\n# why\n"}))
    equal(sorted(red), ["netns.a", "netns.b"])
    contains("\n".join(red["netns.a"]), "# why")
    contains(red["netns.b"][0], "did not end")


def test_a_crash_after_good_lines_is_red():
    outcome = run("exit 0", START, *ends("netns.a", 1), *ends("netns.b"), event(event="done"))
    equal(sorted(reds(judged(outcome, {"netns.a": "1..1\nok 1 - x\n", "netns.b": "1..3\nok 1 - x\n"}))), ["netns.a", "netns.b"])


def test_silence_is_red():
    """A guest whose tests passed, and who did not say that it was done."""
    red = reds(judged(run("exit 0", START, *ends("netns.a"), *ends("netns.b"))))
    contains(red["the kernel"][0], "the guest died after its last test")
    red = reds(judged(run("exit 0")))
    equal(sorted(red), ["netns.a", "netns.b", "the kernel"])
    contains(red["the kernel"][0], "the guest died before its first test")


def test_a_panic_names_the_test():
    outcome = run("exit 0", START, event(event="begin", test="netns.a"))
    outcome.console = QUIET + SPLATS
    red = reds(judged(outcome))
    contains(red["the kernel"][0], "the guest died while it ran netns.a")
    contains("\n".join(red["the kernel"]), "Kernel panic")
    equal((red["netns.a"][0], red["netns.b"][0]), ("it was running", "it did not run"))


def test_killed_from_outside_is_named():
    contains(run("kill -KILL $$", START, event(event="begin", test="netns.a")).why, "killed from outside (SIGKILL) while it ran netns.a")
    equal(run("kill -KILL $$").started, False)


def test_hangs_end():
    start = time.monotonic()
    contains(run("exec sleep 60", boot=0.3).why, "did not start within 0.3 s")
    contains(run("exec sleep 60", START, event(event="begin", test="netns.a"), slack=0.3).why, "said nothing for")
    assert time.monotonic() - start < 20, "a hanging guest was waited for"
    # Not a hang: the test may take that long.
    outcome = run("sleep 1", START, event(event="begin", test="netns.a"), slack=0.3, seconds=10)
    contains(outcome.why, "the guest died")


def test_a_splat_is_red_though_tests_passed():
    """What Guest.run() does with a console, on a guest that is a shell."""
    outcome = run("exit 0", START, *ends("netns.a"), *ends("netns.b"), event(event="done"))
    guest.read_console(outcome, QUIET + SPLATS, "6.1", [{"kernel": "*", "pattern": "sock_map_close", "reason": "known upstream"}])
    lines = judged(outcome)
    contains("\n".join(reds(lines)["the kernel"]), "soft lockup")
    contains([t for k, t, _m in lines if k == NOTE][0], "known upstream")


def test_a_broken_runner_is_red():
    contains(reds(judged(run("exit 0", START, event(event="broken", text="Traceback OSError: no"))))["the kernel"][0], "OSError: no")


def test_an_unfit_kernel_is_a_named_skip():
    lines = judged(run("exit 0", START, event(event="unfit", text="no lockdown"), event(event="done")))
    equal([(k, m) for k, _t, m in lines], [(SKIPPED, "no lockdown"), (SKIPPED, "no lockdown"), (GOOD, [])])


def test_a_garbled_channel_is_red():
    contains(reds(judged(run("exit 0", START, "{\"event\":")))["the kernel"][0], "is no event")


def test_half_an_event_waits():
    with folder() as share:
        channel = guest.Channel(share / "events")
        equal(channel.read(), [])
        (share / "events").write_text('{"event":"start"}\n{"event":"be')
        equal(channel.read(), [{"event": "start"}])
        with open(share / "events", "a", encoding="utf-8") as more:
            more.write('gin"}\n')
        equal(channel.read(), [{"event": "begin"}])


def test_an_upgrade_that_began_anew_is_seen():
    assert judge.mentions("1..1\n# state of Linux 6.1.0-9 on Linux 7.3.4\nok 1 - x\n", "6.1.0-9")
    assert not judge.mentions("1..1\nok 1 - x\n", "6.1.0-9")
    with files(upgrades="6.1 8 netns.reboot KEPT\n") as path, refused("no kernel '8'"):
        data.check(path)


def test_an_interrupted_run_leaves_nothing():
    with guest.Guest("6.1", ROOT, None) as made:
        process = made._start(["sleep", "60"])
        guest.Guest.end_all()
        equal(process.wait(10), -9)
        try:
            with refused("interrupted"):
                guest.Guest("6.1", ROOT, None)
        finally:
            guest.Guest.ended = False


def test_guests_leave_nothing():
    left = pathlib.Path(tempfile.gettempdir()) / "weft-vm-999999999-killed"
    left.mkdir(exist_ok=True)
    with guest.Guest("6.1", ROOT, None) as made:
        made.processes.append(subprocess.Popen(["sleep", "60"]))
        kept = made.folder
        assert not left.exists(), "the folder of a run that was killed is still there"
    equal((kept.exists(), made.processes[0].returncode), (False, -9))


# ---- what a kernel says of itself ----


def test_features_are_compared():
    found = judge.features_of("1..1\n# feature btf there floor\n# feature retval missing optional\n# feature atomics missing floor\nok 1 - x\n")
    equal(found, {"btf": "native", "retval": "fallback", "atomics": "absent"})
    table = {"btf": {"6.1": "native"}, "retval": {"6.1": "fallback", "7": "native"}, "atomics": {"6.1": "absent"}}
    equal([k for k, _t, _m in judge.feature_lines("6.1", found, table)], [GOOD])
    for wrong in ({**table, "retval": {"6.1": "native"}}, {**table, "gone": {"6.1": "native"}}, {"btf": {"6.1": "native"}}):
        equal([k for k, _t, _m in judge.feature_lines("6.1", found, wrong)], [BAD])


def test_instruction_counts_are_compared():
    log = "set=0\n  weft_a    100 verified,  50 translated\n  weft_b      0 verified, 9 translated\nset=1\n  weft_a    121 verified, 50 translated\n"
    found = judge.insns_of(log)
    equal(found, {"weft_a": 121})
    equal([k for k, _t, _m in judge.insns_lines("6.1", found, {"weft_a": {"6.1": "100"}})], [NOTE])
    for fine in ({"weft_a": {"6.1": "101"}}, {"weft_a": {"7": "1"}}, {}):
        equal(judge.insns_lines("6.1", found, fine), [])


# ---- the cache ----

APT = """#!/bin/sh
case "$* $0" in
*indextargets*) echo "http://other.invalid bookworm Other"; echo "http://mirror.invalid/debian bookworm Debian"
	echo "http://mirror.invalid/security bookworm-security Debian" ;;
*update*) {update} ;;
*pkgnames*) printf 'linux-image-6.1.0-9\\nlinux-image-6.1.0-43\\nlinux-a-7.3\\nlinux-a-7.2\\nlinux-b-7.2\\nother\\n' ;;
*madison*) for n; do case $n in
	linux-image-*) echo "$n | 6.1.1 | http://mirror.invalid bookworm-security/main amd64 Packages" ;;
	linux-[ab]-*) echo "$n | 7.1-1 | http://mirror.invalid trixie-backports/main amd64 Packages" ;;
	esac; done ;;
*download*) {download} ;;
*show*) echo "SHA256: {sum}" ;;
esac
"""


@contextlib.contextmanager
def archive(update="true", download="true", total="0"):
    """(cache folder, what was said) with an apt that does this."""
    with files() as texts, folder() as path:
        rows = data.read("kernels", texts)
        for name in ("apt-get", "apt-cache"):
            (path / name).write_text(APT.format(update=update, download=download, sum=total))
            (path / name).chmod(0o755)
        kept = os.environ["PATH"]
        os.environ["PATH"] = f"{path}:{kept}"
        try:
            (path / "cache").mkdir()
            yield path / "cache", rows
        finally:
            os.environ["PATH"] = kept


def test_newest_version_of_which_all_is_there():
    with archive() as (path, rows):
        store = cache.Archive(path / "apt", {row["suite"] for row in rows}, lambda text: None)
        equal(store.newest(rows[0]), [("linux-image-6.1.0-43", "6.1.1")])
        equal(store.newest(rows[1]), [("linux-a-7.2", "7.1-1"), ("linux-b-7.2", "7.1-1")])
        equal(store.newest({**rows[1], "version": "8\\.\\d+"}), None)
        contains(store.sources, "http://mirror.invalid/security bookworm-security main")
        contains(store.sources, "http://mirror.invalid/debian trixie-backports main")
        assert "mirror" not in "".join(f.read_text() for f in path.rglob("*") if f.is_file()), "the mirror's name was stored"


def test_a_kernel_that_is_gone():
    with archive() as (path, rows):
        store = cache.Cache(path, [{**rows[1], "version": "8\\.\\d+"}], lambda text: None)
        root, _what, why = store.get("7")
        equal(root, None)
        contains(why, "no suite has a package of it any more")


def test_no_network_uses_what_is_cached():
    said = []
    with archive(update="echo 'E: Failed to fetch' >&2; exit 100", download="echo 'E: no route' >&2; exit 100") as (path, rows):
        store = cache.Cache(path, rows, said.append)
        contains(said[0], "no package index: Failed to fetch; using the index (there is none)")
        equal(store.get("6.1"), (None, None, "cannot download linux-image-6.1.0-43: no route"))
        (path / "kept/6.1@6.1.0-8").mkdir()
        equal(store.get("6.1"), (path / "kept/6.1@6.1.0-8", "6.1.0-8", None))
        contains(said[-1], "6.1: cannot download linux-image-6.1.0-43: no route; using 6.1.0-8, which is cached")


def test_an_index_that_is_out_of_date_is_fetched_once_more():
    """The version that it names has left the archive; the new index is from an apt that counts."""
    with archive(update="echo x >>$(dirname $0)/updates", download="echo 'E: 404' >&2; exit 100") as (path, rows):
        (path / "apt").mkdir()
        (path / "apt/updated").touch()
        store = cache.Cache(path, rows, lambda text: None)
        equal((path.parent / "updates").exists(), False)
        for _ in range(2):
            equal(store.get("6.1")[2], "cannot download linux-image-6.1.0-43: 404")
        equal((path.parent / "updates").read_text(), "x\n")


def test_half_a_download_is_not_kept():
    with archive(download="printf half >linux-image-6.1.0-43_1.deb", total="0" * 64) as (path, rows):
        (path / "kept/.partial-old").mkdir(parents=True)
        store = cache.Cache(path, rows, lambda text: None)
        root, _what, why = store.get("6.1")
        equal(root, None)
        contains(why, "another sum than the index says")
        equal([p.name for p in (path / "kept").iterdir()], [])
    with folder() as path, refused("another sum"):
        (path / "a.deb").write_text("half")
        cache.verify(path / "a.deb", "a", "0" * 64)
    with folder() as path:
        (path / "a.deb").write_text("whole")
        cache.verify(path / "a.deb", "a", hashlib.sha256(b"whole").hexdigest())
    with refused("nothing was downloaded"):
        cache.verify(None, "a", "0")


def test_a_full_disk_is_one_sentence():
    with refused("cannot be stored: No space left on device; free some room"), cache.readable_errors("6.1: cannot be stored"):
        with open("/dev/full", "w", encoding="utf-8") as full:
            full.write("x")
    with archive(download="echo 'E: Write error - write (28: No space left on device)' >&2; exit 100") as (path, rows):
        contains(cache.Cache(path, rows, lambda text: None).get("6.1")[2], "No space left on device")


def test_a_second_run_waits_and_says_for_whom():
    said, order = [], []
    with folder() as path:
        first = cache.Lock(path, said.append)
        equal(said, [])

        def second():
            lock = cache.Lock(path, said.append)
            order.append("second")
            lock.release()

        thread = threading.Thread(target=second)
        thread.start()
        end = time.monotonic() + 10
        while not said and time.monotonic() < end:
            time.sleep(0.01)
        contains(said[0], f"is in use by process {os.getpid()}")
        order.append("first")
        first.release()
        thread.join(10)
        equal(order, ["first", "second"])


def test_mirrors_are_debians():
    with archive():
        equal(cache.mirrors(), ("http://mirror.invalid/debian", "http://mirror.invalid/security"))


# ---- the command line ----


def cli(*words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = matrix.main(list(words))
        except SystemExit as end:
            code = end.code
    return code, out.getvalue()


def test_wrong_words():
    for words, part in ((["--kernel", "6.13"], "did you mean 6.1"), (["--kernel", "6.1", "--variant", "odd"], "there is no variant 'odd'"), ([], "required"),
                        (["--shell", "--all"], "--shell goes with --kernel"), (["--kernel", "6.1", "--update"], "--update goes with --all"),
                        (["--all", "--jobs", "0"], "--jobs: at least 1"), (["--all", "--sysctl", "x"], "KEY=VALUE")):
        code, text = cli(*words)
        equal(code, 2)
        contains(text, part)


def test_list_and_help():
    code, text = cli("--list")
    equal(code, 0)
    contains(text, "netns.weights")
    code, text = cli("--help")
    equal(code, 0)
    contains(text, "--kernel")


def test_the_report_counts():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        report = matrix.Report()
        report.add([(GOOD, "a", []), (SKIPPED, "b", "why"), (BAD, "c", ["detail"]), (NOTE, "d", [])])
        equal(report.end(), 1)
    equal(out.getvalue(), "ok 1 - a\nok 2 - b # SKIP why\nnot ok 3 - c\n#   detail\n# d\n# 1 passed, 1 failed, 1 skipped\n1..3\n")
    with contextlib.redirect_stdout(io.StringIO()):
        equal(matrix.Report().end(), 1)  # nothing ran


def run_all():
    tests = [(name[5:], function) for name, function in globals().items() if name.startswith("test_")]
    print(f"1..{len(tests)}")
    failed = 0
    for number, (name, function) in enumerate(tests, 1):
        try:
            function()
            print(f"ok {number} - {name}")
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {number} - {name}")
            text = traceback.format_exc()
            print("\n".join(f"# {line}" for line in text.splitlines()), "\n#", error)
        sys.stdout.flush()
    return 1 if failed else 0


sys.exit(run_all())
