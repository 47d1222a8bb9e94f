"""What EHLO announces of Mail Policy Codes and what is enforced agree, for every code and any rules."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.config.schema import Policy, Rule
from outrider.model.facts import Fact, Facts, Provenance
from outrider.model.mpc import ABOUT_POLICY, LEGAL, Mpc, parse_mpc
from outrider.model.verdict import Action, Stage
from outrider.policy.fact_names import LOOKUP_FAILED, TRUST_DOUBT, TRUST_SCORE_LEAST
from outrider.policy.policy import CompiledPolicy, compile_policy
from outrider.policy.rules import PolicyError
from outrider.protocols.amtp.declarations import evaluate, parse_declarations
from outrider.routing.ways import parse_way

DOMAINS = ["a.example", "b.example"]
_codes = st.sampled_from(
    ["com/*", "net/*", "*/optout", "*/individual", "*/*", "com/optin", "net/autoresponse", "mpc/individual"]
)
_code_condition = st.one_of(
    _codes,
    st.lists(_codes, min_size=1, max_size=3),
    st.builds(
        lambda code, worth: {"is": code, "provenance": worth}, _codes, st.sampled_from(["proven", "claimed"])
    ),
    st.builds(lambda present: {"present": present}, st.booleans()),
)
_domain_condition = st.one_of(
    st.sampled_from(DOMAINS), st.builds(lambda present: {"present": present}, st.booleans())
)
SETTLED = {
    "mpc": _code_condition,
    "host": _domain_condition,
    "amtp.connection": st.sampled_from(["public", "private"]),
    "login": st.builds(lambda present: {"present": present}, st.booleans()),
    "partner": st.builds(lambda name: {"is": name, "provenance": "proven"}, st.sampled_from(["p", "q"])),
}
UNSETTLED = {
    "sender.domain": _domain_condition,
    "recipient.domain": _domain_condition,
    "client.ptr": _domain_condition,
    "partner": st.sampled_from(["p", "q"]),
    "trust.score": st.sampled_from([{"min": 1}, {"max": 0}]),
    "trust.vouched": st.builds(lambda present: {"present": present}, st.booleans()),
    "sender.domain.takes-mail": st.booleans(),
}
VALUES = {"tag": "label", "route": "discard:"}


def tables(conditions: dict[str, st.SearchStrategy[object]]) -> st.SearchStrategy[dict[str, object]]:
    """`when` or `unless`; codes are drawn more often than the rest."""
    names = st.lists(st.sampled_from(["mpc", "mpc", *conditions]), unique=True, max_size=3)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: conditions[name] for name in chosen}))


def policies(conditions: dict[str, st.SearchStrategy[object]]) -> st.SearchStrategy[CompiledPolicy]:
    """Up to six rules that compile."""
    one = st.tuples(
        st.sampled_from(["accept", "refuse", "refuse", "refuse", "defer", "hold", "tag", "route"]),
        st.sampled_from([None, None, "recipient", "headers"]),
        tables(conditions),
        tables(conditions),
    )
    return st.lists(one, min_size=1, max_size=6).map(_compiled)


def _compiled(drawn: list[tuple[str, str | None, dict[str, object], dict[str, object]]]) -> CompiledPolicy:
    rules = []
    for number, (action, stage, when, unless) in enumerate(drawn):
        rule = Rule(
            name=f"r{number}",
            action=action,  # type: ignore[arg-type]
            stage=stage,  # type: ignore[arg-type]
            when=when,
            unless=unless,
            value=VALUES.get(action, ""),
        )
        try:
            compile_policy(Policy(rules=(rule,)), parse_way)
        except PolicyError:
            continue
        rules.append(rule)
    return compile_policy(Policy(rules=tuple(rules)), parse_way)


@st.composite
def sessions(draw: st.DrawFn) -> Facts:
    """What may be known when EHLO is answered."""
    facts = Facts()
    for name, values in (
        ("host", DOMAINS),
        ("amtp.connection", ["public", "private"]),
        ("login", ["ann"]),
        ("partner", ["p", "q"]),
    ):
        if draw(st.booleans()):
            facts.prove(name, draw(st.sampled_from(values)), "test")
    if draw(st.booleans()):
        facts.prove("client.ptr", draw(st.sampled_from([("a.example",), ()])), "test")
    return facts


@st.composite
def messages(draw: st.DrawFn, session: Facts) -> Facts:
    """What MAIL, a look-up and a list may add; `mpc` is left to the test."""
    facts = Facts(parent=session)
    if draw(st.booleans()):
        facts.claim("sender.domain", draw(st.sampled_from([*DOMAINS, "c.example"])))
    if draw(st.booleans()):
        facts.claim("partner", draw(st.sampled_from(["p", "q"])))
    failed = []
    if session.get("client.ptr") is None:
        if draw(st.booleans()):
            failed.append("client.ptr")
        else:
            facts.prove("client.ptr", draw(st.sampled_from([("a.example",), ("b.example",), ()])), "test")
    if draw(st.booleans()):
        failed.append("sender.domain.takes-mail")
    else:
        facts.prove("sender.domain.takes-mail", draw(st.booleans()), "test")
    if failed:
        facts.prove(LOOKUP_FAILED, tuple(failed), "time-out")
    score = draw(st.integers(-1, 2))
    facts.add(Fact("trust.score", score, Provenance.VOUCHED))
    facts.add(Fact("trust.vouched", draw(st.sampled_from([(), ("friends",)])), Provenance.VOUCHED))
    if draw(st.booleans()):
        facts.prove(TRUST_DOUBT, ("others",), "no answer")
        facts.prove(TRUST_SCORE_LEAST, score - 1, "")
    return facts


def with_code(message: Facts, code: Mpc, provenance: Provenance = Provenance.CLAIMED) -> Facts:
    return Facts([Fact("mpc", str(code), provenance)], parent=message)


def to_recipient(message: Facts, domain: str) -> Facts:
    return Facts([Fact("recipient.domain", domain, Provenance.CLAIMED)], parent=message)


def refused(policy: CompiledPolicy, message: Facts, recipients: Iterable[str]) -> bool:
    """Whether the message ends in a refusal at MAIL or of every recipient."""
    if policy.evaluate(Stage.SENDER, message).action is Action.REFUSE:
        return True
    verdicts = [policy.evaluate(Stage.RECIPIENT, to_recipient(message, one)) for one in recipients]
    return all(verdict.action is Action.REFUSE for verdict in verdicts)


def admitted(policy: CompiledPolicy, message: Facts, recipients: Iterable[str]) -> bool:
    """Whether MAIL and at least one recipient are taken."""
    return policy.evaluate(Stage.SENDER, message).admits and any(
        policy.evaluate(Stage.RECIPIENT, to_recipient(message, one)).admits for one in recipients
    )


def denied(policy: CompiledPolicy, session: Facts) -> set[Mpc]:
    """The codes that a client reads as denied in what is announced."""
    lines = [f"MPC {declaration}" for declaration in policy.announced(session)]
    declarations = parse_declarations(lines)
    return {code for code in LEGAL if not evaluate(declarations, code).allowed}


@pytest.mark.covers("ITP-4b")
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_announced_as_denied_is_not_taken_whatever_the_message(data: st.DataObject) -> None:
    policy = data.draw(policies({**SETTLED, **UNSETTLED}))
    session = data.draw(sessions())
    announced = denied(policy, session)
    assert ABOUT_POLICY not in announced
    if not announced:
        return
    for _ in range(3):
        message = data.draw(messages(session))
        provenance = data.draw(st.sampled_from([Provenance.CLAIMED, Provenance.PROVEN]))
        recipients = data.draw(st.lists(st.sampled_from([*DOMAINS, "c.example"]), min_size=1, max_size=3))
        decided = not any(rule.action is Action.DEFER for rule in policy.rules)
        decided &= not (message.get(LOOKUP_FAILED) or message.get(TRUST_DOUBT))
        for code in announced:
            about = with_code(message, code, provenance)
            assert not admitted(policy, about, recipients)
            assert refused(policy, about, recipients) or not decided


@pytest.mark.covers("ITP-4b")
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_refused_for_its_code_by_what_ehlo_knows_is_announced(data: st.DataObject) -> None:
    conditions = {name: one for name, one in SETTLED.items() if name != "mpc"} | {
        "mpc": _codes | st.lists(_codes, min_size=1, max_size=3)
    }
    policy = data.draw(policies(conditions))
    session = data.draw(sessions())
    message = data.draw(messages(session))
    recipients = ["a.example", "c.example"]
    announced = denied(policy, session)
    for code in LEGAL:
        about = with_code(message, code)
        if refused(policy, with_code(message, ABOUT_POLICY), recipients):
            assert not admitted(policy, about, recipients)  # and not for its code
            assert announced == set()
        else:
            assert (code in announced) is refused(policy, about, recipients)


@pytest.mark.covers("AMTP-9")
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mail_about_mail_policy_is_never_refused_for_its_code(data: st.DataObject) -> None:
    policy = data.draw(policies({**SETTLED, **UNSETTLED}))
    message = data.draw(messages(data.draw(sessions())))
    for stage in (Stage.SENDER, Stage.RECIPIENT):
        facts = to_recipient(message, "a.example")
        if policy.evaluate(stage, with_code(facts, ABOUT_POLICY)).action is Action.REFUSE:
            others = [policy.evaluate(stage, with_code(facts, code)) for code in LEGAL]
            assert not any(other.admits for other in others)


def policy_of(*rules: Rule) -> CompiledPolicy:
    return compile_policy(Policy(rules=rules), parse_way)


def host(name: str, connection: str = "public") -> Facts:
    facts = Facts()
    facts.prove("host", name, "certificate")
    facts.prove("amtp.connection", connection, "certificate")
    return facts


@pytest.mark.covers("ITP-4b", "AMTP-10")
def test_a_list_of_what_is_wanted() -> None:
    policy = policy_of(
        Rule(name="wanted", action="accept", when={"mpc": ["com/optin", "net/individual"]}),
        Rule(name="nothing else", action="refuse", when={"mpc": "*/*"}),
    )
    allowed = {code for code in LEGAL if code not in denied(policy, host("a.example"))}
    assert allowed == {parse_mpc("com/optin"), parse_mpc("net/individual"), ABOUT_POLICY}


@pytest.mark.covers("ITP-4b", "AMTP-11")
def test_what_hangs_on_sender_or_recipient_is_enforced_and_not_announced() -> None:
    policy = policy_of(
        Rule(
            name="beatles",
            action="accept",
            when={"mpc": "com/optin", "recipient": "ringo@beatles.example.com"},
        ),
        Rule(name="no ads", action="refuse", stage="recipient", when={"mpc": "com/*"}),
        Rule(name="liar", action="refuse", when={"mpc": "gov/*", "sender.domain": "shop.example"}),
    )
    announced = denied(policy, host("a.example"))
    assert parse_mpc("com/optin") not in announced
    assert parse_mpc("gov/optin") not in announced
    com = with_code(host("a.example"), parse_mpc("com/optin"))
    for name, admits in (("ringo", True), ("john", False), ("paul", False), ("george", False)):
        facts = Facts(parent=com)
        facts.claim("recipient", f"{name}@beatles.example.com")
        verdict = policy.evaluate(Stage.RECIPIENT, facts)
        assert verdict.admits is admits
        if verdict.reply is not None:
            assert str(verdict.reply) == "550 5.7.1 MPC policy violation (rule no ads)"


@pytest.mark.covers("ITP-4b", "AMTP-20")
def test_each_identity_has_its_own_list() -> None:
    policy = policy_of(
        Rule(name="bank", action="accept", when={"host": "bank.example"}),
        Rule(name="private", action="refuse", when={"amtp.connection": "private", "mpc": "*/optout"}),
        Rule(name="public", action="refuse", when={"mpc": ["com/*", "*/optout"]}, unless={"login": "ann"}),
    )
    assert policy.announced(host("bank.example")) == ()
    assert len(denied(policy, host("x.example", "private"))) == 11
    logged_in = host("x.example", "private")
    logged_in.prove("login", "ann", "AUTH")
    assert denied(policy, logged_in) == {code for code in LEGAL if code.mail_class.value == "optout"}
    assert len(denied(policy, host("x.example"))) == 11
    assert len(policy._announced) == 4


@pytest.mark.covers("ITP-4b")
def test_a_refusal_that_would_meet_every_code_is_not_one_for_its_code() -> None:
    policy = policy_of(
        Rule(name="enemy", action="refuse", when={"host": "enemy.example"}, stage="sender"),
        Rule(name="no ads", action="refuse", when={"mpc": "com/*"}),
    )
    assert policy.announced(host("enemy.example")) == ()
    assert policy.announced(host("other.example")) == ("DENY=com/*",)


@pytest.mark.covers("ITP-4b")
def test_block_lists_before_the_codes_change_nothing_and_vouch_lists_do() -> None:
    listed = Rule(name="listed", action="refuse", when={"trust.score": {"min": 5}})
    vouched = Rule(name="vouched", action="accept", when={"trust.vouched": "friends"})
    no_ads = Rule(name="no ads", action="refuse", when={"mpc": "com/*"})
    assert policy_of(listed, no_ads).announced(host("a.example")) == ("DENY=com/*",)
    assert policy_of(vouched, no_ads).announced(host("a.example")) == ()
    assert policy_of(no_ads, vouched).announced(host("a.example")) == ("DENY=com/*",)


def test_rules_without_codes_announce_nothing() -> None:
    policy = policy_of(Rule(name="r", action="refuse", when={"sender": "@x.example"}))
    assert policy.announced(host("a.example")) == ()
    assert policy_of(Rule(name="t", action="refuse", when={"mpc": "com/*"})).announced(Facts()) == (
        "DENY=com/*",
    )


@pytest.mark.covers("AMTP-11")
def test_replies_are_the_drafts_words_and_then_the_rule() -> None:
    policy = policy_of(
        Rule(name="plain", action="refuse", when={"mpc": "pol/optout"}),
        Rule(name="why", action="refuse", when={"mpc": "com/optout"}, reason="ask us first"),
        Rule(name="own", action="refuse", when={"mpc": "ngo/*"}, reason="Not here", reply="554 5.7.0"),
        Rule(name="later", action="defer", when={"mpc": "gov/*"}),
    )
    replies = {
        code: str(policy.evaluate(Stage.SENDER, with_code(Facts(), parse_mpc(code))).reply)
        for code in ("pol/optout", "com/optout", "ngo/optin", "gov/optin", "net/individual")
    }
    assert replies == {
        "pol/optout": "550 5.7.1 MPC policy violation (rule plain)",
        "com/optout": "550 5.7.1 MPC policy violation: ask us first (rule why)",
        "ngo/optin": "554 5.7.0 Not here (rule own)",
        "gov/optin": "451 4.7.1 MPC temporary failure, try again later (rule later)",
        "net/individual": "None",
    }


@pytest.mark.covers("AMTP-9")
def test_mail_about_mail_policy_passes_where_only_one_code_is_wanted_but_not_everywhere() -> None:
    policy = policy_of(
        Rule(name="spammer", action="refuse", when={"sender.domain": "spam.example"}),
        Rule(name="friends", action="accept", when={"mpc": "net/individual"}, stage="sender"),
        Rule(name="rest", action="refuse", stage="sender"),
    )
    facts = Facts()
    facts.claim("sender.domain", "a.example")
    assert policy.evaluate(Stage.SENDER, with_code(facts, ABOUT_POLICY)).admits
    assert not policy.evaluate(Stage.SENDER, with_code(facts, parse_mpc("com/optin"))).admits
    facts.claim("sender.domain", "spam.example")
    assert policy.evaluate(Stage.SENDER, with_code(facts, ABOUT_POLICY)).rule == "spammer"
