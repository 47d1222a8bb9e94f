"""Negotiated allow-lists: a sender asks to be welcome, and once he is, his mail says so (MT2-21b).

Data in an envelope:

- ``request TEXT``: the sender asks. It waits for the user's word in `outrider consent`.
- ``grant TOKEN UNTIL``, in a control message: the answer. The sender's host keeps the token.
- ``token TOKEN``: what his mail to that recipient carries from then on; it gives the fact
  ``mt2.allow-listed``, on which policy may rest. A token is good for one sender and one recipient, so who
  steals one has nothing.
- ``end``, in a control message: the permission is over.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import ClassVar

from outrider.extensions.base import DeliveryBase, whole_number
from outrider.extensions.choices import user_key
from outrider.extensions.interface import (
    Carried,
    EnvelopeFacts,
    ExtensionError,
    ExtensionMessage,
    ExtensionVerdict,
    OutgoingMail,
    RecipientRequest,
    Report,
    Rights,
)
from outrider.extensions.oids import ALLOW_LIST, code_of
from outrider.model.address import Address
from outrider.model.facts import Fact, Provenance

GRANTED = code_of(ALLOW_LIST, 2, 1)
ASKED = code_of(ALLOW_LIST, 3, 1)
NO_SHAPE = code_of(ALLOW_LIST, 5, 1)

DAY_S = 86_400.0
_SHAPE = r"[a-z0-9]{20,64}"
_GRANT = re.compile(rf"grant ({_SHAPE}) ([0-9]{{1,12}})")
_SHOWN = re.compile(rf"token (\S{{3,320}}) ({_SHAPE})")
MAX_SHAPES = 100


class AllowList(DeliveryBase):
    """See the module. Options: `days` (how long a permission lasts)."""

    name: ClassVar[str] = "allow-list"
    oid: ClassVar[str] = ALLOW_LIST
    summary: ClassVar[str] = "senders ask to be welcome; users say yes or no"
    rights: ClassVar[Rights] = Rights.PROVEN

    def read_options(self, options: dict[str, object]) -> None:
        """See `ExtensionBase`."""
        self._days = whole_number(options, "days", 365, 1, 3660)

    async def check(self, envelope: EnvelopeFacts, data: str) -> ExtensionVerdict:
        """By the first word."""
        word, _, rest = data.partition(" ")
        if envelope.report:
            await self._answered(envelope, data)
            return ExtensionVerdict(text="Noted.")
        if envelope.sender is None:
            raise ExtensionError("the null sender cannot be welcome")
        if word == "request":
            text = f"{envelope.sender} asks that mail from him be welcome: {rest or 'no reason given'}"
            return ExtensionVerdict(asks=dict.fromkeys(envelope.recipients, text), text="The user is asked.")
        if word == "token":
            return await self._shown(envelope, envelope.sender, data)
        raise ExtensionError("one of request, token, grant, end")

    async def _shown(self, envelope: EnvelopeFacts, sender: Address, data: str) -> ExtensionVerdict:
        """The fact holds for a message when every recipient of ours has given its sender the token it
        shows."""
        tokens = _tokens(data)
        for recipient in envelope.recipients:
            granted = await self.context.memory.get(_granted_key(recipient, sender))
            shown = tokens.get(user_key(recipient), "")
            if granted is None or not hmac.compare_digest(granted, shown):
                return ExtensionVerdict(text=f"No valid token for {recipient}.")
        fact = Fact("mt2.allow-listed", True, Provenance.PROVEN, "a token its recipients gave", envelope.now)
        return ExtensionVerdict(facts=(fact,), text="Welcome.")

    async def _answered(self, envelope: EnvelopeFacts, data: str) -> None:
        """The answer to a request of ours: it is addressed to the one who asked, and its sender is the
        process of the domain that he asked."""
        found = _GRANT.fullmatch(data)
        if found is None and data != "end":
            raise ExtensionError("a control message of this extension says grant or end")
        for own in envelope.recipients:
            for key, peer in await self.context.memory.find(_asked_key(own)):
                if not _speaks_for(envelope.identities, peer):
                    continue
                if found is None:
                    await self.context.memory.drop(_held_key(user_key(own), peer))
                elif envelope.now < float(found[2]):
                    await self.context.memory.put(_held_key(user_key(own), peer), found[1], float(found[2]))
                    await self.context.memory.drop(key)

    async def consented(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """The user says yes: from now on the sender has a token. Asked again, he gets the same one."""
        until = float(int(request.at + self._days * DAY_S))
        key = _granted_key(request.user, request.sender)
        token = await self.context.memory.add(key, self.context.new_token(), until)
        report = Report(
            request.message_id, ALLOW_LIST, GRANTED, "Your mail is welcome.", request.user, "granted"
        )
        carried = Carried(ALLOW_LIST, f"grant {token} {int(until)}")
        return (ExtensionMessage(request.sender, report=report, delivery=(carried,)),)

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """Show the tokens that the sender has been given, or put the request that he makes by the field
        ``MT2-Allow-List: request TEXT``, and remember that it was made."""
        sender = user_key(mail.sender)
        asked = [one for one in mail.fields("MT2-Allow-List") if one.partition(" ")[0] == "request"]
        if asked:
            for recipient in mail.recipients:
                peer = user_key(recipient)
                key = _asked_key(mail.sender) + _short(peer)
                await self.context.memory.put(key, peer, mail.now + 60 * DAY_S)
            return Carried(ALLOW_LIST, asked[0][:1000])
        lines: list[str] = []
        for recipient in mail.recipients[:MAX_SHAPES]:
            token = await self.context.memory.get(_held_key(sender, user_key(recipient)))
            if token is not None:
                lines.append(f"token {user_key(recipient)} {token}")
        return Carried(ALLOW_LIST, "\n".join(lines)) if lines else None


def _tokens(data: str) -> dict[str, str]:
    lines = data.split("\n")
    found = [_SHOWN.fullmatch(line) for line in lines]
    if len(lines) > MAX_SHAPES or not all(found):
        raise ExtensionError(f"up to {MAX_SHAPES} lines of: token RECIPIENT TOKEN")
    return {one[1].casefold(): one[2] for one in found if one is not None}


def _asked_key(own: Address) -> str:
    return f"asked/{_short(user_key(own))}/"


def _granted_key(user: Address, sender: Address) -> str:
    return f"granted/{_short(user_key(user), user_key(sender))}"


def _held_key(own: str, peer: str) -> str:
    return f"held/{_short(own, peer)}"


def _short(*parts: str) -> str:
    """Two addresses may be longer than a key."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _speaks_for(identities: frozenset[str], peer: str) -> bool:
    """Whether one of the proven names is the domain's of the user who was asked, a host of it or its
    process."""
    domain = peer.rpartition("@")[2]
    names = (one.rpartition("@")[2] for one in identities)
    return any(one == domain or one.endswith(f".{domain}") for one in names)
