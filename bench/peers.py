# SPDX-License-Identifier: Apache-2.0
"""What stands between a client and its servers: weft, nftables, HAProxy, each with the same services."""

import contextlib
import ipaddress
import json
import os
import pathlib
import socket
import subprocess
import time

import host as hosts
from host import PREFIX, Unusable, inside, run

FIRST_SERVICE = ipaddress.ip_address("10.96.0.1")
PORT = 80
METRICS = "127.0.0.1"


def service_address(index):
    return str(FIRST_SERVICE + index)


# ---- resources, as JSON, which is YAML ----


def service(index, target_port):
    address = service_address(index)
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{index}", "namespace": "bench"},
            "spec": {"clusterIP": address, "clusterIPs": [address],
                     "ports": [{"port": PORT, "protocol": "TCP", "targetPort": target_port}]}}


def endpoint_slice(index, endpoints, target_port):
    """`endpoints`: addresses, or dicts as in an EndpointSlice."""
    made = [e if isinstance(e, dict) else {"addresses": [e], "conditions": {"ready": True}} for e in endpoints]
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": f"s{index}", "namespace": "bench", "labels": {"kubernetes.io/service-name": f"s{index}"}},
            "addressType": "IPv4", "endpoints": made, "ports": [{"name": "", "protocol": "TCP", "port": target_port}]}


def mesh_config(**spec):
    return {"apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"}, "spec": spec}


def documents(resources):
    return "".join(f"---\n{json.dumps(r)}\n" for r in resources)


def write_services(folder, count, endpoints, target_port, per_file=500):
    """`endpoints(index)` gives a service's; services and slices in files of `per_file`."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, count, per_file):
        some = range(first, min(first + per_file, count))
        (folder / f"services-{first:06}.yaml").write_text(documents(service(i, target_port) for i in some))
        (folder / f"slices-{first:06}.yaml").write_text(documents(endpoint_slice(i, endpoints(i), target_port) for i in some))


def replace(path, text):
    """As ConfigMaps and careful people do it: written aside, then renamed; the agent looks at *.yaml only."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text)
    aside.rename(path)


# ---- weft ----

STATS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")


@contextlib.contextmanager
def counting():
    """The kernel counts runs of BPF programs meanwhile."""
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


def runs_between(before, after):
    """{hook: {"runs", "ns"}}, without those that did not run."""
    return {hook: {"runs": after[hook][0] - before[hook][0], "ns": after[hook][1] - before[hook][1]}
            for hook in after if after[hook][0] != before[hook][0]}


class Weft:
    """An instance of weftd on one cgroup subtree, in the node's namespace."""

    def __init__(self, host, name, node, config, port, arguments=()):
        self.host, self.name, self.node, self.metrics_port = host, name, node, port
        self.cgroup = host.cgroup(name)
        self.pins = host.bpffs / name
        self.log = host.folder / f"{name}.log"
        notify = host.folder / f"{name}.notify"
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind(str(notify))
        ready.settimeout(0.2)
        if not hosts.WEFTD.exists():
            raise Unusable(f"{hosts.WEFTD} is missing: build first (scripts/build), or set WEFT_BUILD")
        with open(self.log, "ab") as log:
            self.process = host.start(
                [hosts.WEFTD, "--config", config, "--node", "bench", "--cgroup", self.cgroup, "--pins", self.pins,
                 "--state", host.folder / f"{name}.state", "--run", host.folder / f"{name}.run",
                 "--metrics", f"{METRICS}:{port}", *arguments],
                netns=node, cgroup=f"agents/{name}", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(notify)})
        deadline = time.monotonic() + 120
        with ready:
            while True:
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in ready.recv(4096):
                        return
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise Unusable(f"weftd did not get ready: {self.log.read_text()[-2000:]}")

    def pids(self):
        return [int(p) for p in (self.host.cgroup(f"agents/{self.name}") / "cgroup.procs").read_text().split()]

    def pss(self):
        """Bytes of all roles."""
        total = 0
        for pid in self.pids():
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def maps(self):
        """{name: bytes that the kernel says the map takes}."""
        found = {}
        for path in sorted((self.pins / "v1/map").iterdir()):
            info = json.loads(run("bpftool", "-j", "map", "show", "pinned", path))
            found[path.name] = int(info.get("bytes_memlock", 0))
        return found

    def runs(self):
        """{hook: (times that its program ran, nanoseconds that it took)}; counted only while kernel.bpf_stats_enabled is 1."""
        found = {}
        for path in sorted((self.pins / "v1/link").iterdir()):
            # bpftool 7.5 shows it and says 255.
            shown = subprocess.run(["bpftool", "-j", "link", "show", "pinned", path], capture_output=True, text=True, check=False).stdout
            link = json.loads(shown or "{}")
            if "prog_id" not in link:
                raise Unusable(f"bpftool does not show {path}: {link.get('error', 'it says nothing')}")
            program = json.loads(run("bpftool", "-j", "prog", "show", "id", str(link["prog_id"])))
            found[path.name] = (int(program.get("run_cnt", 0)), int(program.get("run_time_ns", 0)))
        return found

    def metrics(self):
        """{sample as it stands: number}"""
        text = inside(PREFIX + self.node, "python3", "-c",
                      f"import urllib.request as u; print(u.urlopen('http://{METRICS}:{self.metrics_port}/metrics', timeout=30).read().decode())")
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line and line[0] != "#"}

    def metric(self, name):
        found = self.metrics()
        if name not in found:
            raise Unusable(f"weftd's /metrics has no {name}")
        return found[name]


# ---- nftables, after the way of kube-proxy's nftables mode: one verdict map of services, a chain for each ----


def nftables(host, node, count, endpoints, target_port):

    choices = ", ".join(f"{i} : {address}" for i, address in enumerate(endpoints))
    chains = "".join(f"  chain s{i} {{ meta l4proto tcp dnat to numgen random mod {len(endpoints)} map {{ {choices} }} : {target_port}; }}\n"
                     for i in range(count))
    elements = ",\n".join(f"    {service_address(i)} . tcp . {PORT} : goto s{i}" for i in range(count))
    rules = (f"table ip bench {{\n{chains}  map services {{\n    type ipv4_addr . inet_proto . inet_service : verdict;\n"
             f"    elements = {{\n{elements}\n    }}\n  }}\n"
             "  chain prerouting { type nat hook prerouting priority dstnat; ip daddr . meta l4proto . th dport vmap @services; }\n}\n")
    began = time.monotonic()
    inside(PREFIX + node, "nft", "-f", host.file(f"{node}.nft", rules))
    host.sysctl(node, hosts.CONNTRACK_SYSCTLS)
    return time.monotonic() - began


# ---- HAProxy in TCP mode, listening on every service's address on the client's node ----


def haproxy(host, node, count, endpoints, target_port):
    servers = "".join(f"  server e{i} {address}:{target_port}\n" for i, address in enumerate(endpoints))
    listens = "".join(f"listen s{i}\n  bind {service_address(i)}:{PORT}\n{servers}" for i in range(count))
    config = ("global\n  maxconn 4000\n  nbthread 1\ndefaults\n  mode tcp\n  balance roundrobin\n  timeout connect 5s\n"
              f"  timeout client 60s\n  timeout server 60s\n{listens}")
    inside(PREFIX + node, "ip", "route", "replace", "local", hosts.SERVICES, "dev", "lo")
    log = host.folder / "haproxy.log"
    with open(log, "ab") as out:
        process = host.start(["haproxy", "-db", "-f", host.file("haproxy.cfg", config)], netns=node, cgroup="haproxy",
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=out)
    probe = f"import socket; socket.create_connection(('{service_address(count - 1)}', {PORT}), 1)"
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(Unusable):
            inside(PREFIX + node, "python3", "-c", probe)
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unusable(f"haproxy does not listen: {log.read_text()[-1000:]}")
