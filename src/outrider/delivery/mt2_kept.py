"""Transfers that would not come out the same a second time, kept until the peer has answered (MT2-18a).

A host knows a transfer that it has seen before by the octets of its envelope. Ours are the same at every
attempt, since a seal's time is that of reception and most keys sign the same words the same way; but an RSA
signature is salted (PS256), and so are encrypted headers. What has such a part in it is written down before
its first octet is sent: an attempt after a restart, or by another node of the cluster, then goes on with it.

What is under way at the same time shares a transaction. What was answered for good is forgotten with the next
one, what its sender has given up when its time is over.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from outrider.config.schema import Config
from outrider.model.message import MessageId
from outrider.tables.database import Database, StoreUnavailable, Value, make_missing, open_store
from outrider.tables.serial_thread import SerialThread

FILE: Final = Path("mt2") / "transfers.sqlite"
"""Below data_dir."""
DAY_S: Final = 86_400.0
MOST_KNOWN: Final = 50_000
"""Kept transfers whose keys are in memory; the rest is forgotten when its time is over."""
_BETWEEN_PURGES_S: Final = 3_600.0
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS mt2_transfers (
        message TEXT NOT NULL, positions TEXT NOT NULL, peer TEXT NOT NULL, made_with TEXT NOT NULL,
        envelope {octets} NOT NULL, headers {octets} NOT NULL, headers_type TEXT NOT NULL,
        in_order TEXT NOT NULL, until DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (message, positions, peer, made_with))""",
    "CREATE INDEX IF NOT EXISTS mt2_transfers_by_end ON mt2_transfers (until)",
)
_FORGET: Final = "DELETE FROM mt2_transfers WHERE message = ? AND positions = ? AND peer = ?"
_KEEP: Final = "INSERT INTO mt2_transfers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_FIND: Final = (
    "SELECT envelope, headers, headers_type, in_order FROM mt2_transfers"
    " WHERE message = ? AND positions = ? AND peer = ? AND made_with = ?"
)


@dataclass(frozen=True, slots=True)
class Written:
    """The octets of a transfer but its body's."""

    envelope: bytes
    headers: bytes
    headers_type: str
    positions: tuple[int, ...]
    """As in `OutgoingObjects`."""

    @property
    def size(self) -> int:
        """Octets."""
        return len(self.envelope) + len(self.headers)


@dataclass(frozen=True, slots=True)
class TransferKey:
    """Which part of which message goes to whom."""

    message: MessageId
    positions: tuple[int, ...]
    """Ascending."""
    peer: str

    @property
    def values(self) -> tuple[Value, ...]:
        """As the table has it."""
        return self.message, json.dumps(self.positions), self.peer


class KeptTransfers(Protocol):
    """What remembers them."""

    async def keep(self, key: TransferKey, made_with: str, written: Written) -> Written:
        """Write it down, unless one is kept that was made with the same certificates: then that one.

        Raises StoreUnavailable.
        """
        ...

    def forget(self, key: TransferKey) -> None:
        """It will not be sent again."""
        ...


class TransferStore:
    """The table of one server or cluster. Belongs to one thread."""

    def __init__(self, database: Database) -> None:
        """Make what is missing. Raises StoreUnavailable."""
        self._database = database
        self._purged_at = 0.0
        with database.transaction():
            make_missing(database, _TABLES)

    def close(self) -> None:
        """Give the database up."""
        self._database.close()

    def change(
        self, new: Sequence[_New], answered: Sequence[TransferKey], now: float, until: float
    ) -> list[Written]:
        """In one transaction: forget, keep; what is kept now of each of the new ones. Raises
        StoreUnavailable."""
        with self._database.transaction():
            for key in answered:
                self._database.execute(_FORGET, key.values)
            if now >= self._purged_at + _BETWEEN_PURGES_S:
                self._database.execute("DELETE FROM mt2_transfers WHERE until < ?", (now,))
                self._purged_at = now
            return [self._kept(one, until) for one in new]

    def _kept(self, one: _New, until: float) -> Written:
        written, which = one.written, (*one.key.values, one.made_with)
        order = json.dumps(written.positions)
        octets = (written.envelope, written.headers, written.headers_type)
        self._database.execute(_KEEP, (*which, *octets, order, until))
        [row] = self._database.execute(_FIND, which)
        envelope, headers, kind, positions = row
        if not isinstance(envelope, bytes) or not isinstance(headers, bytes):
            raise StoreUnavailable("the table of transfers has columns of other types")
        return Written(envelope, headers, str(kind), tuple(json.loads(str(positions))))


@dataclass(frozen=True, slots=True)
class _New:
    key: TransferKey
    made_with: str
    written: Written
    future: asyncio.Future[Written]


class KeptTransfersOnDisk:
    """The table from an event loop: implements :class:`KeptTransfers`. Lives as long as the server."""

    def __init__(
        self, opener: Callable[[], TransferStore], clock: Callable[[], float], max_age: float
    ) -> None:
        """`max_age`: seconds for which a message is tried at most."""
        self._thread = SerialThread(opener, "mt2 transfers")
        self._clock = clock
        self._max_age = max_age
        self._new: list[_New] = []
        self._answered: list[TransferKey] = []
        self._there: dict[TransferKey, None] = {}
        """Those in the table that this process has kept, oldest first."""
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, key: TransferKey, made_with: str, written: Written) -> Written:
        """See `KeptTransfers`."""
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._new.append(_New(key, made_with, written, future))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        return await future

    def forget(self, key: TransferKey) -> None:
        """See `KeptTransfers`. Nobody waits for it: what is kept too long does no harm."""
        if key in self._there:
            del self._there[key]
            self._answered.append(key)

    async def _write(self) -> None:
        try:
            while self._new:
                await self._write_these()
        finally:
            self._writing = None

    async def _write_these(self) -> None:
        new, answered = self._new, self._answered
        self._new, self._answered = [], []
        now = self._clock()
        until = now + self._max_age + DAY_S
        try:
            kept = await self._thread.call(lambda store: store.change(new, answered, now, until))
        except Exception as error:  # whatever it is, somebody waits for each
            for one in new:
                if not one.future.done():
                    one.future.set_exception(error)
            return
        self._there.update(dict.fromkeys(one.key for one in new))
        while len(self._there) > MOST_KNOWN:
            del self._there[next(iter(self._there))]
        for one, found in zip(new, kept, strict=True):
            if not one.future.done():
                one.future.set_result(found)

    def close(self) -> None:
        """Wait for what is being done, and give the database up."""
        self._thread.close()


def open_transfer_store(config: Config, data_dir: Path) -> TransferStore:
    """The table that the settings mean. Raises StoreUnavailable."""
    return open_store(TransferStore, config, data_dir, FILE)
