"""The policy as a whole: what is needed at a stage, and the verdict there (ITP-4a, ITP-5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from outrider.config import schema
from outrider.model.facts import Fact, Facts, FactValue, Provenance
from outrider.model.mpc import ABOUT_POLICY, Mpc
from outrider.model.reply import Reply
from outrider.model.verdict import ACCEPTED, Action, Stage, Verdict
from outrider.policy.announcing import (
    codes_not_denied,
    facts_that_announcements_follow,
    values_not_denied,
)
from outrider.policy.fact_names import (
    HEADER_PREFIX,
    LOOKUP_FAILED,
    TRUST_DOUBT,
    TRUST_SCORE_LEAST,
    fact_kind,
)
from outrider.policy.rules import MPC, STAGES, CompiledRule, PolicyError, compile_rule, needed_facts
from outrider.protocols.amtp.declarations import declarations_for

_ABOUT_POLICY = str(ABOUT_POLICY)
_VOUCHED = ("client.vouched", "sender.domain.vouched", "trust.vouched")
"""Facts in which the name of a silent vouch list is missed; its weight is in ``trust.score``."""
MAX_REMEMBERED = 1024
"""Announcements kept, one for each kind of peer that rules tell apart."""
_LOOKUP_FAILED = Reply(451, "4.4.3", "A look-up that the decision needs failed; try again later")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule said at one stage."""

    rule: CompiledRule
    stage: Stage
    applied: bool
    undecided: tuple[str, ...] = ()
    """Facts whose look-up failed and without which the rule cannot be judged."""


class CompiledPolicy:
    """All rules, compiled; immutable, exchanged as a whole by a reload."""

    def __init__(self, rules: tuple[CompiledRule, ...]) -> None:
        self.rules = rules
        self._by_stage = {stage: tuple(rule for rule in rules if stage in rule.stages) for stage in STAGES}
        self._needs = {stage: frozenset(needed_facts(of_stage)) for stage, of_stage in self._by_stage.items()}
        self._lookups = {
            stage: frozenset(filter(_is_looked_up, needs)) for stage, needs in self._needs.items()
        }
        self.needs_anywhere: frozenset[str] = frozenset().union(*self._needs.values())
        """Every fact that any rule looks at."""
        self.headers_needed: frozenset[str] = frozenset(
            name[len(HEADER_PREFIX) :] for name in self.needs_anywhere if name.startswith(HEADER_PREFIX)
        )
        """Names of header fields that any rule looks at, in lower case."""
        self._announced: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._announcing = facts_that_announcements_follow(rules)

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule at all."""
        return not self.rules

    def asks(self, stage: Stage) -> bool:
        """Whether any rule speaks at the stage; when not, `evaluate` is not worth preparing facts for."""
        return bool(self._by_stage[stage])

    def needs(self, stage: Stage) -> frozenset[str]:
        """The facts that rules of the stage look at. Those that cost a look-up are the caller's to fetch
        first; one that cannot be had is listed in the fact ``lookup.failed``."""
        return self._needs[stage]

    def lookups(self, stage: Stage) -> frozenset[str]:
        """Those of `needs` that cost a look-up."""
        return self._lookups[stage]

    def evaluate(self, stage: Stage, facts: Facts) -> Verdict:
        """The first rule that decides at the stage wins; tags on the way there are collected.

        A refusal that hangs on a look-up that failed, its own or that of a rule before it, is deferred:
        nothing permanent is built on silence. The same goes for one that a silent vouch list might have
        prevented.
        """
        rules = self._by_stage[stage]
        if not rules:
            return ACCEPTED
        if facts.value(MPC) == _ABOUT_POLICY:
            rules = _asked_of_policy_mail(rules, facts)
        failed, doubt = _failed_lookups(facts), _doubt(facts)
        tags: list[str] = []
        spoke: list[str] = []
        hanging: tuple[str, ...] = ()
        for rule in rules:
            missing = _missing(rule, facts, failed)
            applies = not missing and rule.applies(facts)
            if rule.action is not Action.TAG:
                hanging += missing or _doubted(rule, doubt, applies=applies)
            if rule.action is Action.REFUSE and hanging and (applies or missing):
                return _deferred(rule, stage, hanging, tags)
            if not applies:
                continue
            spoke.append(rule.name)
            if rule.action is not Action.TAG:
                return _decided(rule, tags, spoke)
            tags.append(rule.value)
        if not tags:
            return ACCEPTED
        return Verdict(Action.TAG, ", ".join(spoke), f"Tagged (rule {', '.join(spoke)})", tags=tuple(tags))

    def announced(self, facts: Facts) -> tuple[str, ...]:
        """What EHLO declares of Mail Policy Codes to the peer that these facts are known of (ITP-4b): one
        declaration for each line behind ``MPC``; () = all codes are taken, nothing is declared.

        The facts are the session's when EHLO is answered: host, certificate and login as far as they are
        proven. Any change of them wants another EHLO (AMTP-20).
        """
        if self._announcing is None:
            return ()
        best = [facts.get(name) for name in self._announcing]
        key = tuple(fact and (fact.value, fact.provenance) for fact in best)
        known = self._announced.get(key)
        if known is None:
            if len(self._announced) >= MAX_REMEMBERED:
                self._announced.clear()
            known = self._announced[key] = declarations_for(self.announced_codes(facts))
        return known

    def announced_codes(self, facts: Facts) -> frozenset[Mpc]:
        """The codes that :meth:`announced` declares as taken."""
        return codes_not_denied(self._by_stage[Stage.SENDER], self._by_stage[Stage.RECIPIENT], facts)

    def taken(self, fact: str, values: Iterable[str], facts: Facts, *, many: bool) -> tuple[str, ...]:
        """Those of the values of a fact with which mail may be taken from the peer that these facts are known
        of: what MT2's option lists say (ITP-4d). See `announcing.values_not_denied`."""
        if fact not in self._needs[Stage.SENDER] | self._needs[Stage.RECIPIENT]:
            return tuple(values)
        stages = (self._by_stage[Stage.SENDER], self._by_stage[Stage.RECIPIENT])
        return values_not_denied(stages, fact, values, facts, many=many)

    def outcomes(self, stage: Stage, facts: Facts) -> tuple[Outcome, ...]:
        """What every rule of the stage says, also behind the one that decides: for `policy test`."""
        failed = _failed_lookups(facts)
        rules = self._by_stage[stage]
        asked = _asked_of_policy_mail(rules, facts) if facts.value(MPC) == _ABOUT_POLICY else rules
        return tuple(
            Outcome(rule, stage, rule in asked and rule.applies(facts), _missing(rule, facts, failed))
            for rule in rules
        )


def _is_looked_up(name: str) -> bool:
    kind = fact_kind(name)
    return kind is not None and kind.looked_up


def _failed_lookups(facts: Facts) -> frozenset[str]:
    failed = facts.value(LOOKUP_FAILED)
    return frozenset(failed) if isinstance(failed, tuple) else frozenset()


def _missing(rule: CompiledRule, facts: Facts, failed: frozenset[str]) -> tuple[str, ...]:
    """Facts that the rule hangs on and whose look-up failed: known, they might have changed its word.

    A rule that is out for another reason hangs on nothing.
    """
    if not failed:
        return ()
    if not all(one.holds(facts) for one in rule.when if one.fact.name not in failed):
        return ()
    hangs_on = [one.fact.name for one in rule.when if one.fact.name in failed]
    exempting = [one.holds(facts) for one in rule.unless if one.fact.name not in failed]
    if rule.unless and all(exempting):
        doubtful = [one.fact.name for one in rule.unless if one.fact.name in failed]
        if not doubtful:
            return ()
        hangs_on += doubtful
    return tuple(hangs_on)


def _asked_of_policy_mail(rules: tuple[CompiledRule, ...], facts: Facts) -> tuple[CompiledRule, ...]:
    """The rules without those that would refuse mail about mail policy for its code (AMTP-9)."""
    asked: list[CompiledRule] = []
    spared = False
    for rule in rules:
        for_code = rule.names(MPC)
        if rule.turns_away and (for_code or spared):
            continue
        spared = spared or (for_code and rule.admits_some_code(facts))
        asked.append(rule)
    return tuple(asked)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Vouch lists that did not answer, and the facts as they would be had all of them vouched."""

    lists: tuple[str, ...]
    facts: Facts


def _doubt(facts: Facts) -> _Doubt | None:
    lists = facts.value(TRUST_DOUBT)
    if not isinstance(lists, tuple) or not lists:
        return None
    how = "if all had answered"
    best = [Fact(name, (*_named(facts.value(name)), *lists), Provenance.PROVEN, how) for name in _VOUCHED]
    least = facts.value(TRUST_SCORE_LEAST)
    if least is not None:
        best.append(Fact("trust.score", least, Provenance.PROVEN, how))
    return _Doubt(lists, Facts(best, parent=facts))


def _named(value: FactValue | None) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _doubted(rule: CompiledRule, doubt: _Doubt | None, *, applies: bool) -> tuple[str, ...]:
    """The silent lists that might have changed the rule's word."""
    if doubt is None or not rule.names(*_VOUCHED, "trust.score") or rule.applies(doubt.facts) is applies:
        return ()
    return doubt.lists


def _deferred(rule: CompiledRule, stage: Stage, missing: tuple[str, ...], tags: list[str]) -> Verdict:
    names = ", ".join(dict.fromkeys(missing))
    reason = f"{_LOOKUP_FAILED.text} ({names}, rule {rule.name})"
    code = 421 if stage is Stage.CONNECT else _LOOKUP_FAILED.code
    return Verdict(Action.DEFER, rule.name, reason, Reply(code, _LOOKUP_FAILED.status, reason), tuple(tags))


def _decided(rule: CompiledRule, tags: list[str], spoke: list[str]) -> Verdict:
    route = rule.value if rule.action is Action.ROUTE else ""
    return Verdict(rule.action, ", ".join(spoke), rule.reason, rule.reply, tuple(tags), route)


def compile_policy(
    settings: schema.Policy, check_route: Callable[[str], object] | None = None
) -> CompiledPolicy:
    """The whole policy. `check_route` (`routing.ways.parse_way`) judges the values of route rules.

    Raises PolicyError naming rule and key.
    """
    rules = tuple(compile_rule(rule, number, check_route) for number, rule in enumerate(settings.rules, 1))
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PolicyError(f"policy.rules: two rules are named {twice!r}; a name must say which one spoke")
    return CompiledPolicy(rules)


NO_POLICY = CompiledPolicy(())
