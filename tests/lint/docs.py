#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Documentation names what there is: maps, counters, features, metrics, packages; its links lead somewhere."""

import re

from lint import files, lines, main

# list -> (macro, column of the name, where each name has to be spoken of)
LISTS = {
    "include/weft/lists/map.h": ("WEFT_MAP", "docs/DATAPATH.md"),
    "include/weft/lists/counter.h": ("WEFT_COUNTER", "docs/DATAPATH.md"),
    "include/weft/lists/feature.h": ("WEFT_FEATURE", "docs/*.md"),
    "include/weft/lists/metric.h": ("WEFT_METRIC", "docs/METRICS.md"),
}


def check(root):
    said = []
    for source, (macro, page) in LISTS.items():
        if not (root / source).exists():
            continue
        text = "\n".join(f.read_text() for f in root.glob(page))
        for number, line in lines(root / source):
            row = re.match(macro + r'\(\w+, "(\w+)"', line)
            if row and not re.search(rf"\b{row[1]}\b", text):
                said.append(f"{source}:{number}: {page} does not speak of {row[1]}")
    packages = root / "scripts/packages"
    if packages.exists():
        text = (root / "docs/DEPENDENCIES.md").read_text()
        for number, line in lines(packages):
            package = re.match(r"([a-z0-9][a-z0-9.+-]+)\s", line)
            # A -dev package is spoken of by what it is for: the library.
            stem = re.sub(r"-(dev|build)$", "", package[1]) if package else None
            if stem and not re.search(rf"(?<![\w-]){re.escape(stem)}[\d.-]*(?!\w)", text):
                said.append(f"scripts/packages:{number}: docs/DEPENDENCIES.md does not speak of {package[1]}")
    for file in files(root, "*.md"):
        for number, line in lines(file):
            for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
                if "://" not in link and not link.startswith("mailto:") and not (file.parent / link).exists():
                    said.append(f"{file.relative_to(root)}:{number}: the link to {link} leads nowhere")
    return said


main(check)
