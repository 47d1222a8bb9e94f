"""Writing to a body as a patient caller does."""

from __future__ import annotations

from outrider.reception.interface import BodyStream
from outrider.spool.interface import BodyWriter


async def put(body: BodyWriter | BodyStream, octets: bytes) -> None:
    """Append, and wait until there is room for more. Raises the spool's errors."""
    waiting = body.write(octets)
    if waiting is not None:
        await waiting
