"""Concurrency and rate of destinations over all nodes: slots on loan, shared out by the nodes themselves.

What a destination was promised (so many deliveries at once, so many a second) holds over all nodes together.
Asking the database before every delivery would cost more than the delivery; so each node borrows slots of a
lane for `LOAN_SECONDS`, uses them without asking anybody, and reports and asks for all its lanes at once, in
one small transaction every second or less often. A node that dies pays nothing back: its loans run out.

Who gets how much is decided by whoever asks, under a lock on the lane's row: `fair_share` gives each node
that wants slots an equal part, and what one does not want to the others; where there are fewer slots than
nodes, they go round. Nobody takes what another still holds: the sum of what is held never exceeds the limit
while all nodes see the database. A node that is cut off from it finishes what it has begun and starts nothing
more when its loans have run out. A rate is divided by the number of nodes that want the lane.

All times are the database's, except that a borrower counts a loan from before it asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from outrider.delivery.background import ended
from outrider.spool.interface import SpoolError
from outrider.spool.postgresql.database import Database
from outrider.spool.postgresql.exchange import Connection

LOAN_SECONDS = 15.0
RENEW_SECONDS = 4.0
"""How often loans that suffice are renewed."""
CONTENDED_SECONDS = 1.0
"""How often lanes are shared out anew of which somebody wants more than there is."""
TURN_SECONDS = 5
"""How long a node keeps a slot that others wait for and that cannot be divided."""
FORGET_SECONDS = 5.0
"""How long the slots of a lane are kept that this node does not use."""
SOON_SECONDS = 0.02
"""Until the answer to what was asked just now is likely to be there."""
GATHER_SECONDS = 0.005
"""What is asked for in this time is asked for together."""
RETRY_SECONDS = 1.0
LARGEST_REQUEST = 1000
"""Lanes in one transaction."""
FIRST_REQUEST = 5
"""Slots asked for at first: as many as a lane's window begins with."""

_LOCK = """
INSERT INTO outrider.lanes AS l (lane) SELECT * FROM unnest(%b::bytea[])
ON CONFLICT (lane) DO UPDATE SET used_at = now()
"""
_HELD = """
SELECT lane, node, held, wanted, floor(extract(epoch FROM now()) / %s)::bigint FROM outrider.lane_slots
WHERE lane = ANY(%b::bytea[]) AND until > now()
"""
_REPORT = """
INSERT INTO outrider.lane_slots AS s
SELECT v.lane, %s, v.held, v.wanted, clock_timestamp() + make_interval(secs => %s)
FROM unnest(%b::bytea[], %b::integer[], %b::integer[]) AS v(lane, held, wanted)
ON CONFLICT (lane, node) DO UPDATE
  SET held = excluded.held, wanted = excluded.wanted, until = excluded.until
"""
_RETURN = "DELETE FROM outrider.lane_slots WHERE node = %s AND lane = ANY(%b::bytea[])"
_RETURN_ALL = "DELETE FROM outrider.lane_slots WHERE node = %s"
_TIDY = """
WITH old AS (
  DELETE FROM outrider.lane_slots WHERE until < now() - interval '1 hour')
DELETE FROM outrider.lanes WHERE used_at < now() - interval '1 day'
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one node has and wants of a lane."""

    held: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Loan:
    """What this node may use of a lane."""

    slots: int
    claimants: int
    """Nodes that use the lane, this one included."""
    enough: bool
    """Whether all got what they wanted."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What this node reports of a lane, and wants."""

    used: int
    wanted: int
    limit: int


@dataclass(slots=True)
class _Lane:
    """One lane as this node knows it."""

    limit: int = 1
    used: int = 0
    peak: int = 0
    """Most used at once since the last report."""
    slots: int = 0
    valid_until: float = float("-inf")
    claimants: int = 1
    has_more: bool = True
    """At the last report, everybody got what was wanted."""
    is_short: bool = True
    """A start was refused since the last report."""
    ask_at: float = float("-inf")
    used_at: float = 0.0


class SlotSharing:
    """See the module. Implements `delivery.sharing.LaneSharing`."""

    def __init__(
        self,
        database: Database,
        node: str,
        *,
        processes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`node` names this process among all; `processes` is how many of them this machine runs."""
        self.processes = processes
        self._database = database
        self._node = node
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Forget what a predecessor of this name had borrowed, and begin. Raises SpoolError."""
        await self._database.note(self._return_all)
        self._task = asyncio.create_task(self._run(), name="outrider-spool-sharing")

    async def stop(self) -> None:
        """Give everything back; what cannot be given back runs out."""
        task, self._task = self._task, None
        if task is not None:
            await ended([task])
            with contextlib.suppress(SpoolError):
                await self._database.note(self._return_all)

    async def _return_all(self, connection: Connection) -> None:
        await connection.execute(_RETURN_ALL, (self._node,))

    # --- for the lanes ----------------------------------------------------------------------------------

    def take(self, lane: str, running: int, limit: int, now: float) -> float | None:
        """See `LaneSharing.take`."""
        del running  # of the limit, only what was taken here counts
        moment = self._clock()
        known = self._lanes.get(lane)
        if known is None:
            known = self._lanes[lane] = _Lane()
        known.limit, known.used_at = limit, moment
        if known.used < min(known.slots, limit) and moment < known.valid_until:
            known.used += 1
            known.peak = max(known.peak, known.used)
            return None
        if not known.is_short:
            known.is_short = True
            may_grow = known.has_more and known.slots < limit
            # Of what others want too nothing more is to be had before it is shared out again.
            shared_again_at = known.valid_until - LOAN_SECONDS + CONTENDED_SECONDS
            known.ask_at = moment if may_grow else max(moment, shared_again_at)
        if known.ask_at <= moment:
            self._wake.set()
        return now + max(SOON_SECONDS, known.ask_at - moment + SOON_SECONDS)

    def give_back(self, lane: str, now: float) -> None:
        """See `LaneSharing.give_back`."""
        del now  # loans are counted by a clock that nobody sets
        known = self._lanes.get(lane)
        if known is not None:
            known.used = max(0, known.used - 1)
            known.used_at = self._clock()

    def rate(self, lane: str, rate: float) -> float:
        """See `LaneSharing.rate`."""
        known = self._lanes.get(lane)
        return rate / known.claimants if known is not None else rate

    # --- borrowing --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            lanes = self._due(self._clock())
            if lanes:
                try:
                    await self._borrow(lanes)
                except SpoolError:
                    # The spool tells of a database that is away; until it is back, loans run out.
                    await asyncio.sleep(RETRY_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_at() - self._clock()):
                    await self._wake.wait()
            await asyncio.sleep(GATHER_SECONDS)

    def _next_at(self) -> float:
        return min((lane.ask_at for lane in self._lanes.values()), default=self._clock() + RENEW_SECONDS)

    def _due(self, now: float) -> list[str]:
        return sorted(name for name, lane in self._lanes.items() if lane.ask_at <= now)[:LARGEST_REQUEST]

    async def _borrow(self, names: Sequence[str]) -> None:
        asked_at = self._clock()
        asks: dict[str, Ask] = {}
        returned: list[str] = []
        for name in names:
            lane = self._lanes[name]
            if not lane.used and not lane.is_short and asked_at - lane.used_at > FORGET_SECONDS:
                returned.append(name)
                del self._lanes[name]
                continue
            asks[name] = Ask(lane.used, _wanted(lane), lane.limit)
            lane.is_short, lane.peak = False, lane.used
        try:
            loans = await self._database.note(
                lambda connection: share_out(connection, self._node, asks, returned)
            )
        except SpoolError:
            for name in asks:
                self._lanes[name].is_short = True
                self._lanes[name].ask_at = asked_at + RETRY_SECONDS
            raise
        for name, loan in loans.items():
            lane = self._lanes[name]
            lane.slots, lane.claimants, lane.has_more = loan.slots, loan.claimants, loan.enough
            lane.valid_until = asked_at + LOAN_SECONDS
            is_quiet = loan.enough and not lane.is_short
            lane.ask_at = asked_at + (RENEW_SECONDS if is_quiet else CONTENDED_SECONDS)


def _wanted(lane: _Lane) -> int:
    """Twice what is used as long as it is short, what was used lately when it is not."""
    wanted = max(FIRST_REQUEST, 2 * lane.peak) if lane.is_short else lane.peak
    return min(wanted, lane.limit)


def fair_share(limit: int, wanted: Mapping[str, int], turn: int) -> dict[str, int]:
    """Divide `limit` slots among nodes by what each wants: equally, and what one leaves goes to the others.

    What cannot be divided goes first to the node whose `turn` it is; the turn goes round.
    """
    order = sorted(wanted)
    shares = dict.fromkeys(order, 0)
    if order:
        first = turn % len(order)
        order = order[first:] + order[:first]
    left = limit
    while order and left > 0:
        each = max(1, left // len(order))
        for node in order:
            more = min(each, wanted[node] - shares[node], left)
            shares[node] += more
            left -= more
        order = [node for node in order if shares[node] < wanted[node]]
    return shares


def loan_of(limit: int, claims: Mapping[str, Claim], node: str, turn: int) -> Loan:
    """What `node` may use now: its fair share, as far as the others do not hold it still."""
    wanted = {name: claim.wanted for name, claim in claims.items()}
    share = fair_share(limit, wanted, turn)[node]
    held_elsewhere = sum(claim.held for name, claim in claims.items() if name != node)
    claimants = sum(1 for claim in claims.values() if claim.wanted > 0)
    slots = max(0, min(share, limit - held_elsewhere))
    return Loan(slots, max(1, claimants), sum(wanted.values()) <= limit)


async def share_out(
    connection: Connection, node: str, asks: Mapping[str, Ask], returned: Sequence[str]
) -> dict[str, Loan]:
    """Report and ask for lanes, in a transaction that somebody else commits. Raises psycopg.Error."""
    names = [name.encode() for name in sorted(asks)]  # in one order, so that two nodes cannot wait in a ring
    async with connection.pipeline():
        await connection.execute(_LOCK, (names,))
        cursor = await connection.execute(_HELD, (TURN_SECONDS, names))
    claims: dict[str, dict[str, Claim]] = {name: {} for name in asks}
    turn = 0
    for lane, other, held, wanted, turn_now in await cursor.fetchall():
        claims[bytes(lane).decode()][other] = Claim(held, wanted)
        turn = turn_now
    loans: dict[str, Loan] = {}
    rows: list[tuple[bytes, int, int]] = []
    for name, ask in asks.items():
        claims[name][node] = Claim(ask.used, ask.wanted)
        loan = loans[name] = loan_of(ask.limit, claims[name], node, turn)
        rows.append((name.encode(), max(loan.slots, ask.used), ask.wanted))
    async with connection.pipeline():
        if rows:
            lanes, held_now, wanted_now = (list(column) for column in zip(*rows, strict=True))
            await connection.execute(_REPORT, (node, LOAN_SECONDS, lanes, held_now, wanted_now))
        if returned:
            await connection.execute(_RETURN, (node, [name.encode() for name in returned]))
    return loans


async def tidy(connection: Connection) -> None:
    """Forget lanes that nobody has used for long."""
    await connection.execute(_TIDY)
