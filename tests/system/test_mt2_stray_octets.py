"""Signed mail with stray CR, LF or NUL, through MT2: it goes on to the octet, or encoded so that the reader
takes the encoding off again, or not at all. It is never mended: neither before a seal is made nor after."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outrider.gateway.ride_along import Plain, Recovered, recover
from outrider.model.content import split_content
from tests.faults.sink import Sink
from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.mt2_sites import mt2_pair, mt2_zone
from tests.system.sites import json_rows, mailbox, read_reply, site, wait_mailbox

FIELDS = b"From: ann@alpha.example\r\nTo: %b\r\nSubject: %b\r\nMIME-Version: 1.0\r\nContent-Type: %b\r\n"
STRAY = b"one\ntwo\rthree\0four\r\r\n.\r\n\n.\r\nlast\n"
SIGNATURE = b"DKIM-Signature: v=1; a=rsa-sha256; d=alpha.example; s=x; h=from; bh=abc=; b=de\r\n"
PARTS = b'multipart/mixed; boundary="p"'
IN_PARTS = b"--p\r\nContent-Type: application/octet-stream\r\n\r\n" + STRAY + b"\r\n--p--\r\n"
GAMMA, SINK = b"bob@gamma.example", b"bob@sink.example"


@dataclass(frozen=True, slots=True)
class Road:
    """Alpha takes mail by SMTP and hands it to beta by MT2; beta hands it by SMTP to gamma, which takes
    BINARYMIME, and to a sink, which does not."""

    alpha: OutriderServer
    beta: OutriderServer
    gamma: OutriderServer
    sink: Sink
    address: str

    def hand_in(self, content: bytes, recipient: bytes, body: bytes = b"BINARYMIME") -> bytes:
        """Give alpha a message by BDAT; the reply."""
        with socket.create_connection((self.address, 25), PATIENCE_S) as link, link.makefile("rb") as wire:
            read_reply(wire)
            for line in (b"EHLO client.example", b"MAIL FROM:<ann@alpha.example> BODY=" + body):
                link.sendall(line + b"\r\n")
                read_reply(wire)
            link.sendall(b"RCPT TO:<" + recipient + b">\r\n")
            assert read_reply(wire).startswith(b"250")
            link.sendall(b"BDAT %d LAST\r\n" % len(content) + content)
            return read_reply(wire)

    def at_the_sink(self, token: bytes) -> bytes:
        """The message of that subject, as it left beta."""
        wait_until(lambda: bool(self._found(token)), "the message at the sink")
        [content] = self._found(token)
        return content

    def _found(self, token: bytes) -> list[bytes]:
        return [one.content for one in self.sink.arrivals if b"Subject: " + token in one.content]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    authority = CertificateAuthority(tmp_path_factory.mktemp("authority"))
    address, far, last, end = (loopback_address() for _ in range(4))
    zones = {name: mt2_zone(far, srv="mx.beta.example.") for name in ("gamma.example", "sink.example")}
    zones["gamma.example"] += f"\nhost A {last}"
    onward = {"routes": {"gamma.example": "smtp:host.gamma.example:25", "sink.example": f"smtp:[{end}]:25"}}
    with (
        Sink(end) as sink,
        OutriderServer(site("gamma.example", last), title="gamma") as gamma,
        mt2_pair(address, far, authority, zones=zones, beta=onward) as (alpha, beta, _),
    ):
        yield Road(alpha, beta, gamma, sink, address)


def content_of(recipient: bytes, token: bytes, body: bytes, kind: bytes = b"text/plain") -> bytes:
    return FIELDS % (recipient, token, kind) + b"\r\n" + body


def good_seals(beta: OutriderServer, file: Path) -> bool:
    """Whether the seals that a mail file carries fit the mail. Who it was handed to is not asked."""
    [row] = json_rows(beta, "trace", "verify", str(file), check=False)
    return bool(row["good"])


@pytest.mark.covers("SEC-30", "MT2-28a", "MT2-23a")
@pytest.mark.parametrize(
    ("token", "body", "kind"), [(b"whole", STRAY, b"text/plain"), (b"parts", IN_PARTS, PARTS)]
)
def test_a_host_that_takes_binary_mail_gets_every_octet_as_it_was_sealed(
    road: Road, token: bytes, body: bytes, kind: bytes
) -> None:
    content = SIGNATURE + content_of(GAMMA, token, body, kind)
    before = len(list((road.gamma.folder / "mail" / "bob" / "new").glob("*")))
    assert road.hand_in(content, GAMMA).startswith(b"250")
    wait_mailbox(road.gamma, "bob", before + 1)
    [file] = [
        one for one in (road.gamma.folder / "mail" / "bob" / "new").iterdir() if token in one.read_bytes()
    ]
    assert file.read_bytes().endswith(content)
    assert good_seals(road.beta, file)


@pytest.mark.covers("SEC-30", "SEC-28", "MT2-28b")
def test_a_host_that_does_not_gets_an_encoding_behind_which_the_seal_still_holds(
    road: Road, tmp_path: Path
) -> None:
    content = content_of(SINK, b"encoded", STRAY)
    assert road.hand_in(content, SINK).startswith(b"250")
    arrived = road.at_the_sink(b"encoded")
    assert STRAY not in arrived
    headers, body = split_content(arrived)
    found = recover(headers, [body])
    assert isinstance(found, Recovered)
    (tmp_path / "mail").write_bytes(arrived)
    assert good_seals(road.beta, tmp_path / "mail")


@pytest.mark.covers("SEC-30", "MT2-28b")
def test_parts_encoded_anew_are_plain_mail_whose_old_seal_nobody_believes(road: Road) -> None:
    assert road.hand_in(content_of(SINK, b"in-parts", IN_PARTS, PARTS), SINK).startswith(b"250")
    headers, body = split_content(road.at_the_sink(b"in-parts"))
    found = recover(headers, [body])
    assert isinstance(found, Plain)
    assert found.reason == "the body is not the one that was sealed"


def unfolded(server: OutriderServer, user: str) -> list[bytes]:
    return [b" ".join(one.split()) for one in mailbox(server, user)]


def failures(road: Road) -> list[dict[str, Any]]:
    return road.beta.log_events("failed")


@pytest.mark.covers("SEC-30", "SEC-28")
@pytest.mark.parametrize(
    ("token", "fields", "why"),
    [
        (b"signed", SIGNATURE, "the message is signed or encrypted"),
        (b"in-fields", b"X-Odd: one\n two\rthree\0\r\n", "the header section holds stray octets"),
    ],
)
def test_what_cannot_go_without_a_change_to_what_was_signed_is_returned(
    road: Road, token: bytes, fields: bytes, why: str
) -> None:
    assert road.hand_in(fields + content_of(SINK, token, STRAY), SINK).startswith(b"250")
    wait_until(
        lambda: any(f"5.6.1 cannot be converted: {why}" in str(one["text"]) for one in failures(road)),
        "the failure",
    )
    assert not any(token in one.content for one in road.sink.arrivals)
    wait_until(lambda: any(why.encode() in one for one in unfolded(road.alpha, "ann")), "the report")


@pytest.mark.covers("SEC-30", "SEC-23", "SMTP-1")
@pytest.mark.parametrize("stray", [b"a\nb", b"a\rb", b"a\0b"])
def test_what_calls_itself_text_is_refused_before_anybody_seals_it(road: Road, stray: bytes) -> None:
    content = content_of(GAMMA, b"refused", stray + b"\r\n")
    assert road.hand_in(content, GAMMA, b"8BITMIME").startswith(b"550 5.6.0")
