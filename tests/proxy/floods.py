#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each flood ends in GOAWAY ENHANCE_YOUR_CALM and a closed connection, soon, while others are served."""

import ssl

import hbone_peer
import relay
from hbone_peer import ENHANCE_YOUR_CALM, PRIORITY, frame
from relay import ALICE, inbound

# Frames given to the peer in parts of 64, with time for it to answer between them. The best of HAProxy, nginx, h2o, nghttpd, Go and Node stopped after 2,200
# resets, 300 made resets, 900 PINGs, 200 SETTINGS and 1,100 empty DATA frames.
MOST = {"rapid reset": 512, "made you reset": 300, "continuation": 256, "settings": 256, "rapid reset of what is refused": 512}


def priorities(_peer, _authority, count):
    for part in range(0, count, 64):
        yield frame(PRIORITY, 0, 1, b"\0\0\0\0\x10") * min(64, count - part)


def flood(peer, name):
    given = 0
    try:
        for data in hbone_peer.FLOODS[name](peer, "10.0.0.7:80", 20000):
            peer.raw(data)
            given += 64
            peer.step(0.02)
    except (hbone_peer.Closed, ssl.SSLError):
        return given, peer.error_code
    return given, peer.wait_closed()


def floods():
    hbone_peer.FLOODS["priority"] = priorities
    hbone_peer.FLOODS["rapid reset of what is refused"] = lambda peer, _authority, count: hbone_peer.rapid_reset(peer, "10.0.0.9:80", count)
    app = relay.App()
    with inbound(app.port) as (made, ca):
        good = hbone_peer.connect((relay_address := ("127.0.0.1", made.port)), ca.issue(ALICE), ca).settled()
        stream = good.request("10.0.0.7:80")
        assert stream.status() == 200
        before = made.memory()
        for name in hbone_peer.FLOODS:
            peer = hbone_peer.connect(relay_address, ca.issue(ALICE), ca).settled()
            given, code = flood(peer, name)
            print(f"{name}: closed after {given} frames, error {code}", flush=True)
            # Made resets are answered by nghttp2 with what the protocol says: the frame is a connection error already.
            assert code in ((ENHANCE_YOUR_CALM, 1) if name == "made you reset" else (ENHANCE_YOUR_CALM,)), (name, code)
            assert given <= MOST.get(name, 256), (name, given)
            peer.close()
            stream.send(name.encode())
            assert stream.recv_exactly(len(name)) == name.encode()
        assert made.memory() - before < 8192, made.memory() - before
        made.said("count abuse", len(hbone_peer.FLOODS) - 1)
        good.close()


def a_lot_that_is_no_flood():
    """A thousand tunnels, one after another, each with an answer, some given up: nothing of it is abuse."""
    app = relay.App()
    with inbound(app.port) as (made, ca):
        with hbone_peer.connect(("127.0.0.1", made.port), ca.issue(ALICE), ca) as peer:
            for number in range(1000):
                stream = peer.request("10.0.0.7:80")
                assert stream.status() == 200
                stream.send(b"x")
                assert stream.recv_exactly(1) == b"x"
                if number % 2:
                    stream.reset()
                else:
                    stream.end()
                    assert stream.read_all() == b""
        assert not [line for line in made.lines if "abuse" in line], made.lines[-5:]


if __name__ == "__main__":
    relay.run([floods, a_lot_that_is_no_flood])
