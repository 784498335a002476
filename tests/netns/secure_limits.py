#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A node that may have few sockets: one pod that wants more gets resets with a reason, its neighbour gets its share, and it passes;
one source that wants all of it leaves something for the others, at both ends.

    client, other (node-1) ──> web:80, bob:80 on node-2, whose roles may each have a few hundred files
"""

from mesh import *

FILES = 400  # of each process: half as many pool sockets a proxy, main_sockets.c


def topology(lab):
    prepare(lab, ["client", "other"], ["web", "bob"])
    lab.web.serve(80)
    lab.bob.serve(80)
    start_all(lab, [lab.client, lab.other, lab.web, lab.bob], *web_service(lab.web), peer_authentication("STRICT"))
    lab.two.stop()
    lab.two.start("--proxies", "1", wrap=("prlimit", f"--nofile={FILES}:{FILES}"))
    for pod in (lab.web, lab.bob):
        wait_attached(pod)
    wait_for(lambda: _again(lab, lab.web) and _again(lab, lab.bob), "connections to work")


def _again(lab, pod):
    with contextlib.suppress(OSError):
        return gets_through(lab.client, pod.ip)
    return False


def many(lab, pod, count, client=None):
    """(those that got through, how the others ended): after five of these it is enough, for each was waited for."""
    made, failed = [], {}
    for _ in range(count):
        if sum(failed.values()) >= 5:
            break
        one = None
        try:
            one = (client or lab.client).connect(pod.ip, 80, timeout=10)
            read_name(one)
            made.append(one)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, repr(error))
            failed[name] = failed.get(name, 0) + 1
            if one:
                one.close()
    return made, failed


def test_more_than_the_node_may_have(lab):
    held, failed = many(lab, lab.web, FILES // 2 + 100)
    try:
        true(FILES // 8 <= len(held) <= FILES // 2, f"{len(held)} connections at once, {failed}")
        true(set(failed) <= {"ECONNRESET", "ECONNABORTED", "EPIPE"} and failed, f"how the others ended: {failed}")
        for made in held:
            still_open(made)
        contains(lab.two.log.read_text(), "limit of open files", "what the log says")
        beside, failed = many(lab, lab.bob, 20)
        equal((len(beside), failed), (20, {}), "its neighbour's connections")
        for made in beside:
            still_open(made)
            made.close()
    finally:
        for made in held:
            made.close()
    wait_for(lambda: _again(lab, lab.web), "connections to work again")
    for role in lab.two.status()["roles"]:
        true(role["pid"], f"{role['role']} is not there")
    equal(lab.two.metric("weft_agent_role_restarts_total"), 0, "restarts")


def test_one_source_leaves_something_for_others(lab):
    """Where tunnels end: the proxy of the server's node."""
    _first_and_other(lab, lab.two)


def test_one_pod_leaves_something_for_others(lab):
    """Where connections are captured: the proxy of the clients' node."""
    lab.stop()
    lab.start("--proxies", "1", wrap=("prlimit", f"--nofile={FILES}:{FILES}"))
    for pod in (lab.client, lab.other):
        wait_attached(pod)
    lab.two.stop()
    lab.two.start("--proxies", "1")
    for pod in (lab.web, lab.bob):
        wait_attached(pod)
    wait_for(lambda: _again(lab, lab.web), "connections to work")
    _first_and_other(lab, lab)


def _first_and_other(lab, where):
    """One client takes all it can get, and another gets ten; who was refused is counted at the node `where` room is short."""
    before = proxy_count(where, "fair_share")
    held, failed = many(lab, lab.web, FILES)
    others = []
    try:
        true(failed, f"{len(held)} connections of one client, and none was refused")
        wait_for(lambda: proxy_count(where, "fair_share") > before, lambda: f"a count of fair_share\n{where.tail()}")
        others, failed = many(lab, lab.web, 10, lab.other)
        equal((len(others), failed), (10, {}), f"of another client, beside {len(held)} of the first")
        for made in held + others:
            still_open(made)
    finally:
        for made in held + others:
            made.close()
    wait_for(lambda: _again(lab, lab.web), "connections to work again")


main(topology)
