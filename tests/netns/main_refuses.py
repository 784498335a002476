#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Role main checks by itself what control may ask for: here control is this test, which asks for more.

    this test ──abi/role.h──> weftd --role main
"""

import fcntl

from lab import *

LIMIT = 256
ROLES, LINK, LINK_CONTROL_MAIN = 1, 4, 1  # enum weft_init_type, enum weft_link_kind
HELLO, GROW, READY = 1, 11, 64  # enum weft_role_message_type
MAGIC = int(re.search(r"#define WEFT_ABI_MAGIC (0x[0-9a-f]+)", (ROOT / "include/weft/abi/types.h").read_text() +
                      (ROOT / "include/weft/abi/maps.h").read_text())[1], 16)
MAPS = re.findall(r'^WEFT_MAP\(\w+, "weft_(\w+)"', (ROOT / "include/weft/lists/map.h").read_text(), re.MULTILINE)
MESSAGE = struct.Struct("IHHIiQII4Q128s")  # struct weft_role_message
INIT_MESSAGE = struct.Struct("IIiI1112s")  # struct weft_init_message
CAPACITY = struct.Struct(f"{len(MAPS)}I")  # struct weft_role_capacity
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def topology(lab):
    """As init starts it: descriptor 3 is the channel to init, on which it gives the one to control and then says that this is all."""
    lab.init, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lab.main, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lab.main.settimeout(20)

    def enter():
        lab.agent_enter()
        os.dup2(channel.fileno(), 3)
        os.set_inheritable(3, True)

    argv = [WEFTD, *lab.flags(), "--map-size", "frontend=64", "--map-max", f"frontend={LIMIT}", "--role", "main"]
    with open(lab.log, "ab") as log:
        lab.processes.append(subprocess.Popen([str(a) for a in argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=enter,
                                              close_fds=False))
    channel.close()
    socket.send_fds(lab.init, [INIT_MESSAGE.pack(MAGIC, LINK, 0, LINK_CONTROL_MAIN, b"")], [peer.fileno()])
    lab.init.send(INIT_MESSAGE.pack(MAGIC, ROLES, 0, 0, b""))
    peer.close()
    lab.serial = 0
    lab.before = ask(lab, HELLO)[1]
    equal(lab.before["frontend"], 64, "entries of weft_frontend")


def ask(lab, kind, **wish):
    """(error, {map: entries}) of main's answer READY."""
    lab.serial += 1
    data = CAPACITY.pack(*(wish.get(name, 0) for name in MAPS)) if wish else b""
    message = MESSAGE.pack(MAGIC, 1, kind, lab.serial, 0, len(data), 0, 0, 0, 0, 0, 0, b"")
    fds = []
    if data:
        fds = [os.memfd_create("wish", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)]
        os.write(fds[0], data)
        fcntl.fcntl(fds[0], fcntl.F_ADD_SEALS, SEALS)
    socket.send_fds(lab.main, [message], fds)
    for fd in fds:
        os.close(fd)
    answer, got, _flags, _address = socket.recv_fds(lab.main, MESSAGE.size, 1)
    true(answer, f"main hung up: {lab.tail()}")
    _magic, _version, what, serial, error, size, *_rest = MESSAGE.unpack(answer)
    equal((what, serial, size), (READY, lab.serial, CAPACITY.size), "answer")
    sizes = CAPACITY.unpack(os.pread(got[0], size, 0))
    os.close(got[0])
    return error, dict(zip(MAPS, sizes))


def test_more_than_the_ceiling(lab):
    for wish in ({"frontend": LIMIT + 1}, {"frontend": 2**32 - 1}, {"frontend": LIMIT, "endpoint": 2**31}, {"live": 2**31},
                 {"aggregate": 2**31}, {"counter": 1000}):
        equal(ask(lab, GROW, **wish), (-errno.E2BIG, lab.before), f"answer to {wish}")
        equal(lab.entries("weft_frontend"), 64, f"entries of weft_frontend after {wish}")


def test_up_to_the_ceiling(lab):
    equal(ask(lab, GROW, frontend=LIMIT), (0, {**lab.before, "frontend": LIMIT}), "answer")
    equal(lab.entries("weft_frontend"), LIMIT, "entries of weft_frontend")


main(topology)
