"""vCard request: "you are not in my address book; who are you?" (MT2-21c)

Data in the headers object:

- ``request TEXT``: please send me your vCard. It waits for the user's word.
- ``card``, then from the next line on a vCard (RFC 6350): the answer. It is kept where this user has asked
  for it, else he is asked whether he wants it.

A user for whom ``strangers`` is ``ask`` (`outrider extension set vcard USER strangers ask`) lets the server
put the request to senders who are not in his address book: once each, and only where their address is proven,
so that no letter goes to somebody whose name was forged.
"""

from __future__ import annotations

import hashlib
import re
from typing import ClassVar

from outrider.extensions.base import RecipientBase, setting_key
from outrider.extensions.choices import user_key
from outrider.extensions.interface import (
    Carried,
    ExtensionError,
    ExtensionMessage,
    GuardVerdict,
    OutgoingMail,
    RecipientRequest,
)
from outrider.extensions.oids import VCARD
from outrider.model.address import Address

DAY_S = 86_400.0
ASKED_FOR_S = 60 * DAY_S
KEPT_S = 100 * 366 * DAY_S
MAX_CARD = 32_768
"""Characters: a card with a small picture."""
_VALUE = r"[^\x00-\x08\x0a-\x1f\x7f]*"
_LINE = re.compile(rf"[A-Za-z0-9.-]{{1,64}}(?:;[^\x00-\x1f\x7f]*)?:{_VALUE}|[ \t]{_VALUE}")


class VcardRequest(RecipientBase):
    """See the module. A user's own card is set by `outrider extension set vcard USER card -`."""

    name: ClassVar[str] = "vcard"
    oid: ClassVar[str] = VCARD
    summary: ClassVar[str] = "asks for vCards and sends them, when the user says so"

    def describe(self, request: RecipientRequest) -> str:
        """What the user reads before he says yes."""
        word, rest = _split(request.data)
        if word == "card":
            return f"{request.sender} sends his vCard: {_formatted_name(check_card(rest))}"
        return f"{request.sender} asks for your vCard: {rest or 'no reason given'}"

    async def needs_consent(self, request: RecipientRequest) -> bool:
        """A card that the user has asked for is kept without another word."""
        word, _ = _split(request.data)
        if word != "card" or not request.proven:
            return True
        return await self.context.memory.get(_asked_key(request.user, request.sender)) is None

    async def act(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """Keep the card, or send the user's own."""
        word, rest = _split(request.data)
        if word == "card":
            key = book_key(request.user, request.sender)
            kept = f"{user_key(request.sender)}\n{check_card(rest)}"
            await self.context.memory.put(key, kept, request.at + KEPT_S)
            await self.context.memory.drop(_asked_key(request.user, request.sender))
            return ()
        card = await self.context.memory.get(setting_key(request.user, "card")) or _least_card(request.user)
        carried = Carried(VCARD, f"card\n{check_card(card)}", recipient=request.sender)
        return (
            ExtensionMessage(
                request.sender, request.user, recipient=(carried,), subject="My vCard", text=card
            ),
        )

    async def guard(self, request: RecipientRequest, *, has_body: bool) -> GuardVerdict | None:
        """Ask a sender who is not in the address book for his card; his message is delivered all the same."""
        memory = self.context.memory
        if not has_body or request.data or not request.proven:
            return None
        if await memory.get(setting_key(request.user, "strangers")) != "ask":
            return None
        if await memory.get(book_key(request.user, request.sender)) is not None:
            return None
        asked = _asked_key(request.user, request.sender)
        if await memory.add(asked, request.message_id, request.at + ASKED_FOR_S) != request.message_id:
            return None
        why = "You are not in my address book."
        return GuardVerdict(messages=(_request(request.user, request.sender, why),))

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """Asked for by the field ``MT2-VCard: request TEXT``."""
        asked = [one for one in mail.fields("MT2-VCard") if one.partition(" ")[0].lower() == "request"]
        if not asked:
            return None
        for recipient in mail.recipients:
            await self.context.memory.add(
                _asked_key(mail.sender, recipient), mail.message, mail.now + ASKED_FOR_S
            )
        return Carried(VCARD, asked[0][:1000])


def _request(user: Address, stranger: Address, why: str) -> ExtensionMessage:
    text = f"{user} asks for your vCard: {why}\n\nAn answer with a vCard attached will do.\n"
    carried = Carried(VCARD, f"request {why}", recipient=stranger)
    return ExtensionMessage(stranger, user, recipient=(carried,), subject="Who are you, please?", text=text)


def _split(data: str) -> tuple[str, str]:
    if data.startswith("card\n"):
        return "card", data[5:]
    word, _, rest = data.partition(" ")
    if word != "request" or "\n" in data:
        raise ExtensionError("the data are: request TEXT, or card and a vCard from the next line on")
    return word, rest


def check_card(text: str) -> str:
    """One vCard of well-formed lines, ended by LF. Raises ExtensionError."""
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if len(text) > MAX_CARD or lines[0].upper() != "BEGIN:VCARD" or lines[-1].upper() != "END:VCARD":
        raise ExtensionError(f"not one vCard of up to {MAX_CARD} characters")
    if not all(_LINE.fullmatch(line) for line in lines) or len(_begins(lines)) != 1:
        raise ExtensionError("not a vCard (RFC 6350)")
    return "\n".join(lines) + "\n"


def _begins(lines: list[str]) -> list[str]:
    return [line for line in lines if line.upper() == "BEGIN:VCARD"]


def _formatted_name(card: str) -> str:
    for line in card.split("\n"):
        name, _, value = line.partition(":")
        if name.partition(";")[0].upper() == "FN":
            return value
    return "without a name"


def _least_card(user: Address) -> str:
    return f"BEGIN:VCARD\nVERSION:4.0\nFN:{user.local}\nEMAIL:{user}\nEND:VCARD\n"


def book_key(user: Address, person: Address) -> str:
    """Where a person's card in a user's address book is remembered."""
    return f"book/{_short(user)}/{_short(person)}"


def _asked_key(user: Address, person: Address) -> str:
    return f"asked/{_short(user)}/{_short(person)}"


def _short(address: Address) -> str:
    """Addresses may be longer than a key."""
    return hashlib.sha256(user_key(address).encode()).hexdigest()
