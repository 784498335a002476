#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A node boots, perhaps with another kernel: pins are gone, the state folder is not. Ids mean what they meant, counters begin anew and say so.

    client ──> 10.96.0.1:80 (web) ──> web      10.96.0.2:80 (old) before, 10.96.0.3:80 (new) after

With WEFT_REBOOT=DIR a first run leaves its state there and a second one, on another kernel, goes on with it.
"""

from lab import *

PLACE = os.environ.get("WEFT_REBOOT")
LEFT = pathlib.Path(PLACE) / "left" if PLACE else None


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    lab.write("pods.yaml", [pod_resource(lab.client), pod_resource(lab.web)])


def ids(lab):
    """{(kind, name ...): id} of the names file; a later line takes an earlier one's place."""
    found = {}
    for line in (lab.state / "names").read_text().splitlines()[1:]:
        kind, number, *name = line.split("\t")
        if not kind.startswith("-"):
            found[kind, *name] = number
    return found


def opened(lab):
    return sum(lab.aggregate("opened", reporter=SOURCE, outcome=o, protocol=socket.IPPROTO_TCP) for o in range(6))


def began(lab):
    return lab.metric("weft_counters_start_timestamp_seconds")


def before(lab):
    lab.write("other.yaml", [service("old", "10.96.0.2"), endpoint_slice("old", [lab.web])])
    lab.start()
    for address in ("10.96.0.1", "10.96.0.2"):
        equal(lab.client.who(address, 80), "web")
    wait_for(lambda: opened(lab) == 2, lambda: f"2 opened, there are {opened(lab)}")
    left = {"ids": [[*name, number] for name, number in ids(lab).items()], "began": began(lab), "release": os.uname().release}
    lab.stop()
    return left


def after(lab, left):
    start = int(time.time())
    lab.write("other.yaml", [service("new", "10.96.0.3"), endpoint_slice("new", [lab.web])])
    lab.start()
    true(not lab.status()["adopted"], "something was left to adopt")
    equal(lab.client.who("10.96.0.1", 80), "web")
    had, has = {tuple(name): number for *name, number in left["ids"]}, ids(lab)
    old, new = (next(n for name, n in known.items() if name[0] == "S" and which in name) for which, known in (("old", had), ("new", has)))
    for name, number in had.items():
        if not (name[0] == "S" and number == old) and not (name[0] == "E" and name[1] == old):
            equal(has.get(name), number, f"id of {name}")
    true(new not in [n for name, n in had.items() if name[0] == "S"], f"the new service's id is {new}, before: {had}")
    wait_for(lambda: opened(lab) == 1, lambda: f"1 opened since the reboot, there are {opened(lab)}")
    true(max(start - 1, left["began"]) <= began(lab) <= time.time() + 1, f"counters began at {began(lab)}; before: {left['began']}; this run: {start}")
    lab.stop()


def test_ids_outlive_a_reboot(lab):
    if LEFT and LEFT.exists():
        left = json.loads((LEFT / "left.json").read_text())
        print(f"# state of Linux {left['release']} on Linux {os.uname().release}")
        sh("cp", "-aT", LEFT / "state", lab.state)
        after(lab, left)
        return
    left = before(lab)
    if LEFT:
        LEFT.mkdir()
        sh("cp", "-a", lab.state, LEFT / "state")
        (LEFT / "left.json").write_text(json.dumps(left))
        return
    shutil.rmtree(lab.pins)  # as a reboot does
    wait_for(lambda: not lab.attached(), lambda: f"programs to be gone: {lab.attached()}")
    after(lab, left)


main(topology)
