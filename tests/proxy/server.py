#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Our server side against python3-h2: what it says, what it refuses, and what it does to a peer that stalls."""

import contextlib
import signal
import socket
import struct

import hbone_peer
import relay
from hbone_peer import ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame
from relay import ALICE, inbound, until

HERE = "127.0.0.1"


def peer_of(made, ca, **options):
    return hbone_peer.connect((HERE, made.port), ca.issue(ALICE), ca, **options).settled()


def bytes_both_ways():
    app = relay.App()
    with inbound(app.port) as (made, ca), peer_of(made, ca) as peer:
        assert peer.tls.version() == "TLSv1.3" and peer.tls.selected_alpn_protocol() == "h2", peer.tls.version()
        assert peer.peer_settings[3] == 200 and peer.peer_settings[4] == 65536 and peer.peer_settings[6] == 65536, peer.peer_settings
        stream = peer.request("10.0.0.7:80", [("baggage", "a=1"), ("baggage", "b=2"), ("forwarded", 'for="10.0.0.1:7"'), ("traceparent", "00-a-b-00")])
        assert stream.status() == 200 and not stream.ended
        stream.send(b"x" * 300000)
        stream.end()
        assert stream.read_all() == b"x" * 300000
        line = made.said("request")[0]
        assert line == f'request 10.0.0.7:80 from={ALICE} baggage=a=1,b=2 forwarded=for="10.0.0.1:7" traceparent=00-a-b-00', line
        assert "ended closed" in made.said("ended")[0]


def statuses():
    app = relay.App()
    with inbound(app.port) as (made, ca), peer_of(made, ca) as peer:
        for authority, status in (("10.0.0.9:80", 400), ("10.0.0.9:81", 401)):
            stream = peer.request(authority)
            assert stream.status() == status, stream.headers
            peer.until(lambda stream=stream: stream.ended, 10, "the end")
        assert app.accepted == 0
    with socket.create_server((HERE, 0)) as unused:
        port = unused.getsockname()[1]
    with inbound(port) as (made, ca), peer_of(made, ca) as peer:
        assert peer.request("10.0.0.7:80").status() == 503
        assert "ended unreachable status=503" in made.said("ended")[0]


def resets():
    app = relay.App(reads=False)
    with inbound(app.port) as (made, ca), peer_of(made, ca) as peer:
        stream = peer.request("10.0.0.7:80")
        assert stream.status() == 200
        until(lambda: app.open, "the application")
        app.open[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        app.open.pop().close()
        peer.until(lambda: stream.reset_code is not None, 10, "RST_STREAM")
        assert stream.reset_code == 10, stream.reset_code  # CONNECT_ERROR
        stream = peer.request("10.0.0.7:80")
        assert stream.status() == 200
        until(lambda: app.open, "the application")
        stream.reset(hbone_peer.CANCEL)
        peer.flush()
        app.open[0].settimeout(10)
        try:
            data = app.open[0].recv(1)
            raise AssertionError(f"not a reset: {data}")
        except ConnectionResetError:
            pass
        # After END_STREAM a CANCEL is an end, as ztunnel's h2 drops a stream.
        stream = peer.request("10.0.0.7:80")
        assert stream.status() == 200
        until(lambda: len(app.open) == 2, "the application")
        stream.send(b"all")
        stream.end()
        stream.reset(hbone_peer.CANCEL)
        peer.flush()
        app.open[1].settimeout(10)
        assert app.open[1].recv(10) == b"all" and app.open[1].recv(10) == b""


def requests_that_are_wrong():
    """Each on a connection of its own, with what has to come of it: a status, or None for a reset or a closed connection."""
    method, authority = (":method", "CONNECT"), (":authority", "10.0.0.7:80")
    wrong = {
        "another method": ([(":method", "GET"), (":scheme", "https"), (":path", "/"), authority], 400),
        "a scheme": ([method, (":scheme", "https"), authority], None),
        "a path": ([method, (":path", "/"), authority], None),
        "a scheme and a path": ([method, (":scheme", "https"), (":path", "/"), authority], None),
        "no authority": ([method], None),
        "two authorities": ([method, authority, (":authority", "10.0.0.8:80")], None),
        "an authority that is also host": ([method, (":authority", "10.0.0.7:80"), ("host", "a b")], None),
        "no method": ([authority], None),
        "two methods": ([method, method, authority], None),
        "extended CONNECT": ([method, (":protocol", "websocket"), (":scheme", "https"), (":path", "/"), authority], None),
        "pseudo header last": ([method, ("a", "b"), authority], None),
        "unknown pseudo header": ([method, (":x", "y"), authority], None),
        "capitals": ([method, authority, ("Baggage", "x")], None),
        "connection header": ([method, authority, ("connection", "close")], None),
        "line break": ([method, authority, ("baggage", "a\r\nb: c")], None),
        "a NUL": ([method, authority, ("baggage", "a\0b")], None),
        "101 fields": ([method, authority] + [(f"x-{n}", "y") for n in range(99)], 431),
        "64 KiB": ([method, authority, ("x", "y" * 65536)], None),
    }
    app = relay.App()
    with inbound(app.port) as (made, ca):
        for what, (headers, status) in wrong.items():
            with peer_of(made, ca) as peer:
                # Upper case and control characters are encoded as they are: HPACK has no rule against them.
                block = peer.encode(headers)
                parts = [block[at:at + 16384] for at in range(0, len(block), 16384)]
                data = b""
                for at, part in enumerate(parts):
                    flags = END_HEADERS if at == len(parts) - 1 else 0
                    data += frame(CONTINUATION if at else HEADERS, flags, 1, part)
                try:
                    peer.raw(data)
                    peer.raw(frame(PING, 0, 0, b"answered"))
                    peer.until(lambda: any(kind == PING and flags & ACK for kind, flags, _, _ in peer.frames), 10, "PING")
                except hbone_peer.Closed:
                    assert status is None, what
                answers = [payload for kind, _, _, payload in peer.frames if kind == HEADERS]
                if status:
                    got = hbone_peer.h2.connection.H2Connection().decoder.decode(answers[0])
                    assert got == [(":status", str(status))], (what, got)
                else:
                    ends = [kind for kind, _, _, _ in peer.frames if kind in (RST_STREAM, GOAWAY)]
                    assert not answers and ends, (what, peer.frames)
        assert app.accepted == 0 and not [line for line in made.lines if line.startswith("request")], made.lines
        # At the limit.
        with peer_of(made, ca) as peer:
            headers = [("x-0", "y" * 8000)] + [(f"x-{n}", "y") for n in range(1, 98)]
            assert peer.request("10.0.0.7:80", headers).status() == 200


def streams_beyond_the_limit():
    """Two hundred at once are taken. Whoever asks for one more knows better by then: nghttp2 ends his connection, not others'."""
    app = relay.App()
    with inbound(app.port) as (made, ca), peer_of(made, ca) as good, peer_of(made, ca) as peer:
        streams = [peer.request("10.0.0.7:80") for _ in range(200)]
        assert [stream.status() for stream in streams] == [200] * 200
        until(lambda: app.accepted == 200, "two hundred at the application")
        peer.raw(frame(HEADERS, END_HEADERS, 401, peer.encode([(":method", "CONNECT"), (":authority", "10.0.0.7:80")])))
        code = peer.wait_closed()
        assert code == hbone_peer.PROTOCOL_ERROR, code
        assert app.accepted == 200, "one more was taken"
        assert good.request("10.0.0.7:80").status() == 200


def bytes_that_are_wrong():
    """A connection that says nonsense ends, others go on."""
    app = relay.App()
    with inbound(app.port) as (made, ca), peer_of(made, ca) as good:
        for data in (frame(DATA, 0, 1, b"x"), frame(DATA, 0, 0, b"x"), frame(RST_STREAM, 0, 7, b"\0\0\0\1"), frame(SETTINGS, 0, 1),
                     frame(SETTINGS, 0, 0, b"abc"), frame(PING, 0, 0, b"x"), frame(HEADERS, END_HEADERS, 2, b"\x82"),
                     frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f\x82"), frame(CONTINUATION, 0, 1), b"\xff" * 100,
                     frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)), frame(hbone_peer.PUSH_PROMISE, 4, 1, b"\0\0\0\2"),
                     hbone_peer.window_update(0, 0), frame(HEADERS, 0, 1, b"\x82") + frame(PING, 0, 0, b"12345678")):
            with peer_of(made, ca) as peer:
                peer.raw(data)
                assert peer.wait_closed() in (1, 3, 5, 6, 9), (data, peer.error_code)
        for preface in (b"GET / HTTP/1.1\r\n\r\n" * 10, bytes(100)):
            peer = hbone_peer.connect((HERE, made.port), ca.issue(ALICE), ca, handshake=False)
            peer._greet = lambda peer=peer: setattr(peer, "ready", True)
            peer.handshake()
            peer.raw(preface)
            peer.wait_closed()
        with socket.create_connection((HERE, made.port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.settimeout(10)
            # A reset where OpenSSL gave up before it had read everything, as 3.5 does and 3.0 does not.
            with contextlib.suppress(ConnectionResetError):
                while plain.recv(1000):
                    pass
        assert good.request("10.0.0.7:80").status() == 200


def stalls():
    app = relay.App()
    with inbound(app.port, RELAY_HANDSHAKE_MS="500", RELAY_HEADERS_MS="500") as (made, ca), peer_of(made, ca) as good:
        stream = good.request("10.0.0.7:80")
        assert stream.status() == 200
        # In the handshake.
        for begin in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"):
            with socket.create_connection((HERE, made.port)) as plain:
                plain.sendall(begin)
                plain.settimeout(10)
                while plain.recv(100):
                    pass
        # Before the first frames.
        peer = hbone_peer.connect((HERE, made.port), ca.issue(ALICE), ca, handshake=False)
        peer._greet = lambda peer=peer: setattr(peer, "ready", True)
        peer.handshake()
        peer.bare = True
        peer.wait_closed()
        # In the middle of a CONNECT, slowly.
        with peer_of(made, ca) as peer:
            block = peer.encode([(":method", "CONNECT"), (":authority", "10.0.0.7:80")])
            peer.raw(frame(HEADERS, 0, 1, block[:2]))
            peer.wait_closed()
        made.said("count abuse", 2)
        # Without an answer of ours.
        assert good.request("10.0.0.9:82").status() == 503
        # A tunnel that rests has no limit.
        stream.send(b"still here")
        assert stream.recv_exactly(10) == b"still here"


def a_reader_that_stops():
    app = relay.App(reads=False)
    with inbound(app.port) as (made, ca), peer_of(made, ca) as peer:
        before = made.memory()
        streams = [peer.request("10.0.0.7:80") for _ in range(20)]
        for stream in streams:
            assert stream.status() == 200
        taken = [0] * len(streams)
        for _ in range(200):
            for at, stream in enumerate(streams):
                taken[at] += stream.send_some(b"z" * 65536)
            peer.step(0.005)
        assert all(65535 <= amount < 1000000 for amount in taken), taken
        assert made.memory() - before < 20 * 80 + 1024, made.memory() - before


def silent_peer():
    """No PING is answered: the connection goes, its application sees a reset."""
    app = relay.App(reads=False)
    with inbound(app.port, RELAY_PING_MS="200") as (made, ca), peer_of(made, ca) as peer:
        peer.request("10.0.0.7:80").status()
        until(lambda: app.open, "the application")
        app.open[0].settimeout(40)
        try:
            data = app.open[0].recv(1)
            raise AssertionError(f"not a reset: {data}")
        except ConnectionResetError:
            pass


def drain():
    """Two GOAWAYs: one that takes no stream away, and the last word. What is open goes on."""
    app = relay.App()
    with inbound(app.port) as (made, ca), peer_of(made, ca) as peer:
        assert peer.request("10.0.0.7:80").status() == 200
        peer.raw(b"")
        made.process.send_signal(signal.SIGUSR1)

        def said(kind):
            return [payload for got, _, _, payload in peer.frames if got == kind]

        for count in (1, 2):
            peer.until(lambda count=count: len(said(GOAWAY)) == count, 10, "GOAWAY")
        goaways = [struct.unpack(">II", payload[:8]) for payload in said(GOAWAY)]
        assert goaways == [((1 << 31) - 1, 0), (1, 0)], goaways
        peer.raw(frame(DATA, END_STREAM, 1, b"goes on"))
        peer.until(lambda: b"".join(said(DATA)) == b"goes on", 10, "DATA")
        assert peer.wait_closed() == 0


if __name__ == "__main__":
    relay.run([bytes_both_ways, statuses, resets, requests_that_are_wrong, streams_beyond_the_limit, bytes_that_are_wrong, stalls, a_reader_that_stops, drain, silent_peer])
