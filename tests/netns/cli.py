#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What `weft` shows is what is there: services, endpoints, workloads, connections, explanations.

    shop/client ──> 10.96.0.1:80, fd96::1:80, node port 30080 (web) ──┬── shop/web-a  weight 3
                                                                      └── shop/web-b  weight 1
                ──> 10.96.0.2:80 (none)
"""

from lab import *


def topology(lab):
    lab.client, lab.out = lab.pod("client"), lab.pod("out")
    lab.a, lab.b = lab.pod("web-a"), lab.pod("web-b")
    lab.a.serve()
    lab.b.serve()
    port = {"port": 80, "nodePort": 30080, "protocol": "TCP"}
    web = service("web", ["10.96.0.1", "fd96::1"], [port], namespace="shop", type="NodePort")
    slices = [endpoint_slice("web", [p], name=p.name, namespace="shop", weight=w) for p, w in ((lab.a, 3), (lab.b, 1))]
    lab.write("web.yaml", [node(), web, *slices, endpoint_slice("web", [endpoint(lab.a.ip6)], namespace="shop"),
                           service("none", "10.96.0.2", namespace="shop")])
    lab.write("pods.yaml", [pod_resource(p, "shop") for p in (lab.client, lab.a, lab.b)] +
              [pod_resource(lab.out, "shop", {"istio.io/dataplane-mode": "none"})])
    lab.start()


def frontends(lab):
    web = [s for s in lab.weft("service", "list") if s["name"] == "web"]
    equal(len(web), 1, "ports of web")
    return {(f["type"], f["address"]): f for f in web[0]["frontends"]}


def test_service_list(lab):
    found = frontends(lab)
    equal(sorted(found), [("cluster-ip", "10.96.0.1"), ("cluster-ip", "fd96::1"), ("node-port", "0.0.0.0"), ("node-port", "::")])
    four = found["cluster-ip", "10.96.0.1"]
    equal({(e["address"], e["state"], e["weight"], e["share"], e["workload"]) for e in four["endpoints"]},
          {(lab.a.ip, "ready", 3, 0.75, "shop/web-a"), (lab.b.ip, "ready", 1, 0.25, "shop/web-b")})
    equal(four["algorithm"], "least-request")
    equal([e["address"] for e in found["cluster-ip", "fd96::1"]["endpoints"]], [lab.a.ip6])


def test_live_connections(lab):
    held = [lab.client.connect("10.96.0.1", 80) for _ in range(20)]
    names = [read_name(made) for made in held]
    live = {e["workload"]: e["live"] for e in frontends(lab)["cluster-ip", "10.96.0.1"]["endpoints"]}
    equal(live, {f"shop/web-{x}": names.count(f"web-{x}") for x in "ab"})
    conns = lab.weft("conn", "list", "service", "shop/web")
    clients = {c["local"]: c for c in conns if c["role"] == "client"}
    servers = {c["remote"]: c for c in conns if c["role"] == "server"}
    equal((len(clients), len(servers)), (20, 20), "connections at either end")
    for made, name in zip(held, names):
        own = "{}:{}".format(*made.getsockname())
        one, other = clients[own], servers[own]
        equal((one["source"], one["destination"], one["frontend"]), ("shop/client", f"shop/{name}", "10.96.0.1:80"))
        equal((other["source"], other["destination"]), ("shop/client", f"shop/{name}"))
        equal((one["received"], other["sent"], one["state"]), (6, 6, "established"))
        true(one["netns"] == (lab.client.cookie() or one["netns"]) != 0, f"netns is {one['netns']}, the client's is {lab.client.cookie()}")
    for made in held:
        reset(made)
    wait_for(lambda: not lab.weft("conn", "list", "service", "shop/web"), "the connections to be gone from the list")


def test_endpoint_and_workload(lab):
    one = lab.weft("endpoint", "list", "service", "shop/web")[0]
    shown = lab.weft("endpoint", "show", "id", str(one["id"]))
    equal({k: shown[k] for k in one}, one)
    workload = lab.weft("workload", "show", "shop/client")[0]
    equal((workload["kind"], sorted(workload["addresses"])), ("Pod", sorted([lab.client.ip, lab.client.ip6])))
    cookie, = (int(c) for c in workload["netns"])
    true(cookie == (lab.client.cookie() or cookie) != 0, f"netns is {cookie}, the client's is {lab.client.cookie()}")


def explain(lab, who, to):
    return lab.weft("explain", "from", who, "to", to)


def test_explain_says_what_happens(lab):
    told = explain(lab, "shop/client", "10.96.0.1:80")
    equal(told["verdict"], "translate")
    equal({c["workload"]: c["share"] for c in told["candidates"]}, {"shop/web-a": 0.75, "shop/web-b": 0.25})
    for to, verdict, number in (("10.96.0.2:80", "refuse", lab.refused), ("10.96.0.1:81", "refuse", lab.refused),
                                ("10.98.0.1:80", "pass", errno.ENETUNREACH)):
        equal(explain(lab, "shop/client", to)["verdict"], verdict, to)
        address, port = to.split(":")
        with fails(number):
            lab.client.connect(address, int(port))
    equal(explain(lab, "shop/out", "10.96.0.1:80")["verdict"], "pass")
    with fails(errno.ENETUNREACH):
        lab.out.connect("10.96.0.1", 80)
    equal(explain(lab, "shop/client", f"{lab.node_ip}:30080")["verdict"], "translate")
    equal(explain(lab, "host", "[fd96::1]:80")["verdict"], "translate")


def test_top(lab):
    code, out, err = lab.cli("-j", "top", "batch", "count", "2", "interval", "100")
    equal((code, err), (0, ""))
    looks = [json.loads(line) for line in out.splitlines()]
    equal(len(looks), 2)
    true(any(row["service"].startswith("shop/web") for row in looks[1]), f"shop/web is not in {looks[1]}")


def test_metric_show(lab):
    for _ in range(7):
        lab.client.who("10.96.0.1", 80)

    def closed():
        rows = [r for r in lab.weft("metric", "show", "service", "shop/web") if r["reporter"] == "source" and r["outcome"] == "reset"]
        return sum(r["ended"] for r in rows)

    wait_for(lambda: closed() >= 7, lambda: f"7 connections that ended by a reset, there are {closed()}")
    with fails(lab.refused):
        lab.client.connect("10.96.0.2", 80)
    equal({m["name"]: m["value"] for m in lab.weft("metric", "list")}["no_endpoint"], lab.counter("no_endpoint"))


def test_bypass(lab):
    """Service addresses are nobody's while it lasts; connections go on."""
    held = lab.client.connect("10.96.0.1", 80)
    read_name(held)
    equal(lab.weft("bypass", "on")["bypass"], True)
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.96.0.1", 80)
    held.sendall(b"here")
    equal(held.recv(10), b"here")
    equal(held.getpeername(), ("10.96.0.1", 80))
    equal(lab.weft("bypass", "off")["bypass"], False)
    lab.client.who("10.96.0.1", 80)
    reset(held)


def test_config_diff(lab):
    other = lab.folder / "other"
    other.mkdir()
    for file in lab.config.iterdir():
        shutil.copy(file, other)
    equal(lab.weft("config", "diff", other), [])
    (other / "new.yaml").write_text(yaml.safe_dump_all([service("new", "10.96.0.7", namespace="shop")]))
    changes = {(c["change"], c["service"]) for c in lab.weft("config", "diff", other)}
    true(("added", "shop/new") in changes, f"changes: {changes}")
    equal({c[1] for c in changes}, {"shop/new"}, "services that change")
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.96.0.7", 80)


def test_config_check(lab):
    bad = lab.folder / "bad"
    bad.mkdir()
    (bad / "bad.yaml").write_text(yaml.safe_dump(service("bad", "10.96.0.300")))
    code, out, _err = lab.cli("-j", "config", "check", bad)
    equal(code, 1)
    told = json.loads(out)
    problem = told["problems"][0]
    equal((told["ok"], problem["file"], problem["path"]), (False, "bad.yaml", "spec.clusterIP"))
    true(problem["line"] > 1, f"line of {problem}")
    code, out, err = lab.cli("-j", "config", "check", ROOT / "examples")
    equal(code, 0, f"examples: {out} {err}")


def test_log_level(lab):
    equal(lab.weft("log", "level")["level"], "info")
    equal(lab.weft("log", "level", "debug")["level"], "debug")
    equal(lab.weft("log", "level", "info")["level"], "info")


def test_wrong_words(lab):
    code, _out, err = lab.cli("servcie", "list")
    equal(code, 2)
    contains(err, "service")
    true(len(err.splitlines()) <= 3, f"a page of usage: {err}")


def test_without_the_agent(lab):
    with_agent = lab.weft("service", "list")
    lab.stop()
    equal(lab.weft("service", "list"), with_agent)
    equal(lab.weft("status")["pins"], "there")
    true(lab.weft("map", "list") and lab.weft("prog", "list"), "maps or programs are not shown")
    equal(explain(lab, "shop/client", "10.96.0.1:80")["verdict"], "translate")
    code, _out, err = lab.cli("config", "list")
    equal(code, 1)
    contains(err, "weft.sock")


main(topology)
