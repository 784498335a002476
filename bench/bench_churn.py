# SPDX-License-Identifier: Apache-2.0
"""churn: errors and tail latency while a hundred endpoints a second change, against the calm."""

import random
import threading
import time

from bench_connect import ON, SERVERS, targets
from pairs import Arm, compare, run_pairs
from peers import PORT, Weft, documents, endpoint_slice, mesh_config, replace, service, service_address
import report

METRICS = {
    "request_us.p50": "request on an open connection, p50, us",
    "request_us.p99": "request on an open connection, p99, us",
    "connect_us.p50": "connect() p50, us",
    "connect_us.p99": "connect() p99, us",
    "connection_us.p99": "connect, request and close, p99, us",
    "cpu_us": "CPU of the machine per operation, us",
}
CHANGES = 100  # a second
CONNECTIONS = 16
SHARE = 0.3  # of what the same client reaches in a closed loop


class Changer:
    """Rewrites slices on a schedule. An endpoint goes ready -> terminating, still serving -> away -> ready; two are always ready."""

    NEXT = {"ready": "terminating", "terminating": "away", "away": "ready"}

    def __init__(self, folder, services, addresses):
        self.folder, self.addresses = folder, addresses
        self.state = [dict.fromkeys(addresses, "ready") for _ in range(services)]
        self.random = random.Random(1)
        self.made, self.late = 0, 0.0
        self.thread = None
        self.over = threading.Event()

    def slice(self, index):
        return documents([endpoint_slice(index, [
            {"addresses": [a], "conditions": {"ready": s == "ready", "serving": True, "terminating": s == "terminating"}}
            for a, s in self.state[index].items() if s != "away"], ON)])

    def path(self, index):
        return self.folder / f"slice-{index:05}.yaml"

    def one(self):
        index = self.random.randrange(len(self.state))
        state = self.state[index]
        ready = sum(s == "ready" for s in state.values())
        address = self.random.choice([a for a, s in state.items() if s != "ready" or ready > 2])
        state[address] = self.NEXT[state[address]]
        replace(self.path(index), self.slice(index))
        self.made += 1

    def run(self):
        due = time.monotonic()
        while not self.over.wait(max(0, due - time.monotonic())):
            self.late = max(self.late, time.monotonic() - due)
            self.one()
            due += 1 / CHANGES

    def start(self):
        self.over.clear()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def stop(self):
        self.over.set()
        self.thread.join()


class Churned:
    """A Drive during which a Changer is at work."""

    def __init__(self, drive, changer):
        self.drive, self.changer = drive, changer

    def go(self):
        self.changer.start()
        self.drive.go()

    def figures(self, timeout):
        try:
            return self.drive.figures(timeout)
        finally:
            self.changer.stop()

    def end(self):
        self.drive.end()


def main(new_host, options, progress):
    services = 50 if options.quick else 1000
    with new_host() as host:
        _, *addresses = host.node("node", ("client", *SERVERS))
        for pod, address in zip(SERVERS, addresses):
            host.serve(pod, f"weft/{pod}", address, ON)
        folder = host.folder / "config"
        folder.mkdir()
        changer = Changer(folder, services, addresses)
        (folder / "services.yaml").write_text(documents([mesh_config(goneEndpoint={"policy": "Leave"}),
                                                         *(service(i, ON) for i in range(services))]))
        for index in range(services):
            changer.path(index).write_text(changer.slice(index))
        weft = Weft(host, "weft", "node", folder, 9464)
        where = ("--connections", CONNECTIONS, "--fresh", "half", *targets(host, "services", [(service_address(i), PORT) for i in range(services)]))

        def start(seconds, *more):
            return host.drive("client", "weft/client", "--seconds", seconds, *where, *more)

        probe = Arm("probe", start).measure(host, min(options.seconds, 3), 0)
        rate = SHARE * probe["rate"]
        progress(f"{rate:.0f} operations a second")
        calm = Arm("calm", lambda seconds: start(seconds, "--rate", rate))
        churn = Arm("churn", lambda seconds: Churned(start(seconds, "--rate", rate), changer))
        applied = weft.metric("weft_config_applies_total")
        pairs = run_pairs(host, calm, [calm, churn], options.pairs, options.seconds, progress)
        applied = weft.metric("weft_config_applies_total") - applied
        refused = weft.metric("weft_config_refused")
    results = {name: compare(p, METRICS, options.quick) for name, p in pairs.items()}
    spent = options.pairs * options.seconds
    operations = sum(p["b"]["request_us"]["count"] + p["b"]["connection_us"]["count"] for p in pairs["churn"])
    text = (f"{rate:.0f} operations a second ({SHARE:.0%} of the closed loop) on {CONNECTIONS} threads, open loop: by turns a request on an open "
            f"connection and a\nconnection of its own, to {services} services with four servers; latency counts from the intended start. In the churn arm "
            f"{changer.made / spent:.0f} files a second\nwere replaced, each of which changes one endpoint (ready, then terminating and serving, then away, "
            f"then ready); the agent put them into {applied:.0f}\nchanges of the kernel's maps. `goneEndpoint.policy` is `Leave`: with `Cut`, connections "
            "to an endpoint that is away end by design.\nA/A is calm against calm in the same run. Goals: no error; p99 inside the A/A interval.\n\n"
            f"**Errors: {results['churn']['errors'][1]} of {operations:,} operations under churn**, {results['calm']['errors'][1]} in the calm.\n\n"
            + report.comparison(results, METRICS, base="calm"))
    return text, {"pairs": pairs, "results": results, "changes_made": changer.made, "changes_applied": applied, "refused": refused,
                  "changer_late_s": changer.late, "rate": rate, "probe": probe}
