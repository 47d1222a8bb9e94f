"""Mail that came by SMTP and was MT2's before: its objects again, where nothing of them was lost (MT2-28b).

What rides along is believed only if the body meets the digest that was sealed, and every seal is good; all
other mail is plain, and goes through the gateway with all its fields.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

from outrider.gateway.ride_along import Recovered, recover, restore
from outrider.identity.trace import Circumstances, SealedMessage, SealPaths, verify_trace
from outrider.model.content import Body, Content, InlineBody
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


async def recovered(message: StoredMessage, paths: SealPaths) -> StoredMessage:
    """The message with its objects, if it has brought them and they are good; else as it is.

    Raises OSError where the body cannot be read.
    """
    content = message.content
    if content is None or message.objects is not None or _RECIPE not in content.headers.lower():
        return message
    if isinstance(content.body, InlineBody) and content.body.size <= INLINE:
        found = _recover(content, message.received_at, paths)
    else:
        found = await asyncio.to_thread(_recover, content, message.received_at, paths)
    if found is None:
        return message
    return replace(
        message, objects=found.objects, content=replace(content, body=RestoredBody(content.body, found))
    )


def _recover(content: Content, received_at: float, paths: SealPaths) -> Recovered | None:
    found = recover(content.headers, content.body.chunks())
    if not isinstance(found, Recovered):
        return None
    sealed = SealedMessage(found.objects.envelope, found.envelope)
    report = verify_trace(sealed, paths, Circumstances(received_at, received=received_at))
    return found if report.is_good else None
