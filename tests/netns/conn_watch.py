#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Records of connections flow only while somebody watches, and each lost one is counted.

    client ──> 10.96.0.1:80, 10.96.0.2:80 (none) ──> web
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web]), service("none", "10.96.0.2")])
    lab.write("pods.yaml", [pod_resource(lab.client), pod_resource(lab.web)])
    lab.start()


class Watch:
    def __init__(self, lab):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(lab.run_folder / "weft.sock"))
        self.socket.sendall(b'{"request": "conn.watch"}\n')
        self.file = self.socket.makefile()
        self.events, self.lost = [], 0
        wait_for(lambda: watchers(lab) > 0, "the kernel to know of the watcher")

    def until(self, condition):
        while not condition(self.events):
            line = json.loads(self.file.readline())
            true(line.get("ok", True), f"the watch ended: {line}")
            self.lost += line.get("lost", 0)
            self.events += line.get("events", [])
        return self.events

    def close(self):
        self.file.close()
        self.socket.close()


def watchers(lab):
    return lab.maps("weft_setting")[0]["value"]["watchers"]


def test_a_connection_at_both_ends(lab):
    watch = Watch(lab)
    with lab.client.connect("10.96.0.1", 80) as made:
        read_name(made)
        made.sendall(b"x" * 100)
        got = 0
        while got < 100:
            got += len(made.recv(200))
        local = "{}:{}".format(*made.getsockname())
    events = watch.until(lambda e: len([x for x in e if x["type"] == "ended"]) >= 2)
    watch.close()
    for reporter, sent, received in (("source", 100, 104), ("destination", 104, 100)):
        opened, ended = ([x for x in events if x["type"] == t and x["reporter"] == reporter] for t in ("opened", "ended"))
        equal((len(opened), len(ended)), (1, 1), f"records of {reporter}: {events}")
        one = ended[0]
        equal((one["sent"], one["received"], one["outcome"]), (sent, received, "closed"), f"record {one}")
        true(one["duration_ns"] > 0, f"duration of {one}")
        equal(one["local" if reporter == "source" else "remote"], local, "the client's address")
        true(one["source"] and one["destination"] and one["source"] != one["destination"], f"workloads of {one}")
    source = next(x for x in events if x["reporter"] == "source")
    equal(source["frontend"], "10.96.0.1:80")


TCP_REPAIR, TCP_FASTOPEN, MSG_FASTOPEN = 19, 23, 0x20000000
FAST_OPEN = 0x1 | 0x2 | 0x4 | 0x200  # client and server, both without a cookie


def records(lab, count, action):
    """What `action` leaves, and how many nanoseconds it can have taken at most: from before it to the last record."""
    watch = Watch(lab)
    before = time.monotonic_ns()
    action()
    events = watch.until(lambda e: len([x for x in e if x["type"] == "ended"]) >= count)
    elapsed = time.monotonic_ns() - before
    watch.close()
    return events, elapsed


def times_fit(events, elapsed):
    for event in events:
        if event["reporter"] == "source":
            true(0 < event["connect_ns"] <= elapsed, f"time to connect, of at most {elapsed} ns: {event}")
        if event["type"] == "ended":
            true(0 < event["duration_ns"] <= elapsed, f"duration of at most {elapsed} ns: {event}")


def test_times(lab):
    events, elapsed = records(lab, 2, lambda: lab.client.who("10.96.0.1", 80))
    times_fit(events, elapsed)


def test_times_of_a_fast_open(lab):
    """The server's socket is made by a SYN with data, whose time it does not have."""
    listener = lab.web.new_socket()
    listener.bind((lab.web.ip, 82))
    listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    listener.listen()
    lab.apply("fast.yaml", [service("fast", "10.96.0.3", [82]), endpoint_slice("fast", [lab.web], [82])])
    for pod in (lab.client, lab.web):
        sh("nsenter", f"--net=/run/netns/{pod.netns}", "sysctl", "-q", f"net.ipv4.tcp_fastopen={FAST_OPEN}")

    def action():
        with lab.client.new_socket() as made:
            made.setblocking(True)
            equal(made.sendto(b"early", MSG_FASTOPEN, ("10.96.0.3", 82)), 5, "sendto(MSG_FASTOPEN)")
            accepted, _peer = listener.accept()
            with accepted:
                equal(accepted.recv(100), b"early")
            equal(made.recv(1), b"")

    events, elapsed = records(lab, 2, action)
    listener.close()
    opened = [e["reporter"] for e in events if e["type"] == "opened"]
    equal(opened, ["destination", "source"], "ends, of which the server's was there at the SYN")
    times_fit(events, elapsed)


def test_times_without_a_handshake(lab):
    """TCP_REPAIR: connect() alone makes it established, and no packet has come."""
    def action():
        with lab.client.new_socket() as made:
            made.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            made.connect(("10.96.0.1", 80))
            made.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, -1)
            reset(made)

    times_fit(*records(lab, 1, action))


def test_refusals(lab):
    watch = Watch(lab)
    with fails(lab.refused):
        lab.client.connect("10.96.0.2", 80)
    event = watch.until(lambda e: e)[0]
    watch.close()
    equal((event["type"], event["reason"]), ("refused", "no_endpoint"), f"record {event}")


def test_nobody_watches(lab):
    wait_for(lambda: watchers(lab) == 0, lambda: f"no watcher, there are {watchers(lab)}")


def test_two_watchers_see_the_same(lab):
    one, two = Watch(lab), Watch(lab)
    lab.client.who("10.96.0.1", 80)
    for watch in (one, two):
        watch.until(lambda e: len([x for x in e if x["type"] == "ended"]) >= 2)
        watch.close()
    equal(sorted(e["cookie"] for e in one.events), sorted(e["cookie"] for e in two.events))


def test_every_record_arrives_or_is_counted(lab):
    """A watcher that does not read for a while under load: records seen + records lost = connections made."""
    watch = Watch(lab)
    before = lab.counter("event_lost")
    count = 30_000
    tasks = [lab.client.spawn(_many, count // 3) for _ in range(3)]
    for task in tasks:
        task.result(120)
    wait_for(lambda: lab.live() == 0, "the connections to end")
    # What was lost is told with the next record that is not: a few more connections while the watcher reads again.
    drip = lab.client.spawn(_drip)
    watch.until(lambda e: len(e) + watch.lost >= 4 * count)
    wanted = 4 * (count + drip.stop().result())
    # Each connection opens and ends at two ends: four records.
    with contextlib.suppress(TimeoutError):
        watch.until(lambda e: len(e) + watch.lost >= wanted)
    kernel = lab.counter("event_lost") - before
    equal(len(watch.events) + watch.lost, wanted, f"records: {len(watch.events)} seen + {watch.lost} lost (in the ring buffer {kernel})")
    true(watch.lost > 0, "a watcher that did not read lost nothing: more connections are needed here")
    watch.close()


def _drip():
    made = 0
    while not stopping():
        _many(1)
        made += 1
        time.sleep(0.01)  # a trickle, not a flood that loses records itself
    return made


def _many(count):
    for _ in range(count):
        with socket.socket() as made:
            made.settimeout(10)
            made.connect(("10.96.0.1", 80))
            read_name(made)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_cli(lab):
    out = lab.folder / "watch.json"
    argv = [WEFT, "-j", "--pins", lab.pins, "--state", lab.state, "--run", lab.run_folder, "conn", "watch"]
    with open(out, "wb") as file:
        process = subprocess.Popen([str(a) for a in argv], stdout=file, stderr=subprocess.STDOUT)
    lab.processes.append(process)
    wait_for(lambda: watchers(lab) > 0, "the kernel to know of the watcher")
    lab.client.who("10.96.0.1", 80)
    wait_for(lambda: out.read_text().count('"ended"') >= 2, lambda: f"two records that it ended: {out.read_text()}")
    contains(out.read_text(), "web", "names in the records")
    process.send_signal(signal.SIGINT)
    process.wait(10)
    for line in out.read_text().splitlines():
        json.loads(line)


main(topology)
