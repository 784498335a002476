# SPDX-License-Identifier: Apache-2.0
"""Two nodes of one mesh, in network namespaces with no way out, on examples/secure.

    front (sa front) ──┐                                               ┌── ledger: nginx, knows nothing of TLS
    guest (sa guest) ──┴─ node-1, weftd ══ mutual TLS :15008 ══ weftd, node-2 ─┘

quickstart.py tells the story; what shows it is here.
"""

import shutil
import subprocess
import time

PODS = {"node-1": ["front", "guest"], "node-2": ["ledger"]}
LEDGER = "10.96.0.60"
SECRET = "account-4711"

NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_timeout 60;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 80; listen [::]:80; location / {{ default_type text/plain; return 200 "ledger: hello $remote_addr:$remote_port, here is $arg_of\\n"; }} }}
}}
"""


def mesh_lab(keep):
    import lab as bricks

    class Mesh(bricks.Lab):
        net, net6 = "10.244.2.", "fd00:244:2::"
        outlive = keep

    return Mesh("quickstart-mesh", prefix="weft-mesh-", base="weft-mesh")


class Story:
    """`told` is quickstart.py: say(), chapter(), run(), failures."""

    def __init__(self, told, root, keep):
        self.told, self.root = told, root
        self.lab = mesh_lab(keep)
        self.pods = {}

    def down(self):
        import lab as bricks

        if not self.lab.others:  # what an earlier run left
            bricks.Another(self.lab, "node-2", 1).down()
        self.lab.down()

    def up(self):
        import lab as bricks
        import mesh

        lab, say = self.lab, self.told.say
        lab.up()
        lab.another()
        for node, names in zip((lab, *lab.others), PODS.values()):
            for name in names:
                self.pods[name] = node.pod(name)
        for name, pod in self.pods.items():
            say(f"  {name:7} on {pod.lab.node_name}  {pod.ip:13} {pod.ip6}")
        folder = lab.folder / "ledger"
        folder.mkdir()
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
        ledger = self.pods["ledger"]
        ledger.popen(["/usr/sbin/nginx", "-e", folder / "error.log", "-c", folder / "nginx.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        bricks.wait_for(lambda: answers(ledger), "nginx of ledger")
        for node in (lab, *lab.others):
            for file in (self.root / "examples/secure").glob("*.yaml"):
                shutil.copy(file, node.config)
        lab.secure()
        say("  $ weft ca export    on node-1, and on node-2    $ weft ca join FILE    one root, an intermediate for each node")
        mesh.share_ca(lab)
        for node in (lab, *lab.others):
            node.start()
        for pod in self.pods.values():
            mesh.wait_attached(pod, f"spiffe://cluster.local/ns/shop/sa/{pod.name}")

    def curl(self, name, *options, of=SECRET):
        out, code = self.pods[name].output(["curl", "-sS", "--max-time", "5", *options, f"http://{LEDGER}/?of={of}"])
        self.told.say(f"  {name}$ curl 'http://{LEDGER}/?of={of}'\n    {out.strip()}")
        return out, code

    def fail(self, text):
        self.told.failures.append(text)
        self.told.say(f"    NOT as it should be: {text}")

    def show(self):
        import lab as bricks

        lab, two, say, chapter = self.lab, self.lab.others[0], self.told.say, self.told.chapter
        chapter("curl and nginx on two nodes, neither of which knows of TLS, and what a wire-tap between the nodes sees")
        with bricks.Wire(lab) as wire:
            out, _code = self.curl("front")
            if f"hello {self.pods['front'].ip}:" not in out or SECRET not in out:
                self.fail("ledger did not answer front by its own address")
            readable, tls = wire.showing(SECRET.encode()), wire.tls()
            others = {flow[3] for flow in wire.syns} - {15008}
            say(f"  on the wire: {tls} bytes of TLS records to and from port 15008, '{SECRET}' readable in {len(readable)} flows, "
                f"connections to other ports: {len(others)}")
            if readable or others or not tls:
                self.fail("something crossed the wire in plaintext")

        chapter("Both ends of an open connection, and who is who")
        held = self.pods["front"].connect(LEDGER, 80)
        bricks.wait_for(lambda: any(r.get("security") == "mutual_tls" for r in lab.weft("conn", "list")), "the connection to be shown")
        for node in (lab, two):
            self.told.run(node, "conn", "list", "service", "shop/ledger")
        self.told.run(lab, "identity", "list")
        held.close()

        chapter("guest has an identity too, but no policy of ledger's names it")
        _out, code = self.curl("guest")
        if code not in (35, 52, 56):
            self.fail(f"guest's curl ended with {code}, wanted a reset")
        for line in two.tail(200).splitlines():
            if "guest" in line and "denied" in line:
                say(f"    weftd on node-2: {line.strip()}")
                break
        else:
            self.fail("node-2 did not log the refusal")
        self.told.run(lab, "explain", "from", "shop/guest", "to", f"{LEDGER}:80")

        chapter("A program that is no workload, in node-1's own namespace: plaintext is refused at the SYN")
        out, code = lab.node.output(["curl", "-sS", "--max-time", "5", f"http://{self.pods['ledger'].ip}/"])
        say(f"  node-1$ curl http://{self.pods['ledger'].ip}/\n    {out.strip()}")
        if code != 7:
            self.fail(f"plaintext from the node ended with {code}, wanted 7: refused")

        chapter("The policy changes while front is connected: what may no longer be is cut")
        held = self.pods["front"].connect(LEDGER, 80)
        held.sendall(b"GET / HTTP/1.1\r\nHost: ledger\r\n\r\n")
        held.recv(4096)
        text = (two.config / "policy.yaml").read_text()
        start = time.monotonic()
        for node in (lab, two):
            node.apply("policy.yaml", text.replace("sa/front]", "sa/nobody]"))
        say("  policy.yaml:  - source: {principals: [cluster.local/ns/shop/sa/front]}\n                + source: {principals: [cluster.local/ns/shop/sa/nobody]}")
        held.settimeout(5)
        try:
            got = held.recv(1)
            self.fail(f"front's open connection got {got!r}, wanted a reset")
        except ConnectionResetError:
            say(f"  front's open connection was reset {1000 * (time.monotonic() - start):.0f} ms after the change")
        for node in (lab, two):
            node.apply("policy.yaml", text)
        say("  and the rule is put back")
        self.curl("front", of="front-again")


def answers(pod):
    try:
        pod.connect(pod.ip, 80).close()
    except OSError:
        return False
    return True
