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


def kill_control(lab):
    before = lab.role("control")
    os.kill(before, signal.SIGKILL)

    def back():
        with contextlib.suppress(OSError, ValueError):
            status = lab.status()
            return status["ready"] and status["roles"][2]["pid"] not in (0, before)

    wait_for(back, "control to come back")


def test_a_taken_port_costs_metrics_only(lab):
    with occupy(lab):
        lab.start()
        equal(lab.client.who("10.96.0.1", 80), "web", "who answers")
        contains(lab.status()["instance"]["metrics_error"], "Address already in use")
        code, out, err = lab.cli("status")
        equal(code, 0, f"exit code of weft status: {err}")
        contains(out, "Problem: cannot listen there for metrics, trying again: Address already in use")
        kill_control(lab)
        contains(lab.status()["instance"]["metrics_error"], "Address already in use", "what the next control says")
    wait_for(lambda: "metrics are served on" in lab.log.read_text(), "the port to be taken")
    true(lab.metric("weft_live_connections") == 0, "no metrics")
    true("metrics_error" not in lab.status()["instance"], "the error is still shown")
    equal(lab.log.read_text().count("Address already in use"), 1, "times that it was logged")

    kill_control(lab)
    equal(lab.http()[0], 200, "/metrics of the next control")
    lab.stop()


main(topology)
