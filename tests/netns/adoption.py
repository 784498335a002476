#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Any role may be killed at any time: connects succeed, connections and counters go on, what is pinned is adopted.

    client-0, client-1 ──> 10.96.0.1:80 ──┬── web-a      under load while
                                          └── web-b      weftd's roles are killed with -9
"""

from lab import *

RECVMSG = {"x86_64": 47, "aarch64": 212}[os.uname().machine]

# All of it is dumped and compared.
SMALL = ["--map-size", "weft_endpoint=1024"]


def topology(lab):
    lab.clients = [lab.pod("client-0"), lab.pod("client-1")]
    lab.webs = [lab.pod("web-a"), lab.pod("web-b")]
    for web in lab.webs:
        web.serve()
    lab.write("web.yaml", documents(lab, lab.webs))
    lab.start(*SMALL)


def documents(lab, webs):
    return [service("web", "10.96.0.1"), endpoint_slice("web", webs)]


def links(lab):
    """{hook: id of its link} of the links on cgroups."""
    found = {}
    for file in (lab.pins / "v1/link").iterdir():
        link = pinned_link(file)
        if link["type"] == "cgroup":
            found[file.name] = link["id"]
    return found


def opened(lab):
    return sum(lab.aggregate("opened", reporter=SOURCE, outcome=o) for o in range(6))


def survive(lab, kill):
    """Runs kill() under load with one connection held across; kill() returns how many connections it made itself."""
    held = lab.clients[0].connect("10.96.0.1", 80)
    read_name(held)
    before, ids, start = links(lab), names(lab), opened(lab)
    tasks = [client.load("10.96.0.1", 80) for client in lab.clients]
    wait_for(lambda: opened(lab) > start + 100, "the load to run")
    extra = kill() or 0
    done = opened(lab)
    wait_for(lambda: opened(lab) > done + 100, "the load to go on")
    results = [t.stop().result() for t in tasks]
    for result in results:
        equal(result["errors"], {}, "errors under load")
        equal(set(result["names"]), {"web-a", "web-b"}, "who answered")
    equal(links(lab), before, "links and their ids")
    equal(names(lab), ids, "ids and names")
    held.sendall(b"still")
    equal(held.recv(100), b"still", "the connection held across")
    reset(held)
    total = start + sum(r["ok"] for r in results) + 1 + extra
    wait_for(lambda: lab.live() == 0, lambda: f"live connections to be 0, they are {lab.live()}")
    # The connection held since before `start` was read may be in it already or not.
    true(opened(lab) in (total - 1, total), f"opened: got {opened(lab)}, wanted {total} connections in all")


def names(lab):
    """Records of the names file that are in use, without order."""
    records = {}
    for line in (lab.state / "names").read_text().splitlines()[1:]:
        kind, number, *rest = line.split("\t")
        if kind.startswith("-"):
            records.pop((kind[1:], number), None)
        else:
            records[kind, number] = rest
    return records


def test_main(lab):
    survive(lab, lambda: lab.kill("main"))


def test_control(lab):
    survive(lab, lambda: lab.kill("control"))


def test_both_several_times(lab):
    def kill():
        for _ in range(3):
            lab.kill("control")
            lab.kill("main")

    survive(lab, kill)


def test_init(lab):
    def kill():
        roles = {r["role"]: r["pid"] for r in lab.status()["roles"]}
        equal(lab.stop(signal.SIGKILL), -signal.SIGKILL)
        for pid in (roles["main"], roles["control"]):
            wait_for(lambda p=pid: not os.path.exists(f"/proc/{p}"), "the other roles to end with init")
        lab.start(*SMALL)
        true(lab.status()["adopted"], "the new agent did not adopt what was pinned")

    survive(lab, kill)


def test_no_agent_at_all(lab):
    def kill():
        equal(lab.stop(), 0)
        made = lab.clients[0].run(connects, "10.96.0.1", 200)
        lab.start(*SMALL)
        return made

    survive(lab, kill)


def connects(address, count):
    for _ in range(count):
        with socket.create_connection((address, 80), 5) as made:
            read_name(made)
    return count


def sent(lab, control, service_name):
    """Control has named this service, which it does before it sends, and waits for main's answer."""
    if f"\t{service_name}\t" not in (lab.state / "names").read_text():
        return False
    return pathlib.Path(f"/proc/{control}/syscall").read_text().split()[0] == str(RECVMSG)


def test_control_within_a_change(lab):
    """Killed when main has its batch, of which it has done nothing yet: all of it comes into force, and until then none."""
    main_pid, control = lab.role("main"), lab.role("control")
    loads = [client.load("10.96.0.1", 80) for client in lab.clients]
    os.kill(main_pid, signal.SIGSTOP)
    try:
        more = [d for n in range(100) for d in (service(f"more-{n}", f"10.96.1.{n + 1}"), endpoint_slice(f"more-{n}", lab.webs[1:]))]
        lab.write("web.yaml", [*documents(lab, lab.webs[:1]), *more])
        wait_for(lambda: sent(lab, control, "more-99"), "control to have sent its batch")
        os.kill(control, signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f"/proc/{control}") or "Z" in pathlib.Path(f"/proc/{control}/stat").read_text(), "control to be gone")
        equal(lab.clients[0].spread("10.96.0.1", 80, 50).keys(), {"web-a", "web-b"}, "who answers before")
        with fails(errno.ENETUNREACH):
            lab.clients[0].connect("10.96.1.1", 80)
    finally:
        os.kill(main_pid, signal.SIGCONT)
    lab.wait_for_another("control", control)
    equal(lab.clients[0].spread("10.96.0.1", 80, 50).keys(), {"web-a"}, "who answers after")
    for n in (0, 50, 99):
        equal(lab.clients[0].who(f"10.96.1.{n + 1}", 80), "web-b", f"who answers for more-{n}")
    for load in loads:
        equal(load.stop().result()["errors"], {}, "errors under load")
    equal(lab.role("main"), main_pid, "main, which only paused")
    lab.apply("web.yaml", documents(lab, lab.webs))


def test_unchanged_configuration_writes_nothing(lab):
    generation = [json.loads(sh("bpftool", "-j", "map", "dump", "pinned", lab.pins / "v1/map" / m)) for m in ("weft_frontend", "weft_endpoint")]
    lab.kill("control")
    again = [json.loads(sh("bpftool", "-j", "map", "dump", "pinned", lab.pins / "v1/map" / m)) for m in ("weft_frontend", "weft_endpoint")]
    equal(again[0], generation[0], "weft_frontend")
    equal(again[1], generation[1], "weft_endpoint")


def test_configuration_that_changed_meanwhile(lab):
    equal(lab.stop(), 0)
    lab.write("web.yaml", documents(lab, lab.webs[:1]))
    lab.start(*SMALL)
    equal(lab.clients[0].spread("10.96.0.1", 80, 50), {"web-a": 50})


def test_a_names_file_that_was_cut(lab):
    """At the end of a line, where nothing looks wrong: it is said and kept aside, and what it still has is used."""
    equal(lab.stop(), 0)
    file = lab.state / "names"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]))
    lab.start(*SMALL)
    said = [line for line in lab.log.read_text().splitlines() if "names.bad" in line]
    equal(len(said), 1, f"times that it was said: {said}")
    contains(said[0], f"ends after 1 of at least {int(lines[0].split()[2])} records, something has cut it: put it back from a backup")
    equal((lab.state / "names.bad").read_bytes(), b"".join(lines[:2]), "what was kept aside")
    equal(lab.clients[0].spread("10.96.0.1", 80, 50), {"web-a": 50})
    lab.stop()
    lab.start(*SMALL)
    equal(sum("names.bad" in line for line in lab.log.read_text().splitlines()), 1, "times that it was said in all")


main(topology)
