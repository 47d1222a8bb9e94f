"""`outrider trace`: off line, with a message and a CA file at hand."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from outrider.cli.main import main
from outrider.config.loader import load
from outrider.gateway.mapping import mt2_to_smtp, smtp_to_mt2
from outrider.gateway.ride_along import ride_along
from outrider.identity.certificate_authority import CertificateAuthority, Issued
from outrider.identity.header_encryption import ENCRYPTED_HEADERS_TYPE, encrypt_headers
from outrider.identity.jws import thumbprint_of
from outrider.identity.seals import Handover, Sealer
from outrider.message.objects.envelope import (
    LayeredEnvelope,
    ObjectEntry,
    Part,
    write_envelope,
)
from outrider.message.objects.headers import write_headers
from outrider.model.address import parse_address
from outrider.model.content import Content, InlineBody
from outrider.model.facts import Fact, Provenance
from outrider.model.layered import MessageObjects
from outrider.model.transaction import RecipientRequest
from outrider.spool.factory import open_spool
from outrider.testing.spool_samples import message

MAIL = (
    b"From: Alice <alice@a.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
)
TEXT = b"Hello, Bob.\r\n"
_AGO = datetime.now(UTC) - timedelta(hours=2)
AUTHORITY = CertificateAuthority.create("Bank CA", _AGO)
A, B = (AUTHORITY.issue_host([f"mx.{letter}.example"], _AGO) for letter in "ab")
BOB = AUTHORITY.issue_user("bob@c.example", _AGO)


def der(issued: Issued) -> bytes:
    return Sealer.from_pem(issued.certificate_pem, issued.key_pem).signer.chain[0]


def made(encrypted: bool = False) -> tuple[MessageObjects, LayeredEnvelope]:
    """Sealed by a as core, by b as hop, and handed to mx.c.example."""
    form = smtp_to_mt2(MAIL)
    headers = write_headers(form.headers)
    kind = "message/headers"
    if encrypted:
        headers, kind = encrypt_headers(headers, [der(BOB)]), ENCRYPTED_HEADERS_TYPE
    body = form.body_prefix + TEXT
    now = int(time.time()) - 60
    envelope = LayeredEnvelope(
        "m23@mx.a.example",
        parse_address("alice@a.example"),
        (RecipientRequest(parse_address("bob@c.example")),),
        now,
        objects=(
            ObjectEntry(Part.HEADERS, kind, hashlib.sha256(headers).digest(), len(headers)),
            ObjectEntry(Part.BODY, "message/body", hashlib.sha256(body).digest(), len(body)),
        ),
    )
    first = Handover(
        "mx.a.example",
        "mx.b.example",
        "alice@a.example",
        peer_proven=True,
        protocol="esmtpsa",
        received=now - 5,
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
        verified={"spf": "pass"},
    )
    envelope = Sealer.from_pem(A.certificate_pem, A.key_pem).seal_core(envelope, first, now)
    second = Handover("mx.b.example", "mx.c.example", "mx.a.example", True, "mt2", now + 1)
    sealer = Sealer.from_pem(B.certificate_pem, B.key_pem)
    envelope = sealer.seal_hop(envelope, envelope.recipients, second, now + 2)
    return MessageObjects(write_envelope(envelope), headers, form.body_prefix, kind), envelope


OBJECTS, ENVELOPE = made()
BODY = OBJECTS.body_prefix + TEXT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the objects, the CA, and no configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTRIDER_CONFIG", str(tmp_path / "outrider.toml"))
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.certificate_pem)
    for name, octets in (("envelope", OBJECTS.envelope), ("headers", OBJECTS.headers), ("body", BODY)):
        (tmp_path / name).write_bytes(octets)
    return tmp_path


def trace(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["trace", *words])
    assert result.exit_code == code, (result.output, result.exception)
    return result


WHOLE = ("envelope", "--headers", "headers", "--body", "body", "--ca", "ca.pem")


@pytest.mark.covers("MT2-23c")
def test_hop_by_hop_for_people(here: Path) -> None:
    lines = trace("show", *WHOLE).output.splitlines()
    assert lines[0] == "message m23@mx.a.example"
    assert lines[1].startswith("from alice@a.example, 20")
    assert lines[2] == "to bob@c.example"
    text = "\n".join(lines)
    for expected in (
        "mx.a.example (public CA",
        "had it from alice@a.example (proven) by esmtpsa, TLSv1.3 TLS_AES_256_GCM_SHA384",
        "verified: spf pass",
        "handed it to mx.b.example",
        "had it from mx.a.example (proven) by mt2, without TLS",
        "handed it to mx.c.example",
        "ok   sealed by the sender and 1 hop; nothing was changed",
        "not at hand: peer",
    ):
        assert expected in text, text


@pytest.mark.covers("MT2-23c")
def test_verify_for_programs(here: Path) -> None:
    row = json.loads(trace("verify", *WHOLE, "--json", "--peer", "MX.b.example").output)
    assert (row["good"], row["id"], row["findings"]) == (True, "m23@mx.a.example", [])
    assert row["unchecked"] == ["receiver"]
    assert [(one["number"], one["by"], one["kind"]) for one in row["seals"]] == [
        (0, "mx.a.example", "core"),
        (1, "mx.b.example", "hop"),
    ]


@pytest.mark.covers("MT2-23a", "MT2-23c")
def test_verify_names_what_is_wrong(here: Path) -> None:
    (here / "body").write_bytes(BODY.replace(b"Bob", b"Eve"))
    assert "BAD  body: " in trace("verify", *WHOLE, code=1).output
    assert "note not checked" in trace("verify", "envelope", "--ca", "ca.pem").output
    cut = trace("verify", "envelope", "--ca", "ca.pem", "--peer", "mx.d.example", code=1).output
    assert "BAD  trace: the last seal is of mx.b.example, but the message came from mx.d.example" in cut
    other = trace("verify", "envelope", "--ca", "ca.pem", "--receiver", "mx.d.example", code=1).output
    assert "not to mx.d.example" in other
    stranger = CertificateAuthority.create("Other", _AGO)
    (here / "ca.pem").write_bytes(stranger.certificate_pem)
    report = trace("verify", "envelope", "--ca", "ca.pem", "--json", code=1).output
    assert [one["place"] for one in json.loads(report)["findings"]] == ["seal 0", "seal 1"]
    assert "NOT PROVEN" in trace("show", "envelope", "--ca", "ca.pem").output


@pytest.mark.covers("MT2-23c", "MT2-28b")
@pytest.mark.parametrize("maildir", [False, True])
def test_a_mail_that_carries_its_objects(here: Path, maildir: bool) -> None:
    visible = mt2_to_smtp(smtp_to_mt2(MAIL).headers, OBJECTS.body_prefix)
    mail = (
        b"Received: from x by y; Sun, 22 Nov 2026 12:00:00 +0000\r\n" + ride_along(OBJECTS) + visible + TEXT
    )
    good = mail.replace(b"\r\n", b"\n") if maildir else mail
    (here / "mail").write_bytes(good)
    row = json.loads(trace("verify", "mail", "--ca", "ca.pem", "--json").output)
    assert (row["good"], row["unchecked"]) == (True, ["peer", "receiver"])
    (here / "mail").write_bytes(good.replace(b"Hello", b"Hallo"))
    assert "BAD  body: " in trace("verify", "mail", "--ca", "ca.pem", code=1).output
    (here / "mail").write_bytes(visible + TEXT)
    assert "neither an envelope" in trace("verify", "mail", code=1).output


@pytest.mark.covers("MT2-4", "MT2-23c")
def test_encrypted_headers_are_shown_to_who_has_the_key(here: Path) -> None:
    objects, _ = made(encrypted=True)
    (here / "envelope").write_bytes(objects.envelope)
    (here / "headers").write_bytes(objects.headers)
    text = trace("show", *WHOLE).output
    assert f"headers: encrypted for {thumbprint_of(der(BOB))}" in text
    assert "headers: application/jose+json" in text
    assert "Grüße" not in text
    (here / "key").write_bytes(BOB.key_pem + BOB.certificate_pem)
    assert "Subject: Grüße" in trace("show", *WHOLE, "--key", "key").output
    (here / "key").write_bytes(BOB.key_pem)
    (here / "cert").write_bytes(BOB.certificate_pem)
    row = trace("show", *WHOLE, "--key", "key", "--certificate", "cert", "--json").output
    assert ["Subject", "Grüße"] in json.loads(row)["fields"]
    (here / "key").write_bytes(A.key_pem + A.certificate_pem)
    assert "not encrypted for this certificate" in trace("show", *WHOLE, "--key", "key", code=1).output
    assert trace("show", *WHOLE, "--key", "none", code=1)
    assert "not at hand" in trace("show", "envelope", "--key", "key", code=1).output


CONFIG = """
hostname = "mx.c.example"
data_dir = "data"
[[listeners]]
protocol = "smtp"
address = "127.0.0.1"
port = 2525
[tls]
public_ca = []
private_ca = ["ca.pem"]
[spool]
reserve = 0
[dns]
servers = []
"""


async def _store(config_path: Path, **changes: Any) -> None:
    loaded = load(config_path)
    spool = open_spool(loaded.config, "mx.c.example", shard=1)
    now = time.time()
    await spool.start(now)
    visible = mt2_to_smtp(smtp_to_mt2(MAIL).headers, OBJECTS.body_prefix)
    one = message(id_="QUEUED1", received_at=now, content=Content(visible, InlineBody(TEXT)))
    host = Fact("host", "mx.b.example", Provenance.PROVEN, "private CA", now)
    await spool.store(replace(one, **({"objects": OBJECTS, "facts": (host,)} | changes)))
    await spool.close()


@pytest.mark.covers("MT2-23c", "MT2-1")
@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({}, ""),
        ({"facts": ()}, "trace"),
        ({"facts": (Fact("host", "mx.x.example", Provenance.PROVEN, "", 0.0),)}, "trace"),
        ({"objects": replace(OBJECTS, headers=OBJECTS.headers.replace(b"Alice", b"Malic"))}, "headers"),
        ({"objects": replace(OBJECTS, body_prefix=b"\r\n")}, "body"),
    ],
)
def test_a_message_of_the_queue(here: Path, changes: dict[str, Any], bad: str) -> None:
    """With no server running: who brought it and to whom is known, so nothing is left unchecked."""
    (here / "outrider.toml").write_text(CONFIG)
    (here / "data").mkdir(mode=0o700)
    asyncio.run(_store(here / "outrider.toml", **changes))
    row = json.loads(trace("verify", "QUEUED1", "--json", code=1 if bad else 0).output)
    assert [one["place"] for one in row["findings"]] == ([bad] if bad else [])
    assert row["unchecked"] == []


@pytest.mark.covers("MT2-23c")
def test_what_has_no_trace(here: Path) -> None:
    (here / "outrider.toml").write_text(CONFIG)
    (here / "data").mkdir(mode=0o700)
    asyncio.run(_store(here / "outrider.toml", objects=None))
    assert "did not come by MT2" in trace("verify", "QUEUED1", code=1).output
    assert "no such message" in trace("show", "NONE", code=1).output
    assert "belong to a file" in trace("show", "NONE", "--body", "body", code=2).output
    (here / "envelope").write_bytes(b"<envelope><x/></envelope>")
    assert "BAD  envelope: " in trace("verify", "envelope", code=1).output
    assert "nothing of the envelope can be believed" in trace("show", "envelope").output
