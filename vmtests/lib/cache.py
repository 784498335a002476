# SPDX-License-Identifier: Apache-2.0
"""Kernels and QEMU from Debian's archive, in a folder outside of the tree.

They come from the mirror that this machine's apt uses, by an apt set-up of our own: nothing of the machine's is touched, and no host name is
stored. What is in the cache is whole: a download, an unpacked package and an initramfs get their name when they are complete.
"""

import contextlib
import errno
import fcntl
import gzip
import hashlib
import lzma
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

from data import Error

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# How old a package index may be before it is fetched anew.
FRESH = 12 * 3600
ROOM = "free some room, or let WEFT_VMTESTS_CACHE name a folder that has it"
# What a guest needs before it sees this machine's files. What a kernel has built in is left out by modprobe.
MODULES = ["virtio_pci", "virtiofs", "overlay"]


def folder():
    """$WEFT_VMTESTS_CACHE, or weft-vmtests in $XDG_CACHE_HOME or /var/cache."""
    if "WEFT_VMTESTS_CACHE" in os.environ:
        return pathlib.Path(os.environ["WEFT_VMTESTS_CACHE"])
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "weft-vmtests"


def natural(text):
    """Sort key by which 6.12.117 comes after 6.12.43."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


@contextlib.contextmanager
def readable_errors(what):
    """A full disk or a folder that is not ours is one sentence, not a traceback."""
    try:
        yield
    except OSError as error:
        hint = f"; {ROOM}" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise Error(f"{what}: {os.strerror(error.errno) if error.errno else error}{hint}") from error


def command(argv, what, **options):
    """Output of a program that has to succeed; otherwise its last words, in one sentence."""
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", check=False, **options)
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit {done.returncode}"]
        if any("No space left" in word for word in words):
            raise Error(f"{what}: No space left on device; {ROOM}")
        # Of apt's lines the first failure says why, the last that something failed.
        word = next((word for word in words if "Failed to fetch" in word), words[-1])
        raise Error(f"{what}: {re.sub(r'^[EW]: |[a-z]+://[^ ]+ +', '', word.strip())}")
    return done.stdout


def mirrors():
    """Where this machine's apt has Debian from, and its security updates; None for what it has not."""
    out = command(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)", "Created-By: Packages"], "cannot ask apt for its mirrors")
    security, plain = None, None
    for line in out.splitlines():
        uri, name, origin = line.split(" ", 2)
        # Others name their suites after Debian's.
        if origin != "Debian":
            continue
        if name.endswith("-security"):
            security = security or uri
        elif "-" not in name:
            plain = plain or uri
    return plain, security


class Lock:
    """One run at a time uses a cache: a second waits and says for whom."""

    def __init__(self, base, say):
        with readable_errors(f"cannot make {base}"):
            base.mkdir(parents=True, exist_ok=True)
            self.file = open(base / "lock", "a+", encoding="utf-8")  # held for as long as this object
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.seek(0)
            say(f"waiting: {base} is in use by {self.file.read().strip() or 'somebody'}")
            fcntl.flock(self.file, fcntl.LOCK_EX)
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()}: {' '.join(['vmtests/run', *sys.argv[1:]])}")
        self.file.flush()

    def release(self):
        self.file.truncate(0)
        self.file.close()


class Archive:
    """Debian's archive through apt, with state of its own under `base`."""

    def __init__(self, base, suites, say):
        self.base, self.say, self.why_not, self.known = base, say, None, []
        for part in ("state/lists/partial", "cache/archives/partial"):
            (base / part).mkdir(parents=True, exist_ok=True)
        (base / "state/status").touch()
        self.sources = self._sources(suites)
        self.stamp, self.updated = base / "updated", False
        if not self.stamp.exists() or time.time() - self.stamp.stat().st_mtime > FRESH:
            self.update()

    def update(self):
        """Fetches the package index, unless this run has tried: whether there may be news in it."""
        if self.updated:
            return False
        self.updated = True
        try:
            self._apt("apt-get", "update", "-qq", "--error-on=any", what="no package index")
            self.stamp.touch()
            self.known = []
        except Error as error:
            self.why_not = str(error)
            when = time.localtime(self.stamp.stat().st_mtime) if self.stamp.exists() else None
            self.say(f"{error}; using the index {time.strftime('of %Y-%m-%d', when) if when else '(there is none)'} and what is cached")
            return False
        return True

    @staticmethod
    def _sources(suites):
        """Lines for apt."""
        plain, security = mirrors()
        lines = []
        for suite in sorted(suites):
            uri = security if suite.endswith("-security") else plain
            if uri:
                lines.append(f"deb [signed-by={KEYRING}] {uri} {suite} main\n")
        return "".join(lines)

    def _apt(self, program, *words, what, cwd=None):
        """Runs a program of apt. It insists on a regular file with sources; the file has no name, so that nothing is left."""
        with tempfile.TemporaryFile("w") as sources:
            sources.write(self.sources)
            sources.flush()
            fd = sources.fileno()
            options = {"Dir::State": self.base / "state", "Dir::State::status": self.base / "state/status", "Dir::Cache": self.base / "cache",
                       "Dir::Etc::sourcelist": f"/dev/fd/{fd}", "Dir::Etc::sourceparts": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
                       "Acquire::Languages": "none", "APT::Architecture": "amd64", "APT::Sandbox::User": "root", "Acquire::Retries": "2"}
            flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
            return command([program, *flags, *words], what, pass_fds=[fd], cwd=cwd, env={**os.environ, "LC_ALL": "C"})

    def newest(self, row):
        """[(package, its version)] of the newest version of which every package is there; None without one."""
        templates = row["packages"].split()
        named = {}  # package -> (template, version in its name, "" where the template has none)
        for template in templates:
            pattern = re.compile(re.escape(template).replace("@", f"({row['version']})"))
            for match in filter(None, map(pattern.fullmatch, self._names())):
                named[match[0]] = (template, match[1] if pattern.groups else "")
        listed = self._apt("apt-cache", "madison", *sorted(named), what="cannot look packages up") if named else ""
        versions = {}
        for line in listed.splitlines():
            name, of_package, where = (part.strip() for part in line.split("|"))
            template, version = named[name]
            if f" {row['suite']}/" in where and (version or re.match(rf"(\d+:)?{row['version']}", of_package)):
                versions.setdefault(version or of_package, {}).setdefault(template, (name, of_package))
        whole = [v for v, have in versions.items() if len(have) == len(templates)]
        if not whole:
            return None
        best = max(whole, key=natural)
        return [versions[best][t] for t in templates]

    def _names(self):
        if not self.known:
            self.known = self._apt("apt-cache", "pkgnames", what="cannot list packages").split()
        return self.known

    def download(self, packages, into):
        """Fetches packages, checks each against the sum that the signed index has."""
        # Debian's names hold nothing that is special but the epoch's colon, which files have as %3a.
        self._apt("apt-get", "download", "-qq", *(f"{n}={v}" for n, v in packages), what=f"cannot download {packages[0][0]}", cwd=into)
        files = []
        for name, version in packages:
            record = self._apt("apt-cache", "show", f"{name}={version}", what=f"cannot look {name} up")
            wanted = re.search(r"^SHA256: (\w+)$", record, re.MULTILINE)
            file = next(iter(into.glob(f"{name}_*.deb")), None)
            verify(file, name, wanted and wanted[1])
            files.append(file)
        return files


def verify(file, name, wanted):
    """A downloaded package is what the index says."""
    if not file or not wanted:
        raise Error(f"{name}: {'no sum is known' if file else 'nothing was downloaded'}; nothing of it is kept")
    got = hashlib.sha256(file.read_bytes()).hexdigest()
    if got != wanted:
        raise Error(f"{name}: the download has another sum than the index says, {got[:16]} instead of {wanted[:16]}; nothing of it is kept, run again")


class Cache:
    def __init__(self, base, rows, say):
        self.base, self.rows, self.say = base, {row["name"]: row for row in rows}, say
        with readable_errors(f"cannot use {base}"):
            for left in base.glob("*/.partial-*"):
                shutil.rmtree(left)
            (base / "kept").mkdir(exist_ok=True)
            self.archive = Archive(base / "apt", {row["suite"] for row in rows}, say)

    def get(self, name):
        """(folder, what it is, None) of a kernel or tool, or (None, None, why not)."""
        row = self.rows[name]
        while True:
            newest = None
            try:
                newest = self.archive.newest(row)
                if newest:
                    there = self.base / "kept" / f"{name}@{newest[0][1].split(':')[-1]}"
                    if not there.exists():
                        self._make(row, newest, there)
                    return there, " ".join(newest[0]), None
                why = f"no suite has a package of it any more ({row['suite']}: {row['packages']}, version {row['version']})"
            except Error as error:
                why = str(error)
            # An old version may have left the archive since the index was fetched.
            if not self.archive.update():
                break
        if not newest:
            why = self.archive.why_not or why
        kept = sorted((self.base / "kept").glob(f"{name}@*"), key=lambda f: natural(f.name))
        if kept:
            version = kept[-1].name.split("@")[1]
            self.say(f"{name}: {why}; using {version}, which is cached")
            return kept[-1], version, None
        return None, None, why

    def _make(self, row, packages, there):
        name = row["name"]
        self.say(f"{name}: fetching {' '.join(f'{n} {v}' for n, v in packages)}")
        with readable_errors(f"cannot be stored in {self.base}"), \
                tempfile.TemporaryDirectory(prefix=".partial-", dir=self.base / "kept") as partial:
            partial = pathlib.Path(partial)
            debs, root = partial / "debs", partial / "root"
            debs.mkdir()
            root.mkdir()
            for file in self.archive.download(packages, debs):
                command(["dpkg-deb", "-x", file, root], f"cannot unpack {file.name} into {self.base}")
            if row["need"] != "tool":
                lay_out(root)
            root.rename(there)
        # Of each kernel the newest is kept.
        for old in (self.base / "kept").glob(f"{name}@*"):
            if old != there:
                shutil.rmtree(old)


def release_of(root):
    """(release, folder of its modules) of an unpacked kernel."""
    for modules in (root / "usr/lib/modules", root / "lib/modules"):
        for found in sorted(modules.iterdir()) if modules.exists() else ():
            return found.name, found
    raise Error(f"{root}: its packages hold no modules; vmtests/kernels has to name the package that does")


def lay_out(root):
    """Adds to an unpacked kernel what a guest starts from: ./vmlinuz, ./modules, ./initramfs."""
    release, modules = release_of(root)
    image = next((f for f in (root / f"boot/vmlinuz-{release}", modules / "vmlinuz") if f.exists()), None)
    if not image:
        raise Error(f"{release}: its packages hold no kernel image; vmtests/kernels has to name the package that does")
    (root / "vmlinuz").symlink_to(image.relative_to(root))
    (root / "modules").symlink_to(modules.relative_to(root))
    # depmod wants lib/modules, where 6.16 and later have usr/lib/modules.
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    command(["depmod", "-b", root, release], f"depmod for {release}")

    with tempfile.TemporaryDirectory(dir=root) as tree:
        tree = pathlib.Path(tree)
        for part in ("bin", "dev", "proc", "sys", "lower", "rw", "newroot", "lib/mod"):
            (tree / part).mkdir(parents=True)
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        for applet in ("sh", "mount", "mkdir", "insmod", "uname", "poweroff", "switch_root"):
            (tree / "bin" / applet).symlink_to("busybox")
        order = []
        for module in MODULES:
            for line in command(["modprobe", "-d", root, "-S", release, "--show-depends", module], f"modprobe {module} for {release}").splitlines():
                if line.startswith("insmod "):
                    file = pathlib.Path(line.split()[1])
                    data, plain = file.read_bytes(), file.name.removesuffix(".xz")
                    if plain not in order:
                        (tree / "lib/mod" / plain).write_bytes(lzma.decompress(data) if file.suffix == ".xz" else data)
                        order.append(plain)
        (tree / "lib/mod/order").write_text("".join(f"{m}\n" for m in order))
        (root / "initramfs").write_bytes(pack(tree))


def pack(tree):
    """A folder as an initramfs. The kernel takes several of them one after the other."""
    names = "".join(f"{p.relative_to(tree)}\0" for p in sorted(tree.rglob("*")))
    done = subprocess.run(["cpio", "--quiet", "-0", "-o", "-H", "newc", "-R", "0:0"], input=names.encode(), cwd=tree, stdout=subprocess.PIPE, check=True)
    return gzip.compress(done.stdout, 1)


def can_run():
    """Why this machine cannot run guests at all, or None."""
    if platform.machine() != "x86_64":
        return f"guests are x86-64, this machine is {platform.machine()}"
    if os.geteuid() != 0:
        return "needs root: guests see this machine's files as root does"
    return None
