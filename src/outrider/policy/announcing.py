"""What is announced of the policy, computed from the rules that will refuse: Mail Policy Codes (ITP-4b) in
AMTP, and options in MT2 (ITP-4d).

EHLO comes before sender and recipients, so a rule is asked here of what is known of the *session* alone, and
answers yes, no, or "that depends". A code is declared as denied when mail with it is sure never to be taken,
whatever the message: when the walk down the rules comes to a refusal that applies for certain, having met
nothing on the way that might have let it go on. The declaration is sound, then (what is denied is not taken;
the reply may be 451 where a look-up failed), and complete as far as a session's facts go (a refusal for the
code that hangs on them alone is declared). What else is refused, MAIL and RCPT will say.

A refusal that would meet every code is not one for its code, and not declared: the reply to MAIL gives the
true reason, and the client does not bounce mail for a policy that there is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from outrider.model.facts import Facts, FactValue, Provenance
from outrider.model.mpc import ABOUT_POLICY, LEGAL, Mpc
from outrider.model.verdict import Action, Stage
from outrider.policy.conditions import Condition
from outrider.policy.fact_names import LOOKUP_FAILED
from outrider.policy.rules import MPC, CompiledRule

Rules = tuple[CompiledRule, ...]


class Answer(Enum):
    """Whether something holds for every message of the session, for none, or for some."""

    YES = "yes"
    NO = "no"
    DEPENDS = "depends"


def facts_that_announcements_follow(rules: Rules) -> tuple[str, ...] | None:
    """Names of the session's facts on which declarations may hang; None when no rule names a code at a stage
    that could be announced."""
    asked = [rule for rule in rules if {Stage.SENDER, Stage.RECIPIENT} & set(rule.stages)]
    if not any(rule.names(MPC) for rule in asked):
        return None
    kinds = {condition.fact for rule in asked for condition in rule.conditions}
    names = {kind.name for kind in kinds if kind.of_session is not None}
    return (*sorted(names), LOOKUP_FAILED)


def codes_not_denied(at_sender: Rules, at_recipient: Rules, session: Facts) -> frozenset[Mpc]:
    """The codes of which the session's facts do not make a refusal certain, at MAIL or for every recipient.

    `session` holds what is known when EHLO is answered; facts of a message in it are not looked at.
    """
    if any(_refuses_all(rules, session) for rules in (at_sender, at_recipient)):
        return frozenset(LEGAL)
    return frozenset(
        code
        for code in LEGAL
        if code == ABOUT_POLICY
        or not any(_refuses(rules, session, code) for rules in (at_sender, at_recipient))
    )


@dataclass(frozen=True, slots=True)
class Supposed:
    """What is supposed of a message's fact, to see what the rules would say."""

    fact: str
    value: FactValue | None
    """None: the message does not have it."""
    is_part: bool = False
    """The fact may have further values beside this one."""


def values_not_denied(
    stages: Sequence[Rules], fact: str, values: Iterable[str], session: Facts, *, many: bool
) -> tuple[str, ...]:
    """Those of the values of a message's fact of which the session's facts do not make a refusal certain, at
    one of the stages whose rules these are (ITP-4d).

    `many`: a message may have any number of the values, or none; else it has one of them. As with codes, a
    refusal that would meet every message is not one for its value.
    """
    offered = tuple(values)

    def is_denied(value: str | None) -> bool:
        supposed = Supposed(fact, value, many)
        return any(_refuses_with(rules, session, supposed) for rules in stages)

    if many and is_denied(None):
        return offered
    taken = tuple(value for value in offered if not is_denied(value))
    return taken if taken or many else offered


def _refuses(rules: Rules, session: Facts, code: Mpc) -> bool:
    """Whether every message of that code is turned away at the stage that these rules are asked at, by a
    refusal if by nothing else before."""
    return _refuses_with(rules, session, Supposed(MPC, str(code)))


def _refuses_with(rules: Rules, session: Facts, supposed: Supposed) -> bool:
    """The same of every message of which this is true."""
    for rule in rules:
        if rule.action is Action.TAG:
            continue
        applies = _applies(rule, session, supposed)
        if applies is Answer.NO:
            continue
        if applies is Answer.YES:
            return rule.action is Action.REFUSE
        if rule.admits:
            return False  # what else may turn it away changes nothing for a refusal further down
    return False


def _refuses_all(rules: Rules, session: Facts) -> bool:
    """Whether even mail about mail policy is refused, which never is for its code (AMTP-9)."""
    asked: list[CompiledRule] = []
    for rule in rules:
        if not rule.names(MPC):
            asked.append(rule)
        elif rule.admits and _may_admit_some_code(rule, session):
            break
    return _refuses(tuple(asked), session, ABOUT_POLICY)


def _may_admit_some_code(rule: CompiledRule, session: Facts) -> bool:
    codes = (Supposed(MPC, str(code)) for code in LEGAL)
    return any(_applies(rule, session, code) is not Answer.NO for code in codes)


def _applies(rule: CompiledRule, session: Facts, supposed: Supposed) -> Answer:
    demanded = _all(_holds(condition, session, supposed) for condition in rule.when)
    if demanded is Answer.NO or not rule.unless:
        return demanded
    exempted = _all(_holds(condition, session, supposed) for condition in rule.unless)
    return _all((demanded, _not(exempted)))


def _holds(condition: Condition, session: Facts, supposed: Supposed) -> Answer:
    kind = condition.fact
    if kind.name == supposed.fact:
        if supposed.value is None or condition.wants_absence:
            return Answer.YES if condition.wants_absence and supposed.value is None else Answer.NO
        if not condition.test(supposed.value):
            return Answer.DEPENDS if supposed.is_part else Answer.NO
        # Whether the account is bound to its code is known at MAIL.
        return Answer.YES if condition.at_least is Provenance.CLAIMED or kind.name != MPC else Answer.DEPENDS
    if not kind.is_settled_by_session(condition.at_least):
        return Answer.DEPENDS
    if kind.looked_up and session.get(kind.name) is None:
        return Answer.DEPENDS
    return Answer.YES if condition.holds(session) else Answer.NO


def _all(answers: Iterable[Answer]) -> Answer:
    """Yes when all are, no when any is."""
    found = Answer.YES
    for answer in answers:
        if answer is Answer.NO:
            return Answer.NO
        if answer is Answer.DEPENDS:
            found = Answer.DEPENDS
    return found


def _not(answer: Answer) -> Answer:
    return {Answer.YES: Answer.NO, Answer.NO: Answer.YES, Answer.DEPENDS: Answer.DEPENDS}[answer]
