#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""No trailing blanks, no carriage returns, a newline at the end, tabs in C."""

import re

from lint import files, main


def check(root):
    said = []
    for file in files(root, "*.c", "*.h", "*.py", "*.sh", "*.md", "*.yaml", "meson.build", "*.txt", "*.service", "*.conf", "scripts/*", ".ci/*", "vmtests/*", "vmtests/lib/init"):
        name = str(file.relative_to(root))
        if name.startswith(("tests/conf/", "tests/fuzz/", "tests/cli/", "docs/benchmarks/")) and not name.endswith((".c", ".py", ".build")):
            continue
        text = file.read_text(errors="replace")
        if text and not text.endswith("\n"):
            said.append(f"{name}: no newline at the end")
        if text.endswith("\n\n"):
            said.append(f"{name}: blank lines at the end")
        for number, line in enumerate(text.split("\n"), 1):
            if line.endswith((" ", "\t", "\r")):
                said.append(f"{name}:{number}: blanks at the end of the line")
            if name.endswith((".c", ".h")) and re.match(r" {4}", line):
                said.append(f"{name}:{number}: indented by blanks instead of tabs")
    return said


main(check)
