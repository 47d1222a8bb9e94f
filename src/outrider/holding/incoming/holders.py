"""Which connecting addresses have authenticated as holders: AMDP-7's rule of one envelope at a time.

Whoever has not passed the call-back yet has one envelope under way and no more; when that one has passed, the
rest may come. Goes by the connecting address (IPv6: the /64), so that a forger stands in nobody's way but his
own. The same table counts envelopes by the minute, where the published policy says how many (AMDP-16).

The table is shared by all workers and nodes. What each remembers of it lets the envelopes of a holder that
has passed go by without a look at it; what another worker has found out since is heeded after `LOOK_S`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from outrider.config.schema import Config
from outrider.tables.database import Database, open_store
from outrider.tables.serial_thread import SerialThread

IPAddress = IPv4Address | IPv6Address

FILE = Path("amdp") / "holders.sqlite"
"""Below data_dir."""
PASSED_FOR_S = 86_400.0
"""How long an address that has passed is believed to; each further envelope that passes begins it anew."""
RENEW_S = 3600.0
"""A pass that is younger is not written down again."""
WAITING_FOR_S = 3600.0
"""How long an envelope whose holder does not answer keeps others of the same address out."""
REPEATS = 3
"""How often the one that others wait for may come again."""
LOOK_S = 30.0
"""How long a worker goes by what it remembers."""
MOST_REMEMBERED = 100_000
KEPT_S = 2 * PASSED_FOR_S
"""Rows that nobody has touched for so long are removed."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS amdp_holders (
        holder TEXT PRIMARY KEY, waits_for TEXT NOT NULL, waits_until DOUBLE PRECISION NOT NULL,
        repeats BIGINT NOT NULL, passed_until DOUBLE PRECISION NOT NULL, minute BIGINT NOT NULL,
        count BIGINT NOT NULL, touched_at DOUBLE PRECISION NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS amdp_holders_by_time ON amdp_holders (touched_at)",
)


class Admission(Enum):
    """What becomes of an envelope that is otherwise in order."""

    TAKEN = "taken"
    ANOTHER_WAITS = "another waits"
    """One of the same address has not been through its call-back."""
    TOO_FAST = "too fast"
    """More than MSG-PER-MIN; the next minute is another."""


def holder_key(address: IPAddress | None) -> str:
    """What the rule goes by: the address, or the /64 it is in; "" for a unix socket."""
    if address is None:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


@dataclass(frozen=True, slots=True)
class _Row:
    """What the table has of one holder."""

    waits_for: str
    waits_until: float
    repeats: int
    passed_until: float
    minute: int
    count: int


class HolderStore:
    """The table. Belongs to one thread; every method is one transaction and may be repeated."""

    def __init__(self, database: Database) -> None:
        """Make what is missing. Raises StoreUnavailable."""
        self._database = database
        with database.transaction():
            for statement in (*database.alone, *_TABLES):
                database.execute(statement)

    def close(self) -> None:
        """Give the database up."""
        self._database.close()

    def admit(self, holder: str, envelope: str, now: float, per_minute: int) -> Admission:
        """Whether an envelope may be stored; if so it is counted and, unless its holder has passed, the one
        that others wait for. That one may come again, `REPEATS` times: a crash may have kept it from being
        stored, or its holder from hearing that it was."""
        minute = int(now // 60)
        with self._database.transaction():
            row = self._row(holder, now)
            waits, repeats = row.passed_until <= now, 0
            if waits and row.waits_until > now and row.waits_for:
                repeats = row.repeats + 1
                if row.waits_for != envelope or repeats > REPEATS:
                    return Admission.ANOTHER_WAITS
            count = row.count if row.minute == minute else 0
            if per_minute and count >= per_minute:
                return Admission.TOO_FAST
            until = 0.0 if not waits else row.waits_until if repeats else now + WAITING_FOR_S
            self._database.execute(
                "UPDATE amdp_holders SET waits_for = ?, waits_until = ?, repeats = ?, minute = ?, count = ?,"
                " touched_at = ? WHERE holder = ?",
                (envelope if waits else "", until, repeats, minute, count + 1, now, holder),
            )
        return Admission.TAKEN

    def _row(self, holder: str, now: float) -> _Row:
        self._database.execute(
            "INSERT INTO amdp_holders VALUES (?, '', 0, 0, 0, 0, 0, ?) ON CONFLICT DO NOTHING", (holder, now)
        )
        # Written to, so that where transactions run side by side this one is alone with the row.
        self._database.execute("UPDATE amdp_holders SET touched_at = ? WHERE holder = ?", (now, holder))
        rows = self._database.execute(
            "SELECT waits_for, waits_until, repeats, passed_until, minute, count FROM amdp_holders"
            " WHERE holder = ?",
            (holder,),
        )
        waits_for, *numbers = rows[0]
        waits_until, repeats, passed_until, minute, count = (float(number or 0) for number in numbers)
        return _Row(str(waits_for), waits_until, int(repeats), passed_until, int(minute), int(count))

    def settle(self, holder: str, passed_until: float, now: float) -> None:
        """A call-back has come to an end: passed until then, or not at all (0). Nothing waits any more."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO amdp_holders VALUES (?, '', 0, 0, ?, 0, 0, ?) ON CONFLICT (holder) DO UPDATE SET"
                " waits_for = '', waits_until = 0, passed_until = excluded.passed_until,"
                " touched_at = excluded.touched_at",
                (holder, passed_until, now),
            )
            self._database.execute("DELETE FROM amdp_holders WHERE touched_at < ?", (now - KEPT_S,))

    def withdraw(self, holder: str, envelope: str) -> None:
        """The envelope was not stored after all."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE amdp_holders SET waits_for = '', waits_until = 0 WHERE holder = ? AND waits_for = ?",
                (holder, envelope),
            )

    def passed_until(self, holder: str) -> float:
        """Until when the holder counts as authenticated; 0 for never."""
        rows = self._database.execute("SELECT passed_until FROM amdp_holders WHERE holder = ?", (holder,))
        return float(rows[0][0] or 0) if rows else 0.0


HolderThread = SerialThread[HolderStore]


def open_holders(config: Config, data_dir: Path) -> HolderStore:
    """The table of this server or cluster. Raises StoreUnavailable."""
    return open_store(HolderStore, config, data_dir, FILE)


@dataclass(frozen=True, slots=True)
class _Known:
    passed_until: float
    looked_at: float


class Holders:
    """The table from an event loop, with what this worker remembers of it.

    Reception asks `admit`; who makes call-backs says `passed` or `failed` when one has come to its end, with
    the address that the envelope came from (the stored fact `client.address`).
    """

    def __init__(self, thread: HolderThread, clock: Callable[[], float]) -> None:
        self._thread = thread
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def has_passed(self, address: IPAddress | None) -> bool:
        """Whether this worker knows so without a look: asked of every envelope."""
        known = self._known.get(holder_key(address))
        now = self._clock()
        return known is not None and now < known.passed_until and now - known.looked_at < LOOK_S

    async def admit(self, address: IPAddress | None, envelope: str, per_minute: int = 0) -> Admission:
        """Whether this envelope (a key of it) from this address may be stored now. `per_minute`:
        MSG-PER-MIN, 0 for none. Raises StoreUnavailable."""
        if not per_minute and self.has_passed(address):
            return Admission.TAKEN
        key, now = holder_key(address), self._clock()

        def work(store: HolderStore) -> tuple[Admission, float]:
            admission = store.admit(key, envelope, now, per_minute)
            return admission, store.passed_until(key)

        admission, passed_until = await self._thread.call(work)
        self._remember(key, passed_until, now)
        return admission

    async def passed(self, address: IPAddress | None) -> None:
        """An envelope of this address has been through its call-back. Raises StoreUnavailable."""
        key, now = holder_key(address), self._clock()
        known = self._known.get(key)
        if known is not None and known.passed_until > now + PASSED_FOR_S - RENEW_S:
            return
        await self._settle(key, now + PASSED_FOR_S, now)

    async def failed(self, address: IPAddress | None) -> None:
        """An envelope of this address was dropped: the next is the only one again. Raises
        StoreUnavailable."""
        await self._settle(holder_key(address), 0.0, self._clock())

    async def withdraw(self, address: IPAddress | None, envelope: str) -> None:
        """An envelope that was admitted could not be stored. Raises StoreUnavailable."""
        if not self.has_passed(address):
            key = holder_key(address)
            await self._thread.call(lambda store: store.withdraw(key, envelope))

    async def _settle(self, key: str, passed_until: float, now: float) -> None:
        self._known.pop(key, None)
        await self._thread.call(lambda store: store.settle(key, passed_until, now))
        self._remember(key, passed_until, now)

    def _remember(self, key: str, passed_until: float, now: float) -> None:
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = _Known(passed_until, now)

    def close(self) -> None:
        """Wait for what is being done, and give the table up."""
        self._thread.close()
