#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""CONNECT requests that are malformed, or for somebody else, of a peer whose certificate is good: each is refused alone.

    python in `foreign` ══ :15008 ══> agent of web (node-2), whose neighbour is `other`
"""

from mesh import *


def topology(lab):
    prepare(lab, ["client"], ["web", "other"])
    strangers(lab, "foreign")
    lab.web.serve(80, mode="ends")
    lab.other.serve(80, mode="ends")
    start_all(lab, [lab.client, lab.web, lab.other, tunnelling(lab.foreign)], *web_service(lab.web),
              service("other", ["10.96.0.3"]), endpoint_slice("other", [lab.other]))
    lab.ca = weft_ca(lab)
    lab.identity = lab.ca.issue(spiffe(lab.foreign))


def ask(lab, authority, headers=(), method="CONNECT", extra=()):
    """The status, "reset" or "closed"."""
    with hbone(lab.foreign, lab.web, lab.identity, lab.ca).settled() as peer:
        try:
            return peer.request(authority, headers, method, extra).status()
        except ConnectionResetError:
            return "reset"
        except hbone_peer.Closed:
            return "closed"


def good_goes_on(lab):
    gets_through(lab.client, lab.web.ip)
    equal(ask(lab, f"{lab.web.ip}:80"), 200, "a good request")


def test_another_pod(lab):
    before = proxy_count(lab.two, "bad_request")
    for address in (lab.other.ip, lab.client.ip, lab.foreign.ip, lab.two.node.ip, "10.96.0.3", "169.254.169.254", "8.8.8.8"):
        equal(ask(lab, f"{address}:80"), 400, address)
    equal(ask(lab, f"[{lab.web.ip6}]:80"), 400, "its own address of the other family, over a connection to this one")
    wait_for(lambda: proxy_count(lab.two, "bad_request") >= before + 8, "bad_request to be counted")
    good_goes_on(lab)


def test_loopback_and_friends(lab):
    for authority in ("127.0.0.1:80", "[::1]:80", "0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80", "localhost:80", "224.0.0.1:80", "255.255.255.255:80", "[fe80::1]:80"):
        true(ask(lab, authority) in (400, 503), authority)


def test_ports_of_the_agent(lab):
    for port in (15001, 15006, 15008, 15080):
        equal(ask(lab, f"{lab.web.ip}:{port}"), 400, str(port))


def test_names(lab):
    """Gateways and waypoints send names, and they are not served yet; a name is never resolved, whosever it is."""
    for name in ("web.default.svc.cluster.local:80", "other.default.svc.cluster.local:80", "nowhere.default.svc.cluster.local:80", "web.default.svc.cluster.local:81", "example.com:443", "web:80"):
        true(ask(lab, name) in (400, 503), name)


def test_malformed_authorities(lab):
    good = f"{lab.web.ip}:80"
    for authority in ("", ":80", lab.web.ip, f"{lab.web.ip}:", f"{lab.web.ip}:0", f"{lab.web.ip}:65536", f"{lab.web.ip}:99999999999", f"{lab.web.ip}:-80", f"{lab.web.ip}:+80",
                      f"{lab.web.ip}:080x", f"{lab.web.ip}: 80", f" {good}", f"{good} ", f"user@{good}", f"user:secret@{good}", f"http://{good}", f"{good}/", f"{good}/path",
                      f"{good}?a", f"{good}#a", f"{good},{good}", f"{lab.web.ip}:80:80", f"{lab.web.ip6}:80", f"[{lab.web.ip6}]", f"[{lab.web.ip6}:80", f"[{lab.web.ip6}%eth0]:80",
                      f"[{lab.web.ip}]:80", "010.077.000.110:80", "1:80", f"{lab.web.ip}.:80", "%31:80", "a" * 300 + ":80", "*:80"):
        true(ask(lab, authority) in (400, 503, "reset", "closed"), f"authority {authority!r}: {ask(lab, authority)}")
    good_goes_on(lab)


def test_no_authority(lab):
    true(ask(lab, None) in (400, "reset", "closed"), "a CONNECT without :authority")


def test_two_authorities(lab):
    good = f"{lab.web.ip}:80"
    for second in (good, f"{lab.other.ip}:80"):
        true(ask(lab, good, extra=[(":authority", second)]) in (400, "reset", "closed"), f"a second :authority {second}")


def test_other_methods_and_pseudo_headers(lab):
    good = f"{lab.web.ip}:80"
    for method in ("GET", "POST", "connect", "CONNECT ", ""):
        true(ask(lab, good, method=method, extra=[(":scheme", "https"), (":path", "/")]) in (400, 405, "reset", "closed"), f"method {method!r}")
    for extra in ([(":scheme", "https")], [(":path", "/")], [(":protocol", "websocket")], [(":method", "CONNECT")], [(":status", "200")], [(":nonsense", "1")]):
        true(ask(lab, good, extra=extra) in (400, "reset", "closed"), f"pseudo header {extra}")
    good_goes_on(lab)


def test_headers_that_http2_forbids(lab):
    good = f"{lab.web.ip}:80"
    for headers in ([("Upper", "x")], [("connection", "close")], [("transfer-encoding", "chunked")], [("a", "line\r\nbreak")], [("a", "nul\0")], [("a b", "x")], [("", "x")]):
        true(ask(lab, good, headers) in (400, "reset", "closed"), f"headers {headers}")
    good_goes_on(lab)


def test_large_headers(lab):
    """64 KiB are refused, whether in one field, in many, or under a name of HPACK's table that costs its sender a byte a time."""
    good = f"{lab.web.ip}:80"
    equal(ask(lab, good, [("x-fill", "y" * 8000)]), 200, "8 KB of headers")
    for headers in ([("x-fill", "y" * 65536)], [(f"x-{n}", "y" * 1000) for n in range(66)], [("x-same", "y" * 1000)] * 70, [(f"x-{n}", "") for n in range(2000)]):
        true(ask(lab, good, headers) in (400, 431, "reset", "closed"), f"{len(headers)} headers, {sum(len(n) + len(v) for n, v in headers)} bytes")
    good_goes_on(lab)


def test_body_before_the_answer_and_length(lab):
    with hbone(lab.foreign, lab.web, lab.identity, lab.ca).settled() as peer:
        stream = peer.request(f"{lab.web.ip}:80")
        stream.send(b"early")
        equal(stream.status(), 200)
        contains(stream.recv_exactly(len(stream_line(lab, peer, stream))).decode(), "web")
    true(ask(lab, f"{lab.web.ip}:80", [("content-length", "5")]) in (200, 400, "reset", "closed"), "a content-length")


def stream_line(lab, peer, stream):
    peer.until(lambda: b"\n" in stream.inbox, 5, "the server's line")
    return bytes(stream.inbox[:stream.inbox.index(b"\n") + 1])


def test_odd_headers_of_ours(lab):
    """What cannot be read of forwarded, baggage and traceparent is no reason to refuse, and none to believe."""
    good = f"{lab.web.ip}:80"
    for headers in ([("forwarded", "for=")], [("forwarded", 'for="[::"')], [("forwarded", f'for="{lab.foreign.ip}:0"')], [("forwarded", f'for="{lab.foreign.ip}:99999"')], [("forwarded", '"' * 100)],
                    [("baggage", "=,=,,")], [("baggage", "k8s.namespace.name=")], [("baggage", "a=b"), ("baggage", "c=%zz")], [("traceparent", "x")], [("baggage", "k=" + "v" * 4000)]):
        with hbone(lab.foreign, lab.web, lab.identity, lab.ca).settled() as peer:
            stream = peer.request(good, headers)
            equal(stream.status(), 200, str(headers))
            equal(stream.recv().decode().split()[1], lab.foreign.ip, f"the client behind {headers}")


main(topology)
