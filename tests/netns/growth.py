#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Maps that are too small for the configuration are built anew larger while they are in use; beyond a ceiling nothing changes.

    client-0, client-1 ──> 10.96.0.1:80 ──┬── web-a      under load while every configuration map
                                          └── web-b      outgrows its size
"""

from lab import *

# Above what web.yaml needs, far below what many() does.
SMALL = {"frontend": 64, "slot": 16, "endpoint": 32, "endpoint_at": 32, "workload_at": 32, "pod": 4}
LIMIT = 4096
REAL = (0, 1, 299)  # services of many() that can be asked


def topology(lab):
    lab.clients = [lab.pod("client-0"), lab.pod("client-1")]
    lab.webs, lab.spare = [lab.pod("web-a"), lab.pod("web-b")], lab.pod("spare")
    for web in lab.webs:
        web.serve()
    lab.write("node.yaml", node())
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", lab.webs), destination_rule("web.default.svc.cluster.local", "LEAST_REQUEST")])
    sizes = [word for name, size in SMALL.items() for word in ("--map-size", f"{name}={size}")]
    lab.start(*sizes, "--map-max", f"frontend={LIMIT}", env=lab.faults_env())


def many(lab, count):
    """Services of two endpoints each, half of them on this node, and pods that are bound to a namespace."""
    documents = [pod_resource(pod) for pod in [*lab.clients, *lab.webs, lab.spare]]
    for n in range(count):
        here = {"nodeName": "node-1"}
        documents.append(service(f"many-{n}", f"10.97.{n // 250}.{n % 250 + 1}", internalTrafficPolicy="Cluster"))
        other = lab.webs[0] if n in REAL else f"10.77.9.{n % 250 + 1}"
        documents.append(endpoint_slice(f"many-{n}", [endpoint(lab.webs[1], **here), endpoint(other, **here)]))
    return documents


def size(lab, name):
    return lab.entries(f"weft_{name}")


def ids(lab):
    """Ids of the links on cgroups: the same before and after means that nothing was detached in between."""
    found = {}
    for file in (lab.pins / "v1/link").iterdir():
        link = pinned_link(file)
        if link["type"] == "cgroup":
            found[file.name] = link["id"]
    return found


def under_load(lab, change):
    """Runs change() between connects of two clients, none of which may fail, with connections held across it."""
    held = [lab.clients[n % 2].connect("10.96.0.1", 80) for n in range(10)]
    for made in held:
        read_name(made)
    links, roles = ids(lab), {r["role"]: r["pid"] for r in lab.status()["roles"]}
    opened = lambda: sum(lab.aggregate("opened", reporter=SOURCE, outcome=o) for o in range(6))
    start = opened()
    tasks = [client.load("10.96.0.1", 80) for client in lab.clients]
    wait_for(lambda: opened() > start + 100, "the load to run")
    change()
    done = opened()
    wait_for(lambda: opened() > done + 100, "the load to go on")
    for task in tasks:
        result = task.stop().result()
        equal(result["errors"], {}, "errors under load")
        equal(set(result["names"]), {"web-a", "web-b"}, "who answered")
    wait_for(lambda: lab.live() == len(held), lambda: f"live connections to be the {len(held)} held ones, they are {lab.live()}")
    for made in held:
        made.sendall(b"still")
        equal(made.recv(100), b"still", "a connection held across")
        reset(made)
    wait_for(lambda: lab.live() == 0, lambda: f"no live connections, there are {lab.live()}")
    equal(ids(lab), links, "links and their ids")
    equal({r["role"]: r["pid"] for r in lab.status()["roles"]}, roles, "roles")


def test_every_map_grows_under_load(lab):
    equal({name: size(lab, name) for name in SMALL}, SMALL, "sizes before")
    under_load(lab, lambda: lab.apply("many.yaml", many(lab, 300), timeout=30))
    wait_for(lambda: lab.problems() == [], lambda: f"no problems, there are {lab.problems()}")
    true(size(lab, "frontend") >= 301 and size(lab, "endpoint") >= 603 and size(lab, "slot") >= 602, "maps did not grow")
    true(size(lab, "pod") >= 5, f"weft_pod has {size(lab, 'pod')} entries for 5 bindings")
    equal(size(lab, "live"), size(lab, "endpoint"), "a live count for every endpoint")
    wait_for(lambda: len(lab.maps("weft_pod")) == 5, lambda: f"five bindings, there are {lab.maps('weft_pod')}")
    for n in REAL:
        equal(lab.clients[0].spread(f"10.97.{n // 250}.{n % 250 + 1}", 80, 20).keys(), {"web-a", "web-b"})


def live_by_endpoint(lab, service_name):
    return sorted(e["live"] for e in lab.weft("endpoint", "list", "service", service_name))


def test_live_counts_right_after(lab):
    """The counts of LEAST_REQUEST are those of the connections there are, endpoint by endpoint, and closing takes them away."""
    held = [lab.clients[0].connect("10.96.0.1", 80) for _ in range(50)]
    names = [read_name(made) for made in held]
    spread = sorted(names.count(name) for name in set(names))
    before = size(lab, "endpoint")
    lab.apply("many.yaml", many(lab, 700), timeout=30)
    true(size(lab, "endpoint") > before, "weft_endpoint did not grow")
    equal(live_by_endpoint(lab, "default/web"), spread, "live connections right after")
    for made in held:
        reset(made)
    wait_for(lambda: lab.live() == 0, lambda: f"no live connections, there are {lab.live()}")


def test_watchers_keep_watching(lab):
    with socket.socket(socket.AF_UNIX) as watcher:
        watcher.settimeout(10)
        watcher.connect(str(lab.run_folder / "weft.sock"))
        watcher.sendall(b'{"request": "conn.watch"}\n')
        lines = watcher.makefile()
        contains(lines.readline(), '"ok"')
        wait_for(lambda: lab.status()["watchers"] == 1, "the watcher to be counted")
        before = size(lab, "frontend")
        lab.apply("many.yaml", many(lab, 1500), timeout=30)
        true(size(lab, "frontend") > before, "weft_frontend did not grow")
        lab.clients[0].who("10.96.0.1", 80)
        contains(lines.readline(), "10.96.0.1:80")


def test_main_cannot(lab):
    """As if memory were short: said once, the old maps stay in force, and it is done when it can be."""
    before = {name: size(lab, name) for name in SMALL}
    held = [lab.clients[0].connect("10.96.0.1", 80) for _ in range(10)]
    sh("mount", "-o", "remount,ro", lab.folder / "bpf")
    try:
        lab.write("workloads.yaml", [workload(n) for n in range(before["workload_at"] + 1)])
        told = wait_for(lambda: [p for p in lab.problems() if "weft_workload_at" in p["text"]], lambda: f"a refusal, there is {lab.problems()}", 30)
        contains(told[0]["text"], "main cannot make it larger: Read-only file system")
        equal(lab.clients[0].spread("10.96.0.1", 80, 50).keys(), {"web-a", "web-b"})
    finally:
        sh("mount", "-o", "remount,rw", lab.folder / "bpf")
    wait_for(lambda: not lab.problems(), lambda: f"no problems, there are {lab.problems()}", 20)
    true(size(lab, "workload_at") > before["workload_at"], "weft_workload_at did not grow afterwards")
    equal(lab.live(), 10, "live connections")
    for made in held:
        reset(made)
    equal(len(re.findall(r"error: .*is refused: the map weft_workload_at", lab.log.read_text())), 1, "times that it was logged")


def test_programs_cannot_be_replaced(lab):
    """Given up when weft_setting says already that live connections are to be recounted: they are."""
    before = size(lab, "workload_at")
    held = [lab.clients[0].connect("10.96.0.1", 80) for _ in range(10)]
    with lab.bpf_fault(BPF_LINK_UPDATE, errno.ENOMEM):
        lab.write("workloads.yaml", [workload(n) for n in range(before + 1)])
        told = wait_for(lambda: [p for p in lab.problems() if "weft_workload_at" in p["text"]], lambda: f"a refusal, there is {lab.problems()}", 30)
        contains(told[0]["text"], "main cannot make it larger: Cannot allocate memory")
        wait_for(lambda: lab.weft("status")["kernel"].get("live") == 10, "live connections to be shown")
        equal(size(lab, "workload_at"), before, "size")
    wait_for(lambda: not lab.problems(), lambda: f"no problems, there are {lab.problems()}", 20)
    true(size(lab, "workload_at") > before, "weft_workload_at did not grow afterwards")
    equal(lab.live(), 10, "live connections")
    for made in held:
        reset(made)
    wait_for(lambda: lab.live() == 0, lambda: f"no live connections, there are {lab.live()}")


def test_no_memory(lab):
    """The kernel has none for the larger maps: refused as a whole, under load, and made good when it has."""
    before = {name: size(lab, name) for name in SMALL}
    workloads = [workload(n) for n in range(before["workload_at"] + 1)]

    def refused():
        lab.write("workloads.yaml", workloads)
        told = wait_for(lambda: [p for p in lab.problems() if "weft_workload_at" in p["text"]], lambda: f"a refusal, there is {lab.problems()}", 30)
        contains(told[0]["text"], "main cannot make it larger: Cannot allocate memory")
        equal({name: size(lab, name) for name in SMALL}, before, "sizes")

    with lab.bpf_fault(BPF_MAP_CREATE, errno.ENOMEM):
        under_load(lab, refused)
    wait_for(lambda: not lab.problems(), lambda: f"no problems, there are {lab.problems()}", 20)
    true(size(lab, "workload_at") > before["workload_at"], "weft_workload_at did not grow afterwards")


def test_no_memory_for_a_cache(lab):
    """Each try loads all programs once more: not one for every change, and no recount for one that came to nothing."""
    lab.request({"request": "log.set", "level": "debug"})
    tries = lambda: lab.log.read_text().count("cannot make larger maps")
    epoch = lambda: lab.maps("weft_setting")[0]["value"]["epoch"]
    counted, tried, had = epoch(), tries(), size(lab, "affinity")
    began = time.monotonic()
    with lab.bpf_fault(BPF_MAP_CREATE, errno.ENOMEM):
        for n in range(30):
            lab.apply("cache.yaml", service("cache", f"10.96.1.{n + 1}", sessionAffinity="ClientIP"))
        # One at once, and 1 s, 2 s, 4 s ... after the last.
        most = 1 + math.log2(time.monotonic() - began + 1)
        true(1 <= tries() - tried <= most, f"{tries() - tried} tries for 30 changes, wanted at most {most:.1f}")
        wait_for(lambda: tries() - tried >= 2, "another try without a change")
    equal(size(lab, "affinity"), had, "size")
    if lab.has("fetch_atomics"):  # else there is a recount now and then
        equal(epoch(), counted, "epoch: a recount meanwhile")
    wait_for(lambda: size(lab, "affinity") > had, "weft_affinity to grow", 60)
    equal(lab.log.read_text().count(f"weft_affinity keeps its {had} entries"), 1, "times that it was said")
    lab.request({"request": "log.set", "level": "info"})


def workload(n):
    return {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": {"name": f"w-{n}", "namespace": "default"},
            "spec": {"address": f"10.99.{n // 250}.{n % 250 + 1}"}}


def check(lab, *more):
    argv = [WEFTD, "--check", lab.folder / "checked", "--node", "node-1", *more]
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


def test_beyond_the_ceiling(lab):
    """Refused as a whole with the sizes named; what is in force stays, under load too."""
    before = {name: size(lab, name) for name in SMALL}
    frontends = len(lab.maps("weft_frontend"))
    too_many = [service(f"more-{n}", f"10.98.{n // 250}.{n % 250 + 1}") for n in range(LIMIT)]

    def refused():
        lab.write("more.yaml", too_many)
        told = wait_for(lambda: [p for p in lab.problems() if "weft_frontend" in p["text"]], lambda: f"a refusal, there is {lab.problems()}", 30)
        true(int(re.search(r"set its size to (\d+)", told[0]["text"])[1]) > LIMIT, f"no size to set: {told[0]['text']}")
        contains(told[0]["text"], f"{LIMIT} at most")
        contains(told[0]["text"], "--map-max")

    (lab.folder / "checked").mkdir()
    (lab.folder / "checked/more.yaml").write_text(yaml.safe_dump_all(too_many))
    code, text = check(lab, "--map-max", f"frontend={LIMIT}")
    equal(code, 1, f"exit code of --check: {text}")
    contains(text, "weft_frontend")
    equal(check(lab)[0], 0, "exit code of --check with the default ceiling")
    under_load(lab, refused)
    equal({name: size(lab, name) for name in SMALL}, before, "sizes")
    equal(len(lab.maps("weft_frontend")), frontends, "frontends")
    with fails(errno.ENETUNREACH):
        lab.clients[0].connect("10.98.0.1", 80)
    (lab.config / "more.yaml").unlink()
    wait_for(lambda: not lab.problems(), lambda: f"no problems, there are {lab.problems()}")
    said = re.findall(r"error: .*is refused: the map weft_frontend", lab.log.read_text())
    equal(len(said), 1, "times that the refusal was logged")


def test_larger_maps_are_adopted(lab):
    """Without --map-size the next agent takes over what has grown, and so does a main that died."""
    before = {name: size(lab, name) for name in SMALL}
    lab.kill("main")
    equal({name: size(lab, name) for name in SMALL}, before, "sizes after main died")
    equal(lab.clients[0].spread("10.96.0.1", 80, 50).keys(), {"web-a", "web-b"})
    lab.stop()
    lab.start()
    for name, had in before.items():
        true(size(lab, name) >= had, f"weft_{name} shrank from {had} to {size(lab, name)}")
    equal(lab.clients[0].spread("10.96.0.1", 80, 50).keys(), {"web-a", "web-b"})


main(topology)
