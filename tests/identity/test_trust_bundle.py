"""Trust bundles: signed, numbered, dated; never rolled back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from outrider.identity.certificate_authority import CertificateAuthority
from outrider.identity.findings import Level, is_acceptable
from outrider.identity.invitation import DAY_S
from outrider.identity.signed_document import DocumentError, sign_document
from outrider.identity.trust_bundle import (
    AuthoritySet,
    ReceivedBundle,
    TrustBundle,
    changes,
    examine_bundle,
    read_bundle,
    write_bundle,
)
from tests.identity.partner_papers import BEGAN, NOW, Site, altered, new_site

KEEPER = new_site("ca.group.example")
ONE, TWO = (CertificateAuthority.create(name, BEGAN).certificate for name in ("One", "Two"))
FIRST = TrustBundle(
    "banks", 1, NOW - DAY_S, NOW + DAY_S, "https://ca.group.example/b", (AuthoritySet("banks-eu", (ONE,)),)
)


def signed(bundle: TrustBundle, site: Site = KEEPER) -> bytes:
    return write_bundle(bundle, site.host.certificate_pem, site.host.key_pem)


def received(bundle: TrustBundle, site: Site = KEEPER) -> ReceivedBundle:
    return read_bundle(signed(bundle, site))


def refused(bundle: ReceivedBundle, known: ReceivedBundle | None, now: float = NOW) -> list[str]:
    return [one.subject for one in examine_bundle(bundle, known, now) if one.level is Level.REFUSE]


def test_what_is_written_is_what_is_read() -> None:
    assert received(FIRST).bundle == FIRST


def test_the_first_edition_is_asked_about() -> None:
    findings = examine_bundle(received(FIRST), None, NOW)
    assert is_acceptable(findings)
    assert findings[0].level is Level.ASK


@pytest.mark.parametrize(
    ("changed", "subjects"),
    [
        ({"serial": 6}, []),
        ({"serial": 5, "issued": NOW - DAY_S - 1}, ["sequence"]),
        ({"serial": 4}, ["sequence"]),
        ({"serial": 6, "expires": NOW}, ["dates"]),
        ({"serial": 6, "issued": NOW + 7200, "expires": NOW + DAY_S}, ["dates"]),
        ({"serial": 6, "name": "others"}, ["signature"]),
    ],
)
def test_what_may_replace_edition_five(changed: dict[str, Any], subjects: list[str]) -> None:
    known = received(replace(FIRST, serial=5))
    assert refused(received(replace(FIRST, **changed)), known) == subjects


def test_another_key_never_replaces_an_edition() -> None:
    stranger = new_site("ca.group.example")
    assert refused(received(replace(FIRST, serial=9), stranger), received(FIRST)) == ["signature"]


def test_the_edition_in_use_is_no_fault() -> None:
    assert refused(received(FIRST), received(FIRST)) == []


def test_an_expired_authority_is_not_taken() -> None:
    old = CertificateAuthority.create("Old", BEGAN, days=5).certificate
    bundle = replace(FIRST, sets=(AuthoritySet("banks-eu", (ONE, old)),))
    assert refused(received(bundle), None) == ["CA set"]


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "../x"},
        {"name": ""},
        {"serial": 0},
        {"serial": 1 << 60},
        {"expires": 1},
        {"url": "http://plain.example"},
        {"url": "file:///etc/passwd"},
        {"url": "https://x/\n"},
        {"sets": ()},
        {"sets": (AuthoritySet("empty", ()),)},
        {"sets": (AuthoritySet("../x", (ONE,)),)},
        {"sets": (AuthoritySet("a", (ONE,)), AuthoritySet("a", (TWO,)))},
        {"sets": (AuthoritySet("banks", (ONE,)),)},
        {"sets": (AuthoritySet("a", (ONE,), "two\nlines"),)},
        {"sets": tuple(AuthoritySet(f"s{n}", (ONE,)) for n in range(51))},
        {"sets": (AuthoritySet("a", (KEEPER.host.certificate,)),)},
    ],
)
def test_bundles_that_nobody_can_mean(changed: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        signed(replace(FIRST, **changed))


def test_a_tampered_bundle_is_refused() -> None:
    with pytest.raises(DocumentError, match="changed"):
        read_bundle(altered(signed(FIRST), lambda parts: parts["payload"].update(serial=99)))


def test_an_invitation_is_no_bundle() -> None:
    with pytest.raises(DocumentError, match="not of the kind"):
        read_bundle(new_site().signed())
    with pytest.raises(DocumentError, match="unknown or missing"):
        read_bundle(
            sign_document(b"{}", "mail-trust-bundle", KEEPER.host.certificate_pem, KEEPER.host.key_pem)
        )


def test_the_difference_names_every_change() -> None:
    after = replace(FIRST, sets=(AuthoritySet("banks-eu", (TWO,)), AuthoritySet("banks-us", (ONE,))))
    told = [str(change) for change in changes(FIRST, after)]
    assert [text.partition(" [")[0] for text in told] == [
        "CA added: banks-eu: CN=Two",
        "CA removed: banks-eu: CN=One",
        "set added: banks-us",
        "CA added: banks-us: CN=One",
    ]
    assert changes(FIRST, FIRST) == ()
    assert [change.what for change in changes(None, FIRST)] == ["set added", "CA added"]
    assert [change.what for change in changes(after, FIRST)][-2:] == ["set removed", "CA removed"]
