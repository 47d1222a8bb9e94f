"""`outrider policy lint`: what a set of rules says that its author cannot have meant (ITP-1, ITP-4a).

Faults of a single value are found when rules are compiled, and refuse the configuration. Here is what every
rule may say for itself and is still in vain or dangerous: rules that are never reached or never apply, mail
admitted on claims, refusals that EHLO cannot announce, facts that nobody will supply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

from outrider.config.schema import Config
from outrider.model.facts import Provenance
from outrider.model.verdict import Action, Stage
from outrider.policy.conditions import Condition
from outrider.policy.overlap import exclude_each_other, implies, is_literal, never_holds
from outrider.policy.policy import CompiledPolicy
from outrider.policy.rules import MPC, STAGES, CompiledRule
from outrider.trust.kinds import BLOCKING, VOUCHING, about
from outrider.trust.subjects import Role


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one rule."""

    kind: str
    """Its name for programs: never-asked, never-applies, claims-only, ..."""
    rule: CompiledRule
    key: tuple[str, ...]
    """Where in the rule: ("when", "sender"), or () for the whole."""
    text: str
    """What is wrong, and what to do."""

    def __str__(self) -> str:
        return f"policy rule {self.rule.name!r}: {self.text}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rest of the configuration supplies facts from."""

    has_dns: bool = True
    lists: frozenset[tuple[str, str]] = frozenset()
    """(name, kind) of each of [trust.lists]."""
    partners: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Config) -> Surroundings:
        """Those of a whole configuration."""
        return cls(
            config.dns.servers != (),
            frozenset((name, one.kind) for name, one in config.trust.lists.items()),
            frozenset(config.partners),
        )


def lint(policy: CompiledPolicy, surroundings: Surroundings) -> tuple[Finding, ...]:
    """All findings, in the order of the rules."""
    found: list[Finding] = []
    for rule in policy.rules:
        for check in _CHECKS:
            found.extend(check(rule, policy.rules, surroundings))
    return tuple(found)


def _never_asked(rule: CompiledRule, rules: tuple[CompiledRule, ...], _: Surroundings) -> Iterator[Finding]:
    takers = [_taker(rule, stage, rules) for stage in rule.stages]
    if takers and all(takers):
        names = ", ".join(dict.fromkeys(repr(taker.name) for taker in takers if taker is not None))
        text = f"never asked: all that it could apply to is decided by {names} before; remove or reorder it"
        yield Finding("never-asked", rule, (), text)


def _taker(rule: CompiledRule, stage: Stage, rules: tuple[CompiledRule, ...]) -> CompiledRule | None:
    """A rule that decides, earlier, whatever this one would apply to at the stage."""
    for other in rules:
        if other is rule or other.action is Action.TAG or not _covers(other, rule):
            continue
        before = other.number < rule.number and stage in other.stages
        if before or (other.turns_away and _is_earlier(other.stages[0], stage)):
            return other
    return None


def _is_earlier(one: Stage, other: Stage) -> bool:
    return STAGES.index(one) < STAGES.index(other)


def _covers(wide: CompiledRule, narrow: CompiledRule) -> bool:
    """Whether `wide` applies whenever `narrow` does."""
    if wide.turns_away and wide.names(MPC) and not narrow.turns_away:
        return False  # it spares mail about mail policy, to which the other may apply
    if not all(_implied(condition, narrow.when) for condition in wide.when):
        return False
    if not wide.unless:
        return True
    # The narrow one's exemption fails, and so does the wide one's, which asks for all of that and more.
    return bool(narrow.unless) and all(_implied(condition, wide.unless) for condition in narrow.unless)


def _implied(condition: Condition, by: tuple[Condition, ...]) -> bool:
    return any(other.fact.name == condition.fact.name and implies(other, condition) for other in by)


def _never_applies(rule: CompiledRule, _: tuple[CompiledRule, ...], __: Surroundings) -> Iterator[Finding]:
    for key, conditions in (("when", rule.when), ("unless", rule.unless)):
        for condition in conditions:
            why = never_holds(condition)
            if why:
                what = "the rule never applies" if key == "when" else "the exemption never does"
                yield Finding("never-applies", rule, (key, condition.fact.name), f"{what}: {why}")
    for one, other in combinations(rule.when, 2):
        why = exclude_each_other(one, other)
        if why:
            text = f"never applies: {one.text} and {other.text} exclude each other, {why}"
            yield Finding("never-applies", rule, ("when", other.fact.name), text)
    if rule.unless and all(_implied(condition, rule.when) for condition in rule.unless):
        yield Finding(
            "never-applies", rule, ("unless",), "never applies: `unless` exempts all that `when` demands"
        )


_OF_RECIPIENT = ("recipient", "recipient.domain", "recipient.local")


def _recipient_too_late(
    rule: CompiledRule, _: tuple[CompiledRule, ...], __: Surroundings
) -> Iterator[Finding]:
    if not _is_earlier(Stage.RECIPIENT, rule.stages[0]):
        return
    for condition in rule.when:
        if condition.fact.name in _OF_RECIPIENT and not condition.wants_absence:
            text = (
                f"never applies: {condition.fact.name} is known of one recipient at RCPT, and this rule is "
                f"asked of the whole message ({rule.stages[0].value}); part it into two rules"
            )
            yield Finding("never-applies", rule, ("when", condition.fact.name), text)


def _claims_only(rule: CompiledRule, _: tuple[CompiledRule, ...], __: Surroundings) -> Iterator[Finding]:
    if admits_on_claims_only(rule):
        text = (
            "admits mail on claims only: whoever writes a message or a HELO can fulfil it. Add a condition "
            'on something proven, or {provenance = "proven"}'
        )
        yield Finding("claims-only", rule, (), text)


def admits_on_claims_only(rule: CompiledRule) -> bool:
    """Whether a liar can make this rule admit his mail: an accept or route rule none of whose demands asks
    for more than a claim (ITP-1: would a spammer lie here?)."""
    if rule.action not in (Action.ACCEPT, Action.ROUTE):
        return False
    return not any(_cannot_be_lied(condition) for condition in rule.when)


_SOMETIMES_CLAIMED = frozenset({"client.ptr", "partner", MPC, "sender.domain.vouched"})


def _cannot_be_lied(condition: Condition) -> bool:
    """A demand that only something proven or vouched for can fulfil."""
    if condition.wants_absence:
        return False
    if condition.fact.name == "trust.score" and condition.test(0):
        return False  # what every stranger has
    always = condition.fact.worth > Provenance.CLAIMED and condition.fact.name not in _SOMETIMES_CLAIMED
    return always or condition.at_least > Provenance.CLAIMED


def _announced_late(rule: CompiledRule, _: tuple[CompiledRule, ...], __: Surroundings) -> Iterator[Finding]:
    if rule.action is Action.REFUSE and rule.names(MPC) and _is_earlier(Stage.RECIPIENT, rule.stages[0]):
        text = (
            f"refuses for a Mail Policy Code only at the stage {rule.stages[0].value}, when the content has "
            "come: EHLO cannot announce it. Part off the conditions on the content, or drop `stage`"
        )
        yield Finding("not-announced", rule, (), text)


_SUPPLIED_BY = {
    "client.listed": about(Role.CLIENT, BLOCKING),
    "client.vouched": about(Role.CLIENT, VOUCHING),
    "sender.domain.listed": about(Role.DOMAIN, BLOCKING),
    "sender.domain.vouched": about(Role.DOMAIN, VOUCHING),
    "trust.listed": BLOCKING,
    "trust.vouched": VOUCHING,
    "trust.score": BLOCKING | VOUCHING,
}
"""The kinds of lists without which a fact is never known."""


def _nobody_supplies(
    rule: CompiledRule, _: tuple[CompiledRule, ...], around: Surroundings
) -> Iterator[Finding]:
    for key, conditions in (("when", rule.when), ("unless", rule.unless)):
        for condition in conditions:
            why = _unsupplied(condition, around)
            if why:
                yield Finding("nobody-supplies", rule, (key, condition.fact.name), why)


def _unsupplied(condition: Condition, around: Surroundings) -> str:
    name = condition.fact.name
    kinds = _SUPPLIED_BY.get(name)
    if kinds is not None:
        names = {one for one, kind in around.lists if kind in kinds}
        if not names:
            return f"{name} is never known: [trust.lists] has no list of the kinds {', '.join(sorted(kinds))}"
        return _unknown_name(condition, names, "list in [trust.lists] that could say so")
    if name == "partner":
        return _unknown_name(condition, around.partners, "entry in [partners]")
    if condition.fact.looked_up and not around.has_dns:
        return f"{name} is never known: [dns] servers is empty"
    return ""


def _unknown_name(condition: Condition, known: frozenset[str] | set[str], what: str) -> str:
    folded = {name.casefold() for name in known}
    for value in condition.wanted.values:
        if isinstance(value, str) and is_literal(condition.fact, value) and value.casefold() not in folded:
            return f"there is no {what}: {value!r}"
    return ""


_CHECKS: tuple[Callable[[CompiledRule, tuple[CompiledRule, ...], Surroundings], Iterator[Finding]], ...] = (
    _never_asked,
    _never_applies,
    _recipient_too_late,
    _claims_only,
    _announced_late,
    _nobody_supplies,
)
