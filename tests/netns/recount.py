#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A recount of live connections that fails half-way: nobody is shown the numbers that it left, and it is made good.

    client ──> 10.96.0.1:80 ──> web        the kernel refuses to run the iterator that counts
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("mesh.yaml", [node(), service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    lab.start(env=lab.faults_env())


def survive(lab, skip, begin, then):
    """begin() has main begin anew, which then cannot recount; it or then() ends five of 20 connections."""
    held = [lab.client.connect("10.96.0.1", 80) for _ in range(20)]
    for made in held:
        read_name(made)
    equal(lab.live(), 20, "live connections")

    before = len(lab.log.read_text())
    said = lambda: lab.log.read_text()[before:]
    pid = lab.role("main")
    with lab.bpf_fault(BPF_ITER_CREATE, errno.ENOMEM, skip):
        begin(held)
        wait_for(lambda: "cannot recount live connections: Cannot allocate memory" in said(), "the failure to be said")
        lab.wait_for_another("main", pid)
        nothing_shown(lab)
        equal(lab.client.who("10.96.0.1", 80), "web", "who answers meanwhile")
        then(held)
        nothing_shown(lab)

    wait_for(lambda: "live connections are counted again" in said(), "the recount to succeed", 30)
    equal(lab.live(), 15, "live connections after all")
    equal(lab.metric("weft_live_connections", destination_service_name="web"), 15, "weft_live_connections")
    for made in held[5:]:
        reset(made)
    wait_for(lambda: lab.live() == 0, lambda: f"no live connections, there are {lab.live()}")
    equal(said().count("cannot recount"), 1, "times that it was logged")


def nothing_shown(lab):
    true("live" not in lab.weft("status")["kernel"], "weft status shows live connections")
    true(all("live" not in s for s in lab.weft("service", "list")), "weft service list shows live connections")
    true(all("live" not in e for e in lab.weft("endpoint", "list")), "weft endpoint list shows live connections")


def end_five(held):
    for made in held[:5]:
        reset(made)


def test_no_number_is_better_than_a_wrong_one(lab):
    """The half is cleared, and then nothing is counted."""
    survive(lab, 1, lambda _held: os.kill(lab.role("main"), signal.SIGKILL), end_five)


def test_not_even_cleared(lab):
    """Connections ended while no hook was there: what main adopts is wrong, and the first step of the recount fails."""
    def begin(held):
        shutil.rmtree(lab.pins / "v1/link")  # main notices by itself
        end_five(held)

    survive(lab, 0, begin, lambda _held: None)


def test_tries_become_rarer(lab):
    lab.request({"request": "log.set", "level": "debug"})
    before = len(lab.log.read_text())
    with lab.bpf_fault(BPF_ITER_CREATE, errno.ENOMEM):
        lab.kill("main")
        wait_for(lambda: "again in 4 s" in lab.log.read_text(), "a third try", 30)
    wait_for(lambda: "live connections are counted again" in lab.log.read_text()[before:], "the recount to succeed", 30)
    # The first try was before main knew the log level.
    equal(re.findall(r"recounting again in (\d+) s", lab.log.read_text()[before:])[:2], ["2", "4"], "seconds between tries")


main(topology)
