#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Our client side against python3-h2."""

import contextlib
import socket
import threading

import hbone_peer
import relay
from relay import ALICE, BOB, outbound, until

HERE = "127.0.0.1"


class Recorder(hbone_peer.Echo):
    def __init__(self):
        super().__init__()
        self.requests = []

    def request(self, stream):
        self.requests.append(list(stream.headers))
        super().request(stream)


@contextlib.contextmanager
def serving(handler, identity=BOB, **options):
    """(port, CA, server)"""
    ca = hbone_peer.make_ca()
    listener = socket.create_server((HERE, 0), backlog=1024)
    server = hbone_peer.Server(listener, ca.issue(identity), ca, handler, **options)
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop.is_set,), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], ca, server
    finally:
        stop.set()
        thread.join(10)
        listener.close()


def application(made):
    return socket.create_connection((HERE, made.port), 20)


def read_all(app):
    data = b""
    while part := app.recv(1 << 16):
        data += part
    return data


def expect_reset(app):
    try:
        data = app.recv(1)
    except ConnectionResetError:
        return
    raise AssertionError(f"not a reset: {data}")


def bytes_both_ways():
    handler = Recorder()
    with serving(handler) as (port, ca, server), outbound(port, ca) as made, application(made) as app:
        data = bytes(range(256)) * 2000
        threading.Thread(target=lambda: (app.sendall(data), app.shutdown(socket.SHUT_WR)), daemon=True).start()
        assert read_all(app) == data
        assert handler.requests == [[(":method", "CONNECT"), (":authority", "10.0.0.7:80"), ("baggage", "k8s.namespace.name=shop"),
                                     ("forwarded", 'for="127.0.0.1:1"'),
                                     ("traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00")]], handler.requests
        peer = server.peers[0]
        assert peer.tls.version() == "TLSv1.3" and peer.peer_id() == ALICE
        assert peer.peer_settings[4] == 65536 and peer.peer_settings[2] == 0 and peer.peer_settings[6] == 16384, peer.peer_settings
        assert f"ended closed status=0 sent={len(data)} received={len(data)} peer={BOB}" in made.said("ended")[0]


def statuses():
    for status in (400, 401, 403, 503):
        with serving(hbone_peer.Refuse(status)) as (port, ca, _), outbound(port, ca) as made, application(made) as app:
            app.sendall(b"too early")
            expect_reset(app)
            assert f"ended refused status={status} sent=0" in made.said("ended")[0], made.lines


def nothing_before_the_answer():
    handler = hbone_peer.Silent()
    with serving(handler) as (port, ca, server), outbound(port, ca, RELAY_HEADERS_MS="300", RELAY_HANDSHAKE_MS="300") as made, application(made) as app:
        app.sendall(b"x" * 10000)
        until(lambda: server.peers and server.peers[0].streams, "CONNECT")
        stream = next(iter(server.peers[0].streams.values()))
        expect_reset(app)
        assert not stream.inbox
        assert "ended unreachable" in made.said("ended")[0]


class Resets(hbone_peer.Handler):
    def __init__(self, code, times=1 << 30, answer=True):
        self.code, self.times, self.answer, self.seen, self.echo = code, times, answer, 0, hbone_peer.Echo()

    def request(self, stream):
        self.seen += 1
        if self.seen > self.times:
            self.echo.request(stream)
            return
        if self.answer:
            stream.answer(200)
        stream.reset(self.code)

    def data(self, stream):
        if stream in self.echo.left:
            self.echo.data(stream)


def resets():
    for code in (0, 2, 8, 10):
        with serving(Resets(code)) as (port, ca, _), outbound(port, ca) as made, application(made) as app:
            expect_reset(app)
            assert "ended peer_reset" in made.said("ended")[0]
    # The peer has not begun with it: once more, on another connection.
    handler = Resets(7, 1, False)
    with serving(handler) as (port, ca, server), outbound(port, ca) as made, application(made) as app:
        app.sendall(b"again")
        app.shutdown(socket.SHUT_WR)
        assert read_all(app) == b"again"
        assert handler.seen == 2 and server.accepted == 2, (handler.seen, server.accepted)
    handler = Resets(7, answer=False)
    with serving(handler) as (port, ca, _), outbound(port, ca) as made, application(made) as app:
        expect_reset(app)
        assert handler.seen == 5, handler.seen


def streams_that_the_peer_allows():
    """MAX_CONCURRENT_STREAMS of the peer is kept; more of them go over another connection."""
    with serving(hbone_peer.Echo(), settings={hbone_peer.h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 3}) as (port, ca, server), \
            outbound(port, ca) as made, contextlib.ExitStack() as stack:
        # One after another: what is asked for before its SETTINGS a peer may refuse, and is asked for once more.
        for _ in range(9):
            app = stack.enter_context(application(made))
            app.sendall(b"y")
            assert app.recv(1) == b"y"
        assert server.accepted == 3 and [len(peer.streams) for peer in server.peers] == [3, 3, 3], server.accepted


class GoesAway(hbone_peer.Echo):
    def request(self, stream):
        super().request(stream)
        if stream.number == 1:
            stream.peer.go_away(1)


def goaway():
    with serving(GoesAway()) as (port, ca, server), outbound(port, ca) as made, application(made) as old:
        old.sendall(b"old")
        assert old.recv(3) == b"old"
        for _ in range(3):
            with application(made) as new:
                new.sendall(b"new")
                assert new.recv(3) == b"new"
        assert server.accepted >= 2
        old.sendall(b"still")
        assert old.recv(5) == b"still"


def another_identity():
    with serving(hbone_peer.Echo(), identity=BOB + "2") as (port, ca, _), outbound(port, ca) as made, application(made) as app:
        expect_reset(app)
        line = made.said("ended")[0]
        assert "ended not_trusted" in line and BOB + "2" in line, line


def no_h2():
    with serving(hbone_peer.Echo(), alpn=()) as (port, ca, _), outbound(port, ca) as made, application(made) as app:
        expect_reset(app)
        made.said("ended")


def server_that_writes_nonsense():
    class Nonsense(hbone_peer.Handler):
        def __init__(self, data):
            self.nonsense = data

        def request(self, stream):
            stream.peer.inject(self.nonsense)

    frame = hbone_peer.frame
    for data in (b"\0" * 100, b"HTTP/1.1 200 OK\r\n\r\n", frame(hbone_peer.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"), frame(hbone_peer.HEADERS, 4, 2, b"\x88"),
                 frame(hbone_peer.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"), frame(hbone_peer.DATA, 0, 1, b"before headers")):
        with serving(Nonsense(data)) as (port, ca, _), outbound(port, ca) as made, application(made) as app:
            expect_reset(app)
            made.said("ended")


if __name__ == "__main__":
    relay.run([bytes_both_ways, statuses, nothing_before_the_answer, resets, streams_that_the_peer_allows, goaway, another_identity, no_h2,
               server_that_writes_nonsense])
