"""Mail that came by SMTP and was MT2's before: its objects again, where nothing of them was lost (MT2-28b).

What rides along is taken back only if the body meets the digest that was sealed, every seal is good, and the
trace is ours to go on with: the last seal hands the message to this host, and it is of the peer that brought
the message, where that one has proven who it is. A seal of ours behind one that names another host, an
address literal for instance, would be a gap, for which the next host refuses the message (MT2-23a); and
whoever has copied fields from mail that was meant for others would get them sealed by us. The sender is the
one of the SMTP envelope: the one that was judged when the mail came.

All other mail is plain, and goes through the gateway with all its fields.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from outrider.gateway.ride_along import Recovered, recover, restore
from outrider.identity.trace import Circumstances, SealedMessage, SealPaths, verify_trace
from outrider.model.content import Body, Content, InlineBody
from outrider.model.facts import Facts, Provenance
from outrider.model.message import StoredMessage

INLINE = 262_144
"""Octets of a body in memory that are looked at at once; others in a thread."""
_RECIPE = b"mt2-recipe:"


@dataclass(frozen=True, slots=True)
class RestoredBody:
    """The body as it was before SMTP: without a CRLF that SMTP added, decoded if a host has encoded it."""

    whole: Body
    found: Recovered

    @property
    def size(self) -> int:
        """Octets."""
        return self.found.body_length

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        """See `Body`."""
        return restore(self.found, self.whole.chunks(size))


async def recovered(message: StoredMessage, paths: SealPaths, names: Collection[str]) -> StoredMessage:
    """The message with its objects, if it has brought them and they are good; else as it is. `names`: as whom
    this host seals, lower case.

    Raises OSError where the body cannot be read.
    """
    content = message.content
    if content is None or message.objects is not None or _RECIPE not in content.headers.lower():
        return message
    circumstances = Circumstances(
        message.received_at, received=message.received_at, peer=_proven_peer(message), receiver=tuple(names)
    )
    if isinstance(content.body, InlineBody) and content.body.size <= INLINE:
        found = _recover(content, paths, circumstances)
    else:
        found = await asyncio.to_thread(_recover, content, paths, circumstances)
    if found is None or found.envelope.sender != message.envelope.sender:
        return message
    return replace(
        message, objects=found.objects, content=replace(content, body=RestoredBody(content.body, found))
    )


def _recover(content: Content, paths: SealPaths, circumstances: Circumstances) -> Recovered | None:
    found = recover(content.headers, content.body.chunks())
    if not isinstance(found, Recovered):
        return None
    report = verify_trace(SealedMessage(found.objects.envelope, found.envelope), paths, circumstances)
    return found if report.is_good else None


def _proven_peer(message: StoredMessage) -> tuple[str, ...] | None:
    """The host that brought the message; None where it has proven no name, as SMTP mostly does not."""
    fact = Facts(message.facts).value("host", Provenance.PROVEN)
    return (fact.lower(),) if isinstance(fact, str) else None
