# SPDX-License-Identifier: Apache-2.0
"""The matrix's data files: what they say is policy, the runner has none of its own.

One row a line, `#` begins a comment line. A row that does not fit its file's shape is an error that names file and line.
"""

import difflib
import fnmatch
import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parents[1]

# file -> (what a row looks like, for errors; its pattern)
SHAPES = {
    "kernels": ("name need suite version package ...",
                r"(?P<name>\S+)\s+(?P<need>required|optional|tool)\s+(?P<suite>\S+)\s+(?P<version>\S+)\s+(?P<packages>\S.*)"),
    "tests": ("test seconds kernels variants cases",
              r"(?P<test>\S+)\s+(?P<seconds>\d+)\s+(?P<kernels>\S+)\s+(?P<variants>\S+)\s+(?P<cases>\S+)"),
    "variants": ("name command-line sysctl proof", r"(?P<name>\S+)\s+(?P<append>\S+)\s+(?P<sysctl>-|[\w.]+=\S+)\s+(?P<proof>-|/\S+:\S+)"),
    "skips": ("kernel variant test reason; until: condition",
              r"(?P<kernel>\S+)\s+(?P<variant>\S+)\s+(?P<test>\S+)\s+(?P<reason>\S.*); until: (?P<until>\S.*)"),
    "upgrades": ("from to test variable", r"(?P<older>\S+)\s+(?P<newer>\S+)\s+(?P<test>\S+)\s+(?P<variable>\w+)"),
    "splats": ("kernel /regular expression/ reason", r"(?P<kernel>\S+)\s+/(?P<pattern>.+)/\s+(?P<reason>\S.*)"),
    "features": ("feature kernel=native|fallback|absent ...", r"(?P<name>\w+)\s+(?P<cells>\S+=(native|fallback|absent)(\s+\S+=(native|fallback|absent))*)"),
    "insns": ("program kernel=count ...", r"(?P<name>\w+)\s+(?P<cells>\S+=\d+(\s+\S+=\d+)*)"),
}


class Error(Exception):
    """Something a person has to put right; one sentence."""


def read(name, folder=FOLDER):
    """[{column: text}] of a data file; a column that is `-` is empty."""
    shape, pattern = SHAPES[name]
    rows = []
    for number, line in enumerate((folder / name).read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        row = re.fullmatch(pattern, line)
        if not row:
            raise Error(f"{folder.name}/{name}:{number}: '{line}' is no row of this file, which are: {shape}")
        row = {column: "" if text == "-" else text for column, text in row.groupdict().items()}
        for expression in (row.get("version"), row.get("pattern")):
            try:
                re.compile(expression or "")
            except re.error as error:
                raise Error(f"{folder.name}/{name}:{number}: '{expression}' is no regular expression: {error}") from error
        rows.append(row)
    return rows


def cells(row):
    """{kernel: value} of a row of `features` or `insns`."""
    return dict(cell.split("=", 1) for cell in row["cells"].split())


def table(name, folder=FOLDER):
    """{row: {kernel: value}}"""
    return {row["name"]: cells(row) for row in read(name, folder)}


def write_table(name, rows, kernels, folder=FOLDER):
    """Writes `features` or `insns` anew under the comment that it begins with."""
    file = folder / name
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    width = max(len(row) for row in rows)
    body = [f"{row:{width}}  " + "  ".join(f"{k}={values[k]}" for k in kernels if k in values) for row, values in rows.items() if values]
    aside = file.with_name(f"{name}.new")
    aside.write_text("\n".join(head + body) + "\n")
    aside.rename(file)


def kernels(folder=FOLDER):
    """{name: row} in the file's order, without tools."""
    return {row["name"]: row for row in read("kernels", folder) if row["need"] != "tool"}


def kernel_named(name, known):
    """The name, or an error that says which is nearest."""
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, 1, 0.1)
    guess = f"did you mean {near[0]}? " if near else ""
    raise Error(f"there is no kernel '{name}': {guess}vmtests/kernels has {', '.join(known)}")


def matches(pattern, name):
    """`*`, or names with commas between."""
    return any(fnmatch.fnmatchcase(name, part) for part in pattern.split(","))


def skip_of(skips, kernel, variant, test):
    """Why a test does not run there, or None."""
    for row in skips:
        if matches(row["kernel"], kernel) and matches(row["variant"], variant) and matches(row["test"], test):
            return f"{row['reason']}; until: {row['until']}"
    return None


def check(folder=FOLDER):
    """Data files agree with one another: a skip of a test that does not exist hides nothing, and nobody would notice."""
    known, variants = kernels(folder), {row["name"] for row in read("variants", folder)}
    tests = read("tests", folder)
    names = {row["test"] for row in [*tests, *read("upgrades", folder)]}
    wanted = [("tests", "kernels", known), ("tests", "variants", variants), ("skips", "kernel", known), ("skips", "variant", variants),
              ("skips", "test", names), ("splats", "kernel", known), ("upgrades", "older", known), ("upgrades", "newer", known)]
    for file, column, allowed in wanted:
        for row in read(file, folder):
            for word in row[column].split(","):
                if word != "*" and word not in allowed:
                    what = "kernel" if allowed is known else column.rstrip("s")
                    raise Error(f"{folder.name}/{file}: there is no {what} '{word}'; there is {', '.join(sorted(allowed))}")
    for file in ("features", "insns"):
        for row, values in table(file, folder).items():
            for word in values:
                if word not in known:
                    raise Error(f"{folder.name}/{file}: {row}: there is no kernel '{word}'; there is {', '.join(known)}")
