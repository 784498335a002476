#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A cut hits the sockets of the endpoint that is gone and no others, whatever they have in common with them.

    client ──> 10.96.0.1:80 (gone)  ──> web    cut
           ──> 10.96.0.2:80 (stays) ──> web    the same pod and port through another service
           ──> web:80                          the same pod and port without a service
"""

from lab import *


def topology(lab):
    lab.client, lab.web, lab.other = lab.pod("client"), lab.pod("web"), lab.pod("other")
    lab.web.serve()
    lab.web.serve_udp()
    lab.other.serve()
    lab.write("stays.yaml", [service("stays", "10.96.0.2"), endpoint_slice("stays", [lab.web])])
    lab.write("gone.yaml", gone(lab.web))
    lab.start()


def gone(*pods):
    return [service("gone", "10.96.0.1"), endpoint_slice("gone", list(pods))]


def alive(made):
    made.sendall(b"here")
    equal(made.recv(10), b"here", "echo over the held connection")


def open_one(lab, address):
    made = lab.client.connect(address, 80)
    read_name(made)
    return made


def cut(made):
    with fails(errno.ECONNABORTED, errno.ECONNRESET):
        made.recv(1)
    made.close()


def test_only_its_own(lab):
    for feature in ((), ("--without-feature", "sock_destroy")):
        if feature:
            lab.stop()
            lab.start(*feature)
        lab.apply("gone.yaml", gone(lab.web))
        victim, stays, direct = (open_one(lab, a) for a in ("10.96.0.1", "10.96.0.2", lab.web.ip))
        lab.apply("gone.yaml", gone(lab.other))
        cut(victim)
        for made in (stays, direct):
            alive(made)
            reset(made)


def test_a_new_connection_on_the_same_ports(lab):
    """The client's port, the endpoint and its port are those of the victim; only the socket is another."""
    lab.apply("gone.yaml", gone(lab.web))
    victim = open_one(lab, "10.96.0.1")
    port = victim.getsockname()[1]
    reset(victim)
    successor = lab.client.new_socket()
    successor.bind((lab.client.ip, port))
    successor.connect((lab.web.ip, 80))
    read_name(successor)
    lab.apply("gone.yaml", gone(lab.other))
    # A connection that is cut in the same pass says that the pass is over.
    last = open_one(lab, "10.96.0.1")
    lab.apply("gone.yaml", gone(lab.web))
    cut(last)
    alive(successor)
    reset(successor)


def test_back_again_is_another_endpoint(lab):
    """An endpoint that went and came back at once: connections made since then stay."""
    lab.apply("gone.yaml", gone(lab.other))
    lab.apply("gone.yaml", gone(lab.web))
    fresh = open_one(lab, "10.96.0.1")
    lab.apply("gone.yaml", gone(lab.web, lab.other))
    alive(fresh)
    reset(fresh)


main(topology)
