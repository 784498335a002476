#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A policy that is refused now keeps out whom its last good version kept out, whatever of the agent starts anew.

    alice on node-1, web:80 on node-2, whose policy is edited; outside of both nodes: stranger
"""

import os
import signal

from mesh import *


def topology(lab):
    prepare(lab, ["alice"], ["web"])
    strangers(lab, "stranger")
    lab.web.serve(80, mode="ends")
    start_all(lab, [lab.alice, lab.web], *web_service(lab.web))


def strict(mode="STRICT"):
    return peer_authentication(mode)


@contextlib.contextmanager
def refused(lab):
    """STRICT was in force, and its document is refused since."""
    apply_all(lab, "policy.yaml", [strict()])
    is_refused(lab.stranger, lab.web.ip)
    lab.two.write("policy.yaml", [strict("strict")])
    wait_for(lambda: "PeerAuthentication" in json.dumps(lab.two.problems()), "the edited policy to be refused")
    try:
        yield
    finally:
        remove_all(lab, "policy.yaml")
        wait_for(lambda: not lab.two.problems(), lambda: f"no problem, but {lab.two.problems()}")


def holds(lab):
    for address in (lab.web.ip, lab.web.ip6):
        is_refused(lab.stranger, address)
        equal(gets_through(lab.alice, address)[0], "web")
    states = {row["kind"]: row["state"] for row in lab.two.weft("config", "list") if row["file"] == "policy.yaml"}
    equal(states, {"PeerAuthentication": "last good"})


def start_again(lab):
    lab.two.stop()
    lab.two.start()
    wait_attached(lab.web)


def test_control_is_killed(lab):
    with refused(lab):
        holds(lab)
        lab.two.kill("control")
        holds(lab)


def test_the_agent_starts_anew(lab):
    with refused(lab):
        for _ in range(2):
            start_again(lab)
            holds(lab)


def test_deleted_while_the_agent_was_down(lab):
    with refused(lab):
        lab.two.stop()
        forget_all(lab, "policy.yaml")
        lab.two.start()
        wait_attached(lab.web)
        equal(gets_through(lab.stranger, lab.web.ip)[0], "web")


def test_what_was_kept_is_damaged(lab):
    """Whom the refused policy kept out cannot be told: no control changes what is in force, until a person says what is meant."""
    kept = lab.two.state / "policies"
    with refused(lab):
        whole = kept.read_bytes()
        kept.write_bytes(whole[:-1])
        pid = lab.two.role("control")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "policy.yaml: the last good version of what is refused here cannot be told" in lab.two.tail(), lambda: f"the sentence:\n{lab.two.tail()}")
        for address in (lab.web.ip, lab.web.ip6):
            is_refused(lab.stranger, address)
            equal(gets_through(lab.alice, address)[0], "web")
        equal(kept.read_bytes(), whole[:-1], "the damaged file")
        lab.two.write("policy.yaml", [strict()])
        lab.two.wait_for_another("control", pid)
        wait_for(lambda: kept.read_bytes() == whole, "the file to be whole again")
        is_refused(lab.stranger, lab.web.ip)
        gets_through(lab.alice, lab.web.ip)


main(topology)
