"""An endpoint that knows MT2 from its pages alone (mt2_stranger.py) and Outrider send each other mail."""

from __future__ import annotations

import ast
import base64
import contextlib
import os
import smtplib
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OUTRIDER, OutriderServer
from tests.peers.rooms import read_maildir, wait_until
from tests.system.mt2_stranger import ENVELOPE, Endpoint, Session, b64

PORT = 10_126
SITE, STRANGER = "mx.beta.example", "mx.stranger.example"
SOURCE = Path(__file__).with_name("mt2_stranger.py")
MOST_LINES = 400
HEADERS_NAMESPACE = "urn:oid:2.25.142621449478723633738367890471353828951.2"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with ca.pem and what it issued to both hosts, NAME.pem and NAME.key."""

    def cert(*words: str) -> None:
        subprocess.run([os.fspath(OUTRIDER), "cert", *words, "--folder", os.fspath(tmp_path)], check=True)

    cert("ca", "A CA of both")
    for name in (SITE, STRANGER):
        cert("host", name, "--ca", os.fspath(tmp_path / "ca.pem"))
    return tmp_path


@pytest.fixture
def stranger(certificates: Path) -> Endpoint:
    """The stranger, as a host of its own."""
    files = [certificates / name for name in (f"{STRANGER}.pem", f"{STRANGER}.key", "ca.pem")]
    return Endpoint(STRANGER, *files)


@contextlib.contextmanager
def site(
    address: str, certificates: Path, stranger_at: str = "127.0.0.9", **tables: Any
) -> Iterator[OutriderServer]:
    """A site of Outrider that takes mail for ann and bob at beta.example, and routes to the stranger."""
    configuration: dict[str, Any] = {
        "hostname": SITE,
        "listeners": [
            {"protocol": "mt2", "address": address, "port": PORT},
            {"protocol": "smtp", "address": address, "port": 25},
        ],
        "dns": {"servers": []},
        "tls": {
            "certificate": certificates / f"{SITE}.pem",
            "key": certificates / f"{SITE}.key",
            "public_ca": [os.fspath(certificates / "ca.pem")],
        },
        "domains": {"beta.example": {"deliver": "maildir:{dir}/mail/{user}", "users": ["ann", "bob"]}},
        "relay": {"networks": ["127.0.0.0/8"]},
        "net": {"private_destinations": ["127.0.0.0/8"]},
        "routes": {"stranger.example": {"to": f"mt2:[{stranger_at}]:{PORT}", "tls_name": STRANGER}},
        "mt2": {"pipe": [STRANGER]},
        "delivery": {"retry": [0.2]},
        **tables,
    }
    with OutriderServer(configuration) as server:
        yield server


def message(number: int, *recipients: str, body: bytes = b"Hello.\r\n") -> dict[str, Any]:
    """What a message of the stranger's is: what its envelope says, and the octets of its objects."""
    fields = (
        f"<RFC822.From>zoë@stranger.example</RFC822.From>\n<RFC822.Subject>number {number}</RFC822.Subject>\n"
    )
    headers = f'<headers xmlns="{HEADERS_NAMESPACE}">\n{fields}</headers>\n'.encode()
    body = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + body
    objects = [("message/headers", headers), ("message/body", body)]
    said = {
        "id": f"{number}.{time.time_ns()}@{STRANGER}",
        "date": int(time.time()),
        "sender": "zoe@stranger.example",
        "recipients": [{"address": one} for one in recipients or ("bob@beta.example",)],
        "objects": [
            {
                "part": kind.partition("/")[2],
                "type": kind,
                "sha256": b64(sha256(octets).digest()),
                "length": len(octets),
            }
            for kind, octets in objects
        ],
    }
    return {"said": said, "objects": objects}


def transfer(stranger: Endpoint, one: dict[str, Any]) -> tuple[str, list[tuple[str, bytes]]]:
    """A message as it is handed to the site."""
    return one["said"]["id"], [(ENVELOPE, stranger.sealed(one["said"], SITE)), *one["objects"]]


def maildir(server: OutriderServer, user: str, count: int) -> list[bytes]:
    """So many messages of a user, with CRLF as they came."""
    folder = server.folder / "mail" / user
    wait_until(lambda: len(read_maildir(folder)) >= count, f"{count} messages of {user}")
    return [one.replace(b"\n", b"\r\n") for one in read_maildir(folder)]


def submit(address: str, content: bytes, *recipients: str) -> None:
    """Hand a message to the site by SMTP."""
    with smtplib.SMTP(address, 25, local_hostname="client.beta.example") as client:
        client.sendmail("ann@beta.example", recipients, content)


def fields_of(headers: bytes) -> bytes:
    """The octets of all entities of a headers object, one behind the other."""
    found = b""
    for one in ET.fromstring(headers):
        tag = one.tag.rpartition("}")[2]
        if wire := one.get("wire"):
            found += base64.b64decode(wire, validate=True)
        elif tag != "body-fields":
            head = "" if tag == "line" else one.get("name", tag.partition(".")[2]) + ": "
            found += f"{head}{one.text or ''}\r\n".encode()
    return found


def connected(stranger: Endpoint, address: str) -> Session:
    return stranger.connect(address, PORT, SITE)


@pytest.mark.covers("MT2-10b", "MT2-14", "MT2-29")
def test_a_stranger_hands_a_message_to_outrider(certificates: Path, stranger: Endpoint) -> None:
    address = loopback_address()
    body = b"".join(b"line %d of a body in several fragments\r\n" % number for number in range(5_000))
    with site(address, certificates) as server:
        session = connected(stranger, address)
        one = message(1, body=body)
        [answer] = session.send(transfer(stranger, one))
        assert (answer.word, answer.code) == ("OK", "99.0.2.6")
        [delivered] = maildir(server, "bob", 1)
        stat = session.answer(f"STAT {one['said']['id']}")
        assert session.answer("NOOP").code == "99.0.2.10"
        assert session.answer("QUIT").code == "99.0.2.9"
        [identified] = server.log_events("host_identified")
        broken = server.log_events("trace_broken")
    assert identified["host"] == STRANGER
    assert not broken
    assert stat.parts[0].name == "STATE"
    assert stat.parts[0].values[0] in ("queued", "delivered")
    assert delivered.endswith(b"\r\n\r\n" + body)
    assert b"\r\nMT2-Recipe: v=1; envelope=" in delivered  # the seals were good, and stay with the mail
    assert (
        b"Subject: number 1\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" in delivered
    )


@pytest.mark.covers("MT2-18d", "MT2-11")
def test_many_messages_of_the_stranger_are_pipelined(certificates: Path, stranger: Endpoint) -> None:
    address = loopback_address()
    with site(address, certificates) as server:
        session = connected(stranger, address)
        options = session.answer("OPT (PIPE=ON) (INFLIGHT=64) (URG=ON)")
        assert [(one.name, one.word, one.code) for one in options.parts] == [
            ("PIPE", "OK", "99.0.2.2"),
            ("INFLIGHT", "OK", "99.0.2.2"),
            ("URG", "ERR", "99.0.5.12"),
        ]
        session.inflight = 64
        sent = [message(number) for number in range(40)]
        answers = session.send(*(transfer(stranger, one) for one in sent))
        assert [one.code for one in answers] == ["99.0.2.6"] * len(sent)
        found = maildir(server, "bob", len(sent))
    assert all(any(b"Subject: number %d\r\n" % number in one for one in found) for number in range(40))
    assert len(found) == len(sent)


@pytest.mark.covers("MT2-16", "MT2-15")
def test_outrider_refuses_one_recipient_and_then_all(certificates: Path, stranger: Endpoint) -> None:
    address = loopback_address()
    with site(address, certificates) as server:
        session = connected(stranger, address)
        one = message(1, "nobody@beta.example", "ann@beta.example")
        [taken] = session.send(transfer(stranger, one))
        [refused] = session.send(transfer(stranger, message(2, "nobody@beta.example")))
        assert len(maildir(server, "ann", 1)) == 1
    results = [(one.name, one.values, one.word, one.code) for one in taken.parts]
    assert taken.code == "99.0.2.6"
    assert results == [("RCPT", ["1"], "ERR", "99.0.5.31")]
    assert (refused.word, refused.code) == ("ERR", "99.0.5.33")
    assert [part.code for part in refused.parts if part.name == "RCPT"] == ["99.0.5.31"]


@pytest.mark.covers("MT2-18a", "MT2-13")
def test_outrider_takes_a_transfer_once(certificates: Path, stranger: Endpoint) -> None:
    address = loopback_address()
    with site(address, certificates) as server:
        one = message(1, "bob@beta.example", "nobody@beta.example")
        name, objects = transfer(stranger, one)
        assert [each.code for each in connected(stranger, address).send((name, objects))] == ["99.0.2.6"]
        again = connected(stranger, address)
        [repeated] = again.send((name, objects))
        [other] = again.send((name, transfer(stranger, message(2))[1]))
        unknown = again.answer("STAT never.sent")
        maildir(server, "bob", 1)
        [noted] = server.wait_event("transfer_repeated")
        assert len(maildir(server, "bob", 1)) == 1
    assert (repeated.word, repeated.code) == ("OK", "99.0.2.7")
    assert [(part.name, part.values) for part in repeated.parts] == [("RCPT", ["2"])]
    assert noted["transfer"] == name
    assert (other.word, other.code) == ("ERR", "99.0.5.45")
    assert unknown.parts[0].values == ["unknown"]


@pytest.mark.covers("MT2-23a", "MT2-15")
def test_outrider_sees_that_the_strangers_seals_do_not_fit(certificates: Path, stranger: Endpoint) -> None:
    address = loopback_address()
    with site(address, certificates) as server:
        one = message(1)
        name, [(kind, envelope), *objects] = transfer(stranger, one)
        forged = envelope.replace(b"zoe@", b"eve@")
        [answer] = connected(stranger, address).send((name, [(kind, forged), *objects]))
        server.wait_event("trace_broken")
    assert (answer.word, answer.code) == ("ERR", "99.0.5.42")


@pytest.mark.covers("MT2-1", "MT2-17", "MT2-23b")
def test_outrider_hands_messages_to_the_stranger(certificates: Path, stranger: Endpoint) -> None:
    address, far = loopback_address(), loopback_address()
    body = b"".join(b"line %d of a body\r\n" % number for number in range(9_000))
    content = "From: Zoë <ann@beta.example>\r\nsubject: =?utf-8?q?Caf=C3=A9?=\r\nX-Mood: fine\r\n".encode()
    with stranger.listening(far, PORT), site(address, certificates, far) as server:
        for number in range(5):
            submit(address, content + b"\r\n%d\r\n" % number + body, "zoe@stranger.example")
        delivered = server.wait_event("delivered", count=5)
        assert server.log_events("deferred") == []
    assert {one["protocol"] for one in delivered} == {"mt2"}
    assert len(stranger.taken) == 5
    for (peer, _), taken in stranger.taken.items():
        assert peer == SITE
        assert taken.said["sender"] == "ann@beta.example"
        assert content in fields_of(taken.objects["message/headers"])
        assert taken.objects["message/body"].endswith(body)


@pytest.mark.covers("MT2-16")
def test_the_stranger_refuses_a_recipient_of_outrider(certificates: Path, stranger: Endpoint) -> None:
    address, far = loopback_address(), loopback_address()
    stranger.refuses = {"nobody@stranger.example"}
    with stranger.listening(far, PORT), site(address, certificates, far) as server:
        submit(address, b"Subject: two\r\n\r\nHello.\r\n", "nobody@stranger.example", "zoe@stranger.example")
        server.wait_event("delivered", count=1)
        [bounced] = maildir(server, "ann", 1)
        delivered = server.log_events()
    assert len(stranger.taken) == 1, delivered
    assert b"nobody@stranger.example" in bounced
    assert b"5.1.1" in bounced


def test_the_stranger_is_small_and_shares_nothing_with_outrider() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MOST_LINES
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names <= sys.stdlib_module_names | {"OpenSSL", "cryptography"}
