#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Wall clocks that jump, forward and back, on both nodes and on one: certificates are renewed, or refused; nothing goes in plaintext.

    client (node-1) ══ mutual TLS ══> web:80 (node-2), STRICT, certificates of 24 hours
"""

from mesh import *

HOUR = 3600


def topology(lab):
    prepare(lab, ["client"], ["web"])
    lab.web.serve(80)
    for node_lab in (lab, lab.two):
        jump(0, node_lab)
    start_all(lab, [lab.client, lab.web], *web_service(lab.web), peer_authentication("STRICT"), env=_clock)


def _clock(node_lab):
    return {"LD_PRELOAD": str(BUILD / "tests/netns/libweft-clock.so"), "WEFT_CLOCK": str(node_lab.folder / "clock"), "ASAN_OPTIONS": "verify_asan_link_order=0"}


def jump(hours, *nodes):
    """These nodes' clocks are so far ahead from now on."""
    for node_lab in nodes:
        path = node_lab.folder / "clock"
        if not path.exists():
            path.write_bytes(bytes(8))
        with open(path, "r+b") as file:
            file.write(struct.pack("=q", hours * HOUR))


def serials(*nodes):
    return {row["serial"] for node_lab in nodes for row in node_lab.weft("identity", "list")}


@contextlib.contextmanager
def nothing_in_plaintext(lab):
    with Wire(lab, to=80) as wire:
        yield
        equal([flow for flow, data in wire.collect().items() if data and 80 in (flow[1], flow[3])], [], "flows with payload beside the tunnel")


def works(lab):
    def once():
        with contextlib.suppress(OSError):
            return gets_through(lab.client, VIP)
        return False
    wait_for(once, lambda: f"connections to work\n{lab.tail()}\n{lab.two.tail()}", 20)


def renewed(lab, hours, *nodes):
    before = serials(*nodes)
    jump(hours, *nodes)
    wait_for(lambda: not serials(*nodes) & before, lambda: f"certificates to be renewed\n{lab.tail()}\n{lab.two.tail()}", 15)


def test_more_than_half_of_a_life(lab):
    """Renewed at once, and nobody notices: an open connection goes on."""
    works(lab)
    with nothing_in_plaintext(lab), lab.client.connect(VIP, 80) as made:
        read_name(made)
        renewed(lab, 14, lab, lab.two)
        still_open(made)
        works(lab)


def test_beyond_the_end(lab):
    with nothing_in_plaintext(lab):
        renewed(lab, 50, lab, lab.two)
        works(lab)


def test_back_again(lab):
    """Certificates of the future are nobody's."""
    with nothing_in_plaintext(lab):
        renewed(lab, 0, lab, lab.two)
        works(lab)


def test_one_node_is_ahead(lab):
    """By a day and more: what it issues is not valid yet elsewhere, and what others show has ended there. Once it is right again all is well."""
    works(lab)
    with nothing_in_plaintext(lab):
        renewed(lab, 30, lab)
        is_refused(lab.client, VIP)
        is_refused(lab.client, lab.web.ip)
        renewed(lab, 0, lab)
        works(lab)


def test_before_the_authority(lab):
    """The CA's own certificates are not valid yet: none is issued, none of the future is shown, and it is told why."""
    works(lab)
    with nothing_in_plaintext(lab):
        jump(-48, lab, lab.two)
        wait_for(lambda: "certificates" in json.dumps(lab.problems()), lambda: f"a problem to be told\n{lab.tail()}", 20)
        with contextlib.suppress(OSError), lab.client.connect(VIP, 80, timeout=10) as made:
            raise Failure(f"a connection at a time when nobody has a certificate: {made.recv(1)!r}")
        jump(0, lab, lab.two)
        works(lab)
        wait_for(lambda: "certificates" not in json.dumps(lab.problems()), lambda: f"the problem to be gone: {lab.problems()}\n{lab.tail()}", 20)


main(topology)
