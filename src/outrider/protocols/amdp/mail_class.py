"""Classes of mail (AMDP-17): ``agent::mail[::...]::message``, patterns over them, and which of several wins.

A class is a claim of its sender until a service that the receiver chose vouches for it (AMDP-18). Parts are
compared without regard to case; a type that is not known is kept as it stands and is of the kind `UNKNOWN`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

FEWEST_PARTS = 3
MOST_PARTS = 8
MAX_LENGTH = 255
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.+/&'-]{0,62}[A-Za-z0-9_.+])?", re.ASCII)
_ANY = "*"


class ClassError(ValueError):
    """The text is no class or pattern; the argument says why, in words fit for a reply."""


class Agent(Enum):
    """Who lets the mail be sent: anybody who has an address there, its owner, or a program or firm for
    others."""

    PUBLIC = "Public"
    DIRECT = "Direct"
    AGENT = "Agent"
    UNKNOWN = ""


class MailType(Enum):
    """What the mail of an account or domain is for."""

    BULK = "Bulk"
    BUSINESS = "Business"
    GOVERNMENT = "Government"
    EDUCATIONAL = "Educational"
    COMMERCE = "Commerce"
    PERSONAL = "Personal"
    UNKNOWN = ""


_AGENTS = {agent.value.lower(): agent for agent in Agent if agent.value}
_MAIL_TYPES = {kind.value.lower(): kind for kind in MailType if kind.value}
_MAIL_TYPES |= {"gov": MailType.GOVERNMENT, "edu": MailType.EDUCATIONAL}
UNSOLICITED = frozenset({MailType.BULK, MailType.COMMERCE})
"""Types that are taken only in UNSOLICITED_MAIL_HOURS unless the sender is known."""


@dataclass(frozen=True, slots=True)
class MailClass:
    """The class of one message, its parts in their canonical spelling."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "::".join(self.parts)

    @property
    def agent(self) -> Agent:
        """The first part."""
        return _AGENTS.get(self.parts[0].lower(), Agent.UNKNOWN)

    @property
    def mail_type(self) -> MailType:
        """The second part."""
        return _MAIL_TYPES.get(self.parts[1].lower(), MailType.UNKNOWN)

    @property
    def message_type(self) -> str:
        """The last part: what the user says it is."""
        return self.parts[-1]

    @property
    def is_unsolicited(self) -> bool:
        """Whether it is of the types that may be kept to certain hours."""
        return self.mail_type in UNSOLICITED


@dataclass(frozen=True, slots=True)
class ClassPattern:
    """``*`` stands for one part, at the end for one or more."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "::".join(self.parts)

    @property
    def specificity(self) -> tuple[int, ...]:
        """Greater is more specific: the number of literal parts, then how far to the left they stand."""
        literals = [-at for at, part in enumerate(self.parts) if part != _ANY]
        return (len(literals), *literals)

    def matches(self, mail_class: MailClass) -> bool:
        """Whether the class is one of those meant."""
        open_end = self.parts[-1] == _ANY
        if len(mail_class.parts) < len(self.parts) or (
            not open_end and len(mail_class.parts) > len(self.parts)
        ):
            return False
        return all(
            part in (_ANY, said) or part.lower() == said.lower()
            for part, said in zip(self.parts, mail_class.parts, strict=False)
        )


@dataclass(frozen=True, slots=True)
class Ranked:
    """A pattern with what is to be done with the mail that it matches best."""

    pattern: ClassPattern
    accepted: bool
    price: int = 0
    """Thousandths of the currency; only of accepted ones."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Patterns of which the most specific decides; DENY before ACCEPT, then the higher price, where two are
    equally specific, so that the order in which they are written never matters."""

    entries: tuple[Ranked, ...]

    def best(self, mail_class: MailClass) -> Ranked | None:
        """The entry that decides; None when none matches."""
        matching = (entry for entry in self.entries if entry.pattern.matches(mail_class))
        return max(
            matching, key=lambda one: (one.pattern.specificity, not one.accepted, one.price), default=None
        )


@lru_cache(maxsize=1000)
def parse_class(text: str) -> MailClass:
    """A class as a message bears it: of a few, thousands of times. Raises ClassError."""
    parts = _parts(text)
    if _ANY in parts:
        raise ClassError("a class has no *")
    if len(parts) < FEWEST_PARTS:
        raise ClassError("a class has three parts or more: agent::mail::message")
    return MailClass(_canonical(parts))


def parse_pattern(text: str) -> ClassPattern:
    """A pattern as a policy bears it. Raises ClassError, for one that matches nothing too."""
    parts = _parts(text)
    if len(parts) < FEWEST_PARTS and parts[-1] != _ANY:
        raise ClassError("a pattern of less than three parts ends with *")
    return ClassPattern(_canonical(parts))


def matches_any(patterns: Iterable[ClassPattern], mail_class: MailClass) -> bool:
    """Whether one of the patterns matches."""
    return any(pattern.matches(mail_class) for pattern in patterns)


def _parts(text: str) -> tuple[str, ...]:
    if len(text) > MAX_LENGTH:
        raise ClassError(f"a class has at most {MAX_LENGTH} characters")
    parts = tuple(part.strip(" \t") for part in text.split("::"))
    if len(parts) > MOST_PARTS:
        raise ClassError(f"a class has at most {MOST_PARTS} parts")
    if not all(part == _ANY or _PART.fullmatch(part) for part in parts):
        raise ClassError("a part of a class is a word of ASCII letters and digits")
    return parts


def _canonical(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The spelling of the known types; the rest as it stands."""
    spelled = list(parts)
    if agent := _AGENTS.get(parts[0].lower()):
        spelled[0] = agent.value
    if len(parts) > 1 and (kind := _MAIL_TYPES.get(parts[1].lower())):
        spelled[1] = kind.value
    return tuple(spelled)
