"""In by each protocol, out by each other: the message is the same, octet for octet, or comes back with the
reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import read_maildir, wait_until
from tests.peers.tools import Swaks
from tests.system.amtp_sites import CODE
from tests.system.gateway_matrix import ROWS, table
from tests.system.gateway_sites import LOOP, LOOP_BY_ADDRESS, MOST_HOPS, Gateway, gateway
from tests.system.proving_sites import hand_over

PAGE = Path(__file__).parents[2] / "docs" / "gateways.md"
WITH = {"smtp": b"ESMTPS", "qmtp": b"QMTP", "amtp": b"AMTP", "mt2": b"MT2", "amdp": b"AMDP"}
"""What Received says of it."""
FIRST = b"X-First: the sender's own from here\r\n"


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """For all rows: each has mailboxes of its own."""
    with gateway(CertificateAuthority(tmp_path_factory.mktemp("authority"))) as running:
        yield running


def content_for(came: str, goes: str) -> bytes:
    """Folded and repeated fields, octets beyond ASCII, lines that begin with dots, no final line end."""
    return (
        FIRST + b"From: Ann <ann@origin.example>\r\n"
        b"To: %b@%b.hub.example\r\nSubject: by %b\r\n and out by %b\r\n"
        b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%b-%b@origin.example>\r\n"
        b"X-Twice:  one\r\nX-Twice: two \r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        b".a dot\r\n..two\r\nGr\xfc\xdfe \xa0 \r\n\r\nthe end\r\n"
    ) % tuple(one.encode() for one in (goes, came, came, goes, came, goes))


@pytest.mark.covers("ITP-6")
@pytest.mark.parametrize(("came", "goes"), ROWS)
def test_what_comes_in_and_goes_out(sites: Gateway, swaks_client: Swaks, came: str, goes: str) -> None:
    row, content = ROWS[came, goes], content_for(came, goes)
    hand_over(
        swaks_client,
        sites.origin_address,
        f"{goes}@{came}.hub.example",
        content=content,
        sender="ann@origin.example",
    )
    if row.refused:
        mail = sites.origin.folder / "mail" / "ann"
        words = f"{goes}@{came}.hub.example", row.refused
        wait_until(lambda: any(says(one, *words) for one in read_maildir(mail)), "the report")
        return
    mail = sites.sink.folder / "mail" / f"{goes}.sink.example" / came
    wait_until(lambda: bool(read_maildir(mail)), f"what came by {came} and went by {goes}")
    [message] = read_maildir(mail)
    trace, first, rest = message.replace(b"\r\n", b"\n").partition(FIRST.replace(b"\r\n", b"\n"))
    assert first + rest == content.replace(b"\r\n", b"\n")
    assert (f"MPC: {CODE}".encode() in trace) is row.code
    # Between two MT2 hosts a hop is told by its seal.
    at_hub = [] if came == goes == "mt2" else [WITH[came]]
    assert re.findall(rb" with ([A-Z0-9]+)", trace)[: 1 + len(at_hub)] == [WITH[goes], *at_hub]


@pytest.mark.covers("SEC-173", "SMTP-4", "MT2-28b")
@pytest.mark.parametrize("domain", [LOOP, LOOP_BY_ADDRESS])
def test_a_loop_through_several_protocols_comes_to_an_end(
    sites: Gateway, swaks_client: Swaks, domain: str
) -> None:
    """Each conversion keeps the hops that were, whether MT2's objects come back at each turn or stay in the
    mail."""
    to = f"anybody@{domain}"
    hand_over(swaks_client, sites.origin_address, to, sender="ann@origin.example")
    mail = sites.origin.folder / "mail" / "ann"
    wait_until(lambda: any(says(one, to, "5.4.6") for one in read_maildir(mail)), "the report")
    by = [event["protocol"] for site in (sites.hub, sites.sink) for event in passed_on(site, to)]
    assert set(by) == {"smtp", "mt2"}
    assert MOST_HOPS - 3 <= len(by) <= MOST_HOPS + 1


def passed_on(site: OutriderServer, to: str) -> list[dict[str, object]]:
    return [
        event
        for kind in ("relayed", "delivered")
        for event in site.log_events(kind)
        if event["recipient"] == to
    ]


def says(message: bytes, *words: str) -> bool:
    """Whether it has all of them, however its lines are folded."""
    text = b" ".join(message.split())
    return all(one.encode() in text for one in words)


def test_the_page_has_the_table() -> None:
    assert table() in PAGE.read_text(), "run `python -m tests.system.gateway_matrix` and put it there"
