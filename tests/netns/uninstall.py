#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`weft uninstall` removes every trace: links, maps, folders; service addresses are nobody's again.

    client ──> 10.96.0.1:80 ──> web
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])


def test_refused_while_an_agent_runs(lab):
    lab.start()
    equal(lab.client.who("10.96.0.1", 80), "web")
    code, _out, err = lab.cli("uninstall")
    true(code != 0, "uninstall went ahead under a running agent")
    contains(err, str(lab.agent.pid), "who holds the instance")
    equal(lab.client.who("10.96.0.1", 80), "web")


def test_every_trace(lab):
    true(lab.attached(), "nothing was attached before")
    equal(lab.stop(), 0)
    equal(lab.client.who("10.96.0.1", 80), "web", "traffic without the agent")
    code, out, err = lab.cli("uninstall")
    equal((code, err), (0, ""), f"uninstall: {out}")
    wait_for(lambda: not lab.attached(), lambda: f"programs to be gone: {lab.attached()}")
    # The kernel itself keeps *.debug on every bpffs.
    equal([str(p) for p in (lab.folder / "bpf").iterdir() if p.suffix != ".debug"], [], "left on bpffs")
    for folder in (lab.state, lab.run_folder):
        left = [p.name for p in folder.iterdir()] if folder.exists() else []
        equal(left, [], f"left in {folder}")
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.96.0.1", 80)


def test_twice(lab):
    equal(lab.cli("uninstall")[0], 0, "uninstall of nothing")


def test_installed_again(lab):
    for folder in (lab.state, lab.run_folder):
        folder.mkdir(exist_ok=True)
    lab.start()
    equal(lab.client.who("10.96.0.1", 80), "web")
    true(not lab.status()["adopted"], "something was left to adopt")


main(topology)
