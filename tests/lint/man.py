#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Man pages, written and generated, have nothing that mandoc would warn of."""

import subprocess

from lint import BUILD, ROOT, files, main


def check(root):
    pages = files(root, "*.[1-8]")
    if root == ROOT:
        pages += [p for p in sorted(BUILD.rglob("*.[1-8]")) if p.is_file() and p.read_bytes()[:512].find(b".TH") >= 0 or p.is_file() and p.read_bytes()[:512].find(b".Dd") >= 0]
    if not pages:
        return [f"{root}: no man page was found"]
    # Cross references to pages of packages that are not installed here are no fault of ours.
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True, check=False)
    return [line.replace("mandoc: ", "").replace(f"{root}/", "") for line in done.stdout.splitlines()]


main(check)
