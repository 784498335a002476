#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Nothing half-done, and nothing of one machine, is left in files."""

import re

from lint import files, lines, main

WORDS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|/wo" r"rk/|/tm" r"p/w/|(?<!memory-)\bback" r"end\b", re.IGNORECASE)
# Pages that speak of the words themselves.
EXEMPT = {"docs/DEPENDENCIES.md", "docs/STYLE.md", "LICENSE"}


def check(root):
    said = []
    for file in files(root, "*.c", "*.h", "*.py", "*.sh", "*.md", "*.yaml", "meson.build", "scripts/*", ".ci/*", "vmtests/*", "vmtests/lib/init"):
        name = str(file.relative_to(root))
        if name in EXEMPT or name.startswith(("docs/benchmarks/", "scripts/bench")):
            continue
        for number, line in lines(file):
            word = WORDS.search(line)
            # A temporary file's pattern is no remark.
            if word and not re.search(r"X{4,}", line):
                said.append(f"{name}:{number}: {word[0]}")
    return said


main(check)
