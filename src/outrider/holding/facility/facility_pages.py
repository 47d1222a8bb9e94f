"""The holding facility as the retrieval page sees it (implements `page_source.PageSource`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from outrider.holding.facility.held_records import CopyState
from outrider.holding.facility.held_store import Changed, HeldStore, Unlocked
from outrider.holding.facility.service import (
    NOT_NOW_S,
    FacilityParts,
    count,
    opened,
    pieces,
    received,
    told,
)
from outrider.holding.pages.source import HeldDescription, ListedAttachment, PageBusy, Proof
from outrider.holding.web import GoneMeanwhile, IPAddress
from outrider.protocols.amdp.attachments import read_attachments
from outrider.protocols.amdp.values import EnvelopeError
from outrider.tables.database import StoreUnavailable

T = TypeVar("T")


class HeldPages:
    """See `PageSource`."""

    def __init__(self, parts: FacilityParts) -> None:
        self._parts = parts

    async def describe(self, id: str, secret: str, client: IPAddress) -> HeldDescription | None:  # noqa: A002
        """See `PageSource`."""
        now = self._parts.clock()
        self._may_ask(client, now)
        found = await self._read(lambda store: store.find(id, secret, now))
        if self._parts.guesses.missed(client, int(found is None), now):
            self._parts.observer.guessing_stopped(str(client))
        return None if found is None else description_of(found)

    async def open(self, id: str, secret: str, client: IPAddress) -> HeldDescription | None:  # noqa: A002
        """See `PageSource`."""
        now, errands = self._parts.clock(), self._parts.errands
        self._may_ask(client, now)
        changed = await self._write(lambda store: opened(store, errands, id, secret, now))
        self._count("open", client, changed, now)
        if changed is None:
            return None
        how = "opened: unauthenticated receiver" if changed.copy.by_link else "opened"
        told(self._parts.observer, errands, changed, how)
        return description_of(changed)

    async def content(self, id: str, secret: str, start: int = 0) -> AsyncIterator[bytes]:  # noqa: A002
        """See `PageSource`."""
        now = self._parts.clock()

        def look(store: HeldStore) -> Unlocked | None:
            found = store.find(id, secret, now)
            return store.unlocked(id, secret, now) if found is not None and found.copy.opened_at else None

        unlocked = await self._read(look)
        if unlocked is None:
            raise GoneMeanwhile("there is nothing to be had")
        try:
            async for octets in pieces(self._parts.store, unlocked, self._parts.clock, start):
                yield octets
        except StoreUnavailable as error:
            raise PageBusy(NOT_NOW_S) from error

    async def received(self, id: str, secret: str, client: IPAddress) -> bool:  # noqa: A002
        """See `PageSource`."""
        now, errands = self._parts.clock(), self._parts.errands
        self._may_ask(client, now)
        changed = await self._write(lambda store: received(store, errands, id, secret, None, now))
        self._count("received", client, changed, now)
        if changed is None:
            return False
        told(self._parts.observer, errands, changed, "receipt confirmed by a person")
        return True

    def _may_ask(self, client: IPAddress, now: float) -> None:
        wait = self._parts.guesses.wait_s(client, now)
        if wait:
            raise PageBusy(wait, guessing=True)

    def _count(self, what: str, client: IPAddress, found: Changed | None, now: float) -> None:
        good = int(found is not None)
        count(self._parts.guesses, self._parts.observer, what, client, good, 1 - good, now)

    async def _read(self, work: Callable[[HeldStore], T]) -> T:
        try:
            return await self._parts.store.read(work)
        except StoreUnavailable as error:
            self._parts.observer.facility_failed("the page", error)
            raise PageBusy(NOT_NOW_S) from error

    async def _write(self, work: Callable[[HeldStore], T]) -> T:
        try:
            return await self._parts.store.write(work)
        except StoreUnavailable as error:
            self._parts.observer.facility_failed("the page", error)
            raise PageBusy(NOT_NOW_S) from error


def description_of(found: Changed) -> HeldDescription:
    """A copy as it is shown to its recipient."""
    copy, message = found.copy, found.message
    try:
        attachments = read_attachments("AMDP-Attachments", message.attachments)
    except EnvelopeError:
        attachments = ()
    called_back = copy.state in (CopyState.AUTHENTICATED, CopyState.RETRIEVED) and not copy.by_link
    return HeldDescription(
        id=copy.ids.id,
        sender=message.sender,
        recipient=copy.recipient,
        subject=message.subject,
        mail_class=message.mail_class,
        language=message.language,
        attachments=tuple(ListedAttachment(one.name, one.media_type, one.size) for one in attachments),
        size=message.size,
        digest=message.digest,
        date=message.date,
        expires=copy.expires,
        proof=Proof.CALLED_BACK if called_back else Proof.LINK,
        proven_at=copy.proven_at,
        proven_by=copy.proven_by,
        opened_at=copy.opened_at,
        received_at=copy.received_at,
    )
