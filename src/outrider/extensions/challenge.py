"""Challenge and response: mail from strangers waits until they have answered a question (MT2-21c).

A user who has enabled it gets mail from those whom he knows at once. A stranger's message waits in the
queue, and the stranger is sent ``challenge TOKEN``; his answer, ``answer TOKEN`` from the same address,
makes him known. A message that is never answered goes back to its sender when the queue gives it up.

Only proven addresses are challenged: to write to others would be mail to people who never wrote. Unproven
mail waits in silence. An answer is given by the stranger's server when he consents, or always where he has
allowed it; nothing answers a challenge by itself, so two users who challenge each other do not go on for
ever: a message that carries a challenge, and nothing to read, is let through.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import ClassVar

from outrider.extensions.base import RecipientBase
from outrider.extensions.choices import user_key
from outrider.extensions.interface import (
    Carried,
    ExtensionError,
    ExtensionMessage,
    GuardVerdict,
    RecipientRequest,
)
from outrider.extensions.oids import CHALLENGE
from outrider.model.address import Address

DAY_S = 86_400.0
ANSWER_WITHIN_S = 7 * DAY_S
KNOWN_FOR_S = 10 * 366 * DAY_S
_DATA = re.compile(r"(challenge|answer) ([a-z0-9]{20,64})")


class Challenge(RecipientBase):
    """See the module."""

    name: ClassVar[str] = "challenge"
    oid: ClassVar[str] = CHALLENGE
    summary: ClassVar[str] = "mail from strangers waits until they have answered"

    def describe(self, request: RecipientRequest) -> str:
        """What the user reads before he says yes."""
        word, _ = _read(request.data)
        if word == "answer":
            return f"{request.sender} answers your question"
        return f"{request.sender} asks whether you have written to him; yes lets your message through"

    async def needs_consent(self, request: RecipientRequest) -> bool:
        """The answer to the user's own question needs no other word of his."""
        return _read(request.data)[0] != "answer"

    async def act(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """Answer a challenge, or learn that somebody has."""
        word, token = _read(request.data)
        if word == "challenge":
            carried = Carried(CHALLENGE, f"answer {token}", recipient=request.sender)
            text = f"Yes, {request.user} has written to you.\n"
            return (
                ExtensionMessage(
                    request.sender, request.user, recipient=(carried,), subject="Yes, it was me", text=text
                ),
            )
        asked = await self.context.memory.get(_key("asked", request.user, request.sender))
        if asked is None or not hmac.compare_digest(asked, token):
            raise ExtensionError("an answer to no question that was asked")
        await self.context.memory.put(
            _key("known", request.user, request.sender), "answered", request.at + KNOWN_FOR_S
        )
        return ()

    async def guard(self, request: RecipientRequest, *, has_body: bool) -> GuardVerdict | None:
        """Let those through whom the user knows, and what is itself part of the game."""
        if not has_body and _DATA.fullmatch(request.data):
            return None
        memory = self.context.memory
        if await memory.get(_key("known", request.user, request.sender)) is not None:
            return None
        waits = f"{request.user} does not know {request.sender}, who has not answered yet"
        if not request.proven:
            return GuardVerdict(f"{request.user} does not know {request.sender}, whose address is not proven")
        key, token = _key("asked", request.user, request.sender), self.context.new_token()
        if await memory.add(key, token, request.at + ANSWER_WITHIN_S) != token:
            return GuardVerdict(waits)
        return GuardVerdict(waits, (_challenge(request.user, request.sender, token),))


def _challenge(user: Address, stranger: Address, token: str) -> ExtensionMessage:
    text = (
        f"{user} does not know you yet. Your message waits, and reaches him when your mail server answers\n"
        "this question for you. If you have not written to him, do nothing.\n"
    )
    carried = Carried(CHALLENGE, f"challenge {token}", recipient=stranger)
    return ExtensionMessage(
        stranger, user, recipient=(carried,), subject="Have you written to me?", text=text
    )


def _read(data: str) -> tuple[str, str]:
    found = _DATA.fullmatch(data)
    if found is None:
        raise ExtensionError("the data are: challenge TOKEN, or answer TOKEN")
    return found[1], found[2]


def _key(what: str, user: Address, person: Address) -> str:
    both = f"{user_key(user)}\0{user_key(person)}"
    return f"{what}/{hashlib.sha256(both.encode()).hexdigest()}"
