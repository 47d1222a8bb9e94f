"""What the workers of one machine have together of MT2's transfers: each in one hand, and parts in files.

A transfer is *claimed* before its envelope is judged and until it has ended, or until what broke off lies in
its file: so no two workers take the same message, and whichever its peer comes back to finds what there is
(MT2-18a, MT2-18b). What hangs on a connection at another worker is asked for there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from outrider.reception.interface import Session
from outrider.reception.mt2_claims import TransferClaims
from outrider.reception.mt2_saved import MOST_PARTIALS, Key, SavedPartials
from outrider.reception.mt2_transfers import Course, Transfer, TransferBook, recalled, save
from outrider.spool.interface import SpoolUnavailable

AskSiblings = Callable[[Key, bool], Awaitable[Mapping[str, int] | None]]
"""Ask the other workers what they hold of a transfer that is under way there; None: none of them knows it.
With True it is to be given up where it only waits for octets: it lies in its file then, and is unclaimed."""


@dataclass(slots=True)
class Sharing:
    """What a worker knows its siblings by."""

    claims: TransferClaims
    ask: AskSiblings


class SharedPartials:
    """What is kept of transfers whose connection broke: written down at once, for whichever worker is asked
    next. Implements `mt2_transfers.Kept`."""

    def __init__(self, saved: SavedPartials, disclaim: Callable[[Transfer], None]) -> None:
        """`disclaim` is told of what lies in its file now, or could not be written."""
        self.saved = saved
        self._disclaim = disclaim
        self._saving: dict[Key, asyncio.Task[None]] = {}

    def find(self, key: Key, session: Session) -> Transfer | None:
        """What is kept of a transfer that `session` asks about."""
        return recalled(self.saved, key, session)

    def take(self, key: Key) -> Transfer | None:
        """Nothing is kept but its file, and that until the transfer has ended: this worker may die before."""
        del key
        return None

    def keep(self, transfer: Transfer) -> bool:
        """Begin to write it down; False when it is too large, or when too much is being written."""
        of_peer = sum(peer == transfer.peer for peer, _ in self._saving)
        if transfer.size > self.saved.space or of_peer >= MOST_PARTIALS or transfer.key in self._saving:
            return False
        task = asyncio.get_running_loop().create_task(self._keep(transfer))
        self._saving[transfer.key] = task
        return True

    async def _keep(self, transfer: Transfer) -> None:
        try:
            await save(self.saved, transfer, self.saved.now() + self.saved.keep_for)
        finally:
            del self._saving[transfer.key]
            self._disclaim(transfer)

    def is_writing(self, key: Key) -> bool:
        """Whether it is being written down."""
        return key in self._saving

    async def written(self, key: Key) -> None:
        """Wait until it is written down, if it is being."""
        while (task := self._saving.get(key)) is not None:
            await asyncio.wait([task])

    def forget(self, key: Key) -> None:
        """Remove it."""
        self.saved.forget(key)

    async def close(self) -> None:
        """The worker ends: what is being written is."""
        if self._saving:
            await asyncio.wait(set(self._saving.values()))


class SharedBook(TransferBook):
    """The transfers of one of several workers."""

    def __init__(self, saved: SavedPartials, sharing: Sharing) -> None:
        super().__init__(saved.keep_for, saved.space, saved)
        self._sharing = sharing
        self._written = SharedPartials(saved, self.disclaim)
        self.partials = self._written

    def owns(self, transfer: Transfer) -> bool:
        """See `TransferBook`."""
        return transfer.is_claimed

    async def claimed(self, transfer: Transfer) -> bool:
        """See `TransferBook`."""
        if not transfer.peer:
            return True
        await self._written.written(transfer.key)
        if not self._take(transfer) and transfer.state is Course.OPEN:
            await self._sharing.ask(transfer.key, True)
            self._take(transfer)
        return transfer.is_claimed

    def _take(self, transfer: Transfer) -> bool:
        if transfer.state is Course.OPEN:
            transfer.is_claimed = self._sharing.claims.take(transfer.key)
        return transfer.is_claimed

    def disclaim(self, transfer: Transfer) -> None:
        """See `TransferBook`."""
        if transfer.is_claimed:
            transfer.is_claimed = False
            self._sharing.claims.give_back(transfer.key)

    async def held_elsewhere(self, key: Key) -> Mapping[str, int] | None:
        """See `TransferBook`."""
        await self._written.written(key)
        if not self._is_elsewhere(key):
            return None
        told = await self._sharing.ask(key, False)
        if told is None and self._is_elsewhere(key):
            raise SpoolUnavailable("another worker has that transfer, and does not say how far it is")
        return told

    def _is_elsewhere(self, key: Key) -> bool:
        if self.under_way(key) is not None or self._written.is_writing(key):
            return False
        return self._sharing.claims.is_elsewhere(key)

    async def written(self, key: Key) -> None:
        """See `TransferBook`."""
        await self._written.written(key)
