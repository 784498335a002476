#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a library or a BPF object exports begins with weft_, so that it never meets somebody else's name."""

import pathlib
import subprocess
import tempfile

from lint import BUILD, ROOT, files, main


def exported(objects):
    """[(where, symbol)]"""
    if not objects:
        return []
    out = subprocess.run(["nm", "--extern-only", "--defined-only", "--print-file-name", *objects], capture_output=True, text=True, check=True).stdout
    rows = [line.rsplit(None, 2) for line in out.splitlines()]
    return [(row[0].rsplit(":", 1)[0], row[-1]) for row in rows if len(row) == 3]


def check(root):
    if root == ROOT:
        objects = [str(p) for p in sorted(BUILD.glob("userspace/*/libweft_*.a")) + sorted(BUILD.glob("bpf/*.bpf.o"))]
        if not objects:
            return [f"{BUILD}: nothing is built here"]
        return judge(exported(objects))
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for file in files(root, "*.c"):
            objects.append(str(pathlib.Path(folder) / f"{file.stem}.o"))
            subprocess.run(["cc", "-c", "-o", objects[-1], file], check=True)
        return judge(exported(objects))


def judge(symbols):
    fine = ("weft_", "__asan_", "__odr_asan", "LICENSE", "_license")
    return [f"{where}: {symbol} is visible outside and does not begin with weft_" for where, symbol in symbols if not symbol.startswith(fine)]


main(check)
