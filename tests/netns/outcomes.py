#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How a connection ended is told apart: closed, reset, refused, timed out, abandoned.

    client ──> 10.96.0.1:80 (web)   ──> web:80
           ──> 10.96.0.2:81 (shut)  ──> web:81, nobody listens
           ──> 10.96.0.3:80 (hole)  ──> 10.77.0.200, nobody answers
"""

from lab import *

NOBODY = "10.77.0.200"
TCP_USER_TIMEOUT = 18


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    ip(lab.client.netns, f"neigh add {NOBODY} lladdr 02:00:00:00:00:01 dev eth0")
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web]),
                           service("shut", "10.96.0.2", [81]), endpoint_slice("shut", [lab.web], [81]),
                           service("hole", "10.96.0.3"), endpoint_slice("hole", [NOBODY])])
    lab.start()


def ended(lab):
    return {o: lab.aggregate("ended", reporter=SOURCE, outcome=o) for o in (CLOSED, RESET, REFUSED, TIMED_OUT, ABANDONED)}


def check(lab, outcome, action):
    before = ended(lab)
    action()
    wanted = {**before, outcome: before[outcome] + 1}
    try:
        wait_for(lambda: ended(lab) == wanted, "", 5)
    except Failure:
        equal(ended(lab), wanted, "connections ended by outcome")


def test_closed(lab):
    def action():
        with lab.client.connect("10.96.0.1", 80) as made:
            read_name(made)

    check(lab, CLOSED, action)


def test_reset_by_client(lab):
    def action():
        made = lab.client.connect("10.96.0.1", 80)
        read_name(made)
        reset(made)

    check(lab, RESET, action)


def test_reset_by_server(lab):
    """The server dies with unread data in its socket, which the kernel answers by RST."""
    lab.apply("brittle.yaml", [service("brittle", "10.96.0.4", [82]), endpoint_slice("brittle", [lab.web], [82])])
    listener = lab.web.new_socket()
    listener.bind((lab.web.ip, 82))
    listener.listen()

    def action():
        with lab.client.connect("10.96.0.4", 82) as made:
            accepted, _peer = listener.accept()
            made.sendall(b"never read")
            wait_for(lambda: select.select([accepted], [], [], 1)[0], "data to arrive")
            accepted.close()
            with fails(errno.ECONNRESET):
                made.recv(1)

    check(lab, RESET, action)
    listener.close()


def test_refused(lab):
    def action():
        with fails(errno.ECONNREFUSED):
            lab.client.connect("10.96.0.2", 81)

    check(lab, REFUSED, action)


def test_timed_out(lab):
    def action():
        with lab.client.new_socket() as made:
            made.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 500)
            with fails(errno.ETIMEDOUT):
                made.connect(("10.96.0.3", 80))

    check(lab, TIMED_OUT, action)


def test_abandoned(lab):
    def action():
        with lab.client.new_socket() as made:
            made.setblocking(False)
            equal(made.connect_ex(("10.96.0.3", 80)), errno.EINPROGRESS)

    check(lab, ABANDONED, action)


def test_nothing_is_live(lab):
    wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}")


main(topology)
