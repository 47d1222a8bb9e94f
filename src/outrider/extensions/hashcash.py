"""Hashcash: a sender pays for a message with work, a stamp for each recipient, each good once (MT2-21b).

The data are stamps of version 1, one a line; a stamp's resource is the recipient's address. A stamp that has
been spent refuses the recipient it was to pay for. It is spent by one *transfer*: the same transfer repeated
after a lost connection is paid already.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import ClassVar

from outrider.extensions.base import DeliveryBase, texts, whole_number, word_of
from outrider.extensions.choices import user_key
from outrider.extensions.hashcash_stamp import Stamp, StampError, mint, parse_stamp
from outrider.extensions.interface import (
    PASSED,
    Carried,
    EnvelopeFacts,
    ExtensionError,
    ExtensionVerdict,
    OutgoingMail,
    Refusal,
)
from outrider.extensions.oids import HASHCASH, code_of
from outrider.model.address import Address
from outrider.model.facts import Fact, Provenance

DAY_S = 86_400.0
AHEAD_S = 2 * DAY_S
"""How far a sender's clock may be ahead, and how long an outdated stamp is still taken; as hashcash itself
has it."""
MAX_STAMPS = 100
FIELDS = ("X-Hashcash", "Hashcash")
"""In which programs for mail by SMTP put stamps."""

PAID = code_of(HASHCASH, 2, 1)
UNPAID = code_of(HASHCASH, 5, 1)
SPENT = code_of(HASHCASH, 5, 2)
TOO_CHEAP = code_of(HASHCASH, 5, 3)
OUTDATED = code_of(HASHCASH, 5, 4)


class Hashcash(DeliveryBase):
    """See the module. Options: `bits` (the least a stamp must be worth), `days` (how old it may be),
    `require` (``never``, or ``always``: who brings no stamp is refused), `stamp` (domains for which our
    users' mail is stamped here)."""

    name: ClassVar[str] = "hashcash"
    oid: ClassVar[str] = HASHCASH
    summary: ClassVar[str] = "stamps of work (hashcash version 1), each good once"
    screens: ClassVar[bool] = True

    def read_options(self, options: dict[str, object]) -> None:
        """See `ExtensionBase`."""
        self._bits = whole_number(options, "bits", 20, 1, 60)
        self._days = whole_number(options, "days", 28, 1, 366)
        self._stamped = frozenset(one.lower() for one in texts(options, "stamp"))
        self._required = word_of(options, "require", "never", ("never", "always")) == "always"

    async def screen(self, envelope: EnvelopeFacts) -> ExtensionVerdict:
        """A message without stamps."""
        if not self._required or envelope.report or envelope.sender is None:
            return PASSED
        return self._missing(envelope.recipients)

    async def check(self, envelope: EnvelopeFacts, data: str) -> ExtensionVerdict:
        """Each recipient needs a stamp in his own name; stamps for others are theirs to look at."""
        stamps = self._read(data)
        refused: dict[Address, Refusal] = {}
        worth: list[int] = []
        for recipient in envelope.recipients:
            stamp = stamps.get(user_key(recipient))
            if stamp is None:
                if self._required:
                    refused[recipient] = self._unpaid()
                continue
            refusal = self._too_little(stamp, envelope.now) or await self._spend(stamp, envelope)
            if refusal is not None:
                refused[recipient] = refusal
            else:
                worth.append(stamp.bits)
        facts = (self._fact(min(worth), envelope.now),) if worth and not refused else ()
        return ExtensionVerdict(recipients=refused, facts=facts, text=f"{len(worth)} paid.")

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """Stamps that the user's own program has put into fields ``X-Hashcash``; for the domains in `stamp`,
        where one is missing, a new one."""
        lines = [text.strip() for name in FIELDS for text in mail.fields(name)][:MAX_STAMPS]
        wanted = {user_key(one): one for one in mail.recipients[:MAX_STAMPS]}
        stamps: dict[str, str] = {}
        for line in lines:
            with contextlib.suppress(StampError):
                stamp = parse_stamp(line)
                if stamp.resource.casefold() in wanted:
                    stamps[stamp.resource.casefold()] = line
        for key, recipient in wanted.items():
            if key not in stamps and recipient.domain in self._stamped:
                stamps[key] = await self._minted(mail, key)
        return Carried(HASHCASH, "\n".join(stamps.values())) if stamps else None

    async def _minted(self, mail: OutgoingMail, resource: str) -> str:
        """The same one at each attempt: an envelope that is sent again must be the same (MT2-18a)."""
        key = f"minted/{hashlib.sha256(f'{mail.message} {resource}'.encode()).hexdigest()}"
        memory, bits = self.context.memory, self._bits
        kept = await memory.get(key)
        if kept is not None:
            return kept
        rand = self.context.new_token()
        stamp = await self.context.in_thread(lambda: mint(resource, bits, mail.now, rand))
        return await memory.add(key, stamp, mail.now + self._days * DAY_S)

    def _read(self, data: str) -> dict[str, Stamp]:
        lines = [line for line in data.split("\n") if line.strip()]
        if not 0 < len(lines) <= MAX_STAMPS:
            raise ExtensionError(f"from 1 to {MAX_STAMPS} stamps")
        try:
            stamps = [parse_stamp(line.strip()) for line in lines]
        except StampError as error:
            raise ExtensionError(f"a stamp is {error}") from error
        return {stamp.resource.casefold(): stamp for stamp in stamps}

    def _too_little(self, stamp: Stamp, now: float) -> Refusal | None:
        if not now - self._days * DAY_S - AHEAD_S <= stamp.made_at <= now + AHEAD_S:
            return Refusal(OUTDATED, f"The stamp is of another time; at most {self._days} days are good.")
        if stamp.bits < self._bits or not stamp.is_paid:
            return Refusal(TOO_CHEAP, f"The stamp is not worth {self._bits} bits.")
        return None

    async def _spend(self, stamp: Stamp, envelope: EnvelopeFacts) -> Refusal | None:
        """Of several transfers that bring one stamp, one has it, whichever worker or moment asks."""
        forgotten = stamp.made_at + self._days * DAY_S + 2 * AHEAD_S
        spent_by = await self.context.memory.add(stamp.key, envelope.transfer, forgotten)
        return None if spent_by == envelope.transfer else Refusal(SPENT, "The stamp has been spent already.")

    def _missing(self, recipients: tuple[Address, ...]) -> ExtensionVerdict:
        return ExtensionVerdict(recipients=dict.fromkeys(recipients, self._unpaid()))

    def _unpaid(self) -> Refusal:
        return Refusal(UNPAID, f"A hashcash stamp of {self._bits} bits for this recipient is required.")

    def _fact(self, bits: int, now: float) -> Fact:
        return Fact("mt2.hashcash", bits, Provenance.PROVEN, "work, by its stamp", now)
