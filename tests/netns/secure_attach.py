#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Attaching a workload and taking it back: what is in its namespace meanwhile, and that nothing of it stays.

    client (node-1) ──> web (node-2): attached by its record, by `weft workload attach`, not at all
"""

from mesh import *


def topology(lab):
    prepare(lab, ["client", "late"], ["web", "holder"])
    lab.web.serve(80, mode="ends")
    lab.late.serve(80)
    pods = (lab.client, lab.web, lab.late, lab.holder)
    for pod in pods:
        pod.new_socket().close()  # which tunes the namespace
        wait_for(lambda p=pod: not sh("ip", "-n", p.netns, "-6", "address", "show", "tentative"), "duplicate address detection to be over")
    lab.before = {pod.name: inside(pod) for pod in pods}
    start_all(lab, [lab.client, lab.web], *web_service(lab.web))
    apply_all(lab, "late.yaml", [pod_resource(pod) for pod in (lab.late, lab.holder)])


def _sysctls():
    """Every setting of this process's network namespace that can be read."""
    values = {}
    for path in pathlib.Path("/proc/sys/net").rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                values[str(path)] = path.read_text()
    return {name: value for name, value in values.items() if not name.endswith(("_cookie", "nf_conntrack_count", "somaxconn")) and "route/flush" not in name}


def inside(pod):
    """What of a pod's namespace an agent could change."""
    def run(*argv):
        return sh("nsenter", f"--net=/run/netns/{pod.netns}", *argv)

    return {
        "rules": run("ip", "rule") + run("ip", "-6", "rule"),
        "routes": run("ip", "route", "show", "table", "all") + run("ip", "-6", "route", "show", "table", "all"),
        "links": [link["ifname"] for link in json.loads(run("ip", "-j", "link"))],
        "agent's listeners": run("ss", "-Hltn", "sport = :15001 or sport = :15008"),
        "nft": run("nft", "list", "ruleset"),
        "sysctls": pod.run(_sysctls),
    }


def programs(pod):
    """BPF programs on a pod's namespace."""
    netns = os.stat(f"/run/netns/{pod.netns}").st_ino
    return [link["id"] for link in json.loads(sh("bpftool", "-j", "link", "list") or "[]") if link.get("netns_ino") == netns]


def changed(pod, before):
    now = inside(pod)
    settings = {name: value for name, value in now.pop("sysctls").items() if value != before["sysctls"].get(name)}
    return {what: (before[what], value) for what, value in now.items() if value != before[what]} | settings


def as_before(lab, pod):
    wait_for(lambda: not programs(pod) and not changed(pod, lab.before[pod.name]), lambda: f"{pod} to be as before: {changed(pod, lab.before[pod.name])}, programs {programs(pod)}")


def test_only_what_is_documented(lab):
    for pod in (lab.client, lab.web):
        was, now = lab.before[pod.name], inside(pod)
        sysctls = {name for name in now["sysctls"] if now["sysctls"][name] != was["sysctls"].get(name)}
        true(sysctls <= {"/proc/sys/net/ipv4/tcp_fwmark_accept"}, f"sysctls {sysctls}")
        equal((now["nft"].strip(), now["links"]), ("", was["links"]), "packet filter and links")
        true(now["rules"] != was["rules"] and "fwmark" in now["rules"], "the rule for what the agent dials")
        true(listening(pod, 15001) and listening(pod, HBONE), "listeners")
        true(programs(pod), "the program for what comes in")


def test_by_command(lab):
    """A pod whose record does not enrol it."""
    lab.weft("workload", "attach", "default/late", "--netns", lab.late.netns)
    wait_attached(lab.late, spiffe(lab.late, "default"))
    with Wire(lab) as wire:
        gets_through(lab.late, VIP, marker=b"by command")
        equal(wire.showing(b"by command"), [], "flows that show what was said")
    row = next(row for row in lab.weft("workload", "list") if row["name"] == "late")
    true(row.get("attached"), f"weft workload list says {row}")
    lab.weft("workload", "detach", "default/late")
    as_before(lab, lab.late)
    equal(lab.client.who(lab.late.ip, 80), "late")


def _conns(lab, pod):
    """What proxies carry of a pod."""
    return [row for row in lab.request({"request": "conn.secure"})["connections"] if pod.ip in row["local"] or pod.ip in row["remote"]]


def test_detaching_cuts_what_is_open(lab):
    """Both ways, with a peer of each kind of end, at once and said; another pod's connections go on, and it can be attached again."""
    lab.weft("workload", "attach", "default/late", "--netns", lab.late.netns)
    wait_attached(lab.late, spiffe(lab.late, "default"))
    write_all(lab, "late.yaml", [tunnelling(lab.late, "default"), pod_resource(lab.holder)])  # which the other node has to know
    wait_for(lambda: _tunnels(lab, lab.web, lab.late.ip), "connections to the pod to be tunnelled")
    with lab.late.connect(lab.web.ip, 80) as out, lab.web.connect(lab.late.ip, 80) as into, lab.client.connect(lab.web.ip, 80) as beside:
        for made in (out, into, beside):
            read_name(made)
            still_open(made)
        equal(len(_conns(lab, lab.late)), 2, "what the proxies carry")
        before = proxy_count(lab, "detached")
        tunnels = _established(lab.late)
        true(tunnels, "no tunnel is open")
        lab.weft("workload", "detach", "default/late")
        for made, what in ((out, "a connection out of the pod"), (into, "a connection into the pod")):
            is_cut(made, timeout=3.0, what=what)
        wait_for(lambda: not _conns(lab, lab.late) and not _established(lab.late), lambda: f"nothing of it to be in the proxies: {_conns(lab, lab.late)}, {_established(lab.late)}", 3)
        wait_for(lambda: proxy_count(lab, "detached") - before == 2, "both to be counted")
        contains(lab.log.read_text(), " of default/late: it is attached no longer", "the log")
        still_open(beside)
    as_before(lab, lab.late)
    write_all(lab, "late.yaml", [pod_resource(pod) for pod in (lab.late, lab.holder)])
    wait_for(lambda: _tunnels(lab, lab.web, lab.late.ip) is False, "it to be spoken to in plaintext")
    test_attaching_twice_is_no_error(lab)


def _tunnels(lab, pod, address):
    """Whether a connection of a pod of the other node goes through a tunnel; not while it cannot be made."""
    with contextlib.suppress(OSError), pod.connect(address, 80) as made:
        read_name(made)
        return any(address in row["peer"] for row in lab.two.request({"request": "conn.secure"})["connections"])
    return None


def _established(pod):
    """Connections of the agent in a pod's namespace."""
    return sh("nsenter", f"--net=/run/netns/{pod.netns}", "ss", "-Htn", "state", "established", "( sport = :15008 or dport = :15008 or sport = :15001 or dport = :15001 )").splitlines()


def test_attaching_twice_is_no_error(lab):
    for _ in range(2):
        lab.weft("workload", "attach", "default/late", "--netns", lab.late.netns)
    wait_attached(lab.late, spiffe(lab.late, "default"))
    lab.weft("workload", "detach", "default/late")
    as_before(lab, lab.late)


def test_wrong_words(lab):
    for words, part in ((("attach", "default/nobody", "--netns", lab.late.netns), "nobody"), (("attach", "default/late", "--netns", "no-such-netns"), "no-such-netns"),
                        (("attach", "default/late", "--netns", "../../etc/passwd"), "passwd"), (("attach", "default/late", "--netns", "pid:0"), "pid:0"),
                        (("attach", "late"), "late"), (("detach", "default/nobody"), "nobody")):
        code, out, err = lab.cli("workload", *words)
        true(code != 0, f"weft workload {words} was taken: {out}")
        contains(err, part, f"what weft workload {words} says")


def test_record_gone(lab):
    """Its listeners and rules go with the record, and come back with it."""
    apply_all(lab, "pods.yaml", [enrolled(lab.client)])
    as_before(lab, lab.web)
    equal(gets_through(lab.client, lab.web.ip)[0], "web")
    apply_all(lab, "pods.yaml", [enrolled(lab.client), enrolled(lab.web)])
    wait_attached(lab.web)
    with Wire(lab) as wire:
        gets_through(lab.client, lab.web.ip, marker=b"once more")
        equal(wire.showing(b"once more"), [], "flows that show what was said")


def test_opt_out_by_label(lab):
    apply_all(lab, "pods.yaml", [enrolled(lab.client), enrolled(lab.web, labels={"istio.io/dataplane-mode": "none"})])
    as_before(lab, lab.web)
    apply_all(lab, "pods.yaml", [enrolled(lab.client), enrolled(lab.web)])
    wait_attached(lab.web)


def test_enrolled_by_namespace(lab):
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": AMBIENT}}
    write_all(lab, "namespace.yaml", [namespace])
    wait_attached(lab.late, spiffe(lab.late, "default"))
    forget_all(lab, "namespace.yaml")
    as_before(lab, lab.late)
    as_before(lab, lab.holder)


def test_another_pods_address(lab):
    """A pod may write whatever it likes on its interface: who it is to the kernel says its record."""
    def row():
        return next(packed for packed in (bytes(r["value"]["addr"][0]["w"][3].to_bytes(4, sys.byteorder)) for r in lab.two.maps("weft_capture"))
                    if packed in addresses)

    addresses = {socket.inet_aton(lab.web.ip), socket.inet_aton(lab.holder.ip)}
    ip(lab.web.netns, f"addr del {lab.web.ip}/24 dev eth0")
    ip(lab.web.netns, f"addr add {lab.holder.ip}/32 dev eth0")
    try:
        ip(lab.web.netns, f"addr add {lab.web.ip}/24 dev eth0")
        lab.two.stop()
        lab.two.start()
        wait_attached(lab.web)
        equal(socket.inet_ntoa(row()), lab.web.ip, "the address that is attested")
    finally:
        ip(lab.web.netns, f"addr del {lab.holder.ip}/32 dev eth0")


def _claim(name, netns, address, **labels):
    """A record that a tenant writes."""
    return {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": name, "namespace": "aaa", "labels": {**AMBIENT, **labels}, "annotations": {"weft.dev/netns": netns}},
            "spec": {"address": address, "serviceAccount": "mallory"}}


def _said(lab, *words):
    texts = [problem["text"] for problem in lab.problems()]
    return [text for text in texts if all(word in text for word in words)]


def test_another_records_namespace(lab):
    """Whose address is in it has it, whatever other records say and whoever comes first."""
    web = spiffe(lab.web)
    claims = [_claim("thief", lab.web.netns, lab.holder.ip), _claim("double", lab.web.netns, lab.web.ip)]
    lab.two.write("claims.yaml", claims)
    for name in ("aaa/thief", "aaa/double"):
        wait_for(lambda n=name: _said(lab.two, n, lab.web.netns, "default/web"), lambda n=name: f"{n} to be named: {lab.two.problems()}")
    wait_for(lambda: _said(lab.two, lab.web.ip, "default/web", "already belongs"), lambda: f"the address to be named: {lab.two.problems()}")
    equal(gets_through(lab.client, lab.web.ip)[0], "web")
    lab.two.stop()
    lab.two.start()
    wait_attached(lab.web)
    equal(gets_through(lab.client, lab.web.ip)[0], "web")
    equal({row["peer_identity"] for row in conns(lab) if row.get("peer_identity")} - {web, spiffe(lab.client)}, set(), "identities of peers")
    # Now they are there first, before the record that has the address.
    lab.two.write("pods.yaml", [enrolled(lab.client)])
    lab.two.write("claims.yaml", claims[:1])
    as_before(lab, lab.web)
    lab.two.write("pods.yaml", [enrolled(lab.client), enrolled(lab.web)])
    wait_attached(lab.web)
    gets_through(lab.client, lab.web.ip)
    lab.two.remove("claims.yaml")
    wait_for(lambda: not _said(lab.two, "aaa/"), lambda: f"no problem to be left: {lab.two.problems()}")


def test_the_nodes_own_namespace(lab):
    lab.two.write("claims.yaml", [_claim("host", lab.two.node.netns, "10.77.0.250")])
    ip(lab.two.node.netns, "addr add 10.77.0.250/32 dev lo")
    try:
        wait_for(lambda: _said(lab.two, "aaa/host", "node's own"), lambda: f"it to be refused: {lab.two.problems()}")
        equal(listening(lab.two.node, HBONE), [], "listeners of the agent on the node")
        equal(programs(lab.two.node), [], "programs in the node's network namespace")
    finally:
        ip(lab.two.node.netns, "addr del 10.77.0.250/32 dev lo")
        lab.two.remove("claims.yaml")
    wait_for(lambda: not _said(lab.two, "aaa/"), lambda: f"no problem to be left: {lab.two.problems()}")


def test_an_address_that_its_record_gets(lab):
    """It is the pod's from then on."""
    def families():
        return sorted(sum(any(addr["w"]) for addr in row["value"]["addr"]) for row in lab.two.maps("weft_capture"))

    one = enrolled(lab.web)
    one["status"]["podIPs"] = [{"ip": lab.web.ip}]
    lab.two.write("pods.yaml", [enrolled(lab.client), one])
    lab.two.stop()
    lab.two.start()
    wait_attached(lab.web)
    equal(families(), [1], "families")
    lab.two.write("pods.yaml", [enrolled(lab.client), enrolled(lab.web)])
    wait_for(lambda: families() == [2], lambda: f"the other family to be known: {families()}")


def test_a_port_that_an_application_holds(lab):
    """Is named, with who needs it; the pod is left as it is."""
    for port in (15001, HBONE):
        holder = lab.holder.serve(port)
        wait_for(lambda p=port: listening(lab.holder, p), "the application to listen")
        code, _out, err = lab.two.cli("workload", "attach", "default/holder", "--netns", lab.holder.netns)
        true(code != 0, "it was attached all the same")
        contains(err, str(port), "which port")
        contains(err, "holder", "whose")
        holder.kill()
        as_before(lab, lab.holder)


def test_ports_of_the_agent_are_no_targets(lab):
    for port in (15001, 15006, HBONE, 15080):
        for pod in (lab.client, lab.web):
            is_refused(lab.client, pod.ip, port, what=f"{pod}:{port}")


def test_a_namespace_that_goes(lab):
    """With the pod still attached: the agent goes on."""
    goner = lab.pod("goner")
    apply_all(lab, "goner.yaml", [enrolled(goner)])
    wait_attached(goner)
    if goner.channel:
        goner.channel.close()
        goner.channel = None
    ip(lab.node.netns, f"link del v{goner.ip.rsplit('.', 1)[1]}")
    os.close(goner.netns_fd)
    sh("ip", "netns", "del", goner.netns)
    del lab.pods["goner"]
    gets_through(lab.client, VIP)
    remove_all(lab, "goner.yaml")
    gets_through(lab.client, VIP)
    equal(lab.metric("weft_agent_role_restarts_total"), 0, "restarts")


def test_a_stopped_agent_and_uninstall(lab):
    """weftd --uninstall, or what takes an instance away, leaves no pod as it was attached."""
    lab.two.stop()
    code, out, err = lab.two.cli("uninstall")
    true(code == 0, f"weft uninstall: {err or out}")
    as_before(lab, lab.web)
    share_ca(lab)  # what it had is gone with the rest
    lab.two.start()
    wait_attached(lab.web)
    gets_through(lab.client, VIP)


main(topology)
