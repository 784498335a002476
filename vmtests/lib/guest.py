# SPDX-License-Identifier: Apache-2.0
"""One boot of a kernel in QEMU, and what is to be made of it.

The guest sees this machine's root file system through virtiofs, so it runs the very files that this machine runs. Translated code (TCG) is
chosen on purpose: what /dev/kvm promises inside virtual machines is often not enough for a stock kernel. WEFT_VMTESTS_ACCEL names
another for those who know theirs.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from cache import pack
from data import Error, matches

LIB = pathlib.Path(__file__).resolve().parent
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
# From power-on to the first test: five seconds where nothing else runs.
BOOT_SECONDS = 90
# What the guest needs to stop a test that ran into its own time-out, or to power off.
SLACK_SECONDS = 30
MEMORY = "1536M"
KEPT = "/run/weft-vm/kept"
# Statistical tests make so much of their connections in a guest.
SAMPLE = "0.1"

# Console lines that mean that the kernel found a fault in itself, whatever the tests say.
FAULT = re.compile(
    r"\bWARNING: |\bBUG: |\bBUG at |\bOops\b|Kernel panic|general protection fault|double fault|unable to handle|"
    r"soft lockup|hard LOCKUP|\bblocked for more than \d+ seconds|rcu.*(?:detected stalls?|self-detected stall|starved)|UBSAN: |KASAN: |KCSAN: |"
    r"possible (?:circular|recursive) locking|inconsistent lock state|suspicious RCU usage|verifier bug|REG INVARIANTS VIOLATION|"
    r"bpf_verifier|scheduling while atomic|refcount_t: |list_(?:add|del) corruption|Out of memory: |weft-vm: ")


def faults(console, kernel, splats):
    """[(line, reason or None)]: faulty lines of a console, with the reason why a known one does not count."""
    found = []
    for line in console.splitlines():
        if FAULT.search(line):
            known = next((s["reason"] for s in splats if matches(s["kernel"], kernel) and re.search(s["pattern"], line)), None)
            found.append((line.strip(), known))
    return found


class Outcome:
    """What a guest said on its channel, and how it ended."""

    def __init__(self):
        self.release, self.boot, self.tests, self.running = None, None, {}, None
        self.done, self.why, self.unfit, self.console, self.seconds = False, None, None, "", 0.0
        self.faults, self.known = [], []  # lines of the console, those of `known` with the reason why they do not count

    @property
    def started(self):
        return self.release is not None

    def hear(self, event, now):
        if event["event"] == "start":
            self.release, self.boot = event["release"], now
        elif event["event"] == "begin":
            self.running = event["test"]
        elif event["event"] == "end":
            self.tests[event["test"]] = (event["code"], event["seconds"])
            self.running = None
        elif event["event"] == "unfit":
            self.unfit = event["text"]
        elif event["event"] == "broken":
            self.why = f"the guest's runner broke: {event['text'].strip().splitlines()[-1]}"
        elif event["event"] == "done":
            self.done = True

    def where(self):
        return f"while it ran {self.running}" if self.running else "after its last test" if self.tests else "before its first test"


def read_console(outcome, console, kernel, splats):
    """A kernel that found a fault in itself makes its run bad, whatever the tests said."""
    found = faults(console, kernel, splats)
    outcome.known = [(line, reason) for line, reason in found if reason]
    outcome.faults = [line for line, reason in found if not reason]
    if outcome.faults:
        outcome.why = f"{f'{outcome.why}; ' if outcome.why else ''}the kernel found a fault in itself:"


class Channel:
    """The guest's events, as they come."""

    def __init__(self, file):
        self.file, self.at = file, 0

    def read(self):
        with contextlib.suppress(FileNotFoundError), open(self.file, "rb") as text:
            text.seek(self.at)
            data = text.read()
            # A line that is still being written is read the next time.
            data = data[:data.rfind(b"\n") + 1]
            self.at += len(data)
            return [self.event(line) for line in data.splitlines()]
        return []

    @staticmethod
    def event(line):
        try:
            return json.loads(line)
        except ValueError:
            return {"event": "broken", "text": f"{line[:80]!r} is no event"}


def watch(process, share, seconds, quiet=False):
    """Waits for a guest, no longer than each of its steps may take: {test: seconds}. The process is over afterwards."""
    outcome, channel, start = Outcome(), Channel(share / "events"), time.monotonic()
    deadline = start + BOOT_SECONDS
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
        now = time.monotonic()
        for event in channel.read():
            outcome.hear(event, now - start)
            deadline = now + SLACK_SECONDS + (seconds[outcome.running] if outcome.running else 0)
        if process.returncode is not None:
            for event in channel.read():
                outcome.hear(event, time.monotonic() - start)
            if process.returncode < 0:
                outcome.why = f"the guest was killed from outside ({signal.Signals(-process.returncode).name}) {outcome.where()}"
            elif not outcome.done and not outcome.why:
                outcome.why = f"the guest died {outcome.where()}"
            break
        if now > deadline and not quiet:
            process.kill()
            process.wait()
            outcome.why = f"the guest said nothing for {now - start - (outcome.boot or 0):.0f} s {outcome.where()}" if outcome.started else \
                f"the guest did not start within {BOOT_SECONDS} s"
            break
    outcome.seconds = time.monotonic() - start
    return outcome


class Guest:
    """Boots once; leaves no process and no folder behind. What a killed run left of its folder goes when the next one begins."""

    running, ended = set(), False

    def __init__(self, kernel, root, qemu, splats=()):
        """`root` is an unpacked kernel, `qemu` an unpacked QEMU or None for the machine's."""
        self.kernel, self.root, self.qemu, self.splats = kernel, root, qemu, splats
        if Guest.ended:
            raise Error("interrupted")
        for left in pathlib.Path(tempfile.gettempdir()).glob("weft-vm-[0-9]*-*"):
            if not os.path.exists(f"/proc/{left.name.split('-')[2]}"):
                shutil.rmtree(left, ignore_errors=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"weft-vm-{os.getpid()}-"))
        self.share = self.folder / "share"
        self.processes = []
        Guest.running.add(self)

    @classmethod
    def end_all(cls):
        """From another thread: every guest dies, and none is born any more."""
        cls.ended = True
        for made in list(cls.running):
            for process in made.processes:
                process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        Guest.running.discard(self)
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self, test):
        file = self.share / f"{test}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def run(self, tests, append="", sysctl=None, proof="", kept=None, shell=False):
        """Runs tests [{name, argv, env, seconds}] in one boot: the outcome. What is in the folder `kept` is there in the guest, as
        KEPT, and what the guest leaves there comes back."""
        self.share.mkdir()
        if kept:
            kept.rename(self.share / "kept")  # a copy would belong to root
        shutil.copy(LIB / "inside.py", self.share)
        (self.share / "plan").write_text(json.dumps({"tests": tests, "sysctl": sysctl or {}, "proof": proof, "shell": shell}))
        with open(self.folder / "qemu.log", "w", encoding="utf-8") as log:
            self._serve("hostroot", "/", "always", log)
            self._serve("modules", (self.root / "modules").resolve(), "always", log)
            self._serve("share", self.share, "auto", log)
            process = self._start(self._qemu(append, shell), stdin=None if shell else subprocess.DEVNULL, stdout=None if shell else log, stderr=log)
            outcome = watch(process, self.share, {t["name"]: t["seconds"] for t in tests}, quiet=shell)
        if kept:
            (self.share / "kept").rename(kept)
        console = self.folder / "console"
        outcome.console = console.read_text(errors="replace") if console.exists() else ""
        if not outcome.console and not outcome.started:
            outcome.console = (self.folder / "qemu.log").read_text(errors="replace")
        read_console(outcome, outcome.console, self.kernel, self.splats)
        return outcome

    def _serve(self, tag, source, cache, log):
        """A virtiofsd ends with the connection that it serves; those that never get one are killed in the end."""
        socket = self.folder / f"{tag}.sock"
        daemon = self._start([VIRTIOFSD, f"--socket-path={socket}", "-o", f"source={source}", "-o", "sandbox=chroot", "-o", f"cache={cache}"],
                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 10
        while not socket.exists():
            if daemon.poll() is not None or time.monotonic() > end:
                raise Error(f"virtiofsd does not serve {source}: {(self.folder / 'qemu.log').read_text(errors='replace').strip() or 'no word'}")
            time.sleep(0.01)

    def _start(self, argv, **options):
        """A process that does not outlive this one, whatever ends it."""
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *argv], **options)
        self.processes.append(process)
        return process

    def _qemu(self, append, shell):
        accel = os.environ.get("WEFT_VMTESTS_ACCEL", "tcg")
        if accel == "tcg":
            # Debian 12's own QEMU loses track of patched kernel text with a thread a processor.
            accel = f"tcg,thread={'multi' if self.qemu else 'single'}"
        program, firmware = ["qemu-system-x86_64"], []
        if self.qemu:
            program = [self.qemu / "usr/bin/qemu-system-x86_64"]
            firmware = ["-L", self.qemu / "usr/share/qemu"]
        firmware += ["-L", "/usr/share/seabios", "-L", "/usr/share/qemu"]
        shares = []
        for tag in ("hostroot", "modules", "share"):
            shares += ["-chardev", f"socket,id={tag},path={self.folder / tag}.sock", "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
        tree = self.folder / "initramfs.d"
        tree.mkdir()
        shutil.copy(LIB / "init", tree / "init")
        (tree / "init").chmod(0o755)
        initramfs = self.folder / "initramfs"
        initramfs.write_bytes((self.root / "initramfs").read_bytes() + pack(tree))
        # Nehalem: without ERMS and FSRM, the translated copies of which are slow. loglevel=5 lets warnings out to the console.
        words = ["console=ttyS0", "panic=-1", "oops=panic", "loglevel=5", "mitigations=off", append]
        argv = [*program, "-accel", accel, "-cpu", "host" if accel == "kvm" else "Nehalem", "-smp", "2", "-m", MEMORY,
                "-object", f"memory-backend-memfd,id=mem,size={MEMORY},share=on", "-M", "q35,memory-backend=mem", *shares,
                "-device", "virtio-rng-pci", "-display", "none", "-nodefaults", "-no-reboot", *firmware,
                "-serial", f"file:{self.folder / 'console'}", "-serial", "stdio" if shell else f"file:{self.folder / 'second'}",
                "-kernel", self.root / "vmlinuz", "-initrd", initramfs, "-append", " ".join(filter(None, words))]
        return [str(a) for a in argv]


def plan_of(build, names, rows):
    """[{name, argv, env, seconds}] of tests as meson runs them on this machine; `rows` is vmtests/tests."""
    file = build / "meson-info/intro-tests.json"
    if not file.exists():
        raise Error(f"{build} is no build folder of meson: run scripts/build, or let WEFT_BUILD name one")
    known, rows = {t["name"]: t for t in json.loads(file.read_text())}, {row["test"]: row for row in rows}
    plan = []
    for name in names:
        if name not in known:
            raise Error(f"there is no test '{name}' in {build}: scripts/test --list shows them")
        test, row = known[name], rows.get(name)
        cases = row["cases"].split(",") if row and row["cases"] != "*" else []
        # Ten times the host's time-out, for what vmtests/tests does not name.
        plan.append({"name": name, "argv": [*test["cmd"], *cases], "seconds": int(row["seconds"]) if row else 10 * test["timeout"],
                     "env": {**test["env"], "WEFT_SAMPLE": SAMPLE, "PYTHONDONTWRITEBYTECODE": ""}})
    return plan
