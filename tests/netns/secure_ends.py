#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How connections end reaches the other application through the tunnel as it would without one.

    client ──> web:80 echo, 81 sink, 82 nobody, 83 talks first and half-closes, 84 resets ──> node-2
    client ──> gone: enrolled, but no agent is there
"""

from mesh import *


def topology(lab):
    prepare(lab, ["client"], ["web"])
    strangers(lab, "gone")
    lab.web.serve(80)
    lab.web.serve(81, mode="sink")
    lab.first_half = lab.web.spawn(_first_half, lab.web.ip, 83)
    lab.resets = lab.web.spawn(_resets, lab.web.ip, 84)
    start_all(lab, [lab.client, lab.web, tunnelling(lab.gone)])
    for port in (83, 84):
        wait_for(lambda p=port: listening(lab.web, p), "servers to listen")


def _listener(address, port):
    server = socket.create_server((address, port), backlog=128)
    server.settimeout(60)
    return server


def _first_half(address, port):
    """Sends a megabyte and its end, then counts what comes."""
    with _listener(address, port) as server, server.accept()[0] as made:
        made.settimeout(30)
        made.sendall(b"x" * 1000000)
        made.shutdown(socket.SHUT_WR)
        total = 0
        while part := made.recv(1 << 16):
            total += len(part)
        return total


def _resets(address, port):
    """First connection: resets it after the first bytes. Second: says how it ended."""
    with _listener(address, port) as server:
        made, _peer = server.accept()
        made.settimeout(30)
        made.recv(100)
        reset(made)
        with server.accept()[0] as made:
            made.settimeout(30)
            try:
                while made.recv(100):
                    pass
                return "end"
            except OSError as error:
                return errno.errorcode[error.errno]


def test_the_client_half_closes(lab):
    with lab.client.connect(lab.web.ip, 81) as made:
        made.sendall(b"y" * 300000)
        made.shutdown(socket.SHUT_WR)
        equal(made.recv(100), b"300000")
        equal(made.recv(100), b"", "what follows")


def test_the_server_half_closes(lab):
    with lab.client.connect(lab.web.ip, 83) as made:
        equal(len(recv_exactly(made, 1000000)), 1000000)
        equal(made.recv(100), b"", "what follows")
        made.sendall(b"z" * 200000)
        made.shutdown(socket.SHUT_WR)
        equal(lab.first_half.result(), 200000, "what the server counted after its own end")


def test_resets(lab):
    with lab.client.connect(lab.web.ip, 84) as made:
        made.sendall(b"!")
        is_cut(made, what="a connection that the server reset")
    with lab.client.connect(lab.web.ip, 84) as made:
        made.sendall(b"!")
        # The server has it: its agent dialled before ours may answer, so a byte that came is a connection that stands.
        wait_for(lambda: any(":84" in line for line in sh("nsenter", f"--net=/run/netns/{lab.web.netns}", "ss", "-Htn", "state", "established", "sport = :84").splitlines()),
                 "the connection to reach the server")
        reset(made)
    equal(lab.resets.result(), "ECONNRESET", "how the server saw the client's reset")


def test_nobody_listens(lab):
    start = time.monotonic()
    true(is_refused(lab.client, lab.web.ip, 82) in (errno.ECONNRESET, errno.ECONNREFUSED), "how a refused upstream is seen")
    true(time.monotonic() - start < 5, "a refusal took long")


def test_no_agent_at_the_peer(lab):
    is_refused(lab.client, lab.gone.ip, 80)


def test_closing_at_once(lab):
    for _ in range(50):
        lab.client.connect(lab.web.ip, 80).close()
    equal(lab.client.who(lab.web.ip, 80), "web")


def test_one_byte_at_a_time(lab):
    with lab.client.connect(lab.web.ip, 80) as made:
        read_name(made)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for value in range(256):
            made.sendall(bytes([value]))
            equal(made.recv(10), bytes([value]))


def test_nothing_is_left(lab):
    """Streams that ended leave neither a connection to the application nor one from it."""
    def idle():
        mine = [row for row in conns(lab) if row["state"] == "established"]
        inside = sh("nsenter", f"--net=/run/netns/{lab.web.netns}", "ss", "-Htn", "state", "established", "sport < :1024").splitlines()
        return not mine and not inside

    wait_for(idle, lambda: f"connections to be gone: {conns(lab)}", 10)


main(topology)
