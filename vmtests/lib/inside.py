# SPDX-License-Identifier: Apache-2.0
"""First Python of a guest: runs the plan's tests one by one and says on a channel of its own what became of each.

The channel is a file in the folder that host and guest share: a line of JSON an event, written through at once. What tests say
themselves goes into a file each.
"""

import json
import os
import pathlib
import signal
import subprocess
import time
import traceback

SHARE = pathlib.Path("/run/weft-vm")


def say(**event):
    with open(SHARE / "events", "a", encoding="utf-8") as out:
        out.write(json.dumps(event) + "\n")
        out.flush()
        os.fsync(out.fileno())


def run(test):
    start = time.monotonic()
    say(event="begin", test=test["name"])
    with open(SHARE / f"{test['name']}.log", "w", encoding="utf-8") as log:
        with subprocess.Popen(test["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                              cwd="/", env={**os.environ, **test["env"]}) as process:
            try:
                code = process.wait(test["seconds"])
            except subprocess.TimeoutExpired:
                # By SIGTERM a test of the lab takes away what it made; the next one begins on clean ground.
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                code = None
    say(event="end", test=test["name"], code=code, seconds=round(time.monotonic() - start, 2))


def main():
    plan = json.loads((SHARE / "plan").read_text())
    os.environ.update(PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME="/root", LANG="C.UTF-8", TERM="linux")
    say(event="start", release=os.uname().release)
    for key, value in plan["sysctl"].items():
        pathlib.Path("/proc/sys", *key.split(".")).write_text(value)
    file, _, text = plan["proof"].partition(":")
    if file and text not in (pathlib.Path(file).read_text() if os.path.exists(file) else ""):
        say(event="unfit", text=f"{file} does not show {text} on this kernel")
        plan["tests"] = []
    if plan["shell"]:
        with open("/dev/ttyS1", "r+b", buffering=0) as terminal:
            subprocess.run(["setsid", "-c", "bash", "-l"], stdin=terminal, stdout=terminal, stderr=terminal, check=False)
    for test in plan["tests"]:
        run(test)
    say(event="done")


def first_process():
    """Buries whatever loses its parent, until the plan is done; then the machine ends."""
    child = os.fork()
    if child == 0:
        try:
            main()
        except BaseException:  # pylint: disable=broad-except
            say(event="broken", text=traceback.format_exc())
        os._exit(0)
    while os.wait()[0] != child:
        pass
    os.sync()
    subprocess.run(["busybox", "poweroff", "-f"], check=False)


first_process()
