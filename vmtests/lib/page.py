# SPDX-License-Identifier: Apache-2.0
"""docs/KERNELS.md, made of vmtests/features, which a matrix run holds against the kernels themselves."""

import pathlib
import re

import data

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/KERNELS.md"


def render(features, kernels, skips, source):
    """`features` {feature: {kernel: state}}, `kernels` rows by name, `skips` rows, `source` the text of lists/feature.h."""
    known = re.findall(r'^WEFT_FEATURE\(\w+, "(\w+)", (FLOOR|OPTIONAL),\s*"([^"]*)",\s*"([^"]*)"\)', source, re.MULTILINE)
    notes, rows = [], []
    for name, _need, does, instead in known:
        cells = []
        for kernel in kernels:
            state = features.get(name, {}).get(kernel, "not known")
            if state in ("fallback", "absent"):
                if (name, instead) not in notes:
                    notes.append((name, instead))
                state = f"{state} ({notes.index((name, instead)) + 1})"
            cells.append(state)
        rows.append(f"| `{name}`: {does} | " + " | ".join(cells) + " |")
    left_out = [f"- {row['kernel']}: {row['test'] if row['test'] != '*' else 'all tests'}: {row['reason']}; until: {row['until']}." for row in skips]
    titles = [f"{name}.x" if name.isdigit() else name for name in kernels]
    return "\n".join([
        "# Kernels",
        "",
        "What weft finds in Debian's kernels, series by series. `vmtests/run --all` boots each, runs the tests of vmtests/tests on it, and fails where",
        "this page says otherwise; `--update` makes the page anew. *native*: the kernel has it. *fallback*: it has not, and weft does the next best",
        "thing, which the number names. *absent*: weft does not start there, and says why.",
        "",
        "| feature | " + " | ".join(titles) + " |",
        "| --- |" + " --- |" * len(titles),
        *rows,
        "",
        *(f"{number}. `{name}`: {instead}" for number, (name, instead) in enumerate(notes, 1)),
        *(["", "Not run:", "", *left_out] if left_out else []),
    ]) + "\n"


def current():
    return render(data.table("features"), data.kernels(), data.read("skips"), (ROOT / "include/weft/lists/feature.h").read_text())
