"""Seals in addresses: whoever writes to one has had the mail in which the list named it.

A token says in clear whom it is about (a member's number, a queue id), and bears a seal that only the list's
key makes. Letters and digits in lower case, because local parts are folded on the way.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from outrider.routing.list_addresses import Purpose

SEAL_LENGTH = 12
"""Characters of five bits: 60, far more than can be tried by mail."""
CONFIRMATION_LENGTH = 24
"""120 bits: a confirmation is looked up by what it is, so it is the whole secret."""

_MEMBER = re.compile(rf"([1-9][0-9]{{0,9}})-([a-z2-7]{{{SEAL_LENGTH}}})")
_MESSAGE = re.compile(rf"([0-9a-z]{{15}})-([a-z2-7]{{{SEAL_LENGTH}}})")


class Tokens:
    """Makes and reads the tokens of all lists."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def for_member(self, name: str, purpose: Purpose, member: int) -> str:
        """In a member's own addresses: where his bounces go, and where he leaves. `name` is
        ``list@domain``."""
        return f"{member}-{self._seal(purpose.value, name, str(member))}"

    def member_of(self, name: str, purpose: Purpose, token: str) -> int | None:
        """The member's number; None for a token that we have not made."""
        found = _MEMBER.fullmatch(token)
        if found is None or not self._is_seal(found[2], purpose.value, name, found[1]):
            return None
        return int(found[1])

    def for_post(self, name: str, purpose: Purpose, message: str) -> str:
        """In a moderator's addresses: what becomes of the held message."""
        folded = message.lower()
        return f"{folded}-{self._seal(purpose.value, name, folded)}"

    def post_of(self, name: str, purpose: Purpose, token: str) -> str:
        """The held message's queue id; "" for a token that we have not made."""
        found = _MESSAGE.fullmatch(token)
        if found is None or not self._is_seal(found[2], purpose.value, name, found[1]):
            return ""
        return found[1].upper()

    def for_confirmation(self, name: str, wish: str, address: str, cause: str) -> str:
        """For one wish of one address; the same again when the same message (`cause`) is read again after a
        crash."""
        return self._digest("confirm", name, wish, address, cause)[:CONFIRMATION_LENGTH]

    def _is_seal(self, seal: str, *parts: str) -> bool:
        return hmac.compare_digest(seal, self._seal(*parts))

    def _seal(self, *parts: str) -> str:
        return self._digest(*parts)[:SEAL_LENGTH]

    def _digest(self, *parts: str) -> str:
        # Each part with its length: no two lists of parts are one text.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        octets = hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return base64.b32encode(octets).decode("ascii").lower().rstrip("=")
