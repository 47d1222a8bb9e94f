"""What is asked of a list in DNS, and what its answer says (RFC 5782, RFC 5518)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from outrider.trust.lists import NamedList
from outrider.trust.subjects import IPAddress, Role, Subject

_MAX_NAME = 253
_MAX_TXT = 1000
_NOT_LISTED_IPV4 = IPv4Address("127.0.0.1")
_NOT_LISTED_IPV6 = IPv6Address("::ffff:127.0.0.1")
_LISTED_IPV4 = IPv4Address("127.0.0.2")
_NOT_LISTED_DOMAIN = "invalid"
_LISTED_DOMAIN = "test"


@dataclass(frozen=True, slots=True)
class Question:
    """One name in DNS, of type TXT or A."""

    name: str
    is_txt: bool = False


class Said(Enum):
    """What came of a question."""

    HIT = "hit"
    MISS = "miss"
    SILENT = "silent"
    """No answer in time, or one that says nothing about the subject."""
    REFUSED = "refused"
    """The list does not answer us."""
    LISTS_ALL = "lists-all"
    """The list also lists what no list may list: it is dead, and its zone answers to everything."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a list said of one subject."""

    said: Said
    detail: str = ""
    """For the operator: the codes of a hit, the reason of silence."""


def question_about(asked: NamedList, subject: Subject) -> Question | None:
    """The question, or None when there can be none: the name would be too long for DNS."""
    if asked.kind == "vbr":
        # RFC 5518 section 5: the domain, `_vouch`, the vouching service.
        name = f"{subject.name}._vouch.{asked.source}"
    elif subject.role is Role.CLIENT:
        name = f"{reversed_address(subject.address)}.{asked.source}"
    else:
        name = f"{subject.name}.{asked.source}"
    return Question(name, asked.kind == "vbr") if len(name) <= _MAX_NAME else None


def reversed_address(address: IPAddress) -> str:
    """RFC 5782 sections 2.1 and 2.4: octets or nibbles, from the last to the first."""
    if isinstance(address, IPv4Address):
        return ".".join(reversed(str(address).split(".")))
    return ".".join(reversed(address.exploded.replace(":", "")))


def control_question(asked: NamedList, subject: Subject) -> Question | None:
    """What no living list lists (RFC 5782 section 5); asked behind a hit. None = there is none."""
    if asked.kind == "vbr":
        return None
    if subject.role is not Role.CLIENT:
        return Question(f"{_NOT_LISTED_DOMAIN}.{asked.source}")
    if subject.address == _NOT_LISTED_IPV4:
        return None
    control: IPAddress = _NOT_LISTED_IPV4 if subject.address.version == 4 else _NOT_LISTED_IPV6
    return Question(f"{reversed_address(control)}.{asked.source}")


def probe_questions(asked: NamedList) -> tuple[Question, Question]:
    """What a living list must list, and must not (RFC 5782 section 5)."""
    if asked.kind in ("dnsbl", "dnswl"):
        listed, unlisted = reversed_address(_LISTED_IPV4), reversed_address(_NOT_LISTED_IPV4)
    else:
        listed, unlisted = _LISTED_DOMAIN, _NOT_LISTED_DOMAIN
    return Question(f"{listed}.{asked.source}"), Question(f"{unlisted}.{asked.source}")


def judge_addresses(asked: NamedList, addresses: Iterable[str]) -> Answer:
    """What A records say."""
    answers = [parsed for text in addresses if (parsed := _ipv4(text)) is not None]
    refusals = [answer for answer in answers if asked.is_refusal(answer)]
    if refusals:
        return Answer(Said.REFUSED, f"{refusals[0]}: the list does not answer this resolver")
    hits = sorted(answer for answer in answers if asked.counts(answer))
    if hits:
        return Answer(Said.HIT, ", ".join(str(hit) for hit in hits[:5]))
    return Answer(Said.MISS)


def _ipv4(text: str) -> IPv4Address | None:
    address = ip_address(text)
    return address if isinstance(address, IPv4Address) else None


def judge_vouching(asked: NamedList, texts: tuple[bytes, ...]) -> Answer:
    """What TXT records of a vouching service say: types of mail, parted by blanks (RFC 5518 section 5).

    More than one record is a fault of the service, and then nothing is vouched for.
    """
    if len(texts) != 1:
        return Answer(Said.MISS, "" if not texts else "more than one record")
    words = frozenset(texts[0][:_MAX_TXT].decode("ascii", "replace").lower().split())
    vouched = sorted(words & (asked.types | {"all"}))
    return Answer(Said.HIT, " ".join(vouched)) if vouched else Answer(Said.MISS)
