# SPDX-License-Identifier: Apache-2.0
"""An HBONE peer that is not ours, on python3-h2, ssl and python3-cryptography: what weft says is understood by others, and what
others say wrongly is refused.

    ca = make_ca("cluster.local")
    peer = connect((address, 15008), ca.issue("spiffe://cluster.local/ns/a/sa/b"), ca)
    stream = peer.request("10.77.0.11:80", {"baggage": "..."})
    stream.status(), stream.send(b"..."), stream.recv(100), stream.end(), stream.reset()

    Server(listener, ca.issue(...), ca, Echo()).run(stopping)

One thread: a call on a stream moves the whole connection on until the call's own condition is met. Windows are given back
for what recv() took, so that a reader which stops is one that does not call recv(). peer.raw() sends bytes inside TLS that h2
knows nothing of, frame() makes them: for floods and for what no correct peer would send. From then on peer.frames has what the
other side says, unread by h2. peer.wire() sends bytes below TLS.
"""

import contextlib
import datetime
import os
import select
import socket
import ssl
import struct
import tempfile
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HBONE_PORT = 15008

# RFC 9113 section 6
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PROTOCOL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 1, 8, 11


# ---- certificates ----


def now():
    return datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)] if text else [])


def _usage(*names):
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: name in names for name in every})


def _key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


class Identity:
    """A key and its chain, leaf first, as a peer shows them."""

    def __init__(self, key, chain):
        self.key, self.chain = key, chain

    @classmethod
    def load(cls, key_pem, chain_pem):
        return cls(serialization.load_pem_private_key(key_pem, None), split_pem(chain_pem))

    @property
    def leaf(self):
        return self.chain[0]

    @property
    def spiffe_id(self):
        return spiffe_id(self.leaf)

    def chain_pem(self):
        return b"".join(_pem(c) for c in self.chain)

    def key_pem(self):
        return _key_pem(self.key)

    def load_into(self, context):
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.key_pem() + self.chain_pem())
            file.flush()
            context.load_cert_chain(file.name)


class Roots:
    """Whom a peer believes that signs nothing itself."""

    def __init__(self, pem):
        self.pem = pem

    def root_pem(self):
        return self.pem


class CA:
    """A certificate authority; `above` are the certificates between it and the root, which `root` is itself when there are none."""

    def __init__(self, key, certificate, above=(), root=None):
        self.key, self.certificate, self.above, self.root = key, certificate, list(above), root or certificate

    @classmethod
    def load(cls, key_pem, chain_pem, root_pem):
        """One that somebody else made: the chain begins with its own certificate."""
        chain = split_pem(chain_pem)
        root = split_pem(root_pem)[0]
        return cls(serialization.load_pem_private_key(key_pem, None), chain[0], [c for c in chain[1:] if c != root], root)

    def root_pem(self):
        return _pem(self.root)

    def key_pem(self):
        return _key_pem(self.key)

    def _certify(self, builder, key, hash_):
        above = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), False)
        return builder.issuer_name(self.certificate.subject).public_key(key.public_key()).sign(self.key, hash_)

    def intermediate(self, name="intermediate", ttl=86400, path_length=0, is_ca=True):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() - datetime.timedelta(minutes=1))
            .not_valid_after(now() + datetime.timedelta(seconds=ttl))
            .add_extension(x509.BasicConstraints(is_ca, path_length if is_ca else None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(_usage("key_cert_sign", "crl_sign"), True)
        )
        made = self._certify(builder, key, hashes.SHA256())
        between = [] if self.certificate == self.root else [self.certificate, *self.above]
        return CA(key, made, between, self.root)

    def issue(self, uri, ttl=3600, *, uris=None, dns=(), begins=-60, is_ca=False, basic=True, usage=("digital_signature",), usage_critical=True,
              extended=(ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH), common_name="", key=None, hash_=None, extra=(),
              chain=None):
        """A leaf for a SPIFFE id; what is named is made differently. `begins`, `ttl`: seconds from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = [x509.UniformResourceIdentifier(u) for u in ([uri] if uris is None else uris)] + [x509.DNSName(d) for d in dns]
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() + datetime.timedelta(seconds=begins))
            .not_valid_after(now() + datetime.timedelta(seconds=ttl))
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), not subject)
        if basic:
            builder = builder.add_extension(x509.BasicConstraints(is_ca, None), True)
        if usage:
            builder = builder.add_extension(_usage(*usage), usage_critical)
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(extended)), False)
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical)
        leaf = self._certify(builder, key, hash_ or hashes.SHA256())
        between = [] if self.certificate == self.root else [self.certificate, *self.above]
        return Identity(key, [leaf, *(between if chain is None else chain)])

    def crl(self, *revoked, ttl=3600):
        """PEM of a list of revoked certificates."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now() - datetime.timedelta(minutes=1)).next_update(now() + datetime.timedelta(seconds=ttl))
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now()).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_ca(trust_domain="cluster.local", ttl=86400, name=None):
    """A root of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name or f"root of {trust_domain}")
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - datetime.timedelta(minutes=1))
        .not_valid_after(now() + datetime.timedelta(seconds=ttl))
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(_usage("key_cert_sign", "crl_sign"), True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), False)
        .sign(key, hashes.SHA256())
    )
    return CA(key, made)


def split_pem(data):
    """The certificates of a PEM file, in its order."""
    end = b"-----END CERTIFICATE-----"
    parts = [part + end for part in data.split(end)[:-1]]
    return [x509.load_pem_x509_certificate(part[part.index(b"-----BEGIN CERTIFICATE-----"):]) for part in parts]


def spiffe_id(certificate):
    """The first URI of a certificate, "" when it has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), "")


def bad_identities(ca, uri):
    """{what is wrong: Identity} of peers that nobody may believe to be `uri`, most of them signed by the right CA."""
    domain = uri.split("/")[2]
    path = uri[len("spiffe://") + len(domain):]
    other = make_ca(domain)
    stranger = make_ca(domain, name=f"root of {domain}")  # the same subject, another key
    leaf = ca.issue(uri)
    leaf_ca = ca.issue(uri, extra=[(x509.SubjectKeyIdentifier.from_public_key(leaf.key.public_key()), False)], key=leaf.key)
    leaf_as_ca = CA(leaf.key, leaf_ca.leaf, leaf.chain[1:], ca.root)
    not_ca = ca.intermediate("no authority", is_ca=False)
    critical = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    return {
        "another CA": other.issue(uri),
        "another CA of that name": stranger.issue(uri),
        "self-signed": make_ca(domain).issue(uri, chain=[]),
        "expired": ca.issue(uri, ttl=-5, begins=-600),
        "not yet valid": ca.issue(uri, begins=600, ttl=1200),
        "no SAN": ca.issue(uri, uris=[], common_name=uri[:64]),
        "only a DNS name": ca.issue(uri, uris=[], dns=["localhost"]),
        "two URIs": ca.issue(uri, uris=[uri, uri + "2"]),
        "one URI twice": ca.issue(uri, uris=[uri, uri]),
        "a web URI": ca.issue(uri, uris=[f"https://{domain}{path}"]),
        "scheme in capitals": ca.issue(uri, uris=["SPIFFE" + uri[6:]]),
        "trust domain in capitals": ca.issue(uri, uris=[f"spiffe://{domain.upper()}{path}"]),
        "trust domain with port": ca.issue(uri, uris=[f"spiffe://{domain}:443{path}"]),
        "userinfo": ca.issue(uri, uris=[f"spiffe://root@{domain}{path}"]),
        "longer trust domain": ca.issue(uri, uris=[f"spiffe://{domain}.evil{path}"]),
        "trust domain of nobody": ca.issue(uri, uris=[f"spiffe://elsewhere{path}"]),
        "no path": ca.issue(uri, uris=[f"spiffe://{domain}"]),
        "a slash at the end": ca.issue(uri, uris=[uri + "/"]),
        "an empty segment": ca.issue(uri, uris=[uri.replace("/ns/", "//ns/")]),
        "a .. segment": ca.issue(uri, uris=[uri.replace("/ns/", "/x/../ns/")]),
        "percent escape": ca.issue(uri, uris=[uri.replace("/ns/", "/n%73/")]),
        "query": ca.issue(uri, uris=[uri + "?a=b"]),
        "fragment": ca.issue(uri, uris=[uri + "#a"]),
        "an id of 3,000 bytes": ca.issue(uri, uris=[uri + "a" * 3000]),
        "a CA as leaf": ca.issue(uri, is_ca=True),
        "may sign certificates": ca.issue(uri, usage=("digital_signature", "key_cert_sign")),
        "may sign CRLs": ca.issue(uri, usage=("digital_signature", "crl_sign")),
        "no digitalSignature": ca.issue(uri, usage=("key_agreement",)),
        "for mail only": ca.issue(uri, extended=(ExtendedKeyUsageOID.EMAIL_PROTECTION,)),
        "unknown critical extension": ca.issue(uri, extra=[(critical, True)]),
        "signed by a leaf": leaf_as_ca.issue(uri, chain=leaf_ca.chain),
        "signed by no authority": not_ca.issue(uri),
        "a chain of twelve": _long_chain(ca).issue(uri),
    }


def _long_chain(ca):
    for number in range(11):
        ca = ca.intermediate(f"level {number}", path_length=None)
    return ca


# ---- frames ----


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def rst_stream(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


# ---- one connection ----


class Closed(ConnectionError):
    """The peer ended the connection: `error_code` of its GOAWAY, or None."""

    def __init__(self, text, error_code=None):
        super().__init__(text)
        self.error_code = error_code


class Stream:
    def __init__(self, peer, number, headers=()):
        self.peer, self.number = peer, number
        self.headers = list(headers)  # of the request, as (name, value); on a client's stream those of the answer
        self.answered, self.ended, self.reset_code, self.inbox, self.owed = False, False, None, bytearray(), 0
        self.sent_end = False

    def header(self, name, default=None):
        """First value of a header."""
        return next((v for n, v in self.headers if n == name), default)

    def all(self, name):
        return [v for n, v in self.headers if n == name]

    def broken(self):
        return self.reset_code is not None or self.peer.closed

    def status(self, timeout=10.0):
        """Of the answer; raises Closed or ConnectionResetError when none comes."""
        self.peer.until(lambda: self.answered or self.reset_code is not None, timeout, "an answer")
        if not self.answered:
            raise ConnectionResetError(f"stream {self.number}: RST_STREAM {self.reset_code}")
        return int(self.header(":status"))

    def answer(self, status, headers=(), end=False):
        self.peer.h2.send_headers(self.number, [(":status", str(status)), *headers], end_stream=end)
        self.answered, self.sent_end = True, end
        self.peer.flush()

    def send_some(self, data):
        """Gives what the windows allow now: how many bytes that was."""
        view, total = memoryview(data), 0
        while total < len(view) and not self.broken():
            room = min(self.peer.h2.local_flow_control_window(self.number), self.peer.h2.max_outbound_frame_size, len(view) - total)
            if room <= 0:
                break
            self.peer.h2.send_data(self.number, bytes(view[total:total + room]))
            total += room
        self.peer.flush()
        return total

    def send(self, data, timeout=30.0):
        """All of it, as fast as the peer's windows allow."""
        view, end = memoryview(data), time.monotonic() + timeout
        while True:
            view = view[self.send_some(view):]
            if not view and not self.peer.out:
                return
            if self.broken():
                raise ConnectionResetError(f"stream {self.number} ended: {self.reset_code}")
            if time.monotonic() > end:
                raise TimeoutError(f"stream {self.number}: {len(view)} bytes not taken")
            self.peer.step(0.1)

    def recv(self, size=1 << 16, timeout=10.0):
        """1 to `size` bytes; b"" when the peer ended its half. What is taken is given back to the window."""
        self.peer.until(lambda: self.inbox or self.ended or self.reset_code is not None, timeout, "data")
        if not self.inbox:
            if self.reset_code is not None:
                raise ConnectionResetError(f"stream {self.number}: RST_STREAM {self.reset_code}")
            return b""
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        self.owed, give = 0, self.owed + len(data)
        if not self.peer.closed:
            with contextlib.suppress(h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
                self.peer.h2.acknowledge_received_data(give, self.number)
            self.peer.flush()
        return data

    def recv_exactly(self, size, timeout=10.0):
        data = b""
        while len(data) < size:
            part = self.recv(size - len(data), timeout)
            if not part:
                raise EOFError(f"stream {self.number} ended after {len(data)} of {size} bytes")
            data += part
        return data

    def read_all(self, timeout=10.0):
        data = bytearray()
        while part := self.recv(1 << 20, timeout):
            data += part
        return bytes(data)

    def end(self):
        """Half-close."""
        if not self.sent_end and not self.broken():
            self.peer.h2.end_stream(self.number)
            self.sent_end = True
            self.peer.flush()

    def reset(self, code=CANCEL):
        if not self.broken():
            self.peer.h2.reset_stream(self.number, code)
            self.reset_code = code
            self.peer.flush()


class Peer:
    """One TLS connection and its streams."""

    def __init__(self, raw, context, server, window=65535, settings=None):
        raw.setblocking(False)
        self.socket, self.server = raw, server
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server)
        self.out, self.ready, self.closed, self.error_code, self.why = bytearray(), False, False, None, ""
        self.streams, self.requests, self.pings = {}, [], 0
        self.bare, self.unread, self.frames = False, bytearray(), []  # of raw(): [(type, flags, stream, payload)]
        self.violation = None  # what h2 found wrong with the other side
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=not server, header_encoding="utf-8", validate_inbound_headers=False, validate_outbound_headers=False,
            normalize_inbound_headers=False, normalize_outbound_headers=False))
        changes = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window, **(settings or {})}
        if not server:
            changes.setdefault(h2.settings.SettingCodes.ENABLE_PUSH, 0)
        self.h2.local_settings = h2.settings.Settings(client=not server, initial_values=changes)
        self.peer_settings = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- bytes

    def wire(self, data):
        """Below TLS."""
        self.out += data
        self._write()

    def raw(self, data, timeout=10.0):
        """Inside TLS, behind h2's back. Waits until the kernel took it; Closed once the peer ended the connection."""
        end = time.monotonic() + timeout
        self.bare = True
        self.inject(data)
        while self.out and not self.closed:
            if time.monotonic() > end:
                raise TimeoutError("the peer does not read")
            self.step(0.1)
        if self.closed:
            raise Closed(f"the peer ended the connection: {self.why}", self.error_code)

    def inject(self, data):
        """Frames that h2 knows nothing of, between its own, while it goes on reading."""
        while data and not self.closed:
            data = data[self.tls.write(data):]
        self._write()

    def go_away(self, last, code=0):
        """GOAWAY, but the streams up to `last` go on."""
        self.flush()
        self.inject(frame(GOAWAY, 0, 0, struct.pack(">II", last, code)))

    def _write(self):
        self.out += self.outgoing.read()
        while self.out and not self.closed:
            try:
                done = self.socket.send(self.out[:1 << 18])
            except BlockingIOError:
                return
            except OSError as error:
                self._gone(repr(error))
                return
            del self.out[:done]

    def flush(self):
        """What h2 wants to say goes out, as far as the socket takes it."""
        if self.ready and not self.bare:
            data = self.h2.data_to_send()
            while data and not self.closed:
                data = data[self.tls.write(data):]
        self._write()

    def _gone(self, why):
        if not self.closed:
            self.closed, self.why = True, why
        self.out.clear()

    def step(self, timeout=0.1):
        """Waits for the socket and handles what came."""
        if self.closed:
            return
        self.flush()
        if self.closed:
            return
        with contextlib.suppress(InterruptedError):
            readable, writable, _ = select.select([self.socket], [self.socket] if self.out else [], [], timeout)
            if writable:
                self._write()
            if readable:
                self.read()

    def read(self):
        """The socket has something."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(repr(error))
            return
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        try:
            if not self.ready:
                self.tls.do_handshake()
                self._greet()
            while True:
                plain = self.tls.read(1 << 18)
                if not plain:
                    self._gone("closed")
                    break
                if self.bare:
                    self._split(plain)
                else:
                    self._events(self.h2.receive_data(plain))
        except ssl.SSLWantReadError:
            if not data:
                self._gone("closed")
        except h2.exceptions.ProtocolError as error:
            self.violation = repr(error)
            self.flush()
            self._gone(f"it broke the protocol: {error!r}")
        except ssl.SSLError as error:
            self._write()
            self._gone(str(error) or repr(error))
        self.flush()

    def _split(self, plain):
        self.unread += plain
        while len(self.unread) >= 9:
            size = int.from_bytes(self.unread[:3], "big")
            if len(self.unread) < 9 + size:
                return
            kind, flags, stream = struct.unpack(">BBI", self.unread[3:9])
            payload = bytes(self.unread[9:9 + size])
            del self.unread[:9 + size]
            self.frames.append((kind, flags, stream, payload))
            if kind == GOAWAY:
                self.error_code = int.from_bytes(payload[4:8], "big")

    def _greet(self):
        self.ready = True
        self.h2.initiate_connection()
        self.flush()

    def handshake(self, timeout=10.0):
        """TLS up to the point where this side is done; a server that refuses our certificate says so later."""
        end = time.monotonic() + timeout
        try:
            self.tls.do_handshake()
            self._greet()
        except ssl.SSLWantReadError:
            self._write()
        while not self.ready:
            if self.closed:
                raise Closed(self.why)
            if time.monotonic() > end:
                raise TimeoutError("no TLS handshake")
            self.step(0.1)
        return self

    def until(self, condition, timeout, what):
        end = time.monotonic() + timeout
        while not condition():
            if self.closed:
                raise Closed(f"no {what}: {self.why}", self.error_code)
            if time.monotonic() > end:
                raise TimeoutError(f"no {what} within {timeout:g} s")
            self.step(min(0.1, timeout))

    def settled(self, timeout=10.0):
        """The peer believes us: its SETTINGS are here."""
        self.until(lambda: self.peer_settings, timeout, "SETTINGS")
        return self

    def wait_closed(self, timeout=10.0):
        """Until the peer ends the connection: the error code of its GOAWAY, or None."""
        end = time.monotonic() + timeout
        while not self.closed:
            if time.monotonic() > end:
                raise TimeoutError("the peer keeps the connection")
            self.step(0.1)
        if self.violation:
            raise AssertionError(self.why)
        return self.error_code

    # -- HTTP/2

    def _events(self, events):
        for event in events:
            stream = self.streams.get(getattr(event, "stream_id", None))
            if isinstance(event, h2.events.RequestReceived):
                made = Stream(self, event.stream_id, event.headers)
                self.streams[event.stream_id] = made
                self.requests.append(made)
            elif isinstance(event, h2.events.ResponseReceived) and stream:
                stream.headers, stream.answered = list(event.headers), True
            elif isinstance(event, h2.events.DataReceived) and stream:
                stream.inbox += event.data
                stream.owed += event.flow_controlled_length - len(event.data)
            elif isinstance(event, h2.events.StreamEnded) and stream:
                stream.ended = True
            elif isinstance(event, h2.events.StreamReset) and stream:
                stream.reset_code = int(event.error_code)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.error_code = int(event.error_code)
            elif isinstance(event, h2.events.RemoteSettingsChanged):
                self.peer_settings.update({int(c): s.new_value for c, s in event.changed_settings.items()} or {0: 0})
            elif isinstance(event, h2.events.PingReceived):
                self.pings += 1
            elif isinstance(event, h2.events.PingAckReceived):
                self.pings -= 1

    def request(self, authority, headers=(), method="CONNECT", extra=()):
        """A CONNECT; `extra` pseudo headers come behind :authority, None as authority leaves it out."""
        headers = headers.items() if isinstance(headers, dict) else headers
        number = self.h2.get_next_available_stream_id()
        made = Stream(self, number)
        self.streams[number] = made
        first = [(":method", method)] + ([(":authority", authority)] if authority is not None else [])
        self.h2.send_headers(number, [*first, *extra, *headers])
        self.flush()
        return made

    def encode(self, headers):
        """A header block by the connection's own HPACK state."""
        return self.h2.encoder.encode(headers)

    def certificate(self):
        return x509.load_der_x509_certificate(self.tls.getpeercert(True))

    def peer_id(self):
        return spiffe_id(self.certificate())

    def close(self):
        self.socket.close()
        self.closed, self.why = True, self.why or "closed by this side"


def _context(server, identity, ca, alpn):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ca.root_pem().decode())
    if alpn:
        context.set_alpn_protocols(alpn)
    if identity:
        identity.load_into(context)
    return context


def connect(address, identity, ca, *, raw=None, alpn=("h2",), timeout=10.0, window=65535, settings=None, maximum=None, handshake=True, source=None):
    """A client's connection, its handshake done. `raw` is a socket to be used, unconnected, or connected when `address` is
    None; `maximum` a TLS version; identity None shows no certificate."""
    context = _context(False, identity, ca, list(alpn))
    if maximum:
        context.minimum_version, context.maximum_version = maximum, maximum
    if raw is None:
        raw = socket.create_connection(address, timeout, source)
    elif address is not None:
        raw.settimeout(timeout)
        raw.connect(address)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made = Peer(raw, context, False, window, settings)
    try:
        return made.handshake(timeout) if handshake else made
    except BaseException:
        made.close()
        raise


# ---- a server ----


class Handler:
    """What a server does with streams; request() has to answer."""

    def request(self, stream):
        stream.answer(200)

    def data(self, stream):
        """There is something to recv(), or the peer ended its half."""

    def ended(self, stream):
        """Both halves are, or it was reset."""

    def tick(self):
        """Now and then, at least ten times a second."""

    def facts(self):
        """What the server's run() is to tell beside its own."""
        return {}


class Echo(Handler):
    """Says what the request looked like in one line, then echoes."""

    def __init__(self, line=None):
        self.line = line or (lambda stream: b"")
        self.left = {}

    def request(self, stream):
        stream.answer(200)
        self.left[stream] = bytearray(self.line(stream))
        self.data(stream)

    def data(self, stream):
        left = self.left[stream]
        while stream.inbox and len(left) < 1 << 18:
            left += stream.recv()
        del left[:stream.send_some(left)]
        if stream.ended and not left and not stream.inbox:
            stream.end()


class Refuse(Handler):
    def __init__(self, status):
        self.code = status

    def request(self, stream):
        stream.answer(self.code, end=True)


class Silent(Handler):
    """Takes what comes and answers nothing: stalls in the middle of CONNECT."""

    def request(self, stream):
        pass


class Server:
    """Accepts on a listening socket and serves all that comes, in one thread."""

    def __init__(self, listener, identity, ca, handler, window=65535, settings=None, alpn=("h2",)):
        self.listener, self.handler, self.window, self.settings = listener, handler, window, settings
        self.context = _context(True, identity, ca, list(alpn))
        self.peers, self.accepted, self.failed = [], 0, []

    def step(self, timeout=0.1):
        writers = [p.socket for p in self.peers if p.out]
        try:
            readable, writable, _ = select.select([self.listener, *[p.socket for p in self.peers]], writers, [], timeout)
        except InterruptedError:
            return
        if self.listener in readable:
            with contextlib.suppress(OSError):
                made, _address = self.listener.accept()
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.peers.append(Peer(made, self.context, True, self.window, self.settings))
                self.accepted += 1
        for peer in self.peers:
            if peer.socket in readable:
                peer.read()
            if peer.socket in writable:
                peer.flush()
            while peer.requests:
                stream = peer.requests.pop(0)
                if not stream.broken():
                    self.handler.request(stream)
            for stream in list(peer.streams.values()):
                if stream.reset_code is not None or (stream.ended and stream.sent_end and not stream.inbox):
                    self.handler.ended(stream)
                    del peer.streams[stream.number]
                elif stream.answered and not peer.closed:
                    self.handler.data(stream)
        self.handler.tick()
        for peer in [p for p in self.peers if p.closed]:
            if not peer.ready:
                self.failed.append(peer.why)
            peer.close()
            self.peers.remove(peer)

    def run(self, stopping):
        """Until stopping() is true."""
        self.listener.setblocking(False)
        while not stopping():
            self.step()
        for peer in self.peers:
            peer.close()
        return {"accepted": self.accepted, "failed": self.failed, **self.handler.facts()}


# ---- floods: each a generator of what to give to Peer.raw(), 64 frames or so at a time ----


def _blocks(count, size=64):
    return [min(size, count - done) for done in range(0, count, size)]


def _connect_frame(peer, number, authority, flags=END_HEADERS):
    return frame(HEADERS, flags, number, peer.encode([(":method", "CONNECT"), (":authority", authority)]))


def _odd(peer):
    """Stream numbers of a connection on which h2 itself opens none."""
    number = getattr(peer, "next_raw", 1)
    peer.next_raw = number + 2
    return number


def rapid_reset(peer, authority, count):
    """CVE-2023-44487: requests that are taken back at once."""
    for part in _blocks(count):
        data = b""
        for _ in range(part):
            number = _odd(peer)
            data += _connect_frame(peer, number, authority) + rst_stream(number)
        yield data


def made_you_reset(peer, authority, count):
    """CVE-2025-8671: requests, and behind each a frame that makes the other side reset it."""
    for part in _blocks(count):
        data = b""
        for _ in range(part):
            number = _odd(peer)
            data += _connect_frame(peer, number, authority) + window_update(number, 0)
        yield data


def continuation(peer, authority, count):
    """CVE-2024-27316: a header block without end."""
    number = _odd(peer)
    yield _connect_frame(peer, number, authority, 0)
    for part in _blocks(count):
        yield b"".join(frame(CONTINUATION, 0, number, peer.encode([(f"x-{os.urandom(8).hex()}", "y" * 64)])) for _ in range(part))


def ping(_peer, _authority, count):
    """CVE-2019-9512."""
    for part in _blocks(count):
        yield frame(PING, 0, 0, b"12345678") * part


def settings(_peer, _authority, count):
    """CVE-2019-9515."""
    for part in _blocks(count):
        yield frame(SETTINGS) * part


def empty_data(peer, authority, count):
    """CVE-2019-9518."""
    number = _odd(peer)
    yield _connect_frame(peer, number, authority)
    for part in _blocks(count):
        yield frame(DATA, 0, number) * part


def window_updates(peer, authority, count):
    """Updates that change next to nothing, on the connection."""
    for part in _blocks(count):
        yield window_update(0, 1) * part


FLOODS = {
    "rapid reset": rapid_reset,
    "made you reset": made_you_reset,
    "continuation": continuation,
    "ping": ping,
    "settings": settings,
    "empty data": empty_data,
    "window update": window_updates,
}


def flood(peer, name, authority, count=20000, timeout=20.0):
    """Sends it until the peer ends the connection: (frames given to it, error code of its GOAWAY). TimeoutError: it never did. Where a
    PING may stand between them, frames wait for its answer, so that none are counted that the peer has not read."""
    given = 0
    try:
        for number, data in enumerate(FLOODS[name](peer, authority, count)):
            mark = struct.pack(">Q", number)
            marked = name not in ("continuation", "ping", "window update")
            peer.raw(data + (frame(PING, 0, 0, mark) if marked else b""), timeout)
            given += 64
            end = time.monotonic() + timeout
            while marked and not peer.closed and (PING, ACK, 0, mark) not in peer.frames and time.monotonic() < end:
                peer.step(0.05)
            peer.step(0)
    except (Closed, ssl.SSLError):
        return given, peer.error_code
    return given, peer.wait_closed(timeout)
