#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""weft top on a terminal: it paints, sorts by key, and gives the terminal back."""
import fcntl
import os
import pathlib
import pty
import re
import select
import struct
import sys
import termios
import time

HERE = pathlib.Path(__file__).resolve().parent
DEADLINE = time.monotonic() + 30


def read_until(terminal, pattern, seen=""):
    """What was painted until `pattern` is in it, cursor movements turned into blanks."""
    while not re.search(pattern, seen, re.S):
        ready, _, _ = select.select([terminal], [], [], max(0, DEADLINE - time.monotonic()))
        assert ready, f"no {pattern!r} in {seen!r}"
        text = os.read(terminal, 65536).decode()
        seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]|\x1b[=>78]", " ", text)
    return seen


def start(*words, **environment):
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.argv[1], ["weft", *words],
                  {"PATH": "/usr/bin:/bin", "TERM": "xterm", "WEFT_PINS": "fixture", "WEFT_STATE": str(HERE / "state"), **environment})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    return child, terminal


def end(child):
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


# by live connections web is first, by name api is
child, terminal = start("top", "interval", "50")
read_until(terminal, r"by live.*SERVICE.*shop/web:80.*shop/kv:6379.*ext/api:443")
os.write(terminal, b"n")
# only what changes is painted: api moves to the top
read_until(terminal, r"ext/api:443")
os.write(terminal, b"q")
assert end(child) == 0

# so many looks and no key
child, terminal = start("top", "count", "1", "interval", "50", "sort", "name")
read_until(terminal, r"by name.*ext/api:443.*shop/dns:53.*shop/web:80")
assert end(child) == 0

# a terminal that cannot be painted on is said to be one
child, terminal = start("top", "count", "1", "interval", "50", TERM="no-such-terminal")
read_until(terminal, r"try `weft top batch`")
assert end(child) == 1
