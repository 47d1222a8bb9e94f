"""The addresses of a mailing list: the list itself, and those beside it that are for its own business.

``name@`` takes posts; ``name-subscribe@``, ``name-unsubscribe@`` and ``name-request@`` take wishes;
``name-confirm+TOKEN@``, ``name-unsubscribe+TOKEN@``, ``name-approve+TOKEN@`` and ``name-reject+TOKEN@`` take
the answers to what the list has sent; ``name-bounces+TOKEN@`` takes the reports on one member's copies
(VERP); ``name-owner@`` leads to the owners as an alias does. The separator before a token is always ``+``:
the list writes these addresses itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

MAX_NAME = 27
"""So that ``name-approve+`` with a queue id and its seal is a local part of 64 octets (RFC 5321
4.5.3.1.1)."""

_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{MAX_NAME - 1}}}")
_TOKEN = re.compile(r"[a-z0-9-]{1,40}")


class Purpose(Enum):
    """What one of a list's addresses is for; the value is the word behind the list's name."""

    POST = ""
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    REQUEST = "request"
    CONFIRM = "confirm"
    APPROVE = "approve"
    REJECT = "reject"
    BOUNCES = "bounces"
    OWNER = "owner"


_BY_WORD = {purpose.value: purpose for purpose in Purpose if purpose.value}
_WITH_TOKEN = {Purpose.CONFIRM, Purpose.APPROVE, Purpose.REJECT}
_WITHOUT_TOKEN = {Purpose.SUBSCRIBE, Purpose.REQUEST, Purpose.OWNER}


@dataclass(frozen=True, slots=True)
class ListAddress:
    """One of a list's addresses, taken apart."""

    name: str
    """The list's local part."""
    purpose: Purpose
    token: str = ""


def is_list_name(name: str) -> bool:
    """Whether a list may bear that name: a plain, lower-case word of bounded length."""
    return _NAME.fullmatch(name) is not None


def list_address(local: str, names: Collection[str]) -> ListAddress | None:
    """What a local part means where the lists `names` are; None when it is none of theirs."""
    folded = local.casefold()
    if folded in names:
        return ListAddress(folded, Purpose.POST)
    base, plus, token = folded.partition("+")
    name, _, word = base.rpartition("-")
    purpose = _BY_WORD.get(word)
    if purpose is None or name not in names:
        return None
    if (purpose in _WITH_TOKEN and not plus) or (purpose in _WITHOUT_TOKEN and plus):
        return None
    if plus and not _TOKEN.fullmatch(token):
        return None
    return ListAddress(name, purpose, token)


def list_local(name: str, purpose: Purpose, token: str = "") -> str:
    """The local part of one of a list's addresses."""
    if purpose is Purpose.POST:
        return name
    return f"{name}-{purpose.value}" + (f"+{token}" if token else "")
