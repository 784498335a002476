# SPDX-License-Identifier: Apache-2.0
"""Raw data and a page for people: docs/benchmarks/<date>-<name>.{json,md}."""

import json
import time

import host

FOLDER = host.ROOT / "docs/benchmarks"


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}f}"


def interval(figure, keys=("ratio", "low", "high"), digits=3):
    middle, low, high = (figure.get(k) for k in keys)
    return "-" if middle is None else f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]) + "\n"


def comparison(results, metrics, base="direct"):
    """One row a metric and arm; the A/A row of a metric stands first."""
    rows = []
    for path, title in metrics.items():
        for name, result in sorted(results.items(), key=lambda item: item[0] != base):
            figure = result["metrics"][path]
            rows.append([title, "A/A" if name == base else name, interval(figure), interval(figure, ("added", "added_low", "added_high"), 2),
                         f"{figure['pairs']} of {result['pairs']}" + (" VOID" if result["void"] else ""),
                         f"{result['errors'][1]}"])
    return table(["figure", "arm", f"ratio to {base} (95 % interval)", "added (95 % interval)", "pairs kept", "errors"], rows)


def write(name, title, text, data, folder=None, quick=False):
    """Returns the page's path. `data` is everything, down to the single arm."""
    folder = folder or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{time.strftime('%Y-%m-%d')}-{name}{'-quick' if quick else ''}"
    environment = data["environment"]
    note = "\n**A smoke run: the figures are no evidence.**\n" if quick else ""
    page = (f"# {title}\n{note}\n{text}\n## Where and how\n\n"
            f"{environment['date']}, commit {environment['commit']}, Linux {environment['kernel']}, {environment['cpus']} CPUs "
            f"({environment['cpu']}), {environment['haproxy']}, {environment['nft']}.\n\n"
            f"`{data['command']}`; raw data in `{stem.name}.json`; method in README.md.\n")
    stem.with_suffix(".json").write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    stem.with_suffix(".md").write_text(page)
    return stem.with_suffix(".md")
