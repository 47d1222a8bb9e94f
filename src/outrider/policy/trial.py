"""`outrider policy test`: a policy against a described or recorded message, without sending it (ITP-5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from outrider.message.header_fields import field_names
from outrider.model.content import inline_content
from outrider.model.facts import Fact, Facts, FactValue, Provenance
from outrider.model.verdict import Stage, Verdict
from outrider.policy.conditions import Condition
from outrider.policy.fact_names import CATALOGUE, FactKind, FactType, fact_kind
from outrider.policy.message_facts import body_facts, header_facts
from outrider.policy.policy import CompiledPolicy, Outcome
from outrider.policy.rules import STAGES, CompiledRule


class DescriptionError(ValueError):
    """The description of a message is wrong; the text names the fact."""


@dataclass(frozen=True, slots=True)
class StageTrial:
    """One stage: every rule's outcome, and the verdict."""

    stage: Stage
    outcomes: tuple[Outcome, ...]
    verdict: Verdict
    told: tuple[str, ...]
    """One line a rule: its name, whether it applies, and because of what."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A whole run; it ends with the stage that refuses or defers, as a session does."""

    stages: tuple[StageTrial, ...]

    @property
    def verdict(self) -> Verdict:
        """The last stage's."""
        return self.stages[-1].verdict


def try_policy(policy: CompiledPolicy, facts: Facts) -> Trial:
    """Every stage in order. Facts are taken as described; nothing is looked up."""
    stages = []
    for stage in STAGES:
        verdict = policy.evaluate(stage, facts)
        outcomes = policy.outcomes(stage, facts)
        told = tuple(_told(outcome.rule, outcome.applied, facts) for outcome in outcomes)
        stages.append(StageTrial(stage, outcomes, verdict, told))
        if not verdict.admits:
            break
    return Trial(tuple(stages))


def described_facts(description: Mapping[str, object], message: bytes = b"") -> Facts:
    """Facts from a description, as in a TOML table, and from a recorded message if there is one.

    A plain value has the best warrant that the fact can have; `{value = ..., provenance = "claimed"}` says
    otherwise. Raises DescriptionError.
    """
    facts = Facts(_described(name, value) for name, value in description.items())
    for derived in [one for fact in facts for one in _derived(fact)]:
        if derived.name not in description:
            facts.add(derived)
    if message:
        content = inline_content(message)
        names = field_names(content.headers)
        wanted = frozenset(CATALOGUE) | {f"header.{name.decode('ascii')}" for name in names}
        for fact in (*header_facts(content.headers, wanted), *body_facts(content, wanted)):
            if fact.name not in description:
                facts.add(fact)
    return facts


def _described(name: str, value: object) -> Fact:
    kind = fact_kind(name)
    if kind is None:
        raise DescriptionError(f"there is no fact {name!r}; `outrider policy facts` lists all")
    provenance, how = kind.worth, "described"
    if isinstance(value, Mapping):
        word = str(value.get("provenance", kind.worth.name)).upper()
        if word not in Provenance.__members__:
            raise DescriptionError(f"{name}: provenance must be claimed, vouched or proven")
        provenance, value = Provenance[word], value.get("value")
    return Fact(kind.name, _typed(kind, value), provenance, how)


def _derived(fact: Fact) -> list[Fact]:
    """What a session learns with an address: its domain, and whether a sender is the null sender."""
    if fact.name not in ("sender", "recipient", "from"):
        return []
    values = fact.value if isinstance(fact.value, tuple) else (str(fact.value),)
    domains = tuple(text.rpartition("@")[2].lower() for text in values if "@" in text)
    found = [replace(fact, name=f"{fact.name}.domain", value=domains)] if domains else []
    if fact.name == "sender":
        found.append(replace(fact, name="sender.null", value=not domains))
    return found


def _typed(kind: FactKind, value: object) -> FactValue:
    if kind.type is FactType.FLAG and isinstance(value, bool):
        return value
    if kind.type is FactType.NUMBER and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind.type not in (FactType.FLAG, FactType.NUMBER):
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
            return tuple(str(one) for one in value)
    raise DescriptionError(f"{kind.name} is {kind.type.value}; {value!r} is not")


def _told(rule: CompiledRule, applied: bool, facts: Facts) -> str:
    verb = f"applies: {rule.action.value}" if applied else "does not apply"
    because = [_told_condition(condition, facts) for condition in rule.when]
    because += [f"unless {_told_condition(condition, facts)}" for condition in rule.unless]
    return f"{rule.name} {verb}" + (f" ({'; '.join(because)})" if because else "")


def _told_condition(condition: Condition, facts: Facts) -> str:
    mark = "yes" if condition.holds(facts) else "no"
    evidence = condition.evidence(facts)
    return f"{condition.text}: {mark}, {evidence if evidence is not None else 'not known'}"
