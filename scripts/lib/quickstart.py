#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A node of a mesh on this machine, in network namespaces with no way out, with real programs talking to service
addresses that exist only in examples/; then two nodes with mutual TLS between them (quickstart_mesh.py).

    front, cart, batch ──┬── 10.96.0.10:80    web  ──> web-a (weight 3), web-b (1)     nginx
       (client pods)     ├── 10.96.0.20:8080  api  ──> api-a, api-b                    nginx, IPv4 and IPv6
                         ├── fd00:96::20
                         ├── 10.96.0.53:53    dns  ──> dns-a, dns-b                    UDP
                         ├── 10.97.0.1:7000   pay  ──> pay-a, pay-b                    TCP, LEAST_REQUEST
                         └── 10.96.0.30:80    empty: no endpoint
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))
sys.dont_write_bytecode = True

import quickstart_mesh  # noqa: E402  (beside this file)

PODS = ["front", "cart", "batch", "web-a", "web-b", "api-a", "api-b", "dns-a", "dns-b", "pay-a", "pay-b"]

NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_timeout 60;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 80; listen [::]:80; location / {{ default_type text/plain; return 200 "{name}\\n"; }} }}
}}
"""

failures = []


def say(text=""):
    print(text, flush=True)


def chapter(text):
    say(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")


def demo_lab(keep):
    """The demo's own names and networks, on the same bricks as the tests."""
    import lab as bricks

    class Demo(bricks.Lab):
        net, net6 = "10.244.1.", "fd00:244:1::"
        outlive = keep

    return Demo("quickstart", prefix="weft-demo-", base="weft-demo")


# ---- clients; each runs in a process of its own inside its pod ----


def get(address, port):
    """One request on a connection of its own: the name of the pod that answered."""
    import socket

    with socket.create_connection((address, port), 10) as made:
        made.sendall(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
        data = b""
        while part := made.recv(4096):
            data += part
    if not data.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"answer {data[:40]!r}")
    return data.rsplit(b"\r\n\r\n", 1)[1].decode().strip()


def count(ask, times):
    names = {}
    for _ in range(times):
        name = ask()
        names[name] = names.get(name, 0) + 1
    return names


def sample_http(address, port, times):
    return count(lambda: get(address, port), times)


def sample_udp(address, port, times):
    import socket

    def ask():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.settimeout(5)
            made.sendto(b"who is there?", (address, port))
            data, peer = made.recvfrom(1000)
            if peer != (address, port):
                raise RuntimeError(f"the reply came from {peer}")
            return data.split()[0].decode()

    return count(ask, times)


def keep_asking(address, port):
    """Requests until told to stop: (good ones, what went wrong)."""
    import lab as bricks

    good, wrong = 0, []
    while not bricks.stopping():
        try:
            get(address, port)
            good += 1
        except (OSError, RuntimeError) as error:
            wrong.append(str(error))
    return good, wrong


# ---- the show ----


def spread(what, names, wanted):
    """A line per pod with its share beside the one that the weights ask for."""
    import lab as bricks

    total, weight = sum(names.values()), sum(wanted.values())
    say(f"  {what}: {total} connections")
    for name, share in wanted.items():
        got = names.get(name, 0)
        say(f"    {name:7} {got:5}  {100 * got / total:5.1f} %  of {100 * share / weight:5.1f} %  {'#' * round(40 * got / total)}")
    try:
        bricks.spread_fits(names, wanted)
    except AssertionError as error:
        failures.append(str(error))
        say(f"    NOT as it should be: {error}")


def run(demo, *words):
    say(f"  $ weft {' '.join(words)}")
    code, out, err = demo.cli(*words)
    for line in (out + err).splitlines():
        say(f"    {line}")
    if code:
        failures.append(f"weft {' '.join(words)} ended with {code}")


def edit(demo, file, *changes):
    """Replaces text in a file of the configuration as an editor would, and shows it."""
    text = (demo.config / file).read_text()
    for old, new in changes:
        if old not in text:
            raise SystemExit(f"quickstart: examples/{file} no longer has {old!r}")
        text = text.replace(old, new, 1)
        say(f"  {file}:  - {old.splitlines()[-1].strip()}")
        say(f"  {' ' * len(file)}   + {new.splitlines()[-1].strip()}")
    start = time.monotonic()
    demo.apply(file, text)
    say(f"  in force {1000 * (time.monotonic() - start):.0f} ms after the file was written")


def compile_weft(folder):
    """weftd and weft alone: tests are for scripts/test."""
    folder.mkdir(exist_ok=True)
    with open(folder / "quickstart.log", "w", encoding="utf-8") as log:
        steps = [["meson", "setup", folder, ROOT]] if not (folder / "build.ninja").exists() else []
        for step in [*steps, ["ninja", "-C", folder, "userspace/agent/weftd", "userspace/cli/weft"]]:
            if subprocess.run(step, stdout=log, stderr=log, check=False).returncode:
                raise SystemExit(f"quickstart: the build failed, see {folder}/quickstart.log")


def build(demo):
    chapter("A node: three client pods, eight servers, every one in a network namespace of its own")
    demo.up()
    pods = {name: demo.pod(name) for name in PODS}
    for name in ("web-a", "web-b", "api-a", "api-b"):
        folder = demo.folder / name
        folder.mkdir()
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, name=name))
        pods[name].popen(["/usr/sbin/nginx", "-e", folder / "error.log", "-c", folder / "nginx.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name in ("dns-a", "dns-b"):
        pods[name].serve_udp(5353)
    for name in ("pay-a", "pay-b"):
        pods[name].serve(7000)
    for name in PODS:
        say(f"  {name:7} {pods[name].ip:13} {pods[name].ip6}")
    import lab as bricks

    for name in ("web-a", "web-b", "api-a", "api-b"):
        bricks.wait_for(lambda n=name: answers(pods[n], pods[n].ip), f"nginx of {name}")
    chapter("Without the mesh a service address leads nowhere")
    out, _code = pods["front"].output(["curl", "-sS", "--max-time", "5", "http://10.96.0.10/"])
    say(f"  front$ curl http://10.96.0.10/\n    {out.strip()}")

    chapter("weftd starts on a copy of examples/")
    for file in (ROOT / "examples").glob("*.yaml"):
        shutil.copy(file, demo.config)
    start = time.monotonic()
    demo.start()
    say(f"  $ weftd {' '.join(str(f) for f in demo.flags())}")
    say(f"  ready after {1000 * (time.monotonic() - start):.0f} ms")
    for problem in demo.problems():
        say(f"  {problem['severity']}: {problem['file']}:{problem['line']}: {problem['text']}")
        if problem["severity"] == "error":
            failures.append(f"examples/: {problem['text']}")
    return pods


def answers(pod, address):
    try:
        pod.connect(address, 80).close()
    except OSError:
        return False
    return True


def show(demo, pods):
    front, cart, batch = (pods[n] for n in ("front", "cart", "batch"))
    chapter("The kernel picks an endpoint inside connect(2)")
    for address in ("10.96.0.10", "10.96.0.20:8080", "[fd00:96::20]:8080", "10.244.1.1:30080"):
        out, code = front.output(["curl", "-sS", "--max-time", "5", f"http://{address}/"])
        say(f"  front$ curl http://{address}/\n    {out.strip()}")
        if code:
            failures.append(f"curl http://{address}/ ended with {code}")
    out, code = front.output(["curl", "-sS", "--max-time", "5", "http://10.96.0.30/"])
    say(f"  front$ curl http://10.96.0.30/    (no endpoint: refused at once)\n    {out.strip()}")
    if code != 7:
        failures.append(f"curl to a service without endpoints ended with {code}, wanted 7")

    chapter("How connections spread")
    spread("web, weights 3 to 1", front.run(sample_http, "10.96.0.10", 80, 800), {"web-a": 3, "web-b": 1})
    spread("api over IPv4", cart.run(sample_http, "10.96.0.20", 8080, 400), {"api-a": 1, "api-b": 1})
    spread("api over IPv6", cart.run(sample_http, "fd00:96::20", 8080, 400), {"api-a": 1, "api-b": 1})
    spread("dns over UDP, a socket each", batch.run(sample_udp, "10.96.0.53", 53, 400), {"dns-a": 1, "dns-b": 1})

    chapter("Live connections: 6 to pay, LEAST_REQUEST keeps them level")
    held = [pod.connect("10.97.0.1", 7000) for pod in (front, cart, batch) for _ in range(2)]
    import lab as bricks

    for made in held:
        bricks.read_name(made)
    run(demo, "service", "list")
    run(demo, "conn", "list", "protocol", "tcp")
    for made in held:
        made.close()

    chapter("Why? weft explain")
    run(demo, "explain", "from", "shop/front", "to", "10.96.0.10:80")

    chapter("Metrics, as Prometheus reads them")
    _status, body = demo.http()
    for line in body.splitlines():
        if line.startswith(('istio_tcp_connections_opened_total{reporter="source"', "weft_refused_total{")) and not line.endswith(" 0"):
            say(f"    {shorter(line)}")
    say(f"  ({len(body.splitlines())} lines at http://{bricks.METRICS}/metrics inside weft-demo-node)")


def shorter(line):
    """The labels that tell most; the whole line has all of Istio's."""
    import lab as bricks

    name, labels, value = bricks.sample(line)
    keys = ("source_workload", "destination_service", "destination_workload", "reason")
    return f"{name}{{{', '.join(f'{k}={labels[k]}' for k in keys if k in labels)}}} {value:.0f}"


def change(demo, pods):
    chapter("Changes while front, cart and batch keep asking web, on a new connection each time")
    front = pods["front"]
    tasks = [pods[name].spawn(keep_asking, "10.96.0.10", 80) for name in ("front", "cart", "batch")]
    say("  a weight moves: 90/10")
    edit(demo, "web.yaml", ('weft.dev/weight: "3"', 'weft.dev/weight: "90"'), ('weft.dev/weight: "1"', 'weft.dev/weight: "10"'))
    spread("web, weights 90 to 10", front.run(sample_http, "10.96.0.10", 80, 800), {"web-a": 90, "web-b": 10})
    say("  an endpoint drains: web-b terminates, takes no new connection and keeps those that it has")
    drained = "conditions: {ready: false, serving: true, terminating: true}"
    text = (demo.config / "web.yaml").read_text()
    at = text.index("10.244.1.14")
    before = text[at : text.index("\n", text.index("conditions:", at))]
    edit(demo, "web.yaml", (before, before[: before.index("conditions:")] + drained))
    spread("web, web-b draining", front.run(sample_http, "10.96.0.10", 80, 400), {"web-a": 1, "web-b": 0})
    good, wrong = 0, []
    for task in tasks:
        result = task.stop().result()
        good, wrong = good + result[0], wrong + result[1]
    say(f"\n  {good} requests meanwhile, {len(wrong)} failed")
    if wrong:
        failures.append(f"{len(wrong)} requests failed, the first: {wrong[0]}")


def two_nodes(story):
    chapter("Two nodes of another mesh, each with an agent of its own; all traffic between them is mutual TLS")
    story.up()
    story.show()


def kept(demo, mesh):
    chapter("The demo stays up")
    path = f"PATH={ROOT}/build/userspace/cli:$PATH WEFT_PINS={demo.pins} WEFT_STATE={demo.state} WEFT_RUN={demo.run_folder}"
    say(f"""  into a pod:       scripts/quickstart --enter front      then: curl http://10.96.0.10/
  what there is:    export {path}
                    weft service list; weft top; weft conn watch
                    weft explain from shop/front to 10.96.0.10:80
  change it:        edit {demo.config}/web.yaml, then weft config problems, weft service list
  kill it:          kill -9 any role that `weft status` shows: connections go on
  metrics:          nsenter --net=/run/netns/weft-demo-node curl http://127.0.0.1:9464/metrics
  on two nodes:     scripts/quickstart --enter mesh/front      then: curl http://10.96.0.60/; weft workload list; weft identity list; weft policy list
                    edit {mesh.config}/policy.yaml
  take it away:     scripts/quickstart --clean""")


def enter(demo, mesh, name):
    """A shell inside a pod of a demo that --keep left; `mesh/NAME` is a pod of node-1 of the two."""
    import lab as bricks

    lab, pods, wanted = (mesh, quickstart_mesh.PODS["node-1"], name[5:]) if name.startswith("mesh/") else (demo, PODS, name)
    if wanted not in pods or not pathlib.Path(f"/run/netns/{lab.prefix}{wanted}").exists():
        known = " ".join([*PODS, *(f"mesh/{pod}" for pod in quickstart_mesh.PODS["node-1"])])
        raise SystemExit(f"quickstart: no demo is up, or it has no pod '{name}': run scripts/quickstart --keep; pods are {known}")
    host = 10 + pods.index(wanted)
    bricks.Pod(lab, wanted, f"{lab.prefix}{wanted}", f"{lab.net}{host}", f"{lab.net6}{host:x}", lab.subtree / wanted).enter()
    os.environ.update(WEFT_PINS=str(lab.pins), WEFT_STATE=str(lab.state), WEFT_RUN=str(lab.run_folder), PS1=f"{name}# ",
                      PATH=f"{bricks.WEFT.parent}:{os.environ['PATH']}")
    os.execvp("bash", ["bash", "--norc"])


def main():
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the demo up, and say what to try")
    parser.add_argument("--clean", action="store_true", help="take away what --keep left")
    parser.add_argument("--enter", metavar="POD", help="a shell inside a pod of a kept demo; mesh/front, mesh/guest: of the two nodes")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("quickstart: needs root, for network namespaces and BPF: sudo scripts/quickstart")

    if not (options.clean or options.enter):
        chapter("Build")
        compile_weft(ROOT / "build")
        say("  done")
    demo = demo_lab(options.keep)
    story = quickstart_mesh.Story(sys.modules[__name__], ROOT, options.keep)
    if options.enter:
        enter(demo, story.lab, options.enter)
    if options.clean:
        demo.down()
        story.down()
        say("nothing of the demo is left")
        return 0

    start = time.monotonic()
    good = False
    try:
        pods = build(demo)
        show(demo, pods)
        change(demo, pods)
        two_nodes(story)
        good = True
    finally:
        if not (good and options.keep):
            if not good:
                say((story.lab if story.pods else demo).tail())
            story.down()
            demo.down()
    for failure in failures:
        say(f"FAILED: {failure}")
    if options.keep:
        kept(demo, story.lab)
        say(f"\ndone in {time.monotonic() - start:.0f} s")
    else:
        chapter(f"Done in {time.monotonic() - start:.0f} s; nothing is left behind. Again, to look around: sudo scripts/quickstart --keep")
    return 1 if failures else 0


sys.exit(main())
