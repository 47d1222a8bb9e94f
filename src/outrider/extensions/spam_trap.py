"""Spam-trap match: whoever sends to an address that nobody has ever used tells us what spam is (MT2-21b).

Mail to a trap is taken, and the digest of its body is remembered. Everything with the same body that comes
later is known from its envelope: it is refused, or marked with the fact ``mt2.trap-match``, before an octet
of it is sent. Sites share what their traps catch: a *notice*, an envelope of its own, carries digests to the
sites named in `share_with`; it is taken from those who were granted this extension, and from nobody else.

Data of a notice: up to 100 lines ``SHA-256 UNTIL``, the digest in lower-case hexadecimal, the time in seconds
since the epoch.
"""

from __future__ import annotations

import re
from typing import ClassVar

from outrider.extensions.base import DeliveryBase, texts, whole_number, word_of
from outrider.extensions.choices import user_key
from outrider.extensions.interface import (
    PASSED,
    Carried,
    EnvelopeFacts,
    ExtensionError,
    ExtensionMessage,
    ExtensionVerdict,
    Refusal,
    Rights,
)
from outrider.extensions.oids import SPAM_TRAP, code_of
from outrider.model.address import Address, AddressError, parse_address
from outrider.model.facts import Fact, Provenance

DAY_S = 86_400.0
MATCHES = code_of(SPAM_TRAP, 5, 1)
MAX_DIGESTS = 100
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9]{1,12})")


class SpamTrap(DeliveryBase):
    """See the module. Options: `traps` (addresses), `share_with` (domains), `action` (``refuse`` or
    ``mark``), `days` (how long a digest is remembered)."""

    name: ClassVar[str] = "spam-trap"
    oid: ClassVar[str] = SPAM_TRAP
    summary: ClassVar[str] = "knows again what was sent to spam traps, here or at sites that share"
    rights: ClassVar[Rights] = Rights.GRANTED
    screens: ClassVar[bool] = True

    def read_options(self, options: dict[str, object]) -> None:
        """See `ExtensionBase`."""
        self._traps = frozenset(_address_key(one) for one in texts(options, "traps"))
        self._partners = tuple(_postmaster(one) for one in texts(options, "share_with"))
        self._refuses = word_of(options, "action", "refuse", ("refuse", "mark")) == "refuse"
        self._days = whole_number(options, "days", 30, 1, 366)

    async def check(self, envelope: EnvelopeFacts, data: str) -> ExtensionVerdict:
        """A notice."""
        if envelope.objects:
            raise ExtensionError("a notice is an envelope and nothing else")
        found = [_LINE.fullmatch(line) for line in data.split("\n")]
        if len(found) > MAX_DIGESTS or not all(found):
            raise ExtensionError(f"up to {MAX_DIGESTS} lines of: SHA-256 UNTIL")
        latest = envelope.now + self._days * DAY_S
        for one in found:
            assert one is not None, "all of them match"
            if float(one[2]) > envelope.now:
                await self.context.memory.add(
                    one[1], f"noticed by {envelope.peer}", min(float(one[2]), latest)
                )
        return ExtensionVerdict(text=f"{len(found)} noted.")

    async def screen(self, envelope: EnvelopeFacts) -> ExtensionVerdict:
        """Any message: for a trap, or seen in one."""
        body = next((one for one in envelope.objects if one.media_type != "message/headers"), None)
        if body is None or envelope.report:
            return PASSED
        if any(user_key(one) in self._traps for one in envelope.recipients):
            return await self._caught(envelope, body.sha256)
        how = await self.context.memory.get(body.sha256)
        if how is None:
            return PASSED
        text = "This message has been sent to addresses that nobody has ever used."
        if self._refuses:
            return ExtensionVerdict(Refusal(MATCHES, text))
        fact = Fact("mt2.trap-match", True, Provenance.PROVEN, how, envelope.now)
        return ExtensionVerdict(facts=(fact,), text=f"{text} {how}.")

    async def _caught(self, envelope: EnvelopeFacts, digest: str) -> ExtensionVerdict:
        """Partners are told once of each body."""
        until = float(int(envelope.now + self._days * DAY_S))
        first = f"caught in {envelope.transfer}"
        if await self.context.memory.add(digest, first, until) != first:
            return PASSED
        notice = Carried(SPAM_TRAP, f"{digest} {int(until)}")
        return ExtensionVerdict(
            messages=tuple(ExtensionMessage(one, delivery=(notice,)) for one in self._partners),
            text="Caught.",
        )


def _address_key(text: str) -> str:
    try:
        return user_key(parse_address(text))
    except AddressError as error:
        raise ValueError(f"traps: {text!r} is no address: {error}") from error


def _postmaster(domain: str) -> Address:
    """Who is there in every domain (RFC 5321 section 4.5.1)."""
    try:
        return parse_address(f"postmaster@{domain}")
    except AddressError as error:
        raise ValueError(f"share_with: {domain!r} is no domain: {error}") from error
