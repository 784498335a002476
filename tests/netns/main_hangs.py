#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A role main that hangs: people and scrapers are answered all the same, traffic goes on, and in the end it is replaced.

    client ──> 10.96.0.1:80 ──> web      while role main of weftd is stopped
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    lab.start()


def soon(what, seconds=1.0):
    start = time.monotonic()
    value = what()
    took = time.monotonic() - start
    true(took < seconds, f"an answer took {took:.1f} s, wanted less than {seconds:g} s")
    return value


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T", "main to stop")
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_answers_while_main_hangs(lab):
    pid = lab.role("main")
    lab.metrics()
    with stopped(pid):
        time.sleep(1.1)  # the text of the last scrape is served that long
        code, text = soon(lab.http, 4.0)
        equal(code, 503, "/metrics")
        contains(text, "main does not answer")
        for _ in range(5):
            status = soon(lab.status)
            equal((status["endpoints"], status["services"], status["ready"]), (1, 1, True))
            equal(soon(lab.http)[0], 503, "/metrics, asked again")
        equal(soon(lambda: lab.request({"request": "log.set", "level": "debug"}))["level"], "debug")
        soon(lab.problems)
        equal(lab.client.spread("10.96.0.1", 80, 20), {"web": 20})
        with socket.socket(socket.AF_UNIX) as watcher:
            watcher.settimeout(10)
            watcher.connect(str(lab.run_folder / "weft.sock"))
            watcher.sendall(b'{"request": "conn.watch"}\n')
            lines = watcher.makefile()
            contains(soon(lines.readline), '"ok"')
            soon(lab.status)
            os.kill(pid, signal.SIGCONT)
            wait_for(lambda: lab.http()[0] == 200, "/metrics to be served again")
            lab.client.who("10.96.0.1", 80)
            contains(lines.readline(), "10.96.0.1:80", "what the watcher reads")
    equal(lab.role("main"), pid, "main, which only paused")
    equal(lab.metric("weft_agent_role_restarts_total"), 0, "restarts")


def test_a_main_that_stays_away_is_replaced(lab):
    pid = lab.role("main")
    lab.metrics()
    with stopped(pid):
        time.sleep(1.1)
        equal(soon(lab.http, 4.0)[0], 503, "/metrics")
        wait_for(lambda: soon(lab.status) and lab.role("main") not in (pid, 0), "another main", 30)
    wait_for(lambda: lab.status()["ready"], "control to be ready again")
    lab.metrics()
    lab.apply("web.yaml", [service("web", "10.96.0.1", ["a=80", "b=81"]), endpoint_slice("web", [lab.web], ["a=80", "b=81"])])
    equal(lab.client.who("10.96.0.1", 80), "web")


main(topology)
