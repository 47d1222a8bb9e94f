"""Rules: the settings of `[[policy.rules]]` checked and compiled (ITP-4a).

A rule is asked at one stage: as soon as its facts are known, or later if it says so. An `accept` rule without
a `stage` of its own is asked again at every later stage, so that what it admits is not refused by a rule
further down. What concerns a message (hold, tag, route) is asked at SENDER at the earliest.

Mail about mail policy, ``mpc/individual``, is never refused for its code (AMTP-9). So a rule that refuses or
defers and names `mpc` anywhere is not asked of it; and where another code would have got a message past the
rules below, those do not refuse it either (`CompiledRule.admits_some_code`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from outrider.config import schema
from outrider.model.facts import Fact, Facts
from outrider.model.mpc import LEGAL
from outrider.model.reply import Reply, is_status
from outrider.model.verdict import Action, Stage
from outrider.policy.conditions import Condition, ConditionError, compile_condition

STAGES = tuple(Stage)
MPC = "mpc"
_CODES = tuple(str(code) for code in LEGAL)
MAX_CONDITIONS = 100
MAX_REASON = 200
"""Characters: a reply line stays within RFC 5321 4.5.3.1.5 with code, status and the rule's name."""

_NAME = re.compile(r"[!-~](?:[ -~]{0,58}[!-~])?")
_REPLY = re.compile(r"([245][0-9]{2})(?: ([245]\.[0-9]{1,3}\.[0-9]{1,3}))?")
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FIELD = re.compile(r"([!-9;-~]{1,76}): ([ -~]{1,800})")
_PROTECTED_FIELDS = frozenset(
    {"received", "return-path", "dkim-signature", "from", "sender", "to", "cc", "bcc"}
)


class PolicyError(ValueError):
    """A rule cannot be used; the text names rule and key and says what to write instead."""


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule, ready to be asked."""

    name: str
    action: Action
    stages: tuple[Stage, ...]
    when: tuple[Condition, ...]
    unless: tuple[Condition, ...]
    reason: str
    """The sentence for reply, log and explain, with the rule's name."""
    reply: Reply | None
    value: str
    number: int = 0
    """Its place among all rules, from 0."""

    def applies(self, facts: Facts) -> bool:
        """Whether all of `when` and not all of `unless` hold."""
        for condition in self.when:
            if not condition.holds(facts):
                return False
        return not self.unless or not all(condition.holds(facts) for condition in self.unless)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Both kinds."""
        return self.when + self.unless

    def names(self, *facts: str) -> bool:
        """Whether it looks at any of these facts."""
        return any(condition.fact.name in facts for condition in self.conditions)

    @property
    def turns_away(self) -> bool:
        """Whether it refuses or defers."""
        return self.action in (Action.REFUSE, Action.DEFER)

    @property
    def admits(self) -> bool:
        """Whether it decides, and lets the message go on."""
        return self.action in (Action.ACCEPT, Action.HOLD, Action.ROUTE)

    def admits_some_code(self, facts: Facts) -> bool:
        """Whether it would decide to let the message go on if only its Mail Policy Code were another."""
        known = facts.get(MPC)
        if known is None or not self.admits:
            return False
        others = (Fact(MPC, code, known.provenance) for code in _CODES)
        return any(self.applies(Facts([other], parent=facts)) for other in others)


def compile_rule(rule: schema.Rule, number: int, check_route: Callable[[str], object] | None) -> CompiledRule:
    """One rule. `check_route` raises ValueError for a value that is no way. Raises PolicyError."""
    where = f"policy.rules[{number}]" + (f" {rule.name!r}" if rule.name else "")
    if len(rule.when) + len(rule.unless) > MAX_CONDITIONS:
        raise PolicyError(f"{where}: more than {MAX_CONDITIONS} conditions; write several rules")
    if _NAME.fullmatch(rule.name) is None:
        raise PolicyError(f"{where}: name must have 1 to 60 printable ASCII characters")
    action = Action(rule.action)
    when = _conditions(where, "when", rule.when)
    unless = _conditions(where, "unless", rule.unless)
    stages = _stages(where, rule, action, when + unless)
    _check_value(where, rule, action, check_route)
    for_code = any(condition.fact.name == MPC for condition in when + unless)
    reason = _reason(where, rule, for_code=for_code)
    return CompiledRule(
        rule.name,
        action,
        stages,
        when,
        unless,
        reason,
        _reply(where, rule, action, stages, reason),
        rule.value,
        number - 1,
    )


def _conditions(where: str, key: str, table: dict[str, object]) -> tuple[Condition, ...]:
    compiled = []
    for name, wanted in table.items():
        try:
            compiled.append(compile_condition(name, wanted))
        except ConditionError as error:
            raise PolicyError(f'{where}: {key}."{name}": {error}') from error
    return tuple(compiled)


def _stages(
    where: str, rule: schema.Rule, action: Action, conditions: tuple[Condition, ...]
) -> tuple[Stage, ...]:
    known = max((STAGES.index(condition.fact.stage) for condition in conditions), default=0)
    if action in (Action.HOLD, Action.TAG, Action.ROUTE):
        known = max(known, STAGES.index(Stage.SENDER))
    if rule.stage is None:
        last = len(STAGES) if action is Action.ACCEPT else known + 1
        return STAGES[known:last]
    wanted = Stage(rule.stage)
    if STAGES.index(wanted) < known:
        late = [c.fact.name for c in conditions if STAGES.index(c.fact.stage) > STAGES.index(wanted)]
        because = (
            f"{late[0]} is not known before" if late else f"{action.value} concerns a message, so not before"
        )
        raise PolicyError(f"{where}: stage = {rule.stage!r} is too early: {because} {STAGES[known].value!r}")
    return (wanted,)


def _check_value(
    where: str, rule: schema.Rule, action: Action, check_route: Callable[[str], object] | None
) -> None:
    if action is Action.TAG:
        _check_tag(where, rule.value)
    elif action is Action.ROUTE:
        if not rule.value:
            raise PolicyError(f"{where}: value must name the way, as in [routes]: smtp:HOST, lmtp:..., mx")
        try:
            if check_route is not None:
                check_route(rule.value)
        except ValueError as error:
            raise PolicyError(f"{where}: value: {error}") from error
    elif rule.value:
        raise PolicyError(f"{where}: value is for tag and route; {action.value} takes none")


def _check_tag(where: str, value: str) -> None:
    field = _FIELD.fullmatch(value)
    if field is not None and field[1].lower() in _PROTECTED_FIELDS:
        raise PolicyError(
            f"{where}: value: a rule may not write the field {field[1]}; choose a name of your own"
        )
    if field is None and _LABEL.fullmatch(value) is None:
        raise PolicyError(
            f"{where}: value must be `Field-Name: text` in printable ASCII, or a label of letters, "
            "digits, dot, hyphen and underscore"
        )


def is_header_tag(tag: str) -> bool:
    """Whether a tag is a field to put on top; otherwise it is a label."""
    return ":" in tag


_SENTENCES = {
    "refuse": "Refused by local policy",
    "defer": "Not now, by local policy; try again later",
    "hold": "Held by local policy",
}
# AMTP-11: the texts of the draft, after which the operator's reason may follow.
_CODE_SENTENCES = {
    "refuse": "MPC policy violation",
    "defer": "MPC temporary failure, try again later",
}


def _reason(where: str, rule: schema.Rule, *, for_code: bool) -> str:
    if len(rule.reason) > MAX_REASON or not rule.reason.isprintable():
        raise PolicyError(f"{where}: reason must be one line of at most {MAX_REASON} characters")
    sentence = rule.reason or _SENTENCES.get(rule.action, "Local policy")
    if for_code and not rule.reply and rule.action in _CODE_SENTENCES:
        drafted = _CODE_SENTENCES[rule.action]
        sentence = f"{drafted}: {rule.reason}" if rule.reason else drafted
    return f"{sentence} (rule {rule.name})"


def _reply(
    where: str, rule: schema.Rule, action: Action, stages: tuple[Stage, ...], reason: str
) -> Reply | None:
    if action not in (Action.REFUSE, Action.DEFER):
        if rule.reply:
            raise PolicyError(f"{where}: reply is for refuse and defer; {action.value} takes none")
        return None
    greeting = Stage.CONNECT in stages
    if action is Action.REFUSE:
        default, wanted = (554 if greeting else 550), "5"
    else:
        default, wanted = (421 if greeting else 451), "4"
    if not rule.reply:
        return Reply(default, f"{wanted}.7.1", reason)
    parts = _REPLY.fullmatch(rule.reply)
    if parts is None or not parts[1].startswith(wanted) or (parts[2] and not parts[2].startswith(wanted)):
        raise PolicyError(f"{where}: reply must be like `{default} {wanted}.7.1` for {action.value}")
    code, status = int(parts[1]), parts[2] or f"{wanted}.7.1"
    if greeting and code not in (554, 421):
        # RFC 5321 4.3.2: a greeting is 220 or 554; 421 may come at any time.
        raise PolicyError(f"{where}: reply: at the stage connect only 554 and 421 are legal")
    if not is_status(status):
        raise PolicyError(f"{where}: reply: {status!r} is no enhanced status code")
    return Reply(code, status, reason)


def needed_facts(rules: tuple[CompiledRule, ...]) -> Iterator[str]:
    """Names of the facts that the rules look at."""
    for rule in rules:
        for condition in rule.conditions:
            yield condition.fact.name
