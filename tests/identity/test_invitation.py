"""An invitation says what it says, and what may be believed of it is told apart from what may not."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.identity.authorities import CaStores
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.identity.findings import Level, is_acceptable
from outrider.identity.invitation import (
    DAY_S,
    Invitation,
    OurSide,
    Received,
    examine,
    is_partner_name,
    read_invitation,
)
from outrider.identity.signed_document import DocumentError, sign_document
from outrider.testing.ca import issue_expired
from tests.identity.partner_papers import BEGAN, NOW, OURS, Site, new_site

SITE = new_site()
PUBLIC = CaStores.of([SITE.authority.certificate])


def received(site: Site = SITE, **changed: Any) -> Received:
    return read_invitation(site.signed(**changed))


def levels(
    invitation: Received, ours: OurSide = OURS, known: Received | None = None, now: float = NOW
) -> dict[str, list[Level]]:
    found: dict[str, list[Level]] = {}
    for finding in examine(invitation, ours, known, now):
        found.setdefault(finding.subject, []).append(finding.level)
    return found


def test_what_is_written_is_what_is_read() -> None:
    terms: Invitation = SITE.invitation(sender_domains=("bank.example", ".Pay.example"), contact="Jürgen")
    read = read_invitation(SITE.signed(sender_domains=("bank.example", ".Pay.example"), contact="Jürgen"))
    assert read.invitation == replace(terms, sender_domains=("bank.example", ".pay.example"))


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "../../etc/passwd"},
        {"name": ".hidden"},
        {"name": "a/b"},
        {"name": "a..b"},
        {"name": "a\0b"},
        {"name": "A"},
        {"name": ""},
        {"name": "x" * 65},
        {"hosts": ()},
        {"hosts": ("*.bank.example",)},
        {"hosts": ("localhost",)},
        {"hosts": ("[127.0.0.1]",)},
        {"hosts": ("a b.example",)},
        {"sender_domains": ()},
        {"sender_domains": ("com",)},
        {"sender_domains": (".com",)},
        {"sender_domains": ("..bank.example",)},
        {"sender_domains": ("[192.0.2.1]",)},
        {"sender_domains": tuple(f"d{n}.example" for n in range(1001))},
        {"contact": "a\nb"},
        {"contact": "\x1b[2J"},
        {"contact": "\u202eevil"},
        {"contact": "x" * 201},
        {"amtp_port": -1},
        {"amtp_port": 65536},
        {"issued": 0},
        {"issued": NOW + 2 * DAY_S},
        {"expires": 1 << 41},
        {"authorities": (SITE.host.certificate,)},
    ],
)
def test_terms_that_nobody_can_mean(changed: dict[str, Any]) -> None:
    """Neither written, nor read when somebody else has written them."""
    with pytest.raises(DocumentError):
        SITE.signed(**changed)


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"version": 2}',
        b'{"version": 1, "name": "a", "unknown": 1}',
        b"[]",
        b"\xff",
        b"[" * 50_000,
        b'{"version": 1, "name": "a", "hosts": ["mx.bank.example"], "sender_domains": ["bank.example"], '
        b'"ca": ["no pem"], "mpc": [], "amtp_port": 0, "contact": "", "issued": 1, "expires": 2}',
        b'{"version": 1, "name": "a", "hosts": ["mx.bank.example"], "sender_domains": ["bank.example"], '
        b'"ca": [], "mpc": ["com/nonsense"], "amtp_port": 0, "contact": "", "issued": 1, "expires": 2}',
    ],
)
def test_a_good_signature_under_nonsense(payload: bytes) -> None:
    octets = sign_document(payload, "mail-partner-invitation", SITE.host.certificate_pem, SITE.host.key_pem)
    with pytest.raises(DocumentError):
        read_invitation(octets)


@given(st.text(max_size=80))
def test_a_partners_name_is_fit_for_a_file(text: str) -> None:
    if is_partner_name(text):
        assert text == Path(text).name
        assert ".." not in text
        assert not text.startswith(".")
        assert text.isascii()
        assert text.isprintable()
        assert len(text) <= 64


def test_a_stranger_with_a_ca_of_its_own_can_be_accepted_and_must_be_asked() -> None:
    findings = examine(received(), OURS, None, NOW)
    assert is_acceptable(findings)
    assert levels(received())["signature"] == [Level.ASK]


def test_a_site_that_a_common_ca_vouches_for() -> None:
    ours = replace(OURS, stores=PUBLIC)
    assert levels(received(authorities=()), ours)["signature"] == [Level.OK]
    assert levels(received(authorities=()), OURS)["signature"] == [Level.REFUSE]


@pytest.mark.parametrize(
    ("changed", "subject"),
    [
        ({"hosts": ("mx.other-bank.example",)}, "signature"),
        ({"authorities": (CertificateAuthority.create("Not its CA", BEGAN).certificate,)}, "signature"),
        ({"issued": NOW - 9 * DAY_S, "expires": NOW}, "dates"),
        ({"issued": NOW + DAY_S, "expires": NOW + 2 * DAY_S}, "dates"),
        ({"expires": NOW + 500 * DAY_S}, "dates"),
        ({"hosts": ("mx.bank.example", "mx.us.example")}, "hosts"),
        ({"sender_domains": ("us.example",)}, "sender domains"),
        ({"sender_domains": (".us.example",)}, "sender domains"),
        ({"sender_domains": (".example",)}, None),
        ({"sender_domains": ("sub.other.example",)}, "sender domains"),
        ({"sender_domains": ("other.example",)}, "sender domains"),
    ],
)
def test_what_forbids_to_accept(changed: dict[str, Any], subject: str | None) -> None:
    if subject is None:
        with pytest.raises(DocumentError):
            SITE.signed(**changed)
        return
    invitation = received(**changed)
    assert not is_acceptable(examine(invitation, OURS, None, NOW))
    assert Level.REFUSE in levels(invitation)[subject]


def test_a_domain_above_a_partners_own_is_no_way_to_take_it_over() -> None:
    ours = replace(OURS, taken_domains={"pay.shop.example": "shop"})
    assert Level.REFUSE in levels(received(sender_domains=(".shop.example",)), ours)["sender domains"]
    assert Level.ASK in levels(received(sender_domains=("shop.example",)), ours)["sender domains"]


def test_domains_are_evident_or_claimed() -> None:
    invitation = received(sender_domains=("bank.example", "famous.example"))
    assert levels(invitation)["sender domains"] == [Level.OK, Level.ASK]


def test_a_host_that_the_offered_ca_could_vouch_for_is_asked_about() -> None:
    """Else a stranger's CA could prove names of somebody famous, as far as we are concerned."""
    hosts = ("mx.bank.example", "mx.famous.example")
    assert levels(received(hosts=hosts))["hosts"] == [Level.OK, Level.ASK]
    ours = replace(OURS, stores=PUBLIC)
    assert levels(received(hosts=hosts, authorities=()), ours)["hosts"] == [Level.OK, Level.OK]


def test_an_expired_certificate_signs_nothing() -> None:
    now = datetime.fromtimestamp(NOW, UTC)
    site = Site(SITE.authority, issue_expired(SITE.authority, "mx.bank.example", now))
    assert levels(received(site))["signature"] == [Level.REFUSE]


def test_an_expired_authority_is_not_taken() -> None:
    old = CertificateAuthority.create("Old", BEGAN, days=5)
    invitation = received(authorities=(SITE.authority.certificate, old.certificate))
    assert levels(invitation)["CA set"] == [Level.OK, Level.REFUSE]


def test_an_older_invitation_is_a_replay() -> None:
    first, second = received(), received(issued=NOW - 3600)
    assert levels(second, known=first)["sequence"] == [Level.OK]
    assert levels(first, known=second)["sequence"] == [Level.REFUSE]
    assert levels(first, known=first)["sequence"] == [Level.OK]
    twin = received(contact="somebody else")
    assert levels(twin, known=first)["sequence"] == [Level.REFUSE]


def test_another_key_must_be_asked_about() -> None:
    site = Site(SITE.authority, SITE.authority.issue_host(["mx.bank.example"], BEGAN))
    assert levels(received(site, issued=NOW - 3600), known=received())["sequence"] == [Level.ASK]


def test_what_is_kept_of_the_ca_set_is_certificates_alone() -> None:
    pem = received().invitation.authorities_pem
    assert pem == SITE.authority.certificate_pem


@pytest.mark.covers("ITP-8", "MT2-27")
def test_the_port_of_mt2_is_named_where_there_is_one() -> None:
    assert b"mt2_port" not in base64.urlsafe_b64decode(json.loads(SITE.signed())["payload"] + "==")
    assert received(mt2_port=10126).invitation.mt2_port == 10126
    assert received().invitation.mt2_port == 0
    with pytest.raises(DocumentError, match="out of range"):
        SITE.signed(mt2_port=65_536)
