"""The octets of a message on their way into the holding facility: measured, then kept in parts, in little
memory whatever their size (AMDP-22)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from outrider.holding.facility.held_store import PART, HeldStore
from outrider.holding.facility.held_thread import HeldThreads
from outrider.holding.pages.attachment_list import attachments_of
from outrider.model.content import Content
from outrider.model.message import StoredMessage
from outrider.protocols.amdp.attachments import HeldAttachment
from outrider.protocols.amdp.digest import Digest, digest_of

PARTS_AT_ONCE = 8
"""Parts of a large body in one transaction: 2 MiB."""
IN_LOOP = 65_536
"""Octets of a message that is measured at once: handing it to a thread would cost more."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the envelope says of the octets."""

    digest: Digest
    attachments: tuple[HeldAttachment, ...]


@dataclass(frozen=True, slots=True)
class KeptBody:
    """A body that is durable already, or so small that it goes into the transaction of its message."""

    name: str
    inline: tuple[bytes, ...] = ()
    written: bool = True
    """False: the message was here already, and nothing was written."""


def served(trace: bytes, content: Content) -> Iterator[bytes]:
    """Exactly what will be served: our trace fields, and the message as it was submitted."""
    return chain((trace,) if trace else (), content.chunks())


async def measure(trace: bytes, content: Content) -> Measured:
    """Digest and attachments. Raises what reading the content raises."""

    def work() -> Measured:
        digest = digest_of(served(trace, content))
        return Measured(digest, attachments_of(lambda: served(trace, content)))

    return work() if content.size <= IN_LOOP else await asyncio.to_thread(work)


async def keep_body(
    store: HeldThreads, message: StoredMessage, content: Content, name: str, now: float
) -> KeptBody:
    """The body, under a new name. What a crash leaves of it is swept away. Raises StoreUnavailable, and what
    reading the content raises."""
    if len(message.trace) + content.size <= PART:
        return KeptBody(name, tuple(filter(None, (b"".join(served(message.trace, content)),))) or (b"",))
    if await store.read(lambda one: one.is_held(message.id)):
        return KeptBody(name, written=False)
    parts = _parts(served(message.trace, content))
    number = 0
    while some := await asyncio.to_thread(lambda: list(islice(parts, PARTS_AT_ONCE))):
        await store.write(_adding(name, number, some, now))
        number += len(some)
    return KeptBody(name)


def _adding(name: str, first: int, parts: Sequence[bytes], now: float) -> Callable[[HeldStore], None]:
    def work(store: HeldStore) -> None:
        store.begin_body(name, now)
        for number, octets in enumerate(parts, first):
            store.add_part(name, number, octets)

    return work


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The octets in pieces of `PART`, the last one shorter."""
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= PART:
            yield bytes(waiting[:PART])
            del waiting[:PART]
    if waiting:
        yield bytes(waiting)
