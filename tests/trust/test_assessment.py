"""Facts made of what lists say: who counts, for how much, with which warrant."""

from __future__ import annotations

import pytest

from outrider.config.schema import Trust, TrustList
from outrider.model.facts import Fact, Facts, Provenance
from outrider.trust.assessment import TRUST_FACTS, Assessment, Finding
from outrider.trust.lists import NamedList, compile_lists
from outrider.trust.questions import Answer, Said
from outrider.trust.subjects import Role, Subject, all_subjects

LISTS = {
    one.name: one
    for one in compile_lists(
        Trust(
            lists={
                "zen": TrustList(kind="dnsbl", source="zen.example", weight=3),
                "dbl": TrustList(kind="rhsbl", source="dbl.example", weight=2),
                "friends": TrustList(kind="vouch-file", source="friends", weight=4),
                "vouch": TrustList(kind="vbr", source="vouch.example", weight=1),
            }
        )
    )
}
CLIENT = Subject(Role.CLIENT, "192.0.2.1", True)
CLAIMED = Subject(Role.DOMAIN, "a.example", False)
PROVEN = Subject(Role.DOMAIN, "a.example", True)


def finding(name: str, subject: Subject, said: Said, detail: str = "") -> Finding:
    return Finding(LISTS[name], subject, Answer(said, detail))


def facts_of(*findings: Finding) -> Facts:
    assessment = Assessment(findings)
    return Facts((*assessment.client_facts(5.0), *assessment.sender_facts(5.0)))


@pytest.mark.covers("ITP-3", "ITP-1")
def test_weights_of_several_lists_make_one_score() -> None:
    facts = facts_of(
        finding("zen", CLIENT, Said.HIT, "127.0.0.2"),
        finding("dbl", CLAIMED, Said.HIT),
        finding("friends", CLIENT, Said.HIT, "192.0.2.0/24"),
    )
    assert facts.value("trust.score") == 3 + 2 - 4
    assert facts.value("trust.listed") == ("zen", "dbl")
    assert facts.value("trust.vouched") == ("friends",)
    assert facts.value("client.listed") == ("zen",)
    assert facts.value("sender.domain.listed") == ("dbl",)
    fact = facts.get("trust.listed")
    assert fact is not None
    assert fact.provenance is Provenance.VOUCHED
    assert fact.how == "zen 127.0.0.2 (client 192.0.2.1), dbl (sender domain a.example)"


@pytest.mark.covers("ITP-3")
def test_a_list_counts_once_however_many_subjects_it_lists() -> None:
    host = Subject(Role.HOST, "mx.a.example", True)
    facts = facts_of(finding("dbl", CLAIMED, Said.HIT), finding("dbl", host, Said.HIT))
    assert facts.value("trust.score") == 2


@pytest.mark.covers("ITP-1", "ITP-3")
def test_nobody_is_vouched_for_by_using_a_good_name() -> None:
    facts = facts_of(finding("friends", CLAIMED, Said.HIT))
    assert (facts.value("trust.score"), facts.value("trust.vouched")) == (0, ())
    fact = facts.get("sender.domain.vouched")
    assert fact is not None
    assert (fact.value, fact.provenance) == (("friends",), Provenance.CLAIMED)
    assert facts.get("sender.domain.vouched", Provenance.VOUCHED) is None
    proven = facts_of(finding("friends", PROVEN, Said.HIT))
    assert proven.value("sender.domain.vouched", Provenance.VOUCHED) == ("friends",)
    assert proven.value("trust.score") == -4


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize("said", [Said.SILENT, Said.REFUSED, Said.LISTS_ALL])
def test_silence_adds_nothing_and_leaves_a_doubt_only_where_a_list_vouches(said: Said) -> None:
    blocked = facts_of(finding("zen", CLIENT, said))
    assert (blocked.value("trust.score"), blocked.value("trust.listed")) == (0, ())
    assert blocked.get("trust.doubt") is None
    vouching = facts_of(finding("zen", CLIENT, Said.HIT), finding("vouch", PROVEN, said))
    assert vouching.value("trust.score") == 3
    assert vouching.value("trust.doubt") == ("vouch",)
    assert vouching.value("trust.score.least") == 2


def test_every_fact_is_made_whatever_lists_there_are() -> None:
    facts = facts_of()
    assert {fact.name for fact in facts} == TRUST_FACTS
    answered = facts_of(finding("friends", CLIENT, Said.MISS))
    assert answered.value("trust.doubt") == ()


def test_the_warrant_is_bounded() -> None:
    many = [finding("dbl", Subject(Role.HOST, f"{'x' * 60}{n}.example", True), Said.HIT) for n in range(9)]
    fact = facts_of(*many).get("trust.listed")
    assert fact is not None
    assert len(fact.how) <= 200


# -- who is asked about ------------------------------------------------------------------------------------


def session(**known: object) -> Facts:
    facts = Facts()
    facts.prove("client.address", "192.0.2.1", "TCP")
    for name, value in known.items():
        facts.prove(name.replace("_", "."), value, "test")  # type: ignore[arg-type]
    facts.claim("sender", "ann@bank.example")
    facts.claim("sender.domain", "bank.example")
    return facts


def proven_domain(facts: Facts) -> bool:
    found = all_subjects(facts, lambda domain: "bank" if domain == "bank.example" else "")
    (domain,) = [one for one in found if one.role is Role.DOMAIN]
    return domain.is_proven


@pytest.mark.covers("ITP-1", "ITP-3")
def test_a_sender_domain_is_proven_by_a_certificate_of_its_own_name_or_as_a_partners() -> None:
    assert not proven_domain(session())
    assert not proven_domain(session(client_ptr=("bank.example",)))
    assert not proven_domain(session(host="mx.bank.example"))
    assert proven_domain(session(host="bank.example"))
    assert proven_domain(session(tls_client_name=("mx.bank.example", "bank.example")))
    assert proven_domain(session(partner="bank"))
    assert not proven_domain(session(partner="other"))
    claimed = session()
    claimed.claim("partner", "bank")
    assert not proven_domain(claimed)


def test_a_host_of_several_partners_speaks_for_each() -> None:
    facts = session(partner="bank")
    facts.prove("partner", "other", "test")
    assert proven_domain(facts)


def test_subjects_are_few_however_many_names_there_are() -> None:
    facts = session(tls_client_name=tuple(f"h{n}.example" for n in range(100)))
    found = all_subjects(facts, lambda _: "", [f"ca{n}.example" for n in range(100)])
    assert [one.role for one in found].count(Role.HOST) == 4
    assert [one.role for one in found].count(Role.ISSUER) == 4


def test_a_null_sender_and_an_address_literal_have_no_domain() -> None:
    facts = Facts([Fact("sender", "<>", Provenance.CLAIMED)])
    assert all_subjects(facts, lambda _: "") == ()
    facts.claim("sender.domain", "[192.0.2.1]")
    assert all_subjects(facts, lambda _: "") == ()


def test_kinds() -> None:
    def vouching(one: NamedList) -> bool:
        return one.vouches

    assert [name for name, one in LISTS.items() if vouching(one)] == ["friends", "vouch"]
