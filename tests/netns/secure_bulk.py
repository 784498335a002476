#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Large transfers arrive whole, beside each other and in both directions; a reader that stops holds little of ours and nobody else.

    client ──> web:80 echo, 81 answers with the hash of what it read, 82 never reads ──> node-2
    client ──> sloth: a foreign agent that never takes what it got
"""

from mesh import *

SIZE = 32 << 20


def topology(lab):
    prepare(lab, ["client"], ["web"])
    strangers(lab, "sloth")
    lab.web.serve(80)
    lab.web.spawn(_hashes, 81)
    lab.web.spawn(_never_reads, 82)
    start_all(lab, [lab.client, lab.web, tunnelling(lab.sloth)])
    for port in (81, 82):
        wait_for(lambda p=port: listening(lab.web, p), "servers to listen")


def blocks(seed, size):
    """Bytes that differ from place to place, 64 KiB at a time."""
    made = hashlib.shake_256(seed).digest(1 << 16)
    for number in range(size >> 16):
        yield struct.pack("!Q", number) + made[8:]


def _hashes(port):
    """Reads to the end, answers with hash and size."""
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64) as server:
        poll, state = selectors.DefaultSelector(), {}
        poll.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in poll.select():
                made = key.fileobj
                if made is server:
                    made, _peer = server.accept()
                    made.settimeout(60)
                    state[made] = [hashlib.sha256(), 0]
                    poll.register(made, selectors.EVENT_READ)
                    continue
                data = made.recv(1 << 18)
                state[made][0].update(data)
                state[made][1] += len(data)
                if not data:
                    made.sendall(f"{state[made][0].hexdigest()} {state[made][1]}\n".encode())
                    poll.unregister(made)
                    made.close()


def _never_reads(port):
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512) as server:
        held = []
        while True:
            held.append(server.accept()[0])


def _upload(address, port, seed, size):
    wanted, total = hashlib.sha256(), 0
    with socket.create_connection((address, port), 60) as made:
        for block in blocks(seed, size):
            made.sendall(block)
            wanted.update(block)
            total += len(block)
        made.shutdown(socket.SHUT_WR)
        return read_name(made) == f"{wanted.hexdigest()} {total}"


def _round_trip(address, port, seed, size):
    """Sends and reads at once, both as fast as they go: whether the same came back."""
    source, wanted, got, left = blocks(seed, size), hashlib.sha256(), hashlib.sha256(), size
    with socket.create_connection((address, port), 60) as made:
        read_name(made)
        made.setblocking(False)
        out = memoryview(b"")
        ended = False
        while left:
            if not out and not ended:
                block = next(source, None)
                if block is None:
                    made.shutdown(socket.SHUT_WR)
                    ended = True
                else:
                    wanted.update(block)
                    out = memoryview(block)
            readable, writable, _ = select.select([made], [made] if out else [], [], 30)
            if writable:
                out = out[made.send(out):]
            if readable:
                part = made.recv(1 << 18)
                if not part:
                    return f"ended with {left} bytes to come"
                got.update(part)
                left -= len(part)
            if not readable and not writable:
                return f"stood still with {left} bytes to come"
    return wanted.hexdigest() == got.hexdigest()


def test_upload(lab):
    equal(lab.client.run(_upload, lab.web.ip, 81, b"up", SIZE), True, "the hash")


def test_both_directions_at_once(lab):
    equal(lab.client.run(_round_trip, lab.web.ip6, 80, b"both", SIZE), True, "the hash")


def test_eight_at_once(lab):
    tasks = [lab.client.spawn(_upload, lab.web.ip, 81, b"%d" % n, SIZE // 4) for n in range(8)]
    tasks += [lab.client.spawn(_round_trip, lab.web.ip, 80, b"%d" % n, SIZE // 4) for n in range(4)]
    equal([task.result(90) for task in tasks], [True] * 12, "the hashes")


def fill(made):
    """Gives what it takes until nothing moves for a while: how much that was."""
    made.setblocking(False)
    total = 0
    while select.select([], [made], [], 0.5)[1]:
        with contextlib.suppress(BlockingIOError):
            total += made.send(b"q" * 65536)
    return total


def memory(node_lab):
    """Private memory of a node's proxies, bytes."""
    total = 0
    for role in node_lab.status()["roles"]:
        if role["role"].startswith("proxy") and role["pid"]:
            text = pathlib.Path(f"/proc/{role['pid']}/smaps_rollup").read_text()
            total += sum(int(value) << 10 for value in re.findall(r"^Private_\w+: +(\d+)", text, re.MULTILINE))
    return total


def test_a_million_bytes_wait(lab):
    with lab.client.new_socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        made.connect((lab.web.ip, 82))
        true(fill(made) < 1000000, "a reader that has stopped took a million bytes")
        with lab.client.connect(lab.web.ip, 80) as other:
            equal(read_name(other), "web")
            still_open(other)


def test_stopped_readers_hold_little(lab):
    count = sample_size(100)
    held = [lab.client.connect(lab.web.ip, 82) for _ in range(4)]
    for made in held:
        fill(made)
    before = memory(lab) + memory(lab.two)
    more = []
    for _ in range(count):
        made = lab.client.connect(lab.web.ip, 82)
        made.setblocking(False)
        more.append(made)
    end, last = time.monotonic() + 10, -1
    total = 0
    while time.monotonic() < end and total != last:
        last = total
        for made in more:
            with contextlib.suppress(BlockingIOError):
                while True:
                    total += made.send(b"q" * 65536)
        time.sleep(0.5)  # what the tunnel still takes it has taken by then
    grown = memory(lab) + memory(lab.two) - before
    # 64 KiB a stream at each agent, and what an allocator and TLS records add
    true(grown <= count * 2 * (64 << 10) * 1.25 + (4 << 20), f"{count} stopped readers hold {grown >> 10} KiB of the agents'")
    equal(lab.client.who(lab.web.ip, 80), "web")
    for made in held + more:
        reset(made)
    wait_for(lambda: not [row for row in conns(lab, state="established") if row["remote"].endswith(":82")], "them to end")


def test_a_foreign_reader_that_stops(lab):
    """The window that it gave is what it gets, and not a byte more."""
    ca = weft_ca(lab)
    with hbone_server(lab.sloth, ca.issue(spiffe(lab.sloth)), ca, _Sloth()) as told:
        with lab.client.connect(lab.sloth.ip, 80) as made:
            taken = fill(made)
            true(taken >= 65535, f"only {taken} bytes were taken")
    equal(told["most"], 65535, "what came to a peer that gives nothing back")


class _Sloth(hbone_peer.Handler):
    def __init__(self):
        self.most = 0

    def data(self, stream):
        self.most = max(self.most, len(stream.inbox))

    def facts(self):
        return {"most": self.most}


main(topology)
