"""Would others accept this host? Each thing that they look at, with its remedy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.identity.acceptance import REMEDIES, AcceptanceLine, HostView, ServiceView, acceptance
from outrider.identity.authorities import CaStores
from outrider.identity.certificate_authority import CertificateAuthority, Issued
from outrider.identity.checks import Check
from outrider.identity.host_identity import HostSettings, ReverseNames

BEGAN = datetime.now(UTC) - timedelta(days=10)
NOW = datetime.now(UTC).timestamp()
PORT = 10_125
NAME = "mx.bank.example"
PUBLIC = CertificateAuthority.create("Public", BEGAN, kind="public")
PRIVATE = CertificateAuthority.create("Private", BEGAN)
STORES = CaStores.of([PUBLIC.certificate], [PRIVATE.certificate])


def chain(issued: Issued) -> tuple[bytes, ...]:
    return tuple(one.public_bytes(Encoding.DER) for one in (issued.certificate, *issued.chain))


HERE = ServiceView("bank.example", ((NAME, PORT),))
GOOD = HostView(
    NAME,
    chain(PUBLIC.issue_host([NAME], BEGAN, services=[("amtp", "bank.example")])),
    (("192.0.2.1", ReverseNames((NAME,))), ("2001:db8::1", ReverseNames(("www.bank.example", NAME)))),
    (HERE,),
)


def lines(view: HostView) -> dict[str, AcceptanceLine]:
    return {line.subject: line for line in acceptance(view, STORES, HostSettings(), PORT, NOW)}


def test_a_host_without_fault_has_nothing_to_do() -> None:
    found = lines(GOOD)
    assert {line.result for line in found.values()} == {"ok"}
    assert not any(line.remedy for line in found.values())
    assert list(found) == [
        "certificate",
        "dates",
        "name",
        "ptr 192.0.2.1",
        "ptr 2001:db8::1",
        "srv bank.example",
        "server for bank.example",
    ]


def test_every_check_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Check)


@pytest.mark.covers("ITP-2a")
@pytest.mark.parametrize(
    ("view", "subject", "words"),
    [
        (replace(GOOD, chain=()), "certificate", "no-certificate"),
        (replace(GOOD, chain=chain(PUBLIC.issue_host([NAME], BEGAN, days=5))), "certificate", "expired"),
        (replace(GOOD, chain=(*GOOD.chain, b"x")), "certificate", "malformed"),
        (replace(GOOD, name="mx2.bank.example"), "name", "EHLO says mx2.bank.example"),
        (replace(GOOD, addresses=()), "ptr", "no address"),
        (replace(GOOD, addresses=(("192.0.2.1", ReverseNames()),)), "ptr 192.0.2.1", "ptr-none"),
        (replace(GOOD, addresses=(("192.0.2.1", ReverseNames((), (NAME,))),)), "ptr 192.0.2.1", "forward"),
        (replace(GOOD, addresses=(("192.0.2.1", ReverseNames(failure="x")),)), "ptr 192.0.2.1", "timeout"),
        (replace(GOOD, services=(replace(HERE, failure="no answer"),)), "srv bank.example", "no answer"),
        (replace(GOOD, services=(replace(HERE, targets=((NAME, 25),)),)), "srv bank.example", "port 25"),
    ],
)
def test_each_fault_is_told_with_its_remedy(view: HostView, subject: str, words: str) -> None:
    line = lines(view)[subject]
    assert line.result == "bad"
    assert words in line.text
    assert line.remedy


def test_what_works_with_less_is_a_note() -> None:
    soon = replace(GOOD, chain=chain(PUBLIC.issue_host([NAME, "bank.example"], BEGAN, days=20)))
    assert lines(soon)["dates"].result == "note"
    plain = replace(GOOD, chain=chain(PUBLIC.issue_host([NAME], BEGAN)))
    claimed = lines(plain)["server for bank.example"]
    assert (claimed.result, "claimed" in claimed.text) == ("note", True)
    assert "SRVName _amtp.bank.example" in claimed.remedy
    secure = replace(plain, services=(replace(HERE, secure=True),))
    assert lines(secure)["server for bank.example"].result == "ok"
    for targets in ((), (("mx.other.example", PORT),)):
        nowhere = lines(replace(GOOD, services=(replace(HERE, targets=targets),)))["srv bank.example"]
        assert nowhere.result == "note"
        assert f"_amtp._tcp.bank.example. SRV 0 0 {PORT} {NAME}." in nowhere.remedy


def test_private_hosts_show_no_ptr() -> None:
    found = lines(replace(GOOD, chain=chain(PRIVATE.issue_host([NAME], BEGAN)), addresses=()))
    assert "private connections" in found["certificate"].text
    assert found["ptr"].result == "ok"
