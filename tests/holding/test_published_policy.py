"""What our domains publish and what is done with the mail that comes are the same (AMDP-16, ITP-4c)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.config.amdp_schema import Amdp, AmdpPolicy, AmdpPostage
from outrider.config.schema import Policy, Rule
from outrider.holding.policies.published_policy import CLASS_FACT, denied_by_rules, published_report
from outrider.model.address import Domain
from outrider.model.facts import Fact, Facts, Provenance
from outrider.model.verdict import Action
from outrider.policy.policy import NO_POLICY, CompiledPolicy, compile_policy
from outrider.policy.rules import STAGES, PolicyError
from outrider.protocols.amdp.mail_class import Agent, MailType, parse_class
from outrider.protocols.amdp.report import PolicyReport, write_report
from outrider.protocols.amdp.report_reader import parse_report
from outrider.protocols.amdp.terms import Asked, Refused, Taken, judge
from outrider.routing.ways import parse_way

ALPHA = Domain("alpha.example")
CLASSES = [
    parse_class("::".join((agent.value, kind.value, *rest)))
    for agent, kind in itertools.product(Agent, MailType)
    if agent.value and kind.value
    for rest in (("Newsletter",), ("Club", "Minutes"))
]
"""Every agent and mail type, with a message type of one part and of two."""


def report(
    policy: CompiledPolicy = NO_POLICY, postage: AmdpPostage | None = None, **told: object
) -> PolicyReport:
    """The report for [amdp.policy] with these settings."""
    amdp = Amdp(policy=AmdpPolicy(**told), postage=postage or AmdpPostage())  # type: ignore[arg-type]
    return published_report(ALPHA, amdp, policy)


def rules(*entries: dict[str, object]) -> CompiledPolicy:
    written = [Rule(name=f"r{number}", **one) for number, one in enumerate(entries)]  # type: ignore[arg-type]
    return compile_policy(Policy(rules=tuple(written)), parse_way)


@pytest.mark.covers("AMDP-16", "ITP-4c")
def test_the_settings_as_they_are_published() -> None:
    made = report(
        postage=AmdpPostage(provider="ledger"),
        max_mail_size=100_000,
        messages_per_minute=60,
        cache_refresh=12,
        amdp_share=90,
        contact="postmaster@alpha.example",
        accept={"*::Personal::*": "", "*::Bulk::*": "0.001"},
        deny=("Public::*",),
        unsolicited_hours=("2200-0600",),
    )
    text = write_report(made)
    for line in (
        "DOMAIN alpha.example",
        "MIS amdp-mis.alpha.example",
        "MAX-MAIL-SIZE 100000",
        "MSG-PER-MIN 60",
        "CACHE-REFRESH 12",
        "DELIVERY-PRIORITY [90AMDP] [10SMTP]",
        "ACCEPT-CLASS *::Bulk::* 0.001",
        "DENY-CLASS Public::*",
        "UNSOLICITED_MAIL_HOURS 2200-0600",
        "PAY YES",
        "PAY-METHOD AMDP-LEDGER",
        "PAY-ACCT amdp-mis.alpha.example:443",
        "PAY-CURRENCY USD",
    ):
        assert f"{line}\n" in text
    assert parse_report(text.encode(), "alpha.example") == made


@pytest.mark.covers("AMDP-16")
@pytest.mark.parametrize(
    ("told", "key"),
    [
        ({"deny": ("Bulk",)}, "amdp.policy.deny[0]"),
        ({"accept": {"a b::*": ""}}, "amdp.policy.accept"),
        ({"accept": {"*": "0.0001"}}, "amdp.policy.accept"),
        ({"accept": {"*": "0.001"}}, "amdp.policy.accept"),
        ({"unsolicited_hours": ("25-26",)}, "amdp.policy.unsolicited_hours"),
        ({"super_auth": "not a name"}, "amdp.policy.super_auth"),
        ({"contact": "a\nDENY-CLASS *"}, "amdp.policy.contact"),
        ({"accept_reject": "x" * 501}, "amdp.policy.accept_reject"),
        ({"subscribe_synch": "https://a.example"}, "amdp.policy.subscribe_synch"),
        ({"subscribe_agent": "a b"}, "amdp.policy.subscribe_agent"),
    ],
    ids=["class", "pattern", "price", "no provider", "hours", "name", "line end", "long", "URL", "host"],
)
def test_what_cannot_be_published_is_told_at_its_key(told: dict[str, object], key: str) -> None:
    with pytest.raises(ValueError, match=r"^amdp\.") as failed:
        report(**told)
    assert str(failed.value).partition(": ")[0] == key


@pytest.mark.covers("ITP-4c")
def test_a_rule_that_refuses_a_class_is_published() -> None:
    policy = rules(
        {"action": "tag", "value": "x", "when": {"sender": "@a.example"}},
        {"action": "refuse", "when": {CLASS_FACT: ["*::Bulk::*", "public::commerce::*"]}},
    )
    made = report(policy, deny=("Agent::*",))
    assert [str(one) for one in made.deny] == ["Agent::*", "*::Bulk::*", "Public::Commerce::*"]


@pytest.mark.covers("ITP-4c")
@pytest.mark.parametrize(
    "entries",
    [
        ({"action": "accept", "when": {"sender": "@a.example"}}, {"action": "refuse"}),
        ({"action": "refuse", "unless": {"sender": "@a.example"}},),
        ({"action": "refuse", "and": {"client.address": "192.0.2.1"}},),
        ({"action": "refuse", "wanted": {"matches": "Bulk"}},),
        ({"action": "refuse", "wanted": "*Bulk*"},),
        ({"action": "refuse", "wanted": {"is": "*::Bulk::*", "provenance": "vouched"}},),
        ({"action": "defer"},),
    ],
    ids=["admitted before", "exception", "two conditions", "expression", "no pattern", "worth", "defer"],
)
def test_a_rule_that_may_take_some_is_not(entries: tuple[dict[str, object], ...]) -> None:
    *before, last = entries
    wanted = last.get("wanted", "*::Bulk::*")
    when = {CLASS_FACT: wanted, **last.get("and", {})}  # type: ignore[dict-item]
    rule = {key: value for key, value in last.items() if key in ("action", "unless")} | {"when": when}
    assert denied_by_rules(rules(*before, rule)) == ()


_patterns = st.sampled_from(
    [
        "*",
        "*::Bulk::*",
        "Public::*",
        "Direct::Business::*",
        "*::GOV::*",
        "*::*::Newsletter",
        "agent::edu::*",
        "*k*",
    ]
)
_classes = st.one_of(
    _patterns, st.lists(_patterns, min_size=1, max_size=3), st.builds(lambda: {"present": True})
)
_conditions = st.fixed_dictionaries(
    {}, optional={CLASS_FACT: _classes, "recipient.domain": st.sampled_from(["alpha.example", "b.example"])}
)
_rules = st.lists(
    st.tuples(
        st.sampled_from(["accept", "refuse", "refuse", "defer", "hold", "tag"]), _conditions, _conditions
    ),
    max_size=5,
)


def _compiled(drawn: list[tuple[str, dict[str, object], dict[str, object]]]) -> CompiledPolicy | None:
    try:
        return rules(
            *(
                {"action": action, "when": when, "unless": unless, "value": "t" if action == "tag" else ""}
                for action, when, unless in drawn
            )
        )
    except PolicyError:
        return None


def _refused(policy: CompiledPolicy, facts: Facts) -> bool:
    return any(policy.evaluate(stage, facts).action is Action.REFUSE for stage in STAGES)


@pytest.mark.covers("ITP-4c", "AMDP-17")
@settings(max_examples=150, deadline=None)
@given(
    _rules.map(_compiled).filter(lambda policy: policy is not None),
    st.lists(st.sampled_from(["*", "*::Bulk::*", "Public::*"]), max_size=2, unique=True),
    st.sampled_from(["alpha.example", "b.example"]),
)
def test_announcement_and_verdict_agree(policy: CompiledPolicy, deny: list[str], recipient: str) -> None:
    """For every class: what the published text denies is refused here, and what a rule refuses for the class
    alone is denied by the published text."""
    made = report(policy, deny=tuple(deny))
    read = parse_report(write_report(made).encode(), ALPHA)
    by_settings = report(deny=tuple(deny))
    for mail_class in CLASSES:
        asked = Asked(mail_class, 1000, 0.0)
        told, ours, settled = (judge(one, asked) for one in (read, made, by_settings))
        assert type(told) is type(ours)
        facts = Facts(
            [
                Fact(CLASS_FACT, str(mail_class), Provenance.CLAIMED),
                Fact("recipient.domain", recipient, Provenance.PROVEN),
            ]
        )
        if isinstance(told, Refused) and isinstance(settled, Taken):
            assert _refused(policy, facts)


@pytest.mark.covers("ITP-4c")
@settings(max_examples=100, deadline=None)
@given(st.lists(_patterns, min_size=1, max_size=4))
def test_every_sure_refusal_of_a_pattern_is_announced(patterns: list[str]) -> None:
    policy = rules(*({"action": "refuse", "when": {CLASS_FACT: pattern}} for pattern in patterns))
    made = report(policy)
    for mail_class in CLASSES:
        facts = Facts([Fact(CLASS_FACT, str(mail_class), Provenance.CLAIMED)])
        announced = isinstance(judge(made, Asked(mail_class, 1, 0.0)), Refused)
        assert not announced or _refused(policy, facts)
        if "*k*" not in patterns and "*::GOV::*" not in patterns:
            # Where `*` reads alike as text and as part: a rule's `*::*::Newsletter` reaches further as text.
            by_parts = len(mail_class.parts) == 3
            assert announced or not _refused(policy, facts) or not by_parts
