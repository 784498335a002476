#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The table of captured connections on their way is full: a pod drops its own SYNs, so that none of its connections arrives.

    greedy ──x, alice ──> web:80 on node-2;  web ──> alice;  plain, which is not attached ──> web
"""

from mesh import *

ROOM = 64


def topology(lab):
    prepare(lab, ["greedy", "alice", "plain"], ["web"])
    for pod in (lab.alice, lab.web):
        pod.serve(80)
    start_all(lab, [lab.greedy, lab.alice, lab.web, pod_resource(lab.plain)],
              extra=("--map-size", f"weft_captured={ROOM}", "--map-max", f"weft_captured={ROOM}"))
    gets_through(lab.alice, lab.web.ip)
    gets_through(lab.greedy, lab.web.ip)


def _call(address, count):
    """Connections that are begun, and held until the task is stopped; how many were refused at once."""
    made, refused = [], 0
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        refused += one.connect_ex((address, 80)) not in (0, errno.EINPROGRESS)
        made.append(one)
    while not stopping():
        time.sleep(0.01)
    return refused


@contextlib.contextmanager
def own_syns_dropped(pod):
    def nft(*words):
        sh("nsenter", f"--net=/run/netns/{pod.netns}", "nft", *words)

    nft("add table inet own")
    nft("add chain inet own out { type filter hook output priority 0; }")
    nft("add rule inet own out tcp dport 15001 tcp flags syn drop")
    try:
        yield
    finally:
        nft("delete table inet own")


def test_full(lab):
    """Refused with a reason and counted; what is open, what comes in and who is not attached go on; it passes with the connections."""
    equal(lab.entries("weft_captured"), ROOM, "entries that there may be")
    equal(lab.maps("weft_captured"), [], "connections on their way")
    with lab.alice.connect(lab.web.ip, 80) as before, lab.greedy.connect(lab.web.ip, 80) as own, own_syns_dropped(lab.greedy):
        read_name(before)
        read_name(own)
        task = lab.greedy.spawn(_call, lab.web.ip, ROOM + 10)
        wait_for(lambda: lab.counter("captured_full") == 10, lambda: f"the table to be full: {len(lab.maps('weft_captured'))} entries, {lab.counter('captured_full')} too many")
        equal(len(lab.maps("weft_captured")), ROOM, "entries")
        for family in (lab.web.ip, lab.web.ip6):
            counted = lab.counter("captured_full")
            with fails(errno.ECONNREFUSED):
                lab.alice.connect(family, 80)
            equal(lab.counter("captured_full"), counted + 1, "captured_full")
        true(lab.metric("weft_refused_total", reason="captured_full") >= 12, "what Prometheus is told")
        row = next(row for row in lab.weft("metric", "list") if row["name"] == "captured_full")
        equal(row["kind"], "refused", "what weft metric list says")
        contains(row["sentence"], "weft_captured is full")
        for made in (before, own):
            still_open(made)
        gets_through(lab.web, lab.alice.ip)
        gets_through(lab.plain, lab.web.ip)
        equal(task.stop().result(), 0, "connections that were refused before their SYN")
    wait_for(lambda: not lab.maps("weft_captured"), "the table to be empty")
    for pod in (lab.alice, lab.greedy):
        gets_through(pod, lab.web.ip)
    equal(lab.metric("weft_agent_role_restarts_total"), 0, "restarts")


main(topology)
