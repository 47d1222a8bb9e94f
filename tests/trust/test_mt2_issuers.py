"""Lists of issuers hold whatever becomes of a CA: of MT2 hosts that are proven, and that are not (MT2-25)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from outrider.model.facts import Fact, Facts, Provenance
from outrider.reception.interface import Session
from outrider.reception.lookups import _issuers
from outrider.trust.assessment import Assessment, Finding
from outrider.trust.lists import NamedList
from outrider.trust.questions import Answer, Said
from outrider.trust.subjects import Role, Subject, all_subjects


def facts(worth: Provenance, *issuers: str) -> Facts:
    found = Facts()
    found.add(Fact("mt2.issuer", issuers, worth, "issuer of the host's certificate"))
    return found


def issuers_of(found: tuple[Subject, ...]) -> list[tuple[str, bool]]:
    return [(one.name, one.is_proven) for one in found if one.role is Role.ISSUER]


@pytest.mark.covers("MT2-25", "ITP-3")
def test_a_claimed_issuer_is_asked_about_and_not_taken_for_proven() -> None:
    claimed = facts(Provenance.CLAIMED, "bank.example", "ca.example")
    assert issuers_of(all_subjects(claimed, lambda _: "")) == [("bank.example", False), ("ca.example", False)]
    proven = facts(Provenance.PROVEN, "bank.example")
    assert issuers_of(all_subjects(proven, lambda _: "", ("bank.example",))) == [("bank.example", True)]
    many = facts(Provenance.CLAIMED, *(f"d{number}.example" for number in range(10)))
    assert len(issuers_of(all_subjects(many, lambda _: ""))) == 4


@pytest.mark.covers("MT2-25", "ITP-3")
@pytest.mark.parametrize(("kind", "score"), [("block", 5), ("vouch", 0)])
def test_a_claimed_issuer_can_be_blocked_and_not_be_vouched_for(kind: str, score: int) -> None:
    named = _issuer_list(vouches=kind == "vouch")
    [subject] = all_subjects(facts(Provenance.CLAIMED, "bank.example"), lambda _: "")
    assert Assessment((Finding(named, subject, Answer(Said.HIT)),)).score == score
    sure = replace(subject, is_proven=True)
    expected = -5 if kind == "vouch" else 5
    assert Assessment((Finding(named, sure, Answer(Said.HIT)),)).score == expected


def _issuer_list(*, vouches: bool) -> NamedList:
    return NamedList("issuers", "vouch-broker" if vouches else "issuer", "list", 5, (), frozenset(), 1.0)


def _session() -> Session:
    return Session("1", "mt2", ip_address("192.0.2.1"), 1, None, 0, "mt2", "mx.example", 0.0)


@pytest.mark.covers("MT2-25")
def test_a_delegated_cas_certificates_cannot_name_further_issuers() -> None:
    """What counts is what the validation found, not all that the issuerAltName says."""
    session = _session()
    session.facts.prove("tls.client.ca", "delegated", "test")
    session.facts.add(Fact("mt2.issuer", ("bank.example",), Provenance.PROVEN, "test"))
    session.proof_chain = (b"a certificate that names others",)
    assert _issuers(session) == ("bank.example",)
    other = _session()
    other.facts.add(Fact("mt2.issuer", ("bank.example",), Provenance.CLAIMED, "test"))
    assert _issuers(other) == ()
