"""Matchers for single values: globs, networks, domains, mailboxes, bounded regular expressions.

Every matcher is made once, when rules are loaded, and answers in time linear in the value (a regular
expression: bounded by the limits below) whatever a stranger sends.
"""

from __future__ import annotations

import ipaddress
import re
import warnings
from collections.abc import Callable
from functools import lru_cache

from outrider.model.address import AddressError, parse_domain
from outrider.model.mpc import LEGAL, MpcError, parse_mpc_pattern

Matcher = Callable[[str], bool]

MAX_SUBJECT = 2000
"""Characters of a value that patterns look at."""
MAX_REGEX = 500
MAX_REGEX_SUBJECT = 500
MAX_CHOICES = 1024
"""Ways to take the optional parts, ranges and branches of one expression, multiplied."""
MAX_UNBOUNDED = 2
"""Repetitions without an end in one expression: with n of them a search may take subject to the power n+1."""


class PatternError(ValueError):
    """The text is no pattern of its kind; the argument says why and what to write."""


def text_matcher(pattern: str) -> Matcher:
    """The whole value, without regard to case; ``*`` stands for any characters, none included."""
    wanted = pattern.casefold()
    if "*" not in wanted:
        return lambda value: value[:MAX_SUBJECT].casefold() == wanted
    first, *middle, last = wanted.split("*")

    def matches(value: str) -> bool:
        text = value[:MAX_SUBJECT].casefold()
        if not (text.startswith(first) and text.endswith(last) and len(text) >= len(first) + len(last)):
            return False
        return _in_order(text[len(first) : len(text) - len(last)], middle)

    return matches


def _in_order(text: str, pieces: list[str]) -> bool:
    position = 0
    for piece in pieces:
        position = text.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    return True


def containing_matcher(part: str) -> Matcher:
    """The value holds the part, without regard to case."""
    if not part:
        raise PatternError(
            "contains must not be empty; to ask whether there is a value write {present = true}"
        )
    wanted = part.casefold()
    return lambda value: wanted in value[:MAX_SUBJECT].casefold()


def address_matcher(pattern: str) -> Matcher:
    """An IP address or a network; an IPv4-mapped IPv6 address counts as its IPv4 address."""
    try:
        network = ipaddress.ip_network(pattern, strict=True)
    except ValueError as error:
        raise PatternError(f"{pattern!r} is no IP address or network: {error}") from error
    # Networks of either version know only their own; a foreign one answers False.
    return lambda value: (address := _parse_ip(value)) is not None and address in network


@lru_cache(maxsize=4096)
def _parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def domain_matcher(pattern: str) -> Matcher:
    """A domain: exact, ``*.example`` for everything below it, or with ``*`` elsewhere; as A-labels."""
    if pattern == "*":
        return lambda value: True
    if pattern.startswith("*."):
        suffix = f".{_domain(pattern[2:])}"
        return lambda value: _canonical(value).endswith(suffix)
    if "*" in pattern:
        glob = text_matcher(pattern)
        return lambda value: glob(_canonical(value))
    wanted = _domain(pattern)
    return lambda value: _canonical(value) == wanted


def _domain(text: str) -> str:
    try:
        return parse_domain(text.rstrip("."))
    except AddressError as error:
        raise PatternError(f"{text!r} is no domain: {error}") from error


def _canonical(value: str) -> str:
    try:
        return parse_domain(value.rstrip("."))
    except AddressError:  # a HELO name may be anything
        return value.casefold()


def mailbox_matcher(pattern: str) -> Matcher:
    """``ann@example``, ``@example``, ``@*.example``, ``ann@*``, ``<>``; the local part with ``*`` as text."""
    if pattern == "<>":
        return lambda value: value in ("", "<>")
    local, at, domain = pattern.rpartition("@")
    if not at:
        raise PatternError(f"{pattern!r} is no address; write user@domain, @domain, user@* or <>")
    matches_domain = domain_matcher(domain)
    matches_local = text_matcher(local) if local else None

    def matches(value: str) -> bool:
        of_local, has_at, of_domain = value.rpartition("@")
        return (
            bool(has_at) and matches_domain(of_domain) and (matches_local is None or matches_local(of_local))
        )

    return matches


def mpc_matcher(pattern: str) -> Matcher:
    """A Mail Policy Code, ``com/optin``, or several at once: ``com/*``, ``*/optout`` (AMTP-9)."""
    try:
        wanted = parse_mpc_pattern(pattern)
    except MpcError as error:
        raise PatternError(
            f"{pattern!r} is no Mail Policy Code: {error}; write com/optin or com/*"
        ) from error
    fitting = frozenset(str(code) for code in LEGAL if wanted.matches(code))
    return lambda value: value.lower() in fitting


def regex_matcher(pattern: str) -> Matcher:
    """A regular expression searched in the first `MAX_REGEX_SUBJECT` characters, without regard to case.

    Only expressions whose work is bounded are taken: no repetition of something that repeats or branches
    itself, no back reference, at most `MAX_UNBOUNDED` repetitions without an end. Raises PatternError.
    """
    if len(pattern) > MAX_REGEX:
        raise PatternError(f"the expression is longer than {MAX_REGEX} characters; use several conditions")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what `re` only warns of (nested sets) is a mistake as well
            compiled = re.compile(pattern, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise PatternError(f"{pattern!r} is no regular expression: {error}") from error
    _check_bounded(pattern)
    return lambda value: compiled.search(value[:MAX_REGEX_SUBJECT]) is not None


_TOKEN = re.compile(
    r"(?P<escape>\\.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<repeat>(?:[*+?]|\{[0-9]*,[0-9]*\}|\{[0-9]+\})[?+]?)"
    r"|(?P<open>\((?:\?(?:[:=!>]|<[=!]|P<\w+>|[ims]+[:)]))?)|(?P<close>\))|(?P<branch>\|)|.",
    re.DOTALL,
)
_RANGE = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")


class _Bounds:
    """Adds up what an expression may cost while it is read: endless repetitions, and choices multiplied."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._endless = 0
        self._choices = 1
        self._groups: list[tuple[bool, int]] = [(False, 1)]
        """For each open group: does it repeat or branch, and how many branches has it."""
        self._closed = False
        """The token before closed a group that repeats or branches."""

    def read(self) -> None:
        for token in _TOKEN.finditer(self._pattern):
            kind, text = token.lastgroup, token[0]
            after_group, self._closed = self._closed, False
            if kind == "escape":
                self._check_escape(text)
            elif kind == "repeat":
                self._repeat(text, after_group)
            elif kind == "branch":
                self._groups[-1] = (True, self._groups[-1][1] + 1)
            elif kind == "open":
                self._open(text, self._pattern[token.end() : token.end() + 1])
            elif kind == "close":
                self._close()
        self._check()

    def _check_escape(self, text: str) -> None:
        if text[1] in "123456789":
            raise PatternError("back references are not allowed in matches; they can take for ever")

    def _repeat(self, text: str, after_group: bool) -> None:
        least, most = _repetitions(text)
        if most == 1 or least == most == 0:
            self._choices *= 2
            return
        if after_group:
            raise PatternError(
                f"{self._pattern!r} repeats a group that repeats or branches itself; write it without the "
                "inner repetition, or as several conditions"
            )
        if most is None:
            self._endless += 1
        else:
            self._choices *= most - least + 1
        self._groups[-1] = (True, self._groups[-1][1])

    def _open(self, text: str, following: str) -> None:
        if text == "(" and following == "?":
            raise PatternError("this kind of group is not allowed in matches; plain and (?: groups are")
        if not text.endswith(")"):
            self._groups.append((False, 1))

    def _close(self) -> None:
        risky, branches = self._groups.pop()
        self._choices *= branches
        self._closed = risky
        if risky:
            self._groups[-1] = (True, self._groups[-1][1])

    def _check(self) -> None:
        if self._endless > MAX_UNBOUNDED:
            raise PatternError(
                f"{self._pattern!r} has {self._endless} repetitions without an end, {MAX_UNBOUNDED} are "
                "allowed; write {0,20} instead of *, use * in a plain text condition, or several conditions"
            )
        if self._choices > MAX_CHOICES:
            raise PatternError(
                f"{self._pattern!r} has too many optional parts and branches; write several conditions"
            )


def _repetitions(text: str) -> tuple[int, int | None]:
    """Least and most of a repetition; None = without an end."""
    if text[0] != "{":
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[text[0]]
    parts = _RANGE.match(text)
    if parts is None:
        raise AssertionError(f"not a repetition: {text}")
    least = int(parts[1] or 0)
    if not parts[2]:
        return least, least
    return least, int(parts[3]) if parts[3] else None


def _check_bounded(pattern: str) -> None:
    """Of a pattern that is known to compile: raise PatternError if its work is not bounded."""
    _Bounds(pattern).read()
