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


def test_no_number_is_better_than_a_wrong_one(lab):
    held = [lab.client.connect("10.96.0.1", 80) for _ in range(20)]
    for made in held:
        read_name(made)
    equal(lab.live(), 20, "live connections")

    with lab.bpf_fault(BPF_ITER_CREATE, errno.ENOMEM, skip=1):  # the half is cleared, and then nothing is counted
        os.kill(lab.role("main"), signal.SIGKILL)
        wait_for(lambda: "cannot recount live connections: Cannot allocate memory" in lab.log.read_text(), "the failure to be said")
        wait_for(lambda: lab.status()["ready"], "main to be back")
        true("live" not in lab.weft("status")["kernel"], "weft status shows live connections")
        true(all("live" not in s for s in lab.weft("service", "list")), "weft service list shows live connections")
        true(all("live" not in e for e in lab.weft("endpoint", "list")), "weft endpoint list shows live connections")
        equal(lab.client.who("10.96.0.1", 80), "web", "who answers meanwhile")
        for made in held[:5]:
            reset(made)

    wait_for(lambda: "live connections are counted again" in lab.log.read_text(), "the recount to succeed")
    equal(lab.live(), 15, "live connections after all")
    equal(lab.metric("weft_live_connections", destination_service_name="web"), 15, "weft_live_connections")
    for made in held[5:]:
        reset(made)
    wait_for(lambda: lab.live() == 0, lambda: f"no live connections, there are {lab.live()}")
    equal(lab.log.read_text().count("cannot recount"), 1, "times that it was logged")


main(topology)
