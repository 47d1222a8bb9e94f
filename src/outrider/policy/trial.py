"""`outrider policy test`: a policy against a described or recorded message, without sending it (ITP-5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from outrider.message.header_fields import field_names, header_fields
from outrider.model.content import inline_content
from outrider.model.facts import Fact, Facts, FactValue, Provenance
from outrider.model.mpc import MpcError, parse_mpc
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
    about: str = ""
    """The recipient that it was asked about, where there are several."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A whole run; it ends with the stage that refuses or defers, as a session does."""

    stages: tuple[StageTrial, ...]
    announced: tuple[str, ...] = ()
    """What EHLO would declare of Mail Policy Codes to such a client (ITP-4b); () = nothing, all are taken."""

    @property
    def verdict(self) -> Verdict:
        """The last stage's."""
        return self.stages[-1].verdict


def try_policy(policy: CompiledPolicy, facts: Facts, recipients: Sequence[str] = ()) -> Trial:
    """Every stage in order. Facts are taken as described; nothing is looked up.

    With several `recipients` each is asked about alone, as in a session; the message goes on while one of
    them is taken.
    """
    stages: list[StageTrial] = []
    for stage in STAGES:
        if stage is Stage.RECIPIENT and recipients:
            tried = [_try_stage(policy, stage, _of_recipient(facts, one), one) for one in recipients]
        else:
            tried = [_try_stage(policy, stage, facts)]
        stages.extend(tried)
        if not any(one.verdict.admits for one in tried):
            break
    return Trial(tuple(stages), policy.announced(facts))


def _try_stage(policy: CompiledPolicy, stage: Stage, facts: Facts, about: str = "") -> StageTrial:
    outcomes = policy.outcomes(stage, facts)
    told = tuple(_told(outcome.rule, outcome.applied, facts) for outcome in outcomes)
    return StageTrial(stage, outcomes, policy.evaluate(stage, facts), told, about)


def _of_recipient(facts: Facts, recipient: str) -> Facts:
    own = Facts([Fact("recipient", recipient, Provenance.CLAIMED, "recorded")], parent=facts)
    for derived in [one for fact in tuple(own) if fact.name == "recipient" for one in _derived(fact)]:
        own.add(derived)
    return own


def described_facts(description: Mapping[str, object], message: bytes = b"") -> Facts:
    """Facts from a description, as in a TOML table, and from a recorded message if there is one.

    A plain value has the best warrant that the fact can have; `{value = ..., provenance = "claimed"}` says
    otherwise. Raises DescriptionError.
    """
    facts = Facts(_described(name, value) for name, value in description.items())
    for derived in [one for fact in facts for one in _derived(fact)]:
        if derived.name not in description:
            facts.add(derived)
    _add_content(facts, message, frozenset(description))
    return facts


def recorded_facts(row: Mapping[str, object], message: bytes = b"") -> tuple[Facts, tuple[str, ...]]:
    """Facts and recipients of a message as `outrider explain` tells of it, each with the warrant that it had.

    `message` is its content, if that is still there. Raises DescriptionError.
    """
    rows = row.get("facts")
    facts = Facts(map(_recorded, rows if isinstance(rows, list | tuple) else ()))
    if facts.get("sender") is None:
        facts.claim("sender", str(row.get("sender", "<>")))
    for derived in [one for fact in tuple(facts) for one in _derived(fact)]:
        if facts.get(derived.name) is None:
            facts.add(derived)
    _add_content(facts, _without_own_trace(message), frozenset(fact.name for fact in facts))
    named = row.get("recipients")
    return facts, tuple(map(str, named)) if isinstance(named, list | tuple) else ()


def _without_own_trace(message: bytes) -> bytes:
    """A message from the spool about as it came: without the Received field on top, which is ours."""
    first = next(header_fields(message), None)
    return message[first.end :] if first is not None and first.name.lower() == b"received" else message


def _recorded(row: object) -> Fact:
    if not isinstance(row, Mapping) or not isinstance(row.get("name"), str):
        raise DescriptionError("this is no fact as explain tells it")
    value, word = row.get("value"), str(row.get("provenance", "claimed")).upper()
    if word not in Provenance.__members__ or not isinstance(value, str | int | bool | list | tuple):
        raise DescriptionError(f"{row['name']}: this is no fact as explain tells it")
    held = tuple(map(str, value)) if isinstance(value, list | tuple) else value
    return Fact(row["name"], held, Provenance[word], str(row.get("how", "")) or "recorded")


def _add_content(facts: Facts, message: bytes, known: frozenset[str]) -> None:
    """What header section and body give, but for what is known already."""
    if not message:
        return
    content = inline_content(message)
    names = field_names(content.headers)
    wanted = frozenset(CATALOGUE) | {f"header.{name.decode('ascii').lower()}" for name in names}
    for fact in (*header_facts(content.headers, wanted), *body_facts(content, wanted)):
        if fact.name not in known:
            facts.add(fact)


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
    if kind.type is FactType.MPC and isinstance(value, str):
        return _code(value)
    if kind.type not in (FactType.FLAG, FactType.NUMBER, FactType.MPC):
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
            return tuple(str(one) for one in value)
    raise DescriptionError(f"{kind.name} is {kind.type.value}; {value!r} is not")


def _code(text: str) -> str:
    try:
        return str(parse_mpc(text))
    except MpcError as error:
        raise DescriptionError(f"mpc: {text!r}: {error}") from error


def _told(rule: CompiledRule, applied: bool, facts: Facts) -> str:
    verb = f"applies: {rule.action.value}" if applied else "does not apply"
    because = [_told_condition(condition, facts) for condition in rule.when]
    because += [f"unless {_told_condition(condition, facts)}" for condition in rule.unless]
    return f"{rule.name} {verb}" + (f" ({'; '.join(because)})" if because else "")


def _told_condition(condition: Condition, facts: Facts) -> str:
    mark = "yes" if condition.holds(facts) else "no"
    evidence = condition.evidence(facts)
    return f"{condition.text}: {mark}, {evidence if evidence is not None else 'not known'}"
