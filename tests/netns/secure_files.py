#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Certificates that somebody else renews, as files on two nodes: revoked, ended, of somebody else, of another root, while connections are open.

    client (node-1) ══ mutual TLS ══> web:80 (node-2), STRICT; the test is their CA
"""

import hbone_peer
from mesh import *


def topology(lab):
    prepare(lab, ["client", "other"], ["web"])
    lab.web.serve(80)
    lab.ca = hbone_peer.make_ca()
    for node_lab, pods in ((lab, (lab.client, lab.other)), (lab.two, (lab.web,))):
        for pod in pods:
            give(lab, pod)
        # A link is followed by whoever starts as root; what it leads to has to be readable to role keys.
        (node_lab.state / "ca").mkdir(mode=0o700)
        (node_lab.state / "ca/files").symlink_to(node_lab.folder / "files")
        os.chown(node_lab.state / "ca", *_nobody())
    lab.secure()
    write_all(lab, "mesh.yaml", [mesh_config(identity={"source": "Files"})])
    write_all(lab, "pods.yaml", [enrolled(pod) for pod in (lab.client, lab.other, lab.web)])
    write_all(lab, "web.yaml", [*web_service(lab.web), peer_authentication("STRICT")])
    for node_lab in (lab, lab.two):
        node_lab.start()
    for pod in (lab.client, lab.other, lab.web):
        wait_attached(pod)


def _nobody():
    names = {line.split(":")[0]: line.split(":") for line in pathlib.Path("/etc/passwd").read_text().splitlines()}
    entry = next(names[name] for name in ("weft-keys", "weft", "nobody") if name in names)
    return int(entry[2]), int(entry[3])


def folder(pod):
    return pod.lab.folder / "files/default" / pod.name


def put(pod, **files):
    """Writes files aside and renames them into place, the certificate last; None takes one away."""
    where = folder(pod)
    where.mkdir(parents=True, exist_ok=True)
    for parent in (where, where.parent, where.parent.parent, pod.lab.folder):
        parent.chmod(0o755)
    names = {"key": "tls.key", "root": "ca.crt", "chain": "tls.crt", "crl": "crl.pem"}
    for what in ("root", "crl", "key", "chain"):
        if what in files:
            path = where / names[what]
            if files[what] is None:
                path.unlink(missing_ok=True)
                continue
            aside = where / "aside"
            aside.write_bytes(files[what])
            aside.chmod(0o644)
            aside.rename(path)


def give(lab, pod, identity=None, **more):
    """A pair, a new one unless told, and the root: what was given."""
    identity = identity or lab.ca.issue(spiffe(pod))
    put(pod, root=lab.ca.root_pem(), key=identity.key_pem(), chain=identity.chain_pem(), **more)
    return identity


def serial(pod):
    row = identities(pod.lab).get(spiffe(pod))
    return row and int(row["serial"], 16)


def wait_serial(pod, identity):
    wait_for(lambda: serial(pod) == identity.leaf.serial_number, lambda: f"{pod} to have the new certificate\n{pod.lab.tail()}", 15)


def renewed(lab, pod, **more):
    made = give(lab, pod, **more)
    wait_serial(pod, made)
    return made


def works(lab, pod=None):
    def once():
        with contextlib.suppress(OSError):
            return gets_through(pod or lab.client, VIP)
        return False
    wait_for(once, lambda: f"connections to work\n{lab.tail()}\n{lab.two.tail()}", 15)


def fails_from_now_on(lab, pod=None):
    def refused():
        try:
            gets_through(pod or lab.client, VIP)
        except OSError:
            return True
        return False
    wait_for(refused, "connections to be refused", 15)
    in_no_way(lab, pod, VIP, lab.web.ip, lab.web.ip6)


def in_no_way(lab, pod, *addresses):
    with Wire(lab) as wire:
        for address in addresses:
            try:  # whoever has no certificate at all is waited for, in case that he gets one
                with (pod or lab.client).connect(address, 80, timeout=12) as made:
                    got = made.recv(1)
            except OSError as error:
                true(error.errno in REFUSED_OR_CUT, f"to {address}: {error!r}")
            else:
                raise Failure(f"to {address}: got {got!r}")
        equal([flow for flow, data in wire.collect().items() if data and 80 in (flow[1], flow[3])], [], "flows with payload beside the tunnel")


@contextlib.contextmanager
def open_connection(lab):
    works(lab)
    with lab.client.connect(VIP, 80) as made:
        read_name(made)
        still_open(made)
        yield made


def problems(node_lab):
    return json.dumps(node_lab.problems())


def test_a_revoked_certificate(lab):
    """The list is on the server's node alone: open connections of the one that it names are cut, of others go on; a new certificate is a new one."""
    mine = renewed(lab, lab.client)
    with open_connection(lab) as made:
        works(lab, lab.other)
        with lab.other.connect(VIP, 80) as beside:
            read_name(beside)
            put(lab.web, crl=lab.ca.crl(mine.leaf, number=1))
            is_cut(made, 15)
            fails_from_now_on(lab)
            still_open(beside)
            works(lab, lab.other)
    renewed(lab, lab.client)
    works(lab)
    put(lab.web, crl=None)


def test_a_revoked_server(lab):
    """The other way round: the client's node has the list."""
    shown = renewed(lab, lab.web)
    with open_connection(lab) as made:
        put(lab.client, crl=lab.ca.crl(shown.leaf, number=2))
        is_cut(made, 15)
        fails_from_now_on(lab)
    renewed(lab, lab.web)
    works(lab)
    put(lab.client, crl=None)


def test_a_list_of_another_issuer(lab):
    """Neither of another CA nor of one that only has our CA's name: the first proves nothing, by the second nobody is believed until it is gone."""
    mine = renewed(lab, lab.client)
    with open_connection(lab) as made:
        put(lab.web, crl=hbone_peer.make_ca(name="somebody else").crl(mine.leaf, number=3))
        renewed(lab, lab.web)  # it was looked at
        still_open(made)
        works(lab)
    put(lab.web, crl=hbone_peer.make_ca().crl(number=4, by_key=False))
    fails_from_now_on(lab)
    put(lab.web, crl=None)
    works(lab)


def test_a_stale_list(lab):
    """Whoever can hold a list back must not be able to undo a revocation."""
    works(lab)
    put(lab.web, crl=lab.ca.crl(ttl=-5, number=5))
    fails_from_now_on(lab)
    put(lab.web, crl=lab.ca.crl(number=6))
    works(lab)
    put(lab.web, crl=None)


def test_an_answer_for_somebody_else(lab):
    """Whoever renews gives the pair of another workload: it is not taken up, it is told, and what was there serves on."""
    before = renewed(lab, lab.client)
    for wrong in (lab.ca.issue(spiffe(lab.other)), lab.ca.issue(spiffe(lab.client, trust_domain="elsewhere")), hbone_peer.make_ca().issue(spiffe(lab.client))):
        give(lab, lab.client, wrong)
        wait_for(lambda: "certificates" in problems(lab), lambda: f"a problem to be told: {problems(lab)}\n{lab.tail()}", 15)
        equal(serial(lab.client), before.leaf.serial_number, "the certificate that serves")
        works(lab)
        renewed(lab, lab.client)
        before = serial_holder(lab)
        wait_for(lambda: "certificates" not in problems(lab), lambda: f"the problem to be gone: {problems(lab)}", 15)


def serial_holder(lab):
    """What is in the folder now."""
    return hbone_peer.Identity.load((folder(lab.client) / "tls.key").read_bytes(), (folder(lab.client) / "tls.crt").read_bytes())


def test_renewal_that_fails_to_the_end(lab):
    """The old pair serves as long as it lasts; then its connections are refused, and none goes in plaintext, until somebody renews."""
    give(lab, lab.client, lab.ca.issue(spiffe(lab.client), ttl=10))
    wait_serial(lab.client, serial_holder(lab))
    end = time.monotonic() + 7
    put(lab.client, key=b"no key at all\n")
    while time.monotonic() < end:
        gets_through(lab.client, VIP)
        time.sleep(0.05)
    true(lab.metric("weft_identity_expiry_seconds", identity=spiffe(lab.client)) < 10, "seconds to expiry")
    contains(problems(lab), "certificates", "weft config problems")
    wait_for(lambda: lab.metric("weft_identity_expiry_seconds", identity=spiffe(lab.client)) <= 0, "the certificate to have ended", 15)
    time.sleep(0.5)  # its clock has whole seconds
    in_no_way(lab, lab.client, VIP)
    works(lab, lab.other)
    renewed(lab, lab.client)
    works(lab)


def test_a_root_that_is_believed_no_more(lab):
    """Another CA is the server's node's only one: connections under the old one are cut. Both together, as in a rotation, interrupt nothing."""
    next_ca = hbone_peer.make_ca(name="the next root")
    both = lab.ca.root_pem() + next_ca.root_pem()
    with open_connection(lab) as made:
        for pod in (lab.client, lab.other, lab.web):
            put(pod, root=both)
        after = next_ca.issue(spiffe(lab.web))
        put(lab.web, root=both, key=after.key_pem(), chain=after.chain_pem())
        wait_serial(lab.web, after)
        still_open(made)
        works(lab)
        put(lab.web, root=next_ca.root_pem())
        is_cut(made, 15)
        fails_from_now_on(lab)
    for pod in (lab.client, lab.other, lab.web):
        give(lab, pod)
    works(lab)


def test_files_that_vanish(lab):
    """What was read serves on."""
    before = renewed(lab, lab.client)
    kept = folder(lab.client).rename(folder(lab.client).with_name("aside"))
    wait_for(lambda: "certificates" in problems(lab), lambda: f"a problem to be told: {problems(lab)}", 15)
    works(lab)
    equal(serial(lab.client), before.leaf.serial_number)
    kept.rename(folder(lab.client))
    wait_for(lambda: "certificates" not in problems(lab), lambda: f"the problem to be gone: {problems(lab)}", 15)


main(topology)
