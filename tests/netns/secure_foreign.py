#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An HBONE peer that is not weft's, on python3-h2, in both directions.

    client (node-1) ──> agent ══ :15008 ══> python in `foreign`          what weft sends
    python in `foreign` ══ :15008 ══> agent ──> web:80 (node-2)          what weft accepts
"""

from mesh import *

MARKER = b"heard by a stranger"


def topology(lab):
    prepare(lab, ["client"], ["web"])
    strangers(lab, "foreign")
    lab.web.serve(80, mode="ends")
    lab.web.serve(81, mode="sink")
    start_all(lab, [lab.client, lab.web, tunnelling(lab.foreign)], service("far", ["10.96.0.2"]), endpoint_slice("far", [lab.foreign]), *web_service(lab.web))
    lab.ca = weft_ca(lab)
    lab.identity = lab.ca.issue(spiffe(lab.foreign))


# ---- weft as the client ----


class _Tells(hbone_peer.Echo):
    """Says in its first line what the request was."""

    def __init__(self):
        super().__init__(lambda stream: json.dumps({"headers": stream.headers, "peer": stream.peer.peer_id(), "alpn": stream.peer.tls.selected_alpn_protocol(),
                                                    "version": stream.peer.tls.version(), "from": stream.peer.socket.getpeername()[0],
                                                    "settings": stream.peer.peer_settings}).encode() + b"\n")


def served(lab, handler, identity=None):
    return hbone_server(lab.foreign, identity or lab.identity, lab.ca, handler)


def test_what_weft_asks_for(lab):
    with served(lab, _Tells()):
        for address in ("10.96.0.2", lab.foreign.ip, lab.foreign.ip6):
            with lab.client.connect(address, 80) as made:
                told = json.loads(read_name(made))
                mine = made.getsockname()
                still_open(made, MARKER)
            v6 = ":" in address
            headers = {}
            for name, value in told["headers"]:
                headers.setdefault(name, []).append(value)
            equal(headers[":method"], ["CONNECT"])
            equal(headers[":authority"], [f"[{lab.foreign.ip6}]:80" if v6 else f"{lab.foreign.ip}:80"])
            true(":path" not in headers and ":scheme" not in headers, f"pseudo headers of a CONNECT: {list(headers)}")
            equal(plain(told["from"]), lab.client.ip6 if v6 else lab.client.ip, "where the tunnel comes from")
            equal(told["peer"], spiffe(lab.client), "whose certificate it shows")
            equal((told["alpn"], told["version"]), ("h2", "TLSv1.3"))
            own = f"[{mine[0]}]:{mine[1]}" if v6 else f"{mine[0]}:{mine[1]}"
            contains(headers["forwarded"][0], f'for="{own}"', "forwarded")
            contains(headers["baggage"][0], "k8s.namespace.name=default", "baggage")
            contains(headers["baggage"][0], "client", "baggage")
            true(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", headers["traceparent"][0]), f"traceparent {headers['traceparent']}")
            equal(told["settings"].get("2", 0), 0, "SETTINGS_ENABLE_PUSH")


def test_service_host_is_named(lab):
    with served(lab, _Tells()):
        with lab.client.connect("10.96.0.2", 80) as made:
            forwarded = dict(json.loads(read_name(made))["headers"])["forwarded"]
        contains(forwarded, "host=far.default.svc.cluster.local")


def test_its_refusals_are_resets(lab):
    for status in (400, 401, 403, 404, 500, 503):
        with served(lab, hbone_peer.Refuse(status)):
            is_refused(lab.client, lab.foreign.ip, what=f"status {status}")


def test_no_bytes_before_it_accepted(lab):
    """Nothing reaches a peer that has not said 200."""
    with served(lab, _Late()), lab.client.connect(lab.foreign.ip, 80) as made:
        made.sendall(MARKER)
        equal(read_name(made), "0", "how many bytes came before the answer")
        equal(recv_exactly(made, len(MARKER)), MARKER)


class _Late(hbone_peer.Echo):
    """Answers after half a second, says how much was there by then, and echoes."""

    def __init__(self):
        super().__init__()
        self.waiting = {}

    def request(self, stream):
        self.waiting[stream] = time.monotonic() + 0.5

    def tick(self):
        for stream in [s for s, due in self.waiting.items() if time.monotonic() > due]:
            del self.waiting[stream]
            stream.answer(200)
            self.left[stream] = bytearray(f"{len(stream.inbox)}\n".encode())
            self.data(stream)


def test_half_close_both_ways(lab):
    with served(lab, hbone_peer.Echo()), lab.client.connect(lab.foreign.ip, 80) as made:
        made.sendall(MARKER)
        made.shutdown(socket.SHUT_WR)
        equal(recv_exactly(made, len(MARKER)), MARKER)
        equal(made.recv(10), b"", "what follows")


class _Resets(hbone_peer.Handler):
    def data(self, stream):
        if stream.inbox:
            stream.reset(hbone_peer.CANCEL)


def test_its_reset_is_a_reset(lab):
    with served(lab, _Resets()), lab.client.connect(lab.foreign.ip, 80) as made:
        made.sendall(b"!")
        is_cut(made)


class _Notes(hbone_peer.Echo):
    """Echoes, and keeps how streams ended."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def ended(self, stream):
        self.ends.append("end" if stream.reset_code is None else "reset")

    def facts(self):
        return {"ends": self.ends}


def test_our_resets_are_its_resets(lab):
    with served(lab, _Notes()) as told:
        for reset_it in (False, True):
            with lab.client.connect(lab.foreign.ip, 80) as made:
                made.sendall(b"x")
                equal(recv_exactly(made, 1), b"x")
                if reset_it:
                    reset(made)
        time.sleep(0.3)  # the server has read what is in its socket by then
    equal(told["ends"], ["end", "reset"])


def test_goaway_moves_new_streams(lab):
    """A peer that says GOAWAY gets no new stream on that connection; those that are open go on."""
    with served(lab, _GoesAway()), lab.client.connect(lab.foreign.ip, 80) as first:
        still_open(first)
        for _ in range(5):
            with lab.client.connect(lab.foreign.ip, 80) as made:
                still_open(made)
        still_open(first)


class _GoesAway(hbone_peer.Echo):
    def request(self, stream):
        super().request(stream)
        stream.peer.go_away(stream.number)


def test_a_peer_with_another_identity_is_not_spoken_to(lab):
    before = proxy_count(lab, "peer_refused")
    with served(lab, _Tells(), lab.ca.issue(spiffe("somebody"))):
        is_refused(lab.client, lab.foreign.ip)
    wait_for(lambda: proxy_count(lab, "peer_refused") > before, "peer_refused")


def test_a_server_that_stalls(lab):
    """In the middle of CONNECT: the application is told within the time that docs say; others go on."""
    with served(lab, hbone_peer.Silent()), lab.client.connect(lab.foreign.ip, 80, timeout=20) as made:
        gets_through(lab.client, lab.web.ip)
        is_cut(made, 20)


def test_a_server_that_stalls_in_its_handshake(lab):
    listener = lab.foreign.new_socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", HBONE))
    listener.listen(16)
    with listener, lab.client.connect(lab.foreign.ip, 80, timeout=20) as made:
        start = time.monotonic()
        is_cut(made, 20)
        true(time.monotonic() - start < 10, "it took longer than 10 s")
        gets_through(lab.client, lab.web.ip)


# ---- weft as the server ----


def to_web(lab, **options):
    return hbone(lab.foreign, lab.web, lab.identity, lab.ca, **options).settled()


def test_what_weft_accepts(lab):
    with to_web(lab) as peer:
        equal(peer.peer_id(), spiffe(lab.web), "whose certificate weft shows")
        equal(peer.tls.version(), "TLSv1.3")
        true(peer.peer_settings.get(3, 0) >= 200, f"streams at once: {peer.peer_settings}")
        stream = peer.request(f"{lab.web.ip}:80", {"forwarded": f'for="{lab.foreign.ip}:54321"', "baggage": "k8s.namespace.name=default", "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"})
        equal(stream.status(), 200)
        name, address, _port, own, own_port = stream.recv().decode().split()
        equal((name, address, own, own_port), ("web", lab.foreign.ip, lab.web.ip, "80"), "what the application sees")
        stream.send(MARKER)
        equal(stream.recv_exactly(len(MARKER)), MARKER)
        stream.end()
        equal(stream.read_all(), b"")


def test_v6(lab):
    with hbone(lab.foreign, lab.web.ip6, lab.identity, lab.ca).settled() as peer:
        stream = peer.request(f"[{lab.web.ip6}]:80")
        equal(stream.status(), 200)
        equal(stream.recv().decode().split()[1], lab.foreign.ip6, "the client, as the application sees it")


def test_many_streams_on_one_connection(lab):
    with to_web(lab) as peer:
        streams = [peer.request(f"{lab.web.ip}:80") for _ in range(200)]
        equal([stream.status() for stream in streams], [200] * 200)
        for number, stream in enumerate(streams):
            contains(stream.recv().decode(), "web")
            stream.send(b"%06d" % number)
        equal([stream.recv_exactly(6) for stream in streams], [b"%06d" % number for number in range(200)])


def test_a_sink_hears_the_end(lab):
    with to_web(lab) as peer:
        stream = peer.request(f"{lab.web.ip}:81")
        equal(stream.status(), 200)
        stream.send(b"d" * 1000000)
        stream.end()
        equal(stream.read_all(), b"1000000")


def test_a_refused_application(lab):
    with to_web(lab) as peer:
        equal(peer.request(f"{lab.web.ip}:99").status(), 503)
        equal(peer.request(f"{lab.web.ip}:80").status(), 200, "the next stream")


def test_a_reset_reaches_the_application(lab):
    with to_web(lab) as peer:
        stream = peer.request(f"{lab.web.ip}:80")
        equal(stream.status(), 200)
        _name, _address, port, _own, _own_port = stream.recv().decode().split()
        stream.reset()
        wait_for(lambda: not sh("nsenter", f"--net=/run/netns/{lab.web.netns}", "ss", "-Htn", f"sport = :80 and dport = :{port}").strip(), "the application's connection to go, without TIME-WAIT")


def test_pings_are_answered(lab):
    with to_web(lab) as peer:
        peer.pings = 1
        peer.h2.ping(b"12345678")
        peer.until(lambda: peer.pings == 0, 5, "the answer to a PING")


def test_spoofed_headers(lab):
    """Neither forwarded nor baggage says who a peer is: policy and the application see its certificate and address."""
    rule = authorization_policy("only-client", rules=[from_principals(spiffe(lab.client))], labels={"app": "web"})
    block = authorization_policy("only-block", "DENY", [{"from": [{"source": {"ipBlocks": [f"{lab.foreign.ip}/32"]}}]}], labels={"app": "web"})
    spoof = {"forwarded": f'for="{lab.client.ip}:1234"', "baggage": "k8s.namespace.name=default,k8s.pod.name=client,service.name=client",
             "x-forwarded-client-cert": f"URI={spiffe(lab.client)}", "x-forwarded-for": lab.client.ip}
    with to_web(lab) as peer:
        stream = peer.request(f"{lab.web.ip}:80", spoof)
        equal(stream.status(), 200)
        equal(stream.recv().decode().split()[1], lab.foreign.ip, "the client, as the application sees it")
    for policy in (rule, block):
        apply_all(lab, "policy.yaml", [policy])
        try:
            with to_web(lab) as peer:
                equal(peer.request(f"{lab.web.ip}:80", spoof).status(), 401, policy["metadata"]["name"])
        finally:
            remove_all(lab, "policy.yaml")


def test_policy_cuts_its_streams(lab):
    with to_web(lab) as peer:
        stream = peer.request(f"{lab.web.ip}:80")
        equal(stream.status(), 200)
        stream.recv()
        apply_all(lab, "policy.yaml", [authorization_policy("only-client", rules=[from_principals(spiffe(lab.client))], labels={"app": "web"})])
        try:
            with fails_stream():
                stream.recv(timeout=10)
        finally:
            remove_all(lab, "policy.yaml")


@contextlib.contextmanager
def fails_stream():
    try:
        yield
    except ConnectionError:
        return
    raise Failure("the stream went on")


main(topology)
