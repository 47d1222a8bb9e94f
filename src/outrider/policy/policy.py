"""The policy as a whole: what is needed at a stage, and the verdict there (ITP-4a, ITP-5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outrider.config import schema
from outrider.model.facts import Facts
from outrider.model.reply import Reply
from outrider.model.verdict import ACCEPTED, Action, Stage, Verdict
from outrider.policy.fact_names import HEADER_PREFIX, LOOKUP_FAILED, fact_kind
from outrider.policy.rules import (
    STAGES,
    CompiledRule,
    PolicyError,
    admits_on_claims_only,
    compile_rule,
    needed_facts,
)

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
        nothing permanent is built on silence.
        """
        rules = self._by_stage[stage]
        if not rules:
            return ACCEPTED
        failed = _failed_lookups(facts)
        tags: list[str] = []
        spoke: list[str] = []
        hanging: tuple[str, ...] = ()
        for rule in rules:
            missing = _missing(rule, facts, failed)
            hanging += missing
            if missing and rule.action is not Action.REFUSE:
                continue
            if not missing and not rule.applies(facts):
                continue
            if rule.action is Action.REFUSE and hanging:
                return _deferred(rule, stage, hanging, tags)
            spoke.append(rule.name)
            if rule.action is not Action.TAG:
                return _decided(rule, tags, spoke)
            tags.append(rule.value)
        if not tags:
            return ACCEPTED
        return Verdict(Action.TAG, ", ".join(spoke), f"Tagged (rule {', '.join(spoke)})", tags=tuple(tags))

    def outcomes(self, stage: Stage, facts: Facts) -> tuple[Outcome, ...]:
        """What every rule of the stage says, also behind the one that decides: for `policy test`."""
        failed = _failed_lookups(facts)
        return tuple(
            Outcome(rule, stage, rule.applies(facts), _missing(rule, facts, failed))
            for rule in self._by_stage[stage]
        )

    def warnings(self) -> tuple[str, ...]:
        """What the linter has to say (ITP-1)."""
        return tuple(
            f"policy rule {rule.name!r} admits mail on claims only: whoever writes a message or a HELO can "
            'fulfil it. Add a condition on something proven, or {provenance = "proven"}.'
            for rule in self.rules
            if admits_on_claims_only(rule)
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
    missing = tuple(c.fact.name for c in rule.conditions if c.fact.name in failed)
    settled = [condition for condition in rule.when if condition.fact.name not in failed]
    return missing if missing and all(condition.holds(facts) for condition in settled) else ()


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
