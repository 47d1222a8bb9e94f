"""Rules at their stages: order, verdicts, look-ups that fail, mistakes at load."""

from __future__ import annotations

import pytest

from outrider.config.schema import Policy, Rule
from outrider.model.facts import Fact, Facts, FactValue, Provenance
from outrider.model.verdict import ACCEPTED, Action, Stage
from outrider.policy.fact_names import LOOKUP_FAILED, TRUST_DOUBT, TRUST_SCORE_LEAST
from outrider.policy.lint import admits_on_claims_only
from outrider.policy.policy import CompiledPolicy, compile_policy
from outrider.policy.rules import PolicyError
from outrider.policy.trial import DescriptionError, described_facts, recorded_facts, try_policy
from outrider.routing.ways import parse_way


def policy(*rules: Rule) -> CompiledPolicy:
    return compile_policy(Policy(rules=rules), parse_way)


def facts(**values: FactValue) -> Facts:
    return Facts(
        Fact(name.replace("_", "."), value, Provenance.PROVEN, "test") for name, value in values.items()
    )


REFUSE = Rule(name="bad net", action="refuse", when={"client.address": "192.0.2.0/24"}, reason="Go away")


@pytest.mark.covers("ITP-4a")
def test_a_rule_is_asked_as_early_as_its_facts_allow() -> None:
    compiled = policy(
        REFUSE,
        Rule(name="b", action="refuse", when={"client.name": "x"}),
        Rule(name="c", action="refuse", when={"client.address": "192.0.2.1", "login": "x"}),
        Rule(name="d", action="refuse", when={"recipient": "@x.example"}, unless={"header.x": "y"}),
        Rule(name="e", action="refuse", when={"message.size": 1}),
        Rule(name="f", action="hold", when={"client.address": "192.0.2.1"}),
        Rule(name="g", action="refuse", stage="body", when={"sender.null": True}),
    )
    stages = {rule.name: rule.stages for rule in compiled.rules}
    assert stages == {
        "bad net": (Stage.CONNECT,),
        "b": (Stage.HELLO,),
        "c": (Stage.SENDER,),
        "d": (Stage.HEADERS,),
        "e": (Stage.BODY,),
        "f": (Stage.SENDER,),
        "g": (Stage.BODY,),
    }
    assert compiled.needs(Stage.CONNECT) == {"client.address"}
    assert compiled.needs(Stage.SENDER) == {"client.address", "login"}
    assert compiled.headers_needed == {"x"}


@pytest.mark.covers("ITP-4a", "ITP-5")
def test_a_refusal_names_its_rule_in_the_reply() -> None:
    verdict = policy(REFUSE).evaluate(Stage.CONNECT, facts(client_address="192.0.2.9"))
    assert (verdict.action, verdict.rule, verdict.admits) == (Action.REFUSE, "bad net", False)
    assert verdict.reply is not None
    assert str(verdict.reply) == "554 5.7.1 Go away (rule bad net)"
    assert verdict.reason == verdict.reply.text


@pytest.mark.covers("ITP-4a")
def test_the_first_that_decides_wins_and_tags_go_on() -> None:
    compiled = policy(
        Rule(name="t1", action="tag", when={"sender": "@a.example"}, value="X-Seen: yes"),
        Rule(name="t2", action="tag", when={"sender": "@a.example"}, value="label"),
        Rule(name="ok", action="accept", stage="sender", when={"sender": "ann@a.example"}),
        Rule(name="no", action="refuse", when={"sender": "@a.example"}),
    )
    ann = compiled.evaluate(Stage.SENDER, facts(sender="ann@a.example"))
    assert (ann.action, ann.tags, ann.rule) == (Action.ACCEPT, ("X-Seen: yes", "label"), "t1, t2, ok")
    bob = compiled.evaluate(Stage.SENDER, facts(sender="bob@a.example"))
    assert (bob.action, bob.tags) == (Action.REFUSE, ("X-Seen: yes", "label"))
    assert compiled.evaluate(Stage.SENDER, facts(sender="x@b.example")) is ACCEPTED
    assert compiled.evaluate(Stage.CONNECT, facts()) is ACCEPTED


@pytest.mark.covers("ITP-4a")
def test_accept_protects_at_later_stages_too() -> None:
    compiled = policy(
        Rule(name="friend", action="accept", when={"client.address": "192.0.2.1"}),
        Rule(name="no", action="refuse", when={"header.subject": {"contains": "x"}}),
    )
    friend, other = facts(client_address="192.0.2.1"), facts(client_address="192.0.2.2")
    for one in (friend, other):
        one.claim("header.subject", ("axb",))
    assert compiled.evaluate(Stage.HEADERS, friend).action is Action.ACCEPT
    assert compiled.evaluate(Stage.HEADERS, other).action is Action.REFUSE


@pytest.mark.covers("ITP-4a")
def test_unless_needs_all_its_conditions() -> None:
    compiled = policy(
        Rule(
            name="r",
            action="defer",
            when={"sender": "@a.example"},
            unless={"login": "ann", "tls.version": "TLSv1.3"},
        )
    )
    base: dict[str, FactValue] = {"sender": "x@a.example"}
    assert compiled.evaluate(Stage.SENDER, facts(**base)).action is Action.DEFER
    assert compiled.evaluate(Stage.SENDER, facts(**base, login="ann")).action is Action.DEFER
    assert compiled.evaluate(Stage.SENDER, facts(**base, login="ann", tls_version="TLSv1.3")) is ACCEPTED


@pytest.mark.covers("ITP-4a")
def test_hold_and_route() -> None:
    compiled = policy(
        Rule(name="h", action="hold", when={"recipient": "boss@a.example"}),
        Rule(name="r", action="route", when={"recipient.domain": "c.example"}, value="smtp:[192.0.2.1]:26"),
    )
    held = compiled.evaluate(Stage.RECIPIENT, facts(recipient="boss@a.example"))
    assert (held.action, held.reason) == (Action.HOLD, "Held by local policy (rule h)")
    routed = compiled.evaluate(Stage.RECIPIENT, facts(recipient_domain="c.example"))
    assert (routed.action, routed.route) == (Action.ROUTE, "smtp:[192.0.2.1]:26")


@pytest.mark.covers("SEC-154", "ITP-4a")
@pytest.mark.parametrize(
    "rules",
    [
        (Rule(name="r", action="refuse", unless={"client.ptr": {"present": True}}),),
        (Rule(name="r", action="refuse", when={"client.ptr": "*.evil.example"}),),
        (
            Rule(name="a", action="accept", when={"client.ptr": "*.good.example"}),
            Rule(name="r", action="refuse", when={"client.address": "192.0.2.0/24"}),
        ),
    ],
)
def test_nothing_permanent_is_built_on_a_failed_lookup(rules: tuple[Rule, ...]) -> None:
    known = facts(client_address="192.0.2.1")
    known.prove(LOOKUP_FAILED, ("client.ptr",), "time-out")
    verdict = policy(*rules).evaluate(Stage.CONNECT, known)
    assert verdict.action is Action.DEFER
    assert verdict.reply is not None
    assert (verdict.reply.code, verdict.reply.status) == (421, "4.4.3")
    assert "client.ptr" in verdict.reply.text


@pytest.mark.covers("SEC-154")
def test_a_failed_lookup_that_changes_nothing_is_ignored() -> None:
    compiled = policy(
        Rule(
            name="r",
            action="refuse",
            when={"client.ptr": "*.evil.example", "client.address": "198.51.100.0/24"},
        )
    )
    known = facts(client_address="192.0.2.1")
    known.prove(LOOKUP_FAILED, ("client.ptr",), "time-out")
    assert compiled.evaluate(Stage.CONNECT, known) is ACCEPTED


@pytest.mark.covers("SEC-154")
@pytest.mark.parametrize(
    ("other", "action"), [("inside", Action.REFUSE), ("outside", Action.DEFER), ("exempt", Action.REFUSE)]
)
def test_a_failed_look_up_in_an_exemption_matters_only_where_the_rest_of_it_holds(
    other: str, action: Action
) -> None:
    unless: dict[str, object] = {"client.ptr": "*.friend.example", "login": {"present": True}}
    compiled = policy(Rule(name="r", action="refuse", when={"sender.null": False}, unless=unless))
    known = facts(sender_null=False)
    if other == "outside":
        known.prove("login", "ann", "AUTH")
    known.prove(LOOKUP_FAILED, ("client.ptr",) if other != "exempt" else ("other",), "time-out")
    assert compiled.evaluate(Stage.SENDER, known).action is action


@pytest.mark.covers("SEC-154")
def test_what_a_tag_hangs_on_delays_no_refusal_below_it() -> None:
    compiled = policy(
        Rule(name="t", action="tag", when={"client.ptr": "*.x.example"}, stage="sender", value="label"),
        Rule(name="r", action="refuse", when={"sender.domain": "bad.example"}),
    )
    known = facts(sender_domain="bad.example")
    known.prove(LOOKUP_FAILED, ("client.ptr",), "time-out")
    assert compiled.evaluate(Stage.SENDER, known).action is Action.REFUSE


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize(
    ("score", "least", "action"),
    [(9, 9, Action.REFUSE), (9, 5, Action.REFUSE), (5, 4, Action.DEFER), (4, 0, Action.ACCEPT)],
)
def test_a_refusal_that_a_silent_vouch_list_might_have_prevented_is_deferred(
    score: int, least: int, action: Action
) -> None:
    compiled = policy(Rule(name="r", action="refuse", when={"trust.score": {"min": 5}}))
    known = facts(trust_score=score)
    known.prove(TRUST_DOUBT, ("friends",), "no answer")
    known.prove(TRUST_SCORE_LEAST, least, "if they had vouched")
    verdict = compiled.evaluate(Stage.SENDER, known)
    assert verdict.action is action
    if action is Action.DEFER:
        assert verdict.reply is not None
        assert (verdict.reply.code, verdict.reply.status) == (451, "4.4.3")
        assert "friends" in verdict.reason


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize("fact", ["client.vouched", "sender.domain.vouched", "trust.vouched"])
def test_nobody_is_refused_for_want_of_a_word_that_could_not_be_had(fact: str) -> None:
    compiled = policy(Rule(name="r", action="refuse", when={"sender.null": False}, unless={fact: "friends"}))
    known = facts(sender_null=False)
    known.add(Fact(fact, (), Provenance.VOUCHED))
    known.prove(TRUST_DOUBT, (), "all answered")
    assert compiled.evaluate(Stage.SENDER, known).action is Action.REFUSE
    known.prove(TRUST_DOUBT, ("friends",), "no answer")
    assert compiled.evaluate(Stage.SENDER, known).action is Action.DEFER


@pytest.mark.covers("ITP-3")
def test_who_is_admitted_by_a_vouch_list_is_not_refused_while_it_is_silent() -> None:
    compiled = policy(
        Rule(name="friends", action="accept", when={"trust.vouched": "friends"}),
        Rule(name="others", action="refuse", when={"sender.null": False}),
    )
    known = facts(sender_null=False, trust_vouched=())
    assert compiled.evaluate(Stage.SENDER, known).action is Action.REFUSE
    known.prove(TRUST_DOUBT, ("other",), "no answer")
    assert compiled.evaluate(Stage.SENDER, known).action is Action.REFUSE
    known.prove(TRUST_DOUBT, ("friends",), "no answer")
    assert compiled.evaluate(Stage.SENDER, known).action is Action.DEFER


@pytest.mark.covers("ITP-4a")
@pytest.mark.parametrize(
    ("rule", "because"),
    [
        (Rule(name="", action="accept"), "name must have"),
        (Rule(name="a\nb", action="accept"), "name must have"),
        (
            Rule(name="x", action="refuse", when={"clinet": 1}),
            r'policy.rules\[1\] \'x\': when."clinet": there is no',
        ),
        (Rule(name="x", action="refuse", unless={"login": 1}), 'unless."login"'),
        (
            Rule(name="x", action="refuse", stage="hello", when={"login": "a"}),
            "login is not known before 'sender'",
        ),
        (Rule(name="x", action="hold", stage="connect"), "concerns a message"),
        (Rule(name="x", action="tag", value=""), "value must be"),
        (Rule(name="x", action="tag", value="X-A: b\r\nX-C: d"), "value must be"),
        (Rule(name="x", action="tag", value="Received: from me"), "may not write the field Received"),
        (Rule(name="x", action="route"), "must name the way"),
        (Rule(name="x", action="route", value="pigeon:home"), "value"),
        (Rule(name="x", action="accept", value="v"), "accept takes none"),
        (Rule(name="x", action="accept", reply="550"), "reply is for refuse"),
        (Rule(name="x", action="refuse", reply="451 4.7.1"), "reply must be like"),
        (Rule(name="x", action="refuse", reply="550 4.7.1"), "reply must be like"),
        (Rule(name="x", action="refuse", reply="550 5.7.1"), "only 554 and 421"),
        (Rule(name="x", action="refuse", reason="a\nb"), "one line"),
        (Rule(name="x", action="refuse", reason="a" * 201), "one line"),
        (Rule(name="x", action="refuse", when={"mpc": "com/spam"}), "no Mail Policy Code: unknown class"),
        (Rule(name="x", action="refuse", when={"mpc": "mpc/optin"}), "only for mpc/individual"),
        (Rule(name="x", action="refuse", when={"mpc": {"matches": "com"}}), "is a Mail Policy Code"),
        (Rule(name="x", action="refuse", when={"trust.score": 0.5}), "whole number"),
        (
            Rule(name="x", action="accept", when={"trust.vouched": {"is": "a", "provenance": "proven"}}),
            "never better than vouched",
        ),
        (
            Rule(name="x", action="refuse", when={f"header.x{n}": "y" for n in range(101)}),
            "more than 100 conditions",
        ),
    ],
)
def test_mistakes_are_found_at_load_with_rule_and_key(rule: Rule, because: str) -> None:
    with pytest.raises(PolicyError, match=because):
        policy(rule)


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(PolicyError, match="two rules"):
        policy(REFUSE, REFUSE)


@pytest.mark.covers("ITP-1")
def test_the_linter_asks_whether_a_spammer_would_lie_here() -> None:
    compiled = policy(
        Rule(name="lies", action="accept", when={"client.name": "mx.friend.example"}),
        Rule(name="ptr", action="accept", when={"client.ptr": "*.friend.example"}),
        Rule(name="absence", action="accept", when={"login": {"present": False}}),
        Rule(name="everything", action="accept"),
        Rule(
            name="proven ptr",
            action="accept",
            when={"client.ptr": {"is": "*.f.example", "provenance": "proven"}},
        ),
        Rule(name="address", action="accept", when={"client.address": "192.0.2.1", "client.name": "x"}),
        Rule(name="refusal", action="refuse", when={"client.name": "x"}),
        Rule(name="code", action="accept", when={"mpc": "net/individual"}),
        Rule(name="bound", action="accept", when={"mpc": {"is": "net/*", "provenance": "proven"}}),
        Rule(name="stranger", action="accept", when={"trust.score": {"max": 0}}),
        Rule(name="vouched", action="accept", when={"trust.vouched": "friends"}),
        Rule(name="friend", action="accept", when={"trust.score": {"max": -1}}),
    )
    warned = [rule.name for rule in compiled.rules if admits_on_claims_only(rule)]
    assert warned == ["lies", "ptr", "absence", "everything", "code", "stranger"]


@pytest.mark.covers("ITP-5")
def test_a_policy_is_tried_on_a_description_and_a_recorded_message() -> None:
    compiled = policy(
        Rule(name="spam", action="refuse", when={"header.subject": {"contains": "pills"}}, reply="550 5.7.1"),
        Rule(name="big", action="hold", when={"message.size": {"min": 10_000}}),
    )
    message = b"From: Ann <ann@a.example>\r\nSubject: =?utf-8?Q?Cheap_pills?=\r\n\r\nbuy\r\n"
    trial = try_policy(compiled, described_facts({"client.address": "192.0.2.1"}, message))
    assert trial.verdict.action is Action.REFUSE
    assert [stage.stage for stage in trial.stages][-1] is Stage.HEADERS
    (line,) = trial.stages[-1].told
    assert line.startswith(
        'spam applies: refuse (header.subject = {contains = "pills"}: yes, header.subject = '
    )
    clean = try_policy(compiled, described_facts({"header.subject": "hello"}, message))
    assert clean.verdict is ACCEPTED
    assert clean.stages[-1].told == (
        "big does not apply (message.size = {min = 10000}: no, message.size = 68 (proven, counted))",
    )


@pytest.mark.covers("ITP-5", "ITP-1")
def test_descriptions_say_what_facts_are_worth() -> None:
    known = described_facts({"client.ptr": {"value": ["x.example"], "provenance": "claimed"}, "login": "ann"})
    assert known.get("client.ptr", Provenance.PROVEN) is None
    assert known.value("client.ptr") == ("x.example",)
    login = known.get("login")
    assert login is not None
    assert login.provenance is Provenance.PROVEN
    for wrong in (
        {"lgin": "x"},
        {"login": 5},
        {"sender.null": "no"},
        {"login": {"value": "x", "provenance": "?"}},
    ):
        with pytest.raises(DescriptionError):
            described_facts(wrong)


@pytest.mark.covers("ITP-5", "ITP-1")
def test_a_recorded_message_is_tried_with_the_warrants_that_its_facts_had() -> None:
    row = {
        "sender": "eve@a.example",
        "recipients": ["ann@b.example", "bob@b.example"],
        "facts": [
            {
                "name": "client.ptr",
                "value": ["x.example"],
                "provenance": "claimed",
                "how": "PTR, not confirmed",
            },
            {"name": "mpc", "value": "com/optin", "provenance": "claimed", "how": ""},
            {"name": "recipient.count", "value": 2, "provenance": "proven", "how": "counted"},
        ],
    }
    message = b"Received: by us\r\n\tagain\r\nReceived: by them\r\nSubject: x\r\n\r\nbody\r\n"
    known, recipients = recorded_facts(row, message)
    assert recipients == ("ann@b.example", "bob@b.example")
    assert known.get("client.ptr", Provenance.VOUCHED) is None
    assert known.value("sender.domain") == ("a.example",)
    assert (known.value("message.hops"), known.value("header.subject")) == (1, ("x",))
    compiled = policy(
        Rule(name="bob", action="refuse", when={"recipient": "bob@*"}),
        Rule(name="two", action="defer", when={"recipient.count": 2}),
    )
    trial = try_policy(compiled, known, recipients)
    told = {(one.stage, one.about): one.verdict.action for one in trial.stages}
    assert told[Stage.RECIPIENT, "ann@b.example"] is Action.ACCEPT
    assert told[Stage.RECIPIENT, "bob@b.example"] is Action.REFUSE
    assert trial.stages[-1].stage is Stage.HEADERS
    nobody = policy(Rule(name="all", action="refuse", when={"recipient.domain": "b.example"}))
    assert try_policy(nobody, known, recipients).stages[-1].stage is Stage.RECIPIENT


@pytest.mark.parametrize(
    "fact",
    [
        7,
        {},
        {"name": "login"},
        {"name": "login", "value": 1.5},
        {"name": "login", "value": "x", "provenance": "?"},
    ],
)
def test_what_is_no_recorded_fact_is_refused(fact: object) -> None:
    with pytest.raises(DescriptionError, match="no fact"):
        recorded_facts({"facts": [fact]})


@pytest.mark.covers("SEC-70")
def test_nothing_in_reason_or_value_is_a_template() -> None:
    hostile = "{0.__class__} %(x)s ${run{x}} {{7*7}}"
    compiled = policy(
        Rule(name="t", action="tag", when={"login": "x"}, value=f"X-T: {hostile}"),
        Rule(name="r", action="refuse", when={"login": "x"}, reason=hostile),
    )
    verdict = compiled.evaluate(Stage.SENDER, facts(login="x"))
    assert verdict.tags == (f"X-T: {hostile}",)
    assert verdict.reply is not None
    assert hostile in verdict.reply.text
