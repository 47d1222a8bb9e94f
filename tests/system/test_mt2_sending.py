"""Two sites of Outrider send each other mail by MT2."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.rooms import wait_until
from tests.peers.tools import Swaks
from tests.system.cutting_proxy import CuttingProxy
from tests.system.mt2_sites import MT2_PORT, hand_over, mt2_pair, mt2_zone
from tests.system.sites import CONTENT, body_of, headers_of, mailbox, wait_mailbox

ONLY_MT2 = {"delivery": {"protocols": ["mt2"]}}
MIB = 1_048_576
LINE = b"0123456789abcdef" * 4 + b"\r\n"


class SmtpFeeder:
    """Hands messages over quickly, by one connection."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_connection((address, 25))
        self._file = self._socket.makefile("rb")
        self._reply()
        self._say(b"EHLO client.alpha.example")

    def _reply(self) -> bytes:
        while (line := self._file.readline())[3:4] == b"-":
            pass
        return line

    def _say(self, command: bytes) -> bytes:
        self._socket.sendall(command + b"\r\n")
        return self._reply()

    def send(self, number: int, lines: int = 10, recipient: str = "bob@beta.example") -> None:
        """A message with this number as its subject and so many lines."""
        self._say(b"MAIL FROM:<ann@alpha.example>")
        self._say(b"RCPT TO:<%s>" % recipient.encode())
        assert self._say(b"DATA").startswith(b"354 ")
        self._socket.sendall(b"From: ann@alpha.example\r\nSubject: number %d\r\n\r\n" % number)
        block = LINE * min(lines, 16_384)
        for start in range(0, lines, 16_384):
            self._socket.sendall(block[: len(LINE) * min(16_384, lines - start)])
        assert self._say(b".").startswith(b"250 ")

    def close(self) -> None:
        self._socket.close()


def numbers(messages: list[bytes]) -> list[int]:
    """The numbers of messages, in order."""
    return sorted(
        int(one) for each in messages for one in re.findall(rb"(?m)^Subject: number ([0-9]+)", each)
    )


def peak_mib(pid: int) -> float:
    """The most memory that a process has held."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@pytest.mark.covers("MT2-1", "MT2-17", "MT2-27")
def test_mail_between_two_sites_goes_by_mt2(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    with mt2_pair(address, loopback_address(), authority) as (alpha, beta, _):
        number = hand_over(swaks_client, address)
        [delivered] = alpha.wait_event("delivered", id=number)
        [message] = wait_mailbox(beta, "bob")
        [identified] = beta.wait_event("host_identified")
    assert delivered["protocol"] == "mt2"
    assert "verified beta.example (dNSName of the recipient domain" in str(delivered["tls"])
    assert identified["host"] == "mx.alpha.example"
    assert body_of(message) == body_of(CONTENT)
    assert b"with MT2 id" in headers_of(message)


@pytest.mark.covers("MT2-18d")
def test_bulk_mail_goes_over_one_connection(address: str, authority: CertificateAuthority) -> None:
    with mt2_pair(address, loopback_address(), authority, alpha=ONLY_MT2) as (alpha, beta, _):
        feeder = SmtpFeeder(address)
        for number in range(60):
            feeder.send(number)
        feeder.close()
        found = wait_mailbox(beta, "bob", 60)
        assert numbers(found) == list(range(60))
        assert len(beta.log_events("host_identified")) == 1
        assert not alpha.log_events("deferred")


@pytest.mark.covers("MT2-18e")
def test_the_other_site_answers_on_the_same_connection(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    beta_address = loopback_address()
    # Nobody listens where alpha's SRV record leads: only the connection that alpha has opened can be used.
    zones = {"alpha.example": mt2_zone(address, port=MT2_PORT + 1)}
    with mt2_pair(address, beta_address, authority, zones=zones, alpha=ONLY_MT2, beta=ONLY_MT2) as sites:
        alpha, beta, _ = sites
        hand_over(swaks_client, address)
        wait_mailbox(beta, "bob")
        number = hand_over(swaks_client, beta_address, "ann@alpha.example", sender="bob@beta.example")
        [delivered] = beta.wait_event("delivered", id=number)
        [message] = wait_mailbox(alpha, "ann")
    assert delivered["protocol"] == "mt2"
    assert body_of(message) == body_of(CONTENT)
    assert b"with MT2 id" in headers_of(message)


@pytest.mark.covers("MT2-18a", "MT2-18b")
def test_connections_cut_anywhere_lose_nothing_and_double_nothing(
    address: str, authority: CertificateAuthority
) -> None:
    beta_address, between = loopback_address(), loopback_address()
    cuts = [*range(1_000, 14_000, 1_000), 50_000, 200_000, 500_000, 1_000_000, 3_000_000]
    zones = {
        "beta.example": f"@ MX 10 mx\nmx A {between}\n_mt2._tcp SRV 10 1 {MT2_PORT} mx",
    }
    quick = {"delivery": {"protocols": ["mt2"], "retry": [0.1]}}
    with (
        CuttingProxy((between, MT2_PORT), (beta_address, MT2_PORT), cuts) as proxy,
        mt2_pair(address, beta_address, authority, zones=zones, alpha=quick) as (alpha, beta, _),
    ):
        feeder = SmtpFeeder(address)
        count = 0
        while proxy.cuts_left or count < 40:
            feeder.send(count, 80_000 if count % 10 == 9 else 10)
            count += 1
            wait_until(lambda: proxy.connections > 0, "a connection")
        feeder.close()
        found = wait_mailbox(beta, "bob", count, 180)
        wait_until(lambda: len(alpha.log_events("delivered")) == count, "every message to be settled", 60)
        assert numbers(mailbox(beta, "bob")) == list(range(count))
    assert len(found) == count
    assert proxy.connections > len(cuts)


@pytest.mark.limit(600)
@pytest.mark.covers("MT2-1")
def test_a_body_of_a_gibibyte_is_held_by_neither_end(address: str, authority: CertificateAuthority) -> None:
    large = {"limits": {"message_size": 2_000_000_000}, **ONLY_MT2}
    lines = 1024 * MIB // len(LINE)
    with mt2_pair(address, loopback_address(), authority, alpha=large, beta=large) as (alpha, beta, _):
        feeder = SmtpFeeder(address)
        feeder.send(1, lines)
        feeder.close()
        alpha.wait_event("delivered", patience_s=300)
        new = beta.folder / "mail" / "bob" / "new"
        wait_until(lambda: new.exists() and len(list(new.iterdir())) == 1, "the message", 120)
        [file] = new.iterdir()
        assert file.stat().st_size > lines * (len(LINE) - 1)  # a Maildir has LF line ends
        assert peak_mib(alpha.pid) < 120
        assert peak_mib(beta.pid) < 120
