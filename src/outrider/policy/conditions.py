"""Conditions on facts: from what stands in the configuration to a closure (ITP-4a).

A condition is a fact's name and what is wanted of it::

    "client.address" = ["192.0.2.0/24", "2001:db8::/32"]      # a list: any of
    "sender" = "@*.example"                                   # a value or pattern of the fact's type
    "message.size" = {min = 1, max = 1000000}
    "tls.client.name" = {is = "hub.example", provenance = "proven"}
    "header.subject" = {matches = "^urgent"}                  # {contains = "..."} is simpler and often enough
    "mpc" = ["com/*", "*/optout"]                              # Mail Policy Codes
    "login" = {present = true}

A condition on a fact that is not known does not hold (`present = false` excepted). When a fact has several
values (names of a certificate, fields of one name), one that fits is enough. A fact that is known by several
warrants counts by its best one; `provenance` says what it must be worth at the least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from outrider.model.facts import Fact, Facts, FactValue, Provenance
from outrider.policy.fact_names import FactKind, FactType, fact_kind
from outrider.policy.patterns import (
    PatternError,
    address_matcher,
    containing_matcher,
    domain_matcher,
    mailbox_matcher,
    mpc_matcher,
    regex_matcher,
    text_matcher,
)

Test = Callable[[FactValue], bool]

_KEYS = frozenset({"is", "min", "max", "matches", "contains", "present", "provenance"})
_PATTERNS = {
    FactType.TEXT: text_matcher,
    FactType.ADDRESS: address_matcher,
    FactType.DOMAIN: domain_matcher,
    FactType.MAILBOX: mailbox_matcher,
    FactType.MPC: mpc_matcher,
}
MAX_VALUES = 100
"""Values of one fact that a condition looks at: a stranger may send ten thousand fields of one name."""


class ConditionError(ValueError):
    """The condition means nothing; the argument says why and what to write instead."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a condition asks for, taken apart: for the linter, which compares conditions with each other."""

    values: tuple[str | int | bool, ...] = ()
    """Values and patterns, one of which must fit; () = any."""
    least: int | None = None
    most: int | None = None
    by_text: bool = False
    """`matches` or `contains` demand more."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, compiled."""

    fact: FactKind
    at_least: Provenance
    """Facts worth less do not count."""
    wants_absence: bool
    test: Test
    text: str
    """As the operator wrote it, for explain and `policy test`."""
    wanted: Wanted = field(default=Wanted())

    def holds(self, facts: Facts) -> bool:
        """Whether the known facts fulfil it."""
        fact = facts.get(self.fact.name, self.at_least)
        if fact is None or fact.value == ():
            return self.wants_absence
        return not self.wants_absence and self.test(fact.value)

    def evidence(self, facts: Facts) -> Fact | None:
        """The fact that :meth:`holds` looked at, or would have if it were worth enough."""
        return facts.get(self.fact.name, self.at_least) or facts.get(self.fact.name)


def compile_condition(name: str, wanted: object) -> Condition:
    """One entry of `when` or `unless`. Raises ConditionError."""
    kind = fact_kind(name)
    if kind is None:
        raise ConditionError(f"there is no fact {name!r}; `outrider policy facts` lists all")
    text = f"{name} = {_written(wanted)}"
    if isinstance(wanted, Mapping):
        return _from_table(kind, wanted, text)
    return Condition(
        kind, Provenance.CLAIMED, False, _value_test(kind, wanted), text, Wanted(_values(wanted))
    )


def _from_table(kind: FactKind, table: Mapping[str, object], text: str) -> Condition:
    unknown = sorted(set(table) - _KEYS)
    if unknown or not table:
        what = f"unknown key {unknown[0]!r} in the condition" if unknown else "the condition is empty"
        raise ConditionError(f"{what}; known are {', '.join(sorted(_KEYS))}")
    at_least = _provenance(table.get("provenance", "claimed"))
    if at_least > kind.worth:
        raise ConditionError(f"{kind.name} is never better than {kind.worth.name.lower()}")
    present = table.get("present", True)
    if not isinstance(present, bool):
        raise ConditionError("present must be true or false")
    tests = _table_tests(kind, table)
    if not present and tests:
        raise ConditionError("present = false allows no other condition on the same fact")
    return Condition(kind, at_least, not present, _all_of(tests), text, _wanted_by(table))


def _wanted_by(table: Mapping[str, object]) -> Wanted:
    """Of a table that is known to compile."""
    least, most = table.get("min"), table.get("max")
    return Wanted(
        _values(table["is"]) if "is" in table else (),
        least if isinstance(least, int) else None,
        most if isinstance(most, int) else None,
        "matches" in table or "contains" in table,
    )


def _values(wanted: object) -> tuple[str | int | bool, ...]:
    return tuple(one for one in _listed(wanted) if isinstance(one, str | int))


def _table_tests(kind: FactKind, table: Mapping[str, object]) -> list[Test]:
    tests: list[Test] = []
    if "is" in table:
        tests.append(_value_test(kind, table["is"]))
    if "min" in table or "max" in table:
        tests.append(_range_test(kind, table.get("min"), table.get("max")))
    for key, maker in (("matches", regex_matcher), ("contains", containing_matcher)):
        if key in table:
            if kind.type in (FactType.NUMBER, FactType.FLAG, FactType.ADDRESS, FactType.MPC):
                raise ConditionError(f"{key} is for texts, and {kind.name} is {_a(kind)}")
            tests.append(_any_of([_text_test(maker, part) for part in _listed(table[key])]))
    return tests


def _provenance(word: object) -> Provenance:
    try:
        return Provenance[str(word).upper()]
    except KeyError:
        raise ConditionError(f"provenance must be claimed, vouched or proven, not {word!r}") from None


def _value_test(kind: FactKind, wanted: object) -> Test:
    tests = [_single_test(kind, one) for one in _listed(wanted)]
    if not tests:
        raise ConditionError("the list is empty, so the rule could never apply; name at least one value")
    return _any_of(tests)


def _single_test(kind: FactKind, wanted: object) -> Test:
    if kind.type is FactType.FLAG:
        if not isinstance(wanted, bool):
            raise ConditionError(f"{kind.name} is true or false, not {wanted!r}")
        return lambda value: value is wanted
    if kind.type is FactType.NUMBER:
        if isinstance(wanted, bool) or not isinstance(wanted, int):
            raise ConditionError(
                f"{kind.name} is a whole number, not {wanted!r}; for a range write {{min = , max = }}"
            )
        return lambda value: value == wanted
    return _text_test(_PATTERNS[kind.type], wanted)


def _text_test(maker: Callable[[str], Callable[[str], bool]], wanted: object) -> Test:
    if not isinstance(wanted, str):
        raise ConditionError(f"{wanted!r} must be a text in quotation marks")
    try:
        matches = maker(wanted)
    except PatternError as error:
        raise ConditionError(str(error)) from error

    def test(value: FactValue) -> bool:
        if isinstance(value, tuple):
            return any(matches(one) for one in value[:MAX_VALUES])
        return isinstance(value, str) and matches(value)

    return test


def _range_test(kind: FactKind, least: object, most: object) -> Test:
    if kind.type is not FactType.NUMBER:
        raise ConditionError(f"min and max are for numbers, and {kind.name} is {_a(kind)}")
    for bound in (least, most):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int)):
            raise ConditionError(f"min and max must be whole numbers, not {bound!r}")
    low = least if isinstance(least, int) else None
    high = most if isinstance(most, int) else None
    if low is not None and high is not None and low > high:
        raise ConditionError(f"min {low} is greater than max {high}")

    def test(value: FactValue) -> bool:
        return isinstance(value, int) and (low is None or value >= low) and (high is None or value <= high)

    return test


def _any_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda value: any(test(value) for test in tests)


def _all_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda value: all(test(value) for test in tests)


def _listed(wanted: object) -> list[object]:
    return list(wanted) if isinstance(wanted, list | tuple) else [wanted]


def _a(kind: FactKind) -> str:
    names = {
        FactType.FLAG: "true or false",
        FactType.NUMBER: "a number",
        FactType.ADDRESS: "an IP address",
        FactType.MPC: "a Mail Policy Code",
    }
    return names.get(kind.type, "a text")


def _written(wanted: object) -> str:
    """About what stands in the file, for people."""
    if isinstance(wanted, Mapping):
        return "{" + ", ".join(f"{key} = {_written(value)}" for key, value in wanted.items()) + "}"
    if isinstance(wanted, list | tuple):
        return "[" + ", ".join(_written(one) for one in wanted) + "]"
    if isinstance(wanted, bool):
        return "true" if wanted else "false"
    return f'"{wanted}"' if isinstance(wanted, str) else str(wanted)
