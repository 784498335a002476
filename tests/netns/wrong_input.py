#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Wrong input and wrong surroundings: each is named, and what was in force stays in force.

    client ──> 10.96.0.1:80 (web) ──> web      in force all the time
           ──> 10.96.0.2:80 (bad)              what the test is about
"""

from lab import *


def topology(lab):
    lab.client, lab.web = lab.pod("client"), lab.pod("web")
    lab.web.serve()
    lab.write("node.yaml", node())
    lab.write("web.yaml", [service("web", "10.96.0.1", created="2024-01-01T00:00:00Z"), endpoint_slice("web", [lab.web])])
    lab.write("pods.yaml", [pod_resource(lab.client), pod_resource(lab.web)])
    lab.start()


def refused(lab, documents, *parts, severity="error"):
    """bad.yaml leads to a problem that says all the parts; the rest works; without the file there is no problem."""
    lab.write("bad.yaml", documents)
    try:
        def told():
            return [p for p in lab.problems() if all(part in f"{p['file']}:{p.get('line', '')} {p['resource']} {p['path']} {p['text']}" for part in parts)]

        problem = wait_for(told, lambda: f"a problem that says {parts}; there are {lab.problems()}")[0]
        equal(problem["severity"], severity, f"severity of {problem}")
        equal(lab.client.who("10.96.0.1", 80), "web")
    finally:
        (lab.config / "bad.yaml").unlink()
    wait_for(lambda: not lab.problems(), lambda: f"no problems, there are {lab.problems()}")


def unreachable(lab, address, port=80):
    with fails(errno.ENETUNREACH, errno.ECONNREFUSED):
        lab.client.connect(address, port, timeout=1).close()


def test_torn_yaml(lab):
    refused(lab, "apiVersion: v1\nkind: Service\nmetadata: {name: bad\n", "bad.yaml:")


def test_a_million_aliases(lab):
    start = time.monotonic()
    refused(lab, "apiVersion: v1\nkind: Service\nmetadata: &a {name: bad}\nx: [" + "*a," * 1_000_000 + "]\n", "bad.yaml:3", "anchor")
    true(time.monotonic() - start < 10, "a refusal took more than 10 s")


def test_port_twice(lab):
    refused(lab, service("bad", "10.96.0.2", ["a=80", "b=80"]), "Service default/bad", "spec.ports[1]")


def test_two_services_on_one_address(lab):
    """The older one keeps it."""
    other = lab.pod("other")
    other.serve()
    refused(lab, [service("bad", "10.96.0.1", created="2024-01-02T00:00:00Z"), endpoint_slice("bad", [other])], "default/bad", "10.96.0.1", "default/web")
    equal(lab.client.spread("10.96.0.1", 80, 20), {"web": 20})


def test_endpoint_with_port_0(lab):
    bad = endpoint_slice("bad", [lab.web])
    bad["ports"][0]["port"] = 0
    refused(lab, [service("bad", "10.96.0.2"), bad], "EndpointSlice default/bad-4", "ports[0].port")


def test_external_addresses_that_may_not_be(lab):
    lab.web.serve(81)
    for address in ("127.0.0.1", "::1", "169.254.1.1", "fe80::1", "10.77.0.1", lab.web.ip, lab.web.ip6):
        documents = [service("bad", "10.96.0.2", [8099], externalIPs=[address]), endpoint_slice("bad", [lab.web], [8099])]
        refused(lab, documents, "default/bad", address)
    documents = [service("bad", "10.96.0.2", type="LoadBalancer", status={"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}})]
    refused(lab, documents, "default/bad", "127.0.0.1")


def test_external_address_allowed(lab):
    lab.apply("bad.yaml", [mesh_config(externalAddresses={"allow": ["169.254.20.0/24"]}),
                           service("dns", "10.96.0.2", externalIPs=["169.254.20.10"]), endpoint_slice("dns", [lab.web])])
    equal(lab.client.who("169.254.20.10", 80), "web")
    equal(lab.problems(), [])
    lab.remove("bad.yaml")


def test_node_port_that_a_process_holds(lab):
    listener = lab.node.new_socket(socket.AF_INET)
    listener.bind(("0.0.0.0", 30099))
    listener.listen()
    port = {"port": 80, "nodePort": 30099, "protocol": "TCP"}
    refused(lab, [service("bad", "10.96.0.2", [port], type="NodePort"), endpoint_slice("bad", [lab.web])], "default/bad", "30099", severity="notice")
    listener.close()


def test_netns_that_is_gone(lab):
    ghost = pod_resource(lab.web)
    ghost["metadata"].update(name="ghost", annotations={"weft.dev/netns": lab.prefix + "ghost"})
    ghost["status"] = {"podIP": "10.77.0.99", "phase": "Running"}
    refused(lab, ghost, lab.prefix + "ghost", severity="notice")


def test_netns_name_that_is_a_path(lab):
    ghost = pod_resource(lab.web)
    ghost["metadata"].update(name="ghost", annotations={"weft.dev/netns": "../../etc/passwd"})
    ghost["status"] = {"podIP": "10.77.0.99", "phase": "Running"}
    refused(lab, ghost, "Pod default/ghost", "netns")


def test_map_too_small(lab):
    """Refused as a whole with the size to set, the old state kept; or built anew larger."""
    lab.stop()
    equal(lab.cli("uninstall")[0], 0)
    for folder in (lab.state, lab.run_folder):
        folder.mkdir(exist_ok=True)
    lab.start("--map-size", "frontend=64")
    many = [service(f"many-{n}", f"10.96.7.{n}") for n in range(1, 100)]
    lab.write("bad.yaml", many)

    def full():
        return [p for p in lab.problems() if "frontend" in p["text"]] or works()

    def works():
        with contextlib.suppress(OSError):
            lab.client.connect("10.96.7.99", 80)
        return sum(1 for _ in lab.maps("weft_frontend")) >= 198

    problem = wait_for(full, lambda: f"a full map to be told, or a larger one; problems: {lab.problems()}")
    equal(lab.client.who("10.96.0.1", 80), "web")
    if problem is not True:
        contains(problem[0]["text"], "256", "the size to set")
        unreachable(lab, "10.96.7.1")
    (lab.config / "bad.yaml").unlink()
    wait_for(lambda: not lab.problems(), lambda: f"no problems, there are {lab.problems()}")


# From here on weftd does not start.


def elsewhere(lab, **values):
    flags = dict(zip(lab.flags()[::2], lab.flags()[1::2]))
    flags.update({f"--{k}": v for k, v in values.items()})
    return [part for pair in flags.items() for part in pair]


def test_no_cgroup2(lab):
    lab.stop()
    (lab.folder / "plain").mkdir()
    text = lab.refusal(code=KERNEL, flags=elsewhere(lab, cgroup=lab.folder / "plain"))
    contains(text, "cgroup2")
    contains(text, str(lab.folder / "plain"))
    contains(lab.refusal(flags=elsewhere(lab, cgroup=lab.folder / "missing")), "missing")


def test_no_bpffs(lab):
    """Mounted by the agent where it may; where not, named."""
    pins = lab.folder / "plain/weft"
    lab.launch(flags=elsewhere(lab, pins=pins))
    try:
        text = wait_for(lambda: lab.agent.poll() is not None and lab.tail() or pins.joinpath("v1").exists() and "mounted", "pins or an end")
        true(text == "mounted" or "not on a BPF filesystem: mount -t bpf" in text, f"neither mounted nor named: {text}")
        if text == "mounted":
            lab.stop()
    finally:
        for path in (pins, pins.parent):
            subprocess.run(["umount", "-l", str(path)], stderr=subprocess.DEVNULL, check=False)
        lab.launch(flags=["--version"]).wait()


def test_no_btf(lab):
    contains(lab.refusal("--without-feature", "btf", code=KERNEL), "btf")


def test_every_floor_feature_is_named(lab):
    floor = re.findall(r'^WEFT_FEATURE\(\w+, "(\w+)", FLOOR', (ROOT / "include/weft/lists/feature.h").read_text(), re.MULTILINE)
    for name in floor:
        contains(lab.refusal("--without-feature", name, code=KERNEL), name)


def test_no_capability(lab):
    drop = ["setpriv", "--bounding-set=-bpf,-net_admin,-sys_admin,-perfmon", "--inh-caps=-bpf,-net_admin,-sys_admin,-perfmon", "--"]
    contains(lab.refusal(code=PRIVILEGE, wrap=drop).lower(), "cap_")


def test_wrong_options(lab):
    for words in (["--config"], ["--cnofig", "x"], ["--metrics", "nonsense"], ["--without-feature", "magic"], ["--map-size", "frontend=0"], ["extra"]):
        lab.refusal(*words, code=USAGE)


main(topology)
