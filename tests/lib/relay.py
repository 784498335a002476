# SPDX-License-Identifier: Apache-2.0
"""tests/proxy/relay.c around a test: certificates, an echo application, what it says; in a network namespace of its own."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import hbone_peer

BUILD = pathlib.Path(os.environ.get("WEFT_BUILD", "build"))
ALICE = "spiffe://cluster.local/ns/shop/sa/alice"
BOB = "spiffe://cluster.local/ns/shop/sa/bob"


def alone():
    """Starts the test anew in a network namespace without a way out, where it may make one."""
    if os.geteuid() == 0 and "WEFT_ALONE" not in os.environ:
        os.environ["WEFT_ALONE"] = "1"
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, *sys.argv])


def until(condition, what, timeout=10.0):
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(0.005)
    return value


class App(threading.Thread):
    """A server that echoes until the end of what comes, and counts."""

    def __init__(self, reads=True):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port, self.accepted, self.reads, self.open = self.listener.getsockname()[1], 0, reads, []
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                made, _ = self.listener.accept()
                self.accepted += 1
                self.open.append(made)
                if self.reads:
                    threading.Thread(target=self.echo, args=(made,), daemon=True).start()

    @staticmethod
    def echo(made):
        with made, contextlib.suppress(OSError):
            while data := made.recv(1 << 16):
                made.sendall(data)


class Relay:
    def __init__(self, *arguments, ca, identity, peer_id, environment=None):
        self.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.folder.name)
        (folder / "identity").write_bytes(identity.key_pem() + identity.chain_pem())
        (folder / "root").write_bytes(ca.root_pem())
        kind, *rest = arguments
        self.process = subprocess.Popen([BUILD / "tests/proxy/relay", kind, folder / "identity", folder / "root", peer_id, "0", *map(str, rest)],
                                        stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
        self.port = int(self.process.stdout.readline().split()[1])
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def said(self, begin, count=1):
        """The lines that begin so, once there are that many."""
        until(lambda: len([line for line in list(self.lines) if line.startswith(begin)]) >= count, f"{count} x {begin!r} in {self.lines[-20:]}")
        return [line for line in list(self.lines) if line.startswith(begin)]

    def memory(self):
        """Resident KiB; 0 under AddressSanitizer, whose own it would be."""
        if "libasan" in pathlib.Path(f"/proc/{self.process.pid}/maps").read_text():
            return 0
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def stop(self):
        self.process.terminate()
        code = self.process.wait(20)
        self.reader.join(10)
        self.process.stdout.close()
        self.folder.cleanup()
        assert code == 0, f"relay ended with {code}"


@contextlib.contextmanager
def inbound(app_port, **environment):
    """A server side on the way to an application: (relay, CA)."""
    ca = hbone_peer.make_ca()
    relay = Relay("in", app_port, ca=ca, identity=ca.issue(BOB), peer_id=BOB, environment=environment)
    try:
        yield relay, ca
    finally:
        relay.stop()


@contextlib.contextmanager
def outbound(peer_port, ca, expected=BOB, authority="10.0.0.7:80", **environment):
    relay = Relay("out", peer_port, expected, authority, ca=ca, identity=ca.issue(ALICE), peer_id=ALICE, environment=environment)
    try:
        yield relay
    finally:
        relay.stop()


def run(cases):
    """Each case by name, or those that are named on the command line."""
    alone()
    for case in cases:
        if len(sys.argv) > 1 and case.__name__ not in sys.argv[1:]:
            continue
        began = time.monotonic()
        case()
        print(f"{case.__name__}: {time.monotonic() - began:.1f} s", flush=True)
