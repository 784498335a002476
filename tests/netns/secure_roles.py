#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each role of the agent is killed, and stopped, while connections are made: what goes on, what waits, and that nothing is let in.

    client, thousands of connections ──> web:80 (node-2), STRICT; mallory is denied, stranger is plaintext
"""

from mesh import *


def topology(lab):
    prepare(lab, ["client", "mallory"], ["web"])
    strangers(lab, "stranger")
    lab.web.serve(80)
    only = authorization_policy("only-client", rules=[from_principals(spiffe(lab.client))], labels={"app": "web"})
    write_all(lab, "policy.yaml", [peer_authentication("STRICT"), only])
    start_all(lab, [lab.client, lab.mallory, lab.web], *web_service(lab.web), extra=("--proxies", "2"))


def roles(node_lab):
    """{name: pid}, a proxy's name with its number."""
    return {row["role"]: row["pid"] for row in node_lab.status()["roles"]}


def proxies(node_lab):
    names = sorted(name for name in roles(node_lab) if name.startswith("proxy"))
    equal(len(names), 2, "proxies")
    return names


@contextlib.contextmanager
def under_load(lab, errors=0):
    """Connections while the block runs. At most so many of them fail; nobody gets in who may not."""
    load = lab.client.spawn(_tries, VIP, 80)
    with Wire(lab, to=80) as wire:
        yield
        result = load.stop().result(90)
        true(result["ok"] > 0, f"nothing went through: {result}")
        true(result["failed"] <= errors, f"{result['failed']} of {result['ok'] + result['failed']} connections failed: {result['errors']}")
        equal(wire.showing(b"marker-of-load"), [], "flows that show what was said")
    is_refused(lab.mallory, VIP)
    is_refused(lab.stranger, lab.web.ip)
    gets_through(lab.client, VIP)


def _tries(address, port):
    """Connections one after the other until stop(), and one at least; one that waits is no failure for 15 s."""
    result = {"ok": 0, "failed": 0, "errors": {}}
    while not (result["ok"] + result["failed"] and stopping()):
        try:
            with socket.create_connection((address, port), 15) as made:
                equal(read_name(made), "web")
                made.sendall(b"marker-of-load")
                equal(recv_exactly(made, 14), b"marker-of-load")
            result["ok"] += 1
        except (OSError, AssertionError) as error:
            text = repr(error)
            result["failed"] += 1
            result["errors"][text] = result["errors"].get(text, 0) + 1
    return result


def killed(lab, node_lab, name, seconds, errors=0):
    """A role dies: it is back within so many seconds."""
    with under_load(lab, errors):
        pid = roles(node_lab)[name]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: roles(node_lab)[name] not in (0, pid), f"{name} to come back", seconds)
        time.sleep(0.5)  # of load on the new one


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T", "a role to stop")
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def open_connections(lab, count=40):
    made = [lab.client.connect(VIP, 80) for _ in range(count)]
    for one in made:
        read_name(one)
    return made


def test_each_proxy_killed(lab):
    """Its own connections end, by resets; the other's go on; it is back in under a second."""
    alive, ended = 0, 0
    for node_lab in (lab, lab.two):
        for name in proxies(node_lab):
            held = open_connections(lab)
            killed(lab, node_lab, name, 1.0, errors=20)
            for made in held:
                try:
                    still_open(made)
                    alive += 1
                except OSError:
                    ended += 1
                made.close()
    true(alive > 0 and ended > 0, f"{alive} connections went on and {ended} ended, wanted some of both")


def goes_on(lab, held):
    for made in held:
        still_open(made)
        made.close()


def test_main_killed(lab):
    for node_lab in (lab, lab.two):
        held = open_connections(lab)
        killed(lab, node_lab, "main", 10)
        goes_on(lab, held)


def test_keys_killed(lab):
    for node_lab in (lab, lab.two):
        held = open_connections(lab)
        killed(lab, node_lab, "keys", 5, errors=5)
        goes_on(lab, held)


def test_control_killed(lab):
    """Its answers come from itself: whether it is back, /proc knows as well."""
    for node_lab in (lab, lab.two):
        held = open_connections(lab)
        with under_load(lab):
            pid = roles(node_lab)["control"]
            os.kill(pid, signal.SIGKILL)
            node_lab.wait_for_another("control", pid)
        goes_on(lab, held)


def test_main_stopped(lab):
    """Open connections go on; new ones are served from the pool, or wait. Nobody gets in."""
    for node_lab in (lab, lab.two):
        held = open_connections(lab, 5)
        with under_load(lab):
            with stopped(roles(node_lab)["main"]):
                goes_on(lab, held)
                time.sleep(1)


def test_keys_stopped(lab):
    """Handshakes wait; connections over tunnels that are there do not."""
    for node_lab in (lab, lab.two):
        held = open_connections(lab, 5)
        with under_load(lab):
            with stopped(roles(node_lab)["keys"]):
                goes_on(lab, held)
                time.sleep(1)


def test_a_proxy_stopped(lab):
    """What it has waits for it and goes on; nothing goes past it."""
    for node_lab in (lab, lab.two):
        held = open_connections(lab, 20)
        with under_load(lab):
            with stopped(roles(node_lab)[proxies(node_lab)[0]]):
                time.sleep(1)
        goes_on(lab, held)


def test_control_stopped(lab):
    for node_lab in (lab, lab.two):
        held = open_connections(lab, 5)
        with under_load(lab):
            with stopped(roles(node_lab)["control"]):
                goes_on(lab, held)
                time.sleep(1)


def test_all_proxies_killed_fail_closed(lab):
    """In the gap connections wait or fail; not one goes in plaintext."""
    held = open_connections(lab, 5)
    with under_load(lab, errors=200):
        pids = {name: roles(lab)[name] for name in proxies(lab)}
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: all(roles(lab)[name] not in (0, pid) for name, pid in pids.items()), "proxies to come back", 5)
    for made in held:
        with contextlib.suppress(OSError):
            still_open(made)
            raise Failure("a connection outlived its proxy")
        made.close()


def test_the_agent_is_gone(lab):
    """Nothing denied becomes allowed, nothing encrypted becomes plaintext; once it is back, all is as before."""
    lab.two.stop()
    with Wire(lab) as wire:
        for pod, address in ((lab.stranger, lab.web.ip), (lab.mallory, VIP), (lab.client, VIP)):
            try:
                with pod.connect(address, 80, timeout=2) as made:
                    made.sendall(b"marker-of-nobody")
                    made.recv(1)
                    raise Failure(f"{pod} got through without an agent")
            except OSError:
                pass
        equal(wire.showing(b"marker-of-nobody"), [], "flows that show what was said")
    lab.two.start("--proxies", "2")
    wait_attached(lab.web)
    wait_for(lambda: _again(lab), "connections to work again", 10)
    is_refused(lab.mallory, VIP)
    is_refused(lab.stranger, lab.web.ip)


def _again(lab):
    with contextlib.suppress(OSError):
        gets_through(lab.client, VIP)
        return True
    return False


def test_privileges(lab):
    """proxy and keys hold no capability, have a list of system calls, and are nobody's uid that matters."""
    for name, pid in roles(lab).items():
        if name == "keys" or name.startswith("proxy"):
            lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            seen = {key: value.split() for key, value in (line.split(":", 1) for line in lines)}
            for which in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
                equal(int(seen[which][0], 16), 0, f"{which} of {name}")
            true("0" not in seen["Uid"] + seen["Gid"], f"uid {seen['Uid']}, gid {seen['Gid']} of {name}")
            equal((seen["NoNewPrivs"], seen["Seccomp"]), (["1"], ["2"]), name)
    limits = pathlib.Path(f"/proc/{roles(lab)['keys']}/limits").read_text()
    true(re.search(r"^Max core file size\s+0\s+0", limits, re.MULTILINE), "keys can leave a core")


main(topology)
