#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The list of connections has each one once, also while others come and go between two reads of it.

    client ──> 10.96.0.1:80 ──> web:80     connections that stay
    busy   ──> 10.96.0.1:80 ──> web:80     connections that come and go
"""

import resource

from lab import *

HELD = 1500


def topology(lab):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if limit < HELD + 100:
        raise Failure(f"the limit of open files is {limit}")
    lab.client, lab.busy, lab.web = lab.pod("client"), lab.pod("busy"), lab.pod("web")
    lab.web.serve()
    lab.write("web.yaml", [service("web", "10.96.0.1"), endpoint_slice("web", [lab.web])])
    lab.start()


def test_each_once(lab):
    loads = [lab.busy.load("10.96.0.1", 80) for _ in range(2)]
    held = [lab.client.connect("10.96.0.1", 80) for _ in range(HELD)]
    ports = {made.getsockname()[1] for made in held}
    try:
        for _ in range(20):
            rows = lab.weft("conn", "list")
            clients = [r for r in rows if r["role"] == "client"]
            cookies = [r["cookie"] for r in rows]
            equal(len(cookies), len(set(cookies)), "connections, each once")
            seen = {r["local"] for r in clients}
            missing = [p for p in ports if f"{lab.client.ip}:{p}" not in seen]
            equal(missing, [], f"ports of held connections that are not among {len(rows)}")
    finally:
        for load in loads:
            equal(load.stop().result()["errors"], {})
    for made in held:
        made.close()


main(topology)
