#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What each of weftd's processes may do, as the kernel sees it, in the middle of its work.

    init: root    main: four capabilities    control: none, its own uid, a list of system calls
"""

from lab import *

# linux/capability.h
NET_ADMIN, SYS_ADMIN, PERFMON, BPF = 12, 21, 38, 39


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.start()
    lab.apply("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    equal(lab.client.who("10.96.0.1", 80), "web")


def status(lab, role):
    lines = pathlib.Path(f"/proc/{lab.role(role)}/status").read_text().splitlines()
    return {key: value.split() for key, value in (line.split(":", 1) for line in lines)}


def capabilities(seen, which):
    bits = int(seen[which][0], 16)
    return {n for n in range(64) if bits >> n & 1}


def test_control(lab):
    seen = status(lab, "control")
    for which in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
        equal(capabilities(seen, which), set(), which)
    true("0" not in seen["Uid"] + seen["Gid"], f"uid {seen['Uid']}, gid {seen['Gid']}")
    equal(seen.get("Groups"), [], "groups beside its own")
    equal(seen["NoNewPrivs"], ["1"])
    equal(seen["Seccomp"], ["2"])


def test_main(lab):
    seen = status(lab, "main")
    for which in ("CapEff", "CapPrm"):
        equal(capabilities(seen, which), {NET_ADMIN, SYS_ADMIN, PERFMON, BPF}, which)
    equal(seen["NoNewPrivs"], ["1"])


def test_a_new_control_is_confined_too(lab):
    lab.kill("control")
    test_control(lab)


main(topology)
