"""How conditions stand to each other: one implied by another, one that nothing can fulfil, two that exclude.

The linter builds on this, so the answers lean one way: "implied" and "excluded" are said only of what is
certain from what is written. Patterns that overlap in part, regular expressions and the like are left alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from outrider.model.facts import FactValue
from outrider.policy.conditions import Condition
from outrider.policy.fact_names import FactKind, FactType

_ALWAYS_KNOWN = frozenset(
    {
        "listener", "protocol", "server.port", "time.hour", "time.weekday", "sender", "sender.null",
        "message.declared-size", "body.type", "recipient", "recipient.domain", "recipient.local",
        "recipient.count", "message.hops", "message.size", "body.size", "body.eight-bit", "body.binary",
        "trust.score",
    }
)  # fmt: skip
_LIMITS = {"time.hour": (0, 23), "client.port": (1, 65_535), "server.port": (1, 65_535)}
_CAN_BE_NEGATIVE = frozenset({"trust.score"})
Value = str | int | bool


def implies(narrow: Condition, wide: Condition) -> bool:
    """Whether `wide` holds whenever `narrow` does. Both are on the same fact."""
    if wide.wants_absence or narrow.wants_absence:
        return wide.wants_absence and narrow.wants_absence and wide.at_least == narrow.at_least
    if wide.at_least > narrow.at_least:
        return False
    asked = wide.wanted
    if narrow.text == wide.text or (asked.values == () and not asked.by_text and not _is_range(wide)):
        return True
    if asked.by_text:
        return False
    if narrow.wanted.values:
        return all(_is_covered(narrow.fact, value, wide) for value in narrow.wanted.values)
    return asked.values == () and _range_within(narrow, wide)


def _is_range(condition: Condition) -> bool:
    return condition.wanted.least is not None or condition.wanted.most is not None


def _range_within(narrow: Condition, wide: Condition) -> bool:
    low, high = narrow.wanted.least, narrow.wanted.most
    least, most = wide.wanted.least, wide.wanted.most
    above = least is None or (low is not None and low >= least)
    return above and (most is None or (high is not None and high <= most))


def _is_covered(kind: FactKind, value: Value, wide: Condition) -> bool:
    """Whether all that `value` stands for fulfils the condition."""
    if is_literal(kind, value):
        return wide.test(_as_value(value))
    if kind.type is FactType.MPC:
        fitting = [code for code in kind.values if _pattern_fits(str(value), code)]
        return all(wide.test(code) for code in fitting)
    if _is_range(wide):
        return False
    covers = _COVERS.get(kind.type, _same_text)
    return any(covers(str(value), str(other)) for other in wide.wanted.values)


def _pattern_fits(pattern: str, code: str) -> bool:
    wanted = pattern.lower().split("/")
    return all(want in ("*", part) for want, part in zip(wanted, code.split("/"), strict=True))


def is_literal(kind: FactKind, value: Value) -> bool:
    """Whether the value stands for itself alone."""
    if not isinstance(value, str):
        return True
    if kind.type is FactType.ADDRESS:
        return "/" not in value
    if kind.type is FactType.MAILBOX and value.startswith("@"):
        return False
    return "*" not in value


def _as_value(value: Value) -> FactValue:
    return value


def _same_text(value: str, other: str) -> bool:
    return value.casefold() == other.casefold() or other == "*"


def _network_within(value: str, other: str) -> bool:
    inner, outer = ipaddress.ip_network(value), ipaddress.ip_network(other)
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


def _domain_within(value: str, other: str) -> bool:
    if _same_text(value, other):
        return True
    if not other.startswith("*.") or "*" in other[1:]:
        return False
    suffix = other[1:].casefold()
    return value.casefold().endswith(suffix) and (value.startswith("*.") or "*" not in value)


def _mailbox_within(value: str, other: str) -> bool:
    local, _, domain = value.rpartition("@")
    of_local, at, of_domain = other.rpartition("@")
    if not at:
        return _same_text(value, other)
    return (not of_local or _same_text(local, of_local)) and _domain_within(domain, of_domain)


_COVERS: dict[FactType, Callable[[str, str], bool]] = {
    FactType.ADDRESS: _network_within,
    FactType.DOMAIN: _domain_within,
    FactType.MAILBOX: _mailbox_within,
}


def never_holds(condition: Condition) -> str:
    """Why nothing can fulfil it; "" when something may."""
    kind = condition.fact
    if condition.wants_absence:
        return f"{kind.name} is always known" if kind.name in _ALWAYS_KNOWN else ""
    if kind.values and not any(condition.test(value) for value in kind.values):
        return f"{kind.name} is one of {', '.join(kind.values)}"
    values = condition.wanted.values
    if values and all(is_literal(kind, one) for one in values):
        tied = condition.wanted.by_text or _is_range(condition)
        if tied and not any(condition.test(_as_value(one)) for one in values):
            return "none of its values fulfils the rest of the condition"
    return _out_of_range(condition) if kind.type is FactType.NUMBER else ""


def _out_of_range(condition: Condition) -> str:
    kind, wanted = condition.fact, condition.wanted
    low, high = _LIMITS.get(kind.name, (None if kind.name in _CAN_BE_NEGATIVE else 0, None))
    numbers = [one for one in wanted.values if isinstance(one, int)]
    most = max(numbers) if numbers else wanted.most
    least = min(numbers) if numbers else wanted.least
    if low is not None and most is not None and most < low:
        return f"{kind.name} is never below {low}"
    if high is not None and least is not None and least > high:
        return f"{kind.name} is never above {high}"
    return ""


def exclude_each_other(one: Condition, other: Condition) -> str:
    """Why two conditions on different facts cannot hold together; "" when they may."""
    for first, second in ((one, other), (other, one)):
        why = _excluded_by(first, second)
        if why:
            return why
    return ""


def _excluded_by(one: Condition, other: Condition) -> str:
    name, second = one.fact.name, other.fact.name
    if name == "sender.null" and _only(one, True) and _needs_address(other):
        return "the null sender has no address"
    if name in ("sender", "recipient") and second == f"{name}.domain" and _no_domain_fits(one, other):
        return f"no such {name} is in such a domain"
    if (name, second) in _ONLY_OVER_AMTP and not one.wants_absence and not other.test("amtp"):
        return f"{name} is known over AMTP only"
    if (name, second) in _GO_TOGETHER and one.wants_absence and not other.wants_absence:
        return f"{second} is known only where {name} is"
    if name == "trust.listed" and one.wants_absence and second == "trust.score" and not _at_most_zero(other):
        return "only a list makes a score"
    return ""


_ONLY_OVER_AMTP = frozenset({("host", "protocol"), ("amtp.connection", "protocol")})
_GO_TOGETHER = frozenset(
    {("login", "login.mechanism"), ("tls.version", "tls.cipher"), ("host", "amtp.connection")}
    | {("tls.version", f"tls.client.{part}") for part in ("name", "ca", "fingerprint")}
)


def _only(condition: Condition, value: bool) -> bool:
    return not condition.wants_absence and condition.test(value) and not condition.test(not value)


def _needs_address(condition: Condition) -> bool:
    name = condition.fact.name
    if name.startswith("sender.domain"):
        return not condition.wants_absence
    return name == "sender" and not condition.wants_absence and not condition.test("<>")


def _no_domain_fits(address: Condition, domain: Condition) -> bool:
    if address.wants_absence or domain.wants_absence or not address.wanted.values:
        return False
    domains = [str(one).rpartition("@")[2] for one in address.wanted.values]
    return all(one and "*" not in one and not domain.test(one) for one in domains)


def _at_most_zero(condition: Condition) -> bool:
    return condition.wants_absence or condition.test(0) or condition.test(-1)
