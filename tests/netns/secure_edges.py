#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Ways past STRICT and a policy that somebody may think of, and that are none: other addresses of the pod, opting out, a bypass, another service account.

    node-1: alice ──> web:80 on node-2, STRICT, only alice and its neighbour bob are allowed; eve is not, stranger is plaintext
    six: on node-1, has IPv6 alone
"""

from mesh import *


def topology(lab):
    prepare(lab, ["alice", "eve", "six"], ["web", "bob", "rob"])
    strangers(lab, "stranger")
    lab.web.serve(80, mode="ends")
    ip(lab.six.netns, f"addr del {lab.six.ip}/24 dev eth0")
    write_all(lab, "policy.yaml", policies(lab))
    start_all(lab, records(lab) + [pod_resource(lab.stranger)], *web_service(lab.web))
    for pod in attached(lab):
        wait_attached(pod)


def policies(lab):
    only = authorization_policy("friends", rules=[from_principals(*[spiffe(p) for p in (lab.alice, lab.bob, lab.six)])], labels={"app": "web"})
    return [peer_authentication("STRICT"), only]


def attached(lab):
    return (lab.alice, lab.eve, lab.six, lab.web, lab.bob, lab.rob)


def records(lab, **accounts):
    """Pods' records; those that are named have another service account than their own name."""
    made = [enrolled(pod, accounts.get(pod.name)) for pod in attached(lab)]
    for one in made:
        if one["metadata"]["name"] == "six":
            one["status"].update(podIP=lab.six.ip6, podIPs=[{"ip": lab.six.ip6}])
    return made


def set_records(lab, **accounts):
    apply_all(lab, "pods.yaml", records(lab, **accounts) + [pod_resource(lab.stranger)])


def nobody_else(lab):
    """As it has to be whatever else was done."""
    for pod in (lab.stranger, lab.eve, lab.rob):
        for address in (lab.web.ip, lab.web.ip6):
            is_refused(pod, address)


def as_usual(lab):
    wait_for(lambda: all(_again(pod, address) for pod in (lab.alice, lab.bob) for address in (VIP, lab.web.ip)), "those who may to get through again")
    nobody_else(lab)


def _again(pod, address):
    with contextlib.suppress(OSError):
        return gets_through(pod, address)
    return False


def link_local(pod):
    return wait_for(lambda: [info["local"] for link in json.loads(sh("ip", "-n", pod.netns, "-j", "-6", "address", "show", "dev", "eth0", "scope", "link"))
                             for info in link.get("addr_info", ()) if "local" in info and not info.get("tentative")], "a link-local address")[0]


def index(pod):
    return json.loads(sh("ip", "-n", pod.netns, "-j", "link", "show", "dev", "eth0"))[0]["ifindex"]


def connects(pod, address, scope=0):
    """Whether a plain connection to web:80 says something."""
    family = family_of(address)
    with pod.new_socket(family, timeout=3) as made:
        try:
            made.connect((address, 80, 0, scope) if family == socket.AF_INET6 else (address, 80))
            return bool(made.recv(1))
        except OSError:
            return False


def test_addresses_that_no_record_has(lab):
    """A link-local one, which every pod has, and one more of each family: nobody's policy is asked by them, so nobody gets in by them."""
    more, more6 = "10.77.0.240", "fd77::f0"
    local = link_local(lab.web)
    ip(lab.web.netns, f"addr add {more}/24 dev eth0\naddr add {more6}/64 dev eth0 nodad")
    try:
        for pod in (lab.stranger, lab.eve, lab.rob, lab.alice):
            for address in (more, more6):
                equal(connects(pod, address), False, f"{pod} to web by {address}")
            equal(connects(pod, local, index(pod)), False, f"{pod} to web by {local}")
        for address in (more6, "127.0.0.1", "::1", lab.web.ip):
            true(connects(lab.web, address), f"web to itself by {address}")
        remove_all(lab, "policy.yaml")
        for address in (more, more6):
            true(connects(lab.stranger, address), f"without any policy, by {address}")
        true(connects(lab.stranger, local, index(lab.stranger)), f"without any policy, by {local}")
        held = [lab.stranger.connect(address, 80) for address in (more, more6)]
        for made in held:
            still_open_behind(made)
        apply_all(lab, "policy.yaml", policies(lab))
        for made in held:
            is_cut(made, what="one that was open when policy came")
            made.close()
    finally:
        ip(lab.web.netns, f"addr del {more}/24 dev eth0\naddr del {more6}/64 dev eth0")
        apply_all(lab, "policy.yaml", policies(lab))
    as_usual(lab)


def still_open_behind(made):
    read_ends(made)
    still_open(made)


def test_a_pod_with_ipv6_alone(lab):
    with Wire(lab) as wire:
        for address in (VIP6, lab.web.ip6):
            equal(gets_through(lab.six, address, marker=b"by six alone")[0], "web")
        equal(wire.showing(b"by six alone"), [], "flows that show what was said")
    lab.six.serve(80)
    for pod in (lab.web, lab.bob, lab.eve):
        gets_through(pod, lab.six.ip6)
    is_refused(lab.stranger, lab.six.ip6)


def test_opting_out_is_no_way_in(lab):
    """The client's own node lets it go past the mesh; the pod that it goes to does not."""
    for spec in ({"ports": [{"port": 80, "protocol": "TCP"}]}, {"cidrs": ["10.77.0.0/24", "fd77::/64"]}):
        apply_all(lab, "mesh.yaml", [mesh_config(optOut=spec)])
        with Wire(lab) as wire:
            nobody_else(lab)
            for address in (lab.web.ip, lab.web.ip6):
                is_refused(lab.alice, address, what="one who may, in plaintext")
            equal([flow for flow, data in wire.collect().items() if data and 80 in (flow[1], flow[3])], [], "flows with payload")
        apply_all(lab, "mesh.yaml", [mesh_config()])
    as_usual(lab)


def test_an_opted_out_pod(lab):
    made = [enrolled(pod, labels={"istio.io/dataplane-mode": "none"}) if pod in (lab.alice, lab.bob) else record
            for pod, record in zip(attached(lab), records(lab))]
    apply_all(lab, "pods.yaml", made)
    wait_for(lambda: not listening(lab.alice, HBONE) and not listening(lab.bob, HBONE), "them to be detached")
    nobody_else(lab)
    for pod in (lab.alice, lab.bob):
        is_refused(pod, lab.web.ip)
    set_records(lab)
    for pod in (lab.alice, lab.bob):
        wait_attached(pod)
    as_usual(lab)


def test_a_bypass_opens_nothing(lab):
    """What goes past the mesh arrives in plaintext, and is judged as that."""
    for node_lab in (lab, lab.two):
        node_lab.weft("bypass", "on")
        try:
            nobody_else(lab)
            with Wire(lab) as wire:
                with contextlib.suppress(OSError), lab.alice.connect(lab.web.ip, 80) as made:
                    made.sendall(b"past the mesh")
                    made.recv(1)
                equal(wire.showing(b"past the mesh"), [], "flows that show what was said")
        finally:
            node_lab.weft("bypass", "off")
    as_usual(lab)


def test_another_service_account(lab):
    """The records of clients say another one: what is open is cut, what is new is refused, over tunnels that were made before too."""
    held = [pod.connect(lab.web.ip, 80) for pod in (lab.alice, lab.bob)]
    for made in held:
        read_ends(made)
        still_open(made)
    set_records(lab, alice="eve", bob="rob")
    for made in held:
        is_cut(made)
        made.close()
    for pod in (lab.alice, lab.bob):
        for address in (VIP, lab.web.ip, lab.web.ip6):
            is_refused(pod, address)
    nobody_else(lab)
    set_records(lab)
    as_usual(lab)


def test_another_service_account_of_the_server(lab):
    """Its clients expect the new one, and it shows the new one."""
    write_all(lab, "pods.yaml", records(lab, web="shop") + [pod_resource(lab.stranger)])
    wait_attached(lab.web, spiffe("shop"))
    as_usual(lab)
    with lab.alice.connect(VIP, 80) as made:
        read_ends(made)
        row = wait_for(lambda: conns(lab, security="mutual_tls"), "weft conn list to say mutual_tls")[0]
        equal(row["destination_identity"], spiffe("shop"))
    write_all(lab, "pods.yaml", records(lab) + [pod_resource(lab.stranger)])
    wait_attached(lab.web)
    as_usual(lab)


def children(node_lab):
    """{role: pid} by their command lines, whether control answers or not."""
    found = {}
    for pid in pathlib.Path(f"/proc/{node_lab.agent.pid}/task/{node_lab.agent.pid}/children").read_text().split():
        with contextlib.suppress(OSError, ValueError):
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found[words[words.index(b"--role") + 1].decode()] = int(pid)
    return found


def test_control_dies_while_it_begins(lab):
    """As soon as anything of the lane runs, and again: once a pod refuses a stranger, it goes on to."""
    lab.two.stop()
    code, out, err = lab.two.cli("uninstall")
    true(code == 0, f"weft uninstall: {err or out}")
    share_ca(lab)
    load = lab.stranger.spawn(_watch, lab.web.ip, 80)
    lab.two.launch()
    try:
        killed = set()
        end = time.monotonic() + 20
        while len(killed) < 3 and time.monotonic() < end:
            roles = children(lab.two)
            control = roles.get("control", 0)
            if control and control not in killed and ("keys" in roles or "proxy" in roles):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(control, signal.SIGKILL)
                killed.add(control)
            time.sleep(0.002)
        equal(len(killed), 3, f"times that control was killed, of {children(lab.two)}")
        wait_attached(lab.web)
        as_usual(lab)
    finally:
        seen = load.stop().result()
    true(seen["refused"] > 0, "the stranger was never refused")
    equal(seen["after"], 0, "connections that got in behind one that was refused")


def _watch(address, port):
    """How often a connection was refused, and how often one got in behind that."""
    seen = {"refused": 0, "after": 0}
    while not stopping():
        try:
            with socket.create_connection((address, port), 3) as made:
                got = made.recv(1)
        except OSError:
            got = b""
        if got and seen["refused"]:
            seen["after"] += 1
        elif not got:
            seen["refused"] += 1
        time.sleep(0.001)
    return seen


main(topology)
