#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds and tests this checkout on the libraries and compilers of another Debian, on this machine's kernel.

That Debian is a folder, made once by debootstrap from the mirror that this machine's apt uses, with the packages of scripts/packages;
builds are kept beside it. Tests see the checkout read-only, write to memory, and have mounts, processes and cgroups of their own, which
end with them, also when this script is killed. The last line of the output is the result."""

import argparse
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "vmtests/lib"))

from cache import mirrors
from data import Error

INSIDE = ROOT / "scripts/lib/inside_debian"
# What Debian calls its releases, for those that have what meson.build asks for.
RELEASES = {"12": "bookworm", "13": "trixie"}
SECTIONS = ["build", "run", "test"]
# Lint is about the files and the same everywhere. Of the tests on real sockets it takes one through every process of the secure lane.
USUAL = ["unit", "conf", "cli", "bpf", "fuzz", "netns.secure_mtls"]
# What the result depends on: said before it.
SHOWN = ["gcc", "clang", "libbpf-dev", "libssl-dev", "libnghttp2-dev"]


def folder():
    """$WEFT_DEBIAN_CACHE, or weft-debian in $XDG_CACHE_HOME or /var/cache."""
    if "WEFT_DEBIAN_CACHE" in os.environ:
        return pathlib.Path(os.environ["WEFT_DEBIAN_CACHE"]).absolute()
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "weft-debian"


def packages():
    """Names of the packages of our sections."""
    names, section = [], None
    for line in (ROOT / "scripts/packages").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif section in SECTIONS and re.match("[a-z0-9]", line):
            names.append(line.split()[0])
    return names


def hold(base, release):
    """One run at a time uses a release; a second waits. Held until this process ends, however it does."""
    base.mkdir(parents=True, exist_ok=True)
    lock = open(base / f"{release}.lock", "a", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting: Debian {release} in {base} is in use by another run", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def contained(*argv):
    """A command line with namespaces of its own for mounts and processes; it dies with us, and with it all that it started."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--kill-child", "--", *(str(a) for a in argv)]


def logged(argv, log, what):
    """A command that has to succeed; its last complaint is the reason, all it said is in a file."""
    with open(log, "a", encoding="utf-8") as out:
        code = subprocess.run(contained(*argv), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False, start_new_session=True,
                              env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}).returncode
    if code:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        why = next((line for line in reversed(said) if line.startswith("E: ")), said[-1] if said else f"exit {code}")
        raise Error(f"{what}: {why.removeprefix('E: ')}; whole log in {log}")


def make(partial, release, wanted, log):
    """Fetches what there is not yet of a release, and the packages."""
    if not partial.exists():
        plain, security = mirrors()
        if not plain:
            raise Error("this machine's apt knows no mirror of Debian; name one in /etc/apt/sources.list and run apt-get update")
        name = RELEASES[release]
        print(f"fetching Debian {release} ({name})", flush=True)
        logged(["debootstrap", "--variant=minbase", name, partial, plain], log, f"no Debian {release} can be had from {plain}")
        lines = [f"deb {plain} {name} main\n"] + ([f"deb {security} {name}-security main\n"] if security else [])
        (partial / "etc/apt/sources.list").write_text("".join(lines))
        # Packages that bring a daemon would start it.
        (partial / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (partial / "usr/sbin/policy-rc.d").chmod(0o755)
    print(f"installing {len(wanted)} packages and what they need", flush=True)
    shutil.copyfile("/etc/resolv.conf", partial / "etc/resolv.conf")
    for words in (["update", "--error-on=any"], ["dist-upgrade"], ["install", *wanted]):
        logged(["sh", "-c", 'mount -t proc proc "$0/proc" && exec chroot "$0" apt-get -q -y --no-install-recommends "$@"', partial, *words], log,
               f"apt-get {words[0]} for Debian {release}")
    shutil.rmtree(partial / "var/cache/apt/archives")
    (partial / "etc/weft-packages").write_text("\n".join(wanted) + "\n")


def prepare(base, release):
    """The release's tree with every package of ours. It has its name only while it is whole."""
    tree, partial, log, wanted = base / release, base / f".partial-{release}", base / f"{release}.log", packages()
    shutil.rmtree(partial, ignore_errors=True)
    have = tree / "etc/weft-packages"
    if have.exists() and set(wanted) <= set(have.read_text().split()):
        return tree
    log.unlink(missing_ok=True)
    if tree.exists():
        tree.rename(partial)
    try:
        make(partial, release, wanted, log)
        partial.rename(tree)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return tree


def versions(tree):
    """What was built with, in a line."""
    out = subprocess.run(["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n", *SHOWN],
                         capture_output=True, text=True, check=False).stdout
    return ", ".join(out.splitlines())


def cgroup2():
    """Where this machine has its cgroup2."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return pathlib.Path(line.split()[1])
    raise Error("no cgroup2 is mounted; mount -t cgroup2 cgroup2 /sys/fs/cgroup")


def remove_cgroups(top):
    """Of this run, or of one that was killed: whoever is in them is dying."""
    events, end = top / "cgroup.events", time.monotonic() + 30
    while events.exists() and "populated 1" in events.read_text():
        if time.monotonic() > end:
            raise Error(f"{top} has processes in it; end them and run again")
        time.sleep(0.01)
    for path, _folders, _files in os.walk(top, topdown=False):
        os.rmdir(path)


def main():
    parser = argparse.ArgumentParser(prog="scripts/on-debian", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage="scripts/on-debian [--again] RELEASE [what scripts/test takes ...]",
                                     epilog="The folder is $WEFT_DEBIAN_CACHE, or weft-debian in $XDG_CACHE_HOME or /var/cache: two gigabytes a release.")
    parser.add_argument("--again", action="store_true", help="fetch the release anew, with what has been updated since")
    parser.add_argument("release", metavar="RELEASE", choices=list(RELEASES), help="of Debian: " + ", ".join(RELEASES))
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...",
                        help="suites, names of tests and options of scripts/test; default: --no-sanitizers " + " ".join(USUAL))
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise Error("needs root, as the tests do")

    base = folder()
    lock = hold(base, options.release)
    everything = base / f"{options.release}-builds"
    if options.again:
        for old in (base / options.release, everything):
            shutil.rmtree(old, ignore_errors=True)
    tree = prepare(base, options.release)
    # A build is of one checkout: files of another may be older than what was made of this one's.
    builds = everything / str(ROOT).strip("/").replace("/", "-")
    top = base / "top"
    for path in (builds, top):
        path.mkdir(parents=True, exist_ok=True)
    print(f"Debian {options.release}: {versions(tree)}", flush=True)

    cgroup = cgroup2() / f"weft-on-debian-{hashlib.sha256(str(tree).encode()).hexdigest()[:6]}"
    remove_cgroups(cgroup)
    cgroup.mkdir()
    argv = contained(INSIDE, tree, top, ROOT, builds, cgroup, *(options.rest or ["--no-sanitizers", *USUAL]))
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return 1 if process.wait() else 0
    finally:
        process.kill()
        process.wait()
        remove_cgroups(cgroup)
        lock.close()


def interrupted(signum, _frame):
    sys.exit(128 + signum)


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, interrupted)
try:
    sys.exit(main())
except (Error, OSError) as error:
    print(f"scripts/on-debian: {error}", file=sys.stderr)
    sys.exit(1)
