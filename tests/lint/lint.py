# SPDX-License-Identifier: Apache-2.0
"""Runs a house rule on its samples and on the tree.

A rule is a file of this folder with a function check(root) that returns sentences, "file:line: what is wrong".
samples/<rule>/pass* are small trees that the rule has nothing to say about, samples/<rule>/fail* are some that it has:
their file `expect` holds a part of what is to be said. So a check that cannot fail does not pass.
"""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("WEFT_BUILD", ROOT / "build"))


def files(root, *patterns):
    """Files of a tree that match: of the project those that git knows or would add, without the samples."""
    if root == ROOT:
        out = subprocess.run(["git", "-c", f"safe.directory={root}", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"],
                             capture_output=True, check=True, text=True).stdout
        names = [n for n in out.split("\0") if n and not n.startswith("tests/lint/samples/")]
    else:
        names = [str(p.relative_to(root)) for p in root.rglob("*") if p.name != "expect"]
    found = [root / n for n in sorted(names) if any(pathlib.PurePath(n).match(p) for p in patterns)]
    return [f for f in found if f.is_file() and not f.is_symlink()]


def lines(file):
    """[(number, line)]"""
    return list(enumerate(file.read_text(errors="replace").splitlines(), 1))


def without_comments(text):
    """C text whose comments and string contents are blanked, line for line."""
    def blank(match):
        token = match[0]
        return re.sub(r"[^\n]", " ", token) if token.startswith("/") else token[0] + token[0]

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.DOTALL)


def main(check):
    rule = pathlib.Path(sys.modules["__main__"].__file__).stem
    samples = sorted((ROOT / "tests/lint/samples" / rule).iterdir())
    results = []
    for sample in samples:
        said = check(sample)
        if sample.name.startswith("fail"):
            expected = (sample / "expect").read_text().strip()
            good = any(expected in sentence for sentence in said)
            results.append((f"{sample.name} fails", good, [f"wanted a sentence with: {expected}", *said]))
        else:
            results.append((f"{sample.name} passes", not said, said))
    kinds = {s.name[:4] for s in samples}
    results.append(("has samples of both kinds", kinds >= {"pass", "fail"}, [f"there are {sorted(kinds)}"]))
    said = check(ROOT)
    results.append(("the tree", not said, said))

    print(f"1..{len(results)}")
    for number, (name, good, said) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {number} - {name}")
        if not good:
            for sentence in said[:200]:
                print("\n".join(f"# {line}" for line in sentence.splitlines()))
    sys.exit(0 if all(good for _name, good, _said in results) else 1)
