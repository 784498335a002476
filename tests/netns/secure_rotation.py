#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A new root and a revoked node, on three nodes under traffic: who believes whom at each step, and that nobody else notices.

    client (node-1, the root's) ──> web (node-2), far (node-3);  far ──> web, and a python peer with the certificates of before
"""

import ssl

from mesh import *

ROOT, OTHERS = "root.pem", "roots.pem"


def topology(lab):
    prepare(lab, ["client"], ["web"])
    lab.three = lab.another("node-3")
    lab.far = lab.three.pod("far")
    strangers(lab, "foreign")
    for pod in (lab.client, lab.web, lab.far):
        pod.serve(80)
    lab.serials = {}
    start_all(lab, [lab.client, lab.web, lab.far, tunnelling(lab.foreign)])
    join(lab, lab.two)
    join(lab, lab.three)
    lab.before = {node_lab.node_name: weft_ca(node_lab) for node_lab in agents(lab)}


def join(lab, other):
    """Exports for a node and has it join while its agent runs, until its certificates are others."""
    bundle = lab.folder / "bundle"
    made = lab.weft("ca", "export", str(bundle))
    bytes_ = bundle.read_bytes()
    before = serials(other)
    code, out, err = other.cli("ca", "join", bundle, stdin=made["code"])
    true(code == 0, f"weft ca join: {err or out}")
    bundle.unlink()
    lab.serials[other.node_name] = made["serial"]
    wait_for(lambda: not before & serials(other), lambda: f"certificates of {other.node_name} from what it joined with\n{other.tail()}", 20)
    return bytes_, made["code"]


def serials(lab):
    return {row["serial"] for row in lab.weft("identity", "list")}


def issuers(lab):
    """Whom the intermediates of a node's certificates are of."""
    return {hbone_peer.split_pem(lab.weft("identity", "show", identity)["pem"].encode())[1].issuer for identity in identities(lab)}


def root_of(lab):
    return hbone_peer.split_pem((lab.state / "ca" / ROOT).read_bytes())[0]


def _knock(targets):
    """New connections one after the other, and one to each that stays."""
    errors, count, held = {}, 0, []
    for address in targets:
        made = socket.create_connection((address, 80), 10)
        read_name(made)
        held.append(made)
    while not stopping():
        for address in targets:
            try:
                with socket.create_connection((address, 80), 10) as made:
                    read_name(made)
                count += 1
            except OSError as error:
                errors[f"{address}: {error!r}"] = errors.get(f"{address}: {error!r}", 0) + 1
    for address, made in zip(targets, held):
        try:
            still_open(made)
        except OSError as error:
            errors[f"open to {address}: {error!r}"] = 1
    return count, errors


def knocking(lab):
    """Every node to every other."""
    return [lab.client.spawn(_knock, [lab.web.ip, lab.far.ip]), lab.far.spawn(_knock, [lab.web.ip, lab.client.ip]),
            lab.web.spawn(_knock, [lab.client.ip, lab.far.ip])]


def unharmed(tasks):
    for task in tasks:
        count, errors = task.stop().result()
        equal(errors, {}, "connections that failed")
        true(count > 20, f"only {count} connections")


def either(lab):
    """What a peer believes that knows both roots."""
    return hbone_peer.Roots(hbone_peer.CA(None, root_of(lab)).root_pem() + lab.before["node-1"].root_pem())


def believed(lab, ca, pod):
    """Whether a pod's agent takes who has a certificate of this authority."""
    try:
        with hbone(lab.foreign, pod, ca.issue(spiffe(lab.foreign)), either(lab)) as peer:
            return peer.request(f"{pod.ip}:80").status() == 200
    except (OSError, ssl.SSLError):
        return False


def test_a_new_root_under_traffic(lab):
    old = root_of(lab)
    tasks = knocking(lab)
    equal(lab.weft("ca", "rotate")["root"], "believed")
    for other in (lab.two, lab.three):
        join(lab, other)
        equal(issuers(other), {old.subject}, "who certifies between the steps")
    before = serials(lab)
    equal(lab.weft("ca", "rotate")["root"], "signs")
    wait_for(lambda: not before & serials(lab), "the first node's certificates to be of the new root", 20)
    new = root_of(lab)
    true(new != old, "the root is the same")
    for other in (lab.two, lab.three):
        bundle, code = join(lab, other)
        equal(root_of(other), new, "the root of a node that joined")
    for node_lab in agents(lab):
        equal(issuers(node_lab), {new.subject}, f"who certifies on {node_lab.node_name}")
        equal(node_lab.problems(), [], "problems")
    unharmed(tasks)
    lab.rotated = bundle, code


def test_an_older_export_takes_nothing_back(lab):
    bundle, code = lab.folder / "old", lab.rotated[1]
    bundle.write_bytes(lab.rotated[0])
    join(lab, lab.three)
    before = {path.name: path.read_bytes() for path in (lab.three.state / "ca").glob("*.pem")}
    status, out, err = lab.three.cli("ca", "join", bundle, stdin=code)
    true(status != 0, f"it was taken: {out}")
    contains(err, "older than the one that this node joined last", "what is said")
    equal({path.name: path.read_bytes() for path in (lab.three.state / "ca").glob("*.pem")}, before, "the files of the CA")


def test_what_the_old_root_signed_can_be_revoked(lab):
    """An intermediate of before the rotation, as a thief has it: refused on new and on open connections, and nobody else."""
    stolen = lab.before["node-2"]
    tasks = knocking(lab)
    true(believed(lab, stolen, lab.client), "the old root is believed no longer")
    with hbone(lab.foreign, lab.client, stolen.issue(spiffe(lab.foreign)), either(lab)).settled() as peer:
        stream = peer.request(f"{lab.client.ip}:80")
        equal(stream.status(), 200)
        lab.weft("ca", "revoke", f"{stolen.certificate.serial_number:x}")
        peer.wait_closed()
    equal(believed(lab, stolen, lab.client), False, "a revoked intermediate")
    equal(believed(lab, lab.before["node-3"], lab.client), True, "another one of that root")
    unharmed(tasks)


def test_a_revoked_node(lab):
    """Its connections are cut where the list is; another node goes on, refuses it too once it has joined anew; and it comes back with a new export."""
    far = [lab.client.spawn(_knock, [lab.far.ip]), lab.far.spawn(_knock, [lab.client.ip])]
    with lab.client.connect(lab.web.ip, 80) as out, lab.web.connect(lab.client.ip, 80) as into, lab.far.connect(lab.web.ip, 80) as beside:
        for made in (out, into, beside):
            read_name(made)
        lab.weft("ca", "revoke", lab.serials["node-2"])
        is_cut(out, what="a connection to the revoked node")
        is_cut(into, what="a connection from the revoked node")
        is_refused(lab.client, lab.web.ip)
        is_refused(lab.web, lab.client.ip)
        contains(lab.log.read_text(), "revoked", "the log")
        still_open(beside)
        gets_through(lab.far, lab.web.ip)
        join(lab, lab.three)
        is_cut(beside, what="a connection at the node that joined anew")
        is_refused(lab.far, lab.web.ip)
        is_refused(lab.web, lab.far.ip)
    unharmed(far)
    join(lab, lab.two)
    for pod in (lab.client, lab.far):
        wait_for(lambda p=pod: reaches(p, lab.web.ip) and reaches(lab.web, p.ip), f"{pod} and web to meet again")


def reaches(pod, address):
    with contextlib.suppress(OSError):
        return gets_through(pod, address)
    return None


def test_without_the_old_root(lab):
    """Taken out of roots.pem by hand, when nothing rests on it any more: nobody notices but who has a certificate of it."""
    old = lab.before["node-1"].root
    tasks = knocking(lab)
    true(believed(lab, lab.before["node-3"], lab.client), "the old root is believed no longer")
    for node_lab in agents(lab):
        path = node_lab.state / "ca" / OTHERS
        kept = [root for root in hbone_peer.split_pem(path.read_bytes()) if root != old]
        path.write_bytes(b"".join(hbone_peer.CA(None, root).root_pem() for root in kept))
    for pod in (lab.client, lab.web, lab.far):
        wait_for(lambda p=pod: not believed(lab, lab.before["node-3"], p), f"{pod} to refuse what the old root signed")
    unharmed(tasks)


main(topology)
