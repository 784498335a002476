#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Includes and meson dependencies between folders are those of the table in docs/ARCHITECTURE.md."""

import re

from lint import files, lines, main


def table(root):
    """{folder of userspace: set of folders and headers that it may include}; a folder may include its own."""
    allowed = {}
    for _number, line in lines(root / "docs/ARCHITECTURE.md"):
        row = re.match(r"\| `userspace/(\w+)` \|.*\| ([^|]*) \|$", line)
        if not row:
            continue
        allowed[row[1]] = {row[1], "weft"}
        for item in row[2].split(","):
            item = item.strip()
            half = re.fullmatch(r"(\w+)'s (\w+) half", item)
            types = re.fullmatch(r"(\w+)'s types", item)
            allowed[row[1]].add(f"{half[1]}/{half[2]}.h" if half else types[1] if types else item)
    for folder, items in allowed.items():
        if "all" in items:
            allowed[folder] = set(allowed) | {"weft"}
    return allowed


def check(root):
    said = []
    allowed = table(root)
    if not allowed:
        return ["docs/ARCHITECTURE.md: no table of folders was found"]
    for file in files(root, "userspace/*/*.c", "userspace/*/*.h"):
        name = file.relative_to(root)
        folder = name.parts[1]
        if folder not in allowed:
            said.append(f"{name}:1: folder {folder} has no row in docs/ARCHITECTURE.md")
            continue
        for number, line in lines(file):
            include = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not include or "/" not in include[1]:
                continue
            of = include[1].split("/")[0]
            if of not in allowed[folder] and include[1] not in allowed[folder]:
                said.append(f"{name}:{number}: {folder} may not include {include[1]}")
    for file in files(root, "userspace/*/meson.build"):
        name = file.relative_to(root)
        folder = name.parts[1]
        may = {item.split("/")[0] for item in allowed.get(folder, ())}
        for number, line in lines(file):
            for of in re.findall(r"\bweft_(\w+)\b(?!['\w])", re.sub(r"'[^']*'", "", line)):
                if of in allowed and of not in may:
                    said.append(f"{name}:{number}: {folder} may not depend on {of}")
    for file in files(root, "bpf/*.c", "bpf/*.h", "bpf/*/*.h"):
        if file.relative_to(root).parts[0] != "bpf":  # tests/bpf is userspace
            continue
        for number, line in lines(file):
            include = re.match(r'\s*#\s*include\s+"(\w+)/', line)
            if include and include[1] not in ("weft", "lib", "maps", "vmlinux", "bpf"):
                said.append(f"{file.relative_to(root)}:{number}: programs may include lib, maps, vmlinux and weft only, not {include[1]}")
    return said


main(check)
