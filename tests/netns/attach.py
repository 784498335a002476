#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Pods of the secure lane as the agent's processes make them: what is set up, who holds it, and that it outlives each of them.

    client, web, late: pods of one node
"""


from lab import *

AMBIENT = {"istio.io/dataplane-mode": "ambient"}
OUTBOUND, HBONE = 15001, 15008


def topology(lab):
    lab.client, lab.web, lab.late = (lab.pod(name) for name in ("client", "web", "late"))
    lab.web.serve()
    lab.before = {pod.name: inside(pod) for pod in (lab.client, lab.web, lab.late)}
    lab.write("mesh.yaml", [node(), service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    lab.write("pods.yaml", [pod_resource(pod) for pod in (lab.client, lab.web, lab.late)])
    start(lab)


def flags(lab):
    """The agent's own cgroup is below the one that it serves."""
    given = lab.flags()
    given[given.index("--cgroup") + 1] = lab.root
    return given


def start(lab):
    lab.start("--proxies", "2", flags=flags(lab))


def inside(pod):
    def run(*argv):
        return sh("nsenter", f"--net=/run/netns/{pod.netns}", *argv)

    return {
        "rules": run("ip", "rule") + run("ip", "-6", "rule"),
        # Link-local ones come by themselves, some time after the interface is up.
        "routes": [line for family in ("-4", "-6") for line in run("ip", family, "route", "show", "table", "all").splitlines() if "fe80:" not in line],
        "listeners": run("ss", "-Hltn", f"sport = :{OUTBOUND} or sport = :{HBONE}"),
        "sysctl": run("cat", "/proc/sys/net/ipv4/tcp_fwmark_accept"),
    }


def programs(pod):
    netns = os.stat(f"/run/netns/{pod.netns}").st_ino
    return [link["id"] for link in json.loads(sh("bpftool", "-j", "link", "list") or "[]") if link.get("netns_ino") == netns]


def attached(pod):
    now = inside(pod)
    return programs(pod) and now["listeners"].count("\n") == 2 and now["sysctl"].strip() == "1" and "fwmark" in now["rules"]


def wait_attached(lab, *pods):
    for pod in pods:
        wait_for(lambda p=pod: attached(p), lambda p=pod: f"{p} to be attached: {inside(p)}, {programs(p)}\n{lab.tail()}")


def wait_as_before(lab, *pods):
    for pod in pods:
        wait_for(lambda p=pod: not programs(p) and inside(p) == lab.before[p.name],
                 lambda p=pod: f"{p} to be as before: {inside(p)}, was {lab.before[p.name]}, {programs(p)}\n{lab.tail()}")


def enrol(lab, *pods):
    lab.write("pods.yaml", [pod_resource(pod, labels=AMBIENT if pod in pods else None) for pod in (lab.client, lab.web, lab.late)])


def roles(lab):
    return {row["role"]: row["pid"] for row in lab.status()["roles"]}


def test_nothing_runs_that_is_not_wanted(lab):
    equal(set(roles(lab)), {"init", "main", "control"})
    equal(lab.maps("weft_capture"), [], "attached pods")


def test_attach(lab):
    enrol(lab, lab.client, lab.web)
    wait_attached(lab, lab.client, lab.web)
    wait_as_before(lab, lab.late)
    wait_for(lambda: all(roles(lab).get(name) for name in ("keys", "proxy-0", "proxy-1")), "keys and proxies")
    rows = {entry["key"]: entry["value"] for entry in lab.maps("weft_capture")}
    equal(set(rows), {lab.client.cookie(), lab.web.cookie()}, "rows of weft_capture")
    equal(lab.metric("weft_agent_role_restarts_total"), 0, "restarts")
    equal({labels["role"] for name, labels, _ in lab.metrics() if name == "weft_agent_role_restarts_total"}, {"main", "control", "keys", "proxy"})


def test_each_role_comes_back(lab):
    for name in ("proxy-0", "proxy-1", "keys", "main", "control"):
        pid = roles(lab)[name]
        os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        wait_for(lambda n=name, p=pid: back(lab, n, p), f"{name} to come back")
        if name.startswith("proxy"):
            true(time.monotonic() - begun < 1, f"{name} took {time.monotonic() - begun:.1f} s")
        true(attached(lab.client) and attached(lab.web), f"pods after {name} was killed: {inside(lab.web)}")
    wait_for(lambda: lab.status()["ready"], "all to be ready")
    equal([len(lab.maps(name)) for name in ("weft_capture", "weft_workload")], [2, 2], "rows")
    equal([row["restarts"] for row in lab.status()["roles"]], [0, 1, 1, 1, 1, 1], "restarts")
    equal(lab.metric("weft_agent_role_restarts_total", role="proxy"), 2)


def back(lab, name, pid):
    with contextlib.suppress(OSError, ValueError):
        return roles(lab)[name] not in (0, pid)
    return False


def holders(pod, port):
    """Pids that have the listener."""
    shown = sh("nsenter", f"--net=/run/netns/{pod.netns}", "ss", "-Hltnp", f"sport = :{port}")
    return set(map(int, re.findall(r"pid=(\d+)", shown)))


def test_listeners_are_everybodys(lab):
    """The same ones for all, through the deaths above: no second one was made."""
    now = roles(lab)
    for pod in (lab.client, lab.web):
        for port in (OUTBOUND, HBONE):
            wanted = {now["init"], now["proxy-0"], now["proxy-1"]}
            wait_for(lambda p=pod, n=port, w=wanted: w <= holders(p, n), lambda p=pod, n=port, w=wanted: f"{p}:{n} has {holders(p, n)}, wanted {w}")


def waiting(pod, port):
    """How many connections nobody has accepted."""
    return int(sh("nsenter", f"--net=/run/netns/{pod.netns}", "ss", "-Hltn", f"sport = :{port}").split()[1])


def stranger(pod):
    """A connection to the pod from a process of none, over which weft's programs do not watch."""
    code = f"import socket, sys; made = socket.create_connection(('{pod.ip}', {HBONE})); print(flush=True); sys.stdin.read()"
    made = subprocess.Popen(["nsenter", f"--net=/run/netns/{pod.netns}", sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pod.lab.processes.append(made)
    equal(made.stdout.readline(), b"\n", "what it says once it is connected")
    return made


def test_who_waits_is_accepted_by_the_next(lab):
    """A connection that no proxy came to take is in the queue of the listener, which they all have."""
    now = roles(lab)
    proxies = [now["proxy-0"], now["proxy-1"]]
    for pid in proxies:
        os.kill(pid, signal.SIGSTOP)
    try:
        made = stranger(lab.client)
        equal(waiting(lab.client, HBONE), 1)
        os.kill(proxies[0], signal.SIGKILL)
        wait_for(lambda: waiting(lab.client, HBONE) == 0, "the next one to accept")
        made.kill()
        made.wait()
    finally:
        os.kill(proxies[1], signal.SIGCONT)


def test_listeners_outlive_main(lab):
    """Whether a listener is another one its inode says."""
    def inodes():
        shown = sh("nsenter", f"--net=/run/netns/{lab.web.netns}", "ss", "-Hltne", f"sport = :{HBONE} or sport = :{OUTBOUND}")
        return sorted(re.findall(r"ino:(\d+)", shown))

    before = inodes()
    equal(len(before), 2)
    for name in ("main", "control", "proxy-0"):
        pid = roles(lab)[name]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda n=name, p=pid: back(lab, n, p) and lab.status()["ready"], f"{name} to come back")
    enrol(lab, lab.client, lab.web, lab.late)
    wait_attached(lab, lab.late)
    equal(inodes(), before, "listeners of web")
    enrol(lab, lab.client, lab.web)
    wait_as_before(lab, lab.late)


def test_detach_leaves_nothing(lab):
    enrol(lab)
    wait_as_before(lab, lab.client, lab.web, lab.late)
    equal(lab.maps("weft_capture"), [])
    equal(list((lab.pins / "v1/netns").iterdir()) if (lab.pins / "v1/netns").exists() else [], [])


def test_what_the_sysctl_was_is_put_back(lab):
    sh("nsenter", f"--net=/run/netns/{lab.late.netns}", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/tcp_fwmark_accept")
    as_set = inside(lab.late)
    enrol(lab, lab.late)
    wait_attached(lab, lab.late)
    lab.kill("main")
    enrol(lab)
    wait_for(lambda: inside(lab.late) == as_set, lambda: f"{inside(lab.late)} to be {as_set}")
    sh("nsenter", f"--net=/run/netns/{lab.late.netns}", "sh", "-c", "echo 0 >/proc/sys/net/ipv4/tcp_fwmark_accept")


def test_a_port_that_an_application_holds(lab):
    for port in (OUTBOUND, HBONE):
        holder = lab.late.serve(port)
        held = inside(lab.late)
        enrol(lab, lab.late)
        said = wait_for(lambda: [p["text"] for p in lab.problems() if "cannot be attached" in p["text"]], "the problem to be named")[0]
        contains(said, f"default/late cannot be attached: an application in its network namespace {lab.late.netns} holds port {port}")
        equal(inside(lab.late), held, "the pod")
        holder.kill()
        wait_attached(lab, lab.late)
        equal([p["text"] for p in lab.problems() if "cannot be attached" in p["text"]], [])
        enrol(lab)
        wait_as_before(lab, lab.late)


def test_changed_while_control_was_away(lab):
    """A pod that is attached and no longer wanted is found by the next control, and by the next main."""
    enrol(lab, lab.client, lab.web)
    wait_attached(lab, lab.client, lab.web)
    for name in ("control", "main"):
        pid = roles(lab)[name]
        os.kill(lab.agent.pid, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            enrol(lab, lab.client if name == "control" else lab.web)
        finally:
            os.kill(lab.agent.pid, signal.SIGCONT)
        wait_for(lambda n=name, p=pid: back(lab, n, p), f"{name} to come back")
        here, gone = (lab.client, lab.web) if name == "control" else (lab.web, lab.client)
        wait_as_before(lab, gone)
        wait_attached(lab, here)
    enrol(lab)
    wait_as_before(lab, lab.client, lab.web)


def test_a_pod_that_goes(lab):
    """Its listeners do not keep its network namespace."""
    gone = lab.pod("gone")
    inode = os.stat(f"/run/netns/{gone.netns}").st_ino
    lab.write("gone.yaml", [pod_resource(gone, labels=AMBIENT)])
    wait_attached(lab, gone)
    os.close(gone.netns_fd)
    sh("ip", "netns", "del", gone.netns)
    del lab.pods["gone"]
    wait_for(lambda: not any(link.get("netns_ino") == inode for link in json.loads(sh("bpftool", "-j", "link", "list") or "[]")), "the program to go")
    wait_for(lambda: lab.maps("weft_capture") == [], "its row to go")
    wait_for(lambda: not re.search(rf"v{gone.ip.rsplit('.', 1)[1]}@", sh("ip", "-n", lab.node.netns, "link")), "its link to go, with its namespace")
    said = [p["text"] for p in lab.problems()]
    true(any("default/gone cannot be attached" in text and "does not exist" in text for text in said), f"problems {said}")
    lab.remove("gone.yaml")


def test_by_process(lab):
    """pid:NUMBER, of a process that is another user's."""
    process = lab.late.popen(["setpriv", "--reuid=65534", "--clear-groups", "sleep", "1000"])
    resource = pod_resource(lab.late, labels=AMBIENT)
    resource["metadata"]["annotations"]["weft.dev/netns"] = f"pid:{process.pid}"
    wait_for(lambda: pathlib.Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "setpriv to be done")
    lab.write("pods.yaml", [pod_resource(lab.client), pod_resource(lab.web), resource])
    wait_attached(lab, lab.late)
    lab.kill("main")
    true(attached(lab.late), "the pod, by another main")
    enrol(lab)
    wait_as_before(lab, lab.late)
    process.kill()
    process.wait()


def test_by_command(lab):
    """Whatever its record says; and it is remembered."""
    equal(lab.weft("workload", "attach", "default/late", "--netns", lab.late.netns), {"workload": "default/late", "attached": True})
    wait_attached(lab, lab.late)
    listed = {row["name"]: row["attached"] for row in lab.weft("workload", "list") if "attached" in row}
    equal(listed, {"client": False, "web": False, "late": True}, "attached, of those that are bound")
    lab.weft("workload", "attach", "default/late", "netns", lab.late.netns)
    for role in ("control", "main"):
        lab.kill(role)
        wait_attached(lab, lab.late)
    lab.stop()
    start(lab)
    wait_attached(lab, lab.late)
    equal(lab.weft("workload", "detach", "default/late"), {"workload": "default/late", "attached": False})
    wait_as_before(lab, lab.late)


def test_a_number_that_may_be_anothers(lab):
    """What pid:NUMBER named is kept by its namespace; where that is gone, the number alone is not believed."""
    process = lab.late.popen(["sleep", "1000"])
    wait_for(lambda: pathlib.Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "sleep to run")
    lab.weft("workload", "attach", "default/late", "--netns", f"pid:{process.pid}")
    wait_attached(lab, lab.late)
    for role in ("control", "main"):
        lab.kill(role)
        wait_attached(lab, lab.late)
    lab.stop()
    sh(WEFTD, "--uninstall", *flags(lab))
    lab.state.mkdir()
    (lab.state / "attached").write_text(f"default/late pid:{process.pid}\nrubbish\n/late x\ndefault/late ../x\n")
    start(lab)
    said = wait_for(lambda: [p["text"] for p in lab.problems() if "cannot be attached" in p["text"]], "the problem to be named")[0]
    contains(said, f"pid:{process.pid} is that of a process, it was attached before weftd was started")
    wait_as_before(lab, lab.late)
    equal(lab.log.read_text().count("is not understood, ignoring"), 3, "lines that were ignored")
    lab.weft("workload", "attach", "default/late", "--netns", f"pid:{process.pid}")
    wait_attached(lab, lab.late)
    lab.weft("workload", "detach", "default/late")
    wait_as_before(lab, lab.late)
    process.kill()
    process.wait()


def test_by_command_what_cannot_be(lab):
    netns = lab.late.netns
    for words, part in ((("attach", "default/nobody", "--netns", netns), "there is no Pod and no WorkloadEntry default/nobody"),
                        (("attach", "default/late", "--netns", "none-such"), "its network namespace none-such does not exist"),
                        (("attach", "default/late", "--netns", "../../etc/passwd"), "../../etc/passwd is no network namespace"),
                        (("attach", "default/late", "--netns", "pid:0"), "pid:0"),
                        (("attach", "default/late"), "NETNS is missing"),
                        (("attach", "late", "--netns", netns), "`late` is no NS/NAME"),
                        (("detach", "default/late"), "default/late was not attached by `weft workload attach`")):
        code, _out, err = lab.cli("workload", *words)
        true(code != 0, f"weft workload {words} was taken")
        contains(err, part, f"what weft workload {words} says")
    holder = lab.late.serve(HBONE)
    code, _out, err = lab.cli("workload", "attach", "default/late", "--netns", netns)
    true(code != 0, "it was attached all the same")
    contains(err, f"default/late cannot be attached: an application in its network namespace {netns} holds port {HBONE}")
    holder.kill()
    wait_as_before(lab, lab.late)
    equal([p["text"] for p in lab.problems() if "cannot be attached" in p["text"]], [])


def test_stop_and_start(lab):
    enrol(lab, lab.client, lab.web)
    wait_attached(lab, lab.client, lab.web)
    equal(lab.stop(), 0, "exit code")
    true(programs(lab.web) and not inside(lab.web)["listeners"], "a stopped agent's pod")
    start(lab)
    wait_attached(lab, lab.client, lab.web)
    enrol(lab)
    wait_as_before(lab, lab.client, lab.web)


def test_stop_with_a_proxy_that_does_not_end(lab):
    """It has its time, then it is killed; what it held up ends in order."""
    enrol(lab, lab.client)
    wait_attached(lab, lab.client)
    os.kill(wait_for(lambda: roles(lab).get("proxy-1"), "a proxy"), signal.SIGSTOP)
    equal(lab.stop(), 0, "exit code")
    contains(lab.log.read_text(), "proxy 1 does not end, killing it")
    start(lab)
    enrol(lab)
    wait_as_before(lab, lab.client)


def test_an_agent_outside_of_its_subtree(lab):
    lab.stop()
    sh(WEFTD, "--uninstall", *lab.flags())
    enrol(lab, lab.client)
    lab.start()
    said = wait_for(lambda: [p["text"] for p in lab.problems() if "cannot be attached" in p["text"]], "the problem to be named")[0]
    contains(said, "weftd runs outside of the cgroup subtree of --cgroup")
    wait_as_before(lab, lab.client)
    lab.stop()
    sh(WEFTD, "--uninstall", *lab.flags())


def test_uninstall(lab):
    enrol(lab, lab.client, lab.web)
    start(lab)
    wait_attached(lab, lab.client, lab.web)
    (lab.state / "ca/some").write_text("key")
    lab.stop()
    sh(WEFTD, "--uninstall", *flags(lab))
    wait_as_before(lab, lab.client, lab.web)
    true(not lab.state.exists(), f"left: {list(lab.state.rglob('*')) if lab.state.exists() else ''}")


main(topology)
