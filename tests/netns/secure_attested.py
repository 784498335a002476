#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two pods of one node: attested by the kernel, without crypto; with it on request. A source address alone proves nothing.

    alice ──> web      one node, STRICT, only alice is allowed
    raw sockets and addresses of alice's elsewhere ──> web
"""

from mesh import *

MARKER = b"between neighbours"
ENCRYPT_SAME_NODE = 0x10  # WEFT_SETTING_F_ENCRYPT_SAME_NODE of include/weft/abi/maps.h


def topology(lab):
    prepare(lab, ["alice", "mallory", "web"])
    strangers(lab, "thief")
    lab.web.serve(80, mode="ends")
    only = authorization_policy("only-alice", rules=[from_principals(spiffe(lab.alice))], labels={"app": "web"})
    write_all(lab, "policy.yaml", [peer_authentication("STRICT"), only])
    start_all(lab, [lab.alice, lab.mallory, lab.web], *web_service(lab.web))


def test_attested(lab):
    for address, family in ((VIP, socket.AF_INET), (lab.web.ip, socket.AF_INET), (lab.web.ip6, socket.AF_INET6), (f"::ffff:{lab.web.ip}", socket.AF_INET6)):
        with Wire(lab) as wire:
            with lab.alice.connect(address, 80, family=family) as made:
                _name, peer, _own = read_ends(made)
                equal(peer, (plain(made.getsockname()[0]), made.getsockname()[1]), "the client, as the server sees it")
                still_open(made, MARKER)
                true(conns(lab, security="attested"), f"weft conn list says {conns(lab)}")
                true(not conns(lab, security="mutual_tls"), "mutual_tls without a handshake")
            true(wire.showing(MARKER), "the capture saw nothing at all")
            equal([flow for flow in wire.syns if flow[3] == HBONE], [], "tunnels")
        is_refused(lab.mallory, address)
    wait_for(lambda: lab.metric("istio_tcp_connections_opened_total", connection_security_policy="attested", reporter="destination") > 0, "metrics to say attested")
    equal(lab.metric("istio_tcp_connections_opened_total", connection_security_policy="mutual_tls"), 0, "mutual_tls in metrics")


def test_entries_do_not_stay(lab):
    lab.alice.run(_connects, lab.web.ip, 80, 200)
    wait_for(lambda: not lab.maps("weft_attest"), lambda: f"weft_attest to be empty: {lab.maps('weft_attest')[:3]}")


def _connects(address, port, count):
    for _ in range(count):
        with socket.create_connection((address, port), 10) as made:
            read_name(made)


def _checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _syn(source, destination, port):
    """An IPv4 packet with a SYN."""
    head = struct.pack("!HHIIBBHHH", port, 80, 12345, 0, 5 << 4, 2, 65535, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!BBH", 0, 6, len(head))
    head = head[:16] + struct.pack("!H", _checksum(pseudo + head)) + head[18:]
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(head), 1, 0, 64, 6, 0) + socket.inet_aton(source) + socket.inet_aton(destination) + head


def _send_raw(packets, destination):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as made:
        for packet in packets:
            made.sendto(packet, (destination, 0))


def answered(wire, port, lab):
    """SYN-ACKs that web sent to alice's address and this port."""
    wire.collect()
    flow = (lab.web.ip, 80, lab.alice.ip, port)
    return flow in wire.begin


def test_raw_packets_with_alices_address(lab):
    """From another node and from a neighbour on this one: web's kernel answers none of them with a SYN-ACK."""
    for thief in (lab.thief, lab.mallory):
        before = refused_count(lab, "policy_denied")
        with Wire(lab) as wire:
            ports = range(20000, 20020)
            thief.run(_send_raw, [_syn(lab.alice.ip, lab.web.ip, port) for port in ports], lab.web.ip)
            wait_for(lambda b=before: refused_count(lab, "policy_denied") >= b + len(ports), "all to be refused")
            true(not any(answered(wire, port, lab) for port in ports), "web answered a forged SYN")


def test_raw_packet_on_the_tuple_of_a_live_connection(lab):
    """alice's own connection is open, its entry used up: the same tuple once more proves nothing."""
    with lab.alice.connect(lab.web.ip, 80) as made:
        read_ends(made)
        port = made.getsockname()[1]
        lab.thief.run(_send_raw, [_syn(lab.alice.ip, lab.web.ip, port)], lab.web.ip)
        still_open(made)
    wait_for(lambda: not lab.maps("weft_attest"), "weft_attest to be empty")
    before = refused_count(lab, "policy_denied")
    with Wire(lab) as wire:
        lab.thief.run(_send_raw, [_syn(lab.alice.ip, lab.web.ip, port + 1)], lab.web.ip)
        wait_for(lambda: refused_count(lab, "policy_denied") > before, "the forged SYN to be refused")
        true(not answered(wire, port + 1, lab), "web answered a forged SYN")


def test_alices_address_in_another_namespace(lab):
    """A socket bound to an address that is alice's, elsewhere, reaches web's kernel and is refused there."""
    ip(lab.thief.netns, f"addr add {lab.alice.ip}/32 dev lo")
    try:
        before = refused_count(lab, "policy_denied")
        with lab.thief.new_socket(timeout=2) as made:
            made.bind((lab.alice.ip, 0))
            with Wire(lab) as wire:
                with contextlib.suppress(OSError):
                    made.connect((lab.web.ip, 80))
                    raise Failure("a stolen address was let in")
                wait_for(lambda: refused_count(lab, "policy_denied") > before, "it to be refused")
                true(not answered(wire, made.getsockname()[1], lab), "web answered")
    finally:
        ip(lab.thief.netns, f"addr del {lab.alice.ip}/32 dev lo")


def test_address_reused_by_a_pod_that_is_not_known(lab):
    """alice is gone, her address is another pod's, whose record is not there yet."""
    heir = lab.pod("heir")
    gone = [enrolled(pod) for pod in (lab.mallory, lab.web)]
    apply_all(lab, "pods.yaml", gone)
    ip(lab.alice.netns, f"addr del {lab.alice.ip}/24 dev eth0")
    ip(heir.netns, f"addr add {lab.alice.ip}/24 dev eth0")
    try:
        with heir.new_socket(timeout=3) as made:
            made.bind((lab.alice.ip, 0))
            with fails(errno.ECONNREFUSED, errno.EPERM, errno.ECONNRESET):
                made.connect((lab.web.ip, 80))
                true(made.recv(1) == b"never", "the heir was taken for alice")
    finally:
        ip(heir.netns, f"addr del {lab.alice.ip}/24 dev eth0")
        ip(lab.alice.netns, f"addr add {lab.alice.ip}/24 dev eth0")
        apply_all(lab, "pods.yaml", [enrolled(pod) for pod in (lab.alice, lab.mallory, lab.web)])
        wait_attached(lab.alice)
    gets_through(lab.alice, lab.web.ip)


def test_encrypted_on_request(lab):
    write_all(lab, "mesh.yaml", [mesh_config(sameNode="Encrypted")])
    try:
        wait_for(lambda: lab.maps("weft_setting")[0]["value"]["flags"] & ENCRYPT_SAME_NODE, "the setting to be in force")
        for address in (VIP, lab.web.ip, lab.web.ip6):
            with Wire(lab) as wire:
                with lab.alice.connect(address, 80) as made:
                    _name, peer, _own = read_ends(made)
                    equal(peer, (plain(made.getsockname()[0]), made.getsockname()[1]), "the client, as the server sees it")
                    still_open(made, MARKER)
                    true(conns(lab, security="mutual_tls"), f"weft conn list says {conns(lab)}")
                equal(wire.showing(MARKER), [], "flows that show what was said")
                true(wire.tls() > 0, "there is no TLS on the wire")
            is_refused(lab.mallory, address)
    finally:
        write_all(lab, "mesh.yaml", [mesh_config()])
        wait_for(lambda: not lab.maps("weft_setting")[0]["value"]["flags"] & ENCRYPT_SAME_NODE, "the setting to be in force")
    gets_through(lab.alice, lab.web.ip)


main(topology)
