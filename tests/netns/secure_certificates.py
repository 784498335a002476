#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Certificates that nobody may believe: as a client of weft's, and as the server that weft's client meets.

    python in `foreign` ══ bad ══> agent of web          client ──> agent ══> python in `foreign`, bad
"""

import ssl

from mesh import *


def topology(lab):
    prepare(lab, ["client"], ["web"])
    strangers(lab, "foreign")
    lab.web.serve(80)
    start_all(lab, [lab.client, lab.web, tunnelling(lab.foreign)], *web_service(lab.web))
    lab.ca = weft_ca(lab)
    lab.bad = hbone_peer.bad_identities(lab.ca, spiffe(lab.foreign))


def believed(lab, identity, **options):
    """Whether weft's server takes a client with this certificate: its SETTINGS come, and a CONNECT is answered."""
    try:
        with hbone(lab.foreign, lab.web, identity, lab.ca, **options) as peer:
            return peer.request(f"{lab.web.ip}:80").status() == 200
    except (OSError, ssl.SSLError):
        return False


def test_as_client(lab):
    true(believed(lab, lab.ca.issue(spiffe(lab.foreign))), "a good certificate was refused")
    before = proxy_count(lab.two, "peer_refused")
    equal([what for what, identity in lab.bad.items() if believed(lab, identity)], [], "believed")
    equal(believed(lab, None), False, "no certificate")
    wait_for(lambda: proxy_count(lab.two, "peer_refused") >= before + len(lab.bad) - 2, lambda: f"peer_refused to be counted: {proxy_count(lab.two, 'peer_refused') - before} of {len(lab.bad)}")
    equal(lab.client.who(VIP, 80), "web")


def test_as_server(lab):
    with _served(lab, lab.ca.issue(spiffe(lab.foreign))):
        gets_through(lab.client, lab.foreign.ip)
    wrong = []
    for what, identity in lab.bad.items():
        with _served(lab, identity):
            try:
                is_refused(lab.client, lab.foreign.ip)
            except Failure:
                wrong.append(what)
    equal(wrong, [], "believed")
    equal(lab.client.who(VIP, 80), "web")


def test_another_service_accounts_certificate_as_server(lab):
    """A good certificate, of another workload: the stolen one of a neighbour."""
    for thief in (spiffe("thief"), spiffe(lab.foreign, namespace="other"), spiffe(lab.web), spiffe(lab.client)):
        with _served(lab, lab.ca.issue(thief)):
            is_refused(lab.client, lab.foreign.ip, what=thief)


def _served(lab, identity):
    return hbone_server(lab.foreign, identity, lab.ca, hbone_peer.Echo(lambda stream: b"foreign\n"))


def test_older_tls_and_other_alpn(lab):
    good = lab.ca.issue(spiffe(lab.foreign))
    equal(believed(lab, good, maximum=ssl.TLSVersion.TLSv1_2), False, "TLS 1.2")
    equal(believed(lab, good, alpn=("http/1.1",)), False, "ALPN http/1.1")
    equal(believed(lab, good, alpn=()), False, "no ALPN")
    equal(believed(lab, good, alpn=("http/1.1", "h2")), True, "h2 as a second choice")


def test_a_certificate_that_ends(lab):
    """While it is open a connection goes on, as whoever showed it has another by now; nobody is believed with it any more."""
    short = lab.ca.issue(spiffe(lab.foreign), ttl=4)
    with hbone(lab.foreign, lab.web, short, lab.ca).settled() as peer:
        stream = peer.request(f"{lab.web.ip}:80")
        equal(stream.status(), 200)
        equal(stream.recv(), b"web\n")
        wait_for(lambda: hbone_peer.now() > short.leaf.not_valid_after, "the certificate to have ended")
        wait_for(lambda: not believed(lab, short), "it to be refused")
        end = time.monotonic() + 11  # open connections are looked at every ten seconds
        while time.monotonic() < end:
            stream.send(b"goes on")
            equal(stream.recv_exactly(7), b"goes on")
            time.sleep(0.2)


main(topology)
