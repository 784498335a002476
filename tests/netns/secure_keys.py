#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Private keys are in the locked heap of role keys and nowhere else: memory of all roles is searched for them.

    client, web (attached) <── handshakes, so that keys are used ── this test
"""

import ssl

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mesh import *

TTL = 30
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
HEAP = 2 << 20  # tls/key.c
PIECE = 64


def topology(lab):
    prepare(lab, ["client", "web"])
    strangers(lab, "looker")  # out of weft's reach, which refuses its own pods that port
    lab.write("mesh.yaml", [mesh_config(identity={"certificateTTL": f"{TTL}s"})])
    lab.write("pods.yaml", [enrolled(lab.client), enrolled(lab.web)])
    lab.secure()
    lab.start()
    for pod in (lab.client, lab.web):
        wait_for(lambda p=pod: listening(p, HBONE), lambda: f"listeners\n{lab.tail()}", 20)
        wait_for(lambda p=pod: shown(p), lambda: f"a certificate\n{lab.tail()}", 20)


def shown(pod):
    """The certificate that the agent shows for a pod; whoever has none himself sees it before he is refused. None: not yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with contextlib.suppress(OSError), pod.lab.looker.connect(pod.ip, HBONE) as plain, context.wrap_socket(plain) as made:
        return x509.load_der_x509_certificate(made.getpeercert(True))
    return None


def numbers(certificate):
    return certificate.public_key().public_numbers()


class Mapping:
    def __init__(self, head, flags):
        span, self.rights, _offset, _device, _inode, *name = head.split(maxsplit=5)
        self.begin, self.end = (int(part, 16) for part in span.split("-"))
        self.name, self.flags = (name or [""])[0], flags.split()

    def read(self, pid):
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            memory.seek(self.begin)
            with contextlib.suppress(OSError):
                return memory.read(self.end - self.begin)
        return b""


def mappings(pid):
    """What can be read, but what the kernel puts there and the tables of sanitizers."""
    found, head = [], ""
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            head = line
        elif line.startswith("VmFlags:"):
            made = Mapping(head, line.removeprefix("VmFlags:"))
            if "r" in made.rights and not made.name.startswith("[v") and made.end - made.begin < 1 << 30:
                found.append(made)
    return found


def is_heap(mapping):
    """OpenSSL's: of that size, never in a core ("dd"), locked ("lo")."""
    return mapping.end - mapping.begin == HEAP and {"dd", "lo"} <= set(mapping.flags)


def private_numbers(pid):
    """{private: public} of every P-256 key in the heap, where each is at the beginning of a piece, as a number of little-endian words."""
    heaps = [m for m in mappings(pid) if is_heap(m)]
    equal(len(heaps), 1, "locked heaps of keys")
    data, found = heaps[0].read(pid), {}
    for at in range(0, len(data), PIECE):
        number = int.from_bytes(data[at : at + 32], "little")
        # What is no key is pointers of the free list, or text: its upper half is empty, or it is derived in vain.
        if number >> 192 and number < ORDER:
            found[number] = ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers()
    return found


def forms(number):
    """As bytes in both orders; and times 2^256, the form that OpenSSL computes with."""
    for value in (number, (number << 256) % ORDER):
        yield value.to_bytes(32, "big")
        yield value.to_bytes(32, "little")


def authority(lab, name):
    text = (lab.state / "ca" / name).read_bytes()
    return serialization.load_pem_private_key(text[text.index(b"-----BEGIN PRIVATE KEY") :], None).private_numbers()


def roles(lab):
    return {row["role"]: row["pid"] for row in lab.status()["roles"] if row["pid"]}


def test_keys_are_in_the_locked_heap_alone(lab):
    for _ in range(20):
        true(shown(lab.client) and shown(lab.web), "a certificate")
    wanted = {"client": numbers(shown(lab.client)), "web": numbers(shown(lab.web)), "intermediate": authority(lab, "intermediate.pem").public_numbers}
    here = private_numbers(roles(lab)["keys"])
    private = {name: [n for n, public in here.items() if public == of] for name, of in wanted.items()}
    for name, found in private.items():
        true(len(found) >= 1, f"the key of {name} is not in the heap of keys, so the rest would show nothing")
    # The root's is read where it is needed, and gone behind that: it is known from its file, as the intermediate's is.
    equal([authority(lab, "intermediate.pem").private_value], private["intermediate"][:1], "the intermediate's key")
    private["root"] = [authority(lab, "root.pem").private_value]
    searched = 0
    for role, pid in {**roles(lab), "init": lab.agent.pid}.items():
        for mapping in mappings(pid):
            if role == "keys" and is_heap(mapping):
                continue
            data = mapping.read(pid)
            searched += len(data)
            for name, found in private.items():
                for form in (form for number in found for form in forms(number)):
                    true(form not in data, f"{role} has the key of {name} in {mapping.name or 'memory'} at {mapping.begin:#x}")
    true(searched > 1 << 20, "nothing was searched")
    log = lab.log.read_bytes()
    for found in private.values():
        for form in (form for number in found for form in forms(number)):
            true(form not in log and form.hex().encode() not in log.lower(), "a key in the log")
    true(b"PRIVATE KEY" not in log, "a key in the log")


def test_no_core_and_no_tracer(lab):
    pid = roles(lab)["keys"]
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    true(re.search(r"Max core file size +0 +0 ", limits), limits)
    # What nobody may trace is root's in /proc, whoever it runs as.
    equal(os.stat(f"/proc/{pid}/mem").st_uid, 0, "owner of the process's memory")
    uid = int(re.search(r"^Uid:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1])
    true(uid != 0, "keys runs as root")


def test_renewed_keys_go(lab):
    """At half of its life another certificate with another key is shown; when handshakes with the old one can be no more, its key is gone."""
    first = shown(lab.web)
    wait_for(lambda: (now := shown(lab.web)) and now.serial_number != first.serial_number, "another certificate", TTL)
    true(numbers(shown(lab.web)) != numbers(first), "another certificate of the same key")
    pid = roles(lab)["keys"]
    wait_for(lambda: numbers(first) not in private_numbers(pid).values(), "the old key to be gone", 75)


def test_back_after_a_kill(lab):
    """The authority is read again, workloads are known from control, and no key has come back."""
    pid, before = roles(lab)["keys"], [numbers(shown(pod)) for pod in (lab.client, lab.web)]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: roles(lab).get("keys", pid) != pid, "another keys", 10)
    for pod, old in zip((lab.client, lab.web), before):
        wait_for(lambda p=pod, o=old: (now := shown(p)) and numbers(now) != o, lambda: f"another certificate\n{lab.tail()}", 10)


main(topology)
