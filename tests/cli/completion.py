#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sources the completion in a bash and asks it what may follow."""
import pathlib
import subprocess
import sys
import tempfile

CASES = {
    "weft se": "service",
    "weft s": "service status",
    "weft service ": "list show",
    "weft service list ": "name namespace",
    "weft service list namespace ": "",
    "weft conn list protocol ": "tcp udp",
    "weft conn list protocol tcp s": "service state",
    "weft log level d": "debug",
    "weft bypass o": "off on",
    "weft -j --pins /x bypass s": "show",
    "weft top so": "sort",
    "weft top sort r": "rate rtt",
    "weft explain from a/b t": "to",
    "weft --pi": "--pins",
    "weft version ": "",
    "weft nonsense ": "",
}
SCRIPT = """
. "$1"
complete -p weft >/dev/null || exit 1
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_weft
printf '%s\\n' "${COMPREPLY[@]}" | sort -u | xargs
"""

with tempfile.TemporaryDirectory(prefix="wt-cli-") as name:
    folder = pathlib.Path(name)
    subprocess.run([sys.argv[1], "--generate", "completion", str(folder)], check=True)
    for line, expected in CASES.items():
        done = subprocess.run(["bash", "-uc", SCRIPT, "bash", str(folder / "weft"), *line.split(" ")], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, f"{line}: {done.stderr}"
        assert done.stdout.strip() == expected, f"{line!r}: {done.stdout.strip()!r} is not {expected!r}"
    # directories complete as such
    (folder / "conf.d").mkdir()
    done = subprocess.run(["bash", "-uc", SCRIPT.replace("_weft\n", "compopt() { :; }\n_weft\n"), "bash", str(folder / "weft"), "weft", "config", "check", f"{folder}/co"],
                          capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{folder}/conf.d", done.stdout + done.stderr
