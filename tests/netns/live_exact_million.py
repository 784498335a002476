#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A million connections that end in every way there is, while main is killed and recounts again and again: no drift.

    client-0, client-1 ──> 10.96.0.1, 10.96.0.2, fd96::1 ──┬── web-0    80: as asked, 82: shut with a full queue, 53/UDP
                                                           └── web-1    81: nobody listens
                           83 ──> an address that never answers       84 ──> one without a route

WEFT_TEST_CONNECTIONS sets how many (1000000 unless told). The ways are those of tests/lib/endings.c.
"""

from lab import *

COUNT = int(os.environ.get("WEFT_TEST_CONNECTIONS", "1000000"))
ENDINGS = BUILD / "tests/netns/weft-endings"
VIPS = ["10.96.0.1", "10.96.0.2", "fd96::1"]
PORTS = ["web=80", "shut=81", "queue=82", "udp=53/UDP"]


def topology(lab):
    lab.clients = [lab.pod(f"client-{n}") for n in range(2)]
    lab.webs = [lab.pod(f"web-{n}") for n in range(2)]
    documents = []
    for n, vip in enumerate(VIPS):
        v6 = ":" in vip
        ports = [*PORTS, "hole=83", "far=84"]
        documents += [service(f"s{n}", vip, ports),
                      endpoint_slice(f"s{n}", [endpoint(w.ip6 if v6 else w.ip) for w in lab.webs], PORTS),
                      endpoint_slice(f"s{n}", ["fd77::200" if v6 else "10.77.0.200"], ["hole=83"], name=f"hole-{n}"),
                      endpoint_slice(f"s{n}", ["fd99::1" if v6 else "10.99.0.1"], ["far=84"], name=f"far-{n}")]
    lab.write("mesh.yaml", documents)
    for client in lab.clients:
        for address in ("10.77.0.200", "fd77::200"):  # somebody seems to have it, so that a SYN gets no answer at all
            ip(client.netns, f"neigh add {address} lladdr 02:00:00:00:00:01 dev eth0")
    for pod in [*lab.clients, *lab.webs]:
        pod.run(tune)
    lab.start()
    for web in lab.webs:
        web.popen([ENDINGS, "serve"])
    for web in lab.webs:
        wait_for(lambda w=web: answers(lab.clients[0], w), f"{web} to listen")


def tune():
    """Ports enough, and few connections in TIME_WAIT: they hold nothing of ours, but ports."""
    Lab.tune()
    pathlib.Path("/proc/sys/net/ipv4/tcp_max_tw_buckets").write_text("1000")


def answers(client, web):
    with contextlib.suppress(OSError):
        client.connect(web.ip, 80).close()
        return True
    return False


def tcp_rows(lab, reporter):
    """(opened, ended of those that were open)"""
    rows = [r for r in lab.maps("weft_aggregate") if r["key"]["reporter"] == reporter and r["key"]["protocol"] == socket.IPPROTO_TCP]
    return (sum(r["value"]["opened"] for r in rows),
            sum(r["value"]["ended"] for r in rows if r["key"]["outcome"] in (CLOSED, RESET)))


def load(lab, count, seed):
    share = count // 4
    return [lab.clients[n % 2].popen([ENDINGS, "load", share, seed + n, *VIPS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for n in range(4)]


def made_by(loads):
    for one in loads:
        if one.wait(250):
            raise Failure(f"the load ended with {one.returncode}: {one.stderr.read()}")
    return sum(int(one.communicate()[0]) for one in loads)


def nothing_is_live(lab):
    wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}", 30)
    half = lab.maps("weft_setting")[0]["value"]["epoch"] & 1
    wrong = [r for r in lab.maps("weft_live") if r["value"]["count"][half]]
    equal(wrong, [], "endpoints with live connections")


def test_no_drift(lab):
    """Without a recount, which would put right what has drifted."""
    before = lab.maps("weft_setting")[0]["value"]["epoch"]
    true(made_by(load(lab, COUNT // 2, 1)) >= COUNT // 2, "too few connections")
    nothing_is_live(lab)
    equal(lab.maps("weft_setting")[0]["value"]["epoch"], before, "epoch: a recount meanwhile")


def test_no_drift_by_recounts(lab):
    loads, kills = load(lab, COUNT - COUNT // 2, 100), 0
    while any(one.poll() is None for one in loads):
        lab.kill("main")
        kills += 1
        with contextlib.suppress(subprocess.TimeoutExpired):
            loads[0].wait(0.5)
    true(made_by(loads) >= COUNT // 2, "too few connections")
    true(kills >= 1, "main was never killed")
    nothing_is_live(lab)


def test_all_that_opened_has_ended(lab):
    for reporter in (SOURCE, DESTINATION):
        def even(reporter=reporter):
            opened, ended = tcp_rows(lab, reporter)
            return opened == ended

        wait_for(even, lambda r=reporter: f"opened and ended of reporter {r}: {tcp_rows(lab, r)}", 60)
        true(tcp_rows(lab, reporter)[0] > COUNT // 4, f"reporter {reporter} saw only {tcp_rows(lab, reporter)} of {COUNT}")


def test_outcomes_were_all_seen(lab):
    seen = {r["key"]["outcome"] for r in lab.maps("weft_aggregate") if r["value"]["ended"]}
    equal(seen - {TIMED_OUT}, {CLOSED, RESET, REFUSED, ABANDONED}, "outcomes")


main(topology)
