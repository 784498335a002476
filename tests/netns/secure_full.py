#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Policies that do not fit into the kernel's maps: refused as a whole and by name; what was in force stays, over restarts too.

    stranger, eve ──> web:80 on a node whose maps of policy rows may not grow
"""

from mesh import *

MAPS = ("--map-max", "weft_policy_port=1024")


def topology(lab):
    prepare(lab, ["alice", "eve", "web"])
    strangers(lab, "stranger")
    lab.web.serve(80)
    write_all(lab, "policy.yaml", policies(lab))
    start_all(lab, [lab.alice, lab.eve, lab.web], extra=MAPS)


def policies(lab):
    return [peer_authentication("STRICT"), authorization_policy("only-alice", rules=[from_principals(spiffe(lab.alice))], labels={"app": "web"})]


def large():
    """Of all workloads of a namespace, with a thousand ports."""
    return authorization_policy("large", rules=[{"to": [{"operation": {"ports": [str(p) for p in range(1000, 2000)]}}]}, from_principals("cluster.local/ns/default/sa/nobody")])


def as_it_was(lab):
    gets_through(lab.alice, lab.web.ip)
    for pod in (lab.eve, lab.stranger):
        for address in (lab.web.ip, lab.web.ip6):
            is_refused(pod, address)


def test_refused_by_name_and_all_stays(lab):
    as_it_was(lab)
    write_all(lab, "large.yaml", [large()])
    problem = wait_for(lambda: [p for p in lab.problems() if "weft_policy_port" in p["text"]], lambda: f"the map to be named\n{lab.tail()}", 20)[0]
    contains(problem["text"], "--map-max", "the next step")
    as_it_was(lab)


def test_over_a_new_control_and_a_new_agent(lab):
    """Who starts with a configuration that does not fit finds what was in force in the kernel, and leaves it."""
    lab.kill("control")
    as_it_was_soon(lab)
    lab.stop()
    for pod in (lab.eve, lab.stranger):
        is_refused(pod, lab.web.ip)
    lab.launch(*MAPS)
    wait_for(lambda: lab.log.read_text().count("refused: the map weft_policy_port") >= 3, lambda: f"it to be refused again\n{lab.tail()}", 20)
    for pod in (lab.eve, lab.stranger):
        is_refused(pod, lab.web.ip)


def as_it_was_soon(lab):
    for pod in (lab.eve, lab.stranger):
        is_refused(pod, lab.web.ip)
    gets_through(lab.alice, lab.web.ip)


def test_without_it(lab):
    (lab.config / "large.yaml").unlink()
    for pod in (lab.alice, lab.eve, lab.web):
        wait_attached(pod)
    as_it_was(lab)


main(topology)
