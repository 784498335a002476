#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every test file runs: a test that meson does not know of is no test. Every source is built."""

import json
import re

from lint import BUILD, ROOT, files, main


def expected(root):
    """{name of the test: its file}"""
    found = {}
    for file in files(root, "tests/unit/*/*.c", "tests/netns/*.py", "tests/bpf/*.py", "tests/lint/*.py", "tests/vm/*.py", "tests/fuzz/*.c"):
        name = file.relative_to(root / "tests").with_suffix("")
        if name.parts[0] in ("bpf", "fuzz") and not is_test(file):
            continue
        if str(name) != "lint/lint":
            found[".".join(name.parts)] = file.relative_to(root)
    return found


def is_test(file):
    """Helpers of a suite (the replayer of seeds) have no entry of their own."""
    text = file.read_text()
    return file.suffix == ".py" or re.search(r"^int LLVMFuzzerTestOneInput\([^;]*$", text, re.MULTILINE)


def check(root):
    source = BUILD / "meson-info/intro-tests.json" if root == ROOT else root / "intro-tests.json"
    if not source.exists():
        return [f"{source}: is missing, so no test can be looked up"]
    known = {test["name"] for test in json.loads(source.read_text())}
    said = [f"{file}:1: no test named {name} is registered in its folder's meson.build"
            for name, file in expected(root).items()
            if name not in known and not any(k.startswith(name + ".") for k in known)]
    for file in files(root, "userspace/*/*.c"):
        build = file.parent / "meson.build"
        if not build.exists() or f"'{file.name}'" not in build.read_text():
            said.append(f"{file.relative_to(root)}:1: is not in its folder's meson.build")
    return said


main(check)
