#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The disk of the state folder is full: names cannot be written, so nothing new comes into force, and everybody is told.

    client ──> 10.96.0.1:80 ──> web
    client ──> 10.97.0.N:80 ──> web        once there is room
"""

from lab import *

MANY = 200


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    sh("mount", "-t", "tmpfs", "-o", "size=64k,mode=750", "tmpfs", lab.state)
    lab.write("mesh.yaml", [node(), service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    lab.start()


def many(lab):
    return [d for n in range(MANY) for d in (service(f"many-{n}", f"10.97.0.{n + 1}"), endpoint_slice(f"many-{n}", [lab.web]))]


def test_what_cannot_be_named_is_told_and_made_good(lab):
    filler, names = lab.state / "filler", lab.state / "names"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    before, generation = names.read_bytes(), lab.status()["config"]["generation"]

    lab.write("many.yaml", many(lab))
    told = wait_for(lab.problems, "a problem")
    equal(len(told), 1, f"problems, they are {told}")
    equal((told[0]["severity"], told[0]["file"]), ("error", str(names)), "what it is about")
    contains(told[0]["text"], "No space left on device")
    code, out, _err = lab.cli("config", "problems")
    contains(out, "No space left on device", f"weft config problems, exit code {code}")
    equal(lab.metric("weft_config_refused"), 1, "weft_config_refused")
    true(lab.metric("weft_config_apply_failures_total") >= 1, "weft_config_apply_failures_total is 0")
    equal(lab.status()["config"]["generation"], generation, "generation")
    equal(lab.client.who("10.96.0.1", 80), "web", "who answers meanwhile")
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.97.0.1", 80)
    true(names.read_bytes().startswith(before) and names.read_bytes().endswith(b"\n"), "the names file was damaged")

    filler.unlink()
    wait_for(lambda: not lab.problems(), lambda: f"no problems, there are {lab.problems()}", 20)
    for n in (0, MANY - 1):
        equal(lab.client.who(f"10.97.0.{n + 1}", 80), "web", "who answers afterwards")
    said = [line for line in lab.log.read_text().splitlines() if "No space left on device" in line]
    equal([("error" in line, "over: " in line) for line in said], [(True, False), (False, True)], f"what was logged: {said}")


main(topology)
