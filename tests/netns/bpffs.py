#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Nobody has mounted a BPF filesystem: weftd mounts one where everybody expects it, and goes on there after a kill.

    client ──> 10.96.0.1:80 ──> web        weftd in a mount namespace whose /sys/fs/bpf is an empty folder
"""

from lab import *

USUAL = pathlib.Path("/sys/fs/bpf")
# What was mounted there is seen by nobody in here; what is mounted there is seen by nobody out there.
NOTHING_THERE = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                 f'while umount -l {USUAL} 2>/dev/null; do :; done; exec "$@"', "sh"]


def topology(lab):
    if not USUAL.is_dir():
        raise Skip(f"no {USUAL}")
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.pins = USUAL / lab.folder.name
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])


def mounts(pid):
    lines = (line.split() for line in pathlib.Path(f"/proc/{pid}/mounts").read_text().splitlines())
    return [(kind, options.split(",")) for _device, where, kind, options, *_rest in lines if where == str(USUAL)]


def seen_by(pid, path):
    return pathlib.Path(f"/proc/{pid}/root{path}")


def test_it_is_mounted_by_weftd(lab):
    outside = mounts("self")
    lab.start(wrap=NOTHING_THERE)
    equal(lab.client.who("10.96.0.1", 80), "web")
    inside = mounts(lab.agent.pid)
    equal([kind for kind, _options in inside], ["bpf"], f"filesystems on {USUAL}")
    true({"nosuid", "nodev", "noexec"} <= set(inside[0][1]), f"its options are {inside[0][1]}")
    true(seen_by(lab.agent.pid, lab.pins / "v1/map/weft_setting").exists(), "nothing is pinned there")
    equal(mounts("self"), outside, f"what others see on {USUAL}")
    true(not lab.pins.exists(), f"{lab.pins} can be seen outside")


def test_it_is_used_again(lab):
    if not lab.agent:
        lab.start(wrap=NOTHING_THERE)
    lab.kill("main")
    contains(lab.log.read_text(), f"adopted {lab.pins}")
    equal(len(mounts(lab.agent.pid)), 1, f"filesystems on {USUAL}")
    equal(lab.client.who("10.96.0.1", 80), "web")
    held = lab.client.connect("10.96.0.1", 80)
    equal(read_name(held), "web")
    equal(lab.stop(), 0)
    # The last who could see it is gone, and with it the pins: nothing is left of the mesh.
    wait_for(lambda: not translated(lab), "the hooks to be gone")
    held.sendall(b"still")
    equal(held.recv(100), b"still", "a connection of before")


def translated(lab):
    try:
        lab.client.connect("10.96.0.1", 80).close()
        return True
    except OSError as error:
        equal(error.errno, errno.ENETUNREACH)
        return False


main(topology)
