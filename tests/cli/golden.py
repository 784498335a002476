#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of NAME.in against the fixture mesh and compares what they say with NAME.ok.

A line of NAME.in is a command line of weft; a leading NAME=VALUE sets an option of this
runner for that line: pins (fixture, empty, bypass, secure, recount, hidden, old, none), agent (yes, no), state (good, none).
NAME.ok has, for each, the line, standard output, standard error marked "! ", and the exit status.
`ninja update-cli` writes every NAME.ok anew: read the difference before you keep it.
"""
import argparse
import difflib
import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent

# weftd as the CLI sees it: says what it was asked, or what it would say of a directory of that name.
WEFTD = r"""#!/usr/bin/env python3
import json, sys
words = sys.argv[1:]
if words[0] == "--uninstall":
    print("weftd", *words)
    sys.exit(0 if words[2] != "empty" else 1)
if words[0] == "--json":
    what, value = words[3], [*words[4:], ""][0]
    answers = {"--ca-export": {"trust_domain": words[6] if len(words) > 6 else "cluster.local", "file": value, "until": "2026-11-22T12:00:00Z",
                               "serial": "57d69a6a59498a37", "code": "81b6d24e-5cf0c445"},
               "--ca-join": {"error": f"cannot read {value}: No such file or directory"} if value == "missing" else {"trust_domain": "cluster.local"},
               "--ca-rotate": {"root": "believed", "next": "have the other nodes join anew, then rotate once more"},
               "--ca-revoke": {"serial": value, "next": "have the other nodes join anew: they learn of it by that"}}
    print(json.dumps(answers[what]))
    sys.exit(1 if "error" in answers[what] else 0)
what, directory, rest = words[0], words[1], words[2:]
if rest[0] != "--json" or directory == "broken":
    sys.exit(3)
if directory == "missing":
    print(json.dumps({"error": "cannot open missing: No such file or directory"}))
    sys.exit(1)
if directory == "echo":
    print(json.dumps({"changes": [{"change": "asked", "text": " ".join(words)}]}))
    sys.exit(0)
problems = [{"severity": "error", "file": "a.yaml", "line": 7, "resource": "Service shop/web", "path": "$.spec.ports[0].port",
             "text": "expected a number from 1 to 65535, found \x1b[31m99999"}] if directory == "bad" else []
if what == "--check":
    print(json.dumps({"ok": not problems, "resources": 12, "errors": len(problems), "notices": 0, "problems": problems}))
else:
    print(json.dumps({"changes": [{"change": "changed", "what": "endpoint", "service": "shop/web", "text": "10.0.1.2:8080 weight 10 -> 50"},
                                  {"change": "added", "what": "service", "service": "shop/new", "text": "80/tcp"}]}))
sys.exit(1 if problems else 0)
"""

EVENTS = [
    {"time_ns": 99999000000000, "type": "opened", "outcome": "", "reason": "", "protocol": "tcp", "reporter": "source",
     "local": "10.0.9.1:41000", "remote": "10.0.1.1:8080", "frontend": "10.96.0.10:80", "service": 1, "source": 4, "destination": 1,
     "endpoint": 1048577, "srtt_us": 0, "min_rtt_us": 0, "retransmits": 0, "sent": 0, "received": 0, "connect_ns": 210000,
     "duration_ns": 0, "cookie": 71, "netns": 4098},
    {"time_ns": 99999100000000, "type": "refused", "outcome": "", "reason": "no_endpoint", "protocol": "tcp", "reporter": "source",
     "local": "", "remote": "10.96.0.12:80", "frontend": "", "service": 4, "source": 4, "destination": 0, "endpoint": 0, "cookie": 75,
     "netns": 4098},
    {"time_ns": 99999200000000, "type": "ended", "outcome": "closed", "reason": "", "protocol": "udp", "reporter": "destination",
     "local": "10.0.3.1:6379", "remote": "192.0.2.77:999", "frontend": "", "service": 3, "source": 0, "destination": 3,
     "endpoint": 1048581, "srtt_us": 300, "min_rtt_us": 200, "retransmits": 1, "sent": 10, "received": 2048, "connect_ns": 0,
     "duration_ns": 1500000000, "cookie": 74, "netns": 0},
]

# The second one is of another pod that happens to have the same addresses.
CONNECTIONS = [
    {"netns": netns, "role": role, "local": local, "remote": remote, "peer": "10.0.9.1:15008", "security": "mutual_tls",
     "identity": f"spiffe://cluster.local/ns/shop/sa/{own}", "peer_identity": f"spiffe://cluster.local/ns/shop/sa/{peer}", "sent": 1, "received": 2,
     "start_ns": 3} for netns, role, local, remote, own, peer in (
        (4098, "client", "10.0.9.1:41000", "10.0.9.1:15001", "client", "web"), (5000, "server", "10.0.1.1:8080", "10.0.9.1:41000", "wrong", "wrong"),
        (4097, "server", "10.0.1.1:8080", "10.0.9.1:41000", "web", "client"))]

ANSWERS = {
    "status": {"status": {
        "version": "0.1.0", "node": "node-a", "ready": True, "adopted": True, "bypass": False,
        "instance": {"config": "/etc/weft/config.d", "cgroup": "/sys/fs/cgroup", "pins": "/sys/fs/bpf/weft", "state": "/var/lib/weft",
                     "run": "/run/weft", "metrics": "127.0.0.1:9090"},
        "roles": [{"role": "init", "pid": 100, "restarts": 0}, {"role": "main", "pid": 101, "restarts": 2}],
        "config": {"resources": 12, "refused": 1, "notices": 3, "generation": 5}, "services": 5, "endpoints": 7, "workloads": 6, "watchers": 0}},
    "config.list": {"resources": [{"kind": "Service", "namespace": "shop", "name": "web", "file": "a.yaml", "line": 1, "state": "in force"},
                                  {"kind": "Node", "namespace": "", "name": "node-a", "file": "b.yaml", "line": 3, "state": "last good"}]},
    "config.problems": {"problems": [{"severity": "notice", "file": "a.yaml", "line": 9, "resource": "Service shop/web",
                                      "path": "$.spec.healthCheckNodePort", "text": "is not honoured yet"}]},
    "feature.list": {"features": [{"name": "btf", "there": True, "forced": False}, {"name": "set_retval", "there": False, "forced": True}]},
    "log.get": {"level": "info"},
    "identity.list": {"identities": [
        {"identity": "spiffe://cluster.local/ns/shop/sa/web", "serial": "0A1B2C", "not_before": 1700000000, "not_after": 1700086400,
         "expires_ns": 43200000000000, "certificates": 2, "pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
        {"identity": "spiffe://cluster.local/ns/shop/sa/old", "serial": "0F", "not_before": 1600000000, "not_after": 1600086400, "expires_ns": 0,
         "certificates": 1, "pem": "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"}]},
    "policy.list": {"policies": [
        {"policy": "PeerAuthentication shop/web", "action": "STRICT", "scope": "workloads", "dry_run": False, "state": "in force",
         "workloads": 12, "combinations": 1, "rules": "STRICT"},
        {"policy": "AuthorizationPolicy shop/web", "action": "ALLOW", "scope": "workloads", "dry_run": False, "state": "in force",
         "workloads": 2, "combinations": 2, "rules": "from {principals: [cluster.local/ns/shop/sa/front]} to {ports: [8080]} | everybody"},
        {"policy": "AuthorizationPolicy shop/wide", "action": "DENY", "scope": "namespace", "dry_run": True, "state": "does not fit",
         "workloads": 3, "combinations": 1, "rules": "from {ipBlocks: [10.0.0.0/8]} when source.ip {notValues: [10.0.0.1]}"}]},
    "workload.attached": {"workloads": [{"workload": 3, "who": "shop/kv-0", "netns": "kv", "attached": False, "cookie": 0,
                                         "why": "shop/kv-0 cannot be attached: its network namespace kv does not exist"}]},
    "conn.secure": {"connections": CONNECTIONS},
    "conn.watch": {},
}


def judge(source, destination):
    """10.0.1.2 and the address of kv-0 deny, 10.0.1.1 only would; host comes without identity."""
    if destination == "8.8.8.8:53":
        return {"takes_part": False}
    allowed = destination in ("10.0.1.1:8080", "192.0.2.5:80")
    attached = source != "host"
    own = "spiffe://cluster.local/ns/shop/sa/client" if attached else ""
    return {"takes_part": True, "security": "none" if not attached else "attested" if destination == "10.0.1.1:8080" else "mutual_tls",
            "source_identity": own, "destination_identity": "spiffe://cluster.local/ns/shop/sa/web", "allowed": allowed,
            "dry_run_denied": allowed, "policy": "" if allowed else "AuthorizationPolicy shop/web",
            "reason": "no policy denies it" if allowed else "no ALLOW policy has a rule that matches"}


def answer(request):
    name = request.get("request")
    if name == "log.set":
        return {"ok": True, "level": request["level"]}
    if name == "bypass.set":
        return {"ok": True, "bypass": request["on"]}
    if name == "workload.attach" and request["netns"] == "taken":
        return {"ok": False, "error": f"{request['workload']} cannot be attached: an application in it holds port 15008"}
    if name in ("workload.attach", "workload.detach"):
        return {"ok": True, "workload": request["workload"], "attached": name == "workload.attach"}
    if name == "policy.judge":
        return {"ok": True, **judge(request["from"], request["to"])}
    if name in ANSWERS:
        return {"ok": True, **ANSWERS[name]}
    return {"ok": False, "error": "unknown request"}


def serve(client):
    with client, client.makefile("rw") as lines:
        for line in lines:
            request = json.loads(line)
            lines.write(json.dumps(answer(request)) + "\n")
            if request["request"] == "conn.watch":
                lines.write(json.dumps({"lost": 0, "events": EVENTS[:2]}) + "\n" + json.dumps({"lost": 4, "events": EVENTS[2:]}) + "\n")
                lines.flush()
                return
            lines.flush()


def agent(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def accept():
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def run(weft, folder, line):
    setting = {"pins": "fixture", "agent": "no", "state": "good"}
    words = shlex.split(line)
    while words and "=" in words[0] and words[0].split("=")[0] in setting:
        name, value = words.pop(0).split("=")
        setting[name] = value
    environment = {
        "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "WEFT_PINS": setting["pins"],
        "WEFT_STATE": str(HERE / "state") if setting["state"] == "good" else "nowhere",
        "WEFT_RUN": "run" if setting["agent"] == "yes" else "silent",
    }
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
        if name in os.environ:
            environment[name] = os.environ[name]
    done = subprocess.run([str(weft), *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, check=False)
    stderr = "".join("! " + part + "\n" for part in done.stderr.splitlines())
    # json-c 0.16 breaks the line in an empty array, 0.18 does not.
    text = (re.sub(r"\[\n *\]", "[]", done.stdout) + stderr).replace(str(HERE), "TESTS").replace(str(folder), "FOLDER")
    return f"$ weft {line}\n{text}= {done.returncode}\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--update", action="store_true")
    parser.add_argument("weft", type=pathlib.Path)
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()
    # a list, so that one difference does not hide the next
    if not all([check(options.weft, name, options.update) for name in options.names]):
        sys.exit(1)


def check(weft_path, name, update):
    lines = [line for line in (HERE / f"{name}.in").read_text().splitlines() if line and not line.startswith("#")]
    if not lines:
        sys.exit(f"{name}.in has no commands")
    expected_path = HERE / f"{name}.ok"
    # a short name: the path of a Unix socket has room for a hundred bytes
    with tempfile.TemporaryDirectory(prefix="wt-cli-") as temporary:
        folder = pathlib.Path(temporary)
        weft = folder / "weft"
        shutil.copy2(weft_path, weft)
        (folder / "weftd").write_text(WEFTD)
        (folder / "weftd").chmod(0o755)
        (folder / "run").mkdir()
        agent(folder / "run" / "weft.sock")
        found = "".join(run(weft, folder, line) for line in lines)
    if update:
        expected_path.write_text(found)
        return True
    expected = expected_path.read_text()
    if found != expected:
        sys.stdout.writelines(difflib.unified_diff(expected.splitlines(True), found.splitlines(True), f"{name}.ok", "found"))
    return found == expected


main()
