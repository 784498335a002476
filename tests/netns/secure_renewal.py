#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Certificates of thirty seconds are renewed under traffic, at half their life; new connections know nothing of it.

    client ──> web:80 (node-2), for longer than the first certificates live
"""

from mesh import *

TTL = 30


def topology(lab):
    prepare(lab, ["client"], ["web"])
    lab.web.serve(80)
    start_all(lab, [lab.client, lab.web], *web_service(lab.web), config={"identity": {"certificateTTL": f"{TTL}s"}})


def serials(lab):
    return {row["identity"]: row["serial"] for node_lab in (lab, lab.two) for row in node_lab.weft("identity", "list")}


def test_renewed_under_traffic(lab):
    """A tunnel ends with the certificates that it was made with, and no connection is put into one that is about to: one of half their life goes on."""
    first = serials(lab)
    equal(set(first), {spiffe(lab.client), spiffe(lab.web)})
    load = lab.client.spawn(_good, VIP, 80)
    start = time.monotonic()
    wait_for(lambda: not set(serials(lab).values()) & set(first.values()), "both certificates to be others", TTL)
    took = time.monotonic() - start
    true(took > TTL * 0.25, f"renewed after {took:.1f} s of {TTL}")
    time.sleep(1)  # proxies have the new ones
    with lab.client.connect(VIP, 80) as later:
        read_name(later)
        while time.monotonic() < start + TTL + 5:
            still_open(later)
            time.sleep(0.25)
    result = load.stop().result()
    equal(result["errors"], {}, "errors of new connections")
    true(result["ok"] > 0, "no connection was made")


def _good(address, port):
    result = {"ok": 0, "errors": {}}
    while not stopping():
        try:
            with socket.create_connection((address, port), 10) as made:
                read_name(made)
            result["ok"] += 1
        except OSError as error:
            result["errors"][repr(error)] = result["errors"].get(repr(error), 0) + 1
    return result


def test_expiry_can_be_seen(lab):
    left = lab.metric("weft_identity_expiry_seconds", identity=spiffe(lab.client))
    true(0 < left <= TTL, f"seconds to expiry: {left}")
    row = lab.weft("identity", "show", spiffe(lab.client))
    contains(json.dumps(row), spiffe(lab.client))


def test_keys_are_in_keys_alone(lab):
    """No other process has the authority's private number, in either byte order, nor any private key in a form that files have; no log has one."""
    gets_through(lab.client, VIP)
    for node_lab in (lab, lab.two):
        true(node_lab.role("keys"), "there is no role keys")
        number = weft_ca(node_lab).key.private_numbers().private_value.to_bytes(32, "big")
        for role in node_lab.status()["roles"]:
            if role["role"] == "keys" or not role["pid"]:
                continue
            data = _memory(role["pid"])
            true(len(data) > 1 << 16, f"the memory of {role['role']} could not be read")
            # PEM; and ECPrivateKey of RFC 5915 with a key of 32 bytes, whatever follows it
            for form in (b"PRIVATE KEY-----", b"\x02\x01\x01\x04\x20", number, number[::-1]):
                true(form not in data, f"{role['role']} of {node_lab.node_name} has a private key in its memory")
        true("PRIVATE KEY" not in node_lab.log.read_text(errors="replace"), "a private key in the log")


def _memory(pid):
    data = bytearray()
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, flags, *rest = line.split()
            if flags.startswith("rw") and "[v" not in line:
                begin, end = (int(part, 16) for part in span.split("-"))
                with contextlib.suppress(OSError, ValueError, OverflowError):
                    memory.seek(begin)
                    data += memory.read(min(end - begin, 64 << 20))
    return bytes(data)


main(topology)
