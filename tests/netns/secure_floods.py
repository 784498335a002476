#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Peers with a good certificate that flood, and peers that stall, lose their connection; good clients go on meanwhile.

    python in `foreign` ══ floods, half-open handshakes ══> agent of web <── client, all the time
"""

import resource
import ssl

from mesh import *

# Frames after which the most patient of the peers that were measured had closed.
WORST = {"rapid reset": 2200, "made you reset": 2200, "continuation": 700, "ping": 900, "settings": 900, "empty data": 1000, "window update": 20000}


def topology(lab):
    prepare(lab, ["client"], ["web"])
    strangers(lab, "foreign")
    lab.web.serve(80)
    start_all(lab, [lab.client, lab.web, tunnelling(lab.foreign)], *web_service(lab.web))
    lab.ca = weft_ca(lab)
    lab.identity = lab.ca.issue(spiffe(lab.foreign))


@contextlib.contextmanager
def others_go_on(lab):
    """In the block, and a little longer, a client's new connections all succeed."""
    good = lab.client.spawn(_good, VIP, 80)
    yield
    result = good.stop().result()
    equal(result["errors"], {}, f"errors of the good client beside {result['ok']} successes")


def _good(address, port):
    result = {"ok": 0, "errors": {}}
    while not stopping() or result["ok"] + len(result["errors"]) < 100:
        try:
            with socket.create_connection((address, port), 10) as made:
                read_name(made)
            result["ok"] += 1
        except OSError as error:
            result["errors"][repr(error)] = result["errors"].get(repr(error), 0) + 1
    return result


def flooded(lab, name):
    with others_go_on(lab):
        with hbone(lab.foreign, lab.web, lab.identity, lab.ca).settled() as peer:
            given, code = hbone_peer.flood(peer, name, f"{lab.web.ip}:80", 40000)
            # Without a PING between them what was on its way counts as given: socket buffers hold some thousand small frames.
            true(given <= WORST[name] * (16 if name in ("continuation", "ping", "window update") else 1), f"{name}: {given} frames before the connection was closed")
            true(code in (None, hbone_peer.ENHANCE_YOUR_CALM, hbone_peer.PROTOCOL_ERROR), f"{name}: GOAWAY {code}")
    wait_for(lambda: proxy_count(lab.two, "abuse") + proxy_count(lab.two, "bad_request") > 0, "abuse to be counted")
    gets_through(lab.client, VIP)


def test_rapid_reset(lab):
    flooded(lab, "rapid reset")


def test_made_you_reset(lab):
    flooded(lab, "made you reset")


def test_continuation(lab):
    flooded(lab, "continuation")


def test_ping(lab):
    flooded(lab, "ping")


def test_settings(lab):
    flooded(lab, "settings")


def test_empty_data(lab):
    flooded(lab, "empty data")


def test_window_update(lab):
    flooded(lab, "window update")


def test_a_peer_that_does_not_read(lab):
    """It asks for much and takes nothing, not even at TCP: what we hold for it is bounded."""
    def memory():
        return sum(int(re.search(r"^VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{r['pid']}/status").read_text(), re.MULTILINE)[1])
                   for r in lab.two.status()["roles"] if r["role"].startswith("proxy") and r["pid"])

    before = memory()
    with others_go_on(lab), hbone(lab.foreign, lab.web, lab.identity, lab.ca).settled() as peer:
        stream = peer.request(f"{lab.web.ip}:80")
        equal(stream.status(), 200)
        with contextlib.suppress(hbone_peer.Closed, TimeoutError):
            end = time.monotonic() + 3
            while time.monotonic() < end:
                peer.socket.setblocking(False)
                stream.send_some(b"z" * 65536)
                time.sleep(0.01)
        true(memory() - before < 32 << 10, f"the agent grew by {memory() - before} KiB")


def test_half_open_handshakes(lab):
    """Ten thousand connections that never say a word, or half of one; they are closed in time."""
    with others_go_on(lab):
        held = lab.foreign.run(_half_open, lab.web.ip, sample_size(10000), client_hello())
    equal(held, 0, "half-open handshakes that are still held after 20 s")
    gets_through(lab.client, VIP)


def _half_open(address, count, hello):
    """How many of them the other side has not closed in 20 s."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    made = {}
    with selectors.DefaultSelector() as poll:
        for number in range(count):
            one = socket.socket()
            one.settimeout(5)
            try:
                one.connect((address, HBONE))
                if number % 2:
                    one.sendall(hello[:number % len(hello)])
            except OSError:  # refused is as good as closed
                one.close()
                continue
            one.setblocking(False)
            made[one.fileno()] = one
            poll.register(one, selectors.EVENT_READ)
        end = time.monotonic() + 20
        while made and time.monotonic() < end:
            for key, _ in poll.select(0.5):
                try:
                    ended = not key.fileobj.recv(1 << 14)
                except OSError:
                    ended = True
                if ended:
                    poll.unregister(key.fileobj)
                    del made[key.fd]
                    key.fileobj.close()
    return len(made)


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_stalled_in_the_middle(lab):
    """Of a frame and of a header block: closed in time, or at least alone in its misery."""
    half = hbone_peer.frame(hbone_peer.HEADERS, 0, 1, b"\x3f\xe1\x1f")
    with others_go_on(lab), hbone(lab.foreign, lab.web, lab.identity, lab.ca).settled() as peer:
        peer.raw(half)
        start = time.monotonic()
        peer.wait_closed(20)
        true(time.monotonic() - start < 15, "a header block without end was waited for longer than 15 s")


def test_garbage(lab):
    """Below TLS, inside it, and frames of every type on every kind of stream."""
    with others_go_on(lab):
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\x16\x03\x01\xff\xff" + b"\xff" * 100, os.urandom(200), b"\x15\x03\x03\0\2\2\x28"):
            with lab.foreign.connect(lab.web.ip, HBONE) as made:
                made.sendall(data)
                made.settimeout(10)
                with contextlib.suppress(ConnectionError):
                    while made.recv(1 << 14):
                        pass
        for kind in range(12):
            for flags, stream, payload in ((0, 0, b""), (0xFF, 1, b""), (0, 2, b"x" * 8), (0xFF, 0x7FFFFFFF, b"y" * 100), (0, 0, b"z" * 20000), (4, 1, b"\xff" * 50)):
                with hbone(lab.foreign, lab.web, lab.identity, lab.ca).settled() as peer:
                    with contextlib.suppress(hbone_peer.Closed):
                        peer.raw(hbone_peer.frame(kind, flags, stream, payload))
                        peer.raw(hbone_peer.frame(hbone_peer.PING, 0, 0, b"12345678"))
                        peer.step(0.02)
    for role in lab.two.status()["roles"]:
        true(role["pid"], f"{role['role']} is not there")
    equal(lab.two.metric("weft_agent_role_restarts_total"), 0, "restarts")


main(topology)
