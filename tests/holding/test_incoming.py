"""What becomes of an envelope whose holder is genuine (AMDP-18, AMDP-22): every decision, by a table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from outrider.config.amdp_schema import AmdpIncoming
from outrider.holding.incoming.deciding import (
    MOST_DECISIONS,
    Decider,
    Fate,
    IncomingRules,
    Standing,
    decide,
    is_listed,
    is_mass_mail,
)
from outrider.holding.subscriptions.wishes import Standing as Wish
from outrider.model.address import Domain, parse_address
from outrider.model.facts import Provenance
from outrider.protocols.amdp.digest import Digest, digest_of
from outrider.protocols.amdp.envelope import HeldEnvelope
from outrider.protocols.amdp.mail_class import parse_class, parse_pattern
from outrider.protocols.amdp.report import AcceptClass, HourRange, PolicyReport

NIGHT = 1_800_000_000.0 - 1_800_000_000 % 86_400 + 3 * 3600
ENVELOPE = HeldEnvelope(
    parse_address("ann@alpha.example"),
    parse_address("bob@beta.example"),
    "a" * 26,
    digest_of([b"x" * 1000]),
    parse_class("Direct::Personal::letter"),
    int(NIGHT),
    int(NIGHT),
    int(NIGHT) + 1000,
    Domain("mhf-1.alpha.example"),
)
BULK = replace(ENVELOPE, mail_class=parse_class("Agent::Bulk::news"))
REPORT = PolicyReport("beta.example", max_mail_size=5000)
RULES = IncomingRules(
    AmdpIncoming(allowed=("friend.example",), denied=("foe.example", ".foe.example")),
    (parse_pattern("*::Personal::*"),),
    "claimed",
    asks_services=True,
    exempt=("free.example",),
    largest=100_000,
)


@dataclass(frozen=True)
class Said:
    """What services say."""

    covered: bool
    service: str = "class.example"
    answered: bool = True

    def covers(self, mail_class: str) -> bool:
        return self.covered


def of(domain: str, envelope: HeldEnvelope = ENVELOPE) -> HeldEnvelope:
    return replace(envelope, sender=parse_address(f"ann@{domain}"))


@pytest.mark.covers("AMDP-22")
@pytest.mark.parametrize(
    ("envelope", "fate"),
    [
        (ENVELOPE, Fate.FETCH),
        (BULK, Fate.HAND_OVER),
        (of("friend.example", BULK), Fate.FETCH),
        (of("foe.example"), Fate.DROP),
        (of("deep.foe.example"), Fate.DROP),
        (replace(ENVELOPE, digest=digest_of([b"x" * 5001])), Fate.HAND_OVER),
        (of("friend.example", replace(BULK, digest=digest_of([b"x" * 5001]))), Fate.HAND_OVER),
        (replace(ENVELOPE, digest=digest_of([b"x" * 5000])), Fate.FETCH),
    ],
)
def test_three_classes_of_senders(envelope: HeldEnvelope, fate: Fate) -> None:
    assert decide(RULES, REPORT, envelope, None, NIGHT).fate is fate


@pytest.mark.covers("AMDP-18", "ITP-3")
@pytest.mark.parametrize(
    ("unvouched", "said", "fate"),
    [
        ("claimed", Said(covered=True), Fate.FETCH),
        ("claimed", Said(covered=False), Fate.FETCH),
        ("hold", Said(covered=True), Fate.FETCH),
        ("hold", Said(covered=False), Fate.HAND_OVER),
        ("hold", Said(covered=False, answered=False), Fate.HAND_OVER),
        ("refuse", Said(covered=True), Fate.FETCH),
        ("refuse", Said(covered=False), Fate.DROP),
        ("refuse", Said(covered=False, answered=False), Fate.HAND_OVER),
        ("refuse", None, Fate.HAND_OVER),
    ],
)
def test_a_class_is_worth_what_somebody_vouches_for(unvouched: str, said: Said | None, fate: Fate) -> None:
    """A service that does not answer never refuses mail by itself."""
    decision = decide(replace(RULES, unvouched=unvouched), REPORT, ENVELOPE, said, NIGHT)
    assert decision.fate is fate
    vouched = said is not None and said.covered
    assert decision.class_warrant is (Provenance.VOUCHED if vouched else Provenance.CLAIMED)
    assert decision.class_service == ("class.example" if vouched else "")
    assert decision.lacks_voucher is (fate is Fate.DROP)


@pytest.mark.covers("AMDP-18", "AMDP-20", "ITP-3")
@pytest.mark.parametrize(
    ("said", "price"),
    [
        (Said(covered=True), 0),
        (Said(covered=False), 5),
        (Said(covered=False, answered=False), 0),
        (None, 0),
    ],
)
def test_a_claimed_class_is_as_dear_as_the_dearest(said: Said | None, price: int) -> None:
    """Not so while nobody can be asked: that never stands in the way of mail."""
    report = replace(
        REPORT,
        pay=True,
        accept=(AcceptClass(parse_pattern("*")), AcceptClass(parse_pattern("*::Bulk::*"), 5)),
        unvouched_price=5,
    )
    paid = decide(RULES, report, replace(ENVELOPE, postage="p"), said, NIGHT)
    assert (paid.fate, paid.price) == (Fate.FETCH, price)
    unpaid = decide(RULES, report, ENVELOPE, said, NIGHT)
    assert (unpaid.fate is Fate.DROP, unpaid.breaks_policy) == (bool(price), bool(price))
    assert decide(RULES, report, of("friend.example"), said, NIGHT).price == 0


@pytest.mark.covers("AMDP-18")
def test_an_allowed_sender_needs_nobody_to_vouch() -> None:
    rules = replace(RULES, unvouched="refuse")
    assert decide(rules, REPORT, of("friend.example"), Said(covered=False), NIGHT).fate is Fate.FETCH


@pytest.mark.covers("AMDP-16", "AMDP-20")
def test_the_published_policy_binds_strangers() -> None:
    report = replace(
        REPORT,
        pay=True,
        accept=(AcceptClass(parse_pattern("*"), 5),),
        unsolicited_hours=(HourRange(8 * 60, 18 * 60),),
    )
    unpaid = decide(RULES, report, ENVELOPE, None, NIGHT)
    assert (unpaid.fate, unpaid.breaks_policy) == (Fate.DROP, True)
    paid = decide(RULES, report, replace(ENVELOPE, postage="p"), None, NIGHT)
    assert (paid.fate, paid.price) == (Fate.FETCH, 5)
    exempt = decide(RULES, report, of("free.example"), None, NIGHT)
    assert (exempt.fate, exempt.price) == (Fate.FETCH, 0)
    by_night = decide(RULES, report, of("free.example", BULK), None, NIGHT)
    assert (by_night.fate, by_night.breaks_policy) == (Fate.DROP, True)
    by_day = decide(RULES, report, of("free.example", BULK), None, NIGHT + 6 * 3600)
    assert by_day.fate is Fate.HAND_OVER
    friend = decide(RULES, report, of("friend.example", BULK), None, NIGHT)
    assert (friend.fate, friend.price) == (Fate.FETCH, 0)


def test_what_a_list_of_domains_means() -> None:
    assert is_listed("A.example", ("a.example",))
    assert not is_listed("b.a.example", ("a.example",))
    assert is_listed("b.a.example", (".a.example",))
    assert not is_listed("a.example", (".a.example",))
    assert not is_listed("xa.example", (".a.example",))
    assert RULES.standing("friend.example") is Standing.ALLOWED


@pytest.mark.covers("AMDP-22")
def test_which_mail_comes_to_many_at_once() -> None:
    assert is_mass_mail(BULK)
    assert is_mass_mail(replace(ENVELOPE, mail_class=parse_class("Agent::Novel::thing")))
    assert not is_mass_mail(ENVELOPE)


@pytest.mark.covers("AMDP-10", "AMDP-22")
def test_what_is_remembered_of_one_envelope_is_never_said_of_another() -> None:
    priced = replace(REPORT, accept=(AcceptClass(parse_pattern("*::*"), 5),), pay=True)
    hours = replace(REPORT, unsolicited_hours=(HourRange(8 * 60, 18 * 60),))
    others = [
        replace(
            ENVELOPE,
            sender=parse_address(f"ann@{domain}"),
            mail_class=mail_class,
            postage=postage,
            digest=size,
        )
        for domain in ("alpha.example", "friend.example", "foe.example", "free.example")
        for mail_class in (ENVELOPE.mail_class, BULK.mail_class)
        for postage in ("", "receipt")
        for size in (digest_of([b"x"]), digest_of([b"x" * 6000]))
    ]
    for report in (REPORT, priced, hours):
        decider = Decider(RULES, report)
        for moment in (NIGHT, NIGHT + 6 * 3600, NIGHT):
            for one in others:
                expected = decide(RULES, report, one, None, moment)
                assert decider.decide(one, None, moment, None) == expected
        for wish in Wish:
            assert decider.decide(ENVELOPE, None, NIGHT, wish) == decide(
                RULES, report, ENVELOPE, None, NIGHT, wish
            )


@pytest.mark.covers("AMDP-12")
def test_little_is_remembered() -> None:
    decider = Decider(RULES, REPORT)
    for number in range(MOST_DECISIONS + 2):
        decider.decide(replace(ENVELOPE, digest=Digest(b"d" * 32, number)), None, NIGHT, None)
    assert len(decider._known) <= MOST_DECISIONS
