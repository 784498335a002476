#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may talk to whom: decided at the SYN, in connect(), or at the tunnel, counted by reason, and again when policy changes.

    node-1: alice, mallory, plain (not enrolled) ──> web:80, 81 on node-2, where bob is its neighbour
    outside of both nodes: stranger
"""

import ctypes
import select

from mesh import *

ALLOW_FRIENDS = "allow-friends"


def topology(lab):
    prepare(lab, ["alice", "mallory", "plain"], ["web", "bob", "rob"])
    strangers(lab, "stranger")
    lab.kubelet, lab.other_kubelet = lab.two.host("kubelet"), lab.host("other-kubelet")
    lab.web.serve(80, mode="ends")
    lab.web.serve(81, mode="ends")
    start_all(lab, [lab.alice, lab.mallory, lab.web, lab.bob, lab.rob, pod_resource(lab.plain), pod_resource(lab.stranger)], *web_service(lab.web))


@contextlib.contextmanager
def policy(lab, *documents):
    """These are in force in the block."""
    apply_all(lab, "policy.yaml", list(documents))
    try:
        yield
    finally:
        remove_all(lab, "policy.yaml")


def friends(lab, *pods, **more):
    return authorization_policy(ALLOW_FRIENDS, rules=[{**from_principals(*[spiffe(p) for p in pods]), **more}], labels={"app": "web"})


def counts(lab, node_lab, reason, block):
    """block() adds to a reason's counter on a node."""
    before = refused_count(node_lab, reason)
    value = block()
    wait_for(lambda: refused_count(node_lab, reason) > before, f"{reason} to be counted on {node_lab.node_name}")
    return value


def test_without_policy_all_get_through(lab):
    for pod in (lab.alice, lab.mallory, lab.bob, lab.plain, lab.stranger):
        equal(gets_through(pod, lab.web.ip)[0], "web")
        equal(gets_through(pod, lab.web.ip6)[0], "web")


def test_strict_refuses_plaintext_at_syn(lab):
    with policy(lab, peer_authentication("STRICT")):
        for address in (lab.web.ip, lab.web.ip6):
            with Wire(lab) as wire:
                equal(counts(lab, lab.two, "policy_denied", lambda a=address: is_refused(lab.stranger, a)), errno.ECONNREFUSED, "how it is refused")
                said = {flow: data for flow, data in wire.collect().items() if data and 80 in (flow[1], flow[3])}
                equal(said, {}, "payload of a refused connection")
            counts(lab, lab, "identity_required", lambda a=address: is_refused(lab.plain, a))
            for pod in (lab.alice, lab.mallory, lab.bob):
                equal(gets_through(pod, address)[0], "web")


def test_strict_for_one_port(lab):
    with policy(lab, peer_authentication("PERMISSIVE", "default", {"app": "web"}, {81: "STRICT"}, name="web")):
        gets_through(lab.stranger, lab.web.ip, 80)
        is_refused(lab.stranger, lab.web.ip, 81)
        gets_through(lab.alice, lab.web.ip, 81)


def test_denied_client(lab):
    with policy(lab, peer_authentication("STRICT"), friends(lab, lab.alice, lab.bob)):
        for address in (VIP, VIP6, lab.web.ip, lab.web.ip6, f"::ffff:{lab.web.ip}"):
            gets_through(lab.alice, address)
            gets_through(lab.bob, address)
            counts(lab, lab.two, "policy_denied", lambda a=address: is_refused(lab.mallory, a))
            equal(counts(lab, lab.two, "policy_denied", lambda a=address: is_refused(lab.rob, a)), lab.two.refused, "errno of a neighbour's connect()")


def test_deny_wins(lab):
    deny = authorization_policy("no-alice", "DENY", [from_principals(spiffe(lab.alice))])
    with policy(lab, deny, friends(lab, lab.alice, lab.mallory)):
        is_refused(lab.alice, lab.web.ip)
        gets_through(lab.mallory, lab.web.ip)
        is_refused(lab.bob, lab.web.ip)
        is_refused(lab.stranger, lab.web.ip)


def test_allow_nothing(lab):
    with policy(lab, authorization_policy("nothing", labels={"app": "web"})):
        for pod in (lab.alice, lab.bob, lab.stranger, lab.plain):
            is_refused(pod, lab.web.ip)


def test_ports(lab):
    rule = authorization_policy("port", rules=[{"to": [{"operation": {"ports": ["80"]}}]}], labels={"app": "web"})
    with policy(lab, rule):
        for pod in (lab.alice, lab.bob, lab.stranger):
            gets_through(pod, lab.web.ip, 80)
            is_refused(pod, lab.web.ip, 81)


def test_ip_blocks(lab):
    rule = authorization_policy("block", rules=[{"from": [{"source": {"ipBlocks": [f"{lab.alice.ip}/32", f"{lab.bob.ip}/32", f"{lab.stranger.ip}/32"]}}]}],
                                labels={"app": "web"})
    with policy(lab, rule):
        for pod in (lab.alice, lab.bob, lab.stranger):
            gets_through(pod, lab.web.ip)
        for pod in (lab.mallory, lab.rob, lab.plain):
            is_refused(pod, lab.web.ip)


def test_namespaces_and_service_accounts(lab):
    rule = authorization_policy("by-account", rules=[{"from": [{"source": {"serviceAccounts": ["default/alice"]}}]}], labels={"app": "web"})
    with policy(lab, rule):
        gets_through(lab.alice, lab.web.ip)
        is_refused(lab.mallory, lab.web.ip)
        is_refused(lab.stranger, lab.web.ip)
    rule = authorization_policy("by-namespace", "DENY", [{"from": [{"source": {"notNamespaces": ["default"]}}]}], labels={"app": "web"})
    with policy(lab, rule):
        gets_through(lab.alice, lab.web.ip)
        gets_through(lab.bob, lab.web.ip)
        is_refused(lab.stranger, lab.web.ip)


def test_a_change_cuts_live_connections(lab):
    with policy(lab, friends(lab, lab.alice, lab.mallory, lab.bob, lab.rob)):
        kept = [pod.connect(lab.web.ip, 80) for pod in (lab.alice, lab.bob)]
        cut = [pod.connect(lab.web.ip, 80) for pod in (lab.mallory, lab.rob)]
        for made in kept + cut:
            read_ends(made)
            still_open(made)
        apply_all(lab, "policy.yaml", [friends(lab, lab.alice, lab.bob)])
        for made in cut:
            is_cut(made)
            made.close()
        for made in kept:
            still_open(made)
            made.close()


def test_strict_cuts_live_plaintext(lab):
    with lab.stranger.connect(lab.web.ip, 80) as made, lab.alice.connect(lab.web.ip, 80) as good:
        for one in (made, good):
            read_ends(one)
            still_open(one)
        with policy(lab, peer_authentication("STRICT")):
            is_cut(made, what="plaintext that STRICT forbids now")
            still_open(good)


def test_strict_cuts_live_plaintext_that_is_not_counted(lab):
    """MeshConfig's metrics say what is counted, not what is judged again."""
    def switch(on):
        write_all(lab, "mesh.yaml", [mesh_config(metrics={"enabled": on})])
        wait_for(lambda: bool(lab.two.maps("weft_setting")[0]["value"]["flags"] & 2) == on, f"metrics to be {on}")

    switch(False)
    try:
        with lab.stranger.connect(lab.web.ip, 80) as made:
            read_ends(made)
            still_open(made)
            with policy(lab, peer_authentication("STRICT")):
                is_cut(made, what="plaintext that STRICT forbids now")
    finally:
        switch(True)


SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
DROP = struct.pack("HBBI", 0x06, 0, 0, 0)  # classic BPF: accept no byte


def _half_open(lab, client, address, port):
    """A connection whose client hears nothing: its SYN has come, its ACK will, once _listen_again()."""
    made = client.new_socket(family_of(address))
    program = ctypes.create_string_buffer(DROP)
    made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxQ", 1, ctypes.addressof(program)))
    made.setblocking(False)
    made.connect_ex((address, port))
    wait_for(lambda: _half_opens(lab.web, port), f"a half-open connection to {address}")
    return made


def _half_opens(pod, port):
    return sh("nsenter", f"--net=/run/netns/{pod.netns}", "ss", "-Htn", "state", "syn-recv", f"sport = :{port}")


def _listen_again(made):
    made.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    true(select.select([], [made], [], 60)[1], "no answer to any SYN for a minute")  # which come ever less often
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def test_what_is_half_open_is_judged_again(lab):
    """A SYN before the change and its ACK after it: what is not allowed any more does not come to be, the rest does."""
    for address in (lab.web.ip, lab.web.ip6):
        with _half_open(lab, lab.stranger, address, 80) as denied, _half_open(lab, lab.stranger, address, 81) as good:
            with policy(lab, peer_authentication("PERMISSIVE", "default", {"app": "web"}, {80: "STRICT"}, name="web")):
                wait_for(lambda: not _half_opens(lab.web, 80), "the half-open connection to end")
                true(_half_opens(lab.web, 81), "one that is allowed was ended too")
                equal(_listen_again(denied), errno.ECONNREFUSED, f"how a connection to {address} ended that STRICT forbids")
                equal(_listen_again(good), 0, f"how a connection to {address} was made that is allowed")
                good.setblocking(True)
                good.settimeout(10)
                equal(read_name(good).split()[0], "web")


def test_dry_run_only_counts(lab):
    only = authorization_policy("dry", rules=[from_principals(spiffe(lab.alice))], labels={"app": "web"}, annotations={"istio.io/dry-run": "true"})
    with policy(lab, only):
        counts(lab, lab.two, "dry_run_denied", lambda: gets_through(lab.bob, lab.web.ip))
        gets_through(lab.mallory, lab.web.ip)


def test_a_rule_of_l7_is_refused_and_allows_nobody(lab):
    """Refused with its reason; what it would have restricted is not open meanwhile."""
    rule = authorization_policy("l7", rules=[{"to": [{"operation": {"methods": ["GET"]}}]}], labels={"app": "web"})
    for node_lab in (lab, lab.two):
        node_lab.write("policy.yaml", [rule])
    try:
        for node_lab in (lab, lab.two):
            problem = wait_for(lambda n=node_lab: [p for p in n.problems() if "l7" in json.dumps(p)], "the policy to be refused")
            contains(json.dumps(problem), "methods", "why")
    finally:
        remove_all(lab, "policy.yaml")


def test_probes_of_the_own_node(lab):
    """A kubelet gets through where STRICT or a missing ALLOW would stop it; another node's does not, nor where a DENY rule matches."""
    nodes = [node(n.node_name, (n.node_ip, n.node_ip6)) for n in (lab, lab.two)]
    with policy(lab, *nodes, peer_authentication("STRICT"), authorization_policy("nobody", labels={"app": "web"})):
        for address in (lab.web.ip, lab.web.ip6):
            equal(gets_through(lab.kubelet, address)[0], "web")
            is_refused(lab.other_kubelet, address)
            is_refused(lab.stranger, address)
            is_refused(lab.alice, address)
    with policy(lab, *nodes, authorization_policy("not-81", "DENY", [{"to": [{"operation": {"ports": ["81"]}}]}])):
        gets_through(lab.kubelet, lab.web.ip)
        is_refused(lab.kubelet, lab.web.ip, 81)


def test_it_is_told(lab):
    def steps(pod):
        said = lab.weft("explain", "from", f"default/{pod.name}", "to", f"{lab.web.ip}:80")
        return {step["step"]: step for step in said["steps"]}, said["verdict"]

    with policy(lab, friends(lab, lab.alice), peer_authentication("STRICT")):
        rows = {row["policy"]: row for row in lab.weft("policy", "list")}
        mine = next(row for name, row in rows.items() if name.endswith("/" + ALLOW_FRIENDS))
        equal((mine["action"], mine["scope"], mine["state"], mine["workloads"]), ("ALLOW", "workloads", "in force", 1))
        said, verdict = steps(lab.alice)
        equal((said["lane"]["result"], said["policy"]["result"]), ("mutual TLS", "allowed"))
        true(spiffe(lab.alice) in said["lane"]["because"] and spiffe(lab.web) in said["lane"]["because"], said["lane"]["because"])
        said, verdict = steps(lab.mallory)
        equal((said["lane"]["result"], said["policy"]["result"], verdict), ("mutual TLS", "refused", "refuse"))
        true(ALLOW_FRIENDS in said["policy"]["because"], said["policy"]["because"])
        said, verdict = steps(lab.plain)
        equal((said["lane"]["result"], said["policy"]["result"], verdict), ("plaintext", "refused", "refuse"))


def test_policy_survives_a_restart_of_the_agent(lab):
    with policy(lab, peer_authentication("STRICT"), friends(lab, lab.alice, lab.bob)):
        lab.two.stop()
        is_refused(lab.stranger, lab.web.ip)
        is_refused(lab.rob, lab.web.ip)
        gets_through(lab.bob, lab.web.ip)
        lab.two.start()
        for pod in (lab.web, lab.bob, lab.rob):
            wait_attached(pod)
        gets_through(lab.alice, lab.web.ip)
        for pod in (lab.mallory, lab.rob, lab.stranger):
            is_refused(pod, lab.web.ip)


main(topology)
