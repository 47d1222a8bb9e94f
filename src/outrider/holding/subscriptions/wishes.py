"""What people wish to get, and what not: their standing rules towards senders and classes (AMDP-19).

A rule says of one person: mail of this sender (an address, such as a list's; a domain; anybody) and of this
class is accepted, or is not. It comes about by a confirmed letter and by nothing else, and it is a wish, not
proof of anything: a sender is what the call-back has authenticated, a class what it claims or is vouched for.

Pure: no clock, no storage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from outrider.model.address import Address, AddressError, parse_address, parse_domain
from outrider.protocols.amdp.mail_class import (
    ClassError,
    MailClass,
    Ranked,
    Ranking,
    parse_class,
    parse_pattern,
)

ANYBODY = "*"
MAX_SENDER = 320
"""Characters, as asked for from outside."""
_PLAIN = re.compile(r"[A-Za-z0-9_:*-]{1,100}")
_UNKNOWN = MailClass(("unknown", "unknown", "unknown"))
"""Stands for a class that is none; only ``*`` is held against it."""


class Standing(Enum):
    """What a person says of mail."""

    ACCEPT = "accept"
    DENY = "deny"
    LEFT = "left"
    """He had accepted it and has left: no wish any more, kept so that other servers hear of it."""


class Fault(Enum):
    """What is wrong with what was asked for; by it a page says so in its reader's language."""

    KIND = "kind"
    ADDRESS = "address"
    EVERYTHING = "everything"
    """Neither a sender nor a class is named."""
    SENDER = "sender"
    CLASS = "class"


class RuleError(ValueError):
    """What was asked for is no rule; the text says why and may be shown."""

    def __init__(self, fault: Fault, words: str) -> None:
        super().__init__(words)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule is about, in canonical form: the same rule is the same text."""

    sender: str
    """An address, a domain, or ``*``."""
    pattern: str
    """A class pattern (AMDP-17); ``*`` is every class."""

    def __str__(self) -> str:
        return f"{self.sender} {self.pattern}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One person's standing wish."""

    id: int
    """Counts up, never used for another; 0 = not stored."""
    address: Address
    subject: Subject
    standing: Standing
    changed_at: float
    how: str
    """How it came about: ``confirmed by letter``, ``by the operator``, ``from HOST``."""


class Wishes(Protocol):
    """What people wish, for those who judge envelopes."""

    async def standing(
        self, recipient: Address, sender: Address, mail_class: str, *, vouched: bool
    ) -> Standing | None:
        """The recipient's word on this mail: ACCEPT (treat the sender as allowed, AMDP-22), DENY (drop it),
        None where he has said nothing. `sender` is the authenticated one, `mail_class` as in the envelope;
        `vouched`: a chosen service vouches for it (AMDP-18). Raises StoreUnavailable."""
        ...


def parse_subject(sender: str, pattern: str) -> Subject:
    """What a rule is to be about, from outside. Raises RuleError."""
    subject = Subject(_sender(sender.strip()), _pattern(pattern.strip()))
    if subject == Subject(ANYBODY, ANYBODY):
        raise RuleError(
            Fault.EVERYTHING, "name a sender or a class: a wish for all mail, or none, is no subscription"
        )
    return subject


def senders_of(sender: Address) -> tuple[str, str, str]:
    """What the rules about mail from an address may name, the most specific first."""
    return f"{sender.local.casefold()}@{sender.domain}", str(sender.domain), ANYBODY


def decide(rules: Iterable[Rule], sender: Address, mail_class: str, *, vouched: bool) -> Rule | None:
    """Which of these rules of one person decides on the mail: the address before its domain before anybody,
    then the class as in any policy (AMDP-17).

    To accept *anybody's* mail of a class says something only of classes that are vouched for: whoever is not
    known would just claim it.
    """
    asked = _class(mail_class)
    current = [one for one in rules if one.standing is not Standing.LEFT]
    for name in senders_of(sender):
        entries = {
            Ranked(parse_pattern(one.subject.pattern), one.standing is Standing.ACCEPT): one
            for one in current
            if one.subject.sender == name
            and (one.standing is Standing.DENY or name != ANYBODY or vouched)
            and (asked is not None or one.subject.pattern == ANYBODY)
        }
        best = Ranking(tuple(entries)).best(asked or _UNKNOWN)
        if best is not None:
            return entries[best]
    return None


def _class(text: str) -> MailClass | None:
    try:
        return parse_class(text)
    except ClassError:
        return None


def _sender(text: str) -> str:
    if text in ("", ANYBODY):
        return ANYBODY
    if len(text) > MAX_SENDER:
        raise RuleError(Fault.SENDER, "the sender is too long")
    try:
        if "@" not in text:
            return str(parse_domain(text))
        address = parse_address(text)
    except AddressError as error:
        raise RuleError(Fault.SENDER, f"the sender is neither an address nor a domain: {error}") from error
    return f"{address.local.casefold()}@{address.domain}"


def _pattern(text: str) -> str:
    if text in ("", ANYBODY):
        return ANYBODY
    if not _PLAIN.fullmatch(text):
        # It is shown in letters to people who may not have asked: no place for somebody's link.
        raise RuleError(Fault.CLASS, "a class is made of words of letters and digits, with :: between them")
    try:
        return canonical_pattern(text)
    except ClassError as error:
        raise RuleError(Fault.CLASS, f"the class is malformed: {error}") from error


def canonical_pattern(text: str) -> str:
    """A class pattern as rules are compared: known types in their spelling, the rest in lower case. Raises
    ClassError."""
    pattern = parse_pattern(text)
    known = parse_pattern(text.lower())
    return "::".join(
        spelled if spelled == same else spelled.lower()
        for spelled, same in zip(pattern.parts, known.parts, strict=True)
    )
