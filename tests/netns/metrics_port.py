#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Another process has the metrics port: that is no reason for connections to fail, and it ends when the port is free.

    client ──> 10.96.0.1:80 ──> web        node: somebody listens on 127.0.0.1:9464
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("mesh.yaml", [node(), service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])


def occupy(lab):
    other = lab.node.new_socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    host, port = METRICS.split(":")
    other.bind((host, int(port)))
    other.listen()
    return other


def served(lab, count):
    """How many times it was said that metrics are served at last."""
    return lab.log.read_text().count("metrics are served on") == count


def test_a_taken_port_costs_metrics_only(lab):
    with occupy(lab):
        lab.start()
        equal(lab.client.who("10.96.0.1", 80), "web", "who answers")
        contains(lab.status()["instance"]["metrics_error"], "Address already in use")
        code, out, err = lab.cli("status")
        equal(code, 0, f"exit code of weft status: {err}")
        contains(out, "Problem: cannot listen there for metrics, trying again: Address already in use")
        lab.kill("control")
        contains(lab.status()["instance"]["metrics_error"], "Address already in use", "what the next control says")
    wait_for(lambda: served(lab, 1), "the port to be taken")
    true(lab.metric("weft_live_connections") == 0, "no metrics")
    true("metrics_error" not in lab.status()["instance"], "the error is still shown")
    equal(lab.log.read_text().count("Address already in use"), 1, "times that it was logged")

    lab.kill("control")
    lab.metrics()
    lab.stop()


def test_an_address_that_comes_later(lab):
    before = lab.log.read_text().count("metrics are served on")
    lab.start("--metrics", "10.77.0.77:9464")
    contains(lab.status()["instance"]["metrics_error"], "Cannot assign requested address")
    ip(lab.prefix + "node", "addr add 10.77.0.77/24 dev br0")
    wait_for(lambda: served(lab, before + 1), "the address to be used")
    contains(lab.metrics_text("10.77.0.77:9464"), "weft_live_connections")
    lab.stop()


def test_an_address_that_never_will_do(lab):
    said = lab.refusal("--metrics", "[fe80::1]:9464", code=1)
    contains(said, "cannot listen on [fe80::1]:9464 for metrics: Invalid argument; choose another address with --metrics, or off")


def test_a_control_that_cannot_take_it(lab):
    """What init says to control finds no room, the listener and a new main's end of their pair: control gets all when it reads again."""
    before = lab.log.read_text().count("metrics are served on")
    with occupy(lab):
        lab.start()
        control, main_pid = lab.role("control"), lab.role("main")
        os.kill(control, signal.SIGSTOP)
        try:
            fill_channel(lab)
            os.kill(main_pid, signal.SIGKILL)
            wait_for(lambda: "main was killed by SIGKILL" in lab.log.read_text(), "init to see main's end")
        except BaseException:
            os.kill(control, signal.SIGCONT)
            raise
    try:
        wait_for(lambda: served(lab, before + 1), "the port to be taken")
    finally:
        os.kill(control, signal.SIGCONT)
    lab.wait_for_another("main", main_pid)
    lab.metrics()
    true("metrics_error" not in lab.status()["instance"], "the error is still shown")
    equal(lab.role("control"), control, "control, which only paused")
    equal(lab.client.who("10.96.0.1", 80), "web", "who answers")
    lab.stop()


def fill_channel(lab):
    """A SIGHUP is a message to control, and each takes at least 512 bytes of the room that a socket has."""
    for _ in range(int(pathlib.Path("/proc/sys/net/core/wmem_default").read_text()) // 512):
        lab.agent.send_signal(signal.SIGHUP)
        wait_for(lambda: not hangup_pends(lab.agent.pid), "SIGHUP to be taken")


def hangup_pends(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^ShdPnd:\s*(\w+)", text, re.MULTILINE)[1], 16) >> (signal.SIGHUP - 1) & 1


main(topology)
