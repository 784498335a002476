#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One instance has one agent: a second one says who holds it and exits; overlapping subtrees are refused.

    weftd ──> subtree, pins, state, run        weftd again ──> any of them
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    lab.start()


def changed(lab, **values):
    """The lab's flags with some replaced, the folders of another instance unless told."""
    other = lab.folder / "other"
    for name in ("state", "run"):
        (other / name).mkdir(parents=True, exist_ok=True)
    flags = dict(zip(lab.flags()[::2], lab.flags()[1::2]))
    flags.update({"--state": other / "state", "--run": other / "run", "--pins": lab.folder / "bpf/other", "--metrics": "127.0.0.1:9465"})
    flags.update({f"--{k}": v for k, v in values.items()})
    return [part for pair in flags.items() for part in pair]


def still_works(lab):
    equal(lab.client.who("10.96.0.1", 80), "web")
    true(lab.status()["ready"], "the first agent is not ready any more")


def test_same_instance(lab):
    text = lab.refusal(code=HELD)
    contains(text, str(lab.agent.pid), "who holds it")
    still_works(lab)


def test_same_pins(lab):
    lab.refusal(code=HELD, flags=changed(lab, pins=lab.pins))
    still_works(lab)


def test_same_state(lab):
    contains(lab.refusal(code=HELD, flags=changed(lab, state=lab.state)), str(lab.agent.pid), "who holds it")
    still_works(lab)


def test_same_subtree(lab):
    contains(lab.refusal(code=HELD, flags=changed(lab)), "pods", "which subtree")
    still_works(lab)


def test_subtree_inside_another(lab):
    lab.refusal(code=HELD, flags=changed(lab, cgroup=lab.client.cgroup))
    still_works(lab)


def test_subtree_around_another(lab):
    lab.refusal(code=HELD, flags=changed(lab, cgroup=lab.root))
    still_works(lab)


def test_a_refused_agent_leaves_nothing(lab):
    true(not (lab.folder / "bpf/other").exists(), "the pin folder of a refused agent")


def test_two_instances_side_by_side(lab):
    """On disjoint subtrees each serves its own pods."""
    side = lab.root / "side"
    side.mkdir()
    agent, lab.agent, notify, lab.notify = lab.agent, None, lab.notify, None
    try:
        lab.start(flags=changed(lab, cgroup=side))
        inside = Pod(lab, "side", lab.client.netns, lab.client.ip, lab.client.ip6, side)
        equal(inside.who("10.96.0.1", 80), "web")
        still = lab.pins / "v1/map/weft_live"
        true(still.exists(), "the first instance's maps")
        inside.channel.close()
        os.close(inside.netns_fd)
        lab.stop()
    finally:
        lab.agent, lab.notify = agent, notify
    equal(lab.client.who("10.96.0.1", 80), "web")


main(topology)
