#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Somebody removes pins, or the state folder, under the running agent: it notices, and the mesh is in force again.

    client ──> 10.96.0.1:80 ──> web
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    lab.start()


def reaches(lab):
    try:
        return lab.client.who("10.96.0.1", 80) == "web"
    except OSError:
        return False


def healed(lab, pid):
    wait_for(lambda: lab.role("main") not in (pid, 0), "another main")
    wait_for(lambda: reaches(lab), "the service to be reached again")
    equal(lab.client.spread("10.96.0.1", 80, 20), {"web": 20})


def test_links_removed(lab):
    true(reaches(lab), "the service is not reached at first")
    pid = lab.role("main")
    for pin in (lab.pins / "v1/link").iterdir():
        pin.unlink()
    healed(lab, pid)


def test_everything_pinned_removed(lab):
    pid = lab.role("main")
    shutil.rmtree(lab.pins)
    healed(lab, pid)


def test_names_file_removed(lab):
    names = lab.state / "names"
    names.unlink()
    lab.apply("late.yaml", [service("late", "10.96.0.2"), endpoint_slice("late", [lab.web])])
    text = names.read_text()
    contains(text, "\tlate\t")
    contains(text, "\tweb\t", "names of before")
    equal(lab.client.who("10.96.0.2", 80), "web")


main(topology)
