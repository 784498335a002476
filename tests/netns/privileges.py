#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What each of weftd's processes may do, as the kernel sees it, in the middle of its work.

    init: root    main: four capabilities, and one that it has to raise first
    control, keys, proxy: none, a uid that is not root's, a list of system calls
"""

import stat

from lab import *

# linux/capability.h
NET_ADMIN, SYS_PTRACE, SYS_ADMIN, PERFMON, BPF = 12, 19, 21, 38, 39


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.given = lab.flags() + ["--proxies", "2"]
    lab.given[lab.given.index("--cgroup") + 1] = lab.root  # the agent's own is below it: pods can be attached
    lab.start(flags=lab.given)
    lab.apply("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    equal(lab.client.who("10.96.0.1", 80), "web")


def status(lab, role):
    lines = pathlib.Path(f"/proc/{lab.role(role)}/status").read_text().splitlines()
    return {key: value.split() for key, value in (line.split(":", 1) for line in lines)}


def capabilities(seen, which):
    bits = int(seen[which][0], 16)
    return {n for n in range(64) if bits >> n & 1}


def is_confined(lab, role):
    seen = status(lab, role)
    for which in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
        equal(capabilities(seen, which), set(), f"{which} of {role}")
    true("0" not in seen["Uid"] + seen["Gid"], f"{role}: uid {seen['Uid']}, gid {seen['Gid']}")
    equal(seen.get("Groups"), [], f"groups of {role} beside its own")
    equal((seen["NoNewPrivs"], seen["Seccomp"]), (["1"], ["2"]), role)


def confined(lab, role):
    """A role gives up what it has once it runs: until then it is on its way."""
    wait_for(lambda: status(lab, role)["Seccomp"] == ["2"], f"{role} to confine itself")
    is_confined(lab, role)


def test_control(lab):
    is_confined(lab, "control")


def test_main(lab):
    seen = status(lab, "main")
    equal(capabilities(seen, "CapEff"), {NET_ADMIN, SYS_ADMIN, PERFMON, BPF}, "CapEff")
    equal(capabilities(seen, "CapPrm"), {NET_ADMIN, SYS_ADMIN, PERFMON, BPF, SYS_PTRACE}, "CapPrm")
    equal(seen["NoNewPrivs"], ["1"])


def test_a_new_control_is_confined_too(lab):
    lab.kill("control")
    test_control(lab)


def attach(lab):
    lab.write("pods.yaml", [pod_resource(lab.client, labels={"istio.io/dataplane-mode": "ambient"})])
    wait_for(lambda: {"keys", "proxy-0", "proxy-1"} <= {r["role"] for r in lab.status()["roles"] if r["pid"]}, "keys and proxies to run")


def test_keys_and_proxies(lab):
    attach(lab)
    for role in ("keys", "proxy-0", "proxy-1"):
        confined(lab, role)
        lab.kill(role)
        confined(lab, role)


def test_what_they_have_open(lab):
    """Sockets and anonymous files; keys its folder; a proxy no file or folder at all."""
    attach(lab)
    for role in ("keys", "proxy-0"):
        confined(lab, role)
        links = {os.readlink(path) for path in pathlib.Path(f"/proc/{lab.role(role)}/fd").iterdir() if int(path.name) > 2}
        files = {link for link in links if not re.match(r"socket:|anon_inode:|/memfd:", link)}
        true(all(role == "keys" and link.startswith(str(lab.state / "ca")) for link in files), f"{role} has {files}")


def test_the_folder_of_keys(lab):
    attach(lab)
    folder = os.stat(lab.state / "ca")
    equal(stat.S_IMODE(folder.st_mode), 0o700)
    true(folder.st_uid != 0, "root's")


def test_a_folder_of_keys_that_is_not_one(lab):
    """control may write to the folder around it, and init is root: what control put there is not touched."""
    lab.stop()
    aside = lab.folder / "of-root"
    aside.mkdir(mode=0o755)
    shutil.rmtree(lab.state / "ca")
    (lab.state / "ca").symlink_to(aside)
    contains(lab.refusal(code=1), f"{lab.state}/ca is not a folder that can be used")
    equal((os.stat(aside).st_uid, stat.S_IMODE(os.stat(aside).st_mode)), (0, 0o755), "what the link leads to")
    (lab.state / "ca").unlink()
    (lab.state / "ca").mkdir()
    os.chown(lab.state / "ca", 12345, 12345)
    contains(lab.refusal(code=1), f"the folder {lab.state}/ca belongs to uid 12345")
    shutil.rmtree(lab.state / "ca")
    lab.start(flags=lab.given)


main(topology)
