#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the man pages and has mandoc read them; every JSON key that a golden test shows is on a page, and
every option of weftd on its own."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

with tempfile.TemporaryDirectory(prefix="wt-cli-") as name:
    folder = pathlib.Path(name) / "man"
    subprocess.run([sys.argv[1], "--generate", "man", str(folder)], check=True)
    pages = sorted(folder.iterdir())
    # a page for weft, and one for each object that it names
    objects = re.findall(r"^\.It Cm (\S+)$", (folder / "weft.1").read_text(), re.M)
    assert {page.name for page in pages} == {"weft.1"} | {f"weft-{word}.1" for word in objects}, pages
    assert len(objects) > 10, objects
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", *map(str, pages)], capture_output=True, text=True, check=False)
    assert lint.returncode == 0 and not lint.stdout, lint.stdout + lint.stderr

    source = (ROOT / "userspace/agent/options.c").read_text()
    options = set(re.findall(r'^\t\{ OPTION_\w+, "([a-z-]+)", (?:"[^"]*"|NULL), "', source, re.M))
    page = ROOT / "docs/man/weftd.8"
    documented = set(re.findall(r"^\.It Fl \\-([a-z-]+)", page.read_text(), re.M))
    assert len(options) > 10 and options == documented, options ^ documented
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(page)], capture_output=True, text=True, check=False)
    assert lint.returncode == 0 and not lint.stdout, lint.stdout

    # the linter finds what is wrong
    (folder / "wrong.1").write_text(".Dd today\n.Dt WRONG 1\n.Os\n.Sh NAME\n.Bl -tag\n.It\n.Foo\n")
    assert subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(folder / "wrong.1")], capture_output=True, check=False).returncode

    def keys(value):
        if isinstance(value, dict):
            for key, below in value.items():
                yield key
                yield from keys(below)
        elif isinstance(value, list):
            for below in value:
                yield from keys(below)

    checked = 0
    for path in sorted(HERE.glob("*.ok")):
        blocks = re.split(r"^\$ weft ", path.read_text(), flags=re.M)[1:]
        for block in blocks:
            command, body = block.split("\n", 1)
            words = [word for word in command.split() if "=" not in word]
            match = re.match(r"(\[.*\]|\{.*\})\n= \d+\n\Z", body, re.S)
            if not match or words[0] not in objects:
                continue
            page = (folder / f"weft-{words[0]}.1").read_text()
            documented = set(re.findall(r"^\.It Va (\S+)", page, re.M))
            try:
                values = [json.loads(match.group(1))]
            except json.JSONDecodeError:
                values = [json.loads(line) for line in match.group(1).splitlines()]
            unknown = set(keys(values)) - documented
            assert not unknown, f"{path.name}: weft {command}: not on the page: {unknown}"
            checked += 1
    assert checked > 20, checked
