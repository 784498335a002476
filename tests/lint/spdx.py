#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The first line names the licence: Apache-2.0, GPL-2.0-only for BPF programs, both for what both sides include."""

import re

from lint import files, lines, main

GPL, APACHE, BOTH = "GPL-2.0-only", "Apache-2.0", "Apache-2.0 OR GPL-2.0-only"


def wanted(name):
    if name.startswith("bpf/") and name.endswith((".c", ".h")):
        return (GPL, BOTH)
    if name.startswith("include/weft/"):
        return (APACHE, BOTH)
    return (APACHE,)


def check(root):
    said = []
    for file in files(root, "*.c", "*.h", "*.py", "*.sh", "meson.build", "meson_options.txt", "scripts/*", ".ci/*", "vmtests/run", "vmtests/lib/init"):
        name = str(file.relative_to(root))
        if name == "scripts/packages":
            continue
        head = [line for _number, line in lines(file)[:2]]
        first = head[1] if len(head) > 1 and head[0].startswith("#!") else head[0] if head else ""
        licence = re.search(r"SPDX-License-Identifier: (.*?)(?: \*/)?$", first)
        if not licence:
            said.append(f"{name}:1: the first line names no licence")
        elif licence[1] not in wanted(name):
            said.append(f"{name}:1: licence {licence[1]}, wanted {' or '.join(wanted(name))}")
    return said


main(check)
