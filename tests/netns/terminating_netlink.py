#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What terminating.py shows, with SOCK_DESTROY over netlink instead of bpf_sock_destroy.

    client ──> 10.96.0.1:80, 53/UDP ──┬── web-a   ready -> terminating -> gone
                                      └── web-b
"""

import terminating
from terminating import *

terminating.EXTRA = ["--without-feature", "sock_destroy"]


def test_netlink_is_in_use(lab):
    features = {f["name"]: f for f in lab.request({"request": "feature.list"})["features"]}
    true(not features["sock_destroy"]["there"] and features["sock_destroy"]["forced"], f"sock_destroy: {features['sock_destroy']}")


main(topology)
