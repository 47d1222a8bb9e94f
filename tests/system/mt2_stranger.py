"""An endpoint of MT2 made from docs/protocols/mt2*.md alone: it shares nothing with Outrider but those pages.

It proves itself, seals with P-256 keys, verifies what it takes, keeps it in memory; no reports, no resuming.
Requests of the other side are answered one by one, so no more than one fragment is ever permitted.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import secrets
import socket
import socketserver
import threading
import time
from collections import deque, namedtuple
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace as Record
from typing import Any
from xml.sax.saxutils import escape

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL

ENVELOPE, NAMESPACE = "message/envelope", "urn:oid:2.25.142621449478723633738367890471353828951.1"
STAT = "2.25.215328019274864168367399045512917948805"
LIST = "(WINDOW=65536) (MAXPART=65536) (PIPE=ON) (INFLIGHT=64)"
ATOM, QUOTED = r"[!#-'*-:<>-Z^-z|~]+", r'"(?:[^"\\]|\\["\\])*"'
VALUE = rf"(?:{ATOM}|{QUOTED})"
ITEM = rf"(?:{ATOM}(?:={VALUE}(?:;{VALUE})*)?|{QUOTED}|\{{[0-9]{{1,10}}\}})"
OID = r"(?:0|[1-9][0-9]{0,39})(?:\.(?:0|[1-9][0-9]{0,39})){2,}"
PART = rf" \(({ITEM}(?: {ITEM})*?)(?: (OK|ERR|TMP) ({OID})(?: [^()]*)?)?\)"
RESPONSE = re.compile(rf"\[(\*|[1-9][0-9]{{0,9}}) (OK|ERR|TMP) ({OID})((?:{PART})*)(?: ([^(].*)?)?\]")
REQUEST = re.compile(rf"\[([1-9][0-9]{{0,9}}) ({ITEM}(?: {ITEM})*)((?: \({ITEM}(?: {ITEM})*\))*)\]")
DATA_HEAD = re.compile(rb"\{([1-9][0-9]{0,9}) ([1-9][0-9]{0,9})\}\r\n")
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")
Part = namedtuple("Part", "name values params word code")  # (NAME=value;value PARAM=value WORD code)


class Refused(Exception):
    """A request is refused: the code, with extensions and text where there are."""


def plain(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value.strip("{}")


def parts_of(text: str) -> list[Part]:
    found = []
    for items, word, code in re.findall(PART, text):
        (name, _, values), *pairs = (one.partition("=") for one in re.findall(ITEM, items))
        shown = [plain(one) for one in re.findall(VALUE, values)]
        found.append(Part(name.upper(), shown, {key: plain(value) for key, _, value in pairs}, word, code))
    return found


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert b64(octets) == text, "base64url in another form"
    return octets


def named(chain: Iterable[x509.Certificate]) -> dict[str, x509.Certificate]:
    return {b64(one.fingerprint(hashes.SHA256())): one for one in chain}


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def verified(jws: str, kind: str, certificates: Mapping[str, x509.Certificate]) -> tuple[dict[str, Any], str]:
    """The payload of a compact JWS and the name of its certificate, one of these."""
    first, second, third = jws.split(".")
    header, payload, signature = unb64(first), unb64(second), unb64(third)
    name: str = json.loads(header)["x5t#S256"]
    assert header == canonical({"alg": "ES256", "typ": kind, "x5t#S256": name}), "a header of another form"
    key = certificates[name].public_key()
    assert (key.curve.name, len(signature)) == ("secp256r1", 64), "not ES256"
    der = utils.encode_dss_signature(
        *(int.from_bytes(one, "big") for one in (signature[:32], signature[32:]))
    )
    key.verify(der, f"{first}.{second}".encode(), ec.ECDSA(hashes.SHA256()))
    said: dict[str, Any] = json.loads(payload)
    assert canonical(said) == payload, "a payload in another form"
    return said, name


def element(name: str, *pairs: tuple[str, object], end: str = "/>") -> str:
    marks = {'"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
    return f"<{name}" + "".join(f' {key}="{escape(str(one), marks)}"' for key, one in pairs if one) + end


def written(said: Mapping[str, Any], certificates: Iterable[str], seals: Iterable[str]) -> bytes:
    """The one form of an envelope that says this, in the words of a core."""
    times = [("date", said.get("date")), ("expires", said.get("expiry")), ("hold", said.get("hold_until"))]
    utc = [(name, f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}") for name, at in times if at]
    texts = [("return", said.get("ret")), ("envid", said.get("envelope_id")), ("mpc", said.get("mpc"))]
    lines = [element("envelope", ("xmlns", NAMESPACE), ("id", said["id"]), *utc, *texts, end=">")]
    lines.append(element("from", ("address", said.get("sender"))))
    names = ("address", "notify", "original")
    lines += [element("to", *((name, one.get(name)) for name in names)) for one in said["recipients"]]
    for one in said.get("objects", []):
        size = ("sha256", unb64(one["sha256"]).hex()), ("length", str(one["length"]))
        lines.append(element("object", ("part", one["part"]), ("type", one["type"]), *size))
    tagged = {"certificate": certificates, "seal": seals}
    lines += [f"<{tag}>{one}</{tag}>" for tag, ones in tagged.items() for one in ones]
    return "".join(f"{line}\n" for line in [*lines, "</envelope>"]).encode()


class Session:
    """One connection, at either end; it works on one frame at a time."""

    def __init__(self, end: Endpoint, tls: SSL.Connection, role: str, server: str) -> None:
        self.end, self.tls, self.role, self.server = end, tls, role, server
        tls.do_handshake()
        self.binding = b64(tls.export_keying_material(b"EXPORTER-Channel-Binding", 32))
        self.inbox, self.data, self.nonce, self.proven = b"", b"", secrets.token_urlsafe(16), ""
        self.queue: deque[tuple[int, list[str], dict[str, Part]]] = deque()
        self.greeting, self.asked, self.transfers, self.over = {}, {}, {}, {}  # by name, tag, transfer id
        self.tag, self.heard, self.data_tag, self.wanted, self.inflight = 0, 0, 0, 0, 1

    def put(self, line: str) -> None:
        self.tls.sendall(f"[{line}]\r\n".encode())

    def until(self, condition: Callable[[], object], serving: bool = True) -> None:
        while not condition():
            if serving and self.queue:
                self.serve(*self.queue.popleft())
            else:
                self.take_frame()

    def take_frame(self) -> None:
        while (end := self.inbox.find(b"\r\n")) < 0 and len(self.inbox) < 8192:
            self.inbox += self.tls.recv(65536)
        if head := DATA_HEAD.match(self.inbox):
            start, end = head.end(), head.end() + int(head[2])
            if int(head[1]) != self.data_tag or len(self.data) + int(head[2]) > self.wanted:
                raise ConnectionError("99.0.5.1", "data that was not permitted")
            while len(self.inbox) < end:
                self.inbox += self.tls.recv(65536)
            self.data, self.inbox = self.data + self.inbox[start:end], self.inbox[end:]
            return
        line, self.inbox = self.inbox[:end].decode(errors="ignore"), self.inbox[end + 2 :]
        found, asked = RESPONSE.fullmatch(line), REQUEST.fullmatch(line)
        risen = asked is not None and int(asked[1]) > self.heard
        if not 0 < end < 8191 or CONTROL.search(line) or not (found or risen):
            raise ConnectionError("99.0.5.1", "a line against the grammar")
        if found:
            self.take_response(found[1], found[2], found[3], parts_of(found[4]))
        else:
            self.heard, parts = int(asked[1]), {one.name: one for one in parts_of(asked[3])}
            self.queue.append((self.heard, re.findall(ITEM, asked[2]), parts))

    def take_response(self, tag: str, word: str, code: str, parts: list[Part]) -> None:
        if (tag, code) == ("*", "99.0.3.1"):
            self.greeting = {one.name: one for one in parts}
        elif tag == "*" and word == "ERR":
            raise ConnectionError("", code)
        elif tag != "*":
            asked = self.asked[int(tag)]
            asked.parts += parts
            if word != "TMP":
                self.asked.pop(int(tag)).word, asked.code = word, code
            elif code != "99.0.3.4":
                for start in range(0, len(asked.octets), 8000):
                    piece = asked.octets[start : start + 8000]
                    self.tls.sendall(b"{%s %d}\r\n%b" % (tag.encode(), len(piece), piece))

    def ask(self, text: str, octets: bytes = b"") -> Record:
        self.tag += 1
        asked = self.asked[self.tag] = Record(octets=octets, word="", code="", parts=[])
        self.put(f"{self.tag} {text}")
        return asked

    def answer(self, text: str, octets: bytes = b"") -> Record:
        asked = self.ask(text, octets)
        self.until(lambda: asked.word)
        return asked

    def helo(self, client: str, nonce: str, extensions: str = "") -> Record:
        said = {"binding": self.binding, "client": client, "nonce": nonce, "role": self.role}
        octets = self.end.pem + self.end.signed({**said, "server": self.server}, "mt2-proof+jws").encode()
        return self.answer(f"HELO {{{len(octets)}}} (HOST={self.end.name}){extensions}", octets)

    def send(self, *transfers: tuple[str, Sequence[tuple[str, bytes]]]) -> list[Record]:
        """Transfer messages (an id; types and octets of objects); the request that decided each."""
        made: list[list[Record]] = [[] for _ in transfers]
        for (name, objects), asked in zip(transfers, made, strict=True):
            for kind, start, octets in ((k, at, o) for k, o in objects for at in range(0, len(o), 65536)):
                self.until(lambda: len(self.asked) < self.inflight)
                piece, left = octets[start : start + 65536], (len(octets) - 1 - start) // 65536
                if not any(one.word == "ERR" or one.code == "99.0.2.7" for one in asked):
                    asked.append(self.ask(f"XFER {name} {kind} {{{len(piece)}}} {{{left}}}", piece))
        self.until(lambda: not self.asked)
        return [next((one for one in asked if one.word == "ERR"), asked[-1]) for asked in made]

    def serve(self, tag: int, items: list[str], parts: dict[str, Part]) -> None:
        verb, _, value = items[0].upper().partition("=")
        params = [plain(one) for one in ([value] if value else []) + items[1:]]
        try:
            self.put(f"{tag} {self.answer_to(verb, tag, params, parts)}")
        except (SSL.Error, OSError):
            raise
        except Exception as no:
            codes = {"HELO": "99.0.5.24", "XFER": "99.0.5.42"}
            self.put(f"{tag} ERR {no if isinstance(no, Refused) else codes.get(verb, '99.0.5.3')}")
        if verb == "HELO" and self.role == "server" and "PROVE" in parts and self.proven:
            self.helo(self.proven, parts["NONCE"].values[0])
        if verb == "QUIT":
            raise ConnectionError("", "the other side has quit")

    def answer_to(self, verb: str, tag: int, params: list[str], parts: dict[str, Part]) -> str:
        if verb == "HELO":
            return self.identify(tag, int(params[0]), parts["HOST"].values[0].lower())
        if verb == "XFER":
            return self.take(tag, params[0], params[1], int(params[2]), int(params[3]))
        if verb == "STAT":
            known = (self.proven, params[0]) in self.end.taken
            return f"OK {STAT}.2.{'2 (STATE=queued)' if known else '0 (STATE=unknown)'}"
        if verb == "OPT":
            done = {n: "=ON OK 99.0.2.2" if n == "PIPE" else " ERR 99.0.5.11" for n in parts}
            said = " ".join(f"({name}{result})" for name, result in done.items())
            return f"{'OK 99.0.2.2' if done.keys() == {'PIPE'} else 'ERR 99.0.5.0'} {said}"
        fixed = {"NOOP": "OK 99.0.2.10", "QUIT": "OK 99.0.2.9", "ABOR": "ERR 99.0.5.7 Too late."}
        return fixed.get(verb, "ERR 99.0.5.2 Unknown verb.")

    def receive(self, tag: int, size: int, code: str) -> bytes:
        self.data_tag, self.wanted, self.data = tag, size, b""
        self.put(f"{tag} TMP {code} Send it.")
        self.until(lambda: len(self.data) == size, serving=False)
        return self.data

    def identify(self, tag: int, size: int, name: str) -> str:
        if self.proven or not 0 < size <= 65536:
            raise Refused("99.0.5.4" if self.proven else "99.0.5.26")
        octets = self.receive(tag, size, "99.0.3.2")
        client, role = (name, "client") if self.role == "server" else (self.end.name, "server")
        said = {"binding": self.binding, "client": client, "nonce": self.nonce, "role": role}
        chain = x509.load_pem_x509_certificates(octets)
        proof, _ = verified(octets.split()[-1].decode(), "mt2-proof+jws", named(chain[:1]))
        assert proof == {**said, "server": self.server}, "a proof of something else"
        self.end.believe(chain, name, time.time())
        self.proven = name
        return f"OK 99.0.2.1 {LIST} Greetings friend."

    def take(self, tag: int, name: str, kind: str, size: int, left: int) -> str:
        if not self.proven:
            raise Refused("99.0.5.20 Identify first.")
        if kind != ENVELOPE and name in self.over:
            return self.over[name]
        if name not in self.transfers:
            self.transfers[name] = self.taking(name)
            next(self.transfers[name])
        try:
            return self.transfers[name].send((tag, kind, size, left))
        except Exception as end:
            taken = end.value if isinstance(end, StopIteration) else ""
            self.over[name] = taken.replace("99.0.2.6", "99.0.2.7") or "ERR 99.0.5.51"
            del self.transfers[name]
            if not taken:
                raise
            return taken

    def taking(self, name: str) -> Generator[str, tuple[int, str, int, int], str]:
        """Take requests of a transfer and yield their answers, to its end."""
        due, said, refused, objects, answer = [(ENVELOPE, -1, "")], {}, "", {}, ""
        for expected, length, sha256 in due:
            octets, before = b"", 0
            while before or not octets:
                tag, kind, size, left = yield answer
                held = len(octets) + size
                if kind != expected or (before and left != before - 1) or size > 65536:
                    raise Refused("99.0.5.37" if kind != expected else "99.0.5.36")
                if not size or (length >= 0 and (held > length or (left == 0) != (held == length))):
                    raise Refused("99.0.5.38")
                code = {ENVELOPE: "99.0.3.5", "message/headers": "99.0.3.6"}.get(kind, "99.0.3.8")
                octets, before, answer = octets + self.receive(tag, size, code), left, "OK 99.0.2.4"
            if sha256 and b64(hashlib.sha256(octets).digest()) != sha256:
                raise Refused("99.0.5.39 Object is not what the envelope says.")
            objects[kind], answer = octets, "OK 99.0.2.5"
            if kind == ENVELOPE and (past := self.end.taken.get((self.proven, name))):
                if past.objects[ENVELOPE] != octets:
                    raise Refused("99.0.5.45 Transfer id belongs to another envelope.")
                return f"OK 99.0.2.7{past.refused} Already taken."
            if kind == ENVELOPE:
                said = self.end.believed_envelope(octets, self.proven)
                addresses = [one["address"] for one in said["recipients"]]
                wrong = [str(at) for at, one in enumerate(addresses, 1) if one in self.end.refuses]
                refused = f" (RCPT={';'.join(wrong)} STATUS=5.1.1 ERR 99.0.5.31)" if wrong else ""
                if len(wrong) == len(addresses):
                    raise Refused(f"99.0.5.33{refused} No recipient is left.")
                due += [(one["type"], one["length"], one["sha256"]) for one in said.get("objects", [])]
                answer = f"OK 99.0.2.3{refused}"
        self.end.taken[self.proven, name] = Record(said=said, objects=objects, refused=refused)
        return f"OK 99.0.2.6{refused} Message taken."


class Endpoint:
    """A host: its certificate, whom it believes, whom it refuses, and the messages that it has taken."""

    def __init__(self, name: str, certificate: Path, key: Path, ca: Path) -> None:
        self.name, self.files = name, (str(certificate), str(key), str(ca))
        self.pem, self.key = certificate.read_bytes(), load_pem_private_key(key.read_bytes(), None)
        self.chain = named(x509.load_pem_x509_certificates(self.pem))
        self.roots = x509.load_pem_x509_certificates(ca.read_bytes())
        self.refuses: set[str] = set()
        self.taken: dict[tuple[str, str], Record] = {}  # by peer and transfer id

    def signed(self, payload: Mapping[str, Any], kind: str) -> str:
        header = {"alg": "ES256", "typ": kind, "x5t#S256": next(iter(self.chain))}
        text = f"{b64(canonical(header))}.{b64(canonical(payload))}"
        der = self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        return f"{text}.{b64(b''.join(one.to_bytes(32, 'big') for one in utils.decode_dss_signature(der)))}"

    def sealed(self, said: Mapping[str, Any], to: str) -> bytes:
        by = {"kind": "core", "by": self.name, "to": to, "certificates": list(self.chain)}
        seal = self.signed({**said, **by, "received": said["date"], "time": said["date"]}, "mt2-seal+jws")
        ders = (one.public_bytes(Encoding.DER) for one in self.chain.values())
        return written(said, [base64.b64encode(one).decode() for one in ders], [seal])

    def believe(self, chain: Sequence[x509.Certificate], name: str, at: float) -> None:
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert name in names.get_values_for_type(x509.DNSName), "the certificate is for another host"
        top = next(one for one in self.roots if one.subject == chain[-1].issuer)
        for child, issuer in zip(chain, [*chain[1:], top], strict=True):
            child.verify_directly_issued_by(issuer)
            assert child.not_valid_before_utc.timestamp() <= at <= child.not_valid_after_utc.timestamp()

    def believed_envelope(self, octets: bytes, peer: str) -> dict[str, Any]:
        """What an envelope says: its seals are good, and say that and nothing more in its one form."""
        ders, seals = (re.findall(f"<{one}>(.*)</{one}>", octets.decode()) for one in ("certificate", "seal"))
        known = named(x509.load_der_x509_certificate(base64.b64decode(one, validate=True)) for one in ders)
        used, said, before, to = [], {}, "", ""
        for place, seal in enumerate(seals):
            one, leaf = verified(seal, "mt2-seal+jws", known)
            assert (one["kind"], one.get("hop", 0)) == ("hop" if place else "core", place)
            at, (first, *_) = one["time"], one["certificates"]
            assert (first, at) == (leaf, min(max(at, one["received"]), time.time() + 300))
            self.believe([known[name] for name in one["certificates"]], one["by"], at)
            used += [name for name in one["certificates"] if name not in used]
            if not place:
                said = one | {"recipients": []}
            elif (one["previous"], one["by"], one["id"]) != (before, to, said["id"]):
                raise ValueError("a gap")
            stay = [r for r in said["recipients"] if r["address"] not in one.get("removed", [])]
            said["recipients"] = stay + one.get("added" if place else "recipients", [])
            before, to = b64(hashlib.sha256(seal.encode()).digest()), one["to"]
        assert (one["by"], to, used) == (peer, self.name, list(known)), "a cut, a gap, or a stray certificate"
        assert written(said, ders, seals) == octets, "something is not sealed"
        return said

    def connection(self, sock: socket.socket) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.use_certificate_chain_file(self.files[0])
        context.use_privatekey_file(self.files[1])
        context.load_verify_locations(self.files[2])
        context.set_verify(SSL.VERIFY_PEER)
        context.set_alpn_protos([b"mt2"])
        context.set_alpn_select_callback(lambda _, offered: b"mt2" if b"mt2" in offered else b"")
        return SSL.Connection(context, sock)

    def connect(self, address: str, port: int, server: str) -> Session:
        tls = self.connection(socket.create_connection((address, port)))
        tls.set_connect_state()
        session = Session(self, tls, "client", server)
        session.until(lambda: session.greeting)
        nonce = session.greeting["NONCE"].values[0]
        assert session.helo(self.name, nonce, f" (NONCE={session.nonce}) (PROVE)").word == "OK"
        session.until(lambda: session.proven)
        return session

    @contextlib.contextmanager
    def listening(self, address: str, port: int) -> Iterator[None]:
        with socketserver.ThreadingTCPServer((address, port), lambda sock, *_: self.attend(sock)) as server:
            threading.Thread(target=server.serve_forever).start()
            yield
            server.shutdown()

    def attend(self, sock: socket.socket) -> None:
        tls = self.connection(sock)
        tls.set_accept_state()
        session = Session(self, tls, "server", self.name)
        session.put(f"* TMP 99.0.3.1 (VER=1.0) (HOST={self.name}) (NONCE={session.nonce}) {LIST} Ready.")
        try:
            session.until(lambda: False)
        except ConnectionError as error:
            session.put(f"* ERR {error.args[0]}") if error.args[0] else tls.shutdown()
